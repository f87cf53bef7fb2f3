//! Checked rows. Nothing in the service reads the store past this: a row comes out only when its seal is
//! right and it is the newest of its id, and one that should be there and is not is an error, not an
//! absence.
//!
//! Names decide ids (`vault_id`, `key_id`), so the absence of a row is found by its name.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use quick_cache::sync::Cache;
use sha2::{Digest as _, Sha256};
use strongroom_hsm::{KeyRow, Pool, Seal, protocol::Moment};

use super::{
    KeyRef, Page,
    activity::Activity,
    error::{Problem, ServiceError},
    scopes::{ScopeCell, Scopes},
    usage::UsageCell,
};
use crate::{
    access::{RoleDefinition, Rows, Target, VaultAccess},
    model::{
        AccessPolicyRow, AssignmentId, AssignmentRow, InstanceRow, IssuerKeyRow, KeyName, KeyObjectRow, KnownRow,
        MaxStaleness, Principal, RoleDefinitionRow, Row, RowId, RowKind, Scope, SecretName, SecretRow,
        SecretVersionRow, TokenRow, UsageRow, UseBudget, VaultName, VaultRow, VersionId, VersionRow, access_policy_id,
    },
    store::{HeadScope, Sealed, Store, StoreError},
};

/// A checked row, the seal it was checked by, and how to ask whether it is still the newest.
#[derive(Debug)]
pub struct Checked<R> {
    /// The row.
    pub row: Arc<R>,
    /// Its seal.
    pub seal: Seal,
    scope: Arc<ScopeCell>,
    /// The scope's revision at which the row was last known to be the newest.
    seen: AtomicU64,
}

impl<R: Row> Checked<R> {
    fn new(row: R, seal: Seal, scope: Arc<ScopeCell>, seen: u64) -> Self {
        Self { row: Arc::new(row), seal, scope, seen: AtomicU64::new(seen) }
    }

    /// Whether the row is still the newest of its id.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let revision = self.scope.revision();
        if self.seen.load(Ordering::Acquire) == revision {
            return true;
        }
        if !self.scope.is_newest(&self.row.row_id(), &self.seal) {
            return false;
        }
        // Taken before the look, so a change meanwhile only costs another look.
        self.seen.store(revision, Ordering::Release);
        true
    }

    /// Whether what is known of the row's scope is no older than that.
    pub(super) fn is_abreast(&self, max: MaxStaleness) -> bool {
        self.scope.hearing().is_within(max.as_duration())
    }

    /// That it is older.
    pub(super) fn behind(&self) -> Problem {
        Problem::Behind { age: self.scope.hearing().age() }
    }

    /// Whether the newest row says what this one says.
    pub(super) fn is_renewed(&self) -> bool {
        self.scope.is_renewed(&self.row.row_id(), &self.seal)
    }

    /// Whether the row is still the newest, or at least the newest is not deleted.
    pub(super) fn is_current_or_in_use(&self) -> bool {
        self.is_current() || self.scope.is_in_use(&self.row.row_id())
    }
}

/// A version with the key and vault it belongs to: what operations are done with.
#[derive(Debug)]
pub struct VersionEntry {
    /// The vault.
    pub vault: Arc<Checked<VaultRow>>,
    /// The key.
    pub key: Arc<Checked<KeyObjectRow>>,
    /// The version.
    pub version: Checked<VersionRow>,
    /// The version as the HSM's workers read it.
    pub hsm: Arc<KeyRow>,
    /// The AES-GCM encryptions that may still be made before more are reserved.
    pub usage: UsageCell,
    /// The uses that may still be made before more are reserved, where the key's policy gives a budget.
    pub budget: UsageCell,
    /// When it was last used.
    pub activity: Arc<Activity>,
}

impl Target for VersionEntry {
    fn scope(&self) -> Scope {
        Scope::key(&self.vault.row.name, &self.key.row.name)
    }

    /// The version must be unchanged, or only sealed or wrapped anew: what it was under opens as long as work is under way that
    /// was begun with it. A vault or key that changed meanwhile (a tag, a newer version) but is
    /// in use is no reason to refuse what was admitted.
    fn still_stands(&self) -> bool {
        self.is_abreast()
            && (self.version.is_current() || self.version.is_renewed())
            && self.key.is_current_or_in_use()
            && self.vault.is_current_or_in_use()
    }
}

impl VersionEntry {
    /// Whether what is known of the vault is as new as the vault wants it.
    #[must_use]
    pub fn is_abreast(&self) -> bool {
        self.version.is_abreast(self.vault.row.max_staleness)
    }

    /// That it is not.
    #[must_use]
    pub fn behind(&self) -> Problem {
        self.version.behind()
    }

    /// Whether vault, key and version are the newest rows of their ids.
    fn is_current(&self) -> bool {
        self.vault.is_current() && self.key.is_current() && self.version.is_current()
    }
}

/// The id of a vault: what its name decides.
#[must_use]
pub fn vault_id(name: &VaultName) -> [u8; 16] {
    derived_id("strongroom.vault", &[], name.as_str())
}

/// The id of a key: what its vault and folded name decide.
#[must_use]
pub fn key_id(vault: [u8; 16], name: &KeyName) -> [u8; 16] {
    derived_id("strongroom.key", &vault, &name.folded())
}

/// The id of a secret: what its vault and folded name decide.
#[must_use]
pub fn secret_id(vault: [u8; 16], name: &SecretName) -> [u8; 16] {
    derived_id("strongroom.secret", &vault, &name.folded())
}

fn derived_id(domain: &str, parent: &[u8], name: &str) -> [u8; 16] {
    let digest =
        Sha256::new().chain_update(domain).chain_update([0]).chain_update(parent).chain_update(name).finalize();
    digest[..16].try_into().expect("a digest has 32 bytes")
}

type VersionCacheKey = (VaultName, String, Option<VersionId>);

/// Checked reads, with a bounded cache of versions.
pub struct Catalog {
    store: Arc<dyn Store>,
    pool: Pool,
    /// Who knows which row is the newest.
    pub scopes: Arc<Scopes>,
    versions: Cache<VersionCacheKey, Arc<VersionEntry>>,
    vaults: Cache<VaultName, Arc<Checked<VaultRow>>>,
}

impl Catalog {
    /// An empty cache over a store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, pool: Pool, scopes: Arc<Scopes>, cached_versions_max: usize) -> Self {
        Self { store, pool, scopes, versions: Cache::new(cached_versions_max), vaults: Cache::new(10_000) }
    }

    /// The instance's row.
    ///
    /// # Errors
    /// [`Problem::Tampered`] when its row is not the newest or is missing.
    pub async fn instance(&self, deadline: Moment) -> Result<InstanceRow, ServiceError> {
        Ok(self.sealed_instance(deadline).await?.0)
    }

    /// The instance's row with its seal.
    ///
    /// # Errors
    /// As [`Self::instance`].
    pub async fn sealed_instance(&self, deadline: Moment) -> Result<(InstanceRow, Seal), ServiceError> {
        let scope = self.scopes.cell(HeadScope::Service, deadline).await?;
        let found =
            self.many(&scope, deadline, || async { Ok(self.store.instance().await?.into_iter().collect()) }).await?;
        let found = found.into_iter().next();
        let found = found.ok_or_else(|| tampered("the instance's row".to_owned(), "it is missing from the store"))?;
        Ok((InstanceRow::clone(&found.row), found.seal))
    }

    /// A vault, live or deleted.
    ///
    /// # Errors
    /// [`Problem::NotFound`]; [`Problem::Tampered`] when its row is not the newest or is missing.
    pub async fn vault(&self, name: &VaultName, deadline: Moment) -> Result<Arc<Checked<VaultRow>>, ServiceError> {
        if let Some(vault) = self.vaults.get(name).filter(|vault| vault.is_current()) {
            return Ok(vault);
        }
        let scope = self.scopes.cell(HeadScope::Service, deadline).await?;
        let id = RowId { kind: RowKind::Vault, id: vault_id(name) };
        let resource = || format!("vaults/{name}");
        let found = self.one(&scope, &id, deadline, || self.store.vault(name)).await?;
        let vault = Arc::new(found.ok_or_else(|| not_found(resource()))?);
        if vault.row.name != *name {
            return Err(tampered(resource(), "another vault's row stands in its place"));
        }
        self.vaults.insert(name.clone(), Arc::clone(&vault));
        Ok(vault)
    }

    /// A vault that is in use.
    ///
    /// # Errors
    /// As [`Self::vault`]; [`Problem::SoftDeleted`].
    pub async fn live_vault(&self, name: &VaultName, deadline: Moment) -> Result<Arc<Checked<VaultRow>>, ServiceError> {
        let vault = self.vault(name, deadline).await?;
        if vault.row.state.is_active() {
            Ok(vault)
        } else {
            Err(Problem::SoftDeleted { name: format!("vaults/{name}") }.into())
        }
    }

    /// At most `page.size + 1` vaults.
    ///
    /// # Errors
    /// When the store does not answer or a row is not the newest.
    pub async fn vaults(
        &self,
        page: &Page<VaultName>,
        deadline: Moment,
    ) -> Result<Vec<Checked<VaultRow>>, ServiceError> {
        let scope = self.scopes.cell(HeadScope::Service, deadline).await?;
        let read = || self.store.vaults(page.after.as_ref(), page.size + 1, page.deleted);
        self.many(&scope, deadline, read).await
    }

    /// A key of a vault, live or deleted.
    ///
    /// # Errors
    /// [`Problem::NotFound`]; [`Problem::Tampered`] when its row is not the newest or is missing.
    pub async fn key(
        &self,
        vault: &VaultRow,
        name: &KeyName,
        deadline: Moment,
    ) -> Result<Arc<Checked<KeyObjectRow>>, ServiceError> {
        let scope = self.scopes.cell(HeadScope::Vault(vault.id), deadline).await?;
        let id = RowId { kind: RowKind::Key, id: key_id(vault.id, name) };
        let resource = || format!("vaults/{}/keys/{name}", vault.name);
        let found = self.one(&scope, &id, deadline, || self.store.key(&vault.name, name)).await?;
        let key = found.ok_or_else(|| not_found(resource()))?;
        if key.row.name != *name || key.row.vault != vault.name {
            return Err(tampered(resource(), "another key's row stands in its place"));
        }
        Ok(Arc::new(key))
    }

    /// At most `page.size + 1` keys of a vault.
    ///
    /// # Errors
    /// When the store does not answer or a row is not the newest.
    pub async fn keys(
        &self,
        vault: &VaultRow,
        page: &Page<KeyName>,
        deadline: Moment,
    ) -> Result<Vec<Checked<KeyObjectRow>>, ServiceError> {
        let scope = self.scopes.cell(HeadScope::Vault(vault.id), deadline).await?;
        let read = || self.store.keys(&vault.name, page.after.as_ref(), page.size + 1, page.deleted);
        self.many(&scope, deadline, read).await
    }

    /// A version of a key, whatever the state of either.
    ///
    /// # Errors
    /// [`Problem::NotFound`]; [`Problem::Tampered`] when its row is not the newest or is missing.
    pub async fn version(
        &self,
        vault: &VaultRow,
        key: &KeyObjectRow,
        version: VersionId,
        deadline: Moment,
    ) -> Result<Checked<VersionRow>, ServiceError> {
        let scope = self.scopes.cell(HeadScope::Vault(vault.id), deadline).await?;
        let id = RowId { kind: RowKind::Version, id: version.bytes() };
        let resource = || format!("vaults/{}/keys/{}/versions/{version}", vault.name, key.name);
        let found = self.one(&scope, &id, deadline, || self.store.version(&vault.name, version)).await;
        let row = found?.ok_or_else(|| not_found(resource()))?;
        if row.row.key != key.name && version != key.current {
            // It is there, under another key: for this one it does not exist.
            return Err(not_found(resource()));
        }
        if row.row.key != key.name || row.row.vault != vault.name || row.row.version != version {
            return Err(tampered(resource(), "another version's row stands in its place"));
        }
        Ok(row)
    }

    /// At most `page.size + 1` versions of a key, newest first.
    ///
    /// # Errors
    /// When the store does not answer or a row is not the newest.
    pub async fn versions(
        &self,
        vault: &VaultRow,
        key: &KeyObjectRow,
        page: &Page<u64>,
        deadline: Moment,
    ) -> Result<Vec<Checked<VersionRow>>, ServiceError> {
        let scope = self.scopes.cell(HeadScope::Vault(vault.id), deadline).await?;
        let read = || self.store.versions(&vault.name, &key.name, page.after, page.size + 1);
        self.many(&scope, deadline, read).await
    }

    /// A secret, live or deleted.
    ///
    /// # Errors
    /// [`Problem::NotFound`]; [`Problem::Tampered`] when its row is not the newest or is missing.
    pub async fn secret(
        &self,
        vault: &VaultRow,
        name: &SecretName,
        deadline: Moment,
    ) -> Result<Checked<SecretRow>, ServiceError> {
        let scope = self.scopes.cell(HeadScope::Vault(vault.id), deadline).await?;
        let id = RowId { kind: RowKind::Secret, id: secret_id(vault.id, name) };
        let found = self.one(&scope, &id, deadline, || self.store.secret(&vault.name, name)).await?;
        let resource = || format!("vaults/{}/secrets/{name}", vault.name);
        let secret = found.ok_or_else(|| not_found(resource()))?;
        if secret.row.id != id.id || secret.row.vault != vault.name || secret.row.name != *name {
            return Err(tampered(resource(), "another secret's row stands in its place"));
        }
        Ok(secret)
    }

    /// At most `page.size + 1` secrets of a vault.
    ///
    /// # Errors
    /// When the store does not answer or a row is not the newest.
    pub async fn secrets(
        &self,
        vault: &VaultRow,
        page: &Page<SecretName>,
        deadline: Moment,
    ) -> Result<Vec<Checked<SecretRow>>, ServiceError> {
        let scope = self.scopes.cell(HeadScope::Vault(vault.id), deadline).await?;
        let read = || self.store.secrets(&vault.name, page.after.as_ref(), page.size + 1, page.deleted);
        self.many(&scope, deadline, read).await
    }

    /// A version of a secret, with its value as it is stored.
    ///
    /// # Errors
    /// [`Problem::NotFound`]; [`Problem::Tampered`] when its row is not the newest or is missing.
    pub async fn secret_version(
        &self,
        vault: &VaultRow,
        secret: &SecretRow,
        version: VersionId,
        deadline: Moment,
    ) -> Result<Checked<SecretVersionRow>, ServiceError> {
        let scope = self.scopes.cell(HeadScope::Vault(vault.id), deadline).await?;
        let id = RowId { kind: RowKind::SecretVersion, id: version.bytes() };
        let resource = || format!("vaults/{}/secrets/{}/versions/{version}", vault.name, secret.name);
        let found = self.one(&scope, &id, deadline, || self.store.secret_version(&vault.name, version)).await;
        let row = found?.ok_or_else(|| not_found(resource()))?;
        if row.row.secret != secret.name && version != secret.current {
            // It is there, under another secret: for this one it does not exist.
            return Err(not_found(resource()));
        }
        if row.row.secret != secret.name || row.row.vault != vault.name || row.row.version != version {
            return Err(tampered(resource(), "another version's row stands in its place"));
        }
        Ok(row)
    }

    /// At most `page.size + 1` versions of a secret, newest first, without their values.
    ///
    /// # Errors
    /// When the store does not answer or a row is not the newest.
    pub async fn secret_versions(
        &self,
        vault: &VaultRow,
        secret: &SecretRow,
        page: &Page<u64>,
        deadline: Moment,
    ) -> Result<Vec<Checked<SecretVersionRow>>, ServiceError> {
        let scope = self.scopes.cell(HeadScope::Vault(vault.id), deadline).await?;
        let read = || self.store.secret_versions(&vault.name, &secret.name, page.after, page.size + 1);
        self.many(&scope, deadline, read).await
    }

    /// A version's usage counter; `None` when it has none yet.
    ///
    /// # Errors
    /// [`Problem::Tampered`] when the row is not the newest or is missing.
    pub async fn usage(
        &self,
        vault: &VaultRow,
        version: VersionId,
        deadline: Moment,
    ) -> Result<Option<Checked<UsageRow>>, ServiceError> {
        let scope = self.scopes.cell(HeadScope::Vault(vault.id), deadline).await?;
        let id = RowId { kind: RowKind::Usage, id: version.bytes() };
        self.one(&scope, &id, deadline, || self.store.usage(version)).await
    }

    /// What is known of a key that has backups, or of a version that is gone, by its id; `None` when nothing is.
    ///
    /// # Errors
    /// [`Problem::Tampered`] when the row is not the newest or is missing.
    pub async fn known(
        &self,
        vault: &VaultRow,
        id: [u8; 16],
        deadline: Moment,
    ) -> Result<Option<Checked<KnownRow>>, ServiceError> {
        let scope = self.scopes.cell(HeadScope::Vault(vault.id), deadline).await?;
        let row = RowId { kind: RowKind::Known, id };
        self.one(&scope, &row, deadline, || self.store.known(vault.id, id)).await
    }

    /// At most `limit` rows of what is known in a vault, after that id.
    ///
    /// # Errors
    /// When the store does not answer or a row is not the newest.
    pub async fn all_known(
        &self,
        vault: &VaultRow,
        after: Option<[u8; 16]>,
        limit: u32,
        deadline: Moment,
    ) -> Result<Vec<Checked<KnownRow>>, ServiceError> {
        let scope = self.scopes.cell(HeadScope::Vault(vault.id), deadline).await?;
        self.many(&scope, deadline, || self.store.all_known(vault.id, after, limit)).await
    }

    /// Every role assignment.
    ///
    /// # Errors
    /// When the store does not answer, or a row is not the newest or is missing.
    pub async fn assignments(&self, deadline: Moment) -> Result<Vec<Checked<AssignmentRow>>, ServiceError> {
        self.whole(RowKind::Assignment, "the role assignments", deadline, || self.store.assignments()).await
    }

    /// Every token that was issued and not taken away.
    ///
    /// # Errors
    /// As [`Self::assignments`].
    pub async fn tokens(&self, deadline: Moment) -> Result<Vec<Checked<TokenRow>>, ServiceError> {
        self.whole(RowKind::Token, "the tokens", deadline, || self.store.tokens()).await
    }

    /// The keys that sign tokens, oldest first.
    ///
    /// # Errors
    /// As [`Self::assignments`].
    pub async fn issuer_keys(&self, deadline: Moment) -> Result<Vec<Checked<IssuerKeyRow>>, ServiceError> {
        self.whole(RowKind::IssuerKey, "the issuer's keys", deadline, || self.store.issuer_keys()).await
    }

    /// Every role of one's own.
    ///
    /// # Errors
    /// As [`Self::assignments`].
    pub async fn role_definitions(&self, deadline: Moment) -> Result<Vec<Checked<RoleDefinitionRow>>, ServiceError> {
        self.whole(RowKind::RoleDefinition, "the role definitions", deadline, || self.store.role_definitions()).await
    }

    /// Every access policy of every vault.
    ///
    /// # Errors
    /// As [`Self::assignments`].
    pub async fn access_policies(&self, deadline: Moment) -> Result<Vec<Checked<AccessPolicyRow>>, ServiceError> {
        self.whole(RowKind::AccessPolicy, "the access policies", deadline, || self.store.access_policies()).await
    }

    /// What somebody may do in a vault by an access policy.
    ///
    /// # Errors
    /// When the store does not answer, or the row is not the newest or is missing.
    pub async fn access_policy(
        &self,
        vault: &VaultName,
        principal: &Principal,
        deadline: Moment,
    ) -> Result<Option<Checked<AccessPolicyRow>>, ServiceError> {
        let scope = self.scopes.cell(HeadScope::Service, deadline).await?;
        let row_id = RowId { kind: RowKind::AccessPolicy, id: access_policy_id(vault, principal) };
        self.one(&scope, &row_id, deadline, || self.store.access_policy(row_id.id)).await
    }

    /// Every row of a kind of the service's scope: as many as its head counts.
    async fn whole<R: Row, F>(
        &self,
        kind: RowKind,
        what: &str,
        deadline: Moment,
        read: impl Fn() -> F + Send + Sync,
    ) -> Result<Vec<Checked<R>>, ServiceError>
    where
        F: Future<Output = Result<Vec<Sealed<R>>, StoreError>> + Send,
    {
        let scope = self.scopes.cell(HeadScope::Service, deadline).await?;
        loop {
            let seen = scope.revision();
            let found = self.many(&scope, deadline, &read).await?;
            if found.len() == scope.count(kind) {
                return Ok(found);
            }
            if self.scopes.settled_at(&scope, seen, deadline).await? {
                return Err(tampered(what.to_owned(), "a row is missing from the store"));
            }
        }
    }

    /// A role assignment.
    ///
    /// # Errors
    /// [`Problem::NotFound`]; [`Problem::Tampered`] when its row is not the newest or is missing.
    pub async fn assignment(&self, id: AssignmentId, deadline: Moment) -> Result<Checked<AssignmentRow>, ServiceError> {
        let scope = self.scopes.cell(HeadScope::Service, deadline).await?;
        let row_id = RowId { kind: RowKind::Assignment, id: id.bytes() };
        let found = self.one(&scope, &row_id, deadline, || self.store.assignment(id)).await?;
        found.ok_or_else(|| not_found(super::assignments::resource(id)))
    }

    /// Everything that a policy is made of.
    ///
    /// # Errors
    /// As [`Self::assignments`].
    pub async fn policy_rows(&self, deadline: Moment) -> Result<Rows, ServiceError> {
        fn rows<R: Row>(checked: Vec<Checked<R>>) -> Vec<R> {
            checked.into_iter().map(|checked| R::clone(&checked.row)).collect()
        }
        let definitions = rows(self.role_definitions(deadline).await?);
        Ok(Rows {
            definitions: definitions.iter().map(RoleDefinition::from).collect(),
            assignments: rows(self.assignments(deadline).await?),
            vaults: self.vault_rules(deadline).await?,
            policies: rows(self.access_policies(deadline).await?),
        })
    }

    /// What vaults decide beside roles, deleted ones too: they may come back.
    async fn vault_rules(&self, deadline: Moment) -> Result<HashMap<VaultName, VaultAccess>, ServiceError> {
        let mut rules = HashMap::new();
        let mut page = Page { size: 1000, after: None, deleted: true };
        loop {
            let found = self.vaults(&page, deadline).await?;
            page.after = found.last().map(|vault| vault.row.name.clone());
            let deciding = found.iter().map(|vault| (vault.row.name.clone(), VaultAccess::of(&vault.row)));
            rules.extend(deciding.filter(|(_, access)| !access.is_idle()));
            if found.len() <= page.size as usize {
                return Ok(rules);
            }
        }
    }

    /// The version an operation names, if it is in memory and the newest.
    #[must_use]
    pub fn warm(&self, name: &KeyRef) -> Option<Arc<VersionEntry>> {
        self.versions.get(&cache_key(name)).filter(|entry| entry.is_current())
    }

    /// The version an operation names, with its live key and live vault; from memory where possible.
    ///
    /// # Errors
    /// [`Problem::NotFound`]; [`Problem::SoftDeleted`] when the key or vault is deleted.
    pub async fn entry(&self, name: &KeyRef, deadline: Moment) -> Result<Arc<VersionEntry>, ServiceError> {
        if let Some(entry) = self.warm(name) {
            return Ok(entry);
        }
        let cache_key = cache_key(name);
        let vault = self.live_vault(&name.vault, deadline).await?;
        let key = self.key(&vault.row, &name.key, deadline).await?;
        if !key.row.state.is_active() {
            return Err(Problem::SoftDeleted { name: format!("vaults/{}/keys/{}", name.vault, name.key) }.into());
        }
        let version = name.version.unwrap_or(key.row.current);
        if name.version.is_none() {
            // One entry for a version, however it was named: its usage is counted once.
            let exact = KeyRef { version: Some(version), ..name.clone() };
            let entry = Box::pin(self.entry(&exact, deadline)).await?;
            self.versions.insert(cache_key, Arc::clone(&entry));
            return Ok(entry);
        }
        let version = self.version(&vault.row, &key.row, version, deadline).await?;
        let hsm = Arc::new(KeyRow::new(version.row.statement(), version.seal));
        let old = self.versions.get(&cache_key);
        let usage = old.as_ref().map(|old| old.usage.clone()).unwrap_or_default();
        // What was reserved out of another budget is no part of this one.
        let same_budget = |old: &&Arc<VersionEntry>| use_budget(&old.key.row) == use_budget(&key.row);
        let budget = old.as_ref().filter(same_budget).map(|old| old.budget.clone()).unwrap_or_default();
        let activity = old.map_or_else(|| Activity::of(version.row.version), |old| Arc::clone(&old.activity));
        let entry = Arc::new(VersionEntry { vault, key, version, hsm, usage, budget, activity });
        self.versions.insert(cache_key, Arc::clone(&entry));
        Ok(entry)
    }

    /// One row by its id, read again while the scope changes under the reading.
    async fn one<R: Row, F>(
        &self,
        scope: &Arc<ScopeCell>,
        id: &RowId,
        deadline: Moment,
        read: impl Fn() -> F + Send + Sync,
    ) -> Result<Option<Checked<R>>, ServiceError>
    where
        F: Future<Output = Result<Option<Sealed<R>>, StoreError>> + Send,
    {
        loop {
            let seen = scope.revision();
            let found = read().await?;
            let absent = found.is_none();
            let mut checked = match self.check(found.into_iter().collect(), scope, seen, deadline).await? {
                Verdict::Newest(checked) => checked,
                Verdict::Again => continue,
            };
            if absent && scope.has(id) {
                if self.scopes.settled_at(scope, seen, deadline).await? {
                    return Err(tampered(
                        format!("the row {}", base16ct::lower::encode_string(&id.id)),
                        "it is missing from the store",
                    ));
                }
                continue;
            }
            return Ok(checked.pop());
        }
    }

    /// Rows of a scope, read again while the scope changes under the reading.
    async fn many<R: Row, F>(
        &self,
        scope: &Arc<ScopeCell>,
        deadline: Moment,
        read: impl Fn() -> F + Send + Sync,
    ) -> Result<Vec<Checked<R>>, ServiceError>
    where
        F: Future<Output = Result<Vec<Sealed<R>>, StoreError>> + Send,
    {
        loop {
            let seen = scope.revision();
            if let Verdict::Newest(checked) = self.check(read().await?, scope, seen, deadline).await? {
                return Ok(checked);
            }
        }
    }

    /// Checks that rows are the newest of their ids and that their seals are right.
    async fn check<R: Row>(
        &self,
        found: Vec<Sealed<R>>,
        scope: &Arc<ScopeCell>,
        seen: u64,
        deadline: Moment,
    ) -> Result<Verdict<R>, ServiceError> {
        if found.is_empty() {
            return Ok(Verdict::Newest(Vec::new()));
        }
        let pairs = found.iter().map(|sealed| (sealed.unchecked().canonical(), *sealed.seal())).collect();
        let verdicts = self.pool.check_seals(pairs, deadline).await.map_err(super::hands::outage)?;
        let mut checked = Vec::with_capacity(found.len());
        for (sealed, right) in found.into_iter().zip(verdicts) {
            let (row, seal) = sealed.into_unchecked();
            if !right {
                return Err(tampered(describe(&row), "its seal is wrong"));
            }
            if !scope.is_newest(&row.row_id(), &seal) {
                if self.scopes.settled_at(scope, seen, deadline).await? {
                    return Err(tampered(describe(&row), "an older row was put back"));
                }
                return Ok(Verdict::Again);
            }
            checked.push(Checked::new(row, seal, Arc::clone(scope), seen));
        }
        Ok(Verdict::Newest(checked))
    }
}

/// How often a version of a key may be used.
fn use_budget(key: &KeyObjectRow) -> Option<UseBudget> {
    key.rotation.as_ref().and_then(|rotation| rotation.policy.use_budget)
}

fn cache_key(name: &KeyRef) -> VersionCacheKey {
    (name.vault.clone(), name.key.folded(), name.version)
}

enum Verdict<R> {
    Newest(Vec<Checked<R>>),
    /// The scope changed meanwhile: what was read may be old or too new.
    Again,
}

fn describe<R: Row>(row: &R) -> String {
    let id = row.row_id();
    let what = match id.kind {
        RowKind::Vault => "a vault's row",
        RowKind::Key => "a key's row",
        RowKind::Version => "a key version's row",
        RowKind::Usage => "a usage row",
        RowKind::Assignment => "a role assignment's row",
        RowKind::Instance => "the instance's row",
        RowKind::Token => "a token's row",
        RowKind::IssuerKey => "the row of an issuer's key",
        RowKind::RoleDefinition => "a role definition's row",
        RowKind::AccessPolicy => "an access policy's row",
        RowKind::Known => "what is known of a key that has backups",
        RowKind::Secret => "a secret's row",
        RowKind::SecretVersion => "a secret version's row",
        RowKind::Replica => "a replica's row",
        RowKind::Event => "an event",
        RowKind::Clock => "the clock's row",
    };
    format!("{what} (id {})", base16ct::lower::encode_string(&id.id))
}

fn not_found(name: String) -> ServiceError {
    Problem::NotFound { name }.into()
}

fn tampered(name: String, why: &'static str) -> ServiceError {
    ServiceError::because(Problem::Tampered { name }, why)
}
