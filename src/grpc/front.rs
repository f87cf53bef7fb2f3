//! What stands before every route: who asks, under which id, until when, and whether there is room. An
//! answer always carries `x-request-id`; every request is counted, also one whose caller goes away.
//!
//! Who a caller is says its bearer token, if it sends one (`authorization`), else its client certificate. A token that
//! is not believed is refused, whatever the certificate: whoever sends one means to be judged by it, and a caller that
//! changed its name when its token expired would be a surprise to everybody. Of other metadata only the deadline is
//! looked at, and, where requests are traced, `traceparent`.

use std::{
    cell::Cell,
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use strongroom_hsm::protocol::Moment;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body, service::Routes};
use tower::Service as _;
use tracing::Instrument as _;
use uuid::Uuid;

use super::{errors, identity::IdentityError, kept::Kept, listener::Answers, stream::Terms};
use crate::{
    bearer::{
        BearerError, Bearers,
        issued::{DISCOVERY_PATH, KEYS_PATH},
    },
    model::{Identity, Lease, Origin},
    observe::{
        metrics::{REQUEST_SECONDS, REQUESTS, REQUESTS_UNDER_WAY},
        trace::{Trace, Tracer},
    },
    service::{
        Caller, InForce, Problem, Traffic,
        shares::{Share, Shares},
    },
};

/// The method that does many operations at once.
pub(super) const BATCH: &str = "/strongroom.v1.Crypto/Batch";
/// The method that does operations as they come.
const STREAM: &str = "/strongroom.v1.Crypto/Stream";
/// The method that gives records of the audit log as they come.
const RECORDS: &str = "/strongroom.v1.AuditLog/StreamAuditRecords";
/// The method that tells of events as they come.
const EVENTS: &str = "/strongroom.v1.Events/WatchEvents";
const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";
/// What is answered to everybody: with nothing that says who asks, and to a certificate that says nobody.
const PUBLIC: [&str; 3] = [HEALTH_CHECK, DISCOVERY_PATH, KEYS_PATH];
/// How long after its deadline a request is given up. The lanes and the door end it at its deadline; this
/// is for what does not listen to deadlines, a body that never comes for one.
pub(crate) const LATE: Duration = Duration::from_millis(250);
/// The most requests of nobody at once, and how long each may take.
const LOBBY_MAX: usize = 32;
const LOBBY_WITHIN: Duration = Duration::from_secs(2);
/// How many requests a batch counts for, and a stream with anything under way: each may hold 4 MiB, a request 1.
const BULK_PLACES: usize = 4;
/// The places that are kept for administrators beside those for everybody.
const RESERVE_MAX: usize = 16;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What carries a key in one piece: up to 2 MiB, twice in memory.
const BACKUP: &str = "/strongroom.v1.Keys/BackupKey";
const RESTORE: &str = "/strongroom.v1.Keys/RestoreKey";
const BACKUP_SECRET: &str = "/strongroom.v1.Secrets/BackupSecret";
const RESTORE_SECRET: &str = "/strongroom.v1.Secrets/RestoreSecret";
/// How the names of methods of keys begin, whose requests may be longer: a backup is one.
const KEYS: &str = "strongroom.v1.Keys/";
/// The same of secrets.
const SECRETS: &str = "strongroom.v1.Secrets/";

/// The methods, as metrics and logs name them. Others are `other`: callers do not make labels.
const METHODS: [&str; 93] = [
    "/strongroom.v1.Crypto/Sign",
    "/strongroom.v1.Crypto/Verify",
    "/strongroom.v1.Crypto/Encrypt",
    "/strongroom.v1.Crypto/Decrypt",
    "/strongroom.v1.Crypto/WrapKey",
    "/strongroom.v1.Crypto/UnwrapKey",
    "/strongroom.v1.Crypto/GenerateDataKey",
    "/strongroom.v1.Crypto/GenerateDataKeyWithoutPlaintext",
    "/strongroom.v1.Crypto/ReEncrypt",
    "/strongroom.v1.Crypto/RewrapKey",
    "/strongroom.v1.Crypto/GenerateRandomBytes",
    BATCH,
    STREAM,
    "/strongroom.v1.Keys/CreateKey",
    "/strongroom.v1.Keys/ImportKey",
    "/strongroom.v1.Keys/RotateKey",
    "/strongroom.v1.Keys/GetKey",
    "/strongroom.v1.Keys/ListKeys",
    "/strongroom.v1.Keys/ListKeyVersions",
    "/strongroom.v1.Keys/GetPublicKeys",
    "/strongroom.v1.Keys/UpdateKeyVersion",
    "/strongroom.v1.Keys/DeleteKey",
    "/strongroom.v1.Keys/UndeleteKey",
    "/strongroom.v1.Keys/DeleteKeyVersion",
    "/strongroom.v1.Keys/UndeleteKeyVersion",
    "/strongroom.v1.Keys/PurgeKey",
    BACKUP,
    RESTORE,
    "/strongroom.v1.Keys/MoveKey",
    "/strongroom.v1.Secrets/SetSecret",
    "/strongroom.v1.Secrets/GetSecret",
    "/strongroom.v1.Secrets/GetSecretValue",
    "/strongroom.v1.Secrets/ListSecrets",
    "/strongroom.v1.Secrets/ListSecretVersions",
    "/strongroom.v1.Secrets/UpdateSecretVersion",
    "/strongroom.v1.Secrets/DeleteSecret",
    "/strongroom.v1.Secrets/UndeleteSecret",
    "/strongroom.v1.Secrets/PurgeSecret",
    BACKUP_SECRET,
    RESTORE_SECRET,
    EVENTS,
    "/strongroom.v1.Events/ListWebhooks",
    "/strongroom.v1.Events/ListDeadLetters",
    "/strongroom.v1.Events/ReplayDeadLetters",
    "/strongroom.v1.Rotations/GetRotationPolicy",
    "/strongroom.v1.Rotations/UpdateRotationPolicy",
    "/strongroom.v1.Rotations/ListRotations",
    "/strongroom.v1.Vaults/CreateVault",
    "/strongroom.v1.Vaults/GetVault",
    "/strongroom.v1.Vaults/ListVaults",
    "/strongroom.v1.Vaults/UpdateVault",
    "/strongroom.v1.Vaults/DeleteVault",
    "/strongroom.v1.Vaults/UndeleteVault",
    "/strongroom.v1.Vaults/PurgeVault",
    "/strongroom.v1.Vaults/RotateVaultKek",
    "/strongroom.v1.RoleAssignments/CreateRoleAssignment",
    "/strongroom.v1.RoleAssignments/GetRoleAssignment",
    "/strongroom.v1.RoleAssignments/ListRoleAssignments",
    "/strongroom.v1.RoleAssignments/DeleteRoleAssignment",
    "/strongroom.v1.Access/ExplainAccess",
    "/strongroom.v1.Access/ListPermittedPrincipals",
    "/strongroom.v1.Access/PreviewAccess",
    "/strongroom.v1.Replicas/ListReplicas",
    "/strongroom.v1.Backups/CreateBackup",
    "/strongroom.v1.Backups/ListBackups",
    "/strongroom.v1.Tokens/CreateToken",
    "/strongroom.v1.Tokens/GetToken",
    "/strongroom.v1.Tokens/ListTokens",
    "/strongroom.v1.Tokens/RevokeToken",
    "/strongroom.v1.OwnKeys/GetOwnKeys",
    "/strongroom.v1.OwnKeys/RotateIssuerKey",
    "/strongroom.v1.OwnKeys/RotateRoot",
    "/strongroom.v1.OwnKeys/RotateLogKey",
    DISCOVERY_PATH,
    KEYS_PATH,
    "/strongroom.v1.RoleDefinitions/CreateRoleDefinition",
    "/strongroom.v1.RoleDefinitions/GetRoleDefinition",
    "/strongroom.v1.RoleDefinitions/ListRoleDefinitions",
    "/strongroom.v1.RoleDefinitions/UpdateRoleDefinition",
    "/strongroom.v1.RoleDefinitions/DeleteRoleDefinition",
    "/strongroom.v1.AccessPolicies/SetAccessPolicy",
    "/strongroom.v1.AccessPolicies/ListAccessPolicies",
    "/strongroom.v1.AccessPolicies/DeleteAccessPolicy",
    "/strongroom.v1.AuditLog/ListAuditRecords",
    "/strongroom.v1.AuditLog/GetAuditRecord",
    RECORDS,
    "/strongroom.v1.AuditLog/ListAuditUses",
    "/strongroom.v1.AuditLog/GetAuditCheckpoint",
    "/strongroom.v1.AuditLog/GetAuditReceipt",
    HEALTH_CHECK,
    "/grpc.health.v1.Health/Watch",
    "/grpc.health.v1.Health/List",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
];

fn label(path: &str) -> &'static str {
    METHODS.iter().find(|method| **method == path).map_or("other", |method| &method[1..])
}

/// What an operator allows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most requests at once. Batches and streams have half of it at most.
    pub requests_max: usize,
    /// The deadline of a request that has none.
    pub deadline_default: Duration,
    /// The longest deadline.
    pub deadline_max: Duration,
}

/// The other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address, as records show it.
    pub source: String,
    /// Its address, as network rules see it.
    pub origin: Origin,
    /// Who it is, by its certificate or by what the kernel says.
    pub identity: Result<Arc<Identity>, IdentityError>,
    /// Its connection is to end: what would go on for ever is to end by itself.
    pub leaving: CancellationToken,
    /// Cancelled once a token has said who it is: then its connection is like that of others.
    pub introduced: CancellationToken,
}

impl Peer {
    /// The peer at that address. An IPv4 address is one, also where an IPv6 socket has taken it.
    #[must_use]
    pub fn new(address: SocketAddr, identity: Result<Arc<Identity>, IdentityError>) -> Self {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let (source, origin) = (address.to_string(), Origin::Address(address.ip()));
        let (leaving, introduced) = (CancellationToken::new(), CancellationToken::new());
        Self { source, origin, identity, leaving, introduced }
    }

    /// The peer at that address, of which a proxy says so.
    #[must_use]
    pub fn beyond(address: SocketAddr, proxy: IpAddr, identity: Result<Arc<Identity>, IdentityError>) -> Self {
        let peer = Self::new(address, identity);
        Self { source: format!("{} via {}", peer.source, proxy.to_canonical()), ..peer }
    }

    /// A peer on this machine, by the Unix socket.
    #[must_use]
    pub fn local(source: String, identity: Result<Arc<Identity>, IdentityError>) -> Self {
        let (leaving, introduced) = (CancellationToken::new(), CancellationToken::new());
        Self { source, origin: Origin::Local, identity, leaving, introduced }
    }
}

/// Comes when a lease holds no more, by its time or because it was ended.
pub(super) async fn over(lease: Lease) {
    let last = async {
        match lease.last_moment() {
            Some(moment) => sleep(moment.since(Moment::now())).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = lease.ended() => {}
        () = last => {}
    }
}

/// Room for requests under way. Callers share it, so that none floods it.
#[derive(Clone)]
pub(crate) struct Room {
    all: Shares,
    /// What batches and streams may have of it.
    bulk: Shares,
    /// What one of them takes.
    weight: usize,
    /// For administrators who find no other: they come to end what floods.
    reserve: Arc<Semaphore>,
    administers: Administers,
}

/// Whether somebody holds a right by which a flood can be ended.
pub type Administers = Arc<dyn Fn(&Identity) -> bool + Send + Sync>;

/// The place of a request, or of a stream with anything under way. Dropping it gives it back.
pub(crate) struct Place {
    _all: Option<Share>,
    _bulk: Option<Share>,
    _reserved: Option<OwnedSemaphorePermit>,
}

impl Room {
    fn new(requests_max: usize, administers: Administers) -> Self {
        let bulk_max = (requests_max / 2).max(1);
        Self {
            all: Shares::new(requests_max),
            bulk: Shares::new(bulk_max),
            weight: bulk_max.min(BULK_PLACES),
            reserve: Arc::new(Semaphore::new(RESERVE_MAX)),
            administers,
        }
    }

    /// A place for one request, if there is one.
    pub(crate) fn place(&self, identity: &Identity) -> Option<Place> {
        if let Some(all) = self.all.take(identity.tenant(), 1) {
            return Some(Place { _all: Some(all), _bulk: None, _reserved: None });
        }
        // Asked only where there is no room: the others are not kept waiting for it.
        let reserved = (self.administers)(identity).then(|| Arc::clone(&self.reserve).try_acquire_owned().ok());
        Some(Place { _all: None, _bulk: None, _reserved: Some(reserved??) })
    }

    /// A place for a batch or stream, if there is one.
    pub(crate) fn bulk_place(&self, identity: &Identity) -> Option<Place> {
        let bulk = self.bulk.take(identity.tenant(), self.weight)?;
        let all = self.all.take(identity.tenant(), self.weight)?;
        Some(Place { _all: Some(all), _bulk: Some(bulk), _reserved: None })
    }
}

/// All routes, behind one admission.
pub struct Front {
    routes: Routes,
    room: Room,
    /// The room of nobody: they cannot take that of the others.
    lobby: Arc<Semaphore>,
    limits: Limits,
    bearers: Arc<Bearers>,
    /// Tells streams that the server ends.
    ending: CancellationToken,
    /// Follows some requests, where an operator wants that.
    tracer: Option<Arc<Tracer>>,
}

impl Front {
    /// Stands before `routes`.
    #[must_use]
    pub fn new(routes: Routes, limits: Limits, administers: Administers, bearers: Arc<Bearers>) -> Self {
        let (room, lobby) = (Room::new(limits.requests_max, administers), Arc::new(Semaphore::new(LOBBY_MAX)));
        Self { routes, room, lobby, limits, bearers, ending: CancellationToken::new(), tracer: None }
    }

    /// Its room, for another face: all faces share it.
    pub(crate) fn room(&self) -> Room {
        self.room.clone()
    }

    /// Lets some requests be followed.
    #[must_use]
    pub fn traced(mut self, tracer: Option<Arc<Tracer>>) -> Self {
        self.tracer = tracer;
        self
    }

    /// Who asks: by the token, if there is one, else by the certificate. The token goes no further.
    async fn identify(&self, peer: &Peer, headers: &mut HeaderMap) -> Result<Arc<Identity>, Stranger> {
        let mut sent = headers.get_all(AUTHORIZATION).iter();
        let token = match (sent.next(), sent.next()) {
            (None, _) => return peer.identity.clone().map_err(Stranger::Nobody),
            (Some(_), Some(_)) => Err(BearerError::Malformed("there are several authorization headers")),
            (Some(header), None) => bearer(header).ok_or(BearerError::Malformed("authorization is not Bearer TOKEN")),
        };
        let identity = match token {
            Ok(token) => self.bearers.identify(token, peer.origin).await,
            Err(error) => Err(error),
        };
        headers.remove(AUTHORIZATION);
        let identity = identity.map_err(Stranger::Refused)?;
        peer.introduced.cancel();
        Ok(identity)
    }

    async fn admit(
        &self,
        peer: &Peer,
        (id, uuid): (&str, Uuid),
        mut request: http::Request<Body>,
        trace: &mut Trace,
    ) -> Result<(http::Response<Body>, Option<Place>), Status> {
        let asked = asked(request.headers(), id)?;
        let mut deadline = asked.map_or(self.limits.deadline_default, |asked| asked.min(self.limits.deadline_max));
        let mut visit = None;
        match self.identify(peer, request.headers_mut()).await {
            Ok(identity) if !identity.holds() => return Err(errors::identity_over(id)),
            Ok(identity) => {
                // Only who is known is followed: nobody else can make work by asking.
                if let Some(tracer) = &self.tracer {
                    *trace = tracer.begin(uuid, request.headers());
                }
                request.extensions_mut().insert(Caller {
                    identity,
                    origin: peer.origin,
                    source: peer.source.clone(),
                    request: id.to_owned(),
                    deadline: Moment::now().after(deadline),
                    traffic: Traffic::Single,
                    in_force: InForce::default(),
                    trace: trace.clone(),
                });
            }
            Err(Stranger::Nobody(_)) if PUBLIC.contains(&request.uri().path()) => {
                visit = Some(self.lobby.try_acquire().map_err(|_| no_room(id))?);
                deadline = deadline.min(LOBBY_WITHIN);
            }
            Err(stranger) => {
                tracing::debug!(source = peer.source, error = %stranger, "a peer without an identity was refused");
                return Err(stranger.status(id));
            }
        }
        if [STREAM, RECORDS, EVENTS].contains(&request.uri().path()) {
            request.extensions_mut().insert(self.terms(peer, asked));
        }
        let known = request.extensions().get::<Caller>().map(|caller| Arc::clone(&caller.identity));
        let (one, place) = self.place(known.as_ref(), request.uri().path()).ok_or_else(|| no_room(id))?;
        // A clone of the routes is a few counters; each call needs one of its own.
        let mut routes = self.routes.clone();
        let answered = timeout(deadline + LATE, routes.call(request)).await;
        drop((one, visit));
        match answered {
            Ok(Ok(response)) => Ok((response, place)),
            Ok(Err(never)) => match never {},
            Err(_) => Err(errors::of_problem(&Problem::DeadlineExceeded, id)),
        }
    }

    /// The place of a request, until it is answered; and that of a batch, until its answer has been read.
    fn place(&self, identity: Option<&Arc<Identity>>, path: &str) -> Option<(Option<Place>, Option<Place>)> {
        match (identity, path) {
            // It takes its place when it has something to do.
            (Some(_), STREAM) => Some((None, None)),
            (Some(identity), BATCH) => Some((None, Some(self.room.bulk_place(identity)?))),
            (Some(identity), BACKUP | RESTORE | BACKUP_SECRET | RESTORE_SECRET) => {
                Some((Some(self.room.bulk_place(identity)?), None))
            }
            (Some(identity), _) => Some((Some(self.room.place(identity)?), None)),
            // It is in the lobby.
            (None, _) => Some((None, None)),
        }
    }

    /// What a stream is allowed that was asked for with this deadline.
    fn terms(&self, peer: &Peer, asked: Option<Duration>) -> Terms {
        Terms {
            within: self.limits.deadline_default,
            deadline: asked.map(|asked| Moment::now().after(asked)),
            ending: self.ending.clone(),
            leaving: peer.leaving.clone(),
            room: self.room.clone(),
        }
    }
}

/// Somebody who is nobody.
#[derive(Debug, thiserror::Error)]
enum Stranger {
    /// Nothing says who it is, or the certificate does not.
    #[error(transparent)]
    Nobody(IdentityError),
    /// Its token is not believed.
    #[error(transparent)]
    Refused(BearerError),
}

impl Stranger {
    fn status(&self, id: &str) -> Status {
        match self {
            Self::Nobody(error) => {
                let message = format!("{error}; a bearer token would do too");
                errors::refusal(Code::Unauthenticated, "UNAUTHENTICATED", message, id)
            }
            Self::Refused(error) => errors::of_bearer(error, id),
        }
    }
}

/// The token of an `authorization` header (RFC 6750 section 2.1). The scheme has no case (RFC 9110 section 11.1).
pub(crate) fn bearer(header: &HeaderValue) -> Option<&str> {
    let (scheme, token) = header.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

impl Answers for Front {
    async fn answer(&self, peer: &Peer, request: http::Request<Body>) -> Result<http::Response<Body>, Infallible> {
        let method = label(request.uri().path());
        let uuid = Uuid::new_v4();
        let id = uuid.to_string();
        let mut ticket = Ticket::new(method);
        let span = tracing::info_span!("grpc", request = id, method);
        let keeps = [BATCH, STREAM, RECORDS, EVENTS].contains(&request.uri().path());
        let answered = self.admit(peer, (&id, uuid), request, &mut ticket.trace).instrument(span).await;
        let (mut response, place) = answered.unwrap_or_else(|status| (status.into_http(), None));
        own(&mut response, method, &id);
        if let Ok(id) = HeaderValue::try_from(id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        match code(response.headers()) {
            Code::Ok if keeps => Ok(response.map(|body| Body::new(Kept::new(body, ticket, place)))),
            code => {
                ticket.end(code);
                Ok(response)
            }
        }
    }

    /// Lets streams end: each answers what it has under way and reads no more.
    fn end(&self) {
        self.ending.cancel();
    }
}

fn no_room(id: &str) -> Status {
    let message = "too many requests at the moment: try again in a second";
    errors::refusal(Code::ResourceExhausted, "OVERLOADED", message, id)
}

/// The deadline that a request asks for, if it does.
fn asked(headers: &HeaderMap, id: &str) -> Result<Option<Duration>, Status> {
    let Some(header) = headers.get("grpc-timeout") else { return Ok(None) };
    match header.to_str().ok().and_then(grpc_timeout) {
        Some(asked) => Ok(Some(asked)),
        None => {
            let message = "the header grpc-timeout is not 1 to 8 digits and one of H, M, S, m, u, n";
            Err(errors::refusal(Code::InvalidArgument, "MALFORMED_REQUEST", message, id))
        }
    }
}

/// `grpc-timeout` (gRPC over HTTP/2, "Timeout"): at most 8 digits and a unit.
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Replaces what tonic says of a message that it could not read: INTERNAL would be our fault, and is not.
/// Every error of ours has details, tonic's have none.
fn own(response: &mut http::Response<Body>, method: &str, id: &str) {
    let code = code(response.headers());
    if response.headers().contains_key("grpc-status-details-bin") {
        return;
    }
    let (reason, message) = match code {
        Code::Internal => ("MALFORMED_REQUEST", "the request is not a message of this method"),
        Code::OutOfRange if method == &BATCH[1..] => ("REQUEST_TOO_LARGE", "the batch is longer than 4 MiB"),
        Code::OutOfRange if method.starts_with(KEYS) || method.starts_with(SECRETS) => {
            ("REQUEST_TOO_LARGE", "the request is longer than 2 MiB")
        }
        Code::OutOfRange => ("REQUEST_TOO_LARGE", "the request is longer than 1 MiB"),
        _ => return,
    };
    *response = errors::refusal(Code::InvalidArgument, reason, message, id).into_http();
}

/// The code of an answer. A status in the head is an error; that of a success comes in the trailers.
pub(super) fn code(headers: &HeaderMap) -> Code {
    headers.get("grpc-status").map_or(Code::Ok, |status| Code::from_bytes(status.as_bytes()))
}

/// Counts a request, whichever way it ends.
pub(super) struct Ticket {
    method: &'static str,
    began: Moment,
    code: Cell<Code>,
    trace: Trace,
}

impl Ticket {
    fn new(method: &'static str) -> Self {
        metrics::gauge!(REQUESTS_UNDER_WAY).increment(1.0);
        // Until it has ended otherwise, its caller has gone away.
        Self { method, began: Moment::now(), code: Cell::new(Code::Cancelled), trace: Trace::default() }
    }

    /// It has ended so.
    pub(super) fn end(self, code: Code) {
        self.code.set(code);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let took = Moment::now().since(self.began);
        metrics::gauge!(REQUESTS_UNDER_WAY).decrement(1.0);
        metrics::counter!(REQUESTS, "method" => self.method, "code" => name(self.code.get())).increment(1);
        metrics::histogram!(REQUEST_SECONDS, "method" => self.method).record(took);
        let code = self.code.get();
        self.trace.end(self.method, self.began, code.into(), is_ours(code));
    }
}

/// Whether a server's span with that code is one of an error (OpenTelemetry, semantic conventions of gRPC).
const fn is_ours(code: Code) -> bool {
    use Code::{DataLoss, DeadlineExceeded, Internal, Unavailable, Unimplemented, Unknown};
    matches!(code, Unknown | DeadlineExceeded | Unimplemented | Internal | Unavailable | DataLoss)
}

/// The name of a code, as the gRPC specification writes it.
pub(super) const fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt as _;

    use super::*;
    use crate::{bearer::Issued, model::SystemClock};

    fn front() -> Front {
        let limits = Limits {
            requests_max: 1,
            deadline_default: Duration::from_secs(10),
            deadline_max: Duration::from_secs(60),
        };
        let (_, health) = tonic_health::server::health_reporter();
        let issued = Arc::new(Issued::new("urn:strongroom:test"));
        let bearers = Arc::new(Bearers::new(Vec::new(), issued, Arc::new(SystemClock)));
        Front::new(Routes::new(health).prepare(), limits, administers(), bearers)
    }

    fn administers() -> Administers {
        Arc::new(|identity| identity.principal().as_str() == "spiffe://test.invalid/administrator")
    }

    fn request(path: &str) -> http::Request<Body> {
        let request = http::Request::post(path).header("content-type", "application/grpc");
        request.body(Body::empty()).expect("is one")
    }

    fn stranger() -> Peer {
        Peer::new(([127, 0, 0, 1], 9).into(), Err(IdentityError::NoCertificate))
    }

    fn status(response: &http::Response<Body>) -> Status {
        Status::from_header_map(response.headers()).expect("is an error")
    }

    #[tokio::test]
    async fn without_an_identity_only_what_is_public_is_answered() {
        let front = front();
        for path in METHODS.into_iter().chain(["/grpc.health.v1.Health/check", "/"]) {
            let Ok(response) = front.answer(&stranger(), request(path)).await;
            let refused = code(response.headers()) == Code::Unauthenticated;
            assert_eq!(refused, !PUBLIC.contains(&path), "{path}");
            let id = response.headers().get("x-request-id").expect("always there").to_str().expect("text").to_owned();
            if refused {
                let details = status(&response).get_error_details();
                assert_eq!(details.request_info().map(|info| info.request_id.clone()), Some(id));
            }
        }
    }

    fn bearing(path: &str, values: &[&'static str]) -> http::Request<Body> {
        let mut request = request(path);
        for value in values {
            request.headers_mut().append(AUTHORIZATION, HeaderValue::from_static(value));
        }
        request
    }

    #[tokio::test]
    async fn a_token_that_is_not_believed_is_refused_whatever_the_certificate() {
        let front = front();
        let wrong: [&[&str]; 6] =
            [&["Bearer x.y.z"], &["Basic eA=="], &["Bearer"], &[""], &["bearer a.b.c"], &["Bearer a", "Bearer b"]];
        for values in wrong {
            for peer in [known(), stranger()] {
                let Ok(response) = front.answer(&peer, bearing(HEALTH_CHECK, values)).await;
                let status = status(&response);
                let reason = status.get_details_error_info().map(|info| info.reason);
                assert_eq!((status.code(), reason.as_deref()), (Code::Unauthenticated, Some("TOKEN_MALFORMED")));
                assert!(!peer.introduced.is_cancelled());
            }
        }
    }

    #[test]
    fn the_scheme_of_a_token_has_no_case() {
        for header in ["Bearer a.b.c", "bearer a.b.c", "BEARER a.b.c"] {
            assert_eq!(bearer(&HeaderValue::from_static(header)), Some("a.b.c"));
        }
        for header in ["Bearera.b.c", "a.b.c", "Basic a", "Bearer\ta"] {
            assert_eq!(bearer(&HeaderValue::from_static(header)), None, "{header}");
        }
    }

    #[tokio::test]
    async fn a_message_that_cannot_be_read_is_the_callers_fault() {
        let Ok(response) = front().answer(&stranger(), request(HEALTH_CHECK)).await;
        assert_eq!(code(response.headers()), Code::InvalidArgument);
        let reason = status(&response).get_error_details().error_info().map(|info| info.reason.clone());
        assert_eq!(reason.as_deref(), Some("MALFORMED_REQUEST"));
    }

    fn somebody(name: &str) -> Identity {
        Identity::alone(format!("spiffe://test.invalid/{name}").parse().expect("a principal"))
    }

    fn peer(name: &str) -> Peer {
        Peer::new(([127, 0, 0, 1], 9).into(), Ok(Arc::new(somebody(name))))
    }

    fn known() -> Peer {
        peer("known")
    }

    #[tokio::test]
    async fn without_room_a_caller_is_told_when_to_come_back() {
        let front = front();
        let _taken = front.room.place(&somebody("else")).expect("there is room for one");
        let Ok(response) = front.answer(&known(), request(HEALTH_CHECK)).await;
        assert_eq!(code(response.headers()), Code::ResourceExhausted);
        assert!(status(&response).get_error_details().retry_info().is_some());
    }

    #[tokio::test]
    async fn administrators_find_room_where_nobody_else_does() {
        let front = front();
        let taken = front.room.place(&somebody("else")).expect("there is room for one");
        let Ok(served) = front.answer(&peer("administrator"), request(HEALTH_CHECK)).await;
        assert_ne!(code(served.headers()), Code::ResourceExhausted);
        let reserved: Vec<Place> = std::iter::from_fn(|| front.room.place(&somebody("administrator"))).collect();
        assert_eq!(reserved.len(), RESERVE_MAX, "the reserve is bounded too, and a place comes back to it");
        drop(taken);
        assert!(front.room.place(&somebody("known")).is_some(), "nobody else's place was taken for it");
    }

    #[test]
    fn who_floods_the_room_leaves_a_place_to_who_comes_quietly() {
        let room = Room::new(1024, administers());
        let noisy: Vec<Place> = std::iter::from_fn(|| room.place(&somebody("noisy"))).collect();
        assert_eq!(noisy.len(), 960);
        let quiet = room.bulk_place(&somebody("quiet"));
        assert!(quiet.is_some() && room.place(&somebody("third")).is_some());
    }

    #[tokio::test]
    async fn strangers_and_known_peers_do_not_take_each_others_room() {
        let front = front();
        let strangers = u32::try_from(LOBBY_MAX).expect("a small number");
        let _taken = front.lobby.try_acquire_many(strangers).expect("nobody is in it");
        let Ok(refused) = front.answer(&stranger(), request(HEALTH_CHECK)).await;
        assert_eq!(code(refused.headers()), Code::ResourceExhausted);
        let Ok(served) = front.answer(&known(), request(HEALTH_CHECK)).await;
        assert_ne!(code(served.headers()), Code::ResourceExhausted);
    }

    #[tokio::test]
    async fn an_identity_that_was_taken_back_is_answered_no_more() {
        let front = front();
        let peer = known();
        peer.identity.as_ref().expect("known").lease().end();
        let Ok(refused) = front.answer(&peer, request(HEALTH_CHECK)).await;
        assert_eq!(code(refused.headers()), Code::Unauthenticated);
        assert_eq!(
            status(&refused).get_error_details().error_info().map(|info| info.reason.clone()).as_deref(),
            Some("UNAUTHENTICATED")
        );
    }

    #[test]
    fn an_ipv4_address_is_one_behind_an_ipv6_socket_too() {
        let peer = Peer::new("[::ffff:192.0.2.7]:5".parse().expect("an address"), Err(IdentityError::NoCertificate));
        assert_eq!(peer.origin, Origin::Address([192, 0, 2, 7].into()));
        assert_eq!(peer.source, "192.0.2.7:5");
    }

    #[test]
    fn timeouts_are_read_and_cut() {
        assert_eq!(grpc_timeout("1n"), Some(Duration::from_nanos(1)));
        assert_eq!(grpc_timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for wrong in ["", "1", "S", "1s", "123456789S", "-1S", "+1S", "1.5S", "é", "1é"] {
            assert_eq!(grpc_timeout(wrong), None, "{wrong}");
        }
        let mut headers = HeaderMap::new();
        assert_eq!(asked(&headers, "r").expect("none is said"), None);
        headers.insert("grpc-timeout", HeaderValue::from_static("2H"));
        assert_eq!(asked(&headers, "r").expect("is read"), Some(Duration::from_secs(7200)));
        headers.insert("grpc-timeout", HeaderValue::from_static("soon"));
        assert!(asked(&headers, "r").is_err());
    }

    #[test]
    fn batches_and_streams_leave_half_of_the_room_to_others() {
        let room = Room::new(100, administers());
        let one = somebody("one");
        let places: Vec<Place> = std::iter::from_fn(|| room.bulk_place(&one)).collect();
        assert_eq!(places.len(), 11, "of four each, and three kept for who comes anew");
        let bulk_of_two = room.bulk_place(&somebody("two"));
        assert!(bulk_of_two.is_some() && room.bulk_place(&somebody("three")).is_none());
        assert_eq!(room.all.free(), 52);
        drop((places, bulk_of_two));
        let taken: Vec<_> = ["one", "two"].map(|name| fill(&room, name)).into_iter().flatten().collect();
        assert_eq!(taken.len(), 100, "without them others have all of it");
        assert!(room.bulk_place(&one).is_none());
        drop(taken);
        assert!(room.bulk_place(&one).is_some(), "a place that was refused has taken nothing");
        assert!(Room::new(1, administers()).bulk_place(&one).is_some());
    }

    fn fill(room: &Room, name: &str) -> Vec<Place> {
        std::iter::from_fn(|| room.place(&somebody(name))).collect()
    }

    #[tokio::test]
    async fn a_batch_that_finds_no_room_is_told_when_to_come_back() {
        let front = front();
        let taken = front.room.bulk_place(&somebody("else")).expect("nobody is in it");
        let Ok(refused) = front.answer(&known(), request(BATCH)).await;
        assert_eq!(code(refused.headers()), Code::ResourceExhausted);
        assert!(status(&refused).get_error_details().retry_info().is_some());
        drop(taken);
        let Ok(served) = front.answer(&known(), request(BATCH)).await;
        assert_ne!(code(served.headers()), Code::ResourceExhausted);
        assert!(front.room.bulk_place(&somebody("else")).is_some(), "it gives its place back");
    }

    #[test]
    fn every_method_of_the_contract_has_a_label() {
        let set = <prost_types::FileDescriptorSet as prost::Message>::decode(strongroom_proto::DESCRIPTORS);
        let set = set.expect("compiled in");
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    assert_ne!(label(&path), "other", "{path}");
                }
            }
        }
        assert_eq!(label("/strongroom.v1.Keys/../x"), "other");
    }

    #[test]
    fn the_client_knows_of_every_method_whether_it_may_be_repeated() {
        let ours = METHODS.iter().filter(|path| path.starts_with("/strongroom.v1."));
        for path in ours.clone() {
            assert!(strongroom_client::repetition(path).is_some(), "{path}");
        }
        assert_eq!(ours.count(), strongroom_client::METHODS.len());
    }
}
