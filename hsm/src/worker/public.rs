//! Public keys: SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7) to and from what PKCS#11 has in
//! attributes, DigestInfo, and the second opinion in software that proves a key.

use aws_lc_rs::{
    digest::{self, Digest as LcDigest},
    signature::{self, ParsedPublicKey, UnparsedPublicKey, VerificationAlgorithm},
};
use const_oid::ObjectIdentifier;
use der::{
    Decode as _, Encode as _,
    asn1::{Any, AnyRef, BitStringRef, Null, OctetStringRef, UintRef},
};
use pkcs1::RsaPublicKeyRef;
use spki::{AlgorithmIdentifier, AlgorithmIdentifierRef, SubjectPublicKeyInfo, SubjectPublicKeyInfoRef};

use crate::algorithms::{Digest, KeySpec, KeyType};

// RFC 8017 appendix A.1; RFC 5480 section 2.1.1; RFC 8410 section 3; NIST CSOR.
pub(crate) const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
pub(crate) const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
pub(crate) const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const SECP256R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const SECP384R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const SECP521R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
const SECP256K1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.10");
const ID_SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
const ID_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const ID_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const ID_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");

/// 65537, as PKCS#11 takes it.
pub(crate) const PUBLIC_EXPONENT: [u8; 3] = [1, 0, 1];

/// A public key that is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadPublicKey;

impl From<der::Error> for BadPublicKey {
    fn from(_: der::Error) -> Self {
        Self
    }
}

/// A public key by its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Public {
    /// Big-endian, without leading zeros.
    Rsa {
        /// n.
        modulus: Vec<u8>,
        /// e.
        exponent: Vec<u8>,
    },
    /// An uncompressed point (SEC 1 section 2.3.3): 4, x, y.
    Ec {
        /// The point.
        point: Vec<u8>,
    },
    /// An Ed25519 key (RFC 8032 section 5.1.5).
    Ed25519 {
        /// Its 32 bytes.
        key: Vec<u8>,
    },
}

/// An ECDSA signature as RFC 3279 section 2.2.3 has it.
#[derive(der::Sequence)]
struct EcdsaSigValue<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

/// An ECDSA signature from r‖s to DER.
pub(crate) fn ecdsa_to_der(raw: &[u8]) -> Result<Vec<u8>, BadPublicKey> {
    let (r, s) = raw.split_at(raw.len() / 2);
    Ok(EcdsaSigValue { r: UintRef::new(r)?, s: UintRef::new(s)? }.to_der()?)
}

/// `DigestInfo` of RFC 8017 appendix A.2.4.
#[derive(der::Sequence)]
struct DigestInfo<'a> {
    algorithm: AlgorithmIdentifierRef<'a>,
    digest: &'a OctetStringRef,
}

/// The DER of DigestInfo: what RSASSA-PKCS1-v1_5 pads (RFC 8017 section 9.2).
pub(crate) fn digest_info(digest: Digest, value: &[u8]) -> Result<Vec<u8>, BadPublicKey> {
    let oid = match digest {
        Digest::Sha1 => ID_SHA1,
        Digest::Sha256 => ID_SHA256,
        Digest::Sha384 => ID_SHA384,
        Digest::Sha512 => ID_SHA512,
    };
    let algorithm = AlgorithmIdentifier { oid, parameters: Some(AnyRef::NULL) };
    Ok(DigestInfo { algorithm, digest: OctetStringRef::new(value)? }.to_der()?)
}

/// CKA_EC_PARAMS of a curve: its OID, or its name for Ed25519. `None` when the kind has no curve.
pub(crate) fn ec_parameters(spec: KeySpec) -> Option<Vec<u8>> {
    if spec == KeySpec::Ed25519 {
        return Some(ED25519_PARAMETERS.to_vec());
    }
    curve(spec).and_then(|oid| oid.to_der().ok())
}

/// CKA_EC_PARAMS of Ed25519, as SoftHSM takes it: its name as a PrintableString (PKCS#11 3.1 section 6.3.3).
pub(crate) const ED25519_PARAMETERS: &[u8] = b"\x13\x0cedwards25519";

/// The OID of a curve. `None` when the kind is not EC.
pub(crate) fn curve(spec: KeySpec) -> Option<ObjectIdentifier> {
    match spec {
        KeySpec::P256 => Some(SECP256R1),
        KeySpec::P384 => Some(SECP384R1),
        KeySpec::P521 => Some(SECP521R1),
        KeySpec::P256K => Some(SECP256K1),
        _ => None,
    }
}

/// CKA_EC_POINT holds a DER OCTET STRING by the standard and the bare point by habit of some modules: the
/// bare point of `point_bytes` bytes.
pub(crate) fn bare_point(value: &[u8], point_bytes: usize) -> Result<&[u8], BadPublicKey> {
    if value.len() == point_bytes {
        return Ok(value);
    }
    let inner = <&OctetStringRef>::from_der(value)?.as_bytes();
    if inner.len() == point_bytes { Ok(inner) } else { Err(BadPublicKey) }
}

/// CKA_EC_POINT by the standard: the point in a DER OCTET STRING.
pub(crate) fn wrapped_point(point: &[u8]) -> Result<Vec<u8>, BadPublicKey> {
    Ok(OctetStringRef::new(point)?.to_der()?)
}

impl Public {
    /// An RSA key from CKA_MODULUS and CKA_PUBLIC_EXPONENT, whose modulus must have every bit of `spec`.
    pub(crate) fn rsa(spec: KeySpec, modulus: &[u8], exponent: &[u8]) -> Result<Self, BadPublicKey> {
        let modulus = without_zeros(modulus);
        let full = modulus.len() == spec.bytes() && modulus.first().is_some_and(|first| first & 0x80 != 0);
        if !full || modulus.last().is_some_and(|last| last & 1 == 0) {
            return Err(BadPublicKey);
        }
        Ok(Self::Rsa { modulus: modulus.to_vec(), exponent: without_zeros(exponent).to_vec() })
    }

    /// An EC key from CKA_EC_POINT.
    pub(crate) fn ec(spec: KeySpec, value: &[u8]) -> Result<Self, BadPublicKey> {
        let point = bare_point(value, 1 + 2 * spec.bytes())?;
        if point.first() != Some(&4) {
            return Err(BadPublicKey);
        }
        Ok(Self::Ec { point: point.to_vec() })
    }

    /// An Ed25519 key from CKA_EC_POINT.
    pub(crate) fn ed25519(value: &[u8]) -> Result<Self, BadPublicKey> {
        Ok(Self::Ed25519 { key: bare_point(value, KeySpec::Ed25519.bytes())?.to_vec() })
    }

    /// Reads the SubjectPublicKeyInfo of a key of that kind.
    pub(crate) fn from_spki(spec: KeySpec, spki: &[u8]) -> Result<Self, BadPublicKey> {
        let info = SubjectPublicKeyInfoRef::from_der(spki)?;
        let bits = info.subject_public_key.as_bytes().ok_or(BadPublicKey)?;
        match spec.key_type() {
            KeyType::Rsa if info.algorithm.oid == RSA_ENCRYPTION => {
                let key = RsaPublicKeyRef::from_der(bits)?;
                Self::rsa(spec, key.modulus.as_bytes(), key.public_exponent.as_bytes())
            }
            KeyType::Ec if info.algorithm.oid == EC_PUBLIC_KEY => {
                let named = info.algorithm.parameters.map(|any| any.decode_as::<ObjectIdentifier>()).transpose()?;
                if named.is_none() || named != curve(spec) { Err(BadPublicKey) } else { Self::ec(spec, bits) }
            }
            // RFC 8410 section 3: the parameters are absent.
            KeyType::Okp if info.algorithm.oid == ED25519 && info.algorithm.parameters.is_none() => {
                if bits.len() == spec.bytes() { Self::ed25519(bits) } else { Err(BadPublicKey) }
            }
            KeyType::Rsa | KeyType::Ec | KeyType::Okp | KeyType::Aes | KeyType::Hmac => Err(BadPublicKey),
        }
    }

    /// The SubjectPublicKeyInfo, in DER.
    pub(crate) fn to_spki(&self, spec: KeySpec) -> Result<Vec<u8>, BadPublicKey> {
        match self {
            Self::Rsa { .. } => spki_of(RSA_ENCRYPTION, Some(Any::from(Null)), &self.to_bits()?),
            Self::Ec { .. } => {
                let curve = curve(spec).ok_or(BadPublicKey)?;
                spki_of(EC_PUBLIC_KEY, Some(Any::encode_from(&curve)?), &self.to_bits()?)
            }
            Self::Ed25519 { key } => spki_of(ED25519, None, key),
        }
    }

    /// What stands in the bit string: RSAPublicKey (RFC 8017 appendix A.1.1), the point, or Ed25519's bytes.
    fn to_bits(&self) -> Result<Vec<u8>, BadPublicKey> {
        match self {
            Self::Rsa { modulus, exponent } => {
                let key = RsaPublicKeyRef { modulus: UintRef::new(modulus)?, public_exponent: UintRef::new(exponent)? };
                Ok(key.to_der()?)
            }
            Self::Ec { point } => Ok(point.clone()),
            Self::Ed25519 { key } => Ok(key.clone()),
        }
    }

    /// Whether a big-endian number of an RSA signature or ciphertext is below the modulus. One that is
    /// not is no result of this key, and modules answer it with errors of every kind.
    pub(crate) fn exceeds(&self, number: &[u8]) -> bool {
        match self {
            Self::Rsa { modulus, .. } => number.len() == modulus.len() && *number < **modulus,
            Self::Ec { .. } | Self::Ed25519 { .. } => true,
        }
    }

    /// Whether, by the judgement of aws-lc-rs, `signature` over `digest` is this key's: the second opinion
    /// that proves a key. RSA signatures are RSASSA-PKCS1-v1_5 with SHA-256, ECDSA signatures r‖s; Ed25519
    /// signs the bytes themselves, of any length.
    pub(crate) fn confirms(&self, spec: KeySpec, digest: &[u8], signature: &[u8]) -> bool {
        if let Self::Ed25519 { key } = self {
            return UnparsedPublicKey::new(&signature::ED25519, key).verify(digest, signature).is_ok();
        }
        let Some((verification, hash)) = verification(spec) else { return false };
        let (Ok(bits), Ok(digest)) = (self.to_bits(), LcDigest::import_less_safe(digest, hash)) else {
            return false;
        };
        UnparsedPublicKey::new(verification, bits).verify_digest(&digest, signature).is_ok()
    }

    /// Whether aws-lc-rs takes it for a key of that kind: above all, whether a point is on its curve. At that
    /// of an Ed25519 key it does not look.
    pub(crate) fn is_sound(&self, spec: KeySpec) -> bool {
        if let Self::Ed25519 { key } = self {
            return is_sound_ed25519(key);
        }
        let Some((verification, _)) = verification(spec) else { return false };
        self.to_bits().is_ok_and(|bits| ParsedPublicKey::new(verification, bits).is_ok())
    }
}

/// Whether 32 bytes are the one encoding of a point of edwards25519 that is not of small order. With a point
/// of small order, one signature is right for many messages.
fn is_sound_ed25519(key: &[u8]) -> bool {
    let Ok(bytes) = key.try_into() else { return false };
    let point = ed25519_dalek::VerifyingKey::from_bytes(bytes);
    point.is_ok_and(|point| !point.is_weak() && point.to_edwards().compress().as_bytes() == bytes)
}

/// How aws-lc-rs verifies for a kind of key, and over which hash.
fn verification(spec: KeySpec) -> Option<(&'static dyn VerificationAlgorithm, &'static digest::Algorithm)> {
    Some(match spec {
        KeySpec::Rsa2048 | KeySpec::Rsa3072 | KeySpec::Rsa4096 => {
            (&signature::RSA_PKCS1_2048_8192_SHA256, &digest::SHA256)
        }
        KeySpec::P256 => (&signature::ECDSA_P256_SHA256_FIXED, &digest::SHA256),
        KeySpec::P384 => (&signature::ECDSA_P384_SHA384_FIXED, &digest::SHA384),
        KeySpec::P521 => (&signature::ECDSA_P521_SHA512_FIXED, &digest::SHA512),
        KeySpec::P256K => (&signature::ECDSA_P256K1_SHA256_FIXED, &digest::SHA256),
        KeySpec::Ed25519
        | KeySpec::Aes128
        | KeySpec::Aes192
        | KeySpec::Aes256
        | KeySpec::Hmac256
        | KeySpec::Hmac384
        | KeySpec::Hmac512 => return None,
    })
}

/// The modulus and exponent of an RSA key of any size.
pub(crate) fn rsa_parts(spki: &[u8]) -> Result<(Vec<u8>, Vec<u8>), BadPublicKey> {
    let info = SubjectPublicKeyInfoRef::from_der(spki)?;
    if info.algorithm.oid != RSA_ENCRYPTION {
        return Err(BadPublicKey);
    }
    let key = RsaPublicKeyRef::from_der(info.subject_public_key.as_bytes().ok_or(BadPublicKey)?)?;
    Ok((key.modulus.as_bytes().to_vec(), key.public_exponent.as_bytes().to_vec()))
}

fn spki_of(oid: ObjectIdentifier, parameters: Option<Any>, key: &[u8]) -> Result<Vec<u8>, BadPublicKey> {
    let algorithm = AlgorithmIdentifier { oid, parameters };
    let subject_public_key = BitStringRef::from_bytes(key)?;
    Ok(SubjectPublicKeyInfo { algorithm, subject_public_key }.to_der()?)
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::LOG_SIGNATURE_BYTES_MAX;

    #[test]
    fn digest_info_is_that_of_rfc_8017_section_9_2_note_1() {
        let der = digest_info(Digest::Sha256, &[7; 32]).expect("encodes");
        let head = [
            0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04,
            0x20,
        ];
        assert_eq!(der[..19], head);
        assert_eq!(der[19..], [7; 32]);
    }

    #[test]
    fn an_ecdsa_signature_in_der_has_the_shortest_integers() {
        let mut raw = [0; 64];
        raw[31] = 5;
        raw[62..].copy_from_slice(&[0x80, 1]);
        assert_eq!(ecdsa_to_der(&raw).expect("encodes"), [0x30, 8, 2, 1, 5, 2, 3, 0, 0x80, 1]);
        assert_eq!(ecdsa_to_der(&[0xff; 64]).expect("encodes").len(), LOG_SIGNATURE_BYTES_MAX);
    }

    #[test]
    fn a_public_key_survives_its_spki() {
        let mut modulus = vec![0xff; 256];
        modulus[0] = 0x80;
        let key = Public::rsa(KeySpec::Rsa2048, &[&[0], modulus.as_slice()].concat(), &PUBLIC_EXPONENT).expect("full");
        let spki = key.to_spki(KeySpec::Rsa2048).expect("encodes");
        assert_eq!(Public::from_spki(KeySpec::Rsa2048, &spki), Ok(key));
        assert_eq!(Public::from_spki(KeySpec::Rsa3072, &spki), Err(BadPublicKey));
        let point = [&[4], [9; 96].as_slice()].concat();
        let key = Public::ec(KeySpec::P384, &point).expect("uncompressed");
        let spki = key.to_spki(KeySpec::P384).expect("encodes");
        assert_eq!(Public::from_spki(KeySpec::P384, &spki), Ok(key));
        assert_eq!(Public::from_spki(KeySpec::P256, &spki), Err(BadPublicKey));
        let key = Public::ed25519(&[9; 32]).expect("32 bytes");
        let spki = key.to_spki(KeySpec::Ed25519).expect("encodes");
        assert_eq!(spki[..12], [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00], "RFC 8410");
        assert_eq!(Public::from_spki(KeySpec::Ed25519, &spki), Ok(key));
        assert_eq!(Public::from_spki(KeySpec::P256, &spki), Err(BadPublicKey));
        assert_eq!(Public::ed25519(&[9; 31]), Err(BadPublicKey));
    }

    #[test]
    fn two_curves_of_one_size_are_not_confused() {
        let point = [&[4], [9; 64].as_slice()].concat();
        let spki = Public::ec(KeySpec::P256, &point).and_then(|key| key.to_spki(KeySpec::P256)).expect("encodes");
        assert_eq!(Public::from_spki(KeySpec::P256K, &spki), Err(BadPublicKey));
    }

    #[test]
    fn a_modulus_that_lacks_its_top_bit_is_refused() {
        let mut modulus = vec![0xff; 256];
        modulus[0] = 0x7f;
        assert_eq!(Public::rsa(KeySpec::Rsa2048, &modulus, &PUBLIC_EXPONENT), Err(BadPublicKey));
    }
}
