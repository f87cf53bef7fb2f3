//! A store in an SQL database: one file for each noun, with its statements, written once for every database.
//!
//! A noun knows no database. It gives a [`Session`] statements with values and reads records by [`columns`]; where the
//! databases do not understand the same text, both texts stand side by side. What is a database's own (opening it,
//! its connections, its errors, its schema) is in its own folder, behind [`Database`].
//!
//! [`commit`] applies a change.

use std::{future::Future, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use strongroom_hsm::Seal;

use super::{
    Activity, Batch, Beat, Change, CommitError, DeadLetter, Delivery, EventPlace, FillingError, Forgotten, HeadRow,
    HeadScope, Heard, Position, Replica, RequestRecord, SaveError, ScopeRows, Sealed, Store, StoreError, ToLookAt,
    ToPurge, Undelivered, Use, Way, WebhookState, WorkLease,
};
use crate::model::{
    AccessPolicyRow, AssignmentId, AssignmentRow, ClockRow, EventRow, InstanceRow, IssuerKeyRow, KeyName, KeyObjectRow,
    KnownRow, ReplicaName, ReplicaRow, RequestId, RoleDefinitionRow, SecretName, SecretRow, SecretVersionRow,
    Timestamp, TokenRow, UsageRow, VaultName, VaultRow, VersionId, VersionRow,
};

mod activity;
mod assignments;
mod boot;
mod clock;
mod columns;
mod commit;
mod definitions;
mod deliveries;
mod error;
mod events;
mod filling;
mod heads;
mod instance;
mod keys;
mod known;
mod leases;
mod policies;
mod replicas;
mod requests;
mod scopes;
mod secret_versions;
mod secrets;
mod session;
mod steps;
mod tokens;
mod usage;
mod vaults;
mod versions;

pub(super) use error::Failure;
use error::fault;
pub use session::{Purpose, Session};

/// What a database has of its own.
pub trait Database: Send + Sync + 'static {
    /// Lends a connection.
    fn session(&self, purpose: Purpose) -> impl Future<Output = Result<Session, sqlx::Error>> + Send;
    /// Whether what failed may well succeed a moment later, and has changed nothing.
    fn is_passing(&self, error: &sqlx::Error) -> bool;
    /// [`Store::kind`].
    fn kind(&self) -> &'static str;
    /// [`Store::is_shared`].
    fn is_shared(&self) -> bool;
    /// Lets others know that something may have changed; does not wait for it.
    fn announce(&self, is_urgent: bool);
    /// [`Store::hint`].
    fn hint(&self) -> impl Future<Output = bool> + Send;
    /// Ends every connection.
    fn close(&self) -> impl Future<Output = ()> + Send;
    /// [`Store::save`].
    fn save(&self, path: &Path) -> impl Future<Output = Result<(), SaveError>> + Send;
}

/// A store in a database. Clones share it.
#[derive(Debug)]
pub struct SqlStore<D> {
    database: Arc<D>,
}

/// Writes a head in a transaction that goes on; says where it will stand.
#[cfg(test)]
pub(super) async fn write_head(session: &mut Session, change: &super::HeadChange) -> Result<Position, Failure> {
    let moment = clock::next(session).await?;
    heads::write(session, change, moment).await?;
    Ok(moment.position)
}

/// What must be answered from an index.
#[cfg(test)]
pub(super) fn looked_up() -> Vec<&'static str> {
    [
        keys::STATEMENTS.as_slice(),
        &versions::STATEMENTS,
        &usage::STATEMENTS,
        &known::STATEMENTS,
        &scopes::STATEMENTS,
        &secrets::STATEMENTS,
        &secret_versions::STATEMENTS,
        &steps::STATEMENTS,
        &activity::STATEMENTS,
        &events::STATEMENTS,
        &deliveries::STATEMENTS,
    ]
    .concat()
}

impl<D> Clone for SqlStore<D> {
    fn clone(&self) -> Self {
        Self { database: Arc::clone(&self.database) }
    }
}

impl<D: Database> SqlStore<D> {
    pub(super) fn of(database: D) -> Self {
        Self { database: Arc::new(database) }
    }

    /// Refuses a store that was not filled to the end.
    pub(super) async fn finished(self) -> Result<Self, StoreError> {
        let mut session = self.session(Purpose::Read).await?;
        if filling::is_unfinished(&mut session).await? {
            drop(session);
            self.database.close().await;
            return Err(StoreError::Unfinished);
        }
        Ok(self)
    }

    #[cfg(test)]
    pub(super) fn database(&self) -> &D {
        &self.database
    }

    pub(super) async fn session(&self, purpose: Purpose) -> Result<Session, StoreError> {
        self.database.session(purpose).await.map_err(fault)
    }
}

#[async_trait]
impl<D: Database> Store for SqlStore<D> {
    async fn instance(&self) -> Result<Option<Sealed<InstanceRow>>, StoreError> {
        instance::read(&mut self.session(Purpose::Read).await?).await
    }

    async fn vault(&self, name: &VaultName) -> Result<Option<Sealed<VaultRow>>, StoreError> {
        vaults::by_name(&mut self.session(Purpose::Read).await?, name).await
    }

    async fn vaults(
        &self,
        after: Option<&VaultName>,
        limit: u32,
        deleted: bool,
    ) -> Result<Vec<Sealed<VaultRow>>, StoreError> {
        vaults::page(&mut self.session(Purpose::Read).await?, after, limit, deleted).await
    }

    async fn key(&self, vault: &VaultName, name: &KeyName) -> Result<Option<Sealed<KeyObjectRow>>, StoreError> {
        keys::by_name(&mut self.session(Purpose::Read).await?, vault, name).await
    }

    async fn keys(
        &self,
        vault: &VaultName,
        after: Option<&KeyName>,
        limit: u32,
        deleted: bool,
    ) -> Result<Vec<Sealed<KeyObjectRow>>, StoreError> {
        keys::page(&mut self.session(Purpose::Read).await?, vault, after, limit, deleted).await
    }

    async fn keys_due(
        &self,
        now: Timestamp,
        after: Option<(Timestamp, [u8; 16])>,
        limit: u32,
    ) -> Result<Vec<ToLookAt>, StoreError> {
        keys::due(&mut self.session(Purpose::Read).await?, now, after, limit).await
    }

    async fn keys_with_policy(&self, after: Option<[u8; 16]>, limit: u32) -> Result<Vec<ToLookAt>, StoreError> {
        keys::with_policy(&mut self.session(Purpose::Read).await?, after, limit).await
    }

    async fn keys_to_purge(
        &self,
        by: Timestamp,
        after: Option<(Timestamp, [u8; 16])>,
        limit: u32,
    ) -> Result<Vec<ToPurge>, StoreError> {
        keys::to_purge(&mut self.session(Purpose::Read).await?, by, after, limit).await
    }

    async fn versions_to_purge(
        &self,
        by: Timestamp,
        after: Option<(Timestamp, [u8; 16])>,
        limit: u32,
    ) -> Result<Vec<ToPurge>, StoreError> {
        versions::to_purge(&mut self.session(Purpose::Read).await?, by, after, limit).await
    }

    async fn vaults_to_purge(&self, by: Timestamp, limit: u32) -> Result<Vec<VaultName>, StoreError> {
        vaults::to_purge(&mut self.session(Purpose::Read).await?, by, limit).await
    }

    async fn version(&self, vault: &VaultName, version: VersionId) -> Result<Option<Sealed<VersionRow>>, StoreError> {
        versions::by_id(&mut self.session(Purpose::Read).await?, vault, version).await
    }

    async fn versions(
        &self,
        vault: &VaultName,
        key: &KeyName,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Sealed<VersionRow>>, StoreError> {
        versions::page(&mut self.session(Purpose::Read).await?, vault, key, before, limit).await
    }

    async fn version_exists(&self, version: VersionId) -> Result<bool, StoreError> {
        let mut session = self.session(Purpose::Read).await?;
        Ok(versions::exists(&mut session, version).await.map_err(fault)?
            || secret_versions::exists(&mut session, version).await.map_err(fault)?)
    }

    async fn secret(&self, vault: &VaultName, name: &SecretName) -> Result<Option<Sealed<SecretRow>>, StoreError> {
        secrets::by_name(&mut self.session(Purpose::Read).await?, vault, name).await
    }

    async fn secrets(
        &self,
        vault: &VaultName,
        after: Option<&SecretName>,
        limit: u32,
        deleted: bool,
    ) -> Result<Vec<Sealed<SecretRow>>, StoreError> {
        secrets::page(&mut self.session(Purpose::Read).await?, vault, after, limit, deleted).await
    }

    async fn secrets_due(
        &self,
        now: Timestamp,
        after: Option<(Timestamp, [u8; 16])>,
        limit: u32,
    ) -> Result<Vec<ToLookAt>, StoreError> {
        secrets::due(&mut self.session(Purpose::Read).await?, now, after, limit).await
    }

    async fn secrets_to_purge(
        &self,
        by: Timestamp,
        after: Option<(Timestamp, [u8; 16])>,
        limit: u32,
    ) -> Result<Vec<ToPurge>, StoreError> {
        secrets::to_purge(&mut self.session(Purpose::Read).await?, by, after, limit).await
    }

    async fn secret_version(
        &self,
        vault: &VaultName,
        version: VersionId,
    ) -> Result<Option<Sealed<SecretVersionRow>>, StoreError> {
        secret_versions::by_id(&mut self.session(Purpose::Read).await?, vault, version).await
    }

    async fn secret_versions(
        &self,
        vault: &VaultName,
        secret: &SecretName,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Sealed<SecretVersionRow>>, StoreError> {
        secret_versions::page(&mut self.session(Purpose::Read).await?, vault, secret, before, limit).await
    }

    async fn kek_exists(&self, id: VersionId) -> Result<bool, StoreError> {
        vaults::kek_exists(&mut self.session(Purpose::Read).await?, id).await
    }

    async fn is_wrapped_under(&self, kek: VersionId) -> Result<bool, StoreError> {
        let mut session = self.session(Purpose::Read).await?;
        Ok(versions::is_wrapped_under(&mut session, kek).await? || secrets::is_wrapped_under(&mut session, kek).await?)
    }

    async fn vaults_with_retired_keks(
        &self,
        after: Option<&VaultName>,
        limit: u32,
    ) -> Result<Vec<VaultName>, StoreError> {
        vaults::with_retired_keks(&mut self.session(Purpose::Read).await?, after, limit).await
    }

    async fn usage(&self, version: VersionId) -> Result<Option<Sealed<UsageRow>>, StoreError> {
        usage::by_version(&mut self.session(Purpose::Read).await?, version).await
    }

    async fn known(&self, vault: [u8; 16], id: [u8; 16]) -> Result<Option<Sealed<KnownRow>>, StoreError> {
        known::by_id(&mut self.session(Purpose::Read).await?, vault, id).await
    }

    async fn all_known(
        &self,
        vault: [u8; 16],
        after: Option<[u8; 16]>,
        limit: u32,
    ) -> Result<Vec<Sealed<KnownRow>>, StoreError> {
        known::page(&mut self.session(Purpose::Read).await?, vault, after, limit).await
    }

    async fn note_uses(&self, uses: Vec<Use>) -> Result<(), StoreError> {
        let mut session = self.session(Purpose::WriteLoosely).await?;
        activity::note(&mut session, &uses).await.map_err(Failure::into_store_error)?;
        session.commit().await.map_err(fault)
    }

    async fn activity(
        &self,
        vault: &VaultName,
        key: &KeyName,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<(VersionId, Activity)>, StoreError> {
        activity::of_key(&mut self.session(Purpose::Read).await?, vault, key, before, limit).await
    }

    async fn activity_since(&self) -> Result<Timestamp, StoreError> {
        activity::since(&mut self.session(Purpose::Read).await?).await
    }

    async fn all_activity(
        &self,
        after: Option<VersionId>,
        limit: u32,
    ) -> Result<Vec<(VersionId, Activity)>, StoreError> {
        activity::all(&mut self.session(Purpose::Read).await?, after, limit).await
    }

    async fn clock(&self) -> Result<Option<Sealed<ClockRow>>, StoreError> {
        boot::read(&mut self.session(Purpose::Read).await?).await
    }

    async fn put_clock(&self, row: Sealed<ClockRow>) -> Result<(), CommitError> {
        let mut session = self.session(Purpose::Write).await?;
        boot::write(&mut session, &row).await.map_err(Failure::into_commit_error)?;
        Ok(session.commit().await.map_err(fault)?)
    }

    async fn events(
        &self,
        after: EventPlace,
        limit: u32,
    ) -> Result<Vec<(EventPlace, Option<Sealed<EventRow>>)>, StoreError> {
        events::after(&mut self.session(Purpose::Read).await?, after, limit).await
    }

    async fn seal_events_anew(&self, seals: Vec<(EventPlace, Seal, Seal)>) -> Result<(), CommitError> {
        let mut session = self.session(Purpose::Write).await?;
        for (place, old, new) in &seals {
            events::seal_anew(&mut session, *place, (old, new)).await.map_err(Failure::into_commit_error)?;
        }
        Ok(session.commit().await.map_err(fault)?)
    }

    async fn event_bounds(&self) -> Result<(EventPlace, EventPlace), StoreError> {
        events::bounds(&mut self.session(Purpose::Read).await?).await
    }

    async fn forget_events(&self, older_than: Duration, letters: Duration) -> Result<Forgotten, StoreError> {
        let mut session = self.session(Purpose::Write).await?;
        let forgotten = events::forget(&mut session, older_than, letters).await.map_err(Failure::into_store_error)?;
        session.commit().await.map_err(fault)?;
        Ok(forgotten)
    }

    async fn webhook(&self, name: &str) -> Result<Option<EventPlace>, StoreError> {
        deliveries::queued(&mut self.session(Purpose::Read).await?, name).await
    }

    async fn queue(
        &self,
        webhook: &str,
        from: Option<EventPlace>,
        to: EventPlace,
        wanted: Vec<EventPlace>,
    ) -> Result<(), CommitError> {
        let mut session = self.session(Purpose::Write).await?;
        let queued = deliveries::queue(&mut session, webhook, from, to, &wanted).await;
        queued.map_err(Failure::into_commit_error)?;
        Ok(session.commit().await.map_err(fault)?)
    }

    async fn deliveries(&self, webhook: &str, limit: u32) -> Result<Vec<Delivery>, StoreError> {
        let mut session = self.session(Purpose::Read).await?;
        deliveries::due(&mut session, webhook, limit).await.map_err(Failure::into_store_error)
    }

    async fn settle_deliveries(
        &self,
        webhook: &str,
        delivered: Vec<EventPlace>,
        failed: Vec<Undelivered>,
    ) -> Result<(), StoreError> {
        let mut session = self.session(Purpose::Write).await?;
        let settled = deliveries::settle(&mut session, webhook, &delivered, &failed).await;
        settled.map_err(Failure::into_store_error)?;
        session.commit().await.map_err(fault)
    }

    async fn dead_letters(&self, webhook: &str, after: EventPlace, limit: u32) -> Result<Vec<DeadLetter>, StoreError> {
        let mut session = self.session(Purpose::Read).await?;
        deliveries::dead(&mut session, webhook, after, limit).await.map_err(Failure::into_store_error)
    }

    async fn replay(&self, webhook: &str, event: Option<[u8; 16]>) -> Result<u64, StoreError> {
        let mut session = self.session(Purpose::Write).await?;
        let replayed = deliveries::replay(&mut session, webhook, event).await.map_err(Failure::into_store_error)?;
        session.commit().await.map_err(fault)?;
        Ok(replayed)
    }

    async fn webhooks(&self) -> Result<Vec<WebhookState>, StoreError> {
        deliveries::states(&mut self.session(Purpose::Read).await?).await
    }

    async fn assignments(&self) -> Result<Vec<Sealed<AssignmentRow>>, StoreError> {
        assignments::all(&mut self.session(Purpose::Read).await?).await
    }

    async fn assignment(&self, id: AssignmentId) -> Result<Option<Sealed<AssignmentRow>>, StoreError> {
        assignments::by_id(&mut self.session(Purpose::Read).await?, id).await
    }

    async fn tokens(&self) -> Result<Vec<Sealed<TokenRow>>, StoreError> {
        tokens::all(&mut self.session(Purpose::Read).await?).await
    }

    async fn issuer_keys(&self) -> Result<Vec<Sealed<IssuerKeyRow>>, StoreError> {
        tokens::keys(&mut self.session(Purpose::Read).await?).await
    }

    async fn role_definitions(&self) -> Result<Vec<Sealed<RoleDefinitionRow>>, StoreError> {
        definitions::all(&mut self.session(Purpose::Read).await?).await
    }

    async fn access_policy(&self, id: [u8; 16]) -> Result<Option<Sealed<AccessPolicyRow>>, StoreError> {
        policies::by_id(&mut self.session(Purpose::Read).await?, id).await
    }

    async fn access_policies(&self) -> Result<Vec<Sealed<AccessPolicyRow>>, StoreError> {
        policies::all(&mut self.session(Purpose::Read).await?).await
    }

    async fn head(&self, scope: &HeadScope) -> Result<Option<Sealed<HeadRow>>, StoreError> {
        heads::by_scope(&mut self.session(Purpose::Read).await?, *scope).await
    }

    async fn heads(&self) -> Result<Vec<Sealed<HeadRow>>, StoreError> {
        heads::all(&mut self.session(Purpose::Read).await?).await
    }

    async fn scope(&self, scope: &HeadScope) -> Result<ScopeRows, StoreError> {
        let mut session = self.session(Purpose::ReadAtOnce).await?;
        let rows = scopes::read(&mut session, *scope).await?;
        session.finish().await.map_err(fault)?;
        Ok(rows)
    }

    async fn request(
        &self,
        principal: &str,
        id: RequestId,
        now: Timestamp,
    ) -> Result<Option<RequestRecord>, StoreError> {
        requests::read(&mut self.session(Purpose::Read).await?, principal, id, now).await
    }

    async fn commit(&self, change: Change) -> Result<Position, CommitError> {
        commit::commit(&*self.database, change).await
    }

    async fn forget_requests(&self, now: Timestamp) -> Result<u64, StoreError> {
        let mut session = self.session(Purpose::Write).await?;
        let forgotten = requests::forget(&mut session, now).await?;
        session.commit().await.map_err(fault)?;
        Ok(forgotten)
    }

    async fn heard(&self, since: Option<Position>) -> Result<Heard, StoreError> {
        heads::heard(&mut self.session(Purpose::Read).await?, since).await
    }

    async fn way(&self, scope: &HeadScope, after: u64) -> Result<Option<Way>, StoreError> {
        let mut session = self.session(Purpose::ReadAtOnce).await?;
        let way = steps::way(&mut session, *scope, after).await?;
        session.finish().await.map_err(fault)?;
        Ok(way)
    }

    async fn forget_steps(&self, older_than: Duration) -> Result<u64, StoreError> {
        let mut session = self.session(Purpose::Write).await?;
        let forgotten = steps::forget(&mut session, older_than).await.map_err(Failure::into_store_error)?;
        session.commit().await.map_err(fault)?;
        Ok(forgotten)
    }

    fn kind(&self) -> &'static str {
        self.database.kind()
    }

    fn is_shared(&self) -> bool {
        self.database.is_shared()
    }

    async fn hint(&self) -> bool {
        self.database.hint().await
    }

    async fn replicas(&self) -> Result<Vec<Replica>, StoreError> {
        let mut session = self.session(Purpose::Read).await?;
        replicas::all(&mut session).await.map_err(Failure::into_store_error)
    }

    async fn put_replica(&self, row: Sealed<ReplicaRow>) -> Result<(), CommitError> {
        let mut session = self.session(Purpose::Write).await?;
        replicas::write(&mut session, &row).await.map_err(Failure::into_commit_error)?;
        session.commit().await.map_err(fault)?;
        Ok(())
    }

    async fn beat(&self, beat: Beat) -> Result<(), StoreError> {
        let mut session = self.session(Purpose::WriteLoosely).await?;
        replicas::beat(&mut session, beat).await?;
        // Not announced: who waits for it looks by himself, and hearing of signs would never end.
        Ok(session.commit().await.map_err(fault)?)
    }

    async fn take_lease(
        &self,
        work: &str,
        holder: &ReplicaName,
        life: Duration,
    ) -> Result<Option<WorkLease>, StoreError> {
        let mut session = self.session(Purpose::Write).await?;
        let lease = leases::take(&mut session, work, holder, life).await.map_err(Failure::into_store_error)?;
        session.commit().await.map_err(fault)?;
        Ok(lease)
    }

    async fn give_lease(&self, lease: &WorkLease) -> Result<(), StoreError> {
        let mut session = self.session(Purpose::Write).await?;
        leases::give(&mut session, lease).await?;
        session.commit().await.map_err(fault)
    }

    async fn leases(&self) -> Result<Vec<(WorkLease, ReplicaName, Duration)>, StoreError> {
        let mut session = self.session(Purpose::Read).await?;
        leases::all(&mut session).await.map_err(Failure::into_store_error)
    }

    async fn requests(&self, after: Option<(&str, RequestId)>, limit: u32) -> Result<Vec<RequestRecord>, StoreError> {
        requests::page(&mut self.session(Purpose::Read).await?, after, limit).await
    }

    async fn counts(&self) -> Result<Vec<(&'static str, u64)>, StoreError> {
        let mut session = self.session(Purpose::ReadAtOnce).await?;
        let counts = filling::counts(&mut session).await?;
        session.finish().await.map_err(fault)?;
        Ok(counts)
    }

    async fn begin_filling(&self, anew: bool) -> Result<(), FillingError> {
        let mut session = self.session(Purpose::Write).await?;
        filling::begin(&mut session, anew).await?;
        Ok(session.commit().await.map_err(fault)?)
    }

    async fn fill(&self, batch: Batch) -> Result<(), CommitError> {
        let mut session = self.session(Purpose::Write).await?;
        filling::fill(&mut session, batch).await.map_err(Failure::into_commit_error)?;
        Ok(session.commit().await.map_err(fault)?)
    }

    async fn finish_filling(&self) -> Result<(), StoreError> {
        let mut session = self.session(Purpose::Write).await?;
        filling::finish(&mut session).await?;
        session.commit().await.map_err(fault)
    }

    async fn save(&self, path: &Path) -> Result<(), SaveError> {
        self.database.save(path).await
    }

    async fn close(&self) {
        self.database.close().await;
    }
}
