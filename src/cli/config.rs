//! `strongroom config check`: whether a configuration is right, and what was understood.

use std::process::ExitCode;

use serde::Serialize;

use super::{
    compose,
    operate::ConfigCheckArgs,
    output::{self, Format, Rows},
};
use crate::{
    bearer::{KeySource, Rules, Trust},
    config::{Authority, Config},
    export::{Exporter, Start},
    model::naming::{NameSource, Naming},
    observe::trace::Tracing,
};

/// What a configuration says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConfigView {
    pub(super) listen: String,
    pub(super) authorities: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unix_socket: Option<String>,
    pub(super) trusted_proxies: Vec<String>,
    pub(super) issuers: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) azure_listen: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) identity_listen: Option<String>,
    pub(super) metrics_listen: String,
    pub(super) module: String,
    pub(super) token: String,
    pub(super) store: String,
    pub(super) audit_dir: String,
    pub(super) exporters: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) traces: Option<String>,
    pub(super) state_dir: String,
    pub(super) lanes: Vec<LaneView>,
}

/// One lane.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LaneView {
    pub(super) lane: &'static str,
    pub(super) workers: usize,
    pub(super) queue_max: usize,
    pub(super) hang_ms: u64,
}

impl From<&Config> for ConfigView {
    fn from(config: &Config) -> Self {
        let lanes = config.hsm.lanes.iter().map(|(lane, limits)| LaneView {
            lane: lane.name(),
            workers: limits.workers,
            queue_max: limits.queue_max,
            hang_ms: u64::try_from(limits.hang.as_millis()).unwrap_or(u64::MAX),
        });
        let azure = config.azure.as_ref();
        Self {
            listen: config.server.listen.to_string(),
            authorities: config.server.authorities.iter().map(authority).collect(),
            unix_socket: config.server.unix.as_ref().map(|unix| unix.path.display().to_string()),
            trusted_proxies: config.server.trusted_proxies.iter().map(ToString::to_string).collect(),
            issuers: config.oidc.iter().map(issuer).collect(),
            azure_listen: azure.map(|azure| azure.listen.to_string()),
            identity_listen: azure
                .and_then(|azure| azure.identity.as_ref())
                .map(|identity| identity.listen.to_string()),
            metrics_listen: config.metrics.listen.to_string(),
            module: config.hsm.module.display().to_string(),
            token: config.hsm.token.label.clone(),
            store: config.store.to_string(),
            audit_dir: config.audit.dir.display().to_string(),
            exporters: config.audit.exporters.iter().map(exporter).collect(),
            traces: config.tracing.as_ref().map(Tracing::describe),
            state_dir: config.hsm.state_dir.display().to_string(),
            lanes: lanes.collect(),
        }
    }
}

/// What an authority may name, in words.
fn authority(authority: &Authority) -> String {
    let Naming { trust_domains, rules, groups } = &authority.naming;
    let is_about_uris = rules.iter().any(|rule| rule.source == NameSource::Uri);
    let mut may = vec![match trust_domains {
        None if is_about_uris => "every SPIFFE ID".to_owned(),
        None => "every URI".to_owned(),
        Some(none) if none.is_empty() => "no SPIFFE ID".to_owned(),
        Some(domains) => format!("SPIFFE IDs of {}", domains.join(", ")),
    }];
    for rule in rules {
        let within = if rule.within.is_empty() { String::new() } else { format!(" within {}", rule.within.join(", ")) };
        may.push(format!("{}{within}", rule.source.name()));
    }
    may.extend(groups.iter().map(|group| format!("groups by {}", group.name())));
    if !authority.crls.is_empty() {
        may.push(format!("{} revocation list(s)", authority.crls.len()));
    }
    format!("{}: {}", authority.name, may.join("; "))
}

/// What is believed of an issuer's tokens, in words.
fn issuer(trust: &Trust) -> String {
    let Rules { issuer, audiences, algorithms, subject, groups, required, .. } = &trust.rules;
    let algorithms: Vec<&str> = algorithms.iter().map(|algorithm| algorithm.name()).collect();
    let mut words = vec![
        format!("for {}", audiences.join(", ")),
        algorithms.join(", "),
        match &trust.keys {
            KeySource::Discovered => "keys by discovery".to_owned(),
            KeySource::Url(url) => format!("keys from {url}"),
            KeySource::File(path) => format!("keys in {}", path.display()),
        },
        format!("subject by {subject}"),
    ];
    words.extend(groups.iter().map(|groups| format!("groups by {groups}")));
    words.extend(required.iter().map(|requirement| format!("requires {}", requirement.claim)));
    format!("{issuer}: {}", words.join("; "))
}

/// Where the audit log is sent, in words.
fn exporter(exporter: &Exporter) -> String {
    let Exporter { name, start, records_max, within, .. } = exporter;
    let start = match start {
        Start::Now => "what is new",
        Start::Beginning => "all that is there",
    };
    let within_s = within.as_secs_f64();
    format!("{name}: {}; first {start}; {records_max} records at once, within {within_s} s", exporter.describe())
}

impl Rows for ConfigView {
    fn head(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let fields = [
            ("gRPC", format!("{} (TLS; client certificates or bearer tokens)", self.listen)),
            ("metrics, health", format!("http://{}", self.metrics_listen)),
            ("module", self.module.clone()),
            ("token", self.token.clone()),
            ("store", self.store.clone()),
            ("audit log", self.audit_dir.clone()),
            ("state", self.state_dir.clone()),
        ];
        let fields = fields.map(|(name, value)| vec![name.to_owned(), value]);
        let row = |name: &str, value: &String| vec![name.to_owned(), value.clone()];
        let azure = self.azure_listen.iter().map(|at| row("Azure face", &format!("{at} (TLS; bearer tokens)")));
        let azure = azure.chain(self.identity_listen.iter().map(|at| row("identity", &format!("http://{at}"))));
        let identity = self.authorities.iter().map(|authority| row("client CA", authority));
        let identity = identity.chain(self.unix_socket.iter().map(|path| row("Unix socket", path)));
        let identity = identity.chain(self.trusted_proxies.iter().map(|range| row("trusted proxy", range)));
        let identity = identity.chain(self.issuers.iter().map(|issuer| row("token issuer", issuer)));
        let exporters = self.exporters.iter().map(|exporter| row("audit exporter", exporter));
        let traces = self.traces.iter().map(|traces| row("traces", traces));
        let lanes = self.lanes.iter().map(|lane| {
            let LaneView { lane, workers, queue_max, hang_ms } = lane;
            vec![
                format!("lane {lane}"),
                format!("{workers} worker(s), queue of {queue_max}, hangs after {} s", *hang_ms as f64 / 1000.0),
            ]
        });
        fields.into_iter().chain(azure).chain(identity).chain(exporters).chain(traces).chain(lanes).collect()
    }
}

/// Says whether a configuration is right, and what was understood.
pub(super) fn check(args: &ConfigCheckArgs) -> anyhow::Result<ExitCode> {
    let config = compose::load(&args.file)?;
    output::show(args.format.format, &ConfigView::from(&config))?;
    if args.format.format == Format::Table {
        output::line("The configuration is right.")?;
    }
    Ok(ExitCode::SUCCESS)
}
