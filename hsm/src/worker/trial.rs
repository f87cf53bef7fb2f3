//! What a module makes of the attributes that the design leans on, tried with session keys. An attribute
//! that is taken and ignored protects nothing, and NSS softokn takes any.

use cryptoki_sys as sys;

use super::{
    engine::{Engine, Trouble, unmet, unsupported},
    hierarchy::{session_wrapping_key, unwrap_template},
    load::sealed_in,
    token::{Attribute, Handle, Mechanism, Outcome, Token},
};
use crate::{algorithms::KeySpec, secret::SecretBytes};

/// What a module does with two attributes of every key.
pub(crate) struct Habits {
    /// Whether it honours CKA_ALLOWED_MECHANISMS.
    pub(crate) limits_mechanisms: bool,
    /// Whether CKA_LOCAL tells the keys that were born on the token from those that were put there.
    pub(crate) tells_birth: bool,
}

/// Finds them out with one key.
pub(crate) fn habits(token: &mut dyn Token) -> Outcome<Habits> {
    let template = [
        Attribute::Number(sys::CKA_VALUE_LEN, 32),
        Attribute::Flag(sys::CKA_TOKEN, false),
        Attribute::Flag(sys::CKA_ENCRYPT, true),
        Attribute::AllowedMechanisms(vec![sys::CKM_AES_GCM]),
    ];
    let (key, takes_limits) = match token.generate_key(Mechanism::GenerateAes, &template) {
        Err(failed) if failed.refuses_template() => {
            (token.generate_key(Mechanism::GenerateAes, &template[..template.len() - 1])?, false)
        }
        other => (other?, true),
    };
    let local = token.attribute(key, sys::CKA_LOCAL);
    let limited = if takes_limits { refuses_ecb(token, key) } else { Ok(false) };
    token.destroy(key)?;
    Ok(Habits { limits_mechanisms: limited?, tells_birth: local? == [1] })
}

/// Whether a key that is allowed AES-GCM only refuses AES-ECB.
fn refuses_ecb(token: &mut dyn Token, key: Handle) -> Outcome<bool> {
    match token.encrypt(Mechanism::Ecb, key, &[0; 16], 16) {
        Ok(_) => Ok(false),
        Err(failed) if failed.is_unsupported() || failed.forbids_use() => Ok(true),
        Err(failed) => Err(failed),
    }
}

/// A root for a trial: a session key like the root on a token. Who has it discards it.
pub(crate) struct Root {
    /// The key.
    pub(crate) key: Handle,
    /// Whether an unwrap template is honoured, or why not.
    pub(crate) unwrap_template: Result<(), Trouble>,
}

/// Makes a root with the unwrap template if the module takes one.
///
/// # Errors
/// Only when not even a key without it can be made.
pub(crate) fn root(engine: &mut Engine) -> Result<Root, Trouble> {
    let template = [
        Attribute::Number(sys::CKA_VALUE_LEN, 32),
        Attribute::Flag(sys::CKA_TOKEN, false),
        Attribute::Flag(sys::CKA_PRIVATE, true),
        Attribute::Flag(sys::CKA_SENSITIVE, true),
        Attribute::Flag(sys::CKA_EXTRACTABLE, false),
        Attribute::Flag(sys::CKA_WRAP, true),
        Attribute::Flag(sys::CKA_UNWRAP, true),
        unwrap_template(),
    ];
    match engine.token.generate_key(Mechanism::GenerateAes, &template) {
        Ok(key) => Ok(Root { key, unwrap_template: honours(engine, key) }),
        Err(failed) => {
            let key = session_wrapping_key(&mut *engine.token, false)?;
            Ok(Root { key, unwrap_template: Err(failed.into()) })
        }
    }
}

/// Wraps a key under a root and unwraps it as the service does; the blob.
pub(crate) fn wraps(engine: &mut Engine, root: Handle) -> Result<Vec<u8>, Trouble> {
    let wrapping = engine.wrapping;
    let victim = session_wrapping_key(&mut *engine.token, true)?;
    let blob = engine.token.wrap(wrapping, root, victim).map_err(unsupported);
    engine.discard(victim);
    let blob = blob?;
    let sealed = engine.token.unwrap(wrapping, root, &blob, &sealed_in(KeySpec::Aes256, false)).map_err(unsupported)?;
    engine.discard(sealed);
    Ok(blob)
}

/// Whether a root lets a key be unwrapped as the service does it, and not into one that is readable.
pub(crate) fn honours(engine: &mut Engine, root: Handle) -> Result<(), Trouble> {
    let wrapping = engine.wrapping;
    // A module that unwraps nothing would refuse what is readable too.
    let blob = wraps(engine, root)?;
    let readable = [
        Attribute::Number(sys::CKA_CLASS, sys::CKO_SECRET_KEY),
        Attribute::Number(sys::CKA_KEY_TYPE, sys::CKK_AES),
        Attribute::Flag(sys::CKA_TOKEN, false),
        Attribute::Flag(sys::CKA_SENSITIVE, false),
        Attribute::Flag(sys::CKA_EXTRACTABLE, true),
    ];
    let Ok(opened) = engine.token.unwrap(wrapping, root, &blob, &readable) else { return Ok(()) };
    let value = engine.token.attribute(opened, sys::CKA_VALUE).map(SecretBytes::new);
    engine.discard(opened);
    if value.is_ok_and(|value| !value.is_empty()) {
        Err(unmet("it is taken and ignored: PIN and blob give a key away"))
    } else {
        Ok(())
    }
}
