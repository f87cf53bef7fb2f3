//! Files named on the command line: read with a limit, hashed without one, written whole or not at all.
//!
//! `-` is standard input or output. A file that takes a secret is readable by its owner only.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write as _},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use sha2::{Sha256, Sha384, Sha512};
use strongroom_hsm::Digest;
use zeroize::Zeroizing;

use super::failure::Failure;
use beside::Beside;

mod beside;

/// Whether a file takes a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Plaintext, a key, random bytes: mode 0600.
    Secret,
    /// A signature, a ciphertext: the mode that the umask says.
    Public,
}

/// Whether a path stands for standard input or output.
pub(super) fn is_standard(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// A path in words.
pub(super) fn shown(path: &Path, standard: &str) -> String {
    if is_standard(path) { standard.to_owned() } else { path.display().to_string() }
}

/// Opens a file to read.
///
/// # Errors
/// When it cannot be read, or is a folder.
pub(super) fn open(path: &Path) -> anyhow::Result<File> {
    let file = if is_standard(path) {
        // Not `io::stdin()`: its own buffer would keep a copy of a secret.
        File::from(io::stdin().as_fd().try_clone_to_owned().context("cannot read standard input")?)
    } else {
        File::open(path).with_context(|| format!("cannot open {}", path.display()))?
    };
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Err(Failure::new(format!("{} is a folder, not a file", shown(path, "standard input"))).into());
    }
    Ok(file)
}

/// How long an input may be, and what to do with a longer one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    /// In bytes.
    pub(super) bytes_max: usize,
    /// For whoever has more.
    pub(super) hint: &'static str,
}

/// Reads a file within a limit.
///
/// # Errors
/// When it cannot be read, or is longer.
pub(super) fn read(path: &Path, limit: Limit) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let Limit { bytes_max, hint } = limit;
    // One allocation: growing would leave copies of a secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(bytes_max + 1));
    let enough = u64::try_from(bytes_max)?.saturating_add(1);
    let name = shown(path, "standard input");
    open(path)?.take(enough).read_to_end(&mut bytes).with_context(|| format!("cannot read {name}"))?;
    if bytes.len() > bytes_max {
        let message = format!("{name} is longer than the {bytes_max} bytes that are taken here");
        return Err(Failure::new(message).hint(hint).into());
    }
    Ok(bytes)
}

/// Hashes a file of any size in constant memory.
///
/// # Errors
/// When it cannot be read.
pub(super) fn hash(path: &Path, digest: Digest) -> anyhow::Result<Vec<u8>> {
    let file = open(path)?;
    let hashed = match digest {
        Digest::Sha256 => hash_with::<Sha256>(file),
        Digest::Sha384 => hash_with::<Sha384>(file),
        Digest::Sha512 => hash_with::<Sha512>(file),
        Digest::Sha1 => anyhow::bail!("SHA-1 is not a hash for signatures"),
    };
    hashed.with_context(|| format!("cannot read {}", shown(path, "standard input")))
}

fn hash_with<D: sha2::Digest>(mut file: File) -> io::Result<Vec<u8>> {
    let mut hash = D::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hash.finalize().to_vec()),
            Ok(n) => hash.update(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A file that is about to be written. Opened before the work is done, so that a folder that cannot be
/// written to is found first; dropped without [`Out::finish`], it leaves nothing behind.
#[derive(Debug)]
pub(super) enum Out {
    /// Standard output.
    Standard,
    /// A pipe or device: written in place, as it cannot be replaced.
    InPlace(File, PathBuf),
    /// A file beside the target, to take its place when it is whole.
    Beside(Beside),
}

impl Out {
    /// Prepares to write.
    ///
    /// # Errors
    /// When the folder is missing or cannot be written to, or the target is a folder.
    pub(super) fn prepare(path: &Path, content: Content) -> anyhow::Result<Self> {
        if is_standard(path) {
            return Ok(Self::Standard);
        }
        let cannot = || format!("cannot write {}", path.display());
        // Through a link, the file that it points to is replaced, not the link.
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        match fs::metadata(&target).map(|metadata| metadata.file_type()) {
            Ok(kind) if kind.is_dir() => {
                return Err(Failure::new(format!("cannot write {}: it is a folder", path.display())).into());
            }
            Ok(kind) if !kind.is_file() => {
                let file = OpenOptions::new().write(true).open(&target).with_context(cannot)?;
                return Ok(Self::InPlace(file, target));
            }
            Ok(_) | Err(_) => {}
        }
        let mode = if content == Content::Secret { 0o600 } else { 0o666 };
        let beside = Beside::prepare(target, mode).map_err(|error| {
            // The system's own words would name the temporary file, which nobody asked for.
            let why = match error.kind() {
                io::ErrorKind::NotFound => "its folder does not exist".to_owned(),
                kind => io::Error::from(kind).to_string(),
            };
            Failure::new(format!("cannot write {}: {why}", path.display()))
                .hint("write to a folder that exists and that you may write to")
        })?;
        Ok(Self::Beside(beside))
    }

    /// Whether it is standard output: what else there is to say goes to standard error then.
    pub(super) const fn is_standard(&self) -> bool {
        matches!(self, Self::Standard)
    }

    /// Whether others may read what is written before it is whole.
    pub(super) const fn is_seen_at_once(&self) -> bool {
        !matches!(self, Self::Beside(_))
    }

    /// What to write to. Not buffered: a buffer would keep a copy of a secret.
    ///
    /// # Errors
    /// When the process has too many files open.
    pub(super) fn file(&self) -> anyhow::Result<File> {
        let file = match self {
            Self::Standard => io::stdout().as_fd().try_clone_to_owned().map(File::from),
            Self::InPlace(file, _) => file.try_clone(),
            Self::Beside(beside) => beside.file(),
        };
        file.with_context(|| self.cannot())
    }

    /// Puts what was written in place, durably.
    ///
    /// # Errors
    /// When it cannot; the target is then as it was.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        let cannot = self.cannot();
        match self {
            Self::Standard | Self::InPlace(..) => Ok(()),
            Self::Beside(beside) => beside.finish().context(cannot),
        }
    }

    /// Writes everything, durably, and puts it in place.
    ///
    /// # Errors
    /// When it cannot be written; the target is then as it was.
    pub(super) fn commit(self, bytes: &[u8]) -> anyhow::Result<()> {
        self.file()?.write_all(bytes).with_context(|| self.cannot())?;
        self.finish()
    }

    /// For errors.
    pub(super) fn cannot(&self) -> String {
        match self {
            Self::Standard => "cannot write to standard output".to_owned(),
            Self::InPlace(_, path) => format!("cannot write {}", path.display()),
            Self::Beside(beside) => format!("cannot write {}", beside.target().display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use sha2::Digest as _;

    use super::*;

    const TEN: Limit = Limit { bytes_max: 10, hint: "shorten it" };

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("a file").permissions().mode() & 0o777
    }

    #[test]
    fn a_secret_is_for_its_owner_and_replaces_what_was_there() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("plain");
        fs::write(&path, "old").expect("written");
        Out::prepare(&path, Content::Secret).expect("prepared").commit(b"new").expect("written");
        assert_eq!(fs::read(&path).expect("read"), b"new");
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn nothing_is_left_when_the_work_fails() {
        let dir = tempfile::tempdir().expect("a folder");
        drop(Out::prepare(&dir.path().join("out"), Content::Public).expect("prepared"));
        assert_eq!(fs::read_dir(dir.path()).expect("read").count(), 0);
    }

    #[test]
    fn devices_and_links_are_not_replaced() {
        Out::prepare(Path::new("/dev/null"), Content::Secret).expect("prepared").commit(b"x").expect("written");
        assert!(!fs::metadata("/dev/null").expect("still there").is_file());
        let dir = tempfile::tempdir().expect("a folder");
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        fs::write(&real, "").expect("written");
        std::os::unix::fs::symlink(&real, &link).expect("linked");
        Out::prepare(&link, Content::Public).expect("prepared").commit(b"x").expect("written");
        assert_eq!(fs::read(&real).expect("read"), b"x");
        assert!(fs::symlink_metadata(&link).expect("a link").is_symlink());
    }

    #[test]
    fn errors_name_the_file() {
        let missing = Path::new("/nonexistent/in");
        assert_eq!(read(missing, TEN).expect_err("missing").to_string(), "cannot open /nonexistent/in");
        assert!(
            Out::prepare(missing, Content::Public)
                .expect_err("missing")
                .to_string()
                .contains("its folder does not exist")
        );
        let dir = tempfile::tempdir().expect("a folder");
        assert!(read(dir.path(), TEN).expect_err("a folder").to_string().contains("is a folder"));
        let path = dir.path().join("big");
        fs::write(&path, [0; 11]).expect("written");
        let text = read(&path, TEN).expect_err("too long").to_string();
        assert!(text.contains("big is longer than the 10 bytes"), "{text}");
        assert_eq!(read(&path, Limit { bytes_max: 11, ..TEN }).expect("read").len(), 11);
    }

    #[test]
    fn files_longer_than_the_buffer_are_hashed() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("big");
        let bytes = vec![7; 200_001];
        fs::write(&path, &bytes).expect("written");
        assert_eq!(hash(&path, Digest::Sha256).expect("hashed"), Sha256::digest(&bytes).to_vec());
        assert_eq!(hash(&path, Digest::Sha512).expect("hashed"), Sha512::digest(&bytes).to_vec());
    }
}
