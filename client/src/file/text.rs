//! Recipients and identities as `age` writes them: Bech32 (BIP 173) of the name that the plugin goes by, and
//! of a byte 1 and a key's name. Neither is secret, and neither says where the server is: that comes from the
//! environment of whoever uses it.

use age_core::primitives::{bech32_decode, bech32_encode};
use bech32::Hrp;

use crate::names;

/// The plugin's name: `age` looks for `age-plugin-strongroom`.
pub const PLUGIN: &str = "strongroom";

const RECIPIENT_HRP: &str = "age1strongroom";
const IDENTITY_HRP: &str = "age-plugin-strongroom-";

/// The form of what follows; another form gets another byte.
const FORM: u8 = 1;

/// Text, or its bytes, that is no recipient or identity of ours.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not made by `strongroom file {0}`, or damaged")]
pub struct TextError(&'static str);

/// `age1strongroom1…`: the newest version of a key.
///
/// # Errors
/// When `key` is not `vaults/{vault}/keys/{key}`.
pub fn recipient_text(key: &str) -> Result<String, TextError> {
    if !names::is_key(key) {
        return Err(TextError("recipient"));
    }
    Ok(encode(RECIPIENT_HRP, key))
}

/// `AGE-PLUGIN-STRONGROOM-1…`: a key, or any.
///
/// # Errors
/// When `key` is not `vaults/{vault}/keys/{key}`.
pub fn identity_text(key: Option<&str>) -> Result<String, TextError> {
    if key.is_some_and(|key| !names::is_key(key)) {
        return Err(TextError("identity"));
    }
    Ok(encode(IDENTITY_HRP, key.unwrap_or_default()).to_uppercase())
}

fn encode(hrp: &str, key: &str) -> String {
    bech32_encode(Hrp::parse_unchecked(hrp), &[&[FORM], key.as_bytes()].concat())
}

/// The key of a recipient that was typed.
///
/// # Errors
/// When it is no recipient of ours.
pub fn key_of_recipient_text(text: &str) -> Result<String, TextError> {
    let error = || TextError("recipient");
    let bytes = bech32_decode(
        text,
        |_| error(),
        |hrp| if hrp.as_str().eq_ignore_ascii_case(RECIPIENT_HRP) { Ok(()) } else { Err(error()) },
        |_, bytes| Ok(bytes.collect::<Vec<u8>>()),
    )?;
    key_of_recipient(&bytes)
}

/// The key of a recipient's bytes, as `age` hands them to a plugin.
///
/// # Errors
/// When it is no recipient of ours.
pub fn key_of_recipient(bytes: &[u8]) -> Result<String, TextError> {
    match name(bytes) {
        Some(key) if names::is_key(key) => Ok(key.to_owned()),
        _ => Err(TextError("recipient")),
    }
}

/// The key of an identity's bytes, as `age` hands them to a plugin; `None` when it is for any.
///
/// # Errors
/// When it is no identity of ours.
pub fn key_of_identity(bytes: &[u8]) -> Result<Option<String>, TextError> {
    match name(bytes) {
        Some("") => Ok(None),
        Some(key) if names::is_key(key) => Ok(Some(key.to_owned())),
        _ => Err(TextError("identity")),
    }
}

fn name(bytes: &[u8]) -> Option<&str> {
    let (form, name) = bytes.split_first()?;
    if *form == FORM { str::from_utf8(name).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "vaults/dev/keys/files";

    fn bytes(text: &str) -> Vec<u8> {
        bech32_decode(text, |_| (), |_| Ok(()), |_, bytes| Ok(bytes.collect())).expect("Bech32")
    }

    #[test]
    fn recipients_come_back() {
        let text = recipient_text(KEY).expect("a key");
        assert!(text.starts_with("age1strongroom1"), "{text}");
        assert_eq!(key_of_recipient_text(&text).as_deref(), Ok(KEY));
        assert_eq!(key_of_recipient(&bytes(&text)).as_deref(), Ok(KEY));
        let damaged = text.replace("age1strongroom1q", "age1strongroom1p");
        assert!(damaged != text && key_of_recipient_text(&damaged).is_err());
        assert!(recipient_text("files").is_err());
    }

    #[test]
    fn identities_come_back() {
        let text = identity_text(Some(KEY)).expect("a key");
        assert!(text.starts_with("AGE-PLUGIN-STRONGROOM-1"), "{text}");
        assert_eq!(key_of_identity(&bytes(&text)), Ok(Some(KEY.to_owned())));
        let any = identity_text(None).expect("any");
        assert_eq!(key_of_identity(&bytes(&any)), Ok(None));
        assert!(key_of_identity(&[]).is_err() && key_of_identity(&[2]).is_err() && key_of_identity(b"\x01k").is_err());
    }
}
