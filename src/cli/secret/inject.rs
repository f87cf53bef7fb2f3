//! `strongroom inject`: a template or env file with values in the place of references. All of it, or nothing.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use zeroize::Zeroizing;

use super::{
    fetch::Values,
    template::{Piece, Reference, pieces},
};
use crate::cli::{
    connection::ConnectionArgs,
    failure::Failure,
    files::{self, Content, Limit, Out},
};

pub(in crate::cli) const AFTER_HELP: &str = "\
A reference is strongroom://VAULT/NAME, or strongroom://VAULT/NAME/VERSION for one version; {{strongroom://VAULT/NAME}} where text \
that could be part of a name follows. The value takes its place as it is: nothing is quoted, and a value is not looked through for \
references. Each secret is read once. When one reference cannot be resolved, or a value is not text (UTF-8), nothing is written.";

const TEMPLATE: Limit = Limit { bytes_max: 1024 * 1024, hint: "a template has 1 MiB at most" };

/// What `inject` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct InjectArgs {
    /// The template; - is standard input
    #[arg(long = "in", value_name = "FILE", default_value = "-")]
    input: PathBuf,
    /// The file to write, whole or not at all, for its owner only; - is standard output
    #[arg(long = "out", value_name = "FILE", default_value = "-")]
    output: PathBuf,
}

/// Writes a template with its values.
pub(in crate::cli) async fn run(connection: &ConnectionArgs, args: &InjectArgs) -> anyhow::Result<ExitCode> {
    let template = files::read(&args.input, TEMPLATE)?;
    let name = files::shown(&args.input, "standard input");
    let pieces = pieces(&template).map_err(|error| {
        Failure::new(format!("{name}, {error}"))
            .hint("braces end a reference where other text follows: {{strongroom://VAULT/NAME}}")
    })?;
    let out = Out::prepare(&args.output, Content::Secret)?;
    let filled = filled(connection, &name, &pieces).await?;
    out.commit(&filled)?;
    Ok(ExitCode::SUCCESS)
}

/// The template with its values.
async fn filled(connection: &ConnectionArgs, name: &str, pieces: &[Piece<'_>]) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut values = Values::of(connection.connect().await?);
    // Its length first: growing would leave copies of values behind.
    let mut length = 0;
    for piece in pieces {
        length += bytes(&mut values, name, piece).await?.len();
    }
    let mut filled = Zeroizing::new(Vec::with_capacity(length));
    for piece in pieces {
        filled.extend_from_slice(bytes(&mut values, name, piece).await?);
    }
    Ok(filled)
}

/// What stands for a piece.
async fn bytes<'a>(values: &'a mut Values, name: &str, piece: &'a Piece<'_>) -> anyhow::Result<&'a [u8]> {
    let Reference { text, line, secret, .. } = match piece {
        Piece::Text(text) => return Ok(text),
        Piece::Reference(reference) => reference,
    };
    let place = || format!("it is in {name}, line {line}: {text}");
    let value = values.get(secret).await.map_err(|failure| failure.detail(place()))?;
    if std::str::from_utf8(value).is_err() {
        return Err(Failure::new(format!("the value of {secret} is not text (UTF-8)"))
            .detail(place())
            .hint("write it to a file of its own: strongroom secret value NAME --out FILE")
            .into());
    }
    Ok(value)
}
