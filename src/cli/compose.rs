//! The parts of a server, put together: `serve` and `dev` run what is composed here, `init` and `recover`
//! use the pieces. Everything a part needs is handed to it here, and nowhere else.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use strongroom_hsm::{Pool, Profile, StartError, protocol::Fault, protocol::ServiceKeys};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::Failure;
use crate::{
    audit::{self, Log, OpenError, Options, Recovered},
    bearer::{Bearers, Issued},
    config::{self, Config, StoreChoice},
    model::{Clock, InstanceRow, Ordinal, SystemClock},
    service::{
        Parts, Service, ServiceError, Settings,
        checkpoints::Checkpoints,
        replicas::{Seat, log_name},
    },
    store::{Store, StoreError, postgres::PostgresStore, sqlite::SqliteStore},
};

/// How long the workers may take to finish what is under way, once nobody asks any more.
pub(super) const POOL_GRACE: Duration = Duration::from_secs(5);

/// An error with its causes as details, so that nothing is lost, and what to do about it.
pub(super) fn failure(what: impl Into<String>, error: &dyn std::error::Error) -> Failure {
    let mut failure = Failure::new(format!("{}: {error}", what.into()));
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        // Transparent errors say what their source says.
        if text != said {
            failure = failure.detail(text.clone());
        }
        said = text;
        next = cause.source();
    }
    failure
}

/// Reads a configuration and checks what it names on disk.
pub(super) fn load(path: &Path) -> anyhow::Result<Config> {
    let config = read(path)?;
    let faults = config::faults_on_disk(&config);
    if faults.is_empty() { Ok(config) } else { Err(faulty(path, &faults).into()) }
}

/// As [`load`], for commands that come first: the state folder, and the store's, are made if they are missing.
pub(super) fn prepare(path: &Path) -> anyhow::Result<Config> {
    let config = read(path)?;
    make_folder(&config.hsm.state_dir)?;
    let file = config.store.file();
    for made_in in [file.and_then(Path::parent), config.audit.dir.parent()].into_iter().flatten() {
        make_folder(made_in)?;
    }
    load(path)
}

/// Reads a configuration.
pub(super) fn read(path: &Path) -> anyhow::Result<Config> {
    Ok(config::load(path).map_err(|error| faulty(path, &error.faults))?)
}

fn faulty(path: &Path, faults: &[config::Fault]) -> Failure {
    let failure = Failure::new(format!("the configuration {} has {} fault(s)", path.display(), faults.len()));
    faults
        .iter()
        .fold(failure, |failure, fault| failure.detail(fault.to_string()))
        .hint("softhsm-config/strongroom.sample.toml explains every key; `strongroom config check FILE` looks again")
}

/// This program, which is its own worker.
pub(super) fn program() -> anyhow::Result<PathBuf> {
    // The running program itself: the file of that name may be a newer release by the time a worker is
    // replaced, and front and worker must be of one.
    let own = PathBuf::from("/proc/self/exe");
    if own.exists() {
        return Ok(own);
    }
    std::env::current_exe().map_err(|error| failure("this program cannot find itself", &error).into())
}

/// The runtime of a server. On two cores and fewer it has one thread: the HSM's workers want the other core, and a
/// second thread costs more in waking and being woken than it does.
pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    use tokio::runtime::Builder;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut builder = if cores > 2 { Builder::new_multi_thread() } else { Builder::new_current_thread() };
    let built = builder.enable_all().thread_name("strongroom").build();
    built.map_err(|error| failure("the server cannot start its threads", &error).into())
}

/// As many descriptors as the system grants: the usual 1024 are fewer than the connections that are allowed.
/// What is not granted stays as it was.
pub(super) fn raise_limits() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}

/// Nothing of this process in core files, nor for other processes of the same user: plaintexts and TLS keys
/// pass through it. Workers see to themselves.
pub(super) fn close_memory() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let closed = setrlimit(Resource::Core, none).and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable));
    if let Err(error) = closed {
        tracing::warn!(%error, "core files could not be switched off");
    }
}

/// Whether there is a store; nothing is made.
pub(super) async fn is_made(choice: &StoreChoice) -> anyhow::Result<bool> {
    match choice {
        StoreChoice::Sqlite(path) => Ok(path.exists()),
        StoreChoice::Postgres(settings) => Ok(PostgresStore::is_made(settings).await.map_err(|error| {
            failure(format!("the store {choice} does not answer"), &error).hint("check store.postgres and its servers")
        })?),
    }
}

/// Opens the store.
pub(super) async fn store(choice: &StoreChoice) -> anyhow::Result<Arc<dyn Store>> {
    let (opened, hint): (Result<Arc<dyn Store>, _>, _) = match choice {
        StoreChoice::Sqlite(path) => (
            SqliteStore::open(path).await.map(|store| Arc::new(store) as _),
            "check store.sqlite, its folder and its owner",
        ),
        StoreChoice::Postgres(settings) => (
            PostgresStore::open(settings.clone()).await.map(|store| Arc::new(store) as _),
            "check store.postgres, its servers, and what its user may do",
        ),
    };
    opened.map_err(|error| match error {
        StoreError::Schema { .. } => failure(format!("the store {choice} cannot be used"), &error)
            .hint("run the release that wrote it, or a newer one; there is no way back")
            .into(),
        StoreError::Unfinished => failure(format!("the store {choice} cannot be used"), &error)
            .hint("`strongroom store migrate --anew` copies the other store once more; after `backup restore`, repeat that")
            .into(),
        error => failure("the server cannot start", &error).hint(hint).into(),
    })
}

/// The row that says whose store it is, unchecked: its seal is checked once the HSM is there.
pub(super) async fn instance(store: &Arc<dyn Store>) -> anyhow::Result<Option<InstanceRow>> {
    let found = store.instance().await.map_err(|error| failure("the store does not say whose it is", &error))?;
    Ok(found.map(|row| row.into_unchecked().0))
}

/// Who this process is among the replicas of an instance.
pub(super) async fn seat(config: &Config, store: &Arc<dyn Store>) -> anyhow::Result<Seat> {
    let found = Seat::find(&**store, &config.replica).await;
    Ok(found.map_err(|error| failure("the store does not say which replicas there are", &error))?)
}

/// The name of the log of an instance's first replica, which `init` begins.
pub(super) fn first_log(config: &Config, instance: [u8; 16]) -> String {
    audit::log_name(&instance, Ordinal::default(), &config.replica)
}

/// Opens the audit log of that name. Blocks a thread of its own: a long segment takes its time.
pub(super) async fn log(
    audit: &config::Audit,
    name: &str,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<(Arc<Log>, Recovered)> {
    let options = Options { clock: Arc::clone(clock), discard: audit.discard, ..Options::default() };
    let (dir, name) = (audit.dir.clone(), name.to_owned());
    let opening = tokio::task::spawn_blocking(move || Log::open(&dir, options, &name));
    let (log, recovered) = opening.await?.map_err(|error| {
        let hint = match &error {
            OpenError::Locked(_) => {
                "a server or another command uses it: stop that first; there is one for each log and store"
            }
            OpenError::Damaged { .. } => {
                "keep a copy of log and store before anything else, then find out who wrote to them"
            }
            OpenError::Exposed { .. } => "only the service's user may enter it",
            _ => "check audit.dir, its folder and its owner",
        };
        failure("the audit log cannot be opened", &error).hint(hint)
    })?;
    if let Some(torn) = &recovered.torn {
        tracing::warn!(file = %torn.file.display(), bytes = torn.bytes, "the audit log ended in the middle of a record, which was cut off");
    }
    Ok((Arc::new(log), recovered))
}

/// Closes a log that no service has opened, and puts it under a checkpoint of the instance, if there is one.
pub(super) async fn close_log(log: &Arc<Log>, pool: &Pool, instance: Option<&InstanceRow>) -> anyhow::Result<()> {
    let closed = match instance {
        Some(instance) => Checkpoints::new(log, pool, instance)
            .map_err(|error| failure("the log has no key", &error))?
            .close_log()
            .await
            .map(drop),
        None => log.close().await.map_err(Into::into),
    };
    Ok(closed.map_err(|error| failure("the log could not be closed", &error))?)
}

/// Starts the workers.
pub(super) async fn pool(profile: Profile, service_keys: ServiceKeys) -> anyhow::Result<Pool> {
    Ok(Pool::start(profile, service_keys).await.map_err(|error| hsm_failure("the HSM cannot be used", &error))?)
}

/// What an HSM that does not start means.
pub(super) fn hsm_failure(what: &str, error: &StartError) -> Failure {
    let failure = failure(what, error);
    match error {
        StartError::Refused { source: Fault::PinRefused, .. } => failure
            .hint("correct the PIN file, then `strongroom pin clear-latch --config FILE`, then start again")
            .hint("a token locks itself after a few wrong PINs: nobody tries again before that"),
        StartError::Late { .. } => {
            failure.hint("is the HSM reachable? `strongroom doctor` asks it one thing at a time")
        }
        _ => failure.hint("`strongroom doctor --config FILE` says what is missing"),
    }
}

/// An instance that nobody else works with: its log is locked, no worker runs yet.
pub(super) struct Held {
    pub(super) log: Arc<Log>,
    pub(super) clock: Arc<dyn Clock>,
    recovered: Recovered,
    store: Arc<dyn Store>,
    seat: Seat,
    /// The instance's id.
    instance: [u8; 16],
}

impl Held {
    /// Locks the log of an instance and opens it.
    pub(super) async fn take(config: &Config, instance: &InstanceRow, store: Arc<dyn Store>) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let seat = seat(config, &store).await?;
        let (log, recovered) = log(&config.audit, &log_name(instance, &seat), &clock).await?;
        Ok(Self { log, clock, recovered, store, seat, instance: instance.id })
    }

    /// Opens its service.
    pub(super) async fn open(self, config: &Config, pool: Pool) -> anyhow::Result<House> {
        let Self { log, clock, recovered, store, seat, instance } = self;
        let settings = Settings {
            fsync_everything: config.audit.fsync_everything,
            token_life_default: config.tokens.life_default,
            token_life_max: config.tokens.life_max,
            tokens_max: config.tokens.issued_max,
            recovery_key_file: config.hsm.recovery_key_file.clone(),
            ..Settings::default()
        };
        let bearers = Arc::new(bearers(config, instance, &clock));
        let issued = Arc::clone(bearers.issued());
        let allowances = config.quota.clone();
        let backup = config.backup.clone();
        let parts =
            Parts { store, seat, log, recovered, pool: pool.clone(), issued, clock, settings, allowances, backup };
        match Service::open(parts).await {
            Ok(service) => Ok(House { service, bearers, pool }),
            Err(error) => {
                pool.shutdown(Duration::ZERO).await;
                Err(refused(&error).into())
            }
        }
    }
}

/// A service, open and not yet served.
pub(super) struct House {
    pub(super) service: Arc<Service>,
    pub(super) bearers: Arc<Bearers>,
    pub(super) pool: Pool,
}

impl House {
    /// Opens everything of an instance that exists.
    pub(super) async fn open(
        config: &Config,
        profile: Profile,
        instance: InstanceRow,
        store: Arc<dyn Store>,
    ) -> anyhow::Result<Self> {
        let held = Held::take(config, &instance, store).await?;
        let pool = pool(profile, instance.worker_keys()).await?;
        held.open(config, pool).await
    }

    /// Closes log and store, then ends the workers.
    pub(super) async fn close(self) -> anyhow::Result<()> {
        let closed = self.service.close().await;
        self.pool.shutdown(POOL_GRACE).await;
        Ok(closed.map_err(|error| failure("the log could not be closed", &error))?)
    }
}

/// Whose tokens are believed. Without a name of its own the service's issuer is the instance: a token of another
/// instance is never one of this.
fn bearers(config: &Config, instance: [u8; 16], clock: &Arc<dyn Clock>) -> Bearers {
    let named = config.tokens.issuer.clone();
    let issuer = named.unwrap_or_else(|| format!("urn:strongroom:{}", base16ct::lower::encode_string(&instance)));
    Bearers::new(config.oidc.clone(), Arc::new(Issued::new(&issuer)), Arc::clone(clock))
}

/// Why a service did not open.
pub(super) fn refused(error: &ServiceError) -> Failure {
    use crate::service::Problem;
    let shown = failure("the service cannot open", error);
    match &error.problem {
        Problem::Tampered { .. } => shown
            .hint("keep a copy of store and log, and find out who wrote to the store; restore both from one backup")
            .hint("an older store beside a newer log looks like this too")
            .hint("if it is the disk of this replica's log that was lost: give the replica another name (docs/replicas.md)"),
        Problem::Precondition { reason: "ANOTHER_TOKEN", .. } => {
            shown.hint("check hsm.token.label and hsm.token.serial; if the token was lost, `strongroom recover`")
        }
        _ => shown.hint("`strongroom doctor --config FILE` says what is missing"),
    }
}

/// SIGHUP, by which an operator says that files have changed.
pub(super) fn hangup() -> anyhow::Result<Signal> {
    signal(SignalKind::hangup()).map_err(|error| failure("signals cannot be heard", &error).into())
}

/// SIGTERM or SIGINT. Made before anything is started, so that neither is ever missed.
pub(super) struct Ending {
    terminate: Signal,
    interrupt: Signal,
}

impl Ending {
    /// Listens from now on.
    pub(super) fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).map_err(|error| failure("signals cannot be heard", &error));
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Waits for one of them.
    pub(super) async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Makes a folder for its owner only, with what is missing above it; one that exists stays as it is.
pub(super) fn make_folder(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    Ok(made.map_err(|error| failure(format!("cannot make the folder {}", path.display()), &error))?)
}

/// Makes what was renamed or made in a folder durable.
pub(super) fn sync_folder(path: &Path) -> anyhow::Result<()> {
    let synced = fs::File::open(path).and_then(|folder| folder.sync_all());
    Ok(synced.map_err(|error| failure(format!("cannot sync the folder {}", path.display()), &error))?)
}
