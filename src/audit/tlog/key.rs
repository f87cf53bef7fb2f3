//! The keys that notes are verified with (C2SP `signed-note`).
//!
//! ```text
//! vkey   = name "+" hex(key ID) "+" base64(type || public key)
//! key ID = SHA-256(name || 0x0A || type || public key)[:4]
//! key ID = SHA-256(SubjectPublicKeyInfo)[:4]                      of ECDSA
//! ```
//!
//! A key ID is a name, not a hash to rely on: whoever wants can make another key with the same. What is relied on is the key.

use std::{
    fmt::{self, Display},
    str::FromStr,
};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ED25519, ParsedPublicKey, VerificationAlgorithm};
use base64ct::{Base64, Encoding as _};
use const_oid::db::{
    rfc5912::{ID_EC_PUBLIC_KEY, SECP_256_R_1},
    rfc8410::ID_ED_25519,
};
use der::{Decode as _, Encode as _};
use sha2::{Digest as _, Sha256};
use spki::SubjectPublicKeyInfoRef;

use super::cosignature;

/// The bytes of an Ed25519 public key.
const ED25519_BYTES: usize = 32;

/// The bytes of a key ID.
pub(super) const ID_BYTES: usize = 4;

/// How a key signs a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// Ed25519 over the text (RFC 8032).
    Ed25519,
    /// ECDSA on P-256 over SHA-256 of the text; the signature is ASN.1 DER.
    EcdsaP256,
    /// Ed25519 over the text and the time of the signature: a witness's cosignature.
    Cosignature,
}

impl KeyKind {
    const ALL: [Self; 3] = [Self::Ed25519, Self::EcdsaP256, Self::Cosignature];

    /// The byte that stands for it in a vkey and in a key ID.
    fn byte(self) -> u8 {
        match self {
            Self::Ed25519 => 0x01,
            Self::EcdsaP256 => 0x02,
            Self::Cosignature => 0x04,
        }
    }

    fn algorithm(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::Ed25519 | Self::Cosignature => &ED25519,
            Self::EcdsaP256 => &ECDSA_P256_SHA256_ASN1,
        }
    }
}

/// Why something is no key to verify notes with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The name is empty, or has a space, a plus sign or a control character.
    #[error("a key's name must not be empty, and has no spaces, plus signs or control characters")]
    Name,
    /// The text has not the three parts of a vkey.
    #[error(
        "a verifier key is written name+ID+key, with an ID of eight lower-case hexadecimal digits and a key in base64"
    )]
    Form,
    /// A type that is not verified here.
    #[error("a verifier key of type {0:#04x}: known are 0x01 (Ed25519), 0x02 (ECDSA) and 0x04 (cosignatures)")]
    Kind(u8),
    /// The ID belongs to another name or key: a slip in copying it.
    #[error("the verifier key's ID does not belong to its name and key: copy it again")]
    Id,
    /// No such public key.
    #[error("the public key is malformed, or is neither Ed25519 nor on P-256")]
    Public,
}

/// A name, and the public key that verifies what is signed under it.
#[derive(Clone)]
pub struct VerifierKey {
    name: String,
    id: [u8; ID_BYTES],
    kind: KeyKind,
    /// As it stands in the vkey: 32 bytes, or a SubjectPublicKeyInfo.
    encoded: Vec<u8>,
    public: ParsedPublicKey,
}

impl VerifierKey {
    /// The key of a name, from its `encoded` public key: 32 bytes for Ed25519 and cosignatures, the DER of a
    /// SubjectPublicKeyInfo for ECDSA.
    ///
    /// # Errors
    ///
    /// [`KeyError::Name`] and [`KeyError::Public`].
    pub fn new(name: &str, kind: KeyKind, encoded: &[u8]) -> Result<Self, KeyError> {
        if !is_name(name) {
            return Err(KeyError::Name);
        }
        let point = match kind {
            KeyKind::Ed25519 | KeyKind::Cosignature => Some(encoded).filter(|key| key.len() == ED25519_BYTES),
            KeyKind::EcdsaP256 => p256_point(encoded),
        };
        let public = ParsedPublicKey::new(kind.algorithm(), point.ok_or(KeyError::Public)?);
        let public = public.map_err(|_| KeyError::Public)?;
        Ok(Self { name: name.to_owned(), id: id(name, kind, encoded), kind, encoded: encoded.to_vec(), public })
    }

    /// The key of a log, from the DER of its SubjectPublicKeyInfo: Ed25519 (RFC 8410) or P-256 (RFC 5480).
    ///
    /// # Errors
    ///
    /// [`KeyError::Name`] and [`KeyError::Public`].
    pub fn from_spki(name: &str, der: &[u8]) -> Result<Self, KeyError> {
        let info = SubjectPublicKeyInfoRef::from_der(der).map_err(|_| KeyError::Public)?;
        if info.algorithm.oid != ID_ED_25519 {
            return Self::new(name, KeyKind::EcdsaP256, der);
        }
        let key = info.subject_public_key.as_bytes().filter(|_| info.algorithm.parameters.is_none());
        Self::new(name, KeyKind::Ed25519, key.ok_or(KeyError::Public)?)
    }

    /// The name it signs under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first bytes of a hash over name and key, which stand before each of its signatures.
    pub fn id(&self) -> [u8; 4] {
        self.id
    }

    /// How it signs.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Whether this is the key's signature of a note's text, and if it is a cosignature, of which time.
    pub(super) fn verify(&self, text: &str, signature: &[u8]) -> Option<Option<u64>> {
        let (message, signature, time) = match self.kind {
            KeyKind::Ed25519 | KeyKind::EcdsaP256 => (text.as_bytes().to_vec(), signature, None),
            KeyKind::Cosignature => {
                let (time, signature) = cosignature::split(signature)?;
                (cosignature::message(time, text), signature, Some(time))
            }
        };
        self.public.verify_sig(&message, signature).is_ok().then_some(time)
    }
}

impl PartialEq for VerifierKey {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.kind, &self.encoded) == (&other.name, other.kind, &other.encoded)
    }
}

impl Eq for VerifierKey {}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({self})")
    }
}

/// As a vkey.
impl Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[self.kind.byte()], self.encoded.as_slice()].concat();
        write!(f, "{}+{}+{}", self.name, base16ct::lower::encode_string(&self.id), Base64::encode_string(&key))
    }
}

/// From a vkey.
impl FromStr for VerifierKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(KeyError::Form);
        };
        let mut claimed = [0; ID_BYTES];
        let whole = base16ct::lower::decode(id, &mut claimed).is_ok_and(|id| id.len() == ID_BYTES);
        let key = Base64::decode_vec(key).ok().filter(|_| whole).ok_or(KeyError::Form)?;
        let (byte, encoded) = key.split_first().ok_or(KeyError::Form)?;
        let kind = KeyKind::ALL.into_iter().find(|kind| kind.byte() == *byte).ok_or(KeyError::Kind(*byte))?;
        let key = Self::new(name, kind, encoded)?;
        (key.id == claimed).then_some(key).ok_or(KeyError::Id)
    }
}

/// Whether a note can be signed under that name.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c == '+' || c.is_whitespace() || c.is_control())
}

fn id(name: &str, kind: KeyKind, encoded: &[u8]) -> [u8; ID_BYTES] {
    let hash: [u8; 32] = match kind {
        KeyKind::EcdsaP256 => Sha256::digest(encoded).into(),
        KeyKind::Ed25519 | KeyKind::Cosignature => {
            Sha256::new().chain_update(name).chain_update([b'\n', kind.byte()]).chain_update(encoded).finalize().into()
        }
    };
    let [a, b, c, d, ..] = hash;
    [a, b, c, d]
}

/// The uncompressed point of a SubjectPublicKeyInfo on P-256, in its only DER form.
fn p256_point(der: &[u8]) -> Option<&[u8]> {
    let info = SubjectPublicKeyInfoRef::from_der(der).ok()?;
    let curve = info.algorithm.parameters_oid().ok()?;
    let known = info.algorithm.oid == ID_EC_PUBLIC_KEY && curve == SECP_256_R_1;
    let whole = known && info.to_der().ok()? == der;
    info.subject_public_key.as_bytes().filter(|point| whole && point.first() == Some(&0x04))
}
