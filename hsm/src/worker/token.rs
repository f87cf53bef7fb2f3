//! The seam: what the worker needs of a token, at the granularity of the PKCS#11 functions it uses.
//!
//! Implementations: [`super::module::Module`], which calls a real module, and `faults::Faulty`, which
//! makes any other one fail on script. What is above the seam names no session: objects are made in one
//! that is never closed, operations run in another that is replaced when it may be soiled.

use cryptoki_sys::{self as sys, CK_ATTRIBUTE_TYPE, CK_MECHANISM_TYPE, CK_ULONG};

use super::code::Failed;
use crate::{algorithms::Digest, secret::SecretBytes};

/// The result of one PKCS#11 call.
pub(crate) type Outcome<T> = Result<T, Failed>;

/// An object of the token, valid for this login in this process. It never leaves the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Handle(pub(crate) CK_ULONG);

/// One attribute of a template. Values are borrowed: nothing secret is copied into a template.
#[derive(Clone)]
pub(crate) enum Attribute<'a> {
    /// CK_BBOOL.
    Flag(CK_ATTRIBUTE_TYPE, bool),
    /// CK_ULONG.
    Number(CK_ATTRIBUTE_TYPE, CK_ULONG),
    /// Bytes, text and big integers.
    Bytes(CK_ATTRIBUTE_TYPE, &'a [u8]),
    /// CKA_ALLOWED_MECHANISMS.
    AllowedMechanisms(Vec<CK_MECHANISM_TYPE>),
    /// CKA_UNWRAP_TEMPLATE: what every key unwrapped with this one must be.
    UnwrapTemplate(Vec<Attribute<'a>>),
}

/// How something is done. What an algorithm needs beside its key stands with it.
#[derive(Clone, Copy)]
pub(crate) enum Mechanism<'a> {
    /// `CKM_RSA_PKCS`.
    RsaPkcs,
    /// `CKM_RSA_PKCS_PSS` over a digest, MGF1 with the same hash, salt as long as it.
    RsaPss(Digest),
    /// `CKM_RSA_PKCS_OAEP` with SHA-1 and an empty label, the only one SoftHSM 2.6.1 has.
    RsaOaep,
    /// `CKM_RSA_X_509`: without padding.
    RsaRaw,
    /// `CKM_ECDSA` over a digest, r‖s.
    Ecdsa,
    /// `CKM_EDDSA`, Ed25519 over a message.
    Eddsa,
    /// `CKM_SHA256_HMAC` and its kin, over a message.
    Hmac(Digest),
    /// `CKM_AES_GCM` with a tag of 128 bits.
    Gcm {
        /// 12 bytes.
        iv: &'a [u8],
        /// Authenticated with the data.
        additional_data: &'a [u8],
    },
    /// `CKM_AES_CBC`, whole blocks, without padding.
    Cbc {
        /// 16 bytes.
        iv: &'a [u8],
    },
    /// `CKM_AES_ECB`.
    Ecb,
    /// `CKM_AES_KEY_WRAP` (RFC 3394).
    KeyWrap,
    /// `CKM_AES_KEY_WRAP_PAD`: RFC 5649 in modules that lack the next (SoftHSM), something else in others.
    KeyWrapPad,
    /// `CKM_AES_KEY_WRAP_KWP`: RFC 5649, with a number of its own since PKCS#11 3.0.
    KeyWrapKwp,
    /// `CKM_RSA_PKCS_KEY_PAIR_GEN`.
    GenerateRsa,
    /// `CKM_EC_KEY_PAIR_GEN`.
    GenerateEc,
    /// `CKM_EC_EDWARDS_KEY_PAIR_GEN`.
    GenerateEdwards,
    /// `CKM_AES_KEY_GEN`.
    GenerateAes,
    /// `CKM_GENERIC_SECRET_KEY_GEN`.
    GenerateSecret,
}

impl Mechanism<'_> {
    /// CK_MECHANISM_TYPE.
    pub(crate) const fn number(&self) -> CK_MECHANISM_TYPE {
        match self {
            Self::RsaPkcs => sys::CKM_RSA_PKCS,
            Self::RsaPss(_) => sys::CKM_RSA_PKCS_PSS,
            Self::RsaOaep => sys::CKM_RSA_PKCS_OAEP,
            Self::RsaRaw => sys::CKM_RSA_X_509,
            Self::Ecdsa => sys::CKM_ECDSA,
            Self::Eddsa => sys::CKM_EDDSA,
            Self::Hmac(Digest::Sha1) => sys::CKM_SHA_1_HMAC,
            Self::Hmac(Digest::Sha256) => sys::CKM_SHA256_HMAC,
            Self::Hmac(Digest::Sha384) => sys::CKM_SHA384_HMAC,
            Self::Hmac(Digest::Sha512) => sys::CKM_SHA512_HMAC,
            Self::Gcm { .. } => sys::CKM_AES_GCM,
            Self::Cbc { .. } => sys::CKM_AES_CBC,
            Self::Ecb => sys::CKM_AES_ECB,
            Self::KeyWrap => sys::CKM_AES_KEY_WRAP,
            Self::KeyWrapPad => sys::CKM_AES_KEY_WRAP_PAD,
            Self::KeyWrapKwp => sys::CKM_AES_KEY_WRAP_KWP,
            Self::GenerateRsa => sys::CKM_RSA_PKCS_KEY_PAIR_GEN,
            Self::GenerateEc => sys::CKM_EC_KEY_PAIR_GEN,
            Self::GenerateEdwards => sys::CKM_EC_EDWARDS_KEY_PAIR_GEN,
            Self::GenerateAes => sys::CKM_AES_KEY_GEN,
            Self::GenerateSecret => sys::CKM_GENERIC_SECRET_KEY_GEN,
        }
    }
}

/// Which way a cipher runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Encrypts.
    Encrypt,
    /// Decrypts.
    Decrypt,
}

/// One block of AES.
pub(crate) type Block = [u8; 16];

/// A token in a module, through one login.
pub(crate) trait Token {
    /// `C_Login` of the user.
    fn login(&mut self, pin: &SecretBytes) -> Outcome<()>;

    /// `C_Finalize`: nothing of this token can be used after it.
    fn finalize(&mut self);

    /// The worker is ready: what comes now is served for a caller.
    fn started(&mut self) {}

    /// `C_GetMechanismList`.
    fn mechanisms(&mut self) -> Outcome<Vec<CK_MECHANISM_TYPE>>;

    /// `C_FindObjects`: every object that has these attributes. Costs 14 us for each object on the token.
    fn find(&mut self, template: &[Attribute<'_>]) -> Outcome<Vec<Handle>>;

    /// `C_GetAttributeValue`: empty when the object has no such attribute.
    fn attribute(&mut self, object: Handle, kind: CK_ATTRIBUTE_TYPE) -> Outcome<Vec<u8>>;

    /// `C_CreateObject`.
    fn create(&mut self, template: &[Attribute<'_>]) -> Outcome<Handle>;

    /// `C_DestroyObject`.
    fn destroy(&mut self, object: Handle) -> Outcome<()>;

    /// `C_GenerateKey`.
    fn generate_key(&mut self, mechanism: Mechanism<'_>, template: &[Attribute<'_>]) -> Outcome<Handle>;

    /// `C_GenerateKeyPair`: the public and the private key.
    fn generate_pair(
        &mut self,
        mechanism: Mechanism<'_>,
        public: &[Attribute<'_>],
        private: &[Attribute<'_>],
    ) -> Outcome<(Handle, Handle)>;

    /// `C_WrapKey`.
    fn wrap(&mut self, mechanism: Mechanism<'_>, wrapping: Handle, key: Handle) -> Outcome<Vec<u8>>;

    /// `C_UnwrapKey`.
    fn unwrap(
        &mut self,
        mechanism: Mechanism<'_>,
        unwrapping: Handle,
        blob: &[u8],
        template: &[Attribute<'_>],
    ) -> Outcome<Handle>;

    /// `C_Sign` into `bytes_max`, the length that the algorithm table gives.
    fn sign(&mut self, mechanism: Mechanism<'_>, key: Handle, data: &[u8], bytes_max: usize) -> Outcome<Vec<u8>>;

    /// `C_Verify`: a wrong signature is a failure that is a verdict.
    fn verify(&mut self, mechanism: Mechanism<'_>, key: Handle, data: &[u8], signature: &[u8]) -> Outcome<()>;

    /// `C_Encrypt` into `bytes_max`.
    fn encrypt(
        &mut self,
        mechanism: Mechanism<'_>,
        key: Handle,
        plaintext: &[u8],
        bytes_max: usize,
    ) -> Outcome<Vec<u8>>;

    /// `C_Decrypt` into `bytes_max`.
    fn decrypt(
        &mut self,
        mechanism: Mechanism<'_>,
        key: Handle,
        ciphertext: &[u8],
        bytes_max: usize,
    ) -> Outcome<SecretBytes>;

    /// Begins a chain of single AES blocks: one `C_EncryptInit` or `C_DecryptInit` for many blocks, each
    /// of which may depend on the one before.
    fn blocks_begin(&mut self, direction: Direction, key: Handle) -> Outcome<()>;

    /// The next block, in place.
    fn block(&mut self, direction: Direction, block: &mut Block) -> Outcome<()>;

    /// Ends the chain.
    fn blocks_end(&mut self, direction: Direction) -> Outcome<()>;

    /// `C_GenerateRandom`.
    fn random(&mut self, bytes: &mut [u8]) -> Outcome<()>;
}
