//! The service over a real SoftHSM, SQLite and log, without a network: what the store may be made to say,
//! and what is left after an unfinished change.

mod access;
mod backup;
mod batch;
mod contract;
mod drain;
#[allow(dead_code, reason = "shared with benches and tests/memory")]
mod estate;
mod exports;
mod imports;
mod keks;
mod limits;
mod log_key;
mod own_keys;
mod purge;
mod roles;
mod root;
mod rotate;
mod rotation;
mod rows;
mod secrets;
mod tokens;
mod uses;

use estate::{Estate, caller, key};
use strongroom::service::{KeyRef, NewKey};

/// A name in the vault of every estate.
fn named(name: &str) -> KeyRef {
    KeyRef { vault: "dev".parse().expect("right"), key: name.parse().expect("right"), version: None }
}

fn ec(name: &str) -> NewKey {
    key(name, strongroom::model::KeySpec::P256)
}

#[tokio::test]
async fn a_signature_is_made_in_a_worker_and_recorded() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    let view = service.create_key(&caller(), ec("release"), Default::default()).await.expect("made");
    let algorithm = strongroom::model::Algorithm::Es256;
    let signed = service.sign(&caller(), &named("release"), algorithm, vec![7; 32].into()).await.expect("signs");
    assert_eq!(signed.version, view.version);
    let (_, right) = service
        .verify(&caller(), &named("release"), algorithm, vec![7; 32].into(), signed.signature)
        .await
        .expect("verifies");
    assert!(right);
    service.close().await.expect("closes");
    let log = estate.log_text();
    for wanted in ["keys.create", "keys.sign", "keys.verify", "\"residency\":\"wrapped\""] {
        assert!(log.contains(wanted), "{wanted} in {log}");
    }
}

#[tokio::test]
async fn two_requests_of_one_id_at_once_make_one_version() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    let options = || strongroom::service::ChangeOptions {
        request_id: Some("7d4f3e52-3b3f-4f3a-9f0e-000000000002".parse().expect("a UUID")),
        ..Default::default()
    };
    let who = caller();
    let requests = (0..8).map(|_| service.create_key(&who, ec("once"), options()));
    let made = futures_util::future::join_all(requests).await;
    let versions: Vec<_> = made.into_iter().map(|view| view.expect("answered").version.version).collect();
    assert!(versions.iter().all(|version| *version == versions[0]), "{versions:?}");
    let page = strongroom::service::Page { size: 10, after: None, deleted: false };
    let listed = service.list_versions(&who, &named("once"), page).await.expect("listed");
    assert_eq!(listed.0.len(), 1);
    // The scope is still known: other keys are made and used.
    service.create_key(&who, ec("next"), Default::default()).await.expect("made");
    let algorithm = strongroom::model::Algorithm::Es256;
    service.sign(&who, &named("next"), algorithm, vec![7; 32].into()).await.expect("signs");
}

#[tokio::test]
async fn tags_and_new_versions_do_not_disturb_work_under_way() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    service.create_key(&caller(), ec("busy"), Default::default()).await.expect("made");
    let algorithm = strongroom::model::Algorithm::Es256;
    let signing = async {
        for _ in 0..300 {
            service.sign(&caller(), &named("busy"), algorithm, vec![7; 32].into()).await.expect("signs");
        }
    };
    let changing = async {
        for _ in 0..10 {
            service.create_key(&caller(), ec("busy"), Default::default()).await.expect("rotated");
        }
    };
    tokio::join!(signing, changing);
}
