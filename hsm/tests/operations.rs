//! Every algorithm in both residencies, against implementations that are not ours, both ways.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use aes_gcm::KeyInit as _;
use aes_gcm::{
    Aes128Gcm, Aes256Gcm, AesGcm,
    aead::{Aead as _, Payload, array::Array},
    aes::{
        Aes128, Aes192, Aes256,
        cipher::{BlockCipherEncrypt as _, consts::U12},
    },
};
use aws_lc_rs::{
    encoding::{AsDer as _, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::{
        KeyPair, KeySize, OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepAlgorithm, OaepPrivateDecryptingKey,
        OaepPublicEncryptingKey, Pkcs1PrivateDecryptingKey, Pkcs1PublicEncryptingKey, PrivateDecryptingKey,
        PublicEncryptingKey,
    },
    signature::KeyPair as _,
};
use p256::ecdsa::signature::hazmat::{PrehashSigner as _, PrehashVerifier as _};
use p256::pkcs8::{DecodePublicKey as _, EncodePublicKey as _};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use strongroom_hsm::{
    Algorithm, KeyOps, KeyRow, KeySpec, Residency,
    algorithms::{Digest, KeyType, MESSAGE_BYTES_MAX, PLAINTEXT_BYTES_MAX, Scheme, WRAP_BYTES_MAX},
    protocol::Fault,
};
use support::{Home, Sealed, Worker, can_make, hex, statement, unhex};

const BOTH: [Residency; 2] = [Residency::Wrapped, Residency::Token];

/// Whether a signature over a digest, or a message for EdDSA, is right, by RustCrypto.
fn verifies_elsewhere(row: &KeyRow, algorithm: Algorithm, digest: &[u8], signature: &[u8]) -> bool {
    let spki = &row.statement.public;
    match algorithm.scheme() {
        Scheme::RsaPkcs1(hash) => {
            let scheme = match hash {
                Digest::Sha256 => rsa::Pkcs1v15Sign::new::<Sha256>(),
                Digest::Sha384 => rsa::Pkcs1v15Sign::new::<Sha384>(),
                _ => rsa::Pkcs1v15Sign::new::<Sha512>(),
            };
            rsa::RsaPublicKey::from_public_key_der(spki).unwrap().verify(scheme, digest, signature).is_ok()
        }
        Scheme::RsaPss(hash) => {
            let key = rsa::RsaPublicKey::from_public_key_der(spki).unwrap();
            match hash {
                Digest::Sha256 => key.verify(rsa::Pss::<Sha256>::new(), digest, signature).is_ok(),
                Digest::Sha384 => key.verify(rsa::Pss::<Sha384>::new(), digest, signature).is_ok(),
                _ => key.verify(rsa::Pss::<Sha512>::new(), digest, signature).is_ok(),
            }
        }
        Scheme::Ecdsa(_) => ecdsa_verifies(row.statement.spec, spki, digest, signature),
        Scheme::Eddsa => {
            let key = ed25519_dalek::VerifyingKey::from_public_key_der(spki).unwrap();
            key.verify_strict(digest, &ed25519_dalek::Signature::from_slice(signature).unwrap()).is_ok()
        }
        _ => false,
    }
}

fn ecdsa_verifies(spec: KeySpec, spki: &[u8], digest: &[u8], signature: &[u8]) -> bool {
    macro_rules! by {
        ($curve:ident) => {{
            let key = $curve::ecdsa::VerifyingKey::from_public_key_der(spki).unwrap();
            let signature = $curve::ecdsa::Signature::from_slice(signature).unwrap();
            // k256 takes low-S signatures only; JWA makes no such rule.
            key.verify_prehash(digest, &signature).is_ok()
                || key.verify_prehash(digest, &signature.normalize_s()).is_ok()
        }};
    }
    match spec {
        KeySpec::P256 => by!(p256),
        KeySpec::P384 => by!(p384),
        KeySpec::P521 => by!(p521),
        KeySpec::P256K => by!(k256),
        _ => false,
    }
}

/// What the algorithm signs of a message: its digest, or the message itself.
fn digest_of(algorithm: Algorithm, message: &[u8]) -> Vec<u8> {
    match algorithm.signature_digest() {
        Some(Digest::Sha384) => Sha384::digest(message).to_vec(),
        Some(Digest::Sha512) => Sha512::digest(message).to_vec(),
        Some(_) => Sha256::digest(message).to_vec(),
        None => message.to_vec(),
    }
}

fn signs_and_verifies(worker: &mut Worker, row: &KeyRow) {
    for algorithm in row.statement.spec.algorithms().filter(|algorithm| algorithm.signs()) {
        let name = algorithm.name();
        let digest = digest_of(algorithm, b"a message");
        let signature = worker.sign(row, algorithm, &digest).unwrap();
        assert!(verifies_elsewhere(row, algorithm, &digest, &signature), "{name}");
        assert_eq!(worker.verify(row, algorithm, &digest, &signature), Ok(true), "{name}");
        let other = digest_of(algorithm, b"another message");
        assert_eq!(worker.verify(row, algorithm, &other, &signature), Ok(false), "{name}");
        let mut bent = signature.clone();
        bent[7] ^= 1;
        assert_eq!(worker.verify(row, algorithm, &digest, &bent), Ok(false), "{name}");
        for wrong in [vec![0; signature.len()], vec![0xff; signature.len()]] {
            assert_eq!(worker.verify(row, algorithm, &digest, &wrong), Ok(false), "{name}");
        }
    }
}

#[test]
fn ec_signatures_verify_elsewhere() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    for (number, spec) in [KeySpec::P256, KeySpec::P384, KeySpec::P521, KeySpec::P256K].into_iter().enumerate() {
        for residency in BOTH.into_iter().filter(|residency| can_make(spec, *residency)) {
            let row = worker.key(spec, residency, [number as u8; 16]);
            assert_eq!(row.statement.blob.is_empty(), residency == Residency::Token);
            signs_and_verifies(&mut worker, &row);
        }
    }
}

#[test]
fn ed25519_signatures_verify_elsewhere_and_its_keys_live_on_the_token_only() {
    if !can_make(KeySpec::Ed25519, Residency::Token) {
        return;
    }
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    let row = worker.key(KeySpec::Ed25519, Residency::Token, [1; 16]);
    signs_and_verifies(&mut worker, &row);
    for length in [0, 1, 64, MESSAGE_BYTES_MAX] {
        let message = vec![0x61; length];
        let signature = worker.sign(&row, Algorithm::EdDsa, &message).unwrap();
        assert!(verifies_elsewhere(&row, Algorithm::EdDsa, &message, &signature), "{length}");
        assert_eq!(worker.verify(&row, Algorithm::EdDsa, &message, &signature), Ok(true), "{length}");
    }
    let long = worker.sign(&row, Algorithm::EdDsa, &[0; MESSAGE_BYTES_MAX + 1]);
    assert!(matches!(long, Err(Fault::Length(error)) if error.field == "message"));
    let Err(Fault::Unsupported(why)) = worker.generate(KeySpec::Ed25519, Residency::Wrapped, [2; 16]) else {
        panic!("SoftHSM 2.6.1 does not wrap them");
    };
    assert!(why.contains("CKR_KEY_NOT_WRAPPABLE") && why.contains("--residency token"), "{why}");
}

#[test]
fn ed25519_signatures_made_elsewhere_verify_here() {
    use ed25519_dalek::Signer as _;
    if !can_make(KeySpec::Ed25519, Residency::Token) {
        return;
    }
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    let key = ed25519_dalek::SigningKey::from_bytes(&[0x11; 32]);
    let spki = key.verifying_key().to_public_key_der().unwrap().into_vec();
    let row = public_row(&mut worker, KeySpec::Ed25519, spki);
    let signature = key.sign(b"from elsewhere").to_bytes();
    assert_eq!(worker.verify(&row, Algorithm::EdDsa, b"from elsewhere", &signature), Ok(true));
    assert_eq!(worker.verify(&row, Algorithm::EdDsa, b"from nowhere", &signature), Ok(false));
    assert_eq!(worker.sign(&row, Algorithm::EdDsa, b"from here"), Err(Fault::NotPermitted));
    // The same signature with the order of the group added to its second half (RFC 8032 section 8.4).
    let order = unhex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
    let mut malleated = signature;
    let mut carry = 0u16;
    for (byte, add) in malleated[32..].iter_mut().zip(order) {
        carry += u16::from(*byte) + u16::from(add);
        *byte = carry.to_le_bytes()[0];
        carry >>= 8;
    }
    assert_eq!(worker.verify(&row, Algorithm::EdDsa, b"from elsewhere", &malleated), Ok(false));
}

fn mac_elsewhere(key: &[u8], algorithm: Algorithm, message: &[u8]) -> Vec<u8> {
    use hmac::{Hmac, Mac as _};
    macro_rules! by {
        ($hash:ty) => {{
            let mut mac = Hmac::<$hash>::new_from_slice(key).unwrap();
            mac.update(message);
            mac.finalize().into_bytes().to_vec()
        }};
    }
    match algorithm.scheme() {
        Scheme::Hmac(Digest::Sha256) => by!(Sha256),
        Scheme::Hmac(Digest::Sha384) => by!(Sha384),
        Scheme::Hmac(_) => by!(Sha512),
        _ => panic!("an HMAC algorithm"),
    }
}

#[test]
fn macs_agree_elsewhere_under_known_keys() {
    if !support::attack::speaks_of_the_roots_mechanism() {
        return;
    }
    let (home, hierarchy) = Home::new();
    // The last is what a shorter key becomes: zeros at its end do not change its MACs (RFC 2104 section 2).
    let short = [0x77; 20];
    let padded = [&short[..], &[0; 44]].concat();
    let keys = [vec![0x31; 32], vec![0x32; 48], vec![0x33; 64], padded];
    let known = keys.iter().map(|key| hex(key)).collect::<Vec<_>>().join(",");
    let blobs = home.run_child("child_imports_known_keys", &[("KNOWN_KEYS", &known), ("KNOWN_TYPE", "HMAC")]);
    let mut worker = home.worker(&hierarchy);
    for (number, (key, blob)) in keys.iter().zip(blobs).enumerate() {
        let spec = [KeySpec::Hmac256, KeySpec::Hmac384, KeySpec::Hmac512][key.len() / 16 - 2];
        let mut statement = statement(spec, Residency::Wrapped, [number as u8; 16]);
        statement.blob = unhex(&blob);
        statement.check_value = mac_elsewhere(key, Algorithm::Hs256, b"strongroom check value")[..3].to_vec();
        let row = worker.sealed(statement.clone());
        for algorithm in spec.algorithms() {
            for length in [0, 1, 200, MESSAGE_BYTES_MAX] {
                let message = vec![0x44; length];
                let wanted = mac_elsewhere(key, algorithm, &message);
                assert_eq!(worker.sign(&row, algorithm, &message).as_ref(), Ok(&wanted), "{}", algorithm.name());
                assert_eq!(worker.verify(&row, algorithm, &message, &wanted), Ok(true));
                if key.ends_with(&[0; 44]) {
                    assert_eq!(mac_elsewhere(&short, algorithm, &message), wanted);
                }
            }
            signs_and_verifies_a_mac(&mut worker, &row, algorithm);
        }
        statement.check_value[0] ^= 1;
        let mismatched = worker.sealed(statement);
        assert_eq!(worker.sign(&mismatched, Algorithm::Hs256, b"").err(), Some(Fault::KeyMismatch));
    }
}

fn signs_and_verifies_a_mac(worker: &mut Worker, row: &KeyRow, algorithm: Algorithm) {
    let mac = worker.sign(row, algorithm, b"a message").unwrap();
    assert_eq!(worker.verify(row, algorithm, b"a message", &mac), Ok(true));
    assert_eq!(worker.verify(row, algorithm, b"another message", &mac), Ok(false));
    for at in [0, mac.len() - 1] {
        let mut bent = mac.clone();
        bent[at] ^= 1;
        assert_eq!(worker.verify(row, algorithm, b"a message", &bent), Ok(false), "{at}");
    }
    // A shorter MAC is no MAC of RFC 7518.
    assert!(matches!(worker.verify(row, algorithm, b"a message", &mac[..16]), Err(Fault::Length(_))));
}

#[test]
fn new_hmac_keys_work_in_each_residency_and_do_what_they_may() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    for (number, spec) in [KeySpec::Hmac256, KeySpec::Hmac384, KeySpec::Hmac512].into_iter().enumerate() {
        for residency in BOTH.into_iter().filter(|residency| can_make(spec, *residency)) {
            let row = worker.key(spec, residency, [number as u8; 16]);
            assert!(row.statement.public.is_empty() && row.statement.check_value.len() == 3);
            for algorithm in spec.algorithms() {
                signs_and_verifies_a_mac(&mut worker, &row, algorithm);
            }
            // Another worker finds the same key.
            let mac = worker.sign(&row, Algorithm::Hs256, b"m").unwrap();
            let mut verifies = row.statement.clone();
            verifies.ops = KeyOps::VERIFY;
            let mut other = home.worker(&hierarchy);
            let verifies = other.sealed(verifies);
            assert_eq!(other.verify(&verifies, Algorithm::Hs256, b"m", &mac), Ok(true));
            assert_eq!(other.sign(&verifies, Algorithm::Hs256, b"m"), Err(Fault::NotPermitted));
        }
    }
    let short = worker.key(KeySpec::Hmac256, Residency::Wrapped, [9; 16]);
    assert_eq!(worker.sign(&short, Algorithm::Hs384, b"m"), Err(Fault::WrongAlgorithm), "RFC 7518 section 3.2");
    assert_eq!(worker.sign(&short, Algorithm::Es256, &[0; 32]), Err(Fault::WrongAlgorithm));
}

#[test]
fn rsa_signatures_and_oaep_agree_elsewhere() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    for (spec, residency) in [
        (KeySpec::Rsa2048, Residency::Wrapped),
        (KeySpec::Rsa2048, Residency::Token),
        (KeySpec::Rsa3072, Residency::Wrapped),
        (KeySpec::Rsa4096, Residency::Wrapped),
    ] {
        let row = worker.key(spec, residency, [1; 16]);
        signs_and_verifies(&mut worker, &row);
        for (algorithm, oaep) in
            [(Algorithm::RsaOaep, &OAEP_SHA1_MGF1SHA1), (Algorithm::RsaOaep256, &OAEP_SHA256_MGF1SHA256)]
        {
            decrypts_what_was_encrypted_elsewhere(&mut worker, &row, algorithm, oaep);
        }
        decrypts_rsa1_5_of_elsewhere(&mut worker, &row);
    }
}

fn decrypts_rsa1_5_of_elsewhere(worker: &mut Worker, row: &KeyRow) {
    let (algorithm, k) = (Algorithm::Rsa15, row.statement.spec.bytes());
    let public = PublicEncryptingKey::from_der(&row.statement.public).unwrap();
    let public = Pkcs1PublicEncryptingKey::new(public).unwrap();
    let decrypt = |worker: &mut Worker, ciphertext: Vec<u8>, purpose| {
        let sealed = Sealed { ciphertext, iv: Vec::new(), tag: Vec::new() };
        worker.decrypt(row, algorithm, purpose, &sealed, b"")
    };
    for length in [0, 1, 32, k - 11] {
        let message: Vec<u8> = (0..length).map(|i| i as u8).collect();
        let mut buffer = vec![0; public.ciphertext_size()];
        let ciphertext = public.encrypt(&message, &mut buffer).unwrap().to_vec();
        for purpose in [KeyOps::DECRYPT, KeyOps::UNWRAP_KEY] {
            assert_eq!(decrypt(worker, ciphertext.clone(), purpose).as_ref(), Ok(&message), "{length}");
        }
        let ours = worker.encrypt(row, algorithm, KeyOps::ENCRYPT, &message, b"").unwrap();
        assert_eq!((ours.ciphertext.len(), ours.iv.len()), (k, 0));
        assert_eq!(decrypt(worker, ours.ciphertext, KeyOps::DECRYPT), Ok(message));
    }
    // What is no padding of version 1.5, and a number above the modulus: all failures are one. The blocks are made
    // here, not taken from another padding: one in some hundred of those is a right one by chance.
    let block = |begin: &[u8], zero_at: usize| {
        let mut block = vec![0x5a; k];
        block[..begin.len()].copy_from_slice(begin);
        block[zero_at] = 0;
        block
    };
    let right = encrypts_block(row, &block(&[0, 2], 10));
    assert_eq!(decrypt(worker, right, KeyOps::DECRYPT), Ok(vec![0x5a; k - 11]));
    for wrong in [block(&[0, 1], 10), block(&[1, 2], 10), block(&[0, 2], 9), block(&[0, 2], 0), vec![0; k]] {
        assert_eq!(decrypt(worker, encrypts_block(row, &wrong), KeyOps::DECRYPT), Err(Fault::DecryptionFailed));
    }
    assert_eq!(decrypt(worker, vec![0xff; k], KeyOps::DECRYPT), Err(Fault::DecryptionFailed));
    assert!(matches!(decrypt(worker, vec![1; k - 1], KeyOps::DECRYPT), Err(Fault::Length(_))));
    let long = worker.encrypt(row, algorithm, KeyOps::ENCRYPT, &vec![0; k - 10], b"");
    assert!(matches!(long, Err(Fault::Length(_))));
}

/// A block as it is, to the power of the public exponent (RSAEP, RFC 8017 section 5.1.1).
fn encrypts_block(row: &KeyRow, block: &[u8]) -> Vec<u8> {
    let public = rsa::RsaPublicKey::from_public_key_der(&row.statement.public).unwrap();
    let number = rsa::BoxedUint::from_be_slice_vartime(block);
    let power = rsa::hazmat::rsa_encrypt(&public, &number).unwrap().to_be_bytes();
    let mut ciphertext = vec![0; block.len().saturating_sub(power.len())];
    ciphertext.extend_from_slice(&power);
    ciphertext
}

fn decrypts_what_was_encrypted_elsewhere(
    worker: &mut Worker,
    row: &KeyRow,
    algorithm: Algorithm,
    oaep: &'static OaepAlgorithm,
) {
    let Scheme::RsaOaep(hash) = algorithm.scheme() else { panic!("an OAEP algorithm") };
    let public = PublicEncryptingKey::from_der(&row.statement.public).unwrap();
    let public = OaepPublicEncryptingKey::new(public).unwrap();
    let longest = Algorithm::oaep_plaintext_bytes_max(hash, row.statement.spec);
    for length in [0, 1, 32, longest] {
        let message: Vec<u8> = (0..length).map(|i| i as u8).collect();
        let mut buffer = vec![0; public.ciphertext_size()];
        let ciphertext = public.encrypt(oaep, &message, &mut buffer, None).unwrap().to_vec();
        let mut sealed = Sealed { ciphertext, iv: Vec::new(), tag: Vec::new() };
        for purpose in [KeyOps::DECRYPT, KeyOps::UNWRAP_KEY] {
            assert_eq!(worker.decrypt(row, algorithm, purpose, &sealed, b"").as_ref(), Ok(&message), "{length}");
        }
        sealed.ciphertext[9] ^= 1;
        assert_eq!(worker.decrypt(row, algorithm, KeyOps::DECRYPT, &sealed, b""), Err(Fault::DecryptionFailed));
        let ours = worker.encrypt(row, algorithm, KeyOps::ENCRYPT, &message, b"").unwrap();
        assert_eq!(ours.ciphertext.len(), row.statement.spec.bytes());
        assert_eq!(worker.decrypt(row, algorithm, KeyOps::DECRYPT, &ours, b""), Ok(message));
    }
    // A number above the modulus.
    let sealed = Sealed { ciphertext: vec![0xff; row.statement.spec.bytes()], iv: Vec::new(), tag: Vec::new() };
    assert_eq!(worker.decrypt(row, algorithm, KeyOps::DECRYPT, &sealed, b""), Err(Fault::DecryptionFailed));
    assert!(matches!(
        worker.encrypt(row, algorithm, KeyOps::ENCRYPT, &vec![0; longest + 1], b""),
        Err(Fault::Length(_))
    ));
}

/// A row whose public key was made elsewhere; it may only do what needs no private key.
fn public_row(worker: &mut Worker, spec: KeySpec, spki: Vec<u8>) -> KeyRow {
    let mut statement = statement(spec, Residency::Wrapped, [9; 16]);
    statement.ops = match spec.key_type() {
        KeyType::Rsa => KeyOps::VERIFY.union(KeyOps::ENCRYPT).union(KeyOps::WRAP_KEY),
        _ => KeyOps::VERIFY,
    };
    statement.blob = vec![0; 64];
    statement.public = spki;
    worker.sealed(statement)
}

#[test]
fn ec_signatures_made_elsewhere_verify_here() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    macro_rules! with {
        ($curve:ident, $spec:expr, $algorithm:expr) => {
            if can_make($spec, Residency::Wrapped) {
                let mut secret = vec![0x11; $spec.bytes()];
                secret[0] = 0;
                let key = $curve::ecdsa::SigningKey::from_slice(&secret).unwrap();
                let spki = key.verifying_key().to_public_key_der().unwrap().into_vec();
                let digest = digest_of($algorithm, b"from elsewhere");
                let signature: $curve::ecdsa::Signature = key.sign_prehash(&digest).unwrap();
                let row = public_row(&mut worker, $spec, spki);
                assert_eq!(worker.verify(&row, $algorithm, &digest, &signature.to_bytes()), Ok(true));
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
fn rsa_made_elsewhere_verifies_and_encrypts_here() {
    use aws_lc_rs::signature as lc;
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let spki: PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
    let row = public_row(&mut worker, KeySpec::Rsa2048, spki.as_ref().to_vec());
    let encodings: [(Algorithm, &'static dyn lc::RsaEncoding); 6] = [
        (Algorithm::Rs256, &lc::RSA_PKCS1_SHA256),
        (Algorithm::Rs384, &lc::RSA_PKCS1_SHA384),
        (Algorithm::Rs512, &lc::RSA_PKCS1_SHA512),
        (Algorithm::Ps256, &lc::RSA_PSS_SHA256),
        (Algorithm::Ps384, &lc::RSA_PSS_SHA384),
        (Algorithm::Ps512, &lc::RSA_PSS_SHA512),
    ];
    for (algorithm, encoding) in encodings {
        let mut signature = vec![0; 256];
        key.sign(encoding, &SystemRandom::new(), b"from elsewhere", &mut signature).unwrap();
        let digest = digest_of(algorithm, b"from elsewhere");
        assert_eq!(worker.verify(&row, algorithm, &digest, &signature), Ok(true), "{}", algorithm.name());
    }

    let private = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
    let spki: PublicKeyX509Der<'_> = private.public_key().as_der().unwrap();
    let row = public_row(&mut worker, KeySpec::Rsa2048, spki.as_ref().to_vec());
    let private = OaepPrivateDecryptingKey::new(private).unwrap();
    for (algorithm, oaep) in
        [(Algorithm::RsaOaep, &OAEP_SHA1_MGF1SHA1), (Algorithm::RsaOaep256, &OAEP_SHA256_MGF1SHA256)]
    {
        let Scheme::RsaOaep(hash) = algorithm.scheme() else { panic!("an OAEP algorithm") };
        for length in [0, 1, Algorithm::oaep_plaintext_bytes_max(hash, KeySpec::Rsa2048)] {
            let message = vec![0x5a; length];
            let sealed = worker.encrypt(&row, algorithm, KeyOps::ENCRYPT, &message, b"").unwrap();
            let mut buffer = vec![0; private.min_output_size()];
            assert_eq!(private.decrypt(oaep, &sealed.ciphertext, &mut buffer, None).unwrap(), message);
        }
    }

    let private = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
    let spki: PublicKeyX509Der<'_> = private.public_key().as_der().unwrap();
    let row = public_row(&mut worker, KeySpec::Rsa2048, spki.as_ref().to_vec());
    let private = Pkcs1PrivateDecryptingKey::new(private).unwrap();
    for length in [0, 1, 245] {
        let message = vec![0x5a; length];
        let sealed = worker.encrypt(&row, Algorithm::Rsa15, KeyOps::ENCRYPT, &message, b"").unwrap();
        let mut buffer = vec![0; private.min_output_size()];
        assert_eq!(private.decrypt(&sealed.ciphertext, &mut buffer).unwrap(), message);
    }
}

/// The check value of an AES key (PKCS#11 3.1 section 4.10.2), by RustCrypto.
fn check_value(key: &[u8]) -> Vec<u8> {
    let mut block = Array::from([0; 16]);
    match key.len() {
        16 => Aes128::new_from_slice(key).unwrap().encrypt_block(&mut block),
        24 => Aes192::new_from_slice(key).unwrap().encrypt_block(&mut block),
        _ => Aes256::new_from_slice(key).unwrap().encrypt_block(&mut block),
    }
    block[..3].to_vec()
}

fn gcm_elsewhere(key: &[u8], iv: &[u8], message: &[u8], aad: &[u8]) -> Vec<u8> {
    let iv = Array::<u8, U12>::try_from(iv).unwrap();
    let payload = Payload { msg: message, aad };
    match key.len() {
        16 => Aes128Gcm::new_from_slice(key).unwrap().encrypt(&iv, payload),
        24 => AesGcm::<Aes192, U12>::new_from_slice(key).unwrap().encrypt(&iv, payload),
        _ => Aes256Gcm::new_from_slice(key).unwrap().encrypt(&iv, payload),
    }
    .unwrap()
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

fn kwp_elsewhere(key: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; plaintext.len().next_multiple_of(8) + 8];
    match key.len() {
        16 => aes_kw::KwpAes128::new_from_slice(key).unwrap().wrap_key(plaintext, &mut buffer),
        24 => aes_kw::KwpAes192::new_from_slice(key).unwrap().wrap_key(plaintext, &mut buffer),
        _ => aes_kw::KwpAes256::new_from_slice(key).unwrap().wrap_key(plaintext, &mut buffer),
    }
    .unwrap()
    .to_vec()
}

fn cbc_elsewhere(key: &[u8], iv: &[u8], message: &[u8], padded: bool) -> Vec<u8> {
    use cbc::cipher::{BlockModeEncrypt as _, KeyIvInit as _, block_padding};
    macro_rules! by {
        ($cipher:ty) => {{
            let cbc = cbc::Encryptor::<$cipher>::new_from_slices(key, iv).unwrap();
            if padded {
                cbc.encrypt_padded_vec::<block_padding::Pkcs7>(message)
            } else {
                cbc.encrypt_padded_vec::<block_padding::NoPadding>(message)
            }
        }};
    }
    match key.len() {
        16 => by!(Aes128),
        24 => by!(Aes192),
        _ => by!(Aes256),
    }
}

#[test]
fn aes_agrees_elsewhere_under_known_keys() {
    if !support::attack::speaks_of_the_roots_mechanism() {
        return;
    }
    let (home, hierarchy) = Home::new();
    let keys: Vec<Vec<u8>> = [16u8, 24, 32].map(|length| (0..length).map(|i| i ^ 0x5c).collect()).to_vec();
    let known = keys.iter().map(|key| hex(key)).collect::<Vec<_>>().join(",");
    let blobs = home.run_child("child_imports_known_keys", &[("KNOWN_KEYS", &known)]);
    assert_eq!(blobs.len(), keys.len());
    let mut worker = home.worker(&hierarchy);
    for (key, blob) in keys.iter().zip(blobs) {
        for residency in BOTH {
            let spec = [KeySpec::Aes128, KeySpec::Aes192, KeySpec::Aes256][key.len() / 8 - 2];
            let mut statement = statement(spec, residency, [key.len() as u8; 16]);
            statement.blob = if residency == Residency::Wrapped { unhex(&blob) } else { Vec::new() };
            statement.check_value = check_value(key);
            let row = worker.sealed(statement);
            for algorithm in spec.algorithms() {
                match (residency, algorithm.scheme()) {
                    // A key that somebody with the PIN has put on the token, and knows, is not used. So no
                    // other implementation can know a token key: its cells are proved by use alone.
                    (Residency::Token, Scheme::AesGcm) => {
                        let refused = worker.encrypt(&row, algorithm, KeyOps::ENCRYPT, b"known", b"");
                        assert_eq!(refused.err(), Some(Fault::KeyMismatch));
                    }
                    (Residency::Token, _) => {}
                    (_, Scheme::AesGcm) => gcm_agrees(&mut worker, &row, algorithm, key),
                    (_, Scheme::AesCbc | Scheme::AesCbcPad) => cbc_agrees(&mut worker, &row, algorithm, key),
                    (_, Scheme::AesKwp) => kwp_agrees(&mut worker, &row, algorithm, key),
                    (_, _) => kw_agrees(&mut worker, &row, algorithm, key),
                }
            }
        }
    }
}

fn gcm_agrees(worker: &mut Worker, row: &KeyRow, algorithm: Algorithm, key: &[u8]) {
    for (length, aad) in [(0, &b""[..]), (1, b"aad"), (1000, b""), (PLAINTEXT_BYTES_MAX, b"long")] {
        let message = vec![0x33; length];
        let sealed = worker.encrypt(row, algorithm, KeyOps::ENCRYPT, &message, aad).unwrap();
        let joined = [sealed.ciphertext.as_slice(), &sealed.tag].concat();
        assert_eq!(joined, gcm_elsewhere(key, &sealed.iv, &message, aad), "{length}");
        let again = worker.encrypt(row, algorithm, KeyOps::ENCRYPT, &message, aad).unwrap();
        assert_ne!(sealed.iv, again.iv);
        assert_eq!(worker.decrypt(row, algorithm, KeyOps::DECRYPT, &sealed, aad), Ok(message));
        for wrong in bent(&sealed) {
            assert_eq!(worker.decrypt(row, algorithm, KeyOps::DECRYPT, &wrong, aad), Err(Fault::DecryptionFailed));
        }
        assert_eq!(worker.decrypt(row, algorithm, KeyOps::DECRYPT, &sealed, b"x"), Err(Fault::DecryptionFailed));
    }
}

/// A sealed message with one bit flipped, in each of its parts.
fn bent(sealed: &Sealed) -> Vec<Sealed> {
    let mut all = vec![sealed.clone(), sealed.clone(), sealed.clone()];
    all[0].iv[3] ^= 1;
    all[1].tag[3] ^= 1;
    if let Some(first) = all[2].ciphertext.first_mut() {
        *first ^= 1;
    } else {
        all.pop();
    }
    all
}

fn kw_agrees(worker: &mut Worker, row: &KeyRow, algorithm: Algorithm, key: &[u8]) {
    for length in [16, 24, 32, 64, WRAP_BYTES_MAX] {
        let plaintext: Vec<u8> = (0..length).map(|i| (i * 7) as u8).collect();
        let sealed = worker.encrypt(row, algorithm, KeyOps::WRAP_KEY, &plaintext, b"").unwrap();
        assert_eq!(sealed.ciphertext, kw_elsewhere(key, &plaintext), "{length}");
        let mut wrong = sealed.clone();
        wrong.ciphertext[length] ^= 1;
        assert_eq!(worker.decrypt(row, algorithm, KeyOps::UNWRAP_KEY, &sealed, b""), Ok(plaintext));
        assert_eq!(worker.decrypt(row, algorithm, KeyOps::UNWRAP_KEY, &wrong, b""), Err(Fault::DecryptionFailed));
    }
}

fn kwp_agrees(worker: &mut Worker, row: &KeyRow, algorithm: Algorithm, key: &[u8]) {
    for length in (1..=33).chain([64, 4095, WRAP_BYTES_MAX]) {
        let plaintext: Vec<u8> = (0..length).map(|i| (i * 7 + 1) as u8).collect();
        let sealed = worker.encrypt(row, algorithm, KeyOps::WRAP_KEY, &plaintext, b"").unwrap();
        assert_eq!(sealed.ciphertext, kwp_elsewhere(key, &plaintext), "{length}");
        for at in [0, 8, sealed.ciphertext.len() - 1] {
            let mut wrong = sealed.clone();
            wrong.ciphertext[at] ^= 1;
            assert_eq!(worker.decrypt(row, algorithm, KeyOps::UNWRAP_KEY, &wrong, b""), Err(Fault::DecryptionFailed));
        }
        assert_eq!(worker.decrypt(row, algorithm, KeyOps::UNWRAP_KEY, &sealed, b""), Ok(plaintext));
    }
    // What is wrapped without padding is not taken for padded, nor the other way round.
    let sealed = Sealed { ciphertext: kw_elsewhere(key, &[7; 32]), iv: Vec::new(), tag: Vec::new() };
    assert_eq!(worker.decrypt(row, algorithm, KeyOps::UNWRAP_KEY, &sealed, b""), Err(Fault::DecryptionFailed));
    let sealed = Sealed { ciphertext: kwp_elsewhere(key, &[7; 32]), iv: Vec::new(), tag: Vec::new() };
    let plain = row.statement.spec.algorithms().find(|algorithm| algorithm.scheme() == Scheme::AesKw).unwrap();
    assert_eq!(worker.decrypt(row, plain, KeyOps::UNWRAP_KEY, &sealed, b""), Err(Fault::DecryptionFailed));
}

fn cbc_agrees(worker: &mut Worker, row: &KeyRow, algorithm: Algorithm, key: &[u8]) {
    let padded = algorithm.scheme() == Scheme::AesCbcPad;
    let iv: Vec<u8> = (0..16).map(|i| i * 15 + 7).collect();
    let lengths: &[usize] =
        if padded { &[0, 1, 15, 16, 17, 1000, PLAINTEXT_BYTES_MAX] } else { &[16, 32, 1008, PLAINTEXT_BYTES_MAX] };
    let encrypt = |worker: &mut Worker, message: &[u8], iv: &[u8]| {
        worker.encrypt_under(row, algorithm, KeyOps::ENCRYPT, message, iv, b"")
    };
    for length in lengths {
        let message: Vec<u8> = (0..*length).map(|i| (i * 3) as u8).collect();
        let sealed = encrypt(worker, &message, &iv).unwrap();
        assert_eq!((&sealed.iv, sealed.tag.len()), (&iv, 0));
        assert_eq!(sealed.ciphertext, cbc_elsewhere(key, &iv, &message, padded), "{length}");
        assert_eq!(worker.decrypt(row, algorithm, KeyOps::DECRYPT, &sealed, b""), Ok(message));
    }
    if padded {
        // Every wrong padding of a last block is the same failure.
        for tail in [[0, 0], [1, 17], [2, 3], [3, 2], [0, 0xff]] {
            let block = [&[9; 14][..], &tail].concat();
            let ciphertext = cbc_elsewhere(key, &iv, &block, false);
            let sealed = Sealed { ciphertext, iv: iv.clone(), tag: Vec::new() };
            let answer = worker.decrypt(row, algorithm, KeyOps::DECRYPT, &sealed, b"");
            assert_eq!(answer, Err(Fault::DecryptionFailed), "{tail:?}");
        }
    } else {
        assert!(matches!(encrypt(worker, &[0; 17], &iv), Err(Fault::Length(_))));
        assert!(matches!(encrypt(worker, &[], &iv), Err(Fault::Length(_))));
    }
    for wrong in [0, 12, 15, 17] {
        assert!(matches!(encrypt(worker, &[0; 16], &vec![1; wrong]), Err(Fault::Length(_))), "{wrong}");
    }
}

/// In a process of its own, with the PIN: wraps known keys under the root, and puts them on the token.
#[test]
#[ignore = "run by other tests, in a process that loads the module"]
fn child_imports_known_keys() {
    use cryptoki::{
        mechanism::Mechanism,
        object::{Attribute, KeyType, ObjectClass},
    };
    let session = support::attack::log_in();
    let root = support::attack::root(&session);
    let is_hmac = std::env::var("KNOWN_TYPE").is_ok();
    for key in std::env::var("KNOWN_KEYS").unwrap().split(',').map(unhex) {
        let value = |on_token: bool| {
            vec![
                Attribute::Class(ObjectClass::SECRET_KEY),
                Attribute::KeyType(if is_hmac { KeyType::GENERIC_SECRET } else { KeyType::AES }),
                Attribute::Value(key.clone()),
                Attribute::Token(on_token),
                Attribute::Private(true),
                Attribute::Sensitive(true),
                Attribute::Extractable(!on_token),
                Attribute::Encrypt(!is_hmac),
                Attribute::Decrypt(!is_hmac),
                Attribute::Sign(is_hmac),
            ]
        };
        let object = session.create_object(&value(false)).unwrap();
        let mut blob = session.wrap_key(&Mechanism::AesKeyWrapPad, root, object).unwrap();
        // cryptoki answers with the whole buffer; a key under AES-KWP is eight bytes longer than it.
        blob.truncate(key.len() + 8);
        support::answer(&hex(&blob));
        let mut on_token = value(true);
        on_token.push(Attribute::Id(vec![key.len() as u8; 16]));
        session.create_object(&on_token).unwrap();
    }
}

#[test]
fn what_the_module_cannot_make_is_refused_as_such() {
    let (home, hierarchy) = Home::new();
    let mut worker = home.worker(&hierarchy);
    for spec in KeySpec::ALL {
        for residency in BOTH.into_iter().filter(|residency| !can_make(spec, *residency)) {
            let refused = worker.generate(spec, residency, [1; 16]);
            assert!(matches!(refused, Err(Fault::Unsupported(_))), "{} {refused:?}", spec.name());
        }
    }
    assert!(worker.generate(KeySpec::P256, Residency::Token, [1; 16]).is_ok(), "nothing was left behind");
}

#[test]
fn the_same_holds_on_nss_softokn() {
    support::holds_on(support::Subject::NssSoftokn);
}
