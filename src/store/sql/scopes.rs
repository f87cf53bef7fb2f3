//! Every row of a scope, as its head counts them.

use strongroom_hsm::Seal;

use super::{
    columns::Columns,
    error::fault,
    heads,
    session::{Record, Session, query},
};
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

const VAULT: [Part; 6] = [
    Part { table: "keys", kind: RowKind::Key, read: "SELECT id, revision, seal FROM keys WHERE vault_id = $1" },
    Part {
        table: "versions",
        kind: RowKind::Version,
        read: "SELECT id, revision, seal FROM versions WHERE vault_id = $1",
    },
    Part {
        table: "usage",
        kind: RowKind::Usage,
        read: "SELECT version AS id, revision, seal FROM usage WHERE vault_id = $1",
    },
    Part { table: "known", kind: RowKind::Known, read: "SELECT id, revision, seal FROM known WHERE vault_id = $1" },
    Part {
        table: "secrets",
        kind: RowKind::Secret,
        read: "SELECT id, revision, seal FROM secrets WHERE vault_id = $1",
    },
    Part {
        table: "secret_versions",
        kind: RowKind::SecretVersion,
        read: "SELECT id, revision, seal FROM secret_versions WHERE vault_id = $1",
    },
];

/// What must be answered from an index.
#[cfg(test)]
pub(super) const STATEMENTS: [&str; 6] =
    [VAULT[0].read, VAULT[1].read, VAULT[2].read, VAULT[3].read, VAULT[4].read, VAULT[5].read];

/// Reads a scope and its head, in a session that reads all at one moment.
pub(super) async fn read(session: &mut Session, scope: HeadScope) -> Result<ScopeRows, StoreError> {
    let head = heads::by_scope(session, scope).await?;
    let mut rows = Vec::new();
    let parts = if scope == HeadScope::Service { SERVICE.as_slice() } else { VAULT.as_slice() };
    for part in parts {
        read_part(session, part, scope, &mut rows).await?;
    }
    Ok(ScopeRows { head, rows })
}

async fn read_part(
    session: &mut Session,
    part: &Part,
    scope: HeadScope,
    rows: &mut Vec<(RowId, u64, Seal)>,
) -> Result<(), StoreError> {
    let mut query = query(part.read);
    if let HeadScope::Vault(id) = scope {
        query = query.bind(id.to_vec());
    }
    for row in query.fetch_all(session).await.map_err(fault)? {
        rows.push(decode(part, &row)?);
    }
    Ok(())
}

fn decode(part: &Part, row: &Record) -> Result<(RowId, u64, Seal), StoreError> {
    let columns = Columns::of(part.table, row);
    Ok((RowId { kind: part.kind, id: columns.array("id")? }, columns.revision()?, columns.seal()?))
}
