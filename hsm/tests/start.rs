//! Starting, provisioning and ending.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der},
    rsa::{KeySize, PrivateDecryptingKey},
};
use serde_bytes::ByteBuf;
use strongroom_hsm::{
    Algorithm, KeySpec, Residency, SecretBytes,
    protocol::{Call, Damage, Fault, Moment, Provision, Request, Response, Role, append_frame},
    worker::{Exit, LATCH_FILE},
};
use support::{CHECKPOINT, Home, Subject, can, foreign_keys, library, log_signature_is_right};

#[test]
fn a_worker_ends_when_its_parent_does() {
    let (home, hierarchy) = Home::new();
    let worker = home.worker(&hierarchy);
    assert_eq!(worker.end().code(), Some(Exit::Closed as i32));
    assert_eq!(home.spawn().end().code(), Some(Exit::Closed as i32));
}

#[test]
fn what_does_not_follow_the_protocol_ends_the_worker() {
    let (home, hierarchy) = Home::new();
    for packet in [&b"\x01"[..], &[0xff; 64], &[4, 0, 0, 0, 1, 2, 3, 99]] {
        let mut worker = home.worker(&hierarchy);
        worker.send_packet(packet);
        assert!(worker.receive().is_none());
        assert_eq!(worker.end().code(), Some(Exit::Protocol as i32));
    }
    let mut worker = home.spawn();
    assert_eq!(worker.call(Request::Canary).unwrap_err(), Fault::Protocol);
    assert_eq!(worker.end().code(), Some(Exit::Protocol as i32));
}

#[test]
fn a_packet_of_many_calls_is_answered_in_order() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    let mut packet = Vec::new();
    let calls: Vec<Call> = (0..50)
        .map(|n| {
            let mut call = worker.frame(Request::Random { length: 1000 });
            if n == 20 {
                call.deadline = Moment(1);
            }
            call
        })
        .collect();
    calls.iter().for_each(|call| append_frame(&mut packet, call));
    worker.send_packet(&packet);
    let mut answers = Vec::new();
    while answers.len() < calls.len() {
        answers.extend(worker.receive().unwrap());
    }
    for (n, (call, answer)) in calls.iter().zip(answers).enumerate() {
        assert_eq!(call.id, answer.id);
        match answer.result {
            Ok(Response::Random(bytes)) => assert_eq!(bytes.len(), 1000),
            other => assert!(n == 20 && matches!(other, Err(Fault::Expired)), "{n}"),
        }
    }
}

#[test]
fn answers_longer_than_a_packet_together_come_in_several() {
    let (home, hierarchy) = Home::new();
    let (mut worker, _) = home.worker_with(&hierarchy, |hello| hello.flush_us = 10_000_000).unwrap();
    let mut packet = Vec::new();
    let calls = 200;
    for _ in 0..calls {
        let call = worker.frame(Request::Random { length: 1024 });
        append_frame(&mut packet, &call);
    }
    worker.send_packet(&packet);
    let (mut packets, mut answers) = (0, 0);
    while answers < calls {
        answers += worker.receive().unwrap().len();
        packets += 1;
    }
    assert_eq!(packets, 3, "200 answers of a KiB in packets of 96 KiB");
}

#[test]
fn a_refused_pin_is_tried_once() {
    let (home, hierarchy) = Home::new();
    home.write_pin("pin", "0000-0000");
    for _ in 0..4 {
        let refused = home.worker_with(&hierarchy, |_| {}).err();
        assert_eq!(refused, Some(Fault::PinRefused));
    }
    let latch = home.path("state").join(LATCH_FILE);
    assert!(fs::read_to_string(&latch).unwrap().contains("CKR_PIN_INCORRECT"));
    // Not even the right one, until an operator has looked.
    home.write_pin("pin", support::PIN);
    assert_eq!(home.worker_with(&hierarchy, |_| {}).err(), Some(Fault::PinRefused));
    fs::remove_file(latch).unwrap();
    assert!(home.worker_with(&hierarchy, |_| {}).is_ok());
}

#[cfg(feature = "failpoints")]
#[test]
fn several_starts_with_a_wrong_pin_log_in_once() {
    let (home, hierarchy) = Home::new();
    home.write_pin("pin", "0000-0000");
    let logins = home.path("logins");
    let script = format!("login=count:{}", logins.display());
    for _ in 0..4 {
        let refused = home.worker_with(&hierarchy, |hello| hello.faults.clone_from(&script)).err();
        assert_eq!(refused, Some(Fault::PinRefused));
    }
    assert_eq!(fs::read_to_string(logins).unwrap().lines().count(), 1);
}

#[cfg(not(feature = "failpoints"))]
#[test]
fn a_fault_script_is_refused_by_a_program_without_them() {
    let (home, hierarchy) = Home::new();
    let refused = home.worker_with(&hierarchy, |hello| hello.faults = "sign=crash".to_owned()).err();
    assert!(matches!(refused, Some(Fault::Setup(_))));
}

#[test]
fn a_pin_file_that_others_may_read_is_refused() {
    let (home, hierarchy) = Home::new();
    fs::set_permissions(home.path("pin"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(home.worker_with(&hierarchy, |_| {}).err(), Some(Fault::Setup(_))));
}

#[test]
fn another_token_is_not_served() {
    let (home, hierarchy) = Home::new();
    let (_, foreign) = Home::new();
    assert!(matches!(home.worker_with(&foreign, |_| {}).err(), Some(Fault::Setup(_))));
    let mut mixed = hierarchy.clone();
    mixed.service_keys.sealing = foreign.service_keys.sealing.clone();
    assert_eq!(home.worker_with(&mixed, |_| {}).err(), Some(Fault::BlobBroken));
    let foreign_blobs = home.worker_with(&hierarchy, |hello| hello.role = Role::Serve(foreign_keys()));
    assert!(foreign_blobs.is_err());
    let unlabelled = home.worker_with(&hierarchy, |hello| hello.token.label = "another".to_owned());
    assert!(matches!(unlabelled.err(), Some(Fault::Setup(_))));
    let misnumbered = home.worker_with(&hierarchy, |hello| hello.token.serial = Some("0".to_owned()));
    assert!(matches!(misnumbered.err(), Some(Fault::Setup(_))));
    let (_, ready) = home.worker_with(&hierarchy, |hello| hello.token.serial = Some(hierarchy.serial.clone())).unwrap();
    assert_eq!((ready.unwrap_template, ready.library), (can("unwrap template"), library()));
    assert_eq!(ready.serial, hierarchy.serial);
}

#[test]
fn a_start_that_comes_too_late_is_refused() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.spawn();
    let mut call = worker.frame(Request::Hello(Box::new(home.hello(Role::Serve(hierarchy.service_keys)))));
    call.deadline = Moment::now().after(Duration::ZERO);
    let mut packet = Vec::new();
    append_frame(&mut packet, &call);
    worker.send_packet(&packet);
    assert!(matches!(worker.receive().unwrap()[0].result, Err(Fault::Expired)));
    assert_eq!(worker.end().code(), Some(Exit::Refused as i32));
}

#[test]
fn a_worker_shuts_itself_in() {
    let (home, hierarchy) = Home::new();
    let worker = home.worker(&hierarchy);
    let of = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", worker.id())).unwrap();
    assert!(of("status").lines().any(|line| line.split_whitespace().eq(["NoNewPrivs:", "1"])));
    let limits = of("limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert!(core.split_whitespace().filter(|word| *word == "0").count() == 2, "{core}");
}

#[test]
fn a_token_that_went_away_is_found_by_the_canary() {
    if !Subject::current().goes_with_its_folder() {
        return;
    }
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    let row = worker.key(KeySpec::P256, Residency::Wrapped, [1; 16]);
    assert!(worker.sign(&row, Algorithm::Es256, &[7; 32]).is_ok());
    fs::rename(home.path("tokens"), home.path("away")).unwrap();
    let answer = worker.call(Request::Canary);
    assert!(matches!(answer, Err(Fault::Module { damage: Damage::Login | Damage::Token, .. })), "{answer:?}");
    assert!([Exit::LoginLost as i32, Exit::TokenLost as i32].contains(&worker.end().code().unwrap()));
    fs::rename(home.path("away"), home.path("tokens")).unwrap();
    assert!(home.worker(&hierarchy).sign(&row, Algorithm::Es256, &[7; 32]).is_ok());
}

#[test]
fn many_workers_start_at_once() {
    let (home, hierarchy) = Home::new();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut worker = home.worker(&hierarchy);
                assert!(matches!(worker.call(Request::Canary), Ok(Response::Done)));
            });
        }
    });
}

#[test]
fn a_token_and_its_hierarchy_are_made_once() {
    let (home, _) = Home::new();
    let mut provisioner = home.provisioner();
    assert!(matches!(provisioner.init_token(&home), Err(Fault::Setup(_))));
    assert!(matches!(provisioner.create_hierarchy(Vec::new()), Err(Fault::Setup(_))));
    assert_eq!(provisioner.call(Request::Canary).unwrap_err(), Fault::Protocol);
}

#[test]
fn a_hierarchy_comes_back_from_its_escrow() {
    let home = Home::empty();
    let key = PrivateDecryptingKey::generate(KeySize::Rsa3072).unwrap();
    let spki: PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
    let pkcs8: Pkcs8V1Der<'_> = key.as_der().unwrap();
    let mut provisioner = home.provisioner();
    provisioner.init_token(&home).unwrap();
    let made = provisioner.create_hierarchy(vec![ByteBuf::from(spki.as_ref())]).unwrap();
    drop(provisioner);
    let mut worker = home.worker(&made);
    let row = worker.key(KeySpec::P256, Residency::Wrapped, [1; 16]);
    drop(worker);

    // Another machine, another token: only rows, escrow and the recovery key.
    let away = Home::empty();
    let mut provisioner = away.provisioner();
    provisioner.init_token(&away).unwrap();
    let other = PrivateDecryptingKey::generate(KeySize::Rsa3072).unwrap();
    let other: Pkcs8V1Der<'_> = other.as_der().unwrap();
    let escrow = &made.escrow[0];
    let mut recover = |private: &[u8], escrow: &[u8]| {
        provisioner.provision(Provision::Recover {
            private: SecretBytes::new(private.to_vec()),
            escrow: ByteBuf::from(escrow),
            service_keys: made.service_keys.clone(),
            other: None,
        })
    };
    assert_eq!(recover(other.as_ref(), escrow).unwrap_err(), Fault::BlobBroken);
    // A number above every modulus: where one key's escrow meets another's smaller modulus, it is one by chance.
    assert_eq!(recover(pkcs8.as_ref(), &vec![0xff; escrow.len()]).unwrap_err(), Fault::BlobBroken);
    assert!(matches!(recover(b"not a key", escrow).unwrap_err(), Fault::Setup(_)));
    // What failed left nothing behind, so that it can be done right.
    let Ok(Response::Hierarchy(back)) = recover(pkcs8.as_ref(), escrow) else { panic!("recovered") };
    drop(provisioner);
    assert_eq!(back.unwrap_template, can("unwrap template"));
    assert_eq!(back.service_keys.sealing, made.service_keys.sealing);
    assert_ne!(back.service_keys.canary, made.service_keys.canary);
    assert_ne!(back.service_keys.log_public, made.service_keys.log_public);
    let mut worker = away.worker(&back);
    let signature = worker.sign_log(CHECKPOINT).unwrap();
    assert!(log_signature_is_right(&back.service_keys.log_public, CHECKPOINT, &signature));
    let signature = worker.sign(&row, Algorithm::Es256, &[7; 32]).unwrap();
    assert_eq!(worker.verify(&row, Algorithm::Es256, &[7; 32], &signature), Ok(true));
}

#[test]
fn a_weak_recovery_key_is_refused_before_anything_is_made() {
    let home = Home::empty();
    let mut provisioner = home.provisioner();
    provisioner.init_token(&home).unwrap();
    let weak = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
    let weak: PublicKeyX509Der<'_> = weak.public_key().as_der().unwrap();
    for recovery in [weak.as_ref(), b"not a key"] {
        let refused = provisioner.create_hierarchy(vec![ByteBuf::from(recovery)]);
        assert!(matches!(refused, Err(Fault::Setup(_))));
    }
    assert!(provisioner.create_hierarchy(Vec::new()).is_ok());
}

#[test]
fn the_same_holds_on_nss_softokn() {
    support::holds_on(Subject::NssSoftokn);
}
