//! The identity endpoint: where programs of this machine get tokens in the way they would in Azure, so that the credential
//! that every client library tries first needs nothing else.
//!
//! Plain HTTP on a loopback address. In the manner of App Service (`IDENTITY_ENDPOINT`, `IDENTITY_HEADER`) whoever sends the
//! secret is answered; it is compared without telling by its time where it differs. In the manner of a virtual machine
//! (IMDS) nobody sends a secret: only processes of users that are named are answered, of whom the kernel says which
//! they are ([`peer`]), and without such users nobody is.
//!
//! The tokens are the service's own, of one name, and live an hour or so. One that has more than half of its life left is
//! given out again: clients ask often, and each new one is a row and two records on the disk.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use strongroom_hsm::protocol::Moment;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Mutex, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::target::Target;
use crate::{
    bearer::Bearers,
    model::{Identity, Origin, Principal, Timestamp, TokenName},
    observe::trace::Trace,
    service::{Caller, ChangeOptions, InForce, Problem, Service, ServiceError, Traffic, tokens::NewToken},
};

pub mod peer;

/// The path in the manner of App Service.
pub const PATH: &str = "/msi/token";
/// The path in the manner of a virtual machine.
const IMDS_PATH: &str = "/metadata/identity/oauth2/token";
/// The header with the secret.
const SECRET: &str = "x-identity-header";
/// The most connections at once, and how long each may take: it carries one request.
const CONNECTIONS_MAX: usize = 64;
const CONNECTION_WITHIN: Duration = Duration::from_secs(30);
const HEADERS_WITHIN: Duration = Duration::from_secs(5);
const HEADERS_BYTES_MAX: usize = 16 * 1024;
/// How long a token may take to be made.
const MINT_WITHIN: Duration = Duration::from_secs(10);
/// The pause after an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The longest name of a resource that is given back.
const RESOURCE_BYTES_MAX: usize = 512;

/// What the endpoint gives out, to whom, and as whom it asks for it.
pub struct Settings {
    /// What callers send. Kept as its digest only.
    pub secret: Zeroizing<Vec<u8>>,
    /// What the tokens are called.
    pub token: TokenName,
    /// How long they live.
    pub life: Duration,
    /// Users who need no secret.
    pub imds_uids: Vec<u32>,
    /// Who has the tokens issued: it needs the right to.
    pub issuer: Principal,
}

/// The endpoint.
pub struct Endpoint {
    service: Arc<Service>,
    bearers: Arc<Bearers>,
    secret: [u8; 32],
    token: TokenName,
    life: Duration,
    imds_uids: Vec<u32>,
    issuer: Principal,
    kept: Mutex<Option<Kept>>,
    places: Arc<Semaphore>,
}

/// A token that is given out again.
struct Kept {
    text: Zeroizing<String>,
    expires: Timestamp,
}

/// In whose manner it is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    AppService,
    VirtualMachine,
}

impl Endpoint {
    /// An endpoint.
    #[must_use]
    pub fn new(service: Arc<Service>, bearers: Arc<Bearers>, settings: Settings) -> Arc<Self> {
        let Settings { secret, token, life, imds_uids, issuer } = settings;
        let (secret, places) = (Sha256::digest(&secret).into(), Arc::new(Semaphore::new(CONNECTIONS_MAX)));
        Arc::new(Self { service, bearers, secret, token, life, imds_uids, issuer, kept: Mutex::new(None), places })
    }

    /// Serves until `stop`.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let Ok(own) = listener.local_addr() else { return };
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, from)) => {
                    // What comes above is closed at once.
                    if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
                        let endpoint = Arc::clone(&self);
                        tokio::spawn(async move {
                            let _ = timeout(CONNECTION_WITHIN, endpoint.attend(stream, from, own)).await;
                            drop(place);
                        });
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection to the identity endpoint could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn attend(self: Arc<Self>, stream: TcpStream, from: SocketAddr, own: SocketAddr) {
        let answer = service_fn(move |request: Request<Incoming>| {
            let endpoint = Arc::clone(&self);
            async move { Ok::<_, Infallible>(endpoint.answer(&request, from, own).await) }
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEADERS_WITHIN).keep_alive(false);
        let connection = builder.max_buf_size(HEADERS_BYTES_MAX).serve_connection(TokioIo::new(stream), answer);
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to the identity endpoint ended early");
        }
    }

    async fn answer(&self, request: &Request<Incoming>, from: SocketAddr, own: SocketAddr) -> Response<Full<Bytes>> {
        let manner = match request.uri().path() {
            PATH => Manner::AppService,
            IMDS_PATH if !self.imds_uids.is_empty() => Manner::VirtualMachine,
            _ => return refused(StatusCode::NOT_FOUND, "there is nothing here"),
        };
        if request.method() != Method::GET {
            return refused(StatusCode::METHOD_NOT_ALLOWED, "GET is answered");
        }
        if !self.may_have(manner, request.headers(), from, own) {
            return refused(StatusCode::UNAUTHORIZED, "who asks may not have a token");
        }
        let target = Target::read(request.uri());
        let resource = target.as_ref().ok().and_then(|target| target.parameter("resource"));
        let Some(resource) = resource.filter(|resource| (1..=RESOURCE_BYTES_MAX).contains(&resource.len())) else {
            return refused(StatusCode::BAD_REQUEST, "resource is missing");
        };
        match self.token().await {
            Ok((text, expires)) => {
                let left = expires.0.saturating_sub(self.service.now().0);
                respond(StatusCode::OK, &body(manner, &text, expires, left, resource))
            }
            Err(error) => {
                crate::grpc::errors::log(&error, "identity endpoint");
                match error.problem {
                    Problem::Denied(_) => refused(StatusCode::FORBIDDEN, "the endpoint itself may not issue tokens"),
                    _ => refused(StatusCode::SERVICE_UNAVAILABLE, "no token could be made; try again"),
                }
            }
        }
    }

    /// Whether whoever sends this may have a token.
    fn may_have(&self, manner: Manner, headers: &HeaderMap, from: SocketAddr, own: SocketAddr) -> bool {
        match manner {
            Manner::AppService => {
                let sent = headers.get(SECRET).map(header::HeaderValue::as_bytes).unwrap_or_default();
                let sent: [u8; 32] = Sha256::digest(sent).into();
                aws_lc_rs::constant_time::verify_slices_are_equal(&sent, &self.secret).is_ok()
            }
            Manner::VirtualMachine => {
                // A browser that was led here does not send it, nor does a proxy that passes on what others ask.
                let is_meant =
                    headers.get("metadata").is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
                let is_direct = !headers.contains_key("x-forwarded-for");
                is_meant && is_direct && peer::uid(from, own).is_some_and(|uid| self.imds_uids.contains(&uid))
            }
        }
    }

    /// A token with half of its life before it.
    async fn token(&self) -> Result<(Zeroizing<String>, Timestamp), ServiceError> {
        let mut kept = self.kept.lock().await;
        if let Some(Kept { text, expires }) = &*kept {
            let half = i64::try_from(self.life.as_secs() / 2).unwrap_or(i64::MAX);
            let is_fresh = expires.0.saturating_sub(self.service.now().0) > half;
            // It may have been revoked meanwhile.
            if is_fresh && self.bearers.identify(text, Origin::Local).await.is_ok() {
                return Ok((text.clone(), *expires));
            }
        }
        let minted = mint(&self.service, &self.issuer, &self.token, self.life).await?;
        *kept = Some(Kept { text: minted.0.clone(), expires: minted.1 });
        Ok(minted)
    }
}

/// Has a token issued.
///
/// # Errors
/// When `issuer` may not, or a token cannot be made.
pub async fn mint(
    service: &Arc<Service>,
    issuer: &Principal,
    name: &TokenName,
    life: Duration,
) -> Result<(Zeroizing<String>, Timestamp), ServiceError> {
    let caller = Caller {
        identity: Arc::new(Identity::alone(issuer.clone())),
        origin: Origin::Local,
        source: "identity endpoint".to_owned(),
        request: uuid::Uuid::new_v4().to_string(),
        deadline: Moment::now().after(MINT_WITHIN),
        traffic: Traffic::Single,
        in_force: InForce::default(),
        trace: Trace::default(),
    };
    let new = NewToken { name: name.clone(), life: Some(life) };
    let issued = service.create_token(&caller, new, ChangeOptions::default()).await?;
    let text = issued.text.ok_or(Problem::Internal)?;
    let text = std::str::from_utf8(text.expose_secret()).map_err(|_| Problem::Internal)?.to_owned();
    Ok((Zeroizing::new(text), issued.row.expires))
}

/// An answer with a token. Times are texts, as Azure gives them.
fn body(manner: Manner, token: &str, expires: Timestamp, left: i64, resource: &str) -> Value {
    let mut body = json!({
        "access_token": token,
        "expires_on": expires.0.to_string(),
        "resource": resource,
        "token_type": "Bearer",
    });
    if manner == Manner::VirtualMachine {
        body["expires_in"] = left.to_string().into();
        body["not_before"] = expires.0.saturating_sub(left).to_string().into();
    }
    body
}

fn refused(status: StatusCode, why: &str) -> Response<Full<Bytes>> {
    let error = if status == StatusCode::UNAUTHORIZED { "unauthorized_client" } else { "invalid_request" };
    respond(status, &json!({ "error": error, "error_description": why }))
}

fn respond(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_answered_has_the_members_that_clients_look_for() {
        let app = body(Manner::AppService, "t", Timestamp(1000), 60, "https://r");
        assert_eq!(app["expires_on"], "1000");
        assert!(app.get("expires_in").is_none());
        let imds = body(Manner::VirtualMachine, "t", Timestamp(1000), 60, "https://r");
        assert_eq!((&imds["expires_in"], &imds["access_token"]), (&json!("60"), &json!("t")));
    }
}
