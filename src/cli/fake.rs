//! A server for tests: TLS with client certificates, answers that can be told apart, no keys.
//!
//! It encrypts by adding one to each byte and holds a signature for right when it begins with 1.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use strongroom_proto::v1::{self, crypto_server, events_server, keys_server};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Certificate, Identity, Server, ServerTlsConfig},
};

/// The version that everything is done with.
pub(super) const VERSION: &str = "vaults/dev/keys/k/versions/0123456789abcdef0123456789abcdef";

/// A running server and the files that its clients need.
pub(super) struct Fake {
    address: SocketAddr,
    folder: tempfile::TempDir,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    created: Mutex<Vec<v1::CreateKeyRequest>>,
    imported: Mutex<Vec<v1::ImportKeyRequest>>,
    pages: Mutex<usize>,
    watched: Mutex<Vec<String>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fake {
    /// Starts one.
    pub(super) async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let ca_key = KeyPair::generate().expect("a key");
        let mut ca_params = CertificateParams::default();
        ca_params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = ca_params.self_signed(&ca_key).expect("a certificate").pem();
        let issuer = Issuer::from_params(&ca_params, &ca_key);
        let issue = |name: SanType| {
            let key = KeyPair::generate().expect("a key");
            let mut params = CertificateParams::default();
            params.subject_alt_names = vec![name];
            (params.signed_by(&key, &issuer).expect("a certificate").pem(), key.serialize_pem())
        };
        let (server, server_key) = issue(SanType::IpAddress([127, 0, 0, 1].into()));
        let (client, client_key) = issue(SanType::URI("spiffe://example.org/ci".try_into().expect("ASCII")));
        for (name, content) in [("ca.pem", &ca), ("cert.pem", &client), ("key.pem", &client_key)] {
            std::fs::write(folder.path().join(name), content).expect("written");
        }
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(server, server_key))
            .client_ca_root(Certificate::from_pem(ca));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Seen::default());
        let router = Server::builder()
            .tls_config(tls)
            .expect("TLS")
            .add_service(keys_server::KeysServer::new(Keys(seen.clone())))
            .add_service(crypto_server::CryptoServer::new(Crypto))
            .add_service(events_server::EventsServer::new(Events(seen.clone())));
        tokio::spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
        Self { address, folder, seen }
    }

    /// Where it is.
    pub(super) fn endpoint(&self) -> String {
        format!("https://{}", self.address)
    }

    /// One of its clients' files.
    pub(super) fn path(&self, name: &str) -> String {
        let path: PathBuf = self.folder.path().join(name);
        path.display().to_string()
    }

    /// The flags that reach it.
    pub(super) fn flags(&self) -> String {
        self.flags_without("")
    }

    /// The same, but for those that `others` names.
    pub(super) fn flags_without(&self, others: &str) -> String {
        [
            ("--endpoint", self.endpoint()),
            ("--ca", self.path("ca.pem")),
            ("--cert", self.path("cert.pem")),
            ("--key-file", self.path("key.pem")),
            ("--vault", "dev".to_owned()),
        ]
        .into_iter()
        .filter(|(flag, _)| !others.split_whitespace().any(|other| other == *flag))
        .map(|(flag, value)| format!("{flag} {value} "))
        .collect()
    }

    /// The requests for new keys that came.
    pub(super) fn created(&self) -> Vec<v1::CreateKeyRequest> {
        locked(&self.seen.created).clone()
    }

    /// The keys from outside that came.
    pub(super) fn imported(&self) -> Vec<v1::ImportKeyRequest> {
        locked(&self.seen.imported).clone()
    }

    /// How many pages of keys were asked for.
    pub(super) fn pages(&self) -> usize {
        *locked(&self.seen.pages)
    }

    /// The places from which on events were asked for.
    pub(super) fn watched(&self) -> Vec<String> {
        locked(&self.seen.watched).clone()
    }
}

struct Keys(Arc<Seen>);

fn key() -> v1::Key {
    v1::Key {
        name: "vaults/dev/keys/k".into(),
        version: Some(v1::KeyVersion { name: VERSION.into(), ..v1::KeyVersion::default() }),
        ..v1::Key::default()
    }
}

#[tonic::async_trait]
impl keys_server::Keys for Keys {
    async fn create_key(&self, request: Request<v1::CreateKeyRequest>) -> Result<Response<v1::Key>, Status> {
        let mut created = locked(&self.0.created);
        created.push(request.into_inner());
        if created.len() < 3 { Err(Status::unavailable("not yet")) } else { Ok(Response::new(key())) }
    }

    async fn import_key(&self, request: Request<v1::ImportKeyRequest>) -> Result<Response<v1::Key>, Status> {
        locked(&self.0.imported).push(request.into_inner());
        Ok(Response::new(key()))
    }

    async fn get_public_keys(
        &self,
        request: Request<v1::GetPublicKeysRequest>,
    ) -> Result<Response<v1::GetPublicKeysResponse>, Status> {
        if request.get_ref().name.ends_with("/none") {
            return Ok(Response::new(v1::GetPublicKeysResponse::default()));
        }
        let first = request.get_ref().page_token.is_empty();
        let next_page_token = if first { "more".to_owned() } else { String::new() };
        let jwk = format!(r#"{{"kty":"EC","kid":"{VERSION}"}}"#);
        let public = v1::PublicKey { name: VERSION.into(), jwk, ..v1::PublicKey::default() };
        Ok(Response::new(v1::GetPublicKeysResponse { keys: vec![public], next_page_token }))
    }

    async fn get_key(&self, request: Request<v1::GetKeyRequest>) -> Result<Response<v1::Key>, Status> {
        if request.get_ref().name.ends_with("/slow") {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        Ok(Response::new(key()))
    }

    async fn list_keys(&self, _: Request<v1::ListKeysRequest>) -> Result<Response<v1::ListKeysResponse>, Status> {
        let mut pages = locked(&self.0.pages);
        *pages += 1;
        let next_page_token = if *pages < 2 { "more".to_owned() } else { String::new() };
        Ok(Response::new(v1::ListKeysResponse { keys: vec![key()], next_page_token }))
    }

    async fn list_key_versions(
        &self,
        _: Request<v1::ListKeyVersionsRequest>,
    ) -> Result<Response<v1::ListKeyVersionsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn update_key_version(
        &self,
        _: Request<v1::UpdateKeyVersionRequest>,
    ) -> Result<Response<v1::KeyVersion>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn delete_key(&self, _: Request<v1::DeleteKeyRequest>) -> Result<Response<v1::Key>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn rotate_key(&self, _: Request<v1::RotateKeyRequest>) -> Result<Response<v1::Key>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn undelete_key(&self, _: Request<v1::UndeleteKeyRequest>) -> Result<Response<v1::Key>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn delete_key_version(
        &self,
        _: Request<v1::DeleteKeyVersionRequest>,
    ) -> Result<Response<v1::KeyVersion>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn undelete_key_version(
        &self,
        _: Request<v1::UndeleteKeyVersionRequest>,
    ) -> Result<Response<v1::KeyVersion>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn purge_key(&self, _: Request<v1::PurgeKeyRequest>) -> Result<Response<v1::PurgeKeyResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn backup_key(&self, _: Request<v1::BackupKeyRequest>) -> Result<Response<v1::BackupKeyResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn restore_key(&self, _: Request<v1::RestoreKeyRequest>) -> Result<Response<v1::Key>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn move_key(&self, _: Request<v1::MoveKeyRequest>) -> Result<Response<v1::MoveKeyResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

struct Crypto;

#[tonic::async_trait]
impl crypto_server::Crypto for Crypto {
    async fn sign(&self, request: Request<v1::SignRequest>) -> Result<Response<v1::SignResponse>, Status> {
        let wrong = u32::from(request.get_ref().name.ends_with("/damaged"));
        let signature = vec![1; 64];
        let signature_crc32c = crc32c::crc32c(&signature) + wrong;
        Ok(Response::new(v1::SignResponse { name: VERSION.into(), signature, signature_crc32c }))
    }

    async fn verify(&self, request: Request<v1::VerifyRequest>) -> Result<Response<v1::VerifyResponse>, Status> {
        let valid = request.get_ref().signature.first() == Some(&1);
        Ok(Response::new(v1::VerifyResponse { name: VERSION.into(), valid }))
    }

    async fn encrypt(&self, request: Request<v1::EncryptRequest>) -> Result<Response<v1::EncryptResponse>, Status> {
        let ciphertext: Vec<u8> = request.get_ref().plaintext.iter().map(|byte| byte.wrapping_add(1)).collect();
        let ciphertext_crc32c = crc32c::crc32c(&ciphertext);
        let (iv, tag) = (vec![3; 12], vec![4; 16]);
        Ok(Response::new(v1::EncryptResponse { name: VERSION.into(), ciphertext, iv, tag, ciphertext_crc32c }))
    }

    async fn decrypt(&self, request: Request<v1::DecryptRequest>) -> Result<Response<v1::DecryptResponse>, Status> {
        let plaintext: Vec<u8> = request.get_ref().ciphertext.iter().map(|byte| byte.wrapping_sub(1)).collect();
        let plaintext_crc32c = crc32c::crc32c(&plaintext);
        Ok(Response::new(v1::DecryptResponse { name: VERSION.into(), plaintext, plaintext_crc32c }))
    }

    async fn wrap_key(&self, _: Request<v1::WrapKeyRequest>) -> Result<Response<v1::WrapKeyResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn unwrap_key(&self, _: Request<v1::UnwrapKeyRequest>) -> Result<Response<v1::UnwrapKeyResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn generate_data_key(
        &self,
        request: Request<v1::GenerateDataKeyRequest>,
    ) -> Result<Response<v1::GenerateDataKeyResponse>, Status> {
        let key = vec![7; usize::try_from(request.get_ref().length_bytes).unwrap_or_default()];
        let wrapped_key: Vec<u8> = key.iter().map(|byte| byte + 1).collect();
        Ok(Response::new(v1::GenerateDataKeyResponse {
            name: VERSION.into(),
            key_crc32c: crc32c::crc32c(&key),
            key,
            wrapped_key_crc32c: crc32c::crc32c(&wrapped_key),
            wrapped_key,
            iv: vec![3; 12],
            tag: vec![4; 16],
        }))
    }

    async fn generate_data_key_without_plaintext(
        &self,
        request: Request<v1::GenerateDataKeyWithoutPlaintextRequest>,
    ) -> Result<Response<v1::GenerateDataKeyWithoutPlaintextResponse>, Status> {
        let wrapped_key = vec![9; usize::try_from(request.get_ref().length_bytes).unwrap_or_default() + 8];
        Ok(Response::new(v1::GenerateDataKeyWithoutPlaintextResponse {
            name: VERSION.into(),
            wrapped_key_crc32c: crc32c::crc32c(&wrapped_key),
            wrapped_key,
            ..Default::default()
        }))
    }

    async fn generate_random_bytes(
        &self,
        _: Request<v1::GenerateRandomBytesRequest>,
    ) -> Result<Response<v1::GenerateRandomBytesResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn re_encrypt(
        &self,
        request: Request<v1::ReEncryptRequest>,
    ) -> Result<Response<v1::ReEncryptResponse>, Status> {
        let v1::ReEncryptRequest { source, destination_algorithm, destination_iv, .. } = request.into_inner();
        let source = source.unwrap_or_default();
        let by = if destination_algorithm.is_empty() { source.algorithm } else { destination_algorithm };
        let iv_bytes = if by.contains("CBC") { 16 } else { 0 };
        if destination_iv.len() != iv_bytes {
            return Err(Status::invalid_argument("destination_iv"));
        }
        let (iv, tag) = if by.contains("GCM") { (vec![3; 12], vec![4; 16]) } else { (destination_iv, Vec::new()) };
        let ciphertext = source.ciphertext;
        let ciphertext_crc32c = crc32c::crc32c(&ciphertext);
        let made = v1::EncryptResponse { name: VERSION.into(), ciphertext, iv, tag, ciphertext_crc32c };
        Ok(Response::new(v1::ReEncryptResponse { source_name: source.name, destination: Some(made) }))
    }

    async fn rewrap_key(&self, _: Request<v1::RewrapKeyRequest>) -> Result<Response<v1::RewrapKeyResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn batch(&self, _: Request<v1::BatchRequest>) -> Result<Response<v1::BatchResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    type StreamStream = tokio_stream::Empty<Result<v1::StreamResponse, Status>>;

    async fn stream(&self, _: Request<Streaming<v1::StreamRequest>>) -> Result<Response<Self::StreamStream>, Status> {
        Err(Status::unimplemented(""))
    }
}

struct Events(Arc<Seen>);

#[tonic::async_trait]
impl events_server::Events for Events {
    type WatchEventsStream = tokio_stream::Iter<std::vec::IntoIter<Result<v1::WatchEventsResponse, Status>>>;

    /// Tells one event and ends, is not ready at the second time, and refuses from then on.
    async fn watch_events(
        &self,
        request: Request<v1::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let mut watched = locked(&self.0.watched);
        watched.push(request.into_inner().resume_token);
        match watched.len() {
            1 => {
                let events = vec![v1::Event::default()];
                let told = v1::WatchEventsResponse { events, resume_token: "7.1".to_owned() };
                Ok(Response::new(tokio_stream::iter(vec![Ok(told), Err(Status::unavailable("it ends"))])))
            }
            // Without a time to come back at, which the client library would wait for by itself.
            2 => Err(Status::resource_exhausted("it is starting")),
            _ => Err(Status::permission_denied("no right")),
        }
    }

    async fn list_webhooks(
        &self,
        _: Request<v1::ListWebhooksRequest>,
    ) -> Result<Response<v1::ListWebhooksResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_dead_letters(
        &self,
        _: Request<v1::ListDeadLettersRequest>,
    ) -> Result<Response<v1::ListDeadLettersResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn replay_dead_letters(
        &self,
        _: Request<v1::ReplayDeadLettersRequest>,
    ) -> Result<Response<v1::ReplayDeadLettersResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}
