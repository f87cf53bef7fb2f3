//! Replicas that plan and work, owners who change their minds, clocks that are set, and everything dying in between.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::{
    Settings, Weakness,
    clocks::Clocks,
    oracle::{Oracle, Violation},
    policies::{policies, policies_of_minutes},
    random::Random,
    store::{Creating, LEASE_S, Refused, Store, can_be_finished, put_current},
};
use crate::{
    model::{State, Timestamp, VersionId},
    rotation::{Due, KeyLife, RotationPolicy, VersionLife, Work, deleted, next_version, plan},
};

const HOUR_S: i64 = 3_600;
const DAY_S: i64 = 86_400;
const YEAR_S: i64 = 31_557_600;
/// 2026-01-01.
const START: Timestamp = Timestamp(1_767_225_600);

pub(super) struct World {
    settings: Settings,
    random: Random,
    clocks: Clocks,
    store: Store,
    pub(super) oracle: Oracle,
    policies: Vec<RotationPolicy>,
    policies_of_minutes: Vec<RotationPolicy>,
    /// What happens when, by the monotonic clock; the number keeps the order of what happens at once.
    events: BinaryHeap<Reverse<(i64, u64, Event)>>,
    events_count: u64,
    /// The store's column as an index: keys by when they must be looked at, by the wall clock. May have old entries.
    index: BinaryHeap<Reverse<(i64, usize)>>,
    /// The entry of each key in the index that counts.
    indexed: Vec<Option<i64>>,
    jobs: Vec<Option<Job>>,
    free: Vec<usize>,
    versions: u64,
    /// The number of the newest event that the receiver has.
    received: u64,
    /// Nothing new is begun any more.
    ending: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A replica does the next step of a job.
    Step(usize),
    /// A replica that planned before another was done claims now.
    ClaimLate(usize),
    /// A replica looks at a key, whatever the index says.
    Look(usize),
    /// An owner does something.
    Own(usize),
    Enable(usize),
    Recover(usize),
    EndMinutes(usize),
    SetClock,
    SetClockRight,
    Deliver,
    Audit,
}

/// What a replica has in memory: gone when it dies.
struct Job {
    key: usize,
    fence: u64,
    due: Vec<Due>,
    planned: Timestamp,
    step: Step,
    made: Option<Creating>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Claimed,
    Intended,
    Created,
    ProvedInHsm,
    Proved,
    Committed,
}

/// What comes after a step.
enum After {
    Next,
    /// The job is done.
    Done,
    /// It failed and is tried again later.
    Failed,
}

impl World {
    pub(super) fn new(settings: Settings) -> Self {
        let mut random = Random::new(settings.seed);
        let policies = policies(&mut random, settings.keys.clamp(30, 400));
        let mut world = Self {
            clocks: Clocks::new(START),
            store: Store::new(Vec::new(), START, None),
            oracle: Oracle::new(settings.keys),
            policies,
            policies_of_minutes: policies_of_minutes(),
            events: BinaryHeap::new(),
            events_count: 0,
            index: BinaryHeap::new(),
            indexed: vec![None; settings.keys],
            jobs: Vec::new(),
            free: Vec::new(),
            versions: 0,
            received: 0,
            ending: false,
            random,
            settings,
        };
        let lives = (0..settings.keys).map(|key| world.new_life(key)).collect();
        world.store = Store::new(lives, START, settings.weakness);
        for key in 0..settings.keys {
            world.enqueue(key);
            world.own_later(key);
        }
        if settings.faults {
            let first = world.random.within(DAY_S..100 * DAY_S);
            world.at(first, Event::SetClock);
        }
        world.at(HOUR_S, Event::Deliver);
        world.at(90 * DAY_S, Event::Audit);
        world
    }

    fn new_life(&mut self, key: usize) -> KeyLife {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&u64::try_from(key).expect("a key's number").to_be_bytes());
        let policy = (!self.random.per_mille(100)).then(|| self.random.pick(&self.policies).clone());
        let created = Timestamp(START.0 - self.random.within(0..3 * YEAR_S));
        let expires = policy.as_ref().and_then(|policy| policy.expiry_time).map(|life| life.after(created));
        let current = VersionLife { version: self.new_version(), created, expires, enabled: true, uses: 0 };
        KeyLife { key: id, state: State::Active, policy, current, done: Vec::new() }
    }

    fn new_version(&mut self) -> VersionId {
        self.versions += 1;
        VersionId::from_bytes(u128::from(self.versions).to_be_bytes())
    }

    /// Everything until the end, then only what was begun.
    pub(super) fn run(&mut self) {
        let end_s = self.settings.years * YEAR_S;
        while let Some(at_s) = self.next_s().filter(|at_s| *at_s <= end_s) {
            self.clocks.elapsed_s = at_s;
            self.happen();
        }
        self.ending = true;
        self.index.clear();
        while let Some(Reverse((at_s, _, event))) = self.events.pop() {
            if matches!(event, Event::Step(_) | Event::ClaimLate(_) | Event::Look(_)) {
                self.clocks.elapsed_s = self.clocks.elapsed_s.max(at_s);
                self.on(event);
            }
        }
        self.finish();
    }

    fn next_s(&self) -> Option<i64> {
        let event = self.events.peek().map(|Reverse((at_s, ..))| *at_s);
        let due = self.index.peek().map(|Reverse((wall, _))| self.clocks.when(Timestamp(*wall)));
        event.into_iter().chain(due).min()
    }

    /// The next thing, which is now.
    fn happen(&mut self) {
        let now = self.clocks.wall().0;
        if let Some(Reverse((wall, key))) = self.index.peek().copied().filter(|Reverse((wall, _))| *wall <= now) {
            self.index.pop();
            if self.indexed[key] == Some(wall) {
                self.indexed[key] = None;
                self.look(key);
            }
        } else if let Some(Reverse((_, _, event))) = self.events.pop() {
            self.on(event);
        }
    }

    fn finish(&mut self) {
        self.deliver_all();
        if self.received != self.oracle.events {
            self.oracle.say(Violation::EventsLost(self.oracle.events - self.received));
        }
        self.audit();
        for (key, stored) in self.store.keys.iter().enumerate() {
            if !stored.intents.is_empty() || !stored.creating.is_empty() {
                self.oracle.say(Violation::IntentsOpen(key));
            }
        }
    }

    fn at(&mut self, at_s: i64, event: Event) {
        self.events_count += 1;
        self.events.push(Reverse((at_s, self.events_count, event)));
    }

    fn later(&mut self, in_s: std::ops::Range<i64>, event: Event) {
        let at_s = self.clocks.elapsed_s + self.random.within(in_s);
        self.at(at_s, event);
    }

    fn enqueue(&mut self, key: usize) {
        let column = self.store.keys[key].column.filter(|_| !self.ending).map(|column| column.0);
        if let Some(wall) = column.filter(|_| self.indexed[key] != column) {
            self.index.push(Reverse((wall, key)));
        }
        self.indexed[key] = column;
    }

    fn on(&mut self, event: Event) {
        match event {
            Event::Step(job) => self.step(job),
            Event::ClaimLate(job) => self.claim_late(job),
            Event::Look(key) => self.look(key),
            Event::Own(key) => self.own(key),
            Event::Enable(key) => self.change(key, 0, |life| life.current.enabled = true),
            Event::Recover(key) => self.change(key, 0, |life| life.state = State::Active),
            Event::EndMinutes(key) => {
                let policy = Some(self.random.pick(&self.policies).clone());
                self.change(key, 0, |life| life.policy = policy);
            }
            Event::SetClock => self.set_clock(),
            Event::SetClockRight => self.clocks.set_ahead(0),
            Event::Deliver => {
                self.deliver();
                self.later(HOUR_S..HOUR_S + 1, Event::Deliver);
            }
            Event::Audit => {
                self.audit();
                self.later(90 * DAY_S..90 * DAY_S + 1, Event::Audit);
            }
        }
    }

    fn set_clock(&mut self) {
        let by_s = match self.random.within(0..10) {
            0 => self.random.within(30 * DAY_S..2 * YEAR_S),
            1..4 => self.random.within(DAY_S..30 * DAY_S),
            _ => self.random.within(1..DAY_S),
        };
        self.clocks.set_ahead(if self.random.per_mille(500) { by_s } else { -by_s });
        self.later(60..20 * DAY_S, Event::SetClockRight);
        self.later(30 * DAY_S..300 * DAY_S, Event::SetClock);
    }

    fn audit(&mut self) {
        for (key, stored) in self.store.keys.iter().enumerate() {
            if let Some(life) = &stored.life {
                self.oracle.audit(key, life, &self.clocks);
            }
        }
    }

    /// Hands the outbox to a receiver; dies now and then between handing over and noting it.
    fn deliver(&mut self) {
        while let Some(event) = self.store.outbox.front() {
            // One that the receiver has already is known by its number.
            self.received = self.received.max(*event);
            if self.fault(1) {
                return;
            }
            self.store.outbox.pop_front();
        }
    }

    fn deliver_all(&mut self) {
        while !self.store.outbox.is_empty() {
            self.deliver();
        }
    }

    fn fault(&mut self, per_mille: u64) -> bool {
        self.settings.faults && self.random.per_mille(per_mille)
    }

    /// What a replica takes the time to be.
    fn clocks_seen(&self) -> (Timestamp, Timestamp) {
        let wall = self.clocks.wall();
        if self.settings.weakness == Some(Weakness::PurgeByWallClock) {
            (wall, wall)
        } else {
            (wall, self.clocks.trusted())
        }
    }

    /// A replica claims a key, clears up what another left behind, and plans.
    fn look(&mut self, key: usize) {
        let fence = match self.store.claim(key, self.clocks.elapsed_s) {
            Ok(fence) => fence,
            Err(until_s) => return self.at(until_s, Event::Look(key)),
        };
        let made = self.settle(key, fence);
        let (now, trusted_now) = self.clocks_seen();
        let life = self.store.keys[key].life.as_ref();
        let plan = life.map(|life| plan(life, now, trusted_now)).unwrap_or_default();
        if self.ending || plan.due.is_empty() {
            self.store.release(key, fence, now);
            self.store.keys[key].column = plan.next;
            if plan.next.is_some_and(|next| next <= now) && !self.ending {
                // A purge that waits for the clocks to agree.
                return self.later(HOUR_S..2 * HOUR_S, Event::Look(key));
            }
            return self.enqueue(key);
        }
        let job = Job { key, fence, due: plan.due, planned: now, step: Step::Claimed, made };
        if self.fault(20) {
            let late = Job { due: job.due.clone(), made: None, ..job };
            let late = self.keep(late);
            self.later(1..2 * LEASE_S, Event::ClaimLate(late));
        }
        let job = self.keep(job);
        self.later(0..5, Event::Step(job));
    }

    fn keep(&mut self, job: Job) -> usize {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.jobs.push(None);
            self.jobs.len() - 1
        });
        self.jobs[slot] = Some(job);
        slot
    }

    fn take(&mut self, slot: usize) -> Job {
        self.free.push(slot);
        self.jobs[slot].take().expect("a job has one event")
    }

    fn claim_late(&mut self, slot: usize) {
        let job = self.take(slot);
        if let Ok(fence) = self.store.claim(job.key, self.clocks.elapsed_s) {
            let slot = self.keep(Job { fence, ..job });
            self.later(0..5, Event::Step(slot));
        }
    }

    /// Finishes or undoes what an earlier claim left; a version that can be finished is handed on.
    fn settle(&mut self, key: usize, fence: u64) -> Option<Creating> {
        let clocks = self.clocks_seen();
        let stored = &self.store.keys[key];
        let finish = |row: &&Creating| {
            let life = stored.life.as_ref();
            !self.ending && life.is_some_and(|life| can_be_finished(life, row, clocks))
        };
        let made = stored.creating.iter().find(finish).cloned();
        let undone: Vec<VersionId> = stored.creating.iter().map(|row| row.version).collect();
        let intents = stored.intents.clone();
        for version in undone.into_iter().filter(|version| made.as_ref().is_none_or(|made| made.version != *version)) {
            self.store.reap(key, fence, version).expect("the claim is new");
        }
        for intent in intents.iter().filter(|intent| made.as_ref().is_none_or(|made| made.due != **intent)) {
            self.store.settle(key, fence, intent).expect("the claim is new");
        }
        self.oracle.counts.finished_by_another += u64::from(made.is_some());
        made
    }

    fn step(&mut self, slot: usize) {
        let mut job = self.take(slot);
        let (key, fence) = (job.key, job.fence);
        match self.act(&mut job) {
            Ok(After::Next) => {
                if self.fault(10) {
                    self.oracle.counts.crashes += 1;
                    if self.settings.weakness != Some(Weakness::NobodyLooks) {
                        self.later(LEASE_S..LEASE_S + 1, Event::Look(key));
                    }
                    return;
                }
                let stalls = self.fault(10);
                let slot = self.keep(job);
                self.later(if stalls { LEASE_S..10 * LEASE_S } else { 0..5 }, Event::Step(slot));
                return;
            }
            Ok(After::Done) => {}
            Ok(After::Failed) => self.later(60..300, Event::Look(key)),
            Err(_) => {
                self.oracle.counts.refused += 1;
                self.later(1..2, Event::Look(key));
            }
        }
        self.store.release(key, fence, self.clocks.wall());
        self.enqueue(key);
    }

    fn act(&mut self, job: &mut Job) -> Result<After, Refused> {
        let due = job.due[0];
        match (job.step, due.work) {
            (Step::Claimed, Work::NotifyNearExpiry | Work::NotifyExpired) => {
                let before = self.store.keys[job.key].life.clone();
                self.store.notify(job.key, job.fence, &due, self.clocks_seen())?;
                self.oracle.notified(job.key, &before.ok_or(Refused::NotDue)?, &due, &self.clocks);
                return Ok(done(job));
            }
            (Step::Claimed, _) if job.made.as_ref().is_some_and(|made| made.due == due) => job.step = Step::Proved,
            (Step::Claimed, _) => {
                self.store.intend(job.key, job.fence, due)?;
                job.step = Step::Intended;
            }
            (Step::Intended, Work::Purge) => {
                self.store.purge(job.key, job.fence, &due, self.clocks_seen())?;
                self.oracle.purged(job.key, &self.clocks);
                job.step = Step::Committed;
            }
            (Step::Committed, _) => {
                if self.settings.weakness == Some(Weakness::EventApart) && due.work != Work::Purge {
                    self.store.publish();
                }
                self.store.settle(job.key, job.fence, &due)?;
                return Ok(done(job));
            }
            _ => return self.rotate(job, due),
        }
        Ok(After::Next)
    }

    fn rotate(&mut self, job: &mut Job, due: Due) -> Result<After, Refused> {
        let (key, fence) = (job.key, job.fence);
        if job.step == Step::Intended {
            let version = self.new_version();
            let life = self.store.keys[key].life.as_ref().ok_or(Refused::NotDue)?;
            let next = next_version(life.policy.as_ref(), &life.current, Some(&due), self.clocks.wall());
            let made = Creating { version, due, next, proved: false };
            self.store.create(key, fence, made.clone())?;
            job.made = Some(made);
            job.step = Step::Created;
            return Ok(After::Next);
        }
        let made = job.made.as_ref().ok_or(Refused::NoVersion)?;
        match job.step {
            Step::Created if self.settings.weakness == Some(Weakness::Unproved) => job.step = Step::Proved,
            Step::Created if self.settings.faults && self.random.per_mille(10) => {
                // The HSM made a key that does not work.
                self.store.reap(key, fence, made.version)?;
                self.store.settle(key, fence, &due)?;
                self.store.publish();
                self.oracle.events += 1;
                return Ok(After::Failed);
            }
            Step::Created => {
                self.oracle.proved(made.version);
                job.step = Step::ProvedInHsm;
            }
            Step::ProvedInHsm => {
                self.store.proved(key, fence, made.version)?;
                job.step = Step::Proved;
            }
            _ => {
                let before = self.store.keys[key].life.clone();
                self.store.promote(key, fence, made, self.clocks_seen())?;
                self.oracle.promoted(key, &before.ok_or(Refused::NotDue)?, made, job.planned, &self.clocks);
                job.step = Step::Committed;
            }
        }
        Ok(After::Next)
    }

    fn own_later(&mut self, key: usize) {
        if self.settings.owners {
            self.later(0..5 * YEAR_S, Event::Own(key));
        }
    }

    fn change(&mut self, key: usize, deleted_for_s: i64, change: impl FnOnce(&mut KeyLife)) {
        self.store.change(key, self.clocks.wall(), change);
        if let Some(life) = &self.store.keys[key].life {
            self.oracle.changed(key, life, deleted_for_s, &self.clocks);
            self.enqueue(key);
        }
    }

    fn own(&mut self, key: usize) {
        let Some(state) = self.store.keys[key].life.as_ref().map(|life| life.state) else { return };
        self.own_later(key);
        if state != State::Active {
            return;
        }
        let (now, trusted_now) = (self.clocks.wall(), self.clocks.trusted());
        match self.random.within(0..200) {
            0 => {
                let policy = Some(self.random.pick(&self.policies_of_minutes).clone());
                self.change(key, 0, |life| life.policy = policy);
                self.later(2 * DAY_S..2 * DAY_S + 1, Event::EndMinutes(key));
            }
            1..40 => {
                let policy = (!self.random.per_mille(200)).then(|| self.random.pick(&self.policies).clone());
                self.change(key, 0, |life| life.policy = policy);
            }
            40..80 => {
                self.change(key, 0, |life| life.current.enabled = false);
                self.later(HOUR_S..60 * DAY_S, Event::Enable(key));
            }
            80..100 => {
                let days = u16::try_from(self.random.within(7..91)).expect("few");
                let for_s = i64::from(days) * DAY_S;
                self.change(key, for_s, |life| life.state = deleted(now, trusted_now, days));
                if self.random.per_mille(500) {
                    self.later(0..for_s, Event::Recover(key));
                }
            }
            100..130 => {
                let version = self.new_version();
                self.change(key, 0, |life| {
                    let next = next_version(life.policy.as_ref(), &life.current, None, now);
                    put_current(life, version, next);
                });
            }
            130..170 => self.change(key, 0, |life| life.current.uses = 2_000),
            _ => {
                let expires = Timestamp(now.0 + self.random.within(-DAY_S..1_000 * DAY_S));
                self.change(key, 0, |life| life.current.expires = Some(expires));
            }
        }
    }
}

fn done(job: &mut Job) -> After {
    job.due.remove(0);
    job.step = Step::Claimed;
    if job.due.is_empty() { After::Done } else { After::Next }
}
