//! Many operations in one request: what they give is what each gives alone; one record; one right for each key.

use std::{sync::Arc, time::Duration};

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use strongroom::{
    audit::{self, Against, Batch},
    model::{Algorithm, KeySpec},
    service::{
        Caller, Ciphertext, Encrypted, KeyRef, NewAssignment, NewDataKey, Problem, Service, ServiceError, VaultPatch,
        asked::Asked,
        batch::{Done, ITEMS_MAX, Item},
        version_name,
    },
};
use strongroom_hsm::{SecretBytes, algorithms::Lane};
use tokio::runtime::Runtime;

use crate::{
    ec,
    estate::{Estate, called, caller, key, principal, role},
    named,
};

type Results = Vec<Result<Done, ServiceError>>;

const USER: &str = "spiffe://test.invalid/user";

fn sign(name: &str, digest: Vec<u8>) -> Result<Item, ServiceError> {
    Ok(Item::Sign(named(name), Asked::sign(Algorithm::Es256, digest.into())))
}

fn encrypt(name: &str, plaintext: &[u8]) -> Result<Item, ServiceError> {
    let asked = Asked::encrypt(Algorithm::A256Gcm, SecretBytes::new(plaintext.to_vec()), Vec::new(), Vec::new());
    Ok(Item::Encrypt(named(name), asked))
}

fn decrypt(name: &str, sealed: &Encrypted) -> Result<Item, ServiceError> {
    Ok(Item::Decrypt(named(name), Asked::decrypt(Algorithm::A256Gcm, opened(sealed))))
}

fn opened(sealed: &Encrypted) -> Ciphertext {
    let (ciphertext, iv, tag) = (sealed.ciphertext.clone(), sealed.iv.clone(), sealed.tag.clone());
    Ciphertext { ciphertext, iv, tag, additional_data: Vec::new() }
}

async fn batch(service: &Arc<Service>, caller: &Caller, items: Vec<Result<Item, ServiceError>>) -> Results {
    service.batch(caller, items).await.expect("recorded")
}

fn reason(result: &Result<Done, ServiceError>) -> &'static str {
    result.as_ref().err().map_or("done", |error| error.problem.reason())
}

/// The records of an operation, in order.
fn records(estate: &Estate, operation: &str) -> Vec<Value> {
    let text = estate.log_text();
    let records = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a record"));
    records.filter(|record| record["operation"] == operation).collect()
}

fn sha256(parts: &[&[u8]]) -> String {
    Sha256::digest(parts.concat()).iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn give_role(service: &Arc<Service>, who: &str) -> strongroom::model::AssignmentId {
    let scope = "vaults/dev".parse().expect("a scope");
    let new = NewAssignment { id: None, principal: principal(who), role: role("Key Vault Crypto User"), scope };
    service.create_assignment(&caller(), new, Default::default()).await.expect("assigned").id
}

#[tokio::test]
async fn one_record_says_what_each_operation_was_and_holds_no_secret() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    service.create_key(&caller(), ec("ec"), Default::default()).await.expect("made");
    service.create_key(&caller(), key("aes", KeySpec::Aes256), Default::default()).await.expect("made");
    let plaintext = SecretBytes::new(b"attack at dawn".to_vec());
    let sealed = service.encrypt(&caller(), &named("aes"), Algorithm::A256Gcm, plaintext, vec![], vec![]).await;
    let sealed = sealed.expect("encrypts");
    let before = ["keys.sign", "keys.encrypt", "keys.decrypt"].map(|operation| records(&estate, operation).len());
    let items = vec![
        sign("ec", vec![1; 32]),
        encrypt("aes", b"attack at dusk"),
        sign("ec", vec![2; 32]),
        decrypt("aes", &sealed),
        sign("ec", vec![3; 31]),
        Err(Problem::Invalid { field: "name", why: "is wrong".to_owned() }.into()),
        sign("nobody", vec![4; 32]),
        Ok(Item::Random(16)),
    ];
    let results = batch(&service, &caller(), items).await;
    let reasons: Vec<_> = results.iter().map(reason).collect();
    assert_eq!(reasons, ["done", "done", "done", "done", "INVALID_LENGTH", "INVALID_FIELD", "NOT_FOUND", "done"]);
    service.close().await.expect("closes");

    let recorded = records(&estate, "keys.batch");
    assert_eq!(recorded.len(), 1);
    assert_eq!((&recorded[0]["outcome"], &recorded[0]["kind"]), (&"done".into(), &"operation".into()));
    let after = ["keys.sign", "keys.encrypt", "keys.decrypt"].map(|operation| records(&estate, operation).len());
    assert_eq!(before, after, "nothing is recorded twice");
    let found: Batch = serde_json::from_value(recorded[0]["batch"].clone()).expect("reads back");
    let places: Vec<u64> = found.items.iter().map(|item| item.place).collect();
    assert_eq!(places, [0, 1, 2, 3, 4, 6, 7], "what could not be read is not among them");
    let digest = |place: u64| found.items.iter().find(|item| item.place == place).and_then(|item| item.digest.clone());
    let (Ok(Done::Signed(first)), Ok(Done::Encrypted(second))) = (&results[0], &results[1]) else { panic!("done") };
    assert_eq!(digest(0), Some(sha256(&[&first.signature])));
    assert_eq!(digest(1), Some(sha256(&[&second.ciphertext, &second.iv, &second.tag])));
    assert_eq!(digest(3), Some(sha256(&[&sealed.ciphertext, &sealed.iv, &sealed.tag])), "what was given");
    assert_eq!((digest(4), digest(7)), (None, None));
    let group = |place: u64| {
        let item = found.items.iter().find(|item| item.place == place).expect("it is there");
        found.groups[usize::try_from(item.group).expect("an index")].clone()
    };
    assert_eq!((group(0).count, group(0).resource), (2, version_name(&first.version)));
    assert_eq!(group(0), group(2));
    assert_eq!((group(4).count, group(4).reason.as_deref(), group(4).ran), (1, Some("INVALID_LENGTH"), None));
    assert_eq!((group(6).resource.as_str(), group(6).algorithm.as_deref()), ("vaults/dev/keys/nobody", Some("ES256")));
    assert_eq!((group(1).residency.as_deref(), group(1).ran.as_deref()), (Some("wrapped"), Some("hsm")));
    assert_eq!((group(7).operation.as_str(), group(7).resource.as_str()), ("random.generate", "random"));
    assert_eq!(found.groups.iter().map(|group| group.count).sum::<u64>(), 7);
    assert!(!estate.log_text().contains("attack") && !estate.log_text().contains(&"01".repeat(32)));
}

#[tokio::test]
async fn a_batch_reserves_its_encryptions_at_once_and_the_log_stays_whole() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    service.create_key(&caller(), key("aes", KeySpec::Aes256), Default::default()).await.expect("made");
    let results = batch(&service, &caller(), (0..200).map(|_| encrypt("aes", b"x")).collect()).await;
    assert!(results.iter().all(Result::is_ok));
    // Nobody asks for more: the next range is reserved because little is left.
    let ahead = async {
        while records(&estate, "keys.reserve").len() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), ahead).await.expect("reserved ahead");
    service.close().await.expect("closes");
    let reserved = records(&estate, "keys.reserve");
    assert_eq!(reserved.len(), 2, "one change of the counter for 200 encryptions, one for those to come");
    assert_eq!(reserved[0]["heads"].as_array().map(Vec::len), Some(1), "and it names the new head");
    let verified = audit::verify(&estate.folder().join("log"), &Against::default()).expect("whole");
    assert!(verified.open.is_empty());
    let mut ivs: Vec<_> = results
        .into_iter()
        .map(|result| match result {
            Ok(Done::Encrypted(sealed)) => sealed.iv,
            other => panic!("{other:?}"),
        })
        .collect();
    ivs.sort();
    ivs.dedup();
    assert_eq!(ivs.len(), 200);
}

#[tokio::test]
async fn the_longest_record_of_a_batch_fits() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    // As many groups as there can be, each with the longest name.
    let items = (0..ITEMS_MAX).map(|n| sign(&format!("{n:0127}"), vec![1; 32])).collect();
    let results = batch(&service, &caller(), items).await;
    assert!(results.iter().all(|result| reason(result) == "NOT_FOUND"));
    service.close().await.expect("closes");
    assert_eq!(records(&estate, "keys.batch")[0]["outcome"], "refused");
}

#[tokio::test]
async fn a_batch_has_1_to_256_operations() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    for count in [0, ITEMS_MAX + 1] {
        let refused = service.batch(&caller(), (0..count).map(|_| Ok(Item::Random(1))).collect()).await;
        let Err(ServiceError { problem: Problem::Invalid { field: "operations", .. }, .. }) = refused else {
            panic!("{count} operations are refused")
        };
    }
    let results = batch(&service, &caller(), (0..ITEMS_MAX).map(|_| Ok(Item::Random(1))).collect()).await;
    assert!(results.iter().all(Result::is_ok));
}

#[tokio::test]
async fn who_has_no_right_gets_nothing_and_cannot_fill_the_log() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    service.create_key(&caller(), ec("ec"), Default::default()).await.expect("made");
    let stranger = called("spiffe://test.invalid/stranger");
    for _ in 0..20 {
        let items =
            vec![sign("ec", vec![1; 32]), sign("nobody", vec![1; 32]), Ok(Item::Random(8)), encrypt("ec", b"x")];
        let results = batch(&service, &stranger, items).await;
        assert!(results.iter().all(|result| reason(result) == "PERMISSION_DENIED"));
        let texts: Vec<_> = results.iter().map(|result| format!("{:?}", result.as_ref().err())).collect();
        assert_eq!(texts[0], texts[1].replace("nobody", "ec"), "what exists and what does not look alike");
    }
    // A right in the vault is one for its keys, and not for those of another.
    give_role(&service, USER).await;
    let elsewhere = KeyRef { vault: "other".parse().expect("a name"), ..named("ec") };
    let elsewhere = Ok(Item::Sign(elsewhere, Asked::sign(Algorithm::Es256, vec![1; 32].into())));
    let results = batch(&service, &called(USER), vec![sign("ec", vec![1; 32]), elsewhere]).await;
    assert_eq!([reason(&results[0]), reason(&results[1])], ["done", "PERMISSION_DENIED"]);
    service.close().await.expect("closes");
    let recorded = records(&estate, "keys.batch");
    assert_eq!(recorded.len(), 1, "batches without any right leave no record of their own");
    assert_eq!(recorded[0]["batch"]["items"].as_array().map(Vec::len), Some(2));
    let refused = |operation: &str| -> u64 {
        let refused = records(&estate, operation).into_iter().filter(|record| record["outcome"] == "refused");
        refused.map(|record| 1 + record["repeated"].as_u64().unwrap_or(0)).sum()
    };
    assert_eq!([refused("keys.sign"), refused("keys.encrypt"), refused("random.generate")], [41, 20, 20]);
    assert!(records(&estate, "keys.sign").len() <= 3, "they are counted, not repeated");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_is_taken_away_ends_a_batch_under_way() {
    let estate = Estate::new().await;
    let mut profile = estate.profile();
    profile.faults.insert(Lane::Medium, "sign=delay:10ms".to_owned());
    let service = estate.open_with(profile).await.expect("opens");
    service.create_key(&caller(), ec("ec"), Default::default()).await.expect("made");
    let role = give_role(&service, USER).await;
    let running = tokio::spawn({
        let service = Arc::clone(&service);
        async move { batch(&service, &called(USER), (0..ITEMS_MAX).map(|_| sign("ec", vec![1; 32])).collect()).await }
    });
    while service.lanes().iter().all(|lane| lane.queued == 0) {
        tokio::task::yield_now().await;
    }
    service.delete_assignment(&caller(), role, Default::default()).await.expect("taken away");
    let results = running.await.expect("no panic");
    let done = results.iter().take_while(|result| result.is_ok()).count();
    assert!(done < ITEMS_MAX, "two and a half seconds of work are not done at once");
    assert!(results[done..].iter().all(|result| reason(result) == "PERMISSION_DENIED"), "and nothing after that");
    let again = batch(&service, &called(USER), vec![sign("ec", vec![1; 32])]).await;
    assert_eq!(reason(&again[0]), "PERMISSION_DENIED");
}

#[tokio::test]
async fn a_batch_tells_of_no_more_wrong_paddings_than_single_calls_may() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    let patch = VaultPatch { padding_decryption_allowed: Some(true), ..VaultPatch::default() };
    service.update_vault(&caller(), &named("x").vault, patch, Default::default()).await.expect("allowed");
    service.create_key(&caller(), key("aes", KeySpec::Aes256), Default::default()).await.expect("made");
    let wrong = |n: usize| {
        let (ciphertext, iv) = (n.to_be_bytes().repeat(4), vec![0; 16]);
        let input = Ciphertext { ciphertext, iv, tag: Vec::new(), additional_data: Vec::new() };
        Ok(Item::Decrypt(named("aes"), Asked::decrypt(Algorithm::A256CbcPad, input)))
    };
    let results = batch(&service, &caller(), (0..ITEMS_MAX).map(wrong).collect()).await;
    let count = |wanted| results.iter().filter(|result| reason(result) == wanted).count();
    assert_eq!(count("DECRYPTION_FAILED"), 100);
    // One in 256 has a right padding by chance.
    assert!(count("PADDING_FAILURES") > 140, "{}", count("PADDING_FAILURES"));
    assert_eq!(count("DECRYPTION_FAILED") + count("PADDING_FAILURES") + count("done"), ITEMS_MAX);
}

#[tokio::test]
async fn a_batch_that_cannot_be_recorded_gives_nothing() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    service.create_key(&caller(), ec("ec"), Default::default()).await.expect("made");
    service.close().await.expect("closes");
    // The store and the log are closed; what is in memory would still do for a signature.
    let refused = service.batch(&caller(), vec![Ok(Item::Random(8))]).await;
    let Err(ServiceError { problem: Problem::Unavailable { .. }, .. }) = refused else {
        panic!("there is no result without a record")
    };
}

/// One operation to be tried alone and among others: which, with which key, how long, and how wrong.
#[derive(Clone, Copy, Debug)]
struct Try {
    kind: u8,
    key: u8,
    algorithm: u8,
    bytes: u8,
}

fn tries() -> impl Strategy<Value = Vec<Try>> {
    let one = (0..9_u8, 0..5_u8, 0..6_u8, 0..70_u8);
    prop::collection::vec(one.prop_map(|(kind, key, algorithm, bytes)| Try { kind, key, algorithm, bytes }), 1..40)
}

const KEYS: [&str; 5] = ["ec", "rsa", "aes", "mac", "nobody"];
const SIGNING: [Algorithm; 6] =
    [Algorithm::Es256, Algorithm::Rs256, Algorithm::Ps256, Algorithm::Hs256, Algorithm::Rs256, Algorithm::A256Gcm];
const SEALING: [Algorithm; 6] = [
    Algorithm::A256Gcm,
    Algorithm::RsaOaep256,
    Algorithm::A256Cbc,
    Algorithm::A256CbcPad,
    Algorithm::Rsa15,
    Algorithm::Es256,
];
const WRAPPING: [Algorithm; 6] = [
    Algorithm::A256Kw,
    Algorithm::A256Kwp,
    Algorithm::RsaOaep,
    Algorithm::A256Kw,
    Algorithm::Rsa15,
    Algorithm::A256Gcm,
];

impl Try {
    fn name(self) -> KeyRef {
        named(KEYS[usize::from(self.key)])
    }

    fn input(self) -> Vec<u8> {
        // Right lengths are tried more often than chance would.
        let bytes = match self.bytes {
            0..20 => 32,
            20..30 => 16,
            other => other,
        };
        vec![self.bytes; usize::from(bytes)]
    }

    fn of(self, table: [Algorithm; 6]) -> Algorithm {
        table[usize::from(self.algorithm)]
    }

    fn iv(self) -> Vec<u8> {
        vec![7; if matches!(self.of(SEALING), Algorithm::A256Cbc | Algorithm::A256CbcPad) { 16 } else { 0 }]
    }

    fn ciphertext(self) -> Ciphertext {
        let ciphertext = if self.key == 1 { vec![self.bytes; 256] } else { self.input() };
        let (iv, tag) = match self.kind {
            3 if self.of(SEALING) == Algorithm::A256Gcm => (vec![1; 12], vec![2; 16]),
            3 => (self.iv(), Vec::new()),
            _ => (Vec::new(), Vec::new()),
        };
        Ciphertext { ciphertext, iv, tag, additional_data: Vec::new() }
    }

    fn data_key(self) -> NewDataKey {
        let length_bytes = [16, 24, 32, 64, 17][usize::from(self.bytes % 5)];
        NewDataKey { algorithm: self.of(WRAPPING), length_bytes, additional_data: Vec::new() }
    }

    fn item(self) -> Item {
        let name = self.name();
        match self.kind {
            0 => Item::Sign(name, Asked::sign(self.of(SIGNING), self.input().into())),
            1 => Item::Verify(name, Asked::verify(self.of(SIGNING), self.input().into(), vec![1; 64])),
            2 => {
                let asked = Asked::encrypt(self.of(SEALING), self.input().into(), self.iv(), Vec::new());
                Item::Encrypt(name, asked)
            }
            3 => Item::Decrypt(name, Asked::decrypt(self.of(SEALING), self.ciphertext())),
            4 => Item::Wrap(name, Asked::wrap(self.of(WRAPPING), self.input().into())),
            5 => Item::Unwrap(name, Asked::unwrap(self.of(WRAPPING), self.ciphertext())),
            6 => Item::DataKey(name, Asked::data_key(self.data_key())),
            7 => Item::WrappedDataKey(name, Asked::wrapped_data_key(self.data_key())),
            _ => Item::Random(u32::from(self.bytes)),
        }
    }

    async fn alone(self, service: &Arc<Service>) -> Result<Done, ServiceError> {
        let (who, name) = (caller(), self.name());
        match self.kind {
            0 => service.sign(&who, &name, self.of(SIGNING), self.input().into()).await.map(Done::Signed),
            1 => {
                let verdict = service.verify(&who, &name, self.of(SIGNING), self.input().into(), vec![1; 64]).await;
                verdict.map(Done::Verified)
            }
            2 => {
                let input = self.input().into();
                let sealed = service.encrypt(&who, &name, self.of(SEALING), input, self.iv(), Vec::new()).await;
                sealed.map(Done::Encrypted)
            }
            3 => service.decrypt(&who, &name, self.of(SEALING), self.ciphertext()).await.map(Done::Decrypted),
            4 => service.wrap_key(&who, &name, self.of(WRAPPING), self.input().into()).await.map(Done::Wrapped),
            5 => service.unwrap_key(&who, &name, self.of(WRAPPING), self.ciphertext()).await.map(Done::Unwrapped),
            6 => service.generate_data_key(&who, &name, self.data_key()).await.map(Done::DataKey),
            7 => service.generate_wrapped_data_key(&who, &name, self.data_key()).await.map(Done::WrappedDataKey),
            _ => service.random(&who, u32::from(self.bytes)).await.map(Done::Random),
        }
    }

    /// What was wrapped, if it may be unwrapped.
    async fn unwrapped(self, service: &Arc<Service>, sealed: &Encrypted) -> Option<Vec<u8>> {
        let (who, name, algorithm) = (caller(), self.name(), self.of(WRAPPING));
        let opened = match algorithm {
            Algorithm::A256Gcm => service.decrypt(&who, &name, algorithm, opened(sealed)).await,
            _ => service.unwrap_key(&who, &name, algorithm, opened(sealed)).await,
        };
        opened.ok().map(|(_, key)| key.into_exposed())
    }

    /// What of a result must be the same each time; what is random is turned back.
    async fn settled(self, service: &Arc<Service>, result: Result<Done, ServiceError>) -> String {
        let who = caller();
        match result {
            Err(error) => format!("{} {}", error.problem.reason(), error.problem),
            Ok(Done::Signed(signed)) => {
                let (algorithm, input) = (self.of(SIGNING), self.input().into());
                let right = service.verify(&who, &self.name(), algorithm, input, signed.signature).await;
                format!("signed by {} {}", version_name(&signed.version), right.expect("verifies").1)
            }
            Ok(Done::Verified((version, right))) => format!("{} {right}", version_name(&version)),
            Ok(Done::Encrypted(sealed)) => {
                let opened = service.decrypt(&who, &self.name(), self.of(SEALING), opened(&sealed)).await;
                format!("{} {:?}", version_name(&sealed.version), opened.map(|(_, text)| text.into_exposed()).ok())
            }
            Ok(Done::ReEncrypted(..) | Done::Rewrapped(..)) => panic!("nobody asked for it"),
            Ok(Done::Wrapped(sealed)) => {
                format!("{} {:?}", version_name(&sealed.version), self.unwrapped(service, &sealed).await)
            }
            Ok(Done::WrappedDataKey(sealed)) => {
                let key = self.unwrapped(service, &sealed).await.map(|key| key.len());
                format!("{} a key of {key:?} bytes", version_name(&sealed.version))
            }
            Ok(Done::DataKey(made)) => {
                // RSA1_5 is unwrapped only where the vault allows it.
                let same = self.unwrapped(service, &made.wrapped).await.map(|key| key == made.key.expose_secret());
                format!("{} a key of {} bytes {same:?}", version_name(&made.wrapped.version), made.key.len())
            }
            Ok(Done::Decrypted((version, text)) | Done::Unwrapped((version, text))) => {
                format!("{} {:?}", version_name(&version), text.into_exposed())
            }
            Ok(Done::Random(bytes)) => format!("{} random bytes", bytes.len()),
        }
    }
}

#[test]
fn operations_give_among_others_what_they_give_alone() {
    let runtime = Runtime::new().expect("a runtime");
    let estate = runtime.block_on(Estate::new());
    let service = runtime.block_on(async {
        let service = estate.open().await.expect("opens");
        let specs = [KeySpec::P256, KeySpec::Rsa2048, KeySpec::Aes256, KeySpec::Hmac256];
        for (name, spec) in KEYS.into_iter().zip(specs) {
            service.create_key(&caller(), key(name, spec), Default::default()).await.expect("made");
        }
        service
    });
    let mut runner = TestRunner::new(Config { cases: 80, failure_persistence: None, ..Config::default() });
    let run = runner.run(&tries(), |tries| {
        runtime.block_on(async {
            let items = tries.iter().map(|one| Ok(one.item())).collect();
            let together = batch(&service, &caller(), items).await;
            prop_assert_eq!(together.len(), tries.len());
            for (one, result) in tries.into_iter().zip(together) {
                let alone = one.alone(&service).await;
                let (alone, together) = (one.settled(&service, alone).await, one.settled(&service, result).await);
                prop_assert_eq!(alone, together, "{:?}", one);
            }
            Ok(())
        })
    });
    run.unwrap_or_else(|failure| panic!("{failure}"));
}
