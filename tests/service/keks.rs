//! A vault's key-encryption key rotates: what is there goes on, what comes is under the new one, and the old ones go when
//! nothing is under them, and not before.

use std::sync::Arc;

use strongroom::{
    model::{Algorithm, KeySpec, ManualClock, VaultName, VaultRow, VersionId},
    service::{ChangeOptions, KeyRef, NewKey, Problem, Service, ServiceError, retired_keks::RETIRED_KEKS_MAX},
};

use strongroom_hsm::Material;

use crate::{
    access::reason,
    ec,
    estate::{Estate, called, caller, key},
    purge::{on_token, with_own_kek},
    rotation::opened,
    rows::{meddle, shut},
};

/// For how long a retired one is left alone.
const LEFT_ALONE_S: u32 = 900;

fn own() -> VaultName {
    "own".parse().expect("right")
}

fn of(key: &str) -> KeyRef {
    KeyRef { vault: own(), key: key.parse().expect("right"), version: None }
}

fn version(key: &str, version: VersionId) -> KeyRef {
    KeyRef { version: Some(version), ..of(key) }
}

async fn rotate(service: &Arc<Service>) -> Arc<VaultRow> {
    service.rotate_vault_kek(&caller(), &own(), ChangeOptions::default()).await.expect("rotated")
}

async fn create(service: &Arc<Service>, name: &str) -> VersionId {
    made(service, &ec(name), None).await
}

/// By a clock that leaps a quarter of an hour, the KEK of a key that is being made may be gone when it is made: that is refused,
/// and done again.
async fn made(service: &Arc<Service>, new: &NewKey, secret: Option<[u8; 32]>) -> VersionId {
    for _ in 0..20 {
        let (new, options) = (NewKey { vault: own(), ..new.clone() }, ChangeOptions::default());
        let result = match secret {
            Some(secret) => service.import_key(&caller(), new, Material::Secret(secret.to_vec().into()), options).await,
            None => service.create_key(&caller(), new, options).await,
        };
        match result {
            Err(ServiceError { problem: Problem::Changed { .. }, .. }) => {}
            result => return result.expect("made").version.version,
        }
    }
    panic!("always under a KEK that was gone")
}

async fn sign(service: &Arc<Service>, name: &KeyRef) {
    service.sign(&caller(), name, Algorithm::Es256, vec![7; 32].into()).await.expect("signs");
}

/// Its KEKs, the present one last.
async fn keks(service: &Arc<Service>) -> Vec<VersionId> {
    service.get_vault(&caller(), &own()).await.expect("shown").kek_ids().collect()
}

async fn tidy(service: &Arc<Service>, clock: &ManualClock) {
    clock.pass(LEFT_ALONE_S);
    service.destroy_retired_keks().await.expect("tidied");
}

async fn with_vault() -> (Estate, Arc<ManualClock>, Arc<Service>, usize) {
    let (estate, clock, service) = opened().await;
    let before = on_token(&estate);
    service.create_vault(&caller(), with_own_kek("own"), ChangeOptions::default()).await.expect("made");
    (estate, clock, service, before)
}

#[tokio::test]
async fn the_old_ones_go_when_nothing_is_under_them() {
    let (estate, clock, service, before) = with_vault().await;
    let first = create(&service, "k").await;
    let rotated = rotate(&service).await;
    assert!(rotated.kek_since.is_some() && rotated.retired_keks.len() == 1);
    sign(&service, &of("k")).await;
    let second = service.rotate_key(&caller(), &of("k"), ChangeOptions::default()).await.expect("rotated").version;
    assert_eq!(second.kek, rotated.kek_id());
    rotate(&service).await;
    assert_eq!(on_token(&estate), before + 3);
    for _ in 0..2 {
        for id in [first, second.version] {
            sign(&service, &version("k", id)).await;
        }
        tidy(&service, &clock).await;
        assert_eq!(keks(&service).await.len(), 3, "something is under each");
    }
    shut(service).await;
    let service = estate.open().await.expect("opens");
    sign(&service, &version("k", first)).await;
    // The last version under the first one goes.
    let third = service.rotate_key(&caller(), &of("k"), ChangeOptions::default()).await.expect("rotated").version;
    let old = version("k", first);
    service.delete_version(&caller(), &old, ChangeOptions::default()).await.expect("deleted");
    tidy(&service, &clock).await;
    assert_eq!(keks(&service).await.len(), 3, "it can be brought back");
    service.purge_key(&caller(), &old, ChangeOptions::default()).await.expect("purged");
    tidy(&service, &clock).await;
    assert_eq!((keks(&service).await.len(), on_token(&estate)), (2, before + 2));
    for id in [second.version, third.version] {
        sign(&service, &version("k", id)).await;
    }
    // And with the key the second; the present one stays without any.
    service.delete_key(&caller(), &of("k"), ChangeOptions::default()).await.expect("deleted");
    service.purge_key(&caller(), &of("k"), ChangeOptions::default()).await.expect("purged");
    tidy(&service, &clock).await;
    assert_eq!((keks(&service).await.len(), on_token(&estate)), (1, before + 1));
    create(&service, "again").await;
    sign(&service, &of("again")).await;
    shut(service).await;
    estate.open().await.expect("opens again");
    assert!(estate.log_text().matches("retired, and nothing is under them; token objects:").count() >= 2);
}

#[tokio::test]
async fn one_that_is_retired_is_left_alone_for_a_while() {
    let (estate, clock, service, before) = with_vault().await;
    rotate(&service).await;
    service.destroy_retired_keks().await.expect("tidied");
    clock.pass(LEFT_ALONE_S - 1);
    service.destroy_retired_keks().await.expect("tidied");
    assert_eq!(on_token(&estate), before + 2);
    clock.pass(1);
    service.destroy_retired_keks().await.expect("tidied");
    assert_eq!((keks(&service).await.len(), on_token(&estate)), (1, before + 1));
}

#[tokio::test]
async fn a_purge_takes_all_of_them() {
    let (estate, _, service, before) = with_vault().await;
    for n in 0..3 {
        create(&service, &format!("k{n}")).await;
        rotate(&service).await;
    }
    assert_eq!(on_token(&estate), before + 4);
    service.delete_vault(&caller(), &own(), ChangeOptions::default()).await.expect("deleted");
    let refused = service.rotate_vault_kek(&caller(), &own(), ChangeOptions::default()).await;
    assert_eq!(reason(refused), "DELETED");
    assert!(service.purge_vault(&caller(), &own(), ChangeOptions::default()).await.expect("purged"));
    assert_eq!(on_token(&estate), before);
    shut(service).await;
    estate.open().await.expect("opens again");
}

#[tokio::test]
async fn what_cannot_be_rotated_is_refused_and_leaves_nothing() {
    let (estate, _, service, before) = with_vault().await;
    let dev = "dev".parse().expect("right");
    let refused = service.rotate_vault_kek(&caller(), &dev, ChangeOptions::default()).await;
    assert_eq!(reason(refused), "NO_OWN_KEK");
    let stranger = called("spiffe://test.invalid/stranger");
    assert_eq!(
        reason(service.rotate_vault_kek(&stranger, &own(), ChangeOptions::default()).await),
        "PERMISSION_DENIED"
    );
    let only = ChangeOptions { validate_only: true, ..ChangeOptions::default() };
    service.rotate_vault_kek(&caller(), &own(), only).await.expect("it could be");
    let stale = ChangeOptions { etag: Some("0".to_owned()), ..ChangeOptions::default() };
    assert_eq!(reason(service.rotate_vault_kek(&caller(), &own(), stale).await), "ETAG_MISMATCH");
    assert_eq!(on_token(&estate), before + 1);
    for _ in 0..RETIRED_KEKS_MAX {
        rotate(&service).await;
    }
    let refused = service.rotate_vault_kek(&caller(), &own(), ChangeOptions::default()).await;
    assert_eq!(reason(refused), "TOO_MANY_RETIRED_KEKS");
    assert_eq!(on_token(&estate), before + 1 + RETIRED_KEKS_MAX);
}

#[tokio::test]
async fn keys_are_made_and_used_while_it_rotates() {
    let (estate, clock, service, before) = with_vault().await;
    create(&service, "k").await;
    let making: Vec<_> = (0..4)
        .map(|n| {
            let service = Arc::clone(&service);
            tokio::spawn(async move {
                for m in 0..8 {
                    create(&service, &format!("n{n}-{m}")).await;
                    let aes = key(&format!("i{n}-{m}"), KeySpec::Aes256);
                    made(&service, &aes, Some([0x5a; 32])).await;
                    sign(&service, &of("k")).await;
                }
            })
        })
        .collect();
    for _ in 0..6 {
        rotate(&service).await;
        tidy(&service, &clock).await;
    }
    for task in making {
        task.await.expect("none failed");
    }
    tidy(&service, &clock).await;
    assert_eq!(on_token(&estate), before + keks(&service).await.len());
    shut(service).await;
    let service = estate.open().await.expect("opens");
    for n in 0..4 {
        for m in 0..8 {
            sign(&service, &of(&format!("n{n}-{m}"))).await;
        }
    }
}

#[tokio::test]
async fn a_database_that_denies_what_is_under_one_does_not_have_it_destroyed() {
    let (estate, clock, service, before) = with_vault().await;
    create(&service, "k").await;
    rotate(&service).await;
    meddle(&estate, "UPDATE versions SET kek = NULL WHERE kek IS NOT NULL").await;
    tidy(&service, &clock).await;
    assert_eq!((keks(&service).await.len(), on_token(&estate)), (2, before + 2));
    meddle(&estate, "DELETE FROM versions").await;
    tidy(&service, &clock).await;
    assert_eq!((keks(&service).await.len(), on_token(&estate)), (2, before + 2), "nor one that takes the row away");
}
