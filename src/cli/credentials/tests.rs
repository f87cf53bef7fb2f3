//! Files that change under a server.

use std::{fs, path::PathBuf, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::*;

/// A folder with what TLS stands on, and its keeper.
struct Site {
    folder: tempfile::TempDir,
    keeper: Keeper,
}

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signs")
}

fn write_server(folder: &Path, authority: &Issuer) -> Vec<u8> {
    let (params, key) = (CertificateParams::new(vec!["localhost".to_owned()]), KeyPair::generate().expect("a key"));
    let certificate = params.expect("a name").signed_by(&key, authority).expect("signs");
    fs::write(folder.join("server.pem"), certificate.pem()).expect("writes");
    fs::write(folder.join("server.key"), key.serialize_pem()).expect("writes");
    certificate.der().to_vec()
}

fn server(folder: &Path) -> config::Server {
    config::Server {
        listen: ([127, 0, 0, 1], 0).into(),
        certificate: folder.join("server.pem"),
        azure_pair: None,
        key: folder.join("server.key"),
        authorities: vec![config::Authority {
            name: "clients".to_owned(),
            file: folder.join("ca.pem"),
            ..config::Authority::default()
        }],
        reload_every: Duration::from_secs(10),
        trusted_proxies: Vec::new(),
        unix: None,
        connections_max: 1,
        connection_age_max: None,
        connection_grace: Duration::ZERO,
        requests_max: 1,
        deadline_default: Duration::from_secs(1),
        deadline_max: Duration::from_secs(1),
        drain: Duration::ZERO,
    }
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = authority();
        fs::write(folder.path().join("ca.pem"), authority.pem()).expect("writes");
        write_server(folder.path(), &authority);
        let server = server(folder.path());
        let loaded = read(&server).expect("is right");
        let keeper = Keeper::new(server, loaded, Arc::new(SystemClock), Board::default());
        Self { folder, keeper }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn in_force(&self) -> Arc<Credentials> {
        self.keeper.gate.credentials()
    }

    fn standing(&self) -> Arc<TlsStanding> {
        self.keeper.board.tls().expect("is shown")
    }
}

#[test]
fn what_has_changed_is_in_force_after_the_next_look() {
    let site = Site::new();
    let before = site.in_force();
    site.keeper.look(Occasion::Tick);
    assert!(Arc::ptr_eq(&before, &site.in_force()), "nothing has changed");
    write_server(site.folder.path(), &authority());
    site.keeper.look(Occasion::Tick);
    assert!(!Arc::ptr_eq(&before, &site.in_force()));
    assert!(site.standing().files_in_force);
    let after = site.in_force();
    // Written again as it was, as tools do that renew nothing.
    let same = fs::read(site.path("server.pem")).expect("reads");
    fs::write(site.path("server.pem"), same).expect("writes");
    site.keeper.look(Occasion::Tick);
    assert!(Arc::ptr_eq(&after, &site.in_force()));
    site.keeper.look(Occasion::Signal);
    assert!(!Arc::ptr_eq(&after, &site.in_force()), "a signal is not argued with");
}

#[test]
fn what_changes_while_the_server_starts_is_seen_by_the_first_look() {
    let site = Site::new();
    let server = server(site.folder.path());
    let loaded = read(&server).expect("is right");
    write_server(site.folder.path(), &authority());
    let keeper = Keeper::new(server, loaded, Arc::new(SystemClock), Board::default());
    let before = keeper.gate.credentials();
    keeper.look(Occasion::Tick);
    assert!(!Arc::ptr_eq(&before, &keeper.gate.credentials()));
}

#[test]
fn a_set_that_is_not_right_changes_nothing_of_what_is_in_force() {
    let site = Site::new();
    let before = site.in_force();
    // The authorities are right, and the certificate is not the key's: neither is taken.
    fs::write(site.path("ca.pem"), authority().pem()).expect("writes");
    let key = fs::read(site.path("server.key")).expect("reads");
    write_server(site.folder.path(), &authority());
    let certificate_key = fs::read(site.path("server.key")).expect("reads");
    fs::write(site.path("server.key"), key).expect("writes");
    site.keeper.look(Occasion::Tick);
    assert!(Arc::ptr_eq(&before, &site.in_force()));
    let standing = site.standing();
    assert!(
        !standing.files_in_force && standing.refused.as_ref().is_some_and(|why| why.contains("do not fit together")),
        "{standing:?}"
    );
    for (name, content) in [("ca.pem", "no certificate"), ("server.pem", "")] {
        let right = fs::read(site.path(name)).expect("reads");
        fs::write(site.path(name), content).expect("writes");
        site.keeper.look(Occasion::Signal);
        assert!(Arc::ptr_eq(&before, &site.in_force()), "{name}");
        fs::write(site.path(name), right).expect("writes");
    }
    fs::remove_file(site.path("server.key")).expect("removes");
    site.keeper.look(Occasion::Tick);
    assert!(Arc::ptr_eq(&before, &site.in_force()) && !site.standing().files_in_force);
    fs::write(site.path("server.key"), certificate_key).expect("writes");
    site.keeper.look(Occasion::Tick);
    assert!(!Arc::ptr_eq(&before, &site.in_force()) && site.standing().files_in_force, "whole, it is taken");
}

#[test]
fn a_certificate_that_has_expired_replaces_none_that_has_not() {
    let site = Site::new();
    let before = site.in_force();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let key = KeyPair::generate().expect("a key");
    fs::write(site.path("server.pem"), params.self_signed(&key).expect("signs").pem()).expect("writes");
    fs::write(site.path("server.key"), key.serialize_pem()).expect("writes");
    site.keeper.look(Occasion::Tick);
    assert!(Arc::ptr_eq(&before, &site.in_force()));
    assert!(site.standing().refused.as_ref().is_some_and(|why| why.contains("has expired")), "{:?}", site.standing());
}
