//! What Azure has and this service has not, or not yet. Who reads finds nothing, which is true; who wants it made is told.

use serde_json::json;

use super::{
    call::{Answer, Call},
    fault::{Fault, Noun},
    route::Operation,
};

pub(super) fn answer(call: &Call<'_>) -> Result<Answer, Fault> {
    let name: String = call.route.name.chars().take(130).collect();
    match call.route.operation {
        Operation::CertificateList => Ok(Answer::ok(&json!({ "value": [], "nextLink": null }))),
        Operation::CertificateGet => Err(Fault::not_found(Noun::Certificate, &name)),
        Operation::CertificateChange => Err(Fault::not_here("Certificates come later and are")),
        Operation::KeyRelease => Err(Fault::not_here("Keys do not leave the HSM: secure key release is")),
        Operation::KeyAttestation => Err(Fault::not_here("Key attestation is")),
        Operation::KeySecureWrap => Err(Fault::not_here("Secure wrapping and unwrapping are")),
        Operation::KeySelectiveRestore => Err(Fault::not_here("Restoring a key out of a full backup is")),
        _ => Err(Fault::not_here("Settings, full backups, security domain and external key management are")),
    }
}
