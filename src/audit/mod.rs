//! The audit record: what was asked, by whom, and what became of it; written before the answer.
//!
//! A [`Log`] is append-only. [`Log::append`] returns when the record is as durable as was asked
//! ([`Durability`]), or fails, and then there is no answer either. The records are the leaves of a Merkle tree, whose
//! newest root the HSM signs about once a second (ADR 0009): so a changed, missing or reordered record is found, and
//! a cut tail by whoever holds a later checkpoint. A failed write or sync ends the log: nothing is appended behind
//! a hole.
//!
//! ```text
//! append -> journal/            durable -> advance -> tile/, tile/entries/ -> publish -> checkpoint
//! ```

mod cut;
mod error;
mod follow;
pub mod handover;
pub mod index;
mod journal;
pub mod log;
pub mod prove;
pub mod prune;
mod read;
pub mod record;
mod recover;
pub mod refusals;
mod tiles;
pub mod tlog;
mod verify;
pub mod witness;

#[cfg(test)]
mod tests;

pub use cut::{CutError, HeldJournal};
pub use error::{Cause, Damage, LogError, OpenError};
pub use follow::TreeHead;
pub use handover::Handover;
pub use index::Index;
pub use journal::scan::Torn;
pub use log::{Known, Log, Options, Recovered};
pub use read::{Entries, ReadError, Reader};
pub use record::{Batch, BatchGroup, BatchItem, HeadMark, Kind, Outcome, Record};
pub use refusals::Refusals;
pub use verify::{Against, Progress, Verified, verify, verify_watched};

use crate::model::{Ordinal, ReplicaName};

/// The name of a replica's log: the instance's id in hexadecimal digits, and unless it is the first replica's, `/` and
/// the replica's name. One instance has as many logs as replicas.
#[must_use]
pub fn log_name(instance: &[u8; 16], ordinal: Ordinal, replica: &ReplicaName) -> String {
    let id = base16ct::lower::encode_string(instance);
    if ordinal == Ordinal::default() { id } else { format!("{id}/{replica}") }
}

/// The origin of a log's checkpoints, which is also the name of the key that signs them: `strongroom/{log}`.
/// `None` if that is not the name of a log ([`log_name`]).
#[must_use]
pub fn origin(log: &str) -> Option<String> {
    let (instance, replica) = log.split_once('/').map_or((log, None), |(instance, replica)| (instance, Some(replica)));
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_id = (1..=64).contains(&instance.len()) && instance.bytes().all(is_hex);
    let is_replica = replica.is_none_or(|replica| replica.parse::<ReplicaName>().is_ok());
    (is_id && is_replica).then(|| format!("strongroom/{log}"))
}

/// What a record survives when [`Log::append`] has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// In the kernel: the death of the process. Synced at most 100 ms later, so a loss of power may cost it.
    Write,
    /// On the disk: a loss of power too, as far as the disk honours fdatasync.
    Fsync,
}
