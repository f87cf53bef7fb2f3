//! Bundles that are gone.

use super::*;

fn made() -> Made {
    Made::new((0..6 * 256).map(|n| signs("a:a", "release", START + n)))
}

#[tokio::test]
async fn what_was_pruned_is_left_out_and_said() {
    let made = made();
    let index = made.index();
    feed_all(&index, &made).await;
    made.prune(0);
    made.prune(1);
    let page = oldest_first(1000);
    let found = index.find(made.readable(), &within("vaults/dev"), &page).await.unwrap();
    assert_eq!((found.records[0].index, found.pruned), (512, 2));
    let found = index.find(made.readable(), &within("vaults/other"), &page).await.unwrap();
    assert_eq!((found.records.len(), found.pruned), (0, 0), "they had nothing of it");
}

#[tokio::test]
async fn what_was_counted_before_it_was_pruned_stays_counted() {
    let made = made();
    let index = made.index();
    feed_all(&index, &made).await;
    made.prune(0);
    let uses = index.uses(made.readable(), &within("vaults/dev"), &UsePage { after: None, limit: 10 }).await.unwrap();
    assert_eq!((uses.uses[0].tally.count, uses.unseen), (6 * 256, 0));
}

#[tokio::test]
async fn what_was_pruned_before_it_was_indexed_is_found_when_it_is_back() {
    let made = made();
    let bundle = made.dir().join(tile::entries_path(1, WIDTH));
    let archived = std::fs::read(&bundle).unwrap();
    made.prune(1);
    let index = made.index();
    feed_all(&index, &made).await;
    let uses = index.uses(made.readable(), &within("vaults/dev"), &UsePage { after: None, limit: 10 }).await.unwrap();
    assert_eq!((uses.uses[0].tally.count, uses.unseen), (5 * 256, 256));
    let count = async || find_all(&index, made.readable(), &within("vaults/dev"), oldest_first(1000)).await.0.len();
    assert_eq!(count().await, 5 * 256);
    std::fs::write(&bundle, archived).unwrap();
    assert_eq!(count().await, 6 * 256);
}
