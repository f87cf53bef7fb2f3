//! What each module can do, by trying, against the tables in `hsm/tests/capabilities`, which are published
//! (docs/modules.md). `UPDATE_EXPECT=1` writes the tables anew from what is found.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::{fmt::Write as _, fs};

use strongroom_hsm::protocol::{Capabilities, Fault, Provision, Response, Role};
use support::{Home, Subject, Worker, foreign_keys};

/// A worker that may provision, on a token without hierarchy.
fn provisioner(home: &Home, subject: Subject) -> Worker {
    let mut worker = home.provisioner();
    // That of opencryptoki comes with one.
    if subject != Subject::OpenCryptoki {
        worker.init_token(home).unwrap();
    }
    worker
}

fn table(subject: Subject, found: &Capabilities) -> String {
    let mut text = format!(
        "# {}, as the probe finds it. `+` works; `-` does not, and the line says why.\n\
         # Compared and written anew by hsm/tests/capabilities.rs; explained in docs/modules.md.\n",
        found.library
    );
    for line in &found.lines {
        let sign = if line.works { '+' } else { '-' };
        writeln!(text, "{sign} {}: {}", line.what, line.note).unwrap();
    }
    assert!(!text.contains('\t'), "{}", subject.name());
    text
}

fn is_as_published(subject: Subject) {
    if !subject.can_be_tested() {
        return;
    }
    let home = Home::of(subject);
    let Ok(Response::Capabilities(found)) = provisioner(&home, subject).provision(Provision::Probe) else {
        panic!("capabilities")
    };
    let (found, path) = (table(subject, &found), subject.table());
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, &found).unwrap();
    }
    let published = fs::read_to_string(&path).unwrap_or_default();
    let differs = |one: &str, other: &str| -> Vec<String> {
        one.lines().filter(|line| !other.lines().any(|known| known == *line)).map(str::to_owned).collect()
    };
    assert!(
        found == published,
        "{} differs; UPDATE_EXPECT=1 writes it anew.\nfound: {:#?}\npublished: {:#?}",
        path.display(),
        differs(&found, &published),
        differs(&published, &found),
    );
}

#[test]
fn softhsm_can_do_what_its_table_says() {
    is_as_published(Subject::SoftHsm);
}

#[test]
fn nss_softokn_can_do_what_its_table_says() {
    is_as_published(Subject::NssSoftokn);
}

#[test]
fn opencryptoki_can_do_what_its_table_says() {
    is_as_published(Subject::OpenCryptoki);
}

#[test]
fn a_module_that_cannot_carry_the_services_keys_is_refused_and_told_why() {
    let subject = Subject::OpenCryptoki;
    if !subject.can_be_tested() {
        return;
    }
    let home = Home::of(subject);
    let made = home.provisioner().create_hierarchy(Vec::new());
    let Err(Fault::Unsupported(why)) = made else { panic!("{made:?}") };
    let served = home.spawn().hello(home.hello(Role::Serve(foreign_keys())));
    assert_eq!(served, Err(Fault::Unsupported(why.clone())), "nor is it served from, whatever the store says");
    for missing in ["CKM_AES_KEY_WRAP_KWP or CKM_AES_KEY_WRAP_PAD", "CKM_AES_GCM", "CKM_EDDSA or CKM_ECDSA"] {
        assert!(why.contains(missing), "{missing}: {why}");
    }
}
