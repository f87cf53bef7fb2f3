//! What replicas tell each other through the store: which changes are visible, who is there, whose turn it is.
//!
//! *Order.* Every change has a [`Position`]. "Heard up to P" means that every change before P is visible to whoever
//! heard; so a replica that has heard up to P knows a change at position X if X < P.
//!
//! *Trust.* Heads and replicas' rows are sealed. [`Beat`]s and leases are not: with them who writes the database can
//! hold work up, and make a replica believe that another has heard a change; but no right and no row comes of them.

use std::time::Duration;

use strongroom_hsm::Seal;

use super::{HeadRow, HeadScope, Sealed};
use crate::model::{ReplicaName, ReplicaRow, RowId};

/// Where a change stands among all changes of the store. Grows, with gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position(pub u64);

/// One row of a change, as those hear of it who did not make it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which row.
    pub id: RowId,
    /// Revision and seal of the row before, unless it is new.
    pub old: Option<(u64, Seal)>,
    /// Revision and seal of the row now, unless it was taken away.
    pub new: Option<(u64, Seal)>,
    /// Whether the row now is in use, and not softly deleted.
    pub in_use: bool,
    /// Whether it says what the row before said: it was only sealed, or wrapped, anew.
    pub renews: bool,
}

/// The new head of a scope, and the rows it differs by from the head before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadChange {
    /// The head: revision 1 is inserted, any other replaces the one before.
    pub head: Sealed<HeadRow>,
    /// Kept beside it until [`super::Store::forget_steps`].
    pub steps: Vec<Step>,
}

/// What has become visible.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The scopes that were changed, with the revisions of their heads. Some may have been heard of before.
    pub heads: Vec<(HeadScope, u64)>,
    /// Up to where.
    pub position: Position,
}

/// How a scope came to its newest head, read at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// The newest head.
    pub head: Sealed<HeadRow>,
    /// The steps of each change after the revision that was asked for, oldest first: one for each revision.
    pub changes: Vec<Vec<Step>>,
}

/// A sign of life of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Whose.
    pub replica: ReplicaName,
    /// Up to where it has heard.
    pub heard: Position,
    /// The revision of the instance's row by whose keys all its workers go.
    pub adopted: u64,
    /// Its release.
    pub version: String,
    /// Where it serves.
    pub address: String,
    /// What is not well with it, in a few words; empty when all is.
    pub trouble: String,
}

/// A replica, as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Its row: who it is, and how far its log was when it last said so.
    pub row: Sealed<ReplicaRow>,
    /// Its last sign of life, with its age by the store's clock; none from one that never served.
    pub beat: Option<(Beat, Duration)>,
}

/// The right to do a piece of scheduled work alone, for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkLease {
    /// Of what work.
    pub name: String,
    /// Grows by one with every holder: a change made with an older one is refused, however late its holder wakes up.
    pub token: u64,
}
