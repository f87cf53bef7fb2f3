//! Where the server is and who we are: given by code, by files, or by the environment; checked as far as it
//! can be before anything is sent; and then connected to.

use std::{
    ffi::OsString,
    fmt,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use secrecy::{ExposeSecret as _, SecretSlice};
use tokio::time::Instant;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Uri};

use crate::{Client, Error, bearer::TokenFile, cause, endpoints::Endpoints};

/// How long a connection may take before the host counts as not answering.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The time that a call has when nothing else is said.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A connection that a call waits on is asked for a sign of life this often.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// How the endpoint begins that is a socket on this machine.
const UNIX: &str = "unix:";
/// More servers would only be one mistake.
const SERVERS_MAX: usize = 64;
/// A PEM file is never longer.
const PEM_BYTES_MAX: u64 = 1024 * 1024;

/// A setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Where the server is: `https://HOST:PORT`, or `unix:PATH` for a socket on this machine. Several, with commas
    /// between them, do the same: [`Client`] says how calls are spread.
    Endpoint,
    /// The CA that the server's certificate must come from.
    Ca,
    /// Our certificate.
    Certificate,
    /// Our private key.
    PrivateKey,
    /// A bearer token that says who we are.
    Token,
}

impl Setting {
    /// The environment variable that holds it: the endpoint itself, or a file's name.
    #[must_use]
    pub const fn variable(self) -> &'static str {
        match self {
            Self::Endpoint => "STRONGROOM_ENDPOINT",
            Self::Ca => "STRONGROOM_CA",
            Self::Certificate => "STRONGROOM_CERT",
            Self::PrivateKey => "STRONGROOM_KEY",
            Self::Token => "STRONGROOM_TOKEN_FILE",
        }
    }

    /// What its file must hold.
    const fn content(self) -> &'static str {
        match self {
            Self::Endpoint => "endpoint",
            Self::Ca | Self::Certificate => "certificate",
            Self::PrivateKey => "private key",
            Self::Token => "token",
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Endpoint => "endpoint",
            Self::Ca => "CA",
            Self::Certificate => "client certificate",
            Self::PrivateKey => "private key",
            Self::Token => "token",
        })
    }
}

/// A setting that is missing or cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// Not given, and not in the environment.
    #[error("cannot connect: {} not set", .0.iter().map(|setting| setting.variable()).collect::<Vec<_>>().join(", "))]
    Missing(Vec<Setting>),
    /// No address of a server.
    #[error("{text:?} is not an endpoint: {why}")]
    Endpoint {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A file that cannot be read.
    #[error("the {setting} cannot be used: cannot read {}", path.display())]
    File {
        /// Which setting names it.
        setting: Setting,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file of something else.
    #[error("{} holds no {} in PEM", path.display(), setting.content())]
    NotPem {
        /// Which setting names it.
        setting: Setting,
        /// The file; empty when the bytes were given by code.
        path: PathBuf,
    },
    /// A file that holds no bearer token.
    #[error("{} holds no token: one line of at most 16 KiB", path.display())]
    NoToken {
        /// The file.
        path: PathBuf,
    },
    /// The certificate and the private key do not belong together, or TLS does not take them.
    #[error("the client certificate and key cannot be used: {0}")]
    Identity(String),
}

/// Where settings are: what is absent here is looked for in the environment.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `https://HOST:PORT`, or `unix:PATH`: then nothing else is looked for. Several have commas between them.
    pub endpoint: Option<String>,
    /// The CA's file (PEM).
    pub ca: Option<PathBuf>,
    /// Our certificate's file (PEM).
    pub certificate: Option<PathBuf>,
    /// Our private key's file (PEM).
    pub private_key: Option<PathBuf>,
    /// The file with a bearer token that says who we are. With one, certificate and key may be left out.
    pub token: Option<PathBuf>,
}

impl Sources {
    /// Reads all that is named.
    ///
    /// # Errors
    /// [`SettingsError`], about the first thing that is wrong.
    pub fn read(self) -> Result<Settings, SettingsError> {
        let endpoint =
            self.endpoint.or_else(|| of_environment(Setting::Endpoint).and_then(|value| value.into_string().ok()));
        let file = |given: Option<PathBuf>, setting| given.or_else(|| of_environment(setting).map(PathBuf::from));
        let token = file(self.token, Setting::Token).map(TokenFile::new);
        if let Some(token) = &token {
            // What is wrong with it is said now, not with the first call.
            token.authorize(&mut tonic::metadata::MetadataMap::new())?;
        }
        let servers = endpoint.as_deref().map(parse_servers).transpose()?;
        if let (Some(endpoint), Some(servers)) = (&endpoint, &servers)
            && servers.iter().all(Server::is_local)
        {
            return Ok(Settings { token, ..Settings::unix(endpoint)? });
        }
        let ca = file(self.ca, Setting::Ca);
        let certificate = file(self.certificate, Setting::Certificate);
        let private_key = file(self.private_key, Setting::PrivateKey);
        let by_certificate = token.is_none() || certificate.is_some() || private_key.is_some();
        let missing: Vec<Setting> = [
            (Setting::Endpoint, endpoint.is_none()),
            (Setting::Ca, ca.is_none()),
            (Setting::Certificate, by_certificate && certificate.is_none()),
            (Setting::PrivateKey, by_certificate && private_key.is_none()),
        ]
        .into_iter()
        .filter_map(|(setting, missing)| missing.then_some(setting))
        .collect();
        let (Some(endpoint), Some(servers), Some(ca), true) = (&endpoint, servers, &ca, missing.is_empty()) else {
            return Err(SettingsError::Missing(missing));
        };
        let own = |setting, path: &Option<PathBuf>| path.as_ref().map_or(Ok(Vec::new()), |path| pem(setting, path));
        let credentials = Credentials {
            ca: pem(Setting::Ca, ca)?,
            certificate: own(Setting::Certificate, &certificate)?,
            private_key: own(Setting::PrivateKey, &private_key)?.into(),
        };
        let [certificate, private_key] = [certificate, private_key].map(Option::unwrap_or_default);
        credentials.check([ca, &certificate, &private_key], token.is_some())?;
        Ok(Settings { token, ..Settings::of(endpoint, servers, Some(credentials)) })
    }
}

/// An environment variable; one that is empty is not set.
fn of_environment(setting: Setting) -> Option<OsString> {
    std::env::var_os(setting.variable()).filter(|value| !value.is_empty())
}

/// What TLS needs, in PEM.
#[derive(Debug)]
pub struct Credentials {
    /// The CA that the server's certificate must come from.
    pub ca: Vec<u8>,
    /// Our certificate, and those between it and a CA that the server trusts. Empty, like the key, where a bearer
    /// token says who we are.
    pub certificate: Vec<u8>,
    /// Our private key.
    pub private_key: SecretSlice<u8>,
}

impl Credentials {
    fn has_identity(&self) -> bool {
        !self.certificate.is_empty() || !self.private_key.expose_secret().is_empty()
    }

    fn check(&self, [ca, certificate, private_key]: [&Path; 3], by_token: bool) -> Result<(), SettingsError> {
        let wrong = |setting, path: &Path| Err(SettingsError::NotPem { setting, path: path.to_owned() });
        if CertificateDer::from_pem_slice(&self.ca).is_err() {
            return wrong(Setting::Ca, ca);
        }
        if by_token && !self.has_identity() {
            return Ok(());
        }
        if CertificateDer::from_pem_slice(&self.certificate).is_err() {
            return wrong(Setting::Certificate, certificate);
        }
        if PrivateKeyDer::from_pem_slice(self.private_key.expose_secret()).is_err() {
            return wrong(Setting::PrivateKey, private_key);
        }
        Ok(())
    }
}

/// What has been read and checked.
#[derive(Debug)]
pub struct Settings {
    endpoint: String,
    servers: Vec<Server>,
    /// There are none where every server is on this machine.
    credentials: Option<Credentials>,
    token: Option<TokenFile>,
    timeout: Duration,
    user_agent: String,
}

/// How a server is reached.
#[derive(Debug, PartialEq, Eq)]
enum Server {
    /// Over the network.
    Tls { name: String, uri: Uri },
    /// By its socket on this machine. The kernel tells it who we are.
    Unix { name: String, path: String },
}

impl Server {
    const fn is_local(&self) -> bool {
        matches!(self, Self::Unix { .. })
    }

    /// As it was given.
    fn name(&self) -> &str {
        match self {
            Self::Tls { name, .. } | Self::Unix { name, .. } => name,
        }
    }
}

impl Settings {
    /// Settings given by code. Several endpoints have commas between them: see [`Setting::Endpoint`].
    ///
    /// # Errors
    /// [`SettingsError`], about the first thing that is wrong.
    pub fn new(endpoint: &str, credentials: Credentials) -> Result<Self, SettingsError> {
        let servers = parse_servers(endpoint)?;
        credentials.check([Path::new("what was given"); 3], false)?;
        Ok(Self::of(endpoint, servers, Some(credentials)))
    }

    /// Settings for the socket of a server on this machine, `unix:PATH`. There is no TLS and no certificate: the kernel
    /// tells the server whose process we are.
    ///
    /// # Errors
    /// [`SettingsError::Endpoint`].
    pub fn unix(endpoint: &str) -> Result<Self, SettingsError> {
        let servers = parse_servers(endpoint)?;
        match servers.iter().find(|server| !server.is_local()) {
            Some(other) => {
                Err(SettingsError::Endpoint { text: other.name().to_owned(), why: "it does not begin with unix:" })
            }
            None => Ok(Self::of(endpoint, servers, None)),
        }
    }

    /// Settings given by code, for a caller that is known by the bearer token in that file: the server's CA is all
    /// that TLS needs. The file is read again when it changes.
    ///
    /// # Errors
    /// [`SettingsError`], about the first thing that is wrong.
    pub fn with_token(endpoint: &str, ca: Vec<u8>, token: impl Into<PathBuf>) -> Result<Self, SettingsError> {
        let servers = parse_servers(endpoint)?;
        let credentials = Credentials { ca, certificate: Vec::new(), private_key: Vec::new().into() };
        credentials.check([Path::new("what was given"); 3], true)?;
        let token = TokenFile::new(token.into());
        token.authorize(&mut tonic::metadata::MetadataMap::new())?;
        Ok(Self { token: Some(token), ..Self::of(endpoint, servers, Some(credentials)) })
    }

    /// Settings of the environment: `STRONGROOM_ENDPOINT`, and, unless that is a socket, the files that
    /// `STRONGROOM_CA`, `STRONGROOM_CERT` and `STRONGROOM_KEY`, or `STRONGROOM_TOKEN_FILE`, name.
    ///
    /// # Errors
    /// [`SettingsError`], about the first thing that is wrong.
    pub fn from_environment() -> Result<Self, SettingsError> {
        Sources::default().read()
    }

    fn of(endpoint: &str, servers: Vec<Server>, credentials: Option<Credentials>) -> Self {
        let user_agent = concat!("strongroom-client/", env!("CARGO_PKG_VERSION")).to_owned();
        Self { endpoint: endpoint.to_owned(), servers, credentials, token: None, timeout: TIMEOUT, user_agent }
    }

    /// Gives each call, with its repetitions, this much time; 30 s when nothing is said.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Says who calls, as `name/version`.
    #[must_use]
    pub fn with_user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = user_agent.into();
        self
    }

    /// Where the server is, or the servers, as it was given.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Whether a bearer token says who we are.
    #[must_use]
    pub const fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Our certificate, in PEM: empty beside a bearer token; a socket needs none.
    #[must_use]
    pub fn certificate(&self) -> Option<&[u8]> {
        self.credentials.as_ref().map(|credentials| &credentials.certificate[..])
    }

    /// Connects: to the first server that is there, and to the others meanwhile. A connection that breaks later is made
    /// again, by the next call where there is one server, else by itself.
    ///
    /// # Errors
    /// [`Error::Connection`], of several [`Error::NoServer`], or [`Error::Settings`] when TLS does not take the
    /// credentials.
    pub async fn connect(&self) -> Result<Client, Error> {
        let prepared = self.servers.iter().map(|server| Ok((server.name().to_owned(), self.prepare(server)?)));
        let endpoints = Endpoints::lazy(prepared.collect::<Result<_, SettingsError>>()?);
        endpoints.connect(Instant::now() + self.timeout).await?;
        Ok(Client::on(endpoints, self.timeout).bearing(self.token.clone()))
    }

    /// A channel that connects with its first call, to the first of the servers. A bearer token is not part of it.
    ///
    /// # Errors
    /// When TLS does not take the credentials.
    pub fn channel(&self) -> Result<Channel, SettingsError> {
        // There is always one: an endpoint that is empty is none.
        let first = self.servers.first().ok_or_else(|| SettingsError::Missing(vec![Setting::Endpoint]))?;
        Ok(self.prepare(first)?.connect_lazy())
    }

    fn prepare(&self, server: &Server) -> Result<Endpoint, SettingsError> {
        self.endpoint_of(server).map_err(|error| SettingsError::Identity(cause::innermost(&error)))
    }

    fn endpoint_of(&self, server: &Server) -> Result<Endpoint, tonic::transport::Error> {
        let endpoint = match (server, &self.credentials) {
            (Server::Tls { uri, .. }, Some(credentials)) => {
                let Credentials { ca, certificate, private_key } = credentials;
                let mut tls = ClientTlsConfig::new().domain_name(host(uri)).ca_certificate(Certificate::from_pem(ca));
                if credentials.has_identity() {
                    tls = tls.identity(Identity::from_pem(certificate, private_key.expose_secret()));
                }
                Endpoint::from(uri.clone()).tls_config(tls)?
            }
            // Cannot be, and would find no trust.
            (Server::Tls { uri, .. }, None) => Endpoint::from(uri.clone()).tls_config(ClientTlsConfig::new())?,
            (Server::Unix { path, .. }, _) => Endpoint::from_shared(format!("{UNIX}{path}"))?,
        };
        let endpoint = endpoint.user_agent(self.user_agent.clone())?;
        Ok(endpoint.connect_timeout(CONNECT_TIMEOUT).http2_keep_alive_interval(KEEP_ALIVE))
    }
}

/// An IPv6 host stands in brackets in a URI; a certificate's name does not.
fn host(uri: &Uri) -> &str {
    uri.host().unwrap_or_default().trim_matches(['[', ']'])
}

/// One server, or several with commas between them.
fn parse_servers(text: &str) -> Result<Vec<Server>, SettingsError> {
    let wrong = |text: &str, why| SettingsError::Endpoint { text: text.to_owned(), why };
    let mut servers = Vec::new();
    for one in text.split(',').map(str::trim) {
        let server = parse_server(one)?;
        if servers.contains(&server) {
            return Err(wrong(one, "it is there twice"));
        }
        servers.push(server);
    }
    if servers.len() > SERVERS_MAX {
        return Err(wrong(text, "there are more than 64"));
    }
    Ok(servers)
}

fn parse_server(text: &str) -> Result<Server, SettingsError> {
    let name = text.to_owned();
    let Some(path) = text.strip_prefix(UNIX) else { return Ok(Server::Tls { uri: parse_endpoint(text)?, name }) };
    // As gRPC writes it (its naming document): with two slashes before an absolute path, or without.
    let path = path.strip_prefix("//").unwrap_or(path).to_owned();
    if !path.starts_with('/') {
        let why = "the path of a socket is an absolute one: unix:/run/strongroom/strongroom.sock";
        return Err(SettingsError::Endpoint { text: name, why });
    }
    Ok(Server::Unix { name, path })
}

fn parse_endpoint(text: &str) -> Result<Uri, SettingsError> {
    let wrong = |why| SettingsError::Endpoint { text: text.to_owned(), why };
    if text.starts_with("http://") {
        return Err(wrong("Strongroom is spoken to over TLS only, so it begins with https://"));
    }
    let uri: Uri = text.parse().map_err(|_| wrong("it is not a URL"))?;
    if uri.scheme_str() != Some("https") || uri.host().is_none_or(str::is_empty) {
        return Err(wrong("it does not begin with https:// and a host, nor with unix: and a path"));
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(wrong("something follows the port"));
    }
    Ok(uri)
}

/// The bytes of a PEM file, in one allocation: growing would leave copies of a secret behind.
fn pem(setting: Setting, path: &Path) -> Result<Vec<u8>, SettingsError> {
    let read = || -> io::Result<Vec<u8>> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        if length > PEM_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "that is no PEM file"));
        }
        // A pipe has no length: then growing cannot be helped.
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default() + 1);
        file.take(PEM_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|source| SettingsError::File { setting, path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_https_with_a_host_and_nothing_else() {
        for good in ["https://127.0.0.1:8443", "https://[::1]:8443", "https://localhost", "https://a.example:1/"] {
            assert!(parse_endpoint(good).is_ok(), "{good}");
        }
        for bad in ["http://127.0.0.1:1", "127.0.0.1:8443", "", "https://", "https://a/b", "ftp://a", "https://a?b"] {
            let text = parse_endpoint(bad).expect_err(bad).to_string();
            assert!(text.contains("is not an endpoint"), "{text}");
        }
    }

    #[test]
    fn a_socket_is_an_absolute_path_and_needs_nothing_else() {
        for good in ["unix:/run/s", "unix:///run/s"] {
            let sources = Sources { endpoint: Some(good.to_owned()), ..Sources::default() };
            let settings = sources.read().expect("is right");
            assert!(matches!(&settings.servers[..], [Server::Unix { path, .. }] if path == "/run/s"), "{settings:?}");
            assert_eq!((settings.endpoint(), settings.certificate()), (good, None));
        }
        for bad in ["unix:", "unix:s", "unix://host/s", "unix:./s"] {
            assert!(matches!(Settings::unix(bad), Err(SettingsError::Endpoint { .. })), "{bad}");
        }
    }

    #[test]
    fn several_have_commas_between_them() {
        let names = |text: &str| {
            let servers = parse_servers(text).expect(text);
            servers.iter().map(|server| server.name().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names("https://a:1,https://b:1"), ["https://a:1", "https://b:1"]);
        assert_eq!(names(" https://a:1 , unix:/run/s "), ["https://a:1", "unix:/run/s"]);
        let many = |count: usize| (0..count).map(|n| format!("https://a:{}", n + 1)).collect::<Vec<_>>().join(",");
        assert_eq!(names(&many(64)).len(), 64);
        for bad in ["https://a,", ",https://a", "https://a,,https://b", "https://a,https://a", "https://a,x", &many(65)]
        {
            assert!(matches!(parse_servers(bad), Err(SettingsError::Endpoint { .. })), "{bad}");
        }
        assert!(Settings::unix("unix:/a,unix:/b").is_ok() && Settings::unix("unix:/a,https://b").is_err());
        // One that is not on this machine needs all that TLS needs.
        let mixed = Sources { endpoint: Some("unix:/a,https://b".to_owned()), ..Sources::default() };
        assert!(matches!(mixed.read(), Err(SettingsError::Missing(_))));
    }

    #[test]
    fn files_that_hold_something_else_are_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ca.pem");
        let sources = || Sources {
            endpoint: Some("https://a".to_owned()),
            ca: Some(path.clone()),
            certificate: Some(path.clone()),
            private_key: Some(path.clone()),
            token: None,
        };
        let text = sources().read().expect_err("missing").to_string();
        assert!(text.starts_with("the CA cannot be used: cannot read ") && text.ends_with("ca.pem"), "{text}");
        std::fs::write(&path, "no PEM").expect("written");
        let text = sources().read().expect_err("no PEM").to_string();
        assert!(text.ends_with("ca.pem holds no certificate in PEM"), "{text}");
    }

    #[test]
    fn with_a_token_a_certificate_may_be_left_out_and_not_half_of_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let (ca, token) = (folder.path().join("ca.pem"), folder.path().join("token"));
        std::fs::write(&ca, any_certificate()).expect("written");
        std::fs::write(&token, "a.b.c").expect("written");
        let sources = || Sources {
            endpoint: Some("https://a".to_owned()),
            ca: Some(ca.clone()),
            token: Some(token.clone()),
            ..Sources::default()
        };
        let settings = sources().read().expect("right");
        assert!(settings.has_token() && settings.certificate() == Some(&[]));
        let half = Sources { certificate: Some(ca.clone()), ..sources() };
        assert!(matches!(half.read(), Err(SettingsError::Missing(missing)) if missing == [Setting::PrivateKey]));
        std::fs::write(&token, "no token").expect("written");
        let text = sources().read().expect_err("no token").to_string();
        assert!(text.contains("token holds no token: one line"), "{text}");
    }

    /// Any certificate: what is in it is not looked at here.
    fn any_certificate() -> &'static str {
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    }

    #[test]
    fn a_private_key_is_not_printed() {
        let credentials =
            Credentials { ca: Vec::new(), certificate: Vec::new(), private_key: b"hunter2".to_vec().into() };
        assert!(!format!("{credentials:?}").contains("104, 117, 110"), "the bytes of \"hun\"");
    }
}
