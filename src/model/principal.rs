//! Who acts.

use std::{fmt, str::FromStr, sync::Arc};

use super::names::NameError;

/// Somebody who acts: the URI name of a client certificate (`spiffe://…`), or `x509:sha256:` and the
/// digest of a certificate without one. A group that principals are in is named like one. At most 2048 bytes
/// (SPIFFE ID, section 2.3).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Principal(Arc<str>);

impl Principal {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Principal {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        const RULE: &str = "a URI with a scheme and at most 2048 printable ASCII characters";
        let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
        let right = text.len() <= 2048
            && scheme.starts_with(|c: char| c.is_ascii_lowercase())
            && scheme.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b))
            && text.len() > scheme.len() + 1
            && text.bytes().all(|b| b.is_ascii_graphic());
        if right {
            Ok(Self(text.into()))
        } else {
            Err(NameError { what: "principal", rule: RULE, found: text.chars().take(200).collect() })
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_are_uris() {
        for good in ["spiffe://example.org/ci", "x509:sha256:00ff", "https://issuer.example/sub"] {
            assert!(good.parse::<Principal>().is_ok(), "{good}");
        }
        for bad in ["", "ci", "spiffe:", ":x", "spiffe://a b", "spiffe://a\n", "Spiffe://a"] {
            assert!(bad.parse::<Principal>().is_err(), "{bad}");
        }
    }
}
