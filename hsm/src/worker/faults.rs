//! Scripted faults at the seam, for tests: a token that fails, hangs, lies or dies when told to.
//!
//! A script is a list of rules, separated by `;`:
//!
//! ```text
//! rule   = [ "start." ] call [ "#" n ] "=" [ "after:" ] effect
//!        | "handles=renumber"                 handles are the smallest free numbers, so a destroyed
//!                                             object's number soon is another's
//!        | "login=count:" path                appends a line for each login
//! call   = login | find | attribute | create | destroy | generate | wrap | unwrap
//!        | sign | mac | verify | encrypt | decrypt | block | random
//! effect = "fail:" CKR_NAME | "delay:" n "ms" | "hang" | "crash" | "wrong"
//! ```
//!
//! Without `#n` every call is meant; `n` counts from one, and a rule with it applies once. `sign` is a
//! signature with a caller's key or the log key, and the proof of an EC key at its load; `mac` is an HMAC: seals and the
//! canary. Calls are counted from the answer to Hello on, so that what a start needs does not matter;
//! with `start.` they are counted until then. `login` is always part of the start.
//! `after:` lets the call take effect first: a generated key exists although its generation failed.
//! `wrong` flips a bit of the result, or turns a verdict round.
//!
//! Only with the cargo feature `failpoints`; without it a script is refused.

use super::{module::Module, token::Token};
use crate::protocol::Fault;

/// The module's token behind the script.
///
/// # Errors
/// [`Fault::Setup`] when the script cannot be read, or this program was built without `failpoints`.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn scripted(module: Module, script: &str) -> Result<Box<dyn Token>, Fault> {
    if script.is_empty() {
        Ok(Box::new(module))
    } else {
        Err(Fault::Setup("this program was built without fault scripts".to_owned()))
    }
}

/// The module's token behind the script.
///
/// # Errors
/// [`Fault::Setup`] when the script cannot be read.
#[cfg(feature = "failpoints")]
pub(crate) fn scripted(module: Module, script: &str) -> Result<Box<dyn Token>, Fault> {
    if script.is_empty() {
        return Ok(Box::new(module));
    }
    let faulty = super::faulty::Faulty::new(module, script).map_err(Fault::Setup)?;
    Ok(Box::new(faulty))
}
