//! `key sign` and `key verify`.
//!
//! The file is always hashed here, in constant memory, and only its digest is sent: files of any size
//! take the same path, and what is signed does not leave this machine.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Args;
use strongroom_proto::v1::{SignRequest, VerifyRequest, sign_request, verify_request};

use super::{Algorithm, FileArgs, FormatArgs, KeyOps, UseView, VersionedNameArgs, one_standard_input, report, using};
use crate::cli::{
    client,
    connection::ConnectionArgs,
    ecdsa_der,
    failure::Failure,
    files::{self, Content, Limit, Out},
    output, parse,
};

/// An RSA-4096 signature has 512 bytes; an ECDSA signature in DER at most 141.
const SIGNATURE: Limit = Limit { bytes_max: 1024, hint: "a signature is shorter; was it the signed file itself?" };
/// The longest digest, SHA-512's.
const DIGEST: Limit = Limit { bytes_max: 64, hint: "leave out --digest to have the file hashed here" };

/// What `key sign` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct SignArgs {
    #[command(flatten)]
    key: VersionedNameArgs,
    /// By which algorithm
    #[arg(long, value_name = "A", value_parser = parse::algorithm(KeyOps::SIGN))]
    algorithm: Algorithm,
    #[command(flatten)]
    files: FileArgs,
    /// ECDSA: write DER, as OpenSSL takes it, rather than r‖s
    #[arg(long)]
    der: bool,
    /// The input is a digest already: 32, 48 or 64 bytes
    #[arg(long)]
    digest: bool,
    #[command(flatten)]
    format: FormatArgs,
}

/// What `key verify` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct VerifyArgs {
    #[command(flatten)]
    key: VersionedNameArgs,
    /// By which algorithm
    #[arg(long, value_name = "A", value_parser = parse::algorithm(KeyOps::VERIFY))]
    algorithm: Algorithm,
    /// The file that was signed; - is standard input
    #[arg(long = "in", value_name = "FILE")]
    input: PathBuf,
    /// The signature; - is standard input
    #[arg(long, value_name = "FILE")]
    signature: PathBuf,
    /// ECDSA: the signature is in DER rather than r‖s
    #[arg(long)]
    der: bool,
    /// The input is a digest already: 32, 48 or 64 bytes
    #[arg(long)]
    digest: bool,
    #[command(flatten)]
    format: FormatArgs,
}

fn digest_of(input: &std::path::Path, is_digest: bool, algorithm: Algorithm) -> anyhow::Result<Vec<u8>> {
    let digest = algorithm.signature_digest().context("an algorithm that signs has a hash")?;
    if !is_digest {
        return files::hash(input, digest);
    }
    let bytes = files::read(input, DIGEST)?;
    if bytes.len() != digest.bytes() {
        let name = files::shown(input, "standard input");
        let message =
            format!("{name} has {} bytes; a digest for {} has {}", bytes.len(), algorithm.name(), digest.bytes());
        return Err(Failure::new(message).hint(DIGEST.hint).into());
    }
    Ok(bytes.to_vec())
}

/// Signs a file.
pub(in crate::cli) async fn sign(connection: &ConnectionArgs, args: &SignArgs) -> anyhow::Result<()> {
    if args.der {
        ecdsa_der::check_choice(args.algorithm)?;
    }
    let key = args.key.key(connection)?;
    let digest = digest_of(&args.files.input, args.digest, args.algorithm)?;
    let out = Out::prepare(&args.files.output, Content::Public)?;
    let client = connection.connect().await?;
    let action = using("sign with", &key);
    let request = || SignRequest {
        name: key.to_string(),
        algorithm: args.algorithm.name().to_owned(),
        input_crc32c: Some(crc32c::crc32c(&digest)),
        input: Some(sign_request::Input::Digest(digest.clone())),
    };
    let send = |request| async { client.crypto().sign(request).await };
    let answer = client.call(&action, request, send).await?;
    client::check_crc(&action, "signature", &answer.signature, answer.signature_crc32c)?;
    let signature = if args.der { ecdsa_der::to_der(args.algorithm, &answer.signature)? } else { answer.signature };
    let to_standard = out.is_standard();
    out.commit(&signature)?;
    report(args.format, to_standard, &UseView { name: answer.name, algorithm: args.algorithm.name(), valid: None })
}

/// Verifies a signature: the exit code says whether it is right.
pub(in crate::cli) async fn verify(connection: &ConnectionArgs, args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    one_standard_input(&[&args.input, &args.signature])?;
    if args.der {
        ecdsa_der::check_choice(args.algorithm)?;
    }
    let key = args.key.key(connection)?;
    let signature = files::read(&args.signature, SIGNATURE)?.to_vec();
    let signature = if args.der { ecdsa_der::from_der(args.algorithm, &signature)? } else { signature };
    let digest = digest_of(&args.input, args.digest, args.algorithm)?;
    let client = connection.connect().await?;
    let action = using("verify with", &key);
    let request = || VerifyRequest {
        name: key.to_string(),
        algorithm: args.algorithm.name().to_owned(),
        input_crc32c: Some(crc32c::crc32c(&digest)),
        input: Some(verify_request::Input::Digest(digest.clone())),
        signature_crc32c: Some(crc32c::crc32c(&signature)),
        signature: signature.clone(),
    };
    let send = |request| async { client.crypto().verify(request).await };
    let answer = client.call(&action, request, send).await?;
    let valid = answer.valid;
    let view = UseView { name: answer.name, algorithm: args.algorithm.name(), valid: Some(valid) };
    output::show(args.format.format, &view)?;
    Ok(if valid { ExitCode::SUCCESS } else { ExitCode::from(EXIT_WRONG) })
}

/// Exit code of a signature that is wrong.
const EXIT_WRONG: u8 = 1;
