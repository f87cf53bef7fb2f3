//! The policy against an oracle that is slow and obvious, and what it must say of particular cases.

use std::collections::HashMap;

use proptest::prelude::*;

use super::{fixtures::*, roles::rights, source::sources, *};
use crate::model::{AssignmentRow, Identity, ObjectType, Permissions, RoleId, RolePatterns, Scope, VaultAuthorization};

#[test]
fn nobody_may_do_anything_without_a_role() {
    let policy = Policy::default();
    for action in Action::ALL {
        assert!(!policy.allows(&who("spiffe://a/b"), action, &Scope::Service), "{}", action.name());
        assert!(!policy.allows_anywhere(&who("spiffe://a/b"), action), "{}", action.name());
    }
}

#[test]
fn administrators_may_do_everything_within_their_scope() {
    let policy = policy(&[("a:admin", "administrator", "/"), ("a:owner", "administrator", "vaults/dev")]);
    for action in Action::ALL {
        for scope in ["/", "vaults/dev", "vaults/dev/keys", "vaults/dev/keys/k", "vaults/dev/secrets/s"] {
            assert!(policy.allows(&who("a:admin"), action, &at(scope)));
            assert_eq!(policy.allows(&who("a:owner"), action, &at(scope)), scope != "/", "{scope}");
        }
        assert!(!policy.allows(&who("a:owner"), action, &at("vaults/other")));
    }
}

#[test]
fn a_right_at_one_key_is_for_that_key_only() {
    let policy = policy(&[("a:ci", "Key Vault Crypto User", "vaults/dev/keys/Release")]);
    let ci = who("a:ci");
    assert!(policy.allows(&ci, Action::KeysSign, &at("vaults/dev/keys/release")));
    for scope in [
        "/",
        "vaults/dev",
        "vaults/dev/keys",
        "vaults/dev/keys/other",
        "vaults/dev/secrets/release",
        "vaults/other/keys/release",
    ] {
        assert!(!policy.allows(&ci, Action::KeysSign, &at(scope)), "{scope}");
    }
    assert!(policy.allows_anywhere(&ci, Action::RandomGenerate));
    assert!(!policy.allows(&ci, Action::RandomGenerate, &Scope::Service));
}

#[test]
fn a_group_gives_its_rights_to_who_is_in_it() {
    let policy =
        policy(&[("g:ops", "Key Vault Crypto User", "vaults/dev/keys"), ("a:x", "Key Vault Reader", "vaults/dev")]);
    let member = in_groups("a:x", &["g:others", "g:ops"]);
    assert!(policy.allows(&member, Action::KeysSign, &at("vaults/dev/keys/k")));
    assert!(policy.allows(&member, Action::VaultsRead, &at("vaults/dev")));
    assert!(!policy.allows(&who("a:x"), Action::KeysSign, &at("vaults/dev/keys/k")));
}

#[test]
fn what_is_not_there_is_told_to_those_who_could_list_it_and_to_those_named_there() {
    let policy = policy(&[
        ("a:user", "Key Vault Crypto User", "vaults/dev"),
        ("a:one", "Key Vault Crypto User", "vaults/dev/keys/k"),
        ("a:release", "Key Vault Crypto Service Release User", "vaults/dev"),
        ("a:admin", "administrator", "/"),
    ]);
    let knows = |name: &str, scope: &str| policy.may_know(&who(name), &at(scope));
    assert!(
        knows("a:user", "vaults/dev/keys/k") && knows("a:user", "vaults/dev") && knows("a:user", "vaults/dev/keys")
    );
    assert!(!knows("a:user", "vaults/other") && !knows("a:user", "vaults/other/keys/k"));
    assert!(
        knows("a:one", "vaults/dev/keys/K") && !knows("a:one", "vaults/dev/keys/l") && !knows("a:one", "vaults/dev")
    );
    assert!(!knows("a:release", "vaults/dev/keys/k"), "a right without a list tells of nothing");
    assert!(knows("a:admin", "vaults/other") && knows("a:admin", "vaults/other/keys/k"));
    assert!(!knows("a:stranger", "vaults/dev/keys/k"));
}

#[test]
fn nobody_gives_what_administers_without_holding_it() {
    let policy = policy(&[
        ("a:admin", "administrator", "/"),
        ("a:owner", "administrator", "vaults/dev"),
        ("a:access", "Key Vault Data Access Administrator", "vaults/dev"),
        ("a:contributor", "Key Vault Contributor", "/"),
    ]);
    let lacks = |name: &str, given: &str, scope: &str| {
        policy.lacks_to_give(&who(name), policy.role_rights(role(given)), &at(scope))
    };
    for given in ["administrator", "Key Vault Contributor", "Key Vault Crypto Officer"] {
        assert!(lacks("a:admin", given, "/").is_empty() && lacks("a:owner", given, "vaults/dev/keys").is_empty());
    }
    assert_eq!(lacks("a:owner", "administrator", "vaults/other"), Rights::ADMINISTRATIVE);
    assert!(lacks("a:access", "Key Vault Administrator", "vaults/dev").is_empty());
    assert!(
        lacks("a:access", "Key Vault Data Access Administrator", "vaults/dev").has(Action::RoleAssignmentsDelegate)
    );
    assert!(lacks("a:contributor", "Key Vault Contributor", "/").has(Action::RoleAssignmentsDelegate));
}

#[test]
fn a_service_is_administered_while_somebody_may_give_everything() {
    let given = [
        ("a:admin", "administrator", "/"),
        ("a:owner", "administrator", "vaults/dev"),
        ("a:c", "Key Vault Contributor", "/"),
    ];
    let policy = policy(&given);
    assert!(policy.is_administered());
    assert!(policy.without_assignment(assignment(1, "a:x", "administrator", "/").id).is_administered());
    assert!(!policy.without_assignment(assignment(0, "a:x", "administrator", "/").id).is_administered());
}

#[test]
fn a_vault_with_access_policies_asks_nobody_else_who_uses_it() {
    let policy = policy(&[("a:admin", "administrator", "/"), ("a:user", "Key Vault Crypto User", "vaults/dev")]);
    let policy = decided_by_policies(policy, "dev").with_access_policy(access_policy("dev", "g:signers", &["sign"]));
    let key = at("vaults/dev/keys/k");
    assert!(
        !policy.allows(&who("a:admin"), Action::KeysSign, &key)
            && !policy.allows(&who("a:user"), Action::KeysSign, &key)
    );
    assert!(policy.allows(&who("a:admin"), Action::VaultsUpdate, &at("vaults/dev")));
    let signer = in_groups("a:s", &["g:signers"]);
    assert!(policy.allows(&signer, Action::KeysSign, &key) && !policy.allows(&signer, Action::KeysVerify, &key));
    assert!(!policy.allows(&signer, Action::KeysSign, &at("vaults/other/keys/k")));
    assert!(policy.allows(&who("a:admin"), Action::KeysSign, &at("vaults/other/keys/k")));
}

/// The policy with that vault deciding by its access policies.
fn decided_by_policies(policy: Policy, vault: &str) -> Policy {
    let vault: crate::model::VaultName = vault.parse().expect("a name");
    let access = policy.vault(&vault).cloned().unwrap_or_default();
    let access = VaultAccess { authorization: VaultAuthorization::AccessPolicies, ..access };
    policy.with_vault(vault, access)
}

#[test]
fn permissions_come_to_the_actions_that_need_no_others() {
    let rights = |given: &[&str]| policy::rights_of(&access_policy("dev", "a:x", given).permissions).to_string();
    assert_eq!(rights(&["get"]), "keys.read", "an access policy parts get from list");
    assert_eq!(rights(&["wrapKey"]), "keys.wrap, dataKeys.generateWrapped");
    assert_eq!(
        rights(&["wrapKey", "unwrapKey"]),
        "keys.wrap, keys.unwrap, dataKeys.generate, dataKeys.generateWrapped"
    );
    assert_eq!(rights(&["backup", "purge"]), "");
    let all: Rights = Action::ALL.into_iter().filter(|action| !action.policy().is_empty()).collect();
    assert_eq!(rights(&["all"]), all.to_string());
}

// ---- The oracle. It shares nothing with what it judges but the rows and the table of actions.

/// What a random policy is made of.
#[derive(Clone, Debug)]
struct World {
    definitions: Vec<RoleDefinition>,
    assignments: Vec<AssignmentRow>,
    /// The vault `policies` decides by access policies: who has which permissions with keys, once for each.
    policies: HashMap<String, Vec<&'static str>>,
}

/// `*` by trying every length: exponential, and plain.
fn like(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => (0..=name.len()).any(|skipped| like(rest, &name[skipped..])),
        Some((first, rest)) => name.first().is_some_and(|c| c.eq_ignore_ascii_case(first)) && like(rest, &name[1..]),
    }
}

fn role_permits(patterns: &RolePatterns, action: Action) -> bool {
    let data = action.plane() == Plane::Data;
    let texts = |list: &[crate::model::ActionPattern]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    let given = texts(if data { &patterns.data_actions } else { &patterns.actions });
    let taken = texts(if data { &patterns.not_data_actions } else { &patterns.not_actions });
    let hsm = |list: &[crate::model::ActionPattern]| {
        let mut list = texts(list);
        list.retain(|text| text.to_lowercase().starts_with("microsoft.keyvault/managedhsm/"));
        list
    };
    let (hsm_given, hsm_taken) = (hsm(&patterns.data_actions), hsm(&patterns.not_data_actions));
    let any = |list: &[String], name: &str| list.iter().any(|pattern| like(pattern.as_bytes(), name.as_bytes()));
    let hsm_names: Vec<String> =
        action.managed_hsm().iter().map(|name| format!("Microsoft.KeyVault/managedHsm/{name}")).collect();
    let azure: Vec<String> = action.azure().iter().map(ToString::to_string).collect();
    let mut ways = vec![any(&given, action.name())];
    ways.push(!azure.is_empty() && !azure.iter().any(|name| !any(&given, name)));
    ways.push(!hsm_names.is_empty() && !hsm_names.iter().any(|name| !any(&hsm_given, name)));
    let back = any(&taken, action.name())
        || azure.iter().any(|name| any(&taken, name))
        || hsm_names.iter().any(|name| any(&hsm_taken, name));
    ways.contains(&true) && !back
}

impl World {
    fn role(&self, id: RoleId) -> Option<RolePatterns> {
        let built_in = roles::built_in().iter().map(|role| (**role).clone());
        built_in.chain(self.definitions.clone()).find(|role| role.id == id).map(|role| role.patterns)
    }

    /// By the words of scopes: one is within another when its path begins with the other's.
    fn allows(&self, names: &[String], action: Action, scope: &str) -> bool {
        let path = |text: &str| -> Vec<String> {
            text.to_lowercase().split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect()
        };
        let asked = path(scope);
        if asked.get(1).is_some_and(|vault| vault == "policies") && action.plane() == Plane::Data {
            return names.iter().filter_map(|name| self.policies.get(name)).any(|given| {
                let has = |needed: &str| {
                    let (kind, name) = needed.split_once('/').expect("{type}/{permission}");
                    kind == "keys" && (given.contains(&"all") || given.contains(&name))
                };
                !action.policy().is_empty() && action.policy().iter().all(|needed| has(needed))
            });
        }
        self.assignments.iter().any(|row| {
            names.contains(&row.principal.to_string())
                && asked.starts_with(&path(&row.scope.to_string()))
                && self.role(row.role).is_some_and(|patterns| role_permits(&patterns, action))
        })
    }

    fn policy(&self) -> Policy {
        let policies = self.policies.iter().map(|(who, given)| access_policy("policies", who, given)).collect();
        let (definitions, assignments) = (self.definitions.clone(), self.assignments.clone());
        decided_by_policies(Policy::new(1, Rows { definitions, assignments, policies, ..Rows::default() }), "policies")
    }
}

fn names() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a:1", "a:2", "a:3", "g:1", "g:2"]).prop_map(str::to_owned)
}

fn scopes() -> impl Strategy<Value = String> {
    let vault = prop::sample::select(vec!["dev", "prod", "policies"]);
    let kind = prop::sample::select(vec!["keys", "secrets", "certificates"]);
    let name = prop::sample::select(vec!["a", "A", "b-1", "B-1"]);
    (vault, kind, name, 0..4).prop_map(|(vault, kind, name, depth)| match depth {
        0 => "/".to_owned(),
        1 => format!("vaults/{vault}"),
        2 => format!("vaults/{vault}/{kind}"),
        _ => format!("vaults/{vault}/{kind}/{name}"),
    })
}

fn actions() -> impl Strategy<Value = Action> {
    prop::sample::select(Action::ALL.to_vec())
}

/// Names of actions with a part of them, or all of it, replaced by a star.
fn patterns() -> impl Strategy<Value = Vec<crate::model::ActionPattern>> {
    let one = (actions(), 0..3, any::<prop::sample::Index>(), any::<bool>()).prop_map(|(action, face, cut, upper)| {
        let hsm = action.managed_hsm().iter().map(|name| format!("Microsoft.KeyVault/managedHsm/{name}"));
        let names: Vec<String> = match face {
            0 => vec![action.name().to_owned()],
            1 => action.azure().iter().map(ToString::to_string).collect(),
            _ => hsm.collect(),
        };
        let name = names.first().cloned().unwrap_or_else(|| "*".to_owned());
        let cut = cut.index(name.len() + 1);
        let text = if upper { format!("*{}", &name[cut..]) } else { format!("{}*", &name[..cut]) };
        text.parse().expect("a pattern")
    });
    prop::collection::vec(one, 0..4)
}

fn role_patterns() -> impl Strategy<Value = RolePatterns> {
    (patterns(), patterns(), patterns(), patterns()).prop_map(
        |(actions, not_actions, data_actions, not_data_actions)| RolePatterns {
            actions,
            not_actions,
            data_actions,
            not_data_actions,
        },
    )
}

fn worlds() -> impl Strategy<Value = World> {
    let definitions = prop::collection::vec(role_patterns(), 3);
    let custom = |n: u8| RoleId::from_bytes([n; 16]);
    let ids: Vec<RoleId> =
        roles::built_in().iter().map(|role| role.id).chain([custom(0), custom(1), custom(2), custom(9)]).collect();
    let given = (names(), prop::sample::select(ids), scopes());
    let assignments = prop::collection::vec(given, 0..24);
    let permissions = prop::sample::subsequence(Permissions::known(ObjectType::Keys).to_vec(), 0..8);
    let policies = prop::collection::hash_map(names(), permissions, 0..4);
    (definitions, assignments, policies).prop_map(move |(definitions, assignments, policies)| World {
        definitions: (0..)
            .zip(definitions)
            .map(|(n, patterns)| RoleDefinition {
                id: custom(n),
                name: format!("custom {n}"),
                description: String::new(),
                patterns,
                assignable_scopes: vec![Scope::Service],
                custom: None,
            })
            .collect(),
        assignments: (0..)
            .zip(assignments)
            .map(|(n, (principal, role, scope))| AssignmentRow {
                role,
                ..assignment(n, &principal, "administrator", &scope)
            })
            .collect(),
        policies,
    })
}

fn questions() -> impl Strategy<Value = Vec<(Vec<String>, Action, String)>> {
    prop::collection::vec((prop::collection::vec(names(), 1..4), actions(), scopes()), 200)
}

fn identity(names: &[String]) -> Identity {
    let groups: Vec<&str> = names[1..].iter().map(String::as_str).collect();
    in_groups(&names[0], &groups)
}

/// A policy that came to be by changes says what one of the same rows says.
fn grown(world: &World) -> Policy {
    let mut policy = Policy::default();
    for row in &world.assignments {
        policy = policy.with_assignment(row.clone());
    }
    for role in &world.definitions {
        let other = RoleDefinition { patterns: RolePatterns::default(), ..role.clone() };
        policy = policy.with_definition(other).with_definition(role.clone());
    }
    let extra = assignment(99_999, "a:1", "administrator", "/");
    policy = policy.with_assignment(extra.clone()).without_assignment(extra.id);
    for (who, given) in &world.policies {
        policy = policy.with_access_policy(access_policy("policies", who, given));
    }
    let extra = access_policy("policies", "a:9", &["all"]);
    policy = policy.with_access_policy(extra.clone()).without_access_policy(&extra.vault, &extra.principal);
    decided_by_policies(policy, "policies")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 500 } else { 5_000 }))]

    #[test]
    fn decisions_are_those_of_the_oracle(world in worlds(), questions in questions()) {
        let (made, grown) = (world.policy(), grown(&world));
        for (names, action, scope) in questions {
            let (identity, at) = (identity(&names), at(&scope));
            let expected = world.allows(&names, action, &scope);
            prop_assert_eq!(made.allows(&identity, action, &at), expected, "{:?} {} {}", names, action.name(), scope);
            prop_assert_eq!(grown.allows(&identity, action, &at), expected, "{:?} {} {}", names, action.name(), scope);
            prop_assert_eq!(!sources(&made, &identity, action, &at).is_empty(), expected, "sources");
        }
    }

    #[test]
    fn patterns_come_to_what_the_oracle_says(patterns in role_patterns()) {
        let expected: Rights = Action::ALL.into_iter().filter(|action| role_permits(&patterns, *action)).collect();
        prop_assert_eq!(rights(&patterns), expected);
    }
}
