//! The key-encryption keys of vaults: on the token, each wraps the keys of one vault in place of the root. It was born
//! there, can never leave and has no escrow: once it is destroyed, no copy of what it has wrapped opens again.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use cryptoki_sys as sys;

use super::{
    code::Function,
    engine::{Engine, Trouble, nonsense, unsupported},
    generate::{extractable, label, naming},
    hierarchy::{RootForm, wrapping_template},
    import::MARKED,
    load::{sealed_in, usage},
    token::{Attribute, Handle, Mechanism},
    trial,
};
use crate::{
    algorithms::{KeyOps, KeySpec},
    protocol::{Fault, Kek},
    statement::KekId,
};

/// One that was found on the token.
#[derive(Clone, Copy)]
pub(crate) struct FoundKek {
    key: Handle,
    /// It is the one that was made for its vault.
    is_proved: bool,
}

impl Engine {
    /// Makes and proves one. What is on the token must be synced before anybody hears of it.
    ///
    /// # Errors
    /// [`Fault::Unsupported`] when the module does not tell keys that were born on the token from others: whoever has the
    /// PIN could put one that he knows in its place. Nothing is left behind.
    pub(crate) fn make_kek(&mut self, id: KekId) -> Result<Kek, Trouble> {
        self.trusts_token_with(KeySpec::Aes256)?;
        self.refuse_existing(id)?;
        let form = RootForm::of(self)?;
        let made = self.generate_kek(id, form).and_then(|kek| self.describe_kek(id, kek, form));
        if made.is_err() {
            // What cannot be destroyed here is destroyed by its id, from the creation's intent.
            let _ = self.destroy_on_token(id);
        }
        made
    }

    /// With as much of the template as the module takes. Less only where it says that it is the template: a moment's trouble
    /// does not make a weaker key.
    fn generate_kek(&mut self, id: KekId, form: RootForm) -> Result<Handle, Trouble> {
        let label = format!("{} kek", label(id));
        let length = Attribute::Number(sys::CKA_VALUE_LEN, 32);
        let names: Vec<_> = naming(&id, &label).into_iter().chain([length]).collect();
        let (mut template, mut optional) = wrapping_template(form, &names);
        loop {
            match self.token.generate_key(Mechanism::GenerateAes, &template) {
                Err(failed) if failed.refuses_template() && optional > 0 => {
                    template.pop();
                    optional -= 1;
                }
                made => return made.map_err(unsupported),
            }
        }
    }

    /// That it is the only one of its id and wraps as the root does, and what proves it.
    fn describe_kek(&mut self, id: KekId, kek: Handle, form: RootForm) -> Result<Kek, Trouble> {
        if self.objects_of(id)?.len() != 1 {
            return Err(nonsense(Function::GenerateKey, "more than one key"));
        }
        self.wraps_only(kek)?;
        if form.honours_template {
            trial::honours(self, kek)?;
        }
        self.mark_kek(id, kek)
    }

    /// What proves it from now on.
    pub(super) fn mark_kek(&mut self, id: KekId, kek: Handle) -> Result<Kek, Trouble> {
        let mut template = extractable(KeySpec::Aes128);
        template.extend([Attribute::Flag(sys::CKA_ENCRYPT, true), Attribute::Number(sys::CKA_VALUE_LEN, 16)]);
        let key = self.token.generate_key(Mechanism::GenerateAes, &template).map_err(unsupported)?;
        let mark = self.encrypt_with(key, MARKED);
        let blob = self.token.wrap(self.wrapping, kek, key);
        self.token.destroy(key)?;
        let blob = blob?.try_into().map_err(|_| nonsense(Function::WrapKey, "a blob of another length"))?;
        let mark = mark?.try_into().map_err(|_| nonsense(Function::Encrypt, "a block of another length"))?;
        let made = Kek { id, blob, mark };
        if self.is_the_kek(kek, &made)? { Ok(made) } else { Err(Fault::KeyMismatch.into()) }
    }

    /// What the keys of a vault are wrapped under, to open them: its own KEK, or a root. That it is the right one shows
    /// in that they open.
    ///
    /// # Errors
    /// [`Fault::KekAbsent`]; [`Fault::KeyMismatch`] for one that was not born on the token or can do more than wrap.
    pub(crate) fn wrapping_key(&mut self, kek: Option<KekId>) -> Result<Handle, Trouble> {
        if kek == self.root_id {
            return Ok(self.root);
        }
        if let Some((_, other)) = self.other_root.filter(|(id, _)| *id == kek) {
            return Ok(other);
        }
        // Under a root that is gone.
        let Some(id) = kek else { return Err(Fault::KekAbsent.into()) };
        if let Some(found) = self.keks.get(&id) {
            return Ok(found.key);
        }
        let key = self.find_kek(id)?;
        self.keks.insert(id, FoundKek { key, is_proved: false });
        Ok(key)
    }

    /// The same, to wrap under it: only if it is the one that was made for the vault.
    pub(crate) fn proved_wrapping_key(&mut self, kek: Option<&Kek>) -> Result<Handle, Trouble> {
        let Some(kek) = kek else { return self.wrapping_key(None) };
        let key = self.wrapping_key(Some(kek.id))?;
        if self.keks.get(&kek.id).is_some_and(|found| found.is_proved) {
            return Ok(key);
        }
        if !self.is_the_kek(key, kek)? {
            return Err(Fault::KeyMismatch.into());
        }
        self.keks.insert(kek.id, FoundKek { key, is_proved: true });
        Ok(key)
    }

    /// Whether it opens what the one that was made has wrapped.
    fn is_the_kek(&mut self, key: Handle, kek: &Kek) -> Result<bool, Trouble> {
        let mut template = sealed_in(KeySpec::Aes128, false);
        template.extend(usage(KeySpec::Aes128, KeyOps::WRAP_KEY).0);
        let opened = self.token.unwrap(self.wrapping, key, &kek.blob, &template);
        let opened = opened.map_err(|failed| self.verdict(failed, Fault::KeyMismatch))?;
        let mark = self.encrypt_with(opened, MARKED);
        self.discard(opened);
        Ok(verify_slices_are_equal(&mark?, &kek.mark).is_ok())
    }

    fn find_kek(&mut self, id: KekId) -> Result<Handle, Trouble> {
        let template = [
            Attribute::Number(sys::CKA_CLASS, sys::CKO_SECRET_KEY),
            Attribute::Bytes(sys::CKA_ID, &id),
            Attribute::Flag(sys::CKA_TOKEN, true),
        ];
        let found = self.token.find(&template)?;
        if found.is_empty() {
            // A token that is gone shows no objects and says that all is well: the canary knows better.
            self.check_canary()?;
        }
        let [key] = found[..] else {
            return Err(Trouble::Fault(if found.is_empty() { Fault::KekAbsent } else { Fault::KeyMismatch }));
        };
        self.trusts_token_with(KeySpec::Aes256)?;
        self.wraps_only(key)?;
        Ok(key)
    }

    /// That it was born on the token, and that what it has wrapped cannot be decrypted with it.
    fn wraps_only(&mut self, kek: Handle) -> Result<(), Trouble> {
        self.is_closed(kek, false)?;
        for attribute in [sys::CKA_ENCRYPT, sys::CKA_DECRYPT] {
            if self.token.attribute(kek, attribute)? != [0] {
                return Err(Trouble::Fault(Fault::KeyMismatch));
            }
        }
        Ok(())
    }
}
