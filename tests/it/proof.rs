//! What the log proves to somebody who has nothing but a copy of it and a key: by our own commands, and by a program
//! that is not ours.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use strongroom::audit::{
    Reader,
    tlog::{Checkpoint, Receipt, SignedNote, TileNodes, proof},
};

use crate::dev::{Dev, PROGRAM, Start, text};

/// A server that has done something and was stopped, and what an auditor has kept.
struct Audited {
    dev: Dev,
    key: String,
    early: PathBuf,
}

fn audited() -> Audited {
    let mut dev = Dev::new();
    let data = dev.data();
    let key = dev.ok(&["audit", "key", "--data-dir", text(&data)]).trim().to_owned();
    dev.ok(&["key", "create", "signer", "--type", "EC", "--curve", "P-256"]);
    dev.stop();
    let early = dev.path("early.checkpoint");
    fs::copy(log(&dev).join("checkpoint"), &early).expect("a checkpoint");
    dev.start(Start::default());
    for _ in 0..5 {
        dev.ok(&["key", "random", "--bytes", "16", "-o", "json"]);
    }
    // It is in use, and nothing is wrong with that.
    dev.ok(&["audit", "verify", "--data-dir", text(&data), "--against", text(&early)]);
    dev.stop();
    Audited { dev, key, early }
}

fn log(dev: &Dev) -> PathBuf {
    dev.data().join("audit")
}

fn audit(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).arg("audit").args(arguments).output().expect("runs")
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", said(output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What was found is wrong, in these words.
fn is_wrong(output: &Output, words: &str) {
    assert_eq!(output.status.code(), Some(1), "{}", said(output));
    assert!(said(output).contains(words), "{}", said(output));
}

/// A copy of the log, as an auditor gets it: without the lock, and under another name.
fn copy(dev: &Dev, name: &str) -> PathBuf {
    let to = dev.path(name);
    let copied = Command::new("cp").arg("-a").arg(log(dev)).arg(&to).status().expect("runs");
    assert!(copied.success());
    to
}

#[test]
fn a_log_is_proved_offline_with_a_key_and_kept_checkpoints() {
    let Audited { dev, key, early } = audited();
    let copy = copy(&dev, "copy");
    let verify = |more: &[&str]| audit(&[&["verify", "--log", text(&copy)], more].concat());
    let against = ["--key", key.as_str(), "--against", text(&early), "-o", "json"];
    let found = json(&verify(&against));
    assert_eq!((&found["keysFrom"], &found["firstAvailable"]), (&"given".into(), &"0".into()));
    assert_eq!(found["records"], found["signed"], "a log that was closed is signed to its end");
    assert_eq!(found["held"][0]["signers"][0]["key"], key);
    let own = json(&audit(&["verify", "--data-dir", text(&dev.data()), "-o", "json"]));
    assert_eq!(
        (&own["keysFrom"], &own["keys"][0], &own["records"]),
        (&"store".into(), &key.as_str().into(), &found["records"])
    );
    // Without a key nobody is told that all is well.
    assert_eq!(verify(&[]).status.code(), Some(2));
    let unsigned = verify(&["--unsigned"]);
    assert!(unsigned.status.success() && String::from_utf8_lossy(&unsigned.stdout).contains("NOT CHECKED"));
    assert!(said(&unsigned).contains("No signature was checked"));
    tampered(&dev, &copy, &against);
}

/// Every way to change the copy that an auditor is to find.
fn tampered(dev: &Dev, copy: &Path, against: &[&str]) {
    let verify = || audit(&[&["verify", "--log", text(copy)], against].concat());
    let kept = dev.path("kept");
    fs::rename(copy.join("checkpoint"), &kept).expect("moved");
    is_wrong(&verify(), "");
    fs::copy(&kept, copy.join("checkpoint")).expect("copied");
    let segment = fs::read_dir(copy.join("journal")).expect("a folder").next().expect("one").expect("one").path();
    let whole = fs::read(&segment).expect("read");
    let mut bytes = whole.clone();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&segment, &bytes).expect("written");
    is_wrong(&verify(), "the log is not what was written");
    let end = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').expect("lines") + 1;
    fs::write(&segment, &whole[..end]).expect("written");
    is_wrong(&verify(), "its end was cut off");
    fs::write(&segment, &whole).expect("written");
    json(&verify());
    let other = "strongroom/ff+00000000+AQ==";
    assert_eq!(audit(&["verify", "--log", text(copy), "--key", other]).status.code(), Some(2));
}

#[test]
fn a_receipt_shows_one_record_and_nothing_else_does() {
    let Audited { dev, key, .. } = audited();
    let note = SignedNote::parse(&fs::read(log(&dev).join("checkpoint")).expect("read")).expect("a note");
    let size = Checkpoint::parse(note.text()).expect("a checkpoint").size();
    let nodes = TileNodes::new(size, |tile| match fs::read(log(&dev).join(tile.path())) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    });
    let index = size - 3;
    let entry = Reader::new(&log(&dev)).entry(index, size).expect("a record");
    let receipt =
        Receipt::new(index, proof::inclusion(index, size, &nodes).expect("a proof"), note).expect("a receipt");
    let bare = dev.file("bare", receipt.to_string());
    let whole = dev.file("whole", receipt.with_extra(entry.clone()).expect("fits").to_string());
    let verify = |file: &Path, more: &[&str]| {
        audit(&[&["verify-receipt", text(file), "--key", key.as_str(), "-o", "json"], more].concat())
    };
    let shown = json(&verify(&whole, &[]));
    assert_eq!((&shown["index"], &shown["size"]), (&index.to_string().into(), &size.to_string().into()));
    assert_eq!(shown["entry"].as_str().expect("text").as_bytes(), entry);
    assert_eq!(verify(&bare, &[]).status.code(), Some(2), "there is no record to verify");
    let record = dev.file("record", [entry.as_slice(), b"\n"].concat());
    json(&verify(&bare, &["--entry", text(&record)]));
    let other = dev.file("other", String::from_utf8(entry).expect("text").replace("done", "refused"));
    is_wrong(&verify(&bare, &["--entry", text(&other)]), "shows nothing");
    let broken = dev.file("broken", fs::read_to_string(&whole).expect("text").replace("index ", "index 1"));
    is_wrong(&verify(&broken, &[]), "shows nothing");
}

#[test]
fn a_witness_keeps_what_it_saw_and_finds_a_roll_back() {
    let Audited { dev, key, early } = audited();
    let (state, own) = (dev.path("witness"), dev.path("witness.key"));
    let shown = copy(&dev, "shown");
    let look = || {
        let place = ["--state", text(&state), "--witness-key", text(&own), "--name", "witness.example.org/one"];
        audit(&[&["witness", "--log", text(&shown), "--log-key", key.as_str(), "-o", "json"], &place[..]].concat())
    };
    let first = json(&look());
    assert_eq!(first["first"], true);
    assert_eq!(json(&look())["first"], false);
    let (file, its_key) = (first["file"].as_str().expect("text"), first["key"].as_str().expect("text"));
    let held =
        ["verify", "--log", text(&shown), "--key", key.as_str(), "--key", its_key, "--against", file, "-o", "json"];
    let held = json(&audit(&held));
    assert_eq!(held["held"][0]["signers"][1]["name"], "witness.example.org/one");
    // An older state of the log, with all that belongs to it.
    fs::copy(&early, shown.join("checkpoint")).expect("copied");
    is_wrong(&look(), "the log was rolled back");
    is_wrong(&look(), "evidence");
    let kept = fs::read_dir(&state)
        .expect("a folder")
        .filter(|entry| entry.as_ref().is_ok_and(|entry| entry.file_name().to_string_lossy().contains(".evidence-")));
    assert_eq!(kept.count(), 2);
}

#[test]
fn a_witness_asks_a_server_and_finds_that_its_log_went_back() {
    let mut dev = Dev::new();
    let key = dev.ok(&["audit", "key", "--data-dir", text(&dev.data())]).trim().to_owned();
    let (state, own) = (dev.path("witness"), dev.path("witness.key"));
    let look = |dev: &Dev| {
        let place = ["--state", text(&state), "--witness-key", text(&own), "--name", "witness.example.org/one"];
        dev.run(&[&["audit", "witness", "--log-key", key.as_str(), "-o", "json"], &place[..]].concat())
    };
    assert_eq!(json(&look(&dev))["first"], true);
    dev.stop();
    let saved = dev.path("saved");
    let copied = Command::new("cp").arg("-a").arg(dev.data()).arg(&saved).status().expect("runs");
    assert!(copied.success());
    dev.start(Start::default());
    for _ in 0..20 {
        dev.ok(&["key", "random", "--bytes", "16", "-o", "json"]);
    }
    // Closing the log signs all of it: what is seen after the next start is beyond what the saved copy will come to.
    dev.stop();
    dev.start(Start::default());
    assert_eq!(json(&look(&dev))["first"], false);
    dev.stop();
    // Store and log of one moment, so that the server itself has nothing to find.
    fs::remove_dir_all(dev.data()).expect("removed");
    fs::rename(&saved, dev.data()).expect("moved");
    dev.start(Start::default());
    is_wrong(&look(&dev), "the log was rolled back");
    is_wrong(&look(&dev), "evidence");
}

/// What `audit witness` says of the log in that folder, as the witness of that name, in a process of its own.
fn witnessed(dev: &Dev, name: &str, key: &str, shown: &Path) -> Output {
    let (state, own) = (dev.path(name), dev.path(&format!("{name}.key")));
    let full = format!("witness.example.org/{name}");
    let place = ["--state", text(&state), "--witness-key", text(&own), "--name", &full];
    audit(&[&["witness", "--log", text(shown), "--log-key", key, "-o", "json"], &place[..]].concat())
}

#[test]
fn two_histories_of_one_log_are_found_by_comparing_what_two_witnesses_hold() {
    let mut dev = Dev::new();
    let key = dev.ok(&["audit", "key"]).trim().to_owned();
    assert_eq!(key, dev.ok(&["audit", "key", "--data-dir", text(&dev.data())]).trim(), "asked or read, it is the same");
    dev.stop();
    let common = copy(&dev, "common");
    let saved = dev.path("saved");
    assert!(Command::new("cp").arg("-a").arg(dev.data()).arg(&saved).status().expect("runs").success());
    // One instance, one key in the HSM, and from here on two histories: each is right by itself.
    let [a, b] = ["a", "b"].map(|branch| {
        fs::remove_dir_all(dev.data()).expect("removed");
        assert!(Command::new("cp").arg("-a").arg(&saved).arg(dev.data()).status().expect("runs").success());
        dev.start(Start::default());
        for _ in 0..10 {
            dev.ok(&["key", "random", "--bytes", "16", "-o", "json"]);
        }
        dev.stop();
        copy(&dev, branch)
    });
    // Both have seen what was before, and then each is shown a history of its own.
    for (name, branch) in [("one", &a), ("two", &b)] {
        assert_eq!(json(&witnessed(&dev, name, &key, &common))["first"], true);
        assert_eq!(json(&witnessed(&dev, name, &key, branch))["first"], false, "alone it finds nothing");
    }
    let [one, two] = [("one", &a), ("two", &b)].map(|(name, branch)| {
        let seen = json(&witnessed(&dev, name, &key, branch));
        let said = |field: &str| seen[field].as_str().expect("text").to_owned();
        (said("file"), said("key"))
    });
    // Each history agrees with the witness that it was shown to, and not with the other.
    for (branch, own, other) in [(&a, &one, &two), (&b, &two, &one)] {
        let verify = |held: &[&(String, String)]| {
            let keys = held.iter().flat_map(|(_, key)| ["--key", key]);
            let files = held.iter().flat_map(|(file, _)| ["--against", file]);
            let arguments: Vec<&str> =
                ["verify", "--log", text(branch), "--key", &key].into_iter().chain(keys).chain(files).collect();
            audit(&arguments)
        };
        assert!(verify(&[own]).status.success());
        is_wrong(&verify(&[other]), "");
        is_wrong(&verify(&[own, other]), "");
    }
    // A witness that is shown the other history keeps both notes, and cosigns nothing any more.
    let before = fs::read(&one.0).expect("read");
    is_wrong(&witnessed(&dev, "one", &key, &b), "different histories");
    is_wrong(&witnessed(&dev, "one", &key, &a), "evidence");
    assert_eq!(fs::read(&one.0).expect("read"), before);
    is_wrong(&witnessed(&dev, "two", &key, &a), "different histories");
    let evidence = |name: &str| {
        let files = fs::read_dir(dev.path(name)).expect("a folder").map(|file| file.expect("one").file_name());
        files.filter(|file| file.to_string_lossy().contains(".evidence-")).count()
    };
    assert_eq!((evidence("one"), evidence("two")), (2, 2));
}

#[test]
fn a_program_that_is_not_ours_verifies_what_the_hsm_has_signed() {
    let Audited { dev, key, .. } = audited();
    let reader = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/c2sp_reader.py");
    let read = Command::new("python3").args(["-B", reader]).arg(log(&dev)).arg(&key).output();
    let Ok(output) = read else {
        assert!(std::env::var_os("STRONGROOM_REQUIRE_TOOLS").is_none(), "python3 is missing");
        return;
    };
    assert!(output.status.success(), "{}", said(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains(" records of strongroom/"), "{output:?}");
}
