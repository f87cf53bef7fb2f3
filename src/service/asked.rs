//! What is asked of a key, typed by the right that it needs: [`hands`](super::hands) does it with a grant for
//! that right and no other. One operation and many are checked, done and answered by the same functions.

use std::{marker::PhantomData, sync::Arc};

use serde_bytes::ByteBuf;
use sha2::{Digest as _, Sha256};
use strongroom_hsm::{
    SecretBytes,
    algorithms::Scheme,
    protocol::{DataKeyForm, Operation, Output},
};

use super::{
    Ciphertext, DataKey, Encrypted, NewDataKey, Signed,
    error::{Problem, ServiceError},
    hands, version_name,
};
use crate::{
    access::{Op, ops},
    model::{Algorithm, KeyOps, KeySpec, VersionRow},
};

/// An operation with a key, as a type.
pub trait KeyOp: Op {
    /// The field of its main input, as errors name it.
    const INPUT: &'static str;
    /// What it gives.
    type Out: Send + 'static;

    /// The answer, made of what the HSM gave.
    ///
    /// # Errors
    /// When that is another operation's.
    fn answer(version: Arc<VersionRow>, output: Output) -> Result<Self::Out, ServiceError>;
}

/// What an algorithm that is named stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    /// Itself.
    Exact,
    /// Its scheme: the key's size says which it is.
    Scheme,
}

/// An operation with a key and its inputs.
pub struct Asked<O: KeyOp> {
    operation: Operation,
    fit: Fit,
    op: PhantomData<fn() -> O>,
}

impl<O: KeyOp> Asked<O> {
    fn new(operation: Operation) -> Self {
        Self { operation, fit: Fit::Exact, op: PhantomData }
    }

    /// By the algorithm of the same scheme that the key's size has, whichever that is.
    #[must_use]
    pub fn of_any_size(self) -> Self {
        Self { fit: Fit::Scheme, ..self }
    }

    /// As it is asked of a key of that kind.
    pub(super) fn fitted(mut self, spec: KeySpec) -> Self {
        let scheme = self.algorithm().scheme();
        let fitting = || Algorithm::ALL.into_iter().find(|other| other.scheme() == scheme && other.takes(spec));
        if let (Fit::Scheme, Some(found)) = (self.fit, fitting())
            && let Operation::Encrypt { algorithm, .. } | Operation::Decrypt { algorithm, .. } = &mut self.operation
        {
            *algorithm = found;
        }
        self
    }

    /// The algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.operation.algorithm()
    }

    /// What it costs with such a key.
    #[must_use]
    pub fn cost_us(&self, spec: KeySpec) -> u64 {
        u64::from(self.operation.cost_us(spec))
    }

    /// What the key's own operations must list.
    #[must_use]
    pub fn purpose(&self) -> KeyOps {
        match self.operation.purpose() {
            // A data key by an algorithm that wraps none: it is refused as one that wraps nothing.
            KeyOps::NONE => KeyOps::WRAP_KEY,
            purpose => purpose,
        }
    }

    /// As the HSM is asked.
    pub(super) fn into_operation(self) -> Operation {
        self.operation
    }

    /// Whether it takes one out of the key's budget of encryptions.
    pub(super) fn is_counted(&self) -> bool {
        let encrypts = matches!(self.operation, Operation::Encrypt { .. } | Operation::DataKey { .. });
        encrypts && self.algorithm().scheme() == Scheme::AesGcm
    }

    /// Whether it makes something new with the key: what a budget of uses counts.
    pub(super) fn makes(&self) -> bool {
        !matches!(self.operation, Operation::Verify { .. } | Operation::Decrypt { .. })
    }

    /// Whether it tells right padding from wrong, which has its bounds: see [`super::padding`].
    pub(super) fn unpads(&self) -> bool {
        matches!(self.operation, Operation::Decrypt { .. }) && self.algorithm().is_padding_oracle()
    }

    /// Whether it computes single AES blocks that the caller chooses, by choosing the IV (A*CBC, A*CBCPAD): with
    /// these, all else that the key does can be computed, so all of it must be permitted.
    pub(super) fn is_bare_cipher(&self) -> bool {
        matches!(self.algorithm().scheme(), Scheme::AesCbc | Scheme::AesCbcPad)
    }

    /// Checks algorithm and lengths against the version.
    pub(super) fn check(&self, row: &VersionRow) -> Result<(), ServiceError> {
        let (algorithm, purpose) = (self.algorithm(), self.purpose());
        if !algorithm.takes(row.spec) || !algorithm.ops().contains(purpose) {
            return Err(hands::wrong_algorithm(row.spec, version_name(row), purpose, algorithm).into());
        }
        match &self.operation {
            Operation::Sign { input, .. } => algorithm.check_input(input.expose_secret())?,
            Operation::Verify { input, signature, .. } => {
                algorithm.check_input(input.expose_secret())?;
                algorithm.check_signature(signature, row.spec)?;
            }
            Operation::Encrypt { plaintext, iv, additional_data, .. } => {
                algorithm.check_plaintext(O::INPUT, plaintext.expose_secret(), row.spec)?;
                algorithm.check_chosen_iv(iv)?;
                algorithm.check_additional_data(additional_data)?;
            }
            Operation::Decrypt { ciphertext, iv, tag, additional_data, .. } => {
                algorithm.check_ciphertext(O::INPUT, ciphertext, row.spec)?;
                algorithm.check_iv_and_tag(iv, tag)?;
                algorithm.check_additional_data(additional_data)?;
            }
            Operation::DataKey { length_bytes, additional_data, .. } => {
                let length_bytes = usize::try_from(*length_bytes).unwrap_or(usize::MAX);
                algorithm.check_data_key(length_bytes, row.spec)?;
                algorithm.check_additional_data(additional_data)?;
            }
        }
        Ok(())
    }

    /// The digest of what is given and no secret, for the record of a batch: see [`made`].
    pub(super) fn given(&self) -> Option<[u8; 32]> {
        match &self.operation {
            Operation::Verify { signature, .. } => Some(digest(&[signature])),
            Operation::Decrypt { ciphertext, iv, tag, .. } => Some(digest(&[ciphertext, iv, tag])),
            Operation::Sign { .. } | Operation::Encrypt { .. } | Operation::DataKey { .. } => None,
        }
    }
}

/// The digest of what was made and is no secret, for the record of a batch: `sha256sum` of a signature, or of
/// ciphertext, IV and tag one behind the other, finds it.
pub(super) fn made(output: &Output) -> Option<[u8; 32]> {
    match output {
        Output::Signature(signature) => Some(digest(&[signature])),
        Output::Ciphertext { ciphertext, iv, tag } | Output::DataKey { ciphertext, iv, tag, .. } => {
            Some(digest(&[ciphertext, iv, tag]))
        }
        Output::Verified(_) | Output::Plaintext(_) => None,
    }
}

fn digest(parts: &[&ByteBuf]) -> [u8; 32] {
    parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part.as_slice())).finalize().into()
}

impl Asked<ops::KeysSign> {
    /// A signature over a digest, or a message (EdDSA, HS*).
    #[must_use]
    pub fn sign(algorithm: Algorithm, input: SecretBytes) -> Self {
        Self::new(Operation::Sign { algorithm, input })
    }
}

impl Asked<ops::KeysVerify> {
    /// A verdict on a signature over a digest or message.
    #[must_use]
    pub fn verify(algorithm: Algorithm, input: SecretBytes, signature: Vec<u8>) -> Self {
        Self::new(Operation::Verify { algorithm, input, signature: signature.into() })
    }
}

impl Asked<ops::KeysEncrypt> {
    /// Encrypted data.
    #[must_use]
    pub fn encrypt(algorithm: Algorithm, plaintext: SecretBytes, iv: Vec<u8>, additional_data: Vec<u8>) -> Self {
        let (purpose, iv, additional_data) = (KeyOps::ENCRYPT, iv.into(), additional_data.into());
        Self::new(Operation::Encrypt { algorithm, purpose, plaintext, iv, additional_data })
    }
}

impl Asked<ops::KeysWrap> {
    /// A wrapped key of a caller's.
    #[must_use]
    pub fn wrap(algorithm: Algorithm, key: SecretBytes) -> Self {
        let (purpose, iv, additional_data) = (KeyOps::WRAP_KEY, ByteBuf::new(), ByteBuf::new());
        Self::new(Operation::Encrypt { algorithm, purpose, plaintext: key, iv, additional_data })
    }
}

impl Asked<ops::KeysDecrypt> {
    /// Decrypted data.
    #[must_use]
    pub fn decrypt(algorithm: Algorithm, input: Ciphertext) -> Self {
        Self::new(decryption(algorithm, KeyOps::DECRYPT, input))
    }
}

impl Asked<ops::KeysUnwrap> {
    /// An unwrapped key of a caller's.
    #[must_use]
    pub fn unwrap(algorithm: Algorithm, input: Ciphertext) -> Self {
        Self::new(decryption(algorithm, KeyOps::UNWRAP_KEY, input))
    }
}

impl Asked<ops::DataKeysGenerate> {
    /// A data key, in the clear and under the key.
    #[must_use]
    pub fn data_key(new: NewDataKey) -> Self {
        Self::new(making(new, DataKeyForm::PlainAndWrapped))
    }
}

impl Asked<ops::DataKeysGenerateWrapped> {
    /// A data key, under the key only.
    #[must_use]
    pub fn wrapped_data_key(new: NewDataKey) -> Self {
        Self::new(making(new, DataKeyForm::WrappedOnly))
    }
}

fn making(new: NewDataKey, form: DataKeyForm) -> Operation {
    let NewDataKey { algorithm, length_bytes, additional_data } = new;
    Operation::DataKey { algorithm, length_bytes, additional_data: additional_data.into(), form }
}

fn decryption(algorithm: Algorithm, purpose: KeyOps, input: Ciphertext) -> Operation {
    let Ciphertext { ciphertext, iv, tag, additional_data } = input;
    let (ciphertext, additional_data) = (ciphertext.into(), additional_data.into());
    Operation::Decrypt { algorithm, purpose, ciphertext, iv: iv.into(), tag: tag.into(), additional_data }
}

impl KeyOp for ops::KeysSign {
    const INPUT: &'static str = "digest";
    type Out = Signed;

    fn answer(version: Arc<VersionRow>, output: Output) -> Result<Signed, ServiceError> {
        match output {
            Output::Signature(signature) => Ok(Signed { version, signature: signature.into_vec() }),
            _ => Err(Problem::Internal.into()),
        }
    }
}

impl KeyOp for ops::KeysVerify {
    const INPUT: &'static str = "signature";
    type Out = (Arc<VersionRow>, bool);

    fn answer(version: Arc<VersionRow>, output: Output) -> Result<Self::Out, ServiceError> {
        match output {
            Output::Verified(right) => Ok((version, right)),
            _ => Err(Problem::Internal.into()),
        }
    }
}

impl KeyOp for ops::KeysEncrypt {
    const INPUT: &'static str = "plaintext";
    type Out = Encrypted;

    fn answer(version: Arc<VersionRow>, output: Output) -> Result<Encrypted, ServiceError> {
        sealed(version, output)
    }
}

impl KeyOp for ops::KeysWrap {
    const INPUT: &'static str = "key";
    type Out = Encrypted;

    fn answer(version: Arc<VersionRow>, output: Output) -> Result<Encrypted, ServiceError> {
        sealed(version, output)
    }
}

impl KeyOp for ops::KeysDecrypt {
    const INPUT: &'static str = "ciphertext";
    type Out = (Arc<VersionRow>, SecretBytes);

    fn answer(version: Arc<VersionRow>, output: Output) -> Result<Self::Out, ServiceError> {
        opened(version, output)
    }
}

impl KeyOp for ops::KeysUnwrap {
    const INPUT: &'static str = "wrapped_key";
    type Out = (Arc<VersionRow>, SecretBytes);

    fn answer(version: Arc<VersionRow>, output: Output) -> Result<Self::Out, ServiceError> {
        opened(version, output)
    }
}

impl KeyOp for ops::DataKeysGenerate {
    const INPUT: &'static str = "length_bytes";
    type Out = DataKey;

    fn answer(version: Arc<VersionRow>, output: Output) -> Result<DataKey, ServiceError> {
        match output {
            Output::DataKey { key, ciphertext, iv, tag } => {
                let wrapped = sealed(version, Output::Ciphertext { ciphertext, iv, tag })?;
                Ok(DataKey { key, wrapped })
            }
            _ => Err(Problem::Internal.into()),
        }
    }
}

impl KeyOp for ops::DataKeysGenerateWrapped {
    const INPUT: &'static str = "length_bytes";
    type Out = Encrypted;

    fn answer(version: Arc<VersionRow>, output: Output) -> Result<Encrypted, ServiceError> {
        sealed(version, output)
    }
}

fn sealed(version: Arc<VersionRow>, output: Output) -> Result<Encrypted, ServiceError> {
    match output {
        Output::Ciphertext { ciphertext, iv, tag } => {
            let (ciphertext, iv, tag) = (ciphertext.into_vec(), iv.into_vec(), tag.into_vec());
            Ok(Encrypted { version, ciphertext, iv, tag })
        }
        _ => Err(Problem::Internal.into()),
    }
}

fn opened(version: Arc<VersionRow>, output: Output) -> Result<(Arc<VersionRow>, SecretBytes), ServiceError> {
    match output {
        Output::Plaintext(plaintext) => Ok((version, plaintext)),
        _ => Err(Problem::Internal.into()),
    }
}
