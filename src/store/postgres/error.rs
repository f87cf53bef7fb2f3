//! What PostgreSQL's errors mean. By SQLSTATE, never by message
//! (https://www.postgresql.org/docs/current/errcodes-appendix.html).
//!
//! A message of PostgreSQL's is passed on, its detail is not: that can hold values.

use sqlx::{error::DatabaseError, postgres::PgDatabaseError};

use super::connect;
use crate::store::StoreError;

/// What PostgreSQL said, without values.
#[derive(Debug, thiserror::Error)]
#[error("PostgreSQL: {message} (SQLSTATE {code})")]
struct Told {
    code: String,
    message: String,
}

/// Whether it is one of PostgreSQL's own.
pub(in crate::store) fn is_told(error: &sqlx::Error) -> bool {
    told(error).is_some()
}

fn told(error: &sqlx::Error) -> Option<&PgDatabaseError> {
    error.as_database_error().and_then(<dyn DatabaseError>::try_downcast_ref)
}

fn code(error: &sqlx::Error) -> Option<&str> {
    told(error).map(PgDatabaseError::code)
}

/// Whether the connection, or the server behind it, is of no more use, so that the primary is looked for again.
pub(super) fn is_lost(error: &sqlx::Error) -> bool {
    match code(error) {
        // The connection is gone or is about to be; the server is no primary any more (read_only_sql_transaction).
        Some(code) => {
            code.starts_with("08") || matches!(code, "57P01" | "57P02" | "57P03" | "25006") || STALE.contains(&code)
        }
        // Nothing that PostgreSQL said: sockets, TLS, deadlines, and answers that make no sense.
        None => true,
    }
}

/// feature_not_supported, invalid_sql_statement_name.
const STALE: [&str; 2] = ["0A000", "26000"];

/// A newer release changed a table behind the back of a prepared statement.
pub(super) fn is_stale(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| STALE.contains(&code))
}

/// Whether a transaction that failed so may be repeated as it is: nothing of it was applied.
pub(super) fn is_passing(error: &sqlx::Error) -> bool {
    // Whoever waited in vain for a server or for a connection has waited long enough.
    let is_waited_for =
        connect::is_no_primary(error) || matches!(error, sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed);
    // serialization_failure, deadlock_detected
    (is_lost(error) && !is_waited_for) || matches!(code(error), Some("40001" | "40P01"))
}

/// What a failed statement means for whoever reads. What is not there, full, slow, locked or forbidden is
/// [`StoreError::Unavailable`].
pub(in crate::store) fn fault(error: sqlx::Error) -> StoreError {
    let Some(told) = told(&error) else { return StoreError::Unavailable(error) };
    let (code, message) = (told.code().to_owned(), told.message().to_owned());
    let inconsistent = |table, column| {
        tracing::error!(code, "the store's tables are not as this program made them");
        StoreError::Inconsistent { table, column }
    };
    match code.as_str() {
        // insufficient_privilege: for the operator to mend, and not a fault of the data.
        "42501" => StoreError::Unavailable(plain(code, message)),
        // Our statements are fixed: one that does not compile meets a table that is not ours.
        _ if code.starts_with("42") => inconsistent("pg_class", "sql"),
        // data_corrupted, index_corrupted
        "XX001" | "XX002" => inconsistent("pg_class", "data"),
        // Uniqueness and foreign keys are conflicts and were looked at before; what is left are CHECKs and values
        // out of range, which nothing of ours breaks.
        _ if code.starts_with("23") || code.starts_with("22") => inconsistent("pg_class", "constraint"),
        _ => StoreError::Unavailable(plain(code, message)),
    }
}

fn plain(code: String, message: String) -> sqlx::Error {
    std::io::Error::other(Told { code, message }).into()
}

/// An error in a line, without values: for a list of servers that are of no use.
pub(super) fn said(error: &sqlx::Error) -> String {
    match told(error) {
        Some(told) => Told { code: told.code().to_owned(), message: told.message().to_owned() }.to_string(),
        None => error.to_string(),
    }
}

/// What did not answer in time.
pub(super) fn late() -> sqlx::Error {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "PostgreSQL did not answer in time").into()
}
