//! The tree and its texts, held against specifications, other programs, and a library (`ct-merkle`).

mod checkpoint;
mod hash;
mod nodes;
mod note;
mod proof;
mod receipt;
mod tile;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use proptest::prelude::*;

use super::{
    Cosigner, KeyKind, Signature, SignedNote, VerifierKey,
    hash::{Hash, leaf},
};

/// An entry that no other index has.
fn entry(index: u64) -> Vec<u8> {
    index.to_be_bytes().to_vec()
}

/// The leaf hashes of the first `size` of those entries.
fn leaves(size: u64) -> Vec<Hash> {
    (0..size).map(|index| leaf(&entry(index))).collect()
}

/// A log with a name and a key.
struct Log {
    name: String,
    pair: Ed25519KeyPair,
}

impl Log {
    fn new(name: &str) -> Self {
        Self::seeded(name, 1)
    }

    fn seeded(name: &str, seed: u8) -> Self {
        Self { name: name.to_owned(), pair: Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap() }
    }

    fn key(&self) -> VerifierKey {
        VerifierKey::new(&self.name, KeyKind::Ed25519, self.pair.public_key().as_ref()).unwrap()
    }

    fn signature(&self, text: &str) -> Signature {
        Signature::new(&self.key(), self.pair.sign(text.as_bytes()).as_ref())
    }

    fn sign(&self, text: &str) -> SignedNote {
        SignedNote::new(text, vec![self.signature(text)]).unwrap()
    }
}

/// The public key of [`witness_pair`].
const WITNESS_PUBLIC: Hash = [
    0x19, 0x7f, 0x6b, 0x23, 0xe1, 0x6c, 0x85, 0x32, 0xc6, 0xab, 0xc8, 0x38, 0xfa, 0xcd, 0x5e, 0xa7, 0x89, 0xbe, 0x0c,
    0x76, 0xb2, 0x92, 0x03, 0x34, 0x03, 0x9b, 0xfa, 0x8b, 0x3d, 0x36, 0x8d, 0x61,
];

fn witness_pair() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[0x2a; 32]).unwrap()
}

fn cosigner(name: &str) -> Cosigner {
    Cosigner::new(name, witness_pair()).unwrap()
}

fn witness() -> Cosigner {
    cosigner("witness.example.com/w1")
}

/// Texts of up to twelve pieces, each one that the expression describes.
fn text_of(piece: &'static str) -> impl Strategy<Value = String> {
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}
