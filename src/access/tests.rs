//! What the policy must say of particular cases. Of all others speaks the oracle.

use super::{fixtures::*, *};
use crate::model::Scope;

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

#[test]
fn permissions_come_to_the_actions_that_need_no_others() {
    let rights = |given: &[&str]| policy::rights_of(&access_policy("dev", "a:x", given).permissions).to_string();
    assert_eq!(rights(&["get"]), "keys.read", "an access policy parts get from list");
    assert_eq!(rights(&["wrapKey"]), "keys.wrap, dataKeys.generateWrapped");
    assert_eq!(
        rights(&["wrapKey", "unwrapKey"]),
        "keys.wrap, keys.unwrap, dataKeys.generate, dataKeys.generateWrapped"
    );
    assert_eq!(rights(&["backup", "release"]), "keys.backup");
    assert_eq!(rights(&["backup", "delete", "purge"]), "keys.delete, keys.purge, keys.backup, keys.move");
    let of_keys = |action: &Action| action.policy().iter().any(|permission| permission.starts_with("keys/"));
    let all: Rights = Action::ALL.into_iter().filter(of_keys).collect();
    assert_eq!(rights(&["all"]), all.to_string());
}
