//! The one map from [`Problem`] to Azure's errors: a status, a code, an inner code, and a text with the fragments that tools
//! look for. What only an operator may know goes to the log, as for gRPC.

use std::time::Duration;

use http::StatusCode;

use super::{
    fault::{Fault, Noun},
    route::Operation,
};
use crate::{
    access::Denied,
    grpc,
    service::{Problem, ServiceError},
};

/// When a client may try again what was not available.
const RETRY_UNAVAILABLE: Duration = Duration::from_secs(1);

/// An error of the service, which is logged on the way.
pub(super) fn of_service(error: &ServiceError, operation: Operation, request: &str) -> Fault {
    grpc::errors::log(error, request);
    of_problem(&error.problem, operation)
}

/// A problem.
pub(super) fn of_problem(problem: &Problem, operation: Operation) -> Fault {
    match problem {
        Problem::Denied(denied) => denied_fault(denied),
        Problem::BareCipher { .. } | Problem::BeyondOwnRights { .. } => {
            forbidden(problem.to_string()).within("ForbiddenByRbac")
        }
        Problem::NotFound { name } | Problem::SoftDeleted { name } => not_found(name),
        Problem::Pruned { .. } | Problem::BeyondEnd { .. } => {
            Fault::new(StatusCode::NOT_FOUND, "NotFound", problem.to_string())
        }
        Problem::Exists { name } => {
            conflict(format!("{} already exists, and its name cannot be given to another.", shown(name)))
        }
        Problem::Deleted { name } => conflict(format!(
            "{} is currently in a deleted but recoverable state, and its name cannot be reused; in this state, it can only be \
             recovered or purged.",
            shown(name)
        ))
        .within("ObjectIsDeletedButRecoverable"),
        Problem::Changed { .. } => conflict("It was changed by another request meanwhile; try again."),
        Problem::Invalid { field, why } => Fault::property(member(field), why),
        Problem::Length(error) => Fault::bad(format!(
            "Invalid length of '{}': {} bytes. {} requires {}, encoded with base64url.",
            member(&error.field),
            error.found_bytes,
            error.algorithm,
            error.takes
        )),
        Problem::RequestIdReused | Problem::WrongAlgorithm { .. } | Problem::DecryptionFailed => {
            Fault::bad(problem.to_string())
        }
        Problem::Disabled { .. } => {
            forbidden(format!("Operation {} is not allowed on a disabled key.", verb(operation))).within("KeyDisabled")
        }
        Problem::SecretDisabled { .. } => {
            forbidden("Operation get is not allowed on a disabled secret.").within("SecretDisabled")
        }
        Problem::NotYetValid { from, .. } => {
            forbidden(format!("Operation {} is not allowed on this key before {from}.", verb(operation)))
        }
        Problem::Expired { since, .. } => {
            forbidden(format!("Operation {} is not allowed on an expired key: it expired at {since}.", verb(operation)))
        }
        Problem::OperationNotPermitted { operation, .. } | Problem::PublicOnly { operation, .. } => {
            forbidden(format!("Operation {operation} is not permitted on this key.")).within("KeyOperationForbidden")
        }
        Problem::UsedUp { .. } | Problem::BudgetSpent { .. } => forbidden(problem.to_string()),
        Problem::Unsupported { .. } => {
            Fault::new(StatusCode::NOT_IMPLEMENTED, "NotSupported", problem.to_string())
        }
        Problem::Precondition { reason, why } => precondition(reason, why, operation),
        Problem::QuotaExceeded { retry_after, .. }
        | Problem::Overloaded { retry_after }
        | Problem::PaddingFailures { retry_after, .. } => throttled(problem.to_string(), *retry_after),
        Problem::DeadlineExceeded => {
            Fault::new(StatusCode::GATEWAY_TIMEOUT, "GatewayTimeout", problem.to_string())
        }
        Problem::Unavailable { .. } | Problem::Behind { .. } => unavailable(problem.to_string()),
        Problem::Unknown { .. }
        | Problem::RecordPending
        | Problem::Tampered { .. }
        | Problem::KeyAbsent { .. }
        | Problem::KekAbsent { .. }
        | Problem::Internal => {
            Fault::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", problem.to_string())
        }
    }
}

fn forbidden(message: impl Into<String>) -> Fault {
    Fault::new(StatusCode::FORBIDDEN, "Forbidden", message)
}

fn conflict(message: impl Into<String>) -> Fault {
    Fault::new(StatusCode::CONFLICT, "Conflict", message)
}

/// Too much was asked for.
pub(super) fn throttled(message: impl Into<String>, retry_after: Duration) -> Fault {
    Fault::new(StatusCode::TOO_MANY_REQUESTS, "Throttled", message).after(retry_after)
}

/// It may be there again in a moment.
pub(super) fn unavailable(message: impl Into<String>) -> Fault {
    Fault::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message).after(RETRY_UNAVAILABLE)
}

fn denied_fault(denied: &Denied) -> Fault {
    let action = denied.action.azure().first().copied().unwrap_or_else(|| denied.action.name());
    forbidden(format!(
        "Caller is not authorized to perform action on resource. Caller: {} Action: '{action}' Resource: '{}'",
        denied.principal, denied.scope
    ))
    .within("ForbiddenByRbac")
}

/// What a rule of the state means to a client of Azure.
fn precondition(reason: &str, why: &str, operation: Operation) -> Fault {
    match (reason, operation) {
        // It is not among the deleted ones.
        ("NOT_DELETED", Operation::SecretRecover | Operation::SecretPurge) => {
            Fault::new(StatusCode::NOT_FOUND, "SecretNotFound", format!("Deleted secret not found: {why}."))
        }
        ("NOT_DELETED", Operation::KeyRecover | Operation::KeyPurge) => {
            Fault::new(StatusCode::NOT_FOUND, "KeyNotFound", format!("Deleted key not found: {why}."))
        }
        ("PURGE_PROTECTED" | "PADDING_DECRYPTION_OFF", _) => forbidden(why),
        // Of a backup, or of a key that does not fit to those before it: another one would be right.
        ("OTHER_INSTANCE" | "OTHER_ROOT" | "KEY_DOES_NOT_OPEN" | "PUBLIC_AND_PRIVATE" | "TOKEN_RESIDENCY", _) => {
            Fault::bad(why)
        }
        _ => conflict(why),
    }
}

fn not_found(name: &str) -> Fault {
    let parts: Vec<&str> = name.split('/').collect();
    match parts.as_slice() {
        ["vaults", _, "keys", key] => Fault::not_found(Noun::Key, key),
        ["vaults", _, "keys", key, "versions", version] => Fault::not_found(Noun::Key, &format!("{key}/{version}")),
        ["vaults", _, "keys", key, version] => Fault::not_found(Noun::Key, &format!("{key}/{version}")),
        ["vaults", _, "secrets", secret] => Fault::not_found(Noun::Secret, secret),
        ["vaults", _, "secrets", secret, "versions", version] => {
            Fault::not_found(Noun::Secret, &format!("{secret}/{version}"))
        }
        ["vaults", vault] => Fault::not_found(Noun::Vault, vault),
        ["roleAssignments", id] => Fault::not_found(Noun::RoleAssignment, id),
        ["roleDefinitions", id] => Fault::not_found(Noun::RoleDefinition, id),
        _ => Fault::new(StatusCode::NOT_FOUND, "NotFound", format!("{name} was not found.")),
    }
}

/// A resource as Azure speaks of it.
fn shown(name: &str) -> String {
    let parts: Vec<&str> = name.split('/').collect();
    match parts.as_slice() {
        ["vaults", _, "keys", key, ..] => format!("Key {key}"),
        ["vaults", _, "secrets", secret, ..] => format!("Secret {secret}"),
        ["roleAssignments", id] => format!("Role assignment {id}"),
        ["roleDefinitions", id] => format!("Role definition {id}"),
        _ => name.to_owned(),
    }
}

/// What a field of ours is in Azure's bodies.
fn member(field: &str) -> &str {
    match field {
        "version.key_size" => "key_size",
        "version.curve" => "crv",
        "version.key_type" => "kty",
        "version.key_operations" | "key_operations" => "key_ops",
        "version.expire_time" => "attributes.exp",
        "version.not_before_time" => "attributes.nbf",
        "version.tags" | "secret.tags" => "tags",
        "secret.content_type" => "contentType",
        "secret.value" => "value",
        "secret.expire_time" => "attributes.exp",
        "secret.not_before_time" => "attributes.nbf",
        "pkcs8" | "oct" | "public_key" | "material" => "key",
        "wrapped_key.ciphertext" | "wrapped_key.kek" => "key.key_hsm",
        "plaintext" | "ciphertext" | "key" | "wrapped_key" | "signature" | "backup" | "digest" => "value",
        "additional_data" => "aad",
        "length_bytes" => "count",
        "page_token" => "$skiptoken",
        "page_size" => "maxresults",
        "role_assignment.principal" => "properties.principalId",
        "role_assignment.role" => "properties.roleDefinitionId",
        "role_definition.role_name" => "properties.roleName",
        "rotation_policy.lifetime_actions" => "lifetimeActions",
        "rotation_policy.expiry_time" => "attributes.expiryTime",
        other => other,
    }
}

/// The word for what was tried.
const fn verb(operation: Operation) -> &'static str {
    match operation {
        Operation::KeyEncrypt => "encrypt",
        Operation::KeyDecrypt => "decrypt",
        Operation::KeyWrap => "wrapKey",
        Operation::KeyUnwrap => "unwrapKey",
        Operation::KeySign => "sign",
        Operation::KeyVerify => "verify",
        Operation::KeyImport => "import",
        _ => "use",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> String {
        "vaults/dev/keys/a/versions/00".to_owned()
    }

    /// Problems, and what clients build on: status, code and inner code. A change here breaks clients.
    fn table() -> Vec<(Problem, u16, &'static str, Option<&'static str>)> {
        use Problem as P;
        let wait = Duration::from_millis(20);
        vec![
            (P::NotFound { name: "vaults/dev/keys/a".to_owned() }, 404, "KeyNotFound", None),
            (P::SoftDeleted { name: name() }, 404, "KeyNotFound", None),
            (P::NotFound { name: "vaults/dev".to_owned() }, 404, "VaultNotFound", None),
            (P::NotFound { name: "roleAssignments/x".to_owned() }, 404, "RoleAssignmentNotFound", None),
            (P::Exists { name: name() }, 409, "Conflict", None),
            (P::Deleted { name: name() }, 409, "Conflict", Some("ObjectIsDeletedButRecoverable")),
            (P::Changed { name: name() }, 409, "Conflict", None),
            (P::Invalid { field: "version.key_size", why: "no".to_owned() }, 400, "BadParameter", None),
            (P::DecryptionFailed, 400, "BadParameter", None),
            (P::Disabled { name: name() }, 403, "Forbidden", Some("KeyDisabled")),
            (P::SecretDisabled { name: name() }, 403, "Forbidden", Some("SecretDisabled")),
            (P::NotFound { name: "vaults/dev/secrets/a".to_owned() }, 404, "SecretNotFound", None),
            (P::NotYetValid { name: name(), from: String::new() }, 403, "Forbidden", None),
            (P::Expired { name: name(), since: String::new() }, 403, "Forbidden", None),
            (
                P::OperationNotPermitted { name: name(), operation: "sign" },
                403,
                "Forbidden",
                Some("KeyOperationForbidden"),
            ),
            (P::UsedUp { name: name() }, 403, "Forbidden", None),
            (P::Unsupported { why: String::new() }, 501, "NotSupported", None),
            (P::Precondition { reason: "NOT_DELETED", why: String::new() }, 404, "KeyNotFound", None),
            (P::Precondition { reason: "PURGE_PROTECTED", why: String::new() }, 403, "Forbidden", None),
            (P::Precondition { reason: "OTHER_INSTANCE", why: String::new() }, 400, "BadParameter", None),
            (P::Precondition { reason: "BUILT_IN_ROLE", why: String::new() }, 409, "Conflict", None),
            (P::Overloaded { retry_after: wait }, 429, "Throttled", None),
            (P::PaddingFailures { name: name(), retry_after: wait }, 429, "Throttled", None),
            (P::DeadlineExceeded, 504, "GatewayTimeout", None),
            (P::Unavailable { what: "the store" }, 503, "ServiceUnavailable", None),
            (P::RecordPending, 500, "InternalServerError", None),
            (P::Internal, 500, "InternalServerError", None),
        ]
    }

    #[test]
    fn every_problem_has_its_status_and_codes() {
        for (problem, status, code, inner) in table() {
            let fault = of_problem(&problem, Operation::KeyPurge);
            assert_eq!((fault.status.as_u16(), fault.code, fault.inner), (status, code, inner), "{problem:?}");
            assert_eq!(fault.retry_after.is_some(), [429, 503].contains(&status), "{problem:?}");
        }
    }

    #[test]
    fn what_is_missing_is_told_in_the_words_that_tools_look_for() {
        let fault = of_problem(&Problem::NotFound { name: name() }, Operation::KeyGet);
        assert!(fault.message.contains("(name/id) a/00 was not found in this key vault"), "{}", fault.message);
        let disabled = of_problem(&Problem::Disabled { name: name() }, Operation::KeySign);
        assert_eq!(disabled.message, "Operation sign is not allowed on a disabled key.");
    }
}
