//! `strongroom.v1.Backups`.

use std::sync::Arc;

use strongroom_proto::v1::{
    Backup, BackupState, CreateBackupRequest, ListBackupsRequest, ListBackupsResponse, backups_server,
};

use super::{call::serve, decode, encode};
use crate::{
    model::Timestamp,
    service::{
        Caller, Service, ServiceError,
        backups::{BackupView, UnderWay, WithToken},
    },
};

serve!(backups_server::Backups {
    create_backup(CreateBackupRequest) -> Backup;
    list_backups(ListBackupsRequest) -> ListBackupsResponse;
});

async fn create_backup(
    service: &Arc<Service>,
    caller: &Caller,
    message: CreateBackupRequest,
) -> Result<Backup, ServiceError> {
    let options = decode::options("CreateBackup", &message, None, &message.request_id, "", message.validate_only)?;
    let with = if message.with_token { WithToken::Files } else { WithToken::Nothing };
    Ok(backup(&service.create_backup(caller, with, options).await?))
}

async fn list_backups(
    service: &Arc<Service>,
    caller: &Caller,
    _: ListBackupsRequest,
) -> Result<ListBackupsResponse, ServiceError> {
    let (found, under_way) = service.list_backups(caller).await?;
    let backups = found.iter().map(backup).chain(under_way.as_ref().map(being_made));
    Ok(ListBackupsResponse { backups: backups.collect() })
}

fn backup(view: &BackupView) -> Backup {
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let manifest = &view.manifest;
    Backup {
        name: format!("backups/{}", manifest.id),
        folder: view.folder.clone(),
        create_time: Some(encode::time(Timestamp(manifest.created))),
        state: if view.folder.is_empty() { BackupState::Unspecified } else { BackupState::Done }.into(),
        replica: format!("replicas/{}", manifest.replica),
        version: manifest.release.clone(),
        size_bytes: i64::try_from(manifest.bytes()).unwrap_or(i64::MAX),
        files: count(manifest.files.len()),
        log_records: i64::try_from(manifest.log.size).unwrap_or(i64::MAX),
        with_token: manifest.token.is_some(),
        manifest_sha256: view.digest.clone(),
    }
}

fn being_made(under_way: &UnderWay) -> Backup {
    Backup {
        name: format!("backups/{}", under_way.id),
        create_time: Some(encode::time(under_way.since)),
        state: BackupState::UnderWay.into(),
        ..Default::default()
    }
}
