//! A wall clock that somebody sets, and a monotonic one that nobody can.

use crate::model::Timestamp;

pub(super) struct Clocks {
    started: Timestamp,
    /// True time: seconds since the start, by the monotonic clock.
    pub(super) elapsed_s: i64,
    /// How far ahead the wall clock is.
    ahead_s: i64,
    /// When the wall clock was last set.
    pub(super) set_at_s: i64,
}

impl Clocks {
    pub(super) const fn new(started: Timestamp) -> Self {
        Self { started, elapsed_s: 0, ahead_s: 0, set_at_s: 0 }
    }

    pub(super) const fn wall(&self) -> Timestamp {
        Timestamp(self.started.0 + self.elapsed_s + self.ahead_s)
    }

    /// The time on record and what has passed since: here always the true time.
    pub(super) const fn trusted(&self) -> Timestamp {
        Timestamp(self.started.0 + self.elapsed_s)
    }

    /// How much time will have passed when the wall clock says so, if nobody sets it.
    pub(super) fn when(&self, wall: Timestamp) -> i64 {
        (wall.0 - self.started.0 - self.ahead_s).max(self.elapsed_s)
    }

    /// How late something is begun that could have been begun then, or at the start.
    pub(super) fn late_s(&self, then: Timestamp) -> i64 {
        self.wall().0 - then.max(self.started).0
    }

    pub(super) const fn set_ahead(&mut self, ahead_s: i64) {
        self.ahead_s = ahead_s;
        self.set_at_s = self.elapsed_s;
    }

    pub(super) const fn is_right(&self) -> bool {
        self.ahead_s == 0
    }
}
