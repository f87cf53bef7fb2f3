//! One connection, once it is known whose: HTTP/2 or HTTP/1.1 on it, and how it ends.
//!
//! It is asked to end (GOAWAY: no new requests, those that are there go on) when the server stops, when it has had its
//! time, and when its peer's identity holds no more. Whoever does not end then is cut off, after a time that depends on
//! why.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::{HttpService, service_fn},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep},
};
use tonic::body::Body;

use super::{Answers, Options, Shared};
use crate::{
    grpc::front::{Peer, over},
    observe::metrics::CONNECTIONS_ENDED,
};

/// How long a connection lives whose peer stays nobody.
const ANONYMOUS_WITHIN: Duration = Duration::from_secs(60);
/// How long a connection may take to end once its peer is nobody any more. Its streams end at once, and calls that wait
/// are refused when they leave their queue; what was with the HSM already is answered.
const GOODBYE_WITHIN: Duration = Duration::from_secs(5);
/// Longer than a process runs.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86_400);
/// The most requests at once on one connection.
const STREAMS_MAX: u32 = 256;
/// The most that a peer may send unread on one request, and on all of a connection.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// What may wait to be sent on one request before whoever writes waits too.
const MESSAGE_WINDOW_BYTES: usize = 256 * 1024;
/// The longest head of a request: one with the longest token, and 8 KiB of all else.
const HEADERS_BYTES_MAX: u32 = 24 * 1024;
/// A peer that says nothing is asked this often, and gone when it does not answer.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(30);
const KEEPALIVE_WITHIN: Duration = Duration::from_secs(10);

/// The most fields in the head of a request of HTTP/1.1.
const HEADERS_MAX: usize = 100;
/// How long the head of a request of HTTP/1.1 may take to come; a connection that is kept may rest for so long, too.
const HEADERS_WITHIN: Duration = Duration::from_secs(60);

/// Which HTTP is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Http1,
    Http2,
}

/// What a connection is carried by.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// Serves it to its end. `anonymous` is its place among those whose peer is nobody yet, if it is one.
pub(super) async fn serve<A: Answers>(
    shared: &Arc<Shared<A>>,
    stream: impl Stream,
    wire: Wire,
    peer: Peer,
    anonymous: Option<OwnedSemaphorePermit>,
) {
    let peer = Arc::new(peer);
    let (answering, asking) = (Arc::clone(shared), Arc::clone(&peer));
    let answer = service_fn(move |request: http::Request<Incoming>| {
        let (shared, peer) = (Arc::clone(&answering), Arc::clone(&asking));
        async move { shared.front.answer(&peer, request.map(Body::new)).await }
    });
    let stream = TokioIo::new(stream);
    match wire {
        Wire::Http2 => attend(shared, builder().serve_connection(stream, answer), &peer, anonymous).await,
        Wire::Http1 => attend(shared, builder_1().serve_connection(stream, answer), &peer, anonymous).await,
    }
}

/// A connection with HTTP on it.
trait Talk: Future<Output = hyper::Result<()>> {
    /// Lets what is under way end, and takes nothing new.
    fn leave(self: Pin<&mut Self>);
}

impl<I, S> Talk for http2::Connection<I, S, TokioExecutor>
where
    Self: Future<Output = hyper::Result<()>>,
    S: HttpService<Incoming, ResBody = Body, Error = Infallible, Future: Send + 'static> + 'static,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
{
    fn leave(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S> Talk for http1::Connection<I, S>
where
    Self: Future<Output = hyper::Result<()>>,
    S: HttpService<Incoming, ResBody = Body, Error = Infallible>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
{
    fn leave(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Serves a connection until it ends, or is to end.
async fn attend<A: Answers>(
    shared: &Arc<Shared<A>>,
    connection: impl Talk,
    peer: &Arc<Peer>,
    mut anonymous: Option<OwnedSemaphorePermit>,
) {
    let mut connection = pin!(connection);
    let mut goodbye = pin!(goodbye(shared, peer, anonymous.is_some()));
    let mut nobody = pin!(nobody(peer));
    let mut cut = pin!(sleep(FOR_EVER));
    let (mut is_leaving, mut is_nobody) = (false, false);
    loop {
        tokio::select! {
            result = &mut connection => {
                if let Err(error) = result {
                    tracing::debug!(%error, "a connection ended early");
                }
                return;
            }
            () = shared.kill.cancelled() => return,
            within = &mut goodbye, if !is_leaving => {
                is_leaving = true;
                connection.as_mut().leave();
                cut.as_mut().reset(Instant::now() + within);
            }
            () = peer.introduced.cancelled(), if anonymous.is_some() => {
                // A token was believed: the peer is somebody, and its place is for the next who is not.
                anonymous = None;
            }
            () = &mut nobody, if !is_nobody => {
                (is_leaving, is_nobody) = (true, true);
                count("identity");
                connection.as_mut().leave();
                cut.as_mut().reset(Instant::now() + GOODBYE_WITHIN);
            }
            () = &mut cut => {
                // It was asked to end, and did not: a peer that takes no answer would stay for ever.
                count("cut");
                return;
            }
        }
    }
}

fn count(reason: &'static str) {
    metrics::counter!(CONNECTIONS_ENDED, "reason" => reason).increment(1);
}

/// Comes when a connection is to end although its peer is who it was; says how long that may take.
async fn goodbye<A>(shared: &Shared<A>, peer: &Peer, is_anonymous: bool) -> Duration {
    if is_anonymous {
        tokio::select! {
            () = shared.stop.cancelled() => return FOR_EVER,
            // From now on it is like others.
            () = peer.introduced.cancelled() => {}
            () = sleep(ANONYMOUS_WITHIN) => {
                count("anonymous");
                peer.leaving.cancel();
                return GOODBYE_WITHIN;
            }
        }
    }
    let (age, grace) = (age(&shared.options), shared.options.grace);
    tokio::select! {
        // Then `Listener::serve` decides how long.
        () = shared.stop.cancelled() => FOR_EVER,
        () = sleep(age) => {
            count("age");
            peer.leaving.cancel();
            grace
        }
    }
}

/// Comes when the peer's identity holds no more.
async fn nobody(peer: &Peer) {
    match &peer.identity {
        Ok(identity) => over(identity.lease().clone()).await,
        Err(_) => std::future::pending().await,
    }
}

/// How old this connection may become: up to a tenth less than the most, so that those that began together do not all
/// come back together.
fn age(options: &Options) -> Duration {
    let Some(age_max) = options.age_max else { return FOR_EVER };
    let mut byte = [0];
    // Without random bytes nothing is spread, and nothing else is wrong.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    age_max - age_max / 10 * u32::from(byte[0]) / 255
}

fn builder() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEADERS_BYTES_MAX)
        .max_send_buf_size(MESSAGE_WINDOW_BYTES)
        .keep_alive_interval(KEEPALIVE_EVERY)
        .keep_alive_timeout(KEEPALIVE_WITHIN);
    builder
}

fn builder_1() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .title_case_headers(true)
        .header_read_timeout(HEADERS_WITHIN)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEADERS_BYTES_MAX as usize);
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_at_most_what_is_allowed_and_a_tenth_less_at_least() {
        let options = Options { age_max: Some(Duration::from_secs(1000)), ..Options::of(1) };
        for _ in 0..100 {
            let age = age(&options);
            assert!((Duration::from_secs(900)..=Duration::from_secs(1000)).contains(&age), "{age:?}");
        }
        assert_eq!(age(&Options::of(1)), FOR_EVER);
    }
}
