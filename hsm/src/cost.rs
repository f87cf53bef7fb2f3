//! What work costs, in about a microsecond of SoftHSM on one core (`docs/performance.md` says how to measure). The
//! figures are weights: by them quotas are counted and lanes share themselves out, and for both only their ratios
//! matter, which modules have much in common. A generation of RSA keys is a mean: it is a search for primes.

use crate::{
    algorithms::{KeySpec, Scheme},
    protocol::{Operation, Request},
    statement::Residency,
};

/// A seal, its check, random bytes, an AES operation of a few bytes.
const SHORT_US: u32 = 7;
/// Making, proving and removing an object on the token: its files are written and synced.
pub const TOKEN_OBJECT_US: u32 = 10_000;

impl KeySpec {
    /// An operation with the private half, or with a secret key and a few bytes.
    #[must_use]
    pub const fn private_us(self) -> u32 {
        match self {
            Self::Aes128 | Self::Aes192 | Self::Aes256 | Self::Hmac256 | Self::Hmac384 | Self::Hmac512 => SHORT_US,
            Self::P256 => 30,
            Self::Ed25519 => 130,
            Self::P521 => 190,
            Self::P256K => 270,
            Self::Rsa2048 => 440,
            Self::P384 => 530,
            Self::Rsa3072 => 1_700,
            Self::Rsa4096 => 3_600,
        }
    }

    /// An operation with the public half.
    #[must_use]
    pub const fn public_us(self) -> u32 {
        match self {
            Self::Aes128 | Self::Aes192 | Self::Aes256 | Self::Hmac256 | Self::Hmac384 | Self::Hmac512 => SHORT_US,
            Self::Rsa2048 => 30,
            Self::Rsa3072 => 50,
            Self::P256 => 60,
            Self::Rsa4096 => 70,
            Self::P256K => 250,
            Self::Ed25519 => 300,
            Self::P521 => 320,
            Self::P384 => 450,
        }
    }

    /// Loading it: its seal is checked, it is unwrapped and used once.
    #[must_use]
    pub const fn load_us(self) -> u32 {
        match self {
            Self::Aes128 | Self::Aes192 | Self::Aes256 | Self::Hmac256 | Self::Hmac384 | Self::Hmac512 => 40,
            Self::P256 | Self::P384 | Self::P521 | Self::P256K | Self::Ed25519 => 400 + self.private_us(),
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => 500 + self.private_us(),
        }
    }

    /// Making it, wrapping it and proving that it can be loaded.
    #[must_use]
    pub const fn generate_us(self) -> u32 {
        let search_us = match self {
            Self::Rsa2048 => 100_000,
            Self::Rsa3072 => 400_000,
            Self::Rsa4096 => 1_200_000,
            _ => 100,
        };
        search_us + self.load_us()
    }
}

/// So many bytes by so many nanoseconds each.
fn bytes_us(bytes: usize, ns_per_byte: u64) -> u32 {
    u32::try_from((bytes as u64).saturating_mul(ns_per_byte) / 1000).unwrap_or(u32::MAX)
}

impl Operation {
    /// What it costs with such a key, once that is loaded.
    #[must_use]
    pub fn cost_us(&self, spec: KeySpec) -> u32 {
        let base_us = match self {
            Self::Sign { .. } | Self::Decrypt { .. } => spec.private_us(),
            Self::Verify { .. } | Self::Encrypt { .. } => spec.public_us(),
            Self::DataKey { .. } => spec.public_us() + SHORT_US,
        };
        let ns_per_byte = match self.algorithm().scheme() {
            // Eight bytes are six calls of the module.
            Scheme::AesKw | Scheme::AesKwp => 400,
            _ => 1,
        };
        base_us.saturating_add(bytes_us(self.input_bytes(), ns_per_byte))
    }
}

impl Request {
    /// What a request without a key row costs.
    pub(crate) fn cost_us(&self) -> u32 {
        let of_token = |residency| if residency == Residency::Token { TOKEN_OBJECT_US } else { 0 };
        match self {
            Self::Generate(wanted) => wanted.spec.generate_us() + of_token(wanted.residency),
            Self::Import { wanted, .. } => 2 * wanted.spec.load_us() + of_token(wanted.residency),
            // Its KEK is loaded and used first.
            Self::ImportWrapped { wanted, .. } => {
                KeySpec::Rsa4096.load_us() + 2 * wanted.spec.load_us() + of_token(wanted.residency)
            }
            // Of which kind the row is, is read where it is believed.
            Self::Prove { .. } => KeySpec::Rsa4096.load_us(),
            Self::MakeKek { .. } | Self::DestroyToken { .. } => TOKEN_OBJECT_US,
            Self::Seal { forms } => SHORT_US.saturating_mul(u32::try_from(forms.len()).unwrap_or(u32::MAX)),
            // Ed25519 is the dearer of the two kinds of log key.
            Self::SignLog { text, .. } => KeySpec::Ed25519.private_us().saturating_add(bytes_us(text.len(), 1)),
            Self::CheckSeals { pairs } => SHORT_US.saturating_mul(u32::try_from(pairs.len()).unwrap_or(u32::MAX)),
            _ => SHORT_US,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{algorithms::Algorithm, secret::SecretBytes};

    #[test]
    fn a_generation_is_dearer_than_a_load_and_that_than_a_use() {
        for spec in KeySpec::ALL {
            assert!(spec.generate_us() > spec.load_us() && spec.load_us() > spec.private_us(), "{}", spec.name());
            assert!(spec.private_us() >= SHORT_US && spec.public_us() >= SHORT_US, "{}", spec.name());
        }
        assert!(KeySpec::Rsa4096.generate_us() > 100_000 * KeySpec::Aes256.private_us());
    }

    #[test]
    fn input_counts_and_never_overflows() {
        let sign = |algorithm, bytes| Operation::Sign { algorithm, input: SecretBytes::new(vec![0; bytes]) };
        let short = sign(Algorithm::Hs256, 32).cost_us(KeySpec::Hmac256);
        assert_eq!((short, sign(Algorithm::Hs256, 65_536).cost_us(KeySpec::Hmac256)), (SHORT_US, SHORT_US + 65));
        assert_eq!(bytes_us(usize::MAX, u64::MAX), u32::MAX);
    }
}
