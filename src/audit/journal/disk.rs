//! The log's folder, its lock and its segments as files: the seam at which tests put a faulty disk.
//!
//! Nothing here knows what a record is.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::{
    fs::{FlockOperation, OFlags},
    io::Errno,
};

use super::super::error::{Damage, OpenError};

/// The name of a segment ends so.
const EXTENSION: &str = ".jsonl";

/// The index in a segment's name has so many digits, so that names sort as indices do.
const INDEX_DIGITS: usize = 20;

/// The folder of a log.
pub(in crate::audit) trait Disk: Send + Sync {
    /// Makes an empty segment. Its name is not yet durable.
    fn create(&self, name: &str) -> io::Result<Arc<dyn Segment>>;
    /// Opens a segment to append to it.
    fn open(&self, name: &str) -> io::Result<Arc<dyn Segment>>;
    /// Takes a segment away: its name is gone when [`Self::sync`] has returned.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes the names durable.
    fn sync(&self) -> io::Result<()>;
    /// What the file system has left for us, in bytes.
    fn free_bytes(&self) -> io::Result<u64>;
    /// Whether the lock is still the lock that others would ask for.
    fn is_locked(&self) -> io::Result<bool>;
}

/// A segment that is open for appending.
pub(in crate::audit) trait Segment: Send + Sync {
    /// One write(2) at the end. Returns how many bytes were taken.
    fn write(&self, bytes: &[u8]) -> io::Result<usize>;
    /// Cuts it to that length.
    fn truncate(&self, bytes: u64) -> io::Result<()>;
    /// fdatasync(2).
    fn sync(&self) -> io::Result<()>;
    /// Its length in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Whether it is still the file of its name.
    fn is_in_place(&self) -> io::Result<bool>;
}

/// The name of the segment whose first record has that index.
pub(in crate::audit) fn segment_name(first_index: u64) -> String {
    format!("{first_index:0INDEX_DIGITS$}{EXTENSION}")
}

/// The segments of a folder: first index and path, in order. Files of other names are not ours to judge.
pub(in crate::audit) fn segments(dir: &Path) -> Result<Vec<(u64, PathBuf)>, OpenError> {
    let io = |source| OpenError::Io { what: "list", path: dir.to_owned(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name();
        let Some(stem) = name.to_str().and_then(|name| name.strip_suffix(EXTENSION)) else { continue };
        let digits = stem.len() == INDEX_DIGITS && stem.bytes().all(|byte| byte.is_ascii_digit());
        match stem.parse() {
            Ok(index) if digits => found.push((index, entry.path())),
            _ => return Err(OpenError::Damaged { file: entry.path(), line: 0, what: Damage::Name }),
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The folder of the journal in that of the log.
pub(in crate::audit) fn journal(dir: &Path) -> PathBuf {
    dir.join("journal")
}

/// Whether the file system was full, or a quota used up.
pub(in crate::audit) fn is_no_space(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    errno == Some(Errno::NOSPC.raw_os_error()) || errno == Some(Errno::DQUOT.raw_os_error())
}

/// A real folder, locked for as long as this lives.
#[derive(Debug)]
pub(in crate::audit) struct Folder {
    /// The journal's.
    dir: PathBuf,
    handle: File,
    lock: File,
    lock_path: PathBuf,
}

impl Folder {
    /// Makes the log's folder if there is none, takes its lock, and makes the journal's folder in it.
    pub(in crate::audit) fn open(dir: &Path) -> Result<Self, OpenError> {
        let io = |what| move |source| OpenError::Io { what, path: dir.to_owned(), source };
        make_durably(dir).map_err(io("make"))?;
        let mode = std::fs::metadata(dir).map_err(io("inspect"))?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(OpenError::Exposed { path: dir.to_owned(), mode });
        }
        if !segments(dir)?.is_empty() {
            return Err(OpenError::Damaged { file: dir.to_owned(), line: 0, what: Damage::Form });
        }
        let lock_path = dir.join("lock");
        let lock = ours().create(true).truncate(false).open(&lock_path).map_err(io("open the lock of"))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(OpenError::Locked(dir.to_owned())),
            Err(errno) => return Err(io("lock")(errno.into())),
        }
        let dir = journal(dir);
        make_durably(&dir).map_err(io("make the journal in"))?;
        let handle = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::DIRECTORY.bits().cast_signed())
            .open(&dir)
            .map_err(io("open the journal in"))?;
        Ok(Self { dir, handle, lock, lock_path })
    }
}

impl Disk for Folder {
    fn create(&self, name: &str) -> io::Result<Arc<dyn Segment>> {
        let path = self.dir.join(name);
        let file = ours().append(true).create_new(true).open(&path)?;
        Ok(Arc::new(SegmentFile { path, file }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn Segment>> {
        let path = self.dir.join(name);
        let file = ours().append(true).open(&path)?;
        Ok(Arc::new(SegmentFile { path, file }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.dir.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstatvfs(&self.handle)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn is_locked(&self) -> io::Result<bool> {
        is_at(&self.lock, &self.lock_path)
    }
}

#[derive(Debug)]
struct SegmentFile {
    path: PathBuf,
    file: File,
}

impl Segment for SegmentFile {
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        (&self.file).write(bytes)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn is_in_place(&self) -> io::Result<bool> {
        is_at(&self.file, &self.path)
    }
}

/// No disk: what is written is gone.
#[derive(Debug)]
pub(in crate::audit) struct Nowhere;

/// A segment of no disk. It knows its length.
#[derive(Debug, Default)]
pub(in crate::audit) struct NowhereSegment(AtomicU64);

impl Disk for Nowhere {
    fn create(&self, _name: &str) -> io::Result<Arc<dyn Segment>> {
        Ok(Arc::new(NowhereSegment::default()))
    }

    fn open(&self, _name: &str) -> io::Result<Arc<dyn Segment>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn is_locked(&self) -> io::Result<bool> {
        Ok(true)
    }
}

impl Segment for NowhereSegment {
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes.len())
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.0.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.load(Ordering::Relaxed))
    }

    fn is_in_place(&self) -> io::Result<bool> {
        Ok(true)
    }
}

/// For files that only their owner may read, and that are never reached through a symbolic link.
fn ours() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    options
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(named) => Ok(held.nlink() > 0 && (held.dev(), held.ino()) == (named.dev(), named.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes the folder 0700 and its name durable; leaves one that is there as it is.
fn make_durably(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}
