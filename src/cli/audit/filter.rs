//! Which records: the same flags on every command.

use clap::{Args, ValueEnum};
use strongroom_proto::v1::{AuditFilter, AuditOutcome};

use crate::cli::{
    connection::ConnectionArgs,
    failure::{Action, Noun},
    names::KeyRef,
    parse::{self, PastArg},
};

/// Which records. All that is said must hold.
#[derive(Debug, Args)]
pub(super) struct FilterArgs {
    /// Of this resource and what is in it: vaults/VAULT, vaults/VAULT/keys/KEY, roleAssignments; all of a vault is --vault
    /// alone
    #[arg(long, value_name = "NAME", conflicts_with = "of_key")]
    resource: Option<String>,
    /// Of this key: a name in the current vault, or a full one
    #[arg(id = "of_key", long = "key", value_name = "KEY")]
    key: Option<String>,
    /// By this principal
    #[arg(long, value_name = "PRINCIPAL")]
    principal: Option<String>,
    /// Of this operation, as records name it: keys.sign
    #[arg(long, value_name = "OPERATION")]
    operation: Option<String>,
    /// That ended so
    #[arg(long, value_name = "OUTCOME", value_enum)]
    outcome: Option<OutcomeArg>,
    /// Not before: 2027-01-31T00:00:00Z, 2027-01-31, or 24h, 30d: so long ago
    #[arg(long, value_name = "TIME", value_parser = parse::past)]
    since: Option<PastArg>,
    /// Before that time
    #[arg(long, value_name = "TIME", value_parser = parse::past)]
    until: Option<PastArg>,
}

/// `--outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OutcomeArg {
    /// An intent: what became of it is in another record
    Pending,
    /// Done
    Done,
    /// No right, no such object, wrong input
    Refused,
    /// The HSM, the store, a deadline
    Failed,
}

impl From<OutcomeArg> for AuditOutcome {
    fn from(outcome: OutcomeArg) -> Self {
        match outcome {
            OutcomeArg::Pending => Self::Pending,
            OutcomeArg::Done => Self::Done,
            OutcomeArg::Refused => Self::Refused,
            OutcomeArg::Failed => Self::Failed,
        }
    }
}

impl FilterArgs {
    /// The filter as it is sent.
    pub(super) fn filter(&self, connection: &ConnectionArgs) -> anyhow::Result<AuditFilter> {
        let resource = match (&self.resource, &self.key) {
            (Some(resource), _) => resource.clone(),
            (None, Some(key)) => KeyRef::resolve(connection, key, None)?.to_string(),
            (None, None) => connection.typed_vault()?.map(|vault| format!("vaults/{vault}")).unwrap_or_default(),
        };
        let now = parse::now();
        let time = |time: Option<PastArg>| time.map(|time| time.resolve(now)).transpose();
        Ok(AuditFilter {
            resource,
            principal: self.principal.clone().unwrap_or_default(),
            operation: self.operation.clone().unwrap_or_default(),
            outcome: self.outcome.map_or(AuditOutcome::Unspecified, AuditOutcome::from).into(),
            start_time: time(self.since)?,
            end_time: time(self.until)?,
        })
    }
}

/// What is being done, for errors: the right is asked for at the vault that the filter names.
pub(super) fn action(what: &str, filter: &AuditFilter) -> Action {
    let vault = filter.resource.strip_prefix("vaults/").and_then(|rest| rest.split('/').next());
    let scope = vault.map_or("/".to_owned(), |vault| format!("vaults/{vault}"));
    Action { what: what.to_owned(), noun: Noun::Audit, scope, request_id: None }
}
