//! `strongroom audit key`: the key that the log's checkpoints are verified with.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::place::{self, InstanceArgs};
use crate::cli::{
    failure::Failure,
    output::{self, FormatArgs, Rows},
};

/// What `audit key` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct KeyArgs {
    #[command(flatten)]
    instance: InstanceArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// The key of a log.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct LogKeyView {
    /// The log's name in its checkpoints.
    pub(in crate::cli) origin: String,
    /// The verifier key.
    pub(in crate::cli) key: String,
}

/// The key and nothing else, so that it can go into a file.
impl Rows for LogKeyView {
    fn head(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        vec![vec![self.key.clone()]]
    }
}

/// Shows it.
pub(super) async fn run(args: &KeyArgs) -> anyhow::Result<ExitCode> {
    let place = args.instance.place()?;
    let store = place.store.ok_or_else(|| Failure::new("no store is named"))?;
    let key = place::key(&store).await?;
    output::show(args.format.format, &LogKeyView { origin: key.name().to_owned(), key: key.to_string() })?;
    Ok(ExitCode::SUCCESS)
}
