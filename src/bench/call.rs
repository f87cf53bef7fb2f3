//! The same work as calls of `strongroom.v1`.

use std::{fs, io, path::Path};

use strongroom_hsm::algorithms::{Algorithm, KeyOps, KeyType};
use strongroom_proto::v1::{
    self, BatchRequest, CreateKeyRequest, DecryptRequest, EncryptRequest, KeyVersion, OperationRequest,
    OperationResponse, SignRequest, StreamRequest, StreamResponse, UnwrapKeyRequest, VerifyRequest, WrapKeyRequest,
    crypto_client::CryptoClient, keys_client::KeysClient, operation_request, operation_response, sign_request,
    verify_request,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Status, Streaming,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use super::{
    case::{Answer, Case, Work, is_wrapped},
    load::Turns,
    stream::{Method, Pump},
    verify,
};
use crate::grpc::kind;

/// The most connections that callers share.
pub const CONNECTIONS_MAX: usize = 4;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A file of the identity.
    #[error("an identity of the measuring client cannot be read")]
    Identity(#[source] io::Error),
    /// The server.
    #[error("the measured server cannot be reached")]
    Server(#[source] tonic::transport::Error),
}

/// Connects with `ca.pem`, `client.pem` and `client.key` of a folder.
///
/// # Errors
/// When they cannot be read, or the server does not answer.
pub async fn connect(endpoint: &str, tls: &Path) -> Result<Channel, ConnectError> {
    let read = |name: &str| fs::read(tls.join(name)).map_err(ConnectError::Identity);
    let config = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read("ca.pem")?))
        .identity(Identity::from_pem(read("client.pem")?, read("client.key")?));
    let endpoint = Endpoint::from_shared(endpoint.to_owned()).and_then(|endpoint| endpoint.tls_config(config));
    endpoint.map_err(ConnectError::Server)?.connect().await.map_err(ConnectError::Server)
}

/// As many connections as `callers` share: one for each, at most four.
///
/// # Errors
/// As [`connect`].
pub async fn connections(endpoint: &str, tls: &Path, callers: usize) -> Result<Vec<Channel>, ConnectError> {
    let mut channels = Vec::new();
    for _ in 0..callers.clamp(1, CONNECTIONS_MAX) {
        channels.push(connect(endpoint, tls).await?);
    }
    Ok(channels)
}

/// A key that is measured with.
#[derive(Clone, Debug)]
pub struct Target {
    /// The full name of its version.
    pub name: String,
    /// SubjectPublicKeyInfo (DER); empty for a secret key.
    pub public: Vec<u8>,
}

/// Makes a key for a case in vault `vault`.
///
/// # Errors
/// What the server says.
pub async fn create(channel: Channel, vault: &str, id: &str, case: &Case) -> Result<Target, Status> {
    let (key_type, curve) = kind(case.spec);
    let macs = KeyOps::SIGN.union(KeyOps::VERIFY);
    let operations = if case.spec.key_type() == KeyType::Hmac { macs } else { KeyOps::NONE };
    let has_size = matches!(case.spec.key_type(), KeyType::Rsa | KeyType::Aes | KeyType::Hmac);
    let residency = if is_wrapped(case.spec) { v1::Residency::Wrapped } else { v1::Residency::Token };
    let version = KeyVersion {
        key_type: key_type.into(),
        key_size: if has_size { i32::try_from(case.spec.bits()).unwrap_or_default() } else { 0 },
        curve: curve.into(),
        key_operations: operations.iter().map(|(op, _)| crate::grpc::operation(op).into()).collect(),
        residency: residency.into(),
        ..KeyVersion::default()
    };
    let request = CreateKeyRequest {
        parent: format!("vaults/{vault}"),
        key_id: id.to_owned(),
        version: Some(version),
        ..CreateKeyRequest::default()
    };
    let key = KeysClient::new(channel).create_key(request).await?.into_inner();
    let version = key.version.ok_or_else(|| Status::internal("the server sent no version"))?;
    Ok(Target { name: version.name, public: version.public_key })
}

/// A piece of work as a message of the contract.
#[derive(Clone, Debug)]
pub enum Request {
    /// Sign.
    Sign(SignRequest),
    /// Verify.
    Verify(VerifyRequest),
    /// Encrypt.
    Encrypt(EncryptRequest),
    /// Decrypt.
    Decrypt(DecryptRequest),
    /// Wrap.
    WrapKey(WrapKeyRequest),
    /// Unwrap.
    UnwrapKey(UnwrapKeyRequest),
}

impl Request {
    /// That work with the key version `name`.
    #[must_use]
    pub fn new(name: &str, algorithm: Algorithm, work: Work) -> Self {
        let is_digest = algorithm.signature_digest().is_some();
        let (name, algorithm) = (name.to_owned(), algorithm.name().to_owned());
        match work {
            Work::Sign { input } => {
                use sign_request::Input;
                let input = Some(if is_digest { Input::Digest(input) } else { Input::Message(input) });
                Self::Sign(SignRequest { name, algorithm, input, input_crc32c: None })
            }
            Work::Verify { input, signature } => {
                use verify_request::Input;
                let input = Some(if is_digest { Input::Digest(input) } else { Input::Message(input) });
                Self::Verify(VerifyRequest { name, algorithm, input, signature, ..VerifyRequest::default() })
            }
            Work::Encrypt { wraps: false, plaintext, iv } => {
                Self::Encrypt(EncryptRequest { name, algorithm, plaintext, iv, ..EncryptRequest::default() })
            }
            Work::Encrypt { wraps: true, plaintext, .. } => {
                Self::WrapKey(WrapKeyRequest { name, algorithm, key: plaintext, key_crc32c: None })
            }
            Work::Decrypt { wraps: false, ciphertext, iv, tag } => {
                Self::Decrypt(DecryptRequest { name, algorithm, ciphertext, iv, tag, ..DecryptRequest::default() })
            }
            Work::Decrypt { wraps: true, ciphertext, .. } => {
                Self::UnwrapKey(UnwrapKeyRequest { name, algorithm, wrapped_key: ciphertext, wrapped_key_crc32c: None })
            }
        }
    }

    /// One call.
    ///
    /// # Errors
    /// What the server says.
    pub async fn send(self, client: &mut CryptoClient<Channel>) -> Result<Answer, Status> {
        Ok(match self {
            Self::Sign(request) => Answer::Signature(client.sign(request).await?.into_inner().signature),
            Self::Verify(request) => Answer::Valid(client.verify(request).await?.into_inner().valid),
            Self::Encrypt(request) => {
                let answer = client.encrypt(request).await?.into_inner();
                Answer::Sealed { ciphertext: answer.ciphertext, iv: answer.iv, tag: answer.tag }
            }
            Self::Decrypt(request) => Answer::Opened(client.decrypt(request).await?.into_inner().plaintext),
            Self::WrapKey(request) => {
                let ciphertext = client.wrap_key(request).await?.into_inner().wrapped_key;
                Answer::Sealed { ciphertext, iv: Vec::new(), tag: Vec::new() }
            }
            Self::UnwrapKey(request) => Answer::Opened(client.unwrap_key(request).await?.into_inner().key),
        })
    }
}

impl From<Request> for operation_request::Operation {
    fn from(request: Request) -> Self {
        match request {
            Request::Sign(request) => Self::Sign(request),
            Request::Verify(request) => Self::Verify(request),
            Request::Encrypt(request) => Self::Encrypt(request),
            Request::Decrypt(request) => Self::Decrypt(request),
            Request::WrapKey(request) => Self::WrapKey(request),
            Request::UnwrapKey(request) => Self::UnwrapKey(request),
        }
    }
}

/// What a case asks for again and again, with a key of its own.
///
/// # Errors
/// What the server says of the work that is taken back, where the case takes back.
pub async fn request(client: &mut CryptoClient<Channel>, case: &Case, target: &Target) -> Result<Request, Status> {
    let make = Request::new(&target.name, case.algorithm, case.make());
    if !case.takes_back() {
        return Ok(make);
    }
    let made = make.send(client).await?;
    let work = case.take_back(&made).ok_or_else(|| Status::internal("an answer of another kind"))?;
    Ok(Request::new(&target.name, case.algorithm, work))
}

/// Makes one call after the other.
pub struct Unary {
    client: CryptoClient<Channel>,
    request: Request,
}

impl Unary {
    /// `count` of them on those connections, in turn.
    #[must_use]
    pub fn many(channels: &[Channel], count: usize, request: &Request) -> Vec<Self> {
        let channels = channels.iter().cycle().take(count);
        channels.map(|channel| Self { client: CryptoClient::new(channel.clone()), request: request.clone() }).collect()
    }
}

impl Turns for Unary {
    type Answer = Answer;

    async fn call(&mut self) -> Result<Answer, String> {
        self.request.clone().send(&mut self.client).await.map_err(|status| said(&status))
    }
}

/// Operations in one call of a batch.
pub const BATCH: usize = 100;
/// The longest answer to a batch: 4 MiB of request, and the names of versions.
const BATCH_ANSWER_BYTES_MAX: usize = 5 * 1024 * 1024;

/// Makes one batch after the other.
pub struct Batch {
    client: CryptoClient<Channel>,
    operations: Vec<OperationRequest>,
}

impl Batch {
    /// `count` of them on those connections, in turn.
    #[must_use]
    pub fn many(channels: &[Channel], count: usize, request: &Request) -> Vec<Self> {
        let operation = OperationRequest { operation: Some(request.clone().into()) };
        let client =
            |channel: &Channel| CryptoClient::new(channel.clone()).max_decoding_message_size(BATCH_ANSWER_BYTES_MAX);
        let channels = channels.iter().cycle().take(count);
        channels.map(|channel| Self { client: client(channel), operations: vec![operation.clone(); BATCH] }).collect()
    }
}

impl Turns for Batch {
    type Answer = Vec<Answer>;

    fn operations(&self) -> u64 {
        BATCH as u64
    }

    async fn call(&mut self) -> Result<Vec<Answer>, String> {
        let request = BatchRequest { operations: self.operations.clone() };
        let response = self.client.batch(request).await.map_err(|status| said(&status))?.into_inner();
        if response.results.len() != BATCH {
            return Err(format!("{} results", response.results.len()));
        }
        response.results.into_iter().map(answer).collect()
    }
}

/// The method `Stream`.
pub struct Stream {
    client: CryptoClient<Channel>,
    operation: OperationRequest,
}

impl Stream {
    /// `count` callers with a stream each, on those connections in turn.
    #[must_use]
    pub fn many(channels: &[Channel], count: usize, request: &Request) -> Vec<Pump<Self>> {
        let operation = OperationRequest { operation: Some(request.clone().into()) };
        let channels = channels.iter().cycle().take(count);
        let one = |channel: &Channel| Self { client: CryptoClient::new(channel.clone()), operation: operation.clone() };
        channels.map(|channel| Pump(one(channel))).collect()
    }
}

impl Method for Stream {
    type Request = StreamRequest;
    type Response = StreamResponse;
    type Answer = Answer;

    async fn open(&mut self, requests: ReceiverStream<StreamRequest>) -> Result<Streaming<StreamResponse>, Status> {
        Ok(self.client.stream(requests).await?.into_inner())
    }

    fn request(&self, id: u64) -> StreamRequest {
        StreamRequest { id, operation: Some(self.operation.clone()) }
    }

    fn answer(response: StreamResponse) -> (u64, Result<Answer, String>) {
        (response.id, response.result.ok_or_else(|| "no result".to_owned()).and_then(answer))
    }
}

/// What one operation of a batch or stream has come to.
fn answer(response: OperationResponse) -> Result<Answer, String> {
    use operation_response::Result as R;
    match response.result {
        Some(R::Sign(made)) => Ok(Answer::Signature(made.signature)),
        Some(R::Verify(made)) => Ok(Answer::Valid(made.valid)),
        Some(R::Encrypt(made)) => Ok(Answer::Sealed { ciphertext: made.ciphertext, iv: made.iv, tag: made.tag }),
        Some(R::Decrypt(made)) => Ok(Answer::Opened(made.plaintext)),
        Some(R::WrapKey(made)) => Ok(Answer::Sealed { ciphertext: made.wrapped_key, iv: Vec::new(), tag: Vec::new() }),
        Some(R::UnwrapKey(made)) => Ok(Answer::Opened(made.key)),
        Some(R::Error(status)) => Err(format!("{:?}: {}", Code::from_i32(status.code), status.message)),
        _ => Err("an answer of another kind".to_owned()),
    }
}

/// A status in one line.
#[must_use]
pub fn said(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

/// Looks at answers: a signature is verified by software where that can be, whatever else was made is taken
/// back by the service and compared. How many were right, and how many wrong.
///
/// # Errors
/// What the server says of the work that is taken back.
pub async fn check(
    client: &mut CryptoClient<Channel>,
    case: &Case,
    target: &Target,
    answers: &[Answer],
) -> Result<(u64, u64), Status> {
    let (mut right, mut wrong) = (0, 0);
    for answer in answers {
        let by_software = match answer {
            Answer::Signature(made) => verify::signature(case.algorithm, case.spec, &target.public, made),
            _ => None,
        };
        let is_right = match (by_software, case.take_back(answer)) {
            (Some(valid), _) => valid,
            (None, Some(work)) if !case.takes_back() => {
                let again = Request::new(&target.name, case.algorithm, work).send(client).await?;
                case.is_taken_back(&again)
            }
            (None, _) => case.is_taken_back(answer),
        };
        *(if is_right { &mut right } else { &mut wrong }) += 1;
    }
    Ok((right, wrong))
}
