//! A lane: a queue before the workers of one class of work.
//!
//! Whoever brings a call, or an answer, *pumps*: takes what waits for a worker with room, encodes it
//! into one packet and sends it. Nobody is woken to send, and what arrives while a packet is being
//! written goes with the next one; that is all the batching there is. The lock is held for moving calls
//! between collections only: admissions are asked, packets encoded, sent and wiped, and results told
//! outside of it, by whoever holds the worker's packet buffer.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use crate::{
    algorithms::{Lane as Name, LengthError},
    error::Error,
    pool::{
        Admission, LaneHealth, Tenant,
        answer::{Outcome, Reason},
        call::{Waiting, Work},
        known::Known,
        link::{Link, Sent},
        live::Live,
        meter::Meter,
        state::{Claim, Commit, Ended, SeatState, State},
        timing::{Told, Watched},
    },
    profile::{LaneProfile, Profile},
    protocol::{Answer, Fault, Moment, PACKET_BYTES_MAX, Response},
    secret::wipe,
    statement::KeyRow,
};

/// One lane.
pub(super) struct Lane {
    pub(super) name: Name,
    state: Mutex<State>,
    meter: Meter,
    /// Calls that nobody waits for any more and that may still be in the queue.
    abandoned: AtomicUsize,
    canary_every: Duration,
    hang: Duration,
    /// A worker whose canary was not heard for so long is replaced.
    canary_max: Duration,
}

/// A packet that has been encoded.
struct Encoded {
    calls: Vec<(u32, Waiting, bool)>,
    lapsed: Vec<Ended>,
    is_secret: bool,
}

/// Where the result of a call will come. Dropping it abandons the call.
pub(super) struct Ticket<'a> {
    lane: &'a Lane,
    result: oneshot::Receiver<Told>,
    queued_at: Moment,
    deadline: Moment,
    told: bool,
    watched: Watched,
}

impl Ticket<'_> {
    /// Somebody is told how it went.
    pub(super) fn watched(self, watched: &Watched) -> Self {
        let mut ticket = self;
        ticket.watched = watched.clone();
        ticket
    }

    /// Waits for the result, until the deadline.
    pub(super) async fn wait(mut self) -> Result<Response, Error> {
        let until = Instant::now() + self.deadline.since(Moment::now());
        let result = match tokio::time::timeout_at(until, &mut self.result).await {
            Ok(result) => {
                self.told = true;
                // The sender is dropped without a word only when the pool itself is torn down.
                result.map_or(Err(Error::WorkerLost), |told| self.watched.told(self.lane.name, told))
            }
            Err(_) => {
                self.watched.gave_up(self.lane.name, self.queued_at);
                Err(Error::Expired)
            }
        };
        self.lane.meter.outcome(result.as_ref().map(drop));
        result
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if !self.told {
            self.lane.abandon(1);
        }
    }
}

impl Lane {
    /// A lane without workers. The profile must have it: see [`super::check`].
    pub(super) fn new(name: Name, profile: &Profile, limits: LaneProfile) -> Self {
        Self {
            name,
            state: Mutex::new(State::new(name, limits, profile.loads_max)),
            meter: Meter::new(name, limits.workers),
            abandoned: AtomicUsize::new(0),
            canary_every: profile.canary_every,
            hang: limits.hang,
            canary_max: limits.hang.max(profile.canary_every * 3),
        }
    }

    /// A panic under the lock is a bug in this module; the state is as good as before it, so the lane
    /// goes on instead of failing every call from then on.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings a call.
    pub(super) fn submit(
        &self,
        work: Work,
        admission: Option<Arc<dyn Admission>>,
        deadline: Moment,
    ) -> Result<Ticket<'_>, Error> {
        self.submit_call(Waiting::new(work, admission, deadline), deadline)
    }

    /// Brings a call of that tenant that nothing has to admit again.
    pub(super) fn submit_of(&self, tenant: Tenant, work: Work, deadline: Moment) -> Result<Ticket<'_>, Error> {
        let (mut call, result) = Waiting::new(work, None, deadline);
        call.tenant = tenant;
        self.submit_call((call, result), deadline)
    }

    fn submit_call(
        &self,
        (call, result): (Waiting, oneshot::Receiver<Told>),
        deadline: Moment,
    ) -> Result<Ticket<'_>, Error> {
        let queued_at = call.queued_at;
        if let Err(error) = self.enqueue(call) {
            self.meter.outcome(Err(&error));
            return Err(error);
        }
        let ticket = Ticket { lane: self, result, queued_at, deadline, told: false, watched: Watched::default() };
        self.pump();
        Ok(ticket)
    }

    fn enqueue(&self, call: Waiting) -> Result<(), Error> {
        check_length(&call)?;
        let mut swept = Vec::new();
        let mut state = self.lock();
        let refusal = self.refusal(&mut state, &call, &mut swept);
        if refusal.is_none() {
            state.admit(call);
        }
        drop(state);
        // Dropped, and so wiped, after the lock.
        drop(swept);
        refusal.map_or(Ok(()), Err)
    }

    /// Puts calls into the queue, in order, and sends what can be sent, until one finds no room. Why the
    /// first of those that are left was not taken, if any is left.
    pub(super) fn bring(&self, calls: &mut VecDeque<Waiting>) -> Option<Error> {
        loop {
            let before = calls.len();
            let refusal = self.enqueue_all(calls);
            self.pump();
            // What was sent may have made room.
            if calls.is_empty() || calls.len() == before {
                return refusal;
            }
        }
    }

    fn enqueue_all(&self, calls: &mut VecDeque<Waiting>) -> Option<Error> {
        let mut swept = Vec::new();
        let mut refusal = None;
        let mut state = self.lock();
        while let Some(call) = calls.pop_front() {
            refusal = self.refusal(&mut state, &call, &mut swept);
            if refusal.is_some() {
                calls.push_front(call);
                break;
            }
            state.admit(call);
        }
        drop(state);
        drop(swept);
        refusal
    }

    /// Why `call` is not taken, if so. What nobody waits for any more is swept out before one is refused.
    fn refusal(&self, state: &mut State, call: &Waiting, swept: &mut Vec<Waiting>) -> Option<Error> {
        let refusal = state.refuses(call);
        if matches!(refusal, Some(Error::Overloaded { .. })) && self.abandoned.swap(0, Ordering::Relaxed) > 0 {
            swept.append(&mut state.sweep());
            return state.refuses(call);
        }
        refusal
    }

    /// Notes that nobody waits any more for so many calls that may still be in the queue.
    pub(super) fn abandon(&self, calls: usize) {
        self.abandoned.fetch_add(calls, Ordering::Relaxed);
    }

    /// Counts the end of a call.
    pub(super) fn count(&self, result: Result<(), &Error>) {
        self.meter.outcome(result);
    }

    /// Sends everything that can be sent now.
    pub(super) fn pump(&self) {
        loop {
            let claim = {
                let mut state = self.lock();
                let claim = state.claim();
                #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
                self.meter.queue_length.set(state.queue.len() as f64);
                claim
            };
            let Some(claim) = claim else { return };
            self.write(claim);
        }
    }

    /// Encodes and sends one packet.
    fn write(&self, claim: Claim) {
        let Claim { generation, link, first_id, calls, mut packet } = claim;
        let claimed = calls.len();
        let Encoded { calls, lapsed, is_secret } = self.encode(calls, first_id, &mut packet);
        tell(lapsed);
        let commit = self.lock().commit(generation, claimed, calls);
        let sent = match commit {
            Commit::Send => link.send(&packet),
            Commit::Empty => Sent::Whole,
            Commit::Gone(ended) => {
                wipe(&mut packet);
                return tell(ended);
            }
        };
        self.sent(generation, packet, is_secret, &sent);
    }

    /// Encodes what still holds; the rest has lapsed.
    fn encode(&self, calls: Vec<(Waiting, bool)>, first_id: u32, packet: &mut Vec<u8>) -> Encoded {
        let now = Moment::now();
        let mut encoded = Encoded { calls: Vec::with_capacity(calls.len()), lapsed: Vec::new(), is_secret: false };
        let mut id = first_id;
        for (call, with_row) in calls {
            if call.is_abandoned() {
                continue;
            }
            if let Some(error) = call.lapse(now) {
                encoded.lapsed.push((call, Err(error)));
                continue;
            }
            self.meter.queue_wait.record(now.since(call.queued_at).as_secs_f64());
            if with_row {
                self.meter.key_loads.increment(1);
            }
            encoded.is_secret |= call.encode(packet, id, with_row);
            encoded.calls.push((id, call, with_row));
            id = id.wrapping_add(1);
        }
        encoded
    }

    /// Gives the packet buffer back, or keeps what found no room.
    fn sent(&self, generation: u64, mut packet: Vec<u8>, is_secret: bool, sent: &Sent) {
        if is_secret && *sent != Sent::Blocked {
            wipe(&mut packet);
        }
        let mut state = self.lock();
        let Some(index) = state.index(generation) else {
            drop(state);
            return wipe(&mut packet);
        };
        let live = &mut state.live[index];
        match sent {
            Sent::Whole => live.end_writing(packet),
            Sent::Blocked => {
                live.unsent = Some((packet, is_secret));
                // The first nudge may have come before the packet was kept.
                live.link.nudge.notify_one();
            }
            Sent::Broken => {
                live.doomed = true;
                live.draining = true;
                live.end_writing(packet);
                // Whoever attends the worker reads what it has answered, and then the end.
                live.link.shutdown();
            }
        }
    }

    /// Sends the packet that found no room, if there is one. What became of it.
    pub(super) fn send_again(&self, generation: u64) -> Sent {
        let (link, packet, is_secret) = {
            let mut state = self.lock();
            let Some(index) = state.index(generation) else { return Sent::Broken };
            let live = &mut state.live[index];
            let Some((packet, is_secret)) = live.unsent.take() else { return Sent::Whole };
            (Arc::clone(&live.link), packet, is_secret)
        };
        let sent = link.send(&packet);
        self.sent(generation, packet, is_secret, &sent);
        if sent == Sent::Whole {
            self.pump();
        }
        sent
    }

    /// Applies answers and sends what has room now. Why the worker is to be replaced, if so.
    pub(super) fn answered(&self, generation: u64, seat: usize, answers: Vec<Answer>) -> Option<Reason> {
        let Outcome { ended, service_ns, reason } = self.lock().answer(generation, answers);
        for service_ns in service_ns {
            self.meter.service(seat, service_ns);
        }
        tell(ended);
        self.pump();
        reason
    }

    /// Looks after a worker: asks the canary when it is time. Why the worker is to be replaced, if so.
    pub(super) fn inspect(&self, generation: u64) -> Option<Reason> {
        let now = Moment::now();
        let reason = {
            let mut state = self.lock();
            let index = state.index(generation)?;
            let live = &mut state.live[index];
            let reason = self.diagnose(live, now);
            if reason.is_none() && !live.canary_waits && now.since(live.canary_asked_at) >= self.canary_every {
                live.canary_waits = true;
                live.canary_asked_at = now;
                live.own.push_front(Waiting::canary(now.after(self.canary_max)));
            }
            live.doomed |= reason.is_some();
            live.draining |= reason.is_some();
            reason
        };
        self.pump();
        reason
    }

    fn diagnose(&self, live: &Live, now: Moment) -> Option<Reason> {
        if live.draining && !live.doomed && live.is_idle() {
            return Some(Reason::Drained);
        }
        if live.running_since().is_some_and(|since| now.since(since) > self.hang) {
            return Some(Reason::Hung);
        }
        // Counted from the question: before it, the worker may rightly have been busy for long.
        let silent = if live.canary_waits { now.since(live.canary_asked_at) } else { Duration::ZERO };
        (silent > self.canary_max).then(|| Reason::Canary(format!("silent for {} s", silent.as_secs())))
    }

    /// How often a worker is to be inspected.
    pub(super) fn inspect_every(&self) -> Duration {
        (self.hang.min(self.canary_every) / 4).clamp(Duration::from_millis(10), Duration::from_millis(500))
    }

    /// The front itself stood still: workers are not to blame for answers that nobody read.
    pub(super) fn excuse(&self, generation: u64) {
        let now = Moment::now();
        let mut state = self.lock();
        if let Some(index) = state.index(generation) {
            let live = &mut state.live[index];
            live.answered_at = now;
            live.canary_asked_at = now;
        }
    }

    /// Lets a new worker serve. Its generation.
    pub(super) fn enlist(&self, seat: usize, link: Arc<Link>, known: Known, loads: u64) -> u64 {
        let generation = {
            let mut state = self.lock();
            let generation = state.enlist(|generation| Live::new(generation, seat, link, known, loads));
            self.show_ready(&state);
            generation
        };
        self.pump();
        generation
    }

    /// Takes no more calls for a worker whose successor serves.
    pub(super) fn drain(&self, generation: u64) {
        let mut state = self.lock();
        if let Some(index) = state.index(generation) {
            state.live[index].draining = true;
            state.live[index].link.nudge.notify_one();
        }
        self.show_ready(&state);
        drop(state);
        self.meter.replaced(Reason::Drained.label());
    }

    /// Takes out a worker that no longer serves.
    pub(super) fn lose(&self, generation: u64, reason: &Reason) {
        let ended = {
            let mut state = self.lock();
            let ended = state.lose(generation);
            if !matches!(reason, Reason::Drained | Reason::Stopped) {
                state.trouble = Some(reason.text());
            }
            self.show_ready(&state);
            ended
        };
        if !matches!(reason, Reason::Drained | Reason::Stopped) {
            self.meter.replaced(reason.label());
        }
        tell(ended);
        self.pump();
    }

    /// Notes how a seat without a worker stands, and the trouble that it has met.
    pub(super) fn seat(&self, seat: usize, state_of_seat: SeatState, trouble: Option<String>) {
        let ended = {
            let mut state = self.lock();
            state.seats[seat] = state_of_seat;
            if trouble.is_some() {
                state.trouble = trouble;
            }
            state.settle()
        };
        tell(ended);
        self.pump();
    }

    /// Notes the newest failure more exactly.
    pub(super) fn note(&self, trouble: String) {
        self.lock().trouble = Some(trouble);
    }

    /// The rows that a new worker is warmed with.
    pub(super) fn hot_rows(&self) -> Vec<Arc<KeyRow>> {
        self.lock().hot.rows()
    }

    /// Takes no more calls.
    pub(super) fn close(&self) {
        let ended = {
            let mut state = self.lock();
            state.closed = true;
            state.settle()
        };
        tell(ended);
    }

    /// Ends what still waits.
    pub(super) fn give_up(&self) {
        let ended = self.lock().give_up("the service is ending");
        tell(ended);
        self.pump();
    }

    /// Calls that wait or are under way.
    pub(super) fn unfinished(&self) -> usize {
        self.lock().unfinished()
    }

    /// How the lane is.
    pub(super) fn health(&self) -> LaneHealth {
        let now = Moment::now();
        let state = self.lock();
        let serving = state.live.iter().filter(|live| !live.draining);
        let (ready, wanted) = (serving.clone().count(), state.limits.workers);
        LaneHealth {
            lane: self.name,
            ready,
            wanted,
            canary_age: serving.map(|live| now.since(live.canary_at)).max(),
            queued: state.queue.len(),
            trouble: if ready < wanted { state.trouble.clone() } else { None },
        }
    }

    fn show_ready(&self, state: &State) {
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        self.meter.workers_ready.set(state.serving() as f64);
    }
}

/// Tells the results of calls that have ended.
fn tell(ended: Vec<Ended>) {
    for (call, result) in ended {
        call.finish(result);
    }
}

/// A call must fit in one packet.
pub(super) fn check_length(call: &Waiting) -> Result<(), Error> {
    let found_bytes = call.bytes();
    if found_bytes <= PACKET_BYTES_MAX {
        return Ok(());
    }
    let algorithm = match &call.work {
        Work::Operate { operation, .. } => operation.algorithm().name(),
        Work::Plain(_) => "the worker protocol",
    };
    let takes = format!("at most {PACKET_BYTES_MAX}, with the key's row");
    let (field, algorithm) = ("request".to_owned(), algorithm.to_owned());
    Err(Error::Fault(Fault::Length(LengthError { field, algorithm, found_bytes, takes })))
}
