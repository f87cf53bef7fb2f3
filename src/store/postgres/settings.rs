//! Where the database is and how it is spoken to.

use std::{fmt, net::IpAddr, path::PathBuf, str::FromStr};

/// The port where none is said.
const PORT: u16 = 5432;

/// How to reach the database. Secrets are named by file, and read for each new connection: a new password is used
/// without a restart.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Every server that may be the primary, now or after a fail-over.
    pub hosts: Vec<Host>,
    /// The database.
    pub database: String,
    /// The role to log in as.
    pub user: String,
    /// The file with its password, if it needs one.
    pub password_file: Option<PathBuf>,
    /// How servers are known, and what is read on the way.
    pub tls: Tls,
    /// The schema that holds the tables.
    pub schema: SchemaName,
    /// The most connections at once, beside the one that listens.
    pub connections_max: u32,
}

/// What protects the way to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Nothing. The configuration allows it on loopback and sockets only, unless it is told otherwise.
    Off,
    /// TLS; the server has a certificate of this authority for its name.
    Verified {
        /// The authority's certificates (PEM).
        ca: PathBuf,
        /// What this client shows of itself, if it is asked: a certificate and its key (PEM).
        client: Option<(PathBuf, PathBuf)>,
    },
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// Over TCP.
    Tcp {
        /// Its name or address.
        name: String,
        /// Its port.
        port: u16,
    },
    /// On this machine, over a socket.
    Socket {
        /// The folder that the socket is in.
        folder: PathBuf,
        /// The port, which is part of the socket's name.
        port: u16,
    },
}

/// A text that names no server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is none of NAME, NAME:PORT, [IPV6]:PORT, /FOLDER, /FOLDER:PORT")]
pub struct HostError;

impl Host {
    /// Whether nobody is on the way but this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Socket { .. } => true,
            Self::Tcp { name, .. } => {
                name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            }
        }
    }
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let port = |text: &str| text.parse().ok().filter(|port| *port > 0).ok_or(HostError);
        let split = |text: &str| match text.rsplit_once(':') {
            Some((name, number)) => Ok((name.to_owned(), port(number)?)),
            None => Ok((text.to_owned(), PORT)),
        };
        if text.starts_with('/') {
            let (folder, port) = split(text)?;
            return Ok(Self::Socket { folder: folder.into(), port });
        }
        let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((name, "")) => (name.to_owned(), PORT),
            Some((name, rest)) => (name.to_owned(), port(rest.strip_prefix(':').ok_or(HostError)?)?),
            None => split(text)?,
        };
        let is_address = name.parse::<IpAddr>().is_ok();
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        if name.is_empty() || !(is_address || is_name) { Err(HostError) } else { Ok(Self::Tcp { name, port }) }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { name, port } if name.contains(':') => write!(f, "[{name}]:{port}"),
            Self::Tcp { name, port } => write!(f, "{name}:{port}"),
            Self::Socket { folder, port } => write!(f, "{}:{port}", folder.display()),
        }
    }
}

/// The name of a schema: 1 to 40 of `[a-z0-9_]`, a letter first, and not `pg_`, which is PostgreSQL's own. It needs no
/// quotes anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaName(String);

/// A text that is no name of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not 1 to 40 of a-z, 0-9 and _, a letter first, or begins with pg_")]
pub struct SchemaNameError;

impl SchemaName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for SchemaName {
    fn default() -> Self {
        Self("strongroom".to_owned())
    }
}

impl FromStr for SchemaName {
    type Err = SchemaNameError;

    fn from_str(text: &str) -> Result<Self, SchemaNameError> {
        let right = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let is_name = (1..=40).contains(&text.len())
            && text.bytes().all(right)
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && !text.starts_with("pg_");
        if is_name { Ok(Self(text.to_owned())) } else { Err(SchemaNameError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_addresses_and_folders() {
        for (text, shown) in [
            ("db1.example", "db1.example:5432"),
            ("db1:1234", "db1:1234"),
            ("10.0.0.1", "10.0.0.1:5432"),
            ("[::1]", "[::1]:5432"),
            ("[2001:db8::1]:9", "[2001:db8::1]:9"),
            ("/run/postgresql", "/run/postgresql:5432"),
            ("/run/postgresql:5433", "/run/postgresql:5433"),
        ] {
            let host: Host = text.parse().expect(text);
            assert_eq!(host.to_string(), shown);
            assert_eq!(host.to_string().parse(), Ok(host));
        }
        for wrong in ["", ":5432", "db1:", "db1:0", "db1:70000", "::1", "[::1", "[x y]:1", "a b", "user@db1", "a,b"] {
            assert_eq!(wrong.parse::<Host>(), Err(HostError), "{wrong}");
        }
    }

    #[test]
    fn only_this_machine_is_local() {
        for (text, is_local) in
            [("localhost", true), ("127.0.0.2", true), ("[::1]", true), ("/run", true), ("db1", false), ("::1", false)]
        {
            assert_eq!(text.parse::<Host>().is_ok_and(|host| host.is_local()), is_local, "{text}");
        }
    }

    #[test]
    fn schemas_need_no_quotes() {
        for wrong in ["", "1a", "_a", "A", "a-b", "pg_a", "a;b", "a\"", &"a".repeat(41)] {
            assert!(wrong.parse::<SchemaName>().is_err(), "{wrong}");
        }
        assert_eq!("eu_1".parse::<SchemaName>().expect("a name").as_str(), "eu_1");
    }
}
