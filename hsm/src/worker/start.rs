//! From a Hello to a logged-in token whose keys are known to be ours.
//!
//! Starts of several processes on one SoftHSM token fail 5 to 40 times in a hundred when they coincide,
//! so they stand in line: an exclusive lock is held from `C_Initialize` until the login is over.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
    time::Duration,
};

use cryptoki_sys as sys;
use rustix::fs::{FlockOperation, flock};

use super::{
    code::Failed,
    engine::{CANARY_LABEL, Canary, Engine, MAC, MAC_BYTES, Trouble, root_label},
    faults, load,
    module::{Found, Library},
    pin,
    token::{Attribute, Handle, Token},
};
use crate::{
    algorithms::{KeyOps, KeySpec},
    protocol::{Damage, Fault, Hello, Moment, Ready, ServiceKeys},
    secret::SecretBytes,
    statement::KekId,
};

/// The start lock's file, in the state folder.
pub const LOCK_FILE: &str = "start.lock";

/// How often a start is tried when the module answers what a coinciding start makes it answer.
const ATTEMPTS_MAX: u32 = 5;

/// A token that is logged in to.
pub(crate) struct LoggedIn {
    /// The token, behind its fault script if there is one.
    pub(crate) token: Box<dyn Token>,
    /// What is known of it.
    pub(crate) ready: Ready,
}

/// What a start can fail of, once.
enum Attempt {
    /// Another attempt may succeed.
    Again(Fault),
    /// None will.
    Never(Fault),
    /// The PIN was refused: it is not tried again.
    Refused(Failed),
}

impl Attempt {
    fn of(failed: Failed) -> Self {
        let fault = failed.fault(Damage::Token);
        if failed.may_pass() { Self::Again(fault) } else { Self::Never(fault) }
    }
}

/// Takes the start lock; it is held until the file is dropped.
///
/// # Errors
/// [`Fault::Setup`] when the state folder cannot be used.
pub(crate) fn lock(state_dir: &Path) -> Result<File, Fault> {
    let setup = |error: std::io::Error| Fault::Setup(format!("the start lock in {}: {error}", state_dir.display()));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(state_dir).map_err(setup)?;
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(state_dir.join(LOCK_FILE))
        .map_err(setup)?;
    flock(&file, FlockOperation::LockExclusive).map_err(|error| setup(error.into()))?;
    Ok(file)
}

/// Finds the token and logs in. The caller holds the start lock.
///
/// # Errors
/// [`Fault::PinRefused`] once a PIN was refused, without another login; [`Fault::Setup`] or
/// [`Fault::Module`] otherwise.
pub(crate) fn log_in(hello: &Hello) -> Result<LoggedIn, Fault> {
    pin::check_latch(&hello.state_dir)?;
    let refused = match log_in_with(hello, &pin::read(&hello.pin_file)?) {
        Ok(logged_in) => return Ok(logged_in),
        Err(Attempt::Refused(failed)) => failed,
        Err(Attempt::Again(fault) | Attempt::Never(fault)) => return Err(fault),
    };
    // On disk before anything else is tried or answered: whoever starts next must find it. Where it cannot be written, the
    // answer at least stops everyone who hears it.
    let _ = pin::set_latch(&hello.state_dir, refused);
    // A change of the PIN that nobody has finished yet: the token has one of the two. Whatever keeps the next one from being
    // tried, the first was refused, and every start would try it again.
    let tried = pin::staged(&hello.pin_file).map(|next| next.map(|next| log_in_with(hello, &next)));
    match tried {
        Ok(Some(Ok(logged_in))) => {
            pin::clear_latch(&hello.state_dir)?;
            // Who may not write there goes on, and finds it so at the next start.
            let _ = pin::finish(&hello.pin_file);
            return Ok(logged_in);
        }
        Err(fault) | Ok(Some(Err(Attempt::Again(fault) | Attempt::Never(fault)))) => {
            let _ = pin::explain_latch(&hello.state_dir, &fault);
        }
        Ok(None | Some(Err(Attempt::Refused(_)))) => {}
    }
    Err(Fault::PinRefused)
}

fn log_in_with(hello: &Hello, secret: &SecretBytes) -> Result<LoggedIn, Attempt> {
    let mut last = None;
    for attempt in 0..ATTEMPTS_MAX {
        if attempt > 0 {
            std::thread::sleep(pause(attempt));
        }
        match try_log_in(hello, secret) {
            Err(Attempt::Again(fault)) => last = Some(fault),
            ended => return ended,
        }
    }
    Err(Attempt::Never(last.unwrap_or(Fault::Protocol)))
}

fn try_log_in(hello: &Hello, secret: &SecretBytes) -> Result<LoggedIn, Attempt> {
    let library = Library::load(&hello.module, hello.module_parameters.as_deref()).map_err(Attempt::Never)?;
    library.initialize().map_err(Attempt::of)?;
    let known = library.about().map_err(Attempt::of).and_then(|about| Ok((about, find_one(&library, hello)?)));
    let (about, found) = match known {
        Ok(known) => known,
        Err(attempt) => {
            // The next attempt could not initialise what is initialised.
            library.finalize();
            return Err(attempt);
        }
    };
    let module = library.open(&found).map_err(Attempt::of)?;
    let mut token = faults::scripted(module, &hello.faults).map_err(Attempt::Never)?;
    match token.login(secret) {
        Ok(()) => {
            let ready = Ready { serial: found.serial, library: about, unwrap_template: false };
            Ok(LoggedIn { token, ready })
        }
        Err(failed) if failed.refuses_pin() => {
            token.finalize();
            Err(Attempt::Refused(failed))
        }
        Err(failed) => {
            token.finalize();
            Err(Attempt::of(failed))
        }
    }
}

/// The one slot whose token has the name: never the first slot, whose number is not stable.
fn find_one(library: &Library, hello: &Hello) -> Result<Found, Attempt> {
    let mut found = library.find(&hello.token).map_err(Attempt::of)?;
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one),
        (Some(_), false) => Err(Attempt::Never(Fault::Setup(format!(
            "more than one token is labelled {:?}: name its serial number too",
            hello.token.label
        )))),
        // A coinciding start can hide it for a moment.
        (None, _) => Err(Attempt::Again(Fault::Setup(format!("no token is labelled {:?}", hello.token.label)))),
    }
}

/// 20 ms to 340 ms, growing, with the clock's last bits as jitter so that two never keep step.
fn pause(attempt: u32) -> Duration {
    let jitter = Moment::now().0 % 20;
    Duration::from_millis(jitter + (20 << attempt.min(4)))
}

/// The service's own keys in a token.
pub(crate) struct ServiceHandles {
    /// HMAC-SHA256 over canonical forms.
    pub(crate) sealing: Handle,
    /// One that stands beside it: its seals are right too, and none is made with it.
    pub(crate) other_sealing: Option<Handle>,
    /// AES-256-GCM over stored secrets.
    #[expect(dead_code, reason = "proved at the start, so that a wrong one shows; its verbs come with the secrets")]
    pub(crate) data: Handle,
}

/// Finds root and canary, checks that they are this service's, and loads the service's keys.
///
/// # Errors
/// [`Fault::Setup`] when the token is not the one the service knows.
pub(crate) fn establish(engine: &mut Engine, keys: &ServiceKeys) -> Result<ServiceHandles, Trouble> {
    let proof = keys.canary.as_slice().try_into().map_err(|_| Fault::Protocol)?;
    let key = one_labelled(&mut *engine.token, CANARY_LABEL)?;
    engine.canary = Some(Canary { key, proof });
    engine.check_canary().map_err(|trouble| match trouble {
        Trouble::Fault(Fault::Module { .. }) => {
            Fault::Setup("the token's canary is not this service's: it is another token".to_owned()).into()
        }
        other => other,
    })?;
    engine.root_id = keys.root.map(|root| root.id);
    let sealing = unwrap_sealing(engine, engine.root, &keys.sealing)?;
    prove_sealing(engine, sealing)?;
    engine.sealing = Some(sealing);
    if let Some(other) = &keys.other {
        let id = other.root.map(|root| root.id);
        let (root, _) = find_root(&mut *engine.token, id)?;
        engine.other_root = Some((id, root));
        let sealing = unwrap_sealing(engine, root, &other.sealing)?;
        prove_sealing(engine, sealing)?;
        engine.other_sealing = Some(sealing);
    }
    let data = unwrap_data(engine, &keys.data)?;
    if !engine.proves_aes(data)? {
        return Err(Fault::Setup("the key of stored secrets does not encrypt".to_owned()).into());
    }
    Ok(ServiceHandles { sealing, other_sealing: engine.other_sealing, data })
}

/// A root of a token, and whether it carries the unwrap template.
pub(crate) fn find_root(token: &mut dyn Token, id: Option<KekId>) -> Result<(Handle, bool), Trouble> {
    let root = one_labelled(token, &root_label(id))?;
    let template = token.attribute(root, sys::CKA_UNWRAP_TEMPLATE)?;
    Ok((root, !template.is_empty()))
}

fn one_labelled(token: &mut dyn Token, label: &str) -> Result<Handle, Trouble> {
    let template = [
        Attribute::Number(sys::CKA_CLASS, sys::CKO_SECRET_KEY),
        Attribute::Bytes(sys::CKA_LABEL, label.as_bytes()),
        Attribute::Flag(sys::CKA_TOKEN, true),
    ];
    let found = token.find(&template)?;
    let [key] = found[..] else {
        let what = if found.is_empty() { "no" } else { "more than one" };
        return Err(Fault::Setup(format!("the token has {what} key labelled {label:?}")).into());
    };
    Ok(key)
}

/// The sealing key, as a session object that signs and nothing else.
pub(crate) fn unwrap_sealing(engine: &mut Engine, root: Handle, blob: &[u8]) -> Result<Handle, Trouble> {
    let template = vec![
        Attribute::Number(sys::CKA_CLASS, sys::CKO_SECRET_KEY),
        Attribute::Number(sys::CKA_KEY_TYPE, sys::CKK_GENERIC_SECRET),
        Attribute::Flag(sys::CKA_TOKEN, false),
        Attribute::Flag(sys::CKA_PRIVATE, true),
        Attribute::Flag(sys::CKA_SENSITIVE, true),
        Attribute::Flag(sys::CKA_EXTRACTABLE, false),
        Attribute::Flag(sys::CKA_SIGN, true),
        Attribute::Flag(sys::CKA_VERIFY, false),
        Attribute::Flag(sys::CKA_ENCRYPT, false),
        Attribute::Flag(sys::CKA_DECRYPT, false),
        Attribute::Flag(sys::CKA_WRAP, false),
        Attribute::Flag(sys::CKA_UNWRAP, false),
        Attribute::Flag(sys::CKA_DERIVE, false),
    ];
    unwrap_service_key(engine, root, blob, template, sys::CKM_SHA256_HMAC)
}

/// The key of stored secrets, as a session object that encrypts and decrypts by AES-GCM.
pub(crate) fn unwrap_data(engine: &mut Engine, blob: &[u8]) -> Result<Handle, Trouble> {
    let mut template = load::sealed_in(KeySpec::Aes256, false);
    let (flags, _) = load::usage(KeySpec::Aes256, KeyOps::ENCRYPT.union(KeyOps::DECRYPT));
    template.extend(flags);
    unwrap_service_key(engine, engine.root, blob, template, sys::CKM_AES_GCM)
}

fn unwrap_service_key(
    engine: &mut Engine,
    root: Handle,
    blob: &[u8],
    template: Vec<Attribute<'_>>,
    mechanism: sys::CK_MECHANISM_TYPE,
) -> Result<Handle, Trouble> {
    let wrapping = engine.wrapping;
    engine
        .with_limits(template, vec![mechanism], |token, template| token.unwrap(wrapping, root, blob, template))
        .map_err(|failed| engine.verdict(failed, Fault::BlobBroken))
}

/// Two seals of different forms differ, and a seal has its length: a stub or a broken key shows here.
pub(crate) fn prove_sealing(engine: &mut Engine, sealing: Handle) -> Result<(), Trouble> {
    let one = engine.token.sign(MAC, sealing, b"one", MAC_BYTES)?;
    let other = engine.token.sign(MAC, sealing, b"other", MAC_BYTES)?;
    if one.len() == MAC_BYTES && other.len() == MAC_BYTES && one != other {
        Ok(())
    } else {
        Err(Fault::Setup("the sealing key does not seal".to_owned()).into())
    }
}
