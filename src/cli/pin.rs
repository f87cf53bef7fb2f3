//! `strongroom pin clear-latch`.

use std::process::ExitCode;

use serde::Serialize;
use strongroom_hsm::worker::LATCH_FILE;

use super::{
    compose::{self, failure, sync_folder},
    operate::ClearLatchArgs,
    output::{self, Rows},
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
