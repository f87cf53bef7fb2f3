//! `bench --isolation`: how little slow work disturbs fast work.
//!
//! AES-GCM at a fixed rate, first alone, then while callers sign with RSA-4096 and others make keys. What it is
//! held against is one RSA-4096 signature, raw, in the same run: where all work stood in one line, every call
//! would wait for many of them.

use std::time::Duration;

use serde::Serialize;
use strongroom_proto::v1::crypto_client::CryptoClient;
use tonic::transport::Channel;

use super::{
    compose, failure,
    measure::{LONG, VAULT},
    report::{number, rounded},
};
use crate::{
    bench::{
        Case,
        call::{self, Request, Target, Unary, said},
        figures::Counted,
        load::{self, Turns},
        paced::{self, Paced},
        raw::Raws,
        usage::Processes,
    },
    cli::{
        check::{Check, Checks},
        output::Rows,
    },
};

/// Calls of AES-GCM a second.
const PER_SECOND: u32 = 5_000;
/// Callers that sign with RSA-4096.
const SIGNERS: usize = 32;
/// Callers that make keys: one of RSA, one of EC.
const MADE: [Case; 2] = [Case::DEFAULT[0], Case::DEFAULT[1]];
/// The fast work.
const FAST: Case = Case::DEFAULT[2];
/// The 99th percentile stays below so many signatures' time.
const SIGNATURES_MAX: f64 = 2.0;

/// What was found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct IsolationView {
    pub(in crate::cli) version: String,
    pub(in crate::cli) cores: usize,
    pub(in crate::cli) calls_per_second: u32,
    pub(in crate::cli) signers: usize,
    pub(in crate::cli) signature_us: f64,
    pub(in crate::cli) alone: PacedView,
    pub(in crate::cli) beside: PacedView,
    pub(in crate::cli) signatures_per_second: f64,
    pub(in crate::cli) keys_per_second: f64,
    pub(in crate::cli) of_signature: f64,
    pub(in crate::cli) checks: Vec<Check>,
}

/// Calls at the fixed rate.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct PacedView {
    pub(in crate::cli) calls: u64,
    pub(in crate::cli) failed: u64,
    pub(in crate::cli) right: u64,
    pub(in crate::cli) wrong: u64,
    pub(in crate::cli) p50_us: f64,
    pub(in crate::cli) p99_us: f64,
    pub(in crate::cli) p999_us: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) error: Option<String>,
}

/// Measures for `time` each.
pub(super) async fn measure(folder: &std::path::Path, time: Duration) -> anyhow::Result<IsolationView> {
    let (profile, server) = super::development(folder).await?;
    let server = server.ok_or_else(|| failure("no server to measure", &std::io::Error::other("none was started")))?;
    let warm = time / 5;
    let signature = signature(&profile, warm, time).await?;
    let channels = server.connections().await?;
    let (fast, request) = target(&channels, &FAST, "fast").await?;
    let (_, slow) = target(&channels, &LONG, "slow").await?;
    let alone = paced::run(&channels, &request, PER_SECOND, warm, time).await;
    let nothing = Processes::default();
    let signers = Unary::many(&channels, SIGNERS, &slow);
    let makers = MADE.iter().enumerate().map(|(number, case)| Maker::new(&channels, number, *case)).collect();
    // Slow work begins before and ends after.
    let (beside, (signed, _), (made, _)) = tokio::join!(
        paced::run(&channels, &request, PER_SECOND, warm, time),
        load::run(signers, &nothing, warm, time),
        load::run(makers, &nothing, warm, time),
    );
    let (alone, beside) = (view(&channels, &fast, alone).await?, view(&channels, &fast, beside).await?);
    server.end().await;
    Ok(IsolationView::new(&signature, alone, beside, &signed, &made))
}

/// One RSA-4096 signature after the other, raw.
async fn signature(profile: &strongroom_hsm::Profile, warm: Duration, time: Duration) -> anyhow::Result<Counted> {
    let refused = |error| failure(format!("{LONG} cannot be measured raw"), &error);
    let mut raws = Raws::start(&compose::program()?, &["bench-raw"], profile, LONG, 1).await.map_err(refused)?;
    raws.work(1, warm, time).await.map_err(|error| refused(error).into())
}

/// A key of its own, and what is asked of it.
pub(super) async fn target(channels: &[Channel], case: &Case, id: &str) -> anyhow::Result<(Target, Request)> {
    let refused = |status: tonic::Status| failure(format!("{case} cannot be measured"), &status);
    let target = call::create(channels[0].clone(), VAULT, id, case).await.map_err(refused)?;
    let mut client = CryptoClient::new(channels[0].clone());
    let request = call::request(&mut client, case, &target).await.map_err(refused)?;
    Ok((target, request))
}

async fn view(channels: &[Channel], target: &Target, paced: Paced) -> anyhow::Result<PacedView> {
    let mut client = CryptoClient::new(channels[0].clone());
    let checked = call::check(&mut client, &FAST, target, &paced.answers).await;
    let (right, wrong) = checked.map_err(|status| failure("the answers cannot be checked", &status))?;
    let latency = |share| rounded(paced.latencies.quantile_us(share));
    Ok(PacedView {
        calls: paced.calls,
        failed: paced.failed,
        right,
        wrong,
        p50_us: latency(0.5),
        p99_us: latency(0.99),
        p999_us: latency(0.999),
        error: paced.error,
    })
}

/// Makes one key after the other.
struct Maker {
    channel: Channel,
    number: usize,
    case: Case,
    made: u64,
}

impl Maker {
    fn new(channels: &[Channel], number: usize, case: Case) -> Self {
        Self { channel: channels[number % channels.len()].clone(), number, case, made: 0 }
    }
}

impl Turns for Maker {
    type Answer = Target;

    async fn call(&mut self) -> Result<Target, String> {
        self.made += 1;
        let id = format!("made-{}-{}", self.number, self.made);
        call::create(self.channel.clone(), VAULT, &id, &self.case).await.map_err(|status| said(&status))
    }
}

impl IsolationView {
    fn new(signature: &Counted, alone: PacedView, beside: PacedView, signed: &Counted, made: &Counted) -> Self {
        let signature_us = 1e6 / signature.per_second();
        let mut view = Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cores: crate::bench::usage::cores(),
            calls_per_second: PER_SECOND,
            signers: SIGNERS,
            signature_us: rounded(signature_us),
            of_signature: rounded(beside.p99_us / signature_us),
            alone,
            beside,
            signatures_per_second: rounded(signed.per_second()),
            keys_per_second: rounded(made.per_second()),
            checks: Vec::new(),
        };
        let failed = signed.error.as_ref().or(made.error.as_ref());
        view.checks = view.checked(failed).0;
        view
    }

    fn checked(&self, slow_failed: Option<&String>) -> Checks {
        let mut checks = Checks::default();
        let both = [&self.alone, &self.beside];
        if both.iter().all(|paced| paced.wrong == 0 && paced.right > 0) {
            checks.ok("answers", "those looked at decrypt");
        } else {
            checks.wrong("answers", "some do not decrypt, or none was looked at");
        }
        match both.iter().find_map(|paced| paced.error.as_ref()).or(slow_failed) {
            None => checks.ok("failures", "no call failed"),
            Some(error) => checks.wrong("failures", error.clone()),
        }
        let found = format!(
            "the 99th percentile beside slow work is {:.2} times an RSA-4096 signature; at most {SIGNATURES_MAX}",
            self.of_signature
        );
        if self.of_signature < SIGNATURES_MAX {
            checks.ok("isolation", found);
        } else {
            checks.wrong("isolation", found);
        }
        checks
    }
}

impl Rows for IsolationView {
    fn head(&self) -> Vec<&'static str> {
        vec!["A256GCM", "CALLS", "FAILED", "P50 us", "P99 us", "P99.9 us"]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |name: String, paced: &PacedView| {
            let figures = [paced.p50_us, paced.p99_us, paced.p999_us].map(number);
            [vec![name, paced.calls.to_string(), paced.failed.to_string()], figures.to_vec()].concat()
        };
        let beside = format!(
            "beside {} RSA-4096 signatures/s of {} callers, {} new keys/s",
            number(self.signatures_per_second),
            self.signers,
            number(self.keys_per_second)
        );
        vec![row(format!("{}/s alone", self.calls_per_second), &self.alone), row(beside, &self.beside)]
    }
}
