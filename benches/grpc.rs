//! A development server and a client of it, for the end-to-end rows.

#[path = "../tests/it/dev.rs"]
#[allow(dead_code, reason = "shared with tests/it, which uses all of it")]
mod dev;

use std::sync::atomic::{AtomicUsize, Ordering};

use dev::Dev;
use strongroom::bench::{
    Case,
    call::{self, CONNECTIONS_MAX, Request},
};
use strongroom_proto::v1::{
    BatchRequest, OperationRequest, OperationResponse, StreamRequest, crypto_client::CryptoClient,
    operation_request::Operation, operation_response,
};
use tokio::{runtime::Runtime, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

/// Streams at once, each on a connection of its own.
pub(crate) const STREAMS: u64 = CONNECTIONS_MAX as u64;
/// Operations under way on each.
const UNDER_WAY: u64 = 64;

/// A running server and connections to it.
pub(crate) struct Server {
    _dev: Dev,
    channels: Vec<Channel>,
    next: AtomicUsize,
}

impl Server {
    /// Starts `strongroom dev` in a temporary folder and connects.
    pub(crate) fn start(runtime: &Runtime) -> Self {
        let dev = Dev::new();
        let endpoint = dev.variable("STRONGROOM_ENDPOINT");
        let channels = runtime.block_on(call::connections(&endpoint, &dev.data().join("tls"), CONNECTIONS_MAX));
        Self { _dev: dev, channels: channels.expect("connects"), next: AtomicUsize::new(0) }
    }

    fn client(&self) -> CryptoClient<Channel> {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        CryptoClient::new(self.channels[next % self.channels.len()].clone())
    }

    /// Makes a key; what is asked of it.
    pub(crate) async fn prepare(&self, case: Case) -> Request {
        let id = format!("bench-{}", case.spec.name());
        let target = call::create(self.channels[0].clone(), "dev", &id, &case).await.expect("made");
        call::request(&mut self.client(), &case, &target).await.expect("a request")
    }

    /// One signature or encryption.
    pub(crate) fn call(&self, request: &Request) -> impl Future<Output = ()> + Send + use<> {
        let (mut client, request) = (self.client(), request.clone());
        async move {
            request.send(&mut client).await.expect("runs");
        }
    }

    /// So many of it in one call.
    pub(crate) fn batch(&self, request: &Request, count: u64) -> impl Future<Output = ()> + Send + use<> {
        let (mut client, one) = (self.client(), operation(request));
        let operations = (0..count).map(|_| one.clone()).collect();
        async move {
            let answer = client.batch(BatchRequest { operations }).await.expect("answers").into_inner();
            assert!(answer.results.iter().all(is_done));
        }
    }

    /// So many of it on one stream.
    pub(crate) fn stream(&self, request: &Request, count: u64) -> impl Future<Output = ()> + Send + use<> {
        let (mut client, one) = (self.client(), operation(request));
        async move {
            let request = |id| StreamRequest { id, operation: Some(one.clone()) };
            let (sender, receiver) = mpsc::channel(UNDER_WAY as usize);
            for id in 0..count.min(UNDER_WAY) {
                sender.send(request(id)).await.expect("there is room");
            }
            let mut answers = client.stream(ReceiverStream::new(receiver)).await.expect("opens").into_inner();
            for answered in 0..count {
                let answer = answers.message().await.expect("goes on").expect("an answer");
                assert!(answer.result.is_some_and(|result| is_done(&result)));
                if answered + UNDER_WAY < count {
                    sender.send(request(answered + UNDER_WAY)).await.expect("there is room");
                }
            }
        }
    }
}

/// A signature or encryption among others.
fn operation(request: &Request) -> OperationRequest {
    let operation = match request.clone() {
        Request::Sign(request) => Operation::Sign(request),
        Request::Encrypt(request) => Operation::Encrypt(request),
        other => panic!("it is not measured here: {other:?}"),
    };
    OperationRequest { operation: Some(operation) }
}

fn is_done(response: &OperationResponse) -> bool {
    !matches!(response.result, None | Some(operation_response::Result::Error(_)))
}
