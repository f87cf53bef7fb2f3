//! What is accepted, and how faults are named.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use super::*;

const SAMPLE: &str = include_str!("../../softhsm-config/strongroom.sample.toml");

const SMALL: &str = r#"
[server]
listen = "127.0.0.1:8443"
certificate = "server.pem"
key = "server.key"
client_ca = "/etc/clients.pem"
[hsm]
module = "/usr/lib/softhsm/libsofthsm2.so"
token = { label = "strongroom" }
pin_file = "pin"
state_dir = "state"
[store]
sqlite = "strongroom.db"
[audit]
dir = "audit"
"#;

fn faults(text: &str) -> Vec<String> {
    parse(text, Path::new("/srv")).expect_err("has faults").iter().map(ToString::to_string).collect()
}

#[test]
fn the_sample_is_right_and_says_the_defaults() {
    let sample = parse(SAMPLE, Path::new("/etc/strongroom")).expect("the sample is right");
    let small = parse(SMALL, Path::new("/etc/strongroom")).expect("is right");
    assert_eq!(sample.server.deadline_default, small.server.deadline_default);
    assert_eq!(sample.server.requests_max, small.server.requests_max);
    assert_eq!(sample.server.connections_max, small.server.connections_max);
    assert_eq!(sample.hsm.cached_keys_max, small.hsm.cached_keys_max);
    assert_eq!(sample.hsm.canary_every, small.hsm.canary_every);
    assert_eq!(sample.log, small.log);
}

#[test]
fn what_a_module_is_told_is_passed_on_as_it_stands() {
    let nss = include_str!("../../softhsm-config/nss-softokn.toml");
    let (before, rest) = SMALL.split_once("[hsm]\n").expect("a table");
    let (_, after) = rest.split_once("[store]\n").expect("a table");
    let text = format!("{before}{nss}\n[store]\n{after}");
    let config = parse(&text, Path::new("/etc/strongroom")).expect("the sample is right");
    let told = "configdir='sql:/etc/strongroom/nss' dbTokenDescription='strongroom'";
    assert_eq!(config.hsm.module_parameters.as_deref(), Some(told));
    assert_eq!(config.hsm.profile("strongroom".into()).module_parameters.as_deref(), Some(told));
    let cut = SMALL.replace("[hsm]", "[hsm]\nmodule_parameters = \"a\\u0000b\"");
    assert_eq!(faults(&cut), ["hsm.module_parameters: holds a zero byte, which would end it"]);
}

#[test]
fn paths_are_relative_to_the_file() {
    let config = parse(SMALL, Path::new("/srv")).expect("is right");
    assert_eq!(config.server.key, Path::new("/srv/server.key"));
    assert_eq!(config.server.client_ca, Path::new("/etc/clients.pem"));
    assert_eq!(config.store, Path::new("/srv/strongroom.db"));
}

#[test]
fn an_unknown_key_is_named_with_its_path() {
    let text = SMALL.replace("pin_file", "pin_flie").replace("[audit]", "[audit]\nsync = true\n[rest]\n[audit.x]\n");
    let found = faults(&text.replace("[rest]\n[audit.x]\n", ""));
    assert!(found.contains(&"hsm.pin_flie: is not a key that this release knows".to_owned()), "{found:?}");
    assert!(found.contains(&"hsm.pin_file: is missing".to_owned()), "{found:?}");
    assert!(found.contains(&"audit.sync: is not a key that this release knows".to_owned()), "{found:?}");
}

#[test]
fn all_faults_are_found_at_once() {
    let text = SMALL
        .replace("127.0.0.1:8443", "nowhere")
        .replace("label = \"strongroom\"", "label = 7")
        .replace("dir = \"audit\"", "dir = \"\"");
    let found = faults(&text);
    for key in ["server.listen: ", "hsm.token.label: ", "audit.dir: "] {
        assert!(found.iter().any(|fault| fault.starts_with(key)), "{key} in {found:?}");
    }
}

#[test]
fn an_address_that_others_reach_needs_a_word() {
    let open = SMALL.replace("127.0.0.1:8443", "0.0.0.0:8443");
    assert!(faults(&open)[0].starts_with("server.listen: 0.0.0.0:8443 can be reached by other machines"));
    let said = open.replace("[server]", "[server]\nallow_non_loopback = true");
    assert!(parse(&said, Path::new("/srv")).is_ok());
}

#[test]
fn numbers_words_and_tables_are_checked() {
    let cases = [
        ("[metrics]\nlisten = \"127.0.0.1:99999\"", "metrics.listen: "),
        ("[metrics]\nlisten = 7", "metrics.listen: is text in quotes, not a whole number"),
        ("[log]\nlevel = \"loud\"", "log.level: \"loud\" is none of error, warn, info, debug"),
        ("[hsm.lanes.short]\nworkers = 0", "hsm.lanes.short.workers: is a number from 1 to 256, not 0"),
        ("[hsm.lanes.fast]\nworkers = 1", "hsm.lanes.fast: is not a key that this release knows"),
        ("[hsm.environment]\nX = 1", "hsm.environment.X: is text in quotes, not a whole number"),
        ("rest = 1", "rest: is not a key that this release knows"),
    ];
    for (addition, expected) in cases {
        let text =
            if addition.starts_with('[') { format!("{SMALL}\n{addition}\n") } else { format!("{addition}\n{SMALL}") };
        let found = faults(&text);
        assert!(found.iter().any(|fault| fault.starts_with(expected)), "{expected} in {found:?}");
    }
    assert!(faults("[server")[0].starts_with("is not TOML: "));
}

#[test]
fn lanes_can_be_changed_one_by_one() {
    let text = format!("{SMALL}\n[hsm.lanes.medium]\nworkers = 7\nhang_ms = 1500\n");
    let config = parse(&text, Path::new("/srv")).expect("is right");
    let medium = config.hsm.lanes[&Lane::Medium];
    assert_eq!((medium.workers, medium.hang), (7, Duration::from_millis(1500)));
    assert_eq!(config.hsm.lanes[&Lane::Short], Profile::softhsm_lanes(2)[&Lane::Short]);
}

#[test]
fn what_is_missing_or_open_on_disk_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = parse(SMALL, folder.path()).expect("is right");
    let named: Vec<String> = faults_on_disk(&config).into_iter().map(|fault| fault.key).collect();
    assert!(named.contains(&"server.certificate".to_owned()), "{named:?}");
    let key = folder.path().join("server.key");
    fs::write(&key, "x").expect("writes");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("permits");
    let found = faults_on_disk(&config);
    assert!(found.iter().any(|fault| fault.key == "server.key" && fault.why.contains("has mode 644")), "{found:?}");
}

#[test]
fn a_missing_file_is_said_to_be_missing() {
    let error = load(Path::new("/nowhere/strongroom.toml")).expect_err("is not there");
    assert!(error.to_string().starts_with("/nowhere/strongroom.toml: cannot be read: "), "{error}");
}
