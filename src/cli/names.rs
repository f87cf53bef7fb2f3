//! What a name on the command line means: a key of the current vault, or a full resource name as answers
//! carry it, so that what was printed once can be typed again.

use crate::model::{KeyName, VaultName, VersionId};

use super::{connection::ConnectionArgs, failure::Failure};

/// A key, or one of its versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyRef {
    /// Its vault.
    pub(super) vault: VaultName,
    /// Its name.
    pub(super) key: KeyName,
    /// The version; the newest when absent.
    pub(super) version: Option<VersionId>,
}

impl KeyRef {
    /// Reads `vaults/{vault}/keys/{key}` with or without `/versions/{version}`.
    pub(super) fn from_resource(text: &str) -> anyhow::Result<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let (vault, key, version) = match parts[..] {
            ["vaults", vault, "keys", key] => (vault, key, None),
            ["vaults", vault, "keys", key, "versions", version] => (vault, key, Some(version)),
            _ => {
                let message = format!("{text:?} is not the name of a key");
                return Err(Failure::new(message)
                    .hint("a full name is vaults/VAULT/keys/KEY[/versions/VERSION]")
                    .into());
            }
        };
        Ok(Self { vault: vault.parse()?, key: key.parse()?, version: version.map(str::parse).transpose()? })
    }

    /// The key that NAME, `--version` and the current vault mean.
    pub(super) fn resolve(connection: &ConnectionArgs, name: &str, version: Option<&str>) -> anyhow::Result<Self> {
        let mut found = if name.contains('/') {
            Self::from_resource(name)?
        } else {
            Self { key: name.parse()?, vault: connection.vault()?, version: None }
        };
        if let Some(version) = version {
            found.version = Some(found.agree(version)?);
        }
        Ok(found)
    }

    /// The version that `--version` means: 32 digits, or a full name that must be of this key.
    fn agree(&self, text: &str) -> anyhow::Result<VersionId> {
        let (version, same) = if text.contains('/') {
            let other = Self::from_resource(text)?;
            (other.version, other.vault == self.vault && other.key == self.key)
        } else {
            (Some(text.parse()?), true)
        };
        match version {
            Some(version) if same && self.version.is_none_or(|own| own == version) => Ok(version),
            _ => Err(Failure::new(format!("--version {text} is not a version of {self}")).into()),
        }
    }

    /// `vaults/{vault}`.
    pub(super) fn parent(&self) -> String {
        format!("vaults/{}", self.vault)
    }

    /// The key without its version.
    pub(super) fn key_only(&self) -> Self {
        Self { version: None, ..self.clone() }
    }

    /// Refuses a version where a command deals with the whole key.
    pub(super) fn whole_key(self) -> anyhow::Result<Self> {
        if self.version.is_some() {
            return Err(Failure::new(format!("{self} is a version; this command takes a whole key"))
                .hint(format!("name the key: {}", self.key_only()))
                .into());
        }
        Ok(self)
    }
}

impl std::fmt::Display for KeyRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "vaults/{}/keys/{}", self.vault, self.key)?;
        self.version.map_or(Ok(()), |version| write!(f, "/versions/{version}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn full_names_come_back() {
        for name in ["vaults/dev/keys/Root-CA".to_owned(), format!("vaults/dev/keys/k/versions/{VERSION}")] {
            assert_eq!(KeyRef::from_resource(&name).expect("a name").to_string(), name);
        }
        for bad in ["vaults/dev", "keys/k", "vaults/dev/keys/", "vaults/dev/keys/k/versions/", "vaults/dev/keys/k/"] {
            assert!(KeyRef::from_resource(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_version_of_another_key_is_refused() {
        let key = KeyRef::from_resource("vaults/dev/keys/k").expect("a name");
        assert!(key.agree(VERSION).is_ok());
        assert!(key.agree(&format!("vaults/dev/keys/K/versions/{VERSION}")).is_ok(), "names have no case");
        assert!(key.agree(&format!("vaults/dev/keys/other/versions/{VERSION}")).is_err());
        assert!(key.agree("vaults/dev/keys/k").is_err());
        assert!(key.agree("latest").is_err());
    }
}
