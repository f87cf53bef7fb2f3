//! Columns to values and back, strictly: what decodes is what encoding would have written, and anything
//! else is [`StoreError::Inconsistent`] with its table and column. Nothing here panics on any content.

use std::{fmt::Display, str::FromStr};

use sqlx::Row as _;
use strongroom_hsm::Seal;

use super::session::Record;
use crate::{
    model::{Row, State, Timestamp, VersionId},
    store::{Sealed, StoreError},
};

/// The columns of one row that was read.
pub(super) struct Columns<'r> {
    table: &'static str,
    row: &'r Record,
}

impl<'r> Columns<'r> {
    pub(super) const fn of(table: &'static str, row: &'r Record) -> Self {
        Self { table, row }
    }

    /// The error that this column is not ours.
    pub(super) const fn wrong(&self, column: &'static str) -> StoreError {
        StoreError::Inconsistent { table: self.table, column }
    }

    // Asked for anything but an `Option`, the drivers read NULL as 0 or as empty, or panic.

    fn optional_integer(&self, column: &'static str) -> Result<Option<i64>, StoreError> {
        let value = match self.row {
            Record::Sqlite(row) => row.try_get(column),
            Record::Postgres(row) => row.try_get(column),
        };
        value.map_err(|_| self.wrong(column))
    }

    fn integer(&self, column: &'static str) -> Result<i64, StoreError> {
        self.optional_integer(column)?.ok_or_else(|| self.wrong(column))
    }

    /// Bytes of any length, or NULL.
    pub(super) fn optional_bytes(&self, column: &'static str) -> Result<Option<&'r [u8]>, StoreError> {
        let value = match self.row {
            Record::Sqlite(row) => row.try_get(column),
            Record::Postgres(row) => row.try_get(column),
        };
        value.map_err(|_| self.wrong(column))
    }

    /// Bytes of any length.
    pub(super) fn bytes(&self, column: &'static str) -> Result<&'r [u8], StoreError> {
        self.optional_bytes(column)?.ok_or_else(|| self.wrong(column))
    }

    /// Exactly `N` bytes.
    pub(super) fn array<const N: usize>(&self, column: &'static str) -> Result<[u8; N], StoreError> {
        self.bytes(column)?.try_into().map_err(|_| self.wrong(column))
    }

    pub(super) fn text(&self, column: &'static str) -> Result<&'r str, StoreError> {
        let value: Result<Option<_>, _> = match self.row {
            Record::Sqlite(row) => row.try_get(column),
            Record::Postgres(row) => row.try_get(column),
        };
        value.map_err(|_| self.wrong(column))?.ok_or_else(|| self.wrong(column))
    }

    /// A text that parses, and shows as it is stored: parsing may fold case, storing must not have to.
    pub(super) fn parsed<T: FromStr + Display>(&self, column: &'static str) -> Result<T, StoreError> {
        let text = self.text(column)?;
        let value: T = text.parse().map_err(|_| self.wrong(column))?;
        if value.to_string() == text { Ok(value) } else { Err(self.wrong(column)) }
    }

    /// A number of our own: never negative.
    pub(super) fn number(&self, column: &'static str) -> Result<u64, StoreError> {
        u64::try_from(self.integer(column)?).map_err(|_| self.wrong(column))
    }

    pub(super) fn small(&self, column: &'static str) -> Result<u16, StoreError> {
        u16::try_from(self.integer(column)?).map_err(|_| self.wrong(column))
    }

    pub(super) fn flag(&self, column: &'static str) -> Result<bool, StoreError> {
        match self.row {
            Record::Sqlite(_) => match self.integer(column)? {
                0 => Ok(false),
                1 => Ok(true),
                _ => Err(self.wrong(column)),
            },
            Record::Postgres(row) => {
                let value: Result<Option<_>, _> = row.try_get(column);
                value.map_err(|_| self.wrong(column))?.ok_or_else(|| self.wrong(column))
            }
        }
    }

    pub(super) fn time(&self, column: &'static str) -> Result<Timestamp, StoreError> {
        self.integer(column).map(Timestamp)
    }

    pub(super) fn optional_time(&self, column: &'static str) -> Result<Option<Timestamp>, StoreError> {
        self.optional_integer(column).map(|time| time.map(Timestamp))
    }

    pub(super) fn version(&self, column: &'static str) -> Result<VersionId, StoreError> {
        self.array(column).map(VersionId::from_bytes)
    }

    pub(super) fn optional_version(&self, column: &'static str) -> Result<Option<VersionId>, StoreError> {
        let bytes = self.optional_bytes(column)?;
        bytes.map(|bytes| bytes.try_into().map(VersionId::from_bytes).map_err(|_| self.wrong(column))).transpose()
    }

    /// `deleted_at` and `purge_at`: both or none.
    pub(super) fn state(&self) -> Result<State, StoreError> {
        match (self.optional_time("deleted_at")?, self.optional_time("purge_at")?) {
            (None, None) => Ok(State::Active),
            (Some(since), Some(purge_at)) => Ok(State::Deleted { since, purge_at }),
            _ => Err(self.wrong("purge_at")),
        }
    }

    /// `revision`: from 1.
    pub(super) fn revision(&self) -> Result<u64, StoreError> {
        match self.number("revision")? {
            0 => Err(self.wrong("revision")),
            revision => Ok(revision),
        }
    }

    /// `seal`.
    pub(super) fn seal(&self) -> Result<Seal, StoreError> {
        self.array("seal")
    }

    /// Joins a decoded row with its `seal`.
    pub(super) fn sealed<R: Row>(&self, row: R) -> Result<Sealed<R>, StoreError> {
        Ok(Sealed::new(row, self.seal()?))
    }
}

/// A number as databases keep it.
///
/// # Errors
/// When it is above `i64::MAX`: nothing counts that far, so a caller that says so is wrong.
pub(super) fn integer(value: u64, table: &'static str, column: &'static str) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| StoreError::Inconsistent { table, column })
}

/// `deleted_at` and `purge_at`.
pub(super) fn state_times(state: State) -> (Option<i64>, Option<i64>) {
    match state {
        State::Active => (None, None),
        State::Deleted { since, purge_at } => (Some(since.0), Some(purge_at.0)),
    }
}
