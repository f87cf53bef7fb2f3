//! An operation among others, of a batch or of a stream: how it is sent, and what its answer means.

use secrecy::SecretSlice;
use strongroom_proto::v1::{
    GenerateRandomBytesRequest, OperationRequest, OperationResponse, operation_request,
    operation_response::Result as Answer,
};
use tonic::{Code, Status};

use crate::{
    Algorithm, Ciphertext, Client, DataKey, DataKeyLength, Destination, Encryption, Error, Input, Plaintext,
    ReEncrypted, Rewrapped, Sealed, Signature, UnwrappedKey, Verdict, WrappedDataKey, WrappedKey,
    crypto::{secret, wire},
};

/// One operation of a batch or stream: the key or version, the algorithm, and what the method of that name takes. Debug
/// would show inputs, so there is none.
#[derive(Clone, Copy)]
pub enum Operation<'a> {
    /// See [`Client::sign`].
    Sign(&'a str, &'a Algorithm, Input<'a>),
    /// See [`Client::verify`]; last, the signature.
    Verify(&'a str, &'a Algorithm, Input<'a>, &'a [u8]),
    /// See [`Client::encrypt`].
    Encrypt(&'a str, &'a Algorithm, Encryption<'a>),
    /// See [`Client::decrypt`].
    Decrypt(&'a str, &'a Algorithm, Sealed<'a>),
    /// See [`Client::wrap_key`]; last, the key.
    WrapKey(&'a str, &'a Algorithm, &'a [u8]),
    /// See [`Client::unwrap_key`]; last, the wrapped key.
    UnwrapKey(&'a str, &'a Algorithm, &'a [u8]),
    /// 1 to 1024 random bytes.
    RandomBytes(u16),
    /// See [`Client::generate_data_key`].
    DataKey(&'a str, &'a Algorithm, DataKeyLength<'a>),
    /// See [`Client::generate_data_key_without_plaintext`].
    WrappedDataKey(&'a str, &'a Algorithm, DataKeyLength<'a>),
    /// See [`Client::re_encrypt`].
    ReEncrypt(&'a str, &'a Algorithm, Sealed<'a>, Destination<'a>),
    /// See [`Client::rewrap_key`]; third, the wrapped key.
    RewrapKey(&'a str, &'a Algorithm, &'a [u8], Destination<'a>),
}

/// What an operation of a batch or stream has given.
#[derive(Debug)]
pub enum Outcome {
    /// To [`Operation::Sign`].
    Signature(Signature),
    /// To [`Operation::Verify`].
    Verdict(Verdict),
    /// To [`Operation::Encrypt`].
    Ciphertext(Ciphertext),
    /// To [`Operation::Decrypt`].
    Plaintext(Plaintext),
    /// To [`Operation::WrapKey`].
    WrappedKey(WrappedKey),
    /// To [`Operation::UnwrapKey`].
    UnwrappedKey(UnwrappedKey),
    /// To [`Operation::RandomBytes`].
    RandomBytes(SecretSlice<u8>),
    /// To [`Operation::DataKey`].
    DataKey(DataKey),
    /// To [`Operation::WrappedDataKey`].
    WrappedDataKey(WrappedDataKey),
    /// To [`Operation::ReEncrypt`].
    ReEncrypted(ReEncrypted),
    /// To [`Operation::RewrapKey`].
    Rewrapped(Rewrapped),
}

/// What an operation must give, known when its inputs are forgotten.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted {
    Signature,
    Verdict,
    Ciphertext,
    Plaintext,
    WrappedKey,
    UnwrappedKey,
    /// That many.
    RandomBytes(u16),
    /// Of that length in bytes.
    DataKey(i32),
    WrappedDataKey,
    ReEncrypted,
    Rewrapped,
}

impl Operation<'_> {
    /// As it is sent.
    pub(crate) fn request(self) -> OperationRequest {
        use operation_request::Operation as Sent;
        let operation = match self {
            Self::Sign(name, algorithm, input) => Sent::Sign(wire::sign(name, algorithm, input)),
            Self::Verify(name, algorithm, input, signature) => {
                Sent::Verify(wire::verify(name, algorithm, input, signature))
            }
            Self::Encrypt(name, algorithm, data) => Sent::Encrypt(wire::encrypt(name, algorithm, data)),
            Self::Decrypt(name, algorithm, data) => Sent::Decrypt(wire::decrypt(name, algorithm, data)),
            Self::WrapKey(name, algorithm, key) => Sent::WrapKey(wire::wrap_key(name, algorithm, key)),
            Self::UnwrapKey(name, algorithm, key) => Sent::UnwrapKey(wire::unwrap_key(name, algorithm, key)),
            Self::RandomBytes(length) => {
                Sent::GenerateRandomBytes(GenerateRandomBytesRequest { length_bytes: length.into() })
            }
            Self::DataKey(name, algorithm, wanted) => Sent::GenerateDataKey(wire::data_key(name, algorithm, wanted)),
            Self::WrappedDataKey(name, algorithm, wanted) => {
                Sent::GenerateDataKeyWithoutPlaintext(wire::wrapped_data_key(name, algorithm, wanted))
            }
            Self::ReEncrypt(name, algorithm, data, to) => Sent::ReEncrypt(wire::re_encrypt(name, algorithm, data, to)),
            Self::RewrapKey(name, algorithm, key, to) => Sent::RewrapKey(wire::rewrap_key(name, algorithm, key, to)),
        };
        OperationRequest { operation: Some(operation) }
    }

    /// What it must give.
    pub(crate) const fn wanted(self) -> Wanted {
        match self {
            Self::Sign(..) => Wanted::Signature,
            Self::Verify(..) => Wanted::Verdict,
            Self::Encrypt(..) => Wanted::Ciphertext,
            Self::Decrypt(..) => Wanted::Plaintext,
            Self::WrapKey(..) => Wanted::WrappedKey,
            Self::UnwrapKey(..) => Wanted::UnwrappedKey,
            Self::RandomBytes(length) => Wanted::RandomBytes(length),
            Self::DataKey(_, _, wanted) => Wanted::DataKey(wanted.length_bytes),
            Self::WrappedDataKey(..) => Wanted::WrappedDataKey,
            Self::ReEncrypt(..) => Wanted::ReEncrypted,
            Self::RewrapKey(..) => Wanted::Rewrapped,
        }
    }
}

impl Client {
    /// What an answer gives to an operation that wanted this.
    pub(crate) fn outcome(&self, wanted: Wanted, answer: OperationResponse) -> Result<Outcome, Error> {
        use Wanted as W;
        match (answer.result, wanted) {
            (Some(Answer::Sign(answer)), W::Signature) => wire::signed(answer).map(Outcome::Signature),
            (Some(Answer::Verify(answer)), W::Verdict) => Ok(Outcome::Verdict(wire::verified(answer))),
            (Some(Answer::Encrypt(answer)), W::Ciphertext) => wire::encrypted(answer).map(Outcome::Ciphertext),
            (Some(Answer::Decrypt(answer)), W::Plaintext) => wire::decrypted(answer).map(Outcome::Plaintext),
            (Some(Answer::WrapKey(answer)), W::WrappedKey) => wire::wrapped(answer).map(Outcome::WrappedKey),
            (Some(Answer::UnwrapKey(answer)), W::UnwrappedKey) => wire::unwrapped(answer).map(Outcome::UnwrappedKey),
            (Some(Answer::GenerateRandomBytes(answer)), W::RandomBytes(length)) => {
                let found = answer.data.len();
                let data = secret("data", answer.data, answer.data_crc32c)?;
                if found == usize::from(length) {
                    Ok(Outcome::RandomBytes(data))
                } else {
                    Err(Error::Unexpected(format!("{found} random bytes instead of {length}")))
                }
            }
            (Some(Answer::GenerateDataKey(answer)), W::DataKey(length_bytes)) => {
                wire::made_data_key(answer, length_bytes).map(Outcome::DataKey)
            }
            (Some(Answer::GenerateDataKeyWithoutPlaintext(answer)), W::WrappedDataKey) => {
                wire::made_wrapped_data_key(answer).map(Outcome::WrappedDataKey)
            }
            (Some(Answer::ReEncrypt(answer)), W::ReEncrypted) => wire::re_encrypted(answer).map(Outcome::ReEncrypted),
            (Some(Answer::RewrapKey(answer)), W::Rewrapped) => wire::rewrapped(answer).map(Outcome::Rewrapped),
            (Some(Answer::Error(error)), _) => {
                let details = prost::Message::encode_to_vec(&error).into();
                let status = Status::with_details(Code::from_i32(error.code), error.message, details);
                Err(self.refused(&status))
            }
            _ => Err(another_kind()),
        }
    }
}

/// An operation was answered as another would be.
pub(crate) fn another_kind() -> Error {
    Error::Unexpected("a result of another kind than its operation".to_owned())
}
