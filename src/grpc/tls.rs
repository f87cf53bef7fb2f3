//! TLS for the listeners, by aws-lc. For gRPC: version 1.3, a client certificate asked for and checked if it comes. For the
//! Azure face ([`crate::rest`]): 1.2 too, for the clients that are out there, and no client certificate: who calls says a token.
//!
//! Sessions are not resumed: a resumed one would carry on a certificate that was checked long ago. There
//! is no early data, so nothing can be replayed.

use std::sync::Arc;

use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{NoServerSessionStorage, VerifierBuilderError},
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::trust::{AuthorityMaterial, Trust};
use crate::model::Timestamp;

/// Why TLS cannot be set up. The texts name the part, and whoever calls names the file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The server's certificate.
    #[error("the server's certificate is not PEM, or holds no certificate")]
    Certificate,
    /// The server's key.
    #[error("the server's key is not an unencrypted private key in PEM")]
    Key,
    /// There is no authority of client certificates.
    #[error("there is no authority of client certificates")]
    Nobody,
    /// Something of an authority of client certificates.
    #[error("the authority {name:?} has {what}")]
    Authority {
        /// Which authority.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Two authorities that are one.
    #[error("the authorities {other:?} and {name:?} have a certificate in common: what may it name?")]
    Shared {
        /// Which authority.
        name: String,
        /// Which other.
        other: String,
    },
    /// An authority of client certificates cannot be used.
    #[error("the authority {name:?} cannot be used")]
    Verifier {
        /// Which authority.
        name: String,
        /// Why.
        #[source]
        source: VerifierBuilderError,
    },
    /// Certificate and key do not belong together, or are of a kind that is not taken.
    #[error("the server's certificate and key do not fit together")]
    Mismatch(#[source] rustls::Error),
}

/// What TLS is set up with.
#[derive(Clone, Copy)]
pub struct Material<'a> {
    /// The server's chain (PEM), its own certificate first.
    pub certificate: &'a [u8],
    /// Its private key (PEM).
    pub key: &'a [u8],
    /// Chain and key (PEM) of the Azure face, where it has its own.
    pub web: Option<(&'a [u8], &'a [u8])>,
    /// The authorities of client certificates.
    pub authorities: &'a [AuthorityMaterial],
    /// What time it is.
    pub now: Timestamp,
}

/// All of TLS that is in force at one moment, in one piece.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// For handshakes of gRPC.
    pub config: Arc<ServerConfig>,
    /// For handshakes of the Azure face.
    pub web: Arc<ServerConfig>,
    /// For what comes after them.
    pub trust: Arc<Trust>,
    /// When the first of the server's own certificates ends.
    pub ends: Timestamp,
}

/// The provider of all TLS here.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The certificates of a PEM file.
///
/// # Errors
/// `None` when it is not PEM, or has none.
#[must_use]
pub fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().ok()?;
    Some(found).filter(|found| !found.is_empty())
}

/// The credentials of a server.
///
/// # Errors
/// When a part is not what it should be.
pub fn server(material: &Material<'_>) -> Result<Credentials, TlsError> {
    let trust = Arc::new(Trust::new(material.authorities, material.now)?);
    let (chain, key, ends) = pair(material.certificate, material.key)?;
    let (web, web_ends) = match material.web {
        Some((certificate, key)) => web(pair(certificate, key)?)?,
        None => web((chain.clone(), key.clone_key(), ends))?,
    };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Mismatch)?
        .with_client_cert_verifier(Arc::clone(&trust) as _)
        .with_single_cert(chain, key)
        .map_err(TlsError::Mismatch)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Credentials { config: Arc::new(config), web: Arc::new(web), trust, ends: ends.min(web_ends) })
}

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>, Timestamp);

/// A chain, its key, and when it ends.
fn pair(certificate: &[u8], key: &[u8]) -> Result<Pair, TlsError> {
    let chain = certificates(certificate).ok_or(TlsError::Certificate)?;
    let ends = end(&chain[0]).ok_or(TlsError::Certificate)?;
    Ok((chain, PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::Key)?, ends))
}

/// What the Azure face shakes hands with: HTTP/2, or HTTP/1.1.
fn web((chain, key, ends): Pair) -> Result<(ServerConfig, Timestamp), TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(TlsError::Mismatch)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(TlsError::Mismatch)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok((config, ends))
}

/// When a certificate ends.
pub(super) fn end(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(Timestamp(parsed.validity().not_after.timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("makes one");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    const NOW: Timestamp = Timestamp(1_800_000_000);

    fn authority(pem: &[u8]) -> AuthorityMaterial {
        AuthorityMaterial { name: "clients".to_owned(), certificates: pem.to_vec(), ..AuthorityMaterial::default() }
    }

    #[test]
    fn each_part_is_checked() {
        let ((certificate, key), (_, other)) = (made(), made());
        let (certificate, key) = (certificate.as_bytes(), key.as_bytes());
        let (authorities, no_certificate) = ([authority(certificate)], [authority(key)]);
        let material = Material { certificate, key, web: None, authorities: &authorities, now: NOW };
        assert!(server(&material).is_ok());
        assert!(matches!(server(&Material { certificate: b"", ..material }), Err(TlsError::Certificate)));
        assert!(matches!(server(&Material { key: b"x", ..material }), Err(TlsError::Key)));
        let wrong = server(&Material { authorities: &no_certificate, ..material });
        assert!(matches!(wrong, Err(TlsError::Authority { .. })), "{wrong:?}");
        assert!(matches!(server(&Material { authorities: &[], ..material }), Err(TlsError::Nobody)));
        assert!(matches!(server(&Material { key: other.as_bytes(), ..material }), Err(TlsError::Mismatch(_))));
    }

    #[test]
    fn nothing_is_resumed() {
        let (certificate, key) = made();
        let authorities = [authority(certificate.as_bytes())];
        let material = Material {
            certificate: certificate.as_bytes(),
            key: key.as_bytes(),
            web: None,
            authorities: &authorities,
            now: NOW,
        };
        let config = server(&material).expect("is right").config;
        assert!(!config.session_storage.can_cache());
        assert_eq!((config.send_tls13_tickets, config.max_early_data_size), (0, 0));
    }
}
