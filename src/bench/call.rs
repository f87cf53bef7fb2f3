//! The same work as calls of `strongroom.v1`.

use std::{fs, io, path::Path};

use strongroom_hsm::algorithms::{Algorithm, KeyOps, KeyType};
use strongroom_proto::v1::{
    self, CreateKeyRequest, DecryptRequest, EncryptRequest, KeyVersion, SignRequest, UnwrapKeyRequest, VerifyRequest,
    WrapKeyRequest, crypto_client::CryptoClient, keys_client::KeysClient, sign_request, verify_request,
};
use tonic::{
    Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use super::{
    case::{Answer, Case, Work, is_wrapped},
    load::Caller,
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

impl Caller for Unary {
    type Answer = Answer;

    async fn call(&mut self) -> Result<Answer, String> {
        self.request.clone().send(&mut self.client).await.map_err(|status| said(&status))
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
