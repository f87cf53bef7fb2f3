//! The tree on disk: tiles, bundles and checkpoints, what a start makes of them, and what somebody else did to them.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};

use super::{
    super::{
        Cause, LogError, Reader, origin,
        tlog::{Checkpoint, Hash, KeyKind, Signature, SignedNote, VerifierKey},
    },
    *,
};

/// A log key, in memory.
pub(super) struct Key(Ed25519KeyPair, pub(super) VerifierKey);

pub(super) fn key() -> Key {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let verifier = VerifierKey::new(&origin(INSTANCE).unwrap(), KeyKind::Ed25519, pair.public_key().as_ref()).unwrap();
    Key(pair, verifier)
}

/// Makes a checkpoint of all that is durable; returns it.
pub(super) async fn checkpoint(log: &Log) -> String {
    log.append(operation(0), Durability::Fsync).await.unwrap();
    let head = log.advance().unwrap();
    let note = note(&origin(INSTANCE).unwrap(), head.size, head.root, &head.heads);
    log.publish(head.size, &note).unwrap();
    note
}

pub(super) fn note(origin: &str, size: u64, root: Hash, heads: &Hash) -> String {
    let Key(pair, verifier) = key();
    let text = Checkpoint::new(origin, size, root).unwrap().with_heads(heads).to_string();
    let signature = Signature::new(&verifier, pair.sign(text.as_bytes()).as_ref());
    SignedNote::new(&text, vec![signature]).unwrap().to_string()
}

/// A closed log of so many records and one more, all under a checkpoint, which is returned.
pub(super) async fn signed(dir: &Path, segment_bytes_max: u64, records: u64) -> String {
    let (log, _) = open(dir, segment_bytes_max);
    for n in 0..records {
        log.append(operation(n), Durability::Write).await.unwrap();
    }
    checkpoint(&log).await
}

fn against(checkpoints: &[&str]) -> Against {
    let named = |(n, text): (usize, &&str)| (format!("checkpoint {n}"), SignedNote::parse(text.as_bytes()).unwrap());
    Against { keys: vec![key().1], checkpoints: checkpoints.iter().enumerate().map(named).collect() }
}

pub(super) fn check(dir: &Path, checkpoints: &[&str]) -> Result<Verified, OpenError> {
    super::super::verify(dir, &against(checkpoints))
}

pub(super) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[tokio::test]
async fn what_is_signed_is_in_tiles_and_leaves_the_journal() {
    let (_dir, path) = temporary();
    let note = signed(&path, 32 << 10, 2000).await;
    let first = disk::segments(&disk::journal(&path)).unwrap()[0].0;
    assert!((1600..=1792).contains(&first), "{first}: the journal keeps what is in no full bundle, in whole segments");
    let verified = check(&path, &[&note]).unwrap();
    assert_eq!((verified.records, verified.first, verified.signed), (2001, 0, 2001));
    assert_eq!(verified.signed_by, [origin(INSTANCE).unwrap()]);
    let reader = Reader::new(&path);
    for index in [0, 255, 256, 1999, 2000] {
        let record: Record = serde_json::from_slice(&reader.entry(index, 2001).unwrap()).unwrap();
        assert_eq!(record, operation(index % 2000));
    }
    let (log, recovered) = open(&path, 32 << 10);
    assert_eq!((recovered.next_index, recovered.checkpoint.as_deref()), (2001, Some(note.as_str())));
    let later = checkpoint(&log).await;
    assert_eq!(check(&path, &[&note, &later]).unwrap().records, 2002);
}

#[tokio::test]
async fn what_a_web_server_shows_of_it_is_enough() {
    let (_dir, path) = temporary();
    let note = signed(&path, 1 << 20, 700).await;
    std::fs::remove_dir_all(disk::journal(&path)).unwrap();
    let verified = check(&path, &[&note]).unwrap();
    assert_eq!((verified.records, verified.instance.as_str()), (701, INSTANCE));
    assert_eq!(damage(Log::open(&path, options(1 << 20), INSTANCE)).1, Damage::NoJournal);
}

#[tokio::test]
async fn any_flipped_bit_of_any_file_is_found() {
    let (_dir, path) = temporary();
    let note = signed(&path, 8 << 10, 600).await;
    let mut flipped = 0;
    for file in files(&path).into_iter().filter(|file| file.file_name().unwrap() != "lock") {
        let whole = std::fs::read(&file).unwrap();
        // Every byte of small files, and some of the long ones; another bit each time.
        let step = (whole.len() / 60).max(1);
        for at in (0..whole.len()).step_by(step) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 7);
            std::fs::write(&file, &bytes).unwrap();
            let torn = at + 1 == whole.len() && file.extension().is_some_and(|extension| extension == "jsonl");
            assert!(torn || check(&path, &[&note]).is_err(), "byte {at} of {}", file.display());
            flipped += 1;
        }
        std::fs::write(&file, &whole).unwrap();
    }
    assert!(flipped > 500, "{flipped}");
    check(&path, &[&note]).unwrap();
}

#[tokio::test]
async fn records_removed_or_swapped_in_a_bundle_are_found() {
    let (_dir, path) = temporary();
    let note = signed(&path, 8 << 10, 600).await;
    let bundle = path.join("tile/entries/000");
    let whole = std::fs::read(&bundle).unwrap();
    let entries: Vec<Vec<u8>> =
        crate::audit::tlog::tile::entries(&whole).map(|entry| entry.unwrap().to_vec()).collect();
    let write = |entries: &[Vec<u8>]| {
        let mut bytes = Vec::new();
        entries.iter().for_each(|entry| crate::audit::tlog::tile::encode_entry(&mut bytes, entry).unwrap());
        std::fs::write(&bundle, bytes).unwrap();
    };
    let mut swapped = entries.clone();
    swapped.swap(3, 4);
    write(&swapped);
    assert!(matches!(damage(check(&path, &[&note])).1, Damage::Tile | Damage::Checkpoint { .. }));
    write(&entries[1..]);
    assert!(matches!(damage(check(&path, &[&note])).1, Damage::Tile));
    std::fs::write(&bundle, &whole).unwrap();
    check(&path, &[&note]).unwrap();
}

/// Two logs that have the same beginning.
async fn forked(shared: u64, more: u64) -> ((TempDir, PathBuf), String, (TempDir, PathBuf), String) {
    let mut made = Vec::new();
    for which in [0, 1] {
        let (dir, path) = temporary();
        let (log, _) = open(&path, 1 << 20);
        for n in 0..shared + more {
            let n = if n < shared { n } else { n + 1000 * which };
            log.append(operation(n), Durability::Write).await.unwrap();
        }
        let note = checkpoint(&log).await;
        made.push(((dir, path), note));
    }
    let (second, its_note) = made.pop().unwrap();
    let (first, note) = made.pop().unwrap();
    (first, note, second, its_note)
}

#[tokio::test]
async fn a_tree_that_was_shown_to_another_witness_is_found() {
    let (first, note, second, other) = forked(500, 10).await;
    check(&first.1, &[&note]).unwrap();
    check(&second.1, &[&other]).unwrap();
    assert_eq!(damage(check(&first.1, &[&note, &other])).1, Damage::Checkpoint { size: 511 });
    assert_eq!(damage(check(&second.1, &[&note])).1, Damage::Checkpoint { size: 511 });
}

#[tokio::test]
async fn a_tail_cut_before_a_kept_checkpoint_is_found() {
    let (_dir, path) = temporary();
    let early = signed(&path, 1 << 20, 100).await;
    let (log, _) = open(&path, 1 << 20);
    let late = checkpoint(&log).await;
    drop(log);
    // The last record, the tiles and the checkpoint of that time, all in order.
    let segment = segments(&path).remove(0);
    let text = std::fs::read_to_string(&segment).unwrap();
    let cut = text.trim_end().rfind('\n').unwrap() + 1;
    std::fs::write(&segment, &text[..cut]).unwrap();
    let cut_log = damage(Log::open(&path, options(1 << 20), INSTANCE)).1;
    assert_eq!(cut_log, Damage::Cut { expected: 102, found: 101 });
    std::fs::write(path.join("checkpoint"), &early).unwrap();
    check(&path, &[&early]).unwrap();
    assert_eq!(damage(check(&path, &[&late])).1, Damage::Cut { expected: 102, found: 101 });
}

#[tokio::test]
async fn the_valid_log_of_another_instance_is_found() {
    let (_dir, path) = temporary();
    let note = signed(&path, 1 << 20, 10).await;
    let (_other_dir, other) = temporary();
    let (log, _) = Log::open(&other, options(1 << 20), "ff").unwrap();
    log.append(operation(1), Durability::Write).await.unwrap();
    drop(log);
    std::fs::copy(path.join("checkpoint"), other.join("checkpoint")).unwrap();
    assert_eq!(
        damage(Log::open(&other, options(1 << 20), "ff")).1,
        Damage::Origin { found: origin(INSTANCE).unwrap() }
    );
    assert!(matches!(damage(Log::open(&path, options(1 << 20), "ff")).1, Damage::Origin { .. }));
    // Not signed by its own log, if signatures are looked at; another log's in any case.
    let foreign = self::note("strongroom/ff", 1, [0; 32], &[0; 32]);
    assert!(matches!(damage(check(&path, &[&note, &foreign])).1, Damage::Signature(_)));
    let without_keys = Against { keys: Vec::new(), ..against(&[&note, &foreign]) };
    assert!(matches!(damage(super::super::verify(&path, &without_keys)).1, Damage::Origin { .. }));
}

#[tokio::test]
async fn a_checkpoint_under_another_key_is_found() {
    let (_dir, path) = temporary();
    let note = signed(&path, 1 << 20, 10).await;
    let pair = Ed25519KeyPair::from_seed_unchecked(&[8; 32]).unwrap();
    let stranger = VerifierKey::new(&origin(INSTANCE).unwrap(), KeyKind::Ed25519, pair.public_key().as_ref()).unwrap();
    let with = |keys| super::super::verify(&path, &Against { keys, ..against(&[&note]) });
    assert!(matches!(damage(with(vec![stranger])).1, Damage::Signature(_)));
    with(vec![key().1]).unwrap();
}

#[tokio::test]
async fn what_the_journal_says_otherwise_than_it_was_written_is_never_signed() {
    let (_dir, path) = temporary();
    let (log, _) = open(&path, 1 << 20);
    for n in 0..10 {
        log.append(operation(n), Durability::Fsync).await.unwrap();
    }
    let segment = segments(&path).remove(0);
    let text = std::fs::read_to_string(&segment).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines[4] = under_its_leaf(&lines[4].replace("ES256", "RS256"));
    std::fs::write(&segment, lines.join("\n") + "\n").unwrap();
    match log.advance().unwrap_err() {
        LogError::Poisoned(cause) => assert!(matches!(*cause, Cause::Altered)),
        other => panic!("{other:?}"),
    }
    assert!(log.append(operation(11), Durability::Write).await.is_err());
}

#[tokio::test]
async fn tiles_that_a_loss_of_power_took_are_made_again() {
    let (_dir, path) = temporary();
    let note = signed(&path, 1 << 20, 700).await;
    let before: Vec<(PathBuf, Vec<u8>)> =
        files(&path.join("tile")).into_iter().map(|file| (file.clone(), std::fs::read(file).unwrap())).collect();
    for (n, (file, _)) in before.iter().enumerate() {
        if n % 2 == 0 { std::fs::remove_file(file).unwrap() } else { std::fs::write(file, "").unwrap() }
    }
    let (log, _) = open(&path, 1 << 20);
    assert_eq!(log.advance().unwrap().size, 701);
    for (file, bytes) in before {
        assert_eq!(std::fs::read(&file).unwrap(), bytes, "{}", file.display());
    }
    check(&path, &[&note]).unwrap();
}

#[tokio::test]
async fn tiles_that_cannot_be_written_are_written_later() {
    let (_dir, path) = temporary();
    let (log, _) = open(&path, 16 << 10);
    std::fs::write(path.join("tile"), "in the way").unwrap();
    for n in 0..600 {
        log.append(operation(n), Durability::Write).await.unwrap();
    }
    log.append(operation(600), Durability::Fsync).await.unwrap();
    for _ in 0..2 {
        assert!(matches!(log.advance(), Err(LogError::Tree(_))));
    }
    assert_eq!(log.readable(), 0);
    std::fs::remove_file(path.join("tile")).unwrap();
    let note = checkpoint(&log).await;
    assert_eq!(log.readable(), 602);
    drop(log);
    assert_eq!(check(&path, &[&note]).unwrap().records, 602);
}

#[tokio::test]
async fn pruned_bundles_leave_the_tree_provable() {
    let (_dir, path) = temporary();
    let early = signed(&path, 16 << 10, 700).await;
    let (log, _) = open(&path, 16 << 10);
    for n in 701..2000 {
        log.append(operation(n), Durability::Write).await.unwrap();
    }
    let note = checkpoint(&log).await;
    drop(log);
    for bundle in 0..4 {
        std::fs::remove_file(path.join(format!("tile/entries/{bundle:03}"))).unwrap();
    }
    let verified = check(&path, &[&note]).unwrap();
    assert_eq!((verified.records, verified.first), (2001, 1024));
    let (log, _) = open(&path, 16 << 10);
    let later = checkpoint(&log).await;
    drop(log);
    check(&path, &[&early, &note, &later]).unwrap();
    let other = self::note(&origin(INSTANCE).unwrap(), 701, [7; 32], &[0; 32]);
    assert_eq!(damage(check(&path, &[&other])).1, Damage::Checkpoint { size: 701 });
    // The journal begins behind the old checkpoint, which vouches for less than it gave up.
    std::fs::write(path.join("checkpoint"), &early).unwrap();
    assert_eq!(damage(Log::open(&path, options(16 << 10), INSTANCE)).1, Damage::Checkpoint { size: 701 });
    std::fs::write(path.join("checkpoint"), &later).unwrap();
    std::fs::remove_file(path.join("tile/0/001")).unwrap();
    assert_eq!(damage(check(&path, &[&note])).1, Damage::Tile);
}

#[tokio::test]
async fn only_partial_files_of_this_tree_and_the_signed_one_are_kept() {
    let (_dir, path) = temporary();
    let (log, _) = open(&path, 1 << 20);
    for _ in 0..5 {
        checkpoint(&log).await;
        log.append(operation(1), Durability::Fsync).await.unwrap();
        log.advance().unwrap();
    }
    let mut names: Vec<String> = files(&path.join("tile/0"))
        .into_iter()
        .map(|file| file.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["10", "9"]);
}

#[tokio::test]
async fn half_a_record_that_was_read_ahead_and_cut_off_again_is_no_damage() {
    let (_dir, path) = temporary();
    let (log, _) = open(&path, 1 << 20);
    log.append(operation(0), Durability::Fsync).await.unwrap();
    let segment = segments(&path).remove(0);
    let whole = std::fs::metadata(&segment).unwrap().len();
    let half = [std::fs::read(&segment).unwrap(), b"{\"index\":1,\"leaf\":\"00".to_vec()].concat();
    std::fs::write(&segment, half).unwrap();
    assert_eq!(log.advance().unwrap().size, 1);
    std::fs::OpenOptions::new().write(true).open(&segment).unwrap().set_len(whole).unwrap();
    log.append(operation(1), Durability::Fsync).await.unwrap();
    assert_eq!(log.advance().unwrap().size, 2);
    log.append(operation(2), Durability::Write).await.unwrap();
}
