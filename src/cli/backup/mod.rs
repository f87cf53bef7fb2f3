//! `strongroom backup …`: backups of the service. The server makes them; they are verified, restored and tried out here.

use std::process::ExitCode;

use clap::Subcommand;

use super::connection::ConnectionArgs;

mod drill;
mod restore;
#[cfg(test)]
pub(super) mod samples;
mod scratch;
mod take;
mod verify;

const AFTER_HELP: &str = "\
`create` and `list` ask a running server, which writes into the folder that its configuration names ([backup] dir). \
`verify`, `restore` and `drill` work on a backup's folder, on any machine with this program. docs/backup.md goes through \
it, and says what a restore brings back that should not come back.";

/// `backup …`.
#[derive(Debug, Subcommand)]
#[command(after_help = AFTER_HELP)]
pub(super) enum BackupCommand {
    /// Have the server make a backup of store and audit log while it serves, and wait until it is durable
    #[command(after_help = take::AFTER_HELP)]
    Create(take::CreateArgs),
    /// List the backups in the server's folder, and the one that is being made
    List(take::ListArgs),
    /// Check a backup, offline: its files, its store, its log, and that they belong together
    #[command(after_help = verify::AFTER_HELP)]
    Verify(verify::VerifyArgs),
    /// Put a backup into the empty store and audit log that a configuration names
    #[command(after_help = restore::AFTER_HELP)]
    Restore(restore::RestoreArgs),
    /// Restore a backup into a scratch folder, onto a scratch token, and use its keys: nothing of yours is touched
    #[command(after_help = drill::AFTER_HELP)]
    Drill(Box<drill::DrillArgs>),
}

/// Does what the command says.
pub(super) fn run(connection: &ConnectionArgs, command: BackupCommand) -> anyhow::Result<ExitCode> {
    match command {
        BackupCommand::Create(args) => super::block_on(take::create(connection, args)),
        BackupCommand::List(args) => super::block_on(take::list(connection, args)),
        BackupCommand::Verify(args) => verify::run(&args),
        BackupCommand::Restore(args) => restore::run(&args),
        BackupCommand::Drill(args) => drill::run(&args),
    }
}
