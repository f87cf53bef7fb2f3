//! Where something may be done: the service, a vault, the objects of one type in it, or one object.

use std::{fmt, str::FromStr};

use super::names::{NameError, ObjectName, VaultName};

/// The types of objects that a vault holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectType {
    /// Keys.
    Keys,
    /// Secrets.
    Secrets,
    /// Certificates.
    Certificates,
}

impl ObjectType {
    /// Every type.
    pub const ALL: [Self; 3] = [Self::Keys, Self::Secrets, Self::Certificates];

    /// The word in resource names.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Secrets => "secrets",
            Self::Certificates => "certificates",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Where a right is held, or asked for. What is held at a scope is held at every scope within it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// The whole service.
    Service,
    /// One vault.
    Vault(VaultName),
    /// The objects of one type in a vault.
    Type(VaultName, ObjectType),
    /// One object, whether it exists or not; its name without regard to case.
    Object(VaultName, ObjectType, ObjectName),
}

impl Scope {
    /// The keys of a vault.
    #[must_use]
    pub fn keys(vault: &VaultName) -> Self {
        Self::Type(vault.clone(), ObjectType::Keys)
    }

    /// One key.
    #[must_use]
    pub fn key(vault: &VaultName, key: &ObjectName) -> Self {
        Self::Object(vault.clone(), ObjectType::Keys, key.clone())
    }

    /// The secrets of a vault.
    #[must_use]
    pub fn secrets(vault: &VaultName) -> Self {
        Self::Type(vault.clone(), ObjectType::Secrets)
    }

    /// One secret.
    #[must_use]
    pub fn secret(vault: &VaultName, secret: &ObjectName) -> Self {
        Self::Object(vault.clone(), ObjectType::Secrets, secret.clone())
    }

    /// The vault it is, or lies in.
    #[must_use]
    pub const fn vault(&self) -> Option<&VaultName> {
        match self {
            Self::Service => None,
            Self::Vault(vault) | Self::Type(vault, _) | Self::Object(vault, ..) => Some(vault),
        }
    }

    /// The next wider scope.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        match self {
            Self::Service => None,
            Self::Vault(_) => Some(Self::Service),
            Self::Type(vault, _) => Some(Self::Vault(vault.clone())),
            Self::Object(vault, kind, _) => Some(Self::Type(vault.clone(), *kind)),
        }
    }

    /// Whether it is the other one, or that lies within it.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Service, _) => true,
            (Self::Vault(vault), other) => other.vault() == Some(vault),
            (Self::Type(vault, kind), Self::Type(other, of) | Self::Object(other, of, _)) => {
                (vault, kind) == (other, of)
            }
            (Self::Object(..), Self::Object(..)) => self == other,
            (Self::Type(..) | Self::Object(..), _) => false,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service => f.write_str("/"),
            Self::Vault(vault) => write!(f, "vaults/{vault}"),
            Self::Type(vault, kind) => write!(f, "vaults/{vault}/{}", kind.name()),
            Self::Object(vault, kind, name) => write!(f, "vaults/{vault}/{}/{name}", kind.name()),
        }
    }
}

impl FromStr for Scope {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = || NameError {
            what: "scope",
            rule: "`/`, `vaults/{vault}`, `vaults/{vault}/{keys|secrets|certificates}` or one object of these",
            found: text.chars().take(200).collect(),
        };
        if text == "/" {
            return Ok(Self::Service);
        }
        let mut parts = text.split('/');
        let Some("vaults") = parts.next() else { return Err(wrong()) };
        let vault: VaultName = parts.next().ok_or_else(wrong)?.parse()?;
        let Some(kind) = parts.next() else { return Ok(Self::Vault(vault)) };
        let kind = ObjectType::from_name(kind).ok_or_else(wrong)?;
        match (parts.next(), parts.next()) {
            (None, _) => Ok(Self::Type(vault, kind)),
            (Some(name), None) => Ok(Self::Object(vault, kind, name.parse()?)),
            (Some(_), Some(_)) => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(text: &str) -> Scope {
        text.parse().expect("a scope")
    }

    #[test]
    fn scopes_come_back() {
        for text in ["/", "vaults/dev", "vaults/dev/keys", "vaults/dev/secrets", "vaults/dev/certificates/Web-1"] {
            assert_eq!(scope(text).to_string(), text);
        }
        for bad in
            ["", "vaults/", "vaults", "//", "vaults/dev/", "vaults/dev/kees", "vaults/dev/keys/", "vaults/dev/keys/a/b"]
        {
            assert!(bad.parse::<Scope>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_scope_contains_itself_and_what_lies_within_it() {
        let chain = ["/", "vaults/dev", "vaults/dev/keys", "vaults/dev/keys/Root"].map(scope);
        for (wider, place) in chain.iter().zip(0..) {
            for (narrower, below) in chain.iter().zip(0..) {
                assert_eq!(wider.contains(narrower), place <= below, "{wider} {narrower}");
            }
        }
        for pair in chain.windows(2) {
            assert_eq!(pair[1].parent().as_ref(), Some(&pair[0]));
        }
        assert!(scope("vaults/dev/keys/root").contains(&chain[3]), "names of objects differ in case for people only");
        for other in ["vaults/other", "vaults/dev/secrets", "vaults/dev/secrets/Root", "vaults/dev/keys/Root2"] {
            assert!(!chain[3].contains(&scope(other)) && !scope(other).contains(&chain[3]), "{other}");
        }
    }
}
