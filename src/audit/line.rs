//! One line of a segment: a JSON object of the record's index, the hash of the line before, and the record.
//!
//! ```text
//! {"index":N,"prev":"<SHA-256 of the line before, without its newline>",<fields of the record>}
//! ```
//!
//! The frame is fixed text, so that it is read and compared as bytes. All of a line is printable ASCII:
//! whatever a caller puts into a name can neither end a line nor reach a terminal as a control character.
//! The first line of a segment is its [`Header`].

use std::io::{self, Write};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::ser::Formatter;
use sha2::{Digest, Sha256};

use super::{
    error::{Damage, LogError},
    record::{HeadMark, Kind, Outcome, Record},
    standing::Standing,
};

/// SHA-256 of a line without its newline.
pub(super) type Hash = [u8; 32];

/// What the first line of a log carries for a hash.
pub(super) const NO_HASH: Hash = [0; 32];

/// The longest record; it bounds what one request can take of the disk.
pub(super) const RECORD_BYTES_MAX: usize = 256 * 1024;

/// The longest frame: the index has at most 20 digits.
const FRAME_BYTES_MAX: usize = 128;

const BEFORE_INDEX: &[u8] = br#"{"index":"#;
const BEFORE_PREV: &[u8] = br#","prev":""#;
const AFTER_PREV: &[u8] = br#"","#;

/// The operation of a segment's header.
pub(super) const SEGMENT: &str = "log.segment";

/// The first line of a segment: an event record that also says how things stand.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    time: i64,
    kind: Kind,
    operation: String,
    /// `instances/{hex}`.
    pub(super) resource: String,
    outcome: Outcome,
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
    pub(super) fn new(time: i64, resource: String, standing: &Standing) -> Self {
        let open = standing.open.iter().map(|(index, record)| OpenIntent { index: *index, record: record.clone() });
        Self {
            time,
            kind: Kind::Event,
            operation: SEGMENT.to_owned(),
            resource,
            outcome: Outcome::Done,
            heads: standing.heads.values().cloned().collect(),
            open: open.collect(),
        }
    }

    /// Whether it is one: the fields alone do not say so.
    pub(super) fn is_sound(&self) -> bool {
        self.kind == Kind::Event && self.operation == SEGMENT && self.outcome == Outcome::Done
    }

    /// How things stand.
    pub(super) fn into_standing(self) -> Standing {
        Standing {
            heads: self.heads.into_iter().map(|mark| (mark.scope.clone(), mark)).collect(),
            open: self.open.into_iter().map(|intent| (intent.index, intent.record)).collect(),
        }
    }
}

/// An event that the log records about itself.
pub(super) fn event(time: i64, operation: &str, resource: &str, reason: Option<String>) -> Record {
    Record {
        time,
        kind: Kind::Event,
        operation: operation.to_owned(),
        principal: None,
        source: None,
        resource: Some(resource.to_owned()),
        residency: None,
        algorithm: None,
        ran: None,
        outcome: Outcome::Done,
        reason,
        request: None,
        intent: None,
        version: None,
        repeated: 0,
        detail: None,
        heads: Vec::new(),
        batch: None,
    }
}

/// The JSON of a record, of at most [`RECORD_BYTES_MAX`].
pub(super) fn encode_record(record: &Record) -> Result<Vec<u8>, LogError> {
    let body = encode(record);
    if body.len() > RECORD_BYTES_MAX {
        return Err(LogError::TooLong { bytes: body.len(), bytes_max: RECORD_BYTES_MAX });
    }
    Ok(body)
}

/// The JSON of a record or header: one object, all printable ASCII.
pub(super) fn encode(value: &impl Serialize) -> Vec<u8> {
    let mut body = Vec::with_capacity(1024);
    let mut serializer = serde_json::Serializer::with_formatter(&mut body, Ascii);
    value.serialize(&mut serializer).expect("plain structs of strings and numbers are written to memory");
    body
}

/// The longest line that `body` makes.
pub(super) const fn framed_bytes_max(body: &[u8]) -> u64 {
    (FRAME_BYTES_MAX + body.len()) as u64
}

/// Replaces `line` by the whole line, newline included, and returns its hash.
pub(super) fn frame(line: &mut Vec<u8>, index: u64, prev: &Hash, body: &[u8]) -> Hash {
    line.clear();
    line.reserve(FRAME_BYTES_MAX + body.len());
    line.extend_from_slice(BEFORE_INDEX);
    push_decimal(line, index);
    line.extend_from_slice(BEFORE_PREV);
    push_hex(line, prev);
    line.extend_from_slice(AFTER_PREV);
    line.extend_from_slice(&body[1..]);
    let hash = hash(line);
    line.push(b'\n');
    hash
}

/// The hash of a line without its newline.
pub(super) fn hash(line: &[u8]) -> Hash {
    Sha256::digest(line).into()
}

/// The frame of a line that was read.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    /// The index that it says.
    pub(super) index: u64,
    prev: &'a [u8],
    /// Begins with the comma before the record's first field, which [`parse_body`] makes a brace.
    body_at: usize,
}

impl Frame<'_> {
    /// Whether the line carries that hash of the line before.
    pub(super) fn follows(&self, prev: &Hash) -> bool {
        let mut hex = Vec::with_capacity(64);
        push_hex(&mut hex, prev);
        self.prev == hex
    }

    /// Where the body begins: for [`parse_body`].
    pub(super) const fn body_at(&self) -> usize {
        self.body_at
    }
}

/// Reads the frame of a line without its newline.
pub(super) fn parse_frame(line: &[u8]) -> Result<Frame<'_>, Damage> {
    let rest = line.strip_prefix(BEFORE_INDEX).ok_or(Damage::Malformed)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let index =
        std::str::from_utf8(&rest[..digits]).ok().and_then(|text| text.parse().ok()).ok_or(Damage::Malformed)?;
    if digits > 1 && rest[0] == b'0' {
        return Err(Damage::Malformed);
    }
    let rest = rest[digits..].strip_prefix(BEFORE_PREV).ok_or(Damage::Malformed)?;
    let (prev, rest) = rest.split_at_checked(64).ok_or(Damage::Malformed)?;
    if !rest.starts_with(AFTER_PREV) {
        return Err(Damage::Malformed);
    }
    Ok(Frame { index, prev, body_at: line.len() - rest.len() + 1 })
}

/// Reads the record or header of a line of which the frame was read. The line is spoilt by it.
pub(super) fn parse_body<T: DeserializeOwned>(line: &mut [u8], body_at: usize) -> Result<T, Damage> {
    let body = line.get_mut(body_at..).ok_or(Damage::Malformed)?;
    *body.first_mut().ok_or(Damage::Malformed)? = b'{';
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
    for byte in bytes {
        line.push(DIGITS[usize::from(byte >> 4)]);
        line.push(DIGITS[usize::from(byte & 15)]);
    }
}

/// Compact JSON in which everything but printable ASCII is escaped. JSON itself (RFC 8259, section 7)
/// lets DEL, the C1 controls and the bidirectional overrides stand, which a terminal would obey.
struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if fragment.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
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
        fn any_text_makes_one_line_of_printable_ascii_and_reads_back(text in any::<String>(), index in any::<u64>(), prev in any::<Hash>()) {
            let mut record = event(-1, "a.b", &text, Some(text.clone()));
            record.principal = Some(text);
            let mut line = Vec::new();
            let framed = frame(&mut line, index, &prev, &encode(&record));
            prop_assert_eq!(line.pop(), Some(b'\n'));
            prop_assert!(line.iter().all(|byte| (b' '..=b'~').contains(byte)));
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&line).is_ok());
            prop_assert_eq!(framed, hash(&line));
            let read = parse_frame(&line).unwrap();
            prop_assert_eq!(read.index, index);
            prop_assert!(read.follows(&prev));
            let body_at = read.body_at();
            prop_assert_eq!(parse_body::<Record>(&mut line, body_at).unwrap(), record);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut line = [b"{\"index\":7,\"prev\":\"".as_slice(), &bytes].concat();
            if let Ok(frame) = parse_frame(&line) {
                let body_at = frame.body_at();
                let _ = parse_body::<Record>(&mut line, body_at);
            }
            let _ = parse_frame(&bytes);
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
        let line = format!(r#"{{"index":01,"prev":"{}","time":0}}"#, "0".repeat(64));
        assert_eq!(parse_frame(line.as_bytes()).unwrap_err(), Damage::Malformed);
    }
}
