//! What a resource name names. The server checks it in full; here it is enough to tell a key from a version.

/// Whether a name is that of a whole key: `vaults/{vault}/keys/{key}`.
pub(crate) fn is_key(name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    matches!(parts[..], ["vaults", vault, "keys", key] if is_plain(vault) && is_plain(key))
}

/// Whether a name is that of a version of a key.
pub(crate) fn is_version_of(version: &str, key: &str) -> bool {
    version.split_at_checked(key.len()).is_some_and(|(prefix, rest)| {
        // Names have no case.
        prefix.eq_ignore_ascii_case(key) && rest.strip_prefix("/versions/").is_some_and(is_plain)
    })
}

/// Whether a name is that of a version of any key.
#[cfg(feature = "files")]
pub(crate) fn is_version(name: &str) -> bool {
    name.rsplit_once("/versions/").is_some_and(|(key, version)| is_key(key) && is_plain(version))
}

fn is_plain(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: &str = "vaults/dev/keys/k/versions/0123456789abcdef0123456789abcdef";

    #[test]
    fn keys_and_versions_are_told_apart() {
        assert!(is_key("vaults/dev/keys/Root-CA"));
        for other in ["k", "vaults/dev/keys/", "vaults/dev/keys/a b", VERSION, "vaults/dev/keys/k\n"] {
            assert!(!is_key(other), "{other}");
        }
        assert!(is_version_of(VERSION, "vaults/dev/keys/k"));
        assert!(is_version_of(VERSION, "vaults/dev/keys/K"), "names have no case");
        for other in ["vaults/dev/keys/", "vaults/dev/keys/k2", "vaults/dev/keys/other", VERSION] {
            assert!(!is_version_of(VERSION, other), "{other}");
        }
        assert!(!is_version_of("vaults/dev/keys/k/versions/", "vaults/dev/keys/k"));
    }

    #[cfg(feature = "files")]
    #[test]
    fn versions_of_any_key_are_known() {
        assert!(is_version(VERSION));
        assert!(!is_version("vaults/dev/keys/k") && !is_version("keys/k/versions/0"));
    }
}
