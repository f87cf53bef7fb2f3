//! Bearer tokens: from the text that a caller sends to an [`Identity`], or to the reason why not.
//!
//! ```text
//! digest     SHA-256 of the whole token; one that was believed before, and still holds, is known by it    here
//! failures   whoever sent too many wrong ones waits                                                       failures
//! jws        the one way to write a token; of its header alg, kid and typ                                 jws, json
//! issuer     iss decides whose keys and whose rules: no other issuer's key is ever tried                   issuer, issued
//! key        by kid, of a kind that takes alg; not known: the issuer is asked, seldom                     keys, fetch
//! signature  checked before anything the token says is believed                                           keys
//! claims     audience, times, what is required; then who, and in which groups                             claims
//! ```
//!
//! What is believed stands on its key ([`Lease::on`]): when the issuer takes the key back, or a token that was
//! issued here is revoked, open streams and queued work stop. Nothing of a token is logged, and nothing of it is
//! kept but its digest. ADR 0007 has the decisions.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use quick_cache::sync::Cache;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use strongroom_hsm::protocol::Moment;
use tokio::sync::{Semaphore, TryAcquireError};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    model::{Clock, Identity, Lease, Origin, Timestamp},
    observe::metrics::BEARER_TOKENS,
};

pub mod claims;
pub mod error;
mod failures;
pub mod fetch;
pub mod issued;
mod issuer;
mod json;
mod jws;
mod keys;
#[cfg(test)]
mod minted;
#[cfg(test)]
mod tests;

pub use crate::outbound::Channel;
pub use claims::{ClaimPath, LEEWAY_MAX, Requirement, Rules};
pub use error::BearerError;
pub use issued::Issued;
pub use issuer::{KeySource, Trust};
pub use jws::ALGORITHMS;

use failures::Failures;
use issuer::Issuer;
use jws::Jws;
use keys::Key;

/// The longest token.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// How many believed tokens are known by their digest, and how many refused ones.
const BELIEVED_MAX: usize = 10_000;
const REFUSED_MAX: usize = 10_000;
/// For how long a refused token is refused without being looked at.
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// How many wait at once to be checked.
const WAITING_MAX: usize = 256;
/// How often refusals are told to the log, as one line.
const TELL_EVERY: Duration = Duration::from_secs(60);

type TokenDigest = [u8; 32];

/// Everybody whose tokens are believed.
pub struct Bearers {
    issuers: HashMap<String, Arc<Issuer>>,
    issued: Arc<Issued>,
    clock: Arc<dyn Clock>,
    believed: Cache<TokenDigest, Arc<Identity>>,
    refused: Cache<TokenDigest, (BearerError, Moment)>,
    failures: Failures,
    /// Half of the cores check tokens at most: the rest is for those who have been checked.
    checking: Semaphore,
    waiting: Semaphore,
    /// Refused since the log was told.
    untold: AtomicU64,
}

impl Bearers {
    /// Trusts those issuers, and the service's own.
    #[must_use]
    pub fn new(trusts: Vec<Trust>, issued: Arc<Issued>, clock: Arc<dyn Clock>) -> Self {
        let issuers = trusts.into_iter().map(|trust| (trust.rules.issuer.clone(), Arc::new(Issuer::new(trust))));
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            issuers: issuers.collect(),
            issued,
            clock,
            believed: Cache::new(BELIEVED_MAX),
            refused: Cache::new(REFUSED_MAX),
            failures: Failures::new(),
            checking: Semaphore::new((cores / 2).max(1)),
            waiting: Semaphore::new(WAITING_MAX),
            untold: AtomicU64::new(0),
        }
    }

    /// What is issued here.
    #[must_use]
    pub const fn issued(&self) -> &Arc<Issued> {
        &self.issued
    }

    /// Who sends that token.
    ///
    /// # Errors
    /// Why it is not believed.
    pub async fn identify(&self, token: &str, from: Origin) -> Result<Arc<Identity>, BearerError> {
        if token.len() > TOKEN_BYTES_MAX {
            return self.counted(Err(BearerError::TOO_LONG));
        }
        let digest: TokenDigest = Sha256::digest(token).into();
        if let Some(identity) = self.believed.get(&digest) {
            if identity.holds() {
                metrics::counter!(BEARER_TOKENS, "outcome" => "KNOWN").increment(1);
                return Ok(identity);
            }
            self.believed.remove(&digest);
        }
        self.counted(self.look(token, digest, from).await)
    }

    fn counted(&self, result: Result<Arc<Identity>, BearerError>) -> Result<Arc<Identity>, BearerError> {
        let outcome = result.as_ref().map_or_else(BearerError::reason, |_| "BELIEVED");
        metrics::counter!(BEARER_TOKENS, "outcome" => outcome).increment(1);
        if result.is_err() {
            self.untold.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    /// Looks at a token that is not known.
    async fn look(&self, token: &str, digest: TokenDigest, from: Origin) -> Result<Arc<Identity>, BearerError> {
        if let Some((error, until)) = self.refused.get(&digest) {
            if Moment::now() < until {
                return Err(error);
            }
            self.refused.remove(&digest);
        }
        if !self.failures.allow(from, Moment::now()) {
            return Err(BearerError::Crowded);
        }
        match self.check(token).await {
            Ok(identity) => {
                let identity = Arc::new(identity);
                self.believed.insert(digest, Arc::clone(&identity));
                Ok(identity)
            }
            Err(error) => {
                if !error.is_ours() {
                    self.failures.note(from, Moment::now());
                }
                if !error.may_pass() {
                    self.refused.insert(digest, (error.clone(), Moment::now().after(REFUSED_FOR)));
                }
                Err(error)
            }
        }
    }

    async fn check(&self, token: &str) -> Result<Identity, BearerError> {
        let jws = {
            let _turn = self.turn().await?;
            Jws::read(token)?
        };
        let issuer = jws.claims.get("iss").and_then(Value::as_str).ok_or(BearerError::Issuer)?;
        if issuer == self.issued.issuer() {
            let key = self.issued.key(jws.kid.as_deref(), jws.algorithm)?;
            self.verify(&jws, &key).await?;
            let (principal, lease, until) = self.issued.identify(&jws.claims, self.clock.now())?;
            return Ok(Issued::identity(principal, Lease::on(&lease, Some(self.moment(until)))));
        }
        let issuer = self.issuers.get(issuer).ok_or(BearerError::Issuer)?;
        if !issuer.rules().algorithms.contains(&jws.algorithm) {
            return Err(BearerError::Algorithm);
        }
        // Not in a turn: the issuer may have to be asked.
        let key = issuer.key(jws.kid.as_deref(), jws.algorithm).await?;
        self.verify(&jws, &key).await?;
        let found = issuer.rules().check(&jws.claims, self.clock.now())?;
        let lease = Lease::on(key.lease(), Some(self.moment(found.until)));
        Ok(Identity::new(found.principal, found.groups, lease))
    }

    async fn verify(&self, jws: &Jws<'_>, key: &Key) -> Result<(), BearerError> {
        let _turn = self.turn().await?;
        if key.verifies(jws.algorithm, jws.signed, &jws.signature) { Ok(()) } else { Err(BearerError::Signature) }
    }

    /// A turn to work on a token.
    async fn turn(&self) -> Result<tokio::sync::SemaphorePermit<'_>, BearerError> {
        match self.checking.try_acquire() {
            Ok(turn) => return Ok(turn),
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => {}
        }
        let _waits = self.waiting.try_acquire().map_err(|_| BearerError::Crowded)?;
        self.checking.acquire().await.map_err(|_| BearerError::Crowded)
    }

    /// A time of the wall, by the clock that does not jump.
    fn moment(&self, until: Timestamp) -> Moment {
        let left = until.0.saturating_sub(self.clock.now().0);
        Moment::now().after(Duration::from_secs(u64::try_from(left).unwrap_or(0)))
    }

    /// Keeps the keys of every issuer fresh, and tells the log of refusals, until `stop`.
    pub fn tend(self: &Arc<Self>, tasks: &TaskTracker, stop: &CancellationToken) {
        for issuer in self.issuers.values() {
            tasks.spawn(Arc::clone(issuer).tend(stop.clone()));
        }
        let (bearers, stop) = (Arc::clone(self), stop.clone());
        tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(TELL_EVERY) => bearers.tell(),
                }
            }
        });
    }

    fn tell(&self) {
        let refused = self.untold.swap(0, Ordering::Relaxed);
        if refused > 0 {
            tracing::warn!(refused, "bearer tokens were refused in the last minute; the metrics say why");
        }
    }
}

impl std::fmt::Debug for Bearers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bearers").field("issuers", &self.issuers.keys()).finish_non_exhaustive()
    }
}
