//! Return values of a module: their names, and what each takes down.
//!
//! The same value means different things from different functions, so it is classified together with
//! the function that returned it. SoftHSM 2.6.1 answers a wrong GCM tag and a token that is gone alike,
//! with `CKR_GENERAL_ERROR`: from `C_Decrypt` and `C_UnwrapKey` it is a verdict on the data, from any
//! other function a suspicion that the canary settles.

use std::fmt;

use cryptoki_sys::{self as sys, CK_RV};

use crate::protocol::{Damage, Fault};

/// A PKCS#11 function that can fail here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the PKCS#11 function of that name")]
pub(crate) enum Function {
    Initialize,
    GetInfo,
    GetSlotList,
    GetTokenInfo,
    GetMechanismList,
    GetMechanismInfo,
    InitToken,
    InitPin,
    SetPin,
    OpenSession,
    Login,
    FindObjects,
    GetAttributeValue,
    CreateObject,
    DestroyObject,
    GenerateKey,
    GenerateKeyPair,
    WrapKey,
    UnwrapKey,
    SignInit,
    Sign,
    VerifyInit,
    Verify,
    EncryptInit,
    Encrypt,
    EncryptUpdate,
    EncryptFinal,
    DecryptInit,
    Decrypt,
    DecryptUpdate,
    DecryptFinal,
    GenerateRandom,
}

impl Function {
    /// The name in PKCS#11.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Initialize => "C_Initialize",
            Self::GetInfo => "C_GetInfo",
            Self::GetSlotList => "C_GetSlotList",
            Self::GetTokenInfo => "C_GetTokenInfo",
            Self::GetMechanismList => "C_GetMechanismList",
            Self::GetMechanismInfo => "C_GetMechanismInfo",
            Self::InitToken => "C_InitToken",
            Self::InitPin => "C_InitPIN",
            Self::SetPin => "C_SetPIN",
            Self::OpenSession => "C_OpenSession",
            Self::Login => "C_Login",
            Self::FindObjects => "C_FindObjects",
            Self::GetAttributeValue => "C_GetAttributeValue",
            Self::CreateObject => "C_CreateObject",
            Self::DestroyObject => "C_DestroyObject",
            Self::GenerateKey => "C_GenerateKey",
            Self::GenerateKeyPair => "C_GenerateKeyPair",
            Self::WrapKey => "C_WrapKey",
            Self::UnwrapKey => "C_UnwrapKey",
            Self::SignInit => "C_SignInit",
            Self::Sign => "C_Sign",
            Self::VerifyInit => "C_VerifyInit",
            Self::Verify => "C_Verify",
            Self::EncryptInit => "C_EncryptInit",
            Self::Encrypt => "C_Encrypt",
            Self::EncryptUpdate => "C_EncryptUpdate",
            Self::EncryptFinal => "C_EncryptFinal",
            Self::DecryptInit => "C_DecryptInit",
            Self::Decrypt => "C_Decrypt",
            Self::DecryptUpdate => "C_DecryptUpdate",
            Self::DecryptFinal => "C_DecryptFinal",
            Self::GenerateRandom => "C_GenerateRandom",
        }
    }

    /// Whether it works in the owner session, whose loss takes every loaded key with it.
    const fn uses_owner(self) -> bool {
        matches!(
            self,
            Self::CreateObject | Self::DestroyObject | Self::GenerateKey | Self::GenerateKeyPair | Self::UnwrapKey
        )
    }
}

/// A return value other than `CKR_OK`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Code(pub(crate) CK_RV);

macro_rules! names {
    ($($name:ident),* $(,)?) => {
        /// Every value of PKCS#11 that has a name.
        const NAMES: &[(&str, CK_RV)] = &[$((stringify!($name), sys::$name)),*];
    };
}

names! {
    CKR_CANCEL, CKR_HOST_MEMORY, CKR_SLOT_ID_INVALID, CKR_GENERAL_ERROR, CKR_FUNCTION_FAILED, CKR_ARGUMENTS_BAD,
    CKR_NO_EVENT, CKR_NEED_TO_CREATE_THREADS, CKR_CANT_LOCK, CKR_ATTRIBUTE_READ_ONLY, CKR_ATTRIBUTE_SENSITIVE,
    CKR_ATTRIBUTE_TYPE_INVALID, CKR_ATTRIBUTE_VALUE_INVALID, CKR_ACTION_PROHIBITED, CKR_DATA_INVALID,
    CKR_DATA_LEN_RANGE, CKR_DEVICE_ERROR, CKR_DEVICE_MEMORY, CKR_DEVICE_REMOVED, CKR_ENCRYPTED_DATA_INVALID,
    CKR_ENCRYPTED_DATA_LEN_RANGE, CKR_AEAD_DECRYPT_FAILED, CKR_FUNCTION_CANCELED, CKR_FUNCTION_NOT_PARALLEL,
    CKR_FUNCTION_NOT_SUPPORTED, CKR_KEY_HANDLE_INVALID, CKR_KEY_SIZE_RANGE, CKR_KEY_TYPE_INCONSISTENT,
    CKR_KEY_NOT_NEEDED, CKR_KEY_CHANGED, CKR_KEY_NEEDED, CKR_KEY_INDIGESTIBLE, CKR_KEY_FUNCTION_NOT_PERMITTED,
    CKR_KEY_NOT_WRAPPABLE, CKR_KEY_UNEXTRACTABLE, CKR_MECHANISM_INVALID, CKR_MECHANISM_PARAM_INVALID,
    CKR_OBJECT_HANDLE_INVALID, CKR_OPERATION_ACTIVE, CKR_OPERATION_NOT_INITIALIZED, CKR_PIN_INCORRECT,
    CKR_PIN_INVALID, CKR_PIN_LEN_RANGE, CKR_PIN_EXPIRED, CKR_PIN_LOCKED, CKR_SESSION_CLOSED, CKR_SESSION_COUNT,
    CKR_SESSION_HANDLE_INVALID, CKR_SESSION_PARALLEL_NOT_SUPPORTED, CKR_SESSION_READ_ONLY, CKR_SESSION_EXISTS,
    CKR_SESSION_READ_ONLY_EXISTS, CKR_SESSION_READ_WRITE_SO_EXISTS, CKR_SIGNATURE_INVALID, CKR_SIGNATURE_LEN_RANGE,
    CKR_TEMPLATE_INCOMPLETE, CKR_TEMPLATE_INCONSISTENT, CKR_TOKEN_NOT_PRESENT, CKR_TOKEN_NOT_RECOGNIZED,
    CKR_TOKEN_WRITE_PROTECTED, CKR_UNWRAPPING_KEY_HANDLE_INVALID, CKR_UNWRAPPING_KEY_SIZE_RANGE,
    CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT, CKR_USER_ALREADY_LOGGED_IN, CKR_USER_NOT_LOGGED_IN,
    CKR_USER_PIN_NOT_INITIALIZED, CKR_USER_TYPE_INVALID, CKR_USER_ANOTHER_ALREADY_LOGGED_IN,
    CKR_USER_TOO_MANY_TYPES, CKR_WRAPPED_KEY_INVALID, CKR_WRAPPED_KEY_LEN_RANGE, CKR_WRAPPING_KEY_HANDLE_INVALID,
    CKR_WRAPPING_KEY_SIZE_RANGE, CKR_WRAPPING_KEY_TYPE_INCONSISTENT, CKR_RANDOM_SEED_NOT_SUPPORTED,
    CKR_RANDOM_NO_RNG, CKR_DOMAIN_PARAMS_INVALID, CKR_CURVE_NOT_SUPPORTED, CKR_BUFFER_TOO_SMALL,
    CKR_SAVED_STATE_INVALID, CKR_INFORMATION_SENSITIVE, CKR_STATE_UNSAVEABLE, CKR_CRYPTOKI_NOT_INITIALIZED,
    CKR_CRYPTOKI_ALREADY_INITIALIZED, CKR_MUTEX_BAD, CKR_MUTEX_NOT_LOCKED, CKR_NEW_PIN_MODE, CKR_NEXT_OTP,
    CKR_EXCEEDED_MAX_ITERATIONS, CKR_FIPS_SELF_TEST_FAILED, CKR_LIBRARY_LOAD_FAILED, CKR_PIN_TOO_WEAK,
    CKR_PUBLIC_KEY_INVALID, CKR_FUNCTION_REJECTED, CKR_TOKEN_RESOURCE_EXCEEDED, CKR_OPERATION_CANCEL_FAILED,
    CKR_KEY_EXHAUSTED, CKR_TOKEN_NOT_INITIALIZED,
}

impl Code {
    /// The value of that name; used by the fault scripts.
    #[cfg(feature = "failpoints")]
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, value)| Self(*value))
    }

    /// Every value that has a name.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        NAMES.iter().map(|(_, value)| Self(*value))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, value)| *value == self.0) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "CKR {:#x}", self.0),
        }
    }
}

/// A call of the module that did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    /// Which function.
    pub(crate) function: Function,
    /// What it returned.
    pub(crate) code: Code,
}

/// What a failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// The module works and judged the data: it does not decrypt, unwrap or verify.
    Verdict,
    /// It may be the data or a dead token: the canary tells.
    VerdictOrToken,
    /// It may be this call or a dead token: the canary tells.
    Suspect,
    /// An object is not there under this handle.
    StaleHandle,
    /// Known to take this down.
    Takes(Damage),
}

impl Failed {
    /// What it means: by the value, and by the function where the value alone does not say.
    pub(crate) fn class(self) -> Class {
        let Self { function, code: Code(code) } = self;
        match code {
            sys::CKR_SIGNATURE_INVALID | sys::CKR_SIGNATURE_LEN_RANGE if function == Function::Verify => Class::Verdict,
            sys::CKR_ENCRYPTED_DATA_INVALID
            | sys::CKR_ENCRYPTED_DATA_LEN_RANGE
            | sys::CKR_AEAD_DECRYPT_FAILED
            | sys::CKR_WRAPPED_KEY_INVALID
            | sys::CKR_WRAPPED_KEY_LEN_RANGE
                if matches!(function, Function::Decrypt | Function::UnwrapKey) =>
            {
                Class::Verdict
            }
            sys::CKR_GENERAL_ERROR
            | sys::CKR_FUNCTION_FAILED
            | sys::CKR_DATA_INVALID
            | sys::CKR_DATA_LEN_RANGE
            | sys::CKR_DEVICE_ERROR
                if matches!(function, Function::Decrypt | Function::UnwrapKey) =>
            {
                Class::VerdictOrToken
            }
            // NSS softokn says so of an RSA ciphertext that is no number below the modulus.
            sys::CKR_ARGUMENTS_BAD if function == Function::UnwrapKey => Class::VerdictOrToken,
            // NSS softokn says so of data that it has no other word for.
            sys::CKR_DEVICE_ERROR if function == Function::Verify => Class::Suspect,
            sys::CKR_OBJECT_HANDLE_INVALID
            | sys::CKR_KEY_HANDLE_INVALID
            | sys::CKR_WRAPPING_KEY_HANDLE_INVALID
            | sys::CKR_UNWRAPPING_KEY_HANDLE_INVALID => Class::StaleHandle,
            _ => damage(function, code).map_or(Class::Suspect, Class::Takes),
        }
    }

    /// Whether the session it happened in can go on. After anything but a verdict an operation may still
    /// be active in it, and PKCS#11 2.40 has no way to cancel one.
    pub(crate) fn leaves_session_clean(self) -> bool {
        matches!(self.class(), Class::Verdict | Class::VerdictOrToken)
    }

    /// The fault that tells of it.
    pub(crate) fn fault(self, damage: Damage) -> Fault {
        Fault::Module { function: self.function.name().to_owned(), code: self.code.to_string(), damage }
    }

    /// Whether it says that the module lacks a mechanism, a curve or an attribute.
    pub(crate) fn is_unsupported(self) -> bool {
        matches!(
            self.code.0,
            sys::CKR_MECHANISM_INVALID
                | sys::CKR_MECHANISM_PARAM_INVALID
                | sys::CKR_FUNCTION_NOT_SUPPORTED
                | sys::CKR_KEY_NOT_WRAPPABLE
                | sys::CKR_KEY_UNEXTRACTABLE
                | sys::CKR_KEY_SIZE_RANGE
                | sys::CKR_CURVE_NOT_SUPPORTED
                | sys::CKR_DOMAIN_PARAMS_INVALID
        ) || self.refuses_template()
    }

    /// Whether it says that a template holds what this module does not take.
    pub(crate) fn refuses_template(self) -> bool {
        matches!(
            self.code.0,
            sys::CKR_ATTRIBUTE_TYPE_INVALID
                | sys::CKR_ATTRIBUTE_VALUE_INVALID
                | sys::CKR_ATTRIBUTE_READ_ONLY
                | sys::CKR_TEMPLATE_INCONSISTENT
        )
    }

    /// Whether it says that a key may not be used so.
    pub(crate) fn forbids_use(self) -> bool {
        self.code.0 == sys::CKR_KEY_FUNCTION_NOT_PERMITTED
    }

    /// Whether it says that a template lacks something.
    pub(crate) fn wants_more(self) -> bool {
        self.code.0 == sys::CKR_TEMPLATE_INCOMPLETE
    }

    /// Whether it may be the way that this module refuses an attribute: NSS softokn cannot store some in its
    /// database, and says no more.
    pub(crate) fn may_refuse_template(self) -> bool {
        self.refuses_template() || self.code.0 == sys::CKR_GENERAL_ERROR
    }

    /// Whether the PIN was refused: trying it again brings a lock nearer.
    pub(crate) fn refuses_pin(self) -> bool {
        self.function == Function::Login
            && matches!(
                self.code.0,
                sys::CKR_PIN_INCORRECT
                    | sys::CKR_PIN_INVALID
                    | sys::CKR_PIN_LEN_RANGE
                    | sys::CKR_PIN_EXPIRED
                    | sys::CKR_PIN_LOCKED
                    | sys::CKR_PIN_TOO_WEAK
            )
    }

    /// Whether another start may succeed: what SoftHSM answers when two processes start at once.
    pub(crate) fn may_pass(self) -> bool {
        matches!(self.code.0, sys::CKR_TOKEN_NOT_RECOGNIZED | sys::CKR_GENERAL_ERROR | sys::CKR_TOKEN_NOT_PRESENT)
    }
}

/// What a value takes down; `None` when that is not known.
fn damage(function: Function, code: CK_RV) -> Option<Damage> {
    let damage = match code {
        sys::CKR_SESSION_CLOSED | sys::CKR_SESSION_HANDLE_INVALID if function.uses_owner() => Damage::Login,
        sys::CKR_SESSION_CLOSED
        | sys::CKR_SESSION_HANDLE_INVALID
        | sys::CKR_SESSION_COUNT
        | sys::CKR_OPERATION_ACTIVE
        | sys::CKR_OPERATION_NOT_INITIALIZED
        | sys::CKR_BUFFER_TOO_SMALL
        | sys::CKR_FUNCTION_CANCELED
        | sys::CKR_CANCEL => Damage::Session,
        // A new worker begins without session objects, which frees what these lack.
        sys::CKR_HOST_MEMORY | sys::CKR_DEVICE_MEMORY | sys::CKR_TOKEN_RESOURCE_EXCEEDED => Damage::Login,
        sys::CKR_USER_NOT_LOGGED_IN
        | sys::CKR_USER_ALREADY_LOGGED_IN
        | sys::CKR_USER_ANOTHER_ALREADY_LOGGED_IN
        | sys::CKR_USER_PIN_NOT_INITIALIZED
        | sys::CKR_PIN_EXPIRED => Damage::Login,
        sys::CKR_DEVICE_ERROR
        | sys::CKR_DEVICE_REMOVED
        | sys::CKR_TOKEN_NOT_PRESENT
        | sys::CKR_TOKEN_NOT_RECOGNIZED
        | sys::CKR_TOKEN_NOT_INITIALIZED
        | sys::CKR_SLOT_ID_INVALID
        | sys::CKR_CRYPTOKI_NOT_INITIALIZED
        | sys::CKR_FIPS_SELF_TEST_FAILED
        | sys::CKR_LIBRARY_LOAD_FAILED
        | sys::CKR_RANDOM_NO_RNG => Damage::Token,
        sys::CKR_ARGUMENTS_BAD
        | sys::CKR_ATTRIBUTE_READ_ONLY
        | sys::CKR_ATTRIBUTE_SENSITIVE
        | sys::CKR_ATTRIBUTE_TYPE_INVALID
        | sys::CKR_ATTRIBUTE_VALUE_INVALID
        | sys::CKR_ACTION_PROHIBITED
        | sys::CKR_CURVE_NOT_SUPPORTED
        | sys::CKR_DATA_INVALID
        | sys::CKR_DATA_LEN_RANGE
        | sys::CKR_DOMAIN_PARAMS_INVALID
        | sys::CKR_FUNCTION_NOT_SUPPORTED
        | sys::CKR_KEY_FUNCTION_NOT_PERMITTED
        | sys::CKR_KEY_NOT_WRAPPABLE
        | sys::CKR_KEY_SIZE_RANGE
        | sys::CKR_KEY_TYPE_INCONSISTENT
        | sys::CKR_KEY_UNEXTRACTABLE
        | sys::CKR_MECHANISM_INVALID
        | sys::CKR_MECHANISM_PARAM_INVALID
        | sys::CKR_TEMPLATE_INCOMPLETE
        | sys::CKR_TEMPLATE_INCONSISTENT
        | sys::CKR_TOKEN_WRITE_PROTECTED
        | sys::CKR_SESSION_READ_ONLY => Damage::Operation,
        _ => return None,
    };
    Some(damage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_classified_by_the_function_that_returned_it() {
        use Class::{StaleHandle, Suspect, Takes, Verdict, VerdictOrToken};
        use Function as F;
        let table = [
            (F::Verify, sys::CKR_SIGNATURE_INVALID, Verdict),
            (F::Sign, sys::CKR_SIGNATURE_INVALID, Suspect),
            (F::Decrypt, sys::CKR_GENERAL_ERROR, VerdictOrToken),
            (F::UnwrapKey, sys::CKR_GENERAL_ERROR, VerdictOrToken),
            (F::Sign, sys::CKR_GENERAL_ERROR, Suspect),
            (F::DecryptInit, sys::CKR_GENERAL_ERROR, Suspect),
            (F::Decrypt, sys::CKR_ENCRYPTED_DATA_INVALID, Verdict),
            (F::Encrypt, sys::CKR_ENCRYPTED_DATA_INVALID, Suspect),
            (F::SignInit, sys::CKR_OBJECT_HANDLE_INVALID, StaleHandle),
            (F::UnwrapKey, sys::CKR_UNWRAPPING_KEY_HANDLE_INVALID, StaleHandle),
            (F::SignInit, sys::CKR_SESSION_HANDLE_INVALID, Takes(Damage::Session)),
            (F::UnwrapKey, sys::CKR_SESSION_HANDLE_INVALID, Takes(Damage::Login)),
            (F::SignInit, sys::CKR_OPERATION_ACTIVE, Takes(Damage::Session)),
            (F::Sign, sys::CKR_BUFFER_TOO_SMALL, Takes(Damage::Session)),
            (F::Sign, sys::CKR_USER_NOT_LOGGED_IN, Takes(Damage::Login)),
            (F::UnwrapKey, sys::CKR_DEVICE_MEMORY, Takes(Damage::Login)),
            (F::Sign, sys::CKR_DEVICE_ERROR, Takes(Damage::Token)),
            (F::Verify, sys::CKR_DEVICE_ERROR, Suspect),
            (F::Decrypt, sys::CKR_DEVICE_ERROR, VerdictOrToken),
            (F::Sign, sys::CKR_CRYPTOKI_NOT_INITIALIZED, Takes(Damage::Token)),
            (F::SignInit, sys::CKR_KEY_FUNCTION_NOT_PERMITTED, Takes(Damage::Operation)),
            (F::Sign, sys::CKR_VENDOR_DEFINED, Suspect),
        ];
        for (function, code, class) in table {
            assert_eq!(Failed { function, code: Code(code) }.class(), class, "{} {}", function.name(), Code(code));
        }
    }

    #[test]
    fn names_and_values_are_one_to_one() {
        for code in Code::all() {
            assert_eq!(Code::all().filter(|other| *other == code).count(), 1, "{code}");
            assert!(code.to_string().starts_with("CKR_"));
        }
        assert_eq!(Code(0x8000_0001).to_string(), "CKR 0x80000001");
    }

    #[test]
    fn only_a_login_refuses_a_pin() {
        let refused = |function| Failed { function, code: Code(sys::CKR_PIN_INCORRECT) }.refuses_pin();
        assert!(refused(Function::Login));
        assert!(!refused(Function::Sign));
    }
}
