//! Operations per second of RSA-2048, P-256 and AES-256-GCM (1 KiB), side by side in one run:
//!
//! * `raw`: PKCS#11 in this process, one session, one call after the other;
//! * `worker`: through the lanes to worker processes, 64 calls under way;
//! * `worker batch`: the same in batches of 100, 4 under way;
//! * `grpc`: end to end over TLS with authorisation and audit, 64 calls under way on 4 connections;
//! * `grpc batch`: the same in batches of 100, 4 under way on 4 connections;
//! * `grpc stream`: the same on 4 streams, 64 operations under way on each.
//!
//! Client, server and workers share the machine's cores. Compare the rows of one run, not of two.

#[path = "../tests/service/estate.rs"]
#[allow(dead_code, reason = "shared with tests/service, which uses all of it")]
mod estate;
mod grpc;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use estate::{Estate, caller, key};
use strongroom::bench::{Case, raw::hello};
use strongroom_hsm::{Admission, KeyRow, Pool, Tenant, protocol::Moment, worker::raw::Raw};
use tokio::runtime::Runtime;

/// Calls under way at once.
const CONCURRENCY: u64 = 64;
/// Operations of a batch.
const BATCH: u64 = 100;
/// Batches under way at once.
const BATCHES: u64 = 4;

/// Always admitted: what is measured here is the lane.
struct Admitted;

impl Admission for Admitted {
    fn tenant(&self) -> Tenant {
        Tenant::new(1)
    }

    fn still_holds(&self) -> bool {
        true
    }
}

fn soon() -> Moment {
    Moment::now().after(Duration::from_secs(60))
}

/// Runs `count` operations, at most `concurrency` at once.
async fn spread<F>(count: u64, concurrency: u64, run: impl Fn() -> F) -> Duration
where
    F: Future<Output = ()> + Send + 'static,
{
    let begun = Instant::now();
    let tasks: Vec<_> = (0..concurrency.min(count))
        .map(|lane| {
            let share = count / concurrency + u64::from(lane < count % concurrency);
            let runs: Vec<F> = (0..share).map(|_| run()).collect();
            tokio::spawn(async move {
                for one in runs {
                    one.await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no operation fails");
    }
    begun.elapsed()
}

/// Runs at least `count` operations in batches; how long `count` of them took.
async fn batches<F>(count: u64, run: impl Fn() -> F) -> Duration
where
    F: Future<Output = ()> + Send + 'static,
{
    // As many for each that runs at once, or the last would run alone.
    let rounds = count.div_ceil(BATCH * BATCHES);
    let took = spread(rounds * BATCHES, BATCHES, run).await;
    share_of(took, count, rounds * BATCHES * BATCH)
}

/// How long `count` took of the `done` that took so long.
fn share_of(took: Duration, count: u64, done: u64) -> Duration {
    took.mul_f64(count as f64 / done as f64)
}

fn raw(group: &mut BenchmarkGroup<'_, WallTime>, raw: &mut Raw, case: Case) {
    let key = raw.key(case.spec).expect("a key");
    let operation = case.make().operation(case.algorithm);
    group.bench_function("raw", |bench| bench.iter(|| raw.run(&key, &operation).expect("runs")));
}

fn through_workers(
    group: &mut BenchmarkGroup<'_, WallTime>,
    runtime: &Runtime,
    pool: &Pool,
    key: &Arc<KeyRow>,
    case: Case,
) {
    group.bench_function("worker", |bench| {
        bench.iter_custom(|count| {
            runtime.block_on(spread(count, CONCURRENCY, || {
                let (pool, key) = (pool.clone(), Arc::clone(key));
                async move {
                    let admitted: Arc<dyn Admission> = Arc::new(Admitted);
                    pool.operate(&key, case.make().operation(case.algorithm), admitted, soon()).await.expect("runs");
                }
            }))
        });
    });
    group.bench_function("worker batch", |bench| {
        bench.iter_custom(|count| {
            runtime.block_on(batches(count, || {
                let (pool, key) = (pool.clone(), Arc::clone(key));
                async move {
                    let admitted: Arc<dyn Admission> = Arc::new(Admitted);
                    let operations = (0..BATCH).map(|_| case.make().operation(case.algorithm)).collect();
                    let results = pool.operate_all(&key, operations, &admitted, soon()).await;
                    assert!(results.iter().all(Result::is_ok));
                }
            }))
        });
    });
}

fn end_to_end(group: &mut BenchmarkGroup<'_, WallTime>, runtime: &Runtime, server: &grpc::Server, case: Case) {
    let request = runtime.block_on(server.prepare(case));
    group.bench_function("grpc", |bench| {
        bench.iter_custom(|count| runtime.block_on(spread(count, CONCURRENCY, || server.call(&request))));
    });
    group.bench_function("grpc batch", |bench| {
        bench.iter_custom(|count| runtime.block_on(batches(count, || server.batch(&request, BATCH))));
    });
    group.bench_function("grpc stream", |bench| {
        bench.iter_custom(|count| {
            let share = count.div_ceil(grpc::STREAMS);
            let run = spread(grpc::STREAMS, grpc::STREAMS, || server.stream(&request, share));
            share_of(runtime.block_on(run), count, share * grpc::STREAMS)
        });
    });
}

/// A key's row, as the service would load it.
fn row(runtime: &Runtime, estate: &Estate, case: Case) -> Arc<KeyRow> {
    runtime.block_on(async {
        let service = estate.open().await.expect("opens");
        let name = format!("k-{}", case.spec.name());
        service.create_key(&caller(), key(&name, case.spec), Default::default()).await.expect("made");
        service.close().await.expect("closes");
    });
    let name = format!("k-{}", case.spec.name());
    Arc::new(runtime.block_on(estate.key_row(&name)))
}

/// The module in this process reads its configuration from the environment, so the program runs itself
/// again with it.
fn with_softhsm(estate: &Estate) {
    let conf = estate.profile().environment["SOFTHSM2_CONF"].clone();
    let status = std::process::Command::new(std::env::current_exe().expect("a program"))
        .args(std::env::args_os().skip(1))
        .env("SOFTHSM2_CONF", conf)
        .env(ESTATE, estate.folder())
        .status()
        .expect("runs");
    assert!(status.success(), "the benchmark failed: {status}");
}

/// Names the folder of the estate in the second run.
const ESTATE: &str = "STRONGROOM_BENCH_ESTATE";

fn main() {
    let runtime = Runtime::new().expect("a runtime");
    let Some(folder) = std::env::var_os(ESTATE) else {
        let estate = runtime.block_on(Estate::new());
        return with_softhsm(&estate);
    };
    let estate = runtime.block_on(Estate::existing(folder.into()));
    let mut module = Raw::open(&hello(&estate.profile())).expect("the module");
    let server = grpc::Server::start(&runtime);
    let mut criterion = Criterion::default().configure_from_args();
    for case in Case::DEFAULT {
        let key = row(&runtime, &estate, case);
        let pool = runtime.block_on(estate.measured_pool());
        let mut group = criterion.benchmark_group(case.to_string());
        group.throughput(Throughput::Elements(1)).sample_size(10).measurement_time(Duration::from_secs(4));
        raw(&mut group, &mut module, case);
        through_workers(&mut group, &runtime, &pool, &key, case);
        end_to_end(&mut group, &runtime, &server, case);
        group.finish();
        runtime.block_on(pool.shutdown(Duration::from_secs(5)));
    }
    criterion.final_summary();
}
