//! The service's own keys rotate on one replica, and all of them go over.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
};

use serde_json::Value;

use super::cluster::Cluster;
use crate::dev::{PROGRAM, text};

/// What each replica answers to who has that token.
fn answers(cluster: &Cluster, token: &Path) -> [bool; 3] {
    [0, 1, 2].map(|replica| {
        let output = Command::new(PROGRAM)
            .args(["vault", "show", "main", "--token-file", text(token)])
            .env("STRONGROOM_ENDPOINT", &cluster.replicas[replica].endpoint)
            .env("STRONGROOM_CA", cluster.site.path("tls/clients.pem"))
            .output()
            .expect("runs");
        output.status.success()
    })
}

fn issue(cluster: &Cluster, replica: usize, name: &str) -> PathBuf {
    let token = cluster.site.path(name);
    cluster.ok(replica, &["token", "create", "ci", "--out", text(&token)]);
    token
}

fn issuer_keys(cluster: &Cluster, replica: usize) -> Vec<Value> {
    let shown: Value = serde_json::from_str(&cluster.ok(replica, &["own-keys", "show", "-o", "json"])).expect("JSON");
    shown["issuerKeys"].as_array().expect("an array").clone()
}

#[test]
fn the_issuers_key_that_one_rotates_signs_and_is_believed_on_all() {
    let Some(cluster) = Cluster::start() else { return };
    cluster
        .ok(0, &["access", "grant", "--principal", "token:ci", "--role", "Key Vault Reader", "--scope", "vaults/main"]);
    let mut tokens = vec![issue(&cluster, 0, "first")];
    for round in 0..3 {
        cluster.ok(round, &["own-keys", "rotate-issuer"]);
        tokens.push(issue(&cluster, (round + 1) % 3, &format!("t{round}")));
        for token in &tokens {
            assert_eq!(answers(&cluster, token), [true; 3], "round {round}");
        }
        let shown = [0, 1, 2].map(|replica| issuer_keys(&cluster, replica));
        assert!(shown.iter().all(|keys| *keys == shown[0] && keys.len() == round + 2));
    }
    cluster.ok(1, &["own-keys", "rotate-issuer", "--revoke"]);
    for token in &tokens {
        assert_eq!(answers(&cluster, token), [false; 3]);
    }
    assert_eq!(answers(&cluster, &issue(&cluster, 2, "after")), [true; 3]);
}

#[test]
fn keys_are_made_on_all_while_one_rotates_their_vaults_kek() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.ok(0, &["vault", "create", "own", "--own-kek"]);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for replica in [1, 2] {
            let (cluster, done) = (&cluster, &done);
            scope.spawn(move || {
                let mut n = 0;
                while !done.load(Ordering::Acquire) {
                    let name = format!("k{replica}-{n}");
                    cluster.ok(replica, &["--vault", "own", "key", "create", &name, "--type", "oct", "--size", "256"]);
                    n += 1;
                }
            });
        }
        for _ in 0..4 {
            cluster.ok(0, &["vault", "rotate-kek", "own"]);
        }
        done.store(true, Ordering::Release);
    });
    for replica in 0..3 {
        let shown = cluster.ok(replica, &["vault", "show", "own", "-o", "json"]);
        let shown: Value = serde_json::from_str(&shown).expect("JSON");
        assert_eq!(shown["retiredKekIds"].as_array().map(Vec::len), Some(4));
    }
}

/// What `audit key` says of a replica's log out of the store.
fn log_key(cluster: &Cluster, replica: usize) -> Value {
    serde_json::from_str(&cluster.operator(replica, &["audit", "key", "-o", "json"])).expect("JSON")
}

#[test]
fn the_logs_of_all_go_over_to_the_log_key_that_one_makes() {
    let Some(mut cluster) = Cluster::start() else { return };
    let first = [0, 1, 2].map(|replica| log_key(&cluster, replica)["key"].as_str().expect("a key").to_owned());
    for round in 0..2 {
        if round == 1 {
            // One that is away meanwhile is not waited for.
            cluster.kill(2);
            std::thread::sleep(std::time::Duration::from_secs(16));
        }
        cluster.ok(0, &["own-keys", "rotate-log"]);
        let begun = std::time::Instant::now();
        loop {
            let shown: Value = serde_json::from_str(&cluster.ok(1, &["own-keys", "show", "-o", "json"])).expect("JSON");
            let Some(rotation) = shown.get("logKeyRotation") else { break };
            assert!(begun.elapsed().as_secs() < 60, "{rotation}");
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
    }
    cluster.serve(2);
    for replica in 0..3 {
        cluster.ok(replica, &["--vault", "main", "key", "create", &format!("k{replica}"), "--type", "EC"]);
    }
    cluster.end_whole();
    for (replica, key) in first.iter().enumerate().take(2) {
        let verified = cluster.verify_by(replica, key);
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    }
    // Its old key was gone before it could name the next one: the sealed store does.
    assert!(!cluster.verify_by(2, &first[2]).status.success());
}
