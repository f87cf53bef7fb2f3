//! What a key will do if nobody touches it and nothing goes wrong.

use std::collections::VecDeque;

use super::{Due, KeyLife, VersionLife, Work, next_version, plan};
use crate::model::{Timestamp, VersionId};

/// The most that is foretold of one key: a policy of one minute does that much in seven hours.
pub const FORECAST_MAX: usize = 1_000;

/// What a key will do. Ends with the time that was asked for, or after [`FORECAST_MAX`].
///
/// Versions that are not made yet are told by [`Forecast::UNMADE`]; that budgets will be spent is not foretold.
#[derive(Clone, Debug)]
pub struct Forecast {
    life: Option<KeyLife>,
    now: Timestamp,
    until: Timestamp,
    due: VecDeque<Due>,
    left: usize,
}

/// What is due for a key from now on until then, both included, by time. What is overdue comes first.
#[must_use]
pub fn forecast(life: &KeyLife, now: Timestamp, until: Timestamp) -> Forecast {
    Forecast { life: Some(life.clone()), now, until, due: VecDeque::new(), left: FORECAST_MAX }
}

impl Forecast {
    /// Stands for a version that is not made yet.
    pub const UNMADE: VersionId = VersionId::from_bytes([0; 16]);

    /// Does as if it were done: a rotation at the moment it begins, the marks of its old version being forgotten.
    fn play(&mut self, due: &Due) {
        let Some(life) = &mut self.life else { return };
        match due.work {
            Work::Rotate { .. } => {
                let next = next_version(life.policy.as_ref(), &life.current, Some(due), self.now);
                life.current = VersionLife {
                    version: Self::UNMADE,
                    created: next.created,
                    expires: next.expires,
                    enabled: true,
                    uses: 0,
                };
                life.done.clear();
            }
            Work::NotifyNearExpiry | Work::NotifyExpired => life.done.push(due.mark()),
            Work::Purge => self.life = None,
        }
    }
}

impl Iterator for Forecast {
    type Item = Due;

    fn next(&mut self) -> Option<Due> {
        self.left = self.left.checked_sub(1)?;
        while self.due.is_empty() && self.now <= self.until {
            let plan = plan(self.life.as_ref()?, self.now, self.now);
            self.due.extend(plan.due);
            if self.due.is_empty() {
                self.now = plan.next?;
            }
        }
        let due = self.due.pop_front()?;
        self.play(&due);
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::State,
        rotation::{
            fixtures::{life, notify_before, policy, rotate_after, time},
            plan::JITTER_S_MAX,
        },
    };

    const CREATED: &str = "2026-01-01T00:00:00Z";

    #[test]
    fn a_forecast_goes_from_version_to_version() {
        let policy = policy(&[rotate_after("P1Y"), notify_before("P18M")], Some("P2Y"));
        let life = life(CREATED, Some("2028-01-01T00:00:00Z"), Some(policy));
        let found: Vec<Due> = forecast(&life, time(CREATED), time("2029-12-31T00:00:00Z")).collect();
        let years: Vec<String> = found.iter().map(|due| due.at.to_string()[..4].to_owned()).collect();
        assert_eq!(years, ["2026", "2027", "2027", "2028", "2028", "2029", "2029"]);
        let rotations: Vec<&Due> = found.iter().filter(|due| matches!(due.work, Work::Rotate { .. })).collect();
        assert_eq!((rotations[0].version, rotations[1].version), (life.current.version, Forecast::UNMADE));
        for (due, year) in rotations.iter().zip(1_i64..) {
            // Each begins where the one before it was late.
            let foretold = time(&format!("{}-01-01T00:00:00Z", 2026 + year));
            assert!((foretold.0..=foretold.0 + year * JITTER_S_MAX).contains(&due.at.0));
        }
    }

    #[test]
    fn what_is_overdue_comes_first_and_once() {
        let life = life(CREATED, None, Some(policy(&[rotate_after("P1Y")], None)));
        let now = time("2030-06-01T00:00:00Z");
        let found: Vec<i64> = forecast(&life, now, time("2031-07-01T00:00:00Z")).map(|due| due.at.0).collect();
        assert_eq!(found, [time("2027-01-01T00:00:00Z").0, time("2031-06-01T00:00:00Z").0]);
    }

    #[test]
    fn a_forecast_ends_with_the_key() {
        let mut life = life(CREATED, None, Some(policy(&[rotate_after("P1D")], None)));
        let purge_at = time("2026-04-01T00:00:00Z");
        life.state = State::Deleted { since: time(CREATED), purge_at };
        let found: Vec<Work> =
            forecast(&life, time(CREATED), time("2030-01-01T00:00:00Z")).map(|due| due.work).collect();
        assert_eq!(found, [Work::Purge]);
        assert_eq!(forecast(&life, time(CREATED), time("2026-03-31T23:59:59Z")).count(), 0);
    }

    #[test]
    fn a_forecast_is_never_endless() {
        let life = life(CREATED, None, Some(policy(&[rotate_after("PT1M")], None)));
        assert_eq!(forecast(&life, time(CREATED), Timestamp::MAX).count(), FORECAST_MAX);
        assert_eq!(forecast(&life, Timestamp(i64::MAX), Timestamp(i64::MAX)).count(), FORECAST_MAX);
        assert_eq!(forecast(&life, time("2027-01-01T00:00:00Z"), time(CREATED)).count(), 0);
    }
}
