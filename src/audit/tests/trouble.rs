//! A full disk, a failing disk, a file that is taken away.

use std::{
    error::Error,
    sync::atomic::Ordering::SeqCst,
    time::{Duration, Instant},
};

use super::{
    super::{Cause, LogError, Refusals},
    *,
};

fn cause(error: LogError) -> Arc<Cause> {
    match error {
        LogError::Poisoned(cause) => cause,
        other => panic!("{other:?}"),
    }
}

/// Appends until it fails: the files are looked after once a second only.
async fn fails_soon(log: &Log) -> Arc<Cause> {
    let begun = Instant::now();
    loop {
        match log.append(operation(1), Durability::Write).await {
            Ok(_) => assert!(begun.elapsed() < Duration::from_secs(10), "nobody noticed"),
            Err(error) => return cause(error),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_full_disk_is_survived() {
    let (_dir, path) = temporary();
    let (log, faults) = faulty::open(&path, options(1 << 20));
    log.append(operation(1), Durability::Fsync).await.unwrap();
    for space in [0, 1, 100] {
        faults.space.store(space, SeqCst);
        assert!(matches!(log.append(operation(2), Durability::Fsync).await, Err(LogError::NoSpace)));
        assert!(log.health().is_ok());
    }
    faults.space.store(usize::MAX, SeqCst);
    assert_eq!(log.append(operation(2), Durability::Fsync).await.unwrap(), 1);
    assert_eq!(verify(&path).unwrap().records, 2);
}

#[tokio::test]
async fn a_full_disk_at_the_end_of_a_segment_is_survived() {
    let (_dir, path) = temporary();
    let (log, faults) = faulty::open(&path, options(1));
    log.append(operation(1), Durability::Write).await.unwrap();
    for space in [0, 20] {
        faults.space.store(space, SeqCst);
        assert!(matches!(log.append(operation(2), Durability::Write).await, Err(LogError::NoSpace)));
        assert_eq!(segments(&path).len(), 1);
    }
    faults.space.store(usize::MAX, SeqCst);
    faults.create_fails.store(true, SeqCst);
    assert!(matches!(log.append(operation(2), Durability::Write).await, Err(LogError::Segment(_))));
    faults.create_fails.store(false, SeqCst);
    assert_eq!(log.append(operation(2), Durability::Write).await.unwrap(), 1);
    assert_eq!(verify(&path).unwrap().records, 2);
}

#[tokio::test]
async fn half_a_record_that_cannot_be_cut_off_ends_the_log() {
    let (_dir, path) = temporary();
    let (log, faults) = faulty::open(&path, options(1 << 20));
    faults.space.store(30, SeqCst);
    faults.truncate_fails.store(true, SeqCst);
    let first = cause(log.append(operation(1), Durability::Write).await.unwrap_err());
    assert!(matches!(*first, Cause::Cut(_)));
    faults.space.store(usize::MAX, SeqCst);
    faults.truncate_fails.store(false, SeqCst);
    let again = cause(log.append(operation(1), Durability::Write).await.unwrap_err());
    assert!(Arc::ptr_eq(&first, &again), "the first cause is kept");
    drop(log);
    assert_eq!(open(&path, 1 << 20).1.torn.unwrap().bytes, 30);
}

#[tokio::test]
async fn a_failed_write_ends_the_log() {
    let (_dir, path) = temporary();
    let (log, faults) = faulty::open(&path, options(1 << 20));
    faults.write_fails.store(true, SeqCst);
    let error = log.append(operation(1), Durability::Write).await.unwrap_err();
    assert!(error.source().unwrap().source().is_some());
    assert!(matches!(*cause(error), Cause::Write(_)));
    faults.write_fails.store(false, SeqCst);
    assert!(log.append(operation(1), Durability::Write).await.is_err());
    assert!(log.health().is_err());
    assert!(log.close().await.is_err());
}

#[tokio::test]
async fn a_failed_sync_ends_the_log_for_all_who_wait() {
    let (_dir, path) = temporary();
    let (log, faults) = faulty::open(&path, options(1 << 20));
    faults.sync_fails.store(true, SeqCst);
    let (one, two) =
        tokio::join!(log.append(operation(1), Durability::Fsync), log.append(operation(2), Durability::Fsync));
    assert!(matches!(*cause(one.unwrap_err()), Cause::Sync(_)));
    assert!(matches!(*cause(two.unwrap_err()), Cause::Sync(_)));
    faults.sync_fails.store(false, SeqCst);
    assert!(log.append(operation(3), Durability::Write).await.is_err());
}

#[tokio::test]
async fn a_failed_sync_that_nobody_waits_for_ends_the_log_too() {
    let (_dir, path) = temporary();
    let (log, faults) = faulty::open(&path, options(1 << 20));
    faults.sync_fails.store(true, SeqCst);
    assert!(matches!(*fails_soon(&log).await, Cause::Sync(_)));
}

#[tokio::test]
async fn a_failed_sync_at_the_end_of_a_segment_ends_the_log() {
    let (_dir, path) = temporary();
    let (log, faults) = faulty::open(&path, options(1));
    log.append(operation(1), Durability::Fsync).await.unwrap();
    faults.sync_fails.store(true, SeqCst);
    assert!(matches!(*cause(log.append(operation(2), Durability::Write).await.unwrap_err()), Cause::Sync(_)));
}

#[tokio::test]
async fn nobody_waits_for_a_thread_that_is_gone() {
    let (_dir, path) = temporary();
    let (log, faults) = faulty::open(&path, options(1 << 20));
    faults.sync_panics.store(true, SeqCst);
    let appended = tokio::time::timeout(Duration::from_secs(10), log.append(operation(1), Durability::Fsync)).await;
    assert!(matches!(*cause(appended.unwrap().unwrap_err()), Cause::Panicked));
    assert!(matches!(*fails_soon(&log).await, Cause::Panicked));
}

#[tokio::test]
async fn an_unlinked_moved_or_replaced_file_ends_the_log() {
    for replaced in [false, true] {
        for durability in [Durability::Fsync, Durability::Write] {
            let (_dir, path) = temporary();
            let (log, _) = open(&path, 1 << 20);
            log.append(operation(1), durability).await.unwrap();
            let segment = segments(&path).remove(0);
            std::fs::rename(&segment, path.join("aside")).unwrap();
            if replaced {
                std::fs::copy(path.join("aside"), &segment).unwrap();
            }
            let cause = match durability {
                Durability::Fsync => cause(log.append(operation(2), durability).await.unwrap_err()),
                Durability::Write => fails_soon(&log).await,
            };
            assert!(matches!(*cause, Cause::Unlinked));
        }
    }
}

#[tokio::test]
async fn a_changed_file_or_a_lost_lock_ends_the_log() {
    let (_dir, path) = temporary();
    let (log, _) = open(&path, 1 << 20);
    log.append(operation(1), Durability::Write).await.unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&segments(&path)[0]).unwrap();
    file.set_len(10).unwrap();
    assert!(matches!(*fails_soon(&log).await, Cause::Changed { .. }));

    let (_dir, path) = temporary();
    let (log, _) = open(&path, 1 << 20);
    std::fs::remove_file(path.join("lock")).unwrap();
    assert!(matches!(*fails_soon(&log).await, Cause::LockLost));
}

#[tokio::test]
async fn the_reserve_is_for_outcomes_events_and_administrators() {
    let (_dir, path) = temporary();
    let (log, faults) = faulty::open(&path, Options { reserve_bytes: 1000, ..options(1 << 20) });
    let opened = log.append(intent(1), Durability::Write).await.unwrap();
    faults.free_bytes.store(1000 + (80 << 10), SeqCst);
    tokio::time::sleep(Duration::from_millis(1050)).await;
    log.append(operation(1), Durability::Write).await.unwrap();
    // What was written since the last look counts, and what will be written for it.
    let refused = async { while log.append(operation(2), Durability::Write).await.is_ok() {} };
    tokio::time::timeout(Duration::from_millis(900), refused).await.expect("80 KiB are soon full");
    assert!(matches!(log.append(operation(2), Durability::Write).await, Err(LogError::NoSpace)));
    assert!(matches!(log.append(intent(2), Durability::Write).await, Err(LogError::NoSpace)));
    log.append(outcome(opened, Vec::new()), Durability::Write).await.unwrap();
    log.append_reserved(intent(3), Durability::Write).await.unwrap();
    faults.free_bytes.store(u64::MAX, SeqCst);
    tokio::time::sleep(Duration::from_millis(1050)).await;
    log.append(operation(2), Durability::Write).await.unwrap();
}

/// Fills a disk of that size with plain records, while the tree follows as its job does it: rarely, often or never.
/// Gives what is taken in the end, with all records in the tree.
async fn filled_up(disk_bytes: u64, reserve_bytes: u64, follow_every: Option<u64>, detail: usize) -> (u64, u64) {
    let (_dir, path) = temporary();
    let (log, faults) = faulty::open(&path, Options { reserve_bytes, ..options(256 << 10) });
    faults.disk_bytes.store(disk_bytes, SeqCst);
    // Opening has looked before there was a bound.
    tokio::time::sleep(Duration::from_millis(1050)).await;
    let mut records = 0;
    loop {
        let record = Record { detail: Some("x".repeat(detail)), ..operation(records) };
        match log.append(record, Durability::Fsync).await {
            Ok(_) => records += 1,
            Err(LogError::NoSpace) => break,
            Err(other) => panic!("{other:?}"),
        }
        if follow_every.is_some_and(|every| records % every == 0) {
            let head = log.advance().unwrap();
            log.publish(head.size, &"a note of some length\n".repeat(12)).unwrap();
        }
    }
    let mut most = taken(&path);
    // Twice, as if the note of the first had been lost: the partial files of two trees are there.
    for _ in 0..2 {
        let head = log.advance().unwrap();
        most = most.max(taken(&path));
        log.publish(head.size, &"a note of some length\n".repeat(12)).unwrap();
        most = most.max(taken(&path));
    }
    // The reserve is there for whom it is kept.
    for n in 0..20 {
        log.append_reserved(intent(n), Durability::Fsync).await.unwrap();
    }
    assert_eq!(log.advance().unwrap().size, records + 20);
    assert!(taken(&path) <= disk_bytes);
    (most, records)
}

#[tokio::test]
async fn tiles_of_plain_records_do_not_eat_what_is_kept_for_administrators() {
    let (disk, reserve) = (3 << 20, 1 << 20);
    for (follow_every, detail) in [(None, 10), (Some(40), 10), (Some(700), 300), (Some(300), 2000), (None, 20_000)] {
        let (taken, records) = filled_up(disk, reserve, follow_every, detail).await;
        assert!(taken <= disk - reserve, "{follow_every:?} {detail}: {taken} after {records} records");
        assert!(records > 20, "and the rest is not kept from those who may have it: {records}");
    }
}

#[tokio::test]
async fn a_record_without_bounds_is_refused() {
    let (_dir, path) = temporary();
    let (log, _) = open(&path, 1 << 20);
    let record = Record { resource: Some("x".repeat(65_600)), ..operation(1) };
    assert!(matches!(log.append(record, Durability::Write).await, Err(LogError::TooLong { .. })));
    assert_eq!(log.append(operation(1), Durability::Write).await.unwrap(), 0);
}

#[tokio::test]
async fn refusals_that_could_not_be_recorded_are_neither_answered_nor_lost() {
    let (_dir, path) = temporary();
    let (log, faults) = faulty::open(&path, options(1 << 20));
    let refusals = Refusals::new(Arc::new(log), Durability::Write);
    let start = Instant::now();
    let refusal = Record { outcome: Outcome::Refused, ..operation(1) };
    faults.space.store(0, SeqCst);
    for _ in 0..2 {
        assert!(matches!(refusals.append(start, refusal.clone()).await, Err(LogError::NoSpace)));
    }
    faults.space.store(usize::MAX, SeqCst);
    for _ in 0..3 {
        refusals.append(start, refusal.clone()).await.unwrap();
    }
    faults.space.store(0, SeqCst);
    let end = start + super::super::refusals::WINDOW;
    assert!(refusals.flush(end).await.is_err());
    assert!(refusals.append(end, refusal.clone()).await.is_err());
    faults.space.store(usize::MAX, SeqCst);
    refusals.flush(end).await.unwrap();
    assert_eq!(lines(&path).len(), 3);
    assert_eq!(lines(&path)[2]["repeated"], 1);
}
