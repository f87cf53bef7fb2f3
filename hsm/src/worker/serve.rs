//! A worker that serves: answers every request of the protocol but those of provisioning.
//!
//! It trusts nobody. A row is believed for its seal, which only this HSM can have made; what is asked is
//! checked against the row and the algorithm table before the module hears of it.

use std::path::PathBuf;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use serde_bytes::ByteBuf;

use super::{
    cache::{Cache, Entry},
    code::{Class, Failed},
    engine::{Engine, Trouble},
    listed,
    log_key::LogKey,
    operate::{self, Half},
    root,
    start::{self, ServiceHandles},
    sync,
    token::Handle,
};
use crate::{
    algorithms::{KeyOps, RANDOM_BYTES_MAX},
    checkpoint,
    protocol::{
        Damage, Fault, Generated, Hello, NewVersion, Operation, Ready, Renewed, Renewing, Request, Response,
        ServiceKeys, seal_of,
    },
    secret::SecretBytes,
    statement::{KeyStatement, Residency, Seal},
};

/// The most forms in one request: their seals must fit a packet.
const FORMS_MAX: usize = 1024;

/// A worker that serves.
pub(crate) struct Server {
    engine: Engine,
    service: ServiceHandles,
    /// The one that signs, and one that still can.
    log_keys: Vec<LogKey>,
    cache: Cache,
    sync_dirs: Vec<PathBuf>,
    /// What opens the blobs of the root that is left behind, in a worker that carries keys over from it.
    opener: Option<Handle>,
}

impl Server {
    /// Logs in, and makes sure that the token and the service's keys are the right ones.
    ///
    /// # Errors
    /// Whatever keeps the worker from serving: it ends after the answer.
    pub(crate) fn start(hello: &Hello, keys: &ServiceKeys) -> Result<(Self, Ready), Fault> {
        let lock = start::lock(&hello.state_dir)?;
        let logged_in = start::log_in(hello)?;
        // From here on the module is ours alone; the next start may begin.
        drop(lock);
        let (mut token, mut ready) = (logged_in.token, logged_in.ready);
        listed::carries(&mut *token).map_err(at_start)?;
        let (root, unwrap_template) = start::find_root(&mut *token, keys.root.map(|root| root.id)).map_err(at_start)?;
        ready.unwrap_template = unwrap_template;
        let mut engine = Engine::new(token, Some(root)).map_err(|failed| at_start(failed.into()))?;
        let service = start::establish(&mut engine, keys).map_err(at_start)?;
        let mut log_keys = vec![LogKey::new(keys.log_id, &keys.log_public)?];
        if let Some(other) = &keys.other_log {
            log_keys.push(LogKey::new(other.id, &other.public)?);
        }
        engine.token.started();
        let cache = Cache::new(usize::try_from(hello.cached_keys_max).unwrap_or(usize::MAX));
        Ok((Self { engine, service, log_keys, cache, sync_dirs: hello.sync_dirs.clone(), opener: None }, ready))
    }

    /// As [`Self::start`], and opens the root that is left behind once more, so that keys can be carried over from it.
    ///
    /// # Errors
    /// As [`Self::start`]; when the recovery key does not open that root.
    pub(crate) fn start_renewing(hello: &Hello, renewing: &Renewing) -> Result<(Self, Ready), Fault> {
        let other = renewing.keys.other.as_ref().ok_or(Fault::Protocol)?;
        let (mut server, ready) = Self::start(hello, &renewing.keys)?;
        let opener = root::open(&mut server.engine, &renewing.recovery, &other.sealing).map_err(at_start)?;
        server.opener = Some(opener);
        Ok((server, ready))
    }

    /// Answers one request.
    ///
    /// # Errors
    /// The fault to be answered. After one whose damage is the login's or the token's the worker ends.
    pub(crate) fn answer(&mut self, request: &Request) -> Result<Response, Fault> {
        let mut outcome = self.attempt(request);
        if let Err(Trouble::Failed(failed)) = &outcome
            && is_repeatable(request)
            && self.is_worth_repeating(request, *failed)
        {
            outcome = self.attempt(request);
        }
        outcome.map_err(|trouble| match trouble {
            Trouble::Fault(fault) => fault,
            Trouble::Failed(failed) => self.engine.diagnose(failed),
        })
    }

    /// After a lost session, because the next attempt opens another; after a stale handle, because the
    /// next attempt loads the key anew from the statement that is kept, or finds the log key again.
    fn is_worth_repeating(&mut self, request: &Request, failed: Failed) -> bool {
        match (failed.class(), request) {
            (Class::Takes(Damage::Session), _) => true,
            (Class::StaleHandle, Request::Operate { seal, .. } | Request::Load { seal, .. }) => {
                // It may be that of what the key is wrapped under: then it is found again, or is gone for good.
                let has_forgotten = !std::mem::take(&mut self.engine.keks).is_empty();
                has_forgotten
                    | seal_of(seal).ok().and_then(|seal| self.cache.get(&seal)).is_some_and(|entry| {
                        // The objects behind the handles are not ours any more: nothing is destroyed.
                        entry.private.take().is_some() | entry.public.take().is_some()
                    })
            }
            (Class::StaleHandle, Request::SignLog { .. }) => {
                self.log_keys.iter_mut().fold(false, |had, key| key.forget() | had)
            }
            _ => false,
        }
    }

    fn attempt(&mut self, request: &Request) -> Result<Response, Trouble> {
        match request {
            Request::Hello(_) | Request::Provision(_) => Err(Fault::Protocol.into()),
            Request::Canary => self.engine.check_canary().map(|()| Response::Done),
            Request::Operate { seal, row, operation } => self.operate(seal, row.as_ref(), operation),
            Request::Load { seal, row } => self.load(seal, row).map(|()| Response::Done),
            Request::Prove { seal, row } => self.prove(seal, row).map(|()| Response::Done),
            Request::Generate(wanted) => {
                let generated = self.engine.generate(wanted)?;
                if wanted.residency == Residency::Token {
                    sync::sync(&self.sync_dirs)?;
                }
                Ok(Response::Generated(generated))
            }
            Request::Import { wanted, material } => {
                let imported = self.engine.import(wanted, material)?;
                if wanted.residency == Residency::Token {
                    sync::sync(&self.sync_dirs)?;
                }
                Ok(Response::Generated(imported))
            }
            Request::ImportWrapped { wanted, seal, row, blob } => {
                let imported = self.import_wrapped(wanted, seal, row, blob)?;
                if wanted.residency == Residency::Token {
                    sync::sync(&self.sync_dirs)?;
                }
                Ok(Response::Generated(imported))
            }
            Request::Renew { seal, row } => self.renew(seal, row).map(Response::Renewed),
            Request::MakeKek { id } => {
                let kek = self.engine.make_kek(*id)?;
                sync::sync(&self.sync_dirs)?;
                Ok(Response::Kek(kek))
            }
            Request::DestroyToken { version } => self.destroy_token(*version).map(|()| Response::Done),
            Request::Seal { forms } => self.seal(forms).map(Response::Seals),
            Request::CheckSeals { pairs } => self.check_seals(pairs).map(Response::Checked),
            Request::SignLog { public, text } => self.sign_log(public, text).map(Response::LogSignature),
            Request::Random { length } => self.random(*length).map(Response::Random),
        }
    }

    fn operate(&mut self, seal: &[u8], row: Option<&ByteBuf>, operation: &Operation) -> Result<Response, Trouble> {
        let seal = self.admit(seal, row)?;
        let Some(entry) = self.cache.get(&seal) else { return Err(Fault::KeyNotLoaded.into()) };
        let half = operate::check(&entry.statement, operation)?;
        let key = handle(&mut self.engine, entry, half)?;
        self.engine.operate(&entry.statement, key, operation).map(Response::Output)
    }

    fn import_wrapped(
        &mut self,
        wanted: &NewVersion,
        seal: &[u8],
        row: &ByteBuf,
        blob: &[u8],
    ) -> Result<Generated, Trouble> {
        let seal = self.admit(seal, Some(row))?;
        let Some(entry) = self.cache.get(&seal) else { return Err(Fault::KeyNotLoaded.into()) };
        // Nothing but this: whoever could decrypt with it could read what others send here.
        if entry.statement.ops != KeyOps::IMPORT {
            return Err(Fault::NotPermitted.into());
        }
        let kek = handle(&mut self.engine, entry, Half::Private)?;
        self.engine.import_wrapped(wanted, &entry.statement, kek, blob)
    }

    /// Disabled versions too: nothing is done with the key but what proves it.
    fn renew(&mut self, seal: &[u8], row: &ByteBuf) -> Result<Renewed, Trouble> {
        let opener = self.opener.ok_or(Fault::Protocol)?;
        let seal = seal_of(seal).map_err(|_| Fault::Protocol)?;
        if !self.seal_is_right(row, &seal)? {
            return Err(Fault::SealBroken.into());
        }
        let statement = KeyStatement::decode(row).map_err(|_| Fault::SealBroken)?;
        self.engine.renew(&statement, opener)
    }

    fn load(&mut self, seal: &[u8], row: &ByteBuf) -> Result<(), Trouble> {
        let seal = self.admit(seal, Some(row))?;
        let Some(entry) = self.cache.get(&seal) else { return Err(Fault::KeyNotLoaded.into()) };
        let half = if needs_private(&entry.statement) { Half::Private } else { Half::Public };
        handle(&mut self.engine, entry, half).map(|_| ())
    }

    fn prove(&mut self, seal: &[u8], row: &[u8]) -> Result<(), Trouble> {
        let seal = seal_of(seal).map_err(|_| Fault::Protocol)?;
        if !self.seal_is_right(row, &seal)? {
            return Err(Fault::SealBroken.into());
        }
        let statement = KeyStatement::decode(row).map_err(|_| Fault::SealBroken)?;
        let key = match statement.residency {
            Residency::Public => self.engine.load_public(&statement)?,
            Residency::Wrapped | Residency::Token => self.engine.load_private(&statement)?,
        };
        // What is on the token stays there.
        if statement.residency != Residency::Token {
            self.engine.discard(key);
        }
        Ok(())
    }

    /// Lets a row in by its seal, if it is not there yet.
    fn admit(&mut self, seal: &[u8], row: Option<&ByteBuf>) -> Result<Seal, Trouble> {
        let seal = seal_of(seal).map_err(|_| Fault::Protocol)?;
        if self.cache.contains(&seal) {
            return Ok(seal);
        }
        let row = row.ok_or(Fault::KeyNotLoaded)?;
        if !self.seal_is_right(row, &seal)? {
            return Err(Fault::SealBroken.into());
        }
        // A right seal over something else: another kind of row, or one of a newer release.
        let statement = KeyStatement::decode(row).map_err(|_| Fault::SealBroken)?;
        if !statement.enabled {
            return Err(Fault::Disabled.into());
        }
        for evicted in self.cache.insert(seal, Entry::new(statement)) {
            evicted.session_objects().for_each(|object| self.engine.discard(object));
        }
        Ok(seal)
    }

    fn mac(&mut self, form: &[u8]) -> Result<Vec<u8>, Trouble> {
        self.engine.mac(self.service.sealing, form)
    }

    /// By making the seal again and comparing in constant time, not by `C_Verify`: one mechanism flag
    /// less on the key, and no verdict that a module could give wrongly.
    fn seal_is_right(&mut self, form: &[u8], seal: &[u8]) -> Result<bool, Trouble> {
        for sealing in [Some(self.service.sealing), self.service.other_sealing].into_iter().flatten() {
            if verify_slices_are_equal(&self.engine.mac(sealing, form)?, seal).is_ok() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn seal(&mut self, forms: &[ByteBuf]) -> Result<Vec<ByteBuf>, Trouble> {
        if forms.len() > FORMS_MAX {
            return Err(Fault::Protocol.into());
        }
        forms.iter().map(|form| self.mac(form).map(ByteBuf::from)).collect()
    }

    fn check_seals(&mut self, pairs: &[(ByteBuf, ByteBuf)]) -> Result<Vec<bool>, Trouble> {
        pairs.iter().map(|(form, seal)| self.seal_is_right(form, seal)).collect()
    }

    fn sign_log(&mut self, public: &[u8], text: &str) -> Result<ByteBuf, Trouble> {
        checkpoint::check(text).map_err(Fault::Checkpoint)?;
        let key = self.log_keys.iter_mut().find(|key| key.is(public)).ok_or(Fault::LogKeyMismatch)?;
        key.sign(&mut self.engine, text).map(ByteBuf::from)
    }

    fn random(&mut self, length: u32) -> Result<SecretBytes, Trouble> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length == 0 || length > RANDOM_BYTES_MAX {
            return Err(Fault::Protocol.into());
        }
        let mut bytes = zeroize::Zeroizing::new(vec![0; length]);
        self.engine.token.random(&mut bytes)?;
        Ok(SecretBytes::new(std::mem::take(&mut *bytes)))
    }

    fn destroy_token(&mut self, version: [u8; 16]) -> Result<(), Trouble> {
        for entry in self.cache.remove_version(version) {
            entry.session_objects().for_each(|object| self.engine.discard(object));
        }
        self.engine.keks.remove(&version);
        self.engine.destroy_on_token(version)?;
        Ok(sync::sync(&self.sync_dirs)?)
    }
}

/// The handle of one half of a key, made when it is first needed.
fn handle(engine: &mut Engine, entry: &mut Entry, half: Half) -> Result<Handle, Trouble> {
    let slot = match half {
        Half::Private => &mut entry.private,
        Half::Public => &mut entry.public,
    };
    if let Some(handle) = slot {
        return Ok(*handle);
    }
    let handle = match half {
        Half::Private => engine.load_private(&entry.statement)?,
        Half::Public => engine.load_public(&entry.statement)?,
    };
    *slot = Some(handle);
    Ok(handle)
}

/// Whether any operation that the row permits needs the private or secret key.
fn needs_private(statement: &KeyStatement) -> bool {
    let private = [KeyOps::SIGN, KeyOps::DECRYPT, KeyOps::UNWRAP_KEY, KeyOps::IMPORT];
    let has_one = statement.residency != Residency::Public;
    statement.spec.key_type().is_secret() || has_one && private.into_iter().any(|op| statement.ops.contains(op))
}

/// Whether doing it twice is the same as doing it once. A repeated AES-GCM encryption makes another IV,
/// and spends one more of the key's budget.
fn is_repeatable(request: &Request) -> bool {
    match request {
        Request::Canary
        | Request::Operate { .. }
        | Request::Load { .. }
        | Request::Prove { .. }
        | Request::Seal { .. }
        | Request::CheckSeals { .. }
        | Request::SignLog { .. }
        | Request::Random { .. } => true,
        Request::Hello(_)
        | Request::Generate { .. }
        | Request::Import { .. }
        | Request::ImportWrapped { .. }
        | Request::Renew { .. }
        | Request::MakeKek { .. }
        | Request::DestroyToken { .. }
        | Request::Provision(_) => false,
    }
}

/// During the start there is no canary to ask: what is not known takes the token down.
fn at_start(trouble: Trouble) -> Fault {
    match trouble {
        Trouble::Fault(fault) => fault,
        Trouble::Failed(failed) => match failed.class() {
            Class::Takes(damage) => failed.fault(damage),
            _ => failed.fault(Damage::Token),
        },
    }
}
