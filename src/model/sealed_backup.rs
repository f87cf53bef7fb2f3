//! What backups of keys and of secrets have in common: their outside.
//!
//! ```text
//! backup = magic | format u16 | body | seal, 32
//! seal   = HMAC-SHA256 in the HSM, with the sealing key, over
//!          canonical form (seal tag) of: 1 format, 2 SHA-256 of the body
//! ```

use sha2::{Digest as _, Sha256};
use strongroom_hsm::{
    Seal,
    statement::{Canonical, Fields, NotCanonical},
};

/// The longest backup, in bytes: 500 versions of RSA-4096 with some tags, and short enough for one message.
pub const BYTES_MAX: usize = 2 * 1024 * 1024 - 64 * 1024;
/// The most versions of one backup (Azure Key Vault's bound).
pub const VERSIONS_MAX: usize = 500;

const SEAL_BYTES: usize = 32;

/// What a kind of backup is told by.
pub(super) struct Format {
    /// What it is of.
    pub(super) noun: &'static str,
    pub(super) magic: &'static [u8],
    /// The format that this release writes and reads.
    pub(super) number: u16,
    pub(super) seal_tag: &'static str,
}

/// Why bytes are no backup of a key, or of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotABackup {
    /// Something else than a backup of that.
    #[error("it is no backup of a {0}, as `{0} backup` writes them")]
    Other(&'static str),
    /// Made by a newer release.
    #[error("it has format {0}, which this release does not read: use a newer one")]
    Newer(u16),
    /// Too long.
    #[error("it is longer than {BYTES_MAX} bytes")]
    TooLong,
    /// Cut, or altered.
    #[error("it is damaged: cut, or altered; take another copy")]
    Damaged,
}

impl From<NotCanonical> for NotABackup {
    fn from(_: NotCanonical) -> Self {
        Self::Damaged
    }
}

/// A backup that is not sealed yet.
#[derive(Debug)]
pub struct Unsealed {
    bytes: Vec<u8>,
    form: Vec<u8>,
}

impl Unsealed {
    /// What is to be sealed.
    #[must_use]
    pub fn form(&self) -> Vec<u8> {
        self.form.clone()
    }

    /// The whole backup, and its SHA-256.
    #[must_use]
    pub fn with(mut self, seal: &Seal) -> (Vec<u8>, [u8; 32]) {
        self.bytes.extend_from_slice(seal);
        let digest = Sha256::digest(&self.bytes).into();
        (self.bytes, digest)
    }
}

/// What can be told of where a backup comes from: nothing of it is believed before its seal was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Of which instance.
    pub instance: [u8; 16],
    /// On which root that stood ([`InstanceRow::root_name`](super::InstanceRow::root_name)): what is under it goes with it.
    pub root: [u8; 16],
    /// What its seal is over.
    pub sealed: Vec<u8>,
    /// The seal.
    pub seal: Seal,
    /// SHA-256 of all of it, as records name it.
    pub digest: [u8; 32],
}

/// The outside of a backup that was read.
pub(super) struct Opened<'a> {
    pub(super) body: &'a [u8],
    pub(super) sealed: Vec<u8>,
    pub(super) seal: Seal,
    pub(super) digest: [u8; 32],
}

impl Format {
    /// A backup with that body.
    pub(super) fn write(&self, body: &[u8]) -> Result<Unsealed, NotABackup> {
        let mut bytes = self.magic.to_vec();
        bytes.extend_from_slice(&self.number.to_be_bytes());
        bytes.extend_from_slice(body);
        if bytes.len() + SEAL_BYTES > BYTES_MAX {
            return Err(NotABackup::TooLong);
        }
        Ok(Unsealed { bytes, form: self.sealed_form(body) })
    }

    /// The body of a backup, and its seal.
    pub(super) fn read<'a>(&self, bytes: &'a [u8]) -> Result<Opened<'a>, NotABackup> {
        let rest = bytes.strip_prefix(self.magic).ok_or(NotABackup::Other(self.noun))?;
        let (format, rest) = rest.split_first_chunk::<2>().ok_or(NotABackup::Damaged)?;
        let format = u16::from_be_bytes(*format);
        if format != self.number {
            return Err(if format > self.number { NotABackup::Newer(format) } else { NotABackup::Damaged });
        }
        if bytes.len() > BYTES_MAX {
            return Err(NotABackup::TooLong);
        }
        let (body, seal) = rest.split_last_chunk::<SEAL_BYTES>().ok_or(NotABackup::Damaged)?;
        Ok(Opened { body, sealed: self.sealed_form(body), seal: *seal, digest: Sha256::digest(bytes).into() })
    }

    fn sealed_form(&self, body: &[u8]) -> Vec<u8> {
        Canonical::new(self.seal_tag).number(1, u64::from(self.number)).field(2, &Sha256::digest(body)).finish()
    }
}

/// The fields of a canonical form by their numbers, from 1; those that are not there are empty.
pub(super) fn fields<'a, const N: usize>(form: &'a [u8], tag: &str) -> Result<[&'a [u8]; N], NotABackup> {
    let mut fields = Fields::new(form, tag)?;
    let mut found = [[].as_slice(); N];
    while let Some((number, value)) = fields.take()? {
        let place = usize::from(number).checked_sub(1).and_then(|place| found.get_mut(place));
        *place.ok_or(NotABackup::Damaged)? = value;
    }
    Ok(found)
}

/// Forms one behind the other, each after its length.
pub(super) fn chain(forms: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for form in forms {
        let length = u32::try_from(form.len()).expect("a version is far shorter than 4 GiB");
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&form);
    }
    bytes
}

/// What [`chain`] has put together: at most [`VERSIONS_MAX`].
pub(super) fn links(mut rest: &[u8]) -> Result<Vec<&[u8]>, NotABackup> {
    let mut forms = Vec::new();
    while !rest.is_empty() {
        let (length, tail) = rest.split_first_chunk::<4>().ok_or(NotABackup::Damaged)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| NotABackup::Damaged)?;
        let (form, tail) = tail.split_at_checked(length).ok_or(NotABackup::Damaged)?;
        if forms.len() == VERSIONS_MAX {
            return Err(NotABackup::Damaged);
        }
        forms.push(form);
        rest = tail;
    }
    Ok(forms)
}
