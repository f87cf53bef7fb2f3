//! Where a log is, and the store that knows its key.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::{
    audit::tlog::VerifierKey,
    cli::{
        compose::{self, failure},
        failure::Failure,
    },
    config::StoreChoice,
    model::ReplicaName,
    service::{
        checkpoints,
        replicas::{Seat, log_name},
    },
};

/// The store in the folder of `strongroom dev`, and in that of the sample configuration.
const STORES: [&str; 2] = ["store.sqlite", "strongroom.db"];

/// The log in the same folders.
const LOG: &str = "audit";

/// A log with its store, by the configuration or the folder of both.
#[derive(Debug, Args)]
pub(super) struct InstanceArgs {
    /// The configuration (TOML) of the server
    #[arg(long, value_name = "FILE", required_unless_present = "data_dir", conflicts_with = "data_dir")]
    config: Option<PathBuf>,
    /// The folder of store and log: that of `strongroom dev`, or a copy of both (store.sqlite or strongroom.db, audit/)
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// The same, or neither: then a server is asked.
#[derive(Debug, Args)]
pub(super) struct InstanceOrServerArgs {
    /// The configuration (TOML) of the server, whose store is read [default: the server is asked]
    #[arg(long, value_name = "FILE", conflicts_with = "data_dir")]
    config: Option<PathBuf>,
    /// The folder of store and log: that of `strongroom dev`, or a copy of both (store.sqlite or strongroom.db, audit/)
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// A log, with or without its store.
#[derive(Debug, Args)]
#[group(id = "place", required = true, multiple = false)]
pub(super) struct PlaceArgs {
    /// The configuration (TOML) of the server
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder of store and log: that of `strongroom dev`, or a copy of both (store.sqlite or strongroom.db, audit/)
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The log's folder alone, or a copy of it
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
}

/// Where things are.
#[derive(Debug)]
pub(super) struct Place {
    /// The log's folder.
    pub(super) log: PathBuf,
    /// The database, if the log was not named alone.
    pub(super) store: Option<StoreChoice>,
    /// Whose log it is.
    pub(super) replica: ReplicaName,
}

impl InstanceArgs {
    /// Where they are.
    pub(super) fn place(&self) -> anyhow::Result<Place> {
        of(self.config.as_deref(), self.data_dir.as_deref())
    }
}

impl InstanceOrServerArgs {
    /// Where they are; nothing if a server is meant.
    pub(super) fn place(&self) -> anyhow::Result<Option<Place>> {
        match (&self.config, &self.data_dir) {
            (None, None) => Ok(None),
            (config, data_dir) => of(config.as_deref(), data_dir.as_deref()).map(Some),
        }
    }
}

impl PlaceArgs {
    /// Where they are.
    pub(super) fn place(&self) -> anyhow::Result<Place> {
        match &self.log {
            Some(log) => Ok(Place { log: log.clone(), store: None, replica: ReplicaName::only() }),
            None => of(self.config.as_deref(), self.data_dir.as_deref()),
        }
    }
}

fn of(config: Option<&Path>, data_dir: Option<&Path>) -> anyhow::Result<Place> {
    if let Some(dir) = data_dir {
        let stores = STORES.map(|name| dir.join(name));
        let store = stores.iter().find(|path| path.exists()).ok_or_else(|| {
            Failure::new(format!("{} has neither {} nor {}", dir.display(), STORES[0], STORES[1]))
                .hint("--log DIR names the folder of a log alone; then --key says which key signs it")
        })?;
        let store = Some(StoreChoice::Sqlite(store.clone()));
        return Ok(Place { log: dir.join(LOG), store, replica: ReplicaName::only() });
    }
    let config = config.ok_or_else(|| Failure::new("no log is named").hint("--config FILE, or --data-dir DIR"))?;
    let config = compose::read(config)?;
    Ok(Place { log: config.audit.dir, store: Some(config.store), replica: config.replica })
}

/// The log's keys as the store has them: the one that signs, then those before. Whoever could write the store could have put others there.
pub(super) async fn keys(store: &StoreChoice, replica: &ReplicaName) -> anyhow::Result<Vec<VerifierKey>> {
    if !compose::is_made(store).await? {
        return Err(Failure::new(format!("there is no store {store}"))
            .hint("`strongroom init` makes it; for a log alone: --log DIR --key VKEY")
            .into());
    }
    let opened = compose::store(store).await?;
    let (found, seat) = (compose::instance(&opened).await, Seat::find(&*opened, replica).await);
    opened.close().await;
    let seat = seat.map_err(|error| failure("the store does not say which replicas there are", &error))?;
    let instance = found?.ok_or_else(|| {
        Failure::new(format!("the store {store} has no instance")).hint("`strongroom init` makes one")
    })?;
    Ok(checkpoints::keys(&instance, &log_name(&instance, &seat))
        .map_err(|error| failure("the store does not have the log's key", &error))?)
}
