//! The loop of an exporter: look, deliver, move the cursor; after a failure wait, and deliver the same again.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Exporter, Source,
    backoff::Backoff,
    cursor::Cursor,
    error::DeliveryError,
    sink::{Delivered, Sink},
    source::{Batch, TakeError},
};
use crate::observe::metrics::{EXPORT_LAG, EXPORTS};

/// How often an exporter that has delivered everything looks for more.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often the cursor is kept while there is more to deliver: so much may come twice after a crash.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// How long a delivery that is under way may still take at the end.
const GRACE: Duration = Duration::from_millis(500);

/// Exports until `stop`, or until the log is gone.
pub async fn run(exporter: Exporter, source: Source, stop: CancellationToken) {
    let exporter = Arc::new(exporter);
    let mut backoff = Backoff::default();
    let cursor = loop {
        let (source, named) = (source.clone(), Arc::clone(&exporter));
        match blocking(move || source.cursor(&named)).await {
            Some(Ok(cursor)) => break cursor,
            Some(Err(error)) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(exporter = exporter.name, %error, cause, "an exporter does not know where it was");
            }
            None => return,
        }
        if is_stopped(&stop, backoff.next(None)).await {
            return;
        }
    };
    tracing::info!(exporter = exporter.name, next = cursor.next(), "exporting: {}", exporter.describe_for_log());
    let sink = Sink::new(&exporter, &source);
    let records_max = exporter.records_max;
    let mut follower =
        Follower { exporter, source, sink, cursor, saved: Instant::now(), kept: true, records_max, backoff };
    while let Some(wait) = follower.step(&stop).await {
        if is_stopped(&stop, wait).await {
            break;
        }
    }
    follower.save().await;
}

struct Follower {
    exporter: Arc<Exporter>,
    source: Source,
    sink: Sink,
    cursor: Cursor,
    saved: Instant,
    /// Whether the cursor on the disk is the one in memory.
    kept: bool,
    /// At most so many at once: fewer after a receiver has said that it was too much.
    records_max: usize,
    backoff: Backoff,
}

impl Follower {
    /// Delivers a batch, if there is one. Answers how long to wait then; `None` is the end.
    async fn step(&mut self, stop: &CancellationToken) -> Option<Duration> {
        let size = self.source.readable()?;
        // Far fewer than 2^52.
        metrics::gauge!(EXPORT_LAG, "exporter" => self.exporter.name.clone())
            .set(size.saturating_sub(self.cursor.next()) as f64);
        if self.cursor.next() >= size {
            self.save().await;
            return Some(LOOK_EVERY);
        }
        let (source, from) = (self.source.clone(), self.cursor.next());
        let (records_max, form) = (self.records_max, self.exporter.form());
        let batch = match blocking(move || source.take(from, size, records_max, form)).await? {
            Ok(batch) => batch,
            Err(error) => return Some(self.unread(from, &error)),
        };
        self.note_gap(&batch);
        tokio::select! {
            delivered = self.deliver(&batch) => Some(self.delivered(&batch, delivered).await),
            () = async { stop.cancelled().await; sleep(GRACE).await } => None,
        }
    }

    /// What follows when records cannot be read; answers how long to wait. Once is nothing: a bundle that is not full
    /// yet is replaced by a fuller one at any moment.
    fn unread(&mut self, from: u64, error: &TakeError) -> Duration {
        if !self.backoff.is_fresh() {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            tracing::warn!(exporter = self.exporter.name, from, %error, cause, "records cannot be read for export");
        }
        self.backoff.next(None)
    }

    async fn deliver(&mut self, batch: &Batch) -> Result<Delivered, DeliveryError> {
        if batch.items.is_empty() {
            return Ok(Delivered::default());
        }
        let within = self.exporter.within;
        let delivered = timeout(within, self.sink.deliver(batch, &self.source)).await;
        delivered.unwrap_or(Err(DeliveryError::Late(within)))
    }

    /// What follows from a delivery; answers how long to wait.
    async fn delivered(&mut self, batch: &Batch, delivered: Result<Delivered, DeliveryError>) -> Duration {
        match delivered {
            Ok(Delivered { rejected }) => {
                if rejected > 0 {
                    self.count("rejected", rejected);
                    let exporter = &self.exporter.name;
                    tracing::error!(exporter, rejected, first = batch.first, "a receiver does not want some records");
                }
                if !batch.items.is_empty() {
                    self.count("delivered", 1);
                }
                self.cursor.set(batch.until);
                (self.kept, self.records_max) = (false, self.exporter.records_max);
                self.backoff = Backoff::default();
                if self.saved.elapsed() >= SAVE_EVERY {
                    self.save().await;
                }
                Duration::ZERO
            }
            Err(error) => {
                self.count("failed", 1);
                if error.is_too_long() {
                    self.records_max = usize::try_from((batch.until - batch.first) / 2).unwrap_or(1).max(1);
                }
                let wait = self.backoff.next(error.retry_after());
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                let (exporter, wait_s) = (&self.exporter.name, wait.as_secs_f64());
                let first = batch.first;
                tracing::warn!(exporter, first, %error, cause, wait_s, "records are not exported; they are tried again");
                wait
            }
        }
    }

    /// Says once what is not there any more, and does not look for it again.
    fn note_gap(&mut self, batch: &Batch) {
        if batch.pruned > 0 {
            self.count("gap", 1);
            let (exporter, from) = (&self.exporter.name, self.cursor.next());
            tracing::error!(
                exporter,
                from,
                records = batch.pruned,
                "records were pruned before they were exported: a gap"
            );
            self.cursor.set(batch.first);
            self.kept = false;
        }
    }

    fn count(&self, outcome: &'static str, by: u64) {
        metrics::counter!(EXPORTS, "exporter" => self.exporter.name.clone(), "outcome" => outcome).increment(by);
    }

    /// Keeps the cursor, if it moved. What cannot be kept is tried again at the next occasion.
    async fn save(&mut self) {
        if self.kept {
            return;
        }
        let cursor = self.cursor.clone();
        match blocking(move || cursor.save()).await {
            Some(Ok(())) => (self.kept, self.saved) = (true, Instant::now()),
            Some(Err(error)) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(exporter = self.exporter.name, %error, cause, "records that were exported may be exported again");
            }
            None => {}
        }
    }
}

/// Waits; whether it is the end.
async fn is_stopped(stop: &CancellationToken, wait: Duration) -> bool {
    tokio::select! {
        biased;
        () = stop.cancelled() => true,
        () = sleep(wait) => false,
    }
}

/// Runs what blocks. `None`: it panicked, or the runtime ends.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    spawn_blocking(work).await.ok()
}
