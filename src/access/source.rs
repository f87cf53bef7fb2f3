//! By which rows a right is held. For people who ask why: it walks the rows and compares words, and shares nothing
//! with the quick way of deciding, so that each can be held against the other.

use std::sync::Arc;

use super::{
    action::{Action, Plane, Rights},
    policy::Policy,
    roles::RoleDefinition,
};
use crate::model::{AssignmentRow, Identity, Principal, Scope, VaultAuthorization};

/// What gives a right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A role that is assigned at that scope or a wider one, to the principal or to a group it is in.
    Assignment {
        /// The assignment.
        row: Arc<AssignmentRow>,
        /// Its role.
        role: Arc<RoleDefinition>,
    },
    /// An access policy of the vault.
    AccessPolicy {
        /// Whose: the principal's or a group's.
        principal: Principal,
    },
}

/// Everything that gives somebody a right at a scope; nothing when he has it not.
#[must_use]
pub fn sources(policy: &Policy, identity: &Identity, action: Action, scope: &Scope) -> Vec<Source> {
    let access = scope.vault().and_then(|vault| policy.vault(vault));
    let by_policies = access.filter(|access| access.authorization == VaultAuthorization::AccessPolicies);
    if let (Some(access), Plane::Data) = (by_policies, action.plane()) {
        let given = identity.names().filter(|name| access.policies.get(*name).is_some_and(|rights| rights.has(action)));
        return given.map(|name| Source::AccessPolicy { principal: name.clone() }).collect();
    }
    let mut found: Vec<Source> = policy
        .assignments()
        .filter(|row| identity.names().any(|name| *name == row.principal) && row.scope.contains(scope))
        .filter_map(|row| Some((row, policy.definition(row.role)?)))
        .filter(|(_, role)| Rights::has(role.rights(), action))
        .map(|(row, role)| Source::Assignment { row: Arc::clone(row), role: Arc::clone(role) })
        .collect();
    found.sort_by_key(|source| match source {
        Source::Assignment { row, .. } => Some(row.id),
        Source::AccessPolicy { .. } => None,
    });
    found
}
