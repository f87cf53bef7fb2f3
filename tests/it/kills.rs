//! Kill -9 at every named fail-point of a creation: what was acknowledged is there, nothing half-made is
//! visible, the log is whole, and the token holds no orphan.

use std::{fs, os::unix::process::ExitStatusExt as _, path::Path};

use strongroom::{audit::Log, failpoint};

use crate::dev::{Dev, Start, signal, text};

/// The objects in the token's folder.
fn token_objects(data: &Path) -> usize {
    fn count(folder: &Path) -> usize {
        let entries = fs::read_dir(folder).expect("reads").map(|entry| entry.expect("an entry").path());
        entries
            .map(|path| {
                if path.is_dir() {
                    count(&path)
                } else {
                    usize::from(
                        path.extension().is_some_and(|extension| extension == "object")
                            && !path.ends_with("token.object"),
                    )
                }
            })
            .sum()
    }
    count(&data.join("token/tokens"))
}

/// Creates keys until the server dies; those that were acknowledged.
fn create_until_it_dies(dev: &Dev, tag: &str, residency: &str) -> (Vec<String>, Vec<String>) {
    let mut asked = Vec::new();
    let mut acknowledged = Vec::new();
    for n in 0..20 {
        let name = format!("{tag}-{n}");
        asked.push(name.clone());
        let output = dev.run(&["--timeout", "20", "key", "create", &name, "--type", "EC", "--residency", residency]);
        if !output.status.success() {
            return (asked, acknowledged);
        }
        acknowledged.push(name);
    }
    panic!("the fail-point was never reached");
}

fn key_exists(dev: &Dev, name: &str) -> bool {
    dev.run(&["key", "show", name]).status.success()
}

fn check_after(dev: &mut Dev, asked: &[String], acknowledged: &[String]) {
    let (file, sig) = (dev.file("file", "text"), dev.path("sig"));
    for name in asked {
        let exists = key_exists(dev, name);
        assert!(exists || !acknowledged.contains(name), "{name} was acknowledged and is gone");
        let sign = ["key", "sign", name, "--algorithm", "ES256", "--in", text(&file), "--out", text(&sig)];
        if exists {
            dev.ok(&sign);
        } else {
            assert!(dev.fails(&sign).contains("does not exist"));
        }
    }
}

fn kill_everywhere(residency: &str) {
    let mut dev = Dev::new();
    let of_service = token_objects(&dev.data());
    dev.stop();
    let mut all = Vec::new();
    for point in failpoint::ALL {
        // Past the hits of a start: `dev` itself records that it begins.
        let hit = if point.starts_with("service.") { 2 } else { 7 };
        let armed = format!("{point}=kill@{hit}");
        dev.start(Start { failpoints: &armed, ..Start::default() });
        let tag = point.replace(['.', '_'], "-");
        let (asked, acknowledged) = create_until_it_dies(&dev, &tag, residency);
        assert_eq!(dev.wait_dead().signal(), Some(9), "{point} kills");
        dev.start(Start::default());
        check_after(&mut dev, &asked, &acknowledged);
        all.extend(asked);
        let alive = all.iter().filter(|name| key_exists(&dev, name)).count();
        let on_token = if residency == "token" { 2 * alive } else { 0 };
        assert_eq!(token_objects(&dev.data()), of_service + on_token, "after {point}: no orphan on the token");
        dev.stop();
        let log = dev.data().join("audit");
        let verified = Log::verify(&log).unwrap_or_else(|error| panic!("after {point}: {error}"));
        assert!(verified.open.is_empty(), "after {point}: every intent has its outcome");
    }
}

#[test]
fn wrapped_keys_survive_a_kill_at_every_point() {
    kill_everywhere("wrapped");
}

#[test]
fn token_keys_survive_a_kill_at_every_point() {
    kill_everywhere("token");
}

#[test]
fn an_import_that_is_killed_leaves_no_orphan_on_the_token() {
    let mut dev = Dev::new();
    let of_service = token_objects(&dev.data());
    let secret = dev.file("secret", [0x5a; 32]);
    dev.stop();
    dev.start(Start { failpoints: "service.after_generate=kill@1", ..Start::default() });
    let import = ["--timeout", "20", "key", "import", "in", "--oct", text(&secret), "--residency", "token"];
    assert!(!dev.run(&import).status.success());
    assert_eq!(dev.wait_dead().signal(), Some(9));
    assert_eq!(token_objects(&dev.data()), of_service + 1, "it was on the token");
    dev.start(Start::default());
    assert!(!key_exists(&dev, "in"));
    assert_eq!(token_objects(&dev.data()), of_service, "and is reaped");
    dev.ok(&import);
    assert_eq!(token_objects(&dev.data()), of_service + 1);
}

#[test]
fn killed_workers_are_replaced_and_nobody_notices() {
    let dev = Dev::new();
    dev.ok(&["key", "create", "k", "--type", "EC"]);
    let (file, sig) = (dev.file("file", "text"), dev.path("sig"));
    for worker in dev.workers() {
        signal(worker, "KILL");
        dev.ok(&["key", "sign", "k", "--algorithm", "ES256", "--in", text(&file), "--out", text(&sig)]);
        dev.ok(&["key", "verify", "k", "--algorithm", "ES256", "--in", text(&file), "--signature", text(&sig)]);
    }
}

#[test]
fn the_token_holds_the_services_own_objects_only() {
    let dev = Dev::new();
    let of_service = token_objects(&dev.data());
    for n in 0..30 {
        let kind = ["EC", "oct"][n % 2];
        dev.ok(&["key", "create", &format!("k{n}"), "--type", kind]);
    }
    assert_eq!(token_objects(&dev.data()), of_service);
    assert!(of_service <= 4, "root, canary and the log's pair: {of_service}");
}
