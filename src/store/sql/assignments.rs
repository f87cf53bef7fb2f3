//! Role assignments.

use super::{
    columns::{Columns, integer},
    commit::write_one,
    error::{Failure, fault},
    session::{Record, Session, query},
};
use crate::{
    model::{
        AssignmentId, AssignmentRow,
        roles::{role_from_stored, stored_role},
    },
    store::{Sealed, StoreError},
};

const TABLE: &str = "role_assignments";
const ALL: &str = "SELECT * FROM role_assignments ORDER BY id";
const BY_ID: &str = "SELECT * FROM role_assignments WHERE id = $1";
const INSERT: &str = "INSERT INTO role_assignments (id, revision, seal, principal, role, scope, created_at, \
    intent) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
const UPDATE: &str = "UPDATE role_assignments SET revision = $2, seal = $3, principal = $4, role = $5, scope = $6, \
    created_at = $7, intent = $8 WHERE id = $1 AND revision = $2 - 1";
const REMOVE: &str = "DELETE FROM role_assignments WHERE id = $1";

pub(super) async fn all(session: &mut Session) -> Result<Vec<Sealed<AssignmentRow>>, StoreError> {
    query(ALL).fetch_all(session).await.map_err(fault)?.iter().map(decode).collect()
}

pub(super) async fn by_id(
    session: &mut Session,
    id: AssignmentId,
) -> Result<Option<Sealed<AssignmentRow>>, StoreError> {
    let row = query(BY_ID).bind(id.bytes().to_vec()).fetch_optional(session).await.map_err(fault)?;
    row.as_ref().map(decode).transpose()
}

pub(super) async fn write(session: &mut Session, sealed: &Sealed<AssignmentRow>) -> Result<(), Failure> {
    let row = sealed.unchecked();
    let query = session
        .put(row.revision, INSERT, UPDATE)
        .bind(row.id.bytes().to_vec())
        .bind(integer(row.revision, TABLE, "revision")?)
        .bind(sealed.seal().to_vec())
        .bind(row.principal.as_str().to_owned())
        .bind(stored_role(row.role))
        .bind(row.scope.to_string())
        .bind(row.created.0)
        .bind(integer(row.intent, TABLE, "intent")?);
    write_one(session, query).await
}

/// Takes an assignment away; a missing one was taken away by somebody else.
pub(super) async fn remove(session: &mut Session, id: AssignmentId) -> Result<(), Failure> {
    write_one(session, query(REMOVE).bind(id.bytes().to_vec())).await
}

fn decode(row: &Record) -> Result<Sealed<AssignmentRow>, StoreError> {
    let columns = Columns::of(TABLE, row);
    columns.sealed(AssignmentRow {
        id: columns.version("id")?,
        principal: columns.parsed("principal")?,
        role: role_from_stored(columns.text("role")?).ok_or_else(|| columns.wrong("role"))?,
        scope: columns.parsed("scope")?,
        created: columns.time("created_at")?,
        intent: columns.number("intent")?,
        revision: columns.revision()?,
    })
}
