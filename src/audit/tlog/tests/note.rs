//! Signed notes: those of others verify, and hostile ones are refused.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use proptest::prelude::*;

use super::{Log, text_of};
use crate::audit::tlog::{
    Cosigner, KeyError, KeyKind, NoteError, Signature, SignedNote, VerifierKey,
    cosignature::{self, TIME_MAX, TimeError},
    note::{NOTE_BYTES_MAX, SIGNATURES_MAX, signature_line},
};

/// The key of Go's checksum database, as the go command carries it.
const SUMDB: &str = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";

/// Tree heads that it has signed.
const SUMDB_HEADS: [&str; 2] = [
    "go.sum database tree\n31700353\nqINS1GRFhWHwdkUeqLEoP4yEMkTBBzxBkGwGQlVlVcs=\n\n\
     — sum.golang.org Az3grnmrIUEDFqHzAElIQCPNoRFRAAdFo47fooyWKMHb89k11GJh5zHIfNCOBmwn/C3YI8oW9/C8DJ87F61QqspBYwM=\n",
    "go.sum database tree\n65209736\n5+uGFjx6xBZG8ip1+wi77v+grwbhhukIrxEUS8PXvRo=\n\n\
     — sum.golang.org Az3grnbssgK7ubgFX36gVETtNv0U23qxyAhAMai2QUfeGa3nB/akvkMdlUErfcZz7l/R3cVtYspg3dxXABkGZZKdsQ8=\n",
];

/// The key of Sigstore's Rekor: ECDSA.
const REKOR: &str = "rekor.sigstore.dev+c0d23d6a+AjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNhtmPtrWm3U1eQXBogSMdGvXwBcK5AW\
                     5i0hrZLOC96l+smGNM7nwZ4QvFK/4sueRoVj//QP22Ni4Qt9DPfkWLc=";

/// Checkpoints that it has signed, one with an extension line.
const REKOR_CHECKPOINTS: [&str; 2] = [
    "Rekor\n798034\nf+7CoKgXKE/tNys9TTXcr/ad6U/K3xvznmzew9y6SP0=\n\n\
     — rekor.sigstore.dev wNI9ajBEAiARInWIWyCdyG27CO6LPnPekyw20qO0YJfoaPaowGp/XgIgc+qEHS3+GKVClgqq20uDLet7MCoTURUCRdxw\
     WBHHufk=\n",
    "rekor.sigstore.dev - 2605736670972794746\n21428036\nrxnoKyFZlJ7/R6bMh/d3lcqwKqAy5CL1LcNBJP17kgQ=\n\
     Timestamp: 1688058656037355364\n\n\
     — rekor.sigstore.dev wNI9ajBFAiEAuDk7uu5Ae8Own/MjhSZNuVzbLuYH2jBMxbSA0WaNDNACIDV4reKpYiOpkwtvazCClnpUuduF2o/th2xR\
     3gRZAUU4\n",
];

fn parse(note: &str) -> SignedNote {
    SignedNote::parse(note.as_bytes()).unwrap()
}

fn key(vkey: &str) -> VerifierKey {
    vkey.parse().unwrap()
}

#[test]
fn what_others_have_signed_is_verified() {
    let notes = SUMDB_HEADS.map(|note| (SUMDB, note)).into_iter().chain(REKOR_CHECKPOINTS.map(|note| (REKOR, note)));
    for (vkey, note) in notes {
        let keys = [key(vkey)];
        let parsed = parse(note);
        assert_eq!(parsed.to_string(), note);
        let signers = parsed.verify(&keys).unwrap();
        assert_eq!((signers.len(), signers[0].key, signers[0].time), (1, &keys[0], None));

        let forged = note.replacen('3', "4", 1);
        assert!(matches!(parse(&forged).verify(&keys), Err(NoteError::Forged { .. })), "{forged}");
    }
}

#[test]
fn a_verifier_key_is_written_as_it_was_read() {
    for (vkey, name, kind) in
        [(SUMDB, "sum.golang.org", KeyKind::Ed25519), (REKOR, "rekor.sigstore.dev", KeyKind::EcdsaP256)]
    {
        let key = key(vkey);
        assert_eq!((key.to_string().as_str(), key.name(), key.kind()), (vkey, name, kind));
    }
}

#[test]
fn a_mangled_verifier_key_is_refused() {
    // The ID of an ECDSA key does not cover its name.
    for (vkey, covered) in [(SUMDB, 0), (REKOR, REKOR.find('+').unwrap())] {
        for end in 0..vkey.len() {
            assert!(vkey[..end].parse::<VerifierKey>().is_err(), "{}", &vkey[..end]);
        }
        for at in covered..vkey.len() {
            assert!(at == 0 || vkey[at..].parse::<VerifierKey>().is_err(), "{}", &vkey[at..]);
            let mut bytes = vkey.as_bytes().to_vec();
            bytes[at] += 1;
            let mangled = String::from_utf8(bytes).unwrap();
            assert!(mangled.parse::<VerifierKey>().is_err(), "{mangled}");
        }
    }
}

#[test]
fn what_is_wrong_with_a_verifier_key_is_said() {
    let key = "Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";
    for (vkey, error) in [
        ("".to_owned(), KeyError::Form),
        (format!("sum.golang.org+033de0ae{key}"), KeyError::Form),
        (format!("sum.golang.org+033DE0AE+{key}"), KeyError::Form),
        (format!("sum.golang.org+33de0ae+{key}"), KeyError::Form),
        (format!("sum.golang.org+00033de0ae+{key}"), KeyError::Form),
        (format!("sum.golang.org+033de0ae+{key}\n"), KeyError::Form),
        ("sum.golang.org+033de0ae+".to_owned(), KeyError::Form),
        (format!("sum.golang.org+033de0af+{key}"), KeyError::Id),
        (format!("sum.example.org+033de0ae+{key}"), KeyError::Id),
        (format!("+033de0ae+{key}"), KeyError::Name),
        (format!("sum golang+033de0ae+{key}"), KeyError::Name),
        (format!("sum\u{2003}golang+033de0ae+{key}"), KeyError::Name),
        (format!("sum\u{7}golang+033de0ae+{key}"), KeyError::Name),
        ("sum.golang.org+033de0ae+Bc4z".to_owned(), KeyError::Kind(5)),
        ("sum.golang.org+033de0ae+Ac4z".to_owned(), KeyError::Public),
    ] {
        assert_eq!(vkey.parse::<VerifierKey>(), Err(error), "{vkey:?}");
    }
}

#[test]
fn a_key_is_made_from_what_the_token_says_of_it() {
    let spki = base16ct::lower::decode_vec(
        "302a300506032b6570032100197f6b23e16c8532c6abc838facd5ea789be0c76b2920334039bfa8b3d368d61",
    );
    let ed25519 = VerifierKey::from_spki("log.example", &spki.unwrap()).unwrap();
    assert_eq!(ed25519, VerifierKey::new("log.example", KeyKind::Ed25519, &super::WITNESS_PUBLIC).unwrap());

    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let p256 = VerifierKey::from_spki("log.example", &p256(pair.public_key().as_ref())).unwrap();
    assert_eq!(p256.kind(), KeyKind::EcdsaP256);
    assert_eq!(p256.to_string().parse::<VerifierKey>(), Ok(p256.clone()));
    let signed = pair.sign(&SystemRandom::new(), b"text\n").unwrap();
    let note = SignedNote::new("text\n", vec![Signature::new(&p256, signed.as_ref())]).unwrap();
    assert_eq!(note.verify(&[p256]).unwrap().len(), 1);
}

/// The SubjectPublicKeyInfo of an uncompressed point on P-256.
fn p256(point: &[u8]) -> Vec<u8> {
    let head = base16ct::lower::decode_vec("3059301306072a8648ce3d020106082a8648ce3d030107034200").unwrap();
    [head.as_slice(), point].concat()
}

#[test]
fn what_is_no_key_of_a_log_is_refused() {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let good = p256(pair.public_key().as_ref());
    let mut off_curve = good.clone();
    *off_curve.last_mut().unwrap() ^= 1;
    let k256 = pkcs8::EncodePublicKey::to_public_key_der(&k256::PublicKey::from_secret_scalar(
        &k256::SecretKey::from_slice(&[7; 32]).unwrap().to_nonzero_scalar(),
    ));
    let cut = good[..good.len() - 1].to_vec();
    let longer = [good.as_slice(), &[0]].concat();
    for der in [vec![], off_curve, k256.unwrap().as_bytes().to_vec(), cut, longer] {
        assert_eq!(VerifierKey::from_spki("log.example", &der), Err(KeyError::Public));
    }
    assert_eq!(VerifierKey::from_spki("log example", &good), Err(KeyError::Name));
}

#[test]
fn a_text_may_have_empty_lines() {
    let log = Log::new("log.example");
    for text in ["a\n", "a\n\nb\n", "\na\n", "a\n\n", "\n", "— a b\n\n— c ZGVmZ2g=\n"] {
        let note = log.sign(text);
        let read = parse(&note.to_string());
        assert_eq!((read.text(), read.verify(&[log.key()]).unwrap().len()), (text, 1), "{text:?}");
    }
}

#[test]
fn a_hostile_note_is_refused() {
    let line = "— log.example AAAAAAA=\n";
    for (note, error) in [
        (String::new(), NoteError::Form),
        ("text\n".to_owned(), NoteError::Form),
        (format!("text\n{line}"), NoteError::Form),
        (format!("\n{line}"), NoteError::Form),
        ("text\n\n".to_owned(), NoteError::Form),
        (format!("text\n\n{}", line.trim_end()), NoteError::Form),
        (format!("text\n\n{line}\n"), NoteError::Form),
        (format!("text\n\n{line}\n\n"), NoteError::Form),
        (format!("text\n\n{line}text\n"), NoteError::Signature { line: 2 }),
        (format!("text\r\n\r\n{line}"), NoteError::Characters),
        (format!("te\rxt\n\n{line}"), NoteError::Characters),
        (format!("te\txt\n\n{line}"), NoteError::Characters),
        (format!("te\0xt\n\n{line}"), NoteError::Characters),
        (format!("te\u{1b}[2Jxt\n\n{line}"), NoteError::Characters),
        ("text\n\n- log.example AAAAAAA=\n".to_owned(), NoteError::Signature { line: 1 }),
        ("text\n\n—log.example AAAAAAA=\n".to_owned(), NoteError::Signature { line: 1 }),
        ("text\n\n— log.example  AAAAAAA=\n".to_owned(), NoteError::Signature { line: 1 }),
        ("text\n\n—  AAAAAAA=\n".to_owned(), NoteError::Signature { line: 1 }),
        ("text\n\n— log+example AAAAAAA=\n".to_owned(), NoteError::Signature { line: 1 }),
        ("text\n\n— log\u{a0}example AAAAAAA=\n".to_owned(), NoteError::Signature { line: 1 }),
        ("text\n\n— log.example AAAAAA==\n".to_owned(), NoteError::Signature { line: 1 }),
        ("text\n\n— log.example AAAAAAA\n".to_owned(), NoteError::Signature { line: 1 }),
        ("text\n\n— log.example AAAAAAB=\n".to_owned(), NoteError::Signature { line: 1 }),
        ("text\n\n— log.example AAAAAAA= \n".to_owned(), NoteError::Signature { line: 1 }),
        (format!("text\n\n{}", line.repeat(SIGNATURES_MAX + 1)), NoteError::TooMany { signatures: 65 }),
        ("\n".repeat(NOTE_BYTES_MAX + 1), NoteError::TooLong { bytes: 65_537 }),
    ] {
        assert_eq!(SignedNote::parse(note.as_bytes()), Err(error), "{note:?}");
    }
    assert_eq!(SignedNote::parse(b"te\xffxt\n\n"), Err(NoteError::Characters));
    parse(&format!("text\n\n{}", line.repeat(SIGNATURES_MAX)));
}

#[test]
fn a_note_that_could_not_be_read_again_is_not_made() {
    let log = Log::new("log.example");
    let signature = Signature::new(&log.key(), &[1]);
    for text in ["", "no newline"] {
        assert_eq!(SignedNote::new(text, vec![signature.clone()]), Err(NoteError::Form), "{text:?}");
    }
    assert_eq!(SignedNote::new("a\rb\n", vec![signature.clone()]), Err(NoteError::Characters));
    assert_eq!(SignedNote::new("text\n", vec![]), Err(NoteError::Form));
    assert_eq!(SignedNote::new("text\n", vec![Signature::new(&log.key(), &[])]), Err(NoteError::Signature { line: 1 }));
    let mut full = SignedNote::new("text\n", vec![signature.clone(); SIGNATURES_MAX]).unwrap();
    let before = full.clone();
    assert_eq!(full.push(signature), Err(NoteError::TooMany { signatures: 65 }));
    assert_eq!(full, before);
}

#[test]
fn strangers_are_ignored_even_under_a_known_name_or_id() {
    let (log, namesake, stranger) = (Log::new("log.example"), Log::seeded("log.example", 2), Log::new("other.example"));
    let mut note = log.sign("text\n");
    note.push(namesake.signature("text\n")).unwrap();
    note.push(stranger.signature("text\n")).unwrap();
    // The known ID under another name.
    let borrowed = note.signatures()[0].to_string().replace("log.example", "lag.example");
    let note = parse(&format!("{note}{borrowed}"));
    let keys = [log.key()];
    let signers = note.verify(&keys).unwrap();
    assert_eq!(signers.iter().map(|signer| signer.key).collect::<Vec<_>>(), [&keys[0]]);
    assert_eq!(note.verify(&[Log::new("third.example").key()]), Err(NoteError::Unsigned));
    assert_eq!(note.verify(&[]), Err(NoteError::Unsigned));
}

#[test]
fn a_bad_signature_of_a_known_key_spoils_the_note() {
    let (log, other) = (Log::new("log.example"), Log::new("other.example"));
    let keys = [log.key(), other.key()];
    let mut note = log.sign("text\n");
    note.push(other.signature("another text\n")).unwrap();
    assert_eq!(note.verify(&keys), Err(NoteError::Forged { name: "other.example".to_owned() }));
    assert_eq!(note.verify(&keys[..1]).unwrap().len(), 1);
    // Also as the second of the same key, behind a good one.
    let mut note = log.sign("text\n");
    note.push(log.signature("another text\n")).unwrap();
    assert_eq!(note.verify(&keys), Err(NoteError::Forged { name: "log.example".to_owned() }));
}

#[test]
fn a_key_that_signs_twice_counts_once() {
    let (log, witness) = (Log::new("log.example"), super::witness());
    let mut note = log.sign("text\n");
    for time in [20, 30, 10] {
        note.push(log.signature("text\n")).unwrap();
        note.push(witness.cosign("text\n", time).unwrap()).unwrap();
    }
    let keys = [witness.key().clone(), log.key()];
    let signers = note.verify(&keys).unwrap();
    let signers: Vec<_> = signers.iter().map(|signer| (signer.key.name(), signer.time)).collect();
    assert_eq!(signers, [("witness.example.com/w1", Some(30)), ("log.example", None)]);
}

/// The checkpoint of the specification's example, cosigned by another implementation with the seed of 32 times 0x2a.
#[test]
fn a_cosignature_is_made_as_others_make_it() {
    let text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
    let message = format!("cosignature/v1\ntime 1679315147\n{text}");
    assert_eq!(cosignature::message(1_679_315_147, text), message.as_bytes());
    let witness = super::witness();
    assert_eq!(
        witness.key().to_string(),
        "witness.example.com/w1+b2b3731c+BBl/ayPhbIUyxqvIOPrNXqeJvgx2spIDNAOb+os9No1h"
    );
    assert_eq!(
        witness.cosign(text, 1_679_315_147).unwrap().to_string(),
        "— witness.example.com/w1 srNzHAAAAABkGFDLO3QHuVkoSLXBTFXEZirSXMcqft7KH9IJ/9dNoJmEuYKyHYdwR8Hl82lSBc3HRuL0pix1dL\
         kwMzmSzwYLULbTBA==\n"
    );
}

#[test]
fn a_cosignature_holds_for_its_time_and_text_alone() {
    let witness = super::witness();
    let text = "log.example\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
    let keys = [witness.key().clone()];
    let signature = witness.cosign(text, 1_700_000_000).unwrap();
    let note = SignedNote::new(text, vec![signature.clone()]).unwrap();
    assert_eq!(note.verify(&keys).unwrap()[0].time, Some(1_700_000_000));

    let forged = Err(NoteError::Forged { name: "witness.example.com/w1".to_owned() });
    assert_eq!(SignedNote::new(&format!("{text}more\n"), vec![signature.clone()]).unwrap().verify(&keys), forged);
    for at in 0..72 {
        let mut raw = signature.raw().to_vec();
        raw[at] ^= 1;
        let note = SignedNote::new(text, vec![Signature::new(&keys[0], &raw)]).unwrap();
        assert_eq!(note.verify(&keys), forged, "byte {at}");
    }
    for cut in [1, 7, 8, 9, 71] {
        let note = SignedNote::new(text, vec![Signature::new(&keys[0], &signature.raw()[..cut])]).unwrap();
        assert_eq!(note.verify(&keys), forged, "{cut} bytes");
    }
}

#[test]
fn a_cosignature_has_no_time_beyond_63_bits() {
    let witness = super::witness();
    assert_eq!(witness.cosign("text\n", TIME_MAX + 1), Err(TimeError(1 << 63)));
    let late = witness.cosign("text\n", TIME_MAX).unwrap();
    let note = SignedNote::new("text\n", vec![late]).unwrap();
    assert_eq!(note.verify(&[witness.key().clone()]).unwrap()[0].time, Some(TIME_MAX));
    let signed = super::witness_pair().sign(&cosignature::message(1 << 63, "text\n"));
    let raw = [&(1_u64 << 63).to_be_bytes(), signed.as_ref()].concat();
    let note = SignedNote::new("text\n", vec![Signature::new(witness.key(), &raw)]).unwrap();
    assert!(matches!(note.verify(&[witness.key().clone()]), Err(NoteError::Forged { .. })));
}

#[test]
fn a_witness_has_a_name_that_notes_can_carry() {
    for name in ["", "two words", "a+b", "line\n"] {
        assert_eq!(Cosigner::new(name, super::witness_pair()).err(), Some(KeyError::Name), "{name:?}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_as_a_note_without_a_panic(text in text_of("(— a |— |\\PC|AAAAAAA=|[A-Za-z0-9+/=]{0,9}|\n|\n\n)")) {
        if let Ok(note) = SignedNote::parse(text.as_bytes()) {
            prop_assert_eq!(note.to_string(), text);
        }
    }

    #[test]
    fn any_bytes_are_read_as_a_note_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = SignedNote::parse(&bytes);
    }

    #[test]
    fn any_text_is_read_as_a_key_without_a_panic(text in "[a-z]{0,3}[+]?[0-9a-f]{0,9}[+]?[A-Za-z0-9+/=]{0,50}") {
        if let Ok(key) = text.parse::<VerifierKey>() {
            prop_assert_eq!(key.to_string(), text);
        }
    }

    #[test]
    fn a_note_is_read_as_it_was_made(
        text in "(\\PC{0,20}\n){1,5}",
        signed in prop::collection::vec(("[^\\s+\\p{C}]{1,20}", prop::collection::vec(any::<u8>(), 1..80)), 1..6),
    ) {
        let signatures: Vec<_> = signed.iter().map(|(name, raw)| Signature::new(&Log::new(name).key(), raw)).collect();
        let lines: String = signed.iter().map(|(name, raw)| signature_line(&Log::new(name).key(), raw)).collect();
        let note = SignedNote::new(&text, signatures).unwrap();
        prop_assert_eq!(note.to_string(), format!("{text}\n{lines}"));
        prop_assert_eq!(parse(&note.to_string()), note);
    }
}
