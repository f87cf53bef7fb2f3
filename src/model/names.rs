//! Names: what a vault, key, version and request are called. Azure Key Vault's rules.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
};

/// A name that breaks its rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not a {what}: {rule}")]
pub struct NameError {
    /// What it should have been.
    pub what: &'static str,
    /// The rule.
    pub rule: &'static str,
    /// What was found, cut to 200 characters.
    pub found: String,
}

fn wrong(what: &'static str, rule: &'static str, found: &str) -> NameError {
    NameError { what, rule, found: found.chars().take(200).collect() }
}

/// A vault's name: a DNS label of 3 to 24 characters that begins with a letter, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VaultName(String);

impl VaultName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VaultName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        const RULE: &str = "3 to 24 of a-z, 0-9 and single inner hyphens, beginning with a letter";
        let bytes = text.as_bytes();
        let right = (3..=24).contains(&bytes.len())
            && bytes[0].is_ascii_alphabetic()
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
            && !text.ends_with('-')
            && !text.contains("--");
        if right { Ok(Self(text.to_ascii_lowercase())) } else { Err(wrong("vault name", RULE, text)) }
    }
}

/// The name of an object in a vault: a key's, and by the same rule a secret's or certificate's.
pub type ObjectName = KeyName;
/// The name of a secret.
pub type SecretName = ObjectName;

/// A key's name: 1 to 127 of `[0-9A-Za-z-]`. Two names that differ in case only are the same name;
/// the first spelling is kept and shown.
#[derive(Clone, Debug)]
pub struct KeyName(String);

impl KeyName {
    /// The name as it was spelled.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form that names are compared by.
    #[must_use]
    pub fn folded(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl PartialEq for KeyName {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for KeyName {}

impl Hash for KeyName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.bytes().for_each(|byte| state.write_u8(byte.to_ascii_lowercase()));
        state.write_u8(0xff);
    }
}

impl PartialOrd for KeyName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for KeyName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.bytes().map(|byte| byte.to_ascii_lowercase()).cmp(other.0.bytes().map(|byte| byte.to_ascii_lowercase()))
    }
}

impl FromStr for KeyName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let right = (1..=127).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if right { Ok(Self(text.to_owned())) } else { Err(wrong("key name", "1 to 127 of 0-9, A-Z, a-z and -", text)) }
    }
}

/// The name of a secret, whose rule is that of keys' names: what is wrong with it is said of a secret's.
///
/// # Errors
/// When it breaks the rule.
pub fn secret_name(text: &str) -> Result<SecretName, NameError> {
    text.parse().map_err(|error| NameError { what: "secret name", ..error })
}

/// A version: 16 random bytes, 32 lower-case hexadecimal digits when shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VersionId([u8; 16]);

impl VersionId {
    /// The version with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }
}

impl FromStr for VersionId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let error = || wrong("version", "32 lower-case hexadecimal digits", text);
        if text.len() != 32 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(error());
        }
        let mut bytes = [0; 16];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| error())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| error())?;
        }
        Ok(Self(bytes))
    }
}

/// A caller's request id: a UUID, by which a repeated change is known (AIP-155).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(uuid::Uuid);

impl RequestId {
    /// Its 16 bytes.
    #[must_use]
    pub const fn bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }
}

impl FromStr for RequestId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let uuid = uuid::Uuid::try_parse(text).map_err(|_| wrong("request id", "a UUID that is not all zero", text))?;
        if uuid.is_nil() { Err(wrong("request id", "a UUID that is not all zero", text)) } else { Ok(Self(uuid)) }
    }
}

impl fmt::Display for VaultName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(uuid::Uuid::from_bytes(self.0).as_simple().encode_lower(&mut uuid::Uuid::encode_buffer()))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn vault_names_follow_azure() {
        for good in ["dev", "a-b", "payments-eu-west-1", "abcdefghijklmnopqrstuvwx"] {
            assert!(good.parse::<VaultName>().is_ok(), "{good}");
        }
        for bad in ["", "ab", "1ab", "-ab", "ab-", "a--b", "a_b", "ä-b", "abcdefghijklmnopqrstuvwxy", "a b"] {
            assert!(bad.parse::<VaultName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn key_names_are_one_without_regard_to_case() {
        let (one, other): (KeyName, KeyName) = ("Root-CA".parse().expect("right"), "root-ca".parse().expect("right"));
        assert_eq!(one, other);
        assert_eq!(one.cmp(&other), Ordering::Equal);
        assert!(std::collections::HashSet::from([one]).contains(&other));
        assert!("".parse::<KeyName>().is_err());
        assert!("a/b".parse::<KeyName>().is_err());
        assert!("x".repeat(128).parse::<KeyName>().is_err());
    }

    proptest! {
        #[test]
        fn versions_come_back(bytes in any::<[u8; 16]>()) {
            let version = VersionId::from_bytes(bytes);
            prop_assert_eq!(version.to_string().parse::<VersionId>(), Ok(version));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,60}") {
            let _ = (text.parse::<VaultName>(), text.parse::<KeyName>(), text.parse::<VersionId>(), text.parse::<RequestId>());
        }
    }
}
