//! What somebody with the database in his hands can do: nothing that is not found.

use std::{fs, sync::Arc};

use sqlx::{Connection as _, SqliteConnection};
use strongroom::{
    access::roles::built_in_by_name,
    model::{Algorithm, KeySpec},
    service::{NewAssignment, Page, Problem, Service, ServiceError, VersionPatch, assignments::AssignmentFilter},
};

use crate::{
    ec,
    estate::{Estate, called, caller, key},
    named,
};

/// Writes into the database behind the service's back.
pub(crate) async fn meddle(estate: &Estate, sql: &'static str) {
    let url = format!("sqlite://{}", estate.database().display());
    let mut database = SqliteConnection::connect(&url).await.expect("connects");
    sqlx::raw_sql("PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON")
        .execute(&mut database)
        .await
        .expect("switches off");
    let done = sqlx::raw_sql(sql).execute(&mut database).await.expect("meddles");
    assert!(done.rows_affected() > 0 || sql.contains("TABLE"), "{sql} changed nothing");
    database.close().await.expect("closes");
}

async fn sign(service: &Arc<Service>, name: &str) -> Result<(), ServiceError> {
    service.sign(&caller(), &named(name), Algorithm::Es256, vec![7; 32].into()).await.map(|_| ())
}

async fn sign_as(service: &Arc<Service>, principal: &str) -> Result<(), ServiceError> {
    service.sign(&called(principal), &named("a"), Algorithm::Es256, vec![7; 32].into()).await.map(|_| ())
}

/// The use of keys in the vault, for that principal.
fn user(principal: &str) -> NewAssignment {
    let role = built_in_by_name("Key Vault Crypto User").expect("built in").id;
    let scope = "vaults/dev".parse().expect("a scope");
    NewAssignment { id: None, principal: principal.parse().expect("a principal"), role, scope }
}

pub(crate) fn assert_found<T: std::fmt::Debug>(result: Result<T, ServiceError>) {
    match result {
        Err(ServiceError { problem: Problem::Tampered { .. }, .. }) => {}
        other => panic!("not found: {other:?}"),
    }
}

/// Ends a service: its lock on the log goes with it.
pub(crate) async fn shut(service: Arc<Service>) {
    service.close().await.expect("closes");
    assert_eq!(Arc::strong_count(&service), 1, "nobody else holds the service");
}

/// An estate with the keys `a` and `b`, closed.
async fn two_keys() -> Estate {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    for name in ["a", "b"] {
        service.create_key(&caller(), ec(name), Default::default()).await.expect("made");
    }
    shut(service).await;
    estate
}

const SWAP_BLOBS: &str = "UPDATE versions SET blob = (SELECT blob FROM versions ORDER BY id DESC LIMIT 1) \
    WHERE id = (SELECT id FROM versions ORDER BY id LIMIT 1)";

#[tokio::test]
async fn a_blob_in_another_row_is_refused() {
    let estate = two_keys().await;
    meddle(&estate, SWAP_BLOBS).await;
    let service = estate.open().await.expect("opens");
    let results = [sign(&service, "a").await, sign(&service, "b").await];
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "the other key still signs");
    assert_found(results.into_iter().find(Result::is_err).expect("one is refused"));
}

#[tokio::test]
async fn widened_operations_are_refused() {
    let estate = two_keys().await;
    meddle(&estate, "UPDATE versions SET ops = 63, expires_at = NULL").await;
    let service = estate.open().await.expect("opens");
    assert_found(sign(&service, "a").await);
}

#[tokio::test]
async fn a_removed_row_is_found_at_the_next_start_and_while_running() {
    let estate = two_keys().await;
    let service = estate.open().await.expect("opens");
    sign(&service, "a").await.expect("signs");
    meddle(&estate, "DELETE FROM keys WHERE folded_name = 'b'").await;
    assert_found(sign(&service, "b").await);
    shut(service).await;
    let service = estate.open().await.expect("opens");
    assert_found(sign(&service, "a").await);
}

#[tokio::test]
async fn an_older_row_put_back_is_refused() {
    let estate = two_keys().await;
    meddle(&estate, "CREATE TABLE kept AS SELECT * FROM versions").await;
    let service = estate.open().await.expect("opens");
    let off = VersionPatch { enabled: Some(false), ..VersionPatch::default() };
    service.update_version(&caller(), &named("a"), off, Default::default()).await.expect("disabled");
    meddle(
        &estate,
        "UPDATE versions SET (revision, seal, enabled, updated_at, intent) = \
            (SELECT revision, seal, enabled, updated_at, intent FROM kept WHERE kept.id = versions.id)",
    )
    .await;
    assert_found(sign(&service, "a").await);
    shut(service).await;
    let service = estate.open().await.expect("opens");
    assert_found(sign(&service, "a").await);
}

#[tokio::test]
async fn an_older_database_put_back_is_found_by_the_log() {
    let estate = two_keys().await;
    let kept = estate.database().with_extension("kept");
    fs::copy(estate.database(), &kept).expect("copies");
    let service = estate.open().await.expect("opens");
    let off = VersionPatch { enabled: Some(false), ..VersionPatch::default() };
    service.update_version(&caller(), &named("a"), off, Default::default()).await.expect("disabled");
    shut(service).await;
    fs::copy(&kept, estate.database()).expect("puts back");
    let service = estate.open().await.expect("opens");
    assert_found(sign(&service, "a").await);
}

#[tokio::test]
async fn a_forged_role_is_refused() {
    let estate = two_keys().await;
    meddle(
        &estate,
        "INSERT INTO role_assignments SELECT randomblob(16), 1, seal, 'spiffe://evil/e', role, scope, created_at, intent \
            FROM role_assignments",
    )
    .await;
    assert_found(estate.open().await.map(|_| "open"));
}

/// An estate where somebody had a role and has it no more; the database remembers, in the table `kept`.
async fn a_revoked_user() -> Estate {
    let estate = two_keys().await;
    let service = estate.open().await.expect("opens");
    let given = service.create_assignment(&caller(), user("spiffe://a/user"), Default::default()).await.expect("given");
    sign_as(&service, "spiffe://a/user").await.expect("it has the role");
    meddle(&estate, "CREATE TABLE kept AS SELECT * FROM role_assignments").await;
    meddle(&estate, "CREATE TABLE kept_heads AS SELECT * FROM heads").await;
    service.delete_assignment(&caller(), given.id, Default::default()).await.expect("taken");
    shut(service).await;
    estate
}

const PUT_BACK: &str = "INSERT INTO role_assignments SELECT * FROM kept WHERE role <> 'administrator'";

#[tokio::test]
async fn a_role_that_was_taken_away_and_is_put_back_is_refused() {
    let estate = a_revoked_user().await;
    let service = estate.open().await.expect("opens");
    // While it runs, what it knows decides, and not the store.
    let page = Page { size: 10, after: None, deleted: false };
    meddle(&estate, PUT_BACK).await;
    assert!(matches!(
        sign_as(&service, "spiffe://a/user").await,
        Err(ServiceError { problem: Problem::Denied(_), .. })
    ));
    let listed = service.list_assignments(&caller(), page, AssignmentFilter::default()).await.expect("listed");
    assert_eq!(listed.items.len(), 1, "the administrator's");
    shut(service).await;
    assert_found(estate.open().await.map(|_| "open"));
    // With the head that counted it, too: the log knows a newer one.
    meddle(&estate, "DELETE FROM heads").await;
    meddle(&estate, "INSERT INTO heads SELECT * FROM kept_heads").await;
    assert_found(estate.open().await.map(|_| "open"));
}

#[tokio::test]
async fn roles_that_were_altered_moved_or_removed_are_refused() {
    for change in [
        "UPDATE role_assignments SET role = 'administrator', scope = '/'",
        "UPDATE role_assignments SET scope = 'vaults/other' WHERE role <> 'administrator'",
        "UPDATE role_assignments SET principal = 'spiffe://evil/e'",
        "UPDATE role_assignments SET created_at = created_at - 1",
        "UPDATE role_assignments SET id = randomblob(16) WHERE role <> 'administrator'",
        "UPDATE role_assignments SET (revision, seal) = (SELECT revision, seal FROM vaults LIMIT 1)",
        "DELETE FROM role_assignments WHERE role <> 'administrator'",
        "DELETE FROM role_assignments",
    ] {
        let estate = two_keys().await;
        let service = estate.open().await.expect("opens");
        service.create_assignment(&caller(), user("spiffe://a/user"), Default::default()).await.expect("given");
        shut(service).await;
        meddle(&estate, change).await;
        match estate.open().await.map(|_| "open") {
            Err(ServiceError { problem: Problem::Tampered { .. }, .. }) => {}
            other => panic!("{change}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_removed_head_is_found() {
    let estate = two_keys().await;
    meddle(&estate, "DELETE FROM heads WHERE scope <> zeroblob(16)").await;
    let service = estate.open().await.expect("opens");
    assert_found(sign(&service, "a").await);
}

#[tokio::test]
async fn a_usage_counter_put_back_is_refused() {
    let estate = two_keys().await;
    let service = estate.open().await.expect("opens");
    service.create_key(&caller(), key("aes", KeySpec::Aes256), Default::default()).await.expect("made");
    let encrypt = async |service: &Arc<Service>| {
        service.encrypt(&caller(), &named("aes"), Algorithm::A256Gcm, b"x".to_vec().into(), vec![], vec![]).await
    };
    encrypt(&service).await.expect("encrypts");
    shut(service).await;
    meddle(&estate, "UPDATE usage SET encryptions = 0").await;
    let service = estate.open().await.expect("opens");
    assert_found(encrypt(&service).await);
}

#[tokio::test]
async fn a_lost_log_is_not_begun_anew() {
    let estate = two_keys().await;
    estate.lose_log();
    assert_found(estate.open().await.map(|_| "open"));
}
