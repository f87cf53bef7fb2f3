//! `strongroom config check`: whether a configuration is right, and what was understood.

use std::process::ExitCode;

use serde::Serialize;

use super::{
    compose,
    operate::ConfigCheckArgs,
    output::{self, Format, Rows},
};
use crate::config::Config;

/// What a configuration says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConfigView {
    pub(super) listen: String,
    pub(super) metrics_listen: String,
    pub(super) module: String,
    pub(super) token: String,
    pub(super) store: String,
    pub(super) audit_dir: String,
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
        Self {
            listen: config.server.listen.to_string(),
            metrics_listen: config.metrics.listen.to_string(),
            module: config.hsm.module.display().to_string(),
            token: config.hsm.token.label.clone(),
            store: config.store.display().to_string(),
            audit_dir: config.audit.dir.display().to_string(),
            state_dir: config.hsm.state_dir.display().to_string(),
            lanes: lanes.collect(),
        }
    }
}

impl Rows for ConfigView {
    fn head(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let fields = [
            ("gRPC", format!("{} (TLS, client certificates)", self.listen)),
            ("metrics, health", format!("http://{}", self.metrics_listen)),
            ("module", self.module.clone()),
            ("token", self.token.clone()),
            ("store", self.store.clone()),
            ("audit log", self.audit_dir.clone()),
            ("state", self.state_dir.clone()),
        ];
        let fields = fields.map(|(name, value)| vec![name.to_owned(), value]);
        let lanes = self.lanes.iter().map(|lane| {
            let LaneView { lane, workers, queue_max, hang_ms } = lane;
            vec![
                format!("lane {lane}"),
                format!("{workers} worker(s), queue of {queue_max}, hangs after {} s", *hang_ms as f64 / 1000.0),
            ]
        });
        fields.into_iter().chain(lanes).collect()
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
