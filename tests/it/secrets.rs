//! Secrets as people and programs use them: set from a file or a pipe, read, put into an environment or a template; and found
//! nowhere but where they were asked for.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Output, Stdio},
};

use base64ct::{Base64, Encoding as _};
use serde_json::Value;
use strongroom_proto::v1::{self, secrets_client::SecretsClient};
use tonic::Code;

use crate::{
    dev::{Dev, PROGRAM, text},
    rpc::{connect, identity, reason},
};

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// Runs the command line with something on its standard input.
fn piped(dev: &Dev, arguments: &[&str], input: &[u8]) -> Output {
    let mut command = dev.command(PROGRAM);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("runs");
    // A command that refuses its arguments reads nothing.
    let _ = child.stdin.take().expect("piped").write_all(input);
    child.wait_with_output().expect("ends")
}

fn set(dev: &Dev, name: &str, value: &[u8]) -> String {
    let output = piped(dev, &["secret", "set", name, "-o", "json"], value);
    assert!(output.status.success(), "{}", said(&output));
    let shown = json(std::str::from_utf8(&output.stdout).expect("text"));
    shown["version"]["name"].as_str().expect("a name").to_owned()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn value(dev: &Dev, arguments: &[&str]) -> Vec<u8> {
    let output = dev.run(&[&["secret", "value"], arguments].concat());
    assert!(output.status.success(), "{}", said(&output));
    output.stdout
}

/// What a terminal shows of `secret set NAME` when those lines are typed, each once it is asked for.
fn typed(dev: &Dev, name: &str, lines: [&str; 2]) -> (bool, String) {
    let line = format!("{PROGRAM} secret set {name}");
    let mut command = dev.command("script");
    // `script` gives it a terminal.
    command.args(["-qec", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("runs");
    let (mut keyboard, mut screen) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    let mut seen = Vec::new();
    for (line, asked) in lines.iter().zip(["Value:", "Value again:"]) {
        while !String::from_utf8_lossy(&seen).contains(asked) {
            let mut bytes = [0; 256];
            let read = screen.read(&mut bytes).expect("a screen");
            assert!(read > 0, "{asked}: {}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&bytes[..read]);
        }
        keyboard.write_all(format!("{line}\n").as_bytes()).expect("typed");
    }
    screen.read_to_end(&mut seen).expect("a screen");
    let ended = child.wait().expect("ends");
    (ended.success(), String::from_utf8_lossy(&seen).into_owned())
}

#[test]
fn a_value_that_is_typed_is_asked_for_twice_and_not_shown() {
    let dev = Dev::new();
    let (done, seen) = typed(&dev, "typed", ["correct horse", "correct horse"]);
    assert!(done && !seen.contains("horse"), "{seen}");
    assert_eq!(value(&dev, &["typed"]), b"correct horse");
    let (done, seen) = typed(&dev, "mistyped", ["correct horse", "correct house"]);
    assert!(!done && seen.contains("were not the same") && !seen.contains("correct ho"), "{seen}");
    assert!(!dev.run(&["secret", "show", "mistyped"]).status.success());
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("is there").permissions().mode() & 0o777
}

#[test]
fn a_value_comes_back_byte_for_byte() {
    let dev = Dev::new();
    let binary = b"\0\x01\xff\n\r\0end\0";
    let file = dev.file("value", binary);
    dev.ok(&["secret", "set", "binary", "--file", text(&file)]);
    assert_eq!(value(&dev, &["binary"]), binary);
    for (typed, more, kept, noted) in [
        (&b"hunter2\n"[..], None, &b"hunter2\n"[..], true),
        (b"hunter2\n", Some("--strip-newline"), b"hunter2", false),
        (b"hunter2\r\n\n", Some("--strip-newline"), b"hunter2\r\n", false),
        (b"hunter2", None, b"hunter2", false),
    ] {
        let arguments: Vec<&str> = ["secret", "set", "piped"].into_iter().chain(more).collect();
        let output = piped(&dev, &arguments, typed);
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(said(&output).contains("--strip-newline"), noted, "{}", said(&output));
        assert_eq!(value(&dev, &["piped"]), kept);
    }
    let longest = vec![b'x'; 64 * 1024];
    set(&dev, "long", &longest);
    assert_eq!(value(&dev, &["long"]), longest);
    for (input, why) in [(vec![b'x'; 64 * 1024 + 1], "longer than the 65536 bytes"), (Vec::new(), "is empty")] {
        let output = piped(&dev, &["secret", "set", "never"], &input);
        assert_eq!(output.status.code(), Some(2));
        assert!(said(&output).contains(why), "{}", said(&output));
    }
    let out = dev.path("out");
    assert_eq!(value(&dev, &["binary", "--out", text(&out)]), b"");
    assert_eq!((fs::read(&out).expect("reads"), mode(&out)), (binary.to_vec(), 0o600));
    let shown = json(&dev.ok(&["secret", "value", "binary", "-o", "json"]));
    assert_eq!(shown["value"], Base64::encode_string(binary));
    assert!(json(&dev.ok(&["secret", "value", "binary", "--out", text(&out), "-o", "json"]))["value"].is_null());
}

#[test]
fn a_secret_is_set_again_changed_deleted_brought_back_and_destroyed() {
    let dev = Dev::new();
    let first = set(&dev, "db", b"one");
    let second = set(&dev, "DB", b"two");
    assert_eq!(value(&dev, &["db"]), b"two", "names have no case");
    for old in
        [first.as_str(), &first.replace("vaults/", "strongroom://").replace("secrets/", "").replace("versions/", "")]
    {
        assert_eq!(value(&dev, &[old]), b"one", "{old}");
    }
    let versions = json(&dev.ok(&["secret", "versions", "db", "-o", "json"]));
    let names: Vec<&str> = versions.as_array().expect("a list").iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, [second.replace("/DB/", "/db/").as_str(), &first], "newest first, as first spelled");

    let update = ["secret", "update", "db", "--content-type", "text/plain", "--tag", "team=red", "--expires", "P90D"];
    let changed = json(&dev.ok(&[&update[..], &["--disable", "-o", "json"]].concat()));
    assert_eq!((&changed["contentType"], &changed["tags"]["team"]), (&"text/plain".into(), &"red".into()));
    let refused = dev.fails(&["secret", "value", "db"]);
    assert!(
        refused.contains("SECRET_DISABLED") && refused.contains("strongroom secret update NAME --enable"),
        "{refused}"
    );
    assert_eq!(value(&dev, &[&first]), b"one", "the other version is as it was");
    dev.ok(&["secret", "update", "db", "--enable", "--clear-expires", "--content-type", ""]);
    let shown = json(&dev.ok(&["secret", "show", "db", "-o", "json"]));
    assert!(shown["version"]["expireTime"].is_null() && shown["version"]["enabled"] == true, "{shown}");
    assert!(dev.fails(&["secret", "update", "db", "--disable", "--etag", "other"]).contains("ETAG_MISMATCH"));

    dev.ok(&["secret", "delete", "db"]);
    let refused = dev.fails(&["secret", "value", "db"]);
    assert!(refused.contains("strongroom secret recover NAME"), "{refused}");
    let refused = said(&piped(&dev, &["secret", "set", "db"], b"three"));
    assert!(refused.contains("NAME_RESERVED") && refused.contains("strongroom secret recover NAME"), "{refused}");
    assert!(
        !dev.ok(&["secret", "list"]).contains("db") && dev.ok(&["secret", "list", "--deleted"]).contains("deleted")
    );
    dev.ok(&["secret", "recover", "db"]);
    assert_eq!(value(&dev, &["db"]), b"two");
    assert!(dev.fails(&["secret", "purge", "db"]).contains("NOT_DELETED"));
    dev.ok(&["secret", "delete", "db"]);
    assert_eq!(json(&dev.ok(&["secret", "purge", "db", "-o", "json"]))["versions"], "2");
    let missing = dev.fails(&["secret", "show", "db"]);
    assert!(missing.contains("does not exist") && missing.contains("strongroom secret list"), "{missing}");
    let must_not_exist = ["secret", "set", "db", "--must-not-exist"];
    assert!(piped(&dev, &must_not_exist, b"anew").status.success());
    assert!(said(&piped(&dev, &must_not_exist, b"anew")).contains("exists"));

    let told = dev.ok(&["event", "watch", "--from-beginning", "--no-follow"]);
    let kinds = ["SecretNewVersionCreated", "SecretDeleted", "SecretRecovered", "SecretPurged"];
    assert!(kinds.iter().all(|kind| told.contains(kind)) && told.contains("vaults/dev/secrets/db"), "{told}");
}

/// What was read lately is kept in memory: a change must be seen by the very next read, whichever way the secret is named.
#[test]
fn what_was_just_read_is_not_read_again_once_it_has_changed() {
    let dev = Dev::new();
    let refused = |name: &[&str], why: &str| {
        let said = dev.fails(&[&["secret", "value"], name].concat());
        assert!(said.contains(why), "{said}");
    };
    let first = set(&dev, "warm", b"first");
    let first = first.rsplit('/').next().expect("a version");
    let both: [&[&str]; 2] = [&["warm"], &["warm", "--version", first]];
    let reads = |expected: [&[u8]; 2]| assert_eq!(both.map(|name| value(&dev, name)), expected);
    reads([b"first", b"first"]);
    set(&dev, "warm", b"second");
    reads([b"second", b"first"]);
    dev.ok(&["secret", "update", "warm", "--version", first, "--disable"]);
    refused(both[1], "disabled");
    assert_eq!(value(&dev, both[0]), b"second");
    dev.ok(&["secret", "update", "warm", "--version", first, "--enable"]);
    reads([b"second", b"first"]);
    dev.ok(&["secret", "delete", "warm"]);
    both.iter().for_each(|name| refused(name, "deleted"));
    dev.ok(&["secret", "recover", "warm"]);
    reads([b"second", b"first"]);
    dev.ok(&["secret", "delete", "warm"]);
    dev.ok(&["secret", "purge", "warm"]);
    both.iter().for_each(|name| refused(name, "exist"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_come_in_pages_and_of_what_is_wanted() {
    let dev = Dev::new();
    for name in ["a", "B", "c", "d", "e"] {
        set(&dev, name, name.as_bytes());
    }
    dev.ok(&["secret", "update", "c", "--disable", "--expires", "P10D"]);
    dev.ok(&["secret", "delete", "e"]);
    let mut secrets = SecretsClient::new(connect(&dev).await);
    let (mut found, mut request) =
        (Vec::new(), v1::ListSecretsRequest { parent: "vaults/dev".to_owned(), ..Default::default() });
    request.page_size = 3;
    request.show_deleted = true;
    loop {
        let page = secrets.list_secrets(request.clone()).await.expect("a page").into_inner();
        found.extend(page.secrets.iter().map(|secret| secret.name.rsplit('/').next().unwrap_or_default().to_owned()));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(found, ["a", "B", "c", "d", "e"]);
    request.show_deleted = false;
    let refused = secrets.list_secrets(v1::ListSecretsRequest { page_token: "AQ".to_owned(), ..request }).await;
    assert_eq!(reason(&refused.expect_err("another list")), "INVALID_FIELD");
    let listed = |more: &[&str]| {
        let shown = json(&dev.ok(&[&["secret", "list", "-o", "json"], more].concat()));
        shown.as_array().expect("a list").len()
    };
    assert_eq!((listed(&[]), listed(&["--deleted"]), listed(&["--enabled", "false"])), (4, 5, 1));
    assert_eq!((listed(&["--expires-before", "P30D"]), listed(&["--expires-from", "P30D"])), (1, 0));
    let mut request =
        v1::ListSecretVersionsRequest { parent: "vaults/dev/secrets/a".to_owned(), page_size: 1, ..Default::default() };
    set(&dev, "a", b"again");
    let page = secrets.list_secret_versions(request.clone()).await.expect("a page").into_inner();
    request.page_token = page.next_page_token;
    let last = secrets.list_secret_versions(request).await.expect("a page").into_inner();
    assert!(last.next_page_token.is_empty() && last.versions[0].name != page.versions[0].name);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_repeated_makes_one_version_and_a_damaged_value_is_found() {
    let dev = Dev::new();
    let mut secrets = SecretsClient::new(connect(&dev).await);
    let request = v1::SetSecretRequest {
        parent: "vaults/dev".to_owned(),
        secret_id: "once".to_owned(),
        value: b"hunter2".to_vec(),
        value_crc32c: Some(crc32c::crc32c(b"hunter2")),
        request_id: "7d4f3e52-3b3f-4f3a-9f0e-000000000041".to_owned(),
        ..Default::default()
    };
    let could = v1::SetSecretRequest { validate_only: true, request_id: String::new(), ..request.clone() };
    secrets.set_secret(could).await.expect("could be set");
    let first = secrets.set_secret(request.clone()).await.expect("set").into_inner();
    let again = secrets.set_secret(request.clone()).await.expect("the same").into_inner();
    assert_eq!(first, again);
    let other = v1::SetSecretRequest { value: b"hunter3".to_vec(), value_crc32c: None, ..request.clone() };
    assert_eq!(reason(&secrets.set_secret(other).await.expect_err("another value")), "REQUEST_ID_REUSED");
    let damaged = v1::SetSecretRequest { value: b"hunter3".to_vec(), request_id: String::new(), ..request.clone() };
    assert_eq!(reason(&secrets.set_secret(damaged).await.expect_err("damaged")), "INVALID_FIELD");
    let long = v1::SetSecretRequest {
        value: vec![7; 64 * 1024 + 1],
        value_crc32c: None,
        request_id: String::new(),
        ..request
    };
    let refused = secrets.set_secret(long).await.expect_err("too long");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "INVALID_FIELD"));
    let read = v1::GetSecretValueRequest { name: "vaults/dev/secrets/once".to_owned() };
    let read = secrets.get_secret_value(read).await.expect("read").into_inner();
    assert_eq!((read.value.as_slice(), read.value_crc32c), (&b"hunter2"[..], crc32c::crc32c(b"hunter2")));
    assert_eq!(read.version, first.version);
    for wrong in ["vaults/dev/keys/once", "vaults/dev/secrets/once/versions/1", "secrets/once", ""] {
        let refused = secrets.get_secret_value(v1::GetSecretValueRequest { name: wrong.to_owned() }).await;
        assert_eq!(refused.expect_err(wrong).code(), Code::InvalidArgument, "{wrong}");
    }
}

#[test]
fn a_command_finds_secrets_in_its_environment_and_nothing_runs_without_all_of_them() {
    let dev = Dev::new();
    set(&dev, "db-password", b"it's $HOME \"quoted\"\nand has two lines\xff");
    let old = set(&dev, "api", b"old");
    set(&dev, "api", b"new");
    set(&dev, "nul", b"a\0b");
    let versioned = format!("{old}=OLD");
    let script = "printf '%s|%s|%s' \"$DB_PASSWORD\" \"$TOKEN\" \"$OLD\"; exit 7";
    let run = ["exec", "--secret", "db-password", "--secret", "strongroom://dev/api=TOKEN", "--secret", &versioned];
    let output = dev.run(&[&run[..], &["--", "sh", "-c", script]].concat());
    assert_eq!(output.status.code(), Some(7), "{}", said(&output));
    assert_eq!(output.stdout, b"it's $HOME \"quoted\"\nand has two lines\xff|new|old");

    let mark = dev.path("mark");
    let touch = ["--", "touch", text(&mark)];
    for (secrets, why) in [
        (&["--secret", "api", "--secret", "missing"][..], "vaults/dev/secrets/missing does not exist"),
        (&["--secret", "nul"], "zero byte"),
        (&["--secret", "api=A", "--secret", "db-password=A"], "two secrets"),
        (&["--secret", "a_b"], "is not a secret name"),
    ] {
        let refused = dev.fails(&[&["exec"], secrets, &touch[..]].concat());
        assert!(refused.contains(why), "{refused}");
        assert!(!mark.exists(), "{secrets:?}: nothing runs");
    }
    dev.ok(&[&["exec", "--secret", "api"], &touch[..]].concat());
    assert!(mark.exists());
    assert!(dev.fails(&["exec", "--secret", "api", "--", "/no/such/program"]).contains("cannot run /no/such/program"));
    assert_eq!(
        dev.run(&["exec", "--secret", "api", "--", "sh", "-c", "kill -TERM $$"]).status.code(),
        None,
        "a signal is one"
    );
}

#[test]
fn a_template_gets_its_values_or_is_not_written() {
    let dev = Dev::new();
    let old = set(&dev, "db", b"old");
    set(&dev, "db", "p\u{e4}ss strongroom://dev/other".as_bytes());
    set(&dev, "host", b"db.example");
    set(&dev, "binary", &[0xff, 0xfe]);
    let version = old.rsplit('/').next().expect("a version");
    let template = format!(
        "URL=pg://u:strongroom://dev/db@{{{{strongroom://dev/host}}}}-2/x\nAGAIN=\"strongroom://DEV/DB\"\nOLD=strongroom://dev/db/{version}\n"
    );
    let filled = "URL=pg://u:p\u{e4}ss strongroom://dev/other@db.example-2/x\nAGAIN=\"p\u{e4}ss strongroom://dev/other\"\nOLD=old\n";
    let (input, out) = (dev.file("template", &template), dev.path("filled"));
    dev.ok(&["inject", "--in", text(&input), "--out", text(&out)]);
    assert_eq!((fs::read_to_string(&out).expect("reads").as_str(), mode(&out)), (filled, 0o600));
    assert_eq!(piped(&dev, &["inject"], template.as_bytes()).stdout, filled.as_bytes());
    let asked = || {
        let records = json(&dev.ok(&["audit", "list", "--operation", "secrets.get", "--limit", "1000", "-o", "json"]));
        let ids = records.as_array().expect("a list").iter().map(|record| record["requestId"].to_string());
        ids.collect::<std::collections::BTreeSet<_>>().len()
    };
    // The index follows the log.
    let begun = std::time::Instant::now();
    while asked() < 6 && begun.elapsed() < std::time::Duration::from_secs(10) {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(asked(), 6, "three secrets, each once for each of the two templates");

    fs::remove_file(&out).expect("was there");
    for (template, why) in [
        ("A=strongroom://dev/db\nB=strongroom://dev/missing\n", "line 2: strongroom://dev/missing"),
        ("A=strongroom://dev/db\nB=strongroom://dev/binary\n", "is not text (UTF-8)"),
        ("A=strongroom://dev/db_password", "is no reference"),
        ("A=strongroom://nowhere/db", "does not exist"),
    ] {
        let input = dev.file("template", template);
        let refused = dev.fails(&["inject", "--in", text(&input), "--out", text(&out)]);
        assert!(refused.contains(why), "{template}: {refused}");
        assert!(!out.exists(), "{template}");
        assert_eq!(piped(&dev, &["inject"], template.as_bytes()).stdout, b"", "{template}");
    }
}

#[test]
fn who_may_read_values_is_a_right_of_its_own() {
    let dev = Dev::new();
    set(&dev, "db", b"hunter2");
    let file = dev.file("value", "mine");
    let as_role = |role: &str, arguments: &[&str]| {
        let principal = format!("spiffe://dev.strongroom.invalid/{}", role.replace(' ', "-"));
        let (cert, key) = identity(&dev, &principal);
        let (cert, key) = (dev.file("cert.pem", cert), dev.file("key.pem", key));
        if role != "nobody" {
            // A second time it is there already.
            dev.run(&["access", "grant", "--principal", &principal, "--role", role, "--scope", "vaults/dev"]);
        }
        dev.run(&[arguments, &["--cert", text(&cert), "--key-file", text(&key)]].concat())
    };
    let (show, read, list) = (["secret", "show", "db"], ["secret", "value", "db"], ["secret", "list"]);
    let (write, delete) = (["secret", "set", "db", "--file", text(&file)], ["secret", "delete", "db"]);
    for (role, may) in [
        ("nobody", [false, false, false, false, false]),
        ("Key Vault Crypto User", [false, false, false, false, false]),
        ("Key Vault Reader", [true, false, true, false, false]),
        ("auditor", [true, false, true, false, false]),
        ("Key Vault Secrets User", [true, true, true, false, false]),
        ("Key Vault Secrets Officer", [true, true, true, true, true]),
    ] {
        let asked: [&[&str]; 5] = [&show, &read, &list, &write, &delete];
        for (arguments, may) in asked.into_iter().zip(may) {
            let output = as_role(role, arguments);
            assert_eq!(output.status.success(), may, "{role}: {arguments:?}: {}", said(&output));
            assert!(may || said(&output).contains("PERMISSION_DENIED"), "{}", said(&output));
        }
    }
    dev.ok(&["secret", "recover", "db"]);
    let refused = as_role("nobody", &read);
    assert!(said(&refused).contains("--role 'Key Vault Secrets User' --scope vaults/dev"), "{}", said(&refused));
    let hidden = |said: String| said.lines().filter(|line| !line.starts_with("request id")).collect::<String>();
    let missing = said(&as_role("nobody", &["secret", "value", "missing"])).replace("missing", "db");
    assert_eq!(hidden(missing), hidden(said(&refused)), "what is there and what is not look alike");
}

#[test]
fn a_backup_brings_a_secret_back_and_holds_no_value() {
    let dev = Dev::new();
    set(&dev, "db", b"hunter2-first");
    set(&dev, "db", b"hunter2-second");
    let file = dev.path("db.backup");
    let shown = dev.ok(&["secret", "backup", "db", "--out", text(&file), "-o", "json"]);
    assert!(shown.contains("\"versions\": \"2\""), "{shown}");
    assert!(!holds(&fs::read(&file).expect("reads"), b"hunter2"));
    let restore = |more: &[&str]| dev.run(&[&["secret", "restore", text(&file)], more].concat());
    assert!(said(&restore(&[])).contains("ALREADY_EXISTS"));
    dev.ok(&["secret", "delete", "db"]);
    assert!(said(&restore(&[])).contains("NAME_RESERVED"));
    dev.ok(&["secret", "purge", "db"]);
    assert!(restore(&["--check"]).status.success());
    assert!(said(&dev.run(&["secret", "show", "db"])).contains("NOT_FOUND"), "checking writes nothing");
    assert!(restore(&[]).status.success());
    assert_eq!(dev.ok(&["secret", "value", "db"]), "hunter2-second");
    set(&dev, "db", b"hunter2-third");
    dev.ok(&["secret", "delete", "db"]);
    dev.ok(&["secret", "purge", "db"]);
    assert!(said(&restore(&[])).contains("--older"));
    assert!(restore(&["--older"]).status.success());
    let key = dev.file("key.backup", "strongroom key backup\n");
    let refused = said(&dev.run(&["secret", "restore", text(&key)]));
    assert!(refused.contains("no backup of a secret"), "{refused}");
}

fn everything(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).expect("reads") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            everything(&path, found);
        } else if let Ok(bytes) = fs::read(&path) {
            found.push((path.display().to_string(), bytes));
        }
    }
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn a_value_is_nowhere_but_where_it_was_asked_for() {
    let mut dev = Dev::new();
    let secret = b"Xq7-plain-value-that-is-looked-for-Zk3";
    let (file, out) = (dev.file("value", secret), dev.path("out"));
    let mut outputs = vec![
        dev.run(&["secret", "set", "s", "--file", text(&file), "--tag", "a=b", "-o", "json"]),
        piped(&dev, &["secret", "set", "s"], secret),
        dev.run(&["secret", "show", "s", "-o", "json"]),
        dev.run(&["secret", "list", "-o", "json"]),
        dev.run(&["secret", "versions", "s"]),
        dev.run(&["secret", "value", "s", "--out", text(&out), "-o", "json"]),
        dev.run(&["secret", "update", "s", "--disable", "-o", "json"]),
        dev.run(&["event", "watch", "--from-beginning", "--no-follow", "-o", "json"]),
        dev.run(&["audit", "list", "-o", "json"]),
    ];
    assert!(outputs.iter().all(|output| output.status.success()));
    outputs.push(piped(&dev, &["secret", "set", "bad name"], secret));
    outputs.push(dev.run(&["secret", "value", "s"]));
    let (logged, forms) = (dev.said(), [secret.to_vec(), Base64::encode_string(&secret[..36]).into_bytes()]);
    dev.stop();
    let mut found: Vec<(String, Vec<u8>)> = vec![("the log".to_owned(), logged.into_bytes())];
    for output in outputs {
        found.push(("standard output".to_owned(), output.stdout));
        found.push(("standard error".to_owned(), output.stderr));
    }
    everything(&dev.data(), &mut found);
    for (place, bytes) in found {
        assert!(forms.iter().all(|form| !holds(&bytes, form)), "it is in {place}");
    }
    assert!(holds(&fs::read(out).expect("reads"), secret), "what is looked for would be found");
}
