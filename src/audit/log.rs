//! The log on disk: a folder (0700) with the journal, the tiles of the Merkle tree, and the newest checkpoint.
//!
//! The journal is a folder of segments (0600), each named by the index of its first record. A segment begins
//! with a header that says how things stand: the instance, the tree's root, the newest head of every scope, the
//! intents without an outcome. It has what is not yet in tiles and checkpoint; so a start reads the journal only,
//! and `verify` reads all.
//!
//! [`Log::append`] encodes and hashes first, then holds a short lock for the index, the tree and one write(2), which
//! operations that end in the same moment share. The write is made where a caller runs: it costs less than handing it to
//! another thread would. At the end of a segment that caller also waits for three syncs.
//!
//! [`Log::advance`] makes tiles of what is durable, and [`Log::publish`] keeps the signed checkpoint of it: a job
//! calls both about once a second.
//!
//! The record is handed over at the first poll of the future, which waits afterwards; a future that is dropped
//! while it waits leaves its record in the log.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use tokio::sync::oneshot::error::RecvError;

use super::{
    Durability,
    error::{Cause, LogError, OpenError},
    follow::{Follower, TreeHead},
    journal::{
        commit::Commit,
        disk::{self, Disk, Folder},
        line,
        scan::Torn,
        writer::{Room, Writer},
    },
    record::{HeadMark, Kind, Record},
    recover::{self, Found},
    tiles::Tiles,
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
    /// What is left for administrators, outcomes and events when the file system is nearly full, in bytes: beside what
    /// tiles and bundles of the records so far will take.
    pub reserve_bytes: u64,
    /// The time of the records that the log makes itself.
    pub clock: Arc<dyn Clock>,
    /// For measurements of a development server only: from the start on records are encoded, hashed, and written
    /// nowhere.
    pub discard: bool,
}

impl Default for Options {
    /// Segments of 32 MiB, 16 MiB in reserve, the machine's clock.
    fn default() -> Self {
        Self { segment_bytes_max: 32 << 20, reserve_bytes: 16 << 20, clock: Arc::new(SystemClock), discard: false }
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
    /// The newest checkpoint, a signed note whose root was found to be that of the records. Its signature is not
    /// looked at: that needs the key, which the sealed store has.
    pub checkpoint: Option<String>,
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
    disk: Arc<dyn Disk>,
    tiles: Tiles,
    follower: Mutex<Follower>,
    /// The size of the tree that tiles and bundles on the disk have.
    readable: AtomicU64,
    /// The size of the newest checkpoint.
    signed: AtomicU64,
    /// While somebody copies the journal nothing is taken away from it.
    held: AtomicUsize,
    dir: PathBuf,
    options: Options,
    /// What [`super::log_name`] says.
    name: String,
    resource: String,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("resource", &self.resource).field("options", &self.options).finish_non_exhaustive()
    }
}

impl Log {
    /// Opens the log in `dir`, or begins one, and reads its journal. Blocks.
    ///
    /// `name` is what [`super::log_name`] says. What is found is durable when
    /// this returns.
    ///
    /// # Errors
    /// [`OpenError::Locked`] while another process has it open; [`OpenError::Damaged`] when it is not what
    /// was written, or another instance's: nothing is changed then.
    pub fn open(dir: &Path, options: Options, name: &str) -> Result<(Self, Recovered), OpenError> {
        let folder = Folder::open(dir)?;
        Self::open_on(Arc::new(folder), dir, options, name)
    }

    /// Opens the log in `dir`, of which `disk` is the writing side.
    pub(super) fn open_on(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: Options,
        name: &str,
    ) -> Result<(Self, Recovered), OpenError> {
        let origin = super::origin(name).ok_or(OpenError::InstanceId)?;
        let resource = super::journal::scan::log_resource(name);
        let Found { end, torn, tree, checkpoint } = recover::recover(&*disk, dir, &resource, &origin)?;
        let created = end.is_none();
        let mut writer = match end {
            Some(end) => Writer::resume(Arc::clone(&disk), end, options.clone(), resource.clone()),
            None => Writer::create(Arc::clone(&disk), options.clone(), resource.clone()).map_err(OpenError::Start)?,
        };
        if options.discard {
            writer.write_nowhere();
        }
        let tiles = Tiles::new(dir);
        let heads = writer.standing.heads.clone();
        let follower = Follower::new(&disk::journal(dir), tiles.clone(), tree, heads);
        if let Some(torn) = &torn {
            record_torn(&mut writer, torn).map_err(OpenError::Start)?;
        }
        let recovered = Recovered {
            created,
            next_index: writer.next_index(),
            open_intents: writer.standing.open.clone().into_iter().collect(),
            heads: writer.standing.heads.clone(),
            torn,
            checkpoint: checkpoint.as_ref().map(|(_, text)| text.clone()),
        };
        let (commit, thread) = Commit::start(writer).map_err(recover::io("start the sync thread of", dir))?;
        let log = Self {
            commit,
            thread: Some(thread),
            disk,
            tiles,
            follower: Mutex::new(follower),
            readable: AtomicU64::new(0),
            signed: AtomicU64::new(checkpoint.map_or(0, |(size, _)| size)),
            held: AtomicUsize::new(0),
            dir: dir.to_owned(),
            options,
            name: name.to_owned(),
            resource,
        };
        Ok((log, recovered))
    }

    /// Asks, before a sync, how many operations are under way: with many, it waits a moment for more records.
    pub fn gather_by(&self, crowd: impl Fn() -> usize + Send + Sync + 'static) {
        self.commit.gather_by(crowd);
    }

    /// What [`super::log_name`] says.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
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
        let entry = line::encode_record(&record)?;
        failpoint::hit("audit.before_write");
        if room == Room::Plain && durability == Durability::Write && record.leaves_standing() {
            let laid = self.commit.lay(entry);
            tokio::task::yield_now().await;
            let index = self.commit.laid(&laid)?;
            failpoint::hit("audit.after_write");
            return Ok(index);
        }
        let (index, synced) = self.commit.append(&record, &entry, durability, room)?;
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
        let entry = line::encode_record(&record)?;
        let synced = self.commit.close(&record, &entry)?;
        settled(synced.await)
    }

    /// Puts what is durable into tiles and bundles, and says what tree a checkpoint is to be made of. Blocks for the
    /// writing of files; nobody else waits for it.
    ///
    /// # Errors
    /// [`LogError::Tree`] when the files cannot be written: the next call goes on. [`LogError::Poisoned`] when a
    /// record in the journal is not the one that was written: the log has failed then.
    pub fn advance(&self) -> Result<TreeHead, LogError> {
        if self.options.discard {
            return Ok(TreeHead { size: self.signed(), ..TreeHead::default() });
        }
        let (durable, owed) = self.commit.durable();
        let advanced = self.follower().advance(&durable, self.signed());
        let head = advanced.map_err(|cause| match cause {
            Cause::Altered => self.commit.fail(cause),
            _ => LogError::Tree(Arc::new(cause)),
        })?;
        self.commit.pay(owed);
        failpoint::hit("audit.after_tiles");
        self.readable.store(head.size, Ordering::Release);
        Ok(head)
    }

    /// Keeps a checkpoint, a signed note of a tree that [`Self::advance`] gave, and takes segments of the journal away
    /// whose records it covers. Blocks for a few syncs.
    ///
    /// # Errors
    /// [`LogError::Tree`].
    pub fn publish(&self, size: u64, note: &str) -> Result<(), LogError> {
        let follower = self.follower();
        let tree = |error| LogError::Tree(Arc::new(Cause::Tiles(error)));
        self.tiles.put_checkpoint(note).map_err(tree)?;
        failpoint::hit("audit.after_checkpoint");
        self.signed.store(size, Ordering::Release);
        self.prune_journal(size).map_err(tree)?;
        drop(follower);
        Ok(())
    }

    /// Keeps the last note of a key, by which it hands over. Durable when this returns. Blocks.
    ///
    /// # Errors
    /// [`LogError::Tree`] when it cannot be written.
    pub fn put_handover(&self, old: &super::tlog::VerifierKey, note: &str) -> Result<(), LogError> {
        let put = self.tiles.put_note(&super::handover::file_of(old), note);
        put.map_err(|error| LogError::Tree(Arc::new(Cause::Tiles(error))))
    }

    /// Segments whose records are all in full tiles, durable and signed for, are not needed any more.
    fn prune_journal(&self, signed: u64) -> std::io::Result<()> {
        if self.held.load(Ordering::Acquire) > 0 {
            return Ok(());
        }
        let covered = signed - signed % u64::from(super::tlog::tile::WIDTH);
        let segments = disk::segments(&disk::journal(&self.dir)).map_err(std::io::Error::other)?;
        let ended = |pair: &&[(u64, PathBuf)]| pair[1].0 <= covered;
        let ended: Vec<u64> = segments.windows(2).take_while(ended).map(|pair| pair[0].0).collect();
        if ended.is_empty() {
            return Ok(());
        }
        self.tiles.sync()?;
        for first in ended {
            self.disk.remove(&disk::segment_name(first))?;
        }
        self.disk.sync()
    }

    /// From now on nothing is taken away from the journal.
    pub(super) fn hold_journal(&self) {
        // Whoever is taking something away now holds this lock.
        let _follower = self.follower();
        self.held.fetch_add(1, Ordering::AcqRel);
    }

    /// How many hold the journal.
    pub(super) const fn held(&self) -> &AtomicUsize {
        &self.held
    }

    /// The size of the newest checkpoint.
    #[must_use]
    pub fn signed(&self) -> u64 {
        self.signed.load(Ordering::Acquire)
    }

    /// What the disk has left, in bytes.
    ///
    /// # Errors
    /// When the file system does not say.
    pub fn free_bytes(&self) -> std::io::Result<u64> {
        self.disk.free_bytes()
    }

    /// The newest checkpoint, a signed note. Blocks for the reading of a small file.
    ///
    /// # Errors
    /// [`OpenError`] if it cannot be read.
    pub fn checkpoint(&self) -> Result<Option<String>, OpenError> {
        self.tiles.checkpoint()
    }

    /// How many records can be read from tiles and bundles.
    #[must_use]
    pub fn readable(&self) -> u64 {
        self.readable.load(Ordering::Acquire)
    }

    /// Whether the disk was nearly full when it was last looked at: what is left is for administrators, outcomes and
    /// events.
    #[must_use]
    pub fn is_low_on_room(&self) -> bool {
        self.commit.is_low_on_room()
    }

    /// The log's folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What a panic has left is made anew from the journal at the next start; until then its checks find it.
    fn follower(&self) -> MutexGuard<'_, Follower> {
        self.follower.lock().unwrap_or_else(PoisonError::into_inner)
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

fn record_torn(writer: &mut Writer, torn: &Torn) -> Result<(), LogError> {
    let file = torn.file.file_name().unwrap_or_default().to_string_lossy();
    let reason = format!("{} bytes cut off at {} of {file}", torn.bytes, torn.offset);
    tracing::warn!(reason, "the audit log ended in the middle of a record");
    let record = line::event(writer.options.clock.now().0, "log.torn", &writer.resource, Some(reason));
    let entry = line::encode_record(&record)?;
    writer.append(&record, &entry, Room::Reserved, std::time::Instant::now())?;
    writer.segment.sync().map_err(|error| writer.fail(Cause::Sync(error)))
}
