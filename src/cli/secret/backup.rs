//! `secret backup` and `secret restore`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use strongroom_proto::v1::RestoreSecretRequest;

use super::{NameArgs, changing, reading};
use crate::{
    cli::{
        change::ChangeArgs,
        connection::ConnectionArgs,
        failure::Failure,
        files::{self, Content, Limit, Out},
        output::{self, FormatArgs, Rows},
        view::SecretView,
    },
    model::{SecretBackup, sealed_backup::BYTES_MAX},
    service::secrets::SecretRef,
};

pub(super) const AFTER_BACKUP: &str = "\
The file holds all versions with their values as they are encrypted: none is in the clear in it, and only this service with its HSM opens \
it. It also holds content types, tags and dates readable. `secret restore FILE` brings the secret back.";

pub(super) const AFTER_RESTORE: &str = "\
The secret comes back into the vault and under the name that it had, with its version ids. The name must be free: a secret of that name that \
is deleted is purged first. A backup that is older than what is known of the secret, because it was set or changed since, is refused without \
--older. Takes the right secrets.restore at the secret.";

/// What `secret backup` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct BackupArgs {
    #[command(flatten)]
    name: NameArgs,
    /// The file to write, whole or not at all; - is standard output
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    format: FormatArgs,
}

/// What `secret restore` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct RestoreArgs {
    /// What `secret backup` wrote; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Also if it is older than what is known of the secret: what was disabled or changed since comes back; this is recorded
    #[arg(long)]
    older: bool,
    /// Only say whether it could be restored: its data key is proved in the HSM, and nothing is written
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Writes a backup.
pub(in crate::cli) async fn backup(connection: &ConnectionArgs, args: &BackupArgs) -> anyhow::Result<()> {
    let secret = args.name.secret(connection)?;
    // First: whoever cannot write it is not asked for it.
    let out = Out::prepare(&args.out, Content::Secret)?;
    let client = connection.connect().await?;
    let action = reading("back up", &secret);
    let name = secret.to_string();
    let made = client.call(&action, client.api.backup_secret(&name)).await?;
    let to_standard = out.is_standard();
    let view = SecretBackupView {
        name: made.name,
        versions: made.versions.to_string(),
        bytes: made.backup.len().to_string(),
        sha256: base16ct::lower::encode_string(&made.sha256),
    };
    out.commit(&made.backup)?;
    if to_standard {
        output::note(&format!("sha256: {}", view.sha256));
        return Ok(());
    }
    output::show(args.format.format, &view)
}

/// Brings a secret back.
pub(in crate::cli) async fn restore(connection: &ConnectionArgs, args: &RestoreArgs) -> anyhow::Result<()> {
    let limit =
        Limit { bytes_max: BYTES_MAX, hint: "this is no backup of one secret: `secret backup` writes shorter ones" };
    let bytes = files::read(&args.file, limit)?;
    let shown = files::shown(&args.file, "standard input");
    let read = SecretBackup::read(&bytes).map_err(|error| Failure::new(format!("{shown}: {error}")))?;
    let secret = SecretRef { vault: read.backup.secret.vault, secret: read.backup.secret.name, version: None };
    let request_id = args.change.request_id()?;
    let client = connection.connect().await?;
    let action = changing("restore", &secret, &request_id);
    let request = RestoreSecretRequest {
        backup: bytes.to_vec(),
        backup_crc32c: None,
        allow_older: args.older,
        request_id,
        validate_only: args.check,
    };
    let restored = client.call(&action, client.api.restore_secret(request)).await?;
    output::show(args.format.format, &SecretView::from(&restored))
}

/// A backup that was written.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct SecretBackupView {
    /// The secret.
    pub(in crate::cli) name: String,
    /// How many versions.
    pub(in crate::cli) versions: String,
    /// How long it is.
    pub(in crate::cli) bytes: String,
    /// Its SHA-256, as the audit log has it.
    pub(in crate::cli) sha256: String,
}

impl Rows for SecretBackupView {
    fn head(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |name: &str, value: &str| vec![name.to_owned(), value.to_owned()];
        vec![
            row("backed up", &self.name),
            row("versions", &self.versions),
            row("bytes", &self.bytes),
            row("sha256", &self.sha256),
        ]
    }
}
