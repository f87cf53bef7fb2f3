//! `secret set`.

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
};

use clap::Args;
use strongroom_proto::v1::{SecretVersion, SetSecretRequest};
use zeroize::Zeroizing;

use super::{NameArgs, changing, parent};
use crate::{
    cli::{
        change::ChangeArgs,
        connection::ConnectionArgs,
        failure::Failure,
        files::{self, Limit},
        output::{self, FormatArgs},
        parse::{self, TimeArg},
        typed_pin::hidden,
        view::SecretView,
    },
    model::secrets::VALUE_BYTES_MAX,
};

pub(super) const AFTER_HELP: &str = "\
The value is what the file or standard input holds, byte for byte, a newline at its end included: `printf %s` writes none, \
`echo` does, and --strip-newline takes one away. At a terminal the value is asked for twice and not shown; its end of line is not \
part of it. There is no flag for the value itself: arguments are in the shell's history, and every user of the machine may read them.";

const VALUE: Limit =
    Limit { bytes_max: VALUE_BYTES_MAX, hint: "what is larger goes into a file: strongroom file encrypt" };

/// What `secret set` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct SetArgs {
    #[command(flatten)]
    name: NameArgs,
    /// The file with the value, at most 64 KiB; - is standard input [default: -]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Take one newline away from the end of the value, if there is one
    #[arg(long)]
    strip_newline: bool,
    /// What the value is, for whoever reads it, such as text/plain
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// From then on it is meant to be used: RFC 3339, or a duration from now such as P7D
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    not_before: Option<TimeArg>,
    /// Until then: RFC 3339, or a duration from now such as P90D. Events tell of it 30 days before; it can still be read
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    expires: Option<TimeArg>,
    /// A tag; once for each. Tags are not encrypted
    #[arg(long = "tag", value_name = "K=V", value_parser = parse::tag)]
    tags: Vec<(String, String)>,
    /// Make it disabled: its value cannot be read until it is enabled
    #[arg(long)]
    disabled: bool,
    /// Fail when the secret exists, rather than add a version to it
    #[arg(long)]
    must_not_exist: bool,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Makes a secret or a version.
pub(in crate::cli) async fn run(connection: &ConnectionArgs, args: &SetArgs) -> anyhow::Result<()> {
    let secret = args.name.secret(connection)?;
    let version = args.version(parse::now())?;
    let request_id = args.change.request_id()?;
    let value = args.value().await?;
    let client = connection.connect().await?;
    let action = changing("set", &secret, &request_id);
    let request = SetSecretRequest {
        parent: parent(&secret),
        secret_id: secret.secret.as_str().to_owned(),
        version: Some(version),
        must_not_exist: args.must_not_exist,
        request_id,
        ..Default::default()
    };
    let made = client.call(&action, client.api.set_secret(request, &value)).await?;
    output::show(args.format.format, &SecretView::from(&made))
}

impl SetArgs {
    fn version(&self, now: jiff::Timestamp) -> anyhow::Result<SecretVersion> {
        let time = |time: Option<TimeArg>| time.map(|time| time.resolve(now)).transpose();
        Ok(SecretVersion {
            content_type: self.content_type.clone().unwrap_or_default(),
            enabled: Some(!self.disabled),
            not_before_time: time(self.not_before)?,
            expire_time: time(self.expires)?,
            tags: parse::tags(&self.tags)?,
            ..SecretVersion::default()
        })
    }

    async fn value(&self) -> anyhow::Result<Zeroizing<Vec<u8>>> {
        let path = self.file.as_deref().unwrap_or(Path::new("-"));
        let is_standard = files::is_standard(path);
        let mut value =
            if is_standard && io::stdin().is_terminal() { typed().await? } else { files::read(path, VALUE)? };
        if self.strip_newline {
            strip_newline(&mut value);
        } else if is_standard && value.ends_with(b"\n") {
            output::note("the value ends with a newline, which is kept; --strip-newline takes it away");
        }
        if value.is_empty() {
            // A program at the other end of the pipe may have failed.
            let name = files::shown(path, "standard input");
            return Err(Failure::new(format!("{name} is empty, and an empty value is not taken")).into());
        }
        Ok(value)
    }
}

/// Asks for it, twice: nobody sees what was typed.
async fn typed() -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let value = hidden("Value:").await?;
    if *value == *hidden("Value again:").await? {
        return Ok(value);
    }
    Err(Failure::new("nothing was set: the two were not the same").into())
}

/// Takes `\n` or `\r\n` away from the end, once.
fn strip_newline(value: &mut Vec<u8>) {
    if value.last() == Some(&b'\n') {
        value.pop();
        if value.last() == Some(&b'\r') {
            value.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_newline_is_taken_away() {
        for (value, expected) in
            [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a\r", "a\r"), ("a", "a"), ("\n", ""), ("", "")]
        {
            let mut stripped = value.as_bytes().to_vec();
            strip_newline(&mut stripped);
            assert_eq!(stripped, expected.as_bytes(), "{value:?}");
        }
    }
}
