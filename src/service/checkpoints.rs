//! Checkpoints of the audit log: the newest tree, signed by the log key in the HSM (ADR 0009).

use std::{sync::Arc, time::Duration};

use strongroom_hsm::{Pool, protocol::Moment};
use tokio::{sync::Mutex, task::spawn_blocking};

use super::error::{Problem, ServiceError};
use crate::{
    audit::{
        self, Log, TreeHead,
        tlog::{Checkpoint, Hash, NoteError, Signature, SignedNote, VerifierKey},
    },
    model::InstanceRow,
};

/// For how long one signature may take.
const SIGN_WITHIN: Duration = Duration::from_secs(10);

/// Makes the checkpoints of a log.
pub struct Checkpoints {
    log: Arc<Log>,
    pool: Pool,
    key: VerifierKey,
    /// One at a time.
    turn: Mutex<()>,
}

/// The key that signs the checkpoints of an instance's log of that name ([`audit::log_name`]). All replicas sign with one
/// key; its name says whose log it is.
///
/// # Errors
/// [`Problem::Internal`] if the row's key is none that a signed note knows.
pub fn key(instance: &InstanceRow, log: &str) -> Result<VerifierKey, ServiceError> {
    let origin = audit::origin(log).ok_or(Problem::Internal)?;
    VerifierKey::from_spki(&origin, &instance.service_keys.log_public)
        .map_err(|error| ServiceError::because(Problem::Internal, error))
}

impl Checkpoints {
    /// Those of `log`, signed through `pool`.
    ///
    /// # Errors
    /// As for [`key`].
    pub fn new(log: &Arc<Log>, pool: &Pool, instance: &InstanceRow) -> Result<Self, ServiceError> {
        let key = key(instance, log.name())?;
        Ok(Self { log: Arc::clone(log), pool: pool.clone(), key, turn: Mutex::new(()) })
    }

    /// The key that signs them.
    #[must_use]
    pub const fn key(&self) -> &VerifierKey {
        &self.key
    }

    /// Checks the signature of the checkpoint that the log was opened with. Its root the log has compared.
    ///
    /// # Errors
    /// [`Problem::Tampered`].
    pub fn check(&self, checkpoint: &str) -> Result<(), ServiceError> {
        let tampered = |error: NoteError| {
            ServiceError::because(
                Problem::Tampered { name: "the signature of the audit log's checkpoint".to_owned() },
                error,
            )
        };
        let note = SignedNote::parse(checkpoint.as_bytes()).map_err(tampered)?;
        note.verify(std::slice::from_ref(&self.key)).map(drop).map_err(tampered)
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
        let log = Arc::clone(&self.log);
        let head = blocking(move || log.advance()).await?;
        if !wanted(head.size, self.log.signed()) {
            return Ok(None);
        }
        let (size, root) = (head.size, head.root);
        let note = self.sign(head).await?;
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
    /// When the HSM does not sign.
    pub async fn sign(&self, head: TreeHead) -> Result<String, ServiceError> {
        let TreeHead { size, root, heads } = head;
        let checkpoint = Checkpoint::new(self.key.name(), size, root);
        let checkpoint = checkpoint.map_err(|error| ServiceError::because(Problem::Internal, error))?;
        let text = checkpoint.with_heads(&heads).to_string();
        let deadline = Moment::now().after(SIGN_WITHIN);
        let signature = self.pool.sign_log(text.clone(), deadline).await.map_err(super::hands::outage)?;
        let internal = |error: NoteError| ServiceError::because(Problem::Internal, error);
        let note = SignedNote::new(&text, vec![Signature::new(&self.key, &signature)]).map_err(internal)?;
        // The worker has verified it; what is kept is what others will verify.
        note.verify(std::slice::from_ref(&self.key)).map_err(internal)?;
        Ok(note.to_string())
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, audit::LogError> + Send + 'static,
) -> Result<T, ServiceError> {
    let done = spawn_blocking(work).await.map_err(|error| ServiceError::because(Problem::Internal, error))?;
    Ok(done?)
}
