//! RSAES-OAEP with SHA-256 around a raw RSA of the HSM (RFC 8017 section 7.1), label empty.
//!
//! ```text
//! EM = 0x00 | maskedSeed | maskedDB             k bytes, the modulus' length; h = 32
//! DB = SHA-256("") | 0x00 ... 0x00 | 0x01 | M   k - h - 1 bytes
//! maskedDB = DB xor MGF1(seed, k - h - 1)       maskedSeed = seed xor MGF1(maskedDB, h)
//! ```
//!
//! SoftHSM 2.6.1 has OAEP with SHA-1 only. Decoding takes the same time whatever is wrong, and says
//! only that something is: anything more is Manger's oracle (CRYPTO 2001).

use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};
use zeroize::Zeroizing;

use crate::secret::SecretBytes;

/// The length of the hash and of the seed, in bytes.
pub(crate) const HASH_BYTES: usize = 32;

/// Encodes a message for a modulus of `k` bytes.
///
/// # Panics
/// When the message is longer than `k` - 66, which the caller has checked.
pub(crate) fn encode(k: usize, message: &[u8], seed: &[u8; HASH_BYTES]) -> Zeroizing<Vec<u8>> {
    assert!(message.len() + 2 * HASH_BYTES + 2 <= k, "the table limits the message's length");
    let mut encoded = Zeroizing::new(vec![0u8; k]);
    let (masked_seed, data) = encoded[1..].split_at_mut(HASH_BYTES);
    masked_seed.copy_from_slice(seed);
    data[..HASH_BYTES].copy_from_slice(&Sha256::digest([]));
    let start = data.len() - message.len();
    data[start - 1] = 1;
    data[start..].copy_from_slice(message);
    mask(data, masked_seed);
    mask(masked_seed, data);
    encoded
}

/// Decodes what the raw RSA gave. It may lack leading zeros: some modules give the number without them.
/// `None` for everything that [`encode`] would not have written.
pub(crate) fn decode(k: usize, raw: &[u8]) -> Option<SecretBytes> {
    // Lengths are public: they depend on the key, and on the module's habit with leading zeros.
    if raw.len() > k || k < 2 * HASH_BYTES + 2 {
        return None;
    }
    let mut encoded = Zeroizing::new(vec![0u8; k]);
    encoded[k - raw.len()..].copy_from_slice(raw);
    let (first, rest) = encoded.split_at_mut(1);
    let (seed, data) = rest.split_at_mut(HASH_BYTES);
    mask(seed, data);
    mask(data, seed);

    let mut right = first[0].ct_eq(&0);
    right &= data[..HASH_BYTES].ct_eq(&Sha256::digest([]));
    // The first byte after the zeros must be one; where that is must not show.
    let mut searching = Choice::from(1);
    let mut start = 0u32;
    for (index, byte) in (0u32..).zip(data.iter()).skip(HASH_BYTES) {
        let is_one = byte.ct_eq(&1);
        start.conditional_assign(&(index + 1), searching & is_one);
        right &= !searching | is_one | byte.ct_eq(&0);
        searching &= !is_one;
    }
    right &= !searching;
    if bool::from(right) {
        let start = usize::try_from(start).ok()?;
        Some(SecretBytes::new(data[start..].to_vec()))
    } else {
        None
    }
}

/// `target` xor MGF1(`seed`) (RFC 8017 appendix B.2.1).
fn mask(target: &mut [u8], seed: &[u8]) {
    for (counter, chunk) in (0u32..).zip(target.chunks_mut(HASH_BYTES)) {
        let mut block = Zeroizing::new([0u8; HASH_BYTES]);
        block.copy_from_slice(&Sha256::new().chain_update(seed).chain_update(counter.to_be_bytes()).finalize());
        for (byte, pad) in chunk.iter_mut().zip(block.iter()) {
            *byte ^= pad;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Masks a data block by hand, so that what is wrong with it can be chosen.
    fn around(first: u8, mut data: Vec<u8>, mut seed: [u8; HASH_BYTES]) -> Vec<u8> {
        mask(&mut data, &seed);
        mask(&mut seed, &data);
        [&[first], seed.as_slice(), &data].concat()
    }

    fn data_block(k: usize) -> Vec<u8> {
        let mut data = vec![0; k - HASH_BYTES - 1];
        data[..HASH_BYTES].copy_from_slice(&Sha256::digest([]));
        data
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(message in prop::collection::vec(any::<u8>(), 0..191), seed: [u8; 32]) {
            let encoded = encode(256, &message, &seed);
            prop_assert_eq!(encoded[0], 0);
            let decoded = decode(256, &encoded).expect("right");
            prop_assert_eq!(decoded.expose_secret(), &*message);
            let decoded = decode(256, &encoded[1..]).expect("right without its leading zero");
            prop_assert_eq!(decoded.expose_secret(), &*message);
        }

        #[test]
        fn noise_is_refused(raw in prop::collection::vec(any::<u8>(), 256)) {
            prop_assert!(decode(256, &raw).is_none());
        }
    }

    #[test]
    fn each_single_fault_is_refused() {
        let k = 256;
        let mut right = data_block(k);
        right[100] = 1;
        assert!(decode(k, &around(0, right.clone(), [3; 32])).is_some());
        assert!(decode(k, &around(1, right.clone(), [3; 32])).is_none(), "first byte not zero");
        let mut wrong = right.clone();
        wrong[31] ^= 1;
        assert!(decode(k, &around(0, wrong, [3; 32])).is_none(), "hash of another label");
        let mut wrong = right.clone();
        wrong[60] = 2;
        assert!(decode(k, &around(0, wrong, [3; 32])).is_none(), "a byte between the zeros");
        assert!(decode(k, &around(0, data_block(k), [3; 32])).is_none(), "no one at all");
        assert!(decode(k, &[0; 257]).is_none(), "longer than the modulus");
        let mut last = data_block(k);
        *last.last_mut().expect("not empty") = 1;
        assert!(decode(k, &around(0, last, [3; 32])).is_some_and(|message| message.is_empty()));
    }
}
