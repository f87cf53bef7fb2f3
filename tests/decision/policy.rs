//! A large policy and somebody whom half of it concerns, for the test and the benchmark of decisions.

use std::collections::HashMap;

use strongroom::{
    access::{Policy, Rows, VaultAccess, roles},
    model::{
        AccessPolicyRow, AssignmentId, AssignmentRow, Identity, Lease, ObjectType, Permissions, Principal, Timestamp,
        VaultAuthorization,
    },
};

/// Assignments of the caller, and of all others together.
pub(crate) const EACH: u128 = 10_000;
/// The vault that decides by access policies, of which it has as many as it can.
pub(crate) const BY_POLICIES: &str = "older";

pub(crate) fn parsed<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("right")
}

/// An assignment whose id is that number.
pub(crate) fn assignment(n: u128, principal: Principal, scope: &str) -> AssignmentRow {
    let role = roles::built_in_by_name("Key Vault Crypto User").expect("it is built in").id;
    AssignmentRow {
        id: AssignmentId::from_bytes(n.to_be_bytes()),
        principal,
        role,
        scope: parsed(scope),
        created: Timestamp(0),
        intent: 0,
        revision: 1,
    }
}

/// Somebody in ten groups.
pub(crate) fn caller() -> Identity {
    let groups = (0..10).map(|n| parsed(&format!("group:oidc:https://issuer.example#team-{n}"))).collect();
    Identity::new(parsed("spiffe://example.org/ns/payments/sa/signer"), groups, Lease::until(None))
}

/// 20,000 assignments, half of them the caller's, at single keys of a hundred vaults; and [`BY_POLICIES`].
pub(crate) fn policy() -> Policy {
    let caller = caller();
    let own = (0..EACH).map(|n| {
        let scope = format!("vaults/vault-{}/keys/key-{n}", n % 100);
        assignment(n, caller.principal().clone(), &scope)
    });
    let others = (EACH..2 * EACH).map(|n| {
        let scope = format!("vaults/vault-{}", n % 100);
        assignment(n, parsed(&format!("spiffe://example.org/other/{n}")), &scope)
    });
    let older = VaultAccess { authorization: VaultAuthorization::AccessPolicies, ..VaultAccess::default() };
    Policy::new(
        1,
        Rows {
            assignments: own.chain(others).collect(),
            vaults: HashMap::from([(parsed(BY_POLICIES), older)]),
            policies: access_policies(&caller),
            ..Rows::default()
        },
    )
}

/// Of one of the caller's groups, and of others.
fn access_policies(caller: &Identity) -> Vec<AccessPolicyRow> {
    let mut permissions = Permissions::default();
    permissions.add(ObjectType::Keys, "sign").expect("a permission");
    let others = (1..1024).map(|n| parsed(&format!("spiffe://example.org/other/{n}")));
    let all = caller.groups().iter().take(1).cloned().chain(others);
    all.map(|principal| AccessPolicyRow {
        vault: parsed(BY_POLICIES),
        principal,
        permissions,
        created: Timestamp(0),
        updated: Timestamp(0),
        intent: 0,
        revision: 1,
    })
    .collect()
}
