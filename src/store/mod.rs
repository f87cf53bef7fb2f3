//! The store: sealed rows, read one by one or by page, and changed by whole changes only.
//!
//! A store keeps what it is given and decides nothing. What it hands out is [`Sealed`]: nobody can use
//! such a row before its seal has been checked and its revision found to be the newest (`service::seals`).
//! A [`Change`] is applied whole or not at all, and is durable when [`Store::commit`] returns
//! (`synchronous=FULL`). Every row carries its revision; a change of a row that somebody else changed
//! meanwhile is refused with [`CommitError::Conflict`].
//!
//! One contract suite (`store::contract`) runs on every implementation.

use std::{path::Path, time::Duration};

use async_trait::async_trait;
use strongroom_hsm::Seal;

use crate::model::{
    AccessPolicyRow, AssignmentId, AssignmentRow, ClockRow, EventRow, InstanceRow, IssuerKeyRow, KeyName, KeyObjectRow,
    KnownRow, ObjectName, ReplicaName, ReplicaRow, RequestId, RoleDefinitionRow, RoleId, Row, RowId, SecretName,
    SecretRow, SecretVersionRow, Timestamp, TokenId, TokenRow, UsageRow, VaultName, VaultRow, VersionId, VersionRow,
};

pub mod activity;
pub mod cluster;
pub mod copy;
pub mod events;

#[cfg(test)]
pub(crate) mod contract;
pub mod head;
pub mod postgres;
pub mod sql;
pub mod sqlite;

pub use activity::{Activity, Use};
pub use cluster::{Beat, HeadChange, Heard, Position, Replica, Step, Way, WorkLease};
pub use copy::CopyError;
pub use events::{DeadLetter, Delivery, EventPlace, Forgotten, Undelivered, WebhookState};
pub use head::{HeadRow, HeadScope};

/// A row with its seal, not yet checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed<R> {
    row: R,
    seal: Seal,
}

impl<R: Row> Sealed<R> {
    /// Joins a row and its seal.
    #[must_use]
    pub const fn new(row: R, seal: Seal) -> Self {
        Self { row, seal }
    }

    /// The row as the database gives it: **unchecked**. For the store itself and for the checking of seals.
    #[must_use]
    pub const fn unchecked(&self) -> &R {
        &self.row
    }

    /// The seal that came with it.
    #[must_use]
    pub const fn seal(&self) -> &Seal {
        &self.seal
    }

    /// Gives both away, unchecked.
    #[must_use]
    pub fn into_unchecked(self) -> (R, Seal) {
        (self.row, self.seal)
    }
}

/// A key or secret that somebody is to look at: what is needed to find it. Unchecked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToLookAt {
    /// Which one.
    pub id: [u8; 16],
    /// Its vault.
    pub vault: VaultName,
    /// Its name.
    pub object: ObjectName,
    /// When it is to be looked at.
    pub due: Option<Timestamp>,
}

/// Something that was deleted and whose time has come: what is needed to find it. Unchecked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToPurge {
    /// The vault it is in.
    pub vault: VaultName,
    /// The key or secret.
    pub object: ObjectName,
    /// The version; the whole object when absent.
    pub version: Option<VersionId>,
    /// Its id.
    pub id: [u8; 16],
    /// When it is to be destroyed.
    pub at: Timestamp,
}

/// One write of a change. A row of revision 1 is inserted; any other replaces the row of the revision before.
#[derive(Clone, Debug)]
pub enum Write {
    /// The service's own row.
    Instance(Box<Sealed<InstanceRow>>),
    /// A vault.
    Vault(Sealed<VaultRow>),
    /// A key.
    Key(Sealed<KeyObjectRow>),
    /// A version.
    Version(Sealed<VersionRow>),
    /// A usage counter.
    Usage(Sealed<UsageRow>),
    /// A role assignment.
    Assignment(Sealed<AssignmentRow>),
    /// Takes a role assignment away.
    RemoveAssignment(AssignmentId),
    /// A token.
    Token(Sealed<TokenRow>),
    /// Takes a token away.
    RemoveToken(TokenId),
    /// A key that signs tokens.
    IssuerKey(Sealed<IssuerKeyRow>),
    /// Takes a key away that signed tokens.
    RemoveIssuerKey(VersionId),
    /// A role of one's own.
    RoleDefinition(Sealed<RoleDefinitionRow>),
    /// Takes a role away.
    RemoveRoleDefinition(RoleId),
    /// An access policy.
    AccessPolicy(Sealed<AccessPolicyRow>),
    /// Takes an access policy away, by its id.
    RemoveAccessPolicy([u8; 16]),
    /// Takes a version's usage counter away.
    RemoveUsage(VersionId),
    /// Takes a version away that has no usage counter any more.
    RemoveVersion(VersionId),
    /// Takes a key away that has no versions any more, by its id.
    RemoveKey([u8; 16]),
    /// Takes a vault away that holds nothing any more, by its id.
    RemoveVault([u8; 16]),
    /// What is known of a key that has backups.
    Known(Sealed<KnownRow>),
    /// Forgets what is known, by the ids of its vault and of what it is about.
    RemoveKnown([u8; 16], [u8; 16]),
    /// A secret.
    Secret(Sealed<SecretRow>),
    /// A version of a secret; a new one with its value.
    SecretVersion(Sealed<SecretVersionRow>),
    /// Takes a version of a secret away, with its value.
    RemoveSecretVersion(VersionId),
    /// Takes a secret away that has no versions any more, by its id.
    RemoveSecret([u8; 16]),
    /// The counter of a version that was moved to another vault by the same change.
    MovedUsage(Sealed<UsageRow>),
    /// A key, version or counter that comes back, or comes from another vault: inserted, whatever its revision.
    Anew(Box<Self>),
}

impl Write {
    /// Of the service's own row.
    #[must_use]
    pub fn instance(row: Sealed<InstanceRow>) -> Self {
        Self::Instance(Box::new(row))
    }
}

/// A change that was asked for with a request id: what it was and what it made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRecord {
    /// Who asked.
    pub principal: String,
    /// The caller's id.
    pub id: RequestId,
    /// SHA-256 of the method and the request.
    pub digest: [u8; 32],
    /// The name of the resource it made or changed.
    pub resource: String,
    /// When the record may be forgotten.
    pub expires: Timestamp,
}

/// Everything that one change writes: rows, the heads that cover them, and the caller's request id.
#[derive(Clone, Debug)]
pub struct Change {
    /// What kind of change, as a metric label.
    pub name: &'static str,
    /// The rows.
    pub writes: Vec<Write>,
    /// The new head of every scope whose rows are written. This is what makes two changes of a scope at once
    /// impossible.
    pub heads: Vec<HeadChange>,
    /// The request id, if the caller gave one.
    pub request: Option<RequestRecord>,
    /// The lease under which it is made, if it is scheduled work.
    pub lease: Option<WorkLease>,
    /// What others are told of it.
    pub events: Vec<Sealed<EventRow>>,
    /// Somebody waits until every replica has heard of it.
    pub is_urgent: bool,
}

/// Why the store gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database did not answer, or not in time. Nothing is known to be wrong with the data.
    #[error("the store is not available")]
    Unavailable(#[source] sqlx::Error),
    /// A row holds what no release of this program wrote.
    #[error("the store is inconsistent: {table}, column {column}")]
    Inconsistent {
        /// Which table.
        table: &'static str,
        /// Which column.
        column: &'static str,
    },
    /// The schema is newer or older than this release understands.
    #[error("the store has schema version {found}; this release reads {reads}")]
    Schema {
        /// What it has.
        found: i64,
        /// What can be read.
        reads: &'static str,
    },
    /// It was being filled from another store, and that did not come to its end.
    #[error("the store is half a copy of another")]
    Unfinished,
    /// The file cannot be opened.
    #[error("the store {path} cannot be opened")]
    Open {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
}

/// Why a change was not applied.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// A row or head was changed by somebody else meanwhile; read again and decide again.
    #[error("somebody else changed the same rows meanwhile")]
    Conflict,
    /// A row of that name or id exists.
    #[error("a row of that name exists")]
    Exists,
    /// The lease under which it was to be made has passed to another.
    #[error("another replica has taken this work over")]
    Fenced,
    /// The database failed. Whether the change was applied is **not known** unless `applied` says so.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Rows that are put into a store as they are, whatever their revisions: a piece of a copy.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Rows under heads; none is to be removed.
    pub writes: Vec<Write>,
    /// Heads, without the steps to them.
    pub heads: Vec<Sealed<HeadRow>>,
    /// Request records.
    pub requests: Vec<RequestRecord>,
    /// Replicas, without signs of life.
    pub replicas: Vec<Sealed<ReplicaRow>>,
    /// Leases with who had them last.
    pub leases: Vec<(WorkLease, ReplicaName)>,
    /// Events in their order, to be kept where the batch stands.
    pub events: Vec<Sealed<EventRow>>,
    /// The clock of destruction.
    pub clock: Option<Sealed<ClockRow>>,
    /// Webhooks that events were delivered to: all are to be delivered again.
    pub webhooks: Vec<String>,
    /// What is known of the use of versions, and since when.
    pub activity: Option<(Vec<(VersionId, Activity)>, Timestamp)>,
}

/// Why a store cannot be filled.
#[derive(Debug, thiserror::Error)]
pub enum FillingError {
    /// It holds something.
    #[error("the store is not empty: its table {table} has rows")]
    NotEmpty {
        /// Which table.
        table: &'static str,
    },
    /// Somebody has begun to fill it, and not finished.
    #[error("the store is half a copy of another")]
    Unfinished,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why there is no copy of a store in a file.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The database, or what it wrote to, failed.
    #[error("the store could not be copied into a file")]
    Failed(#[from] sqlx::Error),
    /// The file cannot be made.
    #[error("the file cannot be made")]
    File(#[from] std::io::Error),
    /// The store in the file does not open.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It was copied row by row, and that did not come to its end.
    #[error(transparent)]
    Copy(#[from] CopyError),
}

/// Where rows are kept. Lists are in the order of their names and go on after `after`.
#[async_trait]
pub trait Store: Send + Sync {
    /// The service's own row; `None` in a store that was never initialised.
    async fn instance(&self) -> Result<Option<Sealed<InstanceRow>>, StoreError>;
    /// A vault, live or deleted.
    async fn vault(&self, name: &VaultName) -> Result<Option<Sealed<VaultRow>>, StoreError>;
    /// At most `limit` vaults by name; the deleted ones among them only where `deleted` is said.
    async fn vaults(
        &self,
        after: Option<&VaultName>,
        limit: u32,
        deleted: bool,
    ) -> Result<Vec<Sealed<VaultRow>>, StoreError>;
    /// A key, live or deleted, by its name without regard to case.
    async fn key(&self, vault: &VaultName, name: &KeyName) -> Result<Option<Sealed<KeyObjectRow>>, StoreError>;
    /// At most `limit` keys by folded name; deleted ones only where `deleted` is said.
    async fn keys(
        &self,
        vault: &VaultName,
        after: Option<&KeyName>,
        limit: u32,
        deleted: bool,
    ) -> Result<Vec<Sealed<KeyObjectRow>>, StoreError>;
    /// At most `limit` keys in use that are to be looked at by `now`, in the order of those times, after a time and an id.
    async fn keys_due(
        &self,
        now: Timestamp,
        after: Option<(Timestamp, [u8; 16])>,
        limit: u32,
    ) -> Result<Vec<ToLookAt>, StoreError>;
    /// At most `limit` keys in use that have a rotation policy, in the order of their ids.
    async fn keys_with_policy(&self, after: Option<[u8; 16]>, limit: u32) -> Result<Vec<ToLookAt>, StoreError>;
    /// At most `limit` deleted keys of vaults in use that are to be purged by `by`, in the order of those times, after a
    /// time and an id.
    async fn keys_to_purge(
        &self,
        by: Timestamp,
        after: Option<(Timestamp, [u8; 16])>,
        limit: u32,
    ) -> Result<Vec<ToPurge>, StoreError>;
    /// The same of deleted versions of keys in use.
    async fn versions_to_purge(
        &self,
        by: Timestamp,
        after: Option<(Timestamp, [u8; 16])>,
        limit: u32,
    ) -> Result<Vec<ToPurge>, StoreError>;
    /// At most `limit` deleted vaults that are to be purged by `by`, or are being purged.
    async fn vaults_to_purge(&self, by: Timestamp, limit: u32) -> Result<Vec<VaultName>, StoreError>;
    /// A version of any key of a vault.
    async fn version(&self, vault: &VaultName, version: VersionId) -> Result<Option<Sealed<VersionRow>>, StoreError>;
    /// At most `limit` versions, newest first, with ordinals below `before`.
    async fn versions(
        &self,
        vault: &VaultName,
        key: &KeyName,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Sealed<VersionRow>>, StoreError>;
    /// A secret, live or deleted, by its name without regard to case.
    async fn secret(&self, vault: &VaultName, name: &SecretName) -> Result<Option<Sealed<SecretRow>>, StoreError>;
    /// At most `limit` secrets by folded name; deleted ones only where `deleted` is said.
    async fn secrets(
        &self,
        vault: &VaultName,
        after: Option<&SecretName>,
        limit: u32,
        deleted: bool,
    ) -> Result<Vec<Sealed<SecretRow>>, StoreError>;
    /// At most `limit` secrets in use that are to be looked at by `now`, in the order of those times, after a time and an id.
    async fn secrets_due(
        &self,
        now: Timestamp,
        after: Option<(Timestamp, [u8; 16])>,
        limit: u32,
    ) -> Result<Vec<ToLookAt>, StoreError>;
    /// At most `limit` deleted secrets of vaults in use that are to be purged by `by`, in the order of those times, after a
    /// time and an id.
    async fn secrets_to_purge(
        &self,
        by: Timestamp,
        after: Option<(Timestamp, [u8; 16])>,
        limit: u32,
    ) -> Result<Vec<ToPurge>, StoreError>;
    /// A version of any secret of a vault, with its value.
    async fn secret_version(
        &self,
        vault: &VaultName,
        version: VersionId,
    ) -> Result<Option<Sealed<SecretVersionRow>>, StoreError>;
    /// At most `limit` versions of a secret, newest first, with ordinals below `before`, without their values.
    async fn secret_versions(
        &self,
        vault: &VaultName,
        secret: &SecretName,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Sealed<SecretVersionRow>>, StoreError>;
    /// Whether a version of that id, of a key or a secret, exists in any vault: settles an open creation intent.
    async fn version_exists(&self, version: VersionId) -> Result<bool, StoreError>;

    /// Whether some vault has a key-encryption key of that id, deleted or not.
    async fn kek_exists(&self, id: VersionId) -> Result<bool, StoreError>;
    /// Whether any version of a key, or the data key of any secret, of whatever vault, is wrapped under that KEK.
    async fn is_wrapped_under(&self, kek: VersionId) -> Result<bool, StoreError>;
    /// At most `limit` vaults that have retired KEKs, by name, after one.
    async fn vaults_with_retired_keks(
        &self,
        after: Option<&VaultName>,
        limit: u32,
    ) -> Result<Vec<VaultName>, StoreError>;
    /// A version's usage counter.
    async fn usage(&self, version: VersionId) -> Result<Option<Sealed<UsageRow>>, StoreError>;
    /// What is known of a key that has backups, or of a version that is gone: by the ids of its vault and its own.
    async fn known(&self, vault: [u8; 16], id: [u8; 16]) -> Result<Option<Sealed<KnownRow>>, StoreError>;
    /// At most `limit` rows of what is known in a vault, in the order of their ids.
    async fn all_known(
        &self,
        vault: [u8; 16],
        after: Option<[u8; 16]>,
        limit: u32,
    ) -> Result<Vec<Sealed<KnownRow>>, StoreError>;
    /// Adds to what is known of the use of versions; of those that are gone, nothing. It need not survive a crash of the
    /// database.
    async fn note_uses(&self, uses: Vec<Use>) -> Result<(), StoreError>;
    /// What is known of the use of a key's versions, of at most `limit` of them with ordinals below `before`.
    async fn activity(
        &self,
        vault: &VaultName,
        key: &KeyName,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<(VersionId, Activity)>, StoreError>;
    /// Since when the use of versions is noted.
    async fn activity_since(&self) -> Result<Timestamp, StoreError>;
    /// Everything that is known of the use of versions, in the order of their ids.
    async fn all_activity(
        &self,
        after: Option<VersionId>,
        limit: u32,
    ) -> Result<Vec<(VersionId, Activity)>, StoreError>;
    /// The clock of destruction, unless nothing has set it yet.
    async fn clock(&self) -> Result<Option<Sealed<ClockRow>>, StoreError>;
    /// Sets the clock of destruction: [`CommitError::Conflict`] when another was quicker.
    async fn put_clock(&self, row: Sealed<ClockRow>) -> Result<(), CommitError>;
    /// At most `limit` events after a place, in the order of their changes. An event comes only when nothing before it can
    /// come any more. One that cannot be read, of a newer release perhaps, is only said to be there: whoever reads goes on
    /// after it.
    async fn events(
        &self,
        after: EventPlace,
        limit: u32,
    ) -> Result<Vec<(EventPlace, Option<Sealed<EventRow>>)>, StoreError>;
    /// Gives events another seal in place of the one that they have; what is not there any more, or has another, is left.
    async fn seal_events_anew(&self, seals: Vec<(EventPlace, Seal, Seal)>) -> Result<(), CommitError>;
    /// Up to where events were forgotten, and up to where all there will ever be are there.
    async fn event_bounds(&self) -> Result<(EventPlace, EventPlace), StoreError>;
    /// Forgets events that are older than so long by the store's clock and wait for no delivery, and those that are older
    /// than `letters`, which is no shorter, with their deliveries, pending and dead. Some at once: there may be more.
    async fn forget_events(&self, older_than: Duration, letters: Duration) -> Result<Forgotten, StoreError>;
    /// Up to where the deliveries of a webhook are queued; `None` of one that was never seen.
    async fn webhook(&self, name: &str) -> Result<Option<EventPlace>, StoreError>;
    /// Queues deliveries of events and moves the place up to which all are queued, if it is still `from`; `None` begins.
    async fn queue(
        &self,
        webhook: &str,
        from: Option<EventPlace>,
        to: EventPlace,
        wanted: Vec<EventPlace>,
    ) -> Result<(), CommitError>;
    /// At most `limit` deliveries whose time has come, with their events.
    async fn deliveries(&self, webhook: &str, limit: u32) -> Result<Vec<Delivery>, StoreError>;
    /// Takes away what was delivered, with events that were kept only for that, and puts off what was not.
    async fn settle_deliveries(
        &self,
        webhook: &str,
        delivered: Vec<EventPlace>,
        failed: Vec<Undelivered>,
    ) -> Result<(), StoreError>;
    /// At most `limit` dead letters of a webhook, in the order of their events, without those that cannot be read.
    async fn dead_letters(&self, webhook: &str, after: EventPlace, limit: u32) -> Result<Vec<DeadLetter>, StoreError>;
    /// Queues dead letters again: one, by its event's id, or all of a webhook; says how many.
    async fn replay(&self, webhook: &str, event: Option<[u8; 16]>) -> Result<u64, StoreError>;
    /// Every webhook that was ever seen, with what waits for it.
    async fn webhooks(&self) -> Result<Vec<WebhookState>, StoreError>;
    /// Every role assignment.
    async fn assignments(&self) -> Result<Vec<Sealed<AssignmentRow>>, StoreError>;
    /// A role assignment.
    async fn assignment(&self, id: AssignmentId) -> Result<Option<Sealed<AssignmentRow>>, StoreError>;
    /// Every token that was not taken away.
    async fn tokens(&self) -> Result<Vec<Sealed<TokenRow>>, StoreError>;
    /// Every key that signs tokens.
    async fn issuer_keys(&self) -> Result<Vec<Sealed<IssuerKeyRow>>, StoreError>;
    /// Every role of one's own.
    async fn role_definitions(&self) -> Result<Vec<Sealed<RoleDefinitionRow>>, StoreError>;
    /// An access policy, by its id.
    async fn access_policy(&self, id: [u8; 16]) -> Result<Option<Sealed<AccessPolicyRow>>, StoreError>;
    /// Every access policy of every vault.
    async fn access_policies(&self) -> Result<Vec<Sealed<AccessPolicyRow>>, StoreError>;
    /// The head of a scope.
    async fn head(&self, scope: &HeadScope) -> Result<Option<Sealed<HeadRow>>, StoreError>;
    /// Every head.
    async fn heads(&self) -> Result<Vec<Sealed<HeadRow>>, StoreError>;
    /// Every row of a scope, as its head counts them, with the head itself, read at one moment.
    async fn scope(&self, scope: &HeadScope) -> Result<ScopeRows, StoreError>;
    /// The record of a request id, unless it has expired.
    async fn request(
        &self,
        principal: &str,
        id: RequestId,
        now: Timestamp,
    ) -> Result<Option<RequestRecord>, StoreError>;
    /// Applies a change, whole and durable, or not at all. Its rows may be listed in any order. Heads are
    /// looked at first: who decided on old rows is told [`CommitError::Conflict`] and not
    /// [`CommitError::Exists`]. A conflict too are a parent that is gone, an ordinal that is taken, an
    /// assignment or token to be removed that is not there, and a request id that is remembered, also one that has
    /// expired and was not forgotten yet ([`Self::forget_requests`]).
    ///
    /// A dropped future leaves the change applied or not, never half; which, the rows say.
    ///
    /// Says where the change stands; one that writes nothing may say anything.
    async fn commit(&self, change: Change) -> Result<Position, CommitError>;
    /// Forgets request records that have expired; says how many.
    async fn forget_requests(&self, now: Timestamp) -> Result<u64, StoreError>;
    /// What has become visible since a position that was heard up to; everything without one.
    async fn heard(&self, since: Option<Position>) -> Result<Heard, StoreError>;
    /// How a scope came from the head of revision `after` to its newest; `None` when some of the way was forgotten, is
    /// more than a thousand changes long, or there is none: then read the whole [`Self::scope`].
    async fn way(&self, scope: &HeadScope, after: u64) -> Result<Option<Way>, StoreError>;
    /// Forgets the steps of changes that are older than so long by the store's clock; says of how many changes.
    async fn forget_steps(&self, older_than: Duration) -> Result<u64, StoreError>;
    /// What it is: `sqlite` or `postgres`.
    fn kind(&self) -> &'static str;
    /// Whether other processes may change the store.
    fn is_shared(&self) -> bool;
    /// Waits until another process may have changed something; says whether somebody waits for it to be heard. Only a
    /// hint: one may be lost, and one may come for nothing. Never ends where the store is not shared.
    async fn hint(&self) -> bool;
    /// Every replica there ever was, by number.
    async fn replicas(&self) -> Result<Vec<Replica>, StoreError>;
    /// Writes a replica's row: of revision 1 it is inserted, and [`CommitError::Exists`] says that its name or number
    /// is taken; any other replaces the one before.
    async fn put_replica(&self, row: Sealed<ReplicaRow>) -> Result<(), CommitError>;
    /// Keeps a sign of life of a replica that has a row; it need not survive a crash of the database.
    async fn beat(&self, beat: Beat) -> Result<(), StoreError>;
    /// Takes or keeps the lease of a piece of work for `life`, by the store's clock: `None` while another has it.
    /// Whoever holds it already keeps its token.
    async fn take_lease(
        &self,
        work: &str,
        holder: &ReplicaName,
        life: Duration,
    ) -> Result<Option<WorkLease>, StoreError>;
    /// Gives a lease back, so that another can take it at once. One that has passed on is left alone.
    async fn give_lease(&self, lease: &WorkLease) -> Result<(), StoreError>;
    /// Every lease, with its holder and the time it has left by the store's clock, zero when it has lapsed.
    async fn leases(&self) -> Result<Vec<(WorkLease, ReplicaName, Duration)>, StoreError>;
    /// At most `limit` request records, expired ones too, in the order of principals and ids.
    async fn requests(&self, after: Option<(&str, RequestId)>, limit: u32) -> Result<Vec<RequestRecord>, StoreError>;
    /// How many rows each table has, steps left out.
    async fn counts(&self) -> Result<Vec<(&'static str, u64)>, StoreError>;
    /// Begins to fill an empty store, which cannot be opened otherwise until [`Self::finish_filling`]; `anew` takes away
    /// what an unfinished one holds.
    async fn begin_filling(&self, anew: bool) -> Result<(), FillingError>;
    /// Puts rows into a store that is being filled.
    async fn fill(&self, batch: Batch) -> Result<(), CommitError>;
    /// The store is whole.
    async fn finish_filling(&self) -> Result<(), StoreError>;
    /// Copies all of it, as it is at one moment between the call and its return, into an SQLite file that does not exist
    /// yet. Nobody waits for it. Whoever calls makes the file durable.
    async fn save(&self, path: &Path) -> Result<(), SaveError>;
    /// Closes the store; what follows fails.
    async fn close(&self);
}

/// Every row of a scope at one moment.
#[derive(Clone, Debug, Default)]
pub struct ScopeRows {
    /// The head, unless the scope was never written.
    pub head: Option<Sealed<HeadRow>>,
    /// Each row's id, revision and seal.
    pub rows: Vec<(RowId, u64, Seal)>,
}
