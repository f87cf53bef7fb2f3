//! What an answer means for its call and for its worker.

use std::time::Duration;

use crate::{
    error::Error,
    pool::{expect, live::UnderWay, log, state::Ended, state::State, timing::Served},
    protocol::{Answer, Damage, Fault, Moment, Response},
};

/// Why a worker is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Its end of the socket closed.
    Ended,
    /// A call ran longer than the lane allows.
    Hung,
    /// It said what no honest worker says.
    Lied(&'static str),
    /// Its canary did not sign, or not in time.
    Canary(String),
    /// The module said that the login or the token is gone.
    Module(String),
    /// It answered that its PIN was refused.
    PinRefused,
    /// Its successor serves, and nothing is left for it to do.
    Drained,
    /// The pool ends.
    Stopped,
}

impl Reason {
    /// The label in metrics: a closed set.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Hung => "hung",
            Self::Lied(_) => "lied",
            Self::Canary(_) => "canary",
            Self::Module(_) => "module",
            Self::PinRefused => "pin",
            Self::Drained => "recycled",
            Self::Stopped => "stopped",
        }
    }

    /// For health and logs.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Ended => "the worker ended".to_owned(),
            Self::Hung => "the module did not answer in time".to_owned(),
            Self::Lied(what) => format!("the worker broke its protocol: {what}"),
            Self::Canary(why) => log::printable(&format!("the canary did not sign: {why}")),
            Self::Module(why) => log::printable(why),
            Self::PinRefused => Fault::PinRefused.to_string(),
            Self::Drained => "recycled".to_owned(),
            Self::Stopped => "stopped".to_owned(),
        }
    }
}

/// What follows from one answer.
enum Verdict {
    /// The call ends.
    End(Result<Response, Error>),
    /// The same worker is asked again, with the row.
    AskAgain,
    /// The worker is to be replaced; the call may survive that, else it ends with the fault.
    Replace(Reason, Fault),
    /// No honest worker says this.
    Lie(&'static str),
}

/// The consequences of a packet of answers.
#[derive(Default)]
pub(super) struct Outcome {
    /// Calls that end, to be told outside the lock.
    pub(super) ended: Vec<Ended>,
    /// Their work in the module, in nanoseconds.
    pub(super) service_ns: Vec<u64>,
    /// The worker is to be replaced.
    pub(super) reason: Option<Reason>,
}

impl State {
    /// Applies a packet of answers of the worker of that generation, which come in the order of its calls.
    pub(super) fn answer(&mut self, generation: u64, answers: Vec<Answer>) -> Outcome {
        let mut outcome = Outcome::default();
        let Some(index) = self.index(generation) else { return outcome };
        self.live[index].answered_at = Moment::now();
        for answer in answers {
            let live = &mut self.live[index];
            if live.under_way.front().is_none_or(|oldest| oldest.id != answer.id) {
                outcome.reason = Some(Reason::Lied("an answer to no call, or out of order"));
                break;
            }
            let Some(mut under_way) = live.under_way.pop_front() else { break };
            under_way.waiting.served = Some(Served {
                seat: live.seat,
                sent_at: under_way.sent_at,
                answered_at: live.answered_at,
                service: Duration::from_nanos(answer.service_ns),
                with_row: under_way.with_row,
            });
            outcome.service_ns.push(answer.service_ns);
            if under_way.waiting.work.is_canary() {
                outcome.reason = self.answer_canary(index, answer.result);
            } else {
                self.apply(index, under_way, answer.result, &mut outcome);
            }
            if matches!(outcome.reason, Some(Reason::Lied(_))) {
                break;
            }
        }
        let live = &mut self.live[index];
        if live.under_way.is_empty() {
            live.sole = false;
        }
        if outcome.reason.is_some() {
            live.doomed = true;
            live.draining = true;
        }
        if outcome.reason.is_none() && live.draining && !live.doomed && live.is_idle() {
            outcome.reason = Some(Reason::Drained);
        }
        for service_ns in &outcome.service_ns {
            self.note_service(*service_ns);
        }
        outcome
    }

    fn answer_canary(&mut self, index: usize, result: Result<Response, Fault>) -> Option<Reason> {
        let live = &mut self.live[index];
        live.canary_waits = false;
        match result {
            Ok(Response::Done) => {
                live.canary_at = Moment::now();
                None
            }
            Ok(_) => Some(Reason::Lied("a canary answer of another kind")),
            // It waited too long behind other work: the next one will tell.
            Err(Fault::Expired) => None,
            Err(Fault::PinRefused) => Some(Reason::PinRefused),
            Err(fault) => Some(Reason::Canary(fault.to_string())),
        }
    }

    fn apply(&mut self, index: usize, mut under_way: UnderWay, result: Result<Response, Fault>, outcome: &mut Outcome) {
        match judge(&under_way, result) {
            Verdict::End(result) => {
                if let (Err(Error::Fault(fault)), Some(seal)) = (&result, under_way.waiting.work.seal())
                    && is_about_the_key(fault)
                {
                    self.live[index].known.forget(seal);
                }
                outcome.ended.push((under_way.waiting, result));
            }
            Verdict::AskAgain => {
                under_way.waiting.row_wanted = true;
                self.live[index].own.push_back(under_way.waiting);
            }
            Verdict::Replace(reason, fault) => {
                outcome.reason.get_or_insert(reason);
                if under_way.waiting.survives_loss() {
                    self.put_back(under_way.waiting);
                } else {
                    outcome.ended.push((under_way.waiting, Err(Error::Fault(fault))));
                }
            }
            Verdict::Lie(what) => {
                outcome.reason = Some(Reason::Lied(what));
                // It counts as under way: the loss of the worker decides what becomes of it.
                self.live[index].under_way.push_front(under_way);
            }
        }
    }
}

fn judge(under_way: &UnderWay, result: Result<Response, Fault>) -> Verdict {
    let work = &under_way.waiting.work;
    match result {
        Ok(response) if expect::fits(work, &response) => Verdict::End(Ok(response)),
        Ok(_) => Verdict::Lie("an answer that its call cannot have"),
        Err(Fault::KeyNotLoaded) if work.row().is_none() => Verdict::Lie("a key is missing for a call without one"),
        Err(Fault::KeyNotLoaded) if under_way.with_row => Verdict::Lie("a key is missing although its row was sent"),
        Err(Fault::KeyNotLoaded) => Verdict::AskAgain,
        Err(Fault::Expired) => Verdict::End(Err(Error::Expired)),
        Err(Fault::PinRefused) => Verdict::Replace(Reason::PinRefused, Fault::PinRefused),
        Err(fault @ Fault::Module { damage: Damage::Login | Damage::Token, .. }) => {
            Verdict::Replace(Reason::Module(fault.to_string()), fault)
        }
        Err(fault) => Verdict::End(Err(Error::Fault(fault))),
    }
}

/// Whether the worker does not have the key after this fault.
fn is_about_the_key(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::SealBroken | Fault::KeyMismatch | Fault::BlobBroken | Fault::KeyAbsent | Fault::Module { .. }
    )
}
