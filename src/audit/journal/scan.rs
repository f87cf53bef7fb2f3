//! Reading the journal: every line against its leaf, every header against what came before. Changes nothing on disk.
//!
//! What a crash leaves, a last line that is not whole, is told apart from what a crash cannot leave:
//! the former is reported as [`Torn`], the latter is [`OpenError::Damaged`].

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use super::{
    super::{
        error::{Damage, OpenError},
        tlog::builder::Builder,
    },
    line::{self, Framed, Header},
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

/// What was read so far, and so where the next line would have to go on.
#[derive(Debug, Default)]
pub(in crate::audit) struct Chain {
    /// The tree of all records.
    pub(in crate::audit) tree: Builder,
    /// All that came before was read, so that a header's standing is compared with it and not believed.
    pub(in crate::audit) is_whole: bool,
    /// How things stand.
    pub(in crate::audit) standing: Standing,
    /// Whose log it is; `None` until the first header says so.
    pub(in crate::audit) resource: Option<String>,
}

/// What is done after each record.
pub(in crate::audit) type Each<'a> = &'a mut dyn FnMut(&mut Chain) -> Result<(), OpenError>;

/// What one segment was found to hold.
#[derive(Debug)]
pub(in crate::audit) struct Scanned {
    /// The length of its whole lines, in bytes.
    pub(in crate::audit) size: u64,
    /// The length of its header, in bytes; 0 when even that is not whole.
    pub(in crate::audit) header_bytes: u64,
    /// The rest, if it is the last segment.
    pub(in crate::audit) torn: Option<Torn>,
}

/// Whether another segment follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::audit) enum Place {
    Last,
    Inner,
}

/// How the name of a log stands in a header: the instance, or one of its replicas.
pub(in crate::audit) fn log_resource(log: &str) -> String {
    match log.split_once('/') {
        Some((instance, replica)) => format!("instances/{instance}/replicas/{replica}"),
        None => format!("instances/{log}"),
    }
}

/// Reads one segment and moves `chain` behind its last whole line.
pub(in crate::audit) fn scan(
    path: &Path,
    place: Place,
    chain: &mut Chain,
    each: Each<'_>,
) -> Result<Scanned, OpenError> {
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
            Ok(()) if number > 1 => each(chain)?,
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
    let framed = match line::take_apart(buffer) {
        Ok(framed) => framed,
        Err(what) => return Err(Broken::Wrong(what)),
    };
    let expected = chain.tree.size();
    if framed.index != expected {
        return Err(Broken::Wrong(Damage::Index { expected, found: framed.index }));
    }
    let taken = if is_first { begin(&framed, chain) } else { proceed(&framed, chain) };
    taken.map_err(Broken::Wrong)
}

fn proceed(framed: &Framed<'_>, chain: &mut Chain) -> Result<(), Damage> {
    let record = line::parse(framed.body)?;
    chain.standing.note(framed.index, &record);
    chain.tree.push(framed.body, framed.leaf);
    Ok(())
}

fn begin(framed: &Framed<'_>, chain: &mut Chain) -> Result<(), Damage> {
    let header: Header = line::parse(framed.body).map_err(|_| Damage::Header)?;
    if !header.is_sound() {
        return Err(Damage::Header);
    }
    match &chain.resource {
        Some(resource) if *resource != header.resource => {
            return Err(Damage::Instance { found: header.resource });
        }
        _ => chain.resource = Some(header.resource.clone()),
    }
    if header.root != base16ct::lower::encode_string(&chain.tree.root()) {
        return Err(Damage::Root);
    }
    let standing = header.into_standing();
    if chain.is_whole && standing != chain.standing {
        return Err(Damage::Standing);
    }
    chain.is_whole = true;
    chain.standing = standing;
    Ok(())
}
