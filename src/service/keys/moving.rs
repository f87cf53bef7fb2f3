//! Moves a key to another vault: one change of two scopes. Its versions keep their ids, blobs, attributes and counters; its
//! rows are new statements that name the new vault, so nothing that knew the old ones serves the old name.

use std::sync::{Arc, OnceLock};

use super::{backup::Whole, invalid, under::version_opens_in};
use crate::{
    access::{Denied, Permit, ops},
    model::{
        EventRow, EventType, Fate, KeyObjectRow, Row as _, Scope, UsageRow, VaultName, VaultRow, VersionId, VersionRow,
    },
    service::{
        Caller, ChangeOptions, KeyRef, KeyView, Service,
        catalog::{Checked, key_id, vault_id},
        door::{Applied, Context, Work},
        error::{Problem, ServiceError},
        events,
        known::Memory,
        quota::ROW_US,
        scopes::{Locked, Making, NewRow, Put, Right},
    },
    store::HeadScope,
};

/// A key in its new vault.
#[derive(Clone, Debug)]
pub struct Moved {
    /// The key.
    pub key: KeyView,
    /// How many role assignments there are at its old name: they stay, and give nothing there any more.
    pub assignments_left: usize,
}

impl Service {
    /// How many role assignments there are at exactly that scope.
    fn assigned_at(&self, scope: &Scope) -> usize {
        self.policy.now().assignments().filter(|row| row.scope == *scope).count()
    }

    /// Moves a key to another vault. Takes `keys.move` at the key, and `keys.restore` where it comes to.
    ///
    /// # Errors
    /// [`Problem::NotFound`]; [`Problem::SoftDeleted`]; [`Problem::Exists`] and [`Problem::Deleted`] when its name is taken
    /// there; [`Problem::Precondition`] when a vault has a KEK of its own, or the key would be less protected there.
    pub async fn move_key(
        self: &Arc<Self>,
        caller: &Caller,
        name: &KeyRef,
        to: &VaultName,
        options: ChangeOptions,
    ) -> Result<Moved, ServiceError> {
        let scope = Scope::key(&name.vault, &name.key);
        let work = MoveKey { name: name.clone(), to: to.clone(), versions: OnceLock::new() };
        self.change(caller, name.to_string(), scope, options, work).await
    }
}

struct MoveKey {
    name: KeyRef,
    to: VaultName,
    /// How many versions there were when the request was checked.
    versions: OnceLock<usize>,
}

/// Before the name of the vault that a key is moved to, in the detail of its intent.
const TO: &str = "to vaults/";

/// Which vault an intent to move says the key goes to. The detail is the service's own.
pub(in crate::service) fn target_of(detail: &str) -> Option<VaultName> {
    detail.strip_prefix(TO)?.split(':').next()?.parse().ok()
}

/// What is written in either vault.
struct Planned {
    source: Vec<Put>,
    target: Vec<Put>,
    view: KeyView,
    versions: usize,
}

/// Both rights of a move.
struct Both<'a> {
    away: &'a Permit<ops::KeysMove>,
    there: &'a Permit<ops::KeysRestore>,
}

impl Right for Both<'_> {
    fn check(&self) -> Result<(), Denied> {
        Right::check(self.away).and_then(|()| Right::check(self.there))
    }

    fn is_urgent(&self) -> bool {
        self.away.is_urgent()
    }
}

impl MoveKey {
    fn target_name(&self) -> KeyRef {
        KeyRef { vault: self.to.clone(), key: self.name.key.clone(), version: None }
    }

    /// The right to put it there. Asked for before anything is said of that vault.
    fn right_there(&self, service: &Service, caller: &Caller) -> Result<Permit<ops::KeysRestore>, ServiceError> {
        let scope = Scope::key(&self.to, &self.name.key);
        Ok(service.policy.permit(&caller.identity, caller.origin, scope).map_err(Problem::Denied)?)
    }

    /// The two vaults, if keys can go from the one to the other.
    async fn vaults(
        &self,
        service: &Service,
        context: &Context,
    ) -> Result<(Arc<Checked<VaultRow>>, Arc<Checked<VaultRow>>), ServiceError> {
        let deadline = context.caller.deadline;
        if self.name.vault == self.to {
            return Err(invalid("target_vault", "it is the vault that the key is in"));
        }
        let source = service.catalog.live_vault(&self.name.vault, deadline).await?;
        let target = service.catalog.live_vault(&self.to, deadline).await?;
        if let Some(own) = [&source, &target].into_iter().find(|vault| vault.row.kek.is_some()) {
            let why = format!(
                "vaults/{} has a key-encryption key of its own, under which its keys are and no others: a key neither comes \
                 into it nor leaves it; make a new key in the other vault",
                own.row.name
            );
            return Err(Problem::Precondition { reason: "KEK_OF_ITS_OWN", why }.into());
        }
        let weaker = !target.row.purge_protection || target.row.retention_days < source.row.retention_days;
        if source.row.purge_protection && weaker {
            let why = format!(
                "vaults/{} has purge protection for {} days, and vaults/{} has less: there the key could be destroyed earlier; \
                 move it to a vault that protects it as long",
                source.row.name, source.row.retention_days, target.row.name
            );
            return Err(Problem::Precondition { reason: "WEAKER_PURGE_PROTECTION", why }.into());
        }
        Ok((source, target))
    }

    async fn plan(&self, service: &Service, context: &Context) -> Result<Planned, ServiceError> {
        let deadline = context.caller.deadline;
        let (source, target) = self.vaults(service, context).await?;
        let old = service.catalog.key(&source.row, &self.name.key, deadline).await?;
        let name = self.name.to_string();
        context.check_etag(&old.row.etag(), &name)?;
        if !old.row.state.is_active() {
            return Err(Problem::SoftDeleted { name }.into());
        }
        service.check_name_is_free(&target.row, &self.target_name(), deadline).await?;
        let key = KeyObjectRow {
            id: key_id(target.row.id, &old.row.name),
            vault: target.row.name.clone(),
            updated: context.now,
            intent: context.intent,
            revision: old.row.revision + 1,
            ..KeyObjectRow::clone(&old.row)
        };
        let root = service.resting_root()?;
        let memory = Memory { fate: Fate::Moved, at: context.now };
        let known = service.known(&source.row, old.row.id, deadline).await?;
        let (mut leaves, mut comes) = (Vec::new(), vec![Put::bring_back(NewRow::Key(key.clone()))]);
        let mut newest = None;
        let whole = service.whole_key(&source.row, &old.row, context).await?;
        let versions = whole.len();
        for Whole { version, usage } in whole {
            if !version_opens_in(&version.row, &target.row, root) {
                return Err(Problem::Tampered { name: self.version_name(version.row.version) }.into());
            }
            if known.is_some() {
                let counted = usage.as_ref().map(|usage| &*usage.row);
                leaves.push(service.remember_version(&source.row, &version.row, counted, memory, deadline).await?);
            }
            let row = moved(&version.row, &key);
            if row.version == key.current {
                newest = Some(row.clone());
            }
            comes.push(Put::insert(NewRow::Version(Box::new(row))));
            let row = Box::new(VersionRow::clone(&version.row));
            leaves.push(Put::remove(NewRow::LeaveVersion(row), version.seal));
            if let Some(usage) = usage {
                let row = UsageRow { revision: usage.row.revision + 1, ..*usage.row };
                comes.push(Put::insert(NewRow::MovedUsage(row)));
                leaves.push(Put::remove(NewRow::LeaveUsage(*usage.row), usage.seal));
            }
        }
        leaves.extend(known.map(|known| Service::remember_key(&known, &old.row, memory)));
        leaves.push(Put::remove(NewRow::RemoveKey(KeyObjectRow::clone(&old.row)), old.seal));
        let version = Arc::new(newest.ok_or(Problem::Internal)?);
        let view = KeyView { vault: Arc::clone(&target.row), key: Arc::new(key), version };
        Ok(Planned { source: leaves, target: comes, view, versions })
    }

    fn version_name(&self, version: VersionId) -> String {
        KeyRef { version: Some(version), ..self.name.clone() }.to_string()
    }

    /// Both scopes, in the order of their ids, so that two moves never wait for each other.
    async fn lock(&self, service: &Service, context: &Context) -> Result<(Locked, Locked), ServiceError> {
        let scopes = &service.catalog.scopes;
        let scope = |vault| HeadScope::Vault(vault_id(vault));
        let (source, target) = (scope(&self.name.vault), scope(&self.to));
        let deadline = context.caller.deadline;
        if source < target {
            let source = scopes.lock(source, deadline).await?;
            Ok((source, scopes.lock(target, deadline).await?))
        } else {
            let target = scopes.lock(target, deadline).await?;
            Ok((scopes.lock(source, deadline).await?, target))
        }
    }

    /// An event for those who look at the old vault, and one for those who look at the new.
    fn events(&self, context: &Context) -> Vec<EventRow> {
        let tell = |name: &KeyRef, detail: String| EventRow {
            detail,
            ..events::of_key(EventType::KeyMoved, &context.caller, context.now, name)
        };
        let away = tell(&self.name, format!("{TO}{}", self.to));
        vec![away, tell(&self.target_name(), format!("from vaults/{}", self.name.vault))]
    }

    fn answer(&self, service: &Service, key: KeyView) -> Moved {
        let scope = Scope::key(&self.name.vault, &self.name.key);
        Moved { key, assignments_left: service.assigned_at(&scope) }
    }
}

/// The version in its new vault.
fn moved(version: &VersionRow, key: &KeyObjectRow) -> VersionRow {
    let (vault, intent, revision) = (key.vault.clone(), key.intent, version.revision + 1);
    VersionRow { vault, intent, revision, ..version.clone() }
}

impl Work for MoveKey {
    type Op = ops::KeysMove;
    type Out = Moved;

    fn cost_us(&self) -> u64 {
        self.versions.get().map_or(0, |versions| 2 * ROW_US * *versions as u64)
    }

    fn detail(&self) -> Option<String> {
        self.versions.get().map(|versions| format!("{TO}{}: {versions} versions", self.to))
    }

    async fn check(&self, service: &Service, _: &Permit<Self::Op>, context: &Context) -> Result<Moved, ServiceError> {
        self.right_there(service, &context.caller)?;
        let planned = self.plan(service, context).await?;
        let _ = self.versions.set(planned.versions);
        Ok(self.answer(service, planned.view))
    }

    async fn apply(
        &self,
        service: &Service,
        permit: Permit<Self::Op>,
        context: &Context,
    ) -> Result<Applied<Moved>, ServiceError> {
        let there = self.right_there(service, &context.caller)?;
        let (source, target) = self.lock(service, context).await?;
        let planned = self.plan(service, context).await?;
        let request = context.request_record(self.target_name().to_string());
        let deadline = context.caller.deadline;
        let right = Both { away: &permit, there: &there };
        let making = Making { name: "keys.move", right: &right, intent: context.intent, request, deadline };
        let parts = vec![(&source, planned.source), (&target, planned.target)];
        let committed = service.catalog.scopes.commit_together(parts, making, self.events(context)).await?;
        let heads = committed.into_iter().map(|committed| committed.mark).collect();
        Ok(Applied { out: self.answer(service, planned.view), heads })
    }

    async fn again(
        &self,
        service: &Service,
        _: &Permit<Self::Op>,
        _: &str,
        context: &Context,
    ) -> Result<Moved, ServiceError> {
        self.right_there(service, &context.caller)?;
        let key = service.view(&self.target_name(), context.caller.deadline).await?;
        Ok(self.answer(service, key))
    }
}
