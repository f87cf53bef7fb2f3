//! What a module can do, found by doing it: every kind of key in both residencies with every algorithm,
//! and the properties that the design leans on.
//!
//! It runs under a root of its own, a session key with the unwrap template, and leaves nothing on the
//! token. RSA-4096 takes seconds to generate: it is run by an operator, not at a start.

use cryptoki_sys as sys;

use super::{
    engine::{Engine, MAC, MAC_BYTES, Trouble, unmet, unsupported},
    generate::statement_of,
    hierarchy::session_wrapping_key,
    listed,
    operate::{self, Half},
    public::ED25519_PARAMETERS,
    token::{Attribute, Handle, Mechanism},
    trial,
};
use crate::{
    algorithms::{AES_BLOCK_BYTES, Algorithm, Digest, KeyOps, KeySpec, Scheme},
    protocol::{
        ALLOWED_MECHANISMS, BIRTH, Capabilities, Capability, Cell, Fault, HIERARCHY, LOG_BY_ED25519, NewVersion,
        Operation, Output, UNWRAP_TEMPLATE,
    },
    secret::SecretBytes,
    statement::{KeyStatement, Residency},
};

/// The version of the token keys that are made and destroyed again.
const TRIAL_VERSION: [u8; 16] = *b"strongroom-probe";

/// Tries everything.
///
/// # Errors
/// Only when not even a wrapping key can be made: all else is a line in the answer.
pub(crate) fn probe(engine: &mut Engine, library: &str) -> Result<Capabilities, Trouble> {
    let root = trial::root(engine)?;
    engine.root = root.key;
    // What a probe that was killed has left.
    engine.destroy_on_token(TRIAL_VERSION)?;
    let honoured = root.unwrap_template.map(|()| "a blob cannot be unwrapped readable, not even with the PIN");
    let mut lines = vec![
        line(HIERARCHY, listed::carries(&mut *engine.token).map(|()| listed::CARRIES)),
        line("key wrap", wraps(engine)),
        line(UNWRAP_TEMPLATE, honoured),
        line(BIRTH, birth(engine).map(|()| "keys that were born on the token are told from others")),
    ];
    lines.extend(properties(engine));
    for spec in KeySpec::ALL {
        for residency in [Residency::Wrapped, Residency::Token] {
            lines.extend(kind(engine, spec, residency));
        }
    }
    engine.discard(root.key);
    Ok(Capabilities { library: library.to_owned(), lines })
}

fn line(what: impl Into<String>, outcome: Result<&str, Trouble>) -> Capability {
    let (works, note) = match outcome {
        Ok(note) => (true, note.to_owned()),
        Err(Trouble::Fault(Fault::Unsupported(why))) => (false, why),
        Err(Trouble::Fault(fault)) => (false, fault.to_string()),
        Err(Trouble::Failed(failed)) => (false, format!("{} returned {}", failed.function.name(), failed.code)),
    };
    Capability { what: what.into(), cell: None, works, note }
}

fn birth(engine: &Engine) -> Result<(), Trouble> {
    if engine.tells_birth { Ok(()) } else { Err(unmet("CKA_LOCAL does not tell keys that were born on the token")) }
}

/// Whether the root wraps by RFC 5649: a key of 32 bytes becomes 40. Other paddings give more.
fn wraps(engine: &mut Engine) -> Result<&'static str, Trouble> {
    let (root, wrapping) = (engine.root, engine.wrapping);
    let key = session_wrapping_key(&mut *engine.token, true)?;
    let blob = engine.token.wrap(wrapping, root, key);
    engine.discard(key);
    match (blob.map_err(unsupported)?.len(), wrapping) {
        (40, Mechanism::KeyWrapKwp) => Ok("by CKM_AES_KEY_WRAP_KWP"),
        (40, _) => Ok("by CKM_AES_KEY_WRAP_PAD"),
        _ => Err(unmet("it is not RFC 5649's")),
    }
}

/// Properties of the module that are not those of one algorithm.
fn properties(engine: &mut Engine) -> Vec<Capability> {
    let ed25519 = log_key(engine).map(|()| "the log is signed with Ed25519");
    let mac = seals(engine).map(|()| "seals and canary");
    let limits = limits(engine).map(|()| "a key is kept to the mechanisms of its operations");
    let imports = imports(engine).map(|()| "a secret key is taken in the clear, and wrapped");
    vec![
        line("HMAC-SHA256", mac),
        line(LOG_BY_ED25519, ed25519),
        line(ALLOWED_MECHANISMS, limits),
        line("import of secrets", imports),
    ]
}

/// Whether a secret from outside can become a key; modules under FIPS 140 may refuse one in the clear.
fn imports(engine: &mut Engine) -> Result<(), Trouble> {
    let key = engine.create_secret(KeySpec::Aes256, Residency::Wrapped, &[], &[7; 32])?;
    let wrapped = engine.token.wrap(engine.wrapping, engine.root, key).map_err(unsupported);
    engine.discard(key);
    wrapped.map(drop)
}

fn log_key(engine: &mut Engine) -> Result<(), Trouble> {
    let session = Attribute::Flag(sys::CKA_TOKEN, false);
    let public = [session.clone(), Attribute::Bytes(sys::CKA_EC_PARAMS, ED25519_PARAMETERS)];
    let private = [session, Attribute::Flag(sys::CKA_SIGN, true)];
    let (public, private) = engine.token.generate_pair(Mechanism::GenerateEdwards, &public, &private)?;
    let signed = engine.token.sign(Mechanism::Eddsa, private, b"probe", 64);
    engine.discard(public);
    engine.discard(private);
    if signed?.len() == 64 { Ok(()) } else { Err(unmet("its signature has another length")) }
}

fn seals(engine: &mut Engine) -> Result<(), Trouble> {
    let template = [
        Attribute::Number(sys::CKA_VALUE_LEN, 32),
        Attribute::Flag(sys::CKA_TOKEN, false),
        Attribute::Flag(sys::CKA_SIGN, true),
    ];
    let key = engine.token.generate_key(Mechanism::GenerateSecret, &template)?;
    let mac = engine.token.sign(MAC, key, b"probe", MAC_BYTES);
    engine.discard(key);
    if mac?.len() == MAC_BYTES { Ok(()) } else { Err(unmet("it has another length")) }
}

fn limits(engine: &Engine) -> Result<(), Trouble> {
    if engine.limits_mechanisms { Ok(()) } else { Err(unmet("they are refused, or taken and ignored")) }
}

/// One kind of key in one residency: making it, and each of its algorithms.
fn kind(engine: &mut Engine, spec: KeySpec, residency: Residency) -> Vec<Capability> {
    let name = format!("{} {}", spec.name(), residency.name());
    let cell = |line, algorithm| Capability { cell: Some(Cell { spec, residency, algorithm }), ..line };
    let wanted = NewVersion::new(spec, residency, TRIAL_VERSION);
    let generated = match engine.generate(&wanted) {
        Ok(generated) => generated,
        Err(trouble) => return vec![cell(line(name, Err(trouble)), None)],
    };
    let (blob, public) = (generated.blob.into_vec(), generated.public.into_vec());
    let check_value = generated.check_value.into_vec();
    let statement = statement_of(&wanted, blob, public, check_value);
    let mut lines = vec![cell(line(name.clone(), Ok("made and proved")), None)];
    for algorithm in spec.algorithms() {
        let outcome = use_once(engine, &statement, algorithm).map(|()| "used both ways");
        lines.push(cell(line(format!("{name} {}", algorithm.name()), outcome), Some(algorithm)));
    }
    if residency == Residency::Token
        && let Err(trouble) = engine.destroy_on_token(TRIAL_VERSION)
    {
        lines.push(line(format!("{name} destroy"), Err(trouble)));
    }
    lines
}

/// Uses an algorithm forth and back.
fn use_once(engine: &mut Engine, statement: &KeyStatement, algorithm: Algorithm) -> Result<(), Trouble> {
    let private = engine.load_private(statement)?;
    let public = if statement.public.is_empty() { Ok(private) } else { engine.load_public(statement) };
    let outcome = match &public {
        Ok(public) => there_and_back(engine, statement, algorithm, private, *public),
        Err(_) => Ok(()),
    };
    if let Ok(public) = &public
        && *public != private
    {
        engine.discard(*public);
    }
    if statement.residency == Residency::Wrapped {
        engine.discard(private);
    }
    public.and(outcome)
}

fn there_and_back(
    engine: &mut Engine,
    statement: &KeyStatement,
    algorithm: Algorithm,
    private: Handle,
    public: Handle,
) -> Result<(), Trouble> {
    let mut run = |operation: &Operation| {
        let half = operate::check(statement, operation)?;
        engine.operate(statement, if half == Half::Private { private } else { public }, operation)
    };
    let none = || Vec::new().into();
    if algorithm.signs() {
        let input = || SecretBytes::new(vec![7; algorithm.signature_digest().map_or(100, Digest::bytes)]);
        let Output::Signature(signature) = run(&Operation::Sign { algorithm, input: input() })? else {
            return Err(Fault::Protocol.into());
        };
        return match run(&Operation::Verify { algorithm, input: input(), signature })? {
            Output::Verified(true) => Ok(()),
            _ => Err(unmet("its own signature does not verify")),
        };
    }
    let wraps = !algorithm.ops().contains(KeyOps::ENCRYPT);
    let (there, back) = if wraps { (KeyOps::WRAP_KEY, KeyOps::UNWRAP_KEY) } else { (KeyOps::ENCRYPT, KeyOps::DECRYPT) };
    let plaintext = SecretBytes::new(vec![7; 32]);
    let chosen = if matches!(algorithm.scheme(), Scheme::AesCbc | Scheme::AesCbcPad) { AES_BLOCK_BYTES } else { 0 };
    let iv = vec![9; chosen].into();
    let encrypt = Operation::Encrypt { algorithm, purpose: there, plaintext, iv, additional_data: none() };
    let Output::Ciphertext { ciphertext, iv, tag } = run(&encrypt)? else { return Err(Fault::Protocol.into()) };
    let decrypt = Operation::Decrypt { algorithm, purpose: back, ciphertext, iv, tag, additional_data: none() };
    match run(&decrypt)? {
        Output::Plaintext(plaintext) if plaintext.expose_secret() == [7; 32] => Ok(()),
        _ => Err(unmet("what was encrypted does not come back")),
    }
}
