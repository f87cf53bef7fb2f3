//! What the databases' errors mean, whichever it was.

use sqlx::error::{DatabaseError, ErrorKind};

use crate::store::{CommitError, StoreError, postgres, sqlite};

/// Why a transaction was given up.
#[derive(Debug)]
pub(in crate::store) enum Failure {
    /// The change itself cannot be applied.
    Refused(CommitError),
    /// The database failed.
    Driver(sqlx::Error),
}

impl Failure {
    /// Somebody else changed the same rows.
    pub(super) const CONFLICT: Self = Self::Refused(CommitError::Conflict);

    /// What to tell the caller.
    pub(in crate::store) fn into_commit_error(self) -> CommitError {
        match self {
            Self::Refused(error) => error,
            Self::Driver(error) => fault(error).into(),
        }
    }

    /// What to tell who only reads, whom nothing is refused.
    pub(in crate::store) fn into_store_error(self) -> StoreError {
        match self.into_commit_error() {
            CommitError::Store(error) => error,
            CommitError::Conflict | CommitError::Exists | CommitError::Fenced => {
                StoreError::Inconsistent { table: "any", column: "constraint" }
            }
        }
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Driver(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Refused(error.into())
    }
}

/// What a failed statement means for whoever reads. Databases that are full, slow, locked, read-only or not there are
/// [`StoreError::Unavailable`].
pub(in crate::store) fn fault(error: sqlx::Error) -> StoreError {
    if postgres::is_told(&error) { postgres::fault(error) } else { sqlite::fault(error) }
}

/// Whether a row of the same key exists.
pub(super) fn is_unique_violation(error: &sqlx::Error) -> bool {
    kind(error) == Some(ErrorKind::UniqueViolation)
}

/// Whether a row's parent is missing.
pub(super) fn is_foreign_key_violation(error: &sqlx::Error) -> bool {
    kind(error) == Some(ErrorKind::ForeignKeyViolation)
}

fn kind(error: &sqlx::Error) -> Option<ErrorKind> {
    error.as_database_error().map(DatabaseError::kind)
}
