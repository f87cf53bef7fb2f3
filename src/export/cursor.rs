//! How far an exporter has got: a small file in the log's folder, written when records were delivered.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::Exporter;

/// The folder of cursors in that of the log.
const FOLDER: &str = "exporters";

/// A cursor on the disk.
#[derive(Clone, Debug)]
pub struct Cursor {
    path: PathBuf,
    mark: Mark,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    /// The exporter's name.
    exporter: String,
    /// The index of the first record that is not delivered.
    next: u64,
}

/// Why a cursor cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CursorError {
    /// The file system said no.
    #[error("cannot keep the exporter's cursor {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is not one of this exporter.
    #[error("{0} is no cursor of this exporter: take it away, and the exporter begins as `start` says")]
    Form(PathBuf),
}

impl Cursor {
    /// The file of an exporter's cursor.
    fn path(log: &Path, name: &str) -> PathBuf {
        log.join(FOLDER).join(format!("{name}.json"))
    }

    /// Looks where an exporter is, and changes nothing. `None`: it has not begun. Blocks.
    ///
    /// # Errors
    /// [`CursorError`].
    pub fn look(log: &Path, name: &str) -> Result<Option<u64>, CursorError> {
        let path = Self::path(log, name);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(CursorError::Io { path, source }),
        };
        match serde_json::from_slice::<Mark>(&text) {
            Ok(mark) if mark.exporter == name => Ok(Some(mark.next)),
            _ => Err(CursorError::Form(path)),
        }
    }

    /// The cursor of an exporter; where there is none, one at `start`, which is kept at once. Blocks.
    ///
    /// # Errors
    /// [`CursorError`].
    pub(super) fn open(log: &Path, exporter: &Exporter, start: u64) -> Result<Self, CursorError> {
        let name = &exporter.name;
        let found = Self::look(log, name)?;
        let mark = Mark { exporter: name.clone(), next: found.unwrap_or(start) };
        let cursor = Self { path: Self::path(log, name), mark };
        if found.is_none() {
            let folder = log.join(FOLDER);
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
            made.map_err(|source| CursorError::Io { path: folder, source })?;
            cursor.save()?;
        }
        Ok(cursor)
    }

    /// The index of the first record that is not delivered.
    pub(super) const fn next(&self) -> u64 {
        self.mark.next
    }

    /// Moves it; [`Self::save`] keeps that.
    pub(super) const fn set(&mut self, next: u64) {
        self.mark.next = next;
    }

    /// Replaces the file, durably. Blocks.
    ///
    /// # Errors
    /// [`CursorError::Io`].
    pub(super) fn save(&self) -> Result<(), CursorError> {
        self.replace().map_err(|source| CursorError::Io { path: self.path.clone(), source })
    }

    fn replace(&self) -> io::Result<()> {
        let aside = self.path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        let mut text = serde_json::to_vec(&self.mark)?;
        text.push(b'\n');
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&aside, &self.path)?;
        File::open(self.path.parent().unwrap_or(Path::new("/")))?.sync_all()
    }
}
