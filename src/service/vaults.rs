//! Vaults: made, shown, changed, softly deleted and brought back.

use std::sync::Arc;

use strongroom_hsm::{
    TOKEN_OBJECT_US,
    protocol::{Kek, Moment},
};
use tokio::sync::OnceCell;

use super::{
    Caller, ChangeOptions, NewVault, Page, Paged, Service, VaultPatch,
    catalog::{Checked, vault_id},
    door::{Applied, Context, Note, Work},
    error::{Problem, ServiceError},
    events, fresh_id,
    purge::{PURGING, Schedule, may_purge},
    quota::ROW_US,
    scopes::{Making, NewRow, Put, Right},
    settle::REAP_WITHIN,
};
use crate::{
    access::{Action, Barrier, Denied, Permit, Where, ops},
    failpoint,
    model::{
        EventRow, EventType, MaxStaleness, NetworkPatch, Row as _, Scope, State, Timestamp, VaultAuthorization,
        VaultName, VaultRow, VersionId, network::NetworkRulesError,
    },
    rotation::deleted,
    store::{HeadScope, WorkLease},
};

/// Days that a deleted object can be recovered for, at least and at most (Azure Key Vault's bounds).
pub const RETENTION_DAYS: std::ops::RangeInclusive<u16> = 7..=90;

impl Service {
    /// Makes a vault.
    ///
    /// # Errors
    /// [`Problem::Exists`] or [`Problem::Deleted`] when the name is taken.
    pub async fn create_vault(
        self: &Arc<Self>,
        caller: &Caller,
        new: NewVault,
        options: ChangeOptions,
    ) -> Result<Arc<VaultRow>, ServiceError> {
        let resource = format!("vaults/{}", new.name);
        self.change(caller, resource, Scope::Service, options, CreateVault::new(new)).await
    }

    /// Shows a vault, live or deleted.
    ///
    /// # Errors
    /// [`Problem::NotFound`].
    pub async fn get_vault(&self, caller: &Caller, name: &VaultName) -> Result<Arc<VaultRow>, ServiceError> {
        let note = Note::default();
        self.plain(caller, resource(name), Scope::Vault(name.clone()), &note, |_: Permit<ops::VaultsRead>| async {
            Ok(Arc::clone(&self.catalog.vault(name, caller.deadline).await?.row))
        })
        .await
    }

    /// Lists the vaults that the caller may read. A caller who may read none is refused.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn list_vaults(
        &self,
        caller: &Caller,
        page: Page<VaultName>,
    ) -> Result<Paged<Arc<VaultRow>>, ServiceError> {
        let policy = self.policy.now();
        let note = Note::default();
        self.plain(caller, "vaults".to_owned(), Where::Anywhere, &note, |_: Permit<ops::VaultsRead>| async {
            self.visible_vaults(caller, &note, page, |vault| {
                let scope = Scope::Vault(vault.clone());
                policy.sees(&caller.identity, vault)
                    && policy.admits(&caller.identity, caller.origin, Action::VaultsRead, &scope)
            })
            .await
        })
        .await
    }

    async fn visible_vaults(
        &self,
        caller: &Caller,
        note: &Note,
        mut page: Page<VaultName>,
        sees: impl Fn(&VaultName) -> bool + Send,
    ) -> Result<Paged<Arc<VaultRow>>, ServiceError> {
        let size = usize::try_from(page.size).map_err(|_| Problem::Internal)?;
        let mut items = Vec::new();
        loop {
            let found = self.catalog.vaults(&page, caller.deadline).await?;
            note.charge(ROW_US * found.len() as u64);
            let last = found.len() <= size;
            for vault in found {
                page.after = Some(vault.row.name.clone());
                if !sees(&vault.row.name) {
                    continue;
                }
                if items.len() == size {
                    return Ok(Paged { items, more: true });
                }
                items.push(vault.row);
            }
            if last {
                return Ok(Paged { items, more: false });
            }
        }
    }

    /// Changes a vault.
    ///
    /// # Errors
    /// [`Problem::Precondition`] when purge protection would be switched off.
    pub async fn update_vault(
        self: &Arc<Self>,
        caller: &Caller,
        name: &VaultName,
        patch: VaultPatch,
        options: ChangeOptions,
    ) -> Result<Arc<VaultRow>, ServiceError> {
        let work = ChangeVault::<ops::VaultsUpdate>::new(name, Edit::Patch(patch));
        self.change(caller, resource(name), Scope::Vault(name.clone()), options, work).await
    }

    /// Deletes a vault softly.
    ///
    /// # Errors
    /// [`Problem::NotFound`].
    pub async fn delete_vault(
        self: &Arc<Self>,
        caller: &Caller,
        name: &VaultName,
        options: ChangeOptions,
    ) -> Result<Arc<VaultRow>, ServiceError> {
        let work = ChangeVault::<ops::VaultsDelete>::new(name, Edit::Delete);
        self.change(caller, resource(name), Scope::Vault(name.clone()), options, work).await
    }

    /// Brings a deleted vault back.
    ///
    /// # Errors
    /// [`Problem::Precondition`] when it is not deleted.
    pub async fn undelete_vault(
        self: &Arc<Self>,
        caller: &Caller,
        name: &VaultName,
        options: ChangeOptions,
    ) -> Result<Arc<VaultRow>, ServiceError> {
        let work = ChangeVault::<ops::VaultsUndelete>::new(name, Edit::Undelete);
        self.change(caller, resource(name), Scope::Vault(name.clone()), options, work).await
    }

    /// Destroys a deleted vault with all that is in it. Says whether all is gone; if not, it goes on by itself.
    ///
    /// # Errors
    /// [`Problem::Precondition`] when it is not deleted, or has purge protection.
    pub async fn purge_vault(
        self: &Arc<Self>,
        caller: &Caller,
        name: &VaultName,
        options: ChangeOptions,
    ) -> Result<bool, ServiceError> {
        let validate_only = options.validate_only;
        let work = MarkVault::new(name, None);
        self.change(caller, resource(name), Scope::Vault(name.clone()), options, work).await?;
        if validate_only {
            return Ok(false);
        }
        // From here on nobody takes it back, and whoever does what is due would do the same.
        let itself = Caller { deadline: caller.deadline, ..self.itself(PURGING) };
        let until = caller.deadline;
        let has_time = move || Moment::now() < until;
        // Detached: a caller that goes away does not stop it between a change and its outcome.
        let (service, vault) = (Arc::clone(self), name.clone());
        let task = tokio::spawn(async move { service.purge_contents(&itself, &vault, None, has_time).await });
        match task.await.map_err(|error| ServiceError::because(Problem::Internal, error))? {
            Ok(done) => Ok(done),
            Err(error) => {
                tracing::info!(vault = %name, %error, cause = ?error.cause, "a vault is not purged yet: it goes on");
                Ok(matches!(error.problem, Problem::NotFound { .. }))
            }
        }
    }

    /// Marks a vault whose time has come, so that it can be destroyed.
    pub(super) async fn mark_vault(
        self: &Arc<Self>,
        caller: &Caller,
        name: &VaultName,
        schedule: Schedule,
    ) -> Result<(), ServiceError> {
        let work = MarkVault::new(name, Some(schedule));
        self.scheduled(caller, resource(name), Scope::Vault(name.clone()), work).await
    }
}

impl Service {
    /// Puts in force what a vault's new row says. Under the lock of the service's scope, as all that changes the
    /// policy.
    pub(super) fn put_rules(&self, row: &VaultRow) {
        if let Some(policy) = self.policy.now().with_rules_of(row) {
            self.policy.set(policy);
        }
    }
}

fn resource(name: &VaultName) -> String {
    format!("vaults/{name}")
}

struct CreateVault {
    new: NewVault,
    /// Under an id of our own, as a key's version.
    kek: Option<VersionId>,
    /// Its KEK, once it is on the token: a change that another process was quicker than is decided again, and it stays.
    made: OnceCell<Kek>,
}

impl CreateVault {
    fn new(new: NewVault) -> Self {
        let kek = new.own_kek.then(|| VersionId::from_bytes(fresh_id()));
        Self { new, kek, made: OnceCell::new() }
    }

    async fn make_kek(
        &self,
        service: &Service,
        permit: &Permit<ops::VaultsCreate>,
        context: &Context,
    ) -> Result<(), ServiceError> {
        let Some(kek) = self.kek else { return Ok(()) };
        self.made.get_or_try_init(|| service.hands.make_kek(permit, kek, &context.caller)).await?;
        failpoint::hit("service.after_generate");
        Ok(())
    }

    async fn plan(&self, service: &Service, context: &Context) -> Result<VaultRow, ServiceError> {
        let new = &self.new;
        let NewVault { name, tags, retention_days, .. } = new;
        if !RETENTION_DAYS.contains(retention_days) {
            let why = format!("{retention_days} days; 7 to 90 are allowed");
            return Err(Problem::Invalid { field: "vault.retention_days", why }.into());
        }
        match service.catalog.vault(name, context.caller.deadline).await {
            Ok(vault) => return Err(taken(&vault.row)),
            Err(ServiceError { problem: Problem::NotFound { .. }, .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(VaultRow {
            id: vault_id(name),
            name: name.clone(),
            tags: tags.clone(),
            retention_days: *retention_days,
            purge_protection: new.purge_protection,
            padding_decryption_allowed: new.padding_decryption_allowed,
            network: new.network.clone(),
            authorization: new.authorization,
            max_staleness: new.max_staleness,
            // Whoever only asks is shown an id that there is not.
            kek: self
                .kek
                .map(|id| self.made.get().copied().unwrap_or(Kek { id: id.bytes(), blob: [0; 24], mark: [0; 16] })),
            retired_keks: Vec::new(),
            kek_since: None,
            state: State::Active,
            purging: false,
            created: context.now,
            updated: context.now,
            intent: context.intent,
            revision: 1,
        })
    }
}

/// The refusal of network rules that cannot be.
#[must_use]
pub fn invalid_network(error: &NetworkRulesError) -> Problem {
    Problem::Invalid { field: "vault.network.allowed_ranges", why: error.to_string() }
}

fn taken(vault: &VaultRow) -> ServiceError {
    let name = resource(&vault.name);
    if vault.state.is_active() { Problem::Exists { name }.into() } else { Problem::Deleted { name }.into() }
}

impl Work for CreateVault {
    type Op = ops::VaultsCreate;
    type Out = Arc<VaultRow>;

    fn detail(&self) -> Option<String> {
        let NewVault { padding_decryption_allowed, network, authorization, max_staleness, .. } = &self.new;
        // What a vault has unless it is said otherwise needs no words.
        let said = VaultPatch {
            padding_decryption_allowed: padding_decryption_allowed.then_some(true),
            network: NetworkPatch {
                public_access: (!network.public_access()).then_some(false),
                local_access: (!network.local_access()).then_some(false),
                ranges: Some(network.ranges().to_vec()).filter(|ranges| !ranges.is_empty()),
            },
            authorization: Some(*authorization).filter(|authorization| *authorization != VaultAuthorization::Roles),
            max_staleness: Some(*max_staleness).filter(|max| *max != MaxStaleness::default()),
            ..VaultPatch::default()
        };
        let own_kek = self.kek.map(|_| "own_kek=true".to_owned());
        let said: Vec<String> =
            Some(said.to_string()).filter(|said| !said.is_empty()).into_iter().chain(own_kek).collect();
        Some(said.join(" ")).filter(|said| !said.is_empty())
    }

    fn version(&self) -> Option<VersionId> {
        self.kek
    }

    fn cost_us(&self) -> u64 {
        self.kek.map_or(0, |_| u64::from(TOKEN_OBJECT_US))
    }

    async fn check(
        &self,
        service: &Service,
        _: &Permit<Self::Op>,
        context: &Context,
    ) -> Result<Self::Out, ServiceError> {
        Ok(Arc::new(self.plan(service, context).await?))
    }

    async fn apply(
        &self,
        service: &Service,
        permit: Permit<Self::Op>,
        context: &Context,
    ) -> Result<Applied<Self::Out>, ServiceError> {
        self.make_kek(service, &permit, context).await?;
        let locked = service.catalog.scopes.lock(HeadScope::Service, context.caller.deadline).await?;
        let row = self.plan(service, context).await?;
        let put = Put::insert(NewRow::Vault(row.clone()));
        let request = context.request_record(resource(&row.name));
        let committed = service
            .catalog
            .scopes
            .commit(
                &locked,
                Making {
                    name: "vaults.create",
                    right: &permit,
                    intent: context.intent,
                    request,
                    deadline: context.caller.deadline,
                },
                vec![put],
            )
            .await;
        let committed = service.note_policy(committed)?;
        service.put_rules(&row);
        Ok(Applied { out: Arc::new(row), heads: vec![committed.mark] })
    }

    async fn again(
        &self,
        service: &Service,
        _: &Permit<Self::Op>,
        _: &str,
        context: &Context,
    ) -> Result<Self::Out, ServiceError> {
        Ok(Arc::clone(&service.catalog.vault(&self.new.name, context.caller.deadline).await?.row))
    }

    async fn undo(&self, service: &Service, _: &Context) -> Result<(), ServiceError> {
        let Some(kek) = self.kek else { return Ok(()) };
        // The caller's deadline may have passed; cleaning up has its own.
        service.hands.reap(kek, Moment::now().after(REAP_WITHIN)).await
    }
}

enum Edit {
    Patch(VaultPatch),
    Delete,
    Undelete,
    /// Marks it to be destroyed: now, or if its time has come.
    Purge(Option<Schedule>),
}

struct ChangeVault<O> {
    name: VaultName,
    edit: Edit,
    op: std::marker::PhantomData<O>,
}

impl<O> ChangeVault<O> {
    fn new(name: &VaultName, edit: Edit) -> Self {
        Self { name: name.clone(), edit, op: std::marker::PhantomData }
    }

    async fn plan(
        &self,
        service: &Service,
        context: &Context,
        deadline: Moment,
    ) -> Result<(Arc<Checked<VaultRow>>, VaultRow), ServiceError> {
        let old = service.catalog.vault(&self.name, deadline).await?;
        context.check_etag(&old.row.etag(), &resource(&self.name))?;
        let mut new = VaultRow::clone(&old.row);
        let trusted = match self.edit {
            Edit::Delete => service.trusted_time(deadline).await?,
            Edit::Patch(_) | Edit::Undelete | Edit::Purge(_) => context.now,
        };
        self.edit.apply(&mut new, context, trusted)?;
        if new.authorization != old.row.authorization {
            may_turn(service, context, &self.name)?;
        }
        new.updated = context.now;
        new.intent = context.intent;
        new.revision += 1;
        Ok((old, new))
    }
}

/// Whether the caller may say what decides who uses a vault: that gives and takes what roles and access policies do,
/// so it takes the right to give what administers (Azure asks for the right to assign roles, too).
fn may_turn(service: &Service, context: &Context, vault: &VaultName) -> Result<(), ServiceError> {
    let (action, scope) = (Action::RoleAssignmentsDelegate, Scope::Vault(vault.clone()));
    if service.policy.now().allows(&context.caller.identity, action, &scope) {
        return Ok(());
    }
    Err(Problem::Denied(Denied { principal: context.caller.principal().clone(), action, scope, by: Barrier::Rights })
        .into())
}

impl Edit {
    /// What others are told of it.
    fn event(&self, row: &VaultRow, context: &Context) -> Option<EventRow> {
        let event = |kind| events::of_vault(kind, &context.caller, context.now, &row.name);
        match (self, row.state) {
            (Self::Delete, State::Deleted { purge_at, .. }) => {
                Some(EventRow { due: Some(purge_at), ..event(EventType::VaultDeleted) })
            }
            (Self::Undelete, _) => Some(event(EventType::VaultRecovered)),
            (Self::Delete | Self::Patch(_) | Self::Purge(_), _) => None,
        }
    }

    /// Whose turn it is, where it is done in turn.
    const fn lease(&self) -> Option<&WorkLease> {
        match self {
            Self::Purge(Some(Schedule { lease: Some(lease), .. })) => Some(lease),
            _ => None,
        }
    }

    fn apply(&self, row: &mut VaultRow, context: &Context, trusted: Timestamp) -> Result<(), ServiceError> {
        let name = resource(&row.name);
        match self {
            Self::Purge(schedule) => {
                may_purge(row.state, row, &name, schedule.as_ref())?;
                row.purging = true;
            }
            Self::Undelete if row.purging => {
                let why = format!("{name} is being purged: nothing of it comes back");
                return Err(Problem::Precondition { reason: "BEING_PURGED", why }.into());
            }
            Self::Undelete if row.state.is_active() => {
                let why = format!("{name} is not deleted");
                return Err(Problem::Precondition { reason: "NOT_DELETED", why }.into());
            }
            Self::Undelete => row.state = State::Active,
            Self::Patch(_) | Self::Delete if !row.state.is_active() => {
                return Err(Problem::SoftDeleted { name }.into());
            }
            Self::Delete => {
                row.state = deleted(context.now, trusted, row.retention_days);
            }
            Self::Patch(patch) => {
                if let Some(tags) = &patch.tags {
                    row.tags = tags.clone();
                }
                if patch.purge_protection == Some(false) && row.purge_protection {
                    let why = format!("purge protection of {name} cannot be switched off again");
                    return Err(Problem::Precondition { reason: "PURGE_PROTECTION_IS_FINAL", why }.into());
                }
                row.purge_protection |= patch.purge_protection == Some(true);
                row.padding_decryption_allowed =
                    patch.padding_decryption_allowed.unwrap_or(row.padding_decryption_allowed);
                row.network = patch.network.apply(&row.network).map_err(|error| invalid_network(&error))?;
                row.authorization = patch.authorization.unwrap_or(row.authorization);
                row.max_staleness = patch.max_staleness.unwrap_or(row.max_staleness);
            }
        }
        Ok(())
    }
}

/// Marks a vault to be destroyed: a change of the vault after which there may be no vault to answer with.
struct MarkVault(ChangeVault<ops::VaultsPurge>);

impl MarkVault {
    fn new(name: &VaultName, schedule: Option<Schedule>) -> Self {
        Self(ChangeVault::new(name, Edit::Purge(schedule)))
    }
}

impl Work for MarkVault {
    type Op = ops::VaultsPurge;
    type Out = ();

    fn detail(&self) -> Option<String> {
        self.0.detail()
    }

    async fn check(&self, service: &Service, permit: &Permit<Self::Op>, context: &Context) -> Result<(), ServiceError> {
        self.0.check(service, permit, context).await.map(drop)
    }

    async fn apply(
        &self,
        service: &Service,
        permit: Permit<Self::Op>,
        context: &Context,
    ) -> Result<Applied<()>, ServiceError> {
        let Applied { heads, .. } = self.0.apply(service, permit, context).await?;
        Ok(Applied { out: (), heads })
    }

    async fn again(&self, _: &Service, _: &Permit<Self::Op>, _: &str, _: &Context) -> Result<(), ServiceError> {
        // It is marked, or gone.
        Ok(())
    }
}

impl<O: crate::access::Op> Work for ChangeVault<O> {
    type Op = O;
    type Out = Arc<VaultRow>;

    fn detail(&self) -> Option<String> {
        match &self.edit {
            Edit::Patch(patch) => Some(patch.to_string()),
            Edit::Purge(_) => Some("nobody brings it back from now on".to_owned()),
            Edit::Delete | Edit::Undelete => None,
        }
    }

    async fn check(&self, service: &Service, _: &Permit<O>, context: &Context) -> Result<Self::Out, ServiceError> {
        Ok(Arc::new(self.plan(service, context, context.caller.deadline).await?.1))
    }

    async fn apply(
        &self,
        service: &Service,
        permit: Permit<O>,
        context: &Context,
    ) -> Result<Applied<Self::Out>, ServiceError> {
        let deadline = context.caller.deadline;
        let locked = service.catalog.scopes.lock(HeadScope::Service, deadline).await?;
        let (old, new) = self.plan(service, context, deadline).await?;
        let put = Put::replace(old.row.as_ref(), old.seal, NewRow::Vault(new.clone()));
        let request = context.request_record(resource(&new.name));
        let events = self.edit.event(&new, context);
        let right: &dyn Right = self.edit.lease().map_or(&permit as &dyn Right, |lease| lease);
        let making = Making { name: O::ACTION.name(), right, intent: context.intent, request, deadline };
        let committed =
            service.catalog.scopes.commit_and_tell(&locked, making, vec![put], events.into_iter().collect()).await;
        let committed = service.note_policy(committed)?;
        service.put_rules(&new);
        Ok(Applied { out: Arc::new(new), heads: vec![committed.mark] })
    }

    async fn again(
        &self,
        service: &Service,
        _: &Permit<O>,
        _: &str,
        context: &Context,
    ) -> Result<Self::Out, ServiceError> {
        Ok(Arc::clone(&service.catalog.vault(&self.name, context.caller.deadline).await?.row))
    }
}
