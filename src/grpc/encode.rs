//! From rows to the contract's messages.

use strongroom_hsm::{SecretBytes, algorithms::KeyType};
use strongroom_proto::v1;

use crate::{
    access::RoleDefinition,
    model::{
        AccessPolicyRow, AssignmentRow, EventRow, Jwk, KeyOps, KeySpec, ObjectType, Residency, Row as _,
        SecretVersionRow, State, Tags, Timestamp, TokenRow, VaultAuthorization, VaultRow, VersionRow,
    },
    service::{
        KeyView, VersionView,
        secrets::{SecretView, secret_version_name},
        version_name,
    },
};

/// CRC32C of a secret that is answered.
pub(super) fn crc32c_of(secret: &SecretBytes) -> u32 {
    crc32c::crc32c(secret.expose_secret())
}

pub(super) fn time(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.0, nanos: 0 }
}

fn change(created: Timestamp, updated: Timestamp, state: State, revision: u64) -> v1::Change {
    let (since, purge_at) = match state {
        State::Active => (None, None),
        State::Deleted { since, purge_at } => (Some(time(since)), Some(time(purge_at))),
    };
    v1::Change {
        create_time: Some(time(created)),
        update_time: Some(time(updated)),
        delete_time: since,
        purge_time: purge_at,
        revision: i64::try_from(revision).unwrap_or(i64::MAX),
    }
}

const fn state(state: State) -> v1::State {
    match state {
        State::Active => v1::State::Active,
        State::Deleted { .. } => v1::State::Deleted,
    }
}

fn tags(tags: &Tags) -> std::collections::HashMap<String, String> {
    tags.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// A vault.
pub(super) fn vault(row: &VaultRow) -> v1::Vault {
    v1::Vault {
        name: format!("vaults/{}", row.name),
        tags: tags(&row.tags),
        retention_days: i32::from(row.retention_days),
        purge_protection: row.purge_protection,
        padding_decryption_allowed: row.padding_decryption_allowed,
        network: Some(v1::NetworkRules {
            public_access: Some(row.network.public_access()),
            allowed_ranges: row.network.ranges().iter().map(ToString::to_string).collect(),
            local_access: Some(row.network.local_access()),
        }),
        authorization: match row.authorization {
            VaultAuthorization::Roles => v1::VaultAuthorization::Roles,
            VaultAuthorization::AccessPolicies => v1::VaultAuthorization::AccessPolicies,
        }
        .into(),
        max_staleness_seconds: i32::from(row.max_staleness.seconds()),
        own_kek: row.kek.is_some(),
        kek_id: row.kek_id().map(|kek| kek.to_string()).unwrap_or_default(),
        kek_time: row.kek_since.map(time),
        retired_kek_ids: row.retired_keks.iter().map(|kek| kek.id.to_string()).collect(),
        state: state(row.state).into(),
        change: Some(change(row.created, row.updated, row.state, row.revision)),
        etag: row.etag(),
    }
}

/// A key with one of its versions.
pub(super) fn key(view: &KeyView) -> v1::Key {
    let KeyView { vault, key, version: of } = view;
    v1::Key {
        name: format!("vaults/{}/keys/{}", key.vault, key.name),
        version: Some(version(of)),
        state: state(key.state).into(),
        change: Some(change(key.created, key.updated, key.state, key.revision)),
        recovery: Some(recovery(vault)),
        etag: key.etag(),
    }
}

fn recovery(vault: &VaultRow) -> v1::Recovery {
    v1::Recovery { level: vault.recovery_level().to_owned(), retention_days: i32::from(vault.retention_days) }
}

/// A secret with one of its versions.
pub(super) fn secret(view: &SecretView) -> v1::Secret {
    let SecretView { vault, secret, version } = view;
    v1::Secret {
        name: format!("vaults/{}/secrets/{}", secret.vault, secret.name),
        version: Some(secret_version(version)),
        state: state(secret.state).into(),
        change: Some(change(secret.created, secret.updated, secret.state, secret.revision)),
        recovery: Some(recovery(vault)),
        etag: secret.etag(),
    }
}

/// A version of a secret.
pub(super) fn secret_version(row: &SecretVersionRow) -> v1::SecretVersion {
    v1::SecretVersion {
        name: secret_version_name(row),
        content_type: row.content_type.clone(),
        enabled: Some(row.enabled),
        not_before_time: row.not_before.map(time),
        expire_time: row.expires.map(time),
        tags: tags(&row.tags),
        // Versions are not deleted by themselves.
        change: Some(change(row.created, row.updated, State::Active, row.revision)),
        etag: row.etag(),
    }
}

/// A version.
pub(super) fn version(row: &VersionRow) -> v1::KeyVersion {
    let (key_type, curve) = kind(row.spec);
    v1::KeyVersion {
        name: version_name(row),
        key_type: key_type.into(),
        key_size: i32::try_from(row.spec.bits()).unwrap_or_default(),
        curve: curve.into(),
        key_operations: row.ops.iter().map(|(op, _)| operation(op).into()).collect(),
        enabled: Some(row.enabled),
        not_before_time: row.not_before.map(time),
        expire_time: row.expires.map(time),
        tags: tags(&row.tags),
        residency: match row.residency {
            Residency::Wrapped => v1::Residency::Wrapped,
            Residency::Token => v1::Residency::Token,
            Residency::Public => v1::Residency::Public,
        }
        .into(),
        public_key: row.public.clone(),
        algorithms: algorithms(row),
        change: Some(change(row.created, row.updated, row.state, row.revision)),
        etag: row.etag(),
        imported: row.is_imported(),
        state: state(row.state).into(),
        r#use: None,
    }
}

/// A version, with what is known of its use.
pub(super) fn used_version(view: &VersionView) -> v1::KeyVersion {
    let r#use = v1::KeyVersionUse {
        last_use_time: view.activity.map(|activity| time(activity.used)),
        uses: view.activity.map_or(0, |activity| i64::try_from(activity.uses).unwrap_or(i64::MAX)),
        recorded_since_time: Some(time(view.since)),
    };
    v1::KeyVersion { r#use: Some(r#use), ..version(&view.version) }
}

/// An event.
pub(super) fn event(row: &EventRow) -> v1::Event {
    v1::Event {
        id: event_id(row.id),
        r#type: row.kind.name().to_owned(),
        time: Some(time(row.time)),
        subject: row.subject(),
        principal: row.principal.clone(),
        due_time: row.due.map(time),
        detail: row.detail.clone(),
    }
}

/// The id of an event, as it is shown.
pub(super) fn event_id(id: [u8; 16]) -> String {
    uuid::Uuid::from_bytes(id).to_string()
}

/// Those that its kind takes and its operations allow.
fn algorithms(row: &VersionRow) -> Vec<String> {
    let allowed = |ops: KeyOps| ops.iter().any(|(op, _)| row.ops.contains(op));
    row.spec
        .algorithms()
        .filter(|algorithm| allowed(algorithm.ops()))
        .map(|algorithm| algorithm.name().to_owned())
        .collect()
}

/// The public half of a version; `None` of one that has none.
pub(super) fn public_key(row: &VersionRow) -> Option<v1::PublicKey> {
    let name = version_name(row);
    let jwk = Jwk::public(&name, row.ops, &row.public)?.to_json();
    Some(v1::PublicKey { name, public_key: row.public.clone(), jwk })
}

/// The type and curve of a kind of key.
pub(crate) const fn kind(spec: KeySpec) -> (v1::KeyType, v1::Curve) {
    let key_type = match spec.key_type() {
        KeyType::Rsa => v1::KeyType::Rsa,
        KeyType::Ec => v1::KeyType::Ec,
        KeyType::Okp => v1::KeyType::Okp,
        KeyType::Aes | KeyType::Hmac => v1::KeyType::Oct,
    };
    let curve = match spec {
        KeySpec::P256 => v1::Curve::P256,
        KeySpec::P384 => v1::Curve::P384,
        KeySpec::P521 => v1::Curve::P521,
        KeySpec::P256K => v1::Curve::P256k,
        KeySpec::Ed25519 => v1::Curve::Ed25519,
        KeySpec::Rsa2048
        | KeySpec::Rsa3072
        | KeySpec::Rsa4096
        | KeySpec::Aes128
        | KeySpec::Aes192
        | KeySpec::Aes256
        | KeySpec::Hmac256
        | KeySpec::Hmac384
        | KeySpec::Hmac512 => v1::Curve::Unspecified,
    };
    (key_type, curve)
}

/// One operation; the table of [`KeyOps`] has no others.
pub(crate) fn operation(op: KeyOps) -> v1::KeyOperation {
    [
        (KeyOps::ENCRYPT, v1::KeyOperation::Encrypt),
        (KeyOps::DECRYPT, v1::KeyOperation::Decrypt),
        (KeyOps::SIGN, v1::KeyOperation::Sign),
        (KeyOps::VERIFY, v1::KeyOperation::Verify),
        (KeyOps::WRAP_KEY, v1::KeyOperation::WrapKey),
        (KeyOps::UNWRAP_KEY, v1::KeyOperation::UnwrapKey),
        (KeyOps::IMPORT, v1::KeyOperation::Import),
    ]
    .into_iter()
    .find(|(known, _)| *known == op)
    .map_or(v1::KeyOperation::Unspecified, |(_, shown)| shown)
}

/// A role.
pub(super) fn role(role: &RoleDefinition) -> v1::RoleDefinition {
    fn texts<T: ToString>(items: &[T]) -> Vec<String> {
        items.iter().map(ToString::to_string).collect()
    }
    let row = role.custom.as_deref();
    let kind = if row.is_none() { v1::RoleType::BuiltIn } else { v1::RoleType::Custom };
    v1::RoleDefinition {
        name: format!("roleDefinitions/{}", role.id),
        role_name: role.name.clone(),
        description: role.description.clone(),
        r#type: kind.into(),
        actions: texts(&role.patterns.actions),
        not_actions: texts(&role.patterns.not_actions),
        data_actions: texts(&role.patterns.data_actions),
        not_data_actions: texts(&role.patterns.not_data_actions),
        assignable_scopes: texts(&role.assignable_scopes),
        permits: role.rights().iter().map(|action| action.name().to_owned()).collect(),
        create_time: row.map(|row| time(row.created)),
        update_time: row.map(|row| time(row.updated)),
        etag: row.map(|row| row.etag()).unwrap_or_default(),
    }
}

/// An access policy.
pub(super) fn access_policy(row: &AccessPolicyRow) -> v1::AccessPolicy {
    let names = |kind| row.permissions.names(kind).map(str::to_owned).collect();
    v1::AccessPolicy {
        parent: format!("vaults/{}", row.vault),
        principal: row.principal.to_string(),
        keys: names(ObjectType::Keys),
        secrets: names(ObjectType::Secrets),
        certificates: names(ObjectType::Certificates),
        create_time: Some(time(row.created)),
        update_time: Some(time(row.updated)),
        etag: row.etag(),
    }
}

/// A role assignment, and its role's name.
pub(super) fn assignment(row: &AssignmentRow, role_name: String) -> v1::RoleAssignment {
    v1::RoleAssignment {
        name: format!("roleAssignments/{}", row.id),
        principal: row.principal.as_str().to_owned(),
        role: format!("roleDefinitions/{}", row.role),
        scope: row.scope.to_string(),
        create_time: Some(time(row.created)),
        role_name,
    }
}

/// A token, without its text.
pub(super) fn token(row: &TokenRow) -> v1::Token {
    v1::Token {
        name: format!("tokens/{}", row.id),
        principal: row.name.principal().to_string(),
        creator: row.creator.to_string(),
        create_time: Some(time(row.created)),
        expire_time: Some(time(row.expires)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_and_kind_is_shown() {
        for (op, name) in KeyOps::every() {
            assert_ne!(operation(op), v1::KeyOperation::Unspecified, "{name}");
        }
        for spec in KeySpec::ALL {
            let (key_type, curve) = kind(spec);
            let has_curve = matches!(key_type, v1::KeyType::Ec | v1::KeyType::Okp);
            assert_eq!(curve != v1::Curve::Unspecified, has_curve, "{}", spec.name());
            let message = v1::KeyVersion {
                key_type: key_type.into(),
                curve: curve.into(),
                key_operations: spec.possible_ops().iter().map(|(op, _)| operation(op).into()).collect(),
                key_size: i32::try_from(spec.bits()).expect("small"),
                ..Default::default()
            };
            assert_eq!(super::super::decode::spec(&message).expect("comes back"), spec);
        }
    }
}
