//! What stands before every operation of the Azure face: where the client has come, who asks, whether there is room, until
//! when. Whoever is nobody is told by which challenge to become somebody, and nothing else: not whether a path, a vault or a
//! key exists, nor that the body is wrong.
//!
//! Who a caller is says its bearer token alone. A client certificate is not asked for: clients of Azure have none.

use std::{cell::Cell, convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{self, AUTHORIZATION},
    request::Parts,
};
use http_body_util::{BodyExt as _, Full};
use strongroom_hsm::protocol::Moment;
use tokio::time::timeout;
use tonic::body::Body;
use tracing::Instrument as _;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    address::{Address, Flavour, Settings},
    call::{Answer, Call},
    errors,
    fault::Fault,
    operate,
    route::{Operation, route},
    target::{Target, is_api_version},
};
use crate::{
    bearer::{BearerError, Bearers},
    grpc::{
        Limits,
        front::{LATE, Peer, Place, Room, bearer},
        listener::Answers,
    },
    model::Identity,
    observe::{
        metrics::{REQUEST_SECONDS, REQUESTS, REQUESTS_UNDER_WAY},
        trace::{Trace, Tracer},
    },
    service::{Caller, InForce, Problem, Service, Traffic},
};

/// The longest body: 64 KiB to encrypt, and as much again, in base64.
pub const BODY_BYTES_MAX: usize = 256 * 1024;
/// The longest body that brings a key back: a backup of 2 MiB, in base64.
pub const RESTORE_BYTES_MAX: usize = 3 * 1024 * 1024;
/// How much more than that is read and thrown away, so that whoever sends it reads the answer: a connection that is closed
/// on unread bytes is reset, and the answer with it.
const THROWN_AWAY_MAX: usize = 1024 * 1024;
/// The longest `x-ms-client-request-id` that is given back.
const CLIENT_ID_BYTES_MAX: usize = 128;

const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-client-request-id");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-request-id");
const IN_FORCE_FROM: HeaderName = HeaderName::from_static("strongroom-in-force-from");
const UNKNOWN: &str = "azure/other";

/// What every answer carries.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CACHE_CONTROL, "no-cache"),
    (header::PRAGMA, "no-cache"),
    (header::EXPIRES, "-1"),
    (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000;includeSubDomains"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CONTENT_TYPE, "application/json; charset=utf-8"),
];

/// The face.
pub struct Rest {
    service: Arc<Service>,
    bearers: Arc<Bearers>,
    settings: Settings,
    limits: Limits,
    room: Room,
    tracer: Option<Arc<Tracer>>,
    /// Who gives tokens, unless the settings say: the instance, as a tenant.
    tenant: String,
}

/// An answer that is none of an operation's.
struct Refused {
    fault: Fault,
    challenge: Option<String>,
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self { fault, challenge: None }
    }
}

/// What is known of a request once it is let in.
struct Admitted {
    identity: Arc<Identity>,
    address: Address,
}

impl Rest {
    /// The face of a service. Its requests find their room where those of gRPC do.
    #[must_use]
    pub(crate) fn new(
        service: Arc<Service>,
        bearers: Arc<Bearers>,
        settings: Settings,
        limits: Limits,
        room: Room,
        tracer: Option<Arc<Tracer>>,
    ) -> Self {
        let tenant = Uuid::from_bytes(service.instance().id).to_string();
        Self { service, bearers, settings, limits, room, tracer, tenant }
    }

    /// `Bearer authorization="…", resource="…"`: six client libraries take it in this spelling and no other.
    fn challenge(&self, address: &Address) -> String {
        let authority = match &self.settings.authority {
            Some(authority) => authority.clone(),
            None => format!("{}/{}", address.origin(), self.tenant),
        };
        format!("Bearer authorization=\"{authority}\", resource=\"{}\"", address.resource())
    }

    async fn admit(&self, peer: &Peer, parts: &mut Parts) -> Result<Admitted, Refused> {
        let address = Address::of(parts, &self.settings);
        let address =
            address.ok_or_else(|| Fault::bad("The request does not say which host it is for, or says it twice."))?;
        // Twice is none: which of them was meant?
        let is_one = parts.headers.get_all(AUTHORIZATION).iter().count() == 1;
        // The token goes no further.
        let header = parts.headers.remove(AUTHORIZATION).filter(|_| is_one);
        let token = header.as_ref().and_then(bearer);
        let identity = match token {
            Some(token) => self.bearers.identify(token, peer.origin).await,
            None => Err(BearerError::Malformed("there is none")),
        };
        match identity {
            Ok(identity) if identity.holds() => {
                peer.introduced.cancel();
                Ok(Admitted { identity, address })
            }
            Ok(_) => Err(self.stranger(&address, "AKV10001: The token has expired or was revoked.")),
            Err(BearerError::IssuerUnavailable) => {
                Err(errors::unavailable("The issuer of the token does not answer.").into())
            }
            Err(BearerError::Crowded) => {
                let wait = std::time::Duration::from_secs(1);
                Err(errors::throttled("Too many tokens that are not believed.", wait).into())
            }
            Err(error) => {
                tracing::debug!(source = peer.source, %error, "a peer without an identity was refused");
                let what = if token.is_some() {
                    "AKV10000: The token is not one that is believed here."
                } else {
                    "AKV10000: Request is missing a Bearer or PoP token."
                };
                Err(self.stranger(&address, what))
            }
        }
    }

    fn stranger(&self, address: &Address, message: &str) -> Refused {
        let fault = Fault::new(StatusCode::UNAUTHORIZED, "Unauthorized", message);
        Refused { fault, challenge: Some(self.challenge(address)) }
    }

    async fn serve(
        &self,
        peer: &Peer,
        (id, uuid): (&str, Uuid),
        parts: &mut Parts,
        body: Body,
        ticket: &mut Ticket,
    ) -> Result<(Answer, InForce), Refused> {
        let Admitted { identity, address } = self.admit(peer, parts).await?;
        if let Some(tracer) = &self.tracer {
            ticket.trace = tracer.begin(uuid, &parts.headers);
        }
        ticket.flavour = address.flavour(&self.settings);
        let target = Target::read(&parts.uri).map_err(|error| Fault::bad(error.to_string()))?;
        let route = route(&parts.method, &target.parts)?;
        ticket.method = route.operation.label();
        if !target.parameter("api-version").is_some_and(is_api_version) {
            return Err(Fault::bad("The api-version query parameter is missing, or no version.").into());
        }
        let vault = address.vault(&self.settings);
        let vault = vault.ok_or_else(|| Fault::bad("The host names no vault of this service."))?;
        let _place = self.place(&identity, route.operation).ok_or_else(|| {
            let wait = std::time::Duration::from_secs(1);
            errors::throttled("Too many requests at the moment.", wait)
        })?;
        let caller = Caller {
            identity,
            origin: peer.origin,
            source: peer.source.clone(),
            request: id.to_owned(),
            deadline: Moment::now().after(self.limits.deadline_default),
            traffic: Traffic::Single,
            in_force: InForce::default(),
            trace: ticket.trace.clone(),
        };
        let bytes_max = if route.operation.is_restore() { RESTORE_BYTES_MAX } else { BODY_BYTES_MAX };
        let working = async {
            let body = read(&parts.headers, body, bytes_max).await?;
            let (service, settings, flavour) = (&self.service, &self.settings, ticket.flavour);
            operate(&Call {
                service,
                caller: &caller,
                settings,
                address: &address,
                vault,
                flavour,
                route,
                target,
                body,
            })
            .await
        };
        match timeout(self.limits.deadline_default + LATE, working).await {
            Ok(answer) => Ok((answer?, caller.in_force)),
            Err(_) => Err(errors::of_problem(&Problem::DeadlineExceeded, Operation::KeyGet).into()),
        }
    }

    /// A place for the request. What carries a whole key takes more of the room.
    fn place(&self, identity: &Identity, operation: Operation) -> Option<Place> {
        match operation {
            Operation::KeyBackup | Operation::SecretBackup => self.room.bulk_place(identity),
            other if other.is_restore() => self.room.bulk_place(identity),
            _ => self.room.place(identity),
        }
    }
}

/// A whole body, into memory that is wiped.
async fn read(headers: &HeaderMap, mut body: Body, bytes_max: usize) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let too_long = || {
        let message = format!("The request body is longer than {bytes_max} bytes.");
        Fault::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message)
    };
    let said = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if said.is_some_and(|said| said > bytes_max) {
        throw_away(body).await;
        return Err(too_long());
    }
    // As much as was said, at once: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(said.unwrap_or_default()));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Fault::bad("The request body did not come whole."))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > bytes_max {
            throw_away(body).await;
            return Err(too_long());
        }
        if bytes.capacity() < bytes.len() + data.len() {
            let mut larger = Zeroizing::new(Vec::with_capacity(2 * (bytes.len() + data.len())));
            larger.extend_from_slice(&bytes);
            bytes = larger;
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// Reads what is left, but not for ever.
async fn throw_away(mut body: Body) {
    let mut left = THROWN_AWAY_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
            Some(less) => left = less,
            None => return,
        }
    }
}

impl Answers for Rest {
    async fn answer(&self, peer: &Peer, request: http::Request<Body>) -> Result<http::Response<Body>, Infallible> {
        let uuid = Uuid::new_v4();
        let id = uuid.to_string();
        let (mut parts, body) = request.into_parts();
        let mut ticket = Ticket::new(parts.method.to_string());
        let echoed = parts.headers.remove(CLIENT_REQUEST_ID).filter(|id| id.len() <= CLIENT_ID_BYTES_MAX);
        let span = tracing::info_span!("azure", request = id);
        let served = self.serve(peer, (&id, uuid), &mut parts, body, &mut ticket).instrument(span).await;
        let mut response = match served {
            Ok((answer, in_force)) => done(answer, &in_force),
            Err(refused) => refusal(refused, ticket.flavour, &id),
        };
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::try_from(id) {
            headers.insert(REQUEST_ID, id);
        }
        if let Some(echoed) = echoed {
            headers.insert(CLIENT_REQUEST_ID, echoed);
        }
        ticket.end(response.status());
        Ok(response)
    }
}

fn respond(status: StatusCode, body: Zeroizing<Vec<u8>>) -> http::Response<Body> {
    let is_empty = body.is_empty();
    let mut response = http::Response::new(Body::new(Full::new(Bytes::from_owner(body))));
    *response.status_mut() = status;
    for (name, value) in HEADERS {
        if name != header::CONTENT_TYPE || !is_empty {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
    }
    response
}

fn done(answer: Answer, in_force: &InForce) -> http::Response<Body> {
    let mut response = respond(answer.status, answer.body);
    if let Some(from) = in_force.from().and_then(|from| HeaderValue::try_from(from.to_string()).ok()) {
        response.headers_mut().insert(IN_FORCE_FROM, from);
    }
    response
}

fn refusal(refused: Refused, flavour: Flavour, id: &str) -> http::Response<Body> {
    let Refused { mut fault, challenge } = refused;
    if flavour == Flavour::ManagedHsm {
        fault.message.push_str(&format!(" (Activity ID: {id})"));
    }
    let mut response = respond(fault.status, Zeroizing::new(fault.body().to_string().into_bytes()));
    let headers = response.headers_mut();
    let texts = [
        (header::WWW_AUTHENTICATE, challenge),
        (header::ALLOW, fault.allow),
        (header::RETRY_AFTER, fault.retry_after.map(|wait| wait.as_secs().max(1).to_string())),
    ];
    for (name, text) in texts {
        if let Some(value) = text.and_then(|text| HeaderValue::try_from(text).ok()) {
            headers.insert(name, value);
        }
    }
    response
}

/// Counts a request, whichever way it ends.
struct Ticket {
    method: &'static str,
    verb: String,
    flavour: Flavour,
    began: Moment,
    status: Cell<Option<StatusCode>>,
    trace: Trace,
}

impl Ticket {
    fn new(verb: String) -> Self {
        metrics::gauge!(REQUESTS_UNDER_WAY).increment(1.0);
        let (began, status) = (Moment::now(), Cell::new(None));
        Self { method: UNKNOWN, verb, flavour: Flavour::Vault, began, status, trace: Trace::default() }
    }

    fn end(self, status: StatusCode) {
        self.status.set(Some(status));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let took = Moment::now().since(self.began);
        metrics::gauge!(REQUESTS_UNDER_WAY).decrement(1.0);
        metrics::counter!(REQUESTS, "method" => self.method, "code" => code(self.status.get())).increment(1);
        metrics::histogram!(REQUEST_SECONDS, "method" => self.method).record(took);
        let status = self.status.get().map_or(0, |status| status.as_u16());
        self.trace.end_http(self.method, &self.verb, self.began, status);
    }
}

/// A status as a label. A caller that went away has none.
const fn code(status: Option<StatusCode>) -> &'static str {
    let Some(status) = status else { return "CANCELLED" };
    match status.as_u16() {
        200 => "200",
        201 => "201",
        204 => "204",
        400 => "400",
        401 => "401",
        403 => "403",
        404 => "404",
        405 => "405",
        409 => "409",
        413 => "413",
        429 => "429",
        500 => "500",
        501 => "501",
        503 => "503",
        504 => "504",
        _ => "other",
    }
}
