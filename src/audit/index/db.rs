//! The file: making and opening it, what it says of the log that it is of, and removing it.

use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _, SqliteConnection, SqlitePool,
    pool::PoolOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{IndexError, RECORDS, write::signed};
use crate::audit::tlog::{
    Hash,
    tile::{self, Tile, WIDTH},
};

/// Its name in the log's folder.
pub(super) const FILE: &str = "index.db";

/// `PRAGMA application_id`: 'Stri'.
const APPLICATION_ID: i64 = 0x5374_7269;
/// `PRAGMA user_version`: of the schema, and of what its columns mean.
const SCHEMA_VERSION: i64 = 1;
const SCHEMA: &str = include_str!("schema.sql");

/// How long one statement waits for another program's lock on the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a search waits for a connection; then it does without the index.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// How many search at once.
const READERS_MAX: u32 = 4;

/// An index that is open.
#[derive(Debug)]
pub(super) struct Db {
    pub(super) writer: SqlitePool,
    pub(super) readers: SqlitePool,
    /// How many records are indexed.
    pub(super) indexed: u64,
    /// The root over the last bundle of them; empty where there is none.
    tile: Vec<u8>,
}

impl Db {
    /// Opens the index of the log with that origin, or begins one.
    ///
    /// # Errors
    /// [`IndexError::is_unfit`] if the file is to be made anew.
    pub(super) async fn open(path: &Path, origin: &str) -> Result<Self, IndexError> {
        create(path)?;
        let options = options(path);
        let writing = options.clone().journal_mode(SqliteJournalMode::Wal);
        let writer = pool(1).connect_with(writing).await?;
        let readers = pool(READERS_MAX).connect_lazy_with(options.read_only(true));
        match prepare(&writer, origin).await {
            Ok((indexed, tile)) => Ok(Self { writer, readers, indexed, tile }),
            Err(error) => {
                writer.close().await;
                Err(error)
            }
        }
    }

    /// Whether what is indexed is the beginning of the log in that folder, of which `readable` can be read. Of the
    /// records themselves only the last are looked at: two logs of one origin that have those in common do not differ
    /// before.
    pub(super) async fn is_of(&self, dir: &Path, readable: u64) -> Result<bool, IndexError> {
        if self.indexed == 0 {
            return Ok(self.tile.is_empty());
        }
        if self.indexed > readable || !self.indexed.is_multiple_of(RECORDS) {
            return Ok(false);
        }
        let (dir, number) = (dir.to_owned(), self.indexed / RECORDS - 1);
        let root = tokio::task::spawn_blocking(move || tile_root(&dir, number)).await??;
        Ok(root.is_some_and(|root| root[..] == self.tile))
    }

    /// Ends all that is open.
    pub(super) async fn close(self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// The root over the records of that bundle; `None` if its tile is not there, or not whole. Blocks.
pub(super) fn tile_root(dir: &Path, number: u64) -> Result<Option<Hash>, IndexError> {
    let path = dir.join(Tile { level: 0, index: number, width: WIDTH }.path());
    match fs::read(&path) {
        Ok(bytes) => Ok(tile::root(&bytes).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(IndexError::Io { what: "read", path, source }),
    }
}

/// Removes the file and its journal. Blocks, for as long as that takes.
pub(super) fn remove(path: &Path) -> Result<(), IndexError> {
    // The journal first: alone it means nothing.
    for suffix in ["-wal", "-shm", ""] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let path = PathBuf::from(name);
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(IndexError::Io { what: "remove", path, source }),
        }
    }
    Ok(())
}

/// Makes the file, empty and for its owner only, before SQLite sees it.
fn create(path: &Path) -> Result<(), IndexError> {
    match fs::File::options().write(true).create_new(true).mode(0o600).open(path) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            Err(IndexError::Io { what: "make", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        // After a loss of power the last passes may be missing, and are made again; but it is whole.
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(BUSY_TIMEOUT)
        .row_buffer_size(1024)
        .pragma("trusted_schema", "OFF")
        .pragma("cell_size_check", "ON")
        .pragma("mmap_size", "0")
        .pragma("temp_store", "MEMORY")
        // 16 MiB of pages: what a pass touches.
        .pragma("cache_size", "-16384")
        // After a burst the journal shrinks to this again: 64 MiB.
        .pragma("journal_size_limit", "67108864")
        .disable_statement_logging()
}

fn pool(connections_max: u32) -> PoolOptions<sqlx::Sqlite> {
    SqlitePoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        // As the store does: SQLite may have ended a transaction that the driver takes for open.
        .test_before_acquire(true)
        .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
}

/// Checks what is there, or makes the tables of a new file. Returns what is indexed.
async fn prepare(writer: &SqlitePool, origin: &str) -> Result<(u64, Vec<u8>), IndexError> {
    let mut connection = writer.acquire().await?;
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let found = (pragma(&mut transaction, "application_id").await?, pragma(&mut transaction, "user_version").await?);
    if found == (0, 0) {
        let tables = sqlx::query("SELECT 1 FROM sqlite_schema LIMIT 1").fetch_optional(&mut *transaction).await?;
        if tables.is_some() {
            return Err(IndexError::Unfit);
        }
        make(&mut transaction, origin).await?;
    } else if found != (APPLICATION_ID, SCHEMA_VERSION) {
        return Err(IndexError::Unfit);
    }
    let meta = sqlx::query("SELECT origin, indexed, tile FROM meta").fetch_one(&mut *transaction).await?;
    transaction.commit().await?;
    if meta.try_get::<String, _>("origin")? != origin {
        return Err(IndexError::Unfit);
    }
    let indexed = u64::try_from(meta.try_get::<i64, _>("indexed")?).map_err(|_| IndexError::Unfit)?;
    Ok((indexed, meta.try_get("tile")?))
}

async fn pragma(connection: &mut SqliteConnection, name: &'static str) -> Result<i64, IndexError> {
    let query = AssertSqlSafe(format!("PRAGMA {name}"));
    Ok(sqlx::query(query).fetch_one(connection).await?.try_get(0)?)
}

async fn make(connection: &mut SqliteConnection, origin: &str) -> Result<(), IndexError> {
    sqlx::raw_sql(SCHEMA).execute(&mut *connection).await?;
    let numbers = format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION}");
    sqlx::raw_sql(AssertSqlSafe(numbers)).execute(&mut *connection).await?;
    let meta = sqlx::query("INSERT INTO meta (id, origin, indexed, tile) VALUES (1, ?1, ?2, x'')");
    meta.bind(origin.to_owned()).bind(signed(0)).execute(connection).await?;
    Ok(())
}
