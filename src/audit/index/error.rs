//! What can go wrong with a search.

use std::{io, path::PathBuf};

use crate::audit::read::ReadError;

// Primary result codes of SQLite (https://sqlite.org/rescode.html): the low byte of an extended one.
const SQLITE_ERROR: i32 = 1;
const SQLITE_CORRUPT: i32 = 11;
const SQLITE_CONSTRAINT: i32 = 19;
const SQLITE_MISMATCH: i32 = 20;
const SQLITE_NOTADB: i32 = 26;

/// Why nothing was found, or nothing taken in.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Records cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What lies in a bundle is no record.
    #[error("entry {index} is not a record: `strongroom audit verify` says what is wrong with the log")]
    Entry {
        /// Which.
        index: u64,
    },
    /// A tile is not there, or not whole.
    #[error("tile {number} of level 0 is not whole: `strongroom audit verify` says what is wrong with the log")]
    Tile {
        /// Which.
        number: u64,
    },
    /// Uses are counted out of the index, and it is being made.
    #[error("the index has {indexed} of {readable} records: it is being made, ask again in a while")]
    Behind {
        /// How many it has.
        indexed: u64,
        /// How many there are.
        readable: u64,
    },
    /// Uses are not counted for parts of an object.
    #[error("uses are counted for whole objects: ask for {object}, or list the records of what is in it")]
    Finer {
        /// What to ask for.
        object: String,
    },
    /// The index is not as this program writes it. It is made anew.
    #[error("the index of the audit log is not one of this log and release; it is made anew")]
    Unfit,
    /// SQLite failed.
    #[error("the index of the audit log cannot be read or written")]
    Sql(#[from] sqlx::Error),
    /// The file system said no.
    #[error("cannot {what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A thread did not come to its end.
    #[error("a thread that read the audit log did not come to its end")]
    Thread(#[from] tokio::task::JoinError),
}

impl IndexError {
    /// Whether the index's file is to blame, and making it anew is the cure. By code, never by message.
    pub(super) fn is_unfit(&self) -> bool {
        match self {
            Self::Unfit => true,
            // Our statements are fixed, and so are our columns: those that do not fit meet a file that is not ours.
            Self::Sql(sqlx::Error::Database(error)) => {
                let code: Option<i32> = error.code().and_then(|code| code.parse().ok());
                let codes = [SQLITE_ERROR, SQLITE_CORRUPT, SQLITE_CONSTRAINT, SQLITE_MISMATCH, SQLITE_NOTADB];
                code.is_some_and(|code| codes.contains(&(code & 0xff)))
            }
            Self::Sql(error) => matches!(
                error,
                sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) | sqlx::Error::RowNotFound
            ),
            _ => false,
        }
    }
}
