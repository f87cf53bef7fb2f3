//! The steps by which heads came to be, for those who did not make them. Kept for a while.
//!
//! Not sealed: whoever follows them holds what comes out against the sealed head.
//!
//! ```text
//! steps = 01 step*
//! step  = kind | id, 16 bytes | flags | [ old: revision u64 | seal, 32 ] [ new: the same ]     numbers big-endian
//! flags = 1: there is an old | 2: there is a new | 4: the new is in use | 8: the new says what the old said
//! ```

use std::time::Duration;

use super::{
    clock,
    columns::{Columns, integer},
    commit::write_one,
    error::{Failure, fault},
    heads,
    session::{Record, Session, query},
};
use crate::{
    model::{RowId, RowKind},
    store::{HeadRow, HeadScope, Step, StoreError, Way},
};

const TABLE: &str = "steps";
const AFTER: &str = "SELECT revision, at, steps FROM steps WHERE scope = $1 AND revision > $2 ORDER BY revision";
const INSERT: &str = "INSERT INTO steps (scope, revision, at, steps) VALUES ($1, $2, $3, $4)";
const FORGET: &str = "DELETE FROM steps WHERE at <= $1";

/// What must be answered from an index.
#[cfg(test)]
pub(super) const STATEMENTS: [&str; 2] = [AFTER, FORGET];

/// Who is further behind reads the scope anew: that costs less.
const CHANGES_MAX: u64 = 1_000;

const FORM: u8 = 1;
const HAS_OLD: u8 = 1;
const HAS_NEW: u8 = 2;
const IN_USE: u8 = 4;
const RENEWS: u8 = 8;

/// Keeps the steps to a head.
pub(super) async fn insert(session: &mut Session, head: &HeadRow, steps: &[Step], now: i64) -> Result<(), Failure> {
    let bytes = encode(steps).ok_or(StoreError::Inconsistent { table: TABLE, column: "steps" })?;
    let query = query(INSERT)
        .bind(head.scope.id().to_vec())
        .bind(integer(head.revision, TABLE, "revision")?)
        .bind(now)
        .bind(bytes);
    write_one(session, query).await
}

/// The way from a revision to the newest, in a session that reads all at one moment.
pub(super) async fn way(session: &mut Session, scope: HeadScope, after: u64) -> Result<Option<Way>, StoreError> {
    let Some(head) = heads::by_scope(session, scope).await? else { return Ok(None) };
    let newest = head.unchecked().revision;
    if after > newest || newest - after > CHANGES_MAX {
        return Ok(None);
    }
    let query = query(AFTER).bind(scope.id().to_vec()).bind(integer(after, TABLE, "revision")?);
    let rows = query.fetch_all(session).await.map_err(fault)?;
    let mut changes = Vec::with_capacity(rows.len());
    let mut revision = after;
    for row in &rows {
        let (at, steps) = of_record(row)?;
        if at != revision + 1 {
            return Ok(None);
        }
        revision = at;
        changes.push(steps);
    }
    Ok((revision == newest).then_some(Way { head, changes }))
}

/// Forgets what has been kept for so long.
pub(super) async fn forget(session: &mut Session, older_than: Duration) -> Result<u64, Failure> {
    let age = i64::try_from(older_than.as_millis()).unwrap_or(i64::MAX);
    let until = clock::now(session).await?.saturating_sub(age);
    Ok(query(FORGET).bind(until).execute(session).await?)
}

fn of_record(row: &Record) -> Result<(u64, Vec<Step>), StoreError> {
    let columns = Columns::of(TABLE, row);
    columns.time("at")?;
    let steps = decode(columns.bytes("steps")?).ok_or_else(|| columns.wrong("steps"))?;
    Ok((columns.revision()?, steps))
}

/// A step from nothing to nothing, and one to nothing that is in use, are none; what renews has something before it.
fn is_sound(step: &Step) -> bool {
    let (old, new) = (step.old.is_some(), step.new.is_some());
    (new || old && !step.in_use) && (old && new || !step.renews)
}

fn encode(steps: &[Step]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(1 + steps.len() * 98);
    bytes.push(FORM);
    for step in steps {
        if !is_sound(step) {
            return None;
        }
        let flag = |is_set: bool, flag| if is_set { flag } else { 0 };
        bytes.push(step.id.kind.code());
        bytes.extend_from_slice(&step.id.id);
        let sides = flag(step.old.is_some(), HAS_OLD) | flag(step.new.is_some(), HAS_NEW);
        bytes.push(sides | flag(step.in_use, IN_USE) | flag(step.renews, RENEWS));
        for (revision, seal) in step.old.iter().chain(&step.new) {
            bytes.extend_from_slice(&revision.to_be_bytes());
            bytes.extend_from_slice(seal);
        }
    }
    Some(bytes)
}

/// Reads what [`encode`] wrote, and nothing else.
fn decode(bytes: &[u8]) -> Option<Vec<Step>> {
    let (form, mut rest) = bytes.split_first()?;
    if *form != FORM {
        return None;
    }
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let kind = RowKind::from_code(take::<1>(&mut rest)?[0])?;
        let id = take(&mut rest)?;
        let flags = take::<1>(&mut rest)?[0];
        if flags & !(HAS_OLD | HAS_NEW | IN_USE | RENEWS) != 0 {
            return None;
        }
        let mut side = |flag| -> Option<_> {
            if flags & flag == 0 {
                return Some(None);
            }
            Some(Some((u64::from_be_bytes(take(&mut rest)?), take(&mut rest)?)))
        };
        let (old, new) = (side(HAS_OLD)?, side(HAS_NEW)?);
        let (in_use, renews) = (flags & IN_USE != 0, flags & RENEWS != 0);
        let step = Step { id: RowId { kind, id }, old, new, in_use, renews };
        if !is_sound(&step) {
            return None;
        }
        steps.push(step);
    }
    Some(steps)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn side() -> impl Strategy<Value = Option<(u64, [u8; 32])>> {
        prop::option::of((any::<u64>(), any::<[u8; 32]>()))
    }

    prop_compose! {
        fn step()(
            kind in prop::sample::select(RowKind::ALL.to_vec()),
            id in any::<[u8; 16]>(),
            old in side(),
            new in side(),
            in_use in any::<bool>(),
            renews in any::<bool>(),
        ) -> Step {
            Step { id: RowId { kind, id }, old, new, in_use, renews }
        }
    }

    proptest! {
        #[test]
        fn steps_come_back(steps in prop::collection::vec(step(), 0..5)) {
            let bytes = encode(&steps);
            prop_assert_eq!(bytes.is_some(), steps.iter().all(is_sound));
            if let Some(bytes) = bytes {
                prop_assert_eq!(decode(&bytes), Some(steps));
                prop_assert_eq!(decode(&bytes[..bytes.len() - 1]), None);
            }
        }

        #[test]
        fn what_reads_is_what_would_be_written(
            steps in prop::collection::vec(step(), 0..3),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut bytes = encode(&steps).unwrap_or_else(|| vec![FORM]);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Some(read) = decode(&bytes) {
                prop_assert_eq!(encode(&read), Some(bytes));
            }
        }
    }
}
