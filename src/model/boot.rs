//! The time by which things are destroyed, as it is kept between processes.

use strongroom_hsm::statement::Canonical;

use super::{
    rows::{Row, RowId, RowKind},
    time::Timestamp,
};

/// How long a machine has been up, which nobody sets: which start of it, and seconds since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uptime {
    /// Which start (Linux: `boot_id`).
    pub boot: [u8; 16],
    /// Seconds since (`CLOCK_BOOTTIME`).
    pub seconds: u64,
}

impl Uptime {
    /// How many seconds have passed since an earlier reading, as far as one clock tells: of another start, none.
    #[must_use]
    pub fn since(self, earlier: Self) -> i64 {
        let passed = if self.boot == earlier.boot { self.seconds.saturating_sub(earlier.seconds) } else { 0 };
        i64::try_from(passed).unwrap_or(i64::MAX)
    }
}

/// The trusted time, and the reading by which it goes on. One row, of no scope: an older one that is put back only puts
/// destruction off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockRow {
    /// The trusted time at that reading.
    pub time: Timestamp,
    /// The reading.
    pub uptime: Uptime,
    /// Grows with every change.
    pub revision: u64,
}

impl ClockRow {
    /// The trusted time at another reading.
    #[must_use]
    pub fn time_at(&self, uptime: Uptime) -> Timestamp {
        Timestamp(self.time.0.saturating_add(uptime.since(self.uptime)))
    }
}

impl Row for ClockRow {
    fn row_id(&self) -> RowId {
        RowId { kind: RowKind::Clock, id: [0; 16] }
    }

    fn revision(&self) -> u64 {
        self.revision
    }

    fn canonical(&self) -> Vec<u8> {
        Canonical::new("strongroom.clock.v1")
            .optional_number(1, Some(self.time.0))
            .field(2, &self.uptime.boot)
            .number(3, self.uptime.seconds)
            .number(4, self.revision)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_by_the_same_start_only_and_never_back() {
        let row = ClockRow { time: Timestamp(1_000), uptime: Uptime { boot: [1; 16], seconds: 50 }, revision: 1 };
        for (boot, seconds, time) in [(1, 50, 1_000), (1, 60, 1_010), (1, 40, 1_000), (2, 9_999, 1_000)] {
            assert_eq!(row.time_at(Uptime { boot: [boot; 16], seconds }), Timestamp(time), "{boot} {seconds}");
        }
    }
}
