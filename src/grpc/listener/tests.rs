//! A real listener, real certificates and tonic's client; behind it only the health service.

use std::sync::Mutex;

use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use tokio::io::AsyncWriteExt as _;
use tonic::{
    Code, Status,
    service::Routes,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt as _;

use super::*;
use crate::{
    bearer::{Bearers, Issued},
    grpc::{
        Limits,
        tls::{Credentials, Material, server},
        trust::AuthorityMaterial,
    },
    model::{Clock as _, Origin, SystemClock},
};

/// An authority and a running listener that trusts it.
struct Stand {
    authority: Issuer,
    /// What the server shows.
    own: (String, String),
    gate: Arc<Gate>,
    address: SocketAddr,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
    /// From where the requests came.
    sources: Arc<Mutex<Vec<(String, Origin)>>>,
}

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// The front, and a note of every peer.
struct Noting {
    front: Front,
    sources: Arc<Mutex<Vec<(String, Origin)>>>,
}

impl Answers for Noting {
    async fn answer(&self, peer: &Peer, request: http::Request<Body>) -> Result<http::Response<Body>, Infallible> {
        self.sources.lock().expect("not poisoned").push((peer.source.clone(), peer.origin));
        if request.headers().contains_key("introduces") {
            // As the front does when it believes a token.
            peer.introduced.cancel();
        }
        self.front.answer(peer, request).await
    }

    fn end(&self) {
        self.front.end();
    }
}

/// Nobody's tokens are believed.
fn bearers() -> Arc<Bearers> {
    let issued = Arc::new(Issued::new("urn:strongroom:test"));
    Arc::new(Bearers::new(Vec::new(), issued, Arc::new(SystemClock)))
}

fn authority() -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signs")
}

/// What a server is that has this certificate and key, and trusts those authorities.
fn credentials(own: &(String, String), authorities: &[&Issuer]) -> Credentials {
    let material = |(at, issuer): (usize, &&Issuer)| AuthorityMaterial {
        name: at.to_string(),
        certificates: issuer.pem().into_bytes(),
        ..AuthorityMaterial::default()
    };
    let authorities: Vec<AuthorityMaterial> = authorities.iter().enumerate().map(material).collect();
    let (certificate, key, now) = (own.0.as_bytes(), own.1.as_bytes(), SystemClock.now());
    server(&Material { certificate, key, web: None, authorities: &authorities, now }).expect("is right")
}

impl Stand {
    async fn new(connections_max: usize) -> Self {
        Self::with(Options::of(connections_max)).await
    }

    async fn with(options: Options) -> Self {
        let authority = authority();
        let own = leaf(&authority, &[]);
        let gate = Gate::new(credentials(&own, &[&authority]), Arc::new(SystemClock));
        let limits =
            Limits { requests_max: 8, deadline_default: Duration::from_secs(5), deadline_max: Duration::from_secs(5) };
        let (_, health) = tonic_health::server::health_reporter();
        let sources = Arc::new(Mutex::default());
        let front = Front::new(Routes::new(health).prepare(), limits, Arc::new(|_| false), bearers());
        let front = Noting { front, sources: Arc::clone(&sources) };
        let here = ([127, 0, 0, 1], 0).into();
        let bound = Listener::bind(here, Arc::clone(&gate), None, front, options).await.expect("binds");
        let (address, stop) = (bound.address().expect("is bound"), CancellationToken::new());
        let serving = tokio::spawn(bound.serve(stop.clone(), Duration::from_secs(2)));
        Self { authority, own, gate, address, stop, serving, sources }
    }

    /// A client; with a certificate of these URI names, or without any.
    async fn client(&self, uris: Option<&[&str]>) -> Result<HealthClient<Channel>, tonic::transport::Error> {
        Ok(HealthClient::new(self.endpoint(uris.map(|uris| leaf(&self.authority, uris))).connect().await?))
    }

    fn endpoint(&self, identity: Option<(String, String)>) -> Endpoint {
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(self.authority.pem()));
        if let Some((certificate, key)) = identity {
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        let address = format!("https://localhost:{}", self.address.port());
        Endpoint::from_shared(address).expect("an address").tls_config(tls).expect("is right")
    }

    /// A client whose connection begins with these bytes, before TLS.
    async fn behind(&self, header: Vec<u8>) -> Result<HealthClient<Channel>, tonic::transport::Error> {
        let address = self.address;
        let connect = tower::service_fn(move |_| {
            let header = header.clone();
            async move {
                let mut stream = TcpStream::connect(address).await?;
                stream.write_all(&header).await?;
                io::Result::Ok(TokioIo::new(stream))
            }
        });
        let endpoint = self.endpoint(Some(leaf(&self.authority, &["spiffe://example.org/a"])));
        Ok(HealthClient::new(endpoint.connect_with_connector(connect).await?))
    }

    fn last_source(&self) -> (String, Origin) {
        self.sources.lock().expect("not poisoned").last().cloned().expect("somebody asked")
    }
}

fn leaf(authority: &Issuer, uris: &[&str]) -> (String, String) {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    params.subject_alt_names.extend(uris.iter().map(|uri| SanType::URI((*uri).try_into().expect("IA5"))));
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, authority).expect("signs");
    (certificate.pem(), key.serialize_pem())
}

async fn check(client: &mut HealthClient<Channel>, service: String) -> Result<(), Status> {
    client.check(HealthCheckRequest { service }).await.map(drop)
}

/// Only those with a certificate may watch.
async fn watch(client: &mut HealthClient<Channel>) -> Result<(), Status> {
    client.watch(HealthCheckRequest::default()).await.map(drop)
}

#[tokio::test]
async fn a_certificate_opens_every_door_and_none_only_the_health_check() {
    let stand = Stand::new(10).await;
    let mut stranger = stand.client(None).await.expect("connects");
    assert!(check(&mut stranger, String::new()).await.is_ok());
    assert_eq!(watch(&mut stranger).await.expect_err("is refused").code(), Code::Unauthenticated);
    let mut friend = stand.client(Some(&["spiffe://example.org/a"])).await.expect("connects");
    assert!(watch(&mut friend).await.is_ok());
    let mut two = stand.client(Some(&["spiffe://a/b", "spiffe://a/c"])).await.expect("connects");
    let refused = watch(&mut two).await.expect_err("is refused");
    assert!(refused.message().contains("2 URI names"), "{refused:?}");
}

#[tokio::test]
async fn a_certificate_of_another_authority_does_not_connect() {
    let (stand, other) = (Stand::new(10).await, Stand::new(10).await);
    let (certificate, key) = leaf(&other.authority, &["spiffe://example.org/a"]);
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(stand.authority.pem()))
        .identity(Identity::from_pem(certificate, key));
    let address = format!("https://localhost:{}", stand.address.port());
    let endpoint = Endpoint::from_shared(address).expect("an address").tls_config(tls).expect("is right");
    // In TLS 1.3 the client learns of it with the first answer.
    if let Ok(channel) = endpoint.connect().await {
        assert!(check(&mut HealthClient::new(channel), String::new()).await.is_err());
    }
}

#[tokio::test]
async fn a_message_that_is_too_long_gets_a_status() {
    let stand = Stand::new(10).await;
    let mut client = stand.client(Some(&[])).await.expect("connects");
    for _ in 0..5 {
        let refused = check(&mut client, "x".repeat(5 << 20)).await.expect_err("is refused");
        let reason = refused.get_error_details().error_info().map(|info| info.reason.clone());
        assert_eq!(
            (refused.code(), reason.as_deref()),
            (Code::InvalidArgument, Some("REQUEST_TOO_LARGE")),
            "{refused:?}"
        );
    }
    assert!(check(&mut client, String::new()).await.is_ok());
}

#[tokio::test]
async fn who_comes_above_the_limit_is_sent_away() {
    let stand = Stand::new(1).await;
    let mut first = stand.client(Some(&[])).await.expect("connects");
    assert!(check(&mut first, String::new()).await.is_ok());
    let second = match stand.client(Some(&[])).await {
        Ok(mut second) => check(&mut second, String::new()).await.is_ok(),
        Err(_) => false,
    };
    assert!(!second);
    drop(first);
    for _ in 0..100 {
        if stand.client(Some(&[])).await.is_ok() {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("the place is not free again");
}

#[tokio::test]
async fn stopping_closes_what_is_idle_and_does_not_wait_for_strangers() {
    let stand = Stand::new(10).await;
    let mut idle = stand.client(Some(&[])).await.expect("connects");
    assert!(check(&mut idle, String::new()).await.is_ok());
    // Somebody who never says anything.
    let _silent = TcpStream::connect(stand.address).await.expect("connects");
    stand.stop.cancel();
    timeout(Duration::from_secs(1), stand.serving).await.expect("ends in time").expect("does not panic");
    assert!(TcpStream::connect(stand.address).await.is_err());
}

/// Waits for the end of a stream that would go on for ever.
async fn ended(watching: &mut tonic::Streaming<tonic_health::pb::HealthCheckResponse>) {
    let ending = async { while let Ok(Some(_)) = watching.message().await {} };
    timeout(Duration::from_secs(30), ending).await.expect("it ends");
}

#[tokio::test]
async fn who_is_covered_no_more_is_sent_away_and_others_stay() {
    let stand = Stand::new(10).await;
    let partner = authority();
    assert_eq!(stand.gate.replace(credentials(&stand.own, &[&stand.authority, &partner])), 0);
    let mut own = stand.client(Some(&["spiffe://example.org/a"])).await.expect("connects");
    let identity = leaf(&partner, &["spiffe://partner.example/b"]);
    let mut other = HealthClient::new(stand.endpoint(Some(identity.clone())).connect().await.expect("connects"));
    let mut watching_own = own.watch(HealthCheckRequest::default()).await.expect("may").into_inner();
    let mut watching = other.watch(HealthCheckRequest::default()).await.expect("may").into_inner();
    assert_eq!(stand.gate.recheck(), 0);
    assert_eq!(stand.gate.replace(credentials(&stand.own, &[&stand.authority])), 1);
    ended(&mut watching).await;
    let again = match stand.endpoint(Some(identity)).connect().await {
        Ok(channel) => watch(&mut HealthClient::new(channel)).await.is_ok(),
        Err(_) => false,
    };
    assert!(!again, "it does not come in again");
    assert!(watching_own.message().await.expect("goes on").is_some());
    assert!(watch(&mut own).await.is_ok());
    drop((own, watching_own));
    for _ in 0..500 {
        if stand.gate.recheck() == 0 && stand.gate.inside_count() == 0 {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("those who left are still remembered");
}

#[tokio::test]
async fn an_identity_ends_with_its_certificate() {
    let stand = Stand::new(10).await;
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.subject_alt_names.push(SanType::URI("spiffe://example.org/a".try_into().expect("IA5")));
    let now = SystemClock.now();
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(now.0).expect("later") + 3);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, &stand.authority).expect("signs").pem();
    let channel = stand.endpoint(Some((certificate, key.serialize_pem()))).connect().await.expect("connects in time");
    let mut watching = HealthClient::new(channel).watch(HealthCheckRequest::default()).await.expect("may").into_inner();
    ended(&mut watching).await;
    assert!(SystemClock.now() >= crate::model::Timestamp(now.0 + 3), "not before");
}

#[tokio::test]
async fn a_connection_that_has_had_its_time_ends_and_its_requests_do_first() {
    let age = Some(Duration::from_millis(200));
    let stand = Stand::with(Options { age_max: age, grace: Duration::from_millis(500), ..Options::of(10) }).await;
    let mut client = stand.client(Some(&["spiffe://example.org/a"])).await.expect("connects");
    let mut watching = client.watch(HealthCheckRequest::default()).await.expect("may").into_inner();
    let mut lost = 0;
    for _ in 0..200 {
        // What meets the goodbye is not begun, and a client repeats it on its next connection.
        lost = if check(&mut client, String::new()).await.is_ok() { 0 } else { lost + 1 };
        assert!(lost < 3, "a new connection is made");
        sleep(Duration::from_millis(10)).await;
    }
    ended(&mut watching).await;
    let ports: std::collections::BTreeSet<String> =
        stand.sources.lock().expect("not poisoned").iter().map(|(source, _)| source.clone()).collect();
    assert!(ports.len() > 2, "{ports:?}");
}

#[tokio::test]
async fn a_trusted_proxy_says_where_a_connection_comes_from() {
    let proxies = vec!["127.0.0.0/8".parse().expect("a range")];
    let stand = Stand::with(Options { trusted_proxies: proxies, ..Options::of(10) }).await;
    let v2 = |command: u8| {
        let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
        header.extend([0x20 | command, 0x11, 0, 12, 203, 0, 113, 9, 10, 0, 0, 1, 0x12, 0x67, 0x20, 0xfb]);
        header
    };
    for header in [b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 8443\r\n".to_vec(), v2(1)] {
        let mut client = stand.behind(header).await.expect("connects");
        assert!(watch(&mut client).await.is_ok());
        let beyond = Origin::Address([203, 0, 113, 9].into());
        assert_eq!(stand.last_source(), ("203.0.113.9:4711 via 127.0.0.1".to_owned(), beyond));
    }
    for header in [b"PROXY UNKNOWN\r\n".to_vec(), v2(0)] {
        let mut client = stand.behind(header).await.expect("connects");
        assert!(watch(&mut client).await.is_ok());
        let (source, origin) = stand.last_source();
        assert!(source.starts_with("127.0.0.1:") && origin == Origin::Address([127, 0, 0, 1].into()), "{source}");
    }
    for header in [Vec::new(), b"PROXY TCP4 203.0.113.9 10.0.0.1 4711\r\n".to_vec()] {
        assert!(stand.behind(header).await.is_err(), "without a header that is right it is closed");
    }
}

#[tokio::test]
async fn a_header_of_anybody_else_is_no_tls() {
    let proxies = vec!["10.0.0.0/8".parse().expect("a range")];
    let stand = Stand::with(Options { trusted_proxies: proxies, ..Options::of(10) }).await;
    assert!(stand.behind(b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 8443\r\n".to_vec()).await.is_err());
    let mut client = stand.behind(Vec::new()).await.expect("connects");
    assert!(watch(&mut client).await.is_ok());
    assert!(stand.last_source().0.starts_with("127.0.0.1:"));
}

#[tokio::test]
async fn the_unix_socket_has_the_same_front_and_the_same_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("s");
    let place = unix::UnixSocket { path: path.clone(), mode: 0o600, uids: Vec::new(), gids: Vec::new() };
    let bound = unix::Bound::new(&place).expect("is made");
    let (authority, sources) = (authority(), Arc::new(Mutex::<Vec<(String, Origin)>>::default()));
    let gate = Gate::new(credentials(&leaf(&authority, &[]), &[&authority]), Arc::new(SystemClock));
    let limits =
        Limits { requests_max: 8, deadline_default: Duration::from_secs(5), deadline_max: Duration::from_secs(5) };
    let (_, health) = tonic_health::server::health_reporter();
    let front = Front::new(Routes::new(health).prepare(), limits, Arc::new(|_| false), bearers());
    let front = Noting { front, sources: Arc::clone(&sources) };
    let here = ([127, 0, 0, 1], 0).into();
    let listener = Listener::bind(here, gate, Some(bound), front, Options::of(4)).await.expect("binds");
    let stop = CancellationToken::new();
    let serving = tokio::spawn(listener.serve(stop.clone(), Duration::from_secs(2)));
    let endpoint = Endpoint::from_shared(format!("unix:{}", path.display())).expect("an address");
    let mut client = HealthClient::new(endpoint.connect().await.expect("connects"));
    assert!(watch(&mut client).await.is_ok(), "it has an identity");
    let last = sources.lock().expect("not poisoned").last().cloned().expect("somebody asked");
    assert_eq!(last, (format!("unix:pid:{}", std::process::id()), Origin::Local));
    stop.cancel();
    timeout(Duration::from_secs(30), serving).await.expect("ends in time").expect("does not panic");
    assert!(!path.exists());
}

#[tokio::test]
async fn a_peer_that_a_token_has_introduced_leaves_its_place_to_the_next() {
    let stand = Stand::new(1000).await;
    let connect = async |introduces: bool| {
        let mut client = stand.client(None).await?;
        let mut request = tonic::Request::new(HealthCheckRequest::default());
        if introduces {
            request.metadata_mut().insert("introduces", "1".parse().expect("ASCII"));
        }
        let answered = client.check(request).await;
        Ok::<_, tonic::transport::Error>(answered.map(|_| client))
    };
    let mut kept = Vec::new();
    for _ in 0..ANONYMOUS_MAX + 6 {
        kept.push(connect(true).await.expect("connects").expect("there is room"));
    }
    for _ in 0..ANONYMOUS_MAX {
        kept.push(connect(false).await.expect("connects").expect("there is room"));
    }
    let last = connect(false).await;
    assert!(!matches!(last, Ok(Ok(_))), "those whom nobody introduced are bounded");
}
