//! What a worker believes of a row, and what it refuses.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use serde_bytes::ByteBuf;
use strongroom_hsm::{
    Algorithm, KeyOps, KeyRow, KeySpec, Residency, SecretBytes,
    protocol::{Fault, Operation, Request, Response},
};
use support::{Home, Sealed, Worker};

fn sign_with(worker: &mut Worker, seal: &[u8], row: Option<&[u8]>) -> Result<Response, Fault> {
    let operation = Operation::Sign { algorithm: Algorithm::Es256, input: vec![7; 32].into() };
    worker.call(Request::Operate { seal: ByteBuf::from(seal), row: row.map(ByteBuf::from), operation })
}

#[test]
fn a_row_is_needed_once_and_then_its_seal_is_enough() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    let row = worker.key(KeySpec::P256, Residency::Wrapped, [1; 16]);
    assert_eq!(sign_with(&mut worker, &row.seal, None).unwrap_err(), Fault::KeyNotLoaded);
    assert!(sign_with(&mut worker, &row.seal, Some(&row.canonical)).is_ok());
    assert!(sign_with(&mut worker, &row.seal, None).is_ok());
    assert_eq!(sign_with(&mut worker, &row.seal[..31], None).unwrap_err(), Fault::Protocol);
    let mut other = home.worker(&hierarchy);
    let (seal, canonical) = (ByteBuf::from(row.seal), ByteBuf::from(row.canonical.to_vec()));
    assert!(matches!(other.call(Request::Load { seal, row: canonical }), Ok(Response::Done)));
    assert!(sign_with(&mut other, &row.seal, None).is_ok());
}

#[test]
fn a_proof_says_whether_a_key_is_there_whatever_it_may_do_and_keeps_nothing() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    let prove = |worker: &mut Worker, row: &KeyRow| {
        let (seal, row) = (ByteBuf::from(row.seal), ByteBuf::from(row.canonical.to_vec()));
        worker.call(Request::Prove { seal, row }).map(drop)
    };
    for residency in [Residency::Wrapped, Residency::Token] {
        let row = worker.key(KeySpec::P256, residency, [if residency == Residency::Token { 1 } else { 2 }; 16]);
        let mut narrow = row.statement.clone();
        (narrow.enabled, narrow.ops) = (false, KeyOps::VERIFY);
        let narrow = worker.sealed(narrow);
        for _ in 0..2 {
            assert_eq!(prove(&mut worker, &narrow), Ok(()), "disabled, and without a private operation");
        }
        assert_eq!(sign_with(&mut worker, &narrow.seal, None).unwrap_err(), Fault::KeyNotLoaded, "nothing is kept");
        assert!(worker.sign(&row, Algorithm::Es256, &[7; 32]).is_ok(), "what is on the token stays there");
        let forged = KeyRow::new(narrow.statement.clone(), row.seal);
        assert_eq!(prove(&mut worker, &forged), Err(Fault::SealBroken));
    }
    let other = worker.key(KeySpec::P256, Residency::Wrapped, [3; 16]);
    let mut swapped = worker.key(KeySpec::P256, Residency::Wrapped, [4; 16]).statement;
    swapped.blob.clone_from(&other.statement.blob);
    let swapped = worker.sealed(swapped);
    assert_eq!(prove(&mut worker, &swapped), Err(Fault::KeyMismatch));
    let mut broken = other.statement;
    broken.blob[9] ^= 1;
    let broken = worker.sealed(broken);
    assert_eq!(prove(&mut worker, &broken), Err(Fault::BlobBroken));
    let secret = worker.key(KeySpec::Aes256, Residency::Wrapped, [5; 16]);
    assert_eq!(prove(&mut worker, &secret), Ok(()));
}

#[test]
fn a_row_with_one_bit_changed_is_refused() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    let row = worker.key(KeySpec::P256, Residency::Wrapped, [1; 16]);
    for at in (0..row.canonical.len()).step_by(5) {
        let mut changed = row.canonical.to_vec();
        changed[at] ^= 1;
        assert_eq!(sign_with(&mut worker, &row.seal, Some(&changed)).unwrap_err(), Fault::SealBroken, "{at}");
    }
    for at in [0, 15, 31] {
        let mut seal = row.seal;
        seal[at] ^= 1;
        assert_eq!(sign_with(&mut worker, &seal, Some(&row.canonical)).unwrap_err(), Fault::SealBroken);
    }
}

#[test]
fn widened_operations_need_a_new_seal() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    let mut narrow = worker.key(KeySpec::P256, Residency::Wrapped, [1; 16]).statement;
    narrow.ops = KeyOps::VERIFY;
    let narrow = worker.sealed(narrow);
    assert_eq!(worker.sign(&narrow, Algorithm::Es256, &[7; 32]), Err(Fault::NotPermitted));
    let mut wide = narrow.statement.clone();
    wide.ops = KeyOps::SIGN.union(KeyOps::VERIFY);
    let forged = KeyRow::new(wide, narrow.seal);
    // Known by its seal, the row that was sealed is the one that counts.
    assert_eq!(worker.sign(&forged, Algorithm::Es256, &[7; 32]), Err(Fault::NotPermitted));
    let mut fresh = home.worker(&hierarchy);
    assert_eq!(fresh.sign(&forged, Algorithm::Es256, &[7; 32]), Err(Fault::SealBroken));
}

#[test]
fn a_disabled_row_does_nothing() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    let mut disabled = worker.key(KeySpec::P256, Residency::Wrapped, [1; 16]).statement;
    disabled.enabled = false;
    let disabled = worker.sealed(disabled);
    assert_eq!(worker.sign(&disabled, Algorithm::Es256, &[7; 32]), Err(Fault::Disabled));
}

#[test]
fn a_right_seal_over_another_kind_of_row_is_no_key() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    let form = b"\0\x04role admin".to_vec();
    let Response::Seals(seals) = worker.call(Request::Seal { forms: vec![form.clone().into()] }).unwrap() else {
        panic!("seals")
    };
    assert_eq!(sign_with(&mut worker, &seals[0], Some(&form)).unwrap_err(), Fault::SealBroken);
    let wrong = ByteBuf::from([0; 32]);
    let pairs = vec![
        (ByteBuf::from(form.clone()), seals[0].clone()),
        (ByteBuf::from(form.clone()), wrong),
        (ByteBuf::from(form), ByteBuf::from([1; 5])),
    ];
    let Response::Checked(verdicts) = worker.call(Request::CheckSeals { pairs }).unwrap() else { panic!("verdicts") };
    assert_eq!(verdicts, [true, false, false]);
}

/// What nobody without the HSM can make, a service with a fault could: rows that are sealed and wrong.
#[test]
fn a_key_that_is_not_what_its_sealed_row_says_is_refused() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    for (spec, other) in [
        (KeySpec::P256, KeySpec::P256K),
        (KeySpec::Rsa2048, KeySpec::Rsa3072),
        (KeySpec::Aes128, KeySpec::Aes256),
        (KeySpec::Hmac256, KeySpec::Hmac384),
        (KeySpec::Hmac256, KeySpec::Aes256),
        (KeySpec::Aes256, KeySpec::Hmac256),
    ] {
        let one = worker.key(spec, Residency::Wrapped, [1; 16]);
        let two = worker.key(spec, Residency::Wrapped, [2; 16]);
        let mut swapped = one.statement.clone();
        swapped.blob.clone_from(&two.statement.blob);
        let swapped = worker.sealed(swapped);
        assert_eq!(use_it(&mut worker, &swapped), Err(Fault::KeyMismatch), "{}", spec.name());
        let mut bent = one.statement.clone();
        *bent.blob.last_mut().unwrap() ^= 1;
        let bent = worker.sealed(bent);
        assert_eq!(use_it(&mut worker, &bent), Err(Fault::BlobBroken), "{}", spec.name());
        let mut misnamed = one.statement.clone();
        misnamed.spec = other;
        let misnamed = worker.sealed(misnamed);
        assert!(use_it(&mut worker, &misnamed).is_err(), "{}", spec.name());
        assert!(use_it(&mut worker, &one).is_ok());
    }
    let mut token = worker.key(KeySpec::P256, Residency::Token, [3; 16]).statement;
    token.version = [4; 16];
    let absent = worker.sealed(token);
    assert_eq!(use_it(&mut worker, &absent), Err(Fault::KeyAbsent));
}

fn use_it(worker: &mut Worker, row: &KeyRow) -> Result<(), Fault> {
    let algorithm = row.statement.spec.algorithms().next().unwrap();
    let operation = match algorithm.signature_digest() {
        Some(digest) => Operation::Sign { algorithm, input: vec![7; digest.bytes()].into() },
        None if algorithm.signs() => Operation::Sign { algorithm, input: b"a message".to_vec().into() },
        None => Operation::Encrypt {
            algorithm,
            purpose: KeyOps::ENCRYPT,
            plaintext: SecretBytes::new(vec![7; 32]),
            iv: ByteBuf::new(),
            additional_data: ByteBuf::new(),
        },
    };
    worker.operate(row, operation).map(|_| ())
}

#[test]
fn wrong_lengths_and_algorithms_never_reach_the_module() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    let ec = worker.key(KeySpec::P256, Residency::Wrapped, [1; 16]);
    for length in [0, 31, 33, 64] {
        assert!(matches!(worker.sign(&ec, Algorithm::Es256, &vec![7; length]), Err(Fault::Length(_))));
    }
    assert!(matches!(worker.verify(&ec, Algorithm::Es256, &[7; 32], &[7; 63]), Err(Fault::Length(_))));
    assert_eq!(worker.sign(&ec, Algorithm::Es256K, &[7; 32]), Err(Fault::WrongAlgorithm));
    assert_eq!(worker.sign(&ec, Algorithm::Rs256, &[7; 32]), Err(Fault::WrongAlgorithm));
    let aes = worker.key(KeySpec::Aes256, Residency::Wrapped, [2; 16]);
    for (iv, tag) in [(0, 16), (12, 0), (16, 16), (12, 15)] {
        let sealed = Sealed { ciphertext: vec![1; 16], iv: vec![1; iv], tag: vec![1; tag] };
        let answer = worker.decrypt(&aes, Algorithm::A256Gcm, KeyOps::DECRYPT, &sealed, b"");
        assert!(matches!(answer, Err(Fault::Length(_))), "{iv} {tag}");
    }
    for length in [0, 8, 17, 4104] {
        let answer = worker.encrypt(&aes, Algorithm::A256Kw, KeyOps::WRAP_KEY, &vec![1; length], b"");
        assert!(matches!(answer, Err(Fault::Length(_))), "{length}");
    }
    assert!(matches!(
        worker.encrypt(&aes, Algorithm::A256Kw, KeyOps::ENCRYPT, &[1; 16], b""),
        Err(Fault::WrongAlgorithm)
    ));
    assert!(matches!(
        worker.encrypt(&aes, Algorithm::A128Gcm, KeyOps::ENCRYPT, &[1; 16], b""),
        Err(Fault::WrongAlgorithm)
    ));
}

#[test]
fn a_purpose_that_is_none_or_another_is_refused() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    let mut row = worker.key(KeySpec::Aes256, Residency::Wrapped, [2; 16]).statement;
    row.ops = KeyOps::DECRYPT;
    let row = worker.sealed(row);
    // The empty set is contained in every key's operations: it must not pass for one.
    for purpose in [KeyOps::NONE, KeyOps::DECRYPT, KeyOps::ENCRYPT.union(KeyOps::DECRYPT)] {
        let answer = worker.encrypt(&row, Algorithm::A256Gcm, purpose, b"data", b"");
        assert_eq!(answer, Err(Fault::Protocol));
    }
    assert_eq!(worker.encrypt(&row, Algorithm::A256Gcm, KeyOps::ENCRYPT, b"data", b""), Err(Fault::NotPermitted));
}

#[test]
fn keys_narrowed_to_each_operation_load_and_work() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    let whole = worker.key(KeySpec::Aes256, Residency::Wrapped, [2; 16]);
    let mut with = |ops: KeyOps| {
        let mut narrowed = whole.statement.clone();
        narrowed.ops = ops;
        worker.sealed(narrowed)
    };
    let (encrypts, decrypts) = (with(KeyOps::ENCRYPT), with(KeyOps::DECRYPT));
    let (wraps, unwraps) = (with(KeyOps::WRAP_KEY), with(KeyOps::UNWRAP_KEY));
    let sealed = worker.encrypt(&encrypts, Algorithm::A256Gcm, KeyOps::ENCRYPT, b"data", b"").unwrap();
    let opened = worker.decrypt(&decrypts, Algorithm::A256Gcm, KeyOps::DECRYPT, &sealed, b"");
    assert_eq!(opened, Ok(b"data".to_vec()));
    let sealed = worker.encrypt(&wraps, Algorithm::A256Kw, KeyOps::WRAP_KEY, &[5; 32], b"").unwrap();
    let opened = worker.decrypt(&unwraps, Algorithm::A256Kw, KeyOps::UNWRAP_KEY, &sealed, b"");
    assert_eq!(opened, Ok(vec![5; 32]));
}

#[test]
fn more_keys_than_the_cache_holds_still_work() {
    let (home, hierarchy) = Home::new();
    let (mut worker, _) = home.worker_with(&hierarchy, |hello| hello.cached_keys_max = 3).unwrap();
    let rows: Vec<KeyRow> = (1..=8).map(|n| worker.key(KeySpec::P256, Residency::Wrapped, [n; 16])).collect();
    for _ in 0..3 {
        for row in &rows {
            let signature = worker.sign(row, Algorithm::Es256, &[7; 32]).unwrap();
            assert_eq!(worker.verify(row, Algorithm::Es256, &[7; 32], &signature), Ok(true));
        }
    }
    // The first was evicted long ago: only with its row does it come back.
    assert_eq!(sign_with(&mut worker, &rows[0].seal, None).unwrap_err(), Fault::KeyNotLoaded);
    assert!(sign_with(&mut worker, &rows[7].seal, None).is_ok());
}

#[test]
fn random_bytes_are_bounded() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    for length in [1, 32, 1024] {
        let Ok(Response::Random(bytes)) = worker.call(Request::Random { length }) else { panic!("bytes") };
        assert_eq!(bytes.len(), length as usize);
    }
    for length in [0, 1025, u32::MAX] {
        assert_eq!(worker.call(Request::Random { length }).unwrap_err(), Fault::Protocol);
    }
}

#[test]
fn a_token_key_is_destroyed_by_its_version_and_stays_gone() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    let row = worker.key(KeySpec::P256, Residency::Token, [1; 16]);
    let kept = worker.key(KeySpec::P256, Residency::Token, [2; 16]);
    // A version is made once: two keys of one name could not be told apart.
    assert_eq!(worker.generate(KeySpec::P256, Residency::Token, [1; 16]), Err(Fault::Protocol));
    assert!(worker.sign(&row, Algorithm::Es256, &[7; 32]).is_ok());
    for _ in 0..2 {
        assert!(matches!(worker.call(Request::DestroyToken { version: [1; 16] }), Ok(Response::Done)));
    }
    assert_eq!(worker.sign(&row, Algorithm::Es256, &[7; 32]), Err(Fault::KeyAbsent));
    assert!(worker.sign(&kept, Algorithm::Es256, &[7; 32]).is_ok());
}

#[test]
fn the_same_holds_on_nss_softokn() {
    support::holds_on(support::Subject::NssSoftokn);
}
