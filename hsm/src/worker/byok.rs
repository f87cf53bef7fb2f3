//! A key that another HSM has wrapped for one of ours, as Azure's BYOK has it: `CKM_RSA_AES_KEY_WRAP` (PKCS#11 3.1 section
//! 6.1.21), undone in two unwraps inside the HSM, since SoftHSM 2.6.1 lacks the mechanism.
//!
//! ```text
//! blob   = RSA-OAEP(KEK, AES key), SHA-1 and an empty label | AES-KWP(AES key, target), RFC 5649
//! target = PrivateKeyInfo in DER (PKCS#8), or the bytes of a secret
//! ```
//!
//! Nothing of a right blob is ever in this process in the clear, so what is known of the key comes from what it does in the HSM: an EC
//! key's point from two of its signatures. Whoever made the blob knew the key, so it counts as imported.
//!
//! When a layer does not open it is looked for which, by trying. That tells nobody more of a blob than whether it opens.

use cryptoki_sys as sys;

use super::{
    code::{Class, Failed},
    engine::{Engine, Trouble, unsupported},
    generate::{Fresh, PublicPart, extractable, label, naming},
    import::MARKED,
    load::{CKA_NSS_DB, point_of, proof_digest, sealed_in, usage},
    oaep,
    private::PKCS8_BYTES_MAX,
    public::{self, Public},
    recover,
    token::{Attribute, Handle, Mechanism},
};
use crate::{
    algorithms::{KeyOps, KeySpec, KeyType},
    material::Material,
    protocol::{Fault, Generated, Layer, NewVersion},
    statement::{KeyStatement, Residency},
};

/// AES-KWP makes a secret longer by so much, once it is filled up to a multiple of it (RFC 5649 section 4.1).
const KWP_BYTES: usize = 8;
/// Two numbers as long as the modulus and five half as long; their encoding, and attributes.
const PKCS8_BYTES_PER_BYTE: usize = 5;
const PKCS8_BYTES_MORE: usize = 300;
/// Stands where a module wants a point that is not known yet.
const ANY_POINT: [u8; 65] = [4; 65];
/// What is told apart when something else is inside than was said.
const KINDS: [(KeySpec, &str); 2] = [(KeySpec::Rsa2048, "RSA"), (KeySpec::P256, "EC")];

impl Engine {
    /// Takes in a key that is wrapped for the loaded KEK of that statement. What is on the token must be synced before
    /// anybody hears of it.
    ///
    /// # Errors
    /// [`Fault::Layer`] says what is wrong with the blob; nothing is left behind.
    pub(crate) fn import_wrapped(
        &mut self,
        wanted: &NewVersion,
        statement: &KeyStatement,
        kek: Handle,
        blob: &[u8],
    ) -> Result<Generated, Trouble> {
        if wanted.residency == Residency::Public || wanted.spec.key_type() == KeyType::Okp {
            return Err(Fault::Protocol.into());
        }
        let (envelope, wrapped) = split(statement.spec, wanted.spec, blob)?;
        if wanted.residency == Residency::Token {
            self.refuse_existing(wanted.version)?;
        }
        let aes = self.open_envelope(statement, kek, envelope)?;
        let target = self.open_target_or_point(wanted, aes, wrapped);
        self.discard(aes);
        let private = target?;
        let described = self
            .describe_target(wanted.spec, private)
            .and_then(|(public, mark)| Ok((public, self.imported_check(&mark)?)));
        let (public, check) = match described {
            Ok(described) => described,
            Err(trouble) => {
                // It may be extractable: one that cannot be destroyed is a failure of its own.
                self.token.destroy(private)?;
                return Err(trouble);
            }
        };
        self.finish(wanted, &Fresh { private, public }, Some(check)).map_err(|trouble| self.unsound(trouble))
    }

    /// What a key that came in does not do is said of the key, as long as the token lives.
    fn unsound(&mut self, trouble: Trouble) -> Trouble {
        let is_the_keys = match &trouble {
            Trouble::Fault(Fault::KeyMismatch | Fault::BlobBroken) => true,
            Trouble::Failed(failed) => {
                matches!(failed.class(), Class::Verdict | Class::VerdictOrToken | Class::Suspect)
            }
            Trouble::Fault(_) => false,
        };
        if is_the_keys && self.check_canary().is_ok() {
            let why = "does not do what a key of its kind does, or its private half is not that of its public half";
            return Fault::Layer(Layer::Unsound(why.to_owned())).into();
        }
        trouble
    }

    /// The AES key in the envelope, for unwrapping alone.
    fn open_envelope(&mut self, statement: &KeyStatement, kek: Handle, envelope: &[u8]) -> Result<Handle, Trouble> {
        let mut template = sealed_in(KeySpec::Aes256, false);
        template.push(Attribute::Flag(sys::CKA_UNWRAP, true));
        let others =
            [sys::CKA_ENCRYPT, sys::CKA_DECRYPT, sys::CKA_WRAP, sys::CKA_SIGN, sys::CKA_VERIFY, sys::CKA_DERIVE];
        template.extend(others.map(|other| Attribute::Flag(other, false)));
        match self.token.unwrap(Mechanism::RsaOaep, kek, envelope, &template) {
            Ok(key) => Ok(key),
            Err(failed) => {
                // Only of what the module says is no envelope: what is right never comes out.
                if !matches!(failed.class(), Class::Verdict | Class::VerdictOrToken) {
                    return Err(unsupported(failed));
                }
                let layer = if self.is_oaep_sha256(statement, envelope)? { Layer::OaepHash } else { Layer::Oaep };
                Err(self.verdict(failed, Fault::Layer(layer)))
            }
        }
    }

    /// Whether it is an envelope of the other hash in use: told, since that is the mistake that people make.
    fn is_oaep_sha256(&mut self, statement: &KeyStatement, envelope: &[u8]) -> Result<bool, Trouble> {
        let key = self.unwrap_blob(statement, KeyOps::DECRYPT)?;
        let raw = self.token.decrypt(Mechanism::RsaRaw, key, envelope, statement.spec.bytes());
        self.discard(key);
        Ok(raw.is_ok_and(|raw| oaep::decode(statement.spec.bytes(), raw.expose_secret()).is_some()))
    }

    /// The key inside. NSS softokn wants the public point beside an EC key, of which nothing is known yet: with another in
    /// its place it is opened, to be asked for its own.
    fn open_target_or_point(&mut self, wanted: &NewVersion, aes: Handle, wrapped: &[u8]) -> Result<Handle, Trouble> {
        match self.open_target(wanted, aes, wrapped, &[]) {
            Err(Trouble::Failed(failed)) if failed.wants_more() && wanted.spec.key_type() == KeyType::Ec => {
                let in_session = NewVersion { residency: Residency::Wrapped, ..*wanted };
                let trial = self.open_target(&in_session, aes, wrapped, &ANY_POINT)?;
                let described = self.describe_target(wanted.spec, trial);
                self.token.destroy(trial)?;
                let (_, spki) = described?;
                self.open_target(wanted, aes, wrapped, &point_of(wanted.spec, &spki))
            }
            opened => opened,
        }
    }

    /// Extractable in a session, to be wrapped, or closed on the token.
    fn open_target(
        &mut self,
        wanted: &NewVersion,
        aes: Handle,
        wrapped: &[u8],
        point: &[u8],
    ) -> Result<Handle, Trouble> {
        let NewVersion { spec, residency, version, .. } = *wanted;
        let on_token = residency == Residency::Token;
        let label = label(version);
        let (flags, mechanisms) = usage(spec, spec.possible_ops());
        let mut template = if on_token { sealed_in(spec, true) } else { extractable(spec) };
        template.extend(flags);
        template.extend((!point.is_empty()).then_some(Attribute::Bytes(CKA_NSS_DB, point)));
        let wrapping = self.wrapping;
        let opened = if on_token {
            template.extend(naming(&version, &label));
            self.with_limits(template, mechanisms, |token, template| token.unwrap(wrapping, aes, wrapped, template))
        } else {
            self.token.unwrap(wrapping, aes, wrapped, &template)
        };
        opened.map_err(|failed| {
            let lacks_point = failed.wants_more() && spec.key_type() == KeyType::Ec && point.is_empty();
            if lacks_point { failed.into() } else { self.why_not_opened(spec, aes, wrapped, failed) }
        })
    }

    /// Which layer it is: the wrapping, the encoding, or the kind of key.
    fn why_not_opened(&mut self, spec: KeySpec, aes: Handle, wrapped: &[u8], failed: Failed) -> Trouble {
        let mut opens = |template: &[Attribute<'_>]| match self.token.unwrap(self.wrapping, aes, wrapped, template) {
            Ok(key) => {
                self.discard(key);
                true
            }
            Err(_) => false,
        };
        let bytes = [
            Attribute::Number(sys::CKA_CLASS, sys::CKO_SECRET_KEY),
            Attribute::Number(sys::CKA_KEY_TYPE, sys::CKK_GENERIC_SECRET),
            Attribute::Flag(sys::CKA_TOKEN, false),
            Attribute::Flag(sys::CKA_PRIVATE, true),
            Attribute::Flag(sys::CKA_SENSITIVE, true),
            Attribute::Flag(sys::CKA_EXTRACTABLE, false),
        ];
        let layer = if !opens(&bytes) {
            Layer::KeyWrap
        } else {
            let mut others = KINDS.into_iter().filter(|(other, _)| other.key_type() != spec.key_type());
            let other = others.find(|(other, _)| {
                let mut template = sealed_in(*other, false);
                opens(&template) || {
                    template.push(Attribute::Bytes(CKA_NSS_DB, &ANY_POINT));
                    opens(&template)
                }
            });
            other.map_or(Layer::Encoding, |(_, name)| Layer::KeyType(name.to_owned()))
        };
        // The template fits every key that is what was said.
        if failed.wants_more() || failed.refuses_template() {
            return self.check_canary().err().unwrap_or(Trouble::Fault(Fault::Layer(layer)));
        }
        self.verdict(failed, Fault::Layer(layer))
    }

    /// Its public half, and what its check value is made of.
    fn describe_target(&mut self, spec: KeySpec, key: Handle) -> Result<(PublicPart, Vec<u8>), Trouble> {
        let public = match spec.key_type() {
            KeyType::Rsa => self.rsa_half(spec, key)?,
            KeyType::Ec => self.ec_half(spec, key)?,
            KeyType::Aes => return Ok((PublicPart::Nothing, self.encrypt_with(key, MARKED)?)),
            KeyType::Hmac => return Ok((PublicPart::Nothing, self.mac(key, &MARKED)?)),
            KeyType::Okp => return Err(Fault::Protocol.into()),
        };
        let spki = public.to_spki(spec).map_err(|_| Fault::Layer(Layer::Encoding))?;
        // All that is asked of a public key is asked of this one. That the private half is its own is proved by use.
        match Material::public(&spki) {
            Ok((found, _)) if found == spec => Ok((PublicPart::Known(spki.clone()), spki)),
            Ok((found, _)) => Err(Fault::Layer(Layer::Kind(found)).into()),
            Err(why) => Err(Fault::Layer(Layer::Unsound(why.to_string())).into()),
        }
    }

    fn rsa_half(&mut self, spec: KeySpec, key: Handle) -> Result<Public, Trouble> {
        let modulus = self.token.attribute(key, sys::CKA_MODULUS)?;
        if modulus.is_empty() && !self.token.attribute(key, sys::CKA_EC_PARAMS)?.is_empty() {
            return Err(Fault::Layer(Layer::KeyType("EC".to_owned())).into());
        }
        let exponent = self.token.attribute(key, sys::CKA_PUBLIC_EXPONENT)?;
        let bits = 8 * modulus.len() - modulus.first().map_or(0, |first| first.leading_zeros() as usize);
        if bits != spec.bits() {
            return Err(Fault::Layer(Layer::Bits(bits)).into());
        }
        Public::rsa(spec, &modulus, &exponent).map_err(|_| Fault::Layer(Layer::Encoding).into())
    }

    fn ec_half(&mut self, spec: KeySpec, key: Handle) -> Result<Public, Trouble> {
        let parameters = self.token.attribute(key, sys::CKA_EC_PARAMS)?;
        // NSS softokn goes by what is inside, whatever the template says that it is.
        if parameters.is_empty() && !self.token.attribute(key, sys::CKA_MODULUS)?.is_empty() {
            return Err(Fault::Layer(Layer::KeyType("RSA".to_owned())).into());
        }
        if public::ec_parameters(spec).is_none_or(|expected| expected != parameters) {
            let specs = KeySpec::ALL.into_iter();
            let found =
                specs.into_iter().find(|spec| public::ec_parameters(*spec).is_some_and(|own| own == parameters));
            return Err(Fault::Layer(found.map_or(Layer::Encoding, Layer::Kind)).into());
        }
        let mut signed = || {
            let digest = self.random_digest(proof_digest(spec))?;
            let signature = self.token.sign(Mechanism::Ecdsa, key, &digest, 2 * spec.bytes())?;
            Ok::<_, Trouble>((digest, signature))
        };
        let (first, second) = (signed()?, signed()?);
        let points = recover::points(spec, &first.0, &first.1);
        let publics = points.into_iter().map(|point| Public::Ec { point });
        // Two keys or four explain one signature, one key explains two.
        publics
            .into_iter()
            .find(|public| public.confirms(spec, &second.0, &second.1))
            .ok_or_else(|| Fault::Layer(Layer::Unsound("does not sign as a key of its curve does".to_owned())).into())
    }
}

/// The two parts, when their lengths can be.
fn split(kek: KeySpec, spec: KeySpec, blob: &[u8]) -> Result<(&[u8], &[u8]), Trouble> {
    let wrong = |why: String| Trouble::Fault(Fault::Layer(Layer::Length(why)));
    let envelope_bytes = kek.bytes();
    let Some((envelope, wrapped)) = blob.split_at_checked(envelope_bytes) else {
        return Err(wrong(format!(
            "has {} bytes; the part under an RSA key of this size alone has {envelope_bytes}",
            blob.len()
        )));
    };
    if wrapped.len() < 2 * KWP_BYTES || !wrapped.len().is_multiple_of(KWP_BYTES) {
        let found = wrapped.len();
        return Err(wrong(format!(
            "has {found} bytes after the first {envelope_bytes}: AES-KWP makes multiples of 8, from 16"
        )));
    }
    // Numbers of other sizes than the modulus has would keep the HSM busy for hours.
    let is_rsa = spec.key_type() == KeyType::Rsa;
    let most = if is_rsa { PKCS8_BYTES_PER_BYTE * spec.bytes() + PKCS8_BYTES_MORE } else { PKCS8_BYTES_MAX };
    if wrapped.len() > most {
        return Err(wrong(format!(
            "has {} bytes after the first {envelope_bytes}: no {} key is so long",
            wrapped.len(),
            spec.name()
        )));
    }
    let expected = spec.bytes().next_multiple_of(KWP_BYTES) + KWP_BYTES;
    if spec.key_type().is_secret() && wrapped.len() != expected {
        let held = wrapped.len() - KWP_BYTES;
        return Err(wrong(format!("holds a key of about {held} bytes; {} has {}", spec.name(), spec.bytes())));
    }
    Ok((envelope, wrapped))
}
