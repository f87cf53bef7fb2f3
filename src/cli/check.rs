//! Checks and their verdicts, as `doctor` and `bench` show them.

use std::process::ExitCode;

use super::{failure::Failure, output::Rows};

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
#[derive(Clone, Debug, serde::Serialize)]
pub(super) struct Check {
    pub(super) what: String,
    pub(super) verdict: Verdict,
    pub(super) found: String,
}

/// The checks so far.
#[derive(Debug, Default, serde::Serialize)]
#[serde(transparent)]
pub(super) struct Checks(pub(super) Vec<Check>);

impl Checks {
    /// One more.
    pub(super) fn add(&mut self, what: impl Into<String>, verdict: Verdict, found: impl Into<String>) {
        self.0.push(Check { what: what.into(), verdict, found: found.into() });
    }

    /// It is right.
    pub(super) fn ok(&mut self, what: &str, found: impl Into<String>) {
        self.add(what, Verdict::Ok, found);
    }

    /// It works, and is worth knowing.
    pub(super) fn note(&mut self, what: &str, found: impl Into<String>) {
        self.add(what, Verdict::Note, found);
    }

    /// It is wrong.
    pub(super) fn wrong(&mut self, what: &str, found: impl Into<String>) {
        self.add(what, Verdict::Wrong, found);
    }

    /// Something that worked, or the failure of what did not.
    pub(super) fn of<T>(
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

    /// Whether anything is wrong.
    pub(super) fn exit(&self) -> ExitCode {
        Self::exit_of(&self.0)
    }

    /// Whether any of these is wrong.
    pub(super) fn exit_of(checks: &[Check]) -> ExitCode {
        let is_wrong = checks.iter().any(|check| check.verdict == Verdict::Wrong);
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
