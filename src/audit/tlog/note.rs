//! Signed notes (C2SP `signed-note`): a text, and who signed it.
//!
//! ```text
//! <text, every line ended>
//!
//! — <name> <base64(key ID || signature)>
//! ```
//!
//! A text is nothing until [`SignedNote::verify`] says that somebody known has signed it.

use std::fmt::{self, Display};

use base64ct::{Base64, Encoding as _};

use super::key::{ID_BYTES, VerifierKey, is_name};

/// The bytes of the longest note that is read.
pub const NOTE_BYTES_MAX: usize = 64 * 1024;

/// The most signatures that a note may have.
pub const SIGNATURES_MAX: usize = 64;

/// What a line with a signature begins with: an em dash and a space.
const DASH: &str = "\u{2014} ";

/// What separates the text, of which the first newline is part, from the signatures.
const SEPARATOR: &str = "\n\n";

/// Why a note is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Longer than [`NOTE_BYTES_MAX`].
    #[error("a note of {bytes} bytes exceeds the limit of {NOTE_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// More signatures than [`SIGNATURES_MAX`].
    #[error("a note of {signatures} signatures exceeds the limit of {SIGNATURES_MAX}")]
    TooMany {
        /// How many there are.
        signatures: usize,
    },
    /// Not UTF-8, or control characters other than newlines.
    #[error("a note is UTF-8 without control characters, and its lines end with a newline alone")]
    Characters,
    /// No text, an empty line and signatures.
    #[error("a note is a text, an empty line, and signatures, each line ended with a newline")]
    Form,
    /// A line that should be a signature and is not.
    #[error("the note's signature {line} is malformed")]
    Signature {
        /// Which of them, the first being 1.
        line: usize,
    },
    /// A known key's name and ID stand before something that it did not sign: the note was changed, or the key is another's.
    #[error("the signature of {name} does not verify: the note is not what was signed")]
    Forged {
        /// The key's name.
        name: String,
    },
    /// Nobody that is known has signed it.
    #[error("the note is not signed by a known key")]
    Unsigned,
}

/// A line below the text: who claims to have signed it, and the signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    name: String,
    id: [u8; ID_BYTES],
    /// What the key made of the text, at least a byte.
    bytes: Vec<u8>,
}

impl Signature {
    /// The signature that a key made of a note's text: as its kind has it, for a cosignature with the time before it.
    pub fn new(key: &VerifierKey, raw: &[u8]) -> Self {
        Self { name: key.name().to_owned(), id: key.id(), bytes: raw.to_vec() }
    }

    /// The name that it claims.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key ID that it claims.
    pub fn id(&self) -> [u8; 4] {
        self.id
    }

    /// What the key made of the text, as [`Signature::new`] has it. Not verified.
    pub fn raw(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads a line without its newline.
    fn parse(line: &str) -> Option<Self> {
        let (name, encoded) = line.strip_prefix(DASH)?.split_once(' ')?;
        let decoded = Base64::decode_vec(encoded).ok()?;
        let (id, bytes) = decoded.split_first_chunk::<ID_BYTES>()?;
        let sound = is_name(name) && !bytes.is_empty();
        sound.then(|| Self { name: name.to_owned(), id: *id, bytes: bytes.to_vec() })
    }
}

/// The line, with its newline.
impl Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encoded = Base64::encode_string(&[&self.id, self.bytes.as_slice()].concat());
        writeln!(f, "{DASH}{} {encoded}", self.name)
    }
}

/// The line, with its newline, that says that a key signed a note: `raw` is what it made of the text.
pub fn signature_line(key: &VerifierKey, raw: &[u8]) -> String {
    Signature::new(key, raw).to_string()
}

/// A key that has signed a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signer<'k> {
    /// The key.
    pub key: &'k VerifierKey,
    /// When, in seconds since 1970, if it is a cosignature: the newest of several.
    pub time: Option<u64>,
}

/// A text with signatures, not verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedNote {
    text: String,
    signatures: Vec<Signature>,
}

impl SignedNote {
    /// A text, which ends with a newline, and what was signed of it.
    ///
    /// # Errors
    ///
    /// [`NoteError`], if the note could not be read again.
    pub fn new(text: &str, signatures: Vec<Signature>) -> Result<Self, NoteError> {
        let note = Self { text: text.to_owned(), signatures };
        Self::parse(note.to_string().as_bytes()).and_then(|read| (read == note).then_some(note).ok_or(NoteError::Form))
    }

    /// Reads a note. Whatever it says is to be ignored until it is verified.
    ///
    /// # Errors
    ///
    /// [`NoteError`], but for [`NoteError::Forged`] and [`NoteError::Unsigned`].
    pub fn parse(note: &[u8]) -> Result<Self, NoteError> {
        if note.len() > NOTE_BYTES_MAX {
            return Err(NoteError::TooLong { bytes: note.len() });
        }
        let note = str::from_utf8(note).map_err(|_| NoteError::Characters)?;
        if note.bytes().any(|byte| byte < b' ' && byte != b'\n') {
            return Err(NoteError::Characters);
        }
        // The last empty line: a text may have others.
        let (before, lines) = note.rsplit_once(SEPARATOR).ok_or(NoteError::Form)?;
        let lines = lines.strip_suffix('\n').ok_or(NoteError::Form)?;
        let signatures = lines.split('\n').count();
        if signatures > SIGNATURES_MAX {
            return Err(NoteError::TooMany { signatures });
        }
        let parsed =
            lines.split('\n').zip(1..).map(|(text, line)| Signature::parse(text).ok_or(NoteError::Signature { line }));
        Ok(Self { text: format!("{before}\n"), signatures: parsed.collect::<Result<_, _>>()? })
    }

    /// The text, to its last newline. Not verified.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures, in their order. Not verified.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// Adds a signature, such as a witness's.
    ///
    /// # Errors
    ///
    /// [`NoteError::TooMany`] and [`NoteError::TooLong`]; the note is as before.
    pub fn push(&mut self, signature: Signature) -> Result<(), NoteError> {
        let mut signatures = self.signatures.clone();
        signatures.push(signature);
        *self = Self::new(&self.text, signatures)?;
        Ok(())
    }

    /// Which of these keys have signed the text, each once, in their order here; at least one. Signatures of others are
    /// ignored, even those that share a key's name or its ID.
    ///
    /// # Errors
    ///
    /// [`NoteError::Forged`] if anything claims to be a known key's and is not, whoever else has signed;
    /// [`NoteError::Unsigned`].
    pub fn verify<'k>(&self, keys: &'k [VerifierKey]) -> Result<Vec<Signer<'k>>, NoteError> {
        let mut times: Vec<Option<Option<u64>>> = vec![None; keys.len()];
        for signature in &self.signatures {
            let claimed = |key: &VerifierKey| key.name() == signature.name && key.id() == signature.id;
            let Some(at) = keys.iter().position(claimed) else { continue };
            let forged = || NoteError::Forged { name: signature.name.clone() };
            let time = keys[at].verify(&self.text, &signature.bytes).ok_or_else(forged)?;
            times[at] = times[at].max(Some(time));
        }
        let signers = keys.iter().zip(times).filter_map(|(key, time)| Some(Signer { key, time: time? }));
        Some(signers.collect::<Vec<_>>()).filter(|signers| !signers.is_empty()).ok_or(NoteError::Unsigned)
    }
}

/// The note as [`SignedNote::parse`] reads it.
impl Display for SignedNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| signature.fmt(f))
    }
}
