//! Traces of requests: where the time of one request in a hundred went, sent to an OpenTelemetry collector.
//!
//! ```text
//! front: strongroom.v1.Crypto/Sign          the request, from its arrival until its answer
//! door:    keys.sign                        the operation: authorised, its rows found
//! pool:      hsm.queue                      in the queue of a lane
//! pool:      hsm.worker                     from the packet to a worker until its answer
//! log:       audit.append                   until the record is as durable as it must be
//! ```
//!
//! A request that is followed carries a [`Trace`] in its caller; all others carry none, and each place here is one look
//! at an `Option`. These are no spans of the `tracing` crate, which would be made for every request first and thrown
//! away after. What is finished goes into a bounded queue and is sent behind the back of whoever is served
//! ([`export`]); what finds no room is counted and gone.
//!
//! Spans have names of methods, operations, vaults and keys, numbers and times. No field of a request or an answer but
//! those names comes here, nor who asked.

mod calls;
mod export;
mod otlp;
mod parent;
mod span;
#[cfg(test)]
mod tests;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use http::HeaderMap;
use strongroom_hsm::{pool::Watch, protocol::Moment};
use tokio::sync::mpsc;
use uuid::Uuid;

use self::{
    calls::Calls,
    parent::Parent,
    span::{Kind, Span, Value},
};
pub use self::{
    export::{Export, Tracing},
    span::Step,
};
use super::metrics::TRACE_SPANS;
use crate::{access::Where, audit, audit::Durability, model::Scope};

/// How many bits of a request's id decide whether it is followed: the lowest, which are random in a UUID.
const SAMPLE_BITS: u32 = 56;

/// Decides which requests are followed, and takes their spans.
#[derive(Debug)]
pub struct Tracer {
    /// Of 2^56 requests so many.
    followed: u64,
    trust_parent: bool,
    spans: mpsc::Sender<Span>,
}

impl Tracer {
    /// A tracer, and what sends its spans: see [`Export::run`].
    #[must_use]
    pub fn new(tracing: &Tracing, instance: &str) -> (Arc<Self>, Export) {
        let (spans, queue) = mpsc::channel(export::QUEUE_MAX);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 2^56")]
        let followed = (tracing.sample_ratio.clamp(0.0, 1.0) * (1_u64 << SAMPLE_BITS) as f64) as u64;
        let tracer = Arc::new(Self { followed, trust_parent: tracing.trust_parent, spans });
        (tracer, Export::new(tracing, instance, queue))
    }

    /// A request has come, and its caller is known: its trace, if it is followed.
    ///
    /// A parent that is trusted decides, and the request is part of its trace. Any other is only linked to: whoever may
    /// call does not decide by that what is traced here.
    #[must_use]
    pub fn begin(self: &Arc<Self>, request: Uuid, headers: &HeaderMap) -> Trace {
        if self.trust_parent
            && let Some(parent) = Parent::of(headers)
        {
            let follow = || self.follow(request, parent.trace, Some(parent.span), None);
            return if parent.sampled { follow() } else { Trace::default() };
        }
        if !self.draws(request) {
            return Trace::default();
        }
        // Where parents are trusted there is none.
        let link = Parent::of(headers).filter(|_| !self.trust_parent);
        self.follow(request, request.as_u128(), None, link)
    }

    fn draws(&self, request: Uuid) -> bool {
        let (_, low) = request.as_u64_pair();
        low & ((1 << SAMPLE_BITS) - 1) < self.followed
    }

    fn follow(self: &Arc<Self>, request: Uuid, id: u128, parent: Option<u64>, link: Option<Parent>) -> Trace {
        let root = span::fresh_id();
        let request = Request { tracer: Arc::clone(self), id, root, parent, link, request, since_1970: span::offset() };
        Trace::at_root(Arc::new(request))
    }

    fn take(&self, span: Span) {
        if self.spans.try_send(span).is_err() {
            metrics::counter!(TRACE_SPANS, "outcome" => "dropped").increment(1);
        }
    }
}

/// A request that is followed.
struct Request {
    tracer: Arc<Tracer>,
    /// The trace.
    id: u128,
    /// The span of the request.
    root: u64,
    /// The caller's span.
    parent: Option<u64>,
    /// The caller's span, where it is not the parent.
    link: Option<Parent>,
    request: Uuid,
    /// What makes the wall's time of a [`Moment`]: one for all spans of a request, so that they lie within each other.
    since_1970: u64,
}

impl Request {
    fn span(&self, parent: u64, name: &'static str, (begin, end): (Moment, Moment)) -> Span {
        let wall = |moment: Moment| moment.0.wrapping_add(self.since_1970);
        Span {
            trace: self.id,
            id: span::fresh_id(),
            parent: Some(parent),
            link: None,
            kind: Kind::Internal,
            name,
            begin_ns: wall(begin),
            end_ns: wall(end).max(wall(begin)),
            attributes: Vec::new(),
            failed: false,
        }
    }
}

/// The trace of a request, or none. It goes where its caller goes.
#[derive(Clone, Default)]
pub struct Trace(Option<Arc<Place>>);

/// Where in its trace a request is.
struct Place {
    request: Arc<Request>,
    /// The span that encloses what begins now.
    current: AtomicU64,
    /// Where the calls of many operations are gathered.
    calls: Option<Arc<Calls>>,
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Trace(followed)" } else { "Trace(none)" })
    }
}

impl Trace {
    fn at_root(request: Arc<Request>) -> Self {
        let current = AtomicU64::new(request.root);
        Self(Some(Arc::new(Place { request, current, calls: None })))
    }

    /// For one message of a stream: messages run side by side, each with its own operation.
    #[must_use]
    pub fn message(&self) -> Self {
        self.0.as_ref().map_or_else(Self::default, |place| Self::at_root(Arc::clone(&place.request)))
    }

    /// The same place, where calls of the HSM are told as one for each lane; nothing when the request is not followed.
    #[must_use]
    pub fn gathering(&self) -> Option<Self> {
        let place = self.0.as_ref()?;
        let parent = place.current.load(Ordering::Relaxed);
        let calls = Some(Arc::new(Calls::new(Arc::clone(&place.request), parent)));
        let current = AtomicU64::new(parent);
        Some(Self(Some(Arc::new(Place { request: Arc::clone(&place.request), current, calls }))))
    }

    /// The request has ended so, by gRPC's name and number of the code.
    pub(crate) fn end(&self, method: &'static str, began: Moment, code: i32, failed: bool) {
        let Some(Place { request, .. }) = self.0.as_deref() else { return };
        let mut span = request.span(request.root, method, (began, Moment::now()));
        (span.id, span.parent, span.link, span.kind) = (request.root, request.parent, request.link, Kind::Server);
        let (service, name) = method.rsplit_once('/').unwrap_or(("", method));
        span.attributes = vec![
            ("rpc.system", Value::from("grpc")),
            ("rpc.service", service.into()),
            ("rpc.method", name.into()),
            ("rpc.grpc.status_code", i64::from(code).into()),
            ("strongroom.request_id", request.request.to_string().into()),
        ];
        span.failed = failed;
        request.tracer.take(span);
    }

    /// A request of the Azure face has ended so.
    pub(crate) fn end_http(&self, operation: &'static str, method: &str, began: Moment, status: u16) {
        let Some(Place { request, .. }) = self.0.as_deref() else { return };
        let mut span = request.span(request.root, operation, (began, Moment::now()));
        (span.id, span.parent, span.link, span.kind) = (request.root, request.parent, request.link, Kind::Server);
        span.attributes = vec![
            ("http.request.method", method.to_owned().into()),
            ("http.response.status_code", i64::from(status).into()),
            ("strongroom.request_id", request.request.to_string().into()),
        ];
        span.failed = status >= 500;
        request.tracer.take(span);
    }

    /// Begins an operation of the service, at that place.
    pub fn operation(&self, name: &'static str, place: &Where, request: &str) -> Step {
        let Some(at) = &self.0 else { return Step::default() };
        let mut attributes =
            vec![("strongroom.operation", name.into()), ("strongroom.request_id", request.to_owned().into())];
        if let Where::At(scope) = place {
            attributes.extend(scope.vault().map(|vault| ("strongroom.vault", vault.as_str().to_owned().into())));
            if let Scope::Object(_, _, object) = scope {
                attributes.push(("strongroom.key", object.as_str().to_owned().into()));
            }
        }
        Step::operation(at, name, attributes)
    }

    /// Begins the append of a record.
    pub fn append(&self, kind: audit::Kind, durability: Durability) -> Step {
        let Some(at) = &self.0 else { return Step::default() };
        let durability = match durability {
            Durability::Write => "write",
            Durability::Fsync => "fsync",
        };
        let attributes =
            vec![("strongroom.audit.kind", kind.name().into()), ("strongroom.audit.durability", durability.into())];
        Step::inner(at, "audit.append", attributes)
    }

    /// Who is to be told of calls of the HSM. What it was told becomes spans when the last holder lets it go.
    #[must_use]
    pub fn calls(&self) -> Option<Arc<dyn Watch>> {
        let place = self.0.as_ref()?;
        if let Some(calls) = &place.calls {
            return Some(Arc::clone(calls) as Arc<dyn Watch>);
        }
        Some(Arc::new(Calls::new(Arc::clone(&place.request), place.current.load(Ordering::Relaxed))))
    }
}
