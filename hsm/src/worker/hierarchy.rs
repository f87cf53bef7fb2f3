//! Makes the service's own keys on a token, or brings them back (ADR 0001).
//!
//! ```text
//! root     AES-256, token, wraps and unwraps by AES-KWP; every key it unwraps is sensitive and not
//!          extractable, because its unwrap template says so, where the module honours one
//! sealing  HMAC-SHA256, 32 bytes }  wrapped under the root, kept in the store
//! data     AES-256-GCM           }
//! canary   HMAC-SHA256, token, signs only
//! log      Ed25519, token, signs only; ECDSA P-256 where the module has no Ed25519
//! ```
//!
//! A key that was born non-extractable could never be carried to another token. So the root is born as
//! an extractable session object, leaves once for each recovery key wrapped inside the HSM, and is
//! brought onto the token non-extractable. The original lives for some milliseconds.

use std::collections::BTreeSet;

use cryptoki_sys as sys;
use der::Decode as _;

use super::{
    code::{Failed, Function},
    engine::{
        CANARY_LABEL, CANARY_MESSAGE, Engine, MAC, MAC_BYTES, Trouble, log_label, nonsense, root_label, unsupported,
    },
    listed, log_key, private, public, start,
    token::{Attribute, Handle, Mechanism, Token},
    trial,
};
use crate::{
    protocol::{Fault, Hierarchy, ServiceKeys},
    secret::SecretBytes,
    statement::KekId,
};

/// The smallest recovery key: it protects for as long as the escrow is kept (NIST SP 800-57 part 1 table 2).
const RECOVERY_MODULUS_BYTES_MIN: usize = 384;

/// Makes a hierarchy on a token that has none.
///
/// # Errors
/// [`Fault::Setup`] when one is there, or a recovery key is not one. What was begun is destroyed.
pub(crate) fn create(
    engine: &mut Engine,
    serial: &str,
    recovery: &[serde_bytes::ByteBuf],
) -> Result<Hierarchy, Trouble> {
    let recovery = recovery.iter().map(|spki| recovery_key(spki)).collect::<Result<Vec<_>, _>>()?;
    building(engine, &ServiceKeys::default(), |engine| {
        let form = RootForm::of(engine)?;
        let (root, escrow) = make_root(&mut *engine.token, form, None, &recovery)?;
        engine.root = root;
        let (sealing, data) = make_service_keys(engine, root)?;
        let service_keys = ServiceKeys { sealing: sealing.into(), data: data.into(), ..ServiceKeys::default() };
        finish(engine, service_keys, escrow, serial)
    })
}

/// Brings a hierarchy back: the root from its escrow, the other one too where one takes its place, and a new canary and log
/// key.
///
/// # Errors
/// [`Fault::Setup`] when a hierarchy is there or the recovery key is not one; [`Fault::BlobBroken`] when
/// the escrow is not this key's or the root not that of the service keys.
pub(crate) fn recover(
    engine: &mut Engine,
    serial: &str,
    private: &SecretBytes,
    (escrow, other): (&[u8], Option<&[u8]>),
    service_keys: &ServiceKeys,
) -> Result<Hierarchy, Trouble> {
    building(engine, service_keys, |engine| {
        let form = RootForm::of(engine)?;
        engine.root_id = service_keys.root.map(|root| root.id);
        engine.root = bring_back(engine, form, engine.root_id, private, escrow)?;
        if let (Some(other), Some(escrow)) = (&service_keys.other, other) {
            let id = other.root.map(|root| root.id);
            let root = bring_back(engine, form, id, private, escrow)?;
            engine.other_root = Some((id, root));
            let sealing = start::unwrap_sealing(engine, root, &other.sealing)?;
            engine.discard(sealing);
        }
        finish(engine, service_keys.clone(), vec![escrow.to_vec()], serial)
    })
}

/// A root onto the token, from its escrow.
fn bring_back(
    engine: &mut Engine,
    form: RootForm,
    id: Option<KekId>,
    private: &SecretBytes,
    escrow: &[u8],
) -> Result<Handle, Trouble> {
    let token = &mut *engine.token;
    let key = import_recovery_key(token, private)?;
    let root = import_root(token, form, id, Mechanism::RsaOaep, key, escrow);
    let destroyed = token.destroy(key);
    let root = root.map_err(|failed| engine.verdict(failed, Fault::BlobBroken))?;
    destroyed?;
    Ok(root)
}

/// Refuses when anything of ours is on the token, and destroys what was begun when building fails.
fn building(
    engine: &mut Engine,
    keys: &ServiceKeys,
    build: impl FnOnce(&mut Engine) -> Result<Hierarchy, Trouble>,
) -> Result<Hierarchy, Trouble> {
    listed::carries(&mut *engine.token)?;
    if !ours(&mut *engine.token, keys)?.is_empty() {
        return Err(Fault::Setup("the token has keys of this service already".to_owned()).into());
    }
    let built = build(engine);
    if built.is_err() {
        // There was nothing of ours before, so all that is there now is what this began.
        for object in ours(&mut *engine.token, keys).unwrap_or_default() {
            engine.discard(object);
        }
    }
    built
}

fn ours(token: &mut dyn Token, keys: &ServiceKeys) -> Result<Vec<Handle>, Trouble> {
    let other = keys.other.as_ref().map(|other| root_label(other.root.map(|root| root.id)));
    let mut labels = BTreeSet::from([root_label(None), CANARY_LABEL.to_owned(), log_label(None)]);
    labels.extend(keys.root.map(|root| root_label(Some(root.id))).into_iter().chain(other));
    labels.extend(keys.log_id.map(|id| log_label(Some(id))));
    labels.extend(keys.other_log.as_ref().and_then(|other| other.id).map(|id| log_label(Some(id))));
    let mut found = Vec::new();
    for label in labels {
        let template = [Attribute::Bytes(sys::CKA_LABEL, label.as_bytes()), Attribute::Flag(sys::CKA_TOKEN, true)];
        found.extend(token.find(&template)?);
    }
    Ok(found)
}

/// Checks and completes a hierarchy whose root is on the token: service keys open, canary and log key.
fn finish(
    engine: &mut Engine,
    mut service_keys: ServiceKeys,
    escrow: Vec<Vec<u8>>,
    serial: &str,
) -> Result<Hierarchy, Trouble> {
    prove_root(engine, &service_keys)?;
    let token = &mut *engine.token;
    service_keys.canary = make_canary(token)?.to_vec().into();
    service_keys.log_public = log_key::make(token, None)?.into();
    (service_keys.log_id, service_keys.other_log) = (None, None);
    let unwrap_template = !token.attribute(engine.root, sys::CKA_UNWRAP_TEMPLATE)?.is_empty();
    Ok(Hierarchy {
        service_keys,
        escrow: escrow.into_iter().map(Into::into).collect(),
        serial: serial.to_owned(),
        unwrap_template,
    })
}

/// How a key that wraps others is to be made in this module.
#[derive(Clone, Copy)]
pub(super) struct RootForm {
    /// The one mechanism that it is for.
    wrapping: Mechanism<'static>,
    /// Whether the module honours CKA_ALLOWED_MECHANISMS.
    limits_mechanisms: bool,
    /// Whether the module honours an unwrap template. One that is taken and ignored is left out: whoever
    /// later finds it on the root may believe it.
    pub(super) honours_template: bool,
}

impl RootForm {
    pub(super) fn of(engine: &mut Engine) -> Result<Self, Trouble> {
        let root = trial::root(engine)?;
        engine.discard(root.key);
        let honours_template = match root.unwrap_template {
            Ok(()) => true,
            Err(Trouble::Fault(Fault::Unsupported(_))) => false,
            Err(Trouble::Failed(failed)) if failed.refuses_template() => false,
            // Not for a moment's trouble is a root made without it.
            Err(trouble) => return Err(trouble),
        };
        Ok(Self { wrapping: engine.wrapping, limits_mechanisms: engine.limits_mechanisms, honours_template })
    }
}

/// The template of a key on the token that wraps others, the root or a vault's KEK, and how many attributes at its end a
/// module may lack.
pub(super) fn wrapping_template<'a>(form: RootForm, names: &[Attribute<'a>]) -> (Vec<Attribute<'a>>, usize) {
    let mut template = names.to_vec();
    template.extend([
        Attribute::Number(sys::CKA_CLASS, sys::CKO_SECRET_KEY),
        Attribute::Number(sys::CKA_KEY_TYPE, sys::CKK_AES),
        Attribute::Flag(sys::CKA_TOKEN, true),
        Attribute::Flag(sys::CKA_PRIVATE, true),
        Attribute::Flag(sys::CKA_SENSITIVE, true),
        Attribute::Flag(sys::CKA_EXTRACTABLE, false),
        Attribute::Flag(sys::CKA_WRAP, true),
        Attribute::Flag(sys::CKA_UNWRAP, true),
        Attribute::Flag(sys::CKA_ENCRYPT, false),
        Attribute::Flag(sys::CKA_DECRYPT, false),
        Attribute::Flag(sys::CKA_SIGN, false),
        Attribute::Flag(sys::CKA_VERIFY, false),
        Attribute::Flag(sys::CKA_DERIVE, false),
    ]);
    let required = template.len();
    // From here on what a module may lack, the most wanted first. A root that could be changed or copied
    // could lose its unwrap template; SoftHSM 2.6.1 lets neither happen to that attribute.
    template.extend(form.honours_template.then(unwrap_template));
    template.extend(form.limits_mechanisms.then(|| Attribute::AllowedMechanisms(vec![form.wrapping.number()])));
    template.extend([Attribute::Flag(sys::CKA_COPYABLE, false), Attribute::Flag(sys::CKA_MODIFIABLE, false)]);
    let optional = template.len() - required;
    (template, optional)
}

/// Without it, whoever holds PIN and database could unwrap a blob into a readable object, or into a
/// permanent one that can be used without login.
pub(crate) fn unwrap_template() -> Attribute<'static> {
    Attribute::UnwrapTemplate(vec![
        Attribute::Flag(sys::CKA_EXTRACTABLE, false),
        Attribute::Flag(sys::CKA_SENSITIVE, true),
        Attribute::Flag(sys::CKA_PRIVATE, true),
        Attribute::Flag(sys::CKA_TOKEN, false),
    ])
}

/// An AES-256 session key that wraps and unwraps.
pub(crate) fn session_wrapping_key(token: &mut dyn Token, extractable: bool) -> Result<Handle, Trouble> {
    let template = [
        Attribute::Number(sys::CKA_VALUE_LEN, 32),
        Attribute::Flag(sys::CKA_TOKEN, false),
        Attribute::Flag(sys::CKA_PRIVATE, true),
        Attribute::Flag(sys::CKA_SENSITIVE, true),
        Attribute::Flag(sys::CKA_EXTRACTABLE, extractable),
        Attribute::Flag(sys::CKA_WRAP, true),
        Attribute::Flag(sys::CKA_UNWRAP, true),
        Attribute::Flag(sys::CKA_ENCRYPT, false),
        Attribute::Flag(sys::CKA_DECRYPT, false),
        Attribute::Flag(sys::CKA_DERIVE, false),
    ];
    Ok(token.generate_key(Mechanism::GenerateAes, &template)?)
}

/// A root on the token, and its escrow for each recovery key.
pub(super) fn make_root(
    token: &mut dyn Token,
    form: RootForm,
    id: Option<KekId>,
    recovery: &[RecoveryKey],
) -> Result<(Handle, Vec<Vec<u8>>), Trouble> {
    let original = session_wrapping_key(token, true)?;
    let made = escrow_and_import(token, form, id, original, recovery);
    let destroyed = token.destroy(original);
    let made = made?;
    destroyed?;
    Ok(made)
}

fn escrow_and_import(
    token: &mut dyn Token,
    form: RootForm,
    id: Option<KekId>,
    original: Handle,
    recovery: &[RecoveryKey],
) -> Result<(Handle, Vec<Vec<u8>>), Trouble> {
    let escrow = recovery.iter().map(|key| escrow_for(token, original, key)).collect::<Result<Vec<_>, _>>()?;
    // Through a session key that wraps it once and is gone: the root enters the token by C_UnwrapKey,
    // which takes the whole template, as C_CopyObject does not everywhere.
    let carrier = session_wrapping_key(token, false)?;
    let imported = token
        .wrap(Mechanism::KeyWrap, carrier, original)
        .and_then(|blob| import_root(token, form, id, Mechanism::KeyWrap, carrier, &blob))
        .map_err(unsupported);
    let destroyed = token.destroy(carrier);
    let root = imported?;
    destroyed?;
    Ok((root, escrow))
}

fn import_root(
    token: &mut dyn Token,
    form: RootForm,
    id: Option<KekId>,
    mechanism: Mechanism<'_>,
    carrier: Handle,
    blob: &[u8],
) -> Result<Handle, Failed> {
    let label = root_label(id);
    let mut names = vec![Attribute::Bytes(sys::CKA_LABEL, label.as_bytes())];
    names.extend(id.as_ref().map(|id| Attribute::Bytes(sys::CKA_ID, id)));
    let (template, optional) = wrapping_template(form, &names);
    with_as_much(&template, optional, |template| token.unwrap(mechanism, carrier, blob, template))
}

/// With as much of the template as the module takes. Whether that includes the unwrap template is asked
/// of the key afterwards.
fn with_as_much<'a>(
    template: &[Attribute<'a>],
    optional: usize,
    mut make: impl FnMut(&[Attribute<'a>]) -> Result<Handle, Failed>,
) -> Result<Handle, Failed> {
    let mut taken = template.len();
    loop {
        // What may be a moment's trouble is believed to be the attribute when it comes again.
        let template_taken = &template[..taken];
        let made = make(template_taken)
            .or_else(|failed| if failed.refuses_template() { Err(failed) } else { make(template_taken) });
        match made {
            Err(failed) if failed.may_refuse_template() && taken > template.len() - optional => taken -= 1,
            other => return other,
        }
    }
}

/// A recovery key's public numbers.
pub(super) struct RecoveryKey {
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

pub(super) fn recovery_key(spki: &[u8]) -> Result<RecoveryKey, Trouble> {
    let refused = |why: &str| Trouble::Fault(Fault::Setup(format!("a recovery key {why}")));
    let (modulus, exponent) =
        public::rsa_parts(spki).map_err(|_| refused("is not an RSA key as SubjectPublicKeyInfo (DER)"))?;
    if modulus.len() < RECOVERY_MODULUS_BYTES_MIN || modulus.first().is_none_or(|first| first & 0x80 == 0) {
        return Err(refused("has fewer than 3072 bits"));
    }
    // NIST SP 800-56B section 6.2: odd, and more than 2^16.
    let large = exponent.len() > 2 && exponent.last().is_some_and(|last| last & 1 == 1);
    if large { Ok(RecoveryKey { modulus, exponent }) } else { Err(refused("has an exponent below 65537")) }
}

fn escrow_for(token: &mut dyn Token, root: Handle, key: &RecoveryKey) -> Result<Vec<u8>, Trouble> {
    let template = [
        Attribute::Number(sys::CKA_CLASS, sys::CKO_PUBLIC_KEY),
        Attribute::Number(sys::CKA_KEY_TYPE, sys::CKK_RSA),
        Attribute::Flag(sys::CKA_TOKEN, false),
        Attribute::Flag(sys::CKA_PRIVATE, false),
        Attribute::Flag(sys::CKA_WRAP, true),
        Attribute::Flag(sys::CKA_ENCRYPT, false),
        Attribute::Flag(sys::CKA_VERIFY, false),
        Attribute::Bytes(sys::CKA_MODULUS, &key.modulus),
        Attribute::Bytes(sys::CKA_PUBLIC_EXPONENT, &key.exponent),
    ];
    let public = token.create(&template)?;
    let wrapped = token.wrap(Mechanism::RsaOaep, public, root);
    token.destroy(public)?;
    let wrapped = wrapped.map_err(unsupported)?;
    if wrapped.len() == key.modulus.len() {
        Ok(wrapped)
    } else {
        Err(nonsense(Function::WrapKey, "an escrow of another length"))
    }
}

/// The recovery key as a session object that unwraps and nothing else.
pub(super) fn import_recovery_key(token: &mut dyn Token, pkcs8: &SecretBytes) -> Result<Handle, Trouble> {
    let refused = || Trouble::Fault(Fault::Setup("the recovery key is not an RSA key as PKCS#8 (DER)".to_owned()));
    let info = pkcs8::PrivateKeyInfoRef::from_der(pkcs8.expose_secret()).map_err(|_| refused())?;
    // Everything below borrows from `pkcs8`: no number of the key is copied.
    let key = pkcs1::RsaPrivateKeyRef::from_der(info.private_key.as_bytes()).map_err(|_| refused())?;
    let mut template = vec![
        Attribute::Number(sys::CKA_CLASS, sys::CKO_PRIVATE_KEY),
        Attribute::Number(sys::CKA_KEY_TYPE, sys::CKK_RSA),
        Attribute::Flag(sys::CKA_TOKEN, false),
        Attribute::Flag(sys::CKA_PRIVATE, true),
        Attribute::Flag(sys::CKA_SENSITIVE, true),
        Attribute::Flag(sys::CKA_EXTRACTABLE, false),
        Attribute::Flag(sys::CKA_UNWRAP, true),
        Attribute::Flag(sys::CKA_DECRYPT, false),
        Attribute::Flag(sys::CKA_SIGN, false),
    ];
    template.extend(private::rsa_attributes(&key));
    Ok(token.create(&template)?)
}

/// Sealing key and data key under a root.
pub(super) fn make_service_keys(engine: &mut Engine, root: Handle) -> Result<(Vec<u8>, Vec<u8>), Trouble> {
    let sealing = make_wrapped(engine, root, Mechanism::GenerateSecret)?;
    let data = make_wrapped(engine, root, Mechanism::GenerateAes)?;
    Ok((sealing, data))
}

/// 32 bytes, generated as a session object, wrapped, destroyed.
fn make_wrapped(engine: &mut Engine, root: Handle, mechanism: Mechanism<'_>) -> Result<Vec<u8>, Trouble> {
    let wrapping = engine.wrapping;
    let token = &mut *engine.token;
    let template = [
        Attribute::Number(sys::CKA_VALUE_LEN, 32),
        Attribute::Flag(sys::CKA_TOKEN, false),
        Attribute::Flag(sys::CKA_PRIVATE, true),
        Attribute::Flag(sys::CKA_SENSITIVE, true),
        Attribute::Flag(sys::CKA_EXTRACTABLE, true),
        Attribute::Flag(sys::CKA_SIGN, false),
        Attribute::Flag(sys::CKA_ENCRYPT, false),
        Attribute::Flag(sys::CKA_DECRYPT, false),
    ];
    let original = token.generate_key(mechanism, &template)?;
    let wrapped = token.wrap(wrapping, root, original);
    token.destroy(original)?;
    wrapped.map_err(unsupported)
}

/// That the root on the token opens the service keys, and what comes out works.
fn prove_root(engine: &mut Engine, service_keys: &ServiceKeys) -> Result<(), Trouble> {
    let sealing = start::unwrap_sealing(engine, engine.root, &service_keys.sealing)?;
    let proved = start::prove_sealing(engine, sealing);
    engine.discard(sealing);
    proved?;
    let data = start::unwrap_data(engine, &service_keys.data)?;
    let proved = engine.proves_aes(data);
    engine.discard(data);
    if proved? { Ok(()) } else { Err(Fault::KeyMismatch.into()) }
}

/// A key on the token that makes one HMAC for ever: that.
fn make_canary(token: &mut dyn Token) -> Result<[u8; MAC_BYTES], Trouble> {
    let template = [
        Attribute::Number(sys::CKA_VALUE_LEN, 32),
        Attribute::Bytes(sys::CKA_LABEL, CANARY_LABEL.as_bytes()),
        Attribute::Flag(sys::CKA_TOKEN, true),
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
    let key = token.generate_key(Mechanism::GenerateSecret, &template)?;
    let proof = token.sign(MAC, key, CANARY_MESSAGE, MAC_BYTES)?;
    proof.try_into().map_err(|_| nonsense(Function::Sign, "a canary of another length"))
}
