//! Where the server is and who we are: flags, else environment. [`strongroom_client`] reads, checks and
//! connects; here its errors get the names of the flags.
//!
//! TLS always, and always somebody: a client certificate, or a bearer token in a file. There is no flag that switches
//! either off. On a server's own machine there is its socket instead.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use sha2::{Digest as _, Sha256};
use strongroom_client::{Setting, Settings, SettingsError, Sources};
use tokio::time::Instant;
use x509_parser::extensions::GeneralName;

use super::{
    client::Client,
    failure::{self, Caller, Failure},
    output,
};
use crate::model::VaultName;

/// Where the server is and who we are.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connection (client commands)")]
pub(super) struct ConnectionArgs {
    /// Where the server is; may be given several times, or with commas, for servers that do the same [env:
    /// STRONGROOM_ENDPOINT]
    #[arg(long, global = true, value_name = "https://HOST:PORT|unix:PATH")]
    endpoint: Vec<String>,
    /// The CA (PEM) that the server's certificate must come from [env: STRONGROOM_CA]
    #[arg(long, global = true, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Our client certificate (PEM) [env: STRONGROOM_CERT]
    #[arg(long, global = true, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Our private key (PEM) [env: STRONGROOM_KEY]
    #[arg(long, global = true, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// A file with a bearer token that says who we are, instead of a certificate or before it; read again when it
    /// changes [env: STRONGROOM_TOKEN_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The vault that names of keys and secrets are in [env: STRONGROOM_VAULT]
    #[arg(long, global = true, value_name = "VAULT")]
    vault: Option<String>,
    /// How long the whole command may take (`file` commands: each call to the server)
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
}

impl ConnectionArgs {
    /// The current vault.
    pub(super) fn vault(&self) -> anyhow::Result<VaultName> {
        // Read here and not by clap, which would put every variable that is set into the usage line of every
        // command. One that is empty is not set.
        let variable = || std::env::var("STRONGROOM_VAULT").ok().filter(|value| !value.is_empty());
        let Some(vault) = self.vault.clone().or_else(variable) else {
            return Err(Failure::new("no vault is named: neither --vault nor STRONGROOM_VAULT is set")
                .hint(
                    "pass --vault NAME (strongroom vault list shows them), or load the development settings: . DIR/env",
                )
                .into());
        };
        Ok(vault.parse()?)
    }

    /// The vault that the command line itself names, whatever the environment says.
    pub(super) fn typed_vault(&self) -> anyhow::Result<Option<VaultName>> {
        Ok(self.vault.as_deref().map(str::parse).transpose()?)
    }

    /// Connects, for a command whose calls together may take `--timeout`. All that can be wrong with flags
    /// and files is said before anything is sent.
    pub(super) async fn connect(&self) -> anyhow::Result<Client> {
        let deadline = Instant::now() + Duration::from_secs(self.timeout);
        let (api, caller) = self.open().await?;
        Ok(Client::new(api.until(deadline), caller))
    }

    /// Connects, for a command that works as long as its input: each call may take `--timeout`.
    pub(super) async fn connect_for_long(&self) -> anyhow::Result<Client> {
        let (api, caller) = self.open().await?;
        Ok(Client::new(api, caller))
    }

    async fn open(&self) -> anyhow::Result<(strongroom_client::Client, Caller)> {
        let settings = self.settings().map_err(|error| explain(&error))?;
        let caller = Caller {
            principal: match settings.certificate() {
                // Whose a token is, its issuer and the server know.
                _ if settings.has_token() => None,
                Some(certificate) => principal(certificate),
                None => Some(format!("unix:uid:{}", rustix::process::geteuid().as_raw())),
            },
            by_token: settings.has_token(),
            endpoint: settings.endpoint().to_owned(),
            timeout_s: self.timeout,
        };
        let api = settings.connect().await.map_err(|error| failure::to_connect(&error, &caller))?;
        let api = api.when_in_force_later(|from| {
            output::note(&format!(
                "changed; in force on every replica from {from} on (until then one may not have heard)"
            ));
        });
        Ok((api, caller))
    }

    fn settings(&self) -> Result<Settings, SettingsError> {
        let sources = Sources {
            endpoint: (!self.endpoint.is_empty()).then(|| self.endpoint.join(",")),
            ca: self.ca.clone(),
            certificate: self.cert.clone(),
            private_key: self.key_file.clone(),
            token: self.token_file.clone(),
        };
        let settings = sources.read()?;
        Ok(settings
            .with_timeout(Duration::from_secs(self.timeout))
            .with_user_agent(concat!("strongroom-cli/", env!("CARGO_PKG_VERSION"))))
    }
}

/// The flag that gives a setting.
const fn flag(setting: Setting) -> &'static str {
    match setting {
        Setting::Endpoint => "--endpoint",
        Setting::Ca => "--ca",
        Setting::Certificate => "--cert",
        Setting::PrivateKey => "--key-file",
        Setting::Token => "--token-file",
    }
}

/// What is wrong with the settings, and which flag mends it.
pub(super) fn explain(error: &SettingsError) -> Failure {
    let another = |setting| format!("pass another file with {} or {}", flag(setting), setting.variable());
    match error {
        SettingsError::Missing(settings) => {
            let names: Vec<String> =
                settings.iter().map(|setting| format!("{} ({})", setting.variable(), flag(*setting))).collect();
            Failure::new(format!("cannot connect: {} not set", names.join(", ")))
                .hint("for development run: . DIR/env (after strongroom dev --data-dir DIR)")
                .hint("else pass: --endpoint https://HOST:PORT --ca FILE, and --cert FILE --key-file FILE or --token-file FILE")
        }
        SettingsError::Endpoint { .. } => Failure::new(error.to_string())
            .hint("an endpoint looks like https://127.0.0.1:8443, or unix:/run/strongroom/strongroom.sock")
            .hint("several have commas between them"),
        SettingsError::File { setting, source, .. } => {
            Failure::new(format!("{error}: {source}")).hint(another(*setting))
        }
        SettingsError::NoToken { .. } => Failure::new(error.to_string()).hint(another(Setting::Token)),
        SettingsError::NotPem { setting, .. } => Failure::new(error.to_string()).hint(another(*setting)),
        SettingsError::Identity(_) => {
            Failure::new(error.to_string()).hint("check that --cert and --key-file belong together")
        }
        _ => Failure::new(error.to_string()),
    }
}

/// The principal that the server sees in a certificate: its first URI name, else its SHA-256. Where the server maps other
/// names, only it knows.
fn principal(pem: &[u8]) -> Option<String> {
    let der = CertificateDer::from_pem_slice(pem).ok()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
    let names = certificate.subject_alternative_name().ok().flatten();
    let uri = names.and_then(|names| {
        names.value.general_names.iter().find_map(|name| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        })
    });
    uri.or_else(|| Some(format!("x509:sha256:{}", base16ct::lower::encode_string(&Sha256::digest(&der)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_flag() {
        let text = explain(&SettingsError::Missing(vec![Setting::Endpoint, Setting::PrivateKey])).to_string();
        assert!(
            text.starts_with("cannot connect: STRONGROOM_ENDPOINT (--endpoint), STRONGROOM_KEY (--key-file) not set"),
            "{text}"
        );
    }

    #[test]
    fn principals_are_uri_names_or_digests() {
        let with_name = certificate(vec![rcgen::SanType::URI("spiffe://example.org/ci".try_into().expect("ASCII"))]);
        assert_eq!(principal(with_name.as_bytes()).as_deref(), Some("spiffe://example.org/ci"));
        let without = principal(certificate(Vec::new()).as_bytes()).expect("a certificate");
        assert!(without.starts_with("x509:sha256:") && without.len() == 12 + 64, "{without}");
        assert_eq!(principal(b"no certificate"), None);
    }

    fn certificate(names: Vec<rcgen::SanType>) -> String {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::default();
        params.subject_alt_names = names;
        params.self_signed(&key).expect("a certificate").pem()
    }
}
