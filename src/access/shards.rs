//! A map that is cheap to change a copy of: what has not changed is shared. A policy of 100,000 assignments is
//! replaced with every change of one.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::{BuildHasher as _, Hash},
    sync::Arc,
};

/// How many maps it is made of: a change copies one of them.
const SHARDS: usize = 256;

/// A map from keys to values.
#[derive(Clone, Debug)]
pub(super) struct Shards<K, V> {
    hasher: RandomState,
    maps: Box<[Arc<HashMap<K, V>>]>,
    len: usize,
}

impl<K, V> Default for Shards<K, V> {
    fn default() -> Self {
        let maps = (0..SHARDS).map(|_| Arc::default()).collect();
        Self { hasher: RandomState::new(), maps, len: 0 }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Shards<K, V> {
    fn place(&self, key: &K) -> usize {
        usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).expect("is below 256")
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.maps[self.place(key)].get(key)
    }

    /// Sets the value of a key; what else holds the old map keeps it.
    pub(super) fn set(&mut self, key: K, value: V) {
        let place = self.place(&key);
        let fresh = Arc::make_mut(&mut self.maps[place]).insert(key, value).is_none();
        self.len += usize::from(fresh);
    }

    /// Takes a key out.
    pub(super) fn remove(&mut self, key: &K) {
        let place = self.place(key);
        let found = Arc::make_mut(&mut self.maps[place]).remove(key).is_some();
        self.len -= usize::from(found);
    }

    /// How many keys there are.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Every key with its value.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.maps.iter().flat_map(|map| map.iter())
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
