//! Proofs that an entry is in a tree, and that one tree is the beginning of another: made (RFC 6962, section 2.1) and
//! verified (RFC 9162, sections 2.1.3.2 and 2.1.4.2).
//!
//! ```text
//! MTH(D[0:n])          = node(MTH(D[0:k]), MTH(D[k:n])),          k = the largest power of two below n
//! PATH(m, D[0:n])      = PATH(m, D[0:k]) : MTH(D[k:n])            if m < k
//!                      = PATH(m - k, D[k:n]) : MTH(D[0:k])        otherwise
//! SUBPROOF(m, D[0:n])  = SUBPROOF(m, D[0:k]) : MTH(D[k:n])        if m <= k
//!                      = SUBPROOF(m - k, D[k:n]) : MTH(D[0:k])    otherwise
//! ```
//!
//! Making needs the tree ([`Nodes`]); verifying needs nothing but the proof, and trusts nothing in it.

use std::ops::Range;

use super::hash::{Hash, bag, empty, node};

/// The most hashes that a proof has, for a tree of [`SIZE_MAX`](super::hash::SIZE_MAX) leaves: one for each level, and
/// one to begin a proof of consistency with.
pub const PROOF_HASHES_MAX: usize = 64;

/// A tree that can be asked for its perfect subtrees.
pub trait Nodes {
    /// Why a hash cannot be read.
    type Error;

    /// The root of the subtree numbered `index` of those with 2^`height` leaves, which lies wholly within the tree.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    fn subtree(&self, height: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// Why a proof is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MakeError<E> {
    /// No such leaf.
    #[error("the tree of {size} leaves has no leaf {index}")]
    NoLeaf {
        /// The leaf that was asked for.
        index: u64,
        /// The tree's leaves.
        size: u64,
    },
    /// A tree is not the beginning of a smaller one.
    #[error("a tree of {old} leaves is not the beginning of one of {new}")]
    Shrunk {
        /// The leaves of the one.
        old: u64,
        /// The leaves of the other.
        new: u64,
    },
    /// A hash of the tree cannot be read.
    #[error(transparent)]
    Nodes(#[from] E),
}

/// The root of the tree of the first `size` leaves.
///
/// # Errors
///
/// Those of `nodes`.
pub fn root<N: Nodes>(size: u64, nodes: &N) -> Result<Hash, N::Error> {
    range(0..size, nodes)
}

/// The proof that leaf `index` is in the tree of the first `size` leaves: from the leaf's sibling up.
///
/// # Errors
///
/// [`MakeError::NoLeaf`], and those of `nodes`.
pub fn inclusion<N: Nodes>(index: u64, size: u64, nodes: &N) -> Result<Vec<Hash>, MakeError<N::Error>> {
    if index >= size {
        return Err(MakeError::NoLeaf { index, size });
    }
    let mut proof = Vec::new();
    let mut part = 0..size;
    while part.end - part.start > 1 {
        let middle = middle(&part);
        if index < middle {
            proof.push(range(middle..part.end, nodes)?);
            part.end = middle;
        } else {
            proof.push(range(part.start..middle, nodes)?);
            part.start = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// The proof that the tree of the first `old` leaves is the beginning of that of the first `new`. Without hashes if they
/// are the same, and if the old one is empty: every tree begins with that.
///
/// # Errors
///
/// [`MakeError::Shrunk`], and those of `nodes`.
pub fn consistency<N: Nodes>(old: u64, new: u64, nodes: &N) -> Result<Vec<Hash>, MakeError<N::Error>> {
    if old > new {
        return Err(MakeError::Shrunk { old, new });
    }
    let mut proof = Vec::new();
    let mut part = 0..new;
    while old > 0 && part.end != old {
        let middle = middle(&part);
        if old <= middle {
            proof.push(range(middle..part.end, nodes)?);
            part.end = middle;
        } else {
            proof.push(range(part.start..middle, nodes)?);
            part.start = middle;
        }
    }
    // What begins with the first leaf is the old tree, whose root the verifier has.
    if part.start > 0 {
        proof.push(range(part, nodes)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Where RFC 6962 splits two leaves or more: behind the largest power of two of them that is not all.
fn middle(part: &Range<u64>) -> u64 {
    part.start + (1 << (part.end - part.start - 1).ilog2())
}

/// The root over some leaves, which begin at a multiple of the largest power of two that they have.
fn range<N: Nodes>(leaves: Range<u64>, nodes: &N) -> Result<Hash, N::Error> {
    let (mut start, mut roots) = (leaves.start, Vec::new());
    while start < leaves.end {
        let height = (leaves.end - start).ilog2();
        roots.push(nodes.subtree(height, start >> height)?);
        start += 1 << height;
    }
    Ok(bag(&roots))
}

/// Why a proof does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The tree is too small to have the leaf.
    #[error("the tree of {size} leaves has no leaf {index}")]
    NoLeaf {
        /// The leaf in question.
        index: u64,
        /// The tree's leaves.
        size: u64,
    },
    /// The newer tree is smaller than the older: something was cut off.
    #[error("the tree has {new} leaves, and once had {old}")]
    Shrunk {
        /// The leaves of the older tree.
        old: u64,
        /// The leaves of the newer tree.
        new: u64,
    },
    /// There are more or fewer hashes than such a proof has.
    #[error("a proof between these sizes does not have {hashes} hashes")]
    Length {
        /// The hashes of the proof.
        hashes: usize,
    },
    /// The proof leads to another root than that of the tree.
    #[error("the proof does not lead to the root of the tree")]
    Root,
    /// The proof leads to another root than that of the older tree.
    #[error("the proof does not lead to the root of the older tree")]
    OldRoot,
}

/// Verifies that a leaf (its hash) is number `index` of the tree of `size` leaves with this root.
///
/// # Errors
///
/// [`ProofError`]: this is not shown.
pub fn verify_inclusion(leaf: Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::NoLeaf { index, size });
    }
    let mut way = Way { at: index, last: size - 1 };
    let mut hash = leaf;
    for sibling in proof {
        hash = match way.up().ok_or(ProofError::Length { hashes: proof.len() })? {
            Side::Left => node(sibling, &hash),
            Side::Right => node(&hash, sibling),
        };
    }
    if way.last != 0 {
        return Err(ProofError::Length { hashes: proof.len() });
    }
    (hash == *root).then_some(()).ok_or(ProofError::Root)
}

/// Verifies that the tree of `old` leaves with one root is the beginning of that of `new` leaves with the other.
///
/// # Errors
///
/// [`ProofError`]: this is not shown.
pub fn verify_consistency(
    old: u64,
    old_root: &Hash,
    new: u64,
    new_root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    let wrong_length = ProofError::Length { hashes: proof.len() };
    if old > new {
        return Err(ProofError::Shrunk { old, new });
    }
    if old == 0 {
        return match proof {
            [] if *old_root != empty() => Err(ProofError::OldRoot),
            [] if new == 0 && *new_root != empty() => Err(ProofError::Root),
            [] => Ok(()),
            _ => Err(wrong_length),
        };
    }
    // A perfect old tree is itself the first hash; so is an old tree that is the new one.
    let (first, rest) = if old.is_power_of_two() || old == new {
        (old_root, proof)
    } else {
        proof.split_first().ok_or(wrong_length)?
    };
    let mut way = Way { at: old - 1, last: new - 1 };
    way.skip(if old == new { u64::BITS } else { (old - 1).trailing_ones() });
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in rest {
        match way.up().ok_or(wrong_length)? {
            Side::Left => {
                old_hash = node(sibling, &old_hash);
                new_hash = node(sibling, &new_hash);
            }
            Side::Right => new_hash = node(&new_hash, sibling),
        }
    }
    match () {
        () if way.last != 0 => Err(wrong_length),
        () if old_hash != *old_root => Err(ProofError::OldRoot),
        () if new_hash != *new_root => Err(ProofError::Root),
        () => Ok(()),
    }
}

/// On which side of a node its sibling is.
enum Side {
    Left,
    Right,
}

/// The way from a node up to the root: its number in its level, and that of the last node there. They are `fn` and `sn`
/// of RFC 9162.
struct Way {
    at: u64,
    last: u64,
}

impl Way {
    /// Joins the node with its sibling and goes to their parent; nowhere from the root.
    fn up(&mut self) -> Option<Side> {
        if self.last == 0 {
            return None;
        }
        if self.at % 2 == 1 || self.at == self.last {
            // The last node of a level may have no sibling there: it goes up alone to where it has one, to its left.
            self.skip(self.at.trailing_zeros());
            self.skip(1);
            return Some(Side::Left);
        }
        self.skip(1);
        Some(Side::Right)
    }

    /// Goes up so many levels.
    fn skip(&mut self, levels: u32) {
        self.at = self.at.checked_shr(levels).unwrap_or(0);
        self.last = self.last.checked_shr(levels).unwrap_or(0);
    }
}
