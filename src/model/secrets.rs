//! Secrets as they are stored: a name with a data key of its own, and versions, each with a value under that key.
//!
//! A secret's data key (AES-256) is made in the HSM and wrapped as a vault's keys are, under the root or the vault's own
//! KEK. So a rotation of either carries secrets over as it does keys, no value is ever decrypted for it, and what is purged with
//! its vault's KEK is gone from backups too (ADR 0016).
//!
//! A value's ciphertext is in no seal: it is long, and its tag is sealed. Which value it is, the additional data says.

use sha2::{Digest as _, Sha256};
use strongroom_hsm::{KeyOps, KeySpec, KeyStatement, Residency, statement::Canonical};

use super::{
    names::{SecretName, VaultName, VersionId},
    rows::{Row, RowId, RowKind, State, state_fields},
    tags::Tags,
    time::Timestamp,
};

/// The longest value, in bytes. Azure's is 25 KB.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;
/// The longest content type, in characters, as Azure's.
pub const CONTENT_TYPE_CHARS_MAX: usize = 255;

/// A secret: a name, its newest version, its state, and the key that its values are under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRow {
    /// Decided by vault and name (`service::catalog::secret_id`), so that a missing row is found by its name.
    pub id: [u8; 16],
    /// The vault it is in.
    pub vault: VaultName,
    /// Its name, as first spelled.
    pub name: SecretName,
    /// The newest version.
    pub current: VersionId,
    /// Which data key: no other secret ever has it.
    pub data_key: VersionId,
    /// The data key under the root or under `kek`, AES-KWP.
    pub blob: Vec<u8>,
    /// What that is under, a root or the vault's own key-encryption key; none: the root of `init`.
    pub kek: Option<VersionId>,
    /// What tells the data key from others ([`KeyStatement::check_value`]).
    pub check_value: Vec<u8>,
    /// In use or deleted.
    pub state: State,
    /// Up to which instant notices about the newest version were given.
    pub noted: Option<Timestamp>,
    /// When somebody is to look whether its expiry has to be told. Not sealed: who looks reckons anew.
    pub due: Option<Timestamp>,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed (a new version, a deletion).
    pub updated: Timestamp,
    /// The audit log's index of the intent of the newest change: settles an open intent after a crash.
    pub intent: u64,
    /// Grows with every change.
    pub revision: u64,
}

impl SecretRow {
    /// What kind of key its values are under.
    pub const SPEC: KeySpec = KeySpec::Aes256;

    /// The statement that is sealed and that a worker reads. Its name is none that a key could have.
    #[must_use]
    pub fn statement(&self) -> KeyStatement {
        let rest = Canonical::new("strongroom.secret-rest.v1")
            .field(1, &self.id)
            .field(2, &self.current.bytes())
            .number(3, self.intent)
            .optional_number(4, Some(self.updated.0))
            .optional_number(5, self.noted.map(|noted| noted.0));
        let rest = state_fields(rest, self.state).finish();
        KeyStatement {
            vault: self.vault.as_str().to_owned(),
            key: format!("secrets/{}", self.name),
            version: self.data_key.bytes(),
            spec: Self::SPEC,
            ops: KeyOps::ENCRYPT.union(KeyOps::DECRYPT),
            enabled: true,
            not_before: None,
            expires: None,
            residency: Residency::Wrapped,
            blob: self.blob.clone(),
            public: Vec::new(),
            check_value: self.check_value.clone(),
            created: self.created.0,
            revision: self.revision,
            rest: Sha256::digest(rest).to_vec(),
            kek: self.kek.map(VersionId::bytes),
        }
    }
}

impl Row for SecretRow {
    fn row_id(&self) -> RowId {
        RowId { kind: RowKind::Secret, id: self.id }
    }

    fn revision(&self) -> u64 {
        self.revision
    }

    fn canonical(&self) -> Vec<u8> {
        self.statement().encode()
    }
}

/// One version of a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretVersionRow {
    /// The vault it is in.
    pub vault: VaultName,
    /// The secret it belongs to, as first spelled.
    pub secret: SecretName,
    /// Which version.
    pub version: VersionId,
    /// Its place among the secret's versions: 1 for the first.
    pub ordinal: u64,
    /// What the value is, for who reads it: at most [`CONTENT_TYPE_CHARS_MAX`] characters, empty when it was not said.
    pub content_type: String,
    /// Of a disabled version nobody gets the value.
    pub enabled: bool,
    /// From when on it is meant to be used.
    pub not_before: Option<Timestamp>,
    /// Until when.
    pub expires: Option<Timestamp>,
    /// Its tags.
    pub tags: Tags,
    /// The IV of the value, 12 bytes.
    pub iv: Vec<u8>,
    /// The tag of the value, 16 bytes.
    pub tag: Vec<u8>,
    /// The value under the secret's data key, A256GCM. Not sealed; empty where it was not asked for.
    pub ciphertext: Vec<u8>,
    /// The audit log's index of the intent of the newest change: settles an open intent after a crash.
    pub intent: u64,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed.
    pub updated: Timestamp,
    /// Grows with every change.
    pub revision: u64,
}

impl std::fmt::Debug for SecretVersionRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = format!("vaults/{}/secrets/{}/versions/{}", self.vault, self.secret, self.version);
        f.debug_struct("SecretVersionRow")
            .field("name", &name)
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

impl SecretVersionRow {
    /// What the value is bound to: table, vault, name and version (D1). No other value opens in its place.
    #[must_use]
    pub fn additional_data(&self) -> Vec<u8> {
        Canonical::new("strongroom.secret-value.v1")
            .field(1, self.vault.as_str().as_bytes())
            .field(2, self.secret.as_str().as_bytes())
            .field(3, &self.version.bytes())
            .finish()
    }
}

impl Row for SecretVersionRow {
    fn row_id(&self) -> RowId {
        RowId { kind: RowKind::SecretVersion, id: self.version.bytes() }
    }

    fn revision(&self) -> u64 {
        self.revision
    }

    fn canonical(&self) -> Vec<u8> {
        Canonical::new("strongroom.secret-version.v1")
            .field(1, &self.version.bytes())
            .field(2, self.vault.as_str().as_bytes())
            .field(3, self.secret.as_str().as_bytes())
            .number(4, self.ordinal)
            .field(5, self.content_type.as_bytes())
            .number(6, u64::from(self.enabled))
            .optional_number(7, self.not_before.map(|time| time.0))
            .optional_number(8, self.expires.map(|time| time.0))
            .field(9, self.tags.to_json().as_bytes())
            .field(10, &self.iv)
            .field(11, &self.tag)
            .number(12, self.intent)
            .optional_number(13, Some(self.created.0))
            .optional_number(14, Some(self.updated.0))
            .number(15, self.revision)
            .finish()
    }
}
