//! `[[audit.exporters]]`: where the audit log is sent.

use std::time::Duration;

use http::Uri;

use super::reader::Section;
use crate::{
    export::{Exporter, Facility, Form, Start, SyslogTo, Target},
    outbound::Channel,
};

/// More would only be one mistake.
const EXPORTERS_MAX: usize = 16;
/// A bundle of the log, of which one delivery is made.
const RECORDS_MAX: u64 = 256;

pub(super) fn exporters(audit: &mut Section) -> Vec<Exporter> {
    let sections = audit.tables("exporters");
    if sections.len() > EXPORTERS_MAX {
        audit.fault("exporters", format!("there are more than {EXPORTERS_MAX}"));
    }
    let mut exporters: Vec<Exporter> = Vec::with_capacity(sections.len());
    for mut section in sections {
        let name = name(&mut section, &exporters);
        let target = target(&mut section);
        let exporter = Exporter {
            name,
            start: section.word("start", Start::Now, &[("now", Start::Now), ("beginning", Start::Beginning)]),
            records_max: section.count("records_max", 100, 1..=RECORDS_MAX),
            within: section.milliseconds("within_ms", Duration::from_secs(10), 100..=600_000),
            // A fault was noted, and nothing of this is used.
            target: target.unwrap_or(Target::File { path: "/dev/null".into(), form: Form::Strongroom }),
        };
        section.finish();
        exporters.push(exporter);
    }
    exporters
}

fn name(section: &mut Section, others: &[Exporter]) -> String {
    let name = section.required_text("name");
    if !name.is_empty() && !Exporter::is_name(&name) {
        section.fault("name", format!("{name:?} is not 1 to 64 of a-z, 0-9 and -"));
    }
    if others.iter().any(|other| other.name == name) {
        section.fault("name", format!("{name:?} is there twice: a cursor belongs to one exporter"));
    }
    name
}

fn target(section: &mut Section) -> Option<Target> {
    let kind = section.required_text("kind");
    match kind.as_str() {
        "file" => Some(Target::File { path: section.required_path("path"), form: form(section) }),
        "syslog" => {
            let (to, form) = (syslog(section), form(section));
            let facility = section.word("facility", Facility::Authpriv, Facility::NAMES);
            Some(Target::Syslog { to: to?, facility, form })
        }
        "webhook" => {
            let (receiver, form) = (receiver(section, "url"), form(section));
            let signature_key_file = section.path("signature_key_file");
            receiver.map(|(url, channel)| Target::Webhook { url, channel, signature_key_file, form })
        }
        "otlp" => receiver(section, "url").map(|(url, channel)| Target::Otlp { url, channel }),
        _ => {
            if !kind.is_empty() {
                section.fault("kind", format!("{kind:?} is none of file, syslog, webhook, otlp"));
            }
            // Which keys belong here is not known.
            section.values();
            None
        }
    }
}

fn form(section: &mut Section) -> Form {
    section.word("format", Form::Strongroom, &[("strongroom", Form::Strongroom), ("azure", Form::Azure)])
}

fn syslog(section: &mut Section) -> Option<SyslogTo> {
    let text = section.text("to").unwrap_or_else(|| "unix:/dev/log".to_owned());
    let is_address = |text: &str| {
        text.rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
    };
    match text.split_once(':') {
        Some(("unix", path)) if path.starts_with('/') => Some(SyslogTo::Unix(path.into())),
        Some(("udp", address)) if is_address(address) => Some(SyslogTo::Udp(address.to_owned())),
        Some(("tcp", address)) if is_address(address) => Some(SyslogTo::Tcp(address.to_owned())),
        _ => {
            section.fault("to", format!("{text:?} is none of unix:/PATH, udp:HOST:PORT, tcp:HOST:PORT"));
            None
        }
    }
}

/// Who is posted to, by the URL of that key, and how.
pub(super) fn receiver(section: &mut Section, key: &str) -> Option<(Uri, Channel)> {
    let channel = Channel {
        ca: section.path("ca"),
        plain_loopback: section.switch("allow_http_loopback", false),
        token_file: section.path("token_file"),
        public_and: None,
    };
    let text = section.required_text(key);
    match text.parse::<Uri>() {
        Ok(url) if channel.allows(&url) => Some((url, channel)),
        _ if text.is_empty() => None,
        _ => {
            section.fault(key, "is not an https:// URL (http:// on loopback: allow_http_loopback = true)");
            None
        }
    }
}
