//! The client against a server that refuses, damages and counts: repetition, checksums, streams, envelopes.

mod fake;
mod replicas;
mod stream;

use std::time::{Duration, Instant};

use strongroom_client::{
    Algorithm, Client, DataKeyLength, Error, Input, Material, Operation, Outcome,
    envelope::{Envelope, EnvelopeError, Limits},
    secrecy::ExposeSecret as _,
    v1,
};

use fake::{KEY, count, start};

#[tokio::test]
async fn overload_is_waited_out_as_long_as_the_server_asks() {
    let (client, seen) = start().await;
    let begun = Instant::now();
    client.sign("vaults/dev/keys/busy", &Algorithm::ES256, Input::Message(b"m")).await.expect("in the end");
    assert_eq!(count(&seen.signed), 3);
    assert!(begun.elapsed() >= Duration::from_millis(600));
}

#[tokio::test]
async fn damage_on_the_way_is_an_error() {
    let (client, _) = start().await;
    let damaged = client.sign("vaults/dev/keys/damaged", &Algorithm::ES256, Input::Message(b"m")).await;
    assert!(matches!(damaged, Err(Error::Damaged { field: "signature" })));
}

#[tokio::test]
async fn a_change_is_repeated_with_one_request_id_which_its_error_names() {
    let (client, seen) = start().await;
    let request = v1::DeleteKeyRequest { name: KEY.into(), ..Default::default() };
    let error = client.with_timeout(Duration::from_secs(1)).delete_key(request).await.expect_err("away");
    let deletions = seen.deletions.lock().expect("not poisoned").clone();
    assert!(deletions.len() >= 2 && deletions.iter().all(|id| *id == deletions[0] && !id.is_empty()));
    let refusal = error.refusal().expect("the server said something");
    assert_eq!(refusal.repeat_with.as_deref(), Some(deletions[0].as_str()));
    assert!(matches!(error, Error::Unavailable(_)));
}

#[tokio::test]
async fn who_changes_something_hears_that_it_is_not_in_force_everywhere_yet() {
    let (client, seen) = start().await;
    seen.creates.store(true, std::sync::atomic::Ordering::Relaxed);
    let heard = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let tell = std::sync::Arc::clone(&heard);
    let telling = client.when_in_force_later(move |from| tell.lock().expect("not poisoned").push(from.to_owned()));
    for client in [&client, &telling] {
        client.create_key(v1::CreateKeyRequest::default()).await.expect("made");
    }
    assert_eq!(*heard.lock().expect("not poisoned"), ["2026-11-26T12:00:00Z"]);
}

#[tokio::test]
async fn a_call_ends_at_its_deadline() {
    let (client, _) = start().await;
    let request = v1::CreateKeyRequest { request_id: "6f".into(), ..Default::default() };
    let begun = Instant::now();
    let late = client.with_timeout(Duration::from_millis(300)).create_key(request).await;
    assert!(matches!(late, Err(Error::TimedOut { repeat_with: Some(id), .. }) if id == "6f"));
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(matches!(client.get_key(KEY).await, Err(Error::Denied(_))), "the connection goes on");
}

#[tokio::test]
async fn each_operation_of_a_batch_has_its_own_result_which_must_fit() {
    let (client, _) = start().await;
    let sign = Operation::Sign(KEY, &Algorithm::ES256, Input::Message(b"m"));
    let results = client.batch(&[sign, sign, Operation::RandomBytes(7)]).await.expect("answered");
    assert!(matches!(&results[0], Ok(Outcome::Signature(made)) if made.signature == [7]));
    assert!(matches!(results[1], Err(Error::Damaged { field: "signature" })));
    assert!(matches!(results[2], Err(Error::Unexpected(_))), "a signature is no random bytes");
    assert!(matches!(client.batch(&[sign]).await, Err(Error::Unexpected(_))), "no result");
}

#[tokio::test]
async fn random_bytes_come_in_as_many_calls_as_it_takes() {
    let (client, _) = start().await;
    assert_eq!(client.random_bytes(2500).await.expect("made").expose_secret(), [7; 2500]);
}

#[tokio::test]
async fn data_keys_are_checked_and_imports_carry_their_checksum() {
    let (client, _) = start().await;
    let wanted = DataKeyLength { length_bytes: 32, ..Default::default() };
    let made = client.generate_data_key(KEY, &Algorithm::A256KW, wanted).await.expect("made");
    assert_eq!((made.key.expose_secret(), &made.wrapped.wrapped_key[..]), (&[7; 32][..], &[!7; 32][..]));
    let damaged = client.generate_data_key_without_plaintext(KEY, &Algorithm::A256KW, wanted).await;
    assert!(matches!(damaged, Err(Error::Damaged { field: "wrapped_key" })));
    let request = v1::ImportKeyRequest { key_id: "k".into(), ..Default::default() };
    assert_eq!(client.import_key(request, Material::Oct(&[7; 16])).await.expect("imported").name, "k");
}

#[tokio::test]
async fn lists_are_read_to_their_last_page() {
    let (client, _) = start().await;
    assert_eq!(client.get_public_keys(v1::GetPublicKeysRequest::default()).await.expect("listed").len(), 2);
}

fn envelope(client: &Client, limits: Limits) -> Envelope {
    Envelope::new(client.clone(), KEY, Algorithm::A256KW, limits).expect("a key")
}

#[tokio::test]
async fn many_messages_take_one_data_key_and_each_opens_again() {
    let (client, seen) = start().await;
    let maker = envelope(&client, Limits::default());
    let mut sealed = Vec::new();
    for length in [0, 1, 100, 1_000_000] {
        sealed.push((length, maker.encrypt(&vec![7; length], b"row 7").await.expect("sealed")));
    }
    assert_eq!(count(&seen.wrapped), 1);
    let reader = envelope(&client, Limits::default());
    for (length, sealed) in sealed {
        let opened = reader.decrypt(&sealed, b"row 7").await.expect("opened");
        assert_eq!(opened.expose_secret(), vec![7; length]);
    }
    assert_eq!(count(&seen.unwrapped), 1);
    reader.forget().await;
}

#[tokio::test]
async fn a_data_key_ends_with_its_uses_and_with_its_time() {
    let (client, seen) = start().await;
    let by_uses = envelope(&client, Limits { uses_max: 2, ..Limits::default() });
    let mut sealed = Vec::new();
    for _ in 0..5 {
        sealed.push(by_uses.encrypt(b"text", b"").await.expect("sealed"));
    }
    assert_eq!(count(&seen.wrapped), 3);
    for sealed in &sealed {
        by_uses.decrypt(sealed, b"").await.expect("opened");
    }
    assert_eq!(count(&seen.unwrapped), 3);
    let by_time = envelope(&client, Limits { age_max: Duration::from_millis(50), ..Limits::default() });
    by_time.encrypt(b"text", b"").await.expect("sealed");
    tokio::time::sleep(Duration::from_millis(60)).await;
    by_time.encrypt(b"text", b"").await.expect("sealed");
    assert_eq!(count(&seen.wrapped), 5);
}

#[tokio::test]
async fn callers_that_come_together_make_one_data_key() {
    let (client, seen) = start().await;
    let envelope = envelope(&client, Limits::default());
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let envelope = envelope.clone();
            tokio::spawn(async move { envelope.encrypt(b"text", b"").await.expect("sealed") })
        })
        .collect();
    let mut nonces = std::collections::HashSet::new();
    for task in tasks {
        let sealed = task.await.expect("ended");
        let at = sealed.len() - 4 - 16 - 12;
        assert!(nonces.insert(sealed[at..at + 12].to_vec()));
    }
    assert_eq!(count(&seen.wrapped), 1);
}

#[tokio::test]
async fn nothing_that_was_altered_opens() {
    let (client, _) = start().await;
    let envelope = envelope(&client, Limits::default());
    let sealed = envelope.encrypt(b"text", b"row 7").await.expect("sealed");
    assert!(matches!(envelope.decrypt(&sealed, b"row 8").await, Err(EnvelopeError::Altered)));
    for at in 0..sealed.len() {
        let mut altered = sealed.clone();
        altered[at] ^= 1;
        assert!(envelope.decrypt(&altered, b"row 7").await.is_err(), "byte {at}");
        assert!(envelope.decrypt(&sealed[..at], b"row 7").await.is_err(), "{at} bytes");
    }
    // What stands at the end of the header cannot pass for associated data.
    let moved = [&sealed[..], b"r"].concat();
    assert!(envelope.decrypt(&moved, b"ow 7").await.is_err());
}

#[tokio::test]
async fn an_envelope_of_another_key_is_not_opened() {
    let (client, seen) = start().await;
    let sealed = envelope(&client, Limits::default()).encrypt(b"text", b"").await.expect("sealed");
    let other = Envelope::new(client, "vaults/dev/keys/other", Algorithm::A256KW, Limits::default()).expect("a key");
    let error = other.decrypt(&sealed, b"").await.map(|_| ()).expect_err("another key");
    assert!(matches!(error, EnvelopeError::OtherKey { .. }), "{error}");
    assert_eq!(count(&seen.unwrapped), 0, "the server is not even asked");
}
