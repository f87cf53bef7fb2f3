//! Order, durability and many at once.

use std::{os::unix::fs::PermissionsExt, sync::atomic::Ordering::SeqCst, time::Duration};

use super::*;

#[tokio::test]
async fn records_survive_and_the_log_verifies() {
    let (_dir, path) = temporary();
    let (log, recovered) = open(&path, 1 << 20);
    assert!(recovered.created);
    assert_eq!(recovered.next_index, 0);
    assert_eq!(log.append(operation(1), Durability::Write).await.unwrap(), 0);
    assert_eq!(log.append(operation(2), Durability::Fsync).await.unwrap(), 1);
    drop(log);
    let (log, recovered) = open(&path, 1 << 20);
    assert_eq!((recovered.created, recovered.next_index, recovered.torn), (false, 2, None));
    assert_eq!(log.append(operation(3), Durability::Write).await.unwrap(), 2);
    drop(log);
    let verified = verify(&path).unwrap();
    assert_eq!((verified.records, verified.first, verified.signed), (3, 0, 0));
    assert_eq!(verified.instance, INSTANCE);
    assert_eq!(lines(&path)[2]["request"], format!("{:032x}", 2));
}

#[tokio::test]
async fn only_the_owner_may_read_it() {
    let (_dir, path) = temporary();
    filled(&path, 1 << 20, 1).await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&path.join("lock")), 0o600);
    assert_eq!(mode(&segments(&path)[0]), 0o600);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o750)).unwrap();
    let error = Log::open(&path, options(1 << 20), INSTANCE).unwrap_err();
    assert!(matches!(error, OpenError::Exposed { mode: 0o750, .. }), "{error}");
}

#[tokio::test]
async fn a_second_open_is_refused_while_the_first_lives() {
    let (_dir, path) = temporary();
    let (log, _) = open(&path, 1 << 20);
    assert!(matches!(Log::open(&path, options(1 << 20), INSTANCE), Err(OpenError::Locked(_))));
    drop(log);
    open(&path, 1 << 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn indices_are_gapless_under_many_appenders() {
    let (_dir, path) = temporary();
    let (log, _) = open(&path, 32 * 1024);
    let log = Arc::new(log);
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..64 {
        let log = Arc::clone(&log);
        tasks.spawn(async move {
            let mut indices = Vec::new();
            for n in 0..20 {
                let durability = if (task + n) % 2 == 0 { Durability::Write } else { Durability::Fsync };
                indices.push(log.append(operation(task * 100 + n), durability).await.unwrap());
            }
            indices
        });
    }
    let mut indices: Vec<u64> = tasks.join_all().await.into_iter().flatten().collect();
    indices.sort_unstable();
    indices.dedup();
    assert_eq!(indices.len(), 64 * 20);
    let verified = verify(&path).unwrap();
    assert!(segments(&path).len() > 5);
    assert_eq!(verified.records, 64 * 20);
}

#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "holding it is what stalls the sync thread")]
async fn fsync_answers_after_the_sync_and_write_before_it() {
    let (_dir, path) = temporary();
    let (log, faults) = faulty::open(&path, options(1 << 20));
    let log = Arc::new(log);
    let gate = faults.gate.lock().unwrap();
    let waiting = tokio::spawn({
        let log = Arc::clone(&log);
        async move { log.append(operation(1), Durability::Fsync).await }
    });
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert!(!waiting.is_finished());
    assert_eq!(log.append(operation(2), Durability::Write).await.unwrap(), 1);
    drop(gate);
    assert_eq!(waiting.await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn a_write_that_nobody_waits_for_is_synced_soon() {
    let (_dir, path) = temporary();
    let (log, faults) = faulty::open(&path, options(1 << 20));
    for _ in 0..2 {
        let before = faults.syncs.load(SeqCst);
        log.append(operation(1), Durability::Write).await.unwrap();
        let synced = async {
            while faults.syncs.load(SeqCst) == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), synced).await.unwrap();
    }
}

#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "holding it is what stalls the sync thread")]
async fn one_sync_serves_all_who_wait() {
    let (_dir, path) = temporary();
    let (log, faults) = faulty::open(&path, options(1 << 20));
    let gate = faults.gate.lock().unwrap();
    let before = faults.syncs.load(SeqCst);
    let appends = futures_util::future::join_all((0..100).map(|n| log.append(operation(n), Durability::Fsync)));
    let mut appends = Box::pin(appends);
    assert!(futures_util::poll!(&mut appends).is_pending());
    drop(gate);
    assert!(appends.await.iter().all(Result::is_ok));
    assert!(faults.syncs.load(SeqCst) - before <= 2);
}

#[tokio::test]
async fn close_is_the_last_record() {
    let (_dir, path) = temporary();
    let (log, _) = open(&path, 1 << 20);
    log.append(operation(1), Durability::Write).await.unwrap();
    log.close().await.unwrap();
    assert!(matches!(log.append(operation(2), Durability::Write).await, Err(LogError::Closed)));
    assert!(matches!(log.close().await, Err(LogError::Closed)));
    assert!(log.health().is_err());
    let lines = lines(&path);
    assert_eq!(lines.last().unwrap()["operation"], "log.closed");
    drop(log);
    assert_eq!(open(&path, 1 << 20).1.next_index, 2);
}

#[tokio::test]
async fn who_is_crowded_waits_for_company_and_is_answered() {
    let (_dir, path) = temporary();
    let (log, faults) = faulty::open(&path, options(1 << 20));
    log.gather_by(|| 256);
    for index in 0..5 {
        assert_eq!(log.append(operation(index), Durability::Fsync).await.unwrap(), index);
    }
    let together = futures_util::future::join_all((5..105).map(|n| log.append(operation(n), Durability::Fsync)));
    assert_eq!(together.await.into_iter().collect::<Result<Vec<_>, _>>().unwrap().len(), 100);
    assert!(faults.syncs.load(SeqCst) >= 6, "who comes alone has a sync of his own");
    log.close().await.unwrap();
}

#[tokio::test]
async fn refusals_are_recorded_once_and_summed_up() {
    let (_dir, path) = temporary();
    let (log, _) = open(&path, 1 << 20);
    let log = Arc::new(log);
    let refusals = super::super::Refusals::new(Arc::clone(&log), Durability::Write);
    let start = std::time::Instant::now();
    let refusal = Record { outcome: Outcome::Refused, reason: Some("permission".to_owned()), ..operation(1) };
    for _ in 0..1000 {
        refusals.append(start, refusal.clone()).await.unwrap();
    }
    assert_eq!(lines(&path).len(), 2);
    refusals.flush(start + super::super::refusals::WINDOW).await.unwrap();
    assert_eq!(lines(&path).last().unwrap()["repeated"], 998);
    refusals.append(start, refusal.clone()).await.unwrap();
    refusals.append(start, refusal.clone()).await.unwrap();
    refusals.close(start).await.unwrap();
    assert_eq!(lines(&path).len(), 5);
    log.close().await.unwrap();
    assert!(refusals.append(start, refusal).await.is_err());
}

#[tokio::test]
async fn operations_that_end_together_share_a_write() {
    let (_dir, path) = temporary();
    let (log, faults) = faulty::open(&path, options(1 << 20));
    let before = faults.writes.load(SeqCst);
    let appends = (0..100).map(|n| log.append(operation(n), Durability::Write));
    let indices: Vec<u64> =
        futures_util::future::join_all(appends).await.into_iter().map(|index| index.unwrap()).collect();
    assert_eq!(indices, (0..100).collect::<Vec<u64>>());
    // A turn has an end.
    assert_eq!(faults.writes.load(SeqCst) - before, 2);
    // Each is in the kernel when it is answered.
    assert_eq!(lines(&path).len(), 101);
    drop(log);
    assert_eq!(verify(&path).unwrap().records, 100);
}

#[tokio::test]
async fn a_turn_goes_over_the_ends_of_segments() {
    let (_dir, path) = temporary();
    let (log, _) = open(&path, 4 * 1024);
    let appends = (0..100).map(|n| log.append(operation(n), Durability::Write));
    assert!(futures_util::future::join_all(appends).await.iter().all(Result::is_ok));
    assert!(segments(&path).len() > 5);
    assert!(segments(&path).iter().all(|path| std::fs::metadata(path).unwrap().len() <= 4 * 1024));
    drop(log);
    assert_eq!(verify(&path).unwrap().records, 100);
}

#[tokio::test]
async fn a_turn_that_finds_no_room_is_refused_and_leaves_nothing() {
    let (_dir, path) = temporary();
    let (log, faults) = faulty::open(&path, options(1 << 20));
    log.append(operation(1), Durability::Write).await.unwrap();
    faults.space.store(700, SeqCst);
    let appends = (0..10).map(|n| log.append(operation(n), Durability::Write));
    let results = futures_util::future::join_all(appends).await;
    assert!(results.iter().all(|result| matches!(result, Err(LogError::NoSpace))), "{results:?}");
    assert_eq!(lines(&path).len(), 2);
    faults.space.store(usize::MAX, SeqCst);
    assert_eq!(log.append(operation(2), Durability::Write).await.unwrap(), 1);
    faults.write_fails.store(true, SeqCst);
    let appends = (0..10).map(|n| log.append(operation(n), Durability::Write));
    let results = futures_util::future::join_all(appends).await;
    assert!(results.iter().all(|result| matches!(result, Err(LogError::Poisoned(_)))), "{results:?}");
}

#[tokio::test]
async fn a_record_whose_operation_went_away_is_written_all_the_same() {
    let (_dir, path) = temporary();
    let (log, _) = open(&path, 1 << 20);
    let mut append = Box::pin(log.append(operation(1), Durability::Write));
    assert!(futures_util::poll!(&mut append).is_pending());
    drop(append);
    let begun = std::time::Instant::now();
    while lines(&path).len() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(30), "it is not written");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(log.append(operation(2), Durability::Fsync).await.unwrap(), 1);
    // And before what comes later, or when the log ends.
    let mut append = Box::pin(log.append(operation(3), Durability::Write));
    assert!(futures_util::poll!(&mut append).is_pending());
    drop(append);
    drop(log);
    assert_eq!(verify(&path).unwrap().records, 3);
}
