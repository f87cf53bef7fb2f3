//! What is asked for, and what is returned.

use std::ops::RangeInclusive;

use super::{
    names::Name,
    skim::{Deed, Skim},
};
use crate::{
    audit::{Outcome, Record},
    model::time::{DAY_S, Timestamp},
};

/// The most records that one page has.
pub const LIMIT_MAX: usize = 1000;

/// Which records: those that all of it is true of. Nothing said is everything.
///
/// Of a batch, the record is found by each of its groups; resource, operation and outcome are then those of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Of what.
    pub resource: Option<Resource>,
    /// By whom: the whole name.
    pub principal: Option<String>,
    /// What was done: the whole name, for example `keys.sign`.
    pub operation: Option<String>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Not before.
    pub from: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
}

/// Of which resources. Names of vaults and their objects are compared without regard to case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// That one, and all that lie within it: `vaults/dev`, `vaults/dev/keys/release`, `roleAssignments`.
    Within(String),
    /// That one only.
    Exactly(String),
}

/// A query, made ready to look at many records.
#[derive(Clone, Debug)]
pub struct Filter {
    resource: Option<(Match, Name<'static>)>,
    query: Query,
}

/// How a name is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    Within,
    Exactly,
}

/// In which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The newest record first.
    NewestFirst,
    /// The oldest record first.
    OldestFirst,
}

/// Which part of what is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// In which order.
    pub order: Order,
    /// Goes on behind the record of that index: with lower ones, or higher ones.
    pub after: Option<u64>,
    /// The most records; at least 1, at most [`LIMIT_MAX`].
    pub limit: usize,
}

/// Records that were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// They, in the order that was asked for.
    pub records: Vec<FoundRecord>,
    /// There may be more: [`Page::after`] of the next page. `None`: that was all.
    pub next: Option<u64>,
    /// So many bundles that may have had more are gone: pruned.
    pub pruned: u64,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundRecord {
    /// Its index in the log.
    pub index: u64,
    /// It.
    pub record: Record,
    /// Its bytes in the log, which are JSON.
    pub entry: Vec<u8>,
}

impl Query {
    /// Whether the record is asked for. For many, [`Self::filter`] is quicker.
    #[must_use]
    pub fn matches(&self, record: &Record) -> bool {
        self.filter().matches(record)
    }

    /// Makes it ready.
    #[must_use]
    pub fn filter(&self) -> Filter {
        let resource = self.named().map(|(how, name)| (how, name.into_owned()));
        Filter { resource, query: self.clone() }
    }

    /// The resource that is asked for; none where that is everything.
    pub(super) fn named(&self) -> Option<(Match, Name<'_>)> {
        match self.resource.as_ref()? {
            Resource::Within(text) => Some(text.trim_end_matches('/'))
                .filter(|text| !text.is_empty())
                .map(|text| (Match::Within, Name::of(text))),
            Resource::Exactly(text) => Some((Match::Exactly, Name::of(text))),
        }
    }

    /// Whether it says nothing of time.
    pub(super) const fn is_at_any_time(&self) -> bool {
        self.from.is_none() && self.until.is_none()
    }

    /// The days that it touches.
    pub(super) fn days(&self) -> RangeInclusive<i64> {
        let (from, until) = (self.from.map_or(i64::MIN, |from| from.0), self.until.map_or(i64::MAX, |until| until.0));
        // Without an end the last second is one of them.
        let last = if self.until.is_some() { until.saturating_sub(1) } else { until };
        if last < from || until == i64::MIN { RangeInclusive::new(1, 0) } else { day(from)..=day(last) }
    }
}

/// The day (UTC) of a time: days since 1970.
pub(super) const fn day(time: i64) -> i64 {
    time.div_euclid(DAY_S)
}

impl Filter {
    /// Whether the record is asked for.
    #[must_use]
    pub fn matches(&self, record: &Record) -> bool {
        self.passes(&Skim::from(record))
    }

    pub(super) fn passes(&self, skim: &Skim<'_>) -> bool {
        let Query { from, until, .. } = self.query;
        from.is_none_or(|from| from.0 <= skim.time)
            && until.is_none_or(|until| skim.time < until.0)
            && self.is_by(skim.principal())
            && skim.deeds().any(|deed| self.is_of(&deed))
    }

    /// Whether that principal is asked for.
    pub(super) fn is_by(&self, principal: &str) -> bool {
        self.query.principal.as_ref().is_none_or(|wanted| wanted == principal)
    }

    /// Whether that deed is asked for, whenever and by whomever.
    pub(super) fn is_of(&self, deed: &Deed<'_>) -> bool {
        self.query.operation.as_ref().is_none_or(|operation| operation == deed.operation)
            && self.query.outcome.is_none_or(|outcome| outcome == deed.outcome)
            && self.resource.as_ref().is_none_or(|(how, wanted)| match how {
                Match::Within => wanted.contains(&Name::of(deed.resource)),
                Match::Exactly => wanted == &Name::of(deed.resource),
            })
    }
}
