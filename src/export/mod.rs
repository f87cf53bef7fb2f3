//! Sends the audit log elsewhere, record by record, behind the back of whoever is served.
//!
//! An exporter follows the log by what can be read of it, from a cursor of its own that is on the disk. So it holds
//! nothing up: a receiver that hangs, refuses or is gone leaves the exporter behind, and the log is where the records
//! wait. Each is delivered at least once, in order; after a crash the last ones may come twice: the index says so.
//!
//! ```text
//! log (tiles) -> source -> shape: text of each record -> file | syslog | webhook | otlp -> cursor
//! ```
//!
//! Memory is bounded by one bundle of the log and one batch; every delivery has an end.

mod azure;
pub(crate) mod backoff;
mod cursor;
pub(crate) mod error;
mod file;
mod follow;
pub(crate) mod http;
pub(crate) mod otlp;
mod shape;
pub(crate) mod signing;
mod sink;
mod source;
mod syslog;
#[cfg(test)]
mod tests;

use std::{path::PathBuf, time::Duration};

use ::http::Uri;

pub use cursor::{Cursor, CursorError};
pub use follow::run;
pub use shape::Form;
pub use source::Source;
pub use syslog::{Facility, SyslogTo};

use crate::outbound::Channel;

/// One place that records are sent to.
#[derive(Clone, Debug)]
pub struct Exporter {
    /// Its name, `[a-z0-9-]`, 1 to 64 characters: of its cursor and in metrics.
    pub name: String,
    /// Where to.
    pub target: Target,
    /// Where it begins when it has no cursor yet.
    pub start: Start,
    /// At most so many records in one delivery.
    pub records_max: usize,
    /// How long one delivery may take.
    pub within: Duration,
}

/// Where an exporter begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the next record.
    Now,
    /// With the oldest record that is there.
    Beginning,
}

/// Where records are sent, and how they look there.
#[derive(Clone, Debug)]
pub enum Target {
    /// Lines of a file. It is opened anew when it was moved away.
    File {
        /// The file.
        path: PathBuf,
        /// What a line holds.
        form: Form,
    },
    /// Messages of RFC 5424.
    Syslog {
        /// To whom.
        to: SyslogTo,
        /// As which facility.
        facility: Facility,
        /// What a message holds.
        form: Form,
    },
    /// A JSON array, posted.
    Webhook {
        /// Where to.
        url: Uri,
        /// How it is reached.
        channel: Channel,
        /// The file with the secret that bodies are signed with (Standard Webhooks).
        signature_key_file: Option<PathBuf>,
        /// What a member of the array is.
        form: Form,
    },
    /// OpenTelemetry logs: OTLP/HTTP in its JSON encoding.
    Otlp {
        /// Where to, for example `https://collector.example:4318/v1/logs`.
        url: Uri,
        /// How it is reached.
        channel: Channel,
    },
}

impl Exporter {
    /// Whether a name is one.
    #[must_use]
    pub fn is_name(name: &str) -> bool {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=64).contains(&name.len()) && name.bytes().all(plain)
    }

    /// Where it sends, in words, for whoever may read the configuration.
    #[must_use]
    pub fn describe(&self) -> String {
        self.described(ToString::to_string)
    }

    /// The same for the log: of a URL only its host.
    fn describe_for_log(&self) -> String {
        self.described(error::host)
    }

    fn described(&self, place: impl Fn(&Uri) -> String) -> String {
        match &self.target {
            Target::File { path, form } => format!("{} to the file {}", form.name(), path.display()),
            Target::Syslog { to, facility, form } => format!("{} to syslog {to} as {}", form.name(), facility.name()),
            Target::Webhook { url, form, .. } => format!("{} to {}", form.name(), place(url)),
            Target::Otlp { url, .. } => format!("OpenTelemetry logs to {}", place(url)),
        }
    }
}
