//! The loaded keys, by the seal of their row: bounded, and shared by the vaults they are of.
//!
//! When there is no more room, the least recently used key of the vault that has most of them goes, as long as that
//! is more than its share (the room by the number of vaults); so whoever goes through a hundred thousand keys of one
//! vault takes that vault's own from it, and nobody else's. Else the least recently used of all goes.
//!
//! A key in use is never evicted: the worker has one thread, and nothing is inserted between taking a
//! handle and using it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::token::Handle;
use crate::statement::{KeyStatement, Residency, Seal};

/// A key whose seal was checked. Its handles are made when first needed.
pub(crate) struct Entry {
    /// What the row says.
    pub(crate) statement: KeyStatement,
    /// The private or secret key.
    pub(crate) private: Option<Handle>,
    /// A session object of the public key.
    pub(crate) public: Option<Handle>,
}

impl Entry {
    /// A key that is not loaded yet.
    pub(crate) fn new(statement: KeyStatement) -> Self {
        Self { statement, private: None, public: None }
    }

    /// The session objects that go when it goes. A key of token residency stays.
    pub(crate) fn session_objects(&self) -> impl Iterator<Item = Handle> + use<> {
        let private = self.private.filter(|_| self.statement.residency == Residency::Wrapped);
        private.into_iter().chain(self.public)
    }
}

struct Slot {
    entry: Entry,
    vault: Arc<str>,
    used: u64,
}

/// By when they were last used: the first is the next to go.
type Order = BTreeMap<u64, Seal>;

/// The loaded keys.
pub(crate) struct Cache {
    entries_max: usize,
    slots: HashMap<Seal, Slot>,
    order: Order,
    /// The same for the keys of each vault that has any.
    of_vault: HashMap<Arc<str>, Order>,
    /// The vaults by how many keys they have.
    by_count: BTreeSet<(usize, Arc<str>)>,
    clock: u64,
}

impl Cache {
    /// A cache of that many keys, at least one.
    pub(crate) fn new(entries_max: usize) -> Self {
        Self {
            entries_max: entries_max.max(1),
            slots: HashMap::new(),
            order: Order::new(),
            of_vault: HashMap::new(),
            by_count: BTreeSet::new(),
            clock: 0,
        }
    }

    /// Whether a key is there; it is not used by asking.
    pub(crate) fn contains(&self, seal: &Seal) -> bool {
        self.slots.contains_key(seal)
    }

    /// The key of that seal, which is now the most recently used.
    pub(crate) fn get(&mut self, seal: &Seal) -> Option<&mut Entry> {
        let slot = self.slots.get_mut(seal)?;
        if slot.used != self.clock {
            self.clock += 1;
            let of_vault = self.of_vault.get_mut(&slot.vault);
            for order in std::iter::once(&mut self.order).chain(of_vault) {
                order.remove(&slot.used);
                order.insert(self.clock, *seal);
            }
            slot.used = self.clock;
        }
        Some(&mut slot.entry)
    }

    /// Puts a key in; what had to go for it comes back, to be destroyed in the token.
    pub(crate) fn insert(&mut self, seal: Seal, entry: Entry) -> Vec<Entry> {
        let mut evicted = Vec::new();
        evicted.extend(self.remove(&seal));
        while self.slots.len() >= self.entries_max {
            let Some(next) = self.next_to_go() else { break };
            evicted.extend(self.remove(&next));
        }
        self.clock += 1;
        let vault = self.enter(&entry.statement.vault, seal);
        self.order.insert(self.clock, seal);
        self.slots.insert(seal, Slot { entry, vault, used: self.clock });
        evicted
    }

    /// The oldest key of the vault that has most, if that is more than its share; else the oldest of all.
    fn next_to_go(&self) -> Option<Seal> {
        let (count, vault) = self.by_count.last()?;
        let order =
            if *count * self.by_count.len() > self.entries_max { self.of_vault.get(vault)? } else { &self.order };
        order.first_key_value().map(|(_, seal)| *seal)
    }

    /// Notes a key of that vault, used now.
    fn enter(&mut self, vault: &str, seal: Seal) -> Arc<str> {
        let vault = self.of_vault.get_key_value(vault).map_or_else(|| Arc::from(vault), |(vault, _)| Arc::clone(vault));
        let order = self.of_vault.entry(Arc::clone(&vault)).or_default();
        self.by_count.remove(&(order.len(), Arc::clone(&vault)));
        order.insert(self.clock, seal);
        self.by_count.insert((order.len(), Arc::clone(&vault)));
        vault
    }

    fn leave(&mut self, vault: &Arc<str>, used: u64) {
        let Some(order) = self.of_vault.get_mut(vault) else { return };
        self.by_count.remove(&(order.len(), Arc::clone(vault)));
        order.remove(&used);
        if order.is_empty() {
            self.of_vault.remove(vault);
        } else {
            self.by_count.insert((order.len(), Arc::clone(vault)));
        }
    }

    /// Takes a key out.
    pub(crate) fn remove(&mut self, seal: &Seal) -> Option<Entry> {
        let slot = self.slots.remove(seal)?;
        self.order.remove(&slot.used);
        self.leave(&slot.vault, slot.used);
        Some(slot.entry)
    }

    /// Takes every key of a version out, or under a KEK of that id.
    pub(crate) fn remove_version(&mut self, version: [u8; 16]) -> Vec<Entry> {
        let of_version = |(seal, slot): (&Seal, &Slot)| {
            let statement = &slot.entry.statement;
            (statement.version == version || statement.kek == Some(version)).then_some(*seal)
        };
        let seals: Vec<Seal> = self.slots.iter().filter_map(of_version).collect();
        seals.iter().filter_map(|seal| self.remove(seal)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithms::{KeyOps, KeySpec};

    fn entry(version: u8) -> Entry {
        entry_of("vault", version)
    }

    fn entry_of(vault: &str, version: u8) -> Entry {
        Entry::new(KeyStatement {
            vault: vault.to_owned(),
            key: "key".to_owned(),
            version: [version; 16],
            spec: KeySpec::Aes256,
            ops: KeyOps::NONE,
            enabled: true,
            not_before: None,
            expires: None,
            residency: Residency::Wrapped,
            blob: Vec::new(),
            public: Vec::new(),
            check_value: Vec::new(),
            created: 0,
            revision: 1,
            rest: Vec::new(),
            kek: None,
        })
    }

    fn versions(entries: &[Entry]) -> Vec<u8> {
        entries.iter().map(|entry| entry.statement.version[0]).collect()
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut cache = Cache::new(2);
        assert!(cache.insert([1; 32], entry(1)).is_empty());
        assert!(cache.insert([2; 32], entry(2)).is_empty());
        assert!(cache.get(&[1; 32]).is_some());
        assert_eq!(versions(&cache.insert([3; 32], entry(3))), [2]);
        assert!(cache.contains(&[1; 32]) && cache.contains(&[3; 32]) && !cache.contains(&[2; 32]));
        assert_eq!(cache.slots.len(), cache.order.len());
    }

    #[test]
    fn a_key_put_in_twice_gives_the_first_back() {
        let mut cache = Cache::new(2);
        cache.insert([1; 32], entry(1));
        assert_eq!(versions(&cache.insert([1; 32], entry(9))), [1]);
        assert_eq!(cache.order.len(), 1);
    }

    #[test]
    fn a_version_leaves_with_all_its_rows() {
        let mut cache = Cache::new(9);
        for (seal, version) in [(1, 7), (2, 7), (3, 8)] {
            cache.insert([seal; 32], entry(version));
        }
        let mut under_a_kek = entry(9);
        under_a_kek.statement.kek = Some([6; 16]);
        cache.insert([4; 32], under_a_kek);
        assert_eq!(cache.remove_version([7; 16]).len(), 2);
        assert_eq!(versions(&cache.remove_version([6; 16])), [9]);
        assert_eq!((cache.slots.len(), cache.order.len()), (1, 1));
    }

    /// The seal of a key of a vault that has many.
    fn nth(vault: u8, n: u32) -> Seal {
        let mut seal = [vault; 32];
        seal[..4].copy_from_slice(&n.to_be_bytes());
        seal
    }

    #[test]
    fn who_goes_through_many_keys_evicts_its_own() {
        let mut cache = Cache::new(100);
        for n in 0..40 {
            assert!(cache.insert(nth(1, n), entry_of("quiet", 1)).is_empty());
        }
        for n in 0..10_000 {
            let evicted = cache.insert(nth(2, n), entry_of("noisy", 2));
            assert!(versions(&evicted).iter().all(|version| *version == 2), "the other's are all there");
        }
        assert_eq!((cache.of_vault["quiet"].len(), cache.of_vault["noisy"].len()), (40, 60));
        // A vault takes what it has a share of, from the one that has most, until they have the same.
        for n in 0..1000 {
            cache.insert(nth(3, n), entry_of("new", 3));
        }
        let counts: Vec<usize> = ["quiet", "noisy", "new"].iter().map(|vault| cache.of_vault[*vault].len()).collect();
        assert!(counts.iter().all(|count| (32..=35).contains(count)), "{counts:?}");
        assert!(cache.contains(&nth(1, 39)) && !cache.contains(&nth(1, 0)), "of each vault's the oldest go");
    }

    #[test]
    fn one_vault_alone_has_all_the_room_and_nothing_is_kept_of_one_that_is_gone() {
        let mut cache = Cache::new(50);
        for n in 0..60 {
            cache.insert(nth(1, n), entry_of("one", 1));
        }
        assert_eq!(cache.of_vault["one"].len(), 50);
        assert_eq!(cache.remove_version([1; 16]).len(), 50);
        assert!(cache.of_vault.is_empty() && cache.by_count.is_empty() && cache.order.is_empty());
    }

    #[test]
    fn a_token_key_is_not_destroyed_with_its_entry() {
        let mut evicted = entry(1);
        evicted.private = Some(Handle(1));
        evicted.public = Some(Handle(2));
        assert_eq!(evicted.session_objects().count(), 2);
        evicted.statement.residency = Residency::Token;
        assert_eq!(evicted.session_objects().collect::<Vec<_>>(), [Handle(2)]);
    }
}
