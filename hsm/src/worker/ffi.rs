//! The PKCS#11 calls that cryptoki 0.12.1 cannot make: the only unsafe code of this repository.
//!
//! cryptoki loads the module, opens sessions and logs in. It cannot set `CKA_UNWRAP_TEMPLATE` (ADR 0001),
//! and its `sign`, `encrypt`, `decrypt` and `wrap_key` ask the module for the length first, which is a
//! second call for each operation and breaks some modules. Here every call is one call, into a buffer
//! whose size the caller knows. It also takes no text in `pReserved`, drops mechanisms that it does not
//! know, and fails on a token whose clock it cannot read (opencryptoki): those calls are here too.
//!
//! What each unsafe block relies on, once for all of them:
//!
//! 1. *The function pointers are right.* They come from the module's own `C_GetFunctionList`, whose type
//!    PKCS#11 fixes; a missing one is a null pointer and answered with `CKR_FUNCTION_NOT_SUPPORTED`.
//! 2. *Pointers live as long as the call.* All point into slices and structures borrowed by the function
//!    that makes the call; no PKCS#11 function keeps one, except that of an initialised operation, whose
//!    parameters the standard has the module copy.
//! 3. *Inputs are not written to.* PKCS#11 lacks `const`, so they pass as `*mut`; the standard calls
//!    them inputs. A module that writes to them is broken beyond what we can guard against.
//! 4. *Outputs fit.* A buffer's length goes with its pointer, and the length that comes back is checked
//!    against it before it is believed.

#![expect(unsafe_code, reason = "the one audited place that calls a PKCS#11 module directly")]

use std::{
    ffi::{CStr, c_void},
    marker::PhantomData,
    path::Path,
    ptr,
};

use cryptoki_sys::{
    self as sys, CK_ATTRIBUTE, CK_ATTRIBUTE_TYPE, CK_BBOOL, CK_BYTE, CK_FALSE, CK_FUNCTION_LIST, CK_MECHANISM,
    CK_MECHANISM_INFO, CK_MECHANISM_TYPE, CK_OBJECT_HANDLE, CK_RV, CK_SESSION_HANDLE, CK_SLOT_ID, CK_TOKEN_INFO,
    CK_TRUE, CK_ULONG,
};

use super::{
    code::{Code, Failed, Function},
    token::{Attribute, Block, Direction, Handle, Mechanism, Outcome},
};
use crate::algorithms::Digest;

static TRUE: CK_BBOOL = CK_TRUE;
static FALSE: CK_BBOOL = CK_FALSE;

/// The longest attribute that is read: far above a modulus of 4096 bits.
const ATTRIBUTE_BYTES_MAX: usize = 8192;
/// The longest wrapped key: an RSA-4096 private key under AES-KWP has about 2,400 bytes.
const WRAPPED_BYTES_MAX: usize = 8192;
/// The most mechanisms that are read: NSS softokn has 162.
const MECHANISMS_MAX: usize = 4096;

/// The function list of a module.
pub(crate) struct Functions {
    list: CK_FUNCTION_LIST,
    /// Keeps the module mapped: the list points into it.
    _library: sys::Pkcs11,
}

/// Calls one function of the list and turns its return value into an outcome.
macro_rules! call {
    ($self:ident, $name:ident, $function:expr, ($($argument:expr),* $(,)?)) => {
        match $self.list.$name {
            // SAFETY: points 1 to 4 at the head of this file; the arguments are those of PKCS#11 for this
            // function, made from references that outlive the call.
            Some(function) => outcome($function, unsafe { function($($argument),*) }),
            None => outcome($function, sys::CKR_FUNCTION_NOT_SUPPORTED),
        }
    };
}

fn outcome(function: Function, code: CK_RV) -> Outcome<()> {
    if code == sys::CKR_OK { Ok(()) } else { Err(Failed { function, code: Code(code) }) }
}

impl Functions {
    /// The functions of the module at `path`, which cryptoki has loaded already: the loader answers with
    /// the same mapping.
    pub(crate) fn load(path: &Path) -> Option<Self> {
        // SAFETY: loading runs the module's constructors; the operator has chosen the module to be run.
        let library = unsafe { sys::Pkcs11::new(path) }.ok()?;
        let get_list = *library.C_GetFunctionList.as_ref().ok()?;
        let mut list: *mut CK_FUNCTION_LIST = ptr::null_mut();
        // SAFETY: the function has the type that PKCS#11 gives it; `list` lives through the call.
        let code = unsafe { get_list(&raw mut list) };
        if code != sys::CKR_OK || list.is_null() {
            return None;
        }
        // SAFETY: PKCS#11 3.1 section 5.4.4: the pointer is to a list that lives as long as the module.
        let list = unsafe { *list };
        Some(Self { list, _library: library })
    }

    /// `C_Initialize` with the system's own locks, and the text that some modules take in `pReserved`.
    pub(crate) fn initialize(&self, parameters: Option<&CStr>) -> Outcome<()> {
        let mut arguments = sys::CK_C_INITIALIZE_ARGS {
            CreateMutex: None,
            DestroyMutex: None,
            LockMutex: None,
            UnlockMutex: None,
            flags: sys::CKF_OS_LOCKING_OK,
            pReserved: parameters.map_or(ptr::null_mut(), |text| text.as_ptr().cast_mut().cast()),
        };
        call!(self, C_Initialize, Function::Initialize, ((&raw mut arguments).cast()))
    }

    /// `C_GetTokenInfo`.
    pub(crate) fn token_info(&self, slot: CK_SLOT_ID) -> Outcome<CK_TOKEN_INFO> {
        let mut info = CK_TOKEN_INFO::default();
        call!(self, C_GetTokenInfo, Function::GetTokenInfo, (slot, &raw mut info))?;
        Ok(info)
    }

    /// `C_GetMechanismList`: the number of them first, then all.
    pub(crate) fn mechanisms(&self, slot: CK_SLOT_ID) -> Outcome<Vec<CK_MECHANISM_TYPE>> {
        let function = Function::GetMechanismList;
        let mut count: CK_ULONG = 0;
        call!(self, C_GetMechanismList, function, (slot, ptr::null_mut(), &raw mut count))?;
        if as_usize(count) > MECHANISMS_MAX {
            return Err(Failed { function, code: Code(sys::CKR_BUFFER_TOO_SMALL) });
        }
        let mut mechanisms = vec![0; as_usize(count)];
        call!(self, C_GetMechanismList, function, (slot, mechanisms.as_mut_ptr(), &raw mut count))?;
        mechanisms.truncate(as_usize(count));
        Ok(mechanisms)
    }

    /// `C_GetMechanismInfo`.
    pub(crate) fn mechanism_info(&self, slot: CK_SLOT_ID, mechanism: CK_MECHANISM_TYPE) -> Outcome<CK_MECHANISM_INFO> {
        let mut info = CK_MECHANISM_INFO::default();
        call!(self, C_GetMechanismInfo, Function::GetMechanismInfo, (slot, mechanism, &raw mut info))?;
        Ok(info)
    }

    /// `C_FindObjectsInit`, `C_FindObjects` until there are no more, `C_FindObjectsFinal`.
    pub(crate) fn find(&self, session: CK_SESSION_HANDLE, template: &[Attribute<'_>]) -> Outcome<Vec<Handle>> {
        let mut template = Template::new(template);
        let (attributes, count) = template.parts();
        call!(self, C_FindObjectsInit, Function::FindObjects, (session, attributes, count))?;
        let mut found = Vec::new();
        loop {
            let mut batch: [CK_OBJECT_HANDLE; 64] = [0; 64];
            let mut got: CK_ULONG = 0;
            let room = as_ulong(batch.len());
            call!(self, C_FindObjects, Function::FindObjects, (session, batch.as_mut_ptr(), room, &raw mut got))?;
            let got = as_usize(got).min(batch.len());
            if got == 0 {
                break;
            }
            found.extend(batch[..got].iter().map(|handle| Handle(*handle)));
        }
        call!(self, C_FindObjectsFinal, Function::FindObjects, (session))?;
        Ok(found)
    }

    /// `C_GetAttributeValue` of one attribute: the length first, then the value. Empty when the object has
    /// no such attribute. `CKA_UNWRAP_TEMPLATE` is answered by its length only, as that many zeros: its
    /// value would be an array of pointers.
    pub(crate) fn attribute(
        &self,
        session: CK_SESSION_HANDLE,
        object: Handle,
        kind: CK_ATTRIBUTE_TYPE,
    ) -> Outcome<Vec<u8>> {
        let function = Function::GetAttributeValue;
        let mut attribute = CK_ATTRIBUTE { type_: kind, pValue: ptr::null_mut(), ulValueLen: 0 };
        match call!(self, C_GetAttributeValue, function, (session, object.0, &raw mut attribute, 1)) {
            Err(failed) if failed.code.0 == sys::CKR_ATTRIBUTE_TYPE_INVALID => return Ok(Vec::new()),
            other => other?,
        }
        let length = as_usize(attribute.ulValueLen);
        if attribute.ulValueLen == sys::CK_UNAVAILABLE_INFORMATION || length == 0 {
            return Ok(Vec::new());
        }
        if length > ATTRIBUTE_BYTES_MAX {
            return Err(Failed { function, code: Code(sys::CKR_BUFFER_TOO_SMALL) });
        }
        let mut value = vec![0; length];
        if kind == sys::CKA_UNWRAP_TEMPLATE {
            return Ok(value);
        }
        attribute.pValue = value.as_mut_ptr().cast();
        call!(self, C_GetAttributeValue, function, (session, object.0, &raw mut attribute, 1))?;
        value.truncate(as_usize(attribute.ulValueLen));
        Ok(value)
    }

    /// `C_CreateObject`.
    pub(crate) fn create(&self, session: CK_SESSION_HANDLE, template: &[Attribute<'_>]) -> Outcome<Handle> {
        let mut template = Template::new(template);
        let (attributes, count) = template.parts();
        let mut object = 0;
        call!(self, C_CreateObject, Function::CreateObject, (session, attributes, count, &raw mut object))?;
        Ok(Handle(object))
    }

    /// `C_DestroyObject`.
    pub(crate) fn destroy(&self, session: CK_SESSION_HANDLE, object: Handle) -> Outcome<()> {
        call!(self, C_DestroyObject, Function::DestroyObject, (session, object.0))
    }

    /// `C_GenerateKey`.
    pub(crate) fn generate_key(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: Mechanism<'_>,
        template: &[Attribute<'_>],
    ) -> Outcome<Handle> {
        let mut parameters = Parameters::new(mechanism);
        let mut mechanism = parameters.mechanism();
        let mut template = Template::new(template);
        let (attributes, count) = template.parts();
        let mut key = 0;
        call!(
            self,
            C_GenerateKey,
            Function::GenerateKey,
            (session, &raw mut mechanism, attributes, count, &raw mut key)
        )?;
        Ok(Handle(key))
    }

    /// `C_GenerateKeyPair`.
    pub(crate) fn generate_pair(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: Mechanism<'_>,
        public: &[Attribute<'_>],
        private: &[Attribute<'_>],
    ) -> Outcome<(Handle, Handle)> {
        let mut parameters = Parameters::new(mechanism);
        let mut mechanism = parameters.mechanism();
        let (mut public, mut private) = (Template::new(public), Template::new(private));
        let (public_attributes, public_count) = public.parts();
        let (private_attributes, private_count) = private.parts();
        let (mut public_key, mut private_key) = (0, 0);
        call!(
            self,
            C_GenerateKeyPair,
            Function::GenerateKeyPair,
            (
                session,
                &raw mut mechanism,
                public_attributes,
                public_count,
                private_attributes,
                private_count,
                &raw mut public_key,
                &raw mut private_key
            )
        )?;
        Ok((Handle(public_key), Handle(private_key)))
    }

    /// `C_WrapKey`, once, into a buffer that is long enough for any key.
    pub(crate) fn wrap(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: Mechanism<'_>,
        wrapping: Handle,
        key: Handle,
    ) -> Outcome<Vec<u8>> {
        let mut parameters = Parameters::new(mechanism);
        let mut mechanism = parameters.mechanism();
        into_buffer(Function::WrapKey, WRAPPED_BYTES_MAX, |buffer, length| {
            call!(self, C_WrapKey, Function::WrapKey, (session, &raw mut mechanism, wrapping.0, key.0, buffer, length))
        })
    }

    /// `C_UnwrapKey`.
    pub(crate) fn unwrap(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: Mechanism<'_>,
        unwrapping: Handle,
        blob: &[u8],
        template: &[Attribute<'_>],
    ) -> Outcome<Handle> {
        let mut parameters = Parameters::new(mechanism);
        let mut mechanism = parameters.mechanism();
        let mut template = Template::new(template);
        let (attributes, count) = template.parts();
        let (data, data_bytes) = input(blob);
        let mut key = 0;
        call!(
            self,
            C_UnwrapKey,
            Function::UnwrapKey,
            (session, &raw mut mechanism, unwrapping.0, data, data_bytes, attributes, count, &raw mut key)
        )?;
        Ok(Handle(key))
    }

    /// `C_SignInit` and `C_Sign`.
    pub(crate) fn sign(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: Mechanism<'_>,
        key: Handle,
        data: &[u8],
        bytes_max: usize,
    ) -> Outcome<Vec<u8>> {
        let mut parameters = Parameters::new(mechanism);
        let mut mechanism = parameters.mechanism();
        call!(self, C_SignInit, Function::SignInit, (session, &raw mut mechanism, key.0))?;
        let (data, data_bytes) = input(data);
        into_buffer(Function::Sign, bytes_max, |buffer, length| {
            call!(self, C_Sign, Function::Sign, (session, data, data_bytes, buffer, length))
        })
    }

    /// `C_VerifyInit` and `C_Verify`.
    pub(crate) fn verify(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: Mechanism<'_>,
        key: Handle,
        data: &[u8],
        signature: &[u8],
    ) -> Outcome<()> {
        let mut parameters = Parameters::new(mechanism);
        let mut mechanism = parameters.mechanism();
        call!(self, C_VerifyInit, Function::VerifyInit, (session, &raw mut mechanism, key.0))?;
        let (data, data_bytes) = input(data);
        let (signature, signature_bytes) = input(signature);
        call!(self, C_Verify, Function::Verify, (session, data, data_bytes, signature, signature_bytes))
    }

    /// `C_EncryptInit` and `C_Encrypt`.
    pub(crate) fn encrypt(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: Mechanism<'_>,
        key: Handle,
        plaintext: &[u8],
        bytes_max: usize,
    ) -> Outcome<Vec<u8>> {
        self.cipher_init(session, Direction::Encrypt, mechanism, key)?;
        let (data, data_bytes) = input(plaintext);
        into_buffer(Function::Encrypt, bytes_max, |buffer, length| {
            call!(self, C_Encrypt, Function::Encrypt, (session, data, data_bytes, buffer, length))
        })
    }

    /// `C_DecryptInit` and `C_Decrypt`. What comes back is secret: the caller wraps it at once.
    pub(crate) fn decrypt(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: Mechanism<'_>,
        key: Handle,
        ciphertext: &[u8],
        bytes_max: usize,
    ) -> Outcome<Vec<u8>> {
        self.cipher_init(session, Direction::Decrypt, mechanism, key)?;
        let (data, data_bytes) = input(ciphertext);
        into_buffer(Function::Decrypt, bytes_max, |buffer, length| {
            call!(self, C_Decrypt, Function::Decrypt, (session, data, data_bytes, buffer, length))
        })
    }

    /// `C_EncryptInit` or `C_DecryptInit`.
    pub(crate) fn cipher_init(
        &self,
        session: CK_SESSION_HANDLE,
        direction: Direction,
        mechanism: Mechanism<'_>,
        key: Handle,
    ) -> Outcome<()> {
        let mut parameters = Parameters::new(mechanism);
        let mut mechanism = parameters.mechanism();
        match direction {
            Direction::Encrypt => {
                call!(self, C_EncryptInit, Function::EncryptInit, (session, &raw mut mechanism, key.0))
            }
            Direction::Decrypt => {
                call!(self, C_DecryptInit, Function::DecryptInit, (session, &raw mut mechanism, key.0))
            }
        }
    }

    /// `C_EncryptUpdate` or `C_DecryptUpdate` of one block, in place. A module that keeps the block back
    /// cannot be used so, and is answered as if it lacked the function.
    pub(crate) fn cipher_block(
        &self,
        session: CK_SESSION_HANDLE,
        direction: Direction,
        block: &mut Block,
    ) -> Outcome<()> {
        let (data, data_bytes) = input(block);
        // Two blocks of room: modules may ask for one more than they write.
        let mut output = zeroize::Zeroizing::new([0u8; 32]);
        let mut length = as_ulong(output.len());
        let buffer = output.as_mut_ptr();
        let function = match direction {
            Direction::Encrypt => {
                let function = Function::EncryptUpdate;
                call!(self, C_EncryptUpdate, function, (session, data, data_bytes, buffer, &raw mut length))?;
                function
            }
            Direction::Decrypt => {
                let function = Function::DecryptUpdate;
                call!(self, C_DecryptUpdate, function, (session, data, data_bytes, buffer, &raw mut length))?;
                function
            }
        };
        if as_usize(length) != block.len() {
            return Err(Failed { function, code: Code(sys::CKR_FUNCTION_NOT_SUPPORTED) });
        }
        block.copy_from_slice(&output[..16]);
        Ok(())
    }

    /// `C_EncryptFinal` or `C_DecryptFinal`.
    pub(crate) fn cipher_final(&self, session: CK_SESSION_HANDLE, direction: Direction) -> Outcome<()> {
        let mut output = zeroize::Zeroizing::new([0u8; 32]);
        let mut length = as_ulong(output.len());
        let buffer = output.as_mut_ptr();
        match direction {
            Direction::Encrypt => {
                call!(self, C_EncryptFinal, Function::EncryptFinal, (session, buffer, &raw mut length))
            }
            Direction::Decrypt => {
                call!(self, C_DecryptFinal, Function::DecryptFinal, (session, buffer, &raw mut length))
            }
        }
    }
}

/// Gives `run` a buffer and believes the length it sets only as far as the buffer reaches.
fn into_buffer(
    function: Function,
    bytes_max: usize,
    run: impl FnOnce(*mut CK_BYTE, *mut CK_ULONG) -> Outcome<()>,
) -> Outcome<Vec<u8>> {
    // One byte at least: a null or dangling pointer would ask for the length.
    let mut buffer = vec![0u8; bytes_max.max(1)];
    let mut length = as_ulong(buffer.len());
    let result = run(buffer.as_mut_ptr(), &raw mut length);
    if result.is_err() || as_usize(length) > buffer.len() {
        crate::secret::wipe_vec(&mut buffer);
        result?;
        return Err(Failed { function, code: Code(sys::CKR_BUFFER_TOO_SMALL) });
    }
    buffer.truncate(as_usize(length));
    Ok(buffer)
}

fn input(bytes: &[u8]) -> (*mut CK_BYTE, CK_ULONG) {
    (bytes.as_ptr().cast_mut(), as_ulong(bytes.len()))
}

fn as_ulong(length: usize) -> CK_ULONG {
    CK_ULONG::try_from(length).expect("CK_ULONG is as wide as a pointer on every Unix")
}

fn as_usize(length: CK_ULONG) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

/// A template as PKCS#11 takes it. It points into the attributes it was made from, which it borrows.
struct Template<'a> {
    raw: Vec<CK_ATTRIBUTE>,
    /// Nested templates; `raw` points into them, and a moved `Vec` keeps its heap.
    nested: Vec<Self>,
    borrowed: PhantomData<&'a ()>,
}

impl<'a> Template<'a> {
    fn new(attributes: &'a [Attribute<'a>]) -> Self {
        let mut template =
            Self { raw: Vec::with_capacity(attributes.len()), nested: Vec::new(), borrowed: PhantomData };
        for attribute in attributes {
            let raw = match attribute {
                Attribute::Flag(kind, value) => of_value(*kind, if *value { &TRUE } else { &FALSE }),
                Attribute::Number(kind, value) => of_value(*kind, value),
                Attribute::Bytes(kind, value) => of_slice(*kind, value),
                Attribute::AllowedMechanisms(mechanisms) => of_slice(sys::CKA_ALLOWED_MECHANISMS, mechanisms),
                Attribute::UnwrapTemplate(inner) => {
                    let inner = Template::new(inner);
                    let raw = of_slice(sys::CKA_UNWRAP_TEMPLATE, &inner.raw);
                    template.nested.push(inner);
                    raw
                }
            };
            template.raw.push(raw);
        }
        template
    }

    fn parts(&mut self) -> (*mut CK_ATTRIBUTE, CK_ULONG) {
        debug_assert!(self.nested.iter().all(|inner| !inner.raw.is_empty()), "nested templates are not empty");
        (self.raw.as_mut_ptr(), as_ulong(self.raw.len()))
    }
}

fn of_value<T>(kind: CK_ATTRIBUTE_TYPE, value: &T) -> CK_ATTRIBUTE {
    of_slice(kind, std::slice::from_ref(value))
}

fn of_slice<T>(kind: CK_ATTRIBUTE_TYPE, values: &[T]) -> CK_ATTRIBUTE {
    let value: *const c_void = values.as_ptr().cast();
    CK_ATTRIBUTE { type_: kind, pValue: value.cast_mut(), ulValueLen: as_ulong(size_of_val(values)) }
}

/// A mechanism's parameters, as PKCS#11 takes them.
struct Parameters<'a> {
    number: CK_ULONG,
    block: ParameterBlock,
    borrowed: PhantomData<&'a ()>,
}

enum ParameterBlock {
    None,
    Pss(sys::CK_RSA_PKCS_PSS_PARAMS),
    Oaep(sys::CK_RSA_PKCS_OAEP_PARAMS),
    Gcm(sys::CK_GCM_PARAMS),
    /// The bytes themselves are the parameter.
    Iv(*mut c_void, usize),
}

impl<'a> Parameters<'a> {
    fn new(mechanism: Mechanism<'a>) -> Self {
        let block = match mechanism {
            Mechanism::RsaPss(digest) => {
                let (hash, mgf) = hash_and_mgf(digest);
                let salt = as_ulong(digest.bytes());
                ParameterBlock::Pss(sys::CK_RSA_PKCS_PSS_PARAMS { hashAlg: hash, mgf, sLen: salt })
            }
            Mechanism::RsaOaep => {
                let (hash, mgf) = hash_and_mgf(Digest::Sha1);
                ParameterBlock::Oaep(sys::CK_RSA_PKCS_OAEP_PARAMS {
                    hashAlg: hash,
                    mgf,
                    source: sys::CKZ_DATA_SPECIFIED,
                    pSourceData: ptr::null_mut(),
                    ulSourceDataLen: 0,
                })
            }
            Mechanism::Gcm { iv, additional_data } => {
                let (iv, iv_bytes) = input(iv);
                let (aad, aad_bytes) = input(additional_data);
                ParameterBlock::Gcm(sys::CK_GCM_PARAMS {
                    pIv: iv,
                    ulIvLen: iv_bytes,
                    ulIvBits: iv_bytes * 8,
                    pAAD: if aad_bytes == 0 { ptr::null_mut() } else { aad },
                    ulAADLen: aad_bytes,
                    ulTagBits: as_ulong(crate::algorithms::GCM_TAG_BYTES * 8),
                })
            }
            Mechanism::Cbc { iv } => ParameterBlock::Iv(input(iv).0.cast(), iv.len()),
            _ => ParameterBlock::None,
        };
        Self { number: mechanism.number(), block, borrowed: PhantomData }
    }

    /// The mechanism; it points into `self`.
    fn mechanism(&mut self) -> CK_MECHANISM {
        let (parameter, length): (*mut c_void, usize) = match &mut self.block {
            ParameterBlock::None => (ptr::null_mut(), 0),
            ParameterBlock::Pss(pss) => (ptr::from_mut(pss).cast(), size_of_val(pss)),
            ParameterBlock::Oaep(oaep) => (ptr::from_mut(oaep).cast(), size_of_val(oaep)),
            ParameterBlock::Gcm(gcm) => (ptr::from_mut(gcm).cast(), size_of_val(gcm)),
            ParameterBlock::Iv(iv, length) => (*iv, *length),
        };
        CK_MECHANISM { mechanism: self.number, pParameter: parameter, ulParameterLen: as_ulong(length) }
    }
}

fn hash_and_mgf(digest: Digest) -> (CK_ULONG, CK_ULONG) {
    match digest {
        Digest::Sha1 => (sys::CKM_SHA_1, sys::CKG_MGF1_SHA1),
        Digest::Sha256 => (sys::CKM_SHA256, sys::CKG_MGF1_SHA256),
        Digest::Sha384 => (sys::CKM_SHA384, sys::CKG_MGF1_SHA384),
        Digest::Sha512 => (sys::CKM_SHA512, sys::CKG_MGF1_SHA512),
    }
}
