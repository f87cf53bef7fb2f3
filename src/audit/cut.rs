//! A copy of the log up to a point, taken while it goes on: what a backup holds of it.
//!
//! The copy is a log as a start finds one: the journal up to the last record that is wanted, the full tiles and bundles of
//! what the journal has given up, and a checkpoint. Where it ends is decided by a store that was copied at the same time: the
//! log must know no newer head than that store has, and every intent of a change that the store has. Intents come before
//! their changes and outcomes behind them, so all records before the first that names a newer head will do.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufRead as _, BufReader, BufWriter, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use super::{
    Log,
    error::{Cause, Damage, LogError, OpenError},
    follow::{TreeHead, heads_of},
    handover,
    journal::{
        disk, line,
        scan::{self, Chain, Place},
        standing::heads_digest,
    },
    record::HeadMark,
    tiles::Tiles,
    tlog::{
        Checkpoint,
        tile::{self, Tile, WIDTH},
    },
};

/// Why the log could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum CutError {
    /// The file system said no.
    #[error("cannot copy {path}")]
    Io {
        /// What.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// What was copied is not what was written.
    #[error("the copy of the log is not whole")]
    Copied(#[source] OpenError),
    /// What lies in the journal is not what was written.
    #[error("the log's journal is not what was written")]
    Altered(#[source] LogError),
}

/// A log whose journal gives nothing up while this lives.
#[derive(Debug)]
pub struct HeldJournal(Arc<Log>);

impl HeldJournal {
    /// Holds the journal.
    #[must_use]
    pub fn new(log: &Arc<Log>) -> Self {
        log.hold_journal();
        Self(Arc::clone(log))
    }

    /// Copies the log into an empty folder: the records before `until`, and of those from `from` on only the ones before the
    /// first that names a head for which `is_newer`. Says what tree the copy's checkpoint is to be made of. Blocks.
    ///
    /// # Errors
    /// [`CutError`].
    pub fn copy(
        &self,
        to: &Path,
        from: u64,
        until: u64,
        is_newer: &dyn Fn(&HeadMark) -> bool,
    ) -> Result<TreeHead, CutError> {
        let (source, target) = (disk::journal(self.0.dir()), disk::journal(to));
        make(&target)?;
        let segments = disk::segments(&source).map_err(CutError::Copied)?;
        let first = segments.first().map_or(0, |(first, _)| *first);
        let mut copied = Vec::new();
        for (begins, path) in segments.into_iter().filter(|(begins, _)| *begins < until) {
            let to = target.join(disk::segment_name(begins));
            let ended = copy_segment(&path, &to, Bounds { begins, from, until, is_newer })?;
            copied.push((begins, to));
            if ended == Ended::Here {
                break;
            }
        }
        copy_tiles(self.0.dir(), to, first.next_multiple_of(u64::from(WIDTH)))?;
        let chain = read_back(to, first, &copied, self.0.name())?;
        copy_handovers(self.0.dir(), to, chain.tree.size())?;
        Ok(TreeHead { size: chain.tree.size(), root: chain.tree.root(), heads: heads_digest(&chain.standing.heads) })
    }

    /// Puts the checkpoint of a copy beside it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put_checkpoint(to: &Path, note: &str) -> Result<(), CutError> {
        Tiles::new(to).put_checkpoint(note).map_err(failed(to))
    }
}

impl Drop for HeldJournal {
    fn drop(&mut self) {
        self.0.held().fetch_sub(1, Ordering::AcqRel);
    }
}

/// Which records of a segment are copied.
#[derive(Clone, Copy)]
struct Bounds<'a> {
    begins: u64,
    from: u64,
    until: u64,
    is_newer: &'a dyn Fn(&HeadMark) -> bool,
}

/// Whether the copy ends in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Here,
    Later,
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> CutError {
    let path = path.to_owned();
    move |source| CutError::Io { path, source }
}

fn make(folder: &Path) -> Result<(), CutError> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed(folder))
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn copy_segment(from: &Path, to: &Path, bounds: Bounds<'_>) -> Result<Ended, CutError> {
    let mut reader = BufReader::with_capacity(256 << 10, File::open(from).map_err(failed(from))?);
    let mut writer = BufWriter::with_capacity(256 << 10, create(to).map_err(failed(to))?);
    let (mut bytes, mut index, mut is_header) = (Vec::new(), bounds.begins, true);
    let mut ended = Ended::Later;
    loop {
        bytes.clear();
        reader.read_until(b'\n', &mut bytes).map_err(failed(from))?;
        // What is no whole line is being written, and is behind what is wanted.
        if bytes.last() != Some(&b'\n') {
            break;
        }
        if !is_header {
            if index >= bounds.until || (index >= bounds.from && is_behind(&bytes, bounds.is_newer)?) {
                ended = Ended::Here;
                break;
            }
            index += 1;
        }
        is_header = false;
        writer.write_all(&bytes).map_err(failed(to))?;
    }
    let file = writer.into_inner().map_err(|error| failed(to)(error.into_error()))?;
    file.sync_all().map_err(failed(to))?;
    Ok(ended)
}

/// Whether a record names a head that the store's copy does not have.
fn is_behind(bytes: &[u8], is_newer: &dyn Fn(&HeadMark) -> bool) -> Result<bool, CutError> {
    let altered = |cause| CutError::Altered(LogError::Tree(Arc::new(cause)));
    let mut line = bytes[..bytes.len() - 1].to_vec();
    let framed = line::take_apart(&mut line).map_err(|_: Damage| altered(Cause::Altered))?;
    Ok(heads_of(framed.body).map_err(altered)?.iter().any(is_newer))
}

/// Copies the full tiles and bundles of the first `size` records, a multiple of [`WIDTH`]. Bundles that were pruned are not
/// there; tiles always are.
fn copy_tiles(from: &Path, to: &Path, size: u64) -> Result<(), CutError> {
    for level in 0..=7_u8 {
        let tiles = size.checked_shr(8 * (u32::from(level) + 1)).unwrap_or(0);
        for index in 0..tiles {
            copy_file(from, to, &Tile { level, index, width: WIDTH }.path())?;
        }
    }
    let mut begun = false;
    for index in 0..size / u64::from(WIDTH) {
        let path = tile::entries_path(index, WIDTH);
        if begun || from.join(&path).exists() {
            copy_file(from, to, &path)?;
            begun = true;
        }
    }
    Ok(())
}

/// Copies the notes by which one key of the log has handed over to the next, as far as the copy reaches.
fn copy_handovers(from: &Path, to: &Path, size: u64) -> Result<(), CutError> {
    for (path, note) in handover::notes(from).map_err(CutError::Copied)? {
        let is_within = Checkpoint::parse(note.text()).is_ok_and(|checkpoint| checkpoint.size() <= size);
        if let Some(name) = Path::new(&path).file_name().filter(|_| is_within) {
            copy_file(from, to, &format!("{}/{}", handover::FOLDER, name.to_string_lossy()))?;
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path, path: &str) -> Result<(), CutError> {
    let (from, to) = (from.join(path), to.join(path));
    if let Some(folder) = to.parent().filter(|folder| !folder.exists()) {
        make(folder)?;
    }
    let bytes = fs::read(&from).map_err(failed(&from))?;
    create(&to).and_then(|mut file| file.write_all(&bytes)).map_err(failed(&to))
}

/// Reads the copy as a start does, and makes the tiles of what its journal holds.
fn read_back(dir: &Path, first: u64, segments: &[(u64, PathBuf)], log: &str) -> Result<Chain, CutError> {
    let tiles = Tiles::new(dir);
    let tree = tiles.builder(first).map_err(CutError::Copied)?;
    let resource = Some(scan::log_resource(log));
    let mut chain = Chain { tree, is_whole: first == 0, resource, ..Chain::default() };
    for (at, (_, path)) in segments.iter().enumerate() {
        let place = if at + 1 == segments.len() { Place::Last } else { Place::Inner };
        // What a start asks for by the checkpoint is in tiles, and whoever reads the copy reads tiles.
        let mut full = Vec::new();
        scan::scan(path, place, &mut chain, &mut |chain| {
            full.append(&mut chain.tree.take_full());
            Ok(())
        })
        .map_err(CutError::Copied)?;
        tiles.write(&full).map_err(failed(dir))?;
    }
    tiles.write(&chain.tree.partials()).map_err(failed(dir))?;
    Ok(chain)
}
