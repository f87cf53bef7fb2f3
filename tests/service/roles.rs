//! Roles of one's own and access policies, through the service: what they give, who may make them, and that forged or
//! replayed ones are found.

use std::sync::Arc;

use strongroom::{
    access::RoleDefinition,
    model::{Algorithm, KeySpec, ObjectType, Permissions, RoleId, RolePatterns, VaultAuthorization},
    service::{
        Caller, ChangeOptions, Ciphertext, NewAssignment, Page, Service, ServiceError, VaultPatch,
        asked::Asked,
        batch::Item,
        definitions::{NewRole, RolePatch},
    },
};
use strongroom_hsm::SecretBytes;

use crate::{
    access::{furnished, give, reason, sign},
    estate::{called, caller, key, principal, role},
    named,
    rows::{assert_found, meddle, shut},
};

/// A role that is wanted, of data actions.
fn wanted(name: &str, data_actions: &[&str]) -> NewRole {
    let data_actions = data_actions.iter().map(|text| text.parse().expect("a pattern")).collect();
    NewRole {
        id: None,
        name: name.to_owned(),
        description: String::new(),
        patterns: RolePatterns { data_actions, ..RolePatterns::default() },
        assignable_scopes: vec!["/".parse().expect("a scope")],
    }
}

/// The same, of actions that administer.
fn administering(name: &str, actions: &[&str]) -> NewRole {
    let mut new = wanted(name, actions);
    std::mem::swap(&mut new.patterns.actions, &mut new.patterns.data_actions);
    new
}

async fn make(service: &Arc<Service>, by: &Caller, new: NewRole) -> Result<RoleDefinition, ServiceError> {
    service.create_role(by, new, ChangeOptions::default()).await
}

async fn assign(service: &Arc<Service>, who: &str, id: RoleId, scope: &str) -> Result<(), ServiceError> {
    let new = NewAssignment { id: None, principal: principal(who), role: id, scope: scope.parse().expect("a scope") };
    service.create_assignment(&caller(), new, ChangeOptions::default()).await.map(|_| ())
}

fn data_actions(texts: &[&str]) -> RolePatch {
    let texts = texts.iter().map(|text| text.parse().expect("a pattern")).collect();
    RolePatch { data_actions: Some(texts), ..RolePatch::default() }
}

#[tokio::test]
async fn a_role_of_ones_own_gives_what_its_patterns_come_to_and_changes_at_once() {
    let (estate, service) = furnished().await;
    let signer = make(&service, &caller(), wanted("Signer", &["keys.sign"])).await.expect("made");
    assign(&service, "a:ci", signer.id, "vaults/dev/keys").await.expect("assigned");
    sign(&service, &called("a:ci"), &named("one")).await.expect("signs");
    assert_eq!(reason(sign(&service, &called("a:ci"), &named("never")).await), "PERMISSION_DENIED", "it lists nothing");
    assert_eq!(reason(service.get_key(&called("a:ci"), &named("one")).await), "PERMISSION_DENIED");
    let patch = data_actions(&["Microsoft.KeyVault/vaults/keys/read"]);
    service.update_role(&caller(), signer.id, patch, ChangeOptions::default()).await.expect("changed");
    assert_eq!(reason(sign(&service, &called("a:ci"), &named("one")).await), "PERMISSION_DENIED");
    service.get_key(&called("a:ci"), &named("one")).await.expect("reads");
    let deleted = service.delete_role(&caller(), signer.id, ChangeOptions::default()).await;
    assert_eq!(reason(deleted), "ROLE_ASSIGNED");
    shut(service).await;
    let service = estate.open().await.expect("opens");
    service.get_key(&called("a:ci"), &named("one")).await.expect("as before");
    let page = Page { size: 1000, after: None, deleted: false };
    let roles = service.list_roles(&caller(), page).await.expect("listed").items;
    assert!(roles.len() > 20 && roles.is_sorted_by_key(|role| role.id));
    assert!(roles.iter().any(|role| role.name == "Signer") && roles.iter().any(|role| role.id == role_id()));
    assert_eq!(reason(service.get_role(&called("a:ci"), signer.id).await), "PERMISSION_DENIED");
}

fn role_id() -> RoleId {
    role("Key Vault Crypto User")
}

#[tokio::test]
async fn built_in_roles_stay_and_names_are_taken_once() {
    let (_estate, service) = furnished().await;
    let built_in = role("Key Vault Reader");
    let patched = service.update_role(&caller(), built_in, data_actions(&["*"]), ChangeOptions::default()).await;
    assert_eq!(reason(patched), "BUILT_IN_ROLE");
    assert_eq!(reason(service.delete_role(&caller(), built_in, ChangeOptions::default()).await), "BUILT_IN_ROLE");
    assert_eq!(reason(make(&service, &caller(), wanted("key vault reader", &[])).await), "ALREADY_EXISTS");
    let same_id = NewRole { id: Some(built_in), ..wanted("mine", &[]) };
    assert_eq!(reason(make(&service, &caller(), same_id).await), "ALREADY_EXISTS");
    make(&service, &caller(), wanted("mine", &[])).await.expect("made");
    assert_eq!(reason(make(&service, &caller(), wanted("MINE", &[])).await), "ALREADY_EXISTS");
    for name in ["", " mine", "mine\n", &"x".repeat(129)] {
        assert_eq!(reason(make(&service, &caller(), wanted(name, &[])).await), "INVALID_FIELD", "{name:?}");
    }
    let absent = RoleId::from_bytes([7; 16]);
    assert_eq!(reason(assign(&service, "a:ci", absent, "vaults/dev").await), "INVALID_FIELD");
    let narrow =
        NewRole { assignable_scopes: vec!["vaults/dev/keys".parse().expect("a scope")], ..wanted("narrow", &[]) };
    let narrow = make(&service, &caller(), narrow).await.expect("made");
    assert_eq!(reason(assign(&service, "a:ci", narrow.id, "vaults/dev").await), "INVALID_FIELD");
    assign(&service, "a:ci", narrow.id, "vaults/dev/keys/one").await.expect("within");
    let elsewhere = RolePatch {
        assignable_scopes: Some(vec!["vaults/dev/secrets".parse().expect("a scope")]),
        ..RolePatch::default()
    };
    let moved = service.update_role(&caller(), narrow.id, elsewhere, ChangeOptions::default()).await;
    assert_eq!(reason(moved), "ROLE_ASSIGNED");
}

#[tokio::test]
async fn a_role_is_no_way_to_more_rights_than_one_has() {
    let (_estate, service) = furnished().await;
    let maker = administering("maker", &["roleDefinitions.*", "roleAssignments.*"]);
    let maker = make(&service, &caller(), maker).await.expect("made");
    assign(&service, "a:maker", maker.id, "/").await.expect("assigned");
    let by = called("a:maker");
    make(&service, &by, wanted("harmless", &["*"])).await.expect("administers nothing");
    assert_eq!(reason(make(&service, &by, administering("more", &["vaults.*"])).await), "BEYOND_OWN_RIGHTS");
    let actions = Some(vec!["*".parse().expect("a pattern")]);
    let widened = RolePatch { actions, ..RolePatch::default() };
    let widened = service.update_role(&by, maker.id, widened, ChangeOptions::default()).await;
    assert_eq!(reason(widened), "BEYOND_OWN_RIGHTS", "its own role does not grow");
    assert_eq!(reason(give(&service, &by, "a:maker", "administrator", "/").await), "BEYOND_OWN_RIGHTS");
    give(&service, &by, "a:maker", "Managed HSM Policy Administrator", "/").await.expect("no more than it has");
    // An administrator by a role of one's own: neither the role nor its assignment goes when it is the last.
    let all = make(&service, &caller(), administering("all", &["*"])).await.expect("made");
    assign(&service, "g:all", all.id, "/").await.expect("assigned");
    let page = Page { size: 1000, after: None, deleted: false };
    let given = service.list_assignments(&caller(), page, Default::default()).await.expect("listed").items;
    let first = given.iter().find(|row| row.role == role("administrator")).expect("the first administrator");
    service.delete_assignment(&caller(), first.id, ChangeOptions::default()).await.expect("there is another");
    let nothing = RolePatch { actions: Some(Vec::new()), ..RolePatch::default() };
    let mut by = called("a:b");
    by.identity = Arc::new(strongroom::model::Identity::new(
        principal("a:b"),
        vec![principal("g:all")],
        strongroom::model::Lease::until(None),
    ));
    let emptied = service.update_role(&by, all.id, nothing, ChangeOptions::default()).await;
    assert_eq!(reason(emptied), "LAST_ADMINISTRATOR");
}

#[tokio::test]
async fn a_cipher_under_a_chosen_iv_takes_every_right_of_the_key() {
    let (_estate, service) = furnished().await;
    service.create_key(&caller(), key("aes", KeySpec::Aes256), Default::default()).await.expect("made");
    give(&service, &caller(), "a:user", "Key Vault Crypto User", "vaults/dev/keys/aes").await.expect("assigned");
    let service_user = "Key Vault Crypto Service Encryption User";
    give(&service, &caller(), "a:wraps", service_user, "vaults/dev/keys").await.expect("assigned");
    let encrypt = async |who: &str, algorithm, iv: Vec<u8>| {
        let plaintext = SecretBytes::new(vec![1; 16]);
        service.encrypt(&called(who), &named("aes"), algorithm, plaintext, iv, Vec::new()).await
    };
    encrypt("a:user", Algorithm::A256Cbc, vec![0; 16]).await.expect("has all that the key does");
    assert_eq!(reason(encrypt("a:wraps", Algorithm::A256Cbc, vec![0; 16]).await), "PERMISSION_DENIED");
    // A key that only wraps and unwraps has nothing more to give; one that decrypts has.
    let only = make(&service, &caller(), wanted("encrypts", &["keys.encrypt"])).await.expect("made");
    assign(&service, "a:encrypts", only.id, "vaults/dev/keys").await.expect("assigned");
    encrypt("a:encrypts", Algorithm::A256Gcm, Vec::new()).await.expect("its right is enough");
    for algorithm in [Algorithm::A256Cbc, Algorithm::A256CbcPad] {
        let refused = encrypt("a:encrypts", algorithm, vec![0; 16]).await.expect_err("not enough");
        assert_eq!(refused.problem.reason(), "BARE_CIPHER");
        let said = refused.to_string();
        assert!(said.contains("keys.decrypt, keys.wrap, keys.unwrap is missing"), "{said}");
    }
    let item = |algorithm| {
        let iv = if algorithm == Algorithm::A256Cbc { vec![0; 16] } else { Vec::new() };
        let asked = Asked::encrypt(algorithm, SecretBytes::new(vec![1; 16]), iv, Vec::new());
        Ok(Item::Encrypt(named("aes"), asked))
    };
    let items = vec![item(Algorithm::A256Cbc), item(Algorithm::A256Gcm)];
    let results = service.batch(&called("a:encrypts"), items).await.expect("recorded");
    let reasons: Vec<_> = results.into_iter().map(reason).collect();
    assert_eq!(reasons, ["BARE_CIPHER", "done"]);
    let input = Ciphertext { ciphertext: vec![0; 16], iv: vec![0; 16], tag: vec![], additional_data: vec![] };
    let decrypted = service.decrypt(&called("a:user"), &named("aes"), Algorithm::A256Cbc, input).await;
    decrypted.expect("has all that the key does");
}

fn permissions(keys: &[&str]) -> Permissions {
    let mut permissions = Permissions::default();
    for name in keys {
        permissions.add(ObjectType::Keys, name).expect("a permission");
    }
    permissions
}

#[tokio::test]
async fn a_vault_with_access_policies_is_used_by_them_alone() {
    let (estate, service) = furnished().await;
    let vault = named("one").vault;
    let set = async |who: &str, keys: &[&str]| {
        let options = ChangeOptions::default();
        service.set_access_policy(&caller(), &vault, principal(who), permissions(keys), options).await
    };
    set("a:signer", &["sign"]).await.expect("set");
    give(&service, &caller(), "a:user", "Key Vault Crypto User", "vaults/dev").await.expect("assigned");
    assert_eq!(reason(sign(&service, &called("a:signer"), &named("one")).await), "PERMISSION_DENIED", "roles decide");
    let patch = VaultPatch { authorization: Some(VaultAuthorization::AccessPolicies), ..VaultPatch::default() };
    give(&service, &caller(), "a:contributor", "Key Vault Contributor", "vaults/dev").await.expect("assigned");
    let turned = service.update_vault(&called("a:contributor"), &vault, patch.clone(), ChangeOptions::default()).await;
    assert_eq!(reason(turned), "PERMISSION_DENIED", "it takes the right to give what administers");
    service.update_vault(&caller(), &vault, patch, ChangeOptions::default()).await.expect("changed");
    sign(&service, &called("a:signer"), &named("one")).await.expect("policies decide");
    for who in ["a:user", "spiffe://test.invalid/admin"] {
        assert_eq!(reason(sign(&service, &called(who), &named("one")).await), "PERMISSION_DENIED", "{who}");
    }
    assert_eq!(reason(sign(&service, &called("a:signer"), &named("never")).await), "PERMISSION_DENIED");
    set("a:signer", &["sign", "list"]).await.expect("in its place");
    assert_eq!(reason(sign(&service, &called("a:signer"), &named("never")).await), "NOT_FOUND");
    assert_eq!(reason(set("a:signer", &[]).await), "INVALID_FIELD");
    let page = Page { size: 10, after: None, deleted: false };
    assert_eq!(service.list_access_policies(&caller(), &vault, page.clone()).await.expect("listed").items.len(), 1);
    let listed = service.list_access_policies(&called("a:signer"), &vault, page).await;
    assert_eq!(reason(listed), "PERMISSION_DENIED");
    shut(service).await;
    let service = estate.open().await.expect("opens");
    sign(&service, &called("a:signer"), &named("one")).await.expect("as before");
    let options = ChangeOptions::default();
    service.delete_access_policy(&caller(), &vault, principal("a:signer"), options.clone()).await.expect("deleted");
    assert_eq!(reason(sign(&service, &called("a:signer"), &named("one")).await), "PERMISSION_DENIED");
    let again = service.delete_access_policy(&caller(), &vault, principal("a:signer"), options).await;
    assert_eq!(reason(again), "NOT_FOUND");
}

#[tokio::test]
async fn forged_and_replayed_rows_of_access_are_found() {
    const FORGERIES: [&str; 6] = [
        "UPDATE role_definitions SET data_actions = '*'",
        "DELETE FROM role_definitions",
        "UPDATE role_assignments SET scope = '/' WHERE scope <> '/'",
        "UPDATE access_policies SET keys = 'all'",
        "UPDATE access_policies SET principal = 'a:evil'",
        "DELETE FROM access_policies",
    ];
    for forgery in FORGERIES {
        let (estate, service) = furnished().await;
        let made = make(&service, &caller(), wanted("Signer", &["keys.sign"])).await.expect("made");
        assign(&service, "a:ci", made.id, "vaults/dev/keys").await.expect("assigned");
        let (vault, options) = (named("one").vault, ChangeOptions::default());
        let set = service.set_access_policy(&caller(), &vault, principal("a:x"), permissions(&["get"]), options).await;
        set.expect("set");
        shut(service).await;
        meddle(&estate, forgery).await;
        assert_found(estate.open().await.map(|_| forgery));
    }
    // An older state of a role put back: once while it runs, once at the start.
    let (estate, service) = furnished().await;
    let made = make(&service, &caller(), wanted("Signer", &["keys.sign"])).await.expect("made");
    meddle(&estate, "CREATE TABLE kept AS SELECT * FROM role_definitions").await;
    service.update_role(&caller(), made.id, data_actions(&[]), ChangeOptions::default()).await.expect("changed");
    meddle(
        &estate,
        "UPDATE role_definitions SET (revision, seal, data_actions, updated_at, intent) = \
            (SELECT revision, seal, data_actions, updated_at, intent FROM kept WHERE kept.id = role_definitions.id)",
    )
    .await;
    assert_found(service.update_role(&caller(), made.id, data_actions(&["*"]), ChangeOptions::default()).await);
    shut(service).await;
    assert_found(estate.open().await.map(|_| "opens"));
}
