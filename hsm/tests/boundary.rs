//! What stays inside: against whoever holds the PIN and the database, and after much use.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use cryptoki::{
    mechanism::Mechanism,
    object::{Attribute, AttributeInfo, AttributeType, KeyType, ObjectClass},
};
use strongroom_hsm::{
    KeySpec, Material, Residency, SecretBytes,
    protocol::{
        ALLOWED_MECHANISMS, BIRTH, HIERARCHY, LOG_BY_ED25519, NewVersion, Provision, Request, Response, UNWRAP_TEMPLATE,
    },
};
use support::{Home, attack, can, can_make, hex, note, unhex};

#[test]
fn pin_and_blob_together_open_nothing_readable() {
    if !can("unwrap template") {
        return;
    }
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    let aes = worker.key(KeySpec::Aes256, Residency::Wrapped, [1; 16]);
    let material = Material::Secret(SecretBytes::new(vec![0x5c; 32]));
    let (spec, residency) = (KeySpec::Aes256, Residency::Wrapped);
    let Ok(Response::Generated(imported)) =
        worker.call(Request::Import { wanted: NewVersion::new(spec, residency, [2; 16]), material })
    else {
        panic!("imported")
    };
    let service_keys = &hierarchy.service_keys;
    let blobs = [aes.statement.blob.as_slice(), &imported.blob, &service_keys.data, &service_keys.sealing];
    let blobs = blobs.map(hex).join(",");
    let answers = home.run_child("child_opens_blobs", &[("BLOBS", &blobs)]);
    assert_eq!(answers, ["nothing"]);
}

/// In a process of its own, with the PIN: tries to unwrap blobs into readable keys.
#[test]
#[ignore = "run by other tests, in a process that loads the module"]
fn child_opens_blobs() {
    let session = attack::log_in();
    let root = attack::root(&session);
    let mut opened = Vec::new();
    // A copied or changed root might lack what the root insists on.
    for copy in [&[Attribute::Token(false)][..], &[Attribute::Token(false), Attribute::Extractable(true)]] {
        assert!(session.copy_object(root, copy).is_err());
    }
    for change in [Attribute::Extractable(true), Attribute::Sensitive(false), Attribute::Decrypt(true)] {
        assert!(session.update_attributes(root, &[change]).is_err());
    }
    for blob in std::env::var("BLOBS").unwrap().split(',').map(unhex) {
        for (sensitive, extractable) in [(false, true), (false, false), (true, true)] {
            let template = [
                Attribute::Class(ObjectClass::SECRET_KEY),
                Attribute::KeyType(KeyType::GENERIC_SECRET),
                Attribute::Token(false),
                Attribute::Sensitive(sensitive),
                Attribute::Extractable(extractable),
            ];
            let Ok(key) = session.unwrap_key(&Mechanism::AesKeyWrapPad, root, &blob, &template) else { continue };
            opened.push(format!("sensitive={sensitive} extractable={extractable}"));
            session.destroy_object(key).unwrap();
        }
        // Saying nothing gives what the root's template says, or is refused (SoftHSM 2.6.1).
        let template = [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::KeyType(KeyType::GENERIC_SECRET)];
        let Ok(key) = session.unwrap_key(&Mechanism::AesKeyWrapPad, root, &blob, &template) else { continue };
        let value = &session.get_attribute_info(key, &[AttributeType::Value]).unwrap()[0];
        assert!(!matches!(value, AttributeInfo::Available(_)), "{value:?}");
        assert!(session.update_attributes(key, &[Attribute::Extractable(true)]).is_err());
    }
    let value = &session.get_attribute_info(root, &[AttributeType::Value]).unwrap()[0];
    assert!(!matches!(value, AttributeInfo::Available(_)), "{value:?}");
    support::answer(if opened.is_empty() { "nothing".to_owned() } else { opened.join(" | ") }.as_str());
}

#[test]
fn the_token_holds_the_service_keys_and_token_keys_and_nothing_else() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    for n in 1..=20 {
        worker.key(KeySpec::P256, Residency::Wrapped, [n; 16]);
        worker.key(KeySpec::Aes256, Residency::Wrapped, [n; 16]);
    }
    worker.key(KeySpec::Rsa2048, Residency::Wrapped, [21; 16]);
    worker.key(KeySpec::P256, Residency::Token, [0xab; 16]);
    let keeps_secrets = can_make(KeySpec::Aes128, Residency::Token);
    if keeps_secrets {
        worker.key(KeySpec::Aes128, Residency::Token, [0xcd; 16]);
    }
    let mut found = home.run_child("child_lists_objects", &[]);
    found.sort();
    let token = |digits: &str| format!("strongroom:{}", digits.repeat(16));
    let mut expected = vec![
        "strongroom canary".to_owned(),
        "strongroom log".to_owned(),
        "strongroom log".to_owned(),
        "strongroom root".to_owned(),
        token("ab"),
        token("ab"),
    ];
    expected.extend(keeps_secrets.then(|| token("cd")));
    assert_eq!(found, expected);
}

/// In a process of its own, with the PIN: lists what is on the token.
#[test]
#[ignore = "run by other tests, in a process that loads the module"]
fn child_lists_objects() {
    let session = attack::log_in();
    for object in session.find_objects(&[]).unwrap() {
        let label = session.get_attributes(object, &[AttributeType::Label]).unwrap();
        let Some(Attribute::Label(label)) = label.first() else { panic!("a label") };
        support::answer(&String::from_utf8_lossy(label));
    }
}

#[test]
fn a_probe_finds_what_the_module_can_do_and_leaves_nothing() {
    let (home, _) = Home::new();
    let Ok(Response::Capabilities(found)) = home.provisioner().provision(Provision::Probe) else { panic!("found") };
    let other: Vec<_> = found.lines.iter().filter(|line| line.works != can(&line.what)).collect();
    assert!(other.is_empty(), "{other:#?}");
    let mut cells = Vec::new();
    for spec in KeySpec::ALL {
        for residency in [Residency::Wrapped, Residency::Token] {
            let kind = format!("{} {}", spec.name(), residency.name());
            if can_make(spec, residency) {
                cells.extend(spec.algorithms().map(|algorithm| format!("{kind} {}", algorithm.name())));
            }
            cells.push(kind);
        }
        // What can only live on the token says what to do instead.
        if !can_make(spec, Residency::Wrapped) && can_make(spec, Residency::Token) {
            assert!(note(&format!("{} wrapped", spec.name())).contains("--residency token"), "{}", spec.name());
        }
    }
    cells.extend([HIERARCHY, "key wrap", UNWRAP_TEMPLATE, BIRTH].map(str::to_owned));
    cells.extend([ALLOWED_MECHANISMS, LOG_BY_ED25519, "HMAC-SHA256", "import of secrets"].map(str::to_owned));
    let mut listed: Vec<_> = found.lines.iter().map(|line| line.what.clone()).collect();
    cells.sort();
    listed.sort();
    assert_eq!(listed, cells, "every cell of the table is listed, and no other");
    assert_eq!(home.run_child("child_lists_objects", &[]).len(), 4);
}

#[test]
fn the_same_holds_on_nss_softokn() {
    support::holds_on(support::Subject::NssSoftokn);
}
