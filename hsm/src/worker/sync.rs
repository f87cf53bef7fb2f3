//! Makes a token's files durable. SoftHSM writes them without fsync: what was acknowledged could be gone
//! after a power loss.

use std::{
    fs::{self, DirEntry, File},
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

fn sync_entry(entry: &DirEntry, depth: usize) -> io::Result<()> {
    let kind = entry.file_type()?;
    if kind.is_dir() {
        sync_folder(&entry.path(), depth - 1)
    } else if kind.is_file() {
        File::open(entry.path())?.sync_all()
    } else {
        Ok(())
    }
}

fn sync_folder(folder: &Path, depth: usize) -> io::Result<()> {
    if depth == 0 {
        return Err(io::Error::other("folders nested too deep"));
    }
    for entry in fs::read_dir(folder)? {
        match sync_entry(&entry?, depth) {
            // Another process has this token, too, and has destroyed an object since the folder was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result?,
        }
    }
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        thread,
    };

    use super::*;

    #[test]
    fn what_another_destroys_meanwhile_does_not_matter() {
        let folder = tempfile::tempdir().expect("a folder");
        let end = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut turn = 0_u64;
                while !end.load(Ordering::Relaxed) {
                    let file = folder.path().join(format!("{}.object", turn % 32));
                    fs::write(&file, "an object").expect("writes");
                    fs::remove_file(&file).expect("removes");
                    turn += 1;
                }
            });
            let synced: Vec<_> = (0..500).map(|_| sync(&[folder.path().to_owned()])).collect();
            end.store(true, Ordering::Relaxed);
            assert!(synced.iter().all(Result::is_ok), "{synced:?}");
        });
    }

    #[test]
    fn a_folder_that_is_not_there_is_a_fault() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(sync(&[folder.path().join("none")]).is_err());
    }
}
