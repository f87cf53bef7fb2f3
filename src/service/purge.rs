//! Purging: what was deleted is destroyed, on demand or when its time has come (P6: not before).
//!
//! The rows of a key or version go in one commit, with what is under them: from then on nothing here knows the blob. Objects on
//! the token are destroyed after that; which ones, the intent says, so that a crash in between is made good at the next start
//! ([`super::settle`]). A vault is marked first, so that nobody brings it back half; then goes what is in it, some keys at a
//! time; then the vault itself, with the assignments and access policies that are about it.

use std::{
    collections::HashSet,
    sync::{Arc, OnceLock, atomic::Ordering},
    time::Duration,
};

use strongroom_hsm::protocol::Moment;

use super::{
    Caller, ChangeOptions, KeyRef, Page, Service,
    catalog::{Checked, vault_id},
    door::{Applied, Context, Work},
    error::{Problem, ServiceError},
    events,
    known::Memory,
    rotation::{Round, Turn},
    scopes::{Making, NewRow, Put, Right},
    secrets::{self, SecretRef},
    settle::REAP_WITHIN,
};
use crate::{
    access::{Action, Permit, ops},
    audit::Record,
    failpoint,
    model::{
        EventRow, EventType, Fate, KeyName, KeyObjectRow, KnownRow, Residency, Row as _, RowId, RowKind, Scope,
        SecretName, State, Timestamp, UsageRow, VaultName, VaultRow, VersionId, VersionRow,
    },
    observe::metrics::PURGES,
    store::{HeadScope, StoreError, ToPurge, WorkLease},
};

/// Before which ids the detail of an intent names objects on the token.
pub(super) const ON_TOKEN: &str = "token objects:";
/// A record has room for the names of so many.
const ON_TOKEN_MAX: usize = 1_000;
/// Under which name the service records what it destroys by itself.
pub(super) const PURGING: &str = "strongroom:purge";
/// How many versions of a vault that is purged go in one change: fewer than a record has room for the names of.
const VERSIONS_AT_ONCE: usize = 500;
/// How many rows are read at once.
const ROWS: u32 = 1_000;
/// How many are looked at at once whose time has come.
const DUE: u32 = 100;
/// How long each kind is worked on in one pass: with a pass of rotations before it, it is far shorter than a lease.
const SLICE: Duration = Duration::from_secs(3);
/// How long one vault is.
const SLICE_OF_A_VAULT: Duration = Duration::from_secs(1);
/// How long is waited between attempts to destroy an object.
const REAP_PAUSE: Duration = Duration::from_millis(200);

/// What intents to purge say will be destroyed on the token. No other operation destroys, whatever its detail says: there are
/// details with texts of callers in them.
pub(super) fn on_token(intent: &Record) -> Vec<VersionId> {
    if ![Action::KeysPurge.name(), Action::VaultsPurge.name()].contains(&intent.operation.as_str()) {
        return Vec::new();
    }
    let names = intent.detail.as_deref().and_then(|detail| detail.split_once(ON_TOKEN));
    names.map(|(_, names)| names.split_whitespace().filter_map(|id| id.parse().ok()).collect()).unwrap_or_default()
}

/// Under what something is purged because its date has come.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    /// Whose turn it is, where it is done in turn.
    pub(super) lease: Option<WorkLease>,
    /// What time it is for destruction.
    pub(super) time: Timestamp,
}

/// What an intent says is destroyed: in words, and which objects on the token.
type Said = (String, HashSet<VersionId>);

/// Rows that go together, and what they have on the token.
#[derive(Default)]
struct Doomed {
    puts: Vec<Put>,
    versions: usize,
    on_token: Vec<VersionId>,
}

impl Doomed {
    fn detail(&self) -> String {
        let mut detail = format!("{} versions", self.versions);
        if !self.on_token.is_empty() {
            let ids: Vec<String> = self.on_token.iter().take(ON_TOKEN_MAX).map(ToString::to_string).collect();
            detail.push_str(&format!("; {ON_TOKEN} {}", ids.join(" ")));
        }
        detail
    }

    /// What is said of it in the intent, to be compared with.
    fn said(&self) -> Said {
        (self.detail(), self.on_token.iter().copied().collect())
    }

    /// Refuses what was not said: what it is about was changed meanwhile.
    fn is_as_said(&self, said: &OnceLock<Said>, name: &str) -> Result<(), ServiceError> {
        if said.get().is_some_and(|(_, said)| self.on_token.iter().all(|id| said.contains(id))) {
            return Ok(());
        }
        Err(Problem::Changed { name: name.to_owned() }.into())
    }

    /// Refuses what a record could not name.
    fn check(&self, name: &str) -> Result<(), ServiceError> {
        if self.on_token.len() <= ON_TOKEN_MAX {
            return Ok(());
        }
        let why = format!(
            "{name} has {} versions on the token, more than {ON_TOKEN_MAX}: delete and purge some of them first",
            self.on_token.len()
        );
        Err(Problem::Precondition { reason: "TOO_MANY_OBJECTS", why }.into())
    }
}

impl Service {
    /// Destroys a deleted key with all its versions, or one deleted version. Says how many versions that were.
    ///
    /// # Errors
    /// [`Problem::NotFound`]; [`Problem::Precondition`] when it is not deleted, or the vault has purge protection.
    pub async fn purge_key(
        self: &Arc<Self>,
        caller: &Caller,
        name: &KeyRef,
        options: ChangeOptions,
    ) -> Result<usize, ServiceError> {
        let scope = Scope::key(&name.vault, &name.key);
        self.change(caller, name.to_string(), scope, options, PurgeKey::new(name.clone(), None)).await
    }

    /// Destroys what time has come for: called by whoever does what is due. Answers what it tried, and what came of it.
    pub(super) async fn purge_one(
        self: &Arc<Self>,
        caller: &Caller,
        name: &KeyRef,
        schedule: Schedule,
    ) -> Result<(), ServiceError> {
        let scope = Scope::key(&name.vault, &name.key);
        let work = PurgeKey::new(name.clone(), Some(schedule));
        self.scheduled(caller, name.to_string(), scope, work).await.map(drop)
    }

    /// Destroys what is in a vault that is marked for it, and then the vault; stops between two changes where `goes_on`
    /// says so. Says whether all is gone.
    pub(super) async fn purge_contents(
        self: &Arc<Self>,
        caller: &Caller,
        vault: &VaultName,
        lease: Option<&WorkLease>,
        goes_on: impl Fn() -> bool + Send,
    ) -> Result<bool, ServiceError> {
        while goes_on() {
            let work = PurgeSome::new(vault.clone(), lease.cloned());
            let scope = Scope::Vault(vault.clone());
            let left = self.scheduled(caller, format!("vaults/{vault}/keys"), scope.clone(), work).await;
            match left {
                // Changed: by another that is at it, too.
                Ok(()) | Err(ServiceError { problem: Problem::Changed { .. }, cause: None }) => {}
                Err(ServiceError { problem: Problem::Precondition { reason: EMPTY, .. }, .. }) => {
                    let work = RemoveVault { vault: vault.clone(), lease: lease.cloned(), said: OnceLock::new() };
                    self.scheduled(caller, format!("vaults/{vault}"), scope, work).await?;
                    return Ok(true);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Destroys what time has come for, if the clocks agree that it has: some of each kind, whatever there is of another.
    pub(super) async fn purge_what_is_due(
        self: &Arc<Self>,
        round: &mut Round,
        turn: &Turn<'_>,
    ) -> Result<(), ServiceError> {
        if turn.slice(SLICE).is_over() {
            return Ok(());
        }
        let caller = self.itself(PURGING);
        let time = self.time_of_destruction(caller.deadline).await?;
        if self.clock_went_back.swap(time.is_none(), Ordering::AcqRel) != time.is_none() {
            match time {
                None => tracing::error!("the wall clock went backwards: nothing is destroyed until it is right again"),
                Some(_) => tracing::info!("the wall clock is right again: what is due is destroyed"),
            }
        }
        let Some(time) = time else { return Ok(()) };
        let schedule = Schedule { lease: Some(turn.lease().clone()), time };
        let keys = |after| self.store.keys_to_purge(time, after, DUE);
        let keys = self.purge_pages(&turn.slice(SLICE), &schedule, keys).await;
        let versions = |after| self.store.versions_to_purge(time, after, DUE);
        let versions = self.purge_pages(&turn.slice(SLICE), &schedule, versions).await;
        let secrets = self.purge_secrets(&turn.slice(SLICE), &schedule).await;
        let vaults = self.purge_vaults(round, &turn.slice(SLICE), &schedule).await;
        keys.and(versions).and(secrets).and(vaults)
    }

    /// Goes through what a page at a time says, until all of it was looked at or the turn is over.
    async fn purge_pages<F>(
        self: &Arc<Self>,
        turn: &Turn<'_>,
        schedule: &Schedule,
        page: impl Fn(Option<(Timestamp, [u8; 16])>) -> F + Send,
    ) -> Result<(), ServiceError>
    where
        F: Future<Output = Result<Vec<ToPurge>, StoreError>> + Send,
    {
        let mut after = None;
        while !turn.is_over() {
            let found = page(after).await?;
            let Some(last) = found.last() else { break };
            after = Some((last.at, last.id));
            self.purge_each(found, turn, schedule).await;
        }
        Ok(())
    }

    async fn purge_each(self: &Arc<Self>, found: Vec<ToPurge>, turn: &Turn<'_>, schedule: &Schedule) {
        for ToPurge { vault, object, version, id, .. } in found {
            if turn.is_over() || !self.is_ripe(id) {
                continue;
            }
            let name = KeyRef { vault, key: object, version };
            let result = self.purge_one(&self.itself(PURGING), &name, schedule.clone()).await;
            self.purged(id, &name.to_string(), result, turn);
        }
    }

    async fn purge_secrets(self: &Arc<Self>, turn: &Turn<'_>, schedule: &Schedule) -> Result<(), ServiceError> {
        let mut after = None;
        while !turn.is_over() {
            let found = self.store.secrets_to_purge(schedule.time, after, DUE).await?;
            let Some(last) = found.last() else { break };
            after = Some((last.at, last.id));
            for ToPurge { vault, object, id, .. } in found {
                if turn.is_over() || !self.is_ripe(id) {
                    continue;
                }
                let name = SecretRef { vault, secret: object, version: None };
                let result = self.purge_one_secret(&self.itself(PURGING), &name, schedule.clone()).await;
                self.purged(id, &name.to_string(), result, turn);
            }
        }
        Ok(())
    }

    /// One vault after another, each some time, and the next pass goes on after the last: a large one keeps nobody waiting.
    async fn purge_vaults(
        self: &Arc<Self>,
        round: &mut Round,
        turn: &Turn<'_>,
        schedule: &Schedule,
    ) -> Result<(), ServiceError> {
        let mut vaults = self.store.vaults_to_purge(schedule.time, ROWS).await?;
        vaults.sort();
        let next = vaults.partition_point(|vault| round.purged.as_ref().is_some_and(|last| vault <= last));
        vaults.rotate_left(next);
        for vault in vaults {
            let id = vault_id(&vault);
            if turn.is_over() {
                break;
            }
            if !self.is_ripe(id) {
                continue;
            }
            let result = self.purge_vault_now(&vault, &turn.slice(SLICE_OF_A_VAULT), schedule).await;
            self.purged(id, &format!("vaults/{vault}"), result, turn);
            round.purged = Some(vault);
        }
        Ok(())
    }

    async fn purge_vault_now(
        self: &Arc<Self>,
        name: &VaultName,
        turn: &Turn<'_>,
        schedule: &Schedule,
    ) -> Result<(), ServiceError> {
        let caller = self.itself(PURGING);
        let vault = self.catalog.vault(name, caller.deadline).await?;
        if !vault.row.purging {
            self.mark_vault(&caller, name, schedule.clone()).await?;
        }
        self.purge_contents(&caller, name, schedule.lease.as_ref(), || !turn.is_over()).await.map(drop)
    }

    fn purged(&self, id: [u8; 16], name: &str, result: Result<(), ServiceError>, turn: &Turn<'_>) {
        let done = result.is_ok();
        let failed = self.ended(id, name, result, turn).is_some();
        let outcome = match (done, failed) {
            (true, _) => "done",
            (false, true) => "failed",
            (false, false) => return,
        };
        metrics::counter!(PURGES, "outcome" => outcome).increment(1);
    }

    /// The row of a version and what hangs on it, to be taken away; and remembered, where that is said.
    async fn doom(
        &self,
        vault: &VaultRow,
        version: Checked<VersionRow>,
        memory: Option<Memory>,
        doomed: &mut Doomed,
        deadline: Moment,
    ) -> Result<(), ServiceError> {
        let id = version.row.version;
        let usage = self.usage_of(vault, id, deadline).await?;
        if let Some(memory) = memory {
            let counted = usage.as_ref().map(|usage| &*usage.row);
            doomed.puts.push(self.remember_version(vault, &version.row, counted, memory, deadline).await?);
        }
        if let Some(usage) = usage {
            doomed.puts.push(Put::remove(NewRow::RemoveUsage(*usage.row), usage.seal));
        }
        if version.row.residency == Residency::Token {
            doomed.on_token.push(id);
        }
        doomed.versions += 1;
        let row = VersionRow::clone(&version.row);
        doomed.puts.push(Put::remove(NewRow::RemoveVersion(Box::new(row)), version.seal));
        Ok(())
    }

    /// A key's row with all its versions, to be taken away, or as many versions as make that many together. Says whether
    /// that was all.
    async fn doom_key(
        &self,
        vault: &VaultRow,
        key: &Checked<KeyObjectRow>,
        memory: Option<Memory>,
        doomed: &mut Doomed,
        versions_max: usize,
        deadline: Moment,
    ) -> Result<bool, ServiceError> {
        let known = match memory {
            Some(_) => self.known(vault, key.row.id, deadline).await?,
            None => None,
        };
        let memory = memory.filter(|_| known.is_some());
        let mut page = Page { size: ROWS, after: None, deleted: true };
        loop {
            let versions = self.catalog.versions(vault, &key.row, &page, deadline).await?;
            let Some(last) = versions.last() else { break };
            page.after = Some(last.row.ordinal);
            for version in versions {
                if doomed.versions >= versions_max {
                    return Ok(false);
                }
                self.doom(vault, version, memory, doomed, deadline).await?;
            }
        }
        if let (Some(known), Some(memory)) = (&known, memory) {
            doomed.puts.push(Self::remember_key(known, &key.row, memory));
        }
        doomed.puts.push(Put::remove(NewRow::RemoveKey(KeyObjectRow::clone(&key.row)), key.seal));
        Ok(true)
    }

    /// A version's counter, if it has one.
    pub(super) async fn usage_of(
        &self,
        vault: &VaultRow,
        version: VersionId,
        deadline: Moment,
    ) -> Result<Option<Checked<UsageRow>>, ServiceError> {
        let scope = self.catalog.scopes.cell(HeadScope::Vault(vault.id), deadline).await?;
        if !scope.has(&RowId { kind: RowKind::Usage, id: version.bytes() }) {
            return Ok(None);
        }
        self.catalog.usage(vault, version, deadline).await
    }

    /// Destroys objects on the token whose rows are gone. When that fails, the intent stays open and the next start does it.
    pub(super) async fn reap_all(&self, versions: &[VersionId]) -> Result<(), ServiceError> {
        let deadline = Moment::now().after(REAP_WITHIN);
        for version in versions {
            while let Err(error) = self.hands.reap(*version, deadline).await {
                if Moment::now().after(REAP_PAUSE) >= deadline {
                    tracing::error!(%version, %error, cause = ?error.cause, "an object on the token is not destroyed yet: the next start does it");
                    return Err(ServiceError::because(Problem::RecordPending, error));
                }
                tokio::time::sleep(REAP_PAUSE).await;
            }
        }
        Ok(())
    }
}

fn is_due(state: State, schedule: &Schedule) -> bool {
    matches!(state, State::Deleted { purge_at, .. } if purge_at <= schedule.time)
}

/// Refuses what may not be destroyed yet, or not by whoever asks.
pub(super) fn may_purge(
    state: State,
    vault: &VaultRow,
    name: &str,
    schedule: Option<&Schedule>,
) -> Result<(), ServiceError> {
    let refusal = |reason, why| Err(Problem::Precondition { reason, why }.into());
    match (state, schedule) {
        (State::Active, _) => refusal("NOT_DELETED", format!("{name} is not deleted: delete it first")),
        (_, Some(schedule)) if !is_due(state, schedule) => refusal("NOT_DUE", format!("{name} is not due")),
        (State::Deleted { purge_at, .. }, None) if vault.purge_protection => {
            let why =
                format!("vaults/{} has purge protection: {name} is destroyed at {purge_at} and not before", vault.name);
            refusal("PURGE_PROTECTED", why)
        }
        (State::Deleted { .. }, _) => Ok(()),
    }
}

/// Destroys a deleted key, or a deleted version.
struct PurgeKey {
    name: KeyRef,
    schedule: Option<Schedule>,
    /// What the intent says: no other object is destroyed.
    said: OnceLock<Said>,
}

impl PurgeKey {
    fn new(name: KeyRef, schedule: Option<Schedule>) -> Self {
        Self { name, schedule, said: OnceLock::new() }
    }

    async fn plan(&self, service: &Service, context: &Context) -> Result<Doomed, ServiceError> {
        let (deadline, name) = (context.caller.deadline, self.name.to_string());
        let vault = service.catalog.live_vault(&self.name.vault, deadline).await?;
        let key = service.catalog.key(&vault.row, &self.name.key, deadline).await?;
        let mut doomed = Doomed::default();
        let schedule = self.schedule.as_ref();
        match self.name.version {
            None => {
                context.check_etag(&key.row.etag(), &name)?;
                may_purge(key.row.state, &vault.row, &name, schedule)?;
                let memory = Memory { fate: Fate::Purged, at: context.now };
                service.doom_key(&vault.row, &key, Some(memory), &mut doomed, usize::MAX, deadline).await?;
            }
            Some(version) => {
                let version = service.catalog.version(&vault.row, &key.row, version, deadline).await?;
                context.check_etag(&version.row.etag(), &name)?;
                if !key.row.state.is_active() {
                    let name = KeyRef { version: None, ..self.name.clone() }.to_string();
                    return Err(Problem::SoftDeleted { name }.into());
                }
                may_purge(version.row.state, &vault.row, &name, schedule)?;
                let has_backups = service.known(&vault.row, key.row.id, deadline).await?.is_some();
                let memory = has_backups.then_some(Memory { fate: Fate::PurgedAlone, at: context.now });
                service.doom(&vault.row, version, memory, &mut doomed, deadline).await?;
            }
        }
        if schedule.is_none() {
            // What is due goes all the same: objects that are not named are left on the token by a crash in just that
            // moment, without anything that could use them.
            doomed.check(&name)?;
        }
        Ok(doomed)
    }
}

impl Work for PurgeKey {
    type Op = ops::KeysPurge;
    type Out = usize;

    fn detail(&self) -> Option<String> {
        self.said.get().map(|(detail, _)| detail.clone())
    }

    async fn check(&self, service: &Service, _: &Permit<Self::Op>, context: &Context) -> Result<usize, ServiceError> {
        let doomed = self.plan(service, context).await?;
        self.said.get_or_init(|| doomed.said());
        Ok(doomed.versions)
    }

    async fn apply(
        &self,
        service: &Service,
        permit: Permit<Self::Op>,
        context: &Context,
    ) -> Result<Applied<usize>, ServiceError> {
        let deadline = context.caller.deadline;
        let scope = HeadScope::Vault(vault_id(&self.name.vault));
        let locked = service.catalog.scopes.lock(scope, deadline).await?;
        let doomed = self.plan(service, context).await?;
        doomed.is_as_said(&self.said, &self.name.to_string())?;
        let request = context.request_record(self.name.to_string());
        let lease = self.schedule.as_ref().and_then(|schedule| schedule.lease.as_ref());
        let right: &dyn Right = lease.map_or(&permit as &dyn Right, |lease| lease);
        let making = Making { name: "keys.purge", right, intent: context.intent, request, deadline };
        let kind = if self.name.version.is_some() { EventType::KeyVersionPurged } else { EventType::KeyPurged };
        let event = events::of_key(kind, &context.caller, context.now, &self.name);
        let committed = service.catalog.scopes.commit_and_tell(&locked, making, doomed.puts, vec![event]).await?;
        drop(locked);
        failpoint::hit(failpoint::PURGE_BEFORE_REAP);
        service.reap_all(&doomed.on_token).await?;
        Ok(Applied { out: doomed.versions, heads: vec![committed.mark] })
    }

    async fn again(&self, _: &Service, _: &Permit<Self::Op>, _: &str, _: &Context) -> Result<usize, ServiceError> {
        // How many there were is not known any more.
        Ok(0)
    }
}

/// There is nothing in the vault any more.
const EMPTY: &str = "VAULT_EMPTY";

/// Destroys some of what is in a vault that is being purged, deleted or not: with the vault all of it was.
struct PurgeSome {
    vault: VaultName,
    lease: Option<WorkLease>,
    said: OnceLock<Said>,
}

impl PurgeSome {
    fn new(vault: VaultName, lease: Option<WorkLease>) -> Self {
        Self { vault, lease, said: OnceLock::new() }
    }

    async fn plan(&self, service: &Service, context: &Context) -> Result<(Doomed, Vec<EventRow>), ServiceError> {
        let deadline = context.caller.deadline;
        let vault = marked(service, &self.vault, deadline).await?;
        let (mut doomed, mut events) = (Doomed::default(), Vec::new());
        let mut page: Page<KeyName> = Page { size: 100, after: None, deleted: true };
        while doomed.versions < VERSIONS_AT_ONCE {
            let keys = service.catalog.keys(&vault.row, &page, deadline).await?;
            let Some(last) = keys.last() else { break };
            page.after = Some(last.row.name.clone());
            for key in keys {
                if !service.doom_key(&vault.row, &key, None, &mut doomed, VERSIONS_AT_ONCE, deadline).await? {
                    // The rest of it goes with the next: nobody sees it any more.
                    return Ok((doomed, events));
                }
                let name = KeyRef { vault: self.vault.clone(), key: key.row.name.clone(), version: None };
                events.push(events::of_key(EventType::KeyPurged, &context.caller, context.now, &name));
            }
        }
        service.doom_secrets(&vault.row, &mut doomed, &mut events, context).await?;
        if doomed.puts.is_empty() {
            // What was known of its keys goes last.
            for known in service.catalog.all_known(&vault.row, None, ROWS, deadline).await? {
                doomed.puts.push(Put::remove(NewRow::RemoveKnown(KnownRow::clone(&known.row)), known.seal));
            }
        }
        if doomed.puts.is_empty() {
            return Err(Problem::Precondition { reason: EMPTY, why: format!("vaults/{} is empty", self.vault) }.into());
        }
        Ok((doomed, events))
    }
}

impl Service {
    /// Secrets of a vault that is being purged, deleted or not, until there is enough for one change.
    async fn doom_secrets(
        &self,
        vault: &VaultRow,
        doomed: &mut Doomed,
        events: &mut Vec<EventRow>,
        context: &Context,
    ) -> Result<(), ServiceError> {
        let deadline = context.caller.deadline;
        let mut page: Page<SecretName> = Page { size: 100, after: None, deleted: true };
        while doomed.versions < VERSIONS_AT_ONCE {
            let secrets = self.catalog.secrets(vault, &page, deadline).await?;
            let Some(last) = secrets.last() else { break };
            page.after = Some(last.row.name.clone());
            for secret in secrets {
                let left = VERSIONS_AT_ONCE.saturating_sub(doomed.versions);
                let (versions, is_all) = self.doom_secret(vault, &secret, left, &mut doomed.puts, deadline).await?;
                doomed.versions += versions;
                if !is_all {
                    return Ok(());
                }
                let name = SecretRef { vault: vault.name.clone(), secret: secret.row.name.clone(), version: None };
                events.push(secrets::event(EventType::SecretPurged, context, &name));
            }
        }
        Ok(())
    }
}

/// A vault that is marked to be destroyed.
async fn marked(service: &Service, name: &VaultName, deadline: Moment) -> Result<Arc<Checked<VaultRow>>, ServiceError> {
    let vault = service.catalog.vault(name, deadline).await?;
    if vault.row.purging {
        return Ok(vault);
    }
    Err(Problem::Precondition { reason: "NOT_DUE", why: format!("vaults/{name} is not being purged") }.into())
}

impl Work for PurgeSome {
    type Op = ops::KeysPurge;
    type Out = ();

    fn detail(&self) -> Option<String> {
        self.said.get().map(|(detail, _)| detail.clone())
    }

    async fn check(&self, service: &Service, _: &Permit<Self::Op>, context: &Context) -> Result<(), ServiceError> {
        let (doomed, _) = self.plan(service, context).await?;
        self.said.get_or_init(|| doomed.said());
        Ok(())
    }

    async fn apply(
        &self,
        service: &Service,
        permit: Permit<Self::Op>,
        context: &Context,
    ) -> Result<Applied<()>, ServiceError> {
        let deadline = context.caller.deadline;
        let locked = service.catalog.scopes.lock(HeadScope::Vault(vault_id(&self.vault)), deadline).await?;
        let (doomed, events) = self.plan(service, context).await?;
        // The schedule and whoever purged the vault are at it at the same time: then the next intent says what is left.
        doomed.is_as_said(&self.said, &format!("vaults/{}", self.vault))?;
        let right: &dyn Right = self.lease.as_ref().map_or(&permit as &dyn Right, |lease| lease);
        let making = Making { name: "keys.purge", right, intent: context.intent, request: None, deadline };
        let committed = service.catalog.scopes.commit_and_tell(&locked, making, doomed.puts, events).await?;
        drop(locked);
        failpoint::hit(failpoint::PURGE_BEFORE_REAP);
        service.reap_all(&doomed.on_token).await?;
        Ok(Applied { out: (), heads: vec![committed.mark] })
    }

    async fn again(&self, _: &Service, _: &Permit<Self::Op>, _: &str, _: &Context) -> Result<(), ServiceError> {
        Ok(())
    }
}

/// Takes a vault away that holds nothing any more, with the assignments and access policies that are about it: a vault of
/// the same name that somebody makes later is another.
struct RemoveVault {
    vault: VaultName,
    lease: Option<WorkLease>,
    /// What the intent says: no other object is destroyed.
    said: OnceLock<Said>,
}

impl RemoveVault {
    /// What is taken away, and what is said of it.
    async fn plan(&self, service: &Service, context: &Context) -> Result<(Vec<Put>, Said), ServiceError> {
        let deadline = context.caller.deadline;
        let vault = marked(service, &self.vault, deadline).await?;
        let contents = service.catalog.scopes.cell(HeadScope::Vault(vault.row.id), deadline).await?;
        if !contents.is_empty() {
            let why = format!("vaults/{} is not empty yet", self.vault);
            return Err(Problem::Precondition { reason: "VAULT_NOT_EMPTY", why }.into());
        }
        let mut puts = Vec::new();
        for policy in service.catalog.access_policies(deadline).await? {
            if policy.row.vault == self.vault {
                puts.push(Put::remove(NewRow::RemoveAccessPolicy((*policy.row).clone()), policy.seal));
            }
        }
        let policies = puts.len();
        for assignment in service.catalog.assignments(deadline).await? {
            if assignment.row.scope.vault() == Some(&self.vault) {
                puts.push(Put::remove(NewRow::RemoveAssignment((*assignment.row).clone()), assignment.seal));
            }
        }
        let assignments = puts.len() - policies;
        let mut said = format!("with {assignments} role assignments and {policies} access policies");
        let keks: Vec<String> = vault.row.kek_ids().map(|kek| kek.to_string()).collect();
        if !keks.is_empty() {
            said.push_str(&format!("; {ON_TOKEN} {}", keks.join(" ")));
        }
        puts.push(Put::remove(NewRow::RemoveVault(VaultRow::clone(&vault.row)), vault.seal));
        Ok((puts, (said, vault.row.kek_ids().collect())))
    }
}

impl Work for RemoveVault {
    type Op = ops::VaultsPurge;
    type Out = ();

    fn detail(&self) -> Option<String> {
        self.said.get().map(|(detail, _)| detail.clone())
    }

    async fn check(&self, service: &Service, _: &Permit<Self::Op>, context: &Context) -> Result<(), ServiceError> {
        let (_, said) = self.plan(service, context).await?;
        self.said.get_or_init(|| said);
        Ok(())
    }

    async fn apply(
        &self,
        service: &Service,
        permit: Permit<Self::Op>,
        context: &Context,
    ) -> Result<Applied<()>, ServiceError> {
        let deadline = context.caller.deadline;
        // Nobody makes a key in it meanwhile.
        let _contents = service.catalog.scopes.lock(HeadScope::Vault(vault_id(&self.vault)), deadline).await?;
        let (_, (_, keks)) = self.plan(service, context).await?;
        if self.said.get().is_none_or(|(_, said)| *said != keks) {
            // It is another vault of that name.
            return Err(Problem::Changed { name: format!("vaults/{}", self.vault) }.into());
        }
        // Before its row goes: as long as that is there, whoever does what is due goes on with it. The vault is empty, and
        // nobody brings it back.
        service.reap_all(&keks.into_iter().collect::<Vec<_>>()).await?;
        failpoint::hit(failpoint::PURGE_BEFORE_REAP);
        let locked = service.catalog.scopes.lock(HeadScope::Service, deadline).await?;
        let (puts, _) = self.plan(service, context).await?;
        let right: &dyn Right = self.lease.as_ref().map_or(&permit as &dyn Right, |lease| lease);
        let making = Making { name: "vaults.purge", right, intent: context.intent, request: None, deadline };
        let event = events::of_vault(EventType::VaultPurged, &context.caller, context.now, &self.vault);
        let committed = service.catalog.scopes.commit_and_tell(&locked, making, puts, vec![event]).await;
        let committed = service.note_policy(committed)?;
        // Whoever asks next reads it, if it cannot be read now.
        service.policy_in_doubt.store(true, Ordering::Release);
        if let Err(error) = service.read_policy(&locked, deadline).await {
            tracing::debug!(%error, "the roles of a purged vault are read away later");
        }
        Ok(Applied { out: (), heads: vec![committed.mark] })
    }

    async fn again(&self, _: &Service, _: &Permit<Self::Op>, _: &str, _: &Context) -> Result<(), ServiceError> {
        Ok(())
    }
}
