//! A root in the place of another: made beside it, and what was under the one carried over to the other.
//!
//! The root's unwrap template lets no key out of a blob that could be wrapped again. So the root that is left behind comes
//! from its escrow once more, which takes a recovery key, as a session object without that template: the *opener*. It lives
//! as long as this process does, and what it opens lives until it is wrapped under the new root, some microseconds.

use cryptoki_sys as sys;
use serde_bytes::ByteBuf;

use super::{
    engine::{Engine, Trouble, root_label},
    generate::extractable,
    hierarchy::{RootForm, import_recovery_key, make_root, make_service_keys, recovery_key},
    start,
    token::{Attribute, Handle, Mechanism},
};
use crate::{
    protocol::{Fault, NewRoot, RecoveryKeyFile, Renewed},
    recovery,
    statement::{KekId, KeyStatement, Residency},
};

/// Makes a root beside the one that is there, with a sealing key and a key of stored secrets under it. What is on the token
/// must be synced before anybody hears of it.
///
/// # Errors
/// [`Fault::Setup`] when the recovery key is none of this root's; nothing is made then, for it could not be finished.
pub(super) fn make(
    engine: &mut Engine,
    id: KekId,
    sealing: &[u8],
    recovery: &RecoveryKeyFile,
    escrow_for: &[ByteBuf],
) -> Result<NewRoot, Trouble> {
    let opener = open(engine, recovery, sealing)?;
    engine.token.destroy(opener)?;
    engine.refuse_existing(id)?;
    let recovery = escrow_for.iter().map(|spki| recovery_key(spki)).collect::<Result<Vec<_>, _>>()?;
    let form = RootForm::of(engine)?;
    let made = make_root(&mut *engine.token, form, Some(id), &recovery);
    let made = made.and_then(|(root, escrow)| describe(engine, id, root, escrow));
    if made.is_err() {
        // What cannot be destroyed here is destroyed by its id, from the intent of its making.
        let _ = engine.destroy_on_token(id);
    }
    made
}

fn describe(engine: &mut Engine, id: KekId, root: Handle, escrow: Vec<Vec<u8>>) -> Result<NewRoot, Trouble> {
    let (sealing, data) = make_service_keys(engine, root)?;
    let proved = start::unwrap_sealing(engine, root, &sealing)?;
    let works = start::prove_sealing(engine, proved);
    engine.discard(proved);
    works?;
    let unwrap_template = !engine.token.attribute(root, sys::CKA_UNWRAP_TEMPLATE)?.is_empty();
    let root = engine.mark_kek(id, root)?;
    let escrow = escrow.into_iter().map(Into::into).collect();
    Ok(NewRoot { root, sealing: sealing.into(), data: data.into(), escrow, unwrap_template })
}

/// Destroys a root that nothing is under any more.
///
/// # Errors
/// [`Fault::Protocol`] for the one that the service stands on.
pub(super) fn destroy(engine: &mut Engine, root: Option<KekId>) -> Result<(), Trouble> {
    if root == engine.root_id {
        return Err(Fault::Protocol.into());
    }
    let label = root_label(root);
    let template = [
        Attribute::Number(sys::CKA_CLASS, sys::CKO_SECRET_KEY),
        Attribute::Bytes(sys::CKA_LABEL, label.as_bytes()),
        Attribute::Flag(sys::CKA_TOKEN, true),
    ];
    engine.destroy_found(&template)
}

/// A root out of its escrow, as a session object that opens blobs into keys that can be wrapped again. `sealing` is what has to
/// open under it.
///
/// # Errors
/// [`Fault::Setup`] when the recovery key is none of this root's.
pub(super) fn open(engine: &mut Engine, recovery: &RecoveryKeyFile, sealing: &[u8]) -> Result<Handle, Trouble> {
    let other = || Fault::Setup("the recovery key does not open the root's escrow: it is another service's".to_owned());
    let (pkcs8, fingerprint) = recovery::read(&recovery.file)?;
    let mut escrow = recovery.escrow.iter();
    let (_, escrow) = escrow.find(|(of, _)| *of == fingerprint).ok_or_else(|| {
        Fault::Setup(format!(
            "the recovery key {} is none that the root was wrapped for: `strongroom own-keys show` says which those are",
            recovery.file.display()
        ))
    })?;
    let key = import_recovery_key(&mut *engine.token, &pkcs8)?;
    drop(pkcs8);
    let template = [
        Attribute::Number(sys::CKA_CLASS, sys::CKO_SECRET_KEY),
        Attribute::Number(sys::CKA_KEY_TYPE, sys::CKK_AES),
        Attribute::Flag(sys::CKA_TOKEN, false),
        Attribute::Flag(sys::CKA_PRIVATE, true),
        Attribute::Flag(sys::CKA_SENSITIVE, true),
        Attribute::Flag(sys::CKA_EXTRACTABLE, false),
        Attribute::Flag(sys::CKA_WRAP, false),
        Attribute::Flag(sys::CKA_UNWRAP, true),
        Attribute::Flag(sys::CKA_ENCRYPT, false),
        Attribute::Flag(sys::CKA_DECRYPT, false),
        Attribute::Flag(sys::CKA_DERIVE, false),
    ];
    let opened = engine.token.unwrap(Mechanism::RsaOaep, key, escrow, &template);
    let destroyed = engine.token.destroy(key);
    let opener = opened.map_err(|failed| engine.verdict(failed, other()))?;
    destroyed?;
    let proved = start::unwrap_sealing(engine, opener, sealing).inspect_err(|_| engine.discard(opener));
    let proved = proved.map_err(|trouble| match trouble {
        Trouble::Fault(Fault::BlobBroken) => Trouble::Fault(other()),
        trouble => trouble,
    })?;
    engine.discard(proved);
    Ok(opener)
}

impl Engine {
    /// Carries a version over: its blob from the other root to this one, its check value from the other sealing key to this
    /// one. What comes out is proved to be the key that went in.
    ///
    /// # Errors
    /// As for loading; [`Fault::Protocol`] where there is no other root.
    pub(super) fn renew(&mut self, statement: &KeyStatement, opener: Handle) -> Result<Renewed, Trouble> {
        let (other, _) = self.other_root.ok_or(Fault::Protocol)?;
        // For the proof, with all that its kind can do: a version that does nothing any more is carried over too.
        let ops = statement.residency.possible_ops(statement.spec);
        let mut renewed = KeyStatement { ops, enabled: true, ..statement.clone() };
        if statement.residency == Residency::Wrapped && statement.kek == other {
            renewed.blob = self.wrap_again(statement, opener)?;
            renewed.kek = self.root_id;
        }
        if statement.residency != Residency::Public {
            self.prove_by_use(&renewed)?;
        }
        let check_value = if statement.is_imported() { self.check_again(&renewed)? } else { renewed.check_value };
        Ok(Renewed { blob: renewed.blob.into(), check_value: check_value.into() })
    }

    fn wrap_again(&mut self, statement: &KeyStatement, opener: Handle) -> Result<Vec<u8>, Trouble> {
        let key = self.open_blob(statement, opener, &extractable(statement.spec), &[])?;
        let wrapped = self.token.wrap(self.wrapping, self.root, key);
        // An extractable key that cannot be destroyed is a failure: the worker's end destroys it.
        self.token.destroy(key)?;
        Ok(wrapped?)
    }

    /// The check value of an imported key, by the sealing key of now.
    fn check_again(&mut self, statement: &KeyStatement) -> Result<Vec<u8>, Trouble> {
        if !statement.spec.key_type().is_secret() {
            return self.imported_check(&statement.public);
        }
        let key = self.load_private(statement)?;
        let mark = self.mark(statement, key);
        if statement.residency == Residency::Wrapped {
            self.discard(key);
        }
        self.imported_check(&mark?)
    }
}
