//! Role definitions.

use std::{fmt::Display, str::FromStr};

use super::{
    columns::{Columns, integer},
    commit::write_one,
    error::{Failure, fault},
    session::{Record, Session, query},
};
use crate::{
    model::{RoleDefinitionRow, RoleId, RolePatterns, access_rows::lines},
    store::{Sealed, StoreError},
};

const TABLE: &str = "role_definitions";
const ALL: &str = "SELECT * FROM role_definitions ORDER BY id";
const INSERT: &str = "INSERT INTO role_definitions (id, revision, seal, folded_name, name, created_at, updated_at, \
    intent, description, actions, not_actions, data_actions, not_data_actions, assignable_scopes) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
const UPDATE: &str = "UPDATE role_definitions SET revision = $2, seal = $3, folded_name = $4, name = $5, \
    created_at = $6, updated_at = $7, intent = $8, description = $9, actions = $10, not_actions = $11, \
    data_actions = $12, not_data_actions = $13, assignable_scopes = $14 WHERE id = $1 AND revision = $2 - 1";
const REMOVE: &str = "DELETE FROM role_definitions WHERE id = $1";

pub(super) async fn all(session: &mut Session) -> Result<Vec<Sealed<RoleDefinitionRow>>, StoreError> {
    query(ALL).fetch_all(session).await.map_err(fault)?.iter().map(decode).collect()
}

pub(super) async fn write(session: &mut Session, sealed: &Sealed<RoleDefinitionRow>) -> Result<(), Failure> {
    let row = sealed.unchecked();
    let [actions, not_actions, data_actions, not_data_actions] = row.lists().map(|list| lines(list));
    let query = session
        .put(row.revision, INSERT, UPDATE)
        .bind(row.id.bytes().to_vec())
        .bind(integer(row.revision, TABLE, "revision")?)
        .bind(sealed.seal().to_vec())
        .bind(row.folded_name())
        .bind(row.name.clone())
        .bind(row.created.0)
        .bind(row.updated.0)
        .bind(integer(row.intent, TABLE, "intent")?)
        .bind(row.description.clone())
        .bind(actions)
        .bind(not_actions)
        .bind(data_actions)
        .bind(not_data_actions)
        .bind(lines(&row.assignable_scopes));
    write_one(session, query).await
}

/// Takes a role away; a missing one was taken away by somebody else.
pub(super) async fn remove(session: &mut Session, id: RoleId) -> Result<(), Failure> {
    write_one(session, query(REMOVE).bind(id.bytes().to_vec())).await
}

/// Items one to a line, each of which shows as it is stored.
fn items<T: FromStr + Display>(columns: &Columns<'_>, column: &'static str) -> Result<Vec<T>, StoreError> {
    let text = columns.text(column)?;
    let read = |line: &str| {
        let item: T = line.parse().map_err(|_| columns.wrong(column))?;
        if item.to_string() == line { Ok(item) } else { Err(columns.wrong(column)) }
    };
    if text.is_empty() { Ok(Vec::new()) } else { text.split('\n').map(read).collect() }
}

fn decode(row: &Record) -> Result<Sealed<RoleDefinitionRow>, StoreError> {
    let columns = Columns::of(TABLE, row);
    let decoded = RoleDefinitionRow {
        id: columns.version("id")?,
        name: columns.text("name")?.to_owned(),
        description: columns.text("description")?.to_owned(),
        patterns: RolePatterns {
            actions: items(&columns, "actions")?,
            not_actions: items(&columns, "not_actions")?,
            data_actions: items(&columns, "data_actions")?,
            not_data_actions: items(&columns, "not_data_actions")?,
        },
        assignable_scopes: items(&columns, "assignable_scopes")?,
        created: columns.time("created_at")?,
        updated: columns.time("updated_at")?,
        intent: columns.number("intent")?,
        revision: columns.revision()?,
    };
    if columns.text("folded_name")? != decoded.folded_name() {
        return Err(columns.wrong("folded_name"));
    }
    decoded.check().map_err(|_| columns.wrong("name"))?;
    columns.sealed(decoded)
}
