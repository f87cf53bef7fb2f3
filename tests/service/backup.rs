//! Keys that go out in a backup and come back: as they were, and nothing of them that is older unseen.

use std::{sync::Arc, time::Duration};

use strongroom::{
    model::{
        Algorithm, EventType, KeyBackup, KeySpec, MaxStaleness, NetworkRules, Residency, Stage, Tags,
        VaultAuthorization,
    },
    service::{
        ChangeOptions, KeyRef, KeyView, NewKey, NewVault, Page, Problem, Service, ServiceError, VersionPatch,
        events::{EventFilter, From},
        keys::{Age, BackedUp},
        root::Pass,
    },
};
use strongroom_hsm::Material;
use tokio_util::sync::CancellationToken;

use crate::{
    ec,
    estate::{Estate, called, caller, key},
    named,
};

fn options() -> ChangeOptions {
    ChangeOptions::default()
}

fn reason<T>(result: Result<T, ServiceError>) -> &'static str {
    result.map(drop).expect_err("refused").problem.reason()
}

async fn backed_up(service: &Arc<Service>, name: &str) -> BackedUp {
    service.backup_key(&caller(), &named(name)).await.expect("backed up")
}

async fn restored_by(service: &Arc<Service>, bytes: &[u8], age: Age) -> Result<KeyView, ServiceError> {
    service.restore_key(&caller(), KeyBackup::read(bytes).expect("a backup"), age, options()).await
}

async fn restored(service: &Arc<Service>, backup: &BackedUp) -> Result<KeyView, ServiceError> {
    restored_by(service, &backup.bytes, Age::AsKnown).await
}

async fn gone(service: &Arc<Service>, name: &KeyRef) {
    service.delete_key(&caller(), name, options()).await.expect("deleted");
    service.purge_key(&caller(), name, options()).await.expect("purged");
}

async fn made(service: &Arc<Service>, new: NewKey) -> KeyView {
    service.create_key(&caller(), new, options()).await.expect("made")
}

async fn vault(service: &Arc<Service>, name: &str, of: impl FnOnce(NewVault) -> NewVault) {
    let vault = NewVault {
        name: name.parse().expect("a name"),
        tags: Tags::default(),
        retention_days: 90,
        purge_protection: false,
        padding_decryption_allowed: false,
        max_staleness: MaxStaleness::default(),
        own_kek: false,
        network: NetworkRules::default(),
        authorization: VaultAuthorization::Roles,
    };
    service.create_vault(&caller(), of(vault), options()).await.expect("a vault");
}

async fn sign(service: &Arc<Service>, name: &KeyRef) -> Result<Vec<u8>, ServiceError> {
    Ok(service.sign(&caller(), name, Algorithm::Es256, vec![7; 32].into()).await?.signature)
}

async fn verifies(service: &Arc<Service>, name: &KeyRef, signature: &[u8]) -> bool {
    let verified = service.verify(&caller(), name, Algorithm::Es256, vec![7; 32].into(), signature.to_vec()).await;
    verified.expect("asked").1
}

fn of(name: &str, version: &KeyView) -> KeyRef {
    KeyRef { version: Some(version.version.version), ..named(name) }
}

#[tokio::test]
async fn a_key_comes_back_as_it_was_with_its_versions_and_their_ids() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    let first =
        made(&service, NewKey { tags: Tags::new([("a".to_owned(), "b".to_owned())]).expect("tags"), ..ec("k") }).await;
    let second = service.rotate_key(&caller(), &named("k"), options()).await.expect("rotated");
    let signed =
        (sign(&service, &of("k", &first)).await.expect("signed"), sign(&service, &named("k")).await.expect("signed"));
    let disabled = VersionPatch { enabled: Some(false), ..VersionPatch::default() };
    service.update_version(&caller(), &of("k", &first), disabled, options()).await.expect("disabled");
    let backup = backed_up(&service, "k").await;
    assert_eq!(backup.versions, 2);
    assert_eq!(reason(restored(&service, &backup).await), "ALREADY_EXISTS");
    service.delete_key(&caller(), &named("k"), options()).await.expect("deleted");
    assert_eq!(reason(restored(&service, &backup).await), "NAME_RESERVED");
    assert_eq!(reason(service.backup_key(&caller(), &named("k")).await), "DELETED");
    service.purge_key(&caller(), &named("k"), options()).await.expect("purged");
    let back = restored(&service, &backup).await.expect("back");
    assert_eq!((back.version.version, &back.version.tags), (second.version.version, &second.version.tags));
    assert!(back.key.revision > second.key.revision, "its revisions go on");
    assert!(verifies(&service, &named("k"), &signed.1).await);
    assert_eq!(reason(sign(&service, &of("k", &first)).await), "KEY_DISABLED", "it came back as it was");
    let enabled = VersionPatch { enabled: Some(true), ..VersionPatch::default() };
    service.update_version(&caller(), &of("k", &first), enabled, options()).await.expect("enabled");
    assert!(verifies(&service, &of("k", &first), &signed.0).await);
    // It goes on as any other, and comes back again.
    service.rotate_key(&caller(), &named("k"), options()).await.expect("rotated");
    assert_eq!(backed_up(&service, "k").await.versions, 3);
    service.close().await.expect("closes");
    drop(service);
    let service = estate.open().await.expect("the store is sound");
    assert!(verifies(&service, &named("k"), &sign(&service, &named("k")).await.expect("signs")).await);
    let log = estate.log_text();
    let digest = base16ct::lower::encode_string(&backup.digest);
    assert!(log.contains(&format!("2 versions, sha256:{digest}")), "the backup is recorded");
    assert!(log.contains(&format!("widens: 2 versions, sha256:{digest}")), "and what it brought back");
}

#[tokio::test]
async fn keys_of_every_kind_come_back() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    let specs = KeySpec::ALL.into_iter().filter(|spec| *spec != KeySpec::Ed25519);
    let specs: Vec<KeySpec> = specs.collect();
    for (n, spec) in specs.iter().enumerate() {
        made(&service, key(&format!("k{n}"), *spec)).await;
    }
    let secret = Material::aes(vec![0x5a; 32].into()).expect("a key").1;
    service.import_key(&caller(), key("imported", KeySpec::Aes256), secret, options()).await.expect("imported");
    let spki = service.get_key(&caller(), &named("k0")).await.expect("there").version.public.clone();
    let (spec, public) = Material::public(&spki).expect("a public key");
    let new = NewKey { residency: Residency::Public, ..key("public", spec) };
    service.import_key(&caller(), new, public, options()).await.expect("imported");
    vault(&service, "own", |new| NewVault { own_kek: true, ..new }).await;
    let in_own = KeyRef { vault: "own".parse().expect("a name"), ..named("w") };
    made(&service, NewKey { vault: in_own.vault.clone(), ..ec("w") }).await;
    let names: Vec<KeyRef> =
        (0..specs.len()).map(|n| named(&format!("k{n}"))).chain([named("imported"), named("public"), in_own]).collect();
    for name in names {
        let before = service.get_key(&caller(), &name).await.expect("there");
        let backup = service.backup_key(&caller(), &name).await.expect("backed up");
        gone(&service, &name).await;
        let dry = ChangeOptions { validate_only: true, ..options() };
        let read = || KeyBackup::read(&backup.bytes).expect("a backup");
        service.restore_key(&caller(), read(), Age::AsKnown, dry).await.expect("could be");
        let back = service.restore_key(&caller(), read(), Age::AsKnown, options()).await.expect("back");
        assert_eq!((back.version.version, back.version.spec), (before.version.version, before.version.spec));
        assert_eq!(
            (&back.version.public, &back.version.blob),
            (&before.version.public, &before.version.blob),
            "{name}"
        );
    }
}

#[tokio::test]
async fn encryptions_never_go_backwards() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    made(&service, key("a", KeySpec::Aes256)).await;
    let encrypt = async || {
        let plaintext = b"hello".to_vec().into();
        service.encrypt(&caller(), &named("a"), Algorithm::A256Gcm, plaintext, Vec::new(), Vec::new()).await
    };
    let counted = async || {
        let store = estate.store().await;
        let newest = service.get_key(&caller(), &named("a")).await.expect("there").version.version;
        store.usage(newest).await.expect("read").map_or(0, |usage| usage.unchecked().encryptions)
    };
    let before_use = backed_up(&service, "a").await;
    encrypt().await.expect("encrypted");
    let at_end = counted().await;
    assert!(at_end > 0);
    gone(&service, &named("a")).await;
    restored(&service, &before_use).await.expect("counters are no change of the key");
    assert_eq!(counted().await, at_end, "the backup says 0; more is known");
    encrypt().await.expect("goes on");
    assert!(counted().await >= at_end, "by what is left of what was reserved");
    // In a vault that was purged and made anew nothing is known of it.
    let name = named("a").vault;
    service.delete_vault(&caller(), &name, options()).await.expect("deleted");
    while !service.purge_vault(&caller(), &name, options()).await.expect("purged") {}
    // Vaults of one name are told apart by the second in which they were made.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    vault(&service, "dev", |new| new).await;
    assert_eq!(reason(restored(&service, &before_use).await), "OLDER_THAN_KNOWN");
    restored_by(&service, &before_use.bytes, Age::Older).await.expect("the operator insists");
    service.close().await.expect("closes");
    drop(service);
    let service = estate.open().await.expect("opens");
    let plaintext = b"hello".to_vec().into();
    let used_up = service.encrypt(&caller(), &named("a"), Algorithm::A256Gcm, plaintext, Vec::new(), Vec::new()).await;
    assert_eq!(reason(used_up), "KEY_USED_UP", "it may have encrypted as often as it may");
}

#[tokio::test]
async fn what_is_older_than_what_is_known_comes_back_only_for_those_who_insist() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    let first = made(&service, ec("k")).await;
    let oldest = backed_up(&service, "k").await;
    service.rotate_key(&caller(), &named("k"), options()).await.expect("rotated");
    let of_two = backed_up(&service, "k").await;
    let disabled = VersionPatch { enabled: Some(false), ..VersionPatch::default() };
    service.update_version(&caller(), &of("k", &first), disabled, options()).await.expect("disabled");
    let newest = backed_up(&service, "k").await;
    gone(&service, &named("k")).await;
    assert_eq!(reason(restored(&service, &oldest).await), "OLDER_THAN_KNOWN", "it was rotated since");
    assert_eq!(reason(restored(&service, &of_two).await), "OLDER_THAN_KNOWN", "a version was disabled since");
    restored(&service, &newest).await.expect("the newest");
    // A version is destroyed by itself; the key goes after it.
    service.delete_version(&caller(), &of("k", &first), options()).await.expect("deleted");
    let with_deleted = backed_up(&service, "k").await;
    service.purge_key(&caller(), &of("k", &first), options()).await.expect("purged");
    gone(&service, &named("k")).await;
    for older in [&oldest, &of_two, &newest, &with_deleted] {
        assert_eq!(reason(restored(&service, older).await), "OLDER_THAN_KNOWN");
    }
    // A key of that name that was made anew and destroyed is the newer one.
    made(&service, ec("k")).await;
    let anew = backed_up(&service, "k").await;
    gone(&service, &named("k")).await;
    assert_eq!(reason(restored(&service, &newest).await), "OLDER_THAN_KNOWN");
    restored(&service, &anew).await.expect("the newest");
    gone(&service, &named("k")).await;
    let back = restored_by(&service, &with_deleted.bytes, Age::Older).await.expect("the operator insists");
    assert_eq!(back.version.ordinal, 2);
    let page = Page { size: 9, after: None, deleted: true };
    let (versions, _) = service.list_versions(&caller(), &named("k"), page).await.expect("listed");
    assert_eq!(versions.iter().map(|version| version.version.state.is_active()).collect::<Vec<_>>(), [true, false]);
    service.close().await.expect("closes");
    drop(service);
    assert!(estate.log_text().contains("2 versions, older than what is known, sha256:"));
}

#[tokio::test]
async fn what_cannot_be_backed_up_is_refused_with_what_to_do() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    made(&service, NewKey { residency: Residency::Token, ..ec("t") }).await;
    let refused = service.backup_key(&caller(), &named("t")).await.expect_err("refused").problem;
    assert_eq!(refused.reason(), "TOKEN_RESIDENCY");
    assert!(refused.to_string().contains("rotate the key with residency wrapped"), "{refused}");
    assert_eq!(reason(service.backup_key(&caller(), &named("absent")).await), "NOT_FOUND");
    let stranger = called("spiffe://test.invalid/stranger");
    assert_eq!(reason(service.backup_key(&stranger, &named("t")).await), "PERMISSION_DENIED");
    let backup = {
        made(&service, ec("k")).await;
        backed_up(&service, "k").await
    };
    let read = KeyBackup::read(&backup.bytes).expect("a backup");
    let denied = service.restore_key(&stranger, read, Age::AsKnown, options()).await;
    assert_eq!(reason(denied), "PERMISSION_DENIED", "before it is said whether it is right");
}

#[tokio::test]
async fn what_this_instance_has_not_made_is_refused() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    made(&service, ec("k")).await;
    let backup = backed_up(&service, "k").await;
    gone(&service, &named("k")).await;
    // Another seal, another state, another instance: whoever can change the file cannot seal it.
    let mut flipped = backup.bytes.clone();
    *flipped.last_mut().expect("bytes") ^= 1;
    let Problem::Invalid { field, why } = restored_by(&service, &flipped, Age::Older).await.expect_err("no").problem
    else {
        panic!("another problem")
    };
    assert!(field == "backup" && why.contains("its seal is wrong"), "{why}");
    let read = KeyBackup::read(&backup.bytes).expect("a backup");
    let mut forged = read.backup.clone();
    forged.versions[0].row.ops = strongroom::model::KeyOps::VERIFY;
    let (bytes, _) = forged.encode().expect("short").with(&read.origin.seal);
    assert_eq!(reason(restored_by(&service, &bytes, Age::Older).await), "INVALID_FIELD");
    let mut other = read.backup;
    other.instance = [1; 16];
    let (bytes, _) = other.encode().expect("short").with(&read.origin.seal);
    let refused = restored_by(&service, &bytes, Age::Older).await.expect_err("refused").problem;
    assert_eq!(refused.reason(), "OTHER_INSTANCE");
    let said = refused.to_string();
    assert!(said.contains(&"01".repeat(16)) && said.contains(&"5a".repeat(16)), "{said}");
    assert_eq!(reason(service.get_key(&caller(), &named("k")).await), "NOT_FOUND");
}

#[tokio::test]
async fn a_blob_that_does_not_open_is_refused_before_anything_is_written() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    made(&service, ec("k")).await;
    let backup = backed_up(&service, "k").await;
    gone(&service, &named("k")).await;
    // Sealed by this very HSM, over a blob of another root.
    let mut backup = KeyBackup::read(&backup.bytes).expect("a backup").backup;
    backup.versions[0].row.blob = vec![0x77; backup.versions[0].row.blob.len()];
    let pool = estate.pool().await;
    let seal = async |backup: &KeyBackup| {
        let unsealed = backup.encode().expect("short");
        let seals = pool.seal(vec![unsealed.form()], caller().deadline).await.expect("sealed");
        unsealed.with(&seals[0]).0
    };
    let bytes = seal(&backup).await;
    assert_eq!(reason(restored_by(&service, &bytes, Age::AsKnown).await), "KEY_DOES_NOT_OPEN");
    backup.versions[0].row.kek = Some(backup.key.current);
    let bytes = seal(&backup).await;
    assert_eq!(reason(restored_by(&service, &bytes, Age::AsKnown).await), "OTHER_KEK");
    backup.versions[0].row.residency = Residency::Token;
    let bytes = seal(&backup).await;
    assert_eq!(reason(restored_by(&service, &bytes, Age::AsKnown).await), "INVALID_FIELD");
    assert_eq!(reason(service.get_key(&caller(), &named("k")).await), "NOT_FOUND");
}

#[tokio::test]
async fn the_purge_of_a_vault_with_a_kek_of_its_own_reaches_backups_of_keys() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    vault(&service, "own", |new| NewVault { own_kek: true, ..new }).await;
    let name = KeyRef { vault: "own".parse().expect("a name"), ..named("k") };
    made(&service, NewKey { vault: name.vault.clone(), ..ec("k") }).await;
    let backup = service.backup_key(&caller(), &name).await.expect("backed up");
    service.delete_vault(&caller(), &name.vault, options()).await.expect("deleted");
    while !service.purge_vault(&caller(), &name.vault, options()).await.expect("purged") {}
    for own_kek in [false, true] {
        vault(&service, "own", |new| NewVault { own_kek, ..new }).await;
        assert_eq!(reason(restored_by(&service, &backup.bytes, Age::Older).await), "OTHER_KEK");
        service.delete_vault(&caller(), &name.vault, options()).await.expect("deleted");
        while !service.purge_vault(&caller(), &name.vault, options()).await.expect("purged") {}
    }
}

/// A key of that name in another vault.
fn there(name: &str) -> KeyRef {
    KeyRef { vault: "other".parse().expect("a name"), ..named(name) }
}

#[tokio::test]
async fn a_key_moves_with_all_it_has_and_its_old_name_is_free() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    vault(&service, "other", |new| new).await;
    let first = made(&service, ec("k")).await;
    service.rotate_key(&caller(), &named("k"), options()).await.expect("rotated");
    made(&service, NewKey { residency: Residency::Token, ..ec("t") }).await;
    let signature = sign(&service, &of("k", &first)).await.expect("signed");
    for name in ["k", "t"] {
        let moved = service.move_key(&caller(), &named(name), &there(name).vault, options()).await.expect("moved");
        assert_eq!((moved.key.key.vault.as_str(), moved.assignments_left), ("other", 0));
        assert_eq!(reason(sign(&service, &named(name)).await), "NOT_FOUND");
        sign(&service, &there(name)).await.expect("signs there");
    }
    let old = KeyRef { version: Some(first.version.version), ..there("k") };
    assert!(verifies(&service, &old, &signature).await, "version ids stay");
    made(&service, ec("k")).await;
    assert_eq!(reason(service.move_key(&caller(), &there("k"), &named("k").vault, options()).await), "ALREADY_EXISTS");
    service.delete_key(&caller(), &named("k"), options()).await.expect("deleted");
    assert_eq!(reason(service.move_key(&caller(), &there("k"), &named("k").vault, options()).await), "NAME_RESERVED");
    service.close().await.expect("closes");
    drop(service);
    let service = estate.open().await.expect("the store is sound");
    sign(&service, &there("k")).await.expect("signs");
    let mut watch = service.watch_events(&caller(), EventFilter::default(), From::Beginning).await.expect("begins");
    let events = watch.more().await.expect("told").events;
    let moves: Vec<String> =
        events.iter().filter(|event| event.kind == EventType::KeyMoved).map(|event| event.subject()).collect();
    assert_eq!(moves, ["vaults/dev/keys/k", "vaults/other/keys/k", "vaults/dev/keys/t", "vaults/other/keys/t"]);
}

#[tokio::test]
async fn a_move_is_refused_with_its_reason() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    vault(&service, "own", |new| NewVault { own_kek: true, ..new }).await;
    vault(&service, "safe", |new| NewVault { purge_protection: true, ..new }).await;
    vault(&service, "short", |new| NewVault { purge_protection: true, retention_days: 7, ..new }).await;
    let within = |vault: &str| KeyRef { vault: vault.parse().expect("a name"), ..named("k") };
    for vault in ["dev", "own", "safe"] {
        made(&service, NewKey { vault: within(vault).vault, ..ec("k") }).await;
    }
    let to = async |from: &str, to: &str| {
        reason(service.move_key(&caller(), &within(from), &within(to).vault, options()).await)
    };
    assert_eq!(to("dev", "dev").await, "INVALID_FIELD");
    assert_eq!(to("dev", "own").await, "KEK_OF_ITS_OWN");
    assert_eq!(to("own", "dev").await, "KEK_OF_ITS_OWN");
    assert_eq!(to("safe", "dev").await, "WEAKER_PURGE_PROTECTION");
    assert_eq!(to("safe", "short").await, "WEAKER_PURGE_PROTECTION");
    assert_eq!(to("dev", "safe").await, "ALREADY_EXISTS");
    assert_eq!(to("dev", "absent").await, "NOT_FOUND");
    service.delete_key(&caller(), &named("k"), options()).await.expect("deleted");
    assert_eq!(to("dev", "short").await, "DELETED");
}

#[tokio::test]
async fn counters_move_along_and_a_backup_from_before_the_move_brings_none_back() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    vault(&service, "other", |new| new).await;
    made(&service, key("a", KeySpec::Aes256)).await;
    let encrypt = async |name: &KeyRef| {
        let plaintext = b"hello".to_vec().into();
        service.encrypt(&caller(), name, Algorithm::A256Gcm, plaintext, Vec::new(), Vec::new()).await
    };
    let counted = async || {
        let newest = service.get_key(&caller(), &there("a")).await.expect("there").version.version;
        estate.store().await.usage(newest).await.expect("read").map_or(0, |usage| usage.unchecked().encryptions)
    };
    encrypt(&named("a")).await.expect("encrypted");
    let backup = backed_up(&service, "a").await;
    service.move_key(&caller(), &named("a"), &there("a").vault, options()).await.expect("moved");
    let moved = counted().await;
    assert!(moved > 0);
    encrypt(&there("a")).await.expect("encrypts there");
    assert!(counted().await > moved, "what was reserved under the old name is not used under the new");
    assert_eq!(reason(restored_by(&service, &backup.bytes, Age::Older).await), "KEY_MOVED");
    let there_backup = service.backup_key(&caller(), &there("a")).await.expect("backed up");
    gone(&service, &there("a")).await;
    assert_eq!(
        reason(restored_by(&service, &backup.bytes, Age::Older).await),
        "KEY_MOVED",
        "nobody knows here how often"
    );
    restored(&service, &there_backup).await.expect("back, there");
    // And back home.
    service.move_key(&caller(), &there("a"), &named("a").vault, options()).await.expect("moved back");
    let home = backed_up(&service, "a").await;
    gone(&service, &named("a")).await;
    restored(&service, &home).await.expect("back, here");
    encrypt(&named("a")).await.expect("goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_signs_and_rotates_meanwhile_is_served_under_one_name_and_never_under_the_old() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    vault(&service, "other", |new| new).await;
    made(&service, ec("k")).await;
    for round in 0..6 {
        let (from, to) = if round % 2 == 0 { (named("k"), there("k")) } else { (there("k"), named("k")) };
        let busy: Vec<_> = (0..4)
            .map(|n| {
                let (service, from) = (Arc::clone(&service), from.clone());
                tokio::spawn(async move {
                    loop {
                        let result = match n {
                            0 => service.rotate_key(&caller(), &from, options()).await.map(drop),
                            _ => sign(&service, &from).await.map(drop),
                        };
                        if let Err(error) = result {
                            return error.problem.reason();
                        }
                    }
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let moved = loop {
            match service.move_key(&caller(), &from, &to.vault, options()).await {
                Ok(moved) => break moved,
                Err(error) => assert_eq!(error.problem.reason(), "ETAG_MISMATCH", "it was being rotated"),
            }
        };
        // From here on, whoever asks by the old name is told that there is none.
        assert_eq!(reason(sign(&service, &from).await), "NOT_FOUND");
        assert_eq!(reason(service.get_key(&caller(), &from).await), "NOT_FOUND");
        for task in busy {
            let ended = task.await.expect("ends");
            assert!(["NOT_FOUND", "ETAG_MISMATCH"].contains(&ended), "{ended}");
        }
        assert_eq!(reason(service.get_key(&caller(), &from).await), "NOT_FOUND", "no rotation makes it anew");
        sign(&service, &to).await.expect("signs there");
        let newest = service.get_key(&caller(), &to).await.expect("there").version;
        assert_eq!(newest.version, moved.key.version.version);
    }
}

#[tokio::test]
async fn the_next_version_lives_where_it_is_said_and_the_others_stay() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    let first = made(&service, ec("k")).await;
    let rotate =
        async |name: &str, residency| service.rotate_key_to(&caller(), &named(name), Some(residency), options()).await;
    let on_token = rotate("k", Residency::Token).await.expect("rotated");
    assert_eq!(on_token.version.residency, Residency::Token);
    let next = service.rotate_key(&caller(), &named("k"), options()).await.expect("rotated");
    assert_eq!(next.version.residency, Residency::Token, "those after it live there too");
    let back = rotate("k", Residency::Wrapped).await.expect("rotated");
    assert_eq!(back.version.residency, Residency::Wrapped);
    for version in [&first, &on_token, &next, &back] {
        sign(&service, &of("k", version)).await.expect("each signs");
    }
    let Problem::Invalid { field: "residency", .. } = rotate("k", Residency::Public).await.expect_err("no").problem
    else {
        panic!("another problem")
    };
    let imports = NewKey { ops: Some(strongroom::model::KeyOps::IMPORT), ..key("kek", KeySpec::Rsa2048) };
    made(&service, imports).await;
    let Problem::Invalid { field: "residency", why } = rotate("kek", Residency::Token).await.expect_err("no").problem
    else {
        panic!("another problem")
    };
    assert!(why.contains("import"), "{why}");
    let okp = NewKey { residency: Residency::Token, ..key("ed", KeySpec::Ed25519) };
    made(&service, okp).await;
    assert_eq!(reason(rotate("ed", Residency::Wrapped).await), "UNSUPPORTED_BY_HSM");
    let spki = first.version.public.clone();
    let (spec, public) = Material::public(&spki).expect("a public key");
    let new = NewKey { residency: Residency::Public, ..key("public", spec) };
    service.import_key(&caller(), new, public, options()).await.expect("imported");
    assert_eq!(reason(rotate("public", Residency::Wrapped).await), "PUBLIC_AND_PRIVATE");
}

#[tokio::test]
async fn on_another_root_older_backups_open_no_more_and_what_is_known_of_keys_is_carried_over() {
    let (estate, recovery) = Estate::escrowed().await;
    let service = estate.open().await.expect("opens");
    made(&service, ec("k")).await;
    let before = backed_up(&service, "k").await;
    gone(&service, &named("k")).await;
    restored(&service, &before).await.expect("back");
    service.rotate_root(&caller(), recovery, options()).await.expect("prepared");
    let (mut pass, stop, mut met) = (Pass::default(), CancellationToken::new(), false);
    for _ in 0..1000 {
        service.renew_root(&mut pass, &stop).await.expect("goes on");
        match service.instance().renewal.as_ref().map(|renewal| renewal.stage) {
            None => break,
            Some(Stage::Renewing) => {
                met = true;
                assert_eq!(reason(service.backup_key(&caller(), &named("k")).await), "ROOT_IN_ROTATION");
            }
            Some(_) => {}
        }
    }
    assert!(met, "somebody asked meanwhile");
    let after = backed_up(&service, "k").await;
    gone(&service, &named("k")).await;
    assert_eq!(reason(restored_by(&service, &before.bytes, Age::Older).await), "OTHER_ROOT");
    restored(&service, &after).await.expect("back");
    sign(&service, &named("k")).await.expect("signs");
    service.close().await.expect("closes");
    drop(service);
    let service = estate.open().await.expect("the store is sound");
    sign(&service, &named("k")).await.expect("signs");
}
