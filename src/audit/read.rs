//! Reading records by their index, from the bundles of a log that is in use, or of a copy.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::tlog::tile::{self, WIDTH};

/// Records are read a bundle at a time.
#[derive(Clone, Debug)]
pub struct Reader {
    dir: PathBuf,
}

/// Entries as they lie in a bundle, and the index of the first.
#[derive(Debug)]
pub struct Entries {
    first: u64,
    bytes: Vec<u8>,
    from: u64,
    until: u64,
}

/// Why records cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no such record yet.
    #[error("the log has {size} records that can be read: there is none with index {index}")]
    Beyond {
        /// What was asked for.
        index: u64,
        /// How many there are.
        size: u64,
    },
    /// The bundle of the record is gone.
    #[error("record {index} was pruned: its bundle {path} is not there; if it was archived, bring it back")]
    Pruned {
        /// What was asked for.
        index: u64,
        /// Where its bundle would be.
        path: PathBuf,
    },
    /// The bundle is not whole.
    #[error("the bundle {path} ends before record {index}: `strongroom audit verify` says what is wrong with the log")]
    Cut {
        /// What was asked for.
        index: u64,
        /// The bundle.
        path: PathBuf,
    },
    /// The file system said no.
    #[error("cannot read {path}")]
    Io {
        /// What.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl Reader {
    /// Reads the log in that folder.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The records from `from` to the end of its bundle, of a log of which `size` can be read. Blocks.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn bundle(&self, from: u64, size: u64) -> Result<Entries, ReadError> {
        if from >= size {
            return Err(ReadError::Beyond { index: from, size });
        }
        let width = u64::from(WIDTH);
        let (number, first) = (from / width, from - from % width);
        let until = size.min(first + width);
        let path = self.file(number, until - first);
        match fs::read(&path) {
            Ok(bytes) => Entries { first, bytes, from, until }.whole(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ReadError::Pruned { index: from, path }),
            Err(source) => Err(ReadError::Io { path, source }),
        }
    }

    /// The bytes of one record. Blocks.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn entry(&self, index: u64, size: u64) -> Result<Vec<u8>, ReadError> {
        let entries = self.bundle(index, size)?;
        let path = || self.file(index / u64::from(WIDTH), u64::from(WIDTH));
        let found = entries.iter().next().map(|(_, entry)| entry.to_vec());
        found.ok_or_else(|| ReadError::Cut { index, path: path() })
    }

    /// The file of a bundle with at least so many entries. Between a look at the size and this one the log may have
    /// grown: then a wider file has replaced the partial one.
    fn file(&self, number: u64, count: u64) -> PathBuf {
        let full = self.dir.join(tile::entries_path(number, WIDTH));
        let exact = u16::try_from(count).ok().filter(|count| (1..WIDTH).contains(count));
        let Some(exact) = exact else { return full };
        let exact = self.dir.join(tile::entries_path(number, exact));
        if exact.exists() || full.exists() {
            return if exact.exists() { exact } else { full };
        }
        let width = |path: &Path| path.file_name()?.to_str()?.parse::<u64>().ok();
        let others = exact.parent().and_then(|folder| fs::read_dir(folder).ok());
        let mut others = others.into_iter().flatten().flatten().map(|entry| entry.path());
        others.find(|path| width(path).is_some_and(|width| width >= count)).unwrap_or(full)
    }
}

impl Entries {
    fn whole(self, path: PathBuf) -> Result<Self, ReadError> {
        let found = self.iter().count() as u64;
        if found < self.until - self.from {
            return Err(ReadError::Cut { index: self.from + found, path });
        }
        Ok(self)
    }

    /// Each with its index, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let entries = tile::entries(&self.bytes).map_while(Result::ok);
        (self.first..self.until).zip(entries).filter(|(index, _)| *index >= self.from)
    }
}
