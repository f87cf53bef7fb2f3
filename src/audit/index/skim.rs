//! A record as a search looks at it: a few fields, borrowed from where they lie.

use std::borrow::Cow;

use serde::Deserialize;

use crate::audit::{Outcome, Record};

/// What is read of a record.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Skim<'a> {
    pub(super) time: i64,
    #[serde(borrow)]
    operation: Text<'a>,
    #[serde(borrow, default)]
    principal: Option<Text<'a>>,
    #[serde(borrow, default)]
    resource: Option<Text<'a>>,
    outcome: Outcome,
    #[serde(default)]
    repeated: u64,
    #[serde(borrow, default)]
    batch: Option<SkimBatch<'a>>,
}

/// Borrowed unless something in it is escaped. A type of its own, for serde borrows no `Cow` within an `Option`.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct SkimBatch<'a> {
    #[serde(borrow)]
    groups: Vec<SkimGroup<'a>>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct SkimGroup<'a> {
    #[serde(borrow)]
    operation: Text<'a>,
    #[serde(borrow)]
    resource: Text<'a>,
    outcome: Outcome,
    count: u64,
}

/// One thing that was done or tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deed<'a> {
    pub(super) operation: &'a str,
    pub(super) resource: &'a str,
    pub(super) outcome: Outcome,
    /// How often.
    pub(super) count: u64,
}

impl<'a> Skim<'a> {
    /// Reads an entry; `None` if it is no record.
    pub(super) fn of(entry: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(entry).ok()
    }

    /// Who; empty for events.
    pub(super) fn principal(&self) -> &str {
        self.principal.as_ref().map_or("", |principal| &principal.0)
    }

    /// What the record itself says.
    fn own(&self) -> Deed<'_> {
        Deed {
            operation: &self.operation.0,
            resource: self.resource.as_ref().map_or("", |resource| &resource.0),
            outcome: self.outcome,
            count: self.repeated.saturating_add(1),
        }
    }

    fn groups(&self) -> impl Iterator<Item = Deed<'_>> {
        let groups = self.batch.iter().flat_map(|batch| &batch.groups);
        groups.map(|group| Deed {
            operation: &group.operation.0,
            resource: &group.resource.0,
            outcome: group.outcome,
            count: group.count,
        })
    }

    /// What it can be found by: its own fields, and those of each group of a batch.
    pub(super) fn deeds(&self) -> impl Iterator<Item = Deed<'_>> {
        std::iter::once(self.own()).chain(self.groups())
    }

    /// What counts as use: the groups of a batch, or else the record itself; but not an intent, which its outcome
    /// follows.
    pub(super) fn uses(&self) -> impl Iterator<Item = Deed<'_>> {
        let is_batch = self.batch.as_ref().is_some_and(|batch| !batch.groups.is_empty());
        let own = std::iter::once(self.own()).filter(move |_| !is_batch);
        own.chain(self.groups()).filter(|deed| deed.outcome != Outcome::Pending)
    }
}

impl<'a> From<&'a Record> for Skim<'a> {
    fn from(record: &'a Record) -> Self {
        let text = |text: &'a String| Text(Cow::Borrowed(text.as_str()));
        let batch = record.batch.as_ref().map(|batch| SkimBatch {
            groups: batch
                .groups
                .iter()
                .map(|group| SkimGroup {
                    operation: text(&group.operation),
                    resource: text(&group.resource),
                    outcome: group.outcome,
                    count: group.count,
                })
                .collect(),
        });
        Self {
            time: record.time,
            operation: text(&record.operation),
            principal: record.principal.as_ref().map(text),
            resource: record.resource.as_ref().map(text),
            outcome: record.outcome,
            repeated: record.repeated,
            batch,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Batch, BatchGroup, Kind, journal::line};

    #[test]
    fn an_entry_is_skimmed_as_its_record() {
        let mut record = Record::new(crate::model::Timestamp(-7), Kind::Operation, "keys.batch", Outcome::Done);
        record.principal = Some("spiffe://ä\"\\/ci".to_owned());
        record.detail = Some("x".to_owned());
        let group = BatchGroup {
            operation: "keys.sign".to_owned(),
            resource: "vaults/dev/keys/a".to_owned(),
            residency: None,
            algorithm: Some("ES256".to_owned()),
            ran: None,
            outcome: Outcome::Failed,
            reason: None,
            count: 3,
        };
        record.batch = Some(Batch { groups: vec![group], items: Vec::new() });
        let entry = line::encode(&record);
        assert_eq!(Skim::of(&entry), Some(Skim::from(&record)));
        let deeds: Vec<u64> = Skim::from(&record).deeds().map(|deed| deed.count).collect();
        assert_eq!(deeds, [1, 3]);
        let uses: Vec<u64> = Skim::from(&record).uses().map(|deed| deed.count).collect();
        assert_eq!(uses, [3]);
    }

    #[test]
    fn what_needs_no_escape_is_borrowed() {
        let entry = br#"{"time":1,"operation":"a.b","principal":"x:y","resource":"z","outcome":"done"}"#;
        let skim = Skim::of(entry).unwrap();
        assert!(matches!(skim.operation.0, Cow::Borrowed(_)));
        assert!(matches!(skim.principal, Some(Text(Cow::Borrowed(_)))));
        assert!(matches!(skim.resource, Some(Text(Cow::Borrowed(_)))));
    }
}
