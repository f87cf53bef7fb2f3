//! A record as Azure Key Vault's `AuditEvent`, for tools that read those.
//!
//! What a record does not know is absent, never made up: there is no `requestUri` (operations come over gRPC), no
//! `operationVersion`, no `durationMs`. `httpStatusCode` is what the gRPC code means in HTTP (google.rpc), where the
//! recorded reason says which code it was. An intent is no event: its outcome is.

use serde::Serialize;

use crate::{
    audit::{BatchGroup, Kind, Outcome, Record},
    model::Timestamp,
};

/// Our operations, and Azure's names for them. Those of operations that Azure does not have are made in its manner.
pub(super) const OPERATIONS: &[(&str, &str)] = &[
    ("vaults.create", "VaultPut"),
    ("vaults.read", "VaultGet"),
    ("vaults.update", "VaultPatch"),
    ("vaults.delete", "VaultDelete"),
    ("vaults.undelete", "VaultRecover"),
    ("vaults.purge", "VaultPurge"),
    ("vaults.rotateKek", "VaultKekRotate"),
    ("keys.create", "KeyCreate"),
    ("keys.import", "KeyImport"),
    ("keys.read", "KeyGet"),
    ("keys.list", "KeyList"),
    ("keys.update", "KeyUpdate"),
    ("keys.delete", "KeyDelete"),
    ("keys.undelete", "KeyRecover"),
    ("keys.purge", "KeyPurge"),
    ("keys.backup", "KeyBackup"),
    ("keys.restore", "KeyRestore"),
    ("keys.rotate", "KeyRotate"),
    ("keys.nearExpiry", "KeyNearExpiry"),
    ("keys.expired", "KeyExpired"),
    ("rotationPolicies.read", "KeyRotationPolicyGet"),
    ("rotationPolicies.update", "KeyRotationPolicySet"),
    ("keys.sign", "KeySign"),
    ("keys.verify", "KeyVerify"),
    ("keys.encrypt", "KeyEncrypt"),
    ("keys.decrypt", "KeyDecrypt"),
    ("keys.wrap", "KeyWrap"),
    ("keys.unwrap", "KeyUnwrap"),
    ("secrets.set", "SecretSet"),
    ("secrets.get", "SecretGet"),
    ("secrets.read", "SecretGetMetadata"),
    ("secrets.list", "SecretList"),
    ("secrets.update", "SecretUpdate"),
    ("secrets.delete", "SecretDelete"),
    ("secrets.undelete", "SecretRecover"),
    ("secrets.purge", "SecretPurge"),
    ("secrets.backup", "SecretBackup"),
    ("secrets.restore", "SecretRestore"),
    ("secrets.nearExpiry", "SecretNearExpiry"),
    ("secrets.expired", "SecretExpired"),
    ("backups.create", "BackupCreate"),
    // From here on there is none of Azure's.
    ("keys.move", "KeyMove"),
    ("keys.batch", "KeyBatch"),
    ("keys.reserve", "KeyReserve"),
    ("keys.note", "KeyNote"),
    ("secrets.note", "SecretNote"),
    ("dataKeys.generate", "DataKeyGenerate"),
    ("dataKeys.generateWrapped", "DataKeyGenerateWrapped"),
    ("random.generate", "RandomGenerate"),
    ("roleDefinitions.read", "RoleDefinitionGet"),
    ("roleDefinitions.create", "RoleDefinitionCreate"),
    ("roleDefinitions.update", "RoleDefinitionUpdate"),
    ("roleDefinitions.delete", "RoleDefinitionDelete"),
    ("roleAssignments.read", "RoleAssignmentGet"),
    ("roleAssignments.create", "RoleAssignmentCreate"),
    ("roleAssignments.delete", "RoleAssignmentDelete"),
    ("roleAssignments.delegate", "RoleAssignmentDelegate"),
    ("accessPolicies.read", "AccessPolicyGet"),
    ("accessPolicies.update", "AccessPolicyUpdate"),
    ("accessPolicies.delete", "AccessPolicyDelete"),
    ("auditRecords.read", "AuditRecordGet"),
    ("events.read", "EventWatch"),
    ("webhooks.read", "WebhookList"),
    ("webhooks.replay", "WebhookReplay"),
    ("replicas.read", "ReplicaList"),
    ("backups.read", "BackupList"),
    ("tokens.create", "TokenCreate"),
    ("tokens.read", "TokenGet"),
    ("tokens.revoke", "TokenRevoke"),
    ("tokens.makeKey", "TokenKeyCreate"),
    ("tokens.expire", "TokenExpire"),
    ("tokens.forgetKey", "TokenKeyForget"),
    ("ownKeys.read", "OwnKeysGet"),
    ("ownKeys.rotateIssuer", "TokenKeyRotate"),
    ("ownKeys.rotateRoot", "RootRotate"),
    ("ownKeys.rotateLog", "LogKeyRotate"),
    ("instance.initialise", "InstanceInitialise"),
    ("instance.recover", "InstanceRecover"),
    ("instance.restore", "InstanceRestore"),
    ("access.breakGlass", "AccessBreakGlass"),
    ("log.closed", "LogClosed"),
    ("log.torn", "LogTorn"),
    ("log.refusals", "LogRefusals"),
];

/// What reasons mean in HTTP: the status of the gRPC code that a caller got with them.
const STATUSES: &[(&str, u16)] = &[
    ("PERMISSION_DENIED", 403),
    ("NETWORK", 403),
    ("BARE_CIPHER", 403),
    ("BEYOND_OWN_RIGHTS", 403),
    ("NOT_FOUND", 404),
    ("DELETED", 404),
    ("ALREADY_EXISTS", 409),
    ("NAME_RESERVED", 409),
    ("ETAG_MISMATCH", 409),
    ("INVALID_FIELD", 400),
    ("INVALID_LENGTH", 400),
    ("REQUEST_ID_REUSED", 400),
    ("WRONG_ALGORITHM", 400),
    ("DECRYPTION_FAILED", 400),
    ("KEY_DISABLED", 400),
    ("SECRET_DISABLED", 403),
    ("KEY_NOT_YET_VALID", 400),
    ("KEY_EXPIRED", 400),
    ("OPERATION_NOT_PERMITTED", 400),
    ("PUBLIC_KEY_ONLY", 400),
    ("KEY_USED_UP", 400),
    ("USE_BUDGET_SPENT", 400),
    ("PURGE_PROTECTED", 400),
    ("NEWEST_VERSION", 400),
    ("BEING_PURGED", 400),
    ("TOKEN_RESIDENCY", 400),
    ("TOO_MANY_VERSIONS", 400),
    ("BACKUP_TOO_LARGE", 400),
    ("OTHER_INSTANCE", 400),
    ("OTHER_KEK", 400),
    ("OTHER_ROOT", 400),
    ("ROOT_IN_ROTATION", 400),
    ("KEY_DOES_NOT_OPEN", 400),
    ("VERSION_EXISTS", 400),
    ("KEY_MOVED", 400),
    ("OLDER_THAN_KNOWN", 400),
    ("KEK_OF_ITS_OWN", 400),
    ("WEAKER_PURGE_PROTECTION", 400),
    ("TOO_MANY_OBJECTS", 400),
    ("EVENTS_FORGOTTEN", 400),
    ("EVENTS_UNKNOWN", 400),
    ("PADDING_DECRYPTION_OFF", 400),
    ("BUILT_IN_ROLE", 400),
    ("LAST_ADMINISTRATOR", 400),
    ("ROLE_ASSIGNED", 400),
    ("NOT_DELETED", 400),
    ("PURGE_PROTECTION_IS_FINAL", 400),
    ("UNSUPPORTED_BY_HSM", 501),
    ("PADDING_FAILURES", 429),
    ("QUOTA_EXCEEDED", 429),
    ("OVERLOADED", 429),
    ("DEADLINE_EXCEEDED", 504),
    ("UNAVAILABLE", 503),
    ("OUTCOME_UNKNOWN", 500),
    ("RECORD_PENDING", 500),
    ("TAMPERED", 500),
    ("KEY_NOT_ON_TOKEN", 500),
    ("KEK_NOT_ON_TOKEN", 500),
    ("INTERNAL", 500),
];

/// An event. Its fields' names and forms are Azure's.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event {
    time: String,
    category: &'static str,
    operation_name: String,
    result_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    result_signature: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result_description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller_ip_address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<Identity>,
    properties: Properties,
}

#[derive(Debug, Serialize)]
struct Identity {
    claim: Claim,
}

#[derive(Debug, Serialize)]
struct Claim {
    /// The claim of a subject's name; a principal is no object of Entra ID.
    #[serde(rename = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier")]
    name: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Properties {
    /// The resource, by our name.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http_status_code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    algorithm: Option<String>,
    /// The index of the record.
    audit_index: u64,
    /// The operation's place in its batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    batch_place: Option<u64>,
    /// For how many equal refusals it stands beside itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    repeated: Option<u64>,
}

/// What one event says of one operation.
struct Said<'a> {
    operation: &'a str,
    resource: Option<&'a str>,
    algorithm: Option<&'a str>,
    outcome: Outcome,
    reason: Option<&'a str>,
    place: Option<u64>,
}

/// The events of a record: one, none of an intent, one for each operation of a batch.
pub(super) fn events(index: u64, record: &Record) -> Vec<Event> {
    if record.kind == Kind::Intent {
        return Vec::new();
    }
    let Some(batch) = &record.batch else {
        return vec![event(index, record, said(record))];
    };
    let groups = |group: u64| usize::try_from(group).ok().and_then(|group| batch.groups.get(group));
    let of_items = batch.items.iter().filter_map(|item| Some((item.place, groups(item.group)?)));
    of_items.map(|(place, group)| event(index, record, said_of(place, group))).collect()
}

fn said(record: &Record) -> Said<'_> {
    Said {
        operation: &record.operation,
        resource: record.resource.as_deref(),
        algorithm: record.algorithm.as_deref(),
        outcome: record.outcome,
        reason: record.reason.as_deref(),
        place: None,
    }
}

fn said_of(place: u64, group: &BatchGroup) -> Said<'_> {
    Said {
        operation: &group.operation,
        resource: Some(&group.resource),
        algorithm: group.algorithm.as_deref(),
        outcome: group.outcome,
        reason: group.reason.as_deref(),
        place: Some(place),
    }
}

fn event(index: u64, record: &Record, said: Said<'_>) -> Event {
    let status = status(said.outcome, said.reason);
    Event {
        time: Timestamp(record.time).to_string(),
        category: "AuditEvent",
        operation_name: operation_name(said.operation).to_owned(),
        result_type: if said.outcome == Outcome::Done { "Success" } else { "Failure" },
        result_signature: status.and_then(text),
        result_description: said.reason.map(str::to_owned),
        caller_ip_address: record.source.as_deref().and_then(address),
        correlation_id: record.request.clone(),
        identity: record.principal.clone().map(|name| Identity { claim: Claim { name } }),
        properties: Properties {
            id: said.resource.map(str::to_owned),
            http_status_code: status,
            algorithm: said.algorithm.map(str::to_owned),
            audit_index: index,
            batch_place: said.place,
            repeated: (record.repeated > 0).then_some(record.repeated),
        },
    }
}

/// Azure's name; an operation that the table does not have goes by its own.
fn operation_name(operation: &str) -> &str {
    OPERATIONS.iter().find(|(ours, _)| *ours == operation).map_or(operation, |(_, azure)| azure)
}

fn status(outcome: Outcome, reason: Option<&str>) -> Option<u16> {
    match outcome {
        Outcome::Done => Some(200),
        Outcome::Pending => None,
        Outcome::Refused | Outcome::Failed => {
            STATUSES.iter().find(|(known, _)| Some(*known) == reason).map(|(_, status)| *status)
        }
    }
}

/// `OK`, `Forbidden`: the status in words, without blanks.
fn text(status: u16) -> Option<String> {
    let reason = http::StatusCode::from_u16(status).ok()?.canonical_reason()?;
    Some(reason.split(' ').collect())
}

/// The address of a peer, without its port; what came over the Unix socket has none.
fn address(source: &str) -> Option<String> {
    let ip = |text: &str| text.parse::<std::net::IpAddr>().ok();
    let with_port = source.parse::<std::net::SocketAddr>().ok().map(|address| address.ip());
    with_port.or_else(|| ip(source)).map(|address| address.to_string())
}
