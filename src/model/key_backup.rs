//! A key in one piece, to be kept elsewhere: its row, all its versions with their wrapped blobs as they are in the store,
//! their counters and attributes. No key is in the clear in it, and nobody without the HSM makes one.
//!
//! ```text
//! backup  = "strongroom key backup\n" | format u16 | body | seal, 32
//! body    = canonical form (strongroom.key-backup.v1), fields below
//! version = length u32 | canonical form (strongroom.key-backup-version.v1)
//! seal    = HMAC-SHA256 in the HSM, with the sealing key, over
//!           canonical form (strongroom.key-backup-seal.v1) of: 1 format, 2 SHA-256 of the body
//! ```
//!
//! Canonical forms are those of [`strongroom_hsm::statement`], read as strictly: what is not exactly what writing gives is
//! refused. All integers are big-endian. Rows have other tags, so a backup cannot be taken for one, nor one for a backup.

use sha2::{Digest as _, Sha256};
use strongroom_hsm::{
    KeyStatement, Seal,
    statement::{Canonical, Fields, NotCanonical, number_of, signed, text},
};

use super::{
    names::{KeyName, VaultName, VersionId},
    rotation_policy::RotationPolicy,
    rows::{KeyObjectRow, KeyRotation, State, VersionRow},
    tags::Tags,
    time::Timestamp,
};

/// The most versions of one backup (Azure Key Vault's bound).
pub const VERSIONS_MAX: usize = 500;
/// The longest backup, in bytes: 500 versions of RSA-4096 with some tags, and short enough for one message.
pub const BYTES_MAX: usize = 2 * 1024 * 1024 - 64 * 1024;

const MAGIC: &[u8] = b"strongroom key backup\n";
/// The format that this release writes and reads.
const FORMAT: u16 = 1;
const BODY_TAG: &str = "strongroom.key-backup.v1";
const VERSION_TAG: &str = "strongroom.key-backup-version.v1";
const SEAL_TAG: &str = "strongroom.key-backup-seal.v1";
const SEAL_BYTES: usize = 32;

/// A key with all its versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyBackup {
    /// Of which instance.
    pub instance: [u8; 16],
    /// On which root that stood ([`InstanceRow::root_name`](super::InstanceRow::root_name)): what is under it goes with it.
    pub root: [u8; 16],
    /// When its vault was made: another of the same name is another.
    pub vault_created: Timestamp,
    /// When the backup was made.
    pub made: Timestamp,
    /// The key, which was in use. What is decided anew when it comes back is not kept: its id, intent, and when it is due.
    pub key: KeyObjectRow,
    /// Every version, newest first.
    pub versions: Vec<KeptVersion>,
}

/// A version with its counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptVersion {
    /// The version, without its intent.
    pub row: VersionRow,
    /// AES-GCM encryptions that had been reserved.
    pub encryptions: u64,
    /// Uses that had been reserved out of a budget.
    pub uses: u64,
}

/// Why bytes are no backup of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAKeyBackup {
    /// Something else.
    #[error("it is no backup of a key, as `key backup` writes them")]
    Other,
    /// Made by a newer release.
    #[error("it has format {0}; this release reads format {FORMAT}: use a newer one")]
    Newer(u16),
    /// Too long.
    #[error("it is longer than {BYTES_MAX} bytes")]
    TooLong,
    /// Cut, or altered.
    #[error("it is damaged: cut, or altered; take another copy")]
    Damaged,
}

impl From<NotCanonical> for NotAKeyBackup {
    fn from(_: NotCanonical) -> Self {
        Self::Damaged
    }
}

/// A backup as it was read: nothing of it is believed before its seal was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadBackup {
    /// What it says.
    pub backup: KeyBackup,
    /// What its seal is over.
    pub sealed: Vec<u8>,
    /// The seal.
    pub seal: Seal,
    /// SHA-256 of all of it, as records name it.
    pub digest: [u8; 32],
}

/// A backup that is not sealed yet.
#[derive(Debug)]
pub struct Unsealed {
    bytes: Vec<u8>,
}

impl Unsealed {
    /// What is to be sealed.
    #[must_use]
    pub fn form(&self) -> Vec<u8> {
        sealed_form(&self.bytes[MAGIC.len() + 2..])
    }

    /// The whole backup, and its SHA-256.
    #[must_use]
    pub fn with(mut self, seal: &Seal) -> (Vec<u8>, [u8; 32]) {
        self.bytes.extend_from_slice(seal);
        let digest = Sha256::digest(&self.bytes).into();
        (self.bytes, digest)
    }
}

fn sealed_form(body: &[u8]) -> Vec<u8> {
    Canonical::new(SEAL_TAG).number(1, u64::from(FORMAT)).field(2, &Sha256::digest(body)).finish()
}

impl KeyBackup {
    /// Its bytes, but for the seal.
    ///
    /// # Errors
    /// [`NotAKeyBackup::TooLong`].
    pub fn encode(&self) -> Result<Unsealed, NotAKeyBackup> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&FORMAT.to_be_bytes());
        bytes.extend_from_slice(&self.body());
        if bytes.len() + SEAL_BYTES > BYTES_MAX {
            return Err(NotAKeyBackup::TooLong);
        }
        Ok(Unsealed { bytes })
    }

    fn body(&self) -> Vec<u8> {
        let key = &self.key;
        let rotation = key.rotation.as_ref();
        let mut versions = Vec::new();
        for version in &self.versions {
            let form = version.encode();
            let length = u32::try_from(form.len()).expect("a version is far shorter than 4 GiB");
            versions.extend_from_slice(&length.to_be_bytes());
            versions.extend_from_slice(&form);
        }
        Canonical::new(BODY_TAG)
            .field(1, &self.instance)
            .field(2, key.vault.as_str().as_bytes())
            .field(3, key.name.as_str().as_bytes())
            .optional_number(4, Some(self.vault_created.0))
            .optional_number(5, Some(self.made.0))
            .field(6, &key.current.bytes())
            .number(7, key.revision)
            .optional_number(8, Some(key.created.0))
            .optional_number(9, Some(key.updated.0))
            .field(10, rotation.map(|rotation| rotation.policy.canonical()).unwrap_or_default().as_bytes())
            .optional_number(11, rotation.map(|rotation| rotation.created.0))
            .optional_number(12, rotation.map(|rotation| rotation.updated.0))
            .optional_number(13, key.noted.map(|noted| noted.0))
            .field(14, &versions)
            .field(15, &self.root)
            .finish()
    }

    /// Reads a backup.
    ///
    /// # Errors
    /// What is wrong with it, if it is anything that [`Self::encode`] and a seal would not have given.
    pub fn read(bytes: &[u8]) -> Result<ReadBackup, NotAKeyBackup> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(NotAKeyBackup::Other)?;
        let (format, rest) = rest.split_first_chunk::<2>().ok_or(NotAKeyBackup::Damaged)?;
        match u16::from_be_bytes(*format) {
            FORMAT => {}
            format if format > FORMAT => return Err(NotAKeyBackup::Newer(format)),
            _ => return Err(NotAKeyBackup::Damaged),
        }
        if bytes.len() > BYTES_MAX {
            return Err(NotAKeyBackup::TooLong);
        }
        let (body, seal) = rest.split_last_chunk::<SEAL_BYTES>().ok_or(NotAKeyBackup::Damaged)?;
        let backup = Self::of_body(body)?;
        Ok(ReadBackup { backup, sealed: sealed_form(body), seal: *seal, digest: Sha256::digest(bytes).into() })
    }

    fn of_body(body: &[u8]) -> Result<Self, NotAKeyBackup> {
        let parts = Parts::of(body)?;
        let backup = parts.backup()?;
        let whole = backup.versions.iter().any(|version| version.row.version == backup.key.current);
        let ordered = backup.versions.is_sorted_by(|newer, older| newer.row.ordinal > older.row.ordinal);
        // What encodes differently was not canonical.
        if whole && ordered && backup.body() == body { Ok(backup) } else { Err(NotAKeyBackup::Damaged) }
    }
}

/// The fields of a body.
#[derive(Default)]
struct Parts<'a> {
    fixed: [&'a [u8]; 15],
}

impl<'a> Parts<'a> {
    fn of(body: &'a [u8]) -> Result<Self, NotAKeyBackup> {
        let mut fields = Fields::new(body, BODY_TAG)?;
        let mut parts = Self::default();
        while let Some((number, value)) = fields.take()? {
            let place = usize::from(number).checked_sub(1).and_then(|place| parts.fixed.get_mut(place));
            *place.ok_or(NotAKeyBackup::Damaged)? = value;
        }
        Ok(parts)
    }

    fn time(&self, place: usize) -> Result<Timestamp, NotAKeyBackup> {
        Ok(Timestamp(signed(self.fixed[place])?))
    }

    fn optional_time(&self, place: usize) -> Result<Option<Timestamp>, NotAKeyBackup> {
        if self.fixed[place].is_empty() { Ok(None) } else { self.time(place).map(Some) }
    }

    fn rotation(&self) -> Result<Option<KeyRotation>, NotAKeyBackup> {
        match (text(self.fixed[9])?, self.optional_time(10)?, self.optional_time(11)?) {
            ("", None, None) => Ok(None),
            (policy, Some(created), Some(updated)) => {
                let policy = RotationPolicy::from_canonical(policy).ok_or(NotAKeyBackup::Damaged)?;
                Ok(Some(KeyRotation { policy, created, updated }))
            }
            _ => Err(NotAKeyBackup::Damaged),
        }
    }

    fn backup(&self) -> Result<KeyBackup, NotAKeyBackup> {
        let vault: VaultName = text(self.fixed[1])?.parse().map_err(|_| NotAKeyBackup::Damaged)?;
        let name: KeyName = text(self.fixed[2])?.parse().map_err(|_| NotAKeyBackup::Damaged)?;
        let current = VersionId::from_bytes(self.fixed[5].try_into().map_err(|_| NotAKeyBackup::Damaged)?);
        let key = KeyObjectRow {
            id: [0; 16],
            vault,
            name,
            current,
            state: State::Active,
            rotation: self.rotation()?,
            noted: self.optional_time(12)?,
            due: None,
            created: self.time(7)?,
            updated: self.time(8)?,
            intent: 0,
            revision: number_of(self.fixed[6])?,
        };
        let mut versions = Vec::new();
        let mut rest = self.fixed[13];
        while !rest.is_empty() {
            let (length, tail) = rest.split_first_chunk::<4>().ok_or(NotAKeyBackup::Damaged)?;
            let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| NotAKeyBackup::Damaged)?;
            let (form, tail) = tail.split_at_checked(length).ok_or(NotAKeyBackup::Damaged)?;
            if versions.len() == VERSIONS_MAX {
                return Err(NotAKeyBackup::Damaged);
            }
            versions.push(KeptVersion::decode(form, &key)?);
            rest = tail;
        }
        let instance = self.fixed[0].try_into().map_err(|_| NotAKeyBackup::Damaged)?;
        let root = self.fixed[14].try_into().map_err(|_| NotAKeyBackup::Damaged)?;
        Ok(KeyBackup { instance, root, vault_created: self.time(3)?, made: self.time(4)?, key, versions })
    }
}

impl KeptVersion {
    fn encode(&self) -> Vec<u8> {
        let (since, purge_at) = match self.row.state {
            State::Active => (None, None),
            State::Deleted { since, purge_at } => (Some(since.0), Some(purge_at.0)),
        };
        // What `rest` is the digest of, the fields behind it say.
        let statement = KeyStatement { rest: Vec::new(), ..self.row.statement() };
        Canonical::new(VERSION_TAG)
            .field(1, &statement.encode())
            .number(2, self.row.ordinal)
            .field(3, self.row.tags.to_json().as_bytes())
            .optional_number(4, Some(self.row.updated.0))
            .number(5, self.encryptions)
            .number(6, self.uses)
            .optional_number(7, since)
            .optional_number(8, purge_at)
            .finish()
    }

    /// Reads a version of that key. Whoever calls encodes it again and compares.
    fn decode(form: &[u8], key: &KeyObjectRow) -> Result<Self, NotAKeyBackup> {
        let mut fields = Fields::new(form, VERSION_TAG)?;
        let mut fixed: [&[u8]; 8] = Default::default();
        while let Some((number, value)) = fields.take()? {
            let place = usize::from(number).checked_sub(1).and_then(|place| fixed.get_mut(place));
            *place.ok_or(NotAKeyBackup::Damaged)? = value;
        }
        let [statement, ordinal, tags, updated, encryptions, uses, since, purge_at] = fixed;
        let statement = KeyStatement::decode(statement)?;
        if statement.vault != key.vault.as_str() || statement.key != key.name.as_str() {
            return Err(NotAKeyBackup::Damaged);
        }
        let count = |value: &[u8]| if value.is_empty() { Ok(0) } else { number_of(value) };
        let state = match (since, purge_at) {
            ([], []) => State::Active,
            (since, purge_at) => {
                State::Deleted { since: Timestamp(signed(since)?), purge_at: Timestamp(signed(purge_at)?) }
            }
        };
        let row = VersionRow {
            vault: key.vault.clone(),
            key: key.name.clone(),
            version: VersionId::from_bytes(statement.version),
            ordinal: number_of(ordinal)?,
            spec: statement.spec,
            ops: statement.ops,
            enabled: statement.enabled,
            not_before: statement.not_before.map(Timestamp),
            expires: statement.expires.map(Timestamp),
            tags: Tags::from_json(text(tags)?).ok_or(NotAKeyBackup::Damaged)?,
            residency: statement.residency,
            blob: statement.blob,
            kek: statement.kek.map(VersionId::from_bytes),
            public: statement.public,
            check_value: statement.check_value,
            state,
            intent: 0,
            created: Timestamp(statement.created),
            updated: Timestamp(signed(updated)?),
            revision: statement.revision,
        };
        Ok(Self { row, encryptions: count(encryptions)?, uses: count(uses)? })
    }
}

#[cfg(test)]
mod tests;
