//! `strongroom.v1.OwnKeys`.

use std::sync::Arc;

use strongroom_proto::v1::{
    GetOwnKeysRequest, GetOwnKeysResponse, IssuerKey, RotateIssuerKeyRequest, RotateIssuerKeyResponse, own_keys_server,
};

use super::{call::serve, decode, encode};
use crate::service::{
    Caller, Service, ServiceError,
    own_keys::{IssuerKeyView, OldKeys, issuer_key_name},
};

serve!(own_keys_server::OwnKeys {
    get_own_keys(GetOwnKeysRequest) -> GetOwnKeysResponse;
    rotate_issuer_key(RotateIssuerKeyRequest) -> RotateIssuerKeyResponse;
});

async fn get_own_keys(
    service: &Arc<Service>,
    caller: &Caller,
    _: GetOwnKeysRequest,
) -> Result<GetOwnKeysResponse, ServiceError> {
    let found = service.own_keys(caller).await?;
    Ok(GetOwnKeysResponse { issuer_keys: found.issuer_keys.iter().map(issuer_key).collect(), log_key: found.log_key })
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
