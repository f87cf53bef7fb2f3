//! What is SQLite's own; the rest is in the contract.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _, SqliteConnection, sqlite::SqliteConnectOptions,
};

use super::*;
use crate::{
    model::{EventRow, Scope},
    store::{
        Change, CommitError, EventPlace, Sealed, Store as _, Undelivered, Write,
        contract::{
            contract_tests,
            everything::{FOUND, fill, one_of_each, read_all},
            fixtures::*,
        },
        sql::looked_up,
    },
};

mod schemas;

contract_tests!(fresh);

async fn fresh() -> Option<(tempfile::TempDir, SqliteStore)> {
    Some(SqliteStore::temporary().await)
}

fn file(folder: &tempfile::TempDir) -> std::path::PathBuf {
    folder.path().join("store.db")
}

/// A connection of somebody else to the same file.
async fn stranger(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).foreign_keys(false).connect().await.expect("opens")
}

async fn run(connection: &mut SqliteConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.expect("runs");
}

#[tokio::test]
async fn sqlite_is_new_enough_and_set_up_to_be_durable() {
    let (_folder, store) = SqliteStore::temporary().await;
    // Before 3.51.3 resetting the WAL could corrupt the file.
    let version: String =
        sqlx::query_scalar("SELECT sqlite_version()").fetch_one(&store.database().writer).await.expect("read");
    let parts: Vec<u32> = version.split('.').map(|part| part.parse().expect("a number")).collect();
    assert!(parts >= vec![3, 51, 3], "{version}");
    for (pragma, wanted) in [
        ("PRAGMA journal_mode", "wal"),
        ("PRAGMA synchronous", "2"),
        ("PRAGMA foreign_keys", "1"),
        ("PRAGMA trusted_schema", "0"),
        ("PRAGMA secure_delete", "1"),
    ] {
        let row = sqlx::query(pragma).fetch_one(&store.database().writer).await.expect("read");
        let found: String = row.try_get(0).unwrap_or_else(|_| row.get::<i64, _>(0).to_string());
        assert_eq!(found, wanted, "{pragma}");
    }
}

#[tokio::test]
async fn the_file_and_its_journal_are_the_owners_alone() {
    let (folder, store) = SqliteStore::temporary().await;
    fill(&store).await;
    read_all(&store).await.expect("read");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder.path()).expect("a folder") {
        let entry = entry.expect("an entry");
        let mode = entry.metadata().expect("metadata").permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{:?}", entry.file_name());
        names.push(entry.file_name().into_string().expect("a name"));
    }
    names.sort();
    assert_eq!(names, ["store.db", "store.db-shm", "store.db-wal"]);
}

#[tokio::test]
async fn reopening_keeps_everything() {
    let (folder, store) = SqliteStore::temporary().await;
    fill(&store).await;
    assert_eq!(read_all(&store).await.expect("read"), FOUND);
    store.close().await;
    let store = SqliteStore::open(&file(&folder)).await.expect("opens again");
    assert_eq!(read_all(&store).await.expect("read"), FOUND);
    store.close().await;
}

#[tokio::test]
async fn what_is_committed_is_in_the_file_without_closing() {
    let (folder, store) = SqliteStore::temporary().await;
    fill(&store).await;
    let other = SqliteStore::open(&file(&folder)).await.expect("opens beside it");
    assert_eq!(read_all(&other).await.expect("read"), FOUND);
}

#[tokio::test]
async fn two_stores_on_one_file_wait_for_each_other() {
    let (folder, first) = SqliteStore::temporary().await;
    let second = SqliteStore::open(&file(&folder)).await.expect("opens beside it");
    let write = |store: SqliteStore, from: u8| async move {
        for n in from..from + 20 {
            let change = change([Write::Assignment(sealed(assignment(n, Scope::Service)))]);
            store.commit(change).await.expect("committed");
        }
    };
    tokio::join!(write(first.clone(), 0), write(second, 100));
    assert_eq!(first.assignments().await.expect("read").len(), 40);
}

#[tokio::test]
async fn a_file_held_by_somebody_else_is_unavailable_and_then_works() {
    let (folder, store) = SqliteStore::temporary().await;
    let mut stranger = stranger(&file(&folder)).await;
    run(&mut stranger, "BEGIN IMMEDIATE").await;
    let result = store.commit(one_of_each()).await;
    assert!(matches!(result, Err(CommitError::Store(StoreError::Unavailable(_)))), "{result:?}");
    assert_eq!(read_all(&store).await.expect("readers do not wait"), 0);
    run(&mut stranger, "ROLLBACK").await;
    store.commit(one_of_each()).await.expect("committed");
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    let (folder, store) = SqliteStore::temporary().await;
    store.close().await;
    let mut stranger = stranger(&file(&folder)).await;
    run(&mut stranger, "PRAGMA user_version = 99").await;
    let result = SqliteStore::open(&file(&folder)).await;
    assert!(matches!(result, Err(StoreError::Schema { found: 99, .. })), "{result:?}");
    // A migration that this release does not know, whatever the version says.
    let unknown = "INSERT INTO _sqlx_migrations VALUES (98, 'later', CURRENT_TIMESTAMP, TRUE, x'00', 0)";
    run(&mut stranger, "PRAGMA user_version = 1").await;
    run(&mut stranger, unknown).await;
    let result = SqliteStore::open(&file(&folder)).await;
    assert!(matches!(result, Err(StoreError::Schema { found: 98, .. })), "{result:?}");
}

#[tokio::test]
async fn a_file_of_another_program_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(&folder);
    std::fs::write(&path, b"").expect("a file");
    let mut stranger = stranger(&path).await;
    run(&mut stranger, "CREATE TABLE recipes (name TEXT)").await;
    let result = SqliteStore::open(&path).await;
    assert!(matches!(result, Err(StoreError::Schema { found: 0, .. })), "{result:?}");
    let tables: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(&mut stranger).await.expect("read");
    assert_eq!(tables, 1);
}

#[tokio::test]
async fn what_is_no_database_or_no_file_cannot_be_opened() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(&folder);
    std::fs::write(&path, "no database, but long enough to look like one. ".repeat(200)).expect("a file");
    for path in [path, folder.path().to_owned(), folder.path().join("missing/store.db")] {
        let result = SqliteStore::open(&path).await;
        assert!(matches!(result, Err(StoreError::Open { .. })), "{result:?}");
    }
}

#[tokio::test]
async fn a_read_only_file_is_read_and_not_written() {
    let (folder, store) = SqliteStore::temporary().await;
    fill(&store).await;
    store.close().await;
    // Tests may run as root, whom no mode stops: the connection is opened as SQLite would open it.
    let pools = open::open(&file(&folder), open::Access::Read).await.expect("opens");
    let store = SqliteStore::of(pools);
    let change = || change([Write::Vault(sealed(vault(9, "prod")))]);
    for _ in 0..6 {
        let result = store.commit(change()).await;
        assert!(matches!(result, Err(CommitError::Store(StoreError::Unavailable(_)))), "{result:?}");
        assert_eq!(read_all(&store).await.expect("read"), FOUND);
    }
}

#[tokio::test]
async fn a_full_disk_applies_nothing_and_the_store_works_again_with_room() {
    let (_folder, store) = SqliteStore::temporary().await;
    fill(&store).await;
    let pages: i64 = sqlx::query_scalar("PRAGMA page_count").fetch_one(&store.database().writer).await.expect("read");
    let limit = AssertSqlSafe(format!("PRAGMA max_page_count = {}", pages + 3));
    sqlx::query(limit).execute(&store.database().writer).await.expect("set");
    let change = || {
        let versions = (10..60).map(|n| Write::Version(sealed(version(n, "dev", "Root", u64::from(n)))));
        change(versions)
    };
    let result = store.commit(change()).await;
    assert!(matches!(result, Err(CommitError::Store(StoreError::Unavailable(_)))), "{result:?}");
    assert_eq!(read_all(&store).await.expect("read"), FOUND);
    // SQLite has rolled back by itself. The connection that missed it is replaced, and its limit with it.
    store.commit(change()).await.expect("committed");
}

#[tokio::test]
async fn no_damaged_page_panics() {
    let (folder, store) = SqliteStore::temporary().await;
    fill(&store).await;
    store.close().await;
    let clean = std::fs::read(file(&folder)).expect("bytes");
    for page in 1..clean.len() / 4096 {
        let mut bytes = clean.clone();
        bytes[page * 4096..page * 4096 + 200].fill(0xa5);
        std::fs::write(file(&folder), &bytes).expect("written");
        if let Ok(store) = SqliteStore::open(&file(&folder)).await {
            let _ = read_all(&store).await;
            let _ = store.commit(change([Write::Vault(sealed(vault(9, "prod")))])).await;
            store.close().await;
        }
    }
}

/// Takes away what keeps wrong values out: types, NOT NULL and CHECK.
async fn without_rules(path: &Path) -> SqliteConnection {
    let mut stranger = stranger(path).await;
    let sql = "PRAGMA writable_schema = ON; \
        UPDATE sqlite_schema SET sql = replace(replace(replace(sql, ') STRICT, WITHOUT', ') WITHOUT'), ') STRICT', ')'), \
        'NOT NULL', '') WHERE type = 'table' AND name <> '_sqlx_migrations'; PRAGMA writable_schema = RESET";
    run(&mut stranger, sql).await;
    stranger.close().await.expect("closed");
    let mut stranger = self::stranger(path).await;
    run(&mut stranger, "PRAGMA ignore_check_constraints = ON").await;
    stranger
}

#[tokio::test]
async fn no_column_content_is_believed_or_panics() {
    let (folder, store) = SqliteStore::temporary().await;
    fill(&store).await;
    store.close().await;
    let mut stranger = without_rules(&file(&folder)).await;
    let store = SqliteStore::open(&file(&folder)).await.expect("opens");
    assert_eq!(read_all(&store).await.expect("read"), FOUND);
    let sql = "SELECT t.name, c.name FROM sqlite_schema t, pragma_table_info(t.name) c \
        WHERE t.type = 'table' AND t.name <> '_sqlx_migrations' AND c.name NOT IN ('singleton')";
    let columns: Vec<(String, String)> = sqlx::query_as(sql).fetch_all(&mut stranger).await.expect("read");
    assert!(columns.len() > 60);
    // Not one of these is what a column of ours holds, but for those said below.
    let strange =
        ["NULL", "-1", "70000", "1.5", "''", "'\u{e9}!'", "CAST(x'ff' AS TEXT)", "x''", "x'00'", "zeroblob(99)"];
    let mut believed = Vec::new();
    run(&mut stranger, "PRAGMA synchronous = OFF").await;
    for (table, column) in columns {
        run(&mut stranger, &format!("CREATE TEMP TABLE clean AS SELECT * FROM {table}")).await;
        for value in strange {
            let update = AssertSqlSafe(format!("UPDATE OR IGNORE {table} SET {column} = {value}"));
            let done = sqlx::raw_sql(update).execute(&mut stranger).await.expect("runs");
            // Nothing is written into a primary key that stays NOT NULL whatever the schema says.
            if done.rows_affected() == 0 {
                continue;
            }
            let result = read_all(&store).await;
            let told = matches!(result, Err(StoreError::Inconsistent { .. })) || matches!(result, Ok(n) if n < FOUND);
            if !told && !is_free(&table, &column, value) {
                believed.push(format!("{table}.{column} = {value}: {result:?}"));
            }
            let restore = format!("BEGIN; DELETE FROM {table}; INSERT INTO {table} SELECT * FROM clean; COMMIT");
            run(&mut stranger, &restore).await;
        }
        run(&mut stranger, "DROP TABLE clean").await;
    }
    assert_eq!(read_all(&store).await.expect("read"), FOUND);
    assert!(believed.is_empty(), "{believed:#?}");
}

/// Columns that hold any time, any bytes, any text or any number, and for which only the seal can tell.
fn is_free(table: &str, column: &str, value: &str) -> bool {
    let name = matches!((table, column), ("replicas", "name") | ("leases", "holder"));
    let time = matches!(
        column,
        "created_at"
            | "updated_at"
            | "expires_at"
            | "not_before"
            | "deleted_at"
            | "purge_at"
            | "policy_created_at"
            | "policy_updated_at"
            | "due_at"
            | "noted_at"
            | "kek_since"
            | "known_at"
    ) || matches!(column, "at" | "beat_at" | "used_at" | "happened_at" | "tried_at" | "next_at");
    let optional = matches!(column, "not_before" | "expires_at" | "deleted_at" | "purge_at" | "noted_at")
        && table != "leases"
        || matches!((table, column), ("events", "version" | "due_at") | ("versions", "kek") | ("vaults", "kek_since"))
        || matches!((table, column), ("instance", "root" | "renewal" | "log_keys") | ("issuer_keys", "kek"))
        || matches!((table, column), ("known", "newest") | ("secrets", "kek") | ("secret_values", "ciphertext"));
    let number = matches!(column, "encryptions" | "ordinal" | "intent" | "row_count" | "retention_days" | "revision");
    let number =
        number || matches!(column, "ordinal" | "log_size" | "heard" | "adopted" | "token" | "position" | "until");
    let number = number || matches!(column, "uses" | "elapsed_s" | "number" | "attempts" | "last_revision");
    // What is compared in the database only, and what a key may be called.
    let free = column == "kept_at" || (column == "next_at" && value == "1.5");
    let free = free || ((table, column) == ("events", "key") && ["-1", "70000", "''"].contains(&value));
    let bytes = matches!(
        column,
        "sealing_key" | "data_key" | "canary" | "log_public" | "check_value" | "public_key" | "blob" | "escrow"
    ) || matches!(column, "iv" | "tag" | "ciphertext");
    let text = matches!(column, "token_label" | "token_serial" | "resource" | "description")
        || matches!(column, "version" | "address" | "trouble" | "work") && matches!(table, "replicas" | "leases")
        || matches!((table, column), ("events", "principal" | "detail") | ("deliveries", "failure"))
        || matches!((table, column), ("secret_versions", "content_type"));
    // Lists of patterns, in which digits and dots can be, and lists of permissions: they may be empty.
    let patterns = matches!(column, "actions" | "not_actions" | "data_actions" | "not_data_actions");
    let list = patterns || matches!(column, "keys" | "secrets" | "certificates" | "retired_keks");
    if free {
        return true;
    }
    match value {
        "NULL" => optional,
        // A column of texts keeps a number as its digits.
        "-1" => time || text || patterns,
        "70000" => time || number || text || patterns || name,
        "1.5" => text || patterns,
        "''" => bytes || text || list,
        "x''" => bytes || text,
        _ => bytes || text,
    }
}

#[tokio::test]
async fn an_event_that_cannot_be_read_holds_up_no_other() {
    let (folder, store) = SqliteStore::temporary().await;
    let events = (1..=4).map(|n| sealed(event(n, "dev"))).collect();
    store.commit(Change { events, ..change([]) }).await.expect("committed");
    let (begin, _) = store.event_bounds().await.expect("read");
    let places: Vec<_> = store.events(begin, 9).await.expect("read").into_iter().map(|(place, _)| place).collect();
    store.queue("ops", None, begin, Vec::new()).await.expect("begun");
    store.queue("ops", Some(begin), places[3], places.clone()).await.expect("queued");
    let dead = |place: &EventPlace| Undelivered { place: *place, failure: "no".to_owned(), retry_after: None };
    let failed = places[2..].iter().map(dead).collect();
    store.settle_deliveries("ops", Vec::new(), failed).await.expect("settled");
    // As a newer release has made them.
    let later = "UPDATE events SET type = 'strongroom.v1.Later' WHERE number IN (0, 2)";
    run(&mut stranger(&file(&folder)).await, later).await;
    let readable = |found: Vec<(EventPlace, Option<Sealed<EventRow>>)>| {
        found.into_iter().map(|(place, event)| (place, event.is_some())).collect::<Vec<_>>()
    };
    let is_readable = [false, true, false, true];
    let all: Vec<_> = places.iter().copied().zip(is_readable).collect();
    assert_eq!(readable(store.events(begin, 9).await.expect("read")), all);
    assert_eq!(readable(store.events(begin, 1).await.expect("read")), all[..1], "a page of nothing else has its place");
    let due = store.deliveries("ops", 9).await.expect("read");
    assert_eq!(due.iter().map(|due| (due.place, due.event.is_some())).collect::<Vec<_>>(), all[..2]);
    for limit in [1, 9] {
        let letters = store.dead_letters("ops", begin, limit).await.expect("read");
        assert_eq!(letters.iter().map(|letter| letter.place).collect::<Vec<_>>(), places[3..], "of at most {limit}");
    }
}

#[tokio::test]
async fn what_is_known_of_the_use_of_a_version_goes_with_it() {
    let (folder, store) = SqliteStore::temporary().await;
    fill(&store).await;
    let mut stranger = stranger(&file(&folder)).await;
    run(&mut stranger, "PRAGMA foreign_keys = ON; DELETE FROM usage; DELETE FROM versions").await;
    assert_eq!(store.all_activity(None, 9).await.expect("read"), []);
}

#[tokio::test]
async fn lookups_and_pages_use_an_index() {
    let (_folder, store) = SqliteStore::temporary().await;
    for sql in looked_up() {
        let plan = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")));
        for row in plan.fetch_all(&store.database().writer).await.expect("a plan") {
            let step: String = row.get("detail");
            assert!(!step.starts_with("SCAN") && !step.contains("TEMP B-TREE"), "{sql}: {step}");
        }
    }
}
