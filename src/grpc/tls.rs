//! TLS for the listener: version 1.3, aws-lc, a client certificate asked for and checked if it comes.
//!
//! Sessions are not resumed: a resumed one would carry on a certificate that was checked long ago. There
//! is no early data, so nothing can be replayed.

use std::sync::Arc;

use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

/// Why TLS cannot be set up. The texts name the part, and whoever calls names the file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The server's certificate.
    #[error("the server's certificate is not PEM, or holds no certificate")]
    Certificate,
    /// The server's key.
    #[error("the server's key is not an unencrypted private key in PEM")]
    Key,
    /// The authorities of client certificates.
    #[error("the authorities of client certificates are not PEM, or one of them is not a certificate")]
    ClientCa,
    /// The authorities of client certificates cannot be used.
    #[error("the authorities of client certificates cannot be used")]
    Verifier(#[source] VerifierBuilderError),
    /// Certificate and key do not belong together, or are of a kind that is not taken.
    #[error("the server's certificate and key do not fit together")]
    Mismatch(#[source] rustls::Error),
}

/// What TLS is set up with, in PEM.
#[derive(Clone, Copy)]
pub struct Material<'a> {
    /// The server's chain, its own certificate first.
    pub certificate: &'a [u8],
    /// Its private key.
    pub key: &'a [u8],
    /// The authorities of client certificates.
    pub client_ca: &'a [u8],
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

/// A server's configuration.
///
/// # Errors
/// When a part is not what it should be.
pub fn server(material: &Material<'_>) -> Result<ServerConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(material.client_ca).ok_or(TlsError::ClientCa)? {
        roots.add(authority).map_err(|_| TlsError::ClientCa)?;
    }
    let chain = certificates(material.certificate).ok_or(TlsError::Certificate)?;
    let key = PrivateKeyDer::from_pem_slice(material.key).map_err(|_| TlsError::Key)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        // Demanded in `front`, where a refusal is a status and not a broken connection.
        .allow_unauthenticated()
        .build()
        .map_err(TlsError::Verifier)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Mismatch)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(TlsError::Mismatch)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("makes one");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn each_part_is_checked() {
        let ((certificate, key), (_, other)) = (pair(), pair());
        let (certificate, key) = (certificate.as_bytes(), key.as_bytes());
        let material = Material { certificate, key, client_ca: certificate };
        assert!(server(&material).is_ok());
        assert!(matches!(server(&Material { certificate: b"", ..material }), Err(TlsError::Certificate)));
        assert!(matches!(server(&Material { key: b"x", ..material }), Err(TlsError::Key)));
        assert!(matches!(server(&Material { client_ca: key, ..material }), Err(TlsError::ClientCa)));
        assert!(matches!(server(&Material { key: other.as_bytes(), ..material }), Err(TlsError::Mismatch(_))));
    }

    #[test]
    fn nothing_is_resumed() {
        let (certificate, key) = pair();
        let (certificate, key) = (certificate.as_bytes(), key.as_bytes());
        let config = server(&Material { certificate, key, client_ca: certificate }).expect("is right");
        assert!(!config.session_storage.can_cache());
        assert_eq!((config.send_tls13_tickets, config.max_early_data_size), (0, 0));
    }
}
