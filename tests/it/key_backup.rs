//! Keys that go out in a backup, come back, and move to other vaults: by the command line, through kills at every step.

use std::{fs, os::unix::process::ExitStatusExt as _, path::Path};

use serde_json::Value;
use strongroom::{
    audit::{self, Against},
    failpoint,
};
use strongroom_proto::v1;

use crate::{
    dev::{Dev, Start, text},
    rpc::{connect, reason},
};

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

fn gone(dev: &Dev, name: &str) {
    dev.ok(&["key", "delete", name]);
    dev.ok(&["key", "purge", name]);
}

/// A key and what it has made of a file, by which it is known again.
struct Made {
    name: &'static str,
    algorithm: &'static str,
    out: std::path::PathBuf,
}

const IV: &str = "00112233445566778899aabbccddeeff";

fn make(dev: &Dev, name: &'static str, algorithm: &'static str, create: &[&str]) -> Made {
    dev.ok(create);
    let (file, out) = (dev.file("block", [9; 32]), dev.path(&format!("{name}-{algorithm}.out").replace('/', "-")));
    let verb = if algorithm.starts_with('A') { "encrypt" } else { "sign" };
    let iv: &[&str] = if algorithm.ends_with("CBC") { &["--iv", IV] } else { &[] };
    let run = ["key", verb, name, "--algorithm", algorithm, "--in", text(&file), "--out", text(&out)];
    dev.ok(&[&run[..], iv].concat());
    Made { name, algorithm, out }
}

/// That a key verifies, or decrypts, what the same one made before.
fn is_the_same(dev: &Dev, Made { name, algorithm, out }: &Made) {
    let file = dev.file("block", [9; 32]);
    if algorithm.starts_with('A') {
        let plain = dev.path("plain");
        dev.ok(&["key", "decrypt", name, "--in", text(out), "--out", text(&plain)]);
        assert_eq!(fs::read(plain).expect("reads"), [9; 32], "{name}");
    } else {
        dev.ok(&["key", "verify", name, "--algorithm", algorithm, "--in", text(&file), "--signature", text(out)]);
    }
}

/// All records of the audit log that are not in bundles yet.
fn journal(dev: &Dev) -> String {
    let files = fs::read_dir(dev.data().join("audit/journal")).expect("a folder").map(|file| file.expect("one").path());
    files.filter_map(|path| fs::read_to_string(path).ok()).collect()
}

fn of_every_kind(dev: &Dev) -> Vec<Made> {
    dev.ok(&["vault", "create", "own", "--own-kek"]);
    let secret = dev.file("secret", [0x77; 32]);
    let oct = ["key", "import", "imported", "--oct", text(&secret)];
    vec![
        make(dev, "ec", "ES256", &["key", "create", "ec", "--type", "EC"]),
        make(dev, "rsa", "PS256", &["key", "create", "rsa", "--type", "RSA"]),
        make(dev, "aes", "A256GCM", &["key", "create", "aes", "--type", "oct"]),
        make(dev, "mac", "HS256", &["key", "create", "mac", "--type", "oct", "--ops", "sign,verify"]),
        make(dev, "imported", "A256CBC", &oct),
        make(dev, "vaults/own/keys/own", "ES256", &["--vault", "own", "key", "create", "own", "--type", "EC"]),
    ]
}

#[test]
fn what_keys_of_every_kind_made_they_verify_and_decrypt_when_they_are_back() {
    let dev = Dev::new();
    for key in of_every_kind(&dev) {
        let out = dev.path("backup");
        let made = json(&dev.ok(&["key", "backup", key.name, "--out", text(&out), "-o", "json"]));
        let bytes = fs::read(&out).expect("reads");
        assert_eq!(made["bytes"], bytes.len().to_string());
        assert!(dev.fails(&["key", "restore", text(&out)]).contains("exists"), "{}", key.name);
        gone(&dev, key.name);
        let could = json(&dev.ok(&["key", "restore", text(&out), "--check", "-o", "json"]));
        assert!(dev.fails(&["key", "show", key.name]).contains("does not exist"), "a check restores nothing");
        let back = json(&dev.ok(&["key", "restore", text(&out), "-o", "json"]));
        assert_eq!((&back["version"]["name"], &back["state"]), (&could["version"]["name"], &could["state"]));
        is_the_same(&dev, &key);
        let said = journal(&dev);
        let digest = made["sha256"].as_str().expect("text");
        assert!(said.contains(&format!("\"detail\":\"1 versions, sha256:{digest}\"")), "{}", key.name);
        assert!(said.contains(&format!("\"detail\":\"widens: 1 versions, sha256:{digest}\"")), "{}", key.name);
    }
}

#[test]
fn a_backup_of_another_instance_or_a_damaged_one_is_refused_with_a_clear_word() {
    let (dev, other) = (Dev::new(), Dev::new());
    other.ok(&["key", "create", "k", "--type", "EC"]);
    let foreign = other.path("backup");
    other.ok(&["key", "backup", "k", "--out", text(&foreign)]);
    let said = dev.fails(&["key", "restore", text(&foreign)]);
    assert!(said.contains("it is a backup of instance") && said.contains("this is instance"), "{said}");
    dev.ok(&["key", "create", "k", "--type", "EC"]);
    let own = dev.path("backup");
    dev.ok(&["key", "backup", "k", "--out", text(&own)]);
    gone(&dev, "k");
    let bytes = fs::read(&own).expect("reads");
    for (at, cut) in [(bytes.len() - 1, 0), (bytes.len() / 2, 0), (30, 0), (0, 1), (0, 40), (0, bytes.len() - 10)] {
        let mut damaged = bytes[..bytes.len() - cut].to_vec();
        if cut == 0 {
            damaged[at] ^= 4;
        }
        let file = dev.file("damaged", damaged);
        let said = dev.fails(&["key", "restore", text(&file)]);
        let words = ["damaged", "seal is wrong", "no backup of a key", "backup of instance"];
        assert!(words.iter().any(|word| said.contains(word)), "{at} {cut}: {said}");
    }
    let nonsense = dev.file("nonsense", "-----BEGIN CERTIFICATE-----");
    assert!(dev.fails(&["key", "restore", text(&nonsense)]).contains("no backup of a key"));
    assert!(dev.fails(&["key", "show", "k"]).contains("does not exist"));
    dev.ok(&["key", "restore", text(&own)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_of_one_request_id_is_made_once_and_a_damaged_message_is_found() {
    let dev = Dev::new();
    dev.ok(&["key", "create", "k", "--type", "EC"]);
    let mut keys = v1::keys_client::KeysClient::new(connect(&dev).await);
    let name = "vaults/dev/keys/k".to_owned();
    let made = keys.backup_key(v1::BackupKeyRequest { name: name.clone() }).await.expect("made").into_inner();
    assert_eq!((made.versions, made.backup_crc32c), (1, crc32c::crc32c(&made.backup)));
    gone(&dev, "k");
    let request = v1::RestoreKeyRequest {
        backup: made.backup,
        backup_crc32c: Some(made.backup_crc32c),
        request_id: "7d4f3e52-3b3f-4f3a-9f0e-000000000031".to_owned(),
        ..Default::default()
    };
    let wrong = v1::RestoreKeyRequest { backup_crc32c: Some(7), ..request.clone() };
    assert_eq!(reason(&keys.restore_key(wrong).await.expect_err("damaged")), "INVALID_FIELD");
    let first = keys.restore_key(request.clone()).await.expect("back").into_inner();
    let again = keys.restore_key(request.clone()).await.expect("the same").into_inner();
    assert_eq!((&first.name, &first.etag), (&again.name, &again.etag));
    let other = v1::RestoreKeyRequest { allow_older: true, ..request };
    assert_eq!(reason(&keys.restore_key(other).await.expect_err("another")), "REQUEST_ID_REUSED");
}

fn exists(dev: &Dev, name: &str) -> bool {
    dev.run(&["key", "show", name]).status.success()
}

fn whole(dev: &Dev, point: &str) {
    let verified = audit::verify(&dev.data().join("audit"), &Against::default());
    let open = verified.unwrap_or_else(|error| panic!("{point}: {error}")).open;
    assert!(open.is_empty(), "after {point}: every intent has its outcome");
}

fn killed(dev: &mut Dev, point: &str, command: &[&str]) {
    dev.start(Start { failpoints: &format!("{point}=kill@1"), ..Start::default() });
    assert!(!dev.run(&[&["--timeout", "20"][..], command].concat()).status.success());
    assert_eq!(dev.wait_dead().signal(), Some(9), "{point} kills");
    dev.start(Start::default());
}

fn signs(dev: &Dev, name: &str, file: &Path) {
    let out = dev.path("sig");
    dev.ok(&["key", "sign", name, "--algorithm", "ES256", "--in", text(file), "--out", text(&out)]);
}

#[test]
fn a_backup_a_restore_and_a_move_are_whole_or_not_at_all_through_a_kill_at_every_step() {
    let mut dev = Dev::new();
    let file = dev.file("file", "text");
    dev.ok(&["vault", "create", "other"]);
    let points = [
        failpoint::SERVICE_AFTER_INTENT,
        failpoint::STORE_BEFORE_COMMIT,
        failpoint::STORE_AFTER_COMMIT,
        failpoint::SERVICE_BEFORE_OUTCOME,
    ];
    for (n, point) in points.into_iter().enumerate() {
        let (key, out) = (format!("k{n}"), dev.path(&format!("backup{n}")));
        let there = format!("vaults/other/keys/{key}");
        dev.ok(&["key", "create", &key, "--type", "EC"]);
        dev.ok(&["key", "rotate", &key]);
        dev.stop();
        killed(&mut dev, point, &["key", "backup", &key, "--out", text(&out)]);
        assert!(!out.exists(), "nobody was handed one");
        dev.ok(&["key", "backup", &key, "--out", text(&out)]);
        gone(&dev, &key);
        dev.stop();
        killed(&mut dev, point, &["key", "restore", text(&out)]);
        if !exists(&dev, &key) {
            dev.ok(&["key", "restore", text(&out)]);
        }
        signs(&dev, &key, &file);
        dev.stop();
        whole(&dev, point);
        dev.start(Start::default());
        dev.stop();
        killed(&mut dev, point, &["key", "move", &key, "--to-vault", "other"]);
        assert_ne!(exists(&dev, &key), exists(&dev, &there), "after {point} it is in one of them");
        if exists(&dev, &key) {
            signs(&dev, &key, &file);
            dev.ok(&["key", "move", &key, "--to-vault", "other"]);
        }
        signs(&dev, &there, &file);
        assert!(dev.fails(&["key", "restore", text(&out), "--older"]).contains("moved"));
        dev.stop();
        whole(&dev, point);
        dev.start(Start::default());
    }
}

#[test]
fn a_move_says_what_stays_behind() {
    let dev = Dev::new();
    dev.ok(&["vault", "create", "other"]);
    dev.ok(&["key", "create", "k", "--type", "EC"]);
    let grant =
        ["access", "grant", "--principal", "spiffe://test.invalid/x", "--role", "Key Vault Crypto User", "--scope"];
    dev.ok(&[&grant[..], &["vaults/dev/keys/k"]].concat());
    let moved = json(&dev.ok(&["key", "move", "k", "--to-vault", "other", "-o", "json"]));
    assert_eq!(moved["name"], "vaults/other/keys/k");
    assert_eq!((&moved["from"], &moved["roleAssignmentsLeft"]), (&"vaults/dev/keys/k".into(), &"1".into()));
    assert!(dev.fails(&["key", "show", "k"]).contains("does not exist"));
    let rotated = json(&dev.ok(&["key", "rotate", "vaults/other/keys/k", "--residency", "token", "-o", "json"]));
    assert_eq!(rotated["version"]["residency"], "RESIDENCY_TOKEN");
    let said = dev.fails(&["key", "backup", "vaults/other/keys/k", "--out", text(&dev.path("never"))]);
    assert!(said.contains("never leaves it"), "{said}");
}
