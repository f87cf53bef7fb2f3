//! The command line: what can be typed, and which function does it.
//!
//! * Client commands (`vault`, `key`, `secret`, `exec`, `inject`, `file`, `access`, `token`, `audit`) speak `strongroom.v1` to a server; `client` connects and
//!   calls, `view` shows what came back, `failure` says what went wrong.
//! * Operator commands (`serve`, `dev`, `init`, …) are in a file each; their arguments are in `operate`.
//!
//! Exit codes: 0 done; 1 what was to be checked is wrong (`key verify`, `audit verify`, `doctor`); 2 an error, whatever the
//! command.
//! This folder is the only place that prints, and prints through [`output`] and [`failure`] only.

use std::{ffi::OsString, process::ExitCode};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand, error::ErrorKind};

mod access;
mod audit;
mod azure;
mod azure_cli_config;
mod backup;
mod bench;
mod break_glass;
mod cause;
mod change;
mod check;
mod client;
mod cluster;
mod compose;
mod config;
mod connection;
mod credentials;
mod dev;
mod doctor;
mod ecdsa_der;
mod envelope;
mod event;
mod face;
mod failure;
mod file;
mod files;
mod follow;
mod hsm_worker;
mod init;
mod jwk;
mod key;
mod manual;
mod names;
pub mod operate;
mod output;
mod own_keys;
mod parse;
mod pin;
pub mod plugin;
mod proto;
mod review;
mod rotation;
mod secret;
mod serve;
mod store;
mod token;
mod typed_pin;
mod vault;
mod view;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod page;

use connection::ConnectionArgs;

/// A key service on any PKCS#11 HSM: server, worker, and command line in one program.
#[derive(Debug, Parser)]
#[command(name = "strongroom", version, max_term_width = 100, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Exit codes: 0 done, 1 what was to be checked is wrong (key verify, audit verify, doctor), 2 error.
JSON (-o json) is the message of strongroom.v1 in the protobuf JSON form: field names in lowerCamelCase, \
bytes in base64, times in RFC 3339, enums by name, 64-bit numbers as strings; lists are arrays. What commands \
without a message show, and errors on standard error, is of the same form: docs/json.md has every field.";

/// Commands that speak to a server.
#[derive(Debug, Subcommand)]
enum ClientCommand {
    /// Vaults: the containers of keys and secrets
    #[command(subcommand)]
    Vault(vault::VaultCommand),
    /// Keys: make, show, change and use them
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Secrets: passwords, tokens and other values, encrypted in the HSM
    #[command(subcommand)]
    Secret(secret::SecretCommand),
    /// Run a command with secrets in its environment
    #[command(after_help = secret::exec::AFTER_HELP)]
    Exec(secret::exec::ExecArgs),
    /// Put values in the place of strongroom://VAULT/NAME in a template or env file
    #[command(after_help = secret::inject::AFTER_HELP)]
    Inject(secret::inject::InjectArgs),
    /// Files of any size, encrypted and decrypted here with a key that the HSM wraps
    #[command(subcommand)]
    File(file::FileCommand),
    /// Who may do what
    #[command(subcommand)]
    Access(access::AccessCommand),
    /// Bearer tokens that the service issues: short-lived, signed in the HSM
    #[command(subcommand, after_help = token::AFTER_HELP)]
    Token(token::TokenCommand),
    /// The audit log: find what was done and by whom, prove it, watch it, archive what is old
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// What is due for keys that have a rotation policy, and what will be
    #[command(subcommand)]
    Rotation(rotation::RotationCommand),
    /// What happens to keys, secrets and vaults, as it happens
    #[command(subcommand)]
    Event(event::EventCommand),
    /// Who is told of events by the server, and what could not be delivered
    #[command(subcommand)]
    Webhook(event::WebhookCommand),
    /// The keys of the service itself: what there is, and how a new one takes over
    #[command(subcommand)]
    OwnKeys(own_keys::OwnKeysCommand),
    /// The replicas that serve one instance on a shared store
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
}

/// Every command.
#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Client(ClientCommand),
    /// Run the server
    Serve(operate::ServeArgs),
    /// Run everything for development on SoftHSM, in one folder
    Dev(operate::DevArgs),
    /// Write the files with which an unmodified Azure CLI works against the Azure face
    #[command(after_help = azure_cli_config::AFTER_HELP)]
    AzureCliConfig(azure_cli_config::AzureCliConfigArgs),
    /// Prepare a token and a database for `serve`
    Init(operate::InitArgs),
    /// Bring root and database onto a fresh token with a recovery key
    Recover(operate::RecoverArgs),
    /// Look at a configuration file
    #[command(subcommand)]
    Config(operate::ConfigCommand),
    /// The PIN that workers log in with: change it, or clear the latch that a refused one sets
    #[command(subcommand)]
    Pin(operate::PinCommand),
    /// Backups of the whole service: make, list, verify, restore, try out
    #[command(subcommand)]
    Backup(backup::BackupCommand),
    /// The database as a whole
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Check a module, a token and a configuration, and say what works
    Doctor(operate::DoctorArgs),
    /// Measure how fast this HSM is here: raw, over gRPC, and what is between
    #[command(after_help = bench::AFTER_HELP)]
    Bench(bench::BenchArgs),
    /// Completions for a shell, on standard output
    Completions(operate::CompletionsArgs),
    /// Manual pages, into a folder
    Man(operate::ManArgs),
    /// The wire contract, into a folder: sources and descriptors, for other languages to generate from
    #[command(after_help = proto::AFTER_HELP)]
    Proto(operate::ProtoArgs),
    /// The worker program; started by the server, never by hand
    #[command(hide = true)]
    HsmWorker(operate::HsmWorkerArgs),
    /// Raw PKCS#11; started by `bench`, never by hand
    #[command(hide = true)]
    BenchRaw,
    /// gRPC with nothing behind it; started by `bench`, never by hand
    #[command(hide = true)]
    BenchEcho(bench::EchoArgs),
}

/// Exit code of every error.
const EXIT_ERROR: u8 = 2;

/// The program: reads the arguments, does what they say, prints what went wrong.
#[must_use]
pub fn main() -> ExitCode {
    run(std::env::args_os())
}

fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let read = Cli::command().try_get_matches_from(arguments);
    let read = read.and_then(|matches| Ok((output::asked(&matches), Cli::from_arg_matches(&matches)?)));
    let (format, cli) = match read {
        Ok(read) => read,
        Err(error) => return usage(&error),
    };
    dispatch(cli).unwrap_or_else(|error| {
        failure::print(&error, format);
        ExitCode::from(EXIT_ERROR)
    })
}

/// Help and version are no errors. A closed pipe behind them is none of ours.
fn usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(EXIT_ERROR),
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Client(command) => block_on(client_command(&cli.connection, command)),
        Command::Serve(args) => serve::run(args),
        Command::Dev(args) => dev::run(args),
        Command::AzureCliConfig(args) => azure_cli_config::run(&args),
        Command::Init(args) => init::init(args),
        Command::Recover(args) => init::recover(args),
        Command::Config(operate::ConfigCommand::Check(args)) => config::check(&args),
        Command::Pin(operate::PinCommand::ClearLatch(args)) => pin::clear_latch(&args),
        Command::Pin(operate::PinCommand::Change(args)) => pin::change(&args),
        Command::Backup(command) => backup::run(&cli.connection, command),
        Command::Store(command) => block_on(store::run(command)),
        Command::Doctor(args) => doctor::run(args),
        Command::Bench(args) => bench::run(&args),
        Command::BenchRaw => bench::raw(),
        Command::BenchEcho(args) => bench::echo(&args),
        Command::Completions(args) => manual::completions(&args),
        Command::Man(args) => manual::pages(&args),
        Command::Proto(args) => proto::write(&args),
        Command::HsmWorker(_) => Ok(hsm_worker::run()),
    }
}

async fn client_command(connection: &ConnectionArgs, command: ClientCommand) -> anyhow::Result<ExitCode> {
    match command {
        ClientCommand::Vault(command) => vault::run(connection, command).await,
        ClientCommand::Key(command) => key::run(connection, command).await,
        ClientCommand::Secret(command) => secret::run(connection, command).await,
        ClientCommand::Exec(args) => secret::exec::run(connection, &args).await,
        ClientCommand::Inject(args) => secret::inject::run(connection, &args).await,
        ClientCommand::File(command) => file::run(connection, command).await,
        ClientCommand::Access(command) => access::run(connection, command).await,
        ClientCommand::Token(command) => token::run(connection, command).await,
        ClientCommand::Audit(command) => audit::run(connection, command).await,
        ClientCommand::Rotation(command) => rotation::run(connection, command).await,
        ClientCommand::Event(command) => event::run(connection, command).await,
        ClientCommand::Webhook(command) => event::webhooks(connection, command).await,
        ClientCommand::OwnKeys(command) => own_keys::run(connection, command).await,
        ClientCommand::Cluster(command) => cluster::run(connection, command).await,
    }
}

/// One command is one task: a runtime of one thread is all it needs. Server and worker make their own.
fn block_on(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

#[cfg(test)]
mod tests;
