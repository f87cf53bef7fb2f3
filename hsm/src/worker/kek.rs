//! The key-encryption keys of vaults: on the token, each wraps the keys of one vault in place of the root. It was born
//! there, can never leave and has no escrow: once it is destroyed, no copy of what it has wrapped opens again.

use cryptoki_sys as sys;

use super::{
    engine::{Engine, Trouble, unsupported},
    generate::{label, naming},
    hierarchy::{RootForm, with_as_much, wrapping_template},
    token::{Attribute, Handle, Mechanism},
    trial,
};
use crate::{algorithms::KeySpec, protocol::Fault, statement::KekId};

impl Engine {
    /// Makes and proves one. What is on the token must be synced before anybody hears of it.
    ///
    /// # Errors
    /// [`Fault::Unsupported`] when the module does not tell keys that were born on the token from others: whoever has the
    /// PIN could put one that he knows in its place. Nothing is left behind.
    pub(crate) fn make_kek(&mut self, id: KekId) -> Result<(), Trouble> {
        self.trusts_token_with(KeySpec::Aes256)?;
        self.refuse_existing(id)?;
        let form = RootForm::of(self)?;
        let label = format!("{} kek", label(id));
        let length = Attribute::Number(sys::CKA_VALUE_LEN, 32);
        let names: Vec<_> = naming(&id, &label).into_iter().chain([length]).collect();
        let (template, optional) = wrapping_template(form, &names);
        let token = &mut *self.token;
        let made = with_as_much(&template, optional, |template| token.generate_key(Mechanism::GenerateAes, template));
        let kek = made.map_err(unsupported)?;
        let proved = self.prove_kek(kek, form);
        if proved.is_err() {
            // What cannot be destroyed here is destroyed by its id, from the creation's intent.
            self.discard(kek);
        }
        proved
    }

    fn prove_kek(&mut self, kek: Handle, form: RootForm) -> Result<(), Trouble> {
        self.wraps_only(kek)?;
        if form.honours_template { trial::honours(self, kek) } else { trial::wraps(self, kek).map(drop) }
    }

    /// What keys of a vault are wrapped under: its own KEK, or the root.
    ///
    /// # Errors
    /// [`Fault::KekAbsent`]; [`Fault::KeyMismatch`] for one that was not born on the token or can do more than wrap.
    pub(crate) fn wrapping_key(&mut self, kek: Option<KekId>) -> Result<Handle, Trouble> {
        let Some(id) = kek else { return Ok(self.root) };
        if let Some(found) = self.keks.get(&id) {
            return Ok(*found);
        }
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
        self.keks.insert(id, key);
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
