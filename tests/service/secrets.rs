//! Secrets: what is set is read, by whom it may be and as long as it is there; and nothing that the store is made to say
//! brings another value, an older one, or one that was destroyed.

use std::sync::Arc;

use strongroom::{
    model::{EventType, SecretBackup, Tags, Timestamp, VaultName},
    service::{
        ChangeOptions, Page, Problem, Service, ServiceError,
        keys::Age,
        rotation::Round,
        secrets::{NewSecret, SecretFilter, SecretPatch, SecretRef},
    },
};
use tokio_util::sync::CancellationToken;

use crate::{
    access::reason,
    estate::{Estate, called, caller},
    purge::{told, with_own_kek},
    rotation::opened,
    rows::{meddle, shut},
};

const DAY_S: u32 = 86_400;
const VALUE: &[u8] = b"correct horse battery staple";

fn secret(name: &str) -> SecretRef {
    SecretRef { vault: "dev".parse().expect("right"), secret: name.parse().expect("right"), version: None }
}

pub(crate) fn new(name: &str, value: &[u8]) -> NewSecret {
    NewSecret {
        vault: "dev".parse().expect("right"),
        name: name.parse().expect("right"),
        value: value.to_vec().into(),
        content_type: "text/plain".to_owned(),
        enabled: true,
        not_before: None,
        expires: None,
        tags: Tags::default(),
        must_not_exist: false,
    }
}

async fn set(service: &Arc<Service>, name: &str, value: &[u8]) -> SecretRef {
    let set = service.set_secret(&caller(), new(name, value), ChangeOptions::default()).await.expect("set");
    SecretRef { version: Some(set.version.version), ..secret(name) }
}

async fn get(service: &Service, name: &SecretRef) -> Result<Vec<u8>, ServiceError> {
    let (_, value) = service.get_secret_value(&caller(), name).await?;
    Ok(value.expose_secret().to_vec())
}

async fn pass(service: &Arc<Service>) {
    let mut round = Round::default();
    for _ in 0..2 {
        service.do_what_is_due(&mut round, &CancellationToken::new()).await.expect("done");
    }
}

#[tokio::test]
async fn each_set_makes_a_version_and_each_version_keeps_its_value() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    let first = set(&service, "Db-Password", VALUE).await;
    let second = set(&service, "db-password", b"").await;
    assert_eq!(get(&service, &first).await.expect("read"), VALUE);
    assert_eq!(get(&service, &second).await.expect("read"), b"");
    assert_eq!(get(&service, &secret("DB-PASSWORD")).await.expect("read"), b"", "the newest");
    let longest = vec![0xa5; 64 * 1024];
    let third = set(&service, "db-password", &longest).await;
    assert_eq!(get(&service, &third).await.expect("read"), longest);
    let too_long = service.set_secret(&caller(), new("x", &[1; 64 * 1024 + 1]), ChangeOptions::default()).await;
    assert!(matches!(too_long.expect_err("refused").problem, Problem::Invalid { field: "value", .. }));
    let page = Page { size: 2, after: None, deleted: false };
    let (versions, next) = service.list_secret_versions(&caller(), &first, page).await.expect("listed");
    assert_eq!(versions.iter().map(|version| version.version.ordinal).collect::<Vec<_>>(), [3, 2]);
    assert_eq!(next, Some(2));
    assert!(versions.iter().all(|version| version.version.ciphertext.is_empty()), "lists have no values");
    let unknown = SecretRef { version: second.version, ..secret("other") };
    set(&service, "other", VALUE).await;
    assert_eq!(reason(get(&service, &unknown).await), "NOT_FOUND", "a version is its own secret's");
    shut(service).await;
    let service = estate.open().await.expect("opens");
    assert_eq!(get(&service, &first).await.expect("read"), VALUE);
    assert!(!estate.log_text().contains("correct horse"), "no value in the log");
}

#[tokio::test]
async fn a_read_is_recorded_before_it_is_answered_and_once() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    let name = set(&service, "k", VALUE).await;
    let before = estate.log_text().matches("secrets.get").count();
    get(&service, &secret("k")).await.expect("read");
    let log = estate.log_text();
    assert_eq!(log.matches("secrets.get").count(), before + 1);
    assert!(log.contains(&name.to_string()), "the version that was read");
}

#[tokio::test]
async fn what_is_disabled_deleted_or_not_ones_own_is_not_read() {
    let (_estate, clock, service) = opened().await;
    let name = set(&service, "k", VALUE).await;
    let stranger = called("spiffe://test.invalid/stranger");
    assert_eq!(reason(service.get_secret_value(&stranger, &name).await), "PERMISSION_DENIED");
    assert_eq!(reason(service.get_secret_value(&stranger, &secret("gone")).await), "PERMISSION_DENIED");
    let off = SecretPatch { enabled: Some(false), ..SecretPatch::default() };
    service.update_secret_version(&caller(), &name, off, ChangeOptions::default()).await.expect("off");
    assert_eq!(reason(get(&service, &name).await), "SECRET_DISABLED");
    let on = SecretPatch {
        enabled: Some(true),
        expires: Some(Some(Timestamp(1))),
        content_type: Some("a/b".to_owned()),
        ..SecretPatch::default()
    };
    let changed = service.update_secret_version(&caller(), &name, on, ChangeOptions::default()).await.expect("on");
    assert_eq!(changed.version.content_type, "a/b");
    assert_eq!(get(&service, &name).await.expect("its times are for those who use it"), VALUE);
    service.delete_secret(&caller(), &secret("k"), ChangeOptions::default()).await.expect("deleted");
    assert_eq!(reason(get(&service, &name).await), "DELETED");
    let set = service.set_secret(&caller(), new("k", VALUE), ChangeOptions::default()).await;
    assert_eq!(reason(set), "NAME_RESERVED");
    let filter = SecretFilter { deleted: Some(true), ..SecretFilter::default() };
    let vault: VaultName = "dev".parse().expect("right");
    let page = || Page { size: 10, after: None, deleted: true };
    let (found, _) = service.list_secrets(&caller(), &vault, &filter, page()).await.expect("listed");
    assert_eq!(found.len(), 1);
    service.undelete_secret(&caller(), &secret("k"), ChangeOptions::default()).await.expect("back");
    assert_eq!(get(&service, &name).await.expect("read"), VALUE);
    service.delete_secret(&caller(), &secret("k"), ChangeOptions::default()).await.expect("deleted");
    pass(&service).await;
    clock.pass(91 * DAY_S);
    pass(&service).await;
    assert_eq!(reason(service.get_secret(&caller(), &secret("k")).await), "NOT_FOUND", "its date has come");
    let events = told(&service).await;
    for wanted in [EventType::SecretNewVersionCreated, EventType::SecretDeleted, EventType::SecretPurged] {
        assert!(events.contains(&wanted), "{wanted:?} in {events:?}");
    }
}

#[tokio::test]
async fn a_purged_secret_leaves_nothing_and_its_name_is_free() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    let first = set(&service, "k", VALUE).await;
    set(&service, "k", b"second").await;
    assert_eq!(reason(service.purge_secret(&caller(), &secret("k"), ChangeOptions::default()).await), "NOT_DELETED");
    service.delete_secret(&caller(), &secret("k"), ChangeOptions::default()).await.expect("deleted");
    let purged = service.purge_secret(&caller(), &secret("k"), ChangeOptions::default()).await.expect("purged");
    assert_eq!(purged, 2);
    set(&service, "k", b"another").await;
    assert_eq!(reason(get(&service, &first).await), "NOT_FOUND");
    shut(service).await;
    let service = estate.open().await.expect("opens");
    assert_eq!(get(&service, &secret("k")).await.expect("read"), b"another");
}

#[tokio::test]
async fn of_an_expiry_is_told_thirty_days_before_and_when_it_comes() {
    let (_estate, clock, service) = opened().await;
    let expires = Some(Timestamp(service.now().0 + 40 * i64::from(DAY_S)));
    let expiring = NewSecret { expires, ..new("k", VALUE) };
    service.set_secret(&caller(), expiring, ChangeOptions::default()).await.expect("set");
    let count = async |kind| told(&service).await.into_iter().filter(|event| *event == kind).count();
    pass(&service).await;
    assert_eq!(count(EventType::SecretNearExpiry).await, 0);
    clock.pass(10 * DAY_S + 1);
    pass(&service).await;
    pass(&service).await;
    assert_eq!(count(EventType::SecretNearExpiry).await, 1);
    clock.pass(30 * DAY_S);
    pass(&service).await;
    pass(&service).await;
    assert_eq!((count(EventType::SecretNearExpiry).await, count(EventType::SecretExpired).await), (1, 1));
}

#[tokio::test]
async fn what_is_put_in_the_place_of_a_value_is_found() {
    for meddled in [
        "UPDATE secret_values SET ciphertext = (SELECT v.ciphertext FROM secret_values v WHERE length(v.ciphertext) <> 28) \
            WHERE length(ciphertext) = 28",
        "UPDATE secret_values SET ciphertext = x'00'",
        "DELETE FROM secret_values",
        "UPDATE secret_versions SET iv = x'000102030405060708090a0b'",
        "UPDATE secret_versions SET enabled = 0",
        "UPDATE secret_versions SET content_type = 'x'",
        "UPDATE secrets SET blob = (SELECT s.blob FROM secrets s WHERE s.name = 'other') WHERE name = 'k'",
        "UPDATE secrets SET data_key = zeroblob(16)",
    ] {
        let estate = Estate::new().await;
        let service = estate.open().await.expect("opens");
        let name = set(&service, "k", VALUE).await;
        set(&service, "other", b"of another length").await;
        meddle(&estate, meddled).await;
        assert_eq!(reason(get(&service, &name).await), "TAMPERED", "{meddled}");
    }
}

#[tokio::test]
async fn a_vault_takes_its_secrets_with_it() {
    let (_estate, clock, service) = opened().await;
    service.create_vault(&caller(), with_own_kek("own"), ChangeOptions::default()).await.expect("made");
    let own: VaultName = "own".parse().expect("right");
    let name = SecretRef { vault: own.clone(), ..secret("k") };
    let in_own = NewSecret { vault: own.clone(), ..new("k", VALUE) };
    let view = service.set_secret(&caller(), in_own, ChangeOptions::default()).await.expect("set");
    assert_eq!(view.secret.kek, view.vault.kek_id(), "under the vault's own KEK");
    assert_eq!(get(&service, &name).await.expect("read"), VALUE);
    let rotated = service.rotate_vault_kek(&caller(), &own, ChangeOptions::default()).await.expect("rotated");
    clock.pass(DAY_S);
    service.destroy_retired_keks().await.expect("tidied");
    assert_eq!(rotated.retired_keks.len(), 1);
    assert_eq!(get(&service, &name).await.expect("its KEK is kept"), VALUE);
    service.delete_vault(&caller(), &own, ChangeOptions::default()).await.expect("deleted");
    service.purge_vault(&caller(), &own, ChangeOptions::default()).await.expect("purged");
    assert_eq!(reason(service.get_secret(&caller(), &name).await), "NOT_FOUND");
}

#[tokio::test]
async fn a_backup_brings_a_secret_back_with_all_its_versions() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    let first = set(&service, "k", VALUE).await;
    set(&service, "k", b"").await;
    let backup = service.backup_secret(&caller(), &secret("k")).await.expect("backed up");
    assert_eq!(backup.versions, 2);
    assert!(!backup.bytes.windows(VALUE.len()).any(|window| window == VALUE), "no value in the clear");
    let read = || SecretBackup::read(&backup.bytes).expect("is one");
    let restore = async |age| service.restore_secret(&caller(), read(), age, ChangeOptions::default()).await;
    assert_eq!(reason(restore(Age::AsKnown).await), "ALREADY_EXISTS");
    service.delete_secret(&caller(), &secret("k"), ChangeOptions::default()).await.expect("deleted");
    assert_eq!(reason(restore(Age::AsKnown).await), "NAME_RESERVED");
    service.purge_secret(&caller(), &secret("k"), ChangeOptions::default()).await.expect("purged");
    let mut altered = read();
    altered.origin.seal[0] ^= 1;
    let refused = service.restore_secret(&caller(), altered, Age::AsKnown, ChangeOptions::default()).await;
    assert!(matches!(refused.expect_err("refused").problem, Problem::Invalid { field: "backup", .. }));
    let stranger = called("spiffe://test.invalid/stranger");
    let refused = service.restore_secret(&stranger, read(), Age::AsKnown, ChangeOptions::default()).await;
    assert_eq!(reason(refused), "PERMISSION_DENIED");
    restore(Age::AsKnown).await.expect("restored");
    assert_eq!(get(&service, &first).await.expect("read"), VALUE);
    assert_eq!(get(&service, &secret("k")).await.expect("read"), b"");
    // It goes on: set once more, it is newer than the backup.
    set(&service, "k", b"third").await;
    service.delete_secret(&caller(), &secret("k"), ChangeOptions::default()).await.expect("deleted");
    service.purge_secret(&caller(), &secret("k"), ChangeOptions::default()).await.expect("purged");
    assert_eq!(reason(restore(Age::AsKnown).await), "OLDER_THAN_KNOWN");
    restore(Age::Older).await.expect("restored");
    shut(service).await;
    let service = estate.open().await.expect("opens");
    assert_eq!(get(&service, &first).await.expect("read"), VALUE);
    assert!(estate.log_text().contains("older than what is known"));
}
