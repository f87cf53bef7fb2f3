//! Files that an operator names, read whole and with a limit.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use zeroize::Zeroizing;

/// The longest certificate, key or bundle that is read.
const BYTES_MAX: usize = 1024 * 1024;
/// The longest revocation list: half a million certificates.
const CRL_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A file that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path}")]
pub struct ReadError {
    /// Which file.
    pub path: String,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Reads a whole file of at most 1 MiB into memory that is wiped afterwards.
///
/// # Errors
/// When it cannot be read, or is longer.
pub fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    read_at_most(path, BYTES_MAX)
}

/// Reads a revocation list, of at most 16 MiB.
///
/// # Errors
/// When it cannot be read, or is longer.
pub fn read_crl(path: &Path) -> Result<Vec<u8>, ReadError> {
    read_at_most(path, CRL_BYTES_MAX).map(|mut bytes| std::mem::take(&mut *bytes))
}

fn read_at_most(path: &Path, bytes_max: usize) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    let failed = |source| ReadError { path: path.display().to_string(), source };
    let file = File::open(path).map_err(failed)?;
    let expected = file.metadata().map_err(failed)?.len();
    // One more than expected, allocated at once: a buffer that grows would leave copies behind.
    let room = usize::try_from(expected).unwrap_or(bytes_max).min(bytes_max) + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > bytes_max {
        return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {bytes_max} bytes"))));
    }
    Ok(bytes)
}
