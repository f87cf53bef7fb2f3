//! `key random`.

use std::path::PathBuf;

use base64ct::{Base64, Encoding as _};
use clap::Args;
use serde::Serialize;
use strongroom_client::secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use crate::cli::{
    connection::ConnectionArgs,
    failure::{Action, Noun},
    files::{Content, Out},
    output::{self, Format, FormatArgs},
};

/// What `key random` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct RandomArgs {
    /// How many: 1 to 1048576
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    bytes: u32,
    /// The file to write, whole or not at all; - is standard output [default: hexadecimal on standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    format: FormatArgs,
}

/// Random bytes as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct RandomView {
    pub(in crate::cli) length_bytes: u32,
    /// Absent when they went into a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) data: Option<Zeroizing<String>>,
}

/// Fetches random bytes.
pub(in crate::cli) async fn run(connection: &ConnectionArgs, args: &RandomArgs) -> anyhow::Result<()> {
    let out = args.out.as_deref().map(|path| Out::prepare(path, Content::Secret)).transpose()?;
    let client = connection.connect().await?;
    let scope = connection.vault().map_or_else(|_| "vaults/VAULT".to_owned(), |vault| format!("vaults/{vault}"));
    let action = Action { what: "make random bytes".into(), noun: Noun::Key, scope, request_id: None };
    let bytes = client.call(&action, client.api.random_bytes(usize::try_from(args.bytes)?)).await?;
    let bytes = bytes.expose_secret();
    let json = args.format.format == Format::Json;
    let length_bytes = args.bytes;
    match out {
        Some(out) => {
            let to_standard = out.is_standard();
            out.commit(bytes)?;
            if json && !to_standard { output::json(&RandomView { length_bytes, data: None }) } else { Ok(()) }
        }
        None if json => {
            let data = Some(Zeroizing::new(Base64::encode_string(bytes)));
            output::line(&Zeroizing::new(serde_json::to_string_pretty(&RandomView { length_bytes, data })?))
        }
        None => {
            let mut text = Zeroizing::new(String::with_capacity(2 * bytes.len()));
            bytes.iter().for_each(|byte| text.extend(hex_digits(*byte)));
            output::line(&text)
        }
    }
}

fn hex_digits(byte: u8) -> [char; 2] {
    [byte >> 4, byte & 15].map(|digit| char::from_digit(u32::from(digit), 16).expect("below 16"))
}
