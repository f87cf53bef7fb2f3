//! Wall-clock time in whole seconds, and the clock as a thing that is handed in.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use super::boot::Uptime;

/// Seconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

/// One day in seconds.
pub const DAY_S: i64 = 86_400;

impl Timestamp {
    /// 9999-12-30T22:00:00Z, the latest time that is accepted: the last that every offset can show.
    pub const MAX: Self = Self(253_402_207_200);

    /// That many days later.
    #[must_use]
    pub fn plus_days(self, days: u16) -> Self {
        Self(self.0.saturating_add(i64::from(days) * DAY_S))
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match jiff::Timestamp::from_second(self.0) {
            Ok(time) => time.fmt(f),
            Err(_) => write!(f, "@{}", self.0),
        }
    }
}

/// What time it is.
pub trait Clock: Send + Sync {
    /// Now, by the wall.
    fn now(&self) -> Timestamp;
    /// How long the machine has been up, which nobody sets.
    fn uptime(&self) -> Uptime;
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everyone else is handed")]
    fn now(&self) -> Timestamp {
        let seconds = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
        };
        Timestamp(seconds)
    }

    fn uptime(&self) -> Uptime {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Uptime { boot: *BOOT, seconds: u64::try_from(time.tv_sec).unwrap_or(0) }
    }
}

/// Which start of the machine this is. Where the kernel does not say, that of this process: no time is counted that passes
/// between two of them.
static BOOT: LazyLock<[u8; 16]> = LazyLock::new(|| {
    let said = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
    let id = said.and_then(|text| uuid::Uuid::parse_str(text.trim()).ok());
    id.unwrap_or_else(uuid::Uuid::new_v4).into_bytes()
});

/// Clocks that a test sets: the wall's, and how long the machine has been up.
#[derive(Debug, Default)]
pub struct ManualClock {
    wall: AtomicI64,
    uptime_s: AtomicU64,
}

impl ManualClock {
    /// A clock that stands at `now`.
    #[must_use]
    pub const fn at(now: Timestamp) -> Self {
        Self { wall: AtomicI64::new(now.0), uptime_s: AtomicU64::new(0) }
    }

    /// Sets the wall's clock, and no other.
    pub fn set(&self, now: Timestamp) {
        self.wall.store(now.0, Ordering::SeqCst);
    }

    /// So many seconds pass, by every clock.
    pub fn pass(&self, seconds: u32) {
        self.wall.fetch_add(i64::from(seconds), Ordering::SeqCst);
        self.uptime_s.fetch_add(u64::from(seconds), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.wall.load(Ordering::SeqCst))
    }

    fn uptime(&self) -> Uptime {
        Uptime { boot: [7; 16], seconds: self.uptime_s.load(Ordering::SeqCst) }
    }
}
