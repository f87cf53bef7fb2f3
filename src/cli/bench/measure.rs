//! The rows of a run: every form of every case, in rounds that take turns.

use std::{collections::BTreeSet, time::Duration};

use strongroom_hsm::{Profile, algorithms::Lane};
use strongroom_proto::v1::crypto_client::CryptoClient;
use tonic::transport::Channel;

use super::{compose, failure, server::Server};
use crate::bench::{
    Case,
    call::{self, BATCH, Batch, Request, Stream, Target, Unary},
    echo::{self, Echoes, Ping, Pinger},
    figures::Counted,
    load,
    raw::Raws,
    usage::{self, Processes},
};

/// The vault of a development server.
pub(super) const VAULT: &str = "dev";
/// In place of a version's name where there is none.
const NAME: &str = "vaults/dev/keys/bench-0/versions/00000000000000000000000000000000";
/// What the lane of RSA-4096 is measured by, where nothing was asked for.
pub(super) const LONG: Case = Case {
    algorithm: strongroom_hsm::Algorithm::Ps256,
    spec: strongroom_hsm::KeySpec::Rsa4096,
    op: strongroom_hsm::KeyOps::SIGN,
};
/// How many callers a lane that is measured alone has.
const LANE_CLIENTS: usize = 64;

/// How a case is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) enum Form {
    /// PKCS#11 alone.
    Raw,
    /// gRPC alone.
    Echo,
    /// The service, one operation a call.
    Unary,
    /// gRPC alone, a hundred in a call.
    EchoBatch,
    /// The service, a hundred operations a call.
    Batch,
    /// gRPC alone, many under way on a stream.
    EchoStream,
    /// The service, many operations under way on a stream.
    Stream,
}

impl Form {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Echo => "echo",
            Self::Unary => "unary",
            Self::EchoBatch => "echo batch",
            Self::Batch => "batch",
            Self::EchoStream => "echo stream",
            Self::Stream => "stream",
        }
    }

    /// For a form of the service, gRPC alone in the same form.
    pub(super) const fn echo(self) -> Option<Self> {
        match self {
            Self::Unary => Some(Self::Echo),
            Self::Batch => Some(Self::EchoBatch),
            Self::Stream => Some(Self::EchoStream),
            Self::Raw | Self::Echo | Self::EchoBatch | Self::EchoStream => None,
        }
    }
}

/// The forms of the service.
const SERVICE: [Form; 3] = [Form::Unary, Form::Batch, Form::Stream];
/// More callers with batches or streams are not measured: each has many operations under way.
const BULK_CLIENTS_MAX: usize = 8;

/// How long and by how many.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) rounds: u32,
    /// Of one round of one row.
    pub(super) time: Duration,
    /// Before it.
    pub(super) warm: Duration,
    pub(super) clients: Vec<usize>,
}

/// One row: a form with so many callers, or raw processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Line {
    pub(super) form: Form,
    pub(super) clients: usize,
}

/// What was counted of a case.
pub(super) struct Figures {
    pub(super) case: Case,
    pub(super) library: String,
    pub(super) rows: Vec<(Line, Counted)>,
    /// Measured for its lane alone, without the service.
    pub(super) for_lane: bool,
}

impl Figures {
    /// What was counted of one row.
    pub(super) fn counted(&self, form: Form, clients: usize) -> Option<&Counted> {
        self.rows.iter().find(|(line, _)| *line == Line { form, clients }).map(|(_, counted)| counted)
    }
}

/// What is measured with.
pub(super) struct Bench {
    pub(super) settings: Settings,
    pub(super) profile: Profile,
    pub(super) cores: usize,
    server: Option<Server>,
    echo: Server,
}

/// The parts that the rows of one case need.
struct Parts {
    case: Case,
    raws: Raws,
    ping: Ping,
    pinged: (Vec<Channel>, Processes),
    service: Option<Service>,
}

struct Service {
    channels: Vec<Channel>,
    processes: Processes,
    target: Target,
    request: Request,
}

impl Bench {
    pub(super) fn new(settings: Settings, profile: Profile, server: Option<Server>, echo: Server) -> Self {
        Self { settings, profile, cores: usage::cores(), server, echo }
    }

    /// Ends what was started.
    pub(super) async fn end(self) {
        if let Some(server) = self.server {
            server.end().await;
        }
        self.echo.end().await;
    }

    /// Measures the cases, and for its own sake the lane that none of them belongs to.
    pub(super) async fn all(&self, cases: &[Case], with_long: bool) -> anyhow::Result<Vec<Figures>> {
        let mut figures = Vec::new();
        for (number, case) in cases.iter().enumerate() {
            figures.push(self.case(*case, Some(number), &self.settings.clients).await?);
        }
        if with_long && cases.iter().all(|case| case.lane() != Lane::Long) {
            figures.push(self.case(LONG, None, &[LANE_CLIENTS]).await?);
        }
        Ok(figures)
    }

    /// How many raw processes are measured: one, two, and as many as the lane has workers.
    fn raw_counts(&self, case: Case) -> BTreeSet<usize> {
        let workers = self.profile.lanes.get(&case.lane()).map_or(1, |lane| lane.workers);
        BTreeSet::from([1, 2, workers])
    }

    /// Measures a case; without a number, raw and echo only.
    async fn case(&self, case: Case, number: Option<usize>, clients: &[usize]) -> anyhow::Result<Figures> {
        let counts = self.raw_counts(case);
        let mut parts = self.parts(case, number, counts.last().copied().unwrap_or(1)).await?;
        let mut lines: Vec<Line> = counts.iter().map(|clients| Line { form: Form::Raw, clients: *clients }).collect();
        for form in SERVICE.into_iter().filter(|form| *form == Form::Unary || number.is_some()) {
            for clients in callers(form, clients) {
                lines.extend(form.echo().map(|form| Line { form, clients }));
                if parts.service.is_some() {
                    lines.push(Line { form, clients });
                }
            }
        }
        lines.sort();
        let mut rows: Vec<(Line, Counted)> = lines.into_iter().map(|line| (line, Counted::default())).collect();
        for _ in 0..self.settings.rounds {
            for (line, counted) in &mut rows {
                counted.add(self.round(&mut parts, *line).await?);
            }
        }
        Ok(Figures { case, library: parts.raws.library, rows, for_lane: number.is_none() })
    }

    async fn parts(&self, case: Case, number: Option<usize>, raws: usize) -> anyhow::Result<Parts> {
        let raws = Raws::start(&compose::program()?, &["bench-raw"], &self.profile, case, raws).await;
        let raws = raws.map_err(|error| failure(format!("{case} cannot be measured raw"), &error))?;
        let service = match (&self.server, number) {
            (Some(server), Some(number)) => Some(service(server, case, number).await?),
            _ => None,
        };
        let name = service.as_ref().map_or(NAME, |service| &service.target.name);
        let ping = Ping::new(name, case.algorithm, raws.input_bytes, raws.answer_bytes);
        let pinged = (self.echo.connections().await?, self.echo.processes());
        Ok(Parts { case, raws, ping, pinged, service })
    }

    /// One round of one row.
    async fn round(&self, parts: &mut Parts, line: Line) -> anyhow::Result<Counted> {
        let (warm, time, count) = (self.settings.warm, self.settings.time, line.clients);
        let case = parts.case;
        match (line.form, &parts.service) {
            (Form::Raw, _) => {
                let worked = parts.raws.work(count, warm, time).await;
                Ok(worked.map_err(|error| failure(format!("{case} cannot be measured raw"), &error))?)
            }
            (Form::Unary | Form::Batch | Form::Stream, Some(service)) => service.round(case, line, warm, time).await,
            (form, _) => {
                let (channels, processes) = &parts.pinged;
                let (channels, ping) = (connections(channels, count), &parts.ping);
                if form == Form::EchoStream {
                    let echoes = Echoes::many(channels, count, ping);
                    return Ok(echoed(ping, load::run(echoes, processes, warm, time).await));
                }
                let ping = if form == Form::EchoBatch { ping.clone().batch() } else { ping.clone() };
                let pingers = Pinger::many(channels, count, &ping);
                Ok(echoed(&ping, load::run(pingers, processes, warm, time).await))
            }
        }
    }
}

fn echoed(ping: &Ping, (mut counted, answers): (Counted, Vec<Ping>)) -> Counted {
    (counted.right, counted.wrong) = echo::check(ping, &answers);
    counted
}

/// Of the numbers of callers that were asked for, those that a form is measured with.
fn callers(form: Form, clients: &[usize]) -> Vec<usize> {
    if form == Form::Unary {
        return clients.to_vec();
    }
    let few: Vec<usize> = clients.iter().copied().filter(|clients| *clients <= BULK_CLIENTS_MAX).collect();
    if few.is_empty() { vec![BULK_CLIENTS_MAX] } else { few }
}

impl Service {
    /// One round of a form of the service.
    async fn round(&self, case: Case, line: Line, warm: Duration, time: Duration) -> anyhow::Result<Counted> {
        let (count, processes) = (line.clients, &self.processes);
        let channels = connections(&self.channels, count);
        let (mut counted, answers) = match line.form {
            Form::Batch => {
                let callers = Batch::many(channels, count, &self.request);
                let (counted, answers) = load::run(callers, processes, warm, time).await;
                // Of each batch its first, its last, and some between.
                let some = answers.into_iter().flat_map(|batch| batch.into_iter().step_by(BATCH / 3));
                (counted, some.collect())
            }
            Form::Stream => load::run(Stream::many(channels, count, &self.request), processes, warm, time).await,
            _ => load::run(Unary::many(channels, count, &self.request), processes, warm, time).await,
        };
        let mut client = CryptoClient::new(self.channels[0].clone());
        let checked = call::check(&mut client, &case, &self.target, &answers).await;
        let checked = checked.map_err(|status| failure(format!("answers of {case} cannot be checked"), &status))?;
        (counted.right, counted.wrong) = checked;
        Ok(counted)
    }
}

/// As many of them as callers share: no more than there are callers.
fn connections(channels: &[Channel], callers: usize) -> &[Channel] {
    &channels[..callers.min(channels.len())]
}

/// A key of its own for a case, and what is asked of it.
async fn service(server: &Server, case: Case, number: usize) -> anyhow::Result<Service> {
    let channels = server.connections().await?;
    let refused = |status: tonic::Status| failure(format!("{case} cannot be measured"), &status);
    let id = format!("bench-{number}");
    let target = call::create(channels[0].clone(), VAULT, &id, &case).await.map_err(refused)?;
    let mut client = CryptoClient::new(channels[0].clone());
    let request = call::request(&mut client, &case, &target).await.map_err(refused)?;
    Ok(Service { channels, processes: server.processes(), target, request })
}
