//! What PostgreSQL and a second replica cost, and give: run it alone,
//! `cargo test --test it replicas::figures -- --ignored --nocapture`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use strongroom_proto::v1::{
    EncryptRequest, KeyVersion, UpdateKeyVersionRequest, crypto_client::CryptoClient, keys_client::KeysClient,
};
use tonic::transport::Channel;

use super::cluster::{Cluster, settings, within};
use crate::production::Site;

/// How long each row is measured in each round.
const TIME: Duration = Duration::from_secs(3);
const ROUNDS: usize = 5;
const CALLERS: usize = 64;
const CHANGERS: usize = 8;
const VERSION: &str = "vaults/main/keys/k";

/// A contender: where its callers call, and whose CPU it is.
struct Contender {
    name: &'static str,
    channels: Vec<Channel>,
    processes: Vec<u32>,
    encryptions: Vec<f64>,
    cpu_us: Vec<f64>,
    changes: Vec<f64>,
}

impl Contender {
    fn new(name: &'static str, channels: Vec<Channel>, processes: Vec<u32>) -> Self {
        Self { name, channels, processes, encryptions: Vec::new(), cpu_us: Vec::new(), changes: Vec::new() }
    }

    async fn round(&mut self) {
        let before = cpu(&self.processes);
        let done = load(&self.channels, CALLERS, |channel, _| async move {
            let request = EncryptRequest {
                name: VERSION.to_owned(),
                algorithm: "A256GCM".to_owned(),
                plaintext: vec![7; 1024],
                ..Default::default()
            };
            CryptoClient::new(channel).encrypt(within(request, 10)).await.map(drop)
        });
        let done = done.await;
        self.encryptions.push(done / TIME.as_secs_f64());
        self.cpu_us.push((cpu(&self.processes) - before) / done * 1e6);
        let changed = load(&self.channels, CHANGERS, |channel, n| async move {
            let version = KeyVersion {
                name: format!("vaults/main/keys/c{}", n % CHANGERS),
                tags: [("n".to_owned(), n.to_string())].into(),
                ..Default::default()
            };
            let request = UpdateKeyVersionRequest {
                version: Some(version),
                update_mask: Some(prost_types::FieldMask { paths: vec!["tags".to_owned()] }),
                ..Default::default()
            };
            KeysClient::new(channel).update_key_version(within(request, 10)).await.map(drop)
        });
        self.changes.push(changed.await / TIME.as_secs_f64());
    }
}

/// Calls for [`TIME`]; how many were answered.
async fn load<F>(
    channels: &[Channel],
    callers: usize,
    call: impl Fn(Channel, usize) -> F + Copy + Send + 'static,
) -> f64
where
    F: Future<Output = Result<(), tonic::Status>> + Send,
{
    let (end, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let tasks: Vec<_> = (0..callers)
        .map(|n| {
            let (channel, end, done) = (channels[n % channels.len()].clone(), Arc::clone(&end), Arc::clone(&done));
            tokio::spawn(async move {
                let mut turn = n;
                while !end.load(Ordering::Relaxed) {
                    call(channel.clone(), turn).await.expect("answered");
                    done.fetch_add(1, Ordering::Relaxed);
                    turn += callers;
                }
            })
        })
        .collect();
    tokio::time::sleep(TIME).await;
    let count = done.load(Ordering::Relaxed);
    end.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.expect("no call failed");
    }
    f64::from(u32::try_from(count).expect("a bounded time"))
}

/// CPU seconds of these processes and their children.
fn cpu(processes: &[u32]) -> f64 {
    let all = std::fs::read_dir("/proc").expect("reads").flatten();
    let stat = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    let ticks: u64 = all
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter_map(|pid| {
            let text = stat(pid)?;
            let fields: Vec<&str> = text.rsplit(')').next()?.split_whitespace().collect();
            let parent: u32 = fields.get(1)?.parse().ok()?;
            let mine = processes.contains(&pid) || processes.contains(&parent);
            mine.then(|| fields[11].parse::<u64>().unwrap_or(0) + fields[12].parse::<u64>().unwrap_or(0))
        })
        .sum();
    f64::from(u32::try_from(ticks).expect("not so long")) / 100.0
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn keys(run: impl Fn(&[&str])) {
    run(&["key", "create", "k", "--type", "oct"]);
    (0..CHANGERS).for_each(|n| run(&["key", "create", &format!("c{n}"), "--type", "EC"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
async fn what_a_second_replica_gives_and_postgresql_costs() {
    let Some(mut cluster) = Cluster::start() else { return };
    cluster.stop(2);
    keys(|arguments| drop(cluster.ok(0, arguments)));
    let site = Site::new();
    site.init();
    let serving = site.serve();
    site.client_ok(&["vault", "create", "main"]);
    keys(|arguments| drop(site.client_ok(arguments)));
    let pid = |n: usize| cluster.replicas[n].running.as_ref().expect("runs").id();
    let mut contenders = [
        Contender::new(
            "SQLite",
            vec![settings(&site, &site.endpoint()).channel().expect("a channel")],
            vec![serving.id()],
        ),
        Contender::new("PostgreSQL, one replica", vec![cluster.channel(0)], vec![pid(0)]),
        Contender::new("PostgreSQL, two replicas", vec![cluster.channel(0), cluster.channel(1)], vec![pid(0), pid(1)]),
    ];
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        for contender in &mut contenders {
            contender.round().await;
        }
    }
    println!(
        "{} rounds of {TIME:?}, {:?}; {CALLERS} callers of A256GCM 1 KiB, {CHANGERS} of changes",
        ROUNDS,
        begun.elapsed()
    );
    for contender in &contenders {
        println!(
            "{}: {:.0} encryptions/s, {:.0} us of server CPU each; {:.0} changes/s",
            contender.name,
            median(&contender.encryptions),
            median(&contender.cpu_us),
            median(&contender.changes)
        );
    }
    serving.stop();
}
