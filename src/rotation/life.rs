//! What is known of a key when its next steps are planned. Made from rows; nothing in here is stored.

use super::RotationPolicy;
use crate::model::{State, Timestamp, VersionId};

/// A key as the planner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyLife {
    /// Which key.
    pub key: [u8; 16],
    /// Whether it is in use, or when it is to be purged.
    pub state: State,
    /// What its owner wants, if that was ever said.
    pub policy: Option<RotationPolicy>,
    /// The newest version, whatever its state.
    pub current: VersionLife,
    /// What was done already. Only what is about the current version counts; more does no harm.
    pub done: Vec<Mark>,
}

/// A version as the planner sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionLife {
    /// Which version.
    pub version: VersionId,
    /// When it was made.
    pub created: Timestamp,
    /// From when on it makes nothing new.
    pub expires: Option<Timestamp>,
    /// Whether it may be used.
    pub enabled: bool,
    /// How often it was used, if its policy has a budget. May lag behind.
    pub uses: u64,
}

/// Something that was done about a version. Kept in the transaction that did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mark {
    /// About which version.
    pub version: VersionId,
    /// What.
    pub kind: WorkKind,
    /// The instant it was due.
    pub at: Timestamp,
}

/// Kinds of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WorkKind {
    /// Make a new version and let it be the current one.
    Rotate,
    /// Say that the current version is near its expiry.
    NotifyNearExpiry,
    /// Say that the current version has expired.
    NotifyExpired,
    /// Destroy a deleted key.
    Purge,
}

impl WorkKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Rotate, Self::NotifyNearExpiry, Self::NotifyExpired, Self::Purge];

    /// The name, as stored, logged and counted.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rotate => "rotate",
            Self::NotifyNearExpiry => "notify-near-expiry",
            Self::NotifyExpired => "notify-expired",
            Self::Purge => "purge",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Make a new version and let it be the current one.
    Rotate {
        /// Why.
        cause: Cause,
    },
    /// Say that the current version is near its expiry.
    NotifyNearExpiry,
    /// Say that the current version has expired.
    NotifyExpired,
    /// Destroy a deleted key.
    Purge,
}

/// Why a key rotates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its time has come.
    Time,
    /// Its current version was used as often as it may be.
    Uses,
}

impl Work {
    /// Its kind.
    #[must_use]
    pub const fn kind(self) -> WorkKind {
        match self {
            Self::Rotate { .. } => WorkKind::Rotate,
            Self::NotifyNearExpiry => WorkKind::NotifyNearExpiry,
            Self::NotifyExpired => WorkKind::NotifyExpired,
            Self::Purge => WorkKind::Purge,
        }
    }
}

/// Something to do about a key.
///
/// `(key, at)` is unique among a key's rotations, `(version, kind, at)` among all work. Whoever does it commits only
/// while `version` is still the current one: a key's rotations by time and by uses have different instants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Which key.
    pub key: [u8; 16],
    /// Which version it is about: the current one.
    pub version: VersionId,
    /// What.
    pub work: Work,
    /// When it is due.
    pub at: Timestamp,
    /// When it is to be begun: `at`, or a little later so that not everything begins at once.
    pub run_at: Timestamp,
}

impl Due {
    /// What is to be kept when it is done.
    #[must_use]
    pub const fn mark(&self) -> Mark {
        Mark { version: self.version, kind: self.work.kind(), at: self.at }
    }
}
