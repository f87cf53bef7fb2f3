//! Whole tokens against whole issuers: what is believed, every attack that is not, and what stops when a key goes.

use std::{io::Write as _, net::Ipv4Addr, path::Path};

use aws_lc_rs::hmac;
use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

use super::{
    jws::part,
    minted::{Minter, set, unsigned},
    *,
};
use crate::model::{Algorithm, IssuerKeyRow, ManualClock, TokenId, TokenRow, VersionId};

const NOW: Timestamp = Timestamp(1_800_000_000);
const A: &str = "https://a.example";
const B: &str = "https://b.example";
const OWN: &str = "urn:strongroom:test";

fn from(n: u8) -> Origin {
    Origin::Address(Ipv4Addr::new(10, 0, 0, n).into())
}

/// Two issuers, A and B, whose keys are in files.
struct World {
    folder: TempDir,
    a: Minter,
    b: Minter,
    bearers: Arc<Bearers>,
}

fn publish(folder: &Path, name: &str, minters: &[&Minter]) {
    let mut file = std::fs::File::create(folder.join(name)).expect("a file");
    file.write_all(set(minters).as_bytes()).expect("written");
}

fn trust(folder: &Path, issuer: &str, file: &str) -> Trust {
    let rules = Rules {
        issuer: issuer.to_owned(),
        audiences: vec!["strongroom".to_owned()],
        algorithms: ALGORITHMS.to_vec(),
        subject: ClaimPath::new("sub").expect("a name"),
        groups: ClaimPath::new("groups"),
        required: Vec::new(),
        leeway: Duration::from_secs(30),
        life_max: Duration::from_secs(3600),
    };
    Trust {
        rules,
        keys: KeySource::File(folder.join(file)),
        channel: Channel::default(),
        refresh_every: Duration::from_secs(300),
        kept_max: Duration::from_secs(86_400),
    }
}

impl World {
    async fn new() -> Self {
        Self::with(Minter::rsa("key"), Minter::p256("key")).await
    }

    async fn with(a: Minter, b: Minter) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        publish(folder.path(), "a", &[&a]);
        publish(folder.path(), "b", &[&b]);
        let trusts = vec![trust(folder.path(), A, "a"), trust(folder.path(), B, "b")];
        let clock = Arc::new(ManualClock::at(NOW));
        let bearers = Arc::new(Bearers::new(trusts, Arc::new(Issued::new(OWN)), clock));
        for issuer in bearers.issuers.values() {
            issuer.refresh(Duration::ZERO).await;
        }
        Self { folder, a, b, bearers }
    }

    async fn look(&self, token: &str) -> Result<String, BearerError> {
        self.bearers.identify(token, from(1)).await.map(|identity| identity.principal().to_string())
    }
}

fn claims(issuer: &str) -> Value {
    json!({ "iss": issuer, "aud": "strongroom", "sub": "ci", "iat": NOW.0, "exp": NOW.0 + 600, "groups": ["dev"] })
}

fn but(issuer: &str, name: &str, value: Value) -> Value {
    let mut claims = claims(issuer);
    claims[name] = value;
    claims
}

#[tokio::test]
async fn each_kind_of_key_and_algorithm_is_believed() {
    for (first, second) in [(Minter::rsa("k"), Minter::p256("k")), (Minter::ed25519("k"), Minter::rsa("x"))] {
        let world = World::with(first, second).await;
        for (issuer, minter) in [(A, &world.a), (B, &world.b)] {
            for algorithm in minter.takes() {
                let header = json!({ "alg": algorithm.name(), "kid": minter.kid });
                let found = world.look(&minter.token_with(&header, &claims(issuer))).await;
                assert_eq!(found, Ok(format!("oidc:{issuer}#ci")), "{}", algorithm.name());
            }
        }
    }
}

#[tokio::test]
async fn groups_come_with_the_identity() {
    let world = World::new().await;
    let identity = world.bearers.identify(&world.b.token(&claims(B)), from(1)).await.expect("believed");
    let groups: Vec<&str> = identity.groups().iter().map(crate::model::Principal::as_str).collect();
    assert_eq!(groups, ["group:oidc:https://b.example#dev"]);
}

#[tokio::test]
async fn a_token_without_a_signature_is_refused() {
    let world = World::new().await;
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let signed = unsigned(&json!({ "alg": alg, "kid": "key" }), &claims(A));
        for signature in ["", "AA"] {
            assert_eq!(world.look(&format!("{signed}.{signature}")).await, Err(BearerError::Algorithm), "{alg}");
        }
    }
    let signed = unsigned(&json!({ "alg": "RS256", "kid": "key" }), &claims(A));
    assert_eq!(world.look(&format!("{signed}.")).await, Err(BearerError::Signature));
}

#[tokio::test]
async fn a_public_key_is_no_hmac_key() {
    let world = World::new().await;
    let (n, _) = world.a.rsa_public();
    let spki = world.a.rsa_spki();
    let pem = pem_of(&spki);
    for key in [n, spki, pem.clone().into_bytes(), pem.trim().as_bytes().to_vec(), set(&[&world.a]).into_bytes()] {
        let signed = unsigned(&json!({ "alg": "HS256", "kid": "key" }), &claims(A));
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), signed.as_bytes());
        assert_eq!(world.look(&format!("{signed}.{}", part(mac.as_ref()))).await, Err(BearerError::Algorithm));
        // The same bytes under a name that is allowed are no signature.
        let signed = unsigned(&json!({ "alg": "RS256", "kid": "key" }), &claims(A));
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), signed.as_bytes());
        assert_eq!(world.look(&format!("{signed}.{}", part(mac.as_ref()))).await, Err(BearerError::Signature));
    }
}

fn pem_of(spki: &[u8]) -> String {
    use spki::der::{Decode as _, EncodePem as _, pem::LineEnding};
    let info = spki::SubjectPublicKeyInfoOwned::from_der(spki).expect("DER");
    info.to_pem(LineEnding::LF).expect("PEM")
}

#[tokio::test]
async fn an_algorithm_that_is_not_the_keys_is_refused() {
    let world = World::new().await;
    let header = json!({ "alg": "ES256", "kid": "key" });
    assert_eq!(world.look(&world.a.token_with(&header, &claims(A))).await, Err(BearerError::Algorithm));
    let header = json!({ "alg": "RS256", "kid": "key" });
    assert_eq!(world.look(&world.b.token_with(&header, &claims(B))).await, Err(BearerError::Algorithm));
    // RSA with another padding than it says.
    let signed = unsigned(&json!({ "alg": "PS256", "kid": "key" }), &claims(A));
    let signature = world.a.sign(Algorithm::Rs256, signed.as_bytes());
    assert_eq!(world.look(&format!("{signed}.{}", part(&signature))).await, Err(BearerError::Signature));
}

#[tokio::test]
async fn algorithms_are_pinned_for_each_issuer() {
    let folder = tempfile::tempdir().expect("a folder");
    let minter = Minter::rsa("key");
    publish(folder.path(), "a", &[&minter]);
    let mut trust = trust(folder.path(), A, "a");
    trust.rules.algorithms = vec![Algorithm::Ps256];
    let clock = Arc::new(ManualClock::at(NOW));
    let bearers = Bearers::new(vec![trust], Arc::new(Issued::new(OWN)), clock);
    let token = |alg: &str| minter.token_with(&json!({ "alg": alg, "kid": "key" }), &claims(A));
    assert_eq!(bearers.identify(&token("RS256"), from(1)).await.err(), Some(BearerError::Algorithm));
    assert!(bearers.identify(&token("PS256"), from(1)).await.is_ok());
}

#[tokio::test]
async fn an_issuer_speaks_for_itself_only() {
    let world = World::new().await;
    // A's key signs what B is said to say, B's key what A is said to say: both under the name of the other's key.
    assert_eq!(world.look(&world.a.token(&claims(B))).await, Err(BearerError::Algorithm));
    assert_eq!(world.look(&world.b.token(&claims(A))).await, Err(BearerError::Algorithm));
    let world = World::with(Minter::p256("key"), Minter::p256("key")).await;
    assert_eq!(world.look(&world.a.token(&claims(B))).await, Err(BearerError::Signature));
    // B's subject in A's token is A's.
    let found = world.look(&world.a.token(&but(A, "sub", "oidc:https://b.example#ci".into()))).await.expect("believed");
    assert_eq!(found, "oidc:https://a.example#oidc:https://b.example%23ci");
    for issuer in ["https://c.example", "", "https://a.example/", "https://a.example#"] {
        assert_eq!(world.look(&world.a.token(&claims(issuer))).await, Err(BearerError::Issuer), "{issuer}");
    }
}

#[tokio::test]
async fn what_is_not_for_us_or_not_now_is_refused() {
    let world = World::new().await;
    for (name, value, expected) in [
        ("aud", json!("other"), BearerError::Audience),
        ("exp", json!(NOW.0 - 31), BearerError::Expired),
        ("nbf", json!(NOW.0 + 31), BearerError::NotYetValid),
        ("exp", json!(NOW.0 + 7200), BearerError::Life { max_s: 3600 }),
        ("sub", json!(""), BearerError::Subject),
    ] {
        assert_eq!(world.look(&world.b.token(&but(B, name, value))).await, Err(expected), "{name}");
    }
}

#[tokio::test]
async fn the_name_of_a_key_is_a_name_and_nothing_else() {
    let world = World::new().await;
    for kid in ["../../../../dev/null", "' OR 1=1 --", "https://evil.example/keys", "\u{0}", "KEY", "key ", ""] {
        let header = json!({ "alg": "ES256", "kid": kid });
        assert_eq!(world.look(&world.b.token_with(&header, &claims(B))).await, Err(BearerError::UnknownKey), "{kid}");
    }
    // A token that brings a key along is held against the issuer's all the same.
    let other = Minter::p256("key");
    let header = json!({ "alg": "ES256", "kid": "key", "jwk": other.jwk(), "jku": "https://evil.example/keys" });
    assert_eq!(world.look(&other.token_with(&header, &claims(B))).await, Err(BearerError::Signature));
}

#[tokio::test]
async fn a_token_is_not_too_long() {
    let world = World::new().await;
    let padded = |n: usize| world.b.token(&but(B, "padding", "x".repeat(n).into()));
    let overhead = padded(0).len();
    // Three bytes are four characters.
    let fits = padded((TOKEN_BYTES_MAX - overhead) / 4 * 3 - 3);
    assert!(fits.len() <= TOKEN_BYTES_MAX && world.look(&fits).await.is_ok());
    let long = padded((TOKEN_BYTES_MAX - overhead) / 4 * 3 + 9);
    assert!(long.len() > TOKEN_BYTES_MAX);
    assert_eq!(world.look(&long).await, Err(BearerError::TOO_LONG));
}

#[tokio::test]
async fn a_changed_token_is_another_token() {
    let world = World::new().await;
    let token = world.b.token(&claims(B));
    assert!(world.look(&token).await.is_ok());
    let (signed, signature) = token.rsplit_once('.').expect("parts");
    let mut bytes = base64ct::Base64UrlUnpadded::decode_vec(signature).expect("base64url");
    bytes[5] ^= 1;
    assert_eq!(world.look(&format!("{signed}.{}", part(&bytes))).await, Err(BearerError::Signature));
    assert!(world.look(&token).await.is_ok());
}

use base64ct::Encoding as _;

#[tokio::test]
async fn a_token_is_checked_once() {
    let world = World::new().await;
    let token = world.b.token(&claims(B));
    let first = world.bearers.identify(&token, from(1)).await.expect("believed");
    let second = world.bearers.identify(&token, from(2)).await.expect("believed");
    assert!(Arc::ptr_eq(&first, &second));
}

#[tokio::test]
async fn when_a_key_is_taken_back_what_it_signed_ends() {
    let world = World::new().await;
    let token = world.b.token(&claims(B));
    let identity = world.bearers.identify(&token, from(1)).await.expect("believed");
    let next = Minter::p256("next");
    publish(world.folder.path(), "b", &[&world.b, &next]);
    world.bearers.issuers[B].refresh(Duration::ZERO).await;
    assert!(identity.holds(), "a key that is still there");
    publish(world.folder.path(), "b", &[&next]);
    world.bearers.issuers[B].refresh(Duration::ZERO).await;
    assert!(!identity.holds());
    assert_eq!(world.look(&token).await, Err(BearerError::UnknownKey));
    assert!(world.look(&next.token(&claims(B))).await.is_ok());
}

#[tokio::test]
async fn keys_that_cannot_be_fetched_are_kept() {
    let world = World::new().await;
    std::fs::write(world.folder.path().join("b"), "nonsense").expect("written");
    world.bearers.issuers[B].refresh(Duration::ZERO).await;
    assert!(world.look(&world.b.token(&claims(B))).await.is_ok());
}

#[tokio::test]
async fn an_unknown_key_has_the_issuer_asked_once_in_a_while() {
    let world = World::new().await;
    let issuer = &world.bearers.issuers[B];
    let next = Minter::p256("next");
    publish(world.folder.path(), "b", &[&world.b, &next]);
    // Just asked: not asked again.
    assert_eq!(world.look(&next.token(&claims(B))).await, Err(BearerError::UnknownKey));
    issuer.refresh(Duration::ZERO).await;
    assert!(world.look(&next.token(&claims(B))).await.is_ok());
}

#[tokio::test]
async fn without_keys_a_caller_is_told_to_come_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let minter = Minter::p256("key");
    let clock = Arc::new(ManualClock::at(NOW));
    let bearers = Bearers::new(vec![trust(folder.path(), A, "a")], Arc::new(Issued::new(OWN)), clock);
    let error = bearers.identify(&minter.token(&claims(A)), from(1)).await.expect_err("no keys");
    assert_eq!(error, BearerError::IssuerUnavailable);
    assert!(error.may_pass() && error.is_ours());
}

#[tokio::test]
async fn ten_thousand_wrong_tokens_leave_room_for_others_and_nothing_grows() {
    let world = World::new().await;
    let good = world.b.token(&claims(B));
    assert!(world.look(&good).await.is_ok());
    let other = Minter::p256("key");
    let signed = unsigned(&json!({ "alg": "ES256", "kid": "key" }), &claims(B));
    let signature = other.sign(Algorithm::Es256, signed.as_bytes());
    let mut crowded = 0;
    for n in 0_u32..10_000 {
        let mut signature = signature.clone();
        signature[..4].copy_from_slice(&n.to_be_bytes());
        let token = format!("{signed}.{}", part(&signature));
        match world.bearers.identify(&token, from(9)).await.expect_err("wrong") {
            BearerError::Signature => {}
            BearerError::Crowded => crowded += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(crowded > 5000, "most were not even looked at: {crowded}");
    // Known tokens from anywhere, and new ones from elsewhere, are served.
    assert!(world.bearers.identify(&good, from(9)).await.is_ok());
    assert!(world.look(&world.b.token(&but(B, "sub", "new".into()))).await.is_ok());
    assert!(world.bearers.refused.len() <= REFUSED_MAX && world.bearers.believed.len() <= BELIEVED_MAX);
}

#[tokio::test]
async fn more_tokens_than_are_remembered_are_all_believed_and_nothing_grows() {
    let world = World::new().await;
    let named = |n: usize| world.b.token(&but(B, "sub", n.to_string().into()));
    for n in 0..BELIEVED_MAX + 1000 {
        assert_eq!(world.look(&named(n)).await, Ok(format!("oidc:{B}#{n}")));
    }
    assert!(world.bearers.believed.len() <= BELIEVED_MAX && world.bearers.refused.is_empty());
    assert!(world.look(&named(0)).await.is_ok(), "one that was forgotten is looked at again");
}

fn issued_row(n: u8) -> TokenRow {
    TokenRow {
        id: TokenId::from_bytes([n; 16]),
        name: "ci".parse().expect("a name"),
        creator: "spiffe://a/b".parse().expect("a principal"),
        created: NOW,
        expires: Timestamp(NOW.0 + 600),
        intent: 1,
        revision: 1,
    }
}

/// A token that is issued here, signed with a key that is in no HSM.
fn issue(bearers: &Bearers, minter: &Minter, row: &TokenRow) -> String {
    let point = minter.jwk();
    let coordinate =
        |name: &str| base64ct::Base64UrlUnpadded::decode_vec(point[name].as_str().expect("text")).expect("b64");
    let bits = [vec![4], coordinate("x"), coordinate("y")].concat();
    let key = VersionId::from_bytes([3; 16]);
    bearers.issued().set_keys(&[IssuerKeyRow {
        kek: None,
        id: key,
        created: NOW,
        public: p256_spki(&bits),
        blob: vec![1],
        revision: 1,
    }]);
    let unsigned = bearers.issued().unsigned(key, row);
    let signature = minter.sign(Algorithm::Es256, unsigned.as_bytes());
    Issued::signed(&unsigned, &signature).to_string()
}

fn p256_spki(point: &[u8]) -> Vec<u8> {
    use spki::der::Encode as _;
    let curve = const_oid::ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
    let oid = const_oid::ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
    let algorithm = spki::AlgorithmIdentifierOwned { oid, parameters: Some(curve.into()) };
    let subject_public_key = der::asn1::BitString::from_bytes(point).expect("bits");
    spki::SubjectPublicKeyInfoOwned { algorithm, subject_public_key }.to_der().expect("DER")
}

#[tokio::test]
async fn a_token_of_our_own_is_believed_while_its_row_is_there() {
    let world = World::new().await;
    let minter = Minter::p256("unused");
    let row = issued_row(1);
    let token = issue(&world.bearers, &minter, &row);
    assert_eq!(world.look(&token).await, Err(BearerError::Revoked), "no row");
    world.bearers.refused.clear();
    world.bearers.issued().put(&row);
    let identity = world.bearers.identify(&token, from(1)).await.expect("believed");
    assert_eq!((identity.principal().as_str(), identity.groups().len()), ("token:ci", 0));
    world.bearers.issued().end(row.id);
    assert!(!identity.holds());
    assert_eq!(world.look(&token).await, Err(BearerError::Revoked));
    assert!(world.bearers.issued().is_empty());
}

#[tokio::test]
async fn nobody_else_issues_tokens_of_our_own() {
    let world = World::new().await;
    let (minter, row) = (Minter::p256("unused"), issued_row(1));
    world.bearers.issued().put(&row);
    let token = issue(&world.bearers, &minter, &row);
    assert!(world.look(&token).await.is_ok());
    // Another issuer's key, under the name of ours.
    let kid = VersionId::from_bytes([3; 16]).to_string();
    let own = json!({ "iss": OWN, "aud": OWN, "sub": "token:ci", "iat": NOW.0, "exp": NOW.0 + 60, "jti": row.id.to_string() });
    let header = json!({ "alg": "ES256", "kid": kid });
    assert_eq!(world.look(&world.b.token_with(&header, &own)).await, Err(BearerError::Signature));
    // Our key, for somebody else's token, or one that is for others.
    let mut other = own.clone();
    other["sub"] = "token:admin".into();
    assert_eq!(world.look(&minter.token_with(&header, &other)).await, Err(BearerError::Subject));
    let mut other = own;
    other["aud"] = "elsewhere".into();
    assert_eq!(world.look(&minter.token_with(&header, &other)).await, Err(BearerError::Audience));
}

#[test]
fn what_is_published_of_our_own_is_public_only() {
    let issued = Issued::new("https://keys.example/");
    let minter = Minter::p256("unused");
    let bearers = Bearers::new(Vec::new(), Arc::new(issued), Arc::new(ManualClock::at(NOW)));
    issue(&bearers, &minter, &issued_row(1));
    let set: Value = serde_json::from_str(&bearers.issued().key_set()).expect("JSON");
    let names: Vec<&String> = set["keys"][0].as_object().expect("a key").keys().collect();
    assert_eq!(names, ["alg", "crv", "kid", "kty", "use", "x", "y"]);
    let document: Value = serde_json::from_str(&bearers.issued().discovery().expect("a URL")).expect("JSON");
    assert_eq!(
        (&document["issuer"], &document["jwks_uri"]),
        (&json!("https://keys.example/"), &json!("https://keys.example/.well-known/jwks.json"))
    );
    assert_eq!(Issued::new(OWN).discovery(), None);
}

proptest! {
    #[test]
    fn no_text_panics_or_is_believed(token in "[A-Za-z0-9_.-]{0,200}") {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let bearers = Bearers::new(Vec::new(), Arc::new(Issued::new(OWN)), Arc::new(ManualClock::at(NOW)));
        prop_assert!(runtime.block_on(bearers.identify(&token, from(1))).is_err());
    }
}
