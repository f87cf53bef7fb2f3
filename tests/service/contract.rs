//! Azure's rules of a key's life where several parts keep them together: each a test by its name.

use std::sync::Arc;

use strongroom::{
    model::{
        Algorithm, EventRow, EventType, KeyOps, KeySpec, LifetimeActionType, MaxStaleness, NetworkRules, Tags,
        Timestamp, VaultAuthorization,
    },
    service::{
        ChangeOptions, KeyRef, NewKey, NewVault, Problem, Service, ServiceError, VaultPatch, VersionPatch,
        events::{EventFilter, From},
        rotation::Round,
    },
};
use tokio_util::sync::CancellationToken;

use crate::{
    ec,
    estate::{caller, key},
    named,
    rotation::{before_expiry, opened, policy, rotate_after},
};

/// 2027-01-01T00:00:00Z.
const START: i64 = 1_798_761_600;
const DAY_S: i64 = 86_400;

const fn day(days: i64) -> Timestamp {
    Timestamp(START + days * DAY_S)
}

fn reason<T>(result: Result<T, ServiceError>) -> &'static str {
    result.map(drop).expect_err("refused").problem.reason()
}

/// The field that is refused.
fn field<T>(result: Result<T, ServiceError>) -> &'static str {
    match result.map(drop).expect_err("refused").problem {
        Problem::Invalid { field, .. } => field,
        other => panic!("{other:?}"),
    }
}

async fn sign(service: &Arc<Service>, name: &KeyRef) -> Result<(), ServiceError> {
    service.sign(&caller(), name, Algorithm::Es256, vec![7; 32].into()).await.map(drop)
}

async fn change(service: &Arc<Service>, name: &KeyRef, patch: VersionPatch) -> Result<(), ServiceError> {
    service.update_version(&caller(), name, patch, ChangeOptions::default()).await.map(drop)
}

async fn pass(service: &Arc<Service>) {
    let mut round = Round::default();
    for _ in 0..2 {
        service.do_what_is_due(&mut round, &CancellationToken::new()).await.expect("done");
    }
}

/// All events of one type.
async fn told(service: &Arc<Service>, kind: EventType) -> Vec<EventRow> {
    let filter = EventFilter { vault: None, types: vec![kind] };
    let mut watch = service.watch_events(&caller(), filter, From::Beginning).await.expect("begins");
    let mut events = Vec::new();
    loop {
        let portion = watch.more().await.expect("told");
        events.extend(portion.events);
        if portion.is_all {
            return events;
        }
    }
}

#[tokio::test]
async fn a_call_without_a_version_means_the_newest_and_never_falls_back() {
    let (_estate, clock, service) = opened().await;
    let first = service.create_key(&caller(), ec("k"), ChangeOptions::default()).await.expect("made");
    service.rotate_key(&caller(), &named("k"), ChangeOptions::default()).await.expect("rotated");
    let before = KeyRef { version: Some(first.version.version), ..named("k") };
    sign(&service, &named("k")).await.expect("signs");
    for (patch, wanted) in [
        (VersionPatch { enabled: Some(false), ..VersionPatch::default() }, "KEY_DISABLED"),
        (
            VersionPatch { enabled: Some(true), not_before: Some(Some(day(1))), ..VersionPatch::default() },
            "KEY_NOT_YET_VALID",
        ),
        (
            VersionPatch { not_before: Some(None), expires: Some(Some(day(2))), ..VersionPatch::default() },
            "KEY_EXPIRED",
        ),
    ] {
        change(&service, &named("k"), patch).await.expect("changed");
        if wanted == "KEY_EXPIRED" {
            clock.set(day(3));
        }
        assert_eq!(reason(sign(&service, &named("k")).await), wanted);
        sign(&service, &before).await.expect("the one before is named, and signs");
    }
}

#[tokio::test]
async fn an_expiry_is_after_the_time_from_which_it_is_valid() {
    let (_estate, _clock, service) = opened().await;
    let create = |name, not_before, expires| {
        let new = NewKey { not_before, expires, ..ec(name) };
        let (service, caller) = (Arc::clone(&service), caller());
        async move { service.create_key(&caller, new, ChangeOptions::default()).await.map(drop) }
    };
    let second = |n| Some(Timestamp(day(1).0 + n));
    for wrong in [0, -1] {
        assert_eq!(field(create("k", second(0), second(wrong)).await), "version.expire_time");
    }
    create("k", second(0), second(1)).await.expect("made");
    // Each of the two, with the other as it is.
    for patch in [
        VersionPatch { expires: Some(second(0)), ..VersionPatch::default() },
        VersionPatch { not_before: Some(second(1)), ..VersionPatch::default() },
    ] {
        assert_eq!(field(change(&service, &named("k"), patch).await), "version.expire_time");
    }
    let later = VersionPatch { not_before: Some(second(1)), expires: Some(second(2)), ..VersionPatch::default() };
    change(&service, &named("k"), later).await.expect("changed together");
}

#[tokio::test]
async fn encrypting_and_wrapping_are_two_operations_of_an_rsa_key() {
    let (_estate, _clock, service) = opened().await;
    for (name, ops) in [("encrypts", KeyOps::ENCRYPT), ("wraps", KeyOps::WRAP_KEY)] {
        let new = NewKey { ops: Some(ops), ..key(name, KeySpec::Rsa2048) };
        service.create_key(&caller(), new, ChangeOptions::default()).await.expect("made");
    }
    let algorithm = Algorithm::RsaOaep256;
    let (who, plain) = (caller(), vec![7; 32]);
    for (name, encrypts) in [("encrypts", true), ("wraps", false)] {
        let data = || plain.clone().into();
        let encrypted = service.encrypt(&who, &named(name), algorithm, data(), Vec::new(), Vec::new()).await.map(drop);
        let wrapped = service.wrap_key(&who, &named(name), algorithm, data()).await.map(drop);
        let (may, may_not) = if encrypts { (encrypted, wrapped) } else { (wrapped, encrypted) };
        may.expect("may");
        assert_eq!(reason(may_not), "OPERATION_NOT_PERMITTED");
    }
}

#[tokio::test]
async fn the_expiry_of_the_policy_is_for_versions_to_come_also_on_demand() {
    let (_estate, clock, service) = opened().await;
    let first = service.create_key(&caller(), ec("k"), ChangeOptions::default()).await.expect("made");
    let wanted = policy(&[rotate_after("P1M")], Some("P1Y"));
    service.update_rotation_policy(&caller(), &named("k"), wanted, ChangeOptions::default()).await.expect("set");
    clock.set(day(3));
    let second = service.rotate_key(&caller(), &named("k"), ChangeOptions::default()).await.expect("rotated");
    let year = "P1Y".parse::<strongroom::model::CalendarDuration>().expect("a duration");
    assert_eq!(second.version.expires, Some(year.after(day(3))));
    let before = KeyRef { version: Some(first.version.version), ..named("k") };
    assert_eq!(service.get_key(&caller(), &before).await.expect("shown").version.expires, None);
}

#[tokio::test]
async fn to_rotate_before_an_expiry_there_must_be_one() {
    let (_estate, _clock, service) = opened().await;
    service.create_key(&caller(), ec("k"), ChangeOptions::default()).await.expect("made");
    let wanted = || policy(&[before_expiry("P10D", LifetimeActionType::Rotate)], Some("P60D"));
    let set = |policy| {
        let (service, caller) = (Arc::clone(&service), caller());
        async move { service.update_rotation_policy(&caller, &named("k"), policy, ChangeOptions::default()).await }
    };
    let refused = set(wanted()).await.map(drop).expect_err("refused").problem;
    assert!(matches!(&refused, Problem::Invalid { why, .. } if why.contains("no expiry")), "{refused:?}");
    let expires = VersionPatch { expires: Some(Some(day(60))), ..VersionPatch::default() };
    change(&service, &named("k"), expires).await.expect("changed");
    set(wanted()).await.expect("set");
}

#[tokio::test]
async fn events_of_an_expiry_say_which_version_and_when() {
    let (_estate, clock, service) = opened().await;
    let new = NewKey { expires: Some(day(100)), ..ec("k") };
    let made = service.create_key(&caller(), new, ChangeOptions::default()).await.expect("made");
    let wanted = policy(&[before_expiry("P10D", LifetimeActionType::Notify)], Some("P1Y"));
    service.update_rotation_policy(&caller(), &named("k"), wanted, ChangeOptions::default()).await.expect("set");
    for (days, near, expired) in [(89, 0, 0), (91, 1, 0), (99, 1, 0), (101, 1, 1), (150, 1, 1)] {
        clock.set(day(days));
        pass(&service).await;
        for (kind, count) in [(EventType::KeyNearExpiry, near), (EventType::KeyExpired, expired)] {
            let events = told(&service, kind).await;
            assert_eq!(events.len(), count, "{kind:?} after {days} days");
            for event in events {
                assert_eq!((event.version, event.due), (Some(made.version.version), Some(day(100))));
            }
        }
    }
}

#[tokio::test]
async fn without_a_policy_it_is_told_thirty_days_before_an_expiry_and_at_it() {
    let (_estate, clock, service) = opened().await;
    let new = NewKey { expires: Some(day(100)), ..ec("k") };
    service.create_key(&caller(), new, ChangeOptions::default()).await.expect("made");
    service.create_key(&caller(), ec("forever"), ChangeOptions::default()).await.expect("made");
    for (days, near, expired) in [(69, 0, 0), (71, 1, 0), (99, 1, 0), (101, 1, 1), (150, 1, 1)] {
        clock.set(day(days));
        pass(&service).await;
        let counts =
            (told(&service, EventType::KeyNearExpiry).await.len(), told(&service, EventType::KeyExpired).await.len());
        assert_eq!(counts, (near, expired), "after {days} days");
    }
    // Another expiry is another notice.
    let later = VersionPatch { expires: Some(Some(day(200))), ..VersionPatch::default() };
    change(&service, &named("k"), later).await.expect("changed");
    clock.set(day(171));
    pass(&service).await;
    assert_eq!(told(&service, EventType::KeyNearExpiry).await.len(), 2);
    assert_eq!(service.get_key(&caller(), &named("k")).await.expect("shown").version.ordinal, 1);
}

fn vault(name: &str, retention_days: u16) -> NewVault {
    NewVault {
        name: name.parse().expect("right"),
        tags: Tags::default(),
        retention_days,
        purge_protection: false,
        padding_decryption_allowed: false,
        max_staleness: MaxStaleness::default(),
        own_kek: false,
        network: NetworkRules::default(),
        authorization: VaultAuthorization::Roles,
    }
}

#[tokio::test]
async fn what_is_deleted_is_kept_seven_to_ninety_days() {
    let (_estate, _clock, service) = opened().await;
    for days in [0, 6, 91, u16::MAX] {
        let made = service.create_vault(&caller(), vault("vault", days), ChangeOptions::default()).await;
        assert_eq!(field(made), "vault.retention_days", "{days}");
    }
    for (name, days) in [("seven", 7), ("ninety", 90)] {
        let made = service.create_vault(&caller(), vault(name, days), ChangeOptions::default()).await.expect("made");
        assert_eq!(made.retention_days, days);
    }
}

#[tokio::test]
async fn purge_protection_is_never_switched_off() {
    let (_estate, _clock, service) = opened().await;
    let set = |protected| {
        let patch = VaultPatch { purge_protection: Some(protected), ..VaultPatch::default() };
        let (service, caller) = (Arc::clone(&service), caller());
        let name = "dev".parse().expect("right");
        async move { service.update_vault(&caller, &name, patch, ChangeOptions::default()).await }
    };
    assert!(!set(false).await.expect("it is off").purge_protection);
    assert!(set(true).await.expect("switched on").purge_protection);
    assert_eq!(reason(set(false).await), "PURGE_PROTECTION_IS_FINAL");
    let name = "dev".parse().expect("right");
    assert!(service.get_vault(&caller(), &name).await.expect("shown").purge_protection);
}

#[tokio::test]
async fn the_name_of_a_deleted_vault_is_kept_and_nothing_in_it_is_used() {
    let (_estate, _clock, service) = opened().await;
    let (who, options) = (caller(), ChangeOptions::default);
    let name = "gone".parse().expect("right");
    service.create_vault(&who, vault("gone", 7), options()).await.expect("made");
    let new = NewKey { vault: "gone".parse().expect("right"), ..ec("k") };
    service.create_key(&who, new.clone(), options()).await.expect("made");
    let there = KeyRef { vault: "gone".parse().expect("right"), ..named("k") };
    sign(&service, &there).await.expect("signs");
    service.delete_vault(&who, &name, options()).await.expect("deleted");
    assert_eq!(reason(service.create_vault(&who, vault("gone", 7), options()).await), "NAME_RESERVED");
    assert_eq!(reason(sign(&service, &there).await), "DELETED");
    assert_eq!(reason(service.create_key(&who, new, options()).await), "DELETED");
    assert_eq!(reason(service.get_key(&who, &there).await), "DELETED");
    service.undelete_vault(&who, &name, options()).await.expect("back");
    sign(&service, &there).await.expect("signs again");
}
