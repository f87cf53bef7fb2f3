//! Group commit: one thread syncs for all who wait, and after every write that nobody waits for.
//!
//! Only that thread says that a record is durable, and only after it has looked again whether the log
//! has failed: the kernel reports a failed write-back to one of two concurrent syncs, so the other's
//! success means nothing.
//!
//! While many operations are under way a sync waits a moment for more of them: each sync costs CPU that they are
//! waiting for, and an operation in a queue loses nothing by a record that is durable a millisecond later. (What
//! PostgreSQL calls `commit_delay` and `commit_siblings`.)
//!
//! Records of one turn share a write(2), too: whoever has one that is to be in the kernel before the answer, no more, lays
//! it with the others ([`Commit::lay`]), lets the other tasks of the runtime have their turn, and then whoever comes first
//! writes all of them ([`Commit::laid`]). A call of write(2) costs as much as all else that is done for a record. The thread
//! writes what nobody comes back for.
//!
//! Those who waited are told by a task of the runtime that they run on, all at once: then their answers leave together.
//! Told by the thread, each would be woken by a system call of its own and answered by itself, which at 256 callers
//! cost more than the syncs.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};

use super::{
    super::{
        Durability,
        error::{Cause, LogError},
        record::Record,
        tlog::hash::Frontier,
    },
    debt::Owed,
    disk::Segment,
    line::Entry,
    standing::Standing,
    writer::{Room, Writer},
};
use crate::failpoint;

/// A sync begins so long after a write that nobody waits for. The promise is 100 ms, and a sync takes time.
const SYNC_AFTER: Duration = Duration::from_millis(50);

/// How long a sync waits for more records, while the service is crowded.
const GATHER: Duration = Duration::from_millis(1);
/// With so many operations under way the service is crowded.
const CROWD: usize = 16;

/// A turn has at most so many records: what they may take of the room that is kept has a bound.
const TURN_MAX: usize = 64;

/// How many operations are under way in the HSM or wait for it.
type Crowd = Box<dyn Fn() -> usize + Send + Sync>;

type Waiter = oneshot::Sender<Result<(), LogError>>;

/// Tells when a record is durable.
pub(in crate::audit) type Synced = oneshot::Receiver<Result<(), LogError>>;

/// The log's writer, and who waits for it to be synced.
pub(in crate::audit) struct Commit {
    state: Mutex<State>,
    wake: Condvar,
    crowd: OnceLock<Crowd>,
    /// The task that tells, where there is a runtime.
    herald: Option<mpsc::UnboundedSender<Told>>,
}

/// What becomes of the records of one turn.
#[derive(Debug, Default)]
struct Turn(OnceLock<Written>);

/// What became of them: so many from the first on are in the log, the others are not.
#[derive(Debug)]
struct Written {
    first: u64,
    count: u64,
    error: Option<LogError>,
}

/// A record's place in a turn.
#[derive(Debug)]
pub(in crate::audit) struct Laid {
    turn: Arc<Turn>,
    place: u64,
}

impl Laid {
    /// The record's index, once it is written.
    fn outcome(&self) -> Option<Result<u64, LogError>> {
        let written = self.turn.0.get()?;
        let failed = || written.error.clone().unwrap_or(LogError::Closed);
        Some(if self.place < written.count { Ok(written.first + self.place) } else { Err(failed()) })
    }
}

/// Who waited, and what became of it.
type Told = (Vec<Waiter>, Option<LogError>);

struct State {
    writer: Writer,
    /// The records of this turn, to be written together.
    laid: Vec<Entry>,
    turn: Arc<Turn>,
    waiters: Vec<Waiter>,
    /// When the first of them began to wait.
    waiting_since: Option<Instant>,
    /// The tree of all records that are durable.
    durable: Frontier,
    /// What is owed to the tree for them.
    owed: Owed,
    /// When the oldest write was made that no sync covers.
    dirty_since: Option<Instant>,
    /// The thread sleeps, so that a wake-up is worth a system call.
    is_idle: bool,
    is_stopping: bool,
}

/// What one sync is for.
struct Batch {
    segment: Arc<dyn Segment>,
    waiters: Vec<Waiter>,
    /// The tree of all records that are written by now.
    tree: Frontier,
    /// What is owed to the tree for them.
    owed: Owed,
}

impl Commit {
    /// Takes the writer of a durable log over and starts the thread.
    pub(in crate::audit) fn start(writer: Writer) -> std::io::Result<(Arc<Self>, JoinHandle<()>)> {
        let (durable, owed) = (writer.tree.clone(), writer.owed());
        let state = State {
            writer,
            laid: Vec::new(),
            turn: Arc::default(),
            waiters: Vec::new(),
            waiting_since: None,
            durable,
            owed,
            dirty_since: None,
            is_idle: false,
            is_stopping: false,
        };
        let herald = Handle::try_current().ok().map(|runtime| {
            // Not without bound: it holds those who wait, and each of them is a request that was let in.
            let (herald, told) = mpsc::unbounded_channel();
            runtime.spawn(tell(told));
            herald
        });
        let (wake, crowd) = (Condvar::new(), OnceLock::new());
        let commit = Arc::new(Self { state: Mutex::new(state), wake, crowd, herald });
        let thread = std::thread::Builder::new().name("audit-sync".to_owned()).spawn({
            let commit = Arc::clone(&commit);
            move || commit.run()
        })?;
        Ok((commit, thread))
    }

    /// Asks, before a sync, how many operations are under way. The first who says it is heard.
    pub(in crate::audit) fn gather_by(&self, crowd: impl Fn() -> usize + Send + Sync + 'static) {
        // A second service on one log does not exist.
        let _ = self.crowd.set(Box::new(crowd));
    }

    fn is_crowded(&self) -> bool {
        self.crowd.get().is_some_and(|crowd| crowd() >= CROWD)
    }

    /// Writes a record. With [`Durability::Fsync`] the receiver tells when it is durable.
    pub(in crate::audit) fn append(
        &self,
        record: &Record,
        entry: &Entry,
        durability: Durability,
        room: Room,
    ) -> Result<(u64, Option<Synced>), LogError> {
        let now = Instant::now();
        let mut state = self.lock();
        state.append(record, entry, durability, room, now).inspect(|_| self.wake_if_needed(&mut state, durability))
    }

    /// Lays a record with those of this turn: it is of an operation without a change, and has the room that is for those.
    /// The caller lets others have their turn and then asks what became of it.
    pub(in crate::audit) fn lay(&self, entry: Entry) -> Laid {
        let mut state = self.lock();
        let laid = Laid { turn: Arc::clone(&state.turn), place: state.laid.len() as u64 };
        state.laid.push(entry);
        if state.laid.len() >= TURN_MAX {
            state.write_laid(Instant::now());
        }
        self.wake_if_needed(&mut state, Durability::Write);
        laid
    }

    /// The index of a record that was laid. It is in the kernel when this returns.
    pub(in crate::audit) fn laid(&self, laid: &Laid) -> Result<u64, LogError> {
        if let Some(outcome) = laid.outcome() {
            return outcome;
        }
        self.lock().write_laid(Instant::now());
        // Under the lock every turn that was begun is written.
        laid.outcome().unwrap_or(Err(LogError::Closed))
    }

    /// Writes the last record. The receiver tells when everything is durable.
    pub(in crate::audit) fn close(&self, record: &Record, entry: &Entry) -> Result<Synced, LogError> {
        let now = Instant::now();
        let mut state = self.lock();
        let (_, receiver) = state.append(record, entry, Durability::Fsync, Room::Reserved, now)?;
        state.writer.close();
        self.wake_if_needed(&mut state, Durability::Fsync);
        receiver.ok_or(LogError::Closed)
    }

    /// Whether the disk was nearly full when it was last looked at.
    pub(in crate::audit) fn is_low_on_room(&self) -> bool {
        self.lock().writer.was_low()
    }

    /// Whether records can be written, as far as is known.
    pub(in crate::audit) fn health(&self) -> Result<(), LogError> {
        self.lock().writer.usable()
    }

    /// What the log says as a whole, and the index of its next record.
    pub(in crate::audit) fn standing(&self) -> (Standing, u64) {
        let mut state = self.lock();
        state.write_laid(Instant::now());
        (state.writer.standing.clone(), state.writer.next_index())
    }

    /// The tree of all records that are durable, and what is owed for them.
    pub(in crate::audit) fn durable(&self) -> (Frontier, Owed) {
        let state = self.lock();
        (state.durable.clone(), state.owed)
    }

    /// Records are in tiles and bundles.
    pub(in crate::audit) fn pay(&self, until: Owed) {
        self.lock().writer.pay(until);
    }

    /// Ends the log for ever.
    pub(in crate::audit) fn fail(&self, cause: Cause) -> LogError {
        let mut state = self.lock();
        state.fail(cause);
        state.writer.failure().unwrap_or(LogError::Closed)
    }

    /// Lets the thread end when it has synced what is written.
    pub(in crate::audit) fn stop(&self) {
        let mut state = self.lock();
        state.write_laid(Instant::now());
        state.writer.close();
        state.is_stopping = true;
        self.wake.notify_one();
    }

    /// A panic under the lock leaves the writer in an unknown state.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| {
            let mut state = poisoned.into_inner();
            state.fail(Cause::Panicked);
            state
        })
    }

    /// The thread that sleeps until a time wakes for a waiter, but not for another plain write.
    fn wake_if_needed(&self, state: &mut State, durability: Durability) {
        let sleeps_without_end = state.dirty_since.is_none();
        state.dirty_since.get_or_insert_with(Instant::now);
        if state.is_idle && (sleeps_without_end || durability == Durability::Fsync) {
            state.is_idle = false;
            self.wake.notify_one();
        }
    }

    fn run(&self) {
        let _guard = FailOnPanic(self);
        while let Some(batch) = self.next_batch() {
            let synced = sync(&*batch.segment);
            if synced.is_ok() {
                failpoint::hit("audit.after_sync");
            }
            self.settle(batch, synced);
        }
    }

    /// Waits until there is something to sync. `None`: it is time to end.
    fn next_batch(&self) -> Option<Batch> {
        let mut state = self.lock();
        loop {
            let failed = state.writer.failure().is_some();
            if let Some(rest) = self.gathers_for(&state).filter(|_| !failed) {
                state = self.sleep(state, Some(rest));
                continue;
            }
            let due = state.dirty_since.map(|since| SYNC_AFTER.saturating_sub(since.elapsed()));
            let is_due = !state.waiters.is_empty() || due.is_some_and(|rest| rest.is_zero() || state.is_stopping);
            if is_due && !failed {
                state.write_laid(Instant::now());
                state.dirty_since = None;
                state.waiting_since = None;
                let waiters = std::mem::take(&mut state.waiters);
                let (tree, owed) = (state.writer.tree.clone(), state.writer.owed());
                return Some(Batch { segment: Arc::clone(&state.writer.segment), waiters, tree, owed });
            }
            if state.is_stopping {
                return None;
            }
            state.is_idle = true;
            state = self.sleep(state, due.filter(|_| !failed));
            state.is_idle = false;
        }
    }

    /// How long the next sync is to wait for more records, if it is to.
    fn gathers_for(&self, state: &State) -> Option<Duration> {
        let rest = GATHER.checked_sub(state.waiting_since?.elapsed()).filter(|rest| !rest.is_zero())?;
        (!state.is_stopping && self.is_crowded()).then_some(rest)
    }

    fn sleep<'a>(&'a self, state: MutexGuard<'a, State>, at_most: Option<Duration>) -> MutexGuard<'a, State> {
        let woken = match at_most {
            Some(rest) => self.wake.wait_timeout(state, rest).map(|(state, _)| state).map_err(|_| ()),
            None => self.wake.wait(state).map_err(|_| ()),
        };
        woken.unwrap_or_else(|()| self.lock())
    }

    fn settle(&self, batch: Batch, synced: Result<(), Cause>) {
        let mut state = self.lock();
        match synced {
            Err(cause) => state.fail(cause),
            Ok(()) if state.writer.failure().is_none() => (state.durable, state.owed) = (batch.tree, batch.owed),
            Ok(()) => {}
        }
        let failure = state.writer.failure();
        drop(state);
        let told = (batch.waiters, failure);
        let untold = match &self.herald {
            Some(herald) => herald.send(told).err().map(|refused| refused.0),
            None => Some(told),
        };
        // Without a runtime, or after its end.
        if let Some((waiters, failure)) = untold {
            answer(waiters, failure);
        }
    }
}

impl State {
    /// Writes the records of this turn, and begins another.
    fn write_laid(&mut self, now: Instant) {
        if self.laid.is_empty() {
            return;
        }
        let first = self.writer.next_index();
        let error = self.writer.append_all(&self.laid, Room::Plain, now).err();
        let count = self.writer.next_index() - first;
        self.laid.clear();
        if let Some(error @ LogError::Poisoned(_)) = &error {
            answer(std::mem::take(&mut self.waiters), Some(error.clone()));
        }
        let turn = std::mem::take(&mut self.turn);
        // Set once: a turn is written once.
        let _ = turn.0.set(Written { first, count, error });
    }

    fn append(
        &mut self,
        record: &Record,
        entry: &Entry,
        durability: Durability,
        room: Room,
        now: Instant,
    ) -> Result<(u64, Option<Synced>), LogError> {
        self.write_laid(now);
        let index = self.writer.append(record, entry, room, now).inspect_err(|error| {
            if matches!(error, LogError::Poisoned(_)) {
                answer(std::mem::take(&mut self.waiters), Some(error.clone()));
            }
        })?;
        let receiver = (durability == Durability::Fsync).then(|| {
            let (sender, receiver) = oneshot::channel();
            self.waiters.push(sender);
            self.waiting_since.get_or_insert(now);
            receiver
        });
        Ok((index, receiver))
    }

    fn fail(&mut self, cause: Cause) {
        let failure = self.writer.fail(cause);
        self.waiting_since = None;
        answer(std::mem::take(&mut self.waiters), Some(failure));
    }
}

/// Syncs, and makes sure that what was synced is still the log.
fn sync(segment: &dyn Segment) -> Result<(), Cause> {
    segment.sync().map_err(Cause::Sync)?;
    match segment.is_in_place() {
        Ok(true) => Ok(()),
        Ok(false) => Err(Cause::Unlinked),
        Err(error) => Err(Cause::Inspect(error)),
    }
}

async fn tell(mut told: mpsc::UnboundedReceiver<Told>) {
    while let Some((waiters, failure)) = told.recv().await {
        answer(waiters, failure);
    }
}

fn answer(waiters: Vec<Waiter>, failure: Option<LogError>) {
    for waiter in waiters {
        // Whoever gave up waiting needs no answer.
        let _ = waiter.send(failure.clone().map_or(Ok(()), Err));
    }
}

/// Nobody may wait for a thread that is gone.
struct FailOnPanic<'a>(&'a Commit);

impl Drop for FailOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lock().fail(Cause::Panicked);
        }
    }
}
