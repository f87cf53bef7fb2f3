//! Tiles and entry bundles (C2SP `tlog-tiles`): where they lie and what is in them.
//!
//! A tile of level `l` holds up to 256 hashes, each the root of a perfect subtree of 256^l leaves: leaf hashes at level 0,
//! the roots of full tiles of the level below above that. A bundle holds the entries of a tile of level 0, each behind its
//! length (16 bits, big-endian). Tiles and bundles that are not full yet carry their width in their name, so that a name
//! always stands for the same bytes.

use super::hash::{Hash, node};

/// The hashes of a full tile, and the entries of a full bundle.
pub const WIDTH: u16 = 256;

/// The levels that a full tile spans: 2^8 = 256.
pub const HEIGHT: u32 = 8;

/// The bytes of a hash in a tile.
pub const HASH_BYTES: usize = size_of::<Hash>();

/// The bytes of a full tile.
pub const TILE_BYTES: usize = WIDTH as usize * HASH_BYTES;

/// The bytes of the longest entry, which is what its length has room for.
pub const ENTRY_BYTES_MAX: usize = 65_535;

/// The bytes of an entry's length.
const LENGTH_BYTES: usize = 2;

/// The highest level that a tree of 2^63 - 1 leaves has.
const LEVEL_MAX: u8 = 7;

/// Which tile of a tree, and how much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tile {
    /// Its level: each of its hashes stands for 256^level leaves.
    pub level: u8,
    /// Its number within the level.
    pub index: u64,
    /// Its hashes, 1 to [`WIDTH`]: fewer than [`WIDTH`] is a partial tile.
    pub width: u16,
}

impl Tile {
    /// Its name below the log's folder or URL: `tile/0/x001/x234/067.p/112`.
    pub fn path(&self) -> String {
        format!("tile/{}/{}", self.level, numbered(self.index, self.width))
    }

    /// The same tile when it is full.
    #[must_use]
    pub fn full(self) -> Self {
        Self { width: WIDTH, ..self }
    }

    /// The partial tiles of a tree of `size` leaves, the lowest level first; a level that ends with a full tile has none.
    pub fn partial(size: u64) -> impl Iterator<Item = Self> {
        (0..=LEVEL_MAX).filter_map(move |level| {
            let hashes = hashes(level, size);
            let width = (hashes % u64::from(WIDTH)) as u16;
            (width > 0).then_some(Self { level, index: hashes / u64::from(WIDTH), width })
        })
    }

    /// The tile numbered `index` of that level, as wide as it is in a tree of `size` leaves; none where the tree has none of it.
    pub fn of_tree(level: u8, index: u64, size: u64) -> Option<Self> {
        let first = index.checked_mul(u64::from(WIDTH))?;
        let width = hashes(level, size).checked_sub(first)?.min(u64::from(WIDTH)) as u16;
        (width > 0).then_some(Self { level, index, width })
    }
}

/// The hashes of a level, over all its tiles, in a tree of `size` leaves.
fn hashes(level: u8, size: u64) -> u64 {
    size.checked_shr(HEIGHT * u32::from(level)).unwrap_or(0)
}

/// The name of a bundle below the log's folder or URL: `tile/entries/x001/x234/067.p/112`.
pub fn entries_path(index: u64, width: u16) -> String {
    format!("tile/entries/{}", numbered(index, width))
}

/// `x001/x234/067`, and `.p/112` behind it if it is partial.
fn numbered(index: u64, width: u16) -> String {
    let mut text = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        text.insert_str(0, &format!("x{:03}/", rest % 1000));
        rest /= 1000;
    }
    if width < WIDTH {
        text.push_str(&format!(".p/{width}"));
    }
    text
}

/// What is wrong with the bytes of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// They are not so many whole hashes.
    #[error("a tile of {found} bytes where {expected} belong")]
    Length {
        /// The bytes that belong there.
        expected: usize,
        /// The bytes that are there.
        found: usize,
    },
}

/// The hash at a position, 0 to 255, of a tile's bytes; none beyond its end.
pub fn hash_at(tile: &[u8], position: u16) -> Option<Hash> {
    let start = usize::from(position) * HASH_BYTES;
    tile.get(start..start + HASH_BYTES)?.try_into().ok()
}

/// The root of a full tile, as it stands in the tile above.
///
/// # Errors
///
/// [`TileError::Length`] if the bytes are not those of a full tile.
pub fn root(tile: &[u8]) -> Result<Hash, TileError> {
    perfect(tile)
        .filter(|_| tile.len() == TILE_BYTES)
        .ok_or(TileError::Length { expected: TILE_BYTES, found: tile.len() })
}

/// The root over hashes side by side, if their number is a power of two.
pub(super) fn perfect(hashes: &[u8]) -> Option<Hash> {
    let (rows, rest) = hashes.as_chunks::<HASH_BYTES>();
    if !rest.is_empty() || !rows.len().is_power_of_two() {
        return None;
    }
    let mut row = rows.to_vec();
    while row.len() > 1 {
        row = row.as_chunks::<2>().0.iter().map(|[left, right]| node(left, right)).collect();
    }
    row.first().copied()
}

/// An entry is too long for a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an entry of {bytes} bytes exceeds the limit of {ENTRY_BYTES_MAX}")]
pub struct EntryTooLong {
    /// Its length.
    pub bytes: usize,
}

/// Writes an entry behind the others of its bundle.
///
/// # Errors
///
/// [`EntryTooLong`] beyond [`ENTRY_BYTES_MAX`]; the bundle is as before.
pub fn encode_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> Result<(), EntryTooLong> {
    let length = u16::try_from(entry.len()).map_err(|_| EntryTooLong { bytes: entry.len() })?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}

/// A bundle ends within an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the entry bundle ends within the entry at byte {offset}")]
pub struct TornEntry {
    /// Where that entry begins: what is before it is whole.
    pub offset: usize,
}

/// The entries of a bundle, in order; after an error there is nothing more.
pub fn entries(bundle: &[u8]) -> impl Iterator<Item = Result<&[u8], TornEntry>> {
    let mut offset = 0;
    std::iter::from_fn(move || {
        let rest = bundle.get(offset..).filter(|rest| !rest.is_empty())?;
        let Some(entry) = first_entry(rest) else {
            let torn = TornEntry { offset };
            offset = bundle.len();
            return Some(Err(torn));
        };
        offset += LENGTH_BYTES + entry.len();
        Some(Ok(entry))
    })
}

fn first_entry(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH_BYTES>()?;
    rest.get(..usize::from(u16::from_be_bytes(*length)))
}
