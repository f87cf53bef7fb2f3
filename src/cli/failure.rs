//! What went wrong, in words: what happened, to what, and what to do about it.
//!
//! A [`Failure`] travels inside `anyhow::Error`; [`print`] shows it, and any other error, on standard
//! error. What a call's error means for whoever typed the command is said here, and nowhere else.

use std::{
    fmt,
    io::{self, Write as _},
};

use serde::Serialize;
use strongroom_client::{Code, Error, Refusal};

use super::{
    cause, connection,
    output::{Format, printable},
};

/// An error with details and hints, and what a server has said that programs and operators go by.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Failure {
    pub(super) message: String,
    #[serde(flatten)]
    pub(super) answered: Option<Box<Answered>>,
    pub(super) details: Vec<String>,
    pub(super) hints: Vec<String>,
}

/// What a server has answered.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answered {
    /// google.rpc.Code, by name.
    pub(super) code: &'static str,
    /// google.rpc.ErrorInfo.reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    /// google.rpc.RequestInfo.request_id: the server's log has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_id: Option<String>,
}

impl Failure {
    /// What happened, and to what.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }

    /// One more line about it.
    pub(super) fn detail(mut self, line: impl Into<String>) -> Self {
        self.details.push(line.into());
        self
    }

    /// What to do about it.
    pub(super) fn hint(mut self, line: impl Into<String>) -> Self {
        self.hints.push(line.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.details.iter().try_for_each(|line| write!(f, "\n  {line}"))?;
        self.hints.iter().try_for_each(|line| write!(f, "\nhint: {line}"))?;
        let request_id = self.answered.as_ref().and_then(|answered| answered.request_id.as_ref());
        request_id.map_or(Ok(()), |id| write!(f, "\nrequest id: {id}"))
    }
}

impl std::error::Error for Failure {}

/// Shows an error on standard error. That nobody reads it is no error of its own.
pub(super) fn print(error: &anyhow::Error, format: Format) {
    let _ = writeln!(io::stderr().lock(), "{}", shown(error, format));
}

fn shown(error: &anyhow::Error, format: Format) -> String {
    let other;
    let failure = match error.downcast_ref::<Failure>() {
        Some(failure) => failure,
        None => {
            other = Failure::new(format!("{error:#}"));
            &other
        }
    };
    // JSON escapes control characters by itself.
    match (format, serde_json::to_string_pretty(failure)) {
        (Format::Json, Ok(json)) => json,
        _ => {
            let lines: Vec<String> = failure.to_string().lines().map(printable).collect();
            format!("error: {}", lines.join("\n"))
        }
    }
}

/// What a call deals with: decides which command a hint names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noun {
    /// `vault …`.
    Vault,
    /// `key …`.
    Key,
    /// `secret …`, `exec`, `inject`.
    Secret,
    /// `access …`.
    Access,
    /// `token …`.
    Token,
    /// `audit …`.
    Audit,
    /// `own-keys …`.
    OwnKeys,
    /// `cluster …`.
    Cluster,
    /// `event …`, `webhook …`.
    Event,
    /// `backup …`.
    Backup,
}

/// What is being done, for errors: `sign with vaults/dev/keys/k`.
#[derive(Clone, Debug)]
pub(super) struct Action {
    /// A verb and its object, as it reads after "cannot".
    pub(super) what: String,
    /// What it deals with.
    pub(super) noun: Noun,
    /// The scope whose role allows it: `/` or `vaults/{vault}`.
    pub(super) scope: String,
    /// The request id of a change: repeating it with the same one changes nothing twice.
    pub(super) request_id: Option<String>,
}

/// What is known about the caller, for hints.
#[derive(Clone, Debug, Default)]
pub(super) struct Caller {
    /// The name in the client certificate.
    pub(super) principal: Option<String>,
    /// Whether a bearer token says who it is.
    pub(super) by_token: bool,
    /// Where the server is.
    pub(super) endpoint: String,
    /// The time given to the command, in seconds.
    pub(super) timeout_s: u64,
}

/// Why there is no connection.
pub(super) fn to_connect(error: &Error, caller: &Caller) -> Failure {
    let connecting = Action { what: "connect".into(), noun: Noun::Vault, scope: "/".into(), request_id: None };
    of(error, &connecting, caller)
}

/// What went wrong with a call.
pub(super) fn of(error: &Error, action: &Action, caller: &Caller) -> Failure {
    match error {
        Error::Settings(error) => connection::explain(error),
        Error::Connection { endpoint, cause } => cause::explain(cause, endpoint),
        Error::NoServer(failed) => cause::explain_all(failed),
        Error::TimedOut { .. } => timed_out(action, caller),
        Error::Damaged { .. } => Failure::new(format!("cannot {}: {error}", action.what)).hint(
            "repeat the command; if it happens again, look for a faulty proxy or memory between here and the server",
        ),
        other => match other.refusal() {
            Some(refusal) => of_refusal(refusal, action, caller),
            None => Failure::new(format!("cannot {}: {other}", action.what)),
        },
    }
}

/// What a server answered instead of a result.
fn of_refusal(refusal: &Refusal, action: &Action, caller: &Caller) -> Failure {
    let answered = Answered {
        code: code_name(refusal.code),
        reason: Some(refusal.reason.clone()).filter(|reason| !reason.is_empty()),
        request_id: refusal.request_id.clone(),
    };
    Failure {
        message: format!("cannot {}: {}", action.what, refusal.message),
        answered: Some(Box::new(answered)),
        details: detail_lines(refusal),
        hints: hints(refusal.code, &refusal.reason, &about(refusal, action), caller),
    }
}

/// The same, of what is missing or there already: a key's command may have named a vault.
fn about(refusal: &Refusal, action: &Action) -> Action {
    let noun = match (refusal.code, refusal.resource_type.as_str()) {
        (Code::NotFound | Code::AlreadyExists, "strongroom.v1/Vault") => Noun::Vault,
        (Code::NotFound | Code::AlreadyExists, "strongroom.v1/Key" | "strongroom.v1/KeyVersion") => Noun::Key,
        (Code::NotFound | Code::AlreadyExists, "strongroom.v1/Secret" | "strongroom.v1/SecretVersion") => Noun::Secret,
        _ => action.noun,
    };
    Action { noun, ..action.clone() }
}

/// A deadline that passed before the server answered.
fn timed_out(action: &Action, caller: &Caller) -> Failure {
    let message = format!("cannot {}: no answer from {} in {} s", action.what, caller.endpoint, caller.timeout_s);
    Failure { hints: hints(Code::DeadlineExceeded, "", action, caller), ..Failure::new(message) }
}

fn detail_lines(refusal: &Refusal) -> Vec<String> {
    let mut lines = Vec::new();
    if !refusal.reason.is_empty() {
        lines.push(format!("reason: {} ({})", refusal.reason, code_name(refusal.code)));
    }
    lines.extend(refusal.fields.iter().map(|v| format!("field {}: {}", v.subject, v.description)));
    // What is in the way of everything has no subject, and is what the message says.
    let preconditions =
        refusal.preconditions.iter().filter(|v| !v.subject.is_empty() || v.description != refusal.message);
    lines.extend(preconditions.map(|v| format!("{}: {}", v.subject, v.description)));
    lines.extend(refusal.retry_after.map(|delay| format!("try again in {} s", delay.as_secs_f64())));
    lines
}

fn hints(code: Code, reason: &str, action: &Action, caller: &Caller) -> Vec<String> {
    by_reason(reason, action).unwrap_or_else(|| by_code(code, action, caller)).into_iter().collect()
}

/// `Some(None)`: the server's words say what to do already.
fn by_reason(reason: &str, action: &Action) -> Option<Option<String>> {
    let hint = match reason {
        "DECRYPTION_FAILED" => {
            "check that the file is whole, and that --aad is the one it was encrypted with".to_owned()
        }
        "KEY_DISABLED" => "enable it: strongroom key update NAME --enable [--version V]".to_owned(),
        "SECRET_DISABLED" => "enable it: strongroom secret update NAME --enable [--version V]".to_owned(),
        "KEY_NOT_YET_VALID" => "change its date: strongroom key update NAME --not-before TIME".to_owned(),
        "KEY_EXPIRED" => "make a new version (strongroom key rotate NAME), or change the date: \
                          strongroom key update NAME --expires TIME"
            .to_owned(),
        "OPERATION_NOT_PERMITTED" => "see what it may do: strongroom key show NAME".to_owned(),
        "DELETED" if action.noun == Noun::Secret => "bring it back: strongroom secret recover NAME".to_owned(),
        "DELETED" => {
            "bring it back: strongroom key recover NAME; if it is the vault: strongroom vault recover NAME".to_owned()
        }
        "NAME_RESERVED" => format!("bring it back: strongroom {} recover NAME", action.noun.word()),
        "OUTCOME_UNKNOWN" => match &action.request_id {
            Some(id) => format!("repeat the command with --request-id {id}: nothing is changed twice"),
            None => "repeat the command".to_owned(),
        },
        "PADDING_DECRYPTION_OFF" => "an administrator can allow it, where no stranger can have ciphertexts tried: \
                                     strongroom vault update VAULT --allow-padding-decryption true"
            .to_owned(),
        "BARE_CIPHER" => "encrypt with A256GCM, or use a key that does nothing else (--ops encrypt,decrypt)".to_owned(),
        "BEYOND_OWN_RIGHTS" => "ask somebody who has that role at that scope, or a wider one".to_owned(),
        "PADDING_FAILURES" => "the audit log says who sends ciphertexts that do not decrypt".to_owned(),
        "QUOTA_EXCEEDED" => "try again after that time, or ask whoever runs the server for more ([quota] in its \
                             configuration; docs/limits.md)"
            .to_owned(),
        "TOKEN_EXPIRED" | "TOKEN_REVOKED" => {
            "put a new token into the file of --token-file: strongroom token create NAME --out FILE, or have its \
             issuer write it again"
                .to_owned()
        }
        "TOKEN_NOT_YET_VALID" => "check the clocks of the token's issuer and of the server".to_owned(),
        "TOKEN_AUDIENCE" => {
            "ask the token's issuer for one with an audience that the server's [[oidc]] lists".to_owned()
        }
        "TOKEN_ISSUER" | "TOKEN_ALGORITHM" | "TOKEN_KEY" | "TOKEN_SIGNATURE" | "TOKEN_SUBJECT" | "TOKEN_GROUPS"
        | "TOKEN_CLAIM" | "TOKEN_LIFE" | "TOKEN_BOUND" | "TOKEN_MALFORMED" => {
            "compare the token with the server's configuration, [[oidc]]: docs/tokens.md has an example for each issuer"
                .to_owned()
        }
        "TOKEN_ISSUER_UNAVAILABLE" => "can the server reach the issuer? its log and metrics say more".to_owned(),
        "TOO_MANY_TOKENS" => "list them: strongroom token list; end one: strongroom token revoke ID".to_owned(),
        // The server says what it lacks, or what stands in the way, and what would do.
        "UNSUPPORTED_BY_HSM" | "PUBLIC_KEY_ONLY" | "PUBLIC_AND_PRIVATE" | "GENERATED_IN_HSM" => return Some(None),
        "PRUNED" | "LOG_SHORTER" => return Some(None),
        "TOO_MANY_ASSIGNMENTS" | "TOO_MANY_ROLES" | "TOO_MANY_POLICIES" => return Some(None),
        "WRONG_ALGORITHM" | "KEY_USED_UP" | "RECORD_PENDING" | "INVALID_FIELD" | "INVALID_LENGTH" => return Some(None),
        _ => return None,
    };
    Some(Some(hint))
}

fn by_code(code: Code, action: &Action, caller: &Caller) -> Option<String> {
    let noun = action.noun.word();
    Some(match code {
        Code::Unauthenticated if caller.by_token => {
            "the server does not believe the token of --token-file (STRONGROOM_TOKEN_FILE)".to_owned()
        }
        Code::Unauthenticated => {
            "the server does not know this client certificate: pass one with --cert and --key-file, or load the \
             development identity: . DIR/env"
                .to_owned()
        }
        Code::PermissionDenied => ask_for_role(action, caller),
        Code::NotFound => format!("list what there is: {}", action.noun.listing()),
        Code::AlreadyExists => format!("choose another name, or look at it: {}", action.noun.showing()),
        Code::Aborted => format!("it was changed meanwhile: look at it (strongroom {noun} list) and repeat"),
        Code::ResourceExhausted => {
            "the server has too much to do: try again later, or with a longer --timeout".to_owned()
        }
        Code::DeadlineExceeded | Code::Cancelled => match &action.request_id {
            Some(id) => format!(
                "it may have been done: repeat with --request-id {id} and a longer --timeout; nothing is changed twice"
            ),
            None => format!("give it more time: --timeout SECONDS (it had {})", caller.timeout_s),
        },
        Code::Unavailable => format!("is {} running and ready? see its log and /readyz", caller.endpoint),
        Code::Unimplemented => format!("{} is an older Strongroom, or something else", caller.endpoint),
        Code::Internal | Code::DataLoss | Code::Unknown => "the server's log says more under the request id".to_owned(),
        _ => return None,
    })
}

fn ask_for_role(action: &Action, caller: &Caller) -> String {
    let principal = caller.principal.as_deref().unwrap_or("<your principal>");
    // A change has a request id.
    let role = match (action.noun, &action.request_id) {
        (Noun::Key, None) => "'Key Vault Crypto User'",
        (Noun::Key, Some(_)) => "'Key Vault Crypto Officer'",
        (Noun::Secret, None) => "'Key Vault Secrets User'",
        (Noun::Secret, Some(_)) => "'Key Vault Secrets Officer'",
        (Noun::Vault, None) => "'Key Vault Reader'",
        (Noun::Vault, Some(_)) => "'Key Vault Contributor'",
        (Noun::Access | Noun::Token | Noun::OwnKeys | Noun::Cluster, _) => "administrator",
        (Noun::Backup, _) => "'Managed HSM Backup'",
        (Noun::Event, Some(_)) => "administrator",
        (Noun::Audit | Noun::Event, _) => "auditor",
    };
    format!(
        "ask an administrator for a role: strongroom access grant --principal {principal} --role {role} --scope {}",
        action.scope
    )
}

impl Noun {
    /// The command's first word.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Vault => "vault",
            Self::Key => "key",
            Self::Secret => "secret",
            Self::Access => "access",
            Self::Token => "token",
            Self::OwnKeys => "own-keys",
            Self::Audit => "audit",
            Self::Cluster => "cluster",
            Self::Event => "event",
            Self::Backup => "backup",
        }
    }

    /// What lists what a command may have named: for access, roles, assignments and the vault of a scope.
    const fn listing(self) -> &'static str {
        match self {
            Self::Vault => "strongroom vault list",
            Self::Key => "strongroom key list",
            Self::Secret => "strongroom secret list",
            Self::Access => "strongroom access list, strongroom access roles list, strongroom vault list",
            Self::Token => "strongroom token list",
            Self::OwnKeys => "strongroom own-keys show",
            Self::Audit => "strongroom audit list",
            Self::Cluster => "strongroom cluster status",
            Self::Event => "strongroom vault list, strongroom webhook list",
            Self::Backup => "strongroom backup list",
        }
    }

    /// What shows it.
    const fn showing(self) -> &'static str {
        match self {
            Self::Vault => "strongroom vault show NAME",
            Self::Key => "strongroom key show NAME",
            Self::Secret => "strongroom secret show NAME",
            Self::Access => "strongroom access list, for a role strongroom access roles show NAME",
            Self::Token => "strongroom token list",
            Self::OwnKeys => "strongroom own-keys show",
            Self::Audit => "strongroom audit list",
            Self::Cluster => "strongroom cluster status",
            Self::Event => "strongroom webhook list",
            Self::Backup => "strongroom backup list",
        }
    }
}

/// A code by its name in google.rpc.Code.
pub(super) const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic::Status;
    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::*;

    #[test]
    fn what_a_hint_names_is_a_command() {
        let known: Vec<String> = crate::cli::manual::tests::commands().into_iter().map(|(words, _)| words).collect();
        for noun in [
            Noun::Vault,
            Noun::Key,
            Noun::Secret,
            Noun::Access,
            Noun::Token,
            Noun::Audit,
            Noun::OwnKeys,
            Noun::Cluster,
            Noun::Event,
            Noun::Backup,
        ] {
            for hint in [noun.listing(), noun.showing()] {
                for command in hint.split("strongroom ").skip(1) {
                    let words = command.trim_end_matches(", for a role ").trim_end_matches(", ");
                    let words = words.trim_end_matches(" NAME").to_owned();
                    assert!(known.contains(&words), "{words:?} of {hint:?}");
                }
            }
        }
    }

    fn from_status(status: &Status, action: &Action, caller: &Caller) -> Failure {
        of(&Error::from(Refusal::from(status)), action, caller)
    }

    fn action() -> Action {
        Action {
            what: "sign with vaults/dev/keys/k".into(),
            noun: Noun::Key,
            scope: "vaults/dev".into(),
            request_id: None,
        }
    }

    fn caller() -> Caller {
        Caller {
            principal: Some("spiffe://example.org/ci".into()),
            by_token: false,
            endpoint: "https://127.0.0.1:8443".into(),
            timeout_s: 30,
        }
    }

    #[test]
    fn what_is_missing_is_looked_for_where_it_would_be() {
        for (kind, listing) in [
            ("strongroom.v1/Vault", "strongroom vault list"),
            ("", "strongroom key list"),
            ("x", "strongroom key list"),
        ] {
            let mut details = ErrorDetails::new();
            details.set_resource_info(kind, "vaults/nope", "", "");
            let status = Status::with_error_details(Code::NotFound, "vaults/nope does not exist", details);
            assert_eq!(
                from_status(&status, &action(), &caller()).to_string(),
                format!(
                    "cannot sign with vaults/dev/keys/k: vaults/nope does not exist\nhint: list what there is: {listing}"
                )
            );
        }
    }

    #[test]
    fn of_a_deleted_secret_it_is_the_secret_that_is_brought_back() {
        for (kind, hint) in [
            ("strongroom.v1/Secret", "strongroom secret recover NAME"),
            ("strongroom.v1/Vault", "strongroom vault recover NAME"),
        ] {
            let mut details = ErrorDetails::with_error_info("DELETED", "strongroom.v1", []);
            details.set_resource_info(kind, "vaults/dev/secrets/s", "", "");
            let status = Status::with_error_details(Code::NotFound, "is deleted", details);
            let action = Action { noun: Noun::Secret, ..action() };
            assert!(from_status(&status, &action, &caller()).to_string().contains(hint), "{kind}");
        }
    }

    #[test]
    fn a_rule_in_the_way_of_everything_is_said_once() {
        for (subject, said) in [("", ""), ("vaults/dev", "\n  vaults/dev: not now")] {
            let mut details = ErrorDetails::new();
            details.add_precondition_failure_violation("NOT_NOW", subject, "not now");
            let status = Status::with_error_details(Code::FailedPrecondition, "not now", details);
            let text = from_status(&status, &action(), &caller()).to_string();
            assert_eq!(text, format!("cannot sign with vaults/dev/keys/k: not now{said}"));
        }
    }

    #[test]
    fn a_refusal_names_the_role_and_the_principal() {
        let text = from_status(&Status::permission_denied("no right"), &action(), &caller()).to_string();
        assert_eq!(
            text,
            "cannot sign with vaults/dev/keys/k: no right\nhint: ask an administrator for a role: strongroom access \
             grant --principal spiffe://example.org/ci --role 'Key Vault Crypto User' --scope vaults/dev"
        );
    }

    #[test]
    fn details_are_shown_with_reason_fields_and_request_id() {
        let mut details =
            ErrorDetails::with_error_info("INVALID_FIELD", "strongroom.v1", [("a".to_owned(), "b".to_owned())]);
        details.add_bad_request_violation("digest", "has 31 bytes; ES256 takes exactly 32");
        details.set_request_info("0123", "");
        let status = Status::with_error_details(Code::InvalidArgument, "the digest is wrong", details);
        assert_eq!(
            from_status(&status, &action(), &caller()).to_string(),
            "cannot sign with vaults/dev/keys/k: the digest is wrong\n  reason: INVALID_FIELD (INVALID_ARGUMENT)\n  \
             field digest: has 31 bytes; ES256 takes exactly 32\nrequest id: 0123"
        );
    }

    #[test]
    fn a_program_gets_the_same_as_json_and_nothing_else() {
        let details = ErrorDetails::with_error_info("KEY_DISABLED", "strongroom.v1", []);
        let status = Status::with_error_details(Code::FailedPrecondition, "is \u{1b}disabled", details);
        let error = anyhow::Error::new(from_status(&status, &action(), &caller()));
        let json: serde_json::Value = serde_json::from_str(&shown(&error, Format::Json)).expect("JSON");
        assert_eq!(json["message"], "cannot sign with vaults/dev/keys/k: is \u{1b}disabled");
        assert_eq!((&json["code"], &json["reason"]), (&"FAILED_PRECONDITION".into(), &"KEY_DISABLED".into()));
        assert!(!shown(&error, Format::Table).contains('\u{1b}'), "a terminal gets no control characters");
        let other = anyhow::anyhow!("inner").context("outer");
        assert_eq!(shown(&other, Format::Table), "error: outer: inner");
        let json: serde_json::Value = serde_json::from_str(&shown(&other, Format::Json)).expect("JSON");
        assert_eq!(json["message"], "outer: inner");
    }

    #[test]
    fn overload_says_when_to_come_back() {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(250)));
        let status = Status::with_error_details(Code::ResourceExhausted, "full", details);
        let text = from_status(&status, &action(), &caller()).to_string();
        assert!(text.contains("try again in 0.25 s") && text.contains("hint: "), "{text}");
    }

    #[test]
    fn a_used_up_quota_names_who_can_give_more() {
        let mut details = ErrorDetails::with_error_info("QUOTA_EXCEEDED", "strongroom.v1", []);
        details.set_retry_info(Some(Duration::from_millis(250)));
        let status = Status::with_error_details(Code::ResourceExhausted, "the quota is used up", details);
        let text = from_status(&status, &action(), &caller()).to_string();
        assert!(text.contains("try again in 0.25 s") && text.contains("[quota]"), "{text}");
    }

    #[test]
    fn a_change_that_may_have_been_made_names_its_request_id() {
        let action = Action { request_id: Some("6f".into()), ..action() };
        let late = Error::TimedOut { endpoint: String::new(), repeat_with: None };
        let text = of(&late, &action, &caller()).to_string();
        assert!(text.contains("no answer from https://127.0.0.1:8443 in 30 s"), "{text}");
        assert!(text.contains("--request-id 6f"), "{text}");
    }

    #[test]
    fn damage_says_what_to_look_for() {
        let text = of(&Error::Damaged { field: "signature" }, &action(), &caller()).to_string();
        assert!(text.starts_with("cannot sign with vaults/dev/keys/k: signature was damaged on the way"), "{text}");
        assert!(text.contains("hint: repeat the command"), "{text}");
    }

    #[test]
    fn every_code_has_a_hint_or_needs_none() {
        for code in (1..=16).map(Code::from_i32) {
            let failure = from_status(&Status::new(code, "x"), &action(), &caller());
            let needs_none = matches!(code, Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange);
            assert_eq!(failure.hints.is_empty(), needs_none, "{code:?}");
        }
    }
}
