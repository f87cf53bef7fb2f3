//! `key re-encrypt` and `key rewrap`: what is under one version is put under another, in the service.

use std::path::{Path, PathBuf};

use clap::Args;
use strongroom_client::{Destination, Sealed};
use strongroom_hsm::algorithms::Scheme;

use super::{
    Algorithm, FileArgs, FormatArgs, KeyOps, KeyRef, NameArgs, UseView, by,
    encrypt::{additional_data, check_additional_data, iv},
    report, using,
};
use crate::cli::{
    connection::ConnectionArgs,
    envelope::{self, Ciphertext, WrappedKey},
    failure::Failure,
    files::{self, Content, Out},
    parse,
};

pub(super) const AFTER_HELP: &str = "\
The file is one that `key encrypt` (`key wrap`) wrote, and so is the result: it names the version that it is under now. \
Without --to that is the newest version of the same key. Takes the right to decrypt (unwrap) there, and to encrypt (wrap) here.";

/// What `key re-encrypt` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct ReEncryptArgs {
    #[command(flatten)]
    name: NameArgs,
    /// The key to put it under, in the current vault or by its full name [default: the same, its newest version]
    #[arg(long, value_name = "KEY")]
    to: Option<String>,
    /// By which algorithm it is encrypted anew [default: as before]
    #[arg(long, value_name = "A", value_parser = parse::algorithm(KeyOps::ENCRYPT))]
    algorithm: Option<Algorithm>,
    #[command(flatten)]
    files: FileArgs,
    /// The additional data that it was encrypted with; it stays, so what is written is A*GCM too
    #[arg(long, value_name = "FILE")]
    aad: Option<PathBuf>,
    #[command(flatten)]
    format: FormatArgs,
}

/// What `key rewrap` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct RewrapArgs {
    #[command(flatten)]
    name: NameArgs,
    /// The key to put it under, in the current vault or by its full name [default: the same, its newest version]
    #[arg(long, value_name = "KEY")]
    to: Option<String>,
    /// By which algorithm it is wrapped anew [default: as before]
    #[arg(long, value_name = "A", value_parser = parse::algorithm(KeyOps::WRAP_KEY))]
    algorithm: Option<Algorithm>,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    format: FormatArgs,
}

fn destination(connection: &ConnectionArgs, to: Option<&str>) -> anyhow::Result<Option<String>> {
    to.map(|to| Ok(KeyRef::resolve(connection, to, None)?.to_string())).transpose()
}

/// Refuses to put what was encrypted with additional data under an algorithm that has none: what ties the file to its context
/// would be gone, and nothing would say so.
fn check_stays(input: &Path, has_additional_data: bool, algorithm: Algorithm) -> Result<(), Failure> {
    if !has_additional_data || algorithm.scheme() == Scheme::AesGcm {
        return Ok(());
    }
    let input = files::shown(input, "standard input");
    let message = format!("{input} was encrypted with additional data, which {} cannot keep", algorithm.name());
    Err(Failure::new(message)
        .hint("to keep it, choose an A*GCM algorithm")
        .hint("to do without: strongroom key decrypt with --aad FILE, then strongroom key encrypt"))
}

/// Encrypts a file anew.
pub(in crate::cli) async fn re_encrypt(connection: &ConnectionArgs, args: &ReEncryptArgs) -> anyhow::Result<()> {
    let key = args.name.key(connection)?;
    let to = destination(connection, args.to.as_deref())?;
    let input = &args.files.input;
    let additional = additional_data(Some(input), args.aad.as_deref())?;
    let (file, version, algorithm) = envelope::open::<Ciphertext>(input, &key, None)?;
    let to_algorithm = args.algorithm.unwrap_or(algorithm);
    // First: whoever cannot go on is not asked for the data.
    check_stays(input, file.additional_data, to_algorithm)?;
    check_additional_data(input, file.additional_data, args.aad.as_deref(), &additional)?;
    let iv = iv(to_algorithm, None)?;
    let out = Out::prepare(&args.files.output, Content::Public)?;
    let client = connection.connect().await?;
    let action = using("encrypt anew what is under", &version);
    let data =
        Sealed { ciphertext: &file.ciphertext.0, iv: &file.iv.0, tag: &file.tag.0, additional_data: &additional };
    let new = args.algorithm.map(by);
    let destination = Destination { name: to.as_deref(), algorithm: new.as_ref(), additional_data: None, iv: &iv };
    let name = version.to_string();
    let answer = client.call(&action, client.api.re_encrypt(&name, &by(algorithm), data, destination)).await?;
    let made = answer.ciphertext;
    let name = made.version.clone();
    let mut file = Ciphertext::new(made.version, to_algorithm, made.ciphertext, made.iv, made.tag);
    file.additional_data = !additional.is_empty();
    let to_standard = out.is_standard();
    out.commit(&envelope::encode(&file)?)?;
    report(args.format, to_standard, &UseView { name, algorithm: to_algorithm.name(), valid: None })
}

/// Wraps a key anew.
pub(in crate::cli) async fn rewrap(connection: &ConnectionArgs, args: &RewrapArgs) -> anyhow::Result<()> {
    let key = args.name.key(connection)?;
    let to = destination(connection, args.to.as_deref())?;
    let (file, version, algorithm) = envelope::open::<WrappedKey>(&args.files.input, &key, None)?;
    let out = Out::prepare(&args.files.output, Content::Public)?;
    let client = connection.connect().await?;
    let action = using("wrap anew what is under", &version);
    let new = args.algorithm.map(by);
    let destination = Destination { name: to.as_deref(), algorithm: new.as_ref(), ..Destination::default() };
    let (name, old) = (version.to_string(), by(algorithm));
    let rewrapped = client.api.rewrap_key(&name, &old, &file.wrapped_key.0, destination);
    let made = client.call(&action, rewrapped).await?.wrapped;
    let algorithm = args.algorithm.unwrap_or(algorithm);
    let name = made.version.clone();
    let to_standard = out.is_standard();
    out.commit(&envelope::encode(&WrappedKey::new(made.version, algorithm, made.wrapped_key))?)?;
    report(args.format, to_standard, &UseView { name, algorithm: algorithm.name(), valid: None })
}
