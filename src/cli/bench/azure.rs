//! `bench --azure`: the Azure face beside gRPC, on one server: ES256 signatures, and reading a secret.
//!
//! The four take turns, round after round, so that what disturbs the machine disturbs them alike. Every caller has a
//! connection of its own on both faces.

use std::{path::Path, time::Duration};

use serde::Serialize;
use tonic::transport::Channel;

use super::{
    failure,
    isolation::target,
    measure::VAULT,
    report::{number, rounded},
    server::Server,
};
use crate::{
    bench::{
        Answer, Case,
        azure::{self, Asked, Reader, Site},
        call::{Request, Target, Unary},
        case::MESSAGE,
        figures::Counted,
        load,
        usage::Processes,
        verify,
    },
    cli::{
        check::{Check, Checks},
        failure::Failure,
        output::Rows,
    },
};

/// The least share of what gRPC does in the same run.
const LEAST: f64 = 0.5;
/// How often each has its turn.
const ROUNDS: usize = 5;
/// Callers at once.
const CLIENTS: usize = 64;
/// What signs.
const CASE: Case = Case::DEFAULT[1];
/// The key and the secret.
const NAME: &str = "both-faces";

/// What was found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct AzureCostView {
    pub(in crate::cli) version: String,
    pub(in crate::cli) cores: usize,
    pub(in crate::cli) clients: usize,
    pub(in crate::cli) rounds: usize,
    pub(in crate::cli) work: Vec<AzureWorkView>,
    pub(in crate::cli) checks: Vec<Check>,
}

/// One piece of work by both faces.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct AzureWorkView {
    pub(in crate::cli) operation: String,
    pub(in crate::cli) grpc: AzureFaceView,
    pub(in crate::cli) azure: AzureFaceView,
    pub(in crate::cli) of_grpc: f64,
}

/// What one face did of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct AzureFaceView {
    pub(in crate::cli) ops_per_second: f64,
    pub(in crate::cli) server_cpu_us: f64,
    pub(in crate::cli) workers_cpu_us: f64,
    pub(in crate::cli) client_cpu_us: f64,
    pub(in crate::cli) p50_us: f64,
    pub(in crate::cli) p99_us: f64,
    pub(in crate::cli) right: u64,
    pub(in crate::cli) wrong: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) error: Option<String>,
}

/// What is measured with.
struct Both {
    server: Server,
    channels: Vec<Channel>,
    site: Site,
    target: Target,
    signs: (Request, Asked),
    reads: Asked,
}

/// Measures rounds of `time` each.
pub(super) async fn measure(folder: &Path, time: Duration) -> anyhow::Result<AzureCostView> {
    let both = Both::start(folder).await?;
    let (mut signed, mut read) = <([Counted; 2], [Counted; 2])>::default();
    for _ in 0..ROUNDS {
        both.sign(time, &mut signed).await?;
        both.read(time, &mut read).await?;
    }
    both.server.end().await;
    Ok(AzureCostView::new([(CASE.to_string(), signed), ("secret get".to_owned(), read)]))
}

impl Both {
    async fn start(folder: &Path) -> anyhow::Result<Self> {
        let arguments = [super::DEVELOPMENT, &["--azure-listen", "127.0.0.1:0"]].concat();
        let server = Server::start(&arguments, folder.to_owned()).await?;
        let channels = server.connections_of(CLIENTS).await?;
        let (target, request) = target(&channels, &CASE, NAME).await?;
        let set = azure::set_secret(channels[0].clone(), VAULT, NAME).await;
        set.map_err(|status| failure("a secret cannot be set", &status))?;
        let version = target.name.rsplit('/').next().unwrap_or_default();
        let signs = (request, Asked::sign(NAME, version, CASE.algorithm));
        let site = site(&server, folder)?;
        Ok(Self { server, channels, site, target, signs, reads: Asked::secret(NAME) })
    }

    async fn sign(&self, time: Duration, [grpc, azure]: &mut [Counted; 2]) -> anyhow::Result<()> {
        let is_right = |answer: &Answer| match answer {
            Answer::Signature(made) => {
                verify::signature(CASE.algorithm, CASE.spec, &self.target.public, made) == Some(true)
            }
            _ => false,
        };
        grpc.add(self.round(Unary::many(&self.channels, CLIENTS, &self.signs.0), time, is_right).await);
        azure.add(self.round(self.by_azure(&self.signs.1).await?, time, is_right).await);
        Ok(())
    }

    async fn read(&self, time: Duration, [grpc, azure]: &mut [Counted; 2]) -> anyhow::Result<()> {
        let is_right = |answer: &Answer| *answer == Answer::Opened(MESSAGE.to_vec());
        grpc.add(self.round(Reader::many(&self.channels, VAULT, NAME), time, is_right).await);
        azure.add(self.round(self.by_azure(&self.reads).await?, time, is_right).await);
        Ok(())
    }

    async fn by_azure(&self, asked: &Asked) -> anyhow::Result<Vec<azure::Call>> {
        let calls = self.site.many(CLIENTS, asked).await;
        Ok(calls.map_err(|error| failure("no connection to the Azure face", &error))?)
    }

    async fn round<C>(&self, callers: Vec<C>, time: Duration, is_right: impl Fn(&Answer) -> bool) -> Counted
    where
        C: load::Caller<Answer = Answer>,
    {
        let processes: Processes = self.server.processes();
        let (mut counted, answers) = load::run(callers, &processes, time / 5, time).await;
        counted.right = answers.iter().filter(|answer| is_right(answer)).count() as u64;
        counted.wrong = answers.len() as u64 - counted.right;
        counted
    }
}

/// The face as the server's file `env` has it.
fn site(server: &Server, folder: &Path) -> anyhow::Result<Site> {
    let url = server.azure().ok_or_else(|| Failure::new("the measured server has no Azure face"))?;
    let env = std::fs::read_to_string(folder.join("env"))?;
    let token = env.lines().find_map(|line| line.strip_prefix("export AKV_TOKEN="));
    let token = token.ok_or_else(|| Failure::new("the measured server has made no token"))?;
    let site = Site::new(url, token, &folder.join("tls").join("ca.pem"));
    Ok(site.map_err(|error| failure("no connection to the Azure face", &error))?)
}

impl AzureCostView {
    fn new(counted: [(String, [Counted; 2]); 2]) -> Self {
        let work: Vec<AzureWorkView> = counted.into_iter().map(AzureWorkView::new).collect();
        let mut checks = Checks::default();
        let faces = || work.iter().flat_map(|work| [&work.grpc, &work.azure]);
        if faces().all(|face| face.wrong == 0 && face.right > 0) {
            checks.ok("answers", "those looked at are right");
        } else {
            checks.wrong("answers", "some are wrong, or none was looked at");
        }
        match faces().find_map(|face| face.error.clone()) {
            None => checks.ok("failures", "no call failed"),
            Some(error) => checks.wrong("failures", error),
        }
        for AzureWorkView { operation, of_grpc, .. } in &work {
            let found = format!("{of_grpc:.2} of gRPC's throughput; at least {LEAST}");
            if *of_grpc >= LEAST { checks.ok(operation, found) } else { checks.wrong(operation, found) }
        }
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cores: crate::bench::usage::cores(),
            clients: CLIENTS,
            rounds: ROUNDS,
            work,
            checks: checks.0,
        }
    }
}

impl AzureWorkView {
    fn new((operation, [grpc, azure]): (String, [Counted; 2])) -> Self {
        let of_grpc = rounded(azure.per_second() / grpc.per_second());
        Self { operation, grpc: AzureFaceView::new(&grpc), azure: AzureFaceView::new(&azure), of_grpc }
    }
}

impl AzureFaceView {
    fn new(counted: &Counted) -> Self {
        Self {
            ops_per_second: rounded(counted.per_second()),
            server_cpu_us: rounded(counted.each_us(counted.cpu.server)),
            workers_cpu_us: rounded(counted.each_us(counted.cpu.workers)),
            client_cpu_us: rounded(counted.each_us(counted.cpu.client)),
            p50_us: rounded(counted.latencies.quantile_us(0.5)),
            p99_us: rounded(counted.latencies.quantile_us(0.99)),
            right: counted.right,
            wrong: counted.wrong,
            error: counted.error.clone(),
        }
    }
}

impl Rows for AzureCostView {
    fn head(&self) -> Vec<&'static str> {
        vec!["OPERATION", "FACE", "OPS/S", "OF GRPC", "P50 us", "P99 us", "SERVER CPU us/op", "WORKERS", "CLIENTS"]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |operation: &str, name: &str, face: &AzureFaceView, share: String| {
            let figures = [face.p50_us, face.p99_us, face.server_cpu_us, face.workers_cpu_us, face.client_cpu_us];
            let head = vec![operation.to_owned(), name.to_owned(), number(face.ops_per_second), share];
            [head, figures.map(number).to_vec()].concat()
        };
        let both = |work: &AzureWorkView| {
            let share = format!("{:.2}", work.of_grpc);
            [row(&work.operation, "gRPC", &work.grpc, String::new()), row(&work.operation, "Azure", &work.azure, share)]
        };
        self.work.iter().flat_map(both).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::Verdict;

    fn counted(per_second: f64, right: u64) -> Counted {
        Counted { rounds: vec![per_second], right, ..Counted::default() }
    }

    #[test]
    fn a_face_below_half_is_wrong_and_so_are_answers_nobody_looked_at() {
        let signed = [counted(1000.0, 1), counted(500.0, 1)];
        let read = [counted(1000.0, 1), counted(499.0, 0)];
        let view = AzureCostView::new([("sign".to_owned(), signed), ("get".to_owned(), read)]);
        let verdicts: Vec<_> = view.checks.iter().map(|check| (check.what.as_str(), check.verdict)).collect();
        use Verdict::{Ok, Wrong};
        assert_eq!(verdicts, [("answers", Wrong), ("failures", Ok), ("sign", Ok), ("get", Wrong)]);
    }
}
