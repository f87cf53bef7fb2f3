//! `key sign` and `key verify`.
//!
//! The file is hashed here, in constant memory, and only its digest is sent: files of any size take the
//! same path, and what is signed does not leave this machine. EdDSA and HS* are computed over the file itself,
//! inside the HSM, so for them it is sent.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use strongroom_client::Input;
use strongroom_hsm::algorithms::MESSAGE_BYTES_MAX;
use zeroize::Zeroizing;

use super::{
    Algorithm, FileArgs, FormatArgs, KeyOps, UseView, VersionedNameArgs, by, one_standard_input, report, using,
};
use crate::cli::{
    connection::ConnectionArgs,
    ecdsa_der,
    failure::Failure,
    files::{self, Content, Limit, Out},
    output, parse,
};

/// An RSA-4096 signature has 512 bytes; an ECDSA signature in DER at most 141.
const SIGNATURE: Limit = Limit { bytes_max: 1024, hint: "a signature is shorter; was it the signed file itself?" };
/// What EdDSA and HS* take.
const MESSAGE: Limit = Limit {
    bytes_max: MESSAGE_BYTES_MAX,
    hint: "EdDSA and HS* take the file itself: sign its digest instead (openssl dgst -sha512 -binary), or take an \
           algorithm that signs one (ES256, RS256)",
};
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
    /// RS*, PS*, ES*: the input is a digest already: 32, 48 or 64 bytes
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
    /// RS*, PS*, ES*: the input is a digest already: 32, 48 or 64 bytes
    #[arg(long)]
    digest: bool,
    #[command(flatten)]
    format: FormatArgs,
}

/// What is sent to be signed or verified.
enum Signed {
    Digest(Vec<u8>),
    Message(Zeroizing<Vec<u8>>),
}

impl Signed {
    /// What the algorithm signs of a file.
    fn of(input: &Path, is_digest: bool, algorithm: Algorithm) -> anyhow::Result<Self> {
        if algorithm.signature_digest().is_some() {
            return digest_of(input, is_digest, algorithm).map(Self::Digest);
        }
        if is_digest {
            let message =
                format!("--digest is for RS*, PS* and ES*: {} is computed over the file itself", algorithm.name());
            return Err(Failure::new(message)
                .hint("leave out --digest: whatever is in the file is taken as it is")
                .into());
        }
        files::read(input, MESSAGE).map(Self::Message)
    }

    fn input(&self) -> Input<'_> {
        match self {
            Self::Digest(digest) => Input::Digest(digest),
            Self::Message(message) => Input::Message(message),
        }
    }
}

fn digest_of(input: &Path, is_digest: bool, algorithm: Algorithm) -> anyhow::Result<Vec<u8>> {
    let Some(digest) = algorithm.signature_digest() else {
        anyhow::bail!("{} signs no digest", algorithm.name());
    };
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
    let signed = Signed::of(&args.files.input, args.digest, args.algorithm)?;
    let out = Out::prepare(&args.files.output, Content::Public)?;
    let client = connection.connect().await?;
    let action = using("sign with", &key);
    let (name, algorithm) = (key.to_string(), by(args.algorithm));
    let answer = client.call(&action, client.api.sign(&name, &algorithm, signed.input())).await?;
    let signature = if args.der { ecdsa_der::to_der(args.algorithm, &answer.signature)? } else { answer.signature };
    let to_standard = out.is_standard();
    out.commit(&signature)?;
    report(args.format, to_standard, &UseView { name: answer.version, algorithm: args.algorithm.name(), valid: None })
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
    let signed = Signed::of(&args.input, args.digest, args.algorithm)?;
    let client = connection.connect().await?;
    let action = using("verify with", &key);
    let (name, algorithm) = (key.to_string(), by(args.algorithm));
    let verify = client.api.verify(&name, &algorithm, signed.input(), &signature);
    let answer = client.call(&action, verify).await?;
    let valid = answer.valid;
    let view = UseView { name: answer.version, algorithm: args.algorithm.name(), valid: Some(valid) };
    output::show(args.format.format, &view)?;
    Ok(if valid { ExitCode::SUCCESS } else { ExitCode::from(EXIT_WRONG) })
}

/// Exit code of a signature that is wrong.
const EXIT_WRONG: u8 = 1;
