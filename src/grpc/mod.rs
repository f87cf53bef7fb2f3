//! The gRPC face, `strongroom.v1`: decode, call the service, encode. Nothing is decided here.
//!
//! What a request passes, from the outside in:
//!
//! ```text
//! listener   connections, TLS 1.3 or a Unix socket, their end      tls.rs, unix.rs, proxy.rs
//! gate       the peer's certificate, as long as it is covered      gate.rs, trust.rs, identity.rs
//! front      who, request id, deadline, room; figures              front.rs
//! routes     tonic: protobuf, health, reflection
//! call       the caller and the message; the status of an error    call.rs, errors.rs
//! vaults, keys, secrets, crypto, events, assignments, definitions, policies, rotation, tokens, own_keys, replicas, backups    one file for each noun    decode, names, pages, encode
//! batch, stream      many operations of crypto at once            kept.rs: what they hold meanwhile
//! ```
//!
//! A client certificate is asked for by TLS but demanded here, so that a client without one gets a status
//! it can show instead of a broken connection. Who a caller is says its bearer token, if it sends one, else its
//! certificate ([`crate::bearer`], ADR 0007). To those who have neither only `grpc.health.v1.Health/Check` is answered
//! (load balancers and kubelets have none), and the public keys of the tokens that are issued here. On the Unix socket the kernel says who the
//! peer is.

use std::sync::Arc;

use strongroom_proto::{DESCRIPTORS, v1};
use tonic::service::Routes;
use tonic_health::server::HealthReporter;

mod access;
mod assignments;
mod audit;
mod backups;
mod batch;
mod call;
mod crypto;
mod decode;
mod definitions;
mod encode;
pub mod errors;
mod events;
pub mod front;
pub mod gate;
pub mod identity;
mod kept;
mod keys;
pub mod listener;
mod names;
mod own_keys;
pub(crate) mod pages;
mod policies;
mod proxy;
mod replicas;
mod rotation;
mod secrets;
mod stream;
pub mod tls;
mod tokens;
pub mod trust;
pub mod unix;
mod vaults;

pub(crate) use audit::{query as audit_query, record as audit_record};
pub(crate) use encode::{kind, operation};
pub use front::{Front, Limits};
pub use gate::Gate;
pub use listener::{Listener, Options, Speech};

use crate::service::Service;

/// The longest request message, and message of a stream.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// The longest request about keys or secrets: a backup fits ([`crate::model::sealed_backup::BYTES_MAX`]).
pub const KEYS_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The longest batch.
pub const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The services of `strongroom.v1`, for health reports.
pub const SERVICES: [&str; 14] = [
    "strongroom.v1.Vaults",
    "strongroom.v1.Keys",
    "strongroom.v1.Secrets",
    "strongroom.v1.Crypto",
    "strongroom.v1.RoleAssignments",
    "strongroom.v1.Tokens",
    "strongroom.v1.RoleDefinitions",
    "strongroom.v1.AccessPolicies",
    "strongroom.v1.AuditLog",
    "strongroom.v1.Replicas",
    "strongroom.v1.Rotations",
    "strongroom.v1.Events",
    "strongroom.v1.OwnKeys",
    "strongroom.v1.Backups",
];

/// The face itself: implements the services of the contract, one file for each.
#[derive(Clone)]
struct Face {
    service: Arc<Service>,
}

/// Reflection could not be set up: the descriptors that were compiled in are not right.
#[derive(Debug, thiserror::Error)]
#[error("the compiled-in descriptors of strongroom.v1 cannot be served")]
pub struct DescriptorError(#[source] tonic_reflection::server::Error);

/// Every route of the face, with health and reflection.
///
/// # Errors
/// When the compiled-in descriptors are not right.
pub fn routes(service: &Arc<Service>, health: HealthReporter) -> Result<Routes, DescriptorError> {
    let face = Face { service: Arc::clone(service) };
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(DescriptorError)?;
    let health = tonic_health::server::HealthService::from_health_reporter(health);
    let routes = Routes::new(tonic_health::pb::health_server::HealthServer::new(health))
        .add_service(reflection)
        .add_service(v1::vaults_server::VaultsServer::new(face.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(v1::keys_server::KeysServer::new(face.clone()).max_decoding_message_size(KEYS_BYTES_MAX))
        .add_service(v1::secrets_server::SecretsServer::new(face.clone()).max_decoding_message_size(KEYS_BYTES_MAX))
        .add_service(v1::crypto_server::CryptoServer::new(face.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(v1::access_server::AccessServer::new(face.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(
            v1::role_assignments_server::RoleAssignmentsServer::new(face.clone())
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
        )
        .add_service(
            v1::audit_log_server::AuditLogServer::new(face.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
        )
        .add_service(
            v1::rotations_server::RotationsServer::new(face.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
        )
        .add_service(v1::events_server::EventsServer::new(face.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(
            v1::replicas_server::ReplicasServer::new(face.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
        )
        .add_service(v1::own_keys_server::OwnKeysServer::new(face.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(v1::backups_server::BackupsServer::new(face.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(v1::tokens_server::TokensServer::new(face.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(
            v1::role_definitions_server::RoleDefinitionsServer::new(face.clone())
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
        )
        .add_service(
            v1::access_policies_server::AccessPoliciesServer::new(face.clone())
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
        );
    let router = tokens::publish(routes.into_axum_router(), service.issued());
    Ok(Routes::from(batch::route(router, face)).prepare())
}
