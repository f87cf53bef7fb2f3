//! What can go wrong, by what the caller can do about it. A face maps [`Problem`] to its own codes in one
//! place; the text is fixed for each problem, and what only an operator may know goes to the log.

use std::time::Duration;

use strongroom_hsm::algorithms::LengthError;

use super::quota::Subject;
use crate::{
    access::Denied,
    audit::LogError,
    store::{CommitError, StoreError},
};

/// What a caller is told.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Problem {
    /// No right, whether the thing exists or not (AIP-211).
    #[error(transparent)]
    Denied(#[from] Denied),
    /// An algorithm that computes bare AES blocks, asked for by somebody who may not do all that the key does.
    #[error(
        "{algorithm} under a chosen IV computes bare AES blocks, by which all else that {name} does can be done: it \
         takes every right that the key has operations for, and {lacking} is missing"
    )]
    BareCipher {
        /// The algorithm's name.
        algorithm: &'static str,
        /// The version's name.
        name: String,
        /// The actions that are missing.
        lacking: String,
    },
    /// A role that administers what the caller does not.
    #[error(
        "to assign {role} at {scope}, or to take it away, takes the rights it holds there, and {lacking} is missing"
    )]
    BeyondOwnRights {
        /// The role's name.
        role: String,
        /// Where.
        scope: String,
        /// The actions that are missing.
        lacking: String,
    },
    /// No such thing, for those who may know.
    #[error("{name} does not exist")]
    NotFound {
        /// Its resource name.
        name: String,
    },
    /// The name is taken.
    #[error("{name} exists")]
    Exists {
        /// Its resource name.
        name: String,
    },
    /// The name belongs to something softly deleted.
    #[error("{name} is deleted and its name is reserved until it is purged; undelete it, or choose another name")]
    Deleted {
        /// Its resource name.
        name: String,
    },
    /// It is softly deleted, for those who may know.
    #[error("{name} is deleted and does nothing until it is undeleted")]
    SoftDeleted {
        /// Its resource name.
        name: String,
    },
    /// The etag is not the current one.
    #[error("{name} was changed by somebody else; read it again")]
    Changed {
        /// Its resource name.
        name: String,
    },
    /// A field of the request is wrong.
    #[error("{field}: {why}")]
    Invalid {
        /// Which field.
        field: &'static str,
        /// What is wrong and what would be right.
        why: String,
    },
    /// An input has the wrong length.
    #[error(transparent)]
    Length(#[from] LengthError),
    /// The request id was used for another request.
    #[error("request_id was used for another request; choose a new one")]
    RequestIdReused,
    /// The version is disabled.
    #[error("{name} is disabled")]
    Disabled {
        /// The version's name.
        name: String,
    },
    /// The version of a secret is disabled.
    #[error("{name} is disabled")]
    SecretDisabled {
        /// The version's name.
        name: String,
    },
    /// The version cannot be used yet.
    #[error("{name} may not be used for this before {from}")]
    NotYetValid {
        /// The version's name.
        name: String,
        /// From when on.
        from: String,
    },
    /// The version can no longer be used for this.
    #[error("{name} expired at {since}: it still decrypts, verifies and unwraps")]
    Expired {
        /// The version's name.
        name: String,
        /// Since when.
        since: String,
    },
    /// `key_operations` does not list the operation.
    #[error("{name} may not be used to {operation}: its key_operations do not list it")]
    OperationNotPermitted {
        /// The version's name.
        name: String,
        /// The JWK name of the operation.
        operation: &'static str,
    },
    /// Only the public half is known here.
    #[error("{name} may not be used to {operation}: only its public half is known here; whoever made it has the rest")]
    PublicOnly {
        /// The version's name.
        name: String,
        /// The JWK name of the operation.
        operation: &'static str,
    },
    /// The algorithm is not one for this key.
    #[error("{algorithm} is not an algorithm of {name}, which takes {takes}")]
    WrongAlgorithm {
        /// The algorithm's JWA name.
        algorithm: &'static str,
        /// The version's name.
        name: String,
        /// Those it takes for this operation.
        takes: String,
    },
    /// The data did not decrypt. One text for every cause.
    #[error(
        "the data does not decrypt with this key: it was altered, or another key, version or additional data belongs to it"
    )]
    DecryptionFailed,
    /// The AES-GCM key is used up.
    #[error("{name} has made the 2^32 encryptions that NIST SP 800-38D allows; make a new version")]
    UsedUp {
        /// The version's name.
        name: String,
    },
    /// This HSM cannot do it.
    #[error("this HSM cannot do it: {why}")]
    Unsupported {
        /// What it lacks.
        why: String,
    },
    /// A rule of the state forbids it.
    #[error("{why}")]
    Precondition {
        /// The stable reason.
        reason: &'static str,
        /// What forbids it and what would help.
        why: String,
    },
    /// Too many decryptions of this version told of a wrong padding.
    #[error(
        "{name} failed too often to decrypt with RSA1_5 or A*CBCPAD: it tries no more for {} s", retry_after.as_secs()
    )]
    PaddingFailures {
        /// The version's name.
        name: String,
        /// When it tries again.
        retry_after: Duration,
    },
    /// More was done than the quota allows.
    #[error("the quota of {subject} is used up: try again in {} ms", retry_after.as_millis() + 1)]
    QuotaExceeded {
        /// Whose.
        subject: Subject,
        /// When there is something again.
        retry_after: Duration,
    },
    /// Too much at once.
    #[error("too much to do at the moment: try again in {} ms", retry_after.as_millis())]
    Overloaded {
        /// When there may be room.
        retry_after: Duration,
    },
    /// The deadline passed.
    #[error("the deadline passed before the work was done")]
    DeadlineExceeded,
    /// The HSM, the store or the log does not answer.
    #[error("{what} is not available; nothing was done")]
    Unavailable {
        /// Which part.
        what: &'static str,
    },
    /// This replica does not hear of what others change.
    #[error(
        "this replica has not heard from the store for {} ms, and serves nothing that others may have changed: ask another",
        age.as_millis()
    )]
    Behind {
        /// For how long.
        age: Duration,
    },
    /// Whether the change was made is not known.
    #[error(
        "the {what} failed during the change: whether it was made is not known; read it, or repeat with the same request_id"
    )]
    Unknown {
        /// Which part.
        what: &'static str,
    },
    /// The change is made, its outcome is not yet in the audit log.
    #[error("done, record pending: the change was made, but its outcome could not be written to the audit log")]
    RecordPending,
    /// A row does not match its seal, its revision or its key: somebody changed the database.
    #[error("{name} does not match its seal: the store was altered, or an older state put back; it is not used")]
    Tampered {
        /// What.
        name: String,
    },
    /// A key of token residency is not on the token.
    #[error(
        "the key of {name} is not on the token: it is kept as it is; put the token's objects back, or ask an administrator"
    )]
    KeyAbsent {
        /// The version's name.
        name: String,
    },
    /// The vault's own key-encryption key is not on the token.
    #[error(
        "the key-encryption key that {name} is wrapped under is not on the token, and without it none of that vault's wrapped \
         keys opens: put the token's objects back, or ask an administrator"
    )]
    KekAbsent {
        /// The version's name, or that of the vault where a key is made.
        name: String,
    },
    /// The record was pruned or archived, for those who may know.
    #[error("{name} was pruned: bring its bundle back from the archive (docs/audit.md), and ask again")]
    Pruned {
        /// Its resource name.
        name: String,
    },
    /// The log has no such record, or not yet, for those who may know.
    #[error(
        "{name} is not in the log, of which {readable} records can be read; what is new is there in a second or so"
    )]
    BeyondEnd {
        /// Its resource name.
        name: String,
        /// How many there are.
        readable: u64,
    },
    /// The budget that the key's policy gives a version is spent.
    #[error(
        "{name} was used {uses} times, as often as the key's rotation policy allows: rotate the key, or change its policy"
    )]
    BudgetSpent {
        /// The version's name.
        name: String,
        /// How often.
        uses: u64,
    },
    /// A fault of ours.
    #[error("an internal error; the server's log has the details under the request id")]
    Internal,
}

impl Problem {
    /// A stable word for the problem, for machines.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Denied(_) => "PERMISSION_DENIED",
            Self::BareCipher { .. } => "BARE_CIPHER",
            Self::BeyondOwnRights { .. } => "BEYOND_OWN_RIGHTS",
            Self::NotFound { .. } => "NOT_FOUND",
            Self::Exists { .. } => "ALREADY_EXISTS",
            Self::Deleted { .. } => "NAME_RESERVED",
            Self::SoftDeleted { .. } => "DELETED",
            Self::Changed { .. } => "ETAG_MISMATCH",
            Self::Invalid { .. } => "INVALID_FIELD",
            Self::Length(_) => "INVALID_LENGTH",
            Self::RequestIdReused => "REQUEST_ID_REUSED",
            Self::Disabled { .. } => "KEY_DISABLED",
            Self::SecretDisabled { .. } => "SECRET_DISABLED",
            Self::NotYetValid { .. } => "KEY_NOT_YET_VALID",
            Self::Expired { .. } => "KEY_EXPIRED",
            Self::OperationNotPermitted { .. } => "OPERATION_NOT_PERMITTED",
            Self::PublicOnly { .. } => "PUBLIC_KEY_ONLY",
            Self::WrongAlgorithm { .. } => "WRONG_ALGORITHM",
            Self::DecryptionFailed => "DECRYPTION_FAILED",
            Self::UsedUp { .. } => "KEY_USED_UP",
            Self::BudgetSpent { .. } => "USE_BUDGET_SPENT",
            Self::Unsupported { .. } => "UNSUPPORTED_BY_HSM",
            Self::Precondition { reason, .. } => reason,
            Self::PaddingFailures { .. } => "PADDING_FAILURES",
            Self::QuotaExceeded { .. } => "QUOTA_EXCEEDED",
            Self::Overloaded { .. } => "OVERLOADED",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::Unavailable { .. } => "UNAVAILABLE",
            Self::Behind { .. } => "BEHIND",
            Self::Unknown { .. } => "OUTCOME_UNKNOWN",
            Self::RecordPending => "RECORD_PENDING",
            Self::Tampered { .. } => "TAMPERED",
            Self::KeyAbsent { .. } => "KEY_NOT_ON_TOKEN",
            Self::KekAbsent { .. } => "KEK_NOT_ON_TOKEN",
            Self::Pruned { .. } => "PRUNED",
            Self::BeyondEnd { .. } => "BEYOND_END",
            Self::Internal => "INTERNAL",
        }
    }

    /// The reason in a record, which may say what the caller is not told.
    #[must_use]
    pub const fn recorded(&self) -> &'static str {
        match self {
            Self::Denied(denied) => denied.by.reason(),
            other => other.reason(),
        }
    }

    /// Whether it is a refusal (the caller's doing) rather than a failure (ours).
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        !matches!(
            self,
            Self::Overloaded { .. }
                | Self::DeadlineExceeded
                | Self::Unavailable { .. }
                | Self::Behind { .. }
                | Self::Unknown { .. }
                | Self::RecordPending
                | Self::Tampered { .. }
                | Self::KeyAbsent { .. }
                | Self::KekAbsent { .. }
                | Self::Internal
        )
    }
}

/// A problem, and the cause that only an operator may see.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub struct ServiceError {
    /// What the caller is told.
    pub problem: Problem,
    /// Why, for the log.
    #[source]
    pub cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl<P: Into<Problem>> From<P> for ServiceError {
    fn from(problem: P) -> Self {
        Self { problem: problem.into(), cause: None }
    }
}

impl ServiceError {
    /// Whether another process changed the same rows first, so that the same change may well be made a moment later.
    #[must_use]
    pub fn is_race(&self) -> bool {
        let cause = self.cause.as_deref().and_then(|cause| cause.downcast_ref::<CommitError>());
        matches!((&self.problem, cause), (Problem::Changed { .. }, Some(CommitError::Conflict)))
    }

    /// A problem with its cause.
    #[must_use]
    pub fn because(problem: Problem, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { problem, cause: Some(cause.into()) }
    }
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Inconsistent { table, .. } => {
                Self::because(Problem::Tampered { name: format!("a row of {table}") }, error)
            }
            _ => Self::because(Problem::Unavailable { what: "the store" }, error),
        }
    }
}

impl From<LogError> for ServiceError {
    fn from(error: LogError) -> Self {
        Self::because(Problem::Unavailable { what: "the audit log" }, error)
    }
}
