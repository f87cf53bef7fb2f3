//! The table of key types and algorithms: one row each, asked by everyone.
//!
//! Names are JWA's (RFC 7518, RFC 8812). Lengths are checked here and nowhere else, because modules do
//! not: SoftHSM 2.6.1 signs a digest of any length and accepts an empty IV and a tag of no bits.

use serde::{Deserialize, Serialize};

/// The kind of a key and its size: what is generated and what a version is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum KeySpec {
    /// RSA with a modulus of 2048 bits; public exponent 65537, as for all RSA keys here.
    Rsa2048,
    /// RSA with a modulus of 3072 bits.
    Rsa3072,
    /// RSA with a modulus of 4096 bits.
    Rsa4096,
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
    /// NIST P-521.
    P521,
    /// secp256k1, `P-256K` in Azure Key Vault's words.
    P256K,
    /// AES, 128 bits.
    Aes128,
    /// AES, 192 bits.
    Aes192,
    /// AES, 256 bits.
    Aes256,
}

/// A key type (JWK `kty`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// RSA.
    Rsa,
    /// Elliptic curve.
    Ec,
    /// Octets.
    Oct,
}

impl KeySpec {
    /// Every row of the table.
    pub const ALL: [Self; 10] = [
        Self::Rsa2048,
        Self::Rsa3072,
        Self::Rsa4096,
        Self::P256,
        Self::P384,
        Self::P521,
        Self::P256K,
        Self::Aes128,
        Self::Aes192,
        Self::Aes256,
    ];

    /// The stable name, as stored and shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rsa2048 => "RSA-2048",
            Self::Rsa3072 => "RSA-3072",
            Self::Rsa4096 => "RSA-4096",
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
            Self::P256K => "P-256K",
            Self::Aes128 => "AES-128",
            Self::Aes192 => "AES-192",
            Self::Aes256 => "AES-256",
        }
    }

    /// The row of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|spec| spec.name() == name)
    }

    /// The key type.
    #[must_use]
    pub const fn key_type(self) -> KeyType {
        match self {
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => KeyType::Rsa,
            Self::P256 | Self::P384 | Self::P521 | Self::P256K => KeyType::Ec,
            Self::Aes128 | Self::Aes192 | Self::Aes256 => KeyType::Oct,
        }
    }

    /// The size in bits: modulus, field or key.
    #[must_use]
    pub const fn bits(self) -> usize {
        match self {
            Self::Rsa2048 => 2048,
            Self::Rsa3072 => 3072,
            Self::Rsa4096 => 4096,
            Self::P256 | Self::P256K | Self::Aes256 => 256,
            Self::P384 => 384,
            Self::P521 => 521,
            Self::Aes128 => 128,
            Self::Aes192 => 192,
        }
    }

    /// The size in bytes, rounded up: 66 for P-521.
    #[must_use]
    pub const fn bytes(self) -> usize {
        self.bits().div_ceil(8)
    }

    /// All that a key of this kind can be used for.
    #[must_use]
    pub const fn possible_ops(self) -> KeyOps {
        match self.key_type() {
            KeyType::Rsa => KeyOps::ALL_SIX,
            KeyType::Ec => KeyOps::SIGN.union(KeyOps::VERIFY),
            KeyType::Oct => KeyOps::ENCRYPT.union(KeyOps::DECRYPT).union(KeyOps::WRAP_KEY).union(KeyOps::UNWRAP_KEY),
        }
    }

    /// The algorithms a key of this kind takes.
    pub fn algorithms(self) -> impl Iterator<Item = Algorithm> {
        Algorithm::ALL.into_iter().filter(move |algorithm| algorithm.takes(self))
    }

    /// The lane that generating such a key belongs to is always the slowest; this is the lane that
    /// *using* the private or secret key belongs to.
    #[must_use]
    pub const fn lane(self) -> Lane {
        match self {
            Self::Aes128 | Self::Aes192 | Self::Aes256 => Lane::Short,
            Self::Rsa4096 => Lane::Long,
            Self::Rsa2048 | Self::Rsa3072 | Self::P256 | Self::P384 | Self::P521 | Self::P256K => Lane::Medium,
        }
    }
}

/// A class of work by its cost in the module; each has workers of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Lane {
    /// AES, HMAC, random bytes, seals: about 10 microseconds.
    Short,
    /// EC, RSA-2048 and RSA-3072, and loading their keys: 30 microseconds to 2 milliseconds.
    Medium,
    /// RSA-4096: 4 milliseconds.
    Long,
    /// Key generation and token objects: up to seconds.
    Generate,
}

impl Lane {
    /// Every lane, cheapest first.
    pub const ALL: [Self; 4] = [Self::Short, Self::Medium, Self::Long, Self::Generate];

    /// The name in metrics, logs and configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Medium => "medium",
            Self::Long => "long",
            Self::Generate => "generate",
        }
    }
}

/// A set of key operations (JWK `key_ops`, RFC 7517 section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct KeyOps(u16);

/// A bit that stands for no operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:#b} has a bit that stands for no key operation")]
pub struct UnknownOps(u16);

impl TryFrom<u16> for KeyOps {
    type Error = UnknownOps;

    fn try_from(bits: u16) -> Result<Self, UnknownOps> {
        Self::from_bits(bits).ok_or(UnknownOps(bits))
    }
}

impl From<KeyOps> for u16 {
    fn from(ops: KeyOps) -> Self {
        ops.0
    }
}

impl KeyOps {
    /// None.
    pub const NONE: Self = Self(0);
    /// `encrypt`.
    pub const ENCRYPT: Self = Self(1);
    /// `decrypt`.
    pub const DECRYPT: Self = Self(1 << 1);
    /// `sign`.
    pub const SIGN: Self = Self(1 << 2);
    /// `verify`.
    pub const VERIFY: Self = Self(1 << 3);
    /// `wrapKey`.
    pub const WRAP_KEY: Self = Self(1 << 4);
    /// `unwrapKey`.
    pub const UNWRAP_KEY: Self = Self(1 << 5);
    /// The six above.
    pub const ALL_SIX: Self = Self(0b11_1111);

    const NAMES: [(Self, &'static str); 6] = [
        (Self::ENCRYPT, "encrypt"),
        (Self::DECRYPT, "decrypt"),
        (Self::SIGN, "sign"),
        (Self::VERIFY, "verify"),
        (Self::WRAP_KEY, "wrapKey"),
        (Self::UNWRAP_KEY, "unwrapKey"),
    ];

    /// The set with these bits; `None` when a bit is unknown.
    #[must_use]
    pub const fn from_bits(bits: u16) -> Option<Self> {
        if bits & !Self::ALL_SIX.0 == 0 { Some(Self(bits)) } else { None }
    }

    /// The bits, as stored.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is in it.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The operations one by one, with their JWK names.
    pub fn iter(self) -> impl Iterator<Item = (Self, &'static str)> {
        Self::NAMES.into_iter().filter(move |(op, _)| self.contains(*op))
    }

    /// The operation of that JWK name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.into_iter().find(|(_, n)| *n == name).map(|(op, _)| op)
    }
}

impl std::fmt::Display for KeyOps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut first = true;
        for (_, name) in self.iter() {
            if !first {
                f.write_str(",")?;
            }
            first = false;
            f.write_str(name)?;
        }
        Ok(())
    }
}

/// A hash function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Digest {
    /// SHA-1: only inside RSA-OAEP.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Digest {
    /// The length of its output in bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// How an algorithm works, apart from the sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// RSASSA-PKCS1-v1_5 over a digest (RFC 8017 section 8.2): `CKM_RSA_PKCS` over the DigestInfo.
    RsaPkcs1(Digest),
    /// RSASSA-PSS over a digest, MGF1 with the same hash, salt as long as it (RFC 7518 section 3.5): `CKM_RSA_PKCS_PSS`.
    RsaPss(Digest),
    /// ECDSA over a digest, r‖s (RFC 7518 section 3.4): `CKM_ECDSA`.
    Ecdsa(Digest),
    /// RSAES-OAEP with MGF1 of the same hash and an empty label (RFC 8017 section 7.1).
    RsaOaep(Digest),
    /// AES-GCM, IV of 12 bytes, tag of 16 (NIST SP 800-38D): `CKM_AES_GCM`.
    AesGcm,
    /// AES key wrap (RFC 3394).
    AesKw,
}

/// An algorithm by its JWA name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is its JWA name; the table below says what it is")]
pub enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es256K,
    Es384,
    Es512,
    RsaOaep,
    RsaOaep256,
    A128Gcm,
    A192Gcm,
    A256Gcm,
    A128Kw,
    A192Kw,
    A256Kw,
}

/// What the table says of one algorithm.
struct Row {
    algorithm: Algorithm,
    name: &'static str,
    specs: &'static [KeySpec],
    ops: KeyOps,
    scheme: Scheme,
}

const RSA: &[KeySpec] = &[KeySpec::Rsa2048, KeySpec::Rsa3072, KeySpec::Rsa4096];
const SIGNS: KeyOps = KeyOps::SIGN.union(KeyOps::VERIFY);
const ENCRYPTS: KeyOps = KeyOps::ENCRYPT.union(KeyOps::DECRYPT);
const WRAPS: KeyOps = KeyOps::WRAP_KEY.union(KeyOps::UNWRAP_KEY);

#[rustfmt::skip]
const TABLE: [Row; 18] = {
    use Algorithm as A;
    use Digest::{Sha1, Sha256, Sha384, Sha512};
    use KeySpec as K;
    use Scheme as S;
    [
        Row { algorithm: A::Rs256, name: "RS256", specs: RSA, ops: SIGNS, scheme: S::RsaPkcs1(Sha256) },
        Row { algorithm: A::Rs384, name: "RS384", specs: RSA, ops: SIGNS, scheme: S::RsaPkcs1(Sha384) },
        Row { algorithm: A::Rs512, name: "RS512", specs: RSA, ops: SIGNS, scheme: S::RsaPkcs1(Sha512) },
        Row { algorithm: A::Ps256, name: "PS256", specs: RSA, ops: SIGNS, scheme: S::RsaPss(Sha256) },
        Row { algorithm: A::Ps384, name: "PS384", specs: RSA, ops: SIGNS, scheme: S::RsaPss(Sha384) },
        Row { algorithm: A::Ps512, name: "PS512", specs: RSA, ops: SIGNS, scheme: S::RsaPss(Sha512) },
        Row { algorithm: A::Es256, name: "ES256", specs: &[K::P256], ops: SIGNS, scheme: S::Ecdsa(Sha256) },
        Row { algorithm: A::Es256K, name: "ES256K", specs: &[K::P256K], ops: SIGNS, scheme: S::Ecdsa(Sha256) },
        Row { algorithm: A::Es384, name: "ES384", specs: &[K::P384], ops: SIGNS, scheme: S::Ecdsa(Sha384) },
        Row { algorithm: A::Es512, name: "ES512", specs: &[K::P521], ops: SIGNS, scheme: S::Ecdsa(Sha512) },
        Row { algorithm: A::RsaOaep, name: "RSA-OAEP", specs: RSA, ops: KeyOps::ENCRYPT.union(KeyOps::DECRYPT).union(WRAPS), scheme: S::RsaOaep(Sha1) },
        Row { algorithm: A::RsaOaep256, name: "RSA-OAEP-256", specs: RSA, ops: ENCRYPTS.union(WRAPS), scheme: S::RsaOaep(Sha256) },
        Row { algorithm: A::A128Gcm, name: "A128GCM", specs: &[K::Aes128], ops: ENCRYPTS, scheme: S::AesGcm },
        Row { algorithm: A::A192Gcm, name: "A192GCM", specs: &[K::Aes192], ops: ENCRYPTS, scheme: S::AesGcm },
        Row { algorithm: A::A256Gcm, name: "A256GCM", specs: &[K::Aes256], ops: ENCRYPTS, scheme: S::AesGcm },
        Row { algorithm: A::A128Kw, name: "A128KW", specs: &[K::Aes128], ops: WRAPS, scheme: S::AesKw },
        Row { algorithm: A::A192Kw, name: "A192KW", specs: &[K::Aes192], ops: WRAPS, scheme: S::AesKw },
        Row { algorithm: A::A256Kw, name: "A256KW", specs: &[K::Aes256], ops: WRAPS, scheme: S::AesKw },
    ]
};

/// The longest plaintext of an authenticated encryption, in bytes.
pub const PLAINTEXT_BYTES_MAX: usize = 64 * 1024;
/// The longest additional data, in bytes.
pub const ADDITIONAL_DATA_BYTES_MAX: usize = 16 * 1024;
/// The longest message that is hashed by the service, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// The longest key that AES key wrap takes, in bytes.
pub const WRAP_BYTES_MAX: usize = 4096;
/// The length of an AES-GCM IV in bytes: random, chosen by the HSM (NIST SP 800-38D section 8.2.2).
pub const GCM_IV_BYTES: usize = 12;
/// The length of an AES-GCM tag in bytes.
pub const GCM_TAG_BYTES: usize = 16;
/// The most random bytes in one call.
pub const RANDOM_BYTES_MAX: usize = 1024;
/// The most encryptions with one AES-GCM key and random IVs (NIST SP 800-38D section 8.3).
pub const GCM_ENCRYPTIONS_MAX: u64 = 1 << 32;

/// The input of an operation is not as long as the algorithm needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{field} has {found_bytes} bytes; {algorithm} with this key takes {takes}")]
pub struct LengthError {
    /// Which input, by its name in the API.
    pub field: String,
    /// The algorithm's JWA name.
    pub algorithm: String,
    /// How long it is.
    pub found_bytes: usize,
    /// What is taken, in words.
    pub takes: String,
}

impl Algorithm {
    /// Every row of the table.
    pub const ALL: [Self; 18] = {
        let mut all = [Self::Rs256; 18];
        let mut i = 0;
        while i < TABLE.len() {
            all[i] = TABLE[i].algorithm;
            i += 1;
        }
        all
    };

    fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// The JWA name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The algorithm of that JWA name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.name == name).map(|row| row.algorithm)
    }

    /// How it works.
    #[must_use]
    pub fn scheme(self) -> Scheme {
        self.row().scheme
    }

    /// The operations it serves.
    #[must_use]
    pub fn ops(self) -> KeyOps {
        self.row().ops
    }

    /// Whether a key of that kind can be used with it.
    #[must_use]
    pub fn takes(self, spec: KeySpec) -> bool {
        self.row().specs.contains(&spec)
    }

    /// The hash of a signature algorithm.
    #[must_use]
    pub fn signature_digest(self) -> Option<Digest> {
        match self.scheme() {
            Scheme::RsaPkcs1(digest) | Scheme::RsaPss(digest) | Scheme::Ecdsa(digest) => Some(digest),
            Scheme::RsaOaep(_) | Scheme::AesGcm | Scheme::AesKw => None,
        }
    }

    /// The length of a signature, or of an RSA ciphertext, in bytes.
    #[must_use]
    pub fn output_bytes(self, spec: KeySpec) -> usize {
        match self.scheme() {
            Scheme::Ecdsa(_) => 2 * spec.bytes(),
            _ => spec.bytes(),
        }
    }

    fn check(
        self,
        field: &str,
        found_bytes: usize,
        right: bool,
        takes: impl FnOnce() -> String,
    ) -> Result<(), LengthError> {
        if right {
            return Ok(());
        }
        Err(LengthError { field: field.to_owned(), algorithm: self.name().to_owned(), found_bytes, takes: takes() })
    }

    /// The longest plaintext that RSA-OAEP takes: k - 2h - 2 (RFC 8017 section 7.1.1).
    #[must_use]
    pub fn oaep_plaintext_bytes_max(digest: Digest, spec: KeySpec) -> usize {
        spec.bytes() - 2 * digest.bytes() - 2
    }

    /// Checks a digest to be signed or verified.
    ///
    /// # Errors
    /// When it is not exactly as long as the algorithm's hash.
    pub fn check_digest(self, digest: &[u8]) -> Result<(), LengthError> {
        let wanted = self.signature_digest().map_or(0, Digest::bytes);
        self.check("digest", digest.len(), digest.len() == wanted, || format!("exactly {wanted}"))
    }

    /// Checks a signature's length.
    ///
    /// # Errors
    /// When it is not exactly as long as every signature of this algorithm and key.
    pub fn check_signature(self, signature: &[u8], spec: KeySpec) -> Result<(), LengthError> {
        let wanted = self.output_bytes(spec);
        self.check("signature", signature.len(), signature.len() == wanted, || format!("exactly {wanted}"))
    }

    /// Checks what is to be encrypted, or the key that is to be wrapped (`field` names it).
    ///
    /// # Errors
    /// When it is too long, too short, or not a multiple of what the algorithm works in.
    pub fn check_plaintext(self, field: &str, plaintext: &[u8], spec: KeySpec) -> Result<(), LengthError> {
        let len = plaintext.len();
        match self.scheme() {
            Scheme::AesGcm => {
                self.check(field, len, len <= PLAINTEXT_BYTES_MAX, || format!("at most {PLAINTEXT_BYTES_MAX}"))
            }
            Scheme::RsaOaep(digest) => {
                let max = Self::oaep_plaintext_bytes_max(digest, spec);
                let min = usize::from(field == "key");
                self.check(field, len, (min..=max).contains(&len), || format!("{min} to {max}"))
            }
            Scheme::AesKw => {
                self.check(field, len, kw_takes(len), || format!("a multiple of 8 from 16 to {WRAP_BYTES_MAX}"))
            }
            Scheme::RsaPkcs1(_) | Scheme::RsaPss(_) | Scheme::Ecdsa(_) => Ok(()),
        }
    }

    /// Checks what is to be decrypted, or the wrapped key that is to be unwrapped (`field` names it).
    ///
    /// # Errors
    /// When no encryption with this algorithm and key gives that length.
    pub fn check_ciphertext(self, field: &str, ciphertext: &[u8], spec: KeySpec) -> Result<(), LengthError> {
        let len = ciphertext.len();
        match self.scheme() {
            Scheme::AesGcm => {
                self.check(field, len, len <= PLAINTEXT_BYTES_MAX, || format!("at most {PLAINTEXT_BYTES_MAX}"))
            }
            Scheme::RsaOaep(_) => self.check(field, len, len == spec.bytes(), || format!("exactly {}", spec.bytes())),
            Scheme::AesKw => self.check(field, len, len >= 8 && kw_takes(len - 8), || {
                format!("a multiple of 8 from 24 to {}", WRAP_BYTES_MAX + 8)
            }),
            Scheme::RsaPkcs1(_) | Scheme::RsaPss(_) | Scheme::Ecdsa(_) => Ok(()),
        }
    }

    /// Checks the IV and tag of a decryption: 12 and 16 bytes for AES-GCM, none for others.
    ///
    /// # Errors
    /// When either has another length.
    pub fn check_iv_and_tag(self, iv: &[u8], tag: &[u8]) -> Result<(), LengthError> {
        let (iv_bytes, tag_bytes) = match self.scheme() {
            Scheme::AesGcm => (GCM_IV_BYTES, GCM_TAG_BYTES),
            _ => (0, 0),
        };
        self.check("iv", iv.len(), iv.len() == iv_bytes, || format!("exactly {iv_bytes}"))?;
        self.check("tag", tag.len(), tag.len() == tag_bytes, || format!("exactly {tag_bytes}"))
    }

    /// Checks additional data: at most 16 KiB for AES-GCM, none for others.
    ///
    /// # Errors
    /// When it is longer.
    pub fn check_additional_data(self, data: &[u8]) -> Result<(), LengthError> {
        let max = if self.scheme() == Scheme::AesGcm { ADDITIONAL_DATA_BYTES_MAX } else { 0 };
        self.check("additional_data", data.len(), data.len() <= max, || format!("at most {max}"))
    }

    /// The lane for this algorithm with such a key and an input of that many bytes. Long AES inputs
    /// leave the short lane, where they would hold up everyone else.
    #[must_use]
    pub fn lane(self, spec: KeySpec, input_bytes: usize) -> Lane {
        let short_max = match self.scheme() {
            Scheme::AesKw => 256,
            _ => 16 * 1024,
        };
        match spec.lane() {
            Lane::Short if input_bytes > short_max => Lane::Medium,
            lane => lane,
        }
    }
}

const fn kw_takes(bytes: usize) -> bool {
    bytes.is_multiple_of(8) && bytes >= 16 && bytes <= WRAP_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_in_the_order_of_the_enum() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.row().algorithm, algorithm);
            assert_eq!(Algorithm::from_name(algorithm.name()), Some(algorithm));
        }
    }

    #[test]
    fn every_key_has_an_algorithm_for_each_of_its_operations() {
        for spec in KeySpec::ALL {
            assert_eq!(KeySpec::from_name(spec.name()), Some(spec));
            let covered = spec.algorithms().fold(KeyOps::NONE, |ops, a| ops.union(a.ops()));
            assert_eq!(covered, spec.possible_ops(), "{}", spec.name());
        }
    }

    #[test]
    fn lengths_are_checked_at_their_edges() {
        assert!(Algorithm::Es256.check_digest(&[0; 32]).is_ok());
        assert!(Algorithm::Es256.check_digest(&[]).is_err());
        assert!(Algorithm::Es512.check_signature(&[0; 132], KeySpec::P521).is_ok());
        assert!(Algorithm::RsaOaep256.check_plaintext("plaintext", &[0; 190], KeySpec::Rsa2048).is_ok());
        assert!(Algorithm::RsaOaep256.check_plaintext("plaintext", &[0; 191], KeySpec::Rsa2048).is_err());
        assert!(Algorithm::A256Kw.check_plaintext("key", &[0; 17], KeySpec::Aes256).is_err());
        assert!(Algorithm::A256Kw.check_plaintext("key", &[0; 8], KeySpec::Aes256).is_err());
        assert!(Algorithm::A256Kw.check_ciphertext("wrapped_key", &[0; 4104], KeySpec::Aes256).is_ok());
        assert!(Algorithm::A256Kw.check_ciphertext("wrapped_key", &[], KeySpec::Aes256).is_err());
        assert!(Algorithm::A128Gcm.check_iv_and_tag(&[], &[0; 16]).is_err());
        assert!(Algorithm::RsaOaep.check_additional_data(b"x").is_err());
    }
}
