//! A witness's private key, in a file of one line:
//!
//! ```text
//! PRIVATE+KEY+{name}+{hex(key ID)}+{base64(0x04 || seed of 32 bytes)}
//! ```
//!
//! The form is that in which Go's `sumdb/note` keeps keys of notes; the type 0x04 is that of cosignatures.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use aws_lc_rs::{rand, signature::Ed25519KeyPair};
use base64ct::{Base64, Encoding as _};
use zeroize::Zeroizing;

use super::file;
use crate::audit::tlog::{Cosigner, KeyError};

const PREFIX: &str = "PRIVATE+KEY+";

/// The byte of the key's type.
const TYPE: u8 = 0x04;

const SEED_BYTES: usize = 32;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum WitnessKeyError {
    /// There is no file, and no name to make a key for.
    #[error("there is no key {0}, and no name for a new one")]
    Missing(PathBuf),
    /// The key has another name than was asked for.
    #[error("the key {path} is of the witness {found:?}")]
    Name {
        /// The file.
        path: PathBuf,
        /// Its name.
        found: String,
    },
    /// Others than the owner may read it.
    #[error("the key {path} has mode {mode:03o}: it must be closed to group and others (chmod 600)")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is not such a key.
    #[error("{0} is not the private key of a witness")]
    Malformed(PathBuf),
    /// The name cannot be that of a key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The machine gives no random bytes.
    #[error("no random bytes are to be had")]
    Random,
    /// The file system said no.
    #[error("cannot {what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// The key in that file; where there is none, a new one of that name, which is on the disk when this returns.
///
/// # Errors
/// [`WitnessKeyError`].
pub fn take(path: &Path, name: Option<&str>) -> Result<Cosigner, WitnessKeyError> {
    let io = |what| move |source| WitnessKeyError::Io { what, path: path.to_owned(), source };
    let text = match fs::read_to_string(path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return make(path, name.ok_or_else(|| WitnessKeyError::Missing(path.to_owned()))?);
        }
        Err(error) => return Err(io("read")(error)),
    };
    let mode = fs::metadata(path).map_err(io("inspect"))?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(WitnessKeyError::Exposed { path: path.to_owned(), mode });
    }
    let cosigner = parse(&text).ok_or_else(|| WitnessKeyError::Malformed(path.to_owned()))?;
    let found = cosigner.key().name();
    if name.is_some_and(|name| name != found) {
        return Err(WitnessKeyError::Name { path: path.to_owned(), found: found.to_owned() });
    }
    Ok(cosigner)
}

fn make(path: &Path, name: &str) -> Result<Cosigner, WitnessKeyError> {
    let mut seed = Zeroizing::new([0; SEED_BYTES]);
    rand::fill(&mut *seed).map_err(|_| WitnessKeyError::Random)?;
    let pair = Ed25519KeyPair::from_seed_unchecked(&*seed).map_err(|_| WitnessKeyError::Random)?;
    let cosigner = Cosigner::new(name, pair)?;
    let mut key = Zeroizing::new([TYPE; 1 + SEED_BYTES]);
    key[1..].copy_from_slice(&*seed);
    let id = base16ct::lower::encode_string(&cosigner.key().id());
    let encoded = Zeroizing::new(Base64::encode_string(&*key));
    let text = Zeroizing::new(format!("{PREFIX}{name}+{id}+{}\n", *encoded));
    let wrote = file::write(path, text.as_bytes(), 0o600);
    wrote.map_err(|source| WitnessKeyError::Io { what: "write", path: path.to_owned(), source })?;
    Ok(cosigner)
}

/// The key, if its ID is that of its name and its public half: a slip in copying it is found.
fn parse(text: &str) -> Option<Cosigner> {
    let (name, rest) = text.strip_suffix('\n')?.strip_prefix(PREFIX)?.split_once('+')?;
    let (id, encoded) = rest.split_once('+')?;
    let mut key = Zeroizing::new([0; 1 + SEED_BYTES]);
    let length = Base64::decode(encoded, &mut *key).map(<[u8]>::len).ok()?;
    let known = length == key.len() && key[0] == TYPE;
    let pair = Ed25519KeyPair::from_seed_unchecked(&key[1..]).ok();
    let cosigner = Cosigner::new(name, pair.filter(|_| known)?).ok()?;
    (base16ct::lower::encode_string(&cosigner.key().id()) == id).then_some(cosigner)
}
