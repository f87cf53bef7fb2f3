//! `strongroom init` and `strongroom recover`: what is done once, before the first `serve`.
//!
//! Each goes in steps, and what a step has made is written to the state folder before the next one: when
//! it is interrupted, the same command goes on from there. What the file holds is wrapped by the HSM. Only
//! a crash in the moment between the HSM's making its keys and the writing of the file leaves a token that
//! nothing knows; the next run says so, and that it is to be initialised anew.

use std::{path::Path, process::ExitCode, sync::Arc};

use serde_bytes::ByteBuf;
use strongroom_hsm::{
    Pool, Profile, StartError,
    pool::{Provisioned, provision},
    protocol::{Fault, Hierarchy, Provision, ServiceKeys},
};

use super::{
    compose::{self, failure},
    credentials,
    failure::Failure,
    operate::{InitArgs, RecoverArgs},
    output::{self, Format},
    serve::DEVELOPMENT_LABEL,
};
use crate::{
    audit::Log,
    config::{Config, LogFormat, LogStyle, files},
    grpc::tls,
    model::{Clock, Escrow, InstanceRow, Principal, Stage, SystemClock},
    observe::logging,
    service::{NewInstance, initialise, instance::recovered, replicas::log_name},
    store::Store,
};

mod keys;
mod pending;
mod view;

use keys::RecoveryKey;
pub(super) use keys::{Private, private};
use pending::Pending;
pub(super) use view::{InitialisedView, RecoveredView};

/// A recovery key's public half in PEM, as SubjectPublicKeyInfo (DER).
pub(super) fn recovery_public_key(path: &Path) -> anyhow::Result<Vec<u8>> {
    keys::public(path).map(|key| key.spki)
}

/// Makes token keys, store, log and the first administrator.
pub(super) fn init(args: InitArgs) -> anyhow::Result<ExitCode> {
    let config = compose::prepare(&args.config)?;
    if config.hsm.token.label == DEVELOPMENT_LABEL {
        return Err(Failure::new(format!("the label {DEVELOPMENT_LABEL:?} is for development: `serve` refuses it"))
            .hint("give the token another label (hsm.token.label)")
            .into());
    }
    let administrator = administrator(&config, &args.admin_certificate)?;
    let recovery = args.recovery_key.iter().map(|path| keys::public(path)).collect::<anyhow::Result<Vec<_>>>()?;
    quiet();
    let made = initialise_all(&config, administrator, &recovery, args.so_pin_file.as_deref());
    let made = compose::runtime()?.block_on(made)?;
    match args.format.format {
        Format::Json => output::json(&made)?,
        Format::Table => output::line(&made.text())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Brings root and database onto a fresh token.
pub(super) fn recover(args: RecoverArgs) -> anyhow::Result<ExitCode> {
    let config = compose::prepare(&args.config)?;
    let private = private(&args.recovery_key_private)?;
    quiet();
    let recovered = compose::runtime()?.block_on(recover_all(&config, private, args.so_pin_file.as_deref()))?;
    match args.format.format {
        Format::Json => output::json(&recovered)?,
        Format::Table => output::line(&recovered.text())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Warnings only: what was done is printed at the end.
fn quiet() {
    logging::start(LogStyle { level: tracing::level_filters::LevelFilter::WARN, format: LogFormat::Text });
}

fn administrator(config: &Config, path: &Path) -> anyhow::Result<Principal> {
    let pem = files::read(path).map_err(|error| failure("the administrator's certificate cannot be used", &error))?;
    let certificates = tls::certificates(&pem).ok_or_else(|| {
        Failure::new(format!("{} is not a certificate in PEM", path.display()))
            .hint("it is the client certificate that the administrator will connect with")
    })?;
    let named = credentials::trust(&config.server)?.identify(&certificates, SystemClock.now());
    let named = named.map_err(|error| {
        failure(format!("{} names nobody", path.display()), &error)
            .hint("it is to come from server.client_ca, with the certificates between, as it will be shown when the administrator connects")
    })?;
    Ok(named.principal)
}

/// What both commands work with.
struct Site {
    store: Arc<dyn Store>,
    log: Arc<Log>,
    profile: Profile,
    clock: Arc<dyn Clock>,
}

impl Site {
    async fn open(config: &Config, store: Arc<dyn Store>, log_name: &str) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        // It locks: neither a server nor another such command is at work beside us.
        let (log, _) = compose::log(&config.audit, log_name, &clock).await?;
        Ok(Self { store, log, profile: config.hsm.profile(compose::program()?), clock })
    }

    /// Asks the HSM for a hierarchy; for a token first, if there is a security officer's PIN for it.
    async fn hierarchy(&self, so_pin: Option<&Path>, make: Provision) -> anyhow::Result<Hierarchy> {
        let token = so_pin.map(|so_pin| Provision::InitToken { so_pin_file: so_pin.to_owned() });
        let requests = token.into_iter().chain([make]).collect();
        let made = provision(&self.profile, requests).await.map_err(|error| unprovisioned(&error))?;
        made.into_iter()
            .find_map(|answer| if let Provisioned::Hierarchy(hierarchy) = answer { Some(hierarchy) } else { None })
            .ok_or_else(|| Failure::new("the worker did not say what it made").into())
    }

    async fn pool(&self, hierarchy: &Hierarchy) -> anyhow::Result<Pool> {
        compose::pool(self.profile.clone(), hierarchy.service_keys.clone()).await
    }

    async fn close(self, pool: Pool, instance: Option<&InstanceRow>) -> anyhow::Result<()> {
        let closed = compose::close_log(&self.log, &pool, instance).await;
        pool.shutdown(compose::POOL_GRACE).await;
        closed?;
        self.store.close().await;
        Ok(())
    }
}

/// What a token that could not be provisioned means.
fn unprovisioned(error: &StartError) -> Failure {
    let shown = compose::hsm_failure("the token could not be prepared", error);
    match error {
        StartError::Refused { source: Fault::Setup(_), .. } => shown
            .hint("a token that is missing is made with --so-pin-file; one that is there is used without it")
            .hint("a token that an interrupted run has left keys on, and no file in the state folder, is to be initialised anew by the vendor's tools: nothing depends on those keys"),
        _ => shown,
    }
}

async fn initialise_all(
    config: &Config,
    administrator: Principal,
    recovery: &[RecoveryKey],
    so_pin: Option<&Path>,
) -> anyhow::Result<InitialisedView> {
    let store = compose::store(&config.store).await?;
    let fingerprints: Vec<[u8; 32]> = recovery.iter().map(|key| key.fingerprint).collect();
    let begun = Pending::read(config, pending::INIT)?;
    if let Some(instance) = compose::instance(&store).await? {
        return match begun {
            Some(begun) if begun.instance == instance.id => {
                begun.forget(config, pending::INIT)?;
                InitialisedView::of(config, &instance, None)
            }
            _ => Err(Failure::new(format!("the store {} has an instance already", config.store))
                .hint("`strongroom serve` runs it; another instance needs another store, log and token")
                .into()),
        };
    }
    let mut begun = begun.unwrap_or_else(|| Pending::new(uuid::Uuid::new_v4().into_bytes(), &fingerprints));
    if begun.recovery != fingerprints {
        return Err(Failure::new("an interrupted `init` had other recovery keys")
            .hint(format!("give the same ones, in the same order: {}", begun.shown_recovery()))
            .into());
    }
    begun.write(config, pending::INIT)?;
    let site = Site::open(config, store, &compose::first_log(config, begun.instance)).await?;
    let hierarchy = match &begun.hierarchy {
        Some(hierarchy) => hierarchy.clone(),
        None => {
            let recovery = recovery.iter().map(|key| key.spki.clone().into()).collect();
            let made = site.hierarchy(so_pin, Provision::CreateHierarchy { recovery }).await?;
            begun.hierarchy = Some(made.clone());
            begun.write(config, pending::INIT)?;
            made
        }
    };
    let pool = site.pool(&hierarchy).await?;
    let new = NewInstance {
        id: begun.instance,
        development: false,
        token_label: config.hsm.token.label.clone(),
        recovery_keys: fingerprints,
        administrator: administrator.clone(),
        replica: config.replica.clone(),
    };
    let made = initialise(&site.store, &site.log, &pool, &hierarchy, new, &*site.clock).await;
    site.close(pool, made.as_ref().ok()).await?;
    let instance = made.map_err(|error| {
        failure("the instance could not be made", &error).hint("repeat the same command: it goes on from here")
    })?;
    begun.forget(config, pending::INIT)?;
    InitialisedView::of(config, &instance, Some(&administrator))
}

fn shown_escrow(escrow: &[Escrow]) -> String {
    if escrow.is_empty() {
        return "none: a lost token cannot be brought back".to_owned();
    }
    view::fingerprints(escrow).join(", ")
}

/// Brings the root onto the token that a configuration names; makes the token, where there is a security officer's PIN.
pub(super) async fn recover_all(
    config: &Config,
    private: Private,
    so_pin: Option<&Path>,
) -> anyhow::Result<RecoveredView> {
    let store = compose::store(&config.store).await?;
    let instance = compose::instance(&store).await?.ok_or_else(|| {
        Failure::new(format!("the store {} has no instance to recover", config.store))
            .hint("put the saved store and its audit log in place first")
    })?;
    let escrow = escrow_of(&instance, &private)?;
    let begun = Pending::read(config, pending::RECOVER)?.filter(|begun| begun.instance == instance.id);
    let mut begun = begun.unwrap_or_else(|| Pending::new(instance.id, &[]));
    let seat = compose::seat(config, &store).await?;
    let site = Site::open(config, store, &log_name(&instance, &seat)).await?;
    let hierarchy = match &begun.hierarchy {
        Some(hierarchy) => hierarchy.clone(),
        None => {
            let (service_keys, other) = both_roots(&instance, &private)?;
            let (private, escrow) = (private.pkcs8, escrow.into());
            let recover = Provision::Recover { private, escrow, service_keys, other };
            let made = site.hierarchy(so_pin, recover).await?;
            begun.hierarchy = Some(made.clone());
            begun.write(config, pending::RECOVER)?;
            made
        }
    };
    // Every worker signs with the new canary before it is ready: that the token works is proved here.
    let pool = site.pool(&hierarchy).await?;
    let is_known = instance.service_keys == ServiceKeys { other: None, ..hierarchy.service_keys.clone() };
    let recorded = if instance.token_serial == hierarchy.serial && is_known {
        Ok(instance)
    } else {
        recovered(&site.store, &site.log, &pool, &hierarchy, &*site.clock, seat.ordinal).await
    };
    site.close(pool, recorded.as_ref().ok()).await?;
    let instance =
        recorded.map_err(|error| compose::refused(&error).hint("repeat the same command: it goes on from here"))?;
    begun.forget(config, pending::RECOVER)?;
    Ok(RecoveredView {
        instance: base16ct::lower::encode_string(&instance.id),
        token_label: config.hsm.token.label.clone(),
        token_serial: instance.token_serial,
    })
}

/// The keys of an instance, and the escrow of the root that stands beside its own: what is under that one would be lost
/// without it. One that nothing is under yet is left out.
fn both_roots(instance: &InstanceRow, private: &Private) -> anyhow::Result<(ServiceKeys, Option<ByteBuf>)> {
    let keys = instance.worker_keys();
    let Some(renewal) = instance.renewal.as_ref().filter(|_| keys.other.is_some()) else { return Ok((keys, None)) };
    let mut escrow = renewal.other.escrow.iter();
    match escrow.find(|escrow| escrow.recovery_key == private.fingerprint) {
        Some(escrow) => Ok((keys, Some(escrow.blob.clone().into()))),
        None if renewal.stage == Stage::Prepared => Ok((ServiceKeys { other: None, ..keys }, None)),
        None => Err(Failure::new(
            "that recovery key opens the new root and not the old one, under which there is something still",
        )
        .detail(format!("the old root was wrapped for: {}", shown_escrow(&renewal.other.escrow)))
        .hint("use a recovery key that both were wrapped for; or restore a backup from before the rotation of the root")
        .into()),
    }
}

/// The root under that recovery key.
fn escrow_of(instance: &InstanceRow, private: &Private) -> anyhow::Result<Vec<u8>> {
    let found = instance.escrow.iter().find(|escrow| escrow.recovery_key == private.fingerprint);
    Ok(found.map(|escrow| escrow.blob.clone()).ok_or_else(|| {
        Failure::new("that is not one of the recovery keys of this instance")
            .detail(format!("given: sha256:{}", base16ct::lower::encode_string(&private.fingerprint)))
            .detail(format!("known: {}", shown_escrow(&instance.escrow)))
    })?)
}
