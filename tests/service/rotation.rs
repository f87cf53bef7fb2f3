//! Rotation by itself, by a clock that the test sets: once for each time that is due, whatever happens around it.

use std::sync::Arc;

use sqlx::Connection as _;
use strongroom::{
    model::{
        CalendarDuration, KeyOps, KeySpec, LifetimeAction, LifetimeActionType, ManualClock, RotationPolicy, Timestamp,
        Trigger,
    },
    service::{ChangeOptions, NewKey, Page, Problem, Service, VersionPatch, rotation::Round},
};
use tokio_util::sync::CancellationToken;

use crate::{
    ec,
    estate::{Estate, caller, key},
    named,
};

/// 2027-01-01T00:00:00Z.
const START: i64 = 1_798_761_600;
const DAY_S: i64 = 86_400;

fn duration(text: &str) -> CalendarDuration {
    text.parse().expect("a duration")
}

pub(crate) fn rotate_after(text: &str) -> LifetimeAction {
    let trigger = Trigger::TimeAfterCreate(duration(text));
    LifetimeAction { trigger, action: LifetimeActionType::Rotate }
}

pub(crate) fn before_expiry(text: &str, action: LifetimeActionType) -> LifetimeAction {
    LifetimeAction { trigger: Trigger::TimeBeforeExpiry(duration(text)), action }
}

pub(crate) fn policy(actions: &[LifetimeAction], expiry_time: Option<&str>) -> RotationPolicy {
    RotationPolicy {
        lifetime_actions: actions.to_vec(),
        expiry_time: expiry_time.map(duration),
        ..RotationPolicy::default()
    }
}

/// An estate whose clock stands at [`START`], and its service.
pub(crate) async fn opened() -> (Estate, Arc<ManualClock>, Arc<Service>) {
    let clock = Arc::new(ManualClock::at(Timestamp(START)));
    let mut estate = Estate::new().await;
    estate.clock = Arc::clone(&clock) as _;
    let service = estate.open().await.expect("opens");
    (estate, clock, service)
}

async fn set(service: &Arc<Service>, name: &str, policy: RotationPolicy) -> Result<(), Problem> {
    let options = ChangeOptions::default();
    let set = service.update_rotation_policy(&caller(), &named(name), policy, options).await;
    set.map(drop).map_err(|error| error.problem)
}

/// Days after the start, and how many versions there are once what is due was done.
async fn versions_after(service: &Arc<Service>, clock: &ManualClock, name: &str, days: i64) -> usize {
    clock.set(Timestamp(START + days * DAY_S));
    let mut round = Round::default();
    for _ in 0..2 {
        service.do_what_is_due(&mut round, &CancellationToken::new()).await.expect("done");
    }
    let page = Page { size: 100, after: None, deleted: false };
    service.list_versions(&caller(), &named(name), page).await.expect("listed").0.len()
}

#[tokio::test]
async fn a_key_rotates_when_its_time_has_come_and_once_for_all_that_was_missed() {
    let (estate, clock, service) = opened().await;
    service.create_key(&caller(), ec("k"), ChangeOptions::default()).await.expect("made");
    set(&service, "k", policy(&[rotate_after("P1M")], Some("P1Y"))).await.expect("set");
    assert_eq!(versions_after(&service, &clock, "k", 0).await, 1);
    assert_eq!(versions_after(&service, &clock, "k", 30).await, 1);
    assert_eq!(versions_after(&service, &clock, "k", 32).await, 2);
    assert_eq!(versions_after(&service, &clock, "k", 33).await, 2);
    let key = service.get_key(&caller(), &named("k")).await.expect("shown");
    assert_eq!(key.version.expires, Some(duration("P1Y").after(key.version.created)));
    assert_eq!(key.version.created, Timestamp(START + 32 * DAY_S));
    assert_eq!(versions_after(&service, &clock, "k", 32 + 400).await, 3, "a year and more was missed");
    // A clock that is set back stops it, and nothing is made twice.
    assert_eq!(versions_after(&service, &clock, "k", 40).await, 3);
    assert_eq!(versions_after(&service, &clock, "k", 32 + 440).await, 4);
    // Without the policy nothing happens.
    set(&service, "k", RotationPolicy::default()).await.expect("cleared");
    assert_eq!(versions_after(&service, &clock, "k", 3_000).await, 4);
    service.close().await.expect("closes");
    let log = estate.log_text();
    assert!(log.contains("strongroom:rotation") && log.contains("keys.rotate"));
}

#[tokio::test]
async fn owners_hear_of_an_expiry_once_before_it_and_once_when_it_has_come() {
    let (estate, clock, service) = opened().await;
    let new = NewKey { expires: Some(Timestamp(START + 100 * DAY_S)), ..ec("k") };
    service.create_key(&caller(), new, ChangeOptions::default()).await.expect("made");
    set(&service, "k", policy(&[before_expiry("P30D", LifetimeActionType::Notify)], Some("P1Y"))).await.expect("set");
    let told = |operation: &str| estate.log_text().matches(&format!("\"operation\":\"{operation}\"")).count();
    for (days, near, expired) in [(60, 0, 0), (71, 1, 0), (80, 1, 0), (101, 1, 1), (200, 1, 1)] {
        assert_eq!(versions_after(&service, &clock, "k", days).await, 1);
        assert_eq!((told("keys.nearExpiry"), told("keys.expired")), (near, expired), "after {days} days");
    }
    // Another expiry is another notice.
    let later = VersionPatch { expires: Some(Some(Timestamp(START + 400 * DAY_S))), ..VersionPatch::default() };
    service.update_version(&caller(), &named("k"), later, ChangeOptions::default()).await.expect("changed");
    versions_after(&service, &clock, "k", 375).await;
    assert_eq!(told("keys.nearExpiry"), 2);
}

#[tokio::test]
async fn a_key_that_was_stopped_or_deleted_rotates_when_it_is_started_again() {
    let (_estate, clock, service) = opened().await;
    for name in ["off", "gone"] {
        service.create_key(&caller(), ec(name), ChangeOptions::default()).await.expect("made");
        set(&service, name, policy(&[rotate_after("P7D")], None)).await.expect("set");
    }
    let enabled = |enabled| VersionPatch { enabled: Some(enabled), ..VersionPatch::default() };
    service.update_version(&caller(), &named("off"), enabled(false), ChangeOptions::default()).await.expect("off");
    service.delete_key(&caller(), &named("gone"), ChangeOptions::default()).await.expect("deleted");
    assert_eq!(versions_after(&service, &clock, "off", 20).await, 1);
    service.update_version(&caller(), &named("off"), enabled(true), ChangeOptions::default()).await.expect("on");
    service.undelete_key(&caller(), &named("gone"), ChangeOptions::default()).await.expect("back");
    assert_eq!(versions_after(&service, &clock, "off", 20).await, 2);
    assert_eq!(versions_after(&service, &clock, "gone", 20).await, 2);
}

#[tokio::test]
async fn before_an_expiry_it_rotates_by_the_expiry_that_the_version_has_now() {
    let (_estate, clock, service) = opened().await;
    let new = NewKey { expires: Some(Timestamp(START + 100 * DAY_S)), ..ec("k") };
    service.create_key(&caller(), new, ChangeOptions::default()).await.expect("made");
    let rotate = before_expiry("P10D", LifetimeActionType::Rotate);
    set(&service, "k", policy(&[rotate], Some("P60D"))).await.expect("set");
    let never = VersionPatch { expires: Some(None), ..VersionPatch::default() };
    let refused = service.update_version(&caller(), &named("k"), never, ChangeOptions::default()).await;
    assert!(matches!(refused.expect_err("it would never rotate").problem, Problem::Invalid { .. }));
    let sooner = VersionPatch { expires: Some(Some(Timestamp(START + 50 * DAY_S))), ..VersionPatch::default() };
    service.update_version(&caller(), &named("k"), sooner, ChangeOptions::default()).await.expect("changed");
    assert_eq!(versions_after(&service, &clock, "k", 39).await, 1);
    assert_eq!(versions_after(&service, &clock, "k", 41).await, 2);
    assert_eq!(versions_after(&service, &clock, "k", 41 + 49).await, 2);
    assert_eq!(versions_after(&service, &clock, "k", 41 + 51).await, 3);
}

#[tokio::test]
async fn the_next_version_may_be_of_another_size_and_the_old_one_stays() {
    let (_estate, clock, service) = opened().await;
    service.create_key(&caller(), ec("k"), ChangeOptions::default()).await.expect("made");
    let next = |spec| RotationPolicy { next_spec: Some(spec), ..policy(&[rotate_after("P1D")], None) };
    assert!(matches!(set(&service, "k", next(KeySpec::Rsa2048)).await, Err(Problem::Invalid { .. })));
    set(&service, "k", next(KeySpec::P384)).await.expect("set");
    assert_eq!(versions_after(&service, &clock, "k", 2).await, 2);
    let page = Page { size: 100, after: None, deleted: false };
    let versions = service.list_versions(&caller(), &named("k"), page).await.expect("listed").0;
    assert_eq!(versions.iter().map(|view| view.version.spec).collect::<Vec<_>>(), [KeySpec::P384, KeySpec::P256]);
}

#[tokio::test]
async fn a_policy_that_contradicts_itself_is_refused_and_says_where() {
    let (_estate, _, service) = opened().await;
    service.create_key(&caller(), ec("k"), ChangeOptions::default()).await.expect("made");
    let twice = policy(&[rotate_after("P1M"), rotate_after("P2M")], None);
    let unlimited = policy(&[before_expiry("P1D", LifetimeActionType::Rotate)], None);
    let outside = policy(&[rotate_after("P2Y")], Some("P1Y"));
    for (wrong, part) in [(twice, "lifetime_actions[1]"), (unlimited, "lifetime_actions[0]"), (outside, "P2Y")] {
        match set(&service, "k", wrong).await {
            Err(Problem::Invalid { why, .. }) => assert!(why.contains(part), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    let shown = service.get_rotation_policy(&caller(), &named("k")).await.expect("shown");
    assert!(shown.key.rotation.is_none());
}

#[tokio::test]
async fn whoever_writes_the_store_hides_no_rotation_for_long() {
    let (estate, clock, service) = opened().await;
    service.create_key(&caller(), ec("k"), ChangeOptions::default()).await.expect("made");
    set(&service, "k", policy(&[rotate_after("P1D")], None)).await.expect("set");
    let url = format!("sqlite:{}", estate.database().display());
    let mut stranger = sqlx::SqliteConnection::connect(&url).await.expect("connects");
    sqlx::query("UPDATE keys SET due_at = NULL").execute(&mut stranger).await.expect("altered");
    // Looked at all of them before, so not again now.
    let mut round = Round::default();
    for _ in 0..2 {
        service.do_what_is_due(&mut round, &CancellationToken::new()).await.expect("done");
    }
    sqlx::query("UPDATE keys SET due_at = NULL").execute(&mut stranger).await.expect("altered");
    clock.set(Timestamp(START + 2 * DAY_S));
    service.do_what_is_due(&mut round, &CancellationToken::new()).await.expect("done");
    assert_eq!(service.get_key(&caller(), &named("k")).await.expect("shown").version.ordinal, 1);
    assert_eq!(versions_after(&service, &clock, "k", 2).await, 2);
}

#[tokio::test]
async fn what_will_be_is_told_and_what_is_due_first() {
    let (_estate, clock, service) = opened().await;
    service.create_key(&caller(), ec("with"), ChangeOptions::default()).await.expect("made");
    service.create_key(&caller(), ec("without"), ChangeOptions::default()).await.expect("made");
    set(&service, "with", policy(&[rotate_after("P30D")], None)).await.expect("set");
    let vault = "dev".parse().expect("right");
    let page = || Page { size: 10, after: None, deleted: false };
    let until = Some(Timestamp(START + 100 * DAY_S));
    let (found, _) = service.list_rotations(&caller(), &vault, until, page()).await.expect("listed");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].steps.len(), 3);
    assert!(found[0].steps.iter().all(|step| step.run_at >= step.at));
    clock.set(Timestamp(START + 90 * DAY_S));
    let (found, _) = service.list_rotations(&caller(), &vault, None, page()).await.expect("listed");
    let steps: Vec<_> = found[0].steps.iter().map(|step| step.at).collect();
    assert_eq!(steps, [Timestamp(START + 30 * DAY_S)]);
}

#[tokio::test]
async fn a_version_that_lost_an_operation_meanwhile_is_followed_by_none_that_has_it() {
    let (_estate, _, service) = opened().await;
    service.create_key(&caller(), key("k", KeySpec::Rsa2048), ChangeOptions::default()).await.expect("made");
    // While the next one is being made, which takes a while, the newest may encrypt no more.
    let (who, name) = (caller(), named("k"));
    let rotating = service.rotate_key(&who, &name, ChangeOptions::default());
    let signs = KeyOps::SIGN.union(KeyOps::VERIFY);
    let less = VersionPatch { ops: Some(signs), ..VersionPatch::default() };
    let changing = service.update_version(&who, &name, less, ChangeOptions::default());
    let (rotated, changed) = tokio::join!(rotating, changing);
    let changed = changed.expect("changed");
    match rotated {
        Err(error) => assert!(matches!(error.problem, Problem::Changed { .. }), "{error:?}"),
        // It was quicker: what was changed afterwards is what it had made, or what came before.
        Ok(view) => assert!(changed.version.updated >= view.version.created),
    }
    let newest = service.get_key(&caller(), &named("k")).await.expect("shown").version;
    assert!(newest.ordinal == 2 || newest.ops == signs);
}

#[tokio::test]
async fn a_key_whose_policy_needs_an_expiry_can_be_stopped_though_it_has_none() {
    let (_estate, _, service) = opened().await;
    let new = NewKey { expires: Some(Timestamp(START + 100 * DAY_S)), ..ec("k") };
    service.create_key(&caller(), new, ChangeOptions::default()).await.expect("made");
    let rotate = before_expiry("P10D", LifetimeActionType::Rotate);
    set(&service, "k", policy(&[rotate], Some("P60D"))).await.expect("set");
    // Somebody makes a version by hand that never expires.
    service.create_key(&caller(), ec("k"), ChangeOptions::default()).await.expect("made");
    let off = VersionPatch { enabled: Some(false), ..VersionPatch::default() };
    service.update_version(&caller(), &named("k"), off, ChangeOptions::default()).await.expect("off");
}

#[tokio::test]
async fn nothing_new_is_begun_once_the_service_ends() {
    let (_estate, clock, service) = opened().await;
    service.create_key(&caller(), ec("k"), ChangeOptions::default()).await.expect("made");
    set(&service, "k", policy(&[rotate_after("P1D")], None)).await.expect("set");
    clock.set(Timestamp(START + 2 * DAY_S));
    let stop = CancellationToken::new();
    stop.cancel();
    service.do_what_is_due(&mut Round::default(), &stop).await.expect("nothing to do");
    assert_eq!(service.get_key(&caller(), &named("k")).await.expect("shown").version.ordinal, 1);
    assert_eq!(versions_after(&service, &clock, "k", 2).await, 2);
}
