//! Every role, every operation, every state: `tests/matrix.txt` is what the code says, for people to review, and each
//! of its cells is asked of a running server. `UPDATE_EXPECT=1` writes it anew. An RPC without a row is a failure.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use bytes::{Buf as _, BufMut as _, Bytes};
use prost::Message as _;
use strongroom::{
    access::{Action, Rights, RoleDefinition, roles},
    model::Scope,
};
use strongroom_proto::v1::{self, operation_request, operation_response};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};
use tonic_types::StatusExt as _;

use crate::{
    dev::{Dev, text},
    rpc::{connect, connect_as, reason},
};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/matrix.txt");
const VAULT: &str = "vaults/dev";
/// A role without any right of these.
const READER: &str = "roleDefinitions/210905457ca74776b22ce363652d74d2";
/// What a key or secret can be, in the order of the table's columns.
const STATES: [&str; 6] = ["enabled", "disabled", "not-yet-valid", "expired", "deleted", "absent"];

/// Where an RPC asks for its right.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Service,
    Vault,
    Keys,
    Key,
    Secrets,
    Secret,
    /// A right at any scope will do.
    Anywhere,
}

impl At {
    /// Whether what comes of it depends on the state of what it is about.
    const fn is_object(self) -> bool {
        matches!(self, Self::Key | Self::Secret)
    }

    fn scope(self) -> Scope {
        let text = match self {
            Self::Service | Self::Anywhere => "/",
            Self::Vault => "vaults/dev",
            Self::Keys => "vaults/dev/keys",
            Self::Key => "vaults/dev/keys/enabled",
            Self::Secrets => "vaults/dev/secrets",
            Self::Secret => "vaults/dev/secrets/enabled",
        };
        text.parse().expect("a scope")
    }
}

/// One RPC: the right that it needs, where, and a message for it. Changes are validated only.
struct Row {
    rpc: &'static str,
    action: Action,
    at: At,
    message: fn(&World, &str) -> Vec<u8>,
}

/// What messages name.
struct World {
    /// By state, a backup of the key from before it was in it.
    backups: BTreeMap<String, Vec<u8>>,
    /// The same of the secret.
    secret_backups: BTreeMap<String, Vec<u8>>,
    /// By state, what was made with the key before it was in it: an RSA-OAEP-256 ciphertext.
    ciphertexts: BTreeMap<String, Vec<u8>>,
    /// The first version of the key, by state.
    versions: BTreeMap<String, String>,
    assignment: String,
    token: String,
    role: String,
    /// A record about a key of the vault.
    record: String,
}

/// Who has an access policy.
const LISTED: &str = "spiffe://test.invalid/listed";

fn name(key: &str) -> String {
    format!("{VAULT}/keys/{key}")
}

fn secret(name: &str) -> String {
    format!("{VAULT}/secrets/{name}")
}

/// Its first version, or one that is not there.
fn version(world: &World, key: &str) -> String {
    world.versions.get(key).cloned().unwrap_or_else(|| format!("{}/versions/{:032x}", name(key), 7))
}

fn oaep() -> String {
    "RSA-OAEP-256".to_owned()
}

fn sign(key: &str) -> v1::SignRequest {
    let input = Some(v1::sign_request::Input::Digest(vec![1; 32]));
    v1::SignRequest { name: name(key), algorithm: "PS256".to_owned(), input, input_crc32c: None }
}

fn operation(key: &str) -> v1::OperationRequest {
    v1::OperationRequest { operation: Some(operation_request::Operation::Sign(sign(key))) }
}

fn assignment() -> v1::RoleAssignment {
    let (principal, role, scope) = ("spiffe://test.invalid/new".to_owned(), READER.to_owned(), VAULT.to_owned());
    v1::RoleAssignment { principal, role, scope, ..Default::default() }
}

fn rows() -> Vec<Row> {
    use Action as A;
    let row = |rpc, action, at, message| Row { rpc, action, at, message };
    vec![
        row("Vaults/CreateVault", A::VaultsCreate, At::Service, |_, _| {
            let vault_id = "another".to_owned();
            v1::CreateVaultRequest { vault_id, validate_only: true, ..Default::default() }.encode_to_vec()
        }),
        row("Vaults/GetVault", A::VaultsRead, At::Vault, |_, _| {
            v1::GetVaultRequest { name: VAULT.to_owned() }.encode_to_vec()
        }),
        row("Vaults/ListVaults", A::VaultsRead, At::Anywhere, |_, _| v1::ListVaultsRequest::default().encode_to_vec()),
        row("Vaults/UpdateVault", A::VaultsUpdate, At::Vault, |_, _| {
            let vault = Some(v1::Vault { name: VAULT.to_owned(), ..Default::default() });
            let update_mask = Some(prost_types::FieldMask { paths: vec!["tags".to_owned()] });
            v1::UpdateVaultRequest { vault, update_mask, validate_only: true, ..Default::default() }.encode_to_vec()
        }),
        row("Vaults/DeleteVault", A::VaultsDelete, At::Vault, |_, _| {
            let name = VAULT.to_owned();
            v1::DeleteVaultRequest { name, validate_only: true, ..Default::default() }.encode_to_vec()
        }),
        row("Vaults/UndeleteVault", A::VaultsUndelete, At::Vault, |_, _| {
            let name = VAULT.to_owned();
            v1::UndeleteVaultRequest { name, validate_only: true, ..Default::default() }.encode_to_vec()
        }),
        row("Vaults/PurgeVault", A::VaultsPurge, At::Vault, |_, _| {
            let name = VAULT.to_owned();
            v1::PurgeVaultRequest { name, validate_only: true, ..Default::default() }.encode_to_vec()
        }),
        row("Keys/CreateKey", A::KeysCreate, At::Key, |_, key| {
            let version = Some(v1::KeyVersion { key_type: v1::KeyType::Ec.into(), ..Default::default() });
            let (parent, key_id) = (VAULT.to_owned(), key.to_owned());
            v1::CreateKeyRequest { parent, key_id, version, validate_only: true, ..Default::default() }.encode_to_vec()
        }),
        row("Keys/ImportKey", A::KeysImport, At::Key, |_, key| {
            let material = Some(v1::import_key_request::Material::Oct(vec![7; 32]));
            let (parent, key_id) = (VAULT.to_owned(), format!("imported-{key}"));
            v1::ImportKeyRequest { parent, key_id, material, validate_only: true, ..Default::default() }.encode_to_vec()
        }),
        row("Keys/RotateKey", A::KeysRotate, At::Key, |_, key| {
            v1::RotateKeyRequest { name: name(key), validate_only: true, ..Default::default() }.encode_to_vec()
        }),
        row("Keys/GetKey", A::KeysRead, At::Key, |_, key| v1::GetKeyRequest { name: name(key) }.encode_to_vec()),
        row("Keys/ListKeys", A::KeysList, At::Keys, |_, _| {
            v1::ListKeysRequest { parent: VAULT.to_owned(), ..Default::default() }.encode_to_vec()
        }),
        row("Keys/ListKeyVersions", A::KeysList, At::Key, |_, key| {
            v1::ListKeyVersionsRequest { parent: name(key), ..Default::default() }.encode_to_vec()
        }),
        row("Keys/GetPublicKeys", A::KeysRead, At::Key, |_, key| {
            v1::GetPublicKeysRequest { name: name(key), ..Default::default() }.encode_to_vec()
        }),
        row("Keys/UpdateKeyVersion", A::KeysUpdate, At::Key, |world, key| {
            let version = Some(v1::KeyVersion { name: version(world, key), ..Default::default() });
            let update_mask = Some(prost_types::FieldMask { paths: vec!["tags".to_owned()] });
            v1::UpdateKeyVersionRequest { version, update_mask, validate_only: true, ..Default::default() }
                .encode_to_vec()
        }),
        row("Keys/DeleteKey", A::KeysDelete, At::Key, |_, key| {
            v1::DeleteKeyRequest { name: name(key), validate_only: true, ..Default::default() }.encode_to_vec()
        }),
        row("Keys/UndeleteKey", A::KeysUndelete, At::Key, |_, key| {
            v1::UndeleteKeyRequest { name: name(key), validate_only: true, ..Default::default() }.encode_to_vec()
        }),
        row("Keys/DeleteKeyVersion", A::KeysDelete, At::Key, |world, key| {
            let name = version(world, key);
            v1::DeleteKeyVersionRequest { name, validate_only: true, ..Default::default() }.encode_to_vec()
        }),
        row("Keys/UndeleteKeyVersion", A::KeysUndelete, At::Key, |world, key| {
            let name = version(world, key);
            v1::UndeleteKeyVersionRequest { name, validate_only: true, ..Default::default() }.encode_to_vec()
        }),
        row("Keys/PurgeKey", A::KeysPurge, At::Key, |_, key| {
            v1::PurgeKeyRequest { name: name(key), validate_only: true, ..Default::default() }.encode_to_vec()
        }),
        row("Keys/BackupKey", A::KeysBackup, At::Key, |_, key| {
            v1::BackupKeyRequest { name: name(key) }.encode_to_vec()
        }),
        row("Keys/RestoreKey", A::KeysRestore, At::Key, |world, key| {
            let backup = world.backups.get(key).cloned().expect("there is one of each");
            v1::RestoreKeyRequest { backup, validate_only: true, ..Default::default() }.encode_to_vec()
        }),
        // To where it is: whoever has the one right and not the other is refused, as if it were elsewhere.
        row("Keys/MoveKey", A::KeysMove, At::Key, |_, key| {
            let (name, target_vault) = (name(key), VAULT.to_owned());
            v1::MoveKeyRequest { name, target_vault, validate_only: true, ..Default::default() }.encode_to_vec()
        }),
        row("Secrets/SetSecret", A::SecretsSet, At::Secret, |_, state| {
            let (parent, secret_id, value) = (VAULT.to_owned(), state.to_owned(), b"a".to_vec());
            v1::SetSecretRequest { parent, secret_id, value, validate_only: true, ..Default::default() }.encode_to_vec()
        }),
        row("Secrets/GetSecret", A::SecretsRead, At::Secret, |_, state| {
            v1::GetSecretRequest { name: secret(state) }.encode_to_vec()
        }),
        row("Secrets/GetSecretValue", A::SecretsGet, At::Secret, |_, state| {
            v1::GetSecretValueRequest { name: secret(state) }.encode_to_vec()
        }),
        row("Secrets/ListSecrets", A::SecretsList, At::Secrets, |_, _| {
            v1::ListSecretsRequest { parent: VAULT.to_owned(), ..Default::default() }.encode_to_vec()
        }),
        row("Secrets/ListSecretVersions", A::SecretsList, At::Secret, |_, state| {
            v1::ListSecretVersionsRequest { parent: secret(state), ..Default::default() }.encode_to_vec()
        }),
        row("Secrets/UpdateSecretVersion", A::SecretsUpdate, At::Secret, |_, state| {
            let version = Some(v1::SecretVersion { name: secret(state), ..Default::default() });
            let update_mask = Some(prost_types::FieldMask { paths: vec!["tags".to_owned()] });
            v1::UpdateSecretVersionRequest { version, update_mask, validate_only: true, ..Default::default() }
                .encode_to_vec()
        }),
        row("Secrets/DeleteSecret", A::SecretsDelete, At::Secret, |_, state| {
            v1::DeleteSecretRequest { name: secret(state), validate_only: true, ..Default::default() }.encode_to_vec()
        }),
        row("Secrets/UndeleteSecret", A::SecretsUndelete, At::Secret, |_, state| {
            v1::UndeleteSecretRequest { name: secret(state), validate_only: true, ..Default::default() }.encode_to_vec()
        }),
        row("Secrets/PurgeSecret", A::SecretsPurge, At::Secret, |_, state| {
            v1::PurgeSecretRequest { name: secret(state), validate_only: true, ..Default::default() }.encode_to_vec()
        }),
        row("Secrets/BackupSecret", A::SecretsBackup, At::Secret, |_, state| {
            v1::BackupSecretRequest { name: secret(state) }.encode_to_vec()
        }),
        row("Secrets/RestoreSecret", A::SecretsRestore, At::Secret, |world, state| {
            let backup = world.secret_backups.get(state).cloned().expect("there is one of each");
            v1::RestoreSecretRequest { backup, validate_only: true, ..Default::default() }.encode_to_vec()
        }),
        row("Events/WatchEvents", A::EventsRead, At::Vault, |_, _| {
            v1::WatchEventsRequest { parent: VAULT.to_owned(), no_follow: true, ..Default::default() }.encode_to_vec()
        }),
        row("Events/ListWebhooks", A::WebhooksRead, At::Service, |_, _| v1::ListWebhooksRequest {}.encode_to_vec()),
        row("Events/ListDeadLetters", A::WebhooksRead, At::Service, |_, _| {
            v1::ListDeadLettersRequest { parent: "webhooks/absent".to_owned(), ..Default::default() }.encode_to_vec()
        }),
        row("Events/ReplayDeadLetters", A::WebhooksReplay, At::Service, |_, _| {
            v1::ReplayDeadLettersRequest { name: "webhooks/absent".to_owned() }.encode_to_vec()
        }),
        row("Rotations/GetRotationPolicy", A::RotationPoliciesRead, At::Key, |_, key| {
            v1::GetRotationPolicyRequest { name: name(key) + "/rotationPolicy" }.encode_to_vec()
        }),
        row("Rotations/UpdateRotationPolicy", A::RotationPoliciesUpdate, At::Key, |_, key| {
            let rotation_policy =
                Some(v1::RotationPolicy { name: name(key) + "/rotationPolicy", ..Default::default() });
            v1::UpdateRotationPolicyRequest { rotation_policy, validate_only: true, ..Default::default() }
                .encode_to_vec()
        }),
        row("Rotations/ListRotations", A::RotationPoliciesRead, At::Keys, |_, _| {
            v1::ListRotationsRequest { parent: VAULT.to_owned(), ..Default::default() }.encode_to_vec()
        }),
        row("Crypto/Sign", A::KeysSign, At::Key, |_, key| sign(key).encode_to_vec()),
        row("Crypto/Verify", A::KeysVerify, At::Key, |_, key| {
            let input = Some(v1::verify_request::Input::Digest(vec![1; 32]));
            let (algorithm, signature) = ("PS256".to_owned(), vec![1; 256]);
            v1::VerifyRequest { name: name(key), algorithm, input, signature, ..Default::default() }.encode_to_vec()
        }),
        row("Crypto/Encrypt", A::KeysEncrypt, At::Key, |_, key| {
            let (algorithm, plaintext) = (oaep(), b"a".to_vec());
            v1::EncryptRequest { name: name(key), algorithm, plaintext, ..Default::default() }.encode_to_vec()
        }),
        row("Crypto/Decrypt", A::KeysDecrypt, At::Key, |world, key| {
            let (algorithm, ciphertext) = (oaep(), world.ciphertexts.get(key).cloned().unwrap_or(vec![1; 256]));
            v1::DecryptRequest { name: name(key), algorithm, ciphertext, ..Default::default() }.encode_to_vec()
        }),
        row("Crypto/WrapKey", A::KeysWrap, At::Key, |_, key| {
            v1::WrapKeyRequest { name: name(key), algorithm: oaep(), key: vec![7; 32], key_crc32c: None }
                .encode_to_vec()
        }),
        row("Crypto/UnwrapKey", A::KeysUnwrap, At::Key, |world, key| {
            let wrapped_key = world.ciphertexts.get(key).cloned().unwrap_or(vec![1; 256]);
            v1::UnwrapKeyRequest { name: name(key), algorithm: oaep(), wrapped_key, ..Default::default() }
                .encode_to_vec()
        }),
        row("Crypto/ReEncrypt", A::KeysDecrypt, At::Key, |world, key| {
            let (algorithm, ciphertext) = (oaep(), world.ciphertexts.get(key).cloned().unwrap_or(vec![1; 256]));
            let source = Some(v1::DecryptRequest { name: name(key), algorithm, ciphertext, ..Default::default() });
            v1::ReEncryptRequest { source, ..Default::default() }.encode_to_vec()
        }),
        row("Crypto/RewrapKey", A::KeysUnwrap, At::Key, |world, key| {
            let wrapped_key = world.ciphertexts.get(key).cloned().unwrap_or(vec![1; 256]);
            let (name, algorithm) = (name(key), oaep());
            let source = Some(v1::UnwrapKeyRequest { name, algorithm, wrapped_key, ..Default::default() });
            v1::RewrapKeyRequest { source, ..Default::default() }.encode_to_vec()
        }),
        row("Crypto/GenerateDataKey", A::DataKeysGenerate, At::Key, |_, key| {
            v1::GenerateDataKeyRequest { name: name(key), algorithm: oaep(), ..Default::default() }.encode_to_vec()
        }),
        row("Crypto/GenerateDataKeyWithoutPlaintext", A::DataKeysGenerateWrapped, At::Key, |_, key| {
            let (name, algorithm) = (name(key), oaep());
            v1::GenerateDataKeyWithoutPlaintextRequest { name, algorithm, ..Default::default() }.encode_to_vec()
        }),
        row("Crypto/GenerateRandomBytes", A::RandomGenerate, At::Anywhere, |_, _| {
            v1::GenerateRandomBytesRequest { length_bytes: 8 }.encode_to_vec()
        }),
        row("Crypto/Batch", A::KeysSign, At::Key, |_, key| {
            v1::BatchRequest { operations: vec![operation(key)] }.encode_to_vec()
        }),
        row("Crypto/Stream", A::KeysSign, At::Key, |_, key| {
            v1::StreamRequest { id: 1, operation: Some(operation(key)) }.encode_to_vec()
        }),
        row("RoleAssignments/CreateRoleAssignment", A::RoleAssignmentsCreate, At::Vault, |_, _| {
            let role_assignment = Some(assignment());
            v1::CreateRoleAssignmentRequest { role_assignment, validate_only: true, ..Default::default() }
                .encode_to_vec()
        }),
        row("RoleAssignments/GetRoleAssignment", A::RoleAssignmentsRead, At::Vault, |world, _| {
            v1::GetRoleAssignmentRequest { name: world.assignment.clone() }.encode_to_vec()
        }),
        row("RoleAssignments/ListRoleAssignments", A::RoleAssignmentsRead, At::Anywhere, |_, _| {
            v1::ListRoleAssignmentsRequest::default().encode_to_vec()
        }),
        row("RoleAssignments/DeleteRoleAssignment", A::RoleAssignmentsDelete, At::Vault, |world, _| {
            let name = world.assignment.clone();
            v1::DeleteRoleAssignmentRequest { name, validate_only: true, ..Default::default() }.encode_to_vec()
        }),
        row("RoleDefinitions/CreateRoleDefinition", A::RoleDefinitionsCreate, At::Service, |_, _| {
            let role_definition = Some(v1::RoleDefinition { role_name: "another".to_owned(), ..Default::default() });
            v1::CreateRoleDefinitionRequest { role_definition, validate_only: true, ..Default::default() }
                .encode_to_vec()
        }),
        row("RoleDefinitions/GetRoleDefinition", A::RoleDefinitionsRead, At::Anywhere, |world, _| {
            v1::GetRoleDefinitionRequest { name: world.role.clone() }.encode_to_vec()
        }),
        row("RoleDefinitions/ListRoleDefinitions", A::RoleDefinitionsRead, At::Anywhere, |_, _| {
            v1::ListRoleDefinitionsRequest::default().encode_to_vec()
        }),
        row("RoleDefinitions/UpdateRoleDefinition", A::RoleDefinitionsUpdate, At::Service, |world, _| {
            let role_definition = Some(v1::RoleDefinition { name: world.role.clone(), ..Default::default() });
            let update_mask = Some(prost_types::FieldMask { paths: vec!["description".to_owned()] });
            v1::UpdateRoleDefinitionRequest { role_definition, update_mask, validate_only: true, ..Default::default() }
                .encode_to_vec()
        }),
        row("RoleDefinitions/DeleteRoleDefinition", A::RoleDefinitionsDelete, At::Service, |world, _| {
            let name = world.role.clone();
            v1::DeleteRoleDefinitionRequest { name, validate_only: true, ..Default::default() }.encode_to_vec()
        }),
        row("AccessPolicies/SetAccessPolicy", A::AccessPoliciesUpdate, At::Vault, |_, _| {
            let (parent, principal) = (VAULT.to_owned(), LISTED.to_owned());
            let access_policy =
                Some(v1::AccessPolicy { parent, principal, keys: vec!["all".to_owned()], ..Default::default() });
            v1::SetAccessPolicyRequest { access_policy, validate_only: true, ..Default::default() }.encode_to_vec()
        }),
        row("AccessPolicies/ListAccessPolicies", A::AccessPoliciesRead, At::Vault, |_, _| {
            v1::ListAccessPoliciesRequest { parent: VAULT.to_owned(), ..Default::default() }.encode_to_vec()
        }),
        row("AccessPolicies/DeleteAccessPolicy", A::AccessPoliciesDelete, At::Vault, |_, _| {
            let (parent, principal) = (VAULT.to_owned(), LISTED.to_owned());
            v1::DeleteAccessPolicyRequest { parent, principal, validate_only: true, ..Default::default() }
                .encode_to_vec()
        }),
        row("Access/ExplainAccess", A::RoleAssignmentsRead, At::Vault, |_, _| {
            let (principal, action, scope) = ("spiffe://a/b".to_owned(), "keys.sign".to_owned(), VAULT.to_owned());
            v1::ExplainAccessRequest { principal, action, scope, ..Default::default() }.encode_to_vec()
        }),
        row("Access/ListPermittedPrincipals", A::RoleAssignmentsRead, At::Vault, |_, _| {
            let (action, scope) = ("keys.sign".to_owned(), VAULT.to_owned());
            v1::ListPermittedPrincipalsRequest { action, scope, ..Default::default() }.encode_to_vec()
        }),
        row("Access/PreviewAccess", A::RoleAssignmentsRead, At::Service, |_, _| {
            let change = v1::CreateRoleAssignmentRequest { role_assignment: Some(assignment()), ..Default::default() };
            let change = Some(v1::preview_access_request::Change::CreateRoleAssignment(change));
            v1::PreviewAccessRequest { change }.encode_to_vec()
        }),
        row("Replicas/ListReplicas", A::ReplicasRead, At::Service, |_, _| v1::ListReplicasRequest {}.encode_to_vec()),
        row("Backups/CreateBackup", A::BackupsCreate, At::Service, |_, _| {
            v1::CreateBackupRequest { validate_only: true, ..Default::default() }.encode_to_vec()
        }),
        row("Backups/ListBackups", A::BackupsRead, At::Service, |_, _| v1::ListBackupsRequest {}.encode_to_vec()),
        row("Tokens/CreateToken", A::TokensCreate, At::Service, |_, _| {
            let token_name = "another".to_owned();
            v1::CreateTokenRequest { token_name, validate_only: true, ..Default::default() }.encode_to_vec()
        }),
        row("Tokens/GetToken", A::TokensRead, At::Service, |world, _| {
            v1::GetTokenRequest { name: world.token.clone() }.encode_to_vec()
        }),
        row("Tokens/ListTokens", A::TokensRead, At::Service, |_, _| v1::ListTokensRequest::default().encode_to_vec()),
        row("Tokens/RevokeToken", A::TokensRevoke, At::Service, |world, _| {
            let name = world.token.clone();
            v1::RevokeTokenRequest { name, validate_only: true, ..Default::default() }.encode_to_vec()
        }),
        row("Vaults/RotateVaultKek", A::VaultsRotateKek, At::Vault, |_, _| {
            let name = VAULT.to_owned();
            v1::RotateVaultKekRequest { name, validate_only: true, ..Default::default() }.encode_to_vec()
        }),
        row("OwnKeys/GetOwnKeys", A::OwnKeysRead, At::Service, |_, _| v1::GetOwnKeysRequest {}.encode_to_vec()),
        row("OwnKeys/RotateIssuerKey", A::OwnKeysRotateIssuer, At::Service, |_, _| {
            v1::RotateIssuerKeyRequest { validate_only: true, ..Default::default() }.encode_to_vec()
        }),
        row("OwnKeys/RotateRoot", A::OwnKeysRotateRoot, At::Service, |_, _| {
            v1::RotateRootRequest { no_recovery: true, validate_only: true, ..Default::default() }.encode_to_vec()
        }),
        row("OwnKeys/RotateLogKey", A::OwnKeysRotateLog, At::Service, |_, _| {
            v1::RotateLogKeyRequest { validate_only: true, ..Default::default() }.encode_to_vec()
        }),
        row("AuditLog/ListAuditRecords", A::AuditRecordsRead, At::Vault, |_, _| {
            v1::ListAuditRecordsRequest { filter: records(), ..Default::default() }.encode_to_vec()
        }),
        row("AuditLog/GetAuditRecord", A::AuditRecordsRead, At::Vault, |world, _| {
            v1::GetAuditRecordRequest { name: world.record.clone() }.encode_to_vec()
        }),
        row("AuditLog/StreamAuditRecords", A::AuditRecordsRead, At::Vault, |_, _| {
            v1::StreamAuditRecordsRequest { filter: records(), start_index: Some(0), follow: false }.encode_to_vec()
        }),
        row("AuditLog/ListAuditUses", A::AuditRecordsRead, At::Vault, |_, _| {
            v1::ListAuditUsesRequest { filter: records(), ..Default::default() }.encode_to_vec()
        }),
        row("AuditLog/GetAuditCheckpoint", A::AuditRecordsRead, At::Anywhere, |_, _| {
            v1::GetAuditCheckpointRequest { old_size: 0 }.encode_to_vec()
        }),
        row("AuditLog/GetAuditReceipt", A::AuditRecordsRead, At::Vault, |world, _| {
            v1::GetAuditReceiptRequest { name: world.record.clone() }.encode_to_vec()
        }),
    ]
}

/// Messages as bytes.
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// What an RPC comes to: `done`, or the reason of its refusal.
async fn ask(channel: &Channel, row: &Row, world: &World, key: &str) -> String {
    let path = format!("/strongroom.v1.{}", row.rpc).parse().expect("a path");
    let message = (row.message)(world, key);
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.expect("connected");
    let answered = if row.rpc == "Crypto/Stream" {
        let messages = Request::new(tokio_stream::iter([message]));
        match grpc.streaming(messages, path, Raw).await {
            Ok(answers) => answers.into_inner().message().await.map(Option::unwrap_or_default),
            Err(status) => Err(status),
        }
    } else if ["AuditLog/StreamAuditRecords", "Events/WatchEvents"].contains(&row.rpc) {
        match grpc.server_streaming(Request::new(message), path, Raw).await {
            Ok(messages) => messages.into_inner().message().await.map(Option::unwrap_or_default),
            Err(status) => Err(status),
        }
    } else {
        grpc.unary(Request::new(message), path, Raw).await.map(tonic::Response::into_inner)
    };
    let inner = |answer: Option<v1::OperationResponse>| match answer.and_then(|answer| answer.result) {
        Some(operation_response::Result::Error(error)) => {
            let details = error.encode_to_vec().into();
            reason(&Status::with_details(Code::from_i32(error.code), error.message, details))
        }
        Some(_) => "done".to_owned(),
        None => "nothing".to_owned(),
    };
    match (answered, row.rpc) {
        (Err(status), _) => {
            assert!(status.check_error_details().is_ok(), "{status:?}");
            reason(&status)
        }
        (Ok(answer), "Crypto/Batch") => {
            inner(v1::BatchResponse::decode(answer).expect("a batch").results.into_iter().next())
        }
        (Ok(answer), "Crypto/Stream") => inner(v1::StreamResponse::decode(answer).expect("an answer").result),
        (Ok(_), _) => "done".to_owned(),
    }
}

/// A key and a secret in each state, a role to take away, and a token to revoke.
async fn furnish(dev: &Dev, admin: &Channel) -> World {
    let mut world = World {
        backups: BTreeMap::new(),
        secret_backups: BTreeMap::new(),
        ciphertexts: BTreeMap::new(),
        versions: BTreeMap::new(),
        assignment: String::new(),
        token: String::new(),
        role: String::new(),
        record: String::new(),
    };
    for state in &STATES {
        dev.ok(&["key", "create", state, "--type", "RSA", "--size", "2048"]);
        let mut keys = v1::keys_client::KeysClient::new(admin.clone());
        let backup = keys.backup_key(v1::BackupKeyRequest { name: name(state) }).await.expect("made").into_inner();
        world.backups.insert((*state).to_owned(), backup.backup);
    }
    dev.ok(&["key", "delete", STATES[5]]);
    dev.ok(&["key", "purge", STATES[5]]);
    for state in &STATES[..5] {
        let mut crypto = v1::crypto_client::CryptoClient::new(admin.clone());
        let (algorithm, plaintext) = (oaep(), vec![7; 32]);
        let request = v1::EncryptRequest { name: name(state), algorithm, plaintext, ..Default::default() };
        let sealed = crypto.encrypt(request).await.expect("encrypted").into_inner();
        world.ciphertexts.insert((*state).to_owned(), sealed.ciphertext);
        world.versions.insert((*state).to_owned(), sealed.name);
    }
    let value = dev.file("value", "a");
    for state in &STATES {
        dev.ok(&["secret", "set", state, "--file", text(&value)]);
        let mut secrets = v1::secrets_client::SecretsClient::new(admin.clone());
        let request = v1::BackupSecretRequest { name: secret(state) };
        let backup = secrets.backup_secret(request).await.expect("made").into_inner();
        world.secret_backups.insert((*state).to_owned(), backup.backup);
    }
    dev.ok(&["secret", "delete", STATES[5]]);
    dev.ok(&["secret", "purge", STATES[5]]);
    for noun in ["key", "secret"] {
        dev.ok(&[noun, "update", "disabled", "--disable"]);
        dev.ok(&[noun, "update", "not-yet-valid", "--not-before", "2100-01-01T00:00:00Z"]);
        dev.ok(&[noun, "update", "expired", "--expires", "2020-01-01T00:00:00Z"]);
        dev.ok(&[noun, "delete", "deleted"]);
    }
    let shown = dev.ok(&[
        "access",
        "grant",
        "--principal",
        "spiffe://test.invalid/gone",
        "--role",
        "Key Vault Reader",
        "--scope",
        VAULT,
        "-o",
        "json",
    ]);
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    world.assignment = shown["name"].as_str().expect("a name").to_owned();
    let shown = dev.ok(&["token", "create", "matrix", "-o", "json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    world.token = shown["token"]["name"].as_str().expect("a name").to_owned();
    let shown = dev.ok(&["access", "roles", "create", "matrix", "--data-action", "keys.sign", "-o", "json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    world.role = shown["name"].as_str().expect("a name").to_owned();
    dev.ok(&["vault", "policy", "set", "dev", "--principal", LISTED, "--keys", "get"]);
    while world.record.is_empty() {
        let mut log = v1::audit_log_client::AuditLogClient::new(admin.clone());
        let request = v1::ListAuditRecordsRequest { filter: records(), ..Default::default() };
        let found = log.list_audit_records(request).await.expect("lists").into_inner().records;
        world.record = found.first().map(|record| record.name.clone()).unwrap_or_default();
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    world
}

/// Records about the vault's keys.
fn records() -> Option<v1::AuditFilter> {
    Some(v1::AuditFilter { resource: name("enabled"), ..Default::default() })
}

/// Somebody with a role at a scope.
async fn holder(dev: &Dev, role: &RoleDefinition, scope: &str) -> Channel {
    let slug = role.name.to_lowercase().replace(' ', "-");
    let place = if scope == "/" { "service" } else { "vault" };
    let principal = format!("spiffe://dev.strongroom.invalid/matrix/{place}/{slug}");
    dev.ok(&["access", "grant", "--principal", &principal, "--role", &role.name, "--scope", scope]);
    connect_as(dev, &principal).await
}

/// What the code says: whether a role at a scope permits an RPC.
fn permits(role: &RoleDefinition, held_at: &str, row: &Row) -> bool {
    let held_at: Scope = held_at.parse().expect("a scope");
    role.rights().has(row.action) && (row.at == At::Anywhere || held_at.contains(&row.at.scope()))
}

/// What somebody hears who is permitted it where an administrator hears `outcome`: what is not there is for those who
/// may list what is.
fn hears(role: &RoleDefinition, row: &Row, outcome: &str) -> String {
    let tells = ["NOT_FOUND", "DELETED"].contains(&outcome);
    let list = if row.at == At::Secret { Action::SecretsList } else { Action::KeysList };
    if tells && !Rights::has(role.rights(), list) { "PERMISSION_DENIED".to_owned() } else { outcome.to_owned() }
}

fn states(row: &Row) -> &'static [&'static str] {
    if row.at.is_object() { &STATES } else { &STATES[..1] }
}

/// The lines of a row: what it needs, what comes of it in each state, and who is permitted it.
fn lines(row: &Row, outcomes: &[String]) -> String {
    let mut text = format!("{}\n  needs {} at {}\n", row.rpc, row.action.name(), place(row.at));
    for (state, outcome) in states(row).iter().zip(outcomes) {
        let state = if row.at.is_object() { *state } else { "permitted" };
        let _ = writeln!(text, "  {state:<13} {outcome}");
    }
    for (held_at, said) in [(VAULT, "by a role at the vault"), ("/", "by a role at / only")] {
        let other = held_at == "/";
        let who = assignable().filter(|role| permits(role, held_at, row) && !(other && permits(role, VAULT, row)));
        let who: Vec<&str> = who.map(|role| role.name.as_str()).collect();
        if !who.is_empty() {
            let _ = writeln!(text, "  {said}:");
            who.iter().for_each(|name| {
                let _ = writeln!(text, "    {name}");
            });
        }
    }
    text
}

const fn place(at: At) -> &'static str {
    match at {
        At::Service => "/",
        At::Vault => "the vault",
        At::Keys => "the vault's keys",
        At::Key => "the key",
        At::Secrets => "the vault's secrets",
        At::Secret => "the secret",
        At::Anywhere => "any scope",
    }
}

const HEAD: &str = "\
Who may do what. Each entry is one RPC: the action that it needs, and where; what comes of it for somebody who has
the action, by the state of the key or secret; and the built-in roles that permit it. Everybody else is refused with
PERMISSION_DENIED in every state, so that nobody learns from a refusal what exists. NOT_FOUND and DELETED are for those
who may list keys, or secrets; whoever may not is refused with PERMISSION_DENIED. A right at a scope holds at every
scope within it.
`break-glass administrator`, which the console gives and no request, permits what `administrator` permits.
Generated by tests/it/matrix.rs, which asks a running server every cell.
";

/// The built-in roles but the one that no request gives, which has the rights of the administrator.
fn assignable() -> impl Iterator<Item = &'static Arc<RoleDefinition>> {
    roles::built_in().iter().filter(|role| !role.assignable_scopes.is_empty())
}

#[test]
fn every_rpc_has_a_row() {
    let set = prost_types::FileDescriptorSet::decode(strongroom_proto::DESCRIPTORS).expect("compiled in");
    let services = set.file.iter().filter(|file| file.package() == "strongroom.v1").flat_map(|file| &file.service);
    let mut found: Vec<String> = services
        .flat_map(|service| service.method.iter().map(|method| format!("{}/{}", service.name(), method.name())))
        .collect();
    let mut known: Vec<String> = rows().iter().map(|row| row.rpc.to_owned()).collect();
    found.sort();
    known.sort();
    assert_eq!(known, found, "a row for every RPC, once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_cell_of_the_matrix_is_what_the_server_answers() {
    let dev = Dev::new();
    let admin = connect(&dev).await;
    let world = furnish(&dev, &admin).await;
    let mut holders = Vec::new();
    for role in assignable() {
        for scope in [VAULT, "/"] {
            holders.push((role, scope, holder(&dev, role, scope).await));
        }
    }
    let stranger = connect_as(&dev, "spiffe://dev.strongroom.invalid/matrix/nobody").await;
    let (mut text, mut wrong) = (HEAD.to_owned(), Vec::new());
    for row in rows() {
        let mut outcomes = Vec::new();
        for state in states(&row) {
            let outcome = ask(&admin, &row, &world, state).await;
            assert_ne!(outcome, "PERMISSION_DENIED", "{} as administrator", row.rpc);
            assert_eq!(ask(&stranger, &row, &world, state).await, "PERMISSION_DENIED", "{} as nobody", row.rpc);
            for (role, scope, channel) in &holders {
                let expected = if permits(role, scope, &row) {
                    hears(role, &row, &outcome)
                } else {
                    "PERMISSION_DENIED".to_owned()
                };
                let found = ask(channel, &row, &world, state).await;
                if found != expected {
                    wrong.push(format!("{} {state}: {} at {scope}: {found}, not {expected}", row.rpc, role.name));
                }
            }
            outcomes.push(outcome);
        }
        text.push('\n');
        text.push_str(&lines(&row, &outcomes));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(FILE, &text).expect("written");
    }
    let kept = std::fs::read_to_string(FILE).expect("tests/matrix.txt: make it with UPDATE_EXPECT=1");
    assert!(kept == text, "tests/matrix.txt is not what the code says: look at it with UPDATE_EXPECT=1 and git diff");
}
