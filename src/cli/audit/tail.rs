//! `audit tail`: the last records, then those that come.

use clap::Args;
use strongroom_proto::v1::{AuditFilter, AuditRecord, StreamAuditRecordsRequest};

use super::{
    filter::{FilterArgs, action},
    source::Source,
    view::RecordView,
};
use crate::cli::{
    client::Client,
    connection::ConnectionArgs,
    follow::Again,
    output::{self, Format, FormatArgs},
};

/// What `audit tail` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct TailArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Begin with so many of the last records
    #[arg(long, value_name = "N", default_value_t = 10, conflicts_with = "from_index", value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    lines: u32,
    /// Begin with the record of that index
    #[arg(long, value_name = "INDEX")]
    from_index: Option<u64>,
    #[command(flatten)]
    format: FormatArgs,
}

/// Does it, until it is interrupted.
pub(super) async fn run(connection: &ConnectionArgs, args: &TailArgs) -> anyhow::Result<()> {
    let filter = args.filter.filter(connection)?;
    let client = connection.connect_for_long().await?;
    let from = match args.from_index {
        Some(from) => from,
        None => last(&client, &filter, args).await?,
    };
    follow(&client, &filter, from, args.format.format).await
}

/// Shows the last records, and says where those begin that come.
async fn last(client: &Client, filter: &AuditFilter, args: &TailArgs) -> anyhow::Result<u64> {
    let source = Source::Server(Client::clone(client));
    let wanted = usize::try_from(args.lines)?;
    let mut listing = source.newest(filter, wanted.max(1)).await?;
    listing.records.truncate(wanted);
    listing.records.iter().rev().try_for_each(|record| show(record, args.format.format))?;
    Ok(listing.readable)
}

/// Shows what comes. A server that ends, and comes back, is asked again from where it stopped.
async fn follow(client: &Client, filter: &AuditFilter, from: u64, format: Format) -> anyhow::Result<()> {
    let action = action("follow the audit log", filter);
    let (mut next, mut again) = (from, Again::default());
    let open = |from| {
        let request = StreamAuditRecordsRequest { filter: Some(filter.clone()), start_index: Some(from), follow: true };
        client.api.stream_audit_records(request)
    };
    let mut stream = client.call(&action, open(next)).await?;
    loop {
        match stream.next().await {
            Ok(Some(message)) => {
                message.records.iter().try_for_each(|record| show(record, format))?;
                (next, again) = (message.next_index, Again::default());
            }
            Ok(None) => return Ok(()),
            Err(error) => stream = again.open(client, &action, error, || open(next)).await?,
        }
    }
}

fn show(record: &AuditRecord, format: Format) -> anyhow::Result<()> {
    let view = RecordView::from(record);
    match format {
        Format::Json => output::json_line(&view),
        Format::Table => output::line(&output::printable(&view.line())),
    }
}
