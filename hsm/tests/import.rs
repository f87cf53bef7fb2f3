//! Keys from outside: secrets arrive whole and leave nothing, public halves do what needs no private one,
//! and neither takes another key's place. Data keys.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use aes_gcm::KeyInit as _;
use aws_lc_rs::{
    aead::{AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    encoding::{AsDer as _, PublicKeyX509Der},
    rsa::{KeySize, OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey},
};
use cryptoki::object::{Attribute, KeyType, ObjectClass};
use hmac::{Hmac, Mac as _};
use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use p256::pkcs8::EncodePublicKey as _;
use serde_bytes::ByteBuf;
use strongroom_hsm::{
    Algorithm, KeyOps, KeyRow, KeySpec, Material, Residency, SecretBytes,
    algorithms::DATA_KEY_BYTES,
    protocol::{BIRTH, DataKeyForm, Fault, Generated, NewVersion, Operation, Output, Request, Response},
};
use support::{Home, Sealed, Subject, Worker, attack, can, can_make, statement, unhex};

const AES: [(KeySpec, Algorithm, Algorithm, usize); 3] = [
    (KeySpec::Aes128, Algorithm::A128Gcm, Algorithm::A128Kw, 16),
    (KeySpec::Aes192, Algorithm::A192Gcm, Algorithm::A192Kw, 24),
    (KeySpec::Aes256, Algorithm::A256Gcm, Algorithm::A256Kw, 32),
];

fn secret(length: usize) -> Vec<u8> {
    (0..length).map(|i| i as u8 ^ 0x5c).collect()
}

fn import(
    worker: &mut Worker,
    spec: KeySpec,
    residency: Residency,
    version: [u8; 16],
    material: Material,
) -> Result<Generated, Fault> {
    match worker.call(Request::Import { wanted: NewVersion::new(spec, residency, version), material })? {
        Response::Generated(generated) => Ok(generated),
        other => panic!("{other:?}"),
    }
}

/// The row of an imported key with all its operations, sealed.
fn imported(worker: &mut Worker, spec: KeySpec, residency: Residency, version: [u8; 16], material: Material) -> KeyRow {
    let generated = import(worker, spec, residency, version, material).unwrap();
    let mut statement = statement(spec, residency, version);
    statement.ops = residency.possible_ops(spec);
    statement.blob = generated.blob.into_vec();
    statement.public = generated.public.into_vec();
    statement.check_value = generated.check_value.into_vec();
    worker.sealed(statement)
}

fn imported_secret(worker: &mut Worker, spec: KeySpec, residency: Residency, version: u8, bytes: &[u8]) -> KeyRow {
    imported(worker, spec, residency, [version; 16], Material::Secret(SecretBytes::new(bytes.to_vec())))
}

fn imported_public(worker: &mut Worker, spec: KeySpec, version: u8, spki: &[u8]) -> KeyRow {
    let (found, material) = Material::public(spki).unwrap();
    assert_eq!(found, spec);
    imported(worker, spec, Residency::Public, [version; 16], material)
}

/// AES-GCM by aws-lc-rs: what a ciphertext of ours decrypts to.
fn gcm_opened_elsewhere(key: &[u8], sealed: &Sealed, aad: &[u8]) -> Vec<u8> {
    let algorithm = match key.len() {
        16 => &AES_128_GCM,
        24 => &AES_192_GCM,
        _ => &AES_256_GCM,
    };
    let key = LessSafeKey::new(UnboundKey::new(algorithm, key).unwrap());
    let nonce = Nonce::try_assume_unique_for_key(&sealed.iv).unwrap();
    let mut joined = [sealed.ciphertext.as_slice(), &sealed.tag].concat();
    key.open_in_place(nonce, Aad::from(aad), &mut joined).unwrap().to_vec()
}

fn kw_elsewhere(key: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; plaintext.len() + 8];
    match key.len() {
        16 => aes_kw::KwAes128::new_from_slice(key).unwrap().wrap_key(plaintext, &mut buffer),
        24 => aes_kw::KwAes192::new_from_slice(key).unwrap().wrap_key(plaintext, &mut buffer),
        _ => aes_kw::KwAes256::new_from_slice(key).unwrap().wrap_key(plaintext, &mut buffer),
    }
    .unwrap()
    .to_vec()
}

#[test]
fn an_imported_aes_key_is_the_one_that_was_sent_in_both_residencies() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    for residency in [Residency::Wrapped, Residency::Token] {
        for (spec, gcm, kw, length) in AES {
            let key = secret(length);
            let row = imported_secret(&mut worker, spec, residency, length as u8, &key);
            assert_eq!(row.statement.blob.is_empty(), residency == Residency::Token);
            let sealed = worker.encrypt(&row, gcm, KeyOps::ENCRYPT, b"a message", b"aad").unwrap();
            assert_eq!(gcm_opened_elsewhere(&key, &sealed, b"aad"), b"a message");
            let wrapped = worker.encrypt(&row, kw, KeyOps::WRAP_KEY, &[7; 32], b"").unwrap();
            assert_eq!(wrapped.ciphertext, kw_elsewhere(&key, &[7; 32]));
            // Another worker has never seen it.
            let mut other = home.worker(&hierarchy);
            assert_eq!(other.decrypt(&row, gcm, KeyOps::DECRYPT, &sealed, b"aad"), Ok(b"a message".to_vec()));
        }
    }
}

/// HMAC by RustCrypto.
fn mac_elsewhere(algorithm: Algorithm, key: &[u8], message: &[u8]) -> Vec<u8> {
    macro_rules! by {
        ($hash:ty) => {{
            let mut mac = Hmac::<$hash>::new_from_slice(key).unwrap();
            mac.update(message);
            mac.finalize().into_bytes().to_vec()
        }};
    }
    match algorithm {
        Algorithm::Hs256 => by!(sha2::Sha256),
        Algorithm::Hs384 => by!(sha2::Sha384),
        _ => by!(sha2::Sha512),
    }
}

#[test]
fn an_imported_hmac_key_makes_the_macs_of_the_unpadded_one() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    for residency in [Residency::Wrapped, Residency::Token] {
        for length in [1, 20, 32, 63, 64] {
            let key = secret(length);
            let (spec, material) = Material::hmac(SecretBytes::new(key.clone())).unwrap();
            let row = imported(&mut worker, spec, residency, [length as u8; 16], material);
            for algorithm in [Algorithm::Hs256, Algorithm::Hs384, Algorithm::Hs512] {
                let mac = mac_elsewhere(algorithm, &key, b"a message");
                let name = format!("{} {length} {}", algorithm.name(), residency.name());
                assert_eq!(worker.sign(&row, algorithm, b"a message"), Ok(mac.clone()), "{name}");
                assert_eq!(worker.verify(&row, algorithm, b"a message", &mac), Ok(true), "{name}");
                assert_eq!(worker.verify(&row, algorithm, b"another", &mac), Ok(false), "{name}");
            }
            let mut verifies = row.statement.clone();
            verifies.ops = KeyOps::VERIFY;
            let verifies = worker.sealed(verifies);
            let mac = mac_elsewhere(Algorithm::Hs256, &key, b"a message");
            assert_eq!(worker.verify(&verifies, Algorithm::Hs256, b"a message", &mac), Ok(true));
            assert_eq!(worker.sign(&verifies, Algorithm::Hs256, b"a message"), Err(Fault::NotPermitted));
        }
    }
}

#[test]
fn imported_keys_narrowed_to_each_operation_load_and_work() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    let whole = imported_secret(&mut worker, KeySpec::Aes256, Residency::Wrapped, 1, &secret(32));
    let mut with = |ops: KeyOps| {
        let mut narrowed = whole.statement.clone();
        narrowed.ops = ops;
        worker.sealed(narrowed)
    };
    let (encrypts, decrypts) = (with(KeyOps::ENCRYPT), with(KeyOps::DECRYPT));
    let (wraps, unwraps) = (with(KeyOps::WRAP_KEY), with(KeyOps::UNWRAP_KEY));
    let sealed = worker.encrypt(&encrypts, Algorithm::A256Gcm, KeyOps::ENCRYPT, b"data", b"").unwrap();
    assert_eq!(worker.decrypt(&decrypts, Algorithm::A256Gcm, KeyOps::DECRYPT, &sealed, b""), Ok(b"data".to_vec()));
    let sealed = worker.encrypt(&wraps, Algorithm::A256Kw, KeyOps::WRAP_KEY, &[5; 32], b"").unwrap();
    assert_eq!(worker.decrypt(&unwraps, Algorithm::A256Kw, KeyOps::UNWRAP_KEY, &sealed, b""), Ok(vec![5; 32]));
}

#[test]
fn a_check_value_tells_nothing_without_the_hsm_and_tells_keys_apart() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    let one = imported_secret(&mut worker, KeySpec::Aes256, Residency::Wrapped, 1, &[1; 32]);
    let two = imported_secret(&mut worker, KeySpec::Aes256, Residency::Wrapped, 2, &[2; 32]);
    let again = imported_secret(&mut worker, KeySpec::Aes256, Residency::Wrapped, 3, &[1; 32]);
    assert_eq!(one.statement.check_value.len(), 32);
    assert_eq!(one.statement.check_value, again.statement.check_value);
    // Under another sealing key the same secret has another one: nobody can make it who has not that key.
    let (elsewhere, other) = Home::new();
    let foreign = imported_secret(&mut elsewhere.worker(&other), KeySpec::Aes256, Residency::Wrapped, 1, &[1; 32]);
    assert_ne!(one.statement.check_value, foreign.statement.check_value);
    let mut swapped = one.statement.clone();
    swapped.blob.clone_from(&two.statement.blob);
    let swapped = worker.sealed(swapped);
    let refused = worker.encrypt(&swapped, Algorithm::A256Gcm, KeyOps::ENCRYPT, b"x", b"");
    assert_eq!(refused, Err(Fault::KeyMismatch));
}

#[test]
fn a_key_put_in_the_place_of_an_imported_one_is_refused() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    let row = imported_secret(&mut worker, KeySpec::Aes256, Residency::Token, 0xab, &secret(32));
    assert!(worker.encrypt(&row, Algorithm::A256Gcm, KeyOps::ENCRYPT, b"x", b"").is_ok());
    // A generated key's row does not believe in a key that was not born here, whatever its check value.
    let mut born = row.statement.clone();
    born.check_value.truncate(3);
    let born = worker.sealed(born);
    let refused = worker.encrypt(&born, Algorithm::A256Gcm, KeyOps::ENCRYPT, b"x", b"");
    if can(BIRTH) {
        assert_eq!(refused, Err(Fault::KeyMismatch));
    } else {
        assert!(matches!(refused, Err(Fault::Unsupported(_))), "{refused:?}");
    }
    drop(worker);
    assert_eq!(home.run_child("child_replaces_a_token_key", &[("VERSION", &"ab".repeat(16))]), ["replaced"]);
    let mut worker = home.worker(&hierarchy);
    let refused = worker.encrypt(&row, Algorithm::A256Gcm, KeyOps::ENCRYPT, b"x", b"");
    assert_eq!(refused, Err(Fault::KeyMismatch));
}

/// In a process of its own, with the PIN: puts a known key in the place of a token key.
#[test]
#[ignore = "run by other tests, in a process that loads the module"]
fn child_replaces_a_token_key() {
    let session = attack::log_in();
    let version = unhex(&std::env::var("VERSION").unwrap());
    for object in session.find_objects(&[Attribute::Id(version.clone())]).unwrap() {
        session.destroy_object(object).unwrap();
    }
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Value(vec![0x11; 32]),
        Attribute::Id(version),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
    ];
    session.create_object(&template).unwrap();
    support::answer("replaced");
}

#[test]
fn a_version_on_the_token_is_not_taken_by_an_import() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    let kept = imported_secret(&mut worker, KeySpec::Aes256, Residency::Token, 7, &secret(32));
    let material = Material::Secret(SecretBytes::new(vec![1; 32]));
    assert_eq!(import(&mut worker, KeySpec::Aes256, Residency::Token, [7; 16], material), Err(Fault::Protocol));
    assert!(worker.encrypt(&kept, Algorithm::A256Gcm, KeyOps::ENCRYPT, b"x", b"").is_ok());
}

#[test]
fn imports_leave_nothing_on_the_token_but_what_is_to_live_there() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    imported_secret(&mut worker, KeySpec::Aes256, Residency::Wrapped, 1, &secret(32));
    let key = p256::ecdsa::SigningKey::from_slice(&[0x11; 32]).unwrap();
    let spki = key.verifying_key().to_public_key_der().unwrap().into_vec();
    imported_public(&mut worker, KeySpec::P256, 2, &spki);
    // Root, canary, and the two halves of the log key.
    assert_eq!(home.run_child("child_counts_objects", &[]), ["4"]);
    imported_secret(&mut worker, KeySpec::Aes256, Residency::Token, 3, &secret(32));
    assert_eq!(home.run_child("child_counts_objects", &[]), ["5"]);
    assert!(matches!(worker.call(Request::DestroyToken { version: [3; 16] }), Ok(Response::Done)));
    assert_eq!(home.run_child("child_counts_objects", &[]), ["4"]);
}

/// In a process of its own, with the PIN: counts what is on the token.
#[test]
#[ignore = "run by other tests, in a process that loads the module"]
fn child_counts_objects() {
    support::answer(&attack::log_in().find_objects(&[]).unwrap().len().to_string());
}

#[test]
fn material_that_does_not_fit_is_refused_by_the_worker_too() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    let secret = |length: usize| Material::Secret(SecretBytes::new(vec![1; length]));
    let spki = p256::ecdsa::SigningKey::from_slice(&[0x11; 32]).unwrap();
    let spki = spki.verifying_key().to_public_key_der().unwrap().into_vec();
    let public = |bytes: &[u8]| Material::Public(ByteBuf::from(bytes));
    let mut off = spki.clone();
    *off.last_mut().unwrap() ^= 1;
    for (spec, residency, material) in [
        (KeySpec::Aes256, Residency::Wrapped, secret(31)),
        (KeySpec::Aes256, Residency::Wrapped, secret(0)),
        (KeySpec::Aes128, Residency::Token, secret(32)),
        // An HMAC key comes padded, and is no AES key.
        (KeySpec::Hmac512, Residency::Wrapped, secret(32)),
        (KeySpec::Aes256, Residency::Wrapped, secret(64)),
        (KeySpec::P256, Residency::Wrapped, secret(32)),
        (KeySpec::Aes256, Residency::Public, secret(32)),
        (KeySpec::P256, Residency::Wrapped, public(&spki)),
        (KeySpec::P256, Residency::Token, public(&spki)),
        (KeySpec::P256K, Residency::Public, public(&spki)),
        (KeySpec::Rsa2048, Residency::Public, public(&spki)),
        (KeySpec::P256, Residency::Public, public(&off)),
        (KeySpec::P256, Residency::Public, public(b"")),
    ] {
        let shown = format!("{} {} {material:?}", spec.name(), residency.name());
        assert_eq!(import(&mut worker, spec, residency, [1; 16], material), Err(Fault::Protocol), "{shown}");
    }
    assert_eq!(worker.generate(KeySpec::P256, Residency::Public, [1; 16]), Err(Fault::Protocol));
}

#[test]
fn public_halves_verify_what_was_signed_elsewhere() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    macro_rules! with {
        ($curve:ident, $spec:expr, $algorithm:expr) => {
            if can_make($spec, Residency::Wrapped) {
                let mut secret = vec![0x11; $spec.bytes()];
                secret[0] = 0;
                let key = $curve::ecdsa::SigningKey::from_slice(&secret).unwrap();
                let spki = key.verifying_key().to_public_key_der().unwrap().into_vec();
                let digest = vec![0x42; $algorithm.signature_digest().unwrap().bytes()];
                let signature: $curve::ecdsa::Signature = key.sign_prehash(&digest).unwrap();
                let row = imported_public(&mut worker, $spec, 1, &spki);
                assert!(row.statement.blob.is_empty() && row.statement.check_value.is_empty());
                assert_eq!(row.statement.public, spki);
                assert_eq!(worker.verify(&row, $algorithm, &digest, &signature.to_bytes()), Ok(true));
                assert_eq!(
                    worker.verify(&row, $algorithm, &vec![0x43; digest.len()], &signature.to_bytes()),
                    Ok(false)
                );
                assert_eq!(worker.sign(&row, $algorithm, &digest), Err(Fault::NotPermitted));
            }
        };
    }
    with!(p256, KeySpec::P256, Algorithm::Es256);
    with!(p384, KeySpec::P384, Algorithm::Es384);
    with!(p521, KeySpec::P521, Algorithm::Es512);
    with!(k256, KeySpec::P256K, Algorithm::Es256K);
}

#[test]
fn an_ed25519_public_half_verifies() {
    use ed25519_dalek::Signer as _;
    if !can_make(KeySpec::Ed25519, Residency::Token) {
        return;
    }
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    let key = ed25519_dalek::SigningKey::from_bytes(&[0x11; 32]);
    let spki = key.verifying_key().to_public_key_der().unwrap().into_vec();
    let row = imported_public(&mut worker, KeySpec::Ed25519, 1, &spki);
    let signature = key.sign(b"from elsewhere").to_bytes();
    assert_eq!(worker.verify(&row, Algorithm::EdDsa, b"from elsewhere", &signature), Ok(true));
    assert_eq!(worker.verify(&row, Algorithm::EdDsa, b"from nowhere", &signature), Ok(false));
    assert_eq!(worker.sign(&row, Algorithm::EdDsa, b"from here"), Err(Fault::NotPermitted));
}

#[test]
fn public_halves_encrypt_and_wrap_for_others() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    let private = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
    let spki: PublicKeyX509Der<'_> = private.public_key().as_der().unwrap();
    let row = imported_public(&mut worker, KeySpec::Rsa2048, 1, spki.as_ref());
    let private = OaepPrivateDecryptingKey::new(private).unwrap();
    let opened = |ciphertext: &[u8], oaep| {
        let mut buffer = vec![0; private.min_output_size()];
        private.decrypt(oaep, ciphertext, &mut buffer, None).unwrap().to_vec()
    };
    for (algorithm, oaep) in
        [(Algorithm::RsaOaep, &OAEP_SHA1_MGF1SHA1), (Algorithm::RsaOaep256, &OAEP_SHA256_MGF1SHA256)]
    {
        for purpose in [KeyOps::ENCRYPT, KeyOps::WRAP_KEY] {
            let sealed = worker.encrypt(&row, algorithm, purpose, b"for you", b"").unwrap();
            assert_eq!(opened(&sealed.ciphertext, oaep), b"for you");
        }
        // A data key for somebody who is not here.
        let (key, sealed) = data_key(&mut worker, &row, algorithm, 32, b"").unwrap();
        assert_eq!(opened(&sealed.ciphertext, oaep), key);
        let sealed = Sealed { ciphertext: vec![1; 256], iv: Vec::new(), tag: Vec::new() };
        for purpose in [KeyOps::DECRYPT, KeyOps::UNWRAP_KEY] {
            assert_eq!(worker.decrypt(&row, algorithm, purpose, &sealed, b""), Err(Fault::NotPermitted));
        }
    }
}

#[test]
fn a_public_half_never_becomes_a_private_key() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    // A pair on the token, and a row that says of the same version: its public half only, and all operations.
    let pair = worker.key(KeySpec::P256, Residency::Token, [7; 16]);
    let mut public = pair.statement.clone();
    public.residency = Residency::Public;
    let public = worker.sealed(public);
    let signature = worker.sign(&pair, Algorithm::Es256, &[7; 32]).unwrap();
    assert_eq!(worker.verify(&public, Algorithm::Es256, &[7; 32], &signature), Ok(true));
    assert_eq!(worker.sign(&public, Algorithm::Es256, &[7; 32]), Err(Fault::NotPermitted));
    // Loading it beforehand loads the public half.
    let (seal, row) = (ByteBuf::from(public.seal), ByteBuf::from(public.canonical.to_vec()));
    assert!(matches!(worker.call(Request::Load { seal, row }), Ok(Response::Done)));
    // Nor is a blob in such a row opened.
    let wrapped = worker.key(KeySpec::Aes256, Residency::Wrapped, [8; 16]);
    let mut misplaced = wrapped.statement.clone();
    misplaced.residency = Residency::Public;
    let misplaced = worker.sealed(misplaced);
    let refused = worker.encrypt(&misplaced, Algorithm::A256Gcm, KeyOps::ENCRYPT, b"x", b"");
    assert_eq!(refused, Err(Fault::NotPermitted));
}

/// A data key in the clear, and under a key.
fn data_key(
    worker: &mut Worker,
    row: &KeyRow,
    algorithm: Algorithm,
    length: usize,
    aad: &[u8],
) -> Result<(Vec<u8>, Sealed), Fault> {
    let form = DataKeyForm::PlainAndWrapped;
    match worker.operate(row, making(algorithm, length, aad, form))? {
        Output::DataKey { key, ciphertext, iv, tag } => {
            let sealed = Sealed { ciphertext: ciphertext.into_vec(), iv: iv.into_vec(), tag: tag.into_vec() };
            Ok((key.into_exposed(), sealed))
        }
        other => panic!("{other:?}"),
    }
}

fn making(algorithm: Algorithm, length: usize, aad: &[u8], form: DataKeyForm) -> Operation {
    Operation::DataKey { algorithm, length_bytes: length as u32, additional_data: ByteBuf::from(aad), form }
}

fn wrapped_only(worker: &mut Worker, row: &KeyRow, algorithm: Algorithm, length: usize, aad: &[u8]) -> Sealed {
    match worker.operate(row, making(algorithm, length, aad, DataKeyForm::WrappedOnly)).unwrap() {
        Output::Ciphertext { ciphertext, iv, tag } => {
            Sealed { ciphertext: ciphertext.into_vec(), iv: iv.into_vec(), tag: tag.into_vec() }
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn data_keys_come_back_by_unwrapping_and_are_never_the_same() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    let rows = [KeySpec::Aes128, KeySpec::Aes192, KeySpec::Aes256, KeySpec::Rsa2048]
        .map(|spec| worker.key(spec, Residency::Wrapped, [spec as u8; 16]));
    for row in &rows {
        for algorithm in row.statement.spec.algorithms() {
            let Some(operation) = algorithm.data_key_operation() else { continue };
            let back = if operation == KeyOps::ENCRYPT { KeyOps::DECRYPT } else { KeyOps::UNWRAP_KEY };
            let aad: &[u8] = if operation == KeyOps::ENCRYPT { b"context" } else { b"" };
            for length in DATA_KEY_BYTES {
                let name = format!("{} {length}", algorithm.name());
                let (key, sealed) = data_key(&mut worker, row, algorithm, length, aad).unwrap();
                assert_eq!(key.len(), length, "{name}");
                assert_eq!(worker.decrypt(row, algorithm, back, &sealed, aad).as_ref(), Ok(&key), "{name}");
                let sealed = wrapped_only(&mut worker, row, algorithm, length, aad);
                let hidden = worker.decrypt(row, algorithm, back, &sealed, aad).unwrap();
                assert_eq!(hidden.len(), length, "{name}");
                assert_ne!(hidden, key, "{name}");
            }
        }
    }
}

#[test]
fn a_data_key_agrees_elsewhere() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    for (spec, gcm, kw, length) in AES {
        let known = secret(length);
        let row = imported_secret(&mut worker, spec, Residency::Wrapped, 1, &known);
        let (key, sealed) = data_key(&mut worker, &row, kw, 64, b"").unwrap();
        assert_eq!(sealed.ciphertext, kw_elsewhere(&known, &key));
        let (key, sealed) = data_key(&mut worker, &row, gcm, 32, b"aad").unwrap();
        assert_eq!(gcm_opened_elsewhere(&known, &sealed, b"aad"), key);
    }
}

#[test]
fn data_keys_that_may_not_be_made_are_refused() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    let aes = worker.key(KeySpec::Aes256, Residency::Wrapped, [1; 16]);
    for length in [0, 1, 17, 33, 63, 65, 4096, u32::MAX as usize] {
        let refused = data_key(&mut worker, &aes, Algorithm::A256Kw, length, b"");
        assert!(matches!(refused, Err(Fault::Length(_))), "{length}");
    }
    assert!(matches!(data_key(&mut worker, &aes, Algorithm::A256Kw, 32, b"aad"), Err(Fault::Length(_))));
    assert_eq!(data_key(&mut worker, &aes, Algorithm::A128Kw, 32, b"").err(), Some(Fault::WrongAlgorithm));
    let ec = worker.key(KeySpec::P256, Residency::Wrapped, [2; 16]);
    assert_eq!(data_key(&mut worker, &ec, Algorithm::Es256, 32, b"").err(), Some(Fault::Protocol));
    // A key that encrypts does not wrap, and the other way round.
    for (ops, allowed, refused) in [
        (KeyOps::ENCRYPT, Algorithm::A256Gcm, Algorithm::A256Kw),
        (KeyOps::WRAP_KEY, Algorithm::A256Kw, Algorithm::A256Gcm),
    ] {
        let mut narrowed = aes.statement.clone();
        narrowed.ops = ops;
        let narrowed = worker.sealed(narrowed);
        assert!(data_key(&mut worker, &narrowed, allowed, 32, b"").is_ok());
        assert_eq!(data_key(&mut worker, &narrowed, refused, 32, b"").err(), Some(Fault::NotPermitted));
    }
}

#[test]
fn the_same_holds_on_nss_softokn() {
    support::holds_on(Subject::NssSoftokn);
}
