//! `key generate-data-key`: a key for data, made in the HSM and put under one of its keys.

use std::path::PathBuf;

use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};
use strongroom_client::{DataKeyLength, WrappedDataKey, secrecy::ExposeSecret as _};

use super::{Algorithm, FormatArgs, KeyOps, UseView, VersionedNameArgs, by, encrypt, report, using};
use crate::cli::{
    connection::ConnectionArgs,
    envelope::{self, Ciphertext, WrappedKey},
    failure::Failure,
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

/// Makes a data key.
pub(in crate::cli) async fn run(connection: &ConnectionArgs, args: &DataKeyArgs) -> anyhow::Result<()> {
    let key = args.key.key(connection)?;
    args.check_outputs()?;
    let additional = encrypt::additional_data(None, args.aad.as_deref())?;
    let wrapped_out = Out::prepare(&args.wrapped_out, Content::Public)?;
    let plain_out = args.out.as_deref().map(|path| Out::prepare(path, Content::Secret)).transpose()?;
    let client = connection.connect().await?;
    let action = using("make a data key with", &key);
    let (name, algorithm) = (key.to_string(), by(args.algorithm));
    let wanted = DataKeyLength { length_bytes: args.bytes, additional_data: &additional };
    let (wrapped, plain) = if args.wrapped_only {
        let made = client.api.generate_data_key_without_plaintext(&name, &algorithm, wanted);
        (client.call(&action, made).await?, None)
    } else {
        let made = client.call(&action, client.api.generate_data_key(&name, &algorithm, wanted)).await?;
        (made.wrapped, Some(made.key))
    };
    let used = UseView { name: wrapped.version.clone(), algorithm: args.algorithm.name(), valid: None };
    let to_standard = wrapped_out.is_standard() || plain_out.as_ref().is_some_and(Out::is_standard);
    // The wrapped form first: a data key without it would be lost with its data.
    wrapped_out.commit(&args.envelope(wrapped, !additional.is_empty())?)?;
    if let (Some(out), Some(plain)) = (plain_out, plain) {
        out.commit(plain.expose_secret())?;
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
    fn envelope(&self, made: WrappedDataKey, additional_data: bool) -> anyhow::Result<Vec<u8>> {
        let WrappedDataKey { version: name, wrapped_key, iv, tag } = made;
        if self.algorithm.data_key_operation() == Some(KeyOps::WRAP_KEY) {
            return envelope::encode(&WrappedKey::new(name, self.algorithm, wrapped_key));
        }
        let mut file = Ciphertext::new(name, self.algorithm, wrapped_key, iv, tag);
        file.additional_data = additional_data;
        envelope::encode(&file)
    }
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
