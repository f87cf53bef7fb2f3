//! `key generate-data-key`: a key for data, made in the HSM and put under one of its keys.

use std::path::PathBuf;

use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};
use strongroom_proto::v1::{GenerateDataKeyRequest, GenerateDataKeyWithoutPlaintextRequest};
use zeroize::Zeroizing;

use super::{Algorithm, FormatArgs, KeyOps, KeyRef, UseView, VersionedNameArgs, encrypt, report, using};
use crate::cli::{
    client::{self, Client},
    connection::ConnectionArgs,
    envelope::{self, Ciphertext, WrappedKey},
    failure::{Action, Failure},
    files::{self, Content, Out},
    parse,
};

pub(super) const AFTER_HELP: &str = "\
The wrapped file is the one that `key wrap` writes, and `key unwrap` opens it. With A*GCM, which encrypts and \
does not wrap, it is the one that `key encrypt` writes, and `key decrypt` opens it.";

/// What `key generate-data-key` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct DataKeyArgs {
    #[command(flatten)]
    key: VersionedNameArgs,
    /// By which algorithm it is put under the key
    #[arg(long, value_name = "A", value_parser = parse::data_key_algorithm())]
    algorithm: Algorithm,
    /// The data key's length in bytes
    #[arg(long, value_name = "N", default_value = "32", value_parser = length())]
    bytes: i32,
    /// The file for the data key itself; - is standard output
    #[arg(long, value_name = "FILE", required_unless_present = "wrapped_only", conflicts_with = "wrapped_only")]
    out: Option<PathBuf>,
    /// The file for the data key under the key; - is standard output
    #[arg(long, value_name = "FILE")]
    wrapped_out: PathBuf,
    /// Make the wrapped form only: the data key itself never leaves the HSM. A right of its own
    #[arg(long)]
    wrapped_only: bool,
    /// A*GCM: additional data that is authenticated and needed again to decrypt; at most 16 KiB
    #[arg(long, value_name = "FILE")]
    aad: Option<PathBuf>,
    #[command(flatten)]
    format: FormatArgs,
}

/// [`DATA_KEY_BYTES`](strongroom_hsm::algorithms::DATA_KEY_BYTES) in words.
const LENGTHS: [&str; 4] = ["16", "24", "32", "64"];

fn length() -> impl TypedValueParser<Value = i32> {
    PossibleValuesParser::new(LENGTHS).map(|bytes| bytes.parse().expect("one of the possible values"))
}

/// A data key as the server made it.
struct Made {
    name: String,
    wrapped_key: Vec<u8>,
    iv: Vec<u8>,
    tag: Vec<u8>,
    plain: Option<Zeroizing<Vec<u8>>>,
}

/// Makes a data key.
pub(in crate::cli) async fn run(connection: &ConnectionArgs, args: &DataKeyArgs) -> anyhow::Result<()> {
    let key = args.key.key(connection)?;
    args.check_outputs()?;
    let additional = encrypt::additional_data(None, args.aad.as_deref())?;
    let wrapped_out = Out::prepare(&args.wrapped_out, Content::Public)?;
    let plain_out = args.out.as_deref().map(|path| Out::prepare(path, Content::Secret)).transpose()?;
    let client = connection.connect().await?;
    let action = using("make a data key with", &key);
    let made = if args.wrapped_only {
        wrapped_only(&client, &action, args, &key, &additional).await?
    } else {
        both(&client, &action, args, &key, &additional).await?
    };
    let used = UseView { name: made.name.clone(), algorithm: args.algorithm.name(), valid: None };
    let to_standard = wrapped_out.is_standard() || plain_out.as_ref().is_some_and(Out::is_standard);
    // The wrapped form first: a data key without it would be lost with its data.
    wrapped_out.commit(&args.envelope(&made, !additional.is_empty())?)?;
    if let (Some(out), Some(plain)) = (plain_out, &made.plain) {
        out.commit(plain)?;
    }
    report(args.format, to_standard, &used)
}

impl DataKeyArgs {
    fn check_outputs(&self) -> Result<(), Failure> {
        let both = self.out.as_deref().is_some_and(files::is_standard) && files::is_standard(&self.wrapped_out);
        if both {
            return Err(
                Failure::new("standard output (-) takes one of the two forms only").hint("name a file for the other")
            );
        }
        Ok(())
    }

    /// The file of the wrapped form.
    fn envelope(&self, made: &Made, additional_data: bool) -> anyhow::Result<Vec<u8>> {
        let (name, wrapped_key) = (made.name.clone(), made.wrapped_key.clone());
        if self.algorithm.data_key_operation() == Some(KeyOps::WRAP_KEY) {
            return envelope::encode(&WrappedKey::new(name, self.algorithm, wrapped_key));
        }
        let mut file = Ciphertext::new(name, self.algorithm, wrapped_key, made.iv.clone(), made.tag.clone());
        file.additional_data = additional_data;
        envelope::encode(&file)
    }
}

async fn both(
    client: &Client,
    action: &Action,
    args: &DataKeyArgs,
    key: &KeyRef,
    additional: &[u8],
) -> anyhow::Result<Made> {
    let request = || GenerateDataKeyRequest {
        name: key.to_string(),
        algorithm: args.algorithm.name().to_owned(),
        length_bytes: args.bytes,
        additional_data_crc32c: Some(crc32c::crc32c(additional)),
        additional_data: additional.to_vec(),
    };
    let send = |request| async { client.crypto().generate_data_key(request).await };
    let answer = client.call(action, request, send).await?;
    let plain = Zeroizing::new(answer.key);
    client::check_crc(action, "key", &plain, answer.key_crc32c)?;
    client::check_crc(action, "wrapped_key", &answer.wrapped_key, answer.wrapped_key_crc32c)?;
    anyhow::ensure!(
        i32::try_from(plain.len()) == Ok(args.bytes),
        "the server made a data key of {} bytes, not {}",
        plain.len(),
        args.bytes
    );
    let (name, wrapped_key, iv, tag) = (answer.name, answer.wrapped_key, answer.iv, answer.tag);
    Ok(Made { name, wrapped_key, iv, tag, plain: Some(plain) })
}

async fn wrapped_only(
    client: &Client,
    action: &Action,
    args: &DataKeyArgs,
    key: &KeyRef,
    additional: &[u8],
) -> anyhow::Result<Made> {
    let request = || GenerateDataKeyWithoutPlaintextRequest {
        name: key.to_string(),
        algorithm: args.algorithm.name().to_owned(),
        length_bytes: args.bytes,
        additional_data_crc32c: Some(crc32c::crc32c(additional)),
        additional_data: additional.to_vec(),
    };
    let send = |request| async { client.crypto().generate_data_key_without_plaintext(request).await };
    let answer = client.call(action, request, send).await?;
    client::check_crc(action, "wrapped_key", &answer.wrapped_key, answer.wrapped_key_crc32c)?;
    let (name, wrapped_key, iv, tag) = (answer.name, answer.wrapped_key, answer.iv, answer.tag);
    Ok(Made { name, wrapped_key, iv, tag, plain: None })
}

#[cfg(test)]
mod tests {
    use strongroom_hsm::algorithms::DATA_KEY_BYTES;

    use super::*;

    #[test]
    fn the_lengths_are_those_of_the_table() {
        assert_eq!(LENGTHS.map(str::to_owned), DATA_KEY_BYTES.map(|bytes| bytes.to_string()));
    }
}
