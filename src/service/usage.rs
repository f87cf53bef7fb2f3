//! What a version is counted: AES-GCM encryptions, at most 2^32 with one key and random IVs (NIST SP 800-38D section
//! 8.3), and uses, where the key's policy gives it a budget. Numbers are reserved in the store in ranges before they are
//! used, so a crash loses some and repeats none, and the hot path writes nothing.
//!
//! A range out of a budget is at most a quarter of what is left of it, so that a replica that keeps some to itself keeps
//! little, and at most twice the one before it: a replica that forgets one (a restart, a row that left the cache) has used
//! about as many as it loses. What is reserved counts as used: a version makes at most as many as its budget says, and may
//! fall short of it by that.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use strongroom_hsm::{algorithms::GCM_ENCRYPTIONS_MAX, protocol::Moment};
use tokio::sync::Mutex;

use super::{
    Service,
    catalog::VersionEntry,
    door::{RACE_PAUSE, part_of},
    error::{Problem, ServiceError},
    rotation::look_at,
    scopes::{ByItself, Making, NewRow, Put},
    version_name,
};
use crate::{
    audit::{Durability, Kind, Outcome, Record},
    model::{BudgetAction, KeyObjectRow, Row as _, USES_MAX, UsageRow, UseBudget},
    store::HeadScope,
};

/// How many encryptions are reserved at once, at most.
pub const RANGE_MAX: u64 = 1 << 16;
/// How many are reserved at once for a key that is seldom used: what is reserved and forgotten (a restart, a
/// row that left the cache) is never much more than what was used, so it cannot use up a key by itself.
pub const RANGE_MIN: u64 = 64;
/// How long it may take to reserve a range ahead.
const AHEAD_WITHIN: Duration = Duration::from_secs(10);

/// The reserved encryptions of a version that are left, shared by everyone who uses it.
#[derive(Clone, Debug, Default)]
pub struct UsageCell(Arc<Cell>);

#[derive(Debug, Default)]
struct Cell {
    left: AtomicU64,
    /// When no more than so many are left, the next range is reserved by the way.
    low: AtomicU64,
    /// How many were reserved the last time.
    last: AtomicU64,
    refill: Mutex<()>,
}

impl UsageCell {
    /// Takes as many as are left, at most so many.
    fn take(&self, wanted: u64) -> u64 {
        let mut taken = 0;
        let take = |left: u64| {
            taken = left.min(wanted);
            (taken > 0).then(|| left - taken)
        };
        match self.0.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, take) {
            Ok(_) => taken,
            Err(_) => 0,
        }
    }

    /// Adds a range; the next one is reserved ahead, if that is said.
    fn add(&self, range: u64, ahead: bool) {
        self.0.last.store(range, Ordering::Release);
        self.0.left.fetch_add(range, Ordering::AcqRel);
        self.0.low.store(if ahead { range / 2 } else { 0 }, Ordering::Release);
    }

    /// Whether the next range is to be reserved now: said once, to one.
    fn is_low(&self) -> bool {
        let low = self.0.low.load(Ordering::Acquire);
        self.0.left.load(Ordering::Acquire) <= low && self.0.low.swap(0, Ordering::AcqRel) > 0
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// AES-GCM encryptions.
    Encryptions,
    /// Uses out of the budget of the key's policy.
    Uses(UseBudget),
}

impl Counted {
    /// How many may be made at all.
    const fn max(self) -> u64 {
        match self {
            Self::Encryptions => GCM_ENCRYPTIONS_MAX,
            Self::Uses(UseBudget { uses, action: BudgetAction::Refuse }) => uses,
            // Until the key has rotated its version goes on.
            Self::Uses(UseBudget { action: BudgetAction::Rotate, .. }) => USES_MAX,
        }
    }

    fn cell(self, entry: &VersionEntry) -> &UsageCell {
        match self {
            Self::Encryptions => &entry.usage,
            Self::Uses(_) => &entry.budget,
        }
    }

    /// How many were reserved.
    fn of(self, row: &UsageRow) -> u64 {
        match self {
            Self::Encryptions => row.encryptions,
            Self::Uses(_) => row.uses,
        }
    }

    /// How many more to reserve, after so many the last time.
    fn range(self, used: u64, wanted: u64, last: u64) -> u64 {
        let left = self.max().saturating_sub(used);
        let usual = match self {
            Self::Encryptions => used.clamp(RANGE_MIN, RANGE_MAX),
            // Spent, and not rotated yet: nobody is to wait for a commit each time.
            Self::Uses(budget) if budget.is_spent(used) => RANGE_MIN,
            Self::Uses(budget) => {
                let most = budget.uses.saturating_sub(used).div_ceil(4).clamp(1, RANGE_MAX);
                last.saturating_mul(2).clamp(1, most)
            }
        };
        usual.max(wanted).min(left)
    }

    /// Whether the key is to rotate now.
    fn rotates(self, used: u64) -> bool {
        matches!(self, Self::Uses(budget) if budget.action == BudgetAction::Rotate && budget.is_spent(used))
    }
}

/// The budget of a version, by the policy of its key.
pub(super) fn budget(entry: &VersionEntry) -> Option<Counted> {
    let rotation = entry.key.row.rotation.as_ref()?;
    rotation.policy.use_budget.map(Counted::Uses)
}

impl Service {
    /// Takes uses out of what a version may be used, reserving more when none is left: at least one, at
    /// most `wanted`. Reserving is a commit; encryptions are, in steady use, reserved while half of a range is left, so that
    /// nobody waits for it.
    pub(super) async fn count(
        self: &Arc<Self>,
        entry: &Arc<VersionEntry>,
        counted: Counted,
        wanted: u64,
        deadline: Moment,
    ) -> Result<u64, ServiceError> {
        let cell = counted.cell(entry);
        loop {
            let taken = cell.take(wanted);
            if taken > 0 {
                if cell.is_low() {
                    self.refill_ahead(entry);
                }
                return Ok(taken);
            }
            let _one_at_a_time = cell.0.refill.lock().await;
            let taken = cell.take(wanted);
            if taken > 0 {
                return Ok(taken);
            }
            // Detached: a caller that goes away does not stop a commit half-way.
            let (service, reserving) = (Arc::clone(self), Arc::clone(entry));
            let task = tokio::spawn(async move { service.reserve_first(&reserving, counted, wanted, deadline).await });
            let reserved = task.await.map_err(|error| ServiceError::because(Problem::Internal, error))??;
            cell.add(reserved, counted == Counted::Encryptions);
        }
    }

    /// Reserves the next range of encryptions while the last one is used. When it fails, whoever finds none left tries
    /// again, and hears why.
    fn refill_ahead(self: &Arc<Self>, entry: &Arc<VersionEntry>) {
        let (service, entry) = (Arc::clone(self), Arc::clone(entry));
        tokio::spawn(async move {
            let _one_at_a_time = entry.usage.0.refill.lock().await;
            let deadline = Moment::now().after(AHEAD_WITHIN);
            match service.reserve_first(&entry, Counted::Encryptions, 0, deadline).await {
                Ok(reserved) => entry.usage.add(reserved, true),
                Err(error) => tracing::debug!(%error, "encryptions could not be reserved ahead"),
            }
        });
    }

    /// Reserves a range; again, when another replica has changed the scope first.
    async fn reserve_first(
        &self,
        entry: &Arc<VersionEntry>,
        counted: Counted,
        wanted: u64,
        deadline: Moment,
    ) -> Result<u64, ServiceError> {
        loop {
            match self.reserve(entry, counted, wanted, deadline).await {
                Err(error) if error.is_race() && self.hearing().is_shared() && Moment::now() < deadline => {
                    // Somewhere in the pause, so that those who met do not meet again.
                    tokio::time::sleep(part_of(RACE_PAUSE)).await;
                }
                result => return result,
            }
        }
    }

    /// Reserves a range, if possible for all that are wanted at once; says how many it holds.
    async fn reserve(
        &self,
        entry: &Arc<VersionEntry>,
        counted: Counted,
        wanted: u64,
        deadline: Moment,
    ) -> Result<u64, ServiceError> {
        let vault = &entry.vault.row;
        let version = entry.version.row.version;
        let locked = self.catalog.scopes.lock(HeadScope::Vault(vault.id), deadline).await?;
        if !locked.cell().has(&entry.version.row.row_id()) {
            // It was purged while somebody was about to use it.
            return Err(Problem::NotFound { name: version_name(&entry.version.row) }.into());
        }
        let old = self.catalog.usage(vault, version, deadline).await?;
        let before = old.as_ref().map_or(UsageRow { version, encryptions: 0, uses: 0, revision: 0 }, |old| *old.row);
        let used = counted.of(&before);
        let range = counted.range(used, wanted, counted.cell(entry).0.last.load(Ordering::Acquire));
        if range == 0 {
            let name = version_name(&entry.version.row);
            return Err(match counted {
                Counted::Encryptions => Problem::UsedUp { name },
                Counted::Uses(budget) => Problem::BudgetSpent { name, uses: budget.uses },
            }
            .into());
        }
        let revision = before.revision + 1;
        let row = match counted {
            Counted::Encryptions => UsageRow { encryptions: used + range, revision, ..before },
            Counted::Uses(_) => UsageRow { uses: used + range, revision, ..before },
        };
        let mut puts = vec![match &old {
            Some(old) => Put::replace(old.row.as_ref(), old.seal, NewRow::Usage(row)),
            None => Put::insert(NewRow::Usage(row)),
        }];
        if counted.rotates(used + range) {
            puts.extend(self.due_now(entry, used + range, deadline).await?);
        }
        let making = Making { name: "keys.reserve", right: &ByItself, intent: 0, request: None, deadline };
        let committed = self.catalog.scopes.commit(&locked, making, puts).await?;
        let record = Record {
            resource: Some(version_name(&entry.version.row)),
            heads: vec![committed.mark],
            ..Record::new(self.clock.now(), Kind::Event, "keys.reserve", Outcome::Done)
        };
        self.log.append(record, Durability::Write).await?;
        Ok(range)
    }

    /// The key's row, so that somebody looks at it now, if nobody does anyway: its newest version has spent its budget.
    async fn due_now(&self, entry: &VersionEntry, uses: u64, deadline: Moment) -> Result<Option<Put>, ServiceError> {
        let key = self.catalog.key(&entry.vault.row, &entry.key.row.name, deadline).await?;
        let now = self.clock.now();
        if key.row.current != entry.version.row.version || key.row.due.is_some_and(|due| due <= now) {
            return Ok(None);
        }
        let due = look_at(&key.row, &entry.version.row, uses, now);
        if due == key.row.due {
            return Ok(None);
        }
        let new = KeyObjectRow { due, revision: key.row.revision + 1, ..KeyObjectRow::clone(&key.row) };
        Ok(Some(Put::replace(key.row.as_ref(), key.seal, NewRow::Key(new))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_handed_out_to_the_last_and_no_further() {
        let refuse = |uses| Counted::Uses(UseBudget { uses, action: BudgetAction::Refuse });
        for uses in [1, 2, 3, 10, 1_000, 1 << 40] {
            let (mut used, mut ranges, mut last) = (0, 0, 0);
            loop {
                let range = refuse(uses).range(used, 1, last);
                if range == 0 || ranges > 100_000 {
                    break;
                }
                assert!(range <= RANGE_MAX && (range <= (uses - used).div_ceil(4) || range == 1));
                assert!(range <= used.max(1) + 1, "at most about as many as were used before: {range} after {used}");
                used += range;
                last = range;
                ranges += 1;
            }
            assert!(used == uses || ranges > 100_000, "{used} of {uses}");
        }
        assert_eq!(refuse(10).range(4, 100, 0), 6);
    }

    #[test]
    fn a_budget_that_rotates_is_exceeded_until_the_key_has_rotated() {
        let counted = Counted::Uses(UseBudget { uses: 10, action: BudgetAction::Rotate });
        assert_eq!((counted.range(9, 1, 4), counted.range(10, 1, 0), counted.range(11, 500, 0)), (1, RANGE_MIN, 500));
        assert!(counted.rotates(10) && !counted.rotates(9));
    }

    #[test]
    fn whoever_forgets_what_it_reserved_has_used_about_as_many_as_it_loses() {
        let counted = Counted::Uses(UseBudget { uses: 1_000_000, action: BudgetAction::Refuse });
        // One use, and its row leaves the cache, again and again.
        let (mut used, mut made) = (0, 0);
        while counted.range(used, 1, 0) > 0 {
            used += counted.range(used, 1, 0);
            made += 1;
        }
        assert_eq!(made, 1_000_000);
    }
}
