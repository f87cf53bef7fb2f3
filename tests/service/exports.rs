//! Exporters whose receivers hang hold nobody up.

use std::{path::PathBuf, sync::Arc, time::Duration};

use strongroom::{
    export::{Exporter, Facility, Form, Source, Start, SyslogTo, Target, run},
    outbound::Channel,
    service::Service,
};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    ec,
    estate::{Estate, caller},
    named,
};

/// Nothing here takes so long, unless it hangs.
const HANGS: Duration = Duration::from_secs(120);

/// Would wait for longer than the test.
fn exporter(name: &str, target: Target) -> Exporter {
    let within = Duration::from_secs(3600);
    Exporter { name: name.to_owned(), target, start: Start::Beginning, records_max: 100, within }
}

/// Receivers that take connections and nothing that comes on them.
async fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    (listener, address)
}

fn start(exporters: Vec<Exporter>, service: &Arc<Service>, stop: &CancellationToken) -> TaskTracker {
    let tasks = TaskTracker::new();
    for exporter in exporters {
        let source = Source::new(service.log(), service.instance().id);
        tasks.spawn(run(exporter, source, stop.clone()));
    }
    tasks.close();
    tasks
}

/// The lines of a file with that operation, once there are so many.
async fn lines(path: PathBuf, operation: &str, count: usize) -> Vec<String> {
    let found = async {
        loop {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<String> = text.lines().filter(|line| line.contains(operation)).map(str::to_owned).collect();
            if lines.len() >= count {
                return lines;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(HANGS, found).await.expect("the records come")
}

#[tokio::test]
async fn signatures_are_made_and_exported_while_other_receivers_hang() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    let (web, web_address) = silent().await;
    let (syslog, syslog_address) = silent().await;
    let out = estate.folder().join("export.jsonl");
    let channel = Channel { plain_loopback: true, ..Channel::default() };
    let url = format!("http://{web_address}/").parse().expect("a URL");
    let (form, facility, to) = (Form::Strongroom, Facility::Authpriv, SyslogTo::Tcp(syslog_address));
    let exporters = vec![
        exporter("web", Target::Webhook { url, channel, signature_key_file: None, form }),
        exporter("syslog", Target::Syslog { to, facility, form }),
        exporter("file", Target::File { path: out.clone(), form }),
    ];
    let stop = CancellationToken::new();
    let tasks = start(exporters, &service, &stop);
    service.create_key(&caller(), ec("busy"), Default::default()).await.expect("made");
    service.checkpoint().await.expect("a checkpoint");
    // Both hold a delivery before the first signature.
    let hung = async { (web.accept().await.expect("connects"), syslog.accept().await.expect("connects")) };
    let _held = tokio::time::timeout(HANGS, hung).await.expect("the exporters have begun");
    let algorithm = strongroom::model::Algorithm::Es256;
    for _ in 0..200 {
        service.sign(&caller(), &named("busy"), algorithm, vec![7; 32].into()).await.expect("signs");
    }
    let exported = async {
        while service.log().readable() < service.log().known().next_index {
            service.checkpoint().await.expect("a checkpoint");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        lines(out, "\"keys.sign\"", 200).await
    };
    let exported = tokio::time::timeout(HANGS, exported).await.expect("exported");
    assert_eq!(exported.len(), 200);
    stop.cancel();
    tokio::time::timeout(HANGS, tasks.wait()).await.expect("exporters end although their receivers do not answer");
    service.close().await.expect("closes");
}
