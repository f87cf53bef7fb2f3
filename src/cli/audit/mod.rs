//! `strongroom audit …`: reading the audit log, and proving what is in it.
//!
//! What reads asks a server: `list`, `show`, `tail`, `export`, `uses`, `receipt`, `checkpoint`; some of it reads a copy too.
//!
//! What proves does so offline, on the log's own files or a copy, with nothing but the keys of whoever asks: `verify`,
//! `verify-receipt`, `prune`. `key` reads files or asks a server; so does `witness`, which keeps the checkpoints of a log that
//! runs somewhere else.
//!
//! Exit codes: 1 if the log or the receipt is not what it claims to be, 2 if that could not be found out.

use std::process::ExitCode;

use clap::Subcommand;

use super::{
    connection::ConnectionArgs,
    failure::{self, Failure},
    output::Format,
};

mod export;
mod fetch;
mod filter;
mod key;
mod list;
mod place;
mod prune;
mod receipt;
mod shown;
mod signers;
mod source;
mod tail;
mod uses;
mod verify;
mod view;
mod vkey;
mod witness;

#[cfg(test)]
pub(super) use key::{FormerKeyView, LogKeyView};
#[cfg(test)]
pub(super) use prune::PrunedView;
#[cfg(test)]
pub(super) use receipt::ReceiptView;
#[cfg(test)]
pub(super) use signers::SignerView;
#[cfg(test)]
pub(super) use verify::{HandoverView, HeldView, LogView, TornView};
#[cfg(test)]
pub(super) use view::{RecordView, UsedView};
#[cfg(test)]
pub(super) use witness::CosignedView;

/// What is wrong with a log or a receipt was found.
const EXIT_WRONG: u8 = 1;

/// `audit …`.
#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// List records, newest first
    List(list::ListArgs),
    /// Show a record with all that it says
    Show(list::ShowArgs),
    /// Show the last records, and those that come as they come
    Tail(tail::TailArgs),
    /// Write records as lines of JSON, oldest first
    #[command(after_help = export::AFTER_HELP)]
    Export(export::ExportArgs),
    /// Count who used what, over whole days (UTC)
    Uses(uses::UsesArgs),
    /// Fetch the proof that a record is in the log, with the record, in one file for `audit verify-receipt`
    Receipt(fetch::ReceiptArgs),
    /// Fetch the newest checkpoint, a signed note
    Checkpoint(fetch::CheckpointArgs),
    /// Prove offline that a log is complete and unaltered
    #[command(after_help = verify::AFTER_HELP)]
    Verify(verify::VerifyArgs),
    /// Prove offline that a record is in a log, by its receipt
    VerifyReceipt(receipt::VerifyReceiptArgs),
    /// Show the key that a log is verified with, for auditors and witnesses to keep
    #[command(after_help = key::AFTER_HELP)]
    Key(key::KeyArgs),
    /// Watch a log from elsewhere: keep and cosign its newest checkpoint, if it continues the one before
    #[command(after_help = witness::AFTER_HELP)]
    Witness(witness::WitnessArgs),
    /// Archive or delete old records; the tree stays, and with it every proof
    #[command(after_help = prune::AFTER_HELP)]
    Prune(prune::PruneArgs),
}

/// Does what the command says.
pub(super) async fn run(connection: &ConnectionArgs, command: AuditCommand) -> anyhow::Result<ExitCode> {
    match command {
        AuditCommand::List(args) => done(list::list(connection, &args).await),
        AuditCommand::Show(args) => done(list::show(connection, &args).await),
        AuditCommand::Tail(args) => done(tail::run(connection, &args).await),
        AuditCommand::Export(args) => done(export::run(connection, &args).await),
        AuditCommand::Uses(args) => done(uses::run(connection, &args).await),
        AuditCommand::Receipt(args) => done(fetch::receipt(connection, &args).await),
        AuditCommand::Checkpoint(args) => done(fetch::checkpoint(connection, &args).await),
        AuditCommand::Verify(args) => verify::run(&args).await,
        AuditCommand::VerifyReceipt(args) => receipt::run(&args),
        AuditCommand::Key(args) => key::run(connection, &args).await,
        AuditCommand::Witness(args) => witness::run(connection, &args).await,
        AuditCommand::Prune(args) => prune::run(&args).await,
    }
}

fn done(result: anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    result.map(|()| ExitCode::SUCCESS)
}

/// Says what is wrong with a log or a receipt. It is a finding, not an error: the exit code tells them apart.
fn wrong(failure: Failure, format: Format) -> ExitCode {
    failure::print(&failure.into(), format);
    ExitCode::from(EXIT_WRONG)
}
