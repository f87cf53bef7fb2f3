//! The PIN, from a file, and the latch that keeps a refused one from being tried again.
//!
//! A token locks after a few wrong PINs. A worker that is restarted for ever with a wrong PIN file would
//! lock it within a second, so the first refusal leaves a file behind, and while it is there nobody logs
//! in. It is on disk before the refusal is answered: a crash between the two must not try again.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown},
    path::{Path, PathBuf},
};

use super::code::Failed;
use crate::{protocol::Fault, secret::SecretBytes};

/// The latch's file, in the state folder. An operator clears it by removing it.
pub const LATCH_FILE: &str = "pin-refused";

/// How the file of the next PIN is named: this behind the name of the PIN file.
const NEXT: &str = ".new";
/// And while it is being written.
const DRAFT: &str = ".draft";

/// PKCS#11 has no limit; no token takes longer ones.
const PIN_BYTES_MAX: u64 = 255;

/// Reads a PIN, less one newline at its end.
///
/// # Errors
/// [`Fault::Setup`] when the file cannot be read, is empty or too long, or may be read by its group or
/// by others.
pub(crate) fn read(path: &Path) -> Result<SecretBytes, Fault> {
    let setup = |why: &str| Fault::Setup(format!("the PIN file {} {why}", path.display()));
    let mut file = File::open(path).map_err(|error| setup(&format!("cannot be opened: {error}")))?;
    let about = file.metadata().map_err(|error| setup(&format!("cannot be examined: {error}")))?;
    if about.mode() & 0o077 != 0 {
        return Err(setup("may be read by others: its mode must be 0600 or 0400"));
    }
    // A named pipe or credential descriptor has no length; a file's is checked before it is read.
    if about.len() > PIN_BYTES_MAX + 1 {
        return Err(setup("is too long for a PIN"));
    }
    // One more than the longest PIN with its newline, allocated at once: no copy is left behind.
    let mut buffer = zeroize::Zeroizing::new([0u8; 257]);
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(setup(&format!("cannot be read: {error}"))),
        }
    }
    let pin = buffer[..length].strip_suffix(b"\n").unwrap_or(&buffer[..length]);
    if pin.is_empty() {
        return Err(setup("is empty"));
    }
    if pin.len() > 255 {
        return Err(setup("is too long for a PIN"));
    }
    Ok(SecretBytes::new(pin.to_vec()))
}

/// Whether two PINs are the same.
pub(crate) fn same(one: &SecretBytes, other: &SecretBytes) -> bool {
    one.is_same_as(other)
}

/// Where the next PIN is while it is being changed: beside the file, `.new` behind its name.
#[must_use]
pub fn staged_path(pin_file: &Path) -> PathBuf {
    beside(pin_file, NEXT)
}

/// Every file that may hold a PIN: that one, and those beside it while it is being changed.
#[must_use]
pub fn files(pin_file: &Path) -> [PathBuf; 3] {
    ["", NEXT, DRAFT].map(|ending| beside(pin_file, ending))
}

/// What a link leads to is what is replaced.
fn beside(pin_file: &Path, ending: &str) -> PathBuf {
    let mut path = target(pin_file).into_os_string();
    path.push(ending);
    path.into()
}

fn target(pin_file: &Path) -> PathBuf {
    fs::canonicalize(pin_file).unwrap_or_else(|_| pin_file.to_owned())
}

/// The next PIN, if there is one.
///
/// # Errors
/// As [`read`].
pub(crate) fn staged(pin_file: &Path) -> Result<Option<SecretBytes>, Fault> {
    let path = staged_path(pin_file);
    match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        _ => read(&path).map(Some),
    }
}

/// Writes the next PIN, whole or not at all, with the owner and mode of the one there is.
///
/// # Errors
/// [`Fault::Setup`] where the file cannot be replaced, as one of a credential.
pub(crate) fn stage(pin_file: &Path, pin: &SecretBytes) -> Result<(), Fault> {
    write_staged(pin_file, pin).map_err(|error| {
        Fault::Setup(format!(
            "nothing can be written beside the PIN file {}: {error}. Where a credential or a secret manager gives the PIN, \
             docs/own-keys.md says in what order to change it",
            pin_file.display()
        ))
    })
}

fn write_staged(pin_file: &Path, pin: &SecretBytes) -> io::Result<()> {
    let about = fs::metadata(pin_file)?;
    if !about.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"));
    }
    let draft = beside(pin_file, DRAFT);
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = || {
        // A new one: whoever may write there does not choose what root writes to and gives away.
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        let now = file.metadata()?;
        if (now.uid(), now.gid()) != (about.uid(), about.gid()) {
            fchown(&file, Some(about.uid()), Some(about.gid()))?;
        }
        file.write_all(pin.expose_secret())?;
        file.write_all(b"\n")?;
        file.set_permissions(about.permissions())?;
        file.sync_all()?;
        fs::rename(&draft, staged_path(pin_file))
    };
    let outcome = written();
    if outcome.is_err() {
        let _ = fs::remove_file(&draft);
    }
    outcome?;
    sync_folder(pin_file)
}

/// Puts the next PIN in the place of the one there was.
///
/// # Errors
/// [`Fault::Setup`] when that is not possible.
pub(crate) fn finish(pin_file: &Path) -> Result<(), Fault> {
    let done = fs::rename(staged_path(pin_file), target(pin_file)).and_then(|()| sync_folder(pin_file));
    done.map_err(|error| Fault::Setup(format!("the PIN file {} cannot be replaced: {error}", pin_file.display())))
}

/// Takes the next PIN away: the token has not taken it.
///
/// # Errors
/// [`Fault::Setup`] when that is not possible.
pub(crate) fn unstage(pin_file: &Path) -> Result<(), Fault> {
    let path = staged_path(pin_file);
    let done = fs::remove_file(&path).and_then(|()| sync_folder(pin_file));
    done.map_err(|error| Fault::Setup(format!("{} cannot be removed: {error}", path.display())))
}

fn sync_folder(pin_file: &Path) -> io::Result<()> {
    let path = target(pin_file);
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// Refuses when the latch is set.
///
/// # Errors
/// [`Fault::PinRefused`]; [`Fault::Setup`] when it cannot be known.
pub(crate) fn check_latch(state_dir: &Path) -> Result<(), Fault> {
    let latch = state_dir.join(LATCH_FILE);
    match fs::symlink_metadata(&latch) {
        Ok(_) => Err(Fault::PinRefused),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Fault::Setup(format!("the PIN latch {} cannot be examined: {error}", latch.display()))),
    }
}

/// Sets the latch, durably.
///
/// # Errors
/// [`Fault::Setup`] when it cannot be written.
pub(crate) fn set_latch(state_dir: &Path, refused: Failed) -> Result<(), Fault> {
    write_latch(state_dir, refused).map_err(|error| {
        Fault::Setup(format!("the PIN was refused, and the latch in {} cannot be set: {error}", state_dir.display()))
    })
}

fn write_latch(state_dir: &Path, refused: Failed) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(state_dir.join(LATCH_FILE))?;
    writeln!(
        file,
        "The HSM refused the PIN ({} returned {}).\nNo login is tried while this file is here. Correct the PIN file, then remove it.",
        refused.function.name(),
        refused.code
    )?;
    file.sync_all()?;
    File::open(state_dir)?.sync_all()
}

/// Says in the latch why the next PIN was not tried either.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn explain_latch(state_dir: &Path, fault: &Fault) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).open(state_dir.join(LATCH_FILE))?;
    writeln!(file, "A change of the PIN is not finished, and the next one was not taken: {fault}.")?;
    file.sync_all()
}

/// Takes the latch away, durably: the next PIN is the right one.
///
/// # Errors
/// [`Fault::Setup`] when that is not possible.
pub(crate) fn clear_latch(state_dir: &Path) -> Result<(), Fault> {
    let latch = state_dir.join(LATCH_FILE);
    let removed = match fs::remove_file(&latch) {
        // It could not be written either.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        removed => removed,
    };
    removed.and_then(|()| File::open(state_dir)?.sync_all()).map_err(|error| {
        Fault::Setup(format!(
            "the token has the next PIN, and the latch {} cannot be removed: {error}; remove it",
            latch.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn pin_file(content: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pin");
        fs::write(&path, content).expect("writes");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("permits");
        (folder, path)
    }

    #[test]
    fn one_newline_at_the_end_is_not_part_of_a_pin() {
        for (content, pin) in [(&b"1234"[..], &b"1234"[..]), (b"1234\n", b"1234"), (b"12 34\n\n", b"12 34\n")] {
            let (_folder, path) = pin_file(content, 0o600);
            assert_eq!(read(&path).expect("reads").expose_secret(), pin);
        }
    }

    #[test]
    fn a_pin_file_that_others_may_read_is_refused() {
        for mode in [0o640, 0o604, 0o644] {
            let (_folder, path) = pin_file(b"1234", mode);
            assert!(matches!(read(&path), Err(Fault::Setup(_))), "{mode:o}");
        }
    }

    #[test]
    fn an_empty_or_overlong_pin_is_refused() {
        for content in [&b""[..], b"\n", &[b'1'; 300]] {
            let (_folder, path) = pin_file(content, 0o400);
            assert!(matches!(read(&path), Err(Fault::Setup(_))));
        }
    }

    #[test]
    fn a_set_latch_refuses() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(check_latch(folder.path()), Ok(()));
        let refused = Failed {
            function: super::super::code::Function::Login,
            code: super::super::code::Code(cryptoki_sys::CKR_PIN_INCORRECT),
        };
        set_latch(folder.path(), refused).expect("writes");
        assert_eq!(check_latch(folder.path()), Err(Fault::PinRefused));
    }
}
