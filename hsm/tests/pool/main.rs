//! The pool over scripted workers: what it does when they are quick, slow, wrong, stuck or dead.
//!
//! The workers are this very program: it starts itself with the one test `fake_worker`, which serves
//! when it finds itself marked as a worker, and does nothing otherwise.

mod batches;
mod fake;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_bytes::ByteBuf;
use strongroom_hsm::{
    Admission, Algorithm, Error, KeyOps, KeyRow, KeySpec, KeyStatement, Pool, Profile, Residency, SecretBytes,
    StartError, Tenant,
    algorithms::Lane,
    pool::{LaneHealth, Provisioned, Timing, Watch, provision},
    profile::{LaneProfile, Sandbox, TokenName},
    protocol::{Fault, Moment, NewVersion, Operation, Output, Provision, ServiceKeys},
};
use tempfile::TempDir;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

const LONG: Duration = Duration::from_secs(20);

#[test]
fn fake_worker() {
    if std::env::var_os(fake::MARK).is_some() {
        fake::run();
    }
}

struct Open;

impl Admission for Open {
    fn tenant(&self) -> Tenant {
        Tenant::new(1)
    }

    fn still_holds(&self) -> bool {
        true
    }
}

struct Revocable(AtomicBool);

impl Admission for Revocable {
    fn tenant(&self) -> Tenant {
        Tenant::new(2)
    }

    fn still_holds(&self) -> bool {
        !self.0.load(Ordering::SeqCst)
    }
}

/// A profile whose lanes run these scripts.
fn profile(dir: &Path, scripts: &[(Lane, &str)]) -> Profile {
    let limits = |workers, hang| LaneProfile { workers, queue_max: 4096, hang: Duration::from_secs(hang) };
    let number = |lane: Lane| Lane::ALL.iter().position(|other| *other == lane).expect("a lane");
    let scripted = |lane: Lane| scripts.iter().find(|(other, _)| *other == lane).map_or("", |(_, script)| script);
    Profile {
        module: "/nonexistent/module.so".into(),
        module_parameters: None,
        environment: BTreeMap::from([(fake::MARK.to_owned(), "1".to_owned())]),
        token: TokenName { label: "fake".into(), serial: None },
        pin_file: dir.join("pin"),
        state_dir: dir.to_owned(),
        sync_dirs: Vec::new(),
        sandbox: Sandbox::Strict,
        lanes: BTreeMap::from([
            (Lane::Short, limits(1, 10)),
            (Lane::Medium, limits(2, 10)),
            (Lane::Long, limits(1, 10)),
            (Lane::Generate, limits(1, 10)),
        ]),
        cached_keys_max: 1000,
        loads_max: 1_000_000,
        canary_every: Duration::from_millis(200),
        worker_program: std::env::current_exe().expect("this program"),
        worker_arguments: ["fake_worker", "--exact", "--nocapture", "--test-threads=1"].map(str::to_owned).to_vec(),
        faults: Lane::ALL
            .into_iter()
            .map(|lane| {
                (
                    lane,
                    format!(
                        "lane={} workers={} {}",
                        number(lane),
                        if lane == Lane::Medium { 2 } else { 1 },
                        scripted(lane)
                    ),
                )
            })
            .collect(),
    }
}

fn service_keys() -> ServiceKeys {
    ServiceKeys {
        sealing: ByteBuf::from(vec![1; 40]),
        data: ByteBuf::from(vec![2; 40]),
        canary: ByteBuf::from(vec![3; 32]),
        log_public: ByteBuf::from(vec![4; 44]),
        ..ServiceKeys::default()
    }
}

async fn start(profile: &Profile) -> Pool {
    Pool::start(profile.clone(), service_keys()).await.expect("every worker starts")
}

async fn start_with(scripts: &[(Lane, &str)]) -> (Pool, TempDir) {
    let dir = TempDir::new().expect("a folder");
    (start(&profile(dir.path(), scripts)).await, dir)
}

fn key(spec: KeySpec, number: u32) -> Arc<KeyRow> {
    let mut version = [0; 16];
    version[..4].copy_from_slice(&number.to_le_bytes());
    let statement = KeyStatement {
        vault: "vault".into(),
        key: format!("key-{number}"),
        version,
        spec,
        ops: spec.possible_ops(),
        enabled: true,
        not_before: None,
        expires: None,
        residency: Residency::Wrapped,
        blob: vec![7; 100],
        public: Vec::new(),
        check_value: Vec::new(),
        created: 1,
        revision: 1,
        rest: Vec::new(),
        kek: None,
    };
    let seal = fake::seal_of(&statement.encode()).try_into().expect("32 bytes");
    Arc::new(KeyRow::new(statement, seal))
}

fn digest(number: u32) -> Vec<u8> {
    let mut digest = vec![1; 32];
    digest[4..8].copy_from_slice(&number.to_le_bytes());
    digest
}

fn soon(within: Duration) -> Moment {
    Moment::now().after(within)
}

/// Signs and checks that the signature is the one of this very digest.
async fn sign(pool: &Pool, key: &Arc<KeyRow>, digest: Vec<u8>, within: Duration) -> Result<(), Error> {
    let operation = Operation::Sign { algorithm: Algorithm::Es256, input: digest.clone().into() };
    match pool.operate(key, operation, Arc::new(Open), soon(within)).await? {
        Output::Signature(signature) => assert_eq!(*signature, fake::signature(&digest, 64)),
        other => panic!("{other:?}"),
    }
    Ok(())
}

async fn encrypt(pool: &Pool, key: &Arc<KeyRow>, plaintext: Vec<u8>, within: Duration) -> Result<(), Error> {
    let wanted = fake::masked(&plaintext);
    let operation = Operation::Encrypt {
        algorithm: Algorithm::A256Gcm,
        purpose: KeyOps::ENCRYPT,
        plaintext: SecretBytes::new(plaintext),
        iv: ByteBuf::new(),
        additional_data: ByteBuf::new(),
    };
    match pool.operate(key, operation, Arc::new(Open), soon(within)).await? {
        Output::Ciphertext { ciphertext, .. } => assert_eq!(*ciphertext, wanted),
        other => panic!("{other:?}"),
    }
    Ok(())
}

/// Signs `count` digests at once, with a few keys.
async fn sign_many(pool: &Pool, count: u32) -> Vec<Result<(), Error>> {
    let keys: Vec<_> = (0..7).map(|number| key(KeySpec::P256, number)).collect();
    let mut tasks = JoinSet::new();
    for number in 0..count {
        let (pool, key) = (pool.clone(), Arc::clone(&keys[number as usize % keys.len()]));
        tasks.spawn(async move { sign(&pool, &key, digest(number), LONG).await });
    }
    tasks.join_all().await
}

fn health(pool: &Pool, lane: Lane) -> LaneHealth {
    pool.health().into_iter().find(|health| health.lane == lane).expect("every lane has a health")
}

/// Waits until `done`, at most for long.
async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !done() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

fn starts(dir: &Path, lane: Lane) -> Vec<String> {
    fake::lines(dir, &format!("starts-{}", lane as usize))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_calls_at_once_get_their_own_answers() {
    let (pool, _dir) = start_with(&[]).await;
    let aes = key(KeySpec::Aes256, 1);
    let mut tasks = JoinSet::new();
    for number in 0..1000_u32 {
        let (pool, aes) = (pool.clone(), Arc::clone(&aes));
        tasks.spawn(async move { encrypt(&pool, &aes, number.to_le_bytes().to_vec(), LONG).await });
    }
    for result in sign_many(&pool, 1000).await.into_iter().chain(tasks.join_all().await) {
        result.expect("a good worker");
    }
    let random = pool.random(1024, soon(LONG)).await.expect("a good worker");
    assert_eq!(random.len(), 1024);
    assert!(matches!(pool.random(0, soon(LONG)).await, Err(Error::Fault(Fault::Length(_)))));
    assert_eq!(pool.ready().serial, "fake-1");
}

/// What was told of calls.
#[derive(Default)]
struct Told(std::sync::Mutex<Vec<Timing>>);

impl Watch for Told {
    fn ended(&self, timing: &Timing) {
        self.0.lock().expect("sound").push(*timing);
    }
}

#[tokio::test]
async fn whoever_watches_is_told_where_the_time_went() {
    let (pool, _dir) = start_with(&[(Lane::Medium, "slow-us=2000")]).await;
    let told = Arc::new(Told::default());
    let watched = pool.watched(Arc::clone(&told) as Arc<dyn Watch>);
    let begun = Moment::now();
    sign(&watched, &key(KeySpec::P256, 1), digest(1), LONG).await.expect("signs");
    watched.of(Tenant::new(7)).random(8, soon(LONG)).await.expect("a good worker");
    watched.random_all(vec![8, 8, 0], soon(LONG)).await;
    // Nobody watches the others.
    sign(&pool, &key(KeySpec::P256, 1), digest(1), LONG).await.expect("signs");
    let timings = told.0.lock().expect("sound").clone();
    let lanes: Vec<Lane> = timings.iter().map(|timing| timing.lane).collect();
    assert_eq!(lanes, [Lane::Medium, Lane::Short, Lane::Short, Lane::Short]);
    for timing in &timings {
        let served = timing.served.expect("was served");
        assert!(
            begun <= timing.queued_at && timing.queued_at <= served.sent_at && served.sent_at <= served.answered_at
        );
        assert!(served.service <= served.answered_at.since(served.sent_at), "{served:?}");
    }
    let signed = timings[0].served.expect("was served");
    assert!(signed.with_row && signed.seat < 2, "{signed:?}");
}

#[tokio::test]
async fn whoever_watches_is_told_of_calls_that_nobody_took() {
    let (pool, _dir) = start_with(&[(Lane::Short, "hang-after=0")]).await;
    let told = Arc::new(Told::default());
    let watched = pool.watched(Arc::clone(&told) as Arc<dyn Watch>);
    assert!(matches!(watched.random(8, soon(Duration::from_millis(50))).await, Err(Error::Expired)));
    let timings = told.0.lock().expect("sound").clone();
    assert!(timings.len() == 1 && timings[0].served.is_none(), "{timings:?}");
}

#[tokio::test]
async fn one_thread_is_enough() {
    let (pool, _dir) = start_with(&[]).await;
    assert!(sign_many(&pool, 500).await.iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_full_lane_refuses_and_others_do_not() {
    let dir = TempDir::new().expect("a folder");
    let mut profile = profile(dir.path(), &[(Lane::Medium, "slow-us=5000")]);
    profile.lanes.get_mut(&Lane::Medium).expect("lane").queue_max = 8;
    let pool = start(&profile).await;
    let results = sign_many(&pool, 100).await;
    let overloaded = results.iter().filter(|result| {
        matches!(result, Err(Error::Overloaded { lane: "medium", retry_after }) if *retry_after > Duration::ZERO)
    });
    assert!(overloaded.count() > 0);
    assert!(results.iter().any(Result::is_ok));
    assert!(results.iter().all(|result| matches!(result, Ok(()) | Err(Error::Overloaded { .. }))));
    pool.random(1, soon(LONG)).await.expect("another lane");
}

#[tokio::test]
async fn waiting_bytes_are_bounded() {
    let (pool, _dir) = start_with(&[(Lane::Medium, "hang-after=0")]).await;
    let aes = key(KeySpec::Aes256, 1);
    let mut tasks = JoinSet::new();
    for _ in 0..1200 {
        let (pool, aes) = (pool.clone(), Arc::clone(&aes));
        tasks.spawn(async move { encrypt(&pool, &aes, vec![0; 64 * 1024], Duration::from_millis(1500)).await });
    }
    let results = tasks.join_all().await;
    assert!(results.iter().any(|result| matches!(result, Err(Error::Overloaded { .. }))));
    assert!(results.iter().any(|result| matches!(result, Err(Error::Expired))));
}

#[tokio::test]
async fn a_deadline_is_kept_under_way_and_in_the_queue() {
    let (pool, _dir) = start_with(&[(Lane::Generate, "hang-after=0")]).await;
    let mut tasks = JoinSet::new();
    for _ in 0..5 {
        let pool = pool.clone();
        tasks.spawn(async move {
            pool.generate(NewVersion::new(KeySpec::P256, Residency::Wrapped, [1; 16]), soon(Duration::from_millis(200)))
                .await
        });
    }
    assert!(tasks.join_all().await.iter().all(|result| matches!(result, Err(Error::Expired))));
}

#[tokio::test]
async fn abandoned_calls_make_room_for_others() {
    let dir = TempDir::new().expect("a folder");
    let mut profile = profile(dir.path(), &[(Lane::Generate, "slow-us=300000")]);
    profile.lanes.get_mut(&Lane::Generate).expect("lane").queue_max = 4;
    let pool = start(&profile).await;
    let destroy = |within| {
        let pool = pool.clone();
        async move { pool.destroy_token([1; 16], soon(within)).await }
    };
    let mut tasks = JoinSet::new();
    for _ in 0..5 {
        tasks.spawn(destroy(Duration::from_millis(50)));
    }
    assert!(tasks.join_all().await.iter().all(|result| matches!(result, Err(Error::Expired))));
    destroy(LONG).await.expect("the queue is not full of the dead");
}

#[tokio::test]
async fn a_withdrawn_admission_is_not_sent() {
    let (pool, dir) = start_with(&[(Lane::Long, "slow-us=200000")]).await;
    let (rsa, admission) = (key(KeySpec::Rsa4096, 1), Arc::new(Revocable(AtomicBool::new(false))));
    let mut tasks = JoinSet::new();
    for _ in 0..3 {
        let (pool, rsa, admission) = (pool.clone(), Arc::clone(&rsa), Arc::clone(&admission));
        tasks.spawn(async move {
            let operation = Operation::Sign { algorithm: Algorithm::Ps256, input: vec![0; 32].into() };
            pool.operate(&rsa, operation, admission, soon(LONG)).await
        });
    }
    // Two are at the worker; the third waits.
    until("one waits", || health(&pool, Lane::Long).queued == 1).await;
    admission.0.store(true, Ordering::SeqCst);
    let results = tasks.join_all().await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 2);
    assert_eq!(results.iter().filter(|result| matches!(result, Err(Error::Withdrawn))).count(), 1);
    drop(dir);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_is_not_seen_by_what_is_safe_to_repeat() {
    // One crash: a call that is under way at two is given up, rightly.
    let (pool, dir) = start_with(&[(Lane::Medium, "crash-after=20 times=1")]).await;
    for result in sign_many(&pool, 400).await {
        result.expect("repeated on another worker");
    }
    until("a new worker", || starts(dir.path(), Lane::Medium).len() == 3).await;
    until("whole again", || health(&pool, Lane::Medium).ready == 2).await;
    assert!(health(&pool, Lane::Medium).trouble.is_none());
}

#[tokio::test]
async fn a_token_key_is_not_made_twice() {
    let (pool, dir) = start_with(&[(Lane::Generate, "crash-after=1 times=2")]).await;
    let generate = |residency| pool.generate(NewVersion::new(KeySpec::P256, residency, [1; 16]), soon(LONG));
    assert!(matches!(generate(Residency::Token).await, Err(Error::WorkerLost)));
    assert_eq!(fake::lines(dir.path(), "generates").len(), 1);
    generate(Residency::Wrapped).await.expect("repeated on another worker");
    assert_eq!(fake::lines(dir.path(), "generates").len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_kills_workers_takes_nobody_with_it() {
    let (pool, dir) = start_with(&[(Lane::Medium, "poisonable slow-us=500")]).await;
    let poisoned = tokio::spawn({
        let pool = pool.clone();
        async move {
            let mut poison = digest(0);
            poison[0] = fake::POISON;
            sign(&pool, &key(KeySpec::P256, 1), poison, LONG).await
        }
    });
    for result in sign_many(&pool, 300).await {
        result.expect("the innocent are repeated");
    }
    assert!(matches!(poisoned.await.expect("no panic"), Err(Error::WorkerLost)));
    assert_eq!(fake::lines(dir.path(), "poisoned").len(), 2, "tried twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_worker_is_replaced_while_other_lanes_go_on() {
    let dir = TempDir::new().expect("a folder");
    let mut profile = profile(dir.path(), &[(Lane::Medium, "hang-after=5 times=1")]);
    profile.lanes.get_mut(&Lane::Medium).expect("lane").hang = Duration::from_millis(500);
    let pool = start(&profile).await;
    let many = tokio::spawn({
        let pool = pool.clone();
        async move { sign_many(&pool, 200).await }
    });
    for _ in 0..20 {
        pool.random(8, soon(Duration::from_secs(5))).await.expect("another lane");
    }
    for result in many.await.expect("no panic") {
        result.expect("repeated on another worker");
    }
    until("a new worker", || starts(dir.path(), Lane::Medium).len() == 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lying_worker_is_replaced() {
    for lie in ["lie-id-after=9", "lie-kind-after=9", "garbage-after=9", "login-lost-after=9"] {
        let (pool, dir) = start_with(&[(Lane::Medium, &format!("{lie} times=1"))]).await;
        for result in sign_many(&pool, 100).await {
            result.unwrap_or_else(|error| panic!("{lie}: {error}"));
        }
        until(lie, || starts(dir.path(), Lane::Medium).len() == 3).await;
    }
}

#[tokio::test]
async fn a_refused_pin_is_tried_once() {
    let dir = TempDir::new().expect("a folder");
    let profile = profile(dir.path(), &[(Lane::Short, "pin-refused"), (Lane::Medium, "pin-refused")]);
    let refused = Pool::start(profile, service_keys()).await.err().expect("refused");
    assert!(matches!(refused, StartError::Refused { lane: "short", source: Fault::PinRefused }));
    assert_eq!(starts(dir.path(), Lane::Short).len(), 1);
    assert_eq!(starts(dir.path(), Lane::Medium).len(), 0);
}

#[tokio::test]
async fn a_pin_refused_later_stops_all_starts_until_it_is_cleared() {
    let script = "pin-refused-at-restart crash-after=1 times=1";
    let (pool, dir) = start_with(&[(Lane::Short, script), (Lane::Generate, script)]).await;
    let unavailable = pool.random(1, soon(LONG)).await;
    assert!(matches!(&unavailable, Err(Error::Unavailable(why)) if why.contains("PIN")), "{unavailable:?}");
    assert!(pool.pin_refused());
    let generated = pool.generate(NewVersion::new(KeySpec::P256, Residency::Wrapped, [1; 16]), soon(LONG)).await;
    assert!(matches!(&generated, Err(Error::Unavailable(why)) if why.contains("PIN")), "{generated:?}");
    sleep(Duration::from_millis(500)).await;
    assert_eq!(starts(dir.path(), Lane::Short).len(), 2, "one refused start");
    assert_eq!(starts(dir.path(), Lane::Generate).len(), 1, "and none after it, in any lane");
    sign(&pool, &key(KeySpec::P256, 1), digest(1), LONG).await.expect("those that serve go on");
    let trouble = health(&pool, Lane::Short);
    assert!(trouble.ready == 0 && trouble.trouble.is_some());

    std::fs::write(dir.path().join("cured"), "").expect("a file");
    pool.clear_pin_refused();
    until("served again", || health(&pool, Lane::Short).ready == 1 && health(&pool, Lane::Generate).ready == 1).await;
    pool.random(1, soon(LONG)).await.expect("served again");
}

#[tokio::test]
async fn a_lane_that_cannot_be_restarted_says_so_at_once() {
    let (pool, _dir) = start_with(&[(Lane::Short, "die-at-restart crash-after=1 times=1")]).await;
    assert!(matches!(pool.random(1, soon(LONG)).await, Err(Error::Unavailable(why)) if why.contains("exit status: 3")));
    assert!(matches!(pool.random(1, soon(LONG)).await, Err(Error::Unavailable(_))));
    sign(&pool, &key(KeySpec::P256, 1), digest(1), LONG).await.expect("another lane");
}

#[tokio::test]
async fn another_token_is_not_served() {
    let (pool, _dir) = start_with(&[(Lane::Short, "other-token-at-restart crash-after=1 times=1")]).await;
    assert!(matches!(pool.random(1, soon(LONG)).await, Err(Error::Unavailable(why)) if why.contains("another token")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recycling_loses_no_call() {
    let dir = TempDir::new().expect("a folder");
    let mut profile = profile(dir.path(), &[(Lane::Medium, "slow-us=200")]);
    profile.loads_max = 60;
    let pool = start(&profile).await;
    let mut tasks = JoinSet::new();
    for worker in 0..16_u32 {
        let pool = pool.clone();
        tasks.spawn(async move {
            for number in 0..60 {
                let key = key(KeySpec::P256, (worker * 31 + number) % 300);
                sign(&pool, &key, digest(number), LONG).await?;
            }
            Ok::<_, Error>(())
        });
    }
    for result in tasks.join_all().await {
        result.expect("no call is lost");
    }
    let workers = starts(dir.path(), Lane::Medium);
    assert!(workers.len() > 3, "worn workers are followed: {}", workers.len());
    assert!(!fake::lines(dir.path(), "warms").is_empty(), "and their successors are warm");
    let last = workers.len() - 2;
    until("the worn ones are gone", || {
        starts(dir.path(), Lane::Medium)[..last].iter().filter(|pid| lives(pid)).count() <= 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forgotten_keys_are_loaded_again() {
    let dir = TempDir::new().expect("a folder");
    let mut profile = profile(dir.path(), &[]);
    profile.cached_keys_max = 8;
    let pool = start(&profile).await;
    let mut tasks = JoinSet::new();
    for number in 0..600_u32 {
        let pool = pool.clone();
        tasks.spawn(async move { sign(&pool, &key(KeySpec::P256, number % 20), digest(number), LONG).await });
    }
    for result in tasks.join_all().await {
        result.expect("asked again with the row");
    }
    assert_eq!(starts(dir.path(), Lane::Medium).len(), 2, "nobody was taken for a liar");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn big_payloads_do_not_block_the_pair() {
    let (pool, _dir) = start_with(&[(Lane::Medium, "slow-us=100")]).await;
    let aes = key(KeySpec::Aes256, 1);
    let mut tasks = JoinSet::new();
    for number in 0..300_u32 {
        let (pool, aes) = (pool.clone(), Arc::clone(&aes));
        let length = 64 * 1024 - number as usize;
        tasks.spawn(async move { encrypt(&pool, &aes, vec![7; length], LONG).await });
    }
    for result in tasks.join_all().await {
        result.expect("no dead-lock");
    }
    let refused = encrypt(&pool, &aes, vec![0; 200_000], LONG).await;
    assert!(matches!(refused, Err(Error::Fault(Fault::Length(_)))));
}

#[tokio::test]
async fn seals_come_in_order_whatever_their_size() {
    let (pool, _dir) = start_with(&[]).await;
    let forms: Vec<Vec<u8>> =
        (0..900_usize).map(|n| vec![n.to_le_bytes()[0]; if n == 500 { 80_000 } else { n }]).collect();
    let seals = pool.seal(forms.clone(), soon(LONG)).await.expect("sealed");
    for (form, seal) in forms.iter().zip(&seals) {
        assert_eq!(fake::seal_of(form), seal);
    }
    let mut pairs: Vec<_> = forms.into_iter().zip(seals).collect();
    pairs[123].1[0] ^= 1;
    let verdicts = pool.check_seals(pairs, soon(LONG)).await.expect("checked");
    assert_eq!(verdicts.iter().position(|right| !right), Some(123));
    assert_eq!(verdicts.iter().filter(|right| !**right).count(), 1);
    assert!(pool.seal(Vec::new(), soon(LONG)).await.expect("nothing to do").is_empty());
    let refused = pool.seal(vec![vec![0; 100_000]], soon(LONG)).await;
    assert!(matches!(refused, Err(Error::Fault(Fault::Length(_)))));
}

const CHECKPOINT: &str = "strongroom/00ff\n7\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";

#[tokio::test]
async fn a_checkpoint_is_signed_also_when_its_worker_is_lost() {
    for fault in ["crash-after=1 times=1", "lie-kind-after=1 times=1", "login-lost-after=1 times=1"] {
        let (pool, dir) = start_with(&[(Lane::Medium, fault)]).await;
        let signature = pool.sign_log(&[4; 44], CHECKPOINT.to_owned(), soon(LONG)).await.expect(fault);
        assert_eq!(signature, fake::signature(CHECKPOINT.as_bytes(), 64), "{fault}");
        until("another worker", || starts(dir.path(), Lane::Medium).len() == 3).await;
    }
}

#[tokio::test]
async fn what_is_no_checkpoint_reaches_no_worker() {
    let (pool, dir) = start_with(&[(Lane::Medium, "crash-after=1")]).await;
    for text in ["", "a message\n", &CHECKPOINT[1..], CHECKPOINT.trim_end()] {
        let refused = pool.sign_log(&[4; 44], text.to_owned(), soon(LONG)).await;
        assert!(matches!(refused, Err(Error::Fault(Fault::Checkpoint(_)))), "{text:?}");
    }
    assert_eq!(starts(dir.path(), Lane::Medium).len(), 2, "nobody crashed");
}

/// Whether a process exists, as a zombie too.
fn lives(pid: &str) -> bool {
    Path::new("/proc").join(pid).exists()
}

fn all_pids(dir: &Path) -> Vec<String> {
    Lane::ALL.into_iter().flat_map(|lane| starts(dir, lane)).collect()
}

#[tokio::test]
async fn dropping_the_pool_ends_and_reaps_its_workers() {
    let (pool, dir) = start_with(&[(Lane::Generate, "hang-after=0")]).await;
    let clone = pool.clone();
    let stuck = pool
        .generate(NewVersion::new(KeySpec::P256, Residency::Wrapped, [1; 16]), soon(Duration::from_millis(100)))
        .await;
    assert!(matches!(stuck, Err(Error::Expired)));
    drop(pool);
    clone.random(1, soon(LONG)).await.expect("a clone keeps the workers");
    drop(clone);
    let pids = all_pids(dir.path());
    assert_eq!(pids.len(), 5);
    until("every worker is gone", || !pids.iter().any(|pid| lives(pid))).await;
}

#[tokio::test]
async fn a_runtime_that_ends_takes_the_workers_with_it() {
    let dir = TempDir::new().expect("a folder");
    let profile = profile(dir.path(), &[(Lane::Long, "hang-after=0")]);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let pool = runtime.block_on(start(&profile));
        drop(runtime);
        drop(pool);
    })
    .join()
    .expect("no panic");
    let pids = all_pids(dir.path());
    assert_eq!(pids.len(), 5);
    // Without a runtime nobody reaps; that they are dead is what counts.
    let dead = |pid: &String| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_else(|_| ") Z".to_owned());
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'))
    };
    until("every worker is dead", || pids.iter().all(dead)).await;
}

#[tokio::test]
async fn a_shutdown_lets_finish_what_is_under_way() {
    let (pool, dir) = start_with(&[(Lane::Generate, "slow-us=100000")]).await;
    let mut tasks = JoinSet::new();
    for _ in 0..3 {
        let pool = pool.clone();
        tasks.spawn(async move {
            pool.generate(NewVersion::new(KeySpec::P256, Residency::Wrapped, [1; 16]), soon(LONG)).await
        });
    }
    until("some wait", || health(&pool, Lane::Generate).queued == 2).await;
    pool.shutdown(LONG).await;
    for result in tasks.join_all().await {
        result.expect("finished in grace");
    }
    assert!(matches!(pool.random(1, soon(LONG)).await, Err(Error::Unavailable(_))));
    assert!(!all_pids(dir.path()).iter().any(|pid| lives(pid)));
}

#[tokio::test]
async fn a_shutdown_ends_what_does_not_finish() {
    let (pool, dir) = start_with(&[(Lane::Generate, "hang-after=0")]).await;
    let mut tasks = JoinSet::new();
    for _ in 0..3 {
        let pool = pool.clone();
        tasks.spawn(async move {
            pool.generate(NewVersion::new(KeySpec::P256, Residency::Token, [1; 16]), soon(LONG)).await
        });
    }
    until("some wait", || health(&pool, Lane::Generate).queued == 2).await;
    pool.shutdown(Duration::from_millis(100)).await;
    let results = tasks.join_all().await;
    assert_eq!(results.iter().filter(|result| matches!(result, Err(Error::WorkerLost))).count(), 1, "{results:?}");
    assert_eq!(results.iter().filter(|result| matches!(result, Err(Error::Unavailable(_)))).count(), 2);
    assert!(!all_pids(dir.path()).iter().any(|pid| lives(pid)));
}

#[tokio::test]
async fn a_canary_that_does_not_sign_costs_the_worker_its_seat() {
    let (pool, dir) = start_with(&[(Lane::Long, "canary-fails-after=2")]).await;
    until("replaced twice", || starts(dir.path(), Lane::Long).len() >= 3).await;
    let other = health(&pool, Lane::Short);
    assert_eq!((other.ready, other.wanted, other.trouble), (1, 1, None));
    until("the canary signs again and again", || {
        health(&pool, Lane::Short).canary_age.is_some_and(|age| age < Duration::from_secs(2))
    })
    .await;
    assert_eq!(starts(dir.path(), Lane::Short).len(), 1);
}

#[tokio::test]
async fn a_talkative_library_blocks_nothing() {
    let (pool, _dir) = start_with(&[(Lane::Short, "noise")]).await;
    pool.random(1, soon(LONG)).await.expect("its pipe is read");
}

#[tokio::test]
async fn a_profile_without_a_lane_is_refused() {
    let dir = TempDir::new().expect("a folder");
    let mut profile = profile(dir.path(), &[]);
    profile.lanes.remove(&Lane::Long);
    let refused = Pool::start(profile, service_keys()).await.err().expect("refused");
    assert!(matches!(refused, StartError::Refused { lane: "long", source: Fault::Setup(_) }));
    assert!(all_pids(dir.path()).is_empty());
}

#[tokio::test]
async fn a_worker_that_does_not_start_ends_the_start() {
    let dir = TempDir::new().expect("a folder");
    let ended = Pool::start(profile(dir.path(), &[(Lane::Medium, "die-at-start")]), service_keys()).await.err();
    assert!(matches!(&ended, Some(StartError::Ended { lane: "medium", status }) if status == "exit status: 3"));
    let pids = starts(dir.path(), Lane::Short);
    until("the others are gone", || !pids.iter().any(|pid| lives(pid))).await;
    let mut profile = profile(dir.path(), &[]);
    profile.worker_program = "/nonexistent/program".into();
    assert!(matches!(Pool::start(profile, service_keys()).await.err(), Some(StartError::Spawn { .. })));
}

#[tokio::test]
async fn provisioning_asks_in_order_and_stops_at_the_first_refusal() {
    let dir = TempDir::new().expect("a folder");
    let profile = profile(dir.path(), &[]);
    let init = || Provision::InitToken { so_pin_file: "/nonexistent".into() };
    let answers = provision(&profile, vec![init(), Provision::Probe]).await.expect("provisioned");
    assert!(matches!(answers[..], [Provisioned::Done, Provisioned::Capabilities(_)]));
    let refused = provision(&profile, vec![Provision::CreateHierarchy { recovery: Vec::new() }, init()]).await;
    assert!(matches!(refused, Err(StartError::Refused { lane: "provision", source: Fault::Setup(_) })));
    let pids = fake::lines(dir.path(), "starts");
    assert_eq!(pids.len(), 2);
    assert!(!pids.iter().any(|pid| lives(pid)), "reaped before the answer");
}
