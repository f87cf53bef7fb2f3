//! Makes keys.
//!
//! *Wrapped*: generated (or created, see [`super::import`]) as an extractable session object, wrapped under the root inside the HSM, the
//! original destroyed whatever happens, and the blob taken through the same path as at every later load:
//! unwrapped, proved and used once. A blob that was not seen to work is never handed out.
//!
//! *Token*: a permanent object that was never extractable, found and proved like at every later load.

use cryptoki_sys as sys;

use super::{
    code::{Class, Failed, Function},
    engine::{Engine, Trouble, nonsense, unsupported},
    load::{key_type, private_class, proof_digest, sealed_in, usage},
    public::{self, PUBLIC_EXPONENT, Public},
    token::{Attribute, Handle, Mechanism},
};
use crate::{
    algorithms::{Digest, GCM_IV_BYTES, GCM_TAG_BYTES, KeyOps, KeySpec, KeyType},
    protocol::{Fault, Generated, NewVersion},
    statement::{KeyStatement, Residency},
};

/// The handles of a new key.
pub(super) struct Fresh {
    /// The private or secret key.
    pub(super) private: Handle,
    /// The public key.
    pub(super) public: PublicPart,
}

/// What is known of the public half of a new key.
pub(super) enum PublicPart {
    /// There is none.
    Nothing,
    /// It is an object of its own.
    Object(Handle),
    /// SubjectPublicKeyInfo (DER).
    Known(Vec<u8>),
}

impl Engine {
    /// Makes and proves a key. What is on the token must be synced before anybody hears of it.
    ///
    /// # Errors
    /// [`Fault::Unsupported`] when the module cannot make or wrap such a key; nothing is left behind.
    pub(crate) fn generate(&mut self, wanted: &NewVersion) -> Result<Generated, Trouble> {
        let NewVersion { spec, residency, version, .. } = *wanted;
        let label = label(version);
        let fresh = match residency {
            Residency::Wrapped => self.make(spec, residency, &[])?,
            Residency::Token => {
                self.trusts_token_with(spec)?;
                self.refuse_existing(version)?;
                self.make(spec, residency, &naming(&version, &label))?
            }
            // A public half comes from outside.
            Residency::Public => return Err(Fault::Protocol.into()),
        };
        self.finish(wanted, &fresh, None)
    }

    /// Describes and proves a new key: by the check value that it must have, where that is known before.
    pub(super) fn finish(
        &mut self,
        wanted: &NewVersion,
        fresh: &Fresh,
        check_value: Option<Vec<u8>>,
    ) -> Result<Generated, Trouble> {
        let residency = wanted.residency;
        let described = self.describe(wanted, fresh, check_value);
        if residency == Residency::Wrapped {
            // An extractable original that cannot be destroyed is a failure: the worker's end destroys it.
            self.destroy_fresh(fresh)?;
        }
        let proved = described.and_then(|statement| self.prove_by_use(&statement).map(|()| statement));
        if proved.is_err() && residency == Residency::Token {
            // What cannot be destroyed here is destroyed by its version, from the creation's intent.
            let _ = self.destroy_fresh(fresh);
        }
        let statement = proved?;
        Ok(Generated {
            blob: statement.blob.into(),
            public: statement.public.into(),
            check_value: statement.check_value.into(),
        })
    }

    /// Destroys every token object of a version.
    pub(crate) fn destroy_on_token(&mut self, version: [u8; 16]) -> Result<(), Trouble> {
        let objects = self.objects_of(version)?;
        if objects.is_empty() {
            // "Nothing is there" is believed of a token that is there.
            self.check_canary()?;
        }
        for object in objects {
            self.token.destroy(object)?;
        }
        // Nobody is told that something is destroyed which can still be found.
        if self.objects_of(version)?.is_empty() {
            return Ok(());
        }
        Err(nonsense(Function::DestroyObject, "an object that was destroyed is there"))
    }

    /// Destroys what a template finds. Nobody is told so while something can still be found; and that nothing can is believed of a
    /// token that is there.
    pub(super) fn destroy_found(&mut self, template: &[Attribute<'_>]) -> Result<(), Trouble> {
        for object in self.token.find(template)? {
            self.token.destroy(object)?;
        }
        if self.token.find(template)?.is_empty() {
            return self.check_canary();
        }
        Err(nonsense(Function::DestroyObject, "an object that was destroyed is there"))
    }

    pub(super) fn objects_of(&mut self, version: [u8; 16]) -> Result<Vec<Handle>, Trouble> {
        let template = [Attribute::Bytes(sys::CKA_ID, &version), Attribute::Flag(sys::CKA_TOKEN, true)];
        Ok(self.token.find(&template)?)
    }

    /// A second creation for one version would leave two keys of one name.
    pub(super) fn refuse_existing(&mut self, version: [u8; 16]) -> Result<(), Trouble> {
        if self.objects_of(version)?.is_empty() { Ok(()) } else { Err(Fault::Protocol.into()) }
    }

    fn destroy_fresh(&mut self, fresh: &Fresh) -> Result<(), Trouble> {
        let private = self.token.destroy(fresh.private);
        let public = match fresh.public {
            PublicPart::Object(public) => self.token.destroy(public),
            PublicPart::Nothing | PublicPart::Known(_) => Ok(()),
        };
        Ok(private.and(public)?)
    }

    /// Makes a key and no more.
    pub(super) fn make(
        &mut self,
        spec: KeySpec,
        residency: Residency,
        names: &[Attribute<'_>],
    ) -> Result<Fresh, Trouble> {
        let on_token = residency == Residency::Token;
        let (flags, mechanisms) = usage(spec, spec.possible_ops());
        let mut private: Vec<Attribute<'_>> = if on_token { sealed_in(spec, true) } else { extractable(spec) };
        private.extend(flags);
        private.extend_from_slice(names);
        let bits = Attribute::Number(sys::CKA_MODULUS_BITS, spec.bits().try_into().unwrap_or(0));
        let parameters = public::ec_parameters(spec).unwrap_or_default();
        let mut public = vec![Attribute::Flag(sys::CKA_TOKEN, on_token), Attribute::Flag(sys::CKA_PRIVATE, false)];
        public.push(Attribute::Flag(sys::CKA_VERIFY, true));
        public.extend_from_slice(names);
        let mechanism = match spec.key_type() {
            KeyType::Rsa => {
                public.extend([
                    bits,
                    Attribute::Bytes(sys::CKA_PUBLIC_EXPONENT, &PUBLIC_EXPONENT),
                    Attribute::Flag(sys::CKA_ENCRYPT, true),
                ]);
                Mechanism::GenerateRsa
            }
            KeyType::Ec | KeyType::Okp => {
                public.push(Attribute::Bytes(sys::CKA_EC_PARAMS, &parameters));
                if spec.key_type() == KeyType::Okp { Mechanism::GenerateEdwards } else { Mechanism::GenerateEc }
            }
            KeyType::Aes | KeyType::Hmac => {
                private.push(Attribute::Number(sys::CKA_VALUE_LEN, spec.bytes().try_into().unwrap_or(0)));
                return self.make_secret(spec, private, on_token, mechanisms);
            }
        };
        let made = if on_token {
            self.with_limits(private, mechanisms, |token, private| token.generate_pair(mechanism, &public, private))
        } else {
            self.token.generate_pair(mechanism, &public, &private)
        };
        let (public, private) = made.map_err(unsupported)?;
        Ok(Fresh { private, public: PublicPart::Object(public) })
    }

    /// On the token limited to the mechanisms of its kind, and to ECB for its check value; the session
    /// original of a wrapped key lives too briefly to need limits.
    fn make_secret(
        &mut self,
        spec: KeySpec,
        template: Vec<Attribute<'_>>,
        on_token: bool,
        mechanisms: Vec<sys::CK_MECHANISM_TYPE>,
    ) -> Result<Fresh, Trouble> {
        let is_hmac = spec.key_type() == KeyType::Hmac;
        let mechanism = if is_hmac { Mechanism::GenerateSecret } else { Mechanism::GenerateAes };
        let made = if on_token {
            self.with_limits(template, mechanisms, |token, template| token.generate_key(mechanism, template))
        } else {
            self.token.generate_key(mechanism, &template)
        };
        Ok(Fresh { private: made.map_err(unsupported)?, public: PublicPart::Nothing })
    }

    /// The statement that describes a new key: its blob, and its public key or check value.
    fn describe(
        &mut self,
        wanted: &NewVersion,
        fresh: &Fresh,
        check_value: Option<Vec<u8>>,
    ) -> Result<KeyStatement, Trouble> {
        let spec = wanted.spec;
        let blob = match wanted.residency {
            Residency::Wrapped => {
                let under = self.proved_wrapping_key(wanted.kek.as_ref())?;
                let wrapped = match (self.token.wrap(self.wrapping, under, fresh.private), &wanted.kek) {
                    // Its object was taken away and put back, or is gone: it is looked for once more.
                    (Err(failed), Some(kek)) if failed.class() == Class::StaleHandle => {
                        self.keks.remove(&kek.id);
                        let under = self.proved_wrapping_key(Some(kek))?;
                        self.token.wrap(self.wrapping, under, fresh.private)
                    }
                    (wrapped, _) => wrapped,
                };
                wrapped.map_err(|failed| not_wrapped(spec, failed))?
            }
            Residency::Token | Residency::Public => Vec::new(),
        };
        let public = match &fresh.public {
            PublicPart::Object(public) => self.read_public(spec, *public)?,
            PublicPart::Known(spki) => spki.clone(),
            PublicPart::Nothing => Vec::new(),
        };
        let check_value = match check_value {
            Some(known) => known,
            None if spec.key_type().is_secret() => self.new_check_value(spec, fresh.private)?,
            None => Vec::new(),
        };
        Ok(statement_of(wanted, blob, public, check_value))
    }

    /// The public key of a new pair, as SubjectPublicKeyInfo (DER).
    pub(super) fn read_public(&mut self, spec: KeySpec, key: Handle) -> Result<Vec<u8>, Trouble> {
        let public = match spec.key_type() {
            KeyType::Rsa => {
                let modulus = self.token.attribute(key, sys::CKA_MODULUS)?;
                let exponent = self.token.attribute(key, sys::CKA_PUBLIC_EXPONENT)?;
                Public::rsa(spec, &modulus, &exponent)
                    .ok()
                    .filter(|key| matches!(key, Public::Rsa { exponent, .. } if *exponent == PUBLIC_EXPONENT))
            }
            KeyType::Ec => Public::ec(spec, &self.token.attribute(key, sys::CKA_EC_POINT)?).ok(),
            KeyType::Okp => Public::ed25519(&self.token.attribute(key, sys::CKA_EC_POINT)?).ok(),
            KeyType::Aes | KeyType::Hmac => None,
        };
        public
            .and_then(|public| public.to_spki(spec).ok())
            .ok_or_else(|| nonsense(Function::GenerateKeyPair, "a public key of another kind"))
    }

    /// Loads a new key like at every later time, and uses it once.
    pub(super) fn prove_by_use(&mut self, statement: &KeyStatement) -> Result<(), Trouble> {
        let key = self.load_private(statement)?;
        let used = match statement.spec.key_type() {
            KeyType::Rsa => self.proves_rsa(statement, key),
            // Loading such a key has signed with it already.
            KeyType::Ec | KeyType::Okp | KeyType::Hmac => Ok(true),
            KeyType::Aes => self.proves_aes_in_some_way(key),
        };
        if statement.residency == Residency::Wrapped {
            self.discard(key);
        }
        if used? { Ok(()) } else { Err(Fault::KeyMismatch.into()) }
    }

    fn proves_rsa(&mut self, statement: &KeyStatement, key: Handle) -> Result<bool, Trouble> {
        let Ok(public) = Public::from_spki(statement.spec, &statement.public) else { return Ok(false) };
        let digest = self.random_digest(proof_digest(statement.spec))?;
        let data = public::digest_info(Digest::Sha256, &digest).map_err(|_| Trouble::Fault(Fault::Protocol))?;
        let signature = self.token.sign(Mechanism::RsaPkcs, key, &data, statement.spec.bytes())?;
        Ok(public.confirms(statement.spec, &digest, &signature))
    }

    /// By AES-GCM; where the module has none, by a block alone.
    fn proves_aes_in_some_way(&mut self, key: Handle) -> Result<bool, Trouble> {
        match self.proves_aes(key) {
            Err(Trouble::Failed(failed)) if failed.is_unsupported() => {
                let ciphertext = self.token.encrypt(Mechanism::Ecb, key, &[7; 16], 16)?;
                let plaintext = self.token.decrypt(Mechanism::Ecb, key, &ciphertext, ciphertext.len())?;
                Ok(plaintext.expose_secret() == [7; 16] && ciphertext != [7; 16])
            }
            proved => proved,
        }
    }

    /// That a key decrypts what it encrypted, by AES-GCM.
    pub(crate) fn proves_aes(&mut self, key: Handle) -> Result<bool, Trouble> {
        let mut iv = [0; GCM_IV_BYTES];
        self.token.random(&mut iv)?;
        let mechanism = Mechanism::Gcm { iv: &iv, additional_data: b"proof" };
        let ciphertext = self.token.encrypt(mechanism, key, &[0; 16], 16 + GCM_TAG_BYTES)?;
        let plaintext = self.token.decrypt(mechanism, key, &ciphertext, ciphertext.len())?;
        Ok(plaintext.expose_secret() == [0; 16] && ciphertext.len() == 16 + GCM_TAG_BYTES)
    }
}

/// The template of a new key that is about to be wrapped: a session object, extractable, and sensitive,
/// so that it can leave only wrapped.
pub(super) fn extractable(spec: KeySpec) -> Vec<Attribute<'static>> {
    vec![
        Attribute::Number(sys::CKA_CLASS, private_class(spec)),
        Attribute::Number(sys::CKA_KEY_TYPE, key_type(spec)),
        Attribute::Flag(sys::CKA_TOKEN, false),
        Attribute::Flag(sys::CKA_PRIVATE, true),
        Attribute::Flag(sys::CKA_SENSITIVE, true),
        Attribute::Flag(sys::CKA_EXTRACTABLE, true),
    ]
}

/// Why a new key could not be wrapped. SoftHSM 2.6.1 makes Ed25519 keys, and does not wrap them.
fn not_wrapped(spec: KeySpec, failed: Failed) -> Trouble {
    if !failed.is_unsupported() {
        return failed.into();
    }
    let (name, function, code) = (spec.name(), failed.function.name(), failed.code);
    Trouble::Fault(Fault::Unsupported(format!(
        "{function} returned {code} for {name}: such a key cannot be wrapped, so it can only live on the token \
         (residency TOKEN, `--residency token`)"
    )))
}

/// CKA_LABEL of a token key, for whoever lists the token.
pub(super) fn label(version: [u8; 16]) -> String {
    use std::fmt::Write as _;
    let mut label = String::from("strongroom:");
    for byte in version {
        let _ = write!(label, "{byte:02x}");
    }
    label
}

pub(super) fn naming<'a>(version: &'a [u8; 16], label: &'a str) -> [Attribute<'a>; 2] {
    [Attribute::Bytes(sys::CKA_ID, version), Attribute::Bytes(sys::CKA_LABEL, label.as_bytes())]
}

/// A statement for proving a new key, never sealed or stored: every operation of its kind, no name.
pub(crate) fn statement_of(wanted: &NewVersion, blob: Vec<u8>, public: Vec<u8>, check_value: Vec<u8>) -> KeyStatement {
    let NewVersion { spec, residency, version, kek } = *wanted;
    let ops: KeyOps = residency.possible_ops(spec);
    KeyStatement {
        vault: String::new(),
        key: String::new(),
        version,
        spec,
        ops,
        enabled: true,
        not_before: None,
        expires: None,
        residency,
        blob,
        public,
        check_value,
        created: 0,
        revision: 0,
        rest: Vec::new(),
        kek: kek.map(|kek| kek.id),
    }
}
