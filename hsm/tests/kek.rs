//! Key-encryption keys of vaults: what is wrapped under one opens while it is there, and never again.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use serde_bytes::ByteBuf;
use strongroom_hsm::{
    Algorithm, KeyRow, KeySpec, Material, Residency, SecretBytes,
    protocol::{Fault, Kek, NewVersion, Request, Response},
};
use support::{Home, Worker, can};

const KEK: [u8; 16] = [0xe1; 16];

fn make_kek(worker: &mut Worker, id: [u8; 16]) -> Result<Kek, Fault> {
    worker.call(Request::MakeKek { id }).map(|answer| match answer {
        Response::Kek(kek) => kek,
        other => panic!("{other:?}"),
    })
}

fn destroy(worker: &mut Worker, id: [u8; 16]) {
    assert!(matches!(worker.call(Request::DestroyToken { version: id }), Ok(Response::Done)));
}

const fn under(kek: Kek, spec: KeySpec, version: u8) -> NewVersion {
    NewVersion { kek: Some(kek), ..NewVersion::new(spec, Residency::Wrapped, [version; 16]) }
}

fn sign(worker: &mut Worker, row: &KeyRow) -> Result<Vec<u8>, Fault> {
    worker.sign(row, Algorithm::Es256, &[7; 32])
}

/// Whether this module lets a KEK be made; one that does not tell what was born on the token refuses.
fn is_refused(worker: &mut Worker) -> bool {
    if can("birth") {
        return false;
    }
    assert!(matches!(make_kek(worker, KEK), Err(Fault::Unsupported(_))));
    true
}

#[test]
fn what_is_wrapped_under_a_kek_is_gone_with_it() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    if is_refused(&mut worker) {
        return;
    }
    let kek = make_kek(&mut worker, KEK).unwrap();
    let row = worker.key_as(under(kek, KeySpec::P256, 1));
    let other = worker.key(KeySpec::P256, Residency::Wrapped, [2; 16]);
    assert!(sign(&mut worker, &row).is_ok() && sign(&mut worker, &other).is_ok());
    let mut beside = home.worker(&hierarchy);
    assert!(sign(&mut beside, &row).is_ok(), "another process finds it by its id");
    destroy(&mut worker, KEK);
    // Not from what this worker had loaded, nor in one that begins anew with the row out of a backup.
    assert_eq!(sign(&mut worker, &row).unwrap_err(), Fault::KekAbsent);
    let mut later = home.worker(&hierarchy);
    assert_eq!(sign(&mut later, &row).unwrap_err(), Fault::KekAbsent);
    assert!(sign(&mut later, &other).is_ok(), "what is under the root is not touched");
    assert_eq!(later.make(under(kek, KeySpec::P256, 3)).unwrap_err(), Fault::KekAbsent);
}

#[test]
fn a_row_names_what_it_is_under() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    if is_refused(&mut worker) {
        return;
    }
    let kek = make_kek(&mut worker, KEK).unwrap();
    make_kek(&mut worker, [0xe2; 16]).unwrap();
    let row = worker.key_as(under(kek, KeySpec::Aes256, 1));
    for kek in [None, Some([0xe2; 16])] {
        let mut changed = row.statement.clone();
        changed.kek = kek;
        let unsealed = KeyRow::new(changed.clone(), row.seal);
        let mut fresh = home.worker(&hierarchy);
        assert_eq!(fresh.sign(&unsealed, Algorithm::Hs256, &[7; 32]).unwrap_err(), Fault::SealBroken);
        // Even sealed, it does not open under another.
        let resealed = fresh.sealed(changed);
        let operate =
            Request::Load { seal: ByteBuf::from(resealed.seal), row: ByteBuf::from(resealed.canonical.to_vec()) };
        assert_eq!(fresh.call(operate).unwrap_err(), Fault::BlobBroken);
    }
}

#[test]
fn every_wrapped_kind_and_what_is_brought_in_can_be_under_one() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    if is_refused(&mut worker) {
        return;
    }
    let kek = make_kek(&mut worker, KEK).unwrap();
    for (n, spec) in (10..).zip([KeySpec::P256, KeySpec::Rsa2048, KeySpec::Aes128, KeySpec::Hmac256]) {
        worker.make(under(kek, spec, n)).unwrap();
    }
    let wanted = under(kek, KeySpec::Aes256, 20);
    let material = Material::Secret(SecretBytes::new(vec![0x5a; 32]));
    assert!(matches!(worker.call(Request::Import { wanted, material }), Ok(Response::Generated(_))));
}

#[test]
fn a_kek_is_made_once_and_a_key_that_was_put_there_is_none() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    if is_refused(&mut worker) {
        return;
    }
    let kek = make_kek(&mut worker, KEK).unwrap();
    assert_eq!(make_kek(&mut worker, KEK).unwrap_err(), Fault::Protocol, "two of one id could not be told apart");
    // Neither is a key of the service's own on the token, which can decrypt, nor one that was put there.
    worker.generate(KeySpec::Aes256, Residency::Token, [0xe3; 16]).unwrap();
    let refused = |worker: &mut Worker, id| {
        let kek = Kek { id, ..kek };
        assert_eq!(worker.make(under(kek, KeySpec::P256, 1)).unwrap_err(), Fault::KeyMismatch);
    };
    refused(&mut worker, [0xe3; 16]);
    let material = Material::Secret(SecretBytes::new(vec![0x5a; 32]));
    let placed = NewVersion::new(KeySpec::Aes256, Residency::Token, [0xe4; 16]);
    assert!(worker.call(Request::Import { wanted: placed, material }).is_ok());
    refused(&mut worker, [0xe4; 16]);
}

#[test]
fn a_kek_that_was_put_in_the_place_of_another_wraps_nothing() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    if is_refused(&mut worker) {
        return;
    }
    let first = make_kek(&mut worker, KEK).unwrap();
    let row = worker.key_as(under(first, KeySpec::P256, 1));
    // As whoever has the PIN can: born on the token, with every attribute that it is to have.
    destroy(&mut worker, KEK);
    let second = make_kek(&mut worker, KEK).unwrap();
    assert_eq!(worker.make(under(first, KeySpec::P256, 2)).unwrap_err(), Fault::KeyMismatch);
    assert!(worker.make(under(second, KeySpec::P256, 3)).is_ok());
    assert_eq!(sign(&mut worker, &row).unwrap_err(), Fault::BlobBroken);
}

#[test]
fn the_same_holds_on_nss_softokn() {
    support::holds_on(support::Subject::NssSoftokn);
}
