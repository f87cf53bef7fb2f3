//! Keys that rotate by themselves, by the wall clock: the shortest policy is one minute.

use std::{
    os::unix::process::ExitStatusExt as _,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use strongroom::failpoint;

use crate::dev::{Dev, Start};

/// A minute, and what is waited at most beside it.
const LATE: Duration = Duration::from_secs(60 + 90);

fn versions(dev: &Dev, key: &str) -> usize {
    let listed: Value = serde_json::from_str(&dev.ok(&["key", "versions", key, "-o", "json"])).expect("JSON");
    listed.as_array().expect("versions").len()
}

fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LATE, "{what}");
        thread::sleep(Duration::from_millis(500));
    }
}

#[test]
fn a_key_with_a_policy_rotates_and_says_when() {
    let dev = Dev::new();
    dev.ok(&["key", "create", "k", "--type", "EC"]);
    let refused =
        dev.fails(&["key", "rotation-policy", "set", "k", "--rotate-before-expiry", "P30D", "--expiry", "P1D"]);
    assert!(refused.contains("lifetime_actions[0]"), "{refused}");
    let unsaid = dev.fails(&["key", "rotation-policy", "set", "k"]);
    assert!(unsaid.contains("rotation-policy clear"), "{unsaid}");
    let set = ["key", "rotation-policy", "set", "k", "--rotate-after", "PT1M", "--expiry", "P1Y", "-o", "json"];
    let set: Value = serde_json::from_str(&dev.ok(&set)).expect("JSON");
    assert_eq!(set["lifetimeActions"][0]["timeAfterCreate"], "PT1M");
    assert!(dev.ok(&["key", "rotation-policy", "show", "k"]).contains("rotate PT1M after creation"));
    let status: Value = serde_json::from_str(&dev.ok(&["rotation", "status", "-o", "json"])).expect("JSON");
    assert_eq!((&status[0]["steps"][0]["work"], &status[0]["failures"]), (&"rotate".into(), &0.into()));
    let forecast: Value =
        serde_json::from_str(&dev.ok(&["rotation", "forecast", "--until", "PT5M30S", "-o", "json"])).expect("JSON");
    let steps = forecast[0]["steps"].as_array().expect("steps").len();
    assert!((4..=6).contains(&steps), "{forecast}");
    wait_for("it does not rotate", || versions(&dev, "k") == 2);
    let shown: Value = serde_json::from_str(&dev.ok(&["key", "show", "k", "-o", "json"])).expect("JSON");
    assert!(shown["version"]["expireTime"].is_string(), "{shown}");
    dev.ok(&["key", "rotation-policy", "clear", "k"]);
    assert!(dev.ok(&["key", "rotation-policy", "show", "k"]).contains("nothing happens to it by itself"));
    // The index follows the log.
    let recorded = || dev.ok(&["audit", "list", "--operation", "keys.rotate", "-o", "json"]);
    wait_for("it is not recorded", || recorded().contains("strongroom:rotation"));
}

#[test]
#[ignore = "takes six minutes: cargo test --test it rotation::keys_of_one_minute -- --ignored"]
fn keys_of_one_minute_rotate_every_minute_for_five() {
    let dev = Dev::new();
    let keys: Vec<String> = (0..6).map(|n| format!("k{n}")).collect();
    for key in &keys {
        dev.ok(&["key", "create", key, "--type", "EC"]);
        dev.ok(&["key", "rotation-policy", "set", key, "--rotate-after", "PT1M"]);
    }
    thread::sleep(Duration::from_secs(5 * 60 + 30));
    for key in &keys {
        let listed: Value = serde_json::from_str(&dev.ok(&["key", "versions", key, "-o", "json"])).expect("JSON");
        let time = |version: &Value| {
            let text = version["change"]["createTime"].as_str().expect("a time");
            text.parse::<jiff::Timestamp>().expect("RFC 3339").as_second()
        };
        let mut times: Vec<i64> = listed.as_array().expect("versions").iter().map(time).collect();
        times.sort_unstable();
        assert!((5..=6).contains(&times.len()), "{key}: {listed}");
        for pair in times.windows(2) {
            // A minute, its jitter, and a second until somebody looks.
            assert!((60..=75).contains(&(pair[1] - pair[0])), "{key}: {times:?}");
        }
    }
}

#[test]
fn a_kill_at_any_point_of_a_rotation_leaves_one_version_for_each_time() {
    let mut dev = Dev::new();
    // One that is killed after its commit has rotated its key: there is one for each kill, and more.
    let points = [
        failpoint::SERVICE_AFTER_INTENT,
        failpoint::SERVICE_AFTER_GENERATE,
        failpoint::STORE_BEFORE_COMMIT,
        failpoint::STORE_AFTER_COMMIT,
        failpoint::SERVICE_BEFORE_OUTCOME,
    ];
    let keys: Vec<String> = (0..points.len() * 2 + 4).map(|n| format!("k{n}")).collect();
    for (n, key) in keys.iter().enumerate() {
        let residency = if n % 2 == 0 { "wrapped" } else { "token" };
        dev.ok(&["key", "create", key, "--type", "EC", "--residency", residency]);
    }
    for key in &keys {
        dev.ok(&["key", "rotation-policy", "set", key, "--rotate-after", "PT2M"]);
    }
    let made = Instant::now();
    dev.stop();
    // All are due from then on, and none is due again before the last look.
    thread::sleep(Duration::from_secs(130).saturating_sub(made.elapsed()));
    for point in points {
        dev.start(Start { failpoints: &format!("{point}=kill@1"), ..Start::default() });
        assert_eq!(dev.wait_dead().signal(), Some(9), "{point} kills");
    }
    dev.start(Start::default());
    wait_for("they do not rotate", || keys.iter().all(|key| versions(&dev, key) >= 2));
    for key in &keys {
        assert_eq!(versions(&dev, key), 2, "{key}");
    }
    let text = dev.file("text", "text");
    for key in &keys {
        let (sig, input) = (dev.path("sig"), crate::dev::text(&text).to_owned());
        dev.ok(&["key", "sign", key, "--algorithm", "ES256", "--in", &input, "--out", crate::dev::text(&sig)]);
    }
    dev.stop();
    let log = strongroom::audit::verify(&dev.data().join("audit"), &strongroom::audit::Against::default());
    assert!(log.expect("whole").open.is_empty(), "every intent has its outcome");
}

#[test]
fn a_kill_at_any_point_of_a_purge_leaves_a_key_whole_or_gone() {
    let mut dev = Dev::new();
    let points = [
        failpoint::SERVICE_AFTER_INTENT,
        failpoint::STORE_BEFORE_COMMIT,
        failpoint::STORE_AFTER_COMMIT,
        failpoint::PURGE_BEFORE_REAP,
        failpoint::SERVICE_BEFORE_OUTCOME,
    ];
    for (n, _) in points.iter().enumerate() {
        let key = format!("k{n}");
        dev.ok(&["key", "create", &key, "--type", "EC", "--residency", "token"]);
        dev.ok(&["key", "rotate", &key]);
        dev.ok(&["key", "delete", &key]);
    }
    dev.ok(&["key", "create", "stays", "--type", "EC", "--residency", "token"]);
    let tokens = dev.data().join("token/tokens");
    let objects = || {
        let files = files_below(&tokens);
        files.iter().filter(|name| name.ends_with(".object")).count()
    };
    let before = objects();
    dev.stop();
    for (n, point) in points.into_iter().enumerate() {
        let key = format!("k{n}");
        dev.start(Start { failpoints: &format!("{point}=kill@1"), ..Start::default() });
        assert!(!dev.run(&["key", "purge", &key]).status.success(), "{point}");
        assert_eq!(dev.wait_dead().signal(), Some(9), "{point} kills");
        dev.start(Start::default());
        // What was not committed is there, whole, and can be purged; what was is gone with its objects.
        let is_there = dev.run(&["key", "show", &key]).status.success();
        assert_eq!(is_there, n < 2, "{point}");
        if is_there {
            dev.ok(&["key", "recover", &key]);
            let (text, sig) = (dev.file("text", "text"), dev.path("sig"));
            let (text, sig) = (crate::dev::text(&text), crate::dev::text(&sig));
            dev.ok(&["key", "sign", &key, "--algorithm", "ES256", "--in", text, "--out", sig]);
            dev.ok(&["key", "delete", &key]);
            dev.ok(&["key", "purge", &key]);
        }
        dev.stop();
    }
    // Two versions of each, a public and a private object of each version.
    assert_eq!(before - objects(), 5 * 4, "no object is left of what is gone");
    dev.start(Start::default());
    let (text, sig) = (dev.file("text", "text"), dev.path("sig"));
    let (text, sig) = (crate::dev::text(&text), crate::dev::text(&sig));
    dev.ok(&["key", "sign", "stays", "--algorithm", "ES256", "--in", text, "--out", sig]);
    dev.stop();
    let log = strongroom::audit::verify(&dev.data().join("audit"), &strongroom::audit::Against::default());
    assert!(log.expect("whole").open.is_empty(), "every intent has its outcome");
}

/// The names of all files below a folder.
pub(crate) fn files_below(folder: &std::path::Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            names.extend(files_below(&entry.path()));
        } else {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names
}
