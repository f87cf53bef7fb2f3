//! The instance: its first row, its first administrator, and the service that stands on it.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicU8, AtomicU64},
};

use arc_swap::ArcSwap;
use strongroom_hsm::{
    Pool,
    protocol::{Hierarchy, Moment, ServiceKeys},
};
use tokio::sync::Semaphore;

use super::{
    Service, Settings,
    backups::Backups,
    catalog::Catalog,
    checkpoints::Checkpoints,
    error::{Problem, ServiceError},
    hands::Hands,
    quota::{Allowances, Quotas},
    replicas::{Own, Seat},
    scopes::{ByItself, Making, NewRow, Put, Scopes},
    secrets::Warm,
    settle,
    turns::Turns,
};
use crate::{
    access::{Policy, PolicyCell},
    audit::{Durability, Index, Kind, Log, Outcome, Record, Recovered, Refusals},
    backup::Place,
    bearer::Issued,
    model::{
        ADMINISTRATOR, AssignmentRow, Clock, Escrow, InstanceRow, LogKeys, Ordinal, Principal, ReplicaName, Scope,
        VersionId,
    },
    store::{HeadScope, Position, Store},
};

/// For how long the opening of a service may take altogether.
const OPEN_WITHIN: std::time::Duration = std::time::Duration::from_secs(60);

/// The changes that administrators can have under way beside those that all have.
const RESERVED_CHANGES: usize = 16;
/// How many keys that are not in memory one caller has read at once.
const COLD_READS_MAX: usize = 16;

/// What a service is made of.
pub struct Parts {
    /// Where rows are kept.
    pub store: Arc<dyn Store>,
    /// Who this process is among those that share it.
    pub seat: Seat,
    /// The audit log.
    pub log: Arc<Log>,
    /// What the log knew when it was opened.
    pub recovered: Recovered,
    /// The lanes of the HSM.
    pub pool: Pool,
    /// Tokens of our own: what is in force is put there.
    pub issued: Arc<Issued>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// What an operator chose.
    pub settings: Settings,
    /// How much an operator allows.
    pub allowances: Allowances,
    /// Where backups go, if anywhere.
    pub backup: Option<Place>,
}

/// What a new instance is to be.
#[derive(Clone, Debug)]
pub struct NewInstance {
    /// Its id, which its log carries too.
    pub id: [u8; 16],
    /// Whether it is for development: `serve` refuses it.
    pub development: bool,
    /// The label of its token.
    pub token_label: String,
    /// SHA-256 of each recovery key's SubjectPublicKeyInfo, in the order of the escrow.
    pub recovery_keys: Vec<[u8; 32]>,
    /// The first administrator.
    pub administrator: Principal,
    /// The name of the first replica, whose log has all this.
    pub replica: ReplicaName,
}

impl Service {
    /// Opens the service: checks what the store holds against its seals, heads and the log, and settles
    /// what a crash left open.
    ///
    /// # Errors
    /// [`Problem::Tampered`] when the store is not in the state it was left in.
    pub async fn open(parts: Parts) -> Result<Arc<Self>, ServiceError> {
        let Parts { store, seat, log, recovered, pool, issued, clock, settings, allowances, backup } = parts;
        let deadline = Moment::now().after(OPEN_WITHIN);
        let scopes = Arc::new(Scopes::new(Arc::clone(&store), pool.clone(), log.known(), seat.ordinal));
        let catalog = Catalog::new(Arc::clone(&store), pool.clone(), Arc::clone(&scopes), settings.cached_versions_max);
        let instance = catalog.instance(deadline).await?;
        check_token(&instance, &pool)?;
        let policy = Policy::new(1, catalog.policy_rows(deadline).await?);
        let checkpoints = Checkpoints::new(&log, &pool, &instance)?;
        match &recovered.checkpoint {
            Some(checkpoint) => checkpoints.check(checkpoint, &instance)?,
            None if recovered.created => {}
            None => tracing::warn!("the audit log has no checkpoint yet: one is made of what is there"),
        }
        checkpoints.change_over(&instance, clock.now()).await?;
        let lanes = pool.clone();
        log.gather_by(move || lanes.unfinished());
        let own = Own::take(seat, &store, &pool, &log, &*clock, deadline).await?;
        // In this order: who rotates the root waits for a replica that it sees, and one that it does not see yet reads a row that
        // is newer. The workers were started by a row that was not checked.
        store.beat(own.beginning().await).await?;
        let instance = catalog.instance(deadline).await?;
        pool.adopt(instance.worker_keys()).await;
        checkpoints.change_over(&instance, clock.now()).await?;
        let issuer_key = super::tokens::load(&catalog, &issued, deadline).await?;
        let service = Arc::new(Self {
            policy: Arc::new(PolicyCell::new(policy)),
            policy_in_doubt: AtomicBool::new(false),
            changes: Arc::new(Semaphore::new(settings.changes_max)),
            changes_reserved: Arc::new(Semaphore::new(RESERVED_CHANGES)),
            quotas: Quotas::new(allowances),
            cold_reads: Turns::new(COLD_READS_MAX),
            warm_secrets: Warm::default(),
            hands: Hands::new(pool.clone()),
            refusals: Refusals::new(Arc::clone(&log), Durability::Write),
            padding_failures: super::padding::PaddingFailures::default(),
            catalog,
            pool,
            store,
            index: Index::new(log.dir(), checkpoints.key().name()),
            log,
            issued,
            issuer_key,
            clock,
            settings,
            adopted: AtomicU64::new(instance.revision),
            instance: ArcSwap::from_pointee(instance),
            root_progress: super::root::ProgressCell::default(),
            checkpoints,
            own,
            longest_staleness: AtomicU8::new(0),
            address: OnceLock::new(),
            signed_at: AtomicU64::new(0),
            made_of_news: AtomicU64::new(0),
            heard_by_all: tokio::sync::Mutex::new((Moment(0), Position::default())),
            hearing_turn: tokio::sync::Mutex::new(()),
            rotations_failed: super::rotation::Failures::default(),
            activities: super::activity::Activities::default(),
            clock_went_back: AtomicBool::new(false),
            backups: Backups::new(backup),
        });
        service.hear().await?;
        settle::settle(&service, recovered.open_intents, deadline).await?;
        service.say_broken_glass();
        Ok(service)
    }

    /// The instance.
    #[must_use]
    pub fn instance(&self) -> Arc<InstanceRow> {
        self.instance.load_full()
    }
}

fn check_token(instance: &InstanceRow, pool: &Pool) -> Result<(), ServiceError> {
    let serial = pool.ready().serial;
    if serial == instance.token_serial {
        return Ok(());
    }
    let why = format!("the store belongs to the token with serial {}, not to {serial}", instance.token_serial);
    Err(Problem::Precondition { reason: "ANOTHER_TOKEN", why }.into())
}

/// Writes a new instance and its first administrator, with their record.
///
/// # Errors
/// When the store has an instance already, or the store, log or HSM fails.
pub async fn initialise(
    store: &Arc<dyn Store>,
    log: &Arc<Log>,
    pool: &Pool,
    hierarchy: &Hierarchy,
    new: NewInstance,
    clock: &dyn Clock,
) -> Result<InstanceRow, ServiceError> {
    if store.instance().await?.is_some() {
        let why = "the store has an instance already".to_owned();
        return Err(Problem::Precondition { reason: "ALREADY_INITIALISED", why }.into());
    }
    let deadline = Moment::now().after(OPEN_WITHIN);
    let row = instance_row(hierarchy, &new, clock);
    let mut intent = Record::new(clock.now(), Kind::Intent, "instance.initialise", Outcome::Pending);
    intent.resource = Some(row.resource());
    intent.principal = Some(new.administrator.as_str().to_owned());
    let index = log.append(intent, Durability::Fsync).await?;
    let ordinal = Ordinal::default();
    let administrator = AssignmentRow {
        id: VersionId::from_bytes(super::fresh_id()),
        principal: new.administrator.clone(),
        role: ADMINISTRATOR,
        scope: Scope::Service,
        created: row.created,
        intent: ordinal.intent(index),
        revision: 1,
    };
    let scopes = Scopes::new(Arc::clone(store), pool.clone(), log.known(), ordinal);
    let locked = scopes.lock(HeadScope::Service, deadline).await?;
    let puts =
        vec![Put::insert(NewRow::Instance(Box::new(row.clone()))), Put::insert(NewRow::Assignment(administrator))];
    let committed = scopes
        .commit(
            &locked,
            Making {
                name: "instance.initialise",
                right: &ByItself,
                intent: ordinal.intent(index),
                request: None,
                deadline,
            },
            puts,
        )
        .await?;
    // It is the first, whoever starts first.
    let seat = Seat { name: new.replica.clone(), ordinal, row: None };
    Own::take(seat, store, pool, log, clock, deadline).await?;
    let mut outcome = Record::new(clock.now(), Kind::Outcome, "instance.initialise", Outcome::Done);
    outcome.resource = Some(row.resource());
    outcome.principal = Some(new.administrator.as_str().to_owned());
    outcome.intent = Some(index);
    outcome.heads = vec![committed.mark];
    log.append(outcome, Durability::Fsync).await?;
    Ok(row)
}

/// Notes the fresh token that a recovery has put the hierarchy onto.
///
/// # Errors
/// When the store, log or HSM fails.
pub async fn recovered(
    store: &Arc<dyn Store>,
    log: &Arc<Log>,
    pool: &Pool,
    hierarchy: &Hierarchy,
    clock: &dyn Clock,
    ordinal: Ordinal,
) -> Result<InstanceRow, ServiceError> {
    let deadline = Moment::now().after(OPEN_WITHIN);
    let scopes = Arc::new(Scopes::new(Arc::clone(store), pool.clone(), log.known(), ordinal));
    let catalog = Catalog::new(Arc::clone(store), pool.clone(), Arc::clone(&scopes), 1);
    let locked = scopes.lock(HeadScope::Service, deadline).await?;
    let (old, seal) = catalog.sealed_instance(deadline).await?;
    let new = InstanceRow {
        token_serial: hierarchy.serial.clone(),
        unwrap_template: hierarchy.unwrap_template,
        // A root that was to go is not on the fresh token.
        renewal: old.renewal.clone().filter(|_| hierarchy.service_keys.other.is_some()),
        service_keys: ServiceKeys { other: None, ..hierarchy.service_keys.clone() },
        log_keys: old.log_keys_after_recovery(),
        revision: old.revision + 1,
        ..old.clone()
    };
    let (by_old, by_new) = (Checkpoints::new(log, pool, &old)?, Checkpoints::new(log, pool, &new)?);
    if let Some(checkpoint) = log.checkpoint().map_err(|error| ServiceError::because(Problem::Internal, error))? {
        // By the new key, if an earlier run got so far.
        by_old.check(&checkpoint, &old).or_else(|error| by_new.check(&checkpoint, &new).map_err(|_| error))?;
    }
    // Before the row knows the new key: a start believes a checkpoint by the row's key only, and the old one is gone.
    by_new.make_anew().await?;
    let mut intent = Record::new(clock.now(), Kind::Intent, "instance.recover", Outcome::Pending);
    intent.resource = Some(new.resource());
    let index = log.append(intent, Durability::Fsync).await?;
    let put = Put::replace(&old, seal, NewRow::Instance(Box::new(new.clone())));
    let committed = scopes
        .commit(
            &locked,
            Making {
                name: "instance.recover",
                right: &ByItself,
                intent: ordinal.intent(index),
                request: None,
                deadline,
            },
            vec![put],
        )
        .await?;
    let mut outcome = Record::new(clock.now(), Kind::Outcome, "instance.recover", Outcome::Done);
    outcome.resource = Some(new.resource());
    outcome.intent = Some(index);
    outcome.heads = vec![committed.mark];
    log.append(outcome, Durability::Fsync).await?;
    Ok(new)
}

fn instance_row(hierarchy: &Hierarchy, new: &NewInstance, clock: &dyn Clock) -> InstanceRow {
    let escrow = new
        .recovery_keys
        .iter()
        .zip(&hierarchy.escrow)
        .map(|(key, blob)| Escrow { recovery_key: *key, blob: blob.to_vec() })
        .collect();
    InstanceRow {
        id: new.id,
        created: clock.now(),
        development: new.development,
        token_label: new.token_label.clone(),
        token_serial: hierarchy.serial.clone(),
        unwrap_template: hierarchy.unwrap_template,
        service_keys: hierarchy.service_keys.clone(),
        escrow,
        renewal: None,
        log_keys: LogKeys::default(),
        revision: 1,
    }
}
