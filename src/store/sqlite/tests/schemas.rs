//! Files of every schema there was, kept as SQL in `tests/fixtures/schema`: each is opened and read by this release.
//!
//! `UPDATE_EXPECT=1` writes those that are missing, with the migrations up to that schema and one row of each kind. One
//! that is there is never written again: it is what a release has left on somebody's disk.

use std::{fmt::Write as _, fs};

use sqlx::migrate::Migrator;

use super::*;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/schema");

/// How much can be read of each.
const FOUND_OF: [usize; 9] = [20, 24, 24, 28, 34, 36, 45, 48, FOUND];

fn dump(schema: i64) -> std::path::PathBuf {
    Path::new(FOLDER).join(format!("sqlite-{schema}.sql"))
}

async fn texts(connection: &mut SqliteConnection, sql: &str) -> Vec<String> {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_all(connection).await.expect("read")
}

/// A file of that schema, as the migrations up to it make it, with the rows of a newer one that it has room for.
async fn of_schema(schema: i64) -> String {
    let (newest_folder, newest) = SqliteStore::temporary().await;
    fill(&newest).await;
    newest.close().await;
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(file(&folder), b"").expect("written");
    let mut old = stranger(&file(&folder)).await;
    let migrations = open::MIGRATOR.iter().filter(|migration| migration.version <= schema).cloned();
    Migrator::with_migrations(migrations.collect()).run_direct(None, &mut old, false).await.expect("made");
    run(&mut old, &format!("ATTACH '{}' AS newest", file(&newest_folder).display())).await;
    let tables =
        "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name <> '_sqlx_migrations' ORDER BY rowid";
    let mut rows = String::new();
    for table in texts(&mut old, tables).await {
        let columns = texts(&mut old, &format!("SELECT name FROM pragma_table_info('{table}', 'main')")).await;
        let list = columns.join(", ").replace("authorization", "\"authorization\"");
        run(&mut old, &format!("DELETE FROM {table}; INSERT INTO {table} ({list}) SELECT {list} FROM newest.{table}"))
            .await;
        dump_rows(&mut old, &table, &columns, &mut rows).await;
    }
    // The migrator's own table says what was applied, and nothing here depends on when.
    run(&mut old, "UPDATE _sqlx_migrations SET installed_on = '2026-01-01 00:00:00', execution_time = 0").await;
    let columns = texts(&mut old, "SELECT name FROM pragma_table_info('_sqlx_migrations', 'main')").await;
    dump_rows(&mut old, "_sqlx_migrations", &columns, &mut rows).await;
    let made = "SELECT sql FROM main.sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid";
    let made = texts(&mut old, made).await.join(";\n");
    format!("PRAGMA application_id = 1400140397;\nPRAGMA user_version = {schema};\n{made};\n{rows}")
}

async fn dump_rows(connection: &mut SqliteConnection, table: &str, columns: &[String], to: &mut String) {
    let quoted: Vec<String> = columns.iter().map(|column| format!("quote(\"{column}\")")).collect();
    for row in texts(connection, &format!("SELECT {} FROM main.{table}", quoted.join(" || ', ' || "))).await {
        let columns = columns.iter().map(|column| format!("\"{column}\"")).collect::<Vec<_>>().join(", ");
        writeln!(to, "INSERT INTO {table} ({columns}) VALUES ({row});").expect("a text");
    }
}

#[tokio::test]
async fn every_schema_there_was_is_opened_and_read() {
    for schema in 1..=open::SCHEMA_VERSION {
        let path = dump(schema);
        if !path.exists() && std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(&path, of_schema(schema).await).expect("written");
        }
        let sql = fs::read_to_string(&path).unwrap_or_else(|_| panic!("{path:?}: make it with UPDATE_EXPECT=1"));
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(file(&folder), b"").expect("written");
        let mut made = stranger(&file(&folder)).await;
        run(&mut made, &sql).await;
        made.close().await.expect("closed");
        let store = SqliteStore::open(&file(&folder)).await.expect("opens");
        let at = usize::try_from(schema).expect("small") - 1;
        assert_eq!(read_all(&store).await.expect("read"), FOUND_OF[at], "schema {schema}");
        store.commit(change([Write::Vault(sealed(vault(9, "prod")))])).await.expect("committed");
    }
}
