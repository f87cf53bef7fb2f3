//! When versions were last used. Not sealed, and a little behind what was done: a help for those who tidy up.

use crate::model::{Timestamp, VersionId};

/// What is known of the use of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activity {
    /// When it was last used.
    pub used: Timestamp,
    /// How often, since it is noted.
    pub uses: u64,
}

/// More uses of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// Of which version.
    pub version: VersionId,
    /// When the newest of them was.
    pub used: Timestamp,
    /// How many.
    pub uses: u64,
}
