//! What a witness remembers, what it refuses, and what it leaves behind.

use std::os::unix::fs::PermissionsExt as _;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};

use super::*;
use crate::audit::tlog::{
    Frontier, KeyKind, Signature, hash,
    proof::{self, Nodes},
};

const ORIGIN: &str = "strongroom/00112233445566778899aabbccddeeff";
const NAME: &str = "witness.example.org/one";
const TIME: u64 = 1_700_000_000;

struct Log(Ed25519KeyPair, Vec<String>);

impl Log {
    /// A log of so many entries, of which those from `fork` on are another history's.
    fn new(size: u64, fork: u64) -> Self {
        let entries = (0..size).map(|n| if n < fork { n.to_string() } else { format!("other {n}") });
        Self(Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap(), entries.collect())
    }

    fn key(&self) -> VerifierKey {
        VerifierKey::new(ORIGIN, KeyKind::Ed25519, self.0.public_key().as_ref()).unwrap()
    }

    fn note(&self) -> SignedNote {
        let size = self.1.len() as u64;
        let text = Checkpoint::new(ORIGIN, size, proof::root(size, self).unwrap()).unwrap().to_string();
        let signature = Signature::new(&self.key(), self.0.sign(text.as_bytes()).as_ref());
        SignedNote::new(&text, vec![signature]).unwrap()
    }

    /// What it shows to whoever holds a tree of `old` records.
    fn shows(&self, old: u64) -> (SignedNote, Vec<Hash>) {
        (self.note(), proof::consistency(old, self.1.len() as u64, self).unwrap_or_default())
    }
}

impl Nodes for Log {
    type Error = std::convert::Infallible;

    fn subtree(&self, height: u32, index: u64) -> Result<Hash, Self::Error> {
        let mut tree = Frontier::new();
        let first = usize::try_from(index << height).unwrap();
        self.1[first..first + (1 << height)].iter().for_each(|entry| tree.push(hash::leaf(entry.as_bytes())));
        Ok(tree.root())
    }
}

fn witness(dir: &Path) -> Result<Witness, WitnessError> {
    let cosigner = key::take(&dir.join("key"), Some(NAME)).unwrap();
    Witness::open(&dir.join("state"), vec![Log::new(1, 1).key()], cosigner)
}

fn see(witness: &mut Witness, log: &Log) -> Result<Cosigned, WitnessError> {
    let (note, proof) = log.shows(witness.size());
    witness.see(&note, &proof, TIME)
}

#[test]
fn what_continues_is_cosigned_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = witness(dir.path()).unwrap();
    let cosigned = see(&mut first, &Log::new(5, 5)).unwrap();
    assert!(cosigned.is_first);
    let cosigned = see(&mut first, &Log::new(12, 12)).unwrap();
    assert!(!cosigned.is_first);
    assert_eq!(fs::read_to_string(&cosigned.path).unwrap(), cosigned.note.to_string());
    let keys = [Log::new(1, 1).key(), first.key().clone()];
    let (checkpoint, signers) = Checkpoint::open(&cosigned.note, &keys).unwrap();
    assert_eq!(checkpoint.size(), 12);
    assert_eq!(signers.iter().map(|signer| signer.time).collect::<Vec<_>>(), [None, Some(TIME)]);
}

#[test]
fn a_restart_goes_on_from_what_is_held() {
    let dir = tempfile::tempdir().unwrap();
    see(&mut witness(dir.path()).unwrap(), &Log::new(5, 5)).unwrap();
    let mut again = witness(dir.path()).unwrap();
    assert_eq!(again.size(), 5);
    assert!(!see(&mut again, &Log::new(5, 5)).unwrap().is_first, "the same tree may be cosigned anew");
    see(&mut again, &Log::new(9, 9)).unwrap();
}

#[test]
fn a_roll_back_is_refused_for_good_with_both_notes_as_evidence() {
    let dir = tempfile::tempdir().unwrap();
    let mut held = witness(dir.path()).unwrap();
    let kept = see(&mut held, &Log::new(12, 12)).unwrap();
    match see(&mut held, &Log::new(5, 5)).unwrap_err() {
        WitnessError::Inconsistent { held: 12, shown: 5, evidence, source: ProofError::Shrunk { .. } } => {
            assert_eq!(fs::read_to_string(&evidence[0]).unwrap(), kept.note.to_string());
            assert_eq!(fs::read_to_string(&evidence[1]).unwrap(), Log::new(5, 5).note().to_string());
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(fs::read_to_string(&kept.path).unwrap(), kept.note.to_string(), "what is held stays");
    assert!(matches!(see(&mut held, &Log::new(20, 20)), Err(WitnessError::Evidence(_))));
    drop(held);
    let WitnessError::Evidence(path) = witness(dir.path()).unwrap_err() else { panic!("it begins") };
    for entry in fs::read_dir(path.parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        if path.to_str().unwrap().contains(".evidence-") {
            fs::remove_file(path).unwrap();
        }
    }
    see(&mut witness(dir.path()).unwrap(), &Log::new(20, 20)).unwrap();
}

#[test]
fn another_history_is_refused_whatever_its_size() {
    for size in [12, 13, 40] {
        let dir = tempfile::tempdir().unwrap();
        let mut held = witness(dir.path()).unwrap();
        see(&mut held, &Log::new(12, 12)).unwrap();
        let refused = see(&mut held, &Log::new(size, 7)).unwrap_err();
        assert!(matches!(refused, WitnessError::Inconsistent { held: 12, .. }), "{size}: {refused:?}");
    }
}

#[test]
fn a_checkpoint_of_another_key_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let mut held = witness(dir.path()).unwrap();
    let mut stranger = Log::new(5, 5);
    stranger.0 = Ed25519KeyPair::from_seed_unchecked(&[8; 32]).unwrap();
    assert!(matches!(see(&mut held, &stranger), Err(WitnessError::Checkpoint(_))));
    assert!(see(&mut held, &Log::new(3, 3)).unwrap().is_first);
}

#[test]
fn what_a_crash_left_beside_the_state_is_not_the_state() {
    let dir = tempfile::tempdir().unwrap();
    let path = see(&mut witness(dir.path()).unwrap(), &Log::new(5, 5)).unwrap().path;
    fs::write(format!("{}.new", path.display()), &Log::new(9, 9).note().to_string()[..40]).unwrap();
    let mut again = witness(dir.path()).unwrap();
    assert_eq!(again.size(), 5);
    see(&mut again, &Log::new(9, 9)).unwrap();
    assert_eq!(witness_size(&path), 9);
}

fn witness_size(path: &Path) -> u64 {
    Checkpoint::parse(SignedNote::parse(&fs::read(path).unwrap()).unwrap().text()).unwrap().size()
}

#[test]
fn a_state_that_is_not_ours_is_not_taken_for_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = see(&mut witness(dir.path()).unwrap(), &Log::new(5, 5)).unwrap().path;
    let whole = fs::read(&path).unwrap();
    let forged = Log::new(3, 3).note().to_string().into_bytes();
    for bytes in [&whole[..whole.len() / 2], &[][..], forged.as_slice()] {
        fs::write(&path, bytes).unwrap();
        assert!(matches!(witness(dir.path()), Err(WitnessError::State { .. })));
    }
    fs::write(&path, &whole).unwrap();
    witness(dir.path()).unwrap();
}

#[test]
fn one_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let first = witness(dir.path()).unwrap();
    assert!(matches!(witness(dir.path()), Err(WitnessError::Locked(_))));
    drop(first);
    witness(dir.path()).unwrap();
}

#[test]
fn the_key_is_made_once_for_its_owner_and_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    assert!(matches!(key::take(&path, None), Err(key::WitnessKeyError::Missing(_))));
    let made = key::take(&path, Some(NAME)).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(key::take(&path, None).unwrap().key(), made.key());
    assert!(matches!(key::take(&path, Some("witness.example.org/two")), Err(key::WitnessKeyError::Name { .. })));
    let other = key::take(&dir.path().join("other"), Some(NAME)).unwrap();
    assert_ne!(other.key(), made.key());
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("one+", "two+")).unwrap();
    assert!(matches!(key::take(&path, None), Err(key::WitnessKeyError::Malformed(_))));
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(key::take(&path, None), Err(key::WitnessKeyError::Exposed { mode: 0o640, .. })));
}

#[test]
fn names_of_files_are_those_of_logs_and_nothing_else() {
    assert_eq!(stem("strongroom/ab"), "strongroom%2fab");
    assert_eq!(stem("../é%2f"), "%2e%2e%2f%c3%a9%252f");
}
