//! What is known of keys that have backups.

use super::{
    columns::{Columns, integer},
    commit::write_one,
    error::{Failure, fault},
    session::{Record, Session, query},
};
use crate::{
    model::{Fate, KnownRow},
    store::{Sealed, StoreError},
};

const TABLE: &str = "known";
const BY_ID: &str = "SELECT * FROM known WHERE vault_id = $1 AND id = $2";
const PAGE: &str = "SELECT * FROM known WHERE vault_id = $1 AND id > $2 ORDER BY id LIMIT $3";
const INSERT: &str = "INSERT INTO known (vault_id, id, revision, seal, fate, newest, last_revision, encryptions, uses, known_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
const UPDATE: &str = "UPDATE known SET revision = $3, seal = $4, fate = $5, newest = $6, last_revision = $7, \
    encryptions = $8, uses = $9, known_at = $10 WHERE vault_id = $1 AND id = $2 AND revision = $3 - 1";
const REMOVE: &str = "DELETE FROM known WHERE vault_id = $1 AND id = $2";

/// What must be answered from an index.
#[cfg(test)]
pub(super) const STATEMENTS: [&str; 4] = [BY_ID, PAGE, UPDATE, REMOVE];

pub(super) async fn by_id(
    session: &mut Session,
    vault: [u8; 16],
    id: [u8; 16],
) -> Result<Option<Sealed<KnownRow>>, StoreError> {
    let row = query(BY_ID).bind(vault.to_vec()).bind(id.to_vec()).fetch_optional(session).await.map_err(fault)?;
    row.as_ref().map(decode).transpose()
}

/// What is known in a vault, in the order of the ids.
pub(super) async fn page(
    session: &mut Session,
    vault: [u8; 16],
    after: Option<[u8; 16]>,
    limit: u32,
) -> Result<Vec<Sealed<KnownRow>>, StoreError> {
    let after = after.map_or_else(Vec::new, |id| id.to_vec());
    let query = query(PAGE).bind(vault.to_vec()).bind(after).bind(i64::from(limit));
    query.fetch_all(session).await.map_err(fault)?.iter().map(decode).collect()
}

pub(super) async fn write(session: &mut Session, sealed: &Sealed<KnownRow>) -> Result<(), Failure> {
    let row = sealed.unchecked();
    let query = session
        .put(row.revision, INSERT, UPDATE)
        .bind(row.vault.to_vec())
        .bind(row.id.to_vec())
        .bind(integer(row.revision, TABLE, "revision")?)
        .bind(sealed.seal().to_vec())
        .bind(i64::from(row.fate.code()))
        .bind(row.newest.map(|newest| newest.bytes().to_vec()))
        .bind(integer(row.last, TABLE, "last_revision")?)
        .bind(integer(row.encryptions, TABLE, "encryptions")?)
        .bind(integer(row.uses, TABLE, "uses")?)
        .bind(row.at.0);
    write_one(session, query).await
}

/// Forgets it, with its vault.
pub(super) async fn remove(session: &mut Session, vault: [u8; 16], id: [u8; 16]) -> Result<(), Failure> {
    write_one(session, query(REMOVE).bind(vault.to_vec()).bind(id.to_vec())).await
}

fn decode(row: &Record) -> Result<Sealed<KnownRow>, StoreError> {
    let columns = Columns::of(TABLE, row);
    columns.sealed(KnownRow {
        id: columns.array("id")?,
        vault: columns.array("vault_id")?,
        fate: Fate::from_code(columns.small("fate")?).ok_or_else(|| columns.wrong("fate"))?,
        newest: columns.optional_version("newest")?,
        last: columns.number("last_revision")?,
        encryptions: columns.number("encryptions")?,
        uses: columns.number("uses")?,
        at: columns.time("known_at")?,
        revision: columns.revision()?,
    })
}
