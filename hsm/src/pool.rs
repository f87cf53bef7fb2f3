//! The front's side: lanes of worker processes, started, fed, watched and replaced.
//!
//! ```text
//! operate ─ call ─> lane (queue) ─ packet ─> worker      lane.rs, queue.rs, state.rs: who gets what, when
//!                     ^                        │
//!                     └── attendant <─ answers ┘         attend.rs, answer.rs: what came back, and whether
//!                            │                           the worker is still fit
//!                          keeper ── starts another      seat.rs, process.rs
//! ```
//!
//! What it promises: every queue is bounded and every wait has a deadline; an operation whose admission
//! was withdrawn is not sent; what a lost worker may have begun is repeated once if that is safe; one
//! lane's trouble is not another's; a refused PIN is tried once. What it must not know: keys, the PIN, users.
//!
//! Install the `metrics` recorder before [`Pool::start`]. Workers are processes of their own group, so
//! a supervisor that ends the service should signal the front only (systemd: `KillMode=mixed`).

mod answer;
mod attend;
mod batch;
mod bulk;
mod call;
mod expect;
mod known;
mod lane;
mod link;
mod live;
mod log;
mod meter;
mod process;
mod provision;
mod queue;
mod renew;
mod seat;
mod state;
mod timing;

use std::{sync::Arc, time::Duration};

use serde_bytes::ByteBuf;
use tokio::{
    sync::{Mutex, mpsc},
    time::{Instant, sleep, timeout},
};

use self::{
    bulk::{Bulk, By},
    call::Work,
    seat::{Keeper, Shared},
    timing::Watched,
};
pub use self::{
    provision::{Provisioned, provision},
    renew::Renewer,
    timing::{Served, Timing, Watch},
};
use crate::{
    algorithms::{Lane, LengthError, RANDOM_BYTES_MAX},
    checkpoint,
    error::{Error, StartError},
    material::Material,
    profile::Profile,
    protocol::{
        Fault, Generated, Kek, Moment, NewVersion, Operation, Output, Ready, Request, Response, ServiceKeys, seal_of,
    },
    secret::SecretBytes,
    statement::{KekId, KeyRow, Seal},
};

/// How long the tasks may take to end after the workers were told to.
const ENDED_WITHIN: Duration = Duration::from_secs(10);

/// What admitted an operation. It is asked again when the operation leaves the queue: between the two a
/// role may have been revoked or the key changed.
pub trait Admission: Send + Sync {
    /// Whether it still holds. Asked by whichever task happens to send the packet: it must not block,
    /// panic or call the pool.
    fn still_holds(&self) -> bool;

    /// Whose call it is.
    fn tenant(&self) -> Tenant;
}

/// Who shares the lanes with others: a number that stands for a caller. Calls of one tenant wait for each other,
/// and each tenant has its share of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tenant(u64);

impl Tenant {
    /// The service itself, for what it does of its own: seals and checkpoints. It has more room than the others.
    pub const SERVICE: Self = Self(0);

    /// The tenant of that digest.
    #[must_use]
    pub const fn new(digest: u64) -> Self {
        // Nobody passes for the service.
        Self(if digest == 0 { 1 } else { digest })
    }
}

/// A running set of lanes. Cheap to clone; the workers end when the last clone is gone.
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
    /// Whose calls are those that no admission says it of.
    tenant: Tenant,
    /// Who is told of the times of operations with keys, of random bytes and of new keys.
    watched: Watched,
}

struct Inner {
    shared: Arc<Shared>,
    /// In the order of [`Lane::ALL`].
    lanes: [Arc<lane::Lane>; Lane::ALL.len()],
    ready: Ready,
    /// Closes when every task has ended.
    ended: Mutex<mpsc::Receiver<()>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        for lane in &self.lanes {
            lane.close();
        }
        self.shared.stop.send_replace(true);
    }
}

/// How one lane is.
#[derive(Clone, Debug)]
pub struct LaneHealth {
    /// Which lane.
    pub lane: Lane,
    /// Workers that can serve.
    pub ready: usize,
    /// Workers there should be.
    pub wanted: usize,
    /// How long ago the canary last signed, in the worker for which that is longest ago.
    pub canary_age: Option<Duration>,
    /// Calls waiting.
    pub queued: usize,
    /// The newest failure, if the lane is not whole.
    pub trouble: Option<String>,
}

impl Pool {
    /// Starts every worker of the profile, one after the other. The first failure, and so the first
    /// refused PIN, ends it: those already started are ended, and no other is started.
    ///
    /// # Errors
    /// When the profile lacks a lane, or a worker does not become ready within 30 seconds.
    pub async fn start(profile: Profile, service_keys: ServiceKeys) -> Result<Self, StartError> {
        meter::describe();
        let lanes = check(&profile)?;
        let shared = Arc::new(Shared::new(profile, service_keys));
        let mut processes = Vec::new();
        for (lane, workers) in &lanes {
            for seat in 0..*workers {
                // On failure the processes so far are dropped, which kills and reaps them.
                processes.push((Arc::clone(lane), seat, shared.start(lane, seat, &[]).await?));
            }
        }
        let (alive, ended) = mpsc::channel(1);
        for (lane, seat, process) in processes {
            let keeper = Keeper { shared: Arc::clone(&shared), lane, seat, alive: alive.clone() };
            tokio::spawn(keeper.keep(process));
        }
        let ready = shared.ready.get().cloned().unwrap_or_default();
        let lanes = lanes.map(|(lane, _)| lane);
        let inner = Arc::new(Inner { shared, lanes, ready, ended: Mutex::new(ended) });
        Ok(Self { inner, tenant: Tenant::new(0), watched: Watched::default() })
    }

    /// The same lanes for that tenant: random bytes and new keys are asked for by it.
    #[must_use]
    pub fn of(&self, tenant: Tenant) -> Self {
        Self { inner: Arc::clone(&self.inner), tenant, watched: self.watched.clone() }
    }

    /// The same lanes, where somebody is told of the times of each operation, of random bytes and of new keys.
    #[must_use]
    pub fn watched(&self, watch: Arc<dyn Watch>) -> Self {
        Self { inner: Arc::clone(&self.inner), tenant: self.tenant, watched: Watched(Some(watch)) }
    }

    fn lane(&self, lane: Lane) -> &Arc<lane::Lane> {
        &self.inner.lanes[lane as usize]
    }

    async fn call(&self, lane: Lane, request: Request, deadline: Moment) -> Result<Response, Error> {
        self.lane(lane).submit_of(self.tenant, Work::Plain(request), deadline)?.watched(&self.watched).wait().await
    }

    /// One operation with one key, in the lane its algorithm and key belong to. Dropping the future
    /// withdraws the call if it is not yet sent.
    ///
    /// # Errors
    /// See [`Error`]: each variant says what the caller can do.
    pub async fn operate(
        &self,
        key: &Arc<KeyRow>,
        operation: Operation,
        admission: Arc<dyn Admission>,
        deadline: Moment,
    ) -> Result<Output, Error> {
        let lane = operation.algorithm().lane(key.statement.spec, operation.input_bytes());
        let work = Work::Operate { row: Arc::clone(key), operation };
        match self.lane(lane).submit(work, Some(admission), deadline)?.watched(&self.watched).wait().await? {
            Response::Output(output) => Ok(output),
            _ => Err(unfit()),
        }
    }

    /// Many operations with one key, together: one result for each, in order. They stand in the line for
    /// bulk: see `queue.rs`. Dropping the future withdraws what is not yet sent.
    pub async fn operate_all(
        &self,
        key: &Arc<KeyRow>,
        operations: Vec<Operation>,
        admission: &Arc<dyn Admission>,
        deadline: Moment,
    ) -> Vec<Result<Output, Error>> {
        let lane_of =
            |operation: &Operation| operation.algorithm().lane(key.statement.spec, operation.input_bytes()) as usize;
        let lanes: Vec<usize> = operations.iter().map(lane_of).collect();
        let mut works: [Vec<Work>; Lane::ALL.len()] = Default::default();
        for (operation, lane) in operations.into_iter().zip(&lanes) {
            works[*lane].push(Work::Operate { row: Arc::clone(key), operation });
        }
        // All are in their lanes before the first is waited for.
        let lanes_and_works = self.inner.lanes.iter().zip(works);
        let bulks: Vec<_> = lanes_and_works
            .map(|(lane, work)| Bulk::bring(lane, work, By::Admission(admission), deadline))
            .map(|bulk| bulk.watched(&self.watched))
            .collect();
        let mut answers = Vec::with_capacity(bulks.len());
        for bulk in bulks {
            answers.push(bulk.answers().await.into_iter());
        }
        let output = |lane: usize| match answers[lane].next() {
            Some(Ok(Response::Output(output))) => Ok(output),
            Some(Err(error)) => Err(error),
            Some(Ok(_)) | None => Err(unfit()),
        };
        lanes.into_iter().map(output).collect()
    }

    /// Makes a key. A wrapped key persists nowhere until the caller stores it. When the creation of a
    /// token key ends in [`Error::WorkerLost`], [`Error::Expired`] or [`Fault::Module`], it may exist:
    /// [`Self::destroy_token`] settles that.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn generate(&self, wanted: NewVersion, deadline: Moment) -> Result<Generated, Error> {
        match self.call(Lane::Generate, Request::Generate(wanted), deadline).await? {
            Response::Generated(generated) => Ok(generated),
            _ => Err(unfit()),
        }
    }

    /// Brings a key in from outside. What is said of [`Self::generate`] is true of it too.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn import(&self, wanted: NewVersion, material: Material, deadline: Moment) -> Result<Generated, Error> {
        match self.call(Lane::Generate, Request::Import { wanted, material }, deadline).await? {
            Response::Generated(imported) => Ok(imported),
            _ => Err(unfit()),
        }
    }

    /// Brings a key in that is wrapped for a KEK. What is said of [`Self::generate`] is true of it too.
    ///
    /// # Errors
    /// See [`Error`]; [`Fault::Layer`] says what is wrong with the blob.
    pub async fn import_wrapped(
        &self,
        wanted: NewVersion,
        kek: &KeyRow,
        blob: Vec<u8>,
        deadline: Moment,
    ) -> Result<Generated, Error> {
        let (seal, row) = (kek.seal.to_vec().into(), kek.canonical.to_vec().into());
        let request = Request::ImportWrapped { wanted, seal, row, blob: blob.into() };
        match self.call(Lane::Generate, request, deadline).await? {
            Response::Generated(imported) => Ok(imported),
            _ => Err(unfit()),
        }
    }

    /// Makes a vault's key-encryption key on the token. When that ends as is said of [`Self::generate`], it may exist:
    /// [`Self::destroy_token`] settles that.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn make_kek(&self, id: KekId, deadline: Moment) -> Result<Kek, Error> {
        match self.call(Lane::Generate, Request::MakeKek { id }, deadline).await? {
            Response::Kek(kek) => Ok(kek),
            _ => Err(unfit()),
        }
    }

    /// Proves that a row's key is there and is the one that the row describes, and keeps nothing of it. A `Public` one is
    /// looked at as far as it goes.
    ///
    /// # Errors
    /// See [`Error`]; [`Fault::BlobBroken`], [`Fault::KeyMismatch`], [`Fault::KekAbsent`] or [`Fault::KeyAbsent`] say what
    /// is wrong.
    pub async fn prove(&self, row: &KeyRow, deadline: Moment) -> Result<(), Error> {
        let (seal, row) = (row.seal.to_vec().into(), row.canonical.to_vec().into());
        self.call(Lane::Medium, Request::Prove { seal, row }, deadline).await.map(drop)
    }

    /// Destroys the token objects of a version or of a vault's KEK; that there are none is not an error.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn destroy_token(&self, version: [u8; 16], deadline: Moment) -> Result<(), Error> {
        self.call(Lane::Generate, Request::DestroyToken { version }, deadline).await.map(drop)
    }

    /// Seals canonical forms, in order. One form must fit in a packet (about 96 KiB).
    ///
    /// # Errors
    /// See [`Error`]; there are either all seals or none.
    pub async fn seal(&self, forms: Vec<Vec<u8>>, deadline: Moment) -> Result<Vec<Seal>, Error> {
        let mut seals = Vec::with_capacity(forms.len());
        let forms = forms.into_iter().map(ByteBuf::from).collect();
        let take = |response| {
            let Response::Seals(part) = response else { return Err(unfit()) };
            for seal in part {
                seals.push(seal_of(&seal).map_err(|_| unfit())?);
            }
            Ok(())
        };
        let request = |forms| Request::Seal { forms };
        batch::run(self.lane(Lane::Short), forms, |form| form.len(), request, deadline, take).await?;
        Ok(seals)
    }

    /// Checks seals, in order.
    ///
    /// # Errors
    /// See [`Error`]; there are either all verdicts or none.
    pub async fn check_seals(&self, pairs: Vec<(Vec<u8>, Seal)>, deadline: Moment) -> Result<Vec<bool>, Error> {
        let mut verdicts = Vec::with_capacity(pairs.len());
        let pair = |(form, seal): (Vec<u8>, Seal)| (ByteBuf::from(form), ByteBuf::from(seal.to_vec()));
        let pairs = pairs.into_iter().map(pair).collect();
        let take = |response| {
            let Response::Checked(part) = response else { return Err(unfit()) };
            verdicts.extend(part);
            Ok(())
        };
        let bytes = |(form, seal): &(ByteBuf, ByteBuf)| form.len() + seal.len();
        let request = |pairs| Request::CheckSeals { pairs };
        batch::run(self.lane(Lane::Short), pairs, bytes, request, deadline, take).await?;
        Ok(verdicts)
    }

    /// Signs the text of a checkpoint with the log key on the token that has this SubjectPublicKeyInfo (DER); see [`checkpoint`] for what it must be. The
    /// signature is as a signed note takes it after the key id (C2SP signed-note): 64 bytes of Ed25519 (type 1),
    /// or ECDSA P-256 with SHA-256 in DER (type 2), as the kind of [`ServiceKeys::log_public`] says. It was
    /// verified with that key.
    ///
    /// # Errors
    /// [`Fault::Checkpoint`] for any other text, [`Fault::LogKeyAbsent`] or [`Fault::LogKeyMismatch`] when the
    /// token lacks the key, or the workers do not know it; else see [`Error`].
    pub async fn sign_log(&self, public: &[u8], text: String, deadline: Moment) -> Result<Vec<u8>, Error> {
        checkpoint::check(&text).map_err(Fault::Checkpoint)?;
        let work = Work::Plain(Request::SignLog { public: ByteBuf::from(public.to_vec()), text });
        match self.lane(Lane::Medium).submit(work, None, deadline)?.wait().await? {
            Response::LogSignature(signature) => Ok(signature.into_vec()),
            _ => Err(unfit()),
        }
    }

    /// Random bytes of the module: 1 to 1024.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn random(&self, length: u32, deadline: Moment) -> Result<SecretBytes, Error> {
        check_random(length)?;
        match self.call(Lane::Short, Request::Random { length }, deadline).await? {
            Response::Random(bytes) => Ok(bytes),
            _ => Err(unfit()),
        }
    }

    /// As [`Self::random`], many times, together: one result for each, in order. They stand in the line for
    /// bulk.
    pub async fn random_all(&self, lengths: Vec<u32>, deadline: Moment) -> Vec<Result<SecretBytes, Error>> {
        let right = lengths.iter().filter(|length| check_random(**length).is_ok());
        let work = right.map(|length| Work::Plain(Request::Random { length: *length })).collect();
        let by = By::Tenant(self.tenant);
        let bulk = Bulk::bring(self.lane(Lane::Short), work, by, deadline).watched(&self.watched);
        let mut answers = bulk.answers().await.into_iter();
        let bytes = |length| {
            check_random(length)?;
            match answers.next() {
                Some(Ok(Response::Random(bytes))) => Ok(bytes),
                Some(Err(error)) => Err(error),
                Some(Ok(_)) | None => Err(unfit()),
            }
        };
        lengths.into_iter().map(bytes).collect()
    }

    /// Gives the workers other keys of the service, one after the other and without a gap: each is followed by one that has
    /// them before it goes. Comes back when no worker serves any more that has not.
    pub async fn adopt(&self, service_keys: ServiceKeys) {
        self.inner.shared.adopt(service_keys).await;
    }

    /// What the workers were told of module, token and files.
    #[must_use]
    pub fn profile(&self) -> &Profile {
        &self.inner.shared.profile
    }

    /// How each lane is, cheapest lane first.
    #[must_use]
    pub fn health(&self) -> Vec<LaneHealth> {
        self.inner.lanes.iter().map(|lane| lane.health()).collect()
    }

    /// Calls that wait or are under way, in all lanes.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.inner.lanes.iter().map(|lane| lane.unfinished()).sum()
    }

    /// What the first worker found: token serial, library, unwrap template.
    #[must_use]
    pub fn ready(&self) -> Ready {
        self.inner.ready.clone()
    }

    /// Whether the HSM refused the PIN: no worker is started any more, those that serve go on.
    #[must_use]
    pub fn pin_refused(&self) -> bool {
        self.inner.shared.is_latched()
    }

    /// Allows starts again after an operator has corrected the PIN and cleared the workers' latch file.
    pub fn clear_pin_refused(&self) {
        self.inner.shared.clear_latch();
    }

    /// Lets what is under way finish (at most `grace`), then ends the workers. Calls that come meanwhile
    /// are refused.
    pub async fn shutdown(&self, grace: Duration) {
        for lane in &self.inner.lanes {
            lane.close();
        }
        let until = Instant::now() + grace;
        while Instant::now() < until && self.inner.lanes.iter().any(|lane| lane.unfinished() > 0) {
            sleep(Duration::from_millis(5)).await;
        }
        for lane in &self.inner.lanes {
            lane.give_up();
        }
        self.inner.shared.stop.send_replace(true);
        // Nothing is sent on it: it closes with the last task.
        let ended = async { self.inner.ended.lock().await.recv().await };
        if timeout(ENDED_WITHIN, ended).await.is_err() {
            tracing::warn!("an HSM worker did not end in time");
        }
    }
}

/// A response that does not fit its call is found when it arrives, and its worker replaced; so this is
/// the case that cannot be.
fn unfit() -> Error {
    Error::Fault(Fault::Protocol)
}

fn check_random(length: u32) -> Result<(), Error> {
    let found_bytes = length as usize;
    if (1..=RANDOM_BYTES_MAX).contains(&found_bytes) {
        return Ok(());
    }
    let takes = format!("1 to {RANDOM_BYTES_MAX}");
    let (field, algorithm) = ("length".to_owned(), "random".to_owned());
    Err(Fault::Length(LengthError { field, algorithm, found_bytes, takes }).into())
}

/// The lanes of a profile, in order, with their numbers of workers.
fn check(profile: &Profile) -> Result<[(Arc<lane::Lane>, usize); Lane::ALL.len()], StartError> {
    for lane in Lane::ALL {
        let fault = match profile.lanes.get(&lane) {
            None => Some("the profile does not have this lane"),
            Some(limits) if limits.workers == 0 => Some("the profile gives this lane no worker"),
            Some(limits) if limits.queue_max == 0 => Some("the profile gives this lane no queue"),
            Some(limits) if limits.hang.is_zero() => Some("the profile gives this lane no time"),
            Some(_) if profile.canary_every.is_zero() => Some("the profile gives the canary no time"),
            Some(_) if profile.loads_max == 0 => Some("the profile gives its workers no load"),
            Some(_) => None,
        };
        if let Some(fault) = fault {
            return Err(StartError::Refused { lane: lane.name(), source: Fault::Setup(fault.to_owned()) });
        }
    }
    Ok(Lane::ALL.map(|name| {
        let limits = profile.lanes[&name];
        (Arc::new(lane::Lane::new(name, profile, limits)), limits.workers)
    }))
}
