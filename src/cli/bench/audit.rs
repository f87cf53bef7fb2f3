//! `bench --audit`: what the audit record costs in throughput.
//!
//! Three servers take turns, round after round: one whose records are written nowhere, one that keeps them as it
//! comes (`write`), one that syncs each before its answer (`fsync`). So what disturbs the machine disturbs them alike.

use std::{io::Write as _, path::Path, time::Duration};

use serde::Serialize;
use tonic::transport::Channel;

use super::{
    failure,
    isolation::target,
    report::{number, rounded},
    server::Server,
};
use crate::{
    bench::{
        Case,
        call::{Request, Unary},
        figures::Counted,
        load,
        usage::Processes,
    },
    cli::{
        check::{Check, Checks},
        output::Rows,
    },
};

/// How the three keep their records, and the least share of the first one's throughput that each is to have.
const MODES: [(&str, f64); 3] = [("discard", 1.0), ("write", 0.95), ("fsync", 0.85)];
/// How often each has its turn.
const ROUNDS: usize = 10;
/// Callers at once: as many as share a sync.
const CLIENTS: usize = 256;
/// What is asked for.
const CASE: Case = Case::DEFAULT[2];
/// So many syncs are timed.
const SYNCS: usize = 200;

/// What was found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct AuditCostView {
    pub(in crate::cli) version: String,
    pub(in crate::cli) cores: usize,
    pub(in crate::cli) clients: usize,
    pub(in crate::cli) rounds: usize,
    pub(in crate::cli) fdatasync_us: f64,
    pub(in crate::cli) modes: Vec<AuditModeView>,
    pub(in crate::cli) checks: Vec<Check>,
}

/// One of the three.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct AuditModeView {
    pub(in crate::cli) audit: String,
    pub(in crate::cli) ops_per_second: f64,
    pub(in crate::cli) server_cpu_us: f64,
    pub(in crate::cli) of_discard: f64,
}

struct Contender {
    server: Server,
    channels: Vec<Channel>,
    request: Request,
    rounds: Vec<Counted>,
}

/// Measures rounds of `time` each.
pub(super) async fn measure(folder: &Path, time: Duration) -> anyhow::Result<AuditCostView> {
    let mut contenders = Vec::new();
    for (mode, _) in MODES {
        contenders.push(Contender::start(&folder.join(mode), mode).await?);
    }
    for _ in 0..ROUNDS {
        for contender in &mut contenders {
            contender.round(time).await;
        }
    }
    let modes = contenders.iter().zip(MODES).map(|(contender, (mode, _))| contender.view(mode)).collect();
    let error = contenders.iter().flat_map(|contender| &contender.rounds).find_map(|round| round.error.clone());
    for contender in contenders {
        contender.server.end().await;
    }
    let fdatasync_us = fdatasync(folder).map_err(|error| failure("a sync cannot be timed", &error))?;
    Ok(AuditCostView::new(modes, fdatasync_us, error))
}

impl Contender {
    async fn start(folder: &Path, mode: &str) -> anyhow::Result<Self> {
        let arguments = [super::DEVELOPMENT, &["--audit", mode]].concat();
        let server = Server::start(&arguments, folder.to_owned()).await?;
        let channels = server.connections().await?;
        let (_, request) = target(&channels, &CASE, "audited").await?;
        Ok(Self { server, channels, request, rounds: Vec::new() })
    }

    async fn round(&mut self, time: Duration) {
        let callers = Unary::many(&self.channels, CLIENTS, &self.request);
        let processes: Processes = self.server.processes();
        let (counted, _) = load::run(callers, &processes, time / 5, time).await;
        self.rounds.push(counted);
    }

    fn view(&self, mode: &str) -> AuditModeView {
        let cpu = |round: &Counted| round.each_us(round.cpu.server);
        AuditModeView {
            audit: mode.to_owned(),
            ops_per_second: rounded(median(self.rounds.iter().map(Counted::per_second))),
            server_cpu_us: rounded(median(self.rounds.iter().map(cpu))),
            of_discard: 0.0,
        }
    }
}

impl AuditCostView {
    fn new(mut modes: Vec<AuditModeView>, fdatasync_us: f64, error: Option<String>) -> Self {
        let whole = modes[0].ops_per_second;
        modes.iter_mut().for_each(|mode| mode.of_discard = rounded(mode.ops_per_second / whole));
        let mut checks = Checks::default();
        match error {
            None => checks.ok("failures", "no call failed"),
            Some(error) => checks.wrong("failures", error),
        }
        for (mode, (name, least)) in modes.iter().zip(MODES).skip(1) {
            let found = format!("{:.2} of the throughput without records; at least {least}", mode.of_discard);
            if mode.of_discard >= least { checks.ok(name, found) } else { checks.wrong(name, found) }
        }
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cores: crate::bench::usage::cores(),
            clients: CLIENTS,
            rounds: ROUNDS,
            fdatasync_us: rounded(fdatasync_us),
            modes,
            checks: checks.0,
        }
    }
}

impl Rows for AuditCostView {
    fn head(&self) -> Vec<&'static str> {
        vec!["A256GCM, RECORDS", "OPS/S", "SERVER CPU us/op", "OF DISCARD"]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |mode: &AuditModeView| {
            let name = match mode.audit.as_str() {
                "fsync" => format!("fsync (one fdatasync here: {} us)", number(self.fdatasync_us)),
                other => other.to_owned(),
            };
            vec![name, number(mode.ops_per_second), number(mode.server_cpu_us), format!("{:.2}", mode.of_discard)]
        };
        self.modes.iter().map(row).collect()
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// The median time of one record's fdatasync on that disk, in microseconds.
fn fdatasync(folder: &Path) -> std::io::Result<f64> {
    let mut file = tempfile::tempfile_in(folder)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        file.write_all(&[b'x'; 512])?;
        let begun = std::time::Instant::now();
        file.sync_data()?;
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    Ok(median(times.into_iter()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_below_its_share_is_wrong() {
        let mode = |audit: &str, ops_per_second| AuditModeView {
            audit: audit.to_owned(),
            ops_per_second,
            server_cpu_us: 1.0,
            of_discard: 0.0,
        };
        let modes = vec![mode("discard", 1000.0), mode("write", 949.0), mode("fsync", 850.0)];
        let view = AuditCostView::new(modes, 100.0, None);
        let verdicts: Vec<_> = view.checks.iter().map(|check| (check.what.as_str(), check.verdict)).collect();
        use crate::cli::check::Verdict::{Ok, Wrong};
        assert_eq!(verdicts, [("failures", Ok), ("write", Wrong), ("fsync", Ok)]);
    }
}
