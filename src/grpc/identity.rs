//! From a client certificate to a principal. The certificate's chain was checked before; here names are read, as the
//! authority that signed it may give them ([`Naming`]):
//!
//! * exactly one URI name: that is the principal (`spiffe://…`), if the authority may give it;
//! * more than one: refused. Which of them was meant is not for us to guess (SPIFFE X.509-SVID section 2);
//! * none: the first rule that finds a name of its kind decides: `x509:dns:`, `x509:email:` or `x509:cn:` and the name.
//!   One that finds several refuses;
//! * else `x509:sha256:` and the SHA-256 of the certificate (DER), in hexadecimal.
//!
//! A name that two readers could read differently is refused with its certificate, never skipped.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};
use x509_parser::{
    der_parser::Oid,
    extensions::GeneralName,
    oid_registry::{OID_X509_COMMON_NAME, OID_X509_ORGANIZATION_NAME, OID_X509_ORGANIZATIONAL_UNIT},
    prelude::{FromDer as _, X509Certificate},
};

use crate::model::{
    Principal, Timestamp,
    naming::{GroupSource, NameSource, Naming, dns_name, email, is_within, trust_domain},
};

/// Schemes of principals that come from elsewhere, or from a certificate by other means. No certificate may bear such a
/// URI itself: its authority could otherwise let one certificate pass for another, for the owner of a token, or for the
/// service itself.
const RESERVED_SCHEMES: [&str; 6] = ["x509", "oidc", "token", "unix", "group", "strongroom"];

/// The most groups of one certificate.
const GROUPS_MAX: usize = 64;

/// Why a peer has no identity. The text is for the peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The peer showed no certificate.
    #[error("a client certificate is required")]
    NoCertificate,
    /// The certificate cannot be read.
    #[error("the client certificate cannot be read")]
    Unreadable,
    /// The certificate has several names of one kind.
    #[error("the client certificate has {count} {kind} names; exactly one, or none, is allowed")]
    Ambiguous {
        /// Of which kind.
        kind: &'static str,
        /// How many.
        count: usize,
    },
    /// The URI name is not one that a principal can have.
    #[error(
        "the URI name of the client certificate is not a principal: a URI of at most 2048 printable ASCII characters, its scheme in lower case and none of x509, oidc, token, unix, group, strongroom"
    )]
    Name,
    /// The URI name is no SPIFFE ID of a workload.
    #[error("the URI name of the client certificate is not a SPIFFE ID: spiffe://, a trust domain and a path")]
    SpiffeId,
    /// The URI name is not one that the authority may give.
    #[error("the authority that signed the client certificate may not give its URI name")]
    NotItsName,
    /// A name that is taken for a principal is none.
    #[error("a {0} name of the client certificate cannot be a principal: it is a wildcard, or written oddly")]
    Odd(&'static str),
    /// The certificate has too many groups.
    #[error("the client certificate is in more than {GROUPS_MAX} groups")]
    TooManyGroups,
    /// No authority stands behind the certificate.
    #[error("no authority covers the client certificate: it has expired, was revoked, or its authority is not trusted")]
    NotCovered,
    /// The Unix socket is not for processes of this user.
    #[error("processes of this user and group may not use this socket")]
    NotAdmitted,
}

/// What a certificate says of its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Who.
    pub principal: Principal,
    /// In which groups.
    pub groups: Vec<Principal>,
    /// Until when.
    pub ends: Timestamp,
}

/// What a client certificate (DER) says of its owner, where its authority names as `naming` says.
///
/// # Errors
/// When it names nobody, several, or somebody whom its authority may not name.
pub fn named(certificate: &[u8], naming: &Naming) -> Result<Named, IdentityError> {
    let (rest, parsed) = X509Certificate::from_der(certificate).map_err(|_| IdentityError::Unreadable)?;
    if !rest.is_empty() {
        return Err(IdentityError::Unreadable);
    }
    let names = Names::of(&parsed)?;
    let principal = match names.uris.as_slice() {
        [] => by_rules(&names, naming)?,
        [uri] => Some(of_uri(uri, naming)?),
        several => return Err(IdentityError::Ambiguous { kind: "URI", count: several.len() }),
    };
    let principal = match principal {
        Some(principal) => principal,
        None => digest(certificate)?,
    };
    let ends = Timestamp(parsed.validity().not_after.timestamp());
    Ok(Named { principal, groups: groups(&parsed, naming)?, ends })
}

/// The names of a certificate, as they stand in it.
struct Names<'a> {
    uris: Vec<&'a str>,
    dns: Vec<&'a str>,
    emails: Vec<&'a str>,
    common: Vec<String>,
}

impl<'a> Names<'a> {
    fn of(certificate: &'a X509Certificate<'_>) -> Result<Self, IdentityError> {
        let common = subject(certificate, &OID_X509_COMMON_NAME);
        let mut names = Self { uris: Vec::new(), dns: Vec::new(), emails: Vec::new(), common };
        // An error here is a repeated or malformed extension.
        let alternative = certificate.subject_alternative_name().map_err(|_| IdentityError::Unreadable)?;
        for name in alternative.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::URI(uri) => names.uris.push(uri),
                GeneralName::DNSName(name) => names.dns.push(name),
                GeneralName::RFC822Name(address) => names.emails.push(address),
                // It may be a name of one of those kinds, with bytes that are no text.
                GeneralName::Invalid(..) => return Err(IdentityError::Unreadable),
                _ => {}
            }
        }
        Ok(names)
    }
}

/// The values of one attribute of the subject. One that is no text is empty, which is no name.
fn subject(certificate: &X509Certificate<'_>, attribute: &Oid<'_>) -> Vec<String> {
    let values = certificate.subject().iter_by_oid(attribute);
    values.map(|value| value.as_str().unwrap_or_default().to_owned()).collect()
}

fn of_uri(uri: &str, naming: &Naming) -> Result<Principal, IdentityError> {
    let scheme = uri.split(':').next().unwrap_or_default();
    if RESERVED_SCHEMES.contains(&scheme) {
        return Err(IdentityError::Name);
    }
    let principal: Principal = uri.parse().map_err(|_| IdentityError::Name)?;
    let may_give = if scheme == "spiffe" {
        let domain = trust_domain(uri).ok_or(IdentityError::SpiffeId)?;
        naming.trust_domains.as_ref().is_none_or(|domains| domains.iter().any(|allowed| allowed == domain))
    } else {
        let mut rules = naming.rules.iter().filter(|rule| rule.source == NameSource::Uri).peekable();
        let everything = naming.trust_domains.is_none() && rules.peek().is_none();
        everything || rules.any(|rule| rule.within.iter().any(|beginning| uri.starts_with(beginning)))
    };
    if may_give { Ok(principal) } else { Err(IdentityError::NotItsName) }
}

/// The principal by the first rule that finds a name of its kind.
fn by_rules(names: &Names<'_>, naming: &Naming) -> Result<Option<Principal>, IdentityError> {
    for rule in &naming.rules {
        let mut found = match rule.source {
            NameSource::Uri => continue,
            NameSource::Dns => domains(&names.dns, &rule.within)?,
            NameSource::Email => addresses(&names.emails, &rule.within)?,
            NameSource::CommonName => common_names(&names.common)?,
        };
        found.sort_unstable();
        found.dedup();
        let (form, kind) = match rule.source {
            NameSource::Email => ("email", "e-mail"),
            NameSource::CommonName => ("cn", "common"),
            NameSource::Dns | NameSource::Uri => ("dns", "DNS"),
        };
        match found.as_slice() {
            [] => {}
            [name] => return format!("x509:{form}:{name}").parse().map(Some).map_err(|_| IdentityError::Odd(kind)),
            several => return Err(IdentityError::Ambiguous { kind, count: several.len() }),
        }
    }
    Ok(None)
}

fn domains(names: &[&str], within: &[String]) -> Result<Vec<String>, IdentityError> {
    let names: Option<Vec<String>> = names.iter().map(|name| dns_name(name)).collect();
    let mut names = names.ok_or(IdentityError::Odd("DNS"))?;
    names.retain(|name| within.is_empty() || within.iter().any(|domain| is_within(name, domain)));
    Ok(names)
}

fn addresses(names: &[&str], within: &[String]) -> Result<Vec<String>, IdentityError> {
    let names: Option<Vec<String>> = names.iter().map(|name| email(name)).collect();
    let mut names = names.ok_or(IdentityError::Odd("e-mail"))?;
    let domain = |name: &str| name.rsplit_once('@').map(|(_, domain)| domain.to_owned()).unwrap_or_default();
    names.retain(|name| within.is_empty() || within.contains(&domain(name)));
    Ok(names)
}

fn common_names(names: &[String]) -> Result<Vec<String>, IdentityError> {
    let is_odd = |name: &&String| name.is_empty() || name.chars().any(|c| c.is_control() || c == '*');
    if names.iter().any(|name| is_odd(&name)) {
        return Err(IdentityError::Odd("common"));
    }
    Ok(names.iter().map(|name| encoded(name)).collect())
}

fn groups(certificate: &X509Certificate<'_>, naming: &Naming) -> Result<Vec<Principal>, IdentityError> {
    let mut groups = Vec::new();
    for source in &naming.groups {
        let (attribute, form) = match source {
            GroupSource::Organization => (OID_X509_ORGANIZATION_NAME, "o"),
            GroupSource::OrganizationalUnit => (OID_X509_ORGANIZATIONAL_UNIT, "ou"),
        };
        for value in subject(certificate, &attribute) {
            if value.is_empty() || value.chars().any(char::is_control) {
                return Err(IdentityError::Odd("group"));
            }
            let group = format!("group:x509:{form}:{}", encoded(&value));
            groups.push(group.parse().map_err(|_| IdentityError::Odd("group"))?);
        }
    }
    if groups.len() > GROUPS_MAX { Err(IdentityError::TooManyGroups) } else { Ok(groups) }
}

/// Text as part of a URI: what is not unreserved is percent-encoded (RFC 3986 section 2.3), so that no letter looks
/// like another.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a string takes everything");
        }
    }
    encoded
}

fn digest(certificate: &[u8]) -> Result<Principal, IdentityError> {
    let digest: String = Sha256::digest(certificate).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("x509:sha256:{digest}").parse().map_err(|_| IdentityError::Name)
}

#[cfg(test)]
mod tests;
