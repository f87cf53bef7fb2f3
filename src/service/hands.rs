//! The only place that uses keys. Each function takes a grant for its operation, and no other key.

use std::{borrow::Cow, sync::Arc, time::Duration};

use serde_bytes::ByteBuf;
use strongroom_hsm::{
    Admission, Error, KeyRow, Material, Pool, SecretBytes, Tenant,
    protocol::{Fault, Generated, Kek, Moment, NewVersion, Operation, Output},
};

use super::{
    Caller, Traffic,
    asked::{Asked, KeyOp},
    catalog::VersionEntry,
    error::{Problem, ServiceError},
    secrets::{SecretEntry, secret_version_name},
    version_name,
};
use crate::{
    access::{Grant, Op, Permit, ops},
    model::{Algorithm, IssuerKeyRow, KeyOps, KeySpec, Residency, SecretVersionRow, VaultName, VersionId, VersionRow},
};

/// After so long what a worker was asked for has ended, or the worker was taken for hung and ended.
const UNTIL_LOST: Duration = Duration::from_secs(180);

/// The lanes of the HSM, behind grants.
pub struct Hands {
    pool: Pool,
}

impl Hands {
    /// Takes the pool; nobody else uses its keys.
    #[must_use]
    pub const fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// The lanes; they tell a caller's trace of its calls, if it has one.
    fn pool(&self, caller: &Caller) -> Cow<'_, Pool> {
        match caller.trace.calls() {
            None => Cow::Borrowed(&self.pool),
            Some(calls) => Cow::Owned(self.pool.watched(calls)),
        }
    }

    /// One operation with a key.
    pub async fn operate<O: KeyOp>(
        &self,
        grant: &Grant<O, VersionEntry>,
        asked: Asked<O>,
        caller: &Caller,
    ) -> Result<Output, ServiceError> {
        let (key, what) = (&grant.target().hsm, What::of(&asked));
        let operation = asked.into_operation();
        let pool = self.pool(caller);
        let result = match caller.traffic {
            Traffic::Single => pool.operate(key, operation, grant.admission(), caller.deadline).await,
            Traffic::Bulk => {
                let mut results = pool.operate_all(key, vec![operation], &grant.admission(), caller.deadline).await;
                results.pop().unwrap_or(Err(Error::Fault(Fault::Protocol)))
            }
        };
        result.map_err(|error| refused(error, grant, what))
    }

    /// Many operations with one key, together: one result for each, in order.
    pub async fn operate_all<O: KeyOp>(
        &self,
        grant: &Grant<O, VersionEntry>,
        asked: Vec<Asked<O>>,
        caller: &Caller,
    ) -> Vec<Result<Output, ServiceError>> {
        let what: Vec<What> = asked.iter().map(What::of).collect();
        let operations = asked.into_iter().map(Asked::into_operation).collect();
        let pool = self.pool(caller);
        let results = pool.operate_all(&grant.target().hsm, operations, &grant.admission(), caller.deadline).await;
        let results = results.into_iter().zip(what);
        results.map(|(result, what)| result.map_err(|error| refused(error, grant, what))).collect()
    }

    /// Random bytes.
    pub async fn random(
        &self,
        permit: &Permit<ops::RandomGenerate>,
        length: u32,
        caller: &Caller,
    ) -> Result<SecretBytes, ServiceError> {
        match caller.traffic {
            Traffic::Single => {
                self.pool(caller).of(permit.tenant()).random(length, caller.deadline).await.map_err(outage)
            }
            Traffic::Bulk => {
                let mut results = self.random_all(permit, vec![length], caller).await;
                results.pop().unwrap_or(Err(Problem::Internal.into()))
            }
        }
    }

    /// Random bytes, many times, together: one result for each length, in order.
    pub async fn random_all(
        &self,
        permit: &Permit<ops::RandomGenerate>,
        lengths: Vec<u32>,
        caller: &Caller,
    ) -> Vec<Result<SecretBytes, ServiceError>> {
        let pool = self.pool(caller).of(permit.tenant());
        pool.random_all(lengths, caller.deadline).await.into_iter().map(|result| result.map_err(outage)).collect()
    }

    /// Makes a key for a version that does not exist yet.
    pub async fn generate<O: Generates>(
        &self,
        permit: &Permit<O>,
        wanted: NewVersion,
        caller: &Caller,
    ) -> Result<Generated, ServiceError> {
        let made = self.pool(caller).of(permit.tenant()).generate(wanted, deadline_of(&wanted, caller)).await;
        made.map_err(|error| unmade(error, permit.vault()))
    }

    /// Makes a key-encryption key of a vault that no row names yet.
    pub async fn make_kek<O: MakesKeks>(
        &self,
        permit: &Permit<O>,
        id: VersionId,
        caller: &Caller,
    ) -> Result<Kek, ServiceError> {
        let deadline = patient(caller.deadline);
        self.pool(caller).of(permit.tenant()).make_kek(id.bytes(), deadline).await.map_err(outage)
    }

    /// Brings a key in for a version that does not exist yet.
    pub async fn import(
        &self,
        permit: &Permit<ops::KeysImport>,
        wanted: NewVersion,
        material: Material,
        caller: &Caller,
    ) -> Result<Generated, ServiceError> {
        let deadline = deadline_of(&wanted, caller);
        let made = self.pool(caller).of(permit.tenant()).import(wanted, material, deadline).await;
        made.map_err(|error| unmade(error, permit.vault()))
    }

    /// Brings a key in that is wrapped for a KEK of that name.
    pub async fn import_wrapped(
        &self,
        permit: &Permit<ops::KeysImport>,
        wanted: NewVersion,
        (kek, name): (&KeyRow, String),
        blob: Vec<u8>,
        caller: &Caller,
    ) -> Result<Generated, ServiceError> {
        let deadline = deadline_of(&wanted, caller);
        let made = self.pool(caller).of(permit.tenant()).import_wrapped(wanted, kek, blob, deadline).await;
        made.map_err(|error| match error {
            Error::Fault(Fault::Layer(layer)) => {
                Problem::Invalid { field: "wrapped_key.ciphertext", why: format!("it {layer}") }.into()
            }
            Error::Fault(fault @ (Fault::SealBroken | Fault::BlobBroken | Fault::KeyMismatch)) => {
                ServiceError::because(Problem::Tampered { name }, fault)
            }
            other => unmade(other, permit.vault()),
        })
    }

    /// Proves that a version which is brought back opens here, and is the key that its row describes. Nothing is kept of it.
    pub async fn prove<O: Restores>(&self, permit: &Permit<O>, row: &KeyRow, caller: &Caller) -> Result<(), Error> {
        self.pool(caller).of(permit.tenant()).prove(row, caller.deadline).await
    }

    /// Makes a key that signs tokens.
    pub async fn generate_issuer_key<O: MakesIssuerKeys>(
        &self,
        permit: &Permit<O>,
        id: VersionId,
        root: Option<Kek>,
        caller: &Caller,
    ) -> Result<Generated, ServiceError> {
        let wanted =
            NewVersion { kek: root, ..NewVersion::new(IssuerKeyRow::SPEC, IssuerKeyRow::RESIDENCY, id.bytes()) };
        self.pool(caller).of(permit.tenant()).generate(wanted, caller.deadline).await.map_err(outage)
    }

    /// Signs a token with the issuer's key: the digest of its header and claims.
    pub async fn sign_token(
        &self,
        permit: &Permit<ops::TokensCreate>,
        key: &Arc<KeyRow>,
        digest: SecretBytes,
        caller: &Caller,
    ) -> Result<Vec<u8>, ServiceError> {
        let operation = Operation::Sign { algorithm: Algorithm::Es256, input: digest };
        let admission = Arc::new(UntilCommitted(permit.tenant()));
        match self.pool(caller).operate(key, operation, admission, caller.deadline).await {
            Ok(Output::Signature(signature)) => Ok(signature.into_vec()),
            Ok(_) => Err(Problem::Internal.into()),
            Err(Error::Fault(fault @ (Fault::SealBroken | Fault::KeyMismatch | Fault::BlobBroken))) => {
                Err(ServiceError::because(Problem::Tampered { name: "the issuer's key".to_owned() }, fault))
            }
            Err(error) => Err(outage(error)),
        }
    }

    /// Encrypts the value of a secret by its data key.
    pub async fn encrypt_secret(
        &self,
        permit: &Permit<ops::SecretsSet>,
        key: &Arc<KeyRow>,
        additional_data: Vec<u8>,
        value: SecretBytes,
        caller: &Caller,
    ) -> Result<EncryptedValue, ServiceError> {
        let operation = Operation::Encrypt {
            algorithm: SECRETS,
            purpose: KeyOps::ENCRYPT,
            plaintext: value,
            iv: ByteBuf::new(),
            additional_data: additional_data.into(),
        };
        let admission = Arc::new(UntilCommitted(permit.tenant()));
        match self.pool(caller).operate(key, operation, admission, caller.deadline).await {
            Ok(Output::Ciphertext { ciphertext, iv, tag }) => {
                Ok(EncryptedValue { ciphertext: ciphertext.into_vec(), iv: iv.into_vec(), tag: tag.into_vec() })
            }
            Ok(_) => Err(Problem::Internal.into()),
            Err(error) => Err(unopened(error, || key.statement.key.clone())),
        }
    }

    /// Decrypts the value of a secret.
    pub async fn open_secret(
        &self,
        grant: &Grant<ops::SecretsGet, SecretEntry>,
        caller: &Caller,
    ) -> Result<SecretBytes, ServiceError> {
        let (key, row) = (&grant.target().hsm, &grant.target().version.row);
        match self.pool(caller).operate(key, decrypting(row), grant.admission(), caller.deadline).await {
            Ok(Output::Plaintext(value)) => Ok(value),
            Ok(_) => Err(Problem::Internal.into()),
            Err(Error::Withdrawn) if !grant.right_still_holds() => Err(Problem::Denied(grant.denied()).into()),
            Err(Error::Withdrawn) if !grant.target().is_abreast() => Err(grant.target().version.behind().into()),
            Err(Error::Withdrawn) => Err(Problem::Changed { name: secret_version_name(row) }.into()),
            // Another root took the root's place since it was read.
            Err(error) if !grant.target().is_current() => {
                Err(ServiceError::because(Problem::Changed { name: secret_version_name(row) }, error))
            }
            Err(error) => Err(unopened(error, || secret_version_name(row))),
        }
    }

    /// Destroys what an unfinished creation left on the token, or what was purged: the object of a version or of a vault's
    /// KEK. Only while the intent that says so is still open.
    pub async fn reap(&self, version: VersionId, deadline: Moment) -> Result<(), ServiceError> {
        self.pool.destroy_token(version.bytes(), deadline).await.map_err(outage)
    }
}

/// An operation that makes keys in the HSM.
pub trait Generates: Op {}

impl Generates for ops::KeysCreate {}
impl Generates for ops::KeysRotate {}
impl Generates for ops::SecretsSet {}

/// An operation that brings back what a backup holds.
pub trait Restores: Op {}

impl Restores for ops::KeysRestore {}
impl Restores for ops::SecretsRestore {}

/// An operation that makes key-encryption keys of vaults.
pub trait MakesKeks: Op {}

impl MakesKeks for ops::VaultsCreate {}
impl MakesKeks for ops::VaultsRotateKek {}

/// An operation that makes keys that sign tokens.
pub trait MakesIssuerKeys: Op {}

impl MakesIssuerKeys for ops::TokensCreate {}
impl MakesIssuerKeys for ops::OwnKeysRotateIssuer {}

/// How values of secrets are encrypted.
const SECRETS: Algorithm = Algorithm::A256Gcm;

/// The value of a secret, encrypted.
#[derive(Clone, Debug)]
pub struct EncryptedValue {
    /// As long as the value.
    pub ciphertext: Vec<u8>,
    /// 12 bytes.
    pub iv: Vec<u8>,
    /// 16 bytes.
    pub tag: Vec<u8>,
}

/// How a value is decrypted.
pub(super) fn decrypting(row: &SecretVersionRow) -> Operation {
    Operation::Decrypt {
        algorithm: SECRETS,
        purpose: KeyOps::DECRYPT,
        ciphertext: row.ciphertext.clone().into(),
        iv: row.iv.clone().into(),
        tag: row.tag.clone().into(),
        additional_data: row.additional_data().into(),
    }
}

/// What a failure means when the data key of a secret was involved.
fn unopened(error: Error, name: impl Fn() -> String) -> ServiceError {
    let problem = match &error {
        Error::Fault(Fault::SealBroken | Fault::KeyMismatch | Fault::BlobBroken | Fault::DecryptionFailed) => {
            Problem::Tampered { name: name() }
        }
        Error::Fault(Fault::KekAbsent) => Problem::KekAbsent { name: name() },
        _ => return outage(error),
    };
    ServiceError::because(problem, error)
}

/// A token that was signed is worth nothing before its row is committed, and the commit asks for the right again:
/// nothing is gained by asking in between.
struct UntilCommitted(Tenant);

impl Admission for UntilCommitted {
    fn tenant(&self) -> Tenant {
        self.0
    }

    fn still_holds(&self) -> bool {
        true
    }
}

/// What an error says of an operation.
#[derive(Clone, Copy)]
struct What {
    purpose: KeyOps,
    algorithm: Algorithm,
}

impl What {
    fn of<O: KeyOp>(asked: &Asked<O>) -> Self {
        Self { purpose: asked.purpose(), algorithm: asked.algorithm() }
    }
}

/// What a failure means when a key was involved.
fn refused<O: KeyOp>(error: Error, grant: &Grant<O, VersionEntry>, what: What) -> ServiceError {
    let What { purpose, algorithm } = what;
    let row = &grant.target().version.row;
    let name = || version_name(row);
    let Error::Fault(fault) = error else {
        return match error {
            Error::Withdrawn if !grant.right_still_holds() => Problem::Denied(grant.denied()).into(),
            Error::Withdrawn if !grant.target().is_abreast() => grant.target().behind().into(),
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
        Fault::KekAbsent => Problem::KekAbsent { name: name() },
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

/// By when something must be on the token. What is made there is not given up before it has ended, or its worker: else it could
/// come to be after it was cleaned up.
fn patient(deadline: Moment) -> Moment {
    deadline.max(Moment::now().after(UNTIL_LOST))
}

fn deadline_of(wanted: &NewVersion, caller: &Caller) -> Moment {
    if wanted.residency == Residency::Token { patient(caller.deadline) } else { caller.deadline }
}

/// What a failure of the HSM means when a key was to be made in a vault.
fn unmade(error: Error, vault: Option<&VaultName>) -> ServiceError {
    match (&error, vault) {
        // A KEK that is not the vault's own is in its place.
        (Error::Fault(Fault::KeyMismatch), Some(vault)) => {
            ServiceError::because(Problem::Tampered { name: format!("vaults/{vault}") }, error)
        }
        (Error::Fault(Fault::KekAbsent), Some(vault)) => {
            ServiceError::because(Problem::KekAbsent { name: format!("vaults/{vault}") }, error)
        }
        _ => outage(error),
    }
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
