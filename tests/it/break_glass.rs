//! Administration regained at the console: with the PIN, while no server runs, and never unseen.

use std::{
    collections::HashMap,
    fs,
    io::{Read as _, Write as _},
    os::unix::process::ExitStatusExt as _,
    process::{Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;
use strongroom::{
    audit::{self, Against},
    failpoint,
};

use crate::{
    dev::{PROGRAM, text},
    production::Site,
};

const LATE: &str = "spiffe://example.org/late";

fn arguments(site: &Site, who: &str, more: &[&str]) -> Vec<String> {
    let config = site.path("strongroom.toml");
    let fixed = ["access", "break-glass", "--config", text(&config), "--principal", who, "--reason", "all have left"];
    fixed.iter().chain(more).map(|argument| (*argument).to_owned()).collect()
}

/// With that on standard input, which is no terminal.
fn break_glass(site: &Site, more: &[&str], input: &str) -> Output {
    break_glass_for(site, LATE, more, input, "")
}

/// The same, for that principal and with these fail-points.
fn break_glass_for(site: &Site, who: &str, more: &[&str], input: &str, failpoints: &str) -> Output {
    let mut child = Command::new(PROGRAM)
        .args(arguments(site, who, more))
        .env("STRONGROOM_FAILPOINTS", failpoints)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("spawns");
    // It may end without having read.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    child.wait_with_output().expect("waits")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What the audit log has on it.
fn records(site: &Site) -> Vec<Value> {
    let mut files: Vec<_> =
        fs::read_dir(site.path("audit/journal")).expect("a folder").map(|f| f.expect("one").path()).collect();
    files.sort();
    let lines: String = files.iter().filter_map(|path| fs::read_to_string(path).ok()).collect();
    let values = lines.lines().filter(|line| line.contains("access.breakGlass")).map(|line| {
        let value: Value = serde_json::from_str(line).expect("JSON");
        value.get("record").cloned().unwrap_or(value)
    });
    values.collect()
}

/// A site with a vault, whose administrator is away, and whoever is to take over.
fn abandoned() -> Site {
    let site = Site::new();
    site.init();
    site.certificate("late", &format!("subjectAltName=URI:{LATE}"));
    let serving = site.serve();
    site.client_ok(&["vault", "create", "main"]);
    assert!(!site.client_as("late", &["vault", "create", "other"]).status.success());
    let refused = break_glass(&site, &["--yes"], "246810\n");
    assert!(said(&refused).contains("stop that first"), "{}", said(&refused));
    serving.stop();
    site
}

#[test]
fn the_pin_makes_an_administrator_and_the_log_says_so() {
    let site = abandoned();
    let done = break_glass(&site, &["--yes", "-o", "json"], "246810\n");
    assert!(done.status.success(), "{}", said(&done));
    assert!(said(&done).contains("the glass is broken"), "loud at once: {}", said(&done));
    let shown: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    assert_eq!((&shown["principal"], &shown["existed"]), (&LATE.into(), &false.into()));
    let records = records(&site);
    let kinds: Vec<_> = records.iter().map(|record| (&record["kind"], &record["outcome"])).collect();
    assert_eq!(kinds, [(&"intent".into(), &"pending".into()), (&"outcome".into(), &"done".into())], "{records:?}");
    for record in &records {
        assert_eq!(record["resource"], shown["assignment"]);
        assert_eq!(record["source"], "console");
        assert!(record["principal"].as_str().is_some_and(|who| who.starts_with("unix:uid:")), "{record}");
        let detail = record["detail"].as_str().expect("a detail");
        assert!(detail.contains(LATE) && detail.contains("all have left"), "{detail}");
    }
    let again = break_glass(&site, &["--yes", "-o", "json"], "246810\n");
    let shown_again: Value = serde_json::from_slice(&again.stdout).expect("JSON");
    assert_eq!((&shown_again["assignment"], &shown_again["existed"]), (&shown["assignment"], &true.into()));
    let records = self::records(&site);
    assert_eq!((records.len(), &records[2]["reason"]), (3, &"ALREADY_ADMINISTRATOR".into()));
    // The server says so at each start, until an ordinary role takes its place.
    let serving = site.serve();
    assert!(server_log(&site).contains("administrator by break-glass"), "{}", server_log(&site));
    let late = |arguments: &[&str]| {
        let done = site.client_as("late", arguments);
        assert!(done.status.success(), "{arguments:?}: {}", said(&done));
    };
    late(&["vault", "create", "other"]);
    let other =
        site.client(&["access", "grant", "--principal", LATE, "--role", "break-glass administrator", "--scope", "/"]);
    assert!(said(&other).contains("at the console"), "by no request: {}", said(&other));
    late(&["access", "grant", "--principal", LATE, "--role", "administrator", "--scope", "/"]);
    late(&["access", "revoke", shown["assignment"].as_str().expect("a name")]);
    late(&["vault", "create", "third"]);
    serving.stop();
    let serving = site.serve();
    assert!(!server_log(&site).contains("administrator by break-glass"), "{}", server_log(&site));
    serving.stop();
}

fn server_log(site: &Site) -> String {
    fs::read_to_string(site.path("serve.log")).expect("reads")
}

#[test]
fn a_wrong_pin_is_tried_once_and_recorded() {
    let site = abandoned();
    let refused = break_glass(&site, &["--yes"], "wrong-pin\n");
    assert_eq!(refused.status.code(), Some(2));
    assert!(said(&refused).contains("refused the PIN") && said(&refused).contains("clear-latch"), "{}", said(&refused));
    let records = records(&site);
    assert_eq!(records.len(), 1);
    assert_eq!((&records[0]["outcome"], &records[0]["reason"]), (&"refused".into(), &"PIN_REFUSED".into()));
    // Not even the right one, until somebody has looked.
    let latched = break_glass(&site, &["--yes"], "246810\n");
    assert!(said(&latched).contains("was refused before"), "{}", said(&latched));
    assert_eq!(self::records(&site).len(), 1);
    site.operator_ok(&["pin", "clear-latch"]);
    assert!(break_glass(&site, &["--yes"], "246810\n").status.success());
}

/// Breaks the glass for somebody and is killed at that hit of a fail-point; `false` when it came to its end before.
fn killed_at(site: &Site, who: &str, point: &str, hit: u32) -> bool {
    for _ in 0..50 {
        let output = break_glass_for(site, who, &["--yes"], "246810\n", &format!("{point}=kill@{hit}"));
        if output.status.success() || output.status.signal() == Some(9) {
            return !output.status.success();
        }
        // Workers of one that was killed may hold the log for a moment.
        assert!(said(&output).contains("stop that first"), "{point}@{hit}: {}", said(&output));
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{point}@{hit}: the log stays locked")
}

/// Kills it at every hit of every fail-point, each time for somebody else; who that was, by point and hit.
fn kill_everywhere(site: &Site) -> Vec<(String, &'static str, u32)> {
    let mut killed = Vec::new();
    // It makes no key, no index, no rotation, no purge and no backup.
    let elsewhere = [
        failpoint::SERVICE_AFTER_GENERATE,
        failpoint::AUDIT_BEFORE_INDEX,
        failpoint::ROTATION_AFTER_NOTICE,
        failpoint::PURGE_BEFORE_REAP,
        failpoint::BACKUP_BEFORE_RENAME,
    ];
    let reached = |point: &&str| !elsewhere.contains(point);
    for point in failpoint::ALL.into_iter().filter(reached) {
        for hit in 1..20 {
            let who = format!("spiffe://example.org/{}/{hit}", point.replace('_', "-"));
            if !killed_at(site, &who, point, hit) {
                assert!(hit > 1, "{point} was never reached");
                break;
            }
            killed.push((who, point, hit));
        }
    }
    killed
}

#[test]
fn killed_anywhere_it_has_made_an_administrator_or_not_and_the_log_knows() {
    let site = Site::new();
    site.init();
    let killed = kill_everywhere(&site);
    let serving = site.serve();
    let given = site.client_ok(&["access", "list", "-o", "json"]);
    serving.stop();
    let given: Vec<Value> = serde_json::from_str(&given).expect("JSON");
    let verified = audit::verify(&site.path("audit"), &Against::default()).expect("the log is whole");
    assert!(verified.open.is_empty(), "every intent has its outcome");
    let mut outcomes: HashMap<String, Vec<Value>> = HashMap::new();
    for record in records(&site).into_iter().filter(|record| record["kind"] == "outcome") {
        outcomes.entry(record["resource"].as_str().expect("a resource").to_owned()).or_default().push(record);
    }
    let records = records(&site);
    for (who, point, hit) in killed {
        let place = format!("{point}@{hit}");
        let is = |row: &&Value| row["principal"] == who.as_str();
        let has = given.iter().filter(is).count();
        assert!(has <= 1, "{place}");
        let said =
            |record: &&Value| record["detail"].as_str().is_some_and(|detail| detail.contains(&format!("{who};")));
        let intents: Vec<&Value> = records.iter().filter(said).filter(|record| record["kind"] == "intent").collect();
        let Some(intent) = intents.first() else {
            assert_eq!(has, 0, "{place}: nothing without an intent");
            continue;
        };
        let ended = &outcomes[intent["resource"].as_str().expect("a resource")];
        let wanted = if has == 1 { "done" } else { "failed" };
        assert_eq!((intents.len(), ended.len(), &ended[0]["outcome"]), (1, 1, &wanted.into()), "{place}");
        match point {
            failpoint::SERVICE_AFTER_INTENT => assert_eq!(has, 0, "{place}"),
            failpoint::SERVICE_BEFORE_OUTCOME => assert_eq!(has, 1, "{place}"),
            _ => {}
        }
    }
}

#[test]
fn without_a_terminal_it_wants_the_word_and_the_pin() {
    let site = Site::new();
    site.init();
    for (more, input, wanted) in [
        (&[][..], "246810\n", "no terminal"),
        (&["--yes"], "", "no PIN was given"),
        (&["--yes"], "\n", "no PIN was given"),
    ] {
        let refused = break_glass(&site, more, input);
        assert_eq!(refused.status.code(), Some(2));
        assert!(said(&refused).contains(wanted), "{}", said(&refused));
    }
    assert!(!site.path("state/pin-refused").exists(), "nothing was tried");
    assert!(records(&site).is_empty());
}

#[test]
fn at_a_terminal_it_asks_and_does_not_show_the_pin() {
    let site = Site::new();
    site.init();
    let quoted: Vec<String> = arguments(&site, LATE, &[]).iter().map(|argument| format!("'{argument}'")).collect();
    let mut child = Command::new("script")
        .args(["-qec", &format!("{PROGRAM} {}", quoted.join(" ")), "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script, of util-linux");
    let (mut input, mut output) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
    let mut shown = String::new();
    let mut until = |wanted: &str| {
        let mut buffer = [0; 1024];
        while !shown.contains(wanted) {
            let read = output.read(&mut buffer).expect("reads");
            assert!(read > 0, "it ended: {shown}");
            shown.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
        shown.clone()
    };
    until("Type yes to go on:");
    input.write_all(b"yes\n").expect("typed");
    until("User PIN of the token \"strongroom\":");
    input.write_all(b"246810\n").expect("typed");
    let shown = until("roleAssignments/");
    assert!(shown.contains("yes") && !shown.contains("246810"), "{shown}");
    drop(input);
    assert!(child.wait().expect("waits").success());
}
