//! Algorithms by their names.

use std::{borrow::Cow, fmt};

/// An algorithm, by its JWA name (RFC 7518, RFC 8037, RFC 8812). Which ones a version takes is in its
/// `algorithms`; the server decides, so a name that this library does not list can be used too.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Algorithm(Cow<'static, str>);

macro_rules! algorithms {
    ($($(#[$what:meta])* $constant:ident = $name:literal,)*) => {
        #[expect(non_upper_case_globals, reason = "they keep their names' spelling where Rust allows it")]
        impl Algorithm {
            $($(#[$what])* pub const $constant: Self = Self(Cow::Borrowed($name));)*

            /// All that have a constant.
            pub const ALL: &'static [Self] = &[$(Self::$constant),*];
        }
    };
}

algorithms! {
    /// Sign: RSASSA-PKCS1-v1_5 with SHA-256.
    RS256 = "RS256",
    /// Sign: RSASSA-PKCS1-v1_5 with SHA-384.
    RS384 = "RS384",
    /// Sign: RSASSA-PKCS1-v1_5 with SHA-512.
    RS512 = "RS512",
    /// Sign: RSASSA-PSS with SHA-256.
    PS256 = "PS256",
    /// Sign: RSASSA-PSS with SHA-384.
    PS384 = "PS384",
    /// Sign: RSASSA-PSS with SHA-512.
    PS512 = "PS512",
    /// Sign: ECDSA on P-256.
    ES256 = "ES256",
    /// Sign: ECDSA on secp256k1.
    ES256K = "ES256K",
    /// Sign: ECDSA on P-384.
    ES384 = "ES384",
    /// Sign: ECDSA on P-521.
    ES512 = "ES512",
    /// Sign: Ed25519.
    EdDSA = "EdDSA",
    /// Sign: HMAC with SHA-256.
    HS256 = "HS256",
    /// Sign: HMAC with SHA-384.
    HS384 = "HS384",
    /// Sign: HMAC with SHA-512.
    HS512 = "HS512",
    /// Encrypt and wrap: RSA OAEP with SHA-1.
    RSA_OAEP = "RSA-OAEP",
    /// Encrypt and wrap: RSA OAEP with SHA-256.
    RSA_OAEP_256 = "RSA-OAEP-256",
    /// Encrypt and wrap: RSA with PKCS#1 v1.5 padding, where a vault allows it.
    RSA1_5 = "RSA1_5",
    /// Encrypt: AES-128-GCM.
    A128GCM = "A128GCM",
    /// Encrypt: AES-192-GCM.
    A192GCM = "A192GCM",
    /// Encrypt: AES-256-GCM.
    A256GCM = "A256GCM",
    /// Encrypt: AES-128-CBC, no padding, not authenticated.
    A128CBC = "A128CBC",
    /// Encrypt: AES-192-CBC, no padding, not authenticated.
    A192CBC = "A192CBC",
    /// Encrypt: AES-256-CBC, no padding, not authenticated.
    A256CBC = "A256CBC",
    /// Encrypt: AES-128-CBC with PKCS#7 padding, not authenticated.
    A128CBCPAD = "A128CBCPAD",
    /// Encrypt: AES-192-CBC with PKCS#7 padding, not authenticated.
    A192CBCPAD = "A192CBCPAD",
    /// Encrypt: AES-256-CBC with PKCS#7 padding, not authenticated.
    A256CBCPAD = "A256CBCPAD",
    /// Wrap: AES-128 key wrap (RFC 3394).
    A128KW = "A128KW",
    /// Wrap: AES-192 key wrap (RFC 3394).
    A192KW = "A192KW",
    /// Wrap: AES-256 key wrap (RFC 3394).
    A256KW = "A256KW",
    /// Wrap: AES-128 key wrap with padding (RFC 5649).
    A128KWP = "A128KWP",
    /// Wrap: AES-192 key wrap with padding (RFC 5649).
    A192KWP = "A192KWP",
    /// Wrap: AES-256 key wrap with padding (RFC 5649).
    A256KWP = "A256KWP",
}

impl Algorithm {
    /// The algorithm of a name, whether or not it has a constant.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self(name.into())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_name_means_one_algorithm() {
        let names: HashSet<&str> = Algorithm::ALL.iter().map(Algorithm::name).collect();
        assert_eq!(names.len(), Algorithm::ALL.len());
        assert_eq!(Algorithm::new("A256KW"), Algorithm::A256KW);
    }
}
