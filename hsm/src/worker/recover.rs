//! Which public keys a signature can be of (SEC 1 section 4.1.6): how the point of a key is found that the HSM holds and
//! tells nothing of.

use ecdsa::{RecoveryId, Signature, VerifyingKey};

use crate::algorithms::KeySpec;

/// The points, uncompressed, of which `signature` (r and s, one behind the other) over `digest` can be.
pub(crate) fn points(spec: KeySpec, digest: &[u8], signature: &[u8]) -> Vec<Vec<u8>> {
    macro_rules! on {
        ($curve:ty) => {{
            let Ok(signature) = Signature::<$curve>::from_slice(signature) else { return Vec::new() };
            let ids = (0..=RecoveryId::MAX).filter_map(RecoveryId::from_byte);
            let keys = ids.filter_map(|id| VerifyingKey::<$curve>::recover_from_prehash(digest, &signature, id).ok());
            keys.map(|key| key.to_sec1_point(false).as_bytes().to_vec()).collect()
        }};
    }
    match spec {
        KeySpec::P256 => on!(p256::NistP256),
        KeySpec::P384 => on!(p384::NistP384),
        KeySpec::P521 => on!(p521::NistP521),
        KeySpec::P256K => on!(k256::Secp256k1),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use ecdsa::signature::hazmat::PrehashSigner as _;

    use super::*;

    #[test]
    fn the_key_of_a_signature_is_among_its_points() {
        macro_rules! holds {
            ($spec:expr, $curve:ident, $digest:expr) => {{
                let key = $curve::ecdsa::SigningKey::from_slice(&[7; $spec.bytes()]).or_else(|_| {
                    let mut scalar = [7; $spec.bytes()];
                    scalar[0] = 0;
                    $curve::ecdsa::SigningKey::from_slice(&scalar)
                });
                let key = key.expect("a scalar");
                let digest = [9; $digest];
                let signature: $curve::ecdsa::Signature = key.sign_prehash(&digest).expect("signs");
                let found = points($spec, &digest, &signature.to_bytes());
                let own = key.verifying_key().to_sec1_point(false).as_bytes().to_vec();
                assert!(found.contains(&own) && found.len() >= 2, "{}", $spec.name());
            }};
        }
        holds!(KeySpec::P256, p256, 32);
        holds!(KeySpec::P384, p384, 48);
        holds!(KeySpec::P521, p521, 64);
        holds!(KeySpec::P256K, k256, 32);
        assert!(points(KeySpec::P256, &[9; 32], &[0; 64]).is_empty());
        assert!(points(KeySpec::P256, &[9; 32], &[1; 63]).is_empty());
        assert!(points(KeySpec::Rsa2048, &[9; 32], &[1; 64]).is_empty());
    }
}
