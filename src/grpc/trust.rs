//! Whom client certificates are believed from, and what each authority may say: all that is trusted at one moment. It is
//! replaced as a whole, never changed.
//!
//! Each authority checks a chain by itself, with its own revocation lists. So which authority signed is known, and what
//! one of them may name another cannot.
//!
//! Revocation: where an authority has lists, every certificate of a chain must be covered by one of them, and one that
//! no list speaks of is refused. A list that is past its next update says nothing any more: with it, too, certificates
//! are refused, unless the operator decided otherwise ([`ExpiredCrl`]).

use std::{fmt, sync::Arc, time::Duration};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime, pem::PemObject as _};
use x509_parser::{prelude::FromDer as _, revocation_list::CertificateRevocationList};

use super::{
    identity::{self, IdentityError, Named},
    tls::{self, TlsError},
};
use crate::model::{Timestamp, naming::Naming};

/// What becomes of certificates whose revocation list is past its next update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpiredCrl {
    /// They are refused: who withholds a new list must not keep a revoked certificate alive.
    #[default]
    Refuse,
    /// The old list goes on to be believed.
    Accept,
}

/// What an authority of client certificates is made of.
#[derive(Clone, Debug, Default)]
pub struct AuthorityMaterial {
    /// What operators call it.
    pub name: String,
    /// Its certificates (PEM).
    pub certificates: Vec<u8>,
    /// Its revocation lists (PEM or DER).
    pub crls: Vec<Vec<u8>>,
    /// What becomes of certificates when one of them is old.
    pub expired_crl: ExpiredCrl,
    /// What it may say of whom.
    pub naming: Naming,
}

/// An authority.
struct Authority {
    name: String,
    /// Absent when every certificate of it has expired: then it covers nobody.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    naming: Naming,
}

/// All that is trusted at one moment.
pub struct Trust {
    authorities: Vec<Authority>,
    hints: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
    lapses: Option<Timestamp>,
    crl_ends: Option<Timestamp>,
}

impl Trust {
    /// Of those authorities, at that time: a certificate of theirs that has expired is not trusted any more.
    ///
    /// # Errors
    /// When one of them cannot be used, or two have a certificate in common.
    pub fn new(materials: &[AuthorityMaterial], now: Timestamp) -> Result<Self, TlsError> {
        let mut trust = Self {
            authorities: Vec::new(),
            hints: Vec::new(),
            algorithms: tls::provider().signature_verification_algorithms,
            lapses: None,
            crl_ends: None,
        };
        let mut seen = Vec::new();
        for material in materials {
            trust.add(material, now, &mut seen)?;
        }
        if trust.authorities.is_empty() { Err(TlsError::Nobody) } else { Ok(trust) }
    }

    fn add<'a>(
        &mut self,
        material: &'a AuthorityMaterial,
        now: Timestamp,
        seen: &mut Vec<(CertificateDer<'static>, &'a str)>,
    ) -> Result<(), TlsError> {
        let name = material.name.as_str();
        let of = |what| TlsError::Authority { name: name.to_owned(), what };
        let (mut roots, mut anchors) = (RootCertStore::empty(), Vec::new());
        for certificate in tls::certificates(&material.certificates).ok_or_else(|| of("no certificates in PEM"))? {
            if let Some((_, other)) = seen.iter().find(|(seen, other)| *seen == certificate && *other != name) {
                return Err(TlsError::Shared { name: name.to_owned(), other: (*other).to_owned() });
            }
            seen.push((certificate.clone(), name));
            anchors.push(certificate.clone());
            let ends = tls::end(&certificate).ok_or_else(|| of("what is no certificate"))?;
            if ends <= now {
                tracing::warn!(authority = name, %ends, "a certificate of an authority has expired: it is not trusted");
                continue;
            }
            roots.add(certificate).map_err(|_| of("what is no certificate"))?;
            self.lapses = earlier(self.lapses, ends);
        }
        let lists = crls(&material.crls).ok_or_else(|| of("a revocation list that is neither PEM nor DER"))?;
        for list in &lists {
            let ends = crl_end(list).ok_or_else(|| of("a revocation list without a next update"))?;
            if !signature::is_plausible(list, &anchors, &self.algorithms) {
                return Err(of("a revocation list under its name that it has not signed"));
            }
            self.crl_ends = earlier(self.crl_ends, ends);
        }
        self.hints.extend(roots.subjects());
        let verifier = if roots.is_empty() { None } else { Some(verifier(material, roots, lists)?) };
        self.authorities.push(Authority { name: name.to_owned(), verifier, naming: material.naming.clone() });
        Ok(())
    }

    /// Whom a chain names, its own certificate first, at that time.
    ///
    /// # Errors
    /// When no authority covers it, or the one that does may not name so.
    pub fn identify(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> Result<Named, IdentityError> {
        let (own, between) = chain.split_first().ok_or(IdentityError::NoCertificate)?;
        let now = unix_time(now);
        let mut refused = IdentityError::NotCovered;
        for authority in &self.authorities {
            if authority.verify(own, between, now).is_err() {
                continue;
            }
            match identity::named(own, &authority.naming) {
                Ok(named) => return Ok(named),
                // A chain can lead to two authorities; one that may name so is enough.
                Err(error) => {
                    tracing::debug!(authority = authority.name, %error, "a certificate that names nobody");
                    refused = error;
                }
            }
        }
        Err(refused)
    }

    /// When the first revocation list is past its next update.
    #[must_use]
    pub const fn crl_ends(&self) -> Option<Timestamp> {
        self.crl_ends
    }

    /// When the first certificate of an authority expires: then what is trusted is to be made anew.
    #[must_use]
    pub const fn lapses(&self) -> Option<Timestamp> {
        self.lapses
    }
}

impl Authority {
    fn verify(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        self.verifier.as_ref().ok_or(unknown)?.verify_client_cert(own, between, now)
    }
}

fn earlier(known: Option<Timestamp>, time: Timestamp) -> Option<Timestamp> {
    Some(known.map_or(time, |known| known.min(time)))
}

fn unix_time(time: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(time.0).unwrap_or_default()))
}

fn verifier(
    material: &AuthorityMaterial,
    roots: RootCertStore,
    lists: Vec<CertificateRevocationListDer<'static>>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), tls::provider()).with_crls(lists);
    if material.expired_crl == ExpiredCrl::Refuse {
        builder = builder.enforce_revocation_expiration();
    }
    builder.build().map_err(|source| TlsError::Verifier { name: material.name.clone(), source })
}

/// Revocation lists, from files of one each in DER, or of any number in PEM.
fn crls(files: &[Vec<u8>]) -> Option<Vec<CertificateRevocationListDer<'static>>> {
    let mut lists = Vec::new();
    for file in files {
        // DER begins with a SEQUENCE (X.690 section 8.9); no text does.
        if file.first() == Some(&0x30) {
            lists.push(CertificateRevocationListDer::from(file.clone()));
            continue;
        }
        let found: Vec<_> = CertificateRevocationListDer::pem_slice_iter(file).collect::<Result<_, _>>().ok()?;
        if found.is_empty() {
            return None;
        }
        lists.extend(found);
    }
    Some(lists)
}

fn crl_end(list: &CertificateRevocationListDer<'_>) -> Option<Timestamp> {
    let (_, parsed) = CertificateRevocationList::from_der(list).ok()?;
    parsed.next_update().map(|time| Timestamp(time.timestamp()))
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.authorities.iter().map(|authority| authority.name.as_str()).collect();
        f.debug_struct("Trust").field("authorities", &names).finish_non_exhaustive()
    }
}

impl ClientCertVerifier for Trust {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        // Demanded in `front`, where a refusal is a status and not a broken connection.
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let mut refused = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        for authority in &self.authorities {
            match authority.verify(own, between, now) {
                Ok(verified) => return Ok(verified),
                // What the authority that signed it says is told, not that the others do not know it.
                Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {}
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

mod signature;
#[cfg(test)]
mod tests;
