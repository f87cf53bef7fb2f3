//! Public keys as JSON Web Keys (RFC 7517, RFC 7518 section 6, RFC 8037, RFC 8812).

use base64ct::{Base64UrlUnpadded, Encoding as _};
use const_oid::ObjectIdentifier;
use der::Decode as _;
use serde::Serialize;
use spki::SubjectPublicKeyInfoRef;
use strongroom_hsm::KeyOps;

pub(super) const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
pub(super) const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
pub(super) const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A curve's OID, its name in JOSE and the width of a coordinate in bytes. P-256K is `secp256k1` there.
pub(super) const CURVES: [(ObjectIdentifier, &str, usize); 4] = [
    (ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7"), "P-256", 32),
    (ObjectIdentifier::new_unwrap("1.3.132.0.34"), "P-384", 48),
    (ObjectIdentifier::new_unwrap("1.3.132.0.35"), "P-521", 66),
    (ObjectIdentifier::new_unwrap("1.3.132.0.10"), "secp256k1", 32),
];

/// What a key may do, and what others do with its public half for that.
const COUNTERPARTS: [(KeyOps, KeyOps); 3] = [
    (KeyOps::SIGN.union(KeyOps::VERIFY), KeyOps::VERIFY),
    (KeyOps::ENCRYPT.union(KeyOps::DECRYPT), KeyOps::ENCRYPT),
    (KeyOps::WRAP_KEY.union(KeyOps::UNWRAP_KEY), KeyOps::WRAP_KEY),
];

/// A JWK without private members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Jwk {
    kty: &'static str,
    /// The full name of the version.
    kid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    key_ops: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    crv: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    y: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    e: Option<String>,
}

impl Jwk {
    /// The JWK of a public half, from its SubjectPublicKeyInfo. `None` when it is of no kind that is known.
    ///
    /// `key_ops` lists what a public half does: verify for a key that signs. With `sign` in it, importers that
    /// take the member at its word (WebCrypto) refuse the key.
    #[must_use]
    pub fn public(kid: &str, ops: KeyOps, spki: &[u8]) -> Option<Self> {
        let info = SubjectPublicKeyInfoRef::from_der(spki).ok()?;
        let bits = info.subject_public_key.as_bytes()?;
        let jwk = match info.algorithm.oid {
            RSA_ENCRYPTION => rsa(bits)?,
            EC_PUBLIC_KEY => ec(info.algorithm.parameters?.decode_as().ok()?, bits)?,
            ED25519 if bits.len() == 32 => {
                let x = Some(Base64UrlUnpadded::encode_string(bits));
                Self { kty: "OKP", crv: Some("Ed25519"), x, ..Self::default() }
            }
            _ => return None,
        };
        let does = |able: KeyOps| able.iter().any(|(op, _)| ops.contains(op));
        let key_ops = COUNTERPARTS.into_iter().filter(|(able, _)| does(*able));
        let key_ops = key_ops.flat_map(|(_, public)| public.iter().map(|(_, name)| name)).collect();
        Some(Self { kid: kid.to_owned(), key_ops, ..jwk })
    }

    /// The JWK of an oct key. It has neither `k`, which never leaves the HSM, nor `key_ops`: there are clients
    /// that take an oct JWK with `key_ops` for a local key and invent its bytes.
    #[must_use]
    pub fn oct(kid: &str) -> Self {
        Self { kty: "oct", kid: kid.to_owned(), ..Self::default() }
    }

    /// Curve, as JOSE names it, and what makes up the public half: each member's name and its base64url.
    pub fn members(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let texts = [("n", &self.n), ("e", &self.e), ("x", &self.x), ("y", &self.y)];
        let texts = texts.into_iter().filter_map(|(name, text)| Some((name, text.as_deref()?)));
        self.crv.map(|curve| ("crv", curve)).into_iter().chain(texts)
    }

    /// As text.
    ///
    /// # Panics
    /// Never: texts and lists of texts are JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts are JSON")
    }
}

/// Base64urlUInt: no leading zero bytes (RFC 7518 section 2).
fn rsa(bits: &[u8]) -> Option<Jwk> {
    let key = pkcs1::RsaPublicKeyRef::from_der(bits).ok()?;
    let encode = |number: &[u8]| Some(Base64UrlUnpadded::encode_string(number));
    let (n, e) = (encode(key.modulus.as_bytes()), encode(key.public_exponent.as_bytes()));
    Some(Jwk { kty: "RSA", n, e, ..Jwk::default() })
}

/// The uncompressed point `04 x y` (SEC 1 section 2.3.3), each coordinate at full width (RFC 7518 section 6.2.1.2).
fn ec(named: ObjectIdentifier, bits: &[u8]) -> Option<Jwk> {
    let (_, crv, width) = CURVES.into_iter().find(|(oid, ..)| *oid == named)?;
    let point = bits.strip_prefix(&[4]).filter(|point| point.len() == 2 * width)?;
    let (x, y) = point.split_at(width);
    let encode = |coordinate: &[u8]| Some(Base64UrlUnpadded::encode_string(coordinate));
    Some(Jwk { kty: "EC", crv: Some(crv), x: encode(x), y: encode(y), ..Jwk::default() })
}

#[cfg(test)]
mod tests {
    use spki::SubjectPublicKeyInfoOwned;

    use super::*;

    const KID: &str = "vaults/dev/keys/k/versions/00";
    const SIGNS: KeyOps = KeyOps::SIGN.union(KeyOps::VERIFY);
    /// The key of RFC 7517 appendix A.1.
    const P256_X: &str = "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4";
    const P256_Y: &str = "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM";
    const RSA_N: &str = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";

    fn decoded(text: &str) -> Vec<u8> {
        Base64UrlUnpadded::decode_vec(text).expect("base64url")
    }

    fn spki(oid: ObjectIdentifier, parameters: impl Into<Option<der::Any>>, bits: &[u8]) -> Vec<u8> {
        use der::Encode as _;
        let algorithm = spki::AlgorithmIdentifierOwned { oid, parameters: parameters.into() };
        let subject_public_key = der::asn1::BitString::from_bytes(bits).expect("bits");
        SubjectPublicKeyInfoOwned { algorithm, subject_public_key }.to_der().expect("DER")
    }

    fn ec_spki(curve: ObjectIdentifier, point: &[u8]) -> Vec<u8> {
        spki(EC_PUBLIC_KEY, der::Any::from(curve), point)
    }

    #[test]
    fn p256_is_as_in_rfc_7517() {
        let point = [vec![4], decoded(P256_X), decoded(P256_Y)].concat();
        let jwk = Jwk::public(KID, SIGNS, &ec_spki(CURVES[0].0, &point)).expect("a JWK");
        let expected =
            format!(r#"{{"kty":"EC","kid":"{KID}","key_ops":["verify"],"crv":"P-256","x":"{P256_X}","y":"{P256_Y}"}}"#);
        assert_eq!(jwk.to_json(), expected);
    }

    #[test]
    fn coordinates_keep_their_leading_zeroes() {
        let point = |width: usize| [vec![4], vec![0; 2 * width - 1], vec![1]].concat();
        for (oid, name, width) in CURVES {
            let jwk = Jwk::public(KID, SIGNS, &ec_spki(oid, &point(width))).expect("a JWK");
            assert_eq!((jwk.crv, decoded(&jwk.x.expect("x"))), (Some(name), vec![0; width]));
            assert_eq!(Jwk::public(KID, SIGNS, &ec_spki(oid, &point(width - 1))), None);
        }
    }

    #[test]
    fn rsa_is_as_in_rfc_7517() {
        use der::Encode as _;
        let n = decoded(RSA_N);
        let modulus = der::asn1::UintRef::new(&n).expect("a number");
        let public_exponent = der::asn1::UintRef::new(&[1, 0, 1]).expect("a number");
        let key = pkcs1::RsaPublicKeyRef { modulus, public_exponent }.to_der().expect("DER");
        let jwk = Jwk::public(KID, KeyOps::ALL_SIX, &spki(RSA_ENCRYPTION, der::Any::null(), &key)).expect("a JWK");
        assert_eq!((jwk.kty, jwk.n.as_deref(), jwk.e.as_deref()), ("RSA", Some(RSA_N), Some("AQAB")));
        assert_eq!(jwk.key_ops, ["verify", "encrypt", "wrapKey"]);
    }

    #[test]
    fn ed25519_is_as_in_rfc_8037() {
        // Appendix A.2.
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let jwk = Jwk::public(KID, SIGNS, &spki(ED25519, None, &decoded(x))).expect("a JWK");
        let expected = format!(r#"{{"kty":"OKP","kid":"{KID}","key_ops":["verify"],"crv":"Ed25519","x":"{x}"}}"#);
        assert_eq!(jwk.to_json(), expected);
        let x25519 = ObjectIdentifier::new_unwrap("1.3.101.110");
        assert_eq!(Jwk::public(KID, SIGNS, &spki(x25519, None, &decoded(x))), None);
        assert_eq!(Jwk::public(KID, SIGNS, &spki(ED25519, None, &[1; 31])), None);
    }

    #[test]
    fn a_public_half_does_what_others_need_of_the_key() {
        let point = [vec![4], decoded(P256_X), decoded(P256_Y)].concat();
        let of = |ops| Jwk::public(KID, ops, &ec_spki(CURVES[0].0, &point)).expect("a JWK").key_ops;
        assert_eq!(of(KeyOps::SIGN), ["verify"]);
        assert_eq!(of(KeyOps::DECRYPT), ["encrypt"]);
        assert_eq!(of(KeyOps::UNWRAP_KEY), ["wrapKey"]);
        assert!(of(KeyOps::NONE).is_empty());
    }

    #[test]
    fn what_is_no_public_key_has_no_jwk() {
        assert_eq!(Jwk::public(KID, SIGNS, b""), None);
        assert_eq!(Jwk::public(KID, SIGNS, &spki(CURVES[0].0, der::Any::null(), &[1])), None);
    }

    #[test]
    fn oct_has_neither_bytes_nor_operations() {
        assert_eq!(Jwk::oct(KID).to_json(), format!(r#"{{"kty":"oct","kid":"{KID}"}}"#));
    }
}
