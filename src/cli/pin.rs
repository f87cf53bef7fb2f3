//! `strongroom pin clear-latch` and `strongroom pin change`.

use std::process::ExitCode;

use serde::Serialize;
use strongroom_hsm::{
    StartError,
    pool::provision,
    protocol::{Fault, Provision},
    worker::{LATCH_FILE, staged_pin_path},
};

use super::{
    compose::{self, failure, sync_folder},
    failure::Failure,
    operate::{ChangePinArgs, ClearLatchArgs},
    output::{self, Rows},
    typed_pin::TypedPin,
};

/// What became of the latch.
#[derive(Debug, Serialize)]
pub(super) struct LatchView {
    /// Whether one was set, and is not any more.
    pub(super) cleared: bool,
    /// Its file.
    pub(super) latch: String,
}

impl Rows for LatchView {
    fn head(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let said = if self.cleared {
            "The latch is cleared: the next start tries the PIN again, once. Restart the service if it runs.".to_owned()
        } else {
            format!("No latch is set: there is no {}.", self.latch)
        };
        vec![vec![said]]
    }
}

/// Lets workers try the PIN again.
pub(super) fn clear_latch(args: &ClearLatchArgs) -> anyhow::Result<ExitCode> {
    let config = compose::read(&args.config)?;
    let latch = config.hsm.state_dir.join(LATCH_FILE);
    let cleared = match std::fs::remove_file(&latch) {
        Ok(()) => {
            sync_folder(&config.hsm.state_dir)?;
            true
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(failure(format!("cannot remove {}", latch.display()), &error).into()),
    };
    output::show(args.format.format, &LatchView { cleared, latch: latch.display().to_string() })?;
    Ok(ExitCode::SUCCESS)
}

/// What became of the PIN.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PinChangedView {
    /// The file that holds it.
    pub(super) pin_file: String,
    /// Whether this was the end of a change that was begun before.
    pub(super) was_begun: bool,
}

impl Rows for PinChangedView {
    fn head(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let begun = if self.was_begun { " A change that was begun before is finished." } else { "" };
        let said = "Running workers stay logged in; those that start later read it there.";
        vec![vec![format!("The token has the PIN that is in {} now.{begun} {said}", self.pin_file)]]
    }
}

/// Gives the token's user another PIN.
pub(super) fn change(args: &ChangePinArgs) -> anyhow::Result<ExitCode> {
    // The PIN is typed here.
    compose::close_memory();
    let config = compose::read(&args.config)?;
    let was_begun = staged_pin_path(&config.hsm.pin_file).exists();
    let profile = config.hsm.profile(compose::program()?);
    compose::runtime()?.block_on(async {
        let mut typed = None;
        if args.new_pin_file.is_none() && !was_begun {
            typed = Some(TypedPin::ask_new().await?);
        }
        let new_pin_file = args.new_pin_file.clone().or_else(|| typed.as_ref().map(TypedPin::path));
        let asked = vec![Provision::ChangePin { new_pin_file }];
        provision(&profile, asked).await.map_err(|error| unchanged(&error))?;
        anyhow::Ok(())
    })?;
    let pin_file = config.hsm.pin_file.display().to_string();
    output::show(args.format.format, &PinChangedView { pin_file, was_begun })?;
    Ok(ExitCode::SUCCESS)
}

/// Why it is not changed, or not known to be.
fn unchanged(error: &StartError) -> Failure {
    let shown = compose::hsm_failure("the PIN is not changed", error);
    match error {
        // They say themselves what is to be done.
        StartError::Refused { source: Fault::Setup(_) | Fault::PinRefused, .. } => shown,
        _ => shown.hint("the same command without --new-pin-file finds out which PIN the token has, and finishes"),
    }
}
