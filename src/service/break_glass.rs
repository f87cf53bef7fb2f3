//! Breaking the glass: administration regained at the console, with the HSM's PIN.
//!
//! No role is asked for: whoever could have the workers log in knows the PIN, and that is the right. All else is as
//! with any change: intent, sealed row, head, outcome. It adds one assignment and changes nothing that is there.
//!
//! The role it gives is one of its own, with the rights of `administrator`: it is seen for what it is, in the log at
//! each start and in a metric, until somebody takes it away.

use super::{
    Caller, Service,
    assignments::{described, resource},
    door::ending,
    error::{Problem, ServiceError},
    scopes::{ByItself, Making, NewRow, Put},
};
use crate::{
    audit::{Durability, Kind, Log, Outcome, Record},
    failpoint,
    model::{ADMINISTRATOR, AssignmentRow, BREAK_GLASS, Principal, Scope, Timestamp, VersionId},
    store::HeadScope,
};

/// The operation, as the log names it.
pub const OPERATION: &str = "access.breakGlass";

/// Why, in one line of printable text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason(String);

impl std::str::FromStr for Reason {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.is_empty() || text.chars().count() > 256 || text.chars().any(char::is_control) {
            return Err("1 to 256 characters on one line");
        }
        Ok(Self(text.to_owned()))
    }
}

/// Who is to be administrator of everything, and why.
#[derive(Clone, Debug)]
pub struct BreakGlass {
    /// Who.
    pub principal: Principal,
    /// Why.
    pub reason: Reason,
}

/// What it has come to.
#[derive(Debug)]
pub struct BrokenGlass {
    /// The assignment.
    pub assignment: AssignmentRow,
    /// Whether it was there before.
    pub existed: bool,
}

impl BreakGlass {
    fn detail(&self) -> String {
        let given = described(BREAK_GLASS, &Scope::Service, &self.principal);
        format!("{given}; reason: {}", self.reason.0)
    }

    fn record(&self, caller: &Caller, now: Timestamp, kind: Kind, outcome: Outcome) -> Record {
        Record {
            principal: Some(caller.principal().as_str().to_owned()),
            source: Some(caller.source.clone()),
            resource: Some("roleAssignments".to_owned()),
            request: Some(caller.request.clone()),
            detail: Some(self.detail()),
            ..Record::new(now, kind, OPERATION, outcome)
        }
    }

    /// Records that the HSM refused the PIN.
    ///
    /// # Errors
    /// When the log fails.
    pub async fn record_refused_pin(&self, log: &Log, caller: &Caller, now: Timestamp) -> Result<(), ServiceError> {
        let mut record = self.record(caller, now, Kind::Operation, Outcome::Refused);
        record.reason = Some("PIN_REFUSED".to_owned());
        log.append_reserved(record, Durability::Fsync).await?;
        Ok(())
    }

    fn is(&self, row: &AssignmentRow) -> bool {
        row.principal == self.principal
            && [ADMINISTRATOR, BREAK_GLASS].contains(&row.role)
            && row.scope == Scope::Service
    }
}

impl Service {
    /// How many were made administrator at the console and still are.
    #[must_use]
    pub fn broken_glass(&self) -> usize {
        self.policy.now().assignments().filter(|row| row.role == BREAK_GLASS).count()
    }

    /// Says in the program's log who was made administrator at the console and still is.
    pub(super) fn say_broken_glass(&self) {
        for row in self.policy.now().assignments().filter(|row| row.role == BREAK_GLASS) {
            tracing::error!(principal = %row.principal, assignment = resource(row.id), since = %row.created, "somebody is administrator by break-glass: assign a role in the ordinary way, and take this one away");
        }
    }

    /// Makes somebody administrator of everything, whatever roles there are.
    ///
    /// # Errors
    /// When store, log or HSM fail; [`Problem::RecordPending`] when it is done and its outcome could not be recorded.
    pub async fn break_glass(&self, caller: &Caller, asked: &BreakGlass) -> Result<BrokenGlass, ServiceError> {
        tracing::error!(principal = %asked.principal, reason = asked.reason.0, "the glass is broken: somebody is made administrator at the console");
        let locked = self.catalog.scopes.lock(HeadScope::Service, caller.deadline).await?;
        let rows = self.catalog.assignments(caller.deadline).await?;
        let now = self.clock.now();
        if let Some(found) = rows.iter().find(|checked| asked.is(&checked.row)) {
            let mut record = asked.record(caller, now, Kind::Operation, Outcome::Done);
            record.resource = Some(resource(found.row.id));
            record.reason = Some("ALREADY_ADMINISTRATOR".to_owned());
            self.log.append_reserved(record, Durability::Fsync).await?;
            return Ok(BrokenGlass { assignment: AssignmentRow::clone(&found.row), existed: true });
        }
        let id = VersionId::from_bytes(super::fresh_id());
        let mut intent = asked.record(caller, now, Kind::Intent, Outcome::Pending);
        intent.resource = Some(resource(id));
        let index = self.log.append_reserved(intent, Durability::Fsync).await?;
        failpoint::hit("service.after_intent");
        let row = AssignmentRow {
            id,
            principal: asked.principal.clone(),
            role: BREAK_GLASS,
            scope: Scope::Service,
            created: now,
            intent: index,
            revision: 1,
        };
        let making =
            Making { name: OPERATION, right: &ByItself, intent: index, request: None, deadline: caller.deadline };
        let put = Put::insert(NewRow::Assignment(row.clone()));
        let committed = self.catalog.scopes.commit(&locked, making, vec![put]).await;
        failpoint::hit("service.before_outcome");
        if let Err(error @ ServiceError { problem: Problem::Unknown { .. }, .. }) = committed {
            // The intent stays open, and the next start settles it.
            return Err(error);
        }
        let mut record = asked.record(caller, self.clock.now(), Kind::Outcome, Outcome::Done);
        (record.resource, record.intent) = (Some(resource(id)), Some(index));
        let (outcome, reason) = ending(committed.as_ref().err());
        (record.outcome, record.reason) = (outcome, reason.map(str::to_owned));
        record.heads = committed.iter().map(|committed| committed.mark.clone()).collect();
        let recorded = self.log.append_reserved(record, Durability::Fsync).await;
        committed?;
        self.policy.set(self.policy.now().with_assignment(row.clone()));
        recorded.map_err(|error| ServiceError::because(Problem::RecordPending, error))?;
        Ok(BrokenGlass { assignment: row, existed: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_that_says_something() {
        for right in ["the only administrator left", &"x".repeat(256), " schlüssel verloren "] {
            assert!(right.parse::<Reason>().is_ok(), "{right}");
        }
        for wrong in ["", "  ", "two\nlines", "\u{1b}[2J", &"x".repeat(257)] {
            assert!(wrong.parse::<Reason>().is_err(), "{wrong:?}");
        }
    }
}
