//! `audit export`: records for other programs, each exactly as it is in the log.

use std::{
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;

use super::{filter::FilterArgs, source::LogArgs};
use crate::cli::{
    connection::ConnectionArgs,
    files::{Content, Out},
    output,
};

pub(super) const AFTER_HELP: &str = "\
A line is {\"index\":N,\"record\":{…}}: behind \"record\": and up to the last } is the record byte for byte, the entry of \
the tree, whose leaf is SHA-256 of a zero byte and these. What is exported next begins at the index that is said at the \
end, on standard error: --from-index.";

/// What `audit export` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct ExportArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Begin with the record of that index
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    from_index: u64,
    /// The file to write, whole or not at all; - is standard output [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    log: LogArgs,
}

/// Does it.
pub(super) async fn run(connection: &ConnectionArgs, args: &ExportArgs) -> anyhow::Result<()> {
    let filter = args.filter.filter(connection)?;
    let out = Out::prepare(args.out.as_deref().unwrap_or(Path::new("-")), Content::Public)?;
    let source = args.log.source_for_long(connection).await?;
    let (mut writer, cannot, mut count) = (BufWriter::new(out.file()?), out.cannot(), 0_u64);
    let next = source
        .every(&filter, args.from_index, |record| {
            count += 1;
            write!(writer, "{{\"index\":{},\"record\":", record.index).context(cannot.clone())?;
            writer.write_all(&record.entry).context(cannot.clone())?;
            writer.write_all(b"}\n").context(cannot.clone())
        })
        .await?;
    writer.flush().context(cannot)?;
    drop(writer);
    out.finish()?;
    output::note(&format!("{count} records; go on with --from-index {next}"));
    Ok(())
}
