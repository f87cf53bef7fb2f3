//! Tokens that are issued here, and the keys that sign them.

use super::{
    columns::{Columns, integer},
    commit::write_one,
    error::{Failure, fault},
    session::{Record, Session, query},
};
use crate::{
    model::{IssuerKeyRow, TokenId, TokenRow, VersionId},
    store::{Sealed, StoreError},
};

const TABLE: &str = "tokens";
const ALL: &str = "SELECT * FROM tokens ORDER BY id";
const INSERT: &str = "INSERT INTO tokens (id, revision, seal, name, creator, created_at, expires_at, intent) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
const UPDATE: &str = "UPDATE tokens SET revision = $2, seal = $3, name = $4, creator = $5, created_at = $6, \
    expires_at = $7, intent = $8 WHERE id = $1 AND revision = $2 - 1";
const REMOVE: &str = "DELETE FROM tokens WHERE id = $1";

const KEYS: &str = "issuer_keys";
const ALL_KEYS: &str = "SELECT * FROM issuer_keys ORDER BY created_at, id";
const INSERT_KEY: &str = "INSERT INTO issuer_keys (id, revision, seal, created_at, public_key, blob, kek) \
    VALUES ($1, $2, $3, $4, $5, $6, $7)";
const UPDATE_KEY: &str = "UPDATE issuer_keys SET revision = $2, seal = $3, created_at = $4, public_key = $5, blob = $6, \
    kek = $7 WHERE id = $1 AND revision = $2 - 1";
const REMOVE_KEY: &str = "DELETE FROM issuer_keys WHERE id = $1";

pub(super) async fn all(session: &mut Session) -> Result<Vec<Sealed<TokenRow>>, StoreError> {
    query(ALL).fetch_all(session).await.map_err(fault)?.iter().map(decode).collect()
}

/// Oldest first.
pub(super) async fn keys(session: &mut Session) -> Result<Vec<Sealed<IssuerKeyRow>>, StoreError> {
    query(ALL_KEYS).fetch_all(session).await.map_err(fault)?.iter().map(decode_key).collect()
}

pub(super) async fn write(session: &mut Session, sealed: &Sealed<TokenRow>) -> Result<(), Failure> {
    let row = sealed.unchecked();
    let query = session
        .put(row.revision, INSERT, UPDATE)
        .bind(row.id.bytes().to_vec())
        .bind(integer(row.revision, TABLE, "revision")?)
        .bind(sealed.seal().to_vec())
        .bind(row.name.as_str().to_owned())
        .bind(row.creator.as_str().to_owned())
        .bind(row.created.0)
        .bind(row.expires.0)
        .bind(integer(row.intent, TABLE, "intent")?);
    write_one(session, query).await
}

/// Takes a token away; a missing one was taken away by somebody else.
pub(super) async fn remove(session: &mut Session, id: TokenId) -> Result<(), Failure> {
    write_one(session, query(REMOVE).bind(id.bytes().to_vec())).await
}

pub(super) async fn write_key(session: &mut Session, sealed: &Sealed<IssuerKeyRow>) -> Result<(), Failure> {
    let row = sealed.unchecked();
    let query = session
        .put(row.revision, INSERT_KEY, UPDATE_KEY)
        .bind(row.id.bytes().to_vec())
        .bind(integer(row.revision, KEYS, "revision")?)
        .bind(sealed.seal().to_vec())
        .bind(row.created.0)
        .bind(row.public.clone())
        .bind(row.blob.clone())
        .bind(row.kek.map(|kek| kek.bytes().to_vec()));
    write_one(session, query).await
}

/// Takes a key away; a missing one was taken away by somebody else.
pub(super) async fn remove_key(session: &mut Session, id: VersionId) -> Result<(), Failure> {
    write_one(session, query(REMOVE_KEY).bind(id.bytes().to_vec())).await
}

fn decode(row: &Record) -> Result<Sealed<TokenRow>, StoreError> {
    let columns = Columns::of(TABLE, row);
    columns.sealed(TokenRow {
        id: columns.version("id")?,
        name: columns.parsed("name")?,
        creator: columns.parsed("creator")?,
        created: columns.time("created_at")?,
        expires: columns.time("expires_at")?,
        intent: columns.number("intent")?,
        revision: columns.revision()?,
    })
}

fn decode_key(row: &Record) -> Result<Sealed<IssuerKeyRow>, StoreError> {
    let columns = Columns::of(KEYS, row);
    columns.sealed(IssuerKeyRow {
        id: columns.version("id")?,
        created: columns.time("created_at")?,
        public: columns.bytes("public_key")?.to_vec(),
        blob: columns.bytes("blob")?.to_vec(),
        kek: columns.optional_version("kek")?,
        revision: columns.revision()?,
    })
}
