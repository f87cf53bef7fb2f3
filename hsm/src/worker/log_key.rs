//! The log key: a pair on the token that signs checkpoints and nothing else (ADR 0004).
//!
//! ```text
//! Ed25519        EdDSA(text): 64 bytes                                      C2SP signed-note, type 1
//! ECDSA P-256    ECDSA(SHA-256(text)) as SEQUENCE { r, s } in DER           type 2: where the module has no Ed25519
//! ```
//!
//! One that is made in another's place has a label and a CKA_ID of its own, and both are on the token until every log has
//! changed over: the old one hands over to the new one in its last signature.
//!
//! The private key is found by label and class when it is first needed. Software judges every signature by the
//! public key that the service knows before it is answered: another key under that label shows, and so does a
//! module that lies.

use std::borrow::Cow;

use aws_lc_rs::digest;
use cryptoki_sys as sys;

use super::{
    code::Function,
    engine::{Engine, Trouble, log_label, nonsense},
    public::{self, BadPublicKey, ED25519_PARAMETERS, Public},
    token::{Attribute, Handle, Mechanism, Outcome, Token},
};
use crate::{
    algorithms::KeySpec,
    protocol::{Fault, ServiceKeys},
    statement::KekId,
};

/// What a new log key signs first.
const PROOF: &[u8] = b"strongroom log proof";

/// The log key of a service, in this login.
pub(crate) struct LogKey {
    spec: KeySpec,
    public: Public,
    spki: Vec<u8>,
    label: String,
    /// Absent until it has signed rightly once, and after the module has forgotten the handle.
    private: Option<Handle>,
}

impl LogKey {
    /// The key of that CKA_ID (none: the one of `init`) and SubjectPublicKeyInfo (DER).
    ///
    /// # Errors
    /// [`Fault::Setup`] when it is neither an Ed25519 nor a P-256 key.
    pub(crate) fn new(id: Option<KekId>, spki: &[u8]) -> Result<Self, Fault> {
        let read = |spec| Some((spec, Public::from_spki(spec, spki).ok()?));
        let (spec, public) = [KeySpec::Ed25519, KeySpec::P256]
            .into_iter()
            .find_map(read)
            .ok_or_else(|| Fault::Setup("the service's log key is neither Ed25519 nor ECDSA P-256".to_owned()))?;
        Ok(Self { spec, public, spki: spki.to_vec(), label: log_label(id), private: None })
    }

    /// Whether it is the one with that SubjectPublicKeyInfo.
    pub(crate) fn is(&self, spki: &[u8]) -> bool {
        self.spki == spki
    }

    /// The signature of a checkpoint's text, as a signed note takes it. The caller has checked the text.
    ///
    /// # Errors
    /// [`Fault::LogKeyAbsent`], [`Fault::LogKeyMismatch`], or the module's failure.
    pub(crate) fn sign(&mut self, engine: &mut Engine, text: &str) -> Result<Vec<u8>, Trouble> {
        let (key, has_signed) = match self.private {
            Some(key) => (key, true),
            None => (find(engine, &self.label)?, false),
        };
        let signed = to_be_signed(self.spec, text.as_bytes());
        let signature = sign(&mut *engine.token, self.spec, key, &signed)?;
        if !self.public.confirms(self.spec, &signed, &signature) {
            return Err(if has_signed {
                nonsense(Function::Sign, "a log signature that is not right")
            } else {
                Fault::LogKeyMismatch.into()
            });
        }
        self.private = Some(key);
        if self.spec == KeySpec::Ed25519 {
            return Ok(signature);
        }
        public::ecdsa_to_der(&signature).map_err(|_| nonsense(Function::Sign, "a signature of another length"))
    }

    /// Forgets the handle: the module does not know it any more. Whether there was one.
    pub(crate) fn forget(&mut self) -> bool {
        self.private.take().is_some()
    }
}

fn find(engine: &mut Engine, label: &str) -> Result<Handle, Trouble> {
    let template = [
        Attribute::Number(sys::CKA_CLASS, sys::CKO_PRIVATE_KEY),
        Attribute::Bytes(sys::CKA_LABEL, label.as_bytes()),
        Attribute::Flag(sys::CKA_TOKEN, true),
    ];
    match engine.token.find(&template)?[..] {
        [key] => Ok(key),
        [] => {
            // A token that is gone shows no objects and says that all is well: the canary knows better.
            engine.check_canary()?;
            Err(Fault::LogKeyAbsent.into())
        }
        // Two of one label are not ours to choose between.
        _ => Err(Fault::LogKeyMismatch.into()),
    }
}

/// What the module signs: the text, or its digest.
fn to_be_signed(spec: KeySpec, text: &[u8]) -> Cow<'_, [u8]> {
    match spec {
        KeySpec::Ed25519 => Cow::Borrowed(text),
        _ => Cow::Owned(digest::digest(&digest::SHA256, text).as_ref().to_vec()),
    }
}

fn sign(token: &mut dyn Token, spec: KeySpec, key: Handle, signed: &[u8]) -> Outcome<Vec<u8>> {
    let mechanism = if spec == KeySpec::Ed25519 { Mechanism::Eddsa } else { Mechanism::Ecdsa };
    token.sign(mechanism, key, signed, 2 * spec.bytes())
}

/// Makes a log key beside the one that is there; its SubjectPublicKeyInfo. What is on the token must be synced before anybody
/// hears of it.
///
/// # Errors
/// The module's failure.
pub(super) fn make_beside(engine: &mut Engine, id: KekId) -> Result<Vec<u8>, Trouble> {
    engine.refuse_existing(id)?;
    let made = make(&mut *engine.token, Some(id));
    if made.is_err() {
        // What cannot be destroyed here is destroyed by its id, from the intent of its making.
        let _ = engine.destroy_on_token(id);
    }
    made
}

/// Destroys both halves of a log key that signs nothing any more.
///
/// # Errors
/// [`Fault::Protocol`] for the one that the service signs with.
pub(super) fn destroy(engine: &mut Engine, keys: &ServiceKeys, id: Option<KekId>) -> Result<(), Trouble> {
    if id == keys.log_id {
        return Err(Fault::Protocol.into());
    }
    let label = log_label(id);
    let template = [Attribute::Bytes(sys::CKA_LABEL, label.as_bytes()), Attribute::Flag(sys::CKA_TOKEN, true)];
    engine.destroy_found(&template)
}

/// Makes the pair of that CKA_ID, without one on a token that has none; its SubjectPublicKeyInfo. Ed25519, which every tool for signed notes
/// takes; ECDSA P-256, the declared variant, where the module has none.
///
/// # Errors
/// The module's failure.
pub(crate) fn make(token: &mut dyn Token, id: Option<KekId>) -> Result<Vec<u8>, Trouble> {
    match make_pair(token, id, Mechanism::GenerateEdwards, ED25519_PARAMETERS) {
        Ok((public, private)) => {
            let public = Public::ed25519(&token.attribute(public, sys::CKA_EC_POINT)?);
            prove(token, KeySpec::Ed25519, public, private)
        }
        Err(failed) if failed.is_unsupported() => {
            let parameters = public::ec_parameters(KeySpec::P256).unwrap_or_default();
            let (public, private) = make_pair(token, id, Mechanism::GenerateEc, &parameters)?;
            let public = Public::ec(KeySpec::P256, &token.attribute(public, sys::CKA_EC_POINT)?);
            prove(token, KeySpec::P256, public, private)
        }
        Err(failed) => Err(failed.into()),
    }
}

fn make_pair(
    token: &mut dyn Token,
    id: Option<KekId>,
    mechanism: Mechanism<'_>,
    parameters: &[u8],
) -> Outcome<(Handle, Handle)> {
    let label = log_label(id);
    let mut public = vec![
        Attribute::Bytes(sys::CKA_LABEL, label.as_bytes()),
        Attribute::Flag(sys::CKA_TOKEN, true),
        Attribute::Flag(sys::CKA_PRIVATE, false),
        Attribute::Flag(sys::CKA_VERIFY, true),
        Attribute::Bytes(sys::CKA_EC_PARAMS, parameters),
    ];
    let mut private = vec![
        Attribute::Bytes(sys::CKA_LABEL, label.as_bytes()),
        Attribute::Flag(sys::CKA_TOKEN, true),
        Attribute::Flag(sys::CKA_PRIVATE, true),
        Attribute::Flag(sys::CKA_SENSITIVE, true),
        Attribute::Flag(sys::CKA_EXTRACTABLE, false),
        Attribute::Flag(sys::CKA_SIGN, true),
        Attribute::Flag(sys::CKA_DERIVE, false),
    ];
    if let Some(id) = &id {
        public.push(Attribute::Bytes(sys::CKA_ID, id));
        private.push(Attribute::Bytes(sys::CKA_ID, id));
    }
    token.generate_pair(mechanism, &public, &private)
}

fn prove(
    token: &mut dyn Token,
    spec: KeySpec,
    public: Result<Public, BadPublicKey>,
    private: Handle,
) -> Result<Vec<u8>, Trouble> {
    let signed = to_be_signed(spec, PROOF);
    let signature = sign(token, spec, private, &signed)?;
    public
        .ok()
        .filter(|public| public.confirms(spec, &signed, &signature))
        .and_then(|public| public.to_spki(spec).ok())
        .ok_or_else(|| nonsense(Function::GenerateKeyPair, "a log key that does not sign"))
}
