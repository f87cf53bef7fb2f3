//! Request ids that changes were asked for with.

use super::{
    columns::Columns,
    commit::{exists_is_conflict, write_one},
    error::{Failure, fault},
    session::{Record, Session, query},
};
use crate::{
    model::{RequestId, Timestamp},
    store::{RequestRecord, StoreError},
};

const TABLE: &str = "requests";
const READ: &str = "SELECT * FROM requests WHERE principal = $1 AND id = $2 AND expires_at > $3";
const PAGE: &str = "SELECT * FROM requests WHERE principal > $1 OR (principal = $1 AND id > $2) \
    ORDER BY principal, id LIMIT $3";
const INSERT: &str = "INSERT INTO requests (principal, id, digest, resource, expires_at) VALUES ($1, $2, $3, $4, $5)";
const FORGET: &str = "DELETE FROM requests WHERE expires_at <= $1";

pub(super) async fn read(
    session: &mut Session,
    principal: &str,
    id: RequestId,
    now: Timestamp,
) -> Result<Option<RequestRecord>, StoreError> {
    let query = query(READ).bind(principal.to_owned()).bind(id.to_string()).bind(now.0);
    let row = query.fetch_optional(session).await.map_err(fault)?;
    row.as_ref().map(decode).transpose()
}

/// All of them, also those that have expired.
pub(super) async fn page(
    session: &mut Session,
    after: Option<(&str, RequestId)>,
    limit: u32,
) -> Result<Vec<RequestRecord>, StoreError> {
    // No principal is empty.
    let (principal, id) = after.map_or(("", String::new()), |(principal, id)| (principal, id.to_string()));
    let query = query(PAGE).bind(principal).bind(id).bind(i64::from(limit));
    query.fetch_all(session).await.map_err(fault)?.iter().map(decode).collect()
}

/// Remembers a request. One that is there already was made by the same caller at the same time.
pub(super) async fn insert(session: &mut Session, request: &RequestRecord) -> Result<(), Failure> {
    let query = query(INSERT)
        .bind(request.principal.clone())
        .bind(request.id.to_string())
        .bind(request.digest.to_vec())
        .bind(request.resource.clone())
        .bind(request.expires.0);
    write_one(session, query).await.map_err(exists_is_conflict)
}

pub(super) async fn forget(session: &mut Session, now: Timestamp) -> Result<u64, StoreError> {
    query(FORGET).bind(now.0).execute(session).await.map_err(fault)
}

fn decode(row: &Record) -> Result<RequestRecord, StoreError> {
    let columns = Columns::of(TABLE, row);
    Ok(RequestRecord {
        principal: columns.text("principal")?.to_owned(),
        id: columns.parsed("id")?,
        digest: columns.array("digest")?,
        resource: columns.text("resource")?.to_owned(),
        expires: columns.time("expires_at")?,
    })
}
