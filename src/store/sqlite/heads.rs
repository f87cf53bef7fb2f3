//! Heads.

use sqlx::{SqliteConnection, SqliteExecutor, SqlitePool, sqlite::SqliteRow};

use super::{
    columns::{Columns, integer},
    commit::{exists_is_conflict, write_one},
    error::{Failure, fault},
};
use crate::store::{HeadRow, HeadScope, Sealed, StoreError, head::SetDigest};

const TABLE: &str = "heads";
const BY_SCOPE: &str = "SELECT * FROM heads WHERE scope = ?1";
const ALL: &str = "SELECT * FROM heads ORDER BY scope";
const INSERT: &str = "INSERT INTO heads (scope, revision, seal, row_count, intent, digest) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
const UPDATE: &str = "UPDATE heads SET revision = ?2, seal = ?3, row_count = ?4, intent = ?5, digest = ?6 \
    WHERE scope = ?1 AND revision = ?2 - 1";

pub(super) async fn by_scope(
    executor: impl SqliteExecutor<'_>,
    scope: HeadScope,
) -> Result<Option<Sealed<HeadRow>>, StoreError> {
    let row = sqlx::query(BY_SCOPE).bind(scope.id().to_vec()).fetch_optional(executor).await.map_err(fault)?;
    row.as_ref().map(decode).transpose()
}

pub(super) async fn all(pool: &SqlitePool) -> Result<Vec<Sealed<HeadRow>>, StoreError> {
    sqlx::query(ALL).fetch_all(pool).await.map_err(fault)?.iter().map(decode).collect()
}

/// Writes a head. A scope that already has its first one was written by somebody else.
pub(super) async fn write(connection: &mut SqliteConnection, sealed: &Sealed<HeadRow>) -> Result<(), Failure> {
    let row = sealed.unchecked();
    let query = sqlx::query(if row.revision == 1 { INSERT } else { UPDATE })
        .bind(row.scope.id().to_vec())
        .bind(integer(row.revision, TABLE, "revision")?)
        .bind(sealed.seal().to_vec())
        .bind(integer(row.rows, TABLE, "row_count")?)
        .bind(integer(row.intent, TABLE, "intent")?)
        .bind(row.digest.to_bytes());
    write_one(connection, query).await.map_err(exists_is_conflict)
}

fn decode(row: &SqliteRow) -> Result<Sealed<HeadRow>, StoreError> {
    let columns = Columns::of(TABLE, row);
    columns.sealed(HeadRow {
        scope: HeadScope::from_id(columns.array("scope")?),
        revision: columns.revision()?,
        rows: columns.number("row_count")?,
        intent: columns.number("intent")?,
        digest: SetDigest::from_bytes(columns.bytes("digest")?).ok_or_else(|| columns.wrong("digest"))?,
    })
}
