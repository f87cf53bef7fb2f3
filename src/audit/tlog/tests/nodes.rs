//! Hashes of a tree from its tiles, also where partial ones are gone.

use std::{cell::Cell, collections::BTreeMap, convert::Infallible};

use super::leaves;
use crate::audit::tlog::{
    Frontier, Hash, Nodes, NodesError, Tile, TileNodes,
    proof::{self, MakeError, verify_consistency, verify_inclusion},
    tile::{self, WIDTH},
};

/// The full tiles of a tree and its partial ones, by their paths.
fn tiles(size: u64) -> BTreeMap<String, Vec<u8>> {
    let mut tiles = BTreeMap::new();
    let mut row: Vec<Hash> = leaves(size);
    let mut level = 0;
    while !row.is_empty() {
        let mut above = Vec::new();
        for (index, hashes) in (0..).zip(row.chunks(usize::from(WIDTH))) {
            let tile = Tile { level, index, width: hashes.len() as u16 };
            above.extend(tile::root(&hashes.concat()).ok());
            tiles.insert(tile.path(), hashes.concat());
        }
        (row, level) = (above, level + 1);
    }
    tiles
}

fn frontier(size: u64) -> Frontier {
    let mut frontier = Frontier::new();
    leaves(size).into_iter().for_each(|leaf| frontier.push(leaf));
    frontier
}

type Reading<'a> = Box<dyn Fn(Tile) -> Result<Option<Vec<u8>>, Infallible> + 'a>;

fn nodes<'a>(size: u64, tiles: &'a BTreeMap<String, Vec<u8>>) -> TileNodes<Reading<'a>> {
    TileNodes::new(size, Box::new(|tile: Tile| Ok(tiles.get(&tile.path()).cloned())))
}

#[test]
fn a_tree_is_read_from_its_tiles() {
    for size in [0, 1, 2, 255, 256, 257, 511, 512, 70_000] {
        let tiles = tiles(size);
        assert_eq!(proof::root(size, &nodes(size, &tiles)).unwrap(), frontier(size).root(), "{size} leaves");
    }
}

#[test]
fn proofs_are_made_from_tiles() {
    let (size, leaves) = (70_000, leaves(70_000));
    let (tiles, root) = (tiles(size), frontier(size).root());
    let nodes = nodes(size, &tiles);
    for index in [0, 255, 256, 65_535, 65_536, 69_887, 69_888, 69_999] {
        let proof = proof::inclusion(index, size, &nodes).unwrap();
        assert_eq!(verify_inclusion(leaves[index as usize], index, size, &proof, &root), Ok(()), "{index}");
        let old = index + 1;
        let proof = proof::consistency(old, size, &nodes).unwrap();
        assert_eq!(verify_consistency(old, &frontier(old).root(), size, &root, &proof), Ok(()), "{old}");
    }
}

#[test]
fn the_full_tile_stands_in_for_a_partial_one() {
    let mut later = tiles(512);
    later.extend(tiles(300).into_iter().filter(|(path, _)| path.starts_with("tile/1/")));
    let earlier = nodes(300, &later);
    assert_eq!(proof::root(300, &earlier).unwrap(), frontier(300).root());
    // It has leaf 300, the tree of 300 leaves has not.
    let refused = earlier.subtree(0, 300);
    assert!(matches!(refused, Err(NodesError::Outside { size: 300, height: 0, index: 300 })), "{refused:?}");
}

#[test]
fn what_reaches_beyond_the_tree_is_refused() {
    let tiles = tiles(300);
    let nodes = nodes(300, &tiles);
    for (height, index) in [(8, 1), (1, 150), (9, 0), (16, 0), (63, 0), (64, 0), (u32::MAX, 0), (7, u64::MAX)] {
        let refused = nodes.subtree(height, index);
        assert!(matches!(refused, Err(NodesError::Outside { .. })), "{height} {index}: {refused:?}");
    }
}

#[test]
fn a_missing_tile_is_named() {
    let mut tiles = tiles(300);
    tiles.remove("tile/0/001.p/44");
    let refused = proof::inclusion(0, 300, &nodes(300, &tiles)).unwrap_err();
    assert_eq!(refused.to_string(), "tile/0/001.p/44 is missing");
}

#[test]
fn a_tile_of_another_length_than_its_name_says_is_refused() {
    for bytes in [0, 43 * 32, 44 * 32 - 1, 45 * 32, 256 * 32] {
        let mut tiles = tiles(300);
        tiles.insert("tile/0/001.p/44".to_owned(), vec![0; bytes]);
        let refused = proof::root(300, &nodes(300, &tiles)).unwrap_err();
        assert_eq!(refused.to_string(), format!("tile/0/001.p/44 has {bytes} bytes"));
    }
}

#[test]
fn a_failure_to_read_is_passed_on() {
    let nodes = TileNodes::new(5, |_| Err(std::io::Error::other("disk")));
    let refused = proof::inclusion(0, 5, &nodes).unwrap_err();
    assert!(matches!(refused, MakeError::Nodes(NodesError::Read { ref source, .. }) if source.to_string() == "disk"));
}

#[test]
fn a_proof_reads_each_tile_once() {
    let (tiles, reads) = (tiles(70_000), Cell::new(0));
    let nodes = TileNodes::new(70_000, |tile: Tile| {
        reads.set(reads.get() + 1);
        Ok::<_, Infallible>(tiles.get(&tile.path()).cloned())
    });
    proof::inclusion(0, 70_000, &nodes).unwrap();
    // Its own path to the top in levels 0 and 1, and the right edge in levels 0 and 1.
    assert_eq!(reads.get(), 4);
}
