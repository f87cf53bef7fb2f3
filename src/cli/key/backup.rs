//! `key backup`, `key restore` and `key move`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use strongroom_proto::v1::{MoveKeyRequest, RestoreKeyRequest};

use super::{NameArgs, changing, using};
use crate::{
    cli::{
        change::{ChangeArgs, EtagArgs},
        connection::ConnectionArgs,
        failure::Failure,
        files::{self, Content, Limit, Out},
        names::KeyRef,
        output::{self, FormatArgs, Rows},
        view::KeyView,
    },
    model::{KeyBackup, VaultName, sealed_backup::BYTES_MAX},
};

pub(super) const AFTER_BACKUP: &str = "\
The file holds all versions with their wrapped blobs: no key is in the clear in it, and only this service with its HSM opens it. \
It also holds the key's tags, dates and policy readable. `key restore FILE` brings the key back.";

pub(super) const AFTER_RESTORE: &str = "\
The key comes back into the vault and under the name that it had, with its version ids. The name must be free: a key of that name that \
is deleted is purged first. A backup that is older than what is known of the key, because it was changed or one of its versions was \
destroyed by itself since, is refused without --older. Takes the right keys.restore at the key.";

pub(super) const AFTER_MOVE: &str = "\
All versions go with their ids, and the old name does nothing from then on. Role assignments at the key stay behind: give them anew at \
its new name. Takes the right keys.move at the key and keys.restore at its new name.";

/// What `key backup` takes.
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

/// What `key restore` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct RestoreArgs {
    /// What `key backup` wrote; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Also if it is older than what is known of the key: what was disabled or destroyed since comes back; this is recorded
    #[arg(long)]
    older: bool,
    /// Only say whether it could be restored: every version is proved in the HSM, and nothing is written
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// What `key move` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct MoveArgs {
    #[command(flatten)]
    name: NameArgs,
    /// The vault to move it to
    #[arg(long, value_name = "VAULT")]
    to_vault: VaultName,
    #[command(flatten)]
    etag: EtagArgs,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Writes a backup.
pub(in crate::cli) async fn backup(connection: &ConnectionArgs, args: &BackupArgs) -> anyhow::Result<()> {
    let key = args.name.key(connection)?;
    // First: whoever cannot write it is not asked for it.
    let out = Out::prepare(&args.out, Content::Secret)?;
    let client = connection.connect().await?;
    let action = using("back up", &key);
    let name = key.to_string();
    let made = client.call(&action, client.api.backup_key(&name)).await?;
    let sha256 = base16ct::lower::encode_string(&made.sha256);
    let to_standard = out.is_standard();
    let view = KeyBackupView {
        name: made.name,
        versions: made.versions.to_string(),
        bytes: made.backup.len().to_string(),
        sha256,
    };
    out.commit(&made.backup)?;
    if to_standard {
        output::note(&format!("sha256: {}", view.sha256));
        return Ok(());
    }
    output::show(args.format.format, &view)
}

/// Brings a key back.
pub(in crate::cli) async fn restore(connection: &ConnectionArgs, args: &RestoreArgs) -> anyhow::Result<()> {
    let limit = Limit { bytes_max: BYTES_MAX, hint: "this is no backup of one key: `key backup` writes shorter ones" };
    let bytes = files::read(&args.file, limit)?;
    let shown = files::shown(&args.file, "standard input");
    let read = KeyBackup::read(&bytes).map_err(|error| Failure::new(format!("{shown}: {error}")))?;
    let key = KeyRef { vault: read.backup.key.vault, key: read.backup.key.name, version: None };
    let request_id = args.change.request_id()?;
    let client = connection.connect().await?;
    let action = changing("restore", &key, &request_id);
    let request = RestoreKeyRequest {
        backup: bytes.to_vec(),
        backup_crc32c: None,
        allow_older: args.older,
        request_id,
        validate_only: args.check,
    };
    let restored = client.call(&action, client.api.restore_key(request)).await?;
    output::show(args.format.format, &KeyView::from(&restored))
}

/// Moves a key to another vault.
pub(in crate::cli) async fn move_to(connection: &ConnectionArgs, args: &MoveArgs) -> anyhow::Result<()> {
    let key = args.name.key(connection)?;
    let request_id = args.change.request_id()?;
    let client = connection.connect().await?;
    let action = changing("move", &key, &request_id);
    let request = MoveKeyRequest {
        name: key.to_string(),
        target_vault: format!("vaults/{}", args.to_vault),
        etag: args.etag.value(),
        request_id,
        validate_only: false,
    };
    let moved = client.call(&action, client.api.move_key(request)).await?;
    let left = moved.role_assignments_left;
    if left > 0 {
        output::note(&format!(
            "{left} role assignments at {key} stay behind and give nothing: see strongroom access list --scope {key}"
        ));
    }
    let name = moved.key.map(|key| key.name).unwrap_or_default();
    let view = MovedKeyView { name, from: key.to_string(), role_assignments_left: left.to_string() };
    output::show(args.format.format, &view)
}

fn row(name: &str, value: &str) -> Vec<String> {
    vec![name.to_owned(), value.to_owned()]
}

/// A backup that was written.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct KeyBackupView {
    /// The key.
    pub(in crate::cli) name: String,
    /// How many versions.
    pub(in crate::cli) versions: String,
    /// How long it is.
    pub(in crate::cli) bytes: String,
    /// Its SHA-256, as the audit log has it.
    pub(in crate::cli) sha256: String,
}

impl Rows for KeyBackupView {
    fn head(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        vec![
            row("backed up", &self.name),
            row("versions", &self.versions),
            row("bytes", &self.bytes),
            row("sha256", &self.sha256),
        ]
    }
}

/// A key that was moved.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct MovedKeyView {
    /// Its new name.
    pub(in crate::cli) name: String,
    /// Its old one.
    pub(in crate::cli) from: String,
    /// How many role assignments stay at the old one.
    pub(in crate::cli) role_assignments_left: String,
}

impl Rows for MovedKeyView {
    fn head(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        vec![row("name", &self.name), row("from", &self.from), row("assignments left", &self.role_assignments_left)]
    }
}
