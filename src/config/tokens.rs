//! Issuers whose bearer tokens are believed (`[[oidc]]`), and tokens that are issued here (`[tokens]`).

use std::time::Duration;

use http::Uri;
use serde_json::Value;

use super::reader::Section;
use crate::{
    bearer::{ALGORITHMS, Channel, ClaimPath, KeySource, LEEWAY_MAX, Requirement, Rules, Trust, issued::LIFE_MAX},
    model::Algorithm,
};

/// The longest name of an issuer: with a subject it must fit into a principal's name.
const ISSUER_BYTES_MAX: usize = 512;
/// The most issuers.
const ISSUERS_MAX: usize = 64;
/// The longest life of others' tokens that can be accepted: ten years are not a token.
const FOREIGN_LIFE_MAX_S: u64 = 366 * 86_400;

/// Tokens that are issued here.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// The issuer's name; that of the instance when absent.
    pub issuer: Option<String>,
    /// The life of a token that is asked for without one.
    pub life_default: Duration,
    /// The longest life.
    pub life_max: Duration,
    /// The most tokens in force at once.
    pub issued_max: usize,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { issuer: None, life_default: Duration::from_secs(3600), life_max: LIFE_MAX, issued_max: 10_000 }
    }
}

pub(super) fn tokens(mut section: Section) -> Tokens {
    let issuer = section.text("issuer");
    if issuer.as_ref().is_some_and(|issuer| !is_issuer(issuer) || !issuer.starts_with("https://")) {
        section.fault("issuer", "is not https:// and where others find this service, without `?` and `#`");
    }
    let defaults = Tokens::default();
    let life_max = section.seconds("life_max_s", defaults.life_max, 60..=LIFE_MAX.as_secs());
    let default = defaults.life_default.min(life_max);
    let life_default = section.seconds("life_default_s", default, 1..=LIFE_MAX.as_secs());
    if life_default > life_max {
        section.fault("life_default_s", "is longer than life_max_s");
    }
    let issued_max = section.count("issued_max", defaults.issued_max, 1..=100_000);
    section.finish();
    Tokens { issuer, life_default, life_max, issued_max }
}

pub(super) fn oidc(root: &mut Section, own: &Tokens) -> Vec<Trust> {
    let sections = root.tables("oidc");
    if sections.len() > ISSUERS_MAX {
        root.fault("oidc", format!("there are more than {ISSUERS_MAX} issuers"));
    }
    let mut trusts: Vec<Trust> = Vec::with_capacity(sections.len());
    for mut section in sections {
        let trust = issuer(&mut section);
        let name = &trust.rules.issuer;
        if trusts.iter().any(|other| other.rules.issuer == *name) {
            section.fault("issuer", "is there twice");
        }
        if own.issuer.as_ref() == Some(name) {
            section.fault("issuer", "is this service itself (tokens.issuer), whose tokens are believed anyway");
        }
        section.finish();
        trusts.push(trust);
    }
    trusts
}

fn issuer(section: &mut Section) -> Trust {
    let issuer = section.required_text("issuer");
    let channel = Channel {
        ca: section.path("ca"),
        plain_loopback: section.switch("allow_http_loopback", false),
        token_file: section.path("fetch_token_file"),
        public_and: None,
    };
    let keys = key_source(section);
    let is_reached = match (&keys, issuer.parse::<Uri>()) {
        (KeySource::Discovered, Ok(url)) => channel.allows(&url),
        (KeySource::Discovered, Err(_)) => false,
        _ => true,
    };
    let is_right = is_issuer(&issuer) && is_reached;
    if !issuer.is_empty() && !is_right {
        let why = "is not https:// and a host, without `?` and `#` (http:// on loopback: allow_http_loopback = true)";
        section.fault("issuer", why);
    }
    if let KeySource::Url(url) = &keys
        && !channel.allows(url)
    {
        section.fault("jwks_uri", "is not an https:// URL (http:// on loopback: allow_http_loopback = true)");
    }
    Trust {
        rules: rules(section, issuer),
        keys,
        channel,
        refresh_every: section.seconds("refresh_s", Duration::from_secs(300), 10..=86_400),
        kept_max: section.seconds("keys_kept_s", Duration::from_secs(86_400), 60..=30 * 86_400),
    }
}

fn rules(section: &mut Section, issuer: String) -> Rules {
    let text = |text: &str| if text.is_empty() { Err("is empty".to_owned()) } else { Ok(text.to_owned()) };
    let audiences = section.parsed("audiences", "texts", text);
    if audiences.is_empty() {
        let why = "is missing: without it a token that somebody else was sent would be believed here";
        section.fault("audiences", why);
    }
    Rules {
        issuer,
        audiences,
        algorithms: algorithms(section),
        subject: claim(section, "subject_claim").or_else(|| ClaimPath::new("sub")).expect("sub is a name"),
        groups: claim(section, "groups_claim"),
        required: required(section.section("required")),
        leeway: section.seconds("leeway_s", Duration::from_secs(30), 0..=LEEWAY_MAX.as_secs()),
        life_max: section.seconds("life_max_s", Duration::from_secs(86_400), 60..=FOREIGN_LIFE_MAX_S),
    }
}

/// As a principal's name can hold it: the part before `#`.
fn is_issuer(issuer: &str) -> bool {
    let plain = issuer.bytes().all(|byte| byte.is_ascii_graphic() && !b"#?\"\\".contains(&byte));
    plain && issuer.len() <= ISSUER_BYTES_MAX && issuer.contains(':')
}

fn key_source(section: &mut Section) -> KeySource {
    let (url, file) = (section.text("jwks_uri"), section.path("jwks_file"));
    match (url, file) {
        (Some(_), Some(_)) => {
            section.fault("jwks_file", "stands beside jwks_uri: one of them");
            KeySource::Discovered
        }
        (Some(url), None) => match url.parse() {
            Ok(url) => KeySource::Url(url),
            Err(_) => {
                section.fault("jwks_uri", "is not a URL");
                KeySource::Discovered
            }
        },
        (None, Some(file)) => KeySource::File(file),
        (None, None) => KeySource::Discovered,
    }
}

fn algorithms(section: &mut Section) -> Vec<Algorithm> {
    if !section.has("algorithms") {
        return ALGORITHMS.to_vec();
    }
    let known = |name: &str| {
        let found = Algorithm::from_name(name).filter(|algorithm| ALGORITHMS.contains(algorithm));
        found.ok_or_else(|| {
            let all: Vec<&str> = ALGORITHMS.into_iter().map(Algorithm::name).collect();
            format!("is none of {}", all.join(", "))
        })
    };
    let found = section.parsed("algorithms", "algorithms", known);
    if found.is_empty() {
        section.fault("algorithms", "is empty: without it all are taken that are safe");
    }
    found
}

fn claim(section: &mut Section, name: &str) -> Option<ClaimPath> {
    let text = section.text(name)?;
    let path = ClaimPath::new(&text);
    if path.is_none() {
        section.fault(name, "is the name of a claim, or a JSON Pointer such as /realm_access/roles");
    }
    path
}

fn required(mut section: Section) -> Vec<Requirement> {
    let mut required = Vec::new();
    for (name, value) in section.values() {
        let values = match value {
            toml::Value::Array(values) => values,
            single => vec![single],
        };
        let any_of: Option<Vec<Value>> = values.iter().map(plain).collect();
        match (ClaimPath::new(&name), any_of.filter(|any_of| !any_of.is_empty())) {
            (Some(claim), Some(any_of)) => required.push(Requirement { claim, any_of }),
            _ => section.fault(&name, "is text, a whole number, true or false, or a list of those"),
        }
    }
    required
}

fn plain(value: &toml::Value) -> Option<Value> {
    match value {
        toml::Value::String(text) => Some(text.as_str().into()),
        toml::Value::Integer(number) => Some((*number).into()),
        toml::Value::Boolean(value) => Some((*value).into()),
        _ => None,
    }
}
