//! When parts fail: the HSM hangs, crashes or lies; the PIN is wrong; a folder cannot be written.

use std::{
    fs,
    io::Read as _,
    io::Write as _,
    net::TcpStream,
    process::Command,
    time::{Duration, Instant},
};

use crate::dev::{Dev, PROGRAM, Start, text};

fn sign(dev: &Dev) -> std::process::Output {
    let (file, sig) = (dev.file("file", "text"), dev.path("sig"));
    dev.run(&["key", "sign", "k", "--algorithm", "ES256", "--in", text(&file), "--out", text(&sig)])
}

/// A plain HTTP GET of the metrics port: status line and body.
pub(crate) fn get(dev: &Dev, path: &str) -> (String, String) {
    let said = dev.said();
    let address = metrics_address(dev).unwrap_or_else(|| panic!("no metrics address in: {said}"));
    let mut stream = TcpStream::connect(address).expect("connects");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("writes");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("reads");
    let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
    (head.lines().next().unwrap_or_default().to_owned(), body.to_owned())
}

fn metrics_address(dev: &Dev) -> Option<String> {
    let said = dev.said();
    let line = said.lines().find(|line| line.starts_with("metrics"))?;
    Some(line.split("http://").nth(1)?.trim().to_owned())
}

#[test]
fn a_hung_worker_is_replaced_while_other_lanes_go_on() {
    let mut dev = Dev::new();
    dev.ok(&["key", "create", "k", "--type", "EC"]);
    dev.ok(&["key", "create", "aes", "--type", "oct"]);
    dev.stop();
    dev.start(Start { faults: &["medium=sign#3=hang"], set: &["medium.hang_ms=2000"], ..Start::default() });
    let begun = Instant::now();
    std::thread::scope(|scope| {
        // A worker's first signature proves the key, the second is the first caller's, the third hangs.
        let signing = scope.spawn(|| (0..6).map(|_| sign(&dev)).collect::<Vec<_>>());
        let (file, out) = (dev.file("plain", "text"), dev.path("enc"));
        while !signing.is_finished() {
            dev.ok(&["key", "encrypt", "aes", "--algorithm", "A256GCM", "--in", text(&file), "--out", text(&out)]);
            assert!(begun.elapsed() < Duration::from_secs(120));
        }
        for output in signing.join().expect("no panic") {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    });
}

#[test]
fn a_crashed_or_lying_worker_costs_no_wrong_answer() {
    let mut dev = Dev::new();
    dev.ok(&["key", "create", "k", "--type", "EC"]);
    dev.stop();
    for script in
        ["medium=sign#3=crash", "medium=sign#3=fail:CKR_DEVICE_ERROR", "medium=sign#3=fail:CKR_SESSION_HANDLE_INVALID"]
    {
        dev.start(Start { faults: &[script], ..Start::default() });
        for _ in 0..6 {
            let output = sign(&dev);
            assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
            let (file, sig) = (dev.path("file"), dev.path("sig"));
            let verify = ["key", "verify", "k", "--algorithm", "ES256", "--in", text(&file), "--signature", text(&sig)];
            assert_eq!(dev.run(&verify).status.code(), Some(0), "{script}");
        }
        dev.stop();
    }
}

/// The files of a development folder that hold the user PIN.
fn pin_file(dev: &Dev) -> std::path::PathBuf {
    dev.data().join("token/pin")
}

#[test]
fn a_wrong_pin_is_tried_once_over_all_workers_and_restarts() {
    let mut dev = Dev::new();
    dev.stop();
    let right = fs::read(pin_file(&dev)).expect("reads");
    fs::write(pin_file(&dev), "0000000000").expect("writes");
    let count = dev.path("logins");
    let counting: Vec<String> = ["short", "medium", "long", "generate"]
        .iter()
        .map(|lane| format!("{lane}=login=count:{}", count.display()))
        .collect();
    let faults: Vec<&str> = counting.iter().map(String::as_str).collect();
    for _ in 0..3 {
        let said = dev.try_start(Start { faults: &faults, ..Start::default() }).expect_err("must not serve");
        assert!(said.to_lowercase().contains("pin"), "{said}");
    }
    assert_eq!(fs::read_to_string(&count).expect("counted").lines().count(), 1, "one login in all");
    fs::write(pin_file(&dev), right).expect("writes");
    let said = dev.try_start(Start::default()).expect_err("the latch is still set");
    assert!(said.contains("latch"), "{said}");
}

#[test]
fn readiness_follows_the_canary() {
    let dev = Dev::new();
    assert!(get(&dev, "/livez").0.contains("200"));
    let (status, body) = get(&dev, "/readyz");
    assert!(status.contains("200"), "{status} {body}");
    let (_, metrics) = get(&dev, "/metrics");
    for wanted in
        ["strongroom_hsm_queue_wait_seconds", "strongroom_hsm_service_seconds", "strongroom_hsm_workers_ready"]
    {
        assert!(metrics.contains(wanted), "{wanted}");
    }
    // The token's folder goes away: session keys look healthy, the canary does not.
    let tokens = dev.data().join("token/tokens");
    let hidden = dev.path("hidden");
    fs::rename(&tokens, &hidden).expect("renames");
    let begun = Instant::now();
    while get(&dev, "/readyz").0.contains("200") {
        assert!(begun.elapsed() < Duration::from_secs(60), "it never noticed");
        std::thread::sleep(Duration::from_millis(200));
    }
    fs::rename(&hidden, &tokens).expect("renames back");
    let begun = Instant::now();
    while !get(&dev, "/readyz").0.contains("200") {
        assert!(begun.elapsed() < Duration::from_secs(90), "it never recovered");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// How nice a process is (proc(5), `stat`, field 19).
fn niceness(process: &str) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("running");
    let after_name = stat.rsplit(')').next().expect("a name in parentheses");
    after_name.split_whitespace().nth(16).and_then(|nice| nice.parse().ok()).expect("a number")
}

#[test]
fn workers_of_slow_lanes_stand_back_for_the_others() {
    let ours = niceness("self");
    let dev = Dev::new();
    let mut found: Vec<i32> = dev.workers().iter().map(|worker| niceness(&worker.to_string())).collect();
    found.sort_unstable();
    let (quick, slow) = found.split_at(found.len() - 2);
    assert!(quick.len() >= 2 && quick.iter().all(|nice| *nice == ours), "{found:?}");
    assert_eq!(slow, [ours.max(10), ours.max(19)], "long, generate");
}

#[test]
fn a_missing_module_or_folder_is_said_plainly() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new(PROGRAM).args(["doctor", "--module", "/no/such/module.so"]).output().expect("runs");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("/no/such/module.so"), "{said}");
    let blocked = folder.path().join("file");
    fs::write(&blocked, "a file, not a folder").expect("writes");
    let output = Command::new(PROGRAM).args(["dev", "--data-dir"]).arg(blocked.join("data")).output().expect("runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("data"), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The last line of a trace that has all these words.
fn last(trace: &[&str], words: &[&str]) -> usize {
    let found = trace.iter().rposition(|line| words.iter().all(|word| line.contains(word)));
    found.unwrap_or_else(|| panic!("no line with {words:?}"))
}

/// What a server does on disk and network from a command on until it is told to end.
fn traced(dev: &mut Dev, command: &[&str]) -> Vec<String> {
    let strace = Command::new("strace").arg("-V").output();
    assert!(strace.is_ok(), "strace: apt-get install strace");
    let trace = dev.path("trace");
    let calls = "trace=fsync,fdatasync,write,writev,sendto,sendmsg";
    dev.start(Start {
        under: &["strace", "-f", "-yy", "-e", calls, "-e", "signal=none", "-o", text(&trace)],
        ..Start::default()
    });
    let before = fs::read_to_string(&trace).expect("reads").len();
    dev.ok(command);
    dev.stop();
    let text = fs::read_to_string(&trace).expect("reads");
    text[before..].lines().take_while(|line| !line.contains("log.closed")).map(str::to_owned).collect()
}

#[test]
fn syncs_of_token_store_and_log_precede_the_answer() {
    let mut dev = Dev::new();
    dev.stop();
    let lines = traced(&mut dev, &["key", "create", "traced", "--type", "EC", "--residency", "token"]);
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let lines = lines.as_slice();
    // The answer is the last thing that goes to the client's connection.
    let answer = last(lines, &["TCP:[127.0.0.1", "->"]);
    let intent =
        lines.iter().position(|line| line.contains("sync(") && line.contains(".jsonl")).expect("the intent is synced");
    let token = last(&lines[..answer], &["sync(", "tokens"]);
    let store = last(&lines[..answer], &["sync(", "-wal"]);
    let outcome = last(&lines[..answer], &["sync(", ".jsonl"]);
    assert!(intent < token, "the intent is durable before the token is touched");
    assert!(token < store, "the token's files before the row that names them");
    assert!(store < outcome && outcome < answer, "row, outcome, answer");
}

#[test]
fn the_record_of_a_plain_data_key_is_synced_before_the_answer() {
    let mut dev = Dev::new();
    dev.ok(&["key", "create", "aes", "--type", "oct"]);
    dev.stop();
    let (key, wrapped) = (dev.path("key"), dev.path("wrapped"));
    let files = ["--out", text(&key), "--wrapped-out", text(&wrapped)];
    let make = ["key", "generate-data-key", "aes", "--algorithm", "A256KW"];
    let lines = traced(&mut dev, &[&make[..], &files].concat());
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let answer = last(&lines, &["TCP:[127.0.0.1", "->"]);
    let record = last(&lines[..answer], &["write", ".jsonl"]);
    // An operation without this rule is answered first and synced within 100 ms.
    let synced = lines[record..answer].iter().any(|line| line.contains("sync(") && line.contains(".jsonl"));
    assert!(synced, "{:#?}", &lines[record..=answer]);
}

#[test]
fn a_store_that_fails_at_the_commit_leaves_no_doubt() {
    let mut dev = Dev::new();
    dev.ok(&["key", "create", "k", "--type", "EC"]);
    dev.stop();
    // Before the commit nothing is applied and the caller may repeat; after it everything is.
    for point in ["store.before_commit", "store.after_commit"] {
        let armed = format!("{point}=error@1");
        dev.start(Start { failpoints: &armed, ..Start::default() });
        let name = point.replace(['.', '_'], "-");
        dev.ok(&["key", "create", &name, "--type", "EC"]);
        dev.ok(&["key", "create", &format!("{name}-next"), "--type", "EC"]);
        assert!(sign(&dev).status.success());
        dev.stop();
        dev.start(Start::default());
        assert!(sign(&dev).status.success(), "what the store holds is what the log knows");
        dev.ok(&["key", "show", &name]);
        dev.stop();
    }
}
