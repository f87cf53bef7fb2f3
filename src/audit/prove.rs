//! Proofs out of a log that is in use, or of a copy: of what is under its newest checkpoint, by its tiles.
//!
//! Nothing here is checked: whoever is given a proof verifies it, and finds what is wrong with the tiles.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    OpenError,
    tiles::Tiles,
    tlog::{
        Checkpoint, CheckpointError, Hash, NodesError, NoteError, Receipt, ReceiptError, SignedNote, Tile, TileNodes,
        proof::{self, MakeError},
    },
};

/// How often a proof is begun anew when tiles were replaced under it by those of a newer checkpoint.
const TRIES_MAX: u32 = 5;

/// Makes proofs.
#[derive(Clone, Debug)]
pub struct Prover {
    dir: PathBuf,
}

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// Nothing was signed yet.
    #[error("the log has no checkpoint yet: the first is made within about a second of the first record")]
    Unsigned,
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The checkpoint is none.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// There is no such leaf or tree, or a tile cannot be read.
    #[error(transparent)]
    Make(#[from] MakeError<NodesError<io::Error>>),
    /// The proof is not one that a receipt can have.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
}

/// A checkpoint, and that its tree is an extension of an older one.
#[derive(Clone, Debug)]
pub struct Extension {
    /// The signed note.
    pub note: String,
    /// The proof of consistency: RFC 9162, section 2.1.4.
    pub proof: Vec<Hash>,
}

impl Prover {
    /// Proofs of the log in that folder.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The newest checkpoint, with the proof that the tree of the first `old` records is the beginning of its tree.
    /// Blocks.
    ///
    /// # Errors
    /// [`ProveError`]; [`MakeError::Shrunk`] where the checkpoint has fewer records.
    pub fn extension(&self, old: u64) -> Result<Extension, ProveError> {
        self.steadily(|note, checkpoint| {
            let proof = proof::consistency(old, checkpoint.size(), &self.nodes(checkpoint.size()))?;
            Ok(Extension { note: note.to_string(), proof })
        })
    }

    /// The root of the tree of the first `size` records; `None` where the newest checkpoint has fewer, or there is none.
    /// Blocks.
    ///
    /// # Errors
    /// [`ProveError`].
    pub fn root(&self, size: u64) -> Result<Option<Hash>, ProveError> {
        let root = self.steadily(|_, checkpoint| {
            let nodes = self.nodes(checkpoint.size());
            let root = (size <= checkpoint.size()).then(|| proof::root(size, &nodes).map_err(MakeError::Nodes));
            Ok(root.transpose()?)
        });
        match root {
            Err(ProveError::Unsigned) => Ok(None),
            other => other,
        }
    }

    /// The receipt of a record under the newest checkpoint, without the entry. Blocks.
    ///
    /// # Errors
    /// [`ProveError`]; [`MakeError::NoLeaf`] where the checkpoint does not cover the record.
    pub fn receipt(&self, index: u64) -> Result<Receipt, ProveError> {
        self.steadily(|note, checkpoint| {
            let proof = proof::inclusion(index, checkpoint.size(), &self.nodes(checkpoint.size()))?;
            Ok(Receipt::new(index, proof, note.clone())?)
        })
    }

    /// Proves under the newest checkpoint. Partial tiles go when there is a newer one: then that is it.
    fn steadily<T>(&self, prove: impl Fn(&SignedNote, &Checkpoint) -> Result<T, ProveError>) -> Result<T, ProveError> {
        let mut tries = 1;
        loop {
            let text = Tiles::new(&self.dir).checkpoint()?.ok_or(ProveError::Unsigned)?;
            let note = SignedNote::parse(text.as_bytes()).map_err(|error: NoteError| CheckpointError::from(error))?;
            let checkpoint = Checkpoint::parse(note.text())?;
            match prove(&note, &checkpoint) {
                Err(ProveError::Make(MakeError::Nodes(NodesError::Missing(_)))) if tries < TRIES_MAX => tries += 1,
                proved => return proved,
            }
        }
    }

    fn nodes(&self, size: u64) -> TileNodes<impl Fn(Tile) -> io::Result<Option<Vec<u8>>>> {
        let dir = self.dir.clone();
        TileNodes::new(size, move |tile: Tile| match fs::read(dir.join(tile.path())) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
    }
}
