//! What a crash leaves, and what a start makes of it.

use std::{fs::OpenOptions, io::Write};

use proptest::prelude::*;

use super::*;

fn append_raw(path: &Path, bytes: &[u8]) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(bytes).unwrap();
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_reported() {
    for tail in [
        b"{\"index\":2,\"le".as_slice(),
        b"x",
        &[0; 500],
        b"{\"index\":2,\"leaf\":\"\0\0\0\0\0\0\0\0\0\0\"}\n",
        format!("{{\"index\":2,\"leaf\":\"{}\",\"time\":0}}", "0".repeat(64)).as_bytes(),
    ] {
        let (_dir, path) = temporary();
        filled(&path, 1 << 20, 2).await;
        let segment = segments(&path).remove(0);
        let size = std::fs::metadata(&segment).unwrap().len();
        append_raw(&segment, tail);
        let verified = verify(&path).unwrap();
        assert_eq!((verified.records, verified.torn.map(|torn| torn.offset)), (2, Some(size)));
        let (log, recovered) = open(&path, 1 << 20);
        let torn = recovered.torn.unwrap();
        assert_eq!((torn.offset, torn.bytes, recovered.next_index), (size, tail.len() as u64, 3));
        assert_eq!(lines(&path)[3]["operation"], "log.torn");
        log.append(operation(3), Durability::Write).await.unwrap();
        assert_eq!(verify(&path).unwrap().records, 4);
    }
}

#[tokio::test]
async fn every_cut_of_the_last_line_leaves_a_log_that_opens() {
    let (_dir, path) = temporary();
    filled(&path, 1 << 20, 2).await;
    let segment = segments(&path).remove(0);
    let whole = std::fs::read(&segment).unwrap();
    let last_at = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    for at in (last_at + 1..whole.len()).step_by(7) {
        std::fs::write(&segment, &whole[..at]).unwrap();
        let (_log, recovered) = open(&path, 1 << 20);
        assert_eq!(recovered.torn.unwrap().offset, last_at as u64);
    }
}

#[tokio::test]
async fn a_segment_without_a_whole_header_is_taken_away() {
    for header in [b"".as_slice(), b"{\"index\":2,\"leaf\":"] {
        let (_dir, path) = temporary();
        let (log, _) = open(&path, 1 << 20);
        let opened = log.append(intent(1), Durability::Write).await.unwrap();
        log.append(operation(2), Durability::Write).await.unwrap();
        drop(log);
        let torn = disk::journal(&path).join(disk::segment_name(2));
        std::fs::write(&torn, header).unwrap();
        let (log, recovered) = open(&path, 1 << 20);
        assert!(!torn.exists());
        assert_eq!(recovered.torn.unwrap().bytes, header.len() as u64);
        assert_eq!(recovered.open_intents, [(opened, intent(1))]);
        drop(log);
        assert_eq!(verify(&path).unwrap().records, 3);
    }
}

#[tokio::test]
async fn a_first_segment_without_a_whole_header_begins_anew() {
    let (_dir, path) = temporary();
    filled(&path, 1 << 20, 0).await;
    std::fs::write(&segments(&path)[0], b"{\"ind").unwrap();
    assert!(matches!(verify(&path), Err(OpenError::Missing(_))));
    let (_log, recovered) = open(&path, 1 << 20);
    assert!(recovered.created);
    assert_eq!((recovered.torn.unwrap().bytes, recovered.next_index), (5, 1));
}

#[tokio::test]
async fn the_header_of_a_torn_segment_changes_nothing_if_the_one_before_is_damaged() {
    let (_dir, path) = temporary();
    filled(&path, 1 << 20, 2).await;
    append_raw(&segments(&path)[0], b"half");
    let torn = disk::journal(&path).join(disk::segment_name(2));
    std::fs::write(&torn, b"").unwrap();
    assert_eq!(damage(Log::open(&path, options(1 << 20), INSTANCE)).1, Damage::Unterminated);
    assert!(torn.exists());
}

#[test]
fn verify_of_nothing_says_so() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(verify(dir.path()), Err(OpenError::Missing(_))));
    assert!(matches!(verify(&dir.path().join("no")), Err(OpenError::Missing(_))));
    assert!(matches!(Log::open(&dir.path().join("log"), options(1), "../x"), Err(OpenError::InstanceId)));
}

#[derive(Clone, Debug)]
enum Step {
    Operation,
    Intent,
    Outcome(u8),
    Head(u8, u8),
    Reopen,
    Fsync,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Operation),
        2 => Just(Step::Intent),
        2 => any::<u8>().prop_map(Step::Outcome),
        2 => (0..3u8, any::<u8>()).prop_map(|(scope, revision)| Step::Head(scope, revision)),
        1 => Just(Step::Fsync),
        2 => Just(Step::Reopen),
    ]
}

/// Runs the steps, and without the reopens if `reopens` is false. Returns what a start finds afterwards.
async fn run(path: &Path, steps: &[Step], reopens: bool) -> Recovered {
    let mut log = Some(open(path, 3000).0);
    let mut intents = Vec::new();
    for (n, step) in steps.iter().enumerate() {
        let record = match step {
            Step::Operation | Step::Fsync => operation(n as u64),
            Step::Intent => intent(n as u64),
            Step::Outcome(_) if intents.is_empty() => continue,
            Step::Outcome(which) => outcome(intents.remove(usize::from(*which) % intents.len()), Vec::new()),
            Step::Head(scope, revision) => outcome(u64::MAX, vec![head(*scope, (*revision).into())]),
            Step::Reopen => {
                if reopens {
                    drop(log.take());
                    log = Some(open(path, 3000).0);
                }
                continue;
            }
        };
        let durability = if matches!(step, Step::Fsync) { Durability::Fsync } else { Durability::Write };
        let index = log.as_ref().unwrap().append(record.clone(), durability).await.unwrap();
        if record.kind == Kind::Intent {
            intents.push(index);
        }
    }
    drop(log);
    let recovered = open(path, 3000).1;
    let open: Vec<u64> = recovered.open_intents.iter().map(|(index, _)| *index).collect();
    intents.sort_unstable();
    assert_eq!(open, intents);
    recovered
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn reopening_makes_no_difference(steps in prop::collection::vec(step(), 0..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (_one, with) = temporary();
        let (_two, without) = temporary();
        let recovered = runtime.block_on(run(&with, &steps, true));
        prop_assert_eq!(&recovered, &runtime.block_on(run(&without, &steps, false)));
        let verified = verify(&with).unwrap();
        prop_assert_eq!(&verified, &verify(&without).unwrap());
        prop_assert_eq!(verified.open, recovered.open_intents);
        prop_assert_eq!(verified.heads, recovered.heads);
        prop_assert_eq!(lines(&with), lines(&without));
    }
}
