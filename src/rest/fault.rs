//! What is answered when something is wrong: a status, and `{"error":{"code","message","innererror":{"code"}}}`, in the
//! words that tools look for.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

/// An error as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) inner: Option<&'static str>,
    pub(super) message: String,
    /// When to come back.
    pub(super) retry_after: Option<Duration>,
    /// What the path takes (RFC 9110 section 15.5.6).
    pub(super) allow: Option<String>,
}

impl Fault {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, inner: None, message: message.into(), retry_after: None, allow: None }
    }

    pub(super) fn within(self, inner: &'static str) -> Self {
        Self { inner: Some(inner), ..self }
    }

    pub(super) fn after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// Something of the request is wrong.
    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadParameter", message)
    }

    /// A member of the body, or a parameter, that cannot be.
    pub(super) fn property(name: &str, why: &str) -> Self {
        Self::bad(format!("Property {name} has invalid value: {why}"))
    }

    /// Something that Azure does and this service does not.
    pub(super) fn not_here(what: &str) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, "NotSupported", format!("{what} not supported by this service."))
    }

    /// No such thing.
    pub(super) fn not_found(noun: Noun, id: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, noun.code(), noun.not_found(id))
    }

    /// The body.
    pub(super) fn body(&self) -> Value {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let Some(inner) = self.inner {
            error["innererror"] = json!({ "code": inner });
        }
        json!({ "error": error })
    }
}

/// What is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noun {
    Key,
    Secret,
    Certificate,
    RoleAssignment,
    RoleDefinition,
    Vault,
}

impl Noun {
    const fn code(self) -> &'static str {
        match self {
            Self::Key => "KeyNotFound",
            Self::Secret => "SecretNotFound",
            Self::Certificate => "CertificateNotFound",
            Self::RoleAssignment => "RoleAssignmentNotFound",
            Self::RoleDefinition => "RoleDefinitionNotFound",
            Self::Vault => "VaultNotFound",
        }
    }

    fn not_found(self, id: &str) -> String {
        let noun = match self {
            Self::Key => "key",
            Self::Secret => "secret",
            Self::Certificate => "certificate",
            Self::RoleAssignment => return format!("Requested role assignment {id} not found."),
            Self::RoleDefinition => return format!("Requested role definition {id} not found."),
            Self::Vault => return format!("There is no vault {id} here."),
        };
        format!(
            "A {noun} with (name/id) {id} was not found in this key vault. If you recently deleted this {noun} you may be \
             able to recover it using the correct recovery command."
        )
    }
}
