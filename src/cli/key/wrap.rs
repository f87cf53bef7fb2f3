//! `key wrap` and `key unwrap`: keys of the caller's under a key of the HSM's.

use clap::Args;
use strongroom_client::secrecy::ExposeSecret as _;
use strongroom_hsm::algorithms::WRAP_BYTES_MAX;

use super::{Algorithm, FileArgs, FormatArgs, KeyOps, KeyRef, UseView, VersionedNameArgs, by, report, using};
use crate::cli::{
    connection::ConnectionArgs,
    envelope::{self, WrappedKey},
    failure::Failure,
    files::{self, Content, Limit, Out},
    parse,
};

pub(super) const AFTER_HELP: &str = "\
The file is one JSON object, bytes in base64url:
  { \"format\": \"strongroom.wrapped-key.v1\", \"name\": VERSION, \"algorithm\": A, \"wrapped_key\": … }
With --raw it is the wrapped key alone: keep the version that is printed, `key unwrap --raw` needs it.";

const KEY: Limit = Limit { bytes_max: WRAP_BYTES_MAX, hint: "only keys are wrapped; for data take key encrypt" };
/// AES key wrap adds 8 bytes (RFC 3394; RFC 5649 after padding).
const WRAPPED: Limit = Limit { bytes_max: WRAP_BYTES_MAX + 8, hint: "is it what key wrap --raw wrote?" };

/// What `key wrap` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct WrapArgs {
    #[command(flatten)]
    key: VersionedNameArgs,
    /// By which algorithm
    #[arg(long, value_name = "A", value_parser = parse::algorithm(KeyOps::WRAP_KEY))]
    algorithm: Algorithm,
    #[command(flatten)]
    files: FileArgs,
    /// Write the wrapped key alone
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    format: FormatArgs,
}

/// What `key unwrap` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct UnwrapArgs {
    #[command(flatten)]
    key: VersionedNameArgs,
    /// By which algorithm [default: the one that the file names]
    #[arg(long, value_name = "A", value_parser = parse::algorithm(KeyOps::UNWRAP_KEY), required_if_eq("raw", "true"))]
    algorithm: Option<Algorithm>,
    #[command(flatten)]
    files: FileArgs,
    /// The input is the wrapped key alone; needs --algorithm and --version
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    format: FormatArgs,
}

/// Wraps a key.
pub(in crate::cli) async fn wrap(connection: &ConnectionArgs, args: &WrapArgs) -> anyhow::Result<()> {
    let key = args.key.key(connection)?;
    let secret = files::read(&args.files.input, KEY)?;
    let out = Out::prepare(&args.files.output, Content::Public)?;
    let client = connection.connect().await?;
    let action = using("wrap with", &key);
    let answer = client.call(&action, client.api.wrap_key(&key.to_string(), &by(args.algorithm), &secret)).await?;
    let name = answer.version.clone();
    let bytes = if args.raw {
        answer.wrapped_key
    } else {
        envelope::encode(&WrappedKey::new(answer.version, args.algorithm, answer.wrapped_key))?
    };
    let to_standard = out.is_standard();
    out.commit(&bytes)?;
    report(args.format, to_standard, &UseView { name, algorithm: args.algorithm.name(), valid: None })
}

/// Unwraps a key.
pub(in crate::cli) async fn unwrap(connection: &ConnectionArgs, args: &UnwrapArgs) -> anyhow::Result<()> {
    let key = args.key.key(connection)?;
    let (wrapped_key, version, algorithm) = args.wrapped(key)?;
    let out = Out::prepare(&args.files.output, Content::Secret)?;
    let client = connection.connect().await?;
    let action = using("unwrap with", &version);
    let name = version.to_string();
    let answer = client.call(&action, client.api.unwrap_key(&name, &by(algorithm), &wrapped_key)).await?;
    let to_standard = out.is_standard();
    out.commit(answer.key.expose_secret())?;
    report(args.format, to_standard, &UseView { name: answer.version, algorithm: algorithm.name(), valid: None })
}

impl UnwrapArgs {
    /// The wrapped key, the version that wrapped it and the algorithm.
    fn wrapped(&self, key: KeyRef) -> anyhow::Result<(Vec<u8>, KeyRef, Algorithm)> {
        let input = &self.files.input;
        if !self.raw {
            let (file, version, algorithm) = envelope::open::<WrappedKey>(input, &key, self.algorithm)?;
            return Ok((file.wrapped_key.0, version, algorithm));
        }
        match (key.version, self.algorithm) {
            (Some(_), Some(algorithm)) => Ok((files::read(input, WRAPPED)?.to_vec(), key, algorithm)),
            _ => Err(Failure::new("a raw wrapped key does not say which version and algorithm wrapped it")
                .hint("pass --version and --algorithm as `key wrap` printed them")
                .into()),
        }
    }
}
