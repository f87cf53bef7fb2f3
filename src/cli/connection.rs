//! Where the server is and who we are: flags and environment, checked, and then connected to.
//!
//! TLS always, with a client certificate always; there is no flag that switches either off.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, timeout_at};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Uri};
use x509_parser::extensions::GeneralName;
use zeroize::Zeroizing;

use super::{
    client::Client,
    failure::{Caller, Failure},
    files::{self, Limit},
    tls_cause,
};
use crate::model::VaultName;

/// Where the server is and who we are.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connection (client commands)")]
pub(super) struct ConnectionArgs {
    /// Where the server is [env: STRONGROOM_ENDPOINT]
    #[arg(long, global = true, value_name = "https://HOST:PORT")]
    endpoint: Option<String>,
    /// The CA (PEM) that the server's certificate must come from [env: STRONGROOM_CA]
    #[arg(long, global = true, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Our client certificate (PEM) [env: STRONGROOM_CERT]
    #[arg(long, global = true, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Our private key (PEM) [env: STRONGROOM_KEY]
    #[arg(long, global = true, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// The vault that names of keys are in [env: STRONGROOM_VAULT]
    #[arg(long, global = true, value_name = "VAULT")]
    vault: Option<String>,
    /// How long the whole command may take
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
}

/// How long a connection may take before the host counts as not answering.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A PEM file is never longer.
const PEM: Limit = Limit { bytes_max: 1024 * 1024, hint: "that is no PEM file" };

impl ConnectionArgs {
    /// The current vault.
    pub(super) fn vault(&self) -> anyhow::Result<VaultName> {
        let Some(vault) = self.vault.clone().or_else(|| variable("STRONGROOM_VAULT")?.into_string().ok()) else {
            return Err(Failure::new("no vault is named: neither --vault nor STRONGROOM_VAULT is set")
                .hint(
                    "pass --vault NAME (strongroom vault list shows them), or load the development settings: . DIR/env",
                )
                .into());
        };
        Ok(vault.parse()?)
    }

    /// Connects. All that can be wrong with flags and files is said before anything is sent.
    pub(super) async fn connect(&self) -> anyhow::Result<Client> {
        let deadline = Instant::now() + Duration::from_secs(self.timeout);
        let settings = self.settings()?;
        let caller = Caller {
            principal: principal(&settings.cert),
            endpoint: settings.endpoint.clone(),
            timeout_s: self.timeout,
        };
        let channel = settings.channel(deadline).await?;
        Ok(Client::new(channel, deadline, caller))
    }

    fn settings(&self) -> anyhow::Result<Settings> {
        let endpoint = self.endpoint.clone().or_else(|| variable("STRONGROOM_ENDPOINT")?.into_string().ok());
        let ca = file(self.ca.as_ref(), "STRONGROOM_CA");
        let cert = file(self.cert.as_ref(), "STRONGROOM_CERT");
        let key = file(self.key_file.as_ref(), "STRONGROOM_KEY");
        let missing: Vec<&str> = [
            (endpoint.is_none(), "STRONGROOM_ENDPOINT (--endpoint)"),
            (ca.is_none(), "STRONGROOM_CA (--ca)"),
            (cert.is_none(), "STRONGROOM_CERT (--cert)"),
            (key.is_none(), "STRONGROOM_KEY (--key-file)"),
        ]
        .into_iter()
        .filter(|(missing, _)| *missing)
        .map(|(_, name)| name)
        .collect();
        let (Some(endpoint), Some(ca), Some(cert), Some(key)) = (endpoint, ca, cert, key) else {
            return Err(incomplete(&missing).into());
        };
        let settings = Settings {
            uri: parse_endpoint(&endpoint)?,
            endpoint,
            ca: pem(&ca, "CA", "--ca or STRONGROOM_CA")?,
            cert: pem(&cert, "client certificate", "--cert or STRONGROOM_CERT")?,
            key: pem(&key, "private key", "--key-file or STRONGROOM_KEY")?,
        };
        settings.check(&ca, &cert, &key)?;
        Ok(settings)
    }
}

/// An environment variable; one that is empty is not set. Read here and not by clap, which would put every
/// variable that is set into the usage line of every command.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn file(flag: Option<&PathBuf>, name: &str) -> Option<PathBuf> {
    flag.cloned().or_else(|| variable(name).map(PathBuf::from))
}

fn incomplete(missing: &[&str]) -> Failure {
    Failure::new(format!("cannot connect: {} not set", missing.join(", ")))
        .hint("for development run: . DIR/env (after strongroom dev --data-dir DIR)")
        .hint("else pass: --endpoint https://HOST:PORT --ca FILE --cert FILE --key-file FILE")
}

/// What has been read and checked.
struct Settings {
    endpoint: String,
    uri: Uri,
    ca: Zeroizing<Vec<u8>>,
    cert: Zeroizing<Vec<u8>>,
    key: Zeroizing<Vec<u8>>,
}

impl Settings {
    fn check(&self, ca: &Path, cert: &Path, key: &Path) -> Result<(), Failure> {
        let holds_certificate = |pem: &[u8]| CertificateDer::from_pem_slice(pem).is_ok();
        if !holds_certificate(&self.ca) {
            return Err(not_pem(ca, "certificate", "--ca or STRONGROOM_CA"));
        }
        if !holds_certificate(&self.cert) {
            return Err(not_pem(cert, "certificate", "--cert or STRONGROOM_CERT"));
        }
        if PrivateKeyDer::from_pem_slice(&self.key).is_err() {
            return Err(not_pem(key, "private key", "--key-file or STRONGROOM_KEY"));
        }
        Ok(())
    }

    fn prepare(&self) -> Result<Endpoint, tonic::transport::Error> {
        // An IPv6 host stands in brackets in a URI; a certificate's name does not.
        let host = self.uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let tls = ClientTlsConfig::new()
            .domain_name(host)
            .ca_certificate(Certificate::from_pem(&*self.ca))
            .identity(Identity::from_pem(&*self.cert, &*self.key));
        Endpoint::from(self.uri.clone())
            .user_agent(concat!("strongroom-cli/", env!("CARGO_PKG_VERSION")))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tls_config(tls)
    }

    async fn channel(&self, deadline: Instant) -> Result<Channel, Failure> {
        let endpoint = self.prepare().map_err(|error| {
            Failure::new(format!("the client certificate and key cannot be used: {}", innermost(&error)))
                .hint("check that --cert and --key-file belong together")
        })?;
        let authority = (self.uri.host().unwrap_or_default(), self.uri.port_u16().unwrap_or(443));
        if tokio::net::lookup_host((authority.0.trim_matches(['[', ']']), authority.1)).await.is_err() {
            return Err(Failure::new(format!("cannot connect to {}: there is no host of that name", self.endpoint))
                .hint("check the address in STRONGROOM_ENDPOINT or --endpoint"));
        }
        let unreachable = || {
            Failure::new(format!("cannot connect to {}: the host does not answer", self.endpoint))
                .hint("check the address in STRONGROOM_ENDPOINT or --endpoint, the network, and --timeout")
        };
        match timeout_at(deadline, endpoint.connect()).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => Err(tls_cause::explain(&error, &self.endpoint).unwrap_or_else(|| {
                Failure::new(format!("cannot connect to {}: {}", self.endpoint, innermost(&error)))
                    .hint("check that a Strongroom server listens there")
            })),
            Err(_) => Err(unreachable()),
        }
    }
}

fn parse_endpoint(text: &str) -> Result<Uri, Failure> {
    let wrong = |why: &str| {
        Failure::new(format!("{text:?} is not an endpoint: {why}"))
            .hint("an endpoint looks like https://127.0.0.1:8443")
    };
    if text.starts_with("http://") {
        return Err(wrong("Strongroom is spoken to over TLS only, so it begins with https://"));
    }
    let uri: Uri = text.parse().map_err(|_| wrong("it is not a URL"))?;
    if uri.scheme_str() != Some("https") || uri.host().is_none_or(str::is_empty) {
        return Err(wrong("it does not begin with https:// and a host"));
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(wrong("something follows the port"));
    }
    Ok(uri)
}

fn pem(path: &Path, what: &str, flag: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    files::read(path, PEM).map_err(|error| {
        Failure::new(format!("the {what} cannot be used: {error:#}")).hint(format!("pass another file with {flag}"))
    })
}

fn not_pem(path: &Path, what: &str, flag: &str) -> Failure {
    Failure::new(format!("{} holds no {what} in PEM", path.display())).hint(format!("pass another file with {flag}"))
}

/// The innermost cause: the layers above it only say that something below them failed.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// The principal that the server sees in a certificate: its first URI name, else its SHA-256.
fn principal(pem: &[u8]) -> Option<String> {
    let der = CertificateDer::from_pem_slice(pem).ok()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
    let names = certificate.subject_alternative_name().ok().flatten();
    let uri = names.and_then(|names| {
        names.value.general_names.iter().find_map(|name| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        })
    });
    uri.or_else(|| {
        let digest = Sha256::digest(&der);
        Some(format!("x509:sha256:{}", digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_https_with_a_host_and_nothing_else() {
        for good in ["https://127.0.0.1:8443", "https://[::1]:8443", "https://localhost", "https://a.example:1/"] {
            assert!(parse_endpoint(good).is_ok(), "{good}");
        }
        for bad in ["http://127.0.0.1:1", "127.0.0.1:8443", "", "https://", "https://a/b", "ftp://a", "https://a?b"] {
            let text = parse_endpoint(bad).expect_err(bad).to_string();
            assert!(text.contains("is not an endpoint") && text.contains("hint: "), "{text}");
        }
    }

    #[test]
    fn principals_are_uri_names_or_digests() {
        let with_name = certificate(vec![rcgen::SanType::URI("spiffe://example.org/ci".try_into().expect("ASCII"))]);
        assert_eq!(principal(with_name.as_bytes()).as_deref(), Some("spiffe://example.org/ci"));
        let without = principal(certificate(Vec::new()).as_bytes()).expect("a certificate");
        assert!(without.starts_with("x509:sha256:") && without.len() == 12 + 64, "{without}");
        assert_eq!(principal(b"no certificate"), None);
    }

    fn certificate(names: Vec<rcgen::SanType>) -> String {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::default();
        params.subject_alt_names = names;
        params.self_signed(&key).expect("a certificate").pem()
    }
}
