//! What must hold, reckoned by other code than the planner's, and told of everything that happens.

use std::collections::HashSet;

use jiff::{Span, tz::TimeZone};

use super::{clocks::Clocks, store::Creating};
use crate::{
    model::{State, Timestamp, VersionId},
    rotation::{Cause, Due, JITTER_S_MAX, KeyLife, LifetimeActionType, Mark, Trigger, Work, WorkKind},
};

/// For how long something may be overdue: a few crashes in a row, each with its lease.
const OVERDUE_S_MAX: i64 = JITTER_S_MAX + 3 * 3_600;
/// As many violations are kept.
const VIOLATIONS_MAX: usize = 20;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Violation {
    Early(usize, Due),
    Doubled(usize, Due),
    /// Not what the key's life says.
    Wrong(usize, Due),
    Unproved(usize, VersionId),
    Lost(usize, WorkKind, Timestamp),
    PurgedEarly(usize),
    EventsLost(u64),
    IntentsOpen(usize),
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) rotations: u64,
    pub(super) notices: u64,
    pub(super) purges: u64,
    pub(super) crashes: u64,
    pub(super) refused: u64,
    pub(super) finished_by_another: u64,
    pub(super) latest_s: i64,
}

pub(super) struct Oracle {
    keys: Vec<Seen>,
    /// Versions that the HSM was seen to use.
    proved: HashSet<VersionId>,
    pub(super) violations: Vec<Violation>,
    pub(super) counts: Counts,
    /// Events that must come out in the end.
    pub(super) events: u64,
}

#[derive(Clone, Default)]
struct Seen {
    last_instant: Option<Timestamp>,
    last_replaced: Option<VersionId>,
    /// About the current version.
    notices: Vec<Mark>,
    /// Since when it is deleted, by the monotonic clock, and for how long it must be kept.
    deleted: Option<(i64, i64)>,
    /// When somebody last changed it.
    changed_s: i64,
}

impl Oracle {
    pub(super) fn new(keys: usize) -> Self {
        Self {
            keys: vec![Seen::default(); keys],
            proved: HashSet::new(),
            violations: Vec::new(),
            counts: Counts::default(),
            events: 0,
        }
    }

    pub(super) fn say(&mut self, violation: Violation) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(violation);
        }
    }

    pub(super) fn proved(&mut self, version: VersionId) {
        self.proved.insert(version);
    }

    /// A version took the place of the current one, `before` being the key's life until then, and the plan being of
    /// `planned`.
    pub(super) fn promoted(
        &mut self,
        key: usize,
        before: &KeyLife,
        made: &Creating,
        planned: Timestamp,
        clocks: &Clocks,
    ) {
        let due = made.due;
        self.counts.rotations += 1;
        self.counts.latest_s = self.counts.latest_s.max(clocks.late_s(due.run_at));
        self.events += 1;
        if !self.proved.remove(&made.version) {
            self.say(Violation::Unproved(key, made.version));
        }
        let seen = &mut self.keys[key];
        let doubled = seen.last_instant >= Some(due.at) || seen.last_replaced == Some(due.version);
        seen.last_instant = Some(due.at);
        seen.last_replaced = Some(due.version);
        let told = std::mem::take(&mut seen.notices);
        if doubled || before.current.version != due.version {
            return self.say(Violation::Doubled(key, due));
        }
        if clocks.wall() < due.at {
            self.say(Violation::Early(key, due));
        }
        let right = match due.work {
            Work::Rotate { cause: Cause::Time } => rotation_instant(before) == Some(due.at),
            Work::Rotate { cause: Cause::Uses } => before
                .policy
                .as_ref()
                .and_then(|policy| policy.use_budget)
                .is_some_and(|budget| before.current.uses >= budget.uses && before.current.created < due.at),
            _ => false,
        };
        if !right || !before.current.enabled || before.state != State::Active {
            self.say(Violation::Wrong(key, due));
        }
        if let Some(lost) = untold(before, &told, planned) {
            self.say(lost_notice(key, &lost));
        }
    }

    pub(super) fn notified(&mut self, key: usize, before: &KeyLife, due: &Due, clocks: &Clocks) {
        self.counts.notices += 1;
        self.events += 1;
        let seen = &mut self.keys[key];
        if seen.notices.contains(&due.mark()) {
            return self.say(Violation::Doubled(key, *due));
        }
        seen.notices.push(due.mark());
        if clocks.wall() < due.at {
            self.say(Violation::Early(key, *due));
        }
        if !notice_instants(before).contains(&(due.at, due.work.kind())) || before.state != State::Active {
            self.say(Violation::Wrong(key, *due));
        }
    }

    pub(super) fn purged(&mut self, key: usize, clocks: &Clocks) {
        self.counts.purges += 1;
        self.events += 1;
        let kept = self.keys[key].deleted.take().is_some_and(|(since, for_s)| clocks.elapsed_s - since >= for_s);
        if !kept {
            self.say(Violation::PurgedEarly(key));
        }
    }

    /// An owner changed something. `deleted_for_s`: for how long the key is to be kept, if it is deleted now.
    pub(super) fn changed(&mut self, key: usize, life: &KeyLife, deleted_for_s: i64, clocks: &Clocks) {
        self.events += 1;
        let seen = &mut self.keys[key];
        seen.changed_s = clocks.elapsed_s;
        seen.notices.retain(|mark| mark.version == life.current.version);
        seen.deleted = match life.state {
            State::Active => None,
            State::Deleted { .. } => seen.deleted.or(Some((clocks.elapsed_s, deleted_for_s))),
        };
    }

    /// Whether something that was due long ago was not done.
    pub(super) fn audit(&mut self, key: usize, life: &KeyLife, clocks: &Clocks) {
        let calm_since = self.keys[key].changed_s.max(clocks.set_at_s);
        if clocks.elapsed_s - calm_since < OVERDUE_S_MAX {
            return;
        }
        let long_ago = Timestamp(clocks.wall().0 - OVERDUE_S_MAX);
        if let State::Deleted { purge_at, .. } = life.state {
            if clocks.is_right() && purge_at <= long_ago {
                self.say(Violation::Lost(key, WorkKind::Purge, purge_at));
            }
            return;
        }
        if let Some(at) = rotation_instant(life).filter(|at| life.current.enabled && *at <= long_ago) {
            self.say(Violation::Lost(key, WorkKind::Rotate, at));
        }
        if let Some(lost) = untold(life, &self.keys[key].notices, long_ago) {
            self.say(lost_notice(key, &lost));
        }
    }
}

const fn lost_notice(key: usize, (at, kind): &(Timestamp, WorkKind)) -> Violation {
    Violation::Lost(key, *kind, *at)
}

/// The newest notice until then, if nothing as new was sent.
fn untold(life: &KeyLife, told: &[Mark], until: Timestamp) -> Option<(Timestamp, WorkKind)> {
    let (at, kind) = notice_instants(life).into_iter().filter(|(at, _)| *at <= until).max()?;
    let as_new = told.iter().any(|mark| (mark.at, mark.kind) >= (at, kind) || mark.at > at);
    (!as_new).then_some((at, kind))
}

fn rotation_instant(life: &KeyLife) -> Option<Timestamp> {
    let actions = &life.policy.as_ref()?.lifetime_actions;
    let action = actions.iter().find(|action| action.action == LifetimeActionType::Rotate)?;
    reckon(&action.trigger, life)
}

fn notice_instants(life: &KeyLife) -> Vec<(Timestamp, WorkKind)> {
    let Some(expires) = life.current.expires else { return Vec::new() };
    let expired = expires.max(Timestamp(life.current.created.0 + 1));
    let mut instants = vec![(expired, WorkKind::NotifyExpired)];
    let near = |at| (at, WorkKind::NotifyNearExpiry);
    match &life.policy {
        Some(policy) => {
            let notices = policy.lifetime_actions.iter().filter(|action| action.action == LifetimeActionType::Notify);
            instants.extend(notices.filter_map(|action| reckon(&action.trigger, life)).map(near));
        }
        None => {
            let at = Timestamp(expires.0 - 30 * 86_400);
            instants.extend((at > life.current.created).then_some(near(at)));
        }
    }
    instants.retain(|(at, kind)| *at < expired || *kind == WorkKind::NotifyExpired);
    instants
}

/// By `jiff`'s zoned times: other code than the planner's.
fn reckon(trigger: &Trigger, life: &KeyLife) -> Option<Timestamp> {
    let zoned = |time: Timestamp| jiff::Timestamp::from_second(time.0).expect("a time").to_zoned(TimeZone::UTC);
    let span: Span = trigger.duration().to_string().parse().expect("what is shown is read");
    let there = match trigger {
        Trigger::TimeAfterCreate(_) => zoned(life.current.created).checked_add(span),
        Trigger::TimeBeforeExpiry(_) => zoned(life.current.expires?).checked_sub(span),
    };
    let at = there.expect("not near the end of time").timestamp().as_second();
    Some(Timestamp(at.max(life.current.created.0 + 1)))
}
