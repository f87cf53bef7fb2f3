//! Versions of secrets that were read lately, as they are stored: their values are ciphertext here too.
//!
//! What is kept is asked each time whether it is still the newest of its ids, as keys are; so no change has to be told here.

use std::sync::Arc;

use quick_cache::{Weighter, sync::Cache};

use super::{SecretEntry, SecretRef};
use crate::model::{VaultName, VersionId};

/// How many bytes of them are kept at most.
const BYTES_MAX: u64 = 16 * 1024 * 1024;
/// What one takes beside its ciphertext and what it says: rows, names, the statement of the data key.
const ENTRY_BYTES: u64 = 1024;
/// So many are expected; a hint.
const ENTRIES: usize = 1024;

/// Vault, folded name, and the version that was named.
type Key = (VaultName, String, Option<VersionId>);

/// The versions that are in memory.
pub(in crate::service) struct Warm(Cache<Key, Arc<SecretEntry>, Bytes>);

#[derive(Clone)]
struct Bytes;

impl Weighter<Key, Arc<SecretEntry>> for Bytes {
    fn weight(&self, _: &Key, entry: &Arc<SecretEntry>) -> u64 {
        let row = &entry.version.row;
        let tags: usize = row.tags.iter().map(|(name, value)| name.len() + value.len()).sum();
        ENTRY_BYTES + (row.ciphertext.len() + row.content_type.len() + tags) as u64
    }
}

impl Default for Warm {
    fn default() -> Self {
        Self(Cache::with_weighter(ENTRIES, BYTES_MAX, Bytes))
    }
}

impl Warm {
    /// The version that a name stands for, if it is in memory and nothing of it has changed.
    pub(super) fn get(&self, name: &SecretRef) -> Option<Arc<SecretEntry>> {
        self.0.get(&key(name)).filter(|entry| entry.is_current())
    }

    pub(super) fn put(&self, name: &SecretRef, entry: Arc<SecretEntry>) {
        self.0.insert(key(name), entry);
    }
}

fn key(name: &SecretRef) -> Key {
    (name.vault.clone(), name.secret.folded(), name.version)
}
