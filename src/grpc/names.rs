//! Resource names (AIP-122): from text to the model's types, and the text of what has no row.

use crate::{
    model::{AssignmentId, RoleId, TokenId, VaultName, secret_name},
    service::{KeyRef, Problem, secrets::SecretRef},
    webhooks::Webhook,
};

/// The longest name that is looked at: the longest right one has 24 + 127 + 32 characters and its words.
const NAME_BYTES_MAX: usize = 256;

fn wrong(field: &'static str, found: &str, form: &str) -> Problem {
    let found: String = found.chars().take(200).collect();
    Problem::Invalid { field, why: format!("{found:?} is not of the form {form}") }
}

/// A problem with one part of a name.
pub(super) fn invalid(field: &'static str, error: &impl ToString) -> Problem {
    Problem::Invalid { field, why: error.to_string() }
}

/// `vaults/{vault}`.
pub(super) fn vault(field: &'static str, name: &str) -> Result<VaultName, Problem> {
    let vault = name.strip_prefix("vaults/").filter(|vault| !vault.contains('/'));
    let vault = vault.ok_or_else(|| wrong(field, name, "vaults/{vault}"))?;
    vault.parse().map_err(|error| invalid(field, &error))
}

/// `vaults/{vault}/keys/{key}`, or a version of it.
pub(super) fn key_or_version(field: &'static str, name: &str) -> Result<KeyRef, Problem> {
    const FORM: &str = "vaults/{vault}/keys/{key} or vaults/{vault}/keys/{key}/versions/{version}";
    if name.len() > NAME_BYTES_MAX {
        return Err(wrong(field, name, FORM));
    }
    let parts: Vec<&str> = name.split('/').collect();
    let (vault, key, version) = match parts.as_slice() {
        ["vaults", vault, "keys", key] => (vault, key, None),
        ["vaults", vault, "keys", key, "versions", version] => (vault, key, Some(version)),
        _ => return Err(wrong(field, name, FORM)),
    };
    Ok(KeyRef {
        vault: vault.parse().map_err(|error| invalid(field, &error))?,
        key: key.parse().map_err(|error| invalid(field, &error))?,
        version: version.map(|version| version.parse()).transpose().map_err(|error| invalid(field, &error))?,
    })
}

/// `vaults/{vault}/keys/{key}`, without a version.
pub(super) fn key(field: &'static str, name: &str) -> Result<KeyRef, Problem> {
    let found = key_or_version(field, name)?;
    if found.version.is_some() {
        return Err(wrong(field, name, "vaults/{vault}/keys/{key}, without a version"));
    }
    Ok(found)
}

/// `vaults/{vault}/keys/{key}/versions/{version}`.
pub(super) fn version(field: &'static str, name: &str) -> Result<KeyRef, Problem> {
    let found = key_or_version(field, name)?;
    if found.version.is_none() {
        return Err(wrong(field, name, "vaults/{vault}/keys/{key}/versions/{version}"));
    }
    Ok(found)
}

/// `vaults/{vault}/secrets/{secret}`, or a version of it.
pub(super) fn secret_or_version(field: &'static str, name: &str) -> Result<SecretRef, Problem> {
    const FORM: &str = "vaults/{vault}/secrets/{secret} or vaults/{vault}/secrets/{secret}/versions/{version}";
    if name.len() > NAME_BYTES_MAX {
        return Err(wrong(field, name, FORM));
    }
    let parts: Vec<&str> = name.split('/').collect();
    let (vault, secret, version) = match parts.as_slice() {
        ["vaults", vault, "secrets", secret] => (vault, secret, None),
        ["vaults", vault, "secrets", secret, "versions", version] => (vault, secret, Some(version)),
        _ => return Err(wrong(field, name, FORM)),
    };
    Ok(SecretRef {
        vault: vault.parse().map_err(|error| invalid(field, &error))?,
        secret: secret_name(secret).map_err(|error| invalid(field, &error))?,
        version: version.map(|version| version.parse()).transpose().map_err(|error| invalid(field, &error))?,
    })
}

/// `vaults/{vault}/secrets/{secret}`, without a version.
pub(super) fn secret(field: &'static str, name: &str) -> Result<SecretRef, Problem> {
    let found = secret_or_version(field, name)?;
    if found.version.is_some() {
        return Err(wrong(field, name, "vaults/{vault}/secrets/{secret}, without a version"));
    }
    Ok(found)
}

/// `webhooks/{webhook}`.
pub(super) fn webhook(field: &'static str, name: &str) -> Result<String, Problem> {
    let webhook = name.strip_prefix("webhooks/").filter(|webhook| Webhook::is_name(webhook));
    webhook.map(str::to_owned).ok_or_else(|| wrong(field, name, "webhooks/{webhook}"))
}

/// `webhooks/{webhook}`, or a dead letter of it, by the id of its event.
pub(super) fn dead_letters(field: &'static str, name: &str) -> Result<(String, Option<[u8; 16]>), Problem> {
    let Some((hook, id)) = name.split_once("/deadLetters/") else { return Ok((webhook(field, name)?, None)) };
    let event = uuid::Uuid::try_parse(id).ok().filter(|event| event.to_string() == id);
    let event = event.ok_or_else(|| wrong(field, name, "webhooks/{webhook}/deadLetters/{event id}"))?;
    Ok((webhook(field, hook)?, Some(event.into_bytes())))
}

/// `roleAssignments/{id}`.
pub(super) fn assignment(field: &'static str, name: &str) -> Result<AssignmentId, Problem> {
    let id = name.strip_prefix("roleAssignments/").ok_or_else(|| wrong(field, name, "roleAssignments/{id}"))?;
    id.parse().map_err(|error| invalid(field, &error))
}

/// `roleDefinitions/{id}`.
pub(super) fn role(field: &'static str, name: &str) -> Result<RoleId, Problem> {
    let id = name.strip_prefix("roleDefinitions/").ok_or_else(|| wrong(field, name, "roleDefinitions/{id}"))?;
    id.parse().map_err(|error| invalid(field, &error))
}

/// `tokens/{id}`.
pub(super) fn token(field: &'static str, name: &str) -> Result<TokenId, Problem> {
    let id = name.strip_prefix("tokens/").ok_or_else(|| wrong(field, name, "tokens/{id}"))?;
    id.parse().map_err(|error| invalid(field, &error))
}

/// `auditRecords/{index}`.
pub(super) fn audit_record(field: &'static str, name: &str) -> Result<u64, Problem> {
    let index = name.strip_prefix("auditRecords/").filter(|index| index.bytes().all(|byte| byte.is_ascii_digit()));
    index.and_then(|index| index.parse().ok()).ok_or_else(|| wrong(field, name, "auditRecords/{index}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VERSION: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn names_come_back() {
        assert_eq!(vault("name", "vaults/dev").expect("is one").as_str(), "dev");
        for name in ["vaults/dev/keys/Root-1".to_owned(), format!("vaults/dev/keys/k/versions/{VERSION}")] {
            assert_eq!(key_or_version("name", &name).expect("is one").to_string(), name);
            assert!(secret_or_version("name", &name).is_err(), "a key is no secret");
            let name = name.replace("/keys/", "/secrets/");
            assert_eq!(secret_or_version("name", &name).expect("is one").to_string(), name);
            assert!(key_or_version("name", &name).is_err(), "a secret is no key");
        }
        assert_eq!(assignment("name", &format!("roleAssignments/{VERSION}")).expect("is one").to_string(), VERSION);
        assert_eq!(role("role", &format!("roleDefinitions/{VERSION}")).expect("is one").to_string(), VERSION);
    }

    #[test]
    fn other_forms_are_refused() {
        for name in ["", "dev", "vaults/", "vaults/dev/", "vaults/dev/keys", "/vaults/dev", "vaults/-dev", "Vaults/dev"]
        {
            assert!(vault("name", name).is_err(), "{name}");
            assert!(key_or_version("name", name).is_err(), "{name}");
        }
        for name in [
            "vaults/dev/keys/a/",
            "vaults/dev/keys/a/versions",
            "vaults/dev/keys/a/versions/",
            "vaults/dev/keys/a/versions/1",
            "vaults/dev/keys/a_b",
            "vaults/dev//keys/a",
            "vaults/dev/keys/%61",
        ] {
            assert!(key_or_version("name", name).is_err(), "{name}");
            assert!(secret_or_version("name", &name.replace("/keys/", "/secrets/")).is_err(), "{name}");
        }
        assert!(secret("name", &format!("vaults/dev/secrets/s/versions/{VERSION}")).is_err());
        assert!(key("name", &format!("vaults/dev/keys/k/versions/{VERSION}")).is_err());
        assert!(assignment("name", "roleAssignments/x").is_err());
        assert!(role("role", "Key Vault Reader").is_err());
    }

    #[test]
    fn dead_letters_are_named_by_their_events() {
        let event = "9a2f5a30-6f2e-4d58-9d2b-0a0f4f5b8b11";
        assert_eq!(dead_letters("name", "webhooks/ops").expect("all"), ("ops".to_owned(), None));
        let (_, one) = dead_letters("name", &format!("webhooks/ops/deadLetters/{event}")).expect("one");
        assert_eq!(one.map(|id| uuid::Uuid::from_bytes(id).to_string()).as_deref(), Some(event));
        for wrong in ["ops", "webhooks/", "webhooks/A b", "webhooks/ops/deadLetters/", "webhooks/ops/deadLetters/7"] {
            assert!(dead_letters("name", wrong).is_err(), "{wrong}");
        }
        assert!(version("name", "vaults/dev/keys/a").is_err());
    }

    #[test]
    fn a_huge_name_is_cut_in_the_answer() {
        let Err(Problem::Invalid { why, .. }) = vault("name", &"x".repeat(1 << 20)) else { panic!("is refused") };
        assert!(why.len() < 300);
        let Err(Problem::Invalid { why, .. }) = key_or_version("name", &"/".repeat(1 << 20)) else {
            panic!("is refused")
        };
        assert!(why.len() < 400);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(name in "(vaults/)?.{0,40}(/(keys|secrets)/)?.{0,40}(/versions/)?.{0,40}") {
            let _ = (vault("name", &name), key_or_version("name", &name), assignment("name", &name), role("r", &name));
            let _ = secret_or_version("name", &name);
        }
    }
}
