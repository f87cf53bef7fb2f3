//! The tree on disk: tiles, bundles and the checkpoint, in the layout of C2SP tlog-tiles below the log's folder.
//!
//! What is here can be made again from the journal, until it is durable and the journal gives the records up. So files
//! are not synced one by one: [`Tiles::sync`] syncs the file system before segments of the journal are taken away.
//! The checkpoint is synced each time, for others may hold it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::{
    error::{Damage, OpenError},
    tlog::{
        builder::{Builder, TreeFile},
        hash::{Frontier, Hash},
        tile::{self, Tile, WIDTH},
    },
};

/// The file of the newest checkpoint.
pub(super) const CHECKPOINT: &str = "checkpoint";

/// The folder that has them.
#[derive(Clone, Debug)]
pub(super) struct Tiles {
    dir: PathBuf,
}

impl Tiles {
    /// Those of that folder.
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Whether there is nothing of a tree.
    pub(super) fn is_empty(&self) -> bool {
        !self.dir.join("tile").exists() && !self.dir.join(CHECKPOINT).exists()
    }

    /// Writes files, each whole under its name or not at all.
    pub(super) fn write(&self, files: &[TreeFile]) -> io::Result<()> {
        files.iter().try_for_each(|file| self.write_one(file))
    }

    fn write_one(&self, file: &TreeFile) -> io::Result<()> {
        let path = self.dir.join(&file.path);
        let aside = path.with_extension("new");
        let made = open_new(&aside).or_else(|error| match (error.kind(), path.parent()) {
            (io::ErrorKind::NotFound, Some(parent)) => {
                make_folders(parent)?;
                open_new(&aside)
            }
            _ => Err(error),
        });
        made?.write_all(&file.bytes)?;
        fs::rename(&aside, &path)
    }

    /// Takes partial files away that are not of a tree of one of those sizes: beside those that `files` names.
    pub(super) fn forget_partials(&self, files: &[TreeFile], size: u64) -> io::Result<()> {
        let mut kept: Vec<PathBuf> = Tile::partial(size).map(|tile| self.dir.join(tile.path())).collect();
        let (bundle, width) = (size / u64::from(WIDTH), size % u64::from(WIDTH));
        kept.push(self.dir.join(tile::entries_path(bundle, u16::try_from(width).unwrap_or_default())));
        for file in files {
            let path = self.dir.join(&file.path);
            let Some(folder) = path.parent() else { continue };
            for entry in fs::read_dir(folder)? {
                let found = entry?.path();
                if found != path && !kept.contains(&found) {
                    fs::remove_file(found)?;
                }
            }
        }
        Ok(())
    }

    /// Takes the partial files away that full ones have replaced.
    pub(super) fn forget_replaced(&self, full: &[TreeFile]) -> io::Result<()> {
        for file in full {
            match fs::remove_dir_all(self.dir.join(format!("{}.p", file.path))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes all of it durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(File::open(&self.dir)?)?)
    }

    /// Replaces the checkpoint, durably.
    pub(super) fn put_checkpoint(&self, note: &str) -> io::Result<()> {
        let aside = self.dir.join("checkpoint.new");
        let mut file = open_new(&aside)?;
        file.write_all(note.as_bytes())?;
        file.sync_all()?;
        fs::rename(&aside, self.dir.join(CHECKPOINT))?;
        File::open(&self.dir)?.sync_all()
    }

    /// Puts a note below the folder under that name, durably.
    pub(super) fn put_note(&self, name: &str, note: &str) -> io::Result<()> {
        let path = self.dir.join(name);
        let folder = path.parent().unwrap_or(&self.dir);
        make_folders(folder)?;
        let aside = path.with_extension("new");
        let mut file = open_new(&aside)?;
        file.write_all(note.as_bytes())?;
        file.sync_all()?;
        fs::rename(&aside, &path)?;
        File::open(folder)?.sync_all()?;
        File::open(&self.dir)?.sync_all()
    }

    /// The newest checkpoint, as it lies there.
    pub(super) fn checkpoint(&self) -> Result<Option<String>, OpenError> {
        let path = self.dir.join(CHECKPOINT);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(OpenError::Damaged { file: path, line: 0, what: Damage::NotACheckpoint })
            }
            Err(source) => Err(OpenError::Io { what: "read", path, source }),
        }
    }

    /// The tree of the first `size` records. Reads only full tiles, and of those only what lies before `size`.
    pub(super) fn builder(&self, size: u64) -> Result<Builder, OpenError> {
        self.resume(self.edge(size)?, self.bundle_prefix(size)?)
    }

    /// The root of the tree of the first `size` records, of which no more than full tiles may be left.
    pub(super) fn root(&self, size: u64) -> Result<Hash, OpenError> {
        self.resume(self.edge(size)?, Vec::new()).map(|tree| tree.root())
    }

    fn resume(&self, edge: Vec<Vec<Hash>>, bundle: Vec<u8>) -> Result<Builder, OpenError> {
        let damaged = |_| OpenError::Damaged { file: self.dir.clone(), line: 0, what: Damage::Tile };
        Builder::resume(edge, bundle).map_err(damaged)
    }

    /// The right edge of the tree of the first `size` records, level by level.
    fn edge(&self, size: u64) -> Result<Vec<Vec<Hash>>, OpenError> {
        let mut edge = Vec::new();
        let mut level = 0;
        while size >> (8 * level) > 0 {
            let count = (size >> (8 * level)) % u64::from(WIDTH);
            let first = (size >> (8 * level)) - count;
            edge.push((first..first + count).map(|index| self.subtree(level, index)).collect::<Result<_, _>>()?);
            level += 1;
        }
        Ok(edge)
    }

    /// The hash at that place of a level, from the full tile that it is the root of; or, at level 0, is in.
    pub(super) fn subtree(&self, level: u32, index: u64) -> Result<Hash, OpenError> {
        let Some(below) = level.checked_sub(1) else {
            let hashes = self.full_tile(0, index / u64::from(WIDTH))?;
            return Ok(hashes[usize::try_from(index % u64::from(WIDTH)).unwrap_or_default()]);
        };
        let mut root = Frontier::new();
        self.full_tile(below, index)?.into_iter().for_each(|hash| root.push(hash));
        Ok(root.root())
    }

    /// A full tile.
    pub(super) fn full_tile(&self, level: u32, index: u64) -> Result<Vec<Hash>, OpenError> {
        let tile = Tile { level: u8::try_from(level).unwrap_or(u8::MAX), index, width: WIDTH };
        let path = self.dir.join(tile.path());
        let bytes = read(&path)?;
        let (hashes, rest) = bytes.as_chunks::<32>();
        if hashes.len() != usize::from(WIDTH) || !rest.is_empty() {
            return Err(OpenError::Damaged { file: path, line: 0, what: Damage::Tile });
        }
        Ok(hashes.to_vec())
    }

    /// The entries of the bundle of record `size` that come before it, as they lie in the bundle.
    fn bundle_prefix(&self, size: u64) -> Result<Vec<u8>, OpenError> {
        let count = usize::try_from(size % u64::from(WIDTH)).unwrap_or_default();
        if count == 0 {
            return Ok(Vec::new());
        }
        let path = self.dir.join(tile::entries_path(size / u64::from(WIDTH), WIDTH));
        let damaged = || OpenError::Damaged { file: path.clone(), line: 0, what: Damage::Tile };
        let bytes = read(&path)?;
        let taken = tile::entries(&bytes).take(count).collect::<Result<Vec<_>, _>>().map_err(|_| damaged())?;
        if taken.len() < count {
            return Err(damaged());
        }
        let length = taken.iter().map(|entry| entry.len() + 2).sum();
        bytes.get(..length).map(<[u8]>::to_vec).ok_or_else(damaged)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, OpenError> {
    fs::read(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => OpenError::Damaged { file: path.to_owned(), line: 0, what: Damage::Tile },
        _ => OpenError::Io { what: "read", path: path.to_owned(), source },
    })
}

fn open_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn make_folders(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}
