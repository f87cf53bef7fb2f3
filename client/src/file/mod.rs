//! Files: Strongroom as a recipient and an identity of the [`age`](https://age-encryption.org/v1) format.
//!
//! `age` makes a file key for each file and encrypts the content under it, in blocks that authenticate, in
//! order, to the last one. Here the file key is wrapped by a key in the HSM. A file can have several
//! recipients, of ours and of others. The wrapped file key is in a stanza of the file's header:
//!
//! ```text
//! -> strongroom vaults/dev/keys/k/versions/0123456789abcdef0123456789abcdef A256KW
//! zqOvqYyBS0bzT7sQ8ByRxG0UPwpTp8Ie
//! ```
//!
//! that is: the version that wrapped, the algorithm, the wrapped key in base64. So a file says by itself what
//! opens it. Not secret, and authenticated by the file key: the header as a whole. Not authenticated: who made
//! the file. Whoever can use the key, or has the public half of an RSA key, can make one.
//!
//! The traits of `age` are synchronous, and the client is not: call them from a thread that may block, such
//! as [`tokio::task::spawn_blocking`] gives, while the client's runtime runs.

use std::{collections::HashSet, sync::Mutex};

use age_core::format::{FILE_KEY_BYTES, FileKey, Stanza};
use secrecy::ExposeSecret as _;
use strongroom_proto::v1::KeyVersion;
use tokio::runtime::Handle;

use crate::{Algorithm, Client, Error, names};

mod text;

pub use text::{
    PLUGIN, TextError, identity_text, key_of_identity, key_of_recipient, key_of_recipient_text, recipient_text,
};

/// The type of our stanzas.
pub const STANZA: &str = "strongroom";

/// The most recipients of a file that are tried, so that a hostile file cannot ask for calls without end.
pub const RECIPIENTS_MAX: usize = 32;

/// Algorithms for file keys, best first.
const WRAPS: [Algorithm; 5] =
    [Algorithm::A256KW, Algorithm::A192KW, Algorithm::A128KW, Algorithm::RSA_OAEP_256, Algorithm::RSA_OAEP];

/// Why a file key cannot be wrapped or unwrapped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The file key could not be wrapped.
    #[error(transparent)]
    Call(#[from] Error),
    /// No key that the file names opens it; this one came closest.
    #[error("{version}: {error}")]
    Closed {
        /// The version that the file names.
        version: String,
        /// Why it does not open the file.
        error: Error,
    },
    /// The key has no algorithm for file keys: take an AES or an RSA key that may wrap.
    #[error("{version} takes no algorithm that wraps a file key; it takes {}", takes.join(", "))]
    NotWrapping {
        /// The version.
        version: String,
        /// What it takes.
        takes: Vec<String>,
    },
    /// A stanza of ours that we cannot have written.
    #[error("the file's header is damaged: {0}")]
    Stanza(&'static str),
    /// More stanzas of ours than are tried.
    #[error("the file names more than {RECIPIENTS_MAX} keys of Strongroom")]
    TooMany,
}

/// A version that wraps file keys.
#[derive(Debug)]
pub struct Recipient {
    client: Client,
    version: String,
    algorithm: Algorithm,
    runtime: Handle,
}

impl Recipient {
    /// The newest version of a key, or the version that is named.
    ///
    /// # Errors
    /// [`FileError::NotWrapping`]; [`FileError::Call`].
    pub async fn of_key(client: &Client, name: &str) -> Result<Self, FileError> {
        let key = client.get_key(name).await?;
        let version = key.version.ok_or_else(|| Error::Unexpected(format!("no version of {name}")))?;
        Self::of_version(client, version)
    }

    /// A version that is known already.
    ///
    /// # Errors
    /// [`FileError::NotWrapping`].
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn of_version(client: &Client, version: KeyVersion) -> Result<Self, FileError> {
        let takes = |algorithm: &Algorithm| version.algorithms.iter().any(|name| name == algorithm.name());
        let Some(algorithm) = WRAPS.into_iter().find(takes) else {
            return Err(FileError::NotWrapping { version: version.name, takes: version.algorithms });
        };
        Ok(Self { client: client.clone(), version: version.name, algorithm, runtime: Handle::current() })
    }

    /// The version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Wraps a file key.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn stanza(&self, file_key: &FileKey) -> Result<Stanza, Error> {
        let wrapped = self.client.wrap_key(&self.version, &self.algorithm, file_key.expose_secret()).await?;
        let args = vec![wrapped.version, self.algorithm.to_string()];
        Ok(Stanza { tag: STANZA.to_owned(), args, body: wrapped.wrapped_key })
    }
}

impl age::Recipient for Recipient {
    fn wrap_file_key(&self, file_key: &FileKey) -> Result<(Vec<Stanza>, HashSet<String>), age::EncryptError> {
        let stanza = self.runtime.block_on(self.stanza(file_key));
        let stanza = stanza.map_err(|error| age::EncryptError::Io(carried(error.into())))?;
        Ok((vec![stanza], HashSet::new()))
    }
}

/// Opens files with whatever keys the caller may use, or with one.
#[derive(Debug)]
pub struct Identity {
    client: Client,
    only: Option<String>,
    runtime: Handle,
    opened_by: Mutex<Option<String>>,
}

impl Identity {
    /// Any key that a file names.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    #[must_use]
    pub fn any(client: &Client) -> Self {
        Self { client: client.clone(), only: None, runtime: Handle::current(), opened_by: Mutex::default() }
    }

    /// Versions of this key only; other stanzas are somebody else's.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    #[must_use]
    pub fn of_key(client: &Client, key: impl Into<String>) -> Self {
        Self { only: Some(key.into()), ..Self::any(client) }
    }

    /// The version that opened the file.
    #[must_use]
    pub fn opened_by(&self) -> Option<String> {
        self.opened_by.lock().ok()?.clone()
    }

    /// The file key, from the first stanza that gives one; `None` when no stanza is for us.
    ///
    /// # Errors
    /// When stanzas are for us and none opens: the error of the one that came closest.
    pub async fn file_key(&self, stanzas: &[Stanza]) -> Option<Result<FileKey, FileError>> {
        let ours: Vec<&Stanza> = stanzas.iter().filter(|stanza| self.is_ours(stanza)).collect();
        if ours.len() > RECIPIENTS_MAX {
            return Some(Err(FileError::TooMany));
        }
        let mut failed: Option<FileError> = None;
        for stanza in ours {
            match self.unwrap(stanza).await {
                Ok(file_key) => return Some(Ok(file_key)),
                // Without a connection the next one fails as well.
                Err(error @ FileError::Closed { error: Error::Connection { .. } | Error::TimedOut { .. }, .. }) => {
                    return Some(Err(error));
                }
                Err(error) if failed.as_ref().is_none_or(|before| closeness(&error) > closeness(before)) => {
                    failed = Some(error);
                }
                Err(_) => {}
            }
        }
        failed.map(Err)
    }

    fn is_ours(&self, stanza: &Stanza) -> bool {
        stanza.tag == STANZA
            && self
                .only
                .as_ref()
                .is_none_or(|key| stanza.args.first().is_some_and(|version| names::is_version_of(version, key)))
    }

    async fn unwrap(&self, stanza: &Stanza) -> Result<FileKey, FileError> {
        let [version, algorithm] = &stanza.args[..] else {
            return Err(FileError::Stanza("a stanza names a version and an algorithm, and nothing else"));
        };
        if !names::is_version(version) {
            return Err(FileError::Stanza("what a stanza names is no version of a key"));
        }
        let Some(algorithm) = WRAPS.into_iter().find(|known| known.name() == algorithm) else {
            return Err(FileError::Stanza("no file key is wrapped by that algorithm"));
        };
        let closed = |error| FileError::Closed { version: version.clone(), error };
        let unwrapped = self.client.unwrap_key(version, &algorithm, &stanza.body).await.map_err(closed)?;
        let bytes = unwrapped.key.expose_secret();
        if bytes.len() != FILE_KEY_BYTES {
            return Err(FileError::Stanza("a file key has 16 bytes"));
        }
        if let Ok(mut opened_by) = self.opened_by.lock() {
            *opened_by = Some(unwrapped.version);
        }
        Ok(FileKey::init_with_mut(|file_key| file_key.copy_from_slice(bytes)))
    }
}

/// How much an error says about this file: that a key is denied says least, for a file for several readers
/// names keys that are not ours.
const fn closeness(error: &FileError) -> u8 {
    match error {
        FileError::Closed { error: Error::Denied(_), .. } => 0,
        FileError::Closed { error: Error::NotFound(_), .. } => 1,
        _ => 2,
    }
}

impl age::Identity for Identity {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, age::DecryptError>> {
        self.unwrap_stanzas(std::slice::from_ref(stanza))
    }

    fn unwrap_stanzas(&self, stanzas: &[Stanza]) -> Option<Result<FileKey, age::DecryptError>> {
        let file_key = self.runtime.block_on(self.file_key(stanzas))?;
        Some(file_key.map_err(|error| age::DecryptError::Io(carried(error))))
    }
}

/// `age` has no variant for errors of others; one of ours travels inside an `io::Error`.
fn carried(error: FileError) -> std::io::Error {
    std::io::Error::other(error)
}

/// The error of ours that an `io::Error` from `age` carries.
///
/// # Errors
/// Gives back what is no such error.
pub fn carried_error(error: std::io::Error) -> Result<FileError, std::io::Error> {
    if !error.get_ref().is_some_and(|inner| inner.is::<FileError>()) {
        return Err(error);
    }
    let kind = error.kind();
    let inner = error.into_inner().and_then(|inner| inner.downcast::<FileError>().ok());
    inner.map(|inner| *inner).ok_or_else(|| kind.into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic::transport::Endpoint;

    use super::*;

    fn client() -> Client {
        let channel = Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
        Client::on_channel(channel, Duration::from_millis(1))
    }

    fn stanza(tag: &str, args: &[&str]) -> Stanza {
        Stanza { tag: tag.into(), args: args.iter().map(ToString::to_string).collect(), body: vec![0; 24] }
    }

    const VERSION: &str = "vaults/dev/keys/k/versions/0123456789abcdef0123456789abcdef";

    #[tokio::test]
    async fn stanzas_of_others_are_left_to_others() {
        let identity = Identity::of_key(&client(), "vaults/dev/keys/other");
        assert!(identity.file_key(&[stanza("X25519", &["a"]), stanza(STANZA, &[VERSION, "A256KW"])]).await.is_none());
        assert!(Identity::any(&client()).file_key(&[stanza("X25519", &["a"])]).await.is_none());
    }

    #[tokio::test]
    async fn damaged_stanzas_are_refused_without_a_call() {
        let identity = Identity::any(&client());
        for args in [&[VERSION][..], &[VERSION, "A256KW", "x"], &["vaults/dev/keys/k", "A256KW"], &[VERSION, "none"]] {
            let refused = identity.file_key(&[stanza(STANZA, args)]).await;
            assert!(matches!(refused, Some(Err(FileError::Stanza(_)))), "{args:?}");
        }
        let many: Vec<Stanza> = (0..=RECIPIENTS_MAX).map(|_| stanza(STANZA, &[VERSION, "A256KW"])).collect();
        assert!(matches!(identity.file_key(&many).await, Some(Err(FileError::TooMany))));
    }

    #[tokio::test]
    async fn keys_that_cannot_wrap_are_refused_by_name() {
        let version = KeyVersion { name: VERSION.into(), algorithms: vec!["ES256".into()], ..KeyVersion::default() };
        let refused = Recipient::of_version(&client(), version).expect_err("EC").to_string();
        assert_eq!(refused, format!("{VERSION} takes no algorithm that wraps a file key; it takes ES256"));
        let takes = |names: &[&str]| KeyVersion {
            name: VERSION.into(),
            algorithms: names.iter().map(ToString::to_string).collect(),
            ..KeyVersion::default()
        };
        let aes = Recipient::of_version(&client(), takes(&["A256GCM", "A256KW"])).expect("AES");
        assert_eq!(aes.algorithm, Algorithm::A256KW);
        let rsa = Recipient::of_version(&client(), takes(&["RSA-OAEP", "RSA-OAEP-256"])).expect("RSA");
        assert_eq!(rsa.algorithm, Algorithm::RSA_OAEP_256);
    }

    #[test]
    fn our_errors_pass_through_age() {
        let error = carried_error(carried(FileError::TooMany)).expect("ours");
        assert!(matches!(error, FileError::TooMany));
        assert!(carried_error(std::io::ErrorKind::UnexpectedEof.into()).is_err());
    }
}
