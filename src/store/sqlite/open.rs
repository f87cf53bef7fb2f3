//! Making and opening the file, and bringing its schema up to this release's.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    time::Duration,
};

use sqlx::{
    ConnectOptions as _, Connection as _, Row as _, SqlitePool,
    migrate::{MigrateError, Migrator},
    pool::PoolOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::Pools;
use crate::store::StoreError;

/// How long one statement waits for another program's lock on the file.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a change or a read waits for a connection; then the store is not available.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// How many read at once. The hot path reads no database, so a few are enough.
const READERS_MAX: u32 = 4;
/// Prepared statements that a connection keeps: all of ours.
const STATEMENTS_MAX: usize = 128;

/// What migrations say they are for (`PRAGMA application_id`): 'Strm'.
const APPLICATION_ID: i64 = 0x5374_726d;
/// The schema this release writes.
pub(super) const SCHEMA_VERSION: i64 = 9;
/// The schemas this release can open.
const READS: &str = "1 to 8";

pub(super) static MIGRATOR: Migrator = sqlx::migrate!("src/store/sqlite/migrations");

/// What the one writing connection may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Everything.
    Write,
    /// Nothing: as SQLite itself opens a file that this process may only read.
    #[cfg(test)]
    Read,
}

pub(super) async fn open(path: &Path, access: Access) -> Result<Pools, StoreError> {
    let failed = |source| StoreError::Open { path: path.display().to_string(), source };
    create(path).map_err(|error| failed(error.into()))?;
    let options = options(path);
    let writing = match access {
        // WAL is a property of the file and stays with it; a connection that only reads cannot set it.
        Access::Write => options.clone().journal_mode(SqliteJournalMode::Wal),
        #[cfg(test)]
        Access::Read => options.clone().read_only(true),
    };
    let writer = pool(1).connect_with(writing).await.map_err(failed)?;
    let readers = pool(READERS_MAX).connect_lazy_with(options.read_only(true));
    if let Err(error) = migrate(&writer, path).await {
        writer.close().await;
        return Err(error);
    }
    Ok(Pools { writer, readers })
}

/// Makes the file, empty and for its owner only, before SQLite sees it; SQLite gives its journal the
/// same mode. A file that exists keeps the mode that it has.
pub(super) fn create(path: &Path) -> io::Result<()> {
    match fs::File::options().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => file.sync_all()?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if fs::metadata(path)?.mode() & 0o077 != 0 {
                tracing::warn!(path = %path.display(), "the store's file is open to others than its owner");
            }
        }
        Err(error) => return Err(error),
    }
    // SQLite syncs the folder for its journals, but not for a main file that it found. Also when the
    // file was there: whoever made it may have been killed just before this.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(folder)?.sync_all()
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .statement_cache_capacity(STATEMENTS_MAX)
        // A scope of 2,000 rows is read in 2 ms; with the driver's 50 the two threads wake each other 12 ms long.
        .row_buffer_size(1024)
        // The file is an enemy's until its seals are checked (https://sqlite.org/security.html).
        .pragma("trusted_schema", "OFF")
        .pragma("cell_size_check", "ON")
        .pragma("mmap_size", "0")
        // A purged blob is overwritten and not only forgotten, and nothing of it goes to other files.
        .pragma("secure_delete", "ON")
        .pragma("temp_store", "MEMORY")
        // After a burst the journal shrinks to this again: 64 MiB.
        .pragma("journal_size_limit", "67108864")
        // Our own spans say what is slow; values never belong in a log.
        .disable_statement_logging()
}

fn pool(connections_max: u32) -> PoolOptions<sqlx::Sqlite> {
    SqlitePoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        // On a full disk or a failed write SQLite rolls back by itself; the driver's own rollback then
        // fails, and it would count a transaction as open for ever. Such a connection is thrown away.
        // The ping before this hook has waited for every rollback that was still queued.
        .test_before_acquire(true)
        .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
}

/// What `PRAGMA integrity_check` says, but for `ok`.
pub(super) async fn faults(path: &Path) -> Result<Vec<String>, StoreError> {
    let failed = |source| StoreError::Open { path: path.display().to_string(), source };
    // Nobody changes it: no lock is taken, and no journal is made beside it.
    let mut connection = options(path).read_only(true).immutable(true).connect().await.map_err(failed)?;
    let checked = sqlx::query("PRAGMA integrity_check(10)").fetch_all(&mut connection).await;
    let checked = checked.and_then(|rows| rows.iter().map(|row| row.try_get::<String, _>(0)).collect());
    // Whether it is closed in order makes no difference.
    let _ = connection.close().await;
    let found: Vec<String> = checked.map_err(failed)?;
    Ok(found.into_iter().filter(|fault| fault != "ok").collect())
}

async fn migrate(writer: &SqlitePool, path: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::Open { path: path.display().to_string(), source };
    check(writer).await.map_err(failed)??;
    MIGRATOR.run(writer).await.map_err(|error| match error {
        MigrateError::VersionMissing(found)
        | MigrateError::VersionMismatch(found)
        | MigrateError::VersionTooNew(found, _)
        | MigrateError::VersionTooOld(found, _)
        | MigrateError::Dirty(found) => StoreError::Schema { found, reads: READS },
        MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) => failed(source),
        other => failed(other.into()),
    })?;
    check(writer).await.map_err(failed)?
}

/// Refuses a file of a newer schema or of another program, before anything is written into it.
async fn check(writer: &SqlitePool) -> Result<Result<(), StoreError>, sqlx::Error> {
    let version: i64 = sqlx::query("PRAGMA user_version").fetch_one(writer).await?.try_get(0)?;
    let application: i64 = sqlx::query("PRAGMA application_id").fetch_one(writer).await?.try_get(0)?;
    // The migrator makes its own table before the first migration: a kill in between leaves just that.
    let foreign = sqlx::query("SELECT 1 FROM sqlite_schema WHERE tbl_name <> '_sqlx_migrations' LIMIT 1");
    let is_new = version == 0 && application == 0 && foreign.fetch_optional(writer).await?.is_none();
    let is_ours = application == APPLICATION_ID && (1..=SCHEMA_VERSION).contains(&version);
    Ok(if is_new || is_ours { Ok(()) } else { Err(StoreError::Schema { found: version, reads: READS }) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{NetworkRules, VaultAuthorization},
        store::{Store as _, sqlite::SqliteStore},
    };

    #[test]
    fn the_newest_migration_is_the_schema_of_this_release() {
        assert_eq!(MIGRATOR.iter().map(|migration| migration.version).max(), Some(SCHEMA_VERSION));
    }

    #[tokio::test]
    async fn a_vault_of_the_first_schema_is_open_as_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store.db");
        create(&path).expect("made");
        let writer = pool(1).connect_with(options(&path)).await.expect("opens");
        let first = Migrator::with_migrations(MIGRATOR.iter().take(1).cloned().collect());
        first.run(&writer).await.expect("schema 1");
        let insert = "INSERT INTO vaults (id, revision, seal, name, retention_days, purge_protection, created_at, \
            updated_at, intent, tags, padding_decryption_allowed) \
            VALUES (x'01010101010101010101010101010101', 1, zeroblob(32), 'dev', 90, 0, 1, 1, 7, '{}', 0)";
        sqlx::raw_sql(insert).execute(&writer).await.expect("a vault");
        writer.close().await;
        let store = SqliteStore::open(&path).await.expect("opens");
        let vault = store.vault(&"dev".parse().expect("a name")).await.expect("read").expect("is there");
        let row = vault.unchecked();
        assert_eq!((&row.network, row.authorization), (&NetworkRules::default(), VaultAuthorization::Roles));
    }
}
