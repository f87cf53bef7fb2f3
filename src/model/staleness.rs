//! How old what a replica knows may be when it serves.

use std::{fmt, time::Duration};

/// How old what a replica knows of a vault may be: 1 to 60 seconds, 1 unless it is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MaxStaleness(u8);

impl MaxStaleness {
    /// The longest there can be.
    pub const MAX: Self = Self(60);

    /// That many seconds, if it can be so long.
    #[must_use]
    pub fn new(seconds: u64) -> Option<Self> {
        u8::try_from(seconds).ok().filter(|seconds| (1..=Self::MAX.0).contains(seconds)).map(Self)
    }

    /// In seconds.
    #[must_use]
    pub const fn seconds(self) -> u8 {
        self.0
    }

    /// As a duration.
    #[must_use]
    pub const fn as_duration(self) -> Duration {
        Duration::from_secs(self.0 as u64)
    }

    /// What is sealed of it: nothing, where it is the usual one.
    #[must_use]
    pub fn sealed(self) -> u64 {
        if self == Self::default() { 0 } else { self.0.into() }
    }
}

impl Default for MaxStaleness {
    fn default() -> Self {
        Self(1)
    }
}

impl fmt::Display for MaxStaleness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_one_second_to_sixty() {
        assert_eq!((MaxStaleness::new(0), MaxStaleness::new(61), MaxStaleness::new(257)), (None, None, None));
        assert_eq!(MaxStaleness::new(1), Some(MaxStaleness::default()));
        assert_eq!(MaxStaleness::new(60), Some(MaxStaleness::MAX));
        assert_eq!(MaxStaleness::default().sealed(), 0, "rows of earlier releases keep their seals");
    }
}
