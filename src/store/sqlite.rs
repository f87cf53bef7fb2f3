//! The store in one SQLite file, for a service on one machine.
//!
//! *Durability.* Journal in WAL mode with `synchronous=FULL`: a commit is one fsync of the journal, and
//! it is there after a loss of power as far as the disk honours fsync. The file's folder is synced when
//! the file is made.
//!
//! *Concurrency.* One connection writes, a few others only read (`SQLITE_OPEN_READONLY`). SQLite has one
//! writer anyway; with one connection, waiting for it is a fair queue with a deadline instead of
//! `SQLITE_BUSY`. That error is left for other programs on the same file (a backup), and is waited for
//! and repeated within a bound.
//!
//! *Trust.* Whoever can write the file is an enemy: columns are decoded strictly, what no release writes
//! is [`StoreError::Inconsistent`], and nothing read here is believed before its seal is checked.
//!
//! One file for each noun, with its SQL; [`commit`] applies a change; [`open`] makes and opens the file.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use sqlx::SqlitePool;

use super::{Change, CommitError, HeadRow, HeadScope, RequestRecord, ScopeRows, Sealed, Store, StoreError};
use crate::model::{
    AccessPolicyRow, AssignmentId, AssignmentRow, InstanceRow, IssuerKeyRow, KeyName, KeyObjectRow, RequestId,
    RoleDefinitionRow, Timestamp, TokenRow, UsageRow, VaultName, VaultRow, VersionId, VersionRow,
};

mod assignments;
mod columns;
mod commit;
mod definitions;
mod error;
mod heads;
mod instance;
mod keys;
mod open;
mod policies;
mod requests;
mod scopes;
#[cfg(test)]
mod tests;
mod tokens;
mod usage;
mod vaults;
mod versions;

/// A store in an SQLite file. Clones share it.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    pools: Arc<Pools>,
}

#[derive(Debug)]
struct Pools {
    /// One connection, the only one that writes.
    writer: SqlitePool,
    /// A few that cannot write.
    readers: SqlitePool,
}

impl SqliteStore {
    /// Opens the store in the file at `path`; makes it, with mode 0600, where there is none, and brings
    /// an older schema up to this release's. The folder must exist.
    ///
    /// # Errors
    /// [`StoreError::Schema`] when the file is of a newer release or of another program,
    /// [`StoreError::Open`] when it cannot be opened or made.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let pools = open::open(path, open::Access::Write).await?;
        Ok(Self { pools: Arc::new(pools) })
    }

    /// A new store in a temporary folder, which lives as long as the first of the pair.
    #[cfg(test)]
    pub(crate) async fn temporary() -> (tempfile::TempDir, Self) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Self::open(&folder.path().join("store.db")).await.expect("a new store opens");
        (folder, store)
    }

    fn readers(&self) -> &SqlitePool {
        &self.pools.readers
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn instance(&self) -> Result<Option<Sealed<InstanceRow>>, StoreError> {
        instance::read(self.readers()).await
    }

    async fn vault(&self, name: &VaultName) -> Result<Option<Sealed<VaultRow>>, StoreError> {
        vaults::by_name(self.readers(), name).await
    }

    async fn vaults(
        &self,
        after: Option<&VaultName>,
        limit: u32,
        deleted: bool,
    ) -> Result<Vec<Sealed<VaultRow>>, StoreError> {
        vaults::page(self.readers(), after, limit, deleted).await
    }

    async fn key(&self, vault: &VaultName, name: &KeyName) -> Result<Option<Sealed<KeyObjectRow>>, StoreError> {
        keys::by_name(self.readers(), vault, name).await
    }

    async fn keys(
        &self,
        vault: &VaultName,
        after: Option<&KeyName>,
        limit: u32,
        deleted: bool,
    ) -> Result<Vec<Sealed<KeyObjectRow>>, StoreError> {
        keys::page(self.readers(), vault, after, limit, deleted).await
    }

    async fn version(&self, vault: &VaultName, version: VersionId) -> Result<Option<Sealed<VersionRow>>, StoreError> {
        versions::by_id(self.readers(), vault, version).await
    }

    async fn versions(
        &self,
        vault: &VaultName,
        key: &KeyName,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Sealed<VersionRow>>, StoreError> {
        versions::page(self.readers(), vault, key, before, limit).await
    }

    async fn version_exists(&self, version: VersionId) -> Result<bool, StoreError> {
        versions::exists(self.readers(), version).await.map_err(error::fault)
    }

    async fn usage(&self, version: VersionId) -> Result<Option<Sealed<UsageRow>>, StoreError> {
        usage::by_version(self.readers(), version).await
    }

    async fn assignments(&self) -> Result<Vec<Sealed<AssignmentRow>>, StoreError> {
        assignments::all(self.readers()).await
    }

    async fn assignment(&self, id: AssignmentId) -> Result<Option<Sealed<AssignmentRow>>, StoreError> {
        assignments::by_id(self.readers(), id).await
    }

    async fn tokens(&self) -> Result<Vec<Sealed<TokenRow>>, StoreError> {
        tokens::all(self.readers()).await
    }

    async fn issuer_keys(&self) -> Result<Vec<Sealed<IssuerKeyRow>>, StoreError> {
        tokens::keys(self.readers()).await
    }

    async fn role_definitions(&self) -> Result<Vec<Sealed<RoleDefinitionRow>>, StoreError> {
        definitions::all(self.readers()).await
    }

    async fn access_policy(&self, id: [u8; 16]) -> Result<Option<Sealed<AccessPolicyRow>>, StoreError> {
        policies::by_id(self.readers(), id).await
    }

    async fn access_policies(&self) -> Result<Vec<Sealed<AccessPolicyRow>>, StoreError> {
        policies::all(self.readers()).await
    }

    async fn head(&self, scope: &HeadScope) -> Result<Option<Sealed<HeadRow>>, StoreError> {
        heads::by_scope(self.readers(), *scope).await
    }

    async fn heads(&self) -> Result<Vec<Sealed<HeadRow>>, StoreError> {
        heads::all(self.readers()).await
    }

    async fn scope(&self, scope: &HeadScope) -> Result<ScopeRows, StoreError> {
        scopes::read(self.readers(), *scope).await
    }

    async fn request(
        &self,
        principal: &str,
        id: RequestId,
        now: Timestamp,
    ) -> Result<Option<RequestRecord>, StoreError> {
        requests::read(self.readers(), principal, id, now).await
    }

    async fn commit(&self, change: Change) -> Result<(), CommitError> {
        commit::commit(&self.pools.writer, change).await
    }

    async fn forget_requests(&self, now: Timestamp) -> Result<u64, StoreError> {
        requests::forget(&self.pools.writer, now).await
    }

    async fn close(&self) {
        // The writer last: the connection that closes last empties the journal, and a reader cannot.
        self.pools.readers.close().await;
        self.pools.writer.close().await;
    }
}
