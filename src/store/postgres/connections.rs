//! The connections to the primary: a few that are kept, lent one at a time.
//!
//! The driver's own pool is not used: it knows one server, and returns connections that were left half-way. Here
//! whatever was not ended well is thrown away: a statement that failed on the way, one whose future was dropped, one
//! that did not answer in time. With the first such loss all that are kept are thrown away and the primary is looked
//! for again.

use std::{
    future::Future,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::TryStreamExt as _;
use sqlx::{
    Connection as _, PgConnection, Postgres, Row as _,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
};

use super::{connect, error, settings::Settings};

/// How long one statement may take, and a commit with its standbys: then the server is taken for gone.
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a change or a read waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// The connections. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Connections {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    /// One for each connection that may be lent.
    permits: Arc<Semaphore>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Connected, in no transaction.
    idle: Vec<PgConnection>,
    /// Grows with every loss: what was connected before is not kept.
    generation: u64,
    /// Which server is asked first.
    host: usize,
}

/// A connection, lent until it is dropped.
#[derive(Debug)]
pub(in crate::store) struct Lent {
    connection: Option<PgConnection>,
    from: Connections,
    generation: u64,
    state: State,
    permit: Option<OwnedSemaphorePermit>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It can be kept.
    Idle,
    /// In a transaction in which nothing has failed.
    Open,
    /// In one that can only be rolled back.
    Failed,
    /// In one that is being rolled back in the background.
    Ending,
    /// In the middle of something, or worse.
    Lost,
}

impl Connections {
    pub(super) fn new(settings: Settings) -> Self {
        let permits = Arc::new(Semaphore::new(settings.connections_max as usize));
        Self { shared: Arc::new(Shared { settings, permits, kept: Mutex::default() }) }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// Which server is believed to be the primary.
    pub(super) fn host(&self) -> usize {
        self.kept().host
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lends one that answers, and begins a transaction on it if there are words to begin it with.
    pub(super) async fn lend(&self, begin: Option<&'static str>) -> Result<Lent, sqlx::Error> {
        let permit = Arc::clone(&self.shared.permits).acquire_owned();
        let permit = tokio::time::timeout(ACQUIRE_TIMEOUT, permit).await.map_err(|_| sqlx::Error::PoolTimedOut)?;
        let permit = permit.map_err(|_| sqlx::Error::PoolClosed)?;
        let (connection, generation) = {
            let mut kept = self.kept();
            (kept.idle.pop(), kept.generation)
        };
        let mut lent = Lent { connection, from: self.clone(), generation, state: State::Lost, permit: Some(permit) };
        if lent.connection.is_some() {
            match lent.begin(begin).await {
                Err(error) if error::is_lost(&error) => {}
                result => return result.map(|()| lent),
            }
        }
        lent.connect().await?;
        lent.begin(begin).await?;
        Ok(lent)
    }

    /// After a loss: nothing that is kept is used again, and the next server is asked first.
    fn lose(&self, generation: u64) {
        let mut kept = self.kept();
        if kept.generation == generation {
            kept.generation += 1;
            kept.host = (kept.host + 1) % self.shared.settings.hosts.len().max(1);
            kept.idle.clear();
        }
    }

    /// Has the next ask the server anew, as after a long quiet time.
    #[cfg(test)]
    pub(super) fn close_idle(&self) {
        self.kept().idle.clear();
    }

    /// Lends no more, and ends those that are kept.
    pub(super) async fn close(&self) {
        self.shared.permits.close();
        let idle = {
            let mut kept = self.kept();
            kept.generation += 1;
            mem::take(&mut kept.idle)
        };
        for connection in idle {
            // Whether the server hears of it makes no difference.
            let _ = tokio::time::timeout(Duration::from_secs(1), connection.close()).await;
        }
    }
}

impl Lent {
    /// Gets a new connection to the primary in the place of what there was.
    async fn connect(&mut self) -> Result<(), sqlx::Error> {
        self.connection = None;
        let (host, generation) = {
            let kept = self.from.kept();
            (kept.host, kept.generation)
        };
        let (host, connection) = connect::primary(self.from.settings(), host).await?;
        self.connection = Some(connection);
        self.generation = generation;
        let mut kept = self.from.kept();
        if kept.generation == generation {
            kept.host = host;
        }
        Ok(())
    }

    async fn begin(&mut self, words: Option<&'static str>) -> Result<(), sqlx::Error> {
        self.state = State::Idle;
        match words {
            None => {
                let (before, connection) = self.enter()?;
                let result = within(connection.ping()).await;
                self.leave(before, result)
            }
            Some(words) => {
                self.run(words).await?;
                self.state = State::Open;
                Ok(())
            }
        }
    }

    async fn run(&mut self, words: &'static str) -> Result<(), sqlx::Error> {
        let (before, connection) = self.enter()?;
        let result = within(sqlx::raw_sql(words).execute(connection)).await;
        self.leave(before, result.map(drop))
    }

    /// Reads everything that a statement brings. One whose table a newer release has changed meanwhile is prepared anew.
    pub(in crate::store) async fn fetch_all(
        &mut self,
        query: impl Fn() -> Query<'static, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        match self.fetch_once(query()).await {
            Err(error) if self.state == State::Idle && error::is_stale(&error) => {
                let (before, connection) = self.enter()?;
                let result = within(connection.clear_cached_statements()).await;
                self.leave(before, result)?;
                self.fetch_once(query()).await
            }
            result => result,
        }
    }

    async fn fetch_once(&mut self, query: Query<'static, Postgres, PgArguments>) -> Result<Vec<PgRow>, sqlx::Error> {
        let (before, connection) = self.enter()?;
        let mut rows = query.fetch(connection);
        let mut found = Vec::new();
        // The deadline is for each row: a vault with many keys takes its time, and as long as rows come all is well.
        let result = loop {
            match within(rows.try_next()).await {
                Ok(Some(row)) => found.push(row),
                Ok(None) => break Ok(found),
                Err(error) => break Err(error),
            }
        };
        drop(rows);
        self.leave(before, result)
    }

    pub(in crate::store) async fn execute(
        &mut self,
        query: Query<'static, Postgres, PgArguments>,
    ) -> Result<u64, sqlx::Error> {
        let (before, connection) = self.enter()?;
        let result = within(query.execute(connection)).await;
        self.leave(before, result.map(|done| done.rows_affected()))
    }

    /// The name of what the transaction sees, by which others see the same while it is open.
    pub(super) async fn export(&mut self) -> Result<String, sqlx::Error> {
        let rows = self.fetch_once(sqlx::query("SELECT pg_export_snapshot()")).await?;
        rows.first().ok_or(sqlx::Error::RowNotFound)?.try_get(0)
    }

    /// Has a transaction that has read nothing yet see what another has exported.
    pub(super) async fn adopt(&mut self, snapshot: &str) -> Result<(), sqlx::Error> {
        if !snapshot.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') {
            return Err(sqlx::Error::Protocol("that is not the name of a snapshot".to_owned()));
        }
        let words = sqlx::AssertSqlSafe(format!("SET TRANSACTION SNAPSHOT '{snapshot}'"));
        let (before, connection) = self.enter()?;
        let result = within(sqlx::raw_sql(words).execute(connection)).await;
        self.leave(before, result.map(drop))
    }

    /// Ends the transaction, if there is one: after an error nobody knows whether it was applied.
    pub(in crate::store) async fn commit(mut self) -> Result<(), sqlx::Error> {
        match self.state {
            State::Idle => Ok(()),
            State::Open => {
                self.run("COMMIT").await?;
                self.state = State::Idle;
                Ok(())
            }
            // PostgreSQL would answer COMMIT with a roll-back, and no error.
            State::Failed | State::Ending | State::Lost => {
                Err(sqlx::Error::Protocol("a failed transaction was committed".to_owned()))
            }
        }
    }

    async fn roll_back(mut self) {
        let is_done = self.run("ROLLBACK").await.is_ok();
        self.state = if is_done { State::Idle } else { State::Lost };
    }

    /// Before something is done with the connection. If its future is dropped, the connection stays lost.
    fn enter(&mut self) -> Result<(State, &mut PgConnection), sqlx::Error> {
        let before = mem::replace(&mut self.state, State::Lost);
        match self.connection.as_mut() {
            Some(connection) if before != State::Lost => Ok((before, connection)),
            _ => Err(sqlx::Error::Protocol("a lost connection was used".to_owned())),
        }
    }

    /// After it. What fails otherwise than by a refusal of PostgreSQL's leaves the connection lost.
    fn leave<T>(&mut self, before: State, result: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        match &result {
            Ok(_) => self.state = before,
            Err(error) if before == State::Idle && error::is_stale(error) => self.state = State::Idle,
            Err(error) if error::is_lost(error) => self.from.lose(self.generation),
            Err(_) if before == State::Idle => self.state = State::Idle,
            Err(_) => self.state = State::Failed,
        }
        result
    }

    /// Keeps the connection for the next, unless it is outdated.
    fn keep(&mut self) {
        if self.from.shared.permits.is_closed() {
            return;
        }
        let mut kept = self.from.kept();
        if let Some(connection) = self.connection.take().filter(|_| kept.generation == self.generation) {
            kept.idle.push(connection);
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        match (self.state, Handle::try_current()) {
            (State::Idle, _) => self.keep(),
            // A change that was refused: its transaction is ended in the background, and the connection kept.
            (State::Open | State::Failed, Ok(runtime)) => {
                let rest = Self {
                    connection: self.connection.take(),
                    from: self.from.clone(),
                    generation: self.generation,
                    // Not what it was: a runtime that ends drops this at once, which must not begin again.
                    state: State::Ending,
                    permit: self.permit.take(),
                };
                self.state = State::Lost;
                runtime.spawn(rest.roll_back());
            }
            _ => {}
        }
    }
}

async fn within<T>(action: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    tokio::time::timeout(STATEMENT_TIMEOUT, action).await.unwrap_or_else(|_| Err(error::late()))
}
