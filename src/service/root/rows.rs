//! Rows that are carried over: read a page at a time, checked, sealed and wrapped anew, and put back in one change.

use std::{collections::HashMap, sync::Arc};

use strongroom_hsm::{KekId, KeyRow, Seal, protocol::Moment};

use crate::{
    access::{Permit, ops},
    model::{
        InstanceRow, IssuerKeyRow, KeyName, Residency, Row, RowId, SecretName, SecretRow, SecretVersionRow, VaultName,
        VersionId, VersionRow,
    },
    service::{
        Service,
        door::{Applied, Context, Work},
        error::ServiceError,
        own_keys::issuer_key_name,
        scopes::{Making, NewRow, Put},
        secrets::secret_version_name,
        version_name,
    },
    store::{HeadScope, Sealed, StoreError, WorkLease},
};

/// How many vaults or keys are read at once.
const PAGE: u32 = 16;
/// How many versions of a key are read at once.
const VERSIONS: u32 = 1000;

/// A row as it was read, and as it is to be.
#[derive(Debug)]
pub(super) struct Candidate {
    /// Which.
    pub(super) id: RowId,
    /// The seal that came with it.
    pub(super) seal: Seal,
    /// What is sealed.
    pub(super) form: Vec<u8>,
    /// Its name, for people.
    pub(super) name: String,
    /// What a worker is given, where the key has to be carried over too.
    pub(super) key: Option<Arc<KeyRow>>,
    /// Its seal is of the new sealing key.
    pub(super) is_sealed: bool,
    /// The same of the next revision.
    pub(super) next: NewRow,
}

impl Candidate {
    fn of<R: Row>(sealed: Sealed<R>, name: String, next: impl FnOnce(R) -> NewRow) -> Self {
        let (row, seal) = sealed.into_unchecked();
        let (id, form) = (row.row_id(), row.canonical());
        Self { id, seal, form, name, key: None, is_sealed: false, next: next(row) }
    }

    fn version(sealed: Sealed<VersionRow>, old: Option<KekId>) -> Self {
        let (row, seal) = (sealed.unchecked(), *sealed.seal());
        let is_under = row.residency == Residency::Wrapped && row.kek.map(VersionId::bytes) == old;
        let has_check = row.residency != Residency::Public && row.is_imported();
        let key = (is_under || has_check).then(|| Arc::new(KeyRow::new(row.statement(), seal)));
        let name = version_name(row);
        let next = |row: VersionRow| NewRow::Version(Box::new(VersionRow { revision: row.revision + 1, ..row }));
        Self { key, ..Self::of(sealed, name, next) }
    }

    fn secret(sealed: Sealed<SecretRow>, old: Option<KekId>) -> Self {
        let (row, seal) = (sealed.unchecked(), *sealed.seal());
        let is_under = row.kek.map(VersionId::bytes) == old;
        let key = is_under.then(|| Arc::new(KeyRow::new(row.statement(), seal)));
        let name = format!("vaults/{}/secrets/{}", row.vault, row.name);
        let next = |row: SecretRow| NewRow::Secret(Box::new(SecretRow { revision: row.revision + 1, ..row }));
        Self { key, ..Self::of(sealed, name, next) }
    }

    fn issuer_key(sealed: Sealed<IssuerKeyRow>, old: Option<KekId>) -> Self {
        let (row, seal) = (sealed.unchecked(), *sealed.seal());
        let is_under = row.kek.map(VersionId::bytes) == old;
        let key = is_under.then(|| Arc::new(KeyRow::new(row.statement(), seal)));
        let name = issuer_key_name(row.id);
        let next = |row: IssuerKeyRow| NewRow::IssuerKey(IssuerKeyRow { revision: row.revision + 1, ..row });
        Self { key, ..Self::of(sealed, name, next) }
    }

    /// Whether its key is under that root still.
    pub(super) fn is_under(&self, old: Option<KekId>) -> bool {
        let wrapped = |key: &Arc<KeyRow>| key.statement.residency == Residency::Wrapped && key.statement.kek == old;
        self.key.as_ref().is_some_and(wrapped)
    }
}

/// A scope of which the rows are carried over, and how far that is.
#[derive(Debug)]
pub(super) struct Walk {
    /// Which.
    pub(super) scope: HeadScope,
    /// The vault, unless it is the service's own.
    pub(super) vault: Option<VaultName>,
    /// The key, secret or vault after which it goes on.
    after: Option<String>,
    /// The keys of the vault are done: its secrets follow.
    is_at_secrets: bool,
    /// What was there when it began and was not seen to be right yet, by the beginnings of the seals.
    pub(super) todo: HashMap<RowId, [u8; 16]>,
}

/// A page of a walk, by what comes before it, and whether it is one of secrets.
#[derive(Debug)]
pub(super) struct Page(Option<String>, bool);

impl Walk {
    pub(super) const fn new(scope: HeadScope, vault: Option<VaultName>, todo: HashMap<RowId, [u8; 16]>) -> Self {
        Self { scope, vault, after: None, is_at_secrets: false, todo }
    }

    /// The page that is read next.
    pub(super) fn page(&self) -> Page {
        Page(self.after.clone(), self.is_at_secrets)
    }

    /// Reads that page next.
    pub(super) fn back_to(&mut self, page: Page) {
        (self.after, self.is_at_secrets) = (page.0, page.1);
    }

    /// How an intent names it.
    pub(super) fn resource(&self, instance: &InstanceRow) -> String {
        match &self.vault {
            Some(vault) => format!("vaults/{vault}/keys"),
            None => instance.resource(),
        }
    }
}

impl Service {
    /// The vault after that one, deleted ones among them.
    pub(super) async fn vault_after(
        &self,
        after: Option<&VaultName>,
    ) -> Result<Option<(VaultName, [u8; 16])>, StoreError> {
        let found = self.store.vaults(after, 1, true).await?.into_iter().next();
        Ok(found.map(|vault| (vault.unchecked().name.clone(), vault.unchecked().id)))
    }

    /// The next rows of a scope, unchecked; whether there are more.
    pub(super) async fn rows_of(
        &self,
        walk: &mut Walk,
        old: Option<KekId>,
    ) -> Result<(Vec<Candidate>, bool), StoreError> {
        match walk.vault.clone() {
            Some(vault) if walk.is_at_secrets => self.secrets_of_vault(&vault, walk, old).await,
            Some(vault) => {
                let (found, more) = self.rows_of_vault(&vault, walk, old).await?;
                if !more {
                    (walk.after, walk.is_at_secrets) = (None, true);
                }
                Ok((found, true))
            }
            None => self.rows_of_service(walk, old).await,
        }
    }

    async fn rows_of_vault(
        &self,
        vault: &VaultName,
        walk: &mut Walk,
        old: Option<KekId>,
    ) -> Result<(Vec<Candidate>, bool), StoreError> {
        let after: Option<KeyName> = walk.after.as_deref().and_then(|name| name.parse().ok());
        let keys = self.store.keys(vault, after.as_ref(), PAGE, true).await?;
        let more = keys.len() == PAGE as usize;
        walk.after = keys.last().map(|key| key.unchecked().name.to_string());
        let mut found = if after.is_none() { self.known_in(vault, walk.scope).await? } else { Vec::new() };
        for key in keys {
            let name = key.unchecked().name.clone();
            self.versions_of(vault, &name, old, &mut found).await?;
            let resource = format!("vaults/{vault}/keys/{name}");
            found.push(Candidate::of(key, resource, |mut row| {
                row.revision += 1;
                NewRow::Key(row)
            }));
        }
        Ok((found, more))
    }

    async fn secrets_of_vault(
        &self,
        vault: &VaultName,
        walk: &mut Walk,
        old: Option<KekId>,
    ) -> Result<(Vec<Candidate>, bool), StoreError> {
        let after: Option<SecretName> = walk.after.as_deref().and_then(|name| name.parse().ok());
        let secrets = self.store.secrets(vault, after.as_ref(), PAGE, true).await?;
        let more = secrets.len() == PAGE as usize;
        walk.after = secrets.last().map(|secret| secret.unchecked().name.to_string());
        let mut found = Vec::new();
        for secret in secrets {
            let name = secret.unchecked().name.clone();
            let mut before = None;
            loop {
                let versions = self.store.secret_versions(vault, &name, before, VERSIONS).await?;
                let Some(last) = versions.last() else { break };
                before = Some(last.unchecked().ordinal);
                found.extend(versions.into_iter().map(|version| {
                    let name = secret_version_name(version.unchecked());
                    Candidate::of(version, name, |row| {
                        NewRow::SecretVersion(Box::new(SecretVersionRow { revision: row.revision + 1, ..row }))
                    })
                }));
            }
            found.push(Candidate::secret(secret, old));
        }
        Ok((found, more))
    }

    /// What is known of keys of a vault that have backups.
    async fn known_in(&self, vault: &VaultName, scope: HeadScope) -> Result<Vec<Candidate>, StoreError> {
        let HeadScope::Vault(id) = scope else { return Ok(Vec::new()) };
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let known = self.store.all_known(id, after, VERSIONS).await?;
            let Some(last) = known.last() else { return Ok(found) };
            after = Some(last.unchecked().id);
            found.extend(known.into_iter().map(|known| {
                Candidate::of(known, format!("vaults/{vault}/keys"), |mut row| {
                    row.revision += 1;
                    NewRow::Known(row)
                })
            }));
        }
    }

    async fn versions_of(
        &self,
        vault: &VaultName,
        key: &KeyName,
        old: Option<KekId>,
        found: &mut Vec<Candidate>,
    ) -> Result<(), StoreError> {
        let mut before = None;
        loop {
            let versions = self.store.versions(vault, key, before, VERSIONS).await?;
            let more = versions.len() == VERSIONS as usize;
            before = versions.last().map(|version| version.unchecked().ordinal);
            for version in versions {
                let id = version.unchecked().version;
                found.push(Candidate::version(version, old));
                found.extend(self.store.usage(id).await?.map(|usage| {
                    let name = format!("vaults/{vault}/keys/{key}/versions/{id}");
                    Candidate::of(usage, name, |mut row| {
                        row.revision += 1;
                        NewRow::Usage(row)
                    })
                }));
            }
            if !more {
                return Ok(());
            }
        }
    }

    async fn rows_of_service(&self, walk: &mut Walk, old: Option<KekId>) -> Result<(Vec<Candidate>, bool), StoreError> {
        let after: Option<VaultName> = walk.after.as_deref().and_then(|name| name.parse().ok());
        let mut found = if after.is_none() { self.rows_but_vaults(old).await? } else { Vec::new() };
        let vaults = self.store.vaults(after.as_ref(), PAGE, true).await?;
        let more = vaults.len() == PAGE as usize;
        walk.after = vaults.last().map(|vault| vault.unchecked().name.to_string());
        found.extend(vaults.into_iter().map(|vault| {
            let name = format!("vaults/{}", vault.unchecked().name);
            Candidate::of(vault, name, |mut row| {
                row.revision += 1;
                NewRow::Vault(row)
            })
        }));
        Ok((found, more))
    }

    async fn rows_but_vaults(&self, old: Option<KekId>) -> Result<Vec<Candidate>, StoreError> {
        /// Each of a kind of row, of the next revision.
        macro_rules! each {
            ($rows:expr, $name:expr, $kind:expr) => {
                $rows.into_iter().map(|row| {
                    Candidate::of(row, $name.to_owned(), |mut row| {
                        row.revision += 1;
                        $kind(row)
                    })
                })
            };
        }
        let mut found = Vec::new();
        found.extend(each!(self.store.instance().await?, "the instance", |row| NewRow::Instance(Box::new(row))));
        found.extend(each!(self.store.assignments().await?, "a role assignment", NewRow::Assignment));
        let definitions = self.store.role_definitions().await?;
        found.extend(each!(definitions, "a role definition", |row| NewRow::RoleDefinition(Box::new(row))));
        found.extend(each!(self.store.access_policies().await?, "an access policy", NewRow::AccessPolicy));
        found.extend(each!(self.store.tokens().await?, "a token", NewRow::Token));
        found.extend(self.store.issuer_keys().await?.into_iter().map(|row| Candidate::issuer_key(row, old)));
        Ok(found)
    }
}

/// Puts rows back that say what they said.
#[derive(Debug)]
pub(super) struct PutBack {
    pub(super) scope: HeadScope,
    pub(super) rows: Vec<(Seal, NewRow)>,
    pub(super) lease: WorkLease,
}

impl Work for PutBack {
    type Op = ops::OwnKeysRotateRoot;
    /// Which were put back: not those that somebody has changed meanwhile.
    type Out = Vec<RowId>;

    fn detail(&self) -> Option<String> {
        Some(format!("{} rows carried over", self.rows.len()))
    }

    async fn check(&self, _: &Service, _: &Permit<Self::Op>, _: &Context) -> Result<Self::Out, ServiceError> {
        Ok(Vec::new())
    }

    async fn apply(
        &self,
        service: &Service,
        _: Permit<Self::Op>,
        context: &Context,
    ) -> Result<Applied<Self::Out>, ServiceError> {
        let deadline: Moment = context.caller.deadline;
        let locked = service.catalog.scopes.lock(self.scope, deadline).await?;
        let newest = self.rows.iter().filter(|(seal, row)| locked.cell().is_newest(&row.id(), seal));
        let puts: Vec<Put> = newest.map(|(seal, row)| Put::renew(*seal, row.clone())).collect();
        let out = puts.iter().map(Put::id).collect();
        let (right, intent) = (&self.lease, context.intent);
        let making = Making { name: "ownKeys.rotateRoot", right, intent, request: None, deadline };
        let committed = service.catalog.scopes.commit(&locked, making, puts).await?;
        Ok(Applied { out, heads: vec![committed.mark] })
    }

    async fn again(&self, _: &Service, _: &Permit<Self::Op>, _: &str, _: &Context) -> Result<Self::Out, ServiceError> {
        Ok(Vec::new())
    }
}
