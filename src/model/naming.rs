//! How an authority's certificates name their owners: what an operator decides, as plain values.

/// What an authority may say of whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Naming {
    /// The SPIFFE trust domains whose names it may give; without a list all of them, and, where no rule is about URIs,
    /// every other URI too.
    pub trust_domains: Option<Vec<String>>,
    /// Which other names of a certificate are principals. The first that finds one decides.
    pub rules: Vec<NameRule>,
    /// Which parts of the subject are groups.
    pub groups: Vec<GroupSource>,
}

/// One kind of name that is taken for a principal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameRule {
    /// The kind.
    pub source: NameSource,
    /// What names of this kind must lie in; without any, all are taken. Domains for DNS names and addresses, beginnings
    /// for URIs.
    pub within: Vec<String>,
}

/// Where a principal's name stands in a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NameSource {
    /// A URI name that is no SPIFFE ID.
    Uri,
    /// A DNS name.
    Dns,
    /// An e-mail address.
    Email,
    /// The common name of the subject.
    CommonName,
}

impl NameSource {
    /// The word for it in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uri => "uri",
            Self::Dns => "dns",
            Self::Email => "email",
            Self::CommonName => "common_name",
        }
    }

    /// Every one.
    pub const ALL: [Self; 4] = [Self::Uri, Self::Dns, Self::Email, Self::CommonName];
}

/// Where a group's name stands in a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupSource {
    /// The organizations of the subject.
    Organization,
    /// Its organizational units.
    OrganizationalUnit,
}

impl GroupSource {
    /// The word for it in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Organization => "organization",
            Self::OrganizationalUnit => "organizational_unit",
        }
    }

    /// Every one.
    pub const ALL: [Self; 2] = [Self::Organization, Self::OrganizationalUnit];
}

/// Whether that is a SPIFFE trust domain (SPIFFE-ID section 2.1): at most 255 lower-case letters, digits, dots, dashes
/// and underscores.
#[must_use]
pub fn is_trust_domain(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    (1..=255).contains(&text.len()) && text.bytes().all(allowed)
}

/// The trust domain of a SPIFFE ID, if it is one that a workload can have (SPIFFE-ID section 2, X.509-SVID section 2):
/// `spiffe://`, a trust domain, and a path of segments that are neither empty nor dots. No port, no user, no query, no
/// percent signs: so one name is written in one way.
#[must_use]
pub fn trust_domain(id: &str) -> Option<&str> {
    let (domain, path) = id.strip_prefix("spiffe://")?.split_once('/')?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let is_segment = |segment: &str| !["", ".", ".."].contains(&segment) && segment.bytes().all(allowed);
    (id.len() <= 2048 && is_trust_domain(domain) && path.split('/').all(is_segment)).then_some(domain)
}

/// A DNS name in the one form that is compared: lower case. `None` for what names more than one host or is written in
/// a way that another reader could take for another name: wildcards, a dot at the end, anything but letters, digits,
/// dashes, underscores and dots, and numbers where an address could be meant.
#[must_use]
pub fn dns_name(text: &str) -> Option<String> {
    let name = text.to_ascii_lowercase();
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
    (name.len() <= 253 && name.split('.').all(is_label) && !is_number).then_some(name)
}

/// An e-mail address in the one form that is compared: its domain in lower case, the part before it as it is (RFC 5321
/// section 2.4). `None` for what is quoted, or no address.
#[must_use]
pub fn email(text: &str) -> Option<String> {
    let (local, domain) = text.rsplit_once('@')?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+/=?^_`{|}~-".contains(&byte);
    let is_atom = |atom: &str| !atom.is_empty() && atom.bytes().all(allowed);
    let is_local = local.len() <= 64 && local.split('.').all(is_atom);
    let domain = dns_name(domain)?;
    is_local.then(|| format!("{local}@{domain}"))
}

/// Whether a DNS name is that domain or below it.
#[must_use]
pub fn is_within(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spiffe_ids_are_written_in_one_way() {
        for (id, domain) in [
            ("spiffe://example.org/ci", "example.org"),
            ("spiffe://a_b-c.1/x.y/Z_9-", "a_b-c.1"),
            ("spiffe://a/...", "a"),
        ] {
            assert_eq!(trust_domain(id), Some(domain), "{id}");
        }
        for wrong in [
            "spiffe://example.org",
            "spiffe://example.org/",
            "spiffe:///ci",
            "spiffe://Example.org/ci",
            "spiffe://example.org:8443/ci",
            "spiffe://me@example.org/ci",
            "spiffe://example.org/a//b",
            "spiffe://example.org/a/",
            "spiffe://example.org/a/../b",
            "spiffe://example.org/./b",
            "spiffe://example.org/a%2fb",
            "spiffe://example.org/a?b",
            "spiffe://example.org/a#b",
            "spiffe://example.org/ä",
            "spiffe:/example.org/ci",
            "Spiffe://example.org/ci",
            "spiffe://example.org\0/ci",
        ] {
            assert_eq!(trust_domain(wrong), None, "{wrong}");
        }
        assert_eq!(trust_domain(&format!("spiffe://{}/ci", "a".repeat(256))), None);
        assert_eq!(trust_domain(&format!("spiffe://a/{}", "a".repeat(2048))), None);
    }

    #[test]
    fn dns_names_are_compared_in_lower_case_and_odd_ones_are_none() {
        assert_eq!(dns_name("Build.Example.ORG").as_deref(), Some("build.example.org"));
        assert_eq!(dns_name("xn--bcher-kva.example").as_deref(), Some("xn--bcher-kva.example"));
        for wrong in [
            "",
            ".",
            "*.example.org",
            "example.org.",
            ".example.org",
            "a..b",
            "example.org\0.evil",
            "-a.org",
            "a-.org",
            "bücher.example",
            "a b",
            "10.0.0.1",
            "a.0x1",
            "exa\u{200b}mple.org",
            "a/b",
            "a@b",
            "a:b",
            "[::1]",
        ] {
            assert_eq!(dns_name(wrong), None, "{wrong:?}");
        }
        assert_eq!(dns_name(&format!("{}.org", "a".repeat(64))), None);
        assert_eq!(dns_name(&["a"; 130].join(".")), None);
    }

    #[test]
    fn addresses_are_compared_with_their_domain_in_lower_case() {
        assert_eq!(email("Ann.Lee+ci@Example.ORG").as_deref(), Some("Ann.Lee+ci@example.org"));
        for wrong in [
            "",
            "ann",
            "@example.org",
            "ann@",
            "ann@example.org.",
            "a@b@example.org",
            "\"a b\"@example.org",
            ".a@example.org",
            "a.@example.org",
            "a..b@example.org",
            "ann@[10.0.0.1]",
            "ann\0@example.org",
            "ann@*.example.org",
            "änn@example.org",
            "ann@example.org\n",
        ] {
            assert_eq!(email(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_domain_holds_what_is_below_it_and_not_what_ends_alike() {
        assert!(is_within("example.org", "example.org") && is_within("a.b.example.org", "example.org"));
        assert!(!is_within("evilexample.org", "example.org") && !is_within("example.org.evil", "example.org"));
    }
}
