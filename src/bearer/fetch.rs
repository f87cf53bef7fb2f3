//! Fetches small JSON documents of issuers over HTTPS: one GET on a connection of its own, bounded in time and
//! length. Redirects are not followed, and no proxy of the environment is asked: who may answer is decided by the
//! configuration alone.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use http::{HeaderValue, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
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

use super::keys::KeySetError;
use crate::config::files::{self, ReadError};

/// How long a fetch may take altogether.
const WITHIN: Duration = Duration::from_secs(10);
/// The longest document.
const BYTES_MAX: usize = 256 * 1024;
const USER_AGENT: &str = concat!("strongroom/", env!("CARGO_PKG_VERSION"));

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not a URL of an issuer.
    #[error("{0} is neither https:// nor, where that is allowed, http:// on a loopback address")]
    Url(String),
    /// No CA is trusted.
    #[error("no certificate of an authority (PEM) is there to check the issuer by")]
    NoRoots,
    /// No connection.
    #[error("the issuer cannot be reached")]
    Connect(#[source] io::Error),
    /// The answer is not HTTP, or broke off.
    #[error("the issuer's answer cannot be read")]
    Http(#[source] hyper::Error),
    /// An answer that is no document.
    #[error("the issuer answered with status {0}; redirects are not followed")]
    Status(u16),
    /// A document that is too long, or broke off.
    #[error("the issuer's document broke off, or is longer than 256 KiB")]
    Body,
    /// Too slow.
    #[error("the issuer did not answer within 10 s")]
    Late,
    /// A file that cannot be read.
    #[error(transparent)]
    File(#[from] ReadError),
    /// A token of our own that cannot be sent.
    #[error("the file with the token to fetch with holds no token")]
    OwnToken,
    /// The discovery document is not one.
    #[error("the discovery document is no JSON object with issuer and jwks_uri")]
    Document,
    /// It is somebody else's.
    #[error("the discovery document is that of the issuer {0:?}")]
    OtherIssuer(String),
    /// The keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeySetError),
}

/// How an issuer is reached.
#[derive(Clone, Debug, Default)]
pub struct Channel {
    /// The CA that its certificate comes from (PEM); the system's when absent.
    pub ca: Option<PathBuf>,
    /// Allow `http://` on loopback addresses.
    pub plain_loopback: bool,
    /// A file with a bearer token to send, read anew each time.
    pub token_file: Option<PathBuf>,
}

impl Channel {
    /// Whether such a URL may be fetched.
    #[must_use]
    pub fn allows(&self, url: &Uri) -> bool {
        let plain = url.scheme_str() == Some("http") && self.plain_loopback && url.host().is_some_and(is_loopback);
        let clean = url.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        clean && url.host().is_some_and(|host| !host.is_empty()) && (url.scheme_str() == Some("https") || plain)
    }

    /// Fetches a document.
    pub(super) async fn get(&self, url: &Uri) -> Result<Vec<u8>, FetchError> {
        if !self.allows(url) {
            return Err(FetchError::Url(url.to_string()));
        }
        timeout(WITHIN, self.connect_and_get(url)).await.map_err(|_| FetchError::Late)?
    }

    async fn connect_and_get(&self, url: &Uri) -> Result<Vec<u8>, FetchError> {
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
        let is_plain = url.scheme_str() == Some("http");
        let port = url.port_u16().unwrap_or(if is_plain { 80 } else { 443 });
        let addresses = tokio::net::lookup_host((host, port)).await.map_err(FetchError::Connect)?;
        // Whatever a name is made to mean: unencrypted is loopback.
        let addresses: Vec<SocketAddr> = addresses.filter(|address| !is_plain || address.ip().is_loopback()).collect();
        let tcp = TcpStream::connect(addresses.as_slice()).await.map_err(FetchError::Connect)?;
        let request = self.request(url)?;
        if is_plain {
            return exchange(tcp, request).await;
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|_| FetchError::Url(url.to_string()))?;
        let tls = TlsConnector::from(Arc::new(self.tls()?));
        exchange(tls.connect(name, tcp).await.map_err(FetchError::Connect)?, request).await
    }

    fn request(&self, url: &Uri) -> Result<http::Request<Empty<&'static [u8]>>, FetchError> {
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let host = url.authority().map_or("", |authority| authority.as_str());
        let mut request = http::Request::get(path)
            .header(header::HOST, host)
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::CONNECTION, "close")
            .body(Empty::new())
            .map_err(|_| FetchError::Url(url.to_string()))?;
        if let Some(path) = &self.token_file {
            let token = files::read(path)?;
            let line = std::str::from_utf8(&token).map_err(|_| FetchError::OwnToken)?.trim();
            let value = Zeroizing::new(format!("Bearer {line}"));
            let mut value = HeaderValue::try_from(value.as_str()).map_err(|_| FetchError::OwnToken)?;
            value.set_sensitive(true);
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        Ok(request)
    }

    /// Made anew each time: fetches are rare, and a CA's file may have been replaced.
    fn tls(&self) -> Result<ClientConfig, FetchError> {
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let config = config.with_safe_default_protocol_versions().map_err(|_| FetchError::NoRoots)?;
        Ok(config.with_root_certificates(self.roots()?).with_no_client_auth())
    }

    /// By whose certificates an issuer is known; there is at least one.
    pub(super) fn roots(&self) -> Result<RootCertStore, FetchError> {
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
        if roots.is_empty() { Err(FetchError::NoRoots) } else { Ok(roots) }
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// One request and its answer.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: http::Request<Empty<&'static [u8]>>,
) -> Result<Vec<u8>, FetchError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(FetchError::Http)?;
    let answered = async {
        let response = sender.send_request(request).await.map_err(FetchError::Http)?;
        if response.status() != http::StatusCode::OK {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let body = Limited::new(response.into_body(), BYTES_MAX).collect().await.map_err(|_| FetchError::Body)?;
        Ok(body.to_bytes().to_vec())
    };
    let mut answered = std::pin::pin!(answered);
    tokio::select! {
        answered = &mut answered => answered,
        // The connection may end before the answer that came on it was read.
        ended = connection => match ended {
            Ok(()) => answered.await,
            Err(error) => Err(FetchError::Http(error)),
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
