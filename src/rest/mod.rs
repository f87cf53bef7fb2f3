//! The Azure face: the REST protocol of Azure Key Vault and Managed HSM, over HTTPS on a port of its own, so that client
//! libraries and tools for them work with no more than another URL. It calls the same [`crate::service`] as gRPC and
//! decides nothing.
//!
//! What a request passes, from the outside in:
//!
//! ```text
//! listener   connections, TLS, HTTP/1.1 or HTTP/2, their end            grpc::listener, which both faces share
//! front      which host, who, room, deadline, body; figures             front, address
//! route      which operation, of what                                   target, route
//! operate    JSON to the model, the service, and back                   keys, import, crypto, rotation, secrets, roles; bundle, page
//! errors     every problem of the service in Azure's words              errors, fault
//! ```
//!
//! [`identity`] is another door: on loopback, where programs of this machine get tokens as they would in Azure.
//! docs/azure.md has every operation of Azure with its state here, and what differs.

mod absent;
mod address;
mod attributes;
mod bundle;
mod call;
mod crypto;
mod errors;
mod fault;
pub mod front;
pub mod identity;
mod import;
mod keys;
mod page;
mod roles;
mod rotation;
mod route;
mod secrets;
mod target;

pub use address::{External, Settings};
pub use front::Rest;

use address::Flavour;
use call::{Answer, Call};
use fault::Fault;
use http::StatusCode;
use route::Operation;

/// Does what is asked for.
async fn operate(call: &Call<'_>) -> Result<Answer, Fault> {
    use Operation as O;
    if call.flavour == Flavour::ManagedHsm && call.route.operation.is_of_vaults_only() {
        return Err(Fault::new(
            StatusCode::NOT_FOUND,
            "NotFound",
            "A Managed HSM has neither secrets nor certificates.",
        ));
    }
    match call.route.operation {
        O::KeyCreate => keys::create(call).await,
        O::KeyImport => import::import(call).await,
        O::KeyRotate => keys::rotate(call).await,
        O::KeyGet => keys::get(call).await,
        O::KeyUpdate => keys::update(call).await,
        O::KeyList => keys::list(call).await,
        O::KeyListVersions => keys::list_versions(call).await,
        O::KeyDelete => keys::delete(call).await,
        O::KeyBackup => keys::backup(call).await,
        O::KeyRestore => keys::restore(call).await,
        O::KeyListDeleted => keys::list_deleted(call).await,
        O::KeyGetDeleted => keys::get_deleted(call).await,
        O::KeyRecover => keys::recover(call).await,
        O::KeyPurge => keys::purge(call).await,
        O::KeyEncrypt => crypto::encrypt(call).await,
        O::KeyDecrypt => crypto::decrypt(call).await,
        O::KeyWrap => crypto::wrap(call).await,
        O::KeyUnwrap => crypto::unwrap(call).await,
        O::KeySign => crypto::sign(call).await,
        O::KeyVerify => crypto::verify(call).await,
        O::RandomBytes => crypto::random(call).await,
        O::KeyRotationPolicyGet => rotation::get(call).await,
        O::KeyRotationPolicySet => rotation::set(call).await,
        O::SecretSet => secrets::set(call).await,
        O::SecretGet => secrets::get(call).await,
        O::SecretUpdate => secrets::update(call).await,
        O::SecretList => secrets::list(call).await,
        O::SecretListVersions => secrets::list_versions(call).await,
        O::SecretDelete => secrets::delete(call).await,
        O::SecretBackup => secrets::backup(call).await,
        O::SecretRestore => secrets::restore(call).await,
        O::SecretListDeleted => secrets::list_deleted(call).await,
        O::SecretGetDeleted => secrets::get_deleted(call).await,
        O::SecretRecover => secrets::recover(call).await,
        O::SecretPurge => secrets::purge(call).await,
        O::RoleDefinitionList => roles::list_definitions(call).await,
        O::RoleDefinitionGet => roles::get_definition(call).await,
        O::RoleDefinitionSet => roles::set_definition(call).await,
        O::RoleDefinitionDelete => roles::delete_definition(call).await,
        O::RoleAssignmentList => roles::list_assignments(call).await,
        O::RoleAssignmentGet => roles::get_assignment(call).await,
        O::RoleAssignmentSet => roles::set_assignment(call).await,
        O::RoleAssignmentDelete => roles::delete_assignment(call).await,
        O::KeyRelease
        | O::KeyAttestation
        | O::KeySecureWrap
        | O::KeySelectiveRestore
        | O::CertificateList
        | O::CertificateGet
        | O::CertificateChange
        | O::HsmAdministration => absent::answer(call),
    }
}
