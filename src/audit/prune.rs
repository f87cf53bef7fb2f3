//! Old records leave: whole bundles, from the first on. Their tiles stay, so every root stays provable, and so does
//! every record that somebody kept.
//!
//! It may be done beside a running server: a full bundle is never written again. The journal's records, and those that
//! no checkpoint covers, stay.
//!
//! Nothing in the log says that records were pruned: whoever can delete files could delete that word too, or write it.
//! Each check says which record is the first that is there. An archived bundle proves itself by its hashes in the tree.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write as _},
    ops::Range,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::{
    error::OpenError,
    journal::{disk, line},
    record::Record,
    tiles::Tiles,
    tlog::{
        hash,
        tile::{self, WIDTH},
    },
    verify::Verified,
};

/// As many bundles are copied before they are made durable and taken away.
const BUNDLES_AT_ONCE: usize = 256;

/// What is old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Records with a smaller index.
    Index(u64),
    /// Records of an earlier time, in seconds since 1970: bundles until the first that has another.
    Time(i64),
}

/// Why records do not leave.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// The log cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A bundle is not what its tile says. Nothing of it was moved.
    #[error("the bundle {0} is not what the tree says")]
    Altered(PathBuf),
    /// The archive has another file of that name.
    #[error("the archive has another file {0}")]
    Taken(PathBuf),
    /// The file system said no. What was moved so far is in the archive, and gone from the log.
    #[error("cannot {what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PruneError {
    let path = path.to_owned();
    move |source| PruneError::Io { what, path, source }
}

/// The records that may leave a log, which was verified: whole bundles. Blocks.
///
/// # Errors
/// [`PruneError`].
pub fn plan(dir: &Path, verified: &Verified, before: Before) -> Result<Range<u64>, PruneError> {
    let width = u64::from(WIDTH);
    let journal = disk::journal(dir);
    let segments = if journal.is_dir() { disk::segments(&journal)? } else { Vec::new() };
    let kept = segments.first().map_or(verified.signed, |(first, _)| verified.signed.min(*first));
    let until = match before {
        Before::Index(index) => index.min(kept),
        Before::Time(time) => until(dir, verified.first..kept - kept % width, time)?,
    };
    Ok(verified.first..(until - until % width).max(verified.first))
}

/// Where the first bundle begins that has a record of that time or a later one.
fn until(dir: &Path, records: Range<u64>, time: i64) -> Result<u64, PruneError> {
    let mut at = records.start;
    while at < records.end {
        let path = dir.join(tile::entries_path(at / u64::from(WIDTH), WIDTH));
        let bytes = fs::read(&path).map_err(io("read", &path))?;
        for entry in tile::entries(&bytes) {
            let record = entry.ok().and_then(|entry| line::parse::<Record>(entry).ok());
            if record.ok_or_else(|| PruneError::Altered(path.clone()))?.time >= time {
                return Ok(at);
            }
        }
        at += u64::from(WIDTH);
    }
    Ok(at)
}

/// Takes the bundles of those records away, from the first on; into `archive`, if there is one, where they have the same
/// names below it. An interrupted run is gone on with by the next. Blocks.
///
/// # Errors
/// [`PruneError`].
pub fn prune(dir: &Path, records: Range<u64>, archive: Option<&Path>) -> Result<(), PruneError> {
    let width = u64::from(WIDTH);
    let bundles: Vec<u64> = (records.start / width..records.end / width).collect();
    for some in bundles.chunks(BUNDLES_AT_ONCE) {
        if let Some(archive) = archive {
            some.iter().try_for_each(|bundle| copy(dir, *bundle, archive))?;
            let synced = File::open(archive).and_then(|folder| Ok(rustix::fs::syncfs(folder)?));
            synced.map_err(io("sync", archive))?;
        }
        for bundle in some {
            let path = dir.join(tile::entries_path(*bundle, WIDTH));
            fs::remove_file(&path).map_err(io("remove", &path))?;
        }
    }
    let synced = File::open(dir).and_then(|folder| Ok(rustix::fs::syncfs(folder)?));
    synced.map_err(io("sync", dir))
}

/// Copies a bundle that is what its tile says; one that is there already is compared.
fn copy(dir: &Path, bundle: u64, archive: &Path) -> Result<(), PruneError> {
    let name = tile::entries_path(bundle, WIDTH);
    let (from, to) = (dir.join(&name), archive.join(&name));
    let bytes = fs::read(&from).map_err(io("read", &from))?;
    let leaves: Result<Vec<_>, _> = tile::entries(&bytes).map(|entry| entry.map(hash::leaf)).collect();
    if leaves.ok() != Some(Tiles::new(dir).full_tile(0, bundle)?) {
        return Err(PruneError::Altered(from));
    }
    match fs::read(&to) {
        Ok(there) if there == bytes => return Ok(()),
        Ok(_) => return Err(PruneError::Taken(to)),
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(io("read", &to)(error)),
        Err(_) => {}
    }
    write(&to, &bytes).map_err(io("write", &to))?;
    let written = fs::read(&to).map_err(io("read", &to))?;
    if written == bytes { Ok(()) } else { Err(PruneError::Taken(to)) }
}

/// Whole or not at all under its name.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let aside = path.with_extension("new");
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&aside, path)
}
