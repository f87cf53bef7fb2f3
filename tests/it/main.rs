//! The program as its users have it: `strongroom dev` with a real SoftHSM, real TLS and SQLite in a
//! temporary folder; the command line and gRPC against it; OpenSSL and RustCrypto as second opinions.

mod algorithms;
mod archive;
mod audit;
mod azure;
mod backup;
mod batch;
mod bearer;
mod bench;
mod break_glass;
mod byok;
mod commands;
mod dev;
mod events;
mod files;
mod history;
mod identity;
mod imports;
mod issuer;
mod key_backup;
mod kills;
mod load;
mod matrix;
mod modules;
mod oidc;
mod own_keys;
#[path = "../support/postgres.rs"]
mod postgres;
mod production;
mod proof;
mod python;
mod replicas;
mod review;
mod rotation;
mod rpc;
mod scan;
mod secrets;
mod store;
mod stream;
mod tracing;
mod trouble;
mod wire;
mod wycheproof;
