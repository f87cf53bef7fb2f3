//! `strongroom audit prune`: old records leave the log, into an archive or for good.

use std::{ops::Range, path::PathBuf, process::ExitCode, str::FromStr};

use clap::Args;
use serde::Serialize;

use super::{
    place::{self, InstanceArgs},
    verify,
};
use crate::{
    audit::{
        Against, OpenError, Verified,
        prune::{self, Before},
    },
    cli::{
        compose::{failure, make_folder},
        failure::Failure,
        output::{self, FormatArgs, Rows},
    },
};

pub(super) const AFTER_HELP: &str = "\
The whole log is verified first. Then whole bundles of 256 records leave, from the first on; never records that no \
checkpoint covers. The server may run. Their hashes stay: the log verifies as before and says which record is its first, \
and receipts stay good. Archived bundles are brought back by copying the archive's `tile` folder into the log's.
No record says that the log was pruned; docs/audit.md says why.";

/// What `audit prune` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct PruneArgs {
    #[command(flatten)]
    instance: InstanceArgs,
    /// What is older leaves: an index, or a time (RFC 3339)
    #[arg(long, value_name = "INDEX|TIME")]
    before: BeforeArg,
    /// Move the records into this folder
    #[arg(long, value_name = "DIR", conflicts_with = "delete", required_unless_present_any = ["delete", "dry_run"])]
    archive: Option<PathBuf>,
    /// Delete the records: there is no way back
    #[arg(long)]
    delete: bool,
    /// Only say what would leave
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Clone, Copy, Debug)]
struct BeforeArg(Before);

impl FromStr for BeforeArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(index) = text.parse() {
            return Ok(Self(Before::Index(index)));
        }
        // Not a period: `P1Y` would be a year from now, and take everything.
        let time = text.parse::<jiff::Timestamp>().map_err(|error| format!("neither an index nor a time: {error}"))?;
        Ok(Self(Before::Time(time.as_second())))
    }
}

/// What has left a log.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct PrunedView {
    /// The first record that has left.
    pub(in crate::cli) from: String,
    /// The first that stays.
    pub(in crate::cli) until: String,
    /// Whether it was done.
    pub(in crate::cli) done: bool,
    /// Where they are now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) archive: Option<String>,
}

impl Rows for PrunedView {
    fn head(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let Self { from, until, done, archive } = self;
        let said = match (from == until, done, archive) {
            (true, ..) => format!("Nothing leaves: the first record stays {from}."),
            (_, false, _) => format!("Records {from} to before {until} would leave."),
            (_, true, Some(archive)) => {
                format!("Records {from} to before {until} are in {archive}. Bring them back: cp -a {archive}/tile LOG/")
            }
            (_, true, None) => format!("Records {from} to before {until} are deleted."),
        };
        vec![vec![said]]
    }
}

/// Verifies the log, then takes old records away.
pub(super) async fn run(args: &PruneArgs) -> anyhow::Result<ExitCode> {
    let place = args.instance.place()?;
    let store = place.store.as_ref().ok_or_else(|| Failure::new("no store is named"))?;
    let against = Against { keys: place::keys(store, &place.replica).await?, checkpoints: Vec::new() };
    let verified = verify::verified(&place.log, &against).map_err(|error| unverified(&error))?;
    let records = plan(&place.log, &verified, args.before.0)?;
    if !args.dry_run {
        if let Some(archive) = &args.archive {
            make_folder(archive)?;
        }
        let pruned = prune::prune(&place.log, records.clone(), args.archive.as_deref());
        pruned.map_err(|error| {
            failure("not all of it could leave the log", &error)
                .hint("what has left is whole, and in the archive if there is one; the same command goes on")
        })?;
    }
    output::show(
        args.format.format,
        &PrunedView {
            from: records.start.to_string(),
            until: records.end.to_string(),
            done: !args.dry_run,
            archive: args.archive.as_ref().filter(|_| !args.dry_run).map(|archive| archive.display().to_string()),
        },
    )?;
    Ok(ExitCode::SUCCESS)
}

fn unverified(error: &OpenError) -> Failure {
    failure("nothing is pruned: the log cannot be verified", error).hint("`strongroom audit verify` says more")
}

fn plan(log: &std::path::Path, verified: &Verified, before: Before) -> anyhow::Result<Range<u64>> {
    let planned = prune::plan(log, verified, before);
    Ok(planned.map_err(|error| failure("it cannot be said what is old", &error))?)
}
