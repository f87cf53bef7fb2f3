//! Whom certificates name, and the tricks that are tried with names.

use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair, SanType};

use super::*;
use crate::model::naming::NameRule;

fn made(prepare: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    prepare(&mut params);
    let key = KeyPair::generate().expect("a key");
    params.self_signed(&key).expect("signs").der().to_vec()
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("IA5"))
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().expect("IA5"))
}

fn mail(text: &str) -> SanType {
    SanType::Rfc822Name(text.try_into().expect("IA5"))
}

fn alternative(names: Vec<SanType>) -> Vec<u8> {
    made(|params| params.subject_alt_names = names)
}

fn subjects(values: &[(DnType, &str)]) -> Vec<u8> {
    made(|params| {
        for (kind, value) in values {
            params.distinguished_name.push(kind.clone(), *value);
        }
    })
}

fn rule(source: NameSource, within: &[&str]) -> NameRule {
    NameRule { source, within: within.iter().map(|text| (*text).to_owned()).collect() }
}

fn naming(rules: Vec<NameRule>) -> Naming {
    Naming { rules, ..Naming::default() }
}

fn principal(certificate: &[u8], naming: &Naming) -> Result<String, IdentityError> {
    named(certificate, naming).map(|named| named.principal.as_str().to_owned())
}

fn plain(certificate: &[u8]) -> Result<String, IdentityError> {
    principal(certificate, &Naming::default())
}

#[test]
fn one_uri_is_the_principal() {
    assert_eq!(plain(&alternative(vec![uri("spiffe://example.org/ci")])).as_deref(), Ok("spiffe://example.org/ci"));
    let other = alternative(vec![uri("https://build.example.org/agent"), dns("localhost")]);
    assert_eq!(plain(&other).as_deref(), Ok("https://build.example.org/agent"));
}

#[test]
fn without_a_uri_it_is_the_digest() {
    let der = alternative(vec![dns("localhost")]);
    let expected: String = Sha256::digest(&der).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(plain(&der), Ok(format!("x509:sha256:{expected}")));
    let unmatched = naming(vec![rule(NameSource::Email, &[])]);
    assert_eq!(principal(&der, &unmatched), Ok(format!("x509:sha256:{expected}")), "no rule finds a name");
}

#[test]
fn two_uris_are_refused() {
    let found = plain(&alternative(vec![uri("spiffe://a/b"), uri("spiffe://a/c")]));
    assert_eq!(found, Err(IdentityError::Ambiguous { kind: "URI", count: 2 }));
}

#[test]
fn a_uri_cannot_pass_for_what_comes_from_elsewhere() {
    let digest = plain(&alternative(Vec::new())).expect("a principal");
    for text in [
        digest.as_str(),
        "x509:",
        "x509:dns:build.example.org",
        "oidc:https://issuer.example#admin",
        "token:ci",
        "unix:uid:0",
        "group:unix:gid:0",
        "UNIX:uid:0",
        "Spiffe://a",
        "spiffe:",
        "no-scheme",
    ] {
        assert_eq!(plain(&alternative(vec![uri(text)])), Err(IdentityError::Name), "{text}");
    }
}

#[test]
fn a_spiffe_id_is_one_that_a_workload_can_have() {
    for text in ["spiffe://a", "spiffe://a/", "spiffe://a/b/../c", "spiffe://a:1/b", "spiffe://A/b", "spiffe://a/b%2f"]
    {
        assert_eq!(plain(&alternative(vec![uri(text)])), Err(IdentityError::SpiffeId), "{text}");
    }
}

#[test]
fn an_authority_gives_names_of_its_trust_domains_only() {
    let own = Naming {
        trust_domains: Some(vec!["example.org".to_owned()]),
        rules: vec![rule(NameSource::Uri, &["https://build.example.org/"])],
        groups: Vec::new(),
    };
    for text in ["spiffe://example.org/ci", "https://build.example.org/agent"] {
        assert_eq!(principal(&alternative(vec![uri(text)]), &own).as_deref(), Ok(text));
    }
    for text in [
        "spiffe://example.com/ci",
        "spiffe://example.org.evil/ci",
        "spiffe://sub.example.org/ci",
        "https://build.example.org.evil/agent",
        "urn:uuid:1",
    ] {
        assert_eq!(principal(&alternative(vec![uri(text)]), &own), Err(IdentityError::NotItsName), "{text}");
    }
}

#[test]
fn rules_are_tried_in_their_order_and_the_first_that_finds_a_name_decides() {
    let both = naming(vec![rule(NameSource::Email, &[]), rule(NameSource::Dns, &["example.org"])]);
    let der = alternative(vec![dns("Build.Example.ORG"), mail("Ann@Example.ORG")]);
    assert_eq!(principal(&der, &both).as_deref(), Ok("x509:email:Ann@example.org"));
    let der = alternative(vec![dns("Build.Example.ORG"), dns("localhost")]);
    assert_eq!(principal(&der, &both).as_deref(), Ok("x509:dns:build.example.org"), "the other is not within");
    let der = alternative(vec![dns("build.example.org"), uri("spiffe://example.org/ci")]);
    assert_eq!(principal(&der, &both).as_deref(), Ok("spiffe://example.org/ci"), "a URI comes first");
}

#[test]
fn several_names_that_a_rule_takes_are_refused() {
    let by_dns = naming(vec![rule(NameSource::Dns, &[])]);
    let der = alternative(vec![dns("a.example.org"), dns("b.example.org")]);
    assert_eq!(principal(&der, &by_dns), Err(IdentityError::Ambiguous { kind: "DNS", count: 2 }));
    let same = alternative(vec![dns("a.example.org"), dns("A.example.org")]);
    assert_eq!(principal(&same, &by_dns).as_deref(), Ok("x509:dns:a.example.org"));
}

#[test]
fn names_that_can_be_read_in_two_ways_are_refused_with_their_certificate() {
    let by_dns = naming(vec![rule(NameSource::Dns, &["example.org"])]);
    for text in ["*.example.org", "build.example.org.", "build.example.org\0.evil.example", "10.0.0.1", "", " "] {
        let der = alternative(vec![dns(text), dns("build.example.org")]);
        assert_eq!(principal(&der, &by_dns), Err(IdentityError::Odd("DNS")), "{text:?}");
    }
    let by_mail = naming(vec![rule(NameSource::Email, &[])]);
    for text in ["ann@example.org\0", "\"ann\"@example.org", "ann@example.org.", "a@b@example.org"] {
        assert_eq!(principal(&alternative(vec![mail(text)]), &by_mail), Err(IdentityError::Odd("e-mail")), "{text:?}");
    }
    let by_name = naming(vec![rule(NameSource::CommonName, &[])]);
    for text in ["admin\0", "ad\nmin", "*", ""] {
        let der = subjects(&[(DnType::CommonName, text)]);
        assert_eq!(principal(&der, &by_name), Err(IdentityError::Odd("common")), "{text:?}");
    }
}

#[test]
fn a_mail_domain_is_that_domain_and_none_below_it() {
    let by_mail = naming(vec![rule(NameSource::Email, &["example.org"])]);
    let own = alternative(vec![mail("ann@example.org")]);
    assert_eq!(principal(&own, &by_mail).as_deref(), Ok("x509:email:ann@example.org"));
    for text in ["ann@sub.example.org", "ann@evilexample.org"] {
        let found = principal(&alternative(vec![mail(text)]), &by_mail).expect("a digest");
        assert!(found.starts_with("x509:sha256:"), "{found}");
    }
}

#[test]
fn a_common_name_is_percent_encoded_so_that_no_letter_looks_like_another() {
    let by_name = naming(vec![rule(NameSource::CommonName, &[])]);
    // The second has a Cyrillic letter, the third a space of no width.
    for (text, expected) in
        [("Build Agent", "Build%20Agent"), ("\u{430}dmin", "%D0%B0dmin"), ("admin\u{200b}", "admin%E2%80%8B")]
    {
        let der = subjects(&[(DnType::CommonName, text)]);
        assert_eq!(principal(&der, &by_name), Ok(format!("x509:cn:{expected}")));
    }
    let bmp = made(|params| {
        let value = DnValue::BmpString(rcgen::string::BmpString::try_from("admin").expect("text"));
        params.distinguished_name.push(DnType::CommonName, value);
    });
    assert_eq!(principal(&bmp, &by_name), Err(IdentityError::Odd("common")), "text in another alphabet is not read");
}

#[test]
fn units_and_organizations_are_groups_where_that_is_said() {
    let der = subjects(&[
        (DnType::CommonName, "ann"),
        (DnType::OrganizationName, "Example, Inc."),
        (DnType::OrganizationalUnitName, "build/ops"),
    ]);
    let all = Naming { groups: GroupSource::ALL.to_vec(), ..Naming::default() };
    let found: Vec<String> =
        named(&der, &all).expect("is named").groups.iter().map(|group| group.as_str().to_owned()).collect();
    assert_eq!(found, ["group:x509:o:Example%2C%20Inc.", "group:x509:ou:build%2Fops"]);
    assert!(named(&der, &Naming::default()).expect("is named").groups.is_empty());
    let odd = subjects(&[(DnType::OrganizationalUnitName, "build\0")]);
    assert_eq!(named(&odd, &all), Err(IdentityError::Odd("group")));
}

#[test]
fn rubbish_is_refused() {
    assert_eq!(plain(b""), Err(IdentityError::Unreadable));
    assert_eq!(plain(&[0x30; 40]), Err(IdentityError::Unreadable));
    let mut longer = alternative(Vec::new());
    longer.push(0);
    assert_eq!(plain(&longer), Err(IdentityError::Unreadable));
}
