//! The files that `key encrypt` and `key wrap` write: one JSON object that says which version and
//! algorithm made it, so that it can be opened years later without guessing.
//!
//! ```json
//! { "format": "strongroom.ciphertext.v1",
//!   "name": "vaults/dev/keys/k/versions/0123…", "algorithm": "A256GCM",
//!   "iv": "…", "tag": "…", "ciphertext": "…" }
//! ```
//!
//! Bytes are in base64url without padding, as in JOSE. `iv` is there for AES, `tag` for A*GCM. The name is not
//! secret and not authenticated: a file that names another version fails to decrypt, nothing more.

use std::path::Path;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use super::{
    failure::Failure,
    files::{self, Limit},
    names::KeyRef,
};
use crate::model::Algorithm;

const CIPHERTEXT: &str = "strongroom.ciphertext.v1";
const WRAPPED_KEY: &str = "strongroom.wrapped-key.v1";
/// 64 KiB of ciphertext in base64 and the rest; anything longer is something else.
const FILE: Limit =
    Limit { bytes_max: 256 * 1024, hint: "pass a file that `strongroom key encrypt` or `key wrap` wrote" };

/// Bytes in base64url without padding.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Base64Url(pub(super) Vec<u8>);

impl Base64Url {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Base64Url {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Base64UrlUnpadded::encode_string(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64Url {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Base64UrlUnpadded::decode_vec(&text)
            .map(Self)
            .map_err(|_| serde::de::Error::custom("not base64url without padding"))
    }
}

/// An encrypted file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ciphertext {
    format: String,
    /// The version that encrypted.
    pub(super) name: String,
    /// By which algorithm.
    pub(super) algorithm: String,
    /// Whether additional data is needed again to decrypt.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) additional_data: bool,
    /// A*GCM: 12 bytes; A*CBC, A*CBCPAD: 16.
    #[serde(default, skip_serializing_if = "Base64Url::is_empty")]
    pub(super) iv: Base64Url,
    /// A*GCM: 16 bytes.
    #[serde(default, skip_serializing_if = "Base64Url::is_empty")]
    pub(super) tag: Base64Url,
    /// The ciphertext, without tag.
    pub(super) ciphertext: Base64Url,
}

/// A wrapped key.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrappedKey {
    format: String,
    /// The version that wrapped.
    pub(super) name: String,
    /// By which algorithm.
    pub(super) algorithm: String,
    /// The wrapped key.
    pub(super) wrapped_key: Base64Url,
}

/// What either file is.
pub(super) trait Envelope: Serialize + DeserializeOwned {
    /// What its `format` says.
    const FORMAT: &'static str;
    /// What it is and how one is made, for errors.
    const WHAT: &'static str;
    /// The version that made it.
    fn name(&self) -> &str;
    /// The algorithm that made it.
    fn algorithm(&self) -> &str;
}

impl Envelope for Ciphertext {
    const FORMAT: &'static str = CIPHERTEXT;
    const WHAT: &'static str = "a file written by `strongroom key encrypt`";

    fn name(&self) -> &str {
        &self.name
    }

    fn algorithm(&self) -> &str {
        &self.algorithm
    }
}

impl Envelope for WrappedKey {
    const FORMAT: &'static str = WRAPPED_KEY;
    const WHAT: &'static str = "a file written by `strongroom key wrap`";

    fn name(&self) -> &str {
        &self.name
    }

    fn algorithm(&self) -> &str {
        &self.algorithm
    }
}

impl Ciphertext {
    /// A file to write.
    pub(super) fn new(name: String, algorithm: Algorithm, ciphertext: Vec<u8>, iv: Vec<u8>, tag: Vec<u8>) -> Self {
        Self {
            format: CIPHERTEXT.to_owned(),
            name,
            algorithm: algorithm.name().to_owned(),
            additional_data: false,
            iv: Base64Url(iv),
            tag: Base64Url(tag),
            ciphertext: Base64Url(ciphertext),
        }
    }
}

impl WrappedKey {
    /// A file to write.
    pub(super) fn new(name: String, algorithm: Algorithm, wrapped_key: Vec<u8>) -> Self {
        let algorithm = algorithm.name().to_owned();
        Self { format: WRAPPED_KEY.to_owned(), name, algorithm, wrapped_key: Base64Url(wrapped_key) }
    }
}

/// The file's bytes.
pub(super) fn encode(envelope: &impl Envelope) -> anyhow::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(envelope)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Reads a file and says which version and algorithm open it.
///
/// # Errors
/// When it is something else, or was made by another key than `key` or another algorithm than asked for.
pub(super) fn open<E: Envelope>(
    path: &Path,
    key: &KeyRef,
    asked: Option<Algorithm>,
) -> anyhow::Result<(E, KeyRef, Algorithm)> {
    let shown = files::shown(path, "standard input");
    let bytes = files::read(path, FILE)?;
    let envelope: E = decode(&shown, &bytes)?;
    let made_by = KeyRef::from_resource(envelope.name())
        .map_err(|_| Failure::new(format!("{shown} names {:?}, which is not a version of a key", envelope.name())))?;
    if made_by.version.is_none() {
        return Err(Failure::new(format!("{shown} names {made_by}, but no version of it")).into());
    }
    check_key(&shown, key, &made_by)?;
    let algorithm = Algorithm::from_name(envelope.algorithm()).ok_or_else(|| {
        Failure::new(format!("{shown} was made with {:?}, which this program does not know", envelope.algorithm()))
    })?;
    match asked {
        Some(asked) if asked != algorithm => {
            let message = format!("{shown} was made with {}, not {}", algorithm.name(), asked.name());
            Err(Failure::new(message).hint("leave out --algorithm: the file says which one").into())
        }
        _ => Ok((envelope, made_by, algorithm)),
    }
}

fn decode<E: Envelope>(shown: &str, bytes: &[u8]) -> Result<E, Failure> {
    #[derive(Deserialize)]
    struct Head {
        format: String,
    }
    let wrong = |why: String| Failure::new(format!("{shown} is not {}: {why}", E::WHAT));
    let head: Head =
        serde_json::from_slice(bytes).map_err(|_| wrong("it is no JSON object with a \"format\"".into()))?;
    if head.format != E::FORMAT {
        return Err(wrong(format!("its format is {:?}, not {:?}", head.format, E::FORMAT)));
    }
    serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))
}

fn check_key(shown: &str, key: &KeyRef, made_by: &KeyRef) -> Result<(), Failure> {
    if key.vault != made_by.vault || key.key != made_by.key {
        return Err(Failure::new(format!(
            "{shown} was made by {made_by}, which is not a version of {}",
            key.key_only()
        ))
        .hint(format!("name that key: {}", made_by.key_only())));
    }
    match key.version {
        Some(version) if Some(version) != made_by.version => {
            Err(Failure::new(format!("{shown} was made by {made_by}, not by version {version}"))
                .hint("leave out --version: the file says which one"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "vaults/dev/keys/k/versions/0123456789abcdef0123456789abcdef";

    fn key(name: &str) -> KeyRef {
        KeyRef::from_resource(name).expect("a name")
    }

    fn written(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), bytes).expect("written");
        file
    }

    #[test]
    fn the_ciphertext_file_is_this_json() {
        let file = Ciphertext::new(NAME.into(), Algorithm::A256Gcm, vec![0xff, 0xfe], vec![0; 3], vec![1; 3]);
        let expected = r#"{
  "format": "strongroom.ciphertext.v1",
  "name": "vaults/dev/keys/k/versions/0123456789abcdef0123456789abcdef",
  "algorithm": "A256GCM",
  "iv": "AAAA",
  "tag": "AQEB",
  "ciphertext": "__4"
}
"#;
        assert_eq!(String::from_utf8(encode(&file).expect("JSON")).expect("UTF-8"), expected);
        let on_disk = written(expected.as_bytes());
        let (read, made_by, algorithm) =
            open::<Ciphertext>(on_disk.path(), &key("vaults/dev/keys/K"), None).expect("opened");
        assert_eq!((read, made_by, algorithm), (file, key(NAME), Algorithm::A256Gcm));
    }

    #[test]
    fn the_wrapped_key_file_is_this_json() {
        let file = WrappedKey::new(NAME.into(), Algorithm::A256Kw, vec![1, 2, 3]);
        let expected = r#"{
  "format": "strongroom.wrapped-key.v1",
  "name": "vaults/dev/keys/k/versions/0123456789abcdef0123456789abcdef",
  "algorithm": "A256KW",
  "wrapped_key": "AQID"
}
"#;
        assert_eq!(String::from_utf8(encode(&file).expect("JSON")).expect("UTF-8"), expected);
    }

    #[test]
    fn other_content_is_refused_in_words() {
        let good = encode(&Ciphertext::new(NAME.into(), Algorithm::RsaOaep, vec![1], vec![], vec![])).expect("JSON");
        let good = String::from_utf8(good).expect("UTF-8");
        let cases = [
            (String::new(), "it is no JSON object"),
            ("\u{0}\u{1}binary".to_owned(), "it is no JSON object"),
            ("{}".to_owned(), "it is no JSON object with a \"format\""),
            (good.replace("ciphertext.v1", "ciphertext.v2"), "its format is \"strongroom.ciphertext.v2\""),
            (good.replace("ciphertext.v1", "wrapped-key.v1"), "its format is"),
            (good.replace("\"AQ\"", "\"AQ==\""), "not base64url"),
            (good.replace("algorithm", "algorithmus"), "unknown field"),
            (good.replace("/versions/0123456789abcdef0123456789abcdef", ""), "but no version of it"),
            (good.replace("vaults/", "vault/"), "which is not a version of a key"),
            (good.replace("RSA-OAEP", "RSA-OAEP-512"), "this program does not know"),
            (good.replace("keys/k/", "keys/other/"), "was made by vaults/dev/keys/other/"),
        ];
        for (content, expected) in cases {
            let file = written(content.as_bytes());
            let error = open::<Ciphertext>(file.path(), &key("vaults/dev/keys/k"), None).expect_err(expected);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn another_version_or_algorithm_than_asked_for_is_refused() {
        let good = encode(&WrappedKey::new(NAME.into(), Algorithm::A256Kw, vec![1])).expect("JSON");
        let file = written(&good);
        let other = key("vaults/dev/keys/k/versions/ffffffffffffffffffffffffffffffff");
        assert!(open::<WrappedKey>(file.path(), &other, None).is_err());
        assert!(open::<WrappedKey>(file.path(), &key(NAME), Some(Algorithm::A128Kw)).is_err());
        assert!(open::<WrappedKey>(file.path(), &key(NAME), Some(Algorithm::A256Kw)).is_ok());
    }
}
