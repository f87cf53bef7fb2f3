//! The index by its behaviour: it finds what reading everything finds, whatever becomes of its file.

mod cost;
mod generated;
mod lifecycle;
mod pages;
mod pruned;
mod uses;

use std::{collections::BTreeMap, path::Path};

use tempfile::TempDir;

use super::*;
use crate::audit::{
    Batch, BatchGroup, Kind, Outcome, Record,
    journal::line,
    tiles::Tiles,
    tlog::{builder::Builder, tile},
};

const ORIGIN: &str = "strongroom/00112233445566778899aabbccddeeff";

/// So that a few thousand records are many blocks.
const SMALL: Bounds = Bounds { block: 4, reads: 3, candidates: 7, tail: 1024 };

/// 2023-11-14T22:13:20Z: the time of the first records.
const START: i64 = 1_700_000_000;

/// A log without a journal: the files that a search reads.
struct Made {
    folder: TempDir,
    builder: Builder,
    records: Vec<Record>,
}

impl Made {
    fn new(records: impl IntoIterator<Item = Record>) -> Self {
        let mut made = Self { folder: tempfile::tempdir().unwrap(), builder: Builder::default(), records: Vec::new() };
        made.append(records);
        made
    }

    fn append(&mut self, records: impl IntoIterator<Item = Record>) {
        let tiles = Tiles::new(self.dir());
        for record in records {
            let entry = line::encode_record(&record).unwrap();
            self.builder.push(&entry.body, entry.leaf);
            self.records.push(record);
        }
        tiles.write(&self.builder.take_full()).unwrap();
        tiles.write(&self.builder.partials()).unwrap();
    }

    fn dir(&self) -> &Path {
        self.folder.path()
    }

    fn file(&self) -> PathBuf {
        self.dir().join(db::FILE)
    }

    fn readable(&self) -> u64 {
        self.records.len() as u64
    }

    fn index(&self) -> Index {
        Index { bounds: SMALL, ..Index::new(self.dir(), ORIGIN) }
    }

    /// Takes a full bundle away.
    fn prune(&self, bundle: u64) {
        std::fs::remove_file(self.dir().join(tile::entries_path(bundle, WIDTH))).unwrap();
    }
}

/// Feeds it until all whole bundles are in.
async fn feed_all(index: &Index, made: &Made) -> u64 {
    loop {
        let indexed = index.feed(made.readable()).await.unwrap();
        if indexed / RECORDS == made.readable() / RECORDS {
            return indexed;
        }
    }
}

fn signs(principal: &str, key: &str, time: i64) -> Record {
    Record {
        principal: Some(principal.to_owned()),
        resource: Some(format!("vaults/dev/keys/{key}/versions/{:032x}", 7)),
        ..Record::new(crate::model::Timestamp(time), Kind::Operation, "keys.sign", Outcome::Done)
    }
}

fn group(operation: &str, resource: &str, outcome: Outcome, count: u64) -> BatchGroup {
    BatchGroup {
        operation: operation.to_owned(),
        resource: resource.to_owned(),
        residency: None,
        algorithm: None,
        ran: None,
        outcome,
        reason: None,
        count,
    }
}

fn within(resource: &str) -> Query {
    Query { resource: Some(Resource::Within(resource.to_owned())), ..Query::default() }
}

fn oldest_first(limit: usize) -> Page {
    Page { order: Order::OldestFirst, after: None, limit }
}

/// All that is found, page by page, and how many pages that took.
async fn find_all(index: &Index, readable: u64, query: &Query, mut page: Page) -> (Vec<u64>, u32) {
    let (mut all, mut pages) = (Vec::new(), 0);
    loop {
        let found = index.find(readable, query, &page).await.unwrap();
        all.extend(found.records.iter().map(|found| found.index));
        pages += 1;
        if found.next.is_none() {
            return (all, pages);
        }
        page.after = found.next;
    }
}

/// All rows, page by page.
async fn uses_all(index: &Index, readable: u64, query: &Query, limit: usize) -> BTreeMap<UseKey, Tally> {
    let (mut all, mut page) = (BTreeMap::new(), UsePage { after: None, limit });
    loop {
        let found = index.uses(readable, query, &page).await.unwrap();
        for row in found.uses {
            assert!(page.after.as_ref().is_none_or(|after| row.key > *after), "{row:?} once more");
            assert_eq!(all.insert(row.key, row.tally), None);
        }
        let Some(next) = found.next else { return all };
        page.after = Some(next);
    }
}
