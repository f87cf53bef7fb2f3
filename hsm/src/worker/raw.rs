//! Raw PKCS#11, for benchmarks: the module in this process, one session, one call for each operation and
//! nothing around it. What everything else is measured against.

use cryptoki_sys as sys;

use super::{
    code::Failed,
    public, start,
    token::{Attribute, Handle, Mechanism, Token},
};
use crate::{
    algorithms::{AES_BLOCK_BYTES, Algorithm, GCM_IV_BYTES, GCM_TAG_BYTES, KeySpec, KeyType, Scheme},
    protocol::{Fault, Hello},
};

/// A logged-in module with keys of its own, all session objects.
pub struct Raw {
    token: Box<dyn Token>,
}

/// A key of [`Raw`]: sensitive, not extractable, private, as the workers' keys are.
#[derive(Clone, Copy, Debug)]
pub struct RawKey {
    handle: Handle,
    spec: KeySpec,
}

impl Raw {
    /// Loads the module and logs in.
    ///
    /// # Errors
    /// As a worker's start.
    pub fn open(hello: &Hello) -> Result<Self, Fault> {
        Ok(Self { token: start::log_in(hello)?.token })
    }

    /// Makes a key.
    ///
    /// # Errors
    /// When the module fails.
    pub fn key(&mut self, spec: KeySpec) -> Result<RawKey, Fault> {
        let number = |value: usize| value.try_into().unwrap_or(0);
        let private = [
            Attribute::Flag(sys::CKA_TOKEN, false),
            Attribute::Flag(sys::CKA_PRIVATE, true),
            Attribute::Flag(sys::CKA_SENSITIVE, true),
            Attribute::Flag(sys::CKA_EXTRACTABLE, false),
        ];
        let sign = Attribute::Flag(sys::CKA_SIGN, true);
        let parameters = public::ec_parameters(spec).unwrap_or_default();
        let handle = match spec.key_type() {
            KeyType::Rsa => {
                let bits = Attribute::Number(sys::CKA_MODULUS_BITS, number(spec.bits()));
                self.token.generate_pair(Mechanism::GenerateRsa, &[bits], &[&private[..], &[sign]].concat())
            }
            KeyType::Ec | KeyType::Okp => {
                let is_okp = spec.key_type() == KeyType::Okp;
                let mechanism = if is_okp { Mechanism::GenerateEdwards } else { Mechanism::GenerateEc };
                let curve = Attribute::Bytes(sys::CKA_EC_PARAMS, &parameters);
                self.token.generate_pair(mechanism, &[curve], &[&private[..], &[sign]].concat())
            }
            KeyType::Aes | KeyType::Hmac => {
                let is_hmac = spec.key_type() == KeyType::Hmac;
                let mechanism = if is_hmac { Mechanism::GenerateSecret } else { Mechanism::GenerateAes };
                let length = Attribute::Number(sys::CKA_VALUE_LEN, number(spec.bytes()));
                let purpose = if is_hmac { sign } else { Attribute::Flag(sys::CKA_ENCRYPT, true) };
                let template = [&private[..], &[length, purpose]].concat();
                self.token.generate_key(mechanism, &template).map(|key| (key, key))
            }
        };
        Ok(RawKey { handle: handle.map_err(fault)?.1, spec })
    }

    /// One signature over a digest or message, or one encryption.
    ///
    /// # Errors
    /// When the module fails.
    pub fn run(&mut self, key: RawKey, algorithm: Algorithm, input: &[u8]) -> Result<Vec<u8>, Fault> {
        let bytes = algorithm.output_bytes(key.spec);
        let made = match algorithm.scheme() {
            Scheme::RsaPkcs1(_) => self.token.sign(Mechanism::RsaPkcs, key.handle, input, bytes),
            Scheme::RsaPss(digest) => self.token.sign(Mechanism::RsaPss(digest), key.handle, input, bytes),
            Scheme::Ecdsa(_) => self.token.sign(Mechanism::Ecdsa, key.handle, input, bytes),
            Scheme::Eddsa => self.token.sign(Mechanism::Eddsa, key.handle, input, bytes),
            Scheme::Hmac(digest) => self.token.sign(Mechanism::Hmac(digest), key.handle, input, bytes),
            Scheme::AesGcm => return self.gcm(key, input),
            Scheme::AesCbc => {
                let mechanism = Mechanism::Cbc { iv: &[0; AES_BLOCK_BYTES] };
                self.token.encrypt(mechanism, key.handle, input, input.len())
            }
            Scheme::RsaOaep(_) | Scheme::RsaEs15 | Scheme::AesCbcPad | Scheme::AesKw | Scheme::AesKwp => {
                return Err(Fault::Unsupported(format!("{} is not measured raw", algorithm.name())));
            }
        };
        made.map_err(fault)
    }

    fn gcm(&mut self, key: RawKey, input: &[u8]) -> Result<Vec<u8>, Fault> {
        let mut iv = [0; GCM_IV_BYTES];
        self.token.random(&mut iv).map_err(fault)?;
        let mechanism = Mechanism::Gcm { iv: &iv, additional_data: &[] };
        self.token.encrypt(mechanism, key.handle, input, input.len() + GCM_TAG_BYTES).map_err(fault)
    }
}

fn fault(failed: Failed) -> Fault {
    failed.fault(crate::protocol::Damage::Operation)
}
