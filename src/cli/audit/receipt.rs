//! `strongroom audit verify-receipt`: a record is in a log, by its receipt and keys, without the log.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use serde::Serialize;

use super::{
    signers::{self, SignerView},
    vkey::{self, KeysArg},
    wrong,
};
use crate::{
    audit::tlog::{
        Receipt, ReceiptError, VerifierKey,
        receipt::{RECEIPT_BYTES_MAX, Shown},
        tile::ENTRY_BYTES_MAX,
    },
    cli::{
        compose::failure,
        failure::Failure,
        files::{self, Limit},
        output::{self, FormatArgs, Rows},
    },
};

/// What `audit verify-receipt` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct VerifyReceiptArgs {
    /// The receipt; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// A key to verify it with, or a file of some: that of the log, which must have signed, and those of witnesses
    #[arg(long, value_name = "VKEY|FILE", required = true)]
    key: Vec<KeysArg>,
    /// The record's JSON, for a receipt that does not carry it
    #[arg(long, value_name = "FILE")]
    entry: Option<PathBuf>,
    #[command(flatten)]
    format: FormatArgs,
}

/// What a receipt has shown.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct ReceiptView {
    /// Which log.
    pub(in crate::cli) origin: String,
    /// The record's place in it.
    pub(in crate::cli) index: String,
    /// The size of the tree that it is in.
    pub(in crate::cli) size: String,
    /// Who has signed that tree, of those whose keys were given.
    pub(in crate::cli) signers: Vec<SignerView>,
    /// The record's JSON, as it is in the log.
    pub(in crate::cli) entry: String,
}

impl Rows for ReceiptView {
    fn head(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        [
            ("log", self.origin.clone()),
            ("record", self.index.clone()),
            ("in a tree of", format!("{} records", self.size)),
            ("signed by", signers::text(&self.signers)),
            ("it says", self.entry.clone()),
        ]
        .map(|(name, value)| vec![name.to_owned(), value])
        .into()
    }
}

/// Verifies a receipt.
pub(super) fn run(args: &VerifyReceiptArgs) -> anyhow::Result<ExitCode> {
    let keys = vkey::all(&args.key);
    let hint = "a receipt is what `strongroom audit receipt` writes";
    let bytes = files::read(&args.file, Limit { bytes_max: RECEIPT_BYTES_MAX, hint })?;
    let format = args.format.format;
    let receipt = match Receipt::parse(&bytes) {
        Ok(receipt) => receipt,
        Err(error) => return Ok(wrong(shows_nothing(args, &error), format)),
    };
    let entry = entry(args, &receipt)?;
    match verified(&receipt, &entry, &keys) {
        Ok((shown, entry)) => output::show(format, &view(&shown, entry))?,
        Err(error) => return Ok(wrong(shows_nothing(args, &error), format)),
    }
    Ok(ExitCode::SUCCESS)
}

/// The record that the receipt is for: the one that is given goes before the one that came with it.
fn entry(args: &VerifyReceiptArgs, receipt: &Receipt) -> anyhow::Result<Vec<u8>> {
    if let Some(path) = &args.entry {
        let hint = "it is the JSON of one record, as `strongroom audit show -o json` has it";
        return Ok(files::read(path, Limit { bytes_max: ENTRY_BYTES_MAX + 1, hint })?.to_vec());
    }
    if receipt.extra().is_empty() {
        return Err(Failure::new("the receipt does not carry its record")
            .hint("name a file with the record's JSON, byte for byte: --entry FILE")
            .into());
    }
    Ok(receipt.extra().to_vec())
}

/// An editor may have ended the record's only line.
fn verified<'k, 'e>(
    receipt: &Receipt,
    entry: &'e [u8],
    keys: &'k [VerifierKey],
) -> Result<(Shown<'k>, &'e [u8]), ReceiptError> {
    let error = match receipt.verify(entry, keys) {
        Ok(shown) => return Ok((shown, entry)),
        Err(error) => error,
    };
    let Some(line) = entry.strip_suffix(b"\n") else { return Err(error) };
    receipt.verify(line, keys).map(|shown| (shown, line))
}

fn view(shown: &Shown<'_>, entry: &[u8]) -> ReceiptView {
    ReceiptView {
        origin: shown.checkpoint.origin().to_owned(),
        index: shown.index.to_string(),
        size: shown.checkpoint.size().to_string(),
        signers: shown.signers.iter().map(SignerView::from).collect(),
        entry: String::from_utf8_lossy(entry).into_owned(),
    }
}

fn shows_nothing(args: &VerifyReceiptArgs, error: &ReceiptError) -> Failure {
    let shown = failure(format!("the receipt {} shows nothing", files::shown(&args.file, "on standard input")), error);
    match error {
        ReceiptError::Proof(_) => shown.hint("the record or the proof is not the one that belongs to that place in the log"),
        ReceiptError::Checkpoint(_) | ReceiptError::Note(_) => shown.hint(
            "is --key the log's own, from somebody you trust? after `strongroom recover` a log has another key: pass both",
        ),
        _ => shown.hint("ask for the receipt again: strongroom audit receipt INDEX"),
    }
}
