//! What a run has found: the object that `-o json` shows, and its rows for people.

use serde::Serialize;
use strongroom_hsm::algorithms::Lane;

pub(in crate::cli) use super::measure::Form;
use super::{
    lanes,
    measure::{Bench, Figures},
    verdict,
};
use crate::{
    bench::{
        call,
        figures::{Counted, LaneFigures, ceiling, propose, ratio},
        stream,
        usage::Clocks,
    },
    cli::{check::Check, output::Rows},
};

/// A run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct Report {
    pub(in crate::cli) version: String,
    pub(in crate::cli) module: String,
    pub(in crate::cli) library: String,
    pub(in crate::cli) machine: Machine,
    pub(in crate::cli) settings: SettingsView,
    pub(in crate::cli) cases: Vec<CaseView>,
    pub(in crate::cli) checks: Vec<Check>,
    pub(in crate::cli) lanes: Vec<LaneFigure>,
    pub(in crate::cli) lanes_toml: String,
}

/// What it ran on.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct Machine {
    pub(in crate::cli) cores: usize,
    pub(in crate::cli) processor: String,
    pub(in crate::cli) kernel: String,
}

/// How it was measured.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct SettingsView {
    pub(in crate::cli) rounds: u32,
    pub(in crate::cli) round_seconds: f64,
    pub(in crate::cli) connections_max: usize,
    pub(in crate::cli) batch_operations: usize,
    pub(in crate::cli) stream_operations: usize,
}

/// An operation.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct CaseView {
    pub(in crate::cli) operation: String,
    pub(in crate::cli) algorithm: String,
    pub(in crate::cli) key: String,
    pub(in crate::cli) input_bytes: usize,
    pub(in crate::cli) lane: &'static str,
    pub(in crate::cli) rows: Vec<RowView>,
}

/// One form of it, with so many callers.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct RowView {
    pub(in crate::cli) form: Form,
    pub(in crate::cli) clients: usize,
    pub(in crate::cli) ops_per_second: f64,
    pub(in crate::cli) spread: f64,
    pub(in crate::cli) p50_us: f64,
    pub(in crate::cli) p99_us: f64,
    pub(in crate::cli) p999_us: f64,
    pub(in crate::cli) server_cpu_us: f64,
    pub(in crate::cli) workers_cpu_us: f64,
    pub(in crate::cli) client_cpu_us: f64,
    pub(in crate::cli) busy: f64,
    pub(in crate::cli) others: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) ceiling: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) of_ceiling: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) of_raw: Option<f64>,
    pub(in crate::cli) operations: u64,
    pub(in crate::cli) right: u64,
    pub(in crate::cli) wrong: u64,
    pub(in crate::cli) failed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) error: Option<String>,
}

/// What was found of a lane.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct LaneFigure {
    pub(in crate::cli) lane: &'static str,
    pub(in crate::cli) measured_by: String,
    pub(in crate::cli) one_worker: f64,
    pub(in crate::cli) two_workers: f64,
    pub(in crate::cli) ceiling: f64,
    pub(in crate::cli) workers: usize,
}

/// To four digits: more are noise.
pub(super) fn rounded(value: f64) -> f64 {
    let digits = 10_f64.powf(3.0 - value.abs().max(1e-3).log10().floor());
    (value * digits).round() / digits
}

impl RowView {
    fn new(form: Form, clients: usize, counted: &Counted, cores: usize) -> Self {
        let latency = |share| rounded(counted.latencies.quantile_us(share));
        let each = |time| rounded(counted.each_us(time));
        Self {
            form,
            clients,
            ops_per_second: rounded(counted.per_second()),
            spread: rounded(counted.spread()),
            p50_us: latency(0.5),
            p99_us: latency(0.99),
            p999_us: latency(0.999),
            server_cpu_us: each(counted.cpu.server),
            workers_cpu_us: each(counted.cpu.workers),
            client_cpu_us: each(counted.cpu.client),
            busy: rounded(counted.busy(cores)),
            others: rounded(counted.foreign(cores)),
            ceiling: None,
            of_ceiling: None,
            of_raw: None,
            operations: counted.operations,
            right: counted.right,
            wrong: counted.wrong,
            failed: counted.failed,
            error: counted.error.clone(),
        }
    }
}

/// The composite ceiling of an operation, with gRPC in that form and so many callers.
fn ceiling_of(figures: &Figures, echo: Form, clients: usize, cores: usize) -> Option<f64> {
    let raw = figures.counted(Form::Raw, 1)?;
    let echo = figures.counted(echo, clients)?;
    let echo_us = echo.each_us(echo.cpu.server + echo.cpu.client);
    Some(ceiling(cores, raw.each_us(raw.cpu.workers), echo_us))
}

impl CaseView {
    fn new(figures: &Figures, cores: usize) -> Self {
        let raw = figures.counted(Form::Raw, 1).map(Counted::per_second).unwrap_or_default();
        let rows = figures.rows.iter().map(|(line, counted)| {
            let mut row = RowView::new(line.form, line.clients, counted, cores);
            if let Some(echo) = line.form.echo() {
                let ceiling = ceiling_of(figures, echo, line.clients, cores);
                row.of_ceiling = ceiling.map(|ceiling| rounded(ratio(counted.per_second(), ceiling)));
                row.ceiling = ceiling.map(rounded);
                row.of_raw = Some(rounded(ratio(counted.per_second(), raw)));
            }
            row
        });
        Self {
            operation: figures.case.operation().to_owned(),
            algorithm: figures.case.algorithm.name().to_owned(),
            key: figures.case.spec.name().to_owned(),
            input_bytes: figures.case.input().len(),
            lane: figures.case.lane().name(),
            rows: rows.collect(),
        }
    }

    /// As people call it.
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.key, self.algorithm)
    }
}

/// What each case says of its lane: its throughput raw, and its best ceiling.
fn lane_figures(figures: &Figures, cores: usize) -> Option<LaneFigures> {
    let raw = |count| figures.counted(Form::Raw, count).map(Counted::per_second);
    let echoes = figures.rows.iter().filter(|(line, _)| line.form == Form::Echo);
    let ceilings = echoes.filter_map(|(line, _)| ceiling_of(figures, Form::Echo, line.clients, cores));
    let ceiling = ceilings.reduce(f64::max)?;
    Some(LaneFigures { lane: figures.case.lane(), one: raw(1)?, two: raw(2)?, ceiling })
}

impl Report {
    /// Of what was measured.
    pub(super) fn new(bench: &Bench, figures: Vec<Figures>, clocks: &Clocks) -> Self {
        let cores = bench.cores;
        let of_lanes: Vec<(String, LaneFigures)> =
            figures.iter().filter_map(|one| Some((one.case.to_string(), lane_figures(one, cores)?))).collect();
        let proposed = propose(&of_lanes.iter().map(|(_, figures)| *figures).collect::<Vec<_>>());
        let lane = |(measured_by, figures): &(String, LaneFigures)| LaneFigure {
            lane: figures.lane.name(),
            measured_by: measured_by.clone(),
            one_worker: rounded(figures.one),
            two_workers: rounded(figures.two),
            ceiling: rounded(figures.ceiling),
            workers: proposed.get(&figures.lane).copied().unwrap_or(1),
        };
        let library = figures.first().map(|one| one.library.clone()).unwrap_or_default();
        let measured: Vec<Lane> = of_lanes.iter().map(|(_, figures)| figures.lane).collect();
        let cases = figures.iter().filter(|one| !one.for_lane).map(|one| CaseView::new(one, cores));
        let mut report = Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            module: bench.profile.module.display().to_string(),
            lanes_toml: lanes::toml(&bench.profile, &proposed, &measured, &library, cores),
            library,
            machine: machine(cores),
            settings: SettingsView {
                rounds: bench.settings.rounds,
                round_seconds: bench.settings.time.as_secs_f64(),
                connections_max: call::CONNECTIONS_MAX,
                batch_operations: call::BATCH,
                stream_operations: stream::UNDER_WAY,
            },
            cases: cases.collect(),
            checks: Vec::new(),
            lanes: of_lanes.iter().map(lane).collect(),
        };
        report.checks = verdict::checks(&report, clocks);
        report
    }
}

fn machine(cores: usize) -> Machine {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let uname = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    Machine {
        cores,
        processor: model.map_or_else(|| text(uname.machine()), |(_, name)| name.trim().to_owned()),
        kernel: format!("{} {}", text(uname.sysname()), text(uname.release())),
    }
}

impl Rows for Report {
    fn head(&self) -> Vec<&'static str> {
        vec![
            "OPERATION",
            "FORM",
            "CLIENTS",
            "OPS/S",
            "SPREAD",
            "P50 us",
            "P99 us",
            "P99.9 us",
            "CPU us/op: SERVER",
            "WORKERS",
            "CLIENT",
            "BUSY",
            "C",
            "OF C",
            "OF RAW",
        ]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let of_case = |case: &CaseView| -> Vec<Vec<String>> {
            let name = case.name();
            case.rows.iter().map(|row| shown(&name, row)).collect()
        };
        self.cases.iter().flat_map(of_case).collect()
    }
}

fn shown(name: &str, row: &RowView) -> Vec<String> {
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    vec![
        name.to_owned(),
        row.form.name().to_owned(),
        row.clients.to_string(),
        number(row.ops_per_second),
        percent(row.spread),
        number(row.p50_us),
        number(row.p99_us),
        number(row.p999_us),
        number(row.server_cpu_us),
        number(row.workers_cpu_us),
        number(row.client_cpu_us),
        percent(row.busy),
        row.ceiling.map(number).unwrap_or_default(),
        row.of_ceiling.map(|of| format!("{of:.2}")).unwrap_or_default(),
        row.of_raw.map(|of| format!("{of:.2}")).unwrap_or_default(),
    ]
}

/// With as many digits as mean something.
pub(super) fn number(value: f64) -> String {
    match value {
        0.0 => "-".to_owned(),
        value if value < 100.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_four_digits() {
        assert_eq!([rounded(123_456.0), rounded(0.123_456), rounded(7.0), rounded(0.0)], [123_500.0, 0.1235, 7.0, 0.0]);
        assert_eq!([number(0.0), number(6.44), number(53_912.3)], ["-", "6.4", "53912"]);
    }
}
