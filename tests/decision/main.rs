//! A decision allocates nothing, however many assignments there are. A test program of its own: it counts what its
//! threads allocate.

use std::sync::Arc;

use allocation_counter::measure;
use strongroom::{
    access::{Action, Decision, PolicyCell, VaultAccess, ops},
    model::{NetworkRules, Origin, Scope},
};

mod policy;

use policy::{BY_POLICIES, EACH, assignment, caller, parsed};

/// What is asked: by a role at one key, at an absent one, in a vault without roles, at other scopes; and by an access
/// policy of a group.
const QUESTIONS: [(Action, &str, Decision); 8] = [
    (Action::KeysSign, "vaults/vault-7/keys/key-4207", Decision::Allowed),
    (Action::KeysSign, "vaults/vault-7/keys/nobody", Decision::Refused),
    (Action::KeysSign, "vaults/elsewhere/keys/key-1", Decision::Refused),
    (Action::KeysSign, "vaults/vault-7/keys", Decision::Refused),
    (Action::VaultsRead, "vaults/vault-7", Decision::Refused),
    (Action::RoleAssignmentsRead, "/", Decision::Refused),
    (Action::KeysSign, "vaults/older/keys/k", Decision::Allowed),
    (Action::KeysDecrypt, "vaults/older/keys/k", Decision::Refused),
];

#[test]
fn what_is_counted_here_are_allocations() {
    let counted = measure(|| drop(std::hint::black_box(vec![7_u8; 64])));
    assert_eq!((counted.count_total, counted.bytes_total), (1, 64));
}

#[test]
fn a_decision_among_20_000_assignments_allocates_nothing() {
    let (policy, caller) = (policy::policy(), caller());
    assert!(policy.assignments_len() == 20_000 && policy.of_principal(caller.principal()).len() == 10_000);
    assert_eq!(policy.access_policies(&parsed(BY_POLICIES)).len(), 1024);
    for (action, place, expected) in QUESTIONS {
        let scope: Scope = parsed(place);
        let mut decided = None;
        let counted = measure(|| decided = Some(policy.decide(&caller, action, &scope)));
        assert_eq!((decided, counted.count_total), (Some(expected), 0), "{} {place}", action.name());
    }
}

/// A key of a vault that admits callers from some addresses only.
#[test]
fn nor_does_a_permit_nor_asking_it_again_after_another_change() {
    let rules = NetworkRules::new(false, false, vec![parsed("192.0.2.0/24"), parsed("10.0.0.0/8")]).expect("rules");
    let access = VaultAccess { network: rules, ..VaultAccess::default() };
    let policy = policy::policy().with_vault(parsed("vault-7"), access);
    let (cell, caller) = (Arc::new(PolicyCell::new(policy)), Arc::new(caller()));
    let origin = Origin::Address(parsed("10.1.2.3"));
    let permit = |scope: Scope| cell.permit::<ops::KeysSign>(&caller, origin, scope);
    let scope: Scope = parsed("vaults/vault-7/keys/key-4207");
    // Once in each thread, what shares the policy makes itself a place.
    permit(scope.clone()).expect("permitted");
    let mut permitted = None;
    let counted = measure(|| permitted = permit(scope).ok());
    assert_eq!(counted.count_total, 0);
    let permitted = permitted.expect("permitted");
    let other = assignment(2 * EACH, parsed("spiffe://example.org/new"), "vaults/vault-1");
    cell.set(cell.now().with_assignment(other));
    let mut holds = false;
    let counted = measure(|| holds = permitted.still_holds());
    assert_eq!((holds, counted.count_total), (true, 0));
}
