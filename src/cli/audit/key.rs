//! `strongroom audit key`: the key that the log's checkpoints are verified with.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use strongroom_proto::v1::AuditFilter;

use super::{
    filter::action,
    place::{self, InstanceOrServerArgs},
};
use crate::{
    audit::{
        handover,
        tlog::{Checkpoint, SignedNote, VerifierKey},
    },
    cli::{
        compose::failure,
        connection::ConnectionArgs,
        failure::Failure,
        output::{self, FormatArgs, Rows},
    },
};

pub(super) const AFTER_HELP: &str = "\
Asked of the server, it is what the server says of itself: good to look at, and to hold against a key that was read where \
the server is (--config FILE). An auditor or a witness keeps one that was given to him that way.";

/// What `audit key` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct KeyArgs {
    #[command(flatten)]
    instance: InstanceOrServerArgs,
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
    /// Those that have signed before, newest first, as far as they are known.
    pub(in crate::cli) former: Vec<FormerKeyView>,
}

/// A key that has signed before.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct FormerKeyView {
    /// The verifier key.
    pub(in crate::cli) key: String,
    /// So many records are under it: then it handed over. Absent where it has not said so itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) until: Option<String>,
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
pub(super) async fn run(connection: &ConnectionArgs, args: &KeyArgs) -> anyhow::Result<ExitCode> {
    let (keys, handovers) = match args.instance.place()? {
        Some(place) => {
            let store = place.store.ok_or_else(|| Failure::new("no store is named"))?;
            let keys = place::keys(&store, &place.replica).await?;
            let notes = handover::notes(&place.log).map_err(|error| failure("the log cannot be read", &error))?;
            let handovers = handover::follow(&keys, &notes);
            (keys, handovers)
        }
        None => (vec![asked(connection).await?], Vec::new()),
    };
    let (key, former) = keys.split_first().ok_or_else(|| Failure::new("the store has no key of the log"))?;
    let until = |key: &VerifierKey| handovers.iter().find(|(_, handover)| handover.from == *key);
    let former = former.iter().map(|key| FormerKeyView {
        key: key.to_string(),
        until: until(key).map(|(_, handover)| handover.checkpoint.size().to_string()),
    });
    let view = LogKeyView { origin: key.name().to_owned(), key: key.to_string(), former: former.collect() };
    output::show(args.format.format, &view)?;
    Ok(ExitCode::SUCCESS)
}

/// The key that the server's newest checkpoint is signed with, as the server says.
async fn asked(connection: &ConnectionArgs) -> anyhow::Result<VerifierKey> {
    let client = connection.connect().await?;
    let action = action("ask for the log's key", &AuditFilter::default());
    let answer = client.call(&action, client.api.get_audit_checkpoint(0)).await?;
    let unfit = |error: &dyn std::error::Error| failure("the server's answer shows no key", error);
    let note = SignedNote::parse(answer.note.as_bytes()).map_err(|error| unfit(&error))?;
    for key in &answer.verifier_keys {
        let key: VerifierKey = key.parse().map_err(|error| unfit(&error))?;
        if Checkpoint::open(&note, std::slice::from_ref(&key)).is_ok() {
            return Ok(key);
        }
    }
    Err(Failure::new("the server names no key that its own checkpoint is signed with")
        .hint("keep what it answered (`strongroom audit checkpoint`), and tell whoever runs it")
        .into())
}
