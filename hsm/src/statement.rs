//! What is sealed: a key's statement in its canonical form, and the seal under it.
//!
//! The canonical form is a schema tag and fields in ascending order of their numbers:
//!
//! ```text
//! tag_len u16 | tag | ( field u16 | length u32 | bytes )*        all integers big-endian
//! ```
//!
//! A field that has its default is left out, so a field added later does not change the form of older
//! rows. The seal is HMAC-SHA256 over it, made in the HSM with the sealing key (ADR 0002). Decoding
//! accepts exactly what encoding gives: unknown, repeated or disordered fields are refused.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::algorithms::{KeyOps, KeySpec, KeyType};

/// HMAC-SHA256 over a canonical form.
pub type Seal = [u8; 32];

/// A vault's own key-encryption key, by its CKA_ID.
pub type KekId = [u8; 16];

/// Where a key lives (ADR 0001).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Residency {
    /// Wrapped under the root, in the store; a session object while in use.
    Wrapped,
    /// A permanent object on the token.
    Token,
    /// Only the public half of a key is known here: in the store, and a session object while in use.
    Public,
}

impl Residency {
    /// Every residency.
    pub const ALL: [Self; 3] = [Self::Wrapped, Self::Token, Self::Public];

    /// The name, as stored and shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wrapped => "wrapped",
            Self::Token => "token",
            Self::Public => "public",
        }
    }

    /// The residency of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|residency| residency.name() == name)
    }

    /// Whether a key of that kind may be for those operations when it lives here: some of those that it can, or `import`
    /// alone. A key that brings others in is wrapped: on the token it would be made for all its operations.
    #[must_use]
    pub fn allows(self, spec: KeySpec, ops: KeyOps) -> bool {
        let brings_in = ops == KeyOps::IMPORT && spec.key_type() == KeyType::Rsa && self == Self::Wrapped;
        brings_in || self.possible_ops(spec).contains(ops)
    }

    /// All that a key of that kind can be used for when it lives here.
    #[must_use]
    pub const fn possible_ops(self, spec: KeySpec) -> KeyOps {
        match self {
            Self::Wrapped | Self::Token => spec.possible_ops(),
            Self::Public if spec.key_type().is_secret() => KeyOps::NONE,
            Self::Public => spec.possible_ops().intersection(KeyOps::PUBLIC_HALF),
        }
    }
}

/// A statement that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the statement is not in its canonical form")]
pub struct NotCanonical;

/// Writes a canonical form.
pub struct Canonical {
    bytes: Vec<u8>,
    last: u16,
}

impl Canonical {
    /// Begins the form with its schema tag.
    #[must_use]
    pub fn new(tag: &str) -> Self {
        let mut bytes = Vec::with_capacity(512);
        let len = u16::try_from(tag.len()).expect("tags are short constants");
        bytes.extend_from_slice(&len.to_be_bytes());
        bytes.extend_from_slice(tag.as_bytes());
        Self { bytes, last: 0 }
    }

    /// Adds a field; an empty one is left out. Fields are added in ascending order.
    #[must_use]
    pub fn field(mut self, number: u16, value: &[u8]) -> Self {
        assert!(number > self.last, "fields are added in ascending order");
        self.last = number;
        if !value.is_empty() {
            let len = u32::try_from(value.len()).expect("fields are shorter than 4 GiB");
            self.bytes.extend_from_slice(&number.to_be_bytes());
            self.bytes.extend_from_slice(&len.to_be_bytes());
            self.bytes.extend_from_slice(value);
        }
        self
    }

    /// Adds a number, unless it is zero.
    #[must_use]
    pub fn number(self, number: u16, value: u64) -> Self {
        let bytes = value.to_be_bytes();
        self.field(number, if value == 0 { &[] } else { &bytes })
    }

    /// Adds a number that may be absent; zero is not the same as absent.
    #[must_use]
    pub fn optional_number(self, number: u16, value: Option<i64>) -> Self {
        match value {
            Some(value) => self.field(number, &value.to_be_bytes()),
            None => self.field(number, &[]),
        }
    }

    /// The finished form.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// The fields of a canonical form, in order, after its tag.
pub struct Fields<'a> {
    rest: &'a [u8],
    last: u16,
}

impl<'a> Fields<'a> {
    /// Of a form with that schema tag.
    ///
    /// # Errors
    /// When it has another.
    pub fn new(bytes: &'a [u8], tag: &str) -> Result<Self, NotCanonical> {
        let (len, rest) = bytes.split_first_chunk::<2>().ok_or(NotCanonical)?;
        let (found, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len))).ok_or(NotCanonical)?;
        if found != tag.as_bytes() {
            return Err(NotCanonical);
        }
        Ok(Self { rest, last: 0 })
    }

    /// The next field's number and value; none after the last.
    ///
    /// # Errors
    /// When it is cut, empty, or does not come after the one before.
    pub fn take(&mut self) -> Result<Option<(u16, &'a [u8])>, NotCanonical> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (number, rest) = self.rest.split_first_chunk::<2>().ok_or(NotCanonical)?;
        let (len, rest) = rest.split_first_chunk::<4>().ok_or(NotCanonical)?;
        let len = usize::try_from(u32::from_be_bytes(*len)).map_err(|_| NotCanonical)?;
        let (value, rest) = rest.split_at_checked(len).ok_or(NotCanonical)?;
        let number = u16::from_be_bytes(*number);
        if number <= self.last || value.is_empty() {
            return Err(NotCanonical);
        }
        self.last = number;
        self.rest = rest;
        Ok(Some((number, value)))
    }
}

/// The length of an imported key's check value, by which it is told from a generated one's.
pub const IMPORTED_CHECK_BYTES: usize = 32;

/// The schema tag of [`KeyStatement`].
pub const KEY_TAG: &str = "strongroom.key-version.v1";

/// All that decides what one version of a key is and may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStatement {
    /// The vault's name.
    pub vault: String,
    /// The key's name as first written.
    pub key: String,
    /// The version: 16 bytes, 32 hexadecimal digits when shown.
    pub version: [u8; 16],
    /// What kind of key.
    pub spec: KeySpec,
    /// What it may be used for.
    pub ops: KeyOps,
    /// A disabled version does nothing.
    pub enabled: bool,
    /// Seconds since 1970: earlier it neither encrypts, signs nor wraps.
    pub not_before: Option<i64>,
    /// Seconds since 1970: from then on it neither encrypts, signs nor wraps.
    pub expires: Option<i64>,
    /// Where it lives. The PKCS#11 object of a `Token` key has `version` as its CKA_ID.
    pub residency: Residency,
    /// `Wrapped`: the key under the root or under `kek`, AES-KWP (RFC 5649). Else empty.
    pub blob: Vec<u8>,
    /// SubjectPublicKeyInfo (DER) of RSA, EC and OKP keys; empty for oct.
    pub public: Vec<u8>,
    /// What tells one oct key from another; empty for others that were generated. Three bytes of a generated one. AES:
    /// CKA_CHECK_VALUE, the first of a block of zeros under the key (PKCS#11 3.1 section 4.10.2). HMAC: the first
    /// of its HMAC-SHA256 over `strongroom check value`; PKCS#11's own for such keys is a plain SHA-1 of the key,
    /// and modules lack it. An imported key of any kind has 32 bytes that only the HSM can make.
    pub check_value: Vec<u8>,
    /// Seconds since 1970.
    pub created: i64,
    /// Grows with every change of the row.
    pub revision: u64,
    /// Digest of what is sealed with the row but does not concern the HSM (tags, state); may be empty.
    pub rest: Vec<u8>,
    /// `Wrapped`: what it is under, a root or the key-encryption key of its vault, by the CKA_ID of that on the token. None: the
    /// root of `init`.
    pub kek: Option<KekId>,
}

impl KeyStatement {
    /// Whether it is of a key that was brought in from outside with its private half.
    #[must_use]
    pub fn is_imported(&self) -> bool {
        self.check_value.len() == IMPORTED_CHECK_BYTES
    }

    /// Whether it is of a secret key that was brought in from outside.
    #[must_use]
    pub fn is_imported_secret(&self) -> bool {
        self.spec.key_type().is_secret() && self.is_imported()
    }

    /// The canonical form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        Canonical::new(KEY_TAG)
            .field(1, self.vault.as_bytes())
            .field(2, self.key.as_bytes())
            .field(3, &self.version)
            .field(4, self.spec.name().as_bytes())
            .number(5, u64::from(self.ops.bits()))
            .number(6, u64::from(self.enabled))
            .optional_number(7, self.not_before)
            .optional_number(8, self.expires)
            .field(9, self.residency.name().as_bytes())
            .field(10, &self.blob)
            .field(11, &self.public)
            .field(12, &self.check_value)
            .optional_number(13, Some(self.created))
            .number(14, self.revision)
            .field(15, &self.rest)
            .field(16, self.kek.as_ref().map_or(&[], |kek| kek.as_slice()))
            .finish()
    }

    /// Reads a canonical form.
    ///
    /// # Errors
    /// When it is anything that [`Self::encode`] would not have written.
    pub fn decode(bytes: &[u8]) -> Result<Self, NotCanonical> {
        let mut fields = Fields::new(bytes, KEY_TAG)?;
        let mut statement = Self {
            vault: String::new(),
            key: String::new(),
            version: [0; 16],
            spec: KeySpec::Aes256,
            ops: KeyOps::NONE,
            enabled: false,
            not_before: None,
            expires: None,
            residency: Residency::Wrapped,
            blob: Vec::new(),
            public: Vec::new(),
            check_value: Vec::new(),
            created: 0,
            revision: 0,
            rest: Vec::new(),
            kek: None,
        };
        while let Some((number, value)) = fields.take()? {
            match number {
                1 => statement.vault = text(value)?.to_owned(),
                2 => statement.key = text(value)?.to_owned(),
                3 => statement.version = value.try_into().map_err(|_| NotCanonical)?,
                4 => statement.spec = KeySpec::from_name(text(value)?).ok_or(NotCanonical)?,
                5 => {
                    let bits = u16::try_from(number_of(value)?).map_err(|_| NotCanonical)?;
                    statement.ops = KeyOps::from_bits(bits).ok_or(NotCanonical)?;
                }
                6 => statement.enabled = true,
                7 => statement.not_before = Some(signed(value)?),
                8 => statement.expires = Some(signed(value)?),
                9 => statement.residency = Residency::from_name(text(value)?).ok_or(NotCanonical)?,
                10 => statement.blob = value.to_vec(),
                11 => statement.public = value.to_vec(),
                12 => statement.check_value = value.to_vec(),
                13 => statement.created = signed(value)?,
                14 => statement.revision = number_of(value)?,
                15 => statement.rest = value.to_vec(),
                16 => statement.kek = Some(value.try_into().map_err(|_| NotCanonical)?),
                _ => return Err(NotCanonical),
            }
        }
        // What encodes differently was not canonical: a missing field, a zero that should be absent.
        if statement.encode() == bytes { Ok(statement) } else { Err(NotCanonical) }
    }
}

/// A text.
///
/// # Errors
/// When the value is none.
pub fn text(value: &[u8]) -> Result<&str, NotCanonical> {
    std::str::from_utf8(value).map_err(|_| NotCanonical)
}

/// What [`Canonical::number`] wrote.
///
/// # Errors
/// When the value is none.
pub fn number_of(value: &[u8]) -> Result<u64, NotCanonical> {
    value.try_into().map(u64::from_be_bytes).map_err(|_| NotCanonical)
}

/// What [`Canonical::optional_number`] wrote.
///
/// # Errors
/// When the value is none.
pub fn signed(value: &[u8]) -> Result<i64, NotCanonical> {
    value.try_into().map(i64::from_be_bytes).map_err(|_| NotCanonical)
}

/// A key's statement with its seal: what the service keeps, and what a worker needs to load the key.
/// The seal is also the key's name in the workers' caches: a changed row has another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    /// The statement, read.
    pub statement: KeyStatement,
    /// Its canonical form.
    pub canonical: Arc<[u8]>,
    /// The seal under it.
    pub seal: Seal,
}

impl KeyRow {
    /// Joins a statement and the seal that was made for it.
    #[must_use]
    pub fn new(statement: KeyStatement, seal: Seal) -> Self {
        let canonical = statement.encode().into();
        Self { statement, canonical, seal }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn statements()(
            vault in "[a-z][a-z0-9-]{2,23}", key in "[0-9A-Za-z-]{1,127}", version in any::<[u8; 16]>(),
            spec in 0..KeySpec::ALL.len(), ops in 0u16..64, enabled in any::<bool>(),
            not_before in any::<Option<i64>>(), expires in any::<Option<i64>>(), residency in 0..Residency::ALL.len(),
            blob in prop::collection::vec(any::<u8>(), 0..64), public in prop::collection::vec(any::<u8>(), 0..64),
            check_value in prop::collection::vec(any::<u8>(), 0..4), created in any::<i64>(), revision in any::<u64>(),
            rest in prop::collection::vec(any::<u8>(), 0..33), kek in any::<Option<[u8; 16]>>(),
        ) -> KeyStatement {
            KeyStatement {
                vault, key, version, spec: KeySpec::ALL[spec], ops: KeyOps::from_bits(ops).expect("six bits"), enabled,
                not_before, expires, residency: Residency::ALL[residency],
                blob, public, check_value, created, revision, rest, kek,
            }
        }
    }

    #[test]
    fn a_public_half_does_what_needs_no_private_one() {
        for spec in KeySpec::ALL {
            let ops = Residency::Public.possible_ops(spec);
            let private = [KeyOps::SIGN, KeyOps::DECRYPT, KeyOps::UNWRAP_KEY];
            assert!(private.into_iter().all(|op| !ops.contains(op)), "{}", spec.name());
        }
        assert_eq!(Residency::Public.possible_ops(KeySpec::P256), KeyOps::VERIFY);
        assert_eq!(Residency::Public.possible_ops(KeySpec::Rsa2048), KeyOps::PUBLIC_HALF);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(statement in statements()) {
            prop_assert_eq!(KeyStatement::decode(&statement.encode()), Ok(statement));
        }

        #[test]
        fn two_statements_never_have_one_form(a in statements(), b in statements()) {
            prop_assert_eq!(a == b, a.encode() == b.encode());
        }

        #[test]
        fn anything_else_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(KeyStatement::decode(&bytes), Err(NotCanonical));
        }

        #[test]
        fn a_cut_form_is_refused(statement in statements(), cut in 1usize..40) {
            let form = statement.encode();
            prop_assert!(KeyStatement::decode(&form[..form.len() - cut.min(form.len())]) != Ok(statement));
        }
    }
}
