//! The same work by the Azure face and over gRPC: a signature, and reading a secret. Every caller has a connection of its
//! own, as programs with an SDK have; those of the Azure face speak HTTP/1.1, as most SDKs do.

use std::{io, path::Path, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, Uri, header, uri::PathAndQuery};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use serde::Deserialize;
use strongroom_hsm::algorithms::Algorithm;
use strongroom_proto::v1::{GetSecretValueRequest, SetSecretRequest, secrets_client::SecretsClient};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::Channel;

use super::{
    call::said,
    case::{Answer, MESSAGE, signed},
    load::Turns,
};
use crate::{grpc::tls, model::base64};

/// What is asked for.
const VERSION: &str = "api-version=7.4";

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The authority's file.
    #[error("the authority of the measured server cannot be read")]
    Authority(#[source] io::Error),
    /// Not a certificate, or not a URL.
    #[error("{0} cannot be used")]
    Unusable(&'static str),
    /// The server.
    #[error("the measured server cannot be reached")]
    Server(#[source] io::Error),
    /// HTTP.
    #[error("the measured server does not speak HTTP")]
    Http(#[source] hyper::Error),
}

/// Where the face is, and who asks there.
pub struct Site {
    host: String,
    port: u16,
    bearer: HeaderValue,
    tls: TlsConnector,
}

impl Site {
    /// The vault's URL, a token, and the authority (PEM) of its certificate.
    ///
    /// # Errors
    /// When one of them is none.
    pub fn new(url: &str, token: &str, authority: &Path) -> Result<Self, ConnectError> {
        let uri: Uri = url.parse().map_err(|_| ConnectError::Unusable("the URL"))?;
        let host = uri.host().ok_or(ConnectError::Unusable("the URL"))?.to_owned();
        let mut bearer =
            HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| ConnectError::Unusable("the token"))?;
        bearer.set_sensitive(true);
        let pem = std::fs::read(authority).map_err(ConnectError::Authority)?;
        let mut roots = RootCertStore::empty();
        for certificate in tls::certificates(&pem).ok_or(ConnectError::Unusable("the authority"))? {
            roots.add(certificate).map_err(|_| ConnectError::Unusable("the authority"))?;
        }
        let config = ClientConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .map_err(|_| ConnectError::Unusable("TLS"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { host, port: uri.port_u16().unwrap_or(443), bearer, tls: TlsConnector::from(Arc::new(config)) })
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, ConnectError> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(ConnectError::Server)?;
        tcp.set_nodelay(true).map_err(ConnectError::Server)?;
        let name = ServerName::try_from(self.host.clone()).map_err(|_| ConnectError::Unusable("the URL"))?;
        let stream = self.tls.connect(name, tcp).await.map_err(ConnectError::Server)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(ConnectError::Http)?;
        // It ends with its sender; what is wrong with it the next request says.
        tokio::spawn(connection);
        Ok(sender)
    }

    /// `count` callers of the same request, each on a connection of its own.
    ///
    /// # Errors
    /// When one of them cannot be made.
    pub async fn many(&self, count: usize, asked: &Asked) -> Result<Vec<Call>, ConnectError> {
        let host = HeaderValue::try_from(format!("{}:{}", self.host, self.port));
        let host = host.map_err(|_| ConnectError::Unusable("the URL"))?;
        let mut calls = Vec::with_capacity(count);
        for _ in 0..count {
            let (sender, bearer, host) = (self.connect().await?, self.bearer.clone(), host.clone());
            calls.push(Call { sender, bearer, host, asked: asked.clone() });
        }
        Ok(calls)
    }
}

/// One request of the Azure face.
#[derive(Clone, Debug)]
pub struct Asked {
    method: Method,
    path: PathAndQuery,
    body: Bytes,
    signs: bool,
}

impl Asked {
    /// A signature with `keys/KEY/VERSION`.
    #[must_use]
    pub fn sign(key: &str, version: &str, algorithm: Algorithm) -> Self {
        let body = serde_json::json!({ "alg": algorithm.name(), "value": base64::encode(&signed(algorithm)) });
        let (method, path) = (Method::POST, path(&format!("/keys/{key}/{version}/sign?{VERSION}")));
        Self { method, path, body: body.to_string().into(), signs: true }
    }

    /// The value of the newest version of a secret.
    #[must_use]
    pub fn secret(name: &str) -> Self {
        let path = path(&format!("/secrets/{name}?{VERSION}"));
        Self { method: Method::GET, path, body: Bytes::new(), signs: false }
    }
}

fn path(text: &str) -> PathAndQuery {
    PathAndQuery::try_from(text).expect("names of ours are letters and digits")
}

/// What an SDK reads of both answers.
#[derive(Deserialize)]
struct Said {
    value: String,
}

/// Makes one call of the Azure face after the other.
pub struct Call {
    sender: SendRequest<Full<Bytes>>,
    bearer: HeaderValue,
    host: HeaderValue,
    asked: Asked,
}

impl Turns for Call {
    type Answer = Answer;

    async fn call(&mut self) -> Result<Answer, String> {
        let request = http::Request::builder()
            .method(self.asked.method.clone())
            .uri(Uri::from(self.asked.path.clone()))
            .header(header::HOST, self.host.clone())
            .header(header::AUTHORIZATION, self.bearer.clone())
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(self.asked.body.clone()))
            .map_err(|error| error.to_string())?;
        self.sender.ready().await.map_err(|error| error.to_string())?;
        let response = self.sender.send_request(request).await.map_err(|error| error.to_string())?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        if parts.status != StatusCode::OK {
            return Err(format!("{}: {}", parts.status, String::from_utf8_lossy(&body)));
        }
        let Said { value } = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        if !self.asked.signs {
            return Ok(Answer::Opened(value.into_bytes()));
        }
        let signature = base64::decode(&value).ok_or_else(|| "a signature that is not base64url".to_owned())?;
        Ok(Answer::Signature(signature.to_vec()))
    }
}

/// Makes a secret of `vault` that is to be read. Its value is [`MESSAGE`].
///
/// # Errors
/// What the server says.
pub async fn set_secret(channel: Channel, vault: &str, id: &str) -> Result<(), tonic::Status> {
    let (parent, secret_id) = (format!("vaults/{vault}"), id.to_owned());
    let request = SetSecretRequest { parent, secret_id, value: MESSAGE.to_vec(), ..SetSecretRequest::default() };
    SecretsClient::new(channel).set_secret(request).await.map(drop)
}

/// Reads a secret over gRPC, again and again.
pub struct Reader {
    client: SecretsClient<Channel>,
    request: GetSecretValueRequest,
}

impl Reader {
    /// One for each connection.
    #[must_use]
    pub fn many(channels: &[Channel], vault: &str, id: &str) -> Vec<Self> {
        let request = GetSecretValueRequest { name: format!("vaults/{vault}/secrets/{id}") };
        let one = |channel: &Channel| Self { client: SecretsClient::new(channel.clone()), request: request.clone() };
        channels.iter().map(one).collect()
    }
}

impl Turns for Reader {
    type Answer = Answer;

    async fn call(&mut self) -> Result<Answer, String> {
        let read = self.client.get_secret_value(self.request.clone()).await;
        Ok(Answer::Opened(read.map_err(|status| said(&status))?.into_inner().value))
    }
}
