//! Checkpoints: what is written is read again, and nothing else is one.

use proptest::prelude::*;

use super::{Log, text_of};
use crate::audit::tlog::{
    Checkpoint, CheckpointError, SignedNote,
    hash::{SIZE_MAX, empty},
};

const ROOT: &str = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";

#[test]
fn the_example_of_the_specification_is_read() {
    let text = format!("example.com/behind-the-sofa\n20852163\n{ROOT}\n");
    let checkpoint = Checkpoint::parse(&text).unwrap();
    assert_eq!((checkpoint.origin(), checkpoint.size()), ("example.com/behind-the-sofa", 20_852_163));
    assert_eq!(checkpoint.root()[..4], [0x0a, 0xc5, 0x18, 0x6a]);
    assert_eq!((checkpoint.extensions(), checkpoint.heads()), ([].as_slice(), None));
    assert_eq!(checkpoint.to_string(), text);
}

#[test]
fn the_digest_of_the_heads_is_an_extension_line() {
    let checkpoint = Checkpoint::new("log.example", 0, empty()).unwrap();
    let text = "log.example\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n";
    assert_eq!(checkpoint.to_string(), text);
    let checkpoint = checkpoint.with_heads(&[1; 32]).with_heads(&[2; 32]);
    let text = format!("{text}strongroom-heads AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=\n");
    assert_eq!(checkpoint.to_string(), text);
    assert_eq!(checkpoint.heads(), Some([2; 32]));
    assert_eq!(Checkpoint::parse(&text), Ok(checkpoint));
}

#[test]
fn lines_of_others_are_kept() {
    let text = format!("log.example\n1\n{ROOT}\nTimestamp: 1\nstrongroom-heads {ROOT}\nstrongroom-headsman\n");
    let checkpoint = Checkpoint::parse(&text).unwrap();
    assert_eq!(checkpoint.extensions().len(), 3);
    assert_eq!(checkpoint.heads(), Some(*checkpoint.root()));
    assert_eq!(checkpoint.to_string(), text);
}

#[test]
fn a_hostile_checkpoint_is_refused() {
    for (text, error) in [
        (String::new(), CheckpointError::Form),
        (format!("log.example\n1\n{ROOT}"), CheckpointError::Form),
        ("log.example\n1\n".to_owned(), CheckpointError::Form),
        (format!("\n1\n{ROOT}\n"), CheckpointError::Form),
        (format!("log\u{8}.example\n1\n{ROOT}\n"), CheckpointError::Form),
        (format!("log.example\n1\n{ROOT}\n\n"), CheckpointError::Form),
        (format!("log.example\n1\n{ROOT}\n\nmore\n"), CheckpointError::Form),
        (format!("log.example\n1\n{ROOT}\nmore\r\n"), CheckpointError::Form),
        (format!("log.example\n01\n{ROOT}\n"), CheckpointError::Size),
        (format!("log.example\n+1\n{ROOT}\n"), CheckpointError::Size),
        (format!("log.example\n-1\n{ROOT}\n"), CheckpointError::Size),
        (format!("log.example\n 1\n{ROOT}\n"), CheckpointError::Size),
        (format!("log.example\n\n{ROOT}\n"), CheckpointError::Size),
        (format!("log.example\n9223372036854775808\n{ROOT}\n"), CheckpointError::Size),
        (format!("log.example\n1\n{ROOT}=\n"), CheckpointError::Root),
        ("log.example\n1\nAAAA\n".to_owned(), CheckpointError::Root),
        ("log.example\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2J=\n".to_owned(), CheckpointError::Root),
        (format!("log.example\n1\n{ROOT}\nstrongroom-heads AAAA\n"), CheckpointError::Heads),
        (format!("log.example\n1\n{ROOT}\nstrongroom-heads {ROOT}\nstrongroom-heads {ROOT}\n"), CheckpointError::Heads),
    ] {
        assert_eq!(Checkpoint::parse(&text), Err(error), "{text:?}");
    }
    let largest = format!("log.example\n9223372036854775807\n{ROOT}\n");
    assert_eq!(Checkpoint::parse(&largest).unwrap().size(), SIZE_MAX);
}

#[test]
fn a_checkpoint_that_could_not_be_read_again_is_not_made() {
    for origin in ["", "two\nlines", "carriage\rreturn"] {
        assert_eq!(Checkpoint::new(origin, 1, [1; 32]), Err(CheckpointError::Form), "{origin:?}");
    }
    assert_eq!(Checkpoint::new("log.example", SIZE_MAX + 1, [1; 32]), Err(CheckpointError::Size));
}

#[test]
fn a_checkpoint_is_opened_by_the_key_of_its_log() {
    let (log, witness) = (Log::new("log.example"), super::witness());
    let checkpoint = Checkpoint::new("log.example", 1, [1; 32]).unwrap();
    let mut note = log.sign(&checkpoint.to_string());
    note.push(witness.cosign(note.text(), 7).unwrap()).unwrap();
    let keys = [log.key(), witness.key().clone()];
    let (opened, signers) = Checkpoint::open(&note, &keys).unwrap();
    assert_eq!(opened, checkpoint);
    assert_eq!(signers.iter().map(|signer| signer.time).collect::<Vec<_>>(), [None, Some(7)]);

    // Its witness alone does not speak for the log.
    let not_by_log = Err(CheckpointError::NotByLog { origin: "log.example".to_owned() });
    assert_eq!(Checkpoint::open(&note, &keys[1..]), not_by_log);
    // Nor does another log whose key is known, nor a witness of the log's own name.
    let other = Log::new("other.example");
    assert_eq!(Checkpoint::open(&other.sign(&checkpoint.to_string()), &[log.key(), other.key()]), not_by_log);
    let namesake = super::cosigner("log.example");
    let cosigned = namesake.cosign(&checkpoint.to_string(), 7).unwrap();
    let note = SignedNote::new(&checkpoint.to_string(), vec![cosigned]).unwrap();
    assert_eq!(Checkpoint::open(&note, &[namesake.key().clone()]), not_by_log);
}

#[test]
fn a_signed_text_that_is_no_checkpoint_is_refused() {
    let log = Log::new("log.example");
    assert_eq!(Checkpoint::open(&log.sign("log.example\n"), &[log.key()]), Err(CheckpointError::Form));
}

proptest! {
    #[test]
    fn any_text_is_read_as_a_checkpoint_without_a_panic(
        text in text_of("(log|1|\n|CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=|strongroom-heads )"),
    ) {
        if let Ok(checkpoint) = Checkpoint::parse(&text) {
            prop_assert_eq!(checkpoint.to_string(), text);
        }
    }

    #[test]
    fn a_checkpoint_is_read_as_it_was_made(origin in "\\PC{1,30}", size in 0..=SIZE_MAX, root: [u8; 32], heads: Option<[u8; 32]>) {
        let checkpoint = Checkpoint::new(&origin, size, root).unwrap();
        let checkpoint = if let Some(heads) = heads { checkpoint.with_heads(&heads) } else { checkpoint };
        prop_assert_eq!(checkpoint.heads(), heads);
        prop_assert_eq!(Checkpoint::parse(&checkpoint.to_string()), Ok(checkpoint));
    }
}
