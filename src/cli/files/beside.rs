//! A file that takes its target's place when it is whole. Until then it has no name where the file system
//! can do that (`O_TMPFILE`), so that not even a kill leaves it behind; elsewhere it has a name that begins
//! with `.strongroom-` and is removed when the work fails.

use std::{
    fs::{self, File, Permissions},
    io,
    os::{fd::AsRawFd as _, unix::fs::PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use tempfile::{Builder, TempPath};

const PREFIX: &str = ".strongroom-";

/// Where a process finds its open files by number: what gives a file without a name its name.
const OPEN_FILES: &str = "/proc/self/fd";

/// A file beside its target.
#[derive(Debug)]
pub(in crate::cli) struct Beside {
    file: File,
    /// Its name, if it has one.
    name: Option<TempPath>,
    target: PathBuf,
}

impl Beside {
    pub(super) fn prepare(target: PathBuf, mode: u32) -> io::Result<Self> {
        let folder = folder(&target);
        if let Some(file) = nameless(folder, mode) {
            return Ok(Self { file, name: None, target });
        }
        let named = Builder::new().prefix(PREFIX).permissions(Permissions::from_mode(mode)).tempfile_in(folder)?;
        let (file, name) = named.into_parts();
        Ok(Self { file, name: Some(name), target })
    }

    pub(super) fn target(&self) -> &Path {
        &self.target
    }

    pub(super) fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    pub(super) fn finish(self) -> io::Result<()> {
        self.file.sync_all()?;
        match self.name {
            Some(name) => name.persist(&self.target).map_err(|error| error.error),
            None => put_in_place(&self.file, &self.target),
        }
    }
}

fn folder(target: &Path) -> &Path {
    match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn nameless(folder: &Path, mode: u32) -> Option<File> {
    if !Path::new(OPEN_FILES).exists() {
        return None;
    }
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::open(folder, flags, Mode::from_raw_mode(mode)).ok().map(File::from)
}

/// A link does not replace what is there, a rename does; so the file gets a name of its own first.
fn put_in_place(file: &File, target: &Path) -> io::Result<()> {
    let open = format!("{OPEN_FILES}/{}", file.as_raw_fd());
    let name = folder(target).join(format!("{PREFIX}{}", uuid::Uuid::new_v4().simple()));
    rustix::fs::linkat(CWD, open, CWD, &name, AtFlags::SYMLINK_FOLLOW)?;
    fs::rename(&name, target).inspect_err(|_| drop(fs::remove_file(&name)))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn both_kinds_replace_what_was_there_and_leave_nothing_beside_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let target = folder.path().join("target");
        let named = || {
            let named = Builder::new().prefix(PREFIX).tempfile_in(folder.path()).expect("a file");
            let (file, name) = named.into_parts();
            Beside { file, name: Some(name), target: target.clone() }
        };
        for (text, beside) in [("one", Beside::prepare(target.clone(), 0o600).expect("prepared")), ("two", named())] {
            beside.file().expect("a file").write_all(text.as_bytes()).expect("written");
            beside.finish().expect("in place");
            assert_eq!(fs::read_to_string(&target).expect("read"), text);
            assert_eq!(fs::metadata(&target).expect("there").permissions().mode() & 0o777, 0o600);
        }
        drop(named());
        assert_eq!(fs::read_dir(folder.path()).expect("read").count(), 1);
    }
}
