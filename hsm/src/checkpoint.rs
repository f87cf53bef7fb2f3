//! What the log key signs: the text of a checkpoint of a log of ours (C2SP tlog-checkpoint), and nothing else.
//!
//! ```text
//! strongroom/IDENTITY        origin
//! 1234                       tree size, in decimal
//! 44 characters of base64    root hash, 32 bytes
//! ...                        extension lines
//! ```
//!
//! A newline ends each line, and none is empty. The worker holds every text against this before it signs. So
//! whoever has the front can have wrong statements about a tree signed, which a witness finds, but no
//! certificate, no token and no message of another protocol: none begins with that origin, a witness's own
//! cosignature (`cosignature/v1`) neither. To which instance a key belongs is not decided here: verifiers know
//! a key together with its origin.

use serde::{Deserialize, Serialize};

/// The longest text, in bytes.
pub const TEXT_BYTES_MAX: usize = 4096;

/// What every origin begins with. Digits, lower-case letters, `-` and `/` follow, at least one.
pub const ORIGIN_PREFIX: &str = "strongroom/";

/// Why a text is not a checkpoint's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum NotACheckpoint {
    /// It has more than [`TEXT_BYTES_MAX`] bytes.
    #[error("the text to be signed for the log is longer than {TEXT_BYTES_MAX} bytes")]
    Long,
    /// Its last line is cut.
    #[error("the text to be signed for the log does not end in a newline")]
    Cut,
    /// The first line is not an origin of ours.
    #[error("line 1 of a checkpoint must be its origin: {ORIGIN_PREFIX} and the log's identity")]
    Origin,
    /// The second line is not a tree size.
    #[error("line 2 of a checkpoint must be the tree size in decimal, without leading zeros")]
    Size,
    /// The third line is not a root hash.
    #[error("line 3 of a checkpoint must be the root hash: 32 bytes in base64")]
    Root,
    /// A line after the third is empty or holds a control character.
    #[error("from line 4 on a checkpoint must have neither empty lines nor control characters")]
    Extension,
}

/// Whether a text is a checkpoint's.
///
/// # Errors
/// Why it is not.
pub fn check(text: &str) -> Result<(), NotACheckpoint> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(NotACheckpoint::Long);
    }
    let mut lines = text.strip_suffix('\n').ok_or(NotACheckpoint::Cut)?.split('\n');
    lines.next().filter(|line| is_origin(line)).ok_or(NotACheckpoint::Origin)?;
    lines.next().filter(|line| is_size(line)).ok_or(NotACheckpoint::Size)?;
    lines.next().filter(|line| is_root(line)).ok_or(NotACheckpoint::Root)?;
    if lines.all(|line| !line.is_empty() && !line.contains(char::is_control)) {
        Ok(())
    } else {
        Err(NotACheckpoint::Extension)
    }
}

fn is_origin(line: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase() || matches!(byte, b'-' | b'/');
    line.strip_prefix(ORIGIN_PREFIX).is_some_and(|identity| !identity.is_empty() && identity.bytes().all(is_plain))
}

fn is_size(line: &str) -> bool {
    // As it is written: `parse` also takes signs and leading zeros.
    line.parse::<u64>().is_ok_and(|size| size.to_string() == line)
}

/// 32 bytes in base64 (RFC 4648 section 4): 43 digits, of which the last has two bits to spare, and padding.
fn is_root(line: &str) -> bool {
    let value = |digit: u8| match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let Some(digits) = line.strip_suffix('=') else { return false };
    let last = digits.bytes().last().and_then(value);
    digits.len() == 43 && digits.bytes().all(|digit| value(digit).is_some()) && last.is_some_and(|last| last % 4 == 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROOT: &str = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";

    fn text(lines: &[&str]) -> String {
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn a_checkpoint_has_three_lines_and_may_have_more() {
        let origin = "strongroom/00ff";
        for size in ["0", "1", "20852163", "18446744073709551615"] {
            assert_eq!(check(&text(&[origin, size, ROOT])), Ok(()), "{size}");
        }
        assert_eq!(check(&text(&["strongroom/00ff/replica-2", "7", ROOT, "head ☂ AAAA", "another"])), Ok(()));
        let longest = "x".repeat(TEXT_BYTES_MAX - text(&[origin, "7", ROOT]).len() - 1);
        assert_eq!(check(&text(&[origin, "7", ROOT, &longest])), Ok(()));
        assert_eq!(check(&text(&[origin, "7", ROOT, &longest, ""])), Err(NotACheckpoint::Long));
    }

    #[test]
    fn what_is_wrong_is_told_by_its_line() {
        use NotACheckpoint::{Cut, Extension, Origin, Root, Size};
        let origin = "strongroom/00ff";
        for found in ["", "strongroom/", "strongroom", "example.com/log", "Strongroom/00ff", "strongroom/00 ff"] {
            assert_eq!(check(&text(&[found, "7", ROOT])), Err(Origin), "{found:?}");
        }
        for found in ["", "07", "+7", "-1", "7 ", "0x7", "18446744073709551616", "٧"] {
            assert_eq!(check(&text(&[origin, found, ROOT])), Err(Size), "{found:?}");
        }
        let (short, spare) = (&ROOT[1..], ROOT.replace("I=", "J="));
        for found in ["", short, &spare, &ROOT[..43], &ROOT.replace('/', "_"), &ROOT.replace("I=", "==")] {
            assert_eq!(check(&text(&[origin, "7", found])), Err(Root), "{found:?}");
        }
        for found in ["", "a\tb", "a\rb", "\0", "\u{7f}", "\u{85}"] {
            assert_eq!(check(&text(&[origin, "7", ROOT, found])), Err(Extension), "{found:?}");
        }
        assert_eq!(check(&text(&[origin, "7"])), Err(Root));
        assert_eq!(check(&text(&[origin, "7", ROOT])[..10]), Err(Cut));
        assert_eq!((check(""), check("\n")), (Err(Cut), Err(Origin)));
    }

    proptest! {
        #[test]
        fn every_size_and_identity_is_taken(identity in "[0-9a-z/-]{1,64}", size in any::<u64>(), more in "[^\\p{Cc}]{1,40}") {
            let text = format!("{ORIGIN_PREFIX}{identity}\n{size}\n{ROOT}\n{more}\n");
            prop_assert_eq!(check(&text), Ok(()));
            prop_assert!(check(text.trim_end_matches('\n')).is_err());
        }

        #[test]
        fn nothing_else_is(text in any::<String>()) {
            prop_assert!(check(&text).is_err());
        }

        #[test]
        fn every_control_character_but_a_newline_is_refused(at in 0usize..64, control in "[\\p{Cc}&&[^\n]]") {
            let mut text = format!("{ORIGIN_PREFIX}00ff\n7\n{ROOT}\nx\n");
            text.insert_str(at, &control);
            prop_assert!(check(&text).is_err());
        }
    }
}
