//! Secrets.

use super::{
    columns::{Columns, integer, state_times},
    commit::write_one,
    error::{Failure, fault},
    session::{Record, Session, query},
    vaults,
};
use crate::{
    model::{SecretName, SecretRow, Timestamp, VaultName, VersionId},
    store::{Sealed, StoreError, ToLookAt, ToPurge},
};

const TABLE: &str = "secrets";
const BY_NAME: &str = "SELECT secrets.*, vaults.name AS vault FROM vaults JOIN secrets ON secrets.vault_id = vaults.id \
    WHERE vaults.name = $1 AND secrets.folded_name = $2";
const PAGE: &str = "SELECT secrets.*, vaults.name AS vault FROM vaults JOIN secrets ON secrets.vault_id = vaults.id \
    WHERE vaults.name = $1 AND secrets.folded_name > $2 AND ($3 OR secrets.deleted_at IS NULL) \
    ORDER BY secrets.folded_name LIMIT $4";
const ID_BY_NAME: &str = "SELECT id, name FROM secrets WHERE vault_id = $1 AND folded_name = $2";
const UNDER: &str = "SELECT 1 FROM secrets WHERE kek = $1 LIMIT 1";
const INSERT: &str = "INSERT INTO secrets (id, revision, seal, vault_id, folded_name, name, current_version, data_key, \
    blob, kek, check_value, deleted_at, purge_at, noted_at, due_at, created_at, updated_at, intent) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)";
// The primary key is left out where it stays the same, so that the row is changed in its place.
const UPDATE: &str = "UPDATE secrets SET revision = $2, seal = $3, name = $6, current_version = $7, data_key = $8, \
    blob = $9, kek = $10, check_value = $11, deleted_at = $12, purge_at = $13, noted_at = $14, due_at = $15, \
    created_at = $16, updated_at = $17, intent = $18 \
    WHERE id = $1 AND revision = $2 - 1 AND vault_id = $4 AND folded_name = $5";
const REMOVE: &str = "DELETE FROM secrets WHERE id = $1";
const DUE: &str = "SELECT secrets.id, secrets.name, secrets.due_at, vaults.name AS vault FROM secrets \
    JOIN vaults ON secrets.vault_id = vaults.id \
    WHERE secrets.due_at <= $1 AND (secrets.due_at, secrets.id) > ($2, $3) \
    AND secrets.deleted_at IS NULL AND vaults.deleted_at IS NULL ORDER BY secrets.due_at, secrets.id LIMIT $4";
const TO_PURGE: &str = "SELECT secrets.id, secrets.name, secrets.purge_at, vaults.name AS vault FROM secrets \
    JOIN vaults ON secrets.vault_id = vaults.id \
    WHERE secrets.purge_at <= $1 AND (secrets.purge_at, secrets.id) > ($2, $3) \
    AND vaults.deleted_at IS NULL ORDER BY secrets.purge_at, secrets.id LIMIT $4";

/// What must be answered from an index.
#[cfg(test)]
pub(super) const STATEMENTS: [&str; 8] = [BY_NAME, PAGE, ID_BY_NAME, UNDER, UPDATE, REMOVE, DUE, TO_PURGE];

pub(super) async fn by_name(
    session: &mut Session,
    vault: &VaultName,
    name: &SecretName,
) -> Result<Option<Sealed<SecretRow>>, StoreError> {
    let query = query(BY_NAME).bind(vault.as_str().to_owned()).bind(name.folded());
    let row = query.fetch_optional(session).await.map_err(fault)?;
    row.as_ref().map(decode).transpose()
}

pub(super) async fn page(
    session: &mut Session,
    vault: &VaultName,
    after: Option<&SecretName>,
    limit: u32,
    deleted: bool,
) -> Result<Vec<Sealed<SecretRow>>, StoreError> {
    let after = after.map_or_else(String::new, SecretName::folded);
    let query = query(PAGE).bind(vault.as_str().to_owned()).bind(after).bind(deleted).bind(i64::from(limit));
    query.fetch_all(session).await.map_err(fault)?.iter().map(decode).collect()
}

/// Secrets to be looked at by then, from one place on, in the order of their times.
pub(super) async fn due(
    session: &mut Session,
    now: Timestamp,
    after: Option<(Timestamp, [u8; 16])>,
    limit: u32,
) -> Result<Vec<ToLookAt>, StoreError> {
    let (time, id) = after.map_or((i64::MIN, Vec::new()), |(time, id)| (time.0, id.to_vec()));
    let query = query(DUE).bind(now.0).bind(time).bind(id).bind(i64::from(limit));
    let found = query.fetch_all(session).await.map_err(fault)?;
    let secret = |row: &Record| {
        let columns = Columns::of(TABLE, row);
        let (vault, object) = (columns.parsed("vault")?, columns.parsed("name")?);
        Ok(ToLookAt { id: columns.array("id")?, vault, object, due: columns.optional_time("due_at")? })
    };
    found.iter().map(secret).collect()
}

/// Deleted secrets of vaults in use whose time has come by then, in the order of their times.
pub(super) async fn to_purge(
    session: &mut Session,
    by: Timestamp,
    after: Option<(Timestamp, [u8; 16])>,
    limit: u32,
) -> Result<Vec<ToPurge>, StoreError> {
    let (time, id) = after.map_or((i64::MIN, Vec::new()), |(time, id)| (time.0, id.to_vec()));
    let query = query(TO_PURGE).bind(by.0).bind(time).bind(id).bind(i64::from(limit));
    let found = query.fetch_all(session).await.map_err(fault)?;
    let secret = |row: &Record| {
        let columns = Columns::of(TABLE, row);
        let (vault, object) = (columns.parsed("vault")?, columns.parsed("name")?);
        Ok(ToPurge { vault, object, version: None, id: columns.array("id")?, at: columns.time("purge_at")? })
    };
    found.iter().map(secret).collect()
}

/// Whether the data key of any secret is wrapped under that KEK.
pub(super) async fn is_wrapped_under(session: &mut Session, kek: VersionId) -> Result<bool, StoreError> {
    let row = query(UNDER).bind(kek.bytes().to_vec()).fetch_optional(session).await.map_err(fault)?;
    Ok(row.is_some())
}

/// Takes a secret away that has no versions any more.
pub(super) async fn remove(session: &mut Session, id: [u8; 16]) -> Result<(), Failure> {
    write_one(session, query(REMOVE).bind(id.to_vec())).await
}

/// The ids of the vault and the secret of a version, in the transaction that is going to write it.
pub(super) async fn parents(
    session: &mut Session,
    vault: &VaultName,
    secret: &SecretName,
) -> Result<([u8; 16], [u8; 16]), Failure> {
    let vault_id = vaults::id_of(session, vault).await?;
    let query = query(ID_BY_NAME).bind(vault_id.to_vec()).bind(secret.folded());
    let row = query.fetch_optional(session).await?.ok_or(Failure::CONFLICT)?;
    let columns = Columns::of(TABLE, &row);
    // The version is sealed with this spelling and read back with the secret's: another would never verify.
    if columns.text("name")? != secret.as_str() {
        return Err(StoreError::Inconsistent { table: "secret_versions", column: "secret" }.into());
    }
    Ok((vault_id, columns.array("id")?))
}

pub(super) async fn write(session: &mut Session, sealed: &Sealed<SecretRow>) -> Result<(), Failure> {
    let row = sealed.unchecked();
    let vault_id = vaults::id_of(session, &row.vault).await?;
    let (deleted_at, purge_at) = state_times(row.state);
    let query = session
        .put(row.revision, INSERT, UPDATE)
        .bind(row.id.to_vec())
        .bind(integer(row.revision, TABLE, "revision")?)
        .bind(sealed.seal().to_vec())
        .bind(vault_id.to_vec())
        .bind(row.name.folded())
        .bind(row.name.as_str().to_owned())
        .bind(row.current.bytes().to_vec())
        .bind(row.data_key.bytes().to_vec())
        .bind(row.blob.clone())
        .bind(row.kek.map(|kek| kek.bytes().to_vec()))
        .bind(row.check_value.clone())
        .bind(deleted_at)
        .bind(purge_at)
        .bind(row.noted.map(|noted| noted.0))
        .bind(row.due.map(|due| due.0))
        .bind(row.created.0)
        .bind(row.updated.0)
        .bind(integer(row.intent, TABLE, "intent")?);
    write_one(session, query).await
}

fn decode(row: &Record) -> Result<Sealed<SecretRow>, StoreError> {
    let columns = Columns::of(TABLE, row);
    let name: SecretName = columns.parsed("name")?;
    if name.folded() != columns.text("folded_name")? {
        return Err(columns.wrong("folded_name"));
    }
    columns.sealed(SecretRow {
        id: columns.array("id")?,
        vault: columns.parsed("vault")?,
        name,
        current: columns.version("current_version")?,
        data_key: columns.version("data_key")?,
        blob: columns.bytes("blob")?.to_vec(),
        kek: columns.optional_version("kek")?,
        check_value: columns.bytes("check_value")?.to_vec(),
        state: columns.state()?,
        noted: columns.optional_time("noted_at")?,
        due: columns.optional_time("due_at")?,
        created: columns.time("created_at")?,
        updated: columns.time("updated_at")?,
        intent: columns.number("intent")?,
        revision: columns.revision()?,
    })
}
