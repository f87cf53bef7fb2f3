//! `strongroom.v1.Keys`.

use std::sync::Arc;

use prost::Message as _;
use sha2::{Digest as _, Sha256};
use strongroom_hsm::{Material, SecretBytes};
use strongroom_proto::v1::{
    self, BackupKeyRequest, BackupKeyResponse, CreateKeyRequest, DeleteKeyRequest, DeleteKeyVersionRequest,
    GetKeyRequest, GetPublicKeysRequest, GetPublicKeysResponse, ImportKeyRequest, Key, KeyVersion,
    ListKeyVersionsRequest, ListKeyVersionsResponse, ListKeysRequest, ListKeysResponse, MoveKeyRequest,
    MoveKeyResponse, PurgeKeyRequest, PurgeKeyResponse, RestoreKeyRequest, RotateKeyRequest, UndeleteKeyRequest,
    UndeleteKeyVersionRequest, UpdateKeyVersionRequest, WrappedKey, import_key_request, keys_server,
};

use super::{call::serve, decode, encode, names, pages::List};
use crate::{
    model::{Algorithm, KeyBackup, KeySpec, NotABackup, Residency, Tags},
    service::{Caller, KeyFilter, KeyRef, NewKey, Problem, Service, ServiceError, VersionPatch, keys::Age},
};

serve!(keys_server::Keys {
    create_key(CreateKeyRequest) -> Key;
    import_key(ImportKeyRequest) -> Key;
    rotate_key(RotateKeyRequest) -> Key;
    get_key(GetKeyRequest) -> Key;
    list_keys(ListKeysRequest) -> ListKeysResponse;
    list_key_versions(ListKeyVersionsRequest) -> ListKeyVersionsResponse;
    get_public_keys(GetPublicKeysRequest) -> GetPublicKeysResponse;
    update_key_version(UpdateKeyVersionRequest) -> KeyVersion;
    delete_key(DeleteKeyRequest) -> Key;
    undelete_key(UndeleteKeyRequest) -> Key;
    delete_key_version(DeleteKeyVersionRequest) -> KeyVersion;
    undelete_key_version(UndeleteKeyVersionRequest) -> KeyVersion;
    purge_key(PurgeKeyRequest) -> PurgeKeyResponse;
    backup_key(BackupKeyRequest) -> BackupKeyResponse;
    restore_key(RestoreKeyRequest) -> Key;
    move_key(MoveKeyRequest) -> MoveKeyResponse;
});

/// What can be changed.
const MASK: [&str; 5] = ["enabled", "not_before_time", "expire_time", "key_operations", "tags"];

async fn create_key(
    service: &Arc<Service>,
    caller: &Caller,
    mut message: CreateKeyRequest,
) -> Result<Key, ServiceError> {
    let vault = names::vault("parent", &message.parent)?;
    let name = message.key_id.parse().map_err(|error| names::invalid("key_id", &error))?;
    let tags = message.version.as_mut().map(|version| std::mem::take(&mut version.tags)).unwrap_or_default();
    let options = decode::options("CreateKey", &message, Some(&tags), &message.request_id, "", message.validate_only)?;
    let version = decode::required("version", message.version)?;
    let new = NewKey {
        vault,
        name,
        spec: decode::spec(&version)?,
        ops: decode::ops("version.key_operations", &version.key_operations)?,
        enabled: version.enabled.unwrap_or(true),
        not_before: decode::time("version.not_before_time", version.not_before_time)?,
        expires: decode::time("version.expire_time", version.expire_time)?,
        tags: decode::tags("version.tags", tags)?,
        residency: decode::residency("version.residency", version.residency, Residency::Wrapped)?,
        must_not_exist: message.must_not_exist,
    };
    Ok(encode::key(&service.create_key(caller, new, options).await?))
}

/// What is imported, as it came: a secret is wiped whatever becomes of the request.
enum Outside {
    PublicKey(Vec<u8>),
    Oct(SecretBytes),
    Pkcs8(SecretBytes),
    Wrapped(WrappedKey),
}

impl Outside {
    fn new(material: import_key_request::Material) -> Self {
        match material {
            import_key_request::Material::PublicKey(spki) => Self::PublicKey(spki),
            import_key_request::Material::Oct(bytes) => Self::Oct(SecretBytes::new(bytes)),
            import_key_request::Material::Pkcs8(bytes) => Self::Pkcs8(SecretBytes::new(bytes)),
            import_key_request::Material::WrappedKey(key) => Self::Wrapped(key),
        }
    }

    /// The field's name and its bytes.
    fn parts(&self) -> (&'static str, &[u8]) {
        match self {
            Self::PublicKey(spki) => ("public_key", spki),
            Self::Oct(bytes) => ("oct", bytes.expose_secret()),
            Self::Pkcs8(bytes) => ("pkcs8", bytes.expose_secret()),
            Self::Wrapped(key) => ("wrapped_key", &key.ciphertext),
        }
    }

    /// Where it lives when that is not said.
    const fn residency(&self) -> Residency {
        match self {
            Self::PublicKey(_) => Residency::Public,
            Self::Oct(_) | Self::Pkcs8(_) | Self::Wrapped(_) => Residency::Wrapped,
        }
    }

    /// The key, and what kind it is: an oct key that is to make MACs is one for HMAC, as when creating.
    fn key(self, version: &KeyVersion) -> Result<(KeySpec, Brought), Problem> {
        let field = self.parts().0;
        let key = match self {
            Self::PublicKey(spki) => Material::public(&spki),
            Self::Oct(bytes) if decode::makes_macs(&version.key_operations)? => Material::hmac(bytes),
            Self::Oct(bytes) => Material::aes(bytes),
            Self::Pkcs8(bytes) => Material::private(bytes),
            // What is inside says nothing to anybody but the HSM.
            Self::Wrapped(WrappedKey { kek, ciphertext }) => {
                let kek = names::key_or_version("wrapped_key.kek", &kek)?;
                return Ok((decode::spec(version)?, Brought::Wrapped(kek, ciphertext)));
            }
        };
        let (spec, material) = key.map_err(|why| Problem::Invalid { field, why: why.to_string() })?;
        Ok((spec, Brought::Plain(material)))
    }
}

/// What is brought in, as the service takes it.
enum Brought {
    Plain(Material),
    Wrapped(KeyRef, Vec<u8>),
}

async fn import_key(
    service: &Arc<Service>,
    caller: &Caller,
    mut message: ImportKeyRequest,
) -> Result<Key, ServiceError> {
    let outside = message.material.take().map(Outside::new);
    let vault = names::vault("parent", &message.parent)?;
    let name = message.key_id.parse().map_err(|error| names::invalid("key_id", &error))?;
    let outside = decode::required("material", outside)?;
    let (field, bytes) = outside.parts();
    decode::check_crc32c("material_crc32c", message.material_crc32c, bytes)?;
    let tags = message.version.as_mut().map(|version| std::mem::take(&mut version.tags)).unwrap_or_default();
    let mut options =
        decode::options("ImportKey", &message, Some(&tags), &message.request_id, "", message.validate_only)?;
    options.digest = decode::with_material(options.digest, field, bytes);
    if let Outside::Wrapped(key) = &outside {
        options.digest = decode::with_material(options.digest, "wrapped_key.kek", key.kek.as_bytes());
    }
    let version = message.version.unwrap_or_default();
    let residency = decode::residency("version.residency", version.residency, outside.residency())?;
    let (spec, brought) = outside.key(&version)?;
    decode::check_kind(&version, spec)?;
    let new = NewKey {
        vault,
        name,
        spec,
        ops: decode::ops("version.key_operations", &version.key_operations)?,
        enabled: version.enabled.unwrap_or(true),
        not_before: decode::time("version.not_before_time", version.not_before_time)?,
        expires: decode::time("version.expire_time", version.expire_time)?,
        tags: decode::tags("version.tags", tags)?,
        residency,
        must_not_exist: message.must_not_exist,
    };
    let made = match brought {
        Brought::Plain(material) => service.import_key(caller, new, material, options).await?,
        Brought::Wrapped(kek, blob) => service.import_wrapped_key(caller, new, kek, blob, options).await?,
    };
    Ok(encode::key(&made))
}

async fn rotate_key(service: &Arc<Service>, caller: &Caller, message: RotateKeyRequest) -> Result<Key, ServiceError> {
    let name = names::key("name", &message.name)?;
    let options =
        decode::options("RotateKey", &message, None, &message.request_id, &message.etag, message.validate_only)?;
    let residency = match message.residency {
        0 => None,
        said => Some(decode::residency("residency", said, Residency::Wrapped)?),
    };
    Ok(encode::key(&service.rotate_key_to(caller, &name, residency, options).await?))
}

async fn get_key(service: &Arc<Service>, caller: &Caller, message: GetKeyRequest) -> Result<Key, ServiceError> {
    let name = names::key_or_version("name", &message.name)?;
    Ok(encode::key(&service.get_key(caller, &name).await?))
}

async fn list_keys(
    service: &Arc<Service>,
    caller: &Caller,
    message: ListKeysRequest,
) -> Result<ListKeysResponse, ServiceError> {
    let vault = names::vault("parent", &message.parent)?;
    let filter = filter(message.filter.as_ref())?;
    // A token goes on with what was asked for, and with nothing else.
    let parent = match &message.filter {
        Some(said) => format!("{vault}/{}", base16ct::lower::encode_string(&Sha256::digest(said.encode_to_vec()))),
        None => vault.to_string(),
    };
    let list = List { kind: "keys", parent: &parent, deleted: message.show_deleted };
    let page = list.page(message.page_size, &message.page_token, |last| last.parse().ok())?;
    let (found, last) = service.list_keys(caller, &vault, &filter, page).await?;
    let next_page_token = list.next(last.is_some(), last.map(|name| name.to_string()));
    Ok(ListKeysResponse { keys: found.iter().map(encode::key).collect(), next_page_token })
}

fn filter(said: Option<&v1::KeyFilter>) -> Result<KeyFilter, Problem> {
    let Some(said) = said else { return Ok(KeyFilter::default()) };
    let algorithm = match said.algorithm.as_str() {
        "" => None,
        name => Some(Algorithm::from_name(name).ok_or_else(|| Problem::Invalid {
            field: "filter.algorithm",
            why: format!("there is no algorithm {name:?}; PS256, ES256 and A256GCM are some"),
        })?),
    };
    Ok(KeyFilter {
        deleted: decode::deleted("filter.state", said.state)?,
        enabled: said.enabled,
        expires_before: decode::time("filter.expire_before_time", said.expire_before_time)?,
        expires_from: decode::time("filter.expire_from_time", said.expire_from_time)?,
        algorithm,
    })
}

async fn list_key_versions(
    service: &Arc<Service>,
    caller: &Caller,
    message: ListKeyVersionsRequest,
) -> Result<ListKeyVersionsResponse, ServiceError> {
    let name = names::key("parent", &message.parent)?;
    let parent = name.to_string();
    let list = List { kind: "versions", parent: &parent, deleted: message.show_deleted };
    let page = list.page(message.page_size, &message.page_token, |last| last.parse().ok())?;
    let found = service.list_versions(caller, &name, page).await?;
    let (found, last) = found;
    let next_page_token = list.next(last.is_some(), last.map(|ordinal| ordinal.to_string()));
    Ok(ListKeyVersionsResponse { versions: found.iter().map(encode::used_version).collect(), next_page_token })
}

async fn get_public_keys(
    service: &Arc<Service>,
    caller: &Caller,
    message: GetPublicKeysRequest,
) -> Result<GetPublicKeysResponse, ServiceError> {
    let name = names::key("name", &message.name)?;
    let parent = name.to_string();
    let list = List { kind: "publicKeys", parent: &parent, deleted: false };
    let page = list.page(message.page_size, &message.page_token, |last| last.parse().ok())?;
    let found = service.public_keys(caller, &name, page).await?;
    let next_page_token = list.next(found.last.is_some(), found.last.map(|ordinal| ordinal.to_string()));
    let keys = found.versions.iter().filter_map(|row| encode::public_key(row)).collect();
    Ok(GetPublicKeysResponse { keys, next_page_token })
}

async fn update_key_version(
    service: &Arc<Service>,
    caller: &Caller,
    mut message: UpdateKeyVersionRequest,
) -> Result<KeyVersion, ServiceError> {
    let tags = message.version.as_mut().map(|version| std::mem::take(&mut version.tags)).unwrap_or_default();
    let etag = message.version.as_ref().map(|version| version.etag.clone()).unwrap_or_default();
    let options =
        decode::options("UpdateKeyVersion", &message, Some(&tags), &message.request_id, &etag, message.validate_only)?;
    let version = decode::required("version", message.version)?;
    let name = names::key_or_version("version.name", &version.name)?;
    let mask = decode::mask(message.update_mask.as_ref(), &MASK)?;
    let patch = patch(&mask, &version, decode::tags("version.tags", tags)?)?;
    Ok(encode::version(&service.update_version(caller, &name, patch, options).await?.version))
}

fn patch(mask: &[&str], version: &KeyVersion, tags: Tags) -> Result<VersionPatch, Problem> {
    let mut patch = VersionPatch::default();
    for path in mask {
        match *path {
            "enabled" => patch.enabled = Some(decode::required("version.enabled", version.enabled)?),
            "not_before_time" => {
                patch.not_before = Some(decode::time("version.not_before_time", version.not_before_time)?);
            }
            "expire_time" => patch.expires = Some(decode::time("version.expire_time", version.expire_time)?),
            "key_operations" => {
                let ops = decode::ops("version.key_operations", &version.key_operations)?;
                patch.ops = Some(decode::required("version.key_operations", ops)?);
            }
            "tags" => patch.tags = Some(tags.clone()),
            _ => return Err(Problem::Internal),
        }
    }
    Ok(patch)
}

async fn delete_key(service: &Arc<Service>, caller: &Caller, message: DeleteKeyRequest) -> Result<Key, ServiceError> {
    let name = names::key("name", &message.name)?;
    let options =
        decode::options("DeleteKey", &message, None, &message.request_id, &message.etag, message.validate_only)?;
    Ok(encode::key(&service.delete_key(caller, &name, options).await?))
}

async fn undelete_key(
    service: &Arc<Service>,
    caller: &Caller,
    message: UndeleteKeyRequest,
) -> Result<Key, ServiceError> {
    let name = names::key("name", &message.name)?;
    let options =
        decode::options("UndeleteKey", &message, None, &message.request_id, &message.etag, message.validate_only)?;
    Ok(encode::key(&service.undelete_key(caller, &name, options).await?))
}

async fn delete_key_version(
    service: &Arc<Service>,
    caller: &Caller,
    message: DeleteKeyVersionRequest,
) -> Result<KeyVersion, ServiceError> {
    let name = names::version("name", &message.name)?;
    let options =
        decode::options("DeleteKeyVersion", &message, None, &message.request_id, &message.etag, message.validate_only)?;
    Ok(encode::version(&*service.delete_version(caller, &name, options).await?))
}

async fn undelete_key_version(
    service: &Arc<Service>,
    caller: &Caller,
    message: UndeleteKeyVersionRequest,
) -> Result<KeyVersion, ServiceError> {
    let name = names::version("name", &message.name)?;
    let (id, etag) = (&message.request_id, &message.etag);
    let options = decode::options("UndeleteKeyVersion", &message, None, id, etag, message.validate_only)?;
    Ok(encode::version(&*service.undelete_version(caller, &name, options).await?))
}

async fn purge_key(
    service: &Arc<Service>,
    caller: &Caller,
    message: PurgeKeyRequest,
) -> Result<PurgeKeyResponse, ServiceError> {
    let name = names::key_or_version("name", &message.name)?;
    let options =
        decode::options("PurgeKey", &message, None, &message.request_id, &message.etag, message.validate_only)?;
    let versions = service.purge_key(caller, &name, options).await?;
    Ok(PurgeKeyResponse { versions: i64::try_from(versions).unwrap_or(i64::MAX) })
}

async fn backup_key(
    service: &Arc<Service>,
    caller: &Caller,
    message: BackupKeyRequest,
) -> Result<BackupKeyResponse, ServiceError> {
    let name = names::key("name", &message.name)?;
    let made = service.backup_key(caller, &name).await?;
    Ok(BackupKeyResponse {
        name: made.name.to_string(),
        backup_crc32c: crc32c::crc32c(&made.bytes),
        backup: made.bytes,
        sha256: made.digest.to_vec(),
        versions: i64::try_from(made.versions).unwrap_or(i64::MAX),
    })
}

async fn restore_key(service: &Arc<Service>, caller: &Caller, message: RestoreKeyRequest) -> Result<Key, ServiceError> {
    decode::check_crc32c("backup_crc32c", message.backup_crc32c, &message.backup)?;
    let options = decode::options("RestoreKey", &message, None, &message.request_id, "", message.validate_only)?;
    let invalid = |why: NotABackup| Problem::Invalid { field: "backup", why: why.to_string() };
    let backup = KeyBackup::read(&message.backup).map_err(invalid)?;
    let age = if message.allow_older { Age::Older } else { Age::AsKnown };
    Ok(encode::key(&service.restore_key(caller, backup, age, options).await?))
}

async fn move_key(
    service: &Arc<Service>,
    caller: &Caller,
    message: MoveKeyRequest,
) -> Result<MoveKeyResponse, ServiceError> {
    let name = names::key("name", &message.name)?;
    let to = names::vault("target_vault", &message.target_vault)?;
    let options =
        decode::options("MoveKey", &message, None, &message.request_id, &message.etag, message.validate_only)?;
    let moved = service.move_key(caller, &name, &to, options).await?;
    let role_assignments_left = i64::try_from(moved.assignments_left).unwrap_or(i64::MAX);
    Ok(MoveKeyResponse { key: Some(encode::key(&moved.key)), role_assignments_left })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_changes_what_its_mask_names_and_nothing_else() {
        let version = KeyVersion { enabled: Some(false), key_operations: vec![3], ..Default::default() };
        let made = patch(&["enabled", "expire_time"], &version, Tags::default()).expect("is one");
        assert_eq!(made.enabled, Some(false));
        assert_eq!(made.expires, Some(None));
        assert!(made.not_before.is_none() && made.ops.is_none() && made.tags.is_none());
    }

    #[test]
    fn what_a_mask_names_must_be_there() {
        let version = KeyVersion::default();
        assert!(patch(&["enabled"], &version, Tags::default()).is_err());
        assert!(patch(&["key_operations"], &version, Tags::default()).is_err());
        for path in MASK {
            let version = KeyVersion { enabled: Some(true), key_operations: vec![1], ..Default::default() };
            assert!(patch(&[path], &version, Tags::default()).is_ok(), "{path}");
        }
    }
}
