//! Backups of the service: a folder with the store, a replica's audit log and, if it was wanted, the token's files.
//!
//! A running server makes it ([`draft`], driven by `service::backups`): everything is written under a name that no backup
//! has, synced, and renamed; what does not end so is no backup. [`verify`] reads one without the HSM. [`restore`] fills an
//! empty store and an empty log from it.
//!
//! ```text
//! 20270301T020000Z-main-4f1c0a92/
//!   manifest.json   what it is of, and every other file with its length and SHA-256
//!   store.db        the store, as SQLite whatever it was
//!   audit/          the replica's log: journal, tiles, and a checkpoint of exactly these records
//!   token/0/…       the token's folders, in the order of hsm.sync_dirs
//! ```
//!
//! Nothing in it is secret but the token's files, which are as secret as the token and its PIN: keys lie in the store
//! wrapped by the HSM. Nothing in it is believed either: rows are sealed, the log is signed, and the audit log of the instance
//! names the SHA-256 of the manifest.

use std::path::PathBuf;

pub mod draft;
pub mod manifest;
pub mod restore;
pub mod verify;

pub use draft::Draft;
pub use manifest::{FileEntry, LogEntry, MANIFEST, Manifest, StoreEntry, TokenEntry};
pub use restore::restore_token;
pub use verify::{BackupError, Opened};

/// The store's file.
pub const STORE: &str = "store.db";
/// The log's folder.
pub const AUDIT: &str = "audit";
/// The folder of the token's folders.
pub const TOKEN: &str = "token";
/// The operation of the intent by which a restore shows in the log; the first start afterwards ends it.
pub const RESTORE: &str = "instance.restore";

/// Where a server puts its backups.
#[derive(Clone, Debug)]
pub struct Place {
    /// The folder.
    pub dir: PathBuf,
    /// Folders with the token's files; none where the token has no files.
    pub token_dirs: Vec<PathBuf>,
    /// The file with the token's PIN, which is in no backup; nor is what lies beside it while the PIN is being changed.
    pub pin_file: PathBuf,
    /// The file with a recovery key, which is in no backup either.
    pub recovery_key_file: Option<PathBuf>,
}
