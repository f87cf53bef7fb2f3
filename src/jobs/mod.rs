//! Loops on a schedule. They decide nothing: each calls something else, again and again, until told to
//! stop. A failure is logged and the loop goes on; a job that is late skips what it missed.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use strongroom_hsm::algorithms::Lane;
use tokio::{
    signal::unix::Signal,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    bearer::Bearers,
    export::{self, Exporter},
    model::{Clock as _, SystemClock},
    observe::{
        metrics::{
            AUDIT_CHECKPOINT, AUDIT_FREE_BYTES, AUDIT_INDEXED, AUDIT_RECORDS, AUDIT_USABLE, BREAK_GLASS, READY,
            UPKEEP_EVERY,
        },
        readiness::{self, Board, Readiness},
    },
    service::{Service, root::Pass, rotation::Round},
    webhooks::{self, Webhook},
};

/// How often refusals are written out and old request ids forgotten.
const TIDY_EVERY: Duration = Duration::from_secs(5);
/// How often it is counted what waits for webhooks: every replica counts it all.
const COUNT_EVERY: Duration = Duration::from_secs(15);
/// How often old events are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(60);
/// How often it is looked whether something is left under the retired KEKs of vaults.
const RETIRE_EVERY: Duration = Duration::from_secs(60);
/// How often it is looked whether something is due for a key.
const ROTATE_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether another root is to take the root's place.
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// How often it is kept when versions were last used.
const ACTIVITY_EVERY: Duration = Duration::from_secs(5);
/// How often new records are taken into the index of the audit log.
const INDEX_EVERY: Duration = Duration::from_secs(1);
/// How often readiness is judged.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// The jobs of a service; they end with `stop`.
pub struct Jobs {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Jobs {
    /// No jobs yet.
    #[must_use]
    pub fn new(stop: CancellationToken) -> Self {
        Self { tasks: TaskTracker::new(), stop }
    }

    /// Calls `run` at once and then every so often.
    fn every<F: Future<Output = ()> + Send>(&self, period: Duration, mut run: impl FnMut() -> F + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let mut ticks = interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = ticks.tick() => run().await,
                }
            }
        });
    }

    /// Calls `tick` every so often and `hung_up` at each signal. They may block: each runs on a thread of its own, and
    /// is waited for.
    pub fn reread(
        &self,
        period: Duration,
        mut hangup: Option<Signal>,
        tick: impl Fn() + Send + Sync + 'static,
        hung_up: impl Fn() + Send + Sync + 'static,
    ) {
        let (stop, tick, hung_up) = (self.stop.clone(), Arc::new(tick), Arc::new(hung_up));
        self.tasks.spawn(async move {
            let mut ticks = interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                let looked = tokio::select! {
                    () = stop.cancelled() => return,
                    _ = ticks.tick() => { let tick = Arc::clone(&tick); spawn_blocking(move || tick()) }
                    () = signalled(&mut hangup) => { let hung_up = Arc::clone(&hung_up); spawn_blocking(move || hung_up()) }
                };
                if let Err(error) = looked.await {
                    tracing::error!(%error, "what TLS stands on could not be looked at");
                }
            }
        });
    }

    /// Writes out counted refusals, forgets old request ids and events, and counts who is administrator by break-glass and
    /// what waits for webhooks.
    pub fn tidy(&self, service: &Arc<Service>) {
        self.tidy_events(service);
        let service = Arc::clone(service);
        self.every(TIDY_EVERY, move || {
            let service = Arc::clone(&service);
            async move {
                // Far fewer than 2^52.
                metrics::gauge!(BREAK_GLASS).set(service.broken_glass() as f64);
                if let Err(error) = service.count_replicas().await {
                    tracing::debug!(%error, "replicas could not be counted");
                }
                if let Err(error) = service.tidy().await {
                    tracing::error!(error = %error, "refusals or old request ids could not be tidied up");
                }
            }
        });
    }

    /// Destroys key-encryption keys of vaults that nothing is under any more.
    pub fn retire(&self, service: &Arc<Service>) {
        let service = Arc::clone(service);
        self.every(RETIRE_EVERY, move || {
            let service = Arc::clone(&service);
            async move {
                if let Err(error) = service.destroy_retired_keks().await {
                    tracing::error!(%error, cause = ?error.cause, "retired key-encryption keys could not be looked at");
                }
            }
        });
    }

    fn tidy_events(&self, service: &Arc<Service>) {
        let counting = Arc::clone(service);
        self.every(COUNT_EVERY, move || {
            let service = Arc::clone(&counting);
            async move {
                if let Err(error) = service.count_deliveries().await {
                    tracing::debug!(%error, "deliveries could not be counted");
                }
            }
        });
        let forgetting = Arc::clone(service);
        self.every(FORGET_EVERY, move || {
            let service = Arc::clone(&forgetting);
            async move {
                if let Err(error) = service.forget_events().await {
                    tracing::error!(%error, cause = ?error.cause, "old events could not be forgotten");
                }
            }
        });
    }

    /// Does what is due for keys.
    pub fn rotate(&self, service: &Arc<Service>) {
        let (service, stop) = (Arc::clone(service), self.stop.clone());
        let round = Arc::new(tokio::sync::Mutex::new(Round::default()));
        self.every(ROTATE_EVERY, move || {
            let (service, round, stop) = (Arc::clone(&service), Arc::clone(&round), stop.clone());
            async move {
                if let Err(error) = service.do_what_is_due(&mut *round.lock().await, &stop).await {
                    tracing::error!(%error, cause = ?error.cause, "it is not known what is due for keys");
                }
            }
        });
    }

    /// Hears what other replicas change, and tells them that this one is there, at that address.
    pub fn listen(&self, service: &Arc<Service>, address: String) {
        let (service, stop) = (Arc::clone(service), self.stop.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = service.listen(&address) => {}
            }
        });
    }

    /// Puts the audit log under a checkpoint, every so often.
    pub fn checkpoints(&self, service: &Arc<Service>, period: Duration) {
        let (service, failing) = (Arc::clone(service), Arc::new(AtomicBool::new(false)));
        self.every(period, move || {
            let (service, failing) = (Arc::clone(&service), Arc::clone(&failing));
            async move {
                metrics::gauge!(AUDIT_USABLE).set(if service.log().health().is_ok() { 1.0 } else { 0.0 });
                if let Ok(bytes) = service.log().free_bytes() {
                    metrics::gauge!(AUDIT_FREE_BYTES).set(bytes as f64);
                }
                match service.checkpoint().await {
                    Ok(()) => {
                        // Far fewer than 2^52 of each.
                        metrics::gauge!(AUDIT_RECORDS).set(service.log().signed() as f64);
                        metrics::gauge!(AUDIT_CHECKPOINT).set(SystemClock.now().0 as f64);
                        if failing.swap(false, Ordering::Relaxed) {
                            tracing::info!("the audit log is under a checkpoint again");
                        }
                    }
                    // Once, not every second; the metric goes on telling.
                    Err(error) if !failing.swap(true, Ordering::Relaxed) => {
                        tracing::error!(%error, cause = ?error.cause, "the audit log could not be put under a checkpoint");
                    }
                    Err(_) => {}
                }
            }
        });
    }

    /// Takes new records of the audit log into its index, while there is room for it. Nothing waits for it.
    pub fn index(&self, service: &Arc<Service>) {
        let service = Arc::clone(service);
        self.every(INDEX_EVERY, move || {
            let service = Arc::clone(&service);
            async move {
                // The index is only quicker than the log itself: it leaves to administrators what is kept for them.
                if service.log().is_low_on_room() {
                    return;
                }
                match service.index().feed(service.log().readable()).await {
                    // Far fewer than 2^52.
                    Ok(indexed) => metrics::gauge!(AUDIT_INDEXED).set(indexed as f64),
                    Err(error) => {
                        let cause = std::error::Error::source(&error);
                        tracing::error!(%error, ?cause, "the audit log's index stays behind: searches take longer");
                    }
                }
            }
        });
    }

    /// Judges readiness, puts it on the board and tells `changed` of it.
    pub fn watch<F: Future<Output = ()> + Send + 'static>(
        &self,
        service: &Arc<Service>,
        board: &Board,
        canary_age_max: impl Fn(Lane) -> Duration + Send + Sync + 'static,
        changed: impl Fn(bool) -> F + Send + Sync + 'static,
    ) {
        let (service, board) = (Arc::clone(service), board.clone());
        let shared = Arc::new((canary_age_max, changed));
        self.every(WATCH_EVERY, move || {
            let (service, board, shared) = (Arc::clone(&service), board.clone(), Arc::clone(&shared));
            async move {
                let readiness = readiness::judge(&service, &shared.0).await;
                note(&board, &readiness);
                (shared.1)(readiness.ready).await;
                board.put(readiness);
            }
        });
    }

    /// Sends the audit log where it is to be sent.
    pub fn export(&self, exporters: &[Exporter], service: &Arc<Service>) {
        for exporter in exporters {
            let source = export::Source::new(service.log(), service.instance().id);
            self.tasks.spawn(export::run(exporter.clone(), source, self.stop.clone()));
        }
    }

    /// Tells webhooks of events.
    pub fn deliver(&self, webhooks: &[Webhook], service: &Arc<Service>) {
        for webhook in webhooks {
            self.tasks.spawn(webhooks::run(webhook.clone(), Arc::clone(service), self.stop.clone()));
        }
    }

    /// Goes by the keys of the instance's row; destroys a log key that no log goes by; and has another root take the root's place where one was made for it.
    pub fn renew_root(&self, service: &Arc<Service>) {
        let (service, stop) = (Arc::clone(service), self.stop.clone());
        let pass = Arc::new(tokio::sync::Mutex::new(Pass::default()));
        self.every(RENEW_EVERY, move || {
            let (service, pass, stop) = (Arc::clone(&service), Arc::clone(&pass), stop.clone());
            async move {
                if let Err(error) = service.end_log_change(&stop).await {
                    tracing::error!(%error, cause = ?error.cause, "the logs do not all go by the next log key yet; it is tried again");
                }
                if let Err(error) = service.renew_root(&mut *pass.lock().await, &stop).await {
                    tracing::error!(%error, cause = ?error.cause, "another root is not in the root's place yet; it is tried again");
                }
            }
        });
    }

    /// Keeps when versions were last used.
    pub fn activity(&self, service: &Arc<Service>) {
        let service = Arc::clone(service);
        self.every(ACTIVITY_EVERY, move || {
            let service = Arc::clone(&service);
            async move {
                if let Err(error) = service.keep_activity().await {
                    tracing::warn!(%error, cause = ?error.cause, "the use of keys is noted later");
                }
            }
        });
    }

    /// Folds what histograms have collected.
    pub fn upkeep(&self, metrics: metrics_exporter_prometheus::PrometheusHandle) {
        self.every(UPKEEP_EVERY, move || {
            metrics.run_upkeep();
            async {}
        });
    }

    /// Keeps the keys of issuers fresh.
    pub fn keys(&self, bearers: &Arc<Bearers>) {
        bearers.tend(&self.tasks, &self.stop);
    }

    /// Waits for the jobs to end, after `stop`.
    pub async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Comes at the next signal; never, where none is listened for.
async fn signalled(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            let _ = signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Logs a change of readiness, once.
fn note(board: &Board, readiness: &Readiness) {
    metrics::gauge!(READY).set(if readiness.ready { 1.0 } else { 0.0 });
    let before = board.newest().map(|before| before.ready);
    match (before, readiness.ready) {
        (Some(true), true) | (Some(false), false) => {}
        (_, true) => tracing::info!("ready"),
        (_, false) => {
            let lanes: Vec<&str> = readiness.lanes.iter().filter(|lane| !lane.ready).map(|lane| lane.lane).collect();
            let trouble: Vec<&str> = readiness.lanes.iter().filter_map(|lane| lane.trouble.as_deref()).collect();
            tracing::error!(?lanes, ?trouble, log_and_store = readiness.log_and_store, "not ready");
        }
    }
}
