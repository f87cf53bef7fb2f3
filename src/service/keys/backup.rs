//! Backs a key up: all of it in one piece, sealed in the HSM, with its blobs as they are. Nothing is unwrapped.
//!
//! With its first backup a key gets a row that outlives it ([`KnownRow`]), so that what a later restore brings back can be held
//! against what was known when the key went. That is the only thing that a backup changes.

use std::sync::{Arc, OnceLock};

use super::under::version_opens_in;
use crate::{
    access::{Permit, ops},
    model::{
        KeyBackup, KeyObjectRow, KnownRow, NotABackup, Residency, Scope, VersionRow,
        key_backup::KeptVersion,
        sealed_backup::{BYTES_MAX, VERSIONS_MAX},
    },
    service::{
        Caller, ChangeOptions, KeyRef, Page, Service,
        catalog::{Checked, vault_id},
        door::{Applied, Context, Work},
        error::{Problem, ServiceError},
        quota::ROW_US,
        scopes::{Making, NewRow, Put},
        version_name,
    },
    store::{CommitError, HeadScope},
};

/// A key in one piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackedUp {
    /// The key.
    pub name: KeyRef,
    /// The backup: empty where it was only asked whether there could be one.
    pub bytes: Vec<u8>,
    /// Its SHA-256, as the audit log records it.
    pub digest: [u8; 32],
    /// How many versions are in it.
    pub versions: usize,
}

impl Service {
    /// Backs a key up with all its versions.
    ///
    /// # Errors
    /// [`Problem::NotFound`]; [`Problem::SoftDeleted`]; [`Problem::Precondition`] when a version is on the token, or there are
    /// more than fit.
    pub async fn backup_key(self: &Arc<Self>, caller: &Caller, name: &KeyRef) -> Result<BackedUp, ServiceError> {
        let scope = Scope::key(&name.vault, &name.key);
        let work = BackupKey { name: name.clone(), found: OnceLock::new(), digest: OnceLock::new() };
        self.change(caller, name.to_string(), scope, ChangeOptions::default(), work).await
    }

    /// All versions of a key with their counters, newest first; a key that has more than a backup holds is refused.
    pub(super) async fn whole_key(
        &self,
        vault: &crate::model::VaultRow,
        key: &KeyObjectRow,
        context: &Context,
    ) -> Result<Vec<Whole>, ServiceError> {
        let deadline = context.caller.deadline;
        let page = Page { size: u32::try_from(VERSIONS_MAX).unwrap_or(u32::MAX), after: None, deleted: true };
        let versions = self.catalog.versions(vault, key, &page, deadline).await?;
        if versions.len() > VERSIONS_MAX {
            let why = format!(
                "vaults/{}/keys/{} has more than {VERSIONS_MAX} versions: delete and purge some that nobody needs first",
                key.vault, key.name
            );
            return Err(Problem::Precondition { reason: "TOO_MANY_VERSIONS", why }.into());
        }
        let mut whole = Vec::with_capacity(versions.len());
        for version in versions {
            let usage = self.usage_of(vault, version.row.version, deadline).await?;
            whole.push(Whole { version, usage });
        }
        Ok(whole)
    }
}

/// A version and its counter.
pub(super) struct Whole {
    pub(super) version: Checked<VersionRow>,
    pub(super) usage: Option<Checked<crate::model::UsageRow>>,
}

struct BackupKey {
    name: KeyRef,
    /// How many versions there were when the request was checked.
    found: OnceLock<usize>,
    /// SHA-256 of what was made, and of how many versions.
    digest: OnceLock<([u8; 32], usize)>,
}

/// What a backup is made of, and what the key's first one has to leave.
struct Planned {
    backup: KeyBackup,
    mark: Option<Put>,
}

impl BackupKey {
    async fn plan(&self, service: &Service, context: &Context) -> Result<Planned, ServiceError> {
        let deadline = context.caller.deadline;
        let vault = service.catalog.live_vault(&self.name.vault, deadline).await?;
        let key = service.catalog.key(&vault.row, &self.name.key, deadline).await?;
        if !key.row.state.is_active() {
            return Err(Problem::SoftDeleted { name: self.name.to_string() }.into());
        }
        let root = service.resting_root()?;
        let mut versions = Vec::new();
        for Whole { version, usage } in service.whole_key(&vault.row, &key.row, context).await? {
            check_can_leave(&version.row)?;
            if !version_opens_in(&version.row, &vault.row, root) {
                return Err(Problem::Tampered { name: version_name(&version.row) }.into());
            }
            let (encryptions, uses) = usage.map_or((0, 0), |usage| (usage.row.encryptions, usage.row.uses));
            let row = VersionRow { intent: 0, ..VersionRow::clone(&version.row) };
            versions.push(KeptVersion { row, encryptions, uses });
        }
        let known = service.known(&vault.row, key.row.id, deadline).await?;
        let mark = match known {
            Some(_) => None,
            None => Some(Put::insert(NewRow::Known(KnownRow::here(key.row.id, vault.row.id, context.now)))),
        };
        let backup = KeyBackup {
            instance: service.instance().id,
            root: service.instance().root_name(),
            vault_created: vault.row.created,
            made: context.now,
            key: KeyObjectRow { id: [0; 16], due: None, intent: 0, ..KeyObjectRow::clone(&key.row) },
            versions,
        };
        Ok(Planned { backup, mark })
    }

    /// Without its bytes: as it would be.
    fn view(&self, backup: &KeyBackup) -> BackedUp {
        let versions = backup.versions.len();
        BackedUp { name: self.name.clone(), bytes: Vec::new(), digest: [0; 32], versions }
    }
}

/// Refuses what is on the token: there is no blob to put into a backup.
fn check_can_leave(version: &VersionRow) -> Result<(), ServiceError> {
    if version.residency != Residency::Token {
        return Ok(());
    }
    let why = format!(
        "{} is a key on the token, which never leaves it: back the token up with the HSM's own means, or rotate the key with \
         residency wrapped and purge the versions on the token first",
        version_name(version)
    );
    Err(Problem::Precondition { reason: "TOKEN_RESIDENCY", why }.into())
}

fn too_large(name: &KeyRef, _: NotABackup) -> ServiceError {
    let why = format!(
        "a backup of {name} would be longer than {BYTES_MAX} bytes: delete and purge versions that nobody needs, or take tags \
         away, first"
    );
    Problem::Precondition { reason: "BACKUP_TOO_LARGE", why }.into()
}

/// A SHA-256 as records say it.
pub(in crate::service) fn said(digest: &[u8; 32]) -> String {
    format!("sha256:{}", base16ct::lower::encode_string(digest))
}

impl Work for BackupKey {
    type Op = ops::KeysBackup;
    type Out = BackedUp;

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
    ) -> Result<BackedUp, ServiceError> {
        let Planned { backup, .. } = self.plan(service, context).await?;
        backup.encode().map_err(|error| too_large(&self.name, error))?;
        let _ = self.found.set(backup.versions.len());
        Ok(self.view(&backup))
    }

    async fn apply(
        &self,
        service: &Service,
        permit: Permit<Self::Op>,
        context: &Context,
    ) -> Result<Applied<BackedUp>, ServiceError> {
        let deadline = context.caller.deadline;
        // Nobody here changes the key meanwhile; whoever changes it elsewhere is found by the head.
        let locked = service.catalog.scopes.lock(HeadScope::Vault(vault_id(&self.name.vault)), deadline).await?;
        let before = locked.cell().revision();
        let Planned { backup, mark } = self.plan(service, context).await?;
        if locked.cell().revision() != before {
            let changed = Problem::Changed { name: self.name.to_string() };
            return Err(ServiceError::because(changed, CommitError::Conflict));
        }
        let unsealed = backup.encode().map_err(|error| too_large(&self.name, error))?;
        let seals = service.pool.seal(vec![unsealed.form()], deadline).await;
        let seals = seals.map_err(crate::service::hands::outage)?;
        let (bytes, digest) = unsealed.with(seals.first().ok_or(Problem::Internal)?);
        let _ = self.digest.set((digest, backup.versions.len()));
        let heads = match mark {
            None => Vec::new(),
            Some(mark) => {
                let request = None;
                let making = Making { name: "keys.backup", right: &permit, intent: context.intent, request, deadline };
                vec![service.catalog.scopes.commit(&locked, making, vec![mark]).await?.mark]
            }
        };
        Ok(Applied { out: BackedUp { bytes, digest, ..self.view(&backup) }, heads })
    }

    async fn again(&self, _: &Service, _: &Permit<Self::Op>, _: &str, _: &Context) -> Result<BackedUp, ServiceError> {
        // Asked without a request id.
        Err(Problem::Internal.into())
    }
}
