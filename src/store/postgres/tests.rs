//! What is PostgreSQL's own; the rest is in the contract.

use std::{
    future::Future,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use super::*;
use crate::{
    model::Scope,
    store::{
        Change, CommitError, HeadScope, Position, Write,
        contract::{
            contract_tests,
            everything::{FOUND, fill, read_all},
            fixtures::*,
        },
    },
};

#[path = "../../../tests/support/postgres.rs"]
mod server;

mod failover;
mod schemas;

use server::Server;

contract_tests!(temporary);

/// How to reach a server over its socket, in that schema.
fn over_socket(server: &Server, schema: &str) -> Settings {
    Settings {
        hosts: vec![Host::Socket { folder: server.folder().to_owned(), port: server.port() }],
        database: "postgres".to_owned(),
        user: "postgres".to_owned(),
        password_file: None,
        tls: Tls::Off,
        schema: schema.parse().expect("a name"),
        connections_max: 4,
    }
}

/// A name of a schema that no other test has.
fn schema() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("s{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Where a new store can be opened, on the server that all tests share.
pub(in crate::store) async fn temporary_settings() -> Option<Settings> {
    Some(over_socket(shared().await?, &schema()))
}

/// A new store on the server that all tests share.
async fn temporary() -> Option<((), PostgresStore)> {
    Some(((), PostgresStore::open(temporary_settings().await?).await.expect("a new store opens")))
}

async fn shared() -> Option<&'static Server> {
    tokio::task::spawn_blocking(Server::shared).await.expect("no panic")
}

/// A server of the test's own.
async fn own() -> Option<Server> {
    tokio::task::spawn_blocking(Server::new).await.expect("no panic")
}

/// Something slow that blocks, beside the test.
async fn beside<T: Send>(action: impl FnOnce() -> T + Send) -> T {
    tokio::task::block_in_place(action)
}

fn granted(n: u8) -> Change {
    change([Write::Assignment(sealed(assignment(n, Scope::Service)))])
}

/// What that takes, and how long.
async fn timed<T>(action: impl Future<Output = T>) -> (T, Duration) {
    let begun = Instant::now();
    (action.await, begun.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_set_up_to_be_durable_whatever_the_server_says() {
    let Some(mut server) = own().await else { return };
    server.configure("synchronous_commit = off\nstatement_timeout = 0\ndefault_transaction_isolation = serializable");
    beside(|| {
        server.stop();
        server.start();
    })
    .await;
    let store = PostgresStore::open(over_socket(&server, "main")).await.expect("opens");
    let mut lent = store.database().connections.lend(None).await.expect("lent");
    for (setting, wanted) in [
        ("synchronous_commit", "on"),
        ("statement_timeout", "4s"),
        ("lock_timeout", "3s"),
        ("default_transaction_isolation", "read committed"),
        ("search_path", "main,pg_temp"),
    ] {
        let query = || sqlx::query("SELECT current_setting($1)").bind(setting);
        let rows = lent.fetch_all(query).await.expect("read");
        let found: String = sqlx::Row::get(&rows[0], 0);
        assert_eq!(found, wanted, "{setting}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn order_is_that_of_bytes_whatever_the_locale() {
    let Some(((), store)) = temporary().await else { return };
    let names = ["a-bc", "a0bc", "abc", "bcd"];
    must_all(&store, names.iter().enumerate().map(|(n, name)| Write::Vault(sealed(vault(n as u8 + 1, name))))).await;
    let found = store.vaults(None, 9, true).await.expect("read");
    let found: Vec<_> = found.iter().map(|row| row.unchecked().name.as_str().to_owned()).collect();
    assert_eq!(found, names);
}

async fn must_all(store: &PostgresStore, writes: impl IntoIterator<Item = Write>) {
    store.commit(change(writes)).await.expect("committed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_are_told_of_a_change_and_oneself_is_not() {
    let Some(server) = shared().await else { return };
    let schema = schema();
    let one = PostgresStore::open(over_socket(server, &schema)).await.expect("opens");
    let other = PostgresStore::open(over_socket(server, &schema)).await.expect("opens");
    // The first hint says that it listens now.
    for store in [&one, &other] {
        tokio::time::timeout(Duration::from_secs(10), store.hint()).await.expect("a hint");
    }
    one.commit(granted(1)).await.expect("committed");
    let is_urgent = tokio::time::timeout(Duration::from_secs(10), other.hint()).await.expect("a hint");
    assert!(!is_urgent);
    one.commit(Change { is_urgent: true, ..granted(2) }).await.expect("committed");
    let is_urgent = tokio::time::timeout(Duration::from_secs(10), other.hint()).await.expect("a hint");
    assert!(is_urgent);
    tokio::time::timeout(Duration::from_millis(300), one.hint()).await.expect_err("its own changes are no news");
    one.put_replica(sealed(replica(0, "a"))).await.expect("written");
    one.beat(beat("a", 1)).await.expect("kept");
    let quiet = tokio::time::timeout(Duration::from_millis(300), other.hint()).await;
    quiet.expect_err("signs of life are looked for, or hearing of them would never end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_on_one_schema_see_each_other_and_clash() {
    let Some(server) = shared().await else { return };
    let schema = schema();
    let (one, other) = tokio::join!(
        PostgresStore::open(over_socket(server, &schema)),
        PostgresStore::open(over_socket(server, &schema))
    );
    let (one, other) = (one.expect("opens"), other.expect("opens at the same time"));
    let to = |revision| Change { heads: vec![bare(head(HeadScope::Service, revision, &[]))], ..change([]) };
    one.commit(to(1)).await.expect("committed");
    assert!(matches!(other.commit(to(1)).await, Err(CommitError::Conflict)));
    other.commit(to(2)).await.expect("committed");
    assert_eq!(one.head(&HeadScope::Service).await.expect("read").expect("a head").unchecked().revision, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_is_still_open_holds_the_position_and_nothing_is_missed() {
    let Some(server) = shared().await else { return };
    let name = schema();
    let store = PostgresStore::open(over_socket(server, &name)).await.expect("opens");
    // Gets its number first and becomes visible last.
    let mut slow = store.session(Purpose::Write).await.expect("lent");
    let head_of = |n: u8| {
        let head = sealed(head(HeadScope::Vault([n; 16]), 1, &[]));
        crate::store::HeadChange { head, steps: Vec::new() }
    };
    let late = head_of(1);
    let early = head_of(2);
    let at = crate::store::sql::write_head(&mut slow, &late).await.expect("written");
    store.commit(Change { heads: vec![early], ..change([]) }).await.expect("committed");
    let heard = store.heard(None).await.expect("heard");
    assert_eq!(heard.heads.len(), 1);
    assert!(heard.position <= at, "what is still open is not heard up to");
    slow.commit().await.expect("committed");
    let then = store.heard(Some(heard.position)).await.expect("heard");
    assert!(then.heads.contains(&(HeadScope::Vault([1; 16]), 1)), "{then:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_changes_leave_connections_usable() {
    let Some(((), store)) = temporary().await else { return };
    must_all(&store, [Write::Vault(sealed(vault(1, "dev")))]).await;
    for _ in 0..20 {
        let result = store.commit(change([Write::Vault(sealed(vault(2, "dev")))])).await;
        assert!(matches!(result, Err(CommitError::Exists)), "{result:?}");
    }
    assert_eq!(store.vaults(None, 9, true).await.expect("read").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_columns_are_not_believed() {
    let Some(server) = shared().await else { return };
    let name = schema();
    let store = PostgresStore::open(over_socket(server, &name)).await.expect("opens");
    must_all(&store, [Write::Vault(sealed(vault(1, "dev")))]).await;
    let dev = vault_name("dev");
    let spoil = |what: &str| {
        let words = format!(
            "ALTER TABLE {name}.vaults DROP CONSTRAINT IF EXISTS vaults_seal_check; UPDATE {name}.vaults SET {what}"
        );
        beside(move || server.sql(&words))
    };
    spoil("tags = '{ }'").await;
    let result = store.vault(&dev).await;
    assert!(matches!(result, Err(StoreError::Inconsistent { table: "vaults", column: "tags" })), "{result:?}");
    spoil("tags = '{}', seal = '\\x00'").await;
    let result = store.vault(&dev).await;
    assert!(matches!(result, Err(StoreError::Inconsistent { table: "vaults", column: "seal" })), "{result:?}");
    beside(|| server.sql(&format!("ALTER TABLE {name}.vaults RENAME COLUMN seal TO gone"))).await;
    let result = store.vault(&dev).await;
    assert!(matches!(result, Err(StoreError::Inconsistent { .. } | StoreError::Unavailable(_))), "{result:?}");
}

#[test]
fn messages_hold_no_password() {
    let settings = Settings {
        hosts: vec!["db1".parse().expect("a host")],
        database: "d".to_owned(),
        user: "u".to_owned(),
        password_file: Some(PathBuf::from("/run/secrets/password")),
        tls: Tls::Off,
        schema: SchemaName::default(),
        connections_max: 1,
    };
    assert!(format!("{settings:?}").contains("/run/secrets/password"), "its file, and nothing else, is named");
}
