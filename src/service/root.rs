//! The root, and how another takes its place: said here, done by the job (`docs/own-keys.md`).
//!
//! * [`RotateRoot`] makes the next root, with a sealing key of its own, beside the one that is there: *prepared*.
//! * [`adopt`] gives the workers of each replica the keys that the instance's row names, one worker after the other.
//! * [`pass`] goes from stage to stage once every replica has adopted the one before, and carries over what there is:
//!   every row is sealed anew, every blob wrapped anew, in [`rows`] and [`beside`].
//!
//! Whoever carries over holds an opened root, for which a recovery key lies in a file that only a worker reads.

mod adopt;
mod beside;
mod pass;
mod rows;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_bytes::ByteBuf;
use strongroom_hsm::{
    StartError,
    pool::{Provisioned, provision},
    protocol::{Fault, Kek, Moment, NewRoot, Provision, RecoveryKeyFile},
};
use tokio::sync::OnceCell;

pub use self::pass::Pass;
use super::{
    Caller, ChangeOptions, Service,
    door::{Applied, Context, Work},
    error::{Problem, ServiceError},
    scopes::{Making, NewRow, Put},
    settle::REAP_WITHIN,
};
use crate::{
    access::{Op as _, Permit, ops},
    failpoint,
    model::{
        Escrow, Generation, InstanceRow, Renewal, Residency, Row as _, Scope, Stage, Timestamp, VaultRow, VersionId,
    },
    store::HeadScope,
};

/// The most recovery keys of a root.
pub const RECOVERY_KEYS_MAX: usize = 16;
/// The most rows that are named which could not be carried over.
const FAILED_MAX: usize = 20;

/// The lease of the work.
pub(super) const RENEWING: &str = "root";

/// The root, as it is shown.
#[derive(Clone, Debug)]
pub struct RootView {
    /// The instance, which has the root and what takes its place.
    pub instance: Arc<InstanceRow>,
    /// How far this replica has carried things over; nothing where another does it, or nobody.
    pub progress: Option<Progress>,
}

/// How far the work has come in the replica that does it.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// How many rows were looked at in this pass.
    pub rows: u64,
    /// How many of them were carried over.
    pub renewed: u64,
    /// How many there are, as far as is known.
    pub total: u64,
    /// What it waits for, if it waits.
    pub waits_for: String,
    /// What could not be carried over, and why: some of it. Until that is settled the old root stays.
    pub failed: Vec<(String, String)>,
}

/// [`Progress`], shared.
#[derive(Debug, Default)]
pub(super) struct ProgressCell(Mutex<Option<Progress>>);

impl ProgressCell {
    fn lock(&self) -> MutexGuard<'_, Option<Progress>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Progress)) {
        change(self.lock().get_or_insert_default());
    }

    fn fail(&self, name: String, why: String) {
        tracing::error!(name, why, "what is under the old root could not be carried over");
        self.change(|progress| {
            if progress.failed.len() < FAILED_MAX {
                progress.failed.push((name, why));
            }
        });
    }

    fn waits_for(&self, what: impl Into<String>) {
        let what = what.into();
        self.change(|progress| progress.waits_for = what);
    }

    fn clear(&self) {
        *self.lock() = None;
    }
}

/// SHA-256 of each recovery key's SubjectPublicKeyInfo, in order, and the keys (DER).
#[derive(Clone, Debug, Default)]
pub struct RecoveryKeys(pub Vec<([u8; 32], Vec<u8>)>);

impl Service {
    /// The root as it stands in the store, and how far this replica has come where another takes its place.
    pub(super) async fn root_view(&self, deadline: Moment) -> Result<RootView, ServiceError> {
        let instance = Arc::new(self.catalog.instance(deadline).await?);
        let progress = self.root_progress.lock().clone().filter(|_| instance.renewal.is_some());
        Ok(RootView { instance, progress })
    }

    /// Makes another root, wrapped for those recovery keys, which takes the place of the one that is there. It is prepared when
    /// this answers; the rest is done by itself.
    ///
    /// # Errors
    /// [`Problem::Precondition`] when one takes its place already, or no recovery key of the one that is there is where the
    /// configuration says.
    pub async fn rotate_root(
        self: &Arc<Self>,
        caller: &Caller,
        recovery: RecoveryKeys,
        options: ChangeOptions,
    ) -> Result<RootView, ServiceError> {
        let work = RotateRoot { recovery, id: VersionId::from_bytes(super::fresh_id()), made: OnceCell::new() };
        self.change(caller, self.instance().resource(), Scope::Service, options, work).await
    }

    /// What a key of that residency is wrapped under in a vault, if not under the root of `init`.
    pub(super) fn wrapped_under(&self, vault: &VaultRow, residency: Residency) -> Option<Kek> {
        if residency == Residency::Wrapped { vault.kek.or_else(|| self.root()) } else { None }
    }

    /// The root, if it is not the one of `init`.
    pub(super) fn root(&self) -> Option<Kek> {
        self.instance().service_keys.root
    }

    fn recovery_key_file(&self, instance: &InstanceRow) -> Result<PathBuf, ServiceError> {
        let unmet = |reason, why: &str| Err(Problem::Precondition { reason, why: why.to_owned() }.into());
        if instance.escrow.is_empty() {
            return unmet(
                "NO_ESCROW",
                "the root was made without recovery keys (--no-recovery), so nothing that is under it can be carried over to \
                 another: make new keys in a new instance",
            );
        }
        match &self.settings.recovery_key_file {
            Some(file) => Ok(file.clone()),
            None => unmet(
                "NO_RECOVERY_KEY_FILE",
                "it takes a recovery key of the root: say hsm.recovery_key_file in the configuration, a file that its holder puts \
                 there for the time, best in memory (/run, /dev/shm)",
            ),
        }
    }
}

/// What opens a root: the recovery key in that file.
fn opener(file: PathBuf, escrow: &[Escrow]) -> RecoveryKeyFile {
    let escrow = escrow.iter().map(|escrow| (escrow.recovery_key, ByteBuf::from(escrow.blob.clone())));
    RecoveryKeyFile { file, escrow: escrow.collect() }
}

/// What a worker with a recovery key means that did not do it.
fn unopened(error: StartError) -> ServiceError {
    unprovisioned(error, "RECOVERY_KEY")
}

/// What a provisioning worker that did not do it means; `reason` where it was not set up as it has to be.
pub(super) fn unprovisioned(error: StartError, reason: &'static str) -> ServiceError {
    let problem = match &error {
        StartError::Refused { source: Fault::Setup(why), .. } => Problem::Precondition { reason, why: why.clone() },
        StartError::Refused { source: Fault::Unsupported(why), .. } => Problem::Unsupported { why: why.clone() },
        _ => Problem::Unavailable { what: "the HSM" },
    };
    ServiceError::because(problem, error)
}

/// Makes the next root.
struct RotateRoot {
    recovery: RecoveryKeys,
    /// Its CKA_ID: whoever asks does not choose it.
    id: VersionId,
    made: OnceCell<NewRoot>,
}

impl RotateRoot {
    async fn found(&self, service: &Service, deadline: Moment) -> Result<InstanceRow, ServiceError> {
        let instance = service.catalog.instance(deadline).await?;
        if let Some(renewal) = &instance.renewal {
            let stage = renewal.stage.name();
            let why = format!(
                "another root takes its place already ({stage}): `strongroom own-keys show` says how far it is"
            );
            return Err(Problem::Precondition { reason: "ROOT_IN_ROTATION", why }.into());
        }
        service.recovery_key_file(&instance)?;
        let known = |key: &[u8; 32]| instance.escrow.iter().any(|escrow| escrow.recovery_key == *key);
        if !self.recovery.0.is_empty() && !self.recovery.0.iter().any(|(key, _)| known(key)) {
            let why = "one of the recovery keys at least has to be one of the present root's: while there is something under both roots, a \
                       lost token comes back by a key that opens both. Rotate once more for the others alone afterwards";
            return Err(Problem::Precondition { reason: "NO_COMMON_RECOVERY_KEY", why: why.to_owned() }.into());
        }
        Ok(instance)
    }

    async fn make(&self, service: &Service, instance: &InstanceRow) -> Result<NewRoot, ServiceError> {
        let make = Provision::MakeRoot {
            id: self.id.bytes(),
            keys: instance.worker_keys(),
            recovery: opener(service.recovery_key_file(instance)?, &instance.escrow),
            escrow_for: self.recovery.0.iter().map(|(_, spki)| ByteBuf::from(spki.clone())).collect(),
        };
        match provision(service.pool.profile(), vec![make]).await.map_err(unopened)?.pop() {
            Some(Provisioned::Root(root)) => Ok(root),
            _ => Err(Problem::Internal.into()),
        }
    }

    fn prepared(&self, old: &InstanceRow, made: &NewRoot, now: Timestamp) -> InstanceRow {
        let escrow = self.recovery.0.iter().zip(&made.escrow);
        let escrow = escrow.map(|((key, _), blob)| Escrow { recovery_key: *key, blob: blob.to_vec() });
        let other = Generation {
            root: Some(made.root),
            sealing: made.sealing.to_vec(),
            data: made.data.to_vec(),
            escrow: escrow.collect(),
            unwrap_template: made.unwrap_template,
        };
        let renewal = Some(Renewal { stage: Stage::Prepared, other, begun: now });
        InstanceRow { renewal, revision: old.revision + 1, ..old.clone() }
    }
}

impl Work for RotateRoot {
    type Op = ops::OwnKeysRotateRoot;
    type Out = RootView;

    fn detail(&self) -> Option<String> {
        let keys = self.recovery.0.iter().map(|(key, _)| format!("sha256:{}", base16ct::lower::encode_string(key)));
        let keys: Vec<String> = keys.collect();
        let keys = if keys.is_empty() { "nobody".to_owned() } else { keys.join(", ") };
        Some(format!("next root {}, recovery keys of {keys}", self.id))
    }

    async fn check(
        &self,
        service: &Service,
        _: &Permit<Self::Op>,
        context: &Context,
    ) -> Result<RootView, ServiceError> {
        let instance = Arc::new(self.found(service, context.caller.deadline).await?);
        Ok(RootView { instance, progress: None })
    }

    async fn apply(
        &self,
        service: &Service,
        permit: Permit<Self::Op>,
        context: &Context,
    ) -> Result<Applied<RootView>, ServiceError> {
        let deadline = context.caller.deadline;
        let found = self.found(service, deadline).await?;
        let made = self.made.get_or_try_init(|| self.make(service, &found)).await?;
        failpoint::hit(failpoint::SERVICE_AFTER_GENERATE);
        let locked = service.catalog.scopes.lock(HeadScope::Service, deadline).await?;
        self.found(service, deadline).await?;
        let (old, seal) = service.catalog.sealed_instance(deadline).await?;
        if old.service_keys != found.service_keys {
            return Err(Problem::Changed { name: "root".to_owned() }.into());
        }
        let new = self.prepared(&old, made, context.now);
        let put = Put::replace(&old, seal, NewRow::Instance(Box::new(new.clone())));
        let request = context.request_record("root".to_owned());
        let name = Self::Op::ACTION.name();
        let making = Making { name, right: &permit, intent: context.intent, request, deadline };
        let committed = service.catalog.scopes.commit(&locked, making, vec![put]).await?;
        Ok(Applied { out: RootView { instance: Arc::new(new), progress: None }, heads: vec![committed.mark] })
    }

    async fn again(
        &self,
        service: &Service,
        _: &Permit<Self::Op>,
        _: &str,
        context: &Context,
    ) -> Result<RootView, ServiceError> {
        let instance = Arc::new(service.catalog.instance(context.caller.deadline).await?);
        Ok(RootView { instance, progress: None })
    }

    fn version(&self) -> Option<VersionId> {
        Some(self.id)
    }

    async fn undo(&self, service: &Service, _: &Context) -> Result<(), ServiceError> {
        service.hands.reap(self.id, Moment::now().after(REAP_WITHIN)).await
    }
}

impl InstanceRow {
    /// Whether a root of that CKA_ID is one that it stands on, or that takes another's place; or a log key of that CKA_ID one
    /// that signs, or did.
    #[must_use]
    pub fn has_own(&self, id: VersionId) -> bool {
        let other = self.renewal.as_ref().and_then(|renewal| renewal.other.root_id());
        let is_root = [self.service_keys.root.map(|root| root.id), other].contains(&Some(id.bytes()));
        is_root || self.all_log_keys().any(|key| key.id == Some(id.bytes()))
    }

    /// How it is recorded.
    #[must_use]
    pub fn resource(&self) -> String {
        format!("instances/{}", base16ct::lower::encode_string(&self.row_id().id))
    }
}
