//! The fail-points of a rotation and of a purge on PostgreSQL: a replica is killed at each of them.

use std::{
    os::unix::process::ExitStatusExt as _,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use strongroom::failpoint;

use super::cluster::Cluster;
use crate::{dev::text, rotation::files_below};

/// When the versions of a key were made, oldest first, in seconds.
fn versions(cluster: &Cluster, key: &str) -> Vec<i64> {
    let listed: Value = serde_json::from_str(&cluster.ok(0, &["key", "versions", key, "-o", "json"])).expect("JSON");
    let time = |version: &Value| {
        let text = version["change"]["createTime"].as_str().expect("a time");
        text.parse::<jiff::Timestamp>().expect("RFC 3339").as_second()
    };
    let mut times: Vec<i64> = listed.as_array().expect("versions").iter().map(time).collect();
    times.sort_unstable();
    times
}

fn signs(cluster: &Cluster, replica: usize, key: &str) {
    let (input, output) = (cluster.site.path("strongroom.toml"), cluster.site.path("sig"));
    cluster.ok(replica, &["key", "sign", key, "--algorithm", "ES256", "--in", text(&input), "--out", text(&output)]);
}

#[test]
fn a_replica_killed_at_any_point_of_a_rotation_leaves_one_version_for_each_time() {
    let Some(mut cluster) = Cluster::start() else { return };
    let points = [
        failpoint::SERVICE_AFTER_INTENT,
        failpoint::SERVICE_AFTER_GENERATE,
        failpoint::STORE_BEFORE_COMMIT,
        failpoint::STORE_AFTER_COMMIT,
        failpoint::SERVICE_BEFORE_OUTCOME,
    ];
    let keys: Vec<String> = (0..points.len() * 2 + 2).map(|n| format!("k{n}")).collect();
    for (n, key) in keys.iter().enumerate() {
        let residency = if n % 2 == 0 { "wrapped" } else { "token" };
        cluster.ok(n % 3, &["key", "create", key, "--type", "EC", "--residency", residency]);
    }
    for (n, key) in keys.iter().enumerate() {
        cluster.ok(n % 3, &["key", "rotation-policy", "set", key, "--rotate-after", "PT1M"]);
    }
    let made = Instant::now();
    (0..3).for_each(|n| cluster.stop(n));
    // All are due from then on.
    thread::sleep(Duration::from_secs(65).saturating_sub(made.elapsed()));
    for (n, point) in points.into_iter().enumerate() {
        let ended = cluster.start_armed(n % 3, &format!("{point}=kill@1")).wait().expect("waits");
        assert_eq!(ended.signal(), Some(9), "{point} kills");
    }
    (0..3).for_each(|n| cluster.serve(n));
    let begun = Instant::now();
    while !keys.iter().all(|key| versions(&cluster, key).len() >= 2) {
        assert!(begun.elapsed() < Duration::from_secs(120), "they do not rotate");
        thread::sleep(Duration::from_millis(500));
    }
    for (n, key) in keys.iter().enumerate() {
        // However long it took: none is made before its time has come again.
        let made = versions(&cluster, key);
        assert!(made.windows(2).all(|pair| pair[1] - pair[0] >= 60), "{key}: {made:?}");
        signs(&cluster, n % 3, key);
    }
    cluster.end_whole();
}

#[test]
fn a_replica_killed_at_any_point_of_a_purge_leaves_a_key_whole_or_gone() {
    let Some(mut cluster) = Cluster::start() else { return };
    let points = [
        failpoint::SERVICE_AFTER_INTENT,
        failpoint::STORE_BEFORE_COMMIT,
        failpoint::STORE_AFTER_COMMIT,
        failpoint::PURGE_BEFORE_REAP,
        failpoint::SERVICE_BEFORE_OUTCOME,
    ];
    for n in 0..points.len() {
        let key = format!("k{n}");
        cluster.ok(0, &["key", "create", &key, "--type", "EC", "--residency", "token"]);
        cluster.ok(1, &["key", "delete", &key]);
    }
    cluster.ok(2, &["key", "create", "stays", "--type", "EC", "--residency", "token"]);
    let tokens = cluster.site.path("tokens");
    let objects = || files_below(&tokens).iter().filter(|name| name.ends_with(".object")).count();
    let before = objects();
    cluster.stop(0);
    for (n, point) in points.into_iter().enumerate() {
        let key = format!("k{n}");
        let mut armed = cluster.start_armed(0, &format!("{point}=kill@1"));
        cluster.wait_for(0, &mut armed);
        assert!(!cluster.run(0, &["key", "purge", &key]).status.success(), "{point}");
        assert_eq!(armed.wait().expect("waits").signal(), Some(9), "{point} kills");
        // What was not committed is whole, and whoever is left purges it; what was is gone.
        let is_there = cluster.run(1, &["key", "show", &key]).status.success();
        assert_eq!(is_there, n < 2, "{point}");
        if is_there {
            cluster.ok(1, &["key", "purge", &key]);
        }
    }
    cluster.serve(0);
    // A public and a private object of each.
    assert_eq!(before - objects(), points.len() * 2, "no object is left of what is gone");
    signs(&cluster, 0, "stays");
    cluster.end_whole();
}
