//! The configuration of `strongroom serve`: TOML, read raw, then checked.
//!
//! Every fault is named with its key path, all of them at once; a key that this release does not know is a
//! fault. Relative paths are relative to the file. Secrets are named by file and never stand in it. This
//! module and `cli::dev` are the only ones that read files of an operator; nothing here is read twice but
//! what TLS stands on.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    fs,
    hash::Hash,
    net::SocketAddr,
    path::{Path, PathBuf},
    rc::Rc,
    str::FromStr,
    time::Duration,
};

use strongroom_hsm::{
    Profile,
    algorithms::Lane,
    profile::{LaneProfile, Sandbox, TokenName},
};

use crate::{backup::Place, bearer::Trust, export::Exporter, observe::trace::Tracing, webhooks::Webhook};

mod azure;
mod disk;
mod exporters;
pub mod files;
mod reader;
mod server;
mod store;
mod tokens;
mod tracing;
mod webhooks;

pub use azure::{Azure, IdentityEndpoint};
pub use disk::faults_on_disk;
pub use reader::Fault;
use reader::Section;
pub use server::{Authority, Server};
pub use store::StoreChoice;
pub use tokens::Tokens;

use crate::{
    model::{NameError, ReplicaName},
    service::quota::{Allowances, Rate},
};

/// The most that a quota can be: a thousand cores.
const MICROSECONDS_MAX: u64 = 1_000_000_000;
/// The longest configuration that is read.
const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// What an operator chose, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The gRPC face.
    pub server: Server,
    /// The Azure face, where it is served.
    pub azure: Option<Azure>,
    /// Metrics and health over HTTP.
    pub metrics: Metrics,
    /// The HSM and its lanes.
    pub hsm: Hsm,
    /// The database.
    pub store: StoreChoice,
    /// What this process is called among those that share it.
    pub replica: ReplicaName,
    /// The audit log.
    pub audit: Audit,
    /// Issuers whose tokens are believed.
    pub oidc: Vec<Trust>,
    /// Tokens that are issued here.
    pub tokens: Tokens,
    /// The program's own log.
    pub log: LogStyle,
    /// Traces of requests, if they are sent anywhere.
    pub tracing: Option<Tracing>,
    /// How much may be asked for.
    pub quota: Allowances,
    /// Who is told of events.
    pub webhooks: Vec<Webhook>,
    /// Where backups go, if anywhere.
    pub backup: Option<Place>,
}

/// Metrics and health over HTTP.
#[derive(Clone, Copy, Debug)]
pub struct Metrics {
    /// Where it listens.
    pub listen: SocketAddr,
}

/// The HSM and its lanes.
#[derive(Clone, Debug)]
pub struct Hsm {
    /// The PKCS#11 module.
    pub module: PathBuf,
    /// What the module is told when it is initialised.
    pub module_parameters: Option<String>,
    /// What the module finds in its environment; workers get nothing else.
    pub environment: BTreeMap<String, String>,
    /// Which token.
    pub token: TokenName,
    /// The file with the user PIN.
    pub pin_file: PathBuf,
    /// Where the start lock, the PIN latch and what `init` has not finished live.
    pub state_dir: PathBuf,
    /// Where a recovery key lies while the root is rotated; only workers read it.
    pub recovery_key_file: Option<PathBuf>,
    /// How tightly workers shut themselves in.
    pub sandbox: Sandbox,
    /// Folders with the token's files.
    pub sync_dirs: Vec<PathBuf>,
    /// The lanes.
    pub lanes: BTreeMap<Lane, LaneProfile>,
    /// The most keys that a worker keeps loaded.
    pub cached_keys_max: usize,
    /// A worker is replaced after this many loads.
    pub loads_max: u64,
    /// How often the canary signs.
    pub canary_every: Duration,
}

impl Hsm {
    /// What the pool is started with; `program` is this program, which is its own worker.
    #[must_use]
    pub fn profile(&self, program: PathBuf) -> Profile {
        Profile {
            module: self.module.clone(),
            module_parameters: self.module_parameters.clone(),
            environment: self.environment.clone(),
            token: self.token.clone(),
            pin_file: self.pin_file.clone(),
            state_dir: self.state_dir.clone(),
            sync_dirs: self.sync_dirs.clone(),
            sandbox: self.sandbox,
            lanes: self.lanes.clone(),
            cached_keys_max: self.cached_keys_max,
            loads_max: self.loads_max,
            canary_every: self.canary_every,
            worker_program: program,
            worker_arguments: vec!["hsm-worker".to_owned()],
            faults: BTreeMap::new(),
        }
    }
}

/// The audit log.
#[derive(Clone, Debug)]
pub struct Audit {
    /// Its folder.
    pub dir: PathBuf,
    /// Sync every record before its answer, not those of changes only.
    pub fsync_everything: bool,
    /// How often what is durable is put under a signed checkpoint.
    pub checkpoint_every: Duration,
    /// Where it is sent.
    pub exporters: Vec<Exporter>,
    /// Keep no record from the start on. No configuration can say so: it is for `strongroom bench --audit`, which
    /// measures a development server with it.
    pub discard: bool,
}

/// How the program's own log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogStyle {
    /// From which level on.
    pub level: ::tracing::level_filters::LevelFilter,
    /// One JSON object or one line of text for each event.
    pub format: LogFormat,
}

/// The form of the program's own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For machines.
    Json,
    /// For people.
    Text,
}

/// A configuration that cannot be used: every fault of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {}", list(.faults))]
pub struct ConfigError {
    /// Which file.
    pub path: String,
    /// Each fault.
    pub faults: Vec<Fault>,
}

fn list(faults: &[Fault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Reads and checks a file. Whether the files that it names are there is [`faults_on_disk`]'s question.
///
/// # Errors
/// Every fault of the file.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let refuse =
        |why: String| ConfigError { path: path.display().to_string(), faults: vec![Fault { key: String::new(), why }] };
    let path_absolute = std::path::absolute(path).map_err(|error| refuse(error.to_string()))?;
    let about = fs::metadata(path).map_err(|error| refuse(format!("cannot be read: {error}")))?;
    if about.len() > CONFIG_BYTES_MAX {
        return Err(refuse(format!("is longer than {CONFIG_BYTES_MAX} bytes")));
    }
    let text = fs::read_to_string(path).map_err(|error| refuse(format!("cannot be read: {error}")))?;
    let folder = path_absolute.parent().unwrap_or(Path::new("/"));
    parse(&text, folder).map_err(|faults| ConfigError { path: path.display().to_string(), faults })
}

/// Checks a configuration's text; relative paths in it are relative to `folder`.
///
/// # Errors
/// Every fault of it.
pub fn parse(text: &str, folder: &Path) -> Result<Config, Vec<Fault>> {
    let table = text.parse::<toml::Table>().map_err(|error| {
        vec![Fault { key: String::new(), why: format!("is not TOML: {}", error.to_string().trim()) }]
    })?;
    let faults = Rc::new(RefCell::new(Vec::new()));
    let mut root = Section::root(table, folder, Rc::clone(&faults));
    let server = server::server(root.section("server"));
    let azure = azure::azure(&mut root);
    let metrics = metrics(root.section("metrics"));
    let hsm = hsm(root.section("hsm"));
    let store = store::store(root.section("store"));
    let replica = replica(root.section("replica"), &store);
    let audit = audit(root.section("audit"));
    let tokens = tokens::tokens(root.section("tokens"));
    let oidc = tokens::oidc(&mut root, &tokens);
    let log = log(root.section("log"));
    let tracing = tracing::tracing(root.section("tracing"));
    let quota = quota(root.section("quota"));
    let webhooks = webhooks::webhooks(&mut root);
    let backup = backup(root.section("backup"), &hsm);
    root.finish();
    match (server, metrics, faults.take()) {
        (Some(mut server), Some(metrics), found) if found.is_empty() => Ok(Config {
            azure: azure.map(|(azure, pair)| {
                server.azure_pair = pair;
                azure
            }),
            server,
            metrics,
            hsm,
            store,
            replica,
            audit,
            oidc,
            tokens,
            log,
            tracing,
            quota,
            webhooks,
            backup,
        }),
        (_, _, found) => Err(found),
    }
}

fn replica(mut section: Section, store: &StoreChoice) -> ReplicaName {
    if store.file().is_none() && !section.has("name") {
        section.fault("name", "is missing: replicas that share a store have names, for example \"a\"");
    }
    let name = section.text("name").map(|name| name.parse());
    if let Some(Err(error)) = &name {
        let why: &NameError = error;
        section.fault("name", why.to_string());
    }
    section.finish();
    name.and_then(Result::ok).unwrap_or_else(ReplicaName::only)
}

fn metrics(mut section: Section) -> Option<Metrics> {
    let listen = listen(&mut section, Some("127.0.0.1:8444"));
    section.finish();
    Some(Metrics { listen: listen? })
}

/// `listen` and `allow_non_loopback`, which belong together.
fn listen(section: &mut Section, default: Option<&str>) -> Option<SocketAddr> {
    let address = section.address("listen", default);
    let anywhere = section.switch("allow_non_loopback", false);
    let address = address?;
    if !anywhere && !address.ip().is_loopback() {
        let why = format!("{address} can be reached by other machines: say allow_non_loopback = true if that is meant");
        section.fault("listen", why);
    }
    Some(address)
}

fn hsm(mut section: Section) -> Hsm {
    let module = section.required_path("module");
    let module_parameters = section.text("module_parameters");
    if module_parameters.as_ref().is_some_and(|text| text.contains('\0')) {
        section.fault("module_parameters", "holds a zero byte, which would end it");
    }
    let environment = section.section("environment").texts();
    let mut token = section.section("token");
    let name = TokenName { label: token.required_text("label"), serial: token.text("serial") };
    if name.label.len() > 32 {
        token.fault("label", "is longer than 32 bytes, the longest that PKCS#11 has");
    }
    token.finish();
    let pin_file = section.required_path("pin_file");
    let state_dir = section.required_path("state_dir");
    let recovery_key_file = section.path("recovery_key_file");
    let sandbox =
        section.word("sandbox", Sandbox::Strict, &[("strict", Sandbox::Strict), ("network", Sandbox::Network)]);
    let sync_dirs = section.paths("sync_dirs");
    let cached_keys_max = section.count("cached_keys_max", 10_000, 16..=1_000_000);
    let loads_max = section.number("loads_max", 1_000_000, 1..=u64::MAX >> 1);
    let canary_every = section.milliseconds("canary_every_ms", Duration::from_secs(5), 100..=600_000);
    let lanes = lanes(section.section("lanes"));
    section.finish();
    Hsm {
        module,
        module_parameters,
        environment,
        token: name,
        pin_file,
        state_dir,
        recovery_key_file,
        sandbox,
        sync_dirs,
        lanes,
        cached_keys_max,
        loads_max,
        canary_every,
    }
}

/// The lanes measured best for software modules, with what the file says instead.
fn lanes(mut section: Section) -> BTreeMap<Lane, LaneProfile> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut lanes = Profile::softhsm_lanes(cores);
    for (lane, profile) in &mut lanes {
        let mut section = section.section(lane.name());
        profile.workers = section.count("workers", profile.workers, 1..=256);
        profile.queue_max = section.count("queue_max", profile.queue_max, 1..=1_000_000);
        profile.hang = section.milliseconds("hang_ms", profile.hang, 100..=3_600_000);
        section.finish();
    }
    section.finish();
    lanes
}

/// How often a checkpoint is made, unless the configuration says otherwise.
pub const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

fn audit(mut section: Section) -> Audit {
    let audit = Audit {
        dir: section.required_path("dir"),
        fsync_everything: section.switch("fsync_everything", false),
        checkpoint_every: section.milliseconds("checkpoint_every_ms", CHECKPOINT_EVERY, 100..=60_000),
        exporters: exporters::exporters(&mut section),
        discard: false,
    };
    section.finish();
    audit
}

/// Where backups go. The token's folders are those that are synced.
fn backup(mut section: Section, hsm: &Hsm) -> Option<Place> {
    let dir = section.path("dir");
    section.finish();
    Some(Place {
        dir: dir?,
        token_dirs: hsm.sync_dirs.clone(),
        pin_file: hsm.pin_file.clone(),
        recovery_key_file: hsm.recovery_key_file.clone(),
    })
}

/// Quotas: of everybody, and of those who are named.
fn quota(mut section: Section) -> Allowances {
    let allowances = Allowances {
        principal: rate(section.section("principal")),
        vault: rate(section.section("vault")),
        principals: rates(&mut section, "principals"),
        vaults: rates(&mut section, "vaults"),
    };
    section.finish();
    allowances
}

fn rates<K: FromStr<Err = NameError> + Eq + Hash>(section: &mut Section, name: &str) -> HashMap<K, Option<Rate>> {
    let mut rates = HashMap::new();
    for (key, table) in section.section(name).sections() {
        match key.parse::<K>() {
            Ok(subject) => {
                rates.insert(subject, rate(table));
            }
            Err(error) => section.fault(name, error.to_string()),
        }
    }
    rates
}

/// `per_second` and `burst`; 0 is no bound.
fn rate(mut section: Section) -> Option<Rate> {
    let per_second = section.number("per_second", 0, 0..=MICROSECONDS_MAX);
    let burst = section.number("burst", per_second.max(1), 1..=MICROSECONDS_MAX);
    section.finish();
    (per_second > 0).then_some(Rate { per_second, burst })
}

fn log(mut section: Section) -> LogStyle {
    use ::tracing::level_filters::LevelFilter;
    let levels = [
        ("error", LevelFilter::ERROR),
        ("warn", LevelFilter::WARN),
        ("info", LevelFilter::INFO),
        ("debug", LevelFilter::DEBUG),
    ];
    let level = section.word("level", LevelFilter::INFO, &levels);
    let format = section.word("format", LogFormat::Json, &[("json", LogFormat::Json), ("text", LogFormat::Text)]);
    section.finish();
    LogStyle { level, format }
}

#[cfg(test)]
mod tests;
