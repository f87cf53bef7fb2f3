//! Whether the service is ready: the canary has signed lately in every lane, the log takes records, the
//! store answers. Found out once a second by a job ([`watch`](crate::jobs)), read by `/readyz` and the
//! gRPC health service, so that asking costs nothing.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use serde::Serialize;
use strongroom_hsm::pool::LaneHealth;

use crate::service::Service;

/// A judgement older than this is none: whoever judges hangs.
const OLD_AFTER: Duration = Duration::from_secs(10);
/// How long log and store may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// One judgement.
#[derive(Clone, Debug, Serialize)]
pub struct Readiness {
    /// Whether everything is well.
    pub ready: bool,
    /// The lanes, cheapest first.
    pub lanes: Vec<Lane>,
    /// `ok`, or what is the matter.
    pub log_and_store: String,
    /// `true` once the service is being stopped.
    pub stopping: bool,
    #[serde(skip)]
    at: Instant,
}

/// One lane in a judgement.
#[derive(Clone, Debug, Serialize)]
pub struct Lane {
    /// Its name.
    pub lane: &'static str,
    /// Whether it serves and its canary has signed lately.
    pub ready: bool,
    /// Workers that can serve.
    pub workers_ready: usize,
    /// Workers that there should be.
    pub workers_wanted: usize,
    /// How long ago the canary last signed, in the worker for which that is longest ago.
    pub canary_age_ms: Option<u64>,
    /// Calls that wait.
    pub queued: usize,
    /// The newest failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

impl Lane {
    fn of(health: LaneHealth, canary_age_max: Duration) -> Self {
        let fresh = health.canary_age.is_some_and(|age| age <= canary_age_max);
        Self {
            lane: health.lane.name(),
            ready: health.ready > 0 && fresh,
            workers_ready: health.ready,
            workers_wanted: health.wanted,
            canary_age_ms: health.canary_age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            queued: health.queued,
            trouble: health.trouble,
        }
    }
}

/// How old a lane's canary may be: three intervals, and one call of that lane that takes as long as a call
/// may take, since the canary waits behind it.
#[must_use]
pub fn canary_age_max(canary_every: Duration, hang: Duration) -> Duration {
    canary_every * 3 + hang
}

/// Judges now. `canary_age_max` says for each lane how old its canary may be.
pub async fn judge(
    service: &Service,
    canary_age_max: impl Fn(strongroom_hsm::algorithms::Lane) -> Duration,
) -> Readiness {
    let lanes: Vec<Lane> = service
        .lanes()
        .into_iter()
        .map(|health| (canary_age_max(health.lane), health))
        .map(|(max, health)| Lane::of(health, max))
        .collect();
    let log_and_store = match tokio::time::timeout(ANSWER_WITHIN, service.healthy()).await {
        Ok(Ok(())) => "ok".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer in time".to_owned(),
    };
    let ready = log_and_store == "ok" && lanes.iter().all(|lane| lane.ready);
    Readiness { ready, lanes, log_and_store, stopping: false, at: Instant::now() }
}

/// What TLS stands on. It says nothing about being ready: what is in force goes on to serve.
#[derive(Clone, Debug, Serialize)]
pub struct TlsStanding {
    /// When the server's certificate ends.
    pub certificate_expires: String,
    /// When the first revocation list is past its next update.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crl_expires: Option<String>,
    /// Whether the files are what is in force.
    pub files_in_force: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// The newest judgement, shared by those who show it, and what TLS stands on beside it.
#[derive(Clone, Debug, Default)]
pub struct Board {
    newest: Arc<ArcSwapOption<Readiness>>,
    tls: Arc<ArcSwapOption<TlsStanding>>,
}

impl Board {
    /// Puts up a new judgement.
    pub fn put(&self, readiness: Readiness) {
        self.newest.store(Some(Arc::new(readiness)));
    }

    /// The newest one, unless it is old.
    #[must_use]
    pub fn newest(&self) -> Option<Arc<Readiness>> {
        self.newest.load_full().filter(|readiness| readiness.at.elapsed() <= OLD_AFTER)
    }

    /// Puts up what TLS stands on.
    pub fn put_tls(&self, standing: TlsStanding) {
        self.tls.store(Some(Arc::new(standing)));
    }

    /// What TLS stands on.
    #[must_use]
    pub fn tls(&self) -> Option<Arc<TlsStanding>> {
        self.tls.load_full()
    }

    /// Says that the service is being stopped.
    pub fn stop(&self) {
        if let Some(newest) = self.newest.load_full() {
            self.put(Readiness { ready: false, stopping: true, at: Instant::now(), ..(*newest).clone() });
        }
    }
}
