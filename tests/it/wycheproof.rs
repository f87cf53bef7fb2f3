//! Project Wycheproof's vectors through the front door: keys are imported and every vector asked over gRPC.
//!
//! Each vector ends in one of three ways, and how many do is pinned for each file:
//!
//! * *replayed*: the service answered, and its answer is the vector's;
//! * *refused*: an input that the vector calls invalid was refused as an error (a length, a key);
//! * *not applicable*: the service does not offer it (an IV of another length, a truncated tag, a key that is
//!   no key here). Such a vector must be refused, whatever it says.
//!
//! A valid vector that is not answered as valid, or an invalid one that is, fails the test. Where a vector is
//! `acceptable` either answer is. The files of RSA decryption are not among them: they need a private key to be
//! imported, which is not offered.

use std::{collections::BTreeMap, sync::Arc};

use ::wycheproof::TestResult;
use strongroom_proto::v1::{
    DecryptRequest, EncryptRequest, ImportKeyRequest, KeyOperation, KeyVersion, SignRequest, UnwrapKeyRequest,
    VerifyRequest, WrapKeyRequest, crypto_client::CryptoClient, import_key_request::Material, keys_client::KeysClient,
    sign_request, verify_request,
};
use tokio::sync::Semaphore;
use tonic::{Code, transport::Channel};

use crate::{dev::Dev, rpc::connect};

/// Vectors under way at once.
const AT_ONCE: usize = 32;

/// How the vectors of one file ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    replayed: usize,
    refused: usize,
    not_applicable: usize,
}

/// How one vector ended.
#[derive(Clone, Copy, Debug)]
enum End {
    Replayed,
    Refused,
    NotApplicable,
}

impl Tally {
    fn add(&mut self, end: End) {
        match end {
            End::Replayed => self.replayed += 1,
            End::Refused => self.refused += 1,
            End::NotApplicable => self.not_applicable += 1,
        }
    }
}

/// What the service said to one vector.
#[derive(Debug)]
enum Said {
    /// An answer: whether it is the vector's.
    Answer(bool),
    /// INVALID_ARGUMENT.
    Refusal,
}

/// The end of a vector that the service offers.
fn judge(what: &str, expected: TestResult, said: &Said) -> End {
    match (expected, said) {
        (TestResult::Valid, Said::Answer(true)) | (TestResult::Invalid, Said::Answer(false)) => End::Replayed,
        (TestResult::Acceptable, Said::Answer(_)) => End::Replayed,
        (TestResult::Invalid | TestResult::Acceptable, Said::Refusal) => End::Refused,
        (expected, said) => panic!("{what}: expected {expected:?}, was told {said:?}"),
    }
}

/// A server and who asks it.
struct House {
    _dev: Dev,
    channel: Channel,
    turns: Arc<Semaphore>,
}

impl House {
    async fn new() -> Self {
        let dev = Dev::new();
        let channel = connect(&dev).await;
        Self { _dev: dev, channel, turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    fn crypto(&self) -> CryptoClient<Channel> {
        CryptoClient::new(self.channel.clone())
    }

    /// Imports a key; the name of its version, or `None` when it is refused as no key.
    async fn import(&self, name: &str, material: Material, operations: &[KeyOperation]) -> Option<String> {
        let version = KeyVersion {
            key_operations: operations.iter().map(|operation| (*operation).into()).collect(),
            ..KeyVersion::default()
        };
        let request = ImportKeyRequest {
            parent: "vaults/dev".to_owned(),
            key_id: name.to_owned(),
            version: Some(version),
            material: Some(material),
            ..ImportKeyRequest::default()
        };
        match KeysClient::new(self.channel.clone()).import_key(request).await {
            Ok(key) => Some(key.into_inner().version.expect("a version").name),
            Err(status) if status.code() == Code::InvalidArgument => None,
            Err(status) => panic!("{name}: {status}"),
        }
    }
}

/// One answer, by what it means for a vector.
fn said<T>(what: &str, answer: Result<tonic::Response<T>, tonic::Status>, is_it: impl FnOnce(T) -> bool) -> Said {
    match answer {
        Ok(answer) => Said::Answer(is_it(answer.into_inner())),
        Err(status) if status.code() == Code::InvalidArgument => Said::Refusal,
        Err(status) => panic!("{what}: {status}"),
    }
}

/// Vectors of one file, run at once, each ending by itself.
#[derive(Default)]
struct Runs(tokio::task::JoinSet<End>);

impl Runs {
    fn spawn(&mut self, house: &House, vector: impl Future<Output = End> + Send + 'static) {
        let turns = Arc::clone(&house.turns);
        self.0.spawn(async move {
            let _turn = turns.acquire_owned().await.expect("never closed");
            vector.await
        });
    }

    async fn tally(mut self, mut tally: Tally) -> Tally {
        while let Some(end) = self.0.join_next().await {
            tally.add(end.expect("no vector fails"));
        }
        tally
    }
}

/// A vector of a signature: what was signed, by what, and whether it is right.
struct Signature {
    what: String,
    message: Vec<u8>,
    signature: Vec<u8>,
    expected: TestResult,
}

/// Verifies all signatures of one public key.
fn verify_all(house: &House, runs: &mut Runs, key: &str, algorithm: &'static str, all: Vec<Signature>) {
    for vector in all {
        let (name, mut crypto) = (key.to_owned(), house.crypto());
        runs.spawn(house, async move {
            let request = VerifyRequest {
                name,
                algorithm: algorithm.to_owned(),
                input: Some(verify_request::Input::Message(vector.message)),
                signature: vector.signature,
                ..VerifyRequest::default()
            };
            let said = said(&vector.what, crypto.verify(request).await, |answer| answer.valid);
            judge(&vector.what, vector.expected, &said)
        });
    }
}

macro_rules! signatures {
    ($group:expr, $file:expr) => {
        $group
            .tests
            .iter()
            .map(|test| Signature {
                what: format!("{} {}", $file, test.tc_id),
                message: test.msg.to_vec(),
                signature: test.sig.to_vec(),
                expected: test.result,
            })
            .collect::<Vec<_>>()
    };
}

const VERIFY: &[KeyOperation] = &[KeyOperation::Verify];

#[tokio::test(flavor = "multi_thread")]
async fn ecdsa_signatures() {
    use ::wycheproof::ecdsa::{TestName, TestSet};
    let house = House::new().await;
    let mut found = BTreeMap::new();
    for (file, algorithm, set) in [
        ("ecdsa_secp256r1_sha256_p1363", "ES256", TestName::EcdsaSecp256r1Sha256P1363),
        ("ecdsa_secp256k1_sha256_p1363", "ES256K", TestName::EcdsaSecp256k1Sha256P1363),
        ("ecdsa_secp384r1_sha384_p1363", "ES384", TestName::EcdsaSecp384r1Sha384P1363),
        ("ecdsa_secp521r1_sha512_p1363", "ES512", TestName::EcdsaSecp521r1Sha512P1363),
    ] {
        let (set, mut runs) = (TestSet::load(set).expect("loads"), Runs::default());
        for (number, group) in set.test_groups.iter().enumerate() {
            let material = Material::PublicKey(group.der.to_vec());
            let key = house.import(&format!("{algorithm}-{number}"), material, VERIFY).await.expect("a point");
            verify_all(&house, &mut runs, &key, algorithm, signatures!(group, file));
        }
        found.insert(file, runs.tally(Tally::default()).await);
    }
    pinned(&found, &ECDSA);
}

#[tokio::test(flavor = "multi_thread")]
async fn eddsa_signatures() {
    use ::wycheproof::eddsa::{TestName, TestSet};
    let house = House::new().await;
    let (set, mut runs) = (TestSet::load(TestName::Ed25519).expect("loads"), Runs::default());
    for (number, group) in set.test_groups.iter().enumerate() {
        let key = house.import(&format!("ed-{number}"), Material::PublicKey(group.der.to_vec()), VERIFY).await;
        verify_all(&house, &mut runs, &key.expect("a point"), "EdDSA", signatures!(group, "ed25519"));
    }
    pinned(&BTreeMap::from([("ed25519", runs.tally(Tally::default()).await)]), &EDDSA);
}

#[tokio::test(flavor = "multi_thread")]
async fn rsa_pkcs1_signatures() {
    use ::wycheproof::rsa_pkcs1_verify::{TestName, TestSet};
    let house = House::new().await;
    let mut found = BTreeMap::new();
    for (file, algorithm, set) in [
        ("rsa_signature_2048_sha256", "RS256", TestName::Rsa2048Sha256),
        ("rsa_signature_2048_sha384", "RS384", TestName::Rsa2048Sha384),
        ("rsa_signature_2048_sha512", "RS512", TestName::Rsa2048Sha512),
        ("rsa_signature_3072_sha256", "RS256", TestName::Rsa3072Sha256),
        ("rsa_signature_3072_sha384", "RS384", TestName::Rsa3072Sha384),
        ("rsa_signature_3072_sha512", "RS512", TestName::Rsa3072Sha512),
        ("rsa_signature_4096_sha256", "RS256", TestName::Rsa4096Sha256),
        ("rsa_signature_4096_sha384", "RS384", TestName::Rsa4096Sha384),
        ("rsa_signature_4096_sha512", "RS512", TestName::Rsa4096Sha512),
    ] {
        let (set, mut runs, mut tally) = (TestSet::load(set).expect("loads"), Runs::default(), Tally::default());
        for (number, group) in set.test_groups.iter().enumerate() {
            let name = format!("{file}-{number}").replace('_', "-");
            match house.import(&name, Material::PublicKey(group.der.to_vec()), VERIFY).await {
                Some(key) => verify_all(&house, &mut runs, &key, algorithm, signatures!(group, file)),
                // An exponent below 65537.
                None => {
                    assert!(group.key.e.len() < 3, "{name}");
                    tally.not_applicable += group.tests.len();
                }
            }
        }
        found.insert(file, runs.tally(tally).await);
    }
    pinned(&found, &RSA_PKCS1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rsa_pss_signatures() {
    use ::wycheproof::rsa_pss_verify::{TestName, TestSet};
    let house = House::new().await;
    let mut found = BTreeMap::new();
    // The salt is as long as the hash (RFC 7518 section 3.5): of other files no signature is right here.
    for (file, algorithm, offered, set) in [
        ("rsa_pss_2048_sha256_mgf1_0", "PS256", false, TestName::RsaPss2048Sha256Mgf1SaltLen0),
        ("rsa_pss_2048_sha256_mgf1_32", "PS256", true, TestName::RsaPss2048Sha256Mgf1SaltLen32),
        ("rsa_pss_2048_sha384_mgf1_48", "PS384", true, TestName::RsaPss2048Sha384Mgf1SaltLen48),
        ("rsa_pss_3072_sha256_mgf1_32", "PS256", true, TestName::RsaPss3072Sha256Mgf1SaltLen32),
        ("rsa_pss_4096_sha256_mgf1_32", "PS256", true, TestName::RsaPss4096Sha256Mgf1SaltLen32),
        ("rsa_pss_4096_sha384_mgf1_48", "PS384", true, TestName::RsaPss4096Sha384Mgf1SaltLen48),
        ("rsa_pss_4096_sha512_mgf1_32", "PS512", false, TestName::RsaPss4096Sha512Mgf1SaltLen32),
        ("rsa_pss_4096_sha512_mgf1_64", "PS512", true, TestName::RsaPss4096Sha512Mgf1SaltLen64),
    ] {
        let (set, mut runs) = (TestSet::load(set).expect("loads"), Runs::default());
        for (number, group) in set.test_groups.iter().enumerate() {
            let name = format!("{file}-{number}").replace('_', "-");
            let key = house.import(&name, Material::PublicKey(group.der.to_vec()), VERIFY).await;
            let mut vectors = signatures!(group, file);
            if !offered {
                // What is right there is wrong here; what is wrong there may have our salt's length.
                for vector in &mut vectors {
                    let valid = vector.expected == TestResult::Valid;
                    vector.expected = if valid { TestResult::Invalid } else { TestResult::Acceptable };
                }
            }
            verify_all(&house, &mut runs, &key.expect("a key"), algorithm, vectors);
        }
        let mut tally = runs.tally(Tally::default()).await;
        if !offered {
            tally = Tally { not_applicable: tally.replayed + tally.refused + tally.not_applicable, ..Tally::default() };
        }
        found.insert(file, tally);
    }
    pinned(&found, &RSA_PSS);
}

#[tokio::test(flavor = "multi_thread")]
async fn aes_gcm() {
    use ::wycheproof::aead::{TestName, TestSet};
    let house = House::new().await;
    let (set, mut runs, mut tally) =
        (TestSet::load(TestName::AesGcm).expect("loads"), Runs::default(), Tally::default());
    for group in &set.test_groups {
        let algorithm = format!("A{}GCM", group.key_size);
        for test in &group.tests {
            let what = format!("aes_gcm {}", test.tc_id);
            let operations = [KeyOperation::Encrypt, KeyOperation::Decrypt];
            let key = house.import(&format!("gcm-{}", test.tc_id), Material::Oct(test.key.to_vec()), &operations).await;
            let Some(name) = key else {
                tally.add(End::NotApplicable);
                continue;
            };
            let (plaintext, expected) = (test.pt.to_vec(), test.result);
            let offered = group.nonce_size == 96 && group.tag_size == 128;
            let request = DecryptRequest {
                name,
                algorithm: algorithm.clone(),
                ciphertext: test.ct.to_vec(),
                iv: test.nonce.to_vec(),
                tag: test.tag.to_vec(),
                additional_data: test.aad.to_vec(),
                ..DecryptRequest::default()
            };
            let mut crypto = house.crypto();
            runs.spawn(&house, async move {
                let said = said(&what, crypto.decrypt(request).await, |answer| answer.plaintext == plaintext);
                match said {
                    Said::Refusal if !offered => End::NotApplicable,
                    said => judge(&what, expected, &said),
                }
            });
        }
    }
    pinned(&BTreeMap::from([("aes_gcm", runs.tally(tally).await)]), &AEAD);
}

#[tokio::test(flavor = "multi_thread")]
async fn aes_cbc_with_padding() {
    use ::wycheproof::cipher::{TestName, TestSet};
    let house = House::new().await;
    let (set, mut runs) = (TestSet::load(TestName::AesCbcPkcs5).expect("loads"), Runs::default());
    for group in &set.test_groups {
        let algorithm = format!("A{}CBCPAD", group.key_size);
        for test in &group.tests {
            let operations = [KeyOperation::Encrypt, KeyOperation::Decrypt];
            let key = house.import(&format!("cbc-{}", test.tc_id), Material::Oct(test.key.to_vec()), &operations).await;
            let (what, name) = (format!("aes_cbc_pkcs5 {}", test.tc_id), key.expect("an AES key"));
            let vector = (test.nonce.to_vec(), test.pt.to_vec(), test.ct.to_vec(), test.result);
            let (algorithm, mut crypto) = (algorithm.clone(), house.crypto());
            runs.spawn(&house, async move { cbc(&what, &mut crypto, name, algorithm, vector).await });
        }
    }
    pinned(&BTreeMap::from([("aes_cbc_pkcs5", runs.tally(Tally::default()).await)]), &CIPHER);
}

/// The ciphertext is decrypted, and made again where that is right.
async fn cbc(
    what: &str,
    crypto: &mut CryptoClient<Channel>,
    name: String,
    algorithm: String,
    (iv, plaintext, ciphertext, expected): (Vec<u8>, Vec<u8>, Vec<u8>, TestResult),
) -> End {
    let request = DecryptRequest {
        name: name.clone(),
        algorithm: algorithm.clone(),
        ciphertext: ciphertext.clone(),
        iv: iv.clone(),
        ..DecryptRequest::default()
    };
    let decrypted = said(what, crypto.decrypt(request).await, |answer| answer.plaintext == plaintext);
    if expected == TestResult::Valid {
        let request = EncryptRequest { name, algorithm, plaintext, iv, ..EncryptRequest::default() };
        let made = crypto.encrypt(request).await.unwrap_or_else(|status| panic!("{what}: {status}")).into_inner();
        assert_eq!(made.ciphertext, ciphertext, "{what}");
    }
    judge(what, expected, &decrypted)
}

#[tokio::test(flavor = "multi_thread")]
async fn hmac() {
    use ::wycheproof::mac::{TestName, TestSet};
    let house = House::new().await;
    let mut found = BTreeMap::new();
    for (file, algorithm, bits, set) in [
        ("hmac_sha256", "HS256", 256, TestName::HmacSha256),
        ("hmac_sha384", "HS384", 384, TestName::HmacSha384),
        ("hmac_sha512", "HS512", 512, TestName::HmacSha512),
    ] {
        let (set, mut runs, mut tally) = (TestSet::load(set).expect("loads"), Runs::default(), Tally::default());
        for group in &set.test_groups {
            for test in &group.tests {
                let what = format!("{file} {}", test.tc_id);
                let operations = [KeyOperation::Sign, KeyOperation::Verify];
                let name = format!("{algorithm}-{}", test.tc_id);
                let Some(name) = house.import(&name, Material::Oct(test.key.to_vec()), &operations).await else {
                    // Longer than 64 bytes: HMAC would hash it first, for each hash into another key.
                    assert!(test.key.is_empty() || test.key.len() > 64, "{what}");
                    tally.add(End::NotApplicable);
                    continue;
                };
                let offered = group.tag_size == bits;
                let vector = (test.msg.to_vec(), test.tag.to_vec(), test.result);
                let mut crypto = house.crypto();
                runs.spawn(&house, async move { mac(&what, &mut crypto, name, algorithm, offered, vector).await });
            }
        }
        found.insert(file, runs.tally(tally).await);
    }
    pinned(&found, &MAC);
}

/// The MAC is verified, and made again where it is right.
async fn mac(
    what: &str,
    crypto: &mut CryptoClient<Channel>,
    name: String,
    algorithm: &str,
    offered: bool,
    (message, tag, expected): (Vec<u8>, Vec<u8>, TestResult),
) -> End {
    let request = VerifyRequest {
        name: name.clone(),
        algorithm: algorithm.to_owned(),
        input: Some(verify_request::Input::Message(message.clone())),
        signature: tag.clone(),
        ..VerifyRequest::default()
    };
    let verified = said(what, crypto.verify(request).await, |answer| answer.valid);
    if !offered {
        assert!(matches!(verified, Said::Refusal), "{what}: a truncated MAC is refused");
        return End::NotApplicable;
    }
    let request = SignRequest {
        name,
        algorithm: algorithm.to_owned(),
        input: Some(sign_request::Input::Message(message)),
        ..SignRequest::default()
    };
    let made = crypto.sign(request).await.unwrap_or_else(|status| panic!("{what}: {status}")).into_inner();
    assert_eq!(made.signature == tag, expected == TestResult::Valid, "{what}");
    judge(what, expected, &verified)
}

#[tokio::test(flavor = "multi_thread")]
async fn aes_key_wrap() {
    use ::wycheproof::keywrap::{TestName, TestSet};
    let house = House::new().await;
    let mut found = BTreeMap::new();
    for (file, suffix, set) in
        [("aes_wrap", "KW", TestName::AesKeyWrap), ("aes_kwp", "KWP", TestName::AesKeyWrapWithPadding)]
    {
        let (set, mut runs, mut tally) = (TestSet::load(set).expect("loads"), Runs::default(), Tally::default());
        for group in &set.test_groups {
            let algorithm = format!("A{}{suffix}", group.key_size);
            for test in &group.tests {
                let operations = [KeyOperation::WrapKey, KeyOperation::UnwrapKey];
                let name = format!("{suffix}-{}", test.tc_id);
                let Some(name) = house.import(&name, Material::Oct(test.key.to_vec()), &operations).await else {
                    tally.add(End::NotApplicable);
                    continue;
                };
                let (what, algorithm) = (format!("{file} {}", test.tc_id), algorithm.clone());
                let vector = (test.pt.to_vec(), test.ct.to_vec(), test.result);
                let mut crypto = house.crypto();
                runs.spawn(&house, async move { wrap(&what, &mut crypto, name, algorithm, vector).await });
            }
        }
        found.insert(file, runs.tally(tally).await);
    }
    pinned(&found, &KEY_WRAP);
}

/// The key is unwrapped, and wrapped again where that is right: both are deterministic.
async fn wrap(
    what: &str,
    crypto: &mut CryptoClient<Channel>,
    name: String,
    algorithm: String,
    (key, wrapped_key, expected): (Vec<u8>, Vec<u8>, TestResult),
) -> End {
    let request = UnwrapKeyRequest {
        name: name.clone(),
        algorithm: algorithm.clone(),
        wrapped_key: wrapped_key.clone(),
        ..UnwrapKeyRequest::default()
    };
    let unwrapped = said(what, crypto.unwrap_key(request).await, |answer| answer.key == key);
    if expected == TestResult::Valid && matches!(unwrapped, Said::Answer(_)) {
        let request = WrapKeyRequest { name, algorithm, key, ..WrapKeyRequest::default() };
        let made = crypto.wrap_key(request).await.unwrap_or_else(|status| panic!("{what}: {status}")).into_inner();
        assert_eq!(made.wrapped_key, wrapped_key, "{what}");
    }
    judge(what, expected, &unwrapped)
}

/// Compares all counts, and says each that is another.
fn pinned(found: &BTreeMap<&str, Tally>, expected: &[(&str, Tally)]) {
    let expected: BTreeMap<&str, Tally> = expected.iter().copied().collect();
    assert_eq!(*found, expected, "the counts of vectors have changed");
}

const fn tally(replayed: usize, refused: usize, not_applicable: usize) -> Tally {
    Tally { replayed, refused, not_applicable }
}

const ECDSA: [(&str, Tally); 4] = [
    ("ecdsa_secp256k1_sha256_p1363", tally(234, 18, 0)),
    ("ecdsa_secp256r1_sha256_p1363", tally(241, 21, 0)),
    ("ecdsa_secp384r1_sha384_p1363", tally(261, 19, 0)),
    ("ecdsa_secp521r1_sha512_p1363", tally(304, 14, 0)),
];
const EDDSA: [(&str, Tally); 1] = [("ed25519", tally(139, 12, 0))];
const RSA_PKCS1: [(&str, Tally); 9] = [
    ("rsa_signature_2048_sha256", tally(255, 2, 2)),
    ("rsa_signature_2048_sha384", tally(256, 2, 0)),
    ("rsa_signature_2048_sha512", tally(256, 2, 1)),
    ("rsa_signature_3072_sha256", tally(256, 2, 1)),
    ("rsa_signature_3072_sha384", tally(257, 2, 0)),
    ("rsa_signature_3072_sha512", tally(257, 2, 1)),
    ("rsa_signature_4096_sha256", tally(256, 2, 0)),
    ("rsa_signature_4096_sha384", tally(257, 2, 0)),
    ("rsa_signature_4096_sha512", tally(257, 2, 0)),
];
const RSA_PSS: [(&str, Tally); 8] = [
    ("rsa_pss_2048_sha256_mgf1_0", tally(0, 0, 103)),
    ("rsa_pss_2048_sha256_mgf1_32", tally(103, 5, 0)),
    ("rsa_pss_2048_sha384_mgf1_48", tally(136, 5, 0)),
    ("rsa_pss_3072_sha256_mgf1_32", tally(103, 5, 0)),
    ("rsa_pss_4096_sha256_mgf1_32", tally(103, 5, 0)),
    ("rsa_pss_4096_sha384_mgf1_48", tally(136, 5, 0)),
    ("rsa_pss_4096_sha512_mgf1_32", tally(0, 0, 177)),
    ("rsa_pss_4096_sha512_mgf1_64", tally(174, 5, 0)),
];
const AEAD: [(&str, Tally); 1] = [("aes_gcm", tally(116, 81, 119))];
const CIPHER: [(&str, Tally); 1] = [("aes_cbc_pkcs5", tally(72, 144, 0))];
const MAC: [(&str, Tally); 3] =
    [("hmac_sha256", tally(84, 0, 90)), ("hmac_sha384", tally(84, 0, 90)), ("hmac_sha512", tally(84, 0, 90))];
const KEY_WRAP: [(&str, Tally); 2] = [("aes_kwp", tally(77, 177, 0)), ("aes_wrap", tally(36, 129, 0))];
