//! When what was deleted may be destroyed (P6: nothing is destroyed before its date).
//!
//! Destruction cannot be taken back, so it does not believe one clock. The wall clock can be set by anybody with the
//! right, or by a broken time server. Beside it stands the *trusted* time: the newest time that is on record, and what
//! has passed since by a clock that nobody sets. A deletion takes the later of the two for its beginning, a purge the
//! earlier: whichever clock is wrong, a key stays for as long as it was promised.

use crate::model::{State, Timestamp};

/// A wall clock that is further behind the trusted time went backwards. Less is what time servers and leap seconds do.
pub const CLOCKS_APART_S_MAX: i64 = 60;
/// The state of a key that is deleted now, to be kept for so many days.
#[must_use]
pub fn deleted(now: Timestamp, trusted_now: Timestamp, retention_days: u16) -> State {
    let since = now.max(trusted_now);
    State::Deleted { since, purge_at: since.plus_days(retention_days) }
}

/// What time it is for destruction: the earlier of the two clocks, or none if the wall clock went backwards.
///
/// `trusted_now` is the newest time that is on record and what has passed since by a monotonic clock. A store that is
/// asked for what is to be purged is asked with this time: with the wall clock's, what may not be purged yet would
/// come first for ever.
#[must_use]
pub fn destruction_time(now: Timestamp, trusted_now: Timestamp) -> Option<Timestamp> {
    let behind_s = trusted_now.0.saturating_sub(now.0);
    (behind_s <= CLOCKS_APART_S_MAX).then_some(now.min(trusted_now))
}

/// Whether something that is to be kept until `purge_at` may be destroyed by these clocks.
#[must_use]
pub fn may_purge(purge_at: Timestamp, now: Timestamp, trusted_now: Timestamp) -> bool {
    destruction_time(now, trusted_now).is_some_and(|time| time >= purge_at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp as T;

    #[test]
    fn a_purge_needs_both_clocks() {
        for (now, trusted, may) in [
            (999, 999, false),
            (1_000, 999, false),
            (999, 1_000, false),
            (1_000, 1_000, true),
            (1_000, 2_000, false),
            (1_000, 1_060, true),
            (1_000, 1_061, false),
            (900_000, 1_000, true),
            (900_000, 999, false),
            (i64::MAX, i64::MIN, false),
            (i64::MIN, i64::MAX, false),
        ] {
            assert_eq!(may_purge(T(1_000), T(now), T(trusted)), may, "{now} {trusted}");
        }
    }

    #[test]
    fn a_deletion_counts_from_the_later_clock() {
        for (now, trusted) in [(5, 9), (9, 5), (9, 9)] {
            let kept = State::Deleted { since: T(9), purge_at: T(9 + 7 * 86_400) };
            assert_eq!(deleted(T(now), T(trusted), 7), kept);
        }
    }
}
