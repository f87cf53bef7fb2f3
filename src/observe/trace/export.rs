//! Sends finished spans to the collector, a batch at a time, and lets nothing wait for it.
//!
//! The queue is bounded: what finds no room is dropped and counted. A batch that is not taken is tried again a few
//! times, while the queue fills; then it is given up. At the end there is a moment for what is left.

use std::time::Duration;

use http::Uri;
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{otlp, span::Span};
use crate::{
    export::{
        backoff::Backoff,
        error::DeliveryError,
        http::HttpSink,
        otlp::{Resource, rejected},
    },
    observe::metrics::TRACE_SPANS,
    outbound::Channel,
};

/// The most spans that wait: about 2 MiB.
pub(super) const QUEUE_MAX: usize = 4096;
/// The most spans of one delivery.
const BATCH_MAX: usize = 512;
/// How long a span waits for others to be sent with it.
const LINGER: Duration = Duration::from_secs(1);
/// How long one delivery may take.
const WITHIN: Duration = Duration::from_secs(10);
/// How often a batch is tried.
const ATTEMPTS_MAX: usize = 4;
/// How long what is left may take at the end.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

/// Where traces are sent, and of which requests.
#[derive(Clone, Debug)]
pub struct Tracing {
    /// Where to, for example `https://collector.example:4318/v1/traces`.
    pub url: Uri,
    /// How it is reached.
    pub channel: Channel,
    /// Which part of the requests is followed, from 0 to 1.
    pub sample_ratio: f64,
    /// Callers' `traceparent` decides, and is the parent.
    pub trust_parent: bool,
}

impl Tracing {
    /// Of what and where to, in words.
    #[must_use]
    pub fn describe(&self) -> String {
        let Self { url, sample_ratio, trust_parent, .. } = self;
        let whose = if *trust_parent { "what callers follow, and of the rest" } else { "of all requests" };
        format!("to {url}: {whose} a part of {sample_ratio}")
    }
}

/// Sends what a tracer takes.
pub struct Export {
    queue: mpsc::Receiver<Span>,
    sink: HttpSink,
    resource: Resource,
    url: Uri,
    /// Whether the newest delivery failed: a collector that is gone is said once.
    failing: bool,
    /// What is being delivered.
    under_way: usize,
}

impl Export {
    pub(super) fn new(tracing: &Tracing, instance: &str, queue: mpsc::Receiver<Span>) -> Self {
        let sink = HttpSink::new(&tracing.url, &tracing.channel, None, WITHIN);
        let (resource, url) = (Resource::new(instance), tracing.url.clone());
        Self { queue, sink, resource, url, failing: false, under_way: 0 }
    }

    /// Sends until `stop`, and then for a moment what is left.
    pub async fn run(mut self, stop: CancellationToken) {
        tracing::info!(url = %self.url, "sending traces");
        let late = async {
            stop.cancelled().await;
            sleep(FLUSH_WITHIN).await;
        };
        tokio::select! {
            () = self.deliver_all(&stop) => {}
            () = late => {}
        }
        count("dropped", self.queue.len() + self.under_way);
    }

    async fn deliver_all(&mut self, stop: &CancellationToken) {
        loop {
            let batch = self.gather(stop).await;
            if batch.is_empty() {
                return;
            }
            self.under_way = batch.len();
            self.deliver(&batch, stop).await;
            self.under_way = 0;
        }
    }

    /// The next batch. Empty at the end.
    async fn gather(&mut self, stop: &CancellationToken) -> Vec<Span> {
        let mut batch = Vec::new();
        tokio::select! {
            biased;
            _ = self.queue.recv_many(&mut batch, BATCH_MAX) => {}
            () = stop.cancelled() => return batch,
        }
        let linger = async {
            loop {
                let room = BATCH_MAX - batch.len();
                if room == 0 || self.queue.recv_many(&mut batch, room).await == 0 {
                    break;
                }
            }
        };
        tokio::select! {
            () = linger => {}
            () = sleep(LINGER) => {}
            () = stop.cancelled() => {}
        }
        batch
    }

    async fn deliver(&mut self, batch: &[Span], stop: &CancellationToken) {
        let body = otlp::request(&self.resource, batch);
        let mut backoff = Backoff::default();
        for attempt in 1..=ATTEMPTS_MAX {
            let answer = timeout(WITHIN, self.sink.post(body.clone(), "")).await;
            let error = match answer.unwrap_or(Err(DeliveryError::Late(WITHIN))) {
                Ok(answer) => return self.taken(batch.len(), &answer),
                Err(error) => error,
            };
            if attempt == ATTEMPTS_MAX || !is_worth_another(&error) || stop.is_cancelled() {
                return self.given_up(batch.len(), &error);
            }
            tokio::select! {
                () = sleep(backoff.next(error.retry_after())) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    fn taken(&mut self, spans: usize, answer: &[u8]) {
        let unwanted = usize::try_from(rejected(answer, "rejectedSpans")).unwrap_or(usize::MAX).min(spans);
        count("exported", spans - unwanted);
        count("rejected", unwanted);
        if std::mem::take(&mut self.failing) {
            tracing::info!(url = %self.url, "traces are taken again");
        }
    }

    fn given_up(&mut self, spans: usize, error: &DeliveryError) {
        count("failed", spans);
        if !std::mem::replace(&mut self.failing, true) {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            tracing::warn!(url = %self.url, %error, cause, "traces are not taken by their collector, and are lost");
        }
    }
}

/// Whether the same may be taken another time (OTLP/HTTP, "Failures").
fn is_worth_another(error: &DeliveryError) -> bool {
    match error {
        DeliveryError::Status { status, .. } => matches!(status, 429 | 502..=504),
        DeliveryError::Late(_) | DeliveryError::Channel(_) => true,
        _ => false,
    }
}

fn count(outcome: &'static str, spans: usize) {
    if spans > 0 {
        metrics::counter!(TRACE_SPANS, "outcome" => outcome).increment(spans as u64);
    }
}
