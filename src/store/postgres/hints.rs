//! Hints: LISTEN and NOTIFY between those who share the database.
//!
//! A change is announced *after* it was committed and not in its transaction, as NOTIFY would have it: PostgreSQL lets
//! only one transaction at a time commit with a notification in it, and holds the others up until it is on the disk,
//! and on the standbys' disks. One standby that hangs would so stop every change and every sign of life in the
//! database. What is announced afterwards may be lost in a crash, and is then heard of at the next look.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::{
    Executor as _, PgPool,
    postgres::{PgListener, PgPoolOptions},
};
use tokio::{sync::Notify, task::AbortHandle};
use uuid::Uuid;

use super::{connect, connections::Connections, error};

/// A connection over which nothing came for so long is asked whether it is still there.
const QUIET_MAX: Duration = Duration::from_secs(3);
/// How long it has for an answer, and a new one to be made.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// Between two tries to listen.
const PAUSE: Duration = Duration::from_millis(500);

/// Both directions. The tasks end with it.
#[derive(Debug)]
pub(super) struct Hints {
    inbound: Arc<Signal>,
    outbound: Arc<Signal>,
    tasks: [AbortHandle; 2],
}

/// Something happened; several times are one.
#[derive(Debug, Default)]
struct Signal {
    notify: Notify,
    is_urgent: AtomicBool,
}

impl Signal {
    fn give(&self, is_urgent: bool) {
        if is_urgent {
            self.is_urgent.store(true, Ordering::Release);
        }
        self.notify.notify_one();
    }

    async fn take(&self) -> bool {
        self.notify.notified().await;
        self.is_urgent.swap(false, Ordering::AcqRel)
    }
}

impl Hints {
    pub(super) fn start(connections: &Connections) -> Self {
        let (inbound, outbound) = (Arc::new(Signal::default()), Arc::new(Signal::default()));
        let channel = format!("strongroom:{}", connections.settings().schema.as_str());
        // What this process announces itself is no news to it.
        let me = Uuid::new_v4().simple().to_string();
        let listening = listen(connections.clone(), Arc::clone(&inbound), channel.clone(), me.clone());
        let announcing = announce(connections.clone(), Arc::clone(&outbound), channel, me);
        let tasks = [tokio::spawn(listening).abort_handle(), tokio::spawn(announcing).abort_handle()];
        Self { inbound, outbound, tasks }
    }

    /// Lets the others know.
    pub(super) fn announce(&self, is_urgent: bool) {
        self.outbound.give(is_urgent);
    }

    /// Waits for one of theirs.
    pub(super) async fn heard(&self) -> bool {
        self.inbound.take().await
    }

    pub(super) fn stop(&self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Drop for Hints {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn announce(connections: Connections, signal: Arc<Signal>, channel: String, me: String) {
    loop {
        let payload = format!("{me} {}", if signal.take().await { "urgent" } else { "plain" });
        let query = sqlx::query("SELECT pg_notify($1, $2)").bind(channel.clone()).bind(payload);
        if let Ok(mut lent) = connections.lend(None).await {
            // A hint that is lost is made up for by looking.
            let _ = lent.execute(query).await;
        }
    }
}

async fn listen(connections: Connections, signal: Arc<Signal>, channel: String, me: String) {
    loop {
        if let Err(error) = listen_once(&connections, &signal, &channel, &me).await {
            tracing::debug!(error = error::said(&error), "does not hear of changes");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Listens until the connection is lost.
async fn listen_once(connections: &Connections, signal: &Signal, channel: &str, me: &str) -> Result<(), sqlx::Error> {
    // Whoever is lent a connection finds the primary.
    connections.lend(None).await?;
    let options = connect::options_of(connections.settings(), connections.host())?;
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(ANSWER_MAX).connect_lazy_with(options);
    let result = follow(&pool, signal, channel, me).await;
    // Not waited for: a server that is gone does not say good-bye.
    tokio::spawn(async move { pool.close().await });
    result
}

async fn follow(pool: &PgPool, signal: &Signal, channel: &str, me: &str) -> Result<(), sqlx::Error> {
    let mut listener = in_time(PgListener::connect_with(pool)).await?;
    listener.ignore_pool_close_event(true);
    listener.eager_reconnect(false);
    in_time(listener.listen(channel)).await?;
    // Something may have come while nobody listened.
    signal.give(true);
    loop {
        match tokio::time::timeout(QUIET_MAX, listener.try_recv()).await {
            Ok(Ok(Some(heard))) => match heard.payload().split_once(' ') {
                Some((who, _)) if who == me => {}
                Some((_, how)) => signal.give(how == "urgent"),
                None => signal.give(false),
            },
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => in_time(async { listener.execute("SELECT 1").await }).await.map(drop)?,
        }
    }
}

async fn in_time<T>(action: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    tokio::time::timeout(ANSWER_MAX, action).await.unwrap_or_else(|_| Err(error::late()))
}
