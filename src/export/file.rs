//! Lines of a file, on the disk before they count as delivered.
//!
//! The file may lie on a network file system that hangs, so it is written by a thread that nobody waits for: not the
//! process at its end, and an exporter only for as long as a delivery may take.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use rustix::fs::OFlags;
use tokio::sync::oneshot;

use super::{error::DeliveryError, shape::Item};

/// What the thread is asked for.
struct Order {
    lines: Vec<u8>,
    done: oneshot::Sender<io::Result<()>>,
}

/// The file, behind its thread.
pub(super) struct FileSink {
    path: PathBuf,
    orders: Option<SyncSender<Order>>,
    /// An order that was given up, and is not yet through: before it is there is no other.
    pending: Option<oneshot::Receiver<io::Result<()>>>,
}

impl FileSink {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), orders: None, pending: None }
    }

    /// Appends a line for each item, and syncs.
    pub(super) async fn append(&mut self, items: &[Item]) -> Result<(), DeliveryError> {
        let failed = DeliveryError::io("write the export file");
        let lines = items.iter().flat_map(|item| item.text.bytes().chain([b'\n'])).collect();
        if let Some(pending) = &mut self.pending {
            let _ = pending.await;
            self.pending = None;
        }
        match self.order(lines).await {
            Ok(()) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    async fn order(&mut self, lines: Vec<u8>) -> io::Result<()> {
        let orders = match self.orders.take() {
            Some(orders) => orders,
            None => start(&self.path)?,
        };
        let (done, receiver) = oneshot::channel();
        // It has room: the thread is through with the order before.
        if orders.try_send(Order { lines, done }).is_err() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.orders = Some(orders);
        let pending = self.pending.insert(receiver);
        let written = pending.await.unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()));
        self.pending = None;
        written
    }
}

fn start(path: &Path) -> io::Result<SyncSender<Order>> {
    let (orders, receiver) = sync_channel(1);
    let path = path.to_owned();
    thread::Builder::new().name("audit-export".to_owned()).spawn(move || write_all(&path, &receiver))?;
    Ok(orders)
}

/// Writes what is ordered until nobody can order any more.
fn write_all(path: &Path, orders: &Receiver<Order>) {
    let mut open = None;
    for Order { lines, done } in orders {
        let written = write(path, &mut open, &lines);
        if written.is_err() {
            // Opened anew: the end of the file is looked at again.
            open = None;
        }
        // Nobody waits when the delivery was given up.
        let _ = done.send(written);
    }
}

fn write(path: &Path, open: &mut Option<File>, lines: &[u8]) -> io::Result<()> {
    let file = match open.take().filter(|file| is_in_place(file, path)) {
        Some(file) => open.insert(file),
        None => open.insert(open_at_end(path)?),
    };
    file.write_all(lines)?;
    file.sync_data()
}

/// Whether the open file is still the one of that name: a rotation moves it away.
fn is_in_place(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

fn open_at_end(path: &Path) -> io::Result<File> {
    // NONBLOCK: a pipe of that name must not hold the thread before it is seen that it is one.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let mut options = OpenOptions::new();
    let mut file = options.read(true).append(true).create(true).mode(0o600).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    if file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        // A crash or a full disk cut the last line off: the next one is on a line of its own.
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}
