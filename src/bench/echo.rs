//! gRPC alone: the listener, the TLS and the tonic of the service, with nothing behind them.
//!
//! `strongroom.bench.Echo` is no part of the contract. It is served by the hidden command that `strongroom bench`
//! starts, and nowhere else: no route of [`crate::grpc`] leads here.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use strongroom_hsm::algorithms::Algorithm;
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    codegen::{BoxFuture, Service as _, http::uri::PathAndQuery},
    server::{Grpc, NamedService, StreamingService, UnaryService},
    service::Routes,
    transport::Channel,
};
use tonic_prost::ProstCodec;

use super::{
    call::{BATCH, said},
    load::Turns,
    stream::{Method, Pump},
};
use crate::{
    grpc::{
        BATCH_BYTES_MAX, Gate, Listener, MESSAGE_BYTES_MAX, Options, front::Peer, listener::Answers, tls::Credentials,
    },
    model::SystemClock,
};

const ECHO: &str = "/strongroom.bench.Echo/Echo";
const STREAM: &str = "/strongroom.bench.Echo/Stream";
/// As many connections as a server takes.
const CONNECTIONS_MAX: usize = 10_000;

/// A message as heavy as one of the contract: two names and bytes. Several of them are a batch.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Ping {
    /// In place of the version's name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// In place of the algorithm's.
    #[prost(string, tag = "2")]
    pub algorithm: String,
    /// In place of the input or output.
    #[prost(bytes = "vec", tag = "3")]
    pub payload: Vec<u8>,
    /// How long a payload is to come back.
    #[prost(uint32, tag = "4")]
    pub answer_bytes: u32,
    /// The items of a batch.
    #[prost(message, repeated, tag = "5")]
    pub items: Vec<Ping>,
    /// On a stream.
    #[prost(uint64, tag = "6")]
    pub id: u64,
}

impl Ping {
    /// One as long as a request with that name, algorithm and input, to be answered with so many bytes.
    #[must_use]
    pub fn new(name: &str, algorithm: Algorithm, input_bytes: usize, answer_bytes: usize) -> Self {
        Self {
            name: name.to_owned(),
            algorithm: algorithm.name().to_owned(),
            payload: vec![0x5a; input_bytes],
            answer_bytes: u32::try_from(answer_bytes).unwrap_or(u32::MAX),
            items: Vec::new(),
            id: 0,
        }
    }

    /// As many as a batch has.
    #[must_use]
    pub fn batch(self) -> Self {
        Self { items: vec![self; BATCH], ..Self::default() }
    }

    fn answered(self) -> Self {
        // No more than a message may hold, whatever is asked for.
        let bytes = usize::try_from(self.answer_bytes).unwrap_or_default().min(MESSAGE_BYTES_MAX);
        Self {
            name: self.name,
            payload: vec![0xa5; bytes],
            items: self.items.into_iter().map(Self::answered).collect(),
            id: self.id,
            ..Self::default()
        }
    }
}

/// Answers at once.
#[derive(Clone)]
struct Echo;

impl UnaryService<Ping> for Echo {
    type Response = Ping;
    type Future = std::future::Ready<Result<Response<Ping>, Status>>;

    fn call(&mut self, request: Request<Ping>) -> Self::Future {
        std::future::ready(Ok(Response::new(request.into_inner().answered())))
    }
}

impl StreamingService<Ping> for Echo {
    type Response = Ping;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<Ping, Status>> + Send>>;
    type Future = std::future::Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Ping>>) -> Self::Future {
        let answers = request.into_inner().map(|ping| ping.map(Ping::answered));
        std::future::ready(Ok(Response::new(Box::pin(answers))))
    }
}

impl NamedService for Echo {
    const NAME: &'static str = "strongroom.bench.Echo";
}

impl tonic::codegen::Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::default()).max_decoding_message_size(BATCH_BYTES_MAX);
            Ok(match request.uri().path() {
                ECHO => grpc.unary(Self, request).await,
                STREAM => grpc.streaming(Self, request).await,
                _ => Status::unimplemented("there is nothing else here").into_http(),
            })
        })
    }
}

/// tonic's routes with no admission before them.
pub struct Bare(Routes);

impl Answers for Bare {
    async fn answer(&self, _: &Peer, request: http::Request<Body>) -> Result<http::Response<Body>, Infallible> {
        self.0.clone().call(request).await
    }
}

/// Binds an echo server.
///
/// # Errors
/// When the address cannot be bound.
pub async fn bind(address: SocketAddr, credentials: Credentials) -> std::io::Result<Listener<Bare>> {
    let (gate, bare) = (Gate::new(credentials, Arc::new(SystemClock)), Bare(Routes::new(Echo).prepare()));
    Listener::bind(address, gate, None, bare, Options::of(CONNECTIONS_MAX)).await
}

/// Calls an echo server.
pub struct Pinger {
    client: tonic::client::Grpc<Channel>,
    ping: Ping,
}

impl Pinger {
    /// `count` of them on those connections, in turn.
    #[must_use]
    pub fn many(channels: &[Channel], count: usize, ping: &Ping) -> Vec<Self> {
        let client =
            |channel: &Channel| tonic::client::Grpc::new(channel.clone()).max_decoding_message_size(BATCH_BYTES_MAX);
        let channels = channels.iter().cycle().take(count);
        channels.map(|channel| Self { client: client(channel), ping: ping.clone() }).collect()
    }
}

impl Turns for Pinger {
    type Answer = Ping;

    fn operations(&self) -> u64 {
        u64::try_from(self.ping.items.len()).unwrap_or_default().max(1)
    }

    async fn call(&mut self) -> Result<Ping, String> {
        self.client.ready().await.map_err(|error| error.to_string())?;
        let answer = self.client.unary(
            Request::new(self.ping.clone()),
            PathAndQuery::from_static(ECHO),
            ProstCodec::<Ping, Ping>::default(),
        );
        answer.await.map(Response::into_inner).map_err(|status| said(&status))
    }
}

/// The method `Stream` of an echo server.
pub struct Echoes {
    client: tonic::client::Grpc<Channel>,
    ping: Ping,
}

impl Echoes {
    /// `count` callers with a stream each, on those connections in turn.
    #[must_use]
    pub fn many(channels: &[Channel], count: usize, ping: &Ping) -> Vec<Pump<Self>> {
        let one = |channel: &Channel| Self { client: tonic::client::Grpc::new(channel.clone()), ping: ping.clone() };
        channels.iter().cycle().take(count).map(|channel| Pump(one(channel))).collect()
    }
}

impl Method for Echoes {
    type Request = Ping;
    type Response = Ping;
    type Answer = Ping;

    async fn open(&mut self, requests: ReceiverStream<Ping>) -> Result<Streaming<Ping>, Status> {
        self.client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let (path, codec) = (PathAndQuery::from_static(STREAM), ProstCodec::<Ping, Ping>::default());
        Ok(self.client.streaming(Request::new(requests), path, codec).await?.into_inner())
    }

    fn request(&self, id: u64) -> Ping {
        Ping { id, ..self.ping.clone() }
    }

    fn answer(response: Ping) -> (u64, Result<Ping, String>) {
        (response.id, Ok(response))
    }
}

/// How many of the answers are what was asked for, whatever their id, and how many are not.
#[must_use]
pub fn check(ping: &Ping, answers: &[Ping]) -> (u64, u64) {
    let wanted = ping.clone().answered();
    let right = answers.iter().filter(|answer| Ping { id: wanted.id, ..(*answer).clone() } == wanted).count();
    (u64::try_from(right).unwrap_or_default(), u64::try_from(answers.len() - right).unwrap_or_default())
}
