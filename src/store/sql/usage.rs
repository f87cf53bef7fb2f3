//! Usage counters of versions.

use super::{
    columns::{Columns, integer},
    commit::write_one,
    error::{Failure, fault},
    session::{Query, Record, Session, query},
};
use crate::{
    model::{UsageRow, VersionId},
    store::{Sealed, StoreError},
};

const TABLE: &str = "usage";
const BY_VERSION: &str = "SELECT * FROM usage WHERE version = $1";
// Without its version nothing is inserted, which is a conflict: the version was purged meanwhile.
const INSERT: &str = "INSERT INTO usage (vault_id, version, revision, seal, encryptions, uses) \
    SELECT vault_id, $1, $2, $3, $4, $5 FROM versions WHERE id = $1";
const UPDATE: &str = "UPDATE usage SET revision = $2, seal = $3, encryptions = $4, uses = $5 \
    WHERE version = $1 AND revision = $2 - 1";
const MOVE: &str = "UPDATE usage SET revision = $2, seal = $3, encryptions = $4, uses = $5, \
    vault_id = (SELECT vault_id FROM versions WHERE id = $1) WHERE version = $1 AND revision = $2 - 1";
const REMOVE: &str = "DELETE FROM usage WHERE version = $1";

/// What must be answered from an index.
#[cfg(test)]
pub(super) const STATEMENTS: [&str; 5] = [BY_VERSION, INSERT, UPDATE, MOVE, REMOVE];

pub(super) async fn by_version(
    session: &mut Session,
    version: VersionId,
) -> Result<Option<Sealed<UsageRow>>, StoreError> {
    let query = query(BY_VERSION).bind(version.bytes().to_vec());
    let row = query.fetch_optional(session).await.map_err(fault)?;
    row.as_ref().map(decode).transpose()
}

pub(super) async fn write(session: &mut Session, sealed: &Sealed<UsageRow>) -> Result<(), Failure> {
    let statement = session.put(sealed.unchecked().revision, INSERT, UPDATE);
    write_by(session, statement, sealed).await
}

/// Writes the counter of a version that the same transaction has moved to another vault.
pub(super) async fn write_moved(session: &mut Session, sealed: &Sealed<UsageRow>) -> Result<(), Failure> {
    write_by(session, query(MOVE), sealed).await
}

async fn write_by(session: &mut Session, statement: Query, sealed: &Sealed<UsageRow>) -> Result<(), Failure> {
    let row = sealed.unchecked();
    let query = statement
        .bind(row.version.bytes().to_vec())
        .bind(integer(row.revision, TABLE, "revision")?)
        .bind(sealed.seal().to_vec())
        .bind(integer(row.encryptions, TABLE, "encryptions")?)
        .bind(integer(row.uses, TABLE, "uses")?);
    write_one(session, query).await
}

/// Takes a version's counter away.
pub(super) async fn remove(session: &mut Session, version: VersionId) -> Result<(), Failure> {
    write_one(session, query(REMOVE).bind(version.bytes().to_vec())).await
}

fn decode(row: &Record) -> Result<Sealed<UsageRow>, StoreError> {
    let columns = Columns::of(TABLE, row);
    columns.sealed(UsageRow {
        version: columns.version("version")?,
        encryptions: columns.number("encryptions")?,
        uses: columns.number("uses")?,
        revision: columns.revision()?,
    })
}
