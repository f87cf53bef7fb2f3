//! Errors of the boundary, by what the caller can do about them.

use std::time::Duration;

use crate::protocol::Fault;

/// Why an operation gave no result.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The worker refused or failed: the reason is the worker's.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The lane's queue is full. Nothing was done; try again after `retry_after`.
    #[error("the {lane} lane is full")]
    Overloaded {
        /// The lane's name.
        lane: &'static str,
        /// When there may be room.
        retry_after: Duration,
    },
    /// The deadline passed. Nothing was done, or what was done is not known.
    #[error("the deadline passed")]
    Expired,
    /// What admitted the operation was withdrawn while it waited (a role, the key's state).
    #[error("the admission was withdrawn while the operation waited")]
    Withdrawn,
    /// No worker of the lane can serve: the HSM is away, or its PIN was refused.
    #[error("the HSM is not available: {0}")]
    Unavailable(String),
    /// The worker was lost with the operation under way, and repeating it is not safe or did not help.
    #[error("the HSM worker was lost during the operation")]
    WorkerLost,
}

/// Why the pool could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The worker program could not be run.
    #[error("cannot run the worker program {program}")]
    Spawn {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A worker refused to serve.
    #[error("an HSM worker of the {lane} lane did not start")]
    Refused {
        /// The lane's name.
        lane: &'static str,
        /// Why.
        #[source]
        source: Fault,
    },
    /// A worker ended before it was ready.
    #[error("an HSM worker of the {lane} lane ended before it was ready ({status})")]
    Ended {
        /// The lane's name.
        lane: &'static str,
        /// How it ended.
        status: String,
    },
    /// A worker was not ready in time.
    #[error("an HSM worker of the {lane} lane was not ready within {after:?}")]
    Late {
        /// The lane's name.
        lane: &'static str,
        /// How long was waited.
        after: Duration,
    },
}
