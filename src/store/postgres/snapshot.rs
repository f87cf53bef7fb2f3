//! The database as it was at one moment, for as long as a copy of it takes: a transaction that is kept open exports its
//! snapshot, and every session reads by that. Nobody is held up by it; PostgreSQL keeps dead rows a little longer.

use std::sync::Mutex;

use super::{
    connections::{Connections, Lent},
    settings::Settings,
};
use crate::store::sql::{Database, Purpose, Session};

/// The holder keeps quiet while the others read.
const HOLD: &str =
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL idle_in_transaction_session_timeout = '6h'";
const READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = '60s'";

/// One who holds, and one who reads.
const CONNECTIONS: u32 = 2;

/// A snapshot.
#[derive(Debug)]
pub(super) struct Snapshot {
    connections: Connections,
    id: String,
    /// While its transaction is open the snapshot can be read by.
    _holder: Mutex<Lent>,
}

impl Snapshot {
    /// Takes one, on connections of its own: those that serve are left alone.
    pub(super) async fn take(settings: &Settings) -> Result<Self, sqlx::Error> {
        let connections = Connections::new(Settings { connections_max: CONNECTIONS, ..settings.clone() });
        let mut holder = connections.lend(Some(HOLD)).await?;
        let id = holder.export().await?;
        Ok(Self { connections, id, _holder: Mutex::new(holder) })
    }
}

impl Database for Snapshot {
    async fn session(&self, purpose: Purpose) -> Result<Session, sqlx::Error> {
        match purpose {
            Purpose::Read | Purpose::ReadAtOnce => {
                let mut lent = self.connections.lend(Some(READ)).await?;
                lent.adopt(&self.id).await?;
                Ok(Session::postgres(lent))
            }
            Purpose::Write | Purpose::WriteLoosely => {
                Err(sqlx::Error::Protocol("a snapshot is not written to".to_owned()))
            }
        }
    }

    fn is_passing(&self, _error: &sqlx::Error) -> bool {
        false
    }

    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn announce(&self, _is_urgent: bool) {}

    async fn hint(&self) -> bool {
        std::future::pending().await
    }

    async fn close(&self) {
        self.connections.close().await;
    }

    async fn save(&self, _path: &std::path::Path) -> Result<(), crate::store::SaveError> {
        Err(sqlx::Error::Protocol("a snapshot is copied row by row".to_owned()).into())
    }
}
