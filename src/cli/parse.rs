//! Values on the command line: times, tags, key types, curves, operations, algorithms, addresses. Pure.

use std::{
    collections::HashMap,
    net::{SocketAddr, ToSocketAddrs as _},
};

use clap::{
    ValueEnum,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};
use prost_types::Timestamp;
use strongroom_hsm::algorithms::AES_BLOCK_BYTES;
use strongroom_proto::v1;

use crate::model::{Algorithm, KeyOps, Tags};

/// `--type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum TypeArg {
    /// Sign, verify, encrypt, decrypt, wrap, unwrap
    #[value(name = "RSA")]
    Rsa,
    /// Elliptic curve: sign, verify
    #[value(name = "EC")]
    Ec,
    /// Ed25519: sign, verify
    #[value(name = "OKP")]
    Okp,
    /// AES: encrypt, decrypt, wrap, unwrap; with --ops sign,verify HMAC
    #[value(name = "oct")]
    Oct,
}

/// `--curve`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum CurveArg {
    /// secp256r1
    #[value(name = "P-256")]
    P256,
    /// secp384r1
    #[value(name = "P-384")]
    P384,
    /// secp521r1
    #[value(name = "P-521")]
    P521,
    /// secp256k1
    #[value(name = "P-256K", alias = "secp256k1")]
    P256K,
    /// The curve of OKP keys
    #[value(name = "Ed25519")]
    Ed25519,
}

impl From<CurveArg> for v1::Curve {
    fn from(curve: CurveArg) -> Self {
        match curve {
            CurveArg::P256 => Self::P256,
            CurveArg::P384 => Self::P384,
            CurveArg::P521 => Self::P521,
            CurveArg::P256K => Self::P256k,
            CurveArg::Ed25519 => Self::Ed25519,
        }
    }
}

/// `--residency`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ResidencyArg {
    /// Wrapped by the HSM's root key and kept in the store
    Wrapped,
    /// A permanent object of the token; cannot be recovered from escrow
    Token,
}

impl From<ResidencyArg> for v1::Residency {
    fn from(residency: ResidencyArg) -> Self {
        match residency {
            ResidencyArg::Wrapped => Self::Wrapped,
            ResidencyArg::Token => Self::Token,
        }
    }
}

/// `--authorization`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum AuthorizationArg {
    /// Role assignments
    Roles,
    /// The vault's own access policies
    AccessPolicies,
}

impl From<AuthorizationArg> for v1::VaultAuthorization {
    fn from(authorization: AuthorizationArg) -> Self {
        match authorization {
            AuthorizationArg::Roles => Self::Roles,
            AuthorizationArg::AccessPolicies => Self::AccessPolicies,
        }
    }
}

/// `--ops`: one operation by its JWK name; the flag splits at commas. Those of JWK that are not offered are
/// answered with more than a list.
pub(super) fn operation() -> impl TypedValueParser<Value = v1::KeyOperation> {
    let offered = KeyOps::every().map(|(_, name)| PossibleValue::new(name));
    let refused = ["deriveKey", "deriveBits"].into_iter().map(|name| PossibleValue::new(name).hide(true));
    PossibleValuesParser::new(offered.chain(refused)).try_map(|name| {
        operation_named(&name)
            .ok_or_else(|| format!("{name}: key agreement (ECDH) is not offered, with any type of key"))
    })
}

/// `--iv`: 16 bytes in hexadecimal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Iv(pub(super) [u8; AES_BLOCK_BYTES]);

/// `--iv`.
pub(super) fn iv(text: &str) -> Result<Iv, String> {
    let is_hexadecimal = text.len() == 2 * AES_BLOCK_BYTES && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u128::from_str_radix(text, 16).ok().filter(|_| is_hexadecimal);
    number.map(|number| Iv(number.to_be_bytes())).ok_or_else(|| "an IV has 32 hexadecimal digits".to_owned())
}

fn operation_named(name: &str) -> Option<v1::KeyOperation> {
    OPERATIONS.into_iter().find(|(_, known)| *known == name).map(|(operation, _)| operation)
}

const OPERATIONS: [(v1::KeyOperation, &str); 7] = [
    (v1::KeyOperation::Encrypt, "encrypt"),
    (v1::KeyOperation::Decrypt, "decrypt"),
    (v1::KeyOperation::Sign, "sign"),
    (v1::KeyOperation::Verify, "verify"),
    (v1::KeyOperation::WrapKey, "wrapKey"),
    (v1::KeyOperation::UnwrapKey, "unwrapKey"),
    (v1::KeyOperation::Import, "import"),
];

/// The operations of that list that this program knows.
pub(super) fn operations(version: &v1::KeyVersion) -> KeyOps {
    let known = version.key_operations().filter_map(operation_name).filter_map(KeyOps::from_name);
    known.fold(KeyOps::NONE, KeyOps::union)
}

/// An operation's JWK name; `None` for one that this program does not know.
pub(super) fn operation_name(operation: v1::KeyOperation) -> Option<&'static str> {
    OPERATIONS.into_iter().find(|(known, _)| *known == operation).map(|(_, name)| name)
}

/// `--algorithm` of an operation: the JWA names that serve it.
pub(super) fn algorithm(ops: KeyOps) -> impl TypedValueParser<Value = Algorithm> {
    named(Algorithm::ALL.into_iter().filter(move |algorithm| algorithm.ops().contains(ops)))
}

/// `--algorithm` of a data key: the JWA names that put one under a key.
pub(super) fn data_key_algorithm() -> impl TypedValueParser<Value = Algorithm> {
    named(Algorithm::ALL.into_iter().filter(|algorithm| algorithm.data_key_operation().is_some()))
}

fn named(algorithms: impl Iterator<Item = Algorithm>) -> impl TypedValueParser<Value = Algorithm> {
    PossibleValuesParser::new(algorithms.map(Algorithm::name))
        .map(|name| Algorithm::from_name(&name).expect("one of the possible values"))
}

/// `--tag K=V`.
pub(super) fn tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a tag looks like key=value".to_owned()),
    }
}

/// Checked tags as they are sent.
pub(super) fn tags(tags: &[(String, String)]) -> anyhow::Result<HashMap<String, String>> {
    let mut seen = HashMap::with_capacity(tags.len());
    for (key, value) in tags {
        if seen.insert(key.clone(), value.clone()).is_some() {
            anyhow::bail!("the tag {key:?} is given twice");
        }
    }
    Tags::new(seen.clone())?;
    Ok(seen)
}

/// A time on the command line: absolute, or from now on.
#[derive(Clone, Copy, Debug)]
pub(super) enum TimeArg {
    /// At that time.
    At(jiff::Timestamp),
    /// So much later than now.
    In(jiff::Span),
}

/// `--expires`, `--not-before`: RFC 3339, or an ISO 8601 duration from now.
pub(super) fn time(text: &str) -> Result<TimeArg, String> {
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return if at.subsec_nanosecond() == 0 {
            Ok(TimeArg::At(at))
        } else {
            Err("times are whole seconds".to_owned())
        };
    }
    let is_duration = text.starts_with('P');
    match text.parse::<jiff::Span>() {
        Ok(span) if is_duration && span.is_positive() => Ok(TimeArg::In(span)),
        _ => {
            Err("a time looks like 2027-01-31T00:00:00Z (RFC 3339), or like P90D, P1Y, PT12H: so long from now"
                .to_owned())
        }
    }
}

impl TimeArg {
    /// The time itself. Years and months are those of the calendar in UTC.
    pub(super) fn resolve(self, now: jiff::Timestamp) -> anyhow::Result<Timestamp> {
        let at = match self {
            Self::At(at) => at,
            Self::In(span) => now.to_zoned(jiff::tz::TimeZone::UTC).checked_add(span)?.timestamp(),
        };
        Ok(Timestamp { seconds: at.as_second(), nanos: 0 })
    }
}

/// A time that is past: absolute, or until now.
#[derive(Clone, Copy, Debug)]
pub(super) enum PastArg {
    /// At that time.
    At(jiff::Timestamp),
    /// So much earlier than now.
    Ago(jiff::Span),
}

/// `--since`, `--until`: RFC 3339, a date (its beginning in UTC), or a duration before now.
pub(super) fn past(text: &str) -> Result<PastArg, String> {
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return if at.subsec_nanosecond() == 0 {
            Ok(PastArg::At(at))
        } else {
            Err("times are whole seconds".to_owned())
        };
    }
    let is_date = text.len() == "2027-01-31".len();
    if let Some(date) = text.parse::<jiff::civil::Date>().ok().filter(|_| is_date) {
        let at = date.to_zoned(jiff::tz::TimeZone::UTC).map_err(|error| error.to_string())?;
        return Ok(PastArg::At(at.timestamp()));
    }
    match text.trim_end_matches(" ago").parse::<jiff::Span>() {
        Ok(span) if span.is_positive() => Ok(PastArg::Ago(span)),
        _ => {
            Err("a time looks like 2027-01-31T00:00:00Z (RFC 3339), 2027-01-31, or like 24h, 30d: so long ago"
                .to_owned())
        }
    }
}

impl PastArg {
    /// The time itself, in whole seconds. Years and months are those of the calendar in UTC.
    pub(super) fn resolve(self, now: jiff::Timestamp) -> anyhow::Result<Timestamp> {
        let at = match self {
            Self::At(at) => at,
            Self::Ago(span) => now.to_zoned(jiff::tz::TimeZone::UTC).checked_sub(span)?.timestamp(),
        };
        Ok(Timestamp { seconds: at.as_second(), nanos: 0 })
    }
}

/// Now, by this machine's clock: durations on the command line are counted from it.
#[expect(clippy::disallowed_methods, reason = "the command line is a program of its own; its clock is the machine's")]
pub(super) fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// `--listen`: an address, or a host name that stands for one.
pub(super) fn host_name(text: &str) -> Result<String, String> {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let is_label = |label: &str| {
        let plain = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (1..=63).contains(&label.len()) && plain && !label.starts_with('-') && !label.ends_with('-')
    };
    let right = name.len() <= 250 && name.split('.').all(is_label);
    if right { Ok(text.to_owned()) } else { Err("is no name of a host, for example dev.strongroom.test".to_owned()) }
}

pub(super) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let wrong = || "an address to listen on looks like 127.0.0.1:8443 or localhost:8443".to_owned();
    text.to_socket_addrs().map_err(|_| wrong())?.next().ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str) -> String {
        let now = "2026-11-30T12:00:00.75Z".parse().expect("a time");
        let time = time(text).expect("a time").resolve(now).expect("in range");
        jiff::Timestamp::from_second(time.seconds).expect("in range").to_string()
    }

    #[test]
    fn times_are_absolute_or_from_now() {
        assert_eq!(resolved("2027-01-31T01:00:00+01:00"), "2027-01-31T00:00:00Z");
        assert_eq!(resolved("P90D"), "2027-02-28T12:00:00Z");
        assert_eq!(resolved("P3M"), "2027-02-28T12:00:00Z", "a month's end stays one");
        assert_eq!(resolved("PT12H"), "2026-12-01T00:00:00Z");
        for bad in ["", "tomorrow", "90", "2027-01-31", "-P1D", "P0D", "2027-01-31T00:00:00.5Z", "1h"] {
            assert!(time(bad).is_err(), "{bad}");
        }
        assert!(time("P9999Y").expect("a time").resolve(jiff::Timestamp::UNIX_EPOCH).is_err());
    }

    #[test]
    fn times_that_are_past_are_absolute_dates_or_ago() {
        let ago = |text: &str| {
            let now = "2026-11-30T12:00:00.75Z".parse().expect("a time");
            let time = past(text).expect(text).resolve(now).expect("in range");
            jiff::Timestamp::from_second(time.seconds).expect("in range").to_string()
        };
        assert_eq!(ago("2026-10-31T01:00:00+01:00"), "2026-10-31T00:00:00Z");
        assert_eq!(ago("2026-10-31"), "2026-10-31T00:00:00Z");
        for text in ["24h", "1d", "24h ago", "PT24H", "1 day"] {
            assert_eq!(ago(text), "2026-11-29T12:00:00Z", "{text}");
        }
        assert_eq!(ago("1mo"), "2026-10-30T12:00:00Z");
        for bad in ["", "yesterday", "90", "-1d", "0s", "2026-13-01", "2026-10-31T00:00:00.5Z"] {
            assert!(past(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tags_have_a_key_and_come_once() {
        assert_eq!(tag("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(tag("a").is_err() && tag("=b").is_err());
        assert!(tags(&[("a".into(), "1".into()), ("a".into(), "2".into())]).is_err());
        assert!(tags(&vec![("k".into(), String::new()); 1]).is_ok());
    }

    #[test]
    fn an_iv_has_32_digits() {
        assert_eq!(iv("000102030405060708090a0b0c0d0E0F").map(|iv| iv.0[15]), Ok(15));
        for bad in ["", "00", "000102030405060708090a0b0c0d0e0", "000102030405060708090a0b0c0d0e0f00", &"x".repeat(32)]
        {
            assert!(iv(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn operations_have_their_jwk_names() {
        for (_, name) in KeyOps::every() {
            let operation = operation_named(name).expect("known");
            assert_eq!(operation_name(operation), Some(name));
        }
    }
}
