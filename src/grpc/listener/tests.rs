//! A real listener, real certificates and tonic's client; behind it only the health service.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use tonic::{
    Code, Status,
    service::Routes,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt as _;

use super::*;
use crate::{
    grpc::{
        Limits,
        tls::{Material, server},
        trust::AuthorityMaterial,
    },
    model::{Clock as _, SystemClock},
};

/// An authority and a running listener that trusts it.
struct Stand {
    authority: CertifiedIssuer<'static, KeyPair>,
    address: SocketAddr,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

impl Stand {
    async fn new(connections_max: usize) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(params, key).expect("signs");
        let (certificate, key) = leaf(&authority, &[]);
        let ca = authority.pem();
        let authorities = [AuthorityMaterial { certificates: ca.into_bytes(), ..AuthorityMaterial::default() }];
        let (certificate, key, now) = (certificate.as_bytes(), key.as_bytes(), SystemClock.now());
        let credentials = server(&Material { certificate, key, authorities: &authorities, now }).expect("is right");
        let gate = Gate::new(credentials, Arc::new(SystemClock));
        let limits =
            Limits { requests_max: 8, deadline_default: Duration::from_secs(5), deadline_max: Duration::from_secs(5) };
        let (_, health) = tonic_health::server::health_reporter();
        let front = Front::new(Routes::new(health).prepare(), limits);
        let here = ([127, 0, 0, 1], 0).into();
        let bound = Listener::bind(here, gate, None, front, Options::of(connections_max)).await.expect("binds");
        let (address, stop) = (bound.address().expect("is bound"), CancellationToken::new());
        let serving = tokio::spawn(bound.serve(stop.clone(), Duration::from_secs(2)));
        Self { authority, address, stop, serving }
    }

    /// A client; with a certificate of these URI names, or without any.
    async fn client(&self, uris: Option<&[&str]>) -> Result<HealthClient<Channel>, tonic::transport::Error> {
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(self.authority.pem()));
        if let Some(uris) = uris {
            let (certificate, key) = leaf(&self.authority, uris);
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        let endpoint = Endpoint::from_shared(format!("https://localhost:{}", self.address.port()))?.tls_config(tls)?;
        Ok(HealthClient::new(endpoint.connect().await?))
    }
}

fn leaf(authority: &CertifiedIssuer<'static, KeyPair>, uris: &[&str]) -> (String, String) {
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
