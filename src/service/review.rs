//! Questions about access: why somebody may do something or may not, who may, and what a change would mean. They
//! are answered of the policy in force; a preview makes the next one and puts it nowhere.

use std::{net::IpAddr, sync::Arc};

use super::{
    Caller, NewAssignment, Page, Paged, Service,
    definitions::RolePatch,
    door::Note,
    error::{Problem, ServiceError},
};
use crate::{
    access::{
        Action, Decision, Permit, Policy, ops,
        review::{self, Difference, Explanation, Why},
        source::{Source, sources},
    },
    model::{
        AccessPolicyRow, AssignmentId, AssignmentRow, Identity, Origin, Permissions, Principal, RoleId, Scope,
        Timestamp, VaultAuthorization, VaultName, VersionId,
    },
};

/// The most groups in one question.
pub const GROUPS_MAX: usize = 256;
/// The most differences that are shown of a change.
pub const DIFFERENCES_MAX: usize = 10_000;
/// The most roles that are shown of those that do not permit something.
pub const MISSES_MAX: usize = 100;

/// Asks why.
#[derive(Clone, Debug)]
pub struct Question {
    /// Who, and in which groups.
    pub identity: Identity,
    /// What.
    pub action: Action,
    /// Where.
    pub scope: Scope,
    /// From which address, to ask the vault's network rules too.
    pub address: Option<IpAddr>,
}

/// Why.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What the policy says.
    pub explanation: Explanation,
    /// Whether the vault's network rules refuse what the policy permits.
    pub network_refuses: bool,
}

/// A change whose meaning is asked for.
#[derive(Clone, Debug)]
pub enum Proposal {
    /// A role would be assigned.
    Assign(NewAssignment),
    /// A role would be taken away.
    Revoke(AssignmentId),
    /// A vault would decide so.
    Authorization(VaultName, VaultAuthorization),
    /// A role would be another.
    Role(RoleId, RolePatch),
    /// Somebody would have that access policy.
    SetPolicy(VaultName, Principal, Permissions),
    /// Somebody would have none.
    DeletePolicy(VaultName, Principal),
}

impl Service {
    /// Why somebody may do something, or may not.
    ///
    /// # Errors
    /// When the caller may not see the roles there.
    pub async fn explain_access(&self, caller: &Caller, question: Question) -> Result<Answer, ServiceError> {
        let Question { identity, action, scope, address } = question;
        let (note, place) = (Note::default(), scope.clone());
        let resource = format!("{} {} at {scope}", identity.principal(), action.name());
        let work = |_: Permit<ops::RoleAssignmentsRead>| async {
            let policy = self.policy.now();
            let mut explanation = review::explain(&policy, &identity, action, &scope);
            explanation.misses.truncate(MISSES_MAX);
            let refuses = |address| !policy.admits(&identity, Origin::Address(address), action, &scope);
            let network_refuses = explanation.decision == Decision::Allowed && address.is_some_and(refuses);
            Ok(Answer { explanation, network_refuses })
        };
        self.plain(caller, resource, place, &note, work).await
    }

    /// Who may do something there, and by what: principals and groups, in order.
    ///
    /// # Errors
    /// When the caller may not see the roles there.
    pub async fn permitted_principals(
        &self,
        caller: &Caller,
        action: Action,
        scope: Scope,
        page: Page<Principal>,
    ) -> Result<Paged<(Principal, Vec<Source>)>, ServiceError> {
        let (note, place) = (Note::default(), scope.clone());
        let resource = format!("{} at {scope}", action.name());
        let work = |_: Permit<ops::RoleAssignmentsRead>| async {
            let policy = self.policy.now();
            let mut names = review::who_can(&policy, action, &scope);
            names.retain(|name| page.after.as_ref().is_none_or(|after| name > after));
            let size = usize::try_from(page.size).unwrap_or(usize::MAX);
            let more = names.len() > size;
            names.truncate(size);
            let with_sources = |name: Principal| {
                let found = sources(&policy, &Identity::alone(name.clone()), action, &scope);
                (name, found)
            };
            Ok(Paged { items: names.into_iter().map(with_sources).collect(), more })
        };
        self.plain(caller, resource, place, &note, work).await
    }

    /// What a change would make possible and impossible, and whether there is more than is shown.
    ///
    /// # Errors
    /// When the caller may not see all roles; [`Problem::NotFound`], [`Problem::Invalid`] for a change that
    /// cannot be.
    pub async fn preview_access(
        &self,
        caller: &Caller,
        proposal: Proposal,
    ) -> Result<(Vec<Difference>, bool), ServiceError> {
        let note = Note::default();
        let work = |_: Permit<ops::RoleAssignmentsRead>| async {
            let before = self.policy.now();
            let after = proposal.applied(&before)?;
            let mut found = review::differences(&before, &after);
            let truncated = found.len() > DIFFERENCES_MAX;
            found.truncate(DIFFERENCES_MAX);
            Ok((found, truncated))
        };
        self.plain(caller, proposal.to_string(), Scope::Service, &note, work).await
    }
}

impl Proposal {
    fn applied(&self, before: &Arc<Policy>) -> Result<Policy, ServiceError> {
        match self {
            Self::Assign(NewAssignment { principal, role, scope, .. }) => {
                known_role(before, *role)?;
                // No assignment has this id: ids are random.
                let id = VersionId::from_bytes([0; 16]);
                let (principal, scope) = (principal.clone(), scope.clone());
                let created = Timestamp(0);
                let row = AssignmentRow { id, principal, role: *role, scope, created, intent: 0, revision: 1 };
                Ok(before.with_assignment(row))
            }
            Self::Revoke(id) => {
                let missing = || Problem::NotFound { name: format!("roleAssignments/{id}") };
                before.assignment(*id).ok_or_else(missing)?;
                Ok(before.without_assignment(*id))
            }
            Self::Authorization(vault, authorization) => {
                let mut access = before.vault(vault).cloned().unwrap_or_default();
                access.authorization = *authorization;
                Ok(before.with_vault(vault.clone(), access))
            }
            Self::Role(id, patch) => {
                let missing = || Problem::NotFound { name: format!("roleDefinitions/{id}") };
                let role = before.definition(*id).ok_or_else(missing)?;
                if role.custom.is_none() {
                    let why = "a built-in role stays as it is".to_owned();
                    return Err(Problem::Invalid { field: "role_definition.name", why }.into());
                }
                Ok(before.with_definition(patch.of(role)))
            }
            Self::SetPolicy(vault, principal, permissions) => {
                let (vault, principal, permissions) = (vault.clone(), principal.clone(), *permissions);
                let (created, updated) = (Timestamp(0), Timestamp(0));
                let row = AccessPolicyRow { vault, principal, permissions, created, updated, intent: 0, revision: 1 };
                Ok(before.with_access_policy(row))
            }
            Self::DeletePolicy(vault, principal) => Ok(before.without_access_policy(vault, principal)),
        }
    }
}

impl std::fmt::Display for Proposal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Assign(NewAssignment { principal, role, scope, .. }) => {
                write!(f, "assign roleDefinitions/{role} at {scope} to {principal}")
            }
            Self::Revoke(id) => write!(f, "delete roleAssignments/{id}"),
            Self::Authorization(vault, authorization) => {
                write!(f, "vaults/{vault} authorization={}", authorization.name())
            }
            Self::Role(id, _) => write!(f, "update roleDefinitions/{id}"),
            Self::SetPolicy(vault, principal, _) => write!(f, "set the access policy of {principal} in vaults/{vault}"),
            Self::DeletePolicy(vault, principal) => {
                write!(f, "delete the access policy of {principal} in vaults/{vault}")
            }
        }
    }
}

fn known_role(policy: &Policy, role: RoleId) -> Result<(), Problem> {
    let why = || format!("roleDefinitions/{role} does not exist");
    policy.definition(role).map(drop).ok_or_else(|| Problem::Invalid { field: "role_assignment.role", why: why() })
}

impl Answer {
    /// Whether it may be done.
    #[must_use]
    pub fn is_permitted(&self) -> bool {
        self.explanation.why == Why::Permitted && !self.network_refuses
    }
}
