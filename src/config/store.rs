//! `[store]`: where the database is.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::reader::Section;
use crate::store::postgres::{Host, SchemaName, Settings, Tls};

/// More would only be one mistake.
const HOSTS_MAX: usize = 16;

/// Which store, and where.
#[derive(Clone, Debug)]
pub enum StoreChoice {
    /// An SQLite file.
    Sqlite(PathBuf),
    /// PostgreSQL.
    Postgres(Settings),
}

impl StoreChoice {
    /// The file, if it is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(path) => Some(path),
            Self::Postgres(_) => None,
        }
    }
}

/// For messages: a path, or database, schema and servers.
impl fmt::Display for StoreChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "{}", path.display()),
            Self::Postgres(settings) => {
                let hosts: Vec<String> = settings.hosts.iter().map(ToString::to_string).collect();
                write!(f, "postgres {}/{} on {}", settings.database, settings.schema.as_str(), hosts.join(", "))
            }
        }
    }
}

pub(super) fn store(mut section: Section) -> StoreChoice {
    let choice = match (section.has("sqlite"), section.has("postgres")) {
        (true, false) => StoreChoice::Sqlite(section.required_path("sqlite")),
        (false, true) => StoreChoice::Postgres(postgres(section.section("postgres"))),
        (false, false) => {
            section.fault("sqlite", "is missing: name a file, or servers in [store.postgres]");
            StoreChoice::Sqlite(PathBuf::new())
        }
        (true, true) => {
            section.fault("postgres", "is one store, and sqlite another: there can be only one");
            section.values();
            StoreChoice::Sqlite(PathBuf::new())
        }
    };
    section.finish();
    choice
}

fn postgres(mut section: Section) -> Settings {
    let is_named = section.has("hosts");
    let hosts = section.parsed("hosts", "servers", |text| text.parse::<Host>().map_err(|error| error.to_string()));
    if !is_named {
        section.fault("hosts", "is missing, for example [\"db1.example:5432\", \"db2.example:5432\"]");
    } else if hosts.len() > HOSTS_MAX {
        section.fault("hosts", format!("there are more than {HOSTS_MAX}"));
    }
    let tls = tls(&mut section, &hosts);
    let schema = match section.text("schema").map(|text| text.parse::<SchemaName>()) {
        None => SchemaName::default(),
        Some(Ok(name)) => name,
        Some(Err(error)) => {
            section.fault("schema", error.to_string());
            SchemaName::default()
        }
    };
    let settings = Settings {
        hosts,
        database: section.required_text("database"),
        user: section.required_text("user"),
        password_file: section.path("password_file"),
        tls,
        schema,
        connections_max: u32::try_from(section.number("connections_max", 8, 1..=100)).unwrap_or(1),
    };
    section.finish();
    settings
}

/// TLS wherever somebody else may be on the way, unless the operator says otherwise.
fn tls(section: &mut Section, hosts: &[Host]) -> Tls {
    let ca = section.path("ca");
    let (certificate, key) = (section.path("client_certificate"), section.path("client_key"));
    let is_plain = section.switch("allow_plaintext", false);
    if certificate.is_some() != key.is_some() {
        section.fault("client_key", "belongs to client_certificate: name both or none");
    }
    let client = certificate.zip(key);
    match ca {
        Some(ca) => {
            if is_plain {
                section.fault("allow_plaintext", "says the opposite of ca: take one of them away");
            }
            Tls::Verified { ca, client }
        }
        None => {
            if client.is_some() {
                section.fault("client_certificate", "is for TLS: say in ca who vouches for the servers");
            }
            if let Some(far) = hosts.iter().find(|host| !host.is_local()).filter(|_| !is_plain) {
                let why = format!("is missing: {far} is another machine, which is reached with TLS only");
                section.fault("ca", format!("{why} (or say allow_plaintext = true)"));
            }
            Tls::Off
        }
    }
}
