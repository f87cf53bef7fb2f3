//! The log on disk.
//!
//! A folder (0700) of segments (0600), each named by the index of its first record. A segment begins
//! with a header that says how things stand: the instance, the newest head of every scope, the intents
//! without an outcome. So a start reads the last segment only, and [`Log::verify`] reads all.
//!
//! [`Log::append`] encodes first, then holds a short lock for the index, the chain and one write(2). The
//! write is made where the caller runs: it costs less than handing it to another thread would. At the
//! end of a segment that caller also waits for three syncs.
//!
//! The record is written at the first poll of the future, and waits afterwards; a future that is dropped
//! while it waits leaves its record in the log.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
};

use tokio::sync::oneshot::error::RecvError;

use super::{
    Durability,
    commit::Commit,
    disk::{self, Disk, Folder},
    error::{Cause, LogError, OpenError},
    line,
    record::{HeadMark, Kind, Record},
    scan::{self, Chain, Place, Scanned, Torn, Verified},
    writer::{End, Room, Writer},
};
use crate::{
    failpoint,
    model::time::{Clock, SystemClock},
};

/// How a log is kept.
#[derive(Clone)]
pub struct Options {
    /// The size at which a segment ends, in bytes. A segment holds at least one record beside its header,
    /// and may grow to twice the size of its header.
    pub segment_bytes_max: u64,
    /// What is left for administrators, outcomes and events when the file system is nearly full, in bytes.
    pub reserve_bytes: u64,
    /// The time of the records that the log makes itself.
    pub clock: Arc<dyn Clock>,
}

impl Default for Options {
    /// Segments of 64 MiB, 16 MiB in reserve, the machine's clock.
    fn default() -> Self {
        Self { segment_bytes_max: 64 << 20, reserve_bytes: 16 << 20, clock: Arc::new(SystemClock) }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("segment_bytes_max", &self.segment_bytes_max)
            .field("reserve_bytes", &self.reserve_bytes)
            .finish_non_exhaustive()
    }
}

/// What a start found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// There was no log, and one was begun. If the store is not new, the log was lost.
    pub created: bool,
    /// The index that the next record gets.
    pub next_index: u64,
    /// The intents without an outcome, by index: to be settled, each with a record that names it.
    pub open_intents: Vec<(u64, Record)>,
    /// The newest head of every scope.
    pub heads: BTreeMap<String, HeadMark>,
    /// What was cut off; the log says so too (`log.torn`).
    pub torn: Option<Torn>,
}

/// What a log knows of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The newest head of every scope, by the scope's id.
    pub heads: BTreeMap<String, HeadMark>,
    /// The index that the next record gets.
    pub next_index: u64,
}

/// An append-only log that this process alone writes.
pub struct Log {
    commit: Arc<Commit>,
    thread: Option<JoinHandle<()>>,
    options: Options,
    resource: String,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("resource", &self.resource).field("options", &self.options).finish_non_exhaustive()
    }
}

impl Log {
    /// Opens the log in `dir`, or begins one, and reads its last segment. Blocks.
    ///
    /// `instance` is the instance's id in lower-case hexadecimal digits. What is found is durable when
    /// this returns.
    ///
    /// # Errors
    /// [`OpenError::Locked`] while another process has it open; [`OpenError::Damaged`] when it is not what
    /// was written, or another instance's: nothing is changed then.
    pub fn open(dir: &Path, options: Options, instance: &str) -> Result<(Self, Recovered), OpenError> {
        let folder = Folder::open(dir)?;
        Self::open_on(Arc::new(folder), dir, options, instance)
    }

    /// Opens the log in `dir`, of which `disk` is the writing side.
    pub(super) fn open_on(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: Options,
        instance: &str,
    ) -> Result<(Self, Recovered), OpenError> {
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if !(1..=64).contains(&instance.len()) || !instance.bytes().all(is_hex) {
            return Err(OpenError::InstanceId);
        }
        let resource = scan::instance_resource(instance);
        let (end, torn) = recover(&*disk, dir, &resource)?;
        let created = end.is_none();
        let mut writer = match end {
            Some(end) => Writer::resume(disk, end, options.clone(), resource.clone()),
            None => Writer::create(disk, options.clone(), resource.clone()).map_err(OpenError::Start)?,
        };
        if let Some(torn) = &torn {
            record_torn(&mut writer, torn).map_err(OpenError::Start)?;
        }
        let recovered = Recovered {
            created,
            next_index: writer.next_index,
            open_intents: writer.standing.open.clone().into_iter().collect(),
            heads: writer.standing.heads.clone(),
            torn,
        };
        let (commit, thread) = Commit::start(writer).map_err(io("start the sync thread of", dir))?;
        Ok((Self { commit, thread: Some(thread), options, resource }, recovered))
    }

    /// Appends a record and returns its index when it is as durable as `durability` says.
    ///
    /// Intents and operations are refused when the file system is nearly full; outcomes and events may
    /// take what is kept in reserve.
    ///
    /// # Errors
    /// [`LogError`]. Only after [`LogError::Poisoned`] the record may be in the log nevertheless.
    pub async fn append(&self, record: Record, durability: Durability) -> Result<u64, LogError> {
        let room = match record.kind {
            Kind::Intent | Kind::Operation => Room::Plain,
            Kind::Outcome | Kind::Event => Room::Reserved,
        };
        self.append_in(record, durability, room).await
    }

    /// As [`Log::append`], for administrators: any record may take what is kept in reserve.
    ///
    /// # Errors
    /// As for [`Log::append`].
    pub async fn append_reserved(&self, record: Record, durability: Durability) -> Result<u64, LogError> {
        self.append_in(record, durability, Room::Reserved).await
    }

    async fn append_in(&self, record: Record, durability: Durability, room: Room) -> Result<u64, LogError> {
        let body = line::encode_record(&record)?;
        failpoint::hit("audit.before_write");
        let (index, synced) = self.commit.append(&record, &body, durability, room)?;
        failpoint::hit("audit.after_write");
        match synced {
            Some(synced) => settled(synced.await).map(|()| index),
            None => Ok(index),
        }
    }

    /// The newest head of every scope and the index of the next record: what a store is held against.
    #[must_use]
    pub fn known(&self) -> Known {
        let (standing, next_index) = self.commit.standing();
        Known { heads: standing.heads, next_index }
    }

    /// Whether records can be written, as far as is known. Cheap; touches no file.
    ///
    /// # Errors
    /// [`LogError::Closed`] or [`LogError::Poisoned`].
    pub fn health(&self) -> Result<(), LogError> {
        self.commit.health()
    }

    /// Appends `log.closed` and makes everything durable. Whoever appends later gets [`LogError::Closed`].
    /// The lock is given back when the log is dropped.
    ///
    /// # Errors
    /// As for [`Log::append`]; after [`LogError::NoSpace`] the log is still open.
    pub async fn close(&self) -> Result<(), LogError> {
        let record = line::event(self.options.clock.now().0, "log.closed", &self.resource, None);
        let body = line::encode_record(&record)?;
        let synced = self.commit.close(&record, &body)?;
        settled(synced.await)
    }

    /// Reads the whole log in `dir`, which may be a copy, and checks every line. Blocks; takes no lock.
    ///
    /// # Errors
    /// [`OpenError::Damaged`] with the first line that is wrong; [`OpenError::Missing`] if there is no log.
    pub fn verify(dir: &Path) -> Result<Verified, OpenError> {
        scan::verify(dir)
    }
}

impl Drop for Log {
    /// Syncs what is written and ends the thread. Blocks for one sync.
    fn drop(&mut self) {
        self.commit.stop();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has failed the log already.
            let _ = thread.join();
        }
    }
}

/// What the sync thread answered. It leaves without an answer only if it panicked.
fn settled(answer: Result<Result<(), LogError>, RecvError>) -> Result<(), LogError> {
    answer.unwrap_or_else(|_| Err(LogError::Poisoned(Arc::new(Cause::Panicked))))
}

/// Finds the end of the log and cuts off what a crash left behind it. `None`: there is no whole record.
fn recover(disk: &dyn Disk, dir: &Path, resource: &str) -> Result<(Option<End>, Option<Torn>), OpenError> {
    let segments = disk::segments(dir)?;
    let Some((last, before)) = segments.split_last() else { return Ok((None, None)) };
    let (chain, scanned) = scan_end(last, Place::Last, resource)?;
    let torn = scanned.torn.clone();
    if scanned.header_bytes > 0 {
        return Ok((Some(settle_end(disk, &last.1, &scanned, chain)?), torn));
    }
    // Not even the header is whole. It is synced before anything else is written to its segment, and
    // what came before is synced before the segment is made: so nothing else can be torn.
    let found = before.last().map(|segment| scan_end(segment, Place::Inner, resource)).transpose()?;
    disk.remove(&disk::segment_name(last.0)).map_err(io("remove", &last.1))?;
    disk.sync().map_err(io("sync", dir))?;
    let Some(((chain, scanned), (_, path))) = found.zip(before.last()) else { return Ok((None, torn)) };
    Ok((Some(settle_end(disk, path, &scanned, chain)?), torn))
}

fn scan_end(segment: &(u64, PathBuf), place: Place, resource: &str) -> Result<(Chain, Scanned), OpenError> {
    let (first_index, path) = segment;
    let mut chain = Chain { next_index: *first_index, resource: Some(resource.to_owned()), ..Chain::default() };
    chain.is_whole = *first_index == 0;
    let scanned = scan::scan(path, place, &mut chain)?;
    Ok((chain, scanned))
}

/// Opens the last segment at the end of its last whole line. All of it is durable when this returns:
/// what is left by a process that was killed may be in the kernel only.
fn settle_end(disk: &dyn Disk, path: &Path, scanned: &Scanned, chain: Chain) -> Result<End, OpenError> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let segment = disk.open(name).map_err(io("open", path))?;
    if scanned.torn.is_some() {
        segment.truncate(scanned.size).map_err(io("cut", path))?;
    }
    segment.sync().and_then(|()| disk.sync()).map_err(io("sync", path))?;
    let Chain { next_index, prev, standing, .. } = chain;
    Ok(End { segment, next_index, prev, size: scanned.size, header_bytes: scanned.header_bytes, standing })
}

fn record_torn(writer: &mut Writer, torn: &Torn) -> Result<(), LogError> {
    let file = torn.file.file_name().unwrap_or_default().to_string_lossy();
    let reason = format!("{} bytes cut off at {} of {file}", torn.bytes, torn.offset);
    tracing::warn!(reason, "the audit log ended in the middle of a record");
    let record = line::event(writer.options.clock.now().0, "log.torn", &writer.resource, Some(reason));
    let body = line::encode_record(&record)?;
    writer.append(&record, &body, Room::Reserved, std::time::Instant::now())?;
    writer.segment.sync().map_err(|error| writer.fail(Cause::Sync(error)))
}

fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> OpenError {
    let path: PathBuf = path.to_owned();
    move |source| OpenError::Io { what, path, source }
}
