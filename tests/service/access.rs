//! Who may do what, through the service: scopes down to one key, what refusals tell, and who may give which role.

use std::sync::Arc;

use crate::{
    ec,
    estate::{Estate, called, caller, principal, role},
    named,
};
use strongroom::{
    model::{Algorithm, AssignmentRow, MaxStaleness, VersionId},
    service::{
        Caller, KeyFilter, KeyRef, NewAssignment, NewVault, Page, Service, ServiceError, asked::Asked,
        assignments::AssignmentFilter, batch::Item,
    },
};

const CI: &str = "spiffe://test.invalid/ci";

/// Gives a role, as that caller.
pub(crate) async fn give(
    service: &Arc<Service>,
    by: &Caller,
    who: &str,
    name: &str,
    scope: &str,
) -> Result<AssignmentRow, ServiceError> {
    let new =
        NewAssignment { id: None, principal: principal(who), role: role(name), scope: scope.parse().expect("a scope") };
    service.create_assignment(by, new, Default::default()).await
}

pub(crate) async fn sign(service: &Arc<Service>, by: &Caller, name: &KeyRef) -> Result<(), ServiceError> {
    service.sign(by, name, Algorithm::Es256, vec![7; 32].into()).await.map(|_| ())
}

pub(crate) fn reason<T>(result: Result<T, ServiceError>) -> &'static str {
    result.err().map_or("done", |error| error.problem.reason())
}

/// An estate with the keys `one` and `two`, and `gone`, which is deleted.
pub(crate) async fn furnished() -> (Estate, Arc<Service>) {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    for name in ["one", "two", "gone"] {
        service.create_key(&caller(), ec(name), Default::default()).await.expect("made");
    }
    service.delete_key(&caller(), &named("gone"), Default::default()).await.expect("deleted");
    (estate, service)
}

fn elsewhere(vault: &str) -> KeyRef {
    KeyRef { vault: vault.parse().expect("a name"), ..named("one") }
}

#[tokio::test]
async fn a_right_at_one_key_is_for_that_key_only() {
    let (_estate, service) = furnished().await;
    give(&service, &caller(), CI, "Key Vault Crypto Officer", "vaults/dev/keys/ONE").await.expect("assigned");
    let ci = called(CI);
    sign(&service, &ci, &named("one")).await.expect("its key");
    service.create_key(&ci, ec("one"), Default::default()).await.expect("a version of it");
    service.list_versions(&ci, &named("one"), Page { size: 9, after: None, deleted: false }).await.expect("its own");
    assert_eq!(reason(sign(&service, &ci, &named("two")).await), "PERMISSION_DENIED");
    assert_eq!(reason(service.create_key(&ci, ec("three"), Default::default()).await), "PERMISSION_DENIED");
    let page = Page { size: 9, after: None, deleted: false };
    assert_eq!(
        reason(service.list_keys(&ci, &named("one").vault, &KeyFilter::default(), page).await),
        "PERMISSION_DENIED"
    );
    assert_eq!(service.random(&ci, 8).await.expect("a right anywhere").len(), 8);
    service.delete_key(&ci, &named("one"), Default::default()).await.expect("deleted");
    assert_eq!(reason(sign(&service, &ci, &named("one")).await), "DELETED", "it may know of its own key");
}

#[tokio::test]
async fn without_a_right_all_answers_are_one() {
    let (_estate, service) = furnished().await;
    let stranger = called("spiffe://test.invalid/stranger");
    // What exists, what is deleted, what never was, and a vault that never was.
    let names = [named("one"), named("gone"), named("never"), elsewhere("other")];
    for name in &names {
        let place = format!("vaults/{}/keys/{}", name.vault, name.key);
        let says = |action: &str| format!("{} may not do {action} at {place}", stranger.principal());
        let told = |error: Option<ServiceError>| error.expect("refused").to_string();
        assert_eq!(told(sign(&service, &stranger, name).await.err()), says("keys.sign"));
        assert_eq!(told(service.get_key(&stranger, name).await.err()), says("keys.read"));
        assert_eq!(told(service.delete_key(&stranger, name, Default::default()).await.err()), says("keys.delete"));
        let patch = Default::default();
        let updated = service.update_version(&stranger, name, patch, Default::default()).await;
        assert_eq!(told(updated.err()), says("keys.update"));
        let made = service.create_key(&stranger, ec("never"), Default::default()).await;
        assert_eq!(reason(made), "PERMISSION_DENIED");
    }
}

#[tokio::test]
async fn what_does_not_exist_is_told_to_those_who_could_list_it() {
    let (estate, service) = furnished().await;
    // May decrypt and nothing else: from access policies or a role of one's own such a right can come.
    give(&service, &caller(), CI, "Managed HSM Crypto Officer", "vaults/dev").await.expect("assigned");
    give(&service, &caller(), "a:lists", "Key Vault Crypto User", "vaults/dev/keys").await.expect("assigned");
    give(&service, &caller(), "a:named", "Managed HSM Crypto Officer", "vaults/dev/keys/never")
        .await
        .expect("assigned");
    let undelete = async |who: &str, name: &str| {
        reason(service.undelete_key(&called(who), &named(name), Default::default()).await)
    };
    assert_eq!(undelete(CI, "never").await, "PERMISSION_DENIED");
    assert_eq!(undelete("a:named", "never").await, "NOT_FOUND", "it was given a right at exactly that key");
    assert_eq!(reason(sign(&service, &called("a:lists"), &named("never")).await), "NOT_FOUND");
    assert_eq!(reason(sign(&service, &called("a:lists"), &named("gone")).await), "DELETED");
    assert_eq!(reason(sign(&service, &called("a:lists"), &elsewhere("other")).await), "PERMISSION_DENIED");
    assert_eq!(reason(sign(&service, &caller(), &elsewhere("other")).await), "NOT_FOUND");
    let wrong = KeyRef { version: Some(VersionId::from_bytes([1; 16])), ..named("one") };
    assert_eq!(reason(sign(&service, &called("a:lists"), &wrong).await), "NOT_FOUND");
    // In a batch too.
    let item = || Ok(Item::Sign(named("never"), Asked::sign(Algorithm::Es256, vec![1; 32].into())));
    give(&service, &caller(), "a:signs", "Key Vault Crypto User", "vaults/dev/keys/one").await.expect("assigned");
    let of = async |who: &str| {
        let mut results = service.batch(&called(who), vec![item()]).await.expect("recorded");
        reason(results.remove(0))
    };
    assert_eq!((of("a:lists").await, of("a:signs").await), ("NOT_FOUND", "PERMISSION_DENIED"));
    service.close().await.expect("closes");
    assert!(estate.log_text().contains("\"NOT_FOUND\""), "the record says what it was");
}

#[tokio::test]
async fn an_owner_of_a_vault_assigns_within_it_and_nowhere_else() {
    let (_estate, service) = furnished().await;
    let vault = NewVault {
        name: "other".parse().expect("a name"),
        tags: Default::default(),
        retention_days: 90,
        purge_protection: false,
        padding_decryption_allowed: false,
        max_staleness: MaxStaleness::default(),
        own_kek: false,
        network: Default::default(),
        authorization: Default::default(),
    };
    service.create_vault(&caller(), vault, Default::default()).await.expect("made");
    give(&service, &caller(), "a:owner", "administrator", "vaults/dev").await.expect("assigned");
    let owner = called("a:owner");
    let own = give(&service, &owner, CI, "Key Vault Crypto User", "vaults/dev/keys/one").await.expect("within it");
    give(&service, &owner, "a:second", "administrator", "vaults/dev").await.expect("a second owner");
    for scope in ["/", "vaults/other", "vaults/other/keys/one", "vaults/never"] {
        let given = give(&service, &owner, "a:owner", "Key Vault Crypto User", scope).await;
        assert_eq!(reason(given), "PERMISSION_DENIED", "{scope}");
    }
    let other = give(&service, &caller(), CI, "Key Vault Crypto User", "vaults/other").await.expect("assigned");
    // What he may not see and what does not exist look alike, whether it is shown or taken away.
    for id in [other.id, VersionId::from_bytes([9; 16])] {
        let shown = service.get_assignment(&owner, id).await.expect_err("refused").to_string();
        assert_eq!(shown, "a:owner may not do roleAssignments.read at /");
        let taken = service.delete_assignment(&owner, id, Default::default()).await.expect_err("refused").to_string();
        assert_eq!(taken, "a:owner may not do roleAssignments.delete at /");
    }
    assert_eq!(service.get_assignment(&owner, own.id).await.expect("his own"), own);
    let page = || Page { size: 100, after: None, deleted: false };
    let seen = service.list_assignments(&owner, page(), AssignmentFilter::default()).await.expect("listed").items;
    assert!(seen.len() == 3 && seen.iter().all(|row| row.scope.to_string().starts_with("vaults/dev")), "{seen:?}");
    let of_ci = AssignmentFilter { principal: Some(principal(CI)), ..AssignmentFilter::default() };
    assert_eq!(service.list_assignments(&caller(), page(), of_ci).await.expect("listed").items.len(), 2);
    let in_dev = AssignmentFilter { scope: "vaults/dev/keys".parse().ok(), ..AssignmentFilter::default() };
    let found = service.list_assignments(&caller(), page(), in_dev).await.expect("listed").items;
    assert_eq!(found, std::slice::from_ref(&own));
    service.delete_assignment(&owner, own.id, Default::default()).await.expect("taken away");
    assert_eq!(reason(sign(&service, &called(CI), &named("one")).await), "PERMISSION_DENIED");
    let page = Page { size: 100, after: None, deleted: false };
    let vaults = service.list_vaults(&owner, page).await.expect("listed").items;
    assert_eq!(vaults.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["dev"]);
}

#[tokio::test]
async fn nobody_gives_what_administers_without_having_it() {
    let (_estate, service) = furnished().await;
    give(&service, &caller(), "a:access", "Key Vault Data Access Administrator", "/").await.expect("assigned");
    let access = called("a:access");
    give(&service, &access, CI, "Key Vault Administrator", "vaults/dev").await.expect("administers nothing");
    for name in ["administrator", "Key Vault Contributor", "Key Vault Data Access Administrator"] {
        assert_eq!(reason(give(&service, &access, "a:access", name, "vaults/dev").await), "BEYOND_OWN_RIGHTS");
    }
    let page = Page { size: 100, after: None, deleted: false };
    let of_admin = AssignmentFilter { role: Some(role("administrator")), ..AssignmentFilter::default() };
    let admins = service.list_assignments(&access, page, of_admin).await.expect("listed").items;
    let taken = service.delete_assignment(&access, admins[0].id, Default::default()).await;
    assert_eq!(reason(taken), "BEYOND_OWN_RIGHTS", "nor takes it away");
    assert_eq!(
        reason(service.delete_assignment(&caller(), admins[0].id, Default::default()).await),
        "LAST_ADMINISTRATOR"
    );
    give(&service, &caller(), "g:admins", "administrator", "/").await.expect("a group");
    service.delete_assignment(&caller(), admins[0].id, Default::default()).await.expect("not the last");
    assert_eq!(reason(give(&service, &caller(), CI, "Key Vault Reader", "/").await), "PERMISSION_DENIED");
}
