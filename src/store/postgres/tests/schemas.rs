//! Schemas that are there already.

use super::*;

async fn opens(server: &Server, schema: &str) -> Result<PostgresStore, StoreError> {
    PostgresStore::open(over_socket(server, schema)).await
}

async fn say(server: &'static Server, words: String) {
    beside(move || server.sql(&words)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_schema_is_refused_unless_it_says_that_it_can_be_used() {
    let Some(server) = shared().await else { return };
    let name = schema();
    assert!(!PostgresStore::is_made(&over_socket(server, &name)).await.expect("answered"));
    let store = opens(server, &name).await.expect("opens");
    assert!(PostgresStore::is_made(&over_socket(server, &name)).await.expect("answered"));
    store.commit(granted(1)).await.expect("committed");
    assert_eq!(store.assignments().await.expect("read").len(), 1);
    say(server, format!("UPDATE {name}.strongroom_schema SET version = 9, readable_from = 6")).await;
    let result = opens(server, &name).await;
    assert!(matches!(result, Err(StoreError::Schema { found: 9, .. })), "{result:?}");
    say(server, format!("UPDATE {name}.strongroom_schema SET readable_from = 1")).await;
    // As a newer release does it: what this one does not know has a default.
    say(server, format!("ALTER TABLE {name}.role_assignments ADD COLUMN later bigint NOT NULL DEFAULT 7")).await;
    let newer = format!("INSERT INTO {name}._sqlx_migrations VALUES (9, 'later', now(), true, '\\x00', 0)");
    say(server, newer).await;
    let newer = opens(server, &name).await.expect("opens");
    newer.commit(granted(2)).await.expect("committed");
    assert_eq!(newer.assignments().await.expect("read").len(), 2);
    // And one that was open all the while, whose statements were prepared before.
    assert_eq!(store.assignments().await.expect("read").len(), 2);
    store.commit(granted(3)).await.expect("committed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_with_tables_that_are_not_ours_is_refused_and_left_alone() {
    let Some(server) = shared().await else { return };
    let name = schema();
    say(server, format!("CREATE SCHEMA {name}; CREATE TABLE {name}.vaults (name text)")).await;
    let result = opens(server, &name).await;
    assert!(matches!(result, Err(StoreError::Schema { found: 0, .. })), "{result:?}");
    let count = format!("SELECT count(*) FROM pg_class WHERE relnamespace = '{name}'::regnamespace");
    assert_eq!(beside(|| server.sql(&count)).await, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reopening_keeps_everything() {
    let Some(server) = shared().await else { return };
    let name = schema();
    let store = opens(server, &name).await.expect("opens");
    store.commit(granted(1)).await.expect("committed");
    store.close().await;
    let store = opens(server, &name).await.expect("opens again");
    assert_eq!(store.assignments().await.expect("read").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_of_another_server_is_counted_anew() {
    let Some(server) = shared().await else { return };
    let name = schema();
    let store = opens(server, &name).await.expect("opens");
    fill(&store).await;
    say(server, format!("UPDATE {name}.heads SET position = position + 1000000")).await;
    let store = opens(server, &name).await.expect("opens again");
    let heard = store.heard(Some(Position(1))).await.expect("heard");
    assert_eq!(heard.heads.len(), 2, "everybody hears of it once");
    // What other tests have under way on this server holds positions up.
    let begun = Instant::now();
    let mut heard = store.heard(Some(heard.position)).await.expect("heard");
    while !heard.heads.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(30), "it is heard of again and again");
        tokio::time::sleep(Duration::from_millis(50)).await;
        heard = store.heard(Some(heard.position)).await.expect("heard");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_needs_no_more_than_its_schema() {
    let Some(server) = shared().await else { return };
    let name = schema();
    say(server, format!("CREATE ROLE r_{name} LOGIN; CREATE SCHEMA {name} AUTHORIZATION r_{name}")).await;
    let settings = Settings { user: format!("r_{name}"), ..over_socket(server, &name) };
    let store = PostgresStore::open(settings.clone()).await.expect("opens");
    store.commit(granted(1)).await.expect("committed");
    // One that has no schema may not make one, and is told.
    let settings = Settings { schema: schema().parse().expect("a name"), ..settings };
    let result = PostgresStore::open(settings).await;
    let Err(StoreError::Unavailable(error)) = result else { panic!("{result:?}") };
    assert!(error.to_string().contains("42501"), "{error}");
}

/// Schemas of every version there was, kept as SQL: see `sqlite/tests/schemas.rs`.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/schema");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_schema_there_was_is_opened_and_read() {
    let Some(server) = shared().await else { return };
    // A change of an older server stands where its transaction stood: it is visible once this one has had as many.
    let pass = "DO $$ BEGIN FOR n IN 1..3000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$";
    say(server, pass.to_owned()).await;
    for version in 1..=schema::SCHEMA_VERSION {
        let path = PathBuf::from(format!("{FOLDER}/postgres-{version}.sql"));
        if !path.exists() && std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(&path, of_schema(server, version).await).expect("written");
        }
        let database = format!("fixture_{version}");
        say(server, format!("CREATE DATABASE {database}")).await;
        assert!(path.exists(), "{path:?}: make it with UPDATE_EXPECT=1");
        beside(|| server.load(&database, &path)).await;
        let settings = Settings { database, ..over_socket(server, "fixture") };
        let store = PostgresStore::open(settings).await.expect("opens");
        // The keys of a first schema have no policy, the first two know no events, the first three nothing of keys with backups,
        // the first four no secrets.
        let found = [34, 36, 45, 48, FOUND][usize::try_from(version).expect("small") - 1];
        assert_eq!(read_all(&store).await.expect("read"), found, "schema {version}");
        store.commit(change([Write::Vault(sealed(vault(9, "prod")))])).await.expect("committed");
    }
}

/// The newest schema with one row of each kind, as pg_dump says it.
async fn of_schema(server: &'static Server, version: i64) -> String {
    assert_eq!(version, schema::SCHEMA_VERSION, "only the newest can be made");
    let database = "fixture_new";
    say(server, format!("CREATE DATABASE {database}")).await;
    let settings = Settings { database: database.to_owned(), ..over_socket(server, "fixture") };
    let store = PostgresStore::open(settings).await.expect("opens");
    fill(&store).await;
    store.close().await;
    beside(|| server.dump(database, "fixture")).await
}
