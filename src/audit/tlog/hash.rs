//! The tree's hashes (RFC 6962, section 2.1) and its growing edge.
//!
//! ```text
//! MTH({})    = SHA-256()
//! leaf(e)    = SHA-256(0x00 || e)
//! node(l, r) = SHA-256(0x01 || l || r)
//! ```
//!
//! The first byte keeps leaves and nodes apart: without it a node could be passed off as an entry.

use sha2::{Digest, Sha256};

/// SHA-256, of a leaf, a node or a tree.
pub type Hash = [u8; 32];

/// The most leaves that a tree may have. Readers of others keep sizes in signed 64 bits; and sums of sizes cannot overflow.
pub const SIZE_MAX: u64 = i64::MAX as u64;

const LEAF: [u8; 1] = [0];
const NODE: [u8; 1] = [1];

/// The hash of an entry as a leaf.
pub fn leaf(entry: &[u8]) -> Hash {
    Sha256::new().chain_update(LEAF).chain_update(entry).finalize().into()
}

/// The hash of a node over its two children.
pub fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update(NODE).chain_update(left).chain_update(right).finalize().into()
}

/// The root of a tree without leaves.
pub fn empty() -> Hash {
    Sha256::digest([]).into()
}

/// The root of a tree whose perfect subtrees, the largest first, have these roots.
pub(super) fn bag(roots: &[Hash]) -> Hash {
    roots.iter().rev().copied().reduce(|right, left| node(&left, &right)).unwrap_or_else(empty)
}

/// Why a subtree cannot be put at the right edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrontierError {
    /// A subtree begins at a multiple of its own size.
    #[error("a subtree of height {height} cannot follow {size} leaves")]
    Misaligned {
        /// The leaves before it.
        size: u64,
        /// The subtree's height: it has 2^height leaves.
        height: u32,
    },
    /// The tree would have more than [`SIZE_MAX`] leaves.
    #[error("a tree of more than 2^63 - 1 leaves")]
    TooLarge,
}

/// The right edge of a tree: the roots of the perfect subtrees that its leaves fall into, at most 63.
///
/// It is all that a log needs to grow and to know its root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// One for each bit of `size` that is set, the largest subtree first.
    roots: Vec<Hash>,
}

impl Frontier {
    /// That of a tree without leaves.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf, given by its hash ([`leaf`]).
    ///
    /// # Panics
    ///
    /// At [`SIZE_MAX`] leaves: a million a second get there in 292,000 years.
    pub fn push(&mut self, leaf: Hash) {
        self.push_subtree(0, leaf).expect("a leaf is aligned everywhere, and there is time");
    }

    /// Adds 2^`height` leaves, given by the root over them, as a tile of the tree has it.
    ///
    /// # Errors
    ///
    /// [`FrontierError`]; the frontier is as before.
    pub fn push_subtree(&mut self, height: u32, root: Hash) -> Result<(), FrontierError> {
        let leaves = 1_u64.checked_shl(height).ok_or(FrontierError::TooLarge)?;
        let size = self.size.checked_add(leaves).filter(|size| *size <= SIZE_MAX).ok_or(FrontierError::TooLarge)?;
        if !self.size.is_multiple_of(leaves) {
            return Err(FrontierError::Misaligned { size: self.size, height });
        }
        // Like the carry of an addition: where the bit is set there is a left sibling to be joined with.
        let joined = (self.size >> height).trailing_ones() as usize;
        let kept = self.roots.len() - joined;
        let root = self.roots.drain(kept..).rev().fold(root, |right, left| node(&left, &right));
        self.roots.push(root);
        self.size = size;
        Ok(())
    }

    /// The root of the tree.
    pub fn root(&self) -> Hash {
        bag(&self.roots)
    }
}
