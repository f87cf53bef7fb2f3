//! An issuer that is trusted, and the keys it publishes: fetched in the background, kept while it is down up to a
//! bound, and fetched early when a token names a key that is not known. However many such tokens come, the issuer
//! is asked at most every [`EARLY_EVERY`].

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use http::Uri;
use serde_json::Value;
use strongroom_hsm::protocol::Moment;
use tokio::{
    sync::{Mutex as AsyncMutex, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    claims::Rules,
    error::BearerError,
    fetch::{self, FetchError},
    json,
    keys::{Key, KeySet},
};
use crate::{
    config::files,
    model::Algorithm,
    observe::metrics::{OIDC_FETCHES, OIDC_KEYS_AGE_SECONDS},
    outbound::Channel,
};

/// How often an issuer is asked because of a key that is not known, at most.
const EARLY_EVERY: Duration = Duration::from_secs(10);
/// How long a request waits for such an answer.
const EARLY_WITHIN: Duration = Duration::from_secs(3);
/// How many requests wait at once for one issuer; others are told that the key is not known.
const EARLY_WAITING_MAX: usize = 64;
/// How soon a failed fetch is repeated.
const RETRY_EVERY: Duration = Duration::from_secs(15);

/// Where an issuer's keys come from.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// From where its discovery document says (OpenID Connect Discovery section 4).
    Discovered,
    /// From that URL.
    Url(Uri),
    /// From that file, read again as often as a URL would be.
    File(PathBuf),
}

/// An issuer that an operator trusts.
#[derive(Clone, Debug)]
pub struct Trust {
    /// What is believed of its tokens.
    pub rules: Rules,
    /// Where its keys are.
    pub keys: KeySource,
    /// How it is reached.
    pub channel: Channel,
    /// How often its keys are fetched.
    pub refresh_every: Duration,
    /// For how long they are believed while they cannot be fetched.
    pub kept_max: Duration,
}

impl Trust {
    /// Reads the file of its CA, if it names one, as a fetch does.
    ///
    /// # Errors
    /// When it cannot be read, or holds no certificate.
    pub fn check_ca(&self) -> Result<(), FetchError> {
        Ok(self.channel.check_ca()?)
    }

    /// Reads the file of its keys, if they are in one.
    ///
    /// # Errors
    /// When it cannot be read, or holds no key that can be used.
    pub fn check_key_file(&self) -> Result<(), FetchError> {
        match &self.keys {
            KeySource::File(path) => read_keys(path, None).map(drop),
            KeySource::Url(_) | KeySource::Discovered => Ok(()),
        }
    }
}

fn read_keys(path: &Path, before: Option<&KeySet>) -> Result<KeySet, FetchError> {
    Ok(KeySet::read(&files::read(path)?, before)?)
}

/// A trusted issuer with its keys.
pub(super) struct Issuer {
    trust: Trust,
    keys: ArcSwapOption<KeySet>,
    times: Mutex<Times>,
    /// One fetch at a time.
    fetching: AsyncMutex<()>,
    waiting: Semaphore,
}

#[derive(Clone, Copy, Default)]
struct Times {
    tried: Option<Moment>,
    fetched: Option<Moment>,
}

impl Issuer {
    pub(super) fn new(trust: Trust) -> Self {
        Self {
            trust,
            keys: ArcSwapOption::empty(),
            times: Mutex::default(),
            fetching: AsyncMutex::default(),
            waiting: Semaphore::new(EARLY_WAITING_MAX),
        }
    }

    pub(super) const fn rules(&self) -> &Rules {
        &self.trust.rules
    }

    /// The key that a token names. One that is not known may be new: the issuer is asked, if it was not just now.
    pub(super) async fn key(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<Arc<Key>, BearerError> {
        match self.known(kid, algorithm) {
            Err(BearerError::UnknownKey | BearerError::IssuerUnavailable) => {}
            found => return found,
        }
        if let Ok(_waits) = self.waiting.try_acquire() {
            // Late or not, what is known by then decides.
            let _ = timeout(EARLY_WITHIN, self.refresh(EARLY_EVERY)).await;
        }
        self.known(kid, algorithm)
    }

    fn known(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<Arc<Key>, BearerError> {
        self.keys.load().as_ref().ok_or(BearerError::IssuerUnavailable)?.find(kid, algorithm)
    }

    fn times(&self) -> Times {
        *self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches the keys, unless that was tried less than `unless_within` ago.
    pub(super) async fn refresh(&self, unless_within: Duration) {
        let _one = self.fetching.lock().await;
        let tried = |times: Times| times.tried.is_some_and(|tried| Moment::now().since(tried) < unless_within);
        if tried(self.times()) {
            return;
        }
        // Noted first: whoever gives up waiting has asked all the same.
        self.times.lock().unwrap_or_else(PoisonError::into_inner).tried = Some(Moment::now());
        let issuer = self.trust.rules.issuer.clone();
        match self.fetch().await {
            Ok(set) => {
                let set = Arc::new(set);
                if let Some(old) = self.keys.swap(Some(Arc::clone(&set))) {
                    old.end_but(Some(&set));
                }
                self.times.lock().unwrap_or_else(PoisonError::into_inner).fetched = Some(Moment::now());
                tracing::debug!(issuer, keys = set.len(), "the keys of an issuer were fetched");
                metrics::counter!(OIDC_FETCHES, "issuer" => issuer, "outcome" => "ok").increment(1);
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(issuer, %error, cause, "the keys of an issuer could not be fetched");
                metrics::counter!(OIDC_FETCHES, "issuer" => issuer, "outcome" => "failed").increment(1);
            }
        }
    }

    async fn fetch(&self) -> Result<KeySet, FetchError> {
        let before = self.keys.load();
        let document = match &self.trust.keys {
            KeySource::File(path) => return read_keys(path, before.as_deref()),
            KeySource::Url(url) => fetch::get(&self.trust.channel, url).await?,
            KeySource::Discovered => fetch::get(&self.trust.channel, &self.discover().await?).await?,
        };
        Ok(KeySet::read(&document, before.as_deref())?)
    }

    /// Where the keys are, as the issuer says. It must say whose document it is, too.
    async fn discover(&self) -> Result<Uri, FetchError> {
        let issuer = &self.trust.rules.issuer;
        let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let url: Uri = url.parse().map_err(|_| FetchError::Url(issuer.clone()))?;
        let document = json::object(&fetch::get(&self.trust.channel, &url).await?).ok_or(FetchError::Document)?;
        let text = |name| document.get(name).and_then(Value::as_str).ok_or(FetchError::Document);
        if text("issuer")? != issuer {
            return Err(FetchError::OtherIssuer(text("issuer")?.chars().take(200).collect()));
        }
        text("jwks_uri")?.parse().map_err(|_| FetchError::Document)
    }

    /// Gives the keys up when they could not be fetched for too long: what stands on them ends.
    fn give_up_old_keys(&self) {
        let Some(fetched) = self.times().fetched else { return };
        let age = Moment::now().since(fetched);
        let issuer = &self.trust.rules.issuer;
        metrics::gauge!(OIDC_KEYS_AGE_SECONDS, "issuer" => issuer.clone()).set(age.as_secs_f64());
        if age < self.trust.kept_max {
            return;
        }
        if let Some(old) = self.keys.swap(None) {
            tracing::error!(issuer, "the keys of an issuer are too old to be believed, and so are its tokens");
            old.end_but(None);
        }
    }

    /// How long until the keys are to be fetched again.
    fn until_fetch(&self) -> Duration {
        let Times { tried, fetched } = self.times();
        let Some(tried) = tried else { return Duration::ZERO };
        let every = self.trust.refresh_every;
        let failed = fetched.is_none_or(|fetched| fetched < tried);
        let every = if failed { every.min(RETRY_EVERY) } else { every };
        every.saturating_sub(Moment::now().since(tried))
    }

    /// How long until the keys are too old, if they are not already.
    fn until_too_old(&self) -> Option<Duration> {
        let fetched = self.times().fetched.filter(|_| self.keys.load().is_some())?;
        Some(self.trust.kept_max.saturating_sub(Moment::now().since(fetched)))
    }

    /// Keeps the keys fresh until `stop`.
    pub(super) async fn tend(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let pause = self.until_fetch();
            let pause = self.until_too_old().map_or(pause, |left| pause.min(left));
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(pause) => {}
            }
            if self.until_fetch().is_zero() {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.refresh(Duration::ZERO) => {}
                }
            }
            self.give_up_old_keys();
        }
    }
}
