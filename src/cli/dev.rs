//! `strongroom dev`: everything for development on SoftHSM, in one folder, made on the way.
//!
//! Every step is redone if it was not finished, and left alone if it was; a restart keeps all. While the
//! token is being made the file `initialising` says so: what a crash leaves behind then is ours, holds
//! nothing that anybody was told of, and is made anew. Without that file nothing is ever taken away.

use std::{collections::BTreeMap, fs, net::SocketAddr, path::Path, process::ExitCode, sync::Arc, time::Duration};

use strongroom_hsm::{
    Profile,
    pool::{Provisioned, provision},
    profile::{Sandbox, TokenName},
    protocol::{Hierarchy, Moment, Provision},
};

use super::{
    compose::{self, Ending, House, failure},
    credentials,
    face::{Addresses, Face},
    failure::Failure,
    operate::{AuditMode, DevArgs},
    output::{self, Format},
    serve::DEVELOPMENT_LABEL,
};
use crate::{
    backup,
    config::{self, Config, LogFormat, LogStyle},
    grpc::{tls, trust::AuthorityMaterial},
    model::{Clock, Identity, InstanceRow, MaxStaleness, Origin, ReplicaName, SystemClock, VaultName},
    observe::{logging, metrics, trace::Trace},
    service::{Caller, ChangeOptions, InForce, NewInstance, NewVault, Problem, Service, Traffic, initialise},
    store::Store,
};

mod azure;
mod certificates;
mod env;
mod overrides;
mod place;
mod token;

pub(super) use env::quoted;
pub(super) use place::Place;
pub(super) use token::{module as softhsm, write_configuration as write_softhsm_configuration, write_pin};

/// Who the development certificate says its owner is: the first administrator.
const DEVELOPER: &str = "spiffe://dev.strongroom.invalid/developer";
/// The vault that is made.
const VAULT: &str = "dev";
/// How long the service may take to become ready.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Serves until SIGTERM or SIGINT.
pub(super) fn run(args: DevArgs) -> anyhow::Result<ExitCode> {
    if !args.identity_listen.ip().is_loopback() {
        return Err(Failure::new(format!(
            "--identity-listen {} can be reached by other machines",
            args.identity_listen
        ))
        .hint("tokens are handed out in the clear there: use a loopback address")
        .into());
    }
    let azure = args.azure_listen.map(|address| ("--azure-listen", address));
    let faces = [("--listen", args.listen), ("--metrics-listen", args.metrics_listen)];
    for (flag, address) in faces.into_iter().chain(azure) {
        if !args.allow_non_loopback && !address.ip().is_loopback() {
            return Err(Failure::new(format!("{flag} {address} can be reached by other machines"))
                .hint("the keys of a development token are not protected: use a loopback address")
                .hint("if it is meant, say --allow-non-loopback")
                .into());
        }
    }
    compose::runtime()?.block_on(dev(args))?;
    Ok(ExitCode::SUCCESS)
}

async fn dev(args: DevArgs) -> anyhow::Result<()> {
    logging::start(LogStyle { level: tracing::level_filters::LevelFilter::INFO, format: LogFormat::Text });
    compose::raise_limits();
    let mut ending = Ending::listen()?;
    let figures = metrics::install()?;
    let place = Arc::new(Place::take(&args.data_dir)?);
    let opening = async {
        let config = config(&args, &place)?;
        let profile = overrides::apply(config.hsm.profile(compose::program()?), &args)?;
        let store = prepared(&place, &config).await?;
        let instance = compose::instance(&store).await?;
        let instance = instance.filter(|instance| instance.development).ok_or_else(not_for_development)?;
        let credentials = credentials::read(&config.server)?;
        let mut config = config;
        config.hsm.lanes.clone_from(&profile.lanes);
        config.hsm.canary_every = profile.canary_every;
        let house = House::open(&config, profile, instance, store).await?;
        Face::open(house, &config, credentials, figures, None).await
    };
    let face = tokio::select! {
        face = opening => face?,
        _ = ending.wait() => return Ok(()),
    };
    face.announce();
    match welcome(&face, &place, args.format.format).await {
        Ok(()) => {
            let renewing = tokio::spawn(azure::renew(Arc::clone(face.service()), Arc::clone(&place), face.addresses()));
            let ended = face.until(&mut ending).await;
            renewing.abort();
            ended
        }
        Err(error) => {
            face.close(false).await?;
            Err(error)
        }
    }
}

/// Waits until everything works, makes the vault, and says how to go on.
async fn welcome(face: &Face, place: &Place, format: Format) -> anyhow::Result<()> {
    face.ready(READY_WITHIN).await?;
    make_vault(face.service()).await?;
    let addresses = face.addresses();
    azure::open(face.service(), place, addresses).await?;
    match format {
        Format::Table => say(place, addresses),
        Format::Json => output::json_line(&DevView {
            endpoint: env::endpoint(addresses.grpc),
            metrics: format!("http://{}", addresses.metrics),
            azure: addresses.azure.map(env::azure_url),
            data_dir: place.path().display().to_string(),
            env: place.env().display().to_string(),
            vault: VAULT.to_owned(),
        }),
    }
}

/// A development server that is ready.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DevView {
    pub(super) endpoint: String,
    pub(super) metrics: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) azure: Option<String>,
    pub(super) data_dir: String,
    pub(super) env: String,
    pub(super) vault: String,
}

/// `ready` is the last of what a script needs: whoever waits for that line has read the addresses.
fn say(place: &Place, addresses: Addresses) -> anyhow::Result<()> {
    let env = quoted(&place.env());
    let azure = addresses.azure.map(|azure| format!("Azure face: {}\n", env::azure_url(azure))).unwrap_or_default();
    output::line(&format!(
        "{azure}metrics, /livez and /readyz: http://{}\n\
         ready: {}\n\
         Everything is in {}. For development only: PINs and keys lie there in files, and there is no recovery key.\n\
         In a second terminal:\n\
         \x20 . {env}\n\
         \x20 strongroom key create hello --type EC --curve P-256\n\
         \x20 strongroom key sign hello --algorithm ES256 --in /bin/ls --out ls.sig --der\n\
         \x20 strongroom key --help\n\
         Ctrl-C ends it; the next start finds everything where it was.",
        addresses.metrics,
        env::endpoint(addresses.grpc),
        place.path().display(),
    ))
}

/// The configuration that the folder stands for.
fn config(args: &DevArgs, place: &Place) -> anyhow::Result<Config> {
    let azure = azure::config(args, place)?;
    certificates::renew(place, args.listen, &azure::names(args), &SystemClock)?;
    Ok(Config {
        azure,
        replica: ReplicaName::only(),
        server: config::Server {
            listen: args.listen,
            certificate: place.tls("server.pem"),
            key: place.tls("server.key"),
            azure_pair: None,
            authorities: vec![config::Authority {
                name: "client_ca".to_owned(),
                file: place.tls("ca.pem"),
                ..config::Authority::default()
            }],
            reload_every: Duration::from_secs(1),
            trusted_proxies: Vec::new(),
            unix: None,
            connections_max: 10_000,
            connection_age_max: Some(Duration::from_secs(3600)),
            connection_grace: Duration::from_secs(30),
            requests_max: 1024,
            deadline_default: Duration::from_secs(10),
            deadline_max: Duration::from_secs(60),
            drain: Duration::from_secs(20),
        },
        metrics: config::Metrics { listen: args.metrics_listen },
        hsm: hsm(place)?,
        store: config::StoreChoice::Sqlite(place.store()),
        audit: config::Audit {
            dir: place.audit(),
            fsync_everything: args.audit == AuditMode::Fsync,
            checkpoint_every: config::CHECKPOINT_EVERY,
            exporters: Vec::new(),
            discard: args.audit == AuditMode::Discard,
        },
        oidc: Vec::new(),
        tokens: config::Tokens::default(),
        log: LogStyle { level: tracing::level_filters::LevelFilter::INFO, format: LogFormat::Text },
        tracing: None,
        quota: crate::service::quota::Allowances::default(),
        webhooks: Vec::new(),
        backup: Some(backup::Place {
            dir: place.backups()?,
            token_dirs: vec![place.tokens()],
            pin_file: place.pin(),
            recovery_key_file: None,
        }),
    })
}

/// The token of the folder, and how its module is used.
fn hsm(place: &Place) -> anyhow::Result<config::Hsm> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Ok(config::Hsm {
        module: token::module()?,
        module_parameters: None,
        environment: BTreeMap::from([("SOFTHSM2_CONF".to_owned(), place.token_conf().display().to_string())]),
        token: TokenName { label: DEVELOPMENT_LABEL.to_owned(), serial: None },
        pin_file: place.pin(),
        state_dir: place.state(),
        recovery_key_file: None,
        sandbox: Sandbox::Strict,
        sync_dirs: vec![place.tokens()],
        lanes: Profile::softhsm_lanes(cores),
        cached_keys_max: 10_000,
        loads_max: 1_000_000,
        canary_every: Duration::from_secs(2),
    })
}

/// How the module is used of a folder that another process has taken and serves from.
pub(super) fn profile(data_dir: &Path) -> anyhow::Result<Profile> {
    Ok(hsm(&Place::seen(data_dir))?.profile(compose::program()?))
}

/// TLS on loopback, with an authority of its own in a folder that is taken until it is dropped.
pub(super) fn tls_alone(folder: &Path) -> anyhow::Result<(Place, tls::Credentials)> {
    let place = Place::take(folder)?;
    certificates::renew(&place, SocketAddr::from(([127, 0, 0, 1], 0)), &[], &SystemClock)?;
    let read = |name: &str| fs::read(place.tls(name));
    let (certificate, key, certificates) = (read("server.pem")?, read("server.key")?, read("ca.pem")?);
    let authorities = [AuthorityMaterial { certificates, ..AuthorityMaterial::default() }];
    let now = SystemClock.now();
    let material = tls::Material { certificate: &certificate, key: &key, web: None, authorities: &authorities, now };
    let credentials = tls::server(&material).map_err(|error| failure("TLS cannot be set up", &error))?;
    Ok((place, credentials))
}

/// The store of a folder whose token and instance are made, now if they were not.
async fn prepared(place: &Place, config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    if place.store().exists() {
        let store = compose::store(&config.store).await?;
        if compose::instance(&store).await?.is_some() {
            place.initialised()?;
            return Ok(store);
        }
        store.close().await;
    }
    if !place.is_initialising() && place.has_token() {
        return Err(Failure::new(format!("{} has a token, and its store is gone", place.path().display()))
            .hint("bring store.sqlite back, with the audit log of the same moment")
            .hint("or begin anew: name another folder, or remove this one; its keys are lost then")
            .into());
    }
    place.begin_anew()?;
    let store = initialise_all(place, config).await?;
    place.initialised()?;
    Ok(store)
}

/// Makes token, hierarchy, store, log and the first administrator.
async fn initialise_all(place: &Place, config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    tracing::info!("making a development token");
    token::make(place)?;
    // Without the faults that a test may have scripted: they are for the service.
    let profile = config.hsm.profile(compose::program()?);
    let hierarchy = hierarchy(&profile, place).await?;
    let store = compose::store(&config.store).await?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let new = NewInstance {
        id: uuid::Uuid::new_v4().into_bytes(),
        development: true,
        token_label: DEVELOPMENT_LABEL.to_owned(),
        recovery_keys: Vec::new(),
        administrator: DEVELOPER.parse()?,
        replica: config.replica.clone(),
    };
    let kept = config::Audit { discard: false, ..config.audit.clone() };
    let (log, _) = compose::log(&kept, &compose::first_log(config, new.id), &clock).await?;
    let pool = compose::pool(profile, hierarchy.service_keys.clone()).await?;
    let made: Result<InstanceRow, _> = initialise(&store, &log, &pool, &hierarchy, new, &*clock).await;
    let closed = compose::close_log(&log, &pool, made.as_ref().ok()).await;
    pool.shutdown(compose::POOL_GRACE).await;
    closed?;
    made.map_err(|error| failure("the instance could not be made", &error))?;
    Ok(store)
}

async fn hierarchy(profile: &Profile, place: &Place) -> anyhow::Result<Hierarchy> {
    let requests =
        vec![Provision::InitToken { so_pin_file: place.so_pin() }, Provision::CreateHierarchy { recovery: Vec::new() }];
    let made = provision(profile, requests).await;
    let made = made.map_err(|error| compose::hsm_failure("the development token could not be made", &error))?;
    made.into_iter()
        .find_map(|answer| if let Provisioned::Hierarchy(hierarchy) = answer { Some(hierarchy) } else { None })
        .ok_or_else(|| Failure::new("the worker did not say what it made").into())
}

/// The first administrator, who makes what belongs to a development server.
fn caller() -> anyhow::Result<Caller> {
    Ok(Caller {
        identity: Arc::new(Identity::alone(DEVELOPER.parse()?)),
        origin: Origin::Local,
        source: "dev".to_owned(),
        request: uuid::Uuid::new_v4().to_string(),
        deadline: Moment::now().after(READY_WITHIN),
        traffic: Traffic::Single,
        in_force: InForce::default(),
        trace: Trace::default(),
    })
}

/// Makes the vault through the service, as its administrator. One that was deleted stays deleted.
async fn make_vault(service: &Arc<Service>) -> anyhow::Result<()> {
    let name: VaultName = VAULT.parse()?;
    let caller = caller()?;
    let failed =
        |error: &crate::service::ServiceError| failure(format!("the vault {VAULT:?} could not be made"), error);
    match service.get_vault(&caller, &name).await {
        Ok(_) => return Ok(()),
        Err(error) if matches!(error.problem, Problem::NotFound { .. }) => {}
        Err(error) => return Err(failed(&error).into()),
    }
    let new = NewVault {
        name,
        tags: crate::model::Tags::default(),
        retention_days: 90,
        purge_protection: false,
        // Everything can be tried here.
        padding_decryption_allowed: true,
        max_staleness: MaxStaleness::default(),
        own_kek: false,
        network: crate::model::NetworkRules::default(),
        authorization: crate::model::VaultAuthorization::Roles,
    };
    match service.create_vault(&caller, new, ChangeOptions::default()).await {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.problem, Problem::Exists { .. } | Problem::Deleted { .. }) => {
            tracing::warn!(vault = VAULT, "the vault is deleted; `strongroom vault` brings it back");
            Ok(())
        }
        Err(error) => Err(failed(&error).into()),
    }
}

fn not_for_development() -> Failure {
    Failure::new("the store in this folder is not one of `strongroom dev`").hint("name another folder with --data-dir")
}

/// Reads a file's text; absent where there is none.
fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// The machine's own name, for a certificate that others are to accept.
fn names(listen: SocketAddr) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if !listen.ip().is_loopback() {
        names.extend(rustix::system::uname().nodename().to_str().ok().map(str::to_owned));
        if !listen.ip().is_unspecified() {
            names.push(listen.ip().to_string());
        }
    }
    names
}
