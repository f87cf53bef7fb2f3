//! Checkpoints (C2SP `tlog-checkpoint`): the text that says how large a log is, and what its root is.
//!
//! ```text
//! <origin>
//! <size>
//! <base64 of the root>
//! <extension lines>
//! ```
//!
//! Our logs have an extension line `strongroom-heads`: the digest of what the store looked like, so that the store cannot
//! go back behind a checkpoint that somebody holds. It is signed like the rest; nobody but this service can check it. And the
//! last one that a key signs has the line `strongroom-next-key`: the verifier key that signs from there on.

use std::fmt::{self, Display};

use super::{
    hash::{Hash, SIZE_MAX},
    key::{KeyKind, VerifierKey},
    note::{NoteError, SignedNote, Signer},
    text,
};

/// What the extension line with the digest of the store's heads begins with.
const HEADS: &str = "strongroom-heads ";

/// What the extension line with the key that signs from there on begins with.
const NEXT_KEY: &str = "strongroom-next-key ";

/// Why a text is no checkpoint, or not one to rely on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Not the three lines of a checkpoint.
    #[error("a checkpoint is an origin, a size and a root, a line each, and extension lines that are not empty")]
    Form,
    /// The size is not a decimal number.
    #[error("the checkpoint's size is not a decimal number below 2^63")]
    Size,
    /// The root is not a hash.
    #[error("the checkpoint's root is not the base64 of a SHA-256 hash")]
    Root,
    /// The line `strongroom-heads` is malformed, or is there twice.
    #[error("the checkpoint's line strongroom-heads is malformed or repeated")]
    Heads,
    /// The line `strongroom-next-key` is malformed, or is there twice.
    #[error("the checkpoint's line strongroom-next-key is malformed or repeated")]
    NextKey,
    /// The note around it.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// Witnesses signed it, but not the log itself.
    #[error("the checkpoint is not signed by the key of the log {origin:?}")]
    NotByLog {
        /// The log that it claims to be of.
        origin: String,
    },
}

/// How large a log is, and what its root is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    origin: String,
    size: u64,
    root: Hash,
    extensions: Vec<String>,
}

impl Checkpoint {
    /// A checkpoint of the log `origin`, without extension lines.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Form`] if the origin is empty or has control characters; [`CheckpointError::Size`].
    pub fn new(origin: &str, size: u64, root: Hash) -> Result<Self, CheckpointError> {
        if size > SIZE_MAX {
            return Err(CheckpointError::Size);
        }
        let origin = Some(origin).filter(|line| is_line(line)).ok_or(CheckpointError::Form)?.to_owned();
        Ok(Self { origin, size, root, extensions: Vec::new() })
    }

    /// The same with the digest of the store's heads, in place of one that it had.
    #[must_use]
    pub fn with_heads(mut self, digest: &Hash) -> Self {
        self.extensions.retain(|line| !line.starts_with(HEADS));
        self.extensions.push(format!("{HEADS}{}", text::of_hash(digest)));
        self
    }

    /// The same with the key that signs from there on, in place of one that it had.
    #[must_use]
    pub fn with_next_key(mut self, key: &VerifierKey) -> Self {
        self.extensions.retain(|line| !line.starts_with(NEXT_KEY));
        self.extensions.push(format!("{NEXT_KEY}{key}"));
        self
    }

    /// Reads the text of a note.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`], but for [`CheckpointError::Note`] and [`CheckpointError::NotByLog`].
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let mut lines = text.strip_suffix('\n').ok_or(CheckpointError::Form)?.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(CheckpointError::Form);
        };
        let size = text::decimal(size).ok_or(CheckpointError::Size)?;
        let root = text::hash(root).ok_or(CheckpointError::Root)?;
        let extensions: Vec<_> = lines.map(str::to_owned).collect();
        if !extensions.iter().all(|line| is_line(line)) {
            return Err(CheckpointError::Form);
        }
        let mut heads = extensions.iter().filter_map(|line| line.strip_prefix(HEADS));
        if heads.next().is_some_and(|digest| text::hash(digest).is_none()) || heads.next().is_some() {
            return Err(CheckpointError::Heads);
        }
        let mut next = extensions.iter().filter_map(|line| line.strip_prefix(NEXT_KEY));
        if next.next().is_some_and(|key| key.parse::<VerifierKey>().is_err()) || next.next().is_some() {
            return Err(CheckpointError::NextKey);
        }
        Ok(Self { extensions, ..Self::new(origin, size, root)? })
    }

    /// The checkpoint of a note that the log itself has signed (one of `keys` of its name, not as a witness), and who signed.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`].
    pub fn open<'k>(note: &SignedNote, keys: &'k [VerifierKey]) -> Result<(Self, Vec<Signer<'k>>), CheckpointError> {
        let signers = note.verify(keys)?;
        let checkpoint = Self::parse(note.text())?;
        let by_log =
            |signer: &Signer<'_>| signer.key.kind() != KeyKind::Cosignature && signer.key.name() == checkpoint.origin;
        if !signers.iter().any(by_log) {
            return Err(CheckpointError::NotByLog { origin: checkpoint.origin });
        }
        Ok((checkpoint, signers))
    }

    /// The key that signs from there on, if it is the last one of the key that has signed it.
    pub fn next_key(&self) -> Option<VerifierKey> {
        self.extensions.iter().find_map(|line| line.strip_prefix(NEXT_KEY)?.parse().ok())
    }

    /// Which log.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Its leaves, at most [`SIZE_MAX`].
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root of its tree.
    pub fn root(&self) -> &Hash {
        &self.root
    }

    /// The lines behind the root.
    pub fn extensions(&self) -> &[String] {
        &self.extensions
    }

    /// The digest of the store's heads, if the log says it.
    pub fn heads(&self) -> Option<Hash> {
        self.extensions.iter().find_map(|line| text::hash(line.strip_prefix(HEADS)?))
    }
}

/// The text to be signed.
impl Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, text::of_hash(&self.root))?;
        self.extensions.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

fn is_line(line: &str) -> bool {
    !line.is_empty() && !line.bytes().any(|byte| byte < b' ')
}
