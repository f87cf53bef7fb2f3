//! One line of a segment: a JSON object of the record's index, its leaf in the Merkle tree, and the record.
//!
//! ```text
//! {"index":N,"leaf":"<hash of the record's JSON, RFC 6962, section 2.1>",<fields of the record>}
//! ```
//!
//! The frame is fixed text, so that it is read and compared as bytes; what is behind it, with a brace before it, is
//! the entry of the tree, byte for byte. All of a line is printable ASCII: whatever a caller puts into a name can
//! neither end a line nor reach a terminal as a control character. The first line of a segment is its [`Header`],
//! which carries the index of the record that follows it and is no entry of the tree.

use std::io::{self, Write};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::ser::Formatter;

use super::{
    super::{
        error::{Damage, LogError},
        record::{HeadMark, Kind, Outcome, Record},
        tlog::{
            hash::{self, Hash},
            tile::ENTRY_BYTES_MAX,
        },
    },
    standing::Standing,
};

/// The longest frame: the index has at most 20 digits.
const FRAME_BYTES_MAX: usize = 128;

const BEFORE_INDEX: &[u8] = br#"{"index":"#;
const BEFORE_LEAF: &[u8] = br#","leaf":""#;
const AFTER_LEAF: &[u8] = br#"","#;

/// The operation of a segment's header.
pub(in crate::audit) const SEGMENT: &str = "log.segment";

/// The first line of a segment: an event record that also says how things stand.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::audit) struct Header {
    time: i64,
    kind: Kind,
    operation: String,
    /// `instances/{hex}`.
    pub(in crate::audit) resource: String,
    outcome: Outcome,
    /// The root of the tree of all records before: 64 hexadecimal digits.
    pub(in crate::audit) root: String,
    /// The newest head of every scope.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    heads: Vec<HeadMark>,
    /// The intents without an outcome.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    open: Vec<OpenIntent>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OpenIntent {
    index: u64,
    record: Record,
}

impl Header {
    /// The header of a segment that begins when things stand so.
    pub(in crate::audit) fn new(time: i64, resource: String, root: &Hash, standing: &Standing) -> Self {
        let open = standing.open.iter().map(|(index, record)| OpenIntent { index: *index, record: record.clone() });
        Self {
            time,
            kind: Kind::Event,
            operation: SEGMENT.to_owned(),
            resource,
            outcome: Outcome::Done,
            root: base16ct::lower::encode_string(root),
            heads: standing.heads.values().cloned().collect(),
            open: open.collect(),
        }
    }

    /// Whether it is one: the fields alone do not say so.
    pub(in crate::audit) fn is_sound(&self) -> bool {
        self.kind == Kind::Event && self.operation == SEGMENT && self.outcome == Outcome::Done
    }

    /// How things stand.
    pub(in crate::audit) fn into_standing(self) -> Standing {
        Standing {
            heads: self.heads.into_iter().map(|mark| (mark.scope.clone(), mark)).collect(),
            open: self.open.into_iter().map(|intent| (intent.index, intent.record)).collect(),
        }
    }
}

/// An event that the log records about itself.
pub(in crate::audit) fn event(time: i64, operation: &str, resource: &str, reason: Option<String>) -> Record {
    let record = Record::new(crate::model::Timestamp(time), Kind::Event, operation, Outcome::Done);
    Record { resource: Some(resource.to_owned()), reason, ..record }
}

/// A record as it is written: an entry of the tree.
#[derive(Debug)]
pub(in crate::audit) struct Entry {
    /// Its JSON.
    pub(in crate::audit) body: Vec<u8>,
    /// Its leaf in the tree.
    pub(in crate::audit) leaf: Hash,
}

/// A record as an entry, of at most [`ENTRY_BYTES_MAX`]: the bound of a bundle, and of what one request can take of
/// the disk.
pub(in crate::audit) fn encode_record(record: &Record) -> Result<Entry, LogError> {
    let body = encode(record);
    if body.len() > ENTRY_BYTES_MAX {
        return Err(LogError::TooLong { bytes: body.len(), bytes_max: ENTRY_BYTES_MAX });
    }
    Ok(Entry { leaf: hash::leaf(&body), body })
}

/// The JSON of a record or header: one object, all printable ASCII.
pub(in crate::audit) fn encode(value: &impl Serialize) -> Vec<u8> {
    let mut body = Vec::with_capacity(1024);
    let mut serializer = serde_json::Serializer::with_formatter(&mut body, Ascii);
    value.serialize(&mut serializer).expect("plain structs of strings and numbers are written to memory");
    body
}

/// The longest line that `body` makes.
pub(in crate::audit) const fn framed_bytes_max(body: &[u8]) -> u64 {
    (FRAME_BYTES_MAX + body.len()) as u64
}

/// Adds the whole line, newline included.
pub(in crate::audit) fn frame(line: &mut Vec<u8>, index: u64, leaf: &Hash, body: &[u8]) {
    line.reserve(FRAME_BYTES_MAX + body.len());
    line.extend_from_slice(BEFORE_INDEX);
    push_decimal(line, index);
    line.extend_from_slice(BEFORE_LEAF);
    push_hex(line, leaf);
    line.extend_from_slice(AFTER_LEAF);
    line.extend_from_slice(&body[1..]);
    line.push(b'\n');
}

/// A line that was read, taken apart.
#[derive(Debug)]
pub(in crate::audit) struct Framed<'a> {
    /// The index that it says.
    pub(in crate::audit) index: u64,
    /// The JSON of the record or header.
    pub(in crate::audit) body: &'a [u8],
    /// The leaf of that body, which is the one that the line says.
    pub(in crate::audit) leaf: Hash,
}

/// Takes a line without its newline apart, and holds it against its leaf. The line is spoilt by it.
pub(in crate::audit) fn take_apart(line: &mut [u8]) -> Result<Framed<'_>, Damage> {
    let (index, said, body_at) = parse_frame(line)?;
    let body = &mut line[body_at..];
    body[0] = b'{';
    let leaf = hash::leaf(body);
    let mut hex = Vec::with_capacity(64);
    push_hex(&mut hex, &leaf);
    if said != hex.as_slice() {
        return Err(Damage::Leaf);
    }
    Ok(Framed { index, body, leaf })
}

/// The index, the leaf in hexadecimal digits, and where the body begins: at the comma before its first field.
fn parse_frame(line: &[u8]) -> Result<(u64, [u8; 64], usize), Damage> {
    let rest = line.strip_prefix(BEFORE_INDEX).ok_or(Damage::Malformed)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let index =
        std::str::from_utf8(&rest[..digits]).ok().and_then(|text| text.parse().ok()).ok_or(Damage::Malformed)?;
    if digits > 1 && rest[0] == b'0' {
        return Err(Damage::Malformed);
    }
    let rest = rest[digits..].strip_prefix(BEFORE_LEAF).ok_or(Damage::Malformed)?;
    let (leaf, rest) = rest.split_first_chunk::<64>().ok_or(Damage::Malformed)?;
    if !rest.starts_with(AFTER_LEAF) {
        return Err(Damage::Malformed);
    }
    Ok((index, *leaf, line.len() - rest.len() + 1))
}

/// Reads a record or header.
pub(in crate::audit) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Damage> {
    serde_json::from_slice(body).map_err(|_| Damage::Malformed)
}

fn push_decimal(line: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b"0123456789"[(rest % 10) as usize];
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    line.extend_from_slice(&digits[at..]);
}

fn push_hex(line: &mut Vec<u8>, bytes: &Hash) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [0; 64];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    line.extend_from_slice(&digits);
}

/// Compact JSON in which everything but printable ASCII is escaped. JSON itself (RFC 8259, section 7)
/// lets DEL, the C1 controls and the bidirectional overrides stand, which a terminal would obey.
struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        // Without a way out in the middle, so that many bytes are looked at together.
        if fragment.bytes().fold(true, |plain, byte| plain & matches!(byte, b' '..=b'~')) {
            return writer.write_all(fragment.as_bytes());
        }
        for character in fragment.chars() {
            if matches!(character, ' '..='~') {
                writer.write_all(&[character as u8])?;
                continue;
            }
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_makes_one_line_of_printable_ascii_and_reads_back(text in any::<String>(), index in any::<u64>()) {
            let mut record = event(-1, "a.b", &text, Some(text.clone()));
            record.principal = Some(text);
            let mut line = Vec::new();
            let body = encode(&record);
            let leaf = hash::leaf(&body);
            frame(&mut line, index, &leaf, &body);
            prop_assert_eq!(line.pop(), Some(b'\n'));
            prop_assert!(line.iter().all(|byte| (b' '..=b'~').contains(byte)));
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&line).is_ok());
            let read = take_apart(&mut line).unwrap();
            prop_assert_eq!((read.index, read.leaf, read.body), (index, leaf, body.as_slice()));
            prop_assert_eq!(parse::<Record>(read.body).unwrap(), record);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut line = [b"{\"index\":7,\"leaf\":\"".as_slice(), &bytes].concat();
            let _ = take_apart(&mut line);
            let _ = take_apart(&mut bytes);
        }
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        let record = event(0, "a.b", "x\n{\"index\":1}\r\u{1b}[2J\u{9b}\u{7f}\u{202e}\u{2028}\0", None);
        let text = String::from_utf8(encode(&record)).unwrap();
        assert!(text.contains(r#"x\n{\"index\":1}\r\u001b[2J\u009b\u007f\u202e\u2028\u0000"#), "{text}");
    }

    #[test]
    fn an_index_with_a_leading_zero_is_malformed() {
        let mut line = format!(r#"{{"index":01,"leaf":"{}","time":0}}"#, "0".repeat(64)).into_bytes();
        assert_eq!(take_apart(&mut line).unwrap_err(), Damage::Malformed);
    }
}
