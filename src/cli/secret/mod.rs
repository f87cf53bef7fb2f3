//! `strongroom secret …`, `strongroom exec` and `strongroom inject`: one file for each kind of work.
//!
//! A value comes from a file, a pipe or a terminal that does not show it, and goes to a file, a pipe or an environment; never
//! is it an argument, which every user of the machine may read.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{
    connection::ConnectionArgs,
    failure::{Action, Noun},
};
use crate::service::secrets::SecretRef;

pub(super) mod backup;
pub(super) mod exec;
mod fetch;
pub(super) mod inject;
pub(super) mod lifecycle;
mod names;
mod set;
mod show;
mod template;
mod update;
mod value;

/// `secret …`.
#[derive(Debug, Subcommand)]
pub(super) enum SecretCommand {
    /// Make a secret, or a new version of a secret that exists
    #[command(after_help = set::AFTER_HELP)]
    Set(set::SetArgs),
    /// Show a secret with its newest version, or one version; not its value
    Show(show::ShowArgs),
    /// Write the value of a secret, and nothing else
    #[command(after_help = value::AFTER_HELP)]
    Value(value::ValueArgs),
    /// List the secrets of the vault
    List(show::ListArgs),
    /// List the versions of a secret, newest first
    Versions(show::VersionsArgs),
    /// Change what is said of a version; its value stays
    Update(update::UpdateArgs),
    /// Delete a secret softly: no value of it can be read, and all versions can be brought back
    Delete(lifecycle::LifecycleArgs),
    /// Bring a deleted secret back with all its versions
    Recover(lifecycle::LifecycleArgs),
    /// Destroy a deleted secret with all its versions for ever
    Purge(lifecycle::LifecycleArgs),
    /// Write a secret with all its versions into a file that only this service opens
    #[command(after_help = backup::AFTER_BACKUP)]
    Backup(backup::BackupArgs),
    /// Bring a secret back by its backup
    #[command(after_help = backup::AFTER_RESTORE)]
    Restore(backup::RestoreArgs),
}

/// Does what the command says.
pub(super) async fn run(connection: &ConnectionArgs, command: SecretCommand) -> anyhow::Result<ExitCode> {
    match command {
        SecretCommand::Set(args) => set::run(connection, &args).await,
        SecretCommand::Show(args) => show::show(connection, &args).await,
        SecretCommand::Value(args) => value::run(connection, &args).await,
        SecretCommand::List(args) => show::list(connection, &args).await,
        SecretCommand::Versions(args) => show::versions(connection, &args).await,
        SecretCommand::Update(args) => update::run(connection, &args).await,
        SecretCommand::Delete(args) => lifecycle::delete(connection, &args).await,
        SecretCommand::Recover(args) => lifecycle::recover(connection, &args).await,
        SecretCommand::Purge(args) => lifecycle::purge(connection, &args).await,
        SecretCommand::Backup(args) => backup::backup(connection, &args).await,
        SecretCommand::Restore(args) => backup::restore(connection, &args).await,
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Which secret.
#[derive(Debug, Args)]
struct NameArgs {
    /// The secret, in the current vault, or its full name vaults/VAULT/secrets/NAME, or strongroom://VAULT/NAME
    #[arg(value_name = "NAME")]
    name: String,
}

impl NameArgs {
    fn secret(&self, connection: &ConnectionArgs) -> anyhow::Result<SecretRef> {
        names::whole(names::resolve(connection, &self.name, None)?)
    }
}

/// Which secret, and perhaps which version.
#[derive(Debug, Args)]
struct VersionedNameArgs {
    #[command(flatten)]
    name: NameArgs,
    /// Which version: 32 hexadecimal digits, or its full name [default: the newest]
    #[arg(long, value_name = "V")]
    version: Option<String>,
}

impl VersionedNameArgs {
    fn secret(&self, connection: &ConnectionArgs) -> anyhow::Result<SecretRef> {
        names::resolve(connection, &self.name.name, self.version.as_deref())
    }
}

fn parent(secret: &SecretRef) -> String {
    format!("vaults/{}", secret.vault)
}

/// Something asked of a secret.
fn reading(verb: &str, secret: &SecretRef) -> Action {
    Action { what: format!("{verb} {secret}"), noun: Noun::Secret, scope: parent(secret), request_id: None }
}

/// A change of a secret.
fn changing(verb: &str, secret: &SecretRef, request_id: &str) -> Action {
    Action { request_id: Some(request_id.to_owned()), ..reading(verb, secret) }
}
