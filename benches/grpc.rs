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
use strongroom_proto::v1::crypto_client::CryptoClient;
use tokio::runtime::Runtime;
use tonic::transport::Channel;

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
}
