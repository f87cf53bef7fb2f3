//! From a client certificate to a principal. The certificate's chain was checked by TLS; here only the
//! name is read:
//!
//! * exactly one URI name: that is the principal (`spiffe://…`);
//! * none: `x509:sha256:` and the SHA-256 of the certificate (DER), in hexadecimal;
//! * more than one: refused. Which of them was meant is not for us to guess (SPIFFE X.509-SVID section 2).

use sha2::{Digest as _, Sha256};
use x509_parser::{extensions::GeneralName, prelude::FromDer as _, prelude::X509Certificate};

use crate::model::Principal;

/// How principals of certificates without a URI name begin. No certificate may bear such a URI itself: its
/// authority could otherwise let one certificate pass for another.
const DIGEST_SCHEME: &str = "x509";

/// Why a peer has no identity. The text is for the peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The peer showed no certificate.
    #[error("a client certificate is required")]
    NoCertificate,
    /// The certificate cannot be read.
    #[error("the client certificate cannot be read")]
    Unreadable,
    /// The certificate has several URI names.
    #[error("the client certificate has {0} URI names; exactly one, or none, is allowed")]
    Ambiguous(usize),
    /// The URI name is not one that a principal can have.
    #[error(
        "the URI name of the client certificate is not a principal: a URI of at most 2048 printable ASCII characters, its scheme in lower case and not x509"
    )]
    Name,
}

/// The principal of a client certificate (DER).
///
/// # Errors
/// When it has more than one URI name, or one that cannot be a principal.
pub fn principal(certificate: &[u8]) -> Result<Principal, IdentityError> {
    let (rest, parsed) = X509Certificate::from_der(certificate).map_err(|_| IdentityError::Unreadable)?;
    if !rest.is_empty() {
        return Err(IdentityError::Unreadable);
    }
    // An error here is a repeated or malformed extension.
    let names = parsed.subject_alternative_name().map_err(|_| IdentityError::Unreadable)?;
    let uris: Vec<&str> = names
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None })
        .collect();
    match uris.as_slice() {
        [] => digest(certificate),
        [uri] if uri.split(':').next() == Some(DIGEST_SCHEME) => Err(IdentityError::Name),
        [uri] => uri.parse().map_err(|_| IdentityError::Name),
        several => Err(IdentityError::Ambiguous(several.len())),
    }
}

fn digest(certificate: &[u8]) -> Result<Principal, IdentityError> {
    let digest: String = Sha256::digest(certificate).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{DIGEST_SCHEME}:sha256:{digest}").parse().map_err(|_| IdentityError::Name)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn certificate(names: &[&str]) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        for name in names {
            params.subject_alt_names.push(SanType::URI((*name).try_into().expect("IA5")));
        }
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("signs").der().to_vec()
    }

    #[test]
    fn one_uri_is_the_principal() {
        let found = principal(&certificate(&["spiffe://example.org/ci"]));
        assert_eq!(found.as_ref().map(Principal::as_str), Ok("spiffe://example.org/ci"));
    }

    #[test]
    fn without_a_uri_it_is_the_digest() {
        let der = certificate(&[]);
        let found = principal(&der).expect("a principal");
        let expected: String = Sha256::digest(&der).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found.as_str(), format!("x509:sha256:{expected}"));
    }

    #[test]
    fn two_uris_are_refused() {
        let found = principal(&certificate(&["spiffe://a/b", "spiffe://a/c"]));
        assert_eq!(found, Err(IdentityError::Ambiguous(2)));
    }

    #[test]
    fn a_uri_cannot_pass_for_another_certificate() {
        let other = principal(&certificate(&[])).expect("a principal");
        for uri in [other.as_str(), "x509:", "Spiffe://a", "spiffe:", "no-scheme"] {
            assert_eq!(principal(&certificate(&[uri])), Err(IdentityError::Name), "{uri}");
        }
    }

    #[test]
    fn rubbish_is_refused() {
        assert_eq!(principal(b""), Err(IdentityError::Unreadable));
        assert_eq!(principal(&[0x30; 40]), Err(IdentityError::Unreadable));
        let mut longer = certificate(&[]);
        longer.push(0);
        assert_eq!(principal(&longer), Err(IdentityError::Unreadable));
    }
}
