//! Key material that is brought in from outside: parsed and checked once at the rim, and again in the
//! worker, which believes nobody.
//!
//! A public key is taken only if operations with it mean something: a size that is offered, an odd exponent
//! above 2^16 (NIST SP 800-56B section 6.4.2), a point on its curve (SP 800-56A section 5.6.2.3). It goes on in
//! the one encoding that we make ourselves. A secret is taken for its length.

use const_oid::ObjectIdentifier;
use der::Decode as _;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use spki::SubjectPublicKeyInfoRef;
use zeroize::Zeroizing;

use crate::{
    algorithms::{KeySpec, KeyType},
    secret::SecretBytes,
    worker::{
        private,
        public::{self, EC_PUBLIC_KEY, ED25519, Public, RSA_ENCRYPTION},
    },
};

/// A key from outside.
#[derive(Debug, Serialize, Deserialize)]
pub enum Material {
    /// SubjectPublicKeyInfo (DER) as [`Self::public`] gives it.
    Public(ByteBuf),
    /// A secret key as long as its kind.
    Secret(SecretBytes),
    /// A private key as [`Self::private`] gives it.
    Private {
        /// PrivateKeyInfo (PKCS#8, RFC 5958), DER.
        pkcs8: SecretBytes,
        /// The public half as SubjectPublicKeyInfo (DER).
        public: ByteBuf,
    },
}

/// Why material is not taken. The texts follow the name of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMaterial {
    /// It is not the encoding of a public key.
    #[error("is not a SubjectPublicKeyInfo in DER (RFC 5280)")]
    NotSpki,
    /// It is not the encoding of a private key.
    #[error("is not an unencrypted PrivateKeyInfo in DER (PKCS#8, RFC 5958)")]
    NotPkcs8,
    /// A private key whose parts are not of one key.
    #[error("is no private key whose numbers belong together: it was altered, or made wrongly")]
    Inconsistent,
    /// It is of a kind that is not offered.
    #[error(
        "is not a key of a kind that is taken: RSA (rsaEncryption), EC on P-256, P-384, P-521 or secp256k1, Ed25519"
    )]
    Kind,
    /// An RSA modulus of another size.
    #[error("has a modulus of {0} bits; 2048, 3072 or 4096 are taken")]
    ModulusBits(usize),
    /// An RSA modulus that is no product of two large primes.
    #[error("has a modulus that is even or has a small factor: it is no RSA key")]
    Modulus,
    /// An RSA exponent that is weak, or so large that each operation costs what a signature does.
    #[error("has a public exponent that is not odd and between 65537 and 2^32")]
    Exponent,
    /// An EC point that is none.
    #[error("is not an uncompressed point of its curve")]
    Point,
    /// An Ed25519 key that is no point, or one of small order: with it others can sign what they like.
    #[error("is not an Ed25519 point of large order in its canonical encoding")]
    Edwards,
    /// A secret of a length that no AES key has.
    #[error("has {0} bytes; AES keys have 16, 24 or 32")]
    AesBytes(usize),
    /// A secret of a length that HMAC does not take as it is.
    #[error("has {0} bytes; HMAC keys of 1 to 64 bytes are taken, and longer ones are hashed by HMAC itself first")]
    HmacBytes(usize),
}

/// The block of SHA-256 in bytes: HMAC pads a key with zeros to its hash's block (RFC 2104 section 2), which is
/// longer for SHA-384 and SHA-512, and hashes one that is longer. A key padded to the shortest of them gives
/// each the MAC of the key itself.
const HMAC_BYTES_MAX: usize = 64;

/// The odd primes below this one that a modulus must not have as factors (NIST SP 800-89 section 5.3.3).
const SMALL_FACTORS_BELOW: u32 = 752;

impl Material {
    /// A public key from its SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// When it is not one that may be used here.
    pub fn public(spki: &[u8]) -> Result<(KeySpec, Self), BadMaterial> {
        let info = SubjectPublicKeyInfoRef::from_der(spki).map_err(|_| BadMaterial::NotSpki)?;
        let (spec, key) = match info.algorithm.oid {
            RSA_ENCRYPTION => rsa(spki)?,
            EC_PUBLIC_KEY => ec(&info)?,
            ED25519 => ed25519(spki)?,
            _ => return Err(BadMaterial::Kind),
        };
        let spki = key.to_spki(spec).map_err(|_| BadMaterial::NotSpki)?;
        Ok((spec, Self::Public(spki.into())))
    }

    /// An AES key from its bytes.
    ///
    /// # Errors
    /// When no AES key has so many.
    pub fn aes(bytes: SecretBytes) -> Result<(KeySpec, Self), BadMaterial> {
        let spec = match bytes.len() {
            16 => KeySpec::Aes128,
            24 => KeySpec::Aes192,
            32 => KeySpec::Aes256,
            other => return Err(BadMaterial::AesBytes(other)),
        };
        Ok((spec, Self::Secret(bytes)))
    }

    /// An HMAC key from its bytes, padded so that every HS* takes it.
    ///
    /// # Errors
    /// When there are none, or more than can be padded.
    pub fn hmac(bytes: SecretBytes) -> Result<(KeySpec, Self), BadMaterial> {
        let length = bytes.len();
        if !(1..=HMAC_BYTES_MAX).contains(&length) {
            return Err(BadMaterial::HmacBytes(length));
        }
        let mut padded = Zeroizing::new(vec![0; HMAC_BYTES_MAX]);
        padded[..length].copy_from_slice(bytes.expose_secret());
        Ok((KeySpec::Hmac512, Self::Secret(SecretBytes::new(std::mem::take(&mut *padded)))))
    }

    /// A private key from its PrivateKeyInfo.
    ///
    /// # Errors
    /// When it is not one that may be used here, or its parts are not of one key.
    pub fn private(pkcs8: SecretBytes) -> Result<(KeySpec, Self), BadMaterial> {
        let (spec, public) = private::look_at(pkcs8.expose_secret())?;
        Ok((spec, Self::Private { pkcs8, public: public.into() }))
    }

    /// Whether it is the secret itself, and not a public half.
    #[must_use]
    pub const fn is_secret(&self) -> bool {
        matches!(self, Self::Secret(_) | Self::Private { .. })
    }

    /// The public half, where there is one: SubjectPublicKeyInfo (DER).
    #[must_use]
    pub fn public_half(&self) -> &[u8] {
        match self {
            Self::Public(spki) | Self::Private { public: spki, .. } => spki,
            Self::Secret(_) => &[],
        }
    }

    /// How many bytes it has.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Public(spki) => spki.len(),
            Self::Secret(secret) => secret.len(),
            Self::Private { pkcs8, public } => pkcs8.len() + public.len() + 10,
        }
    }
}

fn rsa(spki: &[u8]) -> Result<(KeySpec, Public), BadMaterial> {
    let (modulus, exponent) = public::rsa_parts(spki).map_err(|_| BadMaterial::NotSpki)?;
    let bits = 8 * modulus.len() - modulus.first().map_or(0, |first| first.leading_zeros() as usize);
    let spec = KeySpec::ALL.into_iter().find(|spec| spec.key_type() == KeyType::Rsa && spec.bits() == bits);
    let spec = spec.ok_or(BadMaterial::ModulusBits(bits))?;
    let exponent_fits = (3..=4).contains(&exponent.len()) && exponent.last().is_some_and(|last| last & 1 == 1);
    if !exponent_fits {
        return Err(BadMaterial::Exponent);
    }
    if (2..SMALL_FACTORS_BELOW).any(|divisor| remainder(&modulus, divisor) == 0) {
        return Err(BadMaterial::Modulus);
    }
    let key = Public::rsa(spec, &modulus, &exponent).map_err(|_| BadMaterial::Modulus)?;
    if key.is_sound(spec) { Ok((spec, key)) } else { Err(BadMaterial::Modulus) }
}

/// A big-endian number modulo a small one.
fn remainder(number: &[u8], divisor: u32) -> u32 {
    number.iter().fold(0, |rest, byte| ((rest << 8) | u32::from(*byte)) % divisor)
}

fn ec(info: &SubjectPublicKeyInfoRef<'_>) -> Result<(KeySpec, Public), BadMaterial> {
    // Only curves by name: parameters written out could be those of a curve that somebody knows a way into.
    let named = info.algorithm.parameters.and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
    let named = named.ok_or(BadMaterial::Kind)?;
    let spec = KeySpec::ALL.into_iter().find(|spec| public::curve(*spec) == Some(named)).ok_or(BadMaterial::Kind)?;
    let bits = info.subject_public_key.as_bytes().ok_or(BadMaterial::NotSpki)?;
    let key = Public::ec(spec, bits).map_err(|_| BadMaterial::Point)?;
    if key.is_sound(spec) { Ok((spec, key)) } else { Err(BadMaterial::Point) }
}

fn ed25519(spki: &[u8]) -> Result<(KeySpec, Public), BadMaterial> {
    let spec = KeySpec::Ed25519;
    let key = Public::from_spki(spec, spki).map_err(|_| BadMaterial::Edwards)?;
    if key.is_sound(spec) { Ok((spec, key)) } else { Err(BadMaterial::Edwards) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A modulus whose bits are right, with a last byte of our choice.
    fn modulus(bytes: usize, last: u8) -> Vec<u8> {
        let mut modulus = vec![0xd5; bytes];
        modulus[bytes - 1] = last;
        modulus
    }

    /// One that no small number divides.
    fn sound_modulus(bytes: usize) -> Vec<u8> {
        let sound =
            |last: &u8| !(2..SMALL_FACTORS_BELOW).any(|divisor| remainder(&modulus(bytes, *last), divisor) == 0);
        modulus(bytes, (0..=255).find(sound).expect("one of 128 odd numbers"))
    }

    fn rsa_spki(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
        let key = Public::Rsa { modulus: modulus.to_vec(), exponent: exponent.to_vec() };
        key.to_spki(KeySpec::Rsa2048).expect("encodes")
    }

    fn ec_spki(spec: KeySpec, point: Vec<u8>) -> Vec<u8> {
        Public::Ec { point }.to_spki(spec).expect("encodes")
    }

    fn refused(spki: &[u8]) -> BadMaterial {
        Material::public(spki).expect_err("refused")
    }

    /// The base point of P-256 (SEC 2 section 2.4.2): 04, x, y.
    const P256_POINT: &str = "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c2964fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";

    fn p256_point() -> Vec<u8> {
        let digits = P256_POINT.as_bytes().chunks(2);
        digits.map(|two| u8::from_str_radix(std::str::from_utf8(two).expect("ASCII"), 16).expect("digits")).collect()
    }

    #[test]
    fn a_sound_public_key_is_taken_and_keeps_its_encoding() {
        let spki = ec_spki(KeySpec::P256, p256_point());
        let (spec, material) = Material::public(&spki).expect("taken");
        let Material::Public(taken) = material else { panic!("public") };
        assert_eq!((spec, taken.into_vec()), (KeySpec::P256, spki));
        for (spec, bytes) in [(KeySpec::Rsa2048, 256), (KeySpec::Rsa3072, 384), (KeySpec::Rsa4096, 512)] {
            let (found, _) = Material::public(&rsa_spki(&sound_modulus(bytes), &[1, 0, 1])).expect("taken");
            assert_eq!(found, spec);
        }
    }

    #[test]
    fn points_that_are_none_are_refused() {
        let point = p256_point();
        let mut off = point.clone();
        off[64] ^= 1;
        let mut negative = point.clone();
        negative[0] = 5;
        let compressed = [&[3], &point[1..33]].concat();
        for bad in [off, negative, compressed, vec![0], [&[4], [0; 64].as_slice()].concat(), point[..64].to_vec()] {
            assert_eq!(refused(&ec_spki(KeySpec::P256, bad)), BadMaterial::Point);
        }
        // The point is not one of another curve of the same size.
        assert_eq!(refused(&ec_spki(KeySpec::P256K, point)), BadMaterial::Point);
    }

    #[test]
    fn rsa_keys_of_other_sizes_exponents_and_factors_are_refused() {
        let sound = sound_modulus(256);
        assert_eq!(refused(&rsa_spki(&sound_modulus(128), &[1, 0, 1])), BadMaterial::ModulusBits(1024));
        let mut short = sound.clone();
        short[0] = 0x55;
        assert_eq!(refused(&rsa_spki(&short, &[1, 0, 1])), BadMaterial::ModulusBits(2047));
        assert_eq!(refused(&rsa_spki(&[&[1], sound.as_slice()].concat(), &[1, 0, 1])), BadMaterial::ModulusBits(2049));
        for exponent in [&[1][..], &[3], &[0xff, 0xff], &[1, 0, 0], &[1, 0, 0, 0, 1]] {
            assert_eq!(refused(&rsa_spki(&sound, exponent)), BadMaterial::Exponent, "{exponent:?}");
        }
        assert!(Material::public(&rsa_spki(&sound, &[0xff, 0xff, 0xff, 0xff])).is_ok());
        assert_eq!(refused(&rsa_spki(&modulus(256, 0xd4), &[1, 0, 1])), BadMaterial::Modulus);
        let thirds = (0..=255).map(|last| modulus(256, last)).find(|m| m[255] & 1 == 1 && remainder(m, 3) == 0);
        assert_eq!(refused(&rsa_spki(&thirds.expect("one of three"), &[1, 0, 1])), BadMaterial::Modulus);
    }

    #[test]
    fn ed25519_keys_that_anybody_signs_with_are_refused() {
        let spki = |key: [u8; 32]| Public::Ed25519 { key: key.to_vec() }.to_spki(KeySpec::Ed25519).expect("encodes");
        // The base point (RFC 8032 section 5.1): y = 4/5.
        let mut base = [0x66; 32];
        base[0] = 0x58;
        let (spec, Material::Public(taken)) = Material::public(&spki(base)).expect("taken") else { panic!("public") };
        assert_eq!((spec, taken.into_vec()), (KeySpec::Ed25519, spki(base)));
        let small = |first: u8| {
            let mut key = [0; 32];
            key[0] = first;
            key
        };
        // The neutral element, also as y = p + 1; a point of order 4; no point at all.
        let mut not_canonical = [0xff; 32];
        (not_canonical[0], not_canonical[31]) = (0xee, 0x7f);
        for bad in [small(1), not_canonical, small(0), small(2)] {
            assert_eq!(refused(&spki(bad)), BadMaterial::Edwards, "{bad:?}");
        }
        let mut short = spki(base);
        short.truncate(short.len() - 1);
        assert_eq!(refused(&short), BadMaterial::NotSpki);
    }

    #[test]
    fn hmac_keys_are_padded_with_zeros_to_one_length() {
        for length in [1, 31, 32, 64] {
            let (spec, material) = Material::hmac(SecretBytes::new(vec![9; length])).expect("taken");
            let Material::Secret(padded) = material else { panic!("a secret") };
            let expected = [vec![9; length], vec![0; 64 - length]].concat();
            assert_eq!((spec, padded.expose_secret()), (KeySpec::Hmac512, expected.as_slice()));
        }
        for length in [0, 65, 128] {
            let refused = Material::hmac(SecretBytes::new(vec![9; length])).err();
            assert_eq!(refused, Some(BadMaterial::HmacBytes(length)));
        }
    }

    #[test]
    fn what_is_no_public_key_is_refused() {
        let spki = ec_spki(KeySpec::P256, p256_point());
        for bad in [&b""[..], b"-----BEGIN PUBLIC KEY-----", &spki[..spki.len() - 1], &[&spki[..], &[0]].concat()] {
            assert_eq!(refused(bad), BadMaterial::NotSpki);
        }
        // X25519 (RFC 8410): a key, and none of ours.
        let x25519 = [&[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x03, 0x21, 0x00][..], &[9; 32]];
        assert_eq!(refused(&x25519.concat()), BadMaterial::Kind);
    }

    #[test]
    fn secrets_are_taken_for_their_length_and_never_shown() {
        for (bytes, spec) in [(16, KeySpec::Aes128), (24, KeySpec::Aes192), (32, KeySpec::Aes256)] {
            let (found, material) = Material::aes(SecretBytes::new(vec![0x77; bytes])).expect("taken");
            assert_eq!(found, spec);
            assert!(!format!("{material:?}").contains("77") && !format!("{material:?}").contains("119"));
        }
        for bytes in [0, 15, 17, 33, 64] {
            assert_eq!(Material::aes(SecretBytes::new(vec![0; bytes])).err(), Some(BadMaterial::AesBytes(bytes)));
        }
    }
}
