//! What one pass takes out of the log: which terms are in which bundle, their times, and how often what was used.

use std::{collections::HashMap, ops::Range, sync::Arc};

use super::{
    IndexError, RECORDS,
    names::Name,
    query::day,
    skim::{Deed, Skim},
    uses::Tally,
    write::{outcome_name, outcome_rank},
};
use crate::audit::read::{ReadError, Reader};

/// About so many bytes are gathered; then the pass ends with the bundle that it is at.
const BYTES_MAX: usize = 32 << 20;

/// About what a term and a row of uses take beside their texts.
const TERM_BYTES: usize = 160;

/// What a term is. The numbers are those in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum TermKind {
    /// Of a bundle that was pruned before it was looked at: it may have anything.
    Unseen = 0,
    /// A key or another object: [`Name::object`].
    Object = 1,
    /// A vault, or the first part of another name: [`Name::root`].
    Root = 2,
    /// Who.
    Principal = 3,
    /// What was done.
    Operation = 4,
    /// How it ended.
    Outcome = 5,
}

impl TermKind {
    pub(super) const COUNT: usize = 6;
}

/// A term within a pass: its place in [`Pass::terms`].
pub(super) type Slot = usize;

/// What is counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct UseSlots {
    pub(super) object: Slot,
    pub(super) day: i64,
    pub(super) principal: Slot,
    pub(super) operation: Slot,
    pub(super) outcome: i64,
}

/// What one transaction adds.
#[derive(Debug)]
pub(super) struct Pass {
    /// The bundles that were looked at.
    pub(super) bundles: Range<u64>,
    pub(super) terms: Vec<Term>,
    /// For each bundle the smallest and the largest time in it.
    pub(super) times: Vec<(i64, i64)>,
    pub(super) uses: HashMap<UseSlots, Tally>,
    slots: [HashMap<Arc<str>, Slot>; TermKind::COUNT],
    bytes: usize,
}

/// A term and where it is found.
#[derive(Debug)]
pub(super) struct Term {
    pub(super) kind: TermKind,
    pub(super) text: Arc<str>,
    /// The bundles that have it, counted from the first of the pass; in order.
    pub(super) offsets: Vec<u16>,
}

/// Reads bundles, from the first until the last or until enough was gathered. Blocks.
pub(super) fn collect(reader: &Reader, bundles: Range<u64>) -> Result<Pass, IndexError> {
    let mut pass = Pass {
        bundles: bundles.start..bundles.start,
        terms: Vec::new(),
        times: Vec::new(),
        uses: HashMap::new(),
        slots: Default::default(),
        bytes: 0,
    };
    for bundle in bundles {
        pass.bundle(reader, bundle)?;
        pass.bundles.end = bundle + 1;
        if pass.bytes >= BYTES_MAX {
            break;
        }
    }
    Ok(pass)
}

impl Pass {
    fn bundle(&mut self, reader: &Reader, bundle: u64) -> Result<(), IndexError> {
        let (first, end) = (bundle * RECORDS, (bundle + 1) * RECORDS);
        let entries = match reader.bundle(first, end) {
            Ok(entries) => entries,
            Err(ReadError::Pruned { .. }) => {
                self.post(bundle, TermKind::Unseen, "");
                self.times.push((i64::MIN, i64::MAX));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let mut times = (i64::MAX, i64::MIN);
        for (index, entry) in entries.iter() {
            let skim = Skim::of(entry).ok_or(IndexError::Entry { index })?;
            times = (times.0.min(skim.time), times.1.max(skim.time));
            self.record(bundle, index, &skim);
        }
        self.times.push(times);
        Ok(())
    }

    fn record(&mut self, bundle: u64, index: u64, skim: &Skim<'_>) {
        let principal = self.post(bundle, TermKind::Principal, skim.principal());
        for deed in skim.deeds() {
            self.deed(bundle, &deed);
        }
        for deed in skim.uses() {
            let key = UseSlots {
                object: self.slot(TermKind::Object, Name::of(deed.resource).object()),
                day: day(skim.time),
                principal,
                operation: self.slot(TermKind::Operation, deed.operation),
                outcome: outcome_rank(deed.outcome),
            };
            let before = self.uses.len();
            self.uses.entry(key).or_default().add(deed.count, index, skim.time);
            self.bytes += (self.uses.len() - before) * TERM_BYTES;
        }
    }

    fn deed(&mut self, bundle: u64, deed: &Deed<'_>) {
        let name = Name::of(deed.resource);
        self.post(bundle, TermKind::Object, name.object());
        self.post(bundle, TermKind::Root, name.root());
        self.post(bundle, TermKind::Operation, deed.operation);
        self.post(bundle, TermKind::Outcome, outcome_name(deed.outcome));
    }

    /// Notes that the bundle has that term.
    fn post(&mut self, bundle: u64, kind: TermKind, text: &str) -> Slot {
        let offset = u16::try_from(bundle - self.bundles.start)
            .expect("a pass is no longer than a block, of at most 65,536 bundles");
        let slot = self.slot(kind, text);
        let offsets = &mut self.terms[slot].offsets;
        if offsets.last() != Some(&offset) {
            offsets.push(offset);
            self.bytes += size_of::<u16>();
        }
        slot
    }

    fn slot(&mut self, kind: TermKind, text: &str) -> Slot {
        let slots = &mut self.slots[kind as usize];
        if let Some(slot) = slots.get(text) {
            return *slot;
        }
        let text: Arc<str> = text.into();
        let slot = self.terms.len();
        slots.insert(Arc::clone(&text), slot);
        self.bytes += text.len() + TERM_BYTES;
        self.terms.push(Term { kind, text, offsets: Vec::new() });
        slot
    }
}
