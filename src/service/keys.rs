//! Keys and versions: made (in [`make`]), rotated, shown, changed, softly deleted and brought back.

mod backup;
mod make;
mod moving;
mod restore;
pub(super) mod rotate;
pub(in crate::service) mod under;

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use strongroom_hsm::{Material, protocol::Moment};

pub(super) use self::backup::said;
pub(super) use self::moving::target_of;
pub use self::{backup::BackedUp, moving::Moved, restore::Age};
use self::{
    make::{Fresh, Imported, MakeKey, Source, Wrapped},
    rotate::RotateKey,
};
use super::{
    Caller, ChangeOptions, KeyFilter, KeyRef, KeyView, NewKey, Page, PublicKeys, Service, VersionPatch, VersionView,
    catalog::Checked,
    door::{Applied, Context, Note, Work},
    error::{Problem, ServiceError},
    events,
    quota::ROW_US,
    rotation::look_at,
    scopes::{Making, NewRow, Put},
    version_name,
};
use crate::{
    access::{Op, Permit, ops},
    model::{
        EventRow, EventType, KeyName, KeyObjectRow, KeyOps, KeySpec, Residency, Row as _, Scope, State, Timestamp,
        VaultName, VaultRow, VersionId, VersionRow,
    },
    rotation::{PolicyProblem, deleted},
    store::{Activity, HeadScope},
};

impl Service {
    /// Makes a key, or a new version of one.
    ///
    /// # Errors
    /// [`Problem::Deleted`] when the name belongs to a deleted key; [`Problem::Exists`] when the key exists
    /// and must not.
    pub async fn create_key(
        self: &Arc<Self>,
        caller: &Caller,
        new: NewKey,
        options: ChangeOptions,
    ) -> Result<KeyView, ServiceError> {
        self.make_key(caller, MakeKey::new(new, Fresh::<ops::KeysCreate>::new()), options).await
    }

    /// Brings a key in from outside, as a key or a new version of one.
    ///
    /// # Errors
    /// As [`Self::create_key`]; [`Problem::Precondition`] when the key's versions have private halves and this
    /// one has not, or the other way round.
    pub async fn import_key(
        self: &Arc<Self>,
        caller: &Caller,
        new: NewKey,
        material: Material,
        options: ChangeOptions,
    ) -> Result<KeyView, ServiceError> {
        self.make_key(caller, MakeKey::new(new, Imported::new(material)), options).await
    }

    /// Brings a key in that another HSM has wrapped for a key of this vault whose only operation is `import`: nobody but the
    /// HSMs has it in the clear. With `validate_only` it is unwrapped and thrown away, to see whether it could be.
    ///
    /// # Errors
    /// As [`Self::import_key`]; [`Problem::Invalid`] says which layer of the blob is not right.
    pub async fn import_wrapped_key(
        self: &Arc<Self>,
        caller: &Caller,
        new: NewKey,
        kek: KeyRef,
        blob: Vec<u8>,
        options: ChangeOptions,
    ) -> Result<KeyView, ServiceError> {
        self.make_key(caller, MakeKey::new(new, Wrapped::new(kek, blob)), options).await
    }

    /// Makes a new version of a key, as the newest is: its kind, residency, operations and tags; enabled, and without
    /// dates.
    ///
    /// # Errors
    /// [`Problem::NotFound`]; [`Problem::SoftDeleted`]; [`Problem::Precondition`] when the key has public halves only;
    /// [`Problem::Changed`] when the key was changed meanwhile.
    pub async fn rotate_key(
        self: &Arc<Self>,
        caller: &Caller,
        name: &KeyRef,
        options: ChangeOptions,
    ) -> Result<KeyView, ServiceError> {
        self.rotate_key_to(caller, name, None, options).await
    }

    /// As [`Self::rotate_key`], where the new version and those after it live elsewhere, if that is said.
    ///
    /// # Errors
    /// As [`Self::rotate_key`]; [`Problem::Invalid`] when a key for its operations cannot live there.
    pub async fn rotate_key_to(
        self: &Arc<Self>,
        caller: &Caller,
        name: &KeyRef,
        residency: Option<Residency>,
        options: ChangeOptions,
    ) -> Result<KeyView, ServiceError> {
        let scope = Scope::key(&name.vault, &name.key);
        self.change(caller, name.to_string(), scope, options, RotateKey::new(name.clone(), residency)).await
    }

    async fn make_key<S: Source>(
        self: &Arc<Self>,
        caller: &Caller,
        work: MakeKey<S>,
        options: ChangeOptions,
    ) -> Result<KeyView, ServiceError> {
        self.change(caller, work.key_name(), work.scope(), options, work).await
    }

    /// Shows a key, live or deleted, with its newest version or the one that is named.
    ///
    /// # Errors
    /// [`Problem::NotFound`].
    pub async fn get_key(&self, caller: &Caller, name: &KeyRef) -> Result<KeyView, ServiceError> {
        let note = Note::default();
        let scope = Scope::key(&name.vault, &name.key);
        self.plain(caller, name.to_string(), scope, &note, |_: Permit<ops::KeysRead>| self.view(name, caller.deadline))
            .await
    }

    /// Lists the keys of a vault that are wanted, each with its newest version. A page may hold fewer than it could: keys
    /// that are not wanted are left out of it. With it, the key that the next page goes on after.
    ///
    /// # Errors
    /// [`Problem::NotFound`] when the vault does not exist or is deleted.
    pub async fn list_keys(
        &self,
        caller: &Caller,
        vault: &VaultName,
        filter: &KeyFilter,
        page: Page<KeyName>,
    ) -> Result<(Vec<KeyView>, Option<KeyName>), ServiceError> {
        let note = Note::default();
        let resource = format!("vaults/{vault}/keys");
        self.plain(caller, resource, Scope::keys(vault), &note, |_: Permit<ops::KeysList>| async {
            let vault = self.catalog.live_vault(vault, caller.deadline).await?;
            let mut keys = self.catalog.keys(&vault.row, &page, caller.deadline).await?;
            note.charge(2 * ROW_US * keys.len() as u64);
            let more = truncate(&mut keys, page.size);
            let last = keys.last().filter(|_| more).map(|key| key.row.name.clone());
            let mut items = Vec::with_capacity(keys.len());
            for key in keys {
                let version = self.catalog.version(&vault.row, &key.row, key.row.current, caller.deadline).await?;
                if filter.wants(&key.row, &version.row) {
                    items.push(KeyView { vault: Arc::clone(&vault.row), key: key.row, version: version.row });
                }
            }
            Ok((items, last))
        })
        .await
    }

    /// Lists the versions of a key, newest first, with what is known of their use; deleted ones where the page says so, else
    /// a page may hold fewer than it could. With it, the ordinal that the next page goes on below.
    ///
    /// # Errors
    /// [`Problem::NotFound`] when the key does not exist.
    pub async fn list_versions(
        &self,
        caller: &Caller,
        name: &KeyRef,
        page: Page<u64>,
    ) -> Result<(Vec<VersionView>, Option<u64>), ServiceError> {
        let note = Note::default();
        let scope = Scope::key(&name.vault, &name.key);
        let resource = format!("{name}/versions");
        self.plain(caller, resource, scope, &note, |_: Permit<ops::KeysList>| async {
            let vault = self.catalog.live_vault(&name.vault, caller.deadline).await?;
            let key = self.catalog.key(&vault.row, &name.key, caller.deadline).await?;
            let mut versions = self.catalog.versions(&vault.row, &key.row, &page, caller.deadline).await?;
            note.charge(2 * ROW_US * versions.len() as u64);
            let more = truncate(&mut versions, page.size);
            let last = versions.last().filter(|_| more).map(|version| version.row.ordinal);
            let known = self.store.activity(&name.vault, &name.key, page.after, page.size + 1).await?;
            let known: HashMap<VersionId, Activity> = known.into_iter().collect();
            let since = self.store.activity_since().await?;
            let shown = versions.into_iter().filter(|version| page.deleted || version.row.state.is_active());
            let shown = shown.map(|version| VersionView {
                vault: Arc::clone(&vault.row),
                key: Arc::clone(&key.row),
                activity: known.get(&version.row.version).copied(),
                since: since.max(version.row.created),
                version: version.row,
            });
            Ok((shown.collect(), last))
        })
        .await
    }

    /// The versions of a live key whose public halves are for others to have, newest first. A page may hold
    /// fewer than it could: versions that are disabled, or have no public half, are left out of it.
    ///
    /// # Errors
    /// [`Problem::NotFound`]; [`Problem::SoftDeleted`].
    pub async fn public_keys(
        &self,
        caller: &Caller,
        name: &KeyRef,
        page: Page<u64>,
    ) -> Result<PublicKeys, ServiceError> {
        let note = Note::default();
        let scope = Scope::key(&name.vault, &name.key);
        let resource = format!("{name}/publicKeys");
        self.plain(caller, resource, scope, &note, |_: Permit<ops::KeysRead>| async {
            let vault = self.catalog.live_vault(&name.vault, caller.deadline).await?;
            let key = self.catalog.key(&vault.row, &name.key, caller.deadline).await?;
            if !key.row.state.is_active() {
                return Err(Problem::SoftDeleted { name: name.to_string() }.into());
            }
            let mut versions = self.catalog.versions(&vault.row, &key.row, &page, caller.deadline).await?;
            note.charge(ROW_US * versions.len() as u64);
            let more = truncate(&mut versions, page.size);
            let last = versions.last().filter(|_| more).map(|version| version.row.ordinal);
            let published = versions.into_iter().map(|version| version.row);
            let is_published = |row: &Arc<VersionRow>| row.state.is_active() && row.enabled && !row.public.is_empty();
            Ok(PublicKeys { versions: published.filter(is_published).collect(), last })
        })
        .await
    }

    /// Changes a version: the newest, or the one that is named.
    ///
    /// # Errors
    /// [`Problem::Invalid`] when the new values contradict each other or the key's kind.
    pub async fn update_version(
        self: &Arc<Self>,
        caller: &Caller,
        name: &KeyRef,
        patch: VersionPatch,
        options: ChangeOptions,
    ) -> Result<KeyView, ServiceError> {
        let scope = Scope::key(&name.vault, &name.key);
        let work = UpdateVersion { name: name.clone(), patch, exact: OnceLock::new() };
        self.change(caller, name.to_string(), scope, options, work).await
    }

    /// Deletes a key softly, with all its versions.
    ///
    /// # Errors
    /// [`Problem::NotFound`].
    pub async fn delete_key(
        self: &Arc<Self>,
        caller: &Caller,
        name: &KeyRef,
        options: ChangeOptions,
    ) -> Result<KeyView, ServiceError> {
        let scope = Scope::key(&name.vault, &name.key);
        let work = TurnKey::<ops::KeysDelete> { name: name.clone(), delete: true, op: std::marker::PhantomData };
        self.change(caller, name.to_string(), scope, options, work).await
    }

    /// Brings a deleted key back.
    ///
    /// # Errors
    /// [`Problem::Precondition`] when it is not deleted.
    pub async fn undelete_key(
        self: &Arc<Self>,
        caller: &Caller,
        name: &KeyRef,
        options: ChangeOptions,
    ) -> Result<KeyView, ServiceError> {
        let scope = Scope::key(&name.vault, &name.key);
        let work = TurnKey::<ops::KeysUndelete> { name: name.clone(), delete: false, op: std::marker::PhantomData };
        self.change(caller, name.to_string(), scope, options, work).await
    }

    /// Deletes a version softly, which must not be the newest.
    ///
    /// # Errors
    /// [`Problem::NotFound`]; [`Problem::Precondition`] when it is the newest.
    pub async fn delete_version(
        self: &Arc<Self>,
        caller: &Caller,
        name: &KeyRef,
        options: ChangeOptions,
    ) -> Result<Arc<VersionRow>, ServiceError> {
        let scope = Scope::key(&name.vault, &name.key);
        let work = TurnVersion::<ops::KeysDelete> { name: name.clone(), delete: true, op: std::marker::PhantomData };
        self.change(caller, name.to_string(), scope, options, work).await
    }

    /// Brings a deleted version back.
    ///
    /// # Errors
    /// [`Problem::Precondition`] when it is not deleted.
    pub async fn undelete_version(
        self: &Arc<Self>,
        caller: &Caller,
        name: &KeyRef,
        options: ChangeOptions,
    ) -> Result<Arc<VersionRow>, ServiceError> {
        let scope = Scope::key(&name.vault, &name.key);
        let work = TurnVersion::<ops::KeysUndelete> { name: name.clone(), delete: false, op: std::marker::PhantomData };
        self.change(caller, name.to_string(), scope, options, work).await
    }

    async fn view(&self, name: &KeyRef, deadline: Moment) -> Result<KeyView, ServiceError> {
        let vault = self.catalog.live_vault(&name.vault, deadline).await?;
        let key = self.catalog.key(&vault.row, &name.key, deadline).await?;
        let version = name.version.unwrap_or(key.row.current);
        let version = self.catalog.version(&vault.row, &key.row, version, deadline).await?;
        Ok(KeyView { vault: Arc::clone(&vault.row), key: Arc::clone(&key.row), version: version.row })
    }
}

pub(in crate::service) fn truncate<T>(items: &mut Vec<T>, size: u32) -> bool {
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let more = items.len() > size;
    items.truncate(size);
    more
}

pub(in crate::service) fn invalid(field: &'static str, why: impl Into<String>) -> ServiceError {
    Problem::Invalid { field, why: why.into() }.into()
}

fn check_ops(ops: KeyOps, spec: KeySpec, residency: Residency) -> Result<(), ServiceError> {
    if residency.allows(spec, ops) {
        return Ok(());
    }
    if ops.contains(KeyOps::IMPORT) {
        let why = "import stands alone, on an RSA key of residency wrapped: who could decrypt with it too could read what \
                   is sent here wrapped";
        return Err(invalid("version.key_operations", why));
    }
    let possible = residency.possible_ops(spec);
    let what = if residency == Residency::Public { "the public half of " } else { "" };
    Err(invalid("version.key_operations", format!("{what}{} keys can do {possible} only", spec.name())))
}

pub(in crate::service) fn check_times(
    not_before: Option<Timestamp>,
    expires: Option<Timestamp>,
) -> Result<(), ServiceError> {
    match (not_before, expires) {
        (Some(from), Some(until)) if until <= from => {
            Err(invalid("version.expire_time", "it must be later than not_before_time"))
        }
        _ => Ok(()),
    }
}

struct UpdateVersion {
    name: KeyRef,
    patch: VersionPatch,
    /// The version that was found when the request was checked: the one that is changed, and recorded, even
    /// when a newer one is made meanwhile.
    exact: OnceLock<VersionId>,
}

impl UpdateVersion {
    async fn plan(&self, service: &Service, context: &Context) -> Result<Planned, ServiceError> {
        let deadline = context.caller.deadline;
        let vault = service.catalog.live_vault(&self.name.vault, deadline).await?;
        let key = service.catalog.key(&vault.row, &self.name.key, deadline).await?;
        if !key.row.state.is_active() {
            return Err(Problem::SoftDeleted { name: self.name.to_string() }.into());
        }
        let version = *self.exact.get_or_init(|| self.name.version.unwrap_or(key.row.current));
        let old = service.catalog.version(&vault.row, &key.row, version, deadline).await?;
        context.check_etag(&old.row.etag(), &version_name(&old.row))?;
        if !old.row.state.is_active() {
            return Err(Problem::SoftDeleted { name: version_name(&old.row) }.into());
        }
        let mut new = VersionRow::clone(&old.row);
        let patch = &self.patch;
        new.enabled = patch.enabled.unwrap_or(new.enabled);
        new.not_before = patch.not_before.unwrap_or(new.not_before);
        new.expires = patch.expires.unwrap_or(new.expires);
        new.ops = patch.ops.unwrap_or(new.ops);
        new.tags = patch.tags_of(&new.tags).map_err(|error| invalid("version.tags", error.to_string()))?;
        if new.ops.contains(KeyOps::IMPORT) != old.row.ops.contains(KeyOps::IMPORT) {
            let why = "import is fixed when a version is made: what was sent here wrapped stays unreadable";
            return Err(invalid("key_operations", why));
        }
        check_ops(new.ops, new.spec, new.residency)?;
        check_times(new.not_before, new.expires)?;
        new.updated = context.now;
        new.intent = context.intent;
        new.revision += 1;
        if old.row.expires.is_some() && new.expires.is_none() {
            check_expiry_is_not_needed(&key.row, version)?;
        }
        let uses = service.uses(&vault.row, &key.row, &new, deadline).await?;
        let looked_at = looked_at_anew(&key, &new, uses, context);
        Ok(Planned { vault: Arc::clone(&vault.row), key, looked_at, old, new })
    }
}

/// A change of a version, and of its key where that is to be looked at at another time from then on.
struct Planned {
    vault: Arc<VaultRow>,
    key: Arc<Checked<KeyObjectRow>>,
    looked_at: Option<KeyObjectRow>,
    old: Checked<VersionRow>,
    new: VersionRow,
}

impl Planned {
    fn view(self) -> KeyView {
        let key = self.looked_at.map_or_else(|| Arc::clone(&self.key.row), Arc::new);
        KeyView { vault: self.vault, key, version: Arc::new(self.new) }
    }
}

/// Refuses to take an expiry away that the key's policy reckons from.
fn check_expiry_is_not_needed(key: &KeyObjectRow, version: VersionId) -> Result<(), ServiceError> {
    let unfit = |problem: PolicyProblem| invalid("version.expire_time", problem.to_string());
    match &key.rotation {
        Some(rotation) if key.current == version => rotation.policy.check_current(None).map_err(unfit),
        _ => Ok(()),
    }
}

/// The key, where a change of its newest version changes when it is to be looked at.
fn looked_at_anew(
    key: &Checked<KeyObjectRow>,
    version: &VersionRow,
    uses: u64,
    context: &Context,
) -> Option<KeyObjectRow> {
    if key.row.current != version.version {
        return None;
    }
    let due = look_at(&key.row, version, uses, context.now);
    let changed = KeyObjectRow {
        due,
        updated: context.now,
        intent: context.intent,
        revision: key.row.revision + 1,
        ..KeyObjectRow::clone(&key.row)
    };
    (due != key.row.due).then_some(changed)
}

impl Work for UpdateVersion {
    type Op = ops::KeysUpdate;
    type Out = KeyView;

    fn resource(&self) -> Option<String> {
        let exact = KeyRef { version: self.exact.get().copied(), ..self.name.clone() };
        Some(exact.to_string())
    }

    fn detail(&self) -> Option<String> {
        Some(self.patch.to_string())
    }

    async fn check(
        &self,
        service: &Service,
        _: &Permit<Self::Op>,
        context: &Context,
    ) -> Result<Self::Out, ServiceError> {
        Ok(self.plan(service, context).await?.view())
    }

    async fn apply(
        &self,
        service: &Service,
        permit: Permit<Self::Op>,
        context: &Context,
    ) -> Result<Applied<Self::Out>, ServiceError> {
        let deadline = context.caller.deadline;
        let scope = HeadScope::Vault(super::catalog::vault_id(&self.name.vault));
        let locked = service.catalog.scopes.lock(scope, deadline).await?;
        let planned = self.plan(service, context).await?;
        let Planned { key, looked_at, old, new, .. } = &planned;
        let mut puts = vec![Put::replace(old.row.as_ref(), old.seal, NewRow::Version(Box::new(new.clone())))];
        puts.extend(looked_at.iter().map(|new| Put::replace(key.row.as_ref(), key.seal, NewRow::Key(new.clone()))));
        let request = context.request_record(version_name(new));
        let committed = service
            .catalog
            .scopes
            .commit(
                &locked,
                Making { name: "keys.update", right: &permit, intent: context.intent, request, deadline },
                puts,
            )
            .await?;
        Ok(Applied { out: planned.view(), heads: vec![committed.mark] })
    }

    async fn again(
        &self,
        service: &Service,
        _: &Permit<Self::Op>,
        resource: &str,
        context: &Context,
    ) -> Result<Self::Out, ServiceError> {
        let version = resource.rsplit('/').next().and_then(|version| version.parse().ok());
        let name = KeyRef { version, ..self.name.clone() };
        service.view(&name, context.caller.deadline).await
    }
}

/// Deletes a key softly, or brings it back.
struct TurnKey<O> {
    name: KeyRef,
    delete: bool,
    op: std::marker::PhantomData<O>,
}

impl<O> TurnKey<O> {
    async fn plan(&self, service: &Service, context: &Context) -> Result<(Found, KeyObjectRow), ServiceError> {
        let deadline = context.caller.deadline;
        let vault = service.catalog.live_vault(&self.name.vault, deadline).await?;
        let old = service.catalog.key(&vault.row, &self.name.key, deadline).await?;
        let name = self.name.to_string();
        context.check_etag(&old.row.etag(), &name)?;
        let state = service.turned(old.row.state, self.delete, &name, &vault.row, context).await?;
        let new = KeyObjectRow {
            state,
            updated: context.now,
            intent: context.intent,
            revision: old.row.revision + 1,
            ..KeyObjectRow::clone(&old.row)
        };
        Ok(((vault, old), new))
    }

    async fn view(
        &self,
        service: &Service,
        found: Found,
        key: KeyObjectRow,
        deadline: Moment,
    ) -> Result<KeyView, ServiceError> {
        let (vault, _) = found;
        let version = service.catalog.version(&vault.row, &key, key.current, deadline).await?;
        Ok(KeyView { vault: Arc::clone(&vault.row), key: Arc::new(key), version: version.row })
    }
}

impl Service {
    /// The state of something that is deleted, or brought back.
    pub(in crate::service) async fn turned(
        &self,
        old: State,
        delete: bool,
        name: &str,
        vault: &VaultRow,
        context: &Context,
    ) -> Result<State, ServiceError> {
        match (delete, old) {
            (true, State::Active) => {
                let trusted = self.trusted_time(context.caller.deadline).await?;
                Ok(deleted(context.now, trusted, vault.retention_days))
            }
            (true, State::Deleted { .. }) => Err(Problem::SoftDeleted { name: name.to_owned() }.into()),
            (false, State::Deleted { .. }) => Ok(State::Active),
            (false, State::Active) => {
                let why = format!("{name} is not deleted");
                Err(Problem::Precondition { reason: "NOT_DELETED", why }.into())
            }
        }
    }
}

type Found = (Arc<Checked<VaultRow>>, Arc<Checked<KeyObjectRow>>);

impl<O: Op> Work for TurnKey<O> {
    type Op = O;
    type Out = KeyView;

    async fn check(&self, service: &Service, _: &Permit<O>, context: &Context) -> Result<KeyView, ServiceError> {
        let (found, new) = self.plan(service, context).await?;
        self.view(service, found, new, context.caller.deadline).await
    }

    async fn apply(
        &self,
        service: &Service,
        permit: Permit<O>,
        context: &Context,
    ) -> Result<Applied<KeyView>, ServiceError> {
        let deadline = context.caller.deadline;
        let scope = HeadScope::Vault(super::catalog::vault_id(&self.name.vault));
        let locked = service.catalog.scopes.lock(scope, deadline).await?;
        let (found, new) = self.plan(service, context).await?;
        let put = Put::replace(found.1.row.as_ref(), found.1.seal, NewRow::Key(new.clone()));
        let event = turning(self.delete, false, new.state, &self.name, context);
        let view = self.view(service, found, new, deadline).await?;
        let request = context.request_record(self.name.to_string());
        let committed = service
            .catalog
            .scopes
            .commit_and_tell(
                &locked,
                Making { name: O::ACTION.name(), right: &permit, intent: context.intent, request, deadline },
                vec![put],
                vec![event],
            )
            .await?;
        Ok(Applied { out: view, heads: vec![committed.mark] })
    }

    async fn again(
        &self,
        service: &Service,
        _: &Permit<O>,
        _: &str,
        context: &Context,
    ) -> Result<KeyView, ServiceError> {
        service.view(&self.name, context.caller.deadline).await
    }
}

/// What others are told of a deletion, or of its end.
fn turning(delete: bool, is_version: bool, state: State, name: &KeyRef, context: &Context) -> EventRow {
    let kind = match (is_version, delete) {
        (false, true) => EventType::KeyDeleted,
        (false, false) => EventType::KeyRecovered,
        (true, true) => EventType::KeyVersionDeleted,
        (true, false) => EventType::KeyVersionRecovered,
    };
    let due = match state {
        State::Active => None,
        State::Deleted { purge_at, .. } => Some(purge_at),
    };
    EventRow { due, ..events::of_key(kind, &context.caller, context.now, name) }
}

/// Deletes a version softly, or brings it back.
struct TurnVersion<O> {
    name: KeyRef,
    delete: bool,
    op: std::marker::PhantomData<O>,
}

impl<O> TurnVersion<O> {
    async fn plan(
        &self,
        service: &Service,
        context: &Context,
    ) -> Result<(Checked<VersionRow>, VersionRow), ServiceError> {
        let deadline = context.caller.deadline;
        let vault = service.catalog.live_vault(&self.name.vault, deadline).await?;
        let key = service.catalog.key(&vault.row, &self.name.key, deadline).await?;
        if !key.row.state.is_active() {
            let name = KeyRef { version: None, ..self.name.clone() }.to_string();
            return Err(Problem::SoftDeleted { name }.into());
        }
        let version = self.name.version.ok_or(Problem::Internal)?;
        let old = service.catalog.version(&vault.row, &key.row, version, deadline).await?;
        let name = self.name.to_string();
        context.check_etag(&old.row.etag(), &name)?;
        if key.row.current == version {
            let why = format!("{name} is the newest version: rotate the key first, or delete the key");
            return Err(Problem::Precondition { reason: "NEWEST_VERSION", why }.into());
        }
        let state = service.turned(old.row.state, self.delete, &name, &vault.row, context).await?;
        let new = VersionRow {
            state,
            updated: context.now,
            intent: context.intent,
            revision: old.row.revision + 1,
            ..VersionRow::clone(&old.row)
        };
        Ok((old, new))
    }
}

impl<O: Op> Work for TurnVersion<O> {
    type Op = O;
    type Out = Arc<VersionRow>;

    async fn check(&self, service: &Service, _: &Permit<O>, context: &Context) -> Result<Self::Out, ServiceError> {
        Ok(Arc::new(self.plan(service, context).await?.1))
    }

    async fn apply(
        &self,
        service: &Service,
        permit: Permit<O>,
        context: &Context,
    ) -> Result<Applied<Self::Out>, ServiceError> {
        let deadline = context.caller.deadline;
        let scope = HeadScope::Vault(super::catalog::vault_id(&self.name.vault));
        let locked = service.catalog.scopes.lock(scope, deadline).await?;
        let (old, new) = self.plan(service, context).await?;
        let put = Put::replace(old.row.as_ref(), old.seal, NewRow::Version(Box::new(new.clone())));
        let event = turning(self.delete, true, new.state, &self.name, context);
        let request = context.request_record(version_name(&new));
        let name = O::ACTION.name();
        let making = Making { name, right: &permit, intent: context.intent, request, deadline };
        let committed = service.catalog.scopes.commit_and_tell(&locked, making, vec![put], vec![event]).await?;
        Ok(Applied { out: Arc::new(new), heads: vec![committed.mark] })
    }

    async fn again(
        &self,
        service: &Service,
        _: &Permit<O>,
        _: &str,
        context: &Context,
    ) -> Result<Self::Out, ServiceError> {
        Ok(service.view(&self.name, context.caller.deadline).await?.version)
    }
}
