//! `strongroom file …`: files of any size, in the `age` format. The HSM wraps a key for each file; the
//! content is encrypted here, in constant memory, and does not leave this machine.

use std::{io, path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use serde::Serialize;
use strongroom_client::{Error, file::FileError};

use super::{
    client::Client,
    connection::ConnectionArgs,
    failure::{Action, Failure, Noun},
    names::KeyRef,
    output::{self, FormatArgs, Rows},
};

mod copy;
mod decrypt;
mod encrypt;
pub(in crate::cli) mod identity;

/// `file …`.
#[derive(Debug, Subcommand)]
pub(super) enum FileCommand {
    /// Encrypt a file of any size into an age file
    #[command(after_help = encrypt::AFTER_HELP)]
    Encrypt(encrypt::EncryptArgs),
    /// Decrypt an age file that a key of Strongroom can open; the file says which
    Decrypt(decrypt::DecryptArgs),
    /// Print a key as an age recipient: age -r RECIPIENT, with age-plugin-strongroom on PATH
    Recipient(identity::RecipientArgs),
    /// Print an age identity: age -d -i FILE, with age-plugin-strongroom on PATH
    Identity(identity::IdentityArgs),
}

/// Does what the command says.
pub(super) async fn run(connection: &ConnectionArgs, command: FileCommand) -> anyhow::Result<ExitCode> {
    match command {
        FileCommand::Encrypt(args) => encrypt::run(connection, args).await,
        FileCommand::Decrypt(args) => decrypt::run(connection, args).await,
        FileCommand::Recipient(args) => identity::recipient(connection, &args),
        FileCommand::Identity(args) => identity::identity(connection, &args),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Where the data come from and where the result goes.
#[derive(Debug, Args)]
struct InOutArgs {
    /// The file to read; - is standard input
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The file to write, whole or not at all; - is standard output
    #[arg(value_name = "OUT")]
    output: PathBuf,
}

/// What was done.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct FileView {
    /// The versions that wrapped, or the one that unwrapped, the file's key.
    pub(in crate::cli) versions: Vec<String>,
    /// How long the plaintext is. A 64-bit number is a string in JSON.
    pub(in crate::cli) plaintext_bytes: String,
}

impl Rows for FileView {
    fn head(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let version = |version: &String| vec!["version".to_owned(), version.clone()];
        let mut rows: Vec<Vec<String>> = self.versions.iter().map(version).collect();
        rows.push(vec!["plaintext".to_owned(), format!("{} bytes", self.plaintext_bytes)]);
        rows
    }
}

/// Says which versions were used: on standard output, unless the result itself went there.
fn report(format: FormatArgs, out_is_standard: bool, versions: Vec<String>, bytes: u64) -> anyhow::Result<()> {
    if out_is_standard {
        versions.iter().for_each(|version| output::note(&format!("version: {version}")));
        return Ok(());
    }
    output::show(format.format, &FileView { versions, plaintext_bytes: bytes.to_string() })
}

/// What is done to a file with the key of this version or name.
fn action(what: String, name: &str) -> Action {
    let scope = KeyRef::from_resource(name).map_or_else(|_| "vaults/VAULT".to_owned(), |key| key.parent());
    Action { what, noun: Noun::Key, scope, request_id: None }
}

/// What is wrong with a key or a stanza, in words. `doing` reads after "cannot".
fn explain(error: FileError, doing: &str, client: Option<&Client>) -> Failure {
    match (error, client) {
        (FileError::Closed { version, error: Error::DecryptionFailed(_) }, _) => {
            Failure::new(format!("cannot {doing}: its header was altered, {version} does not unwrap its key"))
                .hint("take another copy of the file")
        }
        (FileError::Closed { version, error: error @ Error::NotFound(_) }, Some(client)) => client
            .explain(&error, &action(format!("{doing} with {version}"), &version))
            .hint("a deleted key can be brought back while its retention lasts: strongroom key recover NAME"),
        (FileError::Closed { version, error }, Some(client)) => {
            client.explain(&error, &action(format!("{doing} with {version}"), &version))
        }
        (FileError::Call(error), Some(client)) => client.explain(&error, &action(doing.to_owned(), "")),
        (error @ FileError::NotWrapping { .. }, _) => Failure::new(format!("cannot {doing}: {error}"))
            .hint("take a key that may wrap: strongroom key create NAME --type oct, or --type RSA"),
        (error, _) => Failure::new(format!("cannot {doing}: {error}")),
    }
}

/// The same, of an error that comes out of `age`.
fn explain_io(error: io::Error, doing: &str, client: Option<&Client>) -> Failure {
    match strongroom_client::file::carried_error(error) {
        Ok(error) => explain(error, doing, client),
        Err(error) => Failure::new(format!("cannot {doing}: {error}")),
    }
}
