//! `[server]`: where callers come in, and how it is known who they are.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::{listen, reader::Section};
use crate::{
    grpc::{trust::ExpiredCrl, unix::UnixSocket},
    model::{
        AddressRange,
        naming::{GroupSource, NameRule, NameSource, Naming, dns_name, is_trust_domain, is_within},
    },
};

/// The gRPC face.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The server's certificate chain (PEM).
    pub certificate: PathBuf,
    /// Its private key (PEM).
    pub key: PathBuf,
    /// Chain and private key (PEM) of the Azure face, where it has its own: `azure.certificate` and `azure.key`.
    pub azure_pair: Option<(PathBuf, PathBuf)>,
    /// The authorities of client certificates.
    pub authorities: Vec<Authority>,
    /// How often it is looked whether certificates, keys and revocation lists have changed.
    pub reload_every: Duration,
    /// Who passes on connections and says from whom (PROXY protocol); nobody, where it is empty.
    pub trusted_proxies: Vec<AddressRange>,
    /// The Unix socket, if there is one.
    pub unix: Option<UnixSocket>,
    /// The most connections at once.
    pub connections_max: usize,
    /// How old a connection may become; for ever when absent.
    pub connection_age_max: Option<Duration>,
    /// How long the requests of one that is too old may take to end.
    pub connection_grace: Duration,
    /// The most requests at once; each may hold a message of 1 MiB.
    pub requests_max: usize,
    /// The deadline of a request that has none.
    pub deadline_default: Duration,
    /// The longest deadline; a longer one is cut to it.
    pub deadline_max: Duration,
    /// How long requests may take to end after SIGTERM.
    pub drain: Duration,
}

/// An authority of client certificates.
#[derive(Clone, Debug, Default)]
pub struct Authority {
    /// What it is called.
    pub name: String,
    /// Its certificates (PEM).
    pub file: PathBuf,
    /// Its revocation lists (PEM or DER).
    pub crls: Vec<PathBuf>,
    /// What becomes of its certificates when a list is old.
    pub expired_crl: ExpiredCrl,
    /// What it may say of whom.
    pub naming: Naming,
}

pub(super) fn server(mut section: Section) -> Option<Server> {
    let listen = listen(&mut section, None);
    let certificate = section.required_path("certificate");
    let key = section.required_path("key");
    let authorities = authorities(&mut section);
    let reload_every = section.milliseconds("reload_every_ms", Duration::from_secs(10), 100..=3_600_000);
    let trusted_proxies = trusted_proxies(&mut section);
    let unix = if section.has("unix") { Some(unix(section.section("unix"))) } else { None };
    let connections_max = section.count("connections_max", 10_000, 1..=1_000_000);
    let age = section.milliseconds("connection_age_max_ms", Duration::from_secs(3600), 0..=30 * 86_400_000);
    let connection_grace = section.milliseconds("connection_grace_ms", Duration::from_secs(30), 0..=600_000);
    let requests_max = section.count("requests_max", 1024, 1..=1_000_000);
    let deadline_default = section.milliseconds("deadline_default_ms", Duration::from_secs(10), 10..=600_000);
    let deadline_max = section.milliseconds("deadline_max_ms", Duration::from_secs(60), 10..=600_000);
    let drain = section.milliseconds("drain_ms", Duration::from_secs(20), 0..=600_000);
    if deadline_default > deadline_max {
        section.fault("deadline_default_ms", "is longer than deadline_max_ms");
    }
    section.finish();
    Some(Server {
        listen: listen?,
        certificate,
        key,
        azure_pair: None,
        authorities,
        reload_every,
        trusted_proxies,
        unix,
        connections_max,
        connection_age_max: Some(age).filter(|age| !age.is_zero()),
        connection_grace,
        requests_max,
        deadline_default,
        deadline_max,
        drain,
    })
}

/// Proxies are named and switched on: neither alone means anything.
fn trusted_proxies(section: &mut Section) -> Vec<AddressRange> {
    let is_on = section.switch("proxy_protocol", false);
    let ranges = section.parsed("trusted_proxies", "addresses and ranges", |text| {
        text.parse().map_err(|_| "is no address or range like 10.0.0.0/8 with zeros behind its prefix".to_owned())
    });
    match (is_on, ranges.is_empty()) {
        (true, true) => section.fault("trusted_proxies", "is missing: proxy_protocol = true believes nobody without"),
        (false, false) => section.fault("trusted_proxies", "means nothing without proxy_protocol = true"),
        _ => {}
    }
    ranges
}

fn unix(mut section: Section) -> UnixSocket {
    let path = section.required_path("path");
    // sockaddr_un holds 108 bytes, the last of them zero (unix(7)).
    if path.as_os_str().len() > 107 {
        section.fault("path", "is longer than 107 bytes, the longest path of a socket");
    }
    let text = section.text("mode").unwrap_or_else(|| "0600".to_owned());
    let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| *mode <= 0o777 && text.len() <= 4);
    if mode.is_none() {
        section.fault("mode", format!("{text:?} is no mode in octal digits, for example \"0660\""));
    }
    let (uids, gids) = (section.ids("uids"), section.ids("gids"));
    section.finish();
    UnixSocket { path, mode: mode.unwrap_or(0o600), uids, gids }
}

/// `client_ca`, `crl`, `crl_expired` and `mapping`: a file, or a list of tables where authorities differ.
fn authorities(section: &mut Section) -> Vec<Authority> {
    let expired = [("refuse", ExpiredCrl::Refuse), ("accept", ExpiredCrl::Accept)];
    let expired_crl = section.word("crl_expired", ExpiredCrl::Refuse, &expired);
    let mut authorities = if section.is_list("client_ca") {
        if section.has("crl") {
            section.fault("crl", "belongs into each [[server.client_ca]] where there are several");
            section.paths("crl");
        }
        let tables = section.tables("client_ca");
        if tables.is_empty() {
            section.fault("client_ca", "names nobody");
        }
        tables.into_iter().map(authority).collect()
    } else {
        let (file, crls) = (section.required_path("client_ca"), section.paths("crl"));
        vec![Authority { name: "client_ca".to_owned(), file, crls, ..Authority::default() }]
    };
    for authority in &mut authorities {
        authority.expired_crl = expired_crl;
    }
    apart(section, &authorities);
    mappings(section, &mut authorities);
    authorities
}

fn authority(mut table: Section) -> Authority {
    let name = table.required_text("name");
    let is_name =
        name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if !is_name {
        table.fault("name", "is at most 64 lower-case letters, digits and dashes");
    }
    let (file, crls) = (table.required_path("file"), table.paths("crl"));
    let is_said = table.has("trust_domains");
    let domains = table.parsed("trust_domains", "SPIFFE trust domains", |text| match is_trust_domain(text) {
        true => Ok(text.to_owned()),
        false => Err("is no trust domain, for example example.org".to_owned()),
    });
    let groups = table.parsed("groups", "parts of a subject", |text| {
        let known = GroupSource::ALL.into_iter().find(|source| source.name() == text);
        known.ok_or_else(|| format!("is none of {}", GroupSource::ALL.map(GroupSource::name).join(", ")))
    });
    table.finish();
    let naming = Naming { trust_domains: is_said.then_some(domains), rules: Vec::new(), groups };
    Authority { name, file, crls, naming, ..Authority::default() }
}

/// No two authorities have a name, a trust domain or a kind of group in common.
fn apart(section: &Section, authorities: &[Authority]) {
    for (at, authority) in authorities.iter().enumerate() {
        if authorities.len() > 1 && authority.naming.trust_domains.is_none() {
            let why = format!(
                "{:?} has no trust_domains: each of several says whose names it gives ([]: none)",
                authority.name
            );
            section.fault("client_ca", why);
        }
        for other in &authorities[..at] {
            if authority.name == other.name {
                section.fault("client_ca", format!("{:?} is there twice", authority.name));
            }
            let domains = |authority: &Authority| authority.naming.trust_domains.clone().unwrap_or_default();
            for domain in domains(authority).iter().filter(|domain| domains(other).contains(domain)) {
                let why = format!("{:?} and {:?} both name the trust domain {domain}", other.name, authority.name);
                section.fault("client_ca", why);
            }
            for group in authority.naming.groups.iter().filter(|group| other.naming.groups.contains(group)) {
                let why = format!("{:?} and {:?} both make groups of the {}", other.name, authority.name, group.name());
                section.fault("client_ca", why);
            }
        }
    }
}

/// Gives each mapping to its authority, and says where two authorities could make one name.
fn mappings(section: &mut Section, authorities: &mut [Authority]) {
    let sources = NameSource::ALL.map(|source| (source.name(), source));
    for mut table in section.tables("mapping") {
        if !table.has("from") {
            table.fault("from", "is missing");
        }
        let source = table.word("from", NameSource::Dns, &sources);
        let within = within(&mut table, source);
        let named = table.text("authority");
        let at = match &named {
            Some(name) => authorities.iter().position(|authority| authority.name == *name),
            None => Some(0).filter(|_| authorities.len() == 1),
        };
        match (at, named) {
            (Some(at), _) => {
                let rule = NameRule { source, within };
                for (other, authority) in authorities.iter().enumerate().filter(|(other, _)| *other != at) {
                    if authority.naming.rules.iter().any(|known| overlap(known, &rule)) {
                        let names = (&authorities[other].name, &authorities[at].name);
                        table.fault(
                            "within",
                            format!(
                                "{:?} and {:?} could both make one name: name what is each one's",
                                names.0, names.1
                            ),
                        );
                    }
                }
                authorities[at].naming.rules.push(rule);
            }
            (None, Some(name)) => table.fault("authority", format!("{name:?} is no name of a [[server.client_ca]]")),
            (None, None) => table.fault("authority", "is missing: there are several"),
        }
        table.finish();
    }
}

/// From a text to the form of it that is compared, or why there is none.
type Reading = fn(&str) -> Result<String, String>;

/// What names must lie in.
fn within(table: &mut Section, source: NameSource) -> Vec<String> {
    let (of, allowed): (_, Reading) = match source {
        NameSource::Dns | NameSource::Email => {
            ("domains", |text| dns_name(text).ok_or_else(|| "is no domain, for example example.org".to_owned()))
        }
        NameSource::Uri => ("beginnings of URIs", beginning),
        NameSource::CommonName => ("nothing", |_| Err("cannot be: common names lie in nothing".to_owned())),
    };
    let within = table.parsed("within", of, allowed);
    if source == NameSource::Uri && within.is_empty() {
        table.fault("within", "is missing: say how the URIs begin that are taken");
    }
    within
}

/// The beginning of URIs: it ends where a part of them ends, so that nothing continues a word.
fn beginning(text: &str) -> Result<String, String> {
    let is_whole = text.len() <= 1024 && text.bytes().all(|byte| byte.is_ascii_graphic()) && text.contains(':');
    let ends_well = text.ends_with(['/', ':', '#']);
    let is_spiffe = text.starts_with("spiffe:");
    if is_whole && ends_well && !is_spiffe {
        return Ok(text.to_owned());
    }
    Err("is no beginning of URIs that ends with /, : or #, for example https://build.example.org/ (SPIFFE IDs: trust_domains)".to_owned())
}

/// Whether a name could come from either.
fn overlap(one: &NameRule, other: &NameRule) -> bool {
    let meets = |a: &str, b: &str| match one.source {
        NameSource::Dns => is_within(a, b) || is_within(b, a),
        NameSource::Email => a == b,
        NameSource::Uri => a.starts_with(b) || b.starts_with(a),
        NameSource::CommonName => true,
    };
    one.source == other.source
        && (one.within.is_empty()
            || other.within.is_empty()
            || one.within.iter().any(|a| other.within.iter().any(|b| meets(a, b))))
}
