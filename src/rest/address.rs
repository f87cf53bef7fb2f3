//! Where a client has come: the host it has called, the vault that this is, and how URLs of ours begin for it.
//!
//! A vault is a host name: the first label of it, or what the operator says of the whole name. Clients send what follows to
//! the host that stands in an id, so ids are made of the host that was called, with its port. One client library leaves
//! the port out of `Host`: then the port of the configured URL is meant.

use std::{collections::HashMap, net::IpAddr};

use http::{header::HOST, request::Parts, uri::Authority};

use crate::model::VaultName;

/// The port that stands in no URL.
const HTTPS: u16 = 443;

/// What an operator says of the face.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Where others find it.
    pub external: Option<External>,
    /// Hosts (in lower case, without a port) that are another vault than their first label says.
    pub hosts: HashMap<String, VaultName>,
    /// Domains whose hosts speak as a Managed HSM does.
    pub managed_hsm: Vec<String>,
    /// Who gives tokens, for clients that ask: `https://{host}/{tenant}`. Absent: the face itself.
    pub authority: Option<String>,
    /// What comes before a `principalId` that is no principal by itself, as Entra ID's object ids are.
    pub principals: String,
}

/// Where others find the face.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct External {
    host: String,
    port: u16,
}

impl External {
    /// Out of `https://{host}[:{port}]`.
    #[must_use]
    pub fn from_url(url: &str) -> Option<Self> {
        let Address { host, port } = Address::parse(url.strip_prefix("https://")?.trim_end_matches('/'))?;
        Some(Self { host, port: port.unwrap_or(HTTPS) })
    }

    /// That host, at the port where the face listens.
    #[must_use]
    pub fn at_listener(host: &str) -> Self {
        Self { host: host.to_owned(), port: 0 }
    }

    /// The same, where the face listens at that port.
    #[must_use]
    pub fn listening_at(self, port: u16) -> Self {
        if self.port == 0 { Self { port, ..self } } else { self }
    }
}

/// How a vault of the host speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    Vault,
    ManagedHsm,
}

/// A host as the client called it, and the port, unless it is 443.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    host: String,
    port: Option<u16>,
}

impl Address {
    /// Where a request was sent to. `None` where it does not say so, or in two ways.
    pub(super) fn of(request: &Parts, settings: &Settings) -> Option<Self> {
        let mut hosts = request.headers.get_all(HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (None, _) => None,
            (Some(host), None) => Some(host.to_str().ok()?),
            (Some(_), Some(_)) => return None,
        };
        let called = match (request.uri.authority().map(Authority::as_str), host) {
            (Some(called), Some(host)) if called != host => return None,
            (Some(called), _) | (None, Some(called)) => Self::parse(called)?,
            (None, None) => {
                let External { host, port } = settings.external.clone()?;
                Self { host, port: Some(port) }
            }
        };
        let port = called.port.or_else(|| settings.external.as_ref().map(|external| external.port));
        Some(Self { port: port.filter(|port| *port != HTTPS), ..called })
    }

    /// `{host}[:{port}]`. What could mean something in a header or a URL is in no host name.
    fn parse(text: &str) -> Option<Self> {
        let authority: Authority = text.parse().ok()?;
        let host = authority.host();
        let plain = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte));
        let rest = text.strip_prefix(host)?;
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(port.parse().ok()?),
            None if rest.is_empty() => None,
            None => return None,
        };
        (plain && !host.is_empty() && host.len() <= 255).then(|| Self { host: host.to_owned(), port })
    }

    /// How its URLs begin.
    pub(super) fn origin(&self) -> String {
        format!("https://{}", self.with_port(&self.host))
    }

    fn with_port(&self, host: &str) -> String {
        self.port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// The resource that tokens for it are for: the domain that the host lies in. Clients check that it is that, and some
    /// compare the port too. A host without a domain is its own: of such one the check has to be switched off.
    pub(super) fn resource(&self) -> String {
        let domain = if self.is_ip() { None } else { self.host.split_once('.') };
        let domain = domain.map_or(self.host.as_str(), |(_, domain)| domain);
        format!("https://{}", self.with_port(domain))
    }

    fn is_ip(&self) -> bool {
        self.host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
    }

    /// The vault that it is.
    pub(super) fn vault(&self, settings: &Settings) -> Option<VaultName> {
        if let Some(vault) = settings.hosts.get(&self.host.to_ascii_lowercase()) {
            return Some(vault.clone());
        }
        let (label, _) = self.host.split_once('.').filter(|_| !self.is_ip())?;
        label.parse().ok()
    }

    /// How it speaks.
    pub(super) fn flavour(&self, settings: &Settings) -> Flavour {
        let host = self.host.to_ascii_lowercase();
        let within = |domain: &String| {
            host.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        if settings.managed_hsm.iter().any(within) { Flavour::ManagedHsm } else { Flavour::Vault }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            external: External::from_url("https://keys.example.org:8443/"),
            hosts: HashMap::from([("localhost".to_owned(), "dev".parse().expect("a name"))]),
            managed_hsm: vec!["managedhsm.example.org".to_owned()],
            ..Settings::default()
        }
    }

    fn called(hosts: &[&str]) -> Option<Address> {
        let mut request = http::Request::get("/keys");
        for host in hosts {
            request = request.header(HOST, *host);
        }
        Address::of(&request.body(()).expect("a request").into_parts().0, &settings())
    }

    #[test]
    fn urls_begin_as_the_client_called_and_the_resource_is_the_domain() {
        for (host, origin, resource) in [
            ("a.example.org:9", "https://a.example.org:9", "https://example.org:9"),
            ("a.example.org:443", "https://a.example.org", "https://example.org"),
            ("a.example.org", "https://a.example.org:8443", "https://example.org:8443"),
            ("localhost:9", "https://localhost:9", "https://localhost:9"),
            ("127.0.0.1:9", "https://127.0.0.1:9", "https://127.0.0.1:9"),
            ("[::1]:9", "https://[::1]:9", "https://[::1]:9"),
            ("A.Example.org:9", "https://A.Example.org:9", "https://Example.org:9"),
        ] {
            let address = called(&[host]).expect(host);
            assert_eq!((address.origin().as_str(), address.resource().as_str()), (origin, resource));
        }
        assert_eq!(called(&[]).expect("the external one").origin(), "https://keys.example.org:8443");
    }

    #[test]
    fn what_is_no_host_is_none() {
        for hosts in
            [&["a", "a"][..], &["a b"], &["a\"b"], &["a@b"], &["a:b"], &["a,b"], &["a=b"], &[""], &["a:99999"], &["a:"]]
        {
            assert_eq!(called(hosts), None, "{hosts:?}");
        }
    }

    #[test]
    fn a_vault_is_the_first_label_or_what_is_configured() {
        let vault = |host: &str| called(&[host]).expect(host).vault(&settings()).map(|vault| vault.to_string());
        assert_eq!(vault("payments.example.org").as_deref(), Some("payments"));
        assert_eq!(vault("PAYMENTS.example.org:1").as_deref(), Some("payments"));
        assert_eq!(vault("LocalHost:7").as_deref(), Some("dev"));
        for host in ["payments", "127.0.0.1", "[::1]:1", "a.example.org", "pay_ments.example.org"] {
            assert_eq!(called(&[host]).and_then(|address| address.vault(&settings())), None, "{host}");
        }
    }

    #[test]
    fn a_domain_speaks_as_a_managed_hsm() {
        let flavour = |host: &str| called(&[host]).expect(host).flavour(&settings());
        assert_eq!(flavour("dev.managedhsm.example.org:1"), Flavour::ManagedHsm);
        assert_eq!(flavour("managedhsm.example.org"), Flavour::ManagedHsm);
        assert_eq!(flavour("notmanagedhsm.example.org"), Flavour::Vault);
    }
}
