//! Templates: text with references `strongroom://VAULT/NAME[/VERSION]` in it. Pure.
//!
//! A reference ends at the first character that can be in no name. Where one that can be in a name follows, braces end it:
//! `{{strongroom://dev/host}}-2`. Whatever begins as a reference must be one: it is better to stop than to put the wrong
//! value, or none, into a file.

use super::names::{SCHEME, from_reference};
use crate::service::secrets::SecretRef;

/// A piece of a template.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// What stays as it is.
    Text(&'a [u8]),
    /// What a value takes the place of.
    Reference(Reference<'a>),
}

/// A reference.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reference<'a> {
    /// As it is written, without braces.
    pub(super) text: &'a str,
    /// In which line: 1 for the first.
    pub(super) line: usize,
    /// To what.
    pub(super) secret: SecretRef,
    /// All that the value takes the place of, braces included.
    whole: &'a [u8],
}

/// What begins as a reference and is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {found} is no reference: {why}")]
pub(super) struct NoReference {
    line: usize,
    found: String,
    why: String,
}

/// The pieces of a template, in order.
pub(super) fn pieces(template: &[u8]) -> Result<Vec<Piece<'_>>, NoReference> {
    let (mut pieces, mut rest, mut line) = (Vec::new(), template, 1);
    while let Some(at) = rest.windows(SCHEME.len()).position(|window| window == SCHEME.as_bytes()) {
        let (before, from) = rest.split_at(at);
        line += lines(before);
        let length = from.iter().skip(SCHEME.len()).take_while(|byte| is_of_reference(**byte)).count() + SCHEME.len();
        let (found, after) = from.split_at(length);
        let wrong = |why: String| NoReference { line, found: String::from_utf8_lossy(found).into_owned(), why };
        let text = std::str::from_utf8(found).map_err(|error| wrong(error.to_string()))?;
        let secret = from_reference(text).map_err(wrong)?;
        let (kept, open) = opened(before);
        let close = closed(after).filter(|_| open > 0);
        let (kept, open) = if close.is_some() { (kept, open) } else { (before, 0) };
        let whole = &rest[at - open..at + length + close.unwrap_or(0)];
        pieces.extend((!kept.is_empty()).then_some(Piece::Text(kept)));
        pieces.push(Piece::Reference(Reference { text, line, secret, whole }));
        rest = &after[close.unwrap_or(0)..];
    }
    pieces.extend((!rest.is_empty()).then_some(Piece::Text(rest)));
    Ok(pieces)
}

fn lines(text: &[u8]) -> usize {
    text.iter().filter(|byte| **byte == b'\n').count()
}

/// What is taken for a part of a reference: more than names have, so that `db_password` is found to be wrong, and not taken for
/// `db` and a text behind it.
const fn is_of_reference(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'/' | b'_' | b'%') || !byte.is_ascii()
}

/// The text before a reference without the braces that open it, and how long they are with the blanks behind them.
fn opened(before: &[u8]) -> (&[u8], usize) {
    let trimmed = before.len() - before.iter().rev().take_while(|byte| is_blank(**byte)).count();
    let kept = before[..trimmed].strip_suffix(b"{{");
    kept.map_or((before, 0), |kept| (kept, before.len() - kept.len()))
}

/// How long the braces are that close a reference, with the blanks before them.
fn closed(after: &[u8]) -> Option<usize> {
    let blanks = after.iter().take_while(|byte| is_blank(**byte)).count();
    after[blanks..].starts_with(b"}}").then_some(blanks + 2)
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VERSION: &str = "0123456789abcdef0123456789abcdef";

    /// A template with `[name]` in the place of each reference.
    fn shown(template: &str) -> Result<String, String> {
        let pieces = pieces(template.as_bytes()).map_err(|error| error.to_string())?;
        let text = |piece: &Piece<'_>| match piece {
            Piece::Text(text) => String::from_utf8_lossy(text).into_owned(),
            Piece::Reference(reference) => format!("[{}]", reference.secret),
        };
        Ok(pieces.iter().map(text).collect())
    }

    #[test]
    fn references_end_where_names_do_or_where_braces_say_so() {
        for (template, expected) in [
            ("", ""),
            ("plain { text }}", "plain { text }}"),
            ("A=strongroom://dev/db\nB=1\n", "A=[vaults/dev/secrets/db]\nB=1\n"),
            ("\"strongroom://dev/db\",", "\"[vaults/dev/secrets/db]\","),
            ("pg://u:strongroom://dev/db@h/x", "pg://u:[vaults/dev/secrets/db]@h/x"),
            ("strongroom://dev/a:strongroom://dev/b.", "[vaults/dev/secrets/a]:[vaults/dev/secrets/b]."),
            ("{{strongroom://dev/host}}-2/x", "[vaults/dev/secrets/host]-2/x"),
            ("{{ strongroom://dev/host\t}}/x", "[vaults/dev/secrets/host]/x"),
            ("{{strongroom://dev/a}}{{strongroom://dev/b}}", "[vaults/dev/secrets/a][vaults/dev/secrets/b]"),
            ("{{strongroom://dev/a", "{{[vaults/dev/secrets/a]"),
            ("strongroom://dev/a }}", "[vaults/dev/secrets/a] }}"),
        ] {
            assert_eq!(shown(template).as_deref(), Ok(expected), "{template}");
        }
        let exact = format!("strongroom://dev/a/{VERSION}");
        assert_eq!(shown(&exact), Ok(format!("[vaults/dev/secrets/a/versions/{VERSION}]")));
    }

    #[test]
    fn what_begins_as_a_reference_and_is_none_stops_everything() {
        for wrong in [
            "strongroom://",
            "strongroom://VAULT",
            "strongroom://dev/",
            "strongroom://dev/db/",
            "strongroom://dev/db/latest",
            "strongroom://dev/db_password",
            "strongroom://dev/d%62",
            "strongroom://dev/dé",
            "strongroom://dev/db/0123/4",
            "strongroom://d/db",
        ] {
            let said = shown(&format!("one\ntwo {wrong}")).expect_err(wrong);
            assert!(said.starts_with(&format!("line 2: {wrong} is no reference: ")), "{said}");
        }
    }

    fn whole<'a>(piece: &Piece<'a>) -> &'a [u8] {
        match piece {
            Piece::Text(text) => text,
            Piece::Reference(reference) => reference.whole,
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_whole_or_refused(
            parts in proptest::collection::vec(prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..20),
                "(strongroom://|dev/|db|[{]{2}|[}]{2}|[ \t\n/_-]){0,6}".prop_map(String::into_bytes),
            ], 0..8)
        ) {
            let template = parts.concat();
            if let Ok(pieces) = pieces(&template) {
                prop_assert_eq!(pieces.iter().map(whole).collect::<Vec<_>>().concat(), template);
            }
        }

        #[test]
        fn references_come_back_between_other_text(
            vault in "[a-z]{3,10}",
            names in proptest::collection::vec("[0-9A-Za-z-]{1,20}", 1..5),
            text in "[ \n.,:;=@\"']{1,5}",
        ) {
            let template: String = names.iter().map(|name| format!("{text}strongroom://{vault}/{name}{text}")).collect();
            let expected: String = names.iter().map(|name| format!("{text}[vaults/{vault}/secrets/{name}]{text}")).collect();
            prop_assert_eq!(shown(&template), Ok(expected));
        }
    }
}
