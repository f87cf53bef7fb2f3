//! Strongroom: a key service on any PKCS#11 HSM.
//!
//! Callers ask over gRPC to encrypt, decrypt, wrap, unwrap, sign and verify. The operation runs inside the
//! HSM, in a worker process of its own; the process that faces the network holds no key, no PIN and no
//! vendor library. This page follows two requests through the house; the decisions behind it are in
//! `docs/adr/`.
//!
//! # A signature
//!
//! [`grpc`] has a TLS peer and makes a [`service::Caller`] of its certificate: a principal, an address, a
//! deadline. It parses the request into the [`model`]'s types, once, and calls
//! [`service::Service::sign`]. There the *door* ([`service::door`]) asks [`access`] whether this principal
//! may sign in this vault, and gets a permit or a refusal that says nothing of what exists. The *catalog*
//! ([`service::catalog`]) finds the version's row: from memory if no row of the vault has changed since,
//! else from the [`store`], and then its seal is checked in the HSM and its revision held against the
//! newest one known. The row's state allows signing or not ([`access::state`]). Permit and row become a
//! [`access::Grant`], and only with a grant does [`service::hands`] do anything.
//!
//! The operation goes to the lane of its cost and waits there, bounded in number and time. When it leaves the
//! queue the grant is asked once more: a role revoked meanwhile, a version disabled meanwhile, and it is
//! not sent. The worker finds the key in its cache by the row's seal, or asks for the row, checks the seal
//! itself, unwraps the blob into a session object and proves that it is the key the row describes. One
//! `C_Sign`, into a buffer as long as the algorithm table says. The record goes to the [`audit`] log, and
//! when it is there, the answer goes to the caller, naming the version that signed.
//!
//! # A new key
//!
//! A change is checked first, so that a wrong request costs nothing. Then its *intent* is recorded and
//! synced: what will be made, for whom, under which version id. The worker generates the key as a session
//! object, wraps it under the root key, unwraps the blob again and uses it once; the original is
//! destroyed. Under the lock of the vault's *scope* ([`service::scopes`]) the rows are made: the key with
//! its new current version, the version with its blob, and the scope's head, which counts them; each is
//! sealed in the HSM, and all are committed in one transaction. The outcome is recorded, with the digest
//! of the new head, and the caller gets the key. A key from outside goes the same way; only where it comes
//! from is another.
//!
//! Whatever is killed, and whenever: an intent without an outcome is settled at the next start
//! ([`service::settle`]). The rows say whether the change was made, for each row carries the intent of its
//! newest change; and what an unfinished creation left on the token is destroyed by the version id that
//! its intent names.

pub mod access;
pub mod audit;
pub mod backup;
pub mod bearer;
pub mod bench;
pub mod cli;
pub mod config;
pub mod export;
pub mod failpoint;
pub mod grpc;
pub mod jobs;
pub mod model;
pub mod observe;
pub mod outbound;
pub mod rest;
pub mod rotation;
pub mod service;
pub mod store;
pub mod webhooks;
