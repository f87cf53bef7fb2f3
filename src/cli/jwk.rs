//! Public keys as others read them: JWK, and PEM (SubjectPublicKeyInfo, RFC 7468).

use base64ct::LineEnding;
use der::{Decode as _, EncodePem as _};
use spki::SubjectPublicKeyInfoOwned;
use strongroom_proto::v1;

use super::{failure::Failure, parse};
use crate::model::Jwk;

/// The JWK of a version.
///
/// # Errors
/// When the public key is of no kind that this program knows.
pub(super) fn of(version: &v1::KeyVersion) -> Result<Jwk, Failure> {
    if version.key_type() == v1::KeyType::Oct {
        return Ok(Jwk::oct(&version.name));
    }
    Jwk::public(&version.name, parse::operations(version), &version.public_key)
        .ok_or_else(|| Failure::new(format!("the public key of {} is of no known kind", version.name)))
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

#[cfg(test)]
mod tests {
    use base64ct::{Base64, Encoding as _};
    use der::{Encode as _, oid::ObjectIdentifier};

    use super::*;

    fn p256_spki() -> Vec<u8> {
        let curve = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
        let oid = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
        let point = [&[4_u8][..], &[9; 64]].concat();
        SubjectPublicKeyInfoOwned {
            algorithm: spki::AlgorithmIdentifierOwned { oid, parameters: Some(der::Any::from(curve)) },
            subject_public_key: der::asn1::BitString::from_bytes(&point).expect("bits"),
        }
        .to_der()
        .expect("DER")
    }

    fn version(key_type: v1::KeyType, public_key: Vec<u8>) -> v1::KeyVersion {
        v1::KeyVersion {
            name: "vaults/dev/keys/k/versions/00".into(),
            key_type: key_type.into(),
            key_operations: vec![v1::KeyOperation::Sign.into(), 99],
            public_key,
            ..v1::KeyVersion::default()
        }
    }

    #[test]
    fn a_jwk_names_its_version_and_what_others_do_with_it() {
        let jwk = of(&version(v1::KeyType::Ec, p256_spki())).expect("a JWK").to_json();
        assert!(jwk.contains(r#""kid":"vaults/dev/keys/k/versions/00","key_ops":["verify"],"crv":"P-256""#), "{jwk}");
        assert!(of(&version(v1::KeyType::Ec, vec![0])).is_err());
    }

    #[test]
    fn oct_has_no_public_half() {
        let oct = version(v1::KeyType::Oct, Vec::new());
        assert_eq!(of(&oct).expect("a JWK").to_json(), r#"{"kty":"oct","kid":"vaults/dev/keys/k/versions/00"}"#);
        let text = pem(&oct).expect_err("no public half").to_string();
        assert!(text.contains("is an oct key: it has no public half"), "{text}");
    }

    #[test]
    fn pem_is_the_subject_public_key_info() {
        let spki = p256_spki();
        let text = pem(&version(v1::KeyType::Ec, spki.clone())).expect("PEM");
        let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
        assert!(text.starts_with("-----BEGIN PUBLIC KEY-----\n") && text.ends_with("-----END PUBLIC KEY-----\n"));
        assert_eq!(Base64::decode_vec(&body).expect("base64"), spki);
    }
}
