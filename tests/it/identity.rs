//! Who callers are, and for how long: revocation lists and authorities that change under a running server, renewed
//! certificates, the age of connections, the Unix socket, and what a proxy says.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rcgen::{
    CertificateParams, CertificateRevocationListParams, ExtendedKeyUsagePurpose, Issuer, KeyIdMethod, KeyPair,
    RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use strongroom_client::{Algorithm, Credentials, Input, Settings};
use strongroom_proto::v1::{crypto_client::CryptoClient, operation_request::Operation};
use tokio::task::JoinSet;
use tonic::{
    Code, Request,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::{
    batch::{two_keys, until},
    dev::{Dev, PROGRAM, Start, signal, text},
    production::Site,
    rpc::{connect, reason, sign},
    stream::Talk,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for something, and says what it waited for when it does not come.
fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_there() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A site whose `[server]` has these lines too, with tables after them.
fn site(lines: &str, tables: &str) -> Site {
    let site = Site::new();
    let path = site.path("strongroom.toml");
    let sample = fs::read_to_string(&path).expect("reads");
    let config = sample.replacen("[server]\n", &format!("[server]\nreload_every_ms = 100\n{lines}\n"), 1);
    fs::write(&path, format!("{config}\n{tables}\n")).expect("writes");
    site
}

/// An authority whose certificate and key lie there.
fn issuer(certificate: &Path, key: &Path) -> Issuer<'static, KeyPair> {
    let pem = |path: &Path| fs::read_to_string(path).expect("reads");
    let key = KeyPair::from_pem(&pem(key)).expect("a key");
    Issuer::from_ca_cert_pem(&pem(certificate), key).expect("an authority")
}

fn site_issuer(site: &Site) -> Issuer<'static, KeyPair> {
    issuer(&site.path("tls/clients.pem"), &site.path("tls/ca.key"))
}

/// A client's certificate and key (PEM).
fn client(issuer: &Issuer<'_, KeyPair>, names: Vec<SanType>, serial: u64) -> (String, String) {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.serial_number = Some(SerialNumber::from(serial));
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, issuer).expect("signs");
    (certificate.pem(), key.serialize_pem())
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("ASCII"))
}

/// A revocation list with these serial numbers.
fn crl(issuer: &Issuer<'_, KeyPair>, serials: &[u64]) -> String {
    let revoked = serials.iter().map(|serial| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: date_time_ymd(2025, 1, 1),
        reason_code: None,
        invalidity_date: None,
    });
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2025, 1, 1),
        next_update: date_time_ymd(2090, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: revoked.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(issuer).expect("signs").pem().expect("PEM")
}

/// Puts a file in its place whole, as tools do.
fn put(path: &Path, content: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, content).expect("writes");
    fs::set_permissions(&beside, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("sets");
    fs::rename(beside, path).expect("renames");
}

fn endpoint(address: &str, ca: &str, (certificate, key): &(String, String)) -> Endpoint {
    let tls =
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)).identity(Identity::from_pem(certificate, key));
    Channel::from_shared(address.to_owned()).expect("a URI").tls_config(tls).expect("TLS")
}

fn site_endpoint(site: &Site, identity: &(String, String)) -> Endpoint {
    endpoint(&site.endpoint(), &fs::read_to_string(site.path("tls/clients.pem")).expect("reads"), identity)
}

fn log(site: &Site) -> String {
    fs::read_to_string(site.path("serve.log")).unwrap_or_default()
}

/// A site that serves, with a key for signing whose users are named.
fn prepared(site: &Site, users: &[&str]) {
    site.client_ok(&["vault", "create", "main"]);
    site.client_ok(&["key", "create", "ec", "--type", "EC"]);
    for user in users {
        site.client_ok(&[
            "access",
            "grant",
            "--principal",
            user,
            "--role",
            "Key Vault Crypto User",
            "--scope",
            "vaults/main",
        ]);
    }
}

fn signing() -> Operation {
    Operation::Sign(sign("vaults/main/keys/ec"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_on_a_new_revocation_list_ends_with_its_streams_and_others_stay() {
    let site = site("crl = [\"tls/clients.crl\"]", "");
    let issuer = site_issuer(&site);
    fs::write(site.path("tls/clients.crl"), crl(&issuer, &[])).expect("writes");
    site.init();
    let serving = site.serve();
    let users = ["spiffe://example.org/ci", "spiffe://example.org/other"];
    prepared(&site, &users);
    let (ci, other) = (client(&issuer, vec![uri(users[0])], 77), client(&issuer, vec![uri(users[1])], 78));
    let (ci_channel, other_channel) =
        (site_endpoint(&site, &ci).connect().await, site_endpoint(&site, &other).connect().await);
    let mut talk = Talk::open(&ci_channel.expect("connects")).await;
    let mut staying = Talk::open(&other_channel.expect("connects")).await;
    talk.send(1, signing()).await;
    talk.answer().await;

    put(&site.path("tls/clients.crl"), &crl(&issuer, &[77]));
    // Nothing is sent: it ends by itself.
    let status = talk.next().await.expect_err("its stream ends");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "UNAUTHENTICATED"), "{status:?}");
    let again = match site_endpoint(&site, &ci).connect().await {
        Ok(channel) => CryptoClient::new(channel).sign(sign("vaults/main/keys/ec")).await.is_ok(),
        Err(_) => false,
    };
    assert!(!again, "it does not come in again");
    staying.send(1, signing()).await;
    staying.answer().await;
    site.client_ok(&["vault", "list"]);
    serving.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_that_is_taken_away_ends_its_streams_and_what_waits_in_queues() {
    let mut dev = Dev::new();
    dev.stop();
    dev.start(Start { faults: &["medium=sign=delay:200ms"], set: &["medium.workers=1"], ..Start::default() });
    let admin = connect(&dev).await;
    two_keys(&admin).await;
    let who = "spiffe://partner.example/ci";
    dev.ok(&["access", "grant", "--principal", who, "--role", "Key Vault Crypto User", "--scope", "vaults/dev"]);
    let bundle = dev.data().join("tls/ca.pem");
    let own = fs::read_to_string(&bundle).expect("reads");
    let mut params = CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let partner = rcgen::CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signs");
    put(&bundle, &format!("{own}{}", partner.pem()));
    let identity = client(&partner, vec![uri(who)], 1);
    let endpoint = endpoint(&dev.variable("STRONGROOM_ENDPOINT"), &own, &identity);
    let channel = loop {
        // In TLS 1.3 the client learns with the first answer whether it was let in.
        if let Ok(channel) = endpoint.connect().await
            && CryptoClient::new(channel.clone()).sign(sign("vaults/dev/keys/ec")).await.is_ok()
        {
            break channel;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let mut talk = Talk::open(&channel).await;
    let mut calls = JoinSet::new();
    for _ in 0..150 {
        let mut crypto = CryptoClient::new(channel.clone());
        calls.spawn(async move {
            let mut request = Request::new(sign("vaults/dev/keys/ec"));
            request.set_timeout(Duration::from_secs(55));
            crypto.sign(request).await.map(drop)
        });
    }
    let waiting = ["strongroom_hsm_queue_length", "medium"];
    until(&dev, &waiting, |calls| calls > 50.0).await;
    put(&bundle, &own);
    let status = talk.next().await.expect_err("its stream ends");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "UNAUTHENTICATED"), "{status:?}");
    let ended: Vec<_> = calls.join_all().await;
    assert!(ended.iter().any(Result::is_err), "what waited is refused");
    until(&dev, &waiting, |calls| calls == 0.0).await;
    CryptoClient::new(admin).sign(sign("vaults/dev/keys/ec")).await.expect("the others stay");
}

#[test]
fn a_set_that_is_not_right_stays_outside_and_one_that_is_serves_new_connections() {
    let site = site("", "");
    site.init();
    let serving = site.serve();
    let (certificate, key) = (site.path("tls/server.pem"), site.path("tls/server.key"));
    let right = fs::read_to_string(&certificate).expect("reads");
    put(&certificate, "no certificate");
    wait_for("the refusal is logged", || log(&site).contains("nothing of them is taken"));
    site.client_ok(&["vault", "list"]);
    put(&certificate, &right);

    let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("names");
    params.distinguished_name.push(rcgen::DnType::CommonName, "renewed");
    let new_key = KeyPair::generate().expect("a key");
    let renewed = params.signed_by(&new_key, &site_issuer(&site)).expect("signs");
    put(&key, &new_key.serialize_pem());
    put(&certificate, &renewed.pem());
    signal(serving.id(), "HUP");
    let address = site.endpoint().trim_start_matches("https://").to_owned();
    wait_for("new connections see the new certificate", || {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &address, "-alpn", "h2"]).stdin(Stdio::null());
        String::from_utf8_lossy(&command.output().expect("OpenSSL").stdout).contains("renewed")
    });
    site.client_ok(&["vault", "list"]);
    serving.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_have_had_their_time_lose_no_request() {
    let site = site("connection_age_max_ms = 300\nconnection_grace_ms = 2000", "");
    site.init();
    let serving = site.serve();
    prepared(&site, &[]);
    let read = |name: &str| fs::read(site.path("tls").join(name)).expect("reads");
    let credentials =
        Credentials { ca: read("clients.pem"), certificate: read("admin.pem"), private_key: read("admin.key").into() };
    let settings = Settings::new(&site.endpoint(), credentials).expect("is right");
    let client = settings.connect().await.expect("connects");
    let mut callers = JoinSet::new();
    for _ in 0..4 {
        let client = client.clone();
        callers.spawn(async move {
            let begun = Instant::now();
            // Ten connections one after another.
            while begun.elapsed() < Duration::from_secs(3) {
                let signed = client.sign("vaults/main/keys/ec", &Algorithm::ES256, Input::Digest(&[1; 32])).await;
                signed.expect("is not lost");
            }
        });
    }
    callers.join_all().await;
    serving.stop();
}

#[test]
fn the_unix_socket_serves_whom_the_kernel_names() {
    let site = site("", "[server.unix]\npath = \"run/strongroom.sock\"\nmode = \"0600\"");
    let (folder, socket) = (site.path("run"), site.path("run/strongroom.sock"));
    fs::create_dir(&folder).expect("makes");
    fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("sets");
    site.init();
    let serving = site.serve();
    let uid = fs::metadata(&folder).expect("is there").uid();
    prepared(&site, &[]);
    let run = |arguments: &[&str]| {
        let mut command = Command::new(PROGRAM);
        // Nothing but the socket is known: no certificate, no CA.
        command.args(arguments).env_clear().env("STRONGROOM_ENDPOINT", format!("unix:{}", socket.display()));
        command.env("STRONGROOM_VAULT", "main").stdin(Stdio::null()).output().expect("runs")
    };
    let (input, output) = (site.path("pin"), site.path("sig"));
    let signing = ["key", "sign", "ec", "--algorithm", "ES256", "--in", text(&input), "--out", text(&output)];
    let refused = run(&signing);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2));
    assert!(said.contains(&format!("--principal unix:uid:{uid} ")), "the hint names us: {said}");
    let principal = format!("unix:uid:{uid}");
    site.client_ok(&[
        "access",
        "grant",
        "--principal",
        &principal,
        "--role",
        "Key Vault Crypto User",
        "--scope",
        "vaults/main",
    ]);
    let signed = run(&signing);
    assert!(signed.status.success(), "{}", String::from_utf8_lossy(&signed.stderr));
    let records: String = fs::read_dir(site.path("audit/journal"))
        .expect("a folder")
        .filter_map(|entry| fs::read_to_string(entry.expect("an entry").path()).ok())
        .collect();
    let record = records.lines().find(|line| line.contains("\"keys.sign\"") && line.contains("\"done\""));
    let record = record.expect("it is recorded");
    assert!(record.contains(&format!("\"{principal}\"")) && record.contains("\"unix:pid:"), "{record}");
    serving.stop();
    assert!(!socket.exists(), "it goes with the server");
}

#[test]
fn names_are_mapped_as_the_operator_says() {
    let tables = "[[server.mapping]]\nfrom = \"dns\"\nwithin = [\"build.example.org\"]";
    let site = site("", tables);
    site.init();
    let serving = site.serve();
    prepared(&site, &["x509:dns:agent.build.example.org"]);
    let issuer = site_issuer(&site);
    let named = |name: &str| client(&issuer, vec![SanType::DnsName(name.try_into().expect("IA5"))], 5);
    let runtime = tokio::runtime::Runtime::new().expect("starts");
    let signs = |identity: &(String, String)| {
        runtime.block_on(async {
            let channel = site_endpoint(&site, identity).connect().await.expect("connects");
            CryptoClient::new(channel).sign(sign("vaults/main/keys/ec")).await.map(drop).map_err(|status| status.code())
        })
    };
    assert_eq!(signs(&named("Agent.Build.example.org")), Ok(()));
    assert_eq!(signs(&named("agent.build.example.org.evil.example")), Err(Code::PermissionDenied));
    assert_eq!(signs(&named("*.build.example.org")), Err(Code::Unauthenticated));
    serving.stop();
}

#[tokio::test]
async fn a_record_shows_the_caller_behind_a_proxy_and_the_proxy() {
    let site = site("proxy_protocol = true\ntrusted_proxies = [\"127.0.0.1\"]", "");
    site.init();
    let serving = site.serve_behind_proxy();
    let address = site.endpoint().trim_start_matches("https://").to_owned();
    let read = |name: &str| fs::read_to_string(site.path("tls").join(name)).expect("reads");
    let endpoint = site_endpoint(&site, &(read("admin.pem"), read("admin.key")));
    let connect = tower::service_fn(move |_| {
        let address = address.clone();
        async move {
            let mut stream = tokio::net::TcpStream::connect(address).await?;
            let header = b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 8443\r\n";
            tokio::io::AsyncWriteExt::write_all(&mut stream, header).await?;
            std::io::Result::Ok(hyper_util::rt::TokioIo::new(stream))
        }
    });
    let channel = endpoint.connect_with_connector(connect).await.expect("connects");
    let mut vaults = strongroom_proto::v1::vaults_client::VaultsClient::new(channel);
    let create = strongroom_proto::v1::CreateVaultRequest { vault_id: "main".to_owned(), ..Default::default() };
    vaults.create_vault(create).await.expect("made");
    let records: String = fs::read_dir(site.path("audit/journal"))
        .expect("a folder")
        .filter_map(|entry| fs::read_to_string(entry.expect("an entry").path()).ok())
        .collect();
    assert!(records.contains("\"203.0.113.9:4711 via 127.0.0.1\""), "{records}");
    // Without a header nobody comes in from there.
    assert!(!site.client(&["vault", "list"]).status.success());
    serving.stop();
}
