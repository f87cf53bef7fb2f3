//! What a log says as a whole: the newest head of every scope and the intents without an outcome.

use std::collections::BTreeMap;

use super::record::{HeadMark, Kind, Record};

/// The sum of the records up to a point. Each segment's header repeats it, so that the last segment suffices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// The newest head per scope.
    pub(super) heads: BTreeMap<String, HeadMark>,
    /// The intents that no outcome has followed, by index.
    pub(super) open: BTreeMap<u64, Record>,
}

impl Standing {
    /// Takes the record of that index into the sum.
    pub(super) fn note(&mut self, index: u64, record: &Record) {
        for mark in &record.heads {
            self.note_head(mark);
        }
        if let Some(intent) = record.intent {
            self.open.remove(&intent);
        }
        if record.kind == Kind::Intent {
            self.open.insert(index, record.clone());
        }
    }

    /// Two changes of one scope may be recorded out of order; a head's revision only grows.
    fn note_head(&mut self, mark: &HeadMark) {
        match self.heads.get(&mark.scope) {
            Some(known) if known.revision > mark.revision => {}
            _ => {
                self.heads.insert(mark.scope.clone(), mark.clone());
            }
        }
    }
}
