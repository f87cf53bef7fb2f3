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
//! * What may pass (`UNAVAILABLE`, or `RESOURCE_EXHAUSTED` with a time to come back) is repeated before the
//!   deadline, no earlier than the server asks for. Repeating is safe: a change carries a request id by which
//!   the server knows it again, an operation with a key changes nothing (a repeated AES-GCM encryption uses
//!   one more of the key's 2^32). Operations of a batch or stream are not repeated one by one.
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
mod audit;
mod batch;
mod bearer;
mod cause;
mod client;
mod crypto;
mod error;
mod keys;
mod names;
mod operation;
mod roles;
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
    Ciphertext, DataKey, DataKeyLength, Encryption, Input, Plaintext, Sealed, Signature, UnwrappedKey, Verdict,
    WrappedDataKey, WrappedKey,
};
pub use error::{Error, Refusal, Violation};
pub use keys::Material;
pub use operation::{Operation, Outcome};
pub use settings::{Credentials, Setting, Settings, SettingsError, Sources};
pub use stream::OperationStream;

pub use secrecy;
pub use strongroom_proto::v1;
pub use tonic::Code;
