//! What a backup of a key says comes back, and nothing else is one.

use der::pem::PemLabel as _;
use pkcs8::PrivateKeyInfoRef;
use proptest::prelude::*;
use strongroom_hsm::{Seal, statement::NotCanonical};

use super::*;
use crate::{
    model::{
        Row as _, Timestamp,
        sealed_backup::{BYTES_MAX, VERSIONS_MAX},
    },
    store::contract::fixtures::{key, odd_tags, version, version_id, with_policy},
};

const SEAL: Seal = [7; 32];
const MAGIC: &[u8] = FORMAT.magic;

/// A backup of a key that has an old, deleted version beside the newest.
fn backup() -> KeyBackup {
    let key = KeyObjectRow {
        id: [0; 16],
        due: None,
        intent: 0,
        revision: 5,
        current: version_id(2),
        ..key(2, "dev", "Root")
    };
    let kept = |n, encryptions| {
        let mut row = version(n, "dev", "Root", u64::from(n));
        (row.intent, row.tags) = (0, odd_tags());
        KeptVersion { row, encryptions, uses: u64::from(n) }
    };
    let mut old = kept(1, 1 << 32);
    old.row.state = State::Deleted { since: Timestamp(5), purge_at: Timestamp(9) };
    let (vault_created, made) = (Timestamp(0), Timestamp(1_700_000_000));
    KeyBackup { instance: [3; 16], root: [4; 16], vault_created, made, key, versions: vec![kept(2, 0), old] }
}

fn written(backup: &KeyBackup) -> Vec<u8> {
    backup.encode().expect("is short").with(&SEAL).0
}

#[test]
fn what_is_written_is_read() {
    let policy = KeyObjectRow { due: None, ..with_policy(backup().key) };
    for backup in [backup(), KeyBackup { key: policy, ..backup() }] {
        let unsealed = backup.encode().expect("is short");
        let form = unsealed.form();
        let (bytes, digest) = unsealed.with(&SEAL);
        let read = KeyBackup::read(&bytes).expect("is one");
        assert_eq!((&read.backup, read.origin.seal, read.origin.digest), (&backup, SEAL, digest));
        assert_eq!(read.origin.sealed, form);
    }
}

#[test]
fn it_is_taken_for_no_row_and_no_row_for_it() {
    let form = backup().encode().expect("is short").form();
    assert_eq!(KeyStatement::decode(&form), Err(NotCanonical));
    let row = version(1, "dev", "Root", 1);
    assert_ne!(row.canonical()[..20], form[..20]);
    assert_eq!(KeyBackup::read(&row.canonical()), Err(NotABackup::Other("key")));
}

#[test]
fn the_error_says_what_is_wrong() {
    let bytes = written(&backup());
    let pem = format!("-----BEGIN {}-----", PrivateKeyInfoRef::PEM_LABEL);
    assert_eq!(KeyBackup::read(pem.as_bytes()), Err(NotABackup::Other("key")));
    let mut newer = bytes.clone();
    newer[MAGIC.len() + 1] = 2;
    assert_eq!(KeyBackup::read(&newer), Err(NotABackup::Newer(2)));
    let long = [bytes.clone(), vec![0; BYTES_MAX]].concat();
    assert_eq!(KeyBackup::read(&long), Err(NotABackup::TooLong));
    for cut in [bytes.len() - 1, MAGIC.len() + 40, MAGIC.len() + 2, MAGIC.len()] {
        assert_eq!(KeyBackup::read(&bytes[..cut]), Err(NotABackup::Damaged), "{cut}");
    }
    assert_eq!(KeyBackup::read(&bytes[..MAGIC.len() - 1]), Err(NotABackup::Other("key")));
}

#[test]
fn a_backup_without_its_newest_version_or_out_of_order_is_none() {
    let whole = backup();
    let without = KeyBackup { versions: whole.versions[1..].to_vec(), ..whole.clone() };
    let turned = KeyBackup { versions: whole.versions.iter().rev().cloned().collect(), ..whole.clone() };
    let twice = KeyBackup { versions: [whole.versions.clone(), whole.versions.clone()].concat(), ..whole.clone() };
    let of_another = {
        let mut other = whole.clone();
        other.versions[1].row.key = "Other".parse().expect("a name");
        other
    };
    for wrong in [without, turned, twice, of_another] {
        assert_eq!(KeyBackup::read(&written(&wrong)), Err(NotABackup::Damaged));
    }
}

#[test]
fn a_backup_is_no_longer_than_a_message_and_has_no_more_versions_than_it_may() {
    let mut long = backup();
    long.versions[0].row.blob = vec![1; BYTES_MAX];
    assert_eq!(long.encode().map(drop), Err(NotABackup::TooLong));
    let kept = |n: usize| {
        let id = u128::try_from(n).expect("fits").to_be_bytes();
        let mut row = version(2, "dev", "Root", 1000 - n as u64);
        (row.version, row.intent) = (VersionId::from_bytes(id), 0);
        KeptVersion { row, encryptions: 0, uses: 0 }
    };
    let with = |count: usize| {
        let key = KeyObjectRow { current: VersionId::from_bytes([0; 16]), ..backup().key };
        KeyBackup { key, versions: (0..count).map(kept).collect(), ..backup() }
    };
    assert_eq!(KeyBackup::read(&written(&with(VERSIONS_MAX))).map(|read| read.backup), Ok(with(VERSIONS_MAX)));
    assert_eq!(KeyBackup::read(&written(&with(VERSIONS_MAX + 1))), Err(NotABackup::Damaged));
}

proptest! {
    #[test]
    fn any_backup_comes_back(
        instance in any::<[u8; 16]>(), made in any::<i64>(), vault_created in any::<i64>(), revision in 1..u64::MAX,
        counts in any::<[u64; 4]>(), noted in any::<Option<i64>>(), blob in prop::collection::vec(any::<u8>(), 0..99),
        kek in any::<Option<[u8; 16]>>(), enabled in any::<bool>(), times in any::<[Option<i64>; 2]>(),
    ) {
        let mut backup = KeyBackup {
            instance, made: Timestamp(made), vault_created: Timestamp(vault_created), ..backup()
        };
        (backup.key.revision, backup.key.noted) = (revision, noted.map(Timestamp));
        for (version, counts) in backup.versions.iter_mut().zip(counts.chunks(2)) {
            (version.encryptions, version.uses) = (counts[0], counts[1]);
            (version.row.blob, version.row.enabled) = (blob.clone(), enabled);
            version.row.kek = kek.map(VersionId::from_bytes);
            (version.row.not_before, version.row.expires) = (times[0].map(Timestamp), times[1].map(Timestamp));
        }
        prop_assert_eq!(KeyBackup::read(&written(&backup)).map(|read| read.backup), Ok(backup));
    }

    #[test]
    fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(KeyBackup::read(&bytes).is_err());
        let begun = [MAGIC, &FORMAT.number.to_be_bytes(), &bytes].concat();
        prop_assert_eq!(KeyBackup::read(&begun), Err(NotABackup::Damaged));
    }

    #[test]
    fn what_still_reads_after_damage_is_under_another_form(at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let right = written(&backup());
        let mut bytes = right.clone();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(read) = KeyBackup::read(&bytes) {
            let whole = KeyBackup::read(&right).expect("is one");
            prop_assert!(read.origin.sealed != whole.origin.sealed || read.origin.seal != whole.origin.seal);
            prop_assert!(read.origin.digest != whole.origin.digest);
        }
    }

    #[test]
    fn a_cut_one_is_refused(cut in any::<prop::sample::Index>()) {
        let bytes = written(&backup());
        prop_assert!(KeyBackup::read(&bytes[..cut.index(bytes.len())]).is_err());
    }
}
