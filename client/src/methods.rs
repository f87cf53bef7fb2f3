//! Which calls may be made twice. One table, of which every method of the contract has a row.

/// What a second time does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Repetition {
    /// Nothing that the first has not done: it changes nothing. Operations with keys are among these: a second
    /// signature is as good as the first, and a second AES-GCM encryption uses one more of its key's 2^32. To open a
    /// stream does nothing yet.
    Safe,
    /// A change, which the server knows again by its request id. The client gives it one, if its caller does not.
    ById,
}

use Repetition::{ById, Safe};

/// Every method of `strongroom.v1`, and whether it may be repeated.
pub const METHODS: [(&str, Repetition); 87] = [
    ("/strongroom.v1.Crypto/Sign", Safe),
    ("/strongroom.v1.Crypto/Verify", Safe),
    ("/strongroom.v1.Crypto/Encrypt", Safe),
    ("/strongroom.v1.Crypto/Decrypt", Safe),
    ("/strongroom.v1.Crypto/WrapKey", Safe),
    ("/strongroom.v1.Crypto/UnwrapKey", Safe),
    ("/strongroom.v1.Crypto/GenerateDataKey", Safe),
    ("/strongroom.v1.Crypto/GenerateDataKeyWithoutPlaintext", Safe),
    ("/strongroom.v1.Crypto/ReEncrypt", Safe),
    ("/strongroom.v1.Crypto/RewrapKey", Safe),
    ("/strongroom.v1.Crypto/GenerateRandomBytes", Safe),
    ("/strongroom.v1.Crypto/Batch", Safe),
    // To open it. What was sent on it is nobody's to send again but its caller's.
    ("/strongroom.v1.Crypto/Stream", Safe),
    ("/strongroom.v1.Keys/CreateKey", ById),
    ("/strongroom.v1.Keys/ImportKey", ById),
    ("/strongroom.v1.Keys/RotateKey", ById),
    ("/strongroom.v1.Keys/GetKey", Safe),
    ("/strongroom.v1.Keys/ListKeys", Safe),
    ("/strongroom.v1.Keys/ListKeyVersions", Safe),
    ("/strongroom.v1.Keys/GetPublicKeys", Safe),
    ("/strongroom.v1.Keys/UpdateKeyVersion", ById),
    ("/strongroom.v1.Keys/DeleteKey", ById),
    ("/strongroom.v1.Keys/UndeleteKey", ById),
    ("/strongroom.v1.Keys/DeleteKeyVersion", ById),
    ("/strongroom.v1.Keys/UndeleteKeyVersion", ById),
    ("/strongroom.v1.Keys/PurgeKey", ById),
    // A second backup is another one, of the same key.
    ("/strongroom.v1.Keys/BackupKey", Safe),
    ("/strongroom.v1.Keys/RestoreKey", ById),
    ("/strongroom.v1.Keys/MoveKey", ById),
    ("/strongroom.v1.Secrets/SetSecret", ById),
    ("/strongroom.v1.Secrets/GetSecret", Safe),
    ("/strongroom.v1.Secrets/GetSecretValue", Safe),
    ("/strongroom.v1.Secrets/ListSecrets", Safe),
    ("/strongroom.v1.Secrets/ListSecretVersions", Safe),
    ("/strongroom.v1.Secrets/UpdateSecretVersion", ById),
    ("/strongroom.v1.Secrets/DeleteSecret", ById),
    ("/strongroom.v1.Secrets/UndeleteSecret", ById),
    ("/strongroom.v1.Secrets/PurgeSecret", ById),
    ("/strongroom.v1.Secrets/BackupSecret", Safe),
    ("/strongroom.v1.Secrets/RestoreSecret", ById),
    ("/strongroom.v1.Rotations/GetRotationPolicy", Safe),
    ("/strongroom.v1.Rotations/UpdateRotationPolicy", ById),
    ("/strongroom.v1.Rotations/ListRotations", Safe),
    ("/strongroom.v1.Events/WatchEvents", Safe),
    ("/strongroom.v1.Events/ListWebhooks", Safe),
    ("/strongroom.v1.Events/ListDeadLetters", Safe),
    // Queued twice is queued once.
    ("/strongroom.v1.Events/ReplayDeadLetters", Safe),
    ("/strongroom.v1.Vaults/CreateVault", ById),
    ("/strongroom.v1.Vaults/GetVault", Safe),
    ("/strongroom.v1.Vaults/ListVaults", Safe),
    ("/strongroom.v1.Vaults/UpdateVault", ById),
    ("/strongroom.v1.Vaults/DeleteVault", ById),
    ("/strongroom.v1.Vaults/UndeleteVault", ById),
    ("/strongroom.v1.Vaults/PurgeVault", ById),
    ("/strongroom.v1.Vaults/RotateVaultKek", ById),
    ("/strongroom.v1.RoleAssignments/CreateRoleAssignment", ById),
    ("/strongroom.v1.RoleAssignments/GetRoleAssignment", Safe),
    ("/strongroom.v1.RoleAssignments/ListRoleAssignments", Safe),
    ("/strongroom.v1.RoleAssignments/DeleteRoleAssignment", ById),
    ("/strongroom.v1.RoleDefinitions/CreateRoleDefinition", ById),
    ("/strongroom.v1.RoleDefinitions/GetRoleDefinition", Safe),
    ("/strongroom.v1.RoleDefinitions/ListRoleDefinitions", Safe),
    ("/strongroom.v1.RoleDefinitions/UpdateRoleDefinition", ById),
    ("/strongroom.v1.RoleDefinitions/DeleteRoleDefinition", ById),
    ("/strongroom.v1.AccessPolicies/SetAccessPolicy", ById),
    ("/strongroom.v1.AccessPolicies/ListAccessPolicies", Safe),
    ("/strongroom.v1.AccessPolicies/DeleteAccessPolicy", ById),
    ("/strongroom.v1.Access/ExplainAccess", Safe),
    ("/strongroom.v1.Access/ListPermittedPrincipals", Safe),
    ("/strongroom.v1.Access/PreviewAccess", Safe),
    ("/strongroom.v1.Replicas/ListReplicas", Safe),
    ("/strongroom.v1.Backups/CreateBackup", ById),
    ("/strongroom.v1.Backups/ListBackups", Safe),
    ("/strongroom.v1.Tokens/CreateToken", ById),
    ("/strongroom.v1.Tokens/GetToken", Safe),
    ("/strongroom.v1.Tokens/ListTokens", Safe),
    ("/strongroom.v1.Tokens/RevokeToken", ById),
    ("/strongroom.v1.OwnKeys/GetOwnKeys", Safe),
    ("/strongroom.v1.OwnKeys/RotateIssuerKey", ById),
    ("/strongroom.v1.OwnKeys/RotateRoot", ById),
    ("/strongroom.v1.OwnKeys/RotateLogKey", ById),
    ("/strongroom.v1.AuditLog/ListAuditRecords", Safe),
    ("/strongroom.v1.AuditLog/GetAuditRecord", Safe),
    ("/strongroom.v1.AuditLog/StreamAuditRecords", Safe),
    ("/strongroom.v1.AuditLog/ListAuditUses", Safe),
    ("/strongroom.v1.AuditLog/GetAuditCheckpoint", Safe),
    ("/strongroom.v1.AuditLog/GetAuditReceipt", Safe),
];

/// Whether a method may be repeated, by its path; nothing of one that is not in the table, which then is not repeated.
#[must_use]
pub fn repetition(path: &str) -> Option<Repetition> {
    METHODS.iter().find(|(known, _)| *known == path).map(|(_, repetition)| *repetition)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn every_method_has_a_row_and_changes_are_those_with_a_request_id() {
        let set = prost_types::FileDescriptorSet::decode(strongroom_proto::DESCRIPTORS).expect("compiled in");
        let ours = || set.file.iter().filter(|file| file.package() == "strongroom.v1");
        let has_id = |message: &str| {
            let message = ours()
                .flat_map(|file| &file.message_type)
                .find(|known| message.ends_with(&format!(".{}", known.name())));
            message.expect("a message").field.iter().any(|field| field.name() == "request_id")
        };
        let mut count = 0;
        for service in ours().flat_map(|file| &file.service) {
            for method in &service.method {
                let path = format!("/strongroom.v1.{}/{}", service.name(), method.name());
                let wanted = if has_id(method.input_type()) { ById } else { Safe };
                assert_eq!(repetition(&path), Some(wanted), "{path}");
                count += 1;
            }
        }
        assert_eq!(count, METHODS.len(), "no row is of something else, and none is there twice");
        assert_eq!(repetition("/strongroom.v1.Keys/DestroyEverything"), None);
    }
}
