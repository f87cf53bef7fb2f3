//! Three replicas on one PostgreSQL and one token, each with an address, a wire to the database and an audit log of its
//! own: what they promise while one of them is killed, cut off, or the database goes and comes back.

mod cluster;
mod earlier;
mod figures;
mod kills;
mod own_keys;
mod recording;
mod standby;
mod upgrade;

use std::{
    fs,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;
use strongroom_proto::v1::{CreateKeyRequest, KeyVersion, UpdateKeyVersionRequest, keys_client::KeysClient};
use tonic::{Request, transport::Channel};

use crate::{
    dev::{PROGRAM, text},
    rpc::ec,
};

use cluster::{BOUND, Cluster, NAMES, SLACK, signs, within};
use recording::Recording;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_changes_is_in_force_on_all_when_it_is_answered() {
    let Some(mut cluster) = Cluster::start() else { return };
    let channels: Vec<Channel> = (0..3).map(|n| cluster.channel(n)).collect();
    for round in 0..3 {
        let key = format!("k{round}");
        cluster.ok(round, &["key", "create", &key, "--type", "EC"]);
        let name = format!("vaults/main/keys/{key}");
        for channel in &channels {
            assert_eq!(signs(channel, &name).await, Ok(()));
        }
        cluster.ok(round, &["key", "update", &key, "--disable"]);
        for channel in &channels {
            assert_eq!(signs(channel, &name).await, Err("FailedPrecondition KEY_DISABLED".to_owned()));
        }
        cluster.ok((round + 1) % 3, &["key", "update", &key, "--enable"]);
        for channel in &channels {
            assert_eq!(signs(channel, &name).await, Ok(()));
        }
    }
    // A key that moves: its old name serves nobody any more.
    cluster.ok(0, &["vault", "create", "other"]);
    for round in 0..3 {
        let key = format!("moves{round}");
        let (old, new) = (format!("vaults/main/keys/{key}"), format!("vaults/other/keys/{key}"));
        cluster.ok(round, &["key", "create", &key, "--type", "EC"]);
        for channel in &channels {
            assert_eq!(signs(channel, &old).await, Ok(()));
        }
        cluster.ok((round + 1) % 3, &["key", "move", &key, "--to-vault", "other"]);
        for channel in &channels {
            assert_eq!(signs(channel, &old).await, Err("NotFound NOT_FOUND".to_owned()));
            assert_eq!(signs(channel, &new).await, Ok(()));
        }
    }
    // A role, and a token that has it: given on one, used on another, taken on the third.
    cluster.ok(
        0,
        &["access", "grant", "--principal", "token:ci", "--role", "Key Vault Crypto Officer", "--scope", "vaults/main"],
    );
    let token = cluster.site.path("token");
    cluster.ok(0, &["token", "create", "ci", "--out", text(&token)]);
    let as_ci = |replica: usize| {
        let output = Command::new(PROGRAM)
            .args(["key", "show", "k0", "-o", "json", "--token-file", text(&token)])
            .env("STRONGROOM_ENDPOINT", &cluster.replicas[replica].endpoint)
            .env("STRONGROOM_CA", cluster.site.path("tls/clients.pem"))
            .env("STRONGROOM_VAULT", "main")
            .output()
            .expect("runs");
        let error: Value = serde_json::from_slice(&output.stderr).unwrap_or_default();
        if output.status.success() { "OK".to_owned() } else { error["code"].as_str().unwrap_or_default().to_owned() }
    };
    assert_eq!([as_ci(1), as_ci(2)], ["OK", "OK"]);
    let tokens: Value = serde_json::from_str(&cluster.ok(1, &["token", "list", "-o", "json"])).expect("JSON");
    let id = tokens[0]["name"].as_str().expect("a name").trim_start_matches("tokens/").to_owned();
    cluster.ok(2, &["token", "revoke", &id]);
    assert_eq!([as_ci(0), as_ci(1)], ["UNAUTHENTICATED", "UNAUTHENTICATED"]);

    // Who is killed is silent, and its log a gap; who is stopped is closed; who comes back is whole.
    cluster.kill(2);
    cluster.stop(1);
    assert_eq!(cluster.status(0, 1)["state"], "REPLICA_STATE_CLOSED");
    let begun = Instant::now();
    while cluster.status(0, 2)["state"] != "REPLICA_STATE_SILENT" {
        assert!(begun.elapsed() < Duration::from_secs(30), "nobody misses it");
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(cluster.ok(0, &["cluster", "status"]).contains("then a gap"));
    for replica in [1, 2] {
        cluster.serve(replica);
        assert_eq!(cluster.status(0, replica)["state"], "REPLICA_STATE_SERVING");
        cluster.stop(replica);
    }
    // Who writes the database cannot say how long a log was.
    cluster.postgres.sql("UPDATE strongroom.replicas SET log_size = log_size - 1 WHERE name = 'b'");
    assert!(cluster.status(0, 1)["trouble"].as_str().expect("a text").contains("does not match its seal"));
    cluster.postgres.sql("UPDATE strongroom.replicas SET log_size = log_size + 1 WHERE name = 'b'");
    for replica in [1, 2] {
        assert!(cluster.operator(replica, &["audit", "verify"]).contains("records"));
    }
    // A log that was lost is not begun anew under the same name.
    fs::remove_dir_all(cluster.site.path("audit-c")).expect("removes");
    let output =
        Command::new(PROGRAM).args(["serve", "--config"]).arg(&cluster.replicas[2].config).output().expect("runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("give the replica another name"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_one_vault_on_all_replicas_are_all_made_and_a_repeated_one_once() {
    let Some(cluster) = Cluster::start() else { return };
    let channels: Vec<Channel> = (0..3).map(|n| cluster.channel(n)).collect();
    let make = |channel: Channel, key: String, id: String| async move {
        let request = CreateKeyRequest { parent: "vaults/main".to_owned(), request_id: id, ..ec(&key) };
        KeysClient::new(channel).create_key(within(request, 30)).await
    };
    // All change one scope, and meet at its head.
    let all = (0..36).map(|n| make(channels[n % 3].clone(), format!("k{n}"), String::new()));
    for made in futures_util::future::join_all(all).await {
        made.expect("made");
    }
    // One request, sent to all at once: one change, one answer.
    let id = "2b7e1516-28ae-4d2a-8bf7-158809cf4f3c";
    let same = channels.iter().map(|channel| make(channel.clone(), "once".to_owned(), id.to_owned()));
    let mut versions: Vec<String> = Vec::new();
    for made in futures_util::future::join_all(same).await {
        versions.push(made.expect("answered").into_inner().version.expect("the newest").name);
    }
    versions.dedup();
    assert_eq!(versions.len(), 1, "{versions:?}");
    let listed: Value = serde_json::from_str(&cluster.ok(1, &["key", "list", "-o", "json"])).expect("JSON");
    assert_eq!(listed.as_array().expect("keys").len(), 37);
    let versions: Value =
        serde_json::from_str(&cluster.ok(2, &["key", "versions", "once", "-o", "json"])).expect("JSON");
    assert_eq!(versions.as_array().expect("versions").len(), 1);
}

/// Signs again and again; the beginnings of those that were answered.
fn sign_all_the_time(
    channel: Channel,
    key: &str,
    until: Arc<AtomicBool>,
) -> tokio::task::JoinHandle<(Vec<Instant>, Vec<String>)> {
    let key = key.to_owned();
    tokio::spawn(async move {
        let (mut signed, mut refused) = (Vec::new(), Vec::new());
        while !until.load(Ordering::Acquire) {
            let begun = Instant::now();
            match signs(&channel, &key).await {
                Ok(()) => signed.push(begun),
                Err(why) => refused.push(why),
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        (signed, refused)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_cut_off_stops_by_itself_at_the_bound() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.ok(0, &["vault", "create", "patient", "--max-staleness", "12"]);
    for vault in ["main", "patient"] {
        cluster.ok(0, &["--vault", vault, "key", "create", "k", "--type", "EC"]);
    }
    let (channel, end) = (cluster.channel(1), Arc::new(AtomicBool::new(false)));
    let [strict, patient] = ["main", "patient"].map(|vault| format!("vaults/{vault}/keys/k"));
    for key in [&strict, &patient] {
        assert_eq!(signs(&channel, key).await, Ok(()), "in memory before the wire is cut");
    }
    let strict_work = sign_all_the_time(channel.clone(), &strict, Arc::clone(&end));
    let patient_work = sign_all_the_time(channel.clone(), &patient, Arc::clone(&end));
    tokio::time::sleep(Duration::from_millis(300)).await;
    cluster.replicas[1].wire.cut();
    let cut = Instant::now();
    // A caller who does not wait so long hears from when on it holds.
    let mut keys = KeysClient::new(cluster.channel(0));
    let change = |enabled: bool| UpdateKeyVersionRequest {
        version: Some(KeyVersion { name: strict.clone(), enabled: Some(enabled), ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["enabled".to_owned()] }),
        ..Default::default()
    };
    let mut hurried = Request::new(change(false));
    hurried.set_timeout(Duration::from_secs(5));
    let answer = keys.update_key_version(hurried).await.expect("made");
    assert!(answer.metadata().contains_key("strongroom-in-force-from"), "{:?}", answer.metadata());
    // One who waits is answered when it holds: at the longest bound of any vault.
    keys.update_key_version(within(change(true), 90)).await.expect("made");
    keys.update_key_version(within(change(false), 90)).await.expect("made");
    let disabled = Instant::now();
    tokio::time::sleep(Duration::from_millis(500)).await;
    end.store(true, Ordering::Release);
    let (signed, refused) = strict_work.await.expect("ends");
    let last = *signed.last().expect("signed before");
    assert!(last < cut + BOUND + SLACK, "served {:?} after the cut", last - cut);
    assert!(signed.iter().all(|begun| *begun < disabled), "served after the answer");
    assert!(refused.iter().any(|why| why == "Unavailable BEHIND"), "{:?}", refused.last());
    let (signed, _) = patient_work.await.expect("ends");
    let last = *signed.last().expect("signed before");
    assert!(last > cut + BOUND * 6, "the patient vault lived for {:?}", last - cut);
    cluster.replicas[1].wire.mend();
    let begun = Instant::now();
    while signs(&channel, &patient).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not hear again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(signs(&channel, &strict).await, Err("FailedPrecondition KEY_DISABLED".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_have_one_order_while_replicas_and_database_fall() {
    let Some(mut cluster) = Cluster::start() else { return };
    let channels: Vec<Channel> = (0..3).map(|n| cluster.channel(n)).collect();
    let recording = Recording::begin(&cluster, &channels);
    let pause = |millis| tokio::time::sleep(Duration::from_millis(millis));
    pause(700).await;
    cluster.kill(2);
    pause(700).await;
    cluster.postgres.crash();
    cluster.postgres.start();
    pause(700).await;
    cluster.replicas[1].wire.cut();
    pause(1500).await;
    cluster.replicas[1].wire.mend();
    cluster.serve(2);
    recording.end(&channels).await;
    cluster.end_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_rotate_once_whoever_is_killed() {
    let Some(mut cluster) = Cluster::start() else { return };
    let keys: Vec<String> = (0..12).map(|n| format!("k{n}")).collect();
    for (n, key) in keys.iter().enumerate() {
        cluster.ok(n % 3, &["key", "create", key, "--type", "EC"]);
        cluster.ok(n % 3, &["key", "rotation-policy", "set", key, "--rotate-after", "PT1M"]);
    }
    let versions = |cluster: &Cluster, key: &str| {
        let listed: Value =
            serde_json::from_str(&cluster.ok(0, &["key", "versions", key, "-o", "json"])).expect("JSON");
        listed.as_array().expect("versions").len()
    };
    let begun = Instant::now();
    let rotated = |cluster: &Cluster| keys.iter().filter(|key| versions(cluster, key) > 1).count();
    while rotated(&cluster) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(240), "none rotates");
        std::thread::sleep(Duration::from_millis(200));
    }
    // In the midst of it the others are killed, or all but the one that does it.
    cluster.kill(1);
    cluster.kill(2);
    while rotated(&cluster) < keys.len() {
        assert!(begun.elapsed() < Duration::from_secs(360), "not all rotate");
        std::thread::sleep(Duration::from_millis(500));
    }
    for key in &keys {
        assert_eq!(versions(&cluster, key), 2, "{key}");
    }
    cluster.serve(1);
    cluster.serve(2);
    cluster.end_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scheduled_work_is_done_once_and_passes_on() {
    let Some(mut cluster) = Cluster::start() else { return };
    let lease = |cluster: &Cluster, asked: usize| {
        let status: Value =
            serde_json::from_str(&cluster.ok(asked, &["cluster", "status", "-o", "json"])).expect("JSON");
        let lease = status["leases"].as_array().expect("leases").iter().find(|lease| lease["work"] == "tidy").cloned();
        lease.map(|lease| {
            let holder = lease["replica"].as_str().expect("a name").trim_start_matches("replicas/").to_owned();
            (holder, lease["token"].as_str().expect("a number").parse::<u64>().expect("a number"))
        })
    };
    let begun = Instant::now();
    let (holder, token) = loop {
        if let Some(found) = lease(&cluster, 0) {
            break found;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "nobody tidies up");
        std::thread::sleep(Duration::from_millis(100));
    };
    let killed = NAMES.iter().position(|name| *name == holder).expect("is one");
    let asked = (killed + 1) % 3;
    cluster.kill(killed);
    let begun = Instant::now();
    loop {
        match lease(&cluster, asked) {
            Some((next, later)) if next != holder => {
                assert_eq!(later, token + 1);
                break;
            }
            _ => assert!(begun.elapsed() < Duration::from_secs(60), "nobody takes it over"),
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
