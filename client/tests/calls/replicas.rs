//! Several servers that do the same: how calls are spread, and what becomes of them when servers fail.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use strongroom_client::{Algorithm, Client, Error, Input, OperationStream, Settings, Signature, v1};
use tempfile::TempDir;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::fake::{KEY, Replica, count};

const SLOW: &str = "vaults/dev/keys/slow";

/// Two servers and a client of both.
async fn two() -> (TempDir, [Replica; 2], Client) {
    let folder = tempfile::tempdir().expect("a folder");
    let replicas = ["a", "b"].map(|name| Replica::new(folder.path(), name));
    let client = settings(&replicas).connect().await.expect("connects");
    // The second may take a moment longer.
    sleep(Duration::from_millis(100)).await;
    (folder, replicas, client)
}

fn settings(replicas: &[Replica; 2]) -> Settings {
    let both = replicas.each_ref().map(Replica::endpoint).join(",");
    Settings::unix(&both).expect("right").with_timeout(Duration::from_secs(20))
}

async fn sign(client: &Client, name: &str) -> Result<Signature, Error> {
    client.sign(name, &Algorithm::ES256, Input::Message(b"m")).await
}

fn signed(replicas: &[Replica; 2]) -> [usize; 2] {
    replicas.each_ref().map(|replica| count(&replica.seen.signed))
}

#[tokio::test]
async fn calls_are_spread_evenly() {
    let (_folder, replicas, client) = two().await;
    for _ in 0..200 {
        sign(&client, KEY).await.expect("signs");
    }
    assert!(signed(&replicas).iter().all(|count| (90..=110).contains(count)), "{:?}", signed(&replicas));
    let mut tasks = JoinSet::new();
    for _ in 0..200 {
        let client = client.clone();
        tasks.spawn(async move { sign(&client, SLOW).await });
    }
    assert!(tasks.join_all().await.iter().all(Result::is_ok));
    assert!(signed(&replicas).iter().all(|count| (170..=230).contains(count)), "{:?}", signed(&replicas));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_safe_call_fails_when_one_of_two_is_killed() {
    let (_folder, mut replicas, client) = two().await;
    let mut tasks = JoinSet::new();
    // More are under way than a budget of repetitions has.
    for _ in 0..64 {
        let client = client.clone();
        tasks.spawn(async move {
            for _ in 0..20 {
                sign(&client, SLOW).await?;
            }
            Ok::<(), Error>(())
        });
    }
    sleep(Duration::from_millis(80)).await;
    replicas[0].kill();
    for result in tasks.join_all().await {
        result.expect("the other answers");
    }
    let before = signed(&replicas);
    assert!(before[0] > 0 && before[1] > 600, "it was killed in the midst of it: {before:?}");
    // It comes back by itself.
    replicas[0].start();
    let back = async {
        while signed(&replicas)[0] == before[0] {
            sign(&client, KEY).await.expect("signs");
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(15), back).await.expect("it gets calls again");
}

#[tokio::test]
async fn one_that_says_that_it_is_not_available_is_left_alone() {
    let (_folder, replicas, client) = two().await;
    replicas[0].seen.is_away.store(true, Ordering::Relaxed);
    for _ in 0..300 {
        sign(&client, KEY).await.expect("the other signs");
    }
    let [away, other] = signed(&replicas);
    assert!((1..=20).contains(&away) && other == 300, "{away} {other}");
    replicas[0].seen.is_away.store(false, Ordering::Relaxed);
    let back = async {
        while signed(&replicas)[0] < away + 20 {
            sign(&client, KEY).await.expect("signs");
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(30), back).await.expect("it gets calls again");
}

#[tokio::test]
async fn when_none_is_there_the_error_names_all() {
    let (_folder, mut replicas, client) = two().await;
    let names = replicas.each_ref().map(Replica::endpoint);
    replicas.iter_mut().for_each(Replica::kill);
    let begun = Instant::now();
    for error in [
        sign(&client, KEY).await.expect_err("nobody is there"),
        settings(&replicas).connect().await.expect_err("nobody is there"),
    ] {
        let text = error.to_string();
        assert!(matches!(error, Error::NoServer(failed) if failed.len() == 2), "{text}");
        assert!(names.iter().all(|name| text.contains(&format!("{name}: there is no such socket"))), "{text}");
    }
    assert!(begun.elapsed() < Duration::from_secs(15));
    // One is enough to connect to.
    replicas[1].start();
    let client = settings(&replicas).connect().await.expect("connects");
    for _ in 0..10 {
        sign(&client, KEY).await.expect("signs");
    }
}

#[tokio::test]
async fn repetition_makes_an_outage_no_worse() {
    let (_folder, replicas, client) = two().await;
    for replica in &replicas {
        replica.seen.is_away.store(true, Ordering::Relaxed);
    }
    let client = client.with_timeout(Duration::from_secs(60));
    for _ in 0..200 {
        assert!(matches!(sign(&client, KEY).await, Err(Error::Unavailable(_))));
    }
    let sent: usize = signed(&replicas).iter().sum();
    assert!((200..=215).contains(&sent), "{sent} for 200 calls");
    for replica in &replicas {
        replica.seen.is_away.store(false, Ordering::Relaxed);
    }
    for _ in 0..100 {
        sign(&client, KEY).await.expect("what is sent is answered");
    }
}

#[tokio::test]
async fn a_change_that_is_made_again_elsewhere_is_the_same_change() {
    let (_folder, replicas, client) = two().await;
    let request = v1::DeleteKeyRequest { name: KEY.into(), ..Default::default() };
    let error = client.with_timeout(Duration::from_secs(1)).delete_key(request).await.expect_err("both are away");
    let ids = replicas.each_ref().map(|replica| replica.seen.deletions.lock().expect("not poisoned").clone());
    assert!(ids.iter().all(|ids| !ids.is_empty()), "both were asked: {ids:?}");
    let id = error.refusal().and_then(|refusal| refusal.repeat_with.clone()).expect("the error says which");
    assert!(ids.concat().iter().all(|other| *other == id), "{ids:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_under_way_at_a_server_that_dies_is_asked_of_the_other_by_the_same_id() {
    let (_folder, mut replicas, client) = two().await;
    replicas[1].seen.creates.store(true, Ordering::Relaxed);
    let creations = |replica: &Replica| replica.seen.creations.lock().expect("not poisoned").clone();
    // Until one is under way at the server that does not answer.
    let mut under_way = None;
    while creations(&replicas[0]).is_empty() {
        let client = client.clone();
        under_way = Some(tokio::spawn(async move { client.create_key(v1::CreateKeyRequest::default()).await }));
        sleep(Duration::from_millis(50)).await;
    }
    replicas[0].kill();
    under_way.expect("there is one").await.expect("no panic").expect("the other makes it");
    let first = creations(&replicas[0]);
    assert_eq!(first.len(), 1);
    assert_eq!(creations(&replicas[1]).iter().filter(|id| **id == first[0]).count(), 1, "once, under the same id");
}

#[tokio::test]
async fn a_call_that_takes_too_long_says_nothing_of_its_server() {
    let (_folder, replicas, client) = two().await;
    for _ in 0..4 {
        let late = client.with_timeout(Duration::from_millis(100)).create_key(v1::CreateKeyRequest::default()).await;
        assert!(matches!(late, Err(Error::TimedOut { repeat_with: Some(_), .. })), "{late:?}");
        let before = signed(&replicas);
        for _ in 0..10 {
            sign(&client, KEY).await.expect("signs");
        }
        let after = signed(&replicas);
        assert!((0..2).all(|at| after[at] - before[at] >= 4), "{before:?} {after:?}");
    }
}

/// A stream, and which of the servers it is at.
async fn stream(replicas: &[Replica; 2], client: &Client) -> (OperationStream, usize) {
    let opened = || replicas.each_ref().map(|replica| count(&replica.seen.opened));
    let before = opened();
    let stream = client.stream().await.expect("opens");
    (stream, usize::from(opened()[0] == before[0]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_breaks_replays_nothing_and_says_so_for_each_operation() {
    let (_folder, mut replicas, client) = two().await;
    let (stream_of_one, at) = stream(&replicas, &client).await;
    let signed = stream_of_one.sign(KEY, &Algorithm::ES256, Input::Message(b"m")).await;
    signed.expect("what was answered is answered");
    let mut tasks = JoinSet::new();
    for _ in 0..5 {
        let stream = stream_of_one.clone();
        tasks.spawn(async move { stream.sign("vaults/dev/keys/held", &Algorithm::ES256, Input::Message(b"m")).await });
    }
    let all = async {
        while count(&replicas[at].seen.messages) < 6 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(10), all).await.expect("all are under way");
    let name = replicas[at].endpoint();
    replicas[at].kill();
    for result in tasks.join_all().await {
        let error = result.expect_err("nobody answers it");
        assert!(matches!(&error, Error::Connection { endpoint, .. } if *endpoint == name), "{error:?}");
    }
    assert_eq!(count(&replicas[1 - at].seen.messages), 0, "nothing is replayed");
    let (another, elsewhere) = stream(&replicas, &client).await;
    assert_eq!(elsewhere, 1 - at);
    another.sign(KEY, &Algorithm::ES256, Input::Message(b"m")).await.expect("another stream answers");
}
