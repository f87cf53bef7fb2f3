//! The programs of tests/azure, each against a server of its own: in full with the vault as `localhost`, and its part
//! on secrets, which begins with the challenge as every part does, with the vault's name verified.

use std::{fs, path::Path};

use super::{PACKAGES, by_localhost, by_name, install, kept, passes, proxy, server};
use crate::{dev::PROGRAM, python::skip};

const PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/azure");

/// Copies what differs, so that what was built from the rest stays built.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("a file");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else if fs::read(&from).ok() != fs::read(&to).ok() {
            fs::copy(&from, &to).expect("copied");
        }
    }
}

/// An SDK's program: what installs it, and what runs it.
fn sdk(name: &str, needs: &str, line: &str, program: &str, arguments: &[&str]) {
    let folder = kept(name);
    copy(&Path::new(PROGRAMS).join(name), &folder);
    if let Err(why) = install(&folder, line) {
        return skip(&format!("{needs}: {why}"));
    }
    let dev = server();
    let plain = by_localhost(&dev, program).args(arguments).current_dir(&folder).output().expect("runs");
    passes(name, &plain);
    let proxy = proxy(&dev);
    let mut named = by_name(&dev, &proxy, program);
    named.args(arguments).current_dir(&folder).env("AKV_SKIP", "keys");
    passes(&format!("{name}, the vault's name verified"), &named.output().expect("runs"));
}

/// Tools that have no switch for verification.
fn tools(name: &str, needs: &str, line: &str, program: &str, arguments: &[&str]) {
    let folder = kept(name);
    copy(&Path::new(PROGRAMS).join(name), &folder);
    if let Err(why) = install(&folder, line) {
        return skip(&format!("{needs}: {why}"));
    }
    let dev = server();
    let proxy = proxy(&dev);
    let output = by_name(&dev, &proxy, program).args(arguments).current_dir(&folder).output().expect("runs");
    passes(name, &output);
}

#[test]
fn the_javascript_sdk_works_unmodified() {
    let needs = "Node.js 20 or newer with npm, and a reachable npm registry";
    let line = "cmp -s package-lock.json node_modules/installed || \
                { npm ci --engine-strict --no-audit --no-fund; cp package-lock.json node_modules/installed; }";
    sdk("javascript", needs, line, "node", &["main.js"]);
}

#[test]
fn the_go_sdk_works_unmodified() {
    sdk("go", "Go 1.25 or newer, and a reachable module proxy", GO, "./program", &[]);
}

#[test]
fn the_java_sdk_works_unmodified() {
    let needs = "a JDK of 17 or newer with Maven, and a reachable repository";
    let line = "mvn --batch-mode --quiet --no-transfer-progress compile";
    // Java asks the environment for a proxy when it is told to.
    let arguments = ["-Djava.net.useSystemProxies=true", "-cp", "target/classes:target/lib/*", "Main"];
    sdk("java", needs, line, "java", &arguments);
}

#[test]
fn the_rust_sdk_works_unmodified() {
    let program = Path::new(PROGRAM).parent().expect("in a folder").join("examples/azure");
    assert!(program.exists(), "`cargo test` builds it, and so does `cargo build --example azure`");
    sdk("rust", "nothing that is not here", "true", program.to_str().expect("text"), &[]);
}

/// The module has its versions in go.sum. What is built is of no version of ours.
const GO: &str = "go build -buildvcs=false -o program .";

#[test]
fn mongodb_and_pydantic_settings_work_unmodified() {
    let needs = "python3-venv, and a reachable PyPI";
    tools("tools-python", needs, PACKAGES, "venv/bin/python", &["main.py"]);
}

#[test]
fn the_key_stores_of_cosign_and_sops_work_unmodified() {
    tools("tools-go", "Go 1.25 or newer, and a reachable module proxy", GO, "./program", &[]);
}
