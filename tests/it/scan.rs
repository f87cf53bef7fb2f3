//! Nothing of a key that comes in wrapped is ever in the process that faces the network, nor in what it writes: its whole
//! memory is searched for the key's numbers, as they are written and as limbs lie in memory, and its store, its log and its
//! backups too. What went the same way and may be there is found, so the search finds what there is.

use std::{
    fs,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
};

use pkcs8::der::Decode as _;

use crate::{
    byok::{ec, kek, rsa, wrapped_by_openssl},
    dev::{Dev, text},
};

/// So much of a number is looked for at once: less could be there by chance.
const WINDOW: usize = 16;

/// Pieces of secrets, each as it is written and reversed, as limbs of little-endian machines lie in memory.
fn needles(secrets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let pieces = secrets.iter().flat_map(|secret| secret.chunks_exact(WINDOW));
    pieces.flat_map(|piece| [piece.to_vec(), piece.iter().rev().copied().collect()]).collect()
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    let first = needle[0];
    let mut rest = haystack;
    while let Some(at) = rest.iter().position(|byte| *byte == first) {
        if rest[at..].starts_with(needle) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

/// All that a process can write to, region by region. None where this machine lets nobody look: the server forbids it, and it
/// takes CAP_SYS_PTRACE to do so all the same.
fn memory(process: u32) -> Option<Vec<Vec<u8>>> {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).ok()?;
    let mut file = fs::File::open(format!("/proc/{process}/mem")).ok()?;
    let mut regions = Vec::new();
    for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|flags| flags.starts_with("rw"))) {
        let (from, to) = line.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
        let (from, to) = (u64::from_str_radix(from, 16).expect("hex"), u64::from_str_radix(to, 16).expect("hex"));
        let mut region = vec![0; usize::try_from(to - from).expect("small")];
        if file.seek(SeekFrom::Start(from)).is_ok() && file.read_exact(&mut region).is_ok() {
            regions.push(region);
        }
    }
    Some(regions).filter(|regions| !regions.is_empty())
}

/// Every file below a folder but the token's, which holds keys under its own PIN.
fn files(folder: &Path, found: &mut Vec<Vec<u8>>) {
    for entry in fs::read_dir(folder).expect("reads") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true if path.ends_with("token") => {}
            true => files(&path, found),
            false => found.extend(fs::read(&path)),
        }
    }
}

fn numbers(der: &[u8]) -> Vec<Vec<u8>> {
    let info = pkcs8::PrivateKeyInfoRef::from_der(der).expect("PKCS#8");
    let inner = info.private_key.as_bytes();
    if let Ok(key) = pkcs1::RsaPrivateKeyRef::from_der(inner) {
        let numbers = [key.private_exponent, key.prime1, key.prime2, key.exponent1, key.exponent2, key.coefficient];
        return numbers.iter().map(|number| number.as_bytes().to_vec()).collect();
    }
    vec![sec1::EcPrivateKey::from_der(inner).expect("SEC1").private_key.to_vec()]
}

#[test]
fn nothing_of_a_wrapped_key_is_in_the_front_process_or_in_what_it_writes() {
    let dev = Dev::new();
    let kek = kek(&dev);
    let control = "control-5f2b9c3e7a1d4860";
    let (mut secrets, mut backups) = (Vec::new(), Vec::new());
    let (file, out) = (dev.file("message", [0x5a; 100]), dev.path("out"));
    for residency in ["wrapped", "token"] {
        for (name, pair, kind, algorithm) in
            [("ec", ec(&dev, "prime256v1"), "EC", "ES256"), ("rsa", rsa(&dev), "RSA", "RS256")]
        {
            let (der, blob) = wrapped_by_openssl(&dev, &kek, &pair.0);
            secrets.extend(numbers(&der));
            let (name, tag) = (format!("{name}-{residency}"), format!("control={control}"));
            let import = ["key", "import", &name, "--byok", text(&blob), "--kek", "kek", "--type", kind];
            dev.ok(&[&import[..], &["--residency", residency, "--tag", &tag]].concat());
            // What a blob that is refused leaves behind is looked for too.
            assert!(!dev.run(&[&import[..5], &["--kek", "kek", "--type", "oct", "--check"]].concat()).status.success());
            for _ in 0..3 {
                let sign = ["key", "sign", &name, "--algorithm", algorithm, "--in", text(&file), "--out", text(&out)];
                dev.ok(&sign);
            }
            if residency == "wrapped" {
                let backup = dev.path("backup");
                dev.ok(&["key", "backup", &name, "--out", text(&backup)]);
                dev.ok(&["key", "delete", &name]);
                dev.ok(&["key", "purge", &name]);
                dev.ok(&["key", "restore", text(&backup)]);
                backups.push(fs::read(backup).expect("reads"));
            }
        }
    }
    let needles = needles(&secrets);
    assert!(needles.len() > 100);
    dev.ok(&["backup", "create"]);
    let (mut written, mut backup) = (Vec::new(), Vec::new());
    files(&dev.data(), &mut written);
    files(&dev.data().join("backups"), &mut backup);
    let mut places = vec![("what it wrote", written), ("backups of keys", backups), ("its backup", backup)];
    match memory(dev.pid()) {
        Some(regions) => places.push(("its memory", regions)),
        None => {
            let said = writeln!(std::io::stderr(), "skipped: this machine does not let a server's memory be read");
            said.expect("says so");
        }
    }
    for (place, haystacks) in places {
        let total: usize = haystacks.iter().map(Vec::len).sum();
        assert!(haystacks.iter().any(|one| contains(one, control.as_bytes())), "{total} bytes of {place} are searched");
        let found = needles.iter().filter(|needle| haystacks.iter().any(|one| contains(one, needle))).count();
        assert_eq!(found, 0, "pieces of keys in {place}");
    }
}
