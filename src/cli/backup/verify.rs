//! `backup verify`: everything that can be said of a backup without the HSM, and with a configuration, by it.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use strongroom_hsm::{Pool, protocol::Moment};

use crate::{
    backup::{BackupError, Opened},
    cli::{
        check::Checks,
        compose::{self, failure},
        output::{self, FormatArgs},
    },
    config::{LogFormat, LogStyle},
    model::{InstanceRow, Row, Timestamp, VaultName, VaultRow},
    observe::logging,
    store::{Sealed, Store},
};

pub(super) const AFTER_HELP: &str = "\
Exit code 1 when something is wrong; each thing has its own line. The backup is not changed, no server needs to run. With \
--config every row's seal is checked by the HSM too: its token must be that of the backup, and no server may use the \
configuration's state folder meanwhile (name another hsm.state_dir in a copy of it).";

/// Rows whose seals are checked at once.
const PAGE: u32 = 500;
/// How long the HSM may take for that many.
const WITHIN: std::time::Duration = std::time::Duration::from_secs(60);

/// What `backup verify` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct VerifyArgs {
    /// The backup's folder
    #[arg(value_name = "DIR")]
    backup: PathBuf,
    /// Check the seals too, by the HSM that this configuration (TOML) names
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    format: FormatArgs,
}

pub(super) fn run(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    logging::start(LogStyle { level: tracing::level_filters::LevelFilter::ERROR, format: LogFormat::Text });
    let checks = compose::runtime()?.block_on(examine(args))?;
    output::show(args.format.format, &checks)?;
    Ok(checks.exit())
}

/// A fault with its causes, on one line.
pub(super) fn said(fault: &BackupError) -> String {
    let mut text = fault.to_string();
    let mut next = std::error::Error::source(fault);
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

async fn examine(args: &VerifyArgs) -> anyhow::Result<Checks> {
    let mut checks = Checks::default();
    let opened = match Opened::open(&args.backup).await {
        Ok(opened) => opened,
        Err(error) => {
            checks.wrong("backup", said(&error));
            return Ok(checks);
        }
    };
    let manifest = &opened.manifest;
    checks.ok(
        "backup",
        format!(
            "{} of {}, instance {}, by release {}",
            manifest.id,
            Timestamp(manifest.created),
            manifest.instance,
            manifest.release
        ),
    );
    checks.ok(
        "manifest",
        format!("sha256:{}; the instance's audit log has it with backups.create: compare", opened.digest),
    );
    for fault in &opened.faults {
        checks.wrong(area(fault), said(fault));
    }
    if opened.faults.is_empty() {
        checks.ok("files", format!("{} files, {} bytes", manifest.files.len(), manifest.bytes()));
        checks.ok("store", format!("{} scopes, each with the rows that its head counts", manifest.heads.len()));
        checks.ok("audit log", format!("{} records, all of them under its checkpoint", manifest.log.size));
        let token = if manifest.token.is_some() { "its files are in it" } else { "not in it" };
        checks.note("token", token);
        checks.note("other replicas", format!("only the audit log of {} is in it", manifest.replica));
    }
    if let Some(config) = &args.config {
        match (&opened.store, &opened.instance) {
            (Some(store), Some(instance)) if opened.faults.is_empty() => {
                seals(&mut checks, config, store, instance).await?;
            }
            _ => checks.wrong("seals", "not checked, for what is wrong above"),
        }
    }
    opened.close().await;
    Ok(checks)
}

const fn area(fault: &BackupError) -> &'static str {
    match fault {
        BackupError::Manifest(_) => "backup",
        BackupError::Missing(_)
        | BackupError::Length { .. }
        | BackupError::Changed(_)
        | BackupError::Stranger(_)
        | BackupError::Read { .. } => "files",
        BackupError::Damaged(_)
        | BackupError::Store(_)
        | BackupError::Rows(_)
        | BackupError::OtherStore { .. }
        | BackupError::OtherMoment { .. }
        | BackupError::OlderStore { .. } => "store",
        BackupError::Log(_)
        | BackupError::Key(_)
        | BackupError::OtherLog { .. }
        | BackupError::OtherSize { .. }
        | BackupError::OtherRoot => "audit log",
    }
}

async fn seals(
    checks: &mut Checks,
    config: &std::path::Path,
    store: &dyn Store,
    instance: &InstanceRow,
) -> anyhow::Result<()> {
    let config = compose::load(config)?;
    let pool = match compose::pool(config.hsm.profile(compose::program()?), instance.worker_keys()).await {
        Ok(pool) => pool,
        Err(error) => {
            checks.wrong("seals", format!("the HSM does not take the backup's keys: {error:#}").replace('\n', "; "));
            return Ok(());
        }
    };
    let serial = pool.ready().serial;
    if serial != instance.token_serial {
        let why = format!("the backup belongs to the token with serial {}, not to {serial}", instance.token_serial);
        checks.wrong("seals", why);
    } else {
        let sealing = Sealing { pool: &pool, store, checked: 0, wrong: Vec::new() };
        match sealing.all().await {
            Ok(found) if found.wrong.is_empty() => {
                checks.ok("seals", format!("{} rows, all sealed by this HSM", found.checked))
            }
            Ok(found) => {
                found.wrong.iter().for_each(|row| checks.wrong("seals", format!("the seal of {row} is wrong")))
            }
            Err(error) => checks.wrong("seals", failure("they could not be checked", error.as_ref()).to_string()),
        }
    }
    pool.shutdown(compose::POOL_GRACE).await;
    Ok(())
}

struct Sealing<'a> {
    pool: &'a Pool,
    store: &'a dyn Store,
    checked: usize,
    wrong: Vec<String>,
}

type Trouble = Box<dyn std::error::Error + Send + Sync>;

impl Sealing<'_> {
    async fn all(mut self) -> Result<Self, Trouble> {
        let store = self.store;
        self.check("the instance", store.instance().await?.into_iter().collect()).await?;
        self.check("a head", store.heads().await?).await?;
        self.check("a role assignment", store.assignments().await?).await?;
        self.check("a role", store.role_definitions().await?).await?;
        self.check("an access policy", store.access_policies().await?).await?;
        self.check("a token", store.tokens().await?).await?;
        self.check("an issuer's key", store.issuer_keys().await?).await?;
        let mut after = None;
        loop {
            let vaults = store.vaults(after.as_ref(), PAGE, true).await?;
            let Some(last) = vaults.last() else { return Ok(self) };
            after = Some(last.unchecked().name.clone());
            for vault in &vaults {
                self.keys(&vault.unchecked().name).await?;
                self.known(vault.unchecked()).await?;
            }
            self.check("a vault", vaults).await?;
        }
    }

    async fn known(&mut self, vault: &VaultRow) -> Result<(), Trouble> {
        let mut after = None;
        loop {
            let known = self.store.all_known(vault.id, after, PAGE).await?;
            let Some(last) = known.last() else { return Ok(()) };
            after = Some(last.unchecked().id);
            self.check(&format!("what is known of a key of vaults/{}", vault.name), known).await?;
        }
    }

    async fn keys(&mut self, vault: &VaultName) -> Result<(), Trouble> {
        let (store, mut after) = (self.store, None);
        loop {
            let keys = store.keys(vault, after.as_ref(), PAGE, true).await?;
            let Some(last) = keys.last() else { return Ok(()) };
            after = Some(last.unchecked().name.clone());
            for key in &keys {
                let (name, mut before) = (&key.unchecked().name, None);
                loop {
                    let versions = store.versions(vault, name, before, PAGE).await?;
                    let Some(last) = versions.last() else { break };
                    before = Some(last.unchecked().ordinal);
                    let mut usages = Vec::new();
                    for version in &versions {
                        usages.extend(store.usage(version.unchecked().version).await?);
                    }
                    self.check(&format!("a version of vaults/{vault}/keys/{name}"), versions).await?;
                    self.check(&format!("a counter of vaults/{vault}/keys/{name}"), usages).await?;
                }
            }
            self.check(&format!("a key of vaults/{vault}"), keys).await?;
        }
    }

    async fn check<R: Row>(&mut self, what: &str, rows: Vec<Sealed<R>>) -> Result<(), Trouble> {
        for rows in rows.chunks(PAGE as usize) {
            let pairs = rows.iter().map(|row| (row.unchecked().canonical(), *row.seal())).collect();
            let verdicts = self.pool.check_seals(pairs, Moment::now().after(WITHIN)).await?;
            self.checked += verdicts.len();
            let wrong = verdicts.iter().filter(|right| !**right).count();
            if wrong > 0 {
                self.wrong.push(format!("{what} ({wrong} of {})", rows.len()));
            }
        }
        Ok(())
    }
}
