//! How many of each thing there can be. What decides who may do what is in memory and read at each start, so all of it
//! is bounded; whoever reaches a bound is told what to do instead.

use super::error::Problem;
use crate::{access::Policy, model::VaultName};

/// The most role assignments.
pub const ASSIGNMENTS_MAX: usize = 100_000;
/// The most roles beside the built-in ones.
pub const ROLES_MAX: usize = 5000;
/// The most access policies of one vault (Azure Key Vault's bound).
pub const POLICIES_MAX: usize = 1024;

fn full(reason: &'static str, why: String) -> Result<(), Problem> {
    Err(Problem::Precondition { reason, why })
}

/// Whether there is room for one more role assignment.
pub(super) fn check_assignments(policy: &Policy) -> Result<(), Problem> {
    if policy.assignments_len() < ASSIGNMENTS_MAX {
        return Ok(());
    }
    let why = format!(
        "there are {ASSIGNMENTS_MAX} role assignments, and no more can be: take away some that nobody needs, and \
         assign to groups or at wider scopes"
    );
    full("TOO_MANY_ASSIGNMENTS", why)
}

/// Whether there is room for one more role.
pub(super) fn check_roles(policy: &Policy) -> Result<(), Problem> {
    if policy.custom_len() < ROLES_MAX {
        return Ok(());
    }
    let why = format!(
        "there are {ROLES_MAX} roles beside the built-in ones, and no more can be: delete some that nobody has, or \
         assign one role at several scopes"
    );
    full("TOO_MANY_ROLES", why)
}

/// Whether there is room for one more access policy in that vault.
pub(super) fn check_policies(policy: &Policy, vault: &VaultName) -> Result<(), Problem> {
    if policy.access_policies(vault).len() < POLICIES_MAX {
        return Ok(());
    }
    let why = format!(
        "vaults/{vault} has {POLICIES_MAX} access policies, and no more can be: give them to groups, or have the vault \
         decide by roles"
    );
    full("TOO_MANY_POLICIES", why)
}

/// Whether there is room for one more token of our own, where `count` are kept and `max` can be.
pub(super) fn check_tokens(count: usize, max: usize) -> Result<(), Problem> {
    if count < max {
        return Ok(());
    }
    let why = format!(
        "{max} tokens are in force, and no more can be: revoke some, wait until some have expired, or raise \
         tokens.issued_max"
    );
    full("TOO_MANY_TOKENS", why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        access::{RoleDefinition, Rows, roles},
        model::{
            AccessPolicyRow, AssignmentId, AssignmentRow, ObjectType, Permissions, RoleId, RolePatterns, Scope,
            Timestamp,
        },
    };

    fn id(n: usize) -> [u8; 16] {
        u128::try_from(n).expect("fits").to_be_bytes()
    }

    fn assignments(count: usize) -> Policy {
        let role = roles::built_in_by_name("Key Vault Reader").expect("it is built in").id;
        let row = |n| AssignmentRow {
            id: AssignmentId::from_bytes(id(n)),
            principal: format!("a:{}", n % 1000).parse().expect("a principal"),
            role,
            scope: Scope::Service,
            created: Timestamp(0),
            intent: 0,
            revision: 1,
        };
        Policy::new(1, Rows { assignments: (0..count).map(row).collect(), ..Rows::default() })
    }

    fn custom(count: usize) -> Policy {
        let role = |n| RoleDefinition {
            id: RoleId::from_bytes(id(n)),
            name: format!("role {n}"),
            description: String::new(),
            patterns: RolePatterns::default(),
            assignable_scopes: vec![Scope::Service],
            custom: None,
        };
        Policy::new(1, Rows { definitions: (0..count).map(role).collect(), ..Rows::default() })
    }

    fn access_policies(count: usize) -> Policy {
        let mut permissions = Permissions::default();
        permissions.add(ObjectType::Keys, "get").expect("a permission");
        let row = |n| AccessPolicyRow {
            vault: "full".parse().expect("a vault"),
            principal: format!("a:{n}").parse().expect("a principal"),
            permissions,
            created: Timestamp(0),
            updated: Timestamp(0),
            intent: 0,
            revision: 1,
        };
        Policy::new(1, Rows { policies: (0..count).map(row).collect(), ..Rows::default() })
    }

    /// Reason and words of a refusal.
    fn refused(result: Result<(), Problem>) -> (&'static str, String) {
        let problem = result.expect_err("there is no room");
        (problem.reason(), problem.to_string())
    }

    #[test]
    fn the_hundred_thousandth_assignment_is_the_last() {
        assert!(check_assignments(&assignments(ASSIGNMENTS_MAX - 1)).is_ok());
        let (reason, said) = refused(check_assignments(&assignments(ASSIGNMENTS_MAX)));
        assert_eq!(reason, "TOO_MANY_ASSIGNMENTS");
        assert!(said.contains("100000 role assignments") && said.contains("assign to groups"), "{said}");
    }

    #[test]
    fn the_five_thousandth_role_is_the_last() {
        assert!(check_roles(&custom(ROLES_MAX - 1)).is_ok());
        let (reason, said) = refused(check_roles(&custom(ROLES_MAX)));
        assert_eq!(reason, "TOO_MANY_ROLES");
        assert!(said.contains("5000 roles") && said.contains("delete some that nobody has"), "{said}");
    }

    #[test]
    fn a_vault_has_1024_access_policies_and_others_are_not_kept_from_theirs() {
        let (full, other) = ("full".parse().expect("a vault"), "other".parse().expect("a vault"));
        assert!(check_policies(&access_policies(POLICIES_MAX - 1), &full).is_ok());
        let policy = access_policies(POLICIES_MAX);
        let (reason, said) = refused(check_policies(&policy, &full));
        assert_eq!(reason, "TOO_MANY_POLICIES");
        assert!(said.contains("vaults/full has 1024 access policies") && said.contains("groups"), "{said}");
        assert!(check_policies(&policy, &other).is_ok());
    }
}
