//! A secret in one piece, to be kept elsewhere: its row with the wrapped data key, all its versions, and their values as they
//! are in the store. No value is in the clear in it, and nobody without the HSM makes one.
//!
//! ```text
//! backup  = as in `sealed_backup`
//! body    = canonical form (strongroom.secret-backup.v1), fields below
//! version = length u32 | canonical form (strongroom.secret-backup-version.v1)
//! ```

use strongroom_hsm::{
    KeyStatement,
    statement::{Canonical, number_of, signed, text},
};

use super::{
    names::{SecretName, VaultName, VersionId},
    rows::State,
    sealed_backup::{Format, NotABackup, Opened, Origin, Unsealed, chain, fields, links},
    secrets::{SecretRow, SecretVersionRow},
    tags::Tags,
    time::Timestamp,
};

const FORMAT: Format = Format {
    noun: "secret",
    magic: b"strongroom secret backup\n",
    number: 1,
    seal_tag: "strongroom.secret-backup-seal.v1",
};
const BODY_TAG: &str = "strongroom.secret-backup.v1";
const VERSION_TAG: &str = "strongroom.secret-backup-version.v1";

/// A secret with all its versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretBackup {
    /// Of which instance.
    pub instance: [u8; 16],
    /// On which root that stood.
    pub root: [u8; 16],
    /// When its vault was made: another of the same name is another.
    pub vault_created: Timestamp,
    /// When the backup was made.
    pub made: Timestamp,
    /// The secret, which was in use. What is decided anew when it comes back is not kept: its id, intent, and when it is due.
    pub secret: SecretRow,
    /// Every version with its value, newest first, without intents.
    pub versions: Vec<SecretVersionRow>,
}

/// A backup as it was read: nothing of it is believed before its seal was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadSecretBackup {
    /// What it says.
    pub backup: SecretBackup,
    /// What can be told of where it comes from.
    pub origin: Origin,
}

impl SecretBackup {
    /// Its bytes, but for the seal.
    ///
    /// # Errors
    /// [`NotABackup::TooLong`].
    pub fn encode(&self) -> Result<Unsealed, NotABackup> {
        FORMAT.write(&self.body())
    }

    /// Reads a backup.
    ///
    /// # Errors
    /// What is wrong with it, if it is anything that [`Self::encode`] and a seal would not have given.
    pub fn read(bytes: &[u8]) -> Result<ReadSecretBackup, NotABackup> {
        let Opened { body, sealed, seal, digest } = FORMAT.read(bytes)?;
        let backup = Self::of_body(body)?;
        let origin = Origin { instance: backup.instance, root: backup.root, sealed, seal, digest };
        Ok(ReadSecretBackup { backup, origin })
    }

    fn body(&self) -> Vec<u8> {
        let secret = &self.secret;
        // What `rest` is the digest of, the fields behind it say.
        let statement = KeyStatement { rest: Vec::new(), ..secret.statement() };
        Canonical::new(BODY_TAG)
            .field(1, &self.instance)
            .field(2, &self.root)
            .field(3, secret.vault.as_str().as_bytes())
            .field(4, secret.name.as_str().as_bytes())
            .optional_number(5, Some(self.vault_created.0))
            .optional_number(6, Some(self.made.0))
            .field(7, &statement.encode())
            .field(8, &secret.current.bytes())
            .optional_number(9, Some(secret.updated.0))
            .optional_number(10, secret.noted.map(|noted| noted.0))
            .field(11, &chain(self.versions.iter().map(version_form)))
            .finish()
    }

    fn of_body(body: &[u8]) -> Result<Self, NotABackup> {
        let [instance, root, vault, name, vault_created, made, statement, current, updated, noted, versions] =
            fields(body, BODY_TAG)?;
        let vault: VaultName = text(vault)?.parse().map_err(|_| NotABackup::Damaged)?;
        let name: SecretName = text(name)?.parse().map_err(|_| NotABackup::Damaged)?;
        let statement = KeyStatement::decode(statement)?;
        let secret = SecretRow {
            id: [0; 16],
            vault,
            name,
            current: id(current)?,
            data_key: VersionId::from_bytes(statement.version),
            blob: statement.blob,
            kek: statement.kek.map(VersionId::from_bytes),
            check_value: statement.check_value,
            state: State::Active,
            noted: optional_time(noted)?,
            due: None,
            created: Timestamp(statement.created),
            updated: Timestamp(signed(updated)?),
            intent: 0,
            revision: statement.revision,
        };
        let versions = links(versions)?.into_iter().map(|form| version_of(form, &secret));
        let backup = Self {
            instance: instance.try_into().map_err(|_| NotABackup::Damaged)?,
            root: root.try_into().map_err(|_| NotABackup::Damaged)?,
            vault_created: Timestamp(signed(vault_created)?),
            made: Timestamp(signed(made)?),
            versions: versions.collect::<Result<_, _>>()?,
            secret,
        };
        let whole = backup.versions.iter().any(|version| version.version == backup.secret.current);
        let ordered = backup.versions.is_sorted_by(|newer, older| newer.ordinal > older.ordinal);
        // What encodes differently was not canonical: another spec, other operations, another name.
        if whole && ordered && backup.body() == body { Ok(backup) } else { Err(NotABackup::Damaged) }
    }
}

fn id(value: &[u8]) -> Result<VersionId, NotABackup> {
    value.try_into().map(VersionId::from_bytes).map_err(|_| NotABackup::Damaged)
}

fn optional_time(value: &[u8]) -> Result<Option<Timestamp>, NotABackup> {
    if value.is_empty() { Ok(None) } else { Ok(Some(Timestamp(signed(value)?))) }
}

fn version_form(row: &SecretVersionRow) -> Vec<u8> {
    Canonical::new(VERSION_TAG)
        .field(1, &row.version.bytes())
        .number(2, row.ordinal)
        .field(3, row.content_type.as_bytes())
        .number(4, u64::from(row.enabled))
        .optional_number(5, row.not_before.map(|time| time.0))
        .optional_number(6, row.expires.map(|time| time.0))
        .field(7, row.tags.to_json().as_bytes())
        .field(8, &row.iv)
        .field(9, &row.tag)
        .field(10, &row.ciphertext)
        .optional_number(11, Some(row.created.0))
        .optional_number(12, Some(row.updated.0))
        .number(13, row.revision)
        .finish()
}

/// Reads a version of that secret. Whoever calls encodes it again and compares.
fn version_of(form: &[u8], secret: &SecretRow) -> Result<SecretVersionRow, NotABackup> {
    let [
        version,
        ordinal,
        content_type,
        enabled,
        not_before,
        expires,
        tags,
        iv,
        tag,
        value,
        created,
        updated,
        revision,
    ] = fields(form, VERSION_TAG)?;
    Ok(SecretVersionRow {
        vault: secret.vault.clone(),
        secret: secret.name.clone(),
        version: id(version)?,
        ordinal: number_of(ordinal)?,
        content_type: text(content_type)?.to_owned(),
        enabled: !enabled.is_empty(),
        not_before: optional_time(not_before)?,
        expires: optional_time(expires)?,
        tags: Tags::from_json(text(tags)?).ok_or(NotABackup::Damaged)?,
        iv: iv.to_vec(),
        tag: tag.to_vec(),
        ciphertext: value.to_vec(),
        intent: 0,
        created: Timestamp(signed(created)?),
        updated: Timestamp(signed(updated)?),
        revision: number_of(revision)?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        model::{KeyBackup, sealed_backup::BYTES_MAX},
        store::contract::fixtures::{odd_tags, secret, secret_version, version_id},
    };

    const SEAL: [u8; 32] = [7; 32];

    fn backup() -> SecretBackup {
        let kept = |n: u8| SecretVersionRow {
            intent: 0,
            tags: odd_tags(),
            revision: u64::from(n),
            ..secret_version(n, "dev", "Db", u64::from(n))
        };
        let empty = SecretVersionRow { ciphertext: Vec::new(), enabled: false, expires: None, ..kept(1) };
        let row = SecretRow { id: [0; 16], due: None, intent: 0, current: version_id(2), ..secret(3, "dev", "Db") };
        SecretBackup {
            instance: [3; 16],
            root: [4; 16],
            vault_created: Timestamp(0),
            made: Timestamp(1_700_000_000),
            secret: row,
            versions: vec![kept(2), empty],
        }
    }

    fn written(backup: &SecretBackup) -> Vec<u8> {
        backup.encode().expect("is short").with(&SEAL).0
    }

    #[test]
    fn what_is_written_is_read() {
        let unsealed = backup().encode().expect("is short");
        let form = unsealed.form();
        let (bytes, digest) = unsealed.with(&SEAL);
        let read = SecretBackup::read(&bytes).expect("is one");
        assert_eq!((read.backup, read.origin.seal, read.origin.digest), (backup(), SEAL, digest));
        assert_eq!(read.origin.sealed, form);
    }

    #[test]
    fn a_backup_of_a_key_is_another_thing() {
        assert_eq!(KeyBackup::read(&written(&backup())), Err(NotABackup::Other("key")));
        assert_eq!(SecretBackup::read(b"strongroom key backup\n"), Err(NotABackup::Other("secret")));
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let without = SecretBackup { versions: backup().versions[1..].to_vec(), ..backup() };
        let disordered = SecretBackup { versions: backup().versions.into_iter().rev().collect(), ..backup() };
        for wrong in [without, disordered] {
            assert_eq!(SecretBackup::read(&written(&wrong)), Err(NotABackup::Damaged));
        }
        let mut long = backup();
        long.versions[0].ciphertext = vec![0; BYTES_MAX];
        assert_eq!(long.encode().expect_err("too long"), NotABackup::TooLong);
    }

    proptest! {
        #[test]
        fn a_cut_or_altered_body_never_reads_as_it_was(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let bytes = written(&backup());
            let at = at.index(bytes.len() - SEAL.len());
            let mut altered = bytes.clone();
            altered[at] ^= 1_u8 << bit;
            let read = SecretBackup::read(&altered);
            prop_assert!(read.map(|read| read.origin.sealed) != SecretBackup::read(&bytes).map(|read| read.origin.sealed));
            prop_assert!(SecretBackup::read(&bytes[..at]).is_err());
        }
    }
}
