//! Tokens of our own, through the service: what a repeated request gets, how many there can be, and that expired ones
//! are forgotten.

use std::{sync::Arc, time::Duration};

use strongroom::{
    bearer::Bearers,
    model::{Clock as _, ManualClock, Origin, SystemClock, Timestamp},
    service::{
        ChangeOptions, Page, Service, Settings,
        tokens::{IssuedToken, NewToken},
    },
};

use crate::{
    access::reason,
    estate::{Estate, called, caller},
    rows::shut,
};

pub(crate) const LIFE_S: i64 = 600;
/// For how long the row of an expired token stays.
pub(crate) const KEPT_S: i64 = 60;

pub(crate) fn wanted(name: &str) -> NewToken {
    NewToken { name: name.parse().expect("a name"), life: Some(Duration::from_secs(LIFE_S as u64)) }
}

/// A request of that id, for the same thing when the digest is the same.
pub(crate) fn request(id: u8, digest: u8) -> ChangeOptions {
    let id = format!("7d4f3e52-3b3f-4f3a-9f0e-0000000000{id:02x}").parse().expect("a UUID");
    ChangeOptions { request_id: Some(id), digest: [digest; 32], ..ChangeOptions::default() }
}

/// Whom the service takes the sender of that token for, or the reason why for nobody.
pub(crate) async fn believed(
    service: &Service,
    clock: &Arc<ManualClock>,
    token: &IssuedToken,
) -> Result<String, &'static str> {
    let bearers = Bearers::new(Vec::new(), Arc::clone(service.issued()), Arc::clone(clock) as _);
    let text = token.text.as_ref().expect("it was issued");
    let text = std::str::from_utf8(text.expose_secret()).expect("text");
    let found = bearers.identify(text, Origin::Local).await;
    found.map(|identity| identity.principal().to_string()).map_err(|error| error.reason())
}

pub(crate) async fn listed(service: &Service) -> usize {
    let page = Page { size: 1000, after: None, deleted: false };
    service.list_tokens(&caller(), page).await.expect("listed").items.len()
}

/// An estate with a clock that stands.
pub(crate) async fn timed() -> (Estate, Arc<ManualClock>, Arc<Service>) {
    let mut estate = Estate::new().await;
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    estate.clock = Arc::clone(&clock) as _;
    let service = estate.open().await.expect("opens");
    (estate, clock, service)
}

#[tokio::test]
async fn a_repeated_request_is_answered_with_the_same_token_signed_anew() {
    let (estate, clock, service) = timed().await;
    let first = service.create_token(&caller(), wanted("ci"), request(1, 1)).await.expect("issued");
    let again = service.create_token(&caller(), wanted("ci"), request(1, 1)).await.expect("repeated");
    assert_eq!(first.row, again.row);
    for token in [&first, &again] {
        assert_eq!(believed(&service, &clock, token).await, Ok("token:ci".to_owned()));
    }
    assert_eq!(listed(&service).await, 1);
    let other = service.create_token(&caller(), wanted("cd"), request(1, 2)).await;
    assert_eq!(reason(other), "REQUEST_ID_REUSED");
    let only_checked = ChangeOptions { validate_only: true, ..request(2, 3) };
    let checked = service.create_token(&caller(), wanted("ci"), only_checked).await.expect("could be");
    assert!(checked.text.is_none() && listed(&service).await == 1);
    let stranger = called("spiffe://test.invalid/stranger");
    let stolen = service.create_token(&stranger, wanted("ci"), request(1, 1)).await;
    assert_eq!(reason(stolen), "PERMISSION_DENIED");
    shut(service).await;
    let service = estate.open().await.expect("opens");
    let later = service.create_token(&caller(), wanted("ci"), request(1, 1)).await.expect("after a restart too");
    assert_eq!((later.row.clone(), believed(&service, &clock, &later).await), (first.row, Ok("token:ci".to_owned())));
    service.revoke_token(&caller(), later.row.id, ChangeOptions::default()).await.expect("revoked");
    let gone = service.create_token(&caller(), wanted("ci"), request(1, 1)).await;
    assert_eq!(reason(gone), "NOT_FOUND", "what was revoked is not issued again");
    assert_eq!(believed(&service, &clock, &later).await, Err("TOKEN_REVOKED"));
}

#[tokio::test]
async fn expired_tokens_are_refused_and_forgotten() {
    let (estate, clock, service) = timed().await;
    let begun = clock.now();
    let at = |seconds: i64| clock.set(Timestamp(begun.0 + seconds));
    let first = service.create_token(&caller(), wanted("first"), ChangeOptions::default()).await.expect("issued");
    at(LIFE_S / 2);
    let second = service.create_token(&caller(), wanted("second"), ChangeOptions::default()).await.expect("issued");
    at(LIFE_S - 1);
    service.tidy().await.expect("tidies");
    assert_eq!(listed(&service).await, 2);
    assert_eq!(believed(&service, &clock, &first).await, Ok("token:first".to_owned()));
    at(LIFE_S);
    assert_eq!(listed(&service).await, 1);
    assert_eq!(reason(service.get_token(&caller(), first.row.id).await), "NOT_FOUND");
    let revoked = service.revoke_token(&caller(), first.row.id, ChangeOptions::default()).await;
    assert_eq!(reason(revoked), "NOT_FOUND");
    at(LIFE_S + KEPT_S - 1);
    service.tidy().await.expect("tidies");
    assert_eq!(believed(&service, &clock, &first).await, Err("TOKEN_EXPIRED"), "and not revoked: its row is there");
    assert_eq!(service.issued().len(), 2);
    at(LIFE_S + KEPT_S);
    service.tidy().await.expect("tidies");
    assert_eq!((service.issued().len(), listed(&service).await), (1, 1));
    assert_eq!(believed(&service, &clock, &second).await, Ok("token:second".to_owned()));
    shut(service).await;
    let service = estate.open().await.expect("opens");
    assert_eq!((service.issued().len(), listed(&service).await), (1, 1), "its row is gone, and nobody misses it");
    shut(service).await;
    let log = estate.log_text();
    assert!(log.contains("\"tokens.expire\"") && log.contains("1 expired"), "{log}");
}

#[tokio::test]
async fn there_is_room_again_once_tokens_were_revoked_or_have_expired() {
    let mut estate = Estate::new().await;
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    estate.clock = Arc::clone(&clock) as _;
    estate.settings = Settings { tokens_max: 2, ..Settings::default() };
    let service = estate.open().await.expect("opens");
    let issue = async |name: &str| service.create_token(&caller(), wanted(name), ChangeOptions::default()).await;
    let first = issue("a").await.expect("issued");
    issue("b").await.expect("issued");
    let refused = issue("c").await.expect_err("there is no room");
    assert_eq!(refused.problem.reason(), "TOO_MANY_TOKENS");
    let said = refused.to_string();
    assert!(said.contains("2 tokens are in force") && said.contains("tokens.issued_max"), "{said}");
    service.revoke_token(&caller(), first.row.id, ChangeOptions::default()).await.expect("revoked");
    issue("c").await.expect("there is room again");
    assert_eq!(reason(issue("d").await), "TOO_MANY_TOKENS");
    clock.set(Timestamp(clock.now().0 + LIFE_S + KEPT_S));
    service.tidy().await.expect("tidies");
    issue("d").await.expect("and again");
    assert_eq!(listed(&service).await, 1);
}
