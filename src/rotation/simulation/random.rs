//! Numbers that look random and are the same for the same seed (SplitMix64).

use std::ops::Range;

pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn within(&mut self, range: Range<i64>) -> i64 {
        let width = range.end.abs_diff(range.start).max(1);
        range.start.saturating_add_unsigned(self.next() % width)
    }

    /// True so many times in a thousand.
    pub(super) const fn per_mille(&mut self, times: u64) -> bool {
        self.next() % 1_000 < times
    }

    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let index = self.next() % u64::try_from(from.len()).expect("a small list");
        &from[usize::try_from(index).expect("an index of a small list")]
    }
}
