//! From a statement to handles: unwraps or finds a key and proves that it is the one the statement
//! describes. A key that is not is destroyed and refused.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use cryptoki_sys::{self as sys, CK_MECHANISM_TYPE};

use super::{
    code::{Class, Function},
    engine::{Engine, Trouble, nonsense, unmet},
    public::Public,
    token::{Attribute, Block, Handle, Mechanism, Outcome},
};
use crate::{
    algorithms::{Digest, KeyOps, KeySpec, KeyType, Scheme},
    protocol::Fault,
    statement::{KeyStatement, Residency},
};

/// The length of a check value: that of CKA_CHECK_VALUE (PKCS#11 3.1 section 4.10.2).
const CHECK_VALUE_BYTES: usize = 3;
/// What an HMAC key makes its check value of.
const CHECK_MESSAGE: &[u8] = b"strongroom check value";

/// The attribute in which a module that wants it takes the public point of an EC key that it unwraps: PKCS#8
/// need not have it, and PKCS#11 has no attribute for it on a private key. NSS's own, CKA_NSS_DB.
pub(crate) const CKA_NSS_DB: sys::CK_ATTRIBUTE_TYPE = 0xd5a0_db00;

/// CKO_* of the object that holds the private or secret part.
pub(crate) const fn private_class(spec: KeySpec) -> sys::CK_OBJECT_CLASS {
    match spec.key_type() {
        KeyType::Rsa | KeyType::Ec | KeyType::Okp => sys::CKO_PRIVATE_KEY,
        KeyType::Aes | KeyType::Hmac => sys::CKO_SECRET_KEY,
    }
}

/// CKK_* of a kind of key.
pub(crate) const fn key_type(spec: KeySpec) -> sys::CK_KEY_TYPE {
    match spec.key_type() {
        KeyType::Rsa => sys::CKK_RSA,
        KeyType::Ec => sys::CKK_EC,
        KeyType::Okp => sys::CKK_EC_EDWARDS,
        KeyType::Aes => sys::CKK_AES,
        KeyType::Hmac => sys::CKK_GENERIC_SECRET,
    }
}

/// What a private or secret key with these operations may do in the token, and with which mechanisms:
/// nothing that the statement does not permit, and never wrap or derive; unwrap only what brings keys in. A caller's
/// key is wrapped by encrypting its bytes. Every HMAC key makes MACs: verifying is making one again, and so is its
/// check value.
pub(crate) fn usage(spec: KeySpec, ops: KeyOps) -> (Vec<Attribute<'static>>, Vec<CK_MECHANISM_TYPE>) {
    let may = |either: KeyOps| either.iter().any(|(op, _)| ops.contains(op));
    let signs = may(KeyOps::SIGN) || spec.key_type() == KeyType::Hmac;
    let encrypts = spec.key_type() == KeyType::Aes && may(KeyOps::ENCRYPT.union(KeyOps::WRAP_KEY));
    let decrypts =
        matches!(spec.key_type(), KeyType::Rsa | KeyType::Aes) && may(KeyOps::DECRYPT.union(KeyOps::UNWRAP_KEY));
    let imports = spec.key_type() == KeyType::Rsa && ops.contains(KeyOps::IMPORT);
    let mut flags = vec![
        Attribute::Flag(sys::CKA_SIGN, signs),
        Attribute::Flag(sys::CKA_DECRYPT, decrypts),
        Attribute::Flag(sys::CKA_UNWRAP, imports),
        Attribute::Flag(sys::CKA_DERIVE, false),
    ];
    let mut mechanisms = Vec::new();
    match spec.key_type() {
        KeyType::Rsa => {
            flags.push(Attribute::Flag(sys::CKA_SIGN_RECOVER, false));
            if signs {
                mechanisms.extend([sys::CKM_RSA_PKCS, sys::CKM_RSA_PKCS_PSS]);
            }
            if decrypts {
                mechanisms.extend([sys::CKM_RSA_PKCS_OAEP, sys::CKM_RSA_X_509]);
            }
            if imports {
                mechanisms.push(sys::CKM_RSA_PKCS_OAEP);
            }
        }
        KeyType::Ec => mechanisms.push(sys::CKM_ECDSA),
        KeyType::Okp => mechanisms.push(sys::CKM_EDDSA),
        KeyType::Aes => {
            if may(KeyOps::ENCRYPT.union(KeyOps::DECRYPT)) {
                mechanisms.extend([sys::CKM_AES_GCM, sys::CKM_AES_CBC]);
            }
            if may(KeyOps::WRAP_KEY.union(KeyOps::UNWRAP_KEY)) {
                mechanisms.push(sys::CKM_AES_ECB);
            }
        }
        KeyType::Hmac => mechanisms.extend(spec.algorithms().filter_map(|algorithm| match algorithm.scheme() {
            Scheme::Hmac(digest) => Some(Mechanism::Hmac(digest).number()),
            _ => None,
        })),
    }
    if spec.key_type().is_secret() {
        flags.extend([
            Attribute::Flag(sys::CKA_ENCRYPT, encrypts),
            Attribute::Flag(sys::CKA_WRAP, false),
            Attribute::Flag(sys::CKA_VERIFY, false),
        ]);
    }
    (flags, mechanisms)
}

/// The template of a private or secret key that can never leave the token.
pub(crate) fn sealed_in(spec: KeySpec, on_token: bool) -> Vec<Attribute<'static>> {
    vec![
        Attribute::Number(sys::CKA_CLASS, private_class(spec)),
        Attribute::Number(sys::CKA_KEY_TYPE, key_type(spec)),
        Attribute::Flag(sys::CKA_TOKEN, on_token),
        Attribute::Flag(sys::CKA_PRIVATE, true),
        Attribute::Flag(sys::CKA_SENSITIVE, true),
        Attribute::Flag(sys::CKA_EXTRACTABLE, false),
    ]
}

/// What a private key is loaded for. An EC or Ed25519 key proves itself by a signature: one that may not sign is loaded to be
/// proved, and no operation asks for it.
fn ops_to_prove(statement: &KeyStatement) -> KeyOps {
    match statement.spec.key_type() {
        KeyType::Ec | KeyType::Okp => statement.ops.union(KeyOps::SIGN),
        KeyType::Rsa | KeyType::Aes | KeyType::Hmac => statement.ops,
    }
}

impl Engine {
    /// The proved private or secret key of a statement.
    ///
    /// # Errors
    /// [`Fault::BlobBroken`], [`Fault::KeyAbsent`], [`Fault::KeyMismatch`], or the module's failure;
    /// [`Fault::NotPermitted`] when there is none: whatever is on the token, it is not this row's.
    pub(crate) fn load_private(&mut self, statement: &KeyStatement) -> Result<Handle, Trouble> {
        match statement.residency {
            Residency::Wrapped => {
                let key = self.unwrap_blob(statement, ops_to_prove(statement))?;
                let proved = self.prove(statement, key);
                if proved.is_err() {
                    self.discard(key);
                }
                proved.map(|()| key)
            }
            Residency::Token => {
                let key = self.find_on_token(statement)?;
                self.prove(statement, key).map(|()| key)
            }
            Residency::Public => Err(Fault::NotPermitted.into()),
        }
    }

    pub(crate) fn unwrap_blob(&mut self, statement: &KeyStatement, ops: KeyOps) -> Result<Handle, Trouble> {
        let under = self.wrapping_key(statement.kek)?;
        let (flags, mechanisms) = usage(statement.spec, ops);
        let mut template = sealed_in(statement.spec, false);
        template.extend(flags);
        self.open_blob(statement, under, &template, &mechanisms)
    }

    /// The key of a statement, out of its blob, as that template has it, limited to those mechanisms.
    pub(super) fn open_blob(
        &mut self,
        statement: &KeyStatement,
        under: Handle,
        template: &[Attribute<'_>],
        mechanisms: &[CK_MECHANISM_TYPE],
    ) -> Result<Handle, Trouble> {
        let unwrapped = match self.unwrap_as(statement, under, template, mechanisms) {
            Err(failed) if failed.wants_more() && statement.spec.key_type() == KeyType::Ec && !self.wants_point => {
                self.wants_point = true;
                // Only what works with the point shows that it was wanted.
                self.unwrap_as(statement, under, template, mechanisms).inspect_err(|_| self.wants_point = false)
            }
            other => other,
        };
        unwrapped.map_err(|failed| self.verdict(failed, Fault::BlobBroken))
    }

    fn unwrap_as(
        &mut self,
        statement: &KeyStatement,
        under: Handle,
        template: &[Attribute<'_>],
        mechanisms: &[CK_MECHANISM_TYPE],
    ) -> Outcome<Handle> {
        let point = if self.wants_point { point_of(statement.spec, &statement.public) } else { Vec::new() };
        let mut template = template.to_vec();
        template.extend((!point.is_empty()).then(|| Attribute::Bytes(CKA_NSS_DB, &point)));
        let wrapping = self.wrapping;
        if mechanisms.is_empty() {
            return self.token.unwrap(wrapping, under, &statement.blob, &template);
        }
        self.with_limits(template, mechanisms.to_vec(), |token, template| {
            token.unwrap(wrapping, under, &statement.blob, template)
        })
    }

    /// Refuses secret keys on a token that does not tell which keys were born on it. A private key proves
    /// itself by the public key in its row; a secret one by three bytes, which whoever has the PIN can match.
    ///
    /// # Errors
    /// [`Fault::Unsupported`].
    pub(crate) fn trusts_token_with(&self, spec: KeySpec) -> Result<(), Trouble> {
        if self.tells_birth || !spec.key_type().is_secret() {
            return Ok(());
        }
        Err(unmet("it does not tell keys that were born on the token from others, so no secret key is made there"))
    }

    fn find_on_token(&mut self, statement: &KeyStatement) -> Result<Handle, Trouble> {
        if !statement.is_imported_secret() {
            self.trusts_token_with(statement.spec)?;
        }
        let template = [
            Attribute::Number(sys::CKA_CLASS, private_class(statement.spec)),
            Attribute::Bytes(sys::CKA_ID, &statement.version),
            Attribute::Flag(sys::CKA_TOKEN, true),
        ];
        let found = self.token.find(&template)?;
        if found.is_empty() {
            // A token that is gone shows no objects and says that all is well: the canary knows better.
            self.check_canary()?;
        }
        let [key] = found[..] else {
            // None, or two of one version, which is not ours to choose between.
            return Err(Trouble::Fault(if found.is_empty() { Fault::KeyAbsent } else { Fault::KeyMismatch }));
        };
        self.is_closed(key, statement.is_imported())?;
        Ok(key)
    }

    /// That an object on the token was born there and was never readable: not one that somebody with the PIN has put in
    /// its place. An imported one was not born there; its check value or its public half tells it from every other.
    ///
    /// # Errors
    /// [`Fault::KeyMismatch`].
    pub(crate) fn is_closed(&mut self, key: Handle, is_imported: bool) -> Result<(), Trouble> {
        let closed = [(sys::CKA_SENSITIVE, 1), (sys::CKA_PRIVATE, 1), (sys::CKA_EXTRACTABLE, 0)];
        // Not every module tells the last.
        let born = [(sys::CKA_ALWAYS_SENSITIVE, 1), (sys::CKA_NEVER_EXTRACTABLE, 1), (sys::CKA_LOCAL, 1)];
        let told = match (is_imported, self.tells_birth) {
            (true, _) => 0,
            (false, true) => born.len(),
            (false, false) => born.len() - 1,
        };
        for (attribute, value) in closed.into_iter().chain(born.into_iter().take(told)) {
            if self.token.attribute(key, attribute)? != [value] {
                return Err(Trouble::Fault(Fault::KeyMismatch));
            }
        }
        Ok(())
    }

    /// That the key is the one that the statement describes.
    fn prove(&mut self, statement: &KeyStatement, key: Handle) -> Result<(), Trouble> {
        let right = match statement.spec.key_type() {
            KeyType::Rsa => self.has_modulus(statement, key)?,
            KeyType::Ec | KeyType::Okp => self.signs_for(statement, key)?,
            KeyType::Aes | KeyType::Hmac if statement.is_imported_secret() => self.is_the_imported(statement, key)?,
            KeyType::Aes | KeyType::Hmac => {
                let found = self.check_value(statement, key)?;
                found.len() == CHECK_VALUE_BYTES
                    && verify_slices_are_equal(&found, &statement.check_value).is_ok()
                    && self.has_length(statement, key)?
            }
        };
        if right { Ok(()) } else { Err(Trouble::Fault(Fault::KeyMismatch)) }
    }

    /// RSA: the modulus and, where the module keeps it with a private key, the exponent.
    fn has_modulus(&mut self, statement: &KeyStatement, key: Handle) -> Result<bool, Trouble> {
        let modulus = self.token.attribute(key, sys::CKA_MODULUS)?;
        let exponent = self.token.attribute(key, sys::CKA_PUBLIC_EXPONENT)?;
        let Ok(Public::Rsa { modulus: of_row, exponent: exponent_of_row }) =
            Public::from_spki(statement.spec, &statement.public)
        else {
            return Ok(false);
        };
        let exponent = if exponent.is_empty() { exponent_of_row.clone() } else { exponent };
        let found = Public::rsa(statement.spec, &modulus, &exponent);
        Ok(found == Ok(Public::Rsa { modulus: of_row, exponent: exponent_of_row }))
    }

    /// EC and Ed25519: signs a random digest, and software says whose signature it is.
    fn signs_for(&mut self, statement: &KeyStatement, key: Handle) -> Result<bool, Trouble> {
        let Ok(public) = Public::from_spki(statement.spec, &statement.public) else { return Ok(false) };
        let digest = self.random_digest(proof_digest(statement.spec))?;
        let length = 2 * statement.spec.bytes();
        let is_okp = statement.spec.key_type() == KeyType::Okp;
        let mechanism = if is_okp { Mechanism::Eddsa } else { Mechanism::Ecdsa };
        let signature = match self.token.sign(mechanism, key, &digest, length) {
            Ok(signature) => signature,
            // A key that cannot sign, if the token can; else it is the token that fails.
            Err(failed) if failed.class() == Class::Suspect => return self.check_canary().map(|()| false),
            Err(failed) => return Err(failed.into()),
        };
        Ok(public.confirms(statement.spec, &digest, &signature))
    }

    /// A random digest to be signed.
    pub(crate) fn random_digest(&mut self, digest: Digest) -> Result<Vec<u8>, Trouble> {
        let mut bytes = vec![0; digest.bytes()];
        self.token.random(&mut bytes)?;
        Ok(bytes)
    }

    /// A secret key's length. SoftHSM 2.6.1 does not tell that of an unwrapped key, but its blob does: a
    /// key under AES-KWP is eight bytes longer (RFC 5649 section 4.1).
    fn has_length(&mut self, statement: &KeyStatement, key: Handle) -> Result<bool, Trouble> {
        let length = statement.spec.bytes();
        match statement.residency {
            Residency::Wrapped | Residency::Public => Ok(statement.blob.len() == length + 8),
            Residency::Token => {
                let value_len: sys::CK_ULONG = length.try_into().unwrap_or(0);
                Ok(self.token.attribute(key, sys::CKA_VALUE_LEN)? == value_len.to_ne_bytes())
            }
        }
    }

    /// The check value of a secret key (see [`KeyStatement::check_value`]). SoftHSM 2.6.1 keeps none for an
    /// unwrapped key, so it is computed.
    fn check_value(&mut self, statement: &KeyStatement, key: Handle) -> Result<Vec<u8>, Trouble> {
        if statement.spec.key_type() == KeyType::Hmac {
            return self.mac_check_value(key);
        }
        let kept = self.token.attribute(key, sys::CKA_CHECK_VALUE)?;
        if kept.len() == CHECK_VALUE_BYTES {
            return Ok(kept);
        }
        let mut block = self.encrypt_block(statement, key, Block::default())?;
        block.truncate(CHECK_VALUE_BYTES);
        Ok(block)
    }

    /// Encrypts a single block with the key of a statement, for a proof.
    pub(crate) fn encrypt_block(
        &mut self,
        statement: &KeyStatement,
        key: Handle,
        block: Block,
    ) -> Result<Vec<u8>, Trouble> {
        // A key that wraps encrypts single blocks anyway, and one on the token was made for all its uses.
        if statement.ops.contains(KeyOps::WRAP_KEY) || statement.residency == Residency::Token {
            return self.encrypt_with(key, block);
        }
        // This one is narrowed to other operations: a second one is unwrapped for the proof alone.
        let other = self.unwrap_blob(statement, KeyOps::WRAP_KEY)?;
        let encrypted = self.encrypt_with(other, block);
        self.discard(other);
        encrypted
    }

    /// The check value of a secret key that may be used for all that its kind can.
    pub(crate) fn new_check_value(&mut self, spec: KeySpec, key: Handle) -> Result<Vec<u8>, Trouble> {
        if spec.key_type() == KeyType::Hmac {
            return self.mac_check_value(key);
        }
        let kept = self.token.attribute(key, sys::CKA_CHECK_VALUE)?;
        if kept.len() == CHECK_VALUE_BYTES { Ok(kept) } else { self.block_check_value(key) }
    }

    /// Makes a MAC of a constant.
    fn mac_check_value(&mut self, key: Handle) -> Result<Vec<u8>, Trouble> {
        let mut mac = self.mac(key, CHECK_MESSAGE)?;
        mac.truncate(CHECK_VALUE_BYTES);
        Ok(mac)
    }

    pub(crate) fn encrypt_with(&mut self, key: Handle, block: Block) -> Result<Vec<u8>, Trouble> {
        let encrypted = self.token.encrypt(Mechanism::Ecb, key, &block, block.len())?;
        if encrypted.len() == block.len() {
            Ok(encrypted)
        } else {
            Err(nonsense(Function::Encrypt, "a block of another length"))
        }
    }

    /// Encrypts a block of zeros.
    fn block_check_value(&mut self, key: Handle) -> Result<Vec<u8>, Trouble> {
        let mut block = self.encrypt_with(key, Block::default())?;
        block.truncate(CHECK_VALUE_BYTES);
        Ok(block)
    }

    /// A session object of the public key in a statement, for what its operations permit.
    pub(crate) fn load_public(&mut self, statement: &KeyStatement) -> Result<Handle, Trouble> {
        let public =
            Public::from_spki(statement.spec, &statement.public).map_err(|_| Trouble::Fault(Fault::KeyMismatch))?;
        let verifies = statement.ops.contains(KeyOps::VERIFY);
        let encrypts = statement.ops.contains(KeyOps::ENCRYPT) || statement.ops.contains(KeyOps::WRAP_KEY);
        self.create_public(statement.spec, &public, verifies, encrypts)
    }

    fn create_public(
        &mut self,
        spec: KeySpec,
        public: &Public,
        verifies: bool,
        encrypts: bool,
    ) -> Result<Handle, Trouble> {
        let mut template = vec![
            Attribute::Number(sys::CKA_CLASS, sys::CKO_PUBLIC_KEY),
            Attribute::Number(sys::CKA_KEY_TYPE, key_type(spec)),
            Attribute::Flag(sys::CKA_TOKEN, false),
            Attribute::Flag(sys::CKA_PRIVATE, false),
            Attribute::Flag(sys::CKA_VERIFY, verifies),
            Attribute::Flag(sys::CKA_ENCRYPT, encrypts && spec.key_type() == KeyType::Rsa),
            Attribute::Flag(sys::CKA_WRAP, false),
        ];
        let parameters = super::public::ec_parameters(spec).unwrap_or_default();
        let point;
        match public {
            Public::Rsa { modulus, exponent } => {
                template.push(Attribute::Bytes(sys::CKA_MODULUS, modulus));
                template.push(Attribute::Bytes(sys::CKA_PUBLIC_EXPONENT, exponent));
            }
            Public::Ec { point: bare } => {
                point = super::public::wrapped_point(bare).map_err(|_| Trouble::Fault(Fault::KeyMismatch))?;
                template.push(Attribute::Bytes(sys::CKA_EC_PARAMS, &parameters));
                template.push(Attribute::Bytes(sys::CKA_EC_POINT, &point));
            }
            Public::Ed25519 { key } => {
                point = super::public::wrapped_point(key).map_err(|_| Trouble::Fault(Fault::KeyMismatch))?;
                template.push(Attribute::Bytes(sys::CKA_EC_PARAMS, &parameters));
                template.push(Attribute::Bytes(sys::CKA_EC_POINT, &point));
            }
        }
        Ok(self.token.create(&template)?)
    }
}

/// The public point of an EC key; empty for others.
pub(crate) fn point_of(spec: KeySpec, spki: &[u8]) -> Vec<u8> {
    match Public::from_spki(spec, spki) {
        Ok(Public::Ec { point }) => point,
        _ => Vec::new(),
    }
}

/// The digest that proves a key: that of the algorithm [`Public::confirms`] verifies with.
pub(crate) const fn proof_digest(spec: KeySpec) -> Digest {
    match spec {
        KeySpec::P384 => Digest::Sha384,
        KeySpec::P521 => Digest::Sha512,
        _ => Digest::Sha256,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flag(flags: &[Attribute<'_>], kind: sys::CK_ATTRIBUTE_TYPE) -> Option<bool> {
        flags.iter().find_map(|attribute| match attribute {
            Attribute::Flag(found, value) if *found == kind => Some(*value),
            _ => None,
        })
    }

    #[test]
    fn a_key_may_do_in_the_token_what_its_row_permits_and_no_more() {
        let (flags, mechanisms) = usage(KeySpec::Aes256, KeyOps::UNWRAP_KEY);
        assert_eq!(flag(&flags, sys::CKA_ENCRYPT), Some(false));
        assert_eq!(flag(&flags, sys::CKA_DECRYPT), Some(true));
        assert_eq!(mechanisms, [sys::CKM_AES_ECB]);
        let (flags, mechanisms) = usage(KeySpec::Aes256, KeyOps::ENCRYPT);
        assert_eq!(flag(&flags, sys::CKA_DECRYPT), Some(false));
        assert_eq!(mechanisms, [sys::CKM_AES_GCM, sys::CKM_AES_CBC]);
        let (flags, mechanisms) = usage(KeySpec::Hmac384, KeyOps::VERIFY);
        assert_eq!((flag(&flags, sys::CKA_SIGN), flag(&flags, sys::CKA_VERIFY)), (Some(true), Some(false)));
        assert_eq!(mechanisms, [sys::CKM_SHA256_HMAC, sys::CKM_SHA384_HMAC]);
        let (flags, mechanisms) = usage(KeySpec::Ed25519, KeyOps::SIGN);
        assert_eq!((flag(&flags, sys::CKA_SIGN), flag(&flags, sys::CKA_DECRYPT)), (Some(true), Some(false)));
        assert_eq!(mechanisms, [sys::CKM_EDDSA]);
        let (flags, mechanisms) = usage(KeySpec::Rsa2048, KeyOps::SIGN);
        assert_eq!(flag(&flags, sys::CKA_DECRYPT), Some(false));
        assert_eq!(mechanisms, [sys::CKM_RSA_PKCS, sys::CKM_RSA_PKCS_PSS]);
        let (flags, mechanisms) = usage(KeySpec::Rsa2048, KeyOps::IMPORT);
        assert_eq!((flag(&flags, sys::CKA_UNWRAP), flag(&flags, sys::CKA_DECRYPT)), (Some(true), Some(false)));
        assert_eq!((flag(&flags, sys::CKA_SIGN), mechanisms), (Some(false), vec![sys::CKM_RSA_PKCS_OAEP]));
        for spec in KeySpec::ALL {
            let (flags, _) = usage(spec, spec.possible_ops());
            assert_eq!(flag(&flags, sys::CKA_UNWRAP), Some(false));
            assert_eq!(flag(&flags, sys::CKA_DERIVE), Some(false));
        }
    }
}
