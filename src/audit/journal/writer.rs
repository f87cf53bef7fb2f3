//! The end of the log: gives each record its index and its place in the tree, and writes it.
//!
//! One thread at a time has the writer. It never leaves half a record behind: what cannot be written
//! whole is cut off again, and if that fails too the log has failed. After a failure nothing is written.

use std::{io, sync::Arc, time::Duration, time::Instant};

use super::{
    super::{
        error::{Cause, LogError},
        log::Options,
        record::Record,
        tlog::hash::{self, Frontier},
    },
    debt::{Debt, Owed},
    disk::{self, Disk, Segment},
    line::{self, Entry, Header},
    standing::Standing,
};

/// Files are looked after, and free space is asked for, so often.
const INSPECT_EVERY: Duration = Duration::from_secs(1);

/// Whether a record may take the space that is kept back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::audit) enum Room {
    /// No.
    Plain,
    /// Yes: outcomes, events, administrators.
    Reserved,
}

/// The end of the log.
pub(in crate::audit) struct Writer {
    pub(in crate::audit) disk: Arc<dyn Disk>,
    pub(in crate::audit) segment: Arc<dyn Segment>,
    pub(in crate::audit) options: Options,
    /// `instances/{hex}`.
    pub(in crate::audit) resource: String,
    /// The tree of all records.
    pub(in crate::audit) tree: Frontier,
    /// The length of the segment, in bytes.
    pub(in crate::audit) size: u64,
    /// The length of the segment's header, in bytes.
    pub(in crate::audit) header_bytes: u64,
    pub(in crate::audit) standing: Standing,
    state: State,
    inspected: Option<Instant>,
    /// What the file system had left at the last look, less what was written since.
    free_bytes: u64,
    /// What of it the tree will take for the records that are here.
    debt: Debt,
    /// The last look found less than the reserve, and said so.
    is_low: bool,
    /// The lines in the making; kept for their memory.
    line: Vec<u8>,
}

#[derive(Debug)]
enum State {
    Open,
    Closed,
    Failed(Arc<Cause>),
}

/// Where a writer goes on.
pub(in crate::audit) struct End {
    pub(in crate::audit) segment: Arc<dyn Segment>,
    pub(in crate::audit) tree: Frontier,
    pub(in crate::audit) size: u64,
    pub(in crate::audit) header_bytes: u64,
    pub(in crate::audit) standing: Standing,
    /// What is owed for the records that are there.
    pub(in crate::audit) debt: Debt,
}

impl Writer {
    /// A writer that goes on from `end`.
    pub(in crate::audit) fn resume(disk: Arc<dyn Disk>, end: End, options: Options, resource: String) -> Self {
        Self {
            disk,
            segment: end.segment,
            options,
            resource,
            tree: end.tree,
            size: end.size,
            header_bytes: end.header_bytes,
            standing: end.standing,
            state: State::Open,
            inspected: None,
            free_bytes: 0,
            debt: end.debt,
            is_low: false,
            line: Vec::new(),
        }
    }

    /// A writer of a new log: its first segment, with its header, is durable when this returns.
    pub(in crate::audit) fn create(disk: Arc<dyn Disk>, options: Options, resource: String) -> Result<Self, LogError> {
        let segment = open_segment(&*disk, 0)?;
        let (standing, debt) = (Standing::default(), Debt::new(0, 0));
        let end = End { segment, tree: Frontier::new(), size: 0, header_bytes: 0, standing, debt };
        let mut writer = Self::resume(disk, end, options, resource);
        if let Err(error) = writer.begin_segment() {
            // Best effort: what is left of it is a torn header, which the next start cuts off.
            let _ = writer.disk.remove(&disk::segment_name(0));
            return Err(error);
        }
        Ok(writer)
    }

    /// Writes a record, which `entry` is of. It is in the kernel when this returns its index.
    pub(in crate::audit) fn append(
        &mut self,
        record: &Record,
        entry: &Entry,
        room: Room,
        now: Instant,
    ) -> Result<u64, LogError> {
        let index = self.next_index();
        self.append_all(std::slice::from_ref(entry), room, now)?;
        self.standing.note(index, record);
        Ok(index)
    }

    /// Writes records that change nothing of how things stand, with as few calls of write(2) as segments allow. The error
    /// is that of the first that is not in the log, nor are those behind it: the next index tells.
    pub(in crate::audit) fn append_all(&mut self, entries: &[Entry], room: Room, now: Instant) -> Result<(), LogError> {
        self.usable()?;
        self.inspect(now)?;
        let mut rest = entries;
        while let Some(first) = rest.first() {
            if room == Room::Plain && self.is_low_on_room() {
                return Err(LogError::NoSpace);
            }
            if self.is_full(0, &first.body) {
                self.rotate()?;
            }
            let (fit, later) = rest.split_at(self.frame(rest));
            self.write()?;
            for entry in fit {
                let index = self.next_index();
                self.tree.push(entry.leaf);
                self.debt.note(index, entry.body.len());
            }
            rest = later;
        }
        Ok(())
    }

    /// Puts as many of these into the line in the making as the segment takes, at least one. How many.
    fn frame(&mut self, entries: &[Entry]) -> usize {
        self.line.clear();
        let mut framed = 0;
        for (index, entry) in (self.next_index()..).zip(entries) {
            if framed > 0 && self.is_full(self.line.len() as u64, &entry.body) {
                break;
            }
            line::frame(&mut self.line, index, &entry.leaf, &entry.body);
            framed += 1;
        }
        framed
    }

    /// What is owed to the tree for all records so far.
    pub(in crate::audit) const fn owed(&self) -> Owed {
        self.debt.written()
    }

    /// Records are in the tree, and have taken their place on the disk.
    pub(in crate::audit) fn pay(&mut self, until: Owed) {
        self.free_bytes = self.free_bytes.saturating_sub(self.debt.pay(until));
    }

    /// Whether the last look found it so.
    pub(in crate::audit) const fn was_low(&self) -> bool {
        self.is_low
    }

    /// Whether what is left is for administrators, outcomes and events: the reserve, and what the tree will take for
    /// the records that are here.
    fn is_low_on_room(&self) -> bool {
        self.free_bytes < self.options.reserve_bytes.saturating_add(self.debt.bytes())
    }

    /// What comes from now on is kept nowhere.
    pub(in crate::audit) fn write_nowhere(&mut self) {
        self.disk = Arc::new(disk::Nowhere);
        self.segment = Arc::new(disk::NowhereSegment::default());
        (self.size, self.header_bytes) = (0, 0);
    }

    /// The index that the next record gets: the size of the tree.
    pub(in crate::audit) fn next_index(&self) -> u64 {
        self.tree.size()
    }

    /// Nothing is written from now on.
    pub(in crate::audit) fn close(&mut self) {
        if matches!(self.state, State::Open) {
            self.state = State::Closed;
        }
    }

    /// Whether records can be written, as far as is known.
    pub(in crate::audit) fn usable(&self) -> Result<(), LogError> {
        match &self.state {
            State::Open => Ok(()),
            State::Closed => Err(LogError::Closed),
            State::Failed(cause) => Err(LogError::Poisoned(Arc::clone(cause))),
        }
    }

    /// The first cause, if the log has failed.
    pub(in crate::audit) fn failure(&self) -> Option<LogError> {
        match &self.state {
            State::Failed(cause) => Some(LogError::Poisoned(Arc::clone(cause))),
            State::Open | State::Closed => None,
        }
    }

    /// Ends the log for ever. The first cause is kept.
    pub(in crate::audit) fn fail(&mut self, cause: Cause) -> LogError {
        if let State::Failed(first) = &self.state {
            return LogError::Poisoned(Arc::clone(first));
        }
        tracing::error!(
            cause = &cause as &dyn std::error::Error,
            index = self.next_index(),
            "the audit log has failed"
        );
        let cause = Arc::new(cause);
        self.state = State::Failed(Arc::clone(&cause));
        LogError::Poisoned(cause)
    }

    /// Whether a record does not fit behind what is there and `more` bytes. A header that many heads have made long must
    /// not fill every segment by itself.
    fn is_full(&self, more: u64, body: &[u8]) -> bool {
        let bytes_max = self.options.segment_bytes_max.max(self.header_bytes.saturating_mul(2));
        let size = self.size.saturating_add(more);
        size > self.header_bytes && size.saturating_add(line::framed_bytes_max(body)) > bytes_max
    }

    /// Looks, at most every second, whether the files are still ours and how much space is left.
    fn inspect(&mut self, now: Instant) -> Result<(), LogError> {
        if self.inspected.is_some_and(|at| now.saturating_duration_since(at) < INSPECT_EVERY) {
            return Ok(());
        }
        match self.look() {
            Ok(None) => self.inspected = Some(now),
            Ok(Some(cause)) => return Err(self.fail(cause)),
            Err(error) => return Err(self.fail(Cause::Inspect(error))),
        }
        Ok(())
    }

    fn look(&mut self) -> io::Result<Option<Cause>> {
        if !self.segment.is_in_place()? {
            return Ok(Some(Cause::Unlinked));
        }
        if !self.disk.is_locked()? {
            return Ok(Some(Cause::LockLost));
        }
        let found = self.segment.size()?;
        if found != self.size {
            return Ok(Some(Cause::Changed { expected: self.size, found }));
        }
        self.free_bytes = self.disk.free_bytes()?;
        let is_low = self.is_low_on_room();
        if is_low && !self.is_low {
            tracing::error!(free_bytes = self.free_bytes, "the disk of the audit log is nearly full");
        }
        self.is_low = is_low;
        Ok(None)
    }

    /// Goes on in a new segment. The old one is durable, and so are the new one's name and header, when
    /// this returns: whatever is synced later needs only the newest segment.
    fn rotate(&mut self) -> Result<(), LogError> {
        self.segment.sync().map_err(|error| self.fail(Cause::Sync(error)))?;
        let segment = match open_segment(&*self.disk, self.next_index()) {
            Ok(segment) => segment,
            Err(LogError::Segment(error)) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(self.fail(Cause::SegmentExists));
            }
            Err(error) => return Err(error),
        };
        let name = disk::segment_name(self.next_index());
        let old = (std::mem::replace(&mut self.segment, segment), self.size, self.header_bytes);
        match self.begin_segment() {
            Err(error @ LogError::NoSpace) => {
                (self.segment, self.size, self.header_bytes) = old;
                // Durably, or a loss of power could bring the name back behind records that come now.
                let removed = self.disk.remove(&name).and_then(|()| self.disk.sync());
                removed.map_err(|error| self.fail(Cause::Cut(error)))?;
                Err(error)
            }
            other => other,
        }
    }

    /// Writes the header of the empty segment, and makes it and its name durable.
    fn begin_segment(&mut self) -> Result<(), LogError> {
        let time = self.options.clock.now().0;
        let body = line::encode(&Header::new(time, self.resource.clone(), &self.tree.root(), &self.standing));
        let index = self.next_index();
        self.line.clear();
        line::frame(&mut self.line, index, &hash::leaf(&body), &body);
        self.size = 0;
        self.write()?;
        self.header_bytes = self.size;
        self.segment.sync().and_then(|()| self.disk.sync()).map_err(|error| self.fail(Cause::Sync(error)))
    }

    /// Writes the lines in the making, all or none.
    fn write(&mut self) -> Result<(), LogError> {
        if let Err((written, error)) = write_whole(&*self.segment, &self.line) {
            if written > 0 {
                self.segment.truncate(self.size).map_err(|error| self.fail(Cause::Cut(error)))?;
            }
            let no_space = disk::is_no_space(&error);
            return Err(if no_space { LogError::NoSpace } else { self.fail(Cause::Write(error)) });
        }
        let bytes = self.line.len() as u64;
        self.size += bytes;
        self.free_bytes = self.free_bytes.saturating_sub(bytes);
        Ok(())
    }
}

fn open_segment(disk: &dyn Disk, first_index: u64) -> Result<Arc<dyn Segment>, LogError> {
    disk.create(&disk::segment_name(first_index))
        .map_err(|error| if disk::is_no_space(&error) { LogError::NoSpace } else { LogError::Segment(Arc::new(error)) })
}

/// One write(2) in the ordinary case. A short write is followed by another to learn what was the matter.
/// The error says how much was written before it.
fn write_whole(segment: &dyn Segment, line: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while written < line.len() {
        match segment.write(&line[written..]) {
            Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
            Ok(bytes) => written += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((written, error)),
        }
    }
    Ok(())
}
