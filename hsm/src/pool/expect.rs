//! Whether an answer can be an answer to its call.
//!
//! The front cannot tell a right signature from a wrong one, but it can tell what no honest worker says:
//! another kind of answer, a signature of the wrong length, fewer seals than forms. Such a worker is
//! replaced. Nothing here is about the caller's data.

use crate::{
    algorithms::{AES_BLOCK_BYTES, GCM_IV_BYTES, GCM_TAG_BYTES, KeySpec, Scheme},
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
                && key.public.is_empty() == spec.key_type().is_secret()
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
        (Operation::Encrypt { plaintext, iv: chosen, .. }, Output::Ciphertext { ciphertext, iv, tag }) => {
            let is_gcm = algorithm.scheme() == Scheme::AesGcm;
            let iv_fits = if is_gcm { iv.len() == GCM_IV_BYTES } else { iv == chosen };
            let tag_bytes = if is_gcm { GCM_TAG_BYTES } else { 0 };
            ciphertext.len() == ciphertext_bytes(algorithm.scheme(), spec, plaintext.len())
                && iv_fits
                && tag.len() == tag_bytes
        }
        (Operation::Decrypt { ciphertext, .. }, Output::Plaintext(plaintext)) => match algorithm.scheme() {
            Scheme::RsaOaep(_) | Scheme::RsaEs15 => plaintext.len() < spec.bytes(),
            scheme => ciphertext_bytes(scheme, spec, plaintext.len()) == ciphertext.len(),
        },
        _ => false,
    }
}

/// How long the ciphertext of a plaintext is.
fn ciphertext_bytes(scheme: Scheme, spec: KeySpec, plaintext_bytes: usize) -> usize {
    match scheme {
        Scheme::AesGcm | Scheme::AesCbc => plaintext_bytes,
        // At least one byte of padding (RFC 5652 section 6.3).
        Scheme::AesCbcPad => (plaintext_bytes + 1).next_multiple_of(AES_BLOCK_BYTES),
        Scheme::AesKw => plaintext_bytes + 8,
        Scheme::AesKwp => plaintext_bytes.next_multiple_of(8) + 8,
        _ => spec.bytes(),
    }
}

#[cfg(test)]
mod tests {
    use serde_bytes::ByteBuf;

    use super::*;
    use crate::{
        algorithms::{Algorithm, KeyOps},
        secret::SecretBytes,
    };

    fn encrypted_fits(algorithm: Algorithm, plaintext: usize, ciphertext: usize, iv: u8) -> bool {
        let operation = Operation::Encrypt {
            algorithm,
            purpose: KeyOps::ENCRYPT,
            plaintext: SecretBytes::new(vec![1; plaintext]),
            iv: ByteBuf::from(vec![7; 16]),
            additional_data: ByteBuf::new(),
        };
        let ciphertext = ByteBuf::from(vec![2; ciphertext]);
        let output = Output::Ciphertext { ciphertext, iv: ByteBuf::from(vec![iv; 16]), tag: ByteBuf::new() };
        output_fits(KeySpec::Aes256, &operation, &output)
    }

    fn decrypted_fits(algorithm: Algorithm, ciphertext: usize, plaintext: usize) -> bool {
        let operation = Operation::Decrypt {
            algorithm,
            purpose: KeyOps::DECRYPT,
            ciphertext: ByteBuf::from(vec![1; ciphertext]),
            iv: ByteBuf::new(),
            tag: ByteBuf::new(),
            additional_data: ByteBuf::new(),
        };
        output_fits(KeySpec::Rsa2048, &operation, &Output::Plaintext(SecretBytes::new(vec![2; plaintext])))
    }

    #[test]
    fn a_ciphertext_has_the_length_of_its_algorithm_and_the_callers_iv() {
        assert!(encrypted_fits(Algorithm::A256Cbc, 32, 32, 7));
        assert!(!encrypted_fits(Algorithm::A256Cbc, 32, 32, 8), "another IV");
        assert!(!encrypted_fits(Algorithm::A256Cbc, 32, 48, 7));
        for (plaintext, ciphertext) in [(0, 16), (15, 16), (16, 32), (17, 32)] {
            assert!(encrypted_fits(Algorithm::A256CbcPad, plaintext, ciphertext, 7), "{plaintext}");
        }
        assert!(!encrypted_fits(Algorithm::A256CbcPad, 16, 16, 7));
    }

    #[test]
    fn a_plaintext_is_one_that_its_ciphertext_can_hold() {
        assert!(decrypted_fits(Algorithm::A256CbcPad, 32, 16) && decrypted_fits(Algorithm::A256CbcPad, 32, 31));
        assert!(!decrypted_fits(Algorithm::A256CbcPad, 32, 15) && !decrypted_fits(Algorithm::A256CbcPad, 32, 32));
        assert!(decrypted_fits(Algorithm::A256Kwp, 24, 9) && decrypted_fits(Algorithm::A256Kwp, 24, 16));
        assert!(!decrypted_fits(Algorithm::A256Kwp, 24, 8) && !decrypted_fits(Algorithm::A256Kwp, 24, 17));
        assert!(decrypted_fits(Algorithm::Rsa15, 256, 0) && !decrypted_fits(Algorithm::Rsa15, 256, 256));
    }
}
