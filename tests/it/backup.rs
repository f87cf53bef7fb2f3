//! Backups of a service that serves: taken under load and through kills, verified, restored onto an empty machine, tried out.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use serde_json::Value;

use crate::{
    dev::{Dev, PROGRAM, Start, text},
    postgres,
    production::{Serving, Site},
};

/// A site that makes backups, with a vault and keys of several kinds.
struct Kept {
    site: Site,
    sig: PathBuf,
    encrypted: PathBuf,
}

fn lines(site: &Site) {
    let path = site.path("strongroom.toml");
    let config = fs::read_to_string(&path).expect("reads");
    let with = config.replace("#dir = \"backups\"", "dir = \"backups\"");
    assert_ne!(with, config);
    fs::write(&path, with).expect("writes");
    folder(&site.path("backups"));
}

fn folder(path: &Path) {
    fs::create_dir(path).expect("makes");
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).expect("sets");
}

impl Kept {
    fn new() -> (Self, Serving) {
        let site = Site::new();
        lines(&site);
        site.init();
        let serving = site.serve();
        site.client_ok(&["vault", "create", "main"]);
        site.client_ok(&["key", "create", "release", "--type", "EC"]);
        site.client_ok(&["key", "create", "files", "--type", "oct", "--size", "256"]);
        site.client_ok(&["key", "create", "rsa", "--type", "RSA"]);
        let (sig, encrypted) = (site.path("sig"), site.path("encrypted"));
        let kept = Self { site, sig, encrypted };
        let (input, sig, encrypted) = (kept.input(), text(&kept.sig).to_owned(), text(&kept.encrypted).to_owned());
        kept.site.client_ok(&["key", "sign", "release", "--algorithm", "ES256", "--in", &input, "--out", &sig]);
        kept.site.client_ok(&[
            "key",
            "encrypt",
            "files",
            "--algorithm",
            "A256GCM",
            "--in",
            &input,
            "--out",
            &encrypted,
        ]);
        (kept, serving)
    }

    fn input(&self) -> String {
        text(&self.site.path("pin")).to_owned()
    }

    fn create(&self, more: &[&str]) -> (PathBuf, Value) {
        let said = self.site.client_ok(&[&["backup", "create", "-o", "json"][..], more].concat());
        let said: Value = serde_json::from_str(&said).expect("JSON");
        (self.site.path("backups").join(said["folder"].as_str().expect("a folder")), said)
    }

    /// Whether what was signed and encrypted before is verified and opened.
    fn works(&self) {
        let input = self.input();
        self.site.client_ok(&[
            "key",
            "verify",
            "release",
            "--algorithm",
            "ES256",
            "--signature",
            text(&self.sig),
            "--in",
            &input,
        ]);
        let opened = self.site.path("opened");
        let _ = fs::remove_file(&opened);
        self.site.client_ok(&["key", "decrypt", "files", "--in", text(&self.encrypted), "--out", text(&opened)]);
        assert_eq!(fs::read(opened).expect("reads"), fs::read(&input).expect("reads"));
    }

    /// The machine is lost: store and log are gone.
    fn lose(&self) {
        for name in ["strongroom.db", "strongroom.db-wal", "strongroom.db-shm"] {
            let _ = fs::remove_file(self.site.path(name));
        }
        fs::remove_dir_all(self.site.path("audit")).expect("removes");
    }

    fn restore(&self, backup: &Path) -> String {
        self.site.operator_ok(&["backup", "restore", text(backup), "-o", "json"])
    }
}

fn local(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().expect("runs")
}

/// What `backup verify` finds wrong; its exit code says whether anything is.
fn wrong(backup: &Path, more: &[&str]) -> Vec<String> {
    let output = local(&[&["backup", "verify", text(backup), "-o", "json"][..], more].concat());
    let checks: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("JSON: {}", String::from_utf8_lossy(&output.stderr)));
    let checks = checks.as_array().expect("an array").clone();
    let found: Vec<String> = checks
        .iter()
        .filter(|check| check["verdict"] == "wrong")
        .map(|check| format!("{}: {}", check["what"].as_str().expect("text"), check["found"].as_str().expect("text")))
        .collect();
    assert_eq!(output.status.code(), Some(i32::from(!found.is_empty())), "{found:?}");
    found
}

/// The records in the journal that have a text: operation and kind.
fn records(site: &Site, having: &str) -> Vec<String> {
    let journal = tree(&site.path("audit/journal"));
    let lines = journal.iter().flat_map(|(_, content)| std::str::from_utf8(content).expect("text").lines());
    let records = lines.filter(|line| line.contains(having)).map(|line| {
        let record: Value = serde_json::from_str(line).expect("JSON");
        (record["operation"].clone(), record["kind"].clone())
    });
    // A segment's header repeats what is open.
    let records = records.filter(|(operation, _)| operation != "log.segment");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    records.map(|(operation, kind)| format!("{} {}", text(&operation), text(&kind))).collect()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Every file below a folder, with its content.
fn tree(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("reads") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(tree(&path));
        } else {
            found.push((path.clone(), fs::read(&path).expect("reads")));
        }
    }
    found.sort();
    found
}

fn copy_tree(from: &Path, to: &Path) {
    for (path, content) in tree(from) {
        let to = to.join(path.strip_prefix(from).expect("below it"));
        fs::create_dir_all(to.parent().expect("a folder")).expect("makes");
        fs::write(to, content).expect("writes");
    }
}

#[test]
fn a_backup_of_a_serving_site_is_restored_onto_an_empty_machine_and_onto_a_new_token() {
    let (kept, serving) = Kept::new();
    let site = &kept.site;
    let (backup, made) = kept.create(&[]);
    assert_eq!(made["state"], "BACKUP_STATE_DONE");
    let listed: Value = serde_json::from_str(&site.client_ok(&["backup", "list", "-o", "json"])).expect("JSON");
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    let digest = made["manifestSha256"].as_str().expect("text");
    let named = format!("manifest: sha256:{digest}");
    assert_eq!(records(site, &named), ["backups.create outcome"], "the outcome names the manifest");
    // The same request again is the same backup.
    let id = "6ad1a3f2-6b7c-4b43-9d3c-1f2e3d4c5b6a";
    let (again, first) = kept.create(&["--request-id", id]);
    assert_eq!(kept.create(&["--request-id", id]), (again.clone(), first));
    site.client_ok(&["key", "create", "later", "--type", "EC"]);
    serving.stop();
    assert_eq!(wrong(&backup, &["--config", text(&site.path("strongroom.toml"))]), Vec::<String>::new());

    // What is in use is left alone.
    let output = site.operator(&["backup", "restore", text(&backup)]);
    assert!(output.status.code() == Some(2) && said(&output).contains("is in use"), "{}", said(&output));
    kept.lose();
    kept.restore(&backup);
    let output = site.operator(&["backup", "restore", text(&backup)]);
    assert!(output.status.code() == Some(2), "a second time there is something: {}", said(&output));
    let serving = site.serve();
    kept.works();
    assert!(!site.client(&["key", "show", "later"]).status.success(), "it came after the backup");
    assert_eq!(records(site, &named), ["instance.restore intent", "instance.restore outcome"], "it is on record");
    assert_eq!(records(site, "counters raised: 1").len(), 1, "that of the AES key");
    site.client_ok(&["key", "create", "after", "--type", "EC"]);
    let (newer, _) = kept.create(&[]);
    serving.stop();
    assert_eq!(wrong(&newer, &[]), Vec::<String>::new());
    assert_eq!(site.operator(&["audit", "verify"]).status.code(), Some(0));

    // The token is lost too.
    kept.lose();
    fs::remove_dir_all(site.path("tokens")).expect("removes");
    folder(&site.path("tokens"));
    kept.restore(&backup);
    let (recovery, so_pin) = (site.path("recovery.pem"), site.path("so-pin"));
    site.operator_ok(&["recover", "--recovery-key-private", text(&recovery), "--so-pin-file", text(&so_pin)]);
    let serving = site.serve();
    kept.works();
    site.client_ok(&["key", "create", "after", "--type", "EC"]);
    serving.stop();
}

#[test]
fn a_restore_that_is_interrupted_is_begun_anew_by_the_same_command() {
    let (kept, serving) = Kept::new();
    let (backup, _) = kept.create(&[]);
    serving.stop();
    kept.lose();
    let config = kept.site.path("strongroom.toml");
    for pause in [5, 20, 60, 120, 200, 350] {
        let mut child = Command::new(PROGRAM)
            .args(["backup", "restore", text(&backup), "--config", text(&config)])
            .stderr(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("spawns");
        std::thread::sleep(Duration::from_millis(pause));
        let _ = child.kill();
        if child.wait().expect("waits").success() {
            break;
        }
    }
    if !kept.site.operator(&["backup", "restore", text(&backup)]).status.success() {
        // It had come to its end.
        assert!(!kept.site.path("audit/restoring").exists());
    }
    let serving = kept.site.serve();
    kept.works();
    let log = kept.site.client_ok(&["audit", "list", "--operation", "instance.restore", "-o", "json"]);
    let log: Value = serde_json::from_str(&log).expect("JSON");
    assert_eq!(log.as_array().map(Vec::len), Some(2), "one intent, one outcome: {log}");
    serving.stop();
}

#[test]
fn a_drill_proves_keys_and_touches_nothing() {
    let (kept, serving) = Kept::new();
    let site = &kept.site;
    site.client_ok(&["key", "create", "fixed", "--type", "EC", "--residency", "token"]);
    let (plain, _) = kept.create(&[]);
    let (with_token, made) = kept.create(&["--with-token"]);
    assert_eq!(made["withToken"], true);
    serving.stop();
    let pin = fs::read(site.path("pin")).expect("reads");
    assert!(tree(&with_token).iter().all(|(_, content)| !content.windows(6).any(|piece| piece == &pin[..6])), "no PIN");
    let scratch = site.path("scratch");
    folder(&scratch);
    let before: Vec<_> = ["audit", "tokens", "state", "backups"].map(|name| tree(&site.path(name))).into();
    let database = fs::read(site.path("strongroom.db")).expect("reads");
    let (recovery, scratch) = (site.path("recovery.pem"), text(&scratch).to_owned());
    let all = ["--keys", "all", "-o", "json", "--scratch", &scratch];

    let by_key = [&["backup", "drill", text(&plain), "--recovery-key-private", text(&recovery)][..], &all].concat();
    let shown: Value = serde_json::from_str(&site.operator_ok(&by_key)).expect("JSON");
    assert_eq!(
        (&shown["versions"], &shown["proved"], &shown["token"]),
        (&"4".into(), &"3".into(), &"recovery-key".into()),
        "{shown}"
    );
    let unproved = shown["unproved"].as_array().expect("an array");
    assert!(unproved.len() == 1 && unproved[0]["name"].as_str().is_some_and(|name| name.contains("fixed")), "{shown}");
    let by_files = [&["backup", "drill", text(&with_token)][..], &all].concat();
    let shown: Value = serde_json::from_str(&site.operator_ok(&by_files)).expect("JSON");
    assert_eq!((&shown["versions"], &shown["proved"]), (&"4".into(), &"4".into()), "{shown}");

    let output = site.operator(&["backup", "drill", text(&plain), "--scratch", &scratch]);
    assert!(output.status.code() == Some(2) && said(&output).contains("no token files"), "{}", said(&output));
    let other = Site::new();
    let stranger = other.path("recovery.pem");
    let output = site.operator(&[
        "backup",
        "drill",
        text(&plain),
        "--recovery-key-private",
        text(&stranger),
        "--scratch",
        &scratch,
    ]);
    assert!(output.status.code() == Some(2), "{}", said(&output));
    assert!(said(&output).contains("not one of the recovery keys of this instance"), "{}", said(&output));

    assert_eq!(fs::read_dir(&scratch).expect("reads").count(), 0, "nothing is left");
    let after: Vec<_> = ["audit", "tokens", "state", "backups"].map(|name| tree(&site.path(name))).into();
    assert!(before == after && database == fs::read(site.path("strongroom.db")).expect("reads"), "nothing is touched");

    // The token's files come back too, and with them the key that is in no escrow.
    let output = site.operator(&["backup", "restore", text(&with_token), "--with-token"]);
    assert!(output.status.code() == Some(2) && said(&output).contains("is in use"), "{}", said(&output));
    kept.lose();
    let output = site.operator(&["backup", "restore", text(&with_token), "--with-token"]);
    assert!(output.status.code() == Some(2) && said(&output).contains("not empty"), "{}", said(&output));
    fs::remove_dir_all(site.path("tokens")).expect("removes");
    folder(&site.path("tokens"));
    site.operator_ok(&["backup", "restore", text(&with_token), "--with-token"]);
    let serving = site.serve();
    kept.works();
    let out = site.path("sig-fixed");
    site.client_ok(&["key", "sign", "fixed", "--algorithm", "ES256", "--in", &kept.input(), "--out", text(&out)]);
    serving.stop();
}

#[test]
fn what_ends_before_it_has_its_name_is_no_backup() {
    let mut dev = Dev::new();
    dev.stop();
    let listed = |dev: &Dev| -> usize {
        let listed: Value = serde_json::from_str(&dev.ok(&["backup", "list", "-o", "json"])).expect("JSON");
        listed.as_array().expect("an array").len()
    };
    let there = |dev: &Dev| fs::read_dir(dev.data().join("backups")).expect("reads").count();
    dev.start(Start { failpoints: "backup.before_rename=kill", ..Start::default() });
    assert!(!dev.run(&["--timeout", "10", "backup", "create"]).status.success());
    dev.wait_dead();
    assert_eq!(there(&dev), 1, "something is left");
    dev.start(Start { failpoints: "backup.before_rename=error;backup.before_rename=sleep:3000@3", ..Start::default() });
    assert_eq!(listed(&dev), 0, "and is no backup");
    let journal = |dev: &Dev| {
        let files = tree(&dev.data().join("audit/journal"));
        files.iter().map(|(_, content)| String::from_utf8_lossy(content).into_owned()).collect::<String>()
    };
    let settled = journal(&dev)
        .lines()
        .any(|line| line.contains("backups.create") && line.contains("SETTLED_AT_START") && line.contains("failed"));
    assert!(settled, "the start says that it was not made");
    // The first attempt fails, and the client asks again.
    dev.ok(&["backup", "create"]);
    assert!(journal(&dev).contains("UNAVAILABLE"), "the failure is on record");
    assert_eq!((there(&dev), listed(&dev)), (1, 1), "what was left is taken away, and what failed too");
    let id = "0b8f3c52-5a0e-4d0e-9a43-6f6f0c1d2e3f";
    std::thread::scope(|scope| {
        let first = scope.spawn(|| dev.ok(&["backup", "create", "--request-id", id, "-o", "json"]));
        while there(&dev) == 1 {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(dev.fails(&["backup", "create"]).contains("there is one at a time"));
        assert_eq!(listed(&dev), 2, "and the one that is being made");
        let again = dev.ok(&["--timeout", "1", "backup", "create", "--request-id", id, "-o", "json"]);
        assert_eq!(first.join().expect("no panic"), again, "who asks again waits for it");
    });
    assert_eq!((there(&dev), listed(&dev)), (2, 2));
}

#[test]
fn each_kind_of_damage_is_named() {
    let (kept, serving) = Kept::new();
    let (old, _) = kept.create(&[]);
    kept.site.client_ok(&["key", "create", "later", "--type", "EC"]);
    let (new, _) = kept.create(&[]);
    let (other, other_serving) = Kept::new();
    let (foreign, _) = other.create(&[]);
    other_serving.stop();
    serving.stop();
    let journal = "audit/journal/00000000000000000000.jsonl";
    let damaged = |what: &str, damage: &dyn Fn(&Path), words: &[&str]| {
        let copy = kept.site.path(&format!("damaged-{what}"));
        copy_tree(&new, &copy);
        damage(&copy);
        let found = wrong(&copy, &[]).join("\n");
        for word in words {
            assert!(found.contains(word), "{what}: {word:?} is not in:\n{found}");
        }
        let output = kept.site.operator(&["backup", "restore", text(&copy)]);
        assert_eq!(output.status.code(), Some(2), "it is not restored: {}", said(&output));
    };
    let cut = |path: PathBuf| {
        let content = fs::read(&path).expect("reads");
        fs::write(&path, &content[..content.len() - 700]).expect("writes");
    };
    let change = |path: PathBuf| {
        let mut content = fs::read(&path).expect("reads");
        let at = content.len() / 2;
        content[at] ^= 1;
        fs::write(&path, content).expect("writes");
    };
    let take = |from: &Path, name: &str, to: &Path| {
        fs::copy(from.join(name), to.join(name)).expect("copies");
    };
    damaged("cut", &|copy| cut(copy.join("store.db")), &["store.db has", "it was cut"]);
    damaged("cut-log", &|copy| cut(copy.join(journal)), &["it was cut", "the audit log is damaged"]);
    damaged("byte", &|copy| change(copy.join(journal)), &["was changed", "the audit log is damaged"]);
    damaged(
        "gone",
        &|copy| fs::remove_file(copy.join("audit/checkpoint")).expect("removes"),
        &["audit/checkpoint is missing"],
    );
    damaged(
        "added",
        &|copy| fs::write(copy.join("audit/x"), "x").expect("writes"),
        &["audit/x is none of the backup's"],
    );
    damaged("older", &|copy| take(&old, "store.db", copy), &["the store is of another moment"]);
    damaged("foreign", &|copy| take(&foreign, "store.db", copy), &["a file of another was put in"]);
    damaged("foreign-log", &|copy| take(&foreign, "audit/checkpoint", copy), &["the audit log is strongroom/"]);
    damaged("manifest", &|copy| fs::write(copy.join("manifest.json"), "{}").expect("writes"), &["this is no backup"]);
    // Whoever makes the manifest fit as well is found by what it cannot change: an older store beside a newer log.
    let copy = kept.site.path("older-and-fit");
    copy_tree(&new, &copy);
    take(&old, "store.db", &copy);
    let read = |path: &Path| -> Value {
        serde_json::from_slice(&fs::read(path.join("manifest.json")).expect("reads")).expect("JSON")
    };
    let (mut fit, was) = (read(&copy), read(&old));
    fit["heads"] = was["heads"].clone();
    let entry =
        was["files"].as_array().expect("files").iter().find(|file| file["path"] == "store.db").expect("listed").clone();
    for file in fit["files"].as_array_mut().expect("files") {
        if file["path"] == "store.db" {
            *file = entry.clone();
        }
    }
    fs::write(copy.join("manifest.json"), serde_json::to_vec(&fit).expect("JSON")).expect("writes");
    let found = wrong(&copy, &[]);
    assert!(found.len() == 1 && found[0].contains("the store is older than the log beside it"), "{found:?}");

    // Another's backup is not this token's.
    let config = kept.site.path("strongroom.toml");
    let found = wrong(&foreign, &["--config", text(&config)]).join("\n");
    assert!(found.contains("seals"), "{found}");
    kept.lose();
    kept.restore(&foreign);
    let output = kept.site.operator(&["serve"]);
    assert_eq!(output.status.code(), Some(2), "the token is another's");
}

#[test]
fn what_stands_in_the_way_of_a_backup_is_said_and_the_service_goes_on() {
    let site = Site::new();
    site.init();
    let serving = site.serve();
    let output = site.client(&["backup", "create"]);
    assert!(output.status.code() == Some(2) && said(&output).contains("[backup] dir"), "{}", said(&output));
    serving.stop();
    lines(&site);
    fs::set_permissions(site.path("backups"), fs::Permissions::from_mode(0o750)).expect("sets");
    let output = site.operator(&["serve"]);
    assert!(output.status.code() == Some(2) && said(&output).contains("backup.dir"), "{}", said(&output));
    fs::set_permissions(site.path("backups"), fs::Permissions::from_mode(0o700)).expect("sets");
    let serving = site.serve();
    fs::remove_dir(site.path("backups")).expect("removes");
    let output = site.client(&["--timeout", "10", "backup", "create"]);
    assert!(output.status.code() == Some(2) && said(&output).contains("folder of backups"), "{}", said(&output));
    site.client_ok(&["vault", "create", "main"]);
    // There is no room: a file stands where the folder was.
    fs::write(site.path("backups"), "").expect("writes");
    assert_eq!(site.client(&["--timeout", "10", "backup", "create"]).status.code(), Some(2));
    fs::remove_file(site.path("backups")).expect("removes");
    folder(&site.path("backups"));
    site.client_ok(&["backup", "create"]);
    serving.stop();
}

/// Signs and makes keys until it is told to stop; how many keys were acknowledged.
fn load(site: &Site, round: u64, stop: &AtomicBool, made: &AtomicU64) {
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let name = format!("k-{round}-{number}");
                if site.client(&["--timeout", "5", "key", "create", &name, "--type", "EC"]).status.success() {
                    made.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        scope.spawn(move || {
            let (input, out) = (site.path("pin"), site.path("sig-load"));
            while !stop.load(Ordering::Relaxed) {
                site.client(&[
                    "--timeout",
                    "5",
                    "key",
                    "sign",
                    "release",
                    "--algorithm",
                    "ES256",
                    "--in",
                    text(&input),
                    "--out",
                    text(&out),
                ]);
            }
        });
    });
}

#[test]
fn backups_under_load_and_through_kills_are_of_one_moment() {
    let (kept, serving) = Kept::new();
    let site = &kept.site;
    let mut serving = Some(serving);
    let made = AtomicU64::new(0);
    for round in 0..6_u64 {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| load(site, round, &stop, &made));
            std::thread::sleep(Duration::from_millis(300));
            if round % 2 == 0 {
                kept.create(&["--with-token"]);
                kept.create(&["--with-token"]);
            } else {
                let creating = scope.spawn(|| site.client(&["--timeout", "3", "backup", "create", "--wait", "1"]));
                std::thread::sleep(Duration::from_millis(60 * round));
                drop(serving.take());
                stop.store(true, Ordering::Relaxed);
                let _ = creating.join();
                serving = Some(site.serve());
            }
            stop.store(true, Ordering::Relaxed);
        });
        kept.create(&[]);
    }
    drop(serving.take());
    let serving = site.serve();
    let log = site.client_ok(&["audit", "list", "--operation", "backups.create", "--limit", "1000", "-o", "json"]);
    serving.stop();
    assert!(made.load(Ordering::Relaxed) > 5, "there was load");
    let mut with_token = None;
    let mut whole = 0;
    for entry in fs::read_dir(site.path("backups")).expect("reads") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(!name.starts_with('.'), "what a kill left is taken away by the next: {name}");
        assert_eq!(wrong(&path, &[]), Vec::<String>::new(), "{name}");
        let manifest: Value =
            serde_json::from_slice(&fs::read(path.join("manifest.json")).expect("reads")).expect("JSON");
        assert!(log.contains(manifest["id"].as_str().expect("text")), "{name} is on record");
        whole += 1;
        let drill = site.operator(&[
            "backup",
            "drill",
            text(&path),
            "--recovery-key-private",
            text(&site.path("recovery.pem")),
            "--keys",
            "20",
        ]);
        assert!(drill.status.success(), "{name}: {}", said(&drill));
        if manifest["token"].is_object() {
            with_token = Some(path);
        }
    }
    assert!(whole >= 12, "{whole}");
    let by_files = site.operator(&["backup", "drill", text(&with_token.expect("some have the token"))]);
    assert!(by_files.status.success(), "{}", said(&by_files));
    assert_eq!(site.operator(&["audit", "verify"]).status.code(), Some(0));
}

#[test]
fn a_backup_goes_to_postgres_and_one_of_postgres_comes_back() {
    let Some(server) = postgres::Server::new() else { return };
    let (kept, serving) = Kept::new();
    let site = &kept.site;
    let (backup, _) = kept.create(&[]);
    serving.stop();
    kept.lose();
    let path = site.path("strongroom.toml");
    let file = fs::read_to_string(&path).expect("reads");
    let hosts = format!("[\"{}:{}\"]", server.folder().display(), server.port());
    let store = format!(
        "[store.postgres]\nhosts = {hosts}\ndatabase = \"postgres\"\nuser = \"postgres\"\n\n[replica]\nname = \"main\""
    );
    fs::write(&path, file.replace("sqlite = \"strongroom.db\"", &store)).expect("writes");
    kept.restore(&backup);
    let serving = site.serve();
    kept.works();
    let (stop, made) = (AtomicBool::new(false), AtomicU64::new(0));
    let backups = std::thread::scope(|scope| {
        scope.spawn(|| load(site, 0, &stop, &made));
        std::thread::sleep(Duration::from_millis(500));
        let backups = [kept.create(&[]).0, kept.create(&[]).0];
        stop.store(true, Ordering::Relaxed);
        backups
    });
    serving.stop();
    for backup in &backups {
        assert_eq!(wrong(backup, &["--config", text(&path)]), Vec::<String>::new());
    }
    let output = site.operator(&["backup", "restore", text(&backups[1])]);
    assert!(output.status.code() == Some(2) && said(&output).contains("is in use"), "{}", said(&output));
    fs::write(&path, file).expect("writes");
    fs::remove_dir_all(site.path("audit")).expect("removes");
    kept.restore(&backups[1]);
    let serving = site.serve();
    kept.works();
    serving.stop();
}
