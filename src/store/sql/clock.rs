//! The database's clock and its count of changes.
//!
//! *Order in SQLite.* Changes are counted in the file. There is one writer at a time, so a change that counts higher
//! is committed later.
//!
//! *Order in PostgreSQL.* A change stands where its transaction's number stands. Transactions get their numbers early
//! and become visible in any order; but what is before the smallest number still open when a statement began
//! (`pg_snapshot_xmin`) has ended and is visible to that statement. So whoever has heard up to that number has missed
//! nothing before it, however long a transaction was under way. Numbers are those of the whole server: a transaction
//! that writes for long in another database of it holds positions up, and with them who waits for all to have heard.

use super::{
    columns::Columns,
    session::{Session, Text, query},
};
use crate::store::{Position, StoreError, sql::error::Failure};

const TABLE: &str = "sequence";
const NEXT: Text = Text {
    sqlite: "UPDATE sequence SET until = until + 1 \
        RETURNING until - 1 AS position, CAST(unixepoch('subsec') * 1000 AS INTEGER) AS now",
    postgres: "SELECT pg_current_xact_id()::text::bigint AS position, \
        (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now",
};
const NOW: Text = Text {
    sqlite: "SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER) AS now",
    postgres: "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now",
};

/// When and where a change is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) position: Position,
    /// Milliseconds since 1970.
    pub(super) now: i64,
}

/// That of the transaction which this session is.
pub(super) async fn next(session: &mut Session) -> Result<Moment, Failure> {
    let rows = query(NEXT).fetch_all(session).await?;
    let row = rows.first().ok_or(StoreError::Inconsistent { table: TABLE, column: "position" })?;
    let columns = Columns::of(TABLE, row);
    Ok(Moment { position: Position(columns.number("position")?), now: columns.time("now")?.0 })
}

/// Milliseconds since 1970.
pub(super) async fn now(session: &mut Session) -> Result<i64, Failure> {
    let row = query(NOW).fetch_optional(session).await?;
    let row = row.ok_or(StoreError::Inconsistent { table: TABLE, column: "now" })?;
    Ok(Columns::of(TABLE, &row).time("now")?.0)
}
