//! Pages: in either order, short where much has to be read, and never with a gap.

use super::*;

/// 40 bundles, in one of which a key was used that nobody used before or since.
fn one_in_forty() -> Made {
    Made::new((0..40 * 256 + 100).map(|n| {
        let key = if n == 17 * 256 + 5 { "seldom" } else { "release" };
        signs("a:a", key, START + n)
    }))
}

#[tokio::test]
async fn the_index_spares_what_has_nothing() {
    let made = one_in_forty();
    let index = made.index();
    let query = within("vaults/dev/keys/Seldom");
    for order in [Order::NewestFirst, Order::OldestFirst] {
        let page = Page { order, after: None, limit: 10 };
        let (found, pages) = find_all(&made.index(), made.readable(), &query, page.clone()).await;
        assert_eq!((found.as_slice(), pages), ([17 * 256 + 5].as_slice(), 14), "41 bundles, three a page");
        feed_all(&index, &made).await;
        let (found, pages) = find_all(&index, made.readable(), &query, page).await;
        assert_eq!((found.as_slice(), pages), ([17 * 256 + 5].as_slice(), 1));
    }
}

#[tokio::test]
async fn times_spare_what_is_before_and_behind() {
    let made = one_in_forty();
    let index = made.index();
    feed_all(&index, &made).await;
    let time = |index: i64| Some(crate::model::Timestamp(START + index));
    let query = Query { from: time(20 * 256 + 10), until: time(20 * 256 + 12), ..Query::default() };
    let page = Page { order: Order::NewestFirst, after: None, limit: 10 };
    let (found, pages) = find_all(&index, made.readable(), &query, page).await;
    assert_eq!((found.as_slice(), pages), ([20 * 256 + 11, 20 * 256 + 10].as_slice(), 1));
}

#[tokio::test]
async fn a_list_is_never_behind() {
    let mut made = one_in_forty();
    let index = made.index();
    feed_all(&index, &made).await;
    made.append([signs("a:a", "seldom", START)]);
    let page = Page { order: Order::NewestFirst, after: None, limit: 1 };
    let found = index.find(made.readable(), &within("vaults/dev/keys/seldom"), &page).await.unwrap();
    assert_eq!(found.records[0].index, made.readable() - 1);
    assert_eq!(found.records[0].record, made.records.last().unwrap().clone());
    assert_eq!(found.records[0].entry, line::encode(made.records.last().unwrap()));
}

#[tokio::test]
async fn what_is_behind_the_readable_part_is_not_shown() {
    let made = one_in_forty();
    let index = made.index();
    feed_all(&index, &made).await;
    let (found, _) = find_all(&index, 700, &within("vaults/dev"), oldest_first(1000)).await;
    assert_eq!(found.last(), Some(&699));
}

#[tokio::test]
async fn a_page_goes_on_behind_any_record() {
    let made = one_in_forty();
    let index = made.index();
    feed_all(&index, &made).await;
    for after in [0, 1, 255, 256, 257, 10_000, made.readable() - 1, made.readable(), u64::MAX] {
        let older = Page { order: Order::NewestFirst, after: Some(after), limit: 1 };
        let older = index.find(made.readable(), &within("vaults/dev/keys/release"), &older).await.unwrap();
        let wanted = after.min(made.readable()).checked_sub(1);
        assert_eq!(older.records.first().map(|found| found.index), wanted, "before {after}");
        let newer = Page { order: Order::OldestFirst, after: Some(after), limit: 1 };
        let newer = index.find(made.readable(), &within("vaults/dev/keys/release"), &newer).await.unwrap();
        let wanted = after.checked_add(1).filter(|next| *next < made.readable());
        assert_eq!(newer.records.first().map(|found| found.index), wanted, "behind {after}");
    }
}

#[tokio::test]
async fn a_page_of_long_entries_is_short() {
    let long = |n: i64| Record { detail: Some("x".repeat(60_000)), ..signs("a:a", "release", START + n) };
    let made = Made::new((0..100).map(long));
    let found = made.index().find(100, &Query::default(), &oldest_first(1000)).await.unwrap();
    assert_eq!((found.records.len(), found.next), (35, Some(34)), "2 MiB");
    let (all, _) = find_all(&made.index(), 100, &Query::default(), oldest_first(1000)).await;
    assert_eq!(all.len(), 100);
}

#[tokio::test]
async fn a_log_without_records_has_none() {
    let made = Made::new([]);
    let found = made.index().find(0, &within("vaults/dev"), &oldest_first(10)).await.unwrap();
    assert_eq!(found, Found::default());
}
