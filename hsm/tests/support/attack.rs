//! What whoever holds PIN and module can do, through cryptoki. Only in child processes, see `run_child`.

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    object::{Attribute, ObjectClass, ObjectHandle},
    session::{Session, UserType},
    types::AuthPin,
};

/// A session that is logged in with the user PIN.
pub fn log_in() -> Session {
    let pkcs11 = Pkcs11::new(super::module()).unwrap();
    pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
    let slot = pkcs11.get_slots_with_initialized_token().unwrap().remove(0);
    let session = pkcs11.open_rw_session(slot).unwrap();
    session.login(UserType::User, Some(&AuthPin::from(super::PIN))).unwrap();
    session
}

/// The root.
pub fn root(session: &Session) -> ObjectHandle {
    let template = [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::Label(b"strongroom root".to_vec())];
    session.find_objects(&template).unwrap().remove(0)
}
