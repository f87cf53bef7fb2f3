//! The service's own keys, through the service: who signs after a rotation, what stays good, and what goes when.

use std::sync::Arc;

use strongroom::{
    model::{Clock as _, Timestamp},
    service::{
        ChangeOptions, Service,
        own_keys::{ISSUER_KEYS_MAX, IssuerRotated, OldKeys},
        tokens::IssuedToken,
    },
};

use crate::{
    access::reason,
    estate::{called, caller},
    rows::shut,
    tokens::{KEPT_S, LIFE_S, believed, listed, request, timed, wanted},
};

/// For how long after its successor an old key may still have signed.
const SIGNS_ON_S: i64 = 900;

async fn issue(service: &Arc<Service>, name: &str) -> IssuedToken {
    service.create_token(&caller(), wanted(name), ChangeOptions::default()).await.expect("issued")
}

async fn rotate(service: &Arc<Service>, old: OldKeys) -> IssuerRotated {
    service.rotate_issuer_key(&caller(), old, ChangeOptions::default()).await.expect("rotated")
}

/// The `kid` in a token's header.
fn kid(token: &IssuedToken) -> String {
    use base64ct::Encoding as _;
    let text = token.text.as_ref().expect("issued").expose_secret();
    let header = std::str::from_utf8(text).expect("text").split('.').next().expect("a header");
    let header = base64ct::Base64UrlUnpadded::decode_vec(header).expect("base64url");
    let header: serde_json::Value = serde_json::from_slice(&header).expect("JSON");
    header["kid"].as_str().expect("a kid").to_owned()
}

/// The keys by id, oldest first; the last one signs.
async fn keys(service: &Arc<Service>) -> Vec<String> {
    let found = service.own_keys(&caller()).await.expect("shown").issuer_keys;
    let signs: Vec<bool> = found.iter().map(|key| key.signs).collect();
    let wanted: Vec<bool> = (1..=found.len()).map(|n| n == found.len()).collect();
    assert_eq!(signs, wanted);
    let ids: Vec<String> = found.iter().map(|key| key.id.to_string()).collect();
    let published = service.issued().key_set();
    assert!(ids.iter().all(|id| published.contains(id)) && published.matches("\"kid\"").count() == ids.len());
    ids
}

#[tokio::test]
async fn tokens_of_the_old_key_are_good_until_they_expire_and_then_it_goes() {
    let (estate, clock, service) = timed().await;
    let begun = clock.now();
    let at = |seconds: i64| clock.set(Timestamp(begun.0 + seconds));
    let old = issue(&service, "old").await;
    // Several in one second of a clock that stands: the last one is the newest all the same.
    rotate(&service, OldKeys::Kept).await;
    let rotated = rotate(&service, OldKeys::Kept).await;
    assert!(rotated.removed.is_empty() && rotated.revoked_tokens == 0);
    let new = issue(&service, "new").await;
    assert_eq!(Some(kid(&new)), rotated.key.map(|key| key.id.to_string()));
    assert_eq!(keys(&service).await, [kid(&old), keys(&service).await[1].clone(), kid(&new)]);
    service.tidy().await.expect("tidies");
    for (token, name) in [(&old, "token:old"), (&new, "token:new")] {
        assert_eq!(believed(&service, &clock, token).await, Ok(name.to_owned()));
    }
    shut(service).await;
    let service = estate.open().await.expect("opens");
    assert_eq!(believed(&service, &clock, &old).await, Ok("token:old".to_owned()), "after a restart too");
    // Its tokens have ended, but one that began before the rotation could still be on its way.
    at(LIFE_S + KEPT_S);
    service.tidy().await.expect("tidies");
    assert_eq!((listed(&service).await, keys(&service).await.len()), (0, 3));
    at(SIGNS_ON_S + 2);
    let young = issue(&service, "young").await;
    service.tidy().await.expect("tidies");
    assert_eq!(keys(&service).await, [kid(&new)], "the newest stays, with tokens or without");
    assert_eq!(believed(&service, &clock, &young).await, Ok("token:young".to_owned()));
    at(10 * SIGNS_ON_S);
    service.tidy().await.expect("tidies");
    assert_eq!(keys(&service).await, [kid(&new)]);
    shut(service).await;
    let log = estate.log_text();
    assert!(log.contains("\"tokens.forgetKey\"") && log.matches("\"ownKeys.rotateIssuer\"").count() == 4, "{log}");
    let service = estate.open().await.expect("opens without the rows that went");
    assert_eq!(kid(&issue(&service, "last").await), kid(&new));
}

#[tokio::test]
async fn a_token_keeps_the_key_that_may_have_signed_it() {
    let (_estate, clock, service) = timed().await;
    let begun = clock.now();
    issue(&service, "old").await;
    rotate(&service, OldKeys::Kept).await;
    clock.set(Timestamp(begun.0 + SIGNS_ON_S));
    issue(&service, "on-its-way").await;
    clock.set(Timestamp(begun.0 + LIFE_S + SIGNS_ON_S));
    service.tidy().await.expect("tidies");
    assert_eq!(keys(&service).await.len(), 2, "the row is there");
    clock.set(Timestamp(begun.0 + LIFE_S + SIGNS_ON_S + KEPT_S));
    service.tidy().await.expect("tidies");
    assert_eq!(keys(&service).await.len(), 1);
}

#[tokio::test]
async fn revoking_takes_the_old_keys_and_every_token() {
    let (estate, clock, service) = timed().await;
    let first = issue(&service, "first").await;
    rotate(&service, OldKeys::Kept).await;
    let second = issue(&service, "second").await;
    let asked = ChangeOptions { validate_only: true, ..request(1, 1) };
    let checked = service.rotate_issuer_key(&caller(), OldKeys::Revoked, asked).await.expect("could be");
    assert!(checked.key.is_none() && checked.removed.len() == 2 && checked.revoked_tokens == 2);
    assert_eq!(listed(&service).await, 2, "it was only asked");
    let rotated = service.rotate_issuer_key(&caller(), OldKeys::Revoked, request(1, 1)).await.expect("rotated");
    assert_eq!((rotated.removed.len(), rotated.revoked_tokens), (2, 2));
    for token in [&first, &second] {
        assert!(believed(&service, &clock, token).await.is_err());
    }
    assert_eq!((listed(&service).await, service.issued().len()), (0, 0));
    let third = issue(&service, "third").await;
    assert_eq!(keys(&service).await, [kid(&third)]);
    let again = service.rotate_issuer_key(&caller(), OldKeys::Revoked, request(1, 1)).await.expect("repeated");
    assert_eq!(again.key.map(|key| key.id.to_string()), Some(kid(&third)));
    assert_eq!(believed(&service, &clock, &third).await, Ok("token:third".to_owned()), "nothing was done twice");
    shut(service).await;
    let service = estate.open().await.expect("opens");
    assert!(believed(&service, &clock, &first).await.is_err());
    assert_eq!(believed(&service, &clock, &third).await, Ok("token:third".to_owned()));
}

#[tokio::test]
async fn the_first_key_can_be_made_by_a_rotation_and_there_are_so_many_at_most() {
    let (_estate, _clock, service) = timed().await;
    assert!(service.own_keys(&caller()).await.expect("shown").issuer_keys.is_empty());
    for _ in 0..ISSUER_KEYS_MAX {
        rotate(&service, OldKeys::Kept).await;
    }
    let refused = service.rotate_issuer_key(&caller(), OldKeys::Kept, ChangeOptions::default()).await;
    assert_eq!(reason(refused), "TOO_MANY_ISSUER_KEYS");
    assert_eq!(rotate(&service, OldKeys::Revoked).await.removed.len(), ISSUER_KEYS_MAX);
    let stranger = called("spiffe://test.invalid/stranger");
    let refused = service.rotate_issuer_key(&stranger, OldKeys::Kept, ChangeOptions::default()).await;
    assert_eq!(reason(refused), "PERMISSION_DENIED");
    assert_eq!(reason(service.own_keys(&stranger).await), "PERMISSION_DENIED");
}

#[tokio::test]
async fn what_is_issued_while_keys_change_is_believed() {
    let (_estate, clock, service) = timed().await;
    issue(&service, "first").await;
    for old in [OldKeys::Kept, OldKeys::Revoked] {
        let issuing: Vec<_> = (0..20)
            .map(|n| {
                let service = Arc::clone(&service);
                tokio::spawn(async move { issue(&service, &format!("n{n}")).await })
            })
            .collect();
        rotate(&service, old).await;
        let live = service.issued().key_set();
        for task in issuing {
            let token = task.await.expect("ends");
            let believed = believed(&service, &clock, &token).await;
            // Revoked are those that were there before; one that comes later is not signed by a key that is gone.
            let is_listed = service.get_token(&caller(), token.row.id).await.is_ok();
            assert_eq!(believed.is_ok(), is_listed);
            assert!(old == OldKeys::Revoked || is_listed);
            assert!(!is_listed || live.contains(&kid(&token)));
        }
    }
}
