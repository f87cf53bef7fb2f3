//! The only place that uses keys. Each function takes a grant for its operation, and no other key.

use std::sync::Arc;

use serde_bytes::ByteBuf;
use strongroom_hsm::{
    Error, Material, Pool, SecretBytes,
    protocol::{DataKeyForm, Fault, Generated, Moment, Operation, Output},
};

use super::{
    Ciphertext, NewDataKey,
    catalog::VersionEntry,
    error::{Problem, ServiceError},
    version_name,
};
use crate::{
    access::{Grant, Op, Permit, ops},
    model::{Algorithm, KeyOps, KeySpec, Residency, VersionId, VersionRow},
};

/// The lanes of the HSM, behind grants.
pub struct Hands {
    pool: Pool,
}

/// What an encryption gives: ciphertext, IV and tag.
pub type Sealed = (Vec<u8>, Vec<u8>, Vec<u8>);

impl Hands {
    /// Takes the pool; nobody else uses its keys.
    #[must_use]
    pub const fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// Signs a digest or message.
    pub async fn sign(
        &self,
        grant: &Grant<ops::KeysSign, VersionEntry>,
        algorithm: Algorithm,
        input: SecretBytes,
        deadline: Moment,
    ) -> Result<Vec<u8>, ServiceError> {
        let operation = Operation::Sign { algorithm, input };
        match self.operate(grant, operation, deadline).await? {
            Output::Signature(signature) => Ok(signature.into_vec()),
            _ => Err(Problem::Internal.into()),
        }
    }

    /// Verifies a signature over a digest or message.
    pub async fn verify(
        &self,
        grant: &Grant<ops::KeysVerify, VersionEntry>,
        algorithm: Algorithm,
        input: SecretBytes,
        signature: Vec<u8>,
        deadline: Moment,
    ) -> Result<bool, ServiceError> {
        let operation = Operation::Verify { algorithm, input, signature: ByteBuf::from(signature) };
        match self.operate(grant, operation, deadline).await? {
            Output::Verified(right) => Ok(right),
            _ => Err(Problem::Internal.into()),
        }
    }

    /// Encrypts data.
    pub async fn encrypt(
        &self,
        grant: &Grant<ops::KeysEncrypt, VersionEntry>,
        algorithm: Algorithm,
        plaintext: SecretBytes,
        iv: Vec<u8>,
        additional_data: Vec<u8>,
        deadline: Moment,
    ) -> Result<Sealed, ServiceError> {
        let (purpose, iv) = (KeyOps::ENCRYPT, ByteBuf::from(iv));
        let additional_data = ByteBuf::from(additional_data);
        let operation = Operation::Encrypt { algorithm, purpose, plaintext, iv, additional_data };
        sealed(self.operate(grant, operation, deadline).await?)
    }

    /// Wraps a caller's key.
    pub async fn wrap(
        &self,
        grant: &Grant<ops::KeysWrap, VersionEntry>,
        algorithm: Algorithm,
        key: SecretBytes,
        deadline: Moment,
    ) -> Result<Sealed, ServiceError> {
        let operation = Operation::Encrypt {
            algorithm,
            purpose: KeyOps::WRAP_KEY,
            plaintext: key,
            iv: ByteBuf::new(),
            additional_data: ByteBuf::new(),
        };
        sealed(self.operate(grant, operation, deadline).await?)
    }

    /// Decrypts data.
    pub async fn decrypt(
        &self,
        grant: &Grant<ops::KeysDecrypt, VersionEntry>,
        algorithm: Algorithm,
        input: Ciphertext,
        deadline: Moment,
    ) -> Result<SecretBytes, ServiceError> {
        opened(self.operate(grant, decryption(algorithm, KeyOps::DECRYPT, input), deadline).await?)
    }

    /// Unwraps a caller's key.
    pub async fn unwrap(
        &self,
        grant: &Grant<ops::KeysUnwrap, VersionEntry>,
        algorithm: Algorithm,
        input: Ciphertext,
        deadline: Moment,
    ) -> Result<SecretBytes, ServiceError> {
        opened(self.operate(grant, decryption(algorithm, KeyOps::UNWRAP_KEY, input), deadline).await?)
    }

    /// Makes a data key: in the clear, and under the key.
    pub async fn data_key(
        &self,
        grant: &Grant<ops::DataKeysGenerate, VersionEntry>,
        new: NewDataKey,
        deadline: Moment,
    ) -> Result<(SecretBytes, Sealed), ServiceError> {
        match self.operate(grant, making(new, DataKeyForm::PlainAndWrapped), deadline).await? {
            Output::DataKey { key, ciphertext, iv, tag } => {
                Ok((key, (ciphertext.into_vec(), iv.into_vec(), tag.into_vec())))
            }
            _ => Err(Problem::Internal.into()),
        }
    }

    /// Makes a data key: under the key only.
    pub async fn wrapped_data_key(
        &self,
        grant: &Grant<ops::DataKeysGenerateWrapped, VersionEntry>,
        new: NewDataKey,
        deadline: Moment,
    ) -> Result<Sealed, ServiceError> {
        sealed(self.operate(grant, making(new, DataKeyForm::WrappedOnly), deadline).await?)
    }

    /// Random bytes.
    pub async fn random(
        &self,
        _permit: &Permit<ops::RandomGenerate>,
        length: u32,
        deadline: Moment,
    ) -> Result<SecretBytes, ServiceError> {
        self.pool.random(length, deadline).await.map_err(outage)
    }

    /// Makes a key for a version that does not exist yet.
    pub async fn generate(
        &self,
        _permit: &Permit<ops::KeysCreate>,
        spec: KeySpec,
        residency: Residency,
        version: VersionId,
        deadline: Moment,
    ) -> Result<Generated, ServiceError> {
        self.pool.generate(spec, residency, version.bytes(), deadline).await.map_err(outage)
    }

    /// Brings a key in for a version that does not exist yet.
    pub async fn import(
        &self,
        _permit: &Permit<ops::KeysImport>,
        spec: KeySpec,
        residency: Residency,
        version: VersionId,
        material: Material,
        deadline: Moment,
    ) -> Result<Generated, ServiceError> {
        self.pool.import(spec, residency, version.bytes(), material, deadline).await.map_err(outage)
    }

    /// Destroys what an unfinished creation left on the token. Only for a version whose creation intent is
    /// still open.
    pub async fn reap(&self, version: VersionId, deadline: Moment) -> Result<(), ServiceError> {
        self.pool.destroy_token(version.bytes(), deadline).await.map_err(outage)
    }

    async fn operate<O: Op>(
        &self,
        grant: &Grant<O, VersionEntry>,
        operation: Operation,
        deadline: Moment,
    ) -> Result<Output, ServiceError> {
        let entry: &Arc<VersionEntry> = grant.target();
        let purpose = operation.purpose();
        let algorithm = operation.algorithm();
        self.pool
            .operate(&entry.hsm, operation, grant.admission(), deadline)
            .await
            .map_err(|error| refused(error, grant, purpose, algorithm))
    }
}

fn making(new: NewDataKey, form: DataKeyForm) -> Operation {
    let NewDataKey { algorithm, length_bytes, additional_data } = new;
    Operation::DataKey { algorithm, length_bytes, additional_data: ByteBuf::from(additional_data), form }
}

fn decryption(algorithm: Algorithm, purpose: KeyOps, input: Ciphertext) -> Operation {
    Operation::Decrypt {
        algorithm,
        purpose,
        ciphertext: ByteBuf::from(input.ciphertext),
        iv: ByteBuf::from(input.iv),
        tag: ByteBuf::from(input.tag),
        additional_data: ByteBuf::from(input.additional_data),
    }
}

fn sealed(output: Output) -> Result<Sealed, ServiceError> {
    match output {
        Output::Ciphertext { ciphertext, iv, tag } => Ok((ciphertext.into_vec(), iv.into_vec(), tag.into_vec())),
        _ => Err(Problem::Internal.into()),
    }
}

fn opened(output: Output) -> Result<SecretBytes, ServiceError> {
    match output {
        Output::Plaintext(plaintext) => Ok(plaintext),
        _ => Err(Problem::Internal.into()),
    }
}

/// What a failure means when a key was involved.
fn refused<O: Op>(error: Error, grant: &Grant<O, VersionEntry>, purpose: KeyOps, algorithm: Algorithm) -> ServiceError {
    let row = &grant.target().version.row;
    let name = || version_name(row);
    let Error::Fault(fault) = error else {
        return match error {
            Error::Withdrawn if !grant.right_still_holds() => Problem::Denied(crate::access::Denied {
                principal: grant.principal().clone(),
                action: O::ACTION,
                scope: crate::access::Target::scope(grant.target().as_ref()),
            })
            .into(),
            Error::Withdrawn => Problem::Changed { name: name() }.into(),
            other => outage(other),
        };
    };
    let problem = match &fault {
        Fault::Disabled => Problem::Disabled { name: name() },
        Fault::NotPermitted => not_permitted(row, purpose),
        Fault::WrongAlgorithm => wrong_algorithm(row.spec, name(), purpose, algorithm),
        Fault::Length(error) => Problem::Length(error.clone()),
        Fault::DecryptionFailed => Problem::DecryptionFailed,
        Fault::SealBroken | Fault::KeyMismatch | Fault::BlobBroken => Problem::Tampered { name: name() },
        Fault::KeyAbsent => Problem::KeyAbsent { name: name() },
        _ => return outage(Error::Fault(fault)),
    };
    ServiceError::because(problem, fault)
}

/// The refusal of an operation that a version does not take.
#[must_use]
pub fn not_permitted(row: &VersionRow, purpose: KeyOps) -> Problem {
    let (name, operation) = (version_name(row), operation_name(purpose));
    if row.residency == Residency::Public && !KeyOps::PUBLIC_HALF.contains(purpose) {
        return Problem::PublicOnly { name, operation };
    }
    Problem::OperationNotPermitted { name, operation }
}

/// The JWK name of one operation.
#[must_use]
pub fn operation_name(operation: KeyOps) -> &'static str {
    operation.iter().next().map_or("nothing", |(_, name)| name)
}

/// The refusal of an algorithm that a key does not take.
#[must_use]
pub fn wrong_algorithm(spec: KeySpec, name: String, purpose: KeyOps, algorithm: Algorithm) -> Problem {
    let takes: Vec<&str> =
        spec.algorithms().filter(|algorithm| algorithm.ops().contains(purpose)).map(Algorithm::name).collect();
    let takes = if takes.is_empty() { format!("none to {}", operation_name(purpose)) } else { takes.join(", ") };
    Problem::WrongAlgorithm { algorithm: algorithm.name(), name, takes }
}

/// What a failure of the HSM means when no key of a caller's was involved.
#[must_use]
pub fn outage(error: Error) -> ServiceError {
    let problem = match &error {
        Error::Overloaded { retry_after, .. } => Problem::Overloaded { retry_after: *retry_after },
        Error::Expired | Error::Fault(Fault::Expired) => Problem::DeadlineExceeded,
        Error::Fault(Fault::Unsupported(why)) => Problem::Unsupported { why: why.clone() },
        Error::Unavailable(_)
        | Error::WorkerLost
        | Error::Fault(Fault::PinRefused | Fault::Setup(_) | Fault::Module { .. }) => {
            Problem::Unavailable { what: "the HSM" }
        }
        Error::Withdrawn | Error::Fault(_) => Problem::Internal,
    };
    ServiceError::because(problem, error)
}
