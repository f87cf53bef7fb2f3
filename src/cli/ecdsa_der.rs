//! ECDSA signatures in their two forms: r‖s, each as wide as the curve's order (RFC 7518 section 3.4),
//! and `SEQUENCE { r INTEGER, s INTEGER }` in DER (RFC 3279 section 2.2.3), which OpenSSL takes.

use crate::model::Algorithm;

use super::failure::Failure;

/// r‖s to DER.
///
/// # Errors
/// When the algorithm is not ECDSA, or the signature none of its curve.
pub(super) fn to_der(algorithm: Algorithm, raw: &[u8]) -> Result<Vec<u8>, Failure> {
    let der = match algorithm {
        Algorithm::Es256 => p256::ecdsa::Signature::from_slice(raw).map(|s| s.to_der().as_bytes().to_vec()),
        Algorithm::Es384 => p384::ecdsa::Signature::from_slice(raw).map(|s| s.to_der().as_bytes().to_vec()),
        Algorithm::Es512 => p521::ecdsa::Signature::from_slice(raw).map(|s| s.to_der().as_bytes().to_vec()),
        Algorithm::Es256K => k256::ecdsa::Signature::from_slice(raw).map(|s| s.to_der().as_bytes().to_vec()),
        _ => return Err(one_form_only(algorithm)),
    };
    der.map_err(|_| Failure::new(format!("the server's answer is not a signature of {}", algorithm.name())))
}

/// DER to r‖s.
///
/// # Errors
/// When the algorithm is not ECDSA, or the bytes are not a signature of its curve in DER.
pub(super) fn from_der(algorithm: Algorithm, der: &[u8]) -> Result<Vec<u8>, Failure> {
    let raw = match algorithm {
        Algorithm::Es256 => p256::ecdsa::Signature::from_der(der).map(|s| s.to_vec()),
        Algorithm::Es384 => p384::ecdsa::Signature::from_der(der).map(|s| s.to_vec()),
        Algorithm::Es512 => p521::ecdsa::Signature::from_der(der).map(|s| s.to_vec()),
        Algorithm::Es256K => k256::ecdsa::Signature::from_der(der).map(|s| s.to_vec()),
        _ => return Err(one_form_only(algorithm)),
    };
    raw.map_err(|_| {
        Failure::new(format!("the signature is not one of {} in DER", algorithm.name()))
            .hint("leave out --der for a signature in the form r‖s, as `key sign` writes it without --der")
    })
}

/// Refuses `--der` where there is nothing to choose.
pub(super) fn check_choice(algorithm: Algorithm) -> Result<(), Failure> {
    let ecdsa = matches!(algorithm, Algorithm::Es256 | Algorithm::Es384 | Algorithm::Es512 | Algorithm::Es256K);
    if ecdsa { Ok(()) } else { Err(one_form_only(algorithm)) }
}

fn one_form_only(algorithm: Algorithm) -> Failure {
    Failure::new(format!("--der is for ECDSA; signatures of {} have one form only", algorithm.name()))
        .hint("leave out --der")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// r and s as INTEGERs, written by hand: short r (leading zeroes in r‖s), s with its high bit set.
    fn pair(width: usize) -> (Vec<u8>, Vec<u8>) {
        let mut raw = vec![0; 2 * width];
        raw[width - 1] = 5;
        raw[2 * width - 2..].copy_from_slice(&[0x80, 1]);
        (raw, vec![0x30, 8, 2, 1, 5, 2, 3, 0, 0x80, 1])
    }

    #[test]
    fn both_ways_on_every_curve() {
        let widths = [(Algorithm::Es256, 32), (Algorithm::Es256K, 32), (Algorithm::Es384, 48), (Algorithm::Es512, 66)];
        for (algorithm, width) in widths {
            let (raw, der) = pair(width);
            assert_eq!(to_der(algorithm, &raw).expect("a signature"), der, "{}", algorithm.name());
            assert_eq!(from_der(algorithm, &der).expect("a signature"), raw, "{}", algorithm.name());
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        let (raw, der) = pair(32);
        assert!(from_der(Algorithm::Es256, &raw).is_err());
        assert!(from_der(Algorithm::Es256, &der[..9]).is_err());
        assert!(from_der(Algorithm::Es256, &[&der[..], &[0]].concat()).is_err(), "something follows");
        assert!(from_der(Algorithm::Es256, &[0x30, 6, 2, 1, 0, 2, 1, 1]).is_err(), "r is zero");
        assert!(to_der(Algorithm::Es384, &raw).is_err());
    }

    #[test]
    fn rsa_has_one_form() {
        let text = to_der(Algorithm::Ps256, &[0; 256]).expect_err("RSA").to_string();
        assert!(text.starts_with("--der is for ECDSA; signatures of PS256"), "{text}");
        assert!(check_choice(Algorithm::Es512).is_ok() && check_choice(Algorithm::Rs256).is_err());
    }
}
