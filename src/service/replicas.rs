//! This process among the replicas of its instance: what it hears of the others, and what it tells them.
//!
//! * It *hears*: which scopes others have changed, and takes in what (ADR 0011). What its policy and tokens are made
//!   of is made anew before a hearing counts.
//! * It gives *signs of life*, with how far it has heard, so that who has changed something can wait for it.
//! * Its *row* in the store is sealed, and says how far its audit log was at the last checkpoint: a log that is shorter
//!   at the next start was cut, and one that never comes back is a gap that everybody sees.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use strongroom_hsm::{Pool, Seal, protocol::Moment};
use tokio::{
    sync::Mutex,
    time::{sleep, timeout},
};

use super::{
    Caller, Service,
    door::Note,
    error::{Problem, ServiceError},
    fresh_id,
    hearing::{EVERY, Hearing},
    tokens,
};
use crate::{
    access::{Permit, ops},
    audit::{HeadMark, Log, prove::Prover},
    model::{Clock, InstanceRow, Ordinal, ReplicaName, ReplicaRow, Row as _, Scope},
    observe::metrics::{BEHIND, HEARD_AGE_SECONDS, IN_FORCE_SECONDS, REPLICAS},
    store::{Beat, CommitError, HeadScope, Position, Replica, Sealed, Store, StoreError, WorkLease},
};

/// For how long one hearing may take, and what it makes anew.
const HEAR_WITHIN: Duration = Duration::from_secs(10);
/// For how long a request waits for one, when what is known is too old.
const HEAR_INLINE: Duration = Duration::from_secs(1);
/// How often a process that has its store for itself says so.
const ALONE_EVERY: Duration = Duration::from_secs(30);
/// What is wrong with a replica whose row somebody wrote who has not the HSM.
const ALTERED: &str =
    "its row does not match its seal: the store was altered, and what it says of the log is not to be believed";
/// How often who waits for others looks whether they have heard.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// A replica that has given no sign of life for so long serves nothing from memory: nobody waits for it.
const SILENT_AFTER: Duration = Duration::from_secs(5);
/// Less than for how long who rotates the root waits for a replica that gives no sign of life (`root::adopt`).
const NOT_WAITED_FOR: Duration = Duration::from_secs(10);

/// Who this process is, before anything is checked: what its log is called depends on it.
#[derive(Clone, Debug)]
pub struct Seat {
    /// Its name.
    pub name: ReplicaName,
    /// Its number: the one it has, or the next.
    pub ordinal: Ordinal,
    /// Its row, unchecked; `None` when it has never served.
    pub row: Option<Sealed<ReplicaRow>>,
}

impl Seat {
    /// Looks for a replica of that name, or for a place for it.
    ///
    /// # Errors
    /// When the store does not answer, or there are as many replicas as there can be.
    pub async fn find(store: &dyn Store, name: &ReplicaName) -> Result<Self, StoreError> {
        let all = store.replicas().await?;
        let named = all.iter().find(|replica| replica.row.unchecked().name == *name);
        let next = all.iter().map(|replica| replica.row.unchecked().ordinal.get() + 1).max().unwrap_or(0);
        let ordinal = match named {
            Some(replica) => Some(replica.row.unchecked().ordinal),
            None => Ordinal::new(next),
        };
        let full = StoreError::Inconsistent { table: "replicas", column: "ordinal" };
        let row = named.map(|replica| replica.row.clone());
        Ok(Self { name: name.clone(), ordinal: ordinal.ok_or(full)?, row })
    }
}

/// This replica's own row.
pub(super) struct Own {
    store: Arc<dyn Store>,
    pool: Pool,
    row: Mutex<OwnRow>,
}

struct OwnRow {
    row: ReplicaRow,
    seal: Seal,
    /// What a write left that failed: it stands in the store, or the one before.
    attempted: Option<(ReplicaRow, Seal)>,
}

impl OwnRow {
    /// Finds out which of the two a failed write has left.
    async fn settle(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        if let Some((row, seal)) = self.attempted.clone() {
            let all = store.replicas().await?;
            if all.iter().any(|replica| *replica.row.seal() == seal) {
                (self.row, self.seal) = (row, seal);
            }
            self.attempted = None;
        }
        Ok(())
    }
}

impl Own {
    /// Checks the row of a seat against the log, or makes it.
    pub(super) async fn take(
        seat: Seat,
        store: &Arc<dyn Store>,
        pool: &Pool,
        log: &Arc<Log>,
        clock: &dyn Clock,
        deadline: Moment,
    ) -> Result<Self, ServiceError> {
        alone_if_it_must_be(&seat, &**store).await?;
        if let Some(row) = seat.row {
            let (row, seal) = row.into_unchecked();
            check(&row, seal, pool, log, deadline).await?;
            return Self::of(row, seal, store, pool).reopened(deadline).await;
        }
        if seat.ordinal != Ordinal::default() && log.known().next_index > 0 {
            let name = format!("the row of replica {}", seat.name);
            let why = "it is missing: the replica has an audit log with records, and the store does not know it";
            return Err(ServiceError::because(Problem::Tampered { name }, why));
        }
        let row = ReplicaRow {
            id: fresh_id(),
            ordinal: seat.ordinal,
            name: seat.name,
            created: clock.now(),
            log_size: 0,
            log_root: [0; 32],
            closed: false,
            revision: 1,
        };
        let seal = seal(pool, &row, deadline).await?;
        match store.put_replica(Sealed::new(row.clone(), seal)).await {
            Ok(()) => Ok(Self::of(row, seal, store, pool)),
            Err(CommitError::Store(error)) => Err(error.into()),
            Err(_) => {
                let name = &row.name;
                let why =
                    format!("another process has taken the place of replica {name} at the same time: start again");
                Err(Problem::Precondition { reason: "REPLICA_TAKEN", why }.into())
            }
        }
    }

    fn of(row: ReplicaRow, seal: Seal, store: &Arc<dyn Store>, pool: &Pool) -> Self {
        let row = Mutex::new(OwnRow { row, seal, attempted: None });
        Self { store: Arc::clone(store), pool: pool.clone(), row }
    }

    /// Before it serves: others take a closed one for stopped.
    async fn reopened(self, deadline: Moment) -> Result<Self, ServiceError> {
        let (size, root) = {
            let own = self.row.lock().await;
            (own.row.log_size, own.row.log_root)
        };
        self.note(size, root, false, deadline).await?;
        Ok(self)
    }

    /// Keeps in the store how far the log is, by its newest checkpoint.
    pub(super) async fn note(
        &self,
        size: u64,
        root: [u8; 32],
        closed: bool,
        deadline: Moment,
    ) -> Result<(), ServiceError> {
        let mut own = self.row.lock().await;
        own.settle(&*self.store).await?;
        if (own.row.log_size, own.row.closed) == (size, closed) {
            return Ok(());
        }
        let row = ReplicaRow { log_size: size, log_root: root, closed, ..own.row.clone() };
        self.put(&mut own, row, deadline).await
    }

    /// Seals the row by the key of now, whatever it was sealed by.
    pub(super) async fn seal_anew(&self, deadline: Moment) -> Result<(), ServiceError> {
        let mut own = self.row.lock().await;
        own.settle(&*self.store).await?;
        let row = own.row.clone();
        self.put(&mut own, row, deadline).await
    }

    /// Writes the row, of the next revision.
    async fn put(&self, own: &mut OwnRow, row: ReplicaRow, deadline: Moment) -> Result<(), ServiceError> {
        let mut row = ReplicaRow { revision: own.row.revision + 1, ..row };
        for is_last in [false, true] {
            let seal = seal(&self.pool, &row, deadline).await?;
            own.attempted = Some((row.clone(), seal));
            match self.store.put_replica(Sealed::new(row.clone(), seal)).await {
                Ok(()) => {
                    *own = OwnRow { row, seal, attempted: None };
                    return Ok(());
                }
                Err(CommitError::Store(error)) => return Err(error.into()),
                // While this replica was silent another has sealed the row anew.
                Err(_) if !is_last && self.was_sealed_anew(own, deadline).await? => row.revision = own.row.revision + 1,
                Err(error) => {
                    let name = format!("the row of replica {}", row.name);
                    return Err(ServiceError::because(Problem::Tampered { name }, error));
                }
            }
        }
        Err(Problem::Internal.into())
    }

    /// Whether the row that stands in the store says what this replica's own says, under a right seal: then it is taken in.
    async fn was_sealed_anew(&self, own: &mut OwnRow, deadline: Moment) -> Result<bool, ServiceError> {
        let all = self.store.replicas().await?;
        let Some(found) = all.into_iter().map(|replica| replica.row).find(|row| row.unchecked().id == own.row.id)
        else {
            return Ok(false);
        };
        let (row, seal) = found.into_unchecked();
        let same = ReplicaRow { revision: own.row.revision, ..row.clone() } == own.row;
        let pairs = vec![(row.canonical(), seal)];
        let right = self.pool.check_seals(pairs, deadline).await.map_err(super::hands::outage)?;
        let is_ours = same && row.revision > own.row.revision && right == [true];
        if is_ours {
            *own = OwnRow { row, seal, attempted: None };
        }
        Ok(is_ours)
    }

    /// A sign of life of one that goes by no keys yet.
    pub(super) async fn beginning(&self) -> Beat {
        Beat {
            replica: self.name().await,
            heard: Position::default(),
            adopted: 0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            address: String::new(),
            trouble: "it starts".to_owned(),
        }
    }

    /// Who this is.
    pub(super) async fn name(&self) -> ReplicaName {
        self.row.lock().await.row.name.clone()
    }
}

/// A store that is not shared has one replica: nobody tells it what another changes. Another one's name, and so an
/// empty log, is refused as long as the store knows whose it is, and one that serves is not joined.
async fn alone_if_it_must_be(seat: &Seat, store: &dyn Store) -> Result<(), ServiceError> {
    if store.is_shared() {
        return Ok(());
    }
    let all = store.replicas().await?;
    let others: Vec<&Replica> = all.iter().filter(|replica| replica.row.unchecked().name != seat.name).collect();
    let serves = |replica: &&&Replica| {
        let is_closed = replica.row.unchecked().closed;
        !is_closed && replica.beat.as_ref().is_some_and(|(_, age)| *age < ALONE_EVERY * 2)
    };
    if let Some(other) = others.iter().find(serves) {
        let name = &other.row.unchecked().name;
        let why = format!("replica {name} serves from this store, which is a file: one process at a time uses it");
        return Err(Problem::Precondition { reason: "REPLICA_SERVES", why }.into());
    }
    match others.first() {
        Some(other) if seat.row.is_none() => {
            let name = &other.row.unchecked().name;
            let why = format!(
                "the store, which is a file, is that of replica {name}: say [replica] name = \"{name}\" and bring its audit log"
            );
            Err(Problem::Precondition { reason: "ANOTHER_REPLICA", why }.into())
        }
        _ => Ok(()),
    }
}

async fn seal(pool: &Pool, row: &ReplicaRow, deadline: Moment) -> Result<Seal, ServiceError> {
    let seals = pool.seal(vec![row.canonical()], deadline).await.map_err(super::hands::outage)?;
    Ok(*seals.first().ok_or(Problem::Internal)?)
}

/// Checks the seal of a replica's row, and that its log is the one the row speaks of.
async fn check(
    row: &ReplicaRow,
    seal: Seal,
    pool: &Pool,
    log: &Arc<Log>,
    deadline: Moment,
) -> Result<(), ServiceError> {
    let right = pool.check_seals(vec![(row.canonical(), seal)], deadline).await.map_err(super::hands::outage)?;
    if right != [true] {
        return Err(Problem::Tampered { name: format!("the row of replica {}", row.name) }.into());
    }
    let (size, root) = (row.log_size, row.log_root);
    if size == 0 {
        return Ok(());
    }
    let prover = Prover::new(log.dir());
    let found = tokio::task::spawn_blocking(move || prover.root(size)).await;
    let found = found.map_err(|error| ServiceError::because(Problem::Internal, error))?;
    let found = found.map_err(|error| ServiceError::because(Problem::Internal, error))?;
    if found == Some(root) {
        return Ok(());
    }
    let why = match found {
        None => format!(
            "it has fewer than the {size} records that the store knows of: it was cut, or an older one put back; if its disk is \
             lost, give this replica another name, and the loss stays visible as a gap"
        ),
        Some(_) => format!("its first {size} records are not those that the store knows of"),
    };
    Err(ServiceError::because(Problem::Tampered { name: format!("the audit log of replica {}", row.name) }, why))
}

impl Service {
    /// How new what is in memory is.
    #[must_use]
    pub fn hearing(&self) -> &Arc<Hearing> {
        self.catalog.scopes.hearing()
    }

    /// Hears what others have changed, and takes it in.
    ///
    /// # Errors
    /// When the store does not answer, or what it holds is not what was written.
    pub async fn hear(&self) -> Result<(), ServiceError> {
        let asked = Moment::now();
        let _turn = self.hearing_turn.lock().await;
        if !self.hearing().is_shared() || self.hearing().is_within(Moment::now().since(asked)) {
            return Ok(());
        }
        let signed_at = self.signed_at.load(Ordering::Acquire);
        if signed_at > 0 && Moment::now().since(Moment(signed_at)) > NOT_WAITED_FOR {
            // Another root may have taken the root's place meanwhile, and nobody waited for this replica: what it made by the keys
            // that it knows would be lost with the old one. The job that adopts them lets it go on.
            self.catalog.scopes.hold();
        }
        if Moment::now().since(Moment(signed_at)) > SILENT_AFTER / 2 {
            // Before it serves again: whoever changes something after this hearing has to know of this replica.
            self.give_sign().await?;
        }
        let began = Moment::now();
        let deadline = began.after(HEAR_WITHIN);
        let heard = self.store.heard(self.hearing().position()).await?;
        for (scope, revision) in heard.heads {
            self.take_in(scope, revision, deadline).await?;
        }
        // Whoever has caught up, here or on the way to a change. This future may be dropped at any await, so it is noted
        // only afterwards that all is made anew.
        let news = self.catalog.scopes.cell(HeadScope::Service, deadline).await?.news();
        if news != self.made_of_news.load(Ordering::Acquire) {
            self.make_anew(deadline).await?;
            self.made_of_news.store(news, Ordering::Release);
        }
        if self.hearing().position().is_some() {
            metrics::histogram!(HEARD_AGE_SECONDS).record(self.hearing().age());
        }
        self.hearing().took_in(heard.position, began);
        Ok(())
    }

    /// Takes in what others have changed in a scope. A vault that was altered is not served, and the others are.
    async fn take_in(&self, scope: HeadScope, revision: u64, deadline: Moment) -> Result<(), ServiceError> {
        let Some(cell) = self.catalog.scopes.known(scope) else { return Ok(()) };
        if revision <= cell.revision() {
            return Ok(());
        }
        match self.catalog.scopes.catch_up(&cell, deadline).await {
            Err(error) if scope != HeadScope::Service && matches!(error.problem, Problem::Tampered { .. }) => {
                tracing::error!(%scope, %error, cause = ?error.cause, "a vault is not served any more");
                Ok(())
            }
            result => result,
        }
    }

    /// Takes in what others have changed in the service's scope: newer than what a hearing has promised.
    pub(super) async fn catch_up_service(&self, deadline: Moment) -> Result<(), ServiceError> {
        if !self.hearing().is_shared() {
            return Ok(());
        }
        let cell = self.catalog.scopes.cell(HeadScope::Service, deadline).await?;
        self.catalog.scopes.catch_up(&cell, deadline).await
    }

    /// Makes policy and tokens anew from the service's scope, while nobody here changes it: a token that was just issued
    /// must not be missing from what was read a moment before.
    async fn make_anew(&self, deadline: Moment) -> Result<(), ServiceError> {
        let locked = self.catalog.scopes.lock(HeadScope::Service, deadline).await?;
        self.read_policy(&locked, deadline).await?;
        let key = tokens::load(&self.catalog, &self.issued, deadline).await?;
        self.issuer_key.store(key.load_full());
        Ok(())
    }

    /// Hears, or says that this replica is behind.
    pub(super) async fn hear_by(&self, deadline: Moment) -> Result<(), ServiceError> {
        let left = deadline.since(Moment::now()).min(HEAR_INLINE);
        let failed = match timeout(left, self.hear()).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) if matches!(error.problem, Problem::Tampered { .. }) => return Err(error),
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        metrics::counter!(BEHIND).increment(1);
        let problem = Problem::Behind { age: self.hearing().age() };
        Err(match failed {
            Some(error) => ServiceError::because(problem, error),
            None => problem.into(),
        })
    }

    /// Hears again and again: whenever the store hints at a change, and at least every [`EVERY`]. Ends with the task.
    pub async fn listen(&self, address: &str) {
        // Nobody else says where this process serves.
        let _ = self.address.set(address.to_owned());
        let mut failing = false;
        let mut next_sign = Moment::now();
        loop {
            // Nobody else listens where the store is not shared.
            let every = if self.hearing().is_shared() { EVERY } else { ALONE_EVERY };
            if failing {
                // A store that fails is not asked in a circle.
                sleep(EVERY).await;
            } else {
                // What is hinted at is heard at once; the first time there is nothing to wait for.
                let wait = next_sign.since(Moment::now()).min(every);
                if timeout(wait, self.store.hint()).await == Ok(true) {
                    next_sign = Moment::now();
                }
            }
            let told = self.hear_and_tell(&mut next_sign, every).await;
            match &told {
                Ok(()) if failing => tracing::info!("the store is heard from again"),
                Err(error) if !failing => {
                    tracing::error!(%error, cause = ?error.cause, "the store is not heard from: nothing is served from memory soon");
                }
                Ok(()) | Err(_) => {}
            }
            failing = told.is_err();
        }
    }

    /// Hears, and gives a sign of life if it is time.
    async fn hear_and_tell(&self, next: &mut Moment, every: Duration) -> Result<(), ServiceError> {
        self.hear().await?;
        if Moment::now() >= *next {
            self.give_sign().await?;
            *next = Moment::now().after(every);
        }
        Ok(())
    }

    pub(super) async fn give_sign(&self) -> Result<(), StoreError> {
        let signed_at = Moment::now();
        let beat = Beat {
            replica: self.own.name().await,
            heard: self.hearing().position().unwrap_or_default(),
            adopted: self.adopted.load(Ordering::Acquire),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            address: self.address.get().cloned().unwrap_or_default(),
            trouble: self.trouble(),
        };
        self.store.beat(beat).await?;
        self.signed_at.store(signed_at.0, Ordering::Release);
        Ok(())
    }

    /// What is not well with this replica, in a few words.
    fn trouble(&self) -> String {
        let mut found = Vec::new();
        if self.log.health().is_err() {
            found.push("the audit log has failed".to_owned());
        }
        let lanes = self.lanes();
        let ill = lanes.iter().filter(|lane| lane.ready < lane.wanted);
        found.extend(ill.map(|lane| format!("lane {}: {} of {} workers", lane.lane.name(), lane.ready, lane.wanted)));
        found.join("; ")
    }

    /// Waits until every replica that serves has heard of changes of these scopes: until then they are not in force
    /// everywhere. A replica that is not heard from stops by itself at the bound; so who waits that long knows it too.
    /// Where the caller does not wait so long, he is told from when on it is in force.
    pub(super) async fn wait_for_all(&self, heads: &[HeadMark], committed: Moment, caller: &Caller) {
        if !self.hearing().is_shared() {
            return;
        }
        let cells = heads.iter().filter_map(|mark| self.catalog.scopes.known(mark.scope.parse().ok()?));
        let Some(position) = cells.map(|cell| cell.position()).max() else { return };
        let in_force = committed.after(self.longest_bound());
        // An answer at the very deadline reaches nobody: the way back, and a busy machine, have an eighth of the time left.
        let way_back = (caller.deadline.since(committed) / 8).max(LOOK_EVERY * 2);
        let outcome = loop {
            if self.heard_by_all(committed).await.is_some_and(|heard| heard > position) {
                break "heard";
            }
            if Moment::now() >= in_force {
                break "bound";
            }
            if Moment::now().after(way_back) >= caller.deadline {
                caller.in_force.begins(self.clock.now(), in_force.since(Moment::now()));
                break "deadline";
            }
            sleep(LOOK_EVERY).await;
        };
        metrics::histogram!(IN_FORCE_SECONDS, "outcome" => outcome).record(Moment::now().since(committed));
    }

    /// Up to where every other replica that serves has heard, looked at after `since`. Those who wait look one after the
    /// other, and what one has seen does for all: however many wait, the store is asked once in [`LOOK_EVERY`].
    async fn heard_by_all(&self, since: Moment) -> Option<Position> {
        let mut seen = self.heard_by_all.lock().await;
        let (looked, heard) = *seen;
        if looked >= since && Moment::now().since(looked) < LOOK_EVERY {
            return Some(heard);
        }
        let (own, looked) = (self.own.name().await, Moment::now());
        let all = self.store.replicas().await.ok()?;
        let silent = SILENT_AFTER.max(self.longest_bound() * 2);
        let others = all.iter().filter(|replica| replica.row.unchecked().name != own);
        let serving = others.filter_map(|replica| replica.beat.as_ref()).filter(|(_, age)| *age <= silent);
        let heard = serving.map(|(beat, _)| beat.heard).min().unwrap_or(Position(u64::MAX));
        *seen = (looked, heard);
        Some(heard)
    }

    /// The longest bound that any vault has had since this process began: another may still go by it.
    fn longest_bound(&self) -> Duration {
        let now = self.policy.now().longest_staleness().seconds();
        let longest = self.longest_staleness.fetch_max(now, Ordering::AcqRel).max(now);
        Duration::from_secs(longest.into())
    }

    /// Counts the replicas by state, for whoever watches. Called by a job.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn count_replicas(&self) -> Result<(), ServiceError> {
        let own = self.own.name().await;
        let views: Vec<_> = self.store.replicas().await?;
        let views: Vec<_> = views.into_iter().map(|one| ReplicaView::of(one, &own, Position::default())).collect();
        for standing in [Standing::Serving, Standing::Closed, Standing::Silent] {
            let count = views.iter().filter(|view| view.standing == standing).count();
            #[expect(clippy::cast_precision_loss, reason = "a gauge")]
            metrics::gauge!(REPLICAS, "state" => standing.name()).set(count as f64);
        }
        Ok(())
    }

    /// Every replica that ever served, and who does which scheduled work.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn list_replicas(&self, caller: &Caller) -> Result<Replicas, ServiceError> {
        let note = Note::default();
        let work = |_: Permit<ops::ReplicasRead>| async {
            let newest = self.store.heard(self.hearing().position()).await?.position;
            let own = self.own.name().await;
            let mut replicas: Vec<_> = self.store.replicas().await?;
            replicas.sort_by_key(|replica| replica.row.unchecked().ordinal);
            let forms = replicas.iter().map(|one| (one.row.unchecked().canonical(), *one.row.seal())).collect();
            let right = self.pool.check_seals(forms, caller.deadline).await.map_err(super::hands::outage)?;
            let views = replicas.into_iter().zip(right).map(|(replica, right)| {
                let view = ReplicaView::of(replica, &own, newest);
                let trouble = if right { view.trouble } else { ALTERED.to_owned() };
                ReplicaView { trouble, ..view }
            });
            Ok(Replicas {
                replicas: views.collect(),
                leases: self.store.leases().await?,
                heard_ago: self.hearing().age(),
                store: self.store.kind(),
            })
        };
        self.plain(caller, "replicas".to_owned(), Scope::Service, &note, work).await
    }
}

/// Whether a replica serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It gives signs of life.
    Serving,
    /// It was stopped in order.
    Closed,
    /// It gives none, and its log was not closed.
    Silent,
}

impl Standing {
    /// A word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Closed => "closed",
            Self::Silent => "silent",
        }
    }
}

/// A replica as others see it. Nothing is decided by it.
#[derive(Clone, Debug)]
pub struct ReplicaView {
    /// Who it is.
    pub row: ReplicaRow,
    /// Whether it serves.
    pub standing: Standing,
    /// Its release.
    pub version: String,
    /// Where it serves.
    pub address: String,
    /// How long ago it gave the last sign of life.
    pub silent_for: Option<Duration>,
    /// Whether there are changes that it has not said it has heard of.
    pub behind: bool,
    /// What is not well with it.
    pub trouble: String,
    /// Whether it is this process.
    pub answers: bool,
}

impl ReplicaView {
    fn of(replica: Replica, own: &ReplicaName, newest: Position) -> Self {
        let (row, _) = replica.row.into_unchecked();
        let (beat, silent_for) = replica.beat.map_or((None, None), |(beat, age)| (Some(beat), Some(age)));
        let answers = row.name == *own;
        let standing = match silent_for {
            _ if answers => Standing::Serving,
            _ if row.closed => Standing::Closed,
            Some(age) if age <= SILENT_AFTER => Standing::Serving,
            Some(_) | None => Standing::Silent,
        };
        let beat = beat.unwrap_or_else(|| Beat {
            replica: row.name.clone(),
            heard: Position::default(),
            adopted: 0,
            version: String::new(),
            address: String::new(),
            trouble: String::new(),
        });
        let behind = standing == Standing::Serving && !answers && beat.heard < newest;
        Self {
            standing,
            version: beat.version,
            address: beat.address,
            silent_for,
            behind,
            trouble: beat.trouble,
            answers,
            row,
        }
    }
}

/// Who serves, and who does which scheduled work.
#[derive(Clone, Debug)]
pub struct Replicas {
    /// By number.
    pub replicas: Vec<ReplicaView>,
    /// By name: the lease, its holder, and how long it is still his.
    pub leases: Vec<(WorkLease, ReplicaName, Duration)>,
    /// How old what is in memory may be.
    pub heard_ago: Duration,
    /// What the rows lie in.
    pub store: &'static str,
}

/// The name of the log of a seat.
#[must_use]
pub fn log_name(instance: &InstanceRow, seat: &Seat) -> String {
    crate::audit::log_name(&instance.id, seat.ordinal, &seat.name)
}
