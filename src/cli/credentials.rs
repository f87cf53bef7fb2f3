//! What TLS stands on: the files that `[server]` names, read at the start, and read again when they change or a signal
//! says so. All of them are in force, or none: a set that is not right changes nothing.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{compose::failure, failure::Failure};
use crate::{
    config::{self, files},
    grpc::{
        Gate,
        tls::{self, Credentials, Material, TlsError},
        trust::{AuthorityMaterial, Trust},
    },
    model::{Clock, SystemClock, Timestamp},
    observe::{
        metrics::{CERTIFICATE_ENDS, CRL_ENDS, RELOADS, TLS_CURRENT},
        readiness::{Board, TlsStanding},
    },
};

/// The content of a file.
type Pem = Zeroizing<Vec<u8>>;

/// The content of all files.
struct Content {
    certificate: Pem,
    key: Pem,
    /// Of the Azure face, where it has its own.
    web: Option<(Pem, Pem)>,
    authorities: Vec<AuthorityMaterial>,
}

impl Content {
    fn read(server: &config::Server) -> anyhow::Result<Self> {
        let read = |path: &Path| files::read(path).map_err(|error| failure("TLS cannot be set up", &error));
        let web = match &server.azure_pair {
            Some((certificate, key)) => Some((read(certificate)?, read(key)?)),
            None => None,
        };
        let (certificate, key) = (read(&server.certificate)?, read(&server.key)?);
        Ok(Self { certificate, key, web, authorities: authorities(server)? })
    }

    fn credentials(&self, server: &config::Server, now: Timestamp) -> anyhow::Result<Credentials> {
        let Self { certificate, key, web, authorities } = self;
        let web = web.as_ref().map(|(certificate, key)| (certificate.as_slice(), key.as_slice()));
        let made = tls::server(&Material { certificate, key, web, authorities, now });
        Ok(made.map_err(|error| unfit(server, &error))?)
    }

    /// What tells it from any other content.
    fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        let mut part = |bytes: &[u8]| {
            digest.update((bytes.len() as u64).to_be_bytes());
            digest.update(bytes);
        };
        part(&self.certificate);
        part(&self.key);
        if let Some((certificate, key)) = &self.web {
            part(certificate);
            part(key);
        }
        for authority in &self.authorities {
            part(&authority.certificates);
            authority.crls.iter().for_each(|list| part(list));
        }
        digest.finalize().into()
    }
}

fn authorities(server: &config::Server) -> anyhow::Result<Vec<AuthorityMaterial>> {
    let cannot = |error: files::ReadError| failure("TLS cannot be set up", &error);
    let mut authorities = Vec::with_capacity(server.authorities.len());
    for authority in &server.authorities {
        let crls = authority.crls.iter().map(|path| files::read_crl(path)).collect::<Result<_, _>>();
        authorities.push(AuthorityMaterial {
            name: authority.name.clone(),
            certificates: files::read(&authority.file).map_err(cannot)?.to_vec(),
            crls: crls.map_err(cannot)?,
            expired_crl: authority.expired_crl,
            naming: authority.naming.clone(),
        });
    }
    Ok(authorities)
}

fn unfit(server: &config::Server, error: &TlsError) -> Failure {
    let mut shown = failure("TLS cannot be set up", error)
        .detail(format!("server.certificate = {}", server.certificate.display()))
        .detail(format!("server.key = {}", server.key.display()));
    if let Some((certificate, key)) = &server.azure_pair {
        shown = shown.detail(format!("azure.certificate = {}", certificate.display()));
        shown = shown.detail(format!("azure.key = {}", key.display()));
    }
    for authority in &server.authorities {
        shown = shown.detail(format!("server.client_ca {:?} = {}", authority.name, authority.file.display()));
    }
    shown
}

/// What was read, and what tells it from what is read later.
pub(super) struct Loaded {
    pub(super) credentials: Credentials,
    digest: [u8; 32],
}

/// Reads the files that are named.
pub(super) fn read(server: &config::Server) -> anyhow::Result<Loaded> {
    let content = Content::read(server)?;
    Ok(Loaded { credentials: content.credentials(server, SystemClock.now())?, digest: content.digest() })
}

/// Reads the authorities alone.
pub(super) fn trust(server: &config::Server) -> anyhow::Result<Trust> {
    let trust = Trust::new(&authorities(server)?, SystemClock.now());
    Ok(trust.map_err(|error| unfit(server, &error))?)
}

/// Why the files are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    /// Time has passed.
    Tick,
    /// Somebody says that they have changed.
    Signal,
}

/// Reads the files again when they change.
pub(super) struct Keeper {
    server: config::Server,
    gate: Arc<Gate>,
    board: Board,
    seen: Mutex<Seen>,
}

/// What was seen last.
#[derive(Default)]
struct Seen {
    stamps: Vec<Option<Stamp>>,
    digest: Option<[u8; 32]>,
    /// Why it was not taken.
    refused: Option<String>,
    /// When it was looked last whether those inside are covered.
    rechecked: Option<Timestamp>,
}

/// What changes when a file does: device, inode, length, and when content and inode were changed, to the nanosecond.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

/// How often it is looked whether those inside are covered still, though no file has changed: a list may be past its next
/// update, or a certificate between have expired.
const RECHECK_EVERY_S: i64 = 60;

impl Keeper {
    /// With a gate that has in force what was loaded, a while ago perhaps: the first look compares.
    pub(super) fn new(server: config::Server, loaded: Loaded, clock: Arc<dyn Clock>, board: Board) -> Self {
        let Loaded { credentials, digest } = loaded;
        let seen = Seen { digest: Some(digest), ..Seen::default() };
        let keeper = Self { server, gate: Gate::new(credentials, clock), board, seen: Mutex::new(seen) };
        keeper.show(None);
        keeper
    }

    /// What is kept.
    pub(super) const fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Looks at the files, and takes them if they have changed and are right. Blocks its thread.
    pub(super) fn look(&self, occasion: Occasion) {
        let now = SystemClock.now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Before they are read: what changes meanwhile is seen next time.
        let stamps = stamps(&self.server);
        let lapsed = self.gate.credentials().trust.lapses().is_some_and(|lapses| lapses <= now);
        if occasion == Occasion::Signal || lapsed || stamps != seen.stamps {
            seen.stamps = stamps;
            self.reload(&mut seen, occasion, lapsed, now);
            self.show(seen.refused.clone());
        } else if seen.rechecked.is_none_or(|last| now.0 - last.0 >= RECHECK_EVERY_S || now < last) {
            seen.rechecked = Some(now);
            ended(self.gate.recheck());
        }
    }

    fn reload(&self, seen: &mut Seen, occasion: Occasion, lapsed: bool, now: Timestamp) {
        let content = Content::read(&self.server);
        let digest = content.as_ref().ok().map(Content::digest);
        // Touched, or read already; what could not be read is tried again.
        if occasion == Occasion::Tick && !lapsed && digest.is_some() && digest == seen.digest {
            return;
        }
        let made = content.and_then(|content| content.credentials(&self.server, now)).and_then(|credentials| {
            if credentials.ends <= now {
                return Err(
                    Failure::new(format!("the server's certificate has expired at {}", credentials.ends)).into()
                );
            }
            Ok(credentials)
        });
        seen.digest = digest;
        match made {
            Ok(credentials) => {
                let (ends, crl_ends) = (credentials.ends, credentials.trust.crl_ends());
                seen.refused = None;
                seen.rechecked = Some(now);
                ended(self.gate.replace(credentials));
                metrics::counter!(RELOADS, "outcome" => "ok").increment(1);
                let crl_ends = crl_ends.map(|ends| ends.to_string());
                tracing::info!(%ends, crl_ends, "certificates, keys and revocation lists were read anew and are in force");
            }
            Err(error) => {
                let why = format!("{error:#}").replace('\n', "; ");
                metrics::counter!(RELOADS, "outcome" => "refused").increment(1);
                tracing::error!(
                    why,
                    "certificates, keys and revocation lists have changed and are not right: nothing of them is taken, what was in force stays"
                );
                seen.refused = Some(why);
            }
        }
    }

    /// Shows what is in force.
    fn show(&self, refused: Option<String>) {
        let credentials = self.gate.credentials();
        let crl_ends = credentials.trust.crl_ends();
        metrics::gauge!(TLS_CURRENT).set(if refused.is_none() { 1.0 } else { 0.0 });
        metrics::gauge!(CERTIFICATE_ENDS).set(credentials.ends.0 as f64);
        if let Some(ends) = crl_ends {
            metrics::gauge!(CRL_ENDS).set(ends.0 as f64);
        }
        self.board.put_tls(TlsStanding {
            certificate_expires: credentials.ends.to_string(),
            crl_expires: crl_ends.map(|ends| ends.to_string()),
            files_in_force: refused.is_none(),
            refused,
        });
    }
}

fn ended(count: usize) {
    if count > 0 {
        tracing::warn!(connections = count, "certificates are covered no more: their connections end");
    }
}

fn stamps(server: &config::Server) -> Vec<Option<Stamp>> {
    let authorities = server.authorities.iter();
    let of_authorities = authorities.flat_map(|authority| std::iter::once(&authority.file).chain(&authority.crls));
    let of_azure = server.azure_pair.iter().flat_map(|(certificate, key)| [certificate, key]);
    let all = [&server.certificate, &server.key].into_iter().chain(of_azure).chain(of_authorities);
    all.map(|path| {
        let about = fs::metadata(path).ok()?;
        let (content, inode) = ((about.mtime(), about.mtime_nsec()), (about.ctime(), about.ctime_nsec()));
        Some((about.dev(), about.ino(), about.len(), content, inode))
    })
    .collect()
}

#[cfg(test)]
mod tests;
