//! A tree that is read from its tiles, wherever they come from.

use std::{cell::RefCell, collections::BTreeMap, ops::Range};

use super::{
    hash::Hash,
    proof::Nodes,
    tile::{HASH_BYTES, HEIGHT, Tile, WIDTH, perfect},
};

/// Why a hash of the tree cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum NodesError<E> {
    /// The tree of that size has no such subtree.
    #[error("the tree of {size} leaves has no subtree {index} of height {height}")]
    Outside {
        /// The tree's leaves.
        size: u64,
        /// The subtree's height.
        height: u32,
        /// The subtree's number.
        index: u64,
    },
    /// A tile that the tree has is not there, neither partial nor full.
    #[error("{} is missing", .0.path())]
    Missing(Tile),
    /// A tile is shorter or longer than its name says.
    #[error("{} has {bytes} bytes", .tile.path())]
    Length {
        /// The tile, as it was read.
        tile: Tile,
        /// Its bytes.
        bytes: usize,
    },
    /// The tile could not be read.
    #[error("{} cannot be read", .tile.path())]
    Read {
        /// The tile.
        tile: Tile,
        /// Why.
        source: E,
    },
}

/// The tree of the first `size` leaves, by a function that reads a tile, or says that there is none.
///
/// Asked for a partial tile that is gone it reads the full one, as the specification allows. The last tile of each level is
/// kept (64 KiB at most), because the hashes of a proof lie next to each other.
///
/// What it answers is as good as the tiles: hold it against a root that is trusted.
#[derive(Debug)]
pub struct TileNodes<F> {
    size: u64,
    read: F,
    kept: RefCell<BTreeMap<u8, (Tile, Vec<u8>)>>,
}

impl<F> TileNodes<F> {
    /// The tree of that many leaves.
    pub fn new<E>(size: u64, read: F) -> Self
    where
        F: Fn(Tile) -> Result<Option<Vec<u8>>, E>,
    {
        Self { size, read, kept: RefCell::default() }
    }

    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The hashes of a tile, as many as it has in this tree.
    fn hashes<E>(&self, tile: Tile) -> Result<Vec<u8>, NodesError<E>>
    where
        F: Fn(Tile) -> Result<Option<Vec<u8>>, E>,
    {
        let read = |tile: Tile| (self.read)(tile).map_err(|source| NodesError::Read { tile, source });
        let (found, mut bytes) = match read(tile)? {
            Some(bytes) => (tile, bytes),
            None if tile.width == WIDTH => return Err(NodesError::Missing(tile)),
            None => (tile.full(), read(tile.full())?.ok_or(NodesError::Missing(tile))?),
        };
        if bytes.len() != usize::from(found.width) * HASH_BYTES {
            return Err(NodesError::Length { tile: found, bytes: bytes.len() });
        }
        bytes.truncate(usize::from(tile.width) * HASH_BYTES);
        Ok(bytes)
    }

    /// Where the roots lie that the subtree is made of: the tile, and the bytes within it.
    fn place(&self, height: u32, index: u64) -> Option<(Tile, Range<usize>)> {
        let (level, within) = (u8::try_from(height / HEIGHT).ok()?, height % HEIGHT);
        let first = index.checked_mul(1 << within)?;
        let tile = Tile::of_tree(level, first / u64::from(WIDTH), self.size)?;
        let start = (first % u64::from(WIDTH)) as usize * HASH_BYTES;
        let end = start + (HASH_BYTES << within);
        (end <= usize::from(tile.width) * HASH_BYTES).then_some((tile, start..end))
    }
}

impl<F, E> Nodes for TileNodes<F>
where
    F: Fn(Tile) -> Result<Option<Vec<u8>>, E>,
{
    type Error = NodesError<E>;

    fn subtree(&self, height: u32, index: u64) -> Result<Hash, Self::Error> {
        let outside = || NodesError::Outside { size: self.size, height, index };
        let (tile, range) = self.place(height, index).ok_or_else(outside)?;
        let mut kept = self.kept.borrow_mut();
        if kept.get(&tile.level).is_none_or(|(last, _)| *last != tile) {
            kept.insert(tile.level, (tile, self.hashes(tile)?));
        }
        kept.get(&tile.level).and_then(|(_, bytes)| perfect(bytes.get(range)?)).ok_or_else(outside)
    }
}
