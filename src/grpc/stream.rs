//! `strongroom.v1.Crypto/Stream`: operations as they come, answered as they are ready.
//!
//! A conversation is the stream of its answers. Whoever takes an answer drives it: while there is room it reads
//! messages and begins them; each runs by itself, as if it had been called alone. A reader that is slow drives it
//! slowly, and then nothing more is read. One that goes away drops it, and all that is under way is withdrawn. So it
//! is when what its caller authenticated with holds no more: then it ends at once, whatever is under way.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::stream::FuturesUnordered;
use prost::Message as _;
use strongroom_hsm::protocol::Moment;
use strongroom_proto::v1::{OperationResponse, StreamRequest, StreamResponse};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status, Streaming};

use super::{
    batch::{Ends, failed, label},
    crypto, errors,
    front::{Place, Room, over},
};
use crate::service::{Caller, Problem, Service, Traffic};

/// The most operations of one stream under way.
const OPERATIONS_MAX: usize = 256;
/// Their most bytes, not counting the last that was read.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// When a client may try again that found no room.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What the front allows a stream.
#[derive(Clone)]
pub(super) struct Terms {
    /// How long each operation may take.
    pub(super) within: Duration,
    /// When the stream ends, if its caller said so.
    pub(super) deadline: Option<Moment>,
    /// When the server ends.
    pub(super) ending: CancellationToken,
    /// When the connection is to end.
    pub(super) leaving: CancellationToken,
    /// Where operations have their place.
    pub(super) room: Room,
}

/// An operation under way: how many bytes it has, and its answer.
type UnderWay = Pin<Box<dyn Future<Output = (usize, StreamResponse)> + Send>>;

/// The answers of one stream.
pub(super) struct Conversation {
    service: Arc<Service>,
    /// Who asks; each operation has a request id and a deadline of its own.
    caller: Caller,
    terms: Terms,
    /// Until nothing more is to be read.
    incoming: Option<Streaming<StreamRequest>>,
    under_way: FuturesUnordered<UnderWay>,
    bytes: usize,
    /// Taken while anything is under way.
    place: Option<Place>,
    /// Ends it before its caller does.
    end: Pin<Box<dyn Future<Output = End> + Send>>,
    /// Comes when its caller's identity holds no more; until it has come.
    over: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// What it ends with, if not well.
    last: Option<Status>,
}

/// Why a stream ends before its caller ends it.
pub(super) enum End {
    /// The server ends.
    Server,
    /// The connection has had its time.
    Connection,
    /// The caller's deadline.
    Deadline,
}

impl Conversation {
    /// Begins. Nothing is read before the first answer is asked for.
    pub(super) fn open(service: &Arc<Service>, request: Request<Streaming<StreamRequest>>) -> Result<Self, Status> {
        let (_, mut extensions, incoming) = request.into_parts();
        // The front puts them there; a route that it does not stand before must not be served.
        let caller = extensions.remove::<Caller>().zip(extensions.remove::<Terms>());
        let (caller, terms) = caller.ok_or_else(|| errors::of_problem(&Problem::Internal, ""))?;
        Ok(Self {
            service: Arc::clone(service),
            end: Box::pin(end(terms.clone())),
            over: Some(Box::pin(over(caller.identity.lease().clone()))),
            caller: Caller { traffic: Traffic::Bulk, ..caller },
            terms,
            incoming: Some(incoming),
            under_way: FuturesUnordered::new(),
            bytes: 0,
            place: None,
            last: None,
        })
    }

    /// Reads and begins what there is, while there is room.
    fn read(&mut self, cx: &mut Context<'_>) {
        if self.incoming.is_some()
            && let Poll::Ready(end) = self.end.as_mut().poll(cx)
        {
            let request = &self.caller.request;
            return self.finish(Some(match end {
                End::Server => {
                    let message = "the server ends: what was answered is done; send the rest again";
                    errors::refusal(Code::Unavailable, "ENDING", message, request)
                }
                End::Connection => {
                    let message = "this connection has had its time: what was answered is done; send the rest again";
                    errors::refusal(Code::Unavailable, "ENDING", message, request)
                }
                End::Deadline => errors::of_problem(&Problem::DeadlineExceeded, request),
            }));
        }
        while self.under_way.len() < OPERATIONS_MAX
            && self.bytes < BYTES_MAX
            && let Some(incoming) = &mut self.incoming
        {
            match Pin::new(incoming).poll_next(cx) {
                Poll::Ready(Some(Ok(message))) => self.begin(message),
                Poll::Ready(Some(Err(status))) => {
                    let last = unreadable(&status, &self.caller.request);
                    self.finish(Some(last));
                }
                Poll::Ready(None) => self.finish(None),
                Poll::Pending => return,
            }
        }
    }

    /// Nothing more is read.
    fn finish(&mut self, last: Option<Status>) {
        self.incoming = None;
        self.last = last;
    }

    /// Ends at once: withdraws what is under way. What is computed already is not told any more.
    fn cut(&mut self) -> Status {
        (self.over, self.incoming, self.last) = (None, None, None);
        self.under_way.clear();
        (self.bytes, self.place) = (0, None);
        errors::identity_over(&self.caller.request)
    }

    fn begin(&mut self, message: StreamRequest) {
        if self.place.is_none() {
            self.place = self.terms.room.bulk_place(&self.caller.identity);
        }
        let has_place = self.place.is_some();
        let bytes = message.encoded_len();
        self.bytes += bytes;
        let StreamRequest { id, operation } = message;
        let deadline = Moment::now().after(self.terms.within);
        let caller = Caller {
            request: format!("{}.{id}", self.caller.request),
            deadline: self.terms.deadline.map_or(deadline, |end| end.min(deadline)),
            trace: self.caller.trace.message(),
            ..self.caller.clone()
        };
        let service = Arc::clone(&self.service);
        self.under_way.push(Box::pin(async move {
            let operation = operation.unwrap_or_default();
            let mut ends = Ends::default();
            let label = label(&operation);
            let result = if has_place {
                crypto::operate(&service, &caller, operation).await
            } else {
                Err(Problem::Overloaded { retry_after: RETRY_AFTER }.into())
            };
            let result = result.unwrap_or_else(|error| failed(&error, &caller.request));
            ends.note(label, &result);
            ends.count("stream");
            (bytes, StreamResponse { id, result: Some(OperationResponse { result: Some(result) }) })
        }));
    }
}

/// Comes when the server ends, or the stream's deadline.
pub(super) async fn end(terms: Terms) -> End {
    let late = async {
        match terms.deadline {
            Some(deadline) => tokio::time::sleep(deadline.since(Moment::now())).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = terms.ending.cancelled() => End::Server,
        () = terms.leaving.cancelled() => End::Connection,
        () = late => End::Deadline,
    }
}

/// What tonic says of a message that it could not read, in our words.
fn unreadable(status: &Status, request: &str) -> Status {
    let (reason, message) = match status.code() {
        Code::OutOfRange => ("REQUEST_TOO_LARGE", "a message of the stream is longer than 1 MiB"),
        _ => ("MALFORMED_REQUEST", "what was sent is not a message of this stream"),
    };
    errors::refusal(Code::InvalidArgument, reason, message, request)
}

impl Stream for Conversation {
    type Item = Result<StreamResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Some(over) = &mut this.over
            && over.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Some(Err(this.cut())));
        }
        this.read(cx);
        match Pin::new(&mut this.under_way).poll_next(cx) {
            Poll::Ready(Some((bytes, answer))) => {
                this.bytes -= bytes;
                if this.under_way.is_empty() {
                    this.place = None;
                }
                Poll::Ready(Some(Ok(answer)))
            }
            Poll::Ready(None) if this.incoming.is_none() => Poll::Ready(this.last.take().map(Err)),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}
