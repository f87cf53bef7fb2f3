//! Cosignatures of witnesses (C2SP `tlog-cosignature`, Ed25519): "at that time this was the largest tree of the log that I
//! had seen, and it continues all that I had seen before".
//!
//! ```text
//! signature = timestamp (8 bytes, big-endian) || Ed25519("cosignature/v1\n" "time " timestamp "\n" text)
//! ```
//!
//! Whether the statement is true is the witness's business: this makes and takes apart the signature. The message does not
//! say who signs, so a key must belong to one witness alone.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};

use super::{
    key::{KeyError, KeyKind, VerifierKey},
    note::Signature,
};

/// The latest time of a cosignature, in seconds since 1970.
pub const TIME_MAX: u64 = i64::MAX as u64;

/// The bytes of the time before the signature.
const TIME_BYTES: usize = 8;

/// The time is not one that a cosignature can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a cosignature cannot have the time {0}")]
pub struct TimeError(pub u64);

/// What is signed: the time, in seconds since 1970, and the text of a checkpoint with all its lines.
pub fn message(time: u64, text: &str) -> Vec<u8> {
    format!("cosignature/v1\ntime {time}\n{text}").into_bytes()
}

/// The time, and the signature behind it.
pub(super) fn split(signature: &[u8]) -> Option<(u64, &[u8])> {
    let (time, signature) = signature.split_first_chunk::<TIME_BYTES>()?;
    let time = Some(u64::from_be_bytes(*time)).filter(|time| *time <= TIME_MAX)?;
    Some((time, signature))
}

/// A witness's name and key.
#[derive(Debug)]
pub struct Cosigner {
    pair: Ed25519KeyPair,
    key: VerifierKey,
}

impl Cosigner {
    /// A witness of that name. The key pair must be used for nothing else.
    ///
    /// # Errors
    ///
    /// [`KeyError::Name`].
    pub fn new(name: &str, pair: Ed25519KeyPair) -> Result<Self, KeyError> {
        let key = VerifierKey::new(name, KeyKind::Cosignature, pair.public_key().as_ref())?;
        Ok(Self { pair, key })
    }

    /// What its cosignatures are verified with.
    pub fn key(&self) -> &VerifierKey {
        &self.key
    }

    /// Cosigns the text of a checkpoint, at a time in seconds since 1970.
    ///
    /// # Errors
    ///
    /// [`TimeError`] beyond [`TIME_MAX`].
    pub fn cosign(&self, text: &str, time: u64) -> Result<Signature, TimeError> {
        if time > TIME_MAX {
            return Err(TimeError(time));
        }
        let signed = self.pair.sign(&message(time, text));
        Ok(Signature::new(&self.key, &[&time.to_be_bytes(), signed.as_ref()].concat()))
    }
}
