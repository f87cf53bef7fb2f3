//! Rotation on demand: what the next version takes over, what stays with those before, and what is refused.

use std::sync::Arc;

use strongroom::{
    model::{Algorithm, KeyOps, KeySpec, Residency, Tags, Timestamp},
    service::{ChangeOptions, KeyRef, KeyView, NewKey, Page, Problem, Service, VersionPatch},
};
use strongroom_hsm::Material;

use crate::{
    ec,
    estate::{Estate, caller, key},
    named,
};

const DIGEST: [u8; 32] = [7; 32];

async fn rotate(service: &Arc<Service>, name: &str) -> Result<KeyView, Problem> {
    service.rotate_key(&caller(), &named(name), ChangeOptions::default()).await.map_err(|error| error.problem)
}

async fn versions(service: &Service, name: &str) -> usize {
    let page = Page { size: 100, after: None, deleted: false };
    service.list_versions(&caller(), &named(name), page).await.expect("listed").0.len()
}

fn reason(problem: Result<KeyView, Problem>) -> &'static str {
    match problem {
        Err(Problem::Precondition { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_next_version_is_as_the_newest_but_for_its_material_and_dates() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    let tags = Tags::new([("team".to_owned(), "red".to_owned())]).expect("tags");
    let new = NewKey {
        ops: Some(KeyOps::SIGN.union(KeyOps::VERIFY)),
        expires: Some(Timestamp(4_000_000_000)),
        tags: tags.clone(),
        residency: Residency::Token,
        ..ec("k")
    };
    let first = service.create_key(&caller(), new, ChangeOptions::default()).await.expect("made");
    let algorithm = Algorithm::Es256;
    let old = service.sign(&caller(), &named("k"), algorithm, DIGEST.to_vec().into()).await.expect("signs");
    // It is disabled, and its successor is not.
    let off = VersionPatch { enabled: Some(false), ..VersionPatch::default() };
    service.update_version(&caller(), &named("k"), off, ChangeOptions::default()).await.expect("off");
    let second = rotate(&service, "k").await.expect("rotated");
    assert_ne!(second.version.version, first.version.version);
    assert_ne!(second.version.public, first.version.public);
    assert_eq!(second.key.current, second.version.version);
    let row = &second.version;
    assert_eq!(
        (row.ordinal, row.spec, row.residency, row.ops),
        (2, KeySpec::P256, Residency::Token, first.version.ops)
    );
    assert_eq!((&row.tags, row.enabled, row.not_before, row.expires), (&tags, true, None, None));
    // Who names no version has the new one; the old one verifies what it signed.
    let signed = service.sign(&caller(), &named("k"), algorithm, DIGEST.to_vec().into()).await.expect("signs");
    assert_eq!(signed.version, second.version);
    let on = VersionPatch { enabled: Some(true), ..VersionPatch::default() };
    let before = KeyRef { version: Some(first.version.version), ..named("k") };
    service.update_version(&caller(), &before, on, ChangeOptions::default()).await.expect("on");
    for (name, signature, right) in [(&before, &old.signature, true), (&named("k"), &old.signature, false)] {
        let digest = DIGEST.to_vec().into();
        let (_, verdict) =
            service.verify(&caller(), name, algorithm, digest, signature.clone()).await.expect("verifies");
        assert_eq!(verdict, right);
    }
    service.close().await.expect("closes");
    assert!(estate.log_text().contains("keys.rotate"));
}

#[tokio::test]
async fn what_cannot_be_rotated_is_refused_and_stays_as_it_is() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    assert!(matches!(rotate(&service, "none").await, Err(Problem::NotFound { .. })));
    service.create_key(&caller(), ec("gone"), ChangeOptions::default()).await.expect("made");
    service.delete_key(&caller(), &named("gone"), ChangeOptions::default()).await.expect("deleted");
    assert!(matches!(rotate(&service, "gone").await, Err(Problem::SoftDeleted { .. })));
    let made = service.create_key(&caller(), ec("own"), ChangeOptions::default()).await.expect("made");
    let public = Material::public(&made.version.public).expect("a public key").1;
    let new = NewKey { residency: Residency::Public, ..ec("theirs") };
    service.import_key(&caller(), new, public, ChangeOptions::default()).await.expect("imported");
    assert_eq!(reason(rotate(&service, "theirs").await), "PUBLIC_AND_PRIVATE");
    let stale = ChangeOptions { etag: Some("0123456789abcdef".to_owned()), ..ChangeOptions::default() };
    let refused = service.rotate_key(&caller(), &named("own"), stale).await.expect_err("another state");
    assert!(matches!(refused.problem, Problem::Changed { .. }));
    let dry = ChangeOptions { validate_only: true, ..ChangeOptions::default() };
    service.rotate_key(&caller(), &named("own"), dry).await.expect("would be");
    for name in ["own", "theirs"] {
        assert_eq!(versions(&service, name).await, 1, "{name}");
    }
}

#[tokio::test]
async fn a_repeated_rotation_is_one_and_of_many_at_once_each_is_made_or_refused() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    service.create_key(&caller(), key("k", KeySpec::Aes256), ChangeOptions::default()).await.expect("made");
    let options = || ChangeOptions {
        request_id: Some("7d4f3e52-3b3f-4f3a-9f0e-000000000004".parse().expect("a UUID")),
        ..ChangeOptions::default()
    };
    let (who, name) = (caller(), named("k"));
    let same = futures_util::future::join_all((0..4).map(|_| service.rotate_key(&who, &name, options()))).await;
    let mut made: Vec<_> = same.into_iter().map(|view| view.expect("answered").version.version).collect();
    made.dedup();
    assert_eq!((made.len(), versions(&service, "k").await), (1, 2));
    let all = futures_util::future::join_all((0..6).map(|_| rotate(&service, "k"))).await;
    let rotated = all.iter().filter(|result| result.is_ok()).count();
    assert!(rotated > 0);
    for refused in all.into_iter().filter_map(Result::err) {
        assert!(matches!(refused, Problem::Changed { .. }), "{refused:?}");
    }
    assert_eq!(versions(&service, "k").await, 2 + rotated);
}
