//! Connections: accepted, given a place, through TLS, served, drained.
//!
//! Everything is bounded: connections, those among them without a certificate, handshakes at once and the
//! time of each, streams, windows and headers of a connection. What comes above is closed at once, so
//! that it does not wait for a place that may never come.

use std::{convert::Infallible, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::body::Body;

use super::{
    front::{Front, Peer},
    identity::{self, IdentityError},
};
use crate::{
    model::Identity,
    observe::metrics::{CONNECTIONS, HANDSHAKES},
};

/// How long a TLS handshake may take.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(3);
/// The most handshakes at once; further connections wait in the kernel.
const HANDSHAKES_MAX: usize = 512;
/// The most connections without a client certificate: they can only ask for health.
const ANONYMOUS_MAX: usize = 64;
/// How long one of them lives.
const ANONYMOUS_WITHIN: Duration = Duration::from_secs(60);
/// How long a connection may take to end once it was asked to.
const GOODBYE_WITHIN: Duration = Duration::from_secs(5);
/// Longer than a process runs.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86_400);
/// The pause after an accept that failed, for want of file descriptors most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The most requests at once on one connection.
const STREAMS_MAX: u32 = 256;
/// The most that a peer may send unread on one request, and on all of a connection.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// The longest head of a request.
const HEADERS_BYTES_MAX: u32 = 16 * 1024;
/// A peer that says nothing is asked this often, and gone when it does not answer.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(30);
const KEEPALIVE_WITHIN: Duration = Duration::from_secs(10);

/// What answers the requests of all connections: the service's [`Front`], or an echo when gRPC alone is measured.
pub trait Answers: Send + Sync + 'static {
    /// Answers one request of `peer`. What goes wrong is an answer too.
    fn answer(
        &self,
        peer: &Peer,
        request: http::Request<Body>,
    ) -> impl Future<Output = Result<http::Response<Body>, Infallible>> + Send;

    /// The server ends: what would go on for ever is to end by itself.
    fn end(&self) {}
}

/// A bound socket that serves gRPC.
pub struct Listener<A = Front> {
    tcp: TcpListener,
    shared: Arc<Shared<A>>,
}

struct Shared<A> {
    /// Replaced when certificates change; a connection takes the newest.
    tls: ArcSwap<ServerConfig>,
    front: A,
    connections: Arc<Semaphore>,
    anonymous: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    /// Ends connections gently.
    stop: CancellationToken,
    /// Ends them now.
    kill: CancellationToken,
}

impl<A: Answers> Listener<A> {
    /// Binds. Nothing is accepted until [`Self::serve`].
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind(address: SocketAddr, tls: ServerConfig, front: A, connections_max: usize) -> io::Result<Self> {
        let tcp = TcpListener::bind(address).await?;
        let shared = Shared {
            tls: ArcSwap::from_pointee(tls),
            front,
            connections: Arc::new(Semaphore::new(connections_max)),
            anonymous: Arc::new(Semaphore::new(ANONYMOUS_MAX)),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
            stop: CancellationToken::new(),
            kill: CancellationToken::new(),
        };
        Ok(Self { tcp, shared: Arc::new(shared) })
    }

    /// Where it listens: the real port, also when 0 was asked for.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Serves until `stop`; then lets requests end, at most `drain`, and closes what is left.
    pub async fn serve(self, stop: CancellationToken, drain: Duration) {
        let Self { tcp, shared } = self;
        let tasks = TaskTracker::new();
        tokio::select! {
            () = stop.cancelled() => {}
            never = accept(&tcp, &shared, &tasks) => match never {},
        }
        // Nobody gets in any more: a client is refused at once rather than left waiting.
        drop(tcp);
        shared.stop.cancel();
        shared.front.end();
        tasks.close();
        if timeout(drain, tasks.wait()).await.is_err() {
            tracing::warn!(connections = tasks.len(), "requests did not end in time and were cut off");
            shared.kill.cancel();
            tasks.wait().await;
        }
    }
}

async fn accept<A: Answers>(tcp: &TcpListener, shared: &Arc<Shared<A>>, tasks: &TaskTracker) -> Infallible {
    loop {
        let handshake = Arc::clone(&shared.handshakes).acquire_owned().await;
        match tcp.accept().await {
            Ok((stream, address)) => {
                tasks.spawn(connection(Arc::clone(shared), stream, address, handshake.ok()));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One connection, from its first byte to its last.
async fn connection<A: Answers>(
    shared: Arc<Shared<A>>,
    stream: TcpStream,
    address: SocketAddr,
    handshake: Option<OwnedSemaphorePermit>,
) {
    let Ok(_place) = Arc::clone(&shared.connections).try_acquire_owned() else { return count("no_room") };
    let Some(tls) = shake_hands(&shared, stream, address).await else { return };
    drop(handshake);
    let identity = identify(&tls);
    let _anonymous = match (&identity, Arc::clone(&shared.anonymous).try_acquire_owned()) {
        (Ok(_), _) => None,
        (Err(_), Ok(place)) => Some(place),
        (Err(_), Err(_)) => return count("no_room_without_certificate"),
    };
    count("ok");
    metrics::gauge!(CONNECTIONS).increment(1.0);
    serve(&shared, tls, Peer::new(address, identity)).await;
    metrics::gauge!(CONNECTIONS).decrement(1.0);
}

fn count(outcome: &'static str) {
    metrics::counter!(HANDSHAKES, "outcome" => outcome).increment(1);
}

async fn shake_hands<A>(shared: &Shared<A>, stream: TcpStream, address: SocketAddr) -> Option<TlsStream<TcpStream>> {
    // Answers are small, and waited for.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%address, %error, "TCP_NODELAY could not be set");
    }
    let acceptor = TlsAcceptor::from(shared.tls.load_full());
    let shaken = tokio::select! {
        () = shared.stop.cancelled() => return None,
        shaken = timeout(HANDSHAKE_WITHIN, acceptor.accept(stream)) => shaken,
    };
    match shaken {
        Ok(Ok(tls)) => Some(tls),
        Ok(Err(error)) => {
            count("failed");
            // Bytes of the peer are not in it: rustls says which rule was broken.
            tracing::debug!(%address, %error, "a TLS handshake failed");
            None
        }
        Err(_) => {
            count("late");
            None
        }
    }
}

fn identify(tls: &TlsStream<TcpStream>) -> Result<Arc<Identity>, IdentityError> {
    let (_, session) = tls.get_ref();
    let own = session.peer_certificates().and_then(|chain| chain.first());
    let principal = identity::principal(own.ok_or(IdentityError::NoCertificate)?)?;
    Ok(Arc::new(Identity::alone(principal)))
}

async fn serve<A: Answers>(shared: &Arc<Shared<A>>, tls: TlsStream<TcpStream>, peer: Peer) {
    let lifetime = if peer.identity.is_ok() { None } else { Some(ANONYMOUS_WITHIN) };
    let peer = Arc::new(peer);
    let answering = Arc::clone(shared);
    let answer = service_fn(move |request: http::Request<Incoming>| {
        let (shared, peer) = (Arc::clone(&answering), Arc::clone(&peer));
        async move { shared.front.answer(&peer, request.map(Body::new)).await }
    });
    let mut connection = pin!(builder().serve_connection(TokioIo::new(tls), answer));
    let mut expired = pin!(sleep(lifetime.unwrap_or(FOR_EVER)));
    let (mut stopping, mut expiring) = (false, false);
    loop {
        tokio::select! {
            result = &mut connection => {
                if let Err(error) = result {
                    tracing::debug!(%error, "a connection ended early");
                }
                return;
            }
            () = shared.kill.cancelled() => return,
            () = shared.stop.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            () = &mut expired => {
                if expiring {
                    // It was asked to end, and did not: a peer that takes no answer would stay for ever.
                    return;
                }
                expiring = true;
                connection.as_mut().graceful_shutdown();
                expired.as_mut().reset(Instant::now() + GOODBYE_WITHIN);
            }
        }
    }
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

/// What may wait to be sent on one request before whoever writes waits too.
const MESSAGE_WINDOW_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests;
