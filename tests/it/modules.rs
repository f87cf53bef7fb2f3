//! Other PKCS#11 modules than SoftHSM, through the program: a service on NSS softokn, and the doctor's word.

use std::{fs, io::Write as _, path::Path, process::Command};

use serde_json::Value;

use crate::{
    dev::{PROGRAM, text},
    production::Site,
};

const SOFTHSM: [&str; 2] = ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"];
const SOFTOKN: [&str; 2] = ["/usr/lib/x86_64-linux-gnu/libsoftokn3.so", "/usr/lib/aarch64-linux-gnu/libsoftokn3.so"];

fn find(places: [&'static str; 2]) -> Option<&'static str> {
    places.into_iter().find(|path| Path::new(path).exists())
}

/// NSS softokn. Where it is not installed the test says so and ends, unless tools are required.
fn softokn() -> Option<&'static str> {
    let found = find(SOFTOKN);
    if found.is_none() {
        let why = "NSS softokn is not installed (apt-get install libnss3)";
        assert!(std::env::var_os("STRONGROOM_REQUIRE_TOOLS").is_none(), "{why}");
        // Past the capture of the test's output, which is thrown away when the test passes.
        writeln!(std::io::stderr().lock(), "skipped: {why}").expect("writes");
    }
    found
}

/// The sample configuration with the table of NSS softokn instead of SoftHSM's.
fn on_softokn(site: &Site, module: &str) {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/softhsm-config/nss-softokn.toml");
    let hsm = fs::read_to_string(sample)
        .expect("the sample")
        .replace("/usr/lib/x86_64-linux-gnu/libsoftokn3.so", module)
        .replace("/etc/strongroom/nss", text(&site.path("tokens")));
    let path = site.path("strongroom.toml");
    let config = fs::read_to_string(&path).expect("reads");
    let (before, rest) = config.split_once("\n[hsm]\n").expect("a table");
    let (_, after) = rest.split_once("\n[store]\n").expect("a table");
    fs::write(&path, format!("{before}\n{hsm}\n[store]\n{after}")).expect("writes");
}

#[test]
fn a_service_is_kept_on_nss_softokn() {
    let Some(module) = softokn() else { return };
    let site = Site::new();
    on_softokn(&site, module);
    site.init();
    let serving = site.serve();
    site.client_ok(&["vault", "create", "main"]);
    let (file, sig) = (site.path("pin"), site.path("sig"));
    let paths = ["--in", text(&file)];
    for (key, kind, residency, algorithm) in
        [("release", "EC", "wrapped", "ES256"), ("kept", "EC", "token", "ES256"), ("old", "RSA", "wrapped", "PS256")]
    {
        site.client_ok(&["key", "create", key, "--type", kind, "--residency", residency]);
        let sign = ["key", "sign", key, "--algorithm", algorithm, "--out", text(&sig)];
        site.client_ok(&[&sign[..], &paths].concat());
        let verify = ["key", "verify", key, "--algorithm", algorithm, "--signature", text(&sig)];
        site.client_ok(&[&verify[..], &paths].concat());
    }
    let refused = site.client(&["key", "create", "secret", "--type", "oct", "--residency", "token"]);
    assert_eq!(refused.status.code(), Some(2), "no secret key is made on a token that does not tell its own");
    serving.stop();

    let checks: Value = serde_json::from_str(&site.operator_ok(&["doctor", "-o", "json"])).expect("JSON");
    let found = |what: &str| -> Vec<&str> {
        let checks = checks.as_array().expect("an array").iter().filter(|check| check["what"] == what);
        checks.filter_map(|check| check["found"].as_str()).collect()
    };
    assert!(found("root's unwrap template")[0].contains("missing"), "{checks:#}");
    assert!(found("what that means for keys").iter().any(|said| said.contains("PIN and the store")), "{checks:#}");

    // Another worker, another login: what was made before is there.
    let serving = site.serve();
    site.client_ok(&[&["key", "sign", "kept", "--algorithm", "ES256", "--out", text(&sig)][..], &paths].concat());
    serving.stop();
}

fn doctor(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(PROGRAM).arg("doctor").args(arguments).output().expect("runs");
    (output.status.code(), String::from_utf8(output.stdout).expect("text"))
}

#[test]
fn the_doctor_tries_a_module_in_software_and_says_what_that_means() {
    let module = find(SOFTHSM).expect("SoftHSM: apt-get install softhsm2");
    let (code, said) = doctor(&["--module", module]);
    assert_eq!(code, Some(0), "{said}");
    for wanted in [
        "Tried on a token of its own",
        "RSA-2048   wrapped    ok  RS256",
        "\nWhat that means for keys\nA service can be kept on this token.\n",
        "On the token only, and so in no backup and no escrow: Ed25519.",
        "PIN and store together open no wrapped key",
    ] {
        let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(plain(&said).contains(&plain(wanted)), "{wanted}: {said}");
    }
    let Some(module) = softokn() else { return };
    let (code, said) = doctor(&["--module", module, "-o", "json"]);
    assert_eq!(code, Some(0), "{said}");
    let checks: Value = serde_json::from_str(&said).expect("JSON");
    let has = |what: &str, verdict: &str| {
        checks.as_array().expect("an array").iter().any(|check| check["what"] == what && check["verdict"] == verdict)
    };
    assert!(has("hierarchy", "ok") && has("P-256 wrapped ES256", "ok"), "{said}");
    assert!(has("unwrap template", "note") && has("P-256K wrapped", "note"), "{said}");
}

#[test]
fn the_doctor_only_lists_what_has_its_tokens_already_unless_a_configuration_is_named() {
    let Some(module) = softokn() else { return };
    let site = Site::new();
    on_softokn(&site, module);
    site.init();
    let told = format!("configdir='sql:{}' dbTokenDescription='strongroom'", text(&site.path("tokens")));
    let (code, said) = doctor(&["--module", module, "--module-parameters", &told]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("As the module lists it."), "{said}");
    assert!(said.contains("Token strongroom (serial number"), "{said}");
    assert!(said.contains("it is write-protected") && said.contains("Nothing of this was tried."), "{said}");
    let (code, said) = doctor(&["--module", module, "--config", text(&site.path("strongroom.toml"))]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("Tried on the token strongroom."), "{said}");
}
