//! The table of key types and algorithms: one row each, asked by everyone.
//!
//! Names are JWA's (RFC 7518, RFC 8037, RFC 8812), and Azure Key Vault's where JWA has none (`A256CBC`,
//! `A256CBCPAD`, `A256KWP`). Lengths are checked here and nowhere else, because modules do
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
    /// Ed25519 (RFC 8032).
    Ed25519,
    /// AES, 128 bits.
    Aes128,
    /// AES, 192 bits.
    Aes192,
    /// AES, 256 bits.
    Aes256,
    /// HMAC, 256 bits: as long as SHA-256's output, the least that HS256 takes (RFC 7518 section 3.2).
    Hmac256,
    /// HMAC, 384 bits.
    Hmac384,
    /// HMAC, 512 bits.
    Hmac512,
}

/// A type of key. JWK's `kty` is the same but for its `oct`, which is two types here: no module uses one
/// key for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// RSA.
    Rsa,
    /// Elliptic curve, in short Weierstrass form.
    Ec,
    /// Octet key pair (RFC 8037): Ed25519.
    Okp,
    /// Octets for AES.
    Aes,
    /// Octets for HMAC.
    Hmac,
}

impl KeyType {
    /// Whether it is one secret, without a public half.
    #[must_use]
    pub const fn is_secret(self) -> bool {
        matches!(self, Self::Aes | Self::Hmac)
    }
}

impl KeySpec {
    /// Every row of the table.
    pub const ALL: [Self; 14] = [
        Self::Rsa2048,
        Self::Rsa3072,
        Self::Rsa4096,
        Self::P256,
        Self::P384,
        Self::P521,
        Self::P256K,
        Self::Ed25519,
        Self::Aes128,
        Self::Aes192,
        Self::Aes256,
        Self::Hmac256,
        Self::Hmac384,
        Self::Hmac512,
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
            Self::Ed25519 => "Ed25519",
            Self::Aes128 => "AES-128",
            Self::Aes192 => "AES-192",
            Self::Aes256 => "AES-256",
            Self::Hmac256 => "HMAC-256",
            Self::Hmac384 => "HMAC-384",
            Self::Hmac512 => "HMAC-512",
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
            Self::Ed25519 => KeyType::Okp,
            Self::Aes128 | Self::Aes192 | Self::Aes256 => KeyType::Aes,
            Self::Hmac256 | Self::Hmac384 | Self::Hmac512 => KeyType::Hmac,
        }
    }

    /// The size in bits: modulus, field or key.
    #[must_use]
    pub const fn bits(self) -> usize {
        match self {
            Self::Rsa2048 => 2048,
            Self::Rsa3072 => 3072,
            Self::Rsa4096 => 4096,
            Self::P256 | Self::P256K | Self::Ed25519 | Self::Aes256 | Self::Hmac256 => 256,
            Self::P384 | Self::Hmac384 => 384,
            Self::Hmac512 => 512,
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
            KeyType::Ec | KeyType::Okp | KeyType::Hmac => KeyOps::SIGN.union(KeyOps::VERIFY),
            KeyType::Aes => KeyOps::ENCRYPT.union(KeyOps::DECRYPT).union(KeyOps::WRAP_KEY).union(KeyOps::UNWRAP_KEY),
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
            Self::Aes128 | Self::Aes192 | Self::Aes256 | Self::Hmac256 | Self::Hmac384 | Self::Hmac512 => Lane::Short,
            Self::Rsa4096 => Lane::Long,
            Self::Rsa2048 | Self::Rsa3072 | Self::P256 | Self::P384 | Self::P521 | Self::P256K | Self::Ed25519 => {
                Lane::Medium
            }
        }
    }
}

/// A class of work by its cost in the module; each has workers of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Lane {
    /// AES, HMAC, random bytes, seals: about 10 microseconds.
    Short,
    /// EC, Ed25519, RSA-2048 and RSA-3072, and loading their keys: 30 microseconds to 2 milliseconds.
    Medium,
    /// RSA-4096: 4 milliseconds.
    Long,
    /// Key generation and token objects: up to seconds.
    Generate,
}

impl Lane {
    /// Every lane, cheapest first.
    pub const ALL: [Self; 4] = [Self::Short, Self::Medium, Self::Long, Self::Generate];

    /// How far its workers stand back where cores are short (nice(2)): work of milliseconds and seconds lets work
    /// of microseconds go first, and the front, for which everybody waits.
    #[must_use]
    pub const fn niceness(self) -> i32 {
        match self {
            Self::Short | Self::Medium => 0,
            Self::Long => 10,
            Self::Generate => 19,
        }
    }

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
    /// The six that callers ask for: all above.
    pub const ALL_SIX: Self = Self(0b11_1111);
    /// `import`: unwraps keys that are brought in (Azure's BYOK). It stands alone: who could decrypt with such a key could
    /// read what others send here wrapped.
    pub const IMPORT: Self = Self(1 << 6);
    /// Those that the public half of a key pair is enough for.
    pub const PUBLIC_HALF: Self = Self::VERIFY.union(Self::ENCRYPT).union(Self::WRAP_KEY);

    const ALL: u16 = 0b111_1111;
    const NAMES: [(Self, &'static str); 7] = [
        (Self::ENCRYPT, "encrypt"),
        (Self::DECRYPT, "decrypt"),
        (Self::SIGN, "sign"),
        (Self::VERIFY, "verify"),
        (Self::WRAP_KEY, "wrapKey"),
        (Self::UNWRAP_KEY, "unwrapKey"),
        (Self::IMPORT, "import"),
    ];

    /// The set with these bits; `None` when a bit is unknown.
    #[must_use]
    pub const fn from_bits(bits: u16) -> Option<Self> {
        if bits & !Self::ALL == 0 { Some(Self(bits)) } else { None }
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

    /// What is in both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether all of `other` is in it.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// All of them, one by one.
    pub fn every() -> impl Iterator<Item = (Self, &'static str)> {
        Self(Self::ALL).iter()
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
    /// Ed25519 over a message (RFC 8032 section 5.1): `CKM_EDDSA`. It hashes the message twice itself, so no
    /// digest can stand for it.
    Eddsa,
    /// HMAC over a message (RFC 2104): `CKM_SHA256_HMAC` and its kin.
    Hmac(Digest),
    /// RSAES-OAEP with MGF1 of the same hash and an empty label (RFC 8017 section 7.1).
    RsaOaep(Digest),
    /// RSAES-PKCS1-v1_5 (RFC 8017 section 7.2).
    RsaEs15,
    /// AES-GCM, IV of 12 bytes, tag of 16 (NIST SP 800-38D): `CKM_AES_GCM`.
    AesGcm,
    /// AES-CBC of whole blocks under the caller's IV (NIST SP 800-38A section 6.2): `CKM_AES_CBC`.
    AesCbc,
    /// AES-CBC with the padding of PKCS #7 (RFC 5652 section 6.3).
    AesCbcPad,
    /// AES key wrap (RFC 3394).
    AesKw,
    /// AES key wrap with padding (RFC 5649).
    AesKwp,
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
    EdDsa,
    Hs256,
    Hs384,
    Hs512,
    RsaOaep,
    RsaOaep256,
    Rsa15,
    A128Gcm,
    A192Gcm,
    A256Gcm,
    A128Cbc,
    A192Cbc,
    A256Cbc,
    A128CbcPad,
    A192CbcPad,
    A256CbcPad,
    A128Kw,
    A192Kw,
    A256Kw,
    A128Kwp,
    A192Kwp,
    A256Kwp,
}

/// How many algorithms there are.
const ALGORITHMS: usize = 32;

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
const TABLE: [Row; ALGORITHMS] = {
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
        Row { algorithm: A::EdDsa, name: "EdDSA", specs: &[K::Ed25519], ops: SIGNS, scheme: S::Eddsa },
        Row { algorithm: A::Hs256, name: "HS256", specs: &[K::Hmac256, K::Hmac384, K::Hmac512], ops: SIGNS, scheme: S::Hmac(Sha256) },
        Row { algorithm: A::Hs384, name: "HS384", specs: &[K::Hmac384, K::Hmac512], ops: SIGNS, scheme: S::Hmac(Sha384) },
        Row { algorithm: A::Hs512, name: "HS512", specs: &[K::Hmac512], ops: SIGNS, scheme: S::Hmac(Sha512) },
        Row { algorithm: A::RsaOaep, name: "RSA-OAEP", specs: RSA, ops: ENCRYPTS.union(WRAPS), scheme: S::RsaOaep(Sha1) },
        Row { algorithm: A::RsaOaep256, name: "RSA-OAEP-256", specs: RSA, ops: ENCRYPTS.union(WRAPS), scheme: S::RsaOaep(Sha256) },
        Row { algorithm: A::Rsa15, name: "RSA1_5", specs: RSA, ops: ENCRYPTS.union(WRAPS), scheme: S::RsaEs15 },
        Row { algorithm: A::A128Gcm, name: "A128GCM", specs: &[K::Aes128], ops: ENCRYPTS, scheme: S::AesGcm },
        Row { algorithm: A::A192Gcm, name: "A192GCM", specs: &[K::Aes192], ops: ENCRYPTS, scheme: S::AesGcm },
        Row { algorithm: A::A256Gcm, name: "A256GCM", specs: &[K::Aes256], ops: ENCRYPTS, scheme: S::AesGcm },
        Row { algorithm: A::A128Cbc, name: "A128CBC", specs: &[K::Aes128], ops: ENCRYPTS, scheme: S::AesCbc },
        Row { algorithm: A::A192Cbc, name: "A192CBC", specs: &[K::Aes192], ops: ENCRYPTS, scheme: S::AesCbc },
        Row { algorithm: A::A256Cbc, name: "A256CBC", specs: &[K::Aes256], ops: ENCRYPTS, scheme: S::AesCbc },
        Row { algorithm: A::A128CbcPad, name: "A128CBCPAD", specs: &[K::Aes128], ops: ENCRYPTS, scheme: S::AesCbcPad },
        Row { algorithm: A::A192CbcPad, name: "A192CBCPAD", specs: &[K::Aes192], ops: ENCRYPTS, scheme: S::AesCbcPad },
        Row { algorithm: A::A256CbcPad, name: "A256CBCPAD", specs: &[K::Aes256], ops: ENCRYPTS, scheme: S::AesCbcPad },
        Row { algorithm: A::A128Kw, name: "A128KW", specs: &[K::Aes128], ops: WRAPS, scheme: S::AesKw },
        Row { algorithm: A::A192Kw, name: "A192KW", specs: &[K::Aes192], ops: WRAPS, scheme: S::AesKw },
        Row { algorithm: A::A256Kw, name: "A256KW", specs: &[K::Aes256], ops: WRAPS, scheme: S::AesKw },
        Row { algorithm: A::A128Kwp, name: "A128KWP", specs: &[K::Aes128], ops: WRAPS, scheme: S::AesKwp },
        Row { algorithm: A::A192Kwp, name: "A192KWP", specs: &[K::Aes192], ops: WRAPS, scheme: S::AesKwp },
        Row { algorithm: A::A256Kwp, name: "A256KWP", specs: &[K::Aes256], ops: WRAPS, scheme: S::AesKwp },
    ]
};

/// The longest plaintext of A*GCM, A*CBC and A*CBCPAD, in bytes.
pub const PLAINTEXT_BYTES_MAX: usize = 64 * 1024;
/// The longest additional data, in bytes.
pub const ADDITIONAL_DATA_BYTES_MAX: usize = 16 * 1024;
/// The longest message that is hashed by the service, or signed as it is, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// The longest key that AES key wrap takes, padded or not, in bytes.
pub const WRAP_BYTES_MAX: usize = 4096;
/// The length of an AES-GCM IV in bytes: random, chosen by the HSM (NIST SP 800-38D section 8.2.2).
pub const GCM_IV_BYTES: usize = 12;
/// The length of an AES-GCM tag in bytes.
pub const GCM_TAG_BYTES: usize = 16;
/// The length of an AES block and of an AES-CBC IV in bytes.
pub const AES_BLOCK_BYTES: usize = 16;
/// What RSAES-PKCS1-v1_5 adds to a message at least, in bytes (RFC 8017 section 7.2.1).
pub const RSAES15_PADDING_BYTES_MIN: usize = 11;
/// The most random bytes in one call.
pub const RANDOM_BYTES_MAX: usize = 1024;
/// The lengths of a data key in bytes: an AES key, or an AES key and a MAC key together.
pub const DATA_KEY_BYTES: [usize; 4] = [16, 24, 32, 64];
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
    pub const ALL: [Self; ALGORITHMS] = {
        let mut all = [Self::Rs256; ALGORITHMS];
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

    /// Whether it signs and verifies.
    #[must_use]
    pub fn signs(self) -> bool {
        self.ops().contains(KeyOps::SIGN)
    }

    /// The hash whose digest is signed in place of the message: that of RS*, PS* and ES*. EdDSA and HS* sign
    /// the message as it is.
    #[must_use]
    pub fn signature_digest(self) -> Option<Digest> {
        match self.scheme() {
            Scheme::RsaPkcs1(digest) | Scheme::RsaPss(digest) | Scheme::Ecdsa(digest) => Some(digest),
            _ => None,
        }
    }

    /// Whether its decryption tells right padding from wrong: whoever can ask often enough can decrypt what
    /// they may not, or sign (Bleichenbacher, CRYPTO 1998; Vaudenay, EUROCRYPT 2002).
    #[must_use]
    pub fn is_padding_oracle(self) -> bool {
        matches!(self.scheme(), Scheme::RsaEs15 | Scheme::AesCbcPad)
    }

    /// The length of a signature or MAC, or of an RSA ciphertext, in bytes.
    #[must_use]
    pub fn output_bytes(self, spec: KeySpec) -> usize {
        match self.scheme() {
            Scheme::Ecdsa(_) | Scheme::Eddsa => 2 * spec.bytes(),
            Scheme::Hmac(digest) => digest.bytes(),
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

    /// Checks what is to be signed or verified: the digest of RS*, PS* and ES*, the message of EdDSA and HS*.
    ///
    /// # Errors
    /// When a digest is not exactly as long as the algorithm's hash, or a message longer than 64 KiB.
    pub fn check_input(self, input: &[u8]) -> Result<(), LengthError> {
        let len = input.len();
        match self.signature_digest().map(Digest::bytes) {
            Some(wanted) => self.check("digest", len, len == wanted, || format!("exactly {wanted}")),
            None => self.check("message", len, len <= MESSAGE_BYTES_MAX, || format!("at most {MESSAGE_BYTES_MAX}")),
        }
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
            Scheme::AesGcm | Scheme::AesCbcPad => {
                self.check(field, len, len <= PLAINTEXT_BYTES_MAX, || format!("at most {PLAINTEXT_BYTES_MAX}"))
            }
            Scheme::AesCbc => self.check_blocks(field, len, PLAINTEXT_BYTES_MAX),
            Scheme::RsaOaep(digest) => self.check_message(field, len, Self::oaep_plaintext_bytes_max(digest, spec)),
            Scheme::RsaEs15 => self.check_message(field, len, spec.bytes() - RSAES15_PADDING_BYTES_MIN),
            Scheme::AesKw => {
                self.check(field, len, kw_takes(len), || format!("a multiple of 8 from 16 to {WRAP_BYTES_MAX}"))
            }
            Scheme::AesKwp => {
                self.check(field, len, (1..=WRAP_BYTES_MAX).contains(&len), || format!("1 to {WRAP_BYTES_MAX}"))
            }
            Scheme::RsaPkcs1(_) | Scheme::RsaPss(_) | Scheme::Ecdsa(_) | Scheme::Eddsa | Scheme::Hmac(_) => Ok(()),
        }
    }

    /// What RSA encrypts: a key has at least one byte, data may have none.
    fn check_message(self, field: &str, len: usize, max: usize) -> Result<(), LengthError> {
        let min = usize::from(field == "key");
        self.check(field, len, (min..=max).contains(&len), || format!("{min} to {max}"))
    }

    fn check_blocks(self, field: &str, len: usize, max: usize) -> Result<(), LengthError> {
        let whole = len.is_multiple_of(AES_BLOCK_BYTES) && (AES_BLOCK_BYTES..=max).contains(&len);
        self.check(field, len, whole, || format!("a multiple of {AES_BLOCK_BYTES} from {AES_BLOCK_BYTES} to {max}"))
    }

    /// The operation by which a data key is put under a key with this algorithm; `None` when it is no
    /// algorithm for that. AES-GCM has no wrapping of its own: it encrypts the data key.
    #[must_use]
    pub fn data_key_operation(self) -> Option<KeyOps> {
        match self.scheme() {
            Scheme::AesGcm => Some(KeyOps::ENCRYPT),
            _ => self.ops().contains(KeyOps::WRAP_KEY).then_some(KeyOps::WRAP_KEY),
        }
    }

    /// Checks the length of a data key that is to be made and wrapped.
    ///
    /// # Errors
    /// When data keys have no such length, or it does not fit under the key.
    pub fn check_data_key(self, length_bytes: usize, spec: KeySpec) -> Result<(), LengthError> {
        const LONGEST: [u8; 64] = [0; 64];
        let field = "length_bytes";
        let takes = || DATA_KEY_BYTES.map(|bytes| bytes.to_string()).join(", ");
        self.check(field, length_bytes, DATA_KEY_BYTES.contains(&length_bytes), takes)?;
        self.check_plaintext(field, &LONGEST[..length_bytes], spec)
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
            Scheme::AesCbc => self.check_blocks(field, len, PLAINTEXT_BYTES_MAX),
            Scheme::AesCbcPad => self.check_blocks(field, len, PLAINTEXT_BYTES_MAX + AES_BLOCK_BYTES),
            Scheme::RsaOaep(_) | Scheme::RsaEs15 => {
                self.check(field, len, len == spec.bytes(), || format!("exactly {}", spec.bytes()))
            }
            Scheme::AesKw => self.check(field, len, len >= 8 && kw_takes(len - 8), || {
                format!("a multiple of 8 from 24 to {}", WRAP_BYTES_MAX + 8)
            }),
            Scheme::AesKwp => {
                let whole = len.is_multiple_of(8) && (16..=WRAP_BYTES_MAX + 8).contains(&len);
                self.check(field, len, whole, || format!("a multiple of 8 from 16 to {}", WRAP_BYTES_MAX + 8))
            }
            Scheme::RsaPkcs1(_) | Scheme::RsaPss(_) | Scheme::Ecdsa(_) | Scheme::Eddsa | Scheme::Hmac(_) => Ok(()),
        }
    }

    /// Checks the IV of an encryption: the caller's 16 bytes for AES-CBC, none for others. AES-GCM's is made
    /// in the HSM: one that came twice would give the key's authentication away.
    ///
    /// # Errors
    /// When it has another length.
    pub fn check_chosen_iv(self, iv: &[u8]) -> Result<(), LengthError> {
        match self.scheme() {
            Scheme::AesCbc | Scheme::AesCbcPad => {
                self.check("iv", iv.len(), iv.len() == AES_BLOCK_BYTES, || format!("exactly {AES_BLOCK_BYTES}"))
            }
            Scheme::AesGcm => self.check("iv", iv.len(), iv.is_empty(), || "none: the service chooses it".to_owned()),
            _ => self.check("iv", iv.len(), iv.is_empty(), || "none".to_owned()),
        }
    }

    /// Checks the IV and tag of a decryption: 12 and 16 bytes for AES-GCM, 16 and none for AES-CBC, none for
    /// others.
    ///
    /// # Errors
    /// When either has another length.
    pub fn check_iv_and_tag(self, iv: &[u8], tag: &[u8]) -> Result<(), LengthError> {
        let (iv_bytes, tag_bytes) = match self.scheme() {
            Scheme::AesGcm => (GCM_IV_BYTES, GCM_TAG_BYTES),
            Scheme::AesCbc | Scheme::AesCbcPad => (AES_BLOCK_BYTES, 0),
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

    /// The lane for this algorithm with such a key and an input of that many bytes. Long AES and HMAC inputs
    /// leave the short lane, where they would hold up everyone else.
    #[must_use]
    pub fn lane(self, spec: KeySpec, input_bytes: usize) -> Lane {
        let short_max = match self.scheme() {
            Scheme::AesKw | Scheme::AesKwp => 256,
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
        assert!(Algorithm::Es256.check_input(&[0; 32]).is_ok());
        assert!(Algorithm::Es256.check_input(&[]).is_err());
        for algorithm in [Algorithm::EdDsa, Algorithm::Hs256] {
            assert!(algorithm.check_input(&[]).is_ok());
            assert!(algorithm.check_input(&[0; MESSAGE_BYTES_MAX]).is_ok());
            assert!(algorithm.check_input(&[0; MESSAGE_BYTES_MAX + 1]).is_err());
        }
        assert!(Algorithm::EdDsa.check_signature(&[0; 64], KeySpec::Ed25519).is_ok());
        assert!(Algorithm::Hs384.check_signature(&[0; 48], KeySpec::Hmac512).is_ok());
        assert!(Algorithm::Hs384.check_signature(&[0; 24], KeySpec::Hmac512).is_err());
        assert!(Algorithm::Es512.check_signature(&[0; 132], KeySpec::P521).is_ok());
        assert!(Algorithm::RsaOaep256.check_plaintext("plaintext", &[0; 190], KeySpec::Rsa2048).is_ok());
        assert!(Algorithm::RsaOaep256.check_plaintext("plaintext", &[0; 191], KeySpec::Rsa2048).is_err());
        assert!(Algorithm::A256Kw.check_plaintext("key", &[0; 17], KeySpec::Aes256).is_err());
        assert!(Algorithm::A256Kw.check_plaintext("key", &[0; 8], KeySpec::Aes256).is_err());
        assert!(Algorithm::A256Kw.check_ciphertext("wrapped_key", &[0; 4104], KeySpec::Aes256).is_ok());
        assert!(Algorithm::A256Kw.check_ciphertext("wrapped_key", &[], KeySpec::Aes256).is_err());
        for (length, takes) in [(0, false), (1, true), (4096, true), (4097, false)] {
            assert_eq!(Algorithm::A128Kwp.check_plaintext("key", &vec![0; length], KeySpec::Aes128).is_ok(), takes);
        }
        for (length, takes) in [(8, false), (16, true), (17, false), (4104, true), (4112, false)] {
            let checked = Algorithm::A128Kwp.check_ciphertext("wrapped_key", &vec![0; length], KeySpec::Aes128);
            assert_eq!(checked.is_ok(), takes, "{length}");
        }
        for (length, takes) in [(0, false), (15, false), (16, true), (65_536, true), (65_552, false)] {
            assert_eq!(Algorithm::A256Cbc.check_plaintext("", &vec![0; length], KeySpec::Aes256).is_ok(), takes);
            assert_eq!(Algorithm::A256Cbc.check_ciphertext("", &vec![0; length], KeySpec::Aes256).is_ok(), takes);
        }
        assert!(Algorithm::A256CbcPad.check_plaintext("", &[0; 65_537], KeySpec::Aes256).is_err());
        assert!(Algorithm::A256CbcPad.check_ciphertext("", &[0; 65_552], KeySpec::Aes256).is_ok());
        assert!(Algorithm::A256CbcPad.check_ciphertext("", &[], KeySpec::Aes256).is_err());
        assert!(Algorithm::Rsa15.check_plaintext("plaintext", &[0; 245], KeySpec::Rsa2048).is_ok());
        assert!(Algorithm::Rsa15.check_plaintext("plaintext", &[0; 246], KeySpec::Rsa2048).is_err());
        assert!(Algorithm::Rsa15.check_plaintext("key", &[], KeySpec::Rsa2048).is_err());
        assert!(Algorithm::A128Gcm.check_iv_and_tag(&[], &[0; 16]).is_err());
        assert!(Algorithm::A128Cbc.check_iv_and_tag(&[0; 16], &[]).is_ok());
        assert!(Algorithm::A128Gcm.check_chosen_iv(&[0; 12]).is_err());
        assert!(Algorithm::A128Cbc.check_chosen_iv(&[]).is_err());
        assert!(Algorithm::A128CbcPad.check_chosen_iv(&[0; 16]).is_ok());
        assert!(Algorithm::RsaOaep.check_additional_data(b"x").is_err());
        assert!(Algorithm::A256Cbc.check_additional_data(b"x").is_err());
    }

    #[test]
    fn long_inputs_leave_the_short_lane() {
        let lane = |algorithm: Algorithm, spec, bytes| algorithm.lane(spec, bytes);
        assert_eq!(lane(Algorithm::Hs256, KeySpec::Hmac256, 32), Lane::Short);
        assert_eq!(lane(Algorithm::Hs256, KeySpec::Hmac256, MESSAGE_BYTES_MAX), Lane::Medium);
        assert_eq!(lane(Algorithm::A256Cbc, KeySpec::Aes256, PLAINTEXT_BYTES_MAX), Lane::Medium);
        assert_eq!(lane(Algorithm::A256Kwp, KeySpec::Aes256, 32), Lane::Short);
        assert_eq!(lane(Algorithm::A256Kwp, KeySpec::Aes256, WRAP_BYTES_MAX), Lane::Medium);
        assert_eq!(lane(Algorithm::EdDsa, KeySpec::Ed25519, 1), Lane::Medium);
        assert_eq!(lane(Algorithm::Rsa15, KeySpec::Rsa4096, 1), Lane::Long);
    }

    #[test]
    fn an_hmac_key_takes_the_hashes_that_are_no_longer_than_it() {
        let names = |spec: KeySpec| spec.algorithms().map(Algorithm::name).collect::<Vec<_>>();
        assert_eq!(names(KeySpec::Hmac256), ["HS256"]);
        assert_eq!(names(KeySpec::Hmac384), ["HS256", "HS384"]);
        assert_eq!(names(KeySpec::Hmac512), ["HS256", "HS384", "HS512"]);
    }

    #[test]
    fn data_keys_have_their_lengths_and_algorithms() {
        for algorithm in Algorithm::ALL {
            // AES-CBC does not say whether it was the right key that opened it.
            let wraps = !algorithm.signs() && !matches!(algorithm.scheme(), Scheme::AesCbc | Scheme::AesCbcPad);
            assert_eq!(algorithm.data_key_operation().is_some(), wraps, "{}", algorithm.name());
            let Some(operation) = algorithm.data_key_operation() else { continue };
            assert!(algorithm.ops().contains(operation), "{}", algorithm.name());
            for spec in KeySpec::ALL.into_iter().filter(|spec| algorithm.takes(*spec)) {
                for bytes in DATA_KEY_BYTES {
                    assert!(algorithm.check_data_key(bytes, spec).is_ok(), "{} {bytes}", algorithm.name());
                }
                for bytes in [0, 1, 15, 17, 48, 65, 4096] {
                    assert!(algorithm.check_data_key(bytes, spec).is_err(), "{} {bytes}", algorithm.name());
                }
            }
        }
    }
}
