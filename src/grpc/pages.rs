//! Page sizes and page tokens (AIP-158).
//!
//! A token is opaque to clients: base64url without padding of
//!
//! ```text
//! 1 (version) | SHA-256( list | 0 | parent | 0 | show_deleted )[..16] | the last item of the page before
//! ```
//!
//! It gives no right, so nobody is kept from making one; but one of another list, parent or filter is
//! refused rather than answered with a page that was not asked for.

use base64ct::{Base64UrlUnpadded, Encoding as _};
use sha2::{Digest as _, Sha256};

use crate::service::{Page, Problem};

const VERSION: u8 = 1;
const BINDING_BYTES: usize = 16;
/// The size of a page that is asked for without one.
const PAGE_DEFAULT: u32 = 100;
/// The longest item is that of a use: a principal of 2048 bytes, and one in the name of its access policy.
const TOKEN_BYTES_MAX: usize = 6144;

/// What a page is a page of.
pub(crate) struct List<'a> {
    /// `vaults`, `keys`, `versions`, `publicKeys`, `secrets`, `secretVersions`, `assignments`, `permitted`, `roles`, `policies`,
    /// `auditRecords` or `auditUses`.
    pub(crate) kind: &'static str,
    /// The parent's name; empty where there is none.
    pub(crate) parent: &'a str,
    /// Whether deleted things are shown too.
    pub(crate) deleted: bool,
}

impl List<'_> {
    fn binding(&self) -> [u8; BINDING_BYTES] {
        let mut hash = Sha256::new();
        hash.update(self.kind);
        hash.update([0]);
        // Names of keys differ in case only for people.
        hash.update(self.parent.to_ascii_lowercase());
        hash.update([0, u8::from(self.deleted)]);
        let mut binding = [0; BINDING_BYTES];
        binding.copy_from_slice(&hash.finalize()[..BINDING_BYTES]);
        binding
    }

    /// The page that is asked for; `item` reads what a token of ours holds.
    pub(crate) fn page<T>(
        &self,
        size: i32,
        token: &str,
        item: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Page<T>, Problem> {
        self.page_of(PAGE_DEFAULT, size, token, item)
    }

    /// The same, where another size is meant by 0.
    pub(super) fn page_of<T>(
        &self,
        default: u32,
        size: i32,
        token: &str,
        item: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Page<T>, Problem> {
        let size = match size {
            0 => default,
            1..=1000 => size.unsigned_abs(),
            _ => {
                let why = format!("{size}; 0 ({default}) or 1 to 1000");
                return Err(Problem::Invalid { field: "page_size", why });
            }
        };
        let after = if token.is_empty() { None } else { Some(self.open(token, item).ok_or_else(refused)?) };
        Ok(Page { size, after, deleted: self.deleted })
    }

    fn open<T>(&self, token: &str, item: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let bytes = Base64UrlUnpadded::decode_vec(token).ok()?;
        let (version, rest) = bytes.split_first()?;
        let (binding, last) = rest.split_at_checked(BINDING_BYTES)?;
        if *version != VERSION || binding != self.binding() {
            return None;
        }
        item(std::str::from_utf8(last).ok()?)
    }

    /// The token of the page after one that ends with `last`; empty when there is none.
    pub(crate) fn next(&self, more: bool, last: Option<String>) -> String {
        match last {
            Some(last) if more => {
                Base64UrlUnpadded::encode_string(&[&[VERSION][..], &self.binding(), last.as_bytes()].concat())
            }
            _ => String::new(),
        }
    }
}

fn refused() -> Problem {
    let why = "is not a next_page_token of this list with this parent, filter and show_deleted; begin without one";
    Problem::Invalid { field: "page_token", why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: List<'_> = List { kind: "keys", parent: "vaults/dev", deleted: false };

    fn read(list: &List<'_>, token: &str) -> Option<String> {
        list.page(0, token, |last| Some(last.to_owned())).ok()?.after
    }

    #[test]
    fn a_token_opens_its_own_list_only() {
        let token = KEYS.next(true, Some("signing".to_owned()));
        assert_eq!(read(&KEYS, &token).as_deref(), Some("signing"));
        for other in
            [List { kind: "versions", ..KEYS }, List { parent: "vaults/other", ..KEYS }, List { deleted: true, ..KEYS }]
        {
            assert!(other.page(0, &token, |last| Some(last.to_owned())).is_err());
        }
    }

    #[test]
    fn the_last_page_has_no_token() {
        assert_eq!(KEYS.next(false, Some("signing".to_owned())), "");
        assert_eq!(KEYS.next(true, None), "");
    }

    #[test]
    fn rubbish_and_other_versions_are_refused() {
        let token = KEYS.next(true, Some("a".to_owned()));
        let newer = format!("Ag{}", &token[2..]);
        for token in ["x", "AQ", "****", &newer, &"A".repeat(10_000), &format!("{token}=")] {
            assert!(KEYS.page(0, token, |last| Some(last.to_owned())).is_err(), "{token}");
        }
        assert!(KEYS.page(0, &token, |_| None::<u64>).is_err());
    }

    #[test]
    fn sizes_have_bounds() {
        let size = |size| KEYS.page(size, "", |last| Some(last.to_owned())).map(|page| page.size);
        assert!(matches!((size(0), size(1), size(1000)), (Ok(100), Ok(1), Ok(1000))));
        assert!(size(-1).is_err() && size(1001).is_err() && size(i32::MIN).is_err());
    }
}
