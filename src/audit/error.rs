//! What can go wrong with the log, by what the caller can do about it.

use std::{io, path::PathBuf, sync::Arc};

/// Why a record was not appended. There is no answer without a record.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// [`Log::close`](super::Log::close) was called. Nothing was written.
    #[error("the audit log is closed")]
    Closed,
    /// The file system is full, or what is left is reserved. Nothing was written; it may work later.
    #[error("no space is left for audit records")]
    NoSpace,
    /// A new segment cannot be opened, for example for want of file descriptors. Nothing was written; it may work later.
    #[error("a new segment of the audit log cannot be opened")]
    Segment(#[source] Arc<io::Error>),
    /// The record is too long. Nothing was written; this record will never be.
    #[error("an audit record of {bytes} bytes exceeds the limit of {bytes_max}")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// Tiles of the tree, or its checkpoint, could not be written. The journal has the records; it may work later.
    #[error("the tree of the audit log could not be written")]
    Tree(#[source] Arc<Cause>),
    /// The log has failed and takes nothing any more until it is opened anew. Whether this record is in it is unknown.
    #[error("the audit log has failed and takes no more records")]
    Poisoned(#[source] Arc<Cause>),
}

/// The first thing that went wrong with a log that has failed.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// write(2) failed, for another reason than want of space.
    #[error("a record could not be written")]
    Write(#[source] io::Error),
    /// Part of a record was written, and could not be cut off again.
    #[error("a half-written record could not be cut off")]
    Cut(#[source] io::Error),
    /// A sync of a segment or of the folder failed: what the kernel still holds of it is unknown.
    #[error("the log could not be synced")]
    Sync(#[source] io::Error),
    /// fstat or statvfs failed.
    #[error("the log could not be inspected")]
    Inspect(#[source] io::Error),
    /// The file that is written to is no longer the file of that name.
    #[error("the log file was unlinked, moved or replaced")]
    Unlinked,
    /// Somebody else wrote to the file or cut it.
    #[error("the log file was changed: it has {found} bytes where {expected} were written")]
    Changed {
        /// The bytes that this process knows of.
        expected: u64,
        /// The bytes that are there.
        found: u64,
    },
    /// The lock file was taken away, so another process may believe that the log is free.
    #[error("the lock file of the log was removed or replaced")]
    LockLost,
    /// A file has the name of the segment that comes next.
    #[error("the next segment is already there")]
    SegmentExists,
    /// A tile, a bundle or a checkpoint could not be written.
    #[error("a file of the tree could not be written")]
    Tiles(#[source] io::Error),
    /// The journal could not be read.
    #[error("the journal could not be read")]
    Follow(#[source] io::Error),
    /// A record on the disk is not the one that was written.
    #[error("a record in the journal was changed by somebody else")]
    Altered,
    /// A thread panicked while it held the log.
    #[error("a thread panicked while it held the log")]
    Panicked,
}

/// Why a log cannot be opened or verified.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the audit log {0} is in use by another process")]
    Locked(PathBuf),
    /// There is no log in that folder.
    #[error("there is no audit log in {0}")]
    Missing(PathBuf),
    /// Others than the owner may enter the folder.
    #[error("the audit log's folder {path} has mode {mode:03o}: it must be closed to group and others (chmod 700)")]
    Exposed {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The instance's id is not 1 to 64 lower-case hexadecimal digits.
    #[error("the instance id is not 1 to 64 lower-case hexadecimal digits")]
    InstanceId,
    /// The log is not what was written. Nothing was changed; keep a copy before anything else.
    #[error("the audit log is damaged: {file}, line {line}: {what}")]
    Damaged {
        /// The file.
        file: PathBuf,
        /// The line, from 1; 0 for the file as a whole.
        line: u64,
        /// What is wrong.
        what: Damage,
    },
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
    /// The first records could not be written.
    #[error("the audit log cannot be started")]
    Start(#[source] LogError),
}

/// What is wrong with a line or a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// A `.jsonl` file is not named by an index.
    #[error("the file's name is not the index of a record")]
    Name,
    /// The first segment, or one between two others, is gone, or records are missing from its end.
    #[error("the records from {expected} to the segment of {found} are missing")]
    Gap {
        /// The index that should come.
        expected: u64,
        /// The index that the file's name says.
        found: u64,
    },
    /// A line ends without a newline, or is empty, in a segment that others follow.
    #[error("the segment ends in the middle of a line")]
    Unterminated,
    /// The line is not a record.
    #[error("the line is not a record")]
    Malformed,
    /// The record has the wrong index.
    #[error("the record's index is {found} where {expected} should come")]
    Index {
        /// The index that should come.
        expected: u64,
        /// The index that the line says.
        found: u64,
    },
    /// The record is not the one whose leaf the line carries.
    #[error("the record was changed: it has another hash than its line says")]
    Leaf,
    /// The root in a segment's header is not that of the records before it.
    #[error("the records before the segment are not those that its header knows")]
    Root,
    /// The log ends before its own checkpoint.
    #[error("the log ends at record {found}, before its checkpoint of {expected} records: its end was cut off")]
    Cut {
        /// The size that the checkpoint says.
        expected: u64,
        /// The records that are there.
        found: u64,
    },
    /// The checkpoint's root is not that of the records.
    #[error("the first {size} records are not those that the checkpoint was signed for")]
    Checkpoint {
        /// The size that the checkpoint says.
        size: u64,
    },
    /// The file is not a checkpoint.
    #[error("it is not a checkpoint of this log")]
    NotACheckpoint,
    /// Segments lie in the log's own folder, as versions before the Merkle log wrote them.
    #[error("it is of a form that this version does not read: move it aside, with its store")]
    Form,
    /// No signature of a key that was given, or a wrong one.
    #[error("the checkpoint is not signed as it should be: {0}")]
    Signature(String),
    /// The checkpoint is another log's.
    #[error("it is a checkpoint of another log: {found}")]
    Origin {
        /// Whose it is.
        found: String,
    },
    /// The checkpoint's digest of the store's heads is not that of the records.
    #[error("the checkpoint does not know the store's heads as the records have them")]
    Heads,
    /// Tiles or a checkpoint, and no journal beside them.
    #[error("there are tiles or a checkpoint, and no journal: it was taken away")]
    NoJournal,
    /// A tile or bundle is missing, cut, or not what the records make.
    #[error("the tile or bundle is missing, or is not what the records make")]
    Tile,
    /// The first line of a segment is not its header.
    #[error("the segment does not begin with its header")]
    Header,
    /// The segment was written by another instance.
    #[error("the segment belongs to instance {found:?}")]
    Instance {
        /// Whose it is, as the header says.
        found: String,
    },
    /// The heads or open intents of the header are not those of the records before it.
    #[error("the segment's header disagrees with the records before it")]
    Standing,
}
