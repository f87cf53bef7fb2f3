//! A development server and a client of it, for the end-to-end rows.

#[path = "../tests/it/dev.rs"]
#[allow(dead_code, reason = "shared with tests/it, which uses all of it")]
mod dev;

use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering},
};

use dev::Dev;
use strongroom::model::{Algorithm, KeySpec};
use strongroom_proto::v1::{
    CreateKeyRequest, EncryptRequest, KeyVersion, SignRequest, crypto_client::CryptoClient, keys_client::KeysClient,
    sign_request,
};
use tokio::runtime::Runtime;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

/// Connections that the calls are spread over.
const CONNECTIONS: usize = 4;

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
        let channels = (0..CONNECTIONS).map(|_| runtime.block_on(connect(&dev))).collect();
        Self { _dev: dev, channels, next: AtomicUsize::new(0) }
    }

    fn channel(&self) -> Channel {
        self.channels[self.next.fetch_add(1, Ordering::Relaxed) % CONNECTIONS].clone()
    }

    /// Makes a key; the name of its version.
    pub(crate) async fn create(&self, spec: KeySpec) -> String {
        let (key_type, key_size) = match spec {
            KeySpec::Rsa2048 => (1, 2048),
            KeySpec::Aes256 => (3, 256),
            _ => (2, 0),
        };
        let version = KeyVersion { key_type, key_size, ..KeyVersion::default() };
        let request = CreateKeyRequest {
            parent: "vaults/dev".to_owned(),
            key_id: format!("bench-{}", spec.name()),
            version: Some(version),
            ..CreateKeyRequest::default()
        };
        let key = KeysClient::new(self.channel()).create_key(request).await.expect("made").into_inner();
        key.version.expect("a version").name
    }

    /// One signature or encryption.
    pub(crate) fn call(
        &self,
        name: &str,
        algorithm: Algorithm,
        input_bytes: usize,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (mut client, name) = (CryptoClient::new(self.channel()), name.to_owned());
        let (algorithm, input) = (algorithm.name().to_owned(), vec![0x5a; input_bytes]);
        async move {
            if algorithm.ends_with("GCM") {
                let request = EncryptRequest { name, algorithm, plaintext: input, ..EncryptRequest::default() };
                client.encrypt(request).await.expect("encrypts");
            } else {
                let input = Some(sign_request::Input::Digest(input));
                client.sign(SignRequest { name, algorithm, input, input_crc32c: None }).await.expect("signs");
            }
        }
    }
}

async fn connect(dev: &Dev) -> Channel {
    let read = |name: &str| fs::read(dev.variable(name)).expect("reads");
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read("STRONGROOM_CA")))
        .identity(Identity::from_pem(read("STRONGROOM_CERT"), read("STRONGROOM_KEY")));
    let endpoint = Channel::from_shared(dev.variable("STRONGROOM_ENDPOINT")).expect("a URI");
    endpoint.tls_config(tls).expect("TLS").connect().await.expect("connects")
}
