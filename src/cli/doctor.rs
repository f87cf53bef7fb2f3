//! `strongroom doctor`.
//!
//! The doctor changes nothing: it reads, asks the HSM, and says what each finding means. It exits with 1
//! when something is wrong, so that a script can ask too.

use std::{path::Path, process::ExitCode};

use super::{
    compose::{self, failure},
    failure::Failure,
    operate::DoctorArgs,
    output::{self, Rows},
};
use crate::{
    config::{self, LogFormat, LogStyle},
    observe::logging,
};

mod hsm;
mod keeping;

/// Exit code when something is wrong.
const EXIT_WRONG: u8 = 1;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Ok,
    /// Works, and is worth knowing.
    Note,
    Wrong,
}

/// One check.
#[derive(Debug, serde::Serialize)]
pub(super) struct Check {
    pub(super) what: String,
    pub(super) verdict: Verdict,
    pub(super) found: String,
}

/// The checks so far.
#[derive(Debug, Default, serde::Serialize)]
#[serde(transparent)]
struct Checks(Vec<Check>);

impl Checks {
    fn add(&mut self, what: impl Into<String>, verdict: Verdict, found: impl Into<String>) {
        self.0.push(Check { what: what.into(), verdict, found: found.into() });
    }

    fn ok(&mut self, what: &str, found: impl Into<String>) {
        self.add(what, Verdict::Ok, found);
    }

    fn note(&mut self, what: &str, found: impl Into<String>) {
        self.add(what, Verdict::Note, found);
    }

    fn wrong(&mut self, what: &str, found: impl Into<String>) {
        self.add(what, Verdict::Wrong, found);
    }

    /// Something that worked, or the failure of what did not.
    fn of<T>(
        &mut self,
        what: &str,
        result: Result<T, impl Into<Failure>>,
        found: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        match result {
            Ok(value) => {
                self.ok(what, found(&value));
                Some(value)
            }
            Err(error) => {
                self.wrong(what, error.into().to_string().replace('\n', "; "));
                None
            }
        }
    }

    fn exit(&self) -> ExitCode {
        let is_wrong = self.0.iter().any(|check| check.verdict == Verdict::Wrong);
        if is_wrong { ExitCode::from(EXIT_WRONG) } else { ExitCode::SUCCESS }
    }
}

impl Rows for Checks {
    fn head(&self) -> Vec<&'static str> {
        vec!["CHECK", "", "FOUND"]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let word = |verdict| match verdict {
            Verdict::Ok => "ok",
            Verdict::Note => "note",
            Verdict::Wrong => "WRONG",
        };
        self.0
            .iter()
            .map(|check| vec![check.what.clone(), word(check.verdict).to_owned(), check.found.clone()])
            .collect()
    }
}

/// Checks a configuration and all that it names, or one module.
pub(super) fn run(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    logging::start(LogStyle { level: tracing::level_filters::LevelFilter::ERROR, format: LogFormat::Text });
    let runtime = compose::runtime()?;
    let mut checks = Checks::default();
    let format = args.format.format;
    match (args.config, args.module) {
        (Some(path), _) => runtime.block_on(examine(&mut checks, &path))?,
        (None, Some(module)) => runtime.block_on(hsm::module(&mut checks, &module))?,
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
    hsm::examine(checks, &config, instance).await
}
