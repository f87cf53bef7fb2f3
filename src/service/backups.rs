//! Backups that the running service makes of itself (`crate::backup`).
//!
//! Nobody waits for one. The store is copied as it is at one moment; the log's copy ends before its first record that names a
//! newer head than that ([`crate::audit::HeldJournal`]): so the two are of one moment without a gate, and a start on them
//! finds what a crash at that moment would have left.

use std::{
    io,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use strongroom_hsm::protocol::Moment;
use tokio::task::spawn_blocking;

use super::{
    Caller, ChangeOptions, Service,
    door::{Applied, Context, Note, Work},
    error::{Problem, ServiceError},
    quota::ROW_US,
};
use crate::{
    access::{Permit, ops},
    audit::{CutError, HeadMark, HeldJournal, TreeHead},
    backup::{Draft, LogEntry, Manifest, Place, StoreEntry, TokenEntry, manifest},
    model::{InstanceRow, RequestId, Scope, Stage, Timestamp},
    observe::metrics::{BACKUP_BYTES, BACKUP_LAST, BACKUPS},
    store::{SaveError, Store as _, copy, sqlite::SqliteStore},
};

/// How often a repeated request looks whether its backup is done.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is known of backups beside what lies in their folder.
#[derive(Debug, Default)]
pub struct Backups {
    place: Option<Place>,
    under_way: Mutex<Option<UnderWay>>,
}

/// A backup that is being made.
#[derive(Clone, Debug)]
pub struct UnderWay {
    /// Its id.
    pub id: String,
    /// Since when.
    pub since: Timestamp,
}

/// A backup.
#[derive(Clone, Debug)]
pub struct BackupView {
    /// The name of its folder.
    pub folder: String,
    /// What it says of itself.
    pub manifest: Manifest,
    /// SHA-256 of the manifest.
    pub digest: String,
}

impl Backups {
    /// Into that folder; none are made where there is none.
    #[must_use]
    pub fn new(place: Option<Place>) -> Self {
        Self { place, under_way: Mutex::default() }
    }

    fn place(&self) -> Result<&Place, ServiceError> {
        self.place.as_ref().ok_or_else(|| {
            let why = "no folder for backups is configured: say [backup] dir = \"…\" in the server's configuration";
            Problem::Precondition { reason: "BACKUPS_NOT_CONFIGURED", why: why.to_owned() }.into()
        })
    }

    fn turn(&self) -> std::sync::MutexGuard<'_, Option<UnderWay>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one that is being made.
    #[must_use]
    pub fn under_way(&self) -> Option<UnderWay> {
        self.turn().clone()
    }

    fn begin(&self, id: &str, since: Timestamp) -> Result<Turn<'_>, ServiceError> {
        let mut turn = self.turn();
        if let Some(other) = turn.as_ref() {
            return Err(busy(other).into());
        }
        *turn = Some(UnderWay { id: id.to_owned(), since });
        Ok(Turn(self))
    }

    /// The finished backup of that id. Blocks.
    pub(super) fn find(&self, id: &str) -> io::Result<Option<BackupView>> {
        let Some(place) = &self.place else { return Ok(None) };
        let begin = |view: &BackupView| view.manifest.id == id;
        Ok(listed(place)?.into_iter().find(begin))
    }
}

fn busy(other: &UnderWay) -> Problem {
    let why = format!("the backup {} is being made since {}: there is one at a time", other.id, other.since);
    Problem::Precondition { reason: "BACKUP_UNDER_WAY", why }
}

/// Whoever makes a backup. Dropped, the next can.
struct Turn<'a>(&'a Backups);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.turn() = None;
    }
}

/// What lies in the folder, oldest first. What cannot be read is left out, and said in the program's log.
fn listed(place: &Place) -> io::Result<Vec<BackupView>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&place.dir)? {
        let entry = entry?;
        let folder = entry.file_name().to_string_lossy().into_owned();
        if folder.starts_with('.') || !entry.file_type()?.is_dir() {
            continue;
        }
        match Manifest::read(&entry.path()) {
            Ok((manifest, digest)) => found.push(BackupView { folder, manifest, digest }),
            Err(error) => tracing::warn!(folder, %error, "this is no backup that can be read"),
        }
    }
    found.sort_by(|one, other| (one.manifest.created, &one.folder).cmp(&(other.manifest.created, &other.folder)));
    Ok(found)
}

/// Which root there is, and how far another is in taking its place.
#[derive(Debug, PartialEq, Eq)]
struct RootMoment([u8; 16], Option<(Stage, Timestamp)>);

impl RootMoment {
    fn of(instance: &InstanceRow) -> Self {
        Self(instance.root_name(), instance.renewal.as_ref().map(|renewal| (renewal.stage, renewal.begun)))
    }
}

/// What a failure of the folder's disk means.
fn unwritten(error: impl std::error::Error + Send + Sync + 'static) -> ServiceError {
    ServiceError::because(Problem::Unavailable { what: "the folder of backups" }, error)
}

async fn blocking<T: Send + 'static, E: std::error::Error + Send + Sync + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, ServiceError> {
    let done = spawn_blocking(work).await.map_err(|error| ServiceError::because(Problem::Internal, error))?;
    done.map_err(unwritten)
}

/// The id of the backup that a request asks for.
#[must_use]
pub fn id_of(request: Option<RequestId>) -> String {
    let id = request.map_or_else(super::fresh_id, RequestId::bytes);
    base16ct::lower::encode_string(&id)
}

impl Service {
    /// Makes a backup. The same request id again gives the same backup.
    ///
    /// # Errors
    /// [`Problem::Precondition`] where no folder is configured, another is being made, or the token has no files;
    /// [`Problem::Unavailable`] when the folder cannot be written.
    pub async fn create_backup(
        self: &Arc<Self>,
        caller: &Caller,
        with: WithToken,
        options: ChangeOptions,
    ) -> Result<BackupView, ServiceError> {
        let id = id_of(options.request_id);
        let resource = format!("backups/{id}");
        let work = CreateBackup { service: Arc::clone(self), id, with, digest: OnceLock::new() };
        self.change(caller, resource, Scope::Service, options, work).await
    }

    /// Lists the backups in the server's folder, oldest first, and the one that is being made.
    ///
    /// # Errors
    /// [`Problem::Precondition`] where no folder is configured; [`Problem::Unavailable`] when it cannot be read.
    pub async fn list_backups(
        self: &Arc<Self>,
        caller: &Caller,
    ) -> Result<(Vec<BackupView>, Option<UnderWay>), ServiceError> {
        let note = Note::default();
        self.plain(caller, "backups".to_owned(), Scope::Service, &note, |_: Permit<ops::BackupsRead>| async {
            let place = self.backups.place()?.clone();
            let found = blocking(move || listed(&place)).await?;
            note.charge(ROW_US * found.len() as u64);
            Ok((found, self.backups.under_way()))
        })
        .await
    }

    /// Copies the store and reads its heads.
    async fn copy_store(&self, draft: &Draft) -> Result<(Vec<HeadMark>, i64), ServiceError> {
        let path = draft.store();
        self.store.save(&path).await.map_err(|error| match error {
            SaveError::Failed(error) => ServiceError::because(Problem::Unavailable { what: "the store" }, error),
            error => unwritten(error),
        })?;
        let copied = SqliteStore::open(&path).await.map_err(unwritten)?;
        let checked = async {
            let heads = copied.heads().await?;
            copy::check_heads(&copied, &heads).await.map_err(|error| {
                let name = "the rows of the store".to_owned();
                ServiceError::because(Problem::Tampered { name }, error)
            })?;
            Ok::<_, ServiceError>(heads)
        };
        let heads = checked.await;
        copied.close().await;
        let marks = heads?.into_iter().map(|head| {
            let head = head.into_unchecked().0;
            let digest = base16ct::lower::encode_string(&head.digest.short());
            HeadMark { scope: head.scope.to_string(), revision: head.revision, digest }
        });
        Ok((marks.collect(), SqliteStore::SCHEMA))
    }

    async fn make_backup(&self, id: &str, with: WithToken) -> Result<BackupView, ServiceError> {
        let place = self.backups.place()?.clone();
        let (created, replica) = (self.clock.now(), self.own.name().await);
        let (begun, named, with_id) = (place.clone(), replica.clone(), id.to_owned());
        let instance = base16ct::lower::encode_string(&self.instance().id);
        let of = instance.clone();
        let draft = blocking(move || Draft::begin(&begun, &of, &named, &with_id, created)).await?;
        let of_root = RootMoment::of(&self.instance());
        let held = HeldJournal::new(&self.log);
        let key = self.checkpoints.key();
        let from = self.log.known().next_index;
        let (heads, schema) = self.copy_store(&draft).await?;
        let until = self.log.known().next_index;
        let known: Vec<(String, u64)> = heads.iter().map(|mark| (mark.scope.clone(), mark.revision)).collect();
        let to = draft.audit();
        let tree = blocking::<TreeHead, CutError>(move || {
            let is_newer = |mark: &HeadMark| {
                let found = known.iter().find(|(scope, _)| *scope == mark.scope);
                mark.revision > found.map_or(0, |(_, revision)| *revision)
            };
            held.copy(&to, from, until, &is_newer)
        })
        .await?;
        let log = LogEntry {
            name: self.log.name().to_owned(),
            size: tree.size,
            root: base16ct::lower::encode_string(&tree.root),
        };
        // All of it under one signature, so that nothing of the copy rests on the manifest.
        let note = self.checkpoints.sign(tree).await?;
        if *self.checkpoints.key() != *key {
            // The copied store may not know the key that has signed.
            return Err(Problem::Changed { name: "log key".to_owned() }.into());
        }
        let to = draft.audit();
        blocking(move || HeldJournal::put_checkpoint(&to, &note)).await?;
        let token = self.token_of(&place, with);
        let manifest = Manifest {
            format: manifest::FORMAT,
            id: id.to_owned(),
            created: created.0,
            release: env!("CARGO_PKG_VERSION").to_owned(),
            instance,
            replica: replica.to_string(),
            store: StoreEntry { kind: self.store.kind().to_owned(), schema },
            log,
            heads,
            token,
            files: Vec::new(),
        };
        let draft = if with == WithToken::Files { self.copy_token(draft, place, of_root).await? } else { draft };
        blocking(move || {
            let manifest = Manifest { files: draft.files()?, ..manifest };
            let folder = draft.name().to_owned();
            let (_, digest) = draft.finish(&manifest)?;
            Ok::<_, io::Error>(BackupView { folder, manifest, digest })
        })
        .await
    }

    /// Copies the token's files, which are of a later moment than the store: a root that was retired since is missing in them, and
    /// rows of the store are under it.
    async fn copy_token(&self, draft: Draft, place: Place, of_root: RootMoment) -> Result<Draft, ServiceError> {
        let draft = blocking(move || draft.copy_token(&place).map(|()| draft)).await?;
        if RootMoment::of(&self.instance()) == of_root {
            Ok(draft)
        } else {
            Err(Problem::Changed { name: "root key".to_owned() }.into())
        }
    }

    fn token_of(&self, place: &Place, with: WithToken) -> Option<TokenEntry> {
        let instance = self.instance();
        let folders = place.token_dirs.iter().map(|folder| folder.display().to_string()).collect();
        (with == WithToken::Files).then(|| TokenEntry {
            label: instance.token_label.clone(),
            serial: instance.token_serial.clone(),
            folders,
        })
    }

    /// Whether a finished backup of that id is there: settles an open intent to make one.
    pub(super) async fn has_backup(self: &Arc<Self>, id: &str) -> Result<bool, ServiceError> {
        let (service, id) = (Arc::clone(self), id.to_owned());
        let found = blocking(move || service.backups.find(&id)).await;
        // A folder that cannot be read keeps no service from starting.
        Ok(found.is_ok_and(|found| found.is_some()))
    }
}

/// Whether the token's files are in a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithToken {
    /// They are.
    Files,
    /// They are not.
    Nothing,
}

struct CreateBackup {
    service: Arc<Service>,
    id: String,
    with: WithToken,
    /// SHA-256 of the manifest, once there is one.
    digest: OnceLock<String>,
}

impl CreateBackup {
    /// The same backup, if it was made before, or is being made for the same request.
    async fn made_before(&self, deadline: Moment) -> Result<Option<BackupView>, ServiceError> {
        while self.service.backups.under_way().is_some_and(|other| other.id == self.id) {
            if Moment::now() >= deadline {
                return Err(Problem::DeadlineExceeded.into());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let (service, id) = (Arc::clone(&self.service), self.id.clone());
        blocking(move || service.backups.find(&id)).await
    }

    fn check_place(&self) -> Result<(), ServiceError> {
        let place = self.service.backups.place()?;
        if self.with == WithToken::Files && place.token_dirs.is_empty() {
            let why =
                "the configuration names no folders with the token's files (hsm.sync_dirs): back the token up by \
                the HSM's own means"
                    .to_owned();
            return Err(Problem::Precondition { reason: "TOKEN_HAS_NO_FILES", why }.into());
        }
        match self.service.backups.under_way() {
            Some(other) if other.id != self.id => Err(busy(&other).into()),
            _ => Ok(()),
        }
    }
}

impl Work for CreateBackup {
    type Op = ops::BackupsCreate;
    type Out = BackupView;

    async fn check(
        &self,
        service: &Service,
        _: &Permit<Self::Op>,
        context: &Context,
    ) -> Result<BackupView, ServiceError> {
        self.check_place()?;
        let place = service.backups.place()?.clone();
        // Whether it can be written is found out before anything is recorded as begun.
        blocking(move || std::fs::read_dir(&place.dir).map(drop)).await?;
        Ok(BackupView {
            folder: String::new(),
            digest: String::new(),
            manifest: Manifest {
                format: manifest::FORMAT,
                id: self.id.clone(),
                created: context.now.0,
                release: env!("CARGO_PKG_VERSION").to_owned(),
                instance: base16ct::lower::encode_string(&service.instance().id),
                replica: service.own.name().await.to_string(),
                store: StoreEntry { kind: service.store.kind().to_owned(), schema: SqliteStore::SCHEMA },
                log: LogEntry { name: service.log.name().to_owned(), size: 0, root: String::new() },
                heads: Vec::new(),
                token: None,
                files: Vec::new(),
            },
        })
    }

    async fn apply(
        &self,
        service: &Service,
        permit: Permit<Self::Op>,
        context: &Context,
    ) -> Result<Applied<BackupView>, ServiceError> {
        if let Some(out) = self.made_before(context.caller.deadline).await? {
            let _ = self.digest.set(out.digest.clone());
            return Ok(Applied { out, heads: Vec::new() });
        }
        if !permit.still_holds() {
            return Err(Problem::Denied(permit.denied()).into());
        }
        let _turn = service.backups.begin(&self.id, context.now)?;
        let made = service.make_backup(&self.id, self.with).await;
        let outcome = if made.is_ok() { "done" } else { "failed" };
        metrics::counter!(BACKUPS, "outcome" => outcome).increment(1);
        let out = made.inspect_err(|error| tracing::error!(%error, cause = ?error.cause, "no backup was made"))?;
        #[expect(clippy::cast_precision_loss, reason = "a metric")]
        metrics::gauge!(BACKUP_LAST).set(service.clock.now().0 as f64);
        #[expect(clippy::cast_precision_loss, reason = "a metric")]
        metrics::gauge!(BACKUP_BYTES).set(out.manifest.bytes() as f64);
        let _ = self.digest.set(out.digest.clone());
        Ok(Applied { out, heads: Vec::new() })
    }

    async fn again(
        &self,
        _: &Service,
        _: &Permit<Self::Op>,
        _: &str,
        context: &Context,
    ) -> Result<BackupView, ServiceError> {
        let found = self.made_before(context.caller.deadline).await?;
        found.ok_or_else(|| Problem::NotFound { name: format!("backups/{}", self.id) }.into())
    }

    fn detail(&self) -> Option<String> {
        let with = if self.with == WithToken::Files { "with the token's files" } else { "without the token" };
        Some(match self.digest.get() {
            Some(digest) => format!("{with}; manifest: sha256:{digest}"),
            None => with.to_owned(),
        })
    }
}
