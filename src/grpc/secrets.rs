//! `strongroom.v1.Secrets`. A value that came is wiped whatever becomes of its request; one that goes is given away to the
//! answer, and nowhere else.

use std::sync::Arc;

use prost::Message as _;
use sha2::{Digest as _, Sha256};
use strongroom_hsm::SecretBytes;
use strongroom_proto::v1::{
    self, BackupSecretRequest, BackupSecretResponse, DeleteSecretRequest, GetSecretRequest, GetSecretValueRequest,
    GetSecretValueResponse, ListSecretVersionsRequest, ListSecretVersionsResponse, ListSecretsRequest,
    ListSecretsResponse, PurgeSecretRequest, PurgeSecretResponse, RestoreSecretRequest, Secret, SecretVersion,
    SetSecretRequest, UndeleteSecretRequest, UpdateSecretVersionRequest, secrets_server,
};

use super::{call::serve, decode, encode, names, pages::List};
use crate::{
    model::{NotABackup, SecretBackup, Tags, secret_name},
    service::{
        Caller, Problem, Service, ServiceError,
        keys::Age,
        secrets::{NewSecret, SecretFilter, SecretPatch},
    },
};

serve!(secrets_server::Secrets {
    set_secret(SetSecretRequest) -> Secret;
    get_secret(GetSecretRequest) -> Secret;
    get_secret_value(GetSecretValueRequest) -> GetSecretValueResponse;
    list_secrets(ListSecretsRequest) -> ListSecretsResponse;
    list_secret_versions(ListSecretVersionsRequest) -> ListSecretVersionsResponse;
    update_secret_version(UpdateSecretVersionRequest) -> SecretVersion;
    delete_secret(DeleteSecretRequest) -> Secret;
    undelete_secret(UndeleteSecretRequest) -> Secret;
    purge_secret(PurgeSecretRequest) -> PurgeSecretResponse;
    backup_secret(BackupSecretRequest) -> BackupSecretResponse;
    restore_secret(RestoreSecretRequest) -> Secret;
});

/// What can be changed.
const MASK: [&str; 5] = ["content_type", "enabled", "not_before_time", "expire_time", "tags"];

async fn set_secret(
    service: &Arc<Service>,
    caller: &Caller,
    mut message: SetSecretRequest,
) -> Result<Secret, ServiceError> {
    // First: what is refused is wiped too, and no copy of it is encoded for the digest.
    let value = SecretBytes::new(std::mem::take(&mut message.value));
    decode::check_secret_crc32c("value_crc32c", message.value_crc32c, &value)?;
    let vault = names::vault("parent", &message.parent)?;
    let name = secret_name(&message.secret_id).map_err(|error| names::invalid("secret_id", &error))?;
    let tags = message.version.as_mut().map(|version| std::mem::take(&mut version.tags)).unwrap_or_default();
    let mut options =
        decode::options("SetSecret", &message, Some(&tags), &message.request_id, "", message.validate_only)?;
    options.digest = decode::with_secret(options.digest, "value", &value);
    let version = message.version.unwrap_or_default();
    let new = NewSecret {
        vault,
        name,
        value,
        content_type: version.content_type,
        enabled: version.enabled.unwrap_or(true),
        not_before: decode::time("version.not_before_time", version.not_before_time)?,
        expires: decode::time("version.expire_time", version.expire_time)?,
        tags: decode::tags("version.tags", tags)?,
        must_not_exist: message.must_not_exist,
    };
    Ok(encode::secret(&service.set_secret(caller, new, options).await?))
}

async fn get_secret(
    service: &Arc<Service>,
    caller: &Caller,
    message: GetSecretRequest,
) -> Result<Secret, ServiceError> {
    let name = names::secret_or_version("name", &message.name)?;
    Ok(encode::secret(&service.get_secret(caller, &name).await?))
}

async fn get_secret_value(
    service: &Arc<Service>,
    caller: &Caller,
    message: GetSecretValueRequest,
) -> Result<GetSecretValueResponse, ServiceError> {
    let name = names::secret_or_version("name", &message.name)?;
    let (view, value) = service.get_secret_value(caller, &name).await?;
    let (version, value_crc32c) = (Some(encode::secret_version(&view.version)), encode::crc32c_of(&value));
    Ok(GetSecretValueResponse { version, value: value.into_exposed(), value_crc32c })
}

async fn list_secrets(
    service: &Arc<Service>,
    caller: &Caller,
    message: ListSecretsRequest,
) -> Result<ListSecretsResponse, ServiceError> {
    let vault = names::vault("parent", &message.parent)?;
    let filter = filter(message.filter.as_ref())?;
    // A token goes on with what was asked for, and with nothing else.
    let parent = match &message.filter {
        Some(said) => format!("{vault}/{}", base16ct::lower::encode_string(&Sha256::digest(said.encode_to_vec()))),
        None => vault.to_string(),
    };
    let list = List { kind: "secrets", parent: &parent, deleted: message.show_deleted };
    let page = list.page(message.page_size, &message.page_token, |last| last.parse().ok())?;
    let (found, last) = service.list_secrets(caller, &vault, &filter, page).await?;
    let next_page_token = list.next(last.is_some(), last.map(|name| name.to_string()));
    Ok(ListSecretsResponse { secrets: found.iter().map(encode::secret).collect(), next_page_token })
}

fn filter(said: Option<&v1::SecretFilter>) -> Result<SecretFilter, Problem> {
    let Some(said) = said else { return Ok(SecretFilter::default()) };
    Ok(SecretFilter {
        deleted: decode::deleted("filter.state", said.state)?,
        enabled: said.enabled,
        expires_before: decode::time("filter.expire_before_time", said.expire_before_time)?,
        expires_from: decode::time("filter.expire_from_time", said.expire_from_time)?,
    })
}

async fn list_secret_versions(
    service: &Arc<Service>,
    caller: &Caller,
    message: ListSecretVersionsRequest,
) -> Result<ListSecretVersionsResponse, ServiceError> {
    let name = names::secret("parent", &message.parent)?;
    let parent = name.to_string();
    let list = List { kind: "secretVersions", parent: &parent, deleted: false };
    let page = list.page(message.page_size, &message.page_token, |last| last.parse().ok())?;
    let (found, last) = service.list_secret_versions(caller, &name, page).await?;
    let next_page_token = list.next(last.is_some(), last.map(|ordinal| ordinal.to_string()));
    let versions = found.iter().map(|view| encode::secret_version(&view.version)).collect();
    Ok(ListSecretVersionsResponse { versions, next_page_token })
}

async fn update_secret_version(
    service: &Arc<Service>,
    caller: &Caller,
    mut message: UpdateSecretVersionRequest,
) -> Result<SecretVersion, ServiceError> {
    let tags = message.version.as_mut().map(|version| std::mem::take(&mut version.tags)).unwrap_or_default();
    let etag = message.version.as_ref().map(|version| version.etag.clone()).unwrap_or_default();
    let (id, validate_only) = (&message.request_id, message.validate_only);
    let options = decode::options("UpdateSecretVersion", &message, Some(&tags), id, &etag, validate_only)?;
    let version = decode::required("version", message.version)?;
    let name = names::secret_or_version("version.name", &version.name)?;
    let mask = decode::mask(message.update_mask.as_ref(), &MASK)?;
    let patch = patch(&mask, &version, decode::tags("version.tags", tags)?)?;
    let changed = service.update_secret_version(caller, &name, patch, options).await?;
    Ok(encode::secret_version(&changed.version))
}

fn patch(mask: &[&str], version: &SecretVersion, tags: Tags) -> Result<SecretPatch, Problem> {
    let mut patch = SecretPatch::default();
    for path in mask {
        match *path {
            "content_type" => patch.content_type = Some(version.content_type.clone()),
            "enabled" => patch.enabled = Some(decode::required("version.enabled", version.enabled)?),
            "not_before_time" => {
                patch.not_before = Some(decode::time("version.not_before_time", version.not_before_time)?);
            }
            "expire_time" => patch.expires = Some(decode::time("version.expire_time", version.expire_time)?),
            "tags" => patch.tags = Some(tags.clone()),
            _ => return Err(Problem::Internal),
        }
    }
    Ok(patch)
}

async fn delete_secret(
    service: &Arc<Service>,
    caller: &Caller,
    message: DeleteSecretRequest,
) -> Result<Secret, ServiceError> {
    let name = names::secret("name", &message.name)?;
    let options =
        decode::options("DeleteSecret", &message, None, &message.request_id, &message.etag, message.validate_only)?;
    Ok(encode::secret(&service.delete_secret(caller, &name, options).await?))
}

async fn undelete_secret(
    service: &Arc<Service>,
    caller: &Caller,
    message: UndeleteSecretRequest,
) -> Result<Secret, ServiceError> {
    let name = names::secret("name", &message.name)?;
    let options =
        decode::options("UndeleteSecret", &message, None, &message.request_id, &message.etag, message.validate_only)?;
    Ok(encode::secret(&service.undelete_secret(caller, &name, options).await?))
}

async fn purge_secret(
    service: &Arc<Service>,
    caller: &Caller,
    message: PurgeSecretRequest,
) -> Result<PurgeSecretResponse, ServiceError> {
    let name = names::secret("name", &message.name)?;
    let options =
        decode::options("PurgeSecret", &message, None, &message.request_id, &message.etag, message.validate_only)?;
    let versions = service.purge_secret(caller, &name, options).await?;
    Ok(PurgeSecretResponse { versions: i64::try_from(versions).unwrap_or(i64::MAX) })
}

async fn backup_secret(
    service: &Arc<Service>,
    caller: &Caller,
    message: BackupSecretRequest,
) -> Result<BackupSecretResponse, ServiceError> {
    let name = names::secret("name", &message.name)?;
    let made = service.backup_secret(caller, &name).await?;
    Ok(BackupSecretResponse {
        name: made.name.to_string(),
        backup_crc32c: crc32c::crc32c(&made.bytes),
        backup: made.bytes,
        sha256: made.digest.to_vec(),
        versions: i64::try_from(made.versions).unwrap_or(i64::MAX),
    })
}

async fn restore_secret(
    service: &Arc<Service>,
    caller: &Caller,
    message: RestoreSecretRequest,
) -> Result<Secret, ServiceError> {
    decode::check_crc32c("backup_crc32c", message.backup_crc32c, &message.backup)?;
    let options = decode::options("RestoreSecret", &message, None, &message.request_id, "", message.validate_only)?;
    let invalid = |why: NotABackup| Problem::Invalid { field: "backup", why: why.to_string() };
    let backup = SecretBackup::read(&message.backup).map_err(invalid)?;
    let age = if message.allow_older { Age::Older } else { Age::AsKnown };
    Ok(encode::secret(&service.restore_secret(caller, backup, age, options).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_changes_what_its_mask_names_and_nothing_else() {
        let version =
            SecretVersion { content_type: "text/plain".to_owned(), enabled: Some(false), ..Default::default() };
        let made = patch(&["enabled", "expire_time"], &version, Tags::default()).expect("is one");
        assert_eq!((made.enabled, made.expires), (Some(false), Some(None)));
        assert!(made.not_before.is_none() && made.content_type.is_none() && made.tags.is_none());
        for path in MASK {
            assert!(patch(&[path], &version, Tags::default()).is_ok(), "{path}");
        }
        assert!(patch(&["enabled"], &SecretVersion::default(), Tags::default()).is_err(), "it must be there");
    }

    #[test]
    fn a_filter_says_what_is_asked_for() {
        assert_eq!(filter(None).expect("none"), SecretFilter::default());
        let said = v1::SecretFilter { state: 2, enabled: Some(true), ..Default::default() };
        let read = filter(Some(&said)).expect("is one");
        assert_eq!((read.deleted, read.enabled), (Some(true), Some(true)));
        assert!(filter(Some(&v1::SecretFilter { state: 9, ..Default::default() })).is_err());
    }
}
