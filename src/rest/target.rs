//! Path and query of a request, as clients really send them: two slashes where a version is left out, a slash at the end,
//! names of parameters percent-encoded.

use std::collections::BTreeMap;

/// The longest path and query.
const BYTES_MAX: usize = 8192;
/// The most parts of a path: that of a role assignment of a key has six.
const PARTS_MAX: usize = 12;

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Target {
    /// The parts of the path, decoded; empty ones left out, which stand for nothing.
    pub(super) parts: Vec<String>,
    query: BTreeMap<String, String>,
}

/// Why a target cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoTarget {
    #[error("The request URI is longer than {BYTES_MAX} bytes or has more than {PARTS_MAX} parts.")]
    Long,
    #[error("The request URI has a percent sign that encodes no text.")]
    Encoding,
    #[error("The request URI has a query parameter twice.")]
    Twice,
}

impl Target {
    /// Reads path and query.
    pub(super) fn read(uri: &http::Uri) -> Result<Self, NoTarget> {
        let (path, query) = (uri.path(), uri.query().unwrap_or_default());
        if path.len() + query.len() > BYTES_MAX {
            return Err(NoTarget::Long);
        }
        let path = decoded(path, Plus::Itself).ok_or(NoTarget::Encoding)?;
        let parts: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        if parts.len() > PARTS_MAX {
            return Err(NoTarget::Long);
        }
        let mut found = BTreeMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decoded(name, Plus::Blank).ok_or(NoTarget::Encoding)?.to_ascii_lowercase();
            let value = decoded(value, Plus::Blank).ok_or(NoTarget::Encoding)?;
            if found.insert(name, value).is_some() {
                return Err(NoTarget::Twice);
            }
        }
        Ok(Self { parts, query: found })
    }

    /// A parameter by its name in lower case.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }
}

/// What `+` stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plus {
    Itself,
    Blank,
}

/// Text out of its percent-encoding (RFC 3986 section 2.1). `None` where it is none.
fn decoded(text: &str, plus: Plus) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => digit(rest.next()?)? << 4 | digit(rest.next()?)?,
            b'+' if plus == Plus::Blank => b' ',
            other => other,
        });
    }
    let text = String::from_utf8(bytes).ok()?;
    (!text.contains(char::is_control)).then_some(text)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Whether it is a version of the protocol: `7.4`, `7.6-preview.2`, `2025-07-01`, `2026-05-01-preview`. Which ones there
/// are is for Azure to say; what is sent is read in the same way for all.
pub(super) fn is_api_version(text: &str) -> bool {
    let number = |text: &str| (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let (version, preview) = match text.split_once("-preview") {
        Some((version, rest)) => (version, rest.is_empty() || rest.strip_prefix('.').is_some_and(number)),
        None => (text, true),
    };
    let dated = version.split('-').map(str::len).eq([4, 2, 2]) && version.split('-').all(number);
    let numbered = version.split('.').count() == 2 && version.split('.').all(number);
    preview && (dated || numbered)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(uri: &str) -> Result<Target, NoTarget> {
        Target::read(&uri.parse().expect("a URI"))
    }

    #[test]
    fn empty_parts_stand_for_nothing() {
        for path in ["/keys/n/sign", "/keys/n//sign", "//keys/n/sign/", "/keys/%6E/sign", "/keys%2Fn/sign"] {
            assert_eq!(read(path).expect(path).parts, ["keys", "n", "sign"], "{path}");
        }
        assert!(read("/").expect("a path").parts.is_empty());
    }

    #[test]
    fn names_of_parameters_are_decoded_and_come_once() {
        let target = read("/keys?api%2Dversion=7.4&$skiptoken=a%2Bb&MaxResults=5&x").expect("right");
        assert_eq!(target.parameter("api-version"), Some("7.4"));
        assert_eq!(target.parameter("$skiptoken"), Some("a+b"));
        assert_eq!((target.parameter("maxresults"), target.parameter("x")), (Some("5"), Some("")));
        assert_eq!(read("/keys?a=1&A=2"), Err(NoTarget::Twice));
        for wrong in ["/%", "/%4", "/%zz", "/%ff", "/a%00b", "/k?a=%", "/k?%e9=1"] {
            assert_eq!(read(wrong), Err(NoTarget::Encoding), "{wrong}");
        }
        assert_eq!(read(&format!("/{}", "a".repeat(9000))), Err(NoTarget::Long));
        assert_eq!(read(&"/a".repeat(13)), Err(NoTarget::Long));
    }

    #[test]
    fn versions_of_the_protocol_are_known_by_their_form() {
        for right in ["7.0", "7.6-preview.2", "7.3-preview", "2016-10-01", "2025-07-01", "2026-03-01-preview"] {
            assert!(is_api_version(right), "{right}");
        }
        for wrong in ["", "7", "7.", "x", "7.4-beta", "7.4-previews", "2025-7-1", "2025-07-01-", "7.4.1", "-preview"] {
            assert!(!is_api_version(wrong), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_uri_is_read_or_refused(text in "/[!-~]{0,60}") {
            if let Ok(uri) = text.parse() {
                let _ = Target::read(&uri);
            }
        }
    }
}
