//! The command line, typed rightly and wrongly.

use std::{fs, os::unix::fs::PermissionsExt as _};

use crate::dev::{Dev, Start, openssl, text};

/// The README's way from a running server to the first signature.
#[test]
fn the_readme_works_as_printed() {
    let mut dev = Dev::new();
    let signed = "/bin/ls";
    let (sig, pem) = (dev.path("ls.sig"), dev.path("release.pem"));
    dev.ok(&["key", "create", "release", "--type", "EC", "--curve", "P-256"]);
    let said =
        dev.ok(&["key", "sign", "release", "--algorithm", "ES256", "--in", signed, "--out", text(&sig), "--der"]);
    assert!(said.contains("vaults/dev/keys/release/versions/"), "{said}");
    fs::write(&pem, dev.ok(&["key", "show", "release", "-o", "pem"])).expect("writes");
    openssl(&["dgst", "-sha256", "-verify", text(&pem), "-signature", text(&sig), signed]);

    dev.ok(&["key", "create", "files", "--type", "oct", "--size", "256"]);
    let (note, enc, dec) = (dev.file("note", "meet at noon\n"), dev.path("note.enc"), dev.path("note.dec"));
    dev.ok(&["key", "encrypt", "files", "--algorithm", "A256GCM", "--in", text(&note), "--out", text(&enc)]);
    // A second version: the file still says which one it needs.
    dev.ok(&["key", "create", "files", "--type", "oct", "--size", "256"]);
    dev.ok(&["key", "decrypt", "files", "--algorithm", "A256GCM", "--in", text(&enc), "--out", text(&dec)]);
    assert_eq!(fs::read(&dec).expect("reads"), b"meet at noon\n");
    assert_eq!(fs::metadata(&dec).expect("is there").permissions().mode() & 0o777, 0o600);

    let (key, wrapped, again) = (dev.file("data.key", [9; 32]), dev.path("wrapped"), dev.path("again"));
    dev.ok(&["key", "wrap", "files", "--algorithm", "A256KW", "--in", text(&key), "--out", text(&wrapped)]);
    dev.ok(&["key", "unwrap", "files", "--algorithm", "A256KW", "--in", text(&wrapped), "--out", text(&again)]);
    assert_eq!(fs::read(&again).expect("reads"), [9; 32]);

    let (sealed, opened) = (dev.path("ls.age"), dev.path("ls.again"));
    dev.ok(&["file", "encrypt", "--key", "files", signed, text(&sealed)]);
    dev.ok(&["file", "decrypt", text(&sealed), text(&opened)]);
    assert!(fs::read(&opened).expect("reads") == fs::read(signed).expect("reads"));

    let script = format!(
        "printf %s 'correct horse' | {0} secret set db-password &&
         {0} exec --secret db-password -- sh -c 'test \"$DB_PASSWORD\" = \"correct horse\"'",
        crate::dev::PROGRAM
    );
    assert!(dev.command("sh").args(["-c", &script]).status().expect("runs").success());
    assert_eq!(dev.stop().code(), Some(0), "SIGTERM drains and exits 0");
}

#[test]
fn a_restart_keeps_everything() {
    let mut dev = Dev::new();
    dev.ok(&["key", "create", "kept", "--type", "RSA"]);
    let (file, sig) = (dev.file("file", "text"), dev.path("sig"));
    dev.ok(&["key", "sign", "kept", "--algorithm", "PS256", "--in", text(&file), "--out", text(&sig)]);
    let before = dev.ok(&["key", "show", "kept", "-o", "json"]);
    dev.stop();
    dev.start(Start::default());
    assert_eq!(dev.ok(&["key", "show", "kept", "-o", "json"]), before);
    dev.ok(&["key", "verify", "kept", "--algorithm", "PS256", "--in", text(&file), "--signature", text(&sig)]);
    dev.kill();
    dev.start(Start::default());
    dev.ok(&["key", "verify", "kept", "--algorithm", "PS256", "--in", text(&file), "--signature", text(&sig)]);
}

#[test]
fn a_wrong_signature_is_exit_code_1_and_an_error_is_2() {
    let dev = Dev::new();
    dev.ok(&["key", "create", "k", "--type", "EC"]);
    let (file, other, sig) = (dev.file("file", "text"), dev.file("other", "texd"), dev.path("sig"));
    dev.ok(&["key", "sign", "k", "--algorithm", "ES256", "--in", text(&file), "--out", text(&sig)]);
    let verify =
        |file| dev.run(&["key", "verify", "k", "--algorithm", "ES256", "--in", file, "--signature", text(&sig)]);
    assert_eq!(verify(text(&file)).status.code(), Some(0));
    assert_eq!(verify(text(&other)).status.code(), Some(1));
    assert_eq!(verify("/no/such/file").status.code(), Some(2));
}

#[test]
fn wrong_input_is_told_what_to_do() {
    let dev = Dev::new();
    dev.ok(&["key", "create", "ec", "--type", "EC"]);
    dev.ok(&["key", "create", "aes", "--type", "oct"]);
    let (file, out) = (dev.file("file", "text"), dev.path("out"));
    let huge = dev.file("huge", vec![0; 70_000]);
    let sign =
        |key, algorithm| ["key", "sign", key, "--algorithm", algorithm, "--in", text(&file), "--out", text(&out)];
    let cases: [(&[&str], &[&str]); 12] = [
        (&sign("nobody", "ES256"), &["vaults/dev/keys/nobody", "does not exist"]),
        (&sign("ec", "RS256"), &["RS256", "ES256"]),
        (&sign("ec", "ES999"), &["ES999"]),
        (&["key", "create", "x", "--type", "RSA", "--size", "1024"], &["1024", "2048"]),
        (&["key", "create", "ec", "--type", "EC", "--must-not-exist"], &["exists"]),
        (&["key", "create", "bad name", "--type", "EC"], &["bad name"]),
        (&["key", "create", "x", "--type", "OKP"], &["Ed25519", "--residency token"]),
        (&["key", "create", "x", "--type", "OKP", "--curve", "P-256"], &["Ed25519", "--type EC"]),
        (&["key", "create", "x", "--type", "EC", "--ops", "deriveKey"], &["ECDH", "not offered"]),
        (&["key", "create", "x", "--type", "oct", "--ops", "sign,encrypt"], &["HMAC", "AES"]),
        (&["key", "create", "x", "--type", "oct", "--ops", "sign", "--size", "128"], &["HMAC", "256, 384 or 512"]),
        (&["key", "encrypt", "aes", "--algorithm", "A256GCM", "--in", text(&huge), "--out", text(&out)], &["65536"]),
    ];
    for (arguments, wanted) in cases {
        let said = dev.fails(arguments);
        for word in wanted {
            assert!(said.contains(word), "{arguments:?} said: {said}");
        }
        assert!(!out.exists(), "{arguments:?} left a file behind");
    }
}

#[test]
fn tampered_ciphertext_is_refused_and_leaves_no_plaintext() {
    let dev = Dev::new();
    dev.ok(&["key", "create", "aes", "--type", "oct"]);
    let (file, enc, dec, aad) = (dev.file("file", "text"), dev.path("enc"), dev.path("dec"), dev.file("aad", "bound"));
    let encrypt = [
        "key",
        "encrypt",
        "aes",
        "--algorithm",
        "A256GCM",
        "--in",
        text(&file),
        "--out",
        text(&enc),
        "--aad",
        text(&aad),
    ];
    dev.ok(&encrypt);
    let decrypt = ["key", "decrypt", "aes", "--algorithm", "A256GCM", "--in", text(&enc), "--out", text(&dec)];
    assert!(dev.fails(&decrypt).contains("--aad"), "the file says that there is additional data");
    let other = dev.file("other", "unbound");
    let said = dev.fails(&[&decrypt[..], &["--aad", text(&other)]].concat());
    assert!(said.contains("does not decrypt"), "{said}");
    assert!(!dec.exists());
    let envelope = fs::read_to_string(&enc).expect("reads");
    let mut value: serde_json::Value = serde_json::from_str(&envelope).expect("JSON");
    let tag = value["tag"].as_str().expect("a tag").to_owned();
    let first = if tag.starts_with('A') { "B" } else { "A" };
    value["tag"] = format!("{first}{}", &tag[1..]).into();
    fs::write(&enc, value.to_string()).expect("writes");
    let said = dev.fails(&[&decrypt[..], &["--aad", text(&aad)]].concat());
    assert!(said.contains("does not decrypt"), "{said}");
    assert!(!dec.exists());
}

#[test]
fn deleted_keys_do_nothing_until_they_are_brought_back() {
    let dev = Dev::new();
    dev.ok(&["key", "create", "k", "--type", "EC"]);
    let (file, sig) = (dev.file("file", "text"), dev.path("sig"));
    let sign = ["key", "sign", "k", "--algorithm", "ES256", "--in", text(&file), "--out", text(&sig)];
    dev.ok(&sign);
    dev.ok(&["key", "delete", "k"]);
    assert!(dev.fails(&sign).contains("is deleted and does nothing"));
    assert!(
        dev.fails(&["key", "create", "K", "--type", "EC"]).contains("reserved"),
        "the name is reserved, in any case"
    );
    assert!(!dev.ok(&["key", "list"]).contains("keys/k"));
    dev.ok(&["key", "recover", "k"]);
    dev.ok(&sign);
    dev.ok(&["key", "update", "k", "--disable"]);
    assert!(dev.fails(&sign).contains("disabled"));
    dev.ok(&["key", "update", "k", "--enable"]);
    dev.ok(&sign);
}

#[test]
fn a_rotated_key_signs_with_its_new_version_and_verifies_with_the_old_one() {
    let dev = Dev::new();
    dev.ok(&["key", "create", "k", "--type", "EC", "--tag", "team=red"]);
    let (file, old, new) = (dev.file("file", "text"), dev.path("old"), dev.path("new"));
    let signed = |signature: &std::path::PathBuf| {
        let sign = ["key", "sign", "k", "--algorithm", "ES256", "-o", "json", "--in", text(&file), "--out"];
        let said = dev.ok(&[&sign[..], &[text(signature)]].concat());
        let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        said["name"].as_str().expect("a name").to_owned()
    };
    let first = signed(&old);
    let shown: serde_json::Value = serde_json::from_str(&dev.ok(&["key", "rotate", "k", "-o", "json"])).expect("JSON");
    assert_eq!(shown["version"]["tags"]["team"], "red");
    let second = signed(&new);
    assert_ne!(first, second);
    let verify = |name: &str, signature| {
        let arguments =
            ["key", "verify", name, "--algorithm", "ES256", "--in", text(&file), "--signature", text(signature)];
        dev.run(&arguments).status.code()
    };
    assert_eq!((verify(&first, &old), verify("k", &new), verify("k", &old)), (Some(0), Some(0), Some(1)));
    assert!(dev.fails(&["key", "rotate", "nothing"]).contains("does not exist"));
}

#[test]
fn files_of_a_development_folder_are_private() {
    let dev = Dev::new();
    fn walk(folder: &std::path::Path, seen: &mut usize) {
        for entry in fs::read_dir(folder).expect("reads") {
            let entry = entry.expect("an entry");
            let metadata = entry.metadata().expect("metadata");
            assert_eq!(metadata.permissions().mode() & 0o077, 0, "{} is open to others", entry.path().display());
            *seen += 1;
            if metadata.is_dir() {
                walk(&entry.path(), seen);
            }
        }
    }
    let mut seen = 0;
    walk(&dev.data(), &mut seen);
    assert!(seen > 10);
}

#[test]
fn off_loopback_only_when_it_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = std::process::Command::new(crate::dev::PROGRAM)
        .args(["dev", "--listen", "0.0.0.0:0", "--data-dir"])
        .arg(folder.path().join("data"))
        .output()
        .expect("runs");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("--allow-non-loopback"), "{said}");
}
