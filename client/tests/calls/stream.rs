//! Streams: answers by id, a bound, errors of one call and of all, calls and clients that go away, a clean end.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use strongroom_client::{
    Algorithm, Client, Error, Input, Operation, OperationStream, Outcome, Signature, secrecy::ExposeSecret as _,
};
use tokio::task::{JoinHandle, JoinSet};

use crate::fake::{count, start};

async fn sign(stream: &OperationStream, key: &str, message: &[u8]) -> Result<Signature, Error> {
    stream.sign(&format!("vaults/dev/keys/{key}"), &Algorithm::ES256, Input::Message(message)).await
}

/// A call by itself.
fn signing(stream: &OperationStream, key: &'static str) -> JoinHandle<Result<Signature, Error>> {
    let stream = stream.clone();
    tokio::spawn(async move { sign(&stream, key, b"m").await })
}

/// Waits until the counter has this value, and for a while whether it stays.
async fn settles(counter: &AtomicUsize, at: usize) {
    let begun = Instant::now();
    while count(counter) != at {
        assert!(begun.elapsed() < Duration::from_secs(10), "{} instead of {at}", count(counter));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(count(counter), at);
}

async fn open() -> (OperationStream, Client, std::sync::Arc<crate::fake::Seen>) {
    let (client, seen) = start().await;
    (client.stream().await.expect("opens"), client, seen)
}

#[tokio::test]
async fn each_call_has_its_own_answer() {
    let (stream, ..) = open().await;
    let mut calls = JoinSet::new();
    for number in 0..2000_u16 {
        let stream = stream.clone();
        calls.spawn(async move {
            let message = number.to_be_bytes();
            let signed = sign(&stream, "k", &message).await.expect("signed");
            assert_eq!(signed.signature, message);
            let random = stream.random_bytes(1 + number % 1024).await.expect("made");
            assert_eq!(random.expose_secret().len(), usize::from(1 + number % 1024));
        });
    }
    calls.join_all().await;
    let outcome = stream.operate(Operation::RandomBytes(3)).await.expect("made");
    assert!(matches!(outcome, Outcome::RandomBytes(bytes) if *bytes.expose_secret() == [7; 3]));
    stream.close().await.expect("ends well");
}

#[tokio::test]
async fn an_error_of_one_call_is_no_other_calls() {
    let (stream, ..) = open().await;
    let held = signing(&stream, "held");
    let refused = sign(&stream, "refused", b"m").await.expect_err("refused");
    assert!(matches!(&refused, Error::NotFound(refusal) if refusal.message == "no such key"), "{refused}");
    let damaged = sign(&stream, "damaged", b"m").await;
    assert!(matches!(damaged, Err(Error::Damaged { field: "signature" })));
    assert!(matches!(sign(&stream, "random", b"m").await, Err(Error::Unexpected(_))), "no signature");
    let long = sign(&stream, "k", &vec![0; 1 << 20]).await.expect_err("longer than a message may be");
    assert_eq!(long.refusal().expect("said").reason, "REQUEST_TOO_LARGE");
    sign(&stream, "k", &vec![0; (1 << 20) - 200]).await.expect("just short enough");
    stream.close().await.expect("ends well");
    held.await.expect("no panic").expect("answered at last");
}

#[tokio::test]
async fn no_more_than_256_calls_are_under_way_and_those_that_were_dropped_count_until_they_are_answered() {
    let (stream, _, seen) = open().await;
    let calls: Vec<_> = (0..300).map(|_| signing(&stream, "held")).collect();
    settles(&seen.messages, 256).await;
    // Half of those that were sent, and half of those that were not.
    let (kept, dropped): (Vec<_>, Vec<_>) = calls.into_iter().enumerate().partition(|(place, _)| place % 2 == 0);
    dropped.iter().for_each(|(_, call)| call.abort());
    settles(&seen.messages, 256).await;
    seen.release.notify_one();
    settles(&seen.messages, 256 + 22).await;
    seen.release.notify_one();
    for (_, call) in kept {
        call.await.expect("no panic").expect("answered");
    }
    sign(&stream, "k", b"m").await.expect("room again");
}

#[tokio::test]
async fn when_the_stream_ends_all_calls_end_with_the_cause() {
    let ending: fn(&Error) -> bool = |error| matches!(error, Error::Unavailable(said) if said.reason == "ENDING");
    let closed: fn(&Error) -> bool = |error| matches!(error, Error::Closed);
    let strange: fn(&Error) -> bool = |error| matches!(error, Error::Unexpected(_));
    for (last, fits) in [("ending", ending), ("last", closed), ("stray", strange)] {
        let (stream, _, seen) = open().await;
        // More than are sent.
        let calls: Vec<_> = (0..255).map(|_| signing(&stream, "held")).collect();
        settles(&seen.messages, 255).await;
        let late: Vec<_> = std::iter::once(last).chain(["held"; 50]).map(|key| signing(&stream, key)).collect();
        for call in calls.into_iter().chain(late) {
            let error = call.await.expect("no panic").expect_err("no answer");
            assert!(fits(&error), "{last}: {error:?}");
        }
        let error = sign(&stream, "k", b"m").await.expect_err("it stays so");
        assert!(fits(&error), "{last}: {error:?}");
        let closed = stream.close().await;
        assert!(closed.as_ref().err().is_none_or(fits) && closed.is_ok() == (last == "last"), "{closed:?}");
    }
}

#[tokio::test]
async fn closing_waits_for_what_is_under_way_and_takes_no_more() {
    let (stream, _, seen) = open().await;
    let sent = signing(&stream, "held");
    let dropped = signing(&stream, "held");
    settles(&seen.messages, 2).await;
    dropped.abort();
    let other = stream.clone();
    stream.close().await.expect("ends well");
    sent.await.expect("no panic").expect("answered");
    assert!(matches!(sign(&other, "k", b"m").await, Err(Error::Closed)));
    assert_eq!(count(&seen.messages), 2);
    other.close().await.expect("it has ended already");
    assert_eq!(count(&seen.left), 0);
}

#[tokio::test]
async fn a_stream_that_nobody_holds_is_left() {
    let (stream, _, seen) = open().await;
    let call = signing(&stream, "held");
    settles(&seen.messages, 1).await;
    drop(stream);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(count(&seen.left), 0, "a call holds it");
    call.abort();
    settles(&seen.left, 1).await;
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_or_at_the_streams() {
    let (_, client, seen) = open().await;
    let stream = client.with_timeout(Duration::from_millis(300)).stream().await.expect("opens");
    let begun = Instant::now();
    assert!(matches!(sign(&stream, "held", b"m").await, Err(Error::TimedOut { repeat_with: None, .. })));
    sign(&stream, "k", b"m").await.expect("the stream goes on");
    let held: Vec<_> = (0..255).map(|_| signing(&stream, "held")).collect();
    settles(&seen.messages, 257).await;
    assert!(matches!(sign(&stream, "k", b"m").await, Err(Error::TimedOut { .. })), "no room in time");
    for call in held {
        assert!(matches!(call.await.expect("no panic"), Err(Error::TimedOut { .. })));
    }
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(count(&seen.with_deadline), 0, "it was each call's, not the stream's");
    let until = client.until(tokio::time::Instant::now() + Duration::from_millis(300));
    let stream = until.stream().await.expect("opens");
    assert_eq!(count(&seen.with_deadline), 1);
    assert!(matches!(sign(&stream, "held", b"m").await, Err(Error::TimedOut { .. })));
}

#[tokio::test]
async fn opening_is_repeated_as_any_call() {
    let (client, seen) = start().await;
    seen.openings_refused.store(2, Ordering::Relaxed);
    let stream = client.stream().await.expect("in the end");
    assert_eq!(count(&seen.opened), 3);
    sign(&stream, "k", b"m").await.expect("signed");
}
