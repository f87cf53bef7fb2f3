//! One operation with a loaded key: the mechanisms behind the algorithm table.

use std::borrow::Cow;

use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::{
    code::{Class, Failed, Function},
    engine::{Engine, Trouble, nonsense},
    key_wrap, oaep, pkcs7,
    public::{self, Public},
    rsaes15,
    token::{Handle, Mechanism},
};
use crate::{
    algorithms::{Algorithm, Digest, GCM_IV_BYTES, GCM_TAG_BYTES, KeyOps, Scheme},
    protocol::{DataKeyForm, Fault, Operation, Output},
    secret::SecretBytes,
    statement::{KeyStatement, Residency},
};

/// Which half of a key an operation needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    /// The private key, or the secret one.
    Private,
    /// The public key.
    Public,
}

/// Checks everything that needs no key material: the operation's permission, its algorithm and the
/// length of each input. Says which half of the key it needs.
///
/// # Errors
/// [`Fault::Protocol`], [`Fault::NotPermitted`], [`Fault::WrongAlgorithm`] or [`Fault::Length`].
pub(crate) fn check(statement: &KeyStatement, operation: &Operation) -> Result<Half, Fault> {
    let (algorithm, purpose, spec) = (operation.algorithm(), operation.purpose(), statement.spec);
    // A purpose is one of two operations: an empty set would be contained in every key's.
    let (fits, half) = match operation {
        Operation::Sign { .. } => (true, Half::Private),
        Operation::Verify { .. } => (true, Half::Public),
        Operation::Encrypt { .. } => ([KeyOps::ENCRYPT, KeyOps::WRAP_KEY].contains(&purpose), Half::Public),
        Operation::Decrypt { .. } => ([KeyOps::DECRYPT, KeyOps::UNWRAP_KEY].contains(&purpose), Half::Private),
        Operation::DataKey { .. } => ([KeyOps::ENCRYPT, KeyOps::WRAP_KEY].contains(&purpose), Half::Public),
    };
    let half = if statement.public.is_empty() { Half::Private } else { half };
    if !fits {
        return Err(Fault::Protocol);
    }
    // Whatever its operations say, a public half cannot do what needs the private one.
    if !statement.ops.contains(purpose) || (half == Half::Private && statement.residency == Residency::Public) {
        return Err(Fault::NotPermitted);
    }
    if !algorithm.takes(spec) || !algorithm.ops().contains(purpose) {
        return Err(Fault::WrongAlgorithm);
    }
    check_lengths(statement, operation).map_err(Fault::Length)?;
    Ok(half)
}

fn check_lengths(statement: &KeyStatement, operation: &Operation) -> Result<(), crate::algorithms::LengthError> {
    let spec = statement.spec;
    match operation {
        Operation::Sign { algorithm, input } => algorithm.check_input(input.expose_secret()),
        Operation::Verify { algorithm, input, signature } => {
            algorithm.check_input(input.expose_secret())?;
            algorithm.check_signature(signature, spec)
        }
        Operation::Encrypt { algorithm, purpose, plaintext, iv, additional_data } => {
            let field = if *purpose == KeyOps::WRAP_KEY { "key" } else { "plaintext" };
            algorithm.check_plaintext(field, plaintext.expose_secret(), spec)?;
            algorithm.check_chosen_iv(iv)?;
            algorithm.check_additional_data(additional_data)
        }
        Operation::Decrypt { algorithm, purpose, ciphertext, iv, tag, additional_data } => {
            let field = if *purpose == KeyOps::UNWRAP_KEY { "wrapped_key" } else { "ciphertext" };
            algorithm.check_ciphertext(field, ciphertext, spec)?;
            algorithm.check_iv_and_tag(iv, tag)?;
            algorithm.check_additional_data(additional_data)
        }
        Operation::DataKey { algorithm, length_bytes, additional_data, .. } => {
            algorithm.check_data_key(usize::try_from(*length_bytes).unwrap_or(usize::MAX), spec)?;
            algorithm.check_additional_data(additional_data)
        }
    }
}

impl Engine {
    /// Runs an operation that [`check`] has passed, with the half of the key it asked for.
    pub(crate) fn operate(
        &mut self,
        statement: &KeyStatement,
        key: Handle,
        operation: &Operation,
    ) -> Result<Output, Trouble> {
        match operation {
            Operation::Sign { algorithm, input } => {
                self.sign(statement, key, *algorithm, input.expose_secret()).map(|made| Output::Signature(made.into()))
            }
            Operation::Verify { algorithm, input, signature } => {
                self.verify(statement, key, *algorithm, input.expose_secret(), signature).map(Output::Verified)
            }
            Operation::Encrypt { algorithm, plaintext, iv, additional_data, .. } => {
                self.encrypt(statement, key, *algorithm, plaintext.expose_secret(), iv, additional_data)
            }
            Operation::Decrypt { algorithm, ciphertext, iv, tag, additional_data, .. } => {
                let plaintext = match algorithm.scheme() {
                    Scheme::AesGcm => {
                        let mechanism = Mechanism::Gcm { iv, additional_data };
                        let joined = [ciphertext.as_slice(), tag].concat();
                        Some(self.decrypt(mechanism, key, &joined, joined.len())?)
                    }
                    Scheme::AesCbc => Some(self.decrypt(Mechanism::Cbc { iv }, key, ciphertext, ciphertext.len())?),
                    Scheme::AesCbcPad => {
                        pkcs7::unpad(&self.decrypt(Mechanism::Cbc { iv }, key, ciphertext, ciphertext.len())?)
                    }
                    Scheme::AesKw => key_wrap::unwrap(&mut *self.token, key, ciphertext)?,
                    Scheme::AesKwp => key_wrap::unwrap_padded(&mut *self.token, key, ciphertext)?,
                    Scheme::RsaOaep(_) | Scheme::RsaEs15 => {
                        self.decrypt_rsa(statement, key, algorithm.scheme(), ciphertext)?
                    }
                    Scheme::RsaPkcs1(_) | Scheme::RsaPss(_) | Scheme::Ecdsa(_) | Scheme::Eddsa | Scheme::Hmac(_) => {
                        return Err(Fault::WrongAlgorithm.into());
                    }
                };
                plaintext.map(Output::Plaintext).ok_or(Trouble::Fault(Fault::DecryptionFailed))
            }
            Operation::DataKey { algorithm, length_bytes, additional_data, form } => {
                let data_key = self.random_data_key(*length_bytes)?;
                let sealed =
                    self.encrypt(statement, key, *algorithm, data_key.expose_secret(), &[], additional_data)?;
                answer_data_key(*form, data_key, sealed)
            }
        }
    }

    fn random_data_key(&mut self, length_bytes: u32) -> Result<SecretBytes, Trouble> {
        let mut bytes = zeroize::Zeroizing::new(vec![0; usize::try_from(length_bytes).unwrap_or(0)]);
        self.token.random(&mut bytes)?;
        if bytes.iter().all(|byte| *byte == 0) {
            return Err(nonsense(Function::GenerateRandom, "a data key of zeros"));
        }
        Ok(SecretBytes::new(std::mem::take(&mut *bytes)))
    }

    fn sign(
        &mut self,
        statement: &KeyStatement,
        key: Handle,
        algorithm: Algorithm,
        input: &[u8],
    ) -> Result<Vec<u8>, Trouble> {
        let length = algorithm.output_bytes(statement.spec);
        let (mechanism, data) = signing(algorithm, input)?;
        let signature = self.token.sign(mechanism, key, &data, length)?;
        if signature.len() == length {
            Ok(signature)
        } else {
            Err(nonsense(Function::Sign, "a signature of another length"))
        }
    }

    pub(crate) fn verify(
        &mut self,
        statement: &KeyStatement,
        key: Handle,
        algorithm: Algorithm,
        input: &[u8],
        signature: &[u8],
    ) -> Result<bool, Trouble> {
        if matches!(algorithm.scheme(), Scheme::Hmac(_)) {
            // By making it again and comparing in constant time, as seals are checked.
            let made = self.sign(statement, key, algorithm, input)?;
            return Ok(verify_slices_are_equal(&made, signature).is_ok());
        }
        // Modules answer a number above the modulus with errors of every kind; it is no signature.
        if !self.public_of(statement)?.exceeds(signature) {
            return Ok(false);
        }
        let (mechanism, data) = signing(algorithm, input)?;
        match self.token.verify(mechanism, key, &data, signature) {
            Ok(()) => Ok(true),
            Err(failed) if failed.class() == Class::Verdict => Ok(false),
            // SoftHSM 2.6.1 judges some malformed signatures with CKR_GENERAL_ERROR, NSS with CKR_DEVICE_ERROR.
            Err(failed) if is_malformed(failed) && self.check_canary().is_ok() => Ok(false),
            Err(failed) => Err(failed.into()),
        }
    }

    fn encrypt(
        &mut self,
        statement: &KeyStatement,
        key: Handle,
        algorithm: Algorithm,
        plaintext: &[u8],
        iv: &[u8],
        additional_data: &[u8],
    ) -> Result<Output, Trouble> {
        let k = statement.spec.bytes();
        let ciphertext = match algorithm.scheme() {
            Scheme::AesGcm => return self.encrypt_gcm(key, plaintext, additional_data),
            Scheme::AesCbc => self.encrypt_exactly(Mechanism::Cbc { iv }, key, plaintext, plaintext.len())?,
            Scheme::AesCbcPad => {
                let padded = pkcs7::pad(plaintext);
                self.encrypt_exactly(Mechanism::Cbc { iv }, key, &padded, padded.len())?
            }
            Scheme::AesKw => key_wrap::wrap(&mut *self.token, key, plaintext)?,
            Scheme::AesKwp => key_wrap::wrap_padded(&mut *self.token, key, plaintext)?,
            Scheme::RsaEs15 => self.encrypt_exactly(Mechanism::RsaPkcs, key, plaintext, k)?,
            Scheme::RsaOaep(Digest::Sha1) => self.encrypt_exactly(Mechanism::RsaOaep, key, plaintext, k)?,
            Scheme::RsaOaep(_) => {
                let mut seed = zeroize::Zeroizing::new([0; oaep::HASH_BYTES]);
                self.token.random(&mut *seed)?;
                let encoded = oaep::encode(k, plaintext, &seed);
                self.encrypt_exactly(Mechanism::RsaRaw, key, &encoded, k)?
            }
            Scheme::RsaPkcs1(_) | Scheme::RsaPss(_) | Scheme::Ecdsa(_) | Scheme::Eddsa | Scheme::Hmac(_) => {
                return Err(Fault::WrongAlgorithm.into());
            }
        };
        Ok(Output::Ciphertext { ciphertext: ciphertext.into(), iv: iv.to_vec().into(), tag: Vec::new().into() })
    }

    /// An encryption whose result has that length, and no other.
    fn encrypt_exactly(
        &mut self,
        mechanism: Mechanism<'_>,
        key: Handle,
        plaintext: &[u8],
        bytes: usize,
    ) -> Result<Vec<u8>, Trouble> {
        let ciphertext = self.token.encrypt(mechanism, key, plaintext, bytes)?;
        if ciphertext.len() == bytes {
            Ok(ciphertext)
        } else {
            Err(nonsense(Function::Encrypt, "a ciphertext of another length"))
        }
    }

    /// With an IV of the module's random numbers, made anew at each attempt: a repeated encryption never
    /// repeats its IV.
    fn encrypt_gcm(&mut self, key: Handle, plaintext: &[u8], additional_data: &[u8]) -> Result<Output, Trouble> {
        let mut iv = [0; GCM_IV_BYTES];
        self.token.random(&mut iv)?;
        if iv == [0; GCM_IV_BYTES] {
            return Err(nonsense(Function::GenerateRandom, "an IV of zeros"));
        }
        let length = plaintext.len() + GCM_TAG_BYTES;
        let mechanism = Mechanism::Gcm { iv: &iv, additional_data };
        let mut ciphertext = self.encrypt_exactly(mechanism, key, plaintext, length)?;
        let tag = ciphertext.split_off(plaintext.len());
        Ok(Output::Ciphertext { ciphertext: ciphertext.into(), iv: iv.to_vec().into(), tag: tag.into() })
    }

    fn decrypt(
        &mut self,
        mechanism: Mechanism<'_>,
        key: Handle,
        ciphertext: &[u8],
        bytes_max: usize,
    ) -> Result<SecretBytes, Trouble> {
        let decrypted = self.token.decrypt(mechanism, key, ciphertext, bytes_max);
        decrypted.map_err(|failed| self.verdict(failed, Fault::DecryptionFailed))
    }

    /// `None` when it does not decrypt.
    fn decrypt_rsa(
        &mut self,
        statement: &KeyStatement,
        key: Handle,
        scheme: Scheme,
        ciphertext: &[u8],
    ) -> Result<Option<SecretBytes>, Trouble> {
        let k = statement.spec.bytes();
        if !self.public_of(statement)?.exceeds(ciphertext) {
            return Ok(None);
        }
        if scheme == Scheme::RsaOaep(Digest::Sha1) {
            return self.decrypt(Mechanism::RsaOaep, key, ciphertext, k).map(Some);
        }
        let raw = self.decrypt(Mechanism::RsaRaw, key, ciphertext, k)?;
        let decode = if scheme == Scheme::RsaEs15 { rsaes15::decode } else { oaep::decode };
        Ok(decode(k, raw.expose_secret()))
    }

    #[expect(clippy::unused_self, reason = "reads as a question to the engine, like its neighbours")]
    fn public_of(&self, statement: &KeyStatement) -> Result<Public, Trouble> {
        Public::from_spki(statement.spec, &statement.public).map_err(|_| Trouble::Fault(Fault::KeyMismatch))
    }
}

/// A data key in the form that was asked for.
fn answer_data_key(form: DataKeyForm, key: SecretBytes, sealed: Output) -> Result<Output, Trouble> {
    match (form, sealed) {
        (DataKeyForm::WrappedOnly, sealed @ Output::Ciphertext { .. }) => Ok(sealed),
        (DataKeyForm::PlainAndWrapped, Output::Ciphertext { ciphertext, iv, tag }) => {
            Ok(Output::DataKey { key, ciphertext, iv, tag })
        }
        _ => Err(Fault::Protocol.into()),
    }
}

/// The mechanism of a signature algorithm and what is given to it.
fn signing(algorithm: Algorithm, input: &[u8]) -> Result<(Mechanism<'static>, Cow<'_, [u8]>), Trouble> {
    let mechanism = match algorithm.scheme() {
        Scheme::RsaPkcs1(hash) => {
            let data = public::digest_info(hash, input).map_err(|_| Trouble::Fault(Fault::Protocol))?;
            return Ok((Mechanism::RsaPkcs, Cow::Owned(data)));
        }
        Scheme::RsaPss(hash) => Mechanism::RsaPss(hash),
        Scheme::Ecdsa(_) => Mechanism::Ecdsa,
        Scheme::Eddsa => Mechanism::Eddsa,
        Scheme::Hmac(hash) => Mechanism::Hmac(hash),
        Scheme::RsaOaep(_)
        | Scheme::RsaEs15
        | Scheme::AesGcm
        | Scheme::AesCbc
        | Scheme::AesCbcPad
        | Scheme::AesKw
        | Scheme::AesKwp => return Err(Fault::WrongAlgorithm.into()),
    };
    Ok((mechanism, Cow::Borrowed(input)))
}

fn is_malformed(failed: Failed) -> bool {
    failed.function == Function::Verify && failed.class() == Class::Suspect
}
