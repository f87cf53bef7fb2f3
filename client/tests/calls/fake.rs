//! A server that refuses, damages and counts.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use strongroom_client::{
    Client,
    v1::{self, crypto_server, keys_server},
};
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream, UnixListenerStream};
use tonic::{Code, Request, Response, Status, transport::Endpoint};
use tonic_types::{ErrorDetails, Status as Rpc, StatusExt as _};

pub(crate) const KEY: &str = "vaults/dev/keys/k";
pub(crate) const VERSION: &str = "vaults/dev/keys/k/versions/0123456789abcdef0123456789abcdef";

/// What a server has seen.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) signed: AtomicUsize,
    pub(crate) wrapped: AtomicUsize,
    pub(crate) unwrapped: AtomicUsize,
    /// Streams that were asked for, and of these the first that are refused.
    pub(crate) opened: AtomicUsize,
    pub(crate) openings_refused: AtomicUsize,
    /// Streams that have a deadline.
    pub(crate) with_deadline: AtomicUsize,
    /// Messages of streams.
    pub(crate) messages: AtomicUsize,
    /// Streams that were left by their client.
    pub(crate) left: AtomicUsize,
    /// Lets go what streams hold back.
    pub(crate) release: Notify,
    /// Request ids of deletions.
    pub(crate) deletions: std::sync::Mutex<Vec<String>>,
    /// Request ids of creations, and whether these are answered.
    pub(crate) creations: std::sync::Mutex<Vec<String>>,
    pub(crate) creates: AtomicBool,
    /// It signs nothing.
    pub(crate) is_away: AtomicBool,
}

/// Wraps by turning bits over.
struct Fake(Arc<Seen>);

fn busy(after: Duration) -> Status {
    let details = ErrorDetails::with_retry_info(Some(after));
    Status::with_error_details(Code::ResourceExhausted, "full", details)
}

fn turned(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| !byte).collect()
}

/// What a stream does with a message, by the last part of its key's name.
enum Turn {
    Answer(v1::operation_response::Result),
    /// Until it is told to release, or nothing more comes.
    HoldBack,
    /// The answer to another.
    Stray,
    End(Result<(), Status>),
}

fn turn(operation: v1::operation_request::Operation) -> Turn {
    use v1::{operation_request::Operation as Asked, operation_response::Result as Answer};
    let request = match operation {
        Asked::Sign(request) => request,
        Asked::GenerateRandomBytes(request) => {
            let data = vec![7; usize::try_from(request.length_bytes).expect("positive")];
            let data_crc32c = crc32c::crc32c(&data);
            return Turn::Answer(Answer::GenerateRandomBytes(v1::GenerateRandomBytesResponse { data, data_crc32c }));
        }
        _ => return Turn::End(Err(Status::unimplemented(""))),
    };
    let Some(v1::sign_request::Input::Message(message)) = request.input else {
        return Turn::End(Err(Status::invalid_argument("no message")));
    };
    assert_eq!(request.input_crc32c, Some(crc32c::crc32c(&message)));
    match request.name.rsplit('/').next().expect("a part") {
        "held" => Turn::HoldBack,
        "stray" => Turn::Stray,
        "last" => Turn::End(Ok(())),
        "ending" => {
            let details = ErrorDetails::with_error_info("ENDING", "strongroom.v1", []);
            Turn::End(Err(Status::with_error_details(Code::Unavailable, "the server ends", details)))
        }
        "refused" => {
            let code = Code::NotFound as i32;
            Turn::Answer(Answer::Error(Rpc { code, message: "no such key".into(), details: Vec::new() }))
        }
        "random" => Turn::Answer(Answer::GenerateRandomBytes(v1::GenerateRandomBytesResponse::default())),
        name => {
            let signature_crc32c = crc32c::crc32c(&message) + u32::from(name == "damaged");
            let signed = v1::SignResponse { name: VERSION.into(), signature: message, signature_crc32c };
            Turn::Answer(Answer::Sign(signed))
        }
    }
}

/// One stream, to its end.
async fn converse(
    seen: Arc<Seen>,
    mut messages: tonic::Streaming<v1::StreamRequest>,
    answers: mpsc::Sender<Result<v1::StreamResponse, Status>>,
) {
    let answer = |id, result| {
        let result = Some(v1::OperationResponse { result: Some(result) });
        answers.send(Ok(v1::StreamResponse { id, result }))
    };
    let signed = || v1::operation_response::Result::Sign(v1::SignResponse::default());
    let mut held = Vec::new();
    loop {
        let message = tokio::select! {
            message = messages.message() => message,
            () = seen.release.notified() => {
                for id in held.drain(..).rev() {
                    answer(id, signed()).await.expect("heard");
                }
                continue;
            }
        };
        let Ok(Some(message)) = message else { break };
        seen.messages.fetch_add(1, Ordering::Relaxed);
        match turn(message.operation.and_then(|operation| operation.operation).expect("an operation")) {
            Turn::Answer(result) => answer(message.id, result).await.expect("heard"),
            Turn::HoldBack => held.push(message.id),
            Turn::Stray => answer(message.id + 1, signed()).await.expect("heard"),
            Turn::End(Ok(())) => return,
            Turn::End(Err(status)) => return answers.send(Err(status)).await.expect("heard"),
        }
    }
    // What is under way is answered before the stream ends.
    tokio::time::sleep(Duration::from_millis(100)).await;
    if answers.is_closed() {
        seen.left.fetch_add(1, Ordering::Relaxed);
        return;
    }
    for id in held {
        answer(id, signed()).await.expect("heard");
    }
}

#[tonic::async_trait]
impl crypto_server::Crypto for Fake {
    async fn sign(&self, request: Request<v1::SignRequest>) -> Result<Response<v1::SignResponse>, Status> {
        let before = self.0.signed.fetch_add(1, Ordering::Relaxed);
        let request = request.into_inner();
        if self.0.is_away.load(Ordering::Relaxed) {
            return Err(Status::unavailable("away"));
        }
        if request.name.ends_with("/slow") {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        let Some(v1::sign_request::Input::Message(message)) = request.input else {
            return Err(Status::invalid_argument("no message"));
        };
        assert_eq!(request.input_crc32c, Some(crc32c::crc32c(&message)));
        if request.name.ends_with("/busy") && before < 2 {
            return Err(busy(Duration::from_millis(300)));
        }
        let signature_crc32c = crc32c::crc32c(&message) + u32::from(request.name.ends_with("/damaged"));
        Ok(Response::new(v1::SignResponse { name: VERSION.into(), signature: message, signature_crc32c }))
    }

    async fn wrap_key(&self, request: Request<v1::WrapKeyRequest>) -> Result<Response<v1::WrapKeyResponse>, Status> {
        self.0.wrapped.fetch_add(1, Ordering::Relaxed);
        let wrapped_key = turned(&request.get_ref().key);
        let wrapped_key_crc32c = crc32c::crc32c(&wrapped_key);
        Ok(Response::new(v1::WrapKeyResponse { name: VERSION.into(), wrapped_key, wrapped_key_crc32c }))
    }

    async fn unwrap_key(
        &self,
        request: Request<v1::UnwrapKeyRequest>,
    ) -> Result<Response<v1::UnwrapKeyResponse>, Status> {
        self.0.unwrapped.fetch_add(1, Ordering::Relaxed);
        let request = request.into_inner();
        if request.name != VERSION || request.algorithm != "A256KW" {
            return Err(Status::not_found(request.name));
        }
        let key = turned(&request.wrapped_key);
        let key_crc32c = crc32c::crc32c(&key);
        Ok(Response::new(v1::UnwrapKeyResponse { name: VERSION.into(), key, key_crc32c }))
    }

    async fn verify(&self, _: Request<v1::VerifyRequest>) -> Result<Response<v1::VerifyResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn encrypt(&self, _: Request<v1::EncryptRequest>) -> Result<Response<v1::EncryptResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn decrypt(&self, _: Request<v1::DecryptRequest>) -> Result<Response<v1::DecryptResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn generate_data_key(
        &self,
        request: Request<v1::GenerateDataKeyRequest>,
    ) -> Result<Response<v1::GenerateDataKeyResponse>, Status> {
        let key = vec![7; usize::try_from(request.get_ref().length_bytes).expect("positive")];
        let wrapped_key = turned(&key);
        let (key_crc32c, wrapped_key_crc32c) = (crc32c::crc32c(&key), crc32c::crc32c(&wrapped_key));
        let name = VERSION.to_owned();
        let (iv, tag) = (Vec::new(), Vec::new());
        let made = v1::GenerateDataKeyResponse { name, key, key_crc32c, wrapped_key, wrapped_key_crc32c, iv, tag };
        Ok(Response::new(made))
    }

    async fn generate_data_key_without_plaintext(
        &self,
        _: Request<v1::GenerateDataKeyWithoutPlaintextRequest>,
    ) -> Result<Response<v1::GenerateDataKeyWithoutPlaintextResponse>, Status> {
        // Its checksum is wrong.
        let wrapped_key = vec![1; 40];
        let answer = v1::GenerateDataKeyWithoutPlaintextResponse { wrapped_key, ..Default::default() };
        Ok(Response::new(answer))
    }

    /// A signature for each; of the second, one that was damaged on the way. Nothing for a batch of one.
    async fn batch(&self, request: Request<v1::BatchRequest>) -> Result<Response<v1::BatchResponse>, Status> {
        let operations = request.into_inner().operations;
        let signed = |place: usize| v1::SignResponse {
            name: VERSION.into(),
            signature: vec![7],
            signature_crc32c: crc32c::crc32c(&[7]) + u32::from(place == 1),
        };
        let result = |place| Some(v1::operation_response::Result::Sign(signed(place)));
        let results = (0..operations.len()).map(|place| v1::OperationResponse { result: result(place) });
        Ok(Response::new(v1::BatchResponse { results: results.skip(usize::from(operations.len() == 1)).collect() }))
    }

    type StreamStream = ReceiverStream<Result<v1::StreamResponse, Status>>;

    async fn stream(
        &self,
        request: Request<tonic::Streaming<v1::StreamRequest>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let before = self.0.opened.fetch_add(1, Ordering::Relaxed);
        if before < self.0.openings_refused.load(Ordering::Relaxed) {
            return Err(busy(Duration::from_millis(10)));
        }
        self.0.with_deadline.fetch_add(usize::from(request.metadata().contains_key("grpc-timeout")), Ordering::Relaxed);
        let (answers, receiver) = mpsc::channel(1);
        tokio::spawn(converse(Arc::clone(&self.0), request.into_inner(), answers));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn generate_random_bytes(
        &self,
        request: Request<v1::GenerateRandomBytesRequest>,
    ) -> Result<Response<v1::GenerateRandomBytesResponse>, Status> {
        let length = usize::try_from(request.get_ref().length_bytes).expect("positive");
        assert!(length <= 1024);
        let data = vec![7; length];
        let data_crc32c = crc32c::crc32c(&data);
        Ok(Response::new(v1::GenerateRandomBytesResponse { data, data_crc32c }))
    }

    async fn re_encrypt(&self, _: Request<v1::ReEncryptRequest>) -> Result<Response<v1::ReEncryptResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn rewrap_key(&self, _: Request<v1::RewrapKeyRequest>) -> Result<Response<v1::RewrapKeyResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

#[tonic::async_trait]
impl keys_server::Keys for Fake {
    async fn delete_key(&self, request: Request<v1::DeleteKeyRequest>) -> Result<Response<v1::Key>, Status> {
        let mut deletions = self.0.deletions.lock().expect("not poisoned");
        deletions.push(request.into_inner().request_id);
        Err(Status::unavailable("away"))
    }

    async fn create_key(&self, request: Request<v1::CreateKeyRequest>) -> Result<Response<v1::Key>, Status> {
        self.0.creations.lock().expect("not poisoned").push(request.into_inner().request_id);
        if self.0.creates.load(Ordering::Relaxed) {
            let mut answer = Response::new(v1::Key::default());
            answer.metadata_mut().insert("strongroom-in-force-from", "2026-11-26T12:00:00Z".parse().expect("is text"));
            return Ok(answer);
        }
        std::future::pending().await
    }

    async fn import_key(&self, request: Request<v1::ImportKeyRequest>) -> Result<Response<v1::Key>, Status> {
        let request = request.into_inner();
        let Some(v1::import_key_request::Material::Oct(bytes)) = request.material else {
            return Err(Status::invalid_argument("no key"));
        };
        assert_eq!(request.material_crc32c, Some(crc32c::crc32c(&bytes)));
        assert!(!request.request_id.is_empty());
        Ok(Response::new(v1::Key { name: request.key_id, ..Default::default() }))
    }

    async fn get_public_keys(
        &self,
        request: Request<v1::GetPublicKeysRequest>,
    ) -> Result<Response<v1::GetPublicKeysResponse>, Status> {
        let next_page_token = if request.get_ref().page_token.is_empty() { "2".to_owned() } else { String::new() };
        let keys = vec![v1::PublicKey::default()];
        Ok(Response::new(v1::GetPublicKeysResponse { keys, next_page_token }))
    }

    async fn get_key(&self, _: Request<v1::GetKeyRequest>) -> Result<Response<v1::Key>, Status> {
        Err(Status::permission_denied("no right"))
    }

    async fn list_keys(&self, _: Request<v1::ListKeysRequest>) -> Result<Response<v1::ListKeysResponse>, Status> {
        Err(Status::unimplemented(""))
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

pub(crate) async fn start() -> (Client, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let router = tonic::transport::Server::builder()
        .add_service(crypto_server::CryptoServer::new(Fake(Arc::clone(&seen))))
        .add_service(keys_server::KeysServer::new(Fake(Arc::clone(&seen))));
    tokio::spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
    let channel = Endpoint::try_from(format!("http://{address}")).expect("a URL").connect().await.expect("connects");
    (Client::on_channel(channel, Duration::from_secs(20)), seen)
}

pub(crate) fn count(counter: &AtomicUsize) -> usize {
    counter.load(Ordering::Relaxed)
}

/// One of several servers, by a socket of its own; it can be killed, with all that is under way, and come back.
pub(crate) struct Replica {
    path: PathBuf,
    pub(crate) seen: Arc<Seen>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Replica {
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        let mut replica = Self { path: folder.join(name), seen: Arc::default(), runtime: None };
        replica.start();
        replica
    }

    /// Where it is.
    pub(crate) fn endpoint(&self) -> String {
        format!("unix:{}", self.path.display())
    }

    pub(crate) fn start(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().expect("a runtime");
        let router = {
            let _entered = runtime.enter();
            tonic::transport::Server::builder()
                .add_service(crypto_server::CryptoServer::new(Fake(Arc::clone(&self.seen))))
                .add_service(keys_server::KeysServer::new(Fake(Arc::clone(&self.seen))))
        };
        let entered = runtime.enter();
        let listener = tokio::net::UnixListener::bind(&self.path).expect("a socket");
        drop(entered);
        runtime.spawn(router.serve_with_incoming(UnixListenerStream::new(listener)));
        self.runtime = Some(runtime);
    }

    /// Its connections end without a word.
    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.kill();
    }
}
