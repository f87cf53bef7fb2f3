//! Scopes: which row is the newest, and how rows change (ADR 0002).
//!
//! On first use a scope's rows are counted against its sealed head, and the head against the newest one
//! that the audit log knows. From then on the seal of the newest row of every id is in memory, and a row
//! that the store hands out must be exactly that one. A change takes the scope's lock, seals the new rows
//! and the new head in the HSM, and commits them together.
//!
//! Where others change the store too, a scope *catches up*: the steps that led from the head in memory to the newest
//! are read, and are right if they lead to that head's digest (the head is sealed). The lock is this process's own. Two
//! processes that change a scope at once meet in the store, at the head's revision: one gets
//! [`CommitError::Conflict`], catches up, and decides again.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use strongroom_hsm::{Pool, Seal, protocol::Moment};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{
    error::{Problem, ServiceError},
    hearing::Hearing,
};
use crate::{
    access::{Denied, Op, Permit},
    audit::{self, HeadMark},
    model::{
        AccessPolicyRow, AssignmentRow, EventRow, InstanceRow, IssuerKeyRow, KeyObjectRow, KnownRow, Ordinal,
        RoleDefinitionRow, Row, RowId, RowKind, SecretRow, SecretVersionRow, TokenRow, UsageRow, VaultRow, VersionRow,
    },
    store::{
        Change, CommitError, HeadChange, HeadRow, HeadScope, Position, RequestRecord, ScopeRows, Sealed, Step, Store,
        Way, WorkLease, Write, head::SetDigest,
    },
};

/// Half a seal: enough to tell the newest row from any other (128 bits of an HMAC).
type SealPrefix = [u8; 16];

/// How often a reader looks whether a commit has ended.
const COMMIT_POLL: Duration = Duration::from_millis(1);

fn prefix(seal: &Seal) -> SealPrefix {
    seal[..16].try_into().expect("a seal has 32 bytes")
}

/// What is known of one scope.
#[derive(Debug)]
pub struct ScopeCell {
    scope: HeadScope,
    /// The head's revision: changes with every change of the scope.
    revision: AtomicU64,
    /// A commit is on its way: the store may already show what memory does not know yet.
    committing: AtomicBool,
    known: RwLock<Known>,
    change: Arc<Mutex<()>>,
    /// Where the newest change stands that this process has made.
    position: AtomicU64,
    /// Grows whenever something was taken in that this process may not have made.
    news: AtomicU64,
    hearing: Arc<Hearing>,
}

#[derive(Debug, Default)]
struct Known {
    /// Whether memory and store are known to agree; not so before the first load and after a commit
    /// whose fate is unknown.
    sure: bool,
    /// Whether the scope was loaded before: from then on this process knows its head better than the log.
    loaded: bool,
    /// The head's revision.
    revision: u64,
    /// The head of a commit whose fate is unknown, as revision and short digest: the only other one that a
    /// later load may find.
    attempted: Option<(u64, [u8; 32])>,
    intent: u64,
    digest: SetDigest,
    newest: HashMap<RowId, Newest>,
    /// Of rows that were only sealed or wrapped anew: the seal before. Emptied when nothing is renewed any more.
    renewed: HashMap<RowId, SealPrefix>,
}

impl Known {
    /// Takes the steps to that head.
    fn take<'a>(&mut self, head: HeadRow, steps: impl Iterator<Item = &'a Step>) {
        self.digest = head.digest;
        self.intent = head.intent;
        self.revision = head.revision;
        for step in steps {
            match step.old.as_ref().filter(|_| step.renews) {
                Some((_, seal)) => self.renewed.insert(step.id.clone(), prefix(seal)),
                None => self.renewed.remove(&step.id),
            };
            match &step.new {
                Some((_, seal)) => {
                    let newest = Newest { seal: prefix(seal), in_use: step.in_use };
                    self.newest.insert(step.id.clone(), newest)
                }
                None => self.newest.remove(&step.id),
            };
        }
    }
}

/// The newest row of an id.
#[derive(Clone, Copy, Debug)]
struct Newest {
    seal: SealPrefix,
    /// Whether this process has written it as a row in use; not known (false) of what was loaded.
    in_use: bool,
}

impl ScopeCell {
    fn new(scope: HeadScope, hearing: Arc<Hearing>) -> Self {
        Self {
            scope,
            revision: AtomicU64::new(0),
            committing: AtomicBool::new(false),
            known: RwLock::default(),
            change: Arc::default(),
            position: AtomicU64::new(0),
            news: AtomicU64::new(0),
            hearing,
        }
    }

    /// How new what is known here is.
    #[must_use]
    pub fn hearing(&self) -> &Hearing {
        &self.hearing
    }

    /// How often something was taken in that others may have changed. Whoever makes something of the scope's rows keeps
    /// the count of before, and makes it anew when it has grown.
    #[must_use]
    pub fn news(&self) -> u64 {
        self.news.load(Ordering::Acquire)
    }

    /// Where the newest change stands that this process has made.
    #[must_use]
    pub fn position(&self) -> Position {
        Position(self.position.load(Ordering::Acquire))
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The head's revision. While it stays the same, no row of the scope has changed.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// The head as the audit log records it.
    #[must_use]
    pub fn mark(&self) -> HeadMark {
        let known = self.read();
        HeadMark {
            scope: self.scope.to_string(),
            revision: known.revision,
            digest: base16ct::lower::encode_string(&known.digest.short()),
        }
    }

    /// Whether that seal is the one of the newest row of that id.
    #[must_use]
    pub fn is_newest(&self, id: &RowId, seal: &Seal) -> bool {
        let known = self.read();
        known.sure && known.newest.get(id).is_some_and(|newest| newest.seal == prefix(seal))
    }

    /// Whether the newest row of that id is known to be in use, though it may have changed.
    #[must_use]
    pub fn is_in_use(&self, id: &RowId) -> bool {
        let known = self.read();
        known.sure && known.newest.get(id).is_some_and(|newest| newest.in_use)
    }

    /// Whether the newest row of that id says what the one of that seal said: it was only sealed or wrapped anew.
    #[must_use]
    pub fn is_renewed(&self, id: &RowId, seal: &Seal) -> bool {
        let known = self.read();
        known.sure && known.renewed.get(id).is_some_and(|before| *before == prefix(seal))
    }

    fn forget_renewed(&self) {
        let mut known = self.write();
        known.renewed = HashMap::new();
    }

    /// The rows that there are, each by its id and the beginning of its seal.
    #[must_use]
    pub fn rows(&self) -> HashMap<RowId, [u8; 16]> {
        self.read().newest.iter().map(|(id, newest)| (id.clone(), newest.seal)).collect()
    }

    fn was_loaded(&self) -> bool {
        self.read().loaded
    }

    fn is_before(&self, revision: u64) -> bool {
        self.read().revision < revision
    }

    /// What is known is not to be relied on: the scope is loaded again on its next use.
    fn doubt(&self) {
        let mut known = self.write();
        known.sure = false;
        // No revision of a head: every row that was checked before is looked at again.
        self.revision.store(u64::MAX, Ordering::Release);
    }

    /// Takes checked steps from the head of that revision, if it is still the one that is known.
    fn advance(&self, from: u64, head: HeadRow, way: &Way) -> bool {
        let mut known = self.write();
        if !known.sure || known.revision != from {
            return false;
        }
        known.take(head, way.changes.iter().flatten());
        self.news.fetch_add(1, Ordering::AcqRel);
        self.revision.store(known.revision, Ordering::Release);
        true
    }

    /// Whether a head of that revision and short digest is the one last written, or the one of a commit
    /// whose fate is unknown.
    fn may_be(&self, revision: u64, digest: [u8; 32]) -> bool {
        let known = self.read();
        (revision, digest) == (known.revision, known.digest.short()) || known.attempted == Some((revision, digest))
    }

    /// Whether a row of that id exists.
    #[must_use]
    pub fn has(&self, id: &RowId) -> bool {
        self.read().newest.contains_key(id)
    }

    /// Whether there are no rows at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let known = self.read();
        known.sure && known.newest.is_empty()
    }

    /// The intent that the head names.
    #[must_use]
    pub fn intent(&self) -> u64 {
        self.read().intent
    }

    /// The ids of all rows of that kind.
    #[must_use]
    pub fn ids(&self, kind: RowKind) -> HashSet<[u8; 16]> {
        self.read().newest.keys().filter(|id| id.kind == kind).map(|id| id.id).collect()
    }

    /// How many rows of that kind there are.
    #[must_use]
    pub fn count(&self, kind: RowKind) -> usize {
        self.read().newest.keys().filter(|id| id.kind == kind).count()
    }

    /// Waits for a commit of this process that is on its way.
    async fn settled(&self, deadline: Moment) -> Result<(), ServiceError> {
        while self.committing.load(Ordering::Acquire) {
            if Moment::now() >= deadline {
                return Err(Problem::DeadlineExceeded.into());
            }
            tokio::time::sleep(COMMIT_POLL).await;
        }
        if self.read().sure { Ok(()) } else { Err(Problem::Unavailable { what: "the store" }.into()) }
    }
}

/// A row to be written, and the row it replaces.
#[derive(Debug)]
pub struct Put {
    row: NewRow,
    replaces: Option<(u64, Seal)>,
    /// It says what the one that it replaces said.
    renews: bool,
    /// Inserted, whatever its revision.
    is_anew: bool,
}

/// The kinds of rows.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "each is its row's name")]
pub enum NewRow {
    Instance(Box<InstanceRow>),
    Vault(VaultRow),
    Key(KeyObjectRow),
    Version(Box<VersionRow>),
    Usage(UsageRow),
    Assignment(AssignmentRow),
    RemoveAssignment(AssignmentRow),
    Token(TokenRow),
    RemoveToken(TokenRow),
    IssuerKey(IssuerKeyRow),
    RemoveIssuerKey(IssuerKeyRow),
    RoleDefinition(Box<RoleDefinitionRow>),
    RemoveRoleDefinition(Box<RoleDefinitionRow>),
    AccessPolicy(AccessPolicyRow),
    RemoveAccessPolicy(AccessPolicyRow),
    RemoveUsage(UsageRow),
    RemoveVersion(Box<VersionRow>),
    RemoveKey(KeyObjectRow),
    RemoveVault(VaultRow),
    Known(KnownRow),
    RemoveKnown(KnownRow),
    Secret(Box<SecretRow>),
    RemoveSecret(Box<SecretRow>),
    SecretVersion(Box<SecretVersionRow>),
    RemoveSecretVersion(Box<SecretVersionRow>),
    /// In the scope that it leaves; the other scope of the same change writes it.
    LeaveVersion(Box<VersionRow>),
    LeaveUsage(UsageRow),
    /// In the scope that it comes to.
    MovedUsage(UsageRow),
}

/// Does the same with whichever row it is.
macro_rules! each {
    ($self:expr, $row:ident => $do:expr) => {
        match $self {
            NewRow::Instance($row) => $do,
            NewRow::Vault($row) | NewRow::RemoveVault($row) => $do,
            NewRow::Key($row) | NewRow::RemoveKey($row) => $do,
            NewRow::Version($row) | NewRow::RemoveVersion($row) | NewRow::LeaveVersion($row) => $do,
            NewRow::Usage($row) | NewRow::RemoveUsage($row) | NewRow::LeaveUsage($row) | NewRow::MovedUsage($row) => {
                $do
            }
            NewRow::Known($row) | NewRow::RemoveKnown($row) => $do,
            NewRow::Secret($row) | NewRow::RemoveSecret($row) => $do,
            NewRow::SecretVersion($row) | NewRow::RemoveSecretVersion($row) => $do,
            NewRow::Assignment($row) | NewRow::RemoveAssignment($row) => $do,
            NewRow::Token($row) | NewRow::RemoveToken($row) => $do,
            NewRow::IssuerKey($row) | NewRow::RemoveIssuerKey($row) => $do,
            NewRow::RoleDefinition($row) | NewRow::RemoveRoleDefinition($row) => $do,
            NewRow::AccessPolicy($row) | NewRow::RemoveAccessPolicy($row) => $do,
        }
    };
}

impl NewRow {
    /// Which row.
    pub(super) fn id(&self) -> RowId {
        each!(self, row => row.row_id())
    }

    fn revision(&self) -> u64 {
        each!(self, row => row.revision)
    }

    /// Whether it is not softly deleted.
    const fn is_in_use(&self) -> bool {
        match self {
            Self::Vault(row) => row.state.is_active(),
            Self::Key(row) => row.state.is_active(),
            Self::Secret(row) => row.state.is_active(),
            _ => true,
        }
    }

    fn canonical(&self) -> Vec<u8> {
        each!(self, row => row.canonical())
    }

    /// What the store is to write: nothing of what only leaves a scope.
    fn sealed(self, seal: Seal) -> Option<Write> {
        Some(match self {
            Self::Instance(row) => Write::instance(Sealed::new(*row, seal)),
            Self::Vault(row) => Write::Vault(Sealed::new(row, seal)),
            Self::Key(row) => Write::Key(Sealed::new(row, seal)),
            Self::Version(row) => Write::Version(Sealed::new(*row, seal)),
            Self::Usage(row) => Write::Usage(Sealed::new(row, seal)),
            Self::Assignment(row) => Write::Assignment(Sealed::new(row, seal)),
            Self::RemoveAssignment(row) => Write::RemoveAssignment(row.id),
            Self::Token(row) => Write::Token(Sealed::new(row, seal)),
            Self::RemoveToken(row) => Write::RemoveToken(row.id),
            Self::IssuerKey(row) => Write::IssuerKey(Sealed::new(row, seal)),
            Self::RemoveIssuerKey(row) => Write::RemoveIssuerKey(row.id),
            Self::RoleDefinition(row) => Write::RoleDefinition(Sealed::new(*row, seal)),
            Self::RemoveRoleDefinition(row) => Write::RemoveRoleDefinition(row.id),
            Self::AccessPolicy(row) => Write::AccessPolicy(Sealed::new(row, seal)),
            Self::RemoveAccessPolicy(row) => Write::RemoveAccessPolicy(row.row_id().id),
            Self::RemoveUsage(row) => Write::RemoveUsage(row.version),
            Self::RemoveVersion(row) => Write::RemoveVersion(row.version),
            Self::RemoveKey(row) => Write::RemoveKey(row.id),
            Self::RemoveVault(row) => Write::RemoveVault(row.id),
            Self::Known(row) => Write::Known(Sealed::new(row, seal)),
            Self::RemoveKnown(row) => Write::RemoveKnown(row.vault, row.id),
            Self::Secret(row) => Write::Secret(Sealed::new(*row, seal)),
            Self::RemoveSecret(row) => Write::RemoveSecret(row.id),
            Self::SecretVersion(row) => Write::SecretVersion(Sealed::new(*row, seal)),
            Self::RemoveSecretVersion(row) => Write::RemoveSecretVersion(row.version),
            Self::MovedUsage(row) => Write::MovedUsage(Sealed::new(row, seal)),
            Self::LeaveVersion(_) | Self::LeaveUsage(_) => return None,
        })
    }

    const fn is_removal(&self) -> bool {
        matches!(
            self,
            Self::RemoveAssignment(_)
                | Self::RemoveToken(_)
                | Self::RemoveIssuerKey(_)
                | Self::RemoveRoleDefinition(_)
                | Self::RemoveAccessPolicy(_)
                | Self::RemoveUsage(_)
                | Self::RemoveVersion(_)
                | Self::RemoveKey(_)
                | Self::RemoveVault(_)
                | Self::RemoveKnown(_)
                | Self::RemoveSecret(_)
                | Self::RemoveSecretVersion(_)
                | Self::LeaveVersion(_)
                | Self::LeaveUsage(_)
        )
    }
}

impl Put {
    /// A new row.
    #[must_use]
    pub const fn insert(row: NewRow) -> Self {
        Self { row, replaces: None, renews: false, is_anew: false }
    }

    /// A row that comes back, or from another scope, and goes on with its revisions.
    #[must_use]
    pub const fn bring_back(row: NewRow) -> Self {
        Self { row, replaces: None, renews: false, is_anew: true }
    }

    /// A row in place of one that was read under the scope's lock.
    #[must_use]
    pub fn replace<R: Row>(old: &R, old_seal: Seal, row: NewRow) -> Self {
        Self { row, replaces: Some((old.revision(), old_seal)), renews: false, is_anew: false }
    }

    /// A row that says what the one of the revision before says, whose seal that is: it was the newest under the scope's lock.
    #[must_use]
    pub fn renew(old_seal: Seal, row: NewRow) -> Self {
        Self { replaces: Some((row.revision() - 1, old_seal)), row, renews: true, is_anew: false }
    }

    /// Which row.
    #[must_use]
    pub fn id(&self) -> RowId {
        self.row.id()
    }

    /// Takes a row away that was read under the scope's lock: `row` is one of the removals.
    #[must_use]
    pub fn remove(row: NewRow, seal: Seal) -> Self {
        debug_assert!(row.is_removal(), "only a removal takes a row away");
        Self { replaces: Some((row.revision(), seal)), row, renews: false, is_anew: false }
    }

    fn write(self, seal: Seal) -> Option<Write> {
        let write = self.row.sealed(seal)?;
        Some(if self.is_anew { Write::Anew(Box::new(write)) } else { write })
    }

    /// Takes a token away.
    #[must_use]
    pub fn remove_token(row: TokenRow, seal: Seal) -> Self {
        Self { replaces: Some((row.revision, seal)), row: NewRow::RemoveToken(row), renews: false, is_anew: false }
    }
}

/// A scope whose rows nobody else in this process changes while this is held.
#[derive(Debug)]
pub struct Locked {
    cell: Arc<ScopeCell>,
    /// The head's revision when the lock was taken, or since its holder's last change. What is decided under the lock
    /// is decided on that state.
    revision: AtomicU64,
    _guard: OwnedMutexGuard<()>,
}

impl Locked {
    /// The scope.
    #[must_use]
    pub fn cell(&self) -> &Arc<ScopeCell> {
        &self.cell
    }
}

/// Waits for a scope's lock, until the deadline.
async fn acquire(cell: &ScopeCell, deadline: Moment) -> Result<OwnedMutexGuard<()>, ServiceError> {
    let left = deadline.since(Moment::now());
    let waiting = Arc::clone(&cell.change).lock_owned();
    Ok(tokio::time::timeout(left, waiting).await.map_err(|_| Problem::DeadlineExceeded)?)
}

/// Every scope that has been used.
pub struct Scopes {
    store: Arc<dyn Store>,
    pool: Pool,
    cells: RwLock<HashMap<HeadScope, Arc<ScopeCell>>>,
    /// What this replica's audit log knew at the start.
    logged: audit::Known,
    /// Whose log that is.
    ordinal: Ordinal,
    hearing: Arc<Hearing>,
    /// No change begins: by which keys rows are sealed and wrapped now is not known.
    held: AtomicBool,
}

impl Scopes {
    /// No scope has been used yet.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, pool: Pool, logged: audit::Known, ordinal: Ordinal) -> Self {
        let hearing = Arc::new(Hearing::new(store.is_shared()));
        let held = AtomicBool::new(false);
        Self { store, pool, cells: RwLock::default(), logged, ordinal, hearing, held }
    }

    /// How new what is known of all scopes is.
    #[must_use]
    pub const fn hearing(&self) -> &Arc<Hearing> {
        &self.hearing
    }

    /// The number of this replica.
    #[must_use]
    pub const fn ordinal(&self) -> Ordinal {
        self.ordinal
    }

    /// A scope, loaded and checked.
    ///
    /// # Errors
    /// When the store does not answer, or what it holds is not what was last written.
    pub async fn cell(&self, scope: HeadScope, deadline: Moment) -> Result<Arc<ScopeCell>, ServiceError> {
        let cell = self.entry(scope);
        if cell.read().sure {
            return Ok(cell);
        }
        let guard = acquire(&cell, deadline).await?;
        self.load(&cell, deadline).await?;
        drop(guard);
        Ok(cell)
    }

    /// Takes a scope's lock: until it is dropped nobody else changes a row of the scope.
    ///
    /// # Errors
    /// As [`Self::cell`].
    pub async fn lock(&self, scope: HeadScope, deadline: Moment) -> Result<Locked, ServiceError> {
        while self.held.load(Ordering::Acquire) {
            if Moment::now() >= deadline {
                return Err(Problem::DeadlineExceeded.into());
            }
            tokio::time::sleep(COMMIT_POLL).await;
        }
        let cell = self.entry(scope);
        let guard = acquire(&cell, deadline).await?;
        self.load(&cell, deadline).await?;
        if self.hearing.is_shared() {
            // Not to be sure, but to meet others seldom: whoever decides on an old state decides in vain.
            self.catch_up(&cell, deadline).await?;
            self.load(&cell, deadline).await?;
        }
        let revision = AtomicU64::new(cell.revision());
        Ok(Locked { cell, revision, _guard: guard })
    }

    /// Waits until every change is over that was under way in this process: those that follow are made of what is known now.
    ///
    /// # Errors
    /// When the deadline passes first.
    pub async fn settle_all(&self, deadline: Moment) -> Result<(), ServiceError> {
        let cells: Vec<_> =
            self.cells.read().unwrap_or_else(PoisonError::into_inner).values().map(Arc::clone).collect();
        for cell in cells {
            drop(acquire(&cell, deadline).await?);
        }
        Ok(())
    }

    /// Lets no change begin until [`Self::release`].
    pub fn hold(&self) {
        self.held.store(true, Ordering::Release);
    }

    /// Lets changes begin again.
    pub fn release(&self) {
        self.held.store(false, Ordering::Release);
    }

    /// Nothing is renewed any more.
    pub fn forget_renewed(&self) {
        self.cells.read().unwrap_or_else(PoisonError::into_inner).values().for_each(|cell| cell.forget_renewed());
    }

    /// A scope that was used before.
    #[must_use]
    pub fn known(&self, scope: HeadScope) -> Option<Arc<ScopeCell>> {
        self.cells.read().unwrap_or_else(PoisonError::into_inner).get(&scope).map(Arc::clone)
    }

    /// Says whether a scope is still at that revision once all changes are known that may explain what was read from
    /// the store.
    ///
    /// # Errors
    /// When the deadline passes first, or when a commit failed and nothing is known for sure.
    pub async fn settled_at(&self, cell: &ScopeCell, revision: u64, deadline: Moment) -> Result<bool, ServiceError> {
        cell.settled(deadline).await?;
        if self.hearing.is_shared() && cell.revision() == revision {
            self.catch_up(cell, deadline).await?;
        }
        if !cell.read().sure {
            // Others changed so much meanwhile that the way is forgotten.
            return Err(ServiceError::because(
                Problem::Changed { name: "the resource".to_owned() },
                CommitError::Conflict,
            ));
        }
        Ok(cell.revision() == revision)
    }

    /// Takes in what others have changed in a scope. One that nobody has used yet stays unknown.
    ///
    /// # Errors
    /// When the store does not answer, or what it holds does not follow from what is known.
    pub async fn catch_up(&self, cell: &ScopeCell, deadline: Moment) -> Result<(), ServiceError> {
        loop {
            let (from, digest, rows) = {
                let known = cell.read();
                if !known.sure {
                    return Ok(());
                }
                (known.revision, known.digest.clone(), known.newest.len())
            };
            let Some(way) = self.store.way(&cell.scope, from).await? else {
                // Nobody has written it yet; or some of the way was forgotten, or an older state was put back: the whole
                // scope says which.
                if from > 0 || self.store.head(&cell.scope).await?.is_some() {
                    cell.doubt();
                }
                return Ok(());
            };
            if way.changes.is_empty() {
                return Ok(());
            }
            let arrival = self.follow(cell, from, digest, rows, &way, deadline).await?;
            if cell.advance(from, arrival, &way) {
                return Ok(());
            }
            // Somebody else has taken the same steps, or a commit of our own was quicker.
        }
    }

    /// Checks that a way leads from the head that is known to the one the store holds.
    async fn follow(
        &self,
        cell: &ScopeCell,
        from: u64,
        mut digest: SetDigest,
        rows: usize,
        way: &Way,
        deadline: Moment,
    ) -> Result<HeadRow, ServiceError> {
        let (head, seal) = way.head.clone().into_unchecked();
        let mut count = i128::try_from(rows).map_err(|_| Problem::Internal)?;
        for step in way.changes.iter().flatten() {
            if let Some((revision, seal)) = &step.old {
                digest.remove(&step.id, *revision, seal);
                count -= 1;
            }
            if let Some((revision, seal)) = &step.new {
                digest.insert(&step.id, *revision, seal);
                count += 1;
            }
        }
        let right =
            self.pool.check_seals(vec![(head.canonical(), seal)], deadline).await.map_err(super::hands::outage)?;
        let leads = Ok(head.revision.saturating_sub(from)) == u64::try_from(way.changes.len());
        let fits = head.scope == cell.scope && head.digest == digest && i128::from(head.rows) == count;
        if right == [true] && leads && fits {
            return Ok(head);
        }
        let why = if right == [true] {
            "the changes since the last one that is known do not lead to it"
        } else {
            "its seal is wrong"
        };
        // What was known may not be served any more: a change is there, and nobody knows which.
        cell.doubt();
        Err(ServiceError::because(Problem::Tampered { name: format!("the head of scope {}", cell.scope) }, why))
    }

    fn entry(&self, scope: HeadScope) -> Arc<ScopeCell> {
        if let Some(cell) = self.cells.read().unwrap_or_else(PoisonError::into_inner).get(&scope) {
            return Arc::clone(cell);
        }
        let mut cells = self.cells.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(cells.entry(scope).or_insert_with(|| Arc::new(ScopeCell::new(scope, Arc::clone(&self.hearing)))))
    }

    /// Loads a scope unless memory and store agree. The caller holds the scope's lock.
    async fn load(&self, cell: &ScopeCell, deadline: Moment) -> Result<(), ServiceError> {
        if cell.read().sure {
            return Ok(());
        }
        let ScopeRows { head, rows } = self.store.scope(&cell.scope).await?;
        let mut digest = SetDigest::default();
        let mut newest = HashMap::with_capacity(rows.len());
        for (id, revision, seal) in &rows {
            digest.insert(id, *revision, seal);
            newest.insert(id.clone(), Newest { seal: prefix(seal), in_use: false });
        }
        let (revision, intent) = self.check_head(cell, head, &digest, rows.len(), deadline).await?;
        let mut known = cell.write();
        if known.loaded {
            cell.news.fetch_add(1, Ordering::AcqRel);
        }
        let renewed = HashMap::new();
        *known = Known { sure: true, loaded: true, revision, attempted: None, intent, digest, newest, renewed };
        cell.revision.store(revision, Ordering::Release);
        Ok(())
    }

    /// Checks a scope's head: its seal, its rows, and that it is not older than the log knows.
    async fn check_head(
        &self,
        cell: &ScopeCell,
        head: Option<Sealed<HeadRow>>,
        digest: &SetDigest,
        rows: usize,
        deadline: Moment,
    ) -> Result<(u64, u64), ServiceError> {
        let scope = cell.scope;
        let tampered = |why: &str| {
            ServiceError::because(Problem::Tampered { name: format!("the head of scope {scope}") }, why.to_owned())
        };
        if cell.was_loaded() {
            let found = head.as_ref().map_or(0, |head| head.unchecked().revision);
            let newer = self.hearing.is_shared() && cell.is_before(found);
            if !newer && !cell.may_be(found, digest.short()) {
                return Err(tampered(
                    "it is neither the head that was last written nor the one that was being written",
                ));
            }
        }
        // Of a scope that this process has changed, the log's state at the start says nothing any more.
        // A revision of 0 is that of a scope that had no head yet.
        let logged = self.logged.heads.get(&scope.to_string());
        let logged = logged.filter(|mark| !cell.was_loaded() && mark.revision > 0);
        let Some(head) = head else {
            return match (rows, logged) {
                (0, None) => Ok((0, 0)),
                (0, Some(mark)) => Err(tampered(&format!("it is missing; the log knows revision {}", mark.revision))),
                _ => Err(tampered("it is missing, and the scope has rows")),
            };
        };
        let (head, seal) = head.into_unchecked();
        let right =
            self.pool.check_seals(vec![(head.canonical(), seal)], deadline).await.map_err(super::hands::outage)?;
        if right != [true] || head.scope != scope {
            return Err(tampered("its seal is wrong"));
        }
        if head.digest != *digest || usize::try_from(head.rows) != Ok(rows) {
            return Err(tampered("the scope's rows are not the ones it counts: a row was removed, added or put back"));
        }
        let own = self.ordinal.index(head.intent);
        if !cell.was_loaded() && own.is_some_and(|index| index >= self.logged.next_index) {
            return Err(tampered(
                "the audit log ends before the newest change of the store: it was lost, or an older one put back",
            ));
        }
        match logged {
            Some(mark) if mark.revision > head.revision => Err(tampered(&format!(
                "it has revision {}; the log knows revision {}: an older state was put back",
                head.revision, mark.revision
            ))),
            Some(mark)
                if mark.revision == head.revision && mark.digest != base16ct::lower::encode_string(&digest.short()) =>
            {
                Err(tampered("the log knows another state of the same revision"))
            }
            _ => Ok((head.revision, head.intent)),
        }
    }

    /// Whether a commit that failed was applied after all: what the store's head says, if it answers.
    async fn fate(&self, attempted: &HeadRow) -> Option<bool> {
        let head = self.store.head(&attempted.scope).await.ok()?;
        let found = head.as_ref().map_or(0, |head| head.unchecked().revision);
        match head {
            Some(head) if *head.unchecked() == *attempted => Some(true),
            _ if found + 1 == attempted.revision => Some(false),
            _ => None,
        }
    }

    /// A seal for each row, of which those that are taken away need none, and sealed events.
    async fn seal(
        &self,
        puts: &[&Put],
        events: Vec<EventRow>,
        deadline: Moment,
    ) -> Result<(Vec<Seal>, Vec<Sealed<EventRow>>), ServiceError> {
        let kept = puts.iter().filter(|put| !put.row.is_removal()).map(|put| put.row.canonical());
        let forms: Vec<Vec<u8>> = kept.chain(events.iter().map(Row::canonical)).collect();
        if forms.is_empty() {
            return Ok((vec![[0; 32]; puts.len()], Vec::new()));
        }
        let count = forms.len();
        let made = self.pool.seal(forms, deadline).await.map_err(super::hands::outage)?;
        if made.len() != count {
            return Err(Problem::Internal.into());
        }
        let mut made = made.into_iter();
        let mut next = || made.next().unwrap_or_default();
        let seals = puts.iter().map(|put| if put.row.is_removal() { [0; 32] } else { next() }).collect();
        let events = events.into_iter().map(|event| Sealed::new(event, next())).collect();
        Ok((seals, events))
    }

    /// Seals and commits rows of one locked scope, with its new head. Returns the mark for the record.
    ///
    /// # Errors
    /// [`Problem::Changed`] when the store holds something else than was read; [`Problem::Unknown`]
    /// when the store failed during the commit.
    pub async fn commit(&self, locked: &Locked, change: Making<'_>, puts: Vec<Put>) -> Result<Committed, ServiceError> {
        self.commit_and_tell(locked, change, puts, Vec::new()).await
    }

    /// As [`Self::commit`], with what others are told of it.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub async fn commit_and_tell(
        &self,
        locked: &Locked,
        change: Making<'_>,
        puts: Vec<Put>,
        events: Vec<EventRow>,
    ) -> Result<Committed, ServiceError> {
        let mut committed = self.commit_together(vec![(locked, puts)], change, events).await?;
        Ok(committed.pop().ok_or(Problem::Internal)?)
    }

    /// Commits rows of one locked scope, and with them a new head of another whose rows stay as they are: whoever decides
    /// something on that one's state meets the change, as if it were one of its own. Returns the marks of both.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub async fn commit_beside(
        &self,
        locked: &Locked,
        beside: &Locked,
        change: Making<'_>,
        puts: Vec<Put>,
    ) -> Result<Vec<HeadMark>, ServiceError> {
        let parts = vec![(locked, puts), (beside, Vec::new())];
        let committed = self.commit_together(parts, change, Vec::new()).await?;
        Ok(committed.into_iter().map(|committed| committed.mark).collect())
    }

    /// As [`Self::commit_and_tell`], of several locked scopes in one change: all of it or nothing. Says what is durable of
    /// each, in their order.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub async fn commit_together(
        &self,
        parts: Vec<(&Locked, Vec<Put>)>,
        change: Making<'_>,
        events: Vec<EventRow>,
    ) -> Result<Vec<Committed>, ServiceError> {
        let Making { name, right, intent, request, deadline } = change;
        let all: Vec<&Put> = parts.iter().flat_map(|(_, puts)| puts).collect();
        let (seals, events) = self.seal(&all, events, deadline).await?;
        let (mut drafts, mut seals) = (Vec::with_capacity(parts.len()), seals.into_iter());
        for (locked, puts) in parts {
            let seals = seals.by_ref().take(puts.len()).collect();
            drafts.push(Draft::new(locked, puts, seals, intent)?);
        }
        let heads = drafts.iter().map(|draft| draft.head.canonical()).collect();
        let head_seals = self.pool.seal(heads, deadline).await.map_err(super::hands::outage)?;
        if head_seals.len() != drafts.len() {
            return Err(Problem::Internal.into());
        }
        let heads = drafts.iter().zip(head_seals);
        let heads = heads.map(|(draft, seal)| draft.head_change(seal)).collect();
        let writes = drafts.iter_mut().flat_map(Draft::take_writes).collect();
        let (lease, is_urgent) = (right.lease().cloned(), right.is_urgent());
        let change = Change { name, writes, heads, request, lease, events, is_urgent };
        right.check()?;
        self.write(change, drafts).await
    }

    /// Writes a change, and takes in what came of it.
    async fn write(&self, change: Change, drafts: Vec<Draft<'_>>) -> Result<Vec<Committed>, ServiceError> {
        let under_way: Vec<UnderWay> = drafts.iter().map(Draft::begin).collect();
        let committed = self.store.commit(change).await;
        let position = match committed {
            Ok(position) => Some(position),
            Err(CommitError::Store(error)) => {
                // One transaction: what one of its heads says is true of all.
                let first = drafts.first().ok_or(Problem::Internal)?;
                match self.fate(&first.head).await {
                    Some(true) => None,
                    Some(false) => {
                        under_way.into_iter().for_each(UnderWay::nothing);
                        return Err(ServiceError::because(Problem::Unavailable { what: "the store" }, error));
                    }
                    None => return Err(ServiceError::because(Problem::Unknown { what: "store" }, error)),
                }
            }
            Err(error) => {
                under_way.into_iter().for_each(UnderWay::nothing);
                return Err(ServiceError::because(Problem::Changed { name: "the resource".to_owned() }, error));
            }
        };
        let done = drafts.into_iter().zip(under_way);
        Ok(done.map(|(draft, under_way)| draft.done(under_way, position)).collect())
    }
}

/// What is about to be written in one scope.
struct Draft<'a> {
    locked: &'a Locked,
    puts: Vec<Put>,
    seals: Vec<Seal>,
    head: HeadRow,
    steps: Vec<Step>,
}

impl<'a> Draft<'a> {
    fn new(locked: &'a Locked, puts: Vec<Put>, seals: Vec<Seal>, intent: u64) -> Result<Self, ServiceError> {
        let raced =
            || ServiceError::because(Problem::Changed { name: "the resource".to_owned() }, CommitError::Conflict);
        let decided_on = locked.revision.load(Ordering::Acquire);
        let (head, steps) = next_head(&locked.cell, decided_on, &puts, &seals, intent).ok_or_else(raced)?;
        Ok(Self { locked, puts, seals, head, steps })
    }

    fn head_change(&self, seal: Seal) -> HeadChange {
        HeadChange { head: Sealed::new(self.head.clone(), seal), steps: self.steps.clone() }
    }

    fn take_writes(&mut self) -> Vec<Write> {
        let puts = std::mem::take(&mut self.puts).into_iter().zip(&self.seals);
        puts.filter_map(|(put, seal)| put.write(*seal)).collect()
    }

    fn begin(&self) -> UnderWay {
        UnderWay::begin(Arc::clone(&self.locked.cell), (self.head.revision, self.head.digest.short()))
    }

    fn done(self, under_way: UnderWay, position: Option<Position>) -> Committed {
        let mark = HeadMark {
            scope: self.head.scope.to_string(),
            revision: self.head.revision,
            digest: base16ct::lower::encode_string(&self.head.digest.short()),
        };
        let revision = self.head.revision;
        under_way.done(self.head, &self.steps, position);
        self.locked.revision.store(revision, Ordering::Release);
        Committed { mark, seals: self.seals }
    }
}

/// What must still hold when a change is committed: its permit, which may have been revoked while the
/// change waited for the scope's lock or for the HSM.
pub trait Right: Send + Sync {
    /// Whether the change may still be made.
    ///
    /// # Errors
    /// When it may not.
    fn check(&self) -> Result<(), Denied>;

    /// The lease under which it is made, where it is scheduled work.
    fn lease(&self) -> Option<&WorkLease> {
        None
    }

    /// Whether its answer waits until every replica has heard of it.
    fn is_urgent(&self) -> bool {
        false
    }
}

impl<O: Op> Right for Permit<O> {
    fn check(&self) -> Result<(), Denied> {
        if self.still_holds() { Ok(()) } else { Err(self.denied()) }
    }

    fn is_urgent(&self) -> bool {
        O::ACTION.waits_for_all()
    }
}

/// A change that the service makes by itself.
#[derive(Debug)]
pub struct ByItself;

impl Right for ByItself {
    fn check(&self) -> Result<(), Denied> {
        Ok(())
    }
}

/// Scheduled work, which one replica does.
impl Right for WorkLease {
    fn check(&self) -> Result<(), Denied> {
        Ok(())
    }

    fn lease(&self) -> Option<&WorkLease> {
        Some(self)
    }
}

/// A commit that is on its way. Unless it is said to be done, memory is no longer known to agree with
/// the store, and the scope is loaded again on its next use.
struct UnderWay {
    cell: Arc<ScopeCell>,
    done: bool,
}

impl UnderWay {
    fn begin(cell: Arc<ScopeCell>, attempted: (u64, [u8; 32])) -> Self {
        cell.write().attempted = Some(attempted);
        cell.committing.store(true, Ordering::Release);
        Self { cell, done: false }
    }

    /// It is known that nothing was applied.
    fn nothing(mut self) {
        self.cell.write().attempted = None;
        self.done = true;
    }

    /// It is applied; where it stands is not known after a failure.
    fn done(mut self, head: HeadRow, steps: &[Step], position: Option<Position>) {
        apply(&self.cell, head, steps);
        self.cell.position.store(position.map_or(u64::MAX, |position| position.0), Ordering::Release);
        self.done = true;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if !self.done {
            self.cell.doubt();
        }
        self.cell.committing.store(false, Ordering::Release);
    }
}

/// What a change is made with, beside its rows.
pub struct Making<'a> {
    /// What kind of change, as a metric label.
    pub name: &'static str,
    /// What must still hold when it is committed.
    pub right: &'a dyn Right,
    /// The audit log's index of its intent; 0 when it has none.
    pub intent: u64,
    /// The caller's request id, if there is one.
    pub request: Option<RequestRecord>,
    /// When to give up before the commit.
    pub deadline: Moment,
}

/// A change that is durable.
#[derive(Debug)]
pub struct Committed {
    /// The scope's new head, for the outcome record.
    pub mark: HeadMark,
    /// The seals of the rows, in the order they were put.
    pub seals: Vec<Seal>,
}

/// The head after these rows, and the steps to it; `None` when the scope is not any more as it was when they were
/// decided on.
fn next_head(
    cell: &ScopeCell,
    decided_on: u64,
    puts: &[Put],
    seals: &[Seal],
    intent: u64,
) -> Option<(HeadRow, Vec<Step>)> {
    let known = cell.read();
    if !known.sure || known.revision != decided_on {
        return None;
    }
    let mut digest = known.digest.clone();
    let mut rows = u64::try_from(known.newest.len()).expect("a count fits");
    let mut steps = Vec::with_capacity(puts.len());
    for (put, seal) in puts.iter().zip(seals) {
        let id = put.row.id();
        match &put.replaces {
            Some((revision, old)) => digest.remove(&id, *revision, old),
            None => rows += 1,
        }
        let new = (!put.row.is_removal()).then(|| (put.row.revision(), *seal));
        match &new {
            Some((revision, seal)) => digest.insert(&id, *revision, seal),
            None => rows -= 1,
        }
        let in_use = new.is_some() && put.row.is_in_use();
        steps.push(Step { id, old: put.replaces, new, in_use, renews: put.renews });
    }
    let revision = known.revision + 1;
    Some((HeadRow { scope: cell.scope, revision, rows, intent: newest_intent(known.intent, intent), digest }, steps))
}

/// The intent that a head names: the largest of the replica that changed it last. A change that the service makes by
/// itself has none.
fn newest_intent(known: u64, new: u64) -> u64 {
    match (new, Ordinal::of(new) == Ordinal::of(known)) {
        (0, _) => known,
        (_, true) => new.max(known),
        (_, false) => new,
    }
}

fn apply(cell: &ScopeCell, head: HeadRow, steps: &[Step]) {
    let mut known = cell.write();
    // Whoever caught up meanwhile has taken this very step from the store.
    if known.revision < head.revision {
        known.take(head, steps.iter());
    }
    known.attempted = None;
    // Under the lock: whoever sees the new revision sees the new rows.
    cell.revision.store(known.revision, Ordering::Release);
}
