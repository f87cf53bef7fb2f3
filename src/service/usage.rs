//! The count of AES-GCM encryptions: at most 2^32 with one key and random IVs (NIST SP 800-38D section
//! 8.3). Numbers are reserved in the store in ranges before they are used, so a crash loses some and
//! repeats none, and the hot path writes nothing.

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
    error::{Problem, ServiceError},
    scopes::{ByItself, Making, NewRow, Put},
    version_name,
};
use crate::{
    audit::{Durability, Kind, Outcome, Record},
    model::UsageRow,
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

    /// Adds a range.
    fn add(&self, range: u64) {
        self.0.left.fetch_add(range, Ordering::AcqRel);
        self.0.low.store(range / 2, Ordering::Release);
    }

    /// Whether the next range is to be reserved now: said once, to one.
    fn is_low(&self) -> bool {
        let low = self.0.low.load(Ordering::Acquire);
        self.0.left.load(Ordering::Acquire) <= low && self.0.low.swap(0, Ordering::AcqRel) > 0
    }
}

impl Service {
    /// Takes encryptions out of the version's budget, reserving more when none is left: at least one, at
    /// most `wanted`. Reserving is a commit; in steady use it is begun while half of a range is left, so that
    /// nobody waits for it.
    pub(super) async fn count_encryptions(
        self: &Arc<Self>,
        entry: &Arc<VersionEntry>,
        wanted: u64,
        deadline: Moment,
    ) -> Result<u64, ServiceError> {
        loop {
            let taken = entry.usage.take(wanted);
            if taken > 0 {
                if entry.usage.is_low() {
                    self.refill_ahead(entry);
                }
                return Ok(taken);
            }
            let _one_at_a_time = entry.usage.0.refill.lock().await;
            let taken = entry.usage.take(wanted);
            if taken > 0 {
                return Ok(taken);
            }
            // Detached: a caller that goes away does not stop a commit half-way.
            let (service, reserving) = (Arc::clone(self), Arc::clone(entry));
            let task = tokio::spawn(async move { service.reserve_first(&reserving, wanted, deadline).await });
            let reserved = task.await.map_err(|error| ServiceError::because(Problem::Internal, error))??;
            entry.usage.add(reserved);
        }
    }

    /// Reserves the next range while the last one is used. When it fails, whoever finds none left tries again,
    /// and hears why.
    fn refill_ahead(self: &Arc<Self>, entry: &Arc<VersionEntry>) {
        let (service, entry) = (Arc::clone(self), Arc::clone(entry));
        tokio::spawn(async move {
            let _one_at_a_time = entry.usage.0.refill.lock().await;
            match service.reserve_first(&entry, 0, Moment::now().after(AHEAD_WITHIN)).await {
                Ok(reserved) => entry.usage.add(reserved),
                Err(error) => tracing::debug!(%error, "encryptions could not be reserved ahead"),
            }
        });
    }

    /// Reserves a range; again, when another replica has changed the scope first.
    async fn reserve_first(
        &self,
        entry: &Arc<VersionEntry>,
        wanted: u64,
        deadline: Moment,
    ) -> Result<u64, ServiceError> {
        loop {
            match self.reserve(entry, wanted, deadline).await {
                Err(error) if error.is_race() && self.hearing().is_shared() && Moment::now() < deadline => {}
                result => return result,
            }
        }
    }

    /// Reserves a range, if possible for all that are wanted at once; says how many encryptions it holds.
    async fn reserve(&self, entry: &Arc<VersionEntry>, wanted: u64, deadline: Moment) -> Result<u64, ServiceError> {
        let vault = &entry.vault.row;
        let version = entry.version.row.version;
        let locked = self.catalog.scopes.lock(HeadScope::Vault(vault.id), deadline).await?;
        let old = self.catalog.usage(vault, version, deadline).await?;
        let used = old.as_ref().map_or(0, |old| old.row.encryptions);
        let range = used.clamp(RANGE_MIN, RANGE_MAX).max(wanted).min(GCM_ENCRYPTIONS_MAX.saturating_sub(used));
        if range == 0 {
            return Err(Problem::UsedUp { name: version_name(&entry.version.row) }.into());
        }
        let revision = old.as_ref().map_or(0, |old| old.row.revision) + 1;
        let row = NewRow::Usage(UsageRow { version, encryptions: used + range, revision });
        let put = match &old {
            Some(old) => Put::replace(old.row.as_ref(), old.seal, row),
            None => Put::insert(row),
        };
        let committed = self
            .catalog
            .scopes
            .commit(
                &locked,
                Making { name: "keys.reserve", right: &ByItself, intent: 0, request: None, deadline },
                vec![put],
            )
            .await?;
        let record = Record {
            resource: Some(version_name(&entry.version.row)),
            heads: vec![committed.mark],
            ..Record::new(self.clock.now(), Kind::Event, "keys.reserve", Outcome::Done)
        };
        self.log.append(record, Durability::Write).await?;
        Ok(range)
    }
}
