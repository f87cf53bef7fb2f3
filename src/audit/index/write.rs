//! Writing what a pass has gathered: one transaction. A statement writes many rows, for each costs the driver a walk
//! between two threads.

use std::{collections::HashMap, sync::Arc};

use sqlx::{Connection as _, QueryBuilder, Row as _, Sqlite, SqliteConnection, SqlitePool};

use super::{
    IndexError, RECORDS,
    pass::{Pass, Term, TermKind},
    uses::Tally,
};
use crate::audit::{Outcome, tlog::Hash};

/// So many rows a statement writes. Those of a full one are prepared once and kept.
const ROWS: usize = 400;

/// The texts of ids that are remembered take about so many bytes at most.
const REMEMBERED_BYTES_MAX: usize = 16 << 20;

/// Where a count ends: so that sums of many do not leave 64 bits.
const COUNT_MAX: i64 = 1 << 40;

/// The ids of terms that were written lately.
#[derive(Debug, Default)]
pub(super) struct TermIds {
    ids: [HashMap<Arc<str>, i64>; TermKind::COUNT],
    bytes: usize,
}

impl TermIds {
    fn get(&self, term: &Term) -> Option<i64> {
        self.ids[term.kind as usize].get(&term.text).copied()
    }

    fn put(&mut self, term: &Term, id: i64) {
        if self.ids[term.kind as usize].insert(Arc::clone(&term.text), id).is_none() {
            self.bytes += term.text.len() + 64;
        }
    }

    /// Forgets all when there are too many: a pass asks again for those that it needs.
    fn tidy(&mut self) {
        if self.bytes > REMEMBERED_BYTES_MAX {
            *self = Self::default();
        }
    }
}

/// How an outcome is called in a record.
pub(super) const fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pending => "pending",
        Outcome::Done => "done",
        Outcome::Refused => "refused",
        Outcome::Failed => "failed",
    }
}

/// The number of an outcome in the file; in the order of the type.
pub(super) const fn outcome_rank(outcome: Outcome) -> i64 {
    match outcome {
        Outcome::Pending => 0,
        Outcome::Done => 1,
        Outcome::Refused => 2,
        Outcome::Failed => 3,
    }
}

/// The outcome of that number.
pub(super) const fn ranked_outcome(rank: i64) -> Option<Outcome> {
    match rank {
        0 => Some(Outcome::Pending),
        1 => Some(Outcome::Done),
        2 => Some(Outcome::Refused),
        3 => Some(Outcome::Failed),
        _ => None,
    }
}

/// Numbers in the file are signed; none of ours comes near the end.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Writes a pass, whose last bundle has that root in the tree. Returns how many records are indexed now.
pub(super) async fn write(writer: &SqlitePool, ids: &mut TermIds, pass: &Pass, tile: &Hash) -> Result<u64, IndexError> {
    ids.tidy();
    let mut connection = writer.acquire().await?;
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let slots = terms(&mut transaction, ids, &pass.terms).await?;
    postings(&mut transaction, pass, &slots).await?;
    uses(&mut transaction, pass, &slots).await?;
    times(&mut transaction, pass).await?;
    let indexed = pass.bundles.end * RECORDS;
    let meta = sqlx::query("UPDATE meta SET indexed = ?1, tile = ?2").bind(signed(indexed)).bind(tile.to_vec());
    meta.execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(indexed)
}

/// The id of each term of the pass, by its slot.
async fn terms(connection: &mut SqliteConnection, ids: &mut TermIds, terms: &[Term]) -> Result<Vec<i64>, IndexError> {
    let new: Vec<&Term> = terms.iter().filter(|term| ids.get(term).is_none()).collect();
    for some in new.chunks(ROWS) {
        let mut insert = QueryBuilder::<Sqlite>::new("INSERT INTO terms (kind, text) ");
        insert.push_values(some, |mut row, term| {
            row.push_bind(term.kind as i64).push_bind(term.text.to_string());
        });
        insert.push(" ON CONFLICT DO NOTHING");
        insert.build().persistent(some.len() == ROWS).execute(&mut *connection).await?;
        let mut select = QueryBuilder::<Sqlite>::new("WITH wanted (place, kind, text) AS (");
        select.push_values(some.iter().enumerate(), |mut row, (place, term)| {
            row.push_bind(signed(place as u64)).push_bind(term.kind as i64).push_bind(term.text.to_string());
        });
        select.push(") SELECT place, terms.id FROM wanted JOIN terms USING (kind, text)");
        for row in select.build().persistent(some.len() == ROWS).fetch_all(&mut *connection).await? {
            let (place, id): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
            let term = usize::try_from(place).ok().and_then(|place| some.get(place)).ok_or(IndexError::Unfit)?;
            ids.put(term, id);
        }
    }
    terms.iter().map(|term| ids.get(term).ok_or(IndexError::Unfit)).collect()
}

async fn postings(connection: &mut SqliteConnection, pass: &Pass, ids: &[i64]) -> Result<(), IndexError> {
    let first = signed(pass.bundles.start);
    let posted = pass.terms.iter().zip(ids).filter(|(term, _)| !term.offsets.is_empty());
    let mut rows: Vec<(i64, &Term)> = posted.map(|(term, id)| (*id, term)).collect();
    rows.sort_unstable_by_key(|(id, _)| *id);
    for some in rows.chunks(ROWS) {
        let mut insert = QueryBuilder::<Sqlite>::new("INSERT INTO postings (term, first, offsets) ");
        insert.push_values(some, |mut row, (id, term)| {
            let offsets: Vec<u8> = term.offsets.iter().flat_map(|offset| offset.to_be_bytes()).collect();
            row.push_bind(*id).push_bind(first).push_bind(offsets);
        });
        insert.build().persistent(some.len() == ROWS).execute(&mut *connection).await?;
    }
    Ok(())
}

async fn uses(connection: &mut SqliteConnection, pass: &Pass, ids: &[i64]) -> Result<(), IndexError> {
    let by_id = pass
        .uses
        .iter()
        .map(|(key, tally)| ([ids[key.object], key.day, ids[key.principal], ids[key.operation], key.outcome], tally));
    let mut rows: Vec<([i64; 5], &Tally)> = by_id.collect();
    rows.sort_unstable_by_key(|(key, _)| *key);
    for some in rows.chunks(ROWS) {
        let mut upsert = QueryBuilder::<Sqlite>::new(
            "INSERT INTO uses (object, day, principal, operation, outcome, count, first_index, last_index, \
             first_time, last_time) ",
        );
        upsert.push_values(some, |mut row, (key, tally)| {
            for part in key {
                row.push_bind(*part);
            }
            row.push_bind(signed(tally.count).min(COUNT_MAX))
                .push_bind(signed(tally.first_index))
                .push_bind(signed(tally.last_index))
                .push_bind(tally.first_time)
                .push_bind(tally.last_time);
        });
        upsert.push(format_args!(
            " ON CONFLICT DO UPDATE SET count = MIN(count + excluded.count, {COUNT_MAX}), \
             last_index = excluded.last_index, first_time = MIN(first_time, excluded.first_time), \
             last_time = MAX(last_time, excluded.last_time)"
        ));
        upsert.build().persistent(some.len() == ROWS).execute(&mut *connection).await?;
    }
    Ok(())
}

async fn times(connection: &mut SqliteConnection, pass: &Pass) -> Result<(), IndexError> {
    let bytes: Vec<u8> =
        pass.times.iter().flat_map(|(min, max)| [min.to_be_bytes(), max.to_be_bytes()].concat()).collect();
    let min = pass.times.iter().map(|(min, _)| *min).min().unwrap_or(i64::MAX);
    let max = pass.times.iter().map(|(_, max)| *max).max().unwrap_or(i64::MIN);
    let insert = "INSERT INTO times (first, time_min, time_max, times) VALUES (?1, ?2, ?3, ?4)";
    let insert = sqlx::query(insert).bind(signed(pass.bundles.start)).bind(min).bind(max).bind(bytes);
    insert.execute(connection).await?;
    Ok(())
}
