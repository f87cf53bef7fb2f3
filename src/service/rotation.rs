//! What keys do by themselves: policies that say it, and the schedule by which it is done.
//!
//! Every key has in its row when somebody is to look at it ([`look_at`]). The replica that has the lease looks at those
//! whose time has come, asks the planner anew (`crate::rotation`), and does what is due: a rotation as anybody's, with its
//! intent, its proof in the HSM and its outcome; a notice as an event record, then a note in the key's row, so that one
//! that was not noted is given again. A rotation is committed under the lease, on the key as it was planned on: whoever
//! was overtaken changes nothing (P5). What fails is tried again, later each time.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt as _;
use strongroom_hsm::protocol::Moment;
use tokio_util::sync::CancellationToken;

use super::{
    Caller, ChangeOptions, InForce, KeyRef, Page, Service, Traffic,
    catalog::{Checked, vault_id},
    door::{Applied, Context, Note, Work},
    error::{Problem, ServiceError},
    events, fresh_id,
    keys::rotate::{RotateKey, may_follow},
    quota::ROW_US,
    scopes::{Making, NewRow, Put},
    version_name,
};
use crate::{
    access::{Op as _, Permit, ops},
    audit::{Durability, HeadMark, Kind, Outcome, Record},
    failpoint,
    model::{
        EventRow, EventType, Identity, KeyName, KeyObjectRow, KeyRotation, Origin, Residency, RotationPolicy, Row as _,
        Scope, Timestamp, VaultName, VaultRow, VersionRow,
    },
    observe::{
        metrics::{ROTATION_BEHIND, ROTATIONS},
        trace::Trace,
    },
    rotation::{Due, KeyLife, Mark, Profile, VersionLife, Work as Step, WorkKind, forecast, next_due, plan},
    store::{CommitError, HeadScope, ToLookAt, WorkLease},
};

/// The lease of what one replica does for all.
const ROTATING: &str = "rotation";
/// For so long it is taken, each pass anew. Work that takes longer, since the HSM is slow, may find itself overtaken: then
/// nothing of it is committed.
const ROTATING_FOR: Duration = Duration::from_secs(30);
/// A pass begins nothing new after so long.
const PASS: Duration = Duration::from_secs(10);
/// How many keys are worked on at once: one is made while another is written. After each there is a pause as long as the
/// work took, so that whoever uses the HSM, the disk or the machine meanwhile finds half of them free, however fast they are.
const AT_ONCE: usize = 2;
/// How many rows are read at once.
pub(super) const ROWS: u32 = 256;
/// How often all keys with a policy are looked at, whatever their rows say of when.
const LOOK_AT_ALL: Duration = Duration::from_secs(3600);
/// One key's work may take so long: RSA-4096 takes seconds, and may wait for others.
const WORK_WITHIN: Duration = Duration::from_secs(60);
/// After a failure a key is tried again after so long, twice as long each time,
const RETRY: Duration = Duration::from_secs(10);
/// and at most so long.
const RETRY_MAX: Duration = Duration::from_secs(3600);
/// Failures of so many keys are remembered.
const FAILURES_MAX: usize = 10_000;
/// A list tells at most so much of a key,
const STEPS_OF_A_KEY_MAX: usize = 100;
/// and at most so much on a page.
const STEPS_OF_A_PAGE_MAX: usize = 2_000;
/// A change that only notes something is tried so often where others change the same vault.
const KEEP_TRIES_MAX: usize = 5;
/// Under which name the service records what keys do by themselves.
pub(super) const PRINCIPAL: &str = "strongroom:rotation";

/// A key as the planner sees it.
pub(super) fn life(key: &KeyObjectRow, newest: &VersionRow, uses: u64) -> KeyLife {
    let mark = |kind| key.noted.map(|at| Mark { version: newest.version, kind, at });
    KeyLife {
        key: key.id,
        state: key.state,
        policy: key.rotation.as_ref().map(|rotation| rotation.policy.clone()),
        current: VersionLife {
            version: newest.version,
            created: newest.created,
            expires: newest.expires,
            enabled: newest.enabled,
            uses,
        },
        done: [WorkKind::NotifyNearExpiry, WorkKind::NotifyExpired].into_iter().filter_map(mark).collect(),
    }
}

/// When somebody is to look at a key. One without a policy never rotates, and its expiry is told all the same.
pub(super) fn look_at(key: &KeyObjectRow, newest: &VersionRow, uses: u64, now: Timestamp) -> Option<Timestamp> {
    next_due(&life(key, newest, uses), now)
}

/// How far a look at all keys has come, and one at all vaults that are purged.
#[derive(Debug, Default)]
pub struct Round {
    after: Option<[u8; 16]>,
    rests_until: Option<Moment>,
    /// Which vault was purged from last: the next one's turn is next.
    pub(super) purged: Option<VaultName>,
}

/// One pass over what is due.
pub(super) struct Turn<'a> {
    lease: WorkLease,
    end: Moment,
    stop: &'a CancellationToken,
    /// Another has the lease.
    is_lost: Arc<AtomicBool>,
}

impl Turn<'_> {
    /// Under what it is done.
    pub(super) const fn lease(&self) -> &WorkLease {
        &self.lease
    }

    /// Time of its own for one kind of work, so that much of another kind does not keep it from being done.
    pub(super) fn slice(&self, time: Duration) -> Self {
        let is_lost = Arc::clone(&self.is_lost);
        Self { lease: self.lease.clone(), end: Moment::now().after(time), stop: self.stop, is_lost }
    }

    /// Whether nothing more is to be begun.
    pub(super) fn is_over(&self) -> bool {
        self.stop.is_cancelled() || self.is_lost.load(Ordering::Acquire) || Moment::now() >= self.end
    }
}

/// A key's policy, as it is shown.
#[derive(Clone, Debug)]
pub struct PolicyView {
    /// The key.
    pub key: Arc<KeyObjectRow>,
}

/// What a key does by itself.
#[derive(Clone, Debug)]
pub struct RotationView {
    /// The key.
    pub key: Arc<KeyObjectRow>,
    /// What is due, and what will be, up to the time that was asked for.
    pub steps: Vec<Due>,
    /// Why it was not done, if it was tried here.
    pub failure: Option<Failure>,
}

/// Work that was tried and failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// How often in succession.
    pub times: u32,
    /// What was wrong the last time.
    pub why: String,
    /// When it was tried the last time.
    pub last: Timestamp,
    /// It is not tried again before.
    retry_at: Moment,
}

/// Keys whose turn came and went wrong, by id. Known to the replica that tried.
#[derive(Debug, Default)]
pub struct Failures(Mutex<HashMap<[u8; 16], Failure>>);

impl Failures {
    fn all(&self) -> MutexGuard<'_, HashMap<[u8; 16], Failure>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, key: [u8; 16]) -> Option<Failure> {
        self.all().get(&key).cloned()
    }

    /// Whether it is to be tried now.
    fn is_ripe(&self, key: [u8; 16]) -> bool {
        self.all().get(&key).is_none_or(|failure| failure.retry_at <= Moment::now())
    }

    fn forget(&self, key: [u8; 16]) {
        self.all().remove(&key);
    }

    /// Says how often in succession it has failed.
    fn note(&self, key: [u8; 16], why: String, now: Timestamp) -> u32 {
        let mut all = self.all();
        if all.len() >= FAILURES_MAX && !all.contains_key(&key) {
            // One that is forgotten is tried again without a pause, and noted again.
            let some = all.keys().next().copied();
            some.map(|some| all.remove(&some));
        }
        let times = all.get(&key).map_or(0, |before| before.times).saturating_add(1);
        let pause = RETRY.saturating_mul(1 << (times - 1).min(16)).min(RETRY_MAX);
        all.insert(key, Failure { times, why, last: now, retry_at: Moment::now().after(pause) });
        times
    }
}

impl Service {
    /// Shows what a key does by itself.
    ///
    /// # Errors
    /// [`Problem::NotFound`].
    pub async fn get_rotation_policy(&self, caller: &Caller, name: &KeyRef) -> Result<PolicyView, ServiceError> {
        let note = Note::default();
        let scope = Scope::key(&name.vault, &name.key);
        self.plain(caller, name.to_string(), scope, &note, |_: Permit<ops::RotationPoliciesRead>| async {
            let vault = self.catalog.live_vault(&name.vault, caller.deadline).await?;
            let key = self.catalog.key(&vault.row, &name.key, caller.deadline).await?;
            Ok(PolicyView { key: Arc::clone(&key.row) })
        })
        .await
    }

    /// Says what a key does by itself from now on, in place of what was said before; nothing: no policy.
    ///
    /// # Errors
    /// [`Problem::Invalid`] when the policy breaks a rule; [`Problem::NotFound`]; [`Problem::SoftDeleted`].
    pub async fn update_rotation_policy(
        self: &Arc<Self>,
        caller: &Caller,
        name: &KeyRef,
        policy: RotationPolicy,
        options: ChangeOptions,
    ) -> Result<PolicyView, ServiceError> {
        let scope = Scope::key(&name.vault, &name.key);
        let work = SetRotationPolicy { name: name.clone(), policy };
        self.change(caller, name.to_string(), scope, options, work).await
    }

    /// Lists the keys of a vault that have a policy, with what is due and what will be until then. A page may hold fewer
    /// than it could: keys without a policy are left out of it, and so much is told on a page and no more. With it, the key
    /// that the next page goes on after.
    ///
    /// # Errors
    /// [`Problem::NotFound`].
    pub async fn list_rotations(
        &self,
        caller: &Caller,
        vault: &VaultName,
        until: Option<Timestamp>,
        page: Page<KeyName>,
    ) -> Result<(Vec<RotationView>, Option<KeyName>), ServiceError> {
        let note = Note::default();
        let resource = format!("vaults/{vault}/rotations");
        self.plain(caller, resource, Scope::keys(vault), &note, |_: Permit<ops::RotationPoliciesRead>| async {
            let vault = self.catalog.live_vault(vault, caller.deadline).await?;
            let mut keys = self.catalog.keys(&vault.row, &page, caller.deadline).await?;
            note.charge(2 * ROW_US * keys.len() as u64);
            let size = usize::try_from(page.size).unwrap_or(usize::MAX);
            let mut more = keys.len() > size;
            keys.truncate(size);
            let (mut found, mut last, mut left) = (Vec::new(), None, STEPS_OF_A_PAGE_MAX);
            for key in keys {
                if left == 0 {
                    more = true;
                    break;
                }
                last = Some(key.row.name.clone());
                if key.row.rotation.is_some() {
                    let newest = self.catalog.version(&vault.row, &key.row, key.row.current, caller.deadline).await?;
                    let uses = self.uses(&vault.row, &key.row, &newest.row, caller.deadline).await?;
                    let view = self.rotation_view(key.row, &newest.row, uses, until, left);
                    left = left.saturating_sub(view.steps.len());
                    note.charge(ROW_US * view.steps.len() as u64);
                    found.push(view);
                    // Reckoning years takes a while: others have their turn in between.
                    tokio::task::yield_now().await;
                }
            }
            Ok((found, last.filter(|_| more)))
        })
        .await
    }

    fn rotation_view(
        &self,
        key: Arc<KeyObjectRow>,
        newest: &VersionRow,
        uses: u64,
        until: Option<Timestamp>,
        steps_max: usize,
    ) -> RotationView {
        let (life, now) = (life(&key, newest, uses), self.clock.now());
        let steps = match until {
            Some(until) => forecast(&life, now, until).take(STEPS_OF_A_KEY_MAX.min(steps_max)).collect(),
            None => {
                let due = plan(&life, now, now).due;
                if due.is_empty() { forecast(&life, now, Timestamp::MAX).take(1).collect() } else { due }
            }
        };
        let steps: Vec<Due> = steps;
        let failure = self.rotations_failed.of(key.id);
        RotationView { key, steps, failure }
    }

    /// Does what is due for keys, if it is this replica's turn; begins nothing new once `stop` says so. Called by a job.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn do_what_is_due(
        self: &Arc<Self>,
        round: &mut Round,
        stop: &CancellationToken,
    ) -> Result<(), ServiceError> {
        let own = self.own.name().await;
        let Some(lease) = self.store.take_lease(ROTATING, &own, ROTATING_FOR).await? else {
            // Who takes over looks at all.
            *round = Round::default();
            return Ok(());
        };
        let turn = Turn { lease, end: Moment::now().after(PASS), stop, is_lost: Arc::default() };
        let rotated = self.rotate_what_is_due(round, &turn).await;
        let purged = self.purge_what_is_due(round, &turn).await;
        rotated.and(purged)
    }

    async fn rotate_what_is_due(self: &Arc<Self>, round: &mut Round, turn: &Turn<'_>) -> Result<(), ServiceError> {
        let mut behind = 0_i64;
        let mut after = None;
        loop {
            let now = self.clock.now();
            let rows = self.store.keys_due(now, after, ROWS).await?;
            let Some(last) = rows.last() else { break };
            after = last.due.map(|due| (due, last.id));
            let oldest = rows.first().and_then(|row| row.due);
            behind = behind.max(oldest.map_or(0, |due| now.0.saturating_sub(due.0)));
            self.work_on(rows, turn).await;
            if turn.is_over() {
                break;
            }
        }
        // Far fewer than 2^52 seconds.
        metrics::gauge!(ROTATION_BEHIND).set(behind as f64);
        self.tell_of_secrets(turn).await?;
        self.look_at_some(round, turn).await
    }

    /// Looks at some of all keys with a policy, a page each time, and at all of them every [`LOOK_AT_ALL`]: whoever writes
    /// the store can hide when a key is due, and for no longer.
    async fn look_at_some(self: &Arc<Self>, round: &mut Round, turn: &Turn<'_>) -> Result<(), ServiceError> {
        if turn.is_over() || round.rests_until.is_some_and(|then| then > Moment::now()) {
            return Ok(());
        }
        let rows = self.store.keys_with_policy(round.after, ROWS).await?;
        let last = rows.last().map(|row| row.id);
        self.work_on(rows, turn).await;
        if turn.is_over() {
            // What was not looked at is looked at next.
            return Ok(());
        }
        (round.after, round.rests_until) = match last {
            Some(last) => (Some(last), None),
            None => (None, Some(Moment::now().after(LOOK_AT_ALL))),
        };
        Ok(())
    }

    async fn work_on(self: &Arc<Self>, keys: Vec<ToLookAt>, turn: &Turn<'_>) {
        let keys = futures_util::stream::iter(keys);
        keys.for_each_concurrent(AT_ONCE, |ToLookAt { id, vault, object, .. }| async move {
            // What a row says that is not checked is a reason to look, and nothing else.
            if turn.is_over() || !self.rotations_failed.is_ripe(id) {
                return;
            }
            let name = KeyRef { vault, key: object, version: None };
            let begun = Moment::now();
            let result = self.work_on_key(&name, &turn.lease).await;
            let took = Moment::now().since(begun);
            if let Some((times, error)) = self.ended(id, &name.to_string(), result, turn) {
                metrics::counter!(ROTATIONS, "outcome" => "failed").increment(1);
                self.tell_of_failure(&name, times, &error, &turn.lease).await;
            }
            let _ = tokio::time::timeout(took, turn.stop.cancelled()).await;
        })
        .await;
    }

    /// Whether work may be tried that failed before.
    pub(super) fn is_ripe(&self, id: [u8; 16]) -> bool {
        self.rotations_failed.is_ripe(id)
    }

    /// Notes how work has ended; says how often in succession it has failed, and why.
    pub(super) fn ended(
        &self,
        id: [u8; 16],
        name: &str,
        result: Result<(), ServiceError>,
        turn: &Turn<'_>,
    ) -> Option<(u32, ServiceError)> {
        match result {
            Ok(()) => self.rotations_failed.forget(id),
            Err(error) if is_fenced(&error) => turn.is_lost.store(true, Ordering::Release),
            Err(error) if is_overtaken(&error) => self.rotations_failed.forget(id),
            Err(error) => {
                tracing::error!(name, %error, cause = ?error.cause, "what is due was not done; it is tried again");
                let times = self.rotations_failed.note(id, error.to_string(), self.clock.now());
                return Some((times, error));
            }
        }
        None
    }

    /// Tells others of a failure: at once, and then ever more seldom. What cannot be told is in the log.
    async fn tell_of_failure(&self, name: &KeyRef, times: u32, error: &ServiceError, lease: &WorkLease) {
        if !times.is_power_of_two() {
            return;
        }
        let caller = self.itself(PRINCIPAL);
        let event = events::of_key(EventType::KeyRotationFailed, &caller, self.clock.now(), name);
        let event = EventRow { detail: format!("{times} times: {error}"), ..event };
        if let Err(error) = self.tell(event, lease, caller.deadline).await {
            tracing::warn!(%name, %error, cause = ?error.cause, "nobody is told that what is due for a key was not done");
        }
    }

    async fn work_on_key(self: &Arc<Self>, name: &KeyRef, lease: &WorkLease) -> Result<(), ServiceError> {
        let caller = self.itself(PRINCIPAL);
        let found = self.current(name, &caller).await?;
        let now = self.clock.now();
        let plan = plan(&life(&found.key.row, &found.version.row, found.uses), now, now);
        for due in &plan.due {
            match due.work {
                Step::Rotate { .. } => {
                    let work = RotateKey::if_due(name.clone(), lease.clone());
                    let scope = Scope::key(&name.vault, &name.key);
                    self.scheduled(&caller, name.to_string(), scope, work).await?;
                    metrics::counter!(ROTATIONS, "outcome" => "done").increment(1);
                }
                Step::NotifyNearExpiry | Step::NotifyExpired => self.give_notice(name, due, lease, &caller).await?,
                // Of keys that are deleted, which these are not: see `purge`.
                Step::Purge => {}
            }
        }
        if plan.due.is_empty() {
            self.look_again(name, lease, &caller).await?;
        }
        Ok(())
    }

    /// Gives a notice, and then notes that it was given.
    async fn give_notice(
        &self,
        name: &KeyRef,
        due: &Due,
        lease: &WorkLease,
        caller: &Caller,
    ) -> Result<(), ServiceError> {
        let found = self.current(name, caller).await?;
        if found.version.row.version != due.version {
            return Ok(());
        }
        let operation = if due.work == Step::NotifyExpired { "keys.expired" } else { "keys.nearExpiry" };
        let expires = found.version.row.expires.map(|expires| format!("expires {expires}"));
        let record = Record {
            principal: Some(PRINCIPAL.to_owned()),
            source: Some(caller.source.clone()),
            resource: Some(version_name(&found.version.row)),
            request: Some(caller.request.clone()),
            detail: expires,
            ..Record::new(self.clock.now(), Kind::Event, operation, Outcome::Done)
        };
        self.append(caller, record, Durability::Fsync).await?;
        failpoint::hit(failpoint::ROTATION_AFTER_NOTICE);
        let kind = if due.work == Step::NotifyExpired { EventType::KeyExpired } else { EventType::KeyNearExpiry };
        let version = KeyRef { version: Some(due.version), ..name.clone() };
        let event = events::of_key(kind, caller, self.clock.now(), &version);
        let event = EventRow { due: found.version.row.expires, ..event };
        self.keep(name, lease, caller, Some(event), |row| row.noted = Some(due.at)).await
    }

    /// Keeps in the key's row when to look at it, if it says something else.
    async fn look_again(&self, name: &KeyRef, lease: &WorkLease, caller: &Caller) -> Result<(), ServiceError> {
        let found = self.current(name, caller).await?;
        if look_at(&found.key.row, &found.version.row, found.uses, self.clock.now()) == found.key.row.due {
            return Ok(());
        }
        self.keep(name, lease, caller, None, |_| {}).await
    }

    /// Changes what a key's row says of notices and of when to look at it, under the lease.
    async fn keep(
        &self,
        name: &KeyRef,
        lease: &WorkLease,
        caller: &Caller,
        event: Option<EventRow>,
        change: impl Fn(&mut KeyObjectRow),
    ) -> Result<(), ServiceError> {
        let mut tries = 1;
        let mark = loop {
            match self.try_to_keep(name, lease, caller, event.clone(), &change).await {
                Err(error) if error.is_race() && !is_fenced(&error) && tries < KEEP_TRIES_MAX => tries += 1,
                result => break result?,
            }
        };
        let record = Record {
            principal: Some(PRINCIPAL.to_owned()),
            source: Some(caller.source.clone()),
            resource: Some(name.to_string()),
            request: Some(caller.request.clone()),
            heads: vec![mark],
            ..Record::new(self.clock.now(), Kind::Event, "keys.note", Outcome::Done)
        };
        self.append(caller, record, Durability::Write).await?;
        Ok(())
    }

    async fn try_to_keep(
        &self,
        name: &KeyRef,
        lease: &WorkLease,
        caller: &Caller,
        event: Option<EventRow>,
        change: &impl Fn(&mut KeyObjectRow),
    ) -> Result<HeadMark, ServiceError> {
        let scope = HeadScope::Vault(vault_id(&name.vault));
        let locked = self.catalog.scopes.lock(scope, caller.deadline).await?;
        let found = self.current(name, caller).await?;
        let old = &found.key;
        let mut new = KeyObjectRow { revision: old.row.revision + 1, ..KeyObjectRow::clone(&old.row) };
        change(&mut new);
        new.due = look_at(&new, &found.version.row, found.uses, self.clock.now());
        let put = Put::replace(old.row.as_ref(), old.seal, NewRow::Key(new));
        let making = Making { name: "keys.note", right: lease, intent: 0, request: None, deadline: caller.deadline };
        let events = event.into_iter().collect();
        Ok(self.catalog.scopes.commit_and_tell(&locked, making, vec![put], events).await?.mark)
    }

    async fn current(&self, name: &KeyRef, caller: &Caller) -> Result<Found, ServiceError> {
        let vault = self.catalog.live_vault(&name.vault, caller.deadline).await?;
        let key = self.catalog.key(&vault.row, &name.key, caller.deadline).await?;
        if !key.row.state.is_active() {
            return Err(Problem::SoftDeleted { name: name.to_string() }.into());
        }
        let version = self.catalog.version(&vault.row, &key.row, key.row.current, caller.deadline).await?;
        let uses = self.uses(&vault.row, &key.row, &version.row, caller.deadline).await?;
        Ok(Found { key, version, uses })
    }

    /// How often a version was used out of the budget of its key's policy; 0 where there is none.
    pub(super) async fn uses(
        &self,
        vault: &VaultRow,
        key: &KeyObjectRow,
        version: &VersionRow,
        deadline: Moment,
    ) -> Result<u64, ServiceError> {
        if key.rotation.as_ref().and_then(|rotation| rotation.policy.use_budget).is_none() {
            return Ok(0);
        }
        let usage = self.catalog.usage(vault, version.version, deadline).await?;
        Ok(usage.map_or(0, |usage| usage.row.uses))
    }

    /// The service, where it does something by itself.
    pub(super) fn itself(&self, name: &str) -> Caller {
        let principal = name.parse().expect("a name");
        Caller {
            identity: Arc::new(Identity::alone(principal)),
            origin: Origin::Local,
            source: "schedule".to_owned(),
            request: base16ct::lower::encode_string(&fresh_id()),
            deadline: Moment::now().after(WORK_WITHIN),
            traffic: Traffic::Bulk,
            in_force: InForce::default(),
            trace: Trace::default(),
        }
    }
}

/// Whether another has the lease.
fn is_fenced(error: &ServiceError) -> bool {
    let cause = error.cause.as_deref().and_then(|cause| cause.downcast_ref::<CommitError>());
    matches!(cause, Some(CommitError::Fenced))
}

/// Whether there is nothing to be done any more, or another does it.
fn is_overtaken(error: &ServiceError) -> bool {
    match &error.problem {
        Problem::Precondition { reason, .. } => *reason == "NOT_DUE",
        Problem::NotFound { .. } | Problem::SoftDeleted { .. } | Problem::Changed { .. } => true,
        _ => false,
    }
}

/// A key in use, with its newest version.
struct Found {
    key: Arc<Checked<KeyObjectRow>>,
    version: Checked<VersionRow>,
    uses: u64,
}

/// Says what a key does by itself.
struct SetRotationPolicy {
    name: KeyRef,
    policy: RotationPolicy,
}

impl SetRotationPolicy {
    async fn plan(&self, service: &Service, context: &Context) -> Result<(Found, KeyObjectRow), ServiceError> {
        let found = service.current(&self.name, &context.caller).await?;
        context.check_etag(&found.key.row.etag(), &self.name.to_string())?;
        self.policy.check(Profile::Own).map_err(|problems| unfit(&problems))?;
        self.policy.check_current(found.version.row.expires).map_err(|problem| unfit(&[problem]))?;
        self.check_next(&found.version.row)?;
        if found.version.row.residency == Residency::Public && self.policy.rotation().is_some() {
            let why = format!("{} has public halves only: the next one is imported", self.name);
            return Err(Problem::Precondition { reason: "PUBLIC_AND_PRIVATE", why }.into());
        }
        let old = &found.key.row;
        let is_none = self.policy == RotationPolicy::default();
        let created = old.rotation.as_ref().map_or(context.now, |rotation| rotation.created);
        let rotation = (!is_none).then(|| KeyRotation { policy: self.policy.clone(), created, updated: context.now });
        let mut new = KeyObjectRow {
            rotation,
            updated: context.now,
            intent: context.intent,
            revision: old.revision + 1,
            ..KeyObjectRow::clone(old)
        };
        new.due = look_at(&new, &found.version.row, found.uses, context.now);
        Ok((found, new))
    }

    /// What comes next does what the newest does, and lives where it lives.
    fn check_next(&self, newest: &VersionRow) -> Result<(), ServiceError> {
        let Some(next) = self.policy.next_spec else { return Ok(()) };
        if may_follow(next, newest) {
            return Ok(());
        }
        let why = format!("a key of {} is followed by one of its own type that does the same", newest.spec.name());
        Err(Problem::Invalid { field: "rotation_policy.next_key", why }.into())
    }
}

fn unfit(problems: &[crate::rotation::PolicyProblem]) -> ServiceError {
    let each = problems.iter().map(|problem| format!("{}: {problem}", problem.path()));
    Problem::Invalid { field: "rotation_policy", why: each.collect::<Vec<_>>().join("; ") }.into()
}

impl Work for SetRotationPolicy {
    type Op = ops::RotationPoliciesUpdate;
    type Out = PolicyView;

    fn detail(&self) -> Option<String> {
        Some(self.policy.canonical())
    }

    async fn check(
        &self,
        service: &Service,
        _: &Permit<Self::Op>,
        context: &Context,
    ) -> Result<PolicyView, ServiceError> {
        Ok(PolicyView { key: Arc::new(self.plan(service, context).await?.1) })
    }

    async fn apply(
        &self,
        service: &Service,
        permit: Permit<Self::Op>,
        context: &Context,
    ) -> Result<Applied<PolicyView>, ServiceError> {
        let deadline = context.caller.deadline;
        let scope = HeadScope::Vault(vault_id(&self.name.vault));
        let locked = service.catalog.scopes.lock(scope, deadline).await?;
        let (found, new) = self.plan(service, context).await?;
        let put = Put::replace(found.key.row.as_ref(), found.key.seal, NewRow::Key(new.clone()));
        let request = context.request_record(self.name.to_string());
        let name = Self::Op::ACTION.name();
        let making = Making { name, right: &permit, intent: context.intent, request, deadline };
        let kind = EventType::KeyRotationPolicyUpdated;
        let event = events::of_key(kind, &context.caller, context.now, &self.name);
        let event = EventRow { detail: self.policy.canonical(), ..event };
        let committed = service.catalog.scopes.commit_and_tell(&locked, making, vec![put], vec![event]).await?;
        // What was wrong may be mended by it: it is tried at once.
        service.rotations_failed.forget(new.id);
        Ok(Applied { out: PolicyView { key: Arc::new(new) }, heads: vec![committed.mark] })
    }

    async fn again(
        &self,
        service: &Service,
        _: &Permit<Self::Op>,
        _: &str,
        context: &Context,
    ) -> Result<PolicyView, ServiceError> {
        let found = service.current(&self.name, &context.caller).await?;
        Ok(PolicyView { key: Arc::clone(&found.key.row) })
    }
}
