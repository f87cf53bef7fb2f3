//! How much a principal may have done, and how much may be done in a vault: so much of the HSM's time in a second.
//!
//! Everything has a cost in about a microsecond of the HSM ([`strongroom_hsm::KeySpec::private_us`] and its kin, and
//! the figures here), so that an RSA-4096 generation counts for a hundred thousand AES operations. A quota is a
//! bucket: it fills steadily, up to a bound, and what is done is taken out of it. What something costs is known for
//! certain only when its key is, and that is for those to find out who may use it; so a request needs a bucket
//! that holds anything at all, and what it turns out to cost is taken then, below zero too. Whoever is below zero
//! waits until it is made good, which is what he is told.
//!
//! A principal is asked for its quota before its rights and before any record: without rights nobody fills the disk
//! or the lanes. A vault's quota is asked for after the rights: without rights nobody takes it from those who have.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use quick_cache::sync::Cache;
use strongroom_hsm::{Tenant, protocol::Moment};

use super::{Caller, error::Problem};
use crate::{
    model::{Identity, Principal, VaultName},
    observe::metrics::QUOTA_REFUSALS,
};

/// What any request costs besides what it asks for: most of it is gRPC.
pub const REQUEST_US: u64 = 20;
/// One operation among several.
pub const ITEM_US: u64 = 2;
/// A change: two records that are synced, seals, a commit.
pub const CHANGE_US: u64 = 1_000;
/// A row that is read from the store and checked; those of a key that is not in memory are four.
pub const ROW_US: u64 = 50;
/// A secret that is read: the rows of secret and version, its data key, which is AES, and a record that is synced.
pub const RELEASE_US: u64 = 2 * ROW_US + 100;

/// The most principals whose buckets are kept: of those beyond, the ones not seen for longest begin anew with a full
/// one.
const PRINCIPALS_MAX: usize = 50_000;
/// The same of vaults.
const VAULTS_MAX: usize = 10_000;

const NS_PER_S: u64 = 1_000_000_000;

/// What flows in, and how much is kept: in microseconds of the HSM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In a second; not zero.
    pub per_second: u64,
    /// At most.
    pub burst: u64,
}

/// What an operator allows. Without a rate there is no bound.
#[derive(Clone, Debug, Default)]
pub struct Allowances {
    /// A principal.
    pub principal: Option<Rate>,
    /// A vault.
    pub vault: Option<Rate>,
    /// These principals, instead.
    pub principals: HashMap<Principal, Option<Rate>>,
    /// These vaults, instead.
    pub vaults: HashMap<VaultName, Option<Rate>>,
}

/// Whose quota it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A principal's.
    Principal(Principal),
    /// A vault's.
    Vault(VaultName),
}

impl Subject {
    /// A word for metrics.
    const fn label(&self) -> &'static str {
        match self {
            Self::Principal(_) => "principal",
            Self::Vault(_) => "vault",
        }
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Principal(principal) => write!(f, "principal {principal}"),
            Self::Vault(vault) => write!(f, "vaults/{vault}"),
        }
    }
}

/// A bucket as one number: the moment at which it will be full again if nothing is taken (the "theoretical arrival
/// time" of the generic cell rate algorithm, ITU-T I.371).
#[derive(Debug)]
struct Bucket {
    rate: Rate,
    full_at: AtomicU64,
}

impl Bucket {
    fn full(rate: Rate) -> Self {
        Self { rate, full_at: AtomicU64::new(0) }
    }

    fn ns(&self, cost: u64) -> u64 {
        let ns = u128::from(cost) * u128::from(NS_PER_S) / u128::from(self.rate.per_second.max(1));
        u64::try_from(ns).unwrap_or(u64::MAX)
    }

    /// Takes `cost` if anything is in it; else says how long it will be until then.
    fn take(&self, now: Moment, cost: u64) -> Result<(), Duration> {
        let (all_ns, cost_ns) = (self.ns(self.rate.burst), self.ns(cost));
        let next = |full_at: u64| {
            let missing_ns = full_at.saturating_sub(now.0);
            (missing_ns < all_ns).then(|| full_at.max(now.0).saturating_add(cost_ns))
        };
        match self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            Ok(_) => Ok(()),
            Err(full_at) => Err(Duration::from_nanos(full_at.saturating_sub(now.0).saturating_sub(all_ns) + 1)),
        }
    }

    /// Takes `cost`, whether there is so much in it or not.
    fn charge(&self, now: Moment, cost: u64) {
        let cost_ns = self.ns(cost);
        let next = |full_at: u64| Some(full_at.max(now.0).saturating_add(cost_ns));
        // It always succeeds: `next` never refuses.
        let _ = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }
}

/// Buckets of one kind: of those with a rate of their own, and of the others as they come.
struct Buckets<K> {
    rate: Option<Rate>,
    named: HashMap<K, Option<Arc<Bucket>>>,
    others: Cache<K, Arc<Bucket>>,
}

impl<K: std::hash::Hash + Eq + Clone> Buckets<K> {
    fn new(rate: Option<Rate>, named: impl Iterator<Item = (K, Option<Rate>)>, others_max: usize) -> Self {
        let bucket = |rate: Option<Rate>| rate.map(|rate| Arc::new(Bucket::full(rate)));
        Self { rate, named: named.map(|(key, rate)| (key, bucket(rate))).collect(), others: Cache::new(others_max) }
    }

    /// The bucket of that one; none where there is no bound.
    fn of(&self, key: &K) -> Option<Arc<Bucket>> {
        if let Some(named) = self.named.get(key) {
            return named.clone();
        }
        let rate = self.rate?;
        let made =
            self.others.get_or_insert_with(key, || Ok::<_, std::convert::Infallible>(Arc::new(Bucket::full(rate))));
        match made {
            Ok(bucket) => Some(bucket),
            Err(never) => match never {},
        }
    }
}

/// Every quota.
pub struct Quotas {
    /// By the digest of their names, which may be long.
    principals: Buckets<Tenant>,
    vaults: Buckets<VaultName>,
}

impl Quotas {
    /// What an operator allows.
    #[must_use]
    pub fn new(allowances: Allowances) -> Self {
        let Allowances { principal, vault, principals, vaults } = allowances;
        let principals = principals.into_iter().map(|(name, rate)| (Identity::alone(name).tenant(), rate));
        Self {
            principals: Buckets::new(principal, principals, PRINCIPALS_MAX),
            vaults: Buckets::new(vault, vaults.into_iter(), VAULTS_MAX),
        }
    }

    /// Begins the bill of a request.
    ///
    /// # Errors
    /// [`Problem::QuotaExceeded`] when the principal has nothing left.
    pub(super) fn open(&self, caller: &Caller, cost_us: u64) -> Result<Bill, Problem> {
        let principal = self.principals.of(&caller.identity.tenant());
        if let Some(bucket) = &principal {
            let subject = || Subject::Principal(caller.principal().clone());
            bucket.take(Moment::now(), cost_us).map_err(|wait| exceeded(subject(), wait))?;
        }
        Ok(Bill { principal, vault: None })
    }

    /// A bill for a principal that is served although it may have nothing left.
    pub(super) fn open_anyway(&self, caller: &Caller, cost_us: u64) -> Bill {
        let bill = Bill { principal: self.principals.of(&caller.identity.tenant()), vault: None };
        bill.charge(cost_us);
        bill
    }

    /// The same bill, for what is done in a vault by somebody who may.
    ///
    /// # Errors
    /// [`Problem::QuotaExceeded`] when the vault has nothing left.
    pub(super) fn in_vault(&self, bill: Bill, vault: Option<&VaultName>, cost_us: u64) -> Result<Bill, Problem> {
        let Some((vault, bucket)) = vault.and_then(|vault| Some((vault, self.vaults.of(vault)?))) else {
            return Ok(bill);
        };
        let subject = || Subject::Vault(vault.clone());
        bucket.take(Moment::now(), cost_us).map_err(|wait| exceeded(subject(), wait))?;
        Ok(Bill { vault: Some(bucket), ..bill })
    }
}

fn exceeded(subject: Subject, retry_after: Duration) -> Problem {
    metrics::counter!(QUOTA_REFUSALS, "subject" => subject.label()).increment(1);
    Problem::QuotaExceeded { subject, retry_after }
}

/// Where the costs of a request are taken from.
#[derive(Clone, Debug, Default)]
pub(super) struct Bill {
    principal: Option<Arc<Bucket>>,
    vault: Option<Arc<Bucket>>,
}

impl Bill {
    /// Takes what it turns out to cost.
    pub(super) fn charge(&self, cost_us: u64) {
        if self.principal.is_none() && self.vault.is_none() {
            return;
        }
        let now = Moment::now();
        self.principal.iter().chain(&self.vault).for_each(|bucket| bucket.charge(now, cost_us));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 1000, burst: 100 };

    fn at_ms(ms: u64) -> Moment {
        // Buckets are full at 0: this is later.
        Moment((3_600_000 + ms) * 1_000_000)
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_what_flows_in() {
        let bucket = Bucket::full(RATE);
        let taken = (0..1000).filter(|_| bucket.take(at_ms(0), 10).is_ok()).count();
        assert_eq!(taken, 10);
        assert!(bucket.take(at_ms(10), 10).is_ok(), "10 in 10 ms");
        let wait = bucket.take(at_ms(10), 10).expect_err("empty again");
        assert!(wait <= Duration::from_micros(10), "anything will do: {wait:?}");
        let taken = (0..1000).filter(|_| bucket.take(at_ms(3_600_000), 10).is_ok()).count();
        assert_eq!(taken, 10, "no more than the burst is kept");
    }

    #[test]
    fn what_costs_more_than_there_is_is_done_and_waited_for_afterwards() {
        let bucket = Bucket::full(RATE);
        assert!(bucket.take(at_ms(0), 1).is_ok());
        bucket.charge(at_ms(0), 1_200_000);
        let wait = bucket.take(at_ms(0), 1).expect_err("in debt");
        assert!(wait.abs_diff(Duration::from_millis(1_199_901)) < Duration::from_millis(2), "{wait:?}");
        assert!(bucket.take(Moment(at_ms(0).0 + wait.as_nanos() as u64 - 1_000_000), 1).is_err());
        assert!(bucket.take(Moment(at_ms(0).0 + wait.as_nanos() as u64), 1).is_ok(), "as it was told");
    }

    #[test]
    fn nothing_overflows() {
        let bucket = Bucket::full(Rate { per_second: 1, burst: u64::MAX });
        bucket.charge(at_ms(0), u64::MAX);
        bucket.charge(at_ms(1), u64::MAX);
        let _ = bucket.take(at_ms(2), u64::MAX);
        let none = Bucket::full(Rate { per_second: 0, burst: 0 });
        assert!(none.take(at_ms(0), 1).is_err());
    }

    fn name(text: &str) -> Principal {
        text.parse().expect("a principal")
    }

    fn allowances() -> Allowances {
        Allowances {
            principal: Some(RATE),
            vault: None,
            principals: HashMap::from([(name("a:free"), None), (name("a:less"), Some(Rate { burst: 10, ..RATE }))]),
            vaults: HashMap::from([("dev".parse().expect("a vault"), Some(RATE))]),
        }
    }

    #[test]
    fn those_who_are_named_have_their_own() {
        let quotas = Quotas::new(allowances());
        let burst = |text: &str| quotas.principals.of(&Identity::alone(name(text)).tenant()).map(|b| b.rate.burst);
        assert_eq!([burst("a:any"), burst("a:less"), burst("a:free")], [Some(100), Some(10), None]);
        assert!(quotas.vaults.of(&"dev".parse().expect("a vault")).is_some());
        assert!(quotas.vaults.of(&"prod".parse().expect("a vault")).is_none(), "there is no bound");
    }

    #[test]
    fn the_buckets_of_principals_are_bounded_and_each_has_its_own() {
        let buckets = Buckets::<Tenant>::new(Some(RATE), std::iter::empty(), 1000);
        for n in 1..=100_000 {
            let bucket = buckets.of(&Tenant::new(n)).expect("there is a bound");
            assert!(bucket.take(at_ms(0), 100).is_ok(), "nobody else has taken from it");
        }
        assert!(buckets.others.len() <= 1100, "{}", buckets.others.len());
        let one = Tenant::new(1_000_000);
        assert!(buckets.of(&one).expect("a bucket").take(at_ms(0), 100).is_ok());
        assert!(buckets.of(&one).expect("a bucket").take(at_ms(0), 100).is_err(), "it is the same one");
    }
}
