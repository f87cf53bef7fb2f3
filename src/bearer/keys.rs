//! Keys that issuers publish (RFC 7517): read from a set, found by `kid`, and used for what they are only.
//!
//! A key decides what may be verified with it: an RSA key verifies RS* and PS*, a P-256 key ES256, and nothing
//! else does. What a token says of its algorithm must fit the key; that is why an HMAC "with the public key" can
//! not be asked for.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde_json::Value;

use super::{
    error::BearerError,
    json::{self, Object},
    jws::{ALGORITHMS, KID_BYTES_MAX},
};
use crate::model::{Algorithm, Lease};

/// The most keys of one set: issuers have two or three.
const KEYS_MAX: usize = 64;
/// RSA moduli that are taken, in bytes: 2048 to 8192 bits.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// A set that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Not a JWK set.
    #[error("the key set is no JSON object with a list of keys, or has a name twice")]
    NotASet,
    /// Too many keys.
    #[error("the key set has more than {KEYS_MAX} keys")]
    TooMany,
    /// Nothing in it can be used.
    #[error("the key set has no key that verifies one of the allowed algorithms")]
    Empty,
}

/// The numbers of a public key.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// The one algorithm of its curve, and the uncompressed point.
    Ec(Algorithm, Vec<u8>),
    Ed25519(Vec<u8>),
}

/// A public key of an issuer.
pub(super) struct Key {
    kid: Option<String>,
    /// What the set says that it is for, if it does.
    only: Option<Algorithm>,
    material: Material,
    lease: Lease,
}

impl Key {
    fn read(jwk: &Object) -> Option<Self> {
        let text = |name| jwk.get(name).and_then(Value::as_str);
        let signs = |value: &Value| value.as_array().is_some_and(|ops| ops.iter().any(|op| op == "verify"));
        let for_other =
            text("use").is_some_and(|usage| usage != "sig") || jwk.get("key_ops").is_some_and(|v| !signs(v));
        let only = match jwk.get("alg") {
            None => None,
            Some(name) => Some(Algorithm::from_name(name.as_str()?).filter(|found| ALGORITHMS.contains(found))?),
        };
        let kid = text("kid").map(str::to_owned);
        // A set that publishes private keys is not made better by believing in them.
        if for_other || jwk.contains_key("d") || kid.as_ref().is_some_and(|kid| kid.len() > KID_BYTES_MAX) {
            return None;
        }
        let bytes = |name| Base64UrlUnpadded::decode_vec(text(name)?).ok();
        let material = match text("kty")? {
            "RSA" => rsa(bytes("n")?, bytes("e")?)?,
            "EC" => ec(text("crv")?, &bytes("x")?, &bytes("y")?)?,
            "OKP" if text("crv") == Some("Ed25519") => Material::Ed25519(bytes("x").filter(|x| x.len() == 32)?),
            _ => return None,
        };
        let key = Self { kid, only, material, lease: Lease::until(None) };
        key.only.is_none_or(|only| key.takes(only)).then_some(key)
    }

    /// The P-256 key of that uncompressed point.
    pub(super) fn p256(kid: String, point: Vec<u8>) -> Self {
        let material = Material::Ec(Algorithm::Es256, point);
        Self { kid: Some(kid), only: Some(Algorithm::Es256), material, lease: Lease::until(None) }
    }

    /// Whether the algorithm is one for this kind of key.
    fn takes(&self, algorithm: Algorithm) -> bool {
        use Algorithm::{EdDsa, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
        let fits = match &self.material {
            Material::Rsa { .. } => matches!(algorithm, Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512),
            Material::Ec(curve, _) => algorithm == *curve,
            Material::Ed25519(_) => algorithm == EdDsa,
        };
        fits && self.only.is_none_or(|only| only == algorithm)
    }

    /// Whether the signature is right.
    pub(super) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        if !self.takes(algorithm) {
            return false;
        }
        let with = |by: &'static dyn VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(by, key).verify(message, signature).is_ok()
        };
        match &self.material {
            Material::Rsa { n, e } => rsa_parameters(algorithm)
                .is_some_and(|by| RsaPublicKeyComponents { n, e }.verify(by, message, signature).is_ok()),
            Material::Ec(Algorithm::Es256, point) => with(&signature::ECDSA_P256_SHA256_FIXED, point),
            Material::Ec(Algorithm::Es384, point) => with(&signature::ECDSA_P384_SHA384_FIXED, point),
            Material::Ec(_, point) => with(&signature::ECDSA_P521_SHA512_FIXED, point),
            Material::Ed25519(point) => with(&signature::ED25519, point),
        }
    }

    /// What tokens that it signed stand on: ends when the issuer takes the key back.
    pub(super) const fn lease(&self) -> &Lease {
        &self.lease
    }

    fn is(&self, other: &Self) -> bool {
        (&self.kid, self.only, &self.material) == (&other.kid, other.only, &other.material)
    }
}

fn rsa_parameters(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        Algorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

fn rsa(n: Vec<u8>, e: Vec<u8>) -> Option<Material> {
    // Base64urlUInt has no leading zeroes (RFC 7518 section 2); some issuers write one all the same.
    let trimmed = |number: Vec<u8>| number.into_iter().skip_while(|byte| *byte == 0).collect::<Vec<u8>>();
    let (n, e) = (trimmed(n), trimmed(e));
    let odd = |number: &[u8]| number.last().is_some_and(|last| last & 1 == 1);
    let right = MODULUS_BYTES.contains(&n.len()) && odd(&n) && odd(&e) && e != [1] && e.len() <= 8;
    right.then_some(Material::Rsa { n, e })
}

/// Coordinates have their full width (RFC 7518 section 6.2.1.2).
fn ec(curve: &str, x: &[u8], y: &[u8]) -> Option<Material> {
    let (algorithm, width) = match curve {
        "P-256" => (Algorithm::Es256, 32),
        "P-384" => (Algorithm::Es384, 48),
        "P-521" => (Algorithm::Es512, 66),
        _ => return None,
    };
    (x.len() == width && y.len() == width).then(|| Material::Ec(algorithm, [&[4], x, y].concat()))
}

/// The keys of an issuer at one moment.
#[derive(Default)]
pub(super) struct KeySet {
    keys: Vec<Arc<Key>>,
    by_kid: HashMap<String, Vec<Arc<Key>>>,
}

impl KeySet {
    pub(super) fn new(keys: Vec<Arc<Key>>) -> Self {
        let mut by_kid: HashMap<String, Vec<Arc<Key>>> = HashMap::new();
        for key in &keys {
            if let Some(kid) = &key.kid {
                by_kid.entry(kid.clone()).or_default().push(Arc::clone(key));
            }
        }
        Self { keys, by_kid }
    }

    /// Reads a JWK set. Keys that `before` has stay the same ones, with their leases; keys of kinds that verify
    /// nothing here are passed over.
    pub(super) fn read(bytes: &[u8], before: Option<&Self>) -> Result<Self, KeySetError> {
        let set = json::object(bytes).ok_or(KeySetError::NotASet)?;
        let found = set.get("keys").and_then(Value::as_array).ok_or(KeySetError::NotASet)?;
        if found.len() > KEYS_MAX {
            return Err(KeySetError::TooMany);
        }
        let read = found.iter().filter_map(|jwk| Key::read(jwk.as_object()?));
        let same = |key: Key| {
            let kept = before.and_then(|set| set.keys.iter().find(|old| old.is(&key)).cloned());
            kept.unwrap_or_else(|| Arc::new(key))
        };
        let keys: Vec<Arc<Key>> = read.map(same).collect();
        if keys.is_empty() { Err(KeySetError::Empty) } else { Ok(Self::new(keys)) }
    }

    /// The key that a token names. Without a name it is the only key for that algorithm: trying them all would
    /// let a token choose.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<Arc<Key>, BearerError> {
        let Some(kid) = kid else {
            let mut fitting = self.keys.iter().filter(|key| key.takes(algorithm));
            return match (fitting.next(), fitting.next()) {
                (Some(only), None) => Ok(Arc::clone(only)),
                _ => Err(BearerError::UnknownKey),
            };
        };
        let named = self.by_kid.get(kid).ok_or(BearerError::UnknownKey)?;
        named.iter().find(|key| key.takes(algorithm)).cloned().ok_or(BearerError::Algorithm)
    }

    /// Ends what stands on keys that `next` has not; without a next one, on all.
    pub(super) fn end_but(&self, next: Option<&Self>) {
        let kept = |key: &Arc<Key>| next.is_some_and(|next| next.keys.iter().any(|other| Arc::ptr_eq(key, other)));
        for key in self.keys.iter().filter(|key| !kept(key)) {
            key.lease.end();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bearer::minted::{Minter, set};

    #[test]
    fn a_key_takes_the_algorithms_of_its_kind_only() {
        for minter in [Minter::rsa("a"), Minter::p256("a"), Minter::ed25519("a")] {
            let keys = KeySet::read(set(&[&minter]).as_bytes(), None).expect("a set");
            for algorithm in ALGORITHMS {
                let found = keys.find(Some("a"), algorithm);
                assert_eq!(found.is_ok(), minter.takes().contains(&algorithm), "{}", algorithm.name());
            }
        }
    }

    #[test]
    fn keys_for_something_else_are_passed_over() {
        let good = Minter::p256("a").jwk();
        let mut wrong = Vec::new();
        for (name, value) in [
            ("use", Value::from("enc")),
            ("key_ops", serde_json::json!(["encrypt"])),
            ("alg", "HS256".into()),
            ("alg", "RS256".into()),
            ("alg", 7.into()),
            ("d", "AA".into()),
            ("kty", "oct".into()),
            ("crv", "P-384".into()),
            ("x", "AA".into()),
        ] {
            let mut jwk = good.clone();
            jwk.insert(name.to_owned(), value);
            wrong.push(Value::Object(jwk));
        }
        let bytes = serde_json::json!({ "keys": wrong }).to_string();
        assert_eq!(KeySet::read(bytes.as_bytes(), None).err(), Some(KeySetError::Empty));
        wrong.push(Value::Object(good));
        let bytes = serde_json::json!({ "keys": wrong }).to_string();
        assert_eq!(KeySet::read(bytes.as_bytes(), None).map(|set| set.len()), Ok(1));
    }

    #[test]
    fn an_rsa_key_is_neither_short_nor_absurd() {
        let n = vec![0xff; 256];
        assert!(rsa(n.clone(), vec![1, 0, 1]).is_some());
        assert!(rsa([vec![0], n.clone()].concat(), vec![1, 0, 1]).is_some(), "a leading zero");
        for (n, e) in [(vec![0xff; 128], vec![3]), (n.clone(), vec![1]), (n.clone(), vec![2]), (n, vec![0xff; 9])] {
            assert!(rsa(n, e).is_none());
        }
        assert!(rsa(vec![0xff; 1025], vec![3]).is_none());
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for wrong in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#] {
            assert_eq!(KeySet::read(wrong.as_bytes(), None).err(), Some(KeySetError::NotASet), "{wrong}");
        }
        let many = serde_json::json!({ "keys": vec![Value::Object(Minter::p256("a").jwk()); KEYS_MAX + 1] });
        assert_eq!(KeySet::read(many.to_string().as_bytes(), None).err(), Some(KeySetError::TooMany));
    }

    #[test]
    fn a_key_is_found_by_its_name_or_when_it_is_the_only_one() {
        let (first, second) = (Minter::p256("a"), Minter::p256("b"));
        let keys = KeySet::read(set(&[&first, &second]).as_bytes(), None).expect("a set");
        assert!(keys.find(Some("a"), Algorithm::Es256).is_ok());
        assert_eq!(keys.find(Some("c"), Algorithm::Es256).err(), Some(BearerError::UnknownKey));
        assert_eq!(keys.find(Some("a"), Algorithm::Rs256).err(), Some(BearerError::Algorithm));
        assert_eq!(keys.find(None, Algorithm::Es256).err(), Some(BearerError::UnknownKey), "which of the two?");
        let keys = KeySet::read(set(&[&first]).as_bytes(), None).expect("a set");
        assert!(keys.find(None, Algorithm::Es256).is_ok());
    }

    #[test]
    fn a_key_that_stays_keeps_its_lease_and_one_that_goes_ends_it() {
        let (first, second, third) = (Minter::p256("a"), Minter::p256("b"), Minter::p256("a"));
        let old = KeySet::read(set(&[&first, &second]).as_bytes(), None).expect("a set");
        let lease = |set: &KeySet, kid| set.find(Some(kid), Algorithm::Es256).expect("there").lease().clone();
        let (a, b) = (lease(&old, "a"), lease(&old, "b"));
        // Another key under the name of the first one is another key.
        let new = KeySet::read(set(&[&second, &third]).as_bytes(), Some(&old)).expect("a set");
        old.end_but(Some(&new));
        assert!(!a.holds() && b.holds() && lease(&new, "a").holds() && lease(&new, "b").holds());
        new.end_but(None);
        assert!(!b.holds());
    }
}
