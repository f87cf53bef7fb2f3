//! A disk that fails when it is told to.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
};

use super::{
    super::{
        Log,
        journal::disk::{Disk, Folder, Segment},
    },
    INSTANCE, Options,
};

const ENOSPC: i32 = 28;
const EIO: i32 = 5;
const EMFILE: i32 = 24;

/// What goes wrong from now on.
pub(super) struct Faults {
    /// Bytes until the disk is full.
    pub(super) space: AtomicUsize,
    pub(super) write_fails: AtomicBool,
    pub(super) truncate_fails: AtomicBool,
    pub(super) sync_fails: AtomicBool,
    pub(super) sync_panics: AtomicBool,
    pub(super) create_fails: AtomicBool,
    /// What statvfs says.
    pub(super) free_bytes: AtomicU64,
    /// How large the disk is; then statvfs says what the files have left of it.
    pub(super) disk_bytes: AtomicU64,
    /// A sync takes as long as a test holds this.
    pub(super) gate: Mutex<()>,
    pub(super) syncs: AtomicUsize,
    pub(super) writes: AtomicUsize,
}

struct FaultyDisk(Folder, Arc<Faults>, PathBuf);
struct FaultySegment(Arc<dyn Segment>, Arc<Faults>);

/// Opens a log on a faulty disk that works so far.
pub(super) fn open(dir: &Path, options: Options) -> (Log, Arc<Faults>) {
    let faults = Arc::new(Faults {
        space: AtomicUsize::new(usize::MAX),
        write_fails: AtomicBool::new(false),
        truncate_fails: AtomicBool::new(false),
        sync_fails: AtomicBool::new(false),
        sync_panics: AtomicBool::new(false),
        create_fails: AtomicBool::new(false),
        free_bytes: AtomicU64::new(u64::MAX),
        disk_bytes: AtomicU64::new(u64::MAX),
        gate: Mutex::new(()),
        syncs: AtomicUsize::new(0),
        writes: AtomicUsize::new(0),
    });
    let disk = FaultyDisk(Folder::open(dir).unwrap(), Arc::clone(&faults), dir.to_owned());
    let (log, _) = Log::open_on(Arc::new(disk), dir, options, INSTANCE).unwrap();
    (log, faults)
}

fn fail_if(fault: &AtomicBool, errno: i32) -> io::Result<()> {
    if fault.load(SeqCst) { Err(io::Error::from_raw_os_error(errno)) } else { Ok(()) }
}

impl FaultyDisk {
    fn wrap(&self, segment: Arc<dyn Segment>) -> Arc<dyn Segment> {
        Arc::new(FaultySegment(segment, Arc::clone(&self.1)))
    }
}

impl Disk for FaultyDisk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn Segment>> {
        fail_if(&self.1.create_fails, EMFILE)?;
        self.0.create(name).map(|segment| self.wrap(segment))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn Segment>> {
        self.0.open(name).map(|segment| self.wrap(segment))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        match self.1.disk_bytes.load(SeqCst) {
            u64::MAX => Ok(self.1.free_bytes.load(SeqCst)),
            disk_bytes => Ok(disk_bytes.saturating_sub(super::taken(&self.2))),
        }
    }

    fn is_locked(&self) -> io::Result<bool> {
        self.0.is_locked()
    }
}

impl Segment for FaultySegment {
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        fail_if(&self.1.write_fails, EIO)?;
        self.1.writes.fetch_add(1, SeqCst);
        let space = self.1.space.load(SeqCst);
        if space == 0 {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        let written = self.0.write(&bytes[..bytes.len().min(space)])?;
        self.1.space.fetch_sub(written, SeqCst);
        Ok(written)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        fail_if(&self.1.truncate_fails, EIO)?;
        self.0.truncate(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        let _gate = self.1.gate.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(!self.1.sync_panics.load(SeqCst), "told to");
        fail_if(&self.1.sync_fails, EIO)?;
        self.0.sync()?;
        self.1.syncs.fetch_add(1, SeqCst);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn is_in_place(&self) -> io::Result<bool> {
        self.0.is_in_place()
    }
}
