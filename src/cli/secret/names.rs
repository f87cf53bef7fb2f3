//! What a name means: a secret of the current vault, a full resource name as answers carry it, or a reference
//! `strongroom://VAULT/NAME[/VERSION]` as templates carry it.

use crate::{
    cli::{connection::ConnectionArgs, failure::Failure},
    model::{VersionId, secret_name},
    service::secrets::SecretRef,
};

/// How references begin.
pub(super) const SCHEME: &str = "strongroom://";

/// Reads `vaults/{vault}/secrets/{secret}` with or without `/versions/{version}`.
fn from_resource(text: &str) -> anyhow::Result<SecretRef> {
    let parts: Vec<&str> = text.split('/').collect();
    let (vault, secret, version) = match parts[..] {
        ["vaults", vault, "secrets", secret] => (vault, secret, None),
        ["vaults", vault, "secrets", secret, "versions", version] => (vault, secret, Some(version)),
        _ => {
            let message = format!("{text:?} is not the name of a secret");
            return Err(Failure::new(message)
                .hint(
                    "a full name is vaults/VAULT/secrets/NAME[/versions/VERSION], or strongroom://VAULT/NAME[/VERSION]",
                )
                .into());
        }
    };
    let version = version.map(str::parse).transpose()?;
    Ok(SecretRef { vault: vault.parse()?, secret: secret_name(secret)?, version })
}

/// Reads a reference; else says what is wrong with it.
pub(super) fn from_reference(text: &str) -> Result<SecretRef, String> {
    let parts: Vec<&str> = text.strip_prefix(SCHEME).unwrap_or_default().split('/').collect();
    let (vault, secret, version) = match parts[..] {
        [vault, secret] => (vault, secret, None),
        [vault, secret, version] => (vault, secret, Some(version)),
        _ => return Err("a reference is strongroom://VAULT/NAME or strongroom://VAULT/NAME/VERSION".to_owned()),
    };
    let vault = vault.parse().map_err(|error: crate::model::NameError| error.to_string())?;
    let secret = secret_name(secret).map_err(|error| error.to_string())?;
    let version = version.map(str::parse).transpose().map_err(|error: crate::model::NameError| error.to_string())?;
    Ok(SecretRef { vault, secret, version })
}

/// The secret that NAME, `--version` and the current vault mean.
pub(super) fn resolve(connection: &ConnectionArgs, name: &str, version: Option<&str>) -> anyhow::Result<SecretRef> {
    let mut found = if name.starts_with(SCHEME) {
        from_reference(name).map_err(|why| Failure::new(format!("{name} cannot be read: {why}")))?
    } else if name.contains('/') {
        from_resource(name)?
    } else {
        SecretRef { secret: secret_name(name)?, vault: connection.vault()?, version: None }
    };
    if let Some(version) = version {
        found.version = Some(agree(&found, version)?);
    }
    Ok(found)
}

/// The version that `--version` means: 32 digits, or a full name that must be of this secret.
fn agree(secret: &SecretRef, text: &str) -> anyhow::Result<VersionId> {
    let (version, same) = if text.contains('/') {
        let other = from_resource(text)?;
        (other.version, other.vault == secret.vault && other.secret == secret.secret)
    } else {
        (Some(text.parse()?), true)
    };
    match version {
        Some(version) if same && secret.version.is_none_or(|own| own == version) => Ok(version),
        _ => Err(Failure::new(format!("--version {text} is not a version of {secret}")).into()),
    }
}

/// Refuses a version where a command deals with the whole secret.
pub(super) fn whole(secret: SecretRef) -> anyhow::Result<SecretRef> {
    if secret.version.is_some() {
        let whole = SecretRef { version: None, ..secret.clone() };
        return Err(Failure::new(format!("{secret} is a version; this command takes a whole secret"))
            .hint(format!("name the secret: {whole}"))
            .into());
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn full_names_and_references_come_back() {
        for (reference, name) in [
            ("strongroom://dev/db".to_owned(), "vaults/dev/secrets/db".to_owned()),
            (format!("strongroom://dev/db/{VERSION}"), format!("vaults/dev/secrets/db/versions/{VERSION}")),
        ] {
            let read = from_reference(&reference).expect("a reference");
            assert_eq!(read.to_string(), name);
            assert_eq!(from_resource(&name).expect("a name"), read);
        }
        for bad in ["vaults/dev", "secrets/s", "vaults/dev/secrets/", "vaults/dev/secrets/s/", "vaults/dev/keys/k"] {
            assert!(from_resource(bad).is_err(), "{bad}");
        }
        let error = from_resource("vaults/dev/secrets/a_b").expect_err("a wrong name").to_string();
        assert!(error.contains("is not a secret name"), "{error}");
    }

    #[test]
    fn a_version_of_another_secret_is_refused() {
        let secret = from_resource("vaults/dev/secrets/s").expect("a name");
        assert!(agree(&secret, VERSION).is_ok());
        assert!(agree(&secret, &format!("vaults/dev/secrets/S/versions/{VERSION}")).is_ok(), "names have no case");
        assert!(agree(&secret, &format!("vaults/dev/secrets/other/versions/{VERSION}")).is_err());
        assert!(agree(&secret, "vaults/dev/secrets/s").is_err());
    }
}
