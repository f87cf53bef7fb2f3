//! Heads, and where their newest changes stand.

use super::{
    clock::Moment,
    columns::{Columns, integer},
    commit::{exists_is_conflict, write_one},
    error::{Failure, fault},
    session::{Record, Session, Text, query},
    steps,
};
use crate::store::{HeadChange, HeadRow, HeadScope, Heard, Position, Sealed, StoreError, head::SetDigest};

const TABLE: &str = "heads";
const BY_SCOPE: &str = "SELECT scope, revision, seal, row_count, intent, digest FROM heads WHERE scope = $1";
const ALL: &str = "SELECT scope, revision, seal, row_count, intent, digest FROM heads ORDER BY scope";
const INSERT: &str = "INSERT INTO heads (scope, revision, seal, row_count, intent, digest, position) \
    VALUES ($1, $2, $3, $4, $5, $6, $7)";
const UPDATE: &str = "UPDATE heads SET revision = $2, seal = $3, row_count = $4, intent = $5, digest = $6, \
    position = $7 WHERE scope = $1 AND revision = $2 - 1";
// One statement, so that the position is of the same moment as the heads. There is a row also where no head is.
const HEARD: Text = Text {
    sqlite: "SELECT sequence.until, heads.scope, heads.revision, heads.position \
        FROM sequence LEFT JOIN heads ON heads.position >= $1",
    postgres: "SELECT sequence.until, heads.scope, heads.revision, heads.position \
        FROM (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS until) AS sequence \
        LEFT JOIN heads ON heads.position >= $1",
};

pub(super) async fn by_scope(session: &mut Session, scope: HeadScope) -> Result<Option<Sealed<HeadRow>>, StoreError> {
    let row = query(BY_SCOPE).bind(scope.id().to_vec()).fetch_optional(session).await.map_err(fault)?;
    row.as_ref().map(decode).transpose()
}

pub(super) async fn all(session: &mut Session) -> Result<Vec<Sealed<HeadRow>>, StoreError> {
    query(ALL).fetch_all(session).await.map_err(fault)?.iter().map(decode).collect()
}

/// Writes a head and the steps to it. A scope that already has its first one was written by somebody else.
pub(super) async fn write(session: &mut Session, change: &HeadChange, moment: Moment) -> Result<(), Failure> {
    put(session, &change.head, moment).await?;
    steps::insert(session, change.head.unchecked(), &change.steps, moment.now).await
}

/// Writes a head alone.
pub(super) async fn put(session: &mut Session, sealed: &Sealed<HeadRow>, moment: Moment) -> Result<(), Failure> {
    let (row, seal) = (sealed.unchecked(), sealed.seal());
    let query = session
        .put(row.revision, INSERT, UPDATE)
        .bind(row.scope.id().to_vec())
        .bind(integer(row.revision, TABLE, "revision")?)
        .bind(seal.to_vec())
        .bind(integer(row.rows, TABLE, "row_count")?)
        .bind(integer(row.intent, TABLE, "intent")?)
        .bind(row.digest.to_bytes())
        .bind(integer(moment.position.0, TABLE, "position")?);
    write_one(session, query).await.map_err(exists_is_conflict)
}

/// The heads at and after a position, and how far that is.
pub(super) async fn heard(session: &mut Session, since: Option<Position>) -> Result<Heard, StoreError> {
    let since = integer(since.unwrap_or_default().0, TABLE, "position")?;
    let rows = query(HEARD).bind(since).fetch_all(session).await.map_err(fault)?;
    let mut heard = Heard::default();
    for row in &rows {
        let columns = Columns::of(TABLE, row);
        heard.position = Position(columns.number("until")?);
        if columns.optional_bytes("scope")?.is_some() {
            columns.number("position")?;
            heard.heads.push((HeadScope::from_id(columns.array("scope")?), columns.revision()?));
        }
    }
    if rows.is_empty() {
        return Err(StoreError::Inconsistent { table: "sequence", column: "until" });
    }
    Ok(heard)
}

fn decode(row: &Record) -> Result<Sealed<HeadRow>, StoreError> {
    let columns = Columns::of(TABLE, row);
    columns.sealed(HeadRow {
        scope: HeadScope::from_id(columns.array("scope")?),
        revision: columns.revision()?,
        rows: columns.number("row_count")?,
        intent: columns.number("intent")?,
        digest: SetDigest::from_bytes(columns.bytes("digest")?).ok_or_else(|| columns.wrong("digest"))?,
    })
}
