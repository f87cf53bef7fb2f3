//! The two fields that checkpoints and proofs share, each with one spelling only: what is read is what would be written.

use base64ct::{Base64, Encoding as _};

use super::hash::{Hash, SIZE_MAX};

/// A size or an index: decimal, no sign, no leading zeroes, at most [`SIZE_MAX`].
pub(super) fn decimal(text: &str) -> Option<u64> {
    let number = text.parse::<u64>().ok().filter(|number| *number <= SIZE_MAX)?;
    (number.to_string() == text).then_some(number)
}

/// A hash: base64 with its padding.
pub(super) fn hash(text: &str) -> Option<Hash> {
    Base64::decode_vec(text).ok()?.try_into().ok()
}

/// A hash as [`hash`] reads it.
pub(super) fn of_hash(hash: &Hash) -> String {
    Base64::encode_string(hash)
}
