//! The rotation of a vault's key-encryption key, and the end of those before it.
//!
//! What a KEK has wrapped only a worker can open, so it stays under it: a rotation makes another one for what comes, and the
//! one before is *retired*. It is destroyed when nothing is under it any more. That cannot be taken back, so it is not enough
//! that the database finds nothing: it is asked through an index first, and then every row of the vault that there is must say
//! so under its seal. The commit that takes it off the vault's list writes the head of what is in the vault as well: whoever
//! made a key under it and has not committed it yet meets that, and decides again.

use std::{
    collections::HashSet,
    sync::{Arc, OnceLock},
    time::Duration,
};

use strongroom_hsm::{
    TOKEN_OBJECT_US,
    protocol::{Kek, Moment},
};
use tokio::sync::OnceCell;

use super::{
    Caller, ChangeOptions, Page, Service,
    catalog::{Checked, vault_id},
    door::{Applied, Context, Work},
    error::{Problem, ServiceError},
    fresh_id,
    purge::{ON_TOKEN, PURGING},
    scopes::{Making, NewRow, Put},
    settle::REAP_WITHIN,
};
use crate::{
    access::{Permit, ops},
    failpoint,
    model::{
        KeyName, KeyObjectRow, RetiredKek, Row as _, RowId, RowKind, Scope, SecretName, Timestamp, VaultName, VaultRow,
        VersionId,
    },
    store::{HeadScope, WorkLease},
};

/// The most retired KEKs of a vault: each is an object on the token.
pub const RETIRED_KEKS_MAX: usize = 32;
/// How long one that is retired is left alone: a key that was made under it may be on its way for so long.
const LEFT_ALONE_S: i64 = 900;
/// The name of the lease under which they are destroyed.
const RETIRING: &str = "retired-keks";
/// For how long it is taken.
const RETIRING_FOR: Duration = Duration::from_secs(120);
/// How many vaults are looked at in one pass.
const VAULTS: u32 = 100;
/// How many rows are read at once.
const ROWS: u32 = 1_000;
/// How long the rows of one vault may be read.
const READ_WITHIN: Duration = Duration::from_secs(60);

impl Service {
    /// Makes a new key-encryption key for what will be made in a vault.
    ///
    /// # Errors
    /// [`Problem::Precondition`] when it has none of its own, or when too many are retired.
    pub async fn rotate_vault_kek(
        self: &Arc<Self>,
        caller: &Caller,
        vault: &VaultName,
        options: ChangeOptions,
    ) -> Result<Arc<VaultRow>, ServiceError> {
        let work = RotateKek { vault: vault.clone(), id: VersionId::from_bytes(fresh_id()), made: OnceCell::new() };
        self.change(caller, format!("vaults/{vault}"), Scope::Vault(vault.clone()), options, work).await
    }

    /// Destroys retired KEKs that nothing is under any more, if it is this replica's turn. Called by a job.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn destroy_retired_keks(self: &Arc<Self>) -> Result<(), ServiceError> {
        let own = self.own.name().await;
        let Some(lease) = self.store.take_lease(RETIRING, &own, RETIRING_FOR).await? else { return Ok(()) };
        let mut after = None;
        loop {
            let vaults = self.store.vaults_with_retired_keks(after.as_ref(), VAULTS).await?;
            let Some(last) = vaults.last() else { return Ok(()) };
            after = Some(last.clone());
            for vault in vaults {
                match self.destroy_retired_of(&vault, &lease).await {
                    Ok(()) => {}
                    // A change was quicker; the next pass looks again.
                    Err(error) if error.is_race() => {}
                    Err(error) => {
                        tracing::error!(%vault, %error, cause = ?error.cause, "retired key-encryption keys stay on the token");
                    }
                }
            }
        }
    }

    async fn destroy_retired_of(self: &Arc<Self>, name: &VaultName, lease: &WorkLease) -> Result<(), ServiceError> {
        let itself = self.itself(PURGING);
        let caller = Caller { deadline: Moment::now().after(READ_WITHIN), ..itself };
        let vault = self.catalog.vault(name, caller.deadline).await?;
        // With a vault that is purged they all go.
        if vault.row.purging {
            return Ok(());
        }
        let empty = self.without_versions(&vault.row).await?;
        if empty.is_empty() {
            return Ok(());
        }
        self.check_nothing_under(&vault.row, &empty, caller.deadline).await?;
        let keks = empty.into_iter().collect();
        let work = DestroyKeks { vault: name.clone(), keks, lease: lease.clone(), said: OnceLock::new() };
        self.scheduled(&caller, format!("vaults/{name}/keks"), Scope::Vault(name.clone()), work).await
    }

    /// Those of its retired KEKs that no row names, as the database says, and that were left alone long enough.
    async fn without_versions(&self, vault: &VaultRow) -> Result<HashSet<VersionId>, ServiceError> {
        let by = Timestamp(self.clock.now().0.saturating_sub(LEFT_ALONE_S));
        let mut found = HashSet::new();
        for kek in vault.retired_keks.iter().filter(|kek| kek.retired <= by) {
            if !self.store.is_wrapped_under(kek.id).await? {
                found.insert(kek.id);
            }
        }
        Ok(found)
    }

    /// Refuses when a version says under its seal that it is under one of them, or when one is not shown that is known to be
    /// there: then the database was altered, so that what opens them would be destroyed.
    async fn check_nothing_under(
        &self,
        vault: &VaultRow,
        keks: &HashSet<VersionId>,
        deadline: Moment,
    ) -> Result<(), ServiceError> {
        let cell = self.catalog.scopes.cell(HeadScope::Vault(vault.id), deadline).await?;
        self.check_no_secret_under(vault, keks, deadline).await?;
        let mut unseen = cell.ids(RowKind::Version);
        let mut keys: Page<KeyName> = Page { size: ROWS, after: None, deleted: true };
        loop {
            let found = self.catalog.keys(vault, &keys, deadline).await?;
            let Some(last) = found.last() else { break };
            keys.after = Some(last.row.name.clone());
            for key in found {
                self.check_versions(vault, &key.row, keks, &mut unseen, deadline).await?;
            }
        }
        // Those that were purged meanwhile.
        unseen.retain(|id| cell.has(&RowId { kind: RowKind::Version, id: *id }));
        if unseen.is_empty() { Ok(()) } else { Err(hidden(vault)) }
    }

    /// The same of the data keys of secrets.
    async fn check_no_secret_under(
        &self,
        vault: &VaultRow,
        keks: &HashSet<VersionId>,
        deadline: Moment,
    ) -> Result<(), ServiceError> {
        let cell = self.catalog.scopes.cell(HeadScope::Vault(vault.id), deadline).await?;
        let mut unseen = cell.ids(RowKind::Secret);
        let mut page: Page<SecretName> = Page { size: ROWS, after: None, deleted: true };
        loop {
            let found = self.catalog.secrets(vault, &page, deadline).await?;
            let Some(last) = found.last() else { break };
            page.after = Some(last.row.name.clone());
            for secret in found {
                unseen.remove(&secret.row.id);
                if secret.row.kek.is_some_and(|kek| keks.contains(&kek)) {
                    return Err(hidden(vault));
                }
            }
        }
        unseen.retain(|id| cell.has(&RowId { kind: RowKind::Secret, id: *id }));
        if unseen.is_empty() { Ok(()) } else { Err(hidden(vault)) }
    }

    async fn check_versions(
        &self,
        vault: &VaultRow,
        key: &KeyObjectRow,
        keks: &HashSet<VersionId>,
        unseen: &mut HashSet<[u8; 16]>,
        deadline: Moment,
    ) -> Result<(), ServiceError> {
        let mut page = Page { size: ROWS, after: None, deleted: true };
        loop {
            let versions = self.catalog.versions(vault, key, &page, deadline).await?;
            let Some(last) = versions.last() else { return Ok(()) };
            page.after = Some(last.row.ordinal);
            for version in versions {
                unseen.remove(&version.row.version.bytes());
                if version.row.kek.is_some_and(|kek| keks.contains(&kek)) {
                    return Err(hidden(vault));
                }
            }
        }
    }
}

fn hidden(vault: &VaultRow) -> ServiceError {
    Problem::Tampered { name: format!("what is under the retired key-encryption keys of vaults/{}", vault.name) }.into()
}

struct RotateKek {
    vault: VaultName,
    /// Under an id of our own, as a key's version.
    id: VersionId,
    /// The new one, once it is on the token: a change that another process was quicker than is decided again, and it stays.
    made: OnceCell<Kek>,
}

impl RotateKek {
    async fn plan(
        &self,
        service: &Service,
        context: &Context,
    ) -> Result<(Arc<Checked<VaultRow>>, VaultRow), ServiceError> {
        let name = format!("vaults/{}", self.vault);
        let old = service.catalog.live_vault(&self.vault, context.caller.deadline).await?;
        context.check_etag(&old.row.etag(), &name)?;
        let refusal = |reason, why| Err(Problem::Precondition { reason, why }.into());
        let Some(kek) = old.row.kek_id() else {
            let why = format!("{name} has no key-encryption key of its own: its keys are under the root key");
            return refusal("NO_OWN_KEK", why);
        };
        if old.row.retired_keks.len() >= RETIRED_KEKS_MAX {
            let why = format!(
                "{name} has {RETIRED_KEKS_MAX} retired key-encryption keys that versions are under: rotate its keys, and \
                 delete and purge old versions first"
            );
            return refusal("TOO_MANY_RETIRED_KEKS", why);
        }
        let mut new = VaultRow::clone(&old.row);
        new.retired_keks.push(RetiredKek { id: kek, retired: context.now });
        // Whoever only asks is shown an id that there is not.
        let unmade = Kek { id: self.id.bytes(), blob: [0; 24], mark: [0; 16] };
        new.kek = Some(self.made.get().copied().unwrap_or(unmade));
        new.kek_since = Some(context.now);
        new.updated = context.now;
        new.intent = context.intent;
        new.revision += 1;
        Ok((old, new))
    }
}

impl Work for RotateKek {
    type Op = ops::VaultsRotateKek;
    type Out = Arc<VaultRow>;

    fn version(&self) -> Option<VersionId> {
        Some(self.id)
    }

    fn cost_us(&self) -> u64 {
        u64::from(TOKEN_OBJECT_US)
    }

    async fn check(
        &self,
        service: &Service,
        _: &Permit<Self::Op>,
        context: &Context,
    ) -> Result<Self::Out, ServiceError> {
        Ok(Arc::new(self.plan(service, context).await?.1))
    }

    async fn apply(
        &self,
        service: &Service,
        permit: Permit<Self::Op>,
        context: &Context,
    ) -> Result<Applied<Self::Out>, ServiceError> {
        let deadline = context.caller.deadline;
        self.made.get_or_try_init(|| service.hands.make_kek(&permit, self.id, &context.caller)).await?;
        failpoint::hit(failpoint::SERVICE_AFTER_GENERATE);
        let locked = service.catalog.scopes.lock(HeadScope::Service, deadline).await?;
        let (old, new) = self.plan(service, context).await?;
        let put = Put::replace(old.row.as_ref(), old.seal, NewRow::Vault(new.clone()));
        let request = context.request_record(format!("vaults/{}", self.vault));
        let making = Making { name: "vaults.rotateKek", right: &permit, intent: context.intent, request, deadline };
        let committed = service.catalog.scopes.commit(&locked, making, vec![put]).await;
        let committed = service.note_policy(committed)?;
        service.put_rules(&new);
        Ok(Applied { out: Arc::new(new), heads: vec![committed.mark] })
    }

    async fn again(
        &self,
        service: &Service,
        _: &Permit<Self::Op>,
        _: &str,
        context: &Context,
    ) -> Result<Self::Out, ServiceError> {
        Ok(Arc::clone(&service.catalog.vault(&self.vault, context.caller.deadline).await?.row))
    }

    async fn undo(&self, service: &Service, _: &Context) -> Result<(), ServiceError> {
        // The caller's deadline may have passed; cleaning up has its own.
        service.hands.reap(self.id, Moment::now().after(REAP_WITHIN)).await
    }
}

/// Takes retired KEKs off a vault's list, and off the token.
struct DestroyKeks {
    vault: VaultName,
    /// Those that no row is under, as every row of the vault has said.
    keks: Vec<VersionId>,
    lease: WorkLease,
    /// What the intent says.
    said: OnceLock<String>,
}

impl DestroyKeks {
    async fn plan(
        &self,
        service: &Service,
        context: &Context,
    ) -> Result<(Arc<Checked<VaultRow>>, VaultRow), ServiceError> {
        let old = service.catalog.vault(&self.vault, context.caller.deadline).await?;
        let empty = service.without_versions(&old.row).await?;
        if old.row.purging || !self.keks.iter().all(|kek| empty.contains(kek)) {
            return Err(Problem::Changed { name: format!("vaults/{}", self.vault) }.into());
        }
        let mut new = VaultRow::clone(&old.row);
        new.retired_keks.retain(|kek| !self.keks.contains(&kek.id));
        new.updated = context.now;
        new.intent = context.intent;
        new.revision += 1;
        Ok((old, new))
    }
}

impl Work for DestroyKeks {
    type Op = ops::VaultsPurge;
    type Out = ();

    fn detail(&self) -> Option<String> {
        self.said.get().cloned()
    }

    async fn check(&self, service: &Service, _: &Permit<Self::Op>, context: &Context) -> Result<(), ServiceError> {
        self.plan(service, context).await?;
        let ids: Vec<String> = self.keks.iter().map(ToString::to_string).collect();
        self.said.get_or_init(|| format!("retired, and nothing is under them; {ON_TOKEN} {}", ids.join(" ")));
        Ok(())
    }

    async fn apply(
        &self,
        service: &Service,
        _: Permit<Self::Op>,
        context: &Context,
    ) -> Result<Applied<()>, ServiceError> {
        let deadline = context.caller.deadline;
        // Nobody makes a key in it meanwhile, here; elsewhere the head of its contents says so.
        let contents = service.catalog.scopes.lock(HeadScope::Vault(vault_id(&self.vault)), deadline).await?;
        let locked = service.catalog.scopes.lock(HeadScope::Service, deadline).await?;
        let (old, new) = self.plan(service, context).await?;
        let put = Put::replace(old.row.as_ref(), old.seal, NewRow::Vault(new.clone()));
        let making =
            Making { name: "vaults.purge", right: &self.lease, intent: context.intent, request: None, deadline };
        let committed = service.catalog.scopes.commit_beside(&locked, &contents, making, vec![put]).await;
        let heads = service.note_policy(committed)?;
        service.put_rules(&new);
        drop((locked, contents));
        failpoint::hit(failpoint::PURGE_BEFORE_REAP);
        service.reap_all(&self.keks).await?;
        Ok(Applied { out: (), heads })
    }

    async fn again(&self, _: &Service, _: &Permit<Self::Op>, _: &str, _: &Context) -> Result<(), ServiceError> {
        Ok(())
    }
}
