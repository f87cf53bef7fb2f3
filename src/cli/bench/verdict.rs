//! The harness's checks of itself: what a run's figures are worth.

use std::time::Duration;

use super::{
    measure::Form,
    report::{CaseView, Report, RowView},
};
use crate::{
    bench::usage::Clocks,
    cli::check::{Check, Checks},
};

/// From so many callers on, the machine ought to be busy.
const MANY: usize = 64;
/// Busy enough.
const BUSY_MIN: f64 = 0.9;
/// What others may use of the machine meanwhile.
const OTHERS_MAX: f64 = 0.1;
/// How far rounds may lie apart.
const SPREAD_MAX: f64 = 0.15;
/// The coarsest clock that microseconds can be read from.
const STEP_MAX: Duration = Duration::from_micros(1);
/// How far wall clock and monotonic clock may go apart: a thousandth.
const DRIFT_MAX: f64 = 0.001;

/// Every check of a run.
pub(super) fn checks(report: &Report, clocks: &Clocks) -> Vec<Check> {
    let rows: Vec<(&CaseView, &RowView)> =
        report.cases.iter().flat_map(|case| case.rows.iter().map(move |row| (case, row))).collect();
    let mut checks = Checks::default();
    answers(&mut checks, &rows);
    failures(&mut checks, &rows);
    saturation(&mut checks, &rows);
    others(&mut checks, &rows);
    spread(&mut checks, &rows, report.settings.rounds);
    clock(&mut checks, clocks);
    build(&mut checks);
    checks.0
}

fn named(rows: &[(&CaseView, &RowView)], figure: impl Fn(&RowView) -> String) -> String {
    let named =
        rows.iter().map(|(case, row)| format!("{} {} {}: {}", case.name(), row.form.name(), row.clients, figure(row)));
    named.collect::<Vec<_>>().join("; ")
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn those<'a>(rows: &[(&'a CaseView, &'a RowView)], is: impl Fn(&RowView) -> bool) -> Vec<(&'a CaseView, &'a RowView)> {
    rows.iter().copied().filter(|(_, row)| is(row)).collect()
}

/// Some answers of each row were looked at, and all were right.
fn answers(checks: &mut Checks, rows: &[(&CaseView, &RowView)]) {
    let wrong = those(rows, |row| row.wrong > 0 || row.right == 0);
    let right: u64 = rows.iter().map(|(_, row)| row.right).sum();
    if wrong.is_empty() {
        checks.ok("answers", format!("{right} looked at, of every row some: signatures verify, ciphertexts decrypt"));
    } else {
        checks.wrong("answers", named(&wrong, |row| format!("{} right, {} wrong", row.right, row.wrong)));
    }
}

fn failures(checks: &mut Checks, rows: &[(&CaseView, &RowView)]) {
    let failed = those(rows, |row| row.failed > 0);
    if failed.is_empty() {
        checks.ok("failures", "no call failed");
    } else {
        let said = |row: &RowView| format!("{} ({})", row.failed, row.error.as_deref().unwrap_or_default());
        checks.wrong("failures", named(&failed, said));
    }
}

/// A machine that is not busy was waiting for something else than CPU: a disk, an HSM, a lane with too few
/// workers. Then the ceiling is not what holds it.
fn saturation(checks: &mut Checks, rows: &[(&CaseView, &RowView)]) {
    let many = those(rows, |row| row.clients >= MANY && row.form != Form::Raw);
    let idle = those(&many, |row| row.busy < BUSY_MIN);
    if many.is_empty() {
        checks.note("saturation", format!("no row has {MANY} callers: the machine was not asked for all it has"));
    } else if idle.is_empty() {
        checks.ok("saturation", format!("with {MANY} callers and more, the cores were busy to {}", percent(BUSY_MIN)));
    } else {
        checks.note("saturation", format!("cores that were not busy: {}", named(&idle, |row| percent(row.busy))));
    }
}

fn others(checks: &mut Checks, rows: &[(&CaseView, &RowView)]) {
    let disturbed = those(rows, |row| row.others > OTHERS_MAX);
    if disturbed.is_empty() {
        checks.ok("other load", format!("nothing else used more than {} of the cores", percent(OTHERS_MAX)));
    } else {
        checks.note("other load", named(&disturbed, |row| percent(row.others)));
    }
}

fn spread(checks: &mut Checks, rows: &[(&CaseView, &RowView)], rounds: u32) {
    let wide = those(rows, |row| row.spread > SPREAD_MAX);
    if rounds < 2 {
        checks.note("rounds", "one: how far rounds lie apart is not known");
    } else if wide.is_empty() {
        checks.ok("rounds", format!("{rounds}, no more than {} apart", percent(SPREAD_MAX)));
    } else {
        checks.note("rounds", format!("far apart: {}", named(&wide, |row| percent(row.spread))));
    }
}

fn clock(checks: &mut Checks, clocks: &Clocks) {
    let (apart, passed) = clocks.drift();
    let share = apart.as_secs_f64() / passed.as_secs_f64().max(1e-9);
    let found = format!(
        "steps of {:?}, {:?} to read; {apart:?} apart from the wall clock after {:.1} s",
        clocks.step,
        clocks.cost,
        passed.as_secs_f64()
    );
    if clocks.step > STEP_MAX || share > DRIFT_MAX {
        checks.note("clock", found);
    } else {
        checks.ok("clock", found);
    }
}

fn build(checks: &mut Checks) {
    if cfg!(debug_assertions) {
        checks.note("build", "not a release: slower than what is shipped (cargo build --release)");
    } else {
        checks.ok("build", "a release");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{check::Verdict, page::report};

    fn verdicts(change: impl Fn(&mut RowView)) -> Vec<(String, Verdict)> {
        let mut report = report();
        report.cases.iter_mut().flat_map(|case| &mut case.rows).for_each(change);
        let checks = checks(&report, &Clocks::look());
        checks.into_iter().map(|check| (check.what, check.verdict)).collect()
    }

    fn of(verdicts: &[(String, Verdict)], what: &str) -> Verdict {
        verdicts.iter().find(|(name, _)| name == what).map(|(_, verdict)| *verdict).expect("is checked")
    }

    #[test]
    fn a_run_without_trouble_is_worth_its_figures() {
        let verdicts = verdicts(|_| ());
        for what in ["answers", "failures", "saturation", "other load", "rounds"] {
            assert_eq!(of(&verdicts, what), Verdict::Ok, "{what}");
        }
    }

    #[test]
    fn what_was_not_looked_at_or_is_wrong_is_wrong() {
        assert_eq!(of(&verdicts(|row| row.wrong = 1), "answers"), Verdict::Wrong);
        assert_eq!(of(&verdicts(|row| row.right = 0), "answers"), Verdict::Wrong);
        assert_eq!(of(&verdicts(|row| row.failed = 1), "failures"), Verdict::Wrong);
    }

    #[test]
    fn what_makes_figures_doubtful_is_noted() {
        assert_eq!(of(&verdicts(|row| row.busy = 0.89), "saturation"), Verdict::Note);
        assert_eq!(of(&verdicts(|row| row.clients = 8), "saturation"), Verdict::Note);
        assert_eq!(of(&verdicts(|row| row.others = 0.2), "other load"), Verdict::Note);
        assert_eq!(of(&verdicts(|row| row.spread = 0.2), "rounds"), Verdict::Note);
    }
}
