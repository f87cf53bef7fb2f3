//! From where, how much and beside whom: network rules, quotas, and callers that share one HSM.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    ec,
    estate::{Estate, called, caller, key, principal, role},
    named,
};
use strongroom::{
    model::{Algorithm, KeySpec, NetworkPatch, Origin},
    service::{
        Caller, KeyRef, NewAssignment, Page, Problem, Service, ServiceError, VaultPatch,
        asked::Asked,
        batch::Item,
        quota::{Rate, Subject},
    },
};
use tokio::task::JoinSet;

const QUIET: &str = "spiffe://test.invalid/quiet";
const NOISY: &str = "spiffe://test.invalid/noisy";

async fn give(service: &Arc<Service>, who: &str, name: &str) {
    let scope = "vaults/dev".parse().expect("a scope");
    let new = NewAssignment { id: None, principal: principal(who), role: role(name), scope };
    service.create_assignment(&caller(), new, Default::default()).await.expect("assigned");
}

fn from(who: &str, address: &str) -> Caller {
    Caller { origin: Origin::Address(address.parse().expect("an address")), ..called(who) }
}

async fn sign(service: &Arc<Service>, by: &Caller, name: &KeyRef) -> Result<(), ServiceError> {
    service.sign(by, name, Algorithm::Es256, vec![7; 32].into()).await.map(drop)
}

fn reason<T>(result: Result<T, ServiceError>) -> &'static str {
    result.err().map_or("done", |error| error.problem.reason())
}

async fn restrict(service: &Arc<Service>, by: &Caller, public: bool, ranges: &[&str]) {
    let ranges = ranges.iter().map(|range| range.parse().expect("a range")).collect();
    let network = NetworkPatch { public_access: Some(public), ranges: Some(ranges), ..NetworkPatch::default() };
    let patch = VaultPatch { network, ..VaultPatch::default() };
    let dev = "dev".parse().expect("a vault");
    service.update_vault(by, &dev, patch, Default::default()).await.expect("changed");
}

/// An estate with a key `release` and a user.
async fn furnished(estate: &Estate) -> Arc<Service> {
    let service = estate.open().await.expect("opens");
    service.create_key(&caller(), ec("release"), Default::default()).await.expect("made");
    for who in [QUIET, NOISY] {
        give(&service, who, "Key Vault Crypto Officer").await;
        give(&service, who, "Key Vault Crypto User").await;
    }
    service
}

async fn vaults_seen(service: &Arc<Service>, by: &Caller) -> usize {
    let page = Page { size: 10, after: None, deleted: false };
    service.list_vaults(by, page).await.map_or(0, |found| found.items.len())
}

#[tokio::test]
async fn a_vault_admits_whom_its_rules_name_and_shows_itself_to_nobody_else() {
    let estate = Estate::new().await;
    let service = furnished(&estate).await;
    let (inside, outside) = (from(QUIET, "10.1.2.3"), from(QUIET, "192.0.2.1"));
    assert_eq!(reason(sign(&service, &outside, &named("release")).await), "done");
    // The administrator comes from outside and shuts himself out of nothing but the keys.
    let admin = Caller { origin: outside.origin, ..caller() };
    restrict(&service, &admin, false, &["10.0.0.0/8"]).await;
    assert_eq!(reason(sign(&service, &inside, &named("release")).await), "done");
    assert_eq!((vaults_seen(&service, &inside).await, vaults_seen(&service, &outside).await), (1, 0));
    let stranger = from("spiffe://test.invalid/stranger", "192.0.2.1");
    for name in ["release", "never"] {
        let refused = sign(&service, &outside, &named(name)).await.expect_err("from outside").to_string();
        let unknown = sign(&service, &stranger, &named(name)).await.expect_err("no rights").to_string();
        assert_eq!(refused.replace("quiet", "stranger"), unknown);
    }
    let dev = "dev".parse().expect("a vault");
    assert_eq!(reason(service.get_vault(&outside, &dev).await), "PERMISSION_DENIED");
    assert_eq!(reason(service.get_vault(&admin, &dev).await), "done");
    assert_eq!(reason(sign(&service, &admin, &named("release")).await), "PERMISSION_DENIED");
    assert_eq!(reason(service.create_key(&outside, ec("new"), Default::default()).await), "PERMISSION_DENIED");
    // The same after a restart, for a deleted vault too, and until the rules are changed.
    service.close().await.expect("closes");
    drop(service);
    let service = estate.open().await.expect("opens");
    assert_eq!(reason(sign(&service, &outside, &named("release")).await), "PERMISSION_DENIED");
    service.delete_vault(&admin, &dev, Default::default()).await.expect("deleted");
    service.undelete_vault(&admin, &dev, Default::default()).await.expect("back");
    assert_eq!(reason(sign(&service, &outside, &named("release")).await), "PERMISSION_DENIED");
    restrict(&service, &admin, true, &[]).await;
    assert_eq!(reason(sign(&service, &outside, &named("release")).await), "done");
    service.close().await.expect("closes");
    let log = estate.log_text();
    assert!(log.contains("\"reason\":\"NETWORK\"") && log.contains("allowed_ranges=10.0.0.0/8"), "{log}");
}

#[tokio::test]
async fn a_batch_from_elsewhere_is_refused_for_that_vault_alone() {
    let estate = Estate::new().await;
    let service = furnished(&estate).await;
    restrict(&service, &caller(), false, &[]).await;
    let asked = Asked::sign(Algorithm::Es256, vec![7; 32].into());
    let items = vec![Ok(Item::Sign(named("release"), asked)), Ok(Item::Random(8))];
    let results = service.batch(&from(QUIET, "192.0.2.1"), items).await.expect("answered");
    let reasons: Vec<&str> = results.into_iter().map(reason).collect();
    assert_eq!(reasons, ["PERMISSION_DENIED", "done"]);
}

#[tokio::test]
async fn rules_that_are_changed_stop_what_waits() {
    let estate = Estate::new().await;
    let service = furnished(&estate).await;
    let outside = from(QUIET, "192.0.2.1");
    let mut signing = JoinSet::new();
    for _ in 0..400 {
        let (service, outside) = (Arc::clone(&service), outside.clone());
        signing.spawn(async move { sign(&service, &outside, &named("release")).await });
    }
    restrict(&service, &caller(), false, &[]).await;
    // From here on nothing more is sent, whatever was admitted before.
    assert_eq!(reason(sign(&service, &outside, &named("release")).await), "PERMISSION_DENIED");
    while let Some(result) = signing.join_next().await {
        let reason = reason(result.expect("no panic"));
        assert!(["done", "PERMISSION_DENIED"].contains(&reason), "{reason}");
    }
}

/// So little that a few operations take it all, and that nothing flows in while a test runs.
const LITTLE: Rate = Rate { per_second: 1, burst: 3_000 };

fn exceeded(error: &ServiceError) -> Option<(&Subject, Duration)> {
    match &error.problem {
        Problem::QuotaExceeded { subject, retry_after } => Some((subject, *retry_after)),
        _ => None,
    }
}

#[tokio::test]
async fn a_principal_that_has_used_up_its_quota_is_told_so_and_nobody_else_is() {
    let mut estate = Estate::new().await;
    estate.allowances.principals = HashMap::from([(principal(NOISY), Some(LITTLE))]);
    let service = furnished(&estate).await;
    let (mut done, mut refused) = (0, 0);
    for _ in 0..300 {
        match sign(&service, &called(NOISY), &named("release")).await {
            Ok(()) => done += 1,
            Err(error) => {
                let (subject, retry_after) = exceeded(&error).expect("nothing else");
                assert_eq!(*subject, Subject::Principal(principal(NOISY)));
                assert!(retry_after.as_nanos() > 0);
                refused += 1;
            }
        }
    }
    // 20 microseconds a request and 30 a signature, and once what is read from the store.
    assert!((30..=60).contains(&done) && refused > 200, "{done} done, {refused} refused");
    assert_eq!(reason(sign(&service, &called(QUIET), &named("release")).await), "done");
    let items = vec![Ok(Item::Random(8))];
    assert_eq!(reason(service.batch(&called(NOISY), items).await), "QUOTA_EXCEEDED");
    let dev = "dev".parse().expect("a vault");
    assert_eq!(reason(service.get_vault(&called(NOISY), &dev).await), "QUOTA_EXCEEDED");
    service.close().await.expect("closes");
    // Three kinds of refusal, and for each that was repeated one line that counts the others.
    let log = estate.log_text();
    assert!(log.matches("QUOTA_EXCEEDED").count() <= 6, "{log}");
}

#[tokio::test]
async fn ten_thousand_names_without_rights_fill_no_log_and_others_are_served() {
    const NAMES: u64 = 10_000;
    let estate = Estate::new().await;
    let service = furnished(&estate).await;
    let before = estate.log_text().len();
    for n in 0..NAMES {
        let nobody = called(&format!("oidc:https://issuer.test#{n}"));
        assert_eq!(reason(sign(&service, &nobody, &named("release")).await), "PERMISSION_DENIED");
        if n % 100 == 0 {
            sign(&service, &called(QUIET), &named("release")).await.expect("others are served");
        }
    }
    service.close().await.expect("closes");
    let log = &estate.log_text()[before..];
    // What is repeated, or of more names than are told apart, is counted.
    let refusals: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
        .map(|line| line.get("record").cloned().unwrap_or(line))
        .filter(|record| record["outcome"] == "refused")
        .collect();
    let counted: u64 = refusals.iter().map(|record| 1 + record["repeated"].as_u64().unwrap_or(0)).sum();
    assert_eq!(counted, NAMES, "none is lost");
    assert!(refusals.len() < NAMES as usize / 4, "{} lines", refusals.len());
}

#[tokio::test]
async fn a_generation_counts_for_what_it_takes() {
    let mut estate = Estate::new().await;
    estate.allowances.principals = HashMap::from([(principal(NOISY), Some(LITTLE))]);
    let service = furnished(&estate).await;
    let noisy = called(NOISY);
    service.create_key(&noisy, key("big", KeySpec::Rsa2048), Default::default()).await.expect("there was something");
    let refused = sign(&service, &noisy, &named("release")).await.expect_err("now there is not");
    let (_, retry_after) = exceeded(&refused).expect("for a long time");
    assert!(retry_after.as_secs() > 90_000, "one flows in in a second, a hundred thousand were taken: {retry_after:?}");
}

#[tokio::test]
async fn a_vaults_quota_is_for_those_who_may_use_it() {
    let mut estate = Estate::new().await;
    estate.allowances.vaults = HashMap::from([("dev".parse().expect("a vault"), Some(LITTLE))]);
    let service = furnished(&estate).await;
    let stranger = called("spiffe://test.invalid/stranger");
    for _ in 0..300 {
        assert_eq!(reason(sign(&service, &stranger, &named("release")).await), "PERMISSION_DENIED");
    }
    assert_eq!(reason(sign(&service, &called(QUIET), &named("release")).await), "done", "strangers took nothing");
    let asked = || Ok(Item::Sign(named("release"), Asked::sign(Algorithm::Es256, vec![7; 32].into())));
    let batch = service.batch(&called(NOISY), (0..200).map(|_| asked()).collect()).await.expect("answered");
    assert!(batch.iter().all(Result::is_ok), "there was something left when it began");
    for who in [QUIET, NOISY] {
        let refused = sign(&service, &called(who), &named("release")).await.expect_err("there is nothing left");
        assert_eq!(exceeded(&refused).expect("of the vault").0, &Subject::Vault("dev".parse().expect("a vault")));
    }
    let batch = service.batch(&called(NOISY), vec![asked(), Ok(Item::Random(8))]).await.expect("answered");
    assert_eq!(batch.into_iter().map(reason).collect::<Vec<_>>(), ["QUOTA_EXCEEDED", "done"]);
    // Who administers the vault is not kept from it.
    restrict(&service, &caller(), false, &[]).await;
}

#[tokio::test]
async fn an_administrator_ends_a_flood_of_his_own() {
    let mut estate = Estate::new().await;
    estate.allowances.principal = Some(Rate { per_second: 1, burst: 20_000 });
    let service = furnished(&estate).await;
    while sign(&service, &caller(), &named("release")).await.is_ok() {}
    assert_eq!(reason(service.create_key(&caller(), ec("more"), Default::default()).await), "QUOTA_EXCEEDED");
    restrict(&service, &caller(), false, &[]).await;
}

/// What others have done while `quiet` signs so often, one after the other: by how much that is for each signature.
async fn done_beside(service: &Arc<Service>, flood: impl Fn(Arc<Service>, Arc<AtomicU64>, Arc<AtomicBool>)) -> u64 {
    let (done, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    flood(Arc::clone(service), Arc::clone(&done), Arc::clone(&over));
    while done.load(Ordering::Relaxed) < 1_000 {
        tokio::task::yield_now().await;
    }
    let before = done.load(Ordering::Relaxed);
    const SIGNATURES: u64 = 40;
    for _ in 0..SIGNATURES {
        sign(service, &called(QUIET), &named("release")).await.expect("it is never refused");
    }
    over.store(true, Ordering::Relaxed);
    (done.load(Ordering::Relaxed) - before) / SIGNATURES
}

#[tokio::test]
async fn a_flood_of_calls_leaves_the_quiet_their_turns() {
    let estate = Estate::new().await;
    let service = furnished(&estate).await;
    const FLOOD: u64 = 1_000;
    let beside = done_beside(&service, |service, done, over| {
        for _ in 0..FLOOD {
            let (service, done, over) = (Arc::clone(&service), Arc::clone(&done), Arc::clone(&over));
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    sign(&service, &called(NOISY), &named("release")).await.expect("signs");
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    })
    .await;
    // In one line for all, each signature would wait behind all of the flood.
    assert!(beside < FLOOD / 2, "{beside} signatures of the flood for each of the quiet");
}

#[tokio::test]
async fn floods_of_batches_leave_each_other_their_shares() {
    let estate = Estate::new().await;
    let service = furnished(&estate).await;
    let over = Arc::new(AtomicBool::new(false));
    let counts: [Arc<AtomicU64>; 2] = Default::default();
    let mut tasks = JoinSet::new();
    // The noisy one has four times as many batches under way.
    for (who, batches, done) in [(NOISY, 8, &counts[0]), (QUIET, 2, &counts[1])] {
        for _ in 0..batches {
            let (service, done, over) = (Arc::clone(&service), Arc::clone(done), Arc::clone(&over));
            tasks.spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let asked = || Ok(Item::Sign(named("release"), Asked::sign(Algorithm::Es256, vec![7; 32].into())));
                    let results = service.batch(&called(who), (0..256).map(|_| asked()).collect()).await;
                    let results = results.expect("answered");
                    let right = results.iter().filter(|result| result.is_ok()).count();
                    done.fetch_add(right as u64, Ordering::Relaxed);
                    if right < results.len() {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            });
        }
    }
    while counts.iter().map(|count| count.load(Ordering::Relaxed)).sum::<u64>() < 10_000 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    over.store(true, Ordering::Relaxed);
    while tasks.join_next().await.is_some() {}
    let [noisy, quiet] = counts.map(|count| count.load(Ordering::Relaxed));
    assert!(quiet * 5 > noisy * 2, "by batches it would be one to four: {quiet} beside {noisy}");
}
