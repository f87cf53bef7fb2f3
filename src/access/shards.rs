//! A map that is cheap to change a copy of: what has not changed is shared. A policy of 100,000 assignments is
//! replaced with every change of one.

use std::{
    hash::{BuildHasher as _, Hash, RandomState},
    sync::Arc,
};

use hashbrown::HashTable;

/// How many maps it is made of: a change copies one of them.
const SHARDS: usize = 256;

type Map<K, V> = Arc<HashTable<(K, V)>>;

/// A map from keys to values.
#[derive(Clone, Debug)]
pub(super) struct Shards<K, V> {
    hasher: RandomState,
    /// A key is hashed once: its hash says in which of them, and where.
    maps: Box<[Map<K, V>]>,
    len: usize,
}

impl<K, V> Default for Shards<K, V> {
    fn default() -> Self {
        let maps = (0..SHARDS).map(|_| Arc::default()).collect();
        Self { hasher: RandomState::new(), maps, len: 0 }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Shards<K, V> {
    /// The hash of a key, and the map that it is in. A table looks at the upper bits of a hash and at the lowest, as
    /// many as it has places; so the map is chosen by others.
    fn place(&self, key: &K) -> (u64, usize) {
        let hash = self.hasher.hash_one(key);
        (hash, usize::from(hash.to_le_bytes()[4]))
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        let (hash, place) = self.place(key);
        self.maps[place].find(hash, |(known, _)| known == key).map(|(_, value)| value)
    }

    /// Sets the value of a key; what else holds the old map keeps it.
    pub(super) fn set(&mut self, key: K, value: V) {
        let (hash, place) = self.place(&key);
        let (hasher, map) = (&self.hasher, Arc::make_mut(&mut self.maps[place]));
        match map.find_mut(hash, |(known, _)| *known == key) {
            Some((_, old)) => *old = value,
            None => {
                map.insert_unique(hash, (key, value), |(key, _)| hasher.hash_one(key));
                self.len += 1;
            }
        }
    }

    /// Takes a key out.
    pub(super) fn remove(&mut self, key: &K) {
        let (hash, place) = self.place(key);
        if let Ok(found) = Arc::make_mut(&mut self.maps[place]).find_entry(hash, |(known, _)| known == key) {
            found.remove();
            self.len -= 1;
        }
    }

    /// How many keys there are.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Every key with its value.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.maps.iter().flat_map(|map| map.iter()).map(|(key, value)| (key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_changes_alone() {
        let mut first: Shards<u32, u32> = Shards::default();
        (0..1000).for_each(|n| first.set(n, n));
        let mut second = first.clone();
        second.set(7, 0);
        second.remove(&8);
        second.remove(&8);
        assert_eq!((first.get(&7), first.get(&8), first.len()), (Some(&7), Some(&8), 1000));
        assert_eq!((second.get(&7), second.get(&8), second.len()), (Some(&0), None, 999));
        assert_eq!(second.iter().count(), 999);
    }
}
