//! `backup create` and `backup list`: the server makes them, and says what there is.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Args;
use serde::Serialize;
use strongroom_client::Error;
use strongroom_proto::v1::{self, CreateBackupRequest};

use crate::cli::{
    change::ChangeArgs,
    connection::ConnectionArgs,
    failure::{Action, Noun},
    output::{self, FormatArgs, Rows},
    view::optional_time,
};

pub(super) const AFTER_HELP: &str = "\
The server goes on serving. It writes into a folder of its own machine: copy the finished backup elsewhere. It goes on \
when this command does not wait; `backup list` shows it, and the same --request-id waits for it again. For a schedule: \
cron, or a systemd timer.";

/// How long is waited between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// What `backup create` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct CreateArgs {
    /// The token's files too (hsm.sync_dirs): the backup is then as secret as the token and its PIN
    #[arg(long)]
    with_token: bool,
    /// How long to wait for it, in minutes
    #[arg(long, value_name = "MINUTES", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=1440))]
    wait: u64,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// What `backup list` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct ListArgs {
    #[command(flatten)]
    format: FormatArgs,
}

/// `strongroom.v1.Backup`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct BackupView {
    name: String,
    folder: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    create_time: Option<String>,
    state: &'static str,
    replica: String,
    version: String,
    size_bytes: String,
    files: String,
    log_records: String,
    with_token: bool,
    manifest_sha256: String,
}

impl From<&v1::Backup> for BackupView {
    fn from(backup: &v1::Backup) -> Self {
        Self {
            name: backup.name.clone(),
            folder: backup.folder.clone(),
            create_time: optional_time(backup.create_time.as_ref()),
            state: backup.state().as_str_name(),
            replica: backup.replica.clone(),
            version: backup.version.clone(),
            size_bytes: backup.size_bytes.to_string(),
            files: backup.files.to_string(),
            log_records: backup.log_records.to_string(),
            with_token: backup.with_token,
            manifest_sha256: backup.manifest_sha256.clone(),
        }
    }
}

impl Rows for BackupView {
    fn head(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |name: &str, value: String| vec![name.to_owned(), value];
        vec![
            row("folder", self.folder.clone()),
            row("name", self.name.clone()),
            row("made", self.create_time.clone().unwrap_or_default()),
            row("bytes", self.size_bytes.clone()),
            row("audit records", self.log_records.clone()),
            row(
                "token",
                if self.with_token { "its files are in it: as secret as the token" } else { "not in it" }.to_owned(),
            ),
            row("manifest", format!("sha256:{}", self.manifest_sha256)),
        ]
    }
}

/// Backups as JSON.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(in crate::cli) struct BackupList(pub(in crate::cli) Vec<BackupView>);

impl Rows for BackupList {
    fn head(&self) -> Vec<&'static str> {
        vec!["FOLDER", "MADE", "STATE", "BYTES", "AUDIT RECORDS", "TOKEN", "ID"]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let state = |state: &str| state.trim_start_matches("BACKUP_STATE_").to_lowercase().replace('_', " ");
        let row = |backup: &BackupView| {
            vec![
                backup.folder.clone(),
                backup.create_time.clone().unwrap_or_default(),
                state(backup.state),
                backup.size_bytes.clone(),
                backup.log_records.clone(),
                if backup.with_token { "yes" } else { "no" }.to_owned(),
                backup.name.trim_start_matches("backups/").to_owned(),
            ]
        };
        self.0.iter().map(row).collect()
    }
}

/// Has one made. The server answers when it is durable; where that takes longer than a call may, the same call waits on.
pub(super) async fn create(connection: &ConnectionArgs, args: CreateArgs) -> anyhow::Result<ExitCode> {
    let until = Instant::now() + Duration::from_secs(args.wait * 60);
    let request_id = args.change.request_id()?;
    let client = connection.connect_for_long().await?;
    let action = Action {
        what: "make a backup".to_owned(),
        noun: Noun::Backup,
        scope: "/".to_owned(),
        request_id: Some(request_id.clone()),
    };
    let request = CreateBackupRequest { with_token: args.with_token, request_id, validate_only: false };
    let made = loop {
        match client.api.create_backup(request.clone()).await {
            Err(Error::TimedOut { .. } | Error::OutcomeUnknown(_)) if Instant::now() < until => {
                tokio::time::sleep(PAUSE).await
            }
            answer => break answer.map_err(|error| client.explain(&error, &action))?,
        }
    };
    output::show(args.format.format, &BackupView::from(&made))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn list(connection: &ConnectionArgs, args: ListArgs) -> anyhow::Result<ExitCode> {
    let client = connection.connect().await?;
    let action = Action { what: "list the backups".into(), noun: Noun::Backup, scope: "/".into(), request_id: None };
    let found = client.call(&action, client.api.list_backups()).await?;
    output::show(args.format.format, &BackupList(found.iter().map(BackupView::from).collect()))?;
    Ok(ExitCode::SUCCESS)
}
