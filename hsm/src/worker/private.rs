//! Private keys from outside, as PrivateKeyInfo (PKCS#8, RFC 5958): aws-lc-rs says whether all their numbers belong
//! together and which public key is theirs; then they are taken apart into PKCS#11's attributes.

use aws_lc_rs::signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use const_oid::ObjectIdentifier;
use cryptoki_sys as sys;
use der::{Decode as _, asn1::OctetStringRef};
use pkcs1::RsaPrivateKeyRef;
use pkcs8::PrivateKeyInfoRef;
use sec1::EcPrivateKey;

use super::{
    public::{self, EC_PUBLIC_KEY, ED25519, Public, RSA_ENCRYPTION},
    token::Attribute,
};
use crate::{
    algorithms::{KeySpec, KeyType},
    material::{BadMaterial, Material},
};

/// An RSA-4096 key has 2,380 bytes, and may have attributes.
pub(crate) const PKCS8_BYTES_MAX: usize = 4096;

/// What kind of key it is, and its public half as SubjectPublicKeyInfo (DER), once it is known that the private half is
/// that one's: for RSA that the primes make the modulus and all exponents and the coefficient are theirs, for EC that the
/// number is below the order.
pub(crate) fn look_at(pkcs8: &[u8]) -> Result<(KeySpec, Vec<u8>), BadMaterial> {
    // Looking is done for whoever asks, and takes as long as the numbers are large.
    if pkcs8.len() > PKCS8_BYTES_MAX {
        return Err(BadMaterial::NotPkcs8);
    }
    let info = PrivateKeyInfoRef::from_der(pkcs8).map_err(|_| BadMaterial::NotPkcs8)?;
    let spki = match info.algorithm.oid {
        RSA_ENCRYPTION => rsa(pkcs8, &info)?,
        EC_PUBLIC_KEY => ec(pkcs8, &info)?,
        ED25519 => {
            let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).map_err(|_| BadMaterial::Inconsistent)?;
            spki_of(KeySpec::Ed25519, &Public::Ed25519 { key: pair.public_key().as_ref().to_vec() })?
        }
        _ => return Err(BadMaterial::Kind),
    };
    // All that is asked of a public key is asked of this one: sizes, exponents, points.
    match Material::public(&spki)? {
        (spec, Material::Public(spki)) => Ok((spec, spki.into_vec())),
        (_, Material::Secret(_) | Material::Private { .. }) => Err(BadMaterial::Kind),
    }
}

fn spki_of(spec: KeySpec, public: &Public) -> Result<Vec<u8>, BadMaterial> {
    public.to_spki(spec).map_err(|_| BadMaterial::NotPkcs8)
}

fn rsa(pkcs8: &[u8], info: &PrivateKeyInfoRef<'_>) -> Result<Vec<u8>, BadMaterial> {
    let key = rsa_numbers(info)?;
    let public =
        Public::Rsa { modulus: key.modulus.as_bytes().to_vec(), exponent: key.public_exponent.as_bytes().to_vec() };
    // The sizes first: of the modulus aws-lc-rs takes no other either, and would not say so; others it takes of any size.
    if key.private_exponent.as_bytes().len() > key.modulus.as_bytes().len() {
        return Err(BadMaterial::Inconsistent);
    }
    let spki = spki_of(KeySpec::Rsa2048, &public)?;
    Material::public(&spki)?;
    RsaKeyPair::from_pkcs8(pkcs8).map_err(|_| BadMaterial::Inconsistent)?;
    Ok(spki)
}

fn ec(pkcs8: &[u8], info: &PrivateKeyInfoRef<'_>) -> Result<Vec<u8>, BadMaterial> {
    let named = info.algorithm.parameters.and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
    let spec = KeySpec::ALL.into_iter().find(|spec| named.is_some() && public::curve(*spec) == named);
    let spec = spec.ok_or(BadMaterial::Kind)?;
    let algorithm = signing(spec).ok_or(BadMaterial::Kind)?;
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8).map_err(|_| BadMaterial::Inconsistent)?;
    spki_of(spec, &Public::Ec { point: pair.public_key().as_ref().to_vec() })
}

/// How aws-lc-rs signs with a curve: by that it knows the curve.
fn signing(spec: KeySpec) -> Option<&'static EcdsaSigningAlgorithm> {
    Some(match spec {
        KeySpec::P256 => &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
        KeySpec::P384 => &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
        KeySpec::P521 => &signature::ECDSA_P521_SHA512_FIXED_SIGNING,
        KeySpec::P256K => &signature::ECDSA_P256K1_SHA256_FIXED_SIGNING,
        _ => return None,
    })
}

fn rsa_numbers<'a>(info: &PrivateKeyInfoRef<'a>) -> Result<RsaPrivateKeyRef<'a>, BadMaterial> {
    let key = RsaPrivateKeyRef::from_der(info.private_key.as_bytes()).map_err(|_| BadMaterial::NotPkcs8)?;
    // Of three primes or more PKCS#11 knows nothing.
    if key.other_prime_infos.is_some() { Err(BadMaterial::Kind) } else { Ok(key) }
}

/// The attributes of an RSA key. They borrow from its encoding.
pub(crate) fn rsa_attributes<'a>(key: &RsaPrivateKeyRef<'a>) -> Vec<Attribute<'a>> {
    vec![
        Attribute::Bytes(sys::CKA_MODULUS, key.modulus.as_bytes()),
        Attribute::Bytes(sys::CKA_PUBLIC_EXPONENT, key.public_exponent.as_bytes()),
        Attribute::Bytes(sys::CKA_PRIVATE_EXPONENT, key.private_exponent.as_bytes()),
        Attribute::Bytes(sys::CKA_PRIME_1, key.prime1.as_bytes()),
        Attribute::Bytes(sys::CKA_PRIME_2, key.prime2.as_bytes()),
        Attribute::Bytes(sys::CKA_EXPONENT_1, key.exponent1.as_bytes()),
        Attribute::Bytes(sys::CKA_EXPONENT_2, key.exponent2.as_bytes()),
        Attribute::Bytes(sys::CKA_COEFFICIENT, key.coefficient.as_bytes()),
    ]
}

/// The attributes that hold the key itself. They borrow from the encoding: no number is copied.
pub(crate) fn attributes<'a>(
    spec: KeySpec,
    pkcs8: &'a [u8],
    parameters: &'a [u8],
) -> Result<Vec<Attribute<'a>>, BadMaterial> {
    let info = PrivateKeyInfoRef::from_der(pkcs8).map_err(|_| BadMaterial::NotPkcs8)?;
    let inner = info.private_key.as_bytes();
    let value = match spec.key_type() {
        KeyType::Rsa => {
            return Ok(rsa_attributes(&rsa_numbers(&info)?));
        }
        KeyType::Ec => EcPrivateKey::from_der(inner).map_err(|_| BadMaterial::NotPkcs8)?.private_key,
        KeyType::Okp => <&OctetStringRef>::from_der(inner).map_err(|_| BadMaterial::NotPkcs8)?.as_bytes(),
        KeyType::Aes | KeyType::Hmac => return Err(BadMaterial::Kind),
    };
    Ok(vec![Attribute::Bytes(sys::CKA_EC_PARAMS, parameters), Attribute::Bytes(sys::CKA_VALUE, value)])
}
