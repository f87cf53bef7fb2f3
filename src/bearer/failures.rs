//! How many wrong tokens somebody may send. A wrong one costs a signature check, so whoever sends many is soon
//! told to wait before anything is checked: who comes from elsewhere does not notice, nor who sends a token that
//! was believed before.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use quick_cache::sync::Cache;
use strongroom_hsm::protocol::Moment;

use crate::model::Origin;

/// How many may be wrong at once, and how soon one more may.
const BURST: u32 = 100;
const ONE_MORE_EVERY: Duration = Duration::from_millis(100);
/// Of how many sources that is remembered.
const SOURCES_MAX: usize = 4096;

/// What is left to each source.
pub(super) struct Failures(Cache<Origin, Arc<Mutex<Bucket>>>);

struct Bucket {
    left: u32,
    filled: Moment,
}

impl Bucket {
    fn fill(&mut self, now: Moment) {
        let more = now.since(self.filled).as_millis() / ONE_MORE_EVERY.as_millis();
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        if more > 0 {
            self.left = self.left.saturating_add(more).min(BURST);
            self.filled = now;
        }
    }
}

impl Failures {
    pub(super) fn new() -> Self {
        Self(Cache::new(SOURCES_MAX))
    }

    /// Whether a token from there is checked.
    pub(super) fn allow(&self, from: Origin, now: Moment) -> bool {
        let Some(bucket) = self.0.get(&network(from)) else { return true };
        let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.fill(now);
        bucket.left > 0
    }

    /// A token from there was wrong.
    pub(super) fn note(&self, from: Origin, now: Moment) {
        let new = || Ok::<_, std::convert::Infallible>(Arc::new(Mutex::new(Bucket { left: BURST, filled: now })));
        let Ok(bucket) = self.0.get_or_insert_with(&network(from), new);
        let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.fill(now);
        bucket.left = bucket.left.saturating_sub(1);
    }
}

/// Whoever has an IPv6 address has 2^64 of them.
fn network(from: Origin) -> Origin {
    match from {
        Origin::Address(IpAddr::V6(address)) => {
            Origin::Address(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_sends_many_wrong_tokens_waits_and_others_do_not() {
        let failures = Failures::new();
        let at = |text: &str| Origin::Address(text.parse().expect("an address"));
        let (bad, good, now) = (at("10.0.0.1"), at("10.0.0.2"), Moment::now());
        for _ in 0..BURST {
            assert!(failures.allow(bad, now));
            failures.note(bad, now);
        }
        assert!(!failures.allow(bad, now) && failures.allow(good, now));
        let later = now.after(ONE_MORE_EVERY);
        assert!(failures.allow(bad, later));
        failures.note(bad, later);
        assert!(!failures.allow(bad, later));
    }

    #[test]
    fn an_ipv6_network_is_one_source_and_what_is_remembered_is_bounded() {
        let failures = Failures::new();
        let at = |n: u128| Origin::Address(Ipv6Addr::from_bits(n).into());
        let now = Moment::now();
        for n in 0..u128::from(BURST) {
            failures.note(at((7 << 64) + n), now);
        }
        assert!(!failures.allow(at(7 << 64), now) && failures.allow(at(8 << 64), now));
        for n in 0..20_000 {
            failures.note(at(n << 64), now);
        }
        assert!(failures.0.len() <= SOURCES_MAX);
    }
}
