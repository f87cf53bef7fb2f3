//! The boundary. Everything that touches a PKCS#11 module is here, and nothing else is.
//!
//! A *worker* ([`worker`]) is a process of its own with the module in it; the process that faces the
//! network holds a [`Pool`] of them and neither keys, PIN nor vendor library. The two speak the closed
//! set of messages in [`protocol`] over an inherited socket pair; no handle and no session crosses.
//! Workers are arranged in *lanes* by the cost of their work, so that a burst of RSA-4096 signatures
//! does not stand before an AES operation (ADR 0003).
//!
//! A key arrives at a worker as a sealed [`statement`]: what the key is, what it may do and its wrapped
//! blob, under an HMAC that only the HSM can make. The worker believes nothing that is not sealed
//! (ADR 0002). What an algorithm is, which keys it takes and how long its inputs are is said once, in
//! [`algorithms`].
//!
//! This crate knows no users, no SQL and no gRPC.

pub mod algorithms;
pub mod checkpoint;
mod cost;
pub mod error;
pub mod material;
pub mod pool;
pub mod profile;
pub mod protocol;
pub mod recovery;
pub mod secret;
pub mod statement;
pub mod worker;

pub use algorithms::{Algorithm, Digest, KeyOps, KeySpec, KeyType};
pub use cost::TOKEN_OBJECT_US;
pub use error::{Error, StartError};
pub use material::Material;
pub use pool::{Admission, Pool, Tenant};
pub use profile::Profile;
pub use secret::SecretBytes;
pub use statement::{KekId, KeyRow, KeyStatement, Residency, Seal};
