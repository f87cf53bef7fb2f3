//! The operations with keys: sign, verify, encrypt, decrypt, wrap, unwrap; data keys; and random bytes.

use std::{future::Future, sync::Arc};

use strongroom_hsm::{SecretBytes, algorithms::RANDOM_BYTES_MAX, protocol::Moment};

use super::{
    Caller, Ciphertext, DataKey, Encrypted, KeyRef, NewDataKey, Service, Signed,
    catalog::VersionEntry,
    door::Note,
    error::{Problem, ServiceError},
    hands, version_name,
};
use crate::{
    access::{
        Grant, Op, Permit, ops,
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
        let note = Note::with(algorithm);
        self.with_key::<ops::KeysSign, _, _>(caller, name, KeyOps::SIGN, &note, |grant| async move {
            algorithm.check_input(input.expose_secret())?;
            let signature = self.hands.sign(&grant, algorithm, input, caller.deadline).await?;
            Ok(Signed { version: used(&grant), signature })
        })
        .await
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
        let note = Note::with(algorithm);
        self.with_key::<ops::KeysVerify, _, _>(caller, name, KeyOps::VERIFY, &note, |grant| async move {
            algorithm.check_input(input.expose_secret())?;
            algorithm.check_signature(&signature, used(&grant).spec)?;
            let right = self.hands.verify(&grant, algorithm, input, signature, caller.deadline).await?;
            Ok((used(&grant), right))
        })
        .await
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
        let note = Note::with(algorithm);
        self.with_key::<ops::KeysEncrypt, _, _>(caller, name, KeyOps::ENCRYPT, &note, |grant| async move {
            algorithm.check_plaintext("plaintext", plaintext.expose_secret(), used(&grant).spec)?;
            algorithm.check_chosen_iv(&iv)?;
            algorithm.check_additional_data(&additional_data)?;
            self.count_encryption(grant.target(), algorithm, caller.deadline).await?;
            let sealed = self.hands.encrypt(&grant, algorithm, plaintext, iv, additional_data, caller.deadline).await?;
            Ok(encrypted(&grant, sealed))
        })
        .await
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
        let note = Note::with(algorithm);
        self.with_key::<ops::KeysDecrypt, _, _>(caller, name, KeyOps::DECRYPT, &note, |grant| async move {
            check_ciphertext(algorithm, "ciphertext", &input, &used(&grant))?;
            let opening = self.hands.decrypt(&grant, algorithm, input, caller.deadline);
            let plaintext = self.unpadding(grant.target(), algorithm, caller.deadline, opening).await?;
            Ok((used(&grant), plaintext))
        })
        .await
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
        let note = Note::with(algorithm);
        self.with_key::<ops::KeysWrap, _, _>(caller, name, KeyOps::WRAP_KEY, &note, |grant| async move {
            algorithm.check_plaintext("key", key.expose_secret(), used(&grant).spec)?;
            let sealed = self.hands.wrap(&grant, algorithm, key, caller.deadline).await?;
            Ok(encrypted(&grant, sealed))
        })
        .await
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
        let note = Note::with(algorithm);
        self.with_key::<ops::KeysUnwrap, _, _>(caller, name, KeyOps::UNWRAP_KEY, &note, |grant| async move {
            check_ciphertext(algorithm, "wrapped_key", &input, &used(&grant))?;
            let opening = self.hands.unwrap(&grant, algorithm, input, caller.deadline);
            let key = self.unpadding(grant.target(), algorithm, caller.deadline, opening).await?;
            Ok((used(&grant), key))
        })
        .await
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
        let (note, operation) = (Note::with(new.algorithm), wraps_by(new.algorithm));
        self.with_key::<ops::DataKeysGenerate, _, _>(caller, name, operation, &note, |grant| async move {
            self.prepare_data_key(grant.target(), &new, caller.deadline).await?;
            let (key, sealed) = self.hands.data_key(&grant, new, caller.deadline).await?;
            Ok(DataKey { key, wrapped: encrypted(&grant, sealed) })
        })
        .await
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
        let (note, operation) = (Note::with(new.algorithm), wraps_by(new.algorithm));
        self.with_key::<ops::DataKeysGenerateWrapped, _, _>(caller, name, operation, &note, |grant| async move {
            self.prepare_data_key(grant.target(), &new, caller.deadline).await?;
            let sealed = self.hands.wrapped_data_key(&grant, new, caller.deadline).await?;
            Ok(encrypted(&grant, sealed))
        })
        .await
    }

    async fn prepare_data_key(
        self: &Arc<Self>,
        entry: &Arc<VersionEntry>,
        new: &NewDataKey,
        deadline: Moment,
    ) -> Result<(), ServiceError> {
        let length_bytes = usize::try_from(new.length_bytes).unwrap_or(usize::MAX);
        new.algorithm.check_data_key(length_bytes, entry.version.row.spec)?;
        new.algorithm.check_additional_data(&new.additional_data)?;
        self.count_encryption(entry, new.algorithm, deadline).await
    }

    /// Random bytes of the HSM: 1 to 1024.
    ///
    /// # Errors
    /// When the length is out of bounds or the HSM does not answer.
    pub async fn random(self: &Arc<Self>, caller: &Caller, length: u32) -> Result<SecretBytes, ServiceError> {
        let note = Note::default();
        let work = |permit: Permit<ops::RandomGenerate>| async move {
            if !(1..=RANDOM_BYTES_MAX).contains(&usize::try_from(length).unwrap_or(usize::MAX)) {
                let why = format!("{length}; 1 to {RANDOM_BYTES_MAX} are allowed");
                return Err(Problem::Invalid { field: "length_bytes", why }.into());
            }
            self.hands.random(&permit, length, caller.deadline).await
        };
        self.plain(caller, "random".to_owned(), Scope::Service, &note, work).await
    }

    /// An operation with a key: authorised, its state checked, granted, recorded.
    async fn with_key<O, T, F>(
        &self,
        caller: &Caller,
        name: &KeyRef,
        operation: KeyOps,
        note: &Note,
        act: impl FnOnce(Grant<O, VersionEntry>) -> F + Send,
    ) -> Result<T, ServiceError>
    where
        O: Op,
        F: Future<Output = Result<T, ServiceError>> + Send,
    {
        let scope = Scope::Vault(name.vault.clone());
        self.plain(caller, name.to_string(), scope, note, |permit: Permit<O>| async move {
            let entry = self.catalog.entry(name, caller.deadline).await?;
            let row = &entry.version.row;
            note.used(row);
            usable(row, operation, self.clock.now()).map_err(|why| not_usable(row, operation, why))?;
            check_algorithm(note.algorithm, row, operation)?;
            let grant = permit.grant(entry)?;
            note.ran();
            act(grant).await
        })
        .await
    }
}

/// The operation by which a data key is put under a key. One that has none is refused as an algorithm that
/// wraps nothing.
fn wraps_by(algorithm: Algorithm) -> KeyOps {
    algorithm.data_key_operation().unwrap_or(KeyOps::WRAP_KEY)
}

fn check_algorithm(algorithm: Option<Algorithm>, row: &VersionRow, operation: KeyOps) -> Result<(), ServiceError> {
    match algorithm {
        Some(algorithm) if !algorithm.takes(row.spec) || !algorithm.ops().contains(operation) => {
            Err(hands::wrong_algorithm(row.spec, version_name(row), operation, algorithm).into())
        }
        _ => Ok(()),
    }
}

fn check_ciphertext(
    algorithm: Algorithm,
    field: &str,
    input: &Ciphertext,
    row: &VersionRow,
) -> Result<(), ServiceError> {
    algorithm.check_ciphertext(field, &input.ciphertext, row.spec)?;
    algorithm.check_iv_and_tag(&input.iv, &input.tag)?;
    algorithm.check_additional_data(&input.additional_data)?;
    Ok(())
}

fn not_usable(row: &VersionRow, operation: KeyOps, why: NotUsable) -> Problem {
    let name = version_name(row);
    match why {
        NotUsable::Disabled => Problem::Disabled { name },
        NotUsable::NotPermitted => hands::not_permitted(row, operation),
        NotUsable::NotYetValid(from) => Problem::NotYetValid { name, from: from.to_string() },
        NotUsable::Expired(since) => Problem::Expired { name, since: since.to_string() },
    }
}

fn used<O: Op>(grant: &Grant<O, VersionEntry>) -> Arc<VersionRow> {
    Arc::clone(&grant.target().version.row)
}

fn encrypted<O: Op>(grant: &Grant<O, VersionEntry>, (ciphertext, iv, tag): hands::Sealed) -> Encrypted {
    Encrypted { version: used(grant), ciphertext, iv, tag }
}
