//! Against `ct-merkle`, an implementation of RFC 6962 that is not ours.

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use sha2::Sha256;

use super::{entry, leaves};
use crate::audit::tlog::hash::{Frontier, FrontierError, SIZE_MAX, empty, leaf, node};

fn hex(hash: &[u8]) -> String {
    base16ct::lower::encode_string(hash)
}

#[test]
fn a_tree_without_leaves_has_the_hash_of_nothing() {
    assert_eq!(hex(&empty()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_eq!(Frontier::new().root(), empty());
    assert_eq!(Frontier::new().size(), 0);
}

/// The leaves and roots that Google's Certificate Transparency code tests itself with.
#[test]
fn the_roots_are_those_of_certificate_transparency() {
    let leaves = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    let roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let mut frontier = Frontier::new();
    for (entry, root) in leaves.iter().zip(roots) {
        frontier.push(leaf(&base16ct::lower::decode_vec(entry).unwrap()));
        assert_eq!(hex(&frontier.root()), root, "{} leaves", frontier.size());
    }
}

#[test]
fn every_root_is_that_of_another_implementation() {
    let mut frontier = Frontier::new();
    let mut other = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    for index in 0..600 {
        frontier.push(leaf(&entry(index)));
        other.push(entry(index));
        assert_eq!(frontier.root().as_slice(), other.root().as_bytes().as_slice(), "{} leaves", index + 1);
    }
}

#[test]
fn a_tree_grows_by_subtrees_as_it_does_by_leaves() {
    for size in 0..600_u64 {
        let leaves = leaves(size);
        let mut by_leaves = Frontier::new();
        leaves.iter().for_each(|leaf| by_leaves.push(*leaf));
        let mut by_subtrees = Frontier::new();
        for height in (0..10).rev().filter(|height| size & (1 << height) != 0) {
            let start = by_subtrees.size() as usize;
            let mut subtree = Frontier::new();
            leaves[start..start + (1 << height)].iter().for_each(|leaf| subtree.push(*leaf));
            by_subtrees.push_subtree(height, subtree.root()).unwrap();
        }
        assert_eq!(by_subtrees, by_leaves, "{size} leaves");
    }
}

#[test]
fn equal_subtrees_side_by_side_become_one() {
    let (left, right) = ([1; 32], [2; 32]);
    let mut frontier = Frontier::new();
    frontier.push_subtree(8, left).unwrap();
    frontier.push_subtree(8, right).unwrap();
    assert_eq!((frontier.size(), frontier.root()), (512, node(&left, &right)));
}

#[test]
fn a_subtree_out_of_its_place_is_refused() {
    let mut frontier = Frontier::new();
    frontier.push([1; 32]);
    let before = frontier.clone();
    assert_eq!(frontier.push_subtree(1, [2; 32]), Err(FrontierError::Misaligned { size: 1, height: 1 }));
    for height in [63, 64, u32::MAX] {
        assert_eq!(frontier.push_subtree(height, [2; 32]), Err(FrontierError::TooLarge), "{height}");
    }
    assert_eq!(frontier, before);
}

#[test]
fn a_tree_grows_up_to_the_largest_size() {
    let mut frontier = Frontier::new();
    for height in (0..63).rev() {
        frontier.push_subtree(height, [height as u8; 32]).unwrap();
    }
    assert_eq!(frontier.size(), SIZE_MAX);
    assert_eq!(frontier.push_subtree(0, [0; 32]), Err(FrontierError::TooLarge));
}
