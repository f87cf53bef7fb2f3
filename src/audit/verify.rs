//! Checks a log offline: in use, or a copy, or only what a web server shows of it. Changes nothing.
//!
//! Every entry is hashed, every tile compared with what its entries make, the journal read as a start reads it. The
//! root is compared with that of the log's own checkpoint and with those that somebody else kept.

use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use super::{
    error::{Damage, OpenError},
    handover::{self, Handover},
    journal::{
        disk, line,
        scan::{self, Chain, Place, Torn},
        standing::{Standing, heads_digest},
    },
    record::{HeadMark, Record},
    recover::io,
    tiles::{CHECKPOINT, Tiles},
    tlog::{
        Checkpoint, CheckpointError, SignedNote, VerifierKey,
        builder::{Builder, TreeFile},
        hash,
        tile::{self, WIDTH},
    },
};

/// What a log is held against.
#[derive(Clone, Debug, Default)]
pub struct Against {
    /// The log's keys: of its own checkpoint's signatures, and of those of `checkpoints`, one must be by one of
    /// these, or by one that these have handed over to. Without any, signatures are not checked.
    pub keys: Vec<VerifierKey>,
    /// Checkpoints that somebody kept, with a name for each that is used in errors.
    pub checkpoints: Vec<(String, SignedNote)>,
}

/// What a whole log was found to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The instance that wrote it.
    pub instance: String,
    /// How many records there are, those that were pruned among them.
    pub records: u64,
    /// The index of the first record that was not pruned.
    pub first: u64,
    /// The size of the log's own checkpoint: so many records are under a signature.
    pub signed: u64,
    /// The names of the keys whose signatures the log's own checkpoint has; empty where none were checked.
    pub signed_by: Vec<String>,
    /// The keys that signatures were checked with: those that were given, and those that they have handed over to.
    pub keys: Vec<VerifierKey>,
    /// Where one key handed over to the next.
    pub handovers: Vec<Handover>,
    /// The newest head of every scope.
    pub heads: BTreeMap<String, HeadMark>,
    /// The intents without an outcome, by index.
    pub open: Vec<(u64, Record)>,
    /// A last line that is not whole: a crash, or a record that is being written right now.
    pub torn: Option<Torn>,
}

/// How far a check is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The records that were read, those that were pruned among them.
    pub records: u64,
    /// The size of the log's checkpoint: there are about so many.
    pub signed: u64,
}

/// Reads all of the log in `dir` and checks it. Blocks; takes no lock.
///
/// # Errors
/// [`OpenError::Damaged`] with the first thing that is wrong; [`OpenError::Missing`] if there is no log.
pub fn verify(dir: &Path, against: &Against) -> Result<Verified, OpenError> {
    verify_watched(dir, against, &|_| {})
}

/// As [`verify`]; `seen` is told now and then how far it is.
///
/// # Errors
/// As for [`verify`].
pub fn verify_watched(dir: &Path, against: &Against, seen: &dyn Fn(Progress)) -> Result<Verified, OpenError> {
    let mut check = Check::begin(dir, against, seen)?;
    let journal = disk::journal(dir);
    let segments = if journal.is_dir() { disk::segments(&journal)? } else { Vec::new() };
    let bundles_until = segments.first().map_or(check.signed_size(), |(first, _)| *first);
    check.bundles(bundles_until)?;
    let torn = check.segments(&segments)?;
    check.finish(torn)
}

/// A checkpoint and how it is called.
struct Mark {
    path: PathBuf,
    checkpoint: Checkpoint,
    is_own: bool,
}

/// Whose signatures count, and until when.
struct Trust {
    keys: Vec<VerifierKey>,
    handovers: Vec<(String, Handover)>,
}

impl Trust {
    fn of(dir: &Path, keys: &[VerifierKey]) -> Result<Self, OpenError> {
        let handovers = if keys.is_empty() { Vec::new() } else { handover::follow(keys, &handover::notes(dir)?) };
        Ok(Self { keys: handover::with_followers(keys.to_vec(), &handovers), handovers })
    }

    /// What the keys' last notes say of the log: it is held against that too.
    fn marks(&self) -> impl Iterator<Item = Mark> {
        self.handovers.iter().map(|(name, handover)| Mark {
            path: name.into(),
            checkpoint: handover.checkpoint.clone(),
            is_own: false,
        })
    }

    /// Reads a checkpoint, and checks its signatures if there are keys for it.
    fn checked(&self, note: &SignedNote) -> Result<(Checkpoint, Vec<String>), Damage> {
        if self.keys.is_empty() {
            let checkpoint = Checkpoint::parse(note.text()).map_err(|_| Damage::NotACheckpoint)?;
            return Ok((checkpoint, Vec::new()));
        }
        let (checkpoint, signers) = Checkpoint::open(note, &self.keys).map_err(|error| match error {
            CheckpointError::Note(_) | CheckpointError::NotByLog { .. } => Damage::Signature(error.to_string()),
            _ => Damage::NotACheckpoint,
        })?;
        handover::in_office(&signers, checkpoint.size(), &self.handovers).map_err(|until| {
            Damage::Signature(format!("the key that has signed it had handed over to another at {until} records"))
        })?;
        Ok((checkpoint, signers.into_iter().map(|signer| signer.key.name().to_owned()).collect()))
    }
}

struct Check<'a> {
    dir: &'a Path,
    tiles: Tiles,
    chain: Chain,
    /// Those that are still to come, the smallest last.
    marks: Vec<Mark>,
    own: Option<(Checkpoint, Vec<String>)>,
    trust: Trust,
    first: u64,
    seen: &'a dyn Fn(Progress),
}

impl<'a> Check<'a> {
    fn begin(dir: &'a Path, against: &Against, seen: &'a dyn Fn(Progress)) -> Result<Self, OpenError> {
        let tiles = Tiles::new(dir);
        let trust = Trust::of(dir, &against.keys)?;
        let mut marks: Vec<Mark> = trust.marks().collect();
        let path = dir.join(CHECKPOINT);
        let own = match tiles.checkpoint()? {
            None => None,
            Some(text) => {
                let wrong = |what| OpenError::Damaged { file: path.clone(), line: 0, what };
                let note = SignedNote::parse(text.as_bytes()).map_err(|_| wrong(Damage::NotACheckpoint))?;
                let (checkpoint, by) = trust.checked(&note).map_err(wrong)?;
                marks.push(Mark { path: path.clone(), checkpoint: checkpoint.clone(), is_own: true });
                Some((checkpoint, by))
            }
        };
        for (name, note) in &against.checkpoints {
            let wrong = |what| OpenError::Damaged { file: name.into(), line: 0, what };
            let (checkpoint, _) = trust.checked(note).map_err(wrong)?;
            if own.as_ref().is_some_and(|(own, _)| own.origin() != checkpoint.origin()) {
                return Err(wrong(Damage::Origin { found: checkpoint.origin().to_owned() }));
            }
            marks.push(Mark { path: name.into(), checkpoint, is_own: false });
        }
        marks.sort_by_key(|mark| std::cmp::Reverse(mark.checkpoint.size()));
        Ok(Self { dir, tiles, chain: Chain::default(), marks, own, trust, first: 0, seen })
    }

    fn signed_size(&self) -> u64 {
        self.own.as_ref().map_or(0, |(own, _)| own.size())
    }

    /// Reads bundles until that record.
    fn bundles(&mut self, until: u64) -> Result<(), OpenError> {
        let width = u64::from(WIDTH);
        self.first = self.first_bundle(until)? * width;
        self.chain.tree = self.pruned(self.first)?;
        self.chain.is_whole = self.first == 0;
        self.compare_pruned()?;
        self.compare()?;
        while self.chain.tree.size() < until {
            let (index, wanted) = (self.chain.tree.size() / width, (until - self.chain.tree.size()).min(width));
            let (path, bytes) = self.bundle(index, u16::try_from(wanted).unwrap_or(WIDTH))?;
            let damaged = |at: usize, what| OpenError::Damaged { file: path.clone(), line: at as u64 + 1, what };
            let mut taken = 0;
            for (at, entry) in tile::entries(&bytes).take(usize::try_from(wanted).unwrap_or_default()).enumerate() {
                let entry = entry.map_err(|_| damaged(at, Damage::Tile))?;
                self.entry(entry).map_err(|what| damaged(at, what))?;
                self.after_each()?;
                taken += 1;
            }
            if taken < wanted {
                return Err(damaged(usize::try_from(taken).unwrap_or_default(), Damage::Tile));
            }
            (self.seen)(Progress { records: self.chain.tree.size(), signed: self.signed_size() });
        }
        Ok(())
    }

    /// Compares the checkpoints whose records were pruned: their tiles are there.
    fn compare_pruned(&mut self) -> Result<(), OpenError> {
        while let Some(mark) = self.marks.pop_if(|mark| mark.checkpoint.size() < self.first) {
            let size = mark.checkpoint.size();
            if self.tiles.root(size)? != *mark.checkpoint.root() {
                return Err(OpenError::Damaged { file: mark.path, line: 0, what: Damage::Checkpoint { size } });
            }
        }
        Ok(())
    }

    fn entry(&mut self, entry: &[u8]) -> Result<(), Damage> {
        let record: Record = line::parse(entry)?;
        self.chain.standing.note(self.chain.tree.size(), &record);
        self.chain.tree.push(entry, hash::leaf(entry));
        Ok(())
    }

    /// The number of the first bundle that was not pruned.
    fn first_bundle(&self, until: u64) -> Result<u64, OpenError> {
        let bundles = until.div_ceil(u64::from(WIDTH));
        let exists = |index: u64| {
            let whole = self.dir.join(tile::entries_path(index, WIDTH));
            whole.exists() || whole.with_file_name(format!("{:03}.p", index % 1000)).exists()
        };
        let found = (0..bundles).find(|index| exists(*index));
        match (found, bundles) {
            (Some(index), _) => Ok(index),
            (None, 0) => Ok(0),
            // Everything before the journal was pruned, as far as whole bundles go.
            (None, _) if until.is_multiple_of(u64::from(WIDTH)) => Ok(bundles),
            (None, _) => self.damaged_tile(tile::entries_path(bundles - 1, WIDTH)),
        }
    }

    fn damaged_tile<T>(&self, path: String) -> Result<T, OpenError> {
        Err(OpenError::Damaged { file: self.dir.join(path), line: 0, what: Damage::Tile })
    }

    /// The tree of what was pruned, whose tiles are checked against those below them.
    fn pruned(&self, size: u64) -> Result<Builder, OpenError> {
        let mut level = 1;
        while size >> (8 * (level + 1)) > 0 {
            for index in 0..size >> (8 * (level + 1)) {
                let hashes = self.tiles.full_tile(level, index)?;
                for (below, hash) in (index * u64::from(WIDTH)..).zip(hashes) {
                    if self.tiles.subtree(level, below)? != hash {
                        let path = tile::Tile { level: u8::try_from(level).unwrap_or(u8::MAX), index, width: WIDTH };
                        return self.damaged_tile(path.path());
                    }
                }
            }
            level += 1;
        }
        self.tiles.builder(size)
    }

    /// A bundle with at least that many entries: the full one, or the partial one of that width.
    fn bundle(&self, index: u64, width: u16) -> Result<(PathBuf, Vec<u8>), OpenError> {
        let full = self.dir.join(tile::entries_path(index, WIDTH));
        let partial = self.dir.join(tile::entries_path(index, width));
        let path = if full.exists() || width == WIDTH { full } else { partial };
        match fs::read(&path) {
            Ok(bytes) => Ok((path, bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(OpenError::Damaged { file: path, line: 0, what: Damage::Tile })
            }
            Err(error) => Err(io("read", &path)(error)),
        }
    }

    /// Reads the journal, which goes on behind the bundles.
    fn segments(&mut self, segments: &[(u64, PathBuf)]) -> Result<Option<Torn>, OpenError> {
        let mut torn = None;
        for (at, (first, path)) in segments.iter().enumerate() {
            let place = if at + 1 == segments.len() { Place::Last } else { Place::Inner };
            let expected = self.chain.tree.size();
            if *first != expected {
                let what = Damage::Gap { expected, found: *first };
                return Err(OpenError::Damaged { file: path.clone(), line: 0, what });
            }
            let Self { dir, marks, chain, .. } = self;
            torn = scan::scan(path, place, chain, &mut |chain| after_each(dir, marks, chain))?.torn;
        }
        Ok(torn)
    }

    fn after_each(&mut self) -> Result<(), OpenError> {
        after_each(self.dir, &mut self.marks, &mut self.chain)
    }

    fn compare(&mut self) -> Result<(), OpenError> {
        compare(&mut self.marks, &self.chain)
    }

    fn finish(self, torn: Option<Torn>) -> Result<Verified, OpenError> {
        let found = self.chain.tree.size();
        if let Some(mark) = self.marks.last() {
            let what = Damage::Cut { expected: mark.checkpoint.size(), found };
            return Err(OpenError::Damaged { file: mark.path.clone(), line: 0, what });
        }
        if self.chain.resource.is_none() && found == 0 {
            return Err(OpenError::Missing(self.dir.to_owned()));
        }
        same_partials(self.dir, &self.chain)?;
        let resource = self.chain.resource.unwrap_or_default();
        let origin = self.own.as_ref().map(|(own, _)| own.origin().to_owned()).unwrap_or_default();
        let log = resource.strip_prefix("instances/").or(origin.strip_prefix("strongroom/")).unwrap_or_default();
        let instance = log.split('/').next().unwrap_or_default();
        let Standing { heads, open } = self.chain.standing;
        Ok(Verified {
            instance: instance.to_owned(),
            records: found,
            first: self.first,
            signed: self.own.as_ref().map_or(0, |(own, _)| own.size()),
            signed_by: self.own.map(|(_, by)| by).unwrap_or_default(),
            keys: self.trust.keys,
            handovers: self.trust.handovers.into_iter().map(|(_, handover)| handover).collect(),
            heads,
            open: open.into_iter().collect(),
            torn,
        })
    }
}

/// Compares the tiles and bundles that the last record filled with those on the disk, and the root with checkpoints.
fn after_each(dir: &Path, marks: &mut Vec<Mark>, chain: &mut Chain) -> Result<(), OpenError> {
    chain.tree.take_full().into_iter().try_for_each(|file| same(dir, file))?;
    compare(marks, chain)
}

/// Compares the partial files of the tree as it is with those on the disk, if they are there.
fn same_partials(dir: &Path, chain: &Chain) -> Result<(), OpenError> {
    chain.tree.partials().into_iter().try_for_each(|file| same(dir, file))
}

fn same(dir: &Path, TreeFile { path, bytes }: TreeFile) -> Result<(), OpenError> {
    let path = dir.join(path);
    match fs::read(&path) {
        Ok(found) if found == bytes => Ok(()),
        Ok(_) => Err(OpenError::Damaged { file: path, line: 0, what: Damage::Tile }),
        // Tiles are made from the journal within seconds, and bundles may have been pruned.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io("read", &path)(error)),
    }
}

fn compare(marks: &mut Vec<Mark>, chain: &Chain) -> Result<(), OpenError> {
    while let Some(mark) = marks.pop_if(|mark| mark.checkpoint.size() == chain.tree.size()) {
        let wrong = |what| OpenError::Damaged { file: mark.path.clone(), line: 0, what };
        let size = mark.checkpoint.size();
        if *mark.checkpoint.root() != chain.tree.root() {
            return Err(wrong(Damage::Checkpoint { size }));
        }
        if mark.is_own
            && let Some(own) = mark.path.parent()
        {
            same_partials(own, chain)?;
        }
        let knows_heads = mark.is_own && chain.is_whole;
        if knows_heads && mark.checkpoint.heads() != Some(heads_digest(&chain.standing.heads)) {
            return Err(wrong(Damage::Heads));
        }
    }
    Ok(())
}
