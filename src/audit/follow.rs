//! From the journal into the tree: reads what is durable, makes tiles and bundles of it, and a tree head to be signed.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead as _, BufReader},
    path::{Path, PathBuf},
};

use super::{
    error::{Cause, Damage},
    journal::{
        disk, line,
        standing::{heads_digest, note_head},
    },
    record::{HeadMark, Record},
    tiles::Tiles,
    tlog::{
        builder::{Builder, TreeFile},
        hash::{Frontier, Hash},
    },
};

/// So many bytes of full tiles and bundles are made before they are written.
const WRITE_AT: usize = 4 << 20;

/// A tree that a checkpoint can be made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeHead {
    /// How many records it has.
    pub size: u64,
    /// Its root.
    pub root: Hash,
    /// The digest of the newest heads of the store that those records know.
    pub heads: Hash,
}

/// Where it has got to.
pub(super) struct Follower {
    /// The journal's folder.
    journal: PathBuf,
    tiles: Tiles,
    tree: Builder,
    heads: BTreeMap<String, HeadMark>,
    segment: Option<Segment>,
    /// Full files that are made and not yet written.
    full: Vec<TreeFile>,
    /// The tree whose partial files are on the disk.
    settled: u64,
}

struct Segment {
    reader: BufReader<File>,
    line: Vec<u8>,
}

impl Follower {
    /// Goes on behind the records of `tree`, which are in the tiles or were read at the start.
    pub(super) fn new(journal: &Path, tiles: Tiles, tree: Builder, heads: BTreeMap<String, HeadMark>) -> Self {
        Self { journal: journal.to_owned(), tiles, tree, heads, segment: None, full: Vec::new(), settled: 0 }
    }

    /// Takes the records up to that tree in, and makes their files. Blocks.
    ///
    /// # Errors
    /// [`Cause::Altered`] if what lies in the journal is not what was written. On any other the next call goes on.
    pub(super) fn advance(&mut self, to: &Frontier, signed: u64) -> Result<TreeHead, Cause> {
        while self.tree.size() < to.size() {
            match self.take_one() {
                // What was read ahead may have held half a record, which a full disk had cut off again: it is read anew.
                Err(Cause::Altered) => self.take_one()?,
                taken => taken?,
            }
            if self.full_bytes() >= WRITE_AT {
                self.write_full()?;
            }
        }
        if self.tree.size() == to.size() && self.tree.root() != to.root() {
            return Err(Cause::Altered);
        }
        self.write_full()?;
        self.settle(signed).map_err(Cause::Tiles)?;
        Ok(TreeHead { size: self.tree.size(), root: self.tree.root(), heads: heads_digest(&self.heads) })
    }

    fn full_bytes(&self) -> usize {
        self.full.iter().map(|file| file.bytes.len()).sum()
    }

    fn write_full(&mut self) -> Result<(), Cause> {
        if !self.full.is_empty() {
            let written = self.tiles.write(&self.full).and_then(|()| self.tiles.forget_replaced(&self.full));
            written.map_err(Cause::Tiles)?;
            self.full.clear();
        }
        Ok(())
    }

    /// Writes the partial files of the tree, and takes those of others away, but not of the signed one.
    fn settle(&mut self, signed: u64) -> io::Result<()> {
        if self.settled != self.tree.size() {
            let partials = self.tree.partials();
            self.tiles.write(&partials)?;
            self.tiles.forget_partials(&partials, signed)?;
            self.settled = self.tree.size();
        }
        Ok(())
    }

    fn take_one(&mut self) -> Result<(), Cause> {
        let index = self.tree.size();
        let mut segment = match self.segment.take() {
            Some(segment) => segment,
            None => Segment::open(&self.journal, index).map_err(Cause::Follow)?,
        };
        if !segment.next().map_err(Cause::Follow)? {
            // It ended; the record is in the next segment, behind its header.
            segment = Segment::open_at(&self.journal, index).map_err(Cause::Follow)?;
            if !segment.next().map_err(Cause::Follow)? {
                return Err(Cause::Altered);
            }
        }
        let framed = line::take_apart(&mut segment.line).map_err(|_: Damage| Cause::Altered)?;
        if framed.index != index {
            return Err(Cause::Altered);
        }
        for mark in heads_of(framed.body)? {
            note_head(&mut self.heads, &mark);
        }
        self.tree.push(framed.body, framed.leaf);
        self.full.append(&mut self.tree.take_full());
        self.segment = Some(segment);
        Ok(())
    }
}

/// The heads of a record. Few have any, and reading all of every record would cost more than its hash.
pub(super) fn heads_of(body: &[u8]) -> Result<Vec<HeadMark>, Cause> {
    if memchr::memmem::find(body, br#""heads":["#).is_none() {
        return Ok(Vec::new());
    }
    line::parse::<Record>(body).map(|record| record.heads).map_err(|_| Cause::Altered)
}

impl Segment {
    /// Opens the segment that begins with that record, behind its header.
    fn open_at(journal: &Path, index: u64) -> io::Result<Self> {
        let file = File::open(journal.join(disk::segment_name(index)))?;
        let mut segment = Self { reader: BufReader::with_capacity(256 << 10, file), line: Vec::new() };
        segment.next()?;
        Ok(segment)
    }

    /// Opens the segment that has that record, or ends before it, and goes there.
    fn open(journal: &Path, index: u64) -> io::Result<Self> {
        let segments = disk::segments(journal).map_err(io::Error::other)?;
        let first = segments.iter().rev().map(|(first, _)| *first).find(|first| *first <= index);
        let first = first.ok_or(io::ErrorKind::NotFound)?;
        let mut segment = Self::open_at(journal, first)?;
        for _ in first..index {
            segment.next()?;
        }
        Ok(segment)
    }

    /// Reads the next line. `false`: the segment ends here, so far.
    fn next(&mut self) -> io::Result<bool> {
        self.line.clear();
        self.reader.read_until(b'\n', &mut self.line)?;
        if self.line.pop_if(|byte| *byte == b'\n').is_some() {
            return Ok(true);
        }
        // A line in the making: it is read again, from its beginning.
        let read = i64::try_from(self.line.len()).unwrap_or(i64::MAX);
        self.reader.seek_relative(-read)?;
        Ok(false)
    }
}
