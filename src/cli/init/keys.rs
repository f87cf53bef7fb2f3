//! Recovery keys: the public halves for `init`, a private one for `recover`.

use std::path::Path;

use der::{DecodePem as _, Encode as _};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use sha2::{Digest as _, Sha256};
use spki::SubjectPublicKeyInfoOwned;
use strongroom_hsm::{SecretBytes, recovery};
use zeroize::Zeroize as _;

use crate::{
    cli::{compose::failure, failure::Failure},
    config::files,
};

/// The public half of a recovery key.
pub(super) struct RecoveryKey {
    /// SubjectPublicKeyInfo (DER).
    pub(super) spki: Vec<u8>,
    /// SHA-256 of it.
    pub(super) fingerprint: [u8; 32],
}

/// The private half.
pub(in crate::cli) struct Private {
    /// PKCS#8 (DER).
    pub(super) pkcs8: SecretBytes,
    /// SHA-256 of the public half's SubjectPublicKeyInfo (DER).
    pub(super) fingerprint: [u8; 32],
}

/// Reads a public key in PEM. What kind and size it may have is the worker's to say.
pub(super) fn public(path: &Path) -> anyhow::Result<RecoveryKey> {
    let pem = files::read(path).map_err(|error| failure("a recovery key cannot be used", &error))?;
    let spki = SubjectPublicKeyInfoOwned::from_pem(&*pem).and_then(|spki| spki.to_der()).map_err(|_| {
        let shown = Failure::new(format!("{} is not a public key in PEM (BEGIN PUBLIC KEY)", path.display()));
        if contains(&pem, "PRIVATE KEY") {
            shown
                .hint("it is a private key, which does not belong on this machine")
                .hint("on the machine where it was made: openssl pkey -in FILE -pubout -out FILE.pub")
        } else {
            shown.hint("openssl pkey -in PRIVATE -pubout -out PUBLIC makes one")
        }
    })?;
    let fingerprint = Sha256::digest(&spki).into();
    Ok(RecoveryKey { spki, fingerprint })
}

/// Reads a private key: PKCS#8 in PEM, not encrypted.
pub(in crate::cli) fn private(path: &Path) -> anyhow::Result<Private> {
    let pem = files::read(path).map_err(|error| failure("the recovery key cannot be used", &error))?;
    let unreadable = || {
        let shown = Failure::new(format!(
            "{} is not an RSA key as PKCS#8 in PEM (its first line says PRIVATE KEY)",
            path.display()
        ));
        let plain = "openssl pkey -in FILE -out /dev/shm/recovery.pem, and remove that file at once afterwards";
        if contains(&pem, "ENCRYPTED") {
            shown.hint(format!("it is encrypted; decrypt it into memory: {plain}"))
        } else {
            shown.hint(format!("convert it: {plain}"))
        }
    };
    let mut key = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|_| unreadable())?;
    let pkcs8 = SecretBytes::new(key.secret_pkcs8_der().to_vec());
    key.zeroize();
    let fingerprint = recovery::fingerprint(pkcs8.expose_secret()).ok_or_else(unreadable)?;
    Ok(Private { pkcs8, fingerprint })
}

fn contains(pem: &[u8], word: &str) -> bool {
    pem.windows(word.len()).any(|window| window == word.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf, process::Command};

    use super::*;

    /// OpenSSL makes the keys, as an operator would.
    fn openssl(folder: &Path, arguments: &str) -> PathBuf {
        let out = folder.join(arguments.rsplit(' ').next().expect("a file"));
        let done = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output().expect("runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        out
    }

    #[test]
    fn both_halves_have_one_fingerprint() {
        let folder = tempfile::tempdir().expect("a folder");
        let private_path = openssl(folder.path(), "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out k.pem");
        let public_path = openssl(folder.path(), "pkey -in k.pem -pubout -out p.pem");
        let (public, private) = (public(&public_path).expect("is one"), private(&private_path).expect("is one"));
        assert_eq!(public.fingerprint, private.fingerprint);
    }

    #[test]
    fn what_is_not_the_right_half_or_form_is_refused_with_a_hint() {
        let folder = tempfile::tempdir().expect("a folder");
        openssl(folder.path(), "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out k.pem");
        let encrypted = openssl(folder.path(), "pkcs8 -topk8 -in k.pem -passout pass:x -out e.pem");
        let elliptic = openssl(folder.path(), "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ec.pem");
        let refused = private(&encrypted).err().expect("is refused").to_string();
        assert!(refused.contains("it is encrypted"), "{refused}");
        assert!(private(&elliptic).is_err());
        let refused = public(&folder.path().join("k.pem")).err().expect("is refused").to_string();
        assert!(refused.contains("does not belong on this machine"), "{refused}");
        fs::write(folder.path().join("x"), "x").expect("writes");
        assert!(public(&folder.path().join("x")).is_err() && private(&folder.path().join("x")).is_err());
        assert!(public(&folder.path().join("nowhere")).is_err());
    }
}
