//! The log key, one that was in its place, and those before (docs/own-keys.md).
//!
//! ```text
//! init ──> one log key ──> the next one is the log key, and the old one is on the token still: each replica's log goes over
//!               ^          from one to the other, the old one saying so in its last signature
//!               └───────── no replica that serves needs the old one: it is destroyed, and its public half is kept
//! ```
//!
//! There is no stage in which the next one is only prepared: each log has one writer, who signs with the next key once his own
//! workers have it.

use serde::{Deserialize, Serialize};
use strongroom_hsm::{KekId, protocol::OtherLog, statement::Canonical};

use super::{rows::InstanceRow, time::Timestamp};

/// Of so many keys that have signed before the public halves are kept.
pub const FORMER_LOG_KEYS_MAX: usize = 32;

/// A log key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogKey {
    /// CKA_ID; none: one of `init` or `recover`.
    pub id: Option<KekId>,
    /// Its SubjectPublicKeyInfo (DER).
    pub public: Vec<u8>,
}

/// A log key whose place another has taken, while logs go over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogChange {
    /// The old one.
    pub old: LogKey,
    /// Since when.
    pub begun: Timestamp,
}

/// What there is of log keys beside the public half of the one that signs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogKeys {
    /// CKA_ID of the one that signs; none: the one of `init`.
    pub id: Option<KekId>,
    /// One whose place it is taking.
    pub change: Option<LogChange>,
    /// Those before, oldest first: they are on no token any more.
    pub former: Vec<LogKey>,
}

impl LogKeys {
    /// What is sealed of it: nothing where no log key was ever replaced.
    ///
    /// # Panics
    /// Never: keys are short.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        if *self == Self::default() {
            return Vec::new();
        }
        let form = |key: &LogKey| {
            let length = u32::try_from(key.public.len()).expect("keys are short").to_be_bytes();
            let id = key.id.as_ref().map_or(&[][..], |id| id.as_slice());
            [&[u8::from(key.id.is_some())], id, &length, &key.public].concat()
        };
        let change = self.change.as_ref();
        Canonical::new("strongroom.logkeys.v1")
            .field(1, self.id.as_ref().map_or(&[][..], |id| id.as_slice()))
            .field(2, &change.map(|change| form(&change.old)).unwrap_or_default())
            .optional_number(3, change.map(|change| change.begun.0))
            .field(4, &self.former.iter().flat_map(form).collect::<Vec<u8>>())
            .finish()
    }

    fn kept(mut former: Vec<LogKey>, more: impl IntoIterator<Item = LogKey>) -> Vec<LogKey> {
        former.extend(more);
        let surplus = former.len().saturating_sub(FORMER_LOG_KEYS_MAX);
        former.drain(..surplus);
        former
    }
}

impl InstanceRow {
    /// The one that signs.
    #[must_use]
    pub fn log_key(&self) -> LogKey {
        LogKey { id: self.log_keys.id, public: self.service_keys.log_public.to_vec() }
    }

    /// One that workers know beside the one that signs.
    #[must_use]
    pub fn other_log(&self) -> Option<Box<OtherLog>> {
        let old = self.log_keys.change.as_ref().map(|change| &change.old);
        old.map(|old| Box::new(OtherLog { id: old.id, public: old.public.clone().into() }))
    }

    /// Every key by which a checkpoint may be signed: the one that signs first, then those before it, newest first.
    pub fn all_log_keys(&self) -> impl Iterator<Item = LogKey> {
        let before = self.log_keys.change.iter().map(|change| &change.old).chain(self.log_keys.former.iter().rev());
        std::iter::once(self.log_key()).chain(before.cloned())
    }

    /// The same instance, with that key in the log key's place.
    #[must_use]
    pub fn signing_by(&self, next: LogKey, now: Timestamp) -> Self {
        let mut row = self.clone();
        row.log_keys.change = Some(LogChange { old: self.log_key(), begun: now });
        row.log_keys.id = next.id;
        row.service_keys.log_public = next.public.into();
        row
    }

    /// The same instance, whose old log key was destroyed.
    #[must_use]
    pub fn without_old_log_key(&self) -> Self {
        let mut row = self.clone();
        let old = row.log_keys.change.take().map(|change| change.old);
        row.log_keys.former = LogKeys::kept(row.log_keys.former, old);
        row
    }

    /// What there is of log keys once a recovery has made one: all those before are on no token any more.
    #[must_use]
    pub fn log_keys_after_recovery(&self) -> LogKeys {
        let change = self.log_keys.change.clone().map(|change| change.old);
        let former = LogKeys::kept(self.log_keys.former.clone(), change.into_iter().chain([self.log_key()]));
        LogKeys { id: None, change: None, former }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract::fixtures::instance;

    fn key(n: u8) -> LogKey {
        LogKey { id: Some([n; 16]), public: vec![n; 44] }
    }

    #[test]
    fn one_takes_the_place_of_another_and_is_one_of_those_before_in_the_end() {
        let first = InstanceRow { log_keys: LogKeys::default(), ..instance() };
        assert_eq!(first.worker_keys().other_log, None);
        let changing = first.signing_by(key(1), Timestamp(5));
        let workers = changing.worker_keys();
        assert_eq!((workers.log_public.as_slice(), workers.log_id), (&[1; 44][..], Some([1; 16])));
        assert_eq!(workers.other_log.map(|other| other.public), Some(first.service_keys.log_public.clone()));
        assert_eq!(changing.service_keys.other_log, None, "it is never stored there");
        let last = changing.without_old_log_key();
        assert_eq!(last.log_keys.former, [first.log_key()]);
        assert_eq!(last.all_log_keys().collect::<Vec<_>>(), [key(1), first.log_key()]);
        let recovered = last.signing_by(key(2), Timestamp(6)).log_keys_after_recovery();
        assert_eq!(recovered.former, [first.log_key(), key(1), key(2)]);
        assert_eq!((recovered.id, recovered.change), (None, None));
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut row = InstanceRow { log_keys: LogKeys::default(), ..instance() };
        for n in 1..60 {
            row = row.signing_by(key(n), Timestamp(i64::from(n))).without_old_log_key();
        }
        assert_eq!(row.log_keys.former.len(), FORMER_LOG_KEYS_MAX);
        assert_eq!(row.log_keys.former.last(), Some(&key(58)));
    }

    #[test]
    fn everything_of_it_is_sealed() {
        let change = |old, begun| Some(LogChange { old, begun: Timestamp(begun) });
        let all = [
            LogKeys::default(),
            LogKeys { id: Some([1; 16]), ..LogKeys::default() },
            LogKeys { change: change(key(1), 0), ..LogKeys::default() },
            LogKeys { change: change(key(1), 1), ..LogKeys::default() },
            LogKeys { change: change(LogKey { id: None, ..key(1) }, 1), ..LogKeys::default() },
            LogKeys { former: vec![key(1)], ..LogKeys::default() },
            LogKeys { former: vec![key(1), key(2)], ..LogKeys::default() },
            LogKeys { former: vec![key(2), key(1)], ..LogKeys::default() },
        ];
        let forms: std::collections::HashSet<_> = all.iter().map(LogKeys::canonical).collect();
        assert_eq!(forms.len(), all.len());
        assert!(forms.contains(&Vec::new()), "nothing, where there is nothing");
    }
}
