//! `strongroom own-keys …`: the keys of the service itself.

use std::{path::PathBuf, process::ExitCode};

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
    /// Show the root, the keys that sign tokens and the audit log, and how far a rotation of them is
    Show(FormatArgs),
    /// Have a new key sign the tokens that the service issues
    #[command(after_help = ISSUER_HELP)]
    RotateIssuer(RotateIssuerArgs),
    /// Have another root take the root's place: every key is wrapped, and every row sealed, anew
    #[command(after_help = ROOT_HELP)]
    RotateRoot(RotateRootArgs),
    /// Have another key sign the audit log: the old one names it in its last signature, and is destroyed
    #[command(after_help = LOG_HELP)]
    RotateLog(RotateLogArgs),
}

const LOG_HELP: &str = "\
The command answers when the next key is on the token. The log of each replica goes over to it within seconds; then the old \
one is destroyed. Whoever holds only an earlier key need do nothing: `strongroom audit verify` and witnesses find the next one by \
the old one's signature, which is kept in the log's folder (keys/) and goes with every copy of it.";

/// What `own-keys rotate-log` takes.
#[derive(Debug, Args)]
pub(super) struct RotateLogArgs {
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    format: FormatArgs,
}

const ROOT_HELP: &str = "\
It takes a recovery key of the present root: its private half, as PKCS#8 in PEM, in the file that hsm.recovery_key_file names \
on the server, for as long as this lasts. The command answers when the next root is on the token; the rest goes by itself, \
while everybody works on. `strongroom own-keys show` says how far it is, and what it waits for. Backups of keys that were made \
before cannot be restored afterwards: make new ones.";

/// What `own-keys rotate-root` takes.
#[derive(Debug, Args)]
pub(super) struct RotateRootArgs {
    /// Who can bring the next root back onto a fresh token: a public key (PEM, RSA of 3072 bits or more). May be repeated
    #[arg(long, value_name = "FILE", required_unless_present = "no_recovery")]
    recovery_key: Vec<PathBuf>,
    /// Nobody can: a lost token is lost with every key, and this root can never be rotated
    #[arg(long, conflicts_with = "recovery_key")]
    no_recovery: bool,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    format: FormatArgs,
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
        OwnKeysCommand::RotateLog(args) => rotate_log(connection, &args).await,
        OwnKeysCommand::RotateRoot(args) => rotate_root(connection, &args).await,
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

async fn rotate_log(connection: &ConnectionArgs, args: &RotateLogArgs) -> anyhow::Result<()> {
    let request_id = args.change.request_id()?;
    let client = connection.connect().await?;
    let action = action("rotate the key that signs the audit log", Some(&request_id));
    let request = v1::RotateLogKeyRequest { request_id, validate_only: false };
    let made = client.call(&action, client.api.rotate_log_key(request)).await?;
    output::show(args.format.format, &OwnLogKeyView::from(&made))
}

async fn rotate_root(connection: &ConnectionArgs, args: &RotateRootArgs) -> anyhow::Result<()> {
    let keys = args.recovery_key.iter().map(|path| super::init::recovery_public_key(path));
    let recovery_keys = keys.collect::<anyhow::Result<Vec<_>>>()?;
    let request_id = args.change.request_id()?;
    let client = connection.connect().await?;
    let action = action("rotate the root", Some(&request_id));
    let no_recovery = args.no_recovery;
    let request = v1::RotateRootRequest { recovery_keys, no_recovery, request_id, validate_only: false };
    let root = client.call(&action, client.api.rotate_root(request)).await?;
    output::show(args.format.format, &RootView::from(&root))
}

/// `strongroom.v1.GetOwnKeysResponse`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OwnKeysView {
    pub(super) issuer_keys: Vec<IssuerKeyView>,
    log_key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) log_key_rotation: Option<LogKeyRotationView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) root: Option<RootView>,
}

/// `strongroom.v1.LogKey`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OwnLogKeyView {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotation: Option<LogKeyRotationView>,
}

/// `strongroom.v1.LogKeyRotation`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LogKeyRotationView {
    old_key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    create_time: Option<String>,
    waits_for: Vec<String>,
}

impl From<&v1::LogKey> for OwnLogKeyView {
    fn from(key: &v1::LogKey) -> Self {
        Self { key: key.key.clone(), rotation: key.rotation.as_ref().map(LogKeyRotationView::from) }
    }
}

impl From<&v1::LogKeyRotation> for LogKeyRotationView {
    fn from(rotation: &v1::LogKeyRotation) -> Self {
        Self {
            old_key: rotation.old_key.clone(),
            create_time: optional_time(rotation.create_time.as_ref()),
            waits_for: rotation.waits_for.clone(),
        }
    }
}

/// The rows of the log key, and of one whose place it is taking.
fn log_rows(key: &str, rotation: Option<&LogKeyRotationView>) -> Vec<Vec<String>> {
    let since = rotation.and_then(|rotation| rotation.create_time.clone()).unwrap_or_default();
    let mut rows = vec![vec!["log".to_owned(), since, "signs the audit log".to_owned(), key.to_owned()]];
    rows.extend(rotation.map(|rotation| {
        let waits = if rotation.waits_for.is_empty() {
            String::new()
        } else {
            format!("; waits for the log of {}", rotation.waits_for.join(", "))
        };
        let state = format!("is about to be destroyed{waits}");
        vec!["log".to_owned(), String::new(), state, rotation.old_key.clone()]
    }));
    rows
}

impl Rows for OwnLogKeyView {
    fn head(&self) -> Vec<&'static str> {
        vec!["KEY", "SINCE", "STATE", "FINGERPRINT"]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        log_rows(&self.key, self.rotation.as_ref())
    }
}

/// `strongroom.v1.Root`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RootView {
    /// Empty for the one that `init` has made.
    id: String,
    unwrap_template: bool,
    /// Hexadecimal, as fingerprints are written.
    recovery_keys: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rotation: Option<RootRotationView>,
}

/// `strongroom.v1.RootRotation`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RootRotationView {
    stage: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    create_time: Option<String>,
    other_id: String,
    rows: i64,
    total_rows: i64,
    renewed_rows: i64,
    waits_for: String,
    pub(super) failures: Vec<RootFailureView>,
}

/// `strongroom.v1.RootRotationFailure`.
#[derive(Debug, Serialize)]
pub(super) struct RootFailureView {
    name: String,
    reason: String,
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
            log_key_rotation: found.log_key_rotation.as_ref().map(LogKeyRotationView::from),
            root: found.root.as_ref().map(RootView::from),
        }
    }
}

impl From<&v1::Root> for RootView {
    fn from(root: &v1::Root) -> Self {
        Self {
            id: root.id.clone(),
            unwrap_template: root.unwrap_template,
            recovery_keys: root.recovery_keys.iter().map(|key| base16ct::lower::encode_string(key)).collect(),
            rotation: root.rotation.as_ref().map(RootRotationView::from),
        }
    }
}

impl From<&v1::RootRotation> for RootRotationView {
    fn from(rotation: &v1::RootRotation) -> Self {
        use v1::root_rotation::Stage;
        let failure = |failure: &v1::RootRotationFailure| RootFailureView {
            name: failure.name.clone(),
            reason: failure.reason.clone(),
        };
        Self {
            stage: match rotation.stage() {
                Stage::Prepared => "prepared",
                Stage::Renewing => "renewing",
                Stage::Retiring => "retiring",
                Stage::Unspecified => "unknown",
            },
            create_time: optional_time(rotation.create_time.as_ref()),
            other_id: rotation.other_id.clone(),
            rows: rotation.rows,
            total_rows: rotation.total_rows,
            renewed_rows: rotation.renewed_rows,
            waits_for: rotation.waits_for.clone(),
            failures: rotation.failures.iter().map(failure).collect(),
        }
    }
}

impl RootView {
    fn shown_id(id: &str) -> String {
        if id.is_empty() { "root".to_owned() } else { format!("root {id}") }
    }

    /// What another root does in its place, for people.
    fn shown_rotation(&self) -> String {
        let Some(rotation) = &self.rotation else { return "wraps keys, seals rows".to_owned() };
        let progress = match (rotation.stage, rotation.rows) {
            ("renewing", 1..) => {
                format!(
                    ": {} of about {} rows, {} carried over",
                    rotation.rows, rotation.total_rows, rotation.renewed_rows
                )
            }
            _ => String::new(),
        };
        let waits =
            if rotation.waits_for.is_empty() { String::new() } else { format!("; waits for {}", rotation.waits_for) };
        let failed: String =
            rotation.failures.iter().map(|failure| format!("; {}: {}", failure.name, failure.reason)).collect();
        format!("{}{progress}{waits}{failed}", rotation.stage)
    }

    fn table(&self) -> Vec<Vec<String>> {
        let keys = self.recovery_keys.iter().map(|key| format!("sha256:{key}")).collect::<Vec<_>>().join(" ");
        let keys = if keys.is_empty() { "no recovery key".to_owned() } else { format!("recovery keys {keys}") };
        let since = self.rotation.as_ref().and_then(|rotation| rotation.create_time.clone()).unwrap_or_default();
        let mut rows = vec![vec![Self::shown_id(&self.id), since, self.shown_rotation(), keys]];
        rows.extend(self.rotation.as_ref().map(|rotation| {
            let other = if rotation.stage == "prepared" { "takes its place next" } else { "is left behind" };
            vec![Self::shown_id(&rotation.other_id), String::new(), other.to_owned(), String::new()]
        }));
        rows
    }
}

impl Rows for RootView {
    fn head(&self) -> Vec<&'static str> {
        vec!["KEY", "SINCE", "STATE", "FINGERPRINT"]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        self.table()
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
        let log = log_rows(&self.log_key, self.log_key_rotation.as_ref());
        issuer.chain(log).chain(self.root.iter().flat_map(RootView::table)).collect()
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
