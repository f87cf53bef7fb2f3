//! A copy of a log that goes on: it ends before the first head that is too new, and is a log that a start takes.

use std::{
    os::unix::fs::DirBuilderExt as _,
    sync::atomic::{AtomicBool, Ordering},
};

use super::{
    super::{HeadMark, HeldJournal, TreeHead, origin},
    tree::{check, checkpoint, note, signed},
    *,
};

/// Cuts and signs a copy.
fn cut(held: &HeldJournal, to: &Path, from: u64, until: u64, newest: u64) -> TreeHead {
    std::fs::DirBuilder::new().mode(0o700).create(to).unwrap();
    let head = held.copy(to, from, until, &|mark: &HeadMark| mark.revision > newest).unwrap();
    HeldJournal::put_checkpoint(to, &note(&origin(INSTANCE).unwrap(), head.size, head.root, &head.heads)).unwrap();
    head
}

/// A change: its intent, and its outcome with that head.
async fn change(log: &Log, revision: u64) {
    let index = log.append(intent(revision), Durability::Fsync).await.unwrap();
    log.append(outcome(index, vec![head(0, revision)]), Durability::Fsync).await.unwrap();
}

#[tokio::test]
async fn it_ends_before_the_first_head_that_is_newer_and_opens() {
    let (dir, path) = temporary();
    let before = signed(&path, 32 << 10, 2000).await;
    let (log, _) = open(&path, 32 << 10);
    let log = Arc::new(log);
    let from = log.known().next_index;
    for revision in 1..=4 {
        change(&log, revision).await;
        log.append(operation(7), Durability::Write).await.unwrap();
    }
    let until = log.known().next_index;
    let held = HeldJournal::new(&log);
    for newest in 0..=4 {
        let to = dir.path().join(format!("copy-{newest}"));
        let size = cut(&held, &to, from, until, newest).size;
        // The intent of the change that is too new is in it, its outcome is not.
        assert_eq!(size, if newest == 4 { until } else { from + 3 * newest + 1 }, "{newest}");
        let verified = check(&to, &[&before]).unwrap();
        assert_eq!((verified.records, verified.signed, verified.first), (size, size, 0));
        let revision = verified.heads.values().map(|mark| mark.revision).max();
        assert_eq!((revision.unwrap_or(0), verified.open.len()), (newest, usize::from(newest < 4)));
        let (copied, recovered) = open(&to, 32 << 10);
        assert_eq!((recovered.next_index, recovered.open_intents.len()), (size, usize::from(newest < 4)));
        let newer = checkpoint(&copied).await;
        drop(copied);
        assert_eq!(check(&to, &[&before, &newer]).unwrap().records, size + 1, "and it goes on");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_is_taken_while_records_come_and_segments_go() {
    let (dir, path) = temporary();
    let (log, _) = open(&path, 16 << 10);
    let log = Arc::new(log);
    for n in 0..700 {
        log.append(operation(n), Durability::Write).await.unwrap();
    }
    checkpoint(&log).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (writer, flag) = (Arc::clone(&log), Arc::clone(&stop));
    let writing = tokio::spawn(async move {
        let mut n = 0;
        while !flag.load(Ordering::Relaxed) {
            writer.append(operation(n), Durability::Write).await.unwrap();
            n += 1;
            if n % 100 == 0 {
                checkpoint(&writer).await;
            }
        }
    });
    for number in 0..10 {
        let held = HeldJournal::new(&log);
        let from = log.known().next_index;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        let until = log.known().next_index;
        let to = dir.path().join(format!("copy-{number}"));
        assert_eq!(cut(&held, &to, from, until, 0).size, until);
        drop(held);
        let verified = check(&to, &[]).unwrap();
        assert_eq!((verified.records, verified.signed), (until, until));
        assert_eq!(open(&to, 16 << 10).1.next_index, until);
    }
    stop.store(true, Ordering::Relaxed);
    writing.await.unwrap();
    checkpoint(&log).await;
    let first = disk::segments(&disk::journal(&path)).unwrap()[0].0;
    assert!(first > 0, "what nobody holds any more leaves the journal");
}

#[tokio::test]
async fn what_was_pruned_is_not_in_it() {
    let (dir, path) = temporary();
    let before = signed(&path, 32 << 10, 2000).await;
    super::super::prune::prune(&path, 0..512, None).unwrap();
    let (log, _) = open(&path, 32 << 10);
    let log = Arc::new(log);
    let until = log.known().next_index;
    let to = dir.path().join("copy");
    assert_eq!(cut(&HeldJournal::new(&log), &to, until, until, 0).size, until);
    let verified = check(&to, &[&before]).unwrap();
    assert_eq!((verified.first, verified.records), (512, until));
}
