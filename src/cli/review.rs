//! `strongroom access explain`, `access who-can`, and what `--dry-run` shows.

use std::net::IpAddr;

use clap::Args;
use serde::Serialize;
use strongroom_proto::v1::{
    self, AccessReason, ExplainAccessRequest, ExplainAccessResponse, ListPermittedPrincipalsRequest,
    PermittedPrincipal, PreviewAccessRequest, PreviewAccessResponse, access_source::Source,
    preview_access_request::Change,
};

use super::{
    client::Client,
    connection::ConnectionArgs,
    failure::{Action, Noun},
    output::{self, Format, FormatArgs, Rows},
    view::AssignmentView,
};
use crate::{
    access,
    model::{Principal, Scope},
};

/// What `access explain` takes.
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// Who
    #[arg(value_name = "PRINCIPAL")]
    principal: Principal,
    /// What: an action as refusals name it, keys.unwrap; of keys also the verb alone, unwrap
    #[arg(value_name = "ACTION", value_parser = action)]
    action: access::Action,
    /// Where: /, vaults/VAULT, vaults/VAULT/keys or vaults/VAULT/keys/KEY [default: the current vault]
    #[arg(value_name = "SCOPE")]
    scope: Option<Scope>,
    /// A group that the principal is in; repeat it for each
    #[arg(long, value_name = "GROUP")]
    group: Vec<Principal>,
    /// From which address, to ask the vault's network rules too
    #[arg(long, value_name = "ADDRESS")]
    source: Option<IpAddr>,
    #[command(flatten)]
    format: FormatArgs,
}

/// What `access who-can` takes.
#[derive(Debug, Args)]
pub(super) struct WhoCanArgs {
    /// What: an action as refusals name it, keys.unwrap; of keys also the verb alone, unwrap
    #[arg(value_name = "ACTION", value_parser = action)]
    action: access::Action,
    /// Where: /, vaults/VAULT, vaults/VAULT/keys or vaults/VAULT/keys/KEY [default: the current vault]
    #[arg(value_name = "SCOPE")]
    scope: Option<Scope>,
    #[command(flatten)]
    format: FormatArgs,
}

/// An action by its name; of keys by its verb.
fn action(text: &str) -> Result<access::Action, String> {
    let found = access::Action::from_name(text).or_else(|| access::Action::from_name(&format!("keys.{text}")));
    found.ok_or_else(|| {
        let names: Vec<&str> = access::Action::ALL.into_iter().map(access::Action::name).collect();
        format!("no action has this name; they are {}", names.join(", "))
    })
}

fn asking(what: String, scope: &Scope) -> Action {
    Action { what, noun: Noun::Access, scope: scope.to_string(), request_id: None }
}

fn place(connection: &ConnectionArgs, scope: Option<&Scope>) -> anyhow::Result<Scope> {
    scope.cloned().map_or_else(|| connection.vault().map(Scope::Vault), Ok)
}

/// `access explain`.
pub(super) async fn explain(connection: &ConnectionArgs, args: &ExplainArgs) -> anyhow::Result<()> {
    let scope = place(connection, args.scope.as_ref())?;
    let request = ExplainAccessRequest {
        principal: args.principal.to_string(),
        groups: args.group.iter().map(ToString::to_string).collect(),
        action: args.action.name().to_owned(),
        scope: scope.to_string(),
        source: args.source.map(|address| address.to_string()).unwrap_or_default(),
    };
    let client = connection.connect().await?;
    let asked = asking("explain access".to_owned(), &scope);
    let answer = client.call(&asked, client.api.explain_access(request)).await?;
    let view = ExplanationView::new(&answer);
    if args.format.format == Format::Table {
        let may = if view.permitted { "may" } else { "may not" };
        let (who, what) = (output::printable(args.principal.as_str()), args.action.name());
        output::line(&format!("{who} {may} do {what} at {scope}: {}", said(answer.reason())))?;
        if view.assignments.is_empty() && view.access_policies.is_empty() {
            return Ok(());
        }
    }
    output::show(args.format.format, &view)
}

/// A reason in a sentence.
const fn said(reason: AccessReason) -> &'static str {
    match reason {
        AccessReason::Permitted => "this permits it",
        AccessReason::NothingAssigned => "neither it nor a named group has any role",
        AccessReason::NotInRole => "no role of it has the action",
        AccessReason::OtherScope => "a role has the action, at another scope",
        AccessReason::NotInAccessPolicy => "the vault decides by access policies, and none permits it",
        AccessReason::Network => "it is permitted, but the vault's network rules do not admit the address",
        AccessReason::Unspecified => "the server gives a reason that this program does not know",
    }
}

/// A reason as programs read it.
fn word(reason: i32) -> String {
    AccessReason::try_from(reason).unwrap_or_default().as_str_name().to_owned()
}

/// As people do.
fn short(reason: &str) -> String {
    reason.trim_start_matches("ACCESS_REASON_").to_lowercase().replace('_', " ")
}

/// `access who-can`.
pub(super) async fn who_can(connection: &ConnectionArgs, args: &WhoCanArgs) -> anyhow::Result<()> {
    let scope = place(connection, args.scope.as_ref())?;
    let (action, asked) = (args.action.name(), asking("list who may".to_owned(), &scope));
    let request = ListPermittedPrincipalsRequest {
        action: action.to_owned(),
        scope: scope.to_string(),
        page_size: 1000,
        page_token: String::new(),
    };
    let client = connection.connect().await?;
    let found = client.call(&asked, client.api.list_permitted_principals(request)).await?;
    output::show(args.format.format, &PermittedList(found.iter().map(PermittedView::from).collect()))
}

/// Shows what a change would mean.
pub(super) async fn preview(client: &Client, change: Change, format: Format) -> anyhow::Result<()> {
    let asked = asking("preview a change of access".to_owned(), &Scope::Service);
    let request = PreviewAccessRequest { change: Some(change) };
    let answer = client.call(&asked, client.api.preview_access(request)).await?;
    let PreviewAccessResponse { differences, truncated } = answer;
    if truncated {
        output::note("there are more differences than these");
    }
    output::show(format, &DifferenceList(differences.iter().map(DifferenceView::from).collect()))
}

/// `strongroom.v1.ExplainAccessResponse`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ExplanationView {
    permitted: bool,
    reason: String,
    access_policies: Vec<String>,
    pub(super) assignments: Vec<ConsideredView>,
}

/// A role that was considered.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConsideredView {
    reason: String,
    assignment: AssignmentView,
}

impl ExplanationView {
    /// A view of an answer.
    pub(super) fn new(answer: &ExplainAccessResponse) -> Self {
        let sources = answer.sources.iter().filter_map(|source| source.source.as_ref());
        let (mut access_policies, mut assignments) = (Vec::new(), Vec::new());
        for source in sources {
            match source {
                Source::RoleAssignment(assignment) => assignments.push(ConsideredView {
                    reason: word(AccessReason::Permitted.into()),
                    assignment: AssignmentView::from(assignment),
                }),
                Source::AccessPolicyPrincipal(principal) => access_policies.push(principal.clone()),
            }
        }
        let missed = answer.misses.iter().filter_map(|miss| {
            let assignment = miss.role_assignment.as_ref().map(AssignmentView::from)?;
            Some(ConsideredView { reason: word(miss.reason), assignment })
        });
        assignments.extend(missed);
        Self { permitted: answer.permitted, reason: word(answer.reason), access_policies, assignments }
    }
}

impl Rows for ExplanationView {
    fn head(&self) -> Vec<&'static str> {
        vec!["BECAUSE", "ROLE", "SCOPE", "PRINCIPAL", "ID"]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let policy = |principal: &String| {
            vec!["permitted".to_owned(), "(access policy)".to_owned(), String::new(), principal.clone(), String::new()]
        };
        let considered = self.assignments.iter().map(|view| {
            let [id, principal, role, scope, _] = view.assignment.row();
            vec![short(&view.reason), role, scope, principal, id]
        });
        self.access_policies.iter().map(policy).chain(considered).collect()
    }
}

/// `strongroom.v1.PermittedPrincipal`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PermittedView {
    principal: String,
    access_policy: bool,
    assignments: Vec<AssignmentView>,
}

impl From<&PermittedPrincipal> for PermittedView {
    fn from(found: &PermittedPrincipal) -> Self {
        let sources = || found.sources.iter().filter_map(|source| source.source.as_ref());
        let assignment = |source: &Source| match source {
            Source::RoleAssignment(assignment) => Some(AssignmentView::from(assignment)),
            Source::AccessPolicyPrincipal(_) => None,
        };
        Self {
            principal: found.principal.clone(),
            access_policy: sources().any(|source| matches!(source, Source::AccessPolicyPrincipal(_))),
            assignments: sources().filter_map(assignment).collect(),
        }
    }
}

/// Several of them.
#[derive(Debug, Serialize)]
struct PermittedList(Vec<PermittedView>);

impl Rows for PermittedList {
    fn head(&self) -> Vec<&'static str> {
        vec!["PRINCIPAL", "BY", "SCOPE"]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let of = |view: &PermittedView| {
            let policy = view.access_policy.then(|| ("(access policy)".to_owned(), String::new()));
            let roles = view.assignments.iter().map(|assignment| {
                let [_, _, role, scope, _] = assignment.row();
                (role, scope)
            });
            let named = |(by, scope)| vec![view.principal.clone(), by, scope];
            policy.into_iter().chain(roles).map(named).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(of).collect()
    }
}

/// `strongroom.v1.AccessDifference`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DifferenceView {
    principal: String,
    scope: String,
    gained: Vec<String>,
    lost: Vec<String>,
}

impl From<&v1::AccessDifference> for DifferenceView {
    fn from(found: &v1::AccessDifference) -> Self {
        let v1::AccessDifference { principal, scope, gained, lost } = found.clone();
        Self { principal, scope, gained, lost }
    }
}

/// Several of them.
#[derive(Debug, Serialize)]
struct DifferenceList(Vec<DifferenceView>);

impl Rows for DifferenceList {
    fn head(&self) -> Vec<&'static str> {
        vec!["PRINCIPAL", "SCOPE", "POSSIBLE", "IMPOSSIBLE"]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |view: &DifferenceView| {
            vec![view.principal.clone(), view.scope.clone(), view.gained.join(" "), view.lost.join(" ")]
        };
        self.0.iter().map(row).collect()
    }
}
