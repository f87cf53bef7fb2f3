//! `strongroom.v1.OwnKeys`.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use strongroom_hsm::KekId;
use strongroom_proto::v1::{
    GetOwnKeysRequest, GetOwnKeysResponse, IssuerKey, LogKey, LogKeyRotation, Root, RootRotation, RootRotationFailure,
    RotateIssuerKeyRequest, RotateIssuerKeyResponse, RotateLogKeyRequest, RotateRootRequest, own_keys_server,
};

use super::{call::serve, decode, encode};
use crate::{
    model::{Renewal, Stage},
    service::{
        Caller, Problem, Service, ServiceError,
        log_key::LogChangeView,
        own_keys::{IssuerKeyView, OldKeys, issuer_key_name},
        root::{Progress, RECOVERY_KEYS_MAX, RecoveryKeys, RootView},
    },
};

serve!(own_keys_server::OwnKeys {
    get_own_keys(GetOwnKeysRequest) -> GetOwnKeysResponse;
    rotate_issuer_key(RotateIssuerKeyRequest) -> RotateIssuerKeyResponse;
    rotate_root(RotateRootRequest) -> Root;
    rotate_log_key(RotateLogKeyRequest) -> LogKey;
});

async fn get_own_keys(
    service: &Arc<Service>,
    caller: &Caller,
    _: GetOwnKeysRequest,
) -> Result<GetOwnKeysResponse, ServiceError> {
    let found = service.own_keys(caller).await?;
    Ok(GetOwnKeysResponse {
        issuer_keys: found.issuer_keys.iter().map(issuer_key).collect(),
        log_key: found.log_key.key,
        log_key_rotation: found.log_key.change.map(log_key_rotation),
        root: Some(root(&found.root)),
    })
}

async fn rotate_log_key(
    service: &Arc<Service>,
    caller: &Caller,
    message: RotateLogKeyRequest,
) -> Result<LogKey, ServiceError> {
    let options = decode::options("RotateLogKey", &message, None, &message.request_id, "", message.validate_only)?;
    let made = service.rotate_log_key(caller, options).await?;
    Ok(LogKey { key: made.key, rotation: made.change.map(log_key_rotation) })
}

fn log_key_rotation(change: LogChangeView) -> LogKeyRotation {
    LogKeyRotation { old_key: change.old, create_time: Some(encode::time(change.begun)), waits_for: change.waits_for }
}

async fn rotate_root(
    service: &Arc<Service>,
    caller: &Caller,
    message: RotateRootRequest,
) -> Result<Root, ServiceError> {
    let options = decode::options("RotateRoot", &message, None, &message.request_id, "", message.validate_only)?;
    let keys = message.recovery_keys;
    let refused = |why: &str| Err(Problem::Invalid { field: "recovery_keys", why: why.to_owned() }.into());
    match (keys.len(), message.no_recovery) {
        (0, false) => return refused("give at least one, or say no_recovery"),
        (1.., true) => return refused("give none where no_recovery is said"),
        (RECOVERY_KEYS_TOO_MANY.., _) => return refused(&format!("{RECOVERY_KEYS_MAX} at most")),
        _ => {}
    }
    let keys = keys.into_iter().map(|spki| (Sha256::digest(&spki).into(), spki));
    let made = service.rotate_root(caller, RecoveryKeys(keys.collect()), options).await?;
    Ok(root(&made))
}

/// One more than there can be.
const RECOVERY_KEYS_TOO_MANY: usize = RECOVERY_KEYS_MAX + 1;

fn root(view: &RootView) -> Root {
    let instance = &view.instance;
    Root {
        id: root_id(instance.service_keys.root.map(|root| root.id)),
        unwrap_template: instance.unwrap_template,
        recovery_keys: instance.escrow.iter().map(|escrow| escrow.recovery_key.to_vec()).collect(),
        rotation: instance.renewal.as_ref().map(|renewal| rotation(renewal, view.progress.clone().unwrap_or_default())),
    }
}

fn rotation(renewal: &Renewal, progress: Progress) -> RootRotation {
    use strongroom_proto::v1::root_rotation::Stage as Wire;
    let stage = match renewal.stage {
        Stage::Prepared => Wire::Prepared,
        Stage::Renewing => Wire::Renewing,
        Stage::Retiring => Wire::Retiring,
    };
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let failures = progress.failed.into_iter().map(|(name, reason)| RootRotationFailure { name, reason });
    RootRotation {
        stage: stage.into(),
        create_time: Some(encode::time(renewal.begun)),
        other_id: root_id(renewal.other.root_id()),
        rows: count(progress.rows),
        total_rows: count(progress.total),
        renewed_rows: count(progress.renewed),
        waits_for: progress.waits_for,
        failures: failures.collect(),
    }
}

fn root_id(id: Option<KekId>) -> String {
    id.map(|id| base16ct::lower::encode_string(&id)).unwrap_or_default()
}

async fn rotate_issuer_key(
    service: &Arc<Service>,
    caller: &Caller,
    message: RotateIssuerKeyRequest,
) -> Result<RotateIssuerKeyResponse, ServiceError> {
    let options = decode::options("RotateIssuerKey", &message, None, &message.request_id, "", message.validate_only)?;
    let old = if message.revoke { OldKeys::Revoked } else { OldKeys::Kept };
    let rotated = service.rotate_issuer_key(caller, old, options).await?;
    Ok(RotateIssuerKeyResponse {
        issuer_key: rotated.key.as_ref().map(issuer_key),
        removed_keys: rotated.removed.into_iter().map(issuer_key_name).collect(),
        revoked_tokens: i32::try_from(rotated.revoked_tokens).unwrap_or(i32::MAX),
    })
}

fn issuer_key(view: &IssuerKeyView) -> IssuerKey {
    IssuerKey {
        name: issuer_key_name(view.id),
        create_time: Some(encode::time(view.created)),
        fingerprint: view.fingerprint.to_vec(),
        signs: view.signs,
    }
}
