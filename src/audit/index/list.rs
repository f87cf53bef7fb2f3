//! Reading bundles for records that are asked for: the same with an index and without.

use std::ops::Range;

use super::{
    BOUNDS, Bounds, IndexError, RECORDS,
    query::{Filter, Found, FoundRecord, LIMIT_MAX, Order, Page, Query},
    skim::Skim,
};
use crate::audit::{
    journal::line,
    read::{Entries, ReadError, Reader},
};

/// A page ends when its entries have so many bytes.
const PAGE_BYTES_MAX: usize = 2 << 20;
/// How often a partial bundle is looked for that was replaced by a wider one in the meantime.
const TRIES_MAX: u32 = 5;

/// Bundles to be looked into, in order.
#[derive(Debug)]
pub(super) struct Candidates {
    order: Order,
    bundles: Vec<u64>,
    bounds: Bounds,
    /// There were more than one call looks for.
    is_cut: bool,
}

impl Candidates {
    pub(super) const fn none(order: Order, bounds: Bounds) -> Self {
        Self { order, bundles: Vec::new(), bounds, is_cut: false }
    }

    /// All of a page.
    pub(super) fn every(readable: u64, page: &Page, bounds: Bounds) -> Self {
        let mut candidates = Self::none(page.order, bounds);
        candidates.take(page.bundles(readable));
        candidates
    }

    pub(super) fn is_newest_first(&self) -> bool {
        self.order == Order::NewestFirst
    }

    pub(super) const fn is_full(&self) -> bool {
        self.is_cut
    }

    /// Takes the next bundles off what is left: up to a multiple of `size`, which is one of a block.
    pub(super) fn next_window(&self, left: &mut Range<u64>, size: u64) -> Range<u64> {
        if self.is_newest_first() {
            let start = ((left.end - 1) / size * size).max(left.start);
            let window = start..left.end;
            left.end = start;
            window
        } else {
            let end = ((left.start / size + 1) * size).min(left.end);
            let window = left.start..end;
            left.start = end;
            window
        }
    }

    pub(super) fn take(&mut self, bundles: Range<u64>) {
        self.take_those(bundles, |_| true);
    }

    /// Takes some of those bundles, which come behind the ones that are there.
    pub(super) fn take_those(&mut self, mut bundles: Range<u64>, wanted: impl Fn(u64) -> bool) {
        while !self.is_cut {
            let next = if self.is_newest_first() { bundles.next_back() } else { bundles.next() };
            let Some(next) = next else { return };
            if wanted(next) {
                self.is_cut = self.bundles.len() >= self.bounds.candidates;
                if !self.is_cut {
                    self.bundles.push(next);
                }
            }
        }
    }
}

impl Page {
    /// The records that are left.
    fn records(&self, readable: u64) -> Range<u64> {
        match (self.order, self.after) {
            (_, None) => 0..readable,
            (Order::NewestFirst, Some(after)) => 0..after.min(readable),
            (Order::OldestFirst, Some(after)) => after.saturating_add(1).min(readable)..readable,
        }
    }

    /// The bundles that have them.
    pub(super) fn bundles(&self, readable: u64) -> Range<u64> {
        let records = self.records(readable);
        if records.is_empty() { 0..0 } else { records.start / RECORDS..records.end.div_ceil(RECORDS) }
    }
}

/// As [`Index::find`](super::Index::find), without an index. Blocks.
///
/// # Errors
/// [`IndexError::Read`] or [`IndexError::Entry`].
pub fn scan(reader: &Reader, readable: u64, query: &Query, page: &Page) -> Result<Found, IndexError> {
    read(reader, readable, &query.filter(), page, Candidates::every(readable, page, BOUNDS))
}

/// Reads the candidates for a page. Blocks.
pub(super) fn read(
    reader: &Reader,
    readable: u64,
    filter: &Filter,
    page: &Page,
    candidates: Candidates,
) -> Result<Found, IndexError> {
    let records = page.records(readable);
    let mut listing =
        Listing { filter, order: page.order, limit: page.limit.clamp(1, LIMIT_MAX), bytes: 0, found: Found::default() };
    let (mut reads, mut behind) = (0, None);
    for number in candidates.bundles {
        if reads == candidates.bounds.reads {
            listing.found.next = behind;
            return Ok(listing.found);
        }
        let whole = number * RECORDS..(number + 1) * RECORDS;
        match bundle(reader, records.start.max(whole.start), readable) {
            Ok(entries) => {
                reads += 1;
                if listing.take(&entries, &records)? {
                    return Ok(listing.found);
                }
            }
            Err(ReadError::Pruned { .. }) => listing.found.pruned += 1,
            Err(error) => return Err(error.into()),
        }
        behind = match page.order {
            Order::NewestFirst => Some(whole.start),
            Order::OldestFirst => Some(whole.end - 1),
        };
    }
    listing.found.next = behind.filter(|_| candidates.is_cut);
    Ok(listing.found)
}

/// Reads a bundle from a record on. A partial one may be replaced by a wider one just then: that is not pruned.
pub(super) fn bundle(reader: &Reader, from: u64, readable: u64) -> Result<Entries, ReadError> {
    let is_partial = from - from % RECORDS + RECORDS > readable;
    let mut tries = 1;
    loop {
        match reader.bundle(from, readable) {
            Err(ReadError::Pruned { .. }) if is_partial && tries < TRIES_MAX => tries += 1,
            result => return result,
        }
    }
}

struct Listing<'a> {
    filter: &'a Filter,
    order: Order,
    limit: usize,
    bytes: usize,
    found: Found,
}

impl Listing<'_> {
    /// Takes what is asked for of a bundle. `true`: the page is full.
    fn take(&mut self, entries: &Entries, records: &Range<u64>) -> Result<bool, IndexError> {
        let mut passed = Vec::new();
        for (index, entry) in entries.iter().filter(|(index, _)| records.contains(index)) {
            let skim = Skim::of(entry).ok_or(IndexError::Entry { index })?;
            if self.filter.passes(&skim) {
                passed.push((index, entry));
            }
        }
        if self.order == Order::NewestFirst {
            passed.reverse();
        }
        for (index, entry) in passed {
            let record = line::parse(entry).map_err(|_| IndexError::Entry { index })?;
            self.found.records.push(FoundRecord { index, record, entry: entry.to_vec() });
            self.bytes += entry.len();
            if self.found.records.len() >= self.limit || self.bytes >= PAGE_BYTES_MAX {
                let is_last = match self.order {
                    Order::NewestFirst => index == records.start,
                    Order::OldestFirst => index + 1 == records.end,
                };
                self.found.next = Some(index).filter(|_| !is_last);
                return Ok(true);
            }
        }
        Ok(false)
    }
}
