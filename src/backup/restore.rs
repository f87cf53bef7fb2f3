//! Puts a backup into an empty store and an empty log.
//!
//! The log comes first, under a name that no log has, and gets its own when all of it is durable; then the store is filled,
//! which cannot be opened before it is whole. What is interrupted is begun anew by the same command. At last the log gets
//! the intent of the restore, which the first start ends: so nobody restores unseen.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use super::{
    AUDIT, Manifest, TOKEN,
    draft::{make, write_new},
    manifest::files_below,
};

/// Marks a log whose restore is under way: below the log's folder.
const MARK: &str = "restoring";

/// Puts the log of a backup into `dir`, which does not exist or is empty, or has what an interrupted restore of the same
/// backup left. Blocks.
///
/// # Errors
/// [`io::ErrorKind::DirectoryNotEmpty`] when the folder has something else in it.
pub fn put_log(backup: &Path, manifest: &Manifest, dir: &Path) -> io::Result<()> {
    if is_marked(dir, manifest)? {
        return Ok(());
    }
    match fs::read_dir(dir) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                let why = format!("{} is not empty", dir.display());
                return Err(io::Error::new(io::ErrorKind::DirectoryNotEmpty, why));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make(parent)?;
    let name = dir.file_name().ok_or_else(|| io::Error::other("audit.dir has no name"))?.to_string_lossy();
    let aside = parent.join(format!(".{name}.restoring"));
    if aside.exists() {
        fs::remove_dir_all(&aside)?;
    }
    make(&aside)?;
    copy_folder(&backup.join(AUDIT), &aside)?;
    write_new(&aside.join(MARK), manifest.id.as_bytes())?;
    rustix::fs::syncfs(File::open(&aside)?)?;
    // An empty folder in its place is replaced.
    fs::rename(&aside, dir)?;
    File::open(parent)?.sync_all()?;
    Ok(())
}

/// Whether a restore of that backup into the log's folder is under way.
///
/// # Errors
/// When it cannot be read, or is under way of another backup.
pub fn is_marked(dir: &Path, manifest: &Manifest) -> io::Result<bool> {
    match fs::read_to_string(dir.join(MARK)) {
        Ok(id) if id == manifest.id => Ok(true),
        Ok(id) => {
            let why = format!("{} holds the beginning of a restore of the backup {id}", dir.display());
            Err(io::Error::new(io::ErrorKind::DirectoryNotEmpty, why))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The restore is done: the log is one like any other.
///
/// # Errors
/// When the mark cannot be taken away.
pub fn unmark(dir: &Path) -> io::Result<()> {
    fs::remove_file(dir.join(MARK))?;
    File::open(dir)?.sync_all()
}

/// Puts the token's folders back, each of which does not exist or is empty. Blocks.
///
/// # Errors
/// When the backup has none, there are other folders than it has, or one is not empty.
pub fn restore_token(backup: &Path, manifest: &Manifest, folders: &[PathBuf]) -> io::Result<()> {
    let Some(token) = &manifest.token else {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the backup has no token files"));
    };
    if token.folders.len() != folders.len() {
        let why =
            format!("the backup has {} token folders, the configuration names {}", token.folders.len(), folders.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    for (number, folder) in folders.iter().enumerate() {
        if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
            let why = format!("{} is not empty", folder.display());
            return Err(io::Error::new(io::ErrorKind::DirectoryNotEmpty, why));
        }
        make(folder)?;
        copy_folder(&backup.join(TOKEN).join(number.to_string()), folder)?;
        rustix::fs::syncfs(File::open(folder)?)?;
    }
    Ok(())
}

pub(super) fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    for path in files_below(from)? {
        let (from, to) = (from.join(&path), to.join(&path));
        if let Some(parent) = to.parent() {
            make(parent)?;
        }
        write_new(&to, &fs::read(from)?)?;
    }
    Ok(())
}
