//! Servers that go and come, and the way to them.

use std::{fs, os::unix::fs::PermissionsExt as _, sync::Arc};

use super::*;

fn over_tcp(server: &Server, tls: Tls, password: &str) -> (tempfile::TempDir, Settings) {
    let folder = tempfile::tempdir().expect("a folder");
    let password_file = folder.path().join("password");
    fs::write(&password_file, format!("{password}\n")).expect("written");
    let hosts = vec![Host::Tcp { name: "127.0.0.1".to_owned(), port: server.port() }];
    (folder, Settings { hosts, password_file: Some(password_file), tls, ..over_socket(server, "main") })
}

/// Tries until it is done: how many tries failed.
async fn insist(store: &PostgresStore, n: u8) -> u32 {
    for failed in 0..40 {
        match store.commit(granted(n)).await {
            Ok(_) => return failed,
            // Applied, but nobody said so.
            Err(CommitError::Exists) => return failed,
            Err(CommitError::Store(StoreError::Unavailable(_))) => tokio::time::sleep(Duration::from_millis(250)).await,
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("never done");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_between_calls_is_not_noticed() {
    let Some(mut server) = own().await else { return };
    let store = PostgresStore::open(over_socket(&server, "main")).await.expect("opens");
    store.commit(granted(1)).await.expect("committed");
    beside(|| {
        server.stop();
        server.start();
    })
    .await;
    assert_eq!(store.assignments().await.expect("read").len(), 1);
    beside(|| {
        server.crash();
        server.start();
    })
    .await;
    store.commit(granted(2)).await.expect("committed");
    beside(|| server.stop()).await;
    let result = store.assignments().await;
    assert!(matches!(result, Err(StoreError::Unavailable(_))), "{result:?}");
    assert!(matches!(store.commit(granted(3)).await, Err(CommitError::Store(StoreError::Unavailable(_)))));
    beside(|| server.start()).await;
    assert_eq!(store.assignments().await.expect("read").len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_during_calls_lose_no_acknowledged_change() {
    let Some(mut server) = own().await else { return };
    let store = PostgresStore::open(over_socket(&server, "main")).await.expect("opens");
    let writing = {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 0..120 {
                insist(&store, n).await;
            }
        })
    };
    while !writing.is_finished() {
        beside(|| {
            std::thread::sleep(Duration::from_millis(150));
            server.crash();
            server.start();
        })
        .await;
    }
    writing.await.expect("no panic");
    assert_eq!(store.assignments().await.expect("read").len(), 120);
    // Hints come again too.
    let other = PostgresStore::open(over_socket(&server, "main")).await.expect("opens");
    other.commit(granted(200)).await.expect("committed");
    tokio::time::timeout(Duration::from_secs(10), store.hint()).await.expect("a hint");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_standby_has_every_acknowledged_change() {
    let Some(mut primary) = own().await else { return };
    let standby = beside(|| primary.standby("one")).await;
    beside(|| primary.sql("ALTER SYSTEM SET synchronous_standby_names = 'one'")).await;
    beside(|| primary.sql("SELECT pg_reload_conf()")).await;
    let settings = Settings {
        hosts: [over_socket(&standby, "main").hosts, over_socket(&primary, "main").hosts].concat(),
        ..over_socket(&primary, "main")
    };
    // The standby is asked first, and passed over.
    let store = PostgresStore::open(settings).await.expect("opens");
    for n in 0..20 {
        store.commit(granted(n)).await.expect("committed");
    }
    // A standby that hangs: nothing is acknowledged.
    standby.freeze();
    let (result, took) = timed(store.commit(granted(100))).await;
    assert!(matches!(result, Err(CommitError::Store(StoreError::Unavailable(_)))), "{result:?}");
    assert!(took < Duration::from_secs(12), "{took:?}");
    standby.thaw();
    insist(&store, 21).await;
    beside(|| primary.crash()).await;
    let Err(StoreError::Unavailable(error)) = store.assignments().await else { panic!("nobody takes changes") };
    assert!(error.to_string().contains("is a standby (read-only)"), "{error}");
    beside(|| standby.promote()).await;
    let found = store.assignments().await.expect("read");
    let ids: Vec<u8> = found.iter().map(|row| row.unchecked().id.bytes()[0]).collect();
    assert!((0..20).chain([21]).all(|n| ids.contains(&n)), "{ids:?}");
    store.commit(granted(99)).await.expect("committed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_hangs_is_noticed_in_seconds() {
    let Some(server) = own().await else { return };
    let store = Arc::new(PostgresStore::open(over_socket(&server, "main")).await.expect("opens"));
    store.commit(granted(1)).await.expect("committed");
    server.freeze();
    let (result, took) = timed(store.assignments()).await;
    assert!(matches!(result, Err(StoreError::Unavailable(_))), "{result:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    server.thaw();
    insist(&store, 2).await;
    assert_eq!(store.assignments().await.expect("read").len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_becomes_read_only_is_left() {
    let Some(server) = own().await else { return };
    let store = PostgresStore::open(over_socket(&server, "main")).await.expect("opens");
    beside(|| server.sql("ALTER SYSTEM SET default_transaction_read_only = on")).await;
    beside(|| server.sql("SELECT pg_reload_conf()")).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    store.database().connections.close_idle();
    let Err(CommitError::Store(StoreError::Unavailable(error))) = store.commit(granted(1)).await else {
        panic!("read-only")
    };
    assert!(error.to_string().contains("is set read-only"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_told_without_it() {
    let Some(server) = shared().await else { return };
    let (_folder, settings) = over_tcp(server, Tls::Off, "not this one");
    let Err(StoreError::Unavailable(error)) = PostgresStore::open(settings).await else { panic!("opens") };
    let told = format!("{error} {error:?}");
    assert!(told.contains("28P01") && !told.contains("not this one"), "{told}");
    let (_folder, settings) = over_tcp(server, Tls::Off, server::PASSWORD);
    PostgresStore::open(Settings { schema: schema().parse().expect("a name"), ..settings }).await.expect("opens");
    let (folder, settings) = over_tcp(server, Tls::Off, server::PASSWORD);
    drop(folder);
    let Err(StoreError::Unavailable(error)) = PostgresStore::open(settings).await else { panic!("opens") };
    assert!(error.to_string().contains("cannot read"), "{error}");
}

/// An authority, and a certificate of its for a name.
fn authority(name: &str) -> (String, String, String) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut about = rcgen::CertificateParams::new(Vec::new()).expect("right");
    about.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = about.self_signed(&key).expect("signed");
    let issuer = rcgen::Issuer::new(about, key);
    let its_key = rcgen::KeyPair::generate().expect("a key");
    let its = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("right");
    let its = its.signed_by(&its_key, &issuer).expect("signed");
    (certificate.pem(), its.pem(), its_key.serialize_pem())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_known_by_its_certificate_and_name() {
    let Some(mut server) = own().await else { return };
    let (ca, certificate, key) = authority("127.0.0.1");
    for (name, text) in [("server.crt", certificate), ("server.key", key)] {
        let path = server.data().join(name);
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("set");
        server.own(&path);
    }
    server.configure("ssl = on");
    fs::write(server.data().join("pg_hba.conf"), "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n")
        .expect("written");
    beside(|| {
        server.stop();
        server.start();
    })
    .await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("written");
        path
    };
    let verified = |path: PathBuf| Tls::Verified { ca: path, client: None };
    let (_kept, right) = over_tcp(&server, verified(file("ca.pem", &ca)), server::PASSWORD);
    PostgresStore::open(right.clone()).await.expect("opens");
    let other_name =
        Settings { hosts: vec![Host::Tcp { name: "localhost".to_owned(), port: server.port() }], ..right.clone() };
    let other_authority = Settings { tls: verified(file("other.pem", &authority("127.0.0.1").0)), ..right.clone() };
    let plain = Settings { tls: Tls::Off, ..right };
    for wrong in [other_name, other_authority, plain] {
        let result = PostgresStore::open(wrong).await;
        assert!(matches!(result, Err(StoreError::Unavailable(_))), "{result:?}");
    }
}
