//! What the records in the journal are yet to cost the disk: their place in bundles and tiles, and a checkpoint.
//!
//! A record is written twice, here at once and about a second later in the tree. Whoever asks whether there is room has
//! to know of the second time, or records that found room would eat what is kept for administrators.
//!
//! ```text
//! debt = entries and hashes that are in no tile yet + two copies of the newest bundle + the rest
//! ```
//!
//! Two copies, because a partial bundle is written whole each time, beside the one before and the one that the checkpoint
//! names. The rest: partial tiles, the checkpoint, and blocks that are not full.

use super::super::tlog::tile::WIDTH;

/// The length of an entry in a bundle, its hash, the hashes above it, and its part of the blocks that are not full.
const ENTRY_OVERHEAD_BYTES: u64 = 2 + 32 + 1 + 37;
/// The rest.
const REST_BYTES: u64 = 64 << 10;

/// What is owed.
#[derive(Clone, Copy, Debug)]
pub(in crate::audit) struct Debt {
    /// What all records that this process knows of come to, in the tree.
    written: Owed,
    /// The part of it that is in the tree.
    paid: Owed,
    /// The entries of the bundle in the making.
    bundle_bytes: u64,
    /// Those of the bundle before it.
    last_bundle_bytes: u64,
}

/// Bytes of the tree, counted from the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::audit) struct Owed(u64);

impl Debt {
    /// That of a log of which this much may not be in the tree, and whose newest bundle is so long.
    pub(in crate::audit) const fn new(behind_bytes: u64, bundle_bytes: u64) -> Self {
        Self { written: Owed(behind_bytes), paid: Owed(0), bundle_bytes, last_bundle_bytes: 0 }
    }

    /// One more record is in the journal, of that index.
    pub(in crate::audit) fn note(&mut self, index: u64, entry_bytes: usize) {
        let bytes = (entry_bytes as u64).saturating_add(ENTRY_OVERHEAD_BYTES);
        self.written.0 = self.written.0.saturating_add(bytes);
        self.bundle_bytes = self.bundle_bytes.saturating_add(bytes);
        if (index + 1).is_multiple_of(u64::from(WIDTH)) {
            self.last_bundle_bytes = std::mem::take(&mut self.bundle_bytes);
        }
    }

    /// What is owed for all records so far: to be paid when they are in the tree.
    pub(in crate::audit) const fn written(&self) -> Owed {
        self.written
    }

    /// Records are in the tree. How many bytes that took of the disk.
    pub(in crate::audit) fn pay(&mut self, until: Owed) -> u64 {
        let paid = until.0.saturating_sub(self.paid.0);
        self.paid = self.paid.max(until);
        paid
    }

    /// How many bytes the disk must have left for it.
    pub(in crate::audit) fn bytes(&self) -> u64 {
        let behind = self.written.0.saturating_sub(self.paid.0);
        let copies = self.bundle_bytes.max(self.last_bundle_bytes).saturating_mul(2);
        behind.saturating_add(copies).saturating_add(REST_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_tree_is_owed_no_more() {
        let mut debt = Debt::new(0, 0);
        assert_eq!(debt.bytes(), REST_BYTES);
        for index in 0..10 {
            debt.note(index, 100);
        }
        let written = debt.written();
        let ten = 10 * (100 + ENTRY_OVERHEAD_BYTES);
        assert_eq!(debt.bytes(), 3 * ten + REST_BYTES);
        debt.note(10, 1000);
        assert_eq!(debt.pay(written), ten);
        assert_eq!(debt.pay(written), 0, "once");
        let eleven = ten + 1000 + ENTRY_OVERHEAD_BYTES;
        assert_eq!(debt.bytes(), (eleven - ten) + 2 * eleven + REST_BYTES);
    }

    #[test]
    fn the_copies_are_of_the_longest_bundle_of_two() {
        let mut debt = Debt::new(7, 0);
        for index in 0..256 {
            debt.note(index, 10_000);
        }
        debt.note(256, 1);
        debt.pay(debt.written());
        assert_eq!(debt.bytes(), 2 * 256 * (10_000 + ENTRY_OVERHEAD_BYTES) + REST_BYTES);
    }
}
