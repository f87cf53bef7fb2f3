//! `strongroom access break-glass`: an administrator for a service that has none, or none who can be reached.
//!
//! It works on the instance itself, as `serve` does, and checks what `serve` checks. What it asks for is knowledge of
//! the HSM's PIN: a file that a configuration names may be readable for many.

use std::{
    io::{self, IsTerminal as _},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use serde::Serialize;
use strongroom_hsm::{
    Pool, Profile, StartError,
    protocol::{Fault, Moment},
    worker::LATCH_FILE,
};

use super::{
    compose::{self, Held, failure},
    failure::Failure,
    output::{self, Format, FormatArgs},
    serve,
    typed_pin::{self, TypedPin},
};
use crate::{
    config::{Config, LogFormat, LogStyle},
    model::{Identity, Origin, Principal},
    observe::{logging, trace::Trace},
    service::{
        Caller, InForce, Traffic, assignments,
        break_glass::{BreakGlass, BrokenGlass, Reason},
    },
};

pub(super) const AFTER_HELP: &str = "\
Stop the server first. The user PIN of the HSM is asked for, and tried once: when the HSM refuses it, no login is \
tried any more until `strongroom pin clear-latch`. Where standard input is no terminal its first line is the PIN.
It is in the audit log, as access.breakGlass with the reason, whether it succeeds or the PIN is refused. The role is \
`break-glass administrator`; each start of the server says who has it, until it is taken away.";

/// For how long it may take once the workers are there.
const WITHIN: Duration = Duration::from_secs(60);

/// What `access break-glass` takes.
#[derive(Debug, Args)]
pub(super) struct BreakGlassArgs {
    /// The configuration (TOML)
    #[arg(long, value_name = "FILE")]
    config: std::path::PathBuf,
    /// Who becomes administrator, named as in `access grant`
    #[arg(long, value_name = "PRINCIPAL")]
    principal: Principal,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    reason: Reason,
    /// Do not ask again
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    format: FormatArgs,
}

/// What was done.
#[derive(Debug, Serialize)]
pub(super) struct BrokenGlassView {
    /// Who is administrator.
    pub(super) principal: String,
    /// By which assignment.
    pub(super) assignment: String,
    /// Whether it was there before.
    pub(super) existed: bool,
}

impl BrokenGlassView {
    /// For people.
    fn text(&self) -> String {
        let Self { principal, assignment, existed } = self;
        if *existed {
            format!("{principal} is administrator already, by {assignment}. Nothing was changed; it is recorded.")
        } else {
            format!("{principal} is administrator of everything, by {assignment}. Start the server again.")
        }
    }
}

/// Does it.
pub(super) async fn run(args: BreakGlassArgs) -> anyhow::Result<()> {
    if !args.yes && !io::stdin().is_terminal() {
        return Err(Failure::new("there is no terminal to ask at")
            .hint("with --yes nothing is asked, and the PIN is the first line of standard input")
            .into());
    }
    logging::start(LogStyle { level: tracing::level_filters::LevelFilter::WARN, format: LogFormat::Text });
    compose::close_memory();
    let config = compose::read(&args.config)?;
    refuse_latched(&config)?;
    let store = compose::store(&config.store).await?;
    let instance = compose::instance(&store).await?.ok_or_else(serve::uninitialised)?;
    let held = Held::take(&config, &instance, store).await?;
    if !args.yes {
        confirm(&args.principal).await?;
    }
    let pin = TypedPin::ask(&format!("User PIN of the token {:?}:", config.hsm.token.label)).await?;
    let asked = BreakGlass { principal: args.principal, reason: args.reason };
    let caller = console()?;
    let pool = match Pool::start(profile(&config, &pin)?, instance.worker_keys()).await {
        Ok(pool) => pool,
        Err(error) => return Err(unopened(&error, &held, &asked, &caller).await?.into()),
    };
    let house = held.open(&config, pool).await?;
    let caller = Caller { deadline: Moment::now().after(WITHIN), ..caller };
    let done = house.service.break_glass(&caller, &asked).await;
    house.close().await?;
    let BrokenGlass { assignment, existed } = done.map_err(|error| failure("the glass could not be broken", &error))?;
    let principal = assignment.principal.to_string();
    let view = BrokenGlassView { principal, assignment: assignments::resource(assignment.id), existed };
    match args.format.format {
        Format::Json => output::json(&view),
        Format::Table => output::line(&view.text()),
    }
}

/// Whoever sits there, as this machine knows them.
fn console() -> anyhow::Result<Caller> {
    let principal: Principal = format!("unix:uid:{}", rustix::process::getuid().as_raw()).parse()?;
    Ok(Caller {
        identity: Arc::new(Identity::alone(principal)),
        origin: Origin::Local,
        source: "console".to_owned(),
        request: uuid::Uuid::new_v4().to_string(),
        deadline: Moment::now().after(WITHIN),
        traffic: Traffic::Single,
        in_force: InForce::default(),
        trace: Trace::default(),
    })
}

/// One worker in each lane, which logs in with what was typed.
fn profile(config: &Config, pin: &TypedPin) -> anyhow::Result<Profile> {
    let mut profile = Profile { pin_file: pin.path(), ..config.hsm.profile(compose::program()?) };
    profile.lanes.values_mut().for_each(|lane| lane.workers = 1);
    Ok(profile)
}

/// Asked here too, before anybody types a PIN that no worker would try.
fn refuse_latched(config: &Config) -> anyhow::Result<()> {
    let latch = config.hsm.state_dir.join(LATCH_FILE);
    if !latch.exists() {
        return Ok(());
    }
    Err(Failure::new(format!("a PIN was refused before: no login is tried while {} is there", latch.display()))
        .hint("find out why it was refused, then `strongroom pin clear-latch --config FILE`, then this again")
        .into())
}

async fn confirm(principal: &Principal) -> anyhow::Result<()> {
    let question = format!("{principal} becomes administrator of everything, and it is recorded. Type yes to go on:");
    if typed_pin::answer(&question).await?.trim() == "yes" {
        return Ok(());
    }
    Err(Failure::new("nothing was done: that was not yes").into())
}

/// What workers that do not start mean; a refused PIN is recorded.
async fn unopened(error: &StartError, held: &Held, asked: &BreakGlass, caller: &Caller) -> anyhow::Result<Failure> {
    let refused = matches!(error, StartError::Refused { source: Fault::PinRefused, .. });
    if refused {
        let recorded = asked.record_refused_pin(&held.log, caller, held.clock.now()).await;
        recorded.map_err(|error| failure("the HSM refused the PIN, and that could not be recorded", &error))?;
    }
    held.log.close().await.map_err(|error| failure("the log could not be closed", &error))?;
    Ok(if refused {
        Failure::new("the HSM refused the PIN")
            .hint("it is not tried again, for a token locks itself after a few wrong ones; the server does not start either")
            .hint("when you know the right one: `strongroom pin clear-latch --config FILE`, then this again")
    } else {
        compose::hsm_failure("the HSM cannot be used", error)
    })
}
