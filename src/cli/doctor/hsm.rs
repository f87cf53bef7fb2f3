//! What is in the HSM, and what its module can do. The PIN is tried by one worker at a time, and not at
//! all while the latch is set: a doctor must not lock the token.

use std::{fs, path::Path, time::Duration};

use strongroom_hsm::{
    Pool, Profile, StartError,
    pool::{Provisioned, provision},
    profile::{Sandbox, TokenName},
    protocol::{Capabilities, Provision},
    worker::LATCH_FILE,
};

use super::{Checks, Verdict, compose};
use crate::{cli::failure::Failure, config::Config, model::InstanceRow};

/// Asks the HSM of a configuration.
pub(super) async fn examine(checks: &mut Checks, config: &Config, instance: Option<InstanceRow>) -> anyhow::Result<()> {
    let latch = config.hsm.state_dir.join(LATCH_FILE);
    if latch.exists() {
        let found = format!(
            "set: a PIN was refused ({}); correct the PIN file, then `strongroom pin clear-latch`",
            latch.display()
        );
        checks.wrong("PIN latch", found);
        return Ok(());
    }
    checks.ok("PIN latch", "not set");
    let mut profile = config.hsm.profile(compose::program()?);
    // One worker in each lane is enough to ask, and leaves sessions to the service.
    profile.lanes.values_mut().for_each(|lane| lane.workers = 1);
    let probed = provision(&profile, vec![Provision::Probe]).await;
    let Some(answers) =
        checks.of("token and PIN", probed.map_err(hsm), |_| format!("{} opens", config.hsm.token.label))
    else {
        return Ok(());
    };
    if let Some(Provisioned::Capabilities(found)) = answers.into_iter().next() {
        summarise(checks, &found);
    }
    let Some(instance) = instance else { return Ok(()) };
    let started = Pool::start(profile, instance.service_keys.clone()).await;
    let Some(pool) = checks.of("root and canary", started.map_err(hsm), |_| {
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

fn hsm(error: StartError) -> Failure {
    compose::hsm_failure("the HSM did not do it", &error)
}

/// What it cannot do, and how much it can.
fn summarise(checks: &mut Checks, found: &Capabilities) {
    checks.ok("module", found.library.clone());
    let works = found.lines.iter().filter(|line| line.works).count();
    checks.ok(
        "capabilities",
        format!("{works} of {} work; `doctor --module PATH` lists all of a SoftHSM module", found.lines.len()),
    );
    for line in found.lines.iter().filter(|line| !line.works) {
        checks.add(line.what.clone(), Verdict::Note, line.note.clone());
    }
}

/// Asks a module what it can do. SoftHSM gets a token of its own in a temporary folder; any other module
/// is only loaded: to make a token on hardware is not for a doctor.
pub(super) async fn module(checks: &mut Checks, module: &Path) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("strongroom-doctor-").tempdir()?;
    let profile = trial(module, folder.path())?;
    let is_softhsm = module.file_name().is_some_and(|name| name.to_string_lossy().contains("softhsm"));
    if !is_softhsm {
        let loaded = provision(&profile, Vec::new()).await;
        checks.of("module", loaded.map_err(hsm), |_| format!("{} loads", module.display()));
        checks.note("capabilities", "name a token with --config FILE to try what it can do");
        return Ok(());
    }
    let so_pin_file = folder.path().join("so-pin");
    let probed = provision(&profile, vec![Provision::InitToken { so_pin_file }, Provision::Probe]).await;
    let answers =
        checks.of("module", probed.map_err(hsm), |_| format!("{} loads, and makes a token", module.display()));
    for answer in answers.into_iter().flatten() {
        if let Provisioned::Capabilities(found) = answer {
            checks.ok("library", found.library.clone());
            for line in found.lines {
                let verdict = if line.works { Verdict::Ok } else { Verdict::Note };
                checks.add(line.what, verdict, line.note);
            }
        }
    }
    Ok(())
}

/// A token for a trial, in a folder that is removed afterwards.
fn trial(module: &Path, folder: &Path) -> anyhow::Result<Profile> {
    use crate::cli::files::{Content, Out};
    let (conf, tokens) = (folder.join("softhsm2.conf"), folder.join("tokens"));
    fs::create_dir(&tokens)?;
    fs::write(
        &conf,
        format!("directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n", tokens.display()),
    )?;
    for name in ["pin", "so-pin"] {
        let pin = uuid::Uuid::new_v4().simple().to_string();
        Out::prepare(&folder.join(name), Content::Secret)?.commit(pin.as_bytes())?;
    }
    let environment = [("SOFTHSM2_CONF".to_owned(), conf.display().to_string())].into();
    Ok(Profile {
        module: module.to_owned(),
        module_parameters: None,
        environment,
        token: TokenName { label: "strongroom-doctor".to_owned(), serial: None },
        pin_file: folder.join("pin"),
        state_dir: folder.to_owned(),
        sync_dirs: Vec::new(),
        sandbox: Sandbox::Strict,
        lanes: Profile::softhsm_lanes(1),
        cached_keys_max: 16,
        loads_max: 1_000_000,
        canary_every: Duration::from_secs(60),
        worker_program: compose::program()?,
        worker_arguments: vec!["hsm-worker".to_owned()],
        faults: std::collections::BTreeMap::new(),
    })
}
