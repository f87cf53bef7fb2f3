//! The time by which things are destroyed (ADR 0013): one that nobody sets.
//!
//! It is kept in the store, sealed, and goes on by how long the machine has been up. What passes while no machine that has
//! read it is up is not counted: destruction comes later by that much, and never earlier.

use strongroom_hsm::protocol::Moment;

use super::{
    Service,
    error::{Problem, ServiceError},
};
use crate::{
    model::{ClockRow, Row as _, Timestamp},
    observe::metrics::DESTRUCTION_BEHIND,
    rotation::{CLOCKS_APART_S_MAX, destruction_time},
    store::{CommitError, Sealed},
};

/// How often it is kept: so much is lost to a machine that does not come back.
const KEEP_EVERY_S: i64 = 60;

/// The two clocks do not run equally fast: when this one is a little ahead it follows the other, which puts destruction
/// off by that little; otherwise they would be too far apart some day, and nothing would be destroyed any more.
fn nearer(trusted: Timestamp, now: Timestamp) -> Timestamp {
    let ahead_s = trusted.0.saturating_sub(now.0);
    if (1..=CLOCKS_APART_S_MAX).contains(&ahead_s) { now } else { trusted }
}

impl Service {
    /// What time it is, as far as that is trusted: never later than it is, if the clock was right when the service was made.
    ///
    /// # Errors
    /// When the store or the HSM does not answer; [`Problem::Tampered`] when the row's seal is wrong.
    pub(super) async fn trusted_time(&self, deadline: Moment) -> Result<Timestamp, ServiceError> {
        let row = self.clock_row(deadline).await?;
        Ok(row.map_or_else(|| self.clock.now(), |row| row.time_at(self.clock.uptime())))
    }

    /// What time it is for destruction: nothing when the wall clock went backwards.
    ///
    /// # Errors
    /// As [`Self::trusted_time`].
    pub(super) async fn time_of_destruction(&self, deadline: Moment) -> Result<Option<Timestamp>, ServiceError> {
        let trusted = self.carry_time_on(deadline).await?;
        let now = self.clock.now();
        // Far fewer than 2^52 seconds.
        metrics::gauge!(DESTRUCTION_BEHIND).set(now.0.saturating_sub(trusted.0) as f64);
        Ok(destruction_time(now, trusted))
    }

    /// Keeps the time, from time to time. By whoever does what is due: while others read it, one carries it on.
    async fn carry_time_on(&self, deadline: Moment) -> Result<Timestamp, ServiceError> {
        let uptime = self.clock.uptime();
        let row = match self.clock_row(deadline).await? {
            None => {
                tracing::info!("the time of destruction begins now");
                ClockRow { time: self.clock.now(), uptime, revision: 1 }
            }
            Some(row) => {
                let time = nearer(row.time_at(uptime), self.clock.now());
                if row.uptime.boot == uptime.boot && uptime.since(row.uptime) < KEEP_EVERY_S {
                    return Ok(time);
                }
                ClockRow { time, uptime, revision: row.revision + 1 }
            }
        };
        let seals = self.pool.seal(vec![row.canonical()], deadline).await.map_err(super::hands::outage)?;
        let seal = *seals.first().ok_or(Problem::Internal)?;
        match self.store.put_clock(Sealed::new(row, seal)).await {
            // Another was quicker, and knows as much.
            Ok(()) | Err(CommitError::Conflict) => Ok(row.time),
            Err(CommitError::Store(error)) => Err(error.into()),
            Err(error @ (CommitError::Exists | CommitError::Fenced)) => {
                Err(ServiceError::because(Problem::Internal, error))
            }
        }
    }

    async fn clock_row(&self, deadline: Moment) -> Result<Option<ClockRow>, ServiceError> {
        let Some(found) = self.store.clock().await? else { return Ok(None) };
        let (row, seal) = found.into_unchecked();
        let right =
            self.pool.check_seals(vec![(row.canonical(), seal)], deadline).await.map_err(super::hands::outage)?;
        if right != [true] {
            let name = "the time of destruction".to_owned();
            return Err(ServiceError::because(Problem::Tampered { name }, "its seal is wrong"));
        }
        Ok(Some(row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_little_ahead_it_follows_the_wall_clock_and_never_otherwise() {
        for (trusted, now, then) in [
            (1_000, 1_000, 1_000),
            (1_001, 1_000, 1_000),
            (1_000 + CLOCKS_APART_S_MAX, 1_000, 1_000),
            (1_001 + CLOCKS_APART_S_MAX, 1_000, 1_001 + CLOCKS_APART_S_MAX),
            (1_000, 1_001, 1_000),
            (1_000, 999_999, 1_000),
        ] {
            assert_eq!(nearer(Timestamp(trusted), Timestamp(now)), Timestamp(then));
        }
    }
}
