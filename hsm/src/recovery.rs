//! Recovery keys: RSA keys that people keep, for which a root is wrapped when it is made.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use der::{Decode as _, Encode as _, asn1::BitStringRef};
use sha2::{Digest as _, Sha256};
use spki::SubjectPublicKeyInfoRef;
use zeroize::Zeroizing;

use crate::{protocol::Fault, secret::SecretBytes};

/// No RSA key that anybody uses is longer in PEM: one of 16,384 bits has 12,900 characters.
const PEM_BYTES_MAX: usize = 16 * 1024;

/// SHA-256 of the SubjectPublicKeyInfo (DER) of an RSA key that is given as PKCS#8 (DER); `None` for anything else.
#[must_use]
pub fn fingerprint(pkcs8: &[u8]) -> Option<[u8; 32]> {
    let info = pkcs8::PrivateKeyInfoRef::from_der(pkcs8).ok()?;
    if info.algorithm.oid != pkcs1::ALGORITHM_OID {
        return None;
    }
    let key = pkcs1::RsaPrivateKeyRef::from_der(info.private_key.as_bytes()).ok()?;
    let public = key.public_key().to_der().ok()?;
    let subject_public_key = BitStringRef::from_bytes(&public).ok()?;
    let spki = SubjectPublicKeyInfoRef { algorithm: pkcs1::ALGORITHM_ID, subject_public_key };
    Some(Sha256::digest(spki.to_der().ok()?).into())
}

/// Reads a private key: PKCS#8 in PEM, not encrypted, in a file that only its owner may read. With it, its [`fingerprint`].
///
/// # Errors
/// [`Fault::Setup`] says what is wrong with the file.
pub(crate) fn read(path: &Path) -> Result<(SecretBytes, [u8; 32]), Fault> {
    let setup = |why: &str| Fault::Setup(format!("the recovery key {} {why}", path.display()));
    let file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => setup("is not there: its holder puts it there while the root is rotated"),
        _ => setup(&format!("cannot be opened: {error}")),
    })?;
    let about = file.metadata().map_err(|error| setup(&format!("cannot be examined: {error}")))?;
    if about.mode() & 0o077 != 0 {
        return Err(setup("may be read by others: its mode must be 0600 or 0400"));
    }
    // As long as it may be, at once: no copy is left behind by growing.
    let mut pem = Zeroizing::new(Vec::with_capacity(PEM_BYTES_MAX + 1));
    let limit = u64::try_from(PEM_BYTES_MAX).unwrap_or(u64::MAX) + 1;
    file.take(limit).read_to_end(&mut pem).map_err(|error| setup(&format!("cannot be read: {error}")))?;
    if pem.len() > PEM_BYTES_MAX {
        return Err(setup("is too long for an RSA key"));
    }
    let unreadable = || setup("is not an RSA key as PKCS#8 in PEM, not encrypted (its first line says PRIVATE KEY)");
    let text = std::str::from_utf8(&pem).map_err(|_| unreadable())?;
    let (label, document) = pkcs8::SecretDocument::from_pem(text).map_err(|_| unreadable())?;
    let fingerprint = fingerprint(document.as_bytes()).filter(|_| label == "PRIVATE KEY").ok_or_else(unreadable)?;
    Ok((SecretBytes::new(document.as_bytes().to_vec()), fingerprint))
}
