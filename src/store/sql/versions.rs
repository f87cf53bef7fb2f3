//! Versions of keys.

use super::{
    activity,
    columns::{Columns, integer, state_times},
    commit::write_one,
    error::{Failure, fault},
    keys,
    session::{Record, Session, Text, query},
    vaults,
};
use crate::{
    model::{KeyName, KeyOps, KeySpec, Residency, Timestamp, VaultName, VersionId, VersionRow},
    store::{CommitError, Sealed, StoreError, ToPurge},
};

const TABLE: &str = "versions";
const UNDER: &str = "SELECT 1 FROM versions WHERE kek = $1 LIMIT 1";
const EXISTS: &str = "SELECT 1 FROM versions WHERE id = $1";
const BY_ID: &str = "SELECT versions.*, keys.name AS key, vaults.name AS vault FROM versions \
    JOIN keys ON keys.id = versions.key_id AND keys.vault_id = versions.vault_id \
    JOIN vaults ON vaults.id = versions.vault_id \
    WHERE versions.id = $1 AND vaults.name = $2";
// CROSS JOIN and `+` fix SQLite's order: the key by its name, then its versions by ordinal, with nothing to sort.
const PAGE: Text = Text {
    sqlite: "SELECT versions.*, keys.name AS key, vaults.name AS vault FROM vaults \
        CROSS JOIN keys ON keys.vault_id = vaults.id \
        CROSS JOIN versions ON versions.key_id = keys.id AND versions.vault_id = +keys.vault_id \
        WHERE vaults.name = $1 AND keys.folded_name = $2 AND versions.ordinal < $3 \
        ORDER BY versions.ordinal DESC LIMIT $4",
    postgres: "SELECT versions.*, keys.name AS key, vaults.name AS vault FROM vaults \
        JOIN keys ON keys.vault_id = vaults.id \
        JOIN versions ON versions.key_id = keys.id AND versions.vault_id = keys.vault_id \
        WHERE vaults.name = $1 AND keys.folded_name = $2 AND versions.ordinal < $3 \
        ORDER BY versions.ordinal DESC LIMIT $4",
};
// A clash is no error, so that the transaction can still be asked what it was: PostgreSQL answers nothing after one.
const INSERT: &str = "INSERT INTO versions (id, revision, seal, vault_id, key_id, ordinal, spec, ops, enabled, \
    not_before, expires_at, residency, intent, created_at, updated_at, check_value, tags, public_key, blob, deleted_at, \
    purge_at, kek) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22) \
    ON CONFLICT DO NOTHING";
const UPDATE: &str = "UPDATE versions SET revision = $2, seal = $3, vault_id = $4, key_id = $5, ordinal = $6, \
    spec = $7, ops = $8, enabled = $9, not_before = $10, expires_at = $11, residency = $12, intent = $13, \
    created_at = $14, updated_at = $15, check_value = $16, tags = $17, public_key = $18, blob = $19, \
    deleted_at = $20, purge_at = $21, kek = $22 WHERE id = $1 AND revision = $2 - 1";
const REMOVE: &str = "DELETE FROM versions WHERE id = $1";
const TO_PURGE: &str = "SELECT versions.id, versions.purge_at, keys.name AS key, vaults.name AS vault FROM versions \
    JOIN keys ON keys.id = versions.key_id JOIN vaults ON vaults.id = versions.vault_id \
    WHERE versions.purge_at <= $1 AND (versions.purge_at, versions.id) > ($2, $3) \
    AND keys.deleted_at IS NULL AND vaults.deleted_at IS NULL ORDER BY versions.purge_at, versions.id LIMIT $4";

/// What must be answered from an index.
#[cfg(test)]
pub(super) const STATEMENTS: [&str; 7] = [EXISTS, UNDER, BY_ID, PAGE.sqlite, UPDATE, REMOVE, TO_PURGE];

pub(super) async fn by_id(
    session: &mut Session,
    vault: &VaultName,
    version: VersionId,
) -> Result<Option<Sealed<VersionRow>>, StoreError> {
    let query = query(BY_ID).bind(version.bytes().to_vec()).bind(vault.as_str().to_owned());
    let row = query.fetch_optional(session).await.map_err(fault)?;
    row.as_ref().map(decode).transpose()
}

pub(super) async fn page(
    session: &mut Session,
    vault: &VaultName,
    key: &KeyName,
    before: Option<u64>,
    limit: u32,
) -> Result<Vec<Sealed<VersionRow>>, StoreError> {
    // `integer` refuses an ordinal of i64::MAX, so that every ordinal is below it.
    let before = before.and_then(|before| i64::try_from(before).ok()).unwrap_or(i64::MAX);
    let query = query(PAGE).bind(vault.as_str().to_owned()).bind(key.folded()).bind(before).bind(i64::from(limit));
    query.fetch_all(session).await.map_err(fault)?.iter().map(decode).collect()
}

pub(super) async fn exists(session: &mut Session, version: VersionId) -> Result<bool, sqlx::Error> {
    let row = query(EXISTS).bind(version.bytes().to_vec()).fetch_optional(session).await?;
    Ok(row.is_some())
}

pub(super) async fn write(session: &mut Session, sealed: &Sealed<VersionRow>) -> Result<(), Failure> {
    let row = sealed.unchecked();
    let parents = keys::parents(session, &row.vault, &row.key).await?;
    let (deleted_at, purge_at) = state_times(row.state);
    let query = session
        .put(row.revision, INSERT, UPDATE)
        .bind(row.version.bytes().to_vec())
        .bind(integer(row.revision, TABLE, "revision")?)
        .bind(sealed.seal().to_vec())
        .bind(parents.vault_id.to_vec())
        .bind(parents.key_id.to_vec())
        .bind(integer(row.ordinal, TABLE, "ordinal")?)
        .bind(row.spec.name())
        .bind(i64::from(row.ops.bits()))
        .bind(row.enabled)
        .bind(row.not_before.map(|time| time.0))
        .bind(row.expires.map(|time| time.0))
        .bind(row.residency.name())
        .bind(integer(row.intent, TABLE, "intent")?)
        .bind(row.created.0)
        .bind(row.updated.0)
        .bind(row.check_value.clone())
        .bind(row.tags.to_json())
        .bind(row.public.clone())
        .bind(row.blob.clone())
        .bind(deleted_at)
        .bind(purge_at)
        .bind(row.kek.map(|kek| kek.bytes().to_vec()));
    match write_one(session, query).await {
        // Two things are unique: the id, and the ordinal, of which a clash means that somebody else made
        // a version meanwhile.
        Err(Failure::Refused(CommitError::Conflict)) if row.revision == 1 && exists(session, row.version).await? => {
            Err(Failure::Refused(CommitError::Exists))
        }
        result => result,
    }
}

/// Takes a version away, with what is known of its use.
pub(super) async fn remove(session: &mut Session, version: VersionId) -> Result<(), Failure> {
    activity::remove(session, version).await?;
    write_one(session, query(REMOVE).bind(version.bytes().to_vec())).await
}

/// Deleted versions of keys in use whose time has come by then, in the order of their times.
pub(super) async fn to_purge(
    session: &mut Session,
    by: Timestamp,
    after: Option<(Timestamp, [u8; 16])>,
    limit: u32,
) -> Result<Vec<ToPurge>, StoreError> {
    let (time, id) = after.map_or((i64::MIN, Vec::new()), |(time, id)| (time.0, id.to_vec()));
    let query = query(TO_PURGE).bind(by.0).bind(time).bind(id).bind(i64::from(limit));
    let found = query.fetch_all(session).await.map_err(fault)?;
    let version = |row: &Record| {
        let columns = Columns::of(TABLE, row);
        let id = columns.version("id")?;
        let (vault, object) = (columns.parsed("vault")?, columns.parsed("key")?);
        Ok(ToPurge { vault, object, version: Some(id), id: id.bytes(), at: columns.time("purge_at")? })
    };
    found.iter().map(version).collect()
}

/// Whether any version is wrapped under that KEK.
pub(super) async fn is_wrapped_under(session: &mut Session, kek: VersionId) -> Result<bool, StoreError> {
    let row = query(UNDER).bind(kek.bytes().to_vec()).fetch_optional(session).await.map_err(fault)?;
    Ok(row.is_some())
}

fn decode(row: &Record) -> Result<Sealed<VersionRow>, StoreError> {
    let columns = Columns::of(TABLE, row);
    columns.sealed(VersionRow {
        vault: columns.parsed("vault")?,
        key: columns.parsed("key")?,
        version: columns.version("id")?,
        ordinal: columns.number("ordinal")?,
        spec: KeySpec::from_name(columns.text("spec")?).ok_or_else(|| columns.wrong("spec"))?,
        ops: KeyOps::from_bits(columns.small("ops")?).ok_or_else(|| columns.wrong("ops"))?,
        enabled: columns.flag("enabled")?,
        not_before: columns.optional_time("not_before")?,
        expires: columns.optional_time("expires_at")?,
        tags: vaults::tags(&columns)?,
        residency: Residency::from_name(columns.text("residency")?).ok_or_else(|| columns.wrong("residency"))?,
        blob: columns.bytes("blob")?.to_vec(),
        kek: columns.optional_version("kek")?,
        public: columns.bytes("public_key")?.to_vec(),
        check_value: columns.bytes("check_value")?.to_vec(),
        state: columns.state()?,
        intent: columns.number("intent")?,
        created: columns.time("created_at")?,
        updated: columns.time("updated_at")?,
        revision: columns.revision()?,
    })
}
