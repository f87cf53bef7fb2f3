//! What somebody with the database in his hands can do: nothing that is not found.

use std::{fs, sync::Arc};

use sqlx::{Connection as _, SqliteConnection};
use strongroom::{
    model::{Algorithm, KeySpec},
    service::{Problem, Service, ServiceError, VersionPatch},
};

use crate::{
    ec,
    estate::{Estate, caller, key},
    named,
};

/// Writes into the database behind the service's back.
async fn meddle(estate: &Estate, sql: &'static str) {
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

fn assert_found<T: std::fmt::Debug>(result: Result<T, ServiceError>) {
    match result {
        Err(ServiceError { problem: Problem::Tampered { .. }, .. }) => {}
        other => panic!("not found: {other:?}"),
    }
}

/// Ends a service: its lock on the log goes with it.
async fn shut(service: Arc<Service>) {
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
