//! The loaded keys, by the seal of their row: bounded, and the least recently used goes first.
//!
//! A key in use is never evicted: the worker has one thread, and nothing is inserted between taking a
//! handle and using it.

use std::collections::{BTreeMap, HashMap};

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
    used: u64,
}

/// The loaded keys.
pub(crate) struct Cache {
    entries_max: usize,
    slots: HashMap<Seal, Slot>,
    /// By when they were last used: the first is the next to go.
    order: BTreeMap<u64, Seal>,
    clock: u64,
}

impl Cache {
    /// A cache of that many keys, at least one.
    pub(crate) fn new(entries_max: usize) -> Self {
        Self { entries_max: entries_max.max(1), slots: HashMap::new(), order: BTreeMap::new(), clock: 0 }
    }

    /// Whether a key is there; it is not used by asking.
    pub(crate) fn contains(&self, seal: &Seal) -> bool {
        self.slots.contains_key(seal)
    }

    /// The key of that seal, which is now the most recently used.
    pub(crate) fn get(&mut self, seal: &Seal) -> Option<&mut Entry> {
        let slot = self.slots.get_mut(seal)?;
        if slot.used != self.clock {
            self.order.remove(&slot.used);
            self.clock += 1;
            slot.used = self.clock;
            self.order.insert(self.clock, *seal);
        }
        Some(&mut slot.entry)
    }

    /// Puts a key in; what had to go for it comes back, to be destroyed in the token.
    pub(crate) fn insert(&mut self, seal: Seal, entry: Entry) -> Vec<Entry> {
        let mut evicted = Vec::new();
        evicted.extend(self.remove(&seal));
        while self.slots.len() >= self.entries_max {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            evicted.extend(self.slots.remove(&oldest).map(|slot| slot.entry));
        }
        self.clock += 1;
        self.order.insert(self.clock, seal);
        self.slots.insert(seal, Slot { entry, used: self.clock });
        evicted
    }

    /// Takes a key out.
    pub(crate) fn remove(&mut self, seal: &Seal) -> Option<Entry> {
        let slot = self.slots.remove(seal)?;
        self.order.remove(&slot.used);
        Some(slot.entry)
    }

    /// Takes every key of a version out.
    pub(crate) fn remove_version(&mut self, version: [u8; 16]) -> Vec<Entry> {
        let of_version = |(seal, slot): (&Seal, &Slot)| (slot.entry.statement.version == version).then_some(*seal);
        let seals: Vec<Seal> = self.slots.iter().filter_map(of_version).collect();
        seals.iter().filter_map(|seal| self.remove(seal)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithms::{KeyOps, KeySpec};

    fn entry(version: u8) -> Entry {
        Entry::new(KeyStatement {
            vault: "vault".to_owned(),
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
        assert_eq!(cache.remove_version([7; 16]).len(), 2);
        assert_eq!((cache.slots.len(), cache.order.len()), (1, 1));
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
