//! From one log key to the next: the old one's last signature names the new one.
//!
//! ```text
//! keys/{key ID of the old key, 8 hexadecimal digits}      a signed note: a checkpoint by the old key,
//!                                                         with the extension line `strongroom-next-key {verifier key}`
//! ```
//!
//! The file lies in the log's folder beside `checkpoint`. Whoever holds only the first key of a log follows from file to file to
//! the one that signs now, and believes nobody else on the way. Behind the size that the old key hands over at, nothing that it
//! has signed is believed any more.

use std::{fs, io::ErrorKind, path::Path};

use super::{
    error::OpenError,
    recover::io,
    tlog::{Checkpoint, KeyKind, SignedNote, Signer, VerifierKey},
};

/// The folder of the notes, in the log's.
pub(super) const FOLDER: &str = "keys";
/// Of so many files the folder is read; a log has one for each rotation.
const FILES_MAX: usize = 1024;
/// No note of ours is longer.
const NOTE_BYTES_MAX: u64 = 64 * 1024;

/// One key hands over to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    /// The old key.
    pub from: VerifierKey,
    /// The new one.
    pub to: VerifierKey,
    /// The last that the old one has signed: so many records, of that root.
    pub checkpoint: Checkpoint,
}

impl Handover {
    /// What a note says, if it is one by which that key hands over.
    #[must_use]
    pub fn by(from: &VerifierKey, note: &SignedNote) -> Option<Self> {
        if from.kind() == KeyKind::Cosignature {
            return None;
        }
        let (checkpoint, _) = Checkpoint::open(note, std::slice::from_ref(from)).ok()?;
        // A key of another name, and a witness's, would be a key of something else.
        let to = checkpoint.next_key().filter(|to| to.name() == from.name() && to.kind() != KeyKind::Cosignature)?;
        Some(Self { from: from.clone(), to, checkpoint })
    }
}

/// The file of a key's handover, below the log's folder.
#[must_use]
pub fn file_of(key: &VerifierKey) -> String {
    format!("{FOLDER}/{}", base16ct::lower::encode_string(&key.id()))
}

/// The notes that lie in a log's folder, with the names of their files. What is no note is passed over: who holds an old key misses
/// it and says so.
///
/// # Errors
/// [`OpenError::Io`].
pub fn notes(log: &Path) -> Result<Vec<(String, SignedNote)>, OpenError> {
    let folder = log.join(FOLDER);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io("read", &folder)(error)),
    };
    let mut found = Vec::new();
    for entry in entries.take(FILES_MAX) {
        let path = entry.map_err(io("read", &folder))?.path();
        let length = fs::metadata(&path).map_err(io("read", &path))?.len();
        if path.extension().is_some() || length > NOTE_BYTES_MAX {
            continue;
        }
        let bytes = fs::read(&path).map_err(io("read", &path))?;
        if let Ok(note) = SignedNote::parse(&bytes) {
            found.push((path.display().to_string(), note));
        }
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(found)
}

/// Follows the notes from keys that are believed: the handovers, each with the name of its note.
#[must_use]
pub fn follow(believed: &[VerifierKey], notes: &[(String, SignedNote)]) -> Vec<(String, Handover)> {
    let (mut keys, mut found) = (believed.to_vec(), Vec::new());
    let mut next = 0;
    while let Some(key) = keys.get(next).cloned() {
        next += 1;
        for (name, note) in notes {
            if let Some(handover) = Handover::by(&key, note) {
                if !keys.contains(&handover.to) {
                    keys.push(handover.to.clone());
                }
                found.push((name.clone(), handover));
            }
        }
    }
    found
}

/// Those keys, and those that they have handed over to.
#[must_use]
pub fn with_followers(mut keys: Vec<VerifierKey>, handovers: &[(String, Handover)]) -> Vec<VerifierKey> {
    for (_, handover) in handovers {
        if !keys.contains(&handover.to) {
            keys.push(handover.to.clone());
        }
    }
    keys
}

/// Whether one of those who have signed a checkpoint of that size was still the log's key then: at which size the others had
/// handed over.
///
/// # Errors
/// The size at which the last of them did.
pub fn in_office(signers: &[Signer<'_>], size: u64, handovers: &[(String, Handover)]) -> Result<(), u64> {
    let mut ended = None;
    for signer in signers.iter().filter(|signer| signer.key.kind() != KeyKind::Cosignature) {
        let until = handovers.iter().filter(|(_, handover)| handover.from == *signer.key);
        match until.map(|(_, handover)| handover.checkpoint.size()).max() {
            Some(until) if size > until => ended = ended.max(Some(until)),
            _ => return Ok(()),
        }
    }
    ended.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;
    use crate::audit::tlog::{Hash, Signature};

    const NAME: &str = "strongroom/00ff";
    const ROOT: Hash = [7; 32];

    struct Signing(Ed25519KeyPair, VerifierKey);

    fn key(n: u8) -> Signing {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[n; 32]).expect("a key");
        let key = VerifierKey::new(NAME, KeyKind::Ed25519, pair.public_key().as_ref()).expect("a key");
        Signing(pair, key)
    }

    fn note(by: &Signing, size: u64, next: Option<&VerifierKey>) -> SignedNote {
        let checkpoint = Checkpoint::new(NAME, size, ROOT).expect("right");
        let checkpoint = next.map_or_else(|| checkpoint.clone(), |next| checkpoint.clone().with_next_key(next));
        let text = checkpoint.to_string();
        SignedNote::new(&text, vec![Signature::new(&by.1, by.0.sign(text.as_bytes()).as_ref())]).expect("a note")
    }

    fn named(notes: &[SignedNote]) -> Vec<(String, SignedNote)> {
        notes.iter().enumerate().map(|(n, note)| (n.to_string(), note.clone())).collect()
    }

    #[test]
    fn one_key_leads_to_the_next_and_only_by_its_own_signature() {
        let [first, second, third, stranger] = [1, 2, 3, 4].map(key);
        let chain = [note(&second, 9, Some(&third.1)), note(&first, 5, Some(&second.1))];
        let found = follow(std::slice::from_ref(&first.1), &named(&chain));
        assert_eq!(with_followers(vec![first.1.clone()], &found), [first.1.clone(), second.1.clone(), third.1.clone()]);
        assert_eq!(follow(std::slice::from_ref(&third.1), &named(&chain)), [], "not back");
        let false_ones = [note(&stranger, 5, Some(&second.1)), note(&first, 5, None)];
        assert_eq!(follow(std::slice::from_ref(&first.1), &named(&false_ones)), []);
        // In a ring it ends.
        let ring = [note(&first, 5, Some(&second.1)), note(&second, 6, Some(&first.1))];
        assert_eq!(follow(std::slice::from_ref(&first.1), &named(&ring)).len(), 2);
    }

    #[test]
    fn a_key_of_another_log_and_a_witness_are_no_next_key() {
        let first = key(1);
        let public = first.0.public_key().as_ref().to_vec();
        for (name, kind) in [("strongroom/00fe", KeyKind::Ed25519), (NAME, KeyKind::Cosignature)] {
            let other = VerifierKey::new(name, kind, &public).expect("a key");
            assert_eq!(Handover::by(&first.1, &note(&first, 5, Some(&other))), None);
        }
    }

    #[test]
    fn who_has_handed_over_signs_nothing_more() {
        let [first, second] = [1, 2].map(key);
        let handovers = follow(std::slice::from_ref(&first.1), &named(&[note(&first, 5, Some(&second.1))]));
        let keys = with_followers(vec![first.1.clone()], &handovers);
        for (by, size, found) in [(&first, 5, Ok(())), (&first, 6, Err(5)), (&second, 6, Ok(())), (&second, 2, Ok(()))]
        {
            let note = note(by, size, None);
            let (checkpoint, signers) = Checkpoint::open(&note, &keys).expect("signed");
            assert_eq!(in_office(&signers, checkpoint.size(), &handovers), found);
        }
    }

    #[test]
    fn what_is_no_note_is_passed_over() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(notes(folder.path()).expect("none").len(), 0);
        fs::create_dir(folder.path().join(FOLDER)).expect("made");
        let [first, second] = [1, 2].map(key);
        let text = note(&first, 5, Some(&second.1)).to_string();
        for (name, text) in
            [(file_of(&first.1), &*text), ("keys/00000000".to_owned(), "noise"), ("keys/1.new".to_owned(), &*text)]
        {
            fs::write(folder.path().join(name), text).expect("written");
        }
        assert_eq!(notes(folder.path()).expect("read").len(), 1);
    }
}
