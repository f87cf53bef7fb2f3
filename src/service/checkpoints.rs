//! Checkpoints of the audit log: the newest tree, signed by the log key in the HSM (ADR 0009).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use strongroom_hsm::{
    Pool,
    protocol::{Fault, Moment},
};
use tokio::{sync::Mutex, task::spawn_blocking};

use super::error::{Problem, ServiceError};
use crate::{
    audit::{
        self, Durability, Kind, Log, Outcome, Record, TreeHead, handover,
        tlog::{Checkpoint, Hash, Signature, SignedNote, VerifierKey},
    },
    model::{InstanceRow, Timestamp},
};

/// For how long one signature may take.
const SIGN_WITHIN: Duration = Duration::from_secs(10);

/// Makes the checkpoints of a log.
pub struct Checkpoints {
    log: Arc<Log>,
    pool: Pool,
    /// Who signs.
    by: ArcSwap<LogSigner>,
    /// Whether the old key's last note may be on the disk, and the next one does not sign yet: nobody does then.
    is_between: AtomicBool,
    /// One at a time.
    turn: Mutex<()>,
}

/// A log key, under the name of one log.
struct LogSigner {
    key: Arc<VerifierKey>,
    /// SubjectPublicKeyInfo (DER).
    public: Vec<u8>,
}

impl LogSigner {
    fn new(origin: &str, public: &[u8]) -> Result<Self, ServiceError> {
        let key = VerifierKey::from_spki(origin, public).map_err(internal)?;
        Ok(Self { key: Arc::new(key), public: public.to_vec() })
    }

    fn has_signed(&self, note: &SignedNote) -> bool {
        note.verify(std::slice::from_ref(&*self.key)).is_ok()
    }
}

/// The key that signs the checkpoints of an instance's log of that name ([`audit::log_name`]). All replicas sign with one
/// key; its name says whose log it is.
///
/// # Errors
/// [`Problem::Internal`] if the row's key is none that a signed note knows.
pub fn key(instance: &InstanceRow, log: &str) -> Result<VerifierKey, ServiceError> {
    let origin = audit::origin(log).ok_or(Problem::Internal)?;
    VerifierKey::from_spki(&origin, &instance.service_keys.log_public).map_err(internal)
}

/// Every key that may have signed a checkpoint of that log: the one that signs first, then those before it, newest first.
///
/// # Errors
/// As for [`key`].
pub fn keys(instance: &InstanceRow, log: &str) -> Result<Vec<VerifierKey>, ServiceError> {
    let origin = audit::origin(log).ok_or(Problem::Internal)?;
    instance.all_log_keys().map(|key| VerifierKey::from_spki(&origin, &key.public).map_err(internal)).collect()
}

fn internal(error: impl std::error::Error + Send + Sync + 'static) -> ServiceError {
    ServiceError::because(Problem::Internal, error)
}

impl Checkpoints {
    /// Those of `log`, signed through `pool`.
    ///
    /// # Errors
    /// As for [`key`].
    pub fn new(log: &Arc<Log>, pool: &Pool, instance: &InstanceRow) -> Result<Self, ServiceError> {
        let origin = audit::origin(log.name()).ok_or(Problem::Internal)?;
        let by = ArcSwap::from_pointee(LogSigner::new(&origin, &instance.service_keys.log_public)?);
        Ok(Self {
            log: Arc::clone(log),
            pool: pool.clone(),
            by,
            is_between: AtomicBool::new(false),
            turn: Mutex::new(()),
        })
    }

    /// The key that signs them.
    #[must_use]
    pub fn key(&self) -> Arc<VerifierKey> {
        Arc::clone(&self.by.load().key)
    }

    /// Checks the signature of the checkpoint that the log was opened with: by a key that the row has, or had. Its root the log
    /// has compared.
    ///
    /// # Errors
    /// [`Problem::Tampered`].
    pub fn check(&self, checkpoint: &str, instance: &InstanceRow) -> Result<(), ServiceError> {
        let note = SignedNote::parse(checkpoint.as_bytes()).map_err(tampered)?;
        let keys = keys(instance, self.log.name())?;
        let handovers = handover::follow(&keys, &handover::notes(self.log.dir()).map_err(internal)?);
        let (checkpoint, signers) = Checkpoint::open(&note, &keys).map_err(tampered)?;
        handover::in_office(&signers, checkpoint.size(), &handovers).map_err(|until| {
            tampered(std::io::Error::other(format!("the key that has signed it had handed over at {until} records")))
        })
    }

    /// Goes over to the key of the instance's row, if another has signed the log's newest checkpoint: that one's last signature
    /// names the new one, and is kept ([`handover`]); a record says so; the next checkpoint is by the new key. The workers know
    /// both. Done again where it was not finished.
    ///
    /// # Errors
    /// When the log cannot be read or written, or the HSM does not sign: the old key signs on, or nobody until the next call, or
    /// the new one does and its first checkpoint is still to be made.
    pub async fn change_over(&self, instance: &InstanceRow, now: Timestamp) -> Result<(), ServiceError> {
        {
            let _turn = self.turn.lock().await;
            let origin = audit::origin(self.log.name()).ok_or(Problem::Internal)?;
            let next = LogSigner::new(&origin, &instance.service_keys.log_public)?;
            let Some(newest) = self.log.checkpoint().map_err(internal)? else {
                self.by.store(Arc::new(next));
                return Ok(());
            };
            let newest = SignedNote::parse(newest.as_bytes()).map_err(tampered)?;
            if next.has_signed(&newest) {
                self.by.store(Arc::new(next));
                return Ok(());
            }
            let mut before = instance.all_log_keys().skip(1).map(|key| LogSigner::new(&origin, &key.public));
            let old = before.find_map(|old| old.ok().filter(|old| old.has_signed(&newest)));
            let old =
                old.ok_or(Problem::Tampered { name: "the signature of the audit log's checkpoint".to_owned() })?;
            self.hand_over(&old, &next, now).await?;
            self.by.store(Arc::new(next));
            self.is_between.store(false, Ordering::Release);
        }
        self.make_anew().await
    }

    /// Has the old key name the next one, and keeps that. Where it is on the token no more, only the sealed row says that the
    /// next one is the log's.
    async fn hand_over(&self, old: &LogSigner, next: &LogSigner, now: Timestamp) -> Result<(), ServiceError> {
        let log = Arc::clone(&self.log);
        let head = blocking(move || log.advance()).await?;
        let size = head.size;
        let how = match self.sign_by(head, old, Some(&next.key)).await {
            Ok(note) => {
                let (log, old) = (Arc::clone(&self.log), Arc::clone(&old.key));
                // Above that size the old one must sign nothing, even if it is not known whether the note was written.
                self.is_between.store(true, Ordering::Release);
                blocking(move || log.put_handover(&old, &note)).await?;
                "which it has signed"
            }
            Err(error) if is_gone(&error) => {
                tracing::warn!(
                    "the log's old key is gone, and has not named the next one: whoever holds it needs the next one"
                );
                "without its signature, for it is gone"
            }
            Err(error) => return Err(error),
        };
        let mut record = Record::new(now, Kind::Event, "ownKeys.rotateLog", Outcome::Done);
        record.resource = Some(format!("instances/{}", self.log.name()));
        record.detail = Some(format!("the log's key: after {size} records from {} to {}, {how}", old.key, next.key));
        self.log.append(record, Durability::Fsync).await?;
        Ok(())
    }

    /// Makes tiles of what is durable and a checkpoint of them, if there are records since the last one: of how many, and
    /// of which root.
    ///
    /// # Errors
    /// When the log cannot be read or written, or the HSM does not sign. What was not done is done by the next call.
    pub async fn make(&self) -> Result<Option<(u64, Hash)>, ServiceError> {
        self.make_if(|head, signed| head > signed).await
    }

    /// As [`Self::make`], also where there is one of all records: for it may be signed by another key.
    ///
    /// # Errors
    /// As for [`Self::make`].
    pub async fn make_anew(&self) -> Result<(), ServiceError> {
        self.make_if(|_, _| true).await.map(drop)
    }

    async fn make_if(&self, wanted: impl Fn(u64, u64) -> bool) -> Result<Option<(u64, Hash)>, ServiceError> {
        let _turn = self.turn.lock().await;
        if self.is_between.load(Ordering::Acquire) {
            tracing::warn!("no checkpoint is made until the log has gone over to its next key");
            return Ok(None);
        }
        let log = Arc::clone(&self.log);
        let head = blocking(move || log.advance()).await?;
        if !wanted(head.size, self.log.signed()) {
            return Ok(None);
        }
        let (size, root) = (head.size, head.root);
        let note = self.sign_by(head, &self.by.load_full(), None).await?;
        let log = Arc::clone(&self.log);
        blocking(move || log.publish(size, &note)).await?;
        Ok(Some((size, root)))
    }

    /// Closes the log, and puts all of it under a last checkpoint. Where the HSM does not sign any more, the next start
    /// does that, and nothing is said of one.
    ///
    /// # Errors
    /// When the log cannot be synced.
    pub async fn close_log(&self) -> Result<Option<(u64, Hash)>, ServiceError> {
        self.log.close().await?;
        let made = self.make().await;
        Ok(made.unwrap_or_else(|error| {
            tracing::error!(%error, cause = ?error.cause, "the last records have no checkpoint; the next start makes one");
            None
        }))
    }

    /// Signs a tree of this log: a checkpoint for a copy of it. Nothing is kept.
    ///
    /// # Errors
    /// [`Problem::Changed`] while the log goes over to its next key: above the size at which the old one hands over it signs
    /// nothing. When the HSM does not sign.
    pub async fn sign(&self, head: TreeHead) -> Result<String, ServiceError> {
        let _turn = self.turn.lock().await;
        if self.is_between.load(Ordering::Acquire) {
            return Err(Problem::Changed { name: "log key".to_owned() }.into());
        }
        self.sign_by(head, &self.by.load_full(), None).await
    }

    async fn sign_by(
        &self,
        head: TreeHead,
        by: &LogSigner,
        next: Option<&VerifierKey>,
    ) -> Result<String, ServiceError> {
        let TreeHead { size, root, heads } = head;
        let checkpoint = Checkpoint::new(by.key.name(), size, root).map_err(internal)?.with_heads(&heads);
        let text = next.map_or_else(|| checkpoint.clone(), |next| checkpoint.clone().with_next_key(next)).to_string();
        let deadline = Moment::now().after(SIGN_WITHIN);
        let signature = self.pool.sign_log(&by.public, text.clone(), deadline).await.map_err(super::hands::outage)?;
        let note = SignedNote::new(&text, vec![Signature::new(&by.key, &signature)]).map_err(internal)?;
        // The worker has verified it; what is kept is what others will verify.
        note.verify(std::slice::from_ref(&*by.key)).map_err(internal)?;
        Ok(note.to_string())
    }
}

fn tampered(error: impl std::error::Error + Send + Sync + 'static) -> ServiceError {
    let name = "the signature of the audit log's checkpoint".to_owned();
    ServiceError::because(Problem::Tampered { name }, error)
}

/// Whether the workers do not know that key, or the token has it no more.
fn is_gone(error: &ServiceError) -> bool {
    let cause = error.cause.as_ref().and_then(|cause| cause.downcast_ref::<strongroom_hsm::Error>());
    matches!(cause, Some(strongroom_hsm::Error::Fault(Fault::LogKeyAbsent | Fault::LogKeyMismatch)))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, audit::LogError> + Send + 'static,
) -> Result<T, ServiceError> {
    let done = spawn_blocking(work).await.map_err(|error| ServiceError::because(Problem::Internal, error))?;
    Ok(done?)
}
