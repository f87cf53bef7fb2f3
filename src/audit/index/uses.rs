//! Who used what: counts over whole days.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    ops::{Range, RangeInclusive},
};

use super::{
    IndexError, RECORDS, list,
    names::Name,
    query::{Filter, LIMIT_MAX, Query, day},
    skim::{Deed, Skim},
};
use crate::audit::{
    Outcome,
    read::{ReadError, Reader},
};

/// What is counted together; in this order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UseKey {
    /// The key or other object, without a version: in the form that names are compared by. Empty for what is about no
    /// resource.
    pub object: String,
    /// Who; empty for events.
    pub principal: String,
    /// What was done.
    pub operation: String,
    /// How it ended.
    pub outcome: Outcome,
}

/// How often and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// How often.
    pub count: u64,
    /// The index of the first record.
    pub first_index: u64,
    /// The index of the last record.
    pub last_index: u64,
    /// The earliest time, in seconds since 1970.
    pub first_time: i64,
    /// The latest time, in seconds since 1970.
    pub last_time: i64,
}

impl Default for Tally {
    /// Never.
    fn default() -> Self {
        Self { count: 0, first_index: u64::MAX, last_index: 0, first_time: i64::MAX, last_time: i64::MIN }
    }
}

impl Tally {
    /// So often, by the record of that index and time.
    pub(super) fn add(&mut self, count: u64, index: u64, time: i64) {
        self.join(&Self { count, first_index: index, last_index: index, first_time: time, last_time: time });
    }

    fn join(&mut self, other: &Self) {
        *self = Self {
            count: self.count.saturating_add(other.count),
            first_index: self.first_index.min(other.first_index),
            last_index: self.last_index.max(other.last_index),
            first_time: self.first_time.min(other.first_time),
            last_time: self.last_time.max(other.last_time),
        };
    }
}

/// One row of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// What was done to what, by whom, and how it ended.
    pub key: UseKey,
    /// How often and when.
    pub tally: Tally,
}

/// Which part of the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsePage {
    /// Goes on behind that one.
    pub after: Option<UseKey>,
    /// The most rows; at least 1, at most [`LIMIT_MAX`](super::LIMIT_MAX).
    pub limit: usize,
}

impl UsePage {
    pub(super) fn limit(&self) -> usize {
        self.limit.clamp(1, LIMIT_MAX)
    }
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    /// Its rows, in the order of their keys.
    pub uses: Vec<Use>,
    /// There may be more: [`UsePage::after`] of the next page. `None`: that was all.
    pub next: Option<UseKey>,
    /// So many records were pruned before they were counted.
    pub unseen: u64,
}

impl Uses {
    /// Adds what was counted elsewhere to a page of rows, or to all of them.
    pub(super) fn join(&mut self, other: BTreeMap<UseKey, Tally>, page: &UsePage) {
        let end = self.next.take();
        let mut all: BTreeMap<UseKey, Tally> = self.uses.drain(..).map(|row| (row.key, row.tally)).collect();
        // Behind the end of a page that is not the last there may be rows that are not here.
        let is_here = |key: &UseKey| {
            page.after.as_ref().is_none_or(|after| key > after) && end.as_ref().is_none_or(|end| key <= end)
        };
        for (key, tally) in other.into_iter().filter(|(key, _)| is_here(key)) {
            match all.entry(key) {
                Entry::Occupied(mut row) => row.get_mut().join(&tally),
                Entry::Vacant(row) => drop(row.insert(tally)),
            }
        }
        let more = all.len() > page.limit();
        self.uses = all.into_iter().take(page.limit()).map(|(key, tally)| Use { key, tally }).collect();
        let last = self.uses.last().map(|row| row.key.clone());
        self.next = if more { last } else { end };
    }
}

/// Refuses what uses are not counted for.
pub(super) fn check(query: &Query) -> Result<(), IndexError> {
    match query.named() {
        Some((_, name)) if name.text() != name.object() => Err(IndexError::Finer { object: name.object().to_owned() }),
        _ => Ok(()),
    }
}

/// As [`Index::uses`](super::Index::uses), of the records in that range, without an index: reads all of them. Blocks.
///
/// # Errors
/// [`IndexError`]. What was pruned is left out.
pub fn tally(reader: &Reader, records: Range<u64>, query: &Query) -> Result<BTreeMap<UseKey, Tally>, IndexError> {
    check(query)?;
    let mut counted = Counted { filter: query.filter(), days: query.days(), rows: BTreeMap::new() };
    for bundle in records.start / RECORDS..records.end.div_ceil(RECORDS) {
        let from = records.start.max(bundle * RECORDS);
        let entries = match list::bundle(reader, from, records.end) {
            Ok(entries) => entries,
            Err(ReadError::Pruned { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        for (index, entry) in entries.iter() {
            counted.note(index, &Skim::of(entry).ok_or(IndexError::Entry { index })?);
        }
    }
    Ok(counted.rows)
}

struct Counted {
    filter: Filter,
    days: RangeInclusive<i64>,
    rows: BTreeMap<UseKey, Tally>,
}

impl Counted {
    fn note(&mut self, index: u64, skim: &Skim<'_>) {
        if !self.days.contains(&day(skim.time)) || !self.filter.is_by(skim.principal()) {
            return;
        }
        for deed in skim.uses() {
            let name = Name::of(deed.resource);
            let of_object = Deed { resource: name.object(), ..deed };
            if self.filter.is_of(&of_object) {
                let key = UseKey {
                    object: name.object().to_owned(),
                    principal: skim.principal().to_owned(),
                    operation: deed.operation.to_owned(),
                    outcome: deed.outcome,
                };
                self.rows.entry(key).or_default().add(deed.count, index, skim.time);
            }
        }
    }
}
