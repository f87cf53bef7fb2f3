//! Checks a backup offline, without the HSM: each thing that can be wrong is said by itself.
//!
//! The files are held against the manifest, the store against its own heads, the log against its own tree and checkpoint, and
//! the three against each other. The backup is not changed: the store is opened as a copy.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use super::{
    AUDIT, Manifest, STORE,
    manifest::{MANIFEST, files_below, measure},
};
use crate::{
    audit::{
        self, Against, OpenError, Verified,
        tlog::{Checkpoint, SignedNote},
    },
    model::InstanceRow,
    service::{ServiceError, checkpoints},
    store::{CopyError, Store as _, StoreError, copy, sqlite::SqliteStore},
};

/// What is wrong with a backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is no manifest that can be read.
    #[error("this is no backup: its manifest.json cannot be read")]
    Manifest(#[source] io::Error),
    /// A file of the manifest is not there.
    #[error("the file {0} is missing")]
    Missing(String),
    /// A file has another length.
    #[error("the file {path} has {found} bytes and not {expected}: it was cut, or something was added")]
    Length {
        /// Which.
        path: String,
        /// What the manifest says.
        expected: u64,
        /// What there is.
        found: u64,
    },
    /// A file has the right length and another SHA-256.
    #[error("the file {0} was changed: it has its length and not its SHA-256")]
    Changed(String),
    /// A file that the manifest does not know.
    #[error("the file {0} is none of the backup's")]
    Stranger(String),
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// SQLite finds the file damaged.
    #[error("the store's file is damaged: {0}")]
    Damaged(String),
    /// The store cannot be opened.
    #[error("the store cannot be opened")]
    Store(#[source] StoreError),
    /// The store's rows are not those that its heads count.
    #[error("the store's rows are not whole")]
    Rows(#[source] CopyError),
    /// The store is of another instance.
    #[error("the store is of the instance {found}, and the backup of {expected}: a file of another was put in")]
    OtherStore {
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// The store has other heads than the manifest names.
    #[error(
        "the store is of another moment than the manifest: its scope {scope} has revision {found} and not {expected}"
    )]
    OtherMoment {
        /// Which scope.
        scope: String,
        /// What the store has.
        found: u64,
        /// What the manifest says.
        expected: u64,
    },
    /// The log is damaged.
    #[error("the audit log is damaged")]
    Log(#[source] OpenError),
    /// The log's key is not in the store.
    #[error("the store does not say which key signs the log")]
    Key(#[source] ServiceError),
    /// The log is of another instance or replica.
    #[error("the audit log is {found}, and the backup has {expected}: a file of another was put in")]
    OtherLog {
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// The log has another size or root than the manifest says.
    #[error("the audit log has {records} records, {signed} of them under its checkpoint; the manifest says {expected}")]
    OtherSize {
        /// How many there are.
        records: u64,
        /// How many its checkpoint covers.
        signed: u64,
        /// What the manifest says.
        expected: u64,
    },
    /// The root is another.
    #[error("the audit log's checkpoint has another root than the manifest says")]
    OtherRoot,
    /// The log knows a newer state than the store.
    #[error("the store is older than the log beside it: its scope {scope} has revision {store}, the log knows {log}")]
    OlderStore {
        /// Which scope.
        scope: String,
        /// What the store has.
        store: u64,
        /// What the log knows.
        log: u64,
    },
}

/// A backup, as far as it can be read.
pub struct Opened {
    /// What it says of itself.
    pub manifest: Manifest,
    /// SHA-256 of the manifest.
    pub digest: String,
    /// The store, in a copy that is taken away with this.
    pub store: Option<SqliteStore>,
    /// The instance's row, unchecked.
    pub instance: Option<InstanceRow>,
    /// What the log holds.
    pub log: Option<Verified>,
    /// What is wrong.
    pub faults: Vec<BackupError>,
    scratch: Option<tempfile::TempDir>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("id", &self.manifest.id).field("faults", &self.faults).finish_non_exhaustive()
    }
}

impl Opened {
    /// Reads a backup and checks all of it.
    ///
    /// # Errors
    /// [`BackupError::Manifest`] when it is none. What else is wrong is in [`Self::faults`].
    pub async fn open(backup: &Path) -> Result<Self, BackupError> {
        let (manifest, digest) = Manifest::read(backup).map_err(BackupError::Manifest)?;
        let faults = files(backup, &manifest)?;
        let mut opened = Self { manifest, digest, store: None, instance: None, log: None, faults, scratch: None };
        if let Err(fault) = opened.read_store(backup).await {
            opened.faults.push(fault);
        }
        if let Err(fault) = opened.read_log(backup) {
            opened.faults.push(fault);
        }
        opened.compare();
        Ok(opened)
    }

    /// Closes the copy of the store.
    pub async fn close(self) {
        if let Some(store) = self.store {
            store.close().await;
        }
        drop(self.scratch);
    }

    async fn read_store(&mut self, backup: &Path) -> Result<(), BackupError> {
        let path = backup.join(STORE);
        if !path.is_file() {
            return self.absent(STORE);
        }
        let found = SqliteStore::faults(&path).await.map_err(BackupError::Store)?;
        if !found.is_empty() {
            return Err(BackupError::Damaged(found.join("; ")));
        }
        let read = |source| BackupError::Read { path: STORE.to_owned(), source };
        let scratch = tempfile::Builder::new().prefix("strongroom-backup-").tempdir().map_err(read)?;
        let copied = scratch.path().join(STORE);
        fs::copy(&path, &copied).map_err(read)?;
        let store = SqliteStore::open(&copied).await.map_err(BackupError::Store)?;
        self.scratch = Some(scratch);
        let row = store.instance().await.map_err(BackupError::Store)?;
        self.instance = row.map(|row| row.into_unchecked().0);
        let checked = self.check_rows(&store).await;
        self.store = Some(store);
        checked
    }

    async fn check_rows(&self, store: &SqliteStore) -> Result<(), BackupError> {
        let found = self.instance.as_ref().map(|row| base16ct::lower::encode_string(&row.id)).unwrap_or_default();
        if found != self.manifest.instance {
            return Err(BackupError::OtherStore { found, expected: self.manifest.instance.clone() });
        }
        let heads = store.heads().await.map_err(BackupError::Store)?;
        copy::check_heads(store, &heads).await.map_err(BackupError::Rows)?;
        let has: BTreeMap<String, (u64, String)> = heads
            .into_iter()
            .map(|head| {
                let head = head.into_unchecked().0;
                (head.scope.to_string(), (head.revision, base16ct::lower::encode_string(&head.digest.short())))
            })
            .collect();
        for mark in &self.manifest.heads {
            let (scope, expected) = (mark.scope.clone(), mark.revision);
            match has.get(&mark.scope) {
                Some((revision, digest)) if (*revision, digest) == (expected, &mark.digest) => {}
                found => {
                    let found = found.map_or(0, |(revision, _)| *revision);
                    return Err(BackupError::OtherMoment { scope, found, expected });
                }
            }
        }
        if has.len() != self.manifest.heads.len() {
            let found = has.len() as u64;
            let expected = self.manifest.heads.len() as u64;
            return Err(BackupError::OtherMoment { scope: "(their number)".to_owned(), found, expected });
        }
        Ok(())
    }

    fn read_log(&mut self, backup: &Path) -> Result<(), BackupError> {
        let dir = backup.join(AUDIT);
        if !dir.is_dir() {
            return self.absent(AUDIT);
        }
        let name = &self.manifest.log.name;
        let of_this = |row: &&InstanceRow| base16ct::lower::encode_string(&row.id) == self.manifest.instance;
        let keys = match self.instance.as_ref().filter(of_this) {
            Some(instance) => checkpoints::keys(instance, name).map_err(BackupError::Key)?,
            None => Vec::new(),
        };
        let text = fs::read(dir.join("checkpoint")).unwrap_or_default();
        if let Some(checkpoint) = SignedNote::parse(&text).ok().and_then(|note| Checkpoint::parse(note.text()).ok()) {
            let expected = audit::origin(name).unwrap_or_default();
            if checkpoint.origin() != expected {
                return Err(BackupError::OtherLog { found: checkpoint.origin().to_owned(), expected });
            }
            if base16ct::lower::encode_string(checkpoint.root()) != self.manifest.log.root {
                self.faults.push(BackupError::OtherRoot);
            }
        }
        let verified = audit::verify(&dir, &Against { keys, checkpoints: Vec::new() }).map_err(BackupError::Log)?;
        let (records, signed, expected) = (verified.records, verified.signed, self.manifest.log.size);
        self.log = Some(verified);
        if records != expected || signed != expected {
            return Err(BackupError::OtherSize { records, signed, expected });
        }
        Ok(())
    }

    /// What is not there: said once, also by a manifest that does not name it.
    fn absent(&self, what: &str) -> Result<(), BackupError> {
        let is_said = self.manifest.files.iter().any(|file| Path::new(&file.path).starts_with(what));
        if is_said { Ok(()) } else { Err(BackupError::Missing(what.to_owned())) }
    }

    /// Holds store and log against each other, as a start does.
    fn compare(&mut self) {
        let Some(log) = &self.log else { return };
        let revision =
            |scope: &str| self.manifest.heads.iter().find(|mark| mark.scope == scope).map_or(0, |m| m.revision);
        let older = log.heads.values().find(|mark| mark.revision > revision(&mark.scope));
        if let Some(mark) = older {
            let (scope, store) = (mark.scope.clone(), revision(&mark.scope));
            self.faults.push(BackupError::OlderStore { scope, store, log: mark.revision });
        }
    }
}

/// Holds the files against the manifest. Only what lies in the backup is opened, whatever paths a manifest names.
fn files(backup: &Path, manifest: &Manifest) -> Result<Vec<BackupError>, BackupError> {
    let read = |source| BackupError::Read { path: backup.display().to_string(), source };
    let found = files_below(backup).map_err(read)?;
    let mut found: BTreeSet<String> = found.iter().map(|path| path.to_string_lossy().into_owned()).collect();
    found.remove(MANIFEST);
    let mut faults = Vec::new();
    for entry in &manifest.files {
        let path = entry.path.clone();
        if !found.remove(&entry.path) {
            faults.push(BackupError::Missing(path));
            continue;
        }
        match measure(&backup.join(&entry.path)) {
            Ok((size, _)) if size != entry.size => {
                faults.push(BackupError::Length { path, expected: entry.size, found: size });
            }
            Ok((_, sha256)) if sha256 != entry.sha256 => faults.push(BackupError::Changed(path)),
            Ok(_) => {}
            Err(source) => faults.push(BackupError::Read { path, source }),
        }
    }
    faults.extend(found.into_iter().map(BackupError::Stranger));
    Ok(faults)
}
