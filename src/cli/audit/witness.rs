//! `strongroom audit witness`: keeps and cosigns the checkpoints of a log, from elsewhere.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use serde::Serialize;

use super::{
    shown::{self, Shown},
    vkey::{self, KeysArg},
    wrong,
};
use crate::{
    audit::witness::{self, Cosigned, Witness, WitnessError, key::WitnessKeyError},
    cli::{
        compose::failure,
        connection::ConnectionArgs,
        failure::Failure,
        output::{self, Format, FormatArgs},
    },
    model::{Clock as _, SystemClock},
};

pub(super) const AFTER_HELP: &str = "\
Run it where whoever runs the log cannot write: another machine, another administrator. DIR keeps the newest checkpoint \
that it has cosigned; give it to `strongroom audit verify --against`, with the witness's key.
A checkpoint that does not continue the one that is kept is never cosigned: both are left in DIR as evidence, and it \
ends with exit code 1, now and at every later start, until somebody has moved the evidence away.";

/// What `audit witness` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct WitnessArgs {
    /// The folder to keep checkpoints in
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// The witness's private key; it is made on the first use
    #[arg(long, value_name = "FILE")]
    witness_key: PathBuf,
    /// The witness's name, for a new key: mostly a host and a path, like witness.example.org/one
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The log's key, or a file of some
    #[arg(long, value_name = "VKEY|FILE", required = true)]
    log_key: Vec<KeysArg>,
    /// The log's folder, or a copy that is kept up to date [default: the server is asked]
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
    /// Go on, and look again so often [default: look once]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    every: Option<u64>,
    #[command(flatten)]
    format: FormatArgs,
}

/// A checkpoint that was cosigned.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct CosignedView {
    /// Which log.
    pub(in crate::cli) origin: String,
    /// The size of its tree.
    pub(in crate::cli) size: String,
    /// When.
    pub(in crate::cli) time: String,
    /// The file with the cosigned note.
    pub(in crate::cli) file: String,
    /// The verifier key of the witness.
    pub(in crate::cli) key: String,
    /// Whether nothing is known of what was before.
    pub(in crate::cli) first: bool,
}

impl CosignedView {
    fn text(&self) -> String {
        let Self { origin, size, time, file, first, .. } = self;
        let first = if *first { " (the first: nothing is known of what was before)" } else { "" };
        format!("{time}  {origin}  {size} records  {file}{first}")
    }
}

/// Looks once, or until it is ended.
pub(super) async fn run(connection: &ConnectionArgs, args: &WitnessArgs) -> anyhow::Result<ExitCode> {
    let cosigner = witness::key::take(&args.witness_key, args.name.as_deref()).map_err(|error| no_key(&error))?;
    let format = args.format.format;
    if format == Format::Table {
        output::note(&format!("The witness's key: {}", cosigner.key()));
    }
    let mut witness = match Witness::open(&args.state, vkey::all(&args.log_key), cosigner) {
        Ok(witness) => witness,
        Err(error) => return refused(&error, format),
    };
    loop {
        match look(connection, args, witness.size()).await {
            Ok(shown) => match see(&mut witness, &shown) {
                Ok(view) if args.every.is_some() && format == Format::Json => output::json_line(&view)?,
                Ok(view) if format == Format::Json => output::json(&view)?,
                Ok(view) => output::line(&view.text())?,
                Err(error) => return refused(&error, format),
            },
            // A server that is away for a while is no reason to look away from it.
            Err(error) if args.every.is_some() => output::note(&format!("The log shows nothing: {error:#}")),
            Err(error) => return Err(error),
        }
        let Some(seconds) = args.every else { return Ok(ExitCode::SUCCESS) };
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
}

async fn look(connection: &ConnectionArgs, args: &WitnessArgs, old: u64) -> anyhow::Result<Shown> {
    match &args.log {
        Some(log) => shown::local(log, old),
        None => shown::remote(connection, old).await,
    }
}

fn see(witness: &mut Witness, shown: &Shown) -> Result<CosignedView, WitnessError> {
    let now = SystemClock.now();
    let seconds = u64::try_from(now.0).unwrap_or_default();
    witness.follow(&shown.handovers);
    let Cosigned { checkpoint, path, is_first, .. } = witness.see(&shown.note, &shown.proof, seconds)?;
    Ok(CosignedView {
        origin: checkpoint.origin().to_owned(),
        size: checkpoint.size().to_string(),
        time: now.to_string(),
        file: path.display().to_string(),
        key: witness.key().to_string(),
        first: is_first,
    })
}

fn no_key(error: &WitnessKeyError) -> Failure {
    let shown = failure("the witness has no key", error);
    match error {
        WitnessKeyError::Missing(_) => shown.hint("a new one is made with --name NAME, like witness.example.org/one"),
        WitnessKeyError::Name { .. } => shown.hint("leave --name out, or name another file"),
        _ => shown,
    }
}

/// What a log has shown that cannot be cosigned is a finding; the rest are errors.
fn refused(error: &WitnessError, format: Format) -> anyhow::Result<ExitCode> {
    let shown = failure("NOT cosigned", error);
    match error {
        WitnessError::Inconsistent { evidence, .. } => Ok(wrong(inconsistent(shown, evidence), format)),
        WitnessError::Evidence(_) => Ok(wrong(
            shown.hint("look at it with whoever runs the log; move it away to go on from the checkpoint that is held"),
            format,
        )),
        WitnessError::Checkpoint(_) => Ok(wrong(
            shown.hint("is --log-key the key of this log? after `strongroom recover` it has a new one: pass both"),
            format,
        )),
        WitnessError::State { .. } => Err(shown
            .hint("bring the state back from a copy. Begun anew it knows nothing of what was before: keep the file, and say so")
            .into()),
        WitnessError::LogKeys => Err(shown.hint("one folder may keep several logs, one command looks at one").into()),
        _ => Err(shown.into()),
    }
}

fn inconsistent(shown: Failure, evidence: &[PathBuf; 2]) -> Failure {
    let [held, other] = evidence.each_ref().map(|path| path.display());
    shown
        .detail(format!("held:  {held}"))
        .detail(format!("shown: {other}"))
        .detail("the log was rolled back, or it shows different histories to different people")
        .hint("keep both files, and a copy of the log; tell those who rely on it before anything is repaired")
        .hint("`strongroom audit verify --against` with both files says which of them the log's files belong to")
}
