//! `.byok` files: a key that was wrapped for import into an HSM, as Azure Key Vault specifies them ("Bring your own key
//! specification", schema version 1.0.0).

use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde::{Deserialize, Serialize};

/// The one mechanism (PKCS#11 3.1 section 6.1.21), with SHA-1 in its RSA-OAEP.
pub const ENC: &str = "CKM_RSA_AES_KEY_WRAP";

/// What such a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByokFile {
    /// Which key it is wrapped for.
    pub kid: String,
    /// RSA-OAEP(AES key) and AES-KWP(key), one behind the other.
    pub ciphertext: Vec<u8>,
    /// What made it.
    pub generator: String,
}

/// Why it is none. The texts follow the file's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotByok {
    /// It is not such JSON.
    #[error("is no .byok file: JSON with schema_version, header, ciphertext and generator")]
    Form,
    /// Another schema.
    #[error("is of schema {0:?}; 1.0.0 is taken")]
    Schema(String),
    /// Another algorithm.
    #[error("is wrapped by {0:?}; {ENC} (with `alg` \"dir\") is taken")]
    Algorithm(String),
    /// Not base64url.
    #[error("has a ciphertext that is not base64url")]
    Ciphertext,
}

#[derive(Serialize, Deserialize)]
struct File {
    schema_version: String,
    header: Header,
    ciphertext: String,
    #[serde(default)]
    generator: String,
}

#[derive(Serialize, Deserialize)]
struct Header {
    kid: String,
    alg: String,
    enc: String,
}

impl ByokFile {
    /// Whether bytes are meant as one, right or not: wrapped bytes alone may begin with a brace too, and are no text.
    #[must_use]
    pub fn is_like(bytes: &[u8]) -> bool {
        std::str::from_utf8(bytes).is_ok_and(|text| text.trim_start().starts_with('{'))
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`NotByok`].
    pub fn from_json(json: &[u8]) -> Result<Self, NotByok> {
        let File { schema_version, header, ciphertext, generator } =
            serde_json::from_slice(json).map_err(|_| NotByok::Form)?;
        // Tools write 1.0 and 1.0.0 for the same.
        if !["1.0.0", "1.0"].contains(&schema_version.as_str()) {
            return Err(NotByok::Schema(schema_version));
        }
        if header.enc != ENC {
            return Err(NotByok::Algorithm(header.enc));
        }
        if header.alg != "dir" {
            return Err(NotByok::Algorithm(header.alg));
        }
        let ciphertext = Base64UrlUnpadded::decode_vec(ciphertext.trim_end_matches('='));
        Ok(Self { kid: header.kid, ciphertext: ciphertext.map_err(|_| NotByok::Ciphertext)?, generator })
    }

    /// Writes it.
    ///
    /// # Panics
    /// Never: texts are JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        let file = File {
            schema_version: "1.0.0".to_owned(),
            header: Header { kid: self.kid.clone(), alg: "dir".to_owned(), enc: ENC.to_owned() },
            ciphertext: Base64UrlUnpadded::encode_string(&self.ciphertext),
            generator: self.generator.clone(),
        };
        serde_json::to_string_pretty(&file).expect("texts are JSON")
    }

    /// Name and version of the key that `kid` means: the last parts of our resource names and of Azure's URLs.
    #[must_use]
    pub fn key(&self) -> Option<(&str, Option<&str>)> {
        let parts: Vec<&str> = self.kid.split('/').filter(|part| !part.is_empty()).collect();
        match parts.as_slice() {
            [.., "keys", key] => Some((*key, None)),
            [.., "keys", key, "versions", version] | [.., "keys", key, version] => Some((*key, Some(*version))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(kid: &str) -> ByokFile {
        ByokFile { kid: kid.to_owned(), ciphertext: vec![7; 300], generator: "strongroom".to_owned() }
    }

    #[test]
    fn wrapped_bytes_that_begin_with_a_brace_are_not_meant_as_one() {
        assert!(ByokFile::is_like(file("kek").to_json().as_bytes()));
        assert!(ByokFile::is_like(b" \n{\"schema\": 1"), "a wrong one is still one");
        for raw in [&b"{\xff\x00"[..], b"\x20\x7b\x80", b"", b"\x30\x82"] {
            assert!(!ByokFile::is_like(raw), "{raw:?}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let file = file("vaults/dev/keys/kek/versions/0011");
        assert_eq!(ByokFile::from_json(file.to_json().as_bytes()), Ok(file));
    }

    #[test]
    fn a_kid_is_read_as_ours_and_as_azures() {
        for (kid, key) in [
            ("vaults/dev/keys/kek/versions/00", Some(("kek", Some("00")))),
            ("vaults/dev/keys/kek", Some(("kek", None))),
            ("https://v.vault.azure.net/keys/kek/00", Some(("kek", Some("00")))),
            ("https://v.vault.azure.net:443/keys/kek/", Some(("kek", None))),
            ("kek", None),
            ("", None),
        ] {
            assert_eq!(file(kid).key(), key, "{kid}");
        }
    }

    #[test]
    fn other_files_are_refused_for_what_they_are() {
        let right = file("vaults/dev/keys/kek").to_json();
        let refused = |from: &str, to: &str| ByokFile::from_json(right.replace(from, to).as_bytes()).expect_err(to);
        assert_eq!(refused("1.0.0", "2.0.0"), NotByok::Schema("2.0.0".to_owned()));
        let other = "RSA_AES_KEY_WRAP_256";
        assert_eq!(refused(ENC, other), NotByok::Algorithm(other.to_owned()));
        assert_eq!(refused("\"dir\"", "\"RSA-OAEP\""), NotByok::Algorithm("RSA-OAEP".to_owned()));
        assert_eq!(refused("BwcH", "B+cH"), NotByok::Ciphertext);
        assert_eq!(refused("\"kid\"", "\"id\""), NotByok::Form);
        assert_eq!(ByokFile::from_json(b"\x00\x01"), Err(NotByok::Form));
    }
}
