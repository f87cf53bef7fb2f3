mod hash;
mod nodes;
mod proof;
mod tile;

use super::hash::{Hash, leaf};

/// An entry that no other index has.
fn entry(index: u64) -> Vec<u8> {
    index.to_be_bytes().to_vec()
}

/// The leaf hashes of the first `size` of those entries.
fn leaves(size: u64) -> Vec<Hash> {
    (0..size).map(|index| leaf(&entry(index))).collect()
}
