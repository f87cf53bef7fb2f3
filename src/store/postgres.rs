//! The store in PostgreSQL, for a service on more than one machine. PostgreSQL 13 or newer.
//!
//! *Durability.* Every session sets `synchronous_commit` to `on`, whatever the server's default is: a change that was
//! acknowledged is on the primary's disk, and where `synchronous_standby_names` names standbys it is on theirs too, and
//! outlives a fail-over to one of them. A connection that is lost during COMMIT leaves the change applied or not;
//! nobody repeats it, and the caller is told that it is not known.
//!
//! *Concurrency.* Heads are locked in the order of their ids ([`super::sql`]'s `commit`), so READ COMMITTED is enough
//! and changes of different scopes do not wait for each other. What reads several statements at one moment is
//! REPEATABLE READ. Everything is read from the primary: a standby may be behind.
//!
//! *Fail-over.* Several servers may be named. Whichever takes changes is the primary. When a connection fails, or the
//! server has become a standby, the connections are thrown away and the primary is looked for again. A server that
//! does not answer is taken for gone after [`connections::STATEMENT_TIMEOUT`], so that one behind a broken network holds
//! nobody up for long. Who fails over, and that the old primary stays down, is the matter of whatever runs PostgreSQL.
//!
//! *Connections.* Sessions are set up when they begin and transactions hold locks, so a pooler in between must pool
//! sessions, not transactions or statements.
//!
//! *Trust.* As with the file: columns are decoded strictly and nothing is believed before its seal is checked. Values
//! and passwords are in no message.

use super::{
    SaveError, Store as _, StoreError, copy,
    sql::{Database, Purpose, Session, SqlStore},
    sqlite::SqliteStore,
};

mod connect;
mod connections;
mod error;
mod hints;
mod schema;
mod settings;
mod snapshot;
#[cfg(test)]
pub(super) mod tests;

use connections::Connections;
pub(super) use connections::Lent;
pub(super) use error::{fault, is_told};
use hints::Hints;
pub use settings::{Host, HostError, SchemaName, SchemaNameError, Settings, Tls};
use snapshot::Snapshot;

/// A store in PostgreSQL. Clones share it.
pub type PostgresStore = SqlStore<Primary>;

/// The connections to the primary.
#[derive(Debug)]
pub struct Primary {
    connections: Connections,
    hints: Hints,
}

impl PostgresStore {
    /// Opens the store; makes its schema where there is none, and brings an older one up to this release's.
    ///
    /// # Errors
    /// [`StoreError::Schema`] when the schema is of a newer release that this one cannot share it with, or not ours;
    /// [`StoreError::Unavailable`] when no server takes changes, [`StoreError::Unfinished`] when it is half a copy.
    pub async fn open(settings: Settings) -> Result<Self, StoreError> {
        Self::open_unfinished(settings).await?.finished().await
    }

    /// Whether the schema is there; nothing is made.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when no server takes changes.
    pub async fn is_made(settings: &Settings) -> Result<bool, StoreError> {
        let (_, mut connection) = connect::primary(settings, 0).await.map_err(fault)?;
        schema::is_made(&mut connection, &settings.schema).await
    }

    /// As [`Self::open`], also a store that is to be filled, or was not filled to the end.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_unfinished(settings: Settings) -> Result<Self, StoreError> {
        let (_, connection) = connect::primary(&settings, 0).await.map_err(fault)?;
        schema::bring_up(connection, &settings.schema).await?;
        let connections = Connections::new(settings);
        let hints = Hints::start(&connections);
        Ok(Self::of(Primary { connections, hints }))
    }
}

impl Database for Primary {
    async fn session(&self, purpose: Purpose) -> Result<Session, sqlx::Error> {
        let begin = match purpose {
            Purpose::Read => None,
            Purpose::ReadAtOnce => Some(
                // Scopes can be large; rows that come are progress enough.
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = '60s'",
            ),
            Purpose::Write => Some("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"),
            Purpose::WriteLoosely => {
                Some("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL synchronous_commit = off")
            }
        };
        Ok(Session::postgres(self.connections.lend(begin).await?))
    }

    fn is_passing(&self, error: &sqlx::Error) -> bool {
        error::is_passing(error)
    }

    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn announce(&self, is_urgent: bool) {
        self.hints.announce(is_urgent);
    }

    async fn hint(&self) -> bool {
        self.hints.heard().await
    }

    async fn close(&self) {
        self.hints.stop();
        self.connections.close().await;
    }

    async fn save(&self, path: &std::path::Path) -> Result<(), SaveError> {
        let source = SqlStore::of(Snapshot::take(self.connections.settings()).await?);
        let copied = async {
            let target = SqliteStore::open_unfinished(path).await?;
            let copied = copy::copy(&source, &target, false).await;
            // The last connection empties the journal into the file.
            target.close().await;
            copied.map(drop).map_err(SaveError::from)
        };
        let copied = copied.await;
        source.close().await;
        copied
    }
}
