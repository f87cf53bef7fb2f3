//! `audit uses`: who used what, how often.

use clap::Args;
use strongroom_proto::v1::{ListAuditUsesRequest, ListAuditUsesResponse};

use super::{
    filter::{FilterArgs, action},
    view::{UsedList, UsedView},
};
use crate::cli::{
    connection::ConnectionArgs,
    output::{self, FormatArgs},
};

/// What `audit uses` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct UsesArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// At most so many lines
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
    #[command(flatten)]
    format: FormatArgs,
}

/// Does it.
pub(super) async fn run(connection: &ConnectionArgs, args: &UsesArgs) -> anyhow::Result<()> {
    let filter = args.filter.filter(connection)?;
    let client = connection.connect().await?;
    let action = action("count uses", &filter);
    let limit = usize::try_from(args.limit)?;
    let mut request = ListAuditUsesRequest { filter: Some(filter), page_size: 1000, page_token: String::new() };
    let (mut found, mut missing) = (Vec::new(), 0);
    loop {
        let call = client.api.list_audit_uses(request.clone());
        let ListAuditUsesResponse { uses, next_page_token, uncounted, .. } = client.call(&action, call).await?;
        missing = uncounted.max(missing);
        found.extend(uses);
        request.page_token = next_page_token;
        if request.page_token.is_empty() || found.len() >= limit {
            break;
        }
    }
    let is_cut = found.len() > limit || !request.page_token.is_empty();
    found.truncate(limit);
    output::show(args.format.format, &UsedList(found.iter().map(UsedView::from).collect()))?;
    if is_cut {
        output::note(&format!("there are more than these {limit}: --limit"));
    }
    if missing > 0 {
        output::note(&format!("{missing} records were pruned before they were counted"));
    }
    Ok(())
}
