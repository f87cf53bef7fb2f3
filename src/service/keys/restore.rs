//! Brings a key back by its backup: into the vault and under the name that it had, as it was, with its version ids.
//!
//! The seal says that this instance made it; each version is proved in the HSM before anything is written. A backup that is
//! older than what is known of the key (it was changed since, or one of its versions was destroyed by itself) is refused, unless
//! the caller insists; counters come back as the higher of both in any case.

use std::sync::{Arc, OnceLock};

use strongroom_hsm::{KekId, KeyRow, KeyType, algorithms::GCM_ENCRYPTIONS_MAX};
use tokio::sync::OnceCell;

use super::{backup::said, invalid, under::version_opens_in};
use crate::{
    access::{Permit, ops},
    model::{
        EventRow, EventType, Fate, KeyObjectRow, KnownRow, Residency, Scope, UsageRow, VaultRow, VersionRow,
        key_backup::{KeptVersion, ReadBackup},
    },
    service::{
        Caller, ChangeOptions, KeyRef, KeyView, Service,
        catalog::{Checked, key_id, vault_id},
        door::{Applied, Context, Work},
        error::{Problem, ServiceError},
        events,
        rotation::look_at,
        scopes::{Making, NewRow, Put},
        sealed_backups::{older_than_known, precondition, unproved},
        version_name,
    },
    store::HeadScope,
};

/// Whether a backup may be older than what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// No.
    AsKnown,
    /// Yes: the caller insists, which is recorded.
    Older,
}

impl Service {
    /// Brings a key back.
    ///
    /// # Errors
    /// [`Problem::Invalid`] when it is damaged or was not sealed here; [`Problem::Exists`] and [`Problem::Deleted`] when the
    /// name is taken; [`Problem::Precondition`] when it is of another instance, does not open, or is older than what is known.
    pub async fn restore_key(
        self: &Arc<Self>,
        caller: &Caller,
        backup: ReadBackup,
        age: Age,
        options: ChangeOptions,
    ) -> Result<KeyView, ServiceError> {
        let key = &backup.backup.key;
        let name = KeyRef { vault: key.vault.clone(), key: key.name.clone(), version: None };
        let scope = Scope::key(&name.vault, &name.key);
        let resource = name.to_string();
        let work = RestoreKey { name, backup, age, is_older: OnceLock::new(), proved: OnceCell::new() };
        self.change(caller, resource, scope, options, work).await
    }
}

struct RestoreKey {
    name: KeyRef,
    backup: ReadBackup,
    age: Age,
    /// That it is older than what is known, and the caller insists.
    is_older: OnceLock<()>,
    /// The versions that were proved, as they will be written.
    proved: OnceCell<Vec<VersionRow>>,
}

/// What is written.
struct Planned {
    vault: Arc<Checked<VaultRow>>,
    key: KeyObjectRow,
    versions: Vec<VersionRow>,
    usages: Vec<UsageRow>,
    /// What is known from now on of a key of which nothing was.
    unknown: Option<KnownRow>,
}

impl Planned {
    fn view(&self) -> Result<KeyView, ServiceError> {
        let newest = self.versions.iter().find(|version| version.version == self.key.current);
        let version = Arc::new(newest.ok_or(Problem::Internal)?.clone());
        Ok(KeyView { vault: Arc::clone(&self.vault.row), key: Arc::new(self.key.clone()), version })
    }

    fn puts(self) -> Vec<Put> {
        let versions = self.versions.into_iter().map(|row| Put::bring_back(NewRow::Version(Box::new(row))));
        let usages = self.usages.into_iter().map(|row| Put::insert(NewRow::Usage(row)));
        // The backup may be of a later moment than the store, which then does not remember that there is one.
        let known = self.unknown.map(|row| Put::insert(NewRow::Known(row)));
        [Put::bring_back(NewRow::Key(self.key))].into_iter().chain(versions).chain(usages).chain(known).collect()
    }
}

impl RestoreKey {
    async fn plan(&self, service: &Service, context: &Context) -> Result<Planned, ServiceError> {
        let deadline = context.caller.deadline;
        let root = service.resting_root()?;
        let vault = service.catalog.live_vault(&self.name.vault, deadline).await?;
        service.check_name_is_free(&vault.row, &self.name, deadline).await?;
        let id = key_id(vault.row.id, &self.name.key);
        let known = service.known(&vault.row, id, deadline).await?.map(|known| known.row);
        let mut older = self.age_of_key(&vault.row, known.as_deref())?;
        let (mut versions, mut usages) = (Vec::new(), Vec::new());
        for kept in &self.backup.backup.versions {
            self.check_version(service, &kept.row, &vault.row, root).await?;
            let known = service.known(&vault.row, kept.row.version.bytes(), deadline).await?.map(|known| known.row);
            older = older.or(self.age_of_version(kept, known.as_deref())?);
            let last = known.as_ref().map_or(0, |known| known.last);
            let revision = kept.row.revision.max(last) + 1;
            versions.push(VersionRow { revision, intent: context.intent, ..kept.row.clone() });
            usages.extend(counters(kept, known.as_deref()));
        }
        self.check_age(older)?;
        let key = self.key_row(id, &versions, &usages, known.as_deref(), context)?;
        let unknown = known.is_none().then(|| KnownRow::here(id, vault.row.id, context.now));
        Ok(Planned { vault, key, versions, usages, unknown })
    }

    fn key_row(
        &self,
        id: [u8; 16],
        versions: &[VersionRow],
        usages: &[UsageRow],
        known: Option<&KnownRow>,
        context: &Context,
    ) -> Result<KeyObjectRow, ServiceError> {
        let kept = &self.backup.backup.key;
        let revision = kept.revision.max(known.map_or(0, |known| known.last)) + 1;
        let mut key = KeyObjectRow { id, updated: context.now, intent: context.intent, revision, ..kept.clone() };
        let newest = versions.iter().find(|version| version.version == key.current).ok_or(Problem::Internal)?;
        let uses = usages.iter().find(|usage| usage.version == key.current).map_or(0, |usage| usage.uses);
        key.due = look_at(&key, newest, uses, context.now);
        Ok(key)
    }

    /// That a version can come back: it opens in that vault, and is nowhere else.
    async fn check_version(
        &self,
        service: &Service,
        version: &VersionRow,
        vault: &VaultRow,
        root: Option<KekId>,
    ) -> Result<(), ServiceError> {
        if version.residency == Residency::Token || !version.residency.allows(version.spec, version.ops) {
            return Err(invalid("backup", "it holds what no backup does; take another copy"));
        }
        if !version_opens_in(version, vault, root) {
            let why = format!(
                "{} is wrapped under another key than the keys of vaults/{} are now: it opens only where that one still is",
                version_name(version),
                vault.name
            );
            return Err(precondition("OTHER_KEK", why));
        }
        if service.store.version_exists(version.version).await? {
            let why = format!(
                "{} exists already, under another name: the key was moved, and lives there",
                version_name(version)
            );
            return Err(precondition("VERSION_EXISTS", why));
        }
        Ok(())
    }

    /// Why the backup is older than what is known of the key, if it is.
    fn age_of_key(&self, vault: &VaultRow, known: Option<&KnownRow>) -> Result<Option<String>, ServiceError> {
        let backup = &self.backup.backup;
        if backup.vault_created != vault.created {
            let why = "it is of an earlier vault of that name, which was purged".to_owned();
            return Ok(Some(why));
        }
        let Some(known) = known else { return Ok(None) };
        if known.fate == Fate::Moved && known.newest == Some(backup.key.current) {
            return Err(self.moved());
        }
        let is_newest = known.newest.is_none_or(|newest| newest == backup.key.current);
        Ok(if !is_newest {
            Some("the key had another newest version when it went".to_owned())
        } else if backup.key.revision < known.last {
            Some("the key was changed after the backup was made".to_owned())
        } else {
            None
        })
    }

    /// The same of a version.
    fn age_of_version(&self, kept: &KeptVersion, known: Option<&KnownRow>) -> Result<Option<String>, ServiceError> {
        let Some(known) = known else { return Ok(None) };
        let version = kept.row.version;
        match known.fate {
            Fate::Moved => Err(self.moved()),
            Fate::PurgedAlone => Ok(Some(format!("version {version} was destroyed by itself"))),
            Fate::Here | Fate::Purged if kept.row.revision < known.last => {
                Ok(Some(format!("version {version} was changed after the backup was made")))
            }
            Fate::Here | Fate::Purged => Ok(None),
        }
    }

    /// How often it was used since, nobody knows here.
    fn moved(&self) -> ServiceError {
        let why = format!(
            "{} was moved to another vault after this backup was made: restore a backup that was made there",
            self.name
        );
        precondition("KEY_MOVED", why)
    }

    fn check_age(&self, older: Option<String>) -> Result<(), ServiceError> {
        let Some(older) = older else { return Ok(()) };
        if self.age == Age::Older {
            let _ = self.is_older.set(());
            return Ok(());
        }
        Err(older_than_known(&self.name.to_string(), &older))
    }

    /// That each version's blob opens here and is the key that its row describes. Nothing is kept of it.
    async fn prove(
        &self,
        service: &Service,
        permit: &Permit<ops::KeysRestore>,
        planned: &Planned,
        context: &Context,
    ) -> Result<Vec<VersionRow>, ServiceError> {
        let deadline = context.caller.deadline;
        let forms = planned.versions.iter().map(|version| version.statement().encode()).collect();
        let seals = service.pool.seal(forms, deadline).await.map_err(crate::service::hands::outage)?;
        for (version, seal) in planned.versions.iter().zip(seals) {
            let row = KeyRow::new(version.statement(), seal);
            service
                .hands
                .prove(permit, &row, &context.caller)
                .await
                .map_err(|error| unproved(version_name(version), error))?;
        }
        Ok(planned.versions.clone())
    }
}

/// What a version is counted: the higher of what the backup and what is known say. Where nothing is known of an AES key, it
/// may have encrypted as often as it may, and does so no more.
fn counters(kept: &KeptVersion, known: Option<&KnownRow>) -> Option<UsageRow> {
    let is_aes = kept.row.spec.key_type() == KeyType::Aes;
    let uses = kept.uses.max(known.map_or(0, |known| known.uses));
    let encryptions = match known {
        _ if !is_aes => kept.encryptions,
        Some(known) => kept.encryptions.max(known.encryptions),
        None => GCM_ENCRYPTIONS_MAX,
    };
    let row = UsageRow { version: kept.row.version, encryptions, uses, revision: 1 };
    (encryptions > 0 || uses > 0).then_some(row)
}

impl Work for RestoreKey {
    type Op = ops::KeysRestore;
    type Out = KeyView;

    fn cost_us(&self) -> u64 {
        self.backup.backup.versions.iter().map(|version| u64::from(version.row.spec.load_us())).sum()
    }

    fn detail(&self) -> Option<String> {
        let older = if self.is_older.get().is_some() { ", older than what is known" } else { "" };
        let count = self.backup.backup.versions.len();
        Some(format!("widens: {count} versions{older}, {}", said(&self.backup.origin.digest)))
    }

    async fn check(
        &self,
        service: &Service,
        permit: &Permit<Self::Op>,
        context: &Context,
    ) -> Result<KeyView, ServiceError> {
        service.check_origin(&self.backup.origin, context.caller.deadline).await?;
        let planned = self.plan(service, context).await?;
        if context.options.validate_only {
            self.prove(service, permit, &planned, context).await?;
        }
        planned.view()
    }

    async fn apply(
        &self,
        service: &Service,
        permit: Permit<Self::Op>,
        context: &Context,
    ) -> Result<Applied<KeyView>, ServiceError> {
        let deadline = context.caller.deadline;
        let before = self.plan(service, context).await?;
        let proved = self.proved.get_or_try_init(|| self.prove(service, &permit, &before, context)).await?;
        let locked = service.catalog.scopes.lock(HeadScope::Vault(vault_id(&self.name.vault)), deadline).await?;
        let planned = self.plan(service, context).await?;
        if planned.versions != *proved {
            // Another has restored and purged it meanwhile.
            return Err(Problem::Changed { name: self.name.to_string() }.into());
        }
        let request = context.request_record(self.name.to_string());
        let making = Making { name: "keys.restore", right: &permit, intent: context.intent, request, deadline };
        let event = events::of_key(EventType::KeyRestored, &context.caller, context.now, &self.name);
        let event = EventRow { detail: format!("{} versions", planned.versions.len()), ..event };
        let out = planned.view()?;
        let committed = service.catalog.scopes.commit_and_tell(&locked, making, planned.puts(), vec![event]).await?;
        Ok(Applied { out, heads: vec![committed.mark] })
    }

    async fn again(
        &self,
        service: &Service,
        _: &Permit<Self::Op>,
        _: &str,
        context: &Context,
    ) -> Result<KeyView, ServiceError> {
        service.view(&self.name, context.caller.deadline).await
    }
}
