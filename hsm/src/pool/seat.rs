//! A seat of a lane: the place of one worker, and the task that keeps it taken.
//!
//! A lost worker is followed by another, after a pause that grows while starts fail. A worn one (its
//! module has leaked its budget of loads) is followed before it leaves: the successor is started, warmed
//! and enlisted, and the old one finishes what it has. A refused PIN stops all starts of all seats.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{
    select,
    sync::{Mutex, mpsc, watch},
    time::{Instant, sleep},
};

use crate::{
    error::StartError,
    pool::{
        answer::Reason,
        attend::{Attendant, stopped},
        known::Known,
        lane::Lane,
        link::Link,
        log,
        process::Process,
        state::SeatState,
    },
    profile::Profile,
    protocol::{Fault, Ready, Role, ServiceKeys},
    statement::KeyRow,
};

const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A worker that served for so long was healthy: the pauses begin anew.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);
/// After so many failures in a row nobody waits for this seat.
const FAILURES_MAX: u32 = 3;

/// What all seats share.
pub(super) struct Shared {
    pub(super) profile: Profile,
    /// The service's keys, and how often they were replaced: what the next worker starts with.
    keys: watch::Sender<(u64, ServiceKeys)>,
    /// How many workers start or serve with which keys.
    serving: watch::Sender<BTreeMap<u64, usize>>,
    /// Held while a worker starts: one login at a time, so that a refused PIN is tried once.
    gate: Mutex<()>,
    /// True when the PIN was refused: no more starts.
    latch: watch::Sender<bool>,
    /// True when the pool ends.
    pub(super) stop: watch::Sender<bool>,
    /// What the first worker found; every other has to find the same token.
    pub(super) ready: OnceLock<Ready>,
}

impl Shared {
    pub(super) fn new(profile: Profile, service_keys: ServiceKeys) -> Self {
        let (latch, stop) = (watch::Sender::new(false), watch::Sender::new(false));
        let (keys, serving) = (watch::Sender::new((0, service_keys)), watch::Sender::new(BTreeMap::new()));
        Self { profile, keys, serving, gate: Mutex::new(()), latch, stop, ready: OnceLock::new() }
    }

    /// Gives every worker other keys: each is followed by one that has them, as a worn one is. Comes back when none serves
    /// any more that was started with others; a dropped future changes nothing of that.
    pub(super) async fn adopt(&self, service_keys: ServiceKeys) {
        let mut wanted = 0;
        self.keys.send_if_modified(|(epoch, keys)| {
            let is_new = *keys != service_keys;
            if is_new {
                (*epoch, *keys) = (*epoch + 1, service_keys);
            }
            wanted = *epoch;
            is_new
        });
        let mut serving = self.serving.subscribe();
        // The sender lives as long as `self`.
        let _ = serving.wait_for(|serving| serving.keys().all(|epoch| *epoch >= wanted)).await;
    }

    /// Counts a worker that serves, or one that does not any more.
    fn count(&self, epoch: u64, by: Counted) {
        self.serving.send_modify(|serving| {
            let count = serving.entry(epoch).or_insert(0);
            match by {
                Counted::In => *count += 1,
                Counted::Out => *count = count.saturating_sub(1),
            }
            serving.retain(|_, count| *count > 0);
        });
    }

    /// Starts a worker, unless the PIN was refused before.
    pub(super) async fn start(
        self: &Arc<Self>,
        lane: &Lane,
        seat: usize,
        rows: &[Arc<KeyRow>],
    ) -> Result<Worker, StartError> {
        let label = lane.name.name();
        let _one_at_a_time = self.gate.lock().await;
        if self.is_latched() {
            return Err(StartError::Refused { lane: label, source: Fault::PinRefused });
        }
        // Counted from here on: whoever waits until none goes by other keys waits for one that starts with them too.
        let (serving, service_keys) = {
            let keys = self.keys.borrow();
            (Serving::begin(self, keys.0), keys.1.clone())
        };
        let role = Role::Serve(service_keys);
        let started = Process::start(&self.profile, Some(lane.name), seat, role).await;
        if let Err(StartError::Refused { source: Fault::PinRefused, .. }) = &started {
            self.latch();
        }
        let (mut process, ready) = started?;
        if self.ready.get_or_init(|| ready.clone()).serial != ready.serial {
            process.end(Duration::ZERO).await;
            let source = Fault::Setup("the worker found another token than the first one".to_owned());
            return Err(StartError::Refused { lane: label, source });
        }
        process.warm(rows).await?;
        tracing::info!(lane = label, worker = seat, process = process.id(), "HSM worker ready");
        Ok(Worker { process, serving })
    }

    /// Whether a refused PIN stops all starts.
    pub(super) fn is_latched(&self) -> bool {
        *self.latch.borrow()
    }

    pub(super) fn latch(&self) {
        if !self.latch.send_replace(true) {
            tracing::error!("the HSM refused the PIN: no worker is started until an operator clears the latch");
        }
    }

    /// Allows starts again.
    pub(super) fn clear_latch(&self) {
        self.latch.send_replace(false);
    }
}

/// A worker that is ready, and which of the service's keys it was started with.
pub(super) struct Worker {
    process: Process,
    serving: Serving,
}

/// Which way a worker is counted.
#[derive(Clone, Copy)]
enum Counted {
    In,
    Out,
}

/// A worker that starts or serves, as long as this lives: a failure or panic counts it out too.
struct Serving {
    shared: Arc<Shared>,
    epoch: u64,
}

impl Serving {
    fn begin(shared: &Arc<Shared>, epoch: u64) -> Self {
        shared.count(epoch, Counted::In);
        Self { shared: Arc::clone(shared), epoch }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.shared.count(self.epoch, Counted::Out);
    }
}

/// The keeper of one seat.
pub(super) struct Keeper {
    pub(super) shared: Arc<Shared>,
    pub(super) lane: Arc<Lane>,
    pub(super) seat: usize,
    /// Held by every task of the pool, so that a shutdown knows when the last has ended.
    pub(super) alive: mpsc::Sender<()>,
}

impl Keeper {
    /// Keeps the seat taken until the pool ends.
    pub(super) async fn keep(self, first: Worker) {
        let mut worker = first;
        let mut failures = 0;
        loop {
            let since = Instant::now();
            let reason = self.serve(worker).await;
            if since.elapsed() >= HEALTHY_AFTER {
                failures = 0;
            }
            if reason == Reason::Stopped {
                return;
            }
            failures += 1;
            let mut stop = self.shared.stop.subscribe();
            worker = select! {
                worker = self.replace(&mut failures) => worker,
                () = stopped(&mut stop) => return,
            };
        }
    }

    /// Lets a worker serve, and its successors when it is worn. Why the last of them ended.
    async fn serve(&self, mut worker: Worker) -> Reason {
        let mut known = Vec::new();
        let mut worn = None;
        loop {
            let Worker { process, serving } = worker;
            let (link, epoch) = (Arc::clone(process.link()), serving.epoch);
            let generation = self.enlist(&link, &known);
            if let Some(worn) = worn {
                self.lane.drain(worn);
            }
            let mut attending = tokio::spawn(self.attend(generation, process, serving));
            select! {
                ended = &mut attending => return ended.unwrap_or_else(|_| {
                    // The task panicked: its process was killed with it, its calls are still in the lane.
                    self.lane.lose(generation, &Reason::Ended);
                    Reason::Ended
                }),
                (successor, rows) = self.succeed(&link, epoch) => (worker, known) = (successor, rows),
            }
            worn = Some(generation);
        }
    }

    fn enlist(&self, link: &Arc<Link>, loaded: &[Arc<KeyRow>]) -> u64 {
        let mut known = Known::new(self.shared.profile.cached_keys_max);
        for row in loaded {
            known.touch(&row.seal);
        }
        let loads = u64::try_from(loaded.len()).unwrap_or(u64::MAX);
        self.lane.enlist(self.seat, Arc::clone(link), known, loads)
    }

    fn attend(
        &self,
        generation: u64,
        process: Process,
        serving: Serving,
    ) -> impl Future<Output = Reason> + Send + 'static {
        let (lane, shared, alive) = (Arc::clone(&self.lane), Arc::clone(&self.shared), self.alive.clone());
        let attendant = Attendant { lane, generation, seat: self.seat, process, shared };
        async move {
            let reason = attendant.attend().await;
            drop((alive, serving));
            reason
        }
    }

    /// Waits until the worker is worn, or the service has other keys, and starts another, warm. The old one serves on until
    /// that has succeeded, however long it takes.
    async fn succeed(&self, worn: &Link, epoch: u64) -> (Worker, Vec<Arc<KeyRow>>) {
        let mut keys = self.shared.keys.subscribe();
        select! {
            () = worn.worn.notified() => {}
            // The sender lives as long as `shared`.
            _ = keys.wait_for(|(newest, _)| *newest != epoch) => {}
        }
        let mut failures = 0;
        loop {
            self.unlatched().await;
            // Half of the budget at most, or the successor would be worn when it begins.
            let mut rows = self.lane.hot_rows();
            rows.truncate(usize::try_from(self.shared.profile.loads_max / 2).unwrap_or(usize::MAX));
            rows.truncate(self.shared.profile.cached_keys_max);
            match self.shared.start(&self.lane, self.seat, &rows).await {
                Ok(worker) => return (worker, rows),
                Err(error) => drop(self.complain(&error)),
            }
            failures += 1;
            sleep(pause(failures)).await;
        }
    }

    /// Starts another worker in place of one that is gone, however often that takes.
    async fn replace(&self, failures: &mut u32) -> Worker {
        loop {
            let failing = *failures > FAILURES_MAX;
            let state = if failing { SeatState::Failing } else { SeatState::Starting };
            self.lane.seat(self.seat, state, None);
            self.unlatched().await;
            sleep(pause(*failures)).await;
            match self.shared.start(&self.lane, self.seat, &[]).await {
                Ok(worker) => return worker,
                Err(error) => self.lane.seat(self.seat, state, Some(self.complain(&error))),
            }
            *failures = failures.saturating_add(1);
        }
    }

    /// Waits until no refused PIN forbids starts. Meanwhile nobody waits for this seat.
    async fn unlatched(&self) {
        if !self.shared.is_latched() {
            return;
        }
        self.lane.seat(self.seat, SeatState::Failing, Some(Fault::PinRefused.to_string()));
        // The sender lives as long as `shared`.
        let _ = self.shared.latch.subscribe().wait_for(|latched| !latched).await;
    }

    fn complain(&self, error: &StartError) -> String {
        let detail = with_sources(error);
        tracing::warn!(lane = self.lane.name.name(), worker = self.seat, detail, "HSM worker did not start");
        detail
    }
}

/// The pause after that many failures in a row.
fn pause(failures: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1).min(16));
    PAUSE_MIN.saturating_mul(doubled).min(PAUSE_MAX)
}

/// An error with what caused it: `Display` says its own layer only.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    log::printable(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_limit() {
        assert_eq!([1, 2, 3].map(pause), [50, 100, 200].map(Duration::from_millis));
        assert_eq!([8, 100, u32::MAX].map(pause), [PAUSE_MAX; 3]);
    }
}
