//! `strongroom store migrate`: the store to another place, or to a database of another kind, while nobody serves.

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{
    compose::{self, failure},
    failure::Failure,
    output::{self, FormatArgs, Rows},
    serve,
};
use crate::{
    config::{Config, StoreChoice},
    model::SystemClock,
    observe::logging,
    service::replicas::log_name,
    store::{
        FillingError, Replica, Store,
        copy::{self, CopyError},
        postgres::PostgresStore,
        sqlite::SqliteStore,
    },
};

pub(super) const AFTER_HELP: &str = "\
Stop every server of the instance first, and start them with the new configuration afterwards: what is changed in the \
old store after the copy is not in the new one. The audit log stays where it is. The old store is not changed; keep it \
until the new one has served.";

/// A replica that gave a sign of life this short a time ago may still serve.
const QUIET: Duration = Duration::from_secs(15);

/// What can be done with a store as a whole.
#[derive(Debug, Subcommand)]
pub(super) enum StoreCommand {
    /// Copy the store into an empty one that another configuration names
    #[command(after_help = AFTER_HELP)]
    Migrate(MigrateArgs),
}

/// What `store migrate` takes.
#[derive(Debug, Args)]
pub(super) struct MigrateArgs {
    /// The configuration (TOML) with the store that is there
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The same configuration with the new store in it
    #[arg(long, value_name = "FILE")]
    to_config: PathBuf,
    /// Take away what an unfinished copy has left in the new store, and begin anew
    #[arg(long)]
    anew: bool,
    #[command(flatten)]
    format: FormatArgs,
}

/// What was copied.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MigratedView {
    /// The old store.
    pub(super) from: String,
    /// The new one.
    pub(super) to: String,
    /// How many rows of each kind.
    pub(super) rows: Vec<TableView>,
}

/// How many rows of a kind were copied.
#[derive(Debug, Serialize)]
pub(super) struct TableView {
    /// Its table.
    pub(super) table: &'static str,
    /// How many.
    pub(super) rows: u64,
}

impl Rows for MigratedView {
    fn head(&self) -> Vec<&'static str> {
        vec!["TABLE", "ROWS"]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        self.rows.iter().map(|row| vec![row.table.to_owned(), row.rows.to_string()]).collect()
    }
}

/// Does it.
pub(super) async fn run(command: StoreCommand) -> anyhow::Result<ExitCode> {
    match command {
        StoreCommand::Migrate(args) => migrate(&args).await,
    }
}

async fn migrate(args: &MigrateArgs) -> anyhow::Result<ExitCode> {
    let warnings = tracing::level_filters::LevelFilter::WARN;
    logging::start(crate::config::LogStyle { level: warnings, format: crate::config::LogFormat::Text });
    let (config, to) = (compose::read(&args.config)?, compose::read(&args.to_config)?);
    fit(&config, &to)?;
    if !compose::is_made(&config.store).await? {
        return Err(Failure::new(format!("there is no store {}", config.store))
            .hint("--config FILE is the configuration that the server was started with")
            .into());
    }
    let source = compose::store(&config.store).await?;
    let instance = compose::instance(&source).await?.ok_or_else(serve::uninitialised)?;
    // Whoever serves has locked it.
    let clock: Arc<dyn crate::model::Clock> = Arc::new(SystemClock);
    let seat = compose::seat(&config, &source).await?;
    let (log, _) = compose::log(&config.audit, &log_name(&instance, &seat), &clock).await?;
    let copied = copied(&*source, &to.store, args.anew).await;
    source.close().await;
    log.close().await.map_err(|error| failure("the log could not be closed", &error))?;
    let rows = copied?.into_iter().map(|(table, rows)| TableView { table, rows }).collect();
    output::show(args.format.format, &MigratedView { from: config.store.to_string(), to: to.store.to_string(), rows })?;
    Ok(ExitCode::SUCCESS)
}

/// Whether the configurations are of one instance with two stores.
fn fit(from: &Config, to: &Config) -> anyhow::Result<()> {
    if from.store.to_string() == to.store.to_string() {
        return Err(Failure::new(format!("both configurations name the store {}", from.store))
            .hint("--to-config FILE is the same configuration with another [store]")
            .into());
    }
    if from.audit.dir != to.audit.dir {
        return Err(Failure::new("the configurations name different audit logs")
            .detail(format!("{} and {}", from.audit.dir.display(), to.audit.dir.display()))
            .hint("a store and its log belong together, and the log does not move: name the same audit.dir")
            .into());
    }
    if from.replica != to.replica {
        return Err(Failure::new("the configurations name different replicas")
            .detail(format!("{} and {}", from.replica, to.replica))
            .hint(format!("a log belongs to a replica: say [replica] name = \"{}\" in both", from.replica))
            .into());
    }
    Ok(())
}

async fn copied(source: &dyn Store, to: &StoreChoice, anew: bool) -> anyhow::Result<Vec<(&'static str, u64)>> {
    if source.is_shared() {
        nobody_serves(source).await?;
    }
    let target = target(to).await?;
    let copied = copy::copy(source, &*target, anew).await;
    target.close().await;
    copied.map_err(|error| refused(to, &error).into())
}

/// Other replicas have logs of their own, which are not locked here.
async fn nobody_serves(source: &dyn Store) -> anyhow::Result<()> {
    let replicas = source.replicas().await.map_err(|error| failure("the replicas are not known", &error))?;
    // One that was stopped in order has said so; one that was killed is silent.
    let serves = |replica: &&Replica| {
        let is_closed = replica.row.unchecked().closed;
        !is_closed && replica.beat.as_ref().is_some_and(|(_, age)| *age < QUIET)
    };
    let serving = replicas.iter().find(serves);
    match serving {
        None => Ok(()),
        Some(replica) => Err(Failure::new(format!("the replica {} serves", replica.row.unchecked().name))
            .hint("stop every replica, and wait 15 seconds after the last has stopped")
            .into()),
    }
}

async fn target(choice: &StoreChoice) -> anyhow::Result<Arc<dyn Store>> {
    let opened: Result<Arc<dyn Store>, _> = match choice {
        StoreChoice::Sqlite(path) => SqliteStore::open_unfinished(path).await.map(|store| Arc::new(store) as _),
        StoreChoice::Postgres(settings) => {
            PostgresStore::open_unfinished(settings.clone()).await.map(|store| Arc::new(store) as _)
        }
    };
    Ok(opened.map_err(|error| failure(format!("the new store {choice} cannot be opened"), &error))?)
}

fn refused(to: &StoreChoice, error: &CopyError) -> Failure {
    let shown = failure(format!("nothing usable is in the new store {to}"), error);
    match error {
        CopyError::Target(FillingError::NotEmpty { .. }) => {
            failure(format!("the new store {to} is in use"), error).hint("name a store that is not there yet")
        }
        CopyError::Target(FillingError::Unfinished) => {
            failure(format!("the new store {to} has half a copy"), error).hint("with --anew it is taken away first")
        }
        CopyError::Rows { .. } => shown
            .hint("somebody changed the old store by hand, or a disk did: `strongroom doctor --config FILE`")
            .hint("the old store is as it was"),
        _ => shown.hint("the old store is as it was; try again with --anew"),
    }
}
