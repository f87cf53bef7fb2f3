//! What the tests of access are made with.

use super::{Policy, VaultAccess, policy::Rows, roles};
use crate::model::{
    AccessPolicyRow, AssignmentId, AssignmentRow, Identity, Lease, ObjectType, Permissions, RoleId, Scope, Timestamp,
    VaultAuthorization, VaultName,
};

pub(super) fn at(scope: &str) -> Scope {
    scope.parse().expect("a scope")
}

pub(super) fn who(name: &str) -> Identity {
    Identity::alone(name.parse().expect("a principal"))
}

pub(super) fn in_groups(name: &str, groups: &[&str]) -> Identity {
    let groups = groups.iter().map(|group| group.parse().expect("a group")).collect();
    Identity::new(name.parse().expect("a principal"), groups, Lease::until(None))
}

pub(super) fn role(name: &str) -> RoleId {
    roles::built_in_by_name(name).unwrap_or_else(|| panic!("no role {name}")).id
}

/// An assignment whose id is that number.
pub(super) fn assignment(n: u128, principal: &str, name: &str, scope: &str) -> AssignmentRow {
    AssignmentRow {
        id: AssignmentId::from_bytes(n.to_be_bytes()),
        principal: principal.parse().expect("a principal"),
        role: role(name),
        scope: at(scope),
        created: Timestamp(0),
        intent: 0,
        revision: 1,
    }
}

/// What somebody may do with keys by an access policy of that vault.
pub(super) fn access_policy(vault: &str, principal: &str, given: &[&str]) -> AccessPolicyRow {
    let mut permissions = Permissions::default();
    for name in given {
        permissions.add(ObjectType::Keys, name).expect("a permission");
    }
    AccessPolicyRow {
        vault: vault.parse().expect("a vault"),
        principal: principal.parse().expect("a principal"),
        permissions,
        created: Timestamp(0),
        updated: Timestamp(0),
        intent: 0,
        revision: 1,
    }
}

/// A policy of assignments: principal, role, scope; their ids are their places.
pub(super) fn policy(given: &[(&str, &str, &str)]) -> Policy {
    let rows = given.iter().zip(0..).map(|((principal, role, scope), n)| assignment(n, principal, role, scope));
    Policy::new(1, Rows { assignments: rows.collect(), ..Rows::default() })
}

/// The policy with that vault deciding by its access policies.
pub(super) fn decided_by_policies(policy: Policy, vault: &str) -> Policy {
    let vault: VaultName = vault.parse().expect("a name");
    let access = policy.vault(&vault).cloned().unwrap_or_default();
    let access = VaultAccess { authorization: VaultAuthorization::AccessPolicies, ..access };
    policy.with_vault(vault, access)
}
