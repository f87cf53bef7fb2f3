//! Issuers of the tests: keys of every kind, their JWKs, and tokens that are what a test wants them to be. RustCrypto
//! signs with P-256, so that what verifies it is not what made it; OpenSSL does so for RSA in `tests/it/bearer.rs`.

use aws_lc_rs::{
    encoding::{AsDer as _, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::KeySize,
    signature::{self, Ed25519KeyPair, KeyPair as _, RsaKeyPair},
};
use p256::ecdsa::{Signature, SigningKey, signature::Signer as _};
use serde_json::{Value, json};
use spki::der::Decode as _;

use super::{json::Object, jws::part};
use crate::model::Algorithm;

/// A key and its name.
pub(super) struct Minter {
    pub(super) kid: String,
    key: Key,
}

enum Key {
    Rsa(RsaKeyPair),
    P256(SigningKey),
    Ed25519(Ed25519KeyPair),
}

impl Minter {
    pub(super) fn rsa(kid: &str) -> Self {
        Self { kid: kid.to_owned(), key: Key::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).expect("a key")) }
    }

    pub(super) fn p256(kid: &str) -> Self {
        let mut scalar = [0; 32];
        aws_lc_rs::rand::fill(&mut scalar).expect("random bytes");
        scalar[0] = 1;
        Self { kid: kid.to_owned(), key: Key::P256(SigningKey::from_slice(&scalar).expect("below the order")) }
    }

    pub(super) fn ed25519(kid: &str) -> Self {
        Self { kid: kid.to_owned(), key: Key::Ed25519(Ed25519KeyPair::generate().expect("a key")) }
    }

    /// The algorithms of its kind.
    pub(super) fn takes(&self) -> &'static [Algorithm] {
        use Algorithm::{EdDsa, Es256, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
        match self.key {
            Key::Rsa(_) => &[Rs256, Rs384, Rs512, Ps256, Ps384, Ps512],
            Key::P256(_) => &[Es256],
            Key::Ed25519(_) => &[EdDsa],
        }
    }

    /// Modulus and exponent.
    pub(super) fn rsa_public(&self) -> (Vec<u8>, Vec<u8>) {
        let Key::Rsa(key) = &self.key else { panic!("an RSA key") };
        let der = key.public_key().as_ref();
        let public = pkcs1::RsaPublicKeyRef::from_der(der).expect("PKCS#1");
        (public.modulus.as_bytes().to_vec(), public.public_exponent.as_bytes().to_vec())
    }

    /// SubjectPublicKeyInfo (DER) of an RSA key.
    pub(super) fn rsa_spki(&self) -> Vec<u8> {
        let Key::Rsa(key) = &self.key else { panic!("an RSA key") };
        let der: PublicKeyX509Der<'_> = key.public_key().as_der().expect("DER");
        der.as_ref().to_vec()
    }

    pub(super) fn jwk(&self) -> Object {
        let jwk = match &self.key {
            Key::Rsa(_) => {
                let (n, e) = self.rsa_public();
                json!({ "kty": "RSA", "n": part(&n), "e": part(&e) })
            }
            Key::P256(key) => {
                let point = key.verifying_key().to_sec1_point(false);
                let (x, y) = point.as_bytes()[1..].split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "x": part(x), "y": part(y) })
            }
            Key::Ed25519(key) => json!({ "kty": "OKP", "crv": "Ed25519", "x": part(key.public_key().as_ref()) }),
        };
        let Value::Object(mut jwk) = jwk else { panic!("an object") };
        jwk.insert("kid".to_owned(), self.kid.clone().into());
        jwk
    }

    pub(super) fn sign(&self, algorithm: Algorithm, message: &[u8]) -> Vec<u8> {
        match &self.key {
            Key::Rsa(key) => {
                let padding: &'static dyn signature::RsaEncoding = match algorithm {
                    Algorithm::Rs256 => &signature::RSA_PKCS1_SHA256,
                    Algorithm::Rs384 => &signature::RSA_PKCS1_SHA384,
                    Algorithm::Rs512 => &signature::RSA_PKCS1_SHA512,
                    Algorithm::Ps256 => &signature::RSA_PSS_SHA256,
                    Algorithm::Ps384 => &signature::RSA_PSS_SHA384,
                    _ => &signature::RSA_PSS_SHA512,
                };
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(padding, &SystemRandom::new(), message, &mut signature).expect("signs");
                signature
            }
            Key::P256(key) => {
                let signature: Signature = key.sign(message);
                signature.to_bytes().to_vec()
            }
            Key::Ed25519(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    /// A token of these claims.
    pub(super) fn token(&self, claims: &Value) -> String {
        let algorithm = self.takes()[0];
        self.token_with(&json!({ "alg": algorithm.name(), "kid": self.kid, "typ": "JWT" }), claims)
    }

    /// A token with this header, signed with the algorithm that it names, or else with the first of the key's kind.
    pub(super) fn token_with(&self, header: &Value, claims: &Value) -> String {
        let named = header["alg"].as_str().and_then(Algorithm::from_name);
        let algorithm = named.filter(|algorithm| self.takes().contains(algorithm)).unwrap_or(self.takes()[0]);
        let signed = unsigned(header, claims);
        let signature = self.sign(algorithm, signed.as_bytes());
        format!("{signed}.{}", part(&signature))
    }
}

/// Header and claims of a token, as they are signed.
pub(super) fn unsigned(header: &Value, claims: &Value) -> String {
    format!("{}.{}", part(header.to_string().as_bytes()), part(claims.to_string().as_bytes()))
}

/// The JWK set of these.
pub(super) fn set(minters: &[&Minter]) -> String {
    json!({ "keys": minters.iter().map(|minter| Value::Object(minter.jwk())).collect::<Vec<_>>() }).to_string()
}
