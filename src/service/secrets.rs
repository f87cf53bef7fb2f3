//! Secrets: set (in [`set`]), shown, read, changed, softly deleted and brought back; destroyed with everything else that is
//! due ([`super::purge`]).
//!
//! A value is encrypted and decrypted inside the HSM, by the data key of its secret. That somebody reads it is on the disk
//! before it is decrypted (D5).

mod backup;
mod expiry;
mod purge;
mod restore;
mod set;
mod warm;

use std::{
    marker::PhantomData,
    sync::{Arc, OnceLock},
};

use strongroom_hsm::{KeyRow, SecretBytes, protocol::Moment};

pub use self::backup::BackedUpSecret;
pub(super) use self::warm::Warm;
use self::{expiry::look_at, set::SetSecret};
use super::{
    Caller, ChangeOptions, Page, Service,
    catalog::{Checked, vault_id},
    door::{Applied, Context, Note, Work},
    error::{Problem, ServiceError},
    events,
    keys::{check_times, invalid, truncate},
    quota::ROW_US,
    scopes::{Making, NewRow, Put},
};
use crate::{
    access::{Op, Permit, Target, ops},
    model::{
        EventRow, EventType, Row as _, Scope, SecretName, SecretRow, SecretVersionRow, State, Tags, Timestamp,
        VaultName, VaultRow, VersionId, secrets::CONTENT_TYPE_CHARS_MAX,
    },
    store::HeadScope,
};

/// A secret, or one of its versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRef {
    /// The vault.
    pub vault: VaultName,
    /// The secret.
    pub secret: SecretName,
    /// The version; the newest when absent.
    pub version: Option<VersionId>,
}

impl std::fmt::Display for SecretRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "vaults/{}/secrets/{}", self.vault, self.secret)?;
        self.version.map_or(Ok(()), |version| write!(f, "/versions/{version}"))
    }
}

impl SecretRef {
    /// Where rights to it are held.
    #[must_use]
    pub fn scope(&self) -> Scope {
        Scope::secret(&self.vault, &self.secret)
    }

    fn exact(&self, version: VersionId) -> Self {
        Self { version: Some(version), ..self.clone() }
    }
}

/// The full name of a version of a secret.
#[must_use]
pub fn secret_version_name(row: &SecretVersionRow) -> String {
    format!("vaults/{}/secrets/{}/versions/{}", row.vault, row.secret, row.version)
}

/// A new version of a secret.
pub struct NewSecret {
    /// The vault.
    pub vault: VaultName,
    /// The secret; a new version of it when it exists.
    pub name: SecretName,
    /// The value: at most [`VALUE_BYTES_MAX`](crate::model::secrets::VALUE_BYTES_MAX) bytes.
    pub value: SecretBytes,
    /// What the value is, for who reads it; empty: not said.
    pub content_type: String,
    /// Whether it can be read at once.
    pub enabled: bool,
    /// From when on it is meant to be used.
    pub not_before: Option<Timestamp>,
    /// Until when.
    pub expires: Option<Timestamp>,
    /// Its tags.
    pub tags: Tags,
    /// Refuse when the secret exists.
    pub must_not_exist: bool,
}

impl std::fmt::Debug for NewSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewSecret").field("vault", &self.vault).field("name", &self.name).finish_non_exhaustive()
    }
}

/// What to change of a version; what is absent stays.
#[derive(Clone, Debug, Default)]
pub struct SecretPatch {
    /// What the value is.
    pub content_type: Option<String>,
    /// Switches it on or off.
    pub enabled: Option<bool>,
    /// Sets or clears from when on it is meant to be used.
    pub not_before: Option<Option<Timestamp>>,
    /// Sets or clears its expiry.
    pub expires: Option<Option<Timestamp>>,
    /// Replaces all tags.
    pub tags: Option<Tags>,
}

impl std::fmt::Display for SecretPatch {
    /// The fields that are changed, for the record; tags and content type by their name only.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let time = |time: &Option<Option<Timestamp>>, name: &str| {
            time.map(|time| format!("{name}={}", time.map_or_else(|| "none".to_owned(), |time| time.to_string())))
        };
        let fields = [
            self.content_type.as_ref().map(|_| "content_type".to_owned()),
            self.enabled.map(|enabled| format!("enabled={enabled}")),
            time(&self.not_before, "not_before"),
            time(&self.expires, "expires"),
            self.tags.as_ref().map(|_| "tags".to_owned()),
        ];
        let fields: Vec<String> = fields.into_iter().flatten().collect();
        f.write_str(&fields.join(" "))
    }
}

/// A secret with one of its versions and the vault it is in; never with its value.
#[derive(Clone, Debug)]
pub struct SecretView {
    /// The vault.
    pub vault: Arc<VaultRow>,
    /// The secret.
    pub secret: Arc<SecretRow>,
    /// The version that was asked for.
    pub version: Arc<SecretVersionRow>,
}

/// Which secrets are wanted, by their newest versions; what is not said is not asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretFilter {
    /// Whether they are deleted.
    pub deleted: Option<bool>,
    /// Whether they are enabled.
    pub enabled: Option<bool>,
    /// They expire before then.
    pub expires_before: Option<Timestamp>,
    /// They expire then or later.
    pub expires_from: Option<Timestamp>,
}

impl SecretFilter {
    /// Whether a secret is one of them.
    #[must_use]
    pub fn wants(&self, secret: &SecretRow, newest: &SecretVersionRow) -> bool {
        self.deleted.is_none_or(|deleted| deleted != secret.state.is_active())
            && self.enabled.is_none_or(|enabled| enabled == newest.enabled)
            && self.expires_before.is_none_or(|before| newest.expires.is_some_and(|expires| expires < before))
            && self.expires_from.is_none_or(|from| newest.expires.is_some_and(|expires| expires >= from))
    }
}

/// A version that is to be read, with what it is in.
pub struct SecretEntry {
    vault: Arc<Checked<VaultRow>>,
    secret: Checked<SecretRow>,
    pub(super) version: Checked<SecretVersionRow>,
    /// The data key.
    pub(super) hsm: Arc<KeyRow>,
}

impl Target for SecretEntry {
    fn scope(&self) -> Scope {
        Scope::secret(&self.vault.row.name, &self.secret.row.name)
    }

    /// As with keys: and a replica that hears no changes hands out nothing that was taken away meanwhile.
    fn still_stands(&self) -> bool {
        self.is_abreast()
            && (self.version.is_current() || self.version.is_renewed())
            && self.secret.is_current_or_in_use()
            && self.vault.is_current_or_in_use()
    }
}

impl SecretEntry {
    /// Whether what is known of the vault is as new as the vault wants it.
    pub(super) fn is_abreast(&self) -> bool {
        self.version.is_abreast(self.vault.row.max_staleness)
    }

    /// Whether vault, secret and version are the newest rows of their ids.
    pub(super) fn is_current(&self) -> bool {
        self.vault.is_current() && self.secret.is_current() && self.version.is_current()
    }

    fn view(&self) -> SecretView {
        let (secret, version) = (Arc::clone(&self.secret.row), Arc::clone(&self.version.row));
        SecretView { vault: Arc::clone(&self.vault.row), secret, version }
    }
}

impl Service {
    /// Makes a secret, or a new version of one.
    ///
    /// # Errors
    /// [`Problem::Deleted`] when the name belongs to a deleted secret; [`Problem::Exists`] when the secret exists and must
    /// not; [`Problem::Invalid`] when the value is too long.
    pub async fn set_secret(
        self: &Arc<Self>,
        caller: &Caller,
        new: NewSecret,
        options: ChangeOptions,
    ) -> Result<SecretView, ServiceError> {
        let work = SetSecret::new(new);
        self.change(caller, work.name().to_string(), work.name().scope(), options, work).await
    }

    /// Shows a secret without its value, live or deleted, with its newest version or the one that is named.
    ///
    /// # Errors
    /// [`Problem::NotFound`].
    pub async fn get_secret(&self, caller: &Caller, name: &SecretRef) -> Result<SecretView, ServiceError> {
        let note = Note::default();
        self.plain(caller, name.to_string(), name.scope(), &note, |_: Permit<ops::SecretsRead>| {
            self.secret_view(name, caller.deadline)
        })
        .await
    }

    /// The value of a secret's newest version, or of the one that is named. The record is on the disk before it is decrypted.
    ///
    /// # Errors
    /// [`Problem::NotFound`]; [`Problem::SoftDeleted`]; [`Problem::SecretDisabled`]; [`Problem::Tampered`] when it is not the value
    /// that was set.
    pub async fn get_secret_value(
        &self,
        caller: &Caller,
        name: &SecretRef,
    ) -> Result<(SecretView, SecretBytes), ServiceError> {
        let find = |permit: Permit<ops::SecretsGet>| async {
            let entry = match self.warm_secrets.get(name) {
                Some(entry) => entry,
                None => self.readable(name, caller.deadline).await?,
            };
            let exact = secret_version_name(&entry.version.row);
            let grant = permit.grant(entry).map_err(Problem::Denied)?;
            Ok((exact, grant))
        };
        self.release(caller, name.to_string(), name.scope(), find, |grant| async move {
            let value = self.hands.open_secret(&grant, caller).await?;
            Ok((grant.target().view(), value))
        })
        .await
    }

    /// A version whose value may be read now. Its times are for those who use it: Azure's Get Secret looks at neither.
    async fn readable(&self, name: &SecretRef, deadline: Moment) -> Result<Arc<SecretEntry>, ServiceError> {
        let vault = self.catalog.live_vault(&name.vault, deadline).await?;
        let secret = self.catalog.secret(&vault.row, &name.secret, deadline).await?;
        if !secret.row.state.is_active() {
            return Err(Problem::SoftDeleted { name: name.to_string() }.into());
        }
        let version = name.version.unwrap_or(secret.row.current);
        let version = self.catalog.secret_version(&vault.row, &secret.row, version, deadline).await?;
        if !version.row.enabled {
            return Err(Problem::SecretDisabled { name: secret_version_name(&version.row) }.into());
        }
        let hsm = Arc::new(KeyRow::new(secret.row.statement(), secret.seal));
        let entry = Arc::new(SecretEntry { vault, secret, version, hsm });
        self.warm_secrets.put(name, Arc::clone(&entry));
        Ok(entry)
    }

    /// Lists the secrets of a vault that are wanted, each with its newest version and without values. A page may hold fewer
    /// than it could. With it, the secret that the next page goes on after.
    ///
    /// # Errors
    /// [`Problem::NotFound`] when the vault does not exist or is deleted.
    pub async fn list_secrets(
        &self,
        caller: &Caller,
        vault: &VaultName,
        filter: &SecretFilter,
        page: Page<SecretName>,
    ) -> Result<(Vec<SecretView>, Option<SecretName>), ServiceError> {
        let note = Note::default();
        let resource = format!("vaults/{vault}/secrets");
        self.plain(caller, resource, Scope::secrets(vault), &note, |_: Permit<ops::SecretsList>| async {
            let vault = self.catalog.live_vault(vault, caller.deadline).await?;
            let mut secrets = self.catalog.secrets(&vault.row, &page, caller.deadline).await?;
            note.charge(2 * ROW_US * secrets.len() as u64);
            let more = truncate(&mut secrets, page.size);
            let last = secrets.last().filter(|_| more).map(|secret| secret.row.name.clone());
            let mut items = Vec::with_capacity(secrets.len());
            for secret in secrets {
                let newest = secret.row.current;
                let version = self.catalog.secret_version(&vault.row, &secret.row, newest, caller.deadline).await?;
                if filter.wants(&secret.row, &version.row) {
                    items.push(SecretView { vault: Arc::clone(&vault.row), secret: secret.row, version: version.row });
                }
            }
            Ok((items, last))
        })
        .await
    }

    /// Lists the versions of a secret, newest first, without values. With it, the ordinal that the next page goes on below.
    ///
    /// # Errors
    /// [`Problem::NotFound`] when the secret does not exist.
    pub async fn list_secret_versions(
        &self,
        caller: &Caller,
        name: &SecretRef,
        page: Page<u64>,
    ) -> Result<(Vec<SecretView>, Option<u64>), ServiceError> {
        let note = Note::default();
        let resource = format!("{name}/versions");
        self.plain(caller, resource, name.scope(), &note, |_: Permit<ops::SecretsList>| async {
            let vault = self.catalog.live_vault(&name.vault, caller.deadline).await?;
            let secret = self.catalog.secret(&vault.row, &name.secret, caller.deadline).await?;
            let mut versions = self.catalog.secret_versions(&vault.row, &secret.row, &page, caller.deadline).await?;
            note.charge(ROW_US * versions.len() as u64);
            let more = truncate(&mut versions, page.size);
            let last = versions.last().filter(|_| more).map(|version| version.row.ordinal);
            let view = |version: Checked<SecretVersionRow>| SecretView {
                vault: Arc::clone(&vault.row),
                secret: Arc::clone(&secret.row),
                version: version.row,
            };
            Ok((versions.into_iter().map(view).collect(), last))
        })
        .await
    }

    /// Changes what a version is said to be: the newest, or the one that is named. Its value stays.
    ///
    /// # Errors
    /// [`Problem::Invalid`] when the new values contradict each other.
    pub async fn update_secret_version(
        self: &Arc<Self>,
        caller: &Caller,
        name: &SecretRef,
        patch: SecretPatch,
        options: ChangeOptions,
    ) -> Result<SecretView, ServiceError> {
        let work = UpdateSecret { name: name.clone(), patch, exact: OnceLock::new() };
        self.change(caller, name.to_string(), name.scope(), options, work).await
    }

    /// Deletes a secret softly, with all its versions.
    ///
    /// # Errors
    /// [`Problem::NotFound`].
    pub async fn delete_secret(
        self: &Arc<Self>,
        caller: &Caller,
        name: &SecretRef,
        options: ChangeOptions,
    ) -> Result<SecretView, ServiceError> {
        let work = TurnSecret::<ops::SecretsDelete> { name: name.clone(), delete: true, op: PhantomData };
        self.change(caller, name.to_string(), name.scope(), options, work).await
    }

    /// Brings a deleted secret back.
    ///
    /// # Errors
    /// [`Problem::Precondition`] when it is not deleted.
    pub async fn undelete_secret(
        self: &Arc<Self>,
        caller: &Caller,
        name: &SecretRef,
        options: ChangeOptions,
    ) -> Result<SecretView, ServiceError> {
        let work = TurnSecret::<ops::SecretsUndelete> { name: name.clone(), delete: false, op: PhantomData };
        self.change(caller, name.to_string(), name.scope(), options, work).await
    }

    async fn secret_view(&self, name: &SecretRef, deadline: Moment) -> Result<SecretView, ServiceError> {
        let vault = self.catalog.live_vault(&name.vault, deadline).await?;
        let secret = self.catalog.secret(&vault.row, &name.secret, deadline).await?;
        let version = name.version.unwrap_or(secret.row.current);
        let version = self.catalog.secret_version(&vault.row, &secret.row, version, deadline).await?;
        Ok(SecretView { vault: Arc::clone(&vault.row), secret: secret.row, version: version.row })
    }
}

/// Refuses a content type that is too long.
fn check_content_type(text: &str) -> Result<(), ServiceError> {
    if text.chars().count() <= CONTENT_TYPE_CHARS_MAX {
        return Ok(());
    }
    Err(invalid("version.content_type", format!("at most {CONTENT_TYPE_CHARS_MAX} characters")))
}

/// An event of a secret or one of its versions.
pub(super) fn event(kind: EventType, context: &Context, name: &SecretRef) -> EventRow {
    let event = events::of_vault(kind, &context.caller, context.now, &name.vault);
    EventRow { object: Some(name.secret.clone()), version: name.version, ..event }
}

/// Changes what a version is said to be.
struct UpdateSecret {
    name: SecretRef,
    patch: SecretPatch,
    /// The version that was found when the request was checked.
    exact: OnceLock<VersionId>,
}

/// A change of a version, and of its secret where that is to be looked at at another time from then on.
struct Planned {
    vault: Arc<Checked<VaultRow>>,
    secret: Checked<SecretRow>,
    old: Checked<SecretVersionRow>,
    new: SecretVersionRow,
    looked_at: Option<SecretRow>,
}

impl UpdateSecret {
    async fn plan(&self, service: &Service, context: &Context) -> Result<Planned, ServiceError> {
        let deadline = context.caller.deadline;
        let vault = service.catalog.live_vault(&self.name.vault, deadline).await?;
        let secret = service.catalog.secret(&vault.row, &self.name.secret, deadline).await?;
        if !secret.row.state.is_active() {
            return Err(Problem::SoftDeleted { name: self.name.to_string() }.into());
        }
        let version = *self.exact.get_or_init(|| self.name.version.unwrap_or(secret.row.current));
        let old = service.catalog.secret_version(&vault.row, &secret.row, version, deadline).await?;
        context.check_etag(&old.row.etag(), &secret_version_name(&old.row))?;
        let (patch, mut new) = (&self.patch, SecretVersionRow::clone(&old.row));
        new.content_type = patch.content_type.clone().unwrap_or(new.content_type);
        new.enabled = patch.enabled.unwrap_or(new.enabled);
        new.not_before = patch.not_before.unwrap_or(new.not_before);
        new.expires = patch.expires.unwrap_or(new.expires);
        new.tags = patch.tags.clone().unwrap_or(new.tags);
        check_content_type(&new.content_type)?;
        check_times(new.not_before, new.expires)?;
        (new.updated, new.intent) = (context.now, context.intent);
        new.revision += 1;
        let looked_at = looked_at_anew(&secret, &new, context);
        Ok(Planned { vault, secret, old, new, looked_at })
    }
}

/// The secret, where a change of its newest version changes when it is to be looked at.
fn looked_at_anew(secret: &Checked<SecretRow>, version: &SecretVersionRow, context: &Context) -> Option<SecretRow> {
    if secret.row.current != version.version {
        return None;
    }
    let due = look_at(&secret.row, version, context.now);
    let changed = SecretRow {
        due,
        updated: context.now,
        intent: context.intent,
        revision: secret.row.revision + 1,
        ..SecretRow::clone(&secret.row)
    };
    (due != secret.row.due).then_some(changed)
}

impl Planned {
    fn view(&self) -> SecretView {
        SecretView {
            vault: Arc::clone(&self.vault.row),
            secret: self.looked_at.clone().map_or_else(|| Arc::clone(&self.secret.row), Arc::new),
            version: Arc::new(self.new.clone()),
        }
    }
}

impl Work for UpdateSecret {
    type Op = ops::SecretsUpdate;
    type Out = SecretView;

    fn resource(&self) -> Option<String> {
        self.exact.get().map(|version| self.name.exact(*version).to_string())
    }

    fn detail(&self) -> Option<String> {
        Some(self.patch.to_string())
    }

    async fn check(
        &self,
        service: &Service,
        _: &Permit<Self::Op>,
        context: &Context,
    ) -> Result<SecretView, ServiceError> {
        Ok(self.plan(service, context).await?.view())
    }

    async fn apply(
        &self,
        service: &Service,
        permit: Permit<Self::Op>,
        context: &Context,
    ) -> Result<Applied<SecretView>, ServiceError> {
        let deadline = context.caller.deadline;
        let scope = HeadScope::Vault(vault_id(&self.name.vault));
        let locked = service.catalog.scopes.lock(scope, deadline).await?;
        let planned = self.plan(service, context).await?;
        let out = planned.view();
        let Planned { secret, old, new, looked_at, .. } = planned;
        let request = context.request_record(secret_version_name(&new));
        let mut puts = vec![Put::replace(old.row.as_ref(), old.seal, NewRow::SecretVersion(Box::new(new)))];
        let replaced = looked_at.map(|row| NewRow::Secret(Box::new(row)));
        puts.extend(replaced.map(|row| Put::replace(secret.row.as_ref(), secret.seal, row)));
        let making = Making { name: "secrets.update", right: &permit, intent: context.intent, request, deadline };
        let committed = service.catalog.scopes.commit(&locked, making, puts).await?;
        Ok(Applied { out, heads: vec![committed.mark] })
    }

    async fn again(
        &self,
        service: &Service,
        _: &Permit<Self::Op>,
        resource: &str,
        context: &Context,
    ) -> Result<SecretView, ServiceError> {
        service.secret_again(&self.name, resource, context).await
    }
}

impl Service {
    /// The version that an earlier request of the same id made or changed, as it is now.
    async fn secret_again(
        &self,
        name: &SecretRef,
        resource: &str,
        context: &Context,
    ) -> Result<SecretView, ServiceError> {
        let version = resource.rsplit('/').next().and_then(|version| version.parse().ok());
        self.secret_view(&SecretRef { version, ..name.clone() }, context.caller.deadline).await
    }
}

/// Deletes a secret softly, or brings it back.
struct TurnSecret<O> {
    name: SecretRef,
    delete: bool,
    op: PhantomData<O>,
}

impl<O> TurnSecret<O> {
    async fn plan(
        &self,
        service: &Service,
        context: &Context,
    ) -> Result<(Checked<SecretRow>, SecretView), ServiceError> {
        let deadline = context.caller.deadline;
        let vault = service.catalog.live_vault(&self.name.vault, deadline).await?;
        let old = service.catalog.secret(&vault.row, &self.name.secret, deadline).await?;
        let name = self.name.to_string();
        context.check_etag(&old.row.etag(), &name)?;
        let state = service.turned(old.row.state, self.delete, &name, &vault.row, context).await?;
        let new = SecretRow {
            state,
            updated: context.now,
            intent: context.intent,
            revision: old.row.revision + 1,
            ..SecretRow::clone(&old.row)
        };
        let version = service.catalog.secret_version(&vault.row, &new, new.current, deadline).await?;
        let view = SecretView { vault: Arc::clone(&vault.row), secret: Arc::new(new), version: version.row };
        Ok((old, view))
    }
}

impl<O: Op> Work for TurnSecret<O> {
    type Op = O;
    type Out = SecretView;

    async fn check(&self, service: &Service, _: &Permit<O>, context: &Context) -> Result<SecretView, ServiceError> {
        Ok(self.plan(service, context).await?.1)
    }

    async fn apply(
        &self,
        service: &Service,
        permit: Permit<O>,
        context: &Context,
    ) -> Result<Applied<SecretView>, ServiceError> {
        let deadline = context.caller.deadline;
        let scope = HeadScope::Vault(vault_id(&self.name.vault));
        let locked = service.catalog.scopes.lock(scope, deadline).await?;
        let (old, view) = self.plan(service, context).await?;
        let new = NewRow::Secret(Box::new(SecretRow::clone(&view.secret)));
        let put = Put::replace(old.row.as_ref(), old.seal, new);
        let kind = if self.delete { EventType::SecretDeleted } else { EventType::SecretRecovered };
        let due = match view.secret.state {
            State::Active => None,
            State::Deleted { purge_at, .. } => Some(purge_at),
        };
        let event = EventRow { due, ..event(kind, context, &self.name) };
        let request = context.request_record(self.name.to_string());
        let making = Making { name: O::ACTION.name(), right: &permit, intent: context.intent, request, deadline };
        let committed = service.catalog.scopes.commit_and_tell(&locked, making, vec![put], vec![event]).await?;
        Ok(Applied { out: view, heads: vec![committed.mark] })
    }

    async fn again(
        &self,
        service: &Service,
        _: &Permit<O>,
        _: &str,
        context: &Context,
    ) -> Result<SecretView, ServiceError> {
        service.secret_view(&self.name, context.caller.deadline).await
    }
}
