//! Streams over gRPC: answers by id, rights that come and go, limits, slow readers, clients that vanish, and a
//! server that ends.

use std::{
    collections::HashMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use prost::Message as _;
use strongroom_proto::v1::{
    CreateRoleAssignmentRequest, DeleteRoleAssignmentRequest, GenerateRandomBytesRequest, RoleAssignment, SignRequest,
    StreamRequest, StreamResponse, crypto_client::CryptoClient, operation_request::Operation,
    operation_response::Result as Answer, role_assignments_client::RoleAssignmentsClient, sign_request,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming, transport::Channel};

use crate::{
    batch::{encrypt, failure, figure, library, operation, two_keys, until},
    dev::{Dev, Start},
    rpc::{CRYPTO_USER, connect, connect_as, reason, sign},
};

const EC: &str = "vaults/dev/keys/ec";
const PATIENCE: Duration = Duration::from_secs(30);

/// One end of a stream.
pub(crate) struct Talk {
    sender: Option<mpsc::Sender<StreamRequest>>,
    answers: Streaming<StreamResponse>,
}

impl Talk {
    pub(crate) async fn open(channel: &Channel) -> Self {
        Self::with(channel, |_| {}).await
    }

    async fn with(channel: &Channel, prepare: impl FnOnce(&mut Request<ReceiverStream<StreamRequest>>)) -> Self {
        let (sender, receiver) = mpsc::channel(1);
        let mut request = Request::new(ReceiverStream::new(receiver));
        prepare(&mut request);
        let answers = CryptoClient::new(channel.clone()).stream(request).await.expect("opens").into_inner();
        Self { sender: Some(sender), answers }
    }

    pub(crate) async fn send(&self, id: u64, message: Operation) {
        let request = StreamRequest { id, operation: Some(operation(message)) };
        let sender = self.sender.as_ref().expect("not finished");
        timeout(PATIENCE, sender.send(request)).await.expect("is read").expect("is open");
    }

    /// No more will be sent.
    fn finish(&mut self) {
        self.sender = None;
    }

    pub(crate) async fn next(&mut self) -> Result<Option<(u64, Answer)>, Status> {
        let next = timeout(PATIENCE, self.answers.message()).await.expect("in time")?;
        Ok(next.map(|answer| (answer.id, answer.result.and_then(|result| result.result).expect("a result"))))
    }

    pub(crate) async fn answer(&mut self) -> (u64, Answer) {
        self.next().await.expect("goes on").expect("an answer")
    }
}

fn random(length_bytes: i32) -> Operation {
    Operation::GenerateRandomBytes(GenerateRandomBytesRequest { length_bytes })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_operation_is_answered_once_under_its_id() {
    let dev = Dev::new();
    let channel = connect(&dev).await;
    two_keys(&channel).await;
    let mut talk = Talk::open(&channel).await;
    let sender = talk.sender.take().expect("open");
    let sending = tokio::spawn(async move {
        for id in 0..2000 {
            let message = match id % 4 {
                0 => Operation::Sign(sign(EC)),
                1 => Operation::Encrypt(encrypt(id as usize)),
                2 => random(1 + i32::try_from(id % 1000).expect("small")),
                _ => Operation::Sign(sign("vaults/dev/keys/nobody")),
            };
            sender.send(StreamRequest { id, operation: Some(operation(message)) }).await.expect("is read");
        }
    });
    let mut answers = HashMap::new();
    while let Some((id, answer)) = talk.next().await.expect("goes on") {
        assert!(answers.insert(id, answer).is_none(), "{id} was answered twice");
    }
    sending.await.expect("no panic");
    assert_eq!(answers.len(), 2000);
    for (id, answer) in answers {
        match (id % 4, answer) {
            (0, Answer::Sign(signed)) => assert_eq!(signed.signature.len(), 64),
            (1, Answer::Encrypt(sealed)) => assert_eq!(sealed.ciphertext.len() as u64, id),
            (2, Answer::GenerateRandomBytes(bytes)) => assert_eq!(bytes.data.len() as u64, 1 + id % 1000),
            (3, failed) => assert_eq!(failure(&failed).code(), Code::NotFound),
            (_, other) => panic!("{id}: {other:?}"),
        }
    }
    until(&dev, &["strongroom_requests_under_way"], |requests| requests == 0.0).await;
    assert_eq!(figure(&dev, &["strongroom_requests_total", "Crypto/Stream", "\"OK\""]), 1.0);
    assert_eq!(figure(&dev, &["strongroom_operations_total", "\"stream\"", "\"Sign\"", "NOT_FOUND"]), 500.0);
}

/// The records of the development server whose line has this word.
fn records(dev: &Dev, word: &str) -> Vec<String> {
    let folder = fs::read_dir(dev.data().join("audit/journal")).expect("a folder");
    let logs = folder.map(|entry| entry.expect("an entry").path()).filter(|path| path.extension().is_some());
    let lines: String = logs.filter_map(|path| fs::read_to_string(path).ok()).collect();
    lines.lines().filter(|line| line.contains(word)).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_role_that_is_taken_away_ends_what_was_opened_before() {
    let dev = Dev::new();
    let admin = connect(&dev).await;
    two_keys(&admin).await;
    let who = "spiffe://dev.strongroom.invalid/ci";
    let user = connect_as(&dev, who).await;
    let mut roles = RoleAssignmentsClient::new(admin);
    let assignment = RoleAssignment {
        principal: who.to_owned(),
        role: CRYPTO_USER.to_owned(),
        scope: "vaults/dev".to_owned(),
        ..Default::default()
    };
    let request = CreateRoleAssignmentRequest { role_assignment: Some(assignment), ..Default::default() };
    let mut talk = Talk::open(&user).await;
    let mut ask = async |id| {
        talk.send(id, Operation::Sign(sign(EC))).await;
        let (answered, answer) = talk.answer().await;
        assert_eq!(answered, id);
        match answer {
            Answer::Sign(_) => Code::Ok,
            failed => failure(&failed).code(),
        }
    };
    assert_eq!(ask(1).await, Code::PermissionDenied);
    let given = roles.create_role_assignment(request).await.expect("assigned").into_inner();
    assert_eq!(ask(2).await, Code::Ok);
    let request = DeleteRoleAssignmentRequest { name: given.name, ..Default::default() };
    roles.delete_role_assignment(request).await.expect("taken");
    assert_eq!(ask(3).await, Code::PermissionDenied);
    let signed = records(&dev, "\"keys.sign\"");
    let done: Vec<_> = signed.iter().filter(|line| line.contains("\"outcome\":\"done\"")).collect();
    assert!(done.len() == 1 && done[0].contains(".2\""), "each has a record and a request id of its own: {signed:?}");
}

#[tokio::test]
async fn a_message_has_1_mib_and_one_that_is_longer_ends_the_stream() {
    let dev = Dev::new();
    let channel = connect(&dev).await;
    two_keys(&channel).await;
    let padded = |bytes: usize| {
        let message = |pad| {
            let input = Some(sign_request::Input::Message(vec![0; pad]));
            let message = Operation::Sign(SignRequest { input, ..sign(EC) });
            StreamRequest { id: 1, operation: Some(operation(message)) }
        };
        let overhead = message(bytes).encoded_len() - bytes;
        let message = message(bytes - overhead);
        assert_eq!(message.encoded_len(), bytes);
        message
    };
    let mut talk = Talk::open(&channel).await;
    let sender = talk.sender.clone().expect("open");
    sender.send(padded(1 << 20)).await.expect("open");
    let (_, answer) = talk.answer().await;
    assert_eq!(reason(&failure(&answer)), "INVALID_LENGTH", "it was read, and is too long to be signed");
    talk.send(2, random(3)).await;
    sender.send(padded((1 << 20) + 1)).await.expect("open");
    let (id, answer) = talk.answer().await;
    assert!(matches!((id, answer), (2, Answer::GenerateRandomBytes(_))), "what came before is answered");
    let status = talk.next().await.expect_err("the stream ends");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "REQUEST_TOO_LARGE"));
    let mut next = Talk::open(&channel).await;
    next.send(1, random(3)).await;
    next.answer().await;
}

/// Resident memory of a process, in bytes.
fn resident(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("reads");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    let kilobytes: u64 = line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number");
    kilobytes * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_is_read_from_slowly_and_holds_up_nobody() {
    const MESSAGES: u64 = 2000;
    const BYTES: usize = 48 << 10;
    let dev = Dev::new();
    let (slow, other) = (connect(&dev).await, connect(&dev).await);
    two_keys(&slow).await;
    let mut talk = Talk::open(&slow).await;
    // Buffers and keys come to their place first.
    talk.send(MESSAGES, Operation::Encrypt(encrypt(BYTES))).await;
    talk.answer().await;
    let before = resident(dev.pid());
    let (sender, sent) = (talk.sender.take().expect("open"), Arc::new(AtomicU64::new(0)));
    let sending = tokio::spawn({
        let sent = Arc::clone(&sent);
        async move {
            for id in 0..MESSAGES {
                let message = operation(Operation::Encrypt(encrypt(BYTES)));
                sender.send(StreamRequest { id, operation: Some(message) }).await.expect("is read in the end");
                sent.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    // It goes on until windows and buffers are full, and then no further.
    let mut last = u64::MAX;
    while sent.load(Ordering::SeqCst) != last {
        last = sent.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    // 4 MiB under way, and a few windows of each connection's two ends on either side.
    assert!(last * (BYTES as u64) < 16 << 20, "{last} of {MESSAGES} were read without an answer taken");
    let mut crypto = CryptoClient::new(other);
    // Whoever is blocked waits for ever; on a busy machine others wait for long, too.
    let patient = |bytes| {
        let mut request = Request::new(encrypt(bytes));
        request.set_timeout(Duration::from_secs(60));
        request
    };
    for _ in 0..50 {
        crypto.encrypt(patient(1024)).await.expect("the lane is not blocked");
        crypto.encrypt(patient(BYTES)).await.expect("nor is the other");
    }
    let grown = resident(dev.pid()).saturating_sub(before);
    assert!(grown < 48 << 20, "the server grew by {grown} bytes");
    let mut answers = 0;
    while let Some((_, answer)) = talk.next().await.expect("goes on") {
        assert!(matches!(answer, Answer::Encrypt(_)));
        answers += 1;
    }
    assert_eq!(answers, MESSAGES, "all are answered once somebody listens");
    sending.await.expect("no panic");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_than_256_operations_are_under_way_and_a_client_that_vanishes_leaves_none() {
    let mut dev = Dev::new();
    dev.stop();
    dev.start(Start { faults: &["medium=sign=delay:100ms"], set: &["medium.workers=1"], ..Start::default() });
    let (client, other) = (connect(&dev).await, connect(&dev).await);
    two_keys(&client).await;
    let mut talk = Talk::open(&client).await;
    let sender = talk.sender.take().expect("open");
    let sending = tokio::spawn(async move {
        for id in 0..5000 {
            let message = operation(Operation::Sign(sign(EC)));
            if sender.send(StreamRequest { id, operation: Some(message) }).await.is_err() {
                return;
            }
        }
    });
    let waiting = ["strongroom_hsm_queue_length", "medium"];
    // At least one is with the worker, and at most two packets of 32.
    until(&dev, &waiting, |calls| calls > 150.0).await;
    for _ in 0..10 {
        assert!(figure(&dev, &waiting) <= 255.0, "{} wait", figure(&dev, &waiting));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    sending.abort();
    drop((talk, client));
    let begun = Instant::now();
    CryptoClient::new(other).sign(sign(EC)).await.expect("the lane is not blocked");
    assert!(begun.elapsed() < Duration::from_secs(15), "it waited {:?}", begun.elapsed());
    until(&dev, &waiting, |calls| calls == 0.0).await;
    until(&dev, &["strongroom_requests_under_way"], |requests| requests == 0.0).await;
    assert_eq!(figure(&dev, &["strongroom_requests_total", "Crypto/Stream", "CANCELLED"]), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ends_answers_what_is_under_way_and_says_so() {
    let mut dev = Dev::new();
    dev.stop();
    dev.start(Start { faults: &["medium=sign=delay:200ms"], ..Start::default() });
    let channel = connect(&dev).await;
    two_keys(&channel).await;
    let (mut talk, mut idle) = (Talk::open(&channel).await, Talk::open(&channel).await);
    for id in 0..6 {
        talk.send(id, Operation::Sign(sign(EC))).await;
    }
    // The first is done, so all of them were read.
    talk.answer().await;
    let stopping = std::thread::spawn(move || dev.stop());
    let mut answers = 1;
    let status = loop {
        match talk.next().await {
            Ok(Some((_, Answer::Sign(_)))) => answers += 1,
            Ok(other) => panic!("{other:?}"),
            Err(status) => break status,
        }
    };
    assert_eq!(answers, 6);
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "ENDING"));
    let status = idle.next().await.expect_err("it ends too");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "ENDING"));
    assert!(stopping.join().expect("no panic").success());
}

#[tokio::test]
async fn a_stream_has_the_deadline_that_its_caller_gave_it() {
    let mut dev = Dev::new();
    dev.stop();
    dev.start(Start { faults: &["medium=sign=delay:1500ms"], ..Start::default() });
    let channel = connect(&dev).await;
    two_keys(&channel).await;
    let mut talk = Talk::with(&channel, |request| {
        let within = "1500m".parse().expect("a value");
        request.metadata_mut().insert("grpc-timeout", within);
    })
    .await;
    for id in 0..4 {
        talk.send(id, Operation::Sign(sign(EC))).await;
    }
    let status = loop {
        match talk.next().await {
            Ok(Some((_, Answer::Sign(_)))) => {}
            Ok(Some((_, failed))) => assert_eq!(failure(&failed).code(), Code::DeadlineExceeded),
            Ok(None) => panic!("it ends by its deadline"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    talk.finish();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_library_streams_every_operation_for_many_tasks() {
    use strongroom_client::{Algorithm, DataKeyLength, Encryption, Error, Input, Sealed, secrecy::ExposeSecret as _};
    const AES: &str = "vaults/dev/keys/aes";
    let dev = Dev::new();
    two_keys(&connect(&dev).await).await;
    let stream = library(&dev).await.stream().await.expect("opens");
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..50_u8 {
        let stream = stream.clone();
        tasks.spawn(async move {
            let (message, secret) = ([number; 40], [number; 32]);
            let signed = stream.sign(EC, &Algorithm::ES256, Input::Message(&message)).await.expect("signed");
            let verdict =
                stream.verify(&signed.version, &Algorithm::ES256, Input::Message(&message), &signed.signature).await;
            assert!(verdict.expect("verified").valid);
            let plaintext = Encryption { plaintext: &message, additional_data: b"row", ..Encryption::default() };
            let made = stream.encrypt(AES, &Algorithm::A256GCM, plaintext).await.expect("encrypted");
            let sealed = Sealed { ciphertext: &made.ciphertext, iv: &made.iv, tag: &made.tag, additional_data: b"row" };
            let opened = stream.decrypt(&made.version, &Algorithm::A256GCM, sealed).await.expect("decrypted");
            assert_eq!(*opened.plaintext.expose_secret(), message);
            let other = Sealed { additional_data: b"raw", ..sealed };
            let refused = stream.decrypt(&made.version, &Algorithm::A256GCM, other).await;
            assert!(matches!(refused, Err(Error::DecryptionFailed(_))), "{refused:?}");
            let wrapped = stream.wrap_key(AES, &Algorithm::A256KW, &secret).await.expect("wrapped");
            let key = stream.unwrap_key(&wrapped.version, &Algorithm::A256KW, &wrapped.wrapped_key).await;
            assert_eq!(*key.expect("unwrapped").key.expose_secret(), secret);
            let wanted = DataKeyLength { length_bytes: 16, additional_data: b"" };
            let made = stream.generate_data_key(AES, &Algorithm::A256KW, wanted).await.expect("made");
            assert_eq!((made.key.expose_secret().len(), made.wrapped.wrapped_key.len()), (16, 24));
            let made = stream.generate_data_key_without_plaintext(AES, &Algorithm::A256KW, wanted).await;
            assert_eq!(made.expect("made").wrapped_key.len(), 24);
            assert_eq!(stream.random_bytes(9).await.expect("made").expose_secret().len(), 9);
        });
    }
    tasks.join_all().await;
    stream.close().await.expect("ends well");
    assert_eq!(figure(&dev, &["strongroom_requests_total", "Crypto/Stream", "\"OK\""]), 1.0);
    assert_eq!(figure(&dev, &["strongroom_operations_total", "\"stream\"", "\"Decrypt\"", "\"OK\""]), 50.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_on_a_stream_of_the_client_library_end_with_their_server() {
    use strongroom_client::{Algorithm, Cause, Error, Input};
    for killed in [false, true] {
        let mut dev = Dev::new();
        dev.stop();
        dev.start(Start { faults: &["medium=sign=delay:30ms"], set: &["medium.workers=1"], ..Start::default() });
        two_keys(&connect(&dev).await).await;
        let stream = library(&dev).await.stream().await.expect("opens");
        let signing: Vec<_> = (0..300)
            .map(|_| {
                let stream = stream.clone();
                tokio::spawn(async move { stream.sign(EC, &Algorithm::ES256, Input::Message(b"m")).await })
            })
            .collect();
        until(&dev, &["strongroom_hsm_queue_length", "medium"], |calls| calls > 150.0).await;
        if killed {
            dev.kill()
        } else {
            assert!(dev.stop().success())
        }
        let (mut signed, mut ended) = (0, 0);
        for call in signing {
            match timeout(PATIENCE, call).await.expect("nothing hangs").expect("no panic") {
                Ok(_) => signed += 1,
                Err(Error::Connection { cause: Cause::Broken, .. }) if killed => ended += 1,
                Err(Error::Unavailable(refusal)) if !killed && refusal.reason == "ENDING" => ended += 1,
                Err(other) => panic!("{killed}: {other:?}"),
            }
        }
        // Without a kill, what is under way is answered; what waits for room here is not.
        assert!(ended > 0 && (killed || signed > 150), "{killed}: {signed} were signed and {ended} not");
        assert!(stream.close().await.is_err(), "it was not closed");
    }
}
