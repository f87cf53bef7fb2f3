//! What a worker does when its module fails, lies or dies: on script.

#![cfg(feature = "failpoints")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::{Duration, Instant};

use strongroom_hsm::{
    Algorithm, KeyOps, KeyRow, KeySpec, Material, Residency, SecretBytes,
    protocol::{Damage, Fault, Hierarchy, NewVersion, Request, Response},
    worker::Exit,
};
use support::{CHECKPOINT, Home, Worker};

const DIGEST: [u8; 32] = [7; 32];

fn scripted(home: &Home, hierarchy: &Hierarchy, script: &str) -> Worker {
    home.worker_with(hierarchy, |hello| script.clone_into(&mut hello.faults)).unwrap().0
}

fn setup() -> (Home, Hierarchy, KeyRow, KeyRow) {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    let ec = worker.key(KeySpec::P256, Residency::Wrapped, [1; 16]);
    let aes = worker.key(KeySpec::Aes256, Residency::Wrapped, [2; 16]);
    (home, hierarchy, ec, aes)
}

fn damage(outcome: Result<Vec<u8>, Fault>) -> Option<Damage> {
    match outcome {
        Err(Fault::Module { damage, .. }) => Some(damage),
        _ => None,
    }
}

#[test]
fn a_lost_session_is_replaced_and_the_operation_repeated() {
    let (home, hierarchy, ec, aes) = setup();
    for code in ["CKR_SESSION_HANDLE_INVALID", "CKR_OPERATION_ACTIVE", "CKR_BUFFER_TOO_SMALL"] {
        let mut worker = scripted(&home, &hierarchy, &format!("sign#2=fail:{code}; encrypt#2=fail:{code}"));
        assert!(worker.sign(&ec, Algorithm::Es256, &DIGEST).is_ok(), "{code}");
        let sealed = worker.encrypt(&aes, Algorithm::A256Gcm, KeyOps::ENCRYPT, b"data", b"").unwrap();
        assert!(worker.decrypt(&aes, Algorithm::A256Gcm, KeyOps::DECRYPT, &sealed, b"").is_ok());
    }
}

fn import(worker: &mut Worker, spec: KeySpec, residency: Residency, material: Material) -> Result<(), Fault> {
    worker.call(Request::Import { wanted: NewVersion::new(spec, residency, [9; 16]), material }).map(drop)
}

#[test]
fn an_import_that_the_module_bends_is_refused_and_leaves_nothing() {
    let (home, hierarchy, ..) = setup();
    let secret = || Material::Secret(SecretBytes::new(vec![0x5a; 32]));
    for residency in [Residency::Wrapped, Residency::Token] {
        let mut worker = scripted(&home, &hierarchy, "encrypt#1=wrong");
        assert_eq!(import(&mut worker, KeySpec::Aes256, residency, secret()), Err(Fault::KeyMismatch));
        let mut worker = scripted(&home, &hierarchy, "create=fail:CKR_TEMPLATE_INCONSISTENT");
        let refused = import(&mut worker, KeySpec::Aes256, residency, secret());
        assert!(matches!(refused, Err(Fault::Unsupported(_))), "{refused:?}");
        // Nothing of either stands in the way of the next.
        assert_eq!(import(&mut home.worker(&hierarchy), KeySpec::Aes256, residency, secret()), Ok(()));
    }
}

#[test]
fn a_module_that_finds_every_signature_right_imports_no_public_key() {
    let (home, hierarchy, ec, _) = setup();
    let public = || Material::public(&ec.statement.public).unwrap().1;
    let mut worker = scripted(&home, &hierarchy, "verify=wrong");
    let refused = import(&mut worker, KeySpec::P256, Residency::Public, public());
    assert!(matches!(refused, Err(Fault::Module { damage: Damage::Token, .. })), "{refused:?}");
    assert_eq!(import(&mut home.worker(&hierarchy), KeySpec::P256, Residency::Public, public()), Ok(()));
}

#[test]
fn a_session_that_is_lost_twice_is_reported() {
    let (home, hierarchy, ec, _) = setup();
    let script = "sign#2=fail:CKR_SESSION_CLOSED; sign#3=fail:CKR_SESSION_CLOSED";
    let mut worker = scripted(&home, &hierarchy, script);
    assert_eq!(damage(worker.sign(&ec, Algorithm::Es256, &DIGEST)), Some(Damage::Session));
    assert!(worker.sign(&ec, Algorithm::Es256, &DIGEST).is_ok(), "the worker lives on");
}

#[test]
fn a_stale_handle_is_loaded_anew_once() {
    let (home, hierarchy, ec, _) = setup();
    // The first signature is the proof at the load.
    let mut worker = scripted(&home, &hierarchy, "sign#2=fail:CKR_OBJECT_HANDLE_INVALID");
    let signature = worker.sign(&ec, Algorithm::Es256, &DIGEST).unwrap();
    assert_eq!(worker.verify(&ec, Algorithm::Es256, &DIGEST, &signature), Ok(true));
    let mut worker = scripted(&home, &hierarchy, "sign=fail:CKR_KEY_HANDLE_INVALID");
    assert_eq!(damage(worker.sign(&ec, Algorithm::Es256, &DIGEST)), Some(Damage::Login));
    assert!(worker.try_call(Request::Canary).is_none());
}

#[test]
fn a_lost_login_or_token_ends_the_worker_after_its_answer() {
    let (home, hierarchy, ec, _) = setup();
    for (code, wanted, exit) in [
        ("CKR_USER_NOT_LOGGED_IN", Damage::Login, Exit::LoginLost),
        ("CKR_DEVICE_REMOVED", Damage::Token, Exit::TokenLost),
        ("CKR_CRYPTOKI_NOT_INITIALIZED", Damage::Token, Exit::TokenLost),
    ] {
        let mut worker = scripted(&home, &hierarchy, &format!("sign#2=fail:{code}"));
        assert_eq!(damage(worker.sign(&ec, Algorithm::Es256, &DIGEST)), Some(wanted), "{code}");
        assert_eq!(worker.end().code(), Some(exit as i32));
    }
}

#[test]
fn the_canary_tells_a_bad_call_from_a_dead_token() {
    let (home, hierarchy, ec, aes) = setup();
    let mut worker = scripted(&home, &hierarchy, "sign#2=fail:CKR_GENERAL_ERROR");
    assert_eq!(damage(worker.sign(&ec, Algorithm::Es256, &DIGEST)), Some(Damage::Operation));
    assert!(worker.sign(&ec, Algorithm::Es256, &DIGEST).is_ok());
    // `mac#1` is the check of the row's seal, `mac#2` the canary.
    let script = "sign#2=fail:CKR_GENERAL_ERROR; mac#2=fail:CKR_OBJECT_HANDLE_INVALID";
    let mut worker = scripted(&home, &hierarchy, script);
    assert_eq!(damage(worker.sign(&ec, Algorithm::Es256, &DIGEST)), Some(Damage::Token));

    let mut worker = scripted(&home, &hierarchy, "decrypt#1=fail:CKR_GENERAL_ERROR");
    let sealed = worker.encrypt(&aes, Algorithm::A256Gcm, KeyOps::ENCRYPT, b"data", b"").unwrap();
    let opened = worker.decrypt(&aes, Algorithm::A256Gcm, KeyOps::DECRYPT, &sealed, b"");
    assert_eq!(opened, Err(Fault::DecryptionFailed));
    let script = "decrypt#1=fail:CKR_GENERAL_ERROR; mac#2=fail:CKR_OBJECT_HANDLE_INVALID";
    let mut worker = scripted(&home, &hierarchy, script);
    let sealed = worker.encrypt(&aes, Algorithm::A256Gcm, KeyOps::ENCRYPT, b"data", b"").unwrap();
    let opened = worker.decrypt(&aes, Algorithm::A256Gcm, KeyOps::DECRYPT, &sealed, b"");
    assert_eq!(damage(opened), Some(Damage::Token));
}

#[test]
fn a_lying_canary_is_found() {
    let (home, hierarchy, ..) = setup();
    let mut worker = scripted(&home, &hierarchy, "mac#1=wrong");
    let answer = worker.call(Request::Canary);
    assert!(matches!(answer, Err(Fault::Module { damage: Damage::Token, .. })));
    let refused = home.worker_with(&hierarchy, |hello| hello.faults = "start.mac#1=wrong".to_owned());
    assert!(matches!(refused.err(), Some(Fault::Setup(_))));
}

#[test]
fn a_log_signature_that_is_wrong_is_never_answered() {
    let (home, hierarchy, ..) = setup();
    // The first shows whose key it is, every later one that the module lies.
    let mut worker = scripted(&home, &hierarchy, "sign#1=wrong; sign#3=wrong");
    assert_eq!(worker.sign_log(CHECKPOINT), Err(Fault::LogKeyMismatch));
    assert!(worker.sign_log(CHECKPOINT).is_ok());
    assert_eq!(damage(worker.sign_log(CHECKPOINT)), Some(Damage::Token));
    assert_eq!(worker.end().code(), Some(Exit::TokenLost as i32));
}

#[test]
fn a_checkpoint_is_signed_across_a_lost_session_and_a_stale_handle() {
    let (home, hierarchy, ..) = setup();
    for code in ["CKR_SESSION_HANDLE_INVALID", "CKR_OBJECT_HANDLE_INVALID"] {
        let mut worker = scripted(&home, &hierarchy, &format!("sign#2=fail:{code}"));
        assert!(worker.sign_log(CHECKPOINT).is_ok());
        assert!(worker.sign_log(CHECKPOINT).is_ok(), "{code}");
    }
    let mut worker = scripted(&home, &hierarchy, "sign=fail:CKR_KEY_HANDLE_INVALID");
    assert_eq!(damage(worker.sign_log(CHECKPOINT)), Some(Damage::Login));
    let mut worker = scripted(&home, &hierarchy, "sign#1=fail:CKR_GENERAL_ERROR");
    assert_eq!(damage(worker.sign_log(CHECKPOINT)), Some(Damage::Operation));
    assert!(worker.sign_log(CHECKPOINT).is_ok());
}

#[test]
fn a_key_that_does_not_prove_itself_is_not_used() {
    let (home, hierarchy, ec, aes) = setup();
    let mut worker = scripted(&home, &hierarchy, "sign#1=wrong; encrypt#1=wrong");
    assert_eq!(worker.sign(&ec, Algorithm::Es256, &DIGEST), Err(Fault::KeyMismatch));
    let _ = aes;
    assert!(worker.sign(&ec, Algorithm::Es256, &DIGEST).is_ok(), "the next load proves well");
    let mut worker = scripted(&home, &hierarchy, "sign#1=wrong");
    assert_eq!(worker.generate(KeySpec::P256, Residency::Wrapped, [3; 16]), Err(Fault::KeyMismatch));
}

#[test]
fn a_token_key_whose_making_fails_leaves_nothing_that_serves() {
    let (home, hierarchy, ..) = setup();
    let mut worker = scripted(&home, &hierarchy, "sign#1=wrong");
    assert_eq!(worker.generate(KeySpec::P256, Residency::Token, [3; 16]), Err(Fault::KeyMismatch));
    assert!(worker.generate(KeySpec::P256, Residency::Token, [3; 16]).is_ok(), "the version is free");
    // Made, and the answer lost: debris, which the creation's intent has destroyed by its version.
    let mut worker = scripted(&home, &hierarchy, "generate#1=after:fail:CKR_DEVICE_REMOVED");
    assert!(worker.generate(KeySpec::P256, Residency::Token, [4; 16]).is_err());
    let mut worker = home.worker(&hierarchy);
    assert_eq!(worker.generate(KeySpec::P256, Residency::Token, [4; 16]), Err(Fault::Protocol));
    assert!(matches!(worker.call(Request::DestroyToken { version: [4; 16] }), Ok(Response::Done)));
    assert!(worker.generate(KeySpec::P256, Residency::Token, [4; 16]).is_ok());
}

#[test]
fn a_crash_shows_as_a_closed_socket_and_another_worker_goes_on() {
    let (home, hierarchy, ec, _) = setup();
    let mut worker = scripted(&home, &hierarchy, "sign#3=crash");
    assert!(worker.sign(&ec, Algorithm::Es256, &DIGEST).is_ok());
    let seal = ec.seal.to_vec().into();
    let operation =
        strongroom_hsm::protocol::Operation::Sign { algorithm: Algorithm::Es256, input: DIGEST.to_vec().into() };
    assert!(worker.try_call(Request::Operate { seal, row: None, operation }).is_none());
    assert!(home.worker(&hierarchy).sign(&ec, Algorithm::Es256, &DIGEST).is_ok());
}

#[test]
fn a_delay_delays() {
    let (home, hierarchy, ec, _) = setup();
    let mut worker = scripted(&home, &hierarchy, "unwrap#1=delay:200ms");
    let began = Instant::now();
    assert!(worker.sign(&ec, Algorithm::Es256, &DIGEST).is_ok());
    assert!(began.elapsed() >= Duration::from_millis(200));
}

/// The nastiest honest module: the number of a destroyed object is at once another's.
#[test]
fn no_key_answers_for_another_when_handles_are_used_again() {
    let (home, hierarchy, ..) = setup();
    let (mut worker, _) = home
        .worker_with(&hierarchy, |hello| {
            hello.cached_keys_max = 2;
            "handles=renumber".clone_into(&mut hello.faults);
        })
        .unwrap();
    let rows: Vec<KeyRow> = (1..=5).map(|n| worker.key(KeySpec::P256, Residency::Wrapped, [n; 16])).collect();
    for round in 0..4 {
        for (n, row) in rows.iter().enumerate() {
            let signature = worker.sign(row, Algorithm::Es256, &DIGEST).unwrap();
            assert_eq!(worker.verify(row, Algorithm::Es256, &DIGEST, &signature), Ok(true), "{round} {n}");
            let other = &rows[(n + 1) % rows.len()];
            assert_eq!(worker.verify(other, Algorithm::Es256, &DIGEST, &signature), Ok(false), "{round} {n}");
        }
    }
}

#[test]
fn a_start_that_coincides_with_another_is_tried_again() {
    let (home, hierarchy, ..) = setup();
    let logins = home.path("logins");
    let script = format!("login=count:{}; login#1=fail:CKR_GENERAL_ERROR", logins.display());
    let refused = home.worker_with(&hierarchy, |hello| hello.faults.clone_from(&script)).err();
    // Each attempt reads the script anew, so every one of them fails.
    assert!(matches!(refused, Some(Fault::Module { .. })), "{refused:?}");
    assert_eq!(std::fs::read_to_string(logins).unwrap().lines().count(), 5);
}

#[test]
fn a_session_of_another_login_is_no_success() {
    let (home, hierarchy, ..) = setup();
    let script = "login=fail:CKR_USER_ALREADY_LOGGED_IN".to_owned();
    let refused = home.worker_with(&hierarchy, |hello| hello.faults = script).err();
    assert!(matches!(refused, Some(Fault::Module { .. })));
}

#[test]
fn an_unreadable_script_is_refused() {
    let (home, hierarchy, ..) = setup();
    let refused = home.worker_with(&hierarchy, |hello| hello.faults = "dance=hang".to_owned()).err();
    assert!(matches!(refused, Some(Fault::Setup(_))));
}
