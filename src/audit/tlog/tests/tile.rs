//! Tiles and bundles: names, widths, and entries that do not end.

use proptest::{collection::vec, prelude::*};

use super::leaves;
use crate::audit::tlog::{
    Frontier, Tile,
    tile::{self, ENTRY_BYTES_MAX, EntryTooLong, TILE_BYTES, TileError, TornEntry, WIDTH},
};

fn tile(level: u8, index: u64, width: u16) -> Tile {
    Tile { level, index, width }
}

#[test]
fn paths_are_those_of_the_specification() {
    for (index, width, path) in [
        (0, WIDTH, "000"),
        (67, 1, "067.p/1"),
        (1_000, WIDTH, "x001/000"),
        (1_234_067, WIDTH, "x001/x234/067"),
        (1_234_067, 112, "x001/x234/067.p/112"),
        (u64::MAX, 255, "x018/x446/x744/x073/x709/x551/615.p/255"),
    ] {
        assert_eq!(tile(0, index, width).path(), format!("tile/0/{path}"));
        assert_eq!(tile(7, index, width).path(), format!("tile/7/{path}"));
        assert_eq!(tile::entries_path(index, width), format!("tile/entries/{path}"));
    }
    assert_eq!(tile(2, 5, 3).full().path(), "tile/2/005");
}

/// The trees of 70,000 and of 256 leaves are the examples of the specification.
#[test]
fn partial_tiles_are_those_of_the_specification() {
    let partial = |size| Tile::partial(size).collect::<Vec<_>>();
    assert_eq!(partial(70_000), [tile(0, 273, 112), tile(1, 1, 17), tile(2, 0, 1)]);
    assert_eq!(partial(256), [tile(1, 0, 1)]);
    assert_eq!(partial(0), []);
    assert_eq!(partial(255), [tile(0, 0, 255)]);
    assert_eq!(partial(1 << 62), [tile(7, 0, 64)]);
}

#[test]
fn a_tile_is_as_wide_as_the_tree_makes_it() {
    assert_eq!(Tile::of_tree(0, 272, 70_000), Some(tile(0, 272, WIDTH)));
    assert_eq!(Tile::of_tree(0, 273, 70_000), Some(tile(0, 273, 112)));
    assert_eq!(Tile::of_tree(0, 274, 70_000), None);
    assert_eq!(Tile::of_tree(1, 0, 70_000), Some(tile(1, 0, WIDTH)));
    assert_eq!(Tile::of_tree(2, 0, 70_000), Some(tile(2, 0, 1)));
    assert_eq!(Tile::of_tree(3, 0, 70_000), None);
    assert_eq!(Tile::of_tree(0, 0, 0), None);
    assert_eq!(Tile::of_tree(200, 0, u64::MAX), None);
    assert_eq!(Tile::of_tree(0, u64::MAX, u64::MAX), None);
}

#[test]
fn the_root_of_a_full_tile_is_that_of_its_tree() {
    let leaves = leaves(256);
    let mut frontier = Frontier::new();
    leaves.iter().for_each(|leaf| frontier.push(*leaf));
    assert_eq!(tile::root(&leaves.concat()), Ok(frontier.root()));
}

#[test]
fn a_tile_that_is_not_full_has_no_root() {
    for found in [0, 32, 4096, TILE_BYTES - 1, TILE_BYTES + 1, 2 * TILE_BYTES] {
        let refused = TileError::Length { expected: TILE_BYTES, found };
        assert_eq!(tile::root(&vec![7; found]), Err(refused));
    }
}

#[test]
fn a_hash_is_read_at_its_position() {
    let leaves = leaves(3);
    let bytes = leaves.concat();
    let read: Vec<_> = (0..4).map(|position| tile::hash_at(&bytes, position)).collect();
    assert_eq!(read, [Some(leaves[0]), Some(leaves[1]), Some(leaves[2]), None]);
    assert_eq!(tile::hash_at(&bytes[..95], 2), None);
}

#[test]
fn an_entry_lies_behind_its_length() {
    let mut bundle = Vec::new();
    tile::encode_entry(&mut bundle, b"ab").unwrap();
    tile::encode_entry(&mut bundle, b"").unwrap();
    assert_eq!(bundle, [0, 2, b'a', b'b', 0, 0]);
    assert_eq!(tile::entries(&bundle).collect::<Vec<_>>(), [Ok(b"ab".as_slice()), Ok(b"")]);
}

#[test]
fn an_entry_is_as_long_as_its_length_can_say() {
    let mut bundle = Vec::new();
    let longest = vec![9; ENTRY_BYTES_MAX];
    tile::encode_entry(&mut bundle, &longest).unwrap();
    let before = bundle.clone();
    let too_long = vec![9; ENTRY_BYTES_MAX + 1];
    assert_eq!(tile::encode_entry(&mut bundle, &too_long), Err(EntryTooLong { bytes: 65_536 }));
    assert_eq!(bundle, before);
    assert_eq!(tile::entries(&bundle).collect::<Vec<_>>(), [Ok(longest.as_slice())]);
}

proptest! {
    #[test]
    fn a_bundle_is_read_as_it_was_written(written in vec(vec(any::<u8>(), 0..40), 0..20), cut in any::<prop::sample::Index>()) {
        let mut bundle = Vec::new();
        let mut starts = Vec::new();
        for entry in &written {
            starts.push(bundle.len());
            tile::encode_entry(&mut bundle, entry).unwrap();
        }
        let read: Result<Vec<_>, _> = tile::entries(&bundle).collect();
        prop_assert_eq!(read.unwrap(), written);

        // Cut anywhere, it gives what is whole, and where the rest begins.
        let cut = cut.index(bundle.len() + 1);
        let whole = starts.iter().filter(|start| **start < cut).count();
        let torn = tile::entries(&bundle[..cut]).collect::<Vec<_>>();
        if let Some(Err(TornEntry { offset })) = torn.last() {
            prop_assert_eq!(*offset, starts[whole - 1]);
        }
        prop_assert_eq!(torn.len(), whole);
        prop_assert!(torn.iter().rev().skip(1).all(Result::is_ok));
    }

    #[test]
    fn any_bytes_are_read_as_a_bundle_without_a_panic(bytes in vec(any::<u8>(), 0..300)) {
        let entries: Vec<_> = tile::entries(&bytes).collect();
        let length: usize = entries.iter().flatten().map(|entry| entry.len() + 2).sum();
        match entries.last() {
            Some(Err(torn)) => prop_assert_eq!(torn.offset, length),
            _ => prop_assert_eq!(length, bytes.len()),
        }
    }
}
