//! What a log's folder shows a witness: its checkpoint, and the proof that its tree continues an older one.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::audit::tlog::{
    Checkpoint, Hash, NodesError, SignedNote, TileNodes,
    proof::{self, MakeError},
};

/// Why a folder shows nothing.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The checkpoint cannot be read.
    #[error("cannot read {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is no checkpoint.
    #[error("{0} is not a checkpoint")]
    NotACheckpoint(PathBuf),
    /// A tile is missing or not whole.
    #[error("the tree cannot be read")]
    Tiles(#[from] NodesError<io::Error>),
}

/// The checkpoint in a log's folder, and the proof that its tree continues that of the first `old` records. Nothing is
/// believed yet. The proof is empty where there is none: the log is shorter than that. Blocks.
///
/// # Errors
/// [`SourceError`]. Where the log is in use, tiles may be replaced between two looks: ask again.
pub fn shown(dir: &Path, old: u64) -> Result<(SignedNote, Vec<Hash>), SourceError> {
    let path = dir.join("checkpoint");
    let bytes = fs::read(&path).map_err(|source| SourceError::Io { path: path.clone(), source })?;
    let note = SignedNote::parse(&bytes).ok();
    let read = note.and_then(|note| Checkpoint::parse(note.text()).ok().map(|checkpoint| (note, checkpoint.size())));
    let (note, size) = read.ok_or(SourceError::NotACheckpoint(path))?;
    let nodes = TileNodes::new(size, |tile| match fs::read(dir.join(tile.path())) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    });
    match proof::consistency(old, size, &nodes) {
        Ok(proof) => Ok((note, proof)),
        Err(MakeError::Nodes(error)) => Err(error.into()),
        Err(MakeError::Shrunk { .. } | MakeError::NoLeaf { .. }) => Ok((note, Vec::new())),
    }
}
