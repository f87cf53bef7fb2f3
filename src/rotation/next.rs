//! The life of the version that a rotation makes.

use super::{Due, RotationPolicy, VersionLife};
use crate::model::Timestamp;

/// When a new version begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextVersion {
    /// When it was made, as far as its key's life goes.
    pub created: Timestamp,
    /// From then on it makes nothing new.
    pub expires: Option<Timestamp>,
}

/// When the version begins and ends that takes the place of `current`, for `due`, or because somebody asked for it.
///
/// It is made now, but never before what it is due for, and never before or with the version it follows: a clock that
/// was set back does not put a key's versions out of order. Its expiry is the policy's `expiry_time` from there on.
/// It has no not-before: it is in force at once, also by the clock of a replica that is a little behind.
///
/// All else is as it was: type and size (unless the policy says `next_spec`), operations, tags and residency. It is
/// enabled.
#[must_use]
pub fn next_version(
    policy: Option<&RotationPolicy>,
    current: &VersionLife,
    due: Option<&Due>,
    now: Timestamp,
) -> NextVersion {
    let after_current = Timestamp(current.created.0.saturating_add(1));
    let created = due.map_or(now, |due| due.at.max(now)).max(after_current);
    let expiry_time = policy.and_then(|policy| policy.expiry_time);
    NextVersion { created, expires: expiry_time.map(|life| life.after(created)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rotation::{
        fixtures::{life, policy, rotate_after, time},
        plan,
    };

    #[test]
    fn the_expiry_time_is_for_the_new_version_only() {
        let policy = policy(&[rotate_after("P1M")], Some("P1Y"));
        let life = life("2026-01-01T00:00:00Z", None, Some(policy.clone()));
        let now = time("2026-02-03T04:05:06Z");
        let due = plan(&life, now, now).due[0];
        let next = next_version(Some(&policy), &life.current, Some(&due), now);
        assert_eq!(next, NextVersion { created: now, expires: Some(time("2027-02-03T04:05:06Z")) });
        assert_eq!(life.current.expires, None);
    }

    #[test]
    fn without_an_expiry_time_the_new_version_never_expires() {
        let life = life("2026-01-01T00:00:00Z", Some("2026-03-01T00:00:00Z"), None);
        let now = time("2026-02-03T04:05:06Z");
        for policy in [None, Some(policy(&[rotate_after("P1M")], None))] {
            let next = next_version(policy.as_ref(), &life.current, None, now);
            assert_eq!(next, NextVersion { created: now, expires: None });
        }
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_put_versions_out_of_order() {
        let life = life("2026-01-01T00:00:00Z", None, Some(policy(&[rotate_after("P1M")], None)));
        let back = time("2020-01-01T00:00:00Z");
        let asked_for = next_version(None, &life.current, None, back);
        assert_eq!(asked_for.created, time("2026-01-01T00:00:01Z"));
        let now = time("2026-02-02T00:00:00Z");
        let due = plan(&life, now, now).due[0];
        let planned = next_version(life.policy.as_ref(), &life.current, Some(&due), back);
        assert_eq!(planned.created, time("2026-02-01T00:00:00Z"));
    }
}
