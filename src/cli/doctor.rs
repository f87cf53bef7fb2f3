//! `strongroom doctor`.
//!
//! The doctor changes nothing: it reads, asks the HSM, and says what each finding means. It exits with 1
//! when something is wrong, so that a script can ask too.

use std::{path::Path, process::ExitCode};

use super::{
    check::{Checks, Verdict},
    compose::{self, failure},
    failure::Failure,
    operate::DoctorArgs,
    output::{self, Format},
};
use crate::{
    config::{self, LogFormat, LogStyle},
    observe::logging,
};

mod hsm;
mod keeping;
mod meaning;
mod module;

/// Checks a configuration and all that it names, or one module.
pub(super) fn run(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    logging::start(LogStyle { level: tracing::level_filters::LevelFilter::ERROR, format: LogFormat::Text });
    let runtime = compose::runtime()?;
    let mut checks = Checks::default();
    let format = args.format.format;
    match (args.config, args.module) {
        (Some(path), None) => runtime.block_on(examine(&mut checks, &path))?,
        (config, Some(module)) => {
            let asked = module::Asked { module, parameters: args.module_parameters, config };
            let report = runtime.block_on(module::examine(&mut checks, asked))?;
            if let (Some(report), Format::Table) = (report, format) {
                output::line(&report.text())?;
                return Ok(checks.exit());
            }
        }
        (None, None) => {
            return Err(Failure::new("nothing to look at").hint("--config FILE, or --module PATH").into());
        }
    }
    output::show(format, &checks)?;
    Ok(checks.exit())
}

async fn examine(checks: &mut Checks, path: &Path) -> anyhow::Result<()> {
    let config = match config::load(path) {
        Ok(config) => config,
        Err(error) => {
            for fault in &error.faults {
                checks.wrong("configuration", fault.to_string());
            }
            return Ok(());
        }
    };
    let faults = config::faults_on_disk(&config);
    for fault in &faults {
        checks.wrong("configuration", fault.to_string());
    }
    if faults.is_empty() {
        checks.ok("configuration", path.display().to_string());
    }
    keeping::tls(checks, &config);
    let instance = keeping::store(checks, &config).await;
    keeping::log(checks, &config, instance.as_ref()).await;
    keeping::exporters(checks, &config);
    hsm::examine(checks, &config, instance.map(|(row, _)| row)).await
}
