//! Versions of secrets, and their values: these are written with a version that is new, and read where one is asked for.

use super::{
    columns::{Columns, integer},
    commit::write_one,
    error::{Failure, fault},
    secrets,
    session::{Record, Session, Text, query},
    vaults,
};
use crate::{
    model::{SecretName, SecretVersionRow, VaultName, VersionId},
    store::{CommitError, Sealed, StoreError},
};

const TABLE: &str = "secret_versions";
const EXISTS: &str = "SELECT 1 FROM secret_versions WHERE id = $1";
const BY_ID: &str = "SELECT secret_versions.*, secrets.name AS secret, vaults.name AS vault, secret_values.ciphertext \
    FROM secret_versions \
    JOIN secrets ON secrets.id = secret_versions.secret_id AND secrets.vault_id = secret_versions.vault_id \
    JOIN vaults ON vaults.id = secret_versions.vault_id \
    JOIN secret_values ON secret_values.version = secret_versions.id \
    WHERE secret_versions.id = $1 AND vaults.name = $2";
// As with versions of keys.
const PAGE: Text = Text {
    sqlite: "SELECT secret_versions.*, secrets.name AS secret, vaults.name AS vault, NULL AS ciphertext FROM vaults \
        CROSS JOIN secrets ON secrets.vault_id = vaults.id \
        CROSS JOIN secret_versions ON secret_versions.secret_id = secrets.id \
            AND secret_versions.vault_id = +secrets.vault_id \
        WHERE vaults.name = $1 AND secrets.folded_name = $2 AND secret_versions.ordinal < $3 \
        ORDER BY secret_versions.ordinal DESC LIMIT $4",
    postgres: "SELECT secret_versions.*, secrets.name AS secret, vaults.name AS vault, NULL::bytea AS ciphertext \
        FROM vaults \
        JOIN secrets ON secrets.vault_id = vaults.id \
        JOIN secret_versions ON secret_versions.secret_id = secrets.id \
            AND secret_versions.vault_id = secrets.vault_id \
        WHERE vaults.name = $1 AND secrets.folded_name = $2 AND secret_versions.ordinal < $3 \
        ORDER BY secret_versions.ordinal DESC LIMIT $4",
};
// A clash is no error, so that the transaction can still be asked what it was.
const INSERT: &str = "INSERT INTO secret_versions (id, revision, seal, vault_id, secret_id, ordinal, content_type, \
    enabled, not_before, expires_at, tags, iv, tag, intent, created_at, updated_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) ON CONFLICT DO NOTHING";
const UPDATE: &str = "UPDATE secret_versions SET revision = $2, seal = $3, vault_id = $4, secret_id = $5, \
    ordinal = $6, content_type = $7, enabled = $8, not_before = $9, expires_at = $10, tags = $11, iv = $12, tag = $13, \
    intent = $14, created_at = $15, updated_at = $16 WHERE id = $1 AND revision = $2 - 1";
const INSERT_VALUE: &str = "INSERT INTO secret_values (version, ciphertext) VALUES ($1, $2)";
const REMOVE_VALUE: &str = "DELETE FROM secret_values WHERE version = $1";
const REMOVE: &str = "DELETE FROM secret_versions WHERE id = $1";

/// What must be answered from an index.
#[cfg(test)]
pub(super) const STATEMENTS: [&str; 6] = [EXISTS, BY_ID, PAGE.sqlite, UPDATE, REMOVE_VALUE, REMOVE];

/// A version of any secret of a vault, with its value.
pub(super) async fn by_id(
    session: &mut Session,
    vault: &VaultName,
    version: VersionId,
) -> Result<Option<Sealed<SecretVersionRow>>, StoreError> {
    let query = query(BY_ID).bind(version.bytes().to_vec()).bind(vault.as_str().to_owned());
    let row = query.fetch_optional(session).await.map_err(fault)?;
    row.as_ref().map(decode).transpose()
}

/// Versions of a secret, newest first, without their values.
pub(super) async fn page(
    session: &mut Session,
    vault: &VaultName,
    secret: &SecretName,
    before: Option<u64>,
    limit: u32,
) -> Result<Vec<Sealed<SecretVersionRow>>, StoreError> {
    let before = before.and_then(|before| i64::try_from(before).ok()).unwrap_or(i64::MAX);
    let query = query(PAGE).bind(vault.as_str().to_owned()).bind(secret.folded()).bind(before).bind(i64::from(limit));
    query.fetch_all(session).await.map_err(fault)?.iter().map(decode).collect()
}

pub(super) async fn exists(session: &mut Session, version: VersionId) -> Result<bool, sqlx::Error> {
    let row = query(EXISTS).bind(version.bytes().to_vec()).fetch_optional(session).await?;
    Ok(row.is_some())
}

/// Writes a version; the value with a new one, and never again.
pub(super) async fn write(session: &mut Session, sealed: &Sealed<SecretVersionRow>) -> Result<(), Failure> {
    let row = sealed.unchecked();
    let (vault_id, secret_id) = secrets::parents(session, &row.vault, &row.secret).await?;
    let query_of_row = session
        .put(row.revision, INSERT, UPDATE)
        .bind(row.version.bytes().to_vec())
        .bind(integer(row.revision, TABLE, "revision")?)
        .bind(sealed.seal().to_vec())
        .bind(vault_id.to_vec())
        .bind(secret_id.to_vec())
        .bind(integer(row.ordinal, TABLE, "ordinal")?)
        .bind(row.content_type.clone())
        .bind(row.enabled)
        .bind(row.not_before.map(|time| time.0))
        .bind(row.expires.map(|time| time.0))
        .bind(row.tags.to_json())
        .bind(row.iv.clone())
        .bind(row.tag.clone())
        .bind(integer(row.intent, TABLE, "intent")?)
        .bind(row.created.0)
        .bind(row.updated.0);
    let is_new = session.inserts(row.revision);
    match write_one(session, query_of_row).await {
        // The id, or the ordinal: somebody else made a version meanwhile.
        Err(Failure::Refused(CommitError::Conflict)) if is_new && exists(session, row.version).await? => {
            return Err(Failure::Refused(CommitError::Exists));
        }
        result => result?,
    }
    if !is_new {
        return Ok(());
    }
    let value = query(INSERT_VALUE).bind(row.version.bytes().to_vec()).bind(row.ciphertext.clone());
    write_one(session, value).await
}

/// Takes a version away, with its value.
pub(super) async fn remove(session: &mut Session, version: VersionId) -> Result<(), Failure> {
    // Whether there is one or not: somebody may have meddled, and the version is to go all the same.
    query(REMOVE_VALUE).bind(version.bytes().to_vec()).execute(session).await?;
    write_one(session, query(REMOVE).bind(version.bytes().to_vec())).await
}

fn decode(row: &Record) -> Result<Sealed<SecretVersionRow>, StoreError> {
    let columns = Columns::of(TABLE, row);
    columns.sealed(SecretVersionRow {
        vault: columns.parsed("vault")?,
        secret: columns.parsed("secret")?,
        version: columns.version("id")?,
        ordinal: columns.number("ordinal")?,
        content_type: columns.text("content_type")?.to_owned(),
        enabled: columns.flag("enabled")?,
        not_before: columns.optional_time("not_before")?,
        expires: columns.optional_time("expires_at")?,
        tags: vaults::tags(&columns)?,
        iv: columns.bytes("iv")?.to_vec(),
        tag: columns.bytes("tag")?.to_vec(),
        ciphertext: columns.optional_bytes("ciphertext")?.unwrap_or_default().to_vec(),
        intent: columns.number("intent")?,
        created: columns.time("created_at")?,
        updated: columns.time("updated_at")?,
        revision: columns.revision()?,
    })
}
