//! Events, in the order of their changes.

use std::time::Duration;

use super::{
    clock,
    columns::{Columns, integer},
    commit::write_one,
    error::{Failure, fault},
    session::{Record, Session, Text, query},
};
use crate::{
    model::{EventRow, EventType},
    store::{EventPlace, Position, Sealed, StoreError},
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
const BOUNDS: Text = Text {
    sqlite: "SELECT f.position, f.number, sequence.until FROM events_forgotten f, sequence",
    postgres: "SELECT f.position, f.number, pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS until \
        FROM events_forgotten f",
};
const OLD: &str = "SELECT position, number FROM events WHERE kept_at <= $1 ORDER BY position DESC, number DESC LIMIT 1";
const FORGET: &str = "DELETE FROM events WHERE kept_at <= $1 AND NOT EXISTS (SELECT 1 FROM deliveries \
    WHERE deliveries.position = events.position AND deliveries.number = events.number)";
const FORGOTTEN: &str = "UPDATE events_forgotten SET position = $1, number = $2 WHERE (position, number) < ($1, $2)";
const LETTERS: &str = "DELETE FROM deliveries WHERE next_at IS NULL AND EXISTS (SELECT 1 FROM events \
    WHERE events.position = deliveries.position AND events.number = deliveries.number AND events.kept_at <= $1)";

/// What must be answered from an index.
#[cfg(test)]
pub(super) const STATEMENTS: [&str; 1] = [AFTER.sqlite];

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
        .bind(row.key.as_ref().map_or("", |key| key.as_str()))
        .bind(row.version.map(|version| version.bytes().to_vec()))
        .bind(row.principal.as_str())
        .bind(row.due.map(|due| due.0))
        .bind(row.detail.as_str());
    write_one(session, query).await
}

pub(super) async fn after(
    session: &mut Session,
    after: EventPlace,
    limit: u32,
) -> Result<Vec<(EventPlace, Sealed<EventRow>)>, StoreError> {
    let query = query(AFTER)
        .bind(integer(after.position.0, TABLE, "position")?)
        .bind(i64::from(after.number))
        .bind(i64::from(limit));
    let rows = query.fetch_all(session).await.map_err(fault)?;
    rows.iter().map(|row| Ok((place(&Columns::of(TABLE, row))?, decode(row)?))).collect()
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

/// Forgets old events and dead letters; says how many letters.
pub(super) async fn forget(session: &mut Session, events: Duration, letters: Duration) -> Result<u64, Failure> {
    let now = clock::now(session).await?;
    let before = |age: Duration| now.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
    let gone = query(LETTERS).bind(before(letters)).execute(session).await?;
    let Some(last) = query(OLD).bind(before(events)).fetch_optional(session).await? else { return Ok(gone) };
    let last = place(&Columns::of(TABLE, &last))?;
    query(FORGET).bind(before(events)).execute(session).await?;
    let query = query(FORGOTTEN).bind(integer(last.position.0, TABLE, "position")?).bind(i64::from(last.number));
    query.execute(session).await?;
    Ok(gone)
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
        key: if columns.text("key")?.is_empty() { None } else { Some(columns.parsed("key")?) },
        version: columns.optional_version("version")?,
        principal: columns.text("principal")?.to_owned(),
        due: columns.optional_time("due_at")?,
        detail: columns.text("detail")?.to_owned(),
    })
}
