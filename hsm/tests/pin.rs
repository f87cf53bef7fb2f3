//! The PIN changes: on the token, and in the file, with one of them behind the other at any time.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
};

use strongroom_hsm::{
    protocol::{Damage, Fault, Provision, Response},
    worker::LATCH_FILE,
};
use support::{CHECKPOINT, Home, PIN, Subject, holds_on};

const NEW: &str = "0815-4711";

#[test]
fn the_same_holds_on_nss_softokn() {
    holds_on(Subject::NssSoftokn);
}

/// Asks for a change to what a file holds, or for the end of one that was begun.
fn change(home: &Home, new: Option<&str>) -> Result<Response, Fault> {
    let new_pin_file = new.map(|name| home.path(name));
    home.provisioner().provision(Provision::ChangePin { new_pin_file })
}

fn pin_of(home: &Home) -> String {
    fs::read_to_string(home.path("pin")).unwrap()
}

/// What says so; nobody is kept from logging in by it.
fn refused(home: &Home, result: Result<Response, Fault>) -> String {
    assert!(!home.path("state").join(LATCH_FILE).exists(), "no latch");
    match result {
        Err(Fault::Setup(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn running_workers_go_on_and_new_ones_log_in_with_the_new_one() {
    let (home, hierarchy) = Home::new();
    let mut before = home.worker(&hierarchy);
    home.write_pin("new", NEW);
    fs::set_permissions(home.path("pin"), fs::Permissions::from_mode(0o400)).unwrap();
    let about = fs::metadata(home.path("pin")).unwrap();
    assert!(matches!(change(&home, Some("new")), Ok(Response::Done)));
    assert_eq!(pin_of(&home), format!("{NEW}\n"));
    let after = fs::metadata(home.path("pin")).unwrap();
    assert_eq!((after.mode(), after.uid(), after.gid()), (about.mode(), about.uid(), about.gid()));
    assert!(!home.path("pin.new").exists());
    let goes_on = before.sign_log(CHECKPOINT);
    if Subject::current() == Subject::NssSoftokn {
        // It has what is on the token under its PIN: a worker that has the old one says that its login is over.
        assert!(matches!(goes_on, Ok(_) | Err(Fault::Module { damage: Damage::Login, .. })), "{goes_on:?}");
    } else {
        goes_on.unwrap();
    }
    home.worker(&hierarchy).sign_log(CHECKPOINT).unwrap();
    // The old one is worth nothing.
    home.write_pin("pin", PIN);
    assert_eq!(home.worker_with(&hierarchy, |_| {}).err(), Some(Fault::PinRefused));
}

#[test]
fn a_change_that_was_not_finished_is_finished_from_either_side() {
    let (home, hierarchy) = Home::new();
    // The new one is written, and the token has the old one.
    home.write_pin("pin.new", NEW);
    home.worker(&hierarchy).sign_log(CHECKPOINT).unwrap();
    assert!(home.path("pin.new").exists(), "a worker does not change the token");
    assert!(matches!(change(&home, None), Ok(Response::Done)));
    assert_eq!(pin_of(&home), format!("{NEW}\n"));
    home.worker(&hierarchy).sign_log(CHECKPOINT).unwrap();
    // The token has the new one, and the file the old one.
    for finished_by_worker in [false, true] {
        home.write_pin("pin", PIN);
        home.write_pin("pin.new", NEW);
        if finished_by_worker {
            home.worker(&hierarchy).sign_log(CHECKPOINT).unwrap();
        } else {
            assert!(matches!(change(&home, None), Ok(Response::Done)));
        }
        assert_eq!(pin_of(&home), format!("{NEW}\n"));
        assert!(!home.path("pin.new").exists() && !home.path("state").join(LATCH_FILE).exists());
        home.worker(&hierarchy).sign_log(CHECKPOINT).unwrap();
    }
    // The file has the new one too, and only the last step is missing.
    home.write_pin("pin.new", NEW);
    assert!(matches!(change(&home, None), Ok(Response::Done)));
    assert!(!home.path("pin.new").exists());
    // Both wrong: then the latch is set, as for one.
    home.write_pin("pin", PIN);
    home.write_pin("pin.new", "1111-2222");
    assert_eq!(home.worker_with(&hierarchy, |_| {}).err(), Some(Fault::PinRefused));
    assert_eq!(change(&home, None).unwrap_err(), Fault::PinRefused, "an operator looks first");
}

#[test]
fn a_next_pin_that_cannot_be_tried_is_no_reason_to_try_the_old_one_again() {
    let (home, hierarchy) = Home::new();
    home.write_pin("pin", "0000-0000");
    home.write_pin("pin.new", PIN);
    fs::set_permissions(home.path("pin.new"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(home.worker_with(&hierarchy, |_| {}).err(), Some(Fault::PinRefused));
    let latch = home.path("state").join(LATCH_FILE);
    let said = fs::read_to_string(&latch).unwrap();
    assert!(said.contains("pin.new") && said.contains("0600"), "{said}");
    fs::set_permissions(home.path("pin.new"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(home.worker_with(&hierarchy, |_| {}).err(), Some(Fault::PinRefused), "an operator looks first");
    fs::remove_file(&latch).unwrap();
    home.worker(&hierarchy).sign_log(CHECKPOINT).unwrap();
    assert!(!latch.exists() && !home.path("pin.new").exists());
}

#[test]
fn what_lies_where_the_next_pin_is_written_is_not_written_to() {
    let (home, _) = Home::new();
    home.write_pin("new", NEW);
    home.write_pin("other", "not a PIN");
    std::os::unix::fs::symlink(home.path("other"), home.path("pin.draft")).unwrap();
    assert!(matches!(change(&home, Some("new")), Ok(Response::Done)));
    assert_eq!(fs::read_to_string(home.path("other")).unwrap(), "not a PIN\n");
    assert_eq!(pin_of(&home), format!("{NEW}\n"));
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let (home, hierarchy) = Home::new();
    home.write_pin("same", PIN);
    home.write_pin("new", NEW);
    assert!(refused(&home, change(&home, None)).contains("no new PIN"));
    assert!(refused(&home, change(&home, Some("same"))).contains("has already"));
    home.write_pin("short", "1");
    if Subject::current() == Subject::SoftHsm {
        let said = refused(&home, change(&home, Some("short")));
        assert!(said.contains("takes PINs of"), "{said}");
    }
    fs::set_permissions(home.path("new"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(refused(&home, change(&home, Some("new"))).contains("0600"));
    home.write_pin("new", NEW);
    home.write_pin("pin.new", "1111-2222");
    assert!(refused(&home, change(&home, Some("new"))).contains("not finished"));
    fs::remove_file(home.path("pin.new")).unwrap();
    // The file has a wrong one: it is tried once, and the service that runs is not concerned.
    let mut before = home.worker(&hierarchy);
    home.write_pin("pin", "0000-0000");
    assert!(refused(&home, change(&home, Some("new"))).contains("nothing was changed"));
    assert!(!home.path("pin.new").exists());
    before.sign_log(CHECKPOINT).unwrap();
    home.write_pin("pin", PIN);
    home.worker(&hierarchy).sign_log(CHECKPOINT).unwrap();
}
