//! The padding of A*CBCPAD (RFC 5652 section 6.3), around an AES-CBC of the HSM.
//!
//! ```text
//! padded = M | p ... p        p times, p from 1 to 16, so that whole blocks come out
//! ```
//!
//! The module could do it (`CKM_AES_CBC_PAD`), but says in its own words and time what is wrong. Here one
//! answer is given for all that is wrong, after the same time. That does not make it safe to answer
//! everyone: that something is wrong is what Vaudenay's attack (EUROCRYPT 2002) asks for.

use subtle::{ConstantTimeEq as _, ConstantTimeGreater as _, ConstantTimeLess as _};
use zeroize::Zeroizing;

use crate::{algorithms::AES_BLOCK_BYTES, secret::SecretBytes};

/// Pads a message to whole blocks.
pub(crate) fn pad(message: &[u8]) -> Zeroizing<Vec<u8>> {
    let length = (message.len() + 1).next_multiple_of(AES_BLOCK_BYTES);
    let padding = u8::try_from(length - message.len()).expect("at most a block");
    let mut padded = Zeroizing::new(vec![padding; length]);
    padded[..message.len()].copy_from_slice(message);
    padded
}

/// Takes the padding off. `None` for everything that [`pad`] would not have written.
pub(crate) fn unpad(padded: &SecretBytes) -> Option<SecretBytes> {
    let padded = padded.expose_secret();
    if !padded.len().is_multiple_of(AES_BLOCK_BYTES) {
        return None;
    }
    let padding = padded.last()?;
    let mut right = padding.ct_gt(&0) & !padding.ct_gt(&16);
    for (index, byte) in (0u8..).zip(padded.iter().rev().take(AES_BLOCK_BYTES)) {
        right &= !index.ct_lt(padding) | byte.ct_eq(padding);
    }
    if bool::from(right) {
        let length = padded.len() - usize::from(*padding);
        Some(SecretBytes::new(padded[..length].to_vec()))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unpadded(padded: &[u8]) -> Option<Vec<u8>> {
        unpad(&SecretBytes::new(padded.to_vec())).map(SecretBytes::into_exposed)
    }

    proptest! {
        #[test]
        fn what_is_padded_is_unpadded(message in prop::collection::vec(any::<u8>(), 0..70)) {
            let padded = pad(&message);
            prop_assert!(padded.len() > message.len() && padded.len() <= message.len() + 16);
            prop_assert_eq!(unpadded(&padded), Some(message));
        }

        #[test]
        fn only_what_pad_writes_is_taken(padded in prop::collection::vec(0u8..20, 0..5 * 16)) {
            if let Some(message) = unpadded(&padded) {
                prop_assert_eq!(&*pad(&message), &padded);
            }
        }
    }

    #[test]
    fn each_wrong_padding_is_refused() {
        let block = |tail: &[u8]| [&vec![0xaa; 16 - tail.len()][..], tail].concat();
        assert_eq!(unpadded(&block(&[3, 3, 3])), Some(vec![0xaa; 13]));
        assert_eq!(unpadded(&[16; 16]), Some(Vec::new()));
        for wrong in [block(&[0]), block(&[17]), block(&[2, 3, 3]), block(&[3, 2, 3]), block(&[0xff]), vec![17; 32]] {
            assert_eq!(unpadded(&wrong), None, "{wrong:?}");
        }
        assert_eq!(unpadded(&[]), None);
        assert_eq!(unpadded(&[1; 15]), None);
    }
}
