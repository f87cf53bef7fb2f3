//! Room that callers share: so many places, of which nobody takes what others need.
//!
//! While at least half of the room is free everybody takes what he wants. From there on a tenant has its share, the
//! room by the number of tenants in it; and a part is kept for those who have nothing yet. So whoever floods is
//! refused first, and whoever comes quietly finds a place.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use strongroom_hsm::Tenant;

/// The part that is kept for tenants that have nothing: one of so many.
const NEWCOMERS_PART: usize = 16;

/// Room, shared by all its clones.
#[derive(Clone, Debug)]
pub struct Shares {
    places: usize,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// Of those who have any.
    by_tenant: HashMap<Tenant, usize>,
}

/// Some places of a tenant. Dropping it gives them back.
#[derive(Debug)]
pub struct Share {
    taken: Arc<Mutex<Taken>>,
    tenant: Tenant,
    places: usize,
}

/// Counts are sound at every step, so a panic of another thread spoils nothing.
fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shares {
    /// So many places.
    #[must_use]
    pub fn new(places: usize) -> Self {
        Self { places, taken: Arc::default() }
    }

    /// Some places for that tenant, if there are so many and it has not its share already.
    #[must_use]
    pub fn take(&self, tenant: Tenant, places: usize) -> Option<Share> {
        let mut taken = lock(&self.taken);
        let all = taken.all.saturating_add(places);
        let held = taken.by_tenant.get(&tenant).copied().unwrap_or(0);
        let share = || (self.places - self.places / NEWCOMERS_PART) / taken.by_tenant.len().max(1);
        let is_crowded = all > self.places.div_ceil(2);
        if all > self.places || (held > 0 && is_crowded && held.saturating_add(places) > share()) {
            return None;
        }
        taken.all = all;
        *taken.by_tenant.entry(tenant).or_default() += places;
        drop(taken);
        Some(Share { taken: Arc::clone(&self.taken), tenant, places })
    }

    /// How many places nobody has.
    #[must_use]
    pub fn free(&self) -> usize {
        self.places - lock(&self.taken).all
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.all -= self.places;
        if let Some(held) = taken.by_tenant.get_mut(&self.tenant) {
            *held -= self.places;
            if *held == 0 {
                taken.by_tenant.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(shares: &Shares, tenant: u64) -> Vec<Share> {
        std::iter::from_fn(|| shares.take(Tenant::new(tenant), 1)).collect()
    }

    #[test]
    fn one_alone_has_all_but_what_is_kept_for_others() {
        let shares = Shares::new(160);
        let one = fill(&shares, 1);
        assert_eq!((one.len(), shares.free()), (150, 10));
        let two = fill(&shares, 2);
        assert_eq!(two.len(), 10, "it finds the rest");
        drop(one);
        assert_eq!(shares.free(), 150);
    }

    #[test]
    fn who_has_more_than_its_share_gets_no_more_until_it_has_given_back() {
        let shares = Shares::new(160);
        let (mut one, _two) = (fill(&shares, 1), fill(&shares, 2));
        one.truncate(100);
        assert!(shares.take(Tenant::new(1), 1).is_none(), "75 are its share");
        assert!(shares.take(Tenant::new(2), 1).is_some());
        one.truncate(60);
        assert!(shares.take(Tenant::new(1), 1).is_some(), "what is not crowded is not shared out");
    }

    #[test]
    fn whoever_comes_anew_finds_a_place_beside_many_who_flood() {
        let shares = Shares::new(160);
        let mut floods: Vec<Vec<Share>> = (1..=3).map(|tenant| fill(&shares, tenant)).collect();
        // Each works off what it has, and takes all it can get.
        for round in 0..200 {
            for tenant in 1..=3 {
                let held = &mut floods[tenant - 1];
                held.pop();
                held.extend((0..2).map_while(|_| shares.take(Tenant::new(tenant as u64), 1)));
            }
            assert!(round < 100 || shares.take(Tenant::new(9), 1).is_some(), "round {round}");
        }
        let counts: Vec<usize> = floods.iter().map(Vec::len).collect();
        assert!(counts.iter().all(|count| (40..=60).contains(count)), "fifty each: {counts:?}");
    }

    #[test]
    fn small_rooms_are_rooms() {
        let shares = Shares::new(1);
        let one = shares.take(Tenant::new(1), 1).expect("a place");
        assert!(shares.take(Tenant::new(1), 1).is_none() && shares.take(Tenant::new(2), 1).is_none());
        drop(one);
        assert!(shares.take(Tenant::new(2), 1).is_some() && shares.take(Tenant::new(2), 2).is_none());
        assert_eq!(shares.free(), 1);
        assert!(lock(&shares.taken).by_tenant.is_empty(), "nothing is kept of who has nothing");
    }
}
