//! A store as the real one has to be: claims with leases and fences, rows of versions in the making, and an outbox
//! that is written with the change. Each function is one transaction.

use std::collections::VecDeque;

use super::Weakness;
use crate::{
    model::{State, Timestamp, VersionId},
    rotation::{Due, KeyLife, NextVersion, VersionLife, Work, next_due, plan},
};

/// How long a claim holds without a sign of life.
pub(super) const LEASE_S: i64 = 60;

pub(super) struct Store {
    pub(super) keys: Vec<Stored>,
    pub(super) outbox: VecDeque<u64>,
    pub(super) events: u64,
    weakness: Option<Weakness>,
}

pub(super) struct Stored {
    /// `None` when it was purged.
    pub(super) life: Option<KeyLife>,
    pub(super) creating: Vec<Creating>,
    /// Intents without an outcome.
    pub(super) intents: Vec<Due>,
    /// When the key must be looked at.
    pub(super) column: Option<Timestamp>,
    /// The unique index on (key, due instant). The instants of a key grow, so its newest is enough.
    rotated: Option<Timestamp>,
    fence: u64,
    claimed_until_s: i64,
}

/// A version that nobody gets yet.
#[derive(Clone)]
pub(super) struct Creating {
    pub(super) version: VersionId,
    pub(super) due: Due,
    pub(super) next: NextVersion,
    pub(super) proved: bool,
}

/// Why a transaction was rolled back.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Somebody else has the claim by now.
    Fenced,
    /// It is not due any more.
    NotDue,
    /// The version is not there, or not proved.
    NoVersion,
}

impl Store {
    pub(super) fn new(lives: Vec<KeyLife>, now: Timestamp, weakness: Option<Weakness>) -> Self {
        let stored = |life: KeyLife| Stored {
            column: next_due(&life, now),
            life: Some(life),
            creating: Vec::new(),
            intents: Vec::new(),
            rotated: None,
            fence: 0,
            claimed_until_s: 0,
        };
        Self { keys: lives.into_iter().map(stored).collect(), outbox: VecDeque::new(), events: 0, weakness }
    }

    /// Claims a key that nobody else has, and says with which fence.
    pub(super) fn claim(&mut self, key: usize, elapsed_s: i64) -> Result<u64, i64> {
        let stored = &mut self.keys[key];
        if stored.claimed_until_s > elapsed_s {
            return Err(stored.claimed_until_s);
        }
        stored.claimed_until_s = elapsed_s + LEASE_S;
        stored.fence += 1;
        Ok(stored.fence)
    }

    pub(super) fn release(&mut self, key: usize, fence: u64, now: Timestamp) {
        let stored = &mut self.keys[key];
        if stored.fence == fence {
            stored.claimed_until_s = 0;
            stored.column = stored.life.as_ref().and_then(|life| next_due(life, now));
        }
    }

    fn held(&mut self, key: usize, fence: u64) -> Result<&mut Stored, Refused> {
        let weak = self.weakness == Some(Weakness::StaleWriters);
        let stored = &mut self.keys[key];
        if stored.fence == fence || weak { Ok(stored) } else { Err(Refused::Fenced) }
    }

    pub(super) fn intend(&mut self, key: usize, fence: u64, due: Due) -> Result<(), Refused> {
        self.held(key, fence)?.intents.push(due);
        Ok(())
    }

    pub(super) fn create(&mut self, key: usize, fence: u64, creating: Creating) -> Result<(), Refused> {
        self.held(key, fence)?.creating.push(creating);
        Ok(())
    }

    pub(super) fn proved(&mut self, key: usize, fence: u64, version: VersionId) -> Result<(), Refused> {
        let mut rows = self.held(key, fence)?.creating.iter_mut();
        rows.find(|row| row.version == version).ok_or(Refused::NoVersion)?.proved = true;
        Ok(())
    }

    /// The new version is the current one from here on, and its event is in the outbox.
    pub(super) fn promote(
        &mut self,
        key: usize,
        fence: u64,
        made: &Creating,
        clocks: (Timestamp, Timestamp),
    ) -> Result<(), Refused> {
        let weakness = self.weakness;
        let stored = self.held(key, fence)?;
        let life = stored.life.as_mut().ok_or(Refused::NotDue)?;
        if weakness != Some(Weakness::StaleWriters) {
            still_due(life, &made.due, clocks)?;
            if stored.rotated == Some(made.due.at) {
                return Err(Refused::NotDue);
            }
            let row = stored.creating.iter().find(|row| row.version == made.version).ok_or(Refused::NoVersion)?;
            if !row.proved && weakness != Some(Weakness::Unproved) {
                return Err(Refused::NoVersion);
            }
        }
        stored.rotated = Some(made.due.at);
        stored.creating.retain(|row| row.version != made.version);
        put_current(life, made.version, made.next);
        if weakness != Some(Weakness::EventApart) {
            self.publish();
        }
        Ok(())
    }

    pub(super) fn notify(
        &mut self,
        key: usize,
        fence: u64,
        due: &Due,
        clocks: (Timestamp, Timestamp),
    ) -> Result<(), Refused> {
        let life = self.held(key, fence)?.life.as_mut().ok_or(Refused::NotDue)?;
        still_due(life, due, clocks)?;
        life.done.push(due.mark());
        self.publish();
        Ok(())
    }

    pub(super) fn purge(
        &mut self,
        key: usize,
        fence: u64,
        due: &Due,
        clocks: (Timestamp, Timestamp),
    ) -> Result<(), Refused> {
        let stored = self.held(key, fence)?;
        still_due(stored.life.as_ref().ok_or(Refused::NotDue)?, due, clocks)?;
        stored.life = None;
        self.publish();
        Ok(())
    }

    pub(super) fn settle(&mut self, key: usize, fence: u64, due: &Due) -> Result<(), Refused> {
        self.held(key, fence)?.intents.retain(|intent| intent != due);
        Ok(())
    }

    /// Undoes a version that will not be the current one.
    pub(super) fn reap(&mut self, key: usize, fence: u64, version: VersionId) -> Result<(), Refused> {
        self.held(key, fence)?.creating.retain(|row| row.version != version);
        Ok(())
    }

    /// Something that an owner does: needs no claim, and wins.
    pub(super) fn change(&mut self, key: usize, now: Timestamp, change: impl FnOnce(&mut KeyLife)) {
        let stored = &mut self.keys[key];
        if let Some(life) = &mut stored.life {
            change(life);
            stored.column = next_due(life, now);
            self.publish();
        }
    }

    pub(super) fn publish(&mut self) {
        self.events += 1;
        self.outbox.push_back(self.events);
    }
}

pub(super) fn put_current(life: &mut KeyLife, version: VersionId, next: NextVersion) {
    life.current = VersionLife { version, created: next.created, expires: next.expires, enabled: true, uses: 0 };
    life.done.clear();
}

/// What was planned earlier is planned still: nobody has done it, and nobody has changed the key or set the clock.
fn still_due(life: &KeyLife, due: &Due, (now, trusted_now): (Timestamp, Timestamp)) -> Result<(), Refused> {
    let same = |planned: &Due| planned.mark() == due.mark() && planned.key == due.key;
    if plan(life, now, trusted_now).due.iter().any(same) { Ok(()) } else { Err(Refused::NotDue) }
}

/// Whether a version in the making can still be finished by whoever finds it.
pub(super) fn can_be_finished(life: &KeyLife, row: &Creating, clocks: (Timestamp, Timestamp)) -> bool {
    matches!(row.due.work, Work::Rotate { .. })
        && life.state == State::Active
        && row.proved
        && still_due(life, &row.due, clocks).is_ok()
        // A policy that was changed meanwhile decides again.
        && row.next.expires.is_none_or(|expires| expires > clocks.0)
        && clocks.0.0 - row.next.created.0 < 3_600
}
