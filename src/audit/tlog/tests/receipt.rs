//! Receipts: an entry that is shown offline, and what is none.

use proptest::prelude::*;

use super::{Log, text_of};
use crate::audit::tlog::{
    CheckpointError, NoteError, ProofError, Receipt, ReceiptError, SignedNote, VerifierKey, hash::SIZE_MAX,
    proof::PROOF_HASHES_MAX, receipt::RECEIPT_BYTES_MAX, tile::ENTRY_BYTES_MAX,
};

/// Made by a program that is not ours, in another language: "entry 2" of a log of five, cosigned.
const RECEIPT: &str = "\
    c2sp.org/tlog-proof@v1\n\
    extra ZW50cnkgMg==\n\
    index 2\n\
    YcoROfaBWEHVuvLQ0tm9nf7pfImN1ve6DAqpQe5sAes=\n\
    WkdmL9ijF9lgSaP59HxV3GfKZgUbqjaD27GbL+CaB7A=\n\
    SFM123z+yWXxX/dF/GJcQdXqJkaTaTAWWCj3PdS2iFQ=\n\
    \n\
    log.example/audit\n\
    5\n\
    fKo0Xb2JKmZFTWxlEuo8PqPw0+whvj/C4jdXBf049nI=\n\
    strongroom-heads XAvCQjwa8YzQFypNH4TAGvJaPuPFzNIX6OikiST+QU4=\n\
    \n\
    — log.example/audit I/tSUE/1zAYvzR7MH0VmavJVjkvKjB2GJA61MElNpgt+nrdebGqETQeTPxRbsCFho8FByMjlVFfdnqghfWu1BFawhgE=\n\
    — witness.example.com/w1 srNzHAAAAABlU/EADC3IOMfR7Rzs18ch7hEQhdQNKnnrR2N13b4gmYtjjg0ywP3aRQXfsU6+1NbzT1zDQizTFLh4X4AxWsT2CDXZAQ==\n\
";

const LOG: &str = "log.example/audit+23fb5250+ATHevlXTfHInaLE3ExyqYIcICy4LYLlL14XRRXXPpJi8";
const WITNESS: &str = "witness.example.com/w1+b2b3731c+BBl/ayPhbIUyxqvIOPrNXqeJvgx2spIDNAOb+os9No1h";

fn keys() -> Vec<VerifierKey> {
    [LOG, WITNESS].map(|vkey| vkey.parse().unwrap()).into()
}

fn parse(receipt: &str) -> Receipt {
    Receipt::parse(receipt.as_bytes()).unwrap()
}

#[test]
fn a_receipt_of_another_implementation_is_verified() {
    let (receipt, keys) = (parse(RECEIPT), keys());
    assert_eq!(receipt.to_string(), RECEIPT);
    assert_eq!((receipt.index(), receipt.extra()), (2, b"entry 2".as_slice()));
    let shown = receipt.verify(receipt.extra(), &keys).unwrap();
    assert_eq!((shown.index, shown.checkpoint.size()), (2, 5));
    assert_eq!(shown.checkpoint.origin(), "log.example/audit");
    assert!(shown.checkpoint.heads().is_some());
    let signers: Vec<_> = shown.signers.iter().map(|signer| (signer.key.name(), signer.time)).collect();
    assert_eq!(signers, [("log.example/audit", None), ("witness.example.com/w1", Some(1_700_000_000))]);
}

#[test]
fn a_receipt_shows_one_entry_at_one_place() {
    let keys = keys();
    assert_eq!(parse(RECEIPT).verify(b"entry 3", &keys), Err(ProofError::Root.into()));
    for (index, error) in
        [(0, ProofError::Root), (4, ProofError::Length { hashes: 3 }), (5, ProofError::NoLeaf { index: 5, size: 5 })]
    {
        let moved = RECEIPT.replace("index 2", &format!("index {index}"));
        assert_eq!(parse(&moved).verify(b"entry 2", &keys), Err(error.into()), "{index}");
    }
}

#[test]
fn a_receipt_needs_the_word_of_the_log() {
    let keys = keys();
    let witness_only = parse(RECEIPT).verify(b"entry 2", &keys[1..]);
    assert!(matches!(witness_only, Err(ReceiptError::Checkpoint(CheckpointError::NotByLog { .. }))));
    let namesake = [Log::new("log.example/audit").key()];
    let unknown = parse(RECEIPT).verify(b"entry 2", &namesake);
    assert_eq!(unknown, Err(ReceiptError::Checkpoint(CheckpointError::Note(NoteError::Unsigned))));
}

#[test]
fn an_empty_line_within_the_proof_begins_a_checkpoint_that_nobody_signed() {
    let keys = keys();
    let second_hash = RECEIPT.lines().nth(4).unwrap();
    let split = RECEIPT.replace(second_hash, &format!("\n{second_hash}"));
    let forged = NoteError::Forged { name: "log.example/audit".to_owned() };
    assert_eq!(parse(&split).verify(b"entry 2", &keys), Err(CheckpointError::Note(forged).into()));
}

/// Of what the receipt says, all but the extra data is held by a signature, by the proof, or by the form.
#[test]
fn a_receipt_of_which_a_bit_was_flipped_is_refused() {
    let keys = keys();
    let extra = RECEIPT.find("extra").unwrap()..RECEIPT.find("index").unwrap();
    for at in (0..RECEIPT.len()).filter(|at| !extra.contains(at)) {
        for bit in 0..8 {
            let mut bytes = RECEIPT.as_bytes().to_vec();
            bytes[at] ^= 1 << bit;
            let Ok(receipt) = Receipt::parse(&bytes) else { continue };
            // A signature of which the name or ID was flipped is a stranger's, and the other one stands.
            let Ok(shown) = receipt.verify(b"entry 2", &keys) else { continue };
            assert_eq!(shown.signers.len(), 1, "byte {at}, bit {bit}");
            assert_eq!(shown.signers[0].key, &keys[0], "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn a_hostile_receipt_is_refused() {
    let first_hash = RECEIPT.lines().nth(3).unwrap();
    for (receipt, error) in [
        (String::new(), ReceiptError::Form),
        (RECEIPT.replace("@v1", "@v2"), ReceiptError::Form),
        (RECEIPT.replace("@v1\n", "@v1\r\n"), ReceiptError::Form),
        (format!("\n{RECEIPT}"), ReceiptError::Form),
        (RECEIPT.replace("index 2\n", ""), ReceiptError::Form),
        (RECEIPT.replace("index 2", "index  2"), ReceiptError::Index),
        (RECEIPT.replace("index 2", "index 02"), ReceiptError::Index),
        (RECEIPT.replace("index 2", "index -2"), ReceiptError::Index),
        (RECEIPT.replace("index 2", "index 9223372036854775808"), ReceiptError::Index),
        (RECEIPT.replace("index 2", "index 2\nindex 2"), ReceiptError::Hash { line: 1 }),
        (RECEIPT.replace("extra ", "extra \nextra "), ReceiptError::Extra),
        (RECEIPT.replace("extra ", "extra !"), ReceiptError::Extra),
        (RECEIPT.replace("extra ", "Extra "), ReceiptError::Form),
        (RECEIPT.replace(first_hash, "AAAA"), ReceiptError::Hash { line: 1 }),
        (RECEIPT.replace(first_hash, &[first_hash; 63].join("\n")), ReceiptError::TooMany { hashes: 65 }),
        (RECEIPT.trim_end().to_owned(), ReceiptError::Note(NoteError::Form)),
        (RECEIPT.replace("strongroom-heads", "strongroom\theads"), ReceiptError::Note(NoteError::Characters)),
        ("a".repeat(RECEIPT_BYTES_MAX + 1), ReceiptError::TooLong { bytes: RECEIPT_BYTES_MAX + 1 }),
    ] {
        assert_eq!(Receipt::parse(receipt.as_bytes()), Err(error), "{receipt:.200}");
    }
}

#[test]
fn a_receipt_that_could_not_be_read_again_is_not_made() {
    let note = parse(RECEIPT).checkpoint().clone();
    assert_eq!(Receipt::new(SIZE_MAX + 1, vec![], note.clone()), Err(ReceiptError::Index));
    let hashes = PROOF_HASHES_MAX + 1;
    assert_eq!(Receipt::new(0, vec![[0; 32]; hashes], note.clone()), Err(ReceiptError::TooMany { hashes }));
    let bytes = ENTRY_BYTES_MAX + 1;
    let receipt = Receipt::new(0, vec![], note).unwrap();
    assert_eq!(receipt.with_extra(vec![0; bytes]), Err(ReceiptError::TooLong { bytes }));
}

#[test]
fn the_largest_receipt_is_read() {
    let log = Log::new("log.example");
    let lines = |bytes: usize| log.sign(&format!("{}\n", "a".repeat(bytes)));
    let note = lines(crate::audit::tlog::note::NOTE_BYTES_MAX - lines(0).to_string().len());
    let receipt = Receipt::new(SIZE_MAX, vec![[7; 32]; PROOF_HASHES_MAX], note).unwrap();
    let receipt = receipt.with_extra(vec![7; ENTRY_BYTES_MAX]).unwrap();
    assert_eq!(Receipt::parse(receipt.to_string().as_bytes()), Ok(receipt));
}

proptest! {
    #[test]
    fn any_text_is_read_as_a_receipt_without_a_panic(
        tail in text_of("(index |extra |0|\n|\n\n|AAAA|CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=|— a AAAAAAA=\n)"),
    ) {
        for text in [tail.clone(), format!("c2sp.org/tlog-proof@v1\n{tail}"), format!("c2sp.org/tlog-proof@v1\nindex 0\n{tail}")] {
            if let Ok(receipt) = Receipt::parse(text.as_bytes()) {
                prop_assert_eq!(receipt.to_string(), text);
            }
        }
    }

    #[test]
    fn a_receipt_is_read_as_it_was_made(
        index in 0..=SIZE_MAX,
        proof in prop::collection::vec(any::<[u8; 32]>(), 0..=PROOF_HASHES_MAX),
        extra in prop::collection::vec(any::<u8>(), 0..100),
        text in "(\\PC{0,20}\n){1,5}",
    ) {
        let note: SignedNote = Log::new("log.example").sign(&text);
        let receipt = Receipt::new(index, proof, note).unwrap().with_extra(extra).unwrap();
        prop_assert_eq!(parse(&receipt.to_string()), receipt);
    }
}
