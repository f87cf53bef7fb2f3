//! Files: any size, several readers, pipes; what was cut off, turned round or altered; and `age` itself, with
//! the plugin, as the second opinion.

use std::{
    fs,
    io::{Read as _, Write as _},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use crate::dev::{Dev, PROGRAM, text};

/// The plugin's program.
const PLUGIN: &str = env!("CARGO_BIN_EXE_age-plugin-strongroom");

/// A block of `age`, in plaintext and in the file.
const BLOCK: usize = 64 * 1024;
const SEALED_BLOCK: usize = BLOCK + 16;

/// A server with an AES key `files`.
fn with_key() -> Dev {
    let dev = Dev::new();
    dev.ok(&["key", "create", "files", "--type", "oct"]);
    dev
}

/// Bytes that do not repeat.
fn content(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// `age` with the plugin on its path.
fn age(dev: &Dev) -> Command {
    let folder = Path::new(PLUGIN).parent().expect("in a folder");
    let path = std::env::var("PATH").expect("a path");
    let mut command = dev.command("age");
    command.env("PATH", format!("{}:{path}", folder.display()));
    command
}

fn ran(command: &mut Command) -> Output {
    command.output().expect("age: apt-get install age")
}

fn succeeds(command: &mut Command) -> String {
    let output = ran(command);
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn fails(command: &mut Command) -> String {
    let output = ran(command);
    assert!(!output.status.success(), "{command:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn files_of_every_size_come_back() {
    let dev = with_key();
    dev.ok(&["key", "create", "rsa", "--type", "RSA"]);
    let (sealed, opened) = (dev.path("sealed"), dev.path("opened"));
    for (length, key) in [(0, "files"), (1, "rsa"), (BLOCK - 1, "files"), (BLOCK, "rsa"), (BLOCK + 1, "files")] {
        let plain = dev.file("plain", content(length));
        let said = dev.ok(&["file", "encrypt", "--key", key, text(&plain), text(&sealed), "-o", "json"]);
        let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        assert_eq!(said["plaintextBytes"], length.to_string());
        // A new version in between: the file says which one opens it.
        dev.ok(&["key", "create", key, "--type", if key == "rsa" { "RSA" } else { "oct" }]);
        let again = dev.ok(&["file", "decrypt", text(&sealed), text(&opened), "-o", "json"]);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&again).expect("JSON"), said);
        assert_eq!(fs::read(&opened).expect("reads"), content(length), "{length} bytes");
    }
    let armored = dev.path("armored");
    let plain = dev.file("plain", content(200_000));
    dev.ok(&["file", "encrypt", "--key", "files", "--armor", text(&plain), text(&armored)]);
    assert!(fs::read_to_string(&armored).expect("text").starts_with("-----BEGIN AGE ENCRYPTED FILE-----"));
    dev.ok(&["file", "decrypt", text(&armored), text(&opened)]);
    assert_eq!(fs::read(&opened).expect("reads"), content(200_000));
}

/// Changes to a file of three blocks and a bit, and what is said to each.
fn damages(sealed: &[u8]) -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let header = sealed.windows(5).position(|window| window == b"\n--- ").expect("a header") + 1;
    let payload = header + sealed[header..].iter().position(|byte| *byte == b'\n').expect("a MAC's line") + 1 + 16;
    let block = |index: usize| payload + index * SEALED_BLOCK..payload + (index + 1) * SEALED_BLOCK;
    let changed = |at: usize| {
        let mut bytes = sealed.to_vec();
        bytes[at] ^= 1;
        bytes
    };
    // To another character that may stand there: what is no version, or no base64, is another damage.
    let another = |at: usize| {
        let mut bytes = sealed.to_vec();
        bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
        bytes
    };
    let version = sealed.windows(9).position(|window| window == b"versions/").expect("a version") + 9;
    let mut swapped = sealed.to_vec();
    swapped[block(0)].copy_from_slice(&sealed[block(1)]);
    swapped[block(1)].copy_from_slice(&sealed[block(0)]);
    let without_second = [&sealed[..block(1).start], &sealed[block(1).end..]].concat();
    vec![
        ("nothing", Vec::new(), "is cut off"),
        ("not half a header", sealed[..10].to_vec(), "is cut off"),
        ("cut in the header", sealed[..header / 2].to_vec(), "is cut off"),
        ("cut before the first block", sealed[..payload].to_vec(), "is cut off"),
        ("cut between blocks", sealed[..block(1).end].to_vec(), "is cut off"),
        ("cut within a block", sealed[..block(1).end - 100].to_vec(), "does not authenticate"),
        ("cut within the last block", sealed[..sealed.len() - 1].to_vec(), "does not authenticate"),
        ("blocks swapped", swapped, "does not authenticate"),
        ("a block left out", without_second, "does not authenticate"),
        ("more at the end", [sealed, b"x"].concat(), "does not authenticate"),
        ("a changed block", changed(block(2).start + 7), "does not authenticate"),
        ("a changed last block", changed(sealed.len() - 1), "does not authenticate"),
        ("a changed MAC", another(header + 10), "header was altered"),
        ("a changed version", another(version), "does not exist"),
        ("something else", b"PK\x03\x04 and so on".to_vec(), "is no age file"),
        ("a header without end", [&b"age-encryption.org/v1\n"[..], &[b'x'; 100_000]].concat(), "cannot decrypt"),
    ]
}

#[test]
fn what_was_cut_off_turned_round_or_altered_is_refused_and_leaves_nothing() {
    let dev = with_key();
    let plain = dev.file("plain", content(3 * BLOCK + 100));
    let sealed = dev.path("sealed");
    dev.ok(&["file", "encrypt", "--key", "files", text(&plain), text(&sealed)]);
    let folder = dev.path("opened");
    fs::create_dir(&folder).expect("made");
    let opened = folder.join("file");
    for (what, bytes, expected) in damages(&fs::read(&sealed).expect("reads")) {
        let damaged = dev.file("damaged", bytes);
        let said = dev.fails(&["file", "decrypt", text(&damaged), text(&opened)]);
        assert!(said.contains(expected), "{what}: {said}");
        assert_eq!(fs::read_dir(&folder).expect("reads").count(), 0, "{what}");
        // What was there before stays.
        fs::write(&opened, "before").expect("writes");
        dev.fails(&["file", "decrypt", text(&damaged), text(&opened)]);
        assert_eq!(fs::read(&opened).expect("reads"), b"before", "{what}");
        fs::remove_file(&opened).expect("removed");
    }
}

/// Starts the program with a pipe on both sides.
fn piped(dev: &Dev, arguments: &[&str]) -> Child {
    let mut command = dev.command(PROGRAM);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("spawns")
}

/// Feeds a program; what it printed, said, and how it ended.
fn fed(mut child: Child, input: Vec<u8>) -> Output {
    let mut stdin = child.stdin.take().expect("piped");
    // It may end before it has read everything.
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("ends");
    feeder.join().expect("fed");
    output
}

#[test]
fn pipes_are_read_and_written() {
    let dev = with_key();
    let plain = content(300_000);
    let sealed = fed(piped(&dev, &["file", "encrypt", "--key", "files", "-", "-"]), plain.clone());
    assert!(sealed.status.success(), "{}", String::from_utf8_lossy(&sealed.stderr));
    assert!(String::from_utf8_lossy(&sealed.stderr).starts_with("version: vaults/dev/keys/files/versions/"));
    let opened = fed(piped(&dev, &["file", "decrypt", "-", "-"]), sealed.stdout.clone());
    assert!(opened.status.success() && opened.stdout == plain);
    let cut = sealed.stdout[..sealed.stdout.len() - 70_000].to_vec();
    let opened = fed(piped(&dev, &["file", "decrypt", "-", "-"]), cut);
    let said = String::from_utf8_lossy(&opened.stderr).into_owned();
    assert_eq!(opened.status.code(), Some(2), "{said}");
    assert!(said.contains("do not use what was written before this"), "{said}");
    assert!(opened.stdout.len() < plain.len() && plain.starts_with(&opened.stdout), "whole blocks, and no other");
}

#[test]
fn a_killed_decryption_leaves_no_plaintext() {
    let dev = with_key();
    let plain = dev.file("plain", content(20 * BLOCK));
    let sealed = dev.path("sealed");
    dev.ok(&["file", "encrypt", "--key", "files", text(&plain), text(&sealed)]);
    let sealed = fs::read(&sealed).expect("reads");
    let folder = dev.path("opened");
    fs::create_dir(&folder).expect("made");
    let mut child = piped(&dev, &["file", "decrypt", "-", text(&folder.join("file"))]);
    let mut stdin = child.stdin.take().expect("piped");
    // A pipe holds 64 KiB: when this much has gone in, most of it was decrypted.
    stdin.write_all(&sealed[..15 * SEALED_BLOCK]).expect("read by it");
    child.kill().expect("killed");
    child.wait().expect("ends");
    let left: Vec<_> = fs::read_dir(&folder).expect("reads").map(|entry| entry.expect("an entry").path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn each_recipient_opens_the_file_by_itself() {
    let dev = with_key();
    dev.ok(&["key", "create", "backup", "--type", "RSA"]);
    let identity = dev.path("identity.txt");
    succeeds(Command::new("age-keygen").args(["-o", text(&identity)]));
    let recipient = succeeds(Command::new("age-keygen").args(["-y", text(&identity)]));
    let plain = dev.file("plain", content(100_000));
    let (sealed, opened) = (dev.path("sealed"), dev.path("opened"));
    let keys = ["--key", "files", "--key", "backup", "--recipient", recipient.trim()];
    dev.ok(&[&["file", "encrypt"][..], &keys, &[text(&plain), text(&sealed)]].concat());
    let opens = |with: &str| {
        let said = dev.ok(&["file", "decrypt", text(&sealed), text(&opened)]);
        assert!(said.contains(with), "{said}");
        assert_eq!(fs::read(&opened).expect("reads"), content(100_000));
    };
    opens("keys/files/versions/");
    dev.ok(&["key", "update", "files", "--disable"]);
    opens("keys/backup/versions/");
    dev.ok(&["key", "delete", "backup"]);
    let said = dev.fails(&["file", "decrypt", text(&sealed), text(&opened)]);
    assert!(said.contains("keys/files/versions/") && said.contains("KEY_DISABLED"), "{said}");
    dev.ok(&["key", "delete", "files"]);
    let said = dev.fails(&["file", "decrypt", text(&sealed), text(&opened)]);
    assert!(said.contains("strongroom key recover NAME"), "{said}");
    succeeds(Command::new("age").args(["-d", "-i", text(&identity), "-o", text(&opened), text(&sealed)]));
    assert_eq!(fs::read(&opened).expect("reads"), content(100_000));
}

#[test]
fn what_cannot_be_is_told_what_to_do() {
    let dev = with_key();
    dev.ok(&["key", "create", "ec", "--type", "EC"]);
    let (plain, out) = (dev.file("plain", "text"), dev.path("out"));
    let (sealed, plain_age) = (dev.path("sealed"), dev.path("plain.age"));
    dev.ok(&["file", "encrypt", "--key", "files", text(&plain), text(&sealed)]);
    let identity = dev.path("identity.txt");
    succeeds(Command::new("age-keygen").args(["-o", text(&identity)]));
    let recipient = succeeds(Command::new("age-keygen").args(["-y", text(&identity)]));
    succeeds(Command::new("age").args(["-r", recipient.trim(), "-o", text(&plain_age), text(&plain)]));
    let cases: [(&[&str], &str); 4] = [
        (&["file", "encrypt", "--key", "ec", text(&plain), text(&out)], "--type oct, or --type RSA"),
        (&["file", "encrypt", "--key", "nobody", text(&plain), text(&out)], "does not exist"),
        (&["file", "decrypt", text(&plain_age), text(&out)], "age -d -i IDENTITY"),
        (&["file", "decrypt", "/no/such/file", text(&out)], "cannot open /no/such/file"),
    ];
    for (arguments, expected) in cases {
        let said = dev.fails(arguments);
        assert!(said.contains(expected), "{arguments:?}: {said}");
        assert!(!out.exists());
    }
    let (certificate, key) = crate::rpc::identity(&dev, "spiffe://dev.strongroom.invalid/stranger");
    let (certificate, key) = (dev.file("stranger.pem", certificate), dev.file("stranger.key", key));
    let stranger = ["--cert", text(&certificate), "--key-file", text(&key)];
    let said = dev.fails(&[&["file", "decrypt", text(&sealed), text(&out)][..], &stranger].concat());
    assert!(
        said.contains("PERMISSION_DENIED") && said.contains("--role 'Key Vault Crypto User' --scope vaults/dev"),
        "{said}"
    );
    // Without a role there is a role to ask for, and for a file of others alone there is no server to ask.
    let offline = ["--endpoint", "https://127.0.0.1:1", "--recipient", recipient.trim()];
    dev.ok(&[&["file", "encrypt"][..], &offline, &[text(&plain), text(&out)]].concat());
}

#[test]
fn age_opens_what_we_made_and_we_what_age_made() {
    let dev = with_key();
    let plain = dev.file("plain", content(200_000));
    let (ours, theirs, opened) = (dev.path("ours.age"), dev.path("theirs.age"), dev.path("opened"));
    let recipient = dev.ok(&["file", "recipient", "--key", "files"]);
    let any = dev.file("any.txt", dev.ok(&["file", "identity"]));
    let one = dev.file("one.txt", dev.ok(&["file", "identity", "--key", "files"]));
    dev.ok(&["file", "encrypt", "--key", "files", text(&plain), text(&ours)]);
    for identity in [&any, &one] {
        succeeds(age(&dev).args(["-d", "-i", text(identity), "-o", text(&opened), text(&ours)]));
        assert_eq!(fs::read(&opened).expect("reads"), content(200_000));
    }
    succeeds(age(&dev).args(["-r", recipient.trim(), "-o", text(&theirs), text(&plain)]));
    dev.ok(&["file", "decrypt", text(&theirs), text(&opened)]);
    assert_eq!(fs::read(&opened).expect("reads"), content(200_000));
    // An identity that names a key is a recipient as well; so is our own text to our own command.
    succeeds(age(&dev).args(["-e", "-i", text(&one), "-o", text(&theirs), text(&plain)]));
    succeeds(age(&dev).args(["-d", "-i", text(&any), "-o", text(&opened), text(&theirs)]));
    dev.ok(&["file", "encrypt", "--recipient", recipient.trim(), text(&plain), text(&ours)]);
    dev.ok(&["file", "decrypt", text(&ours), text(&opened)]);
    assert_eq!(fs::read(&opened).expect("reads"), content(200_000));
}

#[test]
fn age_says_what_the_plugin_says() {
    let dev = with_key();
    dev.ok(&["key", "create", "ec", "--type", "EC"]);
    dev.ok(&["key", "create", "other", "--type", "oct"]);
    let plain = dev.file("plain", "text");
    let (sealed, opened) = (dev.path("sealed.age"), dev.path("opened"));
    let any = dev.file("any.txt", dev.ok(&["file", "identity"]));
    let other = dev.file("other.txt", dev.ok(&["file", "identity", "--key", "other"]));
    dev.ok(&["file", "encrypt", "--key", "files", text(&plain), text(&sealed)]);
    let opening = ["-d", "-o", text(&opened), "-i"];
    let said = fails(age(&dev).args(opening).args([text(&other), text(&sealed)]));
    assert!(said.contains("no identity matched"), "{said}");
    let recipient = dev.ok(&["file", "recipient", "--key", "ec"]);
    let said = fails(age(&dev).args(["-r", recipient.trim(), "-o", text(&opened), text(&plain)]));
    assert!(said.contains("takes no algorithm that wraps"), "{said}");
    let said = fails(age(&dev).env_remove("STRONGROOM_CA").args(opening).args([text(&any), text(&sealed)]));
    assert!(said.contains("STRONGROOM_CA (--ca) not set"), "{said}");
    dev.ok(&["key", "update", "files", "--disable"]);
    let said = fails(age(&dev).args(opening).args([text(&any), text(&sealed)]));
    assert!(said.contains("keys/files/versions/") && said.contains("disabled"), "{said}");
    assert!(!opened.exists());
    let alone = ran(&mut Command::new(PLUGIN));
    assert_eq!(alone.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&alone.stderr).contains("--age-plugin"));
}

/// The most memory that a process has had, in bytes.
fn peak(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("running");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim_end_matches("kB").trim().parse::<u64>().expect("a number") * 1024
}

/// Feeds a program so many bytes of a pattern; its peak before it sees their end, and what it wrote.
fn peak_of(dev: &Dev, arguments: &[&str], parts: &[&[u8]]) -> u64 {
    let mut child = piped(dev, arguments);
    let mut stdin = child.stdin.take().expect("piped");
    parts.iter().for_each(|part| stdin.write_all(part).expect("read by it"));
    let peak = peak(child.id());
    drop(stdin);
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    peak
}

/// 64 MiB take no more memory than 1 MiB. For 5 GiB see docs/files.md.
#[test]
fn memory_does_not_grow_with_the_file() {
    const MIB: usize = 1 << 20;
    let dev = with_key();
    let block = content(MIB);
    let (sealed, opened) = (dev.path("sealed"), dev.path("opened"));
    let encrypt = ["file", "encrypt", "--key", "files", "-", text(&sealed)];
    let decrypt = ["file", "decrypt", "-", text(&opened)];
    let little = peak_of(&dev, &encrypt, &[&block]);
    let little_opened = peak_of(&dev, &decrypt, &[&fs::read(&sealed).expect("reads")]);
    let much = peak_of(&dev, &encrypt, &[&block[..]; 64]);
    let much_opened = peak_of(&dev, &decrypt, &[&fs::read(&sealed).expect("reads")]);
    assert_eq!(fs::metadata(&opened).expect("there").len(), 64 * MIB as u64);
    let mut whole = fs::File::open(&opened).expect("opens");
    let mut read = vec![0; MIB];
    (0..64).for_each(|_| {
        whole.read_exact(&mut read).expect("reads");
        assert!(read == block);
    });
    for (little, much) in [(little, much), (little_opened, much_opened)] {
        assert!(much < little + 4 * MIB as u64, "{much} bytes for 64 MiB, {little} for 1 MiB");
    }
}

#[test]
fn a_terminal_gets_a_progress_bar_and_a_pipe_does_not() {
    let dev = with_key();
    let plain = dev.file("plain", vec![7; 16 << 20]);
    let sealed = dev.path("sealed");
    let line = format!("stty cols 120; {PROGRAM} file encrypt --key files {} {}", text(&plain), text(&sealed));
    // `script` gives it a terminal, of a kind that can show it: where the tests run there may be none.
    let seen = ran(dev.command("script").env("TERM", "xterm").args(["-qec", &line, "/dev/null"]));
    let seen = String::from_utf8_lossy(&seen.stdout).into_owned();
    assert!(seen.contains("of 16.00 MiB") && seen.contains("keys/files/versions/"), "{seen}");
    let output = dev.run(&["file", "encrypt", "--key", "files", text(&plain), text(&sealed)]);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let line = format!("{PROGRAM} file encrypt --key files {} -", text(&plain));
    let refused = ran(dev.command("script").env("TERM", "xterm").args(["-qec", &line, "/dev/null"]));
    assert!(String::from_utf8_lossy(&refused.stdout).contains("not for a terminal"));
}
