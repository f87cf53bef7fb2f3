//! Private keys from outside, in the clear and wrapped for a KEK (`CKM_RSA_AES_KEY_WRAP`), made by other hands: they do here
//! what they do there, and what is wrong is named by its layer.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use aes_kw::KeyInit as _;
use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der},
    rsa::{
        KeySize, OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepAlgorithm, OaepPublicEncryptingKey,
        PrivateDecryptingKey, PublicEncryptingKey,
    },
};
use p256::pkcs8::EncodePrivateKey as _;
use serde_bytes::ByteBuf;
use strongroom_hsm::{
    Algorithm, KeyOps, KeyRow, KeySpec, Material, Residency, SecretBytes,
    protocol::{Fault, Generated, Layer, NewVersion, Request, Response},
};
use support::{Home, Worker, can_make, statement};

/// An RSA key of the tests' whose only operation is to bring keys in.
fn kek(worker: &mut Worker) -> KeyRow {
    let mut statement = worker.key(KeySpec::Rsa2048, Residency::Wrapped, [0xb1; 16]).statement;
    statement.ops = KeyOps::IMPORT;
    worker.sealed(statement)
}

fn import(worker: &mut Worker, wanted: NewVersion, kek: &KeyRow, blob: &[u8]) -> Result<Generated, Fault> {
    let (seal, row) = (ByteBuf::from(kek.seal), ByteBuf::from(kek.canonical.to_vec()));
    match worker.call(Request::ImportWrapped { wanted, seal, row, blob: ByteBuf::from(blob) })? {
        Response::Generated(generated) => Ok(generated),
        other => panic!("{other:?}"),
    }
}

fn import_plain(worker: &mut Worker, wanted: NewVersion, pkcs8: &[u8]) -> Result<Generated, Fault> {
    let (found, material) = Material::private(SecretBytes::new(pkcs8.to_vec())).unwrap();
    assert_eq!(found, wanted.spec);
    match worker.call(Request::Import { wanted, material })? {
        Response::Generated(generated) => Ok(generated),
        other => panic!("{other:?}"),
    }
}

/// The row of a key that came in, with all its operations.
fn row(worker: &mut Worker, wanted: NewVersion, made: Generated) -> KeyRow {
    let mut statement = statement(wanted.spec, wanted.residency, wanted.version);
    statement.blob = made.blob.into_vec();
    statement.public = made.public.into_vec();
    statement.check_value = made.check_value.into_vec();
    worker.sealed(statement)
}

/// The two parts, by AWS-LC and RustCrypto.
fn envelope(kek: &KeyRow, oaep: &'static OaepAlgorithm, aes: &[u8; 32]) -> Vec<u8> {
    let key = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(&kek.statement.public).unwrap()).unwrap();
    let mut envelope = vec![0; key.ciphertext_size()];
    key.encrypt(oaep, aes, &mut envelope, None).unwrap().to_vec()
}

fn by_kwp(aes: &[u8; 32], target: &[u8]) -> Vec<u8> {
    let mut wrapped = vec![0; target.len().next_multiple_of(8) + 8];
    aes_kw::KwpAes256::new_from_slice(aes).unwrap().wrap_key(target, &mut wrapped).unwrap().to_vec()
}

const AES: [u8; 32] = [0x42; 32];

fn wrapped(kek: &KeyRow, target: &[u8]) -> Vec<u8> {
    [envelope(kek, &OAEP_SHA1_MGF1SHA1, &AES), by_kwp(&AES, target)].concat()
}

fn scalar(bytes: usize) -> Vec<u8> {
    let mut scalar = vec![7; bytes];
    scalar[0] = 0;
    scalar
}

/// Private keys of every kind, with what aws-lc-rs or RustCrypto says that their public half is.
fn private_keys() -> Vec<(KeySpec, Vec<u8>)> {
    macro_rules! ec {
        ($spec:ident, $curve:ident) => {
            (
                KeySpec::$spec,
                $curve::SecretKey::from_slice(&scalar(KeySpec::$spec.bytes()))
                    .unwrap()
                    .to_pkcs8_der()
                    .unwrap()
                    .as_bytes()
                    .to_vec(),
            )
        };
    }
    let rsa = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
    let rsa: Pkcs8V1Der<'_> = rsa.as_der().unwrap();
    vec![(KeySpec::Rsa2048, rsa.as_ref().to_vec()), ec!(P256, p256), ec!(P384, p384), ec!(P521, p521), ec!(P256K, k256)]
}

fn public_half(pkcs8: &[u8]) -> Vec<u8> {
    Material::private(SecretBytes::new(pkcs8.to_vec())).unwrap().1.public_half().to_vec()
}

fn algorithm(spec: KeySpec) -> Algorithm {
    spec.algorithms().find(|algorithm| algorithm.signs()).unwrap()
}

/// That it signs, and its public half says so here and in another worker.
fn signs(home: &Home, hierarchy: &strongroom_hsm::protocol::Hierarchy, row: &KeyRow) {
    let mut worker = home.worker(hierarchy);
    let algorithm = algorithm(row.statement.spec);
    let digest = vec![9; algorithm.signature_digest().map_or(32, |digest| digest.bytes())];
    let signature = worker.sign(row, algorithm, &digest).unwrap();
    assert_eq!(worker.verify(row, algorithm, &digest, &signature), Ok(true), "{}", row.statement.spec.name());
}

#[test]
fn private_keys_come_in_and_are_the_same_keys() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    let mut number = 0;
    for residency in [Residency::Wrapped, Residency::Token] {
        for (spec, pkcs8) in private_keys() {
            if !can_make(spec, residency) {
                continue;
            }
            number += 1;
            let wanted = NewVersion::new(spec, residency, [number; 16]);
            let made = import_plain(&mut worker, wanted, &pkcs8).unwrap();
            assert_eq!(*made.public, *public_half(&pkcs8), "{}", spec.name());
            assert_eq!(made.check_value.len(), 32, "it is told from one that was made here");
            let row = row(&mut worker, wanted, made);
            signs(&home, &hierarchy, &row);
        }
    }
    assert!(number >= 6);
}

#[test]
fn wrapped_keys_come_in_and_are_the_same_keys() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    let kek = kek(&mut worker);
    let mut number = 0;
    for residency in [Residency::Wrapped, Residency::Token] {
        for (spec, pkcs8) in private_keys() {
            if !can_make(spec, residency) {
                continue;
            }
            number += 1;
            let wanted = NewVersion::new(spec, residency, [number; 16]);
            let made = import(&mut worker, wanted, &kek, &wrapped(&kek, &pkcs8)).unwrap();
            assert_eq!(*made.public, *public_half(&pkcs8), "{}: found from what it does", spec.name());
            let row = row(&mut worker, wanted, made);
            signs(&home, &hierarchy, &row);
        }
    }
    assert!(number >= 6);
    for (spec, bytes) in [(KeySpec::Aes128, 16), (KeySpec::Aes256, 32), (KeySpec::Hmac256, 32)] {
        let wanted = NewVersion::new(spec, Residency::Wrapped, [0xa0; 16]);
        let made = import(&mut worker, wanted, &kek, &wrapped(&kek, &vec![0x5a; bytes])).unwrap();
        let (_, material) = match spec {
            KeySpec::Hmac256 => (spec, Material::Secret(SecretBytes::new(vec![0x5a; 32]))),
            _ => Material::aes(SecretBytes::new(vec![0x5a; bytes])).unwrap(),
        };
        let Ok(Response::Generated(plain)) = worker.call(Request::Import { wanted, material }) else { panic!("plain") };
        assert_eq!(made.check_value, plain.check_value, "{}: the same key as in the clear", spec.name());
    }
}

fn layer(result: Result<Generated, Fault>) -> Layer {
    match result.unwrap_err() {
        Fault::Layer(layer) => layer,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_wrong_with_a_wrapped_key_is_named_by_its_layer() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    let kek = kek(&mut worker);
    let keys = private_keys();
    let of = |spec| &keys.iter().find(|(found, _)| *found == spec).unwrap().1;
    let (rsa, ec) = (of(KeySpec::Rsa2048), of(KeySpec::P256));
    let wanted = |spec| NewVersion::new(spec, Residency::Wrapped, [1; 16]);
    let mut tried = |spec, blob: &[u8]| layer(import(&mut worker, wanted(spec), &kek, blob));
    let right = wrapped(&kek, ec);
    // The envelope: its hash, another key's, altered.
    let sha256 = [envelope(&kek, &OAEP_SHA256_MGF1SHA256, &AES), by_kwp(&AES, ec)].concat();
    assert_eq!(tried(KeySpec::P256, &sha256), Layer::OaepHash);
    let mut altered = right.clone();
    altered[100] ^= 1;
    assert_eq!(tried(KeySpec::P256, &altered), Layer::Oaep);
    assert_eq!(tried(KeySpec::P256, &[[0xff; 256].as_slice(), &right[256..]].concat()), Layer::Oaep);
    // What is under the AES key.
    let mut altered = right.clone();
    altered[300] ^= 1;
    assert_eq!(tried(KeySpec::P256, &altered), Layer::KeyWrap);
    let other = [envelope(&kek, &OAEP_SHA1_MGF1SHA1, &AES), by_kwp(&[0x43; 32], ec)].concat();
    assert_eq!(tried(KeySpec::P256, &other), Layer::KeyWrap);
    // What is inside.
    assert_eq!(tried(KeySpec::P256, &wrapped(&kek, &ec[..ec.len() - 9])), Layer::Encoding);
    assert_eq!(tried(KeySpec::P256, &wrapped(&kek, &[0x5a; 32])), Layer::Encoding);
    assert_eq!(tried(KeySpec::P256, &wrapped(&kek, rsa)), Layer::KeyType("RSA".to_owned()));
    assert_eq!(tried(KeySpec::Rsa2048, &wrapped(&kek, ec)), Layer::KeyType("EC".to_owned()));
    assert_eq!(tried(KeySpec::P384, &right), Layer::Kind(KeySpec::P256));
    assert_eq!(tried(KeySpec::Rsa3072, &wrapped(&kek, rsa)), Layer::Bits(2048));
    // Lengths.
    for (spec, blob) in [
        (KeySpec::P256, &right[..200]),
        (KeySpec::P256, &right[..right.len() - 1]),
        (KeySpec::P256, &right[..256]),
        (KeySpec::Aes256, &right[..]),
        (KeySpec::P256, &[][..]),
        (KeySpec::P256, &[right.as_slice(), &[0; 8 * 600]].concat()[..]),
    ] {
        assert!(matches!(tried(spec, blob), Layer::Length(_)), "{} of {}", blob.len(), spec.name());
    }
    // Nothing is left behind, and the right one is right.
    import(&mut worker, wanted(KeySpec::P256), &kek, &right).unwrap();
}

#[test]
fn only_a_key_that_is_for_nothing_else_brings_keys_in() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    let kek = kek(&mut worker);
    let (spec, pkcs8) = private_keys().swap_remove(1);
    let blob = wrapped(&kek, &pkcs8);
    let mut wide = kek.statement.clone();
    wide.ops = KeyOps::IMPORT.union(KeyOps::DECRYPT);
    let wide = worker.sealed(wide);
    let wanted = NewVersion::new(spec, Residency::Wrapped, [1; 16]);
    assert_eq!(import(&mut worker, wanted, &wide, &blob).unwrap_err(), Fault::NotPermitted);
    let unsealed = KeyRow::new(wide.statement.clone(), kek.seal);
    let mut fresh = home.worker(&hierarchy);
    assert_eq!(import(&mut fresh, wanted, &unsealed, &blob).unwrap_err(), Fault::SealBroken);
    // And it does nothing else.
    assert_eq!(worker.sign(&kek, Algorithm::Rs256, &[7; 32]), Err(Fault::NotPermitted));
    let public = NewVersion::new(spec, Residency::Public, [1; 16]);
    assert_eq!(import(&mut worker, public, &kek, &blob).unwrap_err(), Fault::Protocol);
}

#[test]
fn a_private_key_whose_numbers_do_not_belong_together_is_refused() {
    let keys = private_keys();
    let (_, rsa) = &keys[0];
    // Anywhere in the private numbers; the ends are the encoding.
    for at in (300..rsa.len() - 10).step_by(97) {
        let mut altered = rsa.clone();
        altered[at] ^= 4;
        assert!(Material::private(SecretBytes::new(altered)).is_err(), "{at}");
    }
    let (_, ec) = &keys[1];
    // The public half that goes with it is another's.
    let mut altered = ec.clone();
    let last = altered.len() - 1;
    altered[last] ^= 1;
    assert!(Material::private(SecretBytes::new(altered)).is_err());
    let long = vec![0x30; 5000];
    for bad in [&b""[..], b"nonsense", &ec[..ec.len() - 1], &long] {
        assert!(Material::private(SecretBytes::new(bad.to_vec())).is_err());
    }
}

#[test]
fn the_same_holds_on_nss_softokn() {
    support::holds_on(support::Subject::NssSoftokn);
}
