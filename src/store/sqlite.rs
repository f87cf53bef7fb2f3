//! The store in one SQLite file, for a service on one machine.
//!
//! *Durability.* Journal in WAL mode with `synchronous=FULL`: a commit is one fsync of the journal, and
//! it is there after a loss of power as far as the disk honours fsync. The file's folder is synced when
//! the file is made.
//!
//! *Concurrency.* One connection writes, a few others only read (`SQLITE_OPEN_READONLY`). SQLite has one
//! writer anyway; with one connection, waiting for it is a fair queue with a deadline instead of
//! `SQLITE_BUSY`. That error is left for other programs on the same file (a backup), and is waited for
//! and repeated within a bound.
//!
//! *Trust.* Whoever can write the file is an enemy: columns are decoded strictly, what no release writes
//! is [`StoreError::Inconsistent`], and nothing read here is believed before its seal is checked.
//!
//! Its statements are in [`super::sql`]; [`open`] makes and opens the file.

use std::{future, path::Path};

use sqlx::SqlitePool;

use super::{
    SaveError, StoreError,
    sql::{Database, Purpose, Session, SqlStore},
};

mod error;
mod open;
#[cfg(test)]
mod tests;

pub(super) use error::fault;

/// A store in an SQLite file. Clones share it.
pub type SqliteStore = SqlStore<Pools>;

/// The connections to a file.
#[derive(Debug)]
pub struct Pools {
    /// One connection, the only one that writes.
    writer: SqlitePool,
    /// A few that cannot write.
    readers: SqlitePool,
}

impl SqliteStore {
    /// Opens the store in the file at `path`; makes it, with mode 0600, where there is none, and brings
    /// an older schema up to this release's. The folder must exist.
    ///
    /// # Errors
    /// [`StoreError::Schema`] when the file is of a newer release or of another program,
    /// [`StoreError::Open`] when it cannot be opened or made, [`StoreError::Unfinished`] when it is half a copy.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_unfinished(path).await?.finished().await
    }

    /// As [`Self::open`], also a store that is to be filled, or was not filled to the end.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_unfinished(path: &Path) -> Result<Self, StoreError> {
        Ok(Self::of(open::open(path, open::Access::Write).await?))
    }

    /// The schema that this release writes.
    pub const SCHEMA: i64 = open::SCHEMA_VERSION;

    /// What SQLite finds wrong with the file at `path`, which nobody changes meanwhile; nothing of it is written.
    ///
    /// # Errors
    /// When it is no SQLite file, or cannot be read.
    pub async fn faults(path: &Path) -> Result<Vec<String>, StoreError> {
        open::faults(path).await
    }

    /// A new store in a temporary folder, which lives as long as the first of the pair.
    #[cfg(test)]
    pub(crate) async fn temporary() -> (tempfile::TempDir, Self) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Self::open(&folder.path().join("store.db")).await.expect("a new store opens");
        (folder, store)
    }
}

impl Database for Pools {
    async fn session(&self, purpose: Purpose) -> Result<Session, sqlx::Error> {
        match purpose {
            Purpose::Read => Ok(Session::sqlite(self.readers.acquire().await?)),
            Purpose::ReadAtOnce => Ok(Session::sqlite_transaction(self.readers.begin().await?)),
            // SQLite ends a transaction by itself on a full disk or a failed write, which the driver does not
            // notice: `open` has the pool throw such a connection away, so nothing is to be mended here.
            Purpose::Write | Purpose::WriteLoosely => {
                Ok(Session::sqlite_transaction(self.writer.begin_with("BEGIN IMMEDIATE").await?))
            }
        }
    }

    fn is_passing(&self, error: &sqlx::Error) -> bool {
        error::is_busy(error)
    }

    fn kind(&self) -> &'static str {
        "sqlite"
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn announce(&self, _is_urgent: bool) {}

    async fn hint(&self) -> bool {
        future::pending().await
    }

    async fn close(&self) {
        // The writer last: the connection that closes last empties the journal, and a reader cannot.
        self.readers.close().await;
        self.writer.close().await;
    }

    async fn save(&self, path: &Path) -> Result<(), SaveError> {
        open::create(path)?;
        let mut connection = self.readers.acquire().await?;
        let name = path.to_str().ok_or_else(|| std::io::Error::other("the path is not UTF-8"))?;
        // One statement reads all of it at one moment; whoever writes meanwhile does not wait.
        sqlx::query("VACUUM INTO ?").bind(name).execute(&mut *connection).await?;
        Ok(())
    }
}
