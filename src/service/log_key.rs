//! The log key, and how another takes its place (`docs/own-keys.md`).
//!
//! [`RotateLog`] makes the next one on the token and puts it into the instance's row, with the old one beside it. Each replica
//! goes over with its own log when it takes that row in (`Checkpoints::change_over`), and says so in its sign of life. Once every
//! replica that serves has, [`EndChange`] has the old one destroyed, whose public half is kept.

use std::{sync::Arc, time::Duration};

use strongroom_hsm::{
    pool::{Provisioned, provision},
    protocol::{Moment, Provision},
};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::{
    Caller, ChangeOptions, Service, checkpoints,
    door::{Applied, Context, Work},
    error::{Problem, ServiceError},
    root::unprovisioned,
    scopes::{Making, NewRow, Put},
    settle::REAP_WITHIN,
};
use crate::{
    access::{Op as _, Permit, ops},
    failpoint,
    model::{InstanceRow, LogKey, Scope, Timestamp, VersionId},
    store::{HeadScope, WorkLease},
};

/// The lease of the work.
const LEASE: &str = "logKey";
/// For so long it is taken.
const LEASE_FOR: Duration = Duration::from_secs(60);
/// Under which name the service records what it does.
const PRINCIPAL: &str = "strongroom:log";

/// The log keys, as they are shown.
#[derive(Clone, Debug)]
pub struct LogKeyView {
    /// The key that signs the log of the replica that answers, as a verifier key.
    pub key: String,
    /// The one whose place it is taking, and since when.
    pub change: Option<LogChangeView>,
}

/// A log key that is about to go.
#[derive(Clone, Debug)]
pub struct LogChangeView {
    /// As a verifier key.
    pub old: String,
    /// Since when.
    pub begun: Timestamp,
    /// The replicas that it waits for.
    pub waits_for: Vec<String>,
}

impl Service {
    /// Makes another log key, which takes the place of the one that is there. Every replica's log goes over to it by itself.
    ///
    /// # Errors
    /// [`Problem::Precondition`] while one takes another's place already.
    pub async fn rotate_log_key(
        self: &Arc<Self>,
        caller: &Caller,
        options: ChangeOptions,
    ) -> Result<LogKeyView, ServiceError> {
        let work = RotateLog { id: VersionId::from_bytes(super::fresh_id()), made: OnceCell::new() };
        self.change(caller, self.instance().resource(), Scope::Service, options, work).await
    }

    /// The log keys as they stand in the store.
    pub(super) async fn log_key_view(&self, deadline: Moment) -> Result<LogKeyView, ServiceError> {
        let instance = self.catalog.instance(deadline).await?;
        let mut view = self.shown(&instance)?;
        if let Some(change) = &mut view.change {
            change.waits_for = self.laggards(&instance).await?;
        }
        Ok(view)
    }

    fn shown(&self, instance: &InstanceRow) -> Result<LogKeyView, ServiceError> {
        let mut keys = checkpoints::keys(instance, self.log.name())?.into_iter().map(|key| key.to_string());
        let (key, old) = (keys.next().unwrap_or_default(), keys.next().unwrap_or_default());
        let change = instance.log_keys.change.as_ref();
        let change = change.map(|change| LogChangeView { old, begun: change.begun, waits_for: Vec::new() });
        Ok(LogKeyView { key, change })
    }

    /// Destroys an old log key, once the log of every replica that serves has gone over to the next one. Called by a job, again
    /// and again.
    ///
    /// # Errors
    /// When the store, the log or the HSM fails: it is tried again.
    pub async fn end_log_change(self: &Arc<Self>, stop: &CancellationToken) -> Result<(), ServiceError> {
        let instance = self.adopt(stop).await?;
        let Some(change) = &instance.log_keys.change else { return Ok(()) };
        if stop.is_cancelled() || !self.has_adopted(&instance) {
            return Ok(());
        }
        let own = self.own.name().await;
        let Some(lease) = self.store.take_lease(LEASE, &own, LEASE_FOR).await? else { return Ok(()) };
        if !self.laggards(&instance).await?.is_empty() {
            return Ok(());
        }
        let destroy = Provision::DestroyLogKey { keys: instance.worker_keys(), id: change.old.id };
        let done =
            provision(self.pool.profile(), vec![destroy]).await.map_err(|error| unprovisioned(error, "HSM_SETUP"))?;
        if !matches!(done[..], [Provisioned::Done]) {
            return Err(Problem::Internal.into());
        }
        let work = EndChange { old: change.old.clone(), lease };
        let caller = self.itself(PRINCIPAL);
        self.scheduled(&caller, instance.resource(), Scope::Service, work).await?;
        self.adopt(stop).await.map(drop)
    }
}

/// Makes the next log key.
struct RotateLog {
    /// Its CKA_ID: whoever asks does not choose it.
    id: VersionId,
    made: OnceCell<Vec<u8>>,
}

impl RotateLog {
    async fn make(&self, service: &Service, instance: &InstanceRow) -> Result<Vec<u8>, ServiceError> {
        let make = Provision::MakeLogKey { id: self.id.bytes(), keys: instance.worker_keys() };
        match provision(service.pool.profile(), vec![make])
            .await
            .map_err(|error| unprovisioned(error, "HSM_SETUP"))?
            .pop()
        {
            Some(Provisioned::LogKey(public)) => Ok(public),
            _ => Err(Problem::Internal.into()),
        }
    }
}

fn refuse_second(instance: &InstanceRow) -> Result<(), ServiceError> {
    if instance.log_keys.change.is_none() {
        return Ok(());
    }
    let why = "another log key takes the log key's place already: `strongroom own-keys show` says what it waits for";
    Err(Problem::Precondition { reason: "LOG_KEY_IN_ROTATION", why: why.to_owned() }.into())
}

impl Work for RotateLog {
    type Op = ops::OwnKeysRotateLog;
    type Out = LogKeyView;

    fn detail(&self) -> Option<String> {
        Some(format!("next log key {}", self.id))
    }

    async fn check(
        &self,
        service: &Service,
        _: &Permit<Self::Op>,
        context: &Context,
    ) -> Result<LogKeyView, ServiceError> {
        let instance = service.catalog.instance(context.caller.deadline).await?;
        refuse_second(&instance)?;
        service.shown(&instance)
    }

    async fn apply(
        &self,
        service: &Service,
        permit: Permit<Self::Op>,
        context: &Context,
    ) -> Result<Applied<LogKeyView>, ServiceError> {
        let deadline = context.caller.deadline;
        let found = service.catalog.instance(deadline).await?;
        refuse_second(&found)?;
        let made = self.made.get_or_try_init(|| self.make(service, &found)).await?;
        failpoint::hit(failpoint::SERVICE_AFTER_GENERATE);
        let locked = service.catalog.scopes.lock(HeadScope::Service, deadline).await?;
        let (old, seal) = service.catalog.sealed_instance(deadline).await?;
        refuse_second(&old)?;
        let next = LogKey { id: Some(self.id.bytes()), public: made.clone() };
        let new = InstanceRow { revision: old.revision + 1, ..old.signing_by(next, context.now) };
        let put = Put::replace(&old, seal, NewRow::Instance(Box::new(new.clone())));
        let request = context.request_record("logKey".to_owned());
        let name = Self::Op::ACTION.name();
        let making = Making { name, right: &permit, intent: context.intent, request, deadline };
        let committed = service.catalog.scopes.commit(&locked, making, vec![put]).await?;
        Ok(Applied { out: service.shown(&new)?, heads: vec![committed.mark] })
    }

    async fn again(
        &self,
        service: &Service,
        _: &Permit<Self::Op>,
        _: &str,
        context: &Context,
    ) -> Result<LogKeyView, ServiceError> {
        service.log_key_view(context.caller.deadline).await
    }

    fn version(&self) -> Option<VersionId> {
        Some(self.id)
    }

    async fn undo(&self, service: &Service, _: &Context) -> Result<(), ServiceError> {
        service.hands.reap(self.id, Moment::now().after(REAP_WITHIN)).await
    }
}

/// Takes the old log key out of the row, once it is destroyed.
struct EndChange {
    old: LogKey,
    lease: WorkLease,
}

impl EndChange {
    fn next(&self, row: &InstanceRow) -> Result<InstanceRow, ServiceError> {
        if row.log_keys.change.as_ref().is_none_or(|change| change.old != self.old) {
            return Err(Problem::Changed { name: "log key".to_owned() }.into());
        }
        Ok(InstanceRow { revision: row.revision + 1, ..row.without_old_log_key() })
    }
}

impl Work for EndChange {
    type Op = ops::OwnKeysRotateLog;
    type Out = ();

    fn detail(&self) -> Option<String> {
        Some("done: the old log key is destroyed".to_owned())
    }

    async fn check(&self, service: &Service, _: &Permit<Self::Op>, context: &Context) -> Result<(), ServiceError> {
        let row = service.catalog.instance(context.caller.deadline).await?;
        self.next(&row).map(drop)
    }

    async fn apply(
        &self,
        service: &Service,
        _: Permit<Self::Op>,
        context: &Context,
    ) -> Result<Applied<()>, ServiceError> {
        let deadline = context.caller.deadline;
        let locked = service.catalog.scopes.lock(HeadScope::Service, deadline).await?;
        let (row, seal) = service.catalog.sealed_instance(deadline).await?;
        let put = Put::replace(&row, seal, NewRow::Instance(Box::new(self.next(&row)?)));
        let (name, right, intent) = (Self::Op::ACTION.name(), &self.lease, context.intent);
        let making = Making { name, right, intent, request: None, deadline };
        let committed = service.catalog.scopes.commit(&locked, making, vec![put]).await?;
        Ok(Applied { out: (), heads: vec![committed.mark] })
    }

    async fn again(&self, _: &Service, _: &Permit<Self::Op>, _: &str, _: &Context) -> Result<(), ServiceError> {
        Ok(())
    }
}
