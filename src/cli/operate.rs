//! What the operator's commands take. They are carried out in `serve`, `dev`, `init` and `doctor`.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Subcommand};

use super::{output::FormatArgs, parse};

/// What `serve` takes.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The configuration (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// What `dev` takes.
#[derive(Debug, Args)]
pub struct DevArgs {
    /// Everything is kept in this folder: token, database, log, certificates, `env`
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Where to serve gRPC
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8443", value_parser = parse::listen_address)]
    pub listen: SocketAddr,
    /// Where to serve metrics, /livez and /readyz
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8444", value_parser = parse::listen_address)]
    pub metrics_listen: SocketAddr,
    /// Serve the Azure face too, and put what its clients need into `env`: AKV_URL, AKV_TOKEN and others (docs/azure.md)
    #[arg(long, value_name = "HOST:PORT", value_parser = parse::listen_address)]
    pub azure_listen: Option<SocketAddr>,
    /// A name by which clients of the Azure face reach the vault, for the certificate; once for each. `*.DOMAIN`: every
    /// name in it, whose first label is the vault's
    #[arg(long, value_name = "NAME", requires = "azure_listen", value_parser = parse::host_name)]
    pub azure_host: Vec<String>,
    /// Where the Azure face's clients get tokens: on a loopback address
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0", value_parser = parse::listen_address)]
    pub identity_listen: SocketAddr,
    /// Hand out tokens in the manner of a virtual machine too, to processes of this user, without a secret
    #[arg(long, requires = "azure_listen")]
    pub identity_imds: bool,
    /// Also listen on addresses that other machines can reach. The development token's PIN is no secret
    #[arg(long)]
    pub allow_non_loopback: bool,
    /// For `bench --audit`: how records are kept
    #[arg(long, value_enum, default_value_t = AuditMode::Write, hide = true)]
    pub audit: AuditMode,
    /// For tests: scripted faults of the HSM, for each lane (see hsm/src/worker/faults.rs)
    #[cfg(feature = "failpoints")]
    #[arg(long, value_name = "LANE=SCRIPT", hide = true)]
    pub hsm_faults: Vec<String>,
    /// For tests: another figure of the lanes: workers, queue_max or hang_ms of a lane, or canary_every_ms,
    /// loads_max, cached_keys_max
    #[cfg(feature = "failpoints")]
    #[arg(long, value_name = "[LANE.]KEY=NUMBER", hide = true)]
    pub hsm_set: Vec<String>,
    #[command(flatten)]
    pub(super) format: FormatArgs,
}

/// How a development server keeps its audit records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum AuditMode {
    /// Not at all.
    Discard,
    /// As it comes: changes synced, other operations in the kernel.
    Write,
    /// All synced.
    Fsync,
}

/// What `init` takes.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The configuration (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The certificate (PEM) of the first administrator
    #[arg(long, value_name = "FILE")]
    pub admin_certificate: PathBuf,
    /// A public key (PEM, RSA) that the root key is escrowed for; once for each
    #[arg(long, value_name = "FILE", required_unless_present = "no_recovery")]
    pub recovery_key: Vec<PathBuf>,
    /// Make no escrow: when the token is lost, so are all keys
    #[arg(long, conflicts_with = "recovery_key")]
    pub no_recovery: bool,
    /// The security officer's PIN, to be: initialise a free slot as the token first, with this PIN and that of
    /// hsm.pin_file
    #[arg(long, value_name = "FILE")]
    pub so_pin_file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) format: FormatArgs,
}

/// What `recover` takes.
#[derive(Debug, Args)]
pub struct RecoverArgs {
    /// The configuration (TOML), naming the fresh token and the database that was saved
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The private key (PEM) of one of the recovery keys
    #[arg(long, value_name = "FILE")]
    pub recovery_key_private: PathBuf,
    /// The security officer's PIN, to be: initialise a free slot as the token first, with this PIN and that of
    /// hsm.pin_file
    #[arg(long, value_name = "FILE")]
    pub so_pin_file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) format: FormatArgs,
}

/// `config …`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say whether a configuration is right, and name every fault
    Check(ConfigCheckArgs),
}

/// What `config check` takes.
#[derive(Debug, Args)]
pub struct ConfigCheckArgs {
    /// The configuration (TOML)
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub(super) format: FormatArgs,
}

/// `pin …`.
#[derive(Debug, Subcommand)]
pub enum PinCommand {
    /// Let workers try the PIN again, after it was corrected
    ClearLatch(ClearLatchArgs),
    /// Give the token's user another PIN, and put it into the PIN file
    #[command(after_help = CHANGE_PIN_HELP)]
    Change(ChangePinArgs),
}

const CHANGE_PIN_HELP: &str = "\
The service goes on: its workers stay logged in, and those that start later read the new PIN. What was interrupted the same \
command finishes, without a new PIN. Other machines that serve from the same token have PIN files of their own: put the \
new PIN beside each first, as FILE.new (docs/own-keys.md).";

/// What `pin change` takes.
#[derive(Debug, Args)]
pub struct ChangePinArgs {
    /// The configuration (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The file that holds the new PIN, mode 0600 or 0400 [default: it is asked for]
    #[arg(long, value_name = "FILE")]
    pub new_pin_file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) format: FormatArgs,
}

/// What `pin clear-latch` takes.
#[derive(Debug, Args)]
pub struct ClearLatchArgs {
    /// The configuration (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    #[command(flatten)]
    pub(super) format: FormatArgs,
}

/// What `doctor` takes.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Check all that this configuration (TOML) names; with --module, only name the token to try it on
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Say what this PKCS#11 module can do, and what that means for keys
    #[arg(long, value_name = "PATH")]
    pub module: Option<PathBuf>,
    /// What the module is told when it is initialised, as hsm.module_parameters
    #[arg(long, value_name = "TEXT", requires = "module")]
    pub module_parameters: Option<String>,
    #[command(flatten)]
    pub(super) format: FormatArgs,
}

/// What `completions` takes.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// For which shell
    #[arg(value_name = "SHELL", value_enum)]
    pub(super) shell: clap_complete::Shell,
}

/// What `man` takes.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The folder to write them to: one page for each command, section 1
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// What `proto` takes.
#[derive(Debug, Args)]
pub struct ProtoArgs {
    /// The folder to write them to, below it by their import paths
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Whatever the server hands its worker.
#[derive(Debug, Args)]
pub struct HsmWorkerArgs {
    /// Passed on
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub arguments: Vec<std::ffi::OsString>,
}
