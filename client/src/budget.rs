//! How much may be repeated. A server in trouble gets the calls that there are, and not six times as many: each failure
//! takes a token, each success gives a tenth of one back, and with half of them gone nothing is repeated (gRPC A6,
//! "Throttling Retry Attempts and Hedged RPCs").

use std::sync::atomic::{AtomicU32, Ordering};

/// Tokens, in thousandths.
const FULL: u32 = 20_000;
const FAILURE: u32 = 1000;
const SUCCESS: u32 = 100;

/// What is left. All clones of a client share it.
#[derive(Debug)]
pub(crate) struct Budget(AtomicU32);

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicU32::new(FULL))
    }
}

impl Budget {
    /// A call has failed that could be repeated. Whether it may be.
    pub(crate) fn spend(&self) -> bool {
        let left = |tokens: u32| Some(tokens.saturating_sub(FAILURE));
        let before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).unwrap_or_default();
        before.saturating_sub(FAILURE) > FULL / 2
    }

    /// A call was answered.
    pub(crate) fn earn(&self) {
        // Mostly it is full: then nothing is written, which would be seen by every core.
        if self.0.load(Ordering::Relaxed) < FULL {
            let more = |tokens: u32| Some((tokens + SUCCESS).min(FULL));
            let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_may_be_spent_and_comes_back_slowly() {
        let budget = Budget::default();
        let repeated = (0..1000).filter(|_| budget.spend()).count();
        assert_eq!(repeated, 9);
        (0..100).for_each(|_| budget.earn());
        assert!(!budget.spend(), "ten tokens, less one");
        (0..30).for_each(|_| budget.earn());
        assert!(budget.spend());
        (0..1000).for_each(|_| budget.earn());
        assert_eq!((0..1000).filter(|_| budget.spend()).count(), 9, "never more than it was");
    }
}
