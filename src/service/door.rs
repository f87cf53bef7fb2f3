//! The one door. Every operation on every face passes [`Service::plain`] or [`Service::change`], or, with many
//! others, [`super::batch`]: authorise, act, record, answer.
//!
//! * An operation without a change: act, then record, then answer. No record, no answer.
//! * A change: record the intent, durably; act; record the outcome; answer. A change goes on to its end
//!   even when the caller goes away, so no intent is left open by a closed connection. After a crash
//!   [`super::settle`] closes what was left open (ADR 0004).
//!
//! A refusal is recorded too; equal refusals are counted rather than repeated, so that a caller without
//! rights cannot fill the disk.

use std::{
    future::Future,
    sync::{Arc, OnceLock, atomic::Ordering},
    time::{Duration, Instant},
};

use strongroom_hsm::{Residency, protocol::Moment, statement::Canonical};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    Caller, ChangeOptions, Service,
    error::{Problem, ServiceError},
    quota::{Bill, CHANGE_US, RELEASE_US, REQUEST_US},
    scopes::Locked,
};
use crate::{
    access::{Action, Denied, Op, Permit, Rights, Scheduled, Where},
    audit::{Durability, HeadMark, Kind, LogError, Outcome, Record},
    failpoint,
    model::{Algorithm, Identity, Scope, Timestamp, VersionId, VersionRow},
    observe::metrics::RACES,
    service::version_name,
    store::{HeadScope, RequestRecord},
};

/// How long a change waits at first before it is made again on a newer state.
pub(super) const RACE_PAUSE: Duration = Duration::from_millis(4);
/// How long at most.
const RACE_PAUSE_MAX: Duration = Duration::from_millis(100);

/// What an operation learns that its record should say: filled in on the way.
#[derive(Debug, Default)]
pub struct Note {
    /// The algorithm.
    pub algorithm: Option<Algorithm>,
    fitted: OnceLock<Algorithm>,
    version: OnceLock<(String, Residency)>,
    ran: OnceLock<()>,
    bill: OnceLock<Bill>,
}

impl Note {
    /// A note for an operation with that algorithm.
    #[must_use]
    pub fn with(algorithm: Algorithm) -> Self {
        Self { algorithm: Some(algorithm), ..Self::default() }
    }

    /// The version that is used.
    pub fn used(&self, row: &VersionRow) {
        // Set once: an operation uses one version.
        let _ = self.version.set((version_name(row), row.residency));
    }

    /// The algorithm that the one that was named comes to.
    pub fn by(&self, algorithm: Algorithm) {
        let _ = self.fitted.set(algorithm);
    }

    /// From here on the HSM is asked.
    pub fn ran(&self) {
        let _ = self.ran.set(());
    }

    /// Where its costs are taken from.
    pub(super) fn pays(&self, bill: Bill) {
        let _ = self.bill.set(bill);
    }

    /// It turns out to cost so much more.
    pub(super) fn charge(&self, cost_us: u64) {
        if let Some(bill) = self.bill.get() {
            bill.charge(cost_us);
        }
    }

    /// The version that is used, once that is known.
    pub(super) fn version(&self) -> Option<&(String, Residency)> {
        self.version.get()
    }

    fn complete(&self, record: &mut Record) {
        if let Some((name, residency)) = self.version.get() {
            record.resource = Some(name.clone());
            record.residency = Some(residency.name().to_owned());
            record.ran = self.ran.get().map(|()| "hsm".to_owned());
        }
        let algorithm = self.fitted.get().copied().or(self.algorithm);
        record.algorithm = algorithm.map(|algorithm| algorithm.name().to_owned());
    }
}

/// A change: how it is checked, made, and found again when it is asked for twice.
pub trait Work: Send + Sync + 'static {
    /// The operation.
    type Op: Op;
    /// What it answers.
    type Out: Send + 'static;

    /// Checks the request against the present state and says what the answer would be.
    fn check(
        &self,
        service: &Service,
        permit: &Permit<Self::Op>,
        context: &Context,
    ) -> impl Future<Output = Result<Self::Out, ServiceError>> + Send;

    /// Makes the change. What was checked may have changed since: check again, under the scope's lock.
    fn apply(
        &self,
        service: &Service,
        permit: Permit<Self::Op>,
        context: &Context,
    ) -> impl Future<Output = Result<Applied<Self::Out>, ServiceError>> + Send;

    /// The answer to a change that was made before under the same request id.
    fn again(
        &self,
        service: &Service,
        permit: &Permit<Self::Op>,
        resource: &str,
        context: &Context,
    ) -> impl Future<Output = Result<Self::Out, ServiceError>> + Send;

    /// The version it makes, if it makes one: its id is in the intent.
    fn version(&self) -> Option<VersionId> {
        None
    }

    /// The resource as the check found it, where that says more than the request did.
    fn resource(&self) -> Option<String> {
        None
    }

    /// Whether the request holds a secret: then its digest is kept under the HSM's key only. The store can be
    /// read, and a secret that is no random key could be found by guessing at its plain digest.
    fn holds_secret(&self) -> bool {
        false
    }

    /// What it costs besides what every change does.
    fn cost_us(&self) -> u64 {
        0
    }

    /// What the change is, in a few words for the record.
    fn detail(&self) -> Option<String> {
        None
    }

    /// Cleans up after [`Self::apply`] failed. When this fails the intent stays open, and the next start
    /// settles it.
    fn undo(&self, service: &Service, context: &Context) -> impl Future<Output = Result<(), ServiceError>> + Send {
        let _ = (service, context);
        async { Ok(()) }
    }
}

/// What a change has come to.
#[derive(Debug)]
pub struct Applied<T> {
    /// The answer.
    pub out: T,
    /// The new heads.
    pub heads: Vec<HeadMark>,
}

/// What a change is made with.
#[derive(Clone, Debug)]
pub struct Context {
    /// Who asks.
    pub caller: Caller,
    /// With what.
    pub options: ChangeOptions,
    /// When the change is made.
    pub now: Timestamp,
    /// The index of the intent; 0 while it is only checked.
    pub intent: u64,
    scope: Scope,
    expires: Timestamp,
}

impl Context {
    /// The record of the caller's request id, if there is one.
    #[must_use]
    pub fn request_record(&self, resource: String) -> Option<RequestRecord> {
        let id = self.options.request_id?;
        let principal = self.caller.principal().as_str().to_owned();
        Some(RequestRecord { principal, id, digest: self.options.digest, resource, expires: self.expires })
    }

    /// Refuses an etag that is not the current one.
    ///
    /// # Errors
    /// [`Problem::Changed`].
    pub fn check_etag(&self, current: &str, name: &str) -> Result<(), ServiceError> {
        match &self.options.etag {
            Some(etag) if etag != current => Err(Problem::Changed { name: name.to_owned() }.into()),
            _ => Ok(()),
        }
    }
}

impl Service {
    /// An operation without a change.
    ///
    /// # Errors
    /// When it is refused or fails, or when it cannot be recorded.
    pub(super) async fn plain<O, T, F>(
        &self,
        caller: &Caller,
        resource: String,
        place: impl Into<Where> + Send,
        note: &Note,
        work: impl FnOnce(Permit<O>) -> F + Send,
    ) -> Result<T, ServiceError>
    where
        O: Op,
        F: Future<Output = Result<T, ServiceError>> + Send,
    {
        let place = place.into();
        let step = caller.trace.operation(O::ACTION.name(), &place, &caller.request);
        let result = self.plain_untraced(caller, resource, place, note, work).await;
        step.conclude(ending(result.as_ref().err()));
        result
    }

    /// Whether somebody may do an operation without a change, and has not asked for too much.
    async fn admitted<O: Op>(
        &self,
        caller: &Caller,
        resource: &str,
        place: Where,
        note: &Note,
    ) -> Result<Permit<O>, ServiceError> {
        self.catch_up(&place, caller.deadline).await?;
        let resource = || resource.to_owned();
        let bill = match self.quotas.open(caller, REQUEST_US) {
            Ok(bill) => bill,
            Err(problem) => return Err(self.refused(caller, resource(), O::ACTION.name(), problem).await),
        };
        let permit = match self.policy.permit::<O>(&caller.identity, caller.origin, place) {
            Ok(permit) => permit,
            Err(denied) => return Err(self.denied(caller, resource(), denied).await),
        };
        match self.quotas.in_vault(bill, permit.vault(), REQUEST_US) {
            Ok(bill) => note.pays(bill),
            Err(problem) => return Err(self.refused(caller, resource(), O::ACTION.name(), problem).await),
        }
        Ok(permit)
    }

    /// An operation that hands out what is kept here. It is found; that it is handed out is on the disk; and only then is it
    /// opened. When that fails there is a second record.
    ///
    /// # Errors
    /// When it is refused or fails, or when it cannot be recorded.
    pub(super) async fn release<O, G, T, F, R>(
        &self,
        caller: &Caller,
        resource: String,
        scope: Scope,
        find: impl FnOnce(Permit<O>) -> F + Send,
        open: impl FnOnce(G) -> R + Send,
    ) -> Result<T, ServiceError>
    where
        O: Op,
        F: Future<Output = Result<(String, G), ServiceError>> + Send,
        G: Send,
        R: Future<Output = Result<T, ServiceError>> + Send,
    {
        let place = Where::At(scope);
        let step = caller.trace.operation(O::ACTION.name(), &place, &caller.request);
        let result = self.release_untraced(caller, resource, place, find, open).await;
        step.conclude(ending(result.as_ref().err()));
        result
    }

    async fn release_untraced<O, G, T, F, R>(
        &self,
        caller: &Caller,
        resource: String,
        place: Where,
        find: impl FnOnce(Permit<O>) -> F + Send,
        open: impl FnOnce(G) -> R + Send,
    ) -> Result<T, ServiceError>
    where
        O: Op,
        F: Future<Output = Result<(String, G), ServiceError>> + Send,
        G: Send,
        R: Future<Output = Result<T, ServiceError>> + Send,
    {
        let note = Note::default();
        let permit = self.admitted::<O>(caller, &resource, place, &note).await?;
        note.charge(RELEASE_US);
        let untold = permit.untold();
        let (exact, found) = match find(permit).await {
            Ok(found) => found,
            Err(error) => {
                let mut record = self.record::<O>(caller, Kind::Operation, resource);
                conclude(&mut record, Some(&error));
                self.append(caller, record, self.durability()).await?;
                return Err(self.told(caller, untold, error));
            }
        };
        let record = self.record::<O>(caller, Kind::Operation, exact);
        self.append(caller, record.clone(), Durability::Fsync).await?;
        let result = open(found).await;
        if let Err(error) = &result {
            let mut record = record;
            conclude(&mut record, Some(error));
            self.append(caller, record, self.durability()).await?;
        }
        result
    }

    async fn plain_untraced<O, T, F>(
        &self,
        caller: &Caller,
        resource: String,
        place: Where,
        note: &Note,
        work: impl FnOnce(Permit<O>) -> F + Send,
    ) -> Result<T, ServiceError>
    where
        O: Op,
        F: Future<Output = Result<T, ServiceError>> + Send,
    {
        let permit = self.admitted::<O>(caller, &resource, place, note).await?;
        let untold = permit.untold();
        let result = work(permit).await;
        let mut record = self.record::<O>(caller, Kind::Operation, resource);
        note.complete(&mut record);
        conclude(&mut record, result.as_ref().err());
        let durability = match &result {
            Ok(_) if O::ACTION.releases_secret() => Durability::Fsync,
            Ok(_) | Err(_) => self.durability(),
        };
        self.append(caller, record, durability).await?;
        result.map_err(|error| self.told(caller, untold, error))
    }

    /// Appends a record. Its request's trace says how long that took.
    pub(super) async fn append(
        &self,
        caller: &Caller,
        record: Record,
        durability: Durability,
    ) -> Result<u64, LogError> {
        let step = caller.trace.append(record.kind, durability);
        let appended = self.log.append(record, durability).await;
        step.end(&appended);
        appended
    }

    /// As [`Self::append`], into the room that is kept for administrators and outcomes.
    async fn append_reserved(&self, caller: &Caller, record: Record) -> Result<u64, LogError> {
        let step = caller.trace.append(record.kind, Durability::Fsync);
        let appended = self.log.append_reserved(record, Durability::Fsync).await;
        step.end(&appended);
        appended
    }

    /// What the caller is told of an error. That something is not there, or is deleted, is for those who may know
    /// what is there; whoever may not is refused, as for what exists and is not his (AIP-211). The record says
    /// what it was.
    pub(super) fn told(&self, caller: &Caller, untold: Denied, error: ServiceError) -> ServiceError {
        let tells = matches!(error.problem, Problem::NotFound { .. } | Problem::SoftDeleted { .. });
        if tells && !self.policy.now().may_know(&caller.identity, &untold.scope) {
            return ServiceError::because(Problem::Denied(untold), error);
        }
        error
    }

    /// How durable the record of an operation without a change is before its answer, unless the answer is a
    /// secret that was made here (D5).
    pub(super) const fn durability(&self) -> Durability {
        if self.settings.fsync_everything { Durability::Fsync } else { Durability::Write }
    }

    /// Makes sure that what decides is known, and as new as is promised for that place.
    pub(super) async fn catch_up(&self, place: &Where, deadline: Moment) -> Result<(), ServiceError> {
        if self.policy_in_doubt.load(Ordering::Acquire) {
            self.settle_policy(deadline).await?;
        }
        if !self.hearing().is_shared() {
            return Ok(());
        }
        let vault = match place {
            Where::At(scope) => scope.vault(),
            Where::Anywhere => None,
        };
        let bound = self.policy.now().max_staleness(vault);
        if self.hearing().is_within(bound.as_duration()) { Ok(()) } else { self.hear_by(deadline).await }
    }

    /// Reads the roles again after a change of unknown fate, or of others: until then nobody is permitted anything.
    pub(super) async fn settle_policy(&self, deadline: Moment) -> Result<(), ServiceError> {
        let locked = self.catalog.scopes.lock(HeadScope::Service, deadline).await?;
        self.read_policy(&locked, deadline).await
    }

    /// Makes the policy anew. Under the scope's lock: a change of this process comes before or after, never between the
    /// reading and the policy made of it.
    pub(super) async fn read_policy(&self, _: &Locked, deadline: Moment) -> Result<(), ServiceError> {
        let rows = self.catalog.policy_rows(deadline).await?;
        self.policy.set(self.policy.now().replaced(rows));
        self.policy_in_doubt.store(false, Ordering::Release);
        Ok(())
    }

    /// A change, with its intent and outcome.
    ///
    /// # Errors
    /// When it is refused or fails; [`Problem::RecordPending`] when it is done and its outcome could not
    /// be recorded.
    pub(super) async fn change<W: Work>(
        self: &Arc<Self>,
        caller: &Caller,
        resource: String,
        scope: Scope,
        options: ChangeOptions,
        work: W,
    ) -> Result<W::Out, ServiceError> {
        let step = caller.trace.operation(W::Op::ACTION.name(), &Where::At(scope.clone()), &caller.request);
        let result = self.change_untraced(caller, resource, scope, options, work).await;
        step.conclude(ending(result.as_ref().err()));
        result
    }

    async fn change_untraced<W: Work>(
        self: &Arc<Self>,
        caller: &Caller,
        resource: String,
        scope: Scope,
        options: ChangeOptions,
        work: W,
    ) -> Result<W::Out, ServiceError> {
        self.catch_up(&Where::At(scope.clone()), caller.deadline).await?;
        let bill = match self.quotas.open(caller, CHANGE_US) {
            Ok(bill) => bill,
            // Who floods may be an administrator's own: ending it must not wait for it.
            Err(_) if self.ends_floods::<W::Op>(caller) => self.quotas.open_anyway(caller, CHANGE_US),
            Err(problem) => return Err(self.refused(caller, resource, W::Op::ACTION.name(), problem).await),
        };
        let permit = match self.policy.permit::<W::Op>(&caller.identity, caller.origin, scope.clone()) {
            Ok(permit) => permit,
            Err(denied) => return Err(self.denied(caller, resource, denied).await),
        };
        // What administers a vault is not done in it.
        let vault = permit.vault().filter(|_| !Rights::CONTROL.has(W::Op::ACTION));
        let bill = match self.quotas.in_vault(bill, vault, CHANGE_US) {
            Ok(bill) => bill,
            Err(problem) => return Err(self.refused(caller, resource, W::Op::ACTION.name(), problem).await),
        };
        let untold = permit.untold();
        let permitted = Permitted { permit, bill };
        let result = self.permitted(caller, resource, scope, options, work, permitted).await;
        result.map_err(|error| self.told(caller, untold, error))
    }

    /// A change that the service makes by itself, on a schedule: recorded as any other, under its own name. What turns out
    /// not to be due leaves no record.
    pub(super) async fn scheduled<W: Work>(
        self: &Arc<Self>,
        caller: &Caller,
        resource: String,
        scope: Scope,
        work: W,
    ) -> Result<W::Out, ServiceError>
    where
        W::Op: Scheduled,
    {
        self.catch_up(&Where::At(scope.clone()), caller.deadline).await?;
        let permit = self.policy.scheduled::<W::Op>(&caller.identity, scope.clone());
        let context = self.context(caller, ChangeOptions::default(), scope);
        work.check(self, &permit, &context).await?;
        self.make(work, permit, context, resource).await
    }

    async fn permitted<W: Work>(
        self: &Arc<Self>,
        caller: &Caller,
        resource: String,
        scope: Scope,
        options: ChangeOptions,
        work: W,
        Permitted { permit, bill }: Permitted<W::Op>,
    ) -> Result<W::Out, ServiceError> {
        let mut context = self.context(caller, options, scope);
        // Trying is as dear as doing, and is done by no more at once.
        let _slot = if context.options.validate_only {
            bill.charge(work.cost_us());
            let slot = self.slot::<W::Op>(caller);
            Some(slot.ok_or(Problem::Overloaded { retry_after: Duration::from_secs(1) })?)
        } else {
            None
        };
        match self.before(&work, &permit, &mut context).await {
            Before::Answer(result) => {
                let mut record = self.record::<W::Op>(caller, Kind::Operation, work.resource().unwrap_or(resource));
                conclude(&mut record, result.as_ref().err());
                if result.is_ok() {
                    let why = if context.options.validate_only { "VALIDATE_ONLY" } else { "REPEATED" };
                    record.reason = Some(why.to_owned());
                }
                self.append(caller, record, self.durability()).await?;
                result
            }
            Before::GoOn => {
                // Detached: a caller that goes away does not stop a change half-way.
                let service = Arc::clone(self);
                let slot = self.slot::<W::Op>(caller);
                let slot = slot.ok_or(Problem::Overloaded { retry_after: Duration::from_secs(1) })?;
                bill.charge(work.cost_us());
                let resource = work.resource().unwrap_or(resource);
                let task = tokio::spawn(async move {
                    let _slot = slot;
                    service.make(work, permit, context, resource).await
                });
                task.await.map_err(|error| ServiceError::because(Problem::Internal, error))?
            }
        }
    }

    /// A place among the changes under way, if there is one.
    fn slot<O: Op>(&self, caller: &Caller) -> Option<OwnedSemaphorePermit> {
        let slot = |of: &Arc<Semaphore>| Arc::clone(of).try_acquire_owned().ok();
        slot(&self.changes).or_else(|| slot(&self.changes_reserved).filter(|_| self.ends_floods::<O>(caller)))
    }

    /// Whether it is a change by which an administrator can end what floods the service: there is always room for it.
    fn ends_floods<O: Op>(&self, caller: &Caller) -> bool {
        Rights::CONTROL.has(O::ACTION) && self.administers(&caller.identity)
    }

    /// What can be said before anything is changed.
    async fn before<W: Work>(&self, work: &W, permit: &Permit<W::Op>, context: &mut Context) -> Before<W::Out> {
        if work.holds_secret()
            && context.options.request_id.is_some()
            && let Err(error) = self.blind(context).await
        {
            return Before::Answer(Err(error));
        }
        match self.repeated(context).await {
            Err(error) => return Before::Answer(Err(error)),
            Ok(Some(resource)) => return Before::Answer(work.again(self, permit, &resource, context).await),
            Ok(None) => {}
        }
        match work.check(self, permit, context).await {
            Ok(_) if !context.options.validate_only => Before::GoOn,
            result => Before::Answer(result),
        }
    }

    /// Puts the digest of the request under the sealing key: equal requests have equal digests, and nobody
    /// without the HSM can try what was in them.
    async fn blind(&self, context: &mut Context) -> Result<(), ServiceError> {
        let form = Canonical::new("strongroom.request-digest.v1").field(1, &context.options.digest).finish();
        let seals = self.pool.seal(vec![form], context.caller.deadline).await.map_err(super::hands::outage)?;
        context.options.digest = *seals.first().ok_or(Problem::Internal)?;
        Ok(())
    }

    /// The resource of an earlier change with the same request id.
    async fn repeated(&self, context: &Context) -> Result<Option<String>, ServiceError> {
        let Some(id) = context.options.request_id else { return Ok(None) };
        match self.store.request(context.caller.principal().as_str(), id, context.now).await? {
            Some(record) if record.digest == context.options.digest => Ok(Some(record.resource)),
            Some(_) => Err(Problem::RequestIdReused.into()),
            None => Ok(None),
        }
    }

    /// Intent, change, outcome.
    async fn make<W: Work>(
        self: &Arc<Self>,
        work: W,
        permit: Permit<W::Op>,
        mut context: Context,
        resource: String,
    ) -> Result<W::Out, ServiceError> {
        let mut intent = self.record::<W::Op>(&context.caller, Kind::Intent, resource.clone());
        intent.outcome = Outcome::Pending;
        intent.version = work.version().map(|version| version.to_string());
        intent.detail = work.detail();
        let index = if self.administers(&context.caller.identity) {
            // A full disk must not keep administrators from ending what fills it.
            self.append_reserved(&context.caller, intent).await?
        } else {
            self.append(&context.caller, intent, Durability::Fsync).await?
        };
        context.intent = self.catalog.scopes.ordinal().intent(index);
        failpoint::hit("service.after_intent");
        let result = self.apply(&work, permit, &context).await;
        failpoint::hit("service.before_outcome");
        let mut record = self.record::<W::Op>(&context.caller, Kind::Outcome, resource);
        record.intent = Some(index);
        record.detail = work.detail();
        match result {
            Ok(applied) => {
                let committed = Moment::now();
                record.heads = applied.heads.clone();
                conclude(&mut record, None);
                if let Err(error) = self.append_reserved(&context.caller, record).await {
                    return Err(ServiceError::because(Problem::RecordPending, error));
                }
                if W::Op::ACTION.waits_for_all() {
                    self.wait_for_all(&applied.heads, committed, &context.caller).await;
                }
                Ok(applied.out)
            }
            Err(error) => {
                self.failed(&work, &context, record, &error).await;
                match error.problem {
                    Problem::Changed { .. } => self.made_by_another(&work, &context).await.unwrap_or(Err(error)),
                    _ => Err(error),
                }
            }
        }
    }

    /// Makes a change; again, on the newer state, when another process has changed the same scope first.
    async fn apply<W: Work>(
        &self,
        work: &W,
        permit: Permit<W::Op>,
        context: &Context,
    ) -> Result<Applied<W::Out>, ServiceError> {
        let renewal = permit.renewal();
        let mut result = work.apply(self, permit, context).await;
        let mut pause = RACE_PAUSE;
        while matches!(&result, Err(error) if error.is_race()) && self.hearing().is_shared() {
            let is_late = Moment::now().after(pause) >= context.caller.deadline;
            if is_late || matches!(self.repeated(context).await, Ok(Some(_)) | Err(_)) {
                break;
            }
            metrics::counter!(RACES).increment(1);
            // Somewhere in the pause, so that those who met do not meet again.
            tokio::time::sleep(part_of(pause)).await;
            pause = (pause * 2).min(RACE_PAUSE_MAX);
            result = work.apply(self, renewal.permit().map_err(Problem::Denied)?, context).await;
        }
        result
    }

    /// The answer of the same request under the same id that was quicker than this one, if there is one.
    async fn made_by_another<W: Work>(&self, work: &W, context: &Context) -> Option<Result<W::Out, ServiceError>> {
        let resource = self.repeated(context).await.ok()??;
        tracing::debug!(resource, "another request with the same id was quicker");
        let permit =
            self.policy.permit::<W::Op>(&context.caller.identity, context.caller.origin, context.scope.clone()).ok()?;
        Some(work.again(self, &permit, &resource, context).await)
    }

    /// Cleans up after a failed change and closes its intent, where it is known that nothing was made.
    async fn failed<W: Work>(&self, work: &W, context: &Context, mut record: Record, error: &ServiceError) {
        if matches!(error.problem, Problem::Unknown { .. } | Problem::RecordPending) {
            tracing::error!(intent = context.intent, %error, "how a change ended is not known; the next start settles it");
            return;
        }
        if let Err(error) = work.undo(self, context).await {
            tracing::error!(intent = context.intent, %error, cause = ?error.cause, "a failed change could not be undone; the next start settles it");
            return;
        }
        conclude(&mut record, Some(error));
        if let Err(error) = self.append_reserved(&context.caller, record).await {
            tracing::error!(intent = context.intent, %error, "the outcome of a failed change could not be recorded");
        }
    }

    /// Whether somebody may take anybody's roles away: by that floods are ended.
    #[must_use]
    pub fn administers(&self, identity: &Identity) -> bool {
        self.policy.now().allows(identity, Action::RoleAssignmentsDelete, &Scope::Service)
    }

    fn context(&self, caller: &Caller, options: ChangeOptions, scope: Scope) -> Context {
        let now = self.clock.now();
        let memory = i64::try_from(self.settings.request_memory.as_secs()).unwrap_or(i64::MAX);
        let expires = Timestamp(now.0.saturating_add(memory));
        Context { caller: caller.clone(), options, now, intent: 0, scope, expires }
    }

    fn record<O: Op>(&self, caller: &Caller, kind: Kind, resource: String) -> Record {
        Record {
            principal: Some(caller.principal().as_str().to_owned()),
            source: Some(caller.source.clone()),
            resource: Some(resource),
            request: Some(caller.request.clone()),
            ..Record::new(self.clock.now(), kind, O::ACTION.name(), Outcome::Done)
        }
    }

    /// Records a refusal for want of a right.
    pub(super) async fn denied(&self, caller: &Caller, resource: String, denied: Denied) -> ServiceError {
        self.refused(caller, resource, denied.action.name(), Problem::Denied(denied)).await
    }

    /// Records a refusal at the door: equal ones are counted.
    pub(super) async fn refused(
        &self,
        caller: &Caller,
        resource: String,
        operation: &'static str,
        problem: Problem,
    ) -> ServiceError {
        let record = Record {
            principal: Some(caller.principal().as_str().to_owned()),
            source: Some(caller.source.clone()),
            resource: Some(resource),
            request: Some(caller.request.clone()),
            reason: Some(problem.recorded().to_owned()),
            ..Record::new(self.clock.now(), Kind::Operation, operation, Outcome::Refused)
        };
        match self.refusals.append(Instant::now(), record).await {
            Ok(()) => problem.into(),
            Err(failure) => failure.into(),
        }
    }
}

/// Some part of a time, by chance.
pub(super) fn part_of(whole: Duration) -> Duration {
    let mut byte = [0];
    // Without random numbers it is no time at all.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    whole.mul_f64(f64::from(byte[0]) / 256.0)
}

/// What a change is made by.
struct Permitted<O: Op> {
    permit: Permit<O>,
    bill: Bill,
}

enum Before<T> {
    Answer(Result<T, ServiceError>),
    GoOn,
}

fn conclude(record: &mut Record, error: Option<&ServiceError>) {
    let (outcome, reason) = ending(error);
    record.outcome = outcome;
    record.reason = reason.map(str::to_owned);
}

/// What a record says of the end of an operation: outcome and reason.
pub(super) fn ending(error: Option<&ServiceError>) -> (Outcome, Option<&'static str>) {
    let Some(error) = error else { return (Outcome::Done, None) };
    let outcome = if error.problem.is_refusal() { Outcome::Refused } else { Outcome::Failed };
    (outcome, Some(error.problem.recorded()))
}
