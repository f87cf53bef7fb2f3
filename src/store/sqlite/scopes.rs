//! Every row of a scope, as its head counts them.

use sqlx::{SqliteConnection, SqlitePool, sqlite::SqliteRow};
use strongroom_hsm::Seal;

use super::{columns::Columns, error::fault, heads};
use crate::{
    model::{RowId, RowKind},
    store::{HeadScope, ScopeRows, StoreError},
};

/// One table's part of a scope: an id, a revision and a seal for each row.
struct Part {
    table: &'static str,
    kind: RowKind,
    read: &'static str,
}

const SERVICE: [Part; 7] = [
    Part { table: "instance", kind: RowKind::Instance, read: "SELECT id, revision, seal FROM instance" },
    Part { table: "vaults", kind: RowKind::Vault, read: "SELECT id, revision, seal FROM vaults" },
    Part {
        table: "role_assignments",
        kind: RowKind::Assignment,
        read: "SELECT id, revision, seal FROM role_assignments",
    },
    Part { table: "tokens", kind: RowKind::Token, read: "SELECT id, revision, seal FROM tokens" },
    Part { table: "issuer_keys", kind: RowKind::IssuerKey, read: "SELECT id, revision, seal FROM issuer_keys" },
    Part {
        table: "role_definitions",
        kind: RowKind::RoleDefinition,
        read: "SELECT id, revision, seal FROM role_definitions",
    },
    Part {
        table: "access_policies",
        kind: RowKind::AccessPolicy,
        read: "SELECT id, revision, seal FROM access_policies",
    },
];

const VAULT: [Part; 3] = [
    Part { table: "keys", kind: RowKind::Key, read: "SELECT id, revision, seal FROM keys WHERE vault_id = ?1" },
    Part {
        table: "versions",
        kind: RowKind::Version,
        read: "SELECT id, revision, seal FROM versions WHERE vault_id = ?1",
    },
    Part {
        table: "usage",
        kind: RowKind::Usage,
        read: "SELECT version AS id, revision, seal FROM usage WHERE vault_id = ?1",
    },
];

/// What must be answered from an index.
#[cfg(test)]
pub(super) const STATEMENTS: [&str; 3] = [VAULT[0].read, VAULT[1].read, VAULT[2].read];

/// Reads a scope and its head at one moment: one read transaction, which sees one state of the file.
pub(super) async fn read(pool: &SqlitePool, scope: HeadScope) -> Result<ScopeRows, StoreError> {
    let mut transaction = pool.begin().await.map_err(fault)?;
    let head = heads::by_scope(&mut *transaction, scope).await?;
    let mut rows = Vec::new();
    let parts = if scope == HeadScope::Service { SERVICE.as_slice() } else { VAULT.as_slice() };
    for part in parts {
        read_part(&mut transaction, part, scope, &mut rows).await?;
    }
    transaction.rollback().await.map_err(fault)?;
    Ok(ScopeRows { head, rows })
}

async fn read_part(
    connection: &mut SqliteConnection,
    part: &Part,
    scope: HeadScope,
    rows: &mut Vec<(RowId, u64, Seal)>,
) -> Result<(), StoreError> {
    let mut query = sqlx::query(part.read);
    if let HeadScope::Vault(id) = scope {
        query = query.bind(id.to_vec());
    }
    for row in query.fetch_all(connection).await.map_err(fault)? {
        rows.push(decode(part, &row)?);
    }
    Ok(())
}

fn decode(part: &Part, row: &SqliteRow) -> Result<(RowId, u64, Seal), StoreError> {
    let columns = Columns::of(part.table, row);
    Ok((RowId { kind: part.kind, id: columns.array("id")? }, columns.revision()?, columns.seal()?))
}
