//! `key random`.

use std::path::PathBuf;

use clap::Args;
use strongroom_hsm::algorithms::RANDOM_BYTES_MAX;
use strongroom_proto::v1::GenerateRandomBytesRequest;
use zeroize::Zeroizing;

use crate::cli::{
    client::{self, Client},
    connection::ConnectionArgs,
    failure::{Action, Noun},
    files::{Content, Out},
    output,
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
}

/// Fetches random bytes.
pub(in crate::cli) async fn run(connection: &ConnectionArgs, args: &RandomArgs) -> anyhow::Result<()> {
    let out = args.out.as_deref().map(|path| Out::prepare(path, Content::Secret)).transpose()?;
    let client = connection.connect().await?;
    let scope = connection.vault().map_or_else(|_| "vaults/VAULT".to_owned(), |vault| format!("vaults/{vault}"));
    let action = Action { what: "make random bytes".into(), noun: Noun::Key, scope, request_id: None };
    let bytes = fetch(&client, &action, usize::try_from(args.bytes)?).await?;
    match out {
        Some(out) => out.commit(&bytes),
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

/// In as many calls as it takes.
async fn fetch(client: &Client, action: &Action, wanted: usize) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(wanted));
    while bytes.len() < wanted {
        let length = (wanted - bytes.len()).min(RANDOM_BYTES_MAX);
        let length_bytes = i32::try_from(length)?;
        let request = || GenerateRandomBytesRequest { length_bytes };
        let send = |request| async { client.crypto().generate_random_bytes(request).await };
        let answer = client.call(action, request, send).await?;
        let data = Zeroizing::new(answer.data);
        client::check_crc(action, "data", &data, answer.data_crc32c)?;
        anyhow::ensure!(data.len() == length, "the server sent {} random bytes instead of {length}", data.len());
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}
