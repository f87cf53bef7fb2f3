//! `backup restore`: a backup into an empty store and an empty audit log.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use clap::Args;
use serde::Serialize;

use super::verify::said;
use crate::{
    audit::{Durability, Kind, Log, Outcome, Record},
    backup::{Manifest, Opened, RESTORE, restore as files, restore_token},
    cli::{
        compose::{self, failure},
        failure::Failure,
        output::{self, Format, FormatArgs},
    },
    config::{Config, LogFormat, LogStyle, StoreChoice},
    model::{Clock, SystemClock, Timestamp},
    observe::logging,
    store::{FillingError, Store, copy, copy::CopyError, postgres::PostgresStore, sqlite::SqliteStore},
};

pub(super) const AFTER_HELP: &str = "\
The backup is verified first. The store must be empty and audit.dir missing or empty; what an interrupted run has left is \
begun anew by the same command. Afterwards: `strongroom serve` where the token of the backup is there; `strongroom recover` \
first, onto a fresh token and with a recovery key, where it is lost.
What was changed since the backup was made is gone: rights that were revoked are back, keys that were purged too. The audit \
log says so (instance.restore), and the first start raises the counters of AES-GCM encryptions.";

/// What `backup restore` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct RestoreArgs {
    /// The backup's folder
    #[arg(value_name = "DIR")]
    backup: PathBuf,
    /// The configuration (TOML), naming the store and the audit log that are to be filled
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Put the token's files back too, into the folders of hsm.sync_dirs, which must be missing or empty
    #[arg(long)]
    with_token: bool,
    #[command(flatten)]
    format: FormatArgs,
}

/// What was put where.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct RestoredView {
    /// The backup's id.
    pub(in crate::cli) backup: String,
    /// When it was made.
    pub(in crate::cli) create_time: String,
    /// The instance's id.
    pub(in crate::cli) instance: String,
    /// The store that was filled.
    pub(in crate::cli) store: String,
    /// The log's folder.
    pub(in crate::cli) audit_dir: String,
    /// How many records it has.
    pub(in crate::cli) log_records: String,
    /// The serial number of the token that the store belongs to.
    pub(in crate::cli) token_serial: String,
    /// Whether the token's files were put back.
    pub(in crate::cli) with_token: bool,
}

impl RestoredView {
    fn text(&self) -> String {
        let Self { backup, create_time, instance, store, audit_dir, log_records, token_serial, .. } = self;
        let token = if self.with_token { "The token's files are back." } else { "The token was left alone." };
        format!(
            "The backup {backup} of {create_time} (instance {instance}) is in {store} and {audit_dir} ({log_records} audit records). {token}\n\
             With the token of serial {token_serial} there: strongroom serve --config FILE\n\
             Without it, onto a fresh token: strongroom recover --config FILE --recovery-key-private FILE, then serve\n\
             Then take away what came back and should not have: rights that were revoked since (strongroom access list), \
             keys that were purged since."
        )
    }
}

pub(super) fn run(args: &RestoreArgs) -> anyhow::Result<ExitCode> {
    logging::start(LogStyle { level: tracing::level_filters::LevelFilter::WARN, format: LogFormat::Text });
    let config = compose::prepare(&args.config)?;
    let restored = compose::runtime()?.block_on(async {
        let opened = verified(&args.backup).await?;
        let restored = restore(&args.backup, &opened, &config, args.with_token.into()).await;
        opened.close().await;
        restored
    })?;
    match args.format.format {
        Format::Json => output::json(&restored)?,
        Format::Table => output::line(&restored.text())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether the token's files are put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Files,
    LeftAlone,
}

impl From<bool> for Token {
    fn from(with: bool) -> Self {
        if with { Self::Files } else { Self::LeftAlone }
    }
}

/// A backup in which nothing is wrong.
pub(super) async fn verified(backup: &Path) -> anyhow::Result<Opened> {
    let hint = "strongroom backup verify DIR says all of it; take another backup";
    let opened = Opened::open(backup)
        .await
        .map_err(|error| Failure::new(format!("{}: {}", backup.display(), said(&error))).hint(hint))?;
    if opened.faults.is_empty() {
        return Ok(opened);
    }
    let shown = Failure::new(format!("the backup {} is damaged", backup.display()));
    let shown = opened.faults.iter().fold(shown, |shown, fault| shown.detail(said(fault)));
    opened.close().await;
    Err(shown.hint(hint).into())
}

/// Fills log and store.
pub(super) async fn restore(
    backup: &Path,
    opened: &Opened,
    config: &Config,
    token: Token,
) -> anyhow::Result<RestoredView> {
    let manifest = &opened.manifest;
    fit(manifest, config)?;
    let target = target(&config.store).await?;
    let filled = fill(backup, opened, config, &*target, token).await;
    target.close().await;
    filled?;
    files::unmark(&config.audit.dir).map_err(|error| failure("the restore could not be ended", &error))?;
    let instance = opened.instance.as_ref().map(|row| row.token_serial.clone()).unwrap_or_default();
    Ok(RestoredView {
        backup: manifest.id.clone(),
        create_time: Timestamp(manifest.created).to_string(),
        instance: manifest.instance.clone(),
        store: config.store.to_string(),
        audit_dir: config.audit.dir.display().to_string(),
        log_records: manifest.log.size.to_string(),
        token_serial: instance,
        with_token: token == Token::Files,
    })
}

/// The log belongs to a replica.
fn fit(manifest: &Manifest, config: &Config) -> anyhow::Result<()> {
    if manifest.replica == config.replica.to_string() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "the backup was made by the replica {}, and the configuration names {}",
        manifest.replica, config.replica
    ))
    .hint(format!("a log belongs to a replica: say [replica] name = \"{}\"", manifest.replica))
    .into())
}

async fn target(choice: &StoreChoice) -> anyhow::Result<Arc<dyn Store>> {
    let opened: Result<Arc<dyn Store>, _> = match choice {
        StoreChoice::Sqlite(path) => SqliteStore::open_unfinished(path).await.map(|store| Arc::new(store) as _),
        StoreChoice::Postgres(settings) => {
            PostgresStore::open_unfinished(settings.clone()).await.map(|store| Arc::new(store) as _)
        }
    };
    Ok(opened.map_err(|error| failure(format!("the store {choice} cannot be opened"), &error))?)
}

async fn fill(backup: &Path, opened: &Opened, config: &Config, target: &dyn Store, token: Token) -> anyhow::Result<()> {
    let (manifest, dir) = (&opened.manifest, &config.audit.dir);
    let source = opened.store.as_ref().ok_or_else(|| Failure::new("the backup has no store"))?;
    // Only what this restore has begun is ever taken away.
    let is_begun = files::is_marked(dir, manifest).map_err(|error| in_use(dir, &error))?;
    if !is_begun {
        is_empty(target, &config.store).await?;
    }
    if token == Token::Files && !is_begun {
        restore_token(backup, manifest, &config.hsm.sync_dirs).map_err(|error| {
            failure("the token's files cannot be put back", &error)
                .hint("hsm.sync_dirs names their folders, which must be missing or empty")
        })?;
    }
    let (from, to, said) = (backup.to_owned(), dir.clone(), manifest.clone());
    let put = tokio::task::spawn_blocking(move || files::put_log(&from, &said, &to)).await?;
    put.map_err(|error| in_use(dir, &error))?;
    record(opened, config).await?;
    match copy::copy(source, target, is_begun).await {
        Ok(_) => Ok(()),
        // An earlier run had filled it, and only the mark was left.
        Err(CopyError::Target(FillingError::NotEmpty { .. })) if is_begun && is_same(source, target).await => Ok(()),
        Err(error) => Err(unfilled(&config.store, &error).into()),
    }
}

/// Whether a store holds what another does.
async fn is_same(source: &dyn Store, target: &dyn Store) -> bool {
    match (source.heads().await, target.heads().await) {
        (Ok(source), Ok(heads)) => source == heads && copy::check_heads(target, &heads).await.is_ok(),
        _ => false,
    }
}

/// Whether nothing is in the store: before the log is put in place.
async fn is_empty(target: &dyn Store, choice: &StoreChoice) -> anyhow::Result<()> {
    let counts =
        target.counts().await.map_err(|error| failure(format!("the store {choice} cannot be read"), &error))?;
    match counts.iter().find(|(_, rows)| *rows > 0) {
        None => Ok(()),
        Some((table, _)) => Err(unfilled(choice, &CopyError::Target(FillingError::NotEmpty { table })).into()),
    }
}

fn in_use(dir: &Path, error: &std::io::Error) -> Failure {
    failure(format!("the audit log cannot be put into {}", dir.display()), error).hint(
        "audit.dir must be missing or empty: a restore never takes a log's place; move the old one away, and keep it",
    )
}

fn unfilled(choice: &StoreChoice, error: &CopyError) -> Failure {
    match error {
        CopyError::Target(FillingError::NotEmpty { .. }) => failure(format!("the store {choice} is in use"), error)
            .hint("a restore never takes a store's place; move the old one away, and keep it"),
        CopyError::Target(FillingError::Unfinished) => {
            failure(format!("the store {choice} has half a copy of something else"), error).hint("name an empty one")
        }
        _ => failure(format!("nothing usable is in the store {choice}"), error).hint("the same command begins anew"),
    }
}

/// Puts the restore on record, before there is anything to serve. The first start ends the intent.
async fn record(opened: &Opened, config: &Config) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let manifest = &opened.manifest;
    let (log, recovered) = compose::log(&config.audit, &manifest.log.name, &clock).await?;
    let detail =
        format!("backup {} of {}; manifest: sha256:{}", manifest.id, Timestamp(manifest.created), opened.digest);
    let same = |record: &Record| record.operation == RESTORE && record.detail.as_deref() == Some(&detail);
    let intent = Record {
        principal: Some(format!("unix:uid:{}", rustix::process::getuid().as_raw())),
        source: Some("console".to_owned()),
        resource: Some(format!("instances/{}", manifest.instance)),
        detail: Some(detail.clone()),
        ..Record::new(clock.now(), Kind::Intent, RESTORE, Outcome::Pending)
    };
    let is_there = recovered.open_intents.iter().any(|(_, record)| same(record));
    let recorded = if is_there { Ok(()) } else { append(&log, intent).await };
    let closed = log.close().await;
    recorded.and(closed).map_err(|error| failure("the restore cannot be recorded", &error).into())
}

async fn append(log: &Log, intent: Record) -> Result<(), crate::audit::LogError> {
    log.append_reserved(intent, Durability::Fsync).await.map(drop)
}
