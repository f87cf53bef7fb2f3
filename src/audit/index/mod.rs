//! The search: records by resource, principal, operation, outcome and time, and who used what how often.
//!
//! The index is an SQLite file, `index.db`, in the log's folder. Nothing stands on it: it is made from the log by
//! [`Index::feed`], a pass at a time, goes on where it was interrupted, and is dropped and made anew when it is
//! unreadable or not of this log. Whoever wants that removes the file while the service is down.
//!
//! It says in which bundles (256 records) something may be. [`Index::find`] reads those, and looks at each record
//! itself; what is not indexed yet it reads as a whole. So the index decides how long a search takes and never what it
//! finds. Only [`Index::uses`] answers out of what is in the index.
//!
//! Without an index, on a copy of a log, [`scan`] and [`tally`] do the same by reading everything.

mod db;
mod error;
mod list;
mod lookup;
mod names;
mod pass;
mod plan;
mod query;
mod skim;
mod uses;
mod write;

#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex as SyncMutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use sqlx::SqlitePool;
use tokio::{sync::Mutex, task::spawn_blocking};

use db::Db;
use list::Candidates;
use lookup::Snapshot;
use write::TermIds;

use super::{read::Reader, tlog::tile::WIDTH};
use crate::failpoint;

pub use error::IndexError;
pub use list::scan;
pub use query::{Filter, Found, FoundRecord, LIMIT_MAX, Order, Page, Query, Resource};
pub use uses::{Tally, Use, UseKey, UsePage, Uses, tally};

/// How much is done at once.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// A pass has at most so many bundles, and does not go beyond a multiple of it: so rows of the index lie within a
    /// block. At most 65,536.
    block: u64,
    /// One search reads so many bundles.
    reads: usize,
    /// One search looks for so many bundles: those that were pruned cost little.
    candidates: usize,
    /// So many bundles that are not indexed yet are counted one by one for [`Index::uses`].
    tail: u64,
}

/// A pass, and a search, take a quarter of a second or so.
const BOUNDS: Bounds = Bounds { block: 1024, reads: 512, candidates: 8192, tail: 1024 };

/// The records of a bundle.
const RECORDS: u64 = WIDTH as u64;

/// The index of one log.
pub struct Index {
    dir: PathBuf,
    origin: String,
    reader: Reader,
    bounds: Bounds,
    /// One pass at a time.
    feeding: Mutex<Option<Feeding>>,
    /// Those who read: there when the index was found to be of this log.
    readers: SyncMutex<Option<SqlitePool>>,
    /// A reader met something that is not as this program wrote it.
    doubted: AtomicBool,
}

/// The writing side.
struct Feeding {
    db: Db,
    ids: TermIds,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").field("dir", &self.dir).field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl Index {
    /// The index of the log in that folder, whose checkpoints have that origin. Touches no file: [`Self::feed`] opens
    /// it, and until then everything is found by reading the log.
    #[must_use]
    pub fn new(dir: &Path, origin: &str) -> Self {
        Self {
            dir: dir.to_owned(),
            origin: origin.to_owned(),
            reader: Reader::new(dir),
            bounds: BOUNDS,
            feeding: Mutex::new(None),
            readers: SyncMutex::new(None),
            doubted: AtomicBool::new(false),
        }
    }

    /// Takes the next records in, at most a quarter of a million, of a log of which `readable` can be read, and returns
    /// how many are in. Only whole bundles are taken in, so fewer than 256 records are left out in the end. An index
    /// that is not of this log is dropped before.
    ///
    /// A future that is dropped leaves the index as it was before the pass, or after it.
    ///
    /// # Errors
    /// [`IndexError`]: what was not done is done by the next call.
    pub async fn feed(&self, readable: u64) -> Result<u64, IndexError> {
        let mut feeding = self.feeding.lock().await;
        if self.doubted.swap(false, Ordering::AcqRel) {
            self.drop_index(feeding.take()).await?;
        }
        if failpoint::hit("audit.before_index") {
            let source = std::io::Error::other("a fail-point says so");
            return Err(IndexError::Io { what: "write", path: self.dir.join("index.db"), source });
        }
        if readable < RECORDS {
            return Ok(0);
        }
        let mut current = match feeding.take() {
            Some(current) if current.db.indexed <= readable => current,
            unfit => self.open(unfit, readable).await?,
        };
        let passed = self.pass(&mut current, readable).await.inspect_err(|error| self.doubt(error));
        let indexed = current.db.indexed;
        if matches!(passed, Err(IndexError::Sql(_))) {
            // What became of the transaction is unknown: what the file says is read again.
            self.set_readers(None);
            current.db.close().await;
        } else {
            *feeding = Some(current);
        }
        passed.map(|()| indexed)
    }

    /// Finds records, of a log of which `readable` can be read. One call reads a bounded part of the log: `next` of what
    /// it returns says where the following goes on, also where nothing was found so far.
    ///
    /// # Errors
    /// [`IndexError::Read`] or [`IndexError::Entry`]; trouble with the index itself only makes it slower.
    pub async fn find(&self, readable: u64, query: &Query, page: &Page) -> Result<Found, IndexError> {
        let candidates = match self.candidates(readable, query, page).await {
            Ok(candidates) => candidates,
            Err(error) => {
                self.doubt(&error);
                tracing::warn!(%error, cause = ?std::error::Error::source(&error), "the audit log is searched without its index");
                Candidates::every(readable, page, self.bounds)
            }
        };
        let (reader, query, page) = (self.reader.clone(), query.clone(), page.clone());
        spawn_blocking(move || list::read(&reader, readable, &query.filter(), &page, candidates)).await?
    }

    async fn candidates(&self, readable: u64, query: &Query, page: &Page) -> Result<Candidates, IndexError> {
        let criteria = plan::criteria(query);
        let readers = self.readers().filter(|_| !(criteria.is_empty() && query.is_at_any_time()));
        let Some(readers) = readers else { return Ok(Candidates::every(readable, page, self.bounds)) };
        let mut snapshot = Snapshot::open(&readers, self.bounds).await?;
        snapshot.candidates(&criteria, query, readable, page).await
    }

    /// Who used what: counts over whole days (UTC), from the day of `query.from` to that of the last second before
    /// `query.until`. A change counts by its outcome and not by its intent, a batch by its groups, and a record that
    /// stands for repeated refusals as so many.
    ///
    /// # Errors
    /// [`IndexError::Finer`] for a resource within an object; [`IndexError::Behind`] while the index is being made.
    pub async fn uses(&self, readable: u64, query: &Query, page: &UsePage) -> Result<Uses, IndexError> {
        uses::check(query)?;
        let (mut counted, indexed) = match self.readers() {
            None => (Uses::default(), 0),
            Some(readers) => {
                let counted = async {
                    let mut snapshot = Snapshot::open(&readers, self.bounds).await?;
                    Ok((snapshot.uses(query, page).await?, snapshot.indexed))
                };
                counted.await.inspect_err(|error| self.doubt(error))?
            }
        };
        if readable.saturating_sub(indexed) > self.bounds.tail * RECORDS {
            return Err(IndexError::Behind { indexed, readable });
        }
        let (reader, query) = (self.reader.clone(), query.clone());
        let tail = spawn_blocking(move || tally(&reader, indexed..readable, &query)).await??;
        counted.join(tail, page);
        Ok(counted)
    }

    /// Ends what is open. The index is opened again by the next [`Self::feed`].
    pub async fn close(&self) {
        let feeding = self.feeding.lock().await.take();
        self.set_readers(None);
        if let Some(Feeding { db, .. }) = feeding {
            db.close().await;
        }
    }

    async fn pass(&self, current: &mut Feeding, readable: u64) -> Result<(), IndexError> {
        let first = current.db.indexed / RECORDS;
        let until = (readable / RECORDS).min((first / self.bounds.block + 1) * self.bounds.block);
        if first >= until {
            return Ok(());
        }
        let (reader, dir) = (self.reader.clone(), self.dir.clone());
        let read = move || {
            let pass = pass::collect(&reader, first..until)?;
            let tile = db::tile_root(&dir, pass.bundles.end - 1)?;
            // A log that has the bundle has its tile: or it is being taken away.
            tile.map(|tile| (pass, tile)).ok_or(IndexError::Tile { number: until - 1 })
        };
        let (pass, tile) = spawn_blocking(read).await??;
        current.db.indexed = write::write(&current.db.writer, &mut current.ids, &pass, &tile).await?;
        Ok(())
    }

    /// Opens the index, anew if what is there is not the index of this log. `unfit` is one that is not.
    async fn open(&self, unfit: Option<Feeding>, readable: u64) -> Result<Feeding, IndexError> {
        if unfit.is_some() {
            self.drop_index(unfit).await?;
        }
        let path = self.path();
        let db = match Db::open(&path, &self.origin).await {
            Ok(db) if db.is_of(&self.dir, readable).await? => db,
            Ok(db) => {
                self.drop_index(Some(Feeding { db, ids: TermIds::default() })).await?;
                Db::open(&path, &self.origin).await?
            }
            Err(error) if error.is_unfit() => {
                self.drop_index(None).await?;
                Db::open(&path, &self.origin).await?
            }
            Err(error) => return Err(error),
        };
        self.set_readers(Some(db.readers.clone()));
        Ok(Feeding { db, ids: TermIds::default() })
    }

    /// Closes an index before its file is removed: a reader must not find another under its name.
    async fn drop_index(&self, feeding: Option<Feeding>) -> Result<(), IndexError> {
        self.set_readers(None);
        if let Some(Feeding { db, .. }) = feeding {
            db.close().await;
        }
        tracing::warn!(path = %self.path().display(), "the index of the audit log is made anew from the log");
        db::remove(&self.path())
    }

    fn doubt(&self, error: &IndexError) {
        if error.is_unfit() {
            self.doubted.store(true, Ordering::Release);
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.join(db::FILE)
    }

    fn readers(&self) -> Option<SqlitePool> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_readers(&self, readers: Option<SqlitePool>) {
        *self.readers.lock().unwrap_or_else(PoisonError::into_inner) = readers;
    }
}
