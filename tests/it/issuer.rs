//! Issuers of tokens, for tests: over real HTTPS, with keys that OpenSSL makes and signs with.

use std::{
    fs,
    io::Write as _,
    net::TcpListener,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use base64ct::{Base64UrlUnpadded, Encoding as _};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _};
use serde_json::{Value, json};
use strongroom::model::{Clock as _, SystemClock};
use tempfile::TempDir;

/// What an issuer answers, by path.
type Pages = Arc<Mutex<Vec<(String, String)>>>;

/// An issuer over HTTPS.
pub(crate) struct Issuer {
    folder: TempDir,
    pub(crate) url: String,
    pages: Pages,
    /// How many connections there were.
    pub(crate) asked: Arc<AtomicUsize>,
}

impl Issuer {
    pub(crate) fn new() -> Self {
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

    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Answers with that body, or, when it begins with `HTTP`, with exactly that.
    pub(crate) fn put(&self, path: &str, body: impl Into<String>) {
        let mut pages = self.pages.lock().expect("sound");
        pages.retain(|(known, _)| known != path);
        pages.push((path.to_owned(), body.into()));
    }

    pub(crate) fn publish(&self, keys: &[&Key]) {
        let document = json!({ "issuer": self.url, "jwks_uri": format!("{}/keys", self.url) });
        self.put("/.well-known/openid-configuration", document.to_string());
        let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
        self.put("/keys", json!({ "keys": keys }).to_string());
    }

    pub(crate) fn claims(&self) -> Value {
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
pub(crate) struct Key {
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
    pub(crate) fn new(kid: &str) -> Self {
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

    pub(crate) fn jwk(&self) -> Value {
        self.jwk.clone()
    }

    /// The public half (PEM).
    pub(crate) fn public_pem(&self) -> Vec<u8> {
        openssl(&["pkey", "-in", &self.file(), "-pubout"], b"")
    }

    /// A token that OpenSSL signs.
    pub(crate) fn token(&self, algorithm: &str, claims: &Value) -> String {
        self.token_with(&json!({ "alg": algorithm, "kid": self.kid, "typ": "JWT" }), claims)
    }

    /// The same, with a header of one's own; `alg` is what it is signed by.
    pub(crate) fn token_with(&self, header: &Value, claims: &Value) -> String {
        let algorithm = header["alg"].as_str().expect("an algorithm");
        let (signed, path) = (unsigned(header, claims), self.file());
        let digest = format!("-sha{}", &algorithm[2..]);
        let mut arguments = vec!["dgst", &digest, "-sign", &path];
        if algorithm.starts_with("PS") {
            arguments.extend(["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"]);
        }
        format!("{signed}.{}", part(&openssl(&arguments, signed.as_bytes())))
    }

    fn file(&self) -> String {
        self.folder.path().join("key.pem").display().to_string()
    }
}

/// A token but for its signature.
pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    format!("{}.{}", part(header.to_string().as_bytes()), part(claims.to_string().as_bytes()))
}

pub(crate) fn part(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}
