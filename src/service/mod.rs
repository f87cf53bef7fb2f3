//! The use cases, one file for each noun, behind one door.
//!
//! A face (gRPC, REST, a job) makes a [`Caller`], parses its input into the model's types and calls a
//! method of [`Service`]. Every method passes [`door`]: the caller is authorised into a `Grant`, acts with
//! nothing but that grant, and the record is in the log before the answer is given. The pieces:
//!
//! * [`catalog`]: checked rows. Nothing reads the store past it.
//! * [`scopes`]: heads and revisions, so that an old or missing row is found; the making of changes.
//! * [`hands`]: the only holder of the HSM's lanes; takes grants.
//! * [`quota`], [`shares`], [`turns`]: how much each may ask for, and how all share what there is.
//! * [`bounds`]: how many of each thing there can be.
//! * [`audit`]: reading the audit log.
//! * [`checkpoints`]: the audit log's newest tree under a signature.
//! * [`rotation`]: what keys do by themselves; [`purge`]: how what was deleted is destroyed, by [`trusted`] time.
//! * [`events`]: what others are told.
//! * [`backups`]: copies of store and log, of one moment; [`restored`]: what a start on one does; [`prove`]: what a
//!   drill does with one.
//! * [`padding`]: the bounds of decryptions that tell right padding from wrong.

use std::{
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU8, AtomicU64},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use strongroom_hsm::{Pool, SecretBytes, pool::LaneHealth, protocol::Moment};
use tokio::sync::Semaphore;

use self::checkpoints::Checkpoints;
use crate::{
    access::PolicyCell,
    audit::{Index, Log, Refusals},
    bearer::Issued,
    model::{
        Algorithm, AssignmentId, Clock, Identity, InstanceRow, KeyName, KeyObjectRow, KeyOps, KeySpec, MaxStaleness,
        NetworkPatch, NetworkRules, Origin, Principal, RequestId, Residency, RoleId, Scope, Tags, TagsError, Timestamp,
        VaultAuthorization, VaultName, VaultRow, VersionId, VersionRow,
    },
    observe::trace::Trace,
    store::{Activity, HeadScope, Position, Store},
};

pub mod activity;
pub mod asked;
pub mod assignments;
pub mod audit;
pub mod backups;
pub mod batch;
pub mod bounds;
pub mod break_glass;
pub mod catalog;
pub mod checkpoints;
pub mod crypto;
pub mod definitions;
pub mod deliveries;
pub mod door;
pub mod error;
pub mod events;
pub mod hands;
pub mod hearing;
pub mod instance;
pub mod keys;
mod known;
pub mod log_key;
pub mod own_keys;
pub mod padding;
pub mod policies;
pub mod prove;
pub mod purge;
pub mod quota;
pub mod replicas;
pub mod restored;
pub mod retired_keks;
pub mod review;
pub mod root;
pub mod rotation;
pub mod scopes;
mod sealed_backups;
pub mod secrets;
pub mod settle;
pub mod shares;
pub mod tokens;
pub mod trusted;
pub mod turns;
pub mod usage;
pub mod vaults;

pub use error::{Problem, ServiceError};
pub use instance::{NewInstance, Parts, initialise};

/// The service. Made by [`Service::open`]; its methods are in the files of their nouns.
pub struct Service {
    catalog: catalog::Catalog,
    hands: hands::Hands,
    policy: Arc<PolicyCell>,
    /// A change of roles has an unknown fate: the policy is read again before it decides anything.
    policy_in_doubt: AtomicBool,
    /// Changes under way, with or without a caller that waits for them.
    changes: Arc<Semaphore>,
    /// The same, for administrators who find no other room.
    changes_reserved: Arc<Semaphore>,
    quotas: quota::Quotas,
    /// Reads of what is not in memory.
    cold_reads: turns::Turns,
    /// Secrets that were read lately.
    warm_secrets: secrets::Warm,
    pool: Pool,
    store: Arc<dyn Store>,
    log: Arc<Log>,
    /// What finds records of the log.
    index: Index,
    refusals: Refusals,
    /// Decryptions that told of a wrong padding.
    padding_failures: padding::PaddingFailures,
    /// Tokens of our own that are in force.
    issued: Arc<Issued>,
    /// What signs them, once it was needed.
    issuer_key: tokens::IssuerKeyCell,
    clock: Arc<dyn Clock>,
    settings: Settings,
    instance: ArcSwap<InstanceRow>,
    /// The revision of the instance's row by whose keys all workers go.
    adopted: AtomicU64,
    /// How far this replica has come where a root takes another's place.
    root_progress: root::ProgressCell,
    checkpoints: Checkpoints,
    /// Who this process is among those that share the store.
    own: replicas::Own,
    /// The longest bound that any vault has had, in seconds.
    longest_staleness: AtomicU8,
    /// Where it serves, once it does.
    address: OnceLock<String>,
    /// When it last gave a sign of life.
    signed_at: AtomicU64,
    /// Of how much news of the service's scope policy and tokens are made.
    made_of_news: AtomicU64,
    /// When it was last looked how far others have heard, and up to where that was.
    heard_by_all: tokio::sync::Mutex<(Moment, Position)>,
    /// One hearing at a time.
    hearing_turn: tokio::sync::Mutex<()>,
    /// Keys whose turn came and went wrong.
    rotations_failed: rotation::Failures,
    /// What is not kept yet of the use of versions.
    activities: activity::Activities,
    /// The wall clock went backwards, and nothing is destroyed.
    clock_went_back: AtomicBool,
    /// Backups of all this.
    backups: backups::Backups,
}

impl Service {
    /// How each lane of the HSM is.
    #[must_use]
    pub fn lanes(&self) -> Vec<LaneHealth> {
        self.pool.health()
    }

    /// Writes the counts of refusals whose window has ended; and, as the one replica whose turn it is, forgets old request
    /// ids, tokens, keys that have signed tokens, and steps of changes. Called by a job.
    ///
    /// # Errors
    /// When the log, the store or the HSM fails.
    pub async fn tidy(&self) -> Result<(), ServiceError> {
        self.refusals.flush(Instant::now()).await?;
        let own = self.own.name().await;
        let Some(lease) = self.store.take_lease(TIDYING, &own, TIDYING_FOR).await? else { return Ok(()) };
        self.store.forget_requests(self.clock.now()).await?;
        self.store.forget_steps(STEPS_KEPT).await?;
        self.forget_tokens(&lease).await?;
        self.forget_issuer_keys(&lease).await
    }

    /// Writes what is still counted and closes the log and the store. Nothing is answered afterwards.
    ///
    /// # Errors
    /// When the log cannot be synced.
    pub async fn close(&self) -> Result<(), ServiceError> {
        if let Err(error) = self.keep_activity().await {
            tracing::warn!(%error, cause = ?error.cause, "the last uses of keys are not noted");
        }
        self.refusals.close(Instant::now()).await?;
        self.index.close().await;
        if let Some((size, root)) = self.checkpoints.close_log().await? {
            // The log is whole without it: the next start says the same.
            if let Err(error) = self.own.note(size, root, true, Moment::now().after(NOTE_WITHIN)).await {
                tracing::warn!(%error, cause = ?error.cause, "the store does not know that the log was closed");
            }
        }
        self.store.close().await;
        Ok(())
    }

    /// Puts what is durable of the audit log under a signed checkpoint. Called by a job.
    ///
    /// # Errors
    /// When the log's files cannot be written, or the HSM does not sign: the next call goes on.
    pub async fn checkpoint(&self) -> Result<(), ServiceError> {
        match self.checkpoints.make().await? {
            Some((size, root)) => self.own.note(size, root, false, Moment::now().after(NOTE_WITHIN)).await,
            None => Ok(()),
        }
    }

    /// What time it is, by the wall clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The audit log.
    #[must_use]
    pub const fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// The index of the audit log.
    #[must_use]
    pub const fn index(&self) -> &Index {
        &self.index
    }

    /// Whether the log and the store answer.
    ///
    /// # Errors
    /// The first that does not.
    pub async fn healthy(&self) -> Result<(), ServiceError> {
        self.log.health()?;
        self.store.head(&HeadScope::Service).await?;
        Ok(())
    }
}

/// The lease of what one replica tidies up for all.
const TIDYING: &str = "tidy";
/// Longer than it takes, and than the time to the next turn: so it stays with one, as long as that one lives.
const TIDYING_FOR: Duration = Duration::from_secs(15);
/// For how long the steps of changes are kept for those who catch up; a replica that was cut off for longer reads all.
const STEPS_KEPT: Duration = Duration::from_secs(3600);
/// For how long the store may take to note how far the log is.
const NOTE_WITHIN: Duration = Duration::from_secs(5);

/// A new id: random, never used before.
fn fresh_id() -> [u8; 16] {
    uuid::Uuid::new_v4().into_bytes()
}

/// Who calls, from where, and until when. Made by a face after it has authenticated its peer.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who.
    pub identity: Arc<Identity>,
    /// From where, for network rules.
    pub origin: Origin,
    /// From where, for the record.
    pub source: String,
    /// The server's own id of this request, for the record, logs and answer.
    pub request: String,
    /// Work that has not begun by then is not begun.
    pub deadline: Moment,
    /// How its operations come.
    pub traffic: Traffic,
    /// From when on what it has changed is in force everywhere, where that is later than the answer.
    pub in_force: InForce,
    /// What follows it, if anything does.
    pub trace: Trace,
}

/// From when on a change is in force everywhere: told beside the answer, where it is not so already.
#[derive(Clone, Debug, Default)]
pub struct InForce(Arc<OnceLock<Timestamp>>);

impl InForce {
    /// So long after now, to the next second.
    fn begins(&self, now: Timestamp, after: Duration) {
        let seconds = i64::try_from(after.as_secs()).unwrap_or(i64::MAX);
        // A caller makes one change.
        let _ = self.0.set(Timestamp(now.0.saturating_add(seconds).saturating_add(1)));
    }

    /// When it is, if not already.
    #[must_use]
    pub fn from(&self) -> Option<Timestamp> {
        self.0.get().copied()
    }
}

impl Caller {
    /// Who.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        self.identity.principal()
    }
}

/// How operations come: the lanes of the HSM take from both kinds in turn, so that neither waits for all of
/// the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// One by one.
    Single,
    /// Many at once, as on a stream.
    Bulk,
}

/// What every change can be asked with (AIP-154, AIP-155, AIP-163).
#[derive(Clone, Debug, Default)]
pub struct ChangeOptions {
    /// The caller's id of the change.
    pub request_id: Option<RequestId>,
    /// The state the caller has seen; another is refused.
    pub etag: Option<String>,
    /// Check everything, change nothing.
    pub validate_only: bool,
    /// SHA-256 over the method's name and the encoded request, to tell a repetition from another request
    /// with the same id.
    pub digest: [u8; 32],
}

/// A page of a list: at most `size` after `after`.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// 1 to 1000.
    pub size: u32,
    /// The last item of the page before.
    pub after: Option<T>,
    /// Also what is softly deleted.
    pub deleted: bool,
}

/// A page's items, and whether there are more.
#[derive(Clone, Debug)]
pub struct Paged<T> {
    /// In order.
    pub items: Vec<T>,
    /// Whether another page follows.
    pub more: bool,
}

/// A key, or one of its versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRef {
    /// The vault.
    pub vault: VaultName,
    /// The key.
    pub key: KeyName,
    /// The version; the newest when absent.
    pub version: Option<VersionId>,
}

impl std::fmt::Display for KeyRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "vaults/{}/keys/{}", self.vault, self.key)?;
        self.version.map_or(Ok(()), |version| write!(f, "/versions/{version}"))
    }
}

/// The full name of a version.
#[must_use]
pub fn version_name(row: &VersionRow) -> String {
    // Of every answer there is one: `format!` grows its text four times on the way.
    let (vault, key, version) = (row.vault.as_str(), row.key.as_str(), row.version.to_string());
    ["vaults/", vault, "/keys/", key, "/versions/", &version].concat()
}

/// What a new vault is to be.
#[derive(Clone, Debug)]
pub struct NewVault {
    /// Its name.
    pub name: VaultName,
    /// Its tags.
    pub tags: Tags,
    /// 7 to 90.
    pub retention_days: u16,
    /// Nothing purged before its date.
    pub purge_protection: bool,
    /// RSA1_5 and A*CBCPAD may decrypt and unwrap.
    pub padding_decryption_allowed: bool,
    /// From where it may be used.
    pub network: NetworkRules,
    /// What decides who may use what is in it.
    pub authorization: VaultAuthorization,
    /// How old what a replica knows of it may be.
    pub max_staleness: MaxStaleness,
    /// Its keys are wrapped under a key-encryption key of its own on the token.
    pub own_kek: bool,
}

/// What to change of a vault; what is absent stays.
#[derive(Clone, Debug, Default)]
pub struct VaultPatch {
    /// Replaces all tags.
    pub tags: Option<Tags>,
    /// Only `true` is a change that is allowed.
    pub purge_protection: Option<bool>,
    /// Whether RSA1_5 and A*CBCPAD may decrypt and unwrap.
    pub padding_decryption_allowed: Option<bool>,
    /// From where it may be used.
    pub network: NetworkPatch,
    /// What decides who may use what is in it.
    pub authorization: Option<VaultAuthorization>,
    /// How old what a replica knows of it may be.
    pub max_staleness: Option<MaxStaleness>,
}

impl std::fmt::Display for VaultPatch {
    /// The fields that are changed, for the record; tags by their name only.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fields = [
            self.tags.as_ref().map(|_| "tags".to_owned()),
            self.purge_protection.map(|on| format!("purge_protection={on}")),
            self.padding_decryption_allowed.map(|allowed| format!("padding_decryption_allowed={allowed}")),
            Some(self.network.to_string()).filter(|text| !text.is_empty()),
            self.authorization.map(|authorization| format!("authorization={}", authorization.name())),
            self.max_staleness.map(|max| format!("max_staleness_seconds={}", max.seconds())),
        ];
        let fields: Vec<String> = fields.into_iter().flatten().collect();
        f.write_str(&fields.join(" "))
    }
}

/// What a new version is to be.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// The vault.
    pub vault: VaultName,
    /// The key; a new version of it when it exists.
    pub name: KeyName,
    /// What kind of key.
    pub spec: KeySpec,
    /// What it may be used for; all that its kind can when absent.
    pub ops: Option<KeyOps>,
    /// Whether it can be used at once.
    pub enabled: bool,
    /// Earlier it neither encrypts, signs nor wraps.
    pub not_before: Option<Timestamp>,
    /// From then on it neither encrypts, signs nor wraps.
    pub expires: Option<Timestamp>,
    /// Its tags.
    pub tags: Tags,
    /// Where it is to live.
    pub residency: Residency,
    /// Refuse when the key exists.
    pub must_not_exist: bool,
}

/// A page of the public halves of a key's versions.
#[derive(Clone, Debug)]
pub struct PublicKeys {
    /// Newest first.
    pub versions: Vec<Arc<VersionRow>>,
    /// Where the next page begins, if there is one: after the version of that ordinal.
    pub last: Option<u64>,
}

/// What to change of a version; what is absent stays.
#[derive(Clone, Debug, Default)]
pub struct VersionPatch {
    /// Switches it on or off.
    pub enabled: Option<bool>,
    /// Sets (`Some(Some)`) or clears (`Some(None)`) the time it may be used from.
    pub not_before: Option<Option<Timestamp>>,
    /// Sets or clears its expiry.
    pub expires: Option<Option<Timestamp>>,
    /// Replaces its operations.
    pub ops: Option<KeyOps>,
    /// Replaces all tags.
    pub tags: Option<Tags>,
    /// A tag that stays as it is when `tags` replaces the others: a face's own mark, which its callers do not see.
    pub tag_kept: Option<&'static str>,
}

impl VersionPatch {
    /// The tags that those become.
    ///
    /// # Errors
    /// When they are too many with the one that stays.
    pub fn tags_of(&self, old: &Tags) -> Result<Tags, TagsError> {
        let Some(new) = &self.tags else { return Ok(old.clone()) };
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let kept = old.iter().filter(|(key, _)| Some(*key) == self.tag_kept);
        Tags::new(new.iter().chain(kept).map(owned))
    }
}

impl std::fmt::Display for VersionPatch {
    /// The fields that are changed, for the record; tags by their name only.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let time = |time: &Option<Option<Timestamp>>, name: &str| {
            time.map(|time| format!("{name}={} ", time.map_or_else(|| "none".to_owned(), |time| time.to_string())))
        };
        let fields = [
            self.enabled.map(|enabled| format!("enabled={enabled} ")),
            time(&self.not_before, "not_before"),
            time(&self.expires, "expires"),
            self.ops.map(|ops| format!("ops={ops} ")),
            self.tags.as_ref().map(|_| "tags ".to_owned()),
        ];
        let fields: String = fields.into_iter().flatten().collect();
        f.write_str(fields.trim_end())
    }
}

/// A key with one of its versions and the vault it is in.
#[derive(Clone, Debug)]
pub struct KeyView {
    /// The vault.
    pub vault: Arc<VaultRow>,
    /// The key.
    pub key: Arc<KeyObjectRow>,
    /// The version that was asked for.
    pub version: Arc<VersionRow>,
}

/// A version, with what is known of its use.
#[derive(Clone, Debug)]
pub struct VersionView {
    /// The vault.
    pub vault: Arc<VaultRow>,
    /// The key.
    pub key: Arc<KeyObjectRow>,
    /// The version.
    pub version: Arc<VersionRow>,
    /// What is known; nothing: it was not used since then.
    pub activity: Option<Activity>,
    /// Since when its use is noted.
    pub since: Timestamp,
}

/// Which keys are wanted, by their newest versions; what is not said is not asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyFilter {
    /// Whether they are deleted.
    pub deleted: Option<bool>,
    /// Whether they are enabled.
    pub enabled: Option<bool>,
    /// They expire before then.
    pub expires_before: Option<Timestamp>,
    /// They expire then or later.
    pub expires_from: Option<Timestamp>,
    /// They can be used with it.
    pub algorithm: Option<Algorithm>,
}

impl KeyFilter {
    /// Whether a key is one of them.
    #[must_use]
    pub fn wants(&self, key: &KeyObjectRow, newest: &VersionRow) -> bool {
        let usable = |algorithm: Algorithm| {
            let ops = newest.residency.possible_ops(newest.spec);
            let allowed = |(op, _): (KeyOps, &str)| newest.ops.contains(op) && ops.contains(op);
            algorithm.takes(newest.spec) && algorithm.ops().iter().any(allowed)
        };
        self.deleted.is_none_or(|deleted| deleted != key.state.is_active())
            && self.enabled.is_none_or(|enabled| enabled == newest.enabled)
            && self.expires_before.is_none_or(|before| newest.expires.is_some_and(|expires| expires < before))
            && self.expires_from.is_none_or(|from| newest.expires.is_some_and(|expires| expires >= from))
            && self.algorithm.is_none_or(usable)
    }
}

/// A new role assignment.
#[derive(Clone, Debug)]
pub struct NewAssignment {
    /// Its id; one is made when absent.
    pub id: Option<AssignmentId>,
    /// Who: a principal, or a group.
    pub principal: Principal,
    /// What.
    pub role: RoleId,
    /// Where.
    pub scope: Scope,
}

/// A signature and the version that made it.
#[derive(Debug)]
pub struct Signed {
    /// Which version.
    pub version: Arc<VersionRow>,
    /// The signature.
    pub signature: Vec<u8>,
}

/// A ciphertext and the version that made it.
#[derive(Debug)]
pub struct Encrypted {
    /// Which version.
    pub version: Arc<VersionRow>,
    /// The ciphertext or wrapped key, without tag.
    pub ciphertext: Vec<u8>,
    /// A*GCM: 12 bytes. A*CBC, A*CBCPAD: the caller's 16.
    pub iv: Vec<u8>,
    /// A*GCM: 16 bytes.
    pub tag: Vec<u8>,
}

/// What a decryption needs.
#[derive(Debug)]
pub struct Ciphertext {
    /// The ciphertext or wrapped key, without tag.
    pub ciphertext: Vec<u8>,
    /// A*GCM: 12 bytes; A*CBC, A*CBCPAD: 16; else empty.
    pub iv: Vec<u8>,
    /// A*GCM: 16 bytes; else empty.
    pub tag: Vec<u8>,
    /// A*GCM only.
    pub additional_data: Vec<u8>,
}

/// A data key that is wanted.
#[derive(Clone, Debug)]
pub struct NewDataKey {
    /// By which algorithm it is put under the key.
    pub algorithm: Algorithm,
    /// 16, 24, 32 or 64.
    pub length_bytes: u32,
    /// A*GCM only.
    pub additional_data: Vec<u8>,
}

/// A data key in both its forms.
#[derive(Debug)]
pub struct DataKey {
    /// The data key.
    pub key: SecretBytes,
    /// It, under the key.
    pub wrapped: Encrypted,
}

/// Limits and durations that an operator chooses.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Sync every record before its answer, not those of changes only (D5).
    pub fsync_everything: bool,
    /// For how long a request id is remembered.
    pub request_memory: Duration,
    /// The most rows of versions kept in memory.
    pub cached_versions_max: usize,
    /// The most changes under way at once; more are refused.
    pub changes_max: usize,
    /// The life of a token that is asked for without one.
    pub token_life_default: Duration,
    /// The longest life of a token.
    pub token_life_max: Duration,
    /// The most tokens in force at once.
    pub tokens_max: usize,
    /// Where a recovery key lies while a root takes another's place; only workers read it.
    pub recovery_key_file: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            fsync_everything: false,
            request_memory: Duration::from_secs(24 * 3600),
            cached_versions_max: 100_000,
            changes_max: 1024,
            token_life_default: Duration::from_secs(3600),
            token_life_max: Duration::from_secs(24 * 3600),
            tokens_max: 10_000,
            recovery_key_file: None,
        }
    }
}
