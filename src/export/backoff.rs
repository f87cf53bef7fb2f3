//! How long to wait before a receiver is asked again.

use std::time::Duration;

use aws_lc_rs::rand;

/// The first wait after a failure; it doubles up to the longest.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// The longest wait that a receiver may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// How long to wait after one failure more.
#[derive(Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Whether nothing has failed yet.
    pub(super) const fn is_fresh(&self) -> bool {
        self.failures == 0
    }

    /// Twice as long each time, and by chance up to half of it less, so that many do not come back at once; never
    /// earlier than the receiver wants.
    pub(crate) fn next(&mut self, retry_after: Option<Duration>) -> Duration {
        let whole = RETRY_FIRST.saturating_mul(1 << self.failures.min(10)).min(RETRY_MAX);
        self.failures = self.failures.saturating_add(1);
        let mut byte = [0];
        // Without random numbers the wait is the whole one.
        let _ = rand::fill(&mut byte);
        let wait = whole - whole.mul_f64(f64::from(byte[0]) / 512.0);
        wait.max(retry_after.unwrap_or_default().min(RETRY_AFTER_MAX))
    }
}
