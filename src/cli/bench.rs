//! `strongroom bench`: raw PKCS#11, gRPC alone, and the service, side by side in one run.
//!
//! It measures on a development server of its own, in a temporary folder, or, with `--config`, an HSM that is
//! configured: then raw and gRPC alone, in session objects, so that nothing is left on the token or in a store.
//! The method is in `docs/performance.md`.

use std::{io::Read as _, path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use serde::{Deserialize, Serialize};
use strongroom_hsm::Profile;
use tokio_util::sync::CancellationToken;

use super::{
    check::{self, Checks},
    compose::{self, Ending, failure},
    dev,
    failure::Failure,
    output::{self, Format, FormatArgs},
};
use crate::{
    bench::{Case, case::CaseError, echo, raw, usage::Clocks},
    config::{LogFormat, LogStyle},
    observe::logging,
};

pub(super) mod audit;
pub(super) mod azure;
pub(super) mod isolation;
mod lanes;
mod measure;
mod plot;
pub(super) mod report;
mod server;
mod targets;
mod verdict;

use measure::{Bench, Settings};
use report::Report;
use server::Server;

pub(super) const AFTER_HELP: &str = "\
Forms: raw is PKCS#11 alone in as many processes; echo is gRPC alone; unary is the service, one operation a \
call, batch with 100 a call, stream with 64 under way on each stream. C is the composite ceiling: cores / (CPU of raw + CPU of echo), what the machine could do if an operation \
cost nothing else. Everything shares the machine's cores: compare the rows of one run, not of two. Exit code 1 \
when a check is wrong.";

/// How long all rounds of a row take with `--quick`.
const QUICK: Duration = Duration::from_millis(300);
/// How many rounds a row has: rows take turns, so that what disturbs the machine disturbs them alike.
const ROUNDS: u32 = 3;

/// What `bench` takes.
#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    /// What to measure, comma-separated: [OPERATION:]ALGORITHM[/KEY], as in verify:ES256, PS256/RSA-4096
    /// [default: PS256, ES256, A256GCM; and PS256/RSA-4096 for its lane]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = case)]
    operations: Vec<Case>,
    /// How many callers at once, comma-separated [default: 1,8,64,256; with --quick 1,8]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=1024))]
    clients: Vec<u16>,
    /// How long each row is measured
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=600))]
    seconds: u16,
    /// A look instead of a measurement: one round of 0.3 seconds, few callers
    #[arg(long, conflicts_with = "seconds")]
    quick: bool,
    /// Also draw the figures into this file (SVG)
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Measure the HSM of this configuration (TOML), raw and by gRPC alone: with session keys, which leave nothing
    /// behind. It works the HSM as hard as it can: not while somebody is served from it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Also hold the figures against what this release is to reach (docs/performance.md): exit code 1 when one falls short.
    /// Five rounds, with 1, 8, 64 and 256 callers
    #[arg(long, conflicts_with_all = ["operations", "clients", "quick", "config"])]
    check: bool,
    /// Measure instead how little slow work disturbs fast work: AES-GCM at 5,000 calls a second, alone and beside
    /// 32 callers of RSA-4096 while keys are made
    #[arg(long, conflicts_with_all = ["operations", "clients", "svg", "config", "check"])]
    isolation: bool,
    /// Measure instead what the audit record costs: three servers in turn, ten times --seconds each, with 256 callers of
    /// AES-GCM: records written nowhere, written, and synced
    #[arg(long, conflicts_with_all = ["operations", "clients", "svg", "config", "check", "isolation"])]
    audit: bool,
    /// Measure instead the Azure face beside gRPC, with 64 connections each: ES256 signatures, and reading a secret; five
    /// times --seconds each
    #[arg(long, conflicts_with_all = ["operations", "clients", "svg", "config", "check", "isolation", "audit"])]
    azure: bool,
    #[command(flatten)]
    format: FormatArgs,
}

fn case(text: &str) -> Result<Case, CaseError> {
    text.parse()
}

impl BenchArgs {
    fn settings(&self) -> Settings {
        let rounds = if self.check { targets::ROUNDS } else { ROUNDS };
        let (rounds, time) =
            if self.quick { (1, QUICK) } else { (rounds, Duration::from_secs(self.seconds.into()) / rounds) };
        let clients = match (&self.clients[..], self.quick) {
            ([], true) => vec![1, 8],
            ([], false) => targets::CLIENTS.into(),
            (clients, _) => clients.iter().map(|clients| usize::from(*clients)).collect(),
        };
        Settings { rounds, time, warm: time / 5, clients }
    }

    /// How long one turn takes of what is measured in turns of its own.
    fn turn(&self) -> Duration {
        if self.quick { QUICK } else { Duration::from_secs(self.seconds.into()) }
    }

    fn cases(&self) -> Vec<Case> {
        if self.operations.is_empty() { Case::DEFAULT.to_vec() } else { self.operations.clone() }
    }
}

/// Measures, shows, and says what to think of it.
pub(super) fn run(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    logging::start(LogStyle { level: tracing::level_filters::LevelFilter::ERROR, format: LogFormat::Text });
    compose::raise_limits();
    if args.isolation {
        let view = until_ended(isolated(args))?;
        return shown(args, &view, &view.checks);
    }
    if args.audit {
        let view = until_ended(audited(args))?;
        return shown(args, &view, &view.checks);
    }
    if args.azure {
        let view = until_ended(beside_azure(args))?;
        return shown(args, &view, &view.checks);
    }
    let report = until_ended(measured(args))?;
    if let Some(path) = &args.svg {
        let written = std::fs::write(path, plot::svg(&report));
        written.map_err(|error| failure(format!("cannot write {}", path.display()), &error))?;
    }
    match args.format.format {
        Format::Json => output::json(&report)?,
        Format::Table => show(&report)?,
    }
    Ok(Checks::exit_of(&report.checks))
}

/// Runs it; a signal ends it before it is done.
fn until_ended<T>(run: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    compose::runtime()?.block_on(async {
        let mut ending = Ending::listen()?;
        tokio::select! {
            done = run => done,
            // What was started ends with its handles, and the folder is removed.
            signal = ending.wait() => Err(Failure::new(format!("ended by {signal} before it was done")).into()),
        }
    })
}

/// Shows figures and their checks.
fn shown(
    args: &BenchArgs,
    view: &(impl Serialize + output::Rows),
    checks: &[check::Check],
) -> anyhow::Result<ExitCode> {
    match args.format.format {
        Format::Json => output::json(view)?,
        Format::Table => {
            output::show(Format::Table, view)?;
            output::show(Format::Table, &Checks(checks.to_vec()))?;
        }
    }
    Ok(Checks::exit_of(checks))
}

async fn isolated(args: &BenchArgs) -> anyhow::Result<isolation::IsolationView> {
    let folder = tempfile::Builder::new().prefix("strongroom-bench-").tempdir()?;
    isolation::measure(&folder.path().join("dev"), args.settings().time * args.settings().rounds).await
}

async fn audited(args: &BenchArgs) -> anyhow::Result<audit::AuditCostView> {
    let folder = tempfile::Builder::new().prefix("strongroom-bench-").tempdir()?;
    audit::measure(folder.path(), args.turn()).await
}

async fn beside_azure(args: &BenchArgs) -> anyhow::Result<azure::AzureCostView> {
    let folder = tempfile::Builder::new().prefix("strongroom-bench-").tempdir()?;
    azure::measure(&folder.path().join("dev"), args.turn()).await
}

fn show(report: &Report) -> anyhow::Result<()> {
    output::show(Format::Table, report)?;
    output::line("")?;
    output::show(Format::Table, &Checks(report.checks.clone()))?;
    output::line(&format!("\n{}", report.lanes_toml.trim_end()))
}

async fn measured(args: &BenchArgs) -> anyhow::Result<Report> {
    let clocks = Clocks::look();
    let folder = tempfile::Builder::new().prefix("strongroom-bench-").tempdir()?;
    let settings = args.settings();
    let (profile, server) = match &args.config {
        Some(path) => (compose::load(path)?.hsm.profile(compose::program()?), None),
        None => development(&folder.path().join("dev")).await?,
    };
    let echo = Server::start(&["bench-echo"], folder.path().join("echo")).await?;
    let bench = Bench::new(settings, profile, server, echo);
    let measured = bench.all(&args.cases(), args.operations.is_empty()).await;
    let (figures, bench) = (measured?, bench);
    let mut report = Report::new(&bench, figures, &clocks);
    if args.check {
        let mut checks = Checks(std::mem::take(&mut report.checks));
        targets::check(&mut checks, &report.cases);
        report.checks = checks.0;
    }
    bench.end().await;
    Ok(report)
}

/// A development server on ports that are free.
const DEVELOPMENT: &[&str] = &["dev", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "-o", "json"];

async fn development(folder: &std::path::Path) -> anyhow::Result<(Profile, Option<Server>)> {
    let server = Server::start(DEVELOPMENT, folder.to_owned()).await?;
    Ok((dev::profile(folder)?, Some(server)))
}

/// Raw PKCS#11: told what to do on standard input.
pub(super) fn raw() -> anyhow::Result<ExitCode> {
    // As its name in `ps`, where it would be that of the link it was started by.
    let _ = std::fs::write("/proc/self/comm", "strongroom-raw");
    raw::child()?;
    Ok(ExitCode::SUCCESS)
}

/// What the echo server takes.
#[derive(Debug, Args)]
pub(super) struct EchoArgs {
    /// Certificates are made here
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
}

/// Where a started server listens: of what it prints first, all that `bench` reads.
#[derive(Debug, Serialize, Deserialize)]
struct Ready {
    endpoint: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    azure: Option<String>,
}

/// gRPC with nothing behind it, on loopback, until standard input ends.
pub(super) fn echo(args: &EchoArgs) -> anyhow::Result<ExitCode> {
    compose::raise_limits();
    compose::runtime()?.block_on(async {
        let (_place, tls) = dev::tls_alone(&args.data_dir)?;
        let listener = echo::bind(([127, 0, 0, 1], 0).into(), tls).await?;
        output::json_line(&Ready { endpoint: format!("https://{}", listener.address()?), azure: None })?;
        let stop = CancellationToken::new();
        let ended = stop.clone();
        std::thread::spawn(move || {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            ended.cancel();
        });
        listener.serve(stop, Duration::from_secs(1)).await;
        Ok(ExitCode::SUCCESS)
    })
}
