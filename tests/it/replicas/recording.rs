//! Clients that record what they are told of registers (a key's tag each), and whether one order explains all of it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use strongroom_proto::v1::{GetKeyRequest, KeyVersion, UpdateKeyVersionRequest, keys_client::KeysClient};
use tokio::task::JoinHandle;
use tonic::{Code, transport::Channel};

use super::cluster::{Cluster, within};
use crate::history::{Asked, Event, is_linearizable};

/// What clients record of one key's tag, a register.
struct Recorder {
    key: String,
    began: Instant,
    next: AtomicU64,
    events: Mutex<Vec<Event>>,
}

impl Recorder {
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).expect("not for so long")
    }

    fn note(&self, asked: Asked, begun: u64, ended: Option<u64>) {
        self.events.lock().expect("not poisoned").push(Event { asked, begun, ended });
    }

    async fn write(&self, channel: &Channel) {
        let value = self.next.fetch_add(1, Ordering::Relaxed);
        let version = KeyVersion {
            name: self.key.clone(),
            tags: [("value".to_owned(), value.to_string())].into(),
            ..Default::default()
        };
        let request = UpdateKeyVersionRequest {
            version: Some(version),
            update_mask: Some(prost_types::FieldMask { paths: vec!["tags".to_owned()] }),
            ..Default::default()
        };
        let begun = self.now();
        let answer = KeysClient::new(channel.clone()).update_key_version(within(request, 10)).await;
        match answer {
            Ok(_) => self.note(Asked::Write(value), begun, Some(self.now())),
            // Refused before anything was done; all else may have happened, or may yet.
            Err(status)
                if matches!(status.code(), Code::FailedPrecondition | Code::Aborted | Code::ResourceExhausted) => {}
            Err(_) => self.note(Asked::Write(value), begun, None),
        }
    }

    async fn read(&self, channel: &Channel) {
        let begun = self.now();
        let request = GetKeyRequest { name: self.key.clone() };
        if let Ok(answer) = KeysClient::new(channel.clone()).get_key(within(request, 10)).await {
            let version = answer.into_inner().version.expect("the newest");
            let value = version.tags.get("value").map_or(0, |value| value.parse().expect("a number"));
            self.note(Asked::Read(value), begun, Some(self.now()));
        }
    }
}

/// Clients that change and read some registers on all replicas, and record what they were told.
pub(super) struct Recording {
    recorders: Vec<Arc<Recorder>>,
    clients: Vec<JoinHandle<()>>,
}

impl Recording {
    /// Begins; each client goes through its turns and ends.
    pub(super) fn begin(cluster: &Cluster, channels: &[Channel]) -> Self {
        let began = Instant::now();
        let recorders: Vec<Arc<Recorder>> = (0..4)
            .map(|n| {
                cluster.ok(0, &["key", "create", &format!("r{n}"), "--type", "EC"]);
                let key = format!("vaults/main/keys/r{n}");
                Arc::new(Recorder { key, began, next: AtomicU64::new(1), events: Mutex::default() })
            })
            .collect();
        let mut clients = Vec::new();
        for (n, recorder) in recorders.iter().enumerate() {
            for client in 0..3 {
                let (recorder, channel) = (Arc::clone(recorder), channels[(n + client) % channels.len()].clone());
                clients.push(tokio::spawn(async move {
                    // A register's history is kept short enough for the search.
                    for turn in 0..40 {
                        if client == 0 || turn % 3 == 0 {
                            recorder.write(&channel).await
                        } else {
                            recorder.read(&channel).await
                        }
                        tokio::time::sleep(Duration::from_millis(100 + 37 * client as u64)).await;
                    }
                }));
            }
        }
        Self { recorders, clients }
    }

    /// Waits for the clients; reads each register once more on each of these, and finds the order of all that was answered.
    pub(super) async fn end(self, channels: &[Channel]) {
        for client in self.clients {
            client.await.expect("ends");
        }
        for recorder in &self.recorders {
            for channel in channels {
                recorder.read(channel).await;
            }
            let events = recorder.events.lock().expect("not poisoned").clone();
            let answered = events.iter().filter(|event| event.ended.is_some()).count();
            assert!(answered > 30, "{answered} of {} were answered", events.len());
            assert!(is_linearizable(&events), "{} has no order:\n{events:#?}", recorder.key);
        }
    }
}
