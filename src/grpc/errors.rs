//! The one map from [`Problem`] to gRPC: a code, a fixed text, and `google.rpc` details. What only an
//! operator may know goes to the log under the request id, and nowhere else.
//!
//! `RECORD_PENDING` is INTERNAL: the change is made, so a code that clients repeat by themselves
//! (UNAVAILABLE) would be wrong, and so would one that says that nothing is known (UNKNOWN).

use std::{
    collections::HashMap,
    error::Error,
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use strongroom_hsm::protocol::Moment;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    bearer::BearerError,
    service::{Problem, ServiceError},
};

/// The domain of every `ErrorInfo` (AIP-193).
pub const DOMAIN: &str = "strongroom.v1";

/// When a caller may try again what was not available.
const RETRY_UNAVAILABLE: Duration = Duration::from_secs(1);

/// The code of a problem.
#[must_use]
pub const fn code(problem: &Problem) -> Code {
    match problem {
        Problem::Denied(_) | Problem::BareCipher { .. } | Problem::BeyondOwnRights { .. } => Code::PermissionDenied,
        Problem::NotFound { .. } | Problem::SoftDeleted { .. } | Problem::Pruned { .. } | Problem::BeyondEnd { .. } => {
            Code::NotFound
        }
        Problem::Exists { .. } | Problem::Deleted { .. } => Code::AlreadyExists,
        Problem::Changed { .. } => Code::Aborted,
        Problem::Invalid { .. }
        | Problem::Length(_)
        | Problem::RequestIdReused
        | Problem::WrongAlgorithm { .. }
        | Problem::DecryptionFailed => Code::InvalidArgument,
        Problem::Disabled { .. }
        | Problem::SecretDisabled { .. }
        | Problem::NotYetValid { .. }
        | Problem::Expired { .. }
        | Problem::OperationNotPermitted { .. }
        | Problem::PublicOnly { .. }
        | Problem::UsedUp { .. }
        | Problem::BudgetSpent { .. }
        | Problem::Precondition { .. } => Code::FailedPrecondition,
        Problem::Unsupported { .. } => Code::Unimplemented,
        Problem::QuotaExceeded { .. } | Problem::Overloaded { .. } | Problem::PaddingFailures { .. } => {
            Code::ResourceExhausted
        }
        Problem::DeadlineExceeded => Code::DeadlineExceeded,
        Problem::Unavailable { .. } | Problem::Behind { .. } => Code::Unavailable,
        Problem::Unknown { .. } => Code::Unknown,
        Problem::Tampered { .. } | Problem::KeyAbsent { .. } | Problem::KekAbsent { .. } => Code::DataLoss,
        Problem::RecordPending | Problem::Internal => Code::Internal,
    }
}

/// The status of an error, which is logged on the way.
#[must_use]
pub fn status(error: &ServiceError, request: &str) -> Status {
    log(error, request);
    of_problem(&error.problem, request)
}

/// The status of a problem.
#[must_use]
pub fn of_problem(problem: &Problem, request: &str) -> Status {
    Status::with_error_details(code(problem), problem.to_string(), details(problem, request))
}

/// The status of a request whose caller is no longer who it was.
#[must_use]
pub fn identity_over(request: &str) -> Status {
    const MESSAGE: &str =
        "what you authenticated with holds no more: it has expired or was taken back; connect again with what is valid";
    refusal(Code::Unauthenticated, "UNAUTHENTICATED", MESSAGE, request)
}

/// The status of one operation among several: what the method would have ended with, details included.
#[must_use]
pub fn embedded(status: &Status) -> tonic_types::Status {
    use prost::Message as _;
    // The details of a status are such a message (the richer error model of gRPC); one without has none.
    let whole = tonic_types::Status::decode(status.details()).ok().filter(|whole| whole.code != 0);
    whole.unwrap_or_else(|| tonic_types::Status {
        code: status.code().into(),
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}

/// A refusal that never reached the service: before a caller is known, or before the request is one.
#[must_use]
pub fn refusal(code: Code, reason: &'static str, message: impl Into<String>, request: &str) -> Status {
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::<String, String>::new());
    details.set_request_info(request, "");
    if matches!(code, Code::ResourceExhausted | Code::Unavailable) {
        details.set_retry_info(Some(RETRY_UNAVAILABLE));
    }
    Status::with_error_details(code, message, details)
}

/// The status of a token that is not believed. What may pass by itself is said so, for clients that try again.
#[must_use]
pub fn of_bearer(error: &BearerError, request: &str) -> Status {
    let code = match error {
        BearerError::IssuerUnavailable => Code::Unavailable,
        BearerError::Crowded => Code::ResourceExhausted,
        _ => Code::Unauthenticated,
    };
    refusal(code, error.reason(), error.to_string(), request)
}

fn details(problem: &Problem, request: &str) -> ErrorDetails {
    let resource = resource(problem);
    let metadata = resource.map(|name| ("resource".to_owned(), name.to_owned()));
    let mut details =
        ErrorDetails::with_error_info(problem.reason(), DOMAIN, metadata.into_iter().collect::<HashMap<_, _>>());
    details.set_request_info(request, "");
    match problem {
        Problem::Invalid { field, why } => {
            details.add_bad_request_violation(*field, why);
        }
        Problem::Length(error) => {
            details.add_bad_request_violation(&error.field, error.to_string());
        }
        Problem::RequestIdReused => {
            details.add_bad_request_violation("request_id", problem.to_string());
        }
        Problem::WrongAlgorithm { .. } => {
            details.add_bad_request_violation("algorithm", problem.to_string());
        }
        Problem::QuotaExceeded { subject, retry_after } => {
            details.add_quota_failure_violation(subject.to_string(), problem.to_string());
            details.set_retry_info(Some(*retry_after));
        }
        Problem::Overloaded { retry_after } | Problem::PaddingFailures { retry_after, .. } => {
            details.set_retry_info(Some(*retry_after));
        }
        Problem::Unavailable { .. } | Problem::Behind { .. } => {
            details.set_retry_info(Some(RETRY_UNAVAILABLE));
        }
        _ if matches!(code(problem), Code::FailedPrecondition) => {
            details.add_precondition_failure_violation(
                problem.reason(),
                resource.unwrap_or_default(),
                problem.to_string(),
            );
        }
        _ => {}
    }
    if let (Some(name), Code::NotFound | Code::AlreadyExists | Code::Aborted | Code::DataLoss) =
        (resource, code(problem))
    {
        details.set_resource_info(kind(name), name, "", problem.to_string());
    }
    details
}

/// The resource that a problem names.
fn resource(problem: &Problem) -> Option<&str> {
    match problem {
        Problem::NotFound { name }
        | Problem::Exists { name }
        | Problem::Deleted { name }
        | Problem::SoftDeleted { name }
        | Problem::Changed { name }
        | Problem::Disabled { name }
        | Problem::SecretDisabled { name }
        | Problem::NotYetValid { name, .. }
        | Problem::Expired { name, .. }
        | Problem::OperationNotPermitted { name, .. }
        | Problem::PublicOnly { name, .. }
        | Problem::WrongAlgorithm { name, .. }
        | Problem::UsedUp { name }
        | Problem::BudgetSpent { name, .. }
        | Problem::BareCipher { name, .. }
        | Problem::PaddingFailures { name, .. }
        | Problem::Tampered { name }
        | Problem::Pruned { name }
        | Problem::BeyondEnd { name, .. }
        | Problem::KekAbsent { name }
        | Problem::KeyAbsent { name } => Some(name),
        Problem::Denied(_)
        | Problem::BeyondOwnRights { .. }
        | Problem::Invalid { .. }
        | Problem::Length(_)
        | Problem::RequestIdReused
        | Problem::DecryptionFailed
        | Problem::Unsupported { .. }
        | Problem::Precondition { .. }
        | Problem::QuotaExceeded { .. }
        | Problem::Overloaded { .. }
        | Problem::DeadlineExceeded
        | Problem::Unavailable { .. }
        | Problem::Behind { .. }
        | Problem::Unknown { .. }
        | Problem::RecordPending
        | Problem::Internal => None,
    }
}

/// The type of a resource, by its name.
fn kind(name: &str) -> &'static str {
    let parts: Vec<&str> = name.split('/').collect();
    match parts.as_slice() {
        ["vaults", _] => "strongroom.v1/Vault",
        ["vaults", _, "keys", _] => "strongroom.v1/Key",
        ["vaults", _, "keys", _, "versions", _] => "strongroom.v1/KeyVersion",
        ["vaults", _, "secrets", _] => "strongroom.v1/Secret",
        ["vaults", _, "secrets", _, "versions", _] => "strongroom.v1/SecretVersion",
        ["roleAssignments", _] => "strongroom.v1/RoleAssignment",
        ["roleDefinitions", _] => "strongroom.v1/RoleDefinition",
        ["auditRecords", _] => "strongroom.v1/AuditRecord",
        ["vaults", _, "accessPolicies", ..] => "strongroom.v1/AccessPolicy",
        _ => "",
    }
}

/// A failure of ours is an error to be looked at; a refusal is not, nor is one of too many or too late: the
/// metrics count those, and a line for each would bury the others when it matters most.
pub(crate) fn log(error: &ServiceError, request: &str) {
    let reason = error.problem.reason();
    let cause = causes(error);
    if error.problem.is_refusal() || matches!(error.problem, Problem::Overloaded { .. } | Problem::DeadlineExceeded) {
        tracing::debug!(request, reason, cause, "refused");
    } else if let Some(dropped) = FAILURES.permits(Moment::now()) {
        tracing::error!(request, reason, cause, dropped, problem = %error.problem, "failed");
    }
}

/// So many lines a second, for all requests together: an HSM that is away fails every one of them.
static FAILURES: Throttle = Throttle { second: AtomicU64::new(0), lines: AtomicU64::new(0) };
const LINES_A_SECOND_MAX: u64 = 50;

struct Throttle {
    second: AtomicU64,
    /// In this second, those that were dropped among them.
    lines: AtomicU64,
}

impl Throttle {
    /// Whether one more line may be written; if so, how many were dropped in the second before this one.
    fn permits(&self, now: Moment) -> Option<u64> {
        let second = now.0 / 1_000_000_000;
        let dropped = if self.second.swap(second, Ordering::Relaxed) == second {
            0
        } else {
            self.lines.swap(0, Ordering::Relaxed).saturating_sub(LINES_A_SECOND_MAX)
        };
        let permitted = self.lines.fetch_add(1, Ordering::Relaxed) < LINES_A_SECOND_MAX;
        permitted.then_some(dropped)
    }
}

/// An error's causes, one behind the other.
fn causes(error: &ServiceError) -> String {
    let mut text = String::new();
    let mut next = Error::source(error);
    while let Some(cause) = next {
        let separator = if text.is_empty() { "" } else { ": " };
        let _ = write!(text, "{separator}{cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use strongroom_hsm::algorithms::LengthError;

    use super::*;
    use crate::access::Denied;

    fn name() -> String {
        "vaults/dev/keys/a".to_owned()
    }

    /// Every problem, and what clients may build on: reason and code. A change here breaks clients.
    fn table() -> Vec<(Problem, &'static str, Code)> {
        use Code as C;
        use Problem as P;
        let denied = Denied {
            principal: "spiffe://example.org/ci".parse().expect("is one"),
            action: crate::access::Action::KeysSign,
            scope: crate::model::Scope::Service,
            by: crate::access::Barrier::Rights,
        };
        let length = LengthError {
            field: "digest".to_owned(),
            algorithm: "ES256".to_owned(),
            found_bytes: 1,
            takes: "32".to_owned(),
        };
        vec![
            (P::Denied(denied), "PERMISSION_DENIED", C::PermissionDenied),
            (
                P::BareCipher { algorithm: "A256CBC", name: name(), lacking: String::new() },
                "BARE_CIPHER",
                C::PermissionDenied,
            ),
            (
                P::BeyondOwnRights { role: String::new(), scope: String::new(), lacking: String::new() },
                "BEYOND_OWN_RIGHTS",
                C::PermissionDenied,
            ),
            (P::NotFound { name: name() }, "NOT_FOUND", C::NotFound),
            (P::Pruned { name: name() }, "PRUNED", C::NotFound),
            (P::BeyondEnd { name: name(), readable: 7 }, "BEYOND_END", C::NotFound),
            (P::Exists { name: name() }, "ALREADY_EXISTS", C::AlreadyExists),
            (P::Deleted { name: name() }, "NAME_RESERVED", C::AlreadyExists),
            (P::SoftDeleted { name: name() }, "DELETED", C::NotFound),
            (P::Changed { name: name() }, "ETAG_MISMATCH", C::Aborted),
            (P::Invalid { field: "name", why: "is wrong".to_owned() }, "INVALID_FIELD", C::InvalidArgument),
            (P::Length(length), "INVALID_LENGTH", C::InvalidArgument),
            (P::RequestIdReused, "REQUEST_ID_REUSED", C::InvalidArgument),
            (P::Disabled { name: name() }, "KEY_DISABLED", C::FailedPrecondition),
            (P::SecretDisabled { name: name() }, "SECRET_DISABLED", C::FailedPrecondition),
            (P::NotYetValid { name: name(), from: String::new() }, "KEY_NOT_YET_VALID", C::FailedPrecondition),
            (P::Expired { name: name(), since: String::new() }, "KEY_EXPIRED", C::FailedPrecondition),
            (
                P::OperationNotPermitted { name: name(), operation: "sign" },
                "OPERATION_NOT_PERMITTED",
                C::FailedPrecondition,
            ),
            (P::PublicOnly { name: name(), operation: "sign" }, "PUBLIC_KEY_ONLY", C::FailedPrecondition),
            (
                P::WrongAlgorithm { algorithm: "RS256", name: name(), takes: String::new() },
                "WRONG_ALGORITHM",
                C::InvalidArgument,
            ),
            (P::DecryptionFailed, "DECRYPTION_FAILED", C::InvalidArgument),
            (P::UsedUp { name: name() }, "KEY_USED_UP", C::FailedPrecondition),
            (P::Unsupported { why: String::new() }, "UNSUPPORTED_BY_HSM", C::Unimplemented),
            (
                P::Precondition { reason: "LAST_ADMINISTRATOR", why: String::new() },
                "LAST_ADMINISTRATOR",
                C::FailedPrecondition,
            ),
            (
                P::PaddingFailures { name: name(), retry_after: Duration::from_secs(60) },
                "PADDING_FAILURES",
                C::ResourceExhausted,
            ),
            (
                P::QuotaExceeded {
                    subject: crate::service::quota::Subject::Vault("dev".parse().expect("is one")),
                    retry_after: Duration::from_millis(20),
                },
                "QUOTA_EXCEEDED",
                C::ResourceExhausted,
            ),
            (P::Overloaded { retry_after: Duration::from_millis(20) }, "OVERLOADED", C::ResourceExhausted),
            (P::DeadlineExceeded, "DEADLINE_EXCEEDED", C::DeadlineExceeded),
            (P::Unavailable { what: "the store" }, "UNAVAILABLE", C::Unavailable),
            (P::Behind { age: Duration::from_millis(1200) }, "BEHIND", C::Unavailable),
            (P::Unknown { what: "store" }, "OUTCOME_UNKNOWN", C::Unknown),
            (P::RecordPending, "RECORD_PENDING", C::Internal),
            (P::Tampered { name: name() }, "TAMPERED", C::DataLoss),
            (P::KeyAbsent { name: name() }, "KEY_NOT_ON_TOKEN", C::DataLoss),
            (P::KekAbsent { name: name() }, "KEK_NOT_ON_TOKEN", C::DataLoss),
            (P::Internal, "INTERNAL", C::Internal),
        ]
    }

    #[test]
    fn every_problem_has_its_reason_and_code() {
        for (problem, reason, expected) in table() {
            let status = of_problem(&problem, "r-1");
            let details = status.get_error_details();
            let info = details.error_info().expect("always there");
            assert_eq!((info.reason.as_str(), status.code()), (reason, expected));
            assert_eq!(info.domain, DOMAIN);
            assert_eq!(details.request_info().map(|info| info.request_id.as_str()), Some("r-1"));
        }
    }

    #[test]
    fn a_status_among_several_says_what_it_says_alone() {
        use prost::Message as _;
        for (problem, reason, code) in table() {
            let alone = of_problem(&problem, "r-1");
            let among = embedded(&alone);
            assert_eq!((among.code, among.message.as_str()), (i32::from(code), alone.message()), "{reason}");
            assert_eq!(among.encode_to_vec(), alone.details(), "{reason}");
        }
        let bare = embedded(&Status::new(Code::Aborted, "why"));
        assert_eq!((bare.code, bare.message.as_str()), (i32::from(Code::Aborted), "why"));
    }

    #[test]
    fn details_say_which_field_resource_rule_and_when() {
        for (problem, reason, code) in table() {
            let details = of_problem(&problem, "r-1").get_error_details();
            let field = ["INVALID_FIELD", "INVALID_LENGTH", "REQUEST_ID_REUSED", "WRONG_ALGORITHM"].contains(&reason);
            assert_eq!(details.bad_request().is_some(), field, "{reason}");
            assert_eq!(details.precondition_failure().is_some(), code == Code::FailedPrecondition, "{reason}");
            let retried =
                ["QUOTA_EXCEEDED", "OVERLOADED", "PADDING_FAILURES", "UNAVAILABLE", "BEHIND"].contains(&reason);
            let subject = details.quota_failure().map(|quota| quota.violations[0].subject.as_str());
            assert_eq!(subject, (reason == "QUOTA_EXCEEDED").then_some("vaults/dev"), "{reason}");
            assert_eq!(details.retry_info().is_some(), retried, "{reason}");
            let named = [Code::NotFound, Code::AlreadyExists, Code::Aborted, Code::DataLoss].contains(&code);
            assert_eq!(details.resource_info().is_some(), named, "{reason}");
        }
    }

    #[test]
    fn a_flood_of_failures_is_counted_and_not_written() {
        let throttle = Throttle { second: AtomicU64::new(0), lines: AtomicU64::new(0) };
        let at = |second: u64| Moment(second * 1_000_000_000);
        let written = (0..1000).filter(|_| throttle.permits(at(7)).is_some()).count();
        assert_eq!(written as u64, LINES_A_SECOND_MAX);
        assert_eq!(throttle.permits(at(8)), Some(1000 - LINES_A_SECOND_MAX));
        assert_eq!(throttle.permits(at(8)), Some(0));
    }

    #[test]
    fn a_cause_never_reaches_the_caller() {
        let error = ServiceError::because(Problem::Internal, "the PIN file /run/pin is open");
        let status = status(&error, "r-1");
        assert!(!format!("{status:?}{}", String::from_utf8_lossy(status.details())).contains("PIN"));
        assert_eq!(causes(&error), "the PIN file /run/pin is open");
    }
}
