//! A backup in the making: a folder under a name that no backup has, until all of it is durable.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use strongroom_hsm::worker::pin_files;

use super::{
    AUDIT, Place, STORE, TOKEN,
    manifest::{BYTES_MAX, FileEntry, MANIFEST, Manifest, digest, files_below, measure},
};
use crate::{
    failpoint,
    model::{ReplicaName, Timestamp},
};

/// What the name of an unfinished one ends with; it begins with a dot, the instance and the replica.
const UNFINISHED: &str = ".unfinished";
/// How often the token's files are read until two readings agree.
const TOKEN_READINGS_MAX: u32 = 20;
/// How long is waited between two readings.
const TOKEN_PAUSE: Duration = Duration::from_millis(100);

/// A backup that is not one yet. Dropped, it is taken away.
#[derive(Debug)]
pub struct Draft {
    place: PathBuf,
    folder: PathBuf,
    name: String,
    is_kept: bool,
}

impl Draft {
    /// Begins one, and takes away what this replica of this instance has left unfinished. Blocks, as all here.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn begin(place: &Place, instance: &str, replica: &ReplicaName, id: &str, now: Timestamp) -> io::Result<Self> {
        // Instances may share a folder, and their replicas have the same names.
        let mark = format!(".{instance}-{replica}@");
        for entry in fs::read_dir(&place.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let is_left = name.to_str().is_some_and(|name| name.starts_with(&mark) && name.ends_with(UNFINISHED));
            if is_left {
                tracing::warn!(folder = %entry.path().display(), "a backup that was not finished is taken away");
                fs::remove_dir_all(entry.path())?;
            }
        }
        let name = format!("{}-{replica}-{}", compact(now), id.get(..8).unwrap_or(id));
        let folder = place.dir.join(format!("{mark}{name}{UNFINISHED}"));
        make(&folder)?;
        let draft = Self { place: place.dir.clone(), folder, name, is_kept: false };
        make(&draft.audit())?;
        Ok(draft)
    }

    /// Where the store goes.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.folder.join(STORE)
    }

    /// Where the log goes.
    #[must_use]
    pub fn audit(&self) -> PathBuf {
        self.folder.join(AUDIT)
    }

    /// The name it will have.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Copies the token's folders. The module writes its files while it serves, and does not sync them: they are read until
    /// two readings agree.
    ///
    /// # Errors
    /// When they cannot be read, or do not keep still.
    pub fn copy_token(&self, place: &Place) -> io::Result<()> {
        let kept_out: Vec<PathBuf> = pin_files(&place.pin_file)
            .into_iter()
            .chain(place.recovery_key_file.clone())
            .filter_map(|path| fs::canonicalize(path).ok())
            .collect();
        for (number, from) in place.token_dirs.iter().enumerate() {
            let to = self.folder.join(TOKEN).join(number.to_string());
            let mut before = None;
            let mut readings = 0;
            loop {
                let read = read_folder(from, &kept_out);
                match read {
                    Ok(files) if before.as_ref() == Some(&files) => {
                        put_folder(&to, &files)?;
                        break;
                    }
                    Ok(files) => before = Some(files),
                    // A file that was there a moment ago: an object was destroyed.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => before = None,
                    Err(error) => return Err(error),
                }
                readings += 1;
                if readings > TOKEN_READINGS_MAX {
                    let why = format!("the files in {} change all the time: try again", from.display());
                    return Err(io::Error::new(io::ErrorKind::ResourceBusy, why));
                }
                std::thread::sleep(TOKEN_PAUSE);
            }
        }
        Ok(())
    }

    /// Every file, measured.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn files(&self) -> io::Result<Vec<FileEntry>> {
        let entry = |path: PathBuf| {
            let (size, sha256) = measure(&self.folder.join(&path))?;
            let path = path.to_str().ok_or_else(|| io::Error::other("a file's name is not UTF-8"))?.to_owned();
            Ok(FileEntry { path, size, sha256 })
        };
        files_below(&self.folder)?.into_iter().map(entry).collect()
    }

    /// Writes the manifest, makes all of it durable, and gives it its name: its folder, and the manifest's SHA-256.
    ///
    /// # Errors
    /// When something cannot be written: then there is no backup.
    pub fn finish(mut self, manifest: &Manifest) -> io::Result<(PathBuf, String)> {
        let bytes = manifest.to_bytes();
        if bytes.len() as u64 > BYTES_MAX {
            let why = format!("its manifest has {} bytes, and no more than {BYTES_MAX} are read", bytes.len());
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
        write_new(&self.folder.join(MANIFEST), &bytes)?;
        if failpoint::hit(failpoint::BACKUP_BEFORE_RENAME) {
            return Err(io::Error::other("the fail-point"));
        }
        // Thousands of files: one sync of the file system instead of one for each.
        rustix::fs::syncfs(File::open(&self.folder)?)?;
        let finished = self.place.join(&self.name);
        // Two of one second have other ids; a name that is taken is somebody else's.
        if finished.exists() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} exists", finished.display())));
        }
        fs::rename(&self.folder, &finished)?;
        self.is_kept = true;
        File::open(&self.place)?.sync_all()?;
        Ok((finished, digest(&bytes)))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_kept
            && let Err(error) = fs::remove_dir_all(&self.folder)
        {
            tracing::warn!(folder = %self.folder.display(), %error, "an unfinished backup could not be taken away; the next one tries again");
        }
    }
}

/// `20270301T020000Z`.
fn compact(time: Timestamp) -> String {
    time.to_string().chars().filter(|c| !matches!(c, '-' | ':')).collect()
}

pub(super) fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

pub(super) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

type Files = Vec<(PathBuf, Vec<u8>)>;

/// The files of a folder, but for some, by their canonical paths.
fn read_folder(folder: &Path, kept_out: &[PathBuf]) -> io::Result<Files> {
    let is_kept_out = |path: &Path| fs::canonicalize(path).is_ok_and(|path| kept_out.contains(&path));
    let paths = files_below(folder)?.into_iter().filter(|path| !is_kept_out(&folder.join(path)));
    paths.map(|path| Ok((path.clone(), fs::read(folder.join(&path))?))).collect()
}

fn put_folder(to: &Path, files: &Files) -> io::Result<()> {
    make(to)?;
    for (path, bytes) in files {
        let path = to.join(path);
        if let Some(parent) = path.parent() {
            make(parent)?;
        }
        write_new(&path, bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_opens_the_token_is_not_beside_it() {
        let [backups, token] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        for name in ["object", "pin", "pin.new", "pin.draft", "recovery.pem"] {
            fs::write(token.path().join(name), name).expect("written");
        }
        // It is found by another name, too.
        std::os::unix::fs::symlink(token.path().join("pin"), backups.path().join("pin")).expect("linked");
        for pin_file in [token.path().join("pin"), backups.path().join("pin")] {
            let place = Place {
                dir: backups.path().to_owned(),
                token_dirs: vec![token.path().to_owned()],
                pin_file,
                recovery_key_file: Some(token.path().join("recovery.pem")),
            };
            let replica = "main".parse().expect("a name");
            let draft = Draft::begin(&place, "00ff", &replica, "0123456789", Timestamp(1)).expect("begun");
            draft.copy_token(&place).expect("copied");
            let files: Vec<String> = draft.files().expect("measured").into_iter().map(|file| file.path).collect();
            assert_eq!(files, ["token/0/object"]);
        }
    }
}
