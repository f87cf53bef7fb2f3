//! Backs a secret up: all of it in one piece, sealed in the HSM, with its values as they are in the store. Nothing is decrypted.
//!
//! As with keys, the first backup leaves a row that outlives the secret, so that a later restore can be held against what was
//! known when it went. Unlike a key's, a secret's backup takes nothing along that was on the token.

use std::sync::{Arc, OnceLock};

use super::SecretRef;
use crate::{
    access::{Permit, ops},
    model::{
        KnownRow, NotABackup, SecretBackup, SecretRow, SecretVersionRow, VaultRow,
        sealed_backup::{BYTES_MAX, VERSIONS_MAX},
    },
    service::{
        Caller, ChangeOptions, Page, Service,
        catalog::vault_id,
        door::{Applied, Context, Work},
        error::{Problem, ServiceError},
        hands::outage,
        keys::{said, under::opens_in},
        quota::ROW_US,
        scopes::{Making, NewRow, Put},
        sealed_backups::precondition,
    },
    store::{CommitError, HeadScope},
};

/// A secret in one piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackedUpSecret {
    /// The secret.
    pub name: SecretRef,
    /// The backup: empty where it was only asked whether there could be one.
    pub bytes: Vec<u8>,
    /// Its SHA-256, as the audit log records it.
    pub digest: [u8; 32],
    /// How many versions are in it.
    pub versions: usize,
}

impl Service {
    /// Backs a secret up with all its versions.
    ///
    /// # Errors
    /// [`Problem::NotFound`]; [`Problem::SoftDeleted`]; [`Problem::Precondition`] when there is more than fits.
    pub async fn backup_secret(
        self: &Arc<Self>,
        caller: &Caller,
        name: &SecretRef,
    ) -> Result<BackedUpSecret, ServiceError> {
        let work = BackupSecret { name: name.clone(), found: OnceLock::new(), digest: OnceLock::new() };
        self.change(caller, name.to_string(), name.scope(), ChangeOptions::default(), work).await
    }

    /// All versions of a secret with their values, newest first; more than a backup holds is refused.
    async fn whole_secret(
        &self,
        vault: &VaultRow,
        secret: &SecretRow,
        context: &Context,
    ) -> Result<Vec<SecretVersionRow>, ServiceError> {
        let deadline = context.caller.deadline;
        let name = format!("vaults/{}/secrets/{}", secret.vault, secret.name);
        let page = Page { size: u32::try_from(VERSIONS_MAX).unwrap_or(u32::MAX), after: None, deleted: true };
        let versions = self.catalog.secret_versions(vault, secret, &page, deadline).await?;
        if versions.len() > VERSIONS_MAX {
            let why = format!("{name} has more than {VERSIONS_MAX} versions: set it under a new name first");
            return Err(precondition("TOO_MANY_VERSIONS", why));
        }
        let (mut whole, mut bytes) = (Vec::with_capacity(versions.len()), 0);
        for version in versions {
            let version = self.catalog.secret_version(vault, secret, version.row.version, deadline).await?;
            bytes += version.row.ciphertext.len();
            if bytes > BYTES_MAX {
                return Err(too_large(&name));
            }
            whole.push(SecretVersionRow { intent: 0, ..SecretVersionRow::clone(&version.row) });
        }
        Ok(whole)
    }
}

fn too_large(name: &str) -> ServiceError {
    let why = format!("a backup of {name} would be longer than {BYTES_MAX} bytes: set it under a new name first");
    precondition("BACKUP_TOO_LARGE", why)
}

struct BackupSecret {
    name: SecretRef,
    /// How many versions there were when the request was checked.
    found: OnceLock<usize>,
    /// SHA-256 of what was made, and of how many versions.
    digest: OnceLock<([u8; 32], usize)>,
}

impl BackupSecret {
    /// What the backup is made of, and what the secret's first one has to leave.
    async fn plan(&self, service: &Service, context: &Context) -> Result<(SecretBackup, Option<Put>), ServiceError> {
        let deadline = context.caller.deadline;
        let vault = service.catalog.live_vault(&self.name.vault, deadline).await?;
        let secret = service.catalog.secret(&vault.row, &self.name.secret, deadline).await?;
        if !secret.row.state.is_active() {
            return Err(Problem::SoftDeleted { name: self.name.to_string() }.into());
        }
        if !opens_in(secret.row.kek, &vault.row, service.resting_root()?) {
            return Err(Problem::Tampered { name: self.name.to_string() }.into());
        }
        let versions = service.whole_secret(&vault.row, &secret.row, context).await?;
        let mark = match service.known(&vault.row, secret.row.id, deadline).await? {
            Some(_) => None,
            None => Some(Put::insert(NewRow::Known(KnownRow::here(secret.row.id, vault.row.id, context.now)))),
        };
        let backup = SecretBackup {
            instance: service.instance().id,
            root: service.instance().root_name(),
            vault_created: vault.row.created,
            made: context.now,
            secret: SecretRow { id: [0; 16], due: None, intent: 0, ..SecretRow::clone(&secret.row) },
            versions,
        };
        Ok((backup, mark))
    }

    /// Without its bytes: as it would be.
    fn view(&self, backup: &SecretBackup) -> BackedUpSecret {
        let versions = backup.versions.len();
        BackedUpSecret { name: self.name.clone(), bytes: Vec::new(), digest: [0; 32], versions }
    }

    fn does_not_fit(&self, _: NotABackup) -> ServiceError {
        too_large(&self.name.to_string())
    }
}

impl Work for BackupSecret {
    type Op = ops::SecretsBackup;
    type Out = BackedUpSecret;

    fn cost_us(&self) -> u64 {
        self.found.get().map_or(0, |versions| 2 * ROW_US * *versions as u64)
    }

    fn detail(&self) -> Option<String> {
        let (digest, versions) = self.digest.get()?;
        Some(format!("{versions} versions, {}", said(digest)))
    }

    async fn check(
        &self,
        service: &Service,
        _: &Permit<Self::Op>,
        context: &Context,
    ) -> Result<BackedUpSecret, ServiceError> {
        let (backup, _) = self.plan(service, context).await?;
        backup.encode().map_err(|error| self.does_not_fit(error))?;
        let _ = self.found.set(backup.versions.len());
        Ok(self.view(&backup))
    }

    async fn apply(
        &self,
        service: &Service,
        permit: Permit<Self::Op>,
        context: &Context,
    ) -> Result<Applied<BackedUpSecret>, ServiceError> {
        let deadline = context.caller.deadline;
        // Nobody here changes it meanwhile; whoever changes it elsewhere is found by the head.
        let locked = service.catalog.scopes.lock(HeadScope::Vault(vault_id(&self.name.vault)), deadline).await?;
        let before = locked.cell().revision();
        let (backup, mark) = self.plan(service, context).await?;
        if locked.cell().revision() != before {
            let changed = Problem::Changed { name: self.name.to_string() };
            return Err(ServiceError::because(changed, CommitError::Conflict));
        }
        let unsealed = backup.encode().map_err(|error| self.does_not_fit(error))?;
        let seals = service.pool.seal(vec![unsealed.form()], deadline).await.map_err(outage)?;
        let (bytes, digest) = unsealed.with(seals.first().ok_or(Problem::Internal)?);
        let _ = self.digest.set((digest, backup.versions.len()));
        let heads = match mark {
            None => Vec::new(),
            Some(mark) => {
                let (name, intent) = ("secrets.backup", context.intent);
                let making = Making { name, right: &permit, intent, request: None, deadline };
                vec![service.catalog.scopes.commit(&locked, making, vec![mark]).await?.mark]
            }
        };
        Ok(Applied { out: BackedUpSecret { bytes, digest, ..self.view(&backup) }, heads })
    }

    async fn again(
        &self,
        _: &Service,
        _: &Permit<Self::Op>,
        _: &str,
        _: &Context,
    ) -> Result<BackedUpSecret, ServiceError> {
        // Asked without a request id.
        Err(Problem::Internal.into())
    }
}
