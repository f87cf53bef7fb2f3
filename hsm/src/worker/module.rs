//! A token in a real PKCS#11 module: cryptoki for loading, slots, sessions and the login, [`super::ffi`]
//! for the rest.
//!
//! Two sessions. The *owner* makes every session object and is never closed, because they die with it;
//! nothing that keeps an operation open runs there. Operations run in the other, which is closed and
//! opened anew after any failure that is not a verdict on the data: PKCS#11 2.40 cannot cancel one.

use std::{ffi::CString, path::Path};

use cryptoki::{
    context::Pkcs11,
    error::{Error, Rv},
    session::{Session, UserType},
    slot::Slot,
    types::{AuthPin, RawAuthPin},
};
use cryptoki_sys::{self as sys, CK_ATTRIBUTE_TYPE, CK_MECHANISM_INFO, CK_MECHANISM_TYPE, CK_SESSION_HANDLE};

use super::{
    code::{Code, Failed, Function},
    ffi::Functions,
    token::{Attribute, Block, Direction, Handle, Mechanism, Outcome, Token},
};
use crate::{profile::TokenName, protocol::Fault, secret::SecretBytes};

/// A module that is loaded and initialised.
pub(crate) struct Library {
    pkcs11: Pkcs11,
    functions: Functions,
    /// What it is told at `C_Initialize`.
    parameters: Option<CString>,
}

/// A token that a session is open with.
pub(crate) struct Module {
    library: Library,
    slot: Slot,
    owner: Session,
    operation: Option<Session>,
}

/// A session in which the user is logged in; it ends, and with it the login, when it is dropped.
pub(crate) struct UserSession(Session);

impl UserSession {
    /// `C_SetPIN` of the user.
    pub(crate) fn set_pin(&self, old: &SecretBytes, new: &SecretBytes) -> Outcome<()> {
        of(Function::SetPin, self.0.set_pin(&auth_pin(old)?, &auth_pin(new)?))
    }
}

/// What a token says of its user's PIN.
pub(crate) struct PinRules {
    /// CK_TOKEN_INFO.ulMinPinLen.
    pub(crate) bytes_min: usize,
    /// CK_TOKEN_INFO.ulMaxPinLen.
    pub(crate) bytes_max: usize,
    /// CKF_USER_PIN_FINAL_TRY or CKF_USER_PIN_LOCKED.
    pub(crate) is_nearly_locked: bool,
}

/// A slot that holds a token, and what the token says of itself.
pub(crate) struct Found {
    slot: Slot,
    /// CK_TOKEN_INFO.label.
    pub(crate) label: String,
    /// CK_TOKEN_INFO.serialNumber.
    pub(crate) serial: String,
    /// CKF_TOKEN_INITIALIZED.
    pub(crate) is_initialised: bool,
    /// Not CKF_WRITE_PROTECTED.
    pub(crate) is_writable: bool,
}

/// What cryptoki's error is in the module's own words.
fn failed(function: Function, error: &Error) -> Failed {
    let code = match error {
        Error::Pkcs11(value, _) => {
            Code::all().find(|code| Rv::from(code.0) == Rv::Error(*value)).unwrap_or(Code(sys::CKR_VENDOR_DEFINED))
        }
        Error::NullFunctionPointer => Code(sys::CKR_FUNCTION_NOT_SUPPORTED),
        _ => Code(sys::CKR_GENERAL_ERROR),
    };
    Failed { function, code }
}

/// cryptoki's result as an outcome of that function.
fn of<T>(function: Function, result: cryptoki::error::Result<T>) -> Outcome<T> {
    result.map_err(|error| failed(function, &error))
}

impl Library {
    /// Loads a module.
    ///
    /// # Errors
    /// [`Fault::Setup`] when it cannot be loaded.
    pub(crate) fn load(path: &Path, parameters: Option<&str>) -> Result<Self, Fault> {
        let unloadable = || Fault::Setup(format!("the module {} cannot be loaded", path.display()));
        let parameters = parameters.map(CString::new).transpose();
        let parameters = parameters.map_err(|_| Fault::Setup("the module's parameters hold a zero byte".to_owned()))?;
        let pkcs11 = Pkcs11::new(path).map_err(|_| unloadable())?;
        let functions = Functions::load(path).ok_or_else(unloadable)?;
        Ok(Self { pkcs11, functions, parameters })
    }

    /// `C_Initialize`.
    pub(crate) fn initialize(&self) -> Outcome<()> {
        self.functions.initialize(self.parameters.as_deref())
    }

    /// `C_Finalize`: every session and object is gone.
    pub(crate) fn finalize(&self) {
        // A module that cannot even end is found at the next `C_Initialize`.
        let _ = self.pkcs11.clone().finalize();
    }

    /// The module's own name and version.
    pub(crate) fn about(&self) -> Outcome<String> {
        let info = of(Function::GetInfo, self.pkcs11.get_library_info())?;
        let version = info.library_version();
        let name = info.library_description().trim();
        Ok(format!("{} {name} {}.{}", info.manufacturer_id().trim(), version.major(), version.minor()))
    }

    /// Every slot with a token. Asking enumerates the slots anew.
    pub(crate) fn tokens(&self) -> Outcome<Vec<Found>> {
        let slots = of(Function::GetSlotList, self.pkcs11.get_slots_with_token())?;
        slots.into_iter().map(|slot| self.token(slot)).collect()
    }

    fn token(&self, slot: Slot) -> Outcome<Found> {
        let info = self.functions.token_info(slot.into())?;
        let text = |padded: &[u8]| String::from_utf8_lossy(padded).trim_end_matches(['\0', ' ']).to_owned();
        Ok(Found {
            slot,
            label: text(&info.label),
            serial: text(&info.serialNumber).trim_start().to_owned(),
            is_initialised: info.flags & sys::CKF_TOKEN_INITIALIZED != 0,
            is_writable: info.flags & sys::CKF_WRITE_PROTECTED == 0,
        })
    }

    /// Every slot with an initialised token of that name.
    pub(crate) fn find(&self, name: &TokenName) -> Outcome<Vec<Found>> {
        let wanted = |found: &Found| {
            let serial = name.serial.as_ref().is_none_or(|serial| *serial == found.serial);
            found.is_initialised && found.label == name.label && serial
        };
        Ok(self.tokens()?.into_iter().filter(wanted).collect())
    }

    /// Every mechanism that the module lists for a slot, and what it says of each. One that is listed and
    /// then not explained (NSS softokn has some) counts as not listed.
    pub(crate) fn mechanisms(&self, found: &Found) -> Outcome<Vec<(CK_MECHANISM_TYPE, CK_MECHANISM_INFO)>> {
        let slot = found.slot.into();
        let listed = self.functions.mechanisms(slot)?;
        Ok(listed
            .into_iter()
            .filter_map(|each| Some((each, self.functions.mechanism_info(slot, each).ok()?)))
            .collect())
    }

    /// Every slot with an initialised token of that label, whatever its serial number.
    pub(crate) fn find_labelled(&self, label: &str) -> Outcome<Vec<Found>> {
        self.find(&TokenName { label: label.to_owned(), serial: None })
    }

    /// `C_InitToken` in the first slot whose token is not initialised; `None` when there is no such slot.
    pub(crate) fn init_token(&self, so_pin: &SecretBytes, label: &str) -> Outcome<Option<Found>> {
        let Some(free) = self.tokens()?.into_iter().find(|found| !found.is_initialised) else { return Ok(None) };
        of(Function::InitToken, self.pkcs11.init_token(free.slot, &auth_pin(so_pin)?, label))?;
        Ok(Some(free))
    }

    /// Logs the security officer in, sets the user's PIN and closes the session, which logs out.
    ///
    /// The token was initialised with this very PIN a moment ago: if it is refused, the module keeps none
    /// for a security officer (NSS softokn), who then logs in without.
    pub(crate) fn init_pin(&self, found: &Found, so_pin: &SecretBytes, pin: &SecretBytes) -> Outcome<()> {
        let session = of(Function::OpenSession, self.pkcs11.open_rw_session(found.slot))?;
        let log_in = |pin: &AuthPin| of(Function::Login, session.login(UserType::So, Some(pin)));
        match log_in(&auth_pin(so_pin)?) {
            Err(failed) if failed.refuses_pin() => log_in(&AuthPin::from(String::new()))?,
            other => other?,
        }
        of(Function::InitPin, session.init_pin(&auth_pin(pin)?))
    }

    /// What the token says of its user's PIN.
    pub(crate) fn pin_rules(&self, found: &Found) -> Outcome<PinRules> {
        let info = self.functions.token_info(found.slot.into())?;
        let bytes = |length| usize::try_from(length).unwrap_or(usize::MAX);
        let locked = sys::CKF_USER_PIN_FINAL_TRY | sys::CKF_USER_PIN_LOCKED;
        Ok(PinRules {
            bytes_min: bytes(info.ulMinPinLen),
            bytes_max: bytes(info.ulMaxPinLen),
            is_nearly_locked: info.flags & locked != 0,
        })
    }

    /// Logs the user in, in a session of its own.
    pub(crate) fn log_in(&self, found: &Found, pin: &SecretBytes) -> Outcome<UserSession> {
        let session = of(Function::OpenSession, self.pkcs11.open_rw_session(found.slot))?;
        of(Function::Login, session.login(UserType::User, Some(&auth_pin(pin)?)))?;
        Ok(UserSession(session))
    }

    /// Opens the owner session with a token. When it fails, everything is finalised.
    pub(crate) fn open(self, found: &Found) -> Outcome<Module> {
        // Not closed on drop: a worker ends with its process, and closing may hang in a module that does.
        match of(Function::OpenSession, self.pkcs11.open_rw_session_no_drop(found.slot)) {
            Ok(owner) => Ok(Module { slot: found.slot, owner, operation: None, library: self }),
            Err(failed) => {
                self.finalize();
                Err(failed)
            }
        }
    }
}

/// The PIN as cryptoki takes it; it wipes its copy.
fn auth_pin(pin: &SecretBytes) -> Outcome<AuthPin> {
    let text = std::str::from_utf8(pin.expose_secret())
        .map_err(|_| Failed { function: Function::Login, code: Code(sys::CKR_PIN_INVALID) })?;
    Ok(AuthPin::from(text))
}

impl Module {
    /// The session for operations, opened when there is none.
    fn session(&mut self) -> Outcome<CK_SESSION_HANDLE> {
        if self.operation.is_none() {
            let opened = self.library.pkcs11.open_rw_session_no_drop(self.slot);
            self.operation = Some(of(Function::OpenSession, opened)?);
        }
        Ok(self.operation.as_ref().map_or(0, Session::handle))
    }

    /// Runs one operation, and gives its session up when the operation may still be active in it.
    fn operate<T>(&mut self, run: impl FnOnce(&Functions, CK_SESSION_HANDLE) -> Outcome<T>) -> Outcome<T> {
        let session = self.session()?;
        let outcome = run(&self.library.functions, session);
        if let Err(failed) = &outcome
            && !failed.leaves_session_clean()
            && let Some(soiled) = self.operation.take()
        {
            // One that cannot be closed is left behind: the module has more.
            let _ = soiled.close();
        }
        outcome
    }
}

impl Token for Module {
    fn login(&mut self, pin: &SecretBytes) -> Outcome<()> {
        // The vector is allocated at its size, so that no copy of the PIN is left behind unwiped.
        let pin = RawAuthPin::new(Box::new(pin.expose_secret().to_vec()));
        of(Function::Login, self.owner.login_with_raw(UserType::User, &pin))
    }

    fn finalize(&mut self) {
        self.operation = None;
        self.library.finalize();
    }

    fn mechanisms(&mut self) -> Outcome<Vec<CK_MECHANISM_TYPE>> {
        self.library.functions.mechanisms(self.slot.into())
    }

    fn find(&mut self, template: &[Attribute<'_>]) -> Outcome<Vec<Handle>> {
        self.operate(|functions, session| functions.find(session, template))
    }

    fn attribute(&mut self, object: Handle, kind: CK_ATTRIBUTE_TYPE) -> Outcome<Vec<u8>> {
        self.operate(|functions, session| functions.attribute(session, object, kind))
    }

    fn create(&mut self, template: &[Attribute<'_>]) -> Outcome<Handle> {
        self.library.functions.create(self.owner.handle(), template)
    }

    fn destroy(&mut self, object: Handle) -> Outcome<()> {
        self.library.functions.destroy(self.owner.handle(), object)
    }

    fn generate_key(&mut self, mechanism: Mechanism<'_>, template: &[Attribute<'_>]) -> Outcome<Handle> {
        self.library.functions.generate_key(self.owner.handle(), mechanism, template)
    }

    fn generate_pair(
        &mut self,
        mechanism: Mechanism<'_>,
        public: &[Attribute<'_>],
        private: &[Attribute<'_>],
    ) -> Outcome<(Handle, Handle)> {
        self.library.functions.generate_pair(self.owner.handle(), mechanism, public, private)
    }

    fn wrap(&mut self, mechanism: Mechanism<'_>, wrapping: Handle, key: Handle) -> Outcome<Vec<u8>> {
        self.operate(|functions, session| functions.wrap(session, mechanism, wrapping, key))
    }

    fn unwrap(
        &mut self,
        mechanism: Mechanism<'_>,
        unwrapping: Handle,
        blob: &[u8],
        template: &[Attribute<'_>],
    ) -> Outcome<Handle> {
        self.library.functions.unwrap(self.owner.handle(), mechanism, unwrapping, blob, template)
    }

    fn sign(&mut self, mechanism: Mechanism<'_>, key: Handle, data: &[u8], bytes_max: usize) -> Outcome<Vec<u8>> {
        self.operate(|functions, session| functions.sign(session, mechanism, key, data, bytes_max))
    }

    fn verify(&mut self, mechanism: Mechanism<'_>, key: Handle, data: &[u8], signature: &[u8]) -> Outcome<()> {
        self.operate(|functions, session| functions.verify(session, mechanism, key, data, signature))
    }

    fn encrypt(
        &mut self,
        mechanism: Mechanism<'_>,
        key: Handle,
        plaintext: &[u8],
        bytes_max: usize,
    ) -> Outcome<Vec<u8>> {
        self.operate(|functions, session| functions.encrypt(session, mechanism, key, plaintext, bytes_max))
    }

    fn decrypt(
        &mut self,
        mechanism: Mechanism<'_>,
        key: Handle,
        ciphertext: &[u8],
        bytes_max: usize,
    ) -> Outcome<SecretBytes> {
        self.operate(|functions, session| functions.decrypt(session, mechanism, key, ciphertext, bytes_max))
            .map(SecretBytes::new)
    }

    fn blocks_begin(&mut self, direction: Direction, key: Handle) -> Outcome<()> {
        self.operate(|functions, session| functions.cipher_init(session, direction, Mechanism::Ecb, key))
    }

    fn block(&mut self, direction: Direction, block: &mut Block) -> Outcome<()> {
        self.operate(|functions, session| functions.cipher_block(session, direction, block))
    }

    fn blocks_end(&mut self, direction: Direction) -> Outcome<()> {
        self.operate(|functions, session| functions.cipher_final(session, direction))
    }

    fn random(&mut self, bytes: &mut [u8]) -> Outcome<()> {
        self.session()?;
        let Some(session) = &self.operation else {
            return Err(Failed { function: Function::GenerateRandom, code: Code(sys::CKR_SESSION_CLOSED) });
        };
        of(Function::GenerateRandom, session.generate_random_slice(bytes))
    }
}
