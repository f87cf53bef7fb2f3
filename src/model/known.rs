//! What is known of keys that have backups, and outlives them: so that no backup brings back what is older unseen, and no
//! counter of encryptions goes backwards (NIST SP 800-38D section 8.3).
//!
//! A key has such a row from its first backup on, and each of its versions has one when it is gone: a key that was never
//! backed up leaves nothing. All of them go with their vault.

use strongroom_hsm::statement::Canonical;

use super::{
    names::VersionId,
    rows::{Row, RowId, RowKind},
    time::Timestamp,
};

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It was there when this was last written.
    Here,
    /// It was destroyed: a key, or a version with its key.
    Purged,
    /// A version that was destroyed by itself.
    PurgedAlone,
    /// It was moved to another vault.
    Moved,
}

impl Fate {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Here, Self::Purged, Self::PurgedAlone, Self::Moved];

    /// A number that stands for it, as stored and sealed.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Here => 0,
            Self::Purged => 1,
            Self::PurgedAlone => 2,
            Self::Moved => 3,
        }
    }

    /// The one of that number.
    #[must_use]
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|fate| fate.code() == code)
    }
}

/// What is known of a key, or of a version that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownRow {
    /// The key's id, or the version's.
    pub id: [u8; 16],
    /// The id of the vault it is, or was, in.
    pub vault: [u8; 16],
    /// What became of it.
    pub fate: Fate,
    /// Of a key that is gone: its newest version then.
    pub newest: Option<VersionId>,
    /// The revision of its row when it went, before it was deleted; 0 while it is there.
    pub last: u64,
    /// Of a version: AES-GCM encryptions that were reserved.
    pub encryptions: u64,
    /// Of a version: uses that were reserved out of the budget.
    pub uses: u64,
    /// When that was.
    pub at: Timestamp,
    /// Grows with every change.
    pub revision: u64,
}

impl KnownRow {
    /// Of a key that is there.
    #[must_use]
    pub const fn here(key: [u8; 16], vault: [u8; 16], at: Timestamp) -> Self {
        let (fate, newest) = (Fate::Here, None);
        Self { id: key, vault, fate, newest, last: 0, encryptions: 0, uses: 0, at, revision: 1 }
    }
}

impl Row for KnownRow {
    fn row_id(&self) -> RowId {
        RowId { kind: RowKind::Known, id: self.id }
    }

    fn revision(&self) -> u64 {
        self.revision
    }

    fn canonical(&self) -> Vec<u8> {
        Canonical::new("strongroom.known.v1")
            .field(1, &self.id)
            .field(2, &self.vault)
            .number(3, u64::from(self.fate.code()))
            .field(4, self.newest.map(VersionId::bytes).as_ref().map_or(&[], |id| id.as_slice()))
            .number(5, self.last)
            .number(6, self.encryptions)
            .number(7, self.uses)
            .optional_number(8, Some(self.at.0))
            .number(9, self.revision)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fates_have_numbers_of_their_own_and_come_back() {
        for fate in Fate::ALL {
            assert_eq!(Fate::from_code(fate.code()), Some(fate));
        }
        assert_eq!(Fate::from_code(4), None);
    }

    #[test]
    fn all_that_is_known_is_sealed() {
        let row = KnownRow::here([1; 16], [2; 16], Timestamp(5));
        let rows = [
            row.clone(),
            KnownRow { id: [3; 16], ..row.clone() },
            KnownRow { vault: [3; 16], ..row.clone() },
            KnownRow { fate: Fate::Purged, ..row.clone() },
            KnownRow { newest: Some(VersionId::from_bytes([4; 16])), ..row.clone() },
            KnownRow { last: 1, ..row.clone() },
            KnownRow { encryptions: 1, ..row.clone() },
            KnownRow { uses: 1, ..row.clone() },
            KnownRow { at: Timestamp(6), ..row.clone() },
            KnownRow { revision: 2, ..row },
        ];
        let forms: std::collections::HashSet<Vec<u8>> = rows.iter().map(Row::canonical).collect();
        assert_eq!(forms.len(), rows.len());
    }
}
