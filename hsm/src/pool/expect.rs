//! Whether an answer can be an answer to its call.
//!
//! The front cannot tell a right signature from a wrong one, but it can tell what no honest worker says:
//! another kind of answer, a signature of the wrong length, fewer seals than forms. Such a worker is
//! replaced. Nothing here is about the caller's data.

use crate::{
    algorithms::{AES_BLOCK_BYTES, Algorithm, GCM_IV_BYTES, GCM_TAG_BYTES, KeySpec, Scheme},
    pool::call::Work,
    protocol::{DataKeyForm, LOG_SIGNATURE_BYTES_MAX, Operation, Output, Request, Response},
    statement::{IMPORTED_CHECK_BYTES, Residency},
};

/// The shortest log signature: two integers of one byte in DER.
const LOG_SIGNATURE_BYTES_MIN: usize = 8;

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
        (
            Request::Canary | Request::Load { .. } | Request::Prove { .. } | Request::DestroyToken { .. },
            Response::Done,
        ) => true,
        (Request::Generate(wanted), Response::Generated(key)) => {
            key.blob.is_empty() == (wanted.residency != Residency::Wrapped)
                && key.public.is_empty() == wanted.spec.key_type().is_secret()
        }
        (Request::ImportWrapped { wanted, .. }, Response::Generated(key)) => {
            key.blob.is_empty() == (wanted.residency != Residency::Wrapped)
                && key.public.is_empty() == wanted.spec.key_type().is_secret()
                && key.check_value.len() == IMPORTED_CHECK_BYTES
        }
        // Asked of a worker of its own, never of a lane.
        (Request::Renew { .. }, _) => false,
        (Request::MakeKek { id }, Response::Kek(kek)) => kek.id == *id,
        (Request::Import { wanted, material }, Response::Generated(key)) => {
            key.blob.is_empty() == (wanted.residency != Residency::Wrapped)
                && *key.public == *material.public_half()
                && key.check_value.is_empty() != material.is_secret()
        }
        (Request::Seal { forms }, Response::Seals(seals)) => {
            seals.len() == forms.len() && seals.iter().all(|seal| seal.len() == 32)
        }
        (Request::CheckSeals { pairs }, Response::Checked(verdicts)) => verdicts.len() == pairs.len(),
        (Request::SignLog { .. }, Response::LogSignature(signature)) => {
            // Of which kind the key is, is not known here.
            (LOG_SIGNATURE_BYTES_MIN..=LOG_SIGNATURE_BYTES_MAX).contains(&signature.len())
        }
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
            sealed_fits(spec, algorithm, plaintext.len(), chosen, [ciphertext, iv, tag])
        }
        // One that was to stay inside must not come out.
        (
            Operation::DataKey { length_bytes, form: DataKeyForm::WrappedOnly, .. },
            Output::Ciphertext { ciphertext, iv, tag },
        ) => sealed_fits(spec, algorithm, *length_bytes as usize, &[], [ciphertext, iv, tag]),
        (
            Operation::DataKey { length_bytes, form: DataKeyForm::PlainAndWrapped, .. },
            Output::DataKey { key, ciphertext, iv, tag },
        ) => key.len() == *length_bytes as usize && sealed_fits(spec, algorithm, key.len(), &[], [ciphertext, iv, tag]),
        (Operation::Decrypt { ciphertext, .. }, Output::Plaintext(plaintext)) => match algorithm.scheme() {
            Scheme::RsaOaep(_) | Scheme::RsaEs15 => plaintext.len() < spec.bytes(),
            scheme => ciphertext_bytes(scheme, spec, plaintext.len()) == ciphertext.len(),
        },
        _ => false,
    }
}

/// Whether ciphertext, IV and tag are those of so many bytes, under the IV that the caller chose.
fn sealed_fits(
    spec: KeySpec,
    algorithm: Algorithm,
    plaintext_bytes: usize,
    chosen: &[u8],
    [ciphertext, iv, tag]: [&[u8]; 3],
) -> bool {
    let is_gcm = algorithm.scheme() == Scheme::AesGcm;
    let iv_fits = if is_gcm { iv.len() == GCM_IV_BYTES } else { iv == chosen };
    let tag_bytes = if is_gcm { GCM_TAG_BYTES } else { 0 };
    ciphertext.len() == ciphertext_bytes(algorithm.scheme(), spec, plaintext_bytes) && iv_fits && tag.len() == tag_bytes
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
        algorithms::KeyOps,
        material::Material,
        protocol::{Generated, NewVersion},
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

    fn data_key(form: DataKeyForm) -> Operation {
        let (algorithm, additional_data) = (Algorithm::A256Kw, ByteBuf::new());
        Operation::DataKey { algorithm, length_bytes: 32, additional_data, form }
    }

    #[test]
    fn a_data_key_comes_out_in_the_form_that_was_asked_for() {
        let none = ByteBuf::new;
        let plain = |bytes: usize| Output::DataKey {
            key: SecretBytes::new(vec![1; bytes]),
            ciphertext: vec![2; 40].into(),
            iv: none(),
            tag: none(),
        };
        let wrapped = |bytes: usize| Output::Ciphertext { ciphertext: vec![2; bytes].into(), iv: none(), tag: none() };
        let fits = |form, output: &Output| output_fits(KeySpec::Aes256, &data_key(form), output);
        assert!(fits(DataKeyForm::PlainAndWrapped, &plain(32)));
        assert!(fits(DataKeyForm::WrappedOnly, &wrapped(40)));
        assert!(!fits(DataKeyForm::WrappedOnly, &plain(32)), "one that was to stay inside");
        assert!(!fits(DataKeyForm::PlainAndWrapped, &wrapped(40)));
        assert!(!fits(DataKeyForm::PlainAndWrapped, &plain(16)));
        assert!(!fits(DataKeyForm::WrappedOnly, &wrapped(32)));
    }

    #[test]
    fn a_log_signature_has_a_length_that_one_can_have() {
        let sign = Request::SignLog { public: ByteBuf::new(), text: String::new() };
        for (bytes, fits) in [(0, false), (7, false), (8, true), (64, true), (72, true), (73, false)] {
            assert_eq!(plain_fits(&sign, &Response::LogSignature(vec![1; bytes].into())), fits, "{bytes}");
        }
        assert!(!plain_fits(&sign, &Response::Seals(vec![vec![1; 32].into()])));
    }

    #[test]
    fn an_imported_public_key_comes_back_as_it_went() {
        let import = |residency, material| Request::Import {
            wanted: NewVersion::new(KeySpec::P256, residency, [0; 16]),
            material,
        };
        let generated = |blob: usize, public: &[u8], check: usize| {
            let check_value = vec![1; check].into();
            Response::Generated(Generated { blob: vec![1; blob].into(), public: public.to_vec().into(), check_value })
        };
        let public = import(Residency::Public, Material::Public(vec![7; 91].into()));
        assert!(plain_fits(&public, &generated(0, &[7; 91], 0)));
        assert!(!plain_fits(&public, &generated(0, &[8; 91], 0)));
        assert!(!plain_fits(&public, &generated(40, &[7; 91], 0)));
        let secret = import(Residency::Wrapped, Material::Secret(SecretBytes::new(vec![7; 32])));
        assert!(plain_fits(&secret, &generated(40, &[], 32)));
        assert!(!plain_fits(&secret, &generated(0, &[], 32)));
        assert!(!plain_fits(&secret, &generated(40, &[], 0)));
    }
}
