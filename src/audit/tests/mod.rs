//! The log by its behaviour: what survives, what is found, what trouble does.

mod cost;
mod cut;
mod durability;
mod faulty;
mod independent;
mod prune;
mod recovery;
mod rotation;
mod tamper;
mod tree;
mod trouble;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tempfile::TempDir;

use super::{
    Against, Damage, Durability, HeadMark, Kind, Log, LogError, OpenError, Options, Outcome, Record, Recovered,
    Verified, journal::disk, tlog::hash,
};
use crate::model::time::{ManualClock, Timestamp};

const INSTANCE: &str = "00112233445566778899aabbccddeeff";

/// Segments of that size, nothing in reserve, a clock that stands.
fn options(segment_bytes_max: u64) -> Options {
    Options {
        segment_bytes_max,
        reserve_bytes: 0,
        clock: Arc::new(ManualClock::at(Timestamp(1_700_000_000))),
        discard: false,
    }
}

fn open(dir: &Path, segment_bytes_max: u64) -> (Log, Recovered) {
    Log::open(dir, options(segment_bytes_max), INSTANCE).unwrap()
}

fn temporary() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    (dir, path)
}

fn operation(n: u64) -> Record {
    Record {
        time: 1_700_000_000,
        kind: Kind::Operation,
        operation: "keys.sign".to_owned(),
        principal: Some("certificate:build-pipeline".to_owned()),
        source: Some("10.0.0.7:40112".to_owned()),
        resource: Some(format!("vaults/dev/keys/release/versions/{n:032x}")),
        residency: Some("wrapped".to_owned()),
        algorithm: Some("ES256".to_owned()),
        ran: Some("hsm".to_owned()),
        outcome: Outcome::Done,
        reason: None,
        request: Some(format!("{n:032x}")),
        intent: None,
        version: None,
        repeated: 0,
        detail: None,
        heads: Vec::new(),
        batch: None,
    }
}

fn intent(n: u64) -> Record {
    Record { kind: Kind::Intent, operation: "keys.create".to_owned(), outcome: Outcome::Pending, ..operation(n) }
}

fn outcome(intent: u64, heads: Vec<HeadMark>) -> Record {
    Record {
        kind: Kind::Outcome,
        operation: "keys.create".to_owned(),
        intent: Some(intent),
        heads,
        ..operation(intent)
    }
}

fn head(scope: u8, revision: u64) -> HeadMark {
    HeadMark { scope: format!("{scope:032x}"), revision, digest: format!("{revision:064x}") }
}

/// The paths of the segments, in order.
fn segments(dir: &Path) -> Vec<PathBuf> {
    disk::segments(&disk::journal(dir)).unwrap().into_iter().map(|(_, path)| path).collect()
}

/// All lines, in order.
fn lines(dir: &Path) -> Vec<serde_json::Value> {
    let texts = segments(dir).into_iter().map(|path| std::fs::read_to_string(path).unwrap());
    texts.flat_map(|text| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>()).collect()
}

fn verify(dir: &Path) -> Result<Verified, OpenError> {
    super::verify(dir, &Against::default())
}

/// A line that was edited, under the leaf of what it is now: as somebody would write it who knows how.
fn under_its_leaf(line: &str) -> String {
    let (index, rest) = line.split_once(r#","leaf":""#).unwrap();
    let body = format!("{{{}", &rest[66..]);
    let leaf = base16ct::lower::encode_string(&hash::leaf(body.as_bytes()));
    format!(r#"{index},"leaf":"{leaf}",{}"#, &body[1..])
}

fn damage(result: Result<impl std::fmt::Debug, OpenError>) -> (u64, Damage) {
    match result.unwrap_err() {
        OpenError::Damaged { line, what, .. } => (line, what),
        other => panic!("{other:?}"),
    }
}

/// A log of that many operations, closed without ceremony.
async fn filled(dir: &Path, segment_bytes_max: u64, records: u64) {
    let (log, _) = open(dir, segment_bytes_max);
    for n in 0..records {
        log.append(operation(n), Durability::Write).await.unwrap();
    }
}

/// What the files of a folder take of a disk with blocks of 4 KiB.
fn taken(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(
            |path| {
                if path.is_dir() { 4096 + taken(&path) } else { path.metadata().unwrap().len().next_multiple_of(4096) }
            },
        )
        .sum()
}
