//! Many operations in one call.

use secrecy::SecretSlice;
use strongroom_proto::v1::{
    BatchRequest, GenerateRandomBytesRequest, OperationRequest, OperationResponse, operation_request,
    operation_response::Result as Answer,
};
use tonic::{Code, Status};

use crate::{
    Algorithm, Ciphertext, Client, DataKey, DataKeyLength, Encryption, Error, Input, Plaintext, Sealed, Signature,
    UnwrappedKey, Verdict, WrappedDataKey, WrappedKey,
    crypto::{secret, wire},
};

/// One operation of a batch: the key or version, the algorithm, and what the method of that name takes. Debug
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
}

/// What an operation of a batch has given.
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
}

impl Client {
    /// Many operations in one call: 1 to 256, and 4 MiB. One result for each, in their order; one that fails is no
    /// reason for another to. What reaches the HSM's own speed with short operations.
    ///
    /// # Errors
    /// Of the call: [`Error`]. Of an operation: as its method.
    pub async fn batch(&self, operations: &[Operation<'_>]) -> Result<Vec<Result<Outcome, Error>>, Error> {
        let request = || BatchRequest { operations: operations.iter().map(|operation| sent(*operation)).collect() };
        let results = self.call(request, |request| async { self.crypto().batch(request).await }).await?.results;
        if results.len() != operations.len() {
            return Err(Error::Unexpected(format!("{} results to {} operations", results.len(), operations.len())));
        }
        Ok(results.into_iter().zip(operations).map(|(result, operation)| self.outcome(result, *operation)).collect())
    }

    fn outcome(&self, result: OperationResponse, operation: Operation<'_>) -> Result<Outcome, Error> {
        use Operation as O;
        match (result.result, operation) {
            (Some(Answer::Sign(answer)), O::Sign(..)) => wire::signed(answer).map(Outcome::Signature),
            (Some(Answer::Verify(answer)), O::Verify(..)) => Ok(Outcome::Verdict(wire::verified(answer))),
            (Some(Answer::Encrypt(answer)), O::Encrypt(..)) => wire::encrypted(answer).map(Outcome::Ciphertext),
            (Some(Answer::Decrypt(answer)), O::Decrypt(..)) => wire::decrypted(answer).map(Outcome::Plaintext),
            (Some(Answer::WrapKey(answer)), O::WrapKey(..)) => wire::wrapped(answer).map(Outcome::WrappedKey),
            (Some(Answer::UnwrapKey(answer)), O::UnwrapKey(..)) => wire::unwrapped(answer).map(Outcome::UnwrappedKey),
            (Some(Answer::GenerateRandomBytes(answer)), O::RandomBytes(length)) => {
                let found = answer.data.len();
                let data = secret("data", answer.data, answer.data_crc32c)?;
                if found == usize::from(length) {
                    Ok(Outcome::RandomBytes(data))
                } else {
                    Err(Error::Unexpected(format!("{found} random bytes instead of {length}")))
                }
            }
            (Some(Answer::GenerateDataKey(answer)), O::DataKey(_, _, wanted)) => {
                wire::made_data_key(answer, wanted.length_bytes).map(Outcome::DataKey)
            }
            (Some(Answer::GenerateDataKeyWithoutPlaintext(answer)), O::WrappedDataKey(..)) => {
                wire::made_wrapped_data_key(answer).map(Outcome::WrappedDataKey)
            }
            (Some(Answer::Error(error)), _) => {
                let details = prost::Message::encode_to_vec(&error).into();
                let status = Status::with_details(Code::from_i32(error.code), error.message, details);
                Err(self.refused(&status))
            }
            _ => Err(Error::Unexpected("a result of another kind than its operation".to_owned())),
        }
    }
}

fn sent(operation: Operation<'_>) -> OperationRequest {
    use operation_request::Operation as Sent;
    let operation = match operation {
        Operation::Sign(name, algorithm, input) => Sent::Sign(wire::sign(name, algorithm, input)),
        Operation::Verify(name, algorithm, input, signature) => {
            Sent::Verify(wire::verify(name, algorithm, input, signature))
        }
        Operation::Encrypt(name, algorithm, data) => Sent::Encrypt(wire::encrypt(name, algorithm, data)),
        Operation::Decrypt(name, algorithm, data) => Sent::Decrypt(wire::decrypt(name, algorithm, data)),
        Operation::WrapKey(name, algorithm, key) => Sent::WrapKey(wire::wrap_key(name, algorithm, key)),
        Operation::UnwrapKey(name, algorithm, key) => Sent::UnwrapKey(wire::unwrap_key(name, algorithm, key)),
        Operation::RandomBytes(length) => {
            Sent::GenerateRandomBytes(GenerateRandomBytesRequest { length_bytes: length.into() })
        }
        Operation::DataKey(name, algorithm, wanted) => Sent::GenerateDataKey(wire::data_key(name, algorithm, wanted)),
        Operation::WrappedDataKey(name, algorithm, wanted) => {
            Sent::GenerateDataKeyWithoutPlaintext(wire::wrapped_data_key(name, algorithm, wanted))
        }
    };
    OperationRequest { operation: Some(operation) }
}
