//! Whether a revocation list can be from the authority whose name it bears. It is asked when the list is read, so that a
//! wrong one is refused with its set, and not taken and then lets nobody in; every check of a chain asks it again.

use der::{
    Decode as _, Encode as _, Reader as _, SliceReader,
    asn1::{AnyRef, BitStringRef},
};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};
use x509_parser::{
    prelude::{FromDer as _, X509Certificate},
    revocation_list::CertificateRevocationList,
};

/// Whether one of these certificates has signed the list, or none of them has its issuer's name: then an authority
/// between has made it, which shows itself with its chain.
pub(super) fn is_plausible(
    list: &CertificateRevocationListDer<'_>,
    anchors: &[CertificateDer<'_>],
    algorithms: &WebPkiSupportedAlgorithms,
) -> bool {
    let Ok((_, parsed)) = CertificateRevocationList::from_der(list) else { return false };
    let issuers: Vec<X509Certificate<'_>> = anchors
        .iter()
        .filter_map(|anchor| X509Certificate::from_der(anchor).ok())
        .map(|(_, anchor)| anchor)
        .filter(|anchor| anchor.subject().as_raw() == parsed.issuer().as_raw())
        .collect();
    let Some(signed) = Signed::of(list) else { return false };
    issuers.is_empty() || issuers.iter().any(|issuer| signed.is_by(issuer, algorithms))
}

/// The parts of a list (RFC 5280 section 5.1.1).
struct Signed<'a> {
    content: &'a [u8],
    algorithm: Vec<u8>,
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    fn of(list: &'a [u8]) -> Option<Self> {
        let mut reader = SliceReader::new(list).ok()?;
        let parts = reader.sequence(|parts| {
            let content = parts.tlv_bytes()?;
            let algorithm = AlgorithmIdentifierRef::decode(parts)?;
            let signature = BitStringRef::decode(parts)?;
            Ok::<_, der::Error>((content, algorithm, signature))
        });
        let (content, algorithm, signature) = parts.ok()?;
        Some(Self { content, algorithm: inner(&algorithm)?, signature: signature.as_bytes()? })
    }

    fn is_by(&self, issuer: &X509Certificate<'_>, algorithms: &WebPkiSupportedAlgorithms) -> bool {
        let Ok(key) = SubjectPublicKeyInfoRef::from_der(issuer.public_key().raw) else { return false };
        let (Some(kind), Some(bytes)) = (inner(&key.algorithm), key.subject_public_key.as_bytes()) else {
            return false;
        };
        algorithms
            .all
            .iter()
            .filter(|algorithm| algorithm.signature_alg_id().as_ref() == self.algorithm)
            .filter(|algorithm| algorithm.public_key_alg_id().as_ref() == kind)
            .any(|algorithm| algorithm.verify_signature(bytes, self.content, self.signature).is_ok())
    }
}

/// An algorithm as rustls knows it: without the head of its sequence.
fn inner(algorithm: &AlgorithmIdentifierRef<'_>) -> Option<Vec<u8>> {
    let whole = algorithm.to_der().ok()?;
    AnyRef::from_der(&whole).ok().map(|any| any.value().to_vec())
}
