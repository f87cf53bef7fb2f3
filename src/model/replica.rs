//! Replicas: processes that serve one instance, each with a name and a log of its own.

use std::{fmt, str::FromStr};

use strongroom_hsm::statement::Canonical;

use super::{
    names::NameError,
    rows::{Row, RowId, RowKind},
    time::Timestamp,
};

/// A replica's name: 1 to 63 characters of `[0-9a-z-]`, a letter or digit at both ends (a DNS label).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplicaName(String);

impl ReplicaName {
    /// The name of the only replica of a store in a file, unless it was given another.
    #[must_use]
    pub fn only() -> Self {
        Self("main".to_owned())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ReplicaName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let right = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_label =
            (1..=63).contains(&text.len()) && text.bytes().all(right) && !text.starts_with('-') && !text.ends_with('-');
        if is_label {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError {
                what: "replica",
                rule: "1 to 63 of [0-9a-z-], a letter or digit at both ends",
                found: text.chars().take(200).collect(),
            })
        }
    }
}

impl fmt::Display for ReplicaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The number of a replica among those of its instance. The first has 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ordinal(u32);

/// The bits of an intent's number that are the index in its replica's log: at 100,000 records a second, five years.
const INDEX_BITS: u32 = 44;

impl Ordinal {
    /// The most there can be: a number with one stays below 2^63, which is what databases keep.
    pub const MAX: Self = Self((1 << (63 - INDEX_BITS)) - 1);

    /// That number, if it is one.
    #[must_use]
    pub fn new(number: u32) -> Option<Self> {
        (number <= Self::MAX.0).then_some(Self(number))
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The intent with that index in this replica's log, as rows carry it: rows name the log as well as the record.
    ///
    /// # Panics
    /// When the log has 2^44 records.
    #[must_use]
    pub fn intent(self, index: u64) -> u64 {
        assert!(index < 1 << INDEX_BITS, "a log has fewer than 2^44 records");
        (u64::from(self.0) << INDEX_BITS) | index
    }

    /// Whose an intent is.
    #[must_use]
    pub fn of(intent: u64) -> Option<Self> {
        u32::try_from(intent >> INDEX_BITS).ok().and_then(Self::new)
    }

    /// The index of an intent, if it is in this replica's log.
    #[must_use]
    pub fn index(self, intent: u64) -> Option<u64> {
        (intent >> INDEX_BITS == u64::from(self.0)).then_some(intent & ((1 << INDEX_BITS) - 1))
    }
}

/// A replica. Its row is of no scope: it alone changes it, and holds it against its own log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaRow {
    /// Its id.
    pub id: [u8; 16],
    /// Its number.
    pub ordinal: Ordinal,
    /// Its name.
    pub name: ReplicaName,
    /// When it first served.
    pub created: Timestamp,
    /// How many records its log had at its newest checkpoint.
    pub log_size: u64,
    /// The root of that checkpoint.
    pub log_root: [u8; 32],
    /// Its log was closed: that checkpoint has everything.
    pub closed: bool,
    /// Grows with every change.
    pub revision: u64,
}

impl Row for ReplicaRow {
    fn row_id(&self) -> RowId {
        RowId { kind: RowKind::Replica, id: self.id }
    }

    fn revision(&self) -> u64 {
        self.revision
    }

    fn canonical(&self) -> Vec<u8> {
        Canonical::new("strongroom.replica.v1")
            .field(1, &self.id)
            .number(2, self.revision)
            .number(3, u64::from(self.ordinal.get()))
            .field(4, self.name.as_str().as_bytes())
            .optional_number(5, Some(self.created.0))
            .number(6, self.log_size)
            .field(7, &self.log_root)
            .number(8, u64::from(self.closed))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intent_is_found_in_its_own_log_only() {
        let (first, second) = (Ordinal::default(), Ordinal::new(1).expect("a number"));
        assert_eq!(first.intent(7), 7, "as rows of one replica always had it");
        assert_eq!(first.index(first.intent(7)), Some(7));
        assert_eq!(second.index(second.intent(7)), Some(7));
        assert_eq!(first.index(second.intent(7)), None);
        assert_eq!(second.index(first.intent(7)), None);
        assert!(i64::try_from(Ordinal::MAX.intent((1 << INDEX_BITS) - 1)).is_ok());
        assert_eq!(Ordinal::new(Ordinal::MAX.get() + 1), None);
    }

    #[test]
    fn names_are_dns_labels() {
        for right in ["a", "main", "eu-1", "7"] {
            assert_eq!(right.parse::<ReplicaName>().expect("a name").as_str(), right);
        }
        for wrong in ["", "-a", "a-", "A", "a.b", "a/b", &"a".repeat(64)] {
            assert!(wrong.parse::<ReplicaName>().is_err(), "{wrong}");
        }
    }
}
