//! The audit log as its readers have it: found, followed, proved, and shown to nobody else.

use std::{fs, time::Duration};

use serde_json::Value;
use strongroom::audit::tlog::{Checkpoint, Hash, Receipt, SignedNote, VerifierKey, proof::verify_consistency};
use strongroom_proto::v1::{
    self, AuditFilter, AuditOutcome, AuditRecord, GetAuditCheckpointRequest, GetAuditReceiptRequest,
    GetAuditRecordRequest, ListAuditRecordsRequest, ListAuditUsesRequest, StreamAuditRecordsRequest,
    StreamAuditRecordsResponse, audit_log_client::AuditLogClient, crypto_client::CryptoClient,
};
use tokio::time::{sleep, timeout};
use tonic::{Code, Status, Streaming, transport::Channel};

use crate::{
    batch::operation,
    dev::Dev,
    rpc::{connect, connect_as, ec, made, reason, sign},
};

const PATIENCE: Duration = Duration::from_secs(30);
const KEY: &str = "vaults/dev/keys/a";
const READER: &str = "spiffe://dev.strongroom.invalid/reader";

fn of(resource: &str) -> AuditFilter {
    AuditFilter { resource: resource.to_owned(), ..Default::default() }
}

fn log(channel: &Channel) -> AuditLogClient<Channel> {
    AuditLogClient::new(channel.clone())
}

async fn list(channel: &Channel, filter: &AuditFilter) -> Result<Vec<AuditRecord>, Status> {
    let request = ListAuditRecordsRequest { filter: Some(filter.clone()), page_size: 1000, ..Default::default() };
    Ok(log(channel).list_audit_records(request).await?.into_inner().records)
}

/// Waits until that many records are found.
async fn listed(channel: &Channel, filter: &AuditFilter, count: usize) -> Vec<AuditRecord> {
    let found = async {
        loop {
            let found = list(channel, filter).await.expect("lists");
            if found.len() >= count {
                return found;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, found).await.expect("in time")
}

async fn signed(channel: &Channel, key: &str) {
    CryptoClient::new(channel.clone()).sign(sign(key)).await.expect("signed");
}

async fn follow(channel: &Channel, filter: AuditFilter, from: Option<u64>) -> Streaming<StreamAuditRecordsResponse> {
    let request = StreamAuditRecordsRequest { filter: Some(filter), start_index: from, follow: true };
    log(channel).stream_audit_records(request).await.expect("opens").into_inner()
}

/// The next records of a stream, so many.
async fn come(stream: &mut Streaming<StreamAuditRecordsResponse>, count: usize) -> Vec<AuditRecord> {
    let mut records = Vec::new();
    while records.len() < count {
        let message = timeout(PATIENCE, stream.message()).await.expect("in time").expect("goes on");
        records.extend(message.expect("does not end").records);
    }
    records
}

/// How a stream ends.
async fn end(stream: &mut Streaming<StreamAuditRecordsResponse>) -> Status {
    let ended = async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ended well"),
                Err(status) => return status,
            }
        }
    };
    timeout(PATIENCE, ended).await.expect("in time")
}

fn grant(dev: &Dev, principal: &str, scope: &str) -> String {
    let shown =
        dev.ok(&["access", "grant", "--principal", principal, "--role", "auditor", "--scope", scope, "-o", "json"]);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    shown["name"].as_str().expect("a name").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_found_by_what_they_say() {
    let dev = Dev::new();
    let admin = connect(&dev).await;
    made(&admin, "a").await;
    made(&admin, "b").await;
    signed(&admin, KEY).await;
    signed(&admin, "vaults/dev/keys/b").await;
    let stranger = connect_as(&dev, READER).await;
    CryptoClient::new(stranger.clone()).sign(sign(KEY)).await.expect_err("refused");

    // Made: intent and outcome. Signed with: one record each.
    let of_key = listed(&admin, &of("vaults/dev/keys/A"), 4).await;
    let said: Vec<(&str, &str)> = of_key.iter().map(|r| (r.operation.as_str(), r.kind.as_str())).collect();
    let expected =
        [("keys.sign", "operation"), ("keys.sign", "operation"), ("keys.create", "outcome"), ("keys.create", "intent")];
    assert_eq!(said, expected, "newest first, and of this key alone");
    let refused = list(&admin, &AuditFilter { outcome: AuditOutcome::Refused.into(), ..of(KEY) }).await.expect("lists");
    assert_eq!(refused.len(), 1);
    assert_eq!((refused[0].principal.as_str(), refused[0].reason.as_str()), (READER, "PERMISSION_DENIED"));
    let by = AuditFilter { principal: READER.to_owned(), ..Default::default() };
    assert_eq!(list(&admin, &by).await.expect("lists"), refused);
    let signatures = AuditFilter { operation: "keys.sign".to_owned(), ..of("vaults/dev") };
    assert_eq!(list(&admin, &signatures).await.expect("lists").len(), 3);
    let later = Some(prost_types::Timestamp { seconds: 4_102_444_800, nanos: 0 });
    assert!(list(&admin, &AuditFilter { start_time: later, ..of(KEY) }).await.expect("lists").is_empty());
    assert_eq!(list(&admin, &AuditFilter { end_time: later, ..of(KEY) }).await.expect("lists"), of_key);

    let entry: Value = serde_json::from_slice(&refused[0].entry).expect("JSON");
    assert_eq!((&entry["principal"], &entry["operation"]), (&READER.into(), &"keys.sign".into()));
    let one = log(&admin).get_audit_record(GetAuditRecordRequest { name: refused[0].name.clone() }).await;
    assert_eq!(one.expect("is there").into_inner(), refused[0]);

    let request = ListAuditUsesRequest { filter: Some(of(KEY)), ..Default::default() };
    let uses = log(&admin).list_audit_uses(request).await.expect("counted").into_inner().uses;
    let said: Vec<_> = uses.iter().map(|u| (u.operation.as_str(), u.outcome(), u.count)).collect();
    let done = |operation| (operation, AuditOutcome::Done, 1);
    assert!(said.contains(&done("keys.create")) && said.contains(&done("keys.sign")), "{said:?}");
    assert!(said.contains(&("keys.sign", AuditOutcome::Refused, 1)) && said.len() == 3, "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_whole_while_the_log_grows() {
    let dev = Dev::new();
    let admin = connect(&dev).await;
    made(&admin, "a").await;
    for _ in 0..7 {
        signed(&admin, KEY).await;
    }
    let before = listed(&admin, &of(KEY), 9).await;
    let mut request = ListAuditRecordsRequest { filter: Some(of(KEY)), page_size: 2, ..Default::default() };
    let (mut found, mut pages) = (Vec::new(), 0);
    loop {
        let page = log(&admin).list_audit_records(request.clone()).await.expect("a page").into_inner();
        assert!(page.records.len() <= 2);
        found.extend(page.records);
        pages += 1;
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
        signed(&admin, KEY).await;
    }
    assert!(pages >= 5);
    assert_eq!(found, before, "each once, and nothing that came later");

    let first = ListAuditRecordsRequest { filter: Some(of(KEY)), page_size: 2, ..Default::default() };
    let token = log(&admin).list_audit_records(first).await.expect("a page").into_inner().next_page_token;
    for (filter, oldest_first) in [(of("vaults/dev"), false), (of(KEY), true)] {
        let page_token = token.clone();
        let other = ListAuditRecordsRequest { filter: Some(filter), page_token, oldest_first, page_size: 2 };
        let status = log(&admin).list_audit_records(other).await.expect_err("another list");
        assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "INVALID_FIELD"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_gives_what_comes_once_and_does_not_feed_itself() {
    let mut dev = Dev::new();
    let admin = connect(&dev).await;
    made(&admin, "a").await;
    signed(&admin, KEY).await;
    let mut everything = follow(&admin, AuditFilter::default(), None).await;
    let mut of_key = follow(&admin, AuditFilter { operation: "keys.sign".into(), ..of(KEY) }, None).await;
    for _ in 0..3 {
        signed(&admin, KEY).await;
    }
    let came = come(&mut of_key, 3).await;
    assert!(came.len() == 3 && came.windows(2).all(|pair| pair[0].index < pair[1].index), "{came:?}");
    let all = come(&mut everything, 4).await;
    let operations: Vec<&str> = all.iter().map(|record| record.operation.as_str()).collect();
    assert_eq!(operations, ["auditRecords.read", "keys.sign", "keys.sign", "keys.sign"], "the other stream's opening");
    let readings = AuditFilter { operation: "auditRecords.read".into(), ..Default::default() };
    assert_eq!(listed(&admin, &readings, 2).await.len(), 2, "one for each stream, whatever it has given");

    let from = Some(came[1].index);
    let again =
        come(&mut follow(&admin, AuditFilter { operation: "keys.sign".into(), ..of(KEY) }, from).await, 2).await;
    assert_eq!(again, came[1..], "it goes on from an index");
    let stopping = std::thread::spawn(move || dev.stop());
    let status = end(&mut everything).await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "ENDING"));
    assert!(stopping.join().expect("stops").success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_the_right_to_it() {
    let dev = Dev::new();
    let assignment = grant(&dev, READER, "vaults/dev");
    let reader = connect_as(&dev, READER).await;
    let mut stream = follow(&reader, of("vaults/dev"), Some(0)).await;
    come(&mut stream, 1).await;
    dev.ok(&["access", "revoke", &assignment]);
    let status = end(&mut stream).await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::PermissionDenied, "PERMISSION_DENIED"));
}

async fn checkpoint(channel: &Channel, old_size: u64) -> (Checkpoint, Vec<Hash>, Vec<VerifierKey>) {
    let answer = log(channel).get_audit_checkpoint(GetAuditCheckpointRequest { old_size }).await;
    let answer = answer.expect("there is one").into_inner();
    let keys: Vec<VerifierKey> = answer.verifier_keys.iter().map(|key| key.parse().expect("a key")).collect();
    let note = SignedNote::parse(answer.note.as_bytes()).expect("a note");
    let (checkpoint, _) = Checkpoint::open(&note, &keys).expect("signed");
    let hash = |bytes: &Vec<u8>| -> Hash { bytes.as_slice().try_into().expect("32 bytes") };
    (checkpoint, answer.consistency_proof.iter().map(hash).collect(), keys)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_done_is_proved_without_the_server() {
    let dev = Dev::new();
    let admin = connect(&dev).await;
    made(&admin, "a").await;
    listed(&admin, &of(KEY), 2).await;
    let (older, _, keys) = checkpoint(&admin, 0).await;
    signed(&admin, KEY).await;
    let filter = AuditFilter { operation: "keys.sign".into(), ..of(KEY) };
    let record = listed(&admin, &filter, 1).await.remove(0);

    // A receipt waits for the checkpoint that covers the record.
    let name = record.name.clone();
    let proved = log(&admin).get_audit_receipt(GetAuditReceiptRequest { name }).await.expect("proved").into_inner();
    assert_eq!(proved.entry, record.entry);
    let receipt = Receipt::parse(proved.proof.as_bytes()).expect("a receipt");
    let shown = receipt.verify(&proved.entry, &keys).expect("it is in the log");
    assert_eq!(shown.index, record.index);
    let mut altered = proved.entry.clone();
    altered[20] ^= 1;
    receipt.verify(&altered, &keys).expect_err("another record");

    let (newer, proof, _) = checkpoint(&admin, older.size()).await;
    assert!(newer.size() > record.index && older.size() <= record.index);
    verify_consistency(older.size(), older.root(), newer.size(), newer.root(), &proof).expect("it has only grown");
    verify_consistency(older.size(), newer.root(), newer.size(), newer.root(), &proof).expect_err("another tree");

    let request = GetAuditCheckpointRequest { old_size: newer.size() + 1_000_000 };
    let status = log(&admin).get_audit_checkpoint(request).await.expect_err("cut, or another log");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "LOG_SHORTER"));
    let name = "auditRecords/1000000".to_owned();
    let status = log(&admin).get_audit_receipt(GetAuditReceiptRequest { name }).await.expect_err("not there");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "BEYOND_END"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_at_a_vault_shows_that_vault_alone() {
    let dev = Dev::new();
    let admin = connect(&dev).await;
    dev.ok(&["vault", "create", "other"]);
    made(&admin, "a").await;
    let other = v1::CreateKeyRequest { parent: "vaults/other".to_owned(), ..ec("b") };
    v1::keys_client::KeysClient::new(admin.clone()).create_key(other).await.expect("made");
    let sign_both = [sign(KEY), sign("vaults/other/keys/b")];
    for keys in [&sign_both[..1], &sign_both[..]] {
        let operations =
            keys.iter().map(|key| operation(v1::operation_request::Operation::Sign(key.clone()))).collect();
        CryptoClient::new(admin.clone()).batch(v1::BatchRequest { operations }).await.expect("done");
    }
    grant(&dev, READER, "vaults/dev");
    let reader = connect_as(&dev, READER).await;

    // With both batches, to whoever may see everything.
    let batches = AuditFilter { operation: "keys.sign".into(), ..of("vaults/dev") };
    let all = listed(&admin, &batches, 2).await;
    let shown = list(&reader, &batches).await.expect("its own vault");
    assert_eq!(shown, all[1..], "a batch that names another vault too is left out");
    for record in list(&reader, &of("vaults/dev")).await.expect("its own vault") {
        assert!(!String::from_utf8_lossy(&record.entry).contains("vaults/other"), "{record:?}");
    }
    for filter in [AuditFilter::default(), of("vaults/other"), of("roleAssignments"), of("vaults/dev2")] {
        let status = list(&reader, &filter).await.expect_err("not its own");
        assert_eq!(status.code(), Code::PermissionDenied, "{filter:?}");
    }

    let elsewhere = listed(&admin, &of("vaults/other"), 1).await[0].name.clone();
    let mut refusals = Vec::new();
    for name in [elsewhere, all[0].name.clone(), "auditRecords/0".to_owned(), "auditRecords/1000000".to_owned()] {
        let status = log(&reader).get_audit_record(GetAuditRecordRequest { name: name.clone() }).await;
        let receipt = log(&reader).get_audit_receipt(GetAuditReceiptRequest { name }).await;
        for status in [status.expect_err("refused"), receipt.expect_err("refused")] {
            refusals.push((status.code(), reason(&status), status.message().to_owned()));
        }
    }
    assert!(refusals.iter().all(|refusal| *refusal == refusals[0]), "whether it is there is not told: {refusals:?}");
    assert_eq!(refusals[0].0, Code::PermissionDenied);
    let name = all[1].name.clone();
    log(&reader).get_audit_receipt(GetAuditReceiptRequest { name }).await.expect("its own");
    checkpoint(&reader, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_pruned_is_said_to_be() {
    let dev = Dev::new();
    let admin = connect(&dev).await;
    let mut crypto = CryptoClient::new(admin.clone());
    for _ in 0..300 {
        crypto.generate_random_bytes(v1::GenerateRandomBytesRequest { length_bytes: 8 }).await.expect("random");
    }
    let random = AuditFilter { operation: "random.generate".into(), ..Default::default() };
    assert_eq!(listed(&admin, &random, 300).await.len(), 300);
    fs::remove_file(dev.data().join("audit/tile/entries/000")).expect("a full bundle");
    let name = "auditRecords/7".to_owned();
    let status = log(&admin).get_audit_record(GetAuditRecordRequest { name: name.clone() }).await.expect_err("gone");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "PRUNED"));
    assert!(status.message().contains("bring its bundle back"), "{}", status.message());
    let request = ListAuditRecordsRequest { filter: Some(random.clone()), page_size: 1000, ..Default::default() };
    let page = log(&admin).list_audit_records(request).await.expect("the rest").into_inner();
    assert!(page.pruned_bundles == 1 && !page.records.is_empty() && page.records.len() < 300, "{page:?}");
    let request = StreamAuditRecordsRequest { filter: Some(random), start_index: Some(0), follow: false };
    let opened = log(&admin).stream_audit_records(request).await.map(tonic::Response::into_inner);
    assert_eq!(reason(&opened.expect_err("it cannot begin there")), "PRUNED");
    // Its proof is still made: from the tree.
    let newest = listed(&admin, &AuditFilter::default(), 1).await[0].name.clone();
    log(&admin).get_audit_receipt(GetAuditReceiptRequest { name: newest }).await.expect("proved");
}

fn json(dev: &Dev, arguments: &[&str]) -> Value {
    let shown = dev.ok(&[arguments, &["-o", "json"]].concat());
    serde_json::from_str(&shown).expect("JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_finds_exports_and_fetches_proofs() {
    let mut dev = Dev::new();
    let admin = connect(&dev).await;
    made(&admin, "a").await;
    signed(&admin, KEY).await;
    listed(&admin, &of(KEY), 3).await;

    let found = json(&dev, &["audit", "list", "--key", "a", "--since", "1h", "--outcome", "done"]);
    let found = found.as_array().expect("an array");
    assert_eq!((found.len(), &found[0]["operation"]), (2, &"keys.sign".into()));
    let index = found[0]["index"].as_str().expect("an index").to_owned();
    let table = dev.ok(&["audit", "list", "--vault", "dev", "--operation", "keys.sign"]);
    assert!(table.starts_with("INDEX") && table.contains("keys.sign") && table.contains("done"), "{table}");
    let shown = dev.ok(&["audit", "show", &index]);
    for word in ["ES256", "wrapped", "hsm", KEY, "request"] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    let uses = json(&dev, &["audit", "uses", "--key", "a", "--operation", "keys.sign"]);
    assert_eq!((&uses[0]["count"], &uses[0]["resource"]), (&"1".into(), &KEY.into()));

    let (whole, rest) = (dev.path("whole.jsonl"), dev.path("rest.jsonl"));
    let export = |from: &str, out: &std::path::Path| {
        let out = out.to_str().expect("text");
        dev.ok(&["audit", "export", "--key", "a", "--from-index", from, "--out", out]);
        fs::read_to_string(out).expect("written")
    };
    let lines = export("0", &whole);
    assert_eq!(lines.lines().count(), 3);
    let last = lines.lines().last().expect("a line").to_owned();
    assert_eq!(export(&index, &rest), format!("{last}\n"), "it goes on from an index");
    let record = last.strip_prefix(&format!("{{\"index\":{index},\"record\":")).expect("the form");
    let record = record.strip_suffix('}').expect("the form");

    let (receipt, note) = (dev.path("receipt"), dev.path("checkpoint"));
    dev.ok(&["audit", "receipt", &index, "--out", receipt.to_str().expect("text")]);
    let (_, _, keys) = checkpoint(&admin, 0).await;
    let receipt = Receipt::parse(&fs::read(receipt).expect("written")).expect("a receipt");
    assert_eq!(receipt.extra(), record.as_bytes(), "the record itself, byte for byte");
    receipt.verify(receipt.extra(), &keys).expect("it is in the log");
    dev.ok(&["audit", "checkpoint", "--out", note.to_str().expect("text")]);
    let note = SignedNote::parse(&fs::read(note).expect("written")).expect("a note");
    Checkpoint::open(&note, &keys).expect("signed");

    let online = json(&dev, &["audit", "list", "--key", "a"]);
    dev.stop();
    let folder = dev.data().join("audit");
    let folder = folder.to_str().expect("text");
    assert_eq!(json(&dev, &["audit", "list", "--key", "a", "--log", folder]), online, "the same without a server");
    assert_eq!(dev.ok(&["audit", "export", "--key", "a", "--log", folder]), lines);
    assert_eq!(dev.ok(&["audit", "show", &index, "--log", folder]), shown);
    assert!(dev.fails(&["audit", "show", "1000000", "--log", folder]).contains("there is none with index"));
}
