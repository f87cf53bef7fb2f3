//! `strongroom.v1.Access`.

use std::{net::IpAddr, sync::Arc};

use strongroom_proto::v1::{
    AccessDifference, AccessMiss, AccessReason, AccessSource, CreateRoleAssignmentRequest, ExplainAccessRequest,
    ExplainAccessResponse, ListPermittedPrincipalsRequest, ListPermittedPrincipalsResponse, PermittedPrincipal,
    PreviewAccessRequest, PreviewAccessResponse, UpdateVaultRequest, access_server, access_source,
    preview_access_request::Change,
};

use super::{call::serve, decode, definitions, encode, names, pages::List, policies};
use crate::{
    access::{
        Action, Rights,
        review::{Difference, Miss, Why},
        source::Source,
    },
    model::{Identity, Lease, Principal, Scope},
    service::{
        Caller, NewAssignment, Problem, Service, ServiceError,
        review::{Answer, GROUPS_MAX, Proposal, Question},
    },
};

serve!(access_server::Access {
    explain_access(ExplainAccessRequest) -> ExplainAccessResponse;
    list_permitted_principals(ListPermittedPrincipalsRequest) -> ListPermittedPrincipalsResponse;
    preview_access(PreviewAccessRequest) -> PreviewAccessResponse;
});

async fn explain_access(
    service: &Arc<Service>,
    caller: &Caller,
    message: ExplainAccessRequest,
) -> Result<ExplainAccessResponse, ServiceError> {
    let answer = service.explain_access(caller, question(&message)?).await?;
    let permitted = answer.is_permitted();
    let Answer { explanation, network_refuses } = answer;
    let reason = if network_refuses { AccessReason::Network } else { reason(explanation.why) };
    let miss = |miss: &Miss| AccessMiss {
        role_assignment: Some(encode::assignment(&miss.row, miss.role.name.clone())),
        reason: self::reason(miss.why).into(),
    };
    Ok(ExplainAccessResponse {
        permitted,
        reason: reason.into(),
        sources: explanation.sources.into_iter().map(source).collect(),
        misses: explanation.misses.iter().map(miss).collect(),
    })
}

fn question(message: &ExplainAccessRequest) -> Result<Question, Problem> {
    if message.groups.len() > GROUPS_MAX {
        let why = format!("{} groups; at most {GROUPS_MAX} are allowed", message.groups.len());
        return Err(Problem::Invalid { field: "groups", why });
    }
    let principal = message.principal.parse().map_err(|error| names::invalid("principal", &error))?;
    let groups: Result<Vec<Principal>, _> = message.groups.iter().map(|group| group.parse()).collect();
    let groups = groups.map_err(|error| names::invalid("groups", &error))?;
    let address = Some(message.source.as_str()).filter(|text| !text.is_empty()).map(str::parse::<IpAddr>).transpose();
    Ok(Question {
        identity: Identity::new(principal, groups, Lease::until(None)),
        action: action(&message.action)?,
        scope: scope("scope", &message.scope)?,
        address: address.map_err(|error| names::invalid("source", &error))?,
    })
}

fn scope(field: &'static str, text: &str) -> Result<Scope, Problem> {
    text.parse().map_err(|error| names::invalid(field, &error))
}

fn action(name: &str) -> Result<Action, Problem> {
    Action::from_name(name).ok_or_else(|| {
        let known: Vec<&str> = Action::ALL.into_iter().map(Action::name).collect();
        Problem::Invalid { field: "action", why: format!("is none of {}", known.join(", ")) }
    })
}

const fn reason(why: Why) -> AccessReason {
    match why {
        Why::Permitted => AccessReason::Permitted,
        Why::Nothing => AccessReason::NothingAssigned,
        Why::NotInRole => AccessReason::NotInRole,
        Why::OtherScope => AccessReason::OtherScope,
        Why::NotInAccessPolicy => AccessReason::NotInAccessPolicy,
    }
}

fn source(source: Source) -> AccessSource {
    let source = match source {
        Source::Assignment { row, role } => {
            access_source::Source::RoleAssignment(encode::assignment(&row, role.name.clone()))
        }
        Source::AccessPolicy { principal } => access_source::Source::AccessPolicyPrincipal(principal.to_string()),
    };
    AccessSource { source: Some(source) }
}

async fn list_permitted_principals(
    service: &Arc<Service>,
    caller: &Caller,
    message: ListPermittedPrincipalsRequest,
) -> Result<ListPermittedPrincipalsResponse, ServiceError> {
    let (action, scope) = (action(&message.action)?, scope("scope", &message.scope)?);
    let parent = format!("{}\0{}", message.action, message.scope);
    let list = List { kind: "permitted", parent: &parent, deleted: false };
    let page = list.page(message.page_size, &message.page_token, |last| last.parse().ok())?;
    let found = service.permitted_principals(caller, action, scope, page).await?;
    let next_page_token = list.next(found.more, found.items.last().map(|(name, _)| name.to_string()));
    let shown = |(name, sources): (Principal, Vec<Source>)| PermittedPrincipal {
        principal: name.to_string(),
        sources: sources.into_iter().map(source).collect(),
    };
    Ok(ListPermittedPrincipalsResponse { principals: found.items.into_iter().map(shown).collect(), next_page_token })
}

async fn preview_access(
    service: &Arc<Service>,
    caller: &Caller,
    message: PreviewAccessRequest,
) -> Result<PreviewAccessResponse, ServiceError> {
    let (found, truncated) = service.preview_access(caller, proposal(message)?).await?;
    Ok(PreviewAccessResponse { differences: found.into_iter().map(difference).collect(), truncated })
}

fn proposal(message: PreviewAccessRequest) -> Result<Proposal, Problem> {
    Ok(match decode::required("change", message.change)? {
        Change::CreateRoleAssignment(CreateRoleAssignmentRequest { role_assignment, .. }) => {
            let assignment = decode::required("role_assignment", role_assignment)?;
            let invalid = |error| names::invalid("role_assignment.principal", &error);
            Proposal::Assign(NewAssignment {
                id: None,
                principal: assignment.principal.parse().map_err(invalid)?,
                role: names::role("role_assignment.role", &assignment.role)?,
                scope: scope("role_assignment.scope", &assignment.scope)?,
            })
        }
        Change::DeleteRoleAssignment(message) => Proposal::Revoke(names::assignment("name", &message.name)?),
        Change::UpdateVault(UpdateVaultRequest { vault, .. }) => {
            let vault = decode::required("vault", vault)?;
            let authorization = decode::authorization(vault.authorization)?.unwrap_or_default();
            Proposal::Authorization(names::vault("vault.name", &vault.name)?, authorization)
        }
        Change::UpdateRoleDefinition(message) => {
            let (id, patch) = definitions::read_patch(message)?;
            Proposal::Role(id, patch)
        }
        Change::SetAccessPolicy(message) => {
            let policy = decode::required("access_policy", message.access_policy)?;
            let invalid = |error| names::invalid("access_policy.principal", &error);
            let vault = names::vault("access_policy.parent", &policy.parent)?;
            let permissions = policies::permissions(&policy)?;
            Proposal::SetPolicy(vault, policy.principal.parse().map_err(invalid)?, permissions)
        }
        Change::DeleteAccessPolicy(message) => {
            let invalid = |error| names::invalid("principal", &error);
            let vault = names::vault("parent", &message.parent)?;
            Proposal::DeletePolicy(vault, message.principal.parse().map_err(invalid)?)
        }
    })
}

fn difference(found: Difference) -> AccessDifference {
    let names = |rights: Rights| rights.iter().map(|action| action.name().to_owned()).collect();
    AccessDifference {
        principal: found.principal.to_string(),
        scope: found.scope.to_string(),
        gained: names(found.gained),
        lost: names(found.lost),
    }
}
