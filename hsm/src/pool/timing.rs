//! Where the time of one call went, for whoever wants to know. The pool takes these times anyway; they are told with the
//! result, and nothing is made of them here.

use std::{sync::Arc, time::Duration};

use crate::{algorithms::Lane, error::Error, protocol::Moment, protocol::Response};

/// One call, as its lane saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Which lane.
    pub lane: Lane,
    /// When it came into the queue.
    pub queued_at: Moment,
    /// How a worker answered it; nothing if none has.
    pub served: Option<Served>,
}

/// What one worker did for a call. Of a call that was sent again it is the last time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// The worker's number in its lane.
    pub seat: usize,
    /// When the packet with the call was made.
    pub sent_at: Moment,
    /// When the packet with its answer was read.
    pub answered_at: Moment,
    /// How long the worker says that it took.
    pub service: Duration,
    /// Whether the key's row went along, so that the worker had to load the key first.
    pub with_row: bool,
}

/// Somebody who is told of each call as it ends: of its times, never of what was in it.
pub trait Watch: Send + Sync {
    /// A call has ended, well or not. Called by whoever waited for the call: it must not block.
    fn ended(&self, timing: &Timing);
}

/// A result on its way to whoever waits for it.
pub(super) struct Told {
    pub(super) result: Result<Response, Error>,
    pub(super) queued_at: Moment,
    pub(super) served: Option<Served>,
}

/// Whoever is told, if anybody.
#[derive(Clone, Default)]
pub(super) struct Watched(pub(super) Option<Arc<dyn Watch>>);

impl Watched {
    /// A result has come.
    pub(super) fn told(&self, lane: Lane, told: Told) -> Result<Response, Error> {
        if let Some(watch) = &self.0 {
            watch.ended(&Timing { lane, queued_at: told.queued_at, served: told.served });
        }
        told.result
    }

    /// No result has come in time.
    pub(super) fn gave_up(&self, lane: Lane, queued_at: Moment) {
        if let Some(watch) = &self.0 {
            watch.ended(&Timing { lane, queued_at, served: None });
        }
    }
}
