//! A key in one piece, to be kept elsewhere: its row, all its versions with their wrapped blobs as they are in the store,
//! their counters and attributes. No key is in the clear in it, and nobody without the HSM makes one.
//!
//! ```text
//! backup  = as in `sealed_backup`
//! body    = canonical form (strongroom.key-backup.v1), fields below
//! version = length u32 | canonical form (strongroom.key-backup-version.v1)
//! ```
//!
//! Canonical forms are those of [`strongroom_hsm::statement`], read as strictly: what is not exactly what writing gives is
//! refused. All integers are big-endian. Rows have other tags, so a backup cannot be taken for one, nor one for a backup.

use strongroom_hsm::{
    KeyStatement,
    statement::{Canonical, number_of, signed, text},
};

use super::{
    names::{KeyName, VaultName, VersionId},
    rotation_policy::RotationPolicy,
    rows::{KeyObjectRow, KeyRotation, State, VersionRow},
    sealed_backup::{Format, NotABackup, Opened, Origin, Unsealed, chain, fields, links},
    tags::Tags,
    time::Timestamp,
};

const FORMAT: Format =
    Format { noun: "key", magic: b"strongroom key backup\n", number: 1, seal_tag: "strongroom.key-backup-seal.v1" };
const BODY_TAG: &str = "strongroom.key-backup.v1";
const VERSION_TAG: &str = "strongroom.key-backup-version.v1";

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

/// A backup as it was read: nothing of it is believed before its seal was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadBackup {
    /// What it says.
    pub backup: KeyBackup,
    /// What can be told of where it comes from.
    pub origin: Origin,
}

impl KeyBackup {
    /// Its bytes, but for the seal.
    ///
    /// # Errors
    /// [`NotABackup::TooLong`].
    pub fn encode(&self) -> Result<Unsealed, NotABackup> {
        FORMAT.write(&self.body())
    }

    fn body(&self) -> Vec<u8> {
        let key = &self.key;
        let rotation = key.rotation.as_ref();
        let versions = chain(self.versions.iter().map(KeptVersion::encode));
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
    pub fn read(bytes: &[u8]) -> Result<ReadBackup, NotABackup> {
        let Opened { body, sealed, seal, digest } = FORMAT.read(bytes)?;
        let backup = Self::of_body(body)?;
        let origin = Origin { instance: backup.instance, root: backup.root, sealed, seal, digest };
        Ok(ReadBackup { backup, origin })
    }

    fn of_body(body: &[u8]) -> Result<Self, NotABackup> {
        let parts = Parts::of(body)?;
        let backup = parts.backup()?;
        let whole = backup.versions.iter().any(|version| version.row.version == backup.key.current);
        let ordered = backup.versions.is_sorted_by(|newer, older| newer.row.ordinal > older.row.ordinal);
        // What encodes differently was not canonical.
        if whole && ordered && backup.body() == body { Ok(backup) } else { Err(NotABackup::Damaged) }
    }
}

/// The fields of a body.
struct Parts<'a> {
    fixed: [&'a [u8]; 15],
}

impl<'a> Parts<'a> {
    fn of(body: &'a [u8]) -> Result<Self, NotABackup> {
        Ok(Self { fixed: fields(body, BODY_TAG)? })
    }

    fn time(&self, place: usize) -> Result<Timestamp, NotABackup> {
        Ok(Timestamp(signed(self.fixed[place])?))
    }

    fn optional_time(&self, place: usize) -> Result<Option<Timestamp>, NotABackup> {
        if self.fixed[place].is_empty() { Ok(None) } else { self.time(place).map(Some) }
    }

    fn rotation(&self) -> Result<Option<KeyRotation>, NotABackup> {
        match (text(self.fixed[9])?, self.optional_time(10)?, self.optional_time(11)?) {
            ("", None, None) => Ok(None),
            (policy, Some(created), Some(updated)) => {
                let policy = RotationPolicy::from_canonical(policy).ok_or(NotABackup::Damaged)?;
                Ok(Some(KeyRotation { policy, created, updated }))
            }
            _ => Err(NotABackup::Damaged),
        }
    }

    fn backup(&self) -> Result<KeyBackup, NotABackup> {
        let vault: VaultName = text(self.fixed[1])?.parse().map_err(|_| NotABackup::Damaged)?;
        let name: KeyName = text(self.fixed[2])?.parse().map_err(|_| NotABackup::Damaged)?;
        let current = VersionId::from_bytes(self.fixed[5].try_into().map_err(|_| NotABackup::Damaged)?);
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
        let versions = links(self.fixed[13])?.into_iter().map(|form| KeptVersion::decode(form, &key));
        let versions = versions.collect::<Result<_, _>>()?;
        let instance = self.fixed[0].try_into().map_err(|_| NotABackup::Damaged)?;
        let root = self.fixed[14].try_into().map_err(|_| NotABackup::Damaged)?;
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
    fn decode(form: &[u8], key: &KeyObjectRow) -> Result<Self, NotABackup> {
        let [statement, ordinal, tags, updated, encryptions, uses, since, purge_at] = fields(form, VERSION_TAG)?;
        let statement = KeyStatement::decode(statement)?;
        if statement.vault != key.vault.as_str() || statement.key != key.name.as_str() {
            return Err(NotABackup::Damaged);
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
            tags: Tags::from_json(text(tags)?).ok_or(NotABackup::Damaged)?,
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
