//! The pool over real workers on a real SoftHSM token: provisioned, used by many at once, and shot at.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::{
    collections::BTreeMap,
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_bytes::ByteBuf;
use strongroom_hsm::{
    Admission, Algorithm, Error, KeyOps, KeyRow, KeySpec, Pool, Profile, Residency, SecretBytes, StartError, Tenant,
    algorithms::Lane,
    pool::{Provisioned, provision},
    profile::{LaneProfile, Sandbox, TokenName},
    protocol::{Fault, Hierarchy, Moment, NewVersion, Operation, Output, Provision},
};
use support::Home;
use tokio::{task::JoinSet, time::sleep};

const LONG: Duration = Duration::from_secs(60);

struct Open;

impl Admission for Open {
    fn tenant(&self) -> Tenant {
        Tenant::new(1)
    }

    fn still_holds(&self) -> bool {
        true
    }
}

fn profile(home: &Home) -> Profile {
    let limits = |workers| LaneProfile { workers, queue_max: 4096, hang: Duration::from_secs(20) };
    let environment = BTreeMap::from([("SOFTHSM2_CONF".to_owned(), home.path("softhsm2.conf").display().to_string())]);
    Profile {
        module: support::module(),
        module_parameters: None,
        environment,
        token: TokenName { label: "strongroom test".to_owned(), serial: None },
        pin_file: home.path("pin"),
        state_dir: home.path("state"),
        sync_dirs: vec![home.path("tokens")],
        sandbox: Sandbox::Strict,
        lanes: Lane::ALL.into_iter().map(|lane| (lane, limits(if lane == Lane::Medium { 2 } else { 1 }))).collect(),
        cached_keys_max: 100,
        loads_max: 1_000_000,
        canary_every: Duration::from_millis(500),
        worker_program: env!("CARGO_BIN_EXE_hsm-worker").into(),
        worker_arguments: Vec::new(),
        faults: BTreeMap::new(),
    }
}

async fn provisioned(home: &Home) -> Hierarchy {
    let requests = vec![
        Provision::InitToken { so_pin_file: home.path("so-pin") },
        Provision::CreateHierarchy { recovery: Vec::new() },
    ];
    match provision(&profile(home), requests).await.unwrap().pop() {
        Some(Provisioned::Hierarchy(hierarchy)) => hierarchy,
        _ => panic!("the last answer is the hierarchy"),
    }
}

fn soon() -> Moment {
    Moment::now().after(LONG)
}

async fn key(pool: &Pool, spec: KeySpec, residency: Residency, number: u8) -> Arc<KeyRow> {
    let version = [number; 16];
    let generated = pool.generate(NewVersion::new(spec, residency, version), soon()).await.unwrap();
    let mut statement = support::statement(spec, residency, version);
    statement.blob = generated.blob.into_vec();
    statement.public = generated.public.into_vec();
    statement.check_value = generated.check_value.into_vec();
    let seals = pool.seal(vec![statement.encode()], soon()).await.unwrap();
    Arc::new(KeyRow::new(statement, seals[0]))
}

async fn operate(pool: &Pool, key: &Arc<KeyRow>, operation: Operation) -> Result<Output, Error> {
    pool.operate(key, operation, Arc::new(Open), soon()).await
}

/// Signs, and verifies what was signed.
async fn sign(pool: &Pool, key: &Arc<KeyRow>, algorithm: Algorithm) -> Result<(), Error> {
    let input = || SecretBytes::new(vec![7; 32]);
    let Output::Signature(signature) = operate(pool, key, Operation::Sign { algorithm, input: input() }).await? else {
        panic!("a signature")
    };
    let verify = Operation::Verify { algorithm, input: input(), signature };
    assert!(matches!(operate(pool, key, verify).await?, Output::Verified(true)));
    Ok(())
}

/// Encrypts, and decrypts what was encrypted.
async fn encrypt(pool: &Pool, key: &Arc<KeyRow>, length: usize) -> Result<(), Error> {
    let (algorithm, additional_data) = (Algorithm::A256Gcm, || ByteBuf::from(b"to this".to_vec()));
    let plaintext: Vec<u8> = (0..length).map(|n| n.to_le_bytes()[0]).collect();
    let encrypt = Operation::Encrypt {
        algorithm,
        purpose: KeyOps::ENCRYPT,
        plaintext: SecretBytes::new(plaintext.clone()),
        iv: ByteBuf::new(),
        additional_data: additional_data(),
    };
    let Output::Ciphertext { ciphertext, iv, tag } = operate(pool, key, encrypt).await? else { panic!("a ciphertext") };
    let (purpose, additional_data) = (KeyOps::DECRYPT, additional_data());
    let decrypt = Operation::Decrypt { algorithm, purpose, ciphertext, iv, tag, additional_data };
    match operate(pool, key, decrypt).await? {
        Output::Plaintext(found) => assert_eq!(found.expose_secret(), plaintext),
        other => panic!("{other:?}"),
    }
    Ok(())
}

/// The living processes that this one has started under that name, which is one test's own.
fn workers(name: &str) -> Vec<Pid> {
    let own = std::process::id().to_string();
    let is_ours = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let Some((before, rest)) = stat.rsplit_once(") ") else { return false };
        let mut fields = rest.split(' ');
        let (state, parent) = (fields.next(), fields.next());
        before.ends_with(&format!("({name}")) && state != Some("Z") && parent == Some(&own)
    };
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(is_ours).filter_map(Pid::from_raw).collect()
}

fn is_whole(pool: &Pool) -> bool {
    pool.health().iter().all(|health| health.ready == health.wanted)
}

async fn until_whole(pool: &Pool) {
    let end = Instant::now() + LONG;
    while !is_whole(pool) {
        assert!(Instant::now() < end, "{:?}", pool.health());
        sleep(Duration::from_millis(10)).await;
    }
}

/// 64 callers that go on until `stop`; how often each operation was done.
fn load(pool: &Pool, keys: &[Arc<KeyRow>; 3], stop: &Arc<std::sync::atomic::AtomicBool>) -> JoinSet<u64> {
    let mut tasks = JoinSet::new();
    for caller in 0..64_usize {
        let (pool, [ec, rsa, aes], stop) = (pool.clone(), keys.clone(), Arc::clone(stop));
        tasks.spawn(async move {
            let mut done = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let result = match caller % 3 {
                    0 => sign(&pool, &ec, Algorithm::Es256).await,
                    1 => sign(&pool, &rsa, Algorithm::Ps256).await,
                    _ => encrypt(&pool, &aes, 100 * caller).await,
                };
                result.unwrap();
                done += 1;
            }
            done
        });
    }
    tasks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_workers_are_not_noticed_by_callers() {
    let home = Home::empty();
    let hierarchy = provisioned(&home).await;
    // The name of a process is the name of its program's file.
    let name = "shot-at-worker";
    let mut profile = profile(&home);
    profile.worker_program = home.path(name);
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_hsm-worker"), home.path(name)).unwrap();
    let log_public = hierarchy.service_keys.log_public.clone();
    let pool = Pool::start(profile, hierarchy.service_keys).await.unwrap();
    assert_eq!(pool.ready().serial, hierarchy.serial);
    let first = workers(name);
    assert_eq!(first.len(), 5);
    let keys = [
        key(&pool, KeySpec::P256, Residency::Wrapped, 1).await,
        key(&pool, KeySpec::Rsa2048, Residency::Wrapped, 2).await,
        key(&pool, KeySpec::Aes256, Residency::Wrapped, 3).await,
    ];
    let stop = Arc::default();
    let tasks = load(&pool, &keys, &stop);
    // The whole first generation, each lane's in its turn.
    for worker in &first {
        kill_process(*worker, Signal::KILL).unwrap();
        sleep(Duration::from_millis(100)).await;
        until_whole(&pool).await;
        sleep(Duration::from_millis(200)).await;
    }
    assert!(!workers(name).iter().any(|worker| first.contains(worker)));
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let done = tasks.join_all().await;
    assert!(done.iter().all(|done| *done > 0), "{done:?}");

    let signature = pool.sign_log(&log_public, support::CHECKPOINT.to_owned(), soon()).await.unwrap();
    assert!(support::log_signature_is_right(&log_public, support::CHECKPOINT, &signature));
    let token = key(&pool, KeySpec::P256, Residency::Token, 4).await;
    sign(&pool, &token, Algorithm::Es256).await.unwrap();
    pool.destroy_token([4; 16], soon()).await.unwrap();
    pool.destroy_token([4; 16], soon()).await.unwrap();
    pool.shutdown(LONG).await;
    assert!(workers(name).is_empty());
}

#[tokio::test]
async fn a_refused_pin_is_tried_once_for_all_lanes_and_starts() {
    let home = Home::empty();
    let hierarchy = provisioned(&home).await;
    home.write_pin("pin", "wrong");
    let mut profile = profile(&home);
    let logins = home.path("logins");
    let count = format!("login=count:{}", logins.display());
    profile.faults = Lane::ALL.into_iter().map(|lane| (lane, count.clone())).collect();
    for _ in 0..3 {
        let refused = Pool::start(profile.clone(), hierarchy.service_keys.clone()).await.err();
        assert!(matches!(refused, Some(StartError::Refused { lane: "short", source: Fault::PinRefused })));
    }
    assert_eq!(fs::read_to_string(&logins).unwrap().lines().count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_module_that_hangs_or_dies_costs_no_call() {
    let home = Home::empty();
    let hierarchy = provisioned(&home).await;
    let mut profile = profile(&home);
    // One worker in each lane: what is repeated then meets a fresh one, whose own fault is far away.
    let medium = profile.lanes.get_mut(&Lane::Medium).unwrap();
    (medium.workers, medium.hang) = (1, Duration::from_secs(1));
    let starts = |lane: &str| home.path(&format!("starts-{lane}"));
    let script = |fault: &str, lane: &str| format!("{fault};login=count:{}", starts(lane).display());
    profile.faults = BTreeMap::from([
        (Lane::Medium, script("sign#100=hang", "medium")),
        (Lane::Short, script("encrypt#100=crash", "short")),
    ]);
    let pool = Pool::start(profile, hierarchy.service_keys).await.unwrap();
    let ec = key(&pool, KeySpec::P256, Residency::Wrapped, 1).await;
    let aes = key(&pool, KeySpec::Aes256, Residency::Wrapped, 2).await;
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let (pool, ec, aes) = (pool.clone(), Arc::clone(&ec), Arc::clone(&aes));
        tasks.spawn(async move {
            for _ in 0..60 {
                sign(&pool, &ec, Algorithm::Es256).await.unwrap();
                encrypt(&pool, &aes, 64).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    until_whole(&pool).await;
    for lane in ["medium", "short"] {
        let started = fs::read_to_string(starts(lane)).unwrap().lines().count();
        assert!(started >= 3, "240 operations are two faults in the {lane} lane: {started} starts");
    }
}
