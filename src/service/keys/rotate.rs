//! Rotates keys: a new version takes the place of the newest, and is as that one is but for its material and dates.

use tokio::sync::OnceCell;

use super::make::{Fresh, MakeKey};
use crate::{
    access::{Permit, ops},
    model::{KeyObjectRow, Residency, Row as _, VersionId, VersionRow},
    service::{
        KeyRef, KeyView, NewKey, Service,
        door::{Applied, Context, Work},
        error::{Problem, ServiceError},
        fresh_id,
    },
};

type Successor = MakeKey<Fresh<ops::KeysRotate>>;

/// Makes the successor of a key's newest version.
pub(super) struct RotateKey {
    /// The key.
    name: KeyRef,
    version: VersionId,
    /// What is made: decided by the version that was the newest when the request was checked.
    successor: OnceCell<Successor>,
}

impl RotateKey {
    /// Of that key.
    pub(super) fn new(name: KeyRef) -> Self {
        Self { name, version: VersionId::from_bytes(fresh_id()), successor: OnceCell::new() }
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
        let new = as_it_is(&key.row, &newest.row);
        Ok(MakeKey::after(newest.row.version, new, self.version, Fresh::new()))
    }
}

/// The next version.
fn as_it_is(key: &KeyObjectRow, newest: &VersionRow) -> NewKey {
    NewKey {
        vault: key.vault.clone(),
        name: key.name.clone(),
        spec: newest.spec,
        ops: Some(newest.ops),
        enabled: true,
        not_before: None,
        expires: None,
        tags: newest.tags.clone(),
        residency: newest.residency,
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
