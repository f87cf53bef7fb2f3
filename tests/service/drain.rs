//! How long it takes until many keys that are due at once have rotated, and what their clients notice of it: run it alone,
//! `cargo test --release --test service drain -- --ignored --nocapture`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use strongroom::{
    model::{Algorithm, Clock as _, KeySpec, ManualClock, RotationPolicy, Timestamp},
    service::{ChangeOptions, Page, Service, rotation::Round},
};
use strongroom_hsm::Profile;
use tokio_util::sync::CancellationToken;

use crate::{
    ec,
    estate::{Estate, caller, key},
    named,
    rotation::{policy, rotate_after},
};

const KEYS: usize = 10_000;
const ROUNDS: usize = 3;
/// One signature each so often, whatever becomes of the ones before.
const EVERY: Duration = Duration::from_millis(10);
const IDLE: Duration = Duration::from_secs(20);
/// As long as it may take.
const WITHIN: Duration = Duration::from_secs(300);
const MONTH_S: i64 = 32 * 86_400;

/// Signs at a fixed rate until it is stopped; the 99th percentile of how long an answer took from when it was its turn.
async fn sign(service: Arc<Service>, stop: Arc<AtomicBool>) -> Duration {
    let mut ticks = tokio::time::interval(EVERY);
    let mut calls = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let turn = ticks.tick().await;
        let service = Arc::clone(&service);
        calls.push(tokio::spawn(async move {
            let signed = service.sign(&caller(), &named("signer"), Algorithm::Es256, vec![7; 32].into()).await;
            signed.expect("signs");
            turn.elapsed()
        }));
    }
    let mut took = Vec::with_capacity(calls.len());
    for call in calls {
        took.push(call.await.expect("answered"));
    }
    took.sort();
    took[took.len() * 99 / 100]
}

fn begin_signing(service: &Arc<Service>) -> (Arc<AtomicBool>, tokio::task::JoinHandle<Duration>) {
    let stop = Arc::new(AtomicBool::new(false));
    (Arc::clone(&stop), tokio::spawn(sign(Arc::clone(service), stop)))
}

async fn make(service: &Arc<Service>) {
    service.create_key(&caller(), ec("signer"), ChangeOptions::default()).await.expect("made");
    let all = futures_util::stream::iter(0..KEYS).for_each_concurrent(16, |n| async move {
        let name = format!("k{n}");
        let spec = if n % 2 == 0 { KeySpec::P256 } else { KeySpec::Aes256 };
        service.create_key(&caller(), key(&name, spec), ChangeOptions::default()).await.expect("made");
        let policy: RotationPolicy = policy(&[rotate_after("P30D")], None);
        let (caller, name) = (caller(), named(&name));
        service.update_rotation_policy(&caller, &name, policy, ChangeOptions::default()).await.expect("set");
    });
    all.await;
}

/// How many keys there are whose work is due.
async fn due(estate: &Estate, now: Timestamp) -> usize {
    estate.store().await.keys_due(now, None, u32::try_from(KEYS).expect("so many")).await.expect("read").len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
async fn ten_thousand_keys_that_are_due_rotate_while_others_sign() {
    let clock = Arc::new(ManualClock::at(Timestamp(1_798_761_600)));
    let mut estate = Estate::new().await;
    estate.clock = Arc::clone(&clock) as _;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let profile = Profile { lanes: Profile::softhsm_lanes(cores), ..estate.profile() };
    let service = estate.open_with(profile).await.expect("opens");
    let begun = Instant::now();
    make(&service).await;
    println!("{cores} cores; {KEYS} keys and policies made in {:.0} s", begun.elapsed().as_secs_f64());
    let (mut now, mut ratios) = (clock.now(), Vec::new());
    for round in 1..=ROUNDS {
        let (stop, signing) = begin_signing(&service);
        tokio::time::sleep(IDLE).await;
        stop.store(true, Ordering::Relaxed);
        let idle = signing.await.expect("signed");
        now = Timestamp(now.0 + MONTH_S);
        clock.set(now);
        assert_eq!(due(&estate, now).await, KEYS);
        let (stop, signing) = begin_signing(&service);
        let (begun, mut looked) = (Instant::now(), Round::default());
        while due(&estate, now).await > 0 {
            assert!(begun.elapsed() < WITHIN, "not all have rotated");
            service.do_what_is_due(&mut looked, &CancellationToken::new()).await.expect("done");
        }
        let took = begun.elapsed();
        stop.store(true, Ordering::Relaxed);
        let busy = signing.await.expect("signed");
        let ratio = busy.as_secs_f64() / idle.as_secs_f64();
        println!(
            "round {round}: {KEYS} rotated in {:.0} s; p99 {busy:?}, idle {idle:?}: {ratio:.2}",
            took.as_secs_f64()
        );
        ratios.push(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    println!("p99 of a signature meanwhile, of that without, in the median: {:.2}", ratios[ROUNDS / 2]);
    let page = Page { size: 10, after: None, deleted: false };
    let versions = service.list_versions(&caller(), &named("k1"), page).await.expect("listed").0;
    assert_eq!(versions.len(), 1 + ROUNDS, "one for each time that was due");
    service.close().await.expect("closes");
}
