//! What an exporter reads: the records of a log that is in use, as far as they are in tiles and bundles.

use std::{
    path::PathBuf,
    sync::{Arc, Weak},
};

use super::{
    Exporter, Start,
    cursor::{Cursor, CursorError},
    shape::{self, Form, Item},
};
use crate::audit::{Log, ReadError, Reader, tlog::tile::WIDTH};

/// The most bytes of one delivery, unless a single record has more.
const BYTES_MAX: usize = 1 << 20;

/// A log, which it does not keep open.
#[derive(Clone, Debug)]
pub struct Source {
    log: Weak<Log>,
    dir: PathBuf,
    /// The instance's id in hexadecimal digits.
    pub(super) instance: String,
    /// The index that the next record had when this was made.
    end: u64,
}

/// What is delivered at once.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The index of the first record that was looked at.
    pub(super) first: u64,
    /// The index behind the last one.
    pub(super) until: u64,
    /// What is sent, in order. May be empty: not every record has something to say in every form.
    pub(super) items: Vec<Item>,
    /// So many records before `first` are not there any more.
    pub(super) pruned: u64,
}

/// Why records cannot be taken from the log.
#[derive(Debug, thiserror::Error)]
pub(super) enum TakeError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("record {index} is not JSON of a record")]
    Record {
        index: u64,
        #[source]
        source: serde_json::Error,
    },
}

impl Source {
    /// Follows that log, of the instance with that id.
    #[must_use]
    pub fn new(log: &Arc<Log>, instance: [u8; 16]) -> Self {
        Self {
            log: Arc::downgrade(log),
            dir: log.dir().to_owned(),
            instance: base16ct::lower::encode_string(&instance),
            end: log.known().next_index,
        }
    }

    /// How many records can be read; `None` when the log is gone.
    pub(super) fn readable(&self) -> Option<u64> {
        self.log.upgrade().map(|log| log.readable())
    }

    /// The cursor of an exporter. Blocks.
    pub(super) fn cursor(&self, exporter: &Exporter) -> Result<Cursor, CursorError> {
        let start = match exporter.start {
            Start::Now => self.end,
            Start::Beginning => 0,
        };
        let mut cursor = Cursor::open(&self.dir, exporter, start)?;
        if cursor.next() > self.end {
            tracing::error!(
                exporter = exporter.name,
                next = cursor.next(),
                records = self.end,
                "the log is shorter than what was exported of it: an older one was put back. What is recorded from now \
                 on is exported, with indices that the receiver has seen before"
            );
            cursor.set(self.end);
            cursor.save()?;
        }
        Ok(cursor)
    }

    /// The next records from `from` on, of `size` that can be read: at most so many, of one bundle. Blocks.
    pub(super) fn take(&self, from: u64, size: u64, records_max: usize, form: Form) -> Result<Batch, TakeError> {
        let (first, entries) = match self.skip_pruned(from, size)? {
            Some(found) => found,
            None => return Ok(Batch { first: size, until: size, pruned: size - from, items: Vec::new() }),
        };
        let mut batch = Batch { first, until: first, pruned: first - from, items: Vec::new() };
        let mut bytes = 0;
        for (index, entry) in entries.iter() {
            if batch.until - first >= records_max as u64 || bytes >= BYTES_MAX {
                break;
            }
            let items = shape::items(form, index, entry).map_err(|source| TakeError::Record { index, source })?;
            bytes += items.iter().map(|item| item.text.len()).sum::<usize>();
            batch.items.extend(items);
            batch.until = index + 1;
        }
        Ok(batch)
    }

    /// The first bundle from that record on that is there. `None`: all that can be read was pruned.
    fn skip_pruned(&self, from: u64, size: u64) -> Result<Option<(u64, crate::audit::Entries)>, ReadError> {
        let (reader, width) = (Reader::new(&self.dir), u64::from(WIDTH));
        let mut index = from;
        while index < size {
            let next = index - index % width + width;
            match reader.bundle(index, size) {
                Ok(entries) => return Ok(Some((index, entries))),
                // Only whole bundles are pruned: a partial one is replaced at this moment.
                Err(ReadError::Pruned { .. }) if next <= size => index = next,
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}
