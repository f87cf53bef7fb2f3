//! A standby of the database that takes its primary's place.

use std::time::{Duration, Instant};

use tonic::transport::Channel;

use super::{
    cluster::{Cluster, signs},
    recording::Recording,
};
use crate::postgres::Server;

/// A primary and a standby that follows it; `synchronous`: a commit waits for the standby.
fn pair(synchronous: bool) -> Option<(Server, Server)> {
    let primary = Server::new()?;
    let standby = primary.standby("one");
    if synchronous {
        primary.sql("ALTER SYSTEM SET synchronous_standby_names = 'one'");
        primary.sql("SELECT pg_reload_conf()");
    }
    Some((primary, standby))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_have_one_order_while_a_standby_takes_over() {
    let Some((primary, standby)) = pair(true) else { return };
    let mut cluster = Cluster::on(primary, &[&standby]);
    let channels: Vec<Channel> = (0..3).map(|n| cluster.channel(n)).collect();
    let recording = Recording::begin(&cluster, &channels);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    cluster.postgres.crash();
    // Nobody takes changes for a while.
    tokio::time::sleep(Duration::from_millis(800)).await;
    standby.promote();
    recording.end(&channels).await;
    cluster.ok(1, &["key", "create", "after", "--type", "EC"]);
    assert_eq!(signs(&channels[2], "vaults/main/keys/after").await, Ok(()));
    cluster.end_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_was_behind_is_refused_when_it_takes_over() {
    let Some((primary, mut standby)) = pair(false) else { return };
    let mut cluster = Cluster::on(primary, &[&standby]);
    cluster.ok(0, &["key", "create", "early", "--type", "EC"]);
    while standby.sql("SELECT count(*) FROM strongroom.keys") != "1" {
        std::thread::sleep(Duration::from_millis(20));
    }
    // What is acknowledged now the standby never hears of.
    standby.stop();
    cluster.ok(0, &["key", "create", "late", "--type", "EC"]);
    cluster.ok(0, &["key", "update", "early", "--disable"]);
    cluster.postgres.crash();
    standby.start();
    standby.promote();
    // It is not the newest state, and those who knew that one say so, whether they were there all the while or begin anew.
    let channel = cluster.channel(0);
    for round in 0..2 {
        let begun = Instant::now();
        loop {
            match signs(&channel, "vaults/main/keys/early").await {
                Ok(()) => panic!("a disabled key signs, in round {round}"),
                Err(why) if why == "DataLoss TAMPERED" => break,
                Err(why) => assert!(begun.elapsed() < Duration::from_secs(60), "{why}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let created = cluster.run(0, &["key", "create", "more", "--type", "EC"]);
        let said = String::from_utf8_lossy(&created.stderr);
        assert!(said.contains("an older state put back"), "{said}");
        if round == 0 {
            cluster.kill(0);
            cluster.serve(0);
        }
    }
}
