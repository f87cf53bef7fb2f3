//! What is measured, and the work that it is.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use strongroom_hsm::{
    SecretBytes,
    algorithms::{AES_BLOCK_BYTES, Algorithm, Digest, KeyOps, KeySpec, KeyType, Lane, Scheme},
    protocol::{Operation, Output},
};

/// What is signed: as a digest where the algorithm signs one.
pub const MESSAGE: &[u8] = b"thirty-two bytes of a message...";

/// [`MESSAGE`] as an algorithm signs it: its digest, or itself.
#[must_use]
pub fn signed(algorithm: Algorithm) -> Vec<u8> {
    match algorithm.signature_digest() {
        Some(Digest::Sha384) => Sha384::digest(MESSAGE).to_vec(),
        Some(Digest::Sha512) => Sha512::digest(MESSAGE).to_vec(),
        Some(_) => Sha256::digest(MESSAGE).to_vec(),
        None => MESSAGE.to_vec(),
    }
}
/// How much is encrypted by AES.
const PLAINTEXT_BYTES: usize = 1024;
/// How much is wrapped, or encrypted by RSA: a key of 256 bits.
const KEY_BYTES: usize = 32;

/// An algorithm, a kind of key, and one of the operations that it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// By which algorithm.
    pub algorithm: Algorithm,
    /// With what kind of key.
    pub spec: KeySpec,
    /// Which operation; exactly one.
    pub op: KeyOps,
}

impl Case {
    /// What is measured where nothing else is asked for: one of each kind of cost.
    pub const DEFAULT: [Self; 3] = [
        Self { algorithm: Algorithm::Ps256, spec: KeySpec::Rsa2048, op: KeyOps::SIGN },
        Self { algorithm: Algorithm::Es256, spec: KeySpec::P256, op: KeyOps::SIGN },
        Self { algorithm: Algorithm::A256Gcm, spec: KeySpec::Aes256, op: KeyOps::ENCRYPT },
    ];

    /// The operation's JWK name.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.op.iter().next().map_or("", |(_, name)| name)
    }

    /// The lane it belongs to.
    #[must_use]
    pub fn lane(&self) -> Lane {
        self.algorithm.lane(self.spec, self.input().len())
    }

    /// Its input: a digest, a message, a plaintext or a key.
    #[must_use]
    pub fn input(&self) -> Vec<u8> {
        if self.algorithm.signs() {
            return signed(self.algorithm);
        }
        let bytes = match self.algorithm.scheme() {
            Scheme::AesGcm | Scheme::AesCbc | Scheme::AesCbcPad => PLAINTEXT_BYTES,
            _ => KEY_BYTES,
        };
        vec![0x5a; bytes]
    }

    /// Whether the operation takes back what another makes: verify, decrypt, unwrap.
    #[must_use]
    pub fn takes_back(&self) -> bool {
        KeyOps::VERIFY.union(KeyOps::DECRYPT).union(KeyOps::UNWRAP_KEY).contains(self.op)
    }

    /// Signs, encrypts or wraps the input.
    #[must_use]
    pub fn make(&self) -> Work {
        let wraps = KeyOps::WRAP_KEY.union(KeyOps::UNWRAP_KEY).contains(self.op);
        if self.algorithm.signs() {
            return Work::Sign { input: self.input() };
        }
        let iv = match self.algorithm.scheme() {
            Scheme::AesCbc | Scheme::AesCbcPad => vec![0x1f; AES_BLOCK_BYTES],
            _ => Vec::new(),
        };
        Work::Encrypt { wraps, plaintext: self.input(), iv }
    }

    /// Verifies, decrypts or unwraps what [`Self::make`] has made; nothing when that is no answer to it.
    #[must_use]
    pub fn take_back(&self, made: &Answer) -> Option<Work> {
        let wraps = KeyOps::WRAP_KEY.union(KeyOps::UNWRAP_KEY).contains(self.op);
        match made {
            Answer::Signature(signature) => Some(Work::Verify { input: self.input(), signature: signature.clone() }),
            Answer::Sealed { ciphertext, iv, tag } => {
                Some(Work::Decrypt { wraps, ciphertext: ciphertext.clone(), iv: iv.clone(), tag: tag.clone() })
            }
            Answer::Valid(_) | Answer::Opened(_) => None,
        }
    }

    /// Whether that is the right answer to [`Self::take_back`].
    #[must_use]
    pub fn is_taken_back(&self, answer: &Answer) -> bool {
        match answer {
            Answer::Valid(valid) => *valid,
            Answer::Opened(plaintext) => *plaintext == self.input(),
            Answer::Signature(_) | Answer::Sealed { .. } => false,
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.algorithm.name(), self.operation(), self.spec.name())
    }
}

/// A case that is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaseError {
    /// No such algorithm.
    #[error("{0:?} is not an algorithm: one of {known}", known = Algorithm::ALL.map(Algorithm::name).join(", "))]
    Algorithm(String),
    /// No such key for it.
    #[error("{name} takes no key {key:?}: one of {known}")]
    Key {
        /// The algorithm.
        name: &'static str,
        /// What was asked for.
        key: String,
        /// Those that it takes.
        known: String,
    },
    /// No such operation of it.
    #[error("{name} has no operation {operation:?}: one of {known}")]
    Operation {
        /// The algorithm.
        name: &'static str,
        /// What was asked for.
        operation: String,
        /// Those that it has.
        known: String,
    },
}

/// `ALGORITHM`, with `OPERATION:` before it and `/KEY` behind it where they are not the first of the table.
impl FromStr for Case {
    type Err = CaseError;

    fn from_str(text: &str) -> Result<Self, CaseError> {
        let (operation, rest) = text.split_once(':').map_or((None, text), |(operation, rest)| (Some(operation), rest));
        let (name, key) = rest.split_once('/').map_or((rest, None), |(name, key)| (name, Some(key)));
        let algorithm = Algorithm::from_name(name).ok_or_else(|| CaseError::Algorithm(name.to_owned()))?;
        let name = algorithm.name();
        let mut specs = KeySpec::ALL.into_iter().filter(|spec| algorithm.takes(*spec));
        let spec = specs.clone().find(|spec| key.is_none_or(|key| spec.name().eq_ignore_ascii_case(key)));
        let spec = spec.ok_or_else(|| CaseError::Key {
            name,
            key: key.unwrap_or_default().to_owned(),
            known: specs.by_ref().map(KeySpec::name).collect::<Vec<_>>().join(", "),
        })?;
        let mut ops = algorithm.ops().iter();
        let makes = KeyOps::SIGN.union(KeyOps::ENCRYPT).union(KeyOps::WRAP_KEY);
        let op = match operation {
            None => ops.find(|(op, _)| makes.contains(*op)),
            Some(operation) => ops.find(|(_, name)| *name == operation),
        };
        let (op, _) = op.ok_or_else(|| CaseError::Operation {
            name,
            operation: operation.unwrap_or_default().to_owned(),
            known: algorithm.ops().iter().map(|(_, name)| name).collect::<Vec<_>>().join(", "),
        })?;
        Ok(Self { algorithm, spec, op })
    }
}

/// One operation's input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Sign.
    Sign {
        /// A digest or a message.
        input: Vec<u8>,
    },
    /// Verify.
    Verify {
        /// What was signed.
        input: Vec<u8>,
        /// Its signature.
        signature: Vec<u8>,
    },
    /// Encrypt or wrap.
    Encrypt {
        /// Whether it is wrapping.
        wraps: bool,
        /// Data or key.
        plaintext: Vec<u8>,
        /// A*CBC*: 16 bytes; else none.
        iv: Vec<u8>,
    },
    /// Decrypt or unwrap.
    Decrypt {
        /// Whether it is unwrapping.
        wraps: bool,
        /// As it was made.
        ciphertext: Vec<u8>,
        /// As it was made.
        iv: Vec<u8>,
        /// As it was made.
        tag: Vec<u8>,
    },
}

impl Work {
    /// As a worker is asked for it.
    #[must_use]
    pub fn operation(self, algorithm: Algorithm) -> Operation {
        let none = || Vec::new().into();
        match self {
            Self::Sign { input } => Operation::Sign { algorithm, input: SecretBytes::new(input) },
            Self::Verify { input, signature } => {
                Operation::Verify { algorithm, input: SecretBytes::new(input), signature: signature.into() }
            }
            Self::Encrypt { wraps, plaintext, iv } => Operation::Encrypt {
                algorithm,
                purpose: if wraps { KeyOps::WRAP_KEY } else { KeyOps::ENCRYPT },
                plaintext: SecretBytes::new(plaintext),
                iv: iv.into(),
                additional_data: none(),
            },
            Self::Decrypt { wraps, ciphertext, iv, tag } => Operation::Decrypt {
                algorithm,
                purpose: if wraps { KeyOps::UNWRAP_KEY } else { KeyOps::DECRYPT },
                ciphertext: ciphertext.into(),
                iv: iv.into(),
                tag: tag.into(),
                additional_data: none(),
            },
        }
    }

    /// How many bytes go in.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Sign { input } => input.len(),
            Self::Verify { input, signature } => input.len() + signature.len(),
            Self::Encrypt { plaintext, iv, .. } => plaintext.len() + iv.len(),
            Self::Decrypt { ciphertext, iv, tag, .. } => ciphertext.len() + iv.len() + tag.len(),
        }
    }
}

/// One operation's output. Nothing here is secret: the inputs are constants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A signature or MAC.
    Signature(Vec<u8>),
    /// Whether one is right.
    Valid(bool),
    /// A ciphertext or a wrapped key.
    Sealed {
        /// Without IV and tag.
        ciphertext: Vec<u8>,
        /// Where there is one.
        iv: Vec<u8>,
        /// Where there is one.
        tag: Vec<u8>,
    },
    /// A plaintext or an unwrapped key.
    Opened(Vec<u8>),
}

impl Answer {
    /// How many bytes come out.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Signature(bytes) | Self::Opened(bytes) => bytes.len(),
            Self::Valid(_) => 1,
            Self::Sealed { ciphertext, iv, tag } => ciphertext.len() + iv.len() + tag.len(),
        }
    }
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        match output {
            Output::Signature(signature) => Self::Signature(signature.into_vec()),
            Output::Verified(valid) => Self::Valid(valid),
            // No work here makes a data key; its wrapped form would be taken back like any other.
            Output::Ciphertext { ciphertext, iv, tag } | Output::DataKey { ciphertext, iv, tag, .. } => {
                Self::Sealed { ciphertext: ciphertext.into_vec(), iv: iv.into_vec(), tag: tag.into_vec() }
            }
            Output::Plaintext(plaintext) => Self::Opened(plaintext.into_exposed()),
        }
    }
}

/// Whether a key of that kind can live wrapped: SoftHSM 2.6.1 does not wrap Ed25519 keys.
pub(super) fn is_wrapped(spec: KeySpec) -> bool {
    spec.key_type() != KeyType::Okp
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(text: &str) -> Case {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_name_is_enough_and_more_can_be_said() {
        assert_eq!(Case::DEFAULT.map(|case| case.algorithm.name()).map(case), Case::DEFAULT);
        assert_eq!(case("PS256/RSA-4096").spec, KeySpec::Rsa4096);
        assert_eq!(case("verify:ES256").op, KeyOps::VERIFY);
        assert_eq!(case("wrapKey:RSA-OAEP/rsa-3072"), Case { op: KeyOps::WRAP_KEY, ..case("RSA-OAEP/RSA-3072") });
        assert_eq!(case("A256KW").op, KeyOps::WRAP_KEY);
        assert_eq!(case("decrypt:A128GCM").to_string(), "A128GCM decrypt AES-128");
        for (wrong, said) in [
            ("ES255", "one of RS256"),
            ("ES256/RSA-2048", "one of P-256"),
            ("encrypt:ES256", "one of sign, verify"),
            ("", "is not an algorithm"),
            (":", "is not an algorithm"),
        ] {
            let error = wrong.parse::<Case>().expect_err(wrong).to_string();
            assert!(error.contains(said), "{wrong}: {error}");
        }
    }

    #[test]
    fn the_work_of_every_case_is_what_its_algorithm_takes() {
        for algorithm in Algorithm::ALL {
            for spec in KeySpec::ALL.into_iter().filter(|spec| algorithm.takes(*spec)) {
                for (op, _) in algorithm.ops().iter() {
                    let case = Case { algorithm, spec, op };
                    match case.make() {
                        Work::Sign { input } => algorithm.check_input(&input).expect("takes it"),
                        Work::Encrypt { plaintext, iv, .. } => {
                            algorithm.check_plaintext("plaintext", &plaintext, spec).expect("takes it");
                            algorithm.check_chosen_iv(&iv).expect("takes it");
                        }
                        other => panic!("{case} makes {other:?}"),
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_taken_back_is_compared() {
        let gcm = case("decrypt:A256GCM");
        let sealed = Answer::Sealed { ciphertext: vec![1; 1024], iv: vec![2; 12], tag: vec![3; 16] };
        assert!(matches!(gcm.take_back(&sealed), Some(Work::Decrypt { wraps: false, .. })));
        assert!(gcm.is_taken_back(&Answer::Opened(gcm.input())));
        assert!(!gcm.is_taken_back(&Answer::Opened(vec![0x5a; 1023])));
        let es256 = case("ES256");
        assert!(es256.is_taken_back(&Answer::Valid(true)) && !es256.is_taken_back(&Answer::Valid(false)));
        assert_eq!(es256.take_back(&Answer::Valid(true)), None);
    }
}
