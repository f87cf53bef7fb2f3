//! Reading a log: every line against the one before it. Changes nothing on disk.
//!
//! What a crash leaves, a last line that is not whole, is told apart from what a crash cannot leave:
//! the former is reported as [`Torn`], the latter is [`OpenError::Damaged`].

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use super::{
    disk,
    error::{Damage, OpenError},
    line::{self, Hash, Header},
    record::{HeadMark, Record},
    standing::Standing,
};

/// A last line that was not written to its end. Nobody was ever answered for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// The segment.
    pub file: PathBuf,
    /// Where the line begins, in bytes.
    pub offset: u64,
    /// How much of it was there, in bytes.
    pub bytes: u64,
}

/// What a whole log was found to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The instance that wrote it.
    pub instance: String,
    /// How many records, the headers of segments among them.
    pub records: u64,
    /// The index of the first record.
    pub first: u64,
    /// The index of the last record.
    pub last: u64,
    /// The newest head of every scope.
    pub heads: BTreeMap<String, HeadMark>,
    /// The intents without an outcome, by index.
    pub open: Vec<(u64, Record)>,
    /// A last line that is not whole: a crash, or a record that is being written right now.
    pub torn: Option<Torn>,
}

/// Where the next line would have to go on.
#[derive(Debug, Default)]
pub(super) struct Chain {
    /// The index of the next line.
    pub(super) next_index: u64,
    /// The hash of the line before.
    pub(super) prev: Hash,
    /// What came before is known, so that a header is compared with it and not believed.
    pub(super) is_whole: bool,
    /// How things stand.
    pub(super) standing: Standing,
    /// Whose log it is; `None` until the first header says so.
    pub(super) resource: Option<String>,
}

/// What one segment was found to hold.
#[derive(Debug)]
pub(super) struct Scanned {
    /// The length of its whole lines, in bytes.
    pub(super) size: u64,
    /// The length of its header, in bytes; 0 when even that is not whole.
    pub(super) header_bytes: u64,
    /// The rest, if it is the last segment.
    pub(super) torn: Option<Torn>,
}

/// Whether another segment follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Last,
    Inner,
}

/// How the name of an instance stands in a header.
pub(super) fn instance_resource(instance: &str) -> String {
    format!("instances/{instance}")
}

/// Reads all of the log in `dir`, which may be a copy, or in use.
pub(super) fn verify(dir: &Path) -> Result<Verified, OpenError> {
    let segments = disk::segments(dir)?;
    let Some(((first, _), (last, _))) = segments.first().zip(segments.last()) else {
        return Err(OpenError::Missing(dir.to_owned()));
    };
    let mut chain = Chain { is_whole: true, ..Chain::default() };
    let mut torn = None;
    for (index, path) in &segments {
        let place = if index == last { Place::Last } else { Place::Inner };
        if *index != chain.next_index {
            let what = Damage::Gap { expected: chain.next_index, found: *index };
            return Err(OpenError::Damaged { file: path.clone(), line: 0, what });
        }
        torn = scan(path, place, &mut chain)?.torn;
    }
    let Some(count) = chain.next_index.checked_sub(*first).filter(|count| *count > 0) else {
        return Err(OpenError::Missing(dir.to_owned()));
    };
    let resource = chain.resource.unwrap_or_default();
    Ok(Verified {
        instance: resource.strip_prefix("instances/").unwrap_or(&resource).to_owned(),
        records: count,
        first: *first,
        last: chain.next_index - 1,
        heads: chain.standing.heads,
        open: chain.standing.open.into_iter().collect(),
        torn,
    })
}

/// Reads one segment and moves `chain` behind its last whole line.
pub(super) fn scan(path: &Path, place: Place, chain: &mut Chain) -> Result<Scanned, OpenError> {
    let io = |source| OpenError::Io { what: "read", path: path.to_owned(), source };
    let mut reader = BufReader::with_capacity(256 * 1024, File::open(path).map_err(io)?);
    let mut scanned = Scanned { size: 0, header_bytes: 0, torn: None };
    let mut buffer = Vec::new();
    let mut number = 0;
    loop {
        buffer.clear();
        let bytes = read_line(&mut reader, &mut buffer).map_err(io)?;
        number += 1;
        let damaged = |what| OpenError::Damaged { file: path.to_owned(), line: number, what };
        let torn = Torn { file: path.to_owned(), offset: scanned.size, bytes };
        match follow(&mut buffer, number == 1, chain) {
            Ok(()) => {}
            // An empty file is a header of which nothing was written.
            Err(Broken::End) if number > 1 => return Ok(scanned),
            Err(broken) => {
                let ends_here = reader.fill_buf().map_err(io)?.is_empty();
                return match (broken, place) {
                    (Broken::Torn(_), Place::Last) if ends_here => Ok(Scanned { torn: Some(torn), ..scanned }),
                    (Broken::End, Place::Last) => Ok(Scanned { torn: Some(torn), ..scanned }),
                    (Broken::End, Place::Inner) => Err(damaged(Damage::Unterminated)),
                    (Broken::Torn(what) | Broken::Wrong(what), _) => Err(damaged(what)),
                };
            }
        }
        scanned.size += bytes;
        if number == 1 {
            scanned.header_bytes = bytes;
        }
    }
}

/// What keeps a line from being the next of its chain.
enum Broken {
    /// There is no line.
    End,
    /// A crash may have left it so, if it is the last.
    Torn(Damage),
    /// No crash leaves it so.
    Wrong(Damage),
}

fn read_line(reader: &mut impl BufRead, buffer: &mut Vec<u8>) -> io::Result<u64> {
    Ok(reader.read_until(b'\n', buffer)? as u64)
}

/// Checks one line, newline included, and takes it into the chain.
fn follow(buffer: &mut Vec<u8>, is_first: bool, chain: &mut Chain) -> Result<(), Broken> {
    if buffer.is_empty() {
        return Err(Broken::End);
    }
    if buffer.pop_if(|byte| *byte == b'\n').is_none() {
        return Err(Broken::Torn(Damage::Unterminated));
    }
    if buffer.contains(&0) {
        // A loss of power may leave zeros where a page of the line was not written. We never write one.
        return Err(Broken::Torn(Damage::Malformed));
    }
    let hash = line::hash(buffer);
    let frame = line::parse_frame(buffer).map_err(Broken::Wrong)?;
    if frame.index != chain.next_index {
        return Err(Broken::Wrong(Damage::Index { expected: chain.next_index, found: frame.index }));
    }
    if chain.is_whole && !frame.follows(&chain.prev) {
        return Err(Broken::Wrong(Damage::Chain));
    }
    let body_at = frame.body_at();
    let taken = if is_first { begin(buffer, body_at, chain) } else { proceed(buffer, body_at, chain) };
    taken.map_err(Broken::Wrong)?;
    chain.next_index += 1;
    chain.prev = hash;
    chain.is_whole = true;
    Ok(())
}

fn proceed(line: &mut [u8], body_at: usize, chain: &mut Chain) -> Result<(), Damage> {
    let record = line::parse_body(line, body_at)?;
    chain.standing.note(chain.next_index, &record);
    Ok(())
}

fn begin(line: &mut [u8], body_at: usize, chain: &mut Chain) -> Result<(), Damage> {
    let header: Header = line::parse_body(line, body_at).map_err(|_| Damage::Header)?;
    if !header.is_sound() {
        return Err(Damage::Header);
    }
    match &chain.resource {
        Some(resource) if *resource != header.resource => {
            return Err(Damage::Instance { found: header.resource });
        }
        _ => chain.resource = Some(header.resource.clone()),
    }
    let standing = header.into_standing();
    if chain.is_whole && standing != chain.standing {
        return Err(Damage::Standing);
    }
    chain.standing = standing;
    Ok(())
}
