//! Refusals coalesce, so that a caller without rights cannot fill the log.
//!
//! The first refusal of a key (principal, operation, scope of the resource, reason) is recorded before
//! its answer. Equal ones in the next [`WINDOW`] are counted, and one record stands for all of them when
//! the window ends: the sum of `1 + repeated` over all records is the number of refusals. The death of
//! the process costs the counts of open windows, never a first refusal.
//!
//! Time is handed in. A background task calls [`Refusals::flush`] about once a second.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    Durability, Log, LogError,
    record::{Kind, Record},
};

/// For so long after a first refusal equal ones are only counted.
pub const WINDOW: Duration = Duration::from_secs(10);

/// So many keys are told apart at a time; those beyond are counted together. Whoever can come under many names fills
/// a disk no faster than by so many records a window: 26 a second.
pub const KEYS_MAX: usize = 256;

/// The operation of the record that stands for refusals of many kinds.
pub const OTHERS: &str = "log.refusals";

/// The door's way to record refusals.
#[derive(Debug)]
pub struct Refusals {
    log: Arc<Log>,
    durability: Durability,
    windows: Mutex<Windows>,
}

impl Refusals {
    /// Refusals that are recorded in `log`, as durable as `durability` says.
    #[must_use]
    pub fn new(log: Arc<Log>, durability: Durability) -> Self {
        Self { log, durability, windows: Mutex::default() }
    }

    /// Records a refusal, or counts it. The refusal may be answered when this returns.
    ///
    /// # Errors
    /// As for [`Log::append`]: then there is no answer.
    pub async fn append(&self, now: Instant, record: Record) -> Result<(), LogError> {
        let noted = self.windows().note(now, record);
        match noted.first {
            None => self.log.health(),
            Some(first) => {
                let key = Key::of(&first);
                let appended = self.append_all(now, noted.ended).await;
                let appended = match appended {
                    Ok(()) => self.log.append(first, self.durability).await.map(drop),
                    Err(error) => Err(error),
                };
                appended.inspect_err(|_| self.windows().forget_first(now, &key))
            }
        }
    }

    /// Records what was counted in the windows that have ended.
    ///
    /// # Errors
    /// As for [`Log::append`]. What was not recorded is kept for the next time.
    pub async fn flush(&self, now: Instant) -> Result<(), LogError> {
        let ended = self.windows().take_ended(now);
        self.append_all(now, ended).await
    }

    /// Records what was counted in all windows: before the log is closed.
    ///
    /// # Errors
    /// As for [`Log::append`].
    pub async fn close(&self, now: Instant) -> Result<(), LogError> {
        let all = self.windows().take_ended(now + WINDOW);
        self.append_all(now, all).await
    }

    async fn append_all(&self, now: Instant, records: impl IntoIterator<Item = Record>) -> Result<(), LogError> {
        let mut result = Ok(());
        for record in records {
            if result.is_ok() {
                result = self.log.append(record.clone(), self.durability).await.map(drop);
            }
            if result.is_err() {
                self.windows().put_back(now, record);
            }
        }
        result
    }

    /// The counts are sound at every step, so a panic of another thread spoils nothing.
    fn windows(&self) -> MutexGuard<'_, Windows> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What makes refusals equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Of { principal: Option<String>, operation: String, scope: Option<String>, reason: Option<String> },
    Others,
}

impl Key {
    fn of(record: &Record) -> Self {
        if record.operation == OTHERS {
            return Self::Others;
        }
        Self::Of {
            principal: record.principal.clone(),
            operation: record.operation.clone(),
            scope: record.resource.as_deref().map(|resource| scope(resource).to_owned()),
            reason: record.reason.clone(),
        }
    }
}

/// `vaults/dev` of `vaults/dev/keys/x`: who tries many names in one vault does one thing.
fn scope(resource: &str) -> &str {
    // Ids of other things are chosen anew for each request: `roleAssignments` is one thing.
    let segments = if resource.starts_with("vaults/") { 1 } else { 0 };
    resource.match_indices('/').nth(segments).map_or(resource, |(at, _)| &resource[..at])
}

/// The refusals of one key since the one that was recorded.
#[derive(Debug)]
struct Window {
    ends: Instant,
    counted: u64,
    /// Stands for those that were counted.
    summary: Record,
}

#[derive(Debug)]
struct Noted {
    /// To be recorded first: what was counted in a window that has ended.
    ended: Option<Record>,
    /// To be recorded before the answer; `None` if it was counted.
    first: Option<Record>,
}

#[derive(Debug, Default)]
struct Windows(HashMap<Key, Window>);

impl Windows {
    fn note(&mut self, now: Instant, record: Record) -> Noted {
        let key = self.place(Key::of(&record));
        if let Some(window) = self.0.get_mut(&key).filter(|window| now < window.ends) {
            window.counted += 1;
            window.summary.time = record.time;
            return Noted { ended: None, first: None };
        }
        let summary = summary(&key, &record);
        let old = self.0.insert(key, Window { ends: now + WINDOW, counted: 0, summary });
        Noted { ended: old.and_then(Window::finish), first: Some(record) }
    }

    /// A key that there is no more room for goes with the others.
    fn place(&self, key: Key) -> Key {
        if self.0.len() < KEYS_MAX || self.0.contains_key(&key) { key } else { Key::Others }
    }

    fn take_ended(&mut self, now: Instant) -> Vec<Record> {
        let ended = self.0.extract_if(|_, window| window.ends <= now);
        ended.filter_map(|(_, window)| window.finish()).collect()
    }

    /// The first refusal of a window could not be recorded, so the next one is a first again.
    fn forget_first(&mut self, now: Instant, key: &Key) {
        let key = self.place(key.clone());
        match self.0.get_mut(&key) {
            Some(window) if window.counted > 0 => window.ends = now,
            _ => {
                self.0.remove(&key);
            }
        }
    }

    /// A summary could not be recorded: it is due again at once.
    fn put_back(&mut self, now: Instant, record: Record) {
        let key = self.place(Key::of(&record));
        let counted = record.repeated.saturating_add(1);
        let summary = summary(&key, &record);
        let window = self.0.entry(key).or_insert(Window { ends: now, counted: 0, summary });
        window.counted = window.counted.saturating_add(counted);
    }
}

impl Window {
    /// The record that stands for what was counted; itself one of them.
    fn finish(mut self) -> Option<Record> {
        self.summary.repeated = self.counted.checked_sub(1)?;
        Some(self.summary)
    }
}

/// What equal refusals have in common.
fn summary(key: &Key, record: &Record) -> Record {
    let common = Record {
        resource: record.resource.as_deref().map(|resource| scope(resource).to_owned()),
        source: None,
        request: None,
        version: None,
        repeated: 0,
        ..record.clone()
    };
    match key {
        Key::Of { .. } => common,
        Key::Others => Record {
            kind: Kind::Event,
            operation: OTHERS.to_owned(),
            principal: None,
            resource: None,
            residency: None,
            algorithm: None,
            ran: None,
            reason: Some("others".to_owned()),
            ..common
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::record::Outcome;

    fn refusal(principal: &str, resource: &str) -> Record {
        Record {
            kind: Kind::Operation,
            principal: Some(principal.to_owned()),
            outcome: Outcome::Refused,
            reason: Some("permission".to_owned()),
            request: Some("r".to_owned()),
            ..crate::audit::journal::line::event(7, "keys.sign", resource, None)
        }
    }

    fn total(records: &[Record]) -> u64 {
        records.iter().map(|record| 1 + record.repeated).sum()
    }

    #[test]
    fn the_first_is_recorded_and_equal_ones_are_summed_up() {
        let start = Instant::now();
        let mut windows = Windows::default();
        assert!(windows.note(start, refusal("a", "vaults/dev/keys/x")).first.is_some());
        for _ in 0..5 {
            assert!(windows.note(start + WINDOW / 2, refusal("a", "vaults/dev/keys/y")).first.is_none());
        }
        assert!(windows.note(start, refusal("b", "vaults/dev/keys/x")).first.is_some());
        assert!(windows.note(start, refusal("a", "vaults/other/keys/x")).first.is_some());
        assert_eq!(windows.take_ended(start + WINDOW - Duration::from_nanos(1)), []);
        let ended = windows.take_ended(start + WINDOW);
        assert_eq!(ended.len(), 1);
        assert_eq!(ended[0].repeated, 4);
        assert_eq!(ended[0].resource.as_deref(), Some("vaults/dev"));
        assert_eq!(ended[0].request, None);
        assert!(windows.0.is_empty());
    }

    #[test]
    fn a_refusal_after_the_window_closes_it_and_is_a_first_again() {
        let start = Instant::now();
        let mut windows = Windows::default();
        windows.note(start, refusal("a", "vaults/dev"));
        windows.note(start, refusal("a", "vaults/dev"));
        let noted = windows.note(start + WINDOW, refusal("a", "vaults/dev"));
        assert_eq!(noted.ended.map(|record| record.repeated), Some(0));
        assert!(noted.first.is_some());
    }

    #[test]
    fn keys_without_room_are_counted_together_and_none_is_lost() {
        let start = Instant::now();
        let mut windows = Windows::default();
        let mut records = Vec::new();
        for n in 0..KEYS_MAX + 100 {
            let noted = windows.note(start, refusal(&format!("p{n}"), "vaults/dev"));
            records.extend(noted.first);
        }
        assert_eq!(windows.0.len(), KEYS_MAX + 1);
        assert_eq!(records.len(), KEYS_MAX + 1);
        let ended = windows.take_ended(start + WINDOW);
        assert_eq!(ended.len(), 1);
        assert_eq!((ended[0].operation.as_str(), ended[0].principal.as_deref()), (OTHERS, None));
        records.extend(ended);
        assert_eq!(total(&records), KEYS_MAX as u64 + 100);
    }

    #[test]
    fn what_could_not_be_recorded_is_due_again() {
        let start = Instant::now();
        let mut windows = Windows::default();
        windows.note(start, refusal("a", "vaults/dev"));
        for _ in 0..3 {
            windows.note(start, refusal("a", "vaults/dev"));
        }
        for record in windows.take_ended(start + WINDOW) {
            windows.put_back(start + WINDOW, record);
        }
        assert_eq!(total(&windows.take_ended(start + WINDOW)), 3);
        let first = windows.note(start, refusal("a", "vaults/dev")).first.unwrap();
        windows.forget_first(start, &Key::of(&first));
        assert!(windows.note(start, refusal("a", "vaults/dev")).first.is_some());
    }
}
