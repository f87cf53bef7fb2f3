//! The Merkle log, without its files: hashes, tiles, proofs, signed notes, checkpoints, receipts.
//!
//! The formats are those of C2SP (`tlog-tiles`, `signed-note`, `tlog-checkpoint`, `tlog-cosignature`, `tlog-proof`) over
//! the tree of RFC 6962, so that the tools and witnesses of others can read the log, and verify it without us.
//!
//! Pure: this folder knows no file, no clock and no record. Whoever reads or writes hands bytes in and takes bytes out.

pub mod hash;
pub mod nodes;
pub mod proof;
pub mod tile;

#[cfg(test)]
mod tests;

pub use hash::{Frontier, Hash};
pub use nodes::{NodesError, TileNodes};
pub use proof::{Nodes, ProofError};
pub use tile::Tile;
