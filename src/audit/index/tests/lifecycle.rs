//! What becomes of the file: when it is gone on with, and when it is made anew.

use std::os::unix::fs::PermissionsExt as _;

use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};

use super::*;

/// A log of that many records by one principal.
fn log_of(principal: &str, records: i64) -> Made {
    Made::new((0..records).map(|n| signs(principal, "release", START + n)))
}

async fn run(path: &Path, sql: &str) {
    let mut stranger = SqliteConnectOptions::new().filename(path).create_if_missing(true).connect().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut stranger).await.unwrap();
    stranger.close().await.unwrap();
}

async fn count_of(index: &Index, made: &Made, principal: &str) -> u64 {
    let query = Query { principal: Some(principal.to_owned()), ..within("vaults/dev/keys/release") };
    uses_all(index, made.readable(), &query, 10).await.into_values().map(|tally| tally.count).sum()
}

#[tokio::test]
async fn a_pass_ends_with_its_block_and_a_start_goes_on_behind_it() {
    let made = log_of("a:a", 2600);
    let index = made.index();
    assert_eq!(index.feed(made.readable()).await.unwrap(), 1024);
    index.close().await;
    let index = made.index();
    assert_eq!(index.feed(made.readable()).await.unwrap(), 2048);
    assert_eq!(index.feed(made.readable()).await.unwrap(), 2560);
    assert_eq!(index.feed(made.readable()).await.unwrap(), 2560);
    assert_eq!(count_of(&index, &made, "a:a").await, 2600);
}

#[tokio::test]
async fn the_file_is_for_its_owner_only() {
    let made = log_of("a:a", 300);
    let index = made.index();
    feed_all(&index, &made).await;
    for entry in std::fs::read_dir(made.dir()).unwrap().map(Result::unwrap) {
        if entry.file_name().to_str().unwrap().starts_with(db::FILE) {
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
        }
    }
    assert!(made.file().exists());
}

#[tokio::test]
async fn nothing_is_made_before_there_is_a_bundle() {
    let made = log_of("a:a", 255);
    let index = made.index();
    assert_eq!(index.feed(made.readable()).await.unwrap(), 0);
    assert!(!made.file().exists());
    assert_eq!(find_all(&index, 255, &within("vaults/dev"), oldest_first(1000)).await.0.len(), 255);
    assert_eq!(count_of(&index, &made, "a:a").await, 255);
}

/// Puts the index of one log beside another, and sees that the other is what is answered from.
async fn is_made_anew(of: &Made, origin: &str, beside: &Made) {
    let index = Index { origin: origin.to_owned(), ..of.index() };
    feed_all(&index, of).await;
    index.close().await;
    std::fs::copy(of.file(), beside.file()).unwrap();
    let index = beside.index();
    let first_pass = (beside.readable() / RECORDS * RECORDS).min(1024);
    assert_eq!(index.feed(beside.readable()).await.unwrap(), first_pass, "it begins from the beginning");
    feed_all(&index, beside).await;
    assert_eq!(count_of(&index, beside, "a:a").await, beside.readable());
    assert_eq!(count_of(&index, beside, "b:b").await, 0);
}

#[tokio::test]
async fn the_index_of_another_log_is_made_anew() {
    is_made_anew(&log_of("b:b", 2600), ORIGIN, &log_of("a:a", 2600)).await;
}

#[tokio::test]
async fn the_index_of_another_origin_is_made_anew() {
    is_made_anew(&log_of("a:a", 2600), "strongroom/00", &log_of("a:a", 2600)).await;
}

#[tokio::test]
async fn the_index_of_a_longer_log_is_made_anew() {
    is_made_anew(&log_of("a:a", 2600), ORIGIN, &log_of("a:a", 1100)).await;
}

#[tokio::test]
async fn a_log_that_is_shorter_than_what_was_fed_is_begun_anew() {
    let made = log_of("a:a", 2600);
    let index = made.index();
    feed_all(&index, &made).await;
    assert_eq!(index.feed(600).await.unwrap(), 512);
}

#[tokio::test]
async fn a_file_of_another_schema_or_program_is_made_anew() {
    for sql in ["PRAGMA user_version = 99", "PRAGMA application_id = 1", "DROP TABLE meta", "DELETE FROM meta"] {
        let made = log_of("a:a", 2600);
        let index = made.index();
        feed_all(&index, &made).await;
        index.close().await;
        run(&made.file(), sql).await;
        assert_eq!(made.index().feed(made.readable()).await.unwrap(), 1024, "{sql}");
    }
    let made = log_of("a:a", 600);
    run(&made.file(), "CREATE TABLE other (x)").await;
    let index = made.index();
    feed_all(&index, &made).await;
    assert_eq!(count_of(&index, &made, "a:a").await, 600);
}

#[tokio::test]
async fn what_is_found_wrong_while_searching_is_made_anew_and_found_without_it_meanwhile() {
    let made = log_of("a:a", 2600);
    let index = made.index();
    feed_all(&index, &made).await;
    run(&made.file(), "DROP TABLE postings").await;
    assert_eq!(find_all(&index, made.readable(), &within("vaults/dev"), oldest_first(1000)).await.0.len(), 2600);
    assert_eq!(index.feed(made.readable()).await.unwrap(), 1024);
    assert_eq!(find_all(&index, made.readable(), &within("vaults/dev"), oldest_first(1000)).await.0.len(), 2600);
}

#[tokio::test]
async fn an_index_that_cannot_be_had_only_makes_it_slower() {
    let made = log_of("a:a", 600);
    let index = made.index();
    feed_all(&index, &made).await;
    index.readers().unwrap().close().await;
    assert_eq!(find_all(&index, 600, &within("vaults/dev"), oldest_first(1000)).await.0.len(), 600);
}

#[tokio::test]
async fn what_is_no_record_ends_the_pass_and_says_where() {
    let made = log_of("a:a", 600);
    let bundle = made.dir().join(tile::entries_path(1, WIDTH));
    let mut bytes = std::fs::read(&bundle).unwrap();
    bytes[2] = b'[';
    std::fs::write(&bundle, bytes).unwrap();
    let index = made.index();
    let error = index.feed(600).await.unwrap_err();
    assert!(matches!(error, IndexError::Entry { index: 256 }), "{error:?}");
    let error = index.find(600, &within("vaults/dev"), &oldest_first(1000)).await.unwrap_err();
    assert!(matches!(error, IndexError::Entry { index: 256 }), "{error:?}");
}

#[tokio::test]
async fn searches_go_on_while_the_log_and_the_index_grow() {
    let made = log_of("a:a", 5000);
    let index = made.index();
    let feeding = async {
        for readable in (1..=50).map(|step| step * 100) {
            index.feed(readable).await.unwrap();
        }
    };
    let searching = async {
        for readable in (1..=50).map(|step| step * 100) {
            let (found, _) = find_all(&index, readable, &within("vaults/dev"), oldest_first(1000)).await;
            assert_eq!(found, (0..readable).collect::<Vec<_>>());
        }
    };
    tokio::join!(feeding, searching);
}
