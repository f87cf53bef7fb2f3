//! `strongroom own-keys …`: the keys of the service itself.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;
use strongroom_proto::v1;

use super::{
    change::ChangeArgs,
    connection::ConnectionArgs,
    failure::{Action, Noun},
    output::{self, FormatArgs, Rows},
    view::optional_time,
};

/// `own-keys …`.
#[derive(Debug, Subcommand)]
pub(super) enum OwnKeysCommand {
    /// Show the keys that sign tokens and the audit log: which, since when, their fingerprints
    Show(FormatArgs),
    /// Have a new key sign the tokens that the service issues
    #[command(after_help = ISSUER_HELP)]
    RotateIssuer(RotateIssuerArgs),
}

const ISSUER_HELP: &str = "\
Tokens that the old key has signed are good until they expire; then it is taken away. Whoever verifies tokens himself \
finds the new key beside the old one at /.well-known/jwks.json. --revoke is for when a key may have come into other hands.";

/// What `own-keys rotate-issuer` takes.
#[derive(Debug, Args)]
pub(super) struct RotateIssuerArgs {
    /// Take the old keys away at once, and with them every token that is in force: callers need new ones
    #[arg(long)]
    revoke: bool,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Does what the command says.
pub(super) async fn run(connection: &ConnectionArgs, command: OwnKeysCommand) -> anyhow::Result<ExitCode> {
    match command {
        OwnKeysCommand::Show(args) => show(connection, args).await,
        OwnKeysCommand::RotateIssuer(args) => rotate_issuer(connection, &args).await,
    }?;
    Ok(ExitCode::SUCCESS)
}

fn action(what: &str, request_id: Option<&str>) -> Action {
    let (what, request_id) = (what.to_owned(), request_id.map(str::to_owned));
    Action { what, noun: Noun::OwnKeys, scope: "/".into(), request_id }
}

async fn show(connection: &ConnectionArgs, args: FormatArgs) -> anyhow::Result<()> {
    let client = connection.connect().await?;
    let found = client.call(&action("show the service's own keys", None), client.api.get_own_keys()).await?;
    output::show(args.format, &OwnKeysView::from(&found))
}

async fn rotate_issuer(connection: &ConnectionArgs, args: &RotateIssuerArgs) -> anyhow::Result<()> {
    let request_id = args.change.request_id()?;
    let client = connection.connect().await?;
    let action = action("rotate the key that signs tokens", Some(&request_id));
    let request = v1::RotateIssuerKeyRequest { revoke: args.revoke, request_id, validate_only: false };
    let rotated = client.call(&action, client.api.rotate_issuer_key(request)).await?;
    output::show(args.format.format, &IssuerRotatedView::from(&rotated))
}

/// `strongroom.v1.GetOwnKeysResponse`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OwnKeysView {
    pub(super) issuer_keys: Vec<IssuerKeyView>,
    log_key: String,
}

/// `strongroom.v1.IssuerKey`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct IssuerKeyView {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    create_time: Option<String>,
    /// Hexadecimal, as fingerprints are written.
    fingerprint: String,
    signs: bool,
}

/// `strongroom.v1.RotateIssuerKeyResponse`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct IssuerRotatedView {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) issuer_key: Option<IssuerKeyView>,
    removed_keys: Vec<String>,
    revoked_tokens: i32,
}

impl From<&v1::GetOwnKeysResponse> for OwnKeysView {
    fn from(found: &v1::GetOwnKeysResponse) -> Self {
        Self {
            issuer_keys: found.issuer_keys.iter().map(IssuerKeyView::from).collect(),
            log_key: found.log_key.clone(),
        }
    }
}

impl From<&v1::IssuerKey> for IssuerKeyView {
    fn from(key: &v1::IssuerKey) -> Self {
        Self {
            name: key.name.clone(),
            create_time: optional_time(key.create_time.as_ref()),
            fingerprint: base16ct::lower::encode_string(&key.fingerprint),
            signs: key.signs,
        }
    }
}

impl From<&v1::RotateIssuerKeyResponse> for IssuerRotatedView {
    fn from(rotated: &v1::RotateIssuerKeyResponse) -> Self {
        Self {
            issuer_key: rotated.issuer_key.as_ref().map(IssuerKeyView::from),
            removed_keys: rotated.removed_keys.clone(),
            revoked_tokens: rotated.revoked_tokens,
        }
    }
}

impl Rows for OwnKeysView {
    fn head(&self) -> Vec<&'static str> {
        vec!["KEY", "SINCE", "STATE", "FINGERPRINT"]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let issuer = self.issuer_keys.iter().map(|key| {
            let state = if key.signs { "signs tokens" } else { "until its tokens have ended" };
            let since = key.create_time.clone().unwrap_or_default();
            vec![key.name.clone(), since, state.to_owned(), key.fingerprint.clone()]
        });
        let log = vec!["log".to_owned(), String::new(), "signs the audit log".to_owned(), self.log_key.clone()];
        issuer.chain([log]).collect()
    }
}

impl Rows for IssuerRotatedView {
    fn head(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let key = self.issuer_key.as_ref();
        let none = || "none: only checked".to_owned();
        let rows = [
            ("signs", key.map_or_else(none, |key| key.name.clone())),
            ("fingerprint", key.map(|key| key.fingerprint.clone()).unwrap_or_default()),
            ("taken away", self.removed_keys.join(" ")),
            ("revoked tokens", self.revoked_tokens.to_string()),
        ];
        rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect()
    }
}
