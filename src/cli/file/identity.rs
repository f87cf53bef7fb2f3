//! `file recipient` and `file identity`: what `age` itself needs. Nothing is asked of the server, and neither
//! is a secret.

use clap::Args;
use serde::Serialize;
use strongroom_client::file::{identity_text, recipient_text};

use super::{ConnectionArgs, FormatArgs, KeyRef};
use crate::cli::output::{self, Format};

/// What `file recipient` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct RecipientArgs {
    /// The key, in the current vault, or its full name
    #[arg(long, value_name = "NAME")]
    key: String,
    #[command(flatten)]
    format: FormatArgs,
}

/// What `file identity` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct IdentityArgs {
    /// Only for files of this key [default: every key that a file names and that may be used]
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    #[command(flatten)]
    format: FormatArgs,
}

/// A recipient as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct RecipientView {
    pub(in crate::cli) key: String,
    pub(in crate::cli) recipient: String,
}

/// An identity as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct IdentityView {
    /// Absent when it is for every key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) recipient: Option<String>,
    pub(in crate::cli) identity: String,
}

fn full_name(connection: &ConnectionArgs, name: &str) -> anyhow::Result<String> {
    Ok(KeyRef::resolve(connection, name, None)?.whole_key()?.to_string())
}

/// Prints a recipient.
pub(super) fn recipient(connection: &ConnectionArgs, args: &RecipientArgs) -> anyhow::Result<()> {
    let key = full_name(connection, &args.key)?;
    let recipient = recipient_text(&key)?;
    match args.format.format {
        Format::Json => output::json(&RecipientView { key, recipient }),
        Format::Table => output::line(&recipient),
    }
}

/// Prints an identity, as a file of identities.
pub(super) fn identity(connection: &ConnectionArgs, args: &IdentityArgs) -> anyhow::Result<()> {
    let key = args.key.as_deref().map(|name| full_name(connection, name)).transpose()?;
    let recipient = key.as_deref().map(recipient_text).transpose()?;
    let identity = identity_text(key.as_deref())?;
    if args.format.format == Format::Json {
        return output::json(&IdentityView { key, recipient, identity });
    }
    let what = key.as_deref().unwrap_or("every key that a file names and that may be used");
    output::line(&format!("# Strongroom: {what}; no secret"))?;
    if let Some(recipient) = recipient {
        output::line(&format!("# recipient: {recipient}"))?;
    }
    output::line(&identity)
}
