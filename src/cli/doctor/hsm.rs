//! What is in the HSM that a configuration names, and what its module can do. The PIN is tried by one worker at
//! a time, and not at all while the latch is set: a doctor must not lock the token.

use std::time::Duration;

use strongroom_hsm::{
    Pool, Profile, StartError,
    pool::{Provisioned, provision},
    protocol::{Capabilities, Provision},
    worker::LATCH_FILE,
};

use super::{
    Checks, compose,
    meaning::{self, Evidence},
    module,
};
use crate::{cli::failure::Failure, config::Config, model::InstanceRow};

/// The workers' way into the HSM of a configuration, unless the PIN latch is set.
pub(super) fn profile(checks: &mut Checks, config: &Config) -> anyhow::Result<Option<Profile>> {
    let latch = config.hsm.state_dir.join(LATCH_FILE);
    if latch.exists() {
        let found = format!(
            "set: a PIN was refused ({}); correct the PIN file, then `strongroom pin clear-latch`",
            latch.display()
        );
        checks.wrong("PIN latch", found);
        return Ok(None);
    }
    checks.ok("PIN latch", "not set");
    let mut profile = config.hsm.profile(compose::program()?);
    // One worker in each lane is enough to ask, and leaves sessions to the service.
    profile.lanes.values_mut().for_each(|lane| lane.workers = 1);
    Ok(Some(profile))
}

/// Asks the HSM of a configuration.
pub(super) async fn examine(checks: &mut Checks, config: &Config, instance: Option<InstanceRow>) -> anyhow::Result<()> {
    let Some(profile) = profile(checks, config)? else { return Ok(()) };
    let probed = provision(&profile, vec![Provision::Probe]).await;
    let Some(answers) = checks
        .of("token and PIN", probed.map_err(|error| hsm(&error)), |_| format!("{} opens", config.hsm.token.label))
    else {
        return Ok(());
    };
    if let Some(Provisioned::Capabilities(found)) = answers.into_iter().next() {
        summarise(checks, &found);
    }
    let Some(instance) = instance else { return Ok(()) };
    let started = Pool::start(profile, instance.worker_keys()).await;
    let Some(pool) = checks.of("root and canary", started.map_err(|error| hsm(&error)), |_| {
        "the root opens the service's keys, the canary signs".to_owned()
    }) else {
        return Ok(());
    };
    let ready = pool.ready();
    if ready.serial == instance.token_serial {
        checks.ok("token serial", ready.serial);
    } else {
        checks.wrong("token serial", format!("{}, but the store belongs to {}", ready.serial, instance.token_serial));
    }
    if ready.unwrap_template {
        checks.ok("root's unwrap template", "PIN and store together open no key");
    } else {
        checks.note("root's unwrap template", "missing: whoever holds PIN and store can read keys");
    }
    pool.shutdown(Duration::from_secs(1)).await;
    Ok(())
}

pub(super) fn hsm(error: &StartError) -> Failure {
    compose::hsm_failure("the HSM did not do it", error)
}

/// What it cannot do, how much it can, and what that means for keys.
fn summarise(checks: &mut Checks, found: &Capabilities) {
    checks.ok("module", found.library.clone());
    let works = found.lines.iter().filter(|line| line.works).count();
    let total = found.lines.len();
    checks.ok("capabilities", format!("{works} of {total} work; with `--module PATH` too, all are listed"));
    for line in found.lines.iter().filter(|line| !line.works) {
        checks.add(line.what.clone(), module::verdict(line), line.note.clone());
    }
    for sentence in meaning::sentences(&found.lines, Evidence::Tried) {
        checks.note(module::MEANING, sentence);
    }
}
