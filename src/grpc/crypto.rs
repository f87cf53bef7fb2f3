//! `strongroom.v1.Crypto`.
//!
//! Secrets are moved, not copied, from the message into [`SecretBytes`], which are wiped. What tonic, h2
//! and TLS hold of a message on its way cannot be wiped by us; nor can an answer once it is handed to them.

use std::sync::Arc;

use sha2::{Digest as _, Sha256, Sha384, Sha512};
use strongroom_hsm::{
    Digest, SecretBytes,
    algorithms::{LengthError, MESSAGE_BYTES_MAX, Scheme},
};
use strongroom_proto::v1::{
    DecryptRequest, DecryptResponse, EncryptRequest, EncryptResponse, GenerateDataKeyRequest, GenerateDataKeyResponse,
    GenerateDataKeyWithoutPlaintextRequest, GenerateDataKeyWithoutPlaintextResponse, GenerateRandomBytesRequest,
    GenerateRandomBytesResponse, OperationRequest, ReEncryptRequest, ReEncryptResponse, RewrapKeyRequest,
    RewrapKeyResponse, SignRequest, SignResponse, StreamRequest, UnwrapKeyRequest, UnwrapKeyResponse, VerifyRequest,
    VerifyResponse, WrapKeyRequest, WrapKeyResponse, crypto_server, operation_request, operation_response,
    sign_request, verify_request,
};

use super::{batch::batch, call::serve, decode, encode, names, stream::Conversation};
use crate::{
    model::{Algorithm, VersionRow},
    service::{
        Caller, Ciphertext, DataKey, Encrypted, KeyRef, NewDataKey, Problem, Service, ServiceError, Signed,
        batch::Destination, version_name,
    },
};

serve!(crypto_server::Crypto {
    sign(SignRequest) -> SignResponse;
    verify(VerifyRequest) -> VerifyResponse;
    encrypt(EncryptRequest) -> EncryptResponse;
    decrypt(DecryptRequest) -> DecryptResponse;
    wrap_key(WrapKeyRequest) -> WrapKeyResponse;
    unwrap_key(UnwrapKeyRequest) -> UnwrapKeyResponse;
    generate_data_key(GenerateDataKeyRequest) -> GenerateDataKeyResponse;
    generate_data_key_without_plaintext(GenerateDataKeyWithoutPlaintextRequest)
        -> GenerateDataKeyWithoutPlaintextResponse;
    re_encrypt(ReEncryptRequest) -> ReEncryptResponse;
    rewrap_key(RewrapKeyRequest) -> RewrapKeyResponse;
    generate_random_bytes(GenerateRandomBytesRequest) -> GenerateRandomBytesResponse;
    batch(BatchRequest) -> BatchResponse;
} {
    type StreamStream = Conversation;

    async fn stream(
        &self,
        request: tonic::Request<tonic::Streaming<StreamRequest>>,
    ) -> Result<tonic::Response<Conversation>, tonic::Status> {
        Conversation::open(&self.service, request).map(tonic::Response::new)
    }
});

/// One operation of a stream: as the method of its name.
pub(super) async fn operate(
    service: &Arc<Service>,
    caller: &Caller,
    message: OperationRequest,
) -> Result<operation_response::Result, ServiceError> {
    use operation_request::Operation;
    use operation_response::Result as Answer;
    match decode::required("operation", message.operation)? {
        Operation::Sign(message) => sign(service, caller, message).await.map(Answer::Sign),
        Operation::Verify(message) => verify(service, caller, message).await.map(Answer::Verify),
        Operation::Encrypt(message) => encrypt(service, caller, message).await.map(Answer::Encrypt),
        Operation::Decrypt(message) => decrypt(service, caller, message).await.map(Answer::Decrypt),
        Operation::WrapKey(message) => wrap_key(service, caller, message).await.map(Answer::WrapKey),
        Operation::UnwrapKey(message) => unwrap_key(service, caller, message).await.map(Answer::UnwrapKey),
        Operation::GenerateRandomBytes(message) => {
            generate_random_bytes(service, caller, message).await.map(Answer::GenerateRandomBytes)
        }
        Operation::GenerateDataKey(message) => {
            generate_data_key(service, caller, message).await.map(Answer::GenerateDataKey)
        }
        Operation::GenerateDataKeyWithoutPlaintext(message) => {
            let made = generate_data_key_without_plaintext(service, caller, message).await;
            made.map(Answer::GenerateDataKeyWithoutPlaintext)
        }
        Operation::ReEncrypt(message) => re_encrypt(service, caller, message).await.map(Answer::ReEncrypt),
        Operation::RewrapKey(message) => rewrap_key(service, caller, message).await.map(Answer::RewrapKey),
    }
}

async fn sign(service: &Arc<Service>, caller: &Caller, message: SignRequest) -> Result<SignResponse, ServiceError> {
    let (name, algorithm, input) = read_sign(message)?;
    service.sign(caller, &name, algorithm, input).await.map(signed)
}

/// Key, algorithm, and what is signed.
pub(super) fn read_sign(message: SignRequest) -> Result<(KeyRef, Algorithm, SecretBytes), Problem> {
    let name = names::key_or_version("name", &message.name)?;
    let algorithm = decode::algorithm(&message.algorithm)?;
    let input = match decode::required("input", message.input)? {
        sign_request::Input::Digest(digest) => Input::Digest(digest),
        sign_request::Input::Message(message) => Input::Message(SecretBytes::new(message)),
    };
    let input = input.signed(algorithm, message.input_crc32c)?;
    Ok((name, algorithm, input))
}

pub(super) fn signed(signed: Signed) -> SignResponse {
    let signature_crc32c = crc32c::crc32c(&signed.signature);
    SignResponse { name: version_name(&signed.version), signature: signed.signature, signature_crc32c }
}

async fn verify(
    service: &Arc<Service>,
    caller: &Caller,
    message: VerifyRequest,
) -> Result<VerifyResponse, ServiceError> {
    let (name, algorithm, input, signature) = read_verify(message)?;
    service.verify(caller, &name, algorithm, input, signature).await.map(verified)
}

/// Key, algorithm, what was signed, and the signature.
pub(super) fn read_verify(message: VerifyRequest) -> Result<(KeyRef, Algorithm, SecretBytes, Vec<u8>), Problem> {
    let name = names::key_or_version("name", &message.name)?;
    let algorithm = decode::algorithm(&message.algorithm)?;
    decode::check_crc32c("signature_crc32c", message.signature_crc32c, &message.signature)?;
    let input = match decode::required("input", message.input)? {
        verify_request::Input::Digest(digest) => Input::Digest(digest),
        verify_request::Input::Message(message) => Input::Message(SecretBytes::new(message)),
    };
    let input = input.signed(algorithm, message.input_crc32c)?;
    Ok((name, algorithm, input, message.signature))
}

pub(super) fn verified((version, valid): (Arc<VersionRow>, bool)) -> VerifyResponse {
    VerifyResponse { name: version_name(&version), valid }
}

/// What is signed or verified.
enum Input {
    Digest(Vec<u8>),
    /// May be confidential: it is wiped.
    Message(SecretBytes),
}

impl Input {
    /// What the algorithm signs. RS*, PS*, ES*: the digest as given, or of the message under the algorithm's
    /// hash. HS*: the bytes as given. EdDSA: the message.
    fn signed(self, algorithm: Algorithm, crc32c: Option<u32>) -> Result<SecretBytes, Problem> {
        match self {
            Self::Digest(digest) => {
                decode::check_crc32c("input_crc32c", crc32c, &digest)?;
                if algorithm.scheme() == Scheme::Eddsa {
                    let why = "EdDSA signs the message, which it hashes twice itself; send it as `message`";
                    return Err(Problem::Invalid { field: "digest", why: why.to_owned() });
                }
                Ok(SecretBytes::new(digest))
            }
            Self::Message(message) => {
                decode::check_secret_crc32c("input_crc32c", crc32c, &message)?;
                if algorithm.signs() && algorithm.signature_digest().is_none() {
                    return Ok(message);
                }
                hash(algorithm, message.expose_secret()).map(SecretBytes::new)
            }
        }
    }
}

fn hash(algorithm: Algorithm, message: &[u8]) -> Result<Vec<u8>, Problem> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(Problem::Length(LengthError {
            field: "message".to_owned(),
            algorithm: algorithm.name().to_owned(),
            found_bytes: message.len(),
            takes: format!("at most {MESSAGE_BYTES_MAX}; hash longer ones yourself and send the digest"),
        }));
    }
    match algorithm.signature_digest() {
        Some(Digest::Sha256) => Ok(Sha256::digest(message).to_vec()),
        Some(Digest::Sha384) => Ok(Sha384::digest(message).to_vec()),
        Some(Digest::Sha512) => Ok(Sha512::digest(message).to_vec()),
        Some(Digest::Sha1) | None => {
            let why = format!("{} is not a signature algorithm; RS*, PS*, ES*, EdDSA and HS* are", algorithm.name());
            Err(Problem::Invalid { field: "algorithm", why })
        }
    }
}

async fn encrypt(
    service: &Arc<Service>,
    caller: &Caller,
    message: EncryptRequest,
) -> Result<EncryptResponse, ServiceError> {
    let (name, algorithm, plaintext, iv, additional_data) = read_encrypt(message)?;
    service.encrypt(caller, &name, algorithm, plaintext, iv, additional_data).await.map(encrypted)
}

type Encryption = (KeyRef, Algorithm, SecretBytes, Vec<u8>, Vec<u8>);

/// Key, algorithm, plaintext, IV and additional data.
pub(super) fn read_encrypt(message: EncryptRequest) -> Result<Encryption, Problem> {
    let plaintext = SecretBytes::new(message.plaintext);
    let name = names::key_or_version("name", &message.name)?;
    let algorithm = decode::algorithm(&message.algorithm)?;
    decode::check_secret_crc32c("plaintext_crc32c", message.plaintext_crc32c, &plaintext)?;
    decode::check_crc32c("additional_data_crc32c", message.additional_data_crc32c, &message.additional_data)?;
    Ok((name, algorithm, plaintext, message.iv, message.additional_data))
}

pub(super) fn encrypted(encrypted: Encrypted) -> EncryptResponse {
    let ciphertext_crc32c = crc32c::crc32c(&encrypted.ciphertext);
    EncryptResponse {
        name: version_name(&encrypted.version),
        ciphertext: encrypted.ciphertext,
        iv: encrypted.iv,
        tag: encrypted.tag,
        ciphertext_crc32c,
    }
}

async fn decrypt(
    service: &Arc<Service>,
    caller: &Caller,
    message: DecryptRequest,
) -> Result<DecryptResponse, ServiceError> {
    let (name, algorithm, input) = read_decrypt(message)?;
    service.decrypt(caller, &name, algorithm, input).await.map(decrypted)
}

/// Key, algorithm and ciphertext.
pub(super) fn read_decrypt(message: DecryptRequest) -> Result<(KeyRef, Algorithm, Ciphertext), Problem> {
    let name = names::key_or_version("name", &message.name)?;
    let algorithm = decode::algorithm(&message.algorithm)?;
    decode::check_crc32c("ciphertext_crc32c", message.ciphertext_crc32c, &message.ciphertext)?;
    decode::check_crc32c("additional_data_crc32c", message.additional_data_crc32c, &message.additional_data)?;
    let DecryptRequest { ciphertext, iv, tag, additional_data, .. } = message;
    Ok((name, algorithm, Ciphertext { ciphertext, iv, tag, additional_data }))
}

pub(super) fn decrypted((version, plaintext): (Arc<VersionRow>, SecretBytes)) -> DecryptResponse {
    let plaintext_crc32c = encode::crc32c_of(&plaintext);
    DecryptResponse { name: version_name(&version), plaintext: plaintext.into_exposed(), plaintext_crc32c }
}

async fn wrap_key(
    service: &Arc<Service>,
    caller: &Caller,
    message: WrapKeyRequest,
) -> Result<WrapKeyResponse, ServiceError> {
    let (name, algorithm, key) = read_wrap_key(message)?;
    service.wrap_key(caller, &name, algorithm, key).await.map(wrapped)
}

/// Key, algorithm and the key to wrap.
pub(super) fn read_wrap_key(message: WrapKeyRequest) -> Result<(KeyRef, Algorithm, SecretBytes), Problem> {
    let key = SecretBytes::new(message.key);
    let name = names::key_or_version("name", &message.name)?;
    let algorithm = decode::algorithm(&message.algorithm)?;
    decode::check_secret_crc32c("key_crc32c", message.key_crc32c, &key)?;
    Ok((name, algorithm, key))
}

pub(super) fn wrapped(wrapped: Encrypted) -> WrapKeyResponse {
    let wrapped_key_crc32c = crc32c::crc32c(&wrapped.ciphertext);
    WrapKeyResponse { name: version_name(&wrapped.version), wrapped_key: wrapped.ciphertext, wrapped_key_crc32c }
}

async fn unwrap_key(
    service: &Arc<Service>,
    caller: &Caller,
    message: UnwrapKeyRequest,
) -> Result<UnwrapKeyResponse, ServiceError> {
    let (name, algorithm, input) = read_unwrap_key(message)?;
    service.unwrap_key(caller, &name, algorithm, input).await.map(unwrapped)
}

/// Key, algorithm and the wrapped key.
pub(super) fn read_unwrap_key(message: UnwrapKeyRequest) -> Result<(KeyRef, Algorithm, Ciphertext), Problem> {
    let name = names::key_or_version("name", &message.name)?;
    let algorithm = decode::algorithm(&message.algorithm)?;
    decode::check_crc32c("wrapped_key_crc32c", message.wrapped_key_crc32c, &message.wrapped_key)?;
    let (iv, tag, additional_data) = (Vec::new(), Vec::new(), Vec::new());
    Ok((name, algorithm, Ciphertext { ciphertext: message.wrapped_key, iv, tag, additional_data }))
}

pub(super) fn unwrapped((version, key): (Arc<VersionRow>, SecretBytes)) -> UnwrapKeyResponse {
    let key_crc32c = encode::crc32c_of(&key);
    UnwrapKeyResponse { name: version_name(&version), key: key.into_exposed(), key_crc32c }
}

async fn re_encrypt(
    service: &Arc<Service>,
    caller: &Caller,
    message: ReEncryptRequest,
) -> Result<ReEncryptResponse, ServiceError> {
    let (name, algorithm, input, to) = read_re_encrypt(message)?;
    let (source, plaintext) = service.decrypt(caller, &name, algorithm, input).await?;
    let Destination { name, algorithm, iv, additional_data } = to;
    let made = service.encrypt(caller, &name, algorithm, plaintext, iv, additional_data).await?;
    Ok(re_encrypted(&source, made))
}

type Anew = (KeyRef, Algorithm, Ciphertext, Destination);

/// What is decrypted, and under what it is put.
pub(super) fn read_re_encrypt(message: ReEncryptRequest) -> Result<Anew, Problem> {
    let (name, algorithm, input) = read_decrypt(decode::required("source", message.source)?)?;
    let mut to = destination(&name, algorithm, &message.destination_name, &message.destination_algorithm)?;
    let same = || if to.algorithm.scheme() == Scheme::AesGcm { input.additional_data.clone() } else { Vec::new() };
    let additional_data = message.destination_additional_data.unwrap_or_else(same);
    (to.iv, to.additional_data) = (message.destination_iv, additional_data);
    Ok((name, algorithm, input, to))
}

/// The key of the source, and its algorithm, unless others are said.
fn destination(source: &KeyRef, algorithm: Algorithm, name: &str, by: &str) -> Result<Destination, Problem> {
    let name = match name {
        "" => KeyRef { version: None, ..source.clone() },
        name => names::key_or_version("destination_name", name)?,
    };
    let algorithm = if by.is_empty() { algorithm } else { decode::algorithm(by)? };
    Ok(Destination { name, algorithm, iv: Vec::new(), additional_data: Vec::new() })
}

pub(super) fn re_encrypted(source: &VersionRow, made: Encrypted) -> ReEncryptResponse {
    ReEncryptResponse { source_name: version_name(source), destination: Some(encrypted(made)) }
}

async fn rewrap_key(
    service: &Arc<Service>,
    caller: &Caller,
    message: RewrapKeyRequest,
) -> Result<RewrapKeyResponse, ServiceError> {
    let (name, algorithm, input, to) = read_rewrap_key(message)?;
    let (source, key) = service.unwrap_key(caller, &name, algorithm, input).await?;
    let made = service.wrap_key(caller, &to.name, to.algorithm, key).await?;
    Ok(rewrapped(&source, made))
}

/// What is unwrapped, and under what it is put.
pub(super) fn read_rewrap_key(message: RewrapKeyRequest) -> Result<Anew, Problem> {
    let (name, algorithm, input) = read_unwrap_key(decode::required("source", message.source)?)?;
    let to = destination(&name, algorithm, &message.destination_name, &message.destination_algorithm)?;
    Ok((name, algorithm, input, to))
}

pub(super) fn rewrapped(source: &VersionRow, made: Encrypted) -> RewrapKeyResponse {
    RewrapKeyResponse { source_name: version_name(source), destination: Some(wrapped(made)) }
}

/// The length of a data key when it is not said.
const DATA_KEY_BYTES_UNSAID: u32 = 32;

async fn generate_data_key(
    service: &Arc<Service>,
    caller: &Caller,
    message: GenerateDataKeyRequest,
) -> Result<GenerateDataKeyResponse, ServiceError> {
    let (name, new) = read_data_key(message)?;
    service.generate_data_key(caller, &name, new).await.map(data_key)
}

/// Key, and the data key that is wanted.
pub(super) fn read_data_key(message: GenerateDataKeyRequest) -> Result<(KeyRef, NewDataKey), Problem> {
    let GenerateDataKeyRequest { name, algorithm, length_bytes, additional_data, additional_data_crc32c } = message;
    let name = names::key_or_version("name", &name)?;
    let new = new_data_key(&algorithm, length_bytes, additional_data, additional_data_crc32c)?;
    Ok((name, new))
}

pub(super) fn data_key(made: DataKey) -> GenerateDataKeyResponse {
    let Encrypted { version, ciphertext: wrapped_key, iv, tag } = made.wrapped;
    GenerateDataKeyResponse {
        name: version_name(&version),
        key_crc32c: encode::crc32c_of(&made.key),
        key: made.key.into_exposed(),
        wrapped_key_crc32c: crc32c::crc32c(&wrapped_key),
        wrapped_key,
        iv,
        tag,
    }
}

async fn generate_data_key_without_plaintext(
    service: &Arc<Service>,
    caller: &Caller,
    message: GenerateDataKeyWithoutPlaintextRequest,
) -> Result<GenerateDataKeyWithoutPlaintextResponse, ServiceError> {
    let (name, new) = read_wrapped_data_key(message)?;
    service.generate_wrapped_data_key(caller, &name, new).await.map(wrapped_data_key)
}

/// Key, and the data key that is wanted.
pub(super) fn read_wrapped_data_key(
    message: GenerateDataKeyWithoutPlaintextRequest,
) -> Result<(KeyRef, NewDataKey), Problem> {
    let GenerateDataKeyWithoutPlaintextRequest {
        name,
        algorithm,
        length_bytes,
        additional_data,
        additional_data_crc32c,
    } = message;
    let name = names::key_or_version("name", &name)?;
    let new = new_data_key(&algorithm, length_bytes, additional_data, additional_data_crc32c)?;
    Ok((name, new))
}

pub(super) fn wrapped_data_key(wrapped: Encrypted) -> GenerateDataKeyWithoutPlaintextResponse {
    let Encrypted { version, ciphertext: wrapped_key, iv, tag } = wrapped;
    GenerateDataKeyWithoutPlaintextResponse {
        name: version_name(&version),
        wrapped_key_crc32c: crc32c::crc32c(&wrapped_key),
        wrapped_key,
        iv,
        tag,
    }
}

fn new_data_key(
    algorithm: &str,
    length_bytes: i32,
    additional_data: Vec<u8>,
    additional_data_crc32c: Option<u32>,
) -> Result<NewDataKey, Problem> {
    let algorithm = decode::algorithm(algorithm)?;
    decode::check_crc32c("additional_data_crc32c", additional_data_crc32c, &additional_data)?;
    let length_bytes = match length_bytes {
        0 => DATA_KEY_BYTES_UNSAID,
        // A negative length is no length; the service says which are.
        said => u32::try_from(said).unwrap_or(0),
    };
    Ok(NewDataKey { algorithm, length_bytes, additional_data })
}

async fn generate_random_bytes(
    service: &Arc<Service>,
    caller: &Caller,
    message: GenerateRandomBytesRequest,
) -> Result<GenerateRandomBytesResponse, ServiceError> {
    service.random(caller, read_length(&message)).await.map(random)
}

/// A negative length is no length; the service says which are.
pub(super) fn read_length(message: &GenerateRandomBytesRequest) -> u32 {
    u32::try_from(message.length_bytes).unwrap_or(0)
}

pub(super) fn random(data: SecretBytes) -> GenerateRandomBytesResponse {
    let data_crc32c = encode::crc32c_of(&data);
    GenerateRandomBytesResponse { data: data.into_exposed(), data_crc32c }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_hashed_with_the_hash_of_their_algorithm() {
        for (algorithm, bytes) in [("ES256", 32), ("RS384", 48), ("PS512", 64), ("ES512", 64), ("ES256K", 32)] {
            let algorithm = Algorithm::from_name(algorithm).expect("is one");
            assert_eq!(hash(algorithm, b"message").expect("hashes").len(), bytes);
        }
        for algorithm in ["A256GCM", "A128CBC", "RSA-OAEP", "RSA-OAEP-256", "RSA1_5", "A128KW"] {
            let algorithm = Algorithm::from_name(algorithm).expect("is one");
            assert!(matches!(hash(algorithm, b"x"), Err(Problem::Invalid { field: "algorithm", .. })));
        }
    }

    #[test]
    fn a_message_has_64_kib_at_most() {
        let es256 = Algorithm::from_name("ES256").expect("is one");
        assert!(hash(es256, &[0; MESSAGE_BYTES_MAX]).is_ok());
        assert!(matches!(hash(es256, &[0; MESSAGE_BYTES_MAX + 1]), Err(Problem::Length(_))));
    }

    #[test]
    fn a_damaged_input_is_refused_before_it_is_hashed() {
        let es256 = Algorithm::from_name("ES256").expect("is one");
        assert!(Input::Message(SecretBytes::new(b"a".to_vec())).signed(es256, Some(1)).is_err());
        let crc = crc32c::crc32c(b"a");
        assert!(Input::Message(SecretBytes::new(b"a".to_vec())).signed(es256, Some(crc)).is_ok());
        assert!(Input::Digest(vec![0; 32]).signed(es256, Some(1)).is_err());
    }

    #[test]
    fn eddsa_and_hmac_sign_the_bytes_themselves() {
        let named = |name| Algorithm::from_name(name).expect("is one");
        for algorithm in ["EdDSA", "HS256", "HS512"] {
            let signed = Input::Message(SecretBytes::new(b"a".to_vec())).signed(named(algorithm), None);
            assert_eq!(signed.expect("as it is").expose_secret(), b"a");
        }
        let signed = Input::Digest(b"any length".to_vec()).signed(named("HS384"), None);
        assert_eq!(signed.expect("as it is").expose_secret(), b"any length");
        let refused = Input::Digest(vec![0; 64]).signed(named("EdDSA"), None);
        assert!(matches!(refused, Err(Problem::Invalid { field: "digest", .. })));
    }
}
