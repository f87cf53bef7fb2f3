//! How new what is in memory is.
//!
//! Where replicas share a store, each hears of what the others change: at once when the store hints at it, and at
//! least [`EVERY`]. What a replica knows is as new as the beginning of its last hearing; a vault says how old that
//! may be (its bound), and from there on nothing of the vault is served from memory. So a change is in force
//! everywhere once every replica has heard of it, and at the latest a bound after it was committed: a replica that
//! is cut off from the store stops by itself. A store that is not shared is always new.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use strongroom_hsm::protocol::Moment;

use crate::store::Position;

/// How long nothing may be heard at most, as long as the store answers.
pub const EVERY: Duration = Duration::from_millis(250);

/// When a process last heard of changes.
#[derive(Debug)]
pub struct Hearing {
    is_shared: bool,
    /// The moment at which the last hearing that was taken in began.
    heard_at: AtomicU64,
    /// Up to where, plus one; 0 before the first.
    position: AtomicU64,
}

impl Hearing {
    /// Nothing was heard yet.
    #[must_use]
    pub const fn new(is_shared: bool) -> Self {
        Self { is_shared, heard_at: AtomicU64::new(0), position: AtomicU64::new(0) }
    }

    /// Whether others change the store.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// Whether what is in memory is no older than that.
    #[must_use]
    pub fn is_within(&self, bound: Duration) -> bool {
        !self.is_shared || self.age() <= bound
    }

    /// How old what is in memory may be.
    #[must_use]
    pub fn age(&self) -> Duration {
        if self.is_shared { Moment::now().since(Moment(self.heard_at.load(Ordering::Acquire))) } else { Duration::ZERO }
    }

    /// Up to where changes were heard.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.position.load(Ordering::Acquire).checked_sub(1).map(Position)
    }

    /// All that was visible at `began` is in memory now.
    pub fn took_in(&self, position: Position, began: Moment) {
        self.position.fetch_max(position.0.saturating_add(1), Ordering::AcqRel);
        self.heard_at.fetch_max(began.0, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_of_ones_own_is_always_new() {
        assert!(Hearing::new(false).is_within(Duration::ZERO));
    }

    #[test]
    fn what_was_heard_ages() {
        let hearing = Hearing::new(true);
        assert!(!hearing.is_within(EVERY) && hearing.position().is_none());
        let now = Moment::now();
        hearing.took_in(Position(0), now);
        assert!(hearing.is_within(Duration::from_secs(3600)));
        assert_eq!(hearing.position(), Some(Position(0)));
        let old = Hearing::new(true);
        old.took_in(Position(7), Moment(now.0 - 2_000_000_000));
        assert!(!old.is_within(EVERY));
        old.took_in(Position(3), Moment(0));
        assert_eq!(old.position(), Some(Position(7)), "nobody hears backwards");
    }
}
