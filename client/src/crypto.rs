//! Operations with keys. What is sent carries its CRC32C; what comes back is checked against its own.

use crc32c::crc32c;
use secrecy::SecretSlice;
use strongroom_proto::v1::{
    DecryptRequest, EncryptRequest, GenerateDataKeyRequest, GenerateDataKeyWithoutPlaintextRequest,
    GenerateRandomBytesRequest, SignRequest, UnwrapKeyRequest, VerifyRequest, WrapKeyRequest, sign_request,
    verify_request,
};
use zeroize::Zeroizing;

use crate::{Algorithm, Client, Error, client::intact};

/// The most random bytes in one call.
const RANDOM_BYTES_MAX: usize = 1024;

/// What is signed. Debug would show it, so there is none.
#[derive(Clone, Copy)]
pub enum Input<'a> {
    /// RS*, PS*, ES*: the message's digest under the algorithm's hash. EdDSA takes none; HS* takes these bytes
    /// as they are.
    Digest(&'a [u8]),
    /// The message itself: at most 64 KiB.
    Message(&'a [u8]),
}

impl Input<'_> {
    const fn bytes(&self) -> &[u8] {
        match self {
            Self::Digest(bytes) | Self::Message(bytes) => bytes,
        }
    }
}

/// A signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The version that signed.
    pub version: String,
    /// RSA: as long as the modulus. ECDSA: r and s, each as wide as the curve's order.
    pub signature: Vec<u8>,
}

/// Whether a signature is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The version that verified.
    pub version: String,
    /// True when it is right.
    pub valid: bool,
}

/// What is encrypted. Debug would show it, so there is none.
#[derive(Clone, Copy, Default)]
pub struct Encryption<'a> {
    /// A*GCM, A*CBC*: at most 64 KiB. RSA: less than the modulus.
    pub plaintext: &'a [u8],
    /// A*GCM only: authenticated, not encrypted, needed again to decrypt. At most 16 KiB.
    pub additional_data: &'a [u8],
    /// A*CBC* only: 16 bytes, random and new for each encryption. A*GCM: empty, the service chooses.
    pub iv: &'a [u8],
}

/// Encrypted data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ciphertext {
    /// The version that encrypted: name it to decrypt.
    pub version: String,
    /// As long as the plaintext (A*GCM) or the modulus (RSA).
    pub ciphertext: Vec<u8>,
    /// A*GCM: 12 bytes; A*CBC*: 16.
    pub iv: Vec<u8>,
    /// A*GCM: 16 bytes.
    pub tag: Vec<u8>,
}

/// What is decrypted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sealed<'a> {
    /// [`Ciphertext::ciphertext`].
    pub ciphertext: &'a [u8],
    /// [`Ciphertext::iv`].
    pub iv: &'a [u8],
    /// [`Ciphertext::tag`].
    pub tag: &'a [u8],
    /// [`Encryption::additional_data`].
    pub additional_data: &'a [u8],
}

/// Decrypted data.
#[derive(Debug)]
pub struct Plaintext {
    /// The version that decrypted.
    pub version: String,
    /// The plaintext.
    pub plaintext: SecretSlice<u8>,
}

/// A wrapped key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    /// The version that wrapped: name it to unwrap.
    pub version: String,
    /// The wrapped key.
    pub wrapped_key: Vec<u8>,
}

/// An unwrapped key.
#[derive(Debug)]
pub struct UnwrappedKey {
    /// The version that unwrapped.
    pub version: String,
    /// The key.
    pub key: SecretSlice<u8>,
}

/// Under what something is put anew. What is not said is as it was.
#[derive(Clone, Copy, Debug, Default)]
pub struct Destination<'a> {
    /// A key, for its newest version, or a version; the key of the source when absent.
    pub name: Option<&'a str>,
    /// The new algorithm.
    pub algorithm: Option<&'a Algorithm>,
    /// A*GCM only.
    pub additional_data: Option<&'a [u8]>,
    /// A*CBC* only: 16 bytes, random and new.
    pub iv: &'a [u8],
}

/// Data that was encrypted anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReEncrypted {
    /// The version that decrypted.
    pub source: String,
    /// What the other made.
    pub ciphertext: Ciphertext,
}

/// A key that was wrapped anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrapped {
    /// The version that unwrapped.
    pub source: String,
    /// What the other made.
    pub wrapped: WrappedKey,
}

/// What a data key is to be.
#[derive(Clone, Copy, Debug, Default)]
pub struct DataKeyLength<'a> {
    /// 16, 24, 32 or 64.
    pub length_bytes: i32,
    /// A*GCM only: authenticated, needed again to decrypt the wrapped form.
    pub additional_data: &'a [u8],
}

/// A data key that the HSM made, in its wrapped form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedDataKey {
    /// The version that wrapped: name it to unwrap.
    pub version: String,
    /// The wrapped key.
    pub wrapped_key: Vec<u8>,
    /// A*GCM: 12 bytes.
    pub iv: Vec<u8>,
    /// A*GCM: 16 bytes.
    pub tag: Vec<u8>,
}

/// A data key that the HSM made.
#[derive(Debug)]
pub struct DataKey {
    /// The key.
    pub key: SecretSlice<u8>,
    /// Its wrapped form.
    pub wrapped: WrappedDataKey,
}

/// A secret of an answer, checked against its checksum; wiped when it does not match too.
pub(crate) fn secret(field: &'static str, bytes: Vec<u8>, crc32c: u32) -> Result<SecretSlice<u8>, Error> {
    let mut bytes = Zeroizing::new(bytes);
    intact(field, &bytes, crc32c)?;
    Ok(std::mem::take(&mut *bytes).into())
}

/// Requests as they are sent, and what answers mean: the same alone and in a batch.
pub(crate) mod wire {
    use strongroom_proto::v1::{
        DecryptResponse, EncryptResponse, GenerateDataKeyResponse, GenerateDataKeyWithoutPlaintextResponse,
        ReEncryptRequest, ReEncryptResponse, RewrapKeyRequest, RewrapKeyResponse, SignResponse, UnwrapKeyResponse,
        VerifyResponse, WrapKeyResponse,
    };

    use super::{
        Algorithm, Ciphertext, DataKey, DataKeyLength, DecryptRequest, Destination, EncryptRequest, Encryption, Error,
        GenerateDataKeyRequest, GenerateDataKeyWithoutPlaintextRequest, Input, Plaintext, ReEncrypted, Rewrapped,
        Sealed, SignRequest, Signature, UnwrapKeyRequest, UnwrappedKey, Verdict, VerifyRequest, WrapKeyRequest,
        WrappedDataKey, WrappedKey, crc32c, intact, secret, sign_request, verify_request,
    };

    pub(crate) fn sign(name: &str, algorithm: &Algorithm, input: Input<'_>) -> SignRequest {
        SignRequest {
            name: name.to_owned(),
            algorithm: algorithm.to_string(),
            input_crc32c: Some(crc32c(input.bytes())),
            input: Some(match input {
                Input::Digest(digest) => sign_request::Input::Digest(digest.to_vec()),
                Input::Message(message) => sign_request::Input::Message(message.to_vec()),
            }),
        }
    }

    pub(crate) fn signed(answer: SignResponse) -> Result<Signature, Error> {
        intact("signature", &answer.signature, answer.signature_crc32c)?;
        Ok(Signature { version: answer.name, signature: answer.signature })
    }

    pub(crate) fn verify(name: &str, algorithm: &Algorithm, input: Input<'_>, signature: &[u8]) -> VerifyRequest {
        VerifyRequest {
            name: name.to_owned(),
            algorithm: algorithm.to_string(),
            input_crc32c: Some(crc32c(input.bytes())),
            input: Some(match input {
                Input::Digest(digest) => verify_request::Input::Digest(digest.to_vec()),
                Input::Message(message) => verify_request::Input::Message(message.to_vec()),
            }),
            signature_crc32c: Some(crc32c(signature)),
            signature: signature.to_vec(),
        }
    }

    pub(crate) fn verified(answer: VerifyResponse) -> Verdict {
        Verdict { version: answer.name, valid: answer.valid }
    }

    pub(crate) fn encrypt(name: &str, algorithm: &Algorithm, data: Encryption<'_>) -> EncryptRequest {
        EncryptRequest {
            name: name.to_owned(),
            algorithm: algorithm.to_string(),
            plaintext_crc32c: Some(crc32c(data.plaintext)),
            plaintext: data.plaintext.to_vec(),
            additional_data_crc32c: Some(crc32c(data.additional_data)),
            additional_data: data.additional_data.to_vec(),
            iv: data.iv.to_vec(),
        }
    }

    pub(crate) fn encrypted(answer: EncryptResponse) -> Result<Ciphertext, Error> {
        intact("ciphertext", &answer.ciphertext, answer.ciphertext_crc32c)?;
        let (version, ciphertext, iv, tag) = (answer.name, answer.ciphertext, answer.iv, answer.tag);
        Ok(Ciphertext { version, ciphertext, iv, tag })
    }

    pub(crate) fn decrypt(name: &str, algorithm: &Algorithm, data: Sealed<'_>) -> DecryptRequest {
        DecryptRequest {
            name: name.to_owned(),
            algorithm: algorithm.to_string(),
            ciphertext_crc32c: Some(crc32c(data.ciphertext)),
            ciphertext: data.ciphertext.to_vec(),
            iv: data.iv.to_vec(),
            tag: data.tag.to_vec(),
            additional_data_crc32c: Some(crc32c(data.additional_data)),
            additional_data: data.additional_data.to_vec(),
        }
    }

    pub(crate) fn decrypted(answer: DecryptResponse) -> Result<Plaintext, Error> {
        let plaintext = secret("plaintext", answer.plaintext, answer.plaintext_crc32c)?;
        Ok(Plaintext { version: answer.name, plaintext })
    }

    pub(crate) fn wrap_key(name: &str, algorithm: &Algorithm, key: &[u8]) -> WrapKeyRequest {
        WrapKeyRequest {
            name: name.to_owned(),
            algorithm: algorithm.to_string(),
            key_crc32c: Some(crc32c(key)),
            key: key.to_vec(),
        }
    }

    pub(crate) fn wrapped(answer: WrapKeyResponse) -> Result<WrappedKey, Error> {
        intact("wrapped_key", &answer.wrapped_key, answer.wrapped_key_crc32c)?;
        Ok(WrappedKey { version: answer.name, wrapped_key: answer.wrapped_key })
    }

    pub(crate) fn unwrap_key(name: &str, algorithm: &Algorithm, wrapped_key: &[u8]) -> UnwrapKeyRequest {
        UnwrapKeyRequest {
            name: name.to_owned(),
            algorithm: algorithm.to_string(),
            wrapped_key_crc32c: Some(crc32c(wrapped_key)),
            wrapped_key: wrapped_key.to_vec(),
        }
    }

    pub(crate) fn unwrapped(answer: UnwrapKeyResponse) -> Result<UnwrappedKey, Error> {
        let key = secret("key", answer.key, answer.key_crc32c)?;
        Ok(UnwrappedKey { version: answer.name, key })
    }

    pub(crate) fn re_encrypt(
        name: &str,
        algorithm: &Algorithm,
        data: Sealed<'_>,
        to: Destination<'_>,
    ) -> ReEncryptRequest {
        ReEncryptRequest {
            source: Some(decrypt(name, algorithm, data)),
            destination_name: to.name.unwrap_or_default().to_owned(),
            destination_algorithm: to.algorithm.map(ToString::to_string).unwrap_or_default(),
            destination_additional_data: to.additional_data.map(<[u8]>::to_vec),
            destination_iv: to.iv.to_vec(),
        }
    }

    pub(crate) fn re_encrypted(answer: ReEncryptResponse) -> Result<ReEncrypted, Error> {
        let missing = || Error::Unexpected("an answer without what was made".to_owned());
        let ciphertext = encrypted(answer.destination.ok_or_else(missing)?)?;
        Ok(ReEncrypted { source: answer.source_name, ciphertext })
    }

    pub(crate) fn rewrap_key(
        name: &str,
        algorithm: &Algorithm,
        wrapped_key: &[u8],
        to: Destination<'_>,
    ) -> RewrapKeyRequest {
        RewrapKeyRequest {
            source: Some(unwrap_key(name, algorithm, wrapped_key)),
            destination_name: to.name.unwrap_or_default().to_owned(),
            destination_algorithm: to.algorithm.map(ToString::to_string).unwrap_or_default(),
        }
    }

    pub(crate) fn rewrapped(answer: RewrapKeyResponse) -> Result<Rewrapped, Error> {
        let missing = || Error::Unexpected("an answer without what was made".to_owned());
        let wrapped = wrapped(answer.destination.ok_or_else(missing)?)?;
        Ok(Rewrapped { source: answer.source_name, wrapped })
    }

    pub(crate) fn data_key(name: &str, algorithm: &Algorithm, wanted: DataKeyLength<'_>) -> GenerateDataKeyRequest {
        GenerateDataKeyRequest {
            name: name.to_owned(),
            algorithm: algorithm.to_string(),
            length_bytes: wanted.length_bytes,
            additional_data_crc32c: Some(crc32c(wanted.additional_data)),
            additional_data: wanted.additional_data.to_vec(),
        }
    }

    pub(crate) fn made_data_key(answer: GenerateDataKeyResponse, length_bytes: i32) -> Result<DataKey, Error> {
        let length = answer.key.len();
        let key = secret("key", answer.key, answer.key_crc32c)?;
        intact("wrapped_key", &answer.wrapped_key, answer.wrapped_key_crc32c)?;
        if i32::try_from(length) != Ok(length_bytes) {
            return Err(Error::Unexpected(format!("a data key of {length} bytes, not {length_bytes}")));
        }
        let (version, wrapped_key, iv, tag) = (answer.name, answer.wrapped_key, answer.iv, answer.tag);
        Ok(DataKey { key, wrapped: WrappedDataKey { version, wrapped_key, iv, tag } })
    }

    pub(crate) fn wrapped_data_key(
        name: &str,
        algorithm: &Algorithm,
        wanted: DataKeyLength<'_>,
    ) -> GenerateDataKeyWithoutPlaintextRequest {
        GenerateDataKeyWithoutPlaintextRequest {
            name: name.to_owned(),
            algorithm: algorithm.to_string(),
            length_bytes: wanted.length_bytes,
            additional_data_crc32c: Some(crc32c(wanted.additional_data)),
            additional_data: wanted.additional_data.to_vec(),
        }
    }

    pub(crate) fn made_wrapped_data_key(
        answer: GenerateDataKeyWithoutPlaintextResponse,
    ) -> Result<WrappedDataKey, Error> {
        intact("wrapped_key", &answer.wrapped_key, answer.wrapped_key_crc32c)?;
        let (version, wrapped_key, iv, tag) = (answer.name, answer.wrapped_key, answer.iv, answer.tag);
        Ok(WrappedDataKey { version, wrapped_key, iv, tag })
    }
}

impl Client {
    /// Signs.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn sign(&self, name: &str, algorithm: &Algorithm, input: Input<'_>) -> Result<Signature, Error> {
        let request = || wire::sign(name, algorithm, input);
        let answer = self.call(request, |request| async { self.crypto().sign(request).await }).await?;
        wire::signed(answer)
    }

    /// Verifies a signature. A wrong one is an answer, not an error.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn verify(
        &self,
        name: &str,
        algorithm: &Algorithm,
        input: Input<'_>,
        signature: &[u8],
    ) -> Result<Verdict, Error> {
        let request = || wire::verify(name, algorithm, input, signature);
        let answer = self.call(request, |request| async { self.crypto().verify(request).await }).await?;
        Ok(wire::verified(answer))
    }

    /// Encrypts.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn encrypt(&self, name: &str, algorithm: &Algorithm, data: Encryption<'_>) -> Result<Ciphertext, Error> {
        let request = || wire::encrypt(name, algorithm, data);
        let answer = self.call(request, |request| async { self.crypto().encrypt(request).await }).await?;
        wire::encrypted(answer)
    }

    /// Decrypts. `name` is the version that encrypted.
    ///
    /// # Errors
    /// [`Error::DecryptionFailed`] when it does not authenticate; [`Error`].
    pub async fn decrypt(&self, name: &str, algorithm: &Algorithm, data: Sealed<'_>) -> Result<Plaintext, Error> {
        let request = || wire::decrypt(name, algorithm, data);
        let answer = self.call(request, |request| async { self.crypto().decrypt(request).await }).await?;
        wire::decrypted(answer)
    }

    /// Wraps a key of the caller's.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn wrap_key(&self, name: &str, algorithm: &Algorithm, key: &[u8]) -> Result<WrappedKey, Error> {
        let request = || wire::wrap_key(name, algorithm, key);
        let answer = self.call(request, |request| async { self.crypto().wrap_key(request).await }).await?;
        wire::wrapped(answer)
    }

    /// Unwraps a key of the caller's. `name` is the version that wrapped.
    ///
    /// # Errors
    /// [`Error::DecryptionFailed`] when it does not authenticate; [`Error`].
    pub async fn unwrap_key(
        &self,
        name: &str,
        algorithm: &Algorithm,
        wrapped_key: &[u8],
    ) -> Result<UnwrappedKey, Error> {
        let request = || wire::unwrap_key(name, algorithm, wrapped_key);
        let answer = self.call(request, |request| async { self.crypto().unwrap_key(request).await }).await?;
        wire::unwrapped(answer)
    }

    /// Decrypts what is under one key and encrypts it under another, or the newest version of the same, in the service.
    /// `name` is the version that encrypted.
    ///
    /// # Errors
    /// [`Error::DecryptionFailed`] when it does not authenticate; [`Error`].
    pub async fn re_encrypt(
        &self,
        name: &str,
        algorithm: &Algorithm,
        data: Sealed<'_>,
        to: Destination<'_>,
    ) -> Result<ReEncrypted, Error> {
        let request = || wire::re_encrypt(name, algorithm, data, to);
        let answer = self.call(request, |request| async { self.crypto().re_encrypt(request).await }).await?;
        wire::re_encrypted(answer)
    }

    /// Unwraps what is under one key and wraps it under another, in the service. Additional data and IV of the destination
    /// are not for wrapped keys.
    ///
    /// # Errors
    /// As for [`Self::re_encrypt`].
    pub async fn rewrap_key(
        &self,
        name: &str,
        algorithm: &Algorithm,
        wrapped_key: &[u8],
        to: Destination<'_>,
    ) -> Result<Rewrapped, Error> {
        let request = || wire::rewrap_key(name, algorithm, wrapped_key, to);
        let answer = self.call(request, |request| async { self.crypto().rewrap_key(request).await }).await?;
        wire::rewrapped(answer)
    }

    /// Makes a data key in the HSM, and gives it and its wrapped form.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn generate_data_key(
        &self,
        name: &str,
        algorithm: &Algorithm,
        wanted: DataKeyLength<'_>,
    ) -> Result<DataKey, Error> {
        let request = || wire::data_key(name, algorithm, wanted);
        let answer = self.call(request, |request| async { self.crypto().generate_data_key(request).await }).await?;
        wire::made_data_key(answer, wanted.length_bytes)
    }

    /// Makes a data key in the HSM, and gives its wrapped form only.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn generate_data_key_without_plaintext(
        &self,
        name: &str,
        algorithm: &Algorithm,
        wanted: DataKeyLength<'_>,
    ) -> Result<WrappedDataKey, Error> {
        let request = || wire::wrapped_data_key(name, algorithm, wanted);
        let answer = self
            .call(request, |request| async { self.crypto().generate_data_key_without_plaintext(request).await })
            .await?;
        wire::made_wrapped_data_key(answer)
    }

    /// Random bytes from the HSM, in as many calls as it takes.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn random_bytes(&self, length: usize) -> Result<SecretSlice<u8>, Error> {
        // One allocation: growing would leave copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(length));
        while bytes.len() < length {
            let asked = (length - bytes.len()).min(RANDOM_BYTES_MAX);
            let length_bytes = i32::try_from(asked).unwrap_or(i32::MAX);
            let request = || GenerateRandomBytesRequest { length_bytes };
            let send = |request| async { self.crypto().generate_random_bytes(request).await };
            let answer = self.call(request, send).await?;
            let data = Zeroizing::new(answer.data);
            intact("data", &data, answer.data_crc32c)?;
            if data.len() != asked {
                return Err(Error::Unexpected(format!("{} random bytes instead of {asked}", data.len())));
            }
            bytes.extend_from_slice(&data);
        }
        Ok(std::mem::take(&mut *bytes).into())
    }
}
