//! The journal: where a record is written before its answer, and read again when the process has died.
//!
//! It holds the newest records, until they are in the tiles of the tree and covered by a checkpoint.

pub(super) mod commit;
pub(super) mod debt;
pub(super) mod disk;
pub(super) mod line;
pub(super) mod scan;
pub(super) mod standing;
pub(super) mod writer;
