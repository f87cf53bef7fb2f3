//! What a record costs. Run it alone and in release:
//! `cargo test --release --lib audit::tests::cost -- --ignored --nocapture`.

use rustix::time::{ClockId, clock_gettime};

use super::*;

const RECORDS: u32 = 1 << 20;
/// As many as end together on a busy server.
const TOGETHER: usize = 16;

/// CPU time of this thread in nanoseconds.
fn cpu_ns() -> i64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

#[tokio::test]
#[ignore = "a measurement"]
#[expect(clippy::print_stdout, reason = "the figure is what it is for")]
async fn cpu_per_write_append() {
    let (_dir, path) = temporary();
    let (log, _) = open(&path, 64 << 20);
    for at_once in [1, TOGETHER] {
        let mut spent = 0;
        for batch in 0..RECORDS / 1024 / 2 {
            let records: Vec<Record> = (0..1024).map(|n| operation((batch * 1024 + n).into())).collect();
            let mut records = records.into_iter();
            let before = cpu_ns();
            while records.len() > 0 {
                let turn = records.by_ref().take(at_once).map(|record| log.append(record, Durability::Write));
                assert!(futures_util::future::join_all(turn).await.iter().all(Result::is_ok));
            }
            spent += cpu_ns() - before;
        }
        println!("{at_once} at once: {} ns of CPU per append", spent / i64::from(RECORDS / 2));
    }
    drop(log);
    let begun = std::time::Instant::now();
    let verified = verify(&path).unwrap();
    println!("{} records verified in {:?}", verified.records, begun.elapsed());
}
