//! Rotates keys: a new version takes the place of the newest, and is as that one is but for its material and dates, and
//! for what the key's policy says.

use tokio::sync::OnceCell;

use super::{
    invalid,
    make::{Follows, Fresh, MakeKey},
};
use crate::{
    access::{Permit, ops},
    model::{KeyObjectRow, KeySpec, Residency, Row as _, Timestamp, VersionId, VersionRow},
    rotation::{NextVersion, Work as Step, next_version, plan},
    service::{
        KeyRef, KeyView, NewKey, Service,
        door::{Applied, Context, Work},
        error::{Problem, ServiceError},
        fresh_id,
        rotation::life,
    },
    store::WorkLease,
};

type Successor = MakeKey<Fresh<ops::KeysRotate>>;

/// Makes the successor of a key's newest version.
pub(in crate::service) struct RotateKey {
    /// The key.
    name: KeyRef,
    /// Where the next version lives; as the newest when absent.
    residency: Option<Residency>,
    version: VersionId,
    /// Only if it is due, under this lease.
    on_schedule: Option<WorkLease>,
    /// What is made: decided by the version that was the newest when the request was checked.
    successor: OnceCell<Successor>,
}

impl RotateKey {
    /// Of that key, now.
    pub(in crate::service) fn new(name: KeyRef, residency: Option<Residency>) -> Self {
        let version = VersionId::from_bytes(fresh_id());
        Self { name, residency, version, on_schedule: None, successor: OnceCell::new() }
    }

    /// Of that key, if it is due.
    pub(in crate::service) fn if_due(name: KeyRef, lease: WorkLease) -> Self {
        Self { on_schedule: Some(lease), ..Self::new(name, None) }
    }

    async fn successor(&self, service: &Service, context: &Context) -> Result<&Successor, ServiceError> {
        self.successor.get_or_try_init(|| self.plan(service, context)).await
    }

    async fn plan(&self, service: &Service, context: &Context) -> Result<Successor, ServiceError> {
        let deadline = context.caller.deadline;
        let vault = service.catalog.live_vault(&self.name.vault, deadline).await?;
        let key = service.catalog.key(&vault.row, &self.name.key, deadline).await?;
        let name = self.name.to_string();
        if !key.row.state.is_active() {
            return Err(Problem::SoftDeleted { name }.into());
        }
        context.check_etag(&key.row.etag(), &name)?;
        let newest = service.catalog.version(&vault.row, &key.row, key.row.current, deadline).await?;
        if newest.row.residency == Residency::Public {
            let why = format!("{name} has public halves only: import the next one");
            return Err(Problem::Precondition { reason: "PUBLIC_AND_PRIVATE", why }.into());
        }
        let residency = self.residency.unwrap_or(newest.row.residency);
        check_residency(residency, &newest.row)?;
        let uses = service.uses(&vault.row, &key.row, &newest.row, deadline).await?;
        let next = self.next(&key.row, &newest.row, uses, context.now)?;
        let revisions = (key.row.revision, newest.row.revision);
        let follows = Follows { revisions, created: next.created, lease: self.on_schedule.clone() };
        let new = successor_of(&key.row, &newest.row, residency, next);
        Ok(MakeKey::after(follows, new, self.version, Fresh::new()))
    }

    /// When the next version begins and ends.
    fn next(
        &self,
        key: &KeyObjectRow,
        newest: &VersionRow,
        uses: u64,
        now: Timestamp,
    ) -> Result<NextVersion, ServiceError> {
        let life = life(key, newest, uses);
        let due = plan(&life, now, now).due.into_iter().find(|due| matches!(due.work, Step::Rotate { .. }));
        if due.is_none() && self.on_schedule.is_some() {
            let why = format!("{} is not due", self.name);
            return Err(Problem::Precondition { reason: "NOT_DUE", why }.into());
        }
        let due = due.filter(|_| self.on_schedule.is_some());
        Ok(next_version(life.policy.as_ref(), &life.current, due.as_ref(), now))
    }
}

/// Refuses a residency in which there is no successor of that version.
fn check_residency(residency: Residency, newest: &VersionRow) -> Result<(), ServiceError> {
    if residency == Residency::Public {
        return Err(invalid("residency", "a public half without a private one is imported, not made"));
    }
    if residency.allows(newest.spec, newest.ops) {
        return Ok(());
    }
    Err(invalid(
        "residency",
        "a key whose only operation is import is wrapped: on the token it would be made for all operations",
    ))
}

/// Whether a key of that kind can do what the newest does, where that one lives.
pub(in crate::service) fn may_follow(next: KeySpec, newest: &VersionRow) -> bool {
    next.key_type() == newest.spec.key_type() && newest.residency.allows(next, newest.ops)
}

/// The next version.
fn successor_of(key: &KeyObjectRow, newest: &VersionRow, residency: Residency, next: NextVersion) -> NewKey {
    let spec = key.rotation.as_ref().and_then(|rotation| rotation.policy.next_spec);
    // Somebody may have made a version of another kind since the policy was set: that one decides.
    let spec = spec.filter(|spec| may_follow(*spec, newest));
    NewKey {
        vault: key.vault.clone(),
        name: key.name.clone(),
        spec: spec.unwrap_or(newest.spec),
        ops: Some(newest.ops),
        enabled: true,
        not_before: None,
        expires: next.expires,
        tags: newest.tags.clone(),
        residency,
        must_not_exist: false,
    }
}

impl Work for RotateKey {
    type Op = ops::KeysRotate;
    type Out = KeyView;

    fn version(&self) -> Option<VersionId> {
        Some(self.version)
    }

    fn cost_us(&self) -> u64 {
        self.successor.get().map_or(0, Work::cost_us)
    }

    fn detail(&self) -> Option<String> {
        self.successor.get().and_then(Work::detail)
    }

    async fn check(
        &self,
        service: &Service,
        permit: &Permit<Self::Op>,
        context: &Context,
    ) -> Result<KeyView, ServiceError> {
        self.successor(service, context).await?.check(service, permit, context).await
    }

    async fn apply(
        &self,
        service: &Service,
        permit: Permit<Self::Op>,
        context: &Context,
    ) -> Result<Applied<KeyView>, ServiceError> {
        self.successor(service, context).await?.apply(service, permit, context).await
    }

    async fn again(
        &self,
        service: &Service,
        _: &Permit<Self::Op>,
        resource: &str,
        context: &Context,
    ) -> Result<KeyView, ServiceError> {
        let version = resource.rsplit('/').next().and_then(|version| version.parse().ok());
        service.view(&KeyRef { version, ..self.name.clone() }, context.caller.deadline).await
    }

    async fn undo(&self, service: &Service, context: &Context) -> Result<(), ServiceError> {
        match self.successor.get() {
            Some(successor) => successor.undo(service, context).await,
            None => Ok(()),
        }
    }
}
