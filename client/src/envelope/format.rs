//! The bytes of an envelope. Pure; see the module above for the table.

use super::EnvelopeError;

const MAGIC: &[u8] = b"SRE1";
/// Of AES-GCM.
pub(super) const NONCE_BYTES: usize = 12;
/// Of AES-GCM.
pub(super) const TAG_BYTES: usize = 16;

/// An envelope, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    /// What stands before the nonce.
    pub(super) header: &'a [u8],
    pub(super) version: &'a str,
    pub(super) algorithm: &'a str,
    pub(super) wrapped_key: &'a [u8],
    pub(super) nonce: [u8; NONCE_BYTES],
    pub(super) ciphertext: &'a [u8],
    pub(super) tag: &'a [u8],
}

/// A header; `None` when a part is longer than its length can say.
pub(super) fn header(version: &str, algorithm: &str, wrapped_key: &[u8]) -> Option<Vec<u8>> {
    let mut header = MAGIC.to_vec();
    header.extend(u16::try_from(version.len()).ok()?.to_be_bytes());
    header.extend(version.as_bytes());
    header.push(u8::try_from(algorithm.len()).ok()?);
    header.extend(algorithm.as_bytes());
    header.extend(u16::try_from(wrapped_key.len()).ok()?.to_be_bytes());
    header.extend(wrapped_key);
    Some(header)
}

impl<'a> Parts<'a> {
    pub(super) fn split(sealed: &'a [u8]) -> Result<Self, EnvelopeError> {
        let rest = sealed.strip_prefix(MAGIC).ok_or(EnvelopeError::NotAnEnvelope("it begins otherwise"))?;
        Self::after_magic(sealed, rest).ok_or(EnvelopeError::NotAnEnvelope("it is cut off, or its names are no text"))
    }

    fn after_magic(sealed: &'a [u8], rest: &'a [u8]) -> Option<Self> {
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (version, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        let (length, rest) = rest.split_first()?;
        let (algorithm, rest) = rest.split_at_checked(usize::from(*length))?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (wrapped_key, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        let header = &sealed[..sealed.len() - rest.len()];
        let (nonce, rest) = rest.split_first_chunk::<NONCE_BYTES>()?;
        let (ciphertext, tag) = rest.split_at_checked(rest.len().checked_sub(TAG_BYTES)?)?;
        let (version, algorithm) = (str::from_utf8(version).ok()?, str::from_utf8(algorithm).ok()?);
        Some(Self { header, version, algorithm, wrapped_key, nonce: *nonce, ciphertext, tag })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back() {
        let header = header("vaults/dev/keys/k/versions/0", "A256KW", &[7; 40]).expect("short");
        let sealed = [&header[..], &[1; NONCE_BYTES], b"text", &[2; TAG_BYTES]].concat();
        let parts = Parts::split(&sealed).expect("an envelope");
        assert_eq!(parts.header, header);
        assert_eq!((parts.version, parts.algorithm), ("vaults/dev/keys/k/versions/0", "A256KW"));
        assert_eq!((parts.wrapped_key, parts.ciphertext), (&[7; 40][..], &b"text"[..]));
        assert_eq!((parts.nonce, parts.tag), ([1; NONCE_BYTES], &[2; TAG_BYTES][..]));
    }

    #[test]
    fn what_is_cut_off_is_refused_at_every_length() {
        let header = header("v", "a", &[7; 4]).expect("short");
        let whole = [&header[..], &[1; NONCE_BYTES + TAG_BYTES]].concat();
        assert!(Parts::split(&whole).is_ok(), "an empty plaintext");
        for length in 0..whole.len() {
            assert!(Parts::split(&whole[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn this_is_the_header() {
        assert_eq!(header("v/1", "A", &[9, 8]).expect("short"), b"SRE1\0\x03v/1\x01A\0\x02\x09\x08");
        assert_eq!(header(&"v".repeat(65_536), "A", &[]), None);
    }
}
