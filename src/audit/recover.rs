//! What a start does: reads the journal against the tiles and the checkpoint, finds the end of the log, and cuts off
//! what a crash left behind it.

use std::path::{Path, PathBuf};

use super::{
    error::{Damage, OpenError},
    journal::{
        debt::Debt,
        disk::{self, Disk},
        scan::{self, Chain, Place, Scanned, Torn},
        writer::End,
    },
    tiles::{CHECKPOINT, Tiles},
    tlog::{Checkpoint, Hash, SignedNote, builder::Builder},
};

/// What was found.
pub(super) struct Found {
    /// Where the log goes on; `None`: there is no whole record.
    pub(super) end: Option<End>,
    /// What was cut off.
    pub(super) torn: Option<Torn>,
    /// The tree of what comes before the journal, whose files are durable. What the journal holds is put into files
    /// when all of it was found right: nothing is changed before.
    pub(super) tree: Builder,
    /// The newest checkpoint: its size and its text.
    pub(super) checkpoint: Option<(u64, String)>,
}

/// Finds the end of the log and cuts off what a crash left behind it.
pub(super) fn recover(disk: &dyn Disk, dir: &Path, resource: &str, origin: &str) -> Result<Found, OpenError> {
    let tiles = Tiles::new(dir);
    let mut segments = disk::segments(&disk::journal(dir))?;
    let mut reading = Reading::begin(dir, &tiles, resource, origin, segments.first().map(|(first, _)| *first))?;
    let tree = reading.chain.tree.clone();
    let mut torn = None;
    let mut last: Option<(PathBuf, Scanned)> = None;
    while !segments.is_empty() {
        let (first, path) = segments.remove(0);
        let place = if segments.is_empty() { Place::Last } else { Place::Inner };
        let scanned = reading.segment(first, &path, place)?;
        torn = scanned.torn.clone();
        if scanned.header_bytes > 0 {
            last = Some((path, scanned));
            continue;
        }
        // Not even the header is whole. It is synced before anything else is written to its segment, and
        // what came before is synced before the segment is made: so nothing else can be torn.
        reading.end()?;
        disk.remove(&disk::segment_name(first)).map_err(io("remove", &path))?;
        disk.sync().map_err(io("sync", dir))?;
    }
    reading.end()?;
    let Reading { chain, checkpoint, .. } = reading;
    let end = last.map(|(path, scanned)| settle_end(disk, &path, &scanned, &chain)).transpose()?;
    Ok(Found { end, torn, tree, checkpoint: checkpoint.map(|signed| (signed.size, signed.text)) })
}

/// A checkpoint that lies beside the tiles.
struct Signed {
    size: u64,
    root: Hash,
    text: String,
}

struct Reading {
    path: PathBuf,
    chain: Chain,
    checkpoint: Option<Signed>,
}

impl Reading {
    fn begin(dir: &Path, tiles: &Tiles, resource: &str, origin: &str, first: Option<u64>) -> Result<Self, OpenError> {
        let path = dir.join(CHECKPOINT);
        if first.is_none() && !tiles.is_empty() {
            return Err(OpenError::Damaged { file: dir.to_owned(), line: 0, what: Damage::NoJournal });
        }
        let checkpoint = tiles.checkpoint()?.map(|text| signed(text, origin)).transpose();
        let checkpoint = checkpoint.map_err(|what| OpenError::Damaged { file: path.clone(), line: 0, what })?;
        let first = first.unwrap_or(0);
        let chain = Chain {
            tree: tiles.builder(first)?,
            is_whole: first == 0,
            resource: Some(resource.to_owned()),
            ..Chain::default()
        };
        let reading = Self { path, chain, checkpoint };
        // The journal gives up nothing that no checkpoint covers: an old one was put back.
        if let Some(size) = reading.checkpoint.as_ref().map(|signed| signed.size).filter(|size| *size < first) {
            let what = Damage::Checkpoint { size };
            return Err(OpenError::Damaged { file: reading.path, line: 0, what });
        }
        reading.compare()?;
        Ok(reading)
    }

    fn segment(&mut self, first: u64, path: &Path, place: Place) -> Result<Scanned, OpenError> {
        let expected = self.chain.tree.size();
        if first != expected {
            let what = Damage::Gap { expected, found: first };
            return Err(OpenError::Damaged { file: path.to_owned(), line: 0, what });
        }
        let (checkpoint, at) = (&self.checkpoint, &self.path);
        scan::scan(path, place, &mut self.chain, &mut |chain| {
            drop(chain.tree.take_full());
            compare(checkpoint.as_ref(), &chain.tree, at)
        })
    }

    fn compare(&self) -> Result<(), OpenError> {
        compare(self.checkpoint.as_ref(), &self.chain.tree, &self.path)
    }

    /// The log must not end before its checkpoint, nor begin behind it.
    fn end(&self) -> Result<(), OpenError> {
        let found = self.chain.tree.size();
        match &self.checkpoint {
            Some(signed) if signed.size > found => {
                let what = Damage::Cut { expected: signed.size, found };
                Err(OpenError::Damaged { file: self.path.clone(), line: 0, what })
            }
            _ => Ok(()),
        }
    }
}

fn compare(checkpoint: Option<&Signed>, tree: &Builder, path: &Path) -> Result<(), OpenError> {
    match checkpoint {
        Some(signed) if signed.size == tree.size() && signed.root != tree.root() => {
            let what = Damage::Checkpoint { size: signed.size };
            Err(OpenError::Damaged { file: path.to_owned(), line: 0, what })
        }
        _ => Ok(()),
    }
}

fn signed(text: String, origin: &str) -> Result<Signed, Damage> {
    let note = SignedNote::parse(text.as_bytes()).map_err(|_| Damage::NotACheckpoint)?;
    let checkpoint = Checkpoint::parse(note.text()).map_err(|_| Damage::NotACheckpoint)?;
    if checkpoint.origin() != origin {
        return Err(Damage::Origin { found: checkpoint.origin().to_owned() });
    }
    Ok(Signed { size: checkpoint.size(), root: *checkpoint.root(), text })
}

/// Opens the last segment at the end of its last whole line. All of it is durable when this returns:
/// what is left by a process that was killed may be in the kernel only.
fn settle_end(disk: &dyn Disk, path: &Path, scanned: &Scanned, chain: &Chain) -> Result<End, OpenError> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let segment = disk.open(name).map_err(io("open", path))?;
    if scanned.torn.is_some() {
        segment.truncate(scanned.size).map_err(io("cut", path))?;
    }
    segment.sync().and_then(|()| disk.sync()).map_err(io("sync", path))?;
    Ok(End {
        segment,
        tree: chain.tree.tree().clone(),
        size: scanned.size,
        header_bytes: scanned.header_bytes,
        standing: chain.standing.clone(),
        // How far the tiles go is not known before the first look at them: at most this segment is behind.
        debt: Debt::new(scanned.size, chain.tree.bundle_bytes()),
    })
}

pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> OpenError {
    let path: PathBuf = path.to_owned();
    move |source| OpenError::Io { what, path, source }
}
