//! Destruction: not before its date by any clock, whole, for ever; and what is told of it.

use std::sync::Arc;

use strongroom::{
    model::{
        Algorithm, EventType, KeySpec, ManualClock, MaxStaleness, NetworkRules, Residency, Tags, Timestamp,
        VaultAuthorization, VaultName,
    },
    service::{
        ChangeOptions, KeyRef, NewKey, NewVault, Page, Problem, Service, VaultPatch,
        events::{EventFilter, From},
        rotation::Round,
    },
};
use tokio_util::sync::CancellationToken;

use crate::{
    ec,
    estate::{Estate, caller, key},
    named,
    rotation::opened,
};

const START: i64 = 1_798_761_600;
const DAY_S: u32 = 86_400;

fn days(days: i64) -> Timestamp {
    Timestamp(START + days * i64::from(DAY_S))
}

async fn pass(service: &Arc<Service>) {
    let mut round = Round::default();
    for _ in 0..2 {
        service.do_what_is_due(&mut round, &CancellationToken::new()).await.expect("done");
    }
}

async fn exists(service: &Arc<Service>, name: &str) -> bool {
    match service.get_key(&caller(), &named(name)).await {
        Ok(_) => true,
        Err(error) => {
            assert!(matches!(error.problem, Problem::NotFound { .. }), "{error:?}");
            false
        }
    }
}

async fn deleted(service: &Arc<Service>, new: NewKey) {
    let name = named(new.name.as_str());
    service.create_key(&caller(), new, ChangeOptions::default()).await.expect("made");
    service.delete_key(&caller(), &name, ChangeOptions::default()).await.expect("deleted");
}

fn reason<T>(result: Result<T, strongroom::service::ServiceError>) -> &'static str {
    result.map(drop).expect_err("refused").problem.reason()
}

/// The types of all events, oldest first.
pub(crate) async fn told(service: &Arc<Service>) -> Vec<EventType> {
    let mut watch = service.watch_events(&caller(), EventFilter::default(), From::Beginning).await.expect("begins");
    let mut types = Vec::new();
    loop {
        let portion = watch.more().await.expect("told");
        types.extend(portion.events.iter().map(|event| event.kind));
        if portion.is_all {
            return types;
        }
    }
}

#[tokio::test]
async fn a_deleted_key_is_destroyed_at_its_date_and_its_name_is_free() {
    let (estate, clock, service) = opened().await;
    deleted(&service, ec("k")).await;
    clock.pass(89 * DAY_S);
    pass(&service).await;
    assert!(exists(&service, "k").await, "there is a day left");
    clock.pass(DAY_S + 1);
    pass(&service).await;
    assert!(!exists(&service, "k").await);
    service.create_key(&caller(), ec("k"), ChangeOptions::default()).await.expect("the name is free");
    pass(&service).await;
    assert!(exists(&service, "k").await);
    service.close().await.expect("closes");
    drop(service);
    assert!(estate.log_text().contains("strongroom:purge"));
    // What is gone is known to be gone: the store is sound.
    let service = estate.open().await.expect("opens again");
    assert!(exists(&service, "k").await);
}

#[tokio::test]
async fn a_wall_clock_that_runs_ahead_destroys_nothing() {
    let (_estate, clock, service) = opened().await;
    deleted(&service, ec("k")).await;
    pass(&service).await;
    clock.set(days(4_000));
    pass(&service).await;
    assert!(exists(&service, "k").await, "no time has passed");
    // It takes its time all the same, and a service that begins anew believes the wall no more than this one.
    clock.pass(91 * DAY_S);
    pass(&service).await;
    assert!(!exists(&service, "k").await);
}

#[tokio::test]
async fn a_wall_clock_that_went_back_destroys_nothing_until_it_is_right_again() {
    let (_estate, clock, service) = opened().await;
    pass(&service).await;
    clock.pass(100 * DAY_S);
    clock.set(days(-10_000));
    // By the wall its date would be long past once the clock is right again.
    deleted(&service, ec("k")).await;
    pass(&service).await;
    clock.set(days(100));
    pass(&service).await;
    assert!(exists(&service, "k").await, "it counts from the later clock");
    clock.pass(89 * DAY_S);
    clock.set(days(0));
    pass(&service).await;
    clock.pass(2 * DAY_S);
    pass(&service).await;
    assert!(exists(&service, "k").await, "the wall went back");
    clock.set(days(192));
    pass(&service).await;
    assert!(!exists(&service, "k").await);
}

#[tokio::test]
async fn what_passes_between_two_starts_of_the_machine_is_not_counted() {
    let (estate, clock, service) = opened().await;
    deleted(&service, ec("k")).await;
    pass(&service).await;
    clock.pass(60 * DAY_S);
    pass(&service).await;
    service.close().await.expect("closes");
    drop(service);
    let mut estate = estate;
    // Another machine, whose wall says that a year has passed.
    let other = Arc::new(OtherBoot(ManualClock::at(days(365))));
    estate.clock = Arc::clone(&other) as _;
    let service = estate.open().await.expect("opens");
    pass(&service).await;
    assert!(exists(&service, "k").await, "sixty days were seen to pass");
    other.0.pass(29 * DAY_S);
    pass(&service).await;
    assert!(exists(&service, "k").await);
    other.0.pass(2 * DAY_S);
    pass(&service).await;
    assert!(!exists(&service, "k").await);
}

/// A clock of a machine that was started another time.
struct OtherBoot(ManualClock);

impl strongroom::model::Clock for OtherBoot {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn uptime(&self) -> strongroom::model::Uptime {
        strongroom::model::Uptime { boot: [9; 16], ..self.0.uptime() }
    }
}

#[tokio::test]
async fn a_key_is_purged_on_demand_with_its_objects_and_not_where_the_vault_protects_it() {
    let (_estate, _, service) = opened().await;
    let options = ChangeOptions::default;
    let on_token = NewKey { residency: Residency::Token, ..ec("t") };
    service.create_key(&caller(), on_token, options()).await.expect("made");
    service.rotate_key(&caller(), &named("t"), options()).await.expect("rotated");
    assert_eq!(reason(service.purge_key(&caller(), &named("t"), options()).await), "NOT_DELETED");
    service.delete_key(&caller(), &named("t"), options()).await.expect("deleted");
    assert_eq!(service.purge_key(&caller(), &named("t"), options()).await.expect("purged"), 2);
    assert!(!exists(&service, "t").await);
    assert_eq!(reason(service.purge_key(&caller(), &named("t"), options()).await), "NOT_FOUND");
    assert_eq!(reason(service.undelete_key(&caller(), &named("t"), options()).await), "NOT_FOUND");
    // A vault that protects.
    deleted(&service, ec("k")).await;
    let protect = VaultPatch { purge_protection: Some(true), ..VaultPatch::default() };
    service.update_vault(&caller(), &named("k").vault, protect, options()).await.expect("protected");
    assert_eq!(reason(service.purge_key(&caller(), &named("k"), options()).await), "PURGE_PROTECTED");
    service.undelete_key(&caller(), &named("k"), options()).await.expect("back");
}

#[tokio::test]
async fn a_version_is_deleted_brought_back_and_destroyed_alone() {
    let (_estate, clock, service) = opened().await;
    let options = ChangeOptions::default;
    let first = service.create_key(&caller(), key("k", KeySpec::Rsa2048), options()).await.expect("made").version;
    let version = |row: &strongroom::model::VersionRow| KeyRef { version: Some(row.version), ..named("k") };
    assert_eq!(reason(service.delete_version(&caller(), &version(&first), options()).await), "NEWEST_VERSION");
    let second = service.rotate_key(&caller(), &named("k"), options()).await.expect("rotated").version;
    let gone = service.delete_version(&caller(), &version(&first), options()).await.expect("deleted");
    assert!(!gone.state.is_active());
    let algorithm = Algorithm::Rs256;
    let sign = async |row| service.sign(&caller(), &version(row), algorithm, vec![7; 32].into()).await;
    assert_eq!(reason(sign(&first).await), "DELETED");
    sign(&second).await.expect("the other signs");
    let count = async |deleted| {
        let page = Page { size: 10, after: None, deleted };
        service.list_versions(&caller(), &named("k"), page).await.expect("listed").0.len()
    };
    assert_eq!((count(false).await, count(true).await), (1, 2));
    service.undelete_version(&caller(), &version(&first), options()).await.expect("back");
    sign(&first).await.expect("signs again");
    assert_eq!(reason(service.purge_key(&caller(), &version(&first), options()).await), "NOT_DELETED");
    service.delete_version(&caller(), &version(&first), options()).await.expect("deleted");
    pass(&service).await;
    clock.pass(91 * DAY_S);
    pass(&service).await;
    assert_eq!(count(true).await, 1);
    sign(&second).await.expect("the other still signs");
    use EventType as E;
    assert_eq!(
        told(&service).await,
        [
            E::KeyNewVersionCreated,
            E::KeyNewVersionCreated,
            E::KeyVersionDeleted,
            E::KeyVersionRecovered,
            E::KeyVersionDeleted,
            E::KeyVersionPurged
        ]
    );
}

fn vault(name: &str) -> NewVault {
    NewVault {
        name: name.parse().expect("right"),
        tags: Tags::default(),
        retention_days: 7,
        purge_protection: true,
        padding_decryption_allowed: false,
        max_staleness: MaxStaleness::default(),
        own_kek: false,
        network: NetworkRules::default(),
        authorization: VaultAuthorization::Roles,
    }
}

#[tokio::test]
async fn a_vault_goes_with_all_that_is_in_it_at_its_date() {
    let (estate, clock, service) = opened().await;
    let options = ChangeOptions::default;
    service.create_vault(&caller(), vault("gone"), options()).await.expect("made");
    let name: VaultName = "gone".parse().expect("right");
    for n in 0..3 {
        let new = NewKey { vault: name.clone(), ..key(&format!("k{n}"), KeySpec::Aes256) };
        service.create_key(&caller(), new, options()).await.expect("made");
    }
    service.delete_vault(&caller(), &name, options()).await.expect("deleted");
    assert_eq!(reason(service.purge_vault(&caller(), &name, options()).await), "PURGE_PROTECTED");
    pass(&service).await;
    clock.pass(8 * DAY_S);
    pass(&service).await;
    assert_eq!(reason(service.get_vault(&caller(), &name).await), "NOT_FOUND");
    // One of the same name is another, and empty.
    service
        .create_vault(&caller(), NewVault { purge_protection: false, ..vault("gone") }, options())
        .await
        .expect("made");
    let new = NewKey { vault: name.clone(), ..key("k0", KeySpec::Aes256) };
    assert_eq!(service.create_key(&caller(), new, options()).await.expect("made").version.ordinal, 1);
    service.delete_vault(&caller(), &name, options()).await.expect("deleted");
    assert!(service.purge_vault(&caller(), &name, options()).await.expect("purged"));
    assert_eq!(reason(service.undelete_vault(&caller(), &name, options()).await), "NOT_FOUND");
    use EventType as E;
    let told = told(&service).await;
    assert_eq!(told[told.len() - 3..], [E::VaultDeleted, E::KeyPurged, E::VaultPurged]);
    assert_eq!(told.iter().filter(|kind| **kind == E::KeyPurged).count(), 4);
    service.close().await.expect("closes");
    drop(service);
    estate.open().await.expect("opens again");
}

/// A vault that can be purged, whose keys are under a KEK of its own.
pub(crate) fn with_own_kek(name: &str) -> NewVault {
    NewVault { own_kek: true, purge_protection: false, ..vault(name) }
}

/// How many objects there are on the token.
pub(crate) fn on_token(estate: &Estate) -> usize {
    let folders = std::fs::read_dir(estate.folder().join("tokens")).expect("reads");
    let tokens = folders.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir());
    let objects = tokens.flat_map(|token| std::fs::read_dir(token).expect("reads"));
    let objects = objects.map(|entry| entry.expect("an entry").file_name().into_string().expect("text"));
    objects.filter(|name| name.ends_with(".object") && name != "token.object").count()
}

#[tokio::test]
async fn a_vault_with_a_kek_of_its_own_takes_every_copy_of_its_keys_with_it() {
    let (estate, _, service) = opened().await;
    let options = ChangeOptions::default;
    let before = on_token(&estate);
    let made = service.create_vault(&caller(), with_own_kek("own"), options()).await.expect("made");
    assert!(made.kek.is_some());
    assert_eq!(on_token(&estate), before + 1);
    let name: VaultName = "own".parse().expect("right");
    let of = |key: &str| KeyRef { vault: name.clone(), key: key.parse().expect("right"), version: None };
    let new = |key: &str, residency| NewKey { vault: name.clone(), residency, ..ec(key) };
    let wrapped = service.create_key(&caller(), new("w", Residency::Wrapped), options()).await.expect("made").version;
    let on = service.create_key(&caller(), new("t", Residency::Token), options()).await.expect("made").version;
    assert_eq!((wrapped.kek, on.kek), (made.kek_id(), None));
    let rotated = service.rotate_key(&caller(), &of("w"), options()).await.expect("rotated").version;
    assert_eq!(rotated.kek, made.kek_id());
    let public = NewKey { spec: KeySpec::Aes256, ..new("i", Residency::Wrapped) };
    let material = strongroom_hsm::Material::Secret(vec![0x5a; 32].into());
    let imported = service.import_key(&caller(), public, material, options()).await.expect("imported").version;
    assert_eq!(imported.kek, made.kek_id());
    let sign = async |key: &str| service.sign(&caller(), &of(key), Algorithm::Es256, vec![7; 32].into()).await;
    sign("w").await.expect("signs");
    // Changed, deleted and brought back, it stays what it is under.
    service.delete_vault(&caller(), &name, options()).await.expect("deleted");
    service.undelete_vault(&caller(), &name, options()).await.expect("back");
    sign("w").await.expect("signs again");
    // What a backup of the database holds.
    let sealed = estate.store().await.version(&name, rotated.version).await.expect("reads").expect("a row");
    let (row, seal) = sealed.into_unchecked();
    let backup = Arc::new(strongroom_hsm::KeyRow::new(row.statement(), seal));
    service.delete_vault(&caller(), &name, options()).await.expect("deleted");
    assert!(service.purge_vault(&caller(), &name, options()).await.expect("purged"));
    assert_eq!(on_token(&estate), before, "nothing is left on the token");
    service.close().await.expect("closes");
    drop(service);
    assert!(estate.log_text().contains(&format!("token objects: {}", made.kek_id().expect("one"))));
    // The row is right by its seal, and opens nothing.
    let pool = estate.pool().await;
    let operation =
        strongroom_hsm::protocol::Operation::Sign { algorithm: Algorithm::Es256, input: vec![7; 32].into() };
    let deadline = strongroom_hsm::protocol::Moment::now().after(std::time::Duration::from_secs(10));
    let refused = pool.operate(&backup, operation, Arc::new(Anybody), deadline).await.expect_err("gone");
    assert!(refused.to_string().contains("key-encryption key"), "{refused}");
    drop(pool);
    estate.open().await.expect("opens again");
}

/// Whoever asks may.
struct Anybody;

impl strongroom_hsm::Admission for Anybody {
    fn tenant(&self) -> strongroom_hsm::Tenant {
        strongroom_hsm::Tenant::SERVICE
    }

    fn still_holds(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn a_kek_that_was_taken_off_the_token_is_told_of_and_costs_no_other_vault_anything() {
    let (estate, _, service) = opened().await;
    let options = ChangeOptions::default;
    let name: VaultName = "own".parse().expect("right");
    let made = service.create_vault(&caller(), with_own_kek("own"), options()).await.expect("made");
    let of = KeyRef { vault: name.clone(), key: "k".parse().expect("right"), version: None };
    service.create_key(&caller(), NewKey { vault: name.clone(), ..ec("k") }, options()).await.expect("made");
    service.create_key(&caller(), ec("k"), options()).await.expect("made");
    let pool = estate.pool().await;
    let deadline = strongroom_hsm::protocol::Moment::now().after(std::time::Duration::from_secs(10));
    pool.destroy_token(made.kek_id().expect("one").bytes(), deadline).await.expect("destroyed");
    drop(pool);
    service.close().await.expect("closes");
    drop(service);
    let service = estate.open().await.expect("opens all the same");
    let sign = async |name: &KeyRef| service.sign(&caller(), name, Algorithm::Es256, vec![7; 32].into()).await;
    assert_eq!(reason(sign(&of).await), "KEK_NOT_ON_TOKEN");
    assert_eq!(reason(service.rotate_key(&caller(), &of, options()).await), "KEK_NOT_ON_TOKEN");
    sign(&named("k")).await.expect("what is under the root is not concerned");
}

#[tokio::test]
async fn a_vault_that_is_not_made_leaves_no_kek() {
    let (estate, _, service) = opened().await;
    let before = on_token(&estate);
    let taken = service.create_vault(&caller(), with_own_kek("dev"), ChangeOptions::default()).await;
    assert_eq!(reason(taken), "ALREADY_EXISTS");
    let only = ChangeOptions { validate_only: true, ..ChangeOptions::default() };
    service.create_vault(&caller(), with_own_kek("own"), only).await.expect("it could be");
    let create = async || service.create_vault(&caller(), with_own_kek("own"), ChangeOptions::default()).await;
    let two = tokio::join!(create(), create());
    assert!(two.0.is_ok() != two.1.is_ok(), "{two:?}");
    assert_eq!(on_token(&estate), before + 1);
}
