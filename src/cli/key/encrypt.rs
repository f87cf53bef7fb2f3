//! `key encrypt` and `key decrypt`.

use std::path::{Path, PathBuf};

use clap::Args;
use strongroom_client::{Encryption, Sealed, secrecy::ExposeSecret as _};
use strongroom_hsm::algorithms::{ADDITIONAL_DATA_BYTES_MAX, AES_BLOCK_BYTES, PLAINTEXT_BYTES_MAX, Scheme};

use super::{
    Algorithm, FileArgs, FormatArgs, KeyOps, UseView, VersionedNameArgs, by, one_standard_input, report, using,
};
use crate::cli::{
    connection::ConnectionArgs,
    envelope::{self, Ciphertext},
    failure::Failure,
    files::{self, Content, Limit, Out},
    parse::{self, Iv},
};

pub(super) const AFTER_HELP: &str = "\
The file is one JSON object, bytes in base64url:
  { \"format\": \"strongroom.ciphertext.v1\", \"name\": VERSION, \"algorithm\": A, \"additional_data\": true,
    \"iv\": …, \"tag\": …, \"ciphertext\": … }
`additional_data` is there when --aad was given; `iv` is there for A*GCM, A*CBC and A*CBCPAD, `tag` for A*GCM.
A*CBC and A*CBCPAD do not notice when a file was altered: they are for what other programs read already.";

const PLAINTEXT: Limit =
    Limit { bytes_max: PLAINTEXT_BYTES_MAX, hint: "larger files: strongroom file encrypt --key NAME IN OUT" };
const ADDITIONAL: Limit =
    Limit { bytes_max: ADDITIONAL_DATA_BYTES_MAX, hint: "pass its digest as additional data instead" };

/// What `key encrypt` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct EncryptArgs {
    #[command(flatten)]
    key: VersionedNameArgs,
    /// By which algorithm
    #[arg(long, value_name = "A", value_parser = parse::algorithm(KeyOps::ENCRYPT))]
    algorithm: Algorithm,
    #[command(flatten)]
    files: FileArgs,
    /// A*GCM: additional data that is authenticated and needed again to decrypt; at most 16 KiB
    #[arg(long, value_name = "FILE")]
    aad: Option<PathBuf>,
    /// A*CBC, A*CBCPAD: the initialisation vector, 32 hexadecimal digits; never the same twice with one key
    /// [default: random]
    #[arg(long, value_name = "HEX", value_parser = parse::iv)]
    iv: Option<Iv>,
    #[command(flatten)]
    format: FormatArgs,
}

/// What `key decrypt` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct DecryptArgs {
    #[command(flatten)]
    key: VersionedNameArgs,
    /// By which algorithm [default: the one that the file names]
    #[arg(long, value_name = "A", value_parser = parse::algorithm(KeyOps::DECRYPT))]
    algorithm: Option<Algorithm>,
    #[command(flatten)]
    files: FileArgs,
    /// The additional data that it was encrypted with
    #[arg(long, value_name = "FILE")]
    aad: Option<PathBuf>,
    #[command(flatten)]
    format: FormatArgs,
}

/// The additional data that a flag names; `input` is what else is read.
pub(super) fn additional_data(input: Option<&Path>, aad: Option<&Path>) -> anyhow::Result<Vec<u8>> {
    let Some(aad) = aad else {
        return Ok(Vec::new());
    };
    let read: Vec<&Path> = input.into_iter().chain([aad]).collect();
    one_standard_input(&read)?;
    Ok(files::read(aad, ADDITIONAL)?.to_vec())
}

/// The IV that is sent: for AES-CBC the one that was given, or a random one. AES-GCM's is the server's.
pub(super) fn iv(algorithm: Algorithm, given: Option<&Iv>) -> Result<Vec<u8>, Failure> {
    let takes_iv = matches!(algorithm.scheme(), Scheme::AesCbc | Scheme::AesCbcPad);
    match given {
        Some(_) if !takes_iv => Err(Failure::new(format!("--iv is for A*CBC and A*CBCPAD, not {}", algorithm.name()))
            .hint("leave out --iv: for A*GCM the server makes it")),
        Some(Iv(iv)) => Ok(iv.to_vec()),
        None if takes_iv => {
            let mut iv = vec![0; AES_BLOCK_BYTES];
            aws_lc_rs::rand::fill(&mut iv).map_err(|_| Failure::new("this machine has no random numbers"))?;
            Ok(iv)
        }
        None => Ok(Vec::new()),
    }
}

/// Encrypts a file.
pub(in crate::cli) async fn encrypt(connection: &ConnectionArgs, args: &EncryptArgs) -> anyhow::Result<()> {
    let key = args.key.key(connection)?;
    let additional = additional_data(Some(&args.files.input), args.aad.as_deref())?;
    let iv = iv(args.algorithm, args.iv.as_ref())?;
    let plaintext = files::read(&args.files.input, PLAINTEXT)?;
    let out = Out::prepare(&args.files.output, Content::Public)?;
    let client = connection.connect().await?;
    let action = using("encrypt with", &key);
    let data = Encryption { plaintext: &plaintext, additional_data: &additional, iv: &iv };
    let answer = client.call(&action, client.api.encrypt(&key.to_string(), &by(args.algorithm), data)).await?;
    let name = answer.version.clone();
    let mut file = Ciphertext::new(answer.version, args.algorithm, answer.ciphertext, answer.iv, answer.tag);
    file.additional_data = !additional.is_empty();
    let to_standard = out.is_standard();
    out.commit(&envelope::encode(&file)?)?;
    report(args.format, to_standard, &UseView { name, algorithm: args.algorithm.name(), valid: None })
}

/// Decrypts a file.
pub(in crate::cli) async fn decrypt(connection: &ConnectionArgs, args: &DecryptArgs) -> anyhow::Result<()> {
    let key = args.key.key(connection)?;
    let additional = additional_data(Some(&args.files.input), args.aad.as_deref())?;
    let (file, version, algorithm) = envelope::open::<Ciphertext>(&args.files.input, &key, args.algorithm)?;
    check_additional_data(&args.files.input, file.additional_data, args.aad.as_deref(), &additional)?;
    let out = Out::prepare(&args.files.output, Content::Secret)?;
    let client = connection.connect().await?;
    let action = using("decrypt with", &version);
    let data =
        Sealed { ciphertext: &file.ciphertext.0, iv: &file.iv.0, tag: &file.tag.0, additional_data: &additional };
    let answer = client.call(&action, client.api.decrypt(&version.to_string(), &by(algorithm), data)).await?;
    let to_standard = out.is_standard();
    out.commit(answer.plaintext.expose_secret())?;
    report(args.format, to_standard, &UseView { name: answer.version, algorithm: algorithm.name(), valid: None })
}

/// Says in words what would otherwise be a decryption that fails.
pub(super) fn check_additional_data(
    input: &Path,
    needed: bool,
    aad: Option<&Path>,
    found: &[u8],
) -> Result<(), Failure> {
    let input = files::shown(input, "standard input");
    match (needed, aad) {
        (true, None) => Err(Failure::new(format!("{input} was encrypted with additional data"))
            .hint("pass the same additional data: --aad FILE")),
        (false, Some(aad)) if !found.is_empty() => {
            let message =
                format!("{input} was encrypted without additional data, but --aad {} is given", aad.display());
            Err(Failure::new(message).hint("leave out --aad"))
        }
        _ => Ok(()),
    }
}
