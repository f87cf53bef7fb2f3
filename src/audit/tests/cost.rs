//! What a record costs. Run it alone and in release:
//! `cargo test --release --lib audit::tests::cost -- --ignored --nocapture`.

use rustix::time::{ClockId, clock_gettime};

use super::*;

const RECORDS: u32 = 400_000;

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
    let mut spent = 0;
    for batch in 0..RECORDS / 1000 {
        let records: Vec<Record> = (0..1000).map(|n| operation((batch * 1000 + n).into())).collect();
        let before = cpu_ns();
        for record in records {
            log.append(record, Durability::Write).await.unwrap();
        }
        spent += cpu_ns() - before;
    }
    drop(log);
    let begun = std::time::Instant::now();
    let verified = verify(&path).unwrap();
    println!(
        "{} ns of CPU per append; {} records verified in {:?}",
        spent / i64::from(RECORDS),
        verified.records,
        begun.elapsed()
    );
}
