//! The log as somebody else reads it: `tests/c2sp_reader.py`, written from the specifications, with OpenSSL for the
//! signature. It shares no code with ours.

use std::{
    io::Write as _,
    process::{Command, Output},
};

use super::{
    tree::{files, key, signed},
    *,
};

const READER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/c2sp_reader.py");

fn reader(dir: &Path) -> std::io::Result<Output> {
    Command::new("python3").args(["-B", READER]).arg(dir).arg(key().1.to_string()).output()
}

/// Whether there is Python to read with; it must be there when tools are required.
fn has_python() -> bool {
    if Command::new("python3").arg("-V").output().is_ok() {
        return true;
    }
    assert!(std::env::var_os("STRONGROOM_REQUIRE_TOOLS").is_none(), "python3 is missing");
    writeln!(std::io::stderr().lock(), "skipped: python3 is missing").unwrap();
    false
}

#[tokio::test]
async fn a_program_that_is_not_ours_verifies_our_log() {
    if !has_python() {
        return;
    }
    for records in [0, 255, 256, 700] {
        let (_dir, path) = temporary();
        signed(&path, 1 << 20, records).await;
        let output = reader(&path).unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{records}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(said.trim(), format!("{} records of {}", records + 1, key().1.name()));
    }
}

#[tokio::test]
async fn and_finds_a_flipped_byte_in_every_file() {
    if !has_python() {
        return;
    }
    let (_dir, path) = temporary();
    signed(&path, 1 << 20, 700).await;
    let mut flipped = 0;
    for file in files(&path.join("tile")).into_iter().chain([path.join("checkpoint")]) {
        let whole = std::fs::read(&file).unwrap();
        let mut bytes = whole.clone();
        bytes[whole.len() / 2] ^= 1;
        std::fs::write(&file, &bytes).unwrap();
        let output = reader(&path).unwrap();
        assert_eq!(output.status.code(), Some(1), "{}: {output:?}", file.display());
        std::fs::write(&file, &whole).unwrap();
        flipped += 1;
    }
    assert!(flipped > 6, "{flipped}");
    assert!(reader(&path).unwrap().status.success());
}
