//! What SQLite's result codes mean. By code, never by message (https://sqlite.org/rescode.html).

use crate::store::StoreError;

// Primary result codes: the low byte of an extended one.
const SQLITE_ERROR: i32 = 1;
const SQLITE_BUSY: i32 = 5;
const SQLITE_LOCKED: i32 = 6;
const SQLITE_CORRUPT: i32 = 11;
const SQLITE_CONSTRAINT: i32 = 19;
const SQLITE_MISMATCH: i32 = 20;
const SQLITE_NOTADB: i32 = 26;

/// Whether another program holds the file, so that the same change may well be applied a moment later.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    matches!(primary_code(error), Some(SQLITE_BUSY | SQLITE_LOCKED))
}

/// What a failed statement means for whoever reads. Full disks, read-only files, failed reads and
/// syncs, locks and deadlines are [`StoreError::Unavailable`].
pub(in crate::store) fn fault(error: sqlx::Error) -> StoreError {
    let inconsistent = |table, column| {
        tracing::error!(error = %error, "the store's file is not as this program wrote it");
        StoreError::Inconsistent { table, column }
    };
    match primary_code(&error) {
        // Our statements are fixed: one that does not compile meets a table that is not ours.
        Some(SQLITE_ERROR) => inconsistent("sqlite_schema", "sql"),
        Some(SQLITE_CORRUPT | SQLITE_NOTADB) => inconsistent("sqlite_dbpage", "data"),
        // Uniqueness and foreign keys are conflicts and were looked at before; what is left are CHECKs
        // and types, which nothing of ours breaks.
        Some(SQLITE_CONSTRAINT | SQLITE_MISMATCH) => inconsistent("sqlite_schema", "constraint"),
        _ => StoreError::Unavailable(error),
    }
}

fn primary_code(error: &sqlx::Error) -> Option<i32> {
    let extended: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(extended & 0xff)
}
