//! Kill -9 at every named fail-point of a creation: what was acknowledged is there, nothing half-made is
//! visible, the log is whole, and the token holds no orphan.

use std::{fs, os::unix::process::ExitStatusExt as _, path::Path};

use serde_json::Value;
use strongroom::{
    audit::{self, Against},
    failpoint,
};

use crate::dev::{Dev, Start, signal, text};

/// The objects in the token's folder.
pub(crate) fn token_objects(data: &Path) -> usize {
    objects(&data.join("token/tokens"))
}

/// How many objects there are on the tokens in a folder.
pub(crate) fn objects(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).expect("reads").map(|entry| entry.expect("an entry").path());
    let is_object = |path: &Path| path.extension().is_some_and(|extension| extension == "object");
    entries
        .map(|path| {
            if path.is_dir() {
                objects(&path)
            } else {
                usize::from(is_object(&path) && !path.ends_with("token.object"))
            }
        })
        .sum()
}

/// Creates keys until the server dies; those that were acknowledged.
fn create_until_it_dies(dev: &Dev, tag: &str, residency: &str) -> (Vec<String>, Vec<String>) {
    let mut asked = Vec::new();
    let mut acknowledged = Vec::new();
    for n in 0..200 {
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

/// The keys that there are.
fn keys(dev: &Dev) -> Vec<String> {
    let listed: Value = serde_json::from_str(&dev.ok(&["key", "list", "-o", "json"])).expect("JSON");
    let names = listed.as_array().expect("an array").iter().map(|key| key["name"].as_str().expect("a name"));
    names.map(|name| name.rsplit('/').next().expect("a name").to_owned()).collect()
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
    // Checkpoints are made meanwhile: a kill there meets the worker anywhere, also within C_GenerateKeyPair, where
    // SoftHSM leaves files on the token that it does not show itself.
    let meanwhile = |point: &str| {
        matches!(
            point,
            failpoint::AUDIT_AFTER_TILES | failpoint::AUDIT_AFTER_CHECKPOINT | failpoint::AUDIT_BEFORE_INDEX
        )
    };
    let reached = |point: &&str| {
        ![failpoint::ROTATION_AFTER_NOTICE, failpoint::PURGE_BEFORE_REAP, failpoint::BACKUP_BEFORE_RENAME]
            .contains(point)
            && (residency != "token" || !meanwhile(point))
    };
    for point in failpoint::ALL.into_iter().filter(reached) {
        // Past the hits of a start: `dev` itself records that it begins.
        let hit = match point {
            // Once a second, from the beginning.
            failpoint::AUDIT_BEFORE_INDEX => 4,
            // Once a second, and only while there is something to sign.
            _ if meanwhile(point) => 2,
            _ if point.starts_with("service.") => 2,
            _ => 7,
        };
        let armed = format!("{point}=kill@{hit}");
        dev.start(Start { failpoints: &armed, ..Start::default() });
        let tag = point.replace(['.', '_'], "-");
        let (asked, acknowledged) = create_until_it_dies(&dev, &tag, residency);
        assert_eq!(dev.wait_dead().signal(), Some(9), "{point} kills");
        dev.start(Start::default());
        check_after(&mut dev, &asked, &acknowledged);
        all.extend(asked);
        let alive = keys(&dev);
        assert!(alive.iter().all(|name| all.contains(name)), "{alive:?}");
        let alive = alive.len();
        let on_token = if residency == "token" { 2 * alive } else { 0 };
        assert_eq!(token_objects(&dev.data()), of_service + on_token, "after {point}: no orphan on the token");
        dev.stop();
        let log = dev.data().join("audit");
        let verified =
            audit::verify(&log, &Against::default()).unwrap_or_else(|error| panic!("after {point}: {error}"));
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

/// Purges a vault until it is gone: whoever asked and was not answered asks again, and then there may be nothing left.
fn purge(dev: &Dev, vault: &str) {
    for _ in 0..100 {
        if !dev.run(&["vault", "show", vault]).status.success() {
            return;
        }
        dev.run(&["vault", "delete", vault]);
        dev.run(&["vault", "purge", vault]);
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("{vault} is not purged");
}

#[test]
fn a_vault_and_its_kek_come_and_go_together_through_a_kill_at_every_point() {
    let mut dev = Dev::new();
    let of_service = token_objects(&dev.data());
    dev.stop();
    let points = [failpoint::SERVICE_AFTER_GENERATE, failpoint::STORE_BEFORE_COMMIT, failpoint::STORE_AFTER_COMMIT];
    for point in points {
        dev.start(Start { failpoints: &format!("{point}=kill@1"), ..Start::default() });
        dev.run(&["--timeout", "20", "vault", "create", "own", "--own-kek"]);
        assert_eq!(dev.wait_dead().signal(), Some(9), "{point} kills");
        dev.start(Start::default());
        let exists = dev.run(&["vault", "show", "own"]).status.success();
        assert_eq!(token_objects(&dev.data()), of_service + usize::from(exists), "after {point}");
        if !exists {
            dev.ok(&["vault", "create", "own", "--own-kek"]);
        }
        dev.ok(&["--vault", "own", "key", "create", "k", "--type", "EC"]);
        dev.ok(&["vault", "delete", "own"]);
        dev.stop();
        // The first change is the mark, the second takes what is in the vault, the third takes the vault and its KEK.
        let (point, hit) = match point {
            failpoint::SERVICE_AFTER_GENERATE => (failpoint::PURGE_BEFORE_REAP, 2),
            other => (other, 3),
        };
        dev.start(Start { failpoints: &format!("{point}=kill@{hit}"), ..Start::default() });
        dev.run(&["--timeout", "20", "vault", "purge", "own"]);
        assert_eq!(dev.wait_dead().signal(), Some(9), "{point} kills a purge");
        dev.start(Start::default());
        purge(&dev, "own");
        assert_eq!(token_objects(&dev.data()), of_service, "after {point} in a purge");
        dev.stop();
        let verified = audit::verify(&dev.data().join("audit"), &Against::default());
        assert!(verified.unwrap_or_else(|error| panic!("{point}: {error}")).open.is_empty(), "after {point}");
    }
}

/// The names of the tokens in force that stand for that principal.
fn tokens_of(dev: &Dev, principal: &str) -> Vec<String> {
    let listed: Value = serde_json::from_str(&dev.ok(&["token", "list", "-o", "json"])).expect("JSON");
    let of = listed.as_array().expect("an array").iter().filter(|token| token["principal"] == principal);
    of.map(|token| token["name"].as_str().expect("a name").to_owned()).collect()
}

/// Issues a token by a request of that id and writes it there; whether the server answered.
fn issue(dev: &Dev, name: &str, id: &str, out: &Path) -> bool {
    let issue = ["--timeout", "20", "token", "create", name, "--request-id", id, "--out", text(out)];
    dev.run(&issue).status.success()
}

/// Issues tokens until the server is killed. After that each is whole or absent; the same request again comes to one
/// token that is believed.
fn issue_until_it_dies(dev: &mut Dev, tag: &str) {
    let mut asked = Vec::new();
    loop {
        let n = asked.len();
        assert!(n < 200, "{tag}: the fail-point was never reached");
        let (name, id) = (format!("{tag}-{n}"), uuid::Uuid::new_v4().to_string());
        let out = dev.path(&name);
        let acknowledged = issue(dev, &name, &id, &out);
        asked.push((name, id, out, acknowledged));
        if !acknowledged {
            break;
        }
    }
    assert_eq!(dev.wait_dead().signal(), Some(9), "{tag} kills");
    dev.start(Start::default());
    for (name, id, out, acknowledged) in &asked {
        let principal = format!("token:{name}");
        let before = tokens_of(dev, &principal);
        assert!(before.len() <= 1 && (before.len() == 1 || !acknowledged), "{principal}: {before:?}");
        let again = out.with_extension("again");
        assert!(issue(dev, name, id, &again), "{principal} can be asked for again");
        let after = tokens_of(dev, &principal);
        assert!(after.len() == 1 && before.iter().all(|name| after.contains(name)), "{before:?} {after:?}");
        dev.ok(&["access", "grant", "--principal", &principal, "--role", "Key Vault Reader", "--scope", "vaults/dev"]);
        dev.ok(&["vault", "show", "dev", "--token-file", text(&again)]);
        if *acknowledged {
            dev.ok(&["vault", "show", "dev", "--token-file", text(out)]);
        }
    }
    dev.stop();
    let verified = audit::verify(&dev.data().join("audit"), &Against::default())
        .unwrap_or_else(|error| panic!("after {tag}: {error}"));
    assert!(verified.open.is_empty(), "after {tag}: every intent has its outcome");
}

#[test]
fn tokens_survive_a_kill_at_every_point() {
    let mut dev = Dev::new();
    dev.stop();
    let not_reached = [
        failpoint::SERVICE_AFTER_GENERATE,
        failpoint::ROTATION_AFTER_NOTICE,
        failpoint::PURGE_BEFORE_REAP,
        failpoint::BACKUP_BEFORE_RENAME,
    ];
    for point in failpoint::ALL.into_iter().filter(|point| !not_reached.contains(point)) {
        let hit = match point {
            // Once a second, from the beginning.
            failpoint::AUDIT_BEFORE_INDEX => 4,
            // Once a second, and only while there is something to sign.
            failpoint::AUDIT_AFTER_TILES | failpoint::AUDIT_AFTER_CHECKPOINT => 2,
            _ if point.starts_with("service.") => 2,
            _ => 7,
        };
        dev.start(Start { failpoints: &format!("{point}=kill@{hit}"), ..Start::default() });
        issue_until_it_dies(&mut dev, &point.replace(['.', '_'], "-"));
    }
}

#[test]
fn the_key_that_signs_tokens_survives_a_kill_while_it_is_made() {
    for point in [failpoint::STORE_BEFORE_COMMIT, failpoint::STORE_AFTER_COMMIT] {
        let mut dev = Dev::new();
        dev.stop();
        // The first commit that a start has not made itself: that of the key, before the first token's own.
        let starts =
            |hit: &u32| dev.try_start(Start { failpoints: &format!("{point}=kill@{hit}"), ..Start::default() }).is_ok();
        let hit = (1..10).find(starts);
        assert!(hit.is_some(), "it starts");
        issue_until_it_dies(&mut dev, &point.replace(['.', '_'], "-"));
        let records =
            fs::read_dir(dev.data().join("audit/journal")).expect("a folder").map(|entry| entry.expect("one").path());
        let records: String = records.filter_map(|path| fs::read_to_string(path).ok()).collect();
        let made = usize::from(point == failpoint::STORE_BEFORE_COMMIT);
        assert_eq!(records.matches("tokens.makeKey").count(), made, "{point}: one that is there is used");
    }
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

/// Whether a secret is in use, and how many versions it has.
fn secret_state(dev: &Dev) -> Option<(String, usize)> {
    let shown = dev.run(&["secret", "show", "s", "-o", "json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).ok()?;
    let versions: Value = serde_json::from_str(&dev.ok(&["secret", "versions", "s", "-o", "json"])).expect("JSON");
    Some((shown["state"].as_str().expect("a state").to_owned(), versions.as_array().expect("an array").len()))
}

#[test]
fn every_change_of_a_secret_is_whole_or_absent_after_a_kill_at_each_step_of_it() {
    let mut dev = Dev::new();
    let (value, backup) = (dev.file("value", "kept"), dev.path("backup"));
    let (set, purge) = (["secret", "set", "s", "--file", text(&value)], ["secret", "purge", "s"]);
    let restore = ["secret", "restore", text(&backup), "--older"];
    let (update, delete) = (["secret", "update", "s", "--content-type", "a/b"], ["secret", "delete", "s"]);
    dev.ok(&set);
    dev.ok(&["secret", "backup", "s", "--out", text(&backup)]);
    dev.ok(&delete);
    dev.ok(&purge);
    let steps = [
        failpoint::SERVICE_AFTER_INTENT,
        failpoint::STORE_BEFORE_COMMIT,
        failpoint::STORE_AFTER_COMMIT,
        failpoint::SERVICE_BEFORE_OUTCOME,
    ];
    // Each is what the one before makes possible; what a kill has left undone is done again.
    let changes: [&[&str]; 8] = [&set, &set, &update, &delete, &["secret", "recover", "s"], &delete, &purge, &restore];
    for change in changes {
        for step in steps {
            let before = secret_state(&dev);
            dev.stop();
            dev.start(Start { failpoints: &format!("{step}=kill@1"), ..Start::default() });
            let output = dev.run(&[&["--timeout", "2"], change].concat());
            assert!(!output.status.success(), "{change:?} at {step}");
            assert_eq!(dev.wait_dead().signal(), Some(9), "{change:?}: {step} kills");
            dev.start(Start::default());
            let after = secret_state(&dev);
            let is_made = [failpoint::STORE_AFTER_COMMIT, failpoint::SERVICE_BEFORE_OUTCOME].contains(&step);
            let says_so = change[1] == "update" || is_made == (before != after);
            assert!(says_so, "{change:?} at {step}: {before:?} and then {after:?}");
            let log = dev.ok(&["audit", "list", "--operation", "secrets.set", "-o", "json"]);
            assert!(!log.contains("kept"), "no value");
            if is_made {
                undo(&dev, change, text(&value));
            }
        }
        dev.ok(change);
    }
    assert_eq!(dev.ok(&["secret", "value", "s"]), "kept");
    dev.stop();
    let verified = audit::verify(&dev.data().join("audit"), &Against::default()).expect("the log is whole");
    assert!(verified.open.is_empty(), "every intent has its outcome");
}

/// Makes what a change has made possible again.
fn undo(dev: &Dev, change: &[&str], value: &str) {
    let run = |words: &[&str]| drop(dev.ok(&[&["secret"], words].concat()));
    match change[1] {
        "delete" => run(&["recover", "s"]),
        "recover" => run(&["delete", "s"]),
        "purge" => {
            run(&["set", "s", "--file", value]);
            run(&["delete", "s"]);
        }
        "restore" => {
            run(&["delete", "s"]);
            run(&["purge", "s"]);
        }
        _ => {}
    }
}
