//! `strongroom key …`: one file for each kind of work.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};

use super::{
    connection::ConnectionArgs,
    failure::{Action, Failure, Noun},
    files, output,
    output::{Format, FormatArgs},
    view::UseView,
};
use crate::model::{Algorithm, KeyOps};

mod again;
pub(super) mod backup;
mod create;
mod data_key;
mod encrypt;
mod import;
pub(super) mod lifecycle;
mod make_byok;
pub(super) mod random;
pub(super) mod rotation_policy;
mod show;
mod sign;
mod update;
mod wrap;

use super::names::KeyRef;

/// `key …`.
#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Make a key, or a new version of a key that exists
    Create(create::CreateArgs),
    /// Bring a key in from outside: wrapped by another HSM, in the clear, or a public key
    Import(Box<import::ImportArgs>),
    /// Wrap a private key for import, here: the server gets it wrapped only
    MakeByok(make_byok::MakeByokArgs),
    /// Make the next version of a key: the newest one's kind, operations and tags, and new material
    Rotate(lifecycle::RotateArgs),
    /// What a key does by itself: rotate, and tell that it will expire
    #[command(subcommand)]
    RotationPolicy(rotation_policy::PolicyCommand),
    /// Show a key with its newest version, or one version
    Show(show::ShowArgs),
    /// List the keys of the vault
    List(show::ListArgs),
    /// List the versions of a key, newest first
    Versions(show::VersionsArgs),
    /// Change what a version may do, and when
    Update(update::UpdateArgs),
    /// Sign a file. It is hashed here and only its digest is sent (EdDSA, HS*: the file itself, at most 64 KiB)
    Sign(sign::SignArgs),
    /// Verify a signature: exit code 0 when it is right, 1 when it is wrong, 2 on an error
    Verify(sign::VerifyArgs),
    /// Encrypt a small file (AES: at most 64 KiB) into a JSON file that names the version
    #[command(after_help = encrypt::AFTER_HELP)]
    Encrypt(encrypt::EncryptArgs),
    /// Decrypt what `key encrypt` wrote
    Decrypt(encrypt::DecryptArgs),
    /// Wrap a key of yours into a JSON file that names the version
    #[command(after_help = wrap::AFTER_HELP)]
    Wrap(wrap::WrapArgs),
    /// Unwrap what `key wrap` wrote
    Unwrap(wrap::UnwrapArgs),
    /// Put what `key encrypt` wrote under another key, or the newest version of the same
    #[command(after_help = again::AFTER_HELP)]
    ReEncrypt(again::ReEncryptArgs),
    /// Put what `key wrap` wrote under another key, or the newest version of the same
    #[command(after_help = again::AFTER_HELP)]
    Rewrap(again::RewrapArgs),
    /// Make a data key in the HSM, in the clear and under a key, or under the key only
    #[command(after_help = data_key::AFTER_HELP)]
    GenerateDataKey(data_key::DataKeyArgs),
    /// Random bytes from the HSM
    Random(random::RandomArgs),
    /// Delete a key softly: all its versions stop working and can be brought back; or one version, not the newest
    Delete(lifecycle::LifecycleArgs),
    /// Bring a deleted key back with all its versions, or a deleted version
    Recover(lifecycle::LifecycleArgs),
    /// Destroy a deleted key with all its versions, or a deleted version, for ever
    Purge(lifecycle::LifecycleArgs),
    /// Write a key with all its versions into one file, wrapped and sealed by the HSM
    #[command(after_help = backup::AFTER_BACKUP)]
    Backup(backup::BackupArgs),
    /// Bring a key back by what `key backup` wrote
    #[command(after_help = backup::AFTER_RESTORE)]
    Restore(backup::RestoreArgs),
    /// Move a key to another vault, with all its versions
    #[command(after_help = backup::AFTER_MOVE)]
    Move(backup::MoveArgs),
}

/// Does what the command says.
pub(super) async fn run(connection: &ConnectionArgs, command: KeyCommand) -> anyhow::Result<ExitCode> {
    match command {
        KeyCommand::Create(args) => create::run(connection, &args).await,
        KeyCommand::Import(args) => import::run(connection, &args).await,
        KeyCommand::MakeByok(args) => make_byok::run(connection, &args).await,
        KeyCommand::Rotate(args) => lifecycle::rotate(connection, &args).await,
        KeyCommand::RotationPolicy(command) => rotation_policy::run(connection, &command).await,
        KeyCommand::Show(args) => show::show(connection, &args).await,
        KeyCommand::List(args) => show::list(connection, &args).await,
        KeyCommand::Versions(args) => show::versions(connection, &args).await,
        KeyCommand::Update(args) => update::run(connection, &args).await,
        KeyCommand::Sign(args) => sign::sign(connection, &args).await,
        KeyCommand::Verify(args) => return sign::verify(connection, &args).await,
        KeyCommand::Encrypt(args) => encrypt::encrypt(connection, &args).await,
        KeyCommand::Decrypt(args) => encrypt::decrypt(connection, &args).await,
        KeyCommand::Wrap(args) => wrap::wrap(connection, &args).await,
        KeyCommand::Unwrap(args) => wrap::unwrap(connection, &args).await,
        KeyCommand::GenerateDataKey(args) => data_key::run(connection, &args).await,
        KeyCommand::Random(args) => random::run(connection, &args).await,
        KeyCommand::Delete(args) => lifecycle::delete(connection, &args).await,
        KeyCommand::Recover(args) => lifecycle::recover(connection, &args).await,
        KeyCommand::Purge(args) => lifecycle::purge(connection, &args).await,
        KeyCommand::Backup(args) => backup::backup(connection, &args).await,
        KeyCommand::Restore(args) => backup::restore(connection, &args).await,
        KeyCommand::Move(args) => backup::move_to(connection, &args).await,
        KeyCommand::ReEncrypt(args) => again::re_encrypt(connection, &args).await,
        KeyCommand::Rewrap(args) => again::rewrap(connection, &args).await,
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Which key.
#[derive(Debug, Args)]
struct NameArgs {
    /// The key, in the current vault, or its full name vaults/VAULT/keys/KEY
    #[arg(value_name = "NAME")]
    name: String,
}

impl NameArgs {
    fn key(&self, connection: &ConnectionArgs) -> anyhow::Result<KeyRef> {
        KeyRef::resolve(connection, &self.name, None)?.whole_key()
    }
}

/// Which key, and perhaps which version.
#[derive(Debug, Args)]
struct VersionedNameArgs {
    #[command(flatten)]
    name: NameArgs,
    /// Which version: 32 hexadecimal digits, or its full name [default: the newest]
    #[arg(long, value_name = "V")]
    version: Option<String>,
}

impl VersionedNameArgs {
    fn key(&self, connection: &ConnectionArgs) -> anyhow::Result<KeyRef> {
        KeyRef::resolve(connection, &self.name.name, self.version.as_deref())
    }
}

/// Where the data come from and where the result goes.
#[derive(Debug, Args)]
struct FileArgs {
    /// The file to read; - is standard input
    #[arg(long = "in", value_name = "FILE")]
    input: PathBuf,
    /// The file to write, whole or not at all; - is standard output
    #[arg(long = "out", value_name = "FILE")]
    output: PathBuf,
}

/// Something done with a key.
fn using(verb: &str, key: &KeyRef) -> Action {
    Action { what: format!("{verb} {key}"), noun: Noun::Key, scope: key.parent(), request_id: None }
}

/// A change of a key.
fn changing(verb: &str, key: &KeyRef, request_id: &str) -> Action {
    Action { request_id: Some(request_id.to_owned()), ..using(verb, key) }
}

/// An algorithm as the client names it.
fn by(algorithm: Algorithm) -> strongroom_client::Algorithm {
    strongroom_client::Algorithm::new(algorithm.name())
}

/// Says which version was used: on standard output, unless the result itself went there.
fn report(format: FormatArgs, out_is_standard: bool, used: &UseView) -> anyhow::Result<()> {
    if out_is_standard {
        output::note(&format!("version: {}", used.name));
        return Ok(());
    }
    output::show(format.format, used)
}

/// Refuses to read standard input twice.
fn one_standard_input(paths: &[&std::path::Path]) -> Result<(), Failure> {
    if paths.iter().filter(|path| files::is_standard(path)).count() > 1 {
        return Err(Failure::new("standard input (-) can be read once only").hint("put the other input into a file"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_library_knows_every_algorithm() {
        for algorithm in Algorithm::ALL {
            assert!(strongroom_client::Algorithm::ALL.contains(&by(algorithm)), "{}", algorithm.name());
        }
    }
}
