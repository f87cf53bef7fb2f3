//! Questions about access, for people: why somebody may do something or may not, who may do it, and what another
//! policy would change. Slow, obvious, and over rows: nothing is decided by it.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    action::{Action, Plane, Rights},
    policy::{Decision, Policy},
    roles::RoleDefinition,
    source::{Source, sources},
};
use crate::model::{AssignmentRow, Identity, Principal, Scope, VaultAuthorization, VaultName};

/// Why a decision is as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Roles or access policies permit it.
    Permitted,
    /// Neither the principal nor any of its groups has a role or an access policy.
    Nothing,
    /// It has roles at that scope or wider ones, and none of them has the action.
    NotInRole,
    /// A role of it has the action, but only at other scopes.
    OtherScope,
    /// The vault decides by access policies, and none of them permits it; roles do not count there.
    NotInAccessPolicy,
}

/// A role that somebody has and that does not permit what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Miss {
    /// The assignment.
    pub row: Arc<AssignmentRow>,
    /// Its role.
    pub role: Arc<RoleDefinition>,
    /// Why it does not: [`Why::NotInRole`], [`Why::OtherScope`] or [`Why::NotInAccessPolicy`].
    pub why: Why,
}

/// The answer to "why?".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What is decided.
    pub decision: Decision,
    /// Why.
    pub why: Why,
    /// What permits it.
    pub sources: Vec<Source>,
    /// What does not, the nearest first.
    pub misses: Vec<Miss>,
}

/// Why somebody may do something there, or may not.
#[must_use]
pub fn explain(policy: &Policy, identity: &Identity, action: Action, scope: &Scope) -> Explanation {
    let (decision, sources) = (policy.decide(identity, action, scope), sources(policy, identity, action, scope));
    let by_policies = decides_by_policies(policy, action, scope);
    let mut misses: Vec<Miss> =
        assigned(policy, identity).filter_map(|row| miss(policy, row, action, scope, by_policies)).collect();
    misses.sort_by_key(|miss| (rank(miss.why), miss.row.id));
    let why = match decision {
        Decision::Allowed => Why::Permitted,
        Decision::Refused if by_policies => Why::NotInAccessPolicy,
        Decision::Refused => misses.first().map_or(Why::Nothing, |nearest| nearest.why),
    };
    Explanation { decision, why, sources, misses }
}

fn assigned<'a>(policy: &'a Policy, identity: &'a Identity) -> impl Iterator<Item = &'a Arc<AssignmentRow>> {
    identity.names().flat_map(|name| policy.of_principal(name))
}

fn decides_by_policies(policy: &Policy, action: Action, scope: &Scope) -> bool {
    let access = scope.vault().and_then(|vault| policy.vault(vault));
    action.plane() == Plane::Data
        && access.is_some_and(|access| access.authorization == VaultAuthorization::AccessPolicies)
}

/// Why this assignment does not permit it; `None` when it does.
fn miss(policy: &Policy, row: &Arc<AssignmentRow>, action: Action, scope: &Scope, by_policies: bool) -> Option<Miss> {
    let role = Arc::clone(policy.definition(row.role)?);
    let why = match (role.rights().has(action), row.scope.contains(scope)) {
        (true, true) if by_policies => Why::NotInAccessPolicy,
        (true, true) => return None,
        (true, false) => Why::OtherScope,
        (false, _) => Why::NotInRole,
    };
    Some(Miss { row: Arc::clone(row), role, why })
}

/// A role that has the action is nearer than one that has not.
const fn rank(why: Why) -> u8 {
    match why {
        Why::Permitted | Why::NotInAccessPolicy => 0,
        Why::OtherScope => 1,
        Why::NotInRole | Why::Nothing => 2,
    }
}

/// Everybody who may do something there, in order: principals and groups that have a role or an access policy
/// themselves ([`sources`] says which). Who is in a group is not known here.
#[must_use]
pub fn who_can(policy: &Policy, action: Action, scope: &Scope) -> Vec<Principal> {
    let vault = scope.vault().and_then(|vault| policy.vault(vault));
    let mut names: BTreeSet<&Principal> = policy.assignments().map(|row| &row.principal).collect();
    names.extend(vault.into_iter().flat_map(|access| access.policies.keys()));
    let may = |name: &&Principal| policy.allows(&Identity::alone(Principal::clone(name)), action, scope);
    names.into_iter().filter(may).cloned().collect()
}

/// What somebody gains and loses at a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Who: a principal or a group.
    pub principal: Principal,
    /// Where, and within it.
    pub scope: Scope,
    /// What becomes possible.
    pub gained: Rights,
    /// What becomes impossible.
    pub lost: Rights,
}

/// What changes from one policy to another for those who are named in either, in order. A scope is shown when
/// something changes there that does not change at the scope around it.
#[must_use]
pub fn differences(before: &Policy, after: &Policy) -> Vec<Difference> {
    let vaults = changed_vaults(before, after);
    let names: BTreeSet<&Principal> = [before, after].into_iter().flat_map(|policy| named(policy, &vaults)).collect();
    names.into_iter().flat_map(|name| of_principal(before, after, name, &vaults)).collect()
}

/// The vaults that decide otherwise than before.
fn changed_vaults(before: &Policy, after: &Policy) -> BTreeSet<VaultName> {
    let names = before.vaults().chain(after.vaults()).map(|(name, _)| name);
    names.filter(|name| before.vault(name) != after.vault(name)).cloned().collect()
}

/// Who may be concerned: whoever has a role, and whoever has an access policy of one of these vaults.
fn named<'a>(policy: &'a Policy, vaults: &'a BTreeSet<VaultName>) -> impl Iterator<Item = &'a Principal> {
    let by_policies = vaults.iter().filter_map(|vault| policy.vault(vault)).flat_map(|access| access.policies.keys());
    policy.assignments().map(|row| &row.principal).chain(by_policies)
}

fn of_principal(before: &Policy, after: &Policy, name: &Principal, vaults: &BTreeSet<VaultName>) -> Vec<Difference> {
    let identity = Identity::alone(name.clone());
    let rows = before.of_principal(name).iter().chain(after.of_principal(name));
    // A wider scope comes before those within it.
    let mut scopes: BTreeSet<Scope> = rows.map(|row| row.scope.clone()).collect();
    scopes.extend(vaults.iter().cloned().map(Scope::Vault));
    let changes = |scope: &Scope| {
        let (old, new) = (before.rights(&identity, scope), after.rights(&identity, scope));
        (new.without(old), old.without(new))
    };
    let mut found: Vec<Difference> = Vec::new();
    for scope in scopes {
        let (gained, lost) = changes(&scope);
        let around = scope.parent().map_or((Rights::NONE, Rights::NONE), |wider| changes(&wider));
        let (gained, lost) = (gained.without(around.0), lost.without(around.1));
        if !(gained.is_empty() && lost.is_empty()) {
            found.push(Difference { principal: name.clone(), scope, gained, lost });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::access::{
        VaultAccess,
        fixtures::{assignment, at, in_groups, policy, who},
    };

    const USER: &str = "Key Vault Crypto User";
    const READER: &str = "Key Vault Reader";

    fn why(policy: &Policy, identity: &Identity, action: Action, scope: &str) -> Why {
        explain(policy, identity, action, &at(scope)).why
    }

    #[test]
    fn a_refusal_is_explained_by_what_is_nearest() {
        let given = policy(&[("a:one", USER, "vaults/first/keys/k"), ("a:one", READER, "vaults/first")]);
        let one = who("a:one");
        assert_eq!(why(&given, &one, Action::KeysSign, "vaults/first/keys/k"), Why::Permitted);
        assert_eq!(why(&given, &one, Action::KeysSign, "vaults/first/keys/other"), Why::OtherScope);
        assert_eq!(why(&given, &one, Action::KeysDelete, "vaults/first/keys/k"), Why::NotInRole);
        assert_eq!(why(&given, &who("a:two"), Action::KeysSign, "vaults/first/keys/k"), Why::Nothing);
        let explained = explain(&given, &one, Action::KeysSign, &at("vaults/first/keys/other"));
        assert_eq!(explained.misses.iter().map(|miss| miss.why).collect::<Vec<_>>(), [Why::OtherScope, Why::NotInRole]);
        assert!(explained.sources.is_empty() && explained.decision == Decision::Refused);
    }

    #[test]
    fn where_access_policies_decide_roles_do_not_explain() {
        let access = VaultAccess {
            authorization: VaultAuthorization::AccessPolicies,
            policies: HashMap::from([("a:two".parse().expect("right"), Rights::of(Action::KeysSign))]),
            ..VaultAccess::default()
        };
        let given = policy(&[("a:one", USER, "/")]).with_vault("first".parse().expect("right"), access);
        assert_eq!(why(&given, &who("a:one"), Action::KeysSign, "vaults/first/keys/k"), Why::NotInAccessPolicy);
        assert_eq!(why(&given, &who("a:one"), Action::KeysSign, "vaults/other/keys/k"), Why::Permitted);
        let two = explain(&given, &who("a:two"), Action::KeysSign, &at("vaults/first/keys/k"));
        assert_eq!(two.sources, [Source::AccessPolicy { principal: "a:two".parse().expect("right") }]);
        let can = who_can(&given, Action::KeysSign, &at("vaults/first/keys/k"));
        assert_eq!(can.iter().map(Principal::as_str).collect::<Vec<_>>(), ["a:two"]);
    }

    #[test]
    fn who_can_names_groups_and_principals_at_wider_scopes() {
        let given = policy(&[
            ("group:g", USER, "vaults/first"),
            ("a:one", USER, "vaults/first/keys/k"),
            ("a:admin", "administrator", "/"),
            ("a:reader", READER, "/"),
        ]);
        let can = who_can(&given, Action::KeysUnwrap, &at("vaults/first/keys/k"));
        assert_eq!(can.iter().map(Principal::as_str).collect::<Vec<_>>(), ["a:admin", "a:one", "group:g"]);
        assert_eq!(
            why(&given, &in_groups("a:x", &["group:g"]), Action::KeysUnwrap, "vaults/first/keys/k"),
            Why::Permitted
        );
    }

    #[test]
    fn a_difference_is_shown_at_the_widest_scope_where_it_holds() {
        let before = policy(&[("a:one", READER, "vaults/first"), ("a:one", USER, "vaults/first/keys/k")]);
        let after = before.with_assignment(assignment(9, "a:one", USER, "vaults/first"));
        let found = differences(&before, &after);
        assert_eq!(found.len(), 1, "the key's scope changes nothing: {found:?}");
        assert_eq!((found[0].scope.to_string().as_str(), found[0].lost), ("vaults/first", Rights::NONE));
        assert!(
            found[0].gained.has(Action::KeysSign) && !found[0].gained.has(Action::KeysRead),
            "what he had is not gained"
        );
        let back = differences(&after, &before);
        assert_eq!((back[0].gained, back[0].lost), (Rights::NONE, found[0].gained));
        assert!(differences(&before, &before).is_empty());
    }

    #[test]
    fn a_vault_that_turns_to_access_policies_takes_what_roles_gave() {
        let before = policy(&[("a:one", USER, "/"), ("a:two", USER, "vaults/other")]);
        let access = VaultAccess { authorization: VaultAuthorization::AccessPolicies, ..VaultAccess::default() };
        let after = before.with_vault("first".parse().expect("right"), access);
        let found = differences(&before, &after);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].principal.as_str(), found[0].scope.to_string().as_str()), ("a:one", "vaults/first"));
        assert!(found[0].lost.has(Action::KeysSign) && found[0].gained.is_empty());
    }
}
