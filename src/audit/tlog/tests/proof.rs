//! What we make `ct-merkle` verifies, and the other way round; and nothing that was touched is taken.

use std::convert::Infallible;

use ct_merkle::{ConsistencyProof, InclusionProof, RootHash, mem_backed_tree::MemoryBackedTree};
use proptest::prelude::*;
use sha2::Sha256;

use super::{entry, leaves};
use crate::audit::tlog::{
    Frontier, Hash, Nodes, ProofError,
    hash::{SIZE_MAX, empty, leaf, node},
    proof::{self, MakeError, PROOF_HASHES_MAX, verify_consistency, verify_inclusion},
};

/// Every tree up to two tiles and some is tried.
const SIZE_TRIED: u64 = 600;

/// The roots of all perfect subtrees of a tree, by height.
struct Rows(Vec<Vec<Hash>>);

impl Rows {
    fn new(size: u64) -> Self {
        let mut rows = vec![leaves(size)];
        while let Some(row) = rows.last().filter(|row| row.len() > 1) {
            rows.push(row.as_chunks::<2>().0.iter().map(|[left, right]| node(left, right)).collect());
        }
        Self(rows)
    }

    fn leaf(&self, index: u64) -> Hash {
        self.0[0][index as usize]
    }
}

impl Nodes for Rows {
    type Error = Infallible;

    fn subtree(&self, height: u32, index: u64) -> Result<Hash, Self::Error> {
        Ok(self.0[height as usize][index as usize])
    }
}

/// The root of every tree of [`leaves`], by size.
fn roots(size: u64) -> Vec<Hash> {
    let mut frontier = Frontier::new();
    let grown = leaves(size).into_iter().map(|leaf| {
        frontier.push(leaf);
        frontier.root()
    });
    std::iter::once(empty()).chain(grown).collect()
}

fn other(size: u64) -> MemoryBackedTree<Sha256, Vec<u8>> {
    let mut tree = MemoryBackedTree::new();
    (0..size).for_each(|index| tree.push(entry(index)));
    tree
}

#[test]
fn the_root_is_that_of_the_frontier() {
    let tree = Rows::new(SIZE_TRIED);
    for (size, root) in roots(SIZE_TRIED).into_iter().enumerate() {
        assert_eq!(proof::root(size as u64, &tree), Ok(root), "{size} leaves");
    }
}

/// All small sizes, and larger ones around powers of two, where the shapes change.
fn sizes() -> impl Iterator<Item = u64> {
    (1..=130).chain([255, 256, 257, 258, 300, 511, 512, 513, 599, SIZE_TRIED])
}

#[test]
fn every_leaf_is_shown_to_be_included_as_another_implementation_shows_it() {
    let (tree, roots) = (Rows::new(SIZE_TRIED), roots(SIZE_TRIED));
    for size in sizes() {
        let (other, root) = (other(size), &roots[size as usize]);
        for index in 0..size {
            let proof = proof::inclusion(index, size, &tree).unwrap();
            assert_eq!(proof.as_flattened(), other.prove_inclusion(index as usize).as_bytes(), "{index} of {size}");
            assert_eq!(verify_inclusion(tree.leaf(index), index, size, &proof, root), Ok(()));
        }
    }
}

#[test]
fn every_tree_is_shown_to_begin_a_later_one_as_another_implementation_shows_it() {
    let (tree, roots) = (Rows::new(SIZE_TRIED), roots(SIZE_TRIED));
    for new in sizes() {
        let other = other(new);
        for old in 1..=new {
            let proof = proof::consistency(old, new, &tree).unwrap();
            assert_eq!(
                proof.as_flattened(),
                other.prove_consistency((new - old) as usize).as_bytes(),
                "{old} of {new}"
            );
            assert_eq!(verify_consistency(old, &roots[old as usize], new, &roots[new as usize], &proof), Ok(()));
        }
    }
}

#[test]
fn every_tree_begins_with_the_empty_one() {
    let (tree, roots) = (Rows::new(9), roots(9));
    for new in 0..=9_u64 {
        assert_eq!(proof::consistency(0, new, &tree), Ok(vec![]));
        let root = &roots[new as usize];
        assert_eq!(verify_consistency(0, &empty(), new, root, &[]), Ok(()));
        assert_eq!(verify_consistency(0, &[1; 32], new, root, &[]), Err(ProofError::OldRoot));
        assert_eq!(verify_consistency(0, &empty(), new, root, &[[1; 32]]), Err(ProofError::Length { hashes: 1 }));
    }
    assert_eq!(verify_consistency(0, &empty(), 0, &[1; 32], &[]), Err(ProofError::Root));
}

#[test]
fn what_is_not_in_the_tree_is_not_shown() {
    let (tree, roots) = (Rows::new(8), roots(8));
    for (index, size) in [(0, 0), (8, 8), (u64::MAX, 8)] {
        assert_eq!(proof::inclusion(index, size, &tree), Err(MakeError::NoLeaf { index, size }));
        let root = &roots[size as usize];
        assert_eq!(verify_inclusion([0; 32], index, size, &[], root), Err(ProofError::NoLeaf { index, size }));
    }
    assert_eq!(proof::consistency(8, 7, &tree), Err(MakeError::Shrunk { old: 8, new: 7 }));
    let cut = ProofError::Shrunk { old: 8, new: 7 };
    assert_eq!(verify_consistency(8, &roots[8], 7, &roots[7], &[]), Err(cut));
}

/// Everything that can be done to a proof: a bit flipped, a hash dropped, added or doubled, two exchanged.
fn touched(proof: &[Hash]) -> Vec<Vec<Hash>> {
    let mut all = Vec::new();
    for at in 0..proof.len() {
        for bit in 0..256 {
            let mut flipped = proof.to_vec();
            flipped[at][bit / 8] ^= 1 << (bit % 8);
            all.push(flipped);
        }
        let mut dropped = proof.to_vec();
        dropped.remove(at);
        all.push(dropped);
        let mut doubled = proof.to_vec();
        doubled.insert(at, proof[at]);
        all.push(doubled);
        let mut exchanged = proof.to_vec();
        exchanged.swap(0, at);
        if exchanged != proof {
            all.push(exchanged);
        }
    }
    for at in 0..=proof.len() {
        let mut added = proof.to_vec();
        added.insert(at, [at as u8; 32]);
        all.push(added);
    }
    all
}

#[test]
fn a_touched_proof_of_inclusion_is_refused() {
    let (tree, roots) = (Rows::new(70), roots(70));
    for size in [1, 2, 3, 5, 7, 8, 64, 65, 70_u64] {
        let root = &roots[size as usize];
        for index in [0, 1, size / 2, size.saturating_sub(2), size - 1].into_iter().filter(|index| *index < size) {
            let leaf = tree.leaf(index);
            let proof = proof::inclusion(index, size, &tree).unwrap();
            for touched in touched(&proof) {
                assert!(verify_inclusion(leaf, index, size, &touched, root).is_err(), "{index} of {size}");
            }
            for elsewhere in (0..size).filter(|elsewhere| *elsewhere != index) {
                assert!(verify_inclusion(leaf, elsewhere, size, &proof, root).is_err(), "{index} as {elsewhere}");
            }
            assert_eq!(verify_inclusion([0; 32], index, size, &proof, root), Err(ProofError::Root));
            assert_eq!(verify_inclusion(leaf, index, size, &proof, &[0; 32]), Err(ProofError::Root));
        }
    }
}

#[test]
fn a_touched_proof_of_consistency_is_refused() {
    let (tree, roots) = (Rows::new(70), roots(70));
    for new in [1, 2, 3, 5, 7, 8, 64, 65, 70_u64] {
        let new_root = &roots[new as usize];
        for old in [1, 2, new / 2, new - 1, new].into_iter().filter(|old| (1..=new).contains(old)) {
            let old_root = &roots[old as usize];
            let proof = proof::consistency(old, new, &tree).unwrap();
            for touched in touched(&proof) {
                assert!(verify_consistency(old, old_root, new, new_root, &touched).is_err(), "{old} of {new}");
            }
            for wrong in [&[0; 32], &roots[old as usize - 1]] {
                assert!(verify_consistency(old, wrong, new, new_root, &proof).is_err(), "{old} of {new}");
                assert!(verify_consistency(old, old_root, new, wrong, &proof).is_err(), "{old} of {new}");
            }
        }
    }
}

#[test]
fn a_proof_in_the_largest_tree_has_no_more_hashes_than_the_limit() {
    struct Endless;
    impl Nodes for Endless {
        type Error = Infallible;
        fn subtree(&self, height: u32, _: u64) -> Result<Hash, Self::Error> {
            Ok([height as u8; 32])
        }
    }
    for index in [0, 1, SIZE_MAX / 2, SIZE_MAX - 2, SIZE_MAX - 1] {
        let proof = proof::inclusion(index, SIZE_MAX, &Endless).unwrap();
        assert!(proof.len() <= PROOF_HASHES_MAX);
        assert_eq!(verify_inclusion([0; 32], index, SIZE_MAX, &proof, &[9; 32]), Err(ProofError::Root));
        let proof = proof::consistency(index + 1, SIZE_MAX, &Endless).unwrap();
        assert!(proof.len() <= PROOF_HASHES_MAX);
        let refused = verify_consistency(index + 1, &[9; 32], SIZE_MAX, &[9; 32], &proof);
        assert_ne!(refused, Err(ProofError::Length { hashes: proof.len() }));
    }
}

fn some_hash() -> impl Strategy<Value = Hash> {
    // Few hashes, so that some meet.
    (0..3_u8).prop_map(|byte| [byte; 32])
}

/// Small sizes for the most part, and the largest.
fn some_size() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..20_u64, 1 => Just(SIZE_MAX), 1 => any::<u64>()]
}

proptest! {
    #[test]
    fn an_invented_proof_is_refused_without_a_panic(
        (index, size) in (some_size(), some_size()),
        hashes in prop::collection::vec(some_hash(), 0..70),
        root in some_hash(),
    ) {
        let inclusion = verify_inclusion([0; 32], index, size, &hashes, &root);
        prop_assert!(inclusion.is_err() || (size == 1 && hashes.is_empty() && root == [0; 32]));
        let consistency = verify_consistency(index, &root, size, &root, &hashes);
        prop_assert!(consistency.is_err() || (index == size && hashes.is_empty()));
    }

    /// What one implementation takes of true trees, the other takes, and what it refuses, the other refuses.
    #[test]
    fn both_implementations_judge_alike(
        (index, size) in (0..40_u64, 0..40_u64),
        (as_index, as_size) in (0..40_u64, 0..40_u64),
        slip in any::<bool>(),
    ) {
        let (tree, roots) = (Rows::new(40), roots(40));
        let (claimed_index, claimed_size) = if slip { (as_index, as_size) } else { (index, size) };
        let root = &roots[claimed_size as usize];
        let other = RootHash::<Sha256>::new((*root).into(), claimed_size);
        if let Ok(proof) = proof::inclusion(index, size, &tree) {
            let bytes = InclusionProof::try_from_bytes(proof.as_flattened().to_vec()).unwrap();
            let ours = verify_inclusion(leaf(&entry(index)), claimed_index, claimed_size, &proof, root);
            prop_assert_eq!(ours.is_ok(), other.verify_inclusion(&entry(index), claimed_index, &bytes).is_ok());
        }
        // An empty tree is one that we know and the other refuses.
        if index > 0 && claimed_index > 0 && let Ok(proof) = proof::consistency(index, size, &tree) {
            let bytes = ConsistencyProof::try_from_bytes(proof.as_flattened().to_vec()).unwrap();
            let old_root = &roots[claimed_index as usize];
            let old = RootHash::<Sha256>::new((*old_root).into(), claimed_index);
            let ours = verify_consistency(claimed_index, old_root, claimed_size, root, &proof);
            prop_assert_eq!(ours.is_ok(), other.verify_consistency(&old, &bytes).is_ok());
        }
    }
}
