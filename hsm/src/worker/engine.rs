//! A token and its root key: what loading, generating and operating have in common.

use std::collections::HashMap;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use cryptoki_sys as sys;

use super::{
    code::{Class, Failed, Function},
    kek::FoundKek,
    token::{Attribute, Handle, Mechanism, Outcome, Token},
    trial::{self, Habits},
};
use crate::{
    algorithms::Digest,
    protocol::{Damage, Fault},
    statement::KekId,
};

/// What the canary signs.
pub(crate) const CANARY_MESSAGE: &[u8] = b"strongroom canary";
/// CKA_LABEL of the root key of `init`; one that was made in place of another has its id behind it.
const ROOT_LABEL: &str = "strongroom root";
/// CKA_LABEL of the canary.
pub(crate) const CANARY_LABEL: &str = "strongroom canary";
/// CKA_LABEL of both halves of the log key of `init`; one that was made in place of another has its id behind it.
const LOG_LABEL: &str = "strongroom log";

/// CKA_LABEL of a root: none is the one of `init`. By its label alone it is found, and no root is taken for another.
pub(crate) fn root_label(id: Option<KekId>) -> String {
    labelled(ROOT_LABEL, id)
}

/// CKA_LABEL of both halves of a log key: none is the one of `init`.
pub(crate) fn log_label(id: Option<KekId>) -> String {
    labelled(LOG_LABEL, id)
}

fn labelled(label: &str, id: Option<KekId>) -> String {
    let Some(id) = id else { return label.to_owned() };
    let digits: Vec<String> = id.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{label} {}", digits.concat())
}

/// What makes seals, and the canary's proof: HMAC-SHA256.
pub(crate) const MAC: Mechanism<'static> = Mechanism::Hmac(Digest::Sha256);
/// The length of an HMAC-SHA256, in bytes.
pub(crate) const MAC_BYTES: usize = 32;

/// Why something was not done: our own reason, or a failure of the module that is yet to be classified.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Our own reason, ready to be answered.
    Fault(Fault),
    /// The module's.
    Failed(Failed),
}

impl Trouble {
    /// The same, where the failure of a module that lacks something says so.
    pub(crate) fn or_unsupported(self) -> Self {
        match self {
            Self::Fault(fault) => Self::Fault(fault),
            Self::Failed(failed) => unsupported(failed),
        }
    }
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Failed> for Trouble {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

/// A key *on the token* and the HMAC it makes. Random numbers and session keys look healthy on a token
/// that is gone; this one does not.
#[derive(Clone, Copy)]
pub(crate) struct Canary {
    /// The key.
    pub(crate) key: Handle,
    /// Its HMAC of [`CANARY_MESSAGE`].
    pub(crate) proof: [u8; MAC_BYTES],
}

/// A logged-in token and the root under which its keys are wrapped.
pub(crate) struct Engine {
    /// The token.
    pub(crate) token: Box<dyn Token>,
    /// The root.
    pub(crate) root: Handle,
    /// Which root that is: none for the one of `init`.
    pub(crate) root_id: Option<KekId>,
    /// A root that stands beside it, while one takes the place of the other.
    pub(crate) other_root: Option<(Option<KekId>, Handle)>,
    /// Absent while a hierarchy is being made or a module probed.
    pub(crate) canary: Option<Canary>,
    /// The sealing key, where it is loaded.
    pub(crate) sealing: Option<Handle>,
    /// One that stands beside it: its seals are right too.
    pub(crate) other_sealing: Option<Handle>,
    /// Whether the module honours CKA_ALLOWED_MECHANISMS.
    pub(crate) limits_mechanisms: bool,
    /// Whether the module tells which keys were born on the token.
    pub(crate) tells_birth: bool,
    /// Whether it wants the public point beside an EC key that it unwraps: assumed not, until it says so.
    pub(crate) wants_point: bool,
    /// How the root wraps keys: by RFC 5649, under the number that the module has for it.
    pub(crate) wrapping: Mechanism<'static>,
    /// The key-encryption keys of vaults that were found on the token.
    pub(crate) keks: HashMap<KekId, FoundKek>,
}

impl Engine {
    /// An engine without a canary. There is no root yet while a hierarchy is being made or a module probed.
    ///
    /// # Errors
    /// When the module does not say what it can do; it is finalised then.
    pub(crate) fn new(mut token: Box<dyn Token>, root: Option<Handle>) -> Outcome<Self> {
        let found = wrapping(&mut *token, root)
            .and_then(|wrapping| Ok((wrapping, trial::habits(&mut *token)?)))
            .inspect_err(|_| token.finalize());
        let (wrapping, Habits { limits_mechanisms, tells_birth }) = found?;
        // A handle that no object has stands for a root that is not there.
        let root = root.unwrap_or(Handle(sys::CK_INVALID_HANDLE));
        Ok(Self {
            token,
            root,
            root_id: None,
            other_root: None,
            canary: None,
            sealing: None,
            other_sealing: None,
            limits_mechanisms,
            tells_birth,
            wants_point: false,
            wrapping,
            keks: HashMap::new(),
        })
    }

    /// Signs with the canary.
    ///
    /// # Errors
    /// When the module fails, or answers with anything but the proof: then it is another token, or lies.
    pub(crate) fn check_canary(&mut self) -> Result<(), Trouble> {
        let Some(canary) = self.canary else { return Ok(()) };
        let mac = self.token.sign(MAC, canary.key, CANARY_MESSAGE, MAC_BYTES)?;
        verify_slices_are_equal(&mac, &canary.proof).map_err(|_| {
            Trouble::Fault(Fault::Module {
                function: Function::Sign.name().to_owned(),
                code: "another canary".to_owned(),
                damage: Damage::Token,
            })
        })
    }

    /// The HMAC-SHA256 of a message.
    pub(crate) fn mac(&mut self, key: Handle, message: &[u8]) -> Result<Vec<u8>, Trouble> {
        let mac = self.token.sign(MAC, key, message, MAC_BYTES)?;
        if mac.len() == MAC_BYTES { Ok(mac) } else { Err(nonsense(Function::Sign, "an HMAC of another length")) }
    }

    /// The fault for a failure. Where the value alone does not tell a refused call from a dead token, the
    /// canary does.
    pub(crate) fn diagnose(&mut self, failed: Failed) -> Fault {
        match failed.class() {
            Class::Takes(damage) => failed.fault(damage),
            Class::StaleHandle => failed.fault(Damage::Login),
            Class::Verdict | Class::VerdictOrToken | Class::Suspect => {
                let damage = if self.check_canary().is_ok() { Damage::Operation } else { Damage::Token };
                failed.fault(damage)
            }
        }
    }

    /// `verdict` when the failure is one on the data, and the token is seen to be alive; else the failure.
    pub(crate) fn verdict(&mut self, failed: Failed, verdict: Fault) -> Trouble {
        match failed.class() {
            Class::Verdict => Trouble::Fault(verdict),
            Class::VerdictOrToken if self.check_canary().is_ok() => Trouble::Fault(verdict),
            Class::VerdictOrToken => Trouble::Fault(failed.fault(Damage::Token)),
            Class::Suspect | Class::StaleHandle | Class::Takes(_) => Trouble::Failed(failed),
        }
    }

    /// Destroys an object that is not needed any more. That it cannot be destroyed changes nothing for
    /// the caller; a token in trouble shows at the next call.
    pub(crate) fn discard(&mut self, object: Handle) {
        let _ = self.token.destroy(object);
    }

    /// Runs `make` with a template that has CKA_ALLOWED_MECHANISMS, and once more without it when the
    /// module does not take the attribute.
    pub(crate) fn with_limits<'a, T>(
        &mut self,
        mut template: Vec<Attribute<'a>>,
        mechanisms: Vec<sys::CK_MECHANISM_TYPE>,
        mut make: impl FnMut(&mut dyn Token, &[Attribute<'a>]) -> Result<T, Failed>,
    ) -> Result<T, Failed> {
        if self.limits_mechanisms {
            template.push(Attribute::AllowedMechanisms(mechanisms));
            match make(&mut *self.token, &template) {
                Err(failed) if failed.refuses_template() => {}
                other => return other,
            }
            template.pop();
            let made = make(&mut *self.token, &template);
            // Only what works without the attribute shows that the attribute was the reason.
            self.limits_mechanisms = made.is_err();
            return made;
        }
        make(&mut *self.token, &template)
    }
}

/// The number for RFC 5649. Modules read `CKM_AES_KEY_WRAP_PAD` differently, so PKCS#11 3.0 gave it one that
/// means nothing else: that one is taken where the module has it. A root that is kept to the older one, which
/// then worked when it was made, stays with it whatever a newer module offers.
fn wrapping(token: &mut dyn Token, root: Option<Handle>) -> Outcome<Mechanism<'static>> {
    let (pad, kwp) = (Mechanism::KeyWrapPad, Mechanism::KeyWrapKwp);
    if !token.mechanisms()?.contains(&kwp.number()) {
        return Ok(pad);
    }
    let kept_to = match root {
        Some(root) => token.attribute(root, sys::CKA_ALLOWED_MECHANISMS)?,
        None => Vec::new(),
    };
    let only_pad = kept_to == pad.number().to_ne_bytes();
    Ok(if only_pad { pad } else { kwp })
}

/// A fault for a result that is not what the call must give: the module lies or is broken.
pub(crate) fn nonsense(function: Function, what: &str) -> Trouble {
    Trouble::Fault(Fault::Module { function: function.name().to_owned(), code: what.to_owned(), damage: Damage::Token })
}

/// A trouble with what the module has and does wrongly.
pub(crate) fn unmet(why: &str) -> Trouble {
    Trouble::Fault(Fault::Unsupported(why.to_owned()))
}

/// A fault for what this module lacks.
pub(crate) fn unsupported(failed: Failed) -> Trouble {
    if failed.is_unsupported() {
        Trouble::Fault(Fault::Unsupported(format!("{} returned {}", failed.function.name(), failed.code)))
    } else {
        Trouble::Failed(failed)
    }
}
