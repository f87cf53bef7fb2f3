//! A development server with its Azure face, and the plainest client there is: one connection for each request, HTTP/1.1, and
//! not a byte that the test has not chosen.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use serde_json::Value;

use crate::dev::{Dev, Start};

/// The newest stable version of the protocol that the tests speak.
pub(super) const VERSION: &str = "api-version=7.6";
/// A host of the vault, in a domain.
pub(super) const HOST: &str = "dev.vault.localhost";
/// A host of another vault.
pub(super) const OTHER: &str = "other.vault.localhost";
/// A host that speaks as a Managed HSM.
pub(super) const HSM: &str = "dev.managedhsm.localhost";

const PATIENCE: Duration = Duration::from_secs(60);

/// The server.
pub(super) struct Face {
    pub(super) dev: Dev,
    pub(super) port: u16,
    pub(super) token: String,
    pub(super) reader: String,
    tls: Arc<ClientConfig>,
}

/// A request.
pub(super) struct Ask<'a> {
    pub(super) method: &'a str,
    pub(super) target: &'a str,
    /// Beside `Host`, `Content-Length` and `Connection`.
    pub(super) headers: Vec<(&'a str, String)>,
    /// As it stands in `Host`; none, where it is empty.
    pub(super) host: String,
    pub(super) body: Vec<u8>,
}

/// An answer.
pub(super) struct Answer {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// A header; the empty text where there is none.
    pub(super) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }

    /// The body, which must be JSON.
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("JSON: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The code of an error, and the inner one.
    pub(super) fn error(&self) -> (String, String) {
        let error = self.json()["error"].clone();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        assert!(!text(&error["message"]).is_empty(), "{error}");
        (text(&error["code"]), text(&error["innererror"]["code"]))
    }

    /// What a request that must succeed has given.
    pub(super) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }

    /// That it was refused so.
    pub(super) fn refused(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.error().0.as_str()), (status, code), "{}", String::from_utf8_lossy(&self.body));
    }
}

impl Face {
    /// A running server.
    pub(super) fn new() -> Self {
        Self::with(&[])
    }

    /// A running server that is told more.
    pub(super) fn with(also: &[&str]) -> Self {
        let also = [&["--azure-listen", "127.0.0.1:0"][..], also].concat();
        let dev = Dev::with(Start { also: &also, ..Start::default() });
        let url = dev.variable("AKV_URL");
        let port = url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        let ca = std::fs::read(dev.variable("AKV_CA")).expect("is there");
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&ca).expect("PEM")).expect("a certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.expect("fits").with_root_certificates(roots).with_no_client_auth();
        let (token, reader) = (dev.variable("AKV_TOKEN"), dev.variable("AKV_TOKEN_READONLY"));
        Self { dev, port, token, reader, tls: Arc::new(config) }
    }

    /// A host with the port.
    pub(super) fn at(&self, host: &str) -> String {
        format!("{host}:{}", self.port)
    }

    /// A request of the owner to the vault.
    pub(super) fn request<'a>(&self, method: &'a str, target: &'a str, body: impl AsRef<[u8]>) -> Ask<'a> {
        let headers = vec![("authorization", format!("Bearer {}", self.token))];
        Ask { method, target, headers, host: self.at("localhost"), body: body.as_ref().to_vec() }
    }

    /// Asks, with JSON or without.
    pub(super) fn ask(&self, method: &str, target: &str, body: impl AsRef<str>) -> Answer {
        self.ask_at(&self.at("localhost"), method, target, body)
    }

    /// The same at another host.
    pub(super) fn ask_at(&self, host: &str, method: &str, target: &str, body: impl AsRef<str>) -> Answer {
        let ask = self.request(method, target, body.as_ref());
        self.send(&Ask { host: host.to_owned(), ..ask })
    }

    /// Makes an EC key that must come to be.
    pub(super) fn key(&self, name: &str) -> Value {
        self.ask("POST", &format!("/keys/{name}/create?{VERSION}"), r#"{"kty":"EC"}"#).ok()
    }

    /// Sends a request as it is.
    pub(super) fn send(&self, ask: &Ask<'_>) -> Answer {
        let mut head = format!("{} {} HTTP/1.1\r\n", ask.method, ask.target);
        if !ask.host.is_empty() {
            head += &format!("host: {}\r\n", ask.host);
        }
        for (name, value) in &ask.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("content-length: {}\r\nconnection: close\r\n\r\n", ask.body.len());
        self.exchange(&[head.as_bytes(), &ask.body].concat(), ask.method == "HEAD")
    }

    /// Sends bytes, and reads one answer.
    pub(super) fn exchange(&self, bytes: &[u8], is_head: bool) -> Answer {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        let stream = TcpStream::connect(address).expect("connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("can be bounded");
        let name = ServerName::try_from("localhost").expect("a name");
        let connection = ClientConnection::new(Arc::clone(&self.tls), name).expect("a client");
        let mut stream = StreamOwned::new(connection, stream);
        // Who is refused early may not have read all of it.
        let _ = stream.write_all(bytes);
        let _ = stream.flush();
        let mut read = Vec::new();
        let mut buffer = [0; 16 * 1024];
        loop {
            if let Some(answer) = parse(&read, is_head) {
                return answer;
            }
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => panic!("no whole answer: {}", String::from_utf8_lossy(&read)),
                Ok(count) => read.extend_from_slice(&buffer[..count]),
            }
        }
    }
}

/// An answer, once it is whole.
fn parse(bytes: &[u8], is_head: bool) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).expect("text");
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().expect("a status");
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned())))
        .collect();
    let length =
        headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length")).map_or("0", |(_, length)| length);
    let length: usize = if is_head { 0 } else { length.parse().expect("a length") };
    let body = bytes.get(end + 4..end + 4 + length)?.to_vec();
    Some(Answer { status, headers, body })
}
