//! Keys from outside and data keys, as the service keeps and records them.

use std::{fs, path::Path};

use base64ct::{Base64, Base64UrlUnpadded, Encoding as _};
use sqlx::{Connection as _, Row as _, SqliteConnection};
use strongroom::{
    model::{Algorithm, KeyOps, KeySpec, Residency},
    service::{ChangeOptions, KeyView, NewDataKey, NewKey, Page, Problem, Service, ServiceError, VersionPatch},
};
use strongroom_hsm::{Material, SecretBytes};

use crate::{
    ec,
    estate::{Estate, caller, key},
    named,
};

/// A secret that stands nowhere by chance.
fn secret() -> Vec<u8> {
    (0..32u8).map(|n| n.wrapping_mul(37) ^ 0xa7).collect()
}

fn oct(bytes: Vec<u8>) -> Material {
    Material::aes(SecretBytes::new(bytes)).expect("an AES key").1
}

/// The base point of P-256 (SEC 2 section 2.4.2) as a public key.
fn public() -> Material {
    let head = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE";
    let point = "axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==";
    Material::public(&Base64::decode_vec(&format!("{head}{point}")).expect("base64")).expect("a public key").1
}

fn public_key(name: &str) -> NewKey {
    NewKey { residency: Residency::Public, ..ec(name) }
}

fn with_id(digest: u8) -> ChangeOptions {
    ChangeOptions {
        request_id: Some("7d4f3e52-3b3f-4f3a-9f0e-000000000003".parse().expect("a UUID")),
        digest: [digest; 32],
        ..ChangeOptions::default()
    }
}

async fn import(service: &std::sync::Arc<Service>, new: NewKey, material: Material) -> Result<KeyView, ServiceError> {
    service.import_key(&caller(), new, material, ChangeOptions::default()).await
}

fn wanted(algorithm: Algorithm, length_bytes: u32) -> NewDataKey {
    NewDataKey { algorithm, length_bytes, additional_data: Vec::new() }
}

/// Every file below a folder that holds these bytes, as they are or in a usual encoding.
fn files_with(folder: &Path, secret: &[u8]) -> Vec<String> {
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    // Base64 of a middle part, whatever stands before it.
    let base64 = Base64::encode_string(&secret[..30]);
    let forms = [
        secret.to_vec(),
        hex.into_bytes(),
        base64.into_bytes(),
        Base64UrlUnpadded::encode_string(&secret[..30]).into_bytes(),
    ];
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files_with(&path, secret));
            continue;
        }
        let bytes = fs::read(&path).expect("reads");
        if forms.iter().any(|form| bytes.windows(form.len()).any(|window| window == form.as_slice())) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[tokio::test]
async fn an_import_is_recorded_and_its_secret_is_written_nowhere() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    let made =
        service.import_key(&caller(), key("in", KeySpec::Aes256), oct(secret()), with_id(1)).await.expect("imported");
    let data = service.generate_data_key(&caller(), &named("in"), wanted(Algorithm::A256Kw, 32)).await.expect("made");
    service.close().await.expect("closes");
    assert_eq!(files_with(estate.folder(), &secret()), Vec::<String>::new());
    assert_eq!(files_with(estate.folder(), data.key.expose_secret()), Vec::<String>::new());
    // The scan finds what is there.
    let check = &made.version.check_value;
    assert!(files_with(estate.folder(), check).iter().any(|file| file.contains("store.sqlite")));

    let log = estate.log_text();
    let of_import: Vec<&str> = log.lines().filter(|line| line.contains("\"keys.import\"")).collect();
    assert_eq!(of_import.len(), 2, "intent and outcome: {of_import:#?}");
    assert!(of_import[0].contains(&made.version.version.to_string()), "{}", of_import[0]);
    assert!(of_import.iter().all(|line| line.contains("plain import AES-256 wrapped")), "{of_import:#?}");
    assert!(log.contains("\"dataKeys.generate\""), "{log}");
}

#[tokio::test]
async fn a_repeated_import_is_known_by_a_digest_that_only_the_hsm_makes() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    let new = || key("once", KeySpec::Aes256);
    let first = service.import_key(&caller(), new(), oct(secret()), with_id(1)).await.expect("imported");
    let again = service.import_key(&caller(), new(), oct(secret()), with_id(1)).await.expect("the same");
    assert_eq!(first.version.version, again.version.version);
    let other = service.import_key(&caller(), new(), oct(vec![1; 32]), with_id(2)).await.expect_err("another secret");
    assert!(matches!(other.problem, Problem::RequestIdReused), "{other}");
    // A public key has nothing to guess: its digest is kept as it is, like that of any other request.
    let id = Some("7d4f3e52-3b3f-4f3a-9f0e-000000000004".parse().expect("a UUID"));
    let options = ChangeOptions { request_id: id, digest: [9; 32], ..ChangeOptions::default() };
    service.import_key(&caller(), public_key("pub"), public(), options).await.expect("imported");
    service.close().await.expect("closes");
    let url = format!("sqlite://{}", estate.database().display());
    let mut database = SqliteConnection::connect(&url).await.expect("connects");
    let rows = sqlx::query("SELECT digest FROM requests ORDER BY id").fetch_all(&mut database).await.expect("reads");
    let digests: Vec<Vec<u8>> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(digests.len(), 2);
    assert_ne!(digests[0], [1; 32], "the plain digest of a secret can be tried");
    assert_eq!(digests[1], [9; 32]);
}

#[tokio::test]
async fn validating_an_import_makes_nothing() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    let options = || ChangeOptions { validate_only: true, ..ChangeOptions::default() };
    for residency in [Residency::Wrapped, Residency::Token] {
        let new = NewKey { residency, ..key("no", KeySpec::Aes256) };
        service.import_key(&caller(), new, oct(secret()), options()).await.expect("valid");
    }
    let shown = service.import_key(&caller(), public_key("no"), public(), options()).await.expect("valid");
    assert_eq!(shown.version.ops, KeyOps::VERIFY);
    assert!(!shown.version.public.is_empty(), "the public key is shown as it would be");
    let absent = service.get_key(&caller(), &named("no")).await.expect_err("not made");
    assert!(matches!(absent.problem, Problem::NotFound { .. }), "{absent}");
    let wrong = NewKey { ops: Some(KeyOps::SIGN), ..public_key("no") };
    let refused = service.import_key(&caller(), wrong, public(), options()).await.expect_err("no private half");
    assert!(refused.to_string().contains("the public half of P-256 keys can do verify only"), "{refused}");
    service.close().await.expect("closes");
    assert!(!estate.log_text().contains("intent\",\"operation\":\"keys.import"), "no intent");
}

#[tokio::test]
async fn a_public_key_does_not_take_the_place_of_a_key_that_signs() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    service.create_key(&caller(), ec("release"), ChangeOptions::default()).await.expect("made");
    let refused = import(&service, public_key("release"), public()).await.expect_err("it has private halves");
    assert!(matches!(refused.problem, Problem::Precondition { reason: "PUBLIC_AND_PRIVATE", .. }), "{refused}");
    // Nor under another spelling, nor the other way round.
    assert!(import(&service, public_key("RELEASE"), public()).await.is_err());
    import(&service, public_key("partner"), public()).await.expect("imported");
    import(&service, public_key("partner"), public()).await.expect("a second version");
    let created = service.create_key(&caller(), ec("partner"), ChangeOptions::default()).await;
    assert!(matches!(created, Err(ServiceError { problem: Problem::Precondition { .. }, .. })), "{created:?}");
    let imported = import(&service, key("partner", KeySpec::Aes256), oct(secret())).await;
    assert!(matches!(imported, Err(ServiceError { problem: Problem::Precondition { .. }, .. })), "{imported:?}");
    let taken = import(&service, NewKey { must_not_exist: true, ..public_key("partner") }, public()).await;
    assert!(matches!(taken, Err(ServiceError { problem: Problem::Exists { .. }, .. })), "{taken:?}");
}

#[tokio::test]
async fn a_secret_that_somebody_knows_does_not_follow_a_generated_one() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    let aes = |name: &str| key(name, KeySpec::Aes256);
    service.create_key(&caller(), aes("files"), ChangeOptions::default()).await.expect("made");
    let refused = import(&service, aes("files"), oct(secret())).await.expect_err("it was generated");
    assert!(matches!(refused.problem, Problem::Precondition { reason: "GENERATED_IN_HSM", .. }), "{refused}");
    // A key that came from outside is followed by others of its kind, and left behind by a generated one.
    assert!(import(&service, aes("old"), oct(secret())).await.expect("imported").version.is_imported());
    import(&service, aes("old"), oct(vec![3; 32])).await.expect("a second version");
    let made = service.create_key(&caller(), aes("old"), ChangeOptions::default()).await.expect("made");
    assert!(!made.version.is_imported());
    assert!(import(&service, aes("old"), oct(secret())).await.is_err());
}

#[tokio::test]
async fn what_needs_the_private_half_is_refused_in_words() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    import(&service, public_key("partner"), public()).await.expect("imported");
    let refused =
        service.sign(&caller(), &named("partner"), Algorithm::Es256, vec![7; 32].into()).await.expect_err("public");
    assert!(matches!(refused.problem, Problem::PublicOnly { operation: "sign", .. }), "{refused}");
    let widened = VersionPatch { ops: Some(KeyOps::SIGN.union(KeyOps::VERIFY)), ..VersionPatch::default() };
    let refused = service.update_version(&caller(), &named("partner"), widened, Default::default()).await;
    assert!(matches!(refused, Err(ServiceError { problem: Problem::Invalid { .. }, .. })), "{refused:?}");
    let (_, right) = service
        .verify(&caller(), &named("partner"), Algorithm::Es256, vec![7; 32].into(), vec![1; 64])
        .await
        .expect("a verdict");
    assert!(!right);
    // Nothing is created with a public half only, and a secret has none.
    let created = service.create_key(&caller(), public_key("new"), ChangeOptions::default()).await;
    assert!(matches!(created, Err(ServiceError { problem: Problem::Invalid { .. }, .. })), "{created:?}");
    for (new, material) in
        [(ec("new"), public()), (NewKey { residency: Residency::Public, ..key("new", KeySpec::Aes256) }, oct(secret()))]
    {
        let refused = import(&service, new, material).await;
        assert!(matches!(refused, Err(ServiceError { problem: Problem::Invalid { .. }, .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn imported_keys_work_after_a_restart_in_both_residencies() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    let mut sealed = Vec::new();
    for residency in [Residency::Wrapped, Residency::Token] {
        let new = NewKey { residency, ..key(residency.name(), KeySpec::Aes256) };
        import(&service, new, oct(secret())).await.expect("imported");
        let plaintext = SecretBytes::new(b"kept".to_vec());
        let name = named(residency.name());
        sealed.push(
            service
                .encrypt(&caller(), &name, Algorithm::A256Gcm, plaintext, Vec::new(), Vec::new())
                .await
                .expect("sealed"),
        );
    }
    service.close().await.expect("closes");
    drop(service);
    let service = estate.open().await.expect("opens");
    // One key under two names: what one encrypted the other decrypts.
    for (name, sealed) in [("token", &sealed[0]), ("wrapped", &sealed[1])] {
        let input = strongroom::service::Ciphertext {
            ciphertext: sealed.ciphertext.clone(),
            iv: sealed.iv.clone(),
            tag: sealed.tag.clone(),
            additional_data: Vec::new(),
        };
        let (_, opened) = service.decrypt(&caller(), &named(name), Algorithm::A256Gcm, input).await.expect("decrypts");
        assert_eq!(opened.expose_secret(), b"kept");
    }
}

#[tokio::test]
async fn public_halves_are_listed_for_enabled_versions_of_live_keys() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    let made = |spec| key("release", spec);
    for spec in [KeySpec::P256, KeySpec::Aes256, KeySpec::P384, KeySpec::P521] {
        service.create_key(&caller(), made(spec), ChangeOptions::default()).await.expect("made");
    }
    let off = VersionPatch { enabled: Some(false), ..VersionPatch::default() };
    service.update_version(&caller(), &named("release"), off, Default::default()).await.expect("disabled");
    let page = |after| Page { size: 2, after, deleted: false };
    let first = service.public_keys(&caller(), &named("release"), page(None)).await.expect("listed");
    let specs = |keys: &strongroom::service::PublicKeys| keys.versions.iter().map(|row| row.spec).collect::<Vec<_>>();
    assert_eq!((specs(&first), first.last), (vec![KeySpec::P384], Some(3)));
    let second = service.public_keys(&caller(), &named("release"), page(first.last)).await.expect("listed");
    assert_eq!((specs(&second), second.last), (vec![KeySpec::P256], None));
    service.delete_key(&caller(), &named("release"), Default::default()).await.expect("deleted");
    let gone = service.public_keys(&caller(), &named("release"), page(None)).await.expect_err("deleted");
    assert!(matches!(gone.problem, Problem::SoftDeleted { .. }), "{gone}");
}

#[tokio::test]
async fn data_keys_count_encryptions_and_follow_the_state_of_their_key() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    service.create_key(&caller(), key("files", KeySpec::Aes256), ChangeOptions::default()).await.expect("made");
    let new = || wanted(Algorithm::A256Gcm, 32);
    service.generate_data_key(&caller(), &named("files"), new()).await.expect("made");
    service.generate_wrapped_data_key(&caller(), &named("files"), new()).await.expect("made");
    for (algorithm, length) in [(Algorithm::A256Kw, 33), (Algorithm::Es256, 32), (Algorithm::A128Kw, 16)] {
        let refused = service.generate_data_key(&caller(), &named("files"), wanted(algorithm, length)).await;
        let refused = refused.expect_err("refused").problem;
        assert!(matches!(refused, Problem::Length(_) | Problem::WrongAlgorithm { .. }), "{refused}");
    }
    let narrow = VersionPatch { ops: Some(KeyOps::UNWRAP_KEY.union(KeyOps::DECRYPT)), ..VersionPatch::default() };
    service.update_version(&caller(), &named("files"), narrow, Default::default()).await.expect("narrowed");
    for algorithm in [Algorithm::A256Kw, Algorithm::A256Gcm] {
        let refused = service.generate_wrapped_data_key(&caller(), &named("files"), wanted(algorithm, 32)).await;
        assert!(
            matches!(refused, Err(ServiceError { problem: Problem::OperationNotPermitted { .. }, .. })),
            "{refused:?}"
        );
    }
    service.close().await.expect("closes");
    let log = estate.log_text();
    assert!(log.contains("keys.reserve"), "AES-GCM data keys are counted: {log}");
    assert!(log.contains("\"dataKeys.generate\"") && log.contains("\"dataKeys.generateWrapped\""), "{log}");
}
