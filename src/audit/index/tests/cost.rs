//! What it costs. Figures, not promises: run it alone, in a release build, with `--nocapture`.

use std::time::Instant;

use super::*;
use crate::model::Timestamp;

const RECORDS_ALL: i64 = 1_000_000;
const DAYS: i64 = 90;

/// Three months of 500 keys, each of which three of 60 principals use; one key is used now and then.
fn record(n: i64) -> Record {
    let time = START + n * (DAYS * 86_400) / RECORDS_ALL;
    let mixed = n.wrapping_mul(2_654_435_761) >> 8;
    let (key, principal) = match n % 1009 {
        0 => ("seldom".to_owned(), mixed % 3),
        _ => (format!("key-{:03}", mixed % 500), (mixed % 500 + mixed / 500 % 3) % 60),
    };
    Record {
        source: Some("10.0.0.7:40112".to_owned()),
        residency: Some("wrapped".to_owned()),
        algorithm: Some("ES256".to_owned()),
        ran: Some("hsm".to_owned()),
        request: Some(format!("{n:032x}")),
        ..signs(&format!("spiffe://example.org/service-{principal}"), &key, time)
    }
}

#[test]
#[ignore = "a measurement"]
#[expect(clippy::print_stdout, reason = "it is read by whoever runs it")]
fn a_million_records_and_who_used_one_key_last_month() {
    let mut made = Made::new([]);
    for first in (0..RECORDS_ALL).step_by(10_000) {
        made.append((first..first + 10_000).map(record));
        made.records.clear();
    }
    let readable = u64::try_from(RECORDS_ALL).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let index = Index::new(made.dir(), ORIGIN);
    let took = |what: &str, began: Instant| println!("{what}: {:.1} ms", began.elapsed().as_secs_f64() * 1e3);

    let began = Instant::now();
    while runtime.block_on(index.feed(readable)).unwrap() < readable - readable % RECORDS {}
    took("made", began);
    let began = Instant::now();
    pass::collect(&Reader::new(made.dir()), 0..1024).unwrap();
    took("of which the reading of 1024 bundles", began);
    println!("{} bytes", std::fs::metadata(made.file()).unwrap().len());

    let end = START + DAYS * 86_400;
    let month = Query { from: Some(Timestamp(end - 30 * 86_400)), ..within("vaults/dev/keys/seldom") };
    for _ in 0..3 {
        let began = Instant::now();
        let uses = runtime.block_on(index.uses(readable, &month, &UsePage { after: None, limit: 100 })).unwrap();
        took(&format!("{} rows of uses", uses.uses.len()), began);
        let began = Instant::now();
        let page = Page { order: Order::NewestFirst, after: None, limit: 100 };
        let found = runtime.block_on(index.find(readable, &month, &page)).unwrap();
        took(&format!("the newest {}", found.records.len()), began);
        let began = Instant::now();
        let page = Page { order: Order::NewestFirst, after: None, limit: 1000 };
        let (all, pages) = runtime.block_on(find_all(&index, readable, &month, page));
        took(&format!("all {} in {pages} pages", all.len()), began);
        let began = Instant::now();
        let everything = Query { from: month.from, ..Query::default() };
        let uses = runtime.block_on(uses_all(&index, readable, &everything, 1000));
        took(&format!("{} rows of uses of everything", uses.len()), began);
    }
}
