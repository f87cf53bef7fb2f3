//! `backup drill`: all of a recovery, in a scratch folder, with proof that keys work.

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Args;
use serde::Serialize;

use super::{
    restore::{self, Token},
    scratch::Scratch,
};
use crate::{
    backup::Opened,
    cli::{
        compose::{self, Ending, House, failure},
        failure::Failure,
        init,
        output::{self, FormatArgs, Rows},
    },
    config::{Config, LogFormat, LogStyle},
    observe::logging,
    service::prove::{Proof, ProvedVersion},
};

pub(super) const AFTER_HELP: &str = "\
The backup is verified and restored into a scratch folder (0700), which is taken away at the end. The token there is a \
SoftHSM one: made from the escrow with --recovery-key-private, or of the backup's own token files with the PIN file of the \
configuration. Then the service is opened as `serve` opens it, without a listener, and versions of keys are used once each: \
what they sign their public half verifies here, what they encrypt they decrypt. Store, log and token of the configuration \
are not touched. Exit code 1 when a key that should work does not.
The scratch token holds the instance's root while the drill runs: do it where you would do a recovery, and with --scratch \
in memory (/dev/shm).";

/// What `backup drill` takes.
#[derive(Debug, Args)]
pub(in crate::cli) struct DrillArgs {
    /// The backup's folder
    #[arg(value_name = "DIR")]
    backup: PathBuf,
    /// The configuration (TOML) of the instance: how its HSM is used; nothing it names is written to
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The private key (PEM) of one of the recovery keys; without it the backup's own token files are used
    #[arg(long, value_name = "FILE")]
    recovery_key_private: Option<PathBuf>,
    /// How many versions of keys to use, spread over all; or `all`
    #[arg(long, value_name = "N", default_value = "100", value_parser = keys)]
    keys: Keys,
    /// Where to make the scratch folder [default: where temporary files go]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Clone, Copy, Debug)]
struct Keys(Option<u64>);

fn keys(text: &str) -> Result<Keys, String> {
    match text {
        "all" => Ok(Keys(None)),
        number => match number.parse() {
            Ok(number) if number > 0 => Ok(Keys(Some(number))),
            _ => Err("a number from 1, or all".to_owned()),
        },
    }
}

/// What a drill has shown.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct DrillView {
    /// The backup's id.
    pub(in crate::cli) backup: String,
    /// The instance's id.
    pub(in crate::cli) instance: String,
    /// What the scratch token was made from: `recovery-key` or `token-files`.
    pub(in crate::cli) token: &'static str,
    /// Each step and how long it took.
    pub(in crate::cli) steps: Vec<StepView>,
    /// How many versions there are.
    pub(in crate::cli) versions: String,
    /// How many were used and work.
    pub(in crate::cli) proved: String,
    /// Those that could not be used here, and why.
    pub(in crate::cli) unproved: Vec<VersionView>,
    /// Those that do not work.
    pub(in crate::cli) failed: Vec<VersionView>,
}

/// A step of a drill.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct StepView {
    /// Which.
    pub(in crate::cli) step: &'static str,
    /// How long it took, as the protobuf JSON form has durations.
    pub(in crate::cli) took: String,
}

/// A version and what is said of it.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct VersionView {
    /// Its name.
    pub(in crate::cli) name: String,
    /// Why.
    pub(in crate::cli) why: String,
}

impl Rows for DrillView {
    fn head(&self) -> Vec<&'static str> {
        vec!["STEP", "", "FOUND"]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let steps = self.steps.iter().map(|step| vec![step.step.to_owned(), "ok".to_owned(), step.took.clone()]);
        let used = self.unproved.len() + self.failed.len();
        let counted = format!("{} work, {used} not, of {} versions", self.proved, self.versions);
        let counted = vec!["keys".to_owned(), if self.failed.is_empty() { "ok" } else { "WRONG" }.to_owned(), counted];
        let row = |verdict: &str, version: &VersionView| {
            vec!["key".to_owned(), verdict.to_owned(), format!("{}: {}", version.name, version.why)]
        };
        let unproved = self.unproved.iter().map(|version| row("note", version));
        let failed = self.failed.iter().map(|version| row("WRONG", version));
        steps.chain([counted]).chain(failed).chain(unproved).collect()
    }
}

struct Clock(Instant);

impl Clock {
    fn step(&mut self, view: &mut DrillView, step: &'static str) {
        let took = self.0.elapsed();
        self.0 = Instant::now();
        view.steps.push(StepView { step, took: seconds(took) });
    }
}

fn seconds(took: Duration) -> String {
    format!("{}.{:03}s", took.as_secs(), took.subsec_millis())
}

pub(super) fn run(args: &DrillArgs) -> anyhow::Result<ExitCode> {
    logging::start(LogStyle { level: tracing::level_filters::LevelFilter::OFF, format: LogFormat::Text });
    compose::close_memory();
    let config = compose::read(&args.config)?;
    let scratch = Scratch::make(args.scratch.as_deref())?;
    let drilled = compose::runtime()?.block_on(async {
        // Whoever interrupts it is not to leave a token behind.
        let mut ending = Ending::listen()?;
        tokio::select! {
            drilled = drill(args, &config, &scratch) => drilled,
            signal = ending.wait() => Err(Failure::new(format!("the drill was ended by {signal}")).into()),
        }
    });
    let removed = scratch.remove();
    let view = drilled?;
    removed?;
    output::show(args.format.format, &view)?;
    Ok(if view.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

async fn drill(args: &DrillArgs, config: &Config, scratch: &Scratch) -> anyhow::Result<DrillView> {
    let mut clock = Clock(Instant::now());
    let private = args.recovery_key_private.as_deref().map(init::private).transpose()?;
    let opened = restore::verified(&args.backup).await?;
    let mut view = DrillView {
        backup: opened.manifest.id.clone(),
        instance: opened.manifest.instance.clone(),
        token: if private.is_some() { "recovery-key" } else { "token-files" },
        ..DrillView::default()
    };
    clock.step(&mut view, "verify the backup");
    let from = From::from(private.is_some());
    let (there, token) = site(config, scratch, &opened, from)?;
    restore::restore(&args.backup, &opened, &there, token).await?;
    opened.close().await;
    clock.step(&mut view, "restore store and log");
    if let Some(private) = private {
        init::recover_all(&there, private, Some(&scratch.so_pin())).await?;
        clock.step(&mut view, "recover onto a fresh token");
    }
    let store = compose::store(&there.store).await?;
    let instance = compose::instance(&store).await?.ok_or_else(crate::cli::serve::uninitialised)?;
    let house = House::open(&there, there.hsm.profile(compose::program()?), instance, store).await?;
    clock.step(&mut view, "open the service");
    let proved = house.service.prove_versions(args.keys.0).await;
    house.close().await?;
    let (versions, proved) = proved.map_err(|error| failure("the keys could not be used", &error))?;
    clock.step(&mut view, "use the keys");
    view.versions = versions.to_string();
    sort(&mut view, proved, from);
    Ok(view)
}

/// From what the scratch token is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    RecoveryKey,
    TokenFiles,
}

impl std::convert::From<bool> for From {
    fn from(by_key: bool) -> Self {
        if by_key { Self::RecoveryKey } else { Self::TokenFiles }
    }
}

/// The scratch site, and what is done about its token's files.
fn site(config: &Config, scratch: &Scratch, opened: &Opened, from: From) -> anyhow::Result<(Config, Token)> {
    let replica = opened.manifest.replica.parse().map_err(|error| failure("the manifest names no replica", &error))?;
    let config = Config { replica, ..config.clone() };
    match (&opened.manifest.token, from) {
        (_, From::RecoveryKey) => Ok((scratch.config(&config, "strongroom-drill", None)?, Token::LeftAlone)),
        (Some(token), From::TokenFiles) if token.folders.len() == 1 => {
            Ok((scratch.config(&config, &token.label, Some(&config.hsm.pin_file))?, Token::Files))
        }
        (Some(_), From::TokenFiles) => {
            Err(Failure::new("the backup has the files of more than one folder: SoftHSM has one")
                .hint("drill with --recovery-key-private FILE")
                .into())
        }
        (None, From::TokenFiles) => Err(Failure::new("the backup has no token files, and no recovery key was given")
            .hint("--recovery-key-private FILE makes a token from the escrow")
            .hint("`strongroom backup create --with-token` puts a SoftHSM token's files into a backup")
            .into()),
    }
}

fn sort(view: &mut DrillView, found: Vec<ProvedVersion>, from: From) {
    let mut proved = 0;
    for ProvedVersion { name, proof } in found {
        match proof {
            Proof::Proved => proved += 1,
            Proof::Absent(_) if from == From::TokenFiles => {
                let why = "neither it nor what it is wrapped under is in the token's files".to_owned();
                view.failed.push(VersionView { name, why });
            }
            Proof::Unproved(why) | Proof::Absent(why) => view.unproved.push(VersionView { name, why: why.to_owned() }),
            Proof::Failed(why) => view.failed.push(VersionView { name, why }),
        }
    }
    view.proved = proved.to_string();
}
