//! What a token says, held against what an operator has configured: pure, with the time handed in.
//!
//! A principal is `oidc:{issuer}#{subject}`, a group `group:oidc:{issuer}#{value}`. An issuer has no `#`, and what
//! a name cannot hold is percent-encoded, `%` and `#` too: two subjects never have one name, nor two issuers.

use std::{fmt::Write as _, time::Duration};

use serde_json::Value;

use super::{error::BearerError, json::Object};
use crate::model::{Algorithm, Principal, Timestamp};

/// The most groups of one token. Entra ID puts 200 into a token and then none but a hint.
pub const GROUPS_MAX: usize = 256;
/// The longest leeway.
pub const LEEWAY_MAX: Duration = Duration::from_secs(300);

/// Where a claim is: a name, or a JSON Pointer (RFC 6901) when it begins with `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPath(String);

impl ClaimPath {
    /// The claim of that name or at that pointer.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        (!text.is_empty() && text != "/").then(|| Self(text.to_owned()))
    }

    fn find<'c>(&self, claims: &'c Object) -> Option<&'c Value> {
        let Some(pointer) = self.0.strip_prefix('/') else { return claims.get(&self.0) };
        let (first, rest) = pointer.split_once('/').map_or((pointer, None), |(first, rest)| (first, Some(rest)));
        let first = claims.get(&first.replace("~1", "/").replace("~0", "~"))?;
        rest.map_or(Some(first), |rest| first.pointer(&format!("/{rest}")))
    }

    /// The claim that it lies in.
    fn root(&self) -> &str {
        self.0.strip_prefix('/').map_or(self.0.as_str(), |pointer| pointer.split('/').next().unwrap_or_default())
    }
}

impl std::fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a claim must be.
#[derive(Clone, Debug, PartialEq)]
pub struct Requirement {
    /// Which claim.
    pub claim: ClaimPath,
    /// One of these; of a list, one of its values.
    pub any_of: Vec<Value>,
}

/// What is believed of an issuer's tokens.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Its name, to the letter.
    pub issuer: String,
    /// A token is for at least one of these.
    pub audiences: Vec<String>,
    /// How they may be signed.
    pub algorithms: Vec<Algorithm>,
    /// Which claim says who it is.
    pub subject: ClaimPath,
    /// Which claim says in which groups.
    pub groups: Option<ClaimPath>,
    /// What else must be true.
    pub required: Vec<Requirement>,
    /// By how much clocks may differ.
    pub leeway: Duration,
    /// The longest life of a token.
    pub life_max: Duration,
}

/// What a token came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Who.
    pub principal: Principal,
    /// In which groups.
    pub groups: Vec<Principal>,
    /// Until when it is believed: its end, with the leeway.
    pub until: Timestamp,
}

impl Rules {
    /// Checks the claims of a token whose signature is right.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub(super) fn check(&self, claims: &Object, now: Timestamp) -> Result<Found, BearerError> {
        let until = self.check_frame(claims, now)?;
        for requirement in &self.required {
            if !requirement.claim.find(claims).is_some_and(|value| is_any_of(value, &requirement.any_of)) {
                return Err(BearerError::Claim { claim: requirement.claim.0.clone() });
            }
        }
        let subject = self.subject.find(claims).and_then(Value::as_str).filter(|subject| !subject.is_empty());
        let name = format!("oidc:{}#{}", self.issuer, encoded(subject.ok_or(BearerError::Subject)?));
        let principal = name.parse().map_err(|_| BearerError::Subject)?;
        Ok(Found { principal, groups: self.groups_of(claims)?, until })
    }

    /// Issuer, audience, times and binding; until when the token is believed.
    pub(super) fn check_frame(&self, claims: &Object, now: Timestamp) -> Result<Timestamp, BearerError> {
        if claims.get("iss").and_then(Value::as_str) != Some(&self.issuer) {
            return Err(BearerError::Issuer);
        }
        if !claims.get("aud").is_some_and(|found| self.is_for_us(found)) {
            return Err(BearerError::Audience);
        }
        if claims.contains_key("cnf") {
            return Err(BearerError::Bound);
        }
        self.check_times(claims, now)
    }

    fn is_for_us(&self, audience: &Value) -> bool {
        let ours = |value: &Value| value.as_str().is_some_and(|text| self.audiences.iter().any(|own| own == text));
        audience.as_array().map_or_else(|| ours(audience), |several| several.iter().any(ours))
    }

    fn check_times(&self, claims: &Object, now: Timestamp) -> Result<Timestamp, BearerError> {
        let (leeway, life_max) = (seconds(self.leeway), seconds(self.life_max));
        let expires = time(claims, "exp")?.ok_or(BearerError::Malformed("it has no exp"))?;
        let until = expires.saturating_add(leeway);
        if now.0 >= until {
            return Err(BearerError::Expired);
        }
        let issued = time(claims, "iat")?;
        for from in [time(claims, "nbf")?, issued].into_iter().flatten() {
            if from > now.0.saturating_add(leeway) {
                return Err(BearerError::NotYetValid);
            }
        }
        let too_long = issued.is_some_and(|issued| expires.saturating_sub(issued) > life_max)
            || expires.saturating_sub(now.0) > life_max.saturating_add(leeway);
        if too_long {
            return Err(BearerError::Life { max_s: self.life_max.as_secs() });
        }
        Ok(Timestamp(until))
    }

    fn groups_of(&self, claims: &Object) -> Result<Vec<Principal>, BearerError> {
        let Some(path) = &self.groups else { return Ok(Vec::new()) };
        // OpenID Connect Core section 5.6.2: the claim is elsewhere. Entra ID does so for members of many groups.
        let elsewhere = claims.get("_claim_names").and_then(Value::as_object);
        if elsewhere.is_some_and(|names| names.contains_key(path.root())) {
            return Err(BearerError::Groups(
                "the issuer left them out because there are too many (_claim_names); have it send only those that \
                 are assigned to this application",
            ));
        }
        let values = match path.find(claims) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Array(values)) => values.as_slice(),
            Some(single) => std::slice::from_ref(single),
        };
        if values.len() > GROUPS_MAX {
            return Err(BearerError::Groups("there are more than 256"));
        }
        let group = |value: &Value| {
            let value = value.as_str().filter(|value| !value.is_empty())?;
            format!("group:oidc:{}#{}", self.issuer, encoded(value)).parse().ok()
        };
        let groups = values.iter().map(group).collect::<Option<Vec<Principal>>>();
        groups.ok_or(BearerError::Groups("one of them is empty, not text, or too long"))
    }
}

fn is_any_of(value: &Value, wanted: &[Value]) -> bool {
    wanted.contains(value) || value.as_array().is_some_and(|values| values.iter().any(|value| wanted.contains(value)))
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// NumericDate: seconds since 1970, which may have a fraction (RFC 7519 section 2).
fn time(claims: &Object, name: &str) -> Result<Option<i64>, BearerError> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    // The conversion saturates, and what is not a number was no JSON.
    #[expect(clippy::cast_possible_truncation, reason = "a fraction of a second decides nothing")]
    let found = value.as_i64().or_else(|| value.as_f64().map(|value| value.floor() as i64));
    match found {
        Some(time) if (0..=Timestamp::MAX.0).contains(&time) => Ok(Some(time)),
        _ => Err(BearerError::Malformed("exp, nbf or iat is not a time")),
    }
}

/// A text as part of a principal's name: printable ASCII stays, but for `%` and `#`; all else is `%` and two
/// hexadecimal digits for each byte of UTF-8. No two texts become one.
#[must_use]
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && !b"%#".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000);

    fn rules() -> Rules {
        Rules {
            issuer: "https://issuer.example".to_owned(),
            audiences: vec!["strongroom".to_owned(), "other".to_owned()],
            algorithms: vec![Algorithm::Rs256],
            subject: ClaimPath::new("sub").expect("a path"),
            groups: ClaimPath::new("groups"),
            required: Vec::new(),
            leeway: Duration::from_secs(30),
            life_max: Duration::from_secs(3600),
        }
    }

    fn claims() -> Value {
        json!({
            "iss": "https://issuer.example", "aud": "strongroom", "sub": "ci",
            "iat": NOW.0 - 10, "exp": NOW.0 + 600,
        })
    }

    fn check(rules: &Rules, claims: &Value) -> Result<Found, BearerError> {
        rules.check(claims.as_object().expect("an object"), NOW)
    }

    fn with(name: &str, value: Value) -> Result<Found, BearerError> {
        let mut claims = claims();
        claims[name] = value;
        check(&rules(), &claims)
    }

    #[test]
    fn a_right_token_is_its_subject() {
        let found = check(&rules(), &claims()).expect("right");
        assert_eq!(found.principal.as_str(), "oidc:https://issuer.example#ci");
        assert_eq!((found.groups, found.until), (Vec::new(), Timestamp(NOW.0 + 630)));
    }

    #[test]
    fn the_issuer_is_meant_to_the_letter() {
        for wrong in ["https://issuer.example/", "https://ISSUER.example", "http://issuer.example", ""] {
            assert_eq!(with("iss", wrong.into()), Err(BearerError::Issuer), "{wrong}");
        }
        assert_eq!(with("iss", json!(["https://issuer.example"])), Err(BearerError::Issuer));
    }

    #[test]
    fn one_audience_is_ours_to_the_letter() {
        for right in [json!("other"), json!(["x", "strongroom"])] {
            assert!(with("aud", right.clone()).is_ok(), "{right}");
        }
        for wrong in [json!("Strongroom"), json!(["x"]), json!([]), json!(null), json!({"strongroom": 1}), json!(1)] {
            assert_eq!(with("aud", wrong.clone()), Err(BearerError::Audience), "{wrong}");
        }
        let mut without = claims();
        without.as_object_mut().expect("an object").remove("aud");
        assert_eq!(check(&rules(), &without), Err(BearerError::Audience));
    }

    #[test]
    fn times_hold_at_their_edges() {
        for (name, value, expected) in [
            ("exp", json!(NOW.0 - 29), Ok(())),
            ("exp", json!(NOW.0 - 30), Err(BearerError::Expired)),
            ("exp", json!(NOW.0 as f64 - 30.5), Err(BearerError::Expired)),
            ("exp", json!(0), Err(BearerError::Expired)),
            ("nbf", json!(NOW.0 + 30), Ok(())),
            ("nbf", json!(NOW.0 + 31), Err(BearerError::NotYetValid)),
            ("iat", json!(NOW.0 + 31), Err(BearerError::NotYetValid)),
            ("iat", json!(NOW.0 - 3000), Ok(())),
            ("iat", json!(NOW.0 - 3001), Err(BearerError::Life { max_s: 3600 })),
            ("exp", json!(NOW.0 + 3590), Ok(())),
            ("exp", json!(NOW.0 + 3591), Err(BearerError::Life { max_s: 3600 })),
        ] {
            assert_eq!(with(name, value.clone()).map(drop), expected, "{name} {value}");
        }
        for wrong in [json!("1800000600"), json!(-1), json!(1e300), json!(i64::MAX), json!(true), json!(null)] {
            for name in ["exp", "nbf", "iat"] {
                assert!(matches!(with(name, wrong.clone()), Err(BearerError::Malformed(_))), "{name} {wrong}");
            }
        }
        let mut without = claims();
        without.as_object_mut().expect("an object").remove("exp");
        assert!(matches!(check(&rules(), &without), Err(BearerError::Malformed(_))));
        // Without iat the end alone bounds its life.
        without["exp"] = json!(NOW.0 + 3631);
        without.as_object_mut().expect("an object").remove("iat");
        assert_eq!(check(&rules(), &without), Err(BearerError::Life { max_s: 3600 }));
    }

    #[test]
    fn a_token_that_is_bound_to_a_key_is_no_bearer_token() {
        assert_eq!(with("cnf", json!({"jkt": "x"})), Err(BearerError::Bound));
    }

    #[test]
    fn a_subject_is_text() {
        for wrong in [json!(""), json!(7), json!(null), json!(["ci"]), json!("x".repeat(3000))] {
            assert_eq!(with("sub", wrong.clone()), Err(BearerError::Subject), "{wrong}");
        }
        let found = with("sub", json!("repo:a/b:ref:refs/heads/ä #1%")).expect("right");
        assert_eq!(found.principal.as_str(), "oidc:https://issuer.example#repo:a/b:ref:refs/heads/%C3%A4%20%231%25");
        let rules = Rules { subject: ClaimPath::new("/kubernetes.io/pod/name").expect("a path"), ..rules() };
        let mut claims = claims();
        claims["kubernetes.io"] = json!({"pod": {"name": "web-1"}});
        let found = check(&rules, &claims).expect("right");
        assert_eq!(found.principal.as_str(), "oidc:https://issuer.example#web-1");
    }

    #[test]
    fn groups_are_bounded_and_texts() {
        let names = |found: Found| found.groups.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(with("groups", json!("a b")).map(names), Ok(vec!["group:oidc:https://issuer.example#a%20b".into()]));
        assert_eq!(with("groups", json!(vec!["g"; GROUPS_MAX])).map(|found| found.groups.len()), Ok(GROUPS_MAX));
        for wrong in
            [json!(vec!["g"; GROUPS_MAX + 1]), json!([1]), json!([""]), json!({"a": 1}), json!(["x".repeat(3000)])]
        {
            assert!(matches!(with("groups", wrong.clone()), Err(BearerError::Groups(_))), "{wrong}");
        }
        let overage = with("_claim_names", json!({"groups": "src1"})).expect_err("refused").to_string();
        assert!(overage.contains("too many (_claim_names)"), "{overage}");
        assert!(with("_claim_names", json!({"else": "src1"})).is_ok());
        let rules = Rules { groups: ClaimPath::new("/realm_access/roles"), ..rules() };
        let mut claims = claims();
        claims["realm_access"] = json!({"roles": ["ops", "dev"]});
        let found = check(&rules, &claims).expect("right");
        assert_eq!(names(found), ["group:oidc:https://issuer.example#ops", "group:oidc:https://issuer.example#dev"]);
        claims["_claim_names"] = json!({"realm_access": "src1"});
        assert!(check(&rules, &claims).is_err());
    }

    #[test]
    fn required_claims_have_one_of_their_values() {
        let requirement =
            |path: &str, any_of: Vec<Value>| Requirement { claim: ClaimPath::new(path).expect("a path"), any_of };
        let rules = Rules {
            required: vec![
                requirement("repository_owner", vec!["example".into()]),
                requirement("/a~1b/c", vec![json!(true), json!(2)]),
            ],
            ..rules()
        };
        let mut claims = claims();
        assert_eq!(check(&rules, &claims), Err(BearerError::Claim { claim: "repository_owner".into() }));
        claims["repository_owner"] = json!(["other", "example"]);
        claims["a/b"] = json!({"c": 2});
        assert!(check(&rules, &claims).is_ok());
        claims["a/b"] = json!({"c": "true"});
        assert_eq!(check(&rules, &claims), Err(BearerError::Claim { claim: "/a~1b/c".into() }));
    }

    proptest! {
        #[test]
        fn no_two_subjects_have_one_name(a in ".{0,12}", b in ".{0,12}") {
            prop_assert_eq!(a == b, encoded(&a) == encoded(&b));
            prop_assert!(encoded(&a).bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'));
        }
    }
}
