//! An audit log of some size: it is pruned while it is in use, and searched while its index is being made.

use std::{
    fs,
    path::Path,
    process::Output,
    time::{Duration, Instant},
};

use serde_json::Value;
use strongroom::{
    audit::{Durability, Kind, Log, Options, Outcome, Record},
    model::{Clock as _, SystemClock},
};

use crate::{
    dev::{Dev, Start, text},
    trouble::get,
};

/// A key that nobody has made: its records are all that there is of it.
const KEY: &str = "vaults/dev/keys/archived";
const SOMEBODY: &str = "spiffe://example.org/somebody";

/// A server that was stopped, the key of its log, and its index of records.
fn stopped() -> (Dev, String) {
    let mut dev = Dev::new();
    let key = dev.ok(&["audit", "key"]).trim().to_owned();
    dev.stop();
    (dev, key)
}

/// Writes so many records into the log of a server that does not run, in short segments: the next start signs them, and
/// takes from the journal what is in full bundles.
fn fill(dev: &Dev, key: &str, records: usize) {
    let (origin, _) = key.split_once('+').expect("a verifier key");
    let instance = origin.strip_prefix("strongroom/").expect("the log of an instance");
    let options = Options { segment_bytes_max: 16 << 10, ..Options::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let (log, _) = Log::open(&dev.data().join("audit"), options, instance).expect("nobody uses it");
    runtime.block_on(async {
        for n in 0..records {
            let record = Record {
                principal: Some(SOMEBODY.to_owned()),
                resource: Some(format!("{KEY}/versions/{n:032x}")),
                ..Record::new(SystemClock.now(), Kind::Operation, "keys.sign", Outcome::Done)
            };
            log.append(record, Durability::Write).await.expect("there is room");
        }
        log.close().await.expect("synced");
    });
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A figure of the server.
fn figure(dev: &Dev, name: &str) -> Option<f64> {
    let (_, metrics) = get(dev, "/metrics");
    metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Fetches a receipt and verifies it with nothing but the key.
fn receipt_is_good(dev: &Dev, key: &str, index: u64) {
    let file = dev.path("some.receipt");
    dev.ok(&["audit", "receipt", &index.to_string(), "--out", text(&file)]);
    let shown = json(&dev.run(&["audit", "verify-receipt", text(&file), "--key", key, "-o", "json"]));
    assert_eq!(shown["index"], index.to_string());
}

fn is_pruned(output: &Output) {
    assert!(!output.status.success() && said(output).contains("pruned"), "{}", said(output));
}

#[test]
fn a_log_that_was_pruned_is_as_good_as_before() {
    let (mut dev, key) = stopped();
    fill(&dev, &key, 1600);
    dev.start(Start::default());
    wait("the journal gives up what is signed", || bundles(&dev).len() >= 6 && segments(&dev) < 10);
    let kept = dev.path("before.checkpoint");
    dev.ok(&["audit", "checkpoint", "--out", text(&kept)]);
    let early = dev.path("early.receipt");
    dev.ok(&["audit", "receipt", "300", "--out", text(&early)]);
    let data = dev.data();
    let prune = |dev: &Dev, more: &[&str]| {
        dev.run(&[&["audit", "prune", "--data-dir", text(&data), "-o", "json"][..], more].concat())
    };

    // Only said.
    let planned = json(&prune(&dev, &["--before", "600", "--dry-run"]));
    assert_eq!((&planned["from"], &planned["until"], &planned["done"]), (&"0".into(), &"512".into(), &false.into()));
    assert!(bundles(&dev).contains(&"000".to_owned()));
    assert!(!prune(&dev, &["--before", "600"]).status.success(), "into an archive, or away: somebody has to say it");

    // Into an archive, then the next bundle for good; the server runs.
    let archive = dev.path("archive");
    let archived = json(&prune(&dev, &["--before", "600", "--archive", text(&archive)]));
    assert_eq!((&archived["until"], &archived["done"]), (&"512".into(), &true.into()));
    assert_eq!(archived["archive"], text(&archive));
    let deleted = json(&prune(&dev, &["--before", "800", "--delete"]));
    assert_eq!((&deleted["from"], &deleted["until"]), (&"512".into(), &"768".into()));
    assert_eq!(json(&prune(&dev, &["--before", "800", "--delete"]))["until"], "768", "nothing more is old");
    assert_eq!(names(&archive.join("tile/entries")), ["000", "001"]);
    assert_eq!(bundles(&dev).first().map(String::as_str), Some("003"));

    what_was_pruned_is_said(&dev, &key);
    // A receipt that somebody has stays good, and so does his checkpoint.
    json(&dev.run(&["audit", "verify-receipt", text(&early), "--key", &key, "-o", "json"]));
    let verify = ["audit", "verify", "--data-dir", text(&data), "--against", text(&kept), "-o", "json"];
    assert_eq!(json(&dev.run(&verify))["firstAvailable"], "768");
    dev.stop();
    assert_eq!(json(&dev.run(&verify))["firstAvailable"], "768");

    // The archive is brought back: as far as it goes. What was deleted stays a gap, and the log says so.
    let copied = std::process::Command::new("cp").arg("-a").arg(archive.join("tile")).arg(data.join("audit")).status();
    assert!(copied.expect("runs").success());
    assert_eq!(dev.run(&verify).status.code(), Some(1), "a gap in the middle is no pruning");
    for name in ["000", "001"] {
        fs::remove_file(data.join("audit/tile/entries").join(name)).expect("is there");
    }
    dev.start(Start::default());
    assert_eq!(json(&dev.run(&verify))["firstAvailable"], "768");
}

/// What the server says of records that are there, and of those that are not.
fn what_was_pruned_is_said(dev: &Dev, key: &str) {
    for index in [768, 1000, 1500] {
        receipt_is_good(dev, key, index);
    }
    for index in ["0", "511", "767"] {
        is_pruned(&dev.run(&["audit", "receipt", index]));
        is_pruned(&dev.run(&["audit", "show", index]));
    }
    let listed = dev.run(&["audit", "list", "--principal", SOMEBODY, "--limit", "5000", "-o", "json"]);
    assert!(said(&listed).contains("768 records that may belong here were pruned"), "{}", said(&listed));
    let listed = json(&listed);
    let oldest = listed.as_array().expect("an array").last().expect("some")["index"].clone();
    assert_eq!(oldest, "768");
    is_pruned(&dev.run(&["audit", "export", "--from-index", "700"]));
    dev.ok(&["audit", "export", "--from-index", "768", "--out", text(&dev.path("rest.jsonl"))]);
    let log = dev.data().join("audit");
    is_pruned(&dev.run(&["audit", "show", "767", "--log", text(&log)]));
    dev.ok(&["audit", "show", "768", "--log", text(&log)]);
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("one").file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().expect("text")).collect();
    names.sort_unstable();
    names
}

/// The full bundles that are there.
fn bundles(dev: &Dev) -> Vec<String> {
    let entries = dev.data().join("audit/tile/entries");
    if !entries.exists() {
        return Vec::new();
    }
    names(&entries).into_iter().filter(|name| name.len() == 3).collect()
}

fn segments(dev: &Dev) -> usize {
    names(&dev.data().join("audit/journal")).len()
}

/// How often somebody has signed with the key, as the server counts it.
fn counted(dev: &Dev) -> u64 {
    let uses = json(&dev.run(&["audit", "uses", "--key", "archived", "--operation", "keys.sign", "-o", "json"]));
    let uses = uses.as_array().expect("an array");
    uses.iter().map(|used| used["count"].as_str().expect("text").parse::<u64>().expect("a number")).sum()
}

fn found(dev: &Dev) -> usize {
    let listed = json(&dev.run(&["audit", "list", "--key", "archived", "--limit", "100000", "-o", "json"]));
    listed.as_array().expect("an array").len()
}

#[test]
fn uses_are_counted_in_full_while_the_index_is_being_made() {
    // Ten minutes of passes that fail.
    let stuck: Vec<String> = (1..600).map(|hit| format!("audit.before_index=error@{hit}")).collect();
    let stuck = Start { failpoints: &stuck.join(";"), ..Start::default() };
    let (mut dev, key) = stopped();
    let indexed = |dev: &Dev| figure(dev, "strongroom_audit_indexed_records ").unwrap_or_default();
    fill(&dev, &key, 1000);
    // There is none yet.
    dev.start(stuck);
    assert_eq!((indexed(&dev), counted(&dev), found(&dev)), (0.0, 1000, 1000));
    dev.stop();
    // There is one, and all of it is in it but for less than a bundle.
    dev.start(Start::default());
    wait("the index is made", || indexed(&dev) >= 768.0);
    assert_eq!((counted(&dev), found(&dev)), (1000, 1000));
    dev.stop();
    // It is behind.
    fill(&dev, &key, 1500);
    dev.start(stuck);
    assert_eq!((indexed(&dev), counted(&dev), found(&dev)), (0.0, 2500, 2500));
    dev.stop();
    // It is gone.
    fs::remove_file(dev.data().join("audit/index.db")).expect("was there");
    dev.start(stuck);
    assert_eq!((counted(&dev), found(&dev)), (2500, 2500));
    dev.stop();
    // It is being made anew, whenever that is looked at.
    dev.start(Start::default());
    loop {
        let before = indexed(&dev);
        assert_eq!((counted(&dev), found(&dev)), (2500, 2500), "with {before} in the index");
        if before >= 2304.0 {
            break;
        }
    }
}
