//! Signatures, verified by AWS-LC: a library that has no part in making them.

use aws_lc_rs::signature::{self as lc, UnparsedPublicKey, VerificationAlgorithm};
use strongroom_hsm::algorithms::{Algorithm, KeySpec};

use super::case::MESSAGE;

/// Whether `signature` is one of [`MESSAGE`] by the key whose SubjectPublicKeyInfo (DER) that is. `None` where
/// no software can tell: a MAC's key never leaves the HSM.
#[must_use]
pub fn signature(algorithm: Algorithm, spec: KeySpec, spki: &[u8], signature: &[u8]) -> Option<bool> {
    let by = verifier(algorithm, spec)?;
    Some(UnparsedPublicKey::new(by, spki).verify(MESSAGE, signature).is_ok())
}

fn verifier(algorithm: Algorithm, spec: KeySpec) -> Option<&'static dyn VerificationAlgorithm> {
    use Algorithm as A;
    Some(match (algorithm, spec) {
        (A::Rs256, _) => &lc::RSA_PKCS1_2048_8192_SHA256,
        (A::Rs384, _) => &lc::RSA_PKCS1_2048_8192_SHA384,
        (A::Rs512, _) => &lc::RSA_PKCS1_2048_8192_SHA512,
        (A::Ps256, _) => &lc::RSA_PSS_2048_8192_SHA256,
        (A::Ps384, _) => &lc::RSA_PSS_2048_8192_SHA384,
        (A::Ps512, _) => &lc::RSA_PSS_2048_8192_SHA512,
        (A::Es256, KeySpec::P256) => &lc::ECDSA_P256_SHA256_FIXED,
        (A::Es256K, KeySpec::P256K) => &lc::ECDSA_P256K1_SHA256_FIXED,
        (A::Es384, KeySpec::P384) => &lc::ECDSA_P384_SHA384_FIXED,
        (A::Es512, KeySpec::P521) => &lc::ECDSA_P521_SHA512_FIXED,
        (A::EdDsa, KeySpec::Ed25519) => &lc::ED25519,
        _ => return None,
    })
}
