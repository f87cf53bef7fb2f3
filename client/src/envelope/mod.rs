//! Envelope encryption: data of any size is encrypted here, under a data key that is made here, and only the
//! data key goes to the HSM to be wrapped.
//!
//! ```no_run
//! use strongroom_client::{Algorithm, Settings, envelope::{Envelope, Limits}};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Settings::from_environment()?.connect().await?;
//! let envelope = Envelope::new(client, "vaults/dev/keys/rows", Algorithm::A256KW, Limits::default())?;
//! let sealed = envelope.encrypt(b"4111 1111 1111 1111", b"table cards, row 7").await?;
//! let opened = envelope.decrypt(&sealed, b"table cards, row 7").await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Format
//!
//! Numbers are big-endian; the header is what stands before the nonce.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `SRE1` |
//! | 2, then so many | the name of the version that wrapped the data key |
//! | 1, then so many | the algorithm that wrapped it |
//! | 2, then so many | the wrapped data key |
//! | 12 | the nonce |
//! | as many as the plaintext | the ciphertext: AES-256-GCM |
//! | 16 | the tag |
//!
//! Authenticated are header ‖ associated data. The header says its own length, so no two pairs of header and
//! associated data give the same bytes. The associated data are not in the envelope: whoever decrypts must
//! know them (the row, the file's name, the tenant), and an envelope that was moved elsewhere does not open.
//!
//! # Nonces
//!
//! A data key is random, of this process and this [`Envelope`] only. Its nonce is a counter of 4 bytes, so
//! that none comes twice, and 8 random bytes, so that none comes twice in a process that was forked or a
//! machine that was copied either. It is given up after [`Limits::uses_max`] messages (at most 2^24, far below
//! the 2^32 of NIST SP 800-38D section 8.3), [`Limits::bytes_max`] bytes, or [`Limits::age_max`].
//!
//! # Caches
//!
//! One data key for encryption, and up to [`Limits::opened_max`] for decryption, each within the same bounds.
//! They are wiped when they are dropped, an idle one soon after its age. While a data key is here, whoever
//! runs this process can decrypt what it encrypted, also after a role was revoked: that is what
//! [`Limits::age_max`] bounds.
//!
//! With an RSA key everyone who has its public half can make envelopes; an A*KW key shows that the maker
//! could use the key.

use std::{
    sync::{Arc, Mutex, Once, PoisonError, Weak},
    time::Duration,
};

use secrecy::{ExposeSecret as _, SecretSlice};
use tokio::time::{Instant, sleep};

use crate::{Algorithm, Client, Error, names};
use data_key::{DataKey, Opened, Sealer, Ticket};
use format::Parts;

mod data_key;
mod format;

/// The longest plaintext of one envelope. What is longer is a file: see `strongroom file encrypt`.
pub const PLAINTEXT_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Whatever is asked for, a data key encrypts no more messages than this.
const USES_LIMIT: u32 = 1 << 24;

/// Whatever is asked for, a data key is not kept longer.
const AGE_LIMIT: Duration = Duration::from_secs(86_400);

/// How long a data key is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most messages; what is more than 2^24 counts as 2^24.
    pub uses_max: u32,
    /// The most bytes of plaintext.
    pub bytes_max: u64,
    /// The most time; what is more than a day counts as a day.
    pub age_max: Duration,
    /// The most data keys that are kept for decryption.
    pub opened_max: usize,
}

impl Default for Limits {
    /// 2^20 messages, 64 GiB, five minutes, 1000 data keys.
    fn default() -> Self {
        Self { uses_max: 1 << 20, bytes_max: 1 << 36, age_max: Duration::from_secs(300), opened_max: 1000 }
    }
}

/// Why there is no envelope, or nothing in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// The data key could not be wrapped or unwrapped.
    #[error(transparent)]
    Call(#[from] Error),
    /// An [`Envelope`] is of a whole key.
    #[error("{0:?} is not the name of a key: vaults/VAULT/keys/KEY")]
    NotAKey(String),
    /// An envelope holds [`PLAINTEXT_BYTES_MAX`].
    #[error("{0} bytes are more than an envelope takes")]
    TooLong(usize),
    /// Something else, or cut off.
    #[error("not an envelope: {0}")]
    NotAnEnvelope(&'static str),
    /// Made by a key that this [`Envelope`] is not of.
    #[error("made by {version}, which is no version of {key}")]
    OtherKey {
        /// The version that is named in it.
        version: String,
        /// The key of this [`Envelope`].
        key: String,
    },
    /// Altered, or the associated data are others.
    #[error("does not decrypt: it was altered, or its associated data are others")]
    Altered,
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    NoRandomness,
}

/// Encrypts and decrypts under one key. Cheap to clone: clones share the data keys.
#[derive(Clone)]
pub struct Envelope {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    key: String,
    wrap: Algorithm,
    limits: Limits,
    /// Held while a data key is wrapped, so that one is made and not one for each that waits.
    current: tokio::sync::Mutex<Option<DataKey>>,
    opened: Mutex<Opened>,
    sweeper: Once,
}

impl std::fmt::Debug for Envelope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Inner { key, wrap, limits, .. } = &*self.inner;
        f.debug_struct("Envelope").field("key", key).field("wrap", wrap).field("limits", limits).finish_non_exhaustive()
    }
}

impl Envelope {
    /// Envelopes of a key (`vaults/{vault}/keys/{key}`), whose data keys are wrapped by `wrap`: an A*KW or
    /// RSA-OAEP algorithm that the key takes.
    ///
    /// # Errors
    /// [`EnvelopeError::NotAKey`].
    pub fn new(client: Client, key: &str, wrap: Algorithm, limits: Limits) -> Result<Self, EnvelopeError> {
        if !names::is_key(key) {
            return Err(EnvelopeError::NotAKey(key.to_owned()));
        }
        let limits =
            Limits { uses_max: limits.uses_max.clamp(1, USES_LIMIT), age_max: limits.age_max.min(AGE_LIMIT), ..limits };
        let inner = Inner {
            client,
            key: key.to_owned(),
            wrap,
            limits,
            current: tokio::sync::Mutex::default(),
            opened: Mutex::new(Opened::new(limits)),
            sweeper: Once::new(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Encrypts. The same `associated` data are needed to decrypt.
    ///
    /// # Errors
    /// [`EnvelopeError`].
    pub async fn encrypt(&self, plaintext: &[u8], associated: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        if plaintext.len() > PLAINTEXT_BYTES_MAX {
            return Err(EnvelopeError::TooLong(plaintext.len()));
        }
        self.sweep_later();
        self.inner.ticket(plaintext.len()).await?.seal(plaintext, associated)
    }

    /// Decrypts.
    ///
    /// # Errors
    /// [`EnvelopeError::Altered`] when it does not authenticate; [`EnvelopeError`].
    pub async fn decrypt(&self, sealed: &[u8], associated: &[u8]) -> Result<SecretSlice<u8>, EnvelopeError> {
        let parts = Parts::split(sealed)?;
        if parts.ciphertext.len() > PLAINTEXT_BYTES_MAX {
            return Err(EnvelopeError::TooLong(parts.ciphertext.len()));
        }
        self.sweep_later();
        self.inner.opener(&parts).await?.open(&parts, associated)
    }

    /// Forgets all data keys, at once.
    pub async fn forget(&self) {
        *self.inner.current.lock().await = None;
        self.inner.opened().clear();
    }

    /// Starts what wipes idle data keys, once. It ends with the last clone.
    fn sweep_later(&self) {
        let weak = Arc::downgrade(&self.inner);
        let pause = (self.inner.limits.age_max / 4).max(Duration::from_millis(100));
        self.inner.sweeper.call_once(|| drop(tokio::spawn(sweep(weak, pause))));
    }
}

async fn sweep(inner: Weak<Inner>, pause: Duration) {
    loop {
        sleep(pause).await;
        let Some(inner) = inner.upgrade() else { return };
        let now = Instant::now();
        inner.current.lock().await.take_if(|key| key.is_old(now));
        inner.opened().forget_old(now);
    }
}

impl Inner {
    fn opened(&self) -> std::sync::MutexGuard<'_, Opened> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A data key with room for one more message of this length, and a nonce of its own.
    async fn ticket(&self, length: usize) -> Result<Ticket, EnvelopeError> {
        let mut current = self.current.lock().await;
        if let Some(ticket) = current.as_mut().and_then(|key| key.ticket(length, Instant::now()).transpose()) {
            return ticket;
        }
        *current = None;
        let mut fresh = self.make().await?;
        // A fresh key has room, whatever the limits say: a message longer than `bytes_max` is its only one.
        let ticket = fresh.first_ticket(length)?;
        *current = Some(fresh);
        Ok(ticket)
    }

    async fn make(&self) -> Result<DataKey, EnvelopeError> {
        let secret = data_key::random()?;
        let wrapped = self.client.wrap_key(&self.key, &self.wrap, &*secret).await?;
        self.check_key(&wrapped.version)?;
        let header = format::header(&wrapped.version, self.wrap.name(), &wrapped.wrapped_key)
            .ok_or_else(|| Error::Unexpected("a name or a wrapped key of more than 65,535 bytes".to_owned()))?;
        Ok(DataKey::new(Sealer::new(&*secret, header)?, self.limits, Instant::now()))
    }

    /// The data key of an envelope: from the cache, else unwrapped.
    async fn opener(&self, parts: &Parts<'_>) -> Result<Arc<Sealer>, EnvelopeError> {
        self.check_key(parts.version)?;
        if let Some(sealer) = self.opened().find(parts.header, parts.ciphertext.len(), Instant::now()) {
            return Ok(sealer);
        }
        let algorithm = Algorithm::new(parts.algorithm.to_owned());
        let unwrapped = self.client.unwrap_key(parts.version, &algorithm, parts.wrapped_key).await?;
        let sealer = Arc::new(Sealer::new(unwrapped.key.expose_secret(), parts.header.to_vec())?);
        self.opened().keep(Arc::clone(&sealer), parts.ciphertext.len(), Instant::now());
        Ok(sealer)
    }

    /// Whoever can make an envelope chooses the version in it. If any were taken, what another key made, a key
    /// of the attacker's perhaps, would pass for ours.
    fn check_key(&self, version: &str) -> Result<(), EnvelopeError> {
        if names::is_version_of(version, &self.key) {
            return Ok(());
        }
        Err(EnvelopeError::OtherKey { version: version.to_owned(), key: self.key.clone() })
    }
}

#[cfg(test)]
mod tests {
    use tonic::transport::Endpoint;

    use super::*;

    const KEY: &str = "vaults/dev/keys/k";

    fn envelope(limits: Limits) -> Envelope {
        let channel = Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
        let client = Client::on_channel(channel, Duration::from_millis(1));
        Envelope::new(client, KEY, Algorithm::A256KW, limits).expect("a key")
    }

    #[tokio::test(start_paused = true)]
    async fn idle_data_keys_are_wiped() {
        let limits = Limits { age_max: Duration::from_secs(60), ..Limits::default() };
        let envelope = envelope(limits);
        let sealer = || Sealer::new(&[7; 32], b"header".to_vec()).expect("32 bytes");
        *envelope.inner.current.lock().await = Some(DataKey::new(sealer(), limits, Instant::now()));
        envelope.inner.opened().keep(Arc::new(sealer()), 1, Instant::now());
        envelope.sweep_later();
        sleep(Duration::from_secs(59)).await;
        assert!(envelope.inner.current.lock().await.is_some());
        sleep(Duration::from_secs(17)).await;
        assert!(envelope.inner.current.lock().await.is_none());
        assert!(envelope.inner.opened().find(b"header", 1, Instant::now() - Duration::from_secs(70)).is_none());
    }

    #[tokio::test]
    async fn only_versions_of_the_key_are_taken() {
        let envelope = envelope(Limits::default());
        let check = |version: &str| envelope.inner.check_key(version).is_ok();
        assert!(check("vaults/dev/keys/k/versions/0123456789abcdef0123456789abcdef"));
        for other in ["vaults/dev/keys/k2/versions/0", "vaults/dev/keys/k", "vaults/dev/keys/other/versions/0", "", "é"]
        {
            assert!(!check(other), "{other}");
        }
    }

    #[tokio::test]
    async fn limits_and_names_are_checked() {
        let limits = Limits { uses_max: u32::MAX, age_max: Duration::MAX, ..Limits::default() };
        let inner = envelope(limits).inner;
        assert_eq!((inner.limits.uses_max, inner.limits.age_max), (1 << 24, Duration::from_secs(86_400)));
        for name in ["k", "vaults/dev/keys/", "vaults/dev/keys/k/versions/0"] {
            let made = Envelope::new(inner.client.clone(), name, Algorithm::A256KW, limits);
            assert!(matches!(made, Err(EnvelopeError::NotAKey(_))), "{name}");
        }
    }
}
