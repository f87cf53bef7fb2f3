//! `audit receipt` and `audit checkpoint`: what is kept, and verified somewhere else.

use std::path::{Path, PathBuf};

use clap::Args;
use strongroom_proto::v1::AuditFilter;

use super::{filter::action, list::index};
use crate::{
    audit::tlog::Receipt,
    cli::{
        connection::ConnectionArgs,
        failure::Failure,
        files::{Content, Out},
    },
};

/// What `audit receipt` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct ReceiptArgs {
    /// Which record, as `audit list` shows it: its index, or auditRecords/INDEX
    #[arg(value_parser = index)]
    index: u64,
    /// The file to write, whole or not at all; - is standard output [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// What `audit checkpoint` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct CheckpointArgs {
    /// The file to write, whole or not at all; - is standard output [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// `audit receipt`.
pub(super) async fn receipt(connection: &ConnectionArgs, args: &ReceiptArgs) -> anyhow::Result<()> {
    let out = prepare(args.out.as_deref())?;
    let client = connection.connect().await?;
    let action = action(&format!("fetch the receipt of record {}", args.index), &AuditFilter::default());
    let name = format!("auditRecords/{}", args.index);
    let answer = client.call(&action, client.api.get_audit_receipt(&name)).await?;
    let receipt = Receipt::parse(answer.proof.as_bytes()).and_then(|receipt| receipt.with_extra(answer.entry));
    let receipt = receipt.map_err(|error| Failure::new(format!("the server's answer is no receipt: {error}")))?;
    if receipt.index() != args.index {
        let message =
            format!("the receipt of record {} was asked for, and that of {} came", args.index, receipt.index());
        return Err(Failure::new(message).into());
    }
    out.commit(receipt.to_string().as_bytes())
}

/// `audit checkpoint`.
pub(super) async fn checkpoint(connection: &ConnectionArgs, args: &CheckpointArgs) -> anyhow::Result<()> {
    let out = prepare(args.out.as_deref())?;
    let client = connection.connect().await?;
    let action = action("fetch the newest checkpoint", &AuditFilter::default());
    let answer = client.call(&action, client.api.get_audit_checkpoint(0)).await?;
    out.commit(answer.note.as_bytes())
}

fn prepare(out: Option<&Path>) -> anyhow::Result<Out> {
    Out::prepare(out.unwrap_or(Path::new("-")), Content::Public)
}
