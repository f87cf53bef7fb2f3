//! Public keys as others read them: JWK (RFC 7517, RFC 7518 section 6, RFC 8037, RFC 8812) and PEM
//! (SubjectPublicKeyInfo, RFC 7468).

use base64ct::{Base64UrlUnpadded, Encoding as _, LineEnding};
use der::{Decode as _, EncodePem as _, oid::ObjectIdentifier};
use serde::Serialize;
use spki::SubjectPublicKeyInfoOwned;
use strongroom_proto::v1;

use super::{failure::Failure, view::operation_names};

const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A JWK without private members.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Jwk {
    kty: &'static str,
    /// The full name of the version.
    kid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_ops: Option<Vec<&'static str>>,
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

/// The JWK of a version. For an oct key it has neither `k`, which never leaves the HSM, nor `key_ops`:
/// there are clients that take an oct JWK with `key_ops` for a local key and invent its bytes.
///
/// # Errors
/// When the public key is not of the type that the version says.
pub(super) fn of(version: &v1::KeyVersion) -> Result<Jwk, Failure> {
    let kid = version.name.clone();
    let key_ops = Some(operation_names(version));
    let damaged = || Failure::new(format!("the public key of {} is not one of its type", version.name));
    let jwk = match version.key_type() {
        v1::KeyType::Oct => Jwk { kty: "oct", kid, ..Jwk::default() },
        v1::KeyType::Rsa => {
            let (n, e) = rsa_members(&version.public_key).ok_or_else(damaged)?;
            Jwk { kty: "RSA", kid, key_ops, n: Some(n), e: Some(e), ..Jwk::default() }
        }
        v1::KeyType::Ec => {
            let (crv, width) = curve(version.curve()).ok_or_else(damaged)?;
            let (x, y) = ec_members(&version.public_key, width).ok_or_else(damaged)?;
            Jwk { kty: "EC", kid, key_ops, crv: Some(crv), x: Some(x), y: Some(y), ..Jwk::default() }
        }
        v1::KeyType::Okp => {
            let x = key_bits(&version.public_key, ED25519).filter(|key| key.len() == 32).ok_or_else(damaged)?;
            let x = Some(Base64UrlUnpadded::encode_string(&x));
            Jwk { kty: "OKP", kid, key_ops, crv: Some("Ed25519"), x, ..Jwk::default() }
        }
        v1::KeyType::Unspecified => return Err(damaged()),
    };
    Ok(jwk)
}

/// The public key of a version in PEM.
///
/// # Errors
/// When it has none.
pub(super) fn pem(version: &v1::KeyVersion) -> Result<String, Failure> {
    if version.key_type() == v1::KeyType::Oct {
        return Err(Failure::new(format!(
            "{} is an oct key: it has no public half, and its bytes never leave the HSM",
            version.name
        ))
        .hint("show it with -o table, -o json or -o jwk"));
    }
    SubjectPublicKeyInfoOwned::from_der(&version.public_key)
        .and_then(|spki| spki.to_pem(LineEnding::LF))
        .map_err(|_| Failure::new(format!("the public key of {} is not a SubjectPublicKeyInfo", version.name)))
}

/// The curve's name and the width of a coordinate in bytes. JOSE calls P-256K `secp256k1` (RFC 8812).
const fn curve(curve: v1::Curve) -> Option<(&'static str, usize)> {
    match curve {
        v1::Curve::P256 => Some(("P-256", 32)),
        v1::Curve::P384 => Some(("P-384", 48)),
        v1::Curve::P521 => Some(("P-521", 66)),
        v1::Curve::P256k => Some(("secp256k1", 32)),
        v1::Curve::Ed25519 | v1::Curve::Unspecified => None,
    }
}

fn key_bits(der: &[u8], algorithm: ObjectIdentifier) -> Option<Vec<u8>> {
    let spki = SubjectPublicKeyInfoOwned::from_der(der).ok()?;
    (spki.algorithm.oid == algorithm).then(|| spki.subject_public_key.as_bytes().map(<[u8]>::to_vec))?
}

/// Base64urlUInt: no leading zero bytes (RFC 7518 section 2).
fn rsa_members(der: &[u8]) -> Option<(String, String)> {
    let bits = key_bits(der, RSA_ENCRYPTION)?;
    let key = pkcs1::RsaPublicKey::from_der(&bits).ok()?;
    let encode = |number: der::asn1::UintRef<'_>| Base64UrlUnpadded::encode_string(number.as_bytes());
    Some((encode(key.modulus), encode(key.public_exponent)))
}

/// The uncompressed point `04 x y` (SEC 1 section 2.3.3), each coordinate at full width (RFC 7518 section 6.2.1.2).
fn ec_members(der: &[u8], width: usize) -> Option<(String, String)> {
    let bits = key_bits(der, EC_PUBLIC_KEY)?;
    let point = bits.strip_prefix(&[4]).filter(|point| point.len() == 2 * width)?;
    let (x, y) = point.split_at(width);
    Some((Base64UrlUnpadded::encode_string(x), Base64UrlUnpadded::encode_string(y)))
}

#[cfg(test)]
mod tests {
    use base64ct::Base64;

    use super::*;

    /// The key of RFC 7517 appendix A.1 as SubjectPublicKeyInfo.
    const P256_X: &str = "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4";
    const P256_Y: &str = "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM";

    fn ec_spki(curve_oid: &str, point: &[u8]) -> Vec<u8> {
        use der::Encode as _;
        let oid = ObjectIdentifier::new_unwrap(curve_oid);
        SubjectPublicKeyInfoOwned {
            algorithm: spki::AlgorithmIdentifierOwned { oid: EC_PUBLIC_KEY, parameters: Some(der::Any::from(oid)) },
            subject_public_key: der::asn1::BitString::from_bytes(point).expect("bits"),
        }
        .to_der()
        .expect("DER")
    }

    fn version(key_type: v1::KeyType, curve: v1::Curve, public_key: Vec<u8>) -> v1::KeyVersion {
        v1::KeyVersion {
            name: "vaults/dev/keys/k/versions/00".into(),
            key_type: key_type.into(),
            curve: curve.into(),
            key_operations: vec![v1::KeyOperation::Sign.into(), v1::KeyOperation::Verify.into()],
            public_key,
            ..v1::KeyVersion::default()
        }
    }

    fn json(version: &v1::KeyVersion) -> String {
        serde_json::to_string(&of(version).expect("a JWK")).expect("JSON")
    }

    #[test]
    fn p256_is_as_in_rfc_7517() {
        let decode = |text| Base64UrlUnpadded::decode_vec(text).expect("base64url");
        let point = [vec![4], decode(P256_X), decode(P256_Y)].concat();
        let spki = ec_spki("1.2.840.10045.3.1.7", &point);
        let expected = format!(
            r#"{{"kty":"EC","kid":"vaults/dev/keys/k/versions/00","key_ops":["sign","verify"],"crv":"P-256","x":"{P256_X}","y":"{P256_Y}"}}"#
        );
        assert_eq!(json(&version(v1::KeyType::Ec, v1::Curve::P256, spki)), expected);
    }

    #[test]
    fn coordinates_keep_their_leading_zeroes() {
        let point = |width: usize| [vec![4], vec![0; 2 * width - 1], vec![1]].concat();
        let cases = [
            (v1::Curve::P384, "1.3.132.0.34", "P-384", 48),
            (v1::Curve::P521, "1.3.132.0.35", "P-521", 66),
            (v1::Curve::P256k, "1.3.132.0.10", "secp256k1", 32),
        ];
        for (curve, oid, name, width) in cases {
            let jwk = of(&version(v1::KeyType::Ec, curve, ec_spki(oid, &point(width)))).expect("a JWK");
            assert_eq!(jwk.crv, Some(name));
            let decoded = Base64UrlUnpadded::decode_vec(&jwk.x.expect("x")).expect("base64url");
            assert_eq!(decoded, vec![0; width]);
            assert!(of(&version(v1::KeyType::Ec, curve, ec_spki(oid, &point(width - 1)))).is_err());
        }
    }

    /// The key of RFC 7517 appendix A.1, in DER by OpenSSL's layout.
    const RSA_N: &str = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";

    #[test]
    fn rsa_is_as_in_rfc_7517() {
        use der::Encode as _;
        let n = Base64UrlUnpadded::decode_vec(RSA_N).expect("base64url");
        let key = pkcs1::RsaPublicKey {
            modulus: der::asn1::UintRef::new(&n).expect("a number"),
            public_exponent: der::asn1::UintRef::new(&[1, 0, 1]).expect("a number"),
        };
        let spki = SubjectPublicKeyInfoOwned {
            algorithm: spki::AlgorithmIdentifierOwned { oid: RSA_ENCRYPTION, parameters: Some(der::Any::null()) },
            subject_public_key: der::asn1::BitString::from_bytes(&key.to_der().expect("DER")).expect("bits"),
        };
        let jwk = of(&version(v1::KeyType::Rsa, v1::Curve::Unspecified, spki.to_der().expect("DER"))).expect("a JWK");
        assert_eq!((jwk.kty, jwk.n.as_deref(), jwk.e.as_deref()), ("RSA", Some(RSA_N), Some("AQAB")));
    }

    #[test]
    fn ed25519_is_as_in_rfc_8037() {
        use der::Encode as _;
        // Appendix A.2.
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let spki = |oid| SubjectPublicKeyInfoOwned {
            algorithm: spki::AlgorithmIdentifierOwned { oid, parameters: None },
            subject_public_key: der::asn1::BitString::from_bytes(&Base64UrlUnpadded::decode_vec(x).expect("base64url"))
                .expect("bits"),
        };
        let okp = |oid| version(v1::KeyType::Okp, v1::Curve::Ed25519, spki(oid).to_der().expect("DER"));
        let expected = format!(
            r#"{{"kty":"OKP","kid":"vaults/dev/keys/k/versions/00","key_ops":["sign","verify"],"crv":"Ed25519","x":"{x}"}}"#
        );
        assert_eq!(json(&okp(ED25519)), expected);
        assert!(of(&okp(ObjectIdentifier::new_unwrap("1.3.101.110"))).is_err(), "X25519 is another");
        assert!(
            pem(&okp(ED25519)).expect("PEM").contains("MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
        );
    }

    #[test]
    fn oct_has_neither_bytes_nor_operations() {
        let oct = version(v1::KeyType::Oct, v1::Curve::Unspecified, Vec::new());
        assert_eq!(json(&oct), r#"{"kty":"oct","kid":"vaults/dev/keys/k/versions/00"}"#);
        let text = pem(&oct).expect_err("no public half").to_string();
        assert!(text.contains("is an oct key: it has no public half"), "{text}");
    }

    #[test]
    fn pem_is_the_subject_public_key_info() {
        let spki = ec_spki("1.2.840.10045.3.1.7", &[&[4_u8][..], &[9; 64]].concat());
        let text = pem(&version(v1::KeyType::Ec, v1::Curve::P256, spki.clone())).expect("PEM");
        let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
        assert!(text.starts_with("-----BEGIN PUBLIC KEY-----\n") && text.ends_with("-----END PUBLIC KEY-----\n"));
        assert_eq!(Base64::decode_vec(&body).expect("base64"), spki);
    }
}
