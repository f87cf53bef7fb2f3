//! `bench --check`: what this release is held to, as ratios within one run. Docs/performance.md says why each stands where it
//! stands.

use super::{
    measure::Form,
    report::{CaseView, RowView, number},
};
use crate::cli::check::Checks;

/// What a target bounds.
#[derive(Clone, Copy, Debug)]
enum Of {
    /// The throughput, as a share of the composite ceiling: at least.
    Ceiling,
    /// The throughput, as a share of one raw process: at least.
    Raw,
    /// The CPU time that we add to raw PKCS#11 and bare gRPC, server and workers, in microseconds: at most.
    OwnCpu,
    /// The median latency above that of bare gRPC, in microseconds: at most.
    Above,
}

struct Target {
    algorithm: &'static str,
    form: Form,
    clients: usize,
    of: Of,
    bound: f64,
}

const fn target(algorithm: &'static str, form: Form, clients: usize, of: Of, bound: f64) -> Target {
    Target { algorithm, form, clients, of, bound }
}

/// Batches are measured with so many callers.
const BULK: usize = 8;

const TARGETS: [Target; 13] = [
    target("PS256", Form::Unary, 64, Of::Ceiling, 0.85),
    target("PS256", Form::Unary, 256, Of::Ceiling, 0.85),
    target("ES256", Form::Unary, 64, Of::Ceiling, 0.80),
    target("ES256", Form::Unary, 256, Of::Ceiling, 0.80),
    target("ES256", Form::Unary, 8, Of::Ceiling, 0.75),
    target("A256GCM", Form::Unary, 64, Of::Ceiling, 0.75),
    target("A256GCM", Form::Unary, 256, Of::Ceiling, 0.75),
    target("ES256", Form::Batch, BULK, Of::Raw, 1.6),
    target("A256GCM", Form::Batch, BULK, Of::Raw, 0.90),
    target("PS256", Form::Unary, 64, Of::OwnCpu, 10.0),
    target("ES256", Form::Unary, 64, Of::OwnCpu, 10.0),
    target("A256GCM", Form::Unary, 64, Of::OwnCpu, 10.0),
    target("A256GCM", Form::Unary, 1, Of::Above, 60.0),
];

/// How many callers are needed for all of them.
pub(super) const CLIENTS: [usize; 4] = [1, 8, 64, 256];
/// How often each row is measured: the median of five.
pub(super) const ROUNDS: u32 = 5;

/// Holds the rows of a run against every target. A target whose row was not measured is wrong.
pub(super) fn check(checks: &mut Checks, cases: &[CaseView]) {
    for target in &TARGETS {
        let form = target.form.name();
        let what = format!("{} {form} {}", target.algorithm, target.clients);
        let case = cases.iter().find(|case| case.algorithm == target.algorithm);
        let found = case.and_then(|case| target.found(case));
        let Some(found) = found else {
            checks.wrong(&what, "not measured");
            continue;
        };
        let (is_met, said) = match target.of {
            Of::Ceiling => (found >= target.bound, format!("{found:.2} of C; at least {:.2}", target.bound)),
            Of::Raw => (found >= target.bound, format!("{found:.2} of raw; at least {:.2}", target.bound)),
            Of::OwnCpu => {
                let added = format!("{} us of CPU added to raw and echo; at most {:.0}", number(found), target.bound);
                (found <= target.bound, added)
            }
            Of::Above => {
                let above =
                    format!("half of the calls take {} us more than echo; at most {:.0}", number(found), target.bound);
                (found <= target.bound, above)
            }
        };
        if is_met { checks.ok(&what, said) } else { checks.wrong(&what, said) }
    }
}

impl Target {
    fn found(&self, case: &CaseView) -> Option<f64> {
        let row = |form, clients| case.rows.iter().find(|row| row.form == form && row.clients == clients);
        let ours = row(self.form, self.clients)?;
        let echo = || row(self.form.echo()?, self.clients);
        let cpu = |row: &RowView| row.server_cpu_us + row.workers_cpu_us;
        match self.of {
            Of::Ceiling => ours.of_ceiling,
            Of::Raw => ours.of_raw,
            Of::OwnCpu => Some(cpu(ours) - cpu(echo()?) - cpu(row(Form::Raw, 1)?)),
            Of::Above => Some(ours.p50_us - echo()?.p50_us),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{check::Verdict, page::report};

    /// A run that has every row, all alike but for what is changed.
    fn cases(change: impl Fn(&mut RowView)) -> Vec<CaseView> {
        let forms = [Form::Raw, Form::Echo, Form::Unary, Form::EchoBatch, Form::Batch];
        let case = |algorithm: &str| {
            let mut case = report().cases.remove(0);
            let like = case.rows[0].clone();
            let rows = forms.iter().flat_map(|form| CLIENTS.map(|clients| (*form, clients)));
            case.algorithm = algorithm.to_owned();
            case.rows = rows
                .map(|(form, clients)| {
                    let mut row = RowView { form, clients, of_ceiling: Some(0.9), of_raw: Some(1.7), ..like.clone() };
                    (row.p50_us, row.server_cpu_us, row.workers_cpu_us) = (100.0, 10.0, 5.0);
                    if form == Form::Unary {
                        (row.p50_us, row.server_cpu_us) = (160.0, 35.0);
                    }
                    change(&mut row);
                    row
                })
                .collect();
            case
        };
        ["PS256", "ES256", "A256GCM"].map(case).into()
    }

    fn wrong(cases: &[CaseView]) -> Vec<String> {
        let mut checks = Checks::default();
        check(&mut checks, cases);
        assert_eq!(checks.0.len(), TARGETS.len());
        let wrong = checks.0.into_iter().filter(|check| check.verdict == Verdict::Wrong);
        wrong.map(|check| check.what).collect()
    }

    #[test]
    fn what_reaches_every_target_is_right() {
        assert_eq!(wrong(&cases(|_| ())), Vec::<String>::new());
    }

    #[test]
    fn what_falls_short_is_wrong_and_so_is_what_was_not_measured() {
        let slow = |form: Form, clients: usize| {
            move |row: &mut RowView| {
                if row.form == form && row.clients == clients {
                    (row.of_ceiling, row.of_raw) = (Some(0.74), Some(0.89));
                }
            }
        };
        assert_eq!(wrong(&cases(slow(Form::Unary, 8))), ["ES256 unary 8"]);
        assert_eq!(wrong(&cases(slow(Form::Batch, 8))), ["ES256 batch 8", "A256GCM batch 8"]);
        let dear = |row: &mut RowView| row.server_cpu_us += if row.form == Form::Unary { 0.1 } else { 0.0 };
        assert_eq!(wrong(&cases(dear)), ["PS256 unary 64", "ES256 unary 64", "A256GCM unary 64"]);
        let late = |row: &mut RowView| row.p50_us += if row.form == Form::Unary { 0.1 } else { 0.0 };
        assert_eq!(wrong(&cases(late)), ["A256GCM unary 1"]);
        assert_eq!(wrong(&[]).len(), TARGETS.len());
    }
}
