//! HTTP requests to servers that an operator names: issuers of tokens, receivers of audit records. One request on a
//! connection of its own, bounded in time and length. Redirects are not followed, and no proxy of the environment is
//! asked: who may answer is decided by the configuration alone.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

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

use crate::config::files::{self, ReadError};

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
        Ok(Client { url: url.clone(), tls, token_file: self.token_file.clone() })
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
        // Whatever a name is made to mean: unencrypted is loopback.
        let is_allowed = |address: &SocketAddr| self.tls.is_some() || address.ip().is_loopback();
        let addresses: Vec<SocketAddr> = addresses.filter(is_allowed).collect();
        let tcp = TcpStream::connect(addresses.as_slice()).await.map_err(ChannelError::Connect)?;
        let Some(tls) = &self.tls else { return exchange(tcp, request).await };
        let name = ServerName::try_from(host.to_owned()).map_err(|_| ChannelError::Url(self.url.to_string()))?;
        let tls = TlsConnector::from(Arc::clone(tls));
        exchange(tls.connect(name, tcp).await.map_err(ChannelError::Connect)?, request).await
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

fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
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
