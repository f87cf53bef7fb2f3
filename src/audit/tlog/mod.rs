//! The Merkle log, without its files: hashes, tiles, proofs, signed notes, checkpoints, receipts.
//!
//! The formats are those of C2SP (`tlog-tiles`, `signed-note`, `tlog-checkpoint`, `tlog-cosignature`, `tlog-proof`) over
//! the tree of RFC 6962, so that the tools and witnesses of others can read the log, and verify it without us.
//!
//! Pure: this folder knows no file, no clock and no record. Whoever reads or writes hands bytes in and takes bytes out.

pub mod builder;
pub mod checkpoint;
pub mod cosignature;
pub mod hash;
pub mod key;
pub mod nodes;
pub mod note;
pub mod proof;
pub mod receipt;
mod text;
pub mod tile;

#[cfg(test)]
mod tests;

pub use checkpoint::{Checkpoint, CheckpointError};
pub use cosignature::Cosigner;
pub use hash::{Frontier, Hash};
pub use key::{KeyError, KeyKind, VerifierKey};
pub use nodes::{NodesError, TileNodes};
pub use note::{NoteError, Signature, SignedNote, Signer};
pub use proof::{Nodes, ProofError};
pub use receipt::{Receipt, ReceiptError};
pub use tile::Tile;
