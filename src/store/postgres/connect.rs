//! Connecting to the primary: each server is asked in turn until one takes changes.

use std::time::Duration;

use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection, Row as _,
    postgres::{PgConnectOptions, PgSslMode},
};
use zeroize::Zeroizing;

use super::{
    error,
    settings::{Host, Settings, Tls},
};
use crate::config::files;

/// How long a server may take to answer, TLS and log-in included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Prepared statements that a connection keeps: all of ours.
const STATEMENTS_MAX: usize = 128;
/// PostgreSQL 13 is the first with `pg_current_xact_id`, by which changes are heard of.
const VERSION_MIN: i32 = 130_000;

/// What every session is set to, whatever the server's own defaults are.
const SESSION: [(&str, &str); 9] = [
    // A change that was acknowledged is on the disk; where `synchronous_standby_names` names standbys, on theirs too.
    ("synchronous_commit", "on"),
    // The server gives up a little before this client does (`connections::STATEMENT_TIMEOUT`).
    ("statement_timeout", "4s"),
    ("lock_timeout", "3s"),
    ("idle_in_transaction_session_timeout", "10s"),
    // A client that vanished holds its locks no longer than this.
    ("tcp_keepalives_idle", "5"),
    ("tcp_keepalives_interval", "2"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "10s"),
    ("default_transaction_isolation", "read committed"),
];

/// Why a server is of no use.
#[derive(Debug, thiserror::Error)]
enum Useless {
    #[error("is a standby (read-only)")]
    Standby,
    #[error("is set read-only (default_transaction_read_only)")]
    ReadOnly,
    #[error("is older than PostgreSQL 13")]
    Old,
    #[error("did not answer within 2 seconds")]
    Silent,
    #[error("has no right answer: {0}")]
    Failed(String),
    #[error("{0}")]
    File(String),
}

/// No server takes changes.
#[derive(Debug, thiserror::Error)]
#[error("no server takes changes: {0}")]
struct NoPrimary(String);

/// Connects to the primary, asking servers in turn from the one with that number on; says which it was.
pub(super) async fn primary(settings: &Settings, from: usize) -> Result<(usize, PgConnection), sqlx::Error> {
    let mut refusals = Vec::new();
    for at in (from..settings.hosts.len()).chain(0..from.min(settings.hosts.len())) {
        let host = &settings.hosts[at];
        match tokio::time::timeout(CONNECT_TIMEOUT, connect(settings, host)).await {
            Ok(Ok(connection)) => return Ok((at, connection)),
            Ok(Err(useless)) => refusals.push(format!("{host} {useless}")),
            Err(_) => refusals.push(format!("{host} {}", Useless::Silent)),
        }
    }
    Err(std::io::Error::other(NoPrimary(refusals.join("; "))).into())
}

/// Whether no server takes changes.
pub(super) fn is_no_primary(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<NoPrimary>()))
}

async fn connect(settings: &Settings, host: &Host) -> Result<PgConnection, Useless> {
    let mut connection = options(settings, host)?.connect().await.map_err(failed)?;
    let query = "SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on', \
        current_setting('server_version_num')::integer";
    let row = sqlx::query(query).persistent(false).fetch_one(&mut connection).await.map_err(failed)?;
    let read = |at| row.try_get::<bool, _>(at).map_err(failed);
    let useless = if row.try_get::<i32, _>(2).map_err(failed)? < VERSION_MIN {
        Some(Useless::Old)
    } else if read(0)? {
        Some(Useless::Standby)
    } else if read(1)? {
        Some(Useless::ReadOnly)
    } else {
        None
    };
    match useless {
        None => Ok(connection),
        Some(useless) => {
            // Whether it hears us out makes no difference.
            let _ = connection.close().await;
            Err(useless)
        }
    }
}

/// How that server is connected to. Whatever libpq's environment says is overruled.
pub(super) fn options_of(settings: &Settings, at: usize) -> Result<PgConnectOptions, sqlx::Error> {
    options(settings, &settings.hosts[at]).map_err(|useless| std::io::Error::other(useless).into())
}

fn options(settings: &Settings, host: &Host) -> Result<PgConnectOptions, Useless> {
    let file = |path| files::read(path).map_err(|error| Useless::File(format!("was not asked: {error}")));
    let mut options = PgConnectOptions::new_without_pgpass()
        .username(&settings.user)
        .database(&settings.database)
        .application_name("strongroom")
        .statement_cache_capacity(STATEMENTS_MAX)
        // Temporary tables come last: nobody puts one in the place of ours.
        .options([("search_path", format!("{},pg_temp", settings.schema.as_str()))])
        .options(SESSION)
        .disable_statement_logging();
    options = match host {
        Host::Tcp { name, port } => options.host(name).port(*port),
        Host::Socket { folder, port } => options.socket(folder).port(*port),
    };
    let password = match &settings.password_file {
        Some(path) => line(&file(path)?)?,
        None => Zeroizing::new(String::new()),
    };
    options = options.password(&password);
    match (&settings.tls, host) {
        (Tls::Verified { ca, client }, Host::Tcp { .. }) => {
            options = options.ssl_mode(PgSslMode::VerifyFull).ssl_root_cert_from_pem(file(ca)?.to_vec());
            if let Some((certificate, key)) = client {
                options = options.ssl_client_cert_from_pem(&*file(certificate)?).ssl_client_key_from_pem(&*file(key)?);
            }
        }
        // PostgreSQL has no TLS on sockets.
        (Tls::Off, _) | (_, Host::Socket { .. }) => options = options.ssl_mode(PgSslMode::Disable),
    }
    Ok(options)
}

/// The one line of a password file, without its end.
fn line(bytes: &[u8]) -> Result<Zeroizing<String>, Useless> {
    let text = std::str::from_utf8(bytes).ok().map(|text| text.strip_suffix('\n').unwrap_or(text));
    match text.filter(|text| !text.is_empty() && !text.contains(['\n', '\r', '\0'])) {
        Some(text) => Ok(Zeroizing::new(text.to_owned())),
        None => Err(Useless::File("was not asked: the password file is not one line of text".to_owned())),
    }
}

fn failed(error: sqlx::Error) -> Useless {
    Useless::Failed(error::said(&error))
}
