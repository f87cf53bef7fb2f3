//! The folder of a development set-up: what is where in it, whose it is, and that only one process uses it.
//!
//! ```text
//! .strongroom-dev   this folder is ours          env         what a shell needs (0600)
//! lock              held while it is used        tls/        CA, server, client
//! initialising      the token is being made      token/      SoftHSM: softhsm2.conf, tokens/, pin, so-pin
//! store.sqlite      vaults, keys, roles          audit/      the audit log        state/   locks and latch
//! ```

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::FlockOperation;
use strongroom_hsm::worker::{LATCH_FILE, LOCK_FILE};

use crate::cli::{
    compose::{failure, make_folder, sync_folder},
    failure::Failure,
    files::{Content, Out},
};

const MARKER: &str = ".strongroom-dev";
const MARKER_TEXT: &str = "strongroom dev 1\n";
const LOCK: &str = "lock";
const INITIALISING: &str = "initialising";
/// How long a lock is waited for.
const LOCKED_WITHIN: Duration = Duration::from_secs(2);
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// A folder that is ours, and locked.
pub(in crate::cli) struct Place {
    path: PathBuf,
    _lock: Option<File>,
}

impl Place {
    /// Makes the folder or takes one that is ours, and locks it.
    pub(super) fn take(path: &Path) -> anyhow::Result<Self> {
        let said = path.display().to_string();
        make_folder(path)?;
        let path = fs::canonicalize(path).map_err(|error| failure(format!("cannot use {said}"), &error))?;
        let foreign = foreign(&path).map_err(|error| failure(format!("cannot look into {said}"), &error))?;
        if let Some(foreign) = foreign {
            return Err(Failure::new(format!(
                "{said} is not empty and not a folder of `strongroom dev`: it has {foreign}"
            ))
            .hint("name a folder that does not exist, or is empty")
            .into());
        }
        if !path.join(MARKER).exists() {
            // Empty, so it is ours from now on.
            let closed = fs::set_permissions(&path, fs::Permissions::from_mode(0o700));
            closed.map_err(|error| failure(format!("cannot close {said} to others"), &error))?;
        }
        checked(&path)?;
        let lock = lock(&path.join(LOCK), "another `strongroom dev`")?;
        write(&path.join(MARKER), MARKER_TEXT.as_bytes())?;
        let place = Self { path, _lock: Some(lock) };
        for folder in [place.path.join("tls"), place.state()] {
            make_folder(&folder)?;
        }
        Ok(place)
    }

    /// The folder of another process that has taken it: to know what is where, not to change it.
    pub(super) fn seen(path: &Path) -> Self {
        Self { path: path.to_owned(), _lock: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn tls(&self, name: &str) -> PathBuf {
        self.path.join("tls").join(name)
    }

    fn token(&self) -> PathBuf {
        self.path.join("token")
    }

    pub(super) fn token_conf(&self) -> PathBuf {
        self.token().join("softhsm2.conf")
    }

    pub(super) fn tokens(&self) -> PathBuf {
        self.token().join("tokens")
    }

    pub(super) fn pin(&self) -> PathBuf {
        self.token().join("pin")
    }

    pub(super) fn so_pin(&self) -> PathBuf {
        self.token().join("so-pin")
    }

    pub(super) fn store(&self) -> PathBuf {
        self.path.join("store.sqlite")
    }

    pub(super) fn audit(&self) -> PathBuf {
        self.path.join("audit")
    }

    /// Made if it is missing.
    pub(super) fn backups(&self) -> anyhow::Result<PathBuf> {
        let path = self.path.join("backups");
        make_folder(&path)?;
        Ok(path)
    }

    pub(super) fn state(&self) -> PathBuf {
        self.path.join("state")
    }

    /// What callers of the identity endpoint send.
    pub(super) fn identity_header(&self) -> PathBuf {
        self.path.join("identity-header")
    }

    pub(super) fn env(&self) -> PathBuf {
        self.path.join("env")
    }

    /// Whether there is a token, whole or not.
    pub(super) fn has_token(&self) -> bool {
        self.token().exists()
    }

    /// Whether the making of the token was begun and not ended.
    pub(super) fn is_initialising(&self) -> bool {
        self.path.join(INITIALISING).exists()
    }

    /// Takes away what an unfinished making has left, after it is written down that it is unfinished.
    pub(super) fn begin_anew(&self) -> anyhow::Result<()> {
        write(&self.path.join(INITIALISING), b"the token is being made\n")?;
        sync_folder(&self.path)?;
        // A worker whose front was killed holds it until it has done what it was at.
        let _workers = lock(&self.state().join(LOCK_FILE), "an HSM worker of a process that was killed")?;
        for path in [self.token(), self.audit()] {
            absent(fs::remove_dir_all(&path), &path)?;
        }
        let state = Path::new("state").join(LATCH_FILE);
        for name in [Path::new("store.sqlite"), Path::new("store.sqlite-wal"), Path::new("store.sqlite-shm"), &state] {
            let path = self.path.join(name);
            absent(fs::remove_file(&path), &path)?;
        }
        make_folder(&self.tokens())
    }

    /// Writes down that the making has ended.
    pub(super) fn initialised(&self) -> anyhow::Result<()> {
        let path = self.path.join(INITIALISING);
        absent(fs::remove_file(&path), &path)?;
        sync_folder(&self.path)
    }
}

/// Writes a file of ours, mode 0600, whole or not at all.
pub(super) fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    Out::prepare(path, Content::Secret)?.commit(bytes)
}

fn absent(result: io::Result<()>, path: &Path) -> anyhow::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failure(format!("cannot remove {}", path.display()), &error).into())
        }
        _ => Ok(()),
    }
}

/// A folder that others can write to is not one to keep keys in; and its path must fit into SoftHSM's
/// configuration, which knows no quoting.
fn checked(path: &Path) -> anyhow::Result<()> {
    let about = fs::metadata(path).map_err(|error| failure(format!("cannot use {}", path.display()), &error))?;
    if about.mode() & 0o077 != 0 {
        return Err(Failure::new(format!("others may enter {} (mode {:03o})", path.display(), about.mode() & 0o777))
            .hint(format!("chmod 700 {}", super::env::quoted(path)))
            .into());
    }
    let fits = path.to_str().is_some_and(|text| !text.chars().any(|c| c.is_control() || c == '#'));
    if fits { Ok(()) } else { Err(Failure::new("the folder's path has characters that SoftHSM cannot read").into()) }
}

/// Something that is not ours, in a folder that does not say it is.
fn foreign(path: &Path) -> io::Result<Option<String>> {
    if path.join(MARKER).exists() {
        return Ok(None);
    }
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        if name != LOCK {
            return Ok(Some(name.display().to_string()));
        }
    }
    Ok(None)
}

/// Takes a lock. One who was killed a moment ago may hold it a moment longer, so it is waited for a little.
fn lock(path: &Path, by: &str) -> anyhow::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = file.map_err(|error| failure(format!("cannot open {}", path.display()), &error))?;
    let mut waited = Duration::ZERO;
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if waited < LOCKED_WITHIN => {
                std::thread::sleep(LOCK_PAUSE);
                waited += LOCK_PAUSE;
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let folder = path.parent().unwrap_or(path);
                return Err(Failure::new(format!("{} is in use by {by}", folder.display()))
                    .hint("end that one first, or name another folder")
                    .into());
            }
            Err(errno) => {
                return Err(failure(format!("cannot lock {}", path.display()), &io::Error::from(errno)).into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a folder")
    }

    #[test]
    fn a_new_folder_is_closed_to_others_and_locked() {
        let outer = folder();
        let path = outer.path().join("a/b");
        let place = Place::take(&path).expect("is made");
        assert_eq!(fs::metadata(&path).expect("is there").mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(path.join(MARKER)).expect("is there").mode() & 0o777, 0o600);
        assert!(Place::take(&path).is_err_and(|error| error.to_string().contains("in use by another")));
        drop(place);
        assert!(Place::take(&path).is_ok());
    }

    #[test]
    fn a_folder_of_somebody_else_is_left_alone() {
        let outer = folder();
        fs::write(outer.path().join("thesis.tex"), "x").expect("writes");
        assert!(Place::take(outer.path()).is_err_and(|error| error.to_string().contains("thesis.tex")));
        assert_eq!(fs::read_dir(outer.path()).expect("lists").count(), 1);
    }

    #[test]
    fn an_empty_folder_is_closed_and_one_that_was_opened_later_refused() {
        let outer = folder();
        let open = || fs::set_permissions(outer.path(), fs::Permissions::from_mode(0o755)).expect("permits");
        open();
        drop(Place::take(outer.path()).expect("is ours"));
        assert_eq!(fs::metadata(outer.path()).expect("is there").mode() & 0o777, 0o700);
        open();
        assert!(Place::take(outer.path()).is_err_and(|error| error.to_string().contains("chmod 700")));
    }

    #[test]
    fn beginning_anew_takes_away_what_is_made_and_nothing_else() {
        let outer = folder();
        let place = Place::take(outer.path()).expect("is ours");
        fs::write(place.tls("ca.pem"), "x").expect("writes");
        place.begin_anew().expect("begins");
        fs::write(place.pin(), "x").expect("writes");
        fs::write(place.store(), "x").expect("writes");
        assert!(place.is_initialising());
        place.begin_anew().expect("begins");
        assert!(!place.pin().exists() && !place.store().exists() && place.tls("ca.pem").exists());
        place.initialised().expect("ends");
        assert!(!place.is_initialising());
    }
}
