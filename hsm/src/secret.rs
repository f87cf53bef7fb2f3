//! Bytes that are secret while they pass through us: wiped when dropped, never printed.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::{ZeroizeOnDrop, optimization_barrier};

/// Secret bytes of any length. No `Clone`, no `Display`, a `Debug` that shows the length only.
#[derive(Default)]
pub struct SecretBytes(Vec<u8>);

impl Drop for SecretBytes {
    fn drop(&mut self) {
        wipe_vec(&mut self.0);
    }
}

impl ZeroizeOnDrop for SecretBytes {}

impl SecretBytes {
    /// Whether the other holds the same, in a time that does not tell where they differ.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }

    /// Takes ownership of `bytes`; they are wiped with this value. Growing a `Vec` leaves copies behind,
    /// so hand over one that was allocated at its final size.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes themselves. Every caller of this name is a place to review.
    #[must_use]
    pub fn expose_secret(&self) -> &[u8] {
        &self.0
    }

    /// Gives the bytes away, to be wiped by whoever takes them.
    #[must_use]
    pub fn into_exposed(mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }

    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Vec<u8>> for SecretBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBytes({} bytes)", self.0.len())
    }
}

impl Serialize for SecretBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for SecretBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde_bytes::ByteBuf::deserialize(deserializer).map(|bytes| Self(bytes.into_vec()))
    }
}

/// Wipes a buffer that held a secret: one `memset`, kept by a barrier. `zeroize` on bytes is as many volatile
/// writes, on a `Vec` twice as many: for messages of a kilobyte that was a fifth of what a worker did.
pub fn wipe(buffer: &mut [u8]) {
    buffer.fill(0);
    optimization_barrier(buffer);
}

/// Wipes all that a buffer has room for, what was cut off its end too, and leaves it empty.
pub fn wipe_vec(buffer: &mut Vec<u8>) {
    buffer.clear();
    // No more than its room, so it does not move.
    buffer.resize(buffer.capacity(), 0);
    optimization_barrier(buffer.as_slice());
    buffer.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_room_of_a_buffer_is_wiped_where_it_lies() {
        let mut buffer = Vec::with_capacity(64);
        buffer.extend_from_slice(&[7; 40]);
        buffer.truncate(8);
        let place = buffer.as_ptr();
        wipe_vec(&mut buffer);
        assert!(buffer.is_empty() && buffer.as_ptr() == place);
        buffer.resize(64, 1);
        wipe(&mut buffer[..32]);
        assert_eq!((&buffer[..32], &buffer[32..]), (&[0; 32][..], &[1; 32][..]));
    }

    #[test]
    fn debug_shows_no_byte() {
        let shown = format!("{:?}", SecretBytes::new(b"hunter2".to_vec()));
        assert_eq!(shown, "SecretBytes(7 bytes)");
    }
}
