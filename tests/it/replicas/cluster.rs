//! Three replicas on one PostgreSQL and one token, each with an address, a wire to the database and an audit log of its own.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use strongroom_client::{Client, Credentials, Settings};
use strongroom_proto::v1::crypto_client::CryptoClient;
use tonic::{Request, transport::Channel};

use crate::{
    dev::{PROGRAM, signal, text},
    postgres::{PASSWORD, Server},
    production::{Site, private},
    rpc::{reason, sign},
    wire::Wire,
};

pub(super) const NAMES: [&str; 3] = ["a", "b", "c"];
/// The bound of a vault that says nothing else.
pub(super) const BOUND: Duration = Duration::from_secs(1);
/// What a caller's clock and a busy machine may add to it.
pub(super) const SLACK: Duration = Duration::from_millis(500);

/// Three replicas and what they stand on.
pub(super) struct Cluster {
    pub(super) site: Site,
    pub(super) postgres: Server,
    pub(super) replicas: Vec<Replica>,
}

pub(super) struct Replica {
    /// An address of its own on loopback, and a free port there.
    pub(super) endpoint: String,
    pub(super) config: PathBuf,
    /// To the database that is the primary at first.
    pub(super) wire: Wire,
    pub(super) running: Option<Child>,
}

impl Cluster {
    /// All three serve; none where PostgreSQL is not installed.
    pub(super) fn start() -> Option<Self> {
        Some(Self::on(Server::new()?, &[]))
    }

    /// On that database, and on others that may take its place.
    pub(super) fn on(postgres: Server, others: &[&Server]) -> Self {
        let mut cluster = Self::prepared(postgres, others);
        let (admin, recovery, so_pin) =
            (cluster.site.path("tls/admin.pem"), cluster.site.path("recovery.pub.pem"), cluster.site.path("so-pin"));
        let init = [
            "init",
            "--admin-certificate",
            text(&admin),
            "--recovery-key",
            text(&recovery),
            "--so-pin-file",
            text(&so_pin),
        ];
        cluster.operator(0, &init);
        (0..NAMES.len()).for_each(|n| cluster.serve(n));
        cluster.ok(0, &["vault", "create", "main"]);
        cluster
    }

    /// Their configurations; nothing runs but the database.
    pub(super) fn prepared(postgres: Server, others: &[&Server]) -> Self {
        let site = Site::new();
        private(&site.path("database-password"), format!("{PASSWORD}\n"));
        let addresses: Vec<String> = (0..NAMES.len()).map(|n| format!("127.0.0.{}", n + 2)).collect();
        let alternative: Vec<String> = addresses.iter().map(|address| format!("IP:{address}")).collect();
        site.certificate("server", &format!("subjectAltName={}", alternative.join(",")));
        let sample = fs::read_to_string(site.path("strongroom.toml")).expect("reads");
        let replicas = NAMES.iter().zip(&addresses).map(|(name, address)| {
            let wire = Wire::to(([127, 0, 0, 1], postgres.port()).into());
            let config = site.path(&format!("{name}.toml"));
            let port = std::net::TcpListener::bind((address.as_str(), 0)).expect("binds").local_addr().expect("has one").port();
            let hosts = [wire.address().to_string()].into_iter().chain(others.iter().map(|other| format!("127.0.0.1:{}", other.port())));
            let hosts: Vec<String> = hosts.map(|host| format!("\"{host}\"")).collect();
            let store = format!(
                "[store.postgres]\nhosts = [{}]\ndatabase = \"postgres\"\nuser = \"postgres\"\npassword_file = \"database-password\"\n\n\
                 [replica]\nname = \"{name}\"",
                hosts.join(", ")
            );
            let own = listening(&sample, &format!("{address}:{port}"))
                .replace("[store]\n", "")
                .replace("sqlite = \"strongroom.db\"", &store)
                .replace("state_dir = \"state\"", &format!("state_dir = \"state-{name}\""))
                .replace("dir = \"audit\"", &format!("dir = \"audit-{name}\""));
            fs::write(&config, own).expect("writes");
            Replica { endpoint: format!("https://{address}:{port}"), config, wire, running: None }
        });
        Self { replicas: replicas.collect(), site, postgres }
    }

    pub(super) fn operator(&self, replica: usize, arguments: &[&str]) -> String {
        let output = Command::new(PROGRAM).args(arguments).arg("--config").arg(&self.replicas[replica].config).output();
        succeeded(arguments, output.expect("runs"))
    }

    /// Starts a replica, and waits until it serves.
    pub(super) fn serve(&mut self, replica: usize) {
        let mut child = self.start_armed(replica, "");
        self.wait_for(replica, &mut child);
        self.replicas[replica].running = Some(child);
    }

    /// Starts a replica with these fail-points.
    pub(super) fn start_armed(&self, replica: usize, failpoints: &str) -> Child {
        let file = fs::File::options().create(true).append(true).open(self.log(replica)).expect("opens");
        let mut command = Command::new(PROGRAM);
        if !failpoints.is_empty() {
            command.env("STRONGROOM_FAILPOINTS", failpoints);
        }
        command.args(["serve", "--config"]).arg(&self.replicas[replica].config);
        command.stdin(Stdio::null()).stderr(file).spawn().expect("spawns")
    }

    /// Waits until it serves.
    pub(super) fn wait_for(&self, replica: usize, child: &mut Child) {
        let begun = Instant::now();
        while !self.run(replica, &["vault", "list"]).status.success() {
            let ended = child.try_wait().expect("waits");
            let said = || fs::read_to_string(self.log(replica)).unwrap_or_default();
            assert!(ended.is_none() && begun.elapsed() < Duration::from_secs(90), "it does not serve: {}", said());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn log(&self, replica: usize) -> PathBuf {
        self.site.path(&format!("{}.log", NAMES[replica]))
    }

    pub(super) fn kill(&mut self, replica: usize) {
        let mut child = self.replicas[replica].running.take().expect("runs");
        child.kill().expect("is killed");
        child.wait().expect("waits");
    }

    pub(super) fn stop(&mut self, replica: usize) {
        let mut child = self.replicas[replica].running.take().expect("runs");
        signal(child.id(), "TERM");
        assert_eq!(child.wait().expect("waits").code(), Some(0));
    }

    pub(super) fn run(&self, replica: usize, arguments: &[&str]) -> Output {
        let tls = |name: &str| self.site.path("tls").join(name);
        Command::new(PROGRAM)
            .args(arguments)
            .env("STRONGROOM_ENDPOINT", &self.replicas[replica].endpoint)
            .env("STRONGROOM_CA", tls("clients.pem"))
            .env("STRONGROOM_CERT", tls("admin.pem"))
            .env("STRONGROOM_KEY", tls("admin.key"))
            .env("STRONGROOM_VAULT", "main")
            .stdin(Stdio::null())
            .output()
            .expect("runs")
    }

    pub(super) fn ok(&self, replica: usize, arguments: &[&str]) -> String {
        succeeded(arguments, self.run(replica, arguments))
    }

    /// The replica as the cluster's status has it, asked at another.
    pub(super) fn status(&self, asked: usize, replica: usize) -> Value {
        let status: Value = serde_json::from_str(&self.ok(asked, &["cluster", "status", "-o", "json"])).expect("JSON");
        let all = status["replicas"].as_array().expect("replicas").clone();
        let name = format!("replicas/{}", NAMES[replica]);
        all.into_iter().find(|found| found["name"] == *name).expect("is known")
    }

    /// A connection that repeats nothing by itself.
    pub(super) fn channel(&self, replica: usize) -> Channel {
        settings(&self.site, &self.replicas[replica].endpoint).channel().expect("a channel")
    }

    /// A client of all of them.
    pub(super) async fn client(&self) -> Client {
        let endpoints: Vec<&str> = self.replicas.iter().map(|replica| replica.endpoint.as_str()).collect();
        settings(&self.site, &endpoints.join(",")).connect().await.expect("connects")
    }

    /// What somebody finds of a replica's log who holds that key.
    pub(super) fn verify_by(&self, replica: usize, key: &str) -> Output {
        let mut command = Command::new(PROGRAM);
        command.args(["audit", "verify", "--key", key, "--config"]).arg(&self.replicas[replica].config);
        command.output().expect("runs")
    }

    /// All end as they should, and every log is whole.
    pub(super) fn end_whole(&mut self) {
        (0..NAMES.len()).for_each(|n| self.stop(n));
        for replica in 0..NAMES.len() {
            self.operator(replica, &["audit", "verify"]);
        }
    }
}

fn listening(sample: &str, address: &str) -> String {
    let lines = sample.lines().map(|line| match line.strip_prefix("listen = \"") {
        Some(rest) if !rest.starts_with("127.0.0.1:0\"") => format!("listen = \"{address}\""),
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

fn succeeded(arguments: &[&str], output: Output) -> String {
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Of the administrator of a site.
pub(super) fn settings(site: &Site, endpoints: &str) -> Settings {
    let tls = |name: &str| fs::read(site.path("tls").join(name)).expect("reads");
    let credentials =
        Credentials { ca: tls("clients.pem"), certificate: tls("admin.pem"), private_key: tls("admin.key").into() };
    Settings::new(endpoints, credentials).expect("right")
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for replica in &mut self.replicas {
            if let Some(mut child) = replica.running.take() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

pub(super) fn within<M>(message: M, seconds: u64) -> Request<M> {
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_secs(seconds));
    request
}

/// Whether that replica signs with the key, and if not why.
pub(super) async fn signs(channel: &Channel, key: &str) -> Result<(), String> {
    let signed = CryptoClient::new(channel.clone()).sign(within(sign(key), 5)).await;
    signed.map(drop).map_err(|status| format!("{:?} {}", status.code(), reason(&status)))
}
