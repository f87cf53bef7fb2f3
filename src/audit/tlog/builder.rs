//! Makes the files of a tree, entry by entry: tiles and bundles (C2SP tlog-tiles).

use super::{
    hash::{Frontier, FrontierError, Hash},
    tile::{self, HEIGHT, Tile, WIDTH},
};

/// A file of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeFile {
    /// Its path below the log's folder.
    pub path: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// A tree that grows at its right edge.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    tree: Frontier,
    /// The hashes of the tile at the right edge of each level; fewer than 256 each.
    edge: Vec<Vec<Hash>>,
    /// The entries that are in no full bundle yet.
    bundle: Vec<u8>,
    full: Vec<TreeFile>,
}

impl Builder {
    /// Goes on from a tree of which `edge` holds the right edge of each level, and `bundle` the entries behind the
    /// last full bundle.
    ///
    /// # Errors
    /// [`FrontierError`] if a level has more than 255 hashes.
    pub fn resume(edge: Vec<Vec<Hash>>, bundle: Vec<u8>) -> Result<Self, FrontierError> {
        let mut tree = Frontier::new();
        for (level, hashes) in (0..HEIGHT).zip(&edge).rev() {
            hashes.iter().try_for_each(|hash| tree.push_subtree(HEIGHT * level, *hash))?;
        }
        Ok(Self { tree, edge, bundle, full: Vec::new() })
    }

    /// Appends an entry, of which `leaf` is the leaf.
    ///
    /// # Panics
    /// If the entry is longer than [`tile::ENTRY_BYTES_MAX`].
    pub fn push(&mut self, entry: &[u8], leaf: Hash) {
        tile::encode_entry(&mut self.bundle, entry).expect("records are measured before they are written");
        self.tree.push(leaf);
        if self.push_at(0, leaf) {
            let path = tile::entries_path(self.size() / u64::from(WIDTH) - 1, WIDTH);
            self.full.push(TreeFile { path, bytes: std::mem::take(&mut self.bundle) });
        }
    }

    /// Whether that filled the tile of that level.
    fn push_at(&mut self, level: usize, hash: Hash) -> bool {
        if self.edge.len() <= level {
            self.edge.push(Vec::with_capacity(usize::from(WIDTH)));
        }
        self.edge[level].push(hash);
        if self.edge[level].len() < usize::from(WIDTH) {
            return false;
        }
        let hashes = std::mem::take(&mut self.edge[level]);
        let number = u8::try_from(level).unwrap_or(u8::MAX);
        let index = (self.size() >> (8 * (level + 1))) - 1;
        let tile = Tile { level: number, index, width: WIDTH };
        self.full.push(TreeFile { path: tile.path(), bytes: hashes.concat() });
        let mut root = Frontier::new();
        hashes.iter().for_each(|hash| root.push(*hash));
        self.push_at(level + 1, root.root());
        true
    }

    /// How many entries there are.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// The tree's root.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.tree.root()
    }

    /// The tree's frontier.
    #[must_use]
    pub const fn tree(&self) -> &Frontier {
        &self.tree
    }

    /// How long the bundle in the making is.
    #[must_use]
    pub const fn bundle_bytes(&self) -> u64 {
        self.bundle.len() as u64
    }

    /// Gives away the full tiles and bundles that were made since the last time.
    #[must_use]
    pub fn take_full(&mut self) -> Vec<TreeFile> {
        std::mem::take(&mut self.full)
    }

    /// The partial tiles and the partial bundle of the tree as it is.
    #[must_use]
    pub fn partials(&self) -> Vec<TreeFile> {
        let width = |count: usize| u16::try_from(count).unwrap_or(WIDTH);
        let level = |(level, hashes): (usize, &Vec<Hash>)| {
            let index = self.size().checked_shr(8 * (u32::try_from(level).unwrap_or(u32::MAX) + 1)).unwrap_or(0);
            let tile = Tile { level: u8::try_from(level).unwrap_or(u8::MAX), index, width: width(hashes.len()) };
            TreeFile { path: tile.path(), bytes: hashes.concat() }
        };
        let mut files: Vec<TreeFile> =
            self.edge.iter().enumerate().filter(|(_, hashes)| !hashes.is_empty()).map(level).collect();
        if let Some(count) = self.edge.first().map(Vec::len).filter(|count| *count > 0) {
            let path = tile::entries_path(self.size() / u64::from(WIDTH), width(count));
            files.push(TreeFile { path, bytes: self.bundle.clone() });
        }
        files
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::tlog::hash;

    fn grown(size: u64) -> (Builder, Vec<TreeFile>) {
        let mut builder = Builder::default();
        for n in 0..size {
            let entry = n.to_be_bytes();
            builder.push(&entry, hash::leaf(&entry));
        }
        let full = builder.take_full();
        (builder, full)
    }

    #[test]
    fn a_tree_of_70000_has_the_tiles_of_the_specification() {
        let (builder, full) = grown(70_000);
        let at = |files: &[TreeFile], prefix: &str| files.iter().filter(|file| file.path.starts_with(prefix)).count();
        assert_eq!([at(&full, "tile/0/"), at(&full, "tile/1/"), at(&full, "tile/entries/")], [273, 1, 273]);
        let partials: Vec<String> = builder.partials().into_iter().map(|file| file.path).collect();
        let wanted = ["tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1", "tile/entries/273.p/112"];
        assert_eq!(partials, wanted);
    }

    #[test]
    fn a_tree_of_256_has_a_full_tile_and_a_partial_one_above() {
        let (builder, full) = grown(256);
        assert_eq!(full.len(), 2);
        let partials = builder.partials();
        assert_eq!(partials.len(), 1);
        assert_eq!((partials[0].path.as_str(), partials[0].bytes.len()), ("tile/1/000.p/1", 32));
    }

    #[test]
    fn what_goes_on_from_its_edge_makes_the_same_files() {
        for size in [0, 1, 255, 256, 300, 65_536, 66_000] {
            let (mut whole, _) = grown(size);
            let mut resumed = Builder::resume(whole.edge.clone(), whole.bundle.clone()).unwrap();
            for n in 0..600_u64 {
                let entry = n.to_be_bytes();
                whole.push(&entry, hash::leaf(&entry));
                resumed.push(&entry, hash::leaf(&entry));
            }
            assert_eq!(whole.root(), resumed.root());
            assert_eq!(whole.take_full(), resumed.take_full());
            assert_eq!(whole.partials(), resumed.partials());
        }
    }
}
