//! Replicas that are replaced one after the other, while a newer release's schema comes, and nobody notices.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use strongroom_client::{Algorithm, Client, Input};
use strongroom_proto::v1::{KeyVersion, UpdateKeyVersionRequest};
use tokio::task::JoinHandle;
use tonic::transport::Channel;

use super::{cluster::Cluster, recording::Recording};

/// Signs, and changes a tag, again and again; how often. No call may fail.
async fn work(client: Client, key: String, until: Arc<AtomicBool>, done: Arc<AtomicU64>) {
    for turn in 0_u64.. {
        if until.load(Ordering::Acquire) {
            return;
        }
        client.sign(&key, &Algorithm::ES256, Input::Message(b"m")).await.expect("signs");
        if turn % 8 == 0 {
            let tags = [("turn".to_owned(), turn.to_string())].into();
            let request = UpdateKeyVersionRequest {
                version: Some(KeyVersion { name: key.clone(), tags, ..Default::default() }),
                update_mask: Some(prost_types::FieldMask { paths: vec!["tags".to_owned()] }),
                ..Default::default()
            };
            client.update_key_version(request).await.expect("changes");
        }
        done.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

/// Clients that work on all replicas, of which none may see a failure.
pub(super) struct Load {
    end: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    workers: Vec<JoinHandle<()>>,
}

impl Load {
    /// Begins with keys of its own.
    pub(super) async fn begin(cluster: &Cluster, client: Client) -> Self {
        let client = client.with_timeout(Duration::from_secs(20));
        let (end, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let workers = (0..4)
            .map(|n| {
                cluster.ok(0, &["key", "create", &format!("w{n}"), "--type", "EC"]);
                let key = format!("vaults/main/keys/w{n}");
                tokio::spawn(work(client.clone(), key, Arc::clone(&end), Arc::clone(&done)))
            })
            .collect();
        Self { end, done, workers }
    }

    fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Ends; no call has failed.
    pub(super) async fn end(self) {
        self.end.store(true, Ordering::Release);
        assert!(self.done() > 0);
        for worker in self.workers {
            worker.await.expect("no call failed");
        }
    }
}

/// What the migrations of a release to come may do: add.
const OF_THE_NEXT_RELEASE: &str = "BEGIN; \
    ALTER TABLE strongroom.keys ADD COLUMN of_the_next bigint; \
    CREATE TABLE strongroom.of_the_next (id bytea PRIMARY KEY); \
    UPDATE strongroom.strongroom_schema SET version = version + 1, readable_from = version; COMMIT";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_that_replicas_are_replaced_and_the_schema_grows() {
    let Some(mut cluster) = Cluster::start() else { return };
    let channels: Vec<Channel> = (0..3).map(|n| cluster.channel(n)).collect();
    let load = Load::begin(&cluster, cluster.client().await).await;
    let recording = Recording::begin(&cluster, &channels);
    for replica in 0..3 {
        let before = load.done();
        cluster.stop(replica);
        if replica == 1 {
            cluster.postgres.sql(OF_THE_NEXT_RELEASE);
        }
        cluster.serve(replica);
        assert!(load.done() > before, "the others go on meanwhile");
    }
    load.end().await;
    recording.end(&channels).await;
    cluster.end_whole();
}
