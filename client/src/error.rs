//! What can go wrong with a call. A variant says what its receiver can do; the rest is in the [`Refusal`].

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{Cause, SettingsError};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Mend the settings; nothing was sent.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// There is no connection: mend what the cause names, or try later if it is not lasting.
    #[error("cannot connect to {endpoint}: {cause}")]
    Connection {
        /// Where the server should be.
        endpoint: String,
        /// Why not.
        cause: Cause,
    },
    /// None of several servers can be reached: each with why not.
    #[error("cannot connect to any server: {}", .0.iter().map(|(endpoint, cause)| format!("{endpoint}: {cause}")).collect::<Vec<_>>().join("; "))]
    NoServer(Vec<(String, Cause)>),
    /// The deadline passed. An operation can be repeated; a change may have been made.
    #[error("no answer from {endpoint} in time")]
    TimedOut {
        /// Where the server is; several are all named.
        endpoint: String,
        /// A change only: repeat it with this request id, and nothing is changed twice.
        repeat_with: Option<String>,
    },
    /// The server has too much to do, or lacks what it needs, and repetition within the deadline did not
    /// help: try later.
    #[error(transparent)]
    Unavailable(Box<Refusal>),
    /// Ask an administrator for a role, or take another certificate.
    #[error(transparent)]
    Denied(Box<Refusal>),
    /// What was named does not exist.
    #[error(transparent)]
    NotFound(Box<Refusal>),
    /// The name is taken, perhaps by something deleted.
    #[error(transparent)]
    Exists(Box<Refusal>),
    /// It was changed meanwhile: read it again.
    #[error(transparent)]
    Changed(Box<Refusal>),
    /// Its state or its rules do not allow it: disabled, expired, used up, not permitted.
    #[error(transparent)]
    NotAllowed(Box<Refusal>),
    /// The request is wrong: mend what calls.
    #[error(transparent)]
    Invalid(Box<Refusal>),
    /// What was to be decrypted or unwrapped does not authenticate: it was altered, or another key or other
    /// additional data made it.
    #[error(transparent)]
    DecryptionFailed(Box<Refusal>),
    /// Not known whether a change was made: repeat it with [`Refusal::repeat_with`].
    #[error(transparent)]
    OutcomeUnknown(Box<Refusal>),
    /// The server's own trouble: its log says more under [`Refusal::request_id`].
    #[error(transparent)]
    Server(Box<Refusal>),
    /// Bytes of an answer were damaged on the way. Repeat; if it happens again, look for a faulty proxy or
    /// memory between here and the server.
    #[error("{field} was damaged on the way (its CRC32C does not match)")]
    Damaged {
        /// Which.
        field: &'static str,
    },
    /// The stream is closed. What was not answered was not done for the caller: send it on another.
    #[error("the stream is closed")]
    Closed,
    /// An answer is not what was asked for: the other side is no Strongroom, or a newer one.
    #[error("the answer is not what was asked for: {0}")]
    Unexpected(String),
}

/// What the server said instead of an answer: `google.rpc.Status` with its details.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Its code.
    pub code: Code,
    /// Its words.
    pub message: String,
    /// `ErrorInfo.reason`: stable, to be compared with. Empty when there is none.
    pub reason: String,
    /// `ErrorInfo.metadata`.
    pub metadata: HashMap<String, String>,
    /// `BadRequest`: fields that are wrong.
    pub fields: Vec<Violation>,
    /// `PreconditionFailure`: rules that are in the way.
    pub preconditions: Vec<Violation>,
    /// `RetryInfo`: not to be repeated earlier.
    pub retry_after: Option<Duration>,
    /// `RequestInfo`: how the server's log knows the call.
    pub request_id: Option<String>,
    /// `ResourceInfo.resource_type`: the kind of what is missing, there already, or changed, as `strongroom.v1/Vault`. Empty when
    /// the server does not say.
    pub resource_type: String,
    /// A change only: repeat it with this request id, and nothing is changed twice.
    pub repeat_with: Option<String>,
}

/// A field or a subject, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub subject: String,
    /// What.
    pub description: String,
}

impl Error {
    /// What the server said, if it said something.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Unavailable(refusal)
            | Self::Denied(refusal)
            | Self::NotFound(refusal)
            | Self::Exists(refusal)
            | Self::Changed(refusal)
            | Self::NotAllowed(refusal)
            | Self::Invalid(refusal)
            | Self::DecryptionFailed(refusal)
            | Self::OutcomeUnknown(refusal)
            | Self::Server(refusal) => Some(refusal),
            Self::Settings(_)
            | Self::Connection { .. }
            | Self::NoServer(_)
            | Self::TimedOut { .. }
            | Self::Damaged { .. }
            | Self::Closed
            | Self::Unexpected(_) => None,
        }
    }

    /// The error that a status means.
    pub(crate) fn of(status: &Status, endpoint: &str) -> Self {
        if let Some(cause) = Cause::of(status) {
            return Self::Connection { endpoint: endpoint.to_owned(), cause };
        }
        Self::from(Refusal::from(status))
    }

    /// The same of a change, which can be repeated with `request_id`.
    pub(crate) fn of_change(mut self, request_id: &str) -> Self {
        match &mut self {
            Self::TimedOut { repeat_with, .. } => *repeat_with = Some(request_id.to_owned()),
            Self::Unavailable(refusal) | Self::OutcomeUnknown(refusal) | Self::Server(refusal) => {
                refusal.repeat_with = Some(request_id.to_owned());
            }
            _ => {}
        }
        self
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let make = match (refusal.code, refusal.reason.as_str()) {
            (_, "DECRYPTION_FAILED") => Self::DecryptionFailed,
            (_, "OUTCOME_UNKNOWN") | (Code::DeadlineExceeded | Code::Cancelled, _) => Self::OutcomeUnknown,
            (Code::Unavailable | Code::ResourceExhausted, _) => Self::Unavailable,
            (Code::PermissionDenied | Code::Unauthenticated, _) => Self::Denied,
            (Code::NotFound, _) => Self::NotFound,
            (Code::AlreadyExists, _) => Self::Exists,
            (Code::Aborted, _) => Self::Changed,
            (Code::FailedPrecondition, _) => Self::NotAllowed,
            (Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented, _) => Self::Invalid,
            (Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss, _) => Self::Server,
        };
        make(Box::new(refusal))
    }
}

impl From<&Status> for Refusal {
    fn from(status: &Status) -> Self {
        let details = status.get_error_details();
        let (reason, metadata) =
            details.error_info().map(|info| (info.reason.clone(), info.metadata.clone())).unwrap_or_default();
        let fields = details.bad_request().map(|bad| {
            let violation = |v: &tonic_types::FieldViolation| Violation {
                subject: v.field.clone(),
                description: v.description.clone(),
            };
            bad.field_violations.iter().map(violation).collect()
        });
        let preconditions = details.precondition_failure().map(|failure| {
            let violation = |v: &tonic_types::PreconditionViolation| Violation {
                subject: v.subject.clone(),
                description: v.description.clone(),
            };
            failure.violations.iter().map(violation).collect()
        });
        let message = match status.message() {
            "" => status.code().description().to_owned(),
            said => said.to_owned(),
        };
        Self {
            code: status.code(),
            message,
            reason,
            metadata,
            fields: fields.unwrap_or_default(),
            preconditions: preconditions.unwrap_or_default(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
            request_id: details.request_info().map(|info| info.request_id.clone()).filter(|id| !id.is_empty()),
            resource_type: details.resource_info().map(|info| info.resource_type.clone()).unwrap_or_default(),
            repeat_with: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn a_variant_says_what_can_be_done() {
        let of = |code| Error::of(&Status::new(code, "x"), "https://a");
        assert!(matches!(of(Code::PermissionDenied), Error::Denied(_)));
        assert!(matches!(of(Code::Unauthenticated), Error::Denied(_)));
        assert!(matches!(of(Code::ResourceExhausted), Error::Unavailable(_)));
        assert!(matches!(of(Code::FailedPrecondition), Error::NotAllowed(_)));
        assert!(matches!(of(Code::DataLoss), Error::Server(_)));
        let details = ErrorDetails::with_error_info("DECRYPTION_FAILED", "strongroom.v1", []);
        let status = Status::with_error_details(Code::InvalidArgument, "no", details);
        assert!(matches!(Error::of(&status, ""), Error::DecryptionFailed(_)));
    }

    #[test]
    fn details_are_kept() {
        let mut details =
            ErrorDetails::with_error_info("INVALID_FIELD", "strongroom.v1", [("a".to_owned(), "b".to_owned())]);
        details.add_bad_request_violation("digest", "has 31 bytes");
        details.set_request_info("0123", "");
        details.set_retry_info(Some(Duration::from_secs(2)));
        let status = Status::with_error_details(Code::InvalidArgument, "wrong", details);
        let error = Error::of(&status, "");
        let refusal = error.refusal().expect("said");
        assert_eq!((refusal.message.as_str(), refusal.reason.as_str()), ("wrong", "INVALID_FIELD"));
        assert_eq!(refusal.fields, [Violation { subject: "digest".into(), description: "has 31 bytes".into() }]);
        assert_eq!(refusal.metadata["a"], "b");
        assert_eq!(refusal.request_id.as_deref(), Some("0123"));
        assert_eq!(refusal.retry_after, Some(Duration::from_secs(2)));
        assert_eq!(error.to_string(), "wrong");
    }

    #[test]
    fn a_change_can_be_repeated_with_its_id() {
        let late = Error::TimedOut { endpoint: String::new(), repeat_with: None }.of_change("6f");
        assert!(matches!(late, Error::TimedOut { repeat_with: Some(id), .. } if id == "6f"));
    }
}
