//! From the contract's fields to the model's types. What this release does not know is refused (P9).

use std::collections::HashMap;

use prost::Message;
use prost_types::FieldMask;
use sha2::{Digest as _, Sha256};
use strongroom_hsm::SecretBytes;
use strongroom_proto::v1;

use super::names::invalid;
use crate::{
    model::{
        AddressRange, Algorithm, KeyOps, KeySpec, NetworkPatch, Residency, Tags, Timestamp, VaultAuthorization,
        network::{NetworkRulesError, RANGES_MAX},
    },
    service::{ChangeOptions, Problem, vaults::invalid_network},
};

/// A field that must be there.
pub(super) fn required<T>(field: &'static str, value: Option<T>) -> Result<T, Problem> {
    value.ok_or_else(|| Problem::Invalid { field, why: "is missing".to_owned() })
}

/// A value of an enum that this release knows; 0 is the one that says nothing.
fn known<E: TryFrom<i32>>(field: &'static str, value: i32) -> Result<E, Problem> {
    E::try_from(value)
        .map_err(|_| Problem::Invalid { field, why: format!("{value} is not a value that is known here") })
}

/// A time in whole seconds from 1970 to 9999, or none.
pub(super) fn time(field: &'static str, time: Option<prost_types::Timestamp>) -> Result<Option<Timestamp>, Problem> {
    let Some(time) = time else { return Ok(None) };
    if time.nanos != 0 {
        return Err(Problem::Invalid { field, why: "has a fraction of a second; whole seconds are taken".to_owned() });
    }
    if !(0..=Timestamp::MAX.0).contains(&time.seconds) {
        return Err(Problem::Invalid { field, why: "is not between the years 1970 and 9999".to_owned() });
    }
    Ok(Some(Timestamp(time.seconds)))
}

/// Tags.
pub(super) fn tags(field: &'static str, tags: HashMap<String, String>) -> Result<Tags, Problem> {
    Tags::new(tags).map_err(|error| invalid(field, &error))
}

/// Network rules, every one of them: what is not said is as in a new vault.
pub(super) fn network(rules: &v1::NetworkRules) -> Result<NetworkPatch, Problem> {
    Ok(NetworkPatch {
        public_access: Some(rules.public_access.unwrap_or(true)),
        local_access: Some(rules.local_access.unwrap_or(true)),
        ranges: Some(ranges(&rules.allowed_ranges)?),
    })
}

fn ranges(texts: &[String]) -> Result<Vec<AddressRange>, Problem> {
    if texts.len() > RANGES_MAX {
        return Err(invalid_network(&NetworkRulesError::TooMany(texts.len())));
    }
    let range = |text: &String| text.parse().map_err(|error| invalid("vault.network.allowed_ranges", &error));
    texts.iter().map(range).collect()
}

/// What decides in a vault; `None` when it is not said.
pub(super) fn authorization(value: i32) -> Result<Option<VaultAuthorization>, Problem> {
    Ok(match known::<v1::VaultAuthorization>("vault.authorization", value)? {
        v1::VaultAuthorization::Unspecified => None,
        v1::VaultAuthorization::Roles => Some(VaultAuthorization::Roles),
        v1::VaultAuthorization::AccessPolicies => Some(VaultAuthorization::AccessPolicies),
    })
}

/// The kind of a new key. Of an oct key its operations decide which kind it is.
pub(super) fn spec(version: &v1::KeyVersion) -> Result<KeySpec, Problem> {
    let key_type = known::<v1::KeyType>("version.key_type", version.key_type)?;
    let curve = known::<v1::Curve>("version.curve", version.curve)?;
    let size = version.key_size;
    let of_curve = |why: &str| Problem::Invalid { field: "version.curve", why: why.to_owned() };
    let wrong = |takes: &str| Problem::Invalid { field: "version.key_size", why: format!("{size}; {takes}") };
    match (key_type, size, curve) {
        (v1::KeyType::Unspecified, ..) => {
            Err(Problem::Invalid { field: "version.key_type", why: "is missing: RSA, EC, OKP or OCT".to_owned() })
        }
        (v1::KeyType::Rsa | v1::KeyType::Oct, _, curve) if curve != v1::Curve::Unspecified => {
            Err(of_curve("is for EC and OKP keys only"))
        }
        (v1::KeyType::Rsa, 0 | 2048, _) => Ok(KeySpec::Rsa2048),
        (v1::KeyType::Rsa, 3072, _) => Ok(KeySpec::Rsa3072),
        (v1::KeyType::Rsa, 4096, _) => Ok(KeySpec::Rsa4096),
        (v1::KeyType::Rsa, ..) => Err(wrong("RSA keys have 2048, 3072 or 4096 bits")),
        (v1::KeyType::Ec, _, v1::Curve::Unspecified | v1::Curve::P256) => Ok(KeySpec::P256),
        (v1::KeyType::Ec, _, v1::Curve::P384) => Ok(KeySpec::P384),
        (v1::KeyType::Ec, _, v1::Curve::P521) => Ok(KeySpec::P521),
        (v1::KeyType::Ec, _, v1::Curve::P256k) => Ok(KeySpec::P256K),
        (v1::KeyType::Ec, _, v1::Curve::Ed25519) => Err(of_curve("Ed25519 is for OKP keys")),
        (v1::KeyType::Okp, _, v1::Curve::Unspecified | v1::Curve::Ed25519) => Ok(KeySpec::Ed25519),
        (v1::KeyType::Okp, ..) => Err(of_curve("OKP keys are on Ed25519")),
        (v1::KeyType::Oct, ..) => match (makes_macs(&version.key_operations)?, size) {
            (false, 128) => Ok(KeySpec::Aes128),
            (false, 192) => Ok(KeySpec::Aes192),
            (false, 0 | 256) => Ok(KeySpec::Aes256),
            (false, _) => Err(wrong("oct keys that encrypt or wrap (AES) have 128, 192 or 256 bits")),
            (true, 0 | 256) => Ok(KeySpec::Hmac256),
            (true, 384) => Ok(KeySpec::Hmac384),
            (true, 512) => Ok(KeySpec::Hmac512),
            (true, _) => Err(wrong("oct keys that sign or verify (HMAC) have 256, 384 or 512 bits")),
        },
    }
}

/// Whether an oct key with these operations is one for HMAC rather than for AES.
pub(super) fn makes_macs(operations: &[i32]) -> Result<bool, Problem> {
    const MACS: KeyOps = KeyOps::SIGN.union(KeyOps::VERIFY);
    let field = "version.key_operations";
    let wanted = ops(field, operations)?.unwrap_or(KeyOps::NONE);
    if wanted != KeyOps::NONE && MACS.contains(wanted) {
        return Ok(true);
    }
    if wanted.contains(KeyOps::SIGN) || wanted.contains(KeyOps::VERIFY) {
        let why = "an oct key either signs and verifies (HMAC), or encrypts, decrypts, wraps and unwraps (AES)";
        return Err(Problem::Invalid { field, why: why.to_owned() });
    }
    Ok(false)
}

/// What a version says of its kind must be true of the material it comes with.
pub(super) fn check_kind(version: &v1::KeyVersion, spec: KeySpec) -> Result<(), Problem> {
    let (key_type, curve) = super::encode::kind(spec);
    let wrong = |field| Problem::Invalid { field, why: format!("the material is a key of kind {}", spec.name()) };
    if ![v1::KeyType::Unspecified, key_type].contains(&known("version.key_type", version.key_type)?) {
        return Err(wrong("version.key_type"));
    }
    if ![v1::Curve::Unspecified, curve].contains(&known("version.curve", version.curve)?) {
        return Err(wrong("version.curve"));
    }
    if version.key_size != 0 && usize::try_from(version.key_size) != Ok(spec.bits()) {
        return Err(wrong("version.key_size"));
    }
    Ok(())
}

/// Key operations; `None` when there are none.
pub(super) fn ops(field: &'static str, ops: &[i32]) -> Result<Option<KeyOps>, Problem> {
    let mut found = KeyOps::NONE;
    for op in ops {
        found = found.union(match known::<v1::KeyOperation>(field, *op)? {
            v1::KeyOperation::Unspecified => {
                return Err(Problem::Invalid { field, why: "an operation is not said".to_owned() });
            }
            v1::KeyOperation::Encrypt => KeyOps::ENCRYPT,
            v1::KeyOperation::Decrypt => KeyOps::DECRYPT,
            v1::KeyOperation::Sign => KeyOps::SIGN,
            v1::KeyOperation::Verify => KeyOps::VERIFY,
            v1::KeyOperation::WrapKey => KeyOps::WRAP_KEY,
            v1::KeyOperation::UnwrapKey => KeyOps::UNWRAP_KEY,
            v1::KeyOperation::Import => KeyOps::IMPORT,
        });
    }
    Ok(if ops.is_empty() { None } else { Some(found) })
}

/// A residency, and the one that is meant when it is not said.
pub(super) fn residency(field: &'static str, residency: i32, unsaid: Residency) -> Result<Residency, Problem> {
    Ok(match known::<v1::Residency>(field, residency)? {
        v1::Residency::Unspecified => unsaid,
        v1::Residency::Wrapped => Residency::Wrapped,
        v1::Residency::Token => Residency::Token,
        v1::Residency::Public => Residency::Public,
    })
}

/// Whether a filter's state asks for what is deleted; `None` when it does not say.
pub(super) fn deleted(field: &'static str, state: i32) -> Result<Option<bool>, Problem> {
    match v1::State::try_from(state) {
        Ok(v1::State::Unspecified) => Ok(None),
        Ok(v1::State::Active) => Ok(Some(false)),
        Ok(v1::State::Deleted) => Ok(Some(true)),
        Err(_) => Err(Problem::Invalid { field, why: format!("{state} is no State") }),
    }
}

/// An algorithm by its JWA name.
pub(super) fn algorithm(name: &str) -> Result<Algorithm, Problem> {
    Algorithm::from_name(name).ok_or_else(|| {
        let known: Vec<&str> = Algorithm::ALL.iter().map(|algorithm| algorithm.name()).collect();
        let name: String = name.chars().take(40).collect();
        Problem::Invalid { field: "algorithm", why: format!("{name:?} is none of {}", known.join(", ")) }
    })
}

/// The paths of a mask, each of them one that may be changed.
pub(super) fn mask<'a>(mask: Option<&'a FieldMask>, known: &[&str]) -> Result<Vec<&'a str>, Problem> {
    let field = "update_mask";
    let paths = &required(field, mask)?.paths;
    if paths.is_empty() {
        return Err(Problem::Invalid { field, why: format!("is empty; it takes {}", known.join(", ")) });
    }
    for path in paths {
        if !known.contains(&path.as_str()) {
            let path: String = path.chars().take(80).collect();
            let why = format!("{path:?} is not a field that can be changed; it takes {}", known.join(", "));
            return Err(Problem::Invalid { field, why });
        }
    }
    Ok(paths.iter().map(String::as_str).collect())
}

/// The options of a change. `method` and `message` are what a repetition must repeat; `tags` are the
/// message's, which have no order on the wire, and are to be cleared in it.
pub(super) fn options(
    method: &str,
    message: &impl Message,
    tags: Option<&HashMap<String, String>>,
    request_id: &str,
    etag: &str,
    validate_only: bool,
) -> Result<ChangeOptions, Problem> {
    let request_id = if request_id.is_empty() {
        None
    } else {
        Some(request_id.parse().map_err(|error| invalid("request_id", &error))?)
    };
    Ok(ChangeOptions {
        request_id,
        etag: Some(etag).filter(|etag| !etag.is_empty()).map(str::to_owned),
        validate_only,
        digest: digest(method, message, tags),
    })
}

/// SHA-256( method | 0 | tags, sorted, each with lengths | message ).
fn digest(method: &str, message: &impl Message, tags: Option<&HashMap<String, String>>) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(method);
    hash.update([0]);
    let mut sorted: Vec<(&String, &String)> = tags.into_iter().flatten().collect();
    sorted.sort();
    hash.update((sorted.len() as u64).to_be_bytes());
    for text in sorted.into_iter().flat_map(|(key, value)| [key, value]) {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    hash.update(message.encode_to_vec());
    hash.finalize().into()
}

/// The digest of a request whose key material was taken out of the message, so that no copy of it is encoded.
/// Of a secret only the service keeps it, under the HSM's key: SHA-256( digest | field | 0 | material ).
pub(super) fn with_material(digest: [u8; 32], field: &str, material: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(digest).chain_update(field).chain_update([0]).chain_update(material).finalize().into()
}

/// As [`with_material`], of a secret.
pub(super) fn with_secret(digest: [u8; 32], field: &str, secret: &SecretBytes) -> [u8; 32] {
    with_material(digest, field, secret.expose_secret())
}

/// That a field is as it was sent (CRC32C, RFC 3720 appendix B.4), where the caller says so.
pub(super) fn check_crc32c(field: &'static str, said: Option<u32>, bytes: &[u8]) -> Result<(), Problem> {
    match said {
        Some(said) if said != crc32c::crc32c(bytes) => Err(Problem::Invalid {
            field,
            why: "does not match: the field was damaged on its way; send it again".to_owned(),
        }),
        _ => Ok(()),
    }
}

/// As [`check_crc32c`], of a secret.
pub(super) fn check_secret_crc32c(field: &'static str, said: Option<u32>, secret: &SecretBytes) -> Result<(), Problem> {
    check_crc32c(field, said, secret.expose_secret())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operations_of_an_oct_key_say_which_kind_it_is() {
        use v1::KeyOperation::{Encrypt, Sign, UnwrapKey, Verify};
        let made = |size: i32, ops: &[v1::KeyOperation]| {
            spec(&v1::KeyVersion {
                key_type: v1::KeyType::Oct.into(),
                key_size: size,
                key_operations: ops.iter().map(|op| (*op).into()).collect(),
                ..v1::KeyVersion::default()
            })
            .ok()
        };
        assert_eq!(made(0, &[]), Some(KeySpec::Aes256));
        assert_eq!(made(128, &[UnwrapKey]), Some(KeySpec::Aes128));
        assert_eq!(made(0, &[Sign, Verify]), Some(KeySpec::Hmac256));
        assert_eq!(made(384, &[Verify]), Some(KeySpec::Hmac384));
        assert_eq!(made(512, &[Sign]), Some(KeySpec::Hmac512));
        for (size, ops) in [(128, &[Sign][..]), (384, &[Encrypt]), (512, &[]), (256, &[Sign, Encrypt]), (1, &[Verify])]
        {
            assert_eq!(made(size, ops), None, "{size}");
        }
    }

    #[test]
    fn a_curve_is_of_its_key_type() {
        let made = |key_type: v1::KeyType, curve: v1::Curve| {
            let (key_type, curve) = (key_type.into(), curve.into());
            spec(&v1::KeyVersion { key_type, curve, ..v1::KeyVersion::default() }).ok()
        };
        assert_eq!(made(v1::KeyType::Okp, v1::Curve::Unspecified), Some(KeySpec::Ed25519));
        assert_eq!(made(v1::KeyType::Okp, v1::Curve::Ed25519), Some(KeySpec::Ed25519));
        assert_eq!(made(v1::KeyType::Okp, v1::Curve::P256), None);
        assert_eq!(made(v1::KeyType::Ec, v1::Curve::Ed25519), None);
        assert_eq!(made(v1::KeyType::Rsa, v1::Curve::P256), None);
        assert_eq!(made(v1::KeyType::Oct, v1::Curve::Ed25519), None);
    }

    fn version(key_type: i32, key_size: i32, curve: i32) -> v1::KeyVersion {
        v1::KeyVersion { key_type, key_size, curve, ..Default::default() }
    }

    #[test]
    fn kinds_of_keys_have_their_defaults() {
        for (key_type, size, curve, expected) in [
            (1, 0, 0, KeySpec::Rsa2048),
            (1, 4096, 0, KeySpec::Rsa4096),
            (2, 0, 0, KeySpec::P256),
            (2, 384, 2, KeySpec::P384),
            (2, 0, 4, KeySpec::P256K),
            (3, 0, 0, KeySpec::Aes256),
            (3, 192, 0, KeySpec::Aes192),
        ] {
            assert_eq!(spec(&version(key_type, size, curve)).expect("is one"), expected);
        }
    }

    #[test]
    fn unknown_kinds_sizes_and_curves_are_refused() {
        for (key_type, size, curve, field) in [
            (0, 0, 0, "version.key_type"),
            (9, 0, 0, "version.key_type"),
            (-1, 0, 0, "version.key_type"),
            (1, 1024, 0, "version.key_size"),
            (1, -2048, 0, "version.key_size"),
            (3, 512, 0, "version.key_size"),
            (2, 0, 7, "version.curve"),
            (1, 0, 1, "version.curve"),
        ] {
            let Err(Problem::Invalid { field: found, .. }) = spec(&version(key_type, size, curve)) else {
                panic!("{key_type} {size} {curve} is refused");
            };
            assert_eq!(found, field);
        }
    }

    #[test]
    fn unknown_values_of_enums_are_refused() {
        assert!(ops("f", &[3, 4]).is_ok_and(|ops| ops == Some(KeyOps::SIGN.union(KeyOps::VERIFY))));
        assert!(ops("f", &[]).is_ok_and(|ops| ops.is_none()));
        assert!(ops("f", &[0]).is_err() && ops("f", &[3, 99]).is_err());
        for unsaid in Residency::ALL {
            assert!(residency("f", 0, unsaid).is_ok_and(|residency| residency == unsaid));
            assert!(residency("f", 2, unsaid).is_ok_and(|residency| residency == Residency::Token));
            assert!(residency("f", 4, unsaid).is_err());
        }
        assert!(algorithm("ES256").is_ok() && algorithm("es256").is_err() && algorithm("").is_err());
    }

    #[test]
    fn what_is_said_of_material_must_be_true() {
        for spec in KeySpec::ALL {
            assert!(check_kind(&version(0, 0, 0), spec).is_ok(), "{}", spec.name());
        }
        assert!(check_kind(&version(2, 384, 2), KeySpec::P384).is_ok());
        for (key_type, size, curve, field) in [
            (1, 0, 0, "version.key_type"),
            (9, 0, 0, "version.key_type"),
            (2, 0, 4, "version.curve"),
            (0, 256, 0, "version.key_size"),
            (0, -384, 0, "version.key_size"),
        ] {
            let refused = check_kind(&version(key_type, size, curve), KeySpec::P384);
            assert!(matches!(refused, Err(Problem::Invalid { field: found, .. }) if found == field), "{field}");
        }
    }

    #[test]
    fn the_digest_of_a_request_covers_its_material() {
        let plain = digest("m", &v1::GetKeyRequest::default(), None);
        assert_ne!(with_material(plain, "oct", b"a"), with_material(plain, "oct", b"b"));
        assert_ne!(with_material(plain, "oct", b"a"), with_material(plain, "public_key", b"a"));
        assert_eq!(with_material(plain, "oct", b"a"), with_material(plain, "oct", b"a"));
    }

    #[test]
    fn times_are_whole_seconds_of_our_era() {
        let at = |seconds, nanos| time("f", Some(prost_types::Timestamp { seconds, nanos }));
        assert!(time("f", None).is_ok_and(|time| time.is_none()));
        assert!(at(0, 0).is_ok() && at(Timestamp::MAX.0, 0).is_ok());
        assert!(at(1, 1).is_err() && at(-1, 0).is_err() && at(Timestamp::MAX.0 + 1, 0).is_err());
        assert!(at(i64::MIN, 0).is_err() && at(0, -1).is_err());
    }

    #[test]
    fn a_mask_names_known_fields() {
        let of = |paths: &[&str]| FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() };
        assert!(mask(Some(&of(&["tags"])), &["tags", "enabled"]).is_ok());
        for paths in [&[][..], &["*"], &["tags", "etag"], &["Tags"], &["tags.a"]] {
            assert!(mask(Some(&of(paths)), &["tags", "enabled"]).is_err(), "{paths:?}");
        }
        assert!(mask(None, &["tags"]).is_err());
    }

    #[test]
    fn the_digest_is_that_of_the_content_and_the_method() {
        let message = v1::GetKeyRequest { name: "vaults/dev/keys/a".to_owned() };
        let many: HashMap<String, String> = (0..15).map(|n| (format!("k{n}"), "v".to_owned())).collect();
        // A copy has another order of iteration.
        let copy: HashMap<String, String> = many.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        assert_eq!(digest("m", &message, Some(&many)), digest("m", &message, Some(&copy)));
        assert_ne!(digest("m", &message, Some(&many)), digest("m", &message, None));
        assert_ne!(digest("m", &message, None), digest("n", &message, None));
        let moved = HashMap::from([("a".to_owned(), "bc".to_owned())]);
        let other = HashMap::from([("ab".to_owned(), "c".to_owned())]);
        assert_ne!(digest("m", &message, Some(&moved)), digest("m", &message, Some(&other)));
    }

    #[test]
    fn request_ids_are_uuids() {
        let message = v1::GetKeyRequest::default();
        let of = |id: &str| options("m", &message, None, id, "", false);
        assert!(of("").is_ok_and(|options| options.request_id.is_none() && options.etag.is_none()));
        assert!(of("6f9619ff-8b86-d011-b42d-00cf4fc964ff").is_ok_and(|options| options.request_id.is_some()));
        assert!(of("00000000-0000-0000-0000-000000000000").is_err() && of("x").is_err());
    }

    #[test]
    fn a_wrong_crc_is_refused_and_a_missing_one_is_not() {
        // RFC 3720 appendix B.4: 32 bytes of zeroes.
        assert!(check_crc32c("f", Some(0x8a91_36aa), &[0; 32]).is_ok());
        assert!(check_crc32c("f", Some(0), &[0; 32]).is_err());
        assert!(check_crc32c("f", None, &[0; 32]).is_ok());
    }
}
