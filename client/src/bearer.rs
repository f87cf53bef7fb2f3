//! A bearer token in a file, sent with every call. Whoever puts it there replaces it before it expires (a projected
//! token of Kubernetes, a cron job), so the file is looked at before each call and read again when it is another.

use std::{
    fs::{File, Metadata},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

use crate::{Setting, SettingsError};

/// The longest token that a server takes.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// The file, and what it held when it was last read.
#[derive(Clone)]
pub(crate) struct TokenFile(Arc<Inner>);

struct Inner {
    path: PathBuf,
    newest: Mutex<Option<(Stamp, MetadataValue<Ascii>)>>,
}

/// What tells one content of the file from another without reading it: (device, inode, length, seconds, nanoseconds).
type Stamp = (u64, u64, u64, i64, i64);

fn stamp(about: &Metadata) -> Stamp {
    (about.dev(), about.ino(), about.len(), about.mtime(), about.mtime_nsec())
}

impl std::fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TokenFile").field(&self.0.path).finish()
    }
}

impl TokenFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(Arc::new(Inner { path, newest: Mutex::new(None) }))
    }

    /// Adds the token to a call.
    pub(crate) fn authorize(&self, metadata: &mut MetadataMap) -> Result<(), SettingsError> {
        metadata.insert("authorization", self.value()?);
        Ok(())
    }

    fn value(&self) -> Result<MetadataValue<Ascii>, SettingsError> {
        let path = &self.0.path;
        let failed = |source| SettingsError::File { setting: Setting::Token, path: path.clone(), source };
        let mut file = File::open(path).map_err(failed)?;
        let found = stamp(&file.metadata().map_err(failed)?);
        let mut newest = self.0.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, value)) = newest.as_ref().filter(|(known, _)| *known == found) {
            return Ok(value.clone());
        }
        let text = read(&mut file).map_err(failed)?;
        let value = header(&text).ok_or_else(|| SettingsError::NoToken { path: path.clone() })?;
        *newest = Some((found, value.clone()));
        Ok(value)
    }
}

/// The whole file, in one allocation: growing would leave copies of a secret behind.
fn read(file: &mut File) -> io::Result<zeroize::Zeroizing<Vec<u8>>> {
    let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(TOKEN_BYTES_MAX + 3));
    file.take(TOKEN_BYTES_MAX as u64 + 3).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// One line of visible ASCII; a line's end after it is not part of it.
fn header(text: &[u8]) -> Option<MetadataValue<Ascii>> {
    let token = text.trim_ascii();
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX || !token.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    let line = zeroize::Zeroizing::new([b"Bearer ", token].concat());
    let mut value = MetadataValue::try_from(line.as_slice()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(file: &TokenFile) -> String {
        let mut metadata = MetadataMap::new();
        file.authorize(&mut metadata).expect("a token");
        metadata.get("authorization").expect("is there").to_str().expect("ASCII").to_owned()
    }

    #[test]
    fn a_token_that_was_replaced_is_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        std::fs::write(&path, "a.b.c\n").expect("written");
        let file = TokenFile::new(path.clone());
        assert_eq!((sent(&file), sent(&file)), ("Bearer a.b.c".to_owned(), "Bearer a.b.c".to_owned()));
        // As Kubernetes does: another file under the same name.
        std::fs::write(folder.path().join("next"), "d.e.f").expect("written");
        std::fs::rename(folder.path().join("next"), &path).expect("renamed");
        assert_eq!(sent(&file), "Bearer d.e.f");
        std::fs::remove_file(&path).expect("removed");
        let error = file.authorize(&mut MetadataMap::new()).expect_err("gone");
        assert!(matches!(error, SettingsError::File { setting: Setting::Token, .. }), "{error}");
    }

    #[test]
    fn what_is_no_token_is_not_sent_and_nothing_is_printed() {
        for wrong in ["", "\n", "a b", "a\nb", "ä", "a\u{0}", &"x".repeat(TOKEN_BYTES_MAX + 1)] {
            assert!(header(wrong.as_bytes()).is_none(), "{wrong:?}");
        }
        let value = header("x".repeat(TOKEN_BYTES_MAX).as_bytes()).expect("is the longest");
        assert!(value.is_sensitive() && !format!("{value:?}").contains('x'));
    }
}
