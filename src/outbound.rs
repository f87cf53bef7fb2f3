//! HTTP requests to servers that an operator names: issuers of tokens, receivers of audit records and of events. One request on a
//! connection of its own, bounded in time and length. Redirects are not followed, and no proxy of the environment is
//! asked: who may answer is decided by the configuration alone.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, LazyLock},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use crate::{
    config::files::{self, ReadError},
    model::AddressRange,
};

/// The longest body of an answer, in bytes.
const BYTES_MAX: usize = 256 * 1024;
const USER_AGENT: &str = concat!("strongroom/", env!("CARGO_PKG_VERSION"));

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// Not a URL that may be asked.
    #[error("{0} is neither https:// nor, where that is allowed, http:// on a loopback address")]
    Url(String),
    /// No CA is trusted.
    #[error("no certificate of an authority (PEM) is there to check the server by")]
    NoRoots,
    /// Addresses that are not to be reached.
    #[error("{0} has no address that may be reached: it is not public, and allowed_ranges does not name it")]
    NotPublic(String),
    /// No connection.
    #[error("the server cannot be reached")]
    Connect(#[source] io::Error),
    /// The answer is not HTTP, or broke off.
    #[error("the server's answer cannot be read")]
    Http(#[source] hyper::Error),
    /// A body that is too long, or broke off.
    #[error("the body of the answer broke off, or is longer than 256 KiB")]
    Body,
    /// Too slow.
    #[error("the server did not answer within {} s", .0.as_secs_f64())]
    Late(Duration),
    /// A file that cannot be read.
    #[error(transparent)]
    File(#[from] ReadError),
    /// A token of our own that cannot be sent.
    #[error("the file with the token to send holds no token")]
    OwnToken,
}

/// How a server is reached.
#[derive(Clone, Debug, Default)]
pub struct Channel {
    /// The CA that its certificate comes from (PEM); the system's when absent.
    pub ca: Option<PathBuf>,
    /// Allow `http://` on loopback addresses.
    pub plain_loopback: bool,
    /// A file with a bearer token to send, read anew each time.
    pub token_file: Option<PathBuf>,
    /// Only to addresses of the public internet, and to these; anywhere when absent.
    pub public_and: Option<Vec<AddressRange>>,
}

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, at most 256 KiB; empty where an answer that is no success had none that could be read.
    pub body: Bytes,
}

impl Channel {
    /// Whether such a URL may be asked.
    #[must_use]
    pub fn allows(&self, url: &Uri) -> bool {
        let plain = url.scheme_str() == Some("http") && self.plain_loopback && url.host().is_some_and(is_loopback);
        let clean = url.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        clean && url.host().is_some_and(|host| !host.is_empty()) && (url.scheme_str() == Some("https") || plain)
    }

    /// What asks that URL. The files of authorities are read now: a client that is kept does not see newer ones.
    ///
    /// # Errors
    /// [`ChannelError::Url`], [`ChannelError::NoRoots`], or a file that cannot be read.
    pub fn client(&self, url: &Uri) -> Result<Client, ChannelError> {
        if !self.allows(url) {
            return Err(ChannelError::Url(url.to_string()));
        }
        let tls = if url.scheme_str() == Some("http") { None } else { Some(Arc::new(self.tls()?)) };
        let (token_file, public_and) = (self.token_file.clone(), self.public_and.clone());
        Ok(Client { url: url.clone(), tls, token_file, public_and })
    }

    /// Reads the file of the CA, if there is one, as [`Self::client`] does.
    ///
    /// # Errors
    /// When it cannot be read, or holds no certificate.
    pub fn check_ca(&self) -> Result<(), ChannelError> {
        self.ca.as_ref().map_or(Ok(()), |_| self.roots().map(drop))
    }

    fn tls(&self) -> Result<ClientConfig, ChannelError> {
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let config = config.with_safe_default_protocol_versions().map_err(|_| ChannelError::NoRoots)?;
        Ok(config.with_root_certificates(self.roots()?).with_no_client_auth())
    }

    /// By whose certificates a server is known; there is at least one.
    fn roots(&self) -> Result<RootCertStore, ChannelError> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(path) => {
                let pem = files::read(path)?;
                roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        if roots.is_empty() { Err(ChannelError::NoRoots) } else { Ok(roots) }
    }
}

/// Asks one URL.
#[derive(Debug)]
pub struct Client {
    url: Uri,
    /// None: plain HTTP on loopback.
    tls: Option<Arc<ClientConfig>>,
    token_file: Option<PathBuf>,
    public_and: Option<Vec<AddressRange>>,
}

impl Client {
    /// GET.
    ///
    /// # Errors
    /// When there is no answer. One that is no success is an answer.
    pub async fn get(&self, within: Duration) -> Result<Answer, ChannelError> {
        let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static("application/json"))]);
        self.send(http::Method::GET, headers, Bytes::new(), within).await
    }

    /// POST.
    ///
    /// # Errors
    /// As for [`Self::get`].
    pub async fn post(&self, headers: HeaderMap, body: Bytes, within: Duration) -> Result<Answer, ChannelError> {
        self.send(http::Method::POST, headers, body, within).await
    }

    async fn send(
        &self,
        method: http::Method,
        headers: HeaderMap,
        body: Bytes,
        within: Duration,
    ) -> Result<Answer, ChannelError> {
        let sent = async {
            let mut request = self.request(method, headers, body)?;
            self.authorise(&mut request)?;
            self.connect_and_send(request).await
        };
        timeout(within, sent).await.map_err(|_| ChannelError::Late(within))?
    }

    async fn connect_and_send(&self, request: Request<Full<Bytes>>) -> Result<Answer, ChannelError> {
        let host = self.url.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = self.url.port_u16().unwrap_or(if self.tls.is_none() { 80 } else { 443 });
        let addresses = tokio::net::lookup_host((host, port)).await.map_err(ChannelError::Connect)?;
        // Whatever a name is made to mean: unencrypted is loopback, and what is not public is what is named. It is these
        // very addresses that are connected to: a name that means another one a moment later changes nothing.
        let is_allowed = |address: &SocketAddr| self.tls.is_some() || address.ip().is_loopback();
        let addresses: Vec<SocketAddr> =
            addresses.filter(is_allowed).filter(|address| self.may_reach(address.ip())).collect();
        if addresses.is_empty() && self.public_and.is_some() {
            return Err(ChannelError::NotPublic(host.to_owned()));
        }
        let tcp = TcpStream::connect(addresses.as_slice()).await.map_err(ChannelError::Connect)?;
        let Some(tls) = &self.tls else { return exchange(tcp, request).await };
        let name = ServerName::try_from(host.to_owned()).map_err(|_| ChannelError::Url(self.url.to_string()))?;
        let tls = TlsConnector::from(Arc::clone(tls));
        exchange(tls.connect(name, tcp).await.map_err(ChannelError::Connect)?, request).await
    }

    fn may_reach(&self, address: IpAddr) -> bool {
        self.public_and.as_ref().is_none_or(|ranges| {
            is_public(address) || ranges.iter().any(|range| range.contains(address.to_canonical()))
        })
    }

    fn request(
        &self,
        method: http::Method,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, ChannelError> {
        let path = self.url.path_and_query().map_or("/", |path| path.as_str());
        let host = self.url.authority().map_or("", |authority| authority.as_str());
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, host)
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::CONNECTION, "close")
            .body(Full::new(body));
        let mut request = request.map_err(|_| ChannelError::Url(self.url.to_string()))?;
        request.headers_mut().extend(headers);
        Ok(request)
    }

    fn authorise(&self, request: &mut Request<Full<Bytes>>) -> Result<(), ChannelError> {
        let Some(path) = &self.token_file else { return Ok(()) };
        let token = files::read(path)?;
        let line = std::str::from_utf8(&token).map_err(|_| ChannelError::OwnToken)?.trim();
        let value = Zeroizing::new(format!("Bearer {line}"));
        let mut value = HeaderValue::try_from(value.as_str()).map_err(|_| ChannelError::OwnToken)?;
        value.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, value);
        Ok(())
    }
}

/// What is no address of a server on the public internet: IANA's registries of special addresses (RFC 6890), with multicast,
/// and with IPv6 addresses that lead to IPv4 ones, whatever those are.
const SPECIAL: [&str; 31] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
    "100:0:0:1::/64",
    "2620:4f:8000::/48",
    "::ffff:0:0:0/96",
];

/// Whether it is an address of the public internet.
fn is_public(address: IpAddr) -> bool {
    static RANGES: LazyLock<Vec<AddressRange>> =
        LazyLock::new(|| SPECIAL.iter().map(|range| range.parse().expect("a range")).collect());
    // An IPv4 address in IPv6 clothes is the IPv4 address.
    let address = address.to_canonical();
    !RANGES.iter().any(|range| range.contains(address))
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// One request and its answer.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Answer, ChannelError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(ChannelError::Http)?;
    let answered = async {
        let response = sender.send_request(request).await.map_err(ChannelError::Http)?;
        let (head, body) = response.into_parts();
        let body = match Limited::new(body, BYTES_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) if !head.status.is_success() => Bytes::new(),
            Err(_) => return Err(ChannelError::Body),
        };
        Ok(Answer { status: head.status, headers: head.headers, body })
    };
    let mut answered = std::pin::pin!(answered);
    tokio::select! {
        answered = &mut answered => answered,
        // The connection may end before the answer that came on it was read.
        ended = connection => match ended {
            Ok(()) => answered.await,
            Err(error) => Err(ChannelError::Http(error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_public_is_told_in_any_clothes() {
        for public in ["1.1.1.1", "8.8.8.8", "172.15.255.255", "172.32.0.1", "2606:4700::1111", "::ffff:1.1.1.1"] {
            assert!(is_public(public.parse().expect("an address")), "{public}");
        }
        for special in [
            "0.0.0.0",
            "10.1.2.3",
            "127.0.0.1",
            "127.8.8.8",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::7f00:1",
            "64:ff9b::a00:1",
            "2002:a00:1::1",
            "fd00::1",
            "fe80::1",
            "ff02::1",
            "2001:db8::1",
        ] {
            assert!(!is_public(special.parse().expect("an address")), "{special}");
        }
    }

    #[tokio::test]
    async fn what_a_name_means_is_what_counts() {
        let url: Uri = "http://localhost:9/".parse().expect("a URI");
        let channel = |ranges: &[&str]| Channel {
            plain_loopback: true,
            public_and: Some(ranges.iter().map(|range| range.parse().expect("a range")).collect()),
            ..Channel::default()
        };
        let post = async |ranges: &[&str]| {
            let client = channel(ranges).client(&url).expect("a client");
            client.post(HeaderMap::new(), Bytes::new(), Duration::from_secs(5)).await.expect_err("nobody listens there")
        };
        assert!(matches!(post(&[]).await, ChannelError::NotPublic(_)));
        assert!(matches!(post(&["10.0.0.0/8"]).await, ChannelError::NotPublic(_)));
        assert!(matches!(post(&["127.0.0.0/8", "::1/128"]).await, ChannelError::Connect(_)));
    }

    #[test]
    fn plain_http_is_for_loopback_where_it_is_allowed() {
        let (strict, loose) = (Channel::default(), Channel { plain_loopback: true, ..Channel::default() });
        let allows = |channel: &Channel, url: &str| channel.allows(&url.parse().expect("a URI"));
        for url in ["https://issuer.example/a?b", "https://[::1]:8443/", "https://10.0.0.1"] {
            assert!(allows(&strict, url) && allows(&loose, url), "{url}");
        }
        for url in ["http://127.0.0.1:1/a", "http://[::1]/", "http://localhost:80/"] {
            assert!(!allows(&strict, url) && allows(&loose, url), "{url}");
        }
        for url in [
            "http://issuer.example/",
            "http://10.0.0.1/",
            "ftp://a/",
            "/a",
            "https://u:p@a/",
            "http://127.0.0.1.evil.example/",
        ] {
            assert!(!allows(&strict, url) && !allows(&loose, url), "{url}");
        }
    }
}
