//! Questions about access, as an operator asks them: why, who, and what a change would mean.

use serde_json::Value;

use crate::dev::Dev;

const CI: &str = "spiffe://test.invalid/ci";
const KEY: &str = "vaults/dev/keys/release";

fn json(dev: &Dev, arguments: &[&str]) -> Value {
    let shown = dev.ok(&[arguments, &["-o", "json"]].concat());
    serde_json::from_str(&shown).expect("JSON")
}

fn grant(dev: &Dev, more: &[&str]) -> Value {
    let user = "Key Vault Crypto User";
    json(dev, &[&["access", "grant", "--principal", CI, "--role", user, "--scope", KEY], more].concat())
}

#[test]
fn a_refusal_is_explained_and_its_remedy_tried_before_it_is_taken() {
    let dev = Dev::new();
    let asked = dev.ok(&["access", "explain", CI, "sign", KEY]);
    assert!(asked.starts_with(&format!("{CI} may not do keys.sign at {KEY}")), "{asked}");

    let gained = grant(&dev, &["--dry-run"]);
    assert_eq!((&gained[0]["principal"], &gained[0]["scope"]), (&CI.into(), &KEY.into()));
    let names = gained[0]["gained"].as_array().expect("names");
    assert!(names.contains(&"keys.sign".into()) && !names.contains(&"keys.delete".into()), "{names:?}");
    assert_eq!(gained[0]["lost"], Value::Array(Vec::new()));
    assert_eq!(json(&dev, &["access", "explain", CI, "sign", KEY])["permitted"], false, "nothing was changed");

    let made = grant(&dev, &[]);
    let explained = json(&dev, &["access", "explain", CI, "keys.sign", "vaults/dev/keys/RELEASE"]);
    assert_eq!(explained["permitted"], true, "names of keys differ in case for people only");
    assert_eq!(explained["assignments"][0]["assignment"]["name"], made["name"]);
    let other = json(&dev, &["access", "explain", CI, "sign", "vaults/dev/keys/other"]);
    assert_eq!((&other["permitted"], &other["reason"]), (&false.into(), &"ACCESS_REASON_OTHER_SCOPE".into()));
    let more = json(&dev, &["access", "explain", CI, "delete", KEY]);
    assert_eq!(more["reason"], "ACCESS_REASON_NOT_IN_ROLE");

    let name = made["name"].as_str().expect("a name");
    let lost = json(&dev, &["access", "revoke", name, "--dry-run"]);
    assert_eq!((&lost[0]["gained"], &lost[0]["lost"]), (&Value::Array(Vec::new()), &gained[0]["gained"]));
    assert_eq!(json(&dev, &["access", "explain", CI, "sign", KEY])["permitted"], true, "nothing was changed");
}

#[test]
fn who_may_is_listed_with_what_permits_it() {
    let dev = Dev::new();
    grant(&dev, &[]);
    let group = "group:oidc:https://issuer.invalid#release";
    dev.ok(&["access", "grant", "--principal", group, "--role", "Key Vault Crypto Officer", "--scope", "vaults/dev"]);
    let names = |scope: &str| -> Vec<String> {
        let found = json(&dev, &["access", "who-can", "unwrap", scope]);
        let found = found.as_array().expect("an array");
        found.iter().map(|one| one["principal"].as_str().expect("a name").to_owned()).collect()
    };
    let (at_key, elsewhere) = (names(KEY), names("vaults/dev/keys/other"));
    assert!(at_key.contains(&CI.to_owned()) && at_key.contains(&group.to_owned()), "{at_key:?}");
    assert!(!elsewhere.contains(&CI.to_owned()) && elsewhere.contains(&group.to_owned()), "{elsewhere:?}");
    let as_member = json(&dev, &["access", "explain", "spiffe://test.invalid/x", "unwrap", KEY, "--group", group]);
    assert_eq!(
        (&as_member["permitted"], &as_member["assignments"][0]["assignment"]["principal"]),
        (&true.into(), &group.into())
    );
    let wrong = dev.fails(&["access", "who-can", "fly", KEY]);
    assert!(wrong.contains("keys.unwrap"), "it names what there is: {wrong}");
}

#[test]
fn network_rules_are_part_of_an_answer_about_an_address() {
    let dev = Dev::new();
    dev.ok(&["vault", "create", "inner", "--public-access", "false", "--allow-range", "192.0.2.0/24"]);
    let scope = "vaults/inner/keys/k";
    let args = ["access", "grant", "--principal", CI, "--role", "Key Vault Crypto User", "--scope", scope];
    dev.ok(&args);
    let from = |address: &str| json(&dev, &["access", "explain", CI, "sign", scope, "--source", address]);
    assert_eq!(from("192.0.2.9")["permitted"], true);
    let outside = from("198.51.100.9");
    assert_eq!((&outside["permitted"], &outside["reason"]), (&false.into(), &"ACCESS_REASON_NETWORK".into()));
}

#[test]
fn every_change_of_access_can_be_tried_first() {
    let dev = Dev::new();
    dev.ok(&["access", "roles", "create", "Signer", "--data-action", "keys.sign", "--data-action", "keys.read"]);
    dev.ok(&["access", "grant", "--principal", CI, "--role", "Signer", "--scope", KEY]);
    let narrower = json(&dev, &["access", "roles", "update", "Signer", "--data-action", "keys.read", "--dry-run"]);
    assert_eq!((&narrower[0]["principal"], &narrower[0]["lost"]), (&CI.into(), &serde_json::json!(["keys.sign"])));

    let policies = json(&dev, &["vault", "update", "dev", "--authorization", "access-policies", "--dry-run"]);
    let lost = policies.as_array().expect("an array").iter().find(|one| one["principal"] == CI);
    assert_eq!(lost.map(|one| &one["scope"]), Some(&KEY.into()), "what roles give does not count: {policies}");
    let shown = json(&dev, &["vault", "show", "dev"]);
    assert_eq!(shown["authorization"], "VAULT_AUTHORIZATION_ROLES", "nothing was changed");

    let set = ["vault", "policy", "set", "dev", "--principal", CI, "--keys", "sign"];
    let unused = json(&dev, &[&set[..], &["--dry-run"]].concat());
    assert_eq!(unused, serde_json::json!([]), "access policies decide nothing in a vault of roles");
    dev.ok(&["vault", "update", "dev", "--authorization", "access-policies"]);
    let gained = json(&dev, &[&set[..], &["--dry-run"]].concat());
    assert_eq!((&gained[0]["principal"], &gained[0]["gained"]), (&CI.into(), &serde_json::json!(["keys.sign"])));
    dev.ok(&set);
    let lost = json(&dev, &["vault", "policy", "delete", "dev", "--principal", CI, "--dry-run"]);
    assert_eq!(lost[0]["lost"], serde_json::json!(["keys.sign"]));
    assert_eq!(json(&dev, &["access", "explain", CI, "sign", KEY])["accessPolicies"], serde_json::json!([CI]));
}
