//! Verifier keys on the command line: as text, or in a file with one in each line.

use std::{fs, str::FromStr};

use crate::audit::tlog::VerifierKey;

/// Some keys.
#[derive(Clone, Debug)]
pub(super) struct KeysArg(Vec<VerifierKey>);

impl FromStr for KeysArg {
    type Err = String;

    /// A key has plus signs in it and a file mostly not: what is no key is a file, and the errors of both are said.
    fn from_str(text: &str) -> Result<Self, String> {
        let as_key = match text.parse() {
            Ok(key) => return Ok(Self(vec![key])),
            Err(error) => error,
        };
        let content = fs::read_to_string(text)
            .map_err(|error| format!("as a verifier key: {as_key}; as a file of such keys: {error}"))?;
        let lines = content.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let keys = lines.map(|line| line.parse().map_err(|error| format!("{line:?}: {error}")));
        let keys: Vec<VerifierKey> = keys.collect::<Result<_, _>>()?;
        if keys.is_empty() { Err("the file has no key in it".to_owned()) } else { Ok(Self(keys)) }
    }
}

/// All of them, each once.
pub(super) fn all(arguments: &[KeysArg]) -> Vec<VerifierKey> {
    let mut keys: Vec<VerifierKey> = Vec::new();
    for key in arguments.iter().flat_map(|KeysArg(keys)| keys) {
        if !keys.contains(key) {
            keys.push(key.clone());
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "strongroom/ab+00000000+AQ==";

    #[test]
    fn what_is_neither_key_nor_file_is_told_as_both() {
        let error = KeysArg::from_str(KEY).expect_err("no key");
        assert!(error.contains("as a verifier key: ") && error.contains("as a file of such keys: "), "{error}");
    }

    #[test]
    fn a_file_without_a_key_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("keys");
        fs::write(&path, "# none yet\n\n").expect("written");
        let error = KeysArg::from_str(path.to_str().expect("text")).expect_err("none");
        assert_eq!(error, "the file has no key in it");
    }
}
