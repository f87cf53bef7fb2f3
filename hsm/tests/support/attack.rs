//! What whoever holds PIN and module can do, through cryptoki. Only in child processes, see `run_child`.

use cryptoki::{
    context::Pkcs11,
    object::{Attribute, ObjectClass, ObjectHandle},
    session::{Session, UserType},
    slot::Slot,
    types::AuthPin,
};

/// A session that is logged in with the user PIN.
pub fn log_in() -> Session {
    let pkcs11 = Pkcs11::new(super::module()).unwrap();
    let parameters = std::env::var(super::PARAMETERS).ok();
    strongroom_hsm::worker::raw::initialize(&super::module(), parameters.as_deref()).unwrap();
    let slots = pkcs11.get_slots_with_initialized_token().unwrap();
    let ours = |slot: &Slot| pkcs11.get_token_info(*slot).unwrap().label() == super::LABEL;
    let slot = slots.into_iter().find(ours).unwrap();
    let session = pkcs11.open_rw_session(slot).unwrap();
    session.login(UserType::User, Some(&AuthPin::from(super::PIN))).unwrap();
    session
}

/// The root.
pub fn root(session: &Session) -> ObjectHandle {
    let template = [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::Label(b"strongroom root".to_vec())];
    session.find_objects(&template).unwrap().remove(0)
}

/// Both halves of the log key.
pub fn log_keys(session: &Session) -> Vec<ObjectHandle> {
    session.find_objects(&[Attribute::Label(b"strongroom log".to_vec())]).unwrap()
}

/// Whether cryptoki 0.12.1 has a word for the mechanism by which the root wraps: it lacks
/// `CKM_AES_KEY_WRAP_KWP`, so that elsewhere nothing can be wrapped or unwrapped under the root here.
pub fn speaks_of_the_roots_mechanism() -> bool {
    super::note("key wrap").contains("CKM_AES_KEY_WRAP_PAD")
}
