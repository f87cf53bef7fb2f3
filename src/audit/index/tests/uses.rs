//! Who used what.

use super::*;
use crate::model::Timestamp;

const DAY: i64 = 86_400;

fn key(object: &str, principal: &str, operation: &str, outcome: Outcome) -> UseKey {
    UseKey { object: object.to_owned(), principal: principal.to_owned(), operation: operation.to_owned(), outcome }
}

/// The counts, from the index and from reading everything.
async fn counts(records: Vec<Record>, query: &Query) -> Vec<(UseKey, u64)> {
    let filler = (0..300).map(|_| signs("filler:f", "filler", 0));
    let made = Made::new(records.into_iter().chain(filler));
    let index = made.index();
    feed_all(&index, &made).await;
    let counted = uses_all(&index, made.readable(), query, 2).await;
    assert_eq!(counted, tally(&Reader::new(made.dir()), 0..made.readable(), query).unwrap());
    counted.into_iter().map(|(key, tally)| (key, tally.count)).collect()
}

#[tokio::test]
async fn a_record_of_repeated_refusals_counts_as_so_many() {
    let refused = |repeated| Record { repeated, outcome: Outcome::Refused, ..signs("a:a", "Release", START) };
    let counted = counts(vec![refused(0), refused(41)], &within("vaults/dev/keys/release")).await;
    assert_eq!(counted, [(key("vaults/dev/keys/release", "a:a", "keys.sign", Outcome::Refused), 43)]);
}

#[tokio::test]
async fn a_batch_counts_by_its_groups() {
    let groups = vec![
        group("keys.sign", "vaults/dev/keys/release/versions/00", Outcome::Done, 200),
        group("keys.sign", "vaults/dev/keys/release/versions/01", Outcome::Done, 5),
        group("keys.decrypt", "vaults/dev/keys/release", Outcome::Failed, 3),
        group("keys.sign", "vaults/dev/keys/other", Outcome::Done, 7),
    ];
    let batch = Record {
        resource: None,
        operation: "keys.batch".to_owned(),
        batch: Some(Batch { groups, items: Vec::new() }),
        ..signs("a:a", "", START)
    };
    let counted = counts(vec![batch.clone()], &within("vaults/dev/keys/release")).await;
    let release = |operation, outcome| key("vaults/dev/keys/release", "a:a", operation, outcome);
    assert_eq!(counted, [(release("keys.decrypt", Outcome::Failed), 3), (release("keys.sign", Outcome::Done), 205)]);
    let by = Query { principal: Some("a:a".to_owned()), ..Query::default() };
    let all: u64 = counts(vec![batch], &by).await.into_iter().map(|(_, count)| count).sum();
    assert_eq!(all, 215, "the batch itself is not one more");
}

#[tokio::test]
async fn a_change_counts_once() {
    let intent = Record { kind: Kind::Intent, outcome: Outcome::Pending, ..signs("a:a", "release", START) };
    let outcome = Record { kind: Kind::Outcome, intent: Some(0), ..signs("a:a", "release", START) };
    let counted = counts(vec![intent, outcome], &within("vaults/dev/keys/release")).await;
    assert_eq!(counted, [(key("vaults/dev/keys/release", "a:a", "keys.sign", Outcome::Done), 1)]);
}

#[tokio::test]
async fn days_are_whole_and_in_utc() {
    let midnight = START - START.rem_euclid(DAY);
    let times = [midnight - 1, midnight, midnight + DAY - 1, midnight + DAY];
    let records: Vec<Record> = times.iter().map(|time| signs("a:a", "release", *time)).collect();
    let of = |from: Option<i64>, until: Option<i64>| Query {
        from: from.map(Timestamp),
        until: until.map(Timestamp),
        ..within("vaults/dev/keys/release")
    };
    for (query, wanted) in [
        (of(None, None), 4),
        (of(Some(midnight + 7), None), 3),
        (of(None, Some(midnight)), 1),
        (of(None, Some(midnight + 1)), 3),
        (of(Some(midnight), Some(midnight + DAY)), 2),
        (of(Some(midnight + 9), Some(midnight + 9)), 0),
        (of(Some(i64::MIN), Some(i64::MAX)), 4),
        (of(None, Some(i64::MIN)), 0),
    ] {
        let counted: u64 = counts(records.clone(), &query).await.into_iter().map(|(_, count)| count).sum();
        assert_eq!(counted, wanted, "{query:?}");
    }
}

#[tokio::test]
async fn first_and_last_are_those_of_all_days_and_of_the_newest_records() {
    let days = (0..600).map(|n| signs("a:a", "release", START + n * DAY / 100));
    let mut made = Made::new(days);
    let index = made.index();
    feed_all(&index, &made).await;
    made.append([signs("a:a", "release", START - 5)]);
    let uses = uses_all(&index, made.readable(), &within("vaults/dev/keys/release"), 10).await;
    let tally = uses.into_values().next().unwrap();
    assert_eq!((tally.count, tally.first_index, tally.last_index), (601, 0, 600));
    assert_eq!((tally.first_time, tally.last_time), (START - 5, START + 599 * DAY / 100));
}

#[tokio::test]
async fn pages_have_all_rows_once_also_those_that_are_not_indexed_yet() {
    let by = |n: i64| signs(&format!("a:{:03}", n * 7 % 100), "release", START);
    let mut made = Made::new((0..512).map(by));
    let index = made.index();
    feed_all(&index, &made).await;
    made.append((0..100).map(|n| signs(&format!("b:{n:03}"), "Release", START)));
    made.append((0..10).map(|n| signs(&format!("a:{n:03}x"), "release", START)));
    let query = within("vaults/dev/keys/release");
    for limit in [0, 1, 3, 10, 99, 100, 209, 210, 211, 1000] {
        let rows = uses_all(&index, made.readable(), &query, limit).await;
        assert_eq!(rows.len(), 210, "{limit}");
        assert_eq!(rows.values().map(|tally| tally.count).sum::<u64>(), 622);
    }
}

#[tokio::test]
async fn what_is_within_an_object_is_not_counted_and_the_error_says_what_is() {
    let made = Made::new([]);
    let query = within("vaults/dev/keys/Release/versions/00ff");
    let error = made.index().uses(0, &query, &UsePage::default()).await.unwrap_err();
    assert!(error.to_string().contains("ask for vaults/dev/keys/release,"), "{error}");
}

#[tokio::test]
async fn while_the_index_is_being_made_it_says_how_far_it_is() {
    let made = Made::new((0..1200).map(|n| signs("a:a", "release", START + n)));
    let index = Index { bounds: Bounds { tail: 0, ..SMALL }, ..made.index() };
    index.feed(1200).await.unwrap();
    let error = index.uses(1200, &Query::default(), &UsePage::default()).await.unwrap_err();
    assert!(matches!(error, IndexError::Behind { indexed: 1024, readable: 1200 }), "{error:?}");
}

#[tokio::test]
async fn a_count_ends_and_does_not_wrap() {
    let often = |_| Record { repeated: u64::MAX, ..signs("a:a", "release", START) };
    let made = Made::new((0..2048).map(often));
    let index = made.index();
    feed_all(&index, &made).await;
    let rows = uses_all(&index, made.readable(), &within("vaults/dev/keys/release"), 10).await;
    assert_eq!(rows.into_values().map(|tally| tally.count).collect::<Vec<_>>(), [1 << 40]);
}
