//! Connections: accepted, given a place, through TLS or a Unix socket, served, drained.
//!
//! Everything is bounded: connections, those among them whose peer is nobody yet, handshakes at once and the
//! time of each, streams, windows and headers of a connection, and its age. What comes above is closed at
//! once, so that it does not wait for a place that may never come.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use rustls_pki_types::CertificateDer;
use tokio::{
    net::{TcpListener, TcpStream, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::body::Body;

use super::{
    front::{Front, Peer},
    gate::{Admitted, Gate},
    identity::IdentityError,
    proxy, unix,
};
use crate::{
    model::AddressRange,
    observe::metrics::{CONNECTIONS, HANDSHAKES, UNIX_CONNECTIONS},
};

mod connection;

use connection::Wire;

/// How long a TLS handshake may take, with the header of a proxy before it.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(3);
/// The most handshakes at once; further connections wait in the kernel.
const HANDSHAKES_MAX: usize = 512;
/// The most connections whose peer is nobody yet: neither certificate nor kernel names it, and no token has been
/// believed on it. On the Azure face everybody begins so, and asks for the challenge first.
const ANONYMOUS_MAX: usize = 64;
const ANONYMOUS_WEB_MAX: usize = 512;
/// The pause after an accept that failed, for want of file descriptors most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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

/// What is spoken on the connections of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// gRPC: HTTP/2, and a client certificate is asked for.
    Grpc,
    /// The Azure face: HTTP/2 or HTTP/1.1, and no client certificate.
    Web,
}

/// What an operator decides of connections.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is spoken on them.
    pub speech: Speech,
    /// The most at once.
    pub connections_max: usize,
    /// How old one may become; for ever when absent.
    pub age_max: Option<Duration>,
    /// How long the requests of one that is too old may take to end.
    pub grace: Duration,
    /// Who says where connections come from, before TLS.
    pub trusted_proxies: Vec<AddressRange>,
}

impl Options {
    /// So many connections, of any age, and no proxies.
    #[must_use]
    pub const fn of(connections_max: usize) -> Self {
        Self {
            speech: Speech::Grpc,
            connections_max,
            age_max: None,
            grace: Duration::from_secs(30),
            trusted_proxies: Vec::new(),
        }
    }
}

/// A bound socket that serves a face, and a Unix socket beside it perhaps.
pub struct Listener<A = Front> {
    tcp: TcpListener,
    unix: Option<unix::Bound>,
    shared: Arc<Shared<A>>,
}

struct Shared<A> {
    gate: Arc<Gate>,
    front: A,
    options: Options,
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
    pub async fn bind(
        address: SocketAddr,
        gate: Arc<Gate>,
        unix: Option<unix::Bound>,
        front: A,
        options: Options,
    ) -> io::Result<Self> {
        Ok(Self::over(TcpListener::bind(address).await?, gate, unix, front, options))
    }

    /// Over a socket that is bound. Nothing is accepted until [`Self::serve`].
    #[must_use]
    pub fn over(tcp: TcpListener, gate: Arc<Gate>, unix: Option<unix::Bound>, front: A, options: Options) -> Self {
        let anonymous_max = match options.speech {
            Speech::Grpc => ANONYMOUS_MAX,
            Speech::Web => ANONYMOUS_WEB_MAX,
        };
        let shared = Shared {
            gate,
            front,
            connections: Arc::new(Semaphore::new(options.connections_max)),
            options,
            anonymous: Arc::new(Semaphore::new(anonymous_max)),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
            stop: CancellationToken::new(),
            kill: CancellationToken::new(),
        };
        Self { tcp, unix, shared: Arc::new(shared) }
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
        let Self { tcp, unix, shared } = self;
        let tasks = TaskTracker::new();
        tokio::select! {
            () = stop.cancelled() => {}
            never = accept(&tcp, &shared, &tasks) => match never {},
            never = accept_local(unix.as_ref(), &shared, &tasks) => match never {},
        }
        // Nobody gets in any more: a client is refused at once rather than left waiting.
        drop((tcp, unix));
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
                tasks.spawn(remote(Arc::clone(shared), stream, address, handshake.ok()));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn accept_local<A: Answers>(
    unix: Option<&unix::Bound>,
    shared: &Arc<Shared<A>>,
    tasks: &TaskTracker,
) -> Infallible {
    let Some(unix) = unix else { return std::future::pending().await };
    loop {
        match unix.accept().await {
            Ok(stream) => {
                let (identity, source) = unix.identify(&stream);
                tasks.spawn(local(Arc::clone(shared), stream, Peer::local(source, identity)));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection to the Unix socket could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One connection of the network, from its first byte to its last.
async fn remote<A: Answers>(
    shared: Arc<Shared<A>>,
    stream: TcpStream,
    address: SocketAddr,
    handshake: Option<OwnedSemaphorePermit>,
) {
    let Ok(_place) = Arc::clone(&shared.connections).try_acquire_owned() else { return count("no_room") };
    let Some((tls, from)) = shake_hands(&shared, stream, address).await else { return };
    drop(handshake);
    let admitted = admit(&shared.gate, &tls);
    let identity = admitted.as_ref().map(Admitted::identity).map_err(Clone::clone);
    let peer = match from {
        proxy::From::Proxy => Peer::new(address, identity),
        proxy::From::Beyond(origin) => Peer::beyond(origin, address.ip(), identity),
    };
    let Ok(anonymous) = lobby(&shared, &peer) else { return count("no_room_without_certificate") };
    count("ok");
    let wire = match tls.get_ref().1.alpn_protocol() {
        Some(b"h2") => Wire::Http2,
        _ if shared.options.speech == Speech::Web => Wire::Http1,
        // As ever: HTTP/2 with prior knowledge.
        _ => Wire::Http2,
    };
    attend(&shared, tls, wire, peer, anonymous).await;
    drop(admitted);
}

/// One connection of the Unix socket.
async fn local<A: Answers>(shared: Arc<Shared<A>>, stream: UnixStream, peer: Peer) {
    let count = |outcome| metrics::counter!(UNIX_CONNECTIONS, "outcome" => outcome).increment(1);
    let Ok(_place) = Arc::clone(&shared.connections).try_acquire_owned() else { return count("no_room") };
    let Ok(anonymous) = lobby(&shared, &peer) else { return count("no_room_without_identity") };
    count(if peer.identity.is_ok() { "ok" } else { "refused" });
    attend(&shared, stream, Wire::Http2, peer, anonymous).await;
}

fn count(outcome: &'static str) {
    metrics::counter!(HANDSHAKES, "outcome" => outcome).increment(1);
}

/// The place of a peer without an identity, which the others do not need.
fn lobby<A>(shared: &Shared<A>, peer: &Peer) -> Result<Option<OwnedSemaphorePermit>, tokio::sync::TryAcquireError> {
    match peer.identity {
        Ok(_) => Ok(None),
        Err(_) => Arc::clone(&shared.anonymous).try_acquire_owned().map(Some),
    }
}

async fn attend<A: Answers>(
    shared: &Arc<Shared<A>>,
    stream: impl connection::Stream,
    wire: Wire,
    peer: Peer,
    anonymous: Option<OwnedSemaphorePermit>,
) {
    metrics::gauge!(CONNECTIONS).increment(1.0);
    connection::serve(shared, stream, wire, peer, anonymous).await;
    metrics::gauge!(CONNECTIONS).decrement(1.0);
}

/// TLS, and before it what a proxy says.
async fn shake_hands<A>(
    shared: &Shared<A>,
    mut stream: TcpStream,
    address: SocketAddr,
) -> Option<(TlsStream<TcpStream>, proxy::From)> {
    // Answers are small, and waited for.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%address, %error, "TCP_NODELAY could not be set");
    }
    let is_proxy = shared.options.trusted_proxies.iter().any(|range| range.contains(address.ip()));
    let shaking = async {
        let from = if is_proxy { header(&mut stream, address).await? } else { proxy::From::Proxy };
        let credentials = shared.gate.credentials();
        let config = match shared.options.speech {
            Speech::Grpc => Arc::clone(&credentials.config),
            Speech::Web => Arc::clone(&credentials.web),
        };
        let accepted = TlsAcceptor::from(config).accept(stream).await;
        if let Err(error) = &accepted {
            count("failed");
            // Bytes of the peer are not in it: rustls says which rule was broken.
            tracing::debug!(%address, %error, "a TLS handshake failed");
        }
        Some((accepted.ok()?, from))
    };
    tokio::select! {
        () = shared.stop.cancelled() => None,
        shaken = timeout(HANDSHAKE_WITHIN, shaking) => shaken.unwrap_or_else(|_| {
            count("late");
            None
        }),
    }
}

async fn header(stream: &mut TcpStream, address: SocketAddr) -> Option<proxy::From> {
    match proxy::read(stream).await {
        Ok(from) => Some(from),
        Err(error) => {
            count("no_proxy_header");
            tracing::debug!(%address, %error, "a trusted proxy does not say where a connection comes from");
            None
        }
    }
}

fn admit(gate: &Arc<Gate>, tls: &TlsStream<TcpStream>) -> Result<Admitted, IdentityError> {
    let (_, session) = tls.get_ref();
    let chain: Option<Vec<CertificateDer<'static>>> = session
        .peer_certificates()
        .map(|chain| chain.iter().map(|certificate| certificate.clone().into_owned()).collect());
    gate.admit(&chain.ok_or(IdentityError::NoCertificate)?)
}

#[cfg(test)]
mod tests;
