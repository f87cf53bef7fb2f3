//! `audit list` and `audit show`.

use clap::Args;

use super::{
    filter::FilterArgs,
    source::LogArgs,
    view::{RecordList, RecordView},
};
use crate::cli::{
    connection::ConnectionArgs,
    failure::Failure,
    output::{self, FormatArgs},
};

/// What `audit list` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
    #[command(flatten)]
    log: LogArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// What `audit show` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct ShowArgs {
    /// Which record, as `audit list` shows it: its index, or auditRecords/INDEX
    #[arg(value_parser = index)]
    index: u64,
    #[command(flatten)]
    log: LogArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// An index on the command line.
pub(super) fn index(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix("auditRecords/").unwrap_or(text);
    digits.parse().map_err(|_| "a record is named by its index, 0 or more".to_owned())
}

/// `audit list`.
pub(super) async fn list(connection: &ConnectionArgs, args: &ListArgs) -> anyhow::Result<()> {
    let filter = args.filter.filter(connection)?;
    let source = args.log.source(connection).await?;
    let listing = source.newest(&filter, usize::try_from(args.limit)?).await?;
    output::show(args.format.format, &RecordList(listing.records.iter().map(RecordView::from).collect()))?;
    if listing.is_cut {
        output::note(&format!("there may be more than these {}: --limit, --until", listing.records.len()));
    }
    if listing.pruned_bundles > 0 {
        let records = listing.pruned_bundles * 256;
        output::note(&format!("up to {records} records that may belong here were pruned: bring their bundles back"));
    }
    Ok(())
}

/// `audit show`.
pub(super) async fn show(connection: &ConnectionArgs, args: &ShowArgs) -> anyhow::Result<()> {
    let source = args.log.source(connection).await?;
    let record = source.record(args.index).await?;
    if record.index != args.index {
        return Err(Failure::new(format!("record {} was asked for, and {} came", args.index, record.index)).into());
    }
    output::show(args.format.format, &RecordView::from(&record))
}
