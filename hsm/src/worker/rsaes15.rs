//! Takes the padding of RSAES-PKCS1-v1_5 off what a raw RSA of the HSM gave (RFC 8017 section 7.2.2).
//!
//! ```text
//! EM = 0x00 | 0x02 | PS | 0x00 | M        k bytes, the modulus' length; PS is 8 bytes or more, none zero
//! ```
//!
//! The module could do it (`CKM_RSA_PKCS`), but says in its own words and time what is wrong. Here one
//! answer is given for all that is wrong, after the same time. That does not make it safe to answer
//! everyone: that something is wrong is what Bleichenbacher's attack (CRYPTO 1998) asks for.

use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _, ConstantTimeLess as _};
use zeroize::Zeroizing;

use crate::{algorithms::RSAES15_PADDING_BYTES_MIN, secret::SecretBytes};

/// Decodes what the raw RSA gave. It may lack leading zeros: some modules give the number without them.
/// `None` for everything that no encryption gives.
pub(crate) fn decode(k: usize, raw: &[u8]) -> Option<SecretBytes> {
    // Lengths are public: they depend on the key, and on the module's habit with leading zeros.
    if raw.len() > k || k < RSAES15_PADDING_BYTES_MIN {
        return None;
    }
    let mut encoded = Zeroizing::new(vec![0u8; k]);
    encoded[k - raw.len()..].copy_from_slice(raw);
    let mut right = encoded[0].ct_eq(&0) & encoded[1].ct_eq(&2);
    // Where the first zero is, and so the message begins, must not show.
    let mut searching = Choice::from(1);
    let mut start = 0u32;
    for (index, byte) in (0u32..).zip(encoded.iter()).skip(2) {
        let is_zero = byte.ct_eq(&0);
        start.conditional_assign(&(index + 1), searching & is_zero);
        searching &= !is_zero;
    }
    let start_min = u32::try_from(RSAES15_PADDING_BYTES_MIN).ok()?;
    right &= !searching & !start.ct_lt(&start_min);
    if bool::from(right) {
        let start = usize::try_from(start).ok()?;
        Some(SecretBytes::new(encoded[start..].to_vec()))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(padding: &[u8], message: &[u8]) -> Vec<u8> {
        [&[0, 2], padding, &[0], message].concat()
    }

    fn decoded(raw: &[u8]) -> Option<Vec<u8>> {
        decode(256, raw).map(SecretBytes::into_exposed)
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(message in prop::collection::vec(any::<u8>(), 0..=245), pad in 1u8..) {
            let em = encoded(&vec![pad; 253 - message.len()], &message);
            prop_assert_eq!(decoded(&em), Some(message.clone()));
            prop_assert_eq!(decoded(&em[1..]), Some(message), "without its leading zero");
        }
    }

    #[test]
    fn each_single_fault_is_refused() {
        let right = encoded(&[7; 8], &[1; 245]);
        assert_eq!(decoded(&right), Some(vec![1; 245]));
        for (at, value) in [(0, 1), (1, 1), (1, 0), (2, 0), (5, 0), (9, 0)] {
            let mut wrong = right.clone();
            wrong[at] = value;
            assert_eq!(decoded(&wrong), None, "{value} at {at}");
        }
        let mut no_zero = vec![7; 256];
        no_zero[..2].copy_from_slice(&[0, 2]);
        assert_eq!(decoded(&no_zero), None);
        assert_eq!(decoded(&[0; 256]), None);
        assert_eq!(decoded(&[]), None);
        assert_eq!(decoded(&[0; 257]), None, "longer than the modulus");
        let empty = encoded(&[7; 253], &[]);
        assert_eq!(decoded(&empty), Some(Vec::new()));
    }
}
