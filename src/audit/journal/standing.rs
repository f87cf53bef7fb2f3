//! What a log says as a whole: the newest head of every scope and the intents without an outcome.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::super::record::{HeadMark, Kind, Record};

/// The sum of the records up to a point. Each segment's header repeats it, so that the last segment suffices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::audit) struct Standing {
    /// The newest head per scope.
    pub(in crate::audit) heads: BTreeMap<String, HeadMark>,
    /// The intents that no outcome has followed, by index.
    pub(in crate::audit) open: BTreeMap<u64, Record>,
}

impl Standing {
    /// Takes the record of that index into the sum.
    pub(in crate::audit) fn note(&mut self, index: u64, record: &Record) {
        for mark in &record.heads {
            note_head(&mut self.heads, mark);
        }
        if let Some(intent) = record.intent {
            self.open.remove(&intent);
        }
        if record.kind == Kind::Intent {
            self.open.insert(index, record.clone());
        }
    }
}

/// Two changes of one scope may be recorded out of order; a head's revision only grows.
pub(in crate::audit) fn note_head(heads: &mut BTreeMap<String, HeadMark>, mark: &HeadMark) {
    match heads.get(&mark.scope) {
        Some(known) if known.revision > mark.revision => {}
        _ => {
            heads.insert(mark.scope.clone(), mark.clone());
        }
    }
}

/// What a checkpoint says of the store: SHA-256 over one line for each scope, in the order of their ids:
/// `{scope} {revision} {digest}\n`, as the records have them.
pub(in crate::audit) fn heads_digest(heads: &BTreeMap<String, HeadMark>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for HeadMark { scope, revision, digest } in heads.values() {
        hash.update(format!("{scope} {revision} {digest}\n"));
    }
    hash.finalize().into()
}
