//! Whether an answer can be an answer to its call.
//!
//! The front cannot tell a right signature from a wrong one, but it can tell what no honest worker says:
//! another kind of answer, a signature of the wrong length, fewer seals than forms. Such a worker is
//! replaced. Nothing here is about the caller's data.

use crate::{
    algorithms::{GCM_IV_BYTES, GCM_TAG_BYTES, KeySpec, KeyType, Scheme},
    pool::call::Work,
    protocol::{Operation, Output, Request, Response},
    statement::Residency,
};

/// Whether `response` can be the answer to `work`.
pub(super) fn fits(work: &Work, response: &Response) -> bool {
    match (work, response) {
        (Work::Operate { row, operation }, Response::Output(output)) => {
            output_fits(row.statement.spec, operation, output)
        }
        (Work::Plain(request), response) => plain_fits(request, response),
        _ => false,
    }
}

fn plain_fits(request: &Request, response: &Response) -> bool {
    match (request, response) {
        (Request::Canary | Request::Load { .. } | Request::DestroyToken { .. }, Response::Done) => true,
        (Request::Generate { spec, residency, .. }, Response::Generated(key)) => {
            key.blob.is_empty() == (*residency == Residency::Token)
                && key.public.is_empty() == (spec.key_type() == KeyType::Oct)
        }
        (Request::Seal { forms }, Response::Seals(seals)) => {
            seals.len() == forms.len() && seals.iter().all(|seal| seal.len() == 32)
        }
        (Request::CheckSeals { pairs }, Response::Checked(verdicts)) => verdicts.len() == pairs.len(),
        (Request::Random { length }, Response::Random(bytes)) => bytes.len() == *length as usize,
        _ => false,
    }
}

fn output_fits(spec: KeySpec, operation: &Operation, output: &Output) -> bool {
    let algorithm = operation.algorithm();
    match (operation, output) {
        (Operation::Sign { .. }, Output::Signature(signature)) => algorithm.check_signature(signature, spec).is_ok(),
        (Operation::Verify { .. }, Output::Verified(_)) => true,
        (Operation::Encrypt { plaintext, .. }, Output::Ciphertext { ciphertext, iv, tag }) => {
            let (ciphertext_bytes, iv_bytes, tag_bytes) = match algorithm.scheme() {
                Scheme::AesGcm => (plaintext.len(), GCM_IV_BYTES, GCM_TAG_BYTES),
                Scheme::AesKw => (plaintext.len() + 8, 0, 0),
                _ => (spec.bytes(), 0, 0),
            };
            ciphertext.len() == ciphertext_bytes && iv.len() == iv_bytes && tag.len() == tag_bytes
        }
        (Operation::Decrypt { ciphertext, .. }, Output::Plaintext(plaintext)) => match algorithm.scheme() {
            Scheme::AesGcm => plaintext.len() == ciphertext.len(),
            Scheme::AesKw => plaintext.len() + 8 == ciphertext.len(),
            _ => plaintext.len() < spec.bytes(),
        },
        _ => false,
    }
}
