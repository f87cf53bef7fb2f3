//! Whether what a configuration names is there, and closed to those it should be closed to.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use super::{Config, Fault, StoreChoice};
use crate::{
    bearer::{KeySource, Trust, fetch::FetchError},
    export::Target,
    outbound::Channel,
    store::postgres::Tls,
};

/// What is wrong with the files and folders that a configuration names. Nothing is changed, and only what issuers of
/// tokens are believed by is opened: it is read in the background later, where a fault would be seen by nobody.
#[must_use]
pub fn faults_on_disk(config: &Config) -> Vec<Fault> {
    let mut faults = Faults::default();
    faults.file("server.certificate", &config.server.certificate, 0);
    // Group may read: secret mounts of orchestrators are often like that. Others may not.
    faults.file("server.key", &config.server.key, 0o007);
    for authority in &config.server.authorities {
        // Who can write to it decides who is let in.
        faults.file("server.client_ca", &authority.file, 0o002);
        for list in &authority.crls {
            faults.file("server.crl", list, 0o002);
        }
    }
    if let Some((certificate, key)) = &config.server.azure_pair {
        faults.file("azure.certificate", certificate, 0);
        faults.file("azure.key", key, 0o007);
    }
    if let Some(identity) = config.azure.as_ref().and_then(|azure| azure.identity.as_ref()) {
        // Who reads it gets tokens.
        faults.file("azure.identity.header_file", &identity.header_file, 0o007);
    }
    if let Some(unix) = &config.server.unix {
        faults.folder("server.unix.path", unix.path.parent().unwrap_or(Path::new("/")));
    }
    for (at, trust) in config.oidc.iter().enumerate() {
        faults.issuer(&format!("oidc[{at}]"), trust);
    }
    faults.file("hsm.module", &config.hsm.module, 0o002);
    faults.file("hsm.pin_file", &config.hsm.pin_file, 0o077);
    faults.made_by_init("hsm.state_dir", Some(&config.hsm.state_dir));
    for folder in &config.hsm.sync_dirs {
        faults.folder("hsm.sync_dirs", folder);
    }
    faults.store(&config.store);
    faults.made_by_init("audit.dir", config.audit.dir.parent());
    for (at, exporter) in config.audit.exporters.iter().enumerate() {
        faults.exporter(&format!("audit.exporters[{at}]"), &exporter.target);
    }
    for (at, webhook) in config.webhooks.iter().enumerate() {
        let section = format!("webhooks[{at}]");
        // Who reads it can sign what the receiver believes.
        faults.file(&format!("{section}.signature_key_file"), &webhook.signature_key_file, 0o007);
        faults.channel(&section, &webhook.channel);
    }
    if let Some(backup) = &config.backup {
        faults.private_folder("backup.dir", &backup.dir);
    }
    if let Some(tracing) = &config.tracing {
        faults.channel("tracing", &tracing.channel);
    }
    faults.0
}

#[derive(Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, key: &str, why: String) {
        self.0.push(Fault { key: key.to_owned(), why });
    }

    fn file(&mut self, key: &str, path: &Path, forbidden: u32) {
        match fs::metadata(path) {
            Err(error) => self.add(key, format!("{} cannot be read: {error}", path.display())),
            Ok(about) if about.is_dir() => self.add(key, format!("{} is a folder, not a file", path.display())),
            Ok(about) if about.mode() & forbidden != 0 => {
                let mode = about.mode() & 0o777;
                self.add(key, format!("{} has mode {mode:03o}: take away {forbidden:03o} (chmod)", path.display()));
            }
            Ok(_) => {}
        }
    }

    fn store(&mut self, store: &StoreChoice) {
        let settings = match store {
            StoreChoice::Sqlite(path) => return self.made_by_init("store.sqlite", path.parent()),
            StoreChoice::Postgres(settings) => settings,
        };
        if let Some(path) = &settings.password_file {
            self.file("store.postgres.password_file", path, 0o077);
        }
        if let Tls::Verified { ca, client } = &settings.tls {
            // Who can write to it decides which server is believed.
            self.file("store.postgres.ca", ca, 0o002);
            if let Some((certificate, key)) = client {
                self.file("store.postgres.client_certificate", certificate, 0);
                self.file("store.postgres.client_key", key, 0o007);
            }
        }
    }

    fn issuer(&mut self, section: &str, trust: &Trust) {
        if let Some(path) = &trust.channel.ca {
            self.believed_by(&format!("{section}.ca"), path, || trust.check_ca());
        }
        if let KeySource::File(path) = &trust.keys {
            self.believed_by(&format!("{section}.jwks_file"), path, || trust.check_key_file());
        }
        if let Some(path) = &trust.channel.token_file {
            self.file(&format!("{section}.fetch_token_file"), path, 0);
        }
    }

    fn exporter(&mut self, section: &str, target: &Target) {
        let channel = match target {
            Target::File { path, .. } => {
                return self.folder(&format!("{section}.path"), path.parent().unwrap_or(Path::new("/")));
            }
            Target::Syslog { .. } => return,
            Target::Webhook { channel, signature_key_file, .. } => {
                if let Some(path) = signature_key_file {
                    // Who reads it can sign what the receiver believes.
                    self.file(&format!("{section}.signature_key_file"), path, 0o007);
                }
                channel
            }
            Target::Otlp { channel, .. } => channel,
        };
        self.channel(section, channel);
    }

    fn channel(&mut self, section: &str, channel: &Channel) {
        if let Some(path) = &channel.ca {
            self.believed_by(&format!("{section}.ca"), path, || Ok(channel.check_ca()?));
        }
        if let Some(path) = &channel.token_file {
            self.file(&format!("{section}.token_file"), path, 0o007);
        }
    }

    /// A file that decides whose tokens are believed, and whether it can be used.
    fn believed_by(&mut self, key: &str, path: &Path, check: impl FnOnce() -> Result<(), FetchError>) {
        let before = self.0.len();
        self.file(key, path, 0o002);
        if self.0.len() == before
            && let Err(error) = check()
        {
            self.add(key, format!("{} cannot be used: {error}", path.display()));
        }
    }

    fn folder(&mut self, key: &str, path: &Path) {
        match fs::metadata(path) {
            Err(error) => self.add(key, format!("{} cannot be read: {error}", path.display())),
            Ok(about) if !about.is_dir() => self.add(key, format!("{} is not a folder", path.display())),
            Ok(about) if about.mode() & 0o022 != 0 => {
                self.add(key, format!("others can write to {}: chmod go-w", path.display()));
            }
            Ok(_) => {}
        }
    }

    /// A folder that is its owner's only.
    fn private_folder(&mut self, key: &str, path: &Path) {
        self.folder(key, path);
        if let Ok(about) = fs::metadata(path)
            && about.is_dir()
            && about.mode() & 0o022 == 0
            && about.mode() & 0o055 != 0
        {
            self.add(key, format!("others can look into {}: chmod go-rx", path.display()));
        }
    }

    /// A folder that `init` makes: it may be missing.
    fn made_by_init(&mut self, key: &str, path: Option<&Path>) {
        match path {
            Some(path) if path.try_exists().unwrap_or(true) => self.folder(key, path),
            _ => {}
        }
    }
}
