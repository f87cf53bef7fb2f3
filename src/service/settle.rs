//! What a crash left open, closed at the start: for every intent without an outcome the rows say whether
//! the change was made (each row carries the intent of its newest change), and the outcome is recorded.
//! A token object of a creation that was not made is destroyed, and what an intent to purge names whose rows are gone;
//! nothing else ever is (D6).

use std::{sync::Arc, time::Duration};

use strongroom_hsm::protocol::Moment;

use super::{
    KeyRef, Service,
    catalog::{key_id, secret_id, vault_id},
    error::{Problem, ServiceError},
    keys::target_of,
    purge::on_token,
    restored,
    scopes::ScopeCell,
    secrets::SecretRef,
};
use crate::{
    access::Action,
    audit::{Durability, Kind, Outcome, Record},
    backup::RESTORE,
    model::{AccessPolicyRow, Ordinal, Principal, Row as _, RowId, RowKind, VaultName, VaultRow, VersionId},
    store::HeadScope,
};

/// How long the clean-up of one unfinished creation may take.
pub const REAP_WITHIN: Duration = Duration::from_secs(30);

/// What changes the instance's row while the service serves.
const ROTATIONS: [Action; 2] = [Action::OwnKeysRotateRoot, Action::OwnKeysRotateLog];

/// Settles open intents, oldest first.
///
/// # Errors
/// When the store, the log or the HSM fails: the service does not start with an open intent.
pub async fn settle(service: &Arc<Service>, intents: Vec<(u64, Record)>, deadline: Moment) -> Result<(), ServiceError> {
    for (index, intent) in intents {
        if intent.operation == RESTORE {
            restored::settle(service, index, &intent).await?;
            continue;
        }
        // First of all: a store that was altered ends the start here, before anything is taken for unmade.
        let scope = service.catalog.scopes.cell(scope_of(&intent), deadline).await?;
        let number = service.catalog.scopes.ordinal().intent(index);
        let fate = fate(service, &scope, number, &intent, deadline).await?;
        let made = fate == Fate::Made;
        let version = intent.version.as_deref().and_then(|version| version.parse::<VersionId>().ok());
        // No row is about it: one that was purged since has none on the token either.
        if let (Fate::Unmade | Fate::Overtaken, Some(version)) = (fate, version)
            && !is_needed(service, &scope, version).await?
        {
            service.hands.reap(version, Moment::now().after(REAP_WITHIN)).await?;
        }
        // Said to be destroyed, and their rows are gone: whatever has been made under their names since.
        for version in on_token(&intent) {
            if !is_needed(service, &scope, version).await? && !has_kek(service, &intent, version, deadline).await? {
                service.hands.reap(version, Moment::now().after(REAP_WITHIN)).await?;
            }
        }
        tracing::warn!(index, operation = intent.operation, made, "an open intent was settled");
        let mut outcome = Record {
            kind: Kind::Outcome,
            outcome: if made { Outcome::Done } else { Outcome::Failed },
            reason: Some(fate.reason().to_owned()),
            intent: Some(index),
            time: service.clock.now().0,
            version: None,
            ..intent.clone()
        };
        outcome.heads = vec![scope.mark()];
        if let Some(to) = moved_to(&intent) {
            let scope = service.catalog.scopes.cell(HeadScope::Vault(vault_id(&to.vault)), deadline).await?;
            outcome.heads.push(scope.mark());
        }
        service.log.append_reserved(outcome, Durability::Fsync).await?;
    }
    Ok(())
}

/// Whether any row needs what is on the token under that id: that of a version, of a vault's KEK, or of a root
/// or log key of the service.
async fn is_needed(service: &Service, scope: &ScopeCell, id: VersionId) -> Result<bool, ServiceError> {
    let row = RowId { kind: RowKind::Version, id: id.bytes() };
    let is_own = service.instance().has_own(id);
    Ok(is_own || scope.has(&row) || service.store.version_exists(id).await? || service.store.kek_exists(id).await?)
}

/// Whether the vault that an intent is about has that KEK, as its row says under its seal: the database alone does not decide
/// what is destroyed.
async fn has_kek(service: &Service, intent: &Record, kek: VersionId, deadline: Moment) -> Result<bool, ServiceError> {
    let (Some(About::Vault(name)) | Some(About::Keks(name))) = intent.resource.as_deref().and_then(about) else {
        return Ok(false);
    };
    let vault = vault_of(service, &name, deadline).await?;
    Ok(vault.is_some_and(|vault| vault.kek_ids().any(|id| id == kek)))
}

/// A vault, if it is there.
async fn vault_of(
    service: &Service,
    vault: &VaultName,
    deadline: Moment,
) -> Result<Option<Arc<VaultRow>>, ServiceError> {
    match service.catalog.vault(vault, deadline).await {
        Ok(vault) => Ok(Some(Arc::clone(&vault.row))),
        Err(ServiceError { problem: Problem::NotFound { .. }, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What became of an intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Made,
    Unmade,
    /// Another change of the same thing was made since, or it was purged: no row says anything of this intent any more.
    Overtaken,
}

impl Fate {
    /// By the intent that the row carries now.
    fn by(found: Option<u64>, number: u64) -> Self {
        match found {
            Some(found) if found == number => Self::Made,
            Some(found) if Ordinal::of(found) != Ordinal::of(number) || found > number => Self::Overtaken,
            Some(_) | None => Self::Unmade,
        }
    }

    /// Where nothing is left that could say: what was made may have been purged since, if anything was.
    fn absent(scope: &ScopeCell, number: u64) -> Self {
        match Self::by(Some(scope.intent()), number) {
            Self::Overtaken => Self::Overtaken,
            Self::Made | Self::Unmade => Self::Unmade,
        }
    }

    const fn of(made: bool) -> Self {
        if made { Self::Made } else { Self::Unmade }
    }

    const fn reason(self) -> &'static str {
        match self {
            Self::Made | Self::Unmade => "SETTLED_AT_START",
            Self::Overtaken => "OVERTAKEN",
        }
    }
}

/// What an intent was about, read from its resource name.
enum About {
    Vault(VaultName),
    /// Retired KEKs of a vault.
    Keks(VaultName),
    /// Some keys of a vault that is purged.
    Keys(VaultName),
    Key(KeyRef),
    Secret(SecretRef),
    Assignment(VersionId),
    Token(VersionId),
    /// A key that signs tokens.
    IssuerKey(VersionId),
    Role(VersionId),
    AccessPolicy(VaultName, Principal),
    /// Deliveries that were given up, of a webhook.
    DeadLetters,
    Instance,
    /// A backup, by its id.
    Backup(String),
}

fn about(resource: &str) -> Option<About> {
    let parts: Vec<&str> = resource.split('/').collect();
    match parts.as_slice() {
        ["vaults", vault] => Some(About::Vault(vault.parse().ok()?)),
        ["vaults", vault, "keks"] => Some(About::Keks(vault.parse().ok()?)),
        ["vaults", vault, "keys"] => Some(About::Keys(vault.parse().ok()?)),
        ["vaults", vault, "keys", key] => {
            Some(About::Key(KeyRef { vault: vault.parse().ok()?, key: key.parse().ok()?, version: None }))
        }
        ["vaults", vault, "keys", key, "versions", version] => {
            let version = Some(version.parse().ok()?);
            Some(About::Key(KeyRef { vault: vault.parse().ok()?, key: key.parse().ok()?, version }))
        }
        ["vaults", vault, "secrets", secret] => {
            Some(About::Secret(SecretRef { vault: vault.parse().ok()?, secret: secret.parse().ok()?, version: None }))
        }
        ["vaults", vault, "secrets", secret, "versions", version] => {
            let version = Some(version.parse().ok()?);
            Some(About::Secret(SecretRef { vault: vault.parse().ok()?, secret: secret.parse().ok()?, version }))
        }
        ["roleAssignments", id] => Some(About::Assignment(id.parse().ok()?)),
        ["tokens", id] => Some(About::Token(id.parse().ok()?)),
        ["issuerKeys", id] => Some(About::IssuerKey(id.parse().ok()?)),
        ["roleDefinitions", id] => Some(About::Role(id.parse().ok()?)),
        // Names of principals may have slashes in them.
        ["vaults", vault, "accessPolicies", principal @ ..] => {
            Some(About::AccessPolicy(vault.parse().ok()?, principal.join("/").parse().ok()?))
        }
        ["webhooks", _, "deadLetters"] => Some(About::DeadLetters),
        ["instances", _] => Some(About::Instance),
        ["backups", id] => Some(About::Backup((*id).to_owned())),
        _ => None,
    }
}

fn scope_of(intent: &Record) -> HeadScope {
    match intent.resource.as_deref().and_then(about) {
        Some(About::Key(name)) => HeadScope::Vault(vault_id(&name.vault)),
        Some(About::Keys(vault)) => HeadScope::Vault(vault_id(&vault)),
        Some(About::Secret(name)) => HeadScope::Vault(vault_id(&name.vault)),
        _ => HeadScope::Service,
    }
}

/// Whether the change of an intent is in the store. A backup was handed to nobody: its answer waits for the outcome.
async fn fate(
    service: &Arc<Service>,
    scope: &ScopeCell,
    number: u64,
    intent: &Record,
    deadline: Moment,
) -> Result<Fate, ServiceError> {
    if let Some(version) = &intent.version {
        let version = version.parse().map_err(|_| Problem::Internal)?;
        return fate_of_object(service, scope, number, intent, version, deadline).await;
    }
    let found = match intent.resource.as_deref().and_then(about).ok_or(Problem::Internal)? {
        // Its row does not say which intent it is of: the scope's head does.
        About::Instance if ROTATIONS.iter().any(|action| intent.operation == action.name()) => {
            return Ok(Fate::by(Some(scope.intent()), number));
        }
        About::Instance => return Ok(Fate::Made),
        About::Backup(id) => return Ok(Fate::of(service.has_backup(&id).await?)),
        // They may have been delivered since, or given up again.
        About::DeadLetters => return Ok(Fate::Overtaken),
        about @ (About::Assignment(_) | About::Token(_) | About::IssuerKey(_)) => {
            return Ok(fate_by_row(scope, number, intent, &about));
        }
        About::Role(id) => return fate_of_role(service, number, intent, id, deadline).await,
        About::AccessPolicy(vault, principal) => {
            return fate_of_policy(service, number, intent, (&vault, &principal), deadline).await;
        }
        About::Vault(name) if intent.operation == Action::VaultsPurge.name() => {
            match service.catalog.vault(&name, deadline).await.map(|vault| vault.row.intent) {
                // It was marked, or taken away.
                Err(ServiceError { problem: Problem::NotFound { .. }, .. }) => return Ok(Fate::Made),
                found => found,
            }
        }
        About::Vault(name) | About::Keks(name) => {
            service.catalog.vault(&name, deadline).await.map(|vault| vault.row.intent)
        }
        // No row of it is left to say so: the scope's head does.
        About::Keys(_) => Ok(scope.intent()),
        About::Secret(name) if intent.operation == Action::SecretsPurge.name() => {
            let row = RowId { kind: RowKind::Secret, id: secret_id(vault_id(&name.vault), &name.secret) };
            return Ok(fate_of_purge(scope, number, &row));
        }
        About::Secret(_) if intent.operation == Action::SecretsBackup.name() => return Ok(Fate::Unmade),
        About::Secret(name) => secret_intent(service, &name, intent, deadline).await,
        About::Key(name) if intent.operation == Action::KeysPurge.name() => {
            let version = |id: VersionId| RowId { kind: RowKind::Version, id: id.bytes() };
            return Ok(fate_of_purge(scope, number, &name.version.map_or_else(|| key_row(&name), version)));
        }
        About::Key(_) if intent.operation == Action::KeysBackup.name() => return Ok(Fate::Unmade),
        About::Key(name) => {
            let moved = moved_to(intent).filter(|_| !scope.has(&key_row(&name)));
            key_intent(service, &moved.unwrap_or(name), intent, deadline).await
        }
    };
    match found {
        Ok(newest) => Ok(Fate::by(Some(newest), number)),
        // What was to be changed was there when the intent was written, so it has been purged since.
        Err(ServiceError { problem: Problem::NotFound { .. }, .. }) => {
            let restores = [Action::KeysRestore.name(), Action::SecretsRestore.name()];
            let makes = intent.operation.ends_with(".create") || restores.contains(&intent.operation.as_str());
            Ok(if makes { Fate::absent(scope, number) } else { Fate::Overtaken })
        }
        Err(error) => Err(error),
    }
}

async fn fate_of_role(
    service: &Service,
    number: u64,
    intent: &Record,
    id: VersionId,
    deadline: Moment,
) -> Result<Fate, ServiceError> {
    let rows = service.catalog.role_definitions(deadline).await?;
    let found = rows.iter().find(|checked| checked.row.id == id).map(|checked| checked.row.intent);
    Ok(removed_or_newest(intent, Action::RoleDefinitionsDelete, found, number))
}

async fn fate_of_policy(
    service: &Service,
    number: u64,
    intent: &Record,
    (vault, principal): (&VaultName, &Principal),
    deadline: Moment,
) -> Result<Fate, ServiceError> {
    let rows = service.catalog.access_policies(deadline).await?;
    let same = |row: &AccessPolicyRow| row.vault == *vault && row.principal == *principal;
    let found = rows.iter().find(|checked| same(&checked.row)).map(|checked| checked.row.intent);
    Ok(removed_or_newest(intent, Action::AccessPoliciesDelete, found, number))
}

/// Of what makes that object on the token, or the version of that id.
async fn fate_of_object(
    service: &Service,
    scope: &ScopeCell,
    number: u64,
    intent: &Record,
    id: VersionId,
    deadline: Moment,
) -> Result<Fate, ServiceError> {
    match intent.resource.as_deref().and_then(about) {
        Some(About::Vault(name)) => {
            Ok(fate_of_kek(vault_of(service, &name, deadline).await?.as_deref(), scope, number, id))
        }
        Some(About::Key(name)) => Ok(fate_of_version(scope, number, &name, id)),
        Some(About::Secret(_)) => {
            let row = RowId { kind: RowKind::SecretVersion, id: id.bytes() };
            Ok(if scope.has(&row) { Fate::Made } else { Fate::absent(scope, number) })
        }
        Some(About::Instance) => Ok(Fate::of(service.instance().has_own(id))),
        _ => Err(Problem::Internal.into()),
    }
}

/// Of what is made and taken away, and never changed: whether it is there says it.
fn fate_by_row(scope: &ScopeCell, number: u64, intent: &Record, about: &About) -> Fate {
    let has = |kind, id: &VersionId| scope.has(&RowId { kind, id: id.bytes() });
    match about {
        About::Assignment(id) => {
            let removes = intent.operation == Action::RoleAssignmentsDelete.name();
            Fate::of(has(RowKind::Assignment, id) != removes)
        }
        About::Token(id) => Fate::of(has(RowKind::Token, id) == (intent.operation == Action::TokensCreate.name())),
        About::IssuerKey(id) if has(RowKind::IssuerKey, id) => Fate::Made,
        // It may have been taken away since, by the next rotation.
        _ => Fate::absent(scope, number),
    }
}

/// Whether what had that row was purged.
fn fate_of_purge(scope: &ScopeCell, number: u64, row: &RowId) -> Fate {
    // One that is there may be another of the same name: then its row's head has gone on.
    if scope.has(row) { Fate::by(Some(scope.intent()), number) } else { Fate::Made }
}

fn key_row(name: &KeyRef) -> RowId {
    RowId { kind: RowKind::Key, id: key_id(vault_id(&name.vault), &name.key) }
}

/// Where an intent to move says that its key goes.
fn moved_to(intent: &Record) -> Option<KeyRef> {
    if intent.operation != Action::KeysMove.name() {
        return None;
    }
    let About::Key(name) = about(intent.resource.as_deref()?)? else { return None };
    let vault = target_of(intent.detail.as_deref()?)?;
    Some(KeyRef { vault, ..name })
}

/// Whether a version was made.
fn fate_of_version(scope: &ScopeCell, number: u64, name: &KeyRef, version: VersionId) -> Fate {
    if scope.has(&RowId { kind: RowKind::Version, id: version.bytes() }) {
        return Fate::Made;
    }
    // While its key is there it was hardly destroyed: one that is the newest never is by itself.
    if scope.has(&key_row(name)) { Fate::Unmade } else { Fate::absent(scope, number) }
}

/// Whether a vault was made, or its KEK rotated, by the KEK that was made for it.
fn fate_of_kek(found: Option<&VaultRow>, scope: &ScopeCell, number: u64, kek: VersionId) -> Fate {
    match found {
        Some(found) if found.kek_ids().any(|id| id == kek) => Fate::Made,
        // Of a name that was to be made another is there; of a rotation, what was there before.
        Some(found) => match Fate::by(Some(found.intent), number) {
            Fate::Unmade if found.revision > 1 => Fate::Unmade,
            _ => Fate::Overtaken,
        },
        None => Fate::absent(scope, number),
    }
}

/// Whether a removal has removed, or another change is the newest of what was found.
fn removed_or_newest(intent: &Record, removal: Action, found: Option<u64>, number: u64) -> Fate {
    if intent.operation == removal.name() { Fate::of(found.is_none()) } else { Fate::by(found, number) }
}

/// The intent of the newest change of a secret, or of a version when the change was one of a version.
async fn secret_intent(
    service: &Service,
    name: &SecretRef,
    intent: &Record,
    deadline: Moment,
) -> Result<u64, ServiceError> {
    let vault = service.catalog.vault(&name.vault, deadline).await?;
    let secret = service.catalog.secret(&vault.row, &name.secret, deadline).await?;
    if name.version.is_none() && intent.operation != Action::SecretsUpdate.name() {
        return Ok(secret.row.intent);
    }
    let version = name.version.unwrap_or(secret.row.current);
    Ok(service.catalog.secret_version(&vault.row, &secret.row, version, deadline).await?.row.intent)
}

/// The intent of the newest change of a key, or of a version when the change was one of a version.
async fn key_intent(service: &Service, name: &KeyRef, intent: &Record, deadline: Moment) -> Result<u64, ServiceError> {
    let vault = service.catalog.vault(&name.vault, deadline).await?;
    let key = service.catalog.key(&vault.row, &name.key, deadline).await?;
    if name.version.is_none() && intent.operation != "keys.update" {
        return Ok(key.row.intent);
    }
    let version = name.version.unwrap_or(key.row.current);
    let version = service.catalog.version(&vault.row, &key.row, version, deadline).await?;
    debug_assert_eq!(version.row.row_id().id, version.row.version.bytes());
    Ok(version.row.intent)
}
