//! Keys.

use super::{
    columns::{Columns, integer, state_times},
    commit::write_one,
    error::{Failure, fault},
    session::{Record, Session, query},
    vaults,
};
use crate::{
    model::{KeyName, KeyObjectRow, KeyRotation, RotationPolicy, Timestamp, VaultName},
    store::{Sealed, StoreError, ToLookAt, ToPurge},
};

const TABLE: &str = "keys";
const BY_NAME: &str = "SELECT keys.*, vaults.name AS vault FROM vaults JOIN keys ON keys.vault_id = vaults.id \
    WHERE vaults.name = $1 AND keys.folded_name = $2";
const PAGE: &str = "SELECT keys.*, vaults.name AS vault FROM vaults JOIN keys ON keys.vault_id = vaults.id \
    WHERE vaults.name = $1 AND keys.folded_name > $2 AND ($3 OR keys.deleted_at IS NULL) \
    ORDER BY keys.folded_name LIMIT $4";
const ID_BY_NAME: &str = "SELECT id, name FROM keys WHERE vault_id = $1 AND folded_name = $2";
const INSERT: &str = "INSERT INTO keys (id, revision, seal, vault_id, folded_name, name, current_version, deleted_at, \
    purge_at, created_at, updated_at, intent, rotation_policy, policy_created_at, policy_updated_at, due_at, noted_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)";
// The primary key is left out where it stays the same, so that the row is changed in its place.
const UPDATE: &str = "UPDATE keys SET revision = $2, seal = $3, name = $6, current_version = $7, deleted_at = $8, \
    purge_at = $9, created_at = $10, updated_at = $11, intent = $12, rotation_policy = $13, policy_created_at = $14, \
    policy_updated_at = $15, due_at = $16, noted_at = $17 WHERE id = $1 AND revision = $2 - 1 AND vault_id = $4 AND folded_name = $5";

// What is found is a reason to look and nothing else, so nothing else of it is read: one row that is not ours must not keep
// others from being looked at.
const DUE: &str = "SELECT keys.id, keys.name, keys.due_at, vaults.name AS vault FROM keys JOIN vaults ON keys.vault_id = vaults.id \
    WHERE keys.due_at <= $1 AND (keys.due_at, keys.id) > ($2, $3) \
    AND keys.deleted_at IS NULL AND vaults.deleted_at IS NULL ORDER BY keys.due_at, keys.id LIMIT $4";
const WITH_POLICY: &str = "SELECT keys.id, keys.name, keys.due_at, vaults.name AS vault FROM keys JOIN vaults ON keys.vault_id = vaults.id \
    WHERE keys.rotation_policy <> '' AND keys.id > $1 \
    AND keys.deleted_at IS NULL AND vaults.deleted_at IS NULL ORDER BY keys.id LIMIT $2";

const REMOVE: &str = "DELETE FROM keys WHERE id = $1";
const TO_PURGE: &str = "SELECT keys.id, keys.name, keys.purge_at, vaults.name AS vault FROM keys \
    JOIN vaults ON keys.vault_id = vaults.id \
    WHERE keys.purge_at <= $1 AND (keys.purge_at, keys.id) > ($2, $3) \
    AND vaults.deleted_at IS NULL ORDER BY keys.purge_at, keys.id LIMIT $4";

/// What must be answered from an index.
#[cfg(test)]
pub(super) const STATEMENTS: [&str; 8] = [BY_NAME, PAGE, ID_BY_NAME, UPDATE, DUE, WITH_POLICY, REMOVE, TO_PURGE];

pub(super) async fn by_name(
    session: &mut Session,
    vault: &VaultName,
    name: &KeyName,
) -> Result<Option<Sealed<KeyObjectRow>>, StoreError> {
    let query = query(BY_NAME).bind(vault.as_str().to_owned()).bind(name.folded());
    let row = query.fetch_optional(session).await.map_err(fault)?;
    row.as_ref().map(decode).transpose()
}

pub(super) async fn page(
    session: &mut Session,
    vault: &VaultName,
    after: Option<&KeyName>,
    limit: u32,
    deleted: bool,
) -> Result<Vec<Sealed<KeyObjectRow>>, StoreError> {
    let after = after.map_or_else(String::new, KeyName::folded);
    let query = query(PAGE).bind(vault.as_str().to_owned()).bind(after).bind(deleted).bind(i64::from(limit));
    query.fetch_all(session).await.map_err(fault)?.iter().map(decode).collect()
}

/// Keys to be looked at by then, from one place on, in the order of their times.
pub(super) async fn due(
    session: &mut Session,
    now: Timestamp,
    after: Option<(Timestamp, [u8; 16])>,
    limit: u32,
) -> Result<Vec<ToLookAt>, StoreError> {
    let (time, id) = after.map_or((i64::MIN, Vec::new()), |(time, id)| (time.0, id.to_vec()));
    let query = query(DUE).bind(now.0).bind(time).bind(id).bind(i64::from(limit));
    query.fetch_all(session).await.map_err(fault)?.iter().map(to_look_at).collect()
}

/// Keys that have a rotation policy, in the order of their ids.
pub(super) async fn with_policy(
    session: &mut Session,
    after: Option<[u8; 16]>,
    limit: u32,
) -> Result<Vec<ToLookAt>, StoreError> {
    let after = after.map_or_else(Vec::new, |id| id.to_vec());
    let query = query(WITH_POLICY).bind(after).bind(i64::from(limit));
    query.fetch_all(session).await.map_err(fault)?.iter().map(to_look_at).collect()
}

/// Deleted keys of vaults in use whose time has come by then, in the order of their times.
pub(super) async fn to_purge(
    session: &mut Session,
    by: Timestamp,
    after: Option<(Timestamp, [u8; 16])>,
    limit: u32,
) -> Result<Vec<ToPurge>, StoreError> {
    let (time, id) = after.map_or((i64::MIN, Vec::new()), |(time, id)| (time.0, id.to_vec()));
    let query = query(TO_PURGE).bind(by.0).bind(time).bind(id).bind(i64::from(limit));
    let found = query.fetch_all(session).await.map_err(fault)?;
    let key = |row: &Record| {
        let columns = Columns::of(TABLE, row);
        let (vault, object) = (columns.parsed("vault")?, columns.parsed("name")?);
        Ok(ToPurge { vault, object, version: None, id: columns.array("id")?, at: columns.time("purge_at")? })
    };
    found.iter().map(key).collect()
}

/// Takes a key away that has no versions any more.
pub(super) async fn remove(session: &mut Session, id: [u8; 16]) -> Result<(), Failure> {
    write_one(session, query(REMOVE).bind(id.to_vec())).await
}

fn to_look_at(row: &Record) -> Result<ToLookAt, StoreError> {
    let columns = Columns::of(TABLE, row);
    Ok(ToLookAt {
        id: columns.array("id")?,
        vault: columns.parsed("vault")?,
        object: columns.parsed("name")?,
        due: columns.optional_time("due_at")?,
    })
}

/// Where a version belongs: the ids of its vault and key.
pub(super) struct Parents {
    pub(super) vault_id: [u8; 16],
    pub(super) key_id: [u8; 16],
}

/// The parents of a version of that key, in the transaction that is going to write it.
pub(super) async fn parents(session: &mut Session, vault: &VaultName, key: &KeyName) -> Result<Parents, Failure> {
    let vault_id = vaults::id_of(session, vault).await?;
    let query = query(ID_BY_NAME).bind(vault_id.to_vec()).bind(key.folded());
    let row = query.fetch_optional(session).await?.ok_or(Failure::CONFLICT)?;
    let columns = Columns::of(TABLE, &row);
    // The version is sealed with this spelling and read back with the key's: another would never verify.
    if columns.text("name")? != key.as_str() {
        return Err(StoreError::Inconsistent { table: "versions", column: "key" }.into());
    }
    Ok(Parents { vault_id, key_id: columns.array("id")? })
}

pub(super) async fn write(session: &mut Session, sealed: &Sealed<KeyObjectRow>) -> Result<(), Failure> {
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
        .bind(deleted_at)
        .bind(purge_at)
        .bind(row.created.0)
        .bind(row.updated.0)
        .bind(integer(row.intent, TABLE, "intent")?)
        .bind(row.rotation.as_ref().map(|rotation| rotation.policy.canonical()).unwrap_or_default())
        .bind(row.rotation.as_ref().map(|rotation| rotation.created.0))
        .bind(row.rotation.as_ref().map(|rotation| rotation.updated.0))
        .bind(row.due.map(|due| due.0))
        .bind(row.noted.map(|noted| noted.0));
    write_one(session, query).await
}

fn decode(row: &Record) -> Result<Sealed<KeyObjectRow>, StoreError> {
    let columns = Columns::of(TABLE, row);
    let name: KeyName = columns.parsed("name")?;
    if name.folded() != columns.text("folded_name")? {
        return Err(columns.wrong("folded_name"));
    }
    columns.sealed(KeyObjectRow {
        id: columns.array("id")?,
        vault: columns.parsed("vault")?,
        name,
        current: columns.version("current_version")?,
        state: columns.state()?,
        rotation: rotation(&columns)?,
        noted: columns.optional_time("noted_at")?,
        due: columns.optional_time("due_at")?,
        created: columns.time("created_at")?,
        updated: columns.time("updated_at")?,
        intent: columns.number("intent")?,
        revision: columns.revision()?,
    })
}

fn rotation(columns: &Columns<'_>) -> Result<Option<KeyRotation>, StoreError> {
    let text = columns.text("rotation_policy")?;
    let times = (columns.optional_time("policy_created_at")?, columns.optional_time("policy_updated_at")?);
    match (text, times) {
        ("", (None, None)) => Ok(None),
        (text, (Some(created), Some(updated))) => {
            let policy = RotationPolicy::from_canonical(text).ok_or_else(|| columns.wrong("rotation_policy"))?;
            Ok(Some(KeyRotation { policy, created, updated }))
        }
        _ => Err(columns.wrong("policy_updated_at")),
    }
}
