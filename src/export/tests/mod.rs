//! What is delivered, in which form, and what trouble does.

mod azure;
mod deliver;
mod forms;
mod syslog;
mod trouble;

use std::{path::PathBuf, sync::Arc, time::Duration};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{Exporter, Form, Source, Start, Target, run};
use crate::{
    audit::{Durability, Kind, Log, Options, Outcome, Record},
    model::Timestamp,
    outbound::Channel,
};

/// Nothing here takes so long, unless it hangs.
const HANGS: Duration = Duration::from_secs(60);
const INSTANCE: [u8; 16] = [0x5a; 16];
const SECOND: i64 = 1_700_000_000;

/// A log of a few records.
struct Kept {
    log: Arc<Log>,
    folder: TempDir,
}

impl Kept {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let instance = base16ct::lower::encode_string(&INSTANCE);
        let (log, _) = Log::open(&folder.path().join("log"), Options::default(), &instance).unwrap();
        Self { log: Arc::new(log), folder }
    }

    /// A path beside the log.
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Records so many signatures, and makes them readable.
    async fn sign(&self, count: usize) {
        for _ in 0..count {
            self.log.append(signature(), Durability::Write).await.unwrap();
        }
        self.make_readable().await;
    }

    async fn make_readable(&self) {
        // What is written is durable a little later.
        while self.log.readable() < self.log.known().next_index {
            self.log.advance().unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn export(&self, exporter: Exporter) -> Running {
        let stop = CancellationToken::new();
        let source = Source::new(&self.log, INSTANCE);
        Running { task: tokio::spawn(run(exporter, source, stop.clone())), stop }
    }
}

/// An exporter at work.
struct Running {
    task: JoinHandle<()>,
    stop: CancellationToken,
}

impl Running {
    async fn end(self) {
        self.stop.cancel();
        timeout(HANGS, self.task).await.expect("it ends").unwrap();
    }
}

fn signature() -> Record {
    Record {
        principal: Some("spiffe://test.invalid/ci".to_owned()),
        source: Some("10.0.0.7:40112".to_owned()),
        resource: Some("vaults/dev/keys/release/versions/1".to_owned()),
        algorithm: Some("ES256".to_owned()),
        request: Some("r1".to_owned()),
        ..Record::new(Timestamp(SECOND), Kind::Operation, "keys.sign", Outcome::Done)
    }
}

fn exporter(target: Target) -> Exporter {
    Exporter {
        name: "test".to_owned(),
        target,
        start: Start::Beginning,
        records_max: 3,
        within: Duration::from_secs(10),
    }
}

fn file(path: PathBuf) -> Exporter {
    exporter(Target::File { path, form: Form::Strongroom })
}

/// The indices of the lines of a file, once it has so many whole ones.
async fn indices(path: &std::path::Path, count: usize) -> Vec<u64> {
    let found = async {
        loop {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            if text.matches('\n').count() >= count {
                return text.lines().map(index).collect();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(HANGS, found).await.expect("the lines come")
}

fn index(line: &str) -> u64 {
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    value["index"].as_u64().unwrap()
}

/// What a receiver was sent.
struct Posted {
    head: String,
    body: Vec<u8>,
}

/// A receiver on loopback that answers with one text after the other, and the last one for ever.
async fn receiver(answers: Vec<&'static str>) -> (http::Uri, mpsc::Receiver<Posted>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/in", listener.local_addr().unwrap()).parse().unwrap();
    let (sender, posted) = mpsc::channel(64);
    tokio::spawn(async move {
        let mut answers = answers.into_iter().peekable();
        let mut answer = "";
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            let head = loop {
                assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "a whole request");
                if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                    break String::from_utf8(bytes.drain(..end + 4).collect()).unwrap();
                }
            };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            while bytes.len() < length.parse().unwrap() {
                assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "a whole body");
            }
            answer = answers.next().unwrap_or(answer);
            stream.write_all(answer.as_bytes()).await.unwrap();
            if sender.send(Posted { head, body: bytes }).await.is_err() {
                return;
            }
        }
    });
    (url, posted)
}

async fn next(posted: &mut mpsc::Receiver<Posted>) -> Posted {
    timeout(HANGS, posted.recv()).await.expect("it is sent").expect("the receiver is there")
}

fn loopback() -> Channel {
    Channel { plain_loopback: true, ..Channel::default() }
}

fn webhook(url: http::Uri) -> Exporter {
    exporter(Target::Webhook { url, channel: loopback(), signature_key_file: None, form: Form::Strongroom })
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
