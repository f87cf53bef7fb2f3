//! Brings keys in from outside.
//!
//! A secret passes through this process in the clear, once: it goes into the module, and is proved to have
//! arrived whole by what the module then computes with it. From there on it is a key like any other, but for
//! its check value. A generated key's tells three bytes that it made of a constant; an imported one may be
//! guessed, and may stand on the token without having been born there, so its check is long, and made so that
//! only this HSM can make it:
//!
//! ```text
//! check = HMAC-SHA256(sealing key, tag | mark)
//! mark  = AES(key, MARKED) or HMAC-SHA256(key, MARKED); of a private key, its public half
//! ```

use aws_lc_rs::{
    cipher::{AES_128, AES_192, AES_256, EncryptingKey, UnboundCipherKey},
    constant_time::verify_slices_are_equal,
    hmac,
};
use cryptoki_sys as sys;

use super::{
    code::Function,
    engine::{Engine, MAC_BYTES, Trouble, nonsense, unsupported},
    generate::{Fresh, PublicPart, extractable, label, naming, statement_of},
    load::{CKA_NSS_DB, point_of, sealed_in, usage},
    private, public,
    token::{Attribute, Block, Handle},
};
use crate::{
    algorithms::{Digest, KeySpec, KeyType},
    material::Material,
    protocol::{Fault, Generated, NewVersion},
    statement::{IMPORTED_CHECK_BYTES, KeyStatement, Residency},
};

// By its length a check is told from that of a generated key.
const _: () = assert!(MAC_BYTES == IMPORTED_CHECK_BYTES);
/// What an imported key makes its mark of. No counter block of AES-GCM begins so but by chance; the block of
/// zeros is the key of GHASH.
pub(crate) const MARKED: Block = *b"strongroom check";
const CHECK_TAG: &[u8] = b"strongroom.imported-key.v1\0";

impl Engine {
    /// Takes a key in and proves it. What is on the token must be synced before anybody hears of it.
    ///
    /// # Errors
    /// [`Fault::Protocol`] for material that the rim should have refused; [`Fault::Unsupported`] when the
    /// module does not take such a key; nothing is left behind.
    pub(crate) fn import(&mut self, wanted: &NewVersion, material: &Material) -> Result<Generated, Trouble> {
        match (material, wanted.residency) {
            (Material::Public(spki), Residency::Public) => self.import_public(wanted, spki),
            (Material::Secret(secret), Residency::Wrapped | Residency::Token) => {
                self.import_secret(wanted, secret.expose_secret())
            }
            (Material::Private { pkcs8, public }, Residency::Wrapped | Residency::Token) => {
                self.import_private(wanted, pkcs8.expose_secret(), public)
            }
            (Material::Public(_), _) | (_, Residency::Public) => Err(Fault::Protocol.into()),
        }
    }

    /// Nothing of it stays: it is loaded from its row like every public half. That the module takes it, and
    /// can say no by it, is tried here.
    fn import_public(&mut self, wanted: &NewVersion, spki: &[u8]) -> Result<Generated, Trouble> {
        let (found, Material::Public(spki)) = Material::public(spki).map_err(|_| Fault::Protocol)? else {
            return Err(Fault::Protocol.into());
        };
        if found != wanted.spec {
            return Err(Fault::Protocol.into());
        }
        let spki = spki.into_vec();
        let statement = statement_of(wanted, Vec::new(), spki, Vec::new());
        let key = self.load_public(&statement).map_err(Trouble::or_unsupported)?;
        let tried = self.refuses_nonsense(&statement, key);
        self.discard(key);
        if !tried? {
            return Err(nonsense(Function::Verify, "a signature of ones is right"));
        }
        Ok(Generated { blob: Vec::new().into(), public: statement.public.into(), check_value: Vec::new().into() })
    }

    fn import_secret(&mut self, wanted: &NewVersion, secret: &[u8]) -> Result<Generated, Trouble> {
        let NewVersion { spec, residency, version, .. } = *wanted;
        let expected = marked_elsewhere(spec, secret).ok_or(Fault::Protocol)?;
        let expected = self.imported_check(&expected)?;
        if residency == Residency::Token {
            self.refuse_existing(version)?;
        }
        let label = label(version);
        let names = naming(&version, &label);
        let names = if residency == Residency::Token { &names[..] } else { &[] };
        let fresh = Fresh { private: self.create_secret(spec, residency, names, secret)?, public: PublicPart::Nothing };
        // Proving compares the check of what is loaded with this one: that of what was sent.
        self.finish(wanted, &fresh, Some(expected))
    }

    /// Its public half proves a private key: what is loaded must sign for it.
    fn import_private(&mut self, wanted: &NewVersion, pkcs8: &[u8], public: &[u8]) -> Result<Generated, Trouble> {
        let (found, derived) = private::look_at(pkcs8).map_err(|_| Fault::Protocol)?;
        if found != wanted.spec || derived != public {
            return Err(Fault::Protocol.into());
        }
        let check = self.imported_check(&derived)?;
        if wanted.residency == Residency::Token {
            self.refuse_existing(wanted.version)?;
        }
        let private = self.create_private(wanted, pkcs8, &derived)?;
        self.finish(wanted, &Fresh { private, public: PublicPart::Known(derived) }, Some(check))
    }

    /// The private key as an object: extractable in a session, to be wrapped, or closed on the token.
    fn create_private(&mut self, wanted: &NewVersion, pkcs8: &[u8], spki: &[u8]) -> Result<Handle, Trouble> {
        let NewVersion { spec, residency, version, .. } = *wanted;
        let on_token = residency == Residency::Token;
        let parameters = public::ec_parameters(spec).unwrap_or_default();
        let label = label(version);
        let (flags, mechanisms) = usage(spec, spec.possible_ops());
        let mut template = if on_token { sealed_in(spec, true) } else { extractable(spec) };
        template.extend(flags);
        if on_token {
            template.extend(naming(&version, &label));
        }
        template.extend(private::attributes(spec, pkcs8, &parameters).map_err(|_| Fault::Protocol)?);
        let point = point_of(spec, spki);
        let create = |engine: &mut Self, template: Vec<Attribute<'_>>| {
            if on_token {
                engine.with_limits(template, mechanisms.clone(), |token, template| token.create(template))
            } else {
                engine.token.create(&template)
            }
        };
        let created = match create(self, template.clone()) {
            // NSS softokn wants the public point beside an EC key.
            Err(failed) if failed.wants_more() && !point.is_empty() => {
                template.push(Attribute::Bytes(CKA_NSS_DB, &point));
                create(self, template)
            }
            other => other,
        };
        created.map_err(unsupported)
    }

    /// The secret as an object: extractable in a session, to be wrapped, or closed on the token.
    pub(crate) fn create_secret(
        &mut self,
        spec: KeySpec,
        residency: Residency,
        names: &[Attribute<'_>],
        secret: &[u8],
    ) -> Result<Handle, Trouble> {
        let on_token = residency == Residency::Token;
        let (flags, mechanisms) = usage(spec, spec.possible_ops());
        let mut template = if on_token { sealed_in(spec, true) } else { extractable(spec) };
        template.extend(flags);
        template.extend_from_slice(names);
        template.push(Attribute::Bytes(sys::CKA_VALUE, secret));
        let made = if on_token {
            self.with_limits(template, mechanisms, |token, template| token.create(template))
        } else {
            self.token.create(&template)
        };
        made.map_err(unsupported)
    }

    /// The check value of an imported key, from its mark.
    pub(crate) fn imported_check(&mut self, mark: &[u8]) -> Result<Vec<u8>, Trouble> {
        let sealing = self.sealing.ok_or(Fault::Protocol)?;
        self.mac(sealing, &[CHECK_TAG, mark].concat())
    }

    /// Whether a loaded key is the one that was imported under this statement.
    pub(crate) fn is_the_imported(&mut self, statement: &KeyStatement, key: Handle) -> Result<bool, Trouble> {
        let mark = self.mark(statement, key)?;
        for sealing in [self.sealing, self.other_sealing].into_iter().flatten() {
            let check = self.mac(sealing, &[CHECK_TAG, &mark].concat())?;
            if verify_slices_are_equal(&check, &statement.check_value).is_ok() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What a loaded secret key makes of a constant.
    pub(crate) fn mark(&mut self, statement: &KeyStatement, key: Handle) -> Result<Vec<u8>, Trouble> {
        if statement.spec.key_type() == KeyType::Hmac {
            self.mac(key, &MARKED)
        } else {
            self.encrypt_block(statement, key, MARKED)
        }
    }

    /// That the public half is used, and finds a signature of ones wrong. Over a random digest or message: for
    /// one that is known beforehand, a public key can be made whose signature that is.
    fn refuses_nonsense(&mut self, statement: &KeyStatement, key: Handle) -> Result<bool, Trouble> {
        let mut algorithms = statement.spec.algorithms();
        let algorithm = algorithms.find(|algorithm| algorithm.signs()).ok_or(Fault::Protocol)?;
        let input = self.random_digest(algorithm.signature_digest().unwrap_or(Digest::Sha256))?;
        let signature = vec![1; algorithm.output_bytes(statement.spec)];
        self.verify(statement, key, algorithm, &input, &signature).map(|right| !right)
    }
}

/// The second opinion: the mark of a key, by aws-lc-rs. `None` when no such key has that length.
fn marked_elsewhere(spec: KeySpec, secret: &[u8]) -> Option<Vec<u8>> {
    if secret.len() != spec.bytes() {
        return None;
    }
    let algorithm = match spec {
        KeySpec::Aes128 => &AES_128,
        KeySpec::Aes192 => &AES_192,
        KeySpec::Aes256 => &AES_256,
        _ if spec.key_type() == KeyType::Hmac => {
            return Some(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), &MARKED).as_ref().to_vec());
        }
        _ => return None,
    };
    let mut block = MARKED;
    EncryptingKey::ecb(UnboundCipherKey::new(algorithm, secret).ok()?).ok()?.encrypt(&mut block).ok()?;
    Some(block.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_another_length_or_kind_has_no_mark() {
        assert!(marked_elsewhere(KeySpec::Aes256, &[7; 32]).is_some_and(|mark| mark.len() == 16));
        assert!(marked_elsewhere(KeySpec::Hmac512, &[7; 64]).is_some_and(|mark| mark.len() == 32));
        for (spec, bytes) in [(KeySpec::Aes256, 31), (KeySpec::Aes128, 0), (KeySpec::Hmac512, 63), (KeySpec::P256, 32)]
        {
            assert_eq!(marked_elsewhere(spec, &vec![7; bytes]), None, "{} {bytes}", spec.name());
        }
        assert_ne!(marked_elsewhere(KeySpec::Aes128, &[7; 16]), marked_elsewhere(KeySpec::Aes128, &[8; 16]));
    }
}
