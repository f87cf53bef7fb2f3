//! Many calls at once: their answers, their share of a lane, and what happens when they are not wanted any more.

use super::*;

fn signing(number: u32) -> Operation {
    Operation::Sign { algorithm: Algorithm::Es256, input: digest(number).into() }
}

fn encryption(plaintext: Vec<u8>) -> Operation {
    Operation::Encrypt {
        algorithm: Algorithm::A256Gcm,
        purpose: KeyOps::ENCRYPT,
        plaintext: SecretBytes::new(plaintext),
        iv: ByteBuf::new(),
        additional_data: ByteBuf::new(),
    }
}

fn open() -> Arc<dyn Admission> {
    Arc::new(Open)
}

/// Signs the digests of these numbers together.
async fn sign_all(pool: &Pool, numbers: std::ops::Range<u32>, within: Duration) -> Vec<Result<Output, Error>> {
    let operations = numbers.map(signing).collect();
    pool.operate_all(&key(KeySpec::P256, 1), operations, &open(), soon(within)).await
}

fn assert_signatures(results: &[Result<Output, Error>], numbers: std::ops::Range<u32>) {
    assert_eq!(results.len(), numbers.len());
    for (number, result) in numbers.zip(results) {
        match result {
            Ok(Output::Signature(signature)) => assert_eq!(**signature, fake::signature(&digest(number), 64)),
            other => panic!("{number}: {other:?}"),
        }
    }
}

/// A medium lane of one worker with this script and a queue for so many calls.
async fn narrow(script: &str, queue_max: usize) -> (Pool, TempDir) {
    let dir = TempDir::new().expect("a folder");
    let mut profile = profile(dir.path(), &[(Lane::Medium, script)]);
    let lane = profile.lanes.get_mut(&Lane::Medium).expect("lane");
    (lane.workers, lane.queue_max) = (1, queue_max);
    (start(&profile).await, dir)
}

/// The numbers that were signed, in their order.
fn order(dir: &TempDir) -> Vec<u32> {
    fake::lines(dir.path(), "order").iter().map(|line| line.parse().expect("a number")).collect()
}

#[tokio::test]
async fn each_call_gets_its_own_answer_whatever_its_lane() {
    let (pool, _dir) = start_with(&[]).await;
    let aes = key(KeySpec::Aes256, 1);
    // Short and medium in turn, and one that fits in no packet.
    let sizes: Vec<usize> = (0..200).map(|n| if n == 77 { 200_000 } else { [n, 20_000 + n][n % 2] }).collect();
    let plain = |bytes: usize| vec![(bytes % 251) as u8; bytes];
    let operations = sizes.iter().map(|bytes| encryption(plain(*bytes))).collect();
    let results = pool.operate_all(&aes, operations, &open(), soon(LONG)).await;
    assert_eq!(results.len(), sizes.len());
    for (bytes, result) in sizes.into_iter().zip(results) {
        match result {
            Ok(Output::Ciphertext { ciphertext, .. }) => assert_eq!(*ciphertext, fake::masked(&plain(bytes))),
            Err(Error::Fault(Fault::Length(_))) => assert_eq!(bytes, 200_000),
            other => panic!("{other:?}"),
        }
    }
    let random = pool.random_all(vec![1, 0, 1024, 1025], soon(LONG)).await;
    let lengths: Vec<Option<usize>> = random.iter().map(|bytes| bytes.as_ref().ok().map(SecretBytes::len)).collect();
    assert_eq!(lengths, [Some(1), None, Some(1024), None]);
    assert!(pool.operate_all(&aes, Vec::new(), &open(), soon(LONG)).await.is_empty());
}

#[tokio::test]
async fn a_batch_longer_than_the_queue_is_served_whole() {
    let (pool, _dir) = narrow("", 8).await;
    assert_signatures(&sign_all(&pool, 0..300, LONG).await, 0..300);
}

#[tokio::test]
async fn a_single_call_is_admitted_and_served_before_what_a_batch_still_has() {
    let (pool, dir) = narrow("ordered slow-us=300", 256).await;
    let batches: Vec<_> = (0..4)
        .map(|batch| {
            let pool = pool.clone();
            tokio::spawn(async move { sign_all(&pool, batch * 256..(batch + 1) * 256, LONG).await })
        })
        .collect();
    until("bulk has all of its half", || health(&pool, Lane::Medium).queued >= 120).await;
    let begun = order(&dir).len();
    for single in 0..5 {
        sign(&pool, &key(KeySpec::P256, 1), digest(10_000 + single), LONG).await.expect("there is room");
    }
    let order = order(&dir);
    let last = order.iter().position(|number| *number == 10_004).expect("it was signed");
    // Each waits for two packets of at most 32 of a batch, one of which may have just been sent, and for
    // what was begun between looking and asking.
    assert!(last < begun + 5 * 3 * 32, "after {begun} of a batch, five single calls were done at {last}");
    let mut refused = 0;
    for (batch, task) in (0..4).zip(batches) {
        let results = task.await.expect("no panic");
        if matches!(results[0], Err(Error::Overloaded { .. })) {
            assert!(
                results.iter().all(
                    |result| matches!(result, Err(Error::Overloaded { retry_after, .. }) if !retry_after.is_zero())
                )
            );
            refused += 1;
        } else {
            assert_signatures(&results, batch * 256..(batch + 1) * 256);
        }
    }
    assert!(refused < 4, "somebody was served");
}

#[tokio::test]
async fn a_batch_that_nobody_waits_for_is_withdrawn() {
    let (pool, dir) = narrow("ordered slow-us=2000", 1000).await;
    let batch = tokio::spawn({
        let pool = pool.clone();
        async move { sign_all(&pool, 0..400, LONG).await }
    });
    until("it has begun", || !order(&dir).is_empty()).await;
    batch.abort();
    assert!(batch.await.expect_err("aborted").is_cancelled());
    sign(&pool, &key(KeySpec::P256, 1), digest(10_000), LONG).await.expect("the lane goes on");
    assert_eq!(health(&pool, Lane::Medium).queued, 0, "nothing of it waits");
    let begun = order(&dir).len();
    assert!(begun <= 2 * 32 + 1 + 32, "{begun} were begun: two packets, and one that was being sent");
}

#[tokio::test]
async fn what_was_not_sent_when_its_admission_ended_is_not_done() {
    let (pool, dir) = narrow("ordered slow-us=2000", 1000).await;
    let admission = Arc::new(Revocable(AtomicBool::new(false)));
    let batch = tokio::spawn({
        let (pool, admission) = (pool.clone(), Arc::clone(&admission) as Arc<dyn Admission>);
        async move {
            pool.operate_all(&key(KeySpec::P256, 1), (0..200).map(signing).collect(), &admission, soon(LONG)).await
        }
    });
    until("it has begun", || !order(&dir).is_empty()).await;
    admission.0.store(true, Ordering::SeqCst);
    let results = batch.await.expect("no panic");
    let done = results.iter().take_while(|result| result.is_ok()).count();
    assert!((1..=96).contains(&done), "{done}");
    assert_signatures(&results[..done], 0..u32::try_from(done).expect("few"));
    assert!(results[done..].iter().all(|result| matches!(result, Err(Error::Withdrawn))));
    assert_eq!(order(&dir).len(), done, "nothing was signed for nobody");
}

#[tokio::test]
async fn a_batch_that_finds_no_room_is_refused_as_a_whole() {
    let (pool, _dir) = narrow("hang-after=0", 4).await;
    let first = tokio::spawn({
        let pool = pool.clone();
        async move { sign_all(&pool, 0..70, Duration::from_secs(2)).await }
    });
    until("its share is taken", || health(&pool, Lane::Medium).queued == 2).await;
    let second = sign_all(&pool, 0..50, LONG).await;
    assert_eq!(second.len(), 50);
    assert!(second.iter().all(|result| matches!(result, Err(Error::Overloaded { lane: "medium", .. }))), "{second:?}");
    let first = first.await.expect("no panic");
    assert!(first.iter().all(|result| matches!(result, Err(Error::Expired))), "the deadline is kept: {first:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_is_not_seen_by_a_batch() {
    let (pool, _dir) = start_with(&[(Lane::Medium, "crash-after=20 times=1")]).await;
    assert_signatures(&sign_all(&pool, 0..400, LONG).await, 0..400);
}

#[tokio::test]
async fn a_batch_on_a_lane_that_is_down_is_told_so_at_once() {
    let (pool, _dir) = start_with(&[(Lane::Short, "die-at-restart crash-after=1 times=1")]).await;
    assert!(pool.random(1, soon(LONG)).await.is_err());
    let results = pool.random_all(vec![8; 20], soon(LONG)).await;
    assert!(results.iter().all(|result| matches!(result, Err(Error::Unavailable(_)))), "{results:?}");
}
