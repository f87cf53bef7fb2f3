//! Base64 as it comes from outside: of either alphabet (RFC 4648 sections 4 and 5), padded or not, for clients write it in
//! every way. What goes out is base64url without padding.

use base64ct::{Base64Unpadded, Base64UrlUnpadded, Encoding as _};
use zeroize::Zeroizing;

/// The bytes of a text. `None` where it is not base64.
#[must_use]
pub fn decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let bare = text.strip_suffix("==").or_else(|| text.strip_suffix('=')).unwrap_or(text);
    let mut plain = Zeroizing::new(String::with_capacity(bare.len()));
    plain.extend(bare.chars().map(|letter| match letter {
        '-' => '+',
        '_' => '/',
        other => other,
    }));
    Base64Unpadded::decode_vec(&plain).map(Zeroizing::new).ok()
}

/// The text of bytes.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn either_alphabet_is_read_padded_or_not() {
        for text in ["-_8", "-_8=", "+/8", "+/8=", "+_8="] {
            assert_eq!(decode(text).as_deref().map(Vec::as_slice), Some(&[0xfb, 0xff][..]), "{text}");
        }
        assert_eq!(decode("").as_deref().map(Vec::len), Some(0));
        for wrong in ["a", "a b", "ab\n", "====", "é", "ab=c", "+/9"] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_goes_out_comes_back(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let back = decode(&encode(&bytes));
            prop_assert_eq!(back.as_deref(), Some(&bytes));
        }
    }
}
