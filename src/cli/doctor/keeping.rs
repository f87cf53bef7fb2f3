//! What is kept: certificates, store, audit log.

use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Checks, compose, failure};
use crate::{
    audit::{self, Against, OpenError, Verified, tlog::VerifierKey},
    cli::{
        credentials::{self, Loaded},
        failure::Failure,
    },
    config::{Config, files},
    export::Cursor,
    grpc::tls,
    model::{Clock as _, InstanceRow, SystemClock, Timestamp, time::DAY_S},
    service::{checkpoints, replicas::log_name},
};

/// A certificate with less than this left is worth a note.
const NOTE_DAYS: i64 = 30;

/// Whether TLS can be set up, and for how long.
pub(super) fn tls(checks: &mut Checks, config: &Config) {
    let made = credentials::read(&config.server).map_err(|error| Failure::new(error.to_string()));
    let fits = |_: &Loaded| "certificate, key and client authorities fit".to_owned();
    let Some(Loaded { credentials, .. }) = checks.of("TLS", made, fits) else { return };
    if let Some(ends) = credentials.trust.crl_ends() {
        let what = "revocation lists";
        match ends.0 - SystemClock.now().0 {
            ..=0 => checks.wrong(what, format!("one is past its next update, {ends}")),
            _ => checks.ok(what, format!("the next update is due at {ends}")),
        }
    }
    let certificates = files::read(&config.server.certificate).ok().and_then(|pem| tls::certificates(&pem));
    for certificate in certificates.iter().flatten() {
        let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { continue };
        let ends = Timestamp(parsed.validity().not_after.timestamp());
        let (what, left) = ("server certificate", ends.0 - SystemClock.now().0);
        if left <= 0 {
            checks.wrong(what, format!("{} expired at {ends}", parsed.subject()));
        } else if left < NOTE_DAYS * DAY_S {
            checks.note(what, format!("{} ends at {ends}: renew it", parsed.subject()));
        } else {
            checks.ok(what, format!("{} until {ends}", parsed.subject()));
        }
    }
}

/// Whether the store opens, and whose it is: the instance, and the name of this replica's log. A store that is not there
/// is not made.
pub(super) async fn store(checks: &mut Checks, config: &Config) -> Option<(InstanceRow, String)> {
    match compose::is_made(&config.store).await {
        Ok(true) => {}
        Ok(false) => {
            checks.wrong("store", format!("{} is not there: `strongroom init` makes it", config.store));
            return None;
        }
        Err(error) => {
            checks.wrong("store", format!("{error:#}").replace('\n', "; "));
            return None;
        }
    }
    let opened = compose::store(&config.store).await.map_err(|error| Failure::new(error.to_string()));
    let store = checks.of("store", opened, |_| format!("{} opens, its schema is known", config.store))?;
    let (found, seat) = (compose::instance(&store).await, compose::seat(config, &store).await);
    store.close().await;
    let seat =
        checks.of("replicas", seat.map_err(|error| Failure::new(error.to_string())), |seat| match &seat.row {
            Some(_) => format!("{} is number {}", seat.name, seat.ordinal.get()),
            None => format!("{} has not served yet", seat.name),
        })?;
    match found {
        Ok(Some(instance)) => {
            checks.ok("instance", base16ct::lower::encode_string(&instance.id));
            if instance.development {
                checks.wrong("instance", "made by `strongroom dev`: `serve` refuses it");
            }
            if instance.escrow.is_empty() {
                checks.note("recovery keys", "none: when the token is lost, so is every key");
            } else {
                checks.ok("recovery keys", instance.escrow.len().to_string());
            }
            let log = log_name(&instance, &seat);
            Some((instance, log))
        }
        Ok(None) => {
            checks.wrong("instance", "none: `strongroom init` makes one");
            None
        }
        Err(error) => {
            checks.wrong("instance", error.to_string());
            None
        }
    }
}

fn log_keys(instance: &InstanceRow, log: &str) -> Result<Vec<VerifierKey>, Failure> {
    checkpoints::keys(instance, log).map_err(|error| failure("the store does not have it", &error))
}

/// Whether the log is what was written, from its first record to its last.
pub(super) async fn log(checks: &mut Checks, config: &Config, instance: Option<&(InstanceRow, String)>) {
    let dir = config.audit.dir.clone();
    let shown = |keys: &Vec<VerifierKey>| keys.first().map(ToString::to_string).unwrap_or_default();
    let keys = instance.and_then(|(row, log)| checks.of("audit log key", log_keys(row, log), shown));
    let against = Against { keys: keys.unwrap_or_default(), ..Against::default() };
    let verified = match tokio::task::spawn_blocking(move || audit::verify(&dir, &against)).await {
        Ok(Ok(verified)) => verified,
        Ok(Err(OpenError::Missing(dir))) if instance.is_none() => {
            return checks.note("audit log", format!("none in {}: `strongroom init` begins it", dir.display()));
        }
        Ok(Err(error)) => return checks.wrong("audit log", failure("it cannot be verified", &error).to_string()),
        Err(error) => return checks.wrong("audit log", error.to_string()),
    };
    let Verified { records, first, signed, .. } = verified;
    let pruned = if first > 0 { format!(", the first {first} pruned") } else { String::new() };
    checks.ok("audit log", format!("{records} records, {signed} of them under a signed checkpoint{pruned}"));
    if instance.is_some_and(|(row, _)| base16ct::lower::encode_string(&row.id) != verified.instance) {
        checks.wrong("audit log", format!("it belongs to instance {}, the store to another", verified.instance));
    }
    if !verified.open.is_empty() {
        let found = format!("{} open: changes under way, or a crash that the next start settles", verified.open.len());
        checks.note("audit log intents", found);
    }
    if verified.torn.is_some() {
        checks.note(
            "audit log end",
            "a record is not whole: it is being written, or a crash that the next start cuts off",
        );
    }
}

/// Where the log is sent, and how far that has got. Receivers are not asked: what they are sent is recorded by them.
pub(super) fn exporters(checks: &mut Checks, config: &Config) {
    for exporter in &config.audit.exporters {
        let (what, where_to) = (format!("audit exporter {}", exporter.name), exporter.describe());
        match Cursor::look(&config.audit.dir, &exporter.name) {
            Ok(Some(next)) => checks.ok(&what, format!("{where_to}: {next} records are delivered or passed over")),
            Ok(None) => checks.ok(&what, format!("{where_to}: not begun")),
            Err(error) => checks.wrong(&what, failure("it cannot go on", &error).to_string()),
        }
    }
}
