//! The client of Strongroom: settings, a connection, every call as a method, envelope encryption.
//!
//! ```no_run
//! use strongroom_client::{Algorithm, Input, Settings};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // STRONGROOM_ENDPOINT, STRONGROOM_CA, STRONGROOM_CERT, STRONGROOM_KEY
//! let client = Settings::from_environment()?.connect().await?;
//! let signed = client.sign("vaults/dev/keys/release", &Algorithm::ES256, Input::Message(b"text")).await?;
//! println!("{} bytes by {}", signed.signature.len(), signed.version);
//! # Ok(())
//! # }
//! ```
//!
//! Many operations go in one call ([`Client::batch`]), or as they come on a stream ([`Client::stream`]). Small data
//! go to the HSM; for what is larger there is [`envelope`], and for files, with the feature `files`, recipients and
//! identities of the `age` crate.
//!
//! What it promises:
//!
//! * Every call ends: with an answer, an error that repetition does not mend, or at its deadline.
//! * What may pass (`UNAVAILABLE`, a connection that broke, or `RESOURCE_EXHAUSTED` with a time to come back) is repeated
//!   before the deadline, no earlier than the server asks for. Repeating is safe: [`METHODS`] says why, method by method.
//!   Operations of a batch or stream are not repeated one by one.
//! * Of several servers (`https://a:8443,https://b:8443`) each call has the least busy that is well. What one cannot do
//!   now goes to another at once; one that fails is left alone for a while that grows, and is connected to again without
//!   a call that would have to wait for it.
//! * Repetition makes nothing worse: when many calls fail (about one in ten, over time), failures are not repeated any
//!   more, until calls succeed again. All clones of a client share this budget. Only what was under way when a connection
//!   broke goes to another server in any case, once.
//! * Bytes carry their CRC32C both ways, and an answer whose bytes do not match theirs is an error.
//! * An [`Error`]'s variant says what its receiver can do.
//! * Secrets that are received are wiped when they are dropped, and never printed. The copies that gRPC and
//!   TLS make on the way cannot be.
//!
//! Keys are named in full: `vaults/{vault}/keys/{key}` means the newest version, and an answer names the
//! version that was used: keep it beside what was made. TLS, always, but for the socket of a server on this machine
//! (`unix:PATH`). Who calls says a client certificate, or a bearer token in a file (`STRONGROOM_TOKEN_FILE`), which is read
//! again when it changes.

#[cfg(feature = "files")]
pub mod file;

mod access;
mod algorithm;
mod attempts;
mod audit;
mod backups;
mod batch;
mod bearer;
mod budget;
mod cause;
mod client;
mod crypto;
mod endpoints;
mod error;
mod events;
mod keys;
mod methods;
mod names;
mod operation;
mod own_keys;
mod replicas;
mod roles;
mod rotation;
mod secrets;
mod settings;
mod stream;
mod tokens;
mod vaults;

pub mod envelope;

pub use algorithm::Algorithm;
pub use audit::AuditRecordStream;
pub use cause::Cause;
pub use client::Client;
pub use crypto::{
    Ciphertext, DataKey, DataKeyLength, Destination, Encryption, Input, Plaintext, ReEncrypted, Rewrapped, Sealed,
    Signature, UnwrappedKey, Verdict, WrappedDataKey, WrappedKey,
};
pub use error::{Error, Refusal, Violation};
pub use events::EventStream;
pub use keys::Material;
pub use methods::{METHODS, Repetition, repetition};
pub use operation::{Operation, Outcome};
pub use secrets::SecretValue;
pub use settings::{Credentials, Setting, Settings, SettingsError, Sources};
pub use stream::OperationStream;

pub use secrecy;
pub use strongroom_proto::v1;
pub use tonic::Code;
