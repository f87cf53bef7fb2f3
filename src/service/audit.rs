//! Reading the audit log: records, uses, checkpoints and receipts. Reading is itself recorded: once for a call, and
//! once for a stream, when it is opened.
//!
//! Whoever holds `auditRecords.read` at `/` sees everything; whoever holds it at a vault sees what is about that vault
//! and nothing else ([`sight`]).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use strongroom_hsm::protocol::Moment;
use tokio::{task::spawn_blocking, time::sleep};

use super::{
    Caller, Service,
    door::Note,
    error::{Problem, ServiceError},
};
use crate::{
    access::{Permit, Where, ops},
    audit::{
        ReadError, Reader, Record, handover,
        index::{Found, FoundRecord, IndexError, Page, Query, UsePage, Uses},
        prove::{Extension, ProveError, Prover},
        tlog::{Receipt, proof::MakeError, tile::WIDTH},
    },
    model::Scope,
};

mod following;
mod sight;

pub use following::{Following, Portion};

/// How long a receipt waits for the checkpoint that is to cover it; less, when its deadline is sooner.
const SIGNED_WITHIN: Duration = Duration::from_secs(5);
/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often a partial bundle is looked for that was replaced by a wider one in the meantime.
const TRIES_MAX: u32 = 5;

/// Records of a list.
#[derive(Clone, Debug)]
pub struct Listed {
    /// What was found.
    pub found: Found,
    /// So many records were there to be looked at.
    pub readable: u64,
}

/// Who used what.
#[derive(Clone, Debug)]
pub struct Counted {
    /// The counts.
    pub uses: Uses,
    /// So many records were there to be counted.
    pub readable: u64,
}

/// A record and the proof of it.
#[derive(Clone, Debug)]
pub struct Proved {
    /// The record's JSON.
    pub entry: Vec<u8>,
    /// The proof under the newest checkpoint, without the entry.
    pub receipt: Receipt,
}

/// The newest checkpoint and who may have signed it.
#[derive(Clone, Debug)]
pub struct Signed {
    /// It, and the proof that it is an extension.
    pub extension: Extension,
    /// Verifier keys.
    pub keys: Vec<String>,
    /// Signed notes by which one key of the log has handed over to the next.
    pub handovers: Vec<String>,
}

/// The name of a record.
#[must_use]
pub fn record_name(index: u64) -> String {
    format!("auditRecords/{index}")
}

impl Service {
    /// Records that a query asks for, of those that the caller may see.
    ///
    /// # Errors
    /// When the caller may not read what is asked for, or the log cannot be read.
    pub async fn list_audit_records(
        &self,
        caller: &Caller,
        query: &Query,
        page: &Page,
    ) -> Result<Listed, ServiceError> {
        let (note, scope) = (Note::default(), sight::scope(query));
        let work = |permit: Permit<ops::AuditRecordsRead>| async move {
            let readable = self.log.readable();
            let mut found = self.index.find(readable, query, page).await.map_err(of_index)?;
            let sight = self.sight(caller, &permit);
            found.records.retain(|found| sight.shows(&found.record));
            Ok(Listed { found, readable })
        };
        self.plain(caller, sight::resource(&scope), scope, &note, work).await
    }

    /// Who used what, how often.
    ///
    /// # Errors
    /// As for [`Self::list_audit_records`]; [`Problem::Invalid`] for a resource within an object.
    pub async fn list_audit_uses(
        &self,
        caller: &Caller,
        query: &Query,
        page: &UsePage,
    ) -> Result<Counted, ServiceError> {
        let (note, scope) = (Note::default(), sight::scope(query));
        let work = |_: Permit<ops::AuditRecordsRead>| async move {
            let readable = self.log.readable();
            let uses = self.index.uses(readable, query, page).await.map_err(of_index)?;
            Ok(Counted { uses, readable })
        };
        self.plain(caller, sight::resource(&scope), scope, &note, work).await
    }

    /// One record.
    ///
    /// # Errors
    /// When the caller may not see it, whether it is there or not; [`Problem::Pruned`], [`Problem::BeyondEnd`].
    pub async fn get_audit_record(&self, caller: &Caller, index: u64) -> Result<FoundRecord, ServiceError> {
        let note = Note::default();
        let work = |permit: Permit<ops::AuditRecordsRead>| async move { self.seen(caller, &permit, index).await };
        self.plain(caller, record_name(index), Where::Anywhere, &note, work).await
    }

    /// One record, and the proof that it is in the log under the newest checkpoint. Waits for the checkpoint that
    /// covers it.
    ///
    /// # Errors
    /// As for [`Self::get_audit_record`].
    pub async fn audit_receipt(&self, caller: &Caller, index: u64) -> Result<Proved, ServiceError> {
        let note = Note::default();
        let work = |permit: Permit<ops::AuditRecordsRead>| async move {
            let FoundRecord { entry, .. } = self.seen(caller, &permit, index).await?;
            self.signed_past(index, caller.deadline).await?;
            let prover = Prover::new(self.log.dir());
            let receipt =
                blocking(move || prover.receipt(index)).await?.map_err(|error| self.of_proof(error, index))?;
            Ok(Proved { entry, receipt })
        };
        self.plain(caller, record_name(index), Where::Anywhere, &note, work).await
    }

    /// The newest checkpoint, with the proof that its tree is an extension of that of the first `old` records.
    ///
    /// # Errors
    /// When the caller may read nothing of the log; [`Problem::Precondition`] when the checkpoint has fewer records.
    pub async fn audit_checkpoint(&self, caller: &Caller, old: u64) -> Result<Signed, ServiceError> {
        let note = Note::default();
        let work = |_: Permit<ops::AuditRecordsRead>| async move {
            let prover = Prover::new(self.log.dir());
            let extension =
                blocking(move || prover.extension(old)).await?.map_err(|error| self.of_proof(error, old))?;
            let dir = self.log.dir().to_owned();
            let notes = blocking(move || handover::notes(&dir))
                .await?
                .map_err(|error| ServiceError::because(Problem::Internal, error))?;
            let handovers = notes.iter().map(|(_, note)| note.to_string()).collect();
            Ok(Signed { extension, keys: vec![self.checkpoints.key().to_string()], handovers })
        };
        self.plain(caller, "auditCheckpoint".to_owned(), Where::Anywhere, &note, work).await
    }

    /// Begins to follow the log. Without `start` it begins behind what is in the log now.
    ///
    /// # Errors
    /// As for [`Self::list_audit_records`]; [`Problem::Pruned`] when the record to begin with is gone.
    pub async fn follow_audit_log(
        self: &Arc<Self>,
        caller: &Caller,
        query: Query,
        start: Option<u64>,
    ) -> Result<Following, ServiceError> {
        let (note, scope) = (Note::default(), sight::scope(&query));
        let work = |permit: Permit<ops::AuditRecordsRead>| async move {
            match start {
                Some(start) if start < self.log.readable() => drop(self.entry(start).await?),
                _ => {}
            }
            Ok(permit)
        };
        let permit = self.plain(caller, sight::resource(&scope), scope, &note, work).await?;
        // After the record of this call, so that a stream does not begin with itself.
        let next = start.unwrap_or_else(|| self.log.known().next_index);
        Ok(Following::new(Arc::clone(self), caller.clone(), permit, query, next))
    }

    /// A record that the caller may see. Whoever does not see everything is refused what is not there too.
    async fn seen(
        &self,
        caller: &Caller,
        permit: &Permit<ops::AuditRecordsRead>,
        index: u64,
    ) -> Result<FoundRecord, ServiceError> {
        let sees_all = self.reads_at(caller, Scope::Service);
        let found = match self.entry(index).await {
            Err(error) if !sees_all => return Err(ServiceError::because(Problem::Denied(permit.untold()), error)),
            found => found?,
        };
        if sees_all || self.sees(caller, &found.record) { Ok(found) } else { Err(permit.untold().into()) }
    }

    /// Reads a record.
    async fn entry(&self, index: u64) -> Result<FoundRecord, ServiceError> {
        let log = Arc::clone(&self.log);
        let read = move || {
            let reader = Reader::new(log.dir());
            let mut tries = 1;
            loop {
                let readable = log.readable();
                let is_partial = index / u64::from(WIDTH) == readable / u64::from(WIDTH);
                match reader.entry(index, readable) {
                    Err(ReadError::Pruned { .. }) if is_partial && tries < TRIES_MAX => tries += 1,
                    read => return read,
                }
            }
        };
        let entry = blocking(read).await?.map_err(of_read)?;
        let record: Record =
            serde_json::from_slice(&entry).map_err(|error| ServiceError::because(Problem::Internal, error))?;
        Ok(FoundRecord { index, record, entry })
    }

    /// Waits until a checkpoint covers that record.
    async fn signed_past(&self, index: u64, deadline: Moment) -> Result<(), ServiceError> {
        let (began, within) = (Instant::now(), SIGNED_WITHIN.min(deadline.since(Moment::now())));
        while self.log.signed() <= index {
            if began.elapsed() >= within {
                return Err(
                    Problem::Unavailable { what: "a checkpoint of the audit log that covers the record" }.into()
                );
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Why there is no proof of that record, or of the tree of so many.
    fn of_proof(&self, error: ProveError, of: u64) -> ServiceError {
        let problem = match &error {
            ProveError::Unsigned => Problem::Unavailable { what: "a checkpoint of the audit log" },
            ProveError::Make(MakeError::NoLeaf { .. }) => {
                Problem::BeyondEnd { name: record_name(of), readable: self.log.readable() }
            }
            ProveError::Make(MakeError::Shrunk { old, new }) => {
                let why = format!(
                    "the newest checkpoint is of {new} records, and you name one of {old}: either that is one of another \
                     log, or this log was cut; keep yours, and compare"
                );
                Problem::Precondition { reason: "LOG_SHORTER", why }
            }
            _ => Problem::Internal,
        };
        ServiceError::because(problem, error)
    }
}

/// Runs what reads files.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ServiceError> {
    spawn_blocking(work).await.map_err(|error| ServiceError::because(Problem::Internal, error))
}

fn of_read(error: ReadError) -> ServiceError {
    let problem = match &error {
        ReadError::Pruned { index, .. } => Problem::Pruned { name: record_name(*index) },
        ReadError::Beyond { index, size } => Problem::BeyondEnd { name: record_name(*index), readable: *size },
        _ => Problem::Internal,
    };
    ServiceError::because(problem, error)
}

fn of_index(error: IndexError) -> ServiceError {
    let problem = match error {
        IndexError::Read(error) => return of_read(error),
        IndexError::Finer { .. } => Problem::Invalid { field: "filter.resource", why: error.to_string() },
        IndexError::Behind { .. } => Problem::Unavailable { what: "the index of the audit log, which is being made," },
        _ => Problem::Internal,
    };
    ServiceError::because(problem, error)
}
