//! Bearer tokens from end to end: an issuer of the test's own over real HTTPS, whose keys OpenSSL made and signs
//! with; tokens that the service issues; and what stops when one is revoked or its key goes.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Output},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use base64ct::{Base64UrlUnpadded, Encoding as _};
use p256::ecdsa::signature::Verifier as _;
use serde_json::{Value, json};
use strongroom::{
    bearer::{ALGORITHMS, BearerError, Bearers, Channel, ClaimPath, Issued, KeySource, Rules, Trust},
    model::{Identity, Origin, SystemClock},
};
use strongroom_client::{Algorithm, Code, Input, Settings};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    dev::{Dev, PROGRAM, Start, text},
    issuer::{Issuer, Key, part},
};

fn trust(issuer: &Issuer) -> Trust {
    Trust {
        rules: Rules {
            issuer: issuer.url.clone(),
            audiences: vec!["strongroom".to_owned()],
            algorithms: ALGORITHMS.to_vec(),
            subject: ClaimPath::new("sub").expect("a name"),
            groups: None,
            required: Vec::new(),
            leeway: Duration::from_secs(30),
            life_max: Duration::from_secs(3600),
        },
        keys: KeySource::Discovered,
        channel: Channel { ca: Some(issuer.ca()), ..Channel::default() },
        refresh_every: Duration::from_secs(300),
        kept_max: Duration::from_secs(86_400),
    }
}

fn bearers(trust: Trust) -> Arc<Bearers> {
    Arc::new(Bearers::new(vec![trust], Arc::new(Issued::new("urn:test")), Arc::new(SystemClock)))
}

async fn look(bearers: &Arc<Bearers>, token: &str) -> Result<Arc<Identity>, BearerError> {
    bearers.identify(token, Origin::Local).await
}

#[tokio::test]
async fn what_openssl_signs_is_believed() {
    let (issuer, key) = (Issuer::new(), Key::new("one"));
    issuer.publish(&[&key]);
    let bearers = bearers(trust(&issuer));
    for algorithm in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] {
        let identity = look(&bearers, &key.token(algorithm, &issuer.claims())).await.expect(algorithm);
        assert_eq!(identity.principal().as_str(), format!("oidc:{}#ci", issuer.url));
    }
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 2, "a discovery document and a key set, once");
}

#[tokio::test]
async fn keys_rotate_and_a_key_that_goes_ends_what_it_signed() {
    let (issuer, first, second) = (Issuer::new(), Key::new("one"), Key::new("two"));
    issuer.publish(&[&first]);
    let bearers = bearers(Trust { refresh_every: Duration::from_millis(300), ..trust(&issuer) });
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    bearers.tend(&tasks, &stop);
    let identity = look(&bearers, &first.token("RS256", &issuer.claims())).await.expect("believed");
    issuer.publish(&[&first, &second]);
    let token = second.token("RS256", &issuer.claims());
    let believed = async {
        while bearers.identify(&token, Origin::Local).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), believed).await.expect("the new key is known soon");
    assert!(identity.holds(), "its key is still there");
    issuer.publish(&[&second]);
    let ended = async {
        while identity.holds() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ended).await.expect("a key that goes ends what it signed");
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}

#[tokio::test]
async fn an_issuer_that_is_down_is_believed_for_a_while_and_then_not() {
    let (issuer, key) = (Issuer::new(), Key::new("one"));
    issuer.publish(&[&key]);
    let (refresh_every, kept_max) = (Duration::from_millis(200), Duration::from_secs(2));
    let bearers = bearers(Trust { refresh_every, kept_max, ..trust(&issuer) });
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    bearers.tend(&tasks, &stop);
    let identity = look(&bearers, &key.token("RS256", &issuer.claims())).await.expect("believed");
    issuer.put("/keys", "HTTP/1.1 503 Unavailable\r\ncontent-length: 0\r\n\r\n");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut other = issuer.claims();
    other["sub"] = "other".into();
    look(&bearers, &key.token("RS256", &other)).await.expect("its keys are kept");
    let ended = async {
        while identity.holds() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ended).await.expect("they are kept only so long");
    let error = look(&bearers, &key.token("RS256", &other)).await.expect_err("no keys");
    assert_eq!(error, BearerError::IssuerUnavailable);
    stop.cancel();
}

#[tokio::test]
async fn ten_thousand_names_of_keys_ask_the_issuer_once() {
    let (issuer, key) = (Issuer::new(), Key::new("one"));
    issuer.publish(&[&key]);
    let bearers = bearers(trust(&issuer));
    look(&bearers, &key.token("RS256", &issuer.claims())).await.expect("believed");
    let asked = issuer.asked.load(Ordering::SeqCst);
    let claims = part(issuer.claims().to_string().as_bytes());
    for n in 0..10_000 {
        let header = part(json!({ "alg": "RS256", "kid": format!("k{n}") }).to_string().as_bytes());
        let error = look(&bearers, &format!("{header}.{claims}.AA")).await.expect_err("unknown");
        assert!(matches!(error, BearerError::UnknownKey | BearerError::Crowded), "{error:?}");
    }
    assert!(issuer.asked.load(Ordering::SeqCst) <= asked + 2, "at most one more fetch");
}

#[tokio::test]
async fn documents_that_are_not_the_issuers_are_not_believed() {
    let (issuer, key) = (Issuer::new(), Key::new("one"));
    let discovery = "/.well-known/openid-configuration";
    let redirect = format!("HTTP/1.1 302 Found\r\nlocation: {}/keys\r\ncontent-length: 0\r\n\r\n", issuer.url);
    let other = json!({ "issuer": "https://other.example", "jwks_uri": format!("{}/keys", issuer.url) });
    let plain = json!({ "issuer": issuer.url, "jwks_uri": "http://127.0.0.1:1/keys" });
    let long = format!("{{\"x\":\"{}\"}}", "x".repeat(300 * 1024));
    for wrong in [redirect, other.to_string(), plain.to_string(), long, "{}".to_owned(), "nonsense".to_owned()] {
        issuer.publish(&[&key]);
        issuer.put(discovery, wrong.clone());
        let error = look(&bearers(trust(&issuer)), &key.token("RS256", &issuer.claims())).await.expect_err("no keys");
        assert_eq!(error, BearerError::IssuerUnavailable, "{}", wrong.chars().take(80).collect::<String>());
    }
    // A certificate of another authority.
    issuer.publish(&[&key]);
    let mut trust = trust(&issuer);
    trust.channel.ca = Some(Issuer::new().ca());
    let error = look(&bearers(trust), &key.token("RS256", &issuer.claims())).await.expect_err("no keys");
    assert_eq!(error, BearerError::IssuerUnavailable);
}

fn sign_arguments<'a>(input: &'a str, out: &'a str, token: &'a str) -> Vec<&'a str> {
    let sign = ["key", "sign", "k", "--algorithm", "ES256", "--in", input, "--out", out];
    [&sign[..], &["--token-file", token]].concat()
}

/// A token file of `token:ci`, which may use keys of the vault, and the id of the token.
fn issue(dev: &Dev) -> (PathBuf, String) {
    let token = dev.path("token");
    let issued = dev.ok(&["token", "create", "ci", "--life", "600", "--out", text(&token), "-o", "json"]);
    let issued: Value = serde_json::from_str(&issued).expect("JSON");
    assert!(issued.get("text").is_none(), "it is in the file");
    let name = issued["token"]["name"].as_str().expect("a name");
    (token, name.trim_start_matches("tokens/").to_owned())
}

/// The command line without a certificate.
fn with_token(dev: &Dev, arguments: &[&str]) -> Output {
    let mut command = dev.command(PROGRAM);
    command.env_remove("STRONGROOM_CERT").env_remove("STRONGROOM_KEY").args(arguments).output().expect("runs")
}

#[test]
fn a_token_of_our_own_is_worth_its_roles_until_it_is_revoked() {
    let mut dev = Dev::new();
    dev.ok(&["key", "create", "k", "--type", "EC"]);
    let (token, id) = issue(&dev);
    assert_eq!(fs::metadata(&token).expect("is there").permissions().mode() & 0o777, 0o600);
    let (input, out) = (dev.file("input", "text"), dev.path("sig"));
    let sign = sign_arguments(text(&input), text(&out), text(&token));
    let refused = String::from_utf8(with_token(&dev, &sign).stderr).expect("text");
    assert!(refused.contains("PERMISSION_DENIED"), "it has none of its creator's rights: {refused}");
    dev.ok(&["access", "grant", "--principal", "token:ci", "--role", "Key Vault Crypto User", "--scope", "vaults/dev"]);
    assert!(with_token(&dev, &sign).status.success());
    // A certificate beside it changes nothing: the token says who asks.
    let refused = dev.fails(&["token", "create", "more", "--token-file", text(&token)]);
    assert!(refused.contains("PERMISSION_DENIED"), "{refused}");
    dev.stop();
    dev.start(Start::default());
    assert!(with_token(&dev, &sign).status.success(), "it outlives a restart");
    let listed: Value = serde_json::from_str(&dev.ok(&["token", "list", "-o", "json"])).expect("JSON");
    assert_eq!((&listed[0]["principal"], listed.as_array().map(Vec::len)), (&json!("token:ci"), Some(1)));
    dev.ok(&["token", "revoke", &id]);
    let refused = String::from_utf8(with_token(&dev, &sign).stderr).expect("text");
    assert!(refused.contains("TOKEN_REVOKED") && refused.contains("strongroom token create"), "{refused}");
    dev.stop();
    dev.start(Start::default());
    let refused = String::from_utf8(with_token(&dev, &sign).stderr).expect("text");
    assert!(refused.contains("TOKEN_REVOKED"), "after a restart too: {refused}");
    assert!(!dev.said().contains("eyJ"), "no token is in the log");
    let records =
        fs::read_dir(dev.data().join("audit/journal")).expect("a folder").map(|entry| entry.expect("one").path());
    let records: String = records.filter_map(|path| fs::read_to_string(path).ok()).collect();
    for operation in ["tokens.create", "tokens.revoke", "tokens.makeKey", "token:ci"] {
        assert!(records.contains(operation), "{operation}");
    }
    assert!(!records.contains("eyJ"), "no token is in a record");
}

#[tokio::test]
async fn a_revoked_token_ends_an_open_stream() {
    let dev = Dev::new();
    dev.ok(&["key", "create", "k", "--type", "EC"]);
    dev.ok(&["access", "grant", "--principal", "token:ci", "--role", "Key Vault Crypto User", "--scope", "vaults/dev"]);
    let (token, id) = issue(&dev);
    let ca = fs::read(dev.variable("STRONGROOM_CA")).expect("reads");
    let settings = Settings::with_token(&dev.variable("STRONGROOM_ENDPOINT"), ca, &token).expect("right");
    let client = settings.connect().await.expect("connects");
    let stream = client.stream().await.expect("opens");
    let sign = async || stream.sign("vaults/dev/keys/k", &Algorithm::ES256, Input::Message(b"text")).await;
    sign().await.expect("signs");
    client.random_bytes(16).await.expect("a cached token");
    dev.ok(&["token", "revoke", &id]);
    let error = sign().await.expect_err("revoked");
    assert_eq!(error.refusal().map(|refusal| refusal.code), Some(Code::Unauthenticated), "{error}");
    let error = client.random_bytes(16).await.expect_err("revoked");
    assert_eq!(error.refusal().map(|refusal| refusal.reason.as_str()), Some("TOKEN_REVOKED"), "{error}");
}

#[tokio::test]
async fn what_others_verify_our_tokens_with_is_there_for_everybody() {
    let dev = Dev::new();
    let (token, _) = issue(&dev);
    let token = fs::read_to_string(&token).expect("reads");
    let curl = |path: &str| {
        let url = format!("{}{path}", dev.variable("STRONGROOM_ENDPOINT"));
        let ca = dev.variable("STRONGROOM_CA");
        let arguments = ["-sS", "--http2-prior-knowledge", "--cacert", &ca, "-w", " %{http_code}", &url];
        let output = Command::new("curl").args(arguments).output().expect("curl");
        String::from_utf8(output.stdout).expect("text")
    };
    let keys = curl("/.well-known/jwks.json");
    let (keys, code) = keys.rsplit_once(' ').expect("a code");
    assert_eq!(code, "200");
    let keys: Value = serde_json::from_str(keys).expect("JSON");
    // RustCrypto verifies what the HSM signed.
    let coordinate =
        |name: &str| Base64UrlUnpadded::decode_vec(keys["keys"][0][name].as_str().expect("text")).expect("base64url");
    let point = [vec![4], coordinate("x"), coordinate("y")].concat();
    let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(&point).expect("a key");
    let (signed, signature) = token.trim().rsplit_once('.').expect("parts");
    let signature = Base64UrlUnpadded::decode_vec(signature).expect("base64url");
    let signature = p256::ecdsa::Signature::from_slice(&signature).expect("a signature");
    key.verify(signed.as_bytes(), &signature).expect("the HSM's signature");
    assert!(curl("/.well-known/openid-configuration").ends_with(" 404"), "its name is no URL here");
}

#[test]
fn wrong_tokens_say_why_and_leave_no_record() {
    let dev = Dev::new();
    let records = || {
        let files =
            fs::read_dir(dev.data().join("audit/journal")).expect("a folder").map(|entry| entry.expect("one").path());
        files.map(|path| fs::metadata(path).map_or(0, |about| about.len())).sum::<u64>()
    };
    let before = records();
    for (token, reason) in [
        ("a.b.c", "TOKEN_MALFORMED"),
        ("eyJhbGciOiJub25lIn0.e30.", "TOKEN_ALGORITHM"),
        ("eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL2EuZXhhbXBsZSJ9.AA", "TOKEN_ISSUER"),
    ] {
        let file = dev.file("wrong", token);
        let said = String::from_utf8(with_token(&dev, &["vault", "list", "--token-file", text(&file)]).stderr);
        let said = said.expect("text");
        assert!(said.contains(reason) && said.contains("UNAUTHENTICATED") && !said.contains(token), "{said}");
    }
    assert_eq!(records(), before, "whoever is nobody cannot fill the disk");
}
