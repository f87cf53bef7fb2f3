//! Batches over gRPC: every operation, a status for each, the limits, and a client that goes away.

use std::time::{Duration, Instant};

use prost::Message as _;
use strongroom_proto::v1::{
    BatchRequest, CreateKeyRequest, DecryptRequest, EncryptRequest, GenerateDataKeyRequest,
    GenerateDataKeyWithoutPlaintextRequest, GenerateRandomBytesRequest, KeyVersion, OperationRequest,
    OperationResponse, SignRequest, UnwrapKeyRequest, VerifyRequest, WrapKeyRequest, crypto_client::CryptoClient,
    keys_client::KeysClient, operation_request::Operation, operation_response::Result as Answer, sign_request,
    verify_request,
};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::{
    dev::{Dev, Start},
    rpc::{connect, connect_as, ec, made, reason, sign},
    trouble::get,
};

const EC: &str = "vaults/dev/keys/ec";
const AES: &str = "vaults/dev/keys/aes";
/// What a batch may be long.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// An AES key.
pub(crate) fn aes(name: &str) -> CreateKeyRequest {
    let version = Some(KeyVersion { key_type: 3, ..KeyVersion::default() });
    CreateKeyRequest { version, ..ec(name) }
}

/// The keys `ec` and `aes`.
pub(crate) async fn two_keys(channel: &Channel) {
    made(channel, "ec").await;
    KeysClient::new(channel.clone()).create_key(aes("aes")).await.expect("made");
}

/// A client that takes answers to the longest batches.
fn client(channel: &Channel) -> CryptoClient<Channel> {
    CryptoClient::new(channel.clone()).max_decoding_message_size(5 << 20)
}

pub(crate) fn encrypt(bytes: usize) -> EncryptRequest {
    EncryptRequest {
        name: AES.to_owned(),
        algorithm: "A256GCM".to_owned(),
        plaintext: vec![0x5a; bytes],
        ..EncryptRequest::default()
    }
}

pub(crate) fn operation(operation: Operation) -> OperationRequest {
    OperationRequest { operation: Some(operation) }
}

fn batch_of(operations: impl IntoIterator<Item = Operation>) -> BatchRequest {
    BatchRequest { operations: operations.into_iter().map(operation).collect() }
}

async fn run(channel: &Channel, operations: impl IntoIterator<Item = Operation>) -> Result<Vec<Answer>, Status> {
    let response = client(channel).batch(batch_of(operations)).await?.into_inner();
    let answer = |response: OperationResponse| response.result.expect("each has a result");
    Ok(response.results.into_iter().map(answer).collect())
}

/// The status of an operation among others, as a client of its own would see it.
pub(crate) fn failure(answer: &Answer) -> Status {
    let Answer::Error(status) = answer else { panic!("it has failed: {answer:?}") };
    Status::with_details(Code::from(status.code), status.message.clone(), status.encode_to_vec().into())
}

#[tokio::test]
async fn every_operation_can_stand_in_a_batch_and_answers_come_in_their_order() {
    let dev = Dev::new();
    let channel = connect(&dev).await;
    two_keys(&channel).await;
    let random = |length_bytes| Operation::GenerateRandomBytes(GenerateRandomBytesRequest { length_bytes });
    let wrap = WrapKeyRequest {
        name: AES.to_owned(),
        algorithm: "A256KW".to_owned(),
        key: vec![9; 32],
        ..WrapKeyRequest::default()
    };
    let message = SignRequest { input: Some(sign_request::Input::Message(b"message".to_vec())), ..sign(EC) };
    let both = GenerateDataKeyRequest { name: AES.to_owned(), algorithm: "A256KW".to_owned(), ..Default::default() };
    let only = GenerateDataKeyWithoutPlaintextRequest {
        name: AES.to_owned(),
        algorithm: "A256GCM".to_owned(),
        ..Default::default()
    };
    let first = [
        Operation::Encrypt(encrypt(1000)),
        Operation::Sign(message),
        random(7),
        Operation::WrapKey(wrap),
        Operation::GenerateDataKey(both),
        Operation::GenerateDataKeyWithoutPlaintext(only),
    ];
    let answers = run(&channel, first).await.expect("answered");
    let [
        Answer::Encrypt(sealed),
        Answer::Sign(signed),
        Answer::GenerateRandomBytes(random),
        Answer::WrapKey(wrapped),
        Answer::GenerateDataKey(both),
        Answer::GenerateDataKeyWithoutPlaintext(only),
    ] = &answers[..]
    else {
        panic!("each in its place: {answers:?}")
    };
    assert_eq!((both.key.len(), both.wrapped_key.len(), only.wrapped_key.len()), (32, 40, 32));
    assert!(!format!("{answers:?}").contains(&format!("{:?}", &both.key[..8])), "a data key is not printed");
    assert_eq!(random.data.len(), 7);
    assert_eq!(signed.signature_crc32c, crc32c::crc32c(&signed.signature));
    let decrypt = DecryptRequest {
        name: sealed.name.clone(),
        algorithm: "A256GCM".to_owned(),
        ciphertext: sealed.ciphertext.clone(),
        iv: sealed.iv.clone(),
        tag: sealed.tag.clone(),
        ..DecryptRequest::default()
    };
    let verify = VerifyRequest {
        name: signed.name.clone(),
        algorithm: "ES256".to_owned(),
        input: Some(verify_request::Input::Message(b"message".to_vec())),
        signature: signed.signature.clone(),
        ..VerifyRequest::default()
    };
    let other = VerifyRequest { input: Some(verify_request::Input::Message(b"other".to_vec())), ..verify.clone() };
    let unwrap = UnwrapKeyRequest {
        name: wrapped.name.clone(),
        algorithm: "A256KW".to_owned(),
        wrapped_key: wrapped.wrapped_key.clone(),
        wrapped_key_crc32c: None,
    };
    let second = [
        Operation::Decrypt(decrypt),
        Operation::Verify(verify),
        Operation::UnwrapKey(unwrap),
        Operation::Verify(other),
    ];
    let answers = run(&channel, second).await.expect("answered");
    let [Answer::Decrypt(opened), Answer::Verify(right), Answer::UnwrapKey(key), Answer::Verify(wrong)] = &answers[..]
    else {
        panic!("each in its place: {answers:?}")
    };
    assert_eq!((&opened.plaintext, &key.key), (&vec![0x5a; 1000], &vec![9; 32]));
    assert_eq!((right.valid, wrong.valid), (true, false));
    assert!(!format!("{answers:?}").contains("90, 90"), "a plaintext is not printed");
    let (_, metrics) = get(&dev, "/metrics");
    let counted = metrics.lines().find(|line| {
        ["strongroom_operations_total", "\"batch\"", "\"Verify\"", "\"OK\""].iter().all(|word| line.contains(word))
    });
    assert!(counted.is_some_and(|line| line.ends_with(" 2")), "{counted:?}");
}

#[tokio::test]
async fn an_operation_that_fails_has_the_status_that_it_has_alone() {
    let dev = Dev::new();
    let channel = connect(&dev).await;
    two_keys(&channel).await;
    let wrong = [
        SignRequest { input: Some(sign_request::Input::Digest(vec![1; 31])), ..sign(EC) },
        SignRequest { input: None, ..sign(EC) },
        SignRequest { algorithm: "RS256".to_owned(), ..sign(EC) },
        SignRequest { algorithm: "none".to_owned(), ..sign(EC) },
        SignRequest { input_crc32c: Some(1), ..sign(EC) },
        sign("vaults/dev/keys/nobody"),
        sign("keys/ec"),
        sign(AES),
    ];
    // Right ones stand between them: nobody suffers for another.
    let mixed = wrong.iter().flat_map(|wrong| [wrong.clone(), sign(EC)]).map(Operation::Sign);
    let answers = run(&channel, mixed).await.expect("answered");
    assert_eq!(answers.len(), 2 * wrong.len());
    for (pair, request) in answers.chunks(2).zip(wrong) {
        assert!(matches!(pair[1], Answer::Sign(_)), "{:?}", pair[1]);
        let among = failure(&pair[0]);
        let alone = CryptoClient::new(channel.clone()).sign(request).await.expect_err("wrong");
        assert_eq!((among.code(), among.message()), (alone.code(), alone.message()));
        let (mut among, mut alone) = (among.get_error_details(), alone.get_error_details());
        assert!(among.request_info().is_some_and(|info| !info.request_id.is_empty()));
        // All but the request's own id.
        for details in [&mut among, &mut alone] {
            details.set_request_info("", "");
        }
        assert_eq!(format!("{among:?}"), format!("{alone:?}"));
    }
    let missing = BatchRequest { operations: vec![OperationRequest::default(), operation(Operation::Sign(sign(EC)))] };
    let results = client(&channel).batch(missing).await.expect("answered").into_inner().results;
    let first = results[0].result.as_ref().expect("a result");
    assert_eq!(reason(&failure(first)), "INVALID_FIELD");
    assert!(matches!(results[1].result, Some(Answer::Sign(_))));
    let stranger = connect_as(&dev, "spiffe://dev.strongroom.invalid/stranger").await;
    let answers = run(&stranger, [Operation::Sign(sign(EC))]).await.expect("answered");
    assert_eq!(failure(&answers[0]).code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_batch_has_1_to_256_operations_and_4_mib() {
    let dev = Dev::new();
    let channel = connect(&dev).await;
    two_keys(&channel).await;
    let signs = |count: usize| (0..count).map(|_| Operation::Sign(sign(EC)));
    let answers = run(&channel, signs(256)).await.expect("256 are taken");
    assert!(answers.len() == 256 && answers.iter().all(|answer| matches!(answer, Answer::Sign(_))));
    for count in [0, 257, 5000] {
        let status = run(&channel, signs(count)).await.expect_err("refused");
        assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "INVALID_FIELD"), "{count}");
        assert!(status.message().contains("256"), "{}", status.message());
    }
    let full = |bytes: usize| {
        let mut batch = batch_of((0..64).map(|_| Operation::Encrypt(encrypt(64 << 10))));
        let rest = batch.encoded_len() - bytes;
        batch.operations[0] = operation(Operation::Encrypt(encrypt((64 << 10) - rest)));
        assert_eq!(batch.encoded_len(), bytes);
        batch
    };
    let answer = client(&channel).batch(full(BATCH_BYTES_MAX)).await.expect("4 MiB are taken").into_inner();
    assert!(answer.results.iter().all(|result| matches!(result.result, Some(Answer::Encrypt(_)))));
    let status = client(&channel).batch(full(BATCH_BYTES_MAX + 1)).await.expect_err("one more is not");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "REQUEST_TOO_LARGE"));
    assert!(status.message().contains("4 MiB"), "{}", status.message());
    // Other methods are as they were.
    let long = EncryptRequest { additional_data: vec![0; 1 << 20], ..encrypt(1) };
    let status = CryptoClient::new(channel.clone()).encrypt(long).await.expect_err("too long");
    assert_eq!((reason(&status).as_str(), status.message()), ("REQUEST_TOO_LARGE", "the request is longer than 1 MiB"));
    run(&channel, signs(1)).await.expect("the server is up");
}

/// The figure of one line of the metrics: all words are in it.
pub(crate) fn figure(dev: &Dev, words: &[&str]) -> f64 {
    let (_, metrics) = get(dev, "/metrics");
    let line = metrics.lines().find(|line| !line.starts_with('#') && words.iter().all(|word| line.contains(word)));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
}

/// Waits until a figure is so.
pub(crate) async fn until(dev: &Dev, words: &[&str], wanted: impl Fn(f64) -> bool) {
    let begun = Instant::now();
    while !wanted(figure(dev, words)) {
        assert!(begun.elapsed() < Duration::from_secs(30), "{words:?} stays {}", figure(dev, words));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_vanishes_takes_its_batch_with_it() {
    let mut dev = Dev::new();
    dev.stop();
    // 256 signatures take half a minute.
    dev.start(Start { faults: &["medium=sign=delay:100ms"], set: &["medium.workers=1"], ..Start::default() });
    let (client, other) = (connect(&dev).await, connect(&dev).await);
    two_keys(&client).await;
    let waiting = ["strongroom_hsm_queue_length", "medium"];
    let batch = tokio::spawn(async move { run(&client, (0..256).map(|_| Operation::Sign(sign(EC)))).await });
    until(&dev, &waiting, |calls| calls > 100.0).await;
    batch.abort();
    assert!(batch.await.expect_err("aborted").is_cancelled());
    // Two packets of 32 have been sent; what waited goes nowhere.
    let begun = Instant::now();
    CryptoClient::new(other).sign(sign(EC)).await.expect("the lane is not blocked");
    assert!(begun.elapsed() < Duration::from_secs(15), "it waited {:?}", begun.elapsed());
    until(&dev, &waiting, |calls| calls == 0.0).await;
    until(&dev, &["strongroom_requests_under_way"], |requests| requests == 0.0).await;
    let cancelled = ["strongroom_requests_total", "Crypto/Batch", "CANCELLED"];
    assert_eq!(figure(&dev, &cancelled), 1.0);
}

/// The client library, with what `dev` wrote for clients.
pub(crate) async fn library(dev: &Dev) -> strongroom_client::Client {
    let read = |name: &str| std::fs::read(dev.variable(name)).expect("reads");
    let credentials = strongroom_client::Credentials {
        ca: read("STRONGROOM_CA"),
        certificate: read("STRONGROOM_CERT"),
        private_key: read("STRONGROOM_KEY").into(),
    };
    let endpoint = dev.variable("STRONGROOM_ENDPOINT");
    let settings = strongroom_client::Settings::new(&endpoint, credentials).expect("settings");
    settings.connect().await.expect("connects")
}

#[tokio::test]
async fn the_client_library_makes_batches_of_every_operation() {
    use strongroom_client::{
        Algorithm, DataKeyLength, Encryption, Input, Operation, Outcome, secrecy::ExposeSecret as _,
    };
    let dev = Dev::new();
    dev.ok(&["key", "create", "ec", "--type", "EC"]);
    dev.ok(&["key", "create", "aes", "--type", "oct"]);
    let client = library(&dev).await;
    let (ec, aes) = ("vaults/dev/keys/ec", "vaults/dev/keys/aes");
    let data_key = DataKeyLength { length_bytes: 32, additional_data: b"" };
    let plaintext = Encryption { plaintext: b"meet at noon", ..Encryption::default() };
    let operations = [
        Operation::Sign(ec, &Algorithm::ES256, Input::Message(b"m")),
        Operation::Encrypt(aes, &Algorithm::A256GCM, plaintext),
        Operation::WrapKey(aes, &Algorithm::A256KW, &[5; 32]),
        Operation::RandomBytes(17),
        Operation::DataKey(aes, &Algorithm::A256KW, data_key),
        Operation::WrappedDataKey(aes, &Algorithm::A256KW, data_key),
        Operation::Sign("vaults/dev/keys/nobody", &Algorithm::ES256, Input::Message(b"m")),
    ];
    let results = client.batch(&operations).await.expect("answered");
    let Ok(Outcome::Signature(signature)) = &results[0] else { panic!("{:?}", results[0]) };
    let Ok(Outcome::WrappedKey(wrapped)) = &results[2] else { panic!("{:?}", results[2]) };
    assert!(matches!(&results[1], Ok(Outcome::Ciphertext(made)) if made.ciphertext.len() == 12));
    assert!(matches!(&results[3], Ok(Outcome::RandomBytes(bytes)) if bytes.expose_secret().len() == 17));
    assert!(matches!(&results[4], Ok(Outcome::DataKey(made)) if made.key.expose_secret().len() == 32));
    assert!(matches!(&results[5], Ok(Outcome::WrappedDataKey(made)) if made.wrapped_key.len() == 40));
    assert!(matches!(&results[6], Err(strongroom_client::Error::NotFound(_))), "{:?}", results[6]);
    let back = [
        Operation::Verify(&signature.version, &Algorithm::ES256, Input::Message(b"m"), &signature.signature),
        Operation::UnwrapKey(&wrapped.version, &Algorithm::A256KW, &wrapped.wrapped_key),
    ];
    let back = client.batch(&back).await.expect("answered");
    assert!(matches!(&back[0], Ok(Outcome::Verdict(verdict)) if verdict.valid));
    assert!(matches!(&back[1], Ok(Outcome::UnwrappedKey(key)) if *key.key.expose_secret() == [5; 32]));
}
