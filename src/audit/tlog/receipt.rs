//! Receipts (C2SP `tlog-proof`): what shows offline, with nothing but keys, that an entry is in a log.
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! extra <base64>
//! index <decimal>
//! <base64 of a hash, from the leaf's sibling up>
//!
//! <checkpoint, with its signatures>
//! ```

use std::fmt::{self, Display};

use base64ct::{Base64, Encoding as _};

use super::{
    checkpoint::{Checkpoint, CheckpointError},
    hash::{Hash, SIZE_MAX, leaf},
    key::VerifierKey,
    note::{NOTE_BYTES_MAX, NoteError, SignedNote, Signer},
    proof::{PROOF_HASHES_MAX, ProofError, verify_inclusion},
    text,
    tile::ENTRY_BYTES_MAX,
};

/// The bytes of the longest receipt that is read: a checkpoint, an entry as extra data in base64, and the proof.
pub const RECEIPT_BYTES_MAX: usize = NOTE_BYTES_MAX + ENTRY_BYTES_MAX * 4 / 3 + 8 * 1024;

const HEADER: &str = "c2sp.org/tlog-proof@v1";
const EXTRA: &str = "extra ";
const INDEX: &str = "index ";

/// Why a receipt shows nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Longer than [`RECEIPT_BYTES_MAX`].
    #[error("a receipt of {bytes} bytes exceeds the limit of {RECEIPT_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not the lines of a receipt.
    #[error("a receipt begins with the line {HEADER}, and has an index, hashes, an empty line and a checkpoint")]
    Form,
    /// The extra data is not base64.
    #[error("the receipt's extra data is not base64")]
    Extra,
    /// The index is not a decimal number.
    #[error("the receipt's index is not a decimal number below 2^63")]
    Index,
    /// A line of the proof is not a hash.
    #[error("the receipt's hash {line} is not the base64 of a SHA-256 hash")]
    Hash {
        /// Which of them, the first being 1.
        line: usize,
    },
    /// More hashes than a proof can have.
    #[error("a proof of {hashes} hashes exceeds the limit of {PROOF_HASHES_MAX}")]
    TooMany {
        /// How many there are.
        hashes: usize,
    },
    /// The checkpoint is not a note.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The checkpoint is not one to rely on.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The entry is not in the log at that place.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

/// A place in a log, the way from there to the root, and the log's word for the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Data that nothing vouches for, such as the entry itself; mostly empty.
    extra: Vec<u8>,
    index: u64,
    proof: Vec<Hash>,
    checkpoint: SignedNote,
}

/// What a receipt has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown<'k> {
    /// The entry's place in the log.
    pub index: u64,
    /// The tree that it is in.
    pub checkpoint: Checkpoint,
    /// Who vouches for that tree, the log among them.
    pub signers: Vec<Signer<'k>>,
}

impl Receipt {
    /// A receipt for the entry at `index`, from the proof of [`inclusion`](super::proof::inclusion) in the tree of the checkpoint.
    ///
    /// # Errors
    ///
    /// [`ReceiptError::Index`], [`ReceiptError::TooMany`].
    pub fn new(index: u64, proof: Vec<Hash>, checkpoint: SignedNote) -> Result<Self, ReceiptError> {
        if index > SIZE_MAX {
            return Err(ReceiptError::Index);
        }
        if proof.len() > PROOF_HASHES_MAX {
            return Err(ReceiptError::TooMany { hashes: proof.len() });
        }
        Ok(Self { extra: Vec::new(), index, proof, checkpoint })
    }

    /// The same with data for which nothing vouches until it is verified as the entry, at most [`ENTRY_BYTES_MAX`].
    ///
    /// # Errors
    ///
    /// [`ReceiptError::TooLong`].
    pub fn with_extra(self, extra: Vec<u8>) -> Result<Self, ReceiptError> {
        if extra.len() > ENTRY_BYTES_MAX {
            return Err(ReceiptError::TooLong { bytes: extra.len() });
        }
        Ok(Self { extra, ..self })
    }

    /// Reads a receipt. It shows nothing until it is verified.
    ///
    /// # Errors
    ///
    /// [`ReceiptError`], but for [`ReceiptError::Checkpoint`] and [`ReceiptError::Proof`].
    pub fn parse(receipt: &[u8]) -> Result<Self, ReceiptError> {
        if receipt.len() > RECEIPT_BYTES_MAX {
            return Err(ReceiptError::TooLong { bytes: receipt.len() });
        }
        let text = str::from_utf8(receipt).map_err(|_| ReceiptError::Form)?;
        let (head, note) = text.split_once("\n\n").ok_or(ReceiptError::Form)?;
        let rest = head.strip_prefix(HEADER).and_then(|rest| rest.strip_prefix('\n')).ok_or(ReceiptError::Form)?;
        let mut lines = rest.split('\n').peekable();
        let extra = lines.next_if(|line| line.starts_with(EXTRA)).map_or(Ok(Vec::new()), extra)?;
        let index = lines.next().and_then(|line| line.strip_prefix(INDEX)).ok_or(ReceiptError::Form)?;
        let index = text::decimal(index).ok_or(ReceiptError::Index)?;
        let hashes = lines.zip(1..).map(|(hash, line)| text::hash(hash).ok_or(ReceiptError::Hash { line }));
        let proof = hashes.collect::<Result<Vec<_>, _>>()?;
        Self::new(index, proof, SignedNote::parse(note.as_bytes())?)?.with_extra(extra)
    }

    /// The entry's place in the log. Not verified.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The data that came with it. Nothing vouches for it, but [`Receipt::verify`] if it is the entry.
    pub fn extra(&self) -> &[u8] {
        &self.extra
    }

    /// The signed checkpoint. Not verified.
    pub fn checkpoint(&self) -> &SignedNote {
        &self.checkpoint
    }

    /// Verifies that the entry is in the log, by the word of the log and of what witnesses are among `keys`. How many of
    /// them must have signed is for the caller to ask.
    ///
    /// # Errors
    ///
    /// [`ReceiptError`]: this is not shown.
    pub fn verify<'k>(&self, entry: &[u8], keys: &'k [VerifierKey]) -> Result<Shown<'k>, ReceiptError> {
        let (checkpoint, signers) = Checkpoint::open(&self.checkpoint, keys)?;
        verify_inclusion(leaf(entry), self.index, checkpoint.size(), &self.proof, checkpoint.root())?;
        Ok(Shown { index: self.index, checkpoint, signers })
    }
}

/// The data of that line, which is not there if there is none.
fn extra(line: &str) -> Result<Vec<u8>, ReceiptError> {
    let data = line.strip_prefix(EXTRA).and_then(|data| Base64::decode_vec(data).ok());
    data.filter(|data| !data.is_empty()).ok_or(ReceiptError::Extra)
}

/// The receipt as [`Receipt::parse`] reads it.
impl Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if !self.extra.is_empty() {
            writeln!(f, "{EXTRA}{}", Base64::encode_string(&self.extra))?;
        }
        writeln!(f, "{INDEX}{}", self.index)?;
        self.proof.iter().try_for_each(|hash| writeln!(f, "{}", text::of_hash(hash)))?;
        write!(f, "\n{}", self.checkpoint)
    }
}
