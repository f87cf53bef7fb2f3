//! The log key: what it signs, what it does not, and what is said when it is not the right one.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fs;

use cryptoki::{mechanism::Mechanism, object::Attribute};
use serde_bytes::ByteBuf;
use strongroom_hsm::{
    Algorithm, KeySpec, Residency,
    checkpoint::{NotACheckpoint, TEXT_BYTES_MAX},
    protocol::{
        Damage, Fault, Hierarchy, LOG_BY_ED25519, LOG_SIGNATURE_BYTES_MAX, OtherLog, Provision, Request, Response,
        ServiceKeys,
    },
};
use support::{CHECKPOINT, Home, Subject, attack, can, log_signature_is_right};

#[test]
fn a_checkpoint_is_signed_with_the_key_that_the_store_has() {
    let (home, hierarchy) = Home::new();
    let public = hierarchy.service_keys.log_public.as_slice();
    let is_ed25519 = can(LOG_BY_ED25519);
    for _ in 0..2 {
        let mut worker = home.worker(&hierarchy);
        for size in 0..20 {
            let text = CHECKPOINT.replace("\n7\n", &format!("\n{size}\n"));
            let signature = worker.sign_log(&text).unwrap();
            assert!(log_signature_is_right(public, &text, &signature), "{size}");
            assert!(!log_signature_is_right(public, &text.replace("head", "tail"), &signature), "{size}");
            assert!(signature.len() <= LOG_SIGNATURE_BYTES_MAX && is_ed25519 == (signature.len() == 64), "{size}");
        }
    }
}

#[test]
fn the_longest_text_is_signed() {
    let (home, hierarchy) = Home::new();
    let mut text = CHECKPOINT.to_owned();
    text.push_str(&"x".repeat(TEXT_BYTES_MAX - text.len() - 1));
    text.push('\n');
    let signature = home.worker(&hierarchy).sign_log(&text).unwrap();
    assert!(log_signature_is_right(&hierarchy.service_keys.log_public, &text, &signature));
}

#[test]
fn nothing_but_a_checkpoint_is_signed() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    let refused = [
        ("", NotACheckpoint::Cut),
        ("\n", NotACheckpoint::Origin),
        ("eyJhbGciOiJFZERTQSJ9.e30\n", NotACheckpoint::Origin),
        (&CHECKPOINT.replace("strongroom/", "example.com/"), NotACheckpoint::Origin),
        (&format!("cosignature/v1\ntime 1\n{CHECKPOINT}"), NotACheckpoint::Origin),
        (&CHECKPOINT.replace("\n7\n", "\n07\n"), NotACheckpoint::Size),
        (&CHECKPOINT.replace("=\n", "\n"), NotACheckpoint::Root),
        (&CHECKPOINT.replace("head", "\nhead"), NotACheckpoint::Extension),
        (&CHECKPOINT.replace("head", "he\0ad"), NotACheckpoint::Extension),
        (CHECKPOINT.trim_end(), NotACheckpoint::Cut),
        (&CHECKPOINT.replace("AAAA", &"A".repeat(TEXT_BYTES_MAX)), NotACheckpoint::Long),
    ];
    for (text, why) in refused {
        assert_eq!(worker.sign_log(text), Err(Fault::Checkpoint(why)), "{text:?}");
    }
    assert!(worker.sign_log(CHECKPOINT).is_ok(), "the worker serves on");
}

#[test]
fn a_token_without_log_key_says_so_and_serves_the_rest() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    let row = worker.key(KeySpec::P256, Residency::Wrapped, [1; 16]);
    drop(worker);
    assert_eq!(home.run_child("child_removes_the_log_key", &[]), ["2"]);
    let mut worker = home.worker(&hierarchy);
    for _ in 0..2 {
        let refused = worker.sign_log(CHECKPOINT).unwrap_err();
        assert_eq!(refused, Fault::LogKeyAbsent);
        assert!(refused.to_string().contains("strongroom recover"), "{refused}");
    }
    assert!(worker.sign(&row, Algorithm::Es256, &[7; 32]).is_ok());
    // Another in its place is no log key of this service.
    home.run_child("child_adds_a_log_key", &[]);
    assert_eq!(home.worker(&hierarchy).sign_log(CHECKPOINT), Err(Fault::LogKeyMismatch));
}

/// In a process of its own, with the PIN.
#[test]
#[ignore = "run by other tests, in a process that loads the module"]
fn child_removes_the_log_key() {
    let session = attack::log_in();
    let halves = attack::log_keys(&session);
    halves.iter().for_each(|half| session.destroy_object(*half).unwrap());
    support::answer(&halves.len().to_string());
}

#[test]
fn two_log_keys_are_not_chosen_between() {
    let (home, hierarchy) = Home::new();
    home.run_child("child_adds_a_log_key", &[]);
    let mut worker = home.worker(&hierarchy);
    assert_eq!(worker.sign_log(CHECKPOINT), Err(Fault::LogKeyMismatch));
    assert!(matches!(worker.call(Request::Canary), Ok(Response::Done)));
}

/// In a process of its own, with the PIN.
#[test]
#[ignore = "run by other tests, in a process that loads the module"]
fn child_adds_a_log_key() {
    let session = attack::log_in();
    let (mechanism, curve) = if can(LOG_BY_ED25519) {
        (Mechanism::EccEdwardsKeyPairGen, b"\x13\x0cedwards25519".to_vec())
    } else {
        (Mechanism::EccKeyPairGen, vec![0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07])
    };
    let label = || Attribute::Label(b"strongroom log".to_vec());
    let public = [label(), Attribute::Token(true), Attribute::Verify(true), Attribute::EcParams(curve)];
    let private = [label(), Attribute::Token(true), Attribute::Private(true), Attribute::Sign(true)];
    session.generate_key_pair(&mechanism, &public, &private).unwrap();
}

#[test]
fn a_service_signs_with_its_own_log_key_only() {
    let (home, hierarchy) = Home::new();
    let (_, foreign) = Home::new();
    let mut mixed = hierarchy.clone();
    mixed.service_keys.log_public = foreign.service_keys.log_public;
    assert_eq!(home.worker(&mixed).sign_log(CHECKPOINT), Err(Fault::LogKeyMismatch));
    mixed.service_keys.log_public = b"no key".to_vec().into();
    let refused = home.worker_with(&mixed, |_| {}).err();
    assert!(matches!(&refused, Some(Fault::Setup(why)) if why.contains("log key")), "{refused:?}");
}

#[test]
fn a_token_that_went_away_is_not_one_without_log_key() {
    if !Subject::current().goes_with_its_folder() {
        return;
    }
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    fs::rename(home.path("tokens"), home.path("away")).unwrap();
    let answer = worker.sign_log(CHECKPOINT);
    assert!(matches!(answer, Err(Fault::Module { damage: Damage::Login | Damage::Token, .. })), "{answer:?}");
}

#[test]
fn the_same_holds_on_nss_softokn() {
    support::holds_on(Subject::NssSoftokn);
}

/// Makes a log key beside the one of `init`; its public half.
fn make(home: &Home, keys: &ServiceKeys, id: [u8; 16]) -> Result<ByteBuf, Fault> {
    match home.provisioner().provision(Provision::MakeLogKey { id, keys: keys.clone() })? {
        Response::LogKey(public) => Ok(public),
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_log_key_takes_the_place_of_another_and_both_sign_meanwhile() {
    let (home, hierarchy) = Home::new();
    let (first, id) = (hierarchy.service_keys.clone(), [0xa1; 16]);
    let public = make(&home, &first, id).unwrap();
    assert_ne!(public, first.log_public);
    assert_eq!(make(&home, &first, id), Err(Fault::Protocol), "one of each id");
    // Who does not know it yet goes on, and does not sign with it.
    let mut before = home.worker(&hierarchy);
    assert!(before.sign_log(CHECKPOINT).is_ok());
    assert_eq!(before.sign_log_by(&public, CHECKPOINT), Err(Fault::LogKeyMismatch));

    let other_log = Some(Box::new(OtherLog { id: None, public: first.log_public.clone() }));
    let both = ServiceKeys { log_public: public.clone(), log_id: Some(id), other_log, ..first.clone() };
    let mut worker = home.worker(&Hierarchy { service_keys: both.clone(), ..hierarchy.clone() });
    for public in [&public, &first.log_public, &public] {
        let signature = worker.sign_log_by(public, CHECKPOINT).unwrap();
        assert!(log_signature_is_right(public, CHECKPOINT, &signature));
    }
    assert_eq!(worker.sign_log_by(b"another", CHECKPOINT), Err(Fault::LogKeyMismatch));
    assert_eq!(worker.sign_log_by(&public, "text"), Err(Fault::Checkpoint(NotACheckpoint::Cut)));

    let destroy =
        |keys: &ServiceKeys, id| home.provisioner().provision(Provision::DestroyLogKey { keys: keys.clone(), id });
    assert_eq!(destroy(&both, Some(id)).unwrap_err(), Fault::Protocol, "not the one that signs");
    for _ in 0..2 {
        assert!(matches!(destroy(&both, None), Ok(Response::Done)), "and again");
    }
    assert_eq!(home.run_child("child_removes_the_log_key", &[]), ["0"], "both halves are gone");
    let last = ServiceKeys { other_log: None, ..both.clone() };
    let mut worker = home.worker(&Hierarchy { service_keys: last, ..hierarchy.clone() });
    assert!(worker.sign_log(CHECKPOINT).is_ok());
    assert_eq!(worker.sign_log_by(&first.log_public, CHECKPOINT), Err(Fault::LogKeyMismatch));
    let mut late = home.worker(&Hierarchy { service_keys: both, ..hierarchy.clone() });
    assert_eq!(late.sign_log_by(&first.log_public, CHECKPOINT), Err(Fault::LogKeyAbsent));
    assert!(late.sign_log(CHECKPOINT).is_ok());
}

#[test]
fn an_unfinished_log_key_is_destroyed_by_its_id() {
    let (home, hierarchy) = Home::new();
    let (id, keys) = ([0xa2; 16], &hierarchy.service_keys);
    make(&home, keys, id).unwrap();
    let mut worker = home.worker(&hierarchy);
    worker.call(Request::DestroyToken { version: id }).unwrap();
    make(&home, keys, id).unwrap();
    assert!(worker.sign_log(CHECKPOINT).is_ok());
}
