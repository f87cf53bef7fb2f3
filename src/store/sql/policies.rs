//! Access policies of vaults.

use super::{
    columns::{Columns, integer},
    commit::write_one,
    error::{Failure, fault},
    session::{Record, Session, query},
};
use crate::{
    model::{AccessPolicyRow, ObjectType, Permissions, Row as _},
    store::{Sealed, StoreError},
};

const TABLE: &str = "access_policies";
const ALL: &str = "SELECT * FROM access_policies ORDER BY id";
const BY_ID: &str = "SELECT * FROM access_policies WHERE id = $1";
const INSERT: &str = "INSERT INTO access_policies (id, revision, seal, vault, principal, created_at, updated_at, \
    intent, keys, secrets, certificates) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
const UPDATE: &str = "UPDATE access_policies SET revision = $2, seal = $3, vault = $4, principal = $5, \
    created_at = $6, updated_at = $7, intent = $8, keys = $9, secrets = $10, certificates = $11 \
    WHERE id = $1 AND revision = $2 - 1";
const REMOVE: &str = "DELETE FROM access_policies WHERE id = $1";

pub(super) async fn all(session: &mut Session) -> Result<Vec<Sealed<AccessPolicyRow>>, StoreError> {
    query(ALL).fetch_all(session).await.map_err(fault)?.iter().map(decode).collect()
}

pub(super) async fn by_id(session: &mut Session, id: [u8; 16]) -> Result<Option<Sealed<AccessPolicyRow>>, StoreError> {
    let row = query(BY_ID).bind(id.to_vec()).fetch_optional(session).await.map_err(fault)?;
    row.as_ref().map(decode).transpose()
}

pub(super) async fn write(session: &mut Session, sealed: &Sealed<AccessPolicyRow>) -> Result<(), Failure> {
    let row = sealed.unchecked();
    let [keys, secrets, certificates] = ObjectType::ALL.map(|kind| row.permissions.text(kind));
    let query = session
        .put(row.revision, INSERT, UPDATE)
        .bind(row.row_id().id.to_vec())
        .bind(integer(row.revision, TABLE, "revision")?)
        .bind(sealed.seal().to_vec())
        .bind(row.vault.as_str().to_owned())
        .bind(row.principal.as_str().to_owned())
        .bind(row.created.0)
        .bind(row.updated.0)
        .bind(integer(row.intent, TABLE, "intent")?)
        .bind(keys)
        .bind(secrets)
        .bind(certificates);
    write_one(session, query).await
}

/// Takes a policy away; a missing one was taken away by somebody else.
pub(super) async fn remove(session: &mut Session, id: [u8; 16]) -> Result<(), Failure> {
    write_one(session, query(REMOVE).bind(id.to_vec())).await
}

fn decode(row: &Record) -> Result<Sealed<AccessPolicyRow>, StoreError> {
    let columns = Columns::of(TABLE, row);
    let texts = [columns.text("keys")?, columns.text("secrets")?, columns.text("certificates")?];
    let decoded = AccessPolicyRow {
        vault: columns.parsed("vault")?,
        principal: columns.parsed("principal")?,
        permissions: Permissions::from_texts(texts).ok_or_else(|| columns.wrong("keys"))?,
        created: columns.time("created_at")?,
        updated: columns.time("updated_at")?,
        intent: columns.number("intent")?,
        revision: columns.revision()?,
    };
    if columns.array("id")? != decoded.row_id().id {
        return Err(columns.wrong("id"));
    }
    columns.sealed(decoded)
}
