//! The schema: made where there is none, brought up to this release's, and refused where it is not ours.
//!
//! Which schemas a release can use is said at the head of `migrations/0001_first.sql`.

use std::time::Duration;

use sqlx::{
    AssertSqlSafe, PgConnection, Row as _,
    migrate::{MigrateError, Migrator},
};

use super::{
    error::{fault, late},
    settings::SchemaName,
};
use crate::store::StoreError;

/// The schema this release writes.
pub(super) const SCHEMA_VERSION: i64 = 5;
/// The schemas this release can open: any newer one that says so, too.
const READS: &str = "1 to 4";
/// How long a start waits for another's migration, and its own may take.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(120);

pub(super) static MIGRATOR: Migrator = sqlx::migrate!("src/store/postgres/migrations");

/// Checks the schema and brings it up to this release's, over a connection that is not used for anything else.
pub(super) async fn bring_up(mut connection: PgConnection, schema: &SchemaName) -> Result<(), StoreError> {
    match tokio::time::timeout(MIGRATION_TIMEOUT, migrate(&mut connection, schema)).await {
        Ok(result) => result,
        Err(_) => Err(fault(late())),
    }
}

async fn migrate(connection: &mut PgConnection, schema: &SchemaName) -> Result<(), StoreError> {
    // Migrations wait for each other, and may take longer than a statement of ours.
    run(connection, "SET statement_timeout = 0; SET lock_timeout = '60s'".to_owned()).await?;
    let found = sqlx::query("SELECT 1 FROM pg_namespace WHERE nspname = $1").bind(schema.as_str().to_owned());
    if found.fetch_optional(&mut *connection).await.map_err(fault)?.is_none() {
        create(connection, schema).await?;
    }
    if check(connection, schema).await? == Found::Newer {
        return count_from_here(connection).await;
    }
    MIGRATOR.run_direct(None, &mut *connection, false).await.map_err(|error| match error {
        MigrateError::VersionMissing(found)
        | MigrateError::VersionMismatch(found)
        | MigrateError::VersionTooNew(found, _)
        | MigrateError::VersionTooOld(found, _)
        | MigrateError::Dirty(found) => StoreError::Schema { found, reads: READS },
        MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) => fault(source),
        other => fault(other.into()),
    })?;
    check(connection, schema).await?;
    count_from_here(connection).await
}

/// Changes stand where their transactions' numbers stand, and those are the server's: in a dump that was loaded into another
/// server they are of the future there, and every replica would hear of them again and again until it has come so far.
async fn count_from_here(connection: &mut PgConnection) -> Result<(), StoreError> {
    let words = "UPDATE heads SET position = pg_current_xact_id()::text::bigint \
        WHERE position > pg_current_xact_id()::text::bigint";
    let done = sqlx::query(words).persistent(false).execute(&mut *connection).await.map_err(fault)?;
    if done.rows_affected() > 0 {
        count_events_from_here(connection).await?;
        tracing::info!(
            scopes = done.rows_affected(),
            "the store comes from another server: its changes are counted anew"
        );
    }
    Ok(())
}

/// Events stand at the beginning then, in their order, and everybody is told of them anew.
async fn count_events_from_here(connection: &mut PgConnection) -> Result<(), StoreError> {
    for words in [
        "DELETE FROM deliveries",
        "UPDATE webhooks SET position = 0, number = 0",
        "UPDATE events_forgotten SET position = 0, number = 0",
        // Where nobody else stands meanwhile.
        "UPDATE events SET position = 0, number = placed.place FROM (SELECT id, \
            (SELECT coalesce(max(number), 0) FROM events WHERE position = 0) \
            + row_number() OVER (ORDER BY position, number) AS place FROM events WHERE position > 0) AS placed \
            WHERE events.id = placed.id",
    ] {
        sqlx::query(words).persistent(false).execute(&mut *connection).await.map_err(fault)?;
    }
    Ok(())
}

/// Makes the schema; a role that may not is told so by PostgreSQL, unless another made it at the same time.
async fn create(connection: &mut PgConnection, schema: &SchemaName) -> Result<(), StoreError> {
    match run(connection, format!("CREATE SCHEMA IF NOT EXISTS {}", schema.as_str())).await {
        // `IF NOT EXISTS` does not see what is made at the same time: a unique index does.
        Err(StoreError::Inconsistent { column: "constraint", .. }) => Ok(()),
        result => result,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// Nothing, or what this release or an older one made.
    Ours,
    /// What a newer release made and this one can use.
    Newer,
}

/// Refuses a schema that is too new, or that holds tables and is not ours, before anything is written into it.
async fn check(connection: &mut PgConnection, schema: &SchemaName) -> Result<Found, StoreError> {
    let refuse = |found| Err(StoreError::Schema { found, reads: READS });
    // The migrator makes its own table before the first migration: a kill in between leaves just that.
    let tables = "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
        WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relname <> '_sqlx_migrations'";
    let rows = sqlx::query(tables).bind(schema.as_str().to_owned()).fetch_all(&mut *connection).await.map_err(fault)?;
    if rows.is_empty() {
        return Ok(Found::Ours);
    }
    let is_ours =
        |row: &sqlx::postgres::PgRow| row.try_get::<String, _>(0).is_ok_and(|name| name == "strongroom_schema");
    if !rows.iter().any(is_ours) {
        return refuse(0);
    }
    let query = sqlx::query("SELECT version, readable_from FROM strongroom_schema").persistent(false);
    let row = query.fetch_optional(connection).await.map_err(fault)?;
    let read = |column: &'static str| {
        let value = row.as_ref().and_then(|row| row.try_get::<i64, _>(column).ok());
        value.ok_or(StoreError::Inconsistent { table: "strongroom_schema", column })
    };
    match (read("version")?, read("readable_from")?) {
        (1..=SCHEMA_VERSION, _) => Ok(Found::Ours),
        (version, readable_from) if version > SCHEMA_VERSION && readable_from <= SCHEMA_VERSION => {
            tracing::info!(version, "the store has a newer schema that this release can use");
            Ok(Found::Newer)
        }
        (version, _) => refuse(version),
    }
}

/// Whether a release has made the schema.
pub(super) async fn is_made(connection: &mut PgConnection, schema: &SchemaName) -> Result<bool, StoreError> {
    let found = sqlx::query("SELECT 1 FROM pg_tables WHERE schemaname = $1 AND tablename = 'strongroom_schema'");
    let row = found.bind(schema.as_str().to_owned()).fetch_optional(connection).await.map_err(fault)?;
    Ok(row.is_some())
}

async fn run(connection: &mut PgConnection, words: String) -> Result<(), StoreError> {
    // Names of schemas need no quotes ([`SchemaName`]); the rest is ours.
    sqlx::raw_sql(AssertSqlSafe(words)).execute(connection).await.map(drop).map_err(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_migration_is_the_schema_of_this_release() {
        assert_eq!(MIGRATOR.iter().map(|migration| migration.version).max(), Some(SCHEMA_VERSION));
    }
}
