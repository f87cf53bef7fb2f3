//! `secret value`: the value itself, as it was set.

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
};

use clap::Args;
use zeroize::Zeroizing;

use super::{VersionedNameArgs, fetch::exposed, reading};
use crate::cli::{
    connection::ConnectionArgs,
    failure::Failure,
    files::{Content, Out},
    output::{self, Format, FormatArgs},
    view::SecretValueView,
};

pub(super) const AFTER_HELP: &str = "\
The value is written as it was set, with no newline added: PASSWORD=$(strongroom secret value db-password). (A shell takes newlines \
away from the end of $(…); with --out, or a pipe, they stay.) Each read is in the audit log.";

/// What `secret value` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct ValueArgs {
    #[command(flatten)]
    secret: VersionedNameArgs,
    /// The file to write, whole or not at all, for its owner only; - is standard output [default: -]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    format: FormatArgs,
}

/// Writes a value.
pub(in crate::cli) async fn run(connection: &ConnectionArgs, args: &ValueArgs) -> anyhow::Result<()> {
    let secret = args.secret.secret(connection)?;
    let out = Out::prepare(args.out.as_deref().unwrap_or(Path::new("-")), Content::Secret)?;
    let client = connection.connect().await?;
    let action = reading("read", &secret);
    let read = client.call(&action, client.api.get_secret_value(&secret.to_string())).await?;
    let (value, json) = (exposed(&read), args.format.format == Format::Json);
    if !out.is_standard() {
        out.commit(value)?;
        return if json { output::json(&SecretValueView::new(&read.version, None)) } else { Ok(()) };
    }
    if json {
        let view = SecretValueView::new(&read.version, Some(value));
        return output::line(&Zeroizing::new(serde_json::to_string_pretty(&view)?));
    }
    if io::stdout().is_terminal() && !is_plain(value) {
        return Err(Failure::new(format!("the value of {secret} has bytes that a terminal would act on"))
            .hint("write it to a file (--out FILE), or into a pipe")
            .into());
    }
    out.commit(value)
}

/// Whether it is text that moves no cursor.
fn is_plain(value: &[u8]) -> bool {
    let is_layout = |c: char| ['\n', '\r', '\t'].contains(&c);
    std::str::from_utf8(value).is_ok_and(|text| text.chars().all(|c| !c.is_control() || is_layout(c)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_text_only() {
        assert!(is_plain(b"hunter2\n") && is_plain("pässword\t".as_bytes()) && is_plain(b""));
        assert!(!is_plain(b"\x1b[2J") && !is_plain(&[0xff]) && !is_plain(b"a\0"));
    }
}
