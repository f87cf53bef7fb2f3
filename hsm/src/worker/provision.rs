//! A worker that makes or examines a token. It serves nobody, so it holds the start lock to its end, and
//! each request is a module of its own from `C_Initialize` to `C_Finalize`.

use std::fs::File;

use super::{
    change_pin,
    engine::{Engine, Trouble},
    hierarchy,
    listed::Listed,
    log_key,
    module::Library,
    pin, probe, root,
    start::{self, LoggedIn},
    sync,
};
use crate::protocol::{Damage, Fault, Hello, Offer, Offers, Provision, Ready, Request, Response, ServiceKeys};

/// A worker that provisions.
pub(crate) struct Provisioner {
    hello: Hello,
    /// Held while a token is made or changed; a probe lets others start.
    lock: Option<File>,
}

impl Provisioner {
    /// Loads the module once, to say what it is and whether the token is there. Nobody is logged in yet.
    ///
    /// # Errors
    /// [`Fault::Setup`] or [`Fault::Module`] when the module cannot be used.
    pub(crate) fn start(hello: Hello) -> Result<(Self, Ready), Fault> {
        let lock = start::lock(&hello.state_dir)?;
        let ready = with_library(&hello, |library| {
            let library_name = library.about().map_err(|failed| failed.fault(Damage::Token))?;
            let found = library.find(&hello.token).map_err(|failed| failed.fault(Damage::Token))?;
            let serial = found.into_iter().next().map_or_else(String::new, |found| found.serial);
            Ok(Ready { serial, library: library_name, unwrap_template: false })
        })?;
        Ok((Self { hello, lock: Some(lock) }, ready))
    }

    /// Answers one request.
    ///
    /// # Errors
    /// The fault to be answered.
    pub(crate) fn answer(&mut self, request: &Request) -> Result<Response, Fault> {
        let Request::Provision(provision) = request else { return Err(Fault::Protocol) };
        if self.lock.is_none() {
            self.lock = Some(start::lock(&self.hello.state_dir)?);
        }
        match &**provision {
            Provision::InitToken { so_pin_file } => {
                let so_pin = pin::read(so_pin_file)?;
                let user_pin = pin::read(&self.hello.pin_file)?;
                with_library(&self.hello, |library| init_token(&self.hello, library, &so_pin, &user_pin))?;
                sync::sync(&self.hello.sync_dirs)?;
                Ok(Response::Done)
            }
            Provision::CreateHierarchy { recovery } => self.on_token(|engine, ready| {
                let made = hierarchy::create(engine, &ready.serial, recovery)?;
                sync::sync(&self.hello.sync_dirs)?;
                Ok(Response::Hierarchy(Box::new(made)))
            }),
            Provision::Recover { private, escrow, service_keys, other } => self.on_token(|engine, ready| {
                let escrow = (escrow.as_slice(), other.as_ref().map(|other| other.as_slice()));
                let made = hierarchy::recover(engine, &ready.serial, private, escrow, service_keys)?;
                sync::sync(&self.hello.sync_dirs)?;
                Ok(Response::Hierarchy(Box::new(made)))
            }),
            Provision::MakeRoot { id, keys, recovery, escrow_for } => self.on_known_token(keys, |engine| {
                let made = root::make(engine, *id, &keys.sealing, recovery, escrow_for)?;
                sync::sync(&self.hello.sync_dirs)?;
                Ok(Response::Root(made))
            }),
            Provision::DestroyRoot { keys, root } => self.on_known_token(keys, |engine| {
                root::destroy(engine, *root)?;
                sync::sync(&self.hello.sync_dirs)?;
                Ok(Response::Done)
            }),
            Provision::MakeLogKey { id, keys } => self.on_known_token(keys, |engine| {
                let made = log_key::make_beside(engine, *id)?;
                sync::sync(&self.hello.sync_dirs)?;
                Ok(Response::LogKey(made.into()))
            }),
            Provision::DestroyLogKey { keys, id } => self.on_known_token(keys, |engine| {
                log_key::destroy(engine, keys, *id)?;
                sync::sync(&self.hello.sync_dirs)?;
                Ok(Response::Done)
            }),
            Provision::Probe => {
                // The login is over when the engine is there; probing takes long, and others may start.
                let lock = self.lock.take();
                self.on_token(|engine, ready| {
                    drop(lock);
                    probe::probe(engine, &ready.library).map(Response::Capabilities)
                })
            }
            Provision::ChangePin { new_pin_file } => {
                change_pin::change(&self.hello, new_pin_file.as_deref())?;
                Ok(Response::Done)
            }
            Provision::List => with_library(&self.hello, offers).map(Response::Offers),
        }
    }

    fn on_token(&self, run: impl FnOnce(&mut Engine, &Ready) -> Result<Response, Trouble>) -> Result<Response, Fault> {
        let LoggedIn { token, ready } = start::log_in(&self.hello)?;
        let mut engine = Engine::new(token, None).map_err(|failed| failed.fault(Damage::Operation))?;
        engine.token.started();
        let outcome = run(&mut engine, &ready);
        engine.token.finalize();
        outcome.map_err(fault)
    }

    /// On a token that is known to be this service's.
    fn on_known_token(
        &self,
        keys: &ServiceKeys,
        run: impl FnOnce(&mut Engine) -> Result<Response, Trouble>,
    ) -> Result<Response, Fault> {
        let LoggedIn { mut token, .. } = start::log_in(&self.hello)?;
        let root = match start::find_root(&mut *token, keys.root.map(|root| root.id)) {
            Ok((root, _)) => root,
            Err(trouble) => {
                token.finalize();
                return Err(fault(trouble));
            }
        };
        let mut engine = Engine::new(token, Some(root)).map_err(|failed| failed.fault(Damage::Operation))?;
        engine.token.started();
        let outcome = start::establish(&mut engine, keys).and_then(|_| run(&mut engine));
        engine.token.finalize();
        outcome.map_err(fault)
    }
}

fn fault(trouble: Trouble) -> Fault {
    match trouble {
        Trouble::Fault(fault) => fault,
        Trouble::Failed(failed) => failed.fault(Damage::Operation),
    }
}

fn with_library<T>(hello: &Hello, run: impl FnOnce(&Library) -> Result<T, Fault>) -> Result<T, Fault> {
    let library = Library::load(&hello.module, hello.module_parameters.as_deref())?;
    library.initialize().map_err(|failed| failed.fault(Damage::Token))?;
    let outcome = run(&library);
    library.finalize();
    outcome
}

fn init_token(
    hello: &Hello,
    library: &Library,
    so_pin: &crate::secret::SecretBytes,
    user_pin: &crate::secret::SecretBytes,
) -> Result<(), Fault> {
    let failed = |failed: super::code::Failed| failed.fault(Damage::Operation);
    let label = &hello.token.label;
    if label.is_empty() || label.len() > 32 || label.trim_end() != label {
        return Err(Fault::Setup("a token label has 1 to 32 bytes and does not end with a space".to_owned()));
    }
    if !library.find_labelled(label).map_err(failed)?.is_empty() {
        return Err(Fault::Setup(format!("a token labelled {label:?} exists")));
    }
    let Some(made) = library.init_token(so_pin, label).map_err(failed)? else {
        return Err(Fault::Setup("the module has no slot with an uninitialised token".to_owned()));
    };
    // Initialising may move the token to another slot (SoftHSM does): it is found again by its label. Where
    // that does not show before there is a PIN (NSS softokn), the token is where it was.
    let moved = library.find_labelled(label).map_err(failed)?.into_iter().next();
    library.init_pin(&moved.unwrap_or(made), so_pin, user_pin).map_err(failed)?;
    if library.find_labelled(label).map_err(failed)?.len() == 1 {
        Ok(())
    } else {
        Err(Fault::Setup(format!("the token labelled {label:?} is not to be found after its making")))
    }
}

fn offers(library: &Library) -> Result<Offers, Fault> {
    let failed = |failed: super::code::Failed| failed.fault(Damage::Operation);
    let about = library.about().map_err(failed)?;
    let tokens = library.tokens().map_err(failed)?.into_iter();
    let offer = |found: super::module::Found| {
        let lines = Listed::new(library.mechanisms(&found)?, found.is_writable).lines();
        Ok(Offer { label: found.label, serial: found.serial, is_initialised: found.is_initialised, lines })
    };
    let tokens = tokens.map(offer).collect::<Result<_, _>>().map_err(failed)?;
    Ok(Offers { library: about, tokens })
}
