//! The figures of one lane. Label sets are closed: lanes, seats, outcomes and reasons.
//!
//! Handles are taken once, when the pool starts: install the recorder before.

use metrics::{Counter, Gauge, Histogram, Unit};

use crate::{algorithms::Lane, error::Error};

/// The figures of one lane.
pub(super) struct Meter {
    lane: Lane,
    pub(super) queue_wait: Histogram,
    pub(super) queue_length: Gauge,
    pub(super) workers_ready: Gauge,
    pub(super) key_loads: Counter,
    service: Vec<Histogram>,
    outcomes: [Counter; OUTCOMES.len()],
}

const OUTCOMES: [&str; 7] = ["ok", "fault", "overloaded", "expired", "withdrawn", "unavailable", "lost"];

impl Meter {
    /// The handles of a lane with that many seats.
    pub(super) fn new(lane: Lane, seats: usize) -> Self {
        let label = lane.name();
        let service = |seat: usize| metrics::histogram!("strongroom_hsm_service_seconds", "lane" => label, "worker" => seat.to_string());
        Self {
            lane,
            queue_wait: metrics::histogram!("strongroom_hsm_queue_wait_seconds", "lane" => label),
            queue_length: metrics::gauge!("strongroom_hsm_queue_length", "lane" => label),
            workers_ready: metrics::gauge!("strongroom_hsm_workers_ready", "lane" => label),
            key_loads: metrics::counter!("strongroom_hsm_key_loads_total", "lane" => label),
            service: (0..seats).map(service).collect(),
            outcomes: OUTCOMES
                .map(|outcome| metrics::counter!("strongroom_hsm_calls_total", "lane" => label, "outcome" => outcome)),
        }
    }

    /// Records how long the module worked, in nanoseconds as the worker says.
    pub(super) fn service(&self, seat: usize, service_ns: u64) {
        if let Some(histogram) = self.service.get(seat) {
            #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
            histogram.record(service_ns as f64 / 1e9);
        }
    }

    /// Counts the end of a call.
    pub(super) fn outcome(&self, result: Result<(), &Error>) {
        let index = match result {
            Ok(_) => 0,
            Err(Error::Fault(_)) => 1,
            Err(Error::Overloaded { .. }) => 2,
            Err(Error::Expired) => 3,
            Err(Error::Withdrawn) => 4,
            Err(Error::Unavailable(_)) => 5,
            Err(Error::WorkerLost) => 6,
        };
        self.outcomes[index].increment(1);
    }

    /// Counts the replacement of a worker.
    pub(super) fn replaced(&self, reason: &'static str) {
        metrics::counter!("strongroom_hsm_worker_replacements_total", "lane" => self.lane.name(), "reason" => reason)
            .increment(1);
    }
}

/// Tells the recorder what each figure is.
pub(super) fn describe() {
    metrics::describe_histogram!(
        "strongroom_hsm_queue_wait_seconds",
        Unit::Seconds,
        "From the arrival of a call in its lane until it is sent to a worker"
    );
    metrics::describe_histogram!(
        "strongroom_hsm_service_seconds",
        Unit::Seconds,
        "Work of a call in the HSM worker, as the worker measures it"
    );
    metrics::describe_gauge!("strongroom_hsm_queue_length", "Calls waiting in a lane");
    metrics::describe_gauge!("strongroom_hsm_workers_ready", "Workers of a lane that can serve");
    metrics::describe_counter!("strongroom_hsm_worker_replacements_total", "Workers replaced, by reason");
    metrics::describe_counter!("strongroom_hsm_calls_total", "Calls ended, by outcome");
    metrics::describe_counter!("strongroom_hsm_key_loads_total", "Key rows sent to workers");
}
