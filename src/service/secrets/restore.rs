//! Brings a secret back by its backup: into the vault and under the name that it had, as it was, with its version ids.
//!
//! The seal says that this instance made it; the data key is proved in the HSM before anything is written. A backup that is older
//! than what is known of the secret is refused, unless the caller insists.

use std::sync::{Arc, OnceLock};

use strongroom_hsm::KeyRow;
use tokio::sync::OnceCell;

use super::{SecretRef, SecretView, event, look_at, secret_version_name};
use crate::{
    access::{Permit, ops},
    model::{EventRow, EventType, KnownRow, SecretRow, SecretVersionRow, VaultRow, secret_backup::ReadSecretBackup},
    service::{
        Caller, ChangeOptions, Service,
        catalog::{Checked, secret_id, vault_id},
        door::{Applied, Context, Work},
        error::{Problem, ServiceError},
        keys::{Age, said, under::opens_in},
        scopes::{Making, NewRow, Put},
        sealed_backups::{older_than_known, precondition, unproved},
    },
    store::HeadScope,
};

impl Service {
    /// Brings a secret back.
    ///
    /// # Errors
    /// [`Problem::Invalid`] when it is damaged or was not sealed here; [`Problem::Exists`] and [`Problem::Deleted`] when the
    /// name is taken; [`Problem::Precondition`] when it is of another instance, does not open, or is older than what is known.
    pub async fn restore_secret(
        self: &Arc<Self>,
        caller: &Caller,
        backup: ReadSecretBackup,
        age: Age,
        options: ChangeOptions,
    ) -> Result<SecretView, ServiceError> {
        let secret = &backup.backup.secret;
        let name = SecretRef { vault: secret.vault.clone(), secret: secret.name.clone(), version: None };
        let (resource, scope) = (name.to_string(), name.scope());
        let work = RestoreSecret { name, backup, age, is_older: OnceLock::new(), proved: OnceCell::new() };
        self.change(caller, resource, scope, options, work).await
    }
}

struct RestoreSecret {
    name: SecretRef,
    backup: ReadSecretBackup,
    age: Age,
    /// That it is older than what is known, and the caller insists.
    is_older: OnceLock<()>,
    /// The row whose data key was proved, as it will be written.
    proved: OnceCell<SecretRow>,
}

/// What is written.
struct Planned {
    vault: Arc<Checked<VaultRow>>,
    secret: SecretRow,
    versions: Vec<SecretVersionRow>,
    /// What is known from now on of a secret of which nothing was.
    unknown: Option<KnownRow>,
}

impl Planned {
    fn view(&self) -> Result<SecretView, ServiceError> {
        let newest = self.versions.iter().find(|version| version.version == self.secret.current);
        let version = Arc::new(newest.ok_or(Problem::Internal)?.clone());
        Ok(SecretView { vault: Arc::clone(&self.vault.row), secret: Arc::new(self.secret.clone()), version })
    }

    fn puts(self) -> Vec<Put> {
        let versions = self.versions.into_iter().map(|row| Put::bring_back(NewRow::SecretVersion(Box::new(row))));
        // The backup may be of a later moment than the store, which then does not remember that there is one.
        let known = self.unknown.map(|row| Put::insert(NewRow::Known(row)));
        [Put::bring_back(NewRow::Secret(Box::new(self.secret)))].into_iter().chain(versions).chain(known).collect()
    }
}

impl RestoreSecret {
    async fn plan(&self, service: &Service, context: &Context) -> Result<Planned, ServiceError> {
        let (deadline, backup) = (context.caller.deadline, &self.backup.backup);
        let root = service.resting_root()?;
        let vault = service.catalog.live_vault(&self.name.vault, deadline).await?;
        self.check_name_is_free(service, &vault.row, context).await?;
        if !opens_in(backup.secret.kek, &vault.row, root) {
            let why = format!(
                "{} is wrapped under another key than what is in vaults/{} is now: it opens only where that one still is",
                self.name, vault.row.name
            );
            return Err(precondition("OTHER_KEK", why));
        }
        let id = secret_id(vault.row.id, &self.name.secret);
        let known = service.known(&vault.row, id, deadline).await?.map(|known| known.row);
        self.check_age(&vault.row, known.as_deref())?;
        let mut versions = Vec::with_capacity(backup.versions.len());
        for kept in &backup.versions {
            if service.store.version_exists(kept.version).await? {
                let why = format!("{} exists already, under another name", secret_version_name(kept));
                return Err(precondition("VERSION_EXISTS", why));
            }
            versions.push(SecretVersionRow { intent: context.intent, revision: kept.revision + 1, ..kept.clone() });
        }
        let newest = versions.iter().find(|version| version.version == backup.secret.current);
        let revision = backup.secret.revision.max(known.as_ref().map_or(0, |known| known.last)) + 1;
        let (updated, intent) = (context.now, context.intent);
        let mut secret = SecretRow { id, updated, intent, revision, ..backup.secret.clone() };
        secret.due = look_at(&secret, newest.ok_or(Problem::Internal)?, context.now);
        let unknown = known.is_none().then(|| KnownRow::here(id, vault.row.id, context.now));
        Ok(Planned { vault, secret, versions, unknown })
    }

    async fn check_name_is_free(
        &self,
        service: &Service,
        vault: &VaultRow,
        context: &Context,
    ) -> Result<(), ServiceError> {
        let name = || self.name.to_string();
        let problem = match service.catalog.secret(vault, &self.name.secret, context.caller.deadline).await {
            Ok(secret) if secret.row.state.is_active() => Problem::Exists { name: name() },
            Ok(_) => Problem::Deleted { name: name() },
            Err(ServiceError { problem: Problem::NotFound { .. }, .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        Err(problem.into())
    }

    /// Refuses a backup that is older than what is known of the secret, unless the caller insists.
    fn check_age(&self, vault: &VaultRow, known: Option<&KnownRow>) -> Result<(), ServiceError> {
        let backup = &self.backup.backup;
        let older = if backup.vault_created != vault.created {
            "it is of an earlier vault of that name, which was purged"
        } else if known.is_some_and(|known| known.newest.is_some_and(|newest| newest != backup.secret.current)) {
            "the secret had another newest version when it went"
        } else if known.is_some_and(|known| backup.secret.revision < known.last) {
            "the secret was changed after the backup was made"
        } else {
            return Ok(());
        };
        if self.age == Age::Older {
            let _ = self.is_older.set(());
            return Ok(());
        }
        Err(older_than_known(&self.name.to_string(), older))
    }

    /// That the data key opens here and is the one that its row describes. Nothing is kept of it.
    async fn prove(
        &self,
        service: &Service,
        permit: &Permit<ops::SecretsRestore>,
        planned: &Planned,
        context: &Context,
    ) -> Result<SecretRow, ServiceError> {
        let key: KeyRow = service.sealed_key(&planned.secret, context.caller.deadline).await?;
        let proved = service.hands.prove(permit, &key, &context.caller).await;
        proved.map_err(|error| unproved(self.name.to_string(), error))?;
        Ok(planned.secret.clone())
    }
}

impl Work for RestoreSecret {
    type Op = ops::SecretsRestore;
    type Out = SecretView;

    fn cost_us(&self) -> u64 {
        u64::from(SecretRow::SPEC.load_us())
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
    ) -> Result<SecretView, ServiceError> {
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
    ) -> Result<Applied<SecretView>, ServiceError> {
        let deadline = context.caller.deadline;
        let before = self.plan(service, context).await?;
        let proved = self.proved.get_or_try_init(|| self.prove(service, &permit, &before, context)).await?;
        let locked = service.catalog.scopes.lock(HeadScope::Vault(vault_id(&self.name.vault)), deadline).await?;
        let planned = self.plan(service, context).await?;
        if planned.secret != *proved {
            // Another has restored and purged it meanwhile.
            return Err(Problem::Changed { name: self.name.to_string() }.into());
        }
        let request = context.request_record(self.name.to_string());
        let making = Making { name: "secrets.restore", right: &permit, intent: context.intent, request, deadline };
        let event = event(EventType::SecretRestored, context, &self.name);
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
    ) -> Result<SecretView, ServiceError> {
        service.secret_view(&self.name, context.caller.deadline).await
    }
}
