//! What the lane believes its workers have loaded, and which keys are used most.
//!
//! Both are bounded and both may be wrong: a worker says when it lacks a key, and a row sent in vain
//! costs its bytes. So neither needs to be exact, only cheap.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::statement::{KeyRow, Seal};

/// The keys whose rows were sent to one worker, about the most recently used `max` of them: two
/// generations, of which the older is forgotten when the younger is full.
pub(super) struct Known {
    young: HashSet<Seal>,
    old: HashSet<Seal>,
    generation_max: usize,
}

impl Known {
    /// Believes in at most `max` keys.
    pub(super) fn new(max: usize) -> Self {
        Self { young: HashSet::new(), old: HashSet::new(), generation_max: (max / 2).max(1) }
    }

    /// Whether the worker is believed to have the key.
    pub(super) fn contains(&self, seal: &Seal) -> bool {
        self.young.contains(seal) || self.old.contains(seal)
    }

    /// Notes that the worker has, or is about to get, the key. Whether it was believed before.
    pub(super) fn touch(&mut self, seal: &Seal) -> bool {
        if self.young.contains(seal) {
            return true;
        }
        let known = self.old.contains(seal);
        if self.young.len() >= self.generation_max {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(*seal);
        known
    }

    /// The worker said that it lacks the key, or could not load it.
    pub(super) fn forget(&mut self, seal: &Seal) {
        self.young.remove(seal);
        self.old.remove(seal);
    }
}

/// The most keys that a new worker is warmed with.
pub(super) const WARM_MAX: usize = 256;
const HOT_MAX: usize = 2 * WARM_MAX;

/// The keys of a lane that are used most, with their rows.
#[derive(Default)]
pub(super) struct Hot {
    uses: HashMap<Seal, (Arc<KeyRow>, u32)>,
    misses: usize,
}

impl Hot {
    /// Counts a use. When all places are taken, newcomers wait for the next ageing.
    pub(super) fn count(&mut self, row: &Arc<KeyRow>) {
        if let Some((_, uses)) = self.uses.get_mut(&row.seal) {
            *uses = uses.saturating_add(1);
        } else if self.uses.len() < HOT_MAX {
            self.uses.insert(row.seal, (Arc::clone(row), 1));
        } else {
            self.misses += 1;
            // One pass for every so many misses keeps the cost of a use constant.
            if self.misses >= HOT_MAX {
                self.age();
            }
        }
    }

    fn age(&mut self) {
        self.misses = 0;
        self.uses.retain(|_, (_, uses)| {
            *uses /= 2;
            *uses > 0
        });
    }

    /// The most used rows, most used first.
    pub(super) fn rows(&self) -> Vec<Arc<KeyRow>> {
        let mut rows: Vec<_> = self.uses.values().collect();
        rows.sort_unstable_by_key(|(_, uses)| std::cmp::Reverse(*uses));
        rows.into_iter().take(WARM_MAX).map(|(row, _)| Arc::clone(row)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(n: u32) -> Seal {
        let mut seal = [0; 32];
        seal[..4].copy_from_slice(&n.to_le_bytes());
        seal
    }

    #[test]
    fn belief_is_bounded_and_keeps_what_is_used() {
        let mut known = Known::new(100);
        for n in 0..10_000 {
            known.touch(&seal(n));
            known.touch(&seal(0));
        }
        assert!(known.young.len() + known.old.len() <= 100);
        assert!(known.contains(&seal(0)) && known.contains(&seal(9_999)) && !known.contains(&seal(1)));
        known.forget(&seal(0));
        assert!(!known.touch(&seal(0)) && known.touch(&seal(0)));
    }
}
