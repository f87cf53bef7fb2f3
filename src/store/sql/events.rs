//! Events, in the order of their changes.

use std::time::Duration;

use strongroom_hsm::Seal;

use super::{
    clock,
    columns::{Columns, integer},
    commit::write_one,
    error::{Failure, fault},
    session::{Record, Session, Text, query},
};
use crate::{
    model::{EventRow, EventType},
    store::{EventPlace, Forgotten, Position, Sealed, StoreError},
};

const TABLE: &str = "events";
const INSERT: &str = "INSERT INTO events (position, number, id, revision, seal, kept_at, type, happened_at, vault, key, \
    version, principal, due_at, detail) VALUES ($1, $2, $3, 1, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
// What is before the oldest transaction that is under way has ended: see `clock`.
const AFTER: Text = Text {
    sqlite: "SELECT * FROM events WHERE (position, number) > ($1, $2) ORDER BY position, number LIMIT $3",
    postgres: "SELECT * FROM events WHERE (position, number) > ($1, $2) \
        AND position < pg_snapshot_xmin(pg_current_snapshot())::text::bigint ORDER BY position, number LIMIT $3",
};
const SEAL: &str = "UPDATE events SET seal = $4 WHERE position = $1 AND number = $2 AND seal = $3";
const BOUNDS: Text = Text {
    sqlite: "SELECT f.position, f.number, sequence.until FROM events_forgotten f, sequence",
    postgres: "SELECT f.position, f.number, pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS until \
        FROM events_forgotten f",
};
const LOOKED_AT: &str = "SELECT kept_at FROM events_forgotten";
const FAR: &str = "SELECT kept_at FROM events WHERE kept_at > $1 AND kept_at <= $2 ORDER BY kept_at LIMIT 1 OFFSET $3";
// `+` keeps both databases from walking all events from the newest on until they find one that is old.
const LAST: &str = "SELECT position, number FROM events WHERE kept_at > $1 AND kept_at <= $2 \
    ORDER BY +position DESC, +number DESC LIMIT 1";
const FORGET: &str = "DELETE FROM events WHERE kept_at > $1 AND kept_at <= $2 AND NOT EXISTS (SELECT 1 FROM deliveries \
    WHERE deliveries.position = events.position AND deliveries.number = events.number)";
const LOOK: &str = "UPDATE events_forgotten SET kept_at = $1";
const FORGOTTEN: &str = "UPDATE events_forgotten SET position = $1, number = $2 WHERE (position, number) < ($1, $2)";
const LETTERS: &str = "DELETE FROM deliveries \
    WHERE (position, number) IN (SELECT position, number FROM events WHERE kept_at <= $1)";
const OF_LETTERS: &str = "DELETE FROM events WHERE kept_at <= $1";
const HELD: &str = "DELETE FROM events WHERE position = $1 AND number = $2 AND (position, number) <= \
    (SELECT f.position, f.number FROM events_forgotten f WHERE f.singleton = 1) AND NOT EXISTS (SELECT 1 FROM deliveries \
    WHERE deliveries.position = $1 AND deliveries.number = $2)";

/// What must be answered from an index.
#[cfg(test)]
pub(super) const STATEMENTS: [&str; 7] = [SEAL, AFTER.sqlite, FAR, FORGET, LETTERS, OF_LETTERS, HELD];

/// About how many events are forgotten in one transaction: those of one moment go together.
const AT_ONCE: i64 = 1_000;

/// Keeps an event; the change it tells of is of the same transaction.
pub(super) async fn insert(
    session: &mut Session,
    sealed: &Sealed<EventRow>,
    place: EventPlace,
    now: i64,
) -> Result<(), Failure> {
    let row = sealed.unchecked();
    let query = query(INSERT)
        .bind(integer(place.position.0, TABLE, "position")?)
        .bind(i64::from(place.number))
        .bind(row.id.to_vec())
        .bind(sealed.seal().to_vec())
        .bind(now)
        .bind(row.kind.name())
        .bind(row.time.0)
        .bind(row.vault.as_str())
        .bind(row.object.as_ref().map_or("", |object| object.as_str()))
        .bind(row.version.map(|version| version.bytes().to_vec()))
        .bind(row.principal.as_str())
        .bind(row.due.map(|due| due.0))
        .bind(row.detail.as_str());
    write_one(session, query).await
}

/// Gives an event another seal, if it has that one.
pub(super) async fn seal_anew(
    session: &mut Session,
    place: EventPlace,
    (old, new): (&Seal, &Seal),
) -> Result<(), Failure> {
    let query = query(SEAL)
        .bind(integer(place.position.0, TABLE, "position")?)
        .bind(i64::from(place.number))
        .bind(old.to_vec())
        .bind(new.to_vec());
    // One that was forgotten meanwhile needs no seal.
    query.execute(session).await?;
    Ok(())
}

/// Events after a place; of those that cannot be read, only where they stand.
pub(super) async fn after(
    session: &mut Session,
    after: EventPlace,
    limit: u32,
) -> Result<Vec<(EventPlace, Option<Sealed<EventRow>>)>, StoreError> {
    let query = query(AFTER)
        .bind(integer(after.position.0, TABLE, "position")?)
        .bind(i64::from(after.number))
        .bind(i64::from(limit));
    let rows = query.fetch_all(session).await.map_err(fault)?;
    let event = |row: &Record| {
        let place = place(&Columns::of(TABLE, row))?;
        Ok((place, read(place, decode(row))))
    };
    rows.iter().map(event).collect()
}

/// What was read of an event, if it could be: one that cannot, of a newer release perhaps, must not keep others from being
/// told.
pub(super) fn read<T>(place: EventPlace, event: Result<T, StoreError>) -> Option<T> {
    event
        .inspect_err(|error| tracing::warn!(%place, %error, "an event in the store cannot be read: it is passed over"))
        .ok()
}

/// Up to where events were forgotten, and up to where all there will ever be are there.
pub(super) async fn bounds(session: &mut Session) -> Result<(EventPlace, EventPlace), StoreError> {
    let row = query(BOUNDS).fetch_optional(session).await.map_err(fault)?;
    let row = row.ok_or(StoreError::Inconsistent { table: "events_forgotten", column: "position" })?;
    let columns = Columns::of(TABLE, &row);
    // Before the first of the next change, and after whatever an earlier one has.
    let last = Position(columns.number("until")?.saturating_sub(1));
    Ok((place(&columns)?, EventPlace { position: last, number: u32::MAX }))
}

/// Forgets some old events that wait for no delivery. When there are none any more, it forgets some that are older than
/// `letters`, with their deliveries: nobody takes those.
pub(super) async fn forget(session: &mut Session, events: Duration, letters: Duration) -> Result<Forgotten, Failure> {
    let now = clock::now(session).await?;
    let before = |age: Duration| now.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
    // In this order: whoever comes from before what goes with its deliveries is told so, too.
    if forget_old(session, before(events)).await? {
        return Ok(Forgotten { deliveries: 0, more: true });
    }
    let (until, more) = far(session, i64::MIN, before(letters)).await?;
    let deliveries = query(LETTERS).bind(until).execute(session).await?;
    query(OF_LETTERS).bind(until).execute(session).await?;
    Ok(Forgotten { deliveries, more })
}

/// Forgets some of what was kept by then and was not looked at before; says whether there may be more. So each event is
/// looked at once, however long a delivery holds it: it goes with that ([`forget_held`]).
async fn forget_old(session: &mut Session, old: i64) -> Result<bool, Failure> {
    let row = query(LOOKED_AT).fetch_optional(session).await?;
    let row = row.ok_or(StoreError::Inconsistent { table: "events_forgotten", column: "kept_at" })?;
    let from = Columns::of("events_forgotten", &row).time("kept_at")?.0;
    let (until, more) = far(session, from, old).await?;
    let Some(last) = query(LAST).bind(from).bind(until).fetch_optional(session).await? else { return Ok(false) };
    let last = place(&Columns::of(TABLE, &last))?;
    query(FORGET).bind(from).bind(until).execute(session).await?;
    query(LOOK).bind(until).execute(session).await?;
    let query = query(FORGOTTEN).bind(integer(last.position.0, TABLE, "position")?).bind(i64::from(last.number));
    query.execute(session).await?;
    Ok(more)
}

/// Until when those were kept that are forgotten at once, of what was kept after and until some time; and whether that may
/// not be all.
async fn far(session: &mut Session, after: i64, until: i64) -> Result<(i64, bool), Failure> {
    let row = query(FAR).bind(after).bind(until).bind(AT_ONCE - 1).fetch_optional(session).await?;
    let Some(row) = row else { return Ok((until, false)) };
    Ok((Columns::of(TABLE, &row).time("kept_at")?.0, true))
}

/// Forgets an event whose delivery was settled, if it was only kept for that. When two are settled at once it may stay until
/// letters are forgotten.
pub(super) async fn forget_held(session: &mut Session, place: EventPlace) -> Result<(), Failure> {
    let query = query(HELD).bind(integer(place.position.0, TABLE, "position")?).bind(i64::from(place.number));
    query.execute(session).await?;
    Ok(())
}

/// Where a row of an event, or of what is about one, stands.
pub(super) fn place(columns: &Columns<'_>) -> Result<EventPlace, StoreError> {
    let number = u32::try_from(columns.number("number")?).map_err(|_| columns.wrong("number"))?;
    Ok(EventPlace { position: Position(columns.number("position")?), number })
}

pub(super) fn decode(row: &Record) -> Result<Sealed<EventRow>, StoreError> {
    let columns = Columns::of(TABLE, row);
    if columns.revision()? != 1 {
        return Err(columns.wrong("revision"));
    }
    columns.sealed(EventRow {
        id: columns.array("id")?,
        kind: EventType::from_name(columns.text("type")?).ok_or_else(|| columns.wrong("type"))?,
        time: columns.time("happened_at")?,
        vault: columns.parsed("vault")?,
        object: if columns.text("key")?.is_empty() { None } else { Some(columns.parsed("key")?) },
        version: columns.optional_version("version")?,
        principal: columns.text("principal")?.to_owned(),
        due: columns.optional_time("due_at")?,
        detail: columns.text("detail")?.to_owned(),
    })
}
