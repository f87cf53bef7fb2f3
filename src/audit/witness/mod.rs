//! A witness: remembers the newest checkpoint of a log that it has seen, and cosigns a newer one only if the newer tree
//! continues the older. So a log that goes back, or shows others another history, is found by comparing notes.
//!
//! ```text
//! {state}/{origin}.checkpoint             the newest, with the log's signature and our cosignature
//! {state}/{origin}.evidence-{size}-{hash}.held, .shown
//! ```
//!
//! What was cosigned is on the disk before anybody sees it: a cosignature says "and I have seen nothing else". When a
//! tree does not continue the one that is held, both notes are kept, and nothing is cosigned any more until somebody has
//! looked at them and moved them away.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::{fs::FlockOperation, io::Errno};
use sha2::{Digest as _, Sha256};

use super::{
    handover::{self, Handover},
    tlog::{
        Checkpoint, CheckpointError, Cosigner, Hash, NoteError, ProofError, SignedNote, VerifierKey,
        cosignature::TimeError, proof::verify_consistency,
    },
};

mod file;
pub mod key;

#[cfg(test)]
mod tests;

/// Why a witness does not cosign.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// Another process has the state.
    #[error("the witness's state {0} is in use by another process")]
    Locked(PathBuf),
    /// The keys are of several logs, or there is none.
    #[error("the keys of the log must be there, and be of one name")]
    LogKeys,
    /// The checkpoint that is held is not one that this witness has written. It is not taken for "never seen one".
    #[error("the checkpoint {path} is not what this witness wrote")]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: CheckpointError,
    },
    /// An earlier run has found two histories.
    #[error("{0} is evidence that the log has shown two histories")]
    Evidence(PathBuf),
    /// What was shown is not a checkpoint that the log has signed. Nothing was kept.
    #[error("what was shown is no checkpoint of the log")]
    Checkpoint(#[source] CheckpointError),
    /// What was shown does not continue what is held. Both notes were kept.
    #[error(
        "the log's checkpoint of {shown} records does not continue the one of {held} that this witness has cosigned"
    )]
    Inconsistent {
        /// The size of the tree that is held.
        held: u64,
        /// The size of the tree that was shown.
        shown: u64,
        /// The files with both.
        evidence: [PathBuf; 2],
        /// What was found.
        #[source]
        source: ProofError,
    },
    /// The clock is out of the range of cosignatures.
    #[error(transparent)]
    Time(#[from] TimeError),
    /// The note has no room for one more signature.
    #[error("the checkpoint cannot be cosigned")]
    Note(#[from] NoteError),
    /// The file system said no.
    #[error("cannot {what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WitnessError {
    let path = path.to_owned();
    move |source| WitnessError::Io { what, path, source }
}

/// The witness of one log.
#[derive(Debug)]
pub struct Witness {
    dir: PathBuf,
    /// As long as this is open, nobody else writes to the state.
    _lock: File,
    log_keys: Vec<VerifierKey>,
    handovers: Vec<(String, Handover)>,
    cosigner: Cosigner,
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    checkpoint: Checkpoint,
    text: String,
}

/// A checkpoint that was cosigned and is on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosigned {
    /// Which.
    pub checkpoint: Checkpoint,
    /// With the log's signature and ours.
    pub note: SignedNote,
    /// Where it is kept.
    pub path: PathBuf,
    /// Whether it is the first that was seen: nothing is known of what was before.
    pub is_first: bool,
}

impl Witness {
    /// Takes the state in `dir` of the log that these keys sign for; makes the folder.
    ///
    /// # Errors
    /// [`WitnessError`]: [`WitnessError::State`] and [`WitnessError::Evidence`] need somebody to look.
    pub fn open(dir: &Path, log_keys: Vec<VerifierKey>, cosigner: Cosigner) -> Result<Self, WitnessError> {
        let name = log_keys.first().map(|key| key.name().to_owned()).ok_or(WitnessError::LogKeys)?;
        if log_keys.iter().any(|key| key.name() != name) {
            return Err(WitnessError::LogKeys);
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io("make", dir))?;
        let lock = lock(dir, &name)?;
        let mut witness =
            Self { dir: dir.to_owned(), _lock: lock, log_keys, handovers: Vec::new(), cosigner, held: None };
        if let Some(path) = witness.evidence()? {
            return Err(WitnessError::Evidence(path));
        }
        witness.held = witness.read()?;
        Ok(witness)
    }

    /// The size of the tree that is held: a proof must lead from there. 0 if there is none.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.held.as_ref().map_or(0, |held| held.checkpoint.size())
    }

    /// What this witness's cosignatures are verified with.
    #[must_use]
    pub fn key(&self) -> &VerifierKey {
        self.cosigner.key()
    }

    /// Follows from the keys that are believed to those that they have handed over to, by their own signatures.
    pub fn follow(&mut self, notes: &[(String, SignedNote)]) {
        self.handovers = handover::follow(&self.log_keys, notes);
        self.log_keys = handover::with_followers(std::mem::take(&mut self.log_keys), &self.handovers);
    }

    /// Looks at a checkpoint, with the proof that it continues the one of [`Self::size`] records; cosigns and keeps it.
    /// `time` is in seconds since 1970. Blocks for a few syncs.
    ///
    /// # Errors
    /// [`WitnessError`]. After [`WitnessError::Inconsistent`] every call and every start fails.
    pub fn see(&mut self, note: &SignedNote, proof: &[Hash], time: u64) -> Result<Cosigned, WitnessError> {
        if let Some(path) = self.evidence()? {
            return Err(WitnessError::Evidence(path));
        }
        let (checkpoint, signers) = Checkpoint::open(note, &self.log_keys).map_err(WitnessError::Checkpoint)?;
        if handover::in_office(&signers, checkpoint.size(), &self.handovers).is_err() {
            let origin = checkpoint.origin().to_owned();
            return Err(WitnessError::Checkpoint(CheckpointError::NotByLog { origin }));
        }
        if let Some(held) = &self.held {
            let (old, new) = (&held.checkpoint, &checkpoint);
            let continued = verify_consistency(old.size(), old.root(), new.size(), new.root(), proof);
            if let Err(source) = continued {
                return Err(self.found(held, note, &checkpoint, source)?);
            }
        }
        let mut note = SignedNote::new(note.text(), by_log(note, &self.log_keys))?;
        note.push(self.cosigner.cosign(note.text(), time)?)?;
        let (path, text) = (self.path(), note.to_string());
        file::write(&path, text.as_bytes(), 0o644).map_err(io("write", &path))?;
        let is_first = self.held.replace(Held { checkpoint: checkpoint.clone(), text }).is_none();
        Ok(Cosigned { checkpoint, note, path, is_first })
    }

    /// Keeps both notes, and says so.
    fn found(
        &self,
        held: &Held,
        note: &SignedNote,
        shown: &Checkpoint,
        source: ProofError,
    ) -> Result<WitnessError, WitnessError> {
        let digest = base16ct::lower::encode_string(&Sha256::digest(note.text()));
        let stem = format!("{}.evidence-{}-{}", self.stem(), shown.size(), &digest[..8]);
        let evidence = ["held", "shown"].map(|kind| self.dir.join(format!("{stem}.{kind}")));
        for (path, text) in evidence.iter().zip([held.text.clone(), note.to_string()]) {
            file::write(path, text.as_bytes(), 0o644).map_err(io("write", path))?;
        }
        Ok(WitnessError::Inconsistent { held: held.checkpoint.size(), shown: shown.size(), evidence, source })
    }

    /// The checkpoint that is held. Our own cosignature vouches for it: it was put there when the log's was checked, which may
    /// have been by a key that the log has no more.
    fn read(&self) -> Result<Option<Held>, WitnessError> {
        let path = self.path();
        let text = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io("read", &path)(error)),
        };
        let held = self.checked(&text).map_err(|source| WitnessError::State { path, source })?;
        Ok(Some(held))
    }

    fn checked(&self, text: &[u8]) -> Result<Held, CheckpointError> {
        let note = SignedNote::parse(text)?;
        note.verify(std::slice::from_ref(self.cosigner.key()))?;
        let checkpoint = Checkpoint::parse(note.text())?;
        let origin = self.log_keys[0].name();
        if checkpoint.origin() != origin {
            return Err(CheckpointError::NotByLog { origin: origin.to_owned() });
        }
        Ok(Held { checkpoint, text: note.to_string() })
    }

    /// A file of evidence, if there is any.
    fn evidence(&self) -> Result<Option<PathBuf>, WitnessError> {
        let begins = format!("{}.evidence-", self.stem());
        let read = |source| io("list", &self.dir)(source);
        for entry in fs::read_dir(&self.dir).map_err(read)? {
            let entry = entry.map_err(read)?;
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(&begins)) {
                return Ok(Some(entry.path()));
            }
        }
        Ok(None)
    }

    fn path(&self) -> PathBuf {
        self.dir.join(format!("{}.checkpoint", self.stem()))
    }

    fn stem(&self) -> String {
        stem(self.log_keys[0].name())
    }
}

/// A log's name as that of a file: what is not a letter, digit, dash or underscore becomes `%` and its bytes.
fn stem(origin: &str) -> String {
    let mut stem = String::new();
    for byte in origin.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => stem.push(char::from(byte)),
            other => stem.push_str(&format!("%{other:02x}")),
        }
    }
    stem
}

/// The log's own signatures: those of others are none that we have looked at.
fn by_log(note: &SignedNote, keys: &[VerifierKey]) -> Vec<super::tlog::Signature> {
    let is_known = |name: &str, id| keys.iter().any(|key| key.name() == name && key.id() == id);
    note.signatures().iter().filter(|signature| is_known(signature.name(), signature.id())).cloned().collect()
}

fn lock(dir: &Path, origin: &str) -> Result<File, WitnessError> {
    let path = dir.join(format!("{}.lock", stem(origin)));
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = opened.map_err(io("open", &path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(WitnessError::Locked(dir.to_owned())),
        Err(errno) => Err(io("lock", &path)(errno.into())),
    }
}
