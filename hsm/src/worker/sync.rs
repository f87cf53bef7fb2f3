//! Makes a token's files durable. SoftHSM writes them without fsync: what was acknowledged could be gone
//! after a power loss.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use crate::protocol::Fault;

/// A token's folders are shallow; deeper is something else.
const DEPTH_MAX: usize = 8;

/// Syncs every file below the folders, and the folders themselves after what is in them.
///
/// # Errors
/// [`Fault::Setup`]: what was done is there, but may not survive a power loss.
pub(crate) fn sync(folders: &[PathBuf]) -> Result<(), Fault> {
    folders.iter().try_for_each(|folder| {
        sync_folder(folder, DEPTH_MAX).map_err(|error| {
            Fault::Setup(format!("the token's files in {} cannot be synced: {error}", folder.display()))
        })
    })
}

fn sync_folder(folder: &Path, depth: usize) -> io::Result<()> {
    if depth == 0 {
        return Err(io::Error::other("folders nested too deep"));
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sync_folder(&entry.path(), depth - 1)?;
        } else if kind.is_file() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(folder)?.sync_all()
}
