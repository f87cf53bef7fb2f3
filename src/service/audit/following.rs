//! The log as it grows, a portion at a time, for as long as its reader may read it.

use std::sync::Arc;

use super::{of_index, record_name};
use crate::{
    access::{Permit, ops},
    audit::index::{FoundRecord, Order, Page, Query},
    service::{Caller, Problem, Service, ServiceError},
};

/// The most records of a portion.
const RECORDS_MAX: usize = 256;

/// A place in the log, and the right to read on from there.
pub struct Following {
    service: Arc<Service>,
    caller: Caller,
    permit: Permit<ops::AuditRecordsRead>,
    query: Query,
    next: u64,
}

impl std::fmt::Debug for Following {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Following").field("query", &self.query).field("next", &self.next).finish_non_exhaustive()
    }
}

/// Some of the log.
#[derive(Clone, Debug)]
pub struct Portion {
    /// What was asked for of it, oldest first; there may be none.
    pub records: Vec<FoundRecord>,
    /// Where the next begins.
    pub next: u64,
}

impl Following {
    pub(super) const fn new(
        service: Arc<Service>,
        caller: Caller,
        permit: Permit<ops::AuditRecordsRead>,
        query: Query,
        next: u64,
    ) -> Self {
        Self { service, caller, permit, query, next }
    }

    /// Where it goes on.
    #[must_use]
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Whether there is anything to be looked at. Cheap.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.service.log.readable() > self.next
    }

    /// Looks at some more of the log: a bounded part, in which there may be nothing that is asked for.
    ///
    /// # Errors
    /// [`Problem::Denied`] once the right is gone; [`Problem::Pruned`] where records that may be asked for are not
    /// there; when the log cannot be read.
    pub async fn more(&mut self) -> Result<Portion, ServiceError> {
        self.check()?;
        let readable = self.service.log.readable();
        if readable <= self.next {
            return Ok(Portion { records: Vec::new(), next: self.next });
        }
        let page = Page { order: Order::OldestFirst, after: self.next.checked_sub(1), limit: RECORDS_MAX };
        let mut found = self.service.index.find(readable, &self.query, &page).await.map_err(of_index)?;
        if found.pruned > 0 {
            return Err(Problem::Pruned { name: record_name(self.next) }.into());
        }
        let sight = self.service.sight(&self.caller, &self.permit);
        found.records.retain(|found| sight.shows(&found.record));
        self.next = found.next.map_or(readable, |last| last + 1);
        Ok(Portion { records: found.records, next: self.next })
    }

    /// Whether the right still holds.
    ///
    /// # Errors
    /// [`Problem::Denied`].
    pub fn check(&self) -> Result<(), ServiceError> {
        if self.permit.still_holds() { Ok(()) } else { Err(self.permit.denied().into()) }
    }
}
