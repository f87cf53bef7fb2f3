//! Bearer tokens from end to end: an issuer of the test's own over real HTTPS, whose keys OpenSSL made and signs
//! with; tokens that the service issues; and what stops when one is revoked or its key goes.

use std::{
    fs,
    io::Write as _,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64ct::{Base64UrlUnpadded, Encoding as _};
use p256::ecdsa::signature::Verifier as _;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _};
use serde_json::{Value, json};
use strongroom::{
    bearer::{ALGORITHMS, BearerError, Bearers, Channel, ClaimPath, Issued, KeySource, Rules, Trust},
    model::{Clock as _, Identity, Origin, SystemClock},
};
use strongroom_client::{Algorithm, Code, Input, Settings};
use tempfile::TempDir;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::dev::{Dev, PROGRAM, Start, text};

/// What an issuer answers, by path.
type Pages = Arc<Mutex<Vec<(String, String)>>>;

/// An issuer over HTTPS.
struct Issuer {
    folder: TempDir,
    url: String,
    pages: Pages,
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        fs::write(folder.path().join("ca.pem"), made.cert.pem()).expect("written");
        let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).expect("a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
        let tls = tls.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).expect("TLS");
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let url = format!("https://localhost:{}", listener.local_addr().expect("an address").port());
        let (pages, asked) = (Pages::default(), Arc::new(AtomicUsize::new(0)));
        let (serving, counting) = (Arc::clone(&pages), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let session = ServerConnection::new(Arc::new(tls.clone())).expect("a session");
                let mut stream = StreamOwned::new(session, stream.expect("a connection"));
                counting.fetch_add(1, Ordering::SeqCst);
                let _ = answer(&mut stream, &serving);
            }
        });
        Self { folder, url, pages, asked }
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Answers with that body, or, when it begins with `HTTP`, with exactly that.
    fn put(&self, path: &str, body: impl Into<String>) {
        let mut pages = self.pages.lock().expect("sound");
        pages.retain(|(known, _)| known != path);
        pages.push((path.to_owned(), body.into()));
    }

    fn publish(&self, keys: &[&Key]) {
        let document = json!({ "issuer": self.url, "jwks_uri": format!("{}/keys", self.url) });
        self.put("/.well-known/openid-configuration", document.to_string());
        let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
        self.put("/keys", json!({ "keys": keys }).to_string());
    }

    fn trust(&self) -> Trust {
        Trust {
            rules: Rules {
                issuer: self.url.clone(),
                audiences: vec!["strongroom".to_owned()],
                algorithms: ALGORITHMS.to_vec(),
                subject: ClaimPath::new("sub").expect("a name"),
                groups: None,
                required: Vec::new(),
                leeway: Duration::from_secs(30),
                life_max: Duration::from_secs(3600),
            },
            keys: KeySource::Discovered,
            channel: Channel { ca: Some(self.ca()), ..Channel::default() },
            refresh_every: Duration::from_secs(300),
            kept_max: Duration::from_secs(86_400),
        }
    }

    fn claims(&self) -> Value {
        let now = SystemClock.now().0;
        json!({ "iss": self.url, "aud": "strongroom", "sub": "ci", "iat": now, "exp": now + 600 })
    }
}

fn answer(stream: &mut (impl std::io::Read + std::io::Write), pages: &Pages) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut byte = [0; 1];
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte)? == 1 {
        request.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&request).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default();
    let pages = pages.lock().expect("sound").clone();
    let found = pages.into_iter().find(|(known, _)| known == path).map(|(_, body)| body);
    let text = match found {
        Some(whole) if whole.starts_with("HTTP") => whole,
        Some(body) => format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()),
        None => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(),
    };
    stream.write_all(text.as_bytes())?;
    stream.flush()
}

/// An RSA key that OpenSSL made.
struct Key {
    folder: TempDir,
    kid: String,
    jwk: Value,
}

fn openssl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl");
    child.stdin.take().expect("a pipe").write_all(input).expect("written");
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success(), "openssl {arguments:?}");
    output.stdout
}

impl Key {
    fn new(kid: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key.pem").display().to_string();
        openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", &path], b"");
        let modulus = String::from_utf8(openssl(&["rsa", "-in", &path, "-noout", "-modulus"], b"")).expect("text");
        let digits = modulus.trim().trim_start_matches("Modulus=").as_bytes().to_vec();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex");
        let n: Vec<u8> = digits.chunks(2).map(byte).collect();
        let jwk = json!({ "kty": "RSA", "use": "sig", "kid": kid, "n": part(&n), "e": "AQAB" });
        Self { folder, kid: kid.to_owned(), jwk }
    }

    fn jwk(&self) -> Value {
        self.jwk.clone()
    }

    /// A token that OpenSSL signs.
    fn token(&self, algorithm: &str, claims: &Value) -> String {
        let header = json!({ "alg": algorithm, "kid": self.kid, "typ": "JWT" });
        let signed = format!("{}.{}", part(header.to_string().as_bytes()), part(claims.to_string().as_bytes()));
        let path = self.folder.path().join("key.pem").display().to_string();
        let digest = format!("-sha{}", &algorithm[2..]);
        let mut arguments = vec!["dgst", &digest, "-sign", &path];
        if algorithm.starts_with("PS") {
            arguments.extend(["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"]);
        }
        format!("{signed}.{}", part(&openssl(&arguments, signed.as_bytes())))
    }
}

fn part(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
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
    let bearers = bearers(issuer.trust());
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
    let trust = Trust { refresh_every: Duration::from_millis(300), ..issuer.trust() };
    let bearers = bearers(trust);
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
    let bearers = bearers(Trust { refresh_every, kept_max, ..issuer.trust() });
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
    let bearers = bearers(issuer.trust());
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
        let error = look(&bearers(issuer.trust()), &key.token("RS256", &issuer.claims())).await.expect_err("no keys");
        assert_eq!(error, BearerError::IssuerUnavailable, "{}", wrong.chars().take(80).collect::<String>());
    }
    // A certificate of another authority.
    issuer.publish(&[&key]);
    let mut trust = issuer.trust();
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
    let records = fs::read_dir(dev.data().join("audit")).expect("a folder").map(|entry| entry.expect("one").path());
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
        let files = fs::read_dir(dev.data().join("audit")).expect("a folder").map(|entry| entry.expect("one").path());
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
