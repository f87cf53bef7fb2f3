//! What one lane knows, behind its lock: the queue, the workers, and the rules that move calls between
//! them. Nothing here waits, sends or calls out; [`super::lane`] does.

use std::{sync::Arc, time::Duration};

use crate::{
    algorithms::Lane,
    error::Error,
    pool::{
        call::Waiting,
        known::Hot,
        link::Link,
        live::{Live, UnderWay},
        queue::{Line, Queue},
    },
    profile::LaneProfile,
    protocol::{Moment, PACKET_BYTES_MAX, Response},
};

/// How much goes to one worker at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// Packets that are not answered.
    pub(super) packets_max: u64,
    /// Calls in one packet: what is lost together, and what a newcomer waits behind.
    pub(super) calls_max: usize,
    /// Those among them that came in bulk: what a single call may have to wait behind, once it is sent.
    pub(super) bulk_max: usize,
}

impl Window {
    /// Two packets hide the time between an answer and the next packet; many calls in one pay for the
    /// wake-ups. Generation takes one call at a time: a token key that was sent has then surely begun,
    /// and what has not been sent can go elsewhere.
    pub(super) fn of(lane: Lane) -> Self {
        match lane {
            Lane::Short => Self { packets_max: 2, calls_max: 512, bulk_max: 128 },
            Lane::Medium => Self { packets_max: 2, calls_max: 64, bulk_max: 32 },
            Lane::Long => Self { packets_max: 2, calls_max: 4, bulk_max: 2 },
            Lane::Generate => Self { packets_max: 1, calls_max: 1, bulk_max: 1 },
        }
    }
}

/// What the calls of one packet cost at most together, unless it is one call: what was sent cannot be overtaken, so it
/// is what a tenant that comes next has to wait for.
const PACKET_US_MAX: u64 = 4_000;

/// Whether a seat has a worker, or will have one soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SeatState {
    /// A worker serves.
    Serving,
    /// One is being started, and nothing says that it will fail.
    Starting,
    /// Starts failed one after the other, or are forbidden: nobody should wait for it.
    Failing,
}

/// A call and its end, to be told after the lock is released.
pub(super) type Ended = (Waiting, Result<Response, Error>);

/// Calls taken from the queue for one packet, and the exclusive right to write to that worker.
pub(super) struct Claim {
    pub(super) generation: u64,
    pub(super) link: Arc<Link>,
    pub(super) first_id: u32,
    /// Each with whether its row goes along.
    pub(super) calls: Vec<(Waiting, bool)>,
    pub(super) packet: Vec<u8>,
}

/// What is to be done with a packet.
pub(super) enum Commit {
    /// Send it.
    Send,
    /// Every call in it had lapsed.
    Empty,
    /// The worker is gone. These calls end.
    Gone(Vec<Ended>),
}

/// One lane, behind its lock.
pub(super) struct State {
    pub(super) lane: Lane,
    pub(super) limits: LaneProfile,
    window: Window,
    loads_max: u64,
    pub(super) queue: Queue,
    pub(super) live: Vec<Live>,
    pub(super) seats: Vec<SeatState>,
    /// Calls between the queue and a worker, in the hands of whoever writes.
    claimed: usize,
    next_generation: u64,
    pub(super) hot: Hot,
    /// The newest failure.
    pub(super) trouble: Option<String>,
    /// No more calls: the pool ends.
    pub(super) closed: bool,
    /// A moving average of the work of one call, in nanoseconds.
    service_ns: u64,
}

impl State {
    pub(super) fn new(lane: Lane, limits: LaneProfile, loads_max: u64) -> Self {
        Self {
            lane,
            limits,
            window: Window::of(lane),
            loads_max,
            queue: Queue::new(limits.queue_max),
            live: Vec::new(),
            seats: vec![SeatState::Starting; limits.workers],
            claimed: 0,
            next_generation: 1,
            hot: Hot::default(),
            trouble: None,
            closed: false,
            service_ns: 0,
        }
    }

    /// Why `call` is not taken, if so.
    pub(super) fn refuses(&self, call: &Waiting) -> Option<Error> {
        if let Some(error) = self.refusal() {
            return Some(error);
        }
        let is_full = self.queue.is_full_for(call);
        is_full.then(|| Error::Overloaded { lane: self.lane.name(), retry_after: self.retry_after() })
    }

    /// Puts a call that is not refused at the end of the queue.
    pub(super) fn admit(&mut self, call: Waiting) {
        self.queue.push_back(call);
    }

    /// Why no call is taken at all, if so.
    fn refusal(&self) -> Option<Error> {
        if self.closed {
            return Some(Error::Unavailable("the service is ending".to_owned()));
        }
        self.is_down().then(|| Error::Unavailable(self.trouble.clone().unwrap_or_default()))
    }

    /// Whether nobody serves and nobody is about to.
    fn is_down(&self) -> bool {
        self.live.iter().all(|live| live.draining) && self.seats.iter().all(|seat| *seat == SeatState::Failing)
    }

    /// About how long the work that waits will take.
    fn retry_after(&self) -> Duration {
        let calls = u64::try_from(self.queue.len()).unwrap_or(u64::MAX);
        let workers = u64::try_from(self.serving().max(1)).unwrap_or(1);
        let wait = Duration::from_nanos(self.service_ns.saturating_mul(calls) / workers);
        wait.clamp(Duration::from_millis(10), Duration::from_secs(5))
    }

    /// Workers that take calls.
    pub(super) fn serving(&self) -> usize {
        self.live.iter().filter(|live| !live.draining).count()
    }

    /// Calls that wait or are under way.
    pub(super) fn unfinished(&self) -> usize {
        let at_workers: usize = self.live.iter().map(|live| live.under_way.len() + live.own.len()).sum();
        self.queue.len() + self.claimed + at_workers
    }

    /// Takes the calls that nobody waits for out of the queue.
    pub(super) fn sweep(&mut self) -> Vec<Waiting> {
        self.queue.sweep()
    }

    /// Chooses a worker with room and takes calls for one packet.
    pub(super) fn claim(&mut self) -> Option<Claim> {
        let index = self.choose()?;
        let mut calls = self.take_own(index);
        if calls.is_empty() || !calls[0].0.suspect {
            self.take_queued(index, &mut calls);
        }
        self.claimed += calls.len();
        let live = &mut self.live[index];
        live.sole = calls.iter().any(|(call, _)| call.suspect);
        let claim = Claim {
            generation: live.generation,
            link: Arc::clone(&live.link),
            first_id: live.reserve_ids(calls.len()),
            calls,
            packet: live.begin_writing(),
        };
        if live.loads >= self.loads_max {
            live.link.worn.notify_one();
        }
        Some(claim)
    }

    /// A worker with calls of its own; else, for the head of the queue, the idlest, and among equals one
    /// that is believed to have the key.
    fn choose(&self) -> Option<usize> {
        let packets_max = self.window.packets_max;
        let room = |live: &Live, call: &Waiting| {
            if call.suspect { live.has_room(1) } else { live.has_room(packets_max) }
        };
        let own = self.live.iter().position(|live| live.own.front().is_some_and(|call| room(live, call)));
        if own.is_some() {
            return own;
        }
        let head = self.queue.next(true)?;
        let lacks = |live: &Live| head.work.seal().is_some_and(|seal| !live.known.contains(seal));
        // A worker with a call of its own that has no room yet takes nothing else, or it would never have.
        let takes = |live: &Live| !live.draining && live.own.is_empty() && room(live, head);
        let candidates = self.live.iter().enumerate().filter(|(_, live)| takes(live));
        candidates.min_by_key(|(_, live)| (live.packets(), lacks(live))).map(|(index, _)| index)
    }

    fn take_own(&mut self, index: usize) -> Vec<(Waiting, bool)> {
        let mut calls = Vec::new();
        let mut bytes = 0;
        while let Some(head) = self.live[index].own.front() {
            bytes += self.live[index].frame_bytes_max(head);
            if !calls.is_empty() && (head.suspect || bytes > PACKET_BYTES_MAX || calls.len() >= self.window.calls_max) {
                break;
            }
            let alone = head.suspect;
            let Some(call) = self.live[index].own.pop_front() else { break };
            let with_row = self.count(index, &call);
            calls.push((call, with_row));
            if alone {
                break;
            }
        }
        calls
    }

    /// Fills the packet from the queue: at most this worker's share of what waits, so that one worker does
    /// not take everything while another idles.
    fn take_queued(&mut self, index: usize, calls: &mut Vec<(Waiting, bool)>) {
        if self.live[index].draining {
            return;
        }
        let share = self.queue.len().div_ceil(self.serving().max(1));
        let calls_max = share.saturating_add(calls.len()).min(self.window.calls_max);
        let mut bytes: usize = calls.iter().map(|(call, _)| call.bytes()).sum();
        let mut cost_us: u64 = calls.iter().map(|(call, _)| u64::from(call.cost_us)).sum();
        let mut bulk = 0;
        while let Some(head) = self.queue.next(bulk < self.window.bulk_max) {
            bytes += self.live[index].frame_bytes_max(head);
            cost_us += u64::from(head.cost_us);
            let is_full = bytes > PACKET_BYTES_MAX || cost_us > PACKET_US_MAX || calls.len() >= calls_max;
            if !calls.is_empty() && (head.suspect || is_full) {
                break;
            }
            let alone = head.suspect;
            let Some(call) = self.queue.pop(bulk < self.window.bulk_max) else { break };
            bulk += usize::from(call.line == Line::Bulk);
            let with_row = self.count(index, &call);
            calls.push((call, with_row));
            if alone {
                break;
            }
        }
    }

    /// Notes what sending `call` does to the worker. Whether its row has to go along.
    fn count(&mut self, index: usize, call: &Waiting) -> bool {
        let live = &mut self.live[index];
        live.loads += call.work.extra_loads();
        let Some(row) = call.work.row() else { return false };
        let with_row = !live.known.touch(&row.seal) || call.row_wanted;
        live.loads += u64::from(with_row);
        self.hot.count(row);
        with_row
    }

    /// Notes what is about to be sent. When the worker is gone, the calls go back to the head of the queue.
    pub(super) fn commit(&mut self, generation: u64, claimed: usize, calls: Vec<(u32, Waiting, bool)>) -> Commit {
        self.claimed -= claimed;
        let Some(index) = self.index(generation) else {
            for (_, call, _) in calls.into_iter().rev() {
                self.put_back(call);
            }
            return Commit::Gone(self.settle());
        };
        let live = &mut self.live[index];
        if calls.is_empty() {
            live.sole = false;
            return Commit::Empty;
        }
        let (packet, sent_at) = (live.number_packet(), Moment::now());
        let under_way = |(id, waiting, with_row)| UnderWay { id, packet, sent_at, with_row, waiting };
        live.under_way.extend(calls.into_iter().map(under_way));
        Commit::Send
    }

    /// Puts a call back at the head of the queue.
    pub(super) fn put_back(&mut self, call: Waiting) {
        if call.work.is_canary() {
            return;
        }
        self.queue.push_front(call);
    }

    /// The worker of that generation, if it still serves.
    pub(super) fn index(&self, generation: u64) -> Option<usize> {
        self.live.iter().position(|live| live.generation == generation)
    }

    /// Lets a worker serve. Its generation.
    pub(super) fn enlist(&mut self, make: impl FnOnce(u64) -> Live) -> u64 {
        let generation = self.next_generation;
        self.next_generation += 1;
        let live = make(generation);
        self.seats[live.seat] = SeatState::Serving;
        self.live.push(live);
        generation
    }

    /// Takes a worker out. What it may have begun is tried once more if that is safe; what it has not
    /// begun goes back as if never sent. Returns the calls that end here.
    pub(super) fn lose(&mut self, generation: u64) -> Vec<Ended> {
        let Some(index) = self.index(generation) else { return Vec::new() };
        let mut live = self.live.remove(index);
        let mut ended = Vec::new();
        if let Some((packet, _)) = &mut live.unsent {
            crate::secret::wipe(packet);
        }
        for call in live.own.into_iter().rev() {
            self.put_back(call);
        }
        let first = live.under_way.front().map(|oldest| oldest.packet);
        for under_way in live.under_way.into_iter().rev() {
            let mut call = under_way.waiting;
            let begun = first == Some(under_way.packet);
            if begun && !call.survives_loss() {
                ended.push((call, Err(Error::WorkerLost)));
            } else {
                self.put_back(call);
            }
        }
        ended.extend(self.settle());
        ended
    }

    /// Ends every waiting call when nobody serves and nobody is about to.
    pub(super) fn settle(&mut self) -> Vec<Ended> {
        let Some(Error::Unavailable(reason)) = self.refusal() else { return Vec::new() };
        // A closed lane finishes what waits as long as someone serves.
        if self.closed && self.serving() > 0 {
            return Vec::new();
        }
        self.give_up(&reason)
    }

    /// Ends every waiting call.
    pub(super) fn give_up(&mut self, reason: &str) -> Vec<Ended> {
        let ended = |call| (call, Err(Error::Unavailable(reason.to_owned())));
        self.queue.drain().into_iter().map(ended).collect()
    }

    /// Takes the module's time for one call into the average.
    pub(super) fn note_service(&mut self, service_ns: u64) {
        // A lying worker must not be able to push the hint beyond its clamp for long: one second at most.
        let sample = service_ns.min(1_000_000_000);
        self.service_ns = if self.service_ns == 0 { sample } else { (self.service_ns * 15 + sample) / 16 };
    }
}

#[cfg(test)]
mod tests;
