//! The operations with keys: sign, verify, encrypt, decrypt, wrap, unwrap; data keys; and random bytes.

use std::sync::Arc;

use strongroom_hsm::{SecretBytes, algorithms::RANDOM_BYTES_MAX};

use super::{
    Caller, Ciphertext, DataKey, Encrypted, KeyRef, NewDataKey, Service, Signed,
    asked::{Asked, KeyOp},
    catalog::VersionEntry,
    door::Note,
    error::{Problem, ServiceError},
    hands,
    quota::ROW_US,
    usage::{Counted, budget},
    version_name,
};
use crate::{
    access::{
        Action, Grant, Permit, Rights, Where, ops,
        state::{NotUsable, usable},
    },
    model::{Algorithm, KeyOps, Scope, VersionRow},
};

impl Service {
    /// Signs a digest, or a message (EdDSA, HS*).
    ///
    /// # Errors
    /// When the version may not be used so, or the input has not the algorithm's length.
    pub async fn sign(
        self: &Arc<Self>,
        caller: &Caller,
        name: &KeyRef,
        algorithm: Algorithm,
        input: SecretBytes,
    ) -> Result<Signed, ServiceError> {
        self.with_key(caller, name, Asked::sign(algorithm, input)).await
    }

    /// Verifies a signature over a digest or message. A wrong signature is `false`, not an error.
    ///
    /// # Errors
    /// When the version may not be used so, or an input has the wrong length.
    pub async fn verify(
        self: &Arc<Self>,
        caller: &Caller,
        name: &KeyRef,
        algorithm: Algorithm,
        input: SecretBytes,
        signature: Vec<u8>,
    ) -> Result<(Arc<VersionRow>, bool), ServiceError> {
        self.with_key(caller, name, Asked::verify(algorithm, input, signature)).await
    }

    /// Encrypts data.
    ///
    /// # Errors
    /// When the version may not be used so, an input has the wrong length, or an AES-GCM key is used up.
    pub async fn encrypt(
        self: &Arc<Self>,
        caller: &Caller,
        name: &KeyRef,
        algorithm: Algorithm,
        plaintext: SecretBytes,
        iv: Vec<u8>,
        additional_data: Vec<u8>,
    ) -> Result<Encrypted, ServiceError> {
        self.with_key(caller, name, Asked::encrypt(algorithm, plaintext, iv, additional_data)).await
    }

    /// Decrypts data.
    ///
    /// # Errors
    /// [`Problem::DecryptionFailed`], one error for every reason why data does not decrypt. RSA1_5 and A*CBCPAD:
    /// when the vault does not allow it, or it failed too often.
    pub async fn decrypt(
        self: &Arc<Self>,
        caller: &Caller,
        name: &KeyRef,
        algorithm: Algorithm,
        input: Ciphertext,
    ) -> Result<(Arc<VersionRow>, SecretBytes), ServiceError> {
        self.with_key(caller, name, Asked::decrypt(algorithm, input)).await
    }

    /// Wraps a caller's key.
    ///
    /// # Errors
    /// As [`Self::encrypt`].
    pub async fn wrap_key(
        self: &Arc<Self>,
        caller: &Caller,
        name: &KeyRef,
        algorithm: Algorithm,
        key: SecretBytes,
    ) -> Result<Encrypted, ServiceError> {
        self.with_key(caller, name, Asked::wrap(algorithm, key)).await
    }

    /// Unwraps a caller's key.
    ///
    /// # Errors
    /// As [`Self::decrypt`].
    pub async fn unwrap_key(
        self: &Arc<Self>,
        caller: &Caller,
        name: &KeyRef,
        algorithm: Algorithm,
        input: Ciphertext,
    ) -> Result<(Arc<VersionRow>, SecretBytes), ServiceError> {
        self.with_key(caller, name, Asked::unwrap(algorithm, input)).await
    }

    /// Wraps a caller's key by the algorithm of that one's scheme that the size of the key has.
    ///
    /// # Errors
    /// As [`Self::encrypt`].
    pub async fn wrap_key_of_any_size(
        self: &Arc<Self>,
        caller: &Caller,
        name: &KeyRef,
        algorithm: Algorithm,
        key: SecretBytes,
    ) -> Result<Encrypted, ServiceError> {
        self.with_key(caller, name, Asked::wrap(algorithm, key).of_any_size()).await
    }

    /// Unwraps a caller's key by the algorithm of that one's scheme that the size of the key has.
    ///
    /// # Errors
    /// As [`Self::decrypt`].
    pub async fn unwrap_key_of_any_size(
        self: &Arc<Self>,
        caller: &Caller,
        name: &KeyRef,
        algorithm: Algorithm,
        input: Ciphertext,
    ) -> Result<(Arc<VersionRow>, SecretBytes), ServiceError> {
        self.with_key(caller, name, Asked::unwrap(algorithm, input).of_any_size()).await
    }

    /// Makes a data key, and answers it in the clear and under the key. The record is on the disk before it is.
    ///
    /// # Errors
    /// As [`Self::encrypt`]; when the algorithm wraps no keys, or data keys have no such length.
    pub async fn generate_data_key(
        self: &Arc<Self>,
        caller: &Caller,
        name: &KeyRef,
        new: NewDataKey,
    ) -> Result<DataKey, ServiceError> {
        self.with_key(caller, name, Asked::data_key(new)).await
    }

    /// Makes a data key, and answers it under the key only: in the clear it never leaves the HSM's worker.
    ///
    /// # Errors
    /// As [`Self::generate_data_key`].
    pub async fn generate_wrapped_data_key(
        self: &Arc<Self>,
        caller: &Caller,
        name: &KeyRef,
        new: NewDataKey,
    ) -> Result<Encrypted, ServiceError> {
        self.with_key(caller, name, Asked::wrapped_data_key(new)).await
    }

    /// Random bytes of the HSM: 1 to 1024.
    ///
    /// # Errors
    /// When the length is out of bounds or the HSM does not answer.
    pub async fn random(self: &Arc<Self>, caller: &Caller, length: u32) -> Result<SecretBytes, ServiceError> {
        let note = Note::default();
        let work = |permit: Permit<ops::RandomGenerate>| async move {
            check_random(length)?;
            // Its cost is within that of any request.
            self.hands.random(&permit, length, caller).await
        };
        self.plain(caller, "random".to_owned(), Where::Anywhere, &note, work).await
    }

    /// An operation with a key: authorised, its state checked, granted, done, recorded.
    async fn with_key<O: KeyOp>(
        self: &Arc<Self>,
        caller: &Caller,
        name: &KeyRef,
        asked: Asked<O>,
    ) -> Result<O::Out, ServiceError> {
        let note = Note::with(asked.algorithm());
        let scope = Scope::key(&name.vault, &name.key);
        self.plain(caller, name.to_string(), scope, &note, |permit: Permit<O>| async {
            let grant = self.granted(permit, caller, name, &note).await?;
            let asked = asked.fitted(grant.target().version.row.spec);
            note.by(asked.algorithm());
            let grant = grant.demanding(self.check(&grant, &asked)?);
            let (entry, algorithm, unpads) = (grant.target(), asked.algorithm(), asked.unpads());
            for counted in self.counted_by(entry, &asked) {
                self.count(entry, counted, 1, caller.deadline).await?;
            }
            note.charge(asked.cost_us(entry.version.row.spec));
            note.ran();
            let mut output = self.hands.operate(&grant, asked, caller).await;
            if unpads {
                output = self.unpadded(entry, algorithm, caller.deadline, output).await;
            }
            let answer = O::answer(Arc::clone(&entry.version.row), output?)?;
            self.activities.note(&entry.activity, self.clock.now(), 1);
            Ok(answer)
        })
        .await
    }

    /// Out of which budgets an operation takes one.
    pub(super) fn counted_by<O: KeyOp>(&self, entry: &VersionEntry, asked: &Asked<O>) -> impl Iterator<Item = Counted> {
        let uses = if asked.makes() { budget(entry) } else { None };
        uses.into_iter().chain(asked.is_counted().then_some(Counted::Encryptions))
    }

    /// Checks what is asked of a version against its state, its kind and the vault; says which rights it takes
    /// beside its own.
    pub(super) fn check<O: KeyOp>(
        &self,
        grant: &Grant<O, VersionEntry>,
        asked: &Asked<O>,
    ) -> Result<Rights, ServiceError> {
        let entry = grant.target();
        let (row, purpose) = (&entry.version.row, asked.purpose());
        usable(row, purpose, self.clock.now()).map_err(|why| not_usable(row, purpose, why))?;
        asked.check(row)?;
        if asked.unpads() {
            self.may_unpad(entry, asked.algorithm())?;
        }
        let also = if asked.is_bare_cipher() { rights_of(row.ops) } else { Rights::NONE };
        let lacking = grant.lacks(also);
        if lacking.is_empty() {
            return Ok(also);
        }
        let (algorithm, name) = (asked.algorithm().name(), version_name(row));
        Err(Problem::BareCipher { algorithm, name, lacking: lacking.to_string() }.into())
    }

    /// Joins a permit with the version that a name stands for.
    pub(super) async fn granted<O: KeyOp>(
        &self,
        permit: Permit<O>,
        caller: &Caller,
        name: &KeyRef,
        note: &Note,
    ) -> Result<Grant<O, VersionEntry>, ServiceError> {
        let entry = match self.catalog.warm(name) {
            Some(entry) => entry,
            None => self.cold(caller, name, note).await?,
        };
        note.used(&entry.version.row);
        Ok(permit.grant(entry)?)
    }

    /// A version that is not in memory, of whose rows a caller has so many read at once: others' are read between.
    async fn cold(&self, caller: &Caller, name: &KeyRef, note: &Note) -> Result<Arc<VersionEntry>, ServiceError> {
        let _turn = self.cold_reads.turn(caller.identity.tenant(), caller.deadline).await?;
        let entry = self.catalog.entry(name, caller.deadline).await?;
        note.charge(4 * ROW_US + u64::from(entry.version.row.spec.load_us()));
        Ok(entry)
    }
}

/// The rights that a key's operations come to.
fn rights_of(ops: KeyOps) -> Rights {
    let actions = [
        (KeyOps::ENCRYPT, Action::KeysEncrypt),
        (KeyOps::DECRYPT, Action::KeysDecrypt),
        (KeyOps::SIGN, Action::KeysSign),
        (KeyOps::VERIFY, Action::KeysVerify),
        (KeyOps::WRAP_KEY, Action::KeysWrap),
        (KeyOps::UNWRAP_KEY, Action::KeysUnwrap),
    ];
    actions.into_iter().filter(|(op, _)| ops.contains(*op)).map(|(_, action)| action).collect()
}

/// That so many random bytes can be asked for.
pub(super) fn check_random(length: u32) -> Result<(), Problem> {
    if (1..=RANDOM_BYTES_MAX).contains(&usize::try_from(length).unwrap_or(usize::MAX)) {
        return Ok(());
    }
    let why = format!("{length}; 1 to {RANDOM_BYTES_MAX} are allowed");
    Err(Problem::Invalid { field: "length_bytes", why })
}

pub(super) fn not_usable(row: &VersionRow, operation: KeyOps, why: NotUsable) -> Problem {
    let name = version_name(row);
    match why {
        NotUsable::Deleted => Problem::SoftDeleted { name },
        NotUsable::Disabled => Problem::Disabled { name },
        NotUsable::NotPermitted => hands::not_permitted(row, operation),
        NotUsable::NotYetValid(from) => Problem::NotYetValid { name, from: from.to_string() },
        NotUsable::Expired(since) => Problem::Expired { name, since: since.to_string() },
    }
}
