//! What a backup says of itself.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::audit::HeadMark;

/// The manifest's file.
pub const MANIFEST: &str = "manifest.json";

/// The form of backups that this release writes and reads.
pub const FORMAT: u32 = 1;

/// The longest manifest that is read: that of a log of 20 million records.
pub const BYTES_MAX: u64 = 64 << 20;

/// What a backup is of, and what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// The form: [`FORMAT`].
    pub format: u32,
    /// The backup's id, 32 hexadecimal digits.
    pub id: String,
    /// When it was begun, in seconds since 1970.
    pub created: i64,
    /// The release that made it.
    pub release: String,
    /// The instance's id, 32 hexadecimal digits.
    pub instance: String,
    /// The replica that made it, whose log is in it. The logs of other replicas are not.
    pub replica: String,
    /// The store.
    pub store: StoreEntry,
    /// The log.
    pub log: LogEntry,
    /// The newest head of every scope of the store.
    pub heads: Vec<HeadMark>,
    /// The token, if its files are in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenEntry>,
    /// Every file beside the manifest, by path.
    pub files: Vec<FileEntry>,
}

/// What is said of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StoreEntry {
    /// What it was: `sqlite` or `postgres`.
    pub kind: String,
    /// The SQLite schema of the file.
    pub schema: i64,
}

/// What is said of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LogEntry {
    /// Its name: the instance, and `/` and the replica unless that is the first.
    pub name: String,
    /// How many records it has; all of them are under its checkpoint.
    pub size: u64,
    /// The root of their tree, 64 hexadecimal digits.
    pub root: String,
}

/// What is said of the token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenEntry {
    /// Its label.
    pub label: String,
    /// Its serial number.
    pub serial: String,
    /// Where its folders were.
    pub folders: Vec<String>,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileEntry {
    /// Its path below the backup, with `/` between the parts.
    pub path: String,
    /// Its length in bytes.
    pub size: u64,
    /// SHA-256 of it, 64 hexadecimal digits.
    pub sha256: String,
}

impl Manifest {
    /// As it is written.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes =
            serde_json::to_vec_pretty(self).expect("plain structs of strings and numbers are written to memory");
        bytes.push(b'\n');
        bytes
    }

    /// Reads that of a backup; with its own SHA-256.
    ///
    /// # Errors
    /// When it cannot be read, or is none of this form.
    pub fn read(backup: &Path) -> Result<(Self, String), io::Error> {
        let file = fs::File::open(backup.join(MANIFEST))?;
        let mut bytes = Vec::new();
        file.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {BYTES_MAX} bytes")));
        }
        let wrong = |error: serde_json::Error| io::Error::new(io::ErrorKind::InvalidData, error);
        let Form { format } = serde_json::from_slice(&bytes).map_err(wrong)?;
        if format != FORMAT {
            let why = format!("it has form {format}; this release reads form {FORMAT}");
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        let manifest = serde_json::from_slice(&bytes).map_err(wrong)?;
        Ok((manifest, digest(&bytes)))
    }

    /// The bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

/// What every form has.
#[derive(Deserialize)]
struct Form {
    format: u32,
}

/// SHA-256, in hexadecimal digits.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    base16ct::lower::encode_string(&Sha256::digest(bytes))
}

/// Length and SHA-256 of a file.
///
/// # Errors
/// When it cannot be read.
pub fn measure(path: &Path) -> io::Result<(u64, String)> {
    let mut file = fs::File::open(path)?;
    let (mut hash, mut size) = (Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((size, base16ct::lower::encode_string(&hash.finalize())));
        }
        size += read as u64;
        hash.update(&buffer[..read]);
    }
}

/// Every file below a folder, by path, without the folder's own name. What is neither file nor folder is an error.
///
/// # Errors
/// When a folder cannot be read.
pub fn files_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(below) = folders.pop() {
        for entry in fs::read_dir(folder.join(&below))? {
            let entry = entry?;
            let (path, kind) = (below.join(entry.file_name()), entry.file_type()?);
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                found.push(path);
            } else {
                let why = format!("{} is neither a file nor a folder", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
        }
    }
    found.sort();
    Ok(found)
}
