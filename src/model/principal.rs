//! Who acts, and what they may do where.

use std::{fmt, str::FromStr};

use super::names::{NameError, VaultName, VersionId};

/// Somebody who acts: the URI name of a client certificate (`spiffe://…`), or `x509:sha256:` and the
/// digest of a certificate without one. At most 2048 bytes (SPIFFE ID, section 2.3).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Principal(String);

impl Principal {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Principal {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        const RULE: &str = "a URI with a scheme and at most 2048 printable ASCII characters";
        let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
        let right = text.len() <= 2048
            && scheme.starts_with(|c: char| c.is_ascii_lowercase())
            && scheme.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b))
            && text.len() > scheme.len() + 1
            && text.bytes().all(|b| b.is_ascii_graphic());
        if right {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError { what: "principal", rule: RULE, found: text.chars().take(200).collect() })
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Everything.
    Administrator,
    /// Everything with the keys of one vault.
    User,
}

impl Role {
    /// The name, as stored and shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Administrator => "administrator",
            Self::User => "user",
        }
    }

    /// The role of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Administrator, Self::User].into_iter().find(|role| role.name() == name)
    }
}

/// Where a role is held.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// The whole service.
    Service,
    /// One vault.
    Vault(VaultName),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service => f.write_str("/"),
            Self::Vault(vault) => write!(f, "vaults/{vault}"),
        }
    }
}

impl FromStr for Scope {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.strip_prefix("vaults/") {
            Some(vault) => vault.parse().map(Self::Vault),
            None if text == "/" => Ok(Self::Service),
            None => Err(NameError {
                what: "scope",
                rule: "`/` or `vaults/{vault}`",
                found: text.chars().take(200).collect(),
            }),
        }
    }
}

/// The id of a role assignment.
pub type AssignmentId = VersionId;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_are_uris() {
        for good in ["spiffe://example.org/ci", "x509:sha256:00ff", "https://issuer.example/sub"] {
            assert!(good.parse::<Principal>().is_ok(), "{good}");
        }
        for bad in ["", "ci", "spiffe:", ":x", "spiffe://a b", "spiffe://a\n", "Spiffe://a"] {
            assert!(bad.parse::<Principal>().is_err(), "{bad}");
        }
    }

    #[test]
    fn scopes_come_back() {
        for text in ["/", "vaults/dev"] {
            assert_eq!(text.parse::<Scope>().map(|scope| scope.to_string()).as_deref(), Ok(text));
        }
        assert!("vaults/".parse::<Scope>().is_err());
    }
}
