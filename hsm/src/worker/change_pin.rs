//! Another PIN for the token's user, and for the file that workers read it from.
//!
//! ```text
//! PIN.new written, synced   ->   C_SetPIN(old, new)   ->   a login with the new one   ->   PIN.new renamed to PIN
//! ```
//!
//! All of it under the start lock: no worker logs in between. Running ones stay logged in. Who dies on the way leaves
//! `PIN.new` behind, and then the token has one of the two: the next run tries the old one, once, and goes on from where
//! that says. A worker that starts before does as much (see [`super::start::log_in`]). A wrong try of this command sets no
//! latch: nobody is kept from working by it, and it tries no PIN twice.

use std::path::Path;

use cryptoki_sys as sys;

use super::{
    code::Failed,
    module::{Found, Library},
    pin, sync,
};
use crate::{
    protocol::{Damage, Fault, Hello},
    secret::SecretBytes,
};

/// The two PINs, of which the token has one.
struct Pins {
    old: SecretBytes,
    new: SecretBytes,
    /// `PIN.new` was there already.
    is_begun: bool,
}

impl Pins {
    fn read(hello: &Hello, new_pin_file: Option<&Path>) -> Result<Self, Fault> {
        let old = pin::read(&hello.pin_file)?;
        let staged = pin::staged(&hello.pin_file)?;
        let is_begun = staged.is_some();
        let new = match (staged, new_pin_file.map(pin::read).transpose()?) {
            (Some(staged), None) => staged,
            (Some(staged), Some(new)) if pin::same(&staged, &new) => staged,
            (Some(_), Some(_)) => {
                let staged = pin::staged_path(&hello.pin_file);
                return setup(format!(
                    "a change to the PIN in {} is not finished: finish it first, without another new PIN",
                    staged.display()
                ));
            }
            (None, Some(new)) => new,
            (None, None) => return setup("there is no new PIN, and no change that was begun".to_owned()),
        };
        if pin::same(&old, &new) && !is_begun {
            return setup(format!("the new PIN is the one that {} has already", hello.pin_file.display()));
        }
        Ok(Self { old, new, is_begun })
    }
}

fn setup<T>(why: String) -> Result<T, Fault> {
    Err(Fault::Setup(why))
}

fn module(failed: Failed) -> Fault {
    failed.fault(Damage::Operation)
}

/// Changes it, or finishes a change that was begun. The caller holds the start lock.
///
/// # Errors
/// [`Fault::PinRefused`] while the latch is set; [`Fault::Setup`] with what is to be done.
pub(crate) fn change(hello: &Hello, new_pin_file: Option<&Path>) -> Result<(), Fault> {
    pin::check_latch(&hello.state_dir)?;
    let pins = Pins::read(hello, new_pin_file)?;
    with_token(hello, |library, found| set(hello, library, found, &pins))?;
    // In a module that was initialised anew: what was said to be set must let somebody in.
    with_token(hello, |library, found| match library.log_in(found, &pins.new) {
        Ok(_) => Ok(()),
        Err(failed) if failed.refuses_pin() => setup(format!(
            "the token says that its PIN was changed, and refuses the new one, which is in {}: nothing more was tried",
            pin::staged_path(&hello.pin_file).display()
        )),
        Err(failed) => Err(module(failed)),
    })?;
    sync::sync(&hello.sync_dirs)?;
    pin::finish(&hello.pin_file)
}

/// Has the token take the new PIN, unless it has it already.
fn set(hello: &Hello, library: &Library, found: &Found, pins: &Pins) -> Result<(), Fault> {
    let rules = library.pin_rules(found).map_err(module)?;
    if rules.is_nearly_locked {
        return setup("the token would lock itself at the next wrong PIN: log in with the right one by the vendor's tools first, which makes it forget the wrong ones".to_owned());
    }
    let length = pins.new.len();
    if length < rules.bytes_min || length > rules.bytes_max {
        let (min, max) = (rules.bytes_min, rules.bytes_max);
        return setup(format!("the token takes PINs of {min} to {max} bytes, and the new one has {length}"));
    }
    if pin::same(&pins.old, &pins.new) {
        // Only the file beside it is left.
        return Ok(());
    }
    let session = match library.log_in(found, &pins.old) {
        Ok(session) => session,
        // It has the new one, as the login that comes next shows.
        Err(failed) if failed.refuses_pin() && pins.is_begun => return Ok(()),
        Err(failed) if failed.refuses_pin() => {
            return setup(format!(
                "the token refuses the PIN in {}: nothing was changed, and running workers go on",
                hello.pin_file.display()
            ));
        }
        Err(failed) => return Err(module(failed)),
    };
    if !pins.is_begun {
        pin::stage(&hello.pin_file, &pins.new)?;
    }
    match session.set_pin(&pins.old, &pins.new) {
        Ok(()) => Ok(()),
        Err(failed) if is_refusal(failed) => {
            pin::unstage(&hello.pin_file)?;
            let hint = if failed.code.0 == sys::CKR_FUNCTION_NOT_SUPPORTED {
                "the module cannot change PINs: use the vendor's tools, in the order that docs/own-keys.md says"
            } else {
                "the old one stays: choose another, or ask the token's maker what it takes"
            };
            setup(format!(
                "the token did not take the new PIN ({} returned {}); {hint}",
                failed.function.name(),
                failed.code
            ))
        }
        // Whether it was changed is not known: the next run finds out.
        Err(failed) => Err(module(failed)),
    }
}

/// Whether the token says for sure that it has changed nothing.
fn is_refusal(failed: Failed) -> bool {
    matches!(
        failed.code.0,
        sys::CKR_PIN_INVALID
            | sys::CKR_PIN_LEN_RANGE
            | sys::CKR_PIN_TOO_WEAK
            | sys::CKR_PIN_INCORRECT
            | sys::CKR_FUNCTION_NOT_SUPPORTED
            | sys::CKR_TOKEN_WRITE_PROTECTED
            | sys::CKR_SESSION_READ_ONLY
            | sys::CKR_ARGUMENTS_BAD
            | sys::CKR_USER_NOT_LOGGED_IN
    )
}

/// Runs with the one token of the name, between `C_Initialize` and `C_Finalize`.
fn with_token<T>(hello: &Hello, run: impl FnOnce(&Library, &Found) -> Result<T, Fault>) -> Result<T, Fault> {
    let library = Library::load(&hello.module, hello.module_parameters.as_deref())?;
    library.initialize().map_err(module)?;
    let outcome = library.find(&hello.token).map_err(module).and_then(|found| match &found[..] {
        [one] => run(&library, one),
        found => setup(format!("{} tokens are labelled {:?}, not one", found.len(), hello.token.label)),
    });
    library.finalize();
    outcome
}
