//! A token as it is written: the compact form of a signed JWT (RFC 7515 section 3.1, RFC 7519), read strictly.
//!
//! ```text
//! base64url(header) . base64url(claims) . base64url(signature)      each without padding
//! ```
//!
//! Of the header only `alg`, `kid` and `typ` are looked at. `jku`, `x5u`, `jwk` and `x5c` would let a token bring
//! its own key: nothing here reads them.

use base64ct::{Base64UrlUnpadded, Encoding as _};

use super::{
    error::BearerError,
    json::{self, Object},
};
use crate::model::Algorithm;

/// Signatures that a token may have, if its issuer's configuration says so too. None is symmetric.
pub const ALGORITHMS: [Algorithm; 10] = [
    Algorithm::Rs256,
    Algorithm::Rs384,
    Algorithm::Rs512,
    Algorithm::Ps256,
    Algorithm::Ps384,
    Algorithm::Ps512,
    Algorithm::Es256,
    Algorithm::Es384,
    Algorithm::Es512,
    Algorithm::EdDsa,
];

/// The longest `kid`.
pub(super) const KID_BYTES_MAX: usize = 512;
/// The kinds that are believed, in lower case. Others (`dpop+jwt`, `logout+jwt`, …) say something else than who
/// somebody is.
const TYPES: [&str; 3] = ["jwt", "at+jwt", "application/at+jwt"];

/// A token that was read and is not believed yet.
pub(super) struct Jws<'t> {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
    pub(super) claims: Object,
    /// What is signed: header and claims as they are written.
    pub(super) signed: &'t [u8],
    pub(super) signature: Vec<u8>,
}

impl std::fmt::Debug for Jws<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jws").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl<'t> Jws<'t> {
    /// Reads a token.
    pub(super) fn read(token: &'t str) -> Result<Self, BearerError> {
        let malformed = BearerError::Malformed;
        let (signed, signature) = token.rsplit_once('.').ok_or(malformed("it has not three parts"))?;
        let (header, claims) = signed.split_once('.').ok_or(malformed("it has not three parts"))?;
        if claims.contains('.') {
            return Err(malformed("it has not three parts"));
        }
        let part = |text| Base64UrlUnpadded::decode_vec(text).map_err(|_| malformed("a part is not base64url"));
        let header = json::object(&part(header)?).ok_or(malformed("its header is no JSON object"))?;
        let (algorithm, kid) = read_header(&header)?;
        let claims = json::object(&part(claims)?).ok_or(malformed("its claims are no JSON object"))?;
        Ok(Self { algorithm, kid, claims, signed: signed.as_bytes(), signature: part(signature)? })
    }
}

fn read_header(header: &Object) -> Result<(Algorithm, Option<String>), BearerError> {
    let text = |name| header.get(name).and_then(|value| value.as_str());
    let algorithm = text("alg").ok_or(BearerError::Malformed("its header has no alg"))?;
    let algorithm = Algorithm::from_name(algorithm).filter(|algorithm| ALGORITHMS.contains(algorithm));
    let algorithm = algorithm.ok_or(BearerError::Algorithm)?;
    // RFC 7515 section 4.1.11: what is critical and not understood is refused. Nothing that may stand there is.
    if header.contains_key("crit") {
        return Err(BearerError::Malformed("its header has crit"));
    }
    if header.contains_key("cty") {
        return Err(BearerError::Malformed("it holds something else than claims"));
    }
    if header.contains_key("typ")
        && !text("typ").is_some_and(|found| TYPES.iter().any(|known| found.eq_ignore_ascii_case(known)))
    {
        return Err(BearerError::Malformed("its typ is not JWT"));
    }
    let kid = text("kid").map(str::to_owned);
    if header.contains_key("kid") && kid.as_ref().is_none_or(|kid| kid.len() > KID_BYTES_MAX) {
        return Err(BearerError::Malformed("its kid is not a short text"));
    }
    Ok((algorithm, kid))
}

/// A part of a token.
pub(super) fn part(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(header: &str) -> Result<(Algorithm, Option<String>), BearerError> {
        let token = format!("{}.{}.{}", part(header.as_bytes()), part(b"{}"), part(b"s"));
        Jws::read(&token).map(|jws| (jws.algorithm, jws.kid))
    }

    #[test]
    fn symmetric_algorithms_and_none_are_not_known() {
        for name in ["none", "None", "NONE", "", "HS256", "HS384", "HS512", "rs256", "ES256K", "RSA-OAEP", "A128GCM"] {
            let header = format!(r#"{{"alg":"{name}"}}"#);
            assert_eq!(read(&header), Err(BearerError::Algorithm), "{name}");
        }
        for algorithm in ALGORITHMS {
            let header = format!(r#"{{"alg":"{}"}}"#, algorithm.name());
            assert_eq!(read(&header), Ok((algorithm, None)));
        }
    }

    #[test]
    fn what_a_header_must_not_say_is_refused() {
        let wrong = [
            "{}",
            "[]",
            r#"{"alg":1}"#,
            r#"{"alg":["RS256"]}"#,
            r#"{"alg":"RS256","alg":"RS256"}"#,
            r#"{"alg":"RS256","crit":[]}"#,
            r#"{"alg":"RS256","crit":["exp"]}"#,
            r#"{"alg":"RS256","b64":false,"crit":["b64"]}"#,
            r#"{"alg":"RS256","typ":"dpop+jwt"}"#,
            r#"{"alg":"RS256","typ":"logout+jwt"}"#,
            r#"{"alg":"RS256","typ":null}"#,
            r#"{"alg":"RS256","cty":"JWT"}"#,
            r#"{"alg":"RS256","kid":7}"#,
            r#"{"alg":"RS256","kid":{"$ne":1}}"#,
        ];
        for header in wrong {
            assert!(matches!(read(header), Err(BearerError::Malformed(_))), "{header}: {:?}", read(header));
        }
        let long = format!(r#"{{"alg":"RS256","kid":"{}"}}"#, "k".repeat(KID_BYTES_MAX + 1));
        assert!(matches!(read(&long), Err(BearerError::Malformed(_))));
    }

    #[test]
    fn a_key_that_a_token_brings_along_is_not_looked_at() {
        let header = r#"{"alg":"RS256","typ":"JWT","kid":"../../etc/passwd","jku":"https://evil.example/k",
            "x5u":"https://evil.example/c","jwk":{"kty":"oct","k":"AA"},"x5c":["AA"]}"#;
        assert_eq!(read(header), Ok((Algorithm::Rs256, Some("../../etc/passwd".to_owned()))));
    }

    #[test]
    fn there_is_one_way_to_write_a_token() {
        let header = part(br#"{"alg":"ES256"}"#);
        let claims = part(b"{}");
        for token in [
            String::new(),
            header.clone(),
            format!("{header}.{claims}"),
            format!("{header}.{claims}.AA.AA"),
            format!("{header}.{claims}.AA=="),
            format!("{header}.{claims}.A"),
            format!("{header}.{claims}.AB"),
            format!("{header}.{claims}.+/AA"),
            format!("{header}.{claims}.AA "),
            format!(" {header}.{claims}.AA"),
            format!("{header}.{}.AA", part(b"[]")),
            format!("{header}.{}.AA", part(br#"{"sub":"a","sub":"b"}"#)),
            format!("{header}..AA"),
        ] {
            assert!(matches!(Jws::read(&token), Err(BearerError::Malformed(_))), "{token}");
        }
        assert!(Jws::read(&format!("{header}.{claims}.AA")).is_ok());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(token in "[A-Za-z0-9_.=-]{0,80}") {
            let _ = Jws::read(&token);
        }
    }
}
