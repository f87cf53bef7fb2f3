//! Another root in the root's place: what was under the one is the same under the other, while everybody works on.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use strongroom::{
    model::{
        Algorithm, KeyOps, KeySpec, MaxStaleness, NetworkRules, Residency, Stage, Tags, VaultAuthorization, VersionId,
    },
    service::{
        ChangeOptions, Ciphertext, KeyRef, NewKey, NewVault, Page, Problem, Service, ServiceError, VersionPatch,
        events::{EventFilter, From},
        root::{Pass, RecoveryKeys},
        secrets::{NewSecret, SecretRef},
        tokens::NewToken,
    },
};
use strongroom_hsm::{Material, SecretBytes};
use tokio_util::sync::CancellationToken;

use crate::{
    ec,
    estate::{Estate, caller, key, recovery_key},
    named,
    rows::{meddle, shut},
    secrets,
};

async fn rotate(service: &Arc<Service>, recovery: RecoveryKeys) -> Result<(), ServiceError> {
    service.rotate_root(&caller(), recovery, ChangeOptions::default()).await.map(drop)
}

/// Does what the job does, until the stage is reached, or the end.
async fn until(service: &Arc<Service>, stage: Option<Stage>) {
    let (mut pass, stop) = (Pass::default(), CancellationToken::new());
    for _ in 0..6000 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        service.renew_root(&mut pass, &stop).await.expect("goes on");
        if service.instance().renewal.as_ref().map(|renewal| renewal.stage) == stage {
            return;
        }
    }
    panic!("{:?}", service.own_keys(&caller()).await.expect("shown").root);
}

async fn make(service: &Arc<Service>, new: NewKey) {
    service.create_key(&caller(), new, ChangeOptions::default()).await.expect("made");
}

/// Something that a key has made, by which it is known again.
enum Made {
    Signature(Algorithm, Vec<u8>),
    Ciphertext(Ciphertext),
    /// It is the value of a secret of that name.
    Value(Vec<u8>),
}

/// A secret with the name of a key.
fn of_secret(name: &KeyRef) -> SecretRef {
    SecretRef { vault: name.vault.clone(), secret: name.key.clone(), version: None }
}

const DATA: [u8; 32] = [7; 32];

async fn works(service: &Arc<Service>, name: &KeyRef, spec: KeySpec) -> Made {
    let algorithm = match spec {
        KeySpec::Aes256 => {
            let (who, data) = (caller(), DATA.to_vec().into());
            let sealed = service.encrypt(&who, name, Algorithm::A256Gcm, data, Vec::new(), Vec::new());
            let sealed = sealed.await.expect("encrypts");
            return Made::Ciphertext(Ciphertext {
                ciphertext: sealed.ciphertext,
                iv: sealed.iv,
                tag: sealed.tag,
                additional_data: Vec::new(),
            });
        }
        KeySpec::Rsa2048 => Algorithm::Ps256,
        KeySpec::Hmac256 => Algorithm::Hs256,
        KeySpec::Ed25519 => Algorithm::EdDsa,
        _ => Algorithm::Es256,
    };
    let signed = service.sign(&caller(), name, algorithm, DATA.to_vec().into()).await.expect("signs");
    Made::Signature(algorithm, signed.signature)
}

async fn is_known_again(service: &Arc<Service>, name: &KeyRef, made: &Made) -> bool {
    match made {
        Made::Signature(algorithm, signature) => {
            let verified = service.verify(&caller(), name, *algorithm, DATA.to_vec().into(), signature.clone()).await;
            verified.expect("verifies").1
        }
        Made::Ciphertext(sealed) => {
            let sealed = Ciphertext {
                ciphertext: sealed.ciphertext.clone(),
                iv: sealed.iv.clone(),
                tag: sealed.tag.clone(),
                additional_data: Vec::new(),
            };
            let opened = service.decrypt(&caller(), name, Algorithm::A256Gcm, sealed).await.expect("decrypts");
            opened.1.expose_secret() == DATA
        }
        Made::Value(value) => {
            let read = service.get_secret_value(&caller(), &of_secret(name)).await.expect("read");
            read.1.expose_secret() == value
        }
    }
}

fn vault(name: &str, own_kek: bool) -> NewVault {
    NewVault {
        name: name.parse().expect("a name"),
        tags: Tags::default(),
        retention_days: 90,
        purge_protection: false,
        padding_decryption_allowed: false,
        max_staleness: MaxStaleness::default(),
        own_kek,
        network: NetworkRules::default(),
        authorization: VaultAuthorization::Roles,
    }
}

/// A key of each kind that there is, and what it has made.
async fn furnish(service: &Arc<Service>) -> Vec<(KeyRef, Made)> {
    let mut made = Vec::new();
    for (name, spec) in
        [("rsa", KeySpec::Rsa2048), ("ec", KeySpec::P256), ("aes", KeySpec::Aes256), ("mac", KeySpec::Hmac256)]
    {
        make(service, key(name, spec)).await;
        made.push((named(name), works(service, &named(name), spec).await));
    }
    for spec in [KeySpec::Ed25519, KeySpec::P256] {
        let name = format!("token-{}", spec.name().to_ascii_lowercase());
        make(service, NewKey { residency: Residency::Token, ..key(&name, spec) }).await;
        made.push((named(&name), works(service, &named(&name), spec).await));
    }
    for (name, residency) in [("in", Residency::Wrapped), ("in-token", Residency::Token)] {
        let new = NewKey { residency, ..key(name, KeySpec::Aes256) };
        service.import_key(&caller(), new, secret(), ChangeOptions::default()).await.expect("imported");
        made.push((named(name), works(service, &named(name), KeySpec::Aes256).await));
    }
    service.create_vault(&caller(), vault("apart", true), ChangeOptions::default()).await.expect("a vault");
    let apart = KeyRef { vault: "apart".parse().expect("right"), ..named("ec") };
    make(service, NewKey { vault: apart.vault.clone(), ..ec("ec") }).await;
    made.push((apart.clone(), works(service, &apart, KeySpec::P256).await));
    for name in [named("password"), KeyRef { vault: apart.vault, ..named("password") }] {
        for value in [b"old".as_slice(), b"new"] {
            let new = NewSecret { vault: name.vault.clone(), ..secrets::new("password", value) };
            service.set_secret(&caller(), new, ChangeOptions::default()).await.expect("set");
        }
        made.push((name, Made::Value(b"new".to_vec())));
    }
    made
}

fn secret() -> Material {
    Material::aes(SecretBytes::new(vec![9; 32])).expect("a key").1
}

/// What every row of a version names that its blob is under.
async fn keks(estate: &Estate, vault: &str) -> Vec<Option<VersionId>> {
    let (store, vault) = (estate.store().await, vault.parse().expect("right"));
    let mut found = Vec::new();
    for key in store.keys(&vault, None, 1000, true).await.expect("read") {
        let versions = store.versions(&vault, &key.unchecked().name, None, 1000).await.expect("read");
        let wrapped = versions.iter().map(strongroom::store::Sealed::unchecked);
        found.extend(wrapped.filter(|row| row.residency == Residency::Wrapped).map(|row| row.kek));
    }
    let secrets = store.secrets(&vault, None, 1000, true).await.expect("read");
    found.extend(secrets.iter().map(|secret| secret.unchecked().kek));
    store.close().await;
    found
}

#[tokio::test]
async fn everything_is_the_same_under_the_next_root() {
    let (estate, recovery) = Estate::escrowed().await;
    let service = estate.open().await.expect("opens");
    let made = furnish(&service).await;
    // What is not used any more is carried over too.
    make(&service, ec("gone")).await;
    service.delete_key(&caller(), &named("gone"), ChangeOptions::default()).await.expect("deleted");
    make(&service, ec("off")).await;
    let off = VersionPatch { enabled: Some(false), ..VersionPatch::default() };
    service.update_version(&caller(), &named("off"), off, ChangeOptions::default()).await.expect("disabled");
    make(&service, ec("verifies")).await;
    let narrow = VersionPatch { ops: Some(KeyOps::VERIFY), ..VersionPatch::default() };
    service.update_version(&caller(), &named("verifies"), narrow, ChangeOptions::default()).await.expect("narrowed");
    let issue = |name: &str| NewToken { name: name.parse().expect("a name"), life: None };
    service.create_token(&caller(), issue("before"), ChangeOptions::default()).await.expect("issued");
    let first = service.instance();

    rotate(&service, recovery.clone()).await.expect("prepared");
    let again = rotate(&service, recovery.clone()).await.expect_err("one at a time");
    assert_eq!(again.problem.reason(), "ROOT_IN_ROTATION");
    until(&service, Some(Stage::Renewing)).await;
    make(&service, ec("meanwhile")).await;
    until(&service, None).await;

    let last = service.instance();
    let root = last.service_keys.root.expect("another root");
    assert_ne!(first.service_keys.sealing, last.service_keys.sealing);
    assert_ne!(first.service_keys.data, last.service_keys.data);
    for (name, made) in &made {
        assert!(is_known_again(&service, name, made).await, "{name}");
    }
    service.undelete_key(&caller(), &named("gone"), ChangeOptions::default()).await.expect("comes back");
    service.sign(&caller(), &named("gone"), Algorithm::Es256, DATA.to_vec().into()).await.expect("signs");
    service.create_token(&caller(), issue("after"), ChangeOptions::default()).await.expect("issued");
    make(&service, ec("later")).await;
    let mut watch = service.watch_events(&caller(), EventFilter::default(), From::Beginning).await.expect("begins");
    let told = watch.more().await.expect("told");
    assert!(told.is_all && told.events.len() >= 12, "events of before are told still: {}", told.events.len());
    drop(watch);
    shut(service).await;

    let under = Some(VersionId::from_bytes(root.id));
    assert!(keks(&estate, "dev").await.iter().all(|kek| *kek == under));
    assert!(keks(&estate, "apart").await.iter().all(|kek| kek.is_some() && *kek != under));
    // A service that begins anew knows only the one.
    let service = estate.open().await.expect("opens");
    for (name, made) in &made {
        assert!(is_known_again(&service, name, made).await, "{name}");
    }
    assert_eq!(service.instance().worker_keys().other, None);
    let page = Page { size: 100, after: None, deleted: true };
    let (keys, _) = service.list_keys(&caller(), &named("x").vault, &Default::default(), page).await.expect("listed");
    assert_eq!(keys.len(), 13);
    let log = estate.log_text();
    for wanted in ["next root", "renewing", "retiring", "done: the old root is destroyed", "rows carried over"] {
        assert!(log.contains(wanted), "{wanted}");
    }
    // And once more, from a root that was made in place of another.
    rotate(&service, recovery).await.expect("prepared");
    until(&service, None).await;
    assert_ne!(service.instance().service_keys.root, Some(root));
    for (name, made) in &made {
        assert!(is_known_again(&service, name, made).await, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_works_meanwhile_notices_nothing() {
    let (estate, recovery) = Estate::escrowed().await;
    let service = estate.open().await.expect("opens");
    make(&service, ec("busy")).await;
    make(&service, key("sealed", KeySpec::Aes256)).await;
    for n in 0..60 {
        make(&service, ec(&format!("other-{n}"))).await;
    }
    for n in 0..10 {
        let new = key(&format!("in-{n}"), KeySpec::Aes256);
        service.import_key(&caller(), new, secret(), ChangeOptions::default()).await.expect("imported");
    }
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients = (0..7).map(|client| {
        let (service, stop, done) = (Arc::clone(&service), Arc::clone(&stop), Arc::clone(&done));
        tokio::spawn(async move {
            let mut made = 0;
            while !stop.load(Ordering::Acquire) {
                match client {
                    0 => {
                        make(&service, ec(&format!("new-{made}"))).await;
                        made += 1;
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    1 => {
                        works(&service, &named("sealed"), KeySpec::Aes256).await;
                        let new = secrets::new("password", format!("{made}").as_bytes());
                        service.set_secret(&caller(), new, ChangeOptions::default()).await.expect("set");
                        let read = Made::Value(format!("{made}").into_bytes());
                        assert!(is_known_again(&service, &named("password"), &read).await);
                        made += 1;
                    }
                    // What is changed while it is carried over is carried over all the same.
                    2 => {
                        let enabled = Some(made % 2 == 1);
                        let patch = VersionPatch { enabled, ..VersionPatch::default() };
                        let name = named(&if made % 3 == 0 {
                            format!("in-{}", made / 2 % 10)
                        } else {
                            format!("other-{}", made / 2 % 60)
                        });
                        service
                            .update_version(&caller(), &name, patch, ChangeOptions::default())
                            .await
                            .expect("changed");
                        made += 1;
                    }
                    _ => drop(works(&service, &named("busy"), KeySpec::P256).await),
                }
                done.fetch_add(1, Ordering::AcqRel);
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    for _ in 0..2 {
        rotate(&service, recovery.clone()).await.expect("prepared");
        until(&service, None).await;
    }
    stop.store(true, Ordering::Release);
    for client in clients {
        client.await.expect("no call failed");
    }
    assert!(done.load(Ordering::Acquire) > 100);
    shut(service).await;
    let root = estate.store().await.instance().await.expect("read").expect("one").unchecked().service_keys.root;
    let under = root.map(|root| VersionId::from_bytes(root.id));
    assert!(keks(&estate, "dev").await.iter().all(|kek| *kek == under), "nothing is left under an old root");
    let service = estate.open().await.expect("opens");
    works(&service, &named("new-0"), KeySpec::P256).await;
    let names = (0..10)
        .map(|n| (format!("in-{n}"), KeySpec::Aes256))
        .chain((0..60).map(|n| (format!("other-{n}"), KeySpec::P256)));
    for (name, spec) in names {
        let patch = VersionPatch { enabled: Some(true), ..VersionPatch::default() };
        service.update_version(&caller(), &named(&name), patch, ChangeOptions::default()).await.expect("changed");
        works(&service, &named(&name), spec).await;
    }
}

#[tokio::test]
async fn it_takes_a_recovery_key_and_waits_for_one_that_is_taken_away() {
    let (mut estate, recovery) = Estate::escrowed().await;
    let file = estate.settings.recovery_key_file.clone().expect("one");
    let pem = fs::read_to_string(&file).expect("read");
    let away = || fs::remove_file(&file).expect("removed");
    let put = |pem: &str| {
        fs::write(&file, pem).expect("written");
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("a mode");
    };
    let service = estate.open().await.expect("opens");
    make(&service, ec("release")).await;
    away();
    let refused = rotate(&service, recovery.clone()).await.expect_err("nobody's key");
    assert!(refused.to_string().contains("is not there"), "{refused}");
    put(&recovery_key().1);
    let refused = rotate(&service, recovery.clone()).await.expect_err("another's key");
    assert!(refused.to_string().contains("none that the root was wrapped for"), "{refused}");
    put(&pem);
    // For another key from now on: first for both, so that one opens both roots while there are two.
    let (next, next_pem) = recovery_key();
    let refused = rotate(&service, next.clone()).await.expect_err("none in common");
    assert_eq!(refused.problem.reason(), "NO_COMMON_RECOVERY_KEY");
    let both = RecoveryKeys([recovery.0.clone(), next.0.clone()].concat());
    rotate(&service, both).await.expect("prepared");
    until(&service, Some(Stage::Renewing)).await;
    away();
    let (mut pass, stop) = (Pass::default(), CancellationToken::new());
    let waits = service.renew_root(&mut pass, &stop).await.expect_err("it waits");
    assert!(waits.to_string().contains("is not there"), "{waits}");
    let shown = service.own_keys(&caller()).await.expect("shown").root;
    let progress = shown.progress.expect("this replica does it");
    assert!(progress.waits_for.contains("is not there"), "{progress:?}");
    works(&service, &named("release"), KeySpec::P256).await;
    put(&pem);
    until(&service, None).await;
    rotate(&service, next.clone()).await.expect("prepared");
    until(&service, None).await;
    let refused = rotate(&service, next.clone()).await.expect_err("the old key");
    assert!(refused.to_string().contains("none that the root was wrapped for"), "{refused}");
    put(&next_pem);
    rotate(&service, next).await.expect("prepared");
    until(&service, None).await;
    shut(service).await;
    estate.settings.recovery_key_file = None;
    let service = estate.open().await.expect("opens");
    let refused = rotate(&service, recovery).await.expect_err("it is not said where");
    assert_eq!(refused.problem.reason(), "NO_RECOVERY_KEY_FILE");
    works(&service, &named("release"), KeySpec::P256).await;
}

#[tokio::test]
async fn without_an_escrow_there_is_no_other_root() {
    let estate = Estate::new().await;
    let service = estate.open().await.expect("opens");
    let refused = rotate(&service, recovery_key().0).await.expect_err("nothing could be carried over");
    assert!(matches!(refused.problem, Problem::Precondition { reason: "NO_ESCROW", .. }), "{refused:?}");
}

#[tokio::test]
async fn it_goes_on_where_it_was_in_a_service_that_begins_anew() {
    let (estate, recovery) = Estate::escrowed().await;
    let service = estate.open().await.expect("opens");
    let made = furnish(&service).await;
    rotate(&service, recovery).await.expect("prepared");
    shut(service).await;
    for stage in [Some(Stage::Renewing), Some(Stage::Retiring), None] {
        let service = estate.open().await.expect("opens");
        for (name, made) in &made {
            assert!(is_known_again(&service, name, made).await, "{name}");
        }
        until(&service, stage).await;
        shut(service).await;
    }
    let service = estate.open().await.expect("opens");
    for (name, made) in &made {
        assert!(is_known_again(&service, name, made).await, "{name}");
    }
}

#[tokio::test]
async fn what_somebody_altered_is_not_made_right_by_it() {
    let (estate, recovery) = Estate::escrowed().await;
    let service = estate.open().await.expect("opens");
    make(&service, ec("right")).await;
    make(&service, ec("wrong")).await;
    rotate(&service, recovery).await.expect("prepared");
    until(&service, Some(Stage::Renewing)).await;
    // Its seal stays as it was.
    meddle(&estate, "UPDATE versions SET ops = ops - 1 WHERE key_id = (SELECT id FROM keys WHERE name = 'wrong')")
        .await;
    let (mut pass, stop) = (Pass::default(), CancellationToken::new());
    for _ in 0..3 {
        service.renew_root(&mut pass, &stop).await.expect("goes on");
    }
    let progress = service.own_keys(&caller()).await.expect("shown").root.progress.expect("it does it");
    assert!(
        progress.failed.iter().any(|(name, why)| name.contains("keys/wrong/") && why.contains("seal")),
        "{progress:?}"
    );
    assert_eq!(service.instance().renewal.as_ref().map(|renewal| renewal.stage), Some(Stage::Renewing), "it stays");
    works(&service, &named("right"), KeySpec::P256).await;
    let refused = service.sign(&caller(), &named("wrong"), Algorithm::Es256, DATA.to_vec().into()).await;
    assert_eq!(refused.expect_err("tampered").problem.reason(), "TAMPERED");
}

/// How many keys the campaign has.
fn campaign_keys() -> usize {
    std::env::var("STRONGROOM_KEYS").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000)
}

/// How often the campaign kills.
const KILLS: u64 = 10;

/// Where the campaign's estate is, in the process that is killed.
const ESTATE: &str = "STRONGROOM_ESTATE";

/// `cargo test --release --test service a_hundred_thousand -- --ignored --nocapture`; with STRONGROOM_KEYS=10000 it is shorter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a campaign of a quarter of an hour"]
#[allow(clippy::print_stdout, reason = "a measurement")]
async fn a_hundred_thousand_keys_are_carried_over_through_kills_while_others_sign() {
    if let Some(dir) = std::env::var_os(ESTATE) {
        return carries_over(dir.into()).await;
    }
    let (estate, recovery) = Estate::escrowed().await;
    let (service, count, begun) = (estate.open().await.expect("opens"), campaign_keys(), Instant::now());
    let makers = (0..32).map(|maker| {
        let service = Arc::clone(&service);
        tokio::spawn(async move {
            for n in (maker..count).step_by(32) {
                let spec = if n % 2 == 0 { KeySpec::P256 } else { KeySpec::Aes256 };
                make(&service, key(&format!("k-{n}"), spec)).await;
            }
        })
    });
    for maker in makers.collect::<Vec<_>>() {
        maker.await.expect("made");
    }
    println!("{count} keys made in {:.0?}", begun.elapsed());
    let mut made = Vec::new();
    for n in (0..count).step_by((count / 200).max(1)) {
        let spec = if n % 2 == 0 { KeySpec::P256 } else { KeySpec::Aes256 };
        let name = named(&format!("k-{n}"));
        made.push((name.clone(), works(&service, &name, spec).await));
    }
    rotate(&service, recovery).await.expect("prepared");
    shut(service).await;
    let (begun, mut kills) = (Instant::now(), 0);
    loop {
        let mut child = Command::new(std::env::current_exe().expect("a program"))
            .args(["--exact", "--ignored", "--nocapture"])
            .arg("root::a_hundred_thousand_keys_are_carried_over_through_kills_while_others_sign")
            .env(ESTATE, estate.folder())
            .spawn()
            .expect("starts");
        // Not in step with anything that happens in it; and at last there is time to come to the end of it.
        let within = if kills < KILLS { 3_000 + 7_919 * (kills + 1) % 20_000 } else { 3_600_000 };
        let until = Instant::now() + Duration::from_millis(within);
        let ended = loop {
            match child.try_wait().expect("answered") {
                None if Instant::now() < until => tokio::time::sleep(Duration::from_millis(50)).await,
                ended => break ended,
            }
        };
        if let Some(status) = ended {
            assert!(status.success(), "no call of those who signed failed");
            break;
        }
        assert!(kills < KILLS, "it did not end within an hour");
        child.kill().expect("killed");
        child.wait().expect("reaped");
        kills += 1;
    }
    println!("carried over in {:.0?}, killed {kills} times", begun.elapsed());
    let service = estate.open().await.expect("opens");
    assert_eq!(service.instance().renewal, None);
    for (name, made) in &made {
        assert!(is_known_again(&service, name, made).await, "{name}");
    }
    shut(service).await;
    let root = estate.store().await.instance().await.expect("read").expect("one").unchecked().service_keys.root;
    let under = root.map(|root| VersionId::from_bytes(root.id));
    assert!(keks(&estate, "dev").await.iter().all(|kek| *kek == under), "nothing is left under the old root");
}

/// In the process that is killed: carries over, while four clients sign.
#[allow(clippy::print_stdout, reason = "a measurement")]
async fn carries_over(dir: PathBuf) {
    let mut estate = Estate::existing(dir.clone()).await;
    estate.settings.recovery_key_file = Some(dir.join("recovery.pem"));
    let (service, count) = (estate.open().await.expect("opens"), campaign_keys());
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients = (0..4_usize).map(|client| {
        let (service, stop, done) = (Arc::clone(&service), Arc::clone(&stop), Arc::clone(&done));
        tokio::spawn(async move {
            let mut n = client * 1_000;
            while !stop.load(Ordering::Acquire) {
                n = (n + 7_918) % count / 2 * 2;
                works(&service, &named(&format!("k-{n}")), KeySpec::P256).await;
                done.fetch_add(1, Ordering::AcqRel);
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    until(&service, None).await;
    stop.store(true, Ordering::Release);
    for client in clients {
        client.await.expect("no call failed");
    }
    println!("{} signatures meanwhile, none failed", done.load(Ordering::Acquire));
    shut(service).await;
}
