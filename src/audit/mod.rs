//! The audit record: what was asked, by whom, and what became of it; written before the answer.
//!
//! A [`Log`] is append-only. [`Log::append`] returns when the record is as durable as was asked
//! ([`Durability`]), or fails, and then there is no answer either. Each record carries the hash of the
//! one before it, so a changed, missing or reordered record is found: on the next start in the last
//! segment, by [`Log::verify`] anywhere. A failed write or sync ends the log: nothing is appended behind
//! a hole.
//!
//! What the chain cannot show by itself: a tail cut at the end of a line, and a change of the very last
//! line, of which no other line holds the hash. Both are found against what somebody else holds of the
//! log: the heads in the sealed store, or a later checkpoint.

mod commit;
mod disk;
mod error;
mod line;
pub mod log;
pub mod record;
pub mod refusals;
mod scan;
mod standing;
pub mod tlog;
mod writer;

#[cfg(test)]
mod tests;

pub use error::{Cause, Damage, LogError, OpenError};
pub use log::{Known, Log, Options, Recovered};
pub use record::{Batch, BatchGroup, BatchItem, HeadMark, Kind, Outcome, Record};
pub use refusals::Refusals;
pub use scan::{Torn, Verified};

/// What a record survives when [`Log::append`] has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// In the kernel: the death of the process. Synced at most 100 ms later, so a loss of power may cost it.
    Write,
    /// On the disk: a loss of power too, as far as the disk honours fdatasync.
    Fsync,
}
